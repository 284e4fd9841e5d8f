"""What a paper's methods section has to say of this study, with its numbers: text that a user may take over."""

from __future__ import annotations

from collections import Counter

from foveate import __version__
from foveate.actions.probe import settings_of
from foveate.project import Project
from foveate.report import comparison, figures, quality, scores, tracks
from foveate.report.sources import Sources
from foveate.track.propagate import glances

_FEATURES = {
    "cls": "the CLS token",
    "patch": "the mean of the patch tokens",
    "subject": "the mean of the patch tokens that lie on the animal (weighted by its mask)",
}


def paragraphs(
    project: Project,
    name: str,
    sources: Sources,
    followed: list[tracks.Sheet],
    scored: scores.Main | None,
    more: quality.Quality,
    compared: comparison.Comparison,
) -> list[str]:
    """Footage and tracking; recognition; comparison: those of the three that this study has, in whole sentences."""
    out = [_footage(project, sources, followed)] if followed else []
    if followed and scored is not None:
        out.append(_recognition(project, name, sources, scored, more))
    if compared.shown is not None and scored is not None:
        out.append(_comparison(project, compared.shown))
    return out


def _footage(project: Project, sources: Sources, followed: list[tracks.Sheet]) -> str:
    facts = [sources.get("timeline", sheet.video).facts() for sheet in followed if sources.has("timeline", sheet.video)]
    sizes = Counter(f"{f['width']} × {f['height']} pixels" for f in facts)
    rates = sorted({round(f["frames"] / f["duration"], 1) for f in facts if f["duration"]})
    rate = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}" if rates else "–"
    animals = len({f.subject for sheet in followed for f in sheet.followed})
    frames = sum(max((f.frames for f in sheet.followed), default=0) for sheet in followed)
    seen, of = sum(sheet.seen for sheet in followed), sum(sheet.frames for sheet in followed)
    views = f", each with {len(project.config.views)} camera views," if len(project.config.views) > 1 else ""
    step = project.config.analyse.step
    which = f"One frame every {step:g} s was analysed" if step else f"One in {project.config.analyse.every} frames was analysed"
    size = " or ".join(text for text, _ in sizes.most_common(2)) + (" and other sizes" if len(sizes) > 2 else "")
    return (
        f"{_count(len(followed), 'video')}{views} of {_count(animals, 'animal')} "
        f"({figures.span(sum(s.duration for s in followed))} in all; {size}, {rate} frames per second) were analysed with foveate "
        f"{__version__}. "
        f"{which} ({frames} frames). {_tracking(project, followed)} The animal was seen in {100 * seen / max(1, of):.1f} % of the analysed "
        f"frames{' in at least one view' if views else ''}."
    )


def _tracking(project: Project, followed: list[tracks.Sheet]) -> str:
    """Who followed the animals, in how many videos: the tracker, and the programs that tracks were imported from."""
    imported = Counter(sheet.how.removeprefix(tracks.IMPORTED) for sheet in followed if sheet.how.startswith(tracks.IMPORTED))
    own = [sheet for sheet in followed if not sheet.how.startswith(tracks.IMPORTED)]
    sentences = [_own_tracking(project, own)] if own or not imported else []
    for source, count in imported.most_common():
        program, _, content = source.strip().partition(" (")
        what = " and ".join(_IMPORTED[kind] for kind in content.rstrip(")").split(" and ") if kind in _IMPORTED)
        sentences.append(f"The tracks of {_count(count, 'video')} were made with {program} and imported ({what}).")
    return " ".join(sentences)


_IMPORTED = {
    "boxes": "boxes, taken as the ellipses that they enclose",
    "masks": "masks",
    "points": "boxes around the body points, widened by a fifth, taken as the ellipses that they enclose",
}


def _own_tracking(project: Project, followed: list[tracks.Sheet]) -> str:
    track = project.config.track
    how = Counter(sheet.how for sheet in followed)
    words = {text: text.removeprefix(track.method).strip() or "by itself" for text in how}
    start = "; ".join(f"started {words[text]} in {_count(n, 'video')}" for text, n in how.most_common())
    if track.method == "motion":
        return "Animals were found as what moves before a fixed camera."
    if track.method == "sam2":
        said = "four random pixels of the mask and its box" if track.overlap == "points_and_box" else "the box of the mask"
        memory = (
            "one memory from the first prompt to the end"
            if track.mode == "streaming"
            else f"chunks of 500 analysed frames and five more, in which {said}, padded by a tenth of its sides, prompt the next chunk"
        )
        size = f", shown at {track.image_size} × {track.image_size} pixels" if track.image_size else ""
        return f"Each animal was followed by the video model of SAM 2 ({track.model}{size}; {memory}; {start})."
    return (
        f"Each animal was followed by label propagation over the patch tokens of a vision transformer ({track.model}, short side "
        f"{track.short_side} pixels, the first and {track.context} recent frames, radius {track.radius} patches, the {track.topk} nearest "
        f"tokens, temperature {track.temperature:g}; {start})."
    )


def _recognition(project: Project, name: str, sources: Sources, scored: scores.Main, more: quality.Quality) -> str:
    settings, embed, crop = settings_of(project, name), project.config.embed, project.config.crop
    facts = sources.get("probe", name).facts()
    looked = (
        "The whole view was"
        if settings.source in ("frame", "track")
        else f"A square around the animal's mask (its box and {100 * crop.pad:g} % on each side, stored at {crop.size} pixels) was"
        if crop.mode == "square"
        else "The rectangle around the animal's mask, padded by a tenth of its sides, was"
    )
    shown, model = f"resized to {embed.image_size} × {embed.image_size} pixels", embed.model
    if settings.source == "track":
        shown = f"resized to {project.config.track.short_side} pixels on its short side, as the tracker sees it,"
        model = glances.model_name(project)
    layers = {"last": "last", "third_last": "third-last"}
    layer = f"the {layers[settings.layer]} block" if settings.layer in layers else "the last and the third-last block"
    length = _seconds(project, settings.window)
    window = "single frames" if settings.window == 1 else f"windows of {settings.window} analysed frames{length}"
    groups = "animals" if settings.group == "subject" else "videos"
    rows = f"{_count(facts['train_videos'], 'annotated training video')} of {facts['groups']} {groups} that are independent of each other"
    text = (
        f"{looked} {shown} and described by a frozen vision transformer ({model}): "
        f"{_FEATURES[settings.feature]} of {layer}. On {window}, one logistic regression with an L2 penalty per behaviour "
        f"({', '.join(scored.behaviours)}) was trained on {rows}. "
    )
    if settings.recipe == "adapters":
        adapt, found = settings.adapt, facts["adapters"]
        text = (
            f"{looked} resized to {adapt.image_size} × {adapt.image_size} pixels. On {window}, adapters ({found['trained']:,} weights) "
            f"in the blocks of a frozen vision transformer ({model}) from the {adapt.first + 1}th on, and a linear layer with one output "
            f"per behaviour ({', '.join(scored.behaviours)}), were trained on {rows}. "
        )
    chosen = "Penalties and decision thresholds were chosen by cross-validation inside the training part, per behaviour"
    if settings.recipe == "adapters":
        chosen = "Decision thresholds were chosen per behaviour, for each fold on out-of-fold predictions of the others"
    text += chosen + f", with all videos of an animal on the same side. {_smoothing(more)}{scored.sentence} "
    side = scored.sides[0] if scored.sides else None
    if side is not None:
        each = [
            f"{line.behaviour} {line.cell.f1:.2f}" + (f" ({scores.interval(line.cell)})" if scores.interval(line.cell) else "")
            for line in side.lines
            if line.cell.f1 is not None
        ]
        text += f"F1 per behaviour ({side.title.lower()}): {', '.join(each)}."
    return text


def _smoothing(more: quality.Quality) -> str:
    used = [
        f"{line.behaviour}: {line.smoothing}" for line in more.bouts if line.colour is not None and line.smoothing != "none"
    ]
    if not used:
        return ""
    return (
        f"Decisions were smoothed in time where that raised the mean of the F1 of frames and of bouts on the same folds "
        f"({'; '.join(used)}). "
    )


def _comparison(project: Project, shown: comparison.Shown) -> str:
    which = (
        "Only videos that nobody had annotated were compared."
        if project.config.compare.videos == "unannotated"
        else "Annotated videos entered with out-of-fold predictions."
    )
    return (
        "For every animal the share of the time in which it was seen that was predicted as each behaviour was taken over all its videos; "
        f"the animal is the unit. {which} {shown.caption} {' '.join(shown.sentences)}"
    )


def _seconds(project: Project, window: int) -> str:
    step = project.config.analyse.step
    return f" ({window * step:g} s)" if step else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
