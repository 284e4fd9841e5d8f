"""What the page is made from: the artefacts of all earlier stages, and what is wrong with them.

A missing or damaged artefact never stops the page: the section that needed it says so. What is *missing* when the page is made enters its
stamp (``MISSING`` in the place of the parent's stamp), so that the page is made again once it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeGuard, TypeVar

from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.store import Artefact

MISSING = "missing"
WINDOWS = "*windows"
"""After a probe's name: what it gave with windows of other widths."""

Found = Artefact | FoveateError
"""An artefact as it should be, or why it cannot be named (a file that does not exist, a wrong setting)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sources:
    """The parents of the page: per stage what there is of it, by video, probe or (for what exists once) the empty name."""

    stages: Mapping[str, Mapping[str, Found]]
    probe: str = "default"  # whose predictions are shown

    def parents(self) -> dict[str, str]:
        """``stage/item`` to stamp, or ``MISSING``."""
        return {
            f"{stage}/{item}" if item else stage: found.stamp if usable(found) else MISSING
            for stage, items in self.stages.items()
            for item, found in items.items()
        }

    def get(self, stage: str, item: str = "") -> Artefact:
        """The finished artefact.

        Raises:
            FoveateError: it cannot be made, or is not finished.
        """
        found = self.stages[stage][item]
        if isinstance(found, FoveateError):
            raise found
        if not found.complete():
            outdated = found.record() is not None
            raise FoveateError(
                "made from other inputs or settings than the present ones" if outdated else "not made yet, or not finished",
                file=found.folder,
                remedy="run `foveate run`",
            )
        return found

    def has(self, stage: str, item: str = "") -> bool:
        return item in self.stages.get(stage, {}) and usable(self.stages[stage][item])


def usable(found: Found) -> TypeGuard[Artefact]:
    return isinstance(found, Artefact) and found.complete()


def collect(project: Project, name: str) -> Sources:
    """All parents of the page about probe ``name``. Reads stamps only."""
    from foveate import annotations, attention, checkpoints, crops, groups, timeline, track
    from foveate.actions import curve, embed, predict
    from foveate.evaluate import backgrounds

    def each(stage: Callable[[Video], Artefact]) -> dict[str, Found]:
        return {video.name: _named(partial(stage, video)) for video in project.videos}

    return Sources(
        {
            "timeline": each(lambda video: timeline.artefact(project, video)),
            "track": each(lambda video: track.artefact(project, video)),
            "crop": each(lambda video: crops.artefact(project, video)),
            "embed": each(lambda video: embed.artefact(project, video, source=project.config.probe.source)),
            "labels": {"": _named(lambda: annotations.artefact(project))},
            "probe": _probes(project),
            "published": _published(project),
            "curve": {name: _named(lambda: curve.artefact(project, name))},
            "predict": each(lambda video: predict.artefact(project, video, name)),
            "compare": {"": _named(lambda: groups.artefact(project, name))},
            "attend": {"": _named(lambda: attention.artefact(project))},
            "attend runs": _on_request({"": _named(partial(attention.of_runs, project))}),
            "backgrounds": _on_request({"": _named(partial(backgrounds.found, project))}),
            "checkpoints": _on_request({"": _named(partial(checkpoints.found, project))}),
        },
        name,
    )


def _probes(project: Project) -> dict[str, Found]:
    """Those of foveate.yaml, and adapters, as far as there are any: they are made on request."""
    from foveate.actions import probe

    found = {name: _named(partial(probe.artefact, project, name)) for name in (*project.config.probes, *probe.ADAPTERS)}
    return {name: artefact for name, artefact in found.items() if name in project.config.probes or usable(artefact)}


def _published(project: Project) -> dict[str, Found]:
    """The probes of recipe ``paper``, and the widths tried with them, as far as there are any: they are made on request."""
    from foveate.actions import probe, window_sweep

    names = [name for name, settings in project.config.probes.items() if settings.recipe == "paper"]
    found: dict[str, Found] = {}
    for name in dict.fromkeys([*names, probe.PAPER]):
        found[name] = _named(partial(probe.artefact, project, name))
        found[name + WINDOWS] = _named(partial(window_sweep.found, project, name))
    return _on_request(found)


def _on_request(found: Mapping[str, Found]) -> dict[str, Found]:
    """What is made on request only is no gap where it is not there."""
    return {name: artefact for name, artefact in found.items() if usable(artefact)}


def _named(make: Callable[[], Artefact]) -> Found:
    try:
        return make()
    except FoveateError as error:
        return error


@dataclass(frozen=True)
class Problem:
    """Something a reader of the page should know: where it arose, what it is, what helps. Free of absolute paths."""

    where: str
    text: str
    remedy: str = ""


@dataclass
class Notes:
    """Problems met while the page is made. ``unexpected`` ones are not explained by a missing parent: the page is made again next time."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def add(self, where: str, error: FoveateError) -> Problem:
        problem = describe(where, error, self.folder)
        if problem not in self.problems:
            self.problems.append(problem)
        return problem

    def attempt(self, where: str, call: Callable[[], T]) -> T | Problem:
        """The result of ``call``, or the Problem it ran into."""
        try:
            return call()
        except FoveateError as error:
            problem = self.add(where, error)
            self.unexpected.append(f"{where}: {problem.text}")
            return problem


def describe(where: str, error: FoveateError, folder: Path) -> Problem:
    """The error in words a colleague may read: paths relative to the project, nothing of the machine's folders."""
    text = error.problem
    if error.file is not None:
        row = "" if error.row is None else f", row {error.row}"
        text = f"{_relative(Path(error.file), folder)}{row}: {text}"
    return Problem(where, _hide(text, folder), _hide(error.remedy or "", folder))


def _relative(path: Path, folder: Path) -> str:
    if not path.is_absolute():
        return path.as_posix()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _hide(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "").replace(str(folder), ".")
