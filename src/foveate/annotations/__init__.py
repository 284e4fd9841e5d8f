"""Stage ``labels``: annotations as people exported them become ``labels/intervals.parquet`` and ``labels/observed.parquet``.

What is wrong in the files does not stop the stage: refused rows are listed in ``facts()["problems"]`` (problem, file, row, remedy), things
worth knowing in ``facts()["notes"]``, and everything else is labelled. A caller prints both and ends with an error if there are problems.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import timeline
from foveate.annotations import formats, tables
from foveate.annotations.check import OBSERVED_FILE, Checked, check
from foveate.annotations.dense import Labels
from foveate.annotations.export import export_boris_aggregated, export_csv
from foveate.annotations.export_elan import export_elan
from foveate.annotations.export_nwb import export_nwb
from foveate.annotations.export_project import export_boris_project
from foveate.annotations.source import Given, open_source
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import INTERVALS, OBSERVED, FoveateError, Target
from foveate.settings import CONFIG
from foveate.store import Artefact, remembered, write_parquet

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Labels",
    "artefact",
    "export_boris_aggregated",
    "export_boris_project",
    "export_bouts",
    "export_csv",
    "export_elan",
    "export_nwb",
    "load_labels",
    "run",
]

VERSION = 3
Duration = Callable[[Video], float]
Times = Callable[[Video], NDArray[np.float64]]


@remembered
def artefact(project: Project) -> Artefact:
    """Where the labels are, or will be, with their expected stamp.

    They depend on the annotation files and on the videos these speak of, so that new footage does not undo them.
    """
    files = annotation_files(project)
    parents = {f"file:{_inside(path, project)}": _digest(path) for path in files}
    restriction = project.folder / OBSERVED_FILE
    if restriction.is_file():
        parents[f"file:{OBSERVED_FILE}"] = _digest(restriction)
    spoken = videos_named(project, [*files, restriction] if restriction.is_file() else files)
    for video in spoken:
        try:
            parents[f"timeline:{video.name}"] = timeline.artefact(project, video).stamp
        except FoveateError:
            parents[f"timeline:{video.name}"] = "unreadable"
    settings = {
        "behaviours": list(project.config.behaviours),
        "format": project.config.annotations.format,
        "subjects": {video.name: list(video.subjects) for video in spoken},
    }
    return Artefact(project.stage_folder("labels"), "labels", VERSION, settings, parents)


def run(
    project: Project, progress: Progress = silent, duration: Duration | None = None, times: Times | None = None
) -> Artefact:
    """Read, check and write all annotations.

    Args:
        duration: seconds of a video; by default its timeline, made if missing. A FoveateError from it costs that video's labels only.
        times: when each frame of a video starts, in seconds; by default as its timeline says.

    Raises:
        FoveateError: there is not one annotation file, or ``annotations/observed.csv`` cannot be read: without it, time that nobody
            watched would count as absence.
    """
    target = artefact(project)
    if target.complete():
        return target
    files = annotation_files(project)
    if not files:
        raise FoveateError(
            "there are no annotation files; looked for " + ", ".join(project.config.annotations.files),
            file=project.folder / "annotations",
            remedy=f"put BORIS files, or those of another annotation program, or CSV files there, or correct annotations.files in {CONFIG}",
        )
    duration = duration or _of_timeline(project)
    videos = tables.Videos.of(project)
    readings = []
    for done, path in enumerate(files):
        readings.append((path, read_file(path, project, videos, duration, times)))
        progress(done + 1, len(files))
    restriction = None
    if (project.folder / OBSERVED_FILE).is_file():
        restriction = tables.read_observed(tables.read_table(project.folder / OBSERVED_FILE), videos)
    checked = check(project, readings, restriction, duration)
    target.begin()
    write_parquet(target.path("intervals.parquet"), _intervals(checked))
    write_parquet(target.path("observed.parquet"), _observed(checked))
    target.finish(_facts(project, checked))
    return target


def load_labels(project: Project) -> Labels:
    """The finished labels of a project.

    Raises:
        FoveateError: the stage has not run since the annotations changed, or its files are damaged.
    """
    source = artefact(project)
    if not source.complete():
        raise FoveateError("the labels are missing or out of date", file=source.folder, remedy="run `foveate run`")
    return Labels(
        behaviours=tuple(source.facts()["behaviours"]),
        intervals=source.table("intervals.parquet").to_pandas(),
        observed=source.table("observed.parquet").to_pandas(),
    )


def covariates(project: Project) -> dict[str, dict[str, str]]:
    """What the annotation files say of whole videos (BORIS: independent variables): video -> name in lower case -> value.

    Empty where the labels are not finished. Columns of videos.csv and subjects.csv go before them wherever both are used.
    """
    source = artefact(project)
    found: dict[str, dict[str, str]] = source.facts()["covariates"] if source.complete() else {}
    return found


def annotation_files(project: Project) -> list[Path]:
    """The files that ``annotations.files`` names, sorted, without ``annotations/observed.csv``."""
    found = {
        project.folder / name
        for pattern in project.config.annotations.files
        for name in glob.glob(pattern, root_dir=project.folder, recursive=True)  # takes absolute patterns, too
    }
    return sorted(path for path in found if path.is_file() and path != project.folder / OBSERVED_FILE)


def read_file(
    path: Path, project: Project, videos: tables.Videos, duration: Duration, times: Times | None = None
) -> tables.Reading:
    """What one annotation file says; a file that cannot be read at all is one problem."""
    given = Given(project.config.behaviours, videos, duration, times or _times_of_timeline(project))
    try:
        return formats.read(open_source(path), given, project.config.annotations.format)
    except FoveateError as error:
        return tables.Reading(problems=[error])


def export_bouts(
    path: Path, bouts: pd.DataFrame, project: Project, to: Target, description: str = "", videos: Iterable[Video] = ()
) -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS) as other programs take them; see the ``export`` modules for each.

    Args:
        videos: those looked at, with or without a bout. A project to correct lists them, and all behaviours of the labels.
    """
    if to not in get_args(Target):
        raise FoveateError(f"cannot export to {to!r}", remedy="targets: " + ", ".join(get_args(Target)))
    if to == "boris-project":
        known = artefact(project).facts().get("behaviours", ())
        export_boris_project(path, bouts, project, description=description, behaviours=known, videos=videos)
    elif to == "boris":
        export_boris_aggregated(path, bouts, project, description=description)
    elif to == "elan":
        export_elan(path, bouts, project)
    elif to == "nwb":
        export_nwb(path, bouts, project, description=description)
    else:
        export_csv(path, bouts, description)


def _of_timeline(project: Project) -> Duration:
    def duration(video: Video) -> float:
        timeline.run(project, video)
        return timeline.load(project, video).duration

    return duration


def _times_of_timeline(project: Project) -> Times:
    def times(video: Video) -> NDArray[np.float64]:
        timeline.run(project, video)
        return timeline.load(project, video).time

    return times


def videos_named(project: Project, files: Iterable[Path]) -> list[Video]:
    """Videos that these files speak of, in the order of videos.csv."""
    videos = tables.Videos.of(project)
    names: set[str] = set()
    for path in files:
        try:
            names |= formats.videos_named(open_source(path), project.config.behaviours, videos)
        except FoveateError:
            continue  # said when the stage runs
    return [video for video in project.videos if video.name in names]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(tables.read_bytes(path)).hexdigest()
    except FoveateError:
        return "unreadable"


def _inside(path: Path, project: Project) -> str:
    return path.relative_to(project.folder).as_posix() if path.is_relative_to(project.folder) else path.as_posix()


def _intervals(checked: Checked) -> pa.Table:
    return pa.table({name: [getattr(bout, name) for bout in checked.bouts] for name in INTERVALS.names}, schema=INTERVALS)


def _observed(checked: Checked) -> pa.Table:
    rows = [(*key[:3], a, b, key[3]) for key, stretches in checked.observed.items() for a, b in stretches]
    columns = zip(*rows, strict=True) if rows else [()] * len(OBSERVED.names)
    return pa.table(dict(zip(OBSERVED.names, map(list, columns), strict=True)), schema=OBSERVED)


def _facts(project: Project, checked: Checked) -> dict[str, Any]:
    seconds = {
        name: float(np.sum([b.stop - b.start for b in checked.bouts if b.behaviour == name])) for name in checked.behaviours
    }
    return {
        "behaviours": list(checked.behaviours),
        "seconds": seconds,
        "bouts": len(checked.bouts),
        "videos": list(dict.fromkeys(key[0] for key in checked.observed)),
        "covariates": checked.covariates,
        "problems": [_plain(error, project) for error in checked.problems],
        "notes": [_plain(error, project) for error in checked.notes],
    }


def _plain(error: FoveateError, project: Project) -> dict[str, Any]:
    file = None if error.file is None else _inside(Path(error.file), project)
    return {"problem": error.problem, "file": file, "row": error.row, "remedy": error.remedy}
