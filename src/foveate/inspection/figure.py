"""Footage side by side in one figure: lightness and motion over time, shots, and what is to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from foveate.groups.figure import COLOURS
from foveate.inspection import Inspected, frequencies
from foveate.store import write_aside

_MOST = 15  # classes that are drawn
_BINS = 200  # places of a curve


def draw(found: Sequence[Inspected], path: Path, step: float) -> None:
    """Write the figure; the ending of ``path`` says how (.svg, .pdf, .png)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(one.group for one in found))
    # One place: its videos are told apart; several: the places are.
    keys = [one.name for one in found] if len(groups) == 1 else [one.group for one in found]
    names = list(dict.fromkeys(keys))
    colour = {name: COLOURS[k % len(COLOURS)] if len(names) <= len(COLOURS) else "#56707a" for k, name in enumerate(names)}
    with_classes = any(one.classes for one in found)
    figure = Figure(figsize=(9, 7.4 if with_classes else 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3 if with_classes else 2, 3, height_ratios=(1, 1, 1.3) if with_classes else (1, 1))
    light, moving = figure.add_subplot(grid[0, :2]), figure.add_subplot(grid[1, :2])
    spread, shots = figure.add_subplot(grid[0, 2]), figure.add_subplot(grid[1, 2])
    films = [one for one in found if np.isfinite(one.seconds)]
    unit, seconds = ("min", 60.0) if max((one.seconds for one in films), default=0) >= 180 else ("s", 1.0)
    for one, key in zip(found, keys, strict=True):
        if np.isfinite(one.seconds):
            width = 1.4 if len(found) <= 12 else 0.6
            light.plot(*_curve(one.time / seconds, one.lightness), color=colour[key], lw=width, alpha=0.9)
            moving.plot(*_curve(one.time / seconds, one.motion), color=colour[key], lw=width, alpha=0.9)
    light.set(ylabel="lightness L*", ylim=(0, 100))
    moving.set(ylabel=f"change of L* in {step:g} s", xlabel=f"time ({unit})", ylim=(0, None))
    values = [np.concatenate([one.lightness for one, key in zip(found, keys, strict=True) if key == name]) for name in names]
    _boxes(spread, values, names, colour)
    spread.set(ylabel="lightness of pictures, L*", ylim=(0, 100))
    rates = [
        [
            len(one.cuts) / one.seconds * 60
            for one, key in zip(found, keys, strict=True)
            if key == name and np.isfinite(one.seconds)
        ]
        for name in names
    ]
    shots.bar(
        range(len(names)),
        [float(np.mean(rate)) if rate else 0.0 for rate in rates],
        color=[colour[name] for name in names],
        width=0.6,
    )
    shots.set(
        ylabel="cuts per minute", ylim=(0, max(1.0, 1.1 * max((float(np.mean(rate)) for rate in rates if rate), default=0.0)))
    )
    _ticks(shots, names)
    if with_classes:
        _classes(figure.add_subplot(grid[2, :2]), figure.add_subplot(grid[2, 2]), found, groups)
    if 1 < len(names) <= len(COLOURS):
        handles = [_handle(colour[name]) for name in names]
        figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 4), frameon=False, fontsize=9)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _curve(time: Any, value: Any) -> tuple[Any, Any]:
    """At most ``_BINS`` places of it, each the mean of its stretch."""
    if len(time) <= _BINS:
        return time, value
    edges = np.linspace(0, len(time), _BINS + 1).astype(int)
    whole = [(time[a:b], value[a:b][np.isfinite(value[a:b])]) for a, b in pairwise(edges)]
    return [t.mean() for t, _ in whole], [v.mean() if len(v) else np.nan for _, v in whole]


def _boxes(axes: Any, values: Sequence[Any], names: Sequence[str], colour: dict[str, str]) -> None:
    """Median, quartiles, and the middle nine tenths."""
    drawn = axes.boxplot(values, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.6, positions=range(len(names)))
    for patch, name in zip(drawn["boxes"], names, strict=True):
        patch.set(facecolor=colour[name], alpha=0.75, linewidth=0.8)
    for line in drawn["medians"]:
        line.set(color="black", linewidth=1.4)
    _ticks(axes, names)


def _ticks(axes: Any, names: Sequence[str]) -> None:
    few = len(names) <= 7
    axes.set_xticks(
        range(len(names)) if few else [], [name if len(name) <= 14 else name[:13] + "…" for name in names] if few else []
    )
    axes.tick_params(axis="x", rotation=30 if len(names) > 2 else 0)
    if not few:
        axes.set_xlabel(f"{len(names)} videos")


def _classes(bars: Any, counts: Any, found: Sequence[Inspected], groups: Sequence[str]) -> None:
    shares = frequencies(found)
    shares = shares.iloc[:_MOST]
    width = 0.8 / max(1, len(shares.columns))
    for k, group in enumerate(shares.columns):
        place = np.arange(len(shares)) + (k - (len(shares.columns) - 1) / 2) * width
        bars.bar(place, shares[group], width, color=COLOURS[groups.index(group) % len(COLOURS)])
    bars.set(ylabel="share of pictures with it", ylim=(0, 1))
    bars.set_xticks(range(len(shares)), shares.index, rotation=40, ha="right")
    for group in groups:
        number = [len(classes) for one in found if one.group == group for classes in one.classes]
        if number:
            share = np.bincount(number) / len(number)
            counts.plot(range(len(share)), share, "o-", ms=3, color=COLOURS[groups.index(group) % len(COLOURS)])
    counts.set(xlabel="classes in a picture", ylabel="share of pictures", ylim=(0, None))


def _handle(colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, lw=3)
