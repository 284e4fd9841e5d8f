"""The whole way from footage to report: what is to be done, in which order, and what is done already.

Stages run one after another, the videos of a stage side by side. Nothing is remembered in memory: what is done is what lies on disk with
the right stamp, so the same call resumes after anything. A video that fails in one stage is left out of the following ones.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.jobs import Display, Done, Failure, Pool, Task
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.store import Artefact, write_json

STAGES = ("timeline", "labels", "track", "crop", "embed", "probe", "predict", "compare", "report")
"""All stages in the order in which they run: labels early, because a wrong row should show before the long work."""

_PER_VIDEO = {"timeline": "foveate.timeline", "track": "foveate.track", "crop": "foveate.crops"}


@dataclass
class Outcome:
    """What one run did."""

    done: list[Done] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)  # stage -> items that were done already
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, and why

    @property
    def ok(self) -> bool:
        return not self.failures


Show = Callable[[str, int], AbstractContextManager[Display]]
"""Called with the stage and its number of items; gives the display of that stage."""


class _Quiet:
    def update(self, item: str, done: int, total: int) -> None: ...
    def finished(self, item: str) -> None: ...


@contextmanager
def quiet(stage: str, items: int) -> Iterator[Display]:
    """A display that shows nothing."""
    yield _Quiet()


def run(
    project: Project,
    until: str = "report",
    videos: Sequence[str] = (),
    workers: int | None = None,
    show: Show = quiet,
) -> Outcome:
    """Run every stage up to ``until`` that is not done yet.

    Args:
        project: the project; its folder is locked while this runs.
        until: name of the last stage (see ``STAGES``).
        videos: restrict the per-video stages to these; empty for all.
        workers: processes; default one per core without a GPU, one with a GPU.
        show: display of progress.

    Returns:
        What was done, skipped and what failed. Failures of single videos do not raise.

    Raises:
        FoveateError: the project is in use by another process, or a video name is unknown.
    """
    if until not in STAGES:
        raise FoveateError(f"there is no stage {until!r}", remedy="stages: " + ", ".join(STAGES))
    chosen = [project.video(name) for name in videos] or list(project.videos)
    outcome = Outcome()
    failed: set[str] = set()
    annotated: set[str] = set()
    with _lock(project.folder), Pool(project.folder, workers or default_workers(len(chosen))) as pool:
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage == "labels" and until in ("track", "crop"):
                continue  # these do not need them
            usable = [video for video in chosen if video.name not in failed]
            tasks = []
            for task, artefact in _plan(project, stage, usable, annotated, outcome.notes):
                if isinstance(artefact, FoveateError):
                    outcome.failures.append(Failure(stage, task.item, artefact))
                    failed.add(task.item)
                elif artefact.complete():
                    outcome.skipped[stage] = outcome.skipped.get(stage, 0) + 1
                else:
                    tasks.append(task)
            if tasks:
                with show(stage, len(tasks)) as display:
                    for result in pool.run(tasks, display):
                        if isinstance(result, Failure):
                            outcome.failures.append(result)
                            failed.add(result.item)
                        else:
                            outcome.done.append(result)
            if stage == "labels":
                annotated = _annotated(project)
            _collect_problems(project, stage, outcome)
        _log(project, outcome)
    return outcome


def default_workers(items: int) -> int:
    """One process per core: two with one thread each beat one with two. With a GPU one process feeds it."""
    import importlib.util

    if importlib.util.find_spec("torch") and Path("/proc/driver/nvidia/version").exists():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, items))


def _plan(
    project: Project, stage: str, videos: Sequence[Video], annotated: set[str], notes: list[str]
) -> Iterator[tuple[Task, Artefact | FoveateError]]:
    """The items of one stage with the artefact each should leave."""
    if stage in _PER_VIDEO:
        for video in videos:
            yield _item(project, stage, _PER_VIDEO[stage], video)
    elif stage == "embed":
        for video in videos:
            yield _item(project, stage, "foveate.actions.embed", video, source="crop")
        if any(settings.source == "frame" for settings in project.config.probes.values()):
            for video in videos:
                if video.name in annotated:
                    yield _item(project, stage, "foveate.actions.embed", video, source="frame")
    elif stage == "labels":
        yield _item(project, stage, "foveate.annotations")
    elif not annotated:
        note = "no annotation was found, so there is no probe, no prediction and no comparison"
        if note not in notes:
            notes.append(note)
        if stage == "report":
            yield _item(project, stage, "foveate.report")
    elif stage == "probe":
        for name in project.config.probes:
            yield _item(project, stage, "foveate.actions.probe", name=name)
    elif stage == "predict":
        for video in videos:
            yield _item(project, stage, "foveate.actions.predict", video, name="default")
    elif stage == "compare":
        groups = {video.group for video in project.videos if video.group}
        if len(groups) >= 2 or project.config.compare.groups:
            yield _item(project, stage, "foveate.groups", name="default")
        else:
            notes.append("videos.csv names fewer than two groups, so nothing is compared")
    else:
        yield _item(project, stage, "foveate.report", name="default")


def _item(
    project: Project, stage: str, module: str, video: Video | None = None, **arguments: Any
) -> tuple[Task, Artefact | FoveateError]:
    named = {"video": video.name} if video else {}
    item = video.name if video else str(arguments.get("name", "all"))
    task = Task(stage, item, module, {**named, **arguments})
    given = {"video": video, **arguments} if video else arguments
    try:
        artefact = importlib.import_module(module).artefact(project, **given)
    except FoveateError as error:
        return task, error
    assert isinstance(artefact, Artefact)
    return task, artefact


def _annotated(project: Project) -> set[str]:
    """Names of the videos with annotations, as the labels on disk say; none when these are not up to date."""
    from foveate import annotations

    try:
        return set(annotations.load_labels(project).videos)
    except FoveateError:
        return set()  # the labels stage reports it


def _collect_problems(project: Project, stage: str, outcome: Outcome) -> None:
    """Problems that a stage could go on with are written into its facts; they are failures of the run all the same."""
    if stage == "track":
        from foveate.track.prompts import strangers

        outcome.failures += [Failure(stage, "prompts.csv", error) for error in strangers(project)]
    if stage not in ("labels", "probe", "compare"):
        return
    names = list(project.config.probes) if stage == "probe" else ["default"]
    modules = {"labels": "foveate.annotations", "probe": "foveate.actions.probe", "compare": "foveate.groups"}
    module = importlib.import_module(modules[stage])
    for name in names:
        try:
            artefact = module.artefact(project) if stage == "labels" else module.artefact(project, name=name)
        except FoveateError:
            continue
        if not artefact.complete():
            continue
        for problem in artefact.facts().get("problems", []):
            error = FoveateError(
                problem["problem"], file=problem.get("file"), row=problem.get("row"), remedy=problem.get("remedy")
            )
            outcome.failures.append(Failure(stage, name if stage != "labels" else "all", error))


@dataclass(frozen=True)
class VideoStatus:
    """How far one video is: stage -> done | partial | outdated | to do | cannot."""

    video: str
    stages: dict[str, str]
    problem: str = ""


def status(project: Project) -> tuple[list[VideoStatus], dict[str, str]]:
    """State of every video in every per-video stage, and of the stages that are made once.

    Reads of the footage no more than first and last MiB; writes nothing.
    """
    annotated = _annotated(project)
    rows: dict[str, dict[str, str]] = {video.name: {} for video in project.videos}
    problems: dict[str, str] = {}
    whole: dict[str, str] = {}
    for stage in STAGES:
        for task, artefact in _plan(project, stage, project.videos, annotated, []):
            if isinstance(artefact, FoveateError):
                state = "cannot"
                problems.setdefault(task.item, str(artefact))
            else:
                state = _state(artefact)
            if "video" in task.arguments:
                key = "embed (frame)" if task.arguments.get("source") == "frame" else stage
                rows[task.item][key] = state
            else:
                whole[stage if task.item in ("all", "default") else f"{stage} {task.item}"] = state
    return [VideoStatus(name, stages, problems.get(name, "")) for name, stages in rows.items()], whole


def _state(artefact: Artefact) -> str:
    if artefact.complete():
        return "done"
    if artefact.record() is not None:
        return "outdated"
    return "partial" if artefact.folder.exists() else "to do"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Two runs in one project would write the same files; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock, the renames are still atomic
        yield
        return
    try:
        handle = open(folder / ".foveate.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise FoveateError(
            f"the project folder cannot be written ({error.strerror})", file=folder, remedy="copy it to a writable place"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FoveateError(
                "another foveate is working in this project", file=folder, remedy="wait for it to end, or stop it"
            ) from None
        yield


def _log(project: Project, outcome: Outcome) -> None:
    """Times live here, outside the promise of identical bytes."""
    import datetime
    import platform

    write_json(
        project.folder / "logs" / "run.log.json",
        {
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seconds": {f"{d.stage} {d.item}": round(d.seconds, 3) for d in outcome.done},
            "skipped": outcome.skipped,
            "failures": [{"stage": f.stage, "item": f.item, "problem": str(f.error)} for f in outcome.failures],
            "notes": outcome.notes,
        },
    )
