"""Reading ``.annot`` files of BENTO (and of MARS and CalMS21, which write the same).

BENTO counts frames from 1 and writes the first and the last frame of a bout, as frames or divided by the ``Annotation framerate``
(``loadAnnotSheetTxt.m``, ``convertToBouts.m``); times have a fraction somewhere. Both are turned into frames, as BENTO does, and these
into the video's own times: the written rate is a nominal one. A bout ends when its last frame does.

A channel is a subject where it is named as one, the only one there is says nothing, and others are annotators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.annotations.source import Given, Source, media_video
from foveate.annotations.tables import Doubt, Entry, Reading, Span, Videos, seconds
from foveate.project import Video

_CHANNEL = re.compile(r"(.*?)-{10,}\s*")
_RATE = 30.0
"""Frames per second that BENTO takes where none is written."""


def is_bento(source: Source) -> bool:
    return source.head.lstrip().lower().startswith("bento annotation file")


@dataclass(frozen=True)
class _Row:
    row: int
    channel: str
    behaviour: str
    cells: tuple[str, ...]


def read_bento(source: Source, given: Given) -> Reading:
    """The bouts of all channels; every subject counts as observed through the whole video."""
    lines = source.text().splitlines()
    video = _video(source, lines, given.videos)
    rows = list(_rows(lines))
    if not any(_CHANNEL.fullmatch(line) for line in lines):
        raise source.refuse("no channel begins in it: a line like Ch1---------- is missing")
    rate = seconds(_about(lines, "Annotation framerate")) or _RATE
    edges = np.append(given.times(video), given.duration(video))
    in_frames = all((value := seconds(row.cells[0])) is None or value == round(value) for row in rows)
    channels = {row.channel for row in rows}
    subjects = {name.casefold() for name in video.subjects}
    out = Reading()
    for channel in sorted(channels):
        own = channel.casefold() in subjects
        first = next(row.row for row in rows if row.channel == channel)
        out.spans.append(Span(first, video, channel if own else "", annotator="" if own or len(channels) == 1 else channel))
    for row in rows:
        own = row.channel.casefold() in subjects
        subject, annotator = row.channel if own else "", "" if own or len(channels) == 1 else row.channel
        found = [_frame(cell, rate, in_frames) for cell in row.cells[:2]]
        first_frame, last_frame = found if len(found) == 2 else (None, None)
        if first_frame is None or last_frame is None or not 1 <= first_frame <= last_frame:
            out.problems.append(
                source.refuse(f"{' '.join(row.cells)[:60]!r} is not the start and stop of a bout of {row.behaviour!r}", row.row)
            )
            out.doubts.append(Doubt(video, subject, row.behaviour))
            continue
        start, stop = _time(first_frame - 1, edges), _time(last_frame, edges)
        out.entries.append(Entry(row.row, video, subject, row.behaviour, start, stop, "state", annotator))
    return out


def bento_videos(source: Source, videos: Videos) -> set[str]:
    return {_video(source, source.text().splitlines(), videos).name}


def _video(source: Source, lines: list[str], videos: Videos) -> Video:
    movies = _about(lines, "Movie file(s)")
    parts = [part.strip() for part in re.split(r"[;,\t]", movies)]
    return media_video([text for text in (movies, *parts) if text], source.path, videos)


def _about(lines: list[str], name: str) -> str:
    """What stands behind ``name:`` before the lists."""
    for line in lines[:40]:
        if line.lower().startswith(name.lower()):
            return line.partition(":")[2].strip()
    return ""


def _rows(lines: list[str]) -> Iterator[_Row]:
    channel = behaviour = ""
    known = {"start", "stop", "duration"}
    inside = False
    for number, line in enumerate(lines, start=1):
        if match := _CHANNEL.fullmatch(line):
            channel, inside = match[1].strip(), True
        elif inside and line.startswith(">"):
            behaviour = line[1:].strip()
        elif inside and (cells := tuple(line.split())) and not {cell.lower() for cell in cells} <= known:
            yield _Row(number, channel, behaviour, cells)


def _frame(text: str, rate: float, in_frames: bool) -> int | None:
    value = seconds(text)
    if value is None or abs(value) > 1e9 or rate > 1e5:
        return None
    return round(value if in_frames else value * rate)


def _time(edge: int, edges: NDArray[np.float64]) -> float:
    """When frame ``edge`` (from 0) starts; behind the end, as many mean frames later, so that the check against the video says so."""
    last = len(edges) - 1
    if edge <= last:
        return float(edges[edge])
    return float(edges[last]) + (edge - last) * float(edges[last]) / max(last, 1)
