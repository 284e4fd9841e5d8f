"""The whole way from footage to report: what is to be done, in which order, and what is done already.

Stages run one after another, the videos of a stage side by side. Nothing is remembered in memory: what is done is what lies on disk with
the right stamp, so the same call resumes after anything. A video that fails in one stage is left out of the following ones.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from foveate.jobs import Display, Done, Failure, Pool, Task
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG, ProbeSettings
from foveate.store import Artefact, changes, snapshot, write_json

STAGES = ("timeline", "labels", "track", "crop", "embed", "probe", "predict", "compare", "attend", "report")
"""All stages in the order in which they run: labels early, because a wrong row should show before the long work."""

PER_VIDEO = frozenset({"timeline", "track", "crop", "embed", "predict"})
"""Stages with one artefact per video."""

_NOT_NEEDED = {
    "track": ("labels",),
    "crop": ("labels",),
    "attend": ("labels", "embed", "probe", "predict", "compare"),
}
"""Earlier stages that a stage can do without, when it is the last one asked for."""

WAITS = "run `foveate run`"
"""The remedy of what only waits for an earlier stage."""

_PLAIN = {"timeline": "foveate.timeline", "track": "foveate.track", "crop": "foveate.crops"}


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


class StageDisplay(Display, Protocol):
    """A display that also hears of the items that did not work out."""

    def failed(self, item: str) -> None: ...


Show = Callable[[str, int], AbstractContextManager[StageDisplay]]
"""Called with the stage and its number of items; gives the display of that stage."""


class _Quiet:
    def update(self, item: str, done: int, total: int) -> None: ...
    def finished(self, item: str) -> None: ...
    def failed(self, item: str) -> None: ...


@contextmanager
def quiet(stage: str, items: int) -> Iterator[StageDisplay]:
    """A display that shows nothing."""
    yield _Quiet()


def run(
    project: Project,
    until: str = "report",
    videos: Sequence[str] = (),
    workers: int | None = None,
    show: Show = quiet,
    probe: str = "",
    attend: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run every stage up to ``until`` that is not done yet.

    Args:
        project: the project; its folder is locked while this runs.
        until: name of the last stage (see ``STAGES``).
        videos: restrict the per-video stages to these; empty for all.
        workers: processes; default one per core without a GPU, one with a GPU.
        show: display of progress.
        probe: train this probe alone (foveate.yaml's, ``paper``, ``adapted``), and predict and compare by it; empty: all, ``default``.
        attend: arguments of ``attention.run`` for a look of its own instead of the project's; only with ``until="attend"``.

    Returns:
        What was done, skipped and what failed. Failures of single videos do not raise.

    Raises:
        FoveateError: the project is in use by another process, a video name is unknown, or no footage at all is there.
    """
    if until not in STAGES:
        raise FoveateError(f"there is no stage {until!r}", remedy="stages: " + ", ".join(STAGES))
    chosen = [project.video(name) for name in videos] or list(project.videos)
    if project.videos and not any(video.path.exists() for video in project.videos):
        # Going on would replace a finished report with one that says that nothing was followed.
        raise FoveateError(
            f"none of the {len(project.videos)} videos can be found, for example {project.videos[0].path}; nothing was changed",
            file=project.folder / CONFIG,
            remedy="connect the drive with the footage, or correct `footage`",
        )
    from foveate.annotations import annotation_files

    outcome = Outcome()
    failed: set[str] = set()
    annotated: set[str] = set()
    expected: dict[tuple[str, str], list[str]] = {}  # (stage, item) -> stamps of what it should leave
    probes = _probes(project, probe)
    with locked(project.folder), Pool(project.folder, workers or default_workers(len(chosen))) as pool, snapshot():
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage in _NOT_NEEDED.get(until, ()):
                continue
            if stage == "labels" and until in ("embed", "report") and not annotation_files(project):
                continue  # a study that nobody has annotated yet has nothing wrong with it
            usable = [video for video in chosen if video.name not in failed]
            tasks = []
            for task, artefact in _plan(project, stage, usable, annotated, outcome.notes, probes, attend, probe or "default"):
                stamps = expected.setdefault((stage, task.item), [])
                if isinstance(artefact, FoveateError):
                    outcome.failures.append(Failure(stage, task.item, artefact))
                    failed.add(task.item)
                    continue
                stamps.append(artefact.stamp)
                if artefact.complete():
                    outcome.skipped[stage] = outcome.skipped.get(stage, 0) + 1
                else:
                    tasks.append(task)
            if tasks:
                with changes(), show(stage, len(tasks)) as display:
                    for result in pool.run(tasks, display):
                        if isinstance(result, Failure):
                            outcome.failures.append(result)
                            failed.add(result.item)
                            display.failed(result.item)
                        else:
                            outcome.done.append(result)
            if stage == "labels":
                annotated = _annotated(project)
            _collect_problems(project, stage, outcome, tuple(probes), probe or "default")
        _log(project, outcome, expected)
    return outcome


def default_workers(items: int) -> int:
    """One process per core: two with one thread each beat one with two. With a GPU one process feeds it."""
    import importlib.util

    if importlib.util.find_spec("torch") and Path("/proc/driver/nvidia/version").exists():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, items))


def _probes(project: Project, name: str = "") -> dict[str, ProbeSettings]:
    """The probes to train: that of the name, or all of foveate.yaml."""
    if not name:
        return project.config.probes
    from foveate.actions.probe import settings_of

    return {name: settings_of(project, name)}


def _plan(
    project: Project,
    stage: str,
    videos: Sequence[Video],
    annotated: set[str],
    notes: list[str],
    probes: Mapping[str, ProbeSettings],
    attend: Mapping[str, Any] | None = None,
    named: str = "default",
) -> Iterator[tuple[Task, Artefact | FoveateError]]:
    """The items of one stage with the artefact each should leave; the probe ``named`` predicts and compares."""
    if stage in _PLAIN:
        for video in videos:
            yield _item(project, stage, _PLAIN[stage], video)
    elif stage == "embed":
        predicted = project.config.probe.source  # what all videos need; the other sources only those that probes learn from
        for video in videos:
            yield _item(project, stage, "foveate.actions.embed", video, source=predicted)
        labelled = [video for video in videos if video.name in annotated]
        for source in sorted({settings.source for settings in probes.values()} - {predicted}):
            yield from (_item(project, stage, "foveate.actions.embed", video, source=source) for video in labelled)
        for module, probe in _shown_otherwise(probes):
            yield from (_item(project, stage, module, video, name=probe) for video in labelled)
    elif stage == "labels":
        yield _item(project, stage, "foveate.annotations")
    elif stage == "attend":
        if videos:
            yield _item(project, stage, "foveate.attention", **(attend or {}))
    elif not annotated:
        note = (
            "no annotation was found, so there is no probe, no prediction and no comparison; put files of BORIS, of another annotation "
            f"program, or CSV files into annotations/ (or correct annotations.files in {CONFIG})"
        )
        if note not in notes:
            notes.append(note)
        if stage == "report":
            yield _item(project, stage, "foveate.report")
    elif stage == "probe":
        for name in probes:
            yield _item(project, stage, "foveate.actions.probe", name=name)
    elif stage == "predict":
        for video in videos:
            yield _item(project, stage, "foveate.actions.predict", video, name=named)
    elif stage == "compare":
        groups = {video.group for video in project.videos if video.group}
        if len(groups) >= 2 or project.config.compare.groups:
            yield _item(project, stage, "foveate.groups", name=named)
        else:
            notes.append("videos.csv names fewer than two groups, so nothing is compared")
    else:
        yield _item(project, stage, "foveate.report", name="default")


def _shown_otherwise(probes: Mapping[str, ProbeSettings]) -> list[tuple[str, str]]:
    """What makes changed pictures' vectors, or stored tokens, and a probe that needs them; one for every set."""
    needed: dict[tuple[object, ...], tuple[str, str]] = {}
    for name, settings in probes.items():
        if settings.recipe == "adapters":
            needed[name,] = "foveate.actions.tokens", name
        elif settings.recipe == "paper" and settings.augment != "none":
            of = settings.copies if settings.augment == "cached" else settings.window
            needed.setdefault((settings.source, settings.augment, of), ("foveate.actions.copies", name))
    return list(needed.values())


def _item(
    project: Project, stage: str, module: str, video: Video | None = None, **arguments: Any
) -> tuple[Task, Artefact | FoveateError]:
    item = video.name if video else str(arguments.get("name", "all"))
    task = Task(stage, item, module, {"video": video.name, **arguments} if video else arguments)
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
        labels = annotations.artefact(project)
        return set(labels.facts()["videos"]) if labels.complete() else set()
    except FoveateError:
        return set()  # the labels stage reports it


def _to_be_annotated(project: Project) -> set[str]:
    """Where annotations wait to be read: the videos that had some before, or the name of none; so ``status`` shows what will follow."""
    from foveate import annotations

    try:
        labels = annotations.artefact(project)
    except FoveateError:
        return set()
    if labels.complete() or not annotations.annotation_files(project):
        return set()
    return set(labels.facts().get("videos", ())) or {""}


def _collect_problems(project: Project, stage: str, outcome: Outcome, probes: Sequence[str], named: str) -> None:
    """Problems that a stage could go on with are written into its facts; they are failures of the run all the same."""
    if stage == "track":
        from foveate.track import prompts
        from foveate.track.external import imports

        outcome.failures += [Failure(stage, "prompts.csv", error) for error in prompts.strangers(project)]
        outcome.failures += [Failure(stage, "imports.csv", error) for error in imports.strangers(project)]
    if stage not in ("labels", "probe", "compare"):
        return
    names = probes if stage == "probe" else [named]
    modules = {"labels": "foveate.annotations", "probe": "foveate.actions.probe", "compare": "foveate.groups"}
    module = importlib.import_module(modules[stage])
    for name in names:
        try:
            artefact = module.artefact(project) if stage == "labels" else module.artefact(project, name=name)
        except FoveateError:
            continue
        if artefact.complete():
            item = name if stage != "labels" else "all"
            outcome.failures += [Failure(stage, item, error) for error in _left_out(artefact)]


def _left_out(artefact: Artefact) -> list[FoveateError]:
    """The problems that a finished stage went on with."""
    return [_error(problem) for problem in artefact.facts().get("problems", [])]


def _error(values: Mapping[str, Any]) -> FoveateError:
    return FoveateError(values["problem"], file=values.get("file"), row=values.get("row"), remedy=values.get("remedy"))


@dataclass(frozen=True)
class Status:
    """How far a project is.

    A state is ``done``, ``failed`` (the last run tried it with the same inputs), ``cannot`` (the inputs are wrong), ``partial``,
    ``outdated`` or ``to do``.
    """

    videos: dict[str, dict[str, str]]  # video -> stage -> state
    whole: dict[str, str]  # stage that is made once -> state
    problems: list[Failure]  # what stands in the way, and what finished stages left out; each message once per item

    def of_video(self, name: str) -> list[FoveateError]:
        return [p.error for p in self.problems if p.stage in PER_VIDEO and p.item == name]

    def of_whole(self, name: str) -> list[FoveateError]:
        """The problems of a stage that is made once, by its name in ``whole``."""
        return [p.error for p in self.problems if p.stage not in PER_VIDEO and _whole_key(p.stage, p.item) == name]


@snapshot()
def status(project: Project) -> Status:
    """State of every video in every per-video stage, and of the stages that are made once.

    Reads of the footage no more than first and last MiB; writes nothing.
    """
    annotated = _annotated(project) or _to_be_annotated(project)
    logged = _logged(project)
    found = Status({video.name: {} for video in project.videos}, {}, [])
    for stage in STAGES:
        for task, artefact in _plan(project, stage, project.videos, annotated, [], project.config.probes):
            errors: list[FoveateError] = []
            if isinstance(artefact, FoveateError):
                waits = artefact.remedy == WAITS  # for an earlier stage: nothing that anybody has to correct
                state, errors = ("to do", []) if waits else ("cannot", [artefact])
            elif artefact.complete():
                state, errors = "done", _left_out(artefact)
            elif error := logged.get((stage, task.item, artefact.stamp)):
                state, errors = "failed", [error]
            else:
                state = _state(artefact)
            if "video" in task.arguments:
                beside = task.arguments.get("name" if task.module == "foveate.actions.copies" else "source")
                key = f"embed ({beside})" if beside not in (None, project.config.probe.source) else stage
                found.videos[task.item][key] = state
            else:
                found.whole[_whole_key(stage, task.item)] = state
            found.problems.extend(Failure(stage, task.item, error) for error in errors)
    once: dict[tuple[str, str, str], Failure] = {}
    for problem in found.problems:  # what keeps a video from one stage keeps it from the following ones
        stage = "" if problem.stage in PER_VIDEO else problem.stage
        once.setdefault((stage, problem.item, str(problem.error)), problem)
    return Status(found.videos, found.whole, list(once.values()))


def _whole_key(stage: str, item: str) -> str:
    return stage if item in ("all", "default") else f"{stage} {item}"


def _state(artefact: Artefact) -> str:
    if artefact.record() is not None:
        return "outdated"
    return "partial" if artefact.folder.exists() else "to do"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
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


_LOG = ("logs", "run.log.json")


def _log(project: Project, outcome: Outcome, expected: Mapping[tuple[str, str], list[str]]) -> None:
    """Times live here, outside the promise of identical bytes.

    Failures carry the stamps that were expected, so that ``status`` can tell whether they still hold. Those of earlier runs stay for what
    this run did not come to.
    """
    import datetime
    import platform

    path = project.stage_folder(*_LOG)
    failures = [{**plain(f), "stamps": expected.get((f.stage, f.item), [])} for f in outcome.failures]
    earlier = [entry for entry in _entries(path) if (entry["stage"], entry["item"]) not in expected and entry["stamps"]]
    write_json(
        path,
        {
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seconds": {f"{d.stage} {d.item}": round(d.seconds, 3) for d in outcome.done},
            "skipped": outcome.skipped,
            "failures": failures,
            "earlier": earlier,
            "notes": outcome.notes,
        },
    )


def plain(failure: Failure) -> dict[str, Any]:
    """A failure as JSON can hold it."""
    error = failure.error
    file = None if error.file is None else str(error.file)
    where = {"stage": failure.stage, "item": failure.item}
    return {**where, "problem": error.problem, "file": file, "row": error.row, "remedy": error.remedy}


def _entries(path: Path) -> list[dict[str, Any]]:
    """Failures in the log, older ones first; none when it cannot be read, or was written by a version that kept no stamps."""
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
        entries = [*log.get("earlier", []), *log["failures"]]
        return [entry for entry in entries if {"stage", "item", "stamps", "problem"} <= entry.keys()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _logged(project: Project) -> dict[tuple[str, str, str], FoveateError]:
    """(stage, item, expected stamp) -> what went wrong with it in the last run that came to it."""
    entries = _entries(project.stage_folder(*_LOG))
    return {(entry["stage"], entry["item"], stamp): _error(entry) for entry in entries for stamp in entry["stamps"]}
