"""Which reader an annotation file is for, told by its content; file names count only where the content cannot say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from foveate.annotations import (
    bento,
    boris,
    boris_legacy,
    boris_project,
    elan,
    event_tables,
    feral,
    frame_tables,
    lisbet,
    tables,
)
from foveate.annotations.source import Given, Source
from foveate.annotations.tables import Reading, Videos

Wanted = Literal["auto", "csv", "boris"]


class Format(NamedTuple):
    """``sniff`` costs little and never raises; ``read`` and ``videos`` (names of the videos spoken of) raise FoveateError."""

    family: Literal["csv", "boris", "other"]
    sniff: Callable[[Source, tuple[str, ...]], bool]  # the file, and the behaviours that foveate.yaml lists
    read: Callable[[Source, Given], Reading]
    videos: Callable[[Source, Videos], set[str]]


def _columns(*needed: str) -> Callable[[Source, tuple[str, ...]], bool]:
    return lambda source, _: {tables.column(cell) for cell in source.header} >= {*needed}


def _content(sniff: Callable[[Source], bool]) -> Callable[[Source, tuple[str, ...]], bool]:
    return lambda source, _: sniff(source)


def _table(source: Source) -> tables.Table:
    return tables.parse(source.path, source.content)


def _plain_videos(source: Source, videos: Videos) -> set[str]:
    found = [videos.find(text) for text in {cells.get("video", "") for _, cells in _table(source).rows}]
    return {video.name for video in found if video is not None}


def _boris_videos(source: Source, videos: Videos) -> set[str]:
    return boris.videos_named(_table(source), videos)


FORMATS: tuple[Format, ...] = (
    Format("boris", _content(boris_project.is_project), boris_project.read_project, boris_project.project_videos),
    Format("other", _content(feral.is_feral), feral.read_feral, feral.feral_videos),
    Format("other", _content(elan.is_elan), elan.read_elan, elan.elan_videos),
    Format("other", _content(bento.is_bento), bento.read_bento, bento.bento_videos),
    Format("other", _content(lisbet.is_netcdf), lisbet.read_lisbet, lisbet.lisbet_videos),
    Format("boris", _content(boris_legacy.is_legacy), boris_legacy.read_legacy, boris_legacy.legacy_videos),
    Format("csv", _columns(*tables.PLAIN), lambda s, g: tables.read_plain(_table(s), g.videos), _plain_videos),
    Format(
        "boris",
        _columns(*boris.AGGREGATED),
        lambda s, g: boris.read_aggregated(_table(s), g.videos, g.duration),
        _boris_videos,
    ),
    Format("boris", _columns(*boris.TABULAR), lambda s, g: boris.read_tabular(_table(s), g.videos, g.duration), _boris_videos),
    Format("other", _content(event_tables.is_event_table), event_tables.read_event_table, event_tables.event_table_videos),
    Format("boris", _content(frame_tables.is_binary_table), frame_tables.read_binary_table, frame_tables.binary_table_videos),
    Format("other", _content(frame_tables.is_deepethogram), frame_tables.read_deepethogram, frame_tables.frame_table_videos),
    Format("other", frame_tables.is_simba, frame_tables.read_simba, frame_tables.frame_table_videos),
)
"""The first whose ``sniff`` says yes reads the file."""


def read(source: Source, given: Given, wanted: Wanted = "auto") -> Reading:
    """What a file says.

    Raises:
        FoveateError: nobody can read it, or it cannot be read at all.
    """
    found = _find(source, given.behaviours, wanted)
    if found is not None:
        return found.read(source, given)
    beginning = source.content[: 2**20]
    beginning = beginning[: beginning.rfind(b"\n") + 1] or source.content  # whole lines: enough to know the columns
    found_columns = tables.parse(source.path, beginning).columns  # raises for what is not even a table
    columns = ", ".join(name[:40] for name in found_columns[:12])
    raise source.refuse(
        f"no known annotation format{'' if wanted == 'auto' else f' {wanted!r}'}; columns: {columns}",
        row=1,
        remedy="first row: video,subject,behaviour,start,stop; or a file as BORIS, ELAN, BENTO, DeepEthogram, SimBA, FERAL, V-TRACE "
        "or LISBET write it; where only column names can tell (SimBA), list the behaviours in foveate.yaml",
    )


def videos_named(source: Source, behaviours: tuple[str, ...], videos: Videos) -> set[str]:
    """Names of the videos that a file speaks of; a FoveateError when it cannot be read."""
    found = _find(source, behaviours, "auto")
    return set() if found is None else found.videos(source, videos)


def _find(source: Source, behaviours: tuple[str, ...], wanted: Wanted) -> Format | None:
    return next((f for f in FORMATS if wanted in ("auto", f.family) and f.sniff(source, behaviours)), None)
