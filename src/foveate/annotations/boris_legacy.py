"""Tabular events of BORIS 7 to 8.12: some rows about the observation, an empty one after each, then the table.

    Observation id,<id>
    Media file(s)
    Player #1,<path>            one row for each file
    Observation date,<date>
    Time offset (s),<seconds>
    independent variables / variable,value / ...
    Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Modifier 1,Comment,Status

They become the columns that BORIS writes since 8.13, and are read as these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from foveate.annotations.boris import read_tabular, videos_named
from foveate.annotations.source import Given, Source
from foveate.annotations.tables import SEPARATORS, Reading, Table, Videos, as_table, column, records
from foveate.schema import FoveateError

_NEEDED = frozenset({"time", "behavior", "status"})
_RENAMED = {"status": "behavior type", "media file path": "media file name"}


def is_legacy(source: Source) -> bool:
    """Whether the first cell is ``Observation id`` and no behaviour stands beside it."""
    columns = [column(cell) for cell in source.header]
    return columns[:1] == ["observation id"] and "behavior" not in columns


def read_legacy(source: Source, given: Given) -> Reading:
    table, variables = _table(source.path, source.text())
    return read_tabular(table, given.videos, given.duration, variables=variables)


def legacy_videos(source: Source, videos: Videos) -> set[str]:
    return videos_named(_table(source.path, source.text())[0], videos)


@lru_cache(maxsize=16)
def _table(path: Path, text: str) -> tuple[Table, dict[str, str]]:
    """Rows as BORIS writes them today, and the independent variables."""
    found = max((records(text, separator, path) for separator in SEPARATORS), key=lambda rows: max(len(r) for _, r in rows))
    starts = [k for k, (_, cells) in enumerate(found) if cells[:1] and column(cells[0]) == "time"]  # or a variable of that name
    at = next((k for k in starts if {column(cell) for cell in found[k][1]} >= _NEEDED), None)
    if at is None:
        raise FoveateError(
            "a BORIS export of version 8.12 or older without its table of events",
            file=path,
            row=found[starts[0]][0] if starts else found[0][0],
            remedy="the table starts with Time and has the columns Behavior and Status; export the events again",
        )
    about = _about(found[:at])
    table = as_table(path, found[at:])
    rows = tuple(
        (number, {_RENAMED.get(name, name): cell for name, cell in cells.items()} | about) for number, cells in table.rows
    )
    return Table(path, tuple(_RENAMED.get(name, name) for name in table.columns), rows, table.cells), _variables(found[:at])


def _variables(found: Sequence[tuple[int, list[str]]]) -> dict[str, str]:
    """Independent variables: the rows after ``independent variables`` and its header ``variable, value``."""
    names = [column(cells[0]) if cells else "" for _, cells in found]
    if "independent variables" not in names:
        return {}
    rows = found[names.index("independent variables") + 1 :]
    pairs = [(column(cells[0]), cells[1].strip()) for _, cells in rows if len(cells) > 1 and cells[0].strip()]
    return {name: value for name, value in pairs if (name, value) != ("variable", "value")}


def _about(found: Sequence[tuple[int, list[str]]]) -> dict[str, str]:
    """What the rows before the table say, in cells of the current columns."""
    out, media = {"observation id": "", "time offset (s)": "0"}, dict[str, list[str]]()
    for _, cells in found:
        name = column(cells[0]) if cells else ""
        value = cells[1].strip() if len(cells) > 1 else ""
        if name == "independent variables":
            break  # their labels are the users' own
        if name in out:
            out[name] = value or out[name]
        elif name.startswith("player #") and value:
            media.setdefault(name, []).append(value)
    source = "|".join(f"{name}:{';'.join(paths)}" for name, paths in sorted(media.items()))
    return out | ({"source": source} if source else {})
