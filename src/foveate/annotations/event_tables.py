"""Reading small tables of bouts in seconds that are named after their video: V-TRACE (``labelId,timestamp,endTimestamp``, with ``score``
in predictions and ``#`` lines before the header) and LISBET (``behavior,start_time,end_time``).

The video's subject is not named, so it must have one; it counts as observed through the whole video.
"""

from __future__ import annotations

from dataclasses import replace

from foveate.annotations.source import Given, Source, need_video_of_file
from foveate.annotations.tables import Reading, Videos, column, parse, read_plain

_COLUMNS = (
    {"labelid": "behavior", "timestamp": "start", "endtimestamp": "stop"},
    {"behavior": "behavior", "start_time": "start", "end_time": "stop"},
)


def is_event_table(source: Source) -> bool:
    return _columns(source) is not None


def _columns(source: Source) -> dict[str, str] | None:
    header = {column(cell) for cell in source.header}
    return next((names for names in _COLUMNS if {*names} <= header), None)


def read_event_table(source: Source, given: Given) -> Reading:
    """Its rows, as those of a plain CSV about the video of that name."""
    video = need_video_of_file(source.path, given.videos)
    names = _columns(source) or {}
    # Comments become empty lines, so that rows keep their numbers.
    text = "\n".join("" if line.startswith("#") else line for line in source.text().splitlines())
    table = parse(source.path, text.encode())
    needed = {"kind": "", "annotator": "", "subject": "", "video": video.name}
    rows = tuple((row, {names[key]: cell for key, cell in cells.items() if key in names} | needed) for row, cells in table.rows)
    return read_plain(replace(table, rows=rows, columns=tuple(names.get(key, key) for key in table.columns)), given.videos)


def event_table_videos(source: Source, videos: Videos) -> set[str]:
    return {need_video_of_file(source.path, videos).name}
