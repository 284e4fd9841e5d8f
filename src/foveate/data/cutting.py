"""Where clips can be cut out of a source, and which pictures they are made of.

Time decides, never a number of frames: a clip's frames are those nearest to start, start + step, start + 2 step, ... on the timeline of
the video, so that variable frame rates and another rate of the store change nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.data.clips import Shape
from foveate.data.sources import Source

Numbers = NDArray[np.int64]

_SLACK = 1e-6  # seconds: rounding of times


def positions(source: Source, shape: Shape, starts: Numbers) -> Numbers:
    """i64[N, T]: the pictures, by their positions in the source, of clips that begin at ``starts``, i64[N]."""
    if shape.frames == 1:
        return starts[:, None]
    time = source.time
    wanted = time[starts][:, None] + shape.step * np.arange(shape.frames)
    after = np.searchsorted(time, wanted).clip(1, len(time) - 1) if len(time) > 1 else np.zeros(wanted.shape, np.int64)
    before = np.maximum(after - 1, 0)
    found: Numbers = np.where(wanted - time[before] <= time[after] - wanted + _SLACK, before, after)
    return found


def starts(source: Source, shape: Shape) -> Numbers:
    """i64[M]: the positions at which a clip can begin.

    Its frames are different pictures of one stretch, each within half a step of its instant; so a clip neither ends beyond the last
    picture nor lies across a cut or a gap, nor stands still because a store has too few pictures.
    """
    every = np.arange(len(source))
    if shape.frames == 1 or not len(every):
        return every
    if len(every) < shape.frames or not np.isfinite(source.time).all():
        return every[:0]
    found = positions(source, shape, every)
    beyond = source.time + shape.span - source.time[-1]
    off = np.abs(source.time[found] - source.time[:, None] - shape.step * np.arange(shape.frames)).max(axis=1)
    good: NDArray[np.bool_] = (np.diff(found, axis=1) > 0).all(axis=1) & (off <= shape.step / 2 + _SLACK)
    good &= beyond <= np.median(np.diff(source.time)) / 2 + _SLACK
    if source.stretch is not None:
        good &= source.stretch[found[:, 0]] == source.stretch[found[:, -1]]
    return every[good]


def pieces(source: Source, shape: Shape, begin: Numbers) -> NDArray[np.int64]:
    """i64[P, 2]: of each piece of footage the first of its starts among ``begin`` and the one after its last; pieces without any are
    left out.

    A source is cut into as many pieces of equal length as ``shape.piece`` goes into it, at least one, and a clip lies in one piece.
    """
    if not len(begin):
        return np.empty((0, 2), np.int64)
    if shape.piece is None or not np.isfinite(source.time).all():
        return np.array([[0, len(begin)]])
    usual = float(np.median(np.diff(source.time))) if len(source) > 1 else 0.0  # as long as the last picture may stand
    first, last = float(source.time[0]), float(source.time[-1]) + usual
    edges = np.linspace(first, last, max(1, int((last - first + _SLACK) / shape.piece)) + 1)
    begins, ends = source.time[begin], source.time[positions(source, shape, begin)[:, -1]]
    low = np.searchsorted(begins, edges[:-1] - _SLACK)
    high = np.searchsorted(ends, edges[1:] + _SLACK, "right")
    return np.column_stack([low, high])[low < high].astype(np.int64)


def refusal(source: Source, shape: Shape) -> str:
    """Why no clip can be cut out of a source, in words."""
    if not np.isfinite(source.time).all():
        return f"{source.name}: pictures without a time make no clips"
    if len(source) == 1:
        return f"{source.name}: one picture makes no clip"
    lasts, between = float(source.time[-1] - source.time[0]), float(np.median(np.diff(source.time)))
    if lasts + _SLACK < shape.span:
        return f"{source.name}: {lasts:.2f} s is shorter than {shape.words} ({shape.span:g} s)"
    if between > shape.step + _SLACK:
        return f"{source.name}: its pictures are {between:.3g} s apart, too far for {shape.words}"
    return f"{source.name}: between cuts and gaps it is nowhere as long as {shape.words} ({shape.span:g} s)"
