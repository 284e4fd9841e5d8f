"""The page put together: sections, the sentence on top, the tiles, and the HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import Any

from markupsafe import Markup

from foveate.project import Project
from foveate.report import (
    absences,
    attention,
    backgrounds,
    checkpoints,
    comparison,
    ethograms,
    figures,
    methods,
    provenance,
    published,
    quality,
    scores,
    track_quality,
    tracks,
)
from foveate.report.sources import Notes, Problem, Sources
from foveate.track.overlay import TINTS


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    unit: str = ""


@dataclass
class Ethograms:
    """Rasters and budgets of all videos."""

    annotated: list[figures.Raster] = field(default_factory=list)
    unannotated: list[figures.Raster] = field(default_factory=list)
    budgets: dict[str, ethograms.Budget] = field(default_factory=dict)
    timed: list[ethograms.Timed] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """The page as text, what went wrong while it was made, and what is on it, for those who write it elsewhere."""

    text: str
    notes: Notes
    methods: list[str]
    timed: list[ethograms.Timed]
    budgets: list[ethograms.Budget]
    colours: dict[str, int]
    scored: scores.Main | None
    followed: list[tracks.Sheet]
    judged: quality.Quality
    evaluated: checkpoints.Shown | None


def build(project: Project, name: str, sources: Sources, progress: Callable[[int, int], None]) -> Page:
    """Read everything and fill in the page."""
    notes = Notes(project.folder)
    problems: dict[str, list[Problem]] = {"track": [], "probe": [], "predict": [], "compare": []}
    total = 2 * len(project.videos) + 1

    followed = tracks.tracked(project, sources, notes)
    pictured = tracks.choose(followed)
    by_name = {video.name: video for video in project.videos}
    for done, sheet in enumerate(pictured):
        found = notes.attempt(
            f"pictures of {sheet.video}", partial(tracks.add_pictures, project, by_name[sheet.video], sheet, sources)
        )
        if isinstance(found, Problem):
            sheet.problem = found
        progress(done + 1, total)
    judged = track_quality.judge(project, followed, sources, notes)
    problems["track"] = [p for p in notes.problems if p.where.startswith(("track of ", "doubtful "))]

    behaviours, truth = ethograms.load_truth(project, notes, sources)
    problems["predict"] = [p for p in notes.problems if p.where == "labels"]
    colours = {behaviour: i % figures.COLOURS for i, behaviour in enumerate(behaviours)}
    scored = scores.load(project, name, sources, notes, colours)
    more = quality.load(name, sources, notes, colours)
    paper = published.load(sources, notes, colours)
    problems["probe"] = [p for p in notes.problems if p.where.startswith("probe")]
    drawn = _ethograms(project, sources, notes, colours, truth, len(project.videos), total, progress)
    problems["predict"] += [p for p in notes.problems if p.where.startswith("predictions of ")]
    compared = comparison.load(project, name, sources, notes, colours, scored.main)
    problems["compare"] = [p for p in notes.problems if p.where == "comparison"]

    evaluated = checkpoints.load(sources, notes)
    problems["checkpoints"] = [p for p in notes.problems if p.where == "checkpoints"]
    looked = attention.load(project, sources, notes)
    looked_runs = attention.load_runs(sources, notes)
    leaning = backgrounds.load(sources, notes)
    problems["backgrounds"] = [p for p in notes.problems if p.where == "backgrounds"]
    problems["attend"] = [p for p in notes.problems if p.where == "attention"]

    said = methods.paragraphs(project, name, sources, followed, scored.main, more, compared)
    source = provenance.provenance(project, sources, notes)
    context: dict[str, Any] = {
        "name": project.config.name,
        "outcome": outcome(project, followed, scored.main, compared),
        "tiles": tiles(project, sources, followed, scored.main, compared),
        "problems": problems,
        "sheets": pictured,
        "strips": [s for s in followed if s not in pictured],
        "judged": judged,
        "signs": [
            (sign, words)
            for sign, words in absences.KEY.items()
            if any(mark.sign == sign for sheet in followed for f in sheet.followed for mark in f.marks)
        ],
        "squares": any(sources.has("crop", s.video) for s in pictured),
        "tracks_text": _tracks_text(followed, pictured),
        "scores": scored.main,
        "others": scored.others,
        "others_folds": scored.others_folds,
        "scores_absent": scored.absent,
        "quality": more,
        "published": paper,
        "annotated": drawn.annotated,
        "unannotated": drawn.unannotated,
        "ethograms_text": _ethograms_text(drawn),
        "ethograms_absent": "There are neither annotations nor predictions, so there is no ethogram.",
        "budgets": list(drawn.budgets.values()),
        "budgets_text": _BUDGETS,
        "budgets_absent": "There are no predictions, so there is no time budget.",
        "colours": {
            b: colour for b, colour in colours.items() if any(b in budget.seconds for budget in drawn.budgets.values())
        },
        "any_group": any(video.group for video in project.videos),
        "pretraining": evaluated,
        "attention": looked.shown,
        "attention_runs": looked_runs,
        "backgrounds": leaning,
        "attention_absent": looked.absent,
        "comparison": compared.shown,
        "comparison_absent": compared.absent,
        "limits": limits(project, scored.main, compared, drawn) + looked.limits,
        "methods": said,
        "provenance": source,
    }
    progress(total, total)
    budgets = list(drawn.budgets.values())
    return Page(render(context), notes, said, drawn.timed, budgets, colours, scored.main, followed, more, evaluated)


def _ethograms(
    project: Project,
    sources: Sources,
    notes: Notes,
    colours: dict[str, int],
    truth: dict[tuple[str, str], ethograms.Truth],
    done: int,
    total: int,
    progress: Callable[[int, int], None],
) -> Ethograms:
    drawn = Ethograms()
    for place, video in enumerate(project.videos):
        predicted: dict[str, ethograms.Predicted] = {}
        if sources.has("predict", video.name):
            found = notes.attempt(f"predictions of {video.name}", partial(ethograms.load_predicted, video, sources))
            if not isinstance(found, Problem):
                predicted = found
        annotated = [subject for name, subject in truth if name == video.name]
        for subject in dict.fromkeys([*annotated, *predicted]):
            known, guess = truth.get((video.name, subject)), predicted.get(subject)
            duration = guess.duration if guess else _duration(video.name, sources, known)
            raster = ethograms.raster(video, subject, colours, known, guess, duration)
            (drawn.unannotated if known is None else drawn.annotated).append(raster)
            known_bouts = None if known is None else known.present
            shown = (guess.bouts, guess.unseen) if guess else ({}, [])
            drawn.timed.append(ethograms.Timed(video.name, subject, duration, known_bouts, *shown))
            if guess is not None:
                ethograms.add_to_budget(drawn.budgets, video, subject, guess)
        progress(done + place + 1, total)
    return drawn


def _duration(video: str, sources: Sources, truth: ethograms.Truth | None) -> float:
    """Of the video; where it could not be read, until the last annotation."""
    if sources.has("timeline", video):
        return float(sources.get("timeline", video).facts()["duration"])
    stops = [stop for part in ((truth.present, truth.observed) if truth else ()) for i in part.values() for _, stop in i]
    return max(stops, default=0.0)


def outcome(project: Project, followed: list[tracks.Sheet], scored: scores.Main | None, compared: comparison.Comparison) -> str:
    """The result in a few sentences, from the numbers."""
    animals = len({f.subject for sheet in followed for f in sheet.followed})
    seconds = sum(sheet.duration for sheet in followed)
    of = "" if len(followed) == len(project.videos) else f" of {len(project.videos)}"
    text = (
        f"{animals} {'animal was' if animals == 1 else 'animals were'} followed through {len(followed)}{of} "
        f"{'video' if len(project.videos) == 1 else 'videos'} ({figures.span(seconds)})."
        if followed
        else "No video has been followed yet."
    )
    for sentence in (scored.sentence if scored else "", compared.sentence):
        text += f" {sentence}" if sentence else ""
    return text


def _animals(project: Project, sources: Sources) -> int:
    """Those of videos that can be read, or of all where none has been read yet."""
    read = [video for video in project.videos if sources.has("timeline", video.name)]
    return len({subject for video in read or project.videos for subject in video.subjects})


def tiles(
    project: Project,
    sources: Sources,
    followed: list[tracks.Sheet],
    scored: scores.Main | None,
    compared: comparison.Comparison,
) -> list[Tile]:
    """Key numbers; a number that does not exist has no tile."""
    animals = _animals(project, sources)
    out = [
        Tile("videos" if len(project.videos) != 1 else "video", str(len(project.videos))),
        Tile("animals" if animals != 1 else "animal", str(animals)),
    ]
    rows = [f for sheet in followed for f in sheet.followed]
    seconds = sum(sheet.duration for sheet in followed)
    if rows:
        value, unit = figures.span(seconds).split(" ")
        frames = sum(max((f.frames for f in sheet.followed), default=0) for sheet in followed)
        seen, of = sum(sheet.seen for sheet in followed), sum(sheet.frames for sheet in followed)
        out += [
            Tile("of video analysed", value, unit),
            Tile("frames analysed", f"{frames:,}".replace(",", "\u202f")),
            Tile("of frames with a tracked animal", percent(seen / of)),
        ]
    if scored is not None:
        out += [
            Tile(f"macro F1, {side.title.lower()}", f"{side.macro.f1:.2f}")
            for side in scored.sides
            if side.macro.f1 is not None
        ]
    if compared.shown is not None:
        shown = compared.shown
        out.append(Tile("behaviours that differ between groups", str(shown.significant), f"of {shown.tested}"))
    return out


def _tracks_text(followed: list[tracks.Sheet], pictured: list[tracks.Sheet]) -> str:
    if not followed:
        return ""
    seen = sum(sheet.seen for sheet in followed) / max(1, sum(sheet.frames for sheet in followed))
    below = sum(sheet.share_seen < 0.9 for sheet in followed)
    text = (
        f"Over all videos the tracker saw the animal in {percent(seen)} of the analysed frames"
        + (f"; in {below} of {len(followed)} videos in fewer than 90 %." if below else "; in every video in at least 90 %.")
        + " The outline is what the tracker took for the animal. Look at it: a behaviour can only be recognised where it is right."
    )
    if len(pictured) < len(followed):
        text += (
            f" Pictures are given of {len(pictured)} of {len(followed)} videos: half of them those in which the animal was seen least, "
            "half spread over the rest."
        )
    return text


def _ethograms_text(drawn: Ethograms) -> str:
    text = "Time runs from left to right, one row per behaviour; behaviours may happen together."
    if drawn.annotated and any(r.probe for r in drawn.annotated):
        text += (
            " Where a video was used for training, its prediction comes from a probe of the cross-validation that was trained without it, "
            "so that every row shows how well behaviours are recognised in footage the probe never saw."
        )
    return text


_BUDGETS = (
    "Time in a behaviour as share of the time in which the animal was seen, over all videos of an animal, from predicted bouts. "
    "Behaviours may happen together, so a row need not add up to 100 %."
)


def limits(project: Project, scored: scores.Main | None, compared: comparison.Comparison, drawn: Ethograms) -> list[str]:
    """What the numbers above cannot say, as far as it follows from this study's numbers."""
    out = []
    if scored is not None:
        out += scored.limits
    if compared.shown is not None:
        out += compared.shown.limits
    unseen = [r for r in (*drawn.annotated, *drawn.unannotated) if r.unseen_share > 0.2]
    if unseen:
        out.append(
            f"In {len(unseen)} of {len(drawn.annotated) + len(drawn.unannotated)} recordings the animal was not seen for more than a fifth "
            "of the time. Budgets are shares of the time seen; if animals hide while doing something in particular, that is missing."
        )
    out.append(
        "The analysed frames are a sample of the video "
        + (
            f"(one every {project.config.analyse.step:g} s)"
            if project.config.analyse.step
            else f"(one in {project.config.analyse.every})"
        )
        + "; behaviours shorter than that can be missed."
    )
    return out


def percent(share: float) -> str:
    """``97 %``; never rounded to 100 % or 0 % when it is not."""
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return f"{int(share * 1000) / 10:.1f} %"
    return f"{share * 100:.0f} %"


def signed(value: float) -> str:
    """A difference with its sign: ``+0.08``, ``−0.13``, ``0.00``."""
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def render(context: dict[str, Any]) -> str:
    """Fill the template. Everything that is not markup of the template is escaped."""
    import jinja2

    folder = resources.files("foveate.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "percent": percent,
        "span": figures.span,
        "interval": scores.interval,
        "count": lambda value: "–" if value is None else f"{value:,}".replace(",", "\u202f"),
        "fixed": lambda value, digits: f"{value:.{digits}f}",
        "signed": signed,
        "clock": figures.clock,
        "breakable": lambda name: Markup("_<wbr>").join(str(name).split("_")),
        "tint": lambda place: "rgb({} {} {})".format(*TINTS[place % len(TINTS)]),
    }
    template = environment.from_string((folder / "template.html.j2").read_text(encoding="utf-8"))
    inline = {
        key: Markup((folder / file).read_text(encoding="utf-8"))
        for key, file in (("style", "style.css"), ("script", "page.js"))
    }
    return template.render(**context, **inline)
