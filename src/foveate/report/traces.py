"""Area, speed and certainty of a track over time: three small curves in which a wrong track shows as a jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.report.figures import WIDTH
from foveate.schema import SEEN

if TYPE_CHECKING:
    import pandas as pd

BINS = 160
"""Points of a curve at most: each the median of its stretch of time, beside the lowest and the highest value there."""

HEIGHT = 28.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """One curve as path data over ``WIDTH`` x ``HEIGHT``."""

    name: str
    top: str  # value at the upper edge
    line: str  # medians; broken where the subject is not seen
    band: str  # from the lowest to the highest value
    described: str


def traces(rows: pd.DataFrame, duration: float) -> list[Trace]:
    """Of one subject in one view.

    Args:
        rows: ``time``, ``state``, ``x``, ``y``, ``w``, ``h``, ``area``, ``score``, ``identity_score`` of its analysed frames, in order.
        duration: seconds of the video.
    """
    seen = rows["state"].isin(SEEN).to_numpy()
    if not seen.any() or duration <= 0:
        return []
    time = rows["time"].to_numpy(np.float64)
    area = np.where(seen, rows["area"].to_numpy(np.float64), np.nan)
    out = [_trace("area", "pixels", time, area, duration, None)]
    out.append(_trace("speed", "body lengths/s", time, speed(rows, seen), duration, None))
    out.append(_trace("certainty", "", time, certainty(rows, seen), duration, 1.0))
    return [trace for trace in out if trace is not None]


def certainty(rows: pd.DataFrame, seen: NDArray[np.bool_]) -> Floats:
    """float64[N] in 0..1: the lower of the two numbers that say how sure the tracker is; NaN where nothing is seen or neither is given."""
    score, identity = rows["score"].to_numpy(np.float64), rows["identity_score"].to_numpy(np.float64)
    return np.where(seen, np.fmin(score, identity), np.nan)


def body_length(rows: pd.DataFrame, seen: NDArray[np.bool_]) -> float:
    """Pixels: the median of the longer side of the box, which one wrong frame does not change."""
    return float(np.median(rows[["w", "h"]].to_numpy(np.float64).max(axis=1)[seen])) if seen.any() else np.nan


def speed(rows: pd.DataFrame, seen: NDArray[np.bool_]) -> Floats:
    """float64[N]: body lengths per second that the centre of the box moved since the analysed frame before; NaN unless both are seen."""
    x = rows["x"].to_numpy(np.float64) + rows["w"].to_numpy(np.float64) / 2
    y = rows["y"].to_numpy(np.float64) + rows["h"].to_numpy(np.float64) / 2
    step = np.diff(rows["time"].to_numpy(np.float64))
    out = np.full(len(rows), np.nan)
    out[1:] = np.hypot(np.diff(x), np.diff(y)) / np.where(step > 0, step, np.nan) / body_length(rows, seen)
    return np.where(seen & np.concatenate([[False], seen[:-1]]), out, np.nan)


def _trace(name: str, unit: str, time: Floats, values: Floats, duration: float, top: float | None) -> Trace | None:
    at = np.minimum((time / duration * min(BINS, max(1, len(time)))).astype(int), BINS - 1)
    known = ~np.isnan(values)
    if not known.any():
        return None
    places = np.unique(at)
    low, middle, high = np.full((3, len(places)), np.nan)
    for k, place in enumerate(places):
        inside = values[(at == place) & known]
        if len(inside):
            low[k], middle[k], high[k] = inside.min(), np.median(inside), inside.max()
    # A single wrong frame must not flatten the curve: it is cut off at the upper edge.
    upper = top or float(max(np.nanmax(middle), np.nanpercentile(values, 99))) or 1.0
    x = np.array([time[at == place].mean() for place in places]) / duration * WIDTH

    def y(value: Floats) -> Floats:
        return HEIGHT * (1 - np.clip(value / upper, 0, 1))

    least, typical, most = (_short(float(value)) for value in (np.nanmin(values), np.nanmedian(values), np.nanmax(values)))
    return Trace(
        name=name,
        top=f"{_short(upper)} {unit}".strip(),
        line=_lines(x, y(middle)),
        band=_band(x, y(high), y(low)),
        described=f"{name}{f' in {unit}' if unit else ''}: median {typical}, from {least} to {most}",
    )


def _lines(x: Floats, y: Floats) -> str:
    """``M`` where a stretch begins, ``L`` within; a point that stands alone is drawn as a dash."""
    out = []
    for a, b in _stretches(~np.isnan(y)):
        points = [f"{x[k]:.0f} {y[k]:.1f}" for k in range(a, b)]
        out.append(f"M{points[0]}h2" if len(points) == 1 else "M" + "L".join(points))
    return "".join(out)


def _band(x: Floats, upper: Floats, lower: Floats) -> str:
    out = []
    for a, b in _stretches(~np.isnan(upper)):
        if (lower[a:b] - upper[a:b]).max() > 0.5:
            there = [f"{x[k]:.0f} {upper[k]:.1f}" for k in range(a, b)]
            back = [f"{x[k]:.0f} {lower[k]:.1f}" for k in reversed(range(a, b))]
            out.append("M" + "L".join(there + back) + "z")
    return "".join(out)


def _stretches(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _short(value: float) -> str:
    """Two figures that matter: 12 000, 350, 4.2, 0.87."""
    if value >= 100:
        return f"{float(f'{value:.2g}'):,.0f}".replace(",", "\u202f")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value < 1 else f"{value:.1f}"
