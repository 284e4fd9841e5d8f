"""Reading tables with one column of 0 and 1 for each behaviour.

    DeepEthogram  ``<video>_labels.csv``: an unnamed index, ``background``, behaviours; -1 is not observed; row k is frame k
    SimBA         ``targets_inserted/<video>.csv``: features, then one column per classifier, told by the behaviours of foveate.yaml
    BORIS         behaviour binary table, ``<observation>_<subject>.tsv``: ``time`` in seconds at a fixed step, behaviours

In frames, a table speaks of the video's own frames, shown when its timeline says, and must have as many rows. In a binary table a row
stands for the time until the next one; counts of point events are taken as present, and ``behaviour (modifiers)`` as the behaviour.
None of them names subjects, but for the file name of a binary table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.annotations.source import Given, Source, check_frames, from_dense, need_video_of_file, video_of_file
from foveate.annotations.tables import Reading, Videos, seconds
from foveate.project import Video
from foveate.schema import FoveateError

_INDEX = ("", "unnamed: 0", "index", "frame")
_BACKGROUND = "background"
_VALUES = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1, "false": 0, "true": 1}
_MODIFIERS = re.compile(r"(.+?) \(.*\)")
_KEYPOINT = re.compile(r".+_(x|y|p|likelihood)", re.IGNORECASE)


def is_deepethogram(source: Source) -> bool:
    columns = [cell.lower() for cell in source.header]
    named = source.path.name.lower().endswith("_labels.csv") and len(columns) > 1
    return _BACKGROUND in columns[:2] or (named and _binary_start(source, columns))


def _binary_start(source: Source, columns: Sequence[str]) -> bool:
    """Whether the first row below the header holds nothing but 0, 1 and -1, beside an index."""
    lines = [line for line in source.head.splitlines()[:50] if line.strip()][1:2]
    cells = lines[0].replace("\t", ",").replace(";", ",").split(",") if lines else []
    skip = 1 if columns[0] in _INDEX else 0
    return len(cells) == len(columns) > skip and all(cell.strip().lower() in _VALUES for cell in cells[skip:])


def read_deepethogram(source: Source, given: Given) -> Reading:
    video = need_video_of_file(source.path, given.videos)
    columns = {
        k: name
        for k, name in enumerate(source.header)
        if name.lower() != _BACKGROUND and not (k == 0 and name.lower() in _INDEX)
    }
    return _frames(source, given, video, columns)


def is_simba(source: Source, behaviours: tuple[str, ...]) -> bool:
    """Whether a column is named as a listed behaviour and another as a tracked point's coordinate, which only features are."""
    header = source.header
    return bool({*header} & {*behaviours}) and any(_KEYPOINT.fullmatch(name) for name in header)


def read_simba(source: Source, given: Given) -> Reading:
    video = need_video_of_file(source.path, given.videos)
    return _frames(source, given, video, {k: name for k, name in enumerate(source.header) if name in given.behaviours})


def frame_table_videos(source: Source, videos: Videos) -> set[str]:
    return {need_video_of_file(source.path, videos).name}


def _frames(source: Source, given: Given, video: Video, columns: dict[int, str]) -> Reading:
    out = Reading()
    labels, lines, _ = _matrix(source, columns, out)
    edges = check_frames(len(labels), video, given, source)
    for (_, behaviour), column in zip(columns.items(), labels.T, strict=True):
        from_dense(column, edges, behaviour, video, "", lines, out)
    return out


def is_binary_table(source: Source) -> bool:
    columns = [cell.lower() for cell in source.header]
    return len(columns) > 1 and columns[0] == "time" and _binary_start(source, ["index", *columns[1:]])


def read_binary_table(source: Source, given: Given) -> Reading:
    video, subject = _observation(source, given.videos)
    columns = dict(enumerate(source.header))
    out = Reading()
    del columns[0]
    labels, lines, times = _matrix(source, columns, out, timed=True)
    if len(times) > 1 and not (np.diff(times) > 0).all():
        row = lines + int(np.argmin(np.diff(times))) + 1
        raise source.refuse("times do not increase from row to row", row)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    edges = np.append(times, min(times[-1] + step, max(given.duration(video), times[-1])))
    for behaviour, same in _without_modifiers(columns, given.behaviours).items():
        from_dense(labels[:, same].max(axis=1), edges, behaviour, video, subject, lines, out)
    return out


def binary_table_videos(source: Source, videos: Videos) -> set[str]:
    return {_observation(source, videos)[0].name}


def _observation(source: Source, videos: Videos) -> tuple[Video, str]:
    """Video and subject by the file name ``<observation>_<subject>``, where the observation is named after its video."""
    name = source.path.name.rsplit(".", 1)[0]
    for video in videos.project.videos:
        for subject in ("No focal subject", *video.subjects):
            suffix = f"_{subject}".casefold()
            if name.casefold().endswith(suffix) and videos.find(name[: -len(suffix)]) == video:
                return video, "" if subject == "No focal subject" else subject
    video = video_of_file(source.path, videos) or need_video_of_file(source.path, videos)
    return video, ""


def _without_modifiers(columns: dict[int, str], listed: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the columns of each behaviour."""
    out: dict[str, list[int]] = {}
    for k, name in enumerate(columns.values()):
        match = _MODIFIERS.fullmatch(name)
        out.setdefault(match[1] if match and name not in listed else name, []).append(k)
    return out


def _matrix(
    source: Source, columns: dict[int, str], out: Reading, timed: bool = False
) -> tuple[NDArray[np.int8], int, NDArray[np.float64]]:
    """Labels [rows, columns] as 1, 0 or -1, the file's row of the first, and the times in the first column of a ``timed`` table.

    A cell that is none of them is -1 and a problem; in a timed table every count is 1.

    Raises:
        FoveateError: the table is empty, or a row has not as many cells as the header.
    """
    # Comments become empty lines, so that rows keep their numbers.
    text = "\n".join("" if line.startswith("#") else line for line in source.text().splitlines())
    separator = max(",\t;", key=lambda s: text.lstrip().partition("\n")[0].count(s))
    labels, times, first = list[list[int]](), list[float](), 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        width = 0
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not width:
                width, first = len(cells), reader.line_num + 1
                continue
            if len(cells) != width:
                raise source.refuse(f"{len(cells)} cells, but the header has {width}", reader.line_num)
            if timed:
                time = seconds(cells[0])
                if time is None or time < 0:
                    raise source.refuse(f"time {cells[0][:40]!r} is not a time", reader.line_num)
                times.append(time)
            labels.append([_value(cells[k], timed, source, reader.line_num, columns[k], out) for k in columns])
    except csv.Error as error:
        raise source.refuse(f"not a delimited text file ({error})", reader.line_num) from None
    if not labels or not columns:
        raise source.refuse("a table without rows, or without behaviours", 1)
    return np.array(labels, np.int8), first, np.array(times, np.float64)


def _value(cell: str, counts: bool, source: Source, row: int, behaviour: str, out: Reading) -> int:
    text = cell.strip().lower()
    found = _VALUES.get(text)
    if found is None and counts and text.isascii() and text.isdigit():
        return 1
    if found is None:
        if len(out.problems) < 1000:
            out.problems.append(
                FoveateError(
                    f"{cell[:40]!r} in column {behaviour!r} is none of 0, 1, -1",
                    file=source.path,
                    row=row,
                    remedy="correct it; until then it counts as not observed",
                )
            )
        return -1
    return found
