"""Writing bouts for other tools, and for people: BORIS aggregated events and plain CSV. foveate reads both back."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.annotations.tables import PREDICTED
from foveate.project import Project, Video
from foveate.store import write_text

if TYPE_CHECKING:
    import pandas as pd

HEADER = (
    "Observation id",
    "Observation date",
    "Description",
    "Observation type",
    "Source",
    "Time offset (s)",
    "Coding duration",
    "Media duration (s)",
    "FPS (frame/s)",
    "Subject",
    "Observation duration by subject by observation",
    "Behavior",
    "Behavioral category",
    "Behavior type",
    "Start (s)",
    "Stop (s)",
    "Duration (s)",
    "Media file name",
    "Image index start",
    "Image index stop",
    "Image file path start",
    "Image file path stop",
    "Comment start",
    "Comment stop",
)
"""Aggregated events as BORIS 8.27 to 9.12 write them, without independent variables and modifiers."""


def export_csv(path: Path, bouts: pd.DataFrame, predicted_by: str = "") -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS) as plain CSV, times rounded to the microsecond.

    ``predicted_by`` is written into a column of that name, by which the reader of annotations knows them for a machine's.
    """
    names = ["video", "subject", "behaviour", "start", "stop"]
    names += [name for name in ("kind", "annotator", "probability") if name in bouts.columns]
    mark = [predicted_by] if predicted_by else []
    rows = ([*(_cell(row[name]) for name in names), *mark] for row in _records(bouts))
    write_text(path, _csv([*names, PREDICTED] if mark else names, rows, "\n"))


def export_boris_aggregated(
    path: Path,
    bouts: pd.DataFrame,
    project: Project,
    *,
    media: Callable[[Video], tuple[float, float]] | None = None,
    description: str = "",
) -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS) as BORIS aggregated events: one observation per video, times in milliseconds.

    The observation date is left empty, because the same bouts must give the same bytes.

    Args:
        media: duration in seconds and mean frame rate of a video; by default from its timeline.
        description: the observations' description, in one line.
    """
    media = media or from_timeline(project)
    by_video = bouts_by_video(bouts, project)
    rows: list[list[str]] = []
    for video in project.videos:
        if video.name not in by_video:
            continue
        own = by_video[video.name]
        length, rate = media(video)
        source = _relative(video, project)
        head = [video.name, "", description, "Media file", f"player #1:{source}", "0.0"]
        head += [f"{length:.3f}", f"{length:.3f}", f"{rate:.3f}"]
        totals: dict[str, list[float]] = {}
        for bout in own:
            totals.setdefault(bout["subject"], []).append(bout["stop"] - bout["start"])
        for bout in own:
            start, stop, point = bout["start"], bout["stop"], bout.get("kind") == "point"
            total = round(math.fsum(totals[bout["subject"]]), 3)
            row = [*head, bout["subject"], str(total), bout["behaviour"], "Not defined", "POINT" if point else "STATE"]
            row += [f"{start:.3f}", f"{stop:.3f}", "NA" if point else f"{stop - start:.3f}"]
            rows.append([*row, source, "NA", "NA", "", "", "", ""])
    write_text(path, _csv(HEADER, rows, "\r\n"))


def bouts_by_video(bouts: pd.DataFrame, project: Project) -> dict[str, list[dict[str, Any]]]:
    """Bouts of every video that has some, in order of start, subject, behaviour and stop.

    Raises:
        FoveateError: a bout is of a video that the project does not have.
    """
    out: dict[str, list[dict[str, Any]]] = {}
    for bout in _records(bouts):
        out.setdefault(bout["video"], []).append(bout)
    for name, own in out.items():
        project.video(name)  # raises: not a video of the project
        own.sort(key=lambda b: (b["start"], b["subject"], b["behaviour"], b["stop"]))
    return out


def _records(bouts: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in bouts.to_dict("records")]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]], line_end: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _relative(video: Video, project: Project) -> str:
    """The video's path from the footage folder, so that exports do not depend on where that is; as in videos.csv if it is elsewhere."""
    footage = project.folder / Path(project.config.footage).expanduser()
    return (video.path.relative_to(footage) if video.path.is_relative_to(footage) else video.path).as_posix()


def beside(video: Path, path: Path) -> str:
    """The path of a video from the folder of the file ``path``; as it is where there is no way from one to the other."""
    try:
        return Path(os.path.relpath(video, path.resolve().parent)).as_posix()
    except ValueError:  # another drive
        return video.as_posix()


def from_timeline(project: Project) -> Callable[[Video], tuple[float, float]]:
    """Duration in seconds and mean frame rate of a video, by its timeline."""
    from foveate import timeline

    def media(video: Video) -> tuple[float, float]:
        found = timeline.load(project, video)
        return found.duration, len(found) / found.duration

    return media
