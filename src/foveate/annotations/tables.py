"""Reading annotation tables: cells, times, names, and foveate's own plain CSV.

A plain CSV has the columns ``video, subject, behaviour, start, stop`` and, if wanted, ``kind`` (state or point), ``annotator`` and
``comment``; other columns are ignored, ``behavior`` is the same as ``behaviour``. Times are seconds since the first frame of the video
(``12.5``) or ``hh:mm:ss.fff``. A point event has an empty stop, a stop equal to its start, or kind ``point``. The subject may be left
out where the video has one.

What is wrong with a file is raised; what is wrong with a row is collected in ``Reading.problems``, and the other rows are kept. A row
that was refused leaves a ``Doubt``, so that the time it may have spoken of is never taken for the absence of its behaviour.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from foveate.project import VIDEOS, Project, Video
from foveate.schema import FoveateError

Kind = Literal["state", "point"]
SEPARATORS = ",\t;"


@dataclass(frozen=True)
class Entry:
    """One bout as a file tells it: seconds since the first frame of its video, names as written, nothing checked but the numbers."""

    row: int
    video: Video
    subject: str
    behaviour: str
    start: float
    stop: float
    kind: Kind = "state"
    annotator: str = ""


@dataclass(frozen=True)
class Span:
    """Where somebody looked for ``behaviour`` ("": for every behaviour) of one subject; ``stop`` may be infinite: to the end."""

    row: int
    video: Video
    subject: str
    start: float = 0.0
    stop: float = math.inf
    annotator: str = ""
    behaviour: str = ""


@dataclass(frozen=True)
class Doubt:
    """A refused row: from ``since`` seconds on, the absence of ``behaviour`` cannot be concluded from its not being annotated."""

    video: Video
    subject: str
    behaviour: str
    since: float = 0.0


@dataclass(frozen=True)
class Covariate:
    """Something a file says of a whole video (BORIS: an independent variable); ``name`` in lower case."""

    row: int
    video: Video
    name: str
    value: str


@dataclass(frozen=True)
class Reading:
    """What one file says."""

    entries: list[Entry] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    problems: list[FoveateError] = field(default_factory=list)
    notes: list[FoveateError] = field(default_factory=list)
    covariates: list[Covariate] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A delimited text file: ``rows`` are (row in the file, cells by column name); a short row lacks its last columns. Column names are
    lower case, "behavior" with one spelling; of two columns with one name the last counts, because BORIS puts the users' own first."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    cells: Mapping[int, int]  # row -> number of cells, where that is not the number of columns

    def ragged(self, row: int, cells: Mapping[str, str], needed: Iterable[str]) -> FoveateError | None:
        """The complaint about a row with too many cells, or too few for the ``needed`` columns."""
        found = self.cells.get(row, len(self.columns))
        if found <= len(self.columns) and not any(name in self.columns and name not in cells for name in needed):
            return None
        remedy = "put cells that hold the separator in double quotes" if found > len(self.columns) else "complete the row"
        return FoveateError(f"{found} cells, but the header has {len(self.columns)}", file=self.path, row=row, remedy=remedy)


def column(name: str) -> str:
    """The name that a column of a header goes by."""
    return name.strip().lower().replace("behaviour", "behavior")


def read_table(path: Path) -> Table:
    """Read a comma, tab or semicolon separated file, UTF-8 with or without byte-order mark.

    Raises:
        FoveateError: the file is empty, not UTF-8 text, or cannot be read at all.
    """
    return parse(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FoveateError(
            f"cannot be read ({error.strerror})", file=path, remedy="check that the file is there and may be read"
        ) from None


@lru_cache(maxsize=64)  # every stage after this one asks for the stamp of the labels
def parse(path: Path, content: bytes) -> Table:
    """The table that ``content``, the bytes of ``path``, holds."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FoveateError(
            "not UTF-8 text", file=path, remedy='save it as "CSV UTF-8" (spreadsheet files must be exported as CSV)'
        ) from None
    if not text.strip():
        raise FoveateError("the file is empty", file=path, row=1, remedy="export it again, or remove it from annotations")
    # The separator under which the header falls into most columns.
    return as_table(path, max((records(text, separator, path) for separator in SEPARATORS), key=lambda r: len(r[0][1])))


def as_table(path: Path, found: Sequence[tuple[int, list[str]]]) -> Table:
    """Records, the first of which is the header, as a table."""
    header = [column(cell) for cell in found[0][1]]
    rows, counts = [], {}
    for number, cells in found[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        while len(cells) > len(header) and not cells[-1].strip():  # separators that a spreadsheet left at the end
            cells = cells[:-1]
        if len(cells) != len(header):
            counts[number] = len(cells)
        rows.append((number, {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}))
    return Table(path, tuple(header), tuple(rows), counts)


def records(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Records with the line they start in; blank lines before the header are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    found: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if found or any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise FoveateError(f"not a delimited text file ({error})", file=path, row=line, remedy="export it again") from None
    return found or [(1, [""])]


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CLOCK = re.compile(r"([+-]?)(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)", re.ASCII)


def seconds(text: str) -> float | None:
    """``12.5``, ``12,5``, ``hh:mm:ss.fff`` or ``mm:ss`` as seconds; None when it is no finite time."""
    text = text.strip()
    if text.count(",") == 1 and "." not in text:  # decimal comma of European spreadsheets
        text = text.replace(",", ".")
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else None
    clock = _CLOCK.fullmatch(text)
    if clock is None or len(text) > 40:
        return None
    sign, hours, minutes, rest = clock.groups()
    return (-1 if sign == "-" else 1) * (int(hours or 0) * 3600 + int(minutes) * 60 + float(rest))


def file_name(path: str) -> str:
    """The last part of a path written on any system."""
    return re.split(r"[/\\]", path.strip())[-1]


def stem(path: str) -> str:
    name = file_name(path)
    return name.rsplit(".", 1)[0] if "." in name.lstrip(".") else name


@dataclass(frozen=True)
class Videos:
    """Finds the video of ``videos.csv`` that an annotation file means."""

    project: Project
    _by_name: dict[str, list[Video]]
    _by_stem: dict[str, list[Video]]

    @classmethod
    def of(cls, project: Project) -> Videos:
        by_name: dict[str, list[Video]] = {}
        by_stem: dict[str, list[Video]] = {}
        for video in project.videos:
            by_name.setdefault(video.name.casefold(), []).append(video)
            by_stem.setdefault(stem(str(video.path)).casefold(), []).append(video)
        return cls(project, by_name, by_stem)

    def named(self, text: str) -> Video | None:
        """By the name in ``videos.csv``; letter case matters only between names that differ in nothing else."""
        found = self._by_name.get(text.casefold(), [])
        return next((v for v in found if v.name == text), found[0] if len(found) == 1 else None)

    def of_media(self, path: str) -> Video | None:
        """By the stem of a media file's name, whatever the folder, letter case or kind of slash; else by name. Of several videos with
        that stem the one whose path agrees with ``path`` in most trailing parts, if it is one."""
        found = self._by_stem.get(stem(path).casefold(), [])
        if len(found) > 1:
            agree = [_common_tail(str(video.path), path) for video in found]
            found = [v for v, parts in zip(found, agree, strict=True) if parts == max(agree)]
        if len(found) == 1:
            return found[0]
        return None if found else self.named(stem(path)) or self.named(file_name(path))

    def find(self, text: str) -> Video | None:
        """By name, else as a media file."""
        return self.named(text) or self.of_media(text)

    def unknown(self, text: str, what: str, file: Path, row: int) -> FoveateError:
        """The complaint that ``text`` is no video, with near names."""
        names = [name for v in self.project.videos for name in (v.name, stem(str(v.path)))]
        same_stem = self._by_stem.get(stem(text).casefold(), [])
        if len(same_stem) > 1:
            return FoveateError(
                f"{what} could be any of the videos {', '.join(repr(v.name) for v in same_stem)}",
                file=file,
                row=row,
                remedy="write one plain CSV with the video's name, or rename the files so that they differ",
            )
        near = difflib.get_close_matches(stem(text), list(dict.fromkeys(names)), 3)
        return FoveateError(
            f"{what} is not a video of {VIDEOS}",
            file=file,
            row=row,
            remedy=("did you mean " + " or ".join(near) + "? " if near else "") + f"add it to {VIDEOS}, or correct the name",
        )


def _common_tail(one: str, other: str) -> int:
    parts = [re.split(r"[/\\]", path.casefold())[::-1] for path in (one, other)]
    parts = [[stem(p[0]), *p[1:]] for p in parts]
    return next((i for i, (a, b) in enumerate(zip(*parts, strict=False)) if a != b), min(map(len, parts)))


PLAIN = frozenset({"video", "behavior", "start", "stop"})
"""Columns that make a file a plain CSV."""


PREDICTED = "predicted_by"
"""Column of exported predictions. A file that has it is not read: what a probe predicted is nobody's annotation, and learning from it
would teach the probe its own errors and score it against itself."""


def read_plain(table: Table, videos: Videos) -> Reading:
    """The bouts of a plain CSV. Every subject with a row is taken as observed through the whole of that video.

    Raises:
        FoveateError: the file holds predictions.
    """
    if PREDICTED in table.columns:
        raise FoveateError(
            "these are exported predictions, not annotations, so nothing is learned from them",
            file=table.path,
            row=1,
            remedy=f"take the file out of annotations; or, if a person has checked every bout in it, delete its column {PREDICTED}",
        )
    out = Reading()

    def refuse(row: int, problem: str, remedy: str) -> None:
        out.problems.append(FoveateError(problem, file=table.path, row=row, remedy=remedy))

    for row, cells in table.rows:
        name, behaviour, kind = cells.get("video", ""), cells.get("behavior", ""), cells.get("kind", "").lower()
        subject, annotator = cells.get("subject", ""), cells.get("annotator", "")
        video = videos.find(name)
        if video is None:
            out.problems.append(videos.unknown(name, f"{name!r}", table.path, row) if name else _no_video(table.path, row))
            continue
        out.spans.append(Span(row, video, subject, annotator=annotator))
        start_text, stop_text = cells.get("start", ""), cells.get("stop", "")
        start, stop = seconds(start_text), seconds(stop_text)
        if ragged := table.ragged(row, cells, ("subject", "behavior", "start", "stop", "kind")):
            out.doubts.append(Doubt(video, subject, behaviour))
            out.problems.append(ragged)
        elif start is None:
            out.doubts.append(Doubt(video, subject, behaviour))
            refuse(row, f"start {start_text!r} is not a time", "write seconds (12.5) or hh:mm:ss.fff")
        elif kind not in ("", "state", "point"):
            out.doubts.append(Doubt(video, subject, behaviour, start))
            refuse(row, f"kind {cells['kind']!r} is neither state nor point", "write state, point or nothing")
        elif (stop_text and stop is None) or (kind == "state" and stop is None):
            out.doubts.append(Doubt(video, subject, behaviour, start))
            refuse(row, f"stop {stop_text!r} is not a time", "write seconds (12.5) or hh:mm:ss.fff; empty for a point event")
        elif kind == "point" and stop is not None and stop != start:
            out.doubts.append(Doubt(video, subject, behaviour, start))
            refuse(row, f"a point event from {start_text} to {stop_text}", "leave its stop empty, or make it a state")
        else:
            point = stop is None or stop == start
            out.entries.append(
                Entry(
                    row=row,
                    video=video,
                    subject=subject,
                    behaviour=behaviour,
                    start=start,
                    stop=start if stop is None else stop,
                    kind="point" if point else "state",
                    annotator=annotator,
                )
            )
    return out


def _no_video(path: Path, row: int) -> FoveateError:
    return FoveateError("no video is named", file=path, row=row, remedy=f"write its name from {VIDEOS} in column video")


def read_observed(table: Table, videos: Videos) -> Reading:
    """``annotations/observed.csv``: video, subject, start, stop, behaviour, annotator; only ``video`` is needed. An empty start is the
    beginning, an empty stop the end, an empty behaviour every behaviour. A refused row leaves a doubt: its subject counts as named here."""
    if "video" not in table.columns:
        raise FoveateError(
            f"column 'video' is missing; found: {', '.join(table.columns)}",
            file=table.path,
            row=1,
            remedy="first row: video,subject,start,stop,behaviour",
        )
    out = Reading()
    for row, cells in table.rows:
        name, subject, behaviour = cells.get("video", ""), cells.get("subject", ""), cells.get("behavior", "")
        video = videos.find(name)
        start, stop = seconds(cells.get("start") or "0"), seconds(cells["stop"]) if cells.get("stop") else math.inf
        if ragged := table.ragged(row, cells, ("video", "subject", "behavior")):
            out.problems.append(ragged)
        elif video is None:
            out.problems.append(videos.unknown(name, f"{name!r}", table.path, row) if name else _no_video(table.path, row))
        elif start is None or stop is None or not 0 <= start < stop:
            out.problems.append(
                FoveateError(
                    f"from {cells.get('start', '')!r} to {cells.get('stop', '')!r} is no stretch of time",
                    file=table.path,
                    row=row,
                    remedy="start must be a time of 0 or more and stop later, in seconds or hh:mm:ss",
                )
            )
        else:
            out.spans.append(Span(row, video, subject, start, stop, cells.get("annotator", ""), behaviour))
            continue
        if video is not None:
            out.doubts.append(Doubt(video, subject, behaviour))
    return out
