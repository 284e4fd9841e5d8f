"""Geometry of the page's own figures: time axes, ethogram lanes, track strips. Numbers in, path data out; the template draws them.

All lanes share one coordinate system: time runs over 0..`WIDTH` units whatever the video's duration, heights are CSS pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 1000.0
"""Horizontal units of every time axis; lanes are stretched to the width of the page."""

COLOURS = 10
"""Number of behaviour colours in style.css (``--b0`` .. ``--b9``); behaviours beyond repeat them, their names tell them apart."""

Interval = tuple[float, float]
"""Start and stop in seconds, half-open."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Tick:
    """A mark on a time axis: position in percent of the width, and its text."""

    percent: float
    text: str


def clock(seconds: float) -> str:
    """``0:07``, ``12:30`` or ``1:02:03``; tenths are given below ten seconds when they are not zero."""
    tenths = round(seconds * 10)
    if tenths % 10 and seconds < 10:
        return f"0:{tenths / 10:04.1f}"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def span(seconds: float) -> str:
    """A duration in words that fit in a table: ``8.2 s``, ``4.5 min``, ``3.2 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def ticks(duration: float, at_most: int = 7) -> list[Tick]:
    """Round times from 0 to ``duration``, at most ``at_most`` of them."""
    if duration <= 0:
        return []
    step = next((s for s in _STEPS if duration / s <= at_most - 1), duration / (at_most - 1))
    return [Tick(100 * k * step / duration, clock(k * step)) for k in range(int(duration / step + 1e-9) + 1)]


def runs(values: Sequence[object] | NDArray[np.generic]) -> list[tuple[int, int]]:
    """``(first, past last)`` of every stretch of equal neighbours."""
    if not len(values):
        return []
    array = np.asarray(values)
    cuts = [0, *(np.flatnonzero(array[1:] != array[:-1]) + 1).tolist(), len(array)]
    return list(itertools.pairwise(cuts))


def stretches(
    values: NDArray[np.generic], wanted: object, start: NDArray[np.float64], length: NDArray[np.float64]
) -> list[Interval]:
    """Times in which ``values`` equals ``wanted``; row ``i`` stands for ``start[i] .. start[i] + length[i]``."""
    return [(float(start[a]), float(start[b - 1] + length[b - 1])) for a, b in runs(values) if values[a] == wanted]


def lane(
    intervals: Iterable[Interval], duration: float, top: float, height: float, gap: float = 0.05, least: float = 0.0
) -> str:
    """Path data of one rectangle per interval.

    Args:
        intervals: seconds, in any order, may overlap.
        duration: seconds of the whole axis.
        top, height: of the rectangles.
        gap: units; neighbours closer than this are drawn as one, which bounds the size of the page for flickering predictions of long
            videos. A unit is about a pixel.
        least: units; shorter rectangles are drawn this wide, so that a rare short bout in a long video can be seen.
    """
    if duration <= 0:
        return ""
    scale = WIDTH / duration
    merged: list[list[float]] = []
    for start, stop in sorted((max(0.0, a * scale), min(WIDTH, b * scale)) for a, b in intervals):
        if stop <= start:
            continue
        stop = max(stop, start + least)
        if merged and start - merged[-1][1] < gap:
            merged[-1][1] = max(stop, merged[-1][1])
        else:
            merged.append([start, stop])
    return "".join(f"M{_n(a)} {_n(top)}h{_n(b - a)}v{_n(height)}H{_n(a)}z" for a, b in merged)


def _n(value: float) -> str:
    """At most two decimals, no trailing zeros: the shortest text SVG reads."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


@dataclass(frozen=True)
class Row:
    """One behaviour in a raster: path data of its lanes (empty text: nothing to draw)."""

    behaviour: str
    colour: int
    truth: str
    unobserved: str
    predicted: str
    seconds_truth: float | None
    seconds_predicted: float | None


@dataclass(frozen=True)
class Raster:
    """The ethogram of one animal in one video."""

    video: str
    subject: str
    duration: float
    ticks: list[Tick]
    rows: list[Row]
    pitch: float  # height of a row in CSS pixels
    unseen: str  # path data over all rows: the subject was not seen
    unseen_share: float
    probe: str  # which probe predicted, in words
    described: str  # alternative text

    @property
    def height(self) -> float:
        return self.pitch * len(self.rows)
