"""Figures beside the main one: shares corrected for the probe's errors, shares in bins of time, transitions. Same input, same bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.groups.figure import COLOURS, colour, save, style

if TYPE_CHECKING:
    import pandas as pd


def corrected(table: pd.DataFrame, groups: Sequence[str], svg: Path) -> None:
    """Naive (open) and corrected (filled) mean share of every group with their 95 % intervals, one row per behaviour and group.

    Args:
        table: ``corrected.CORRECTED``.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    behaviours = list(dict.fromkeys(table["behaviour"]))
    with style():
        pitch = 0.16 * len(groups) + 0.12
        height = 0.75 + pitch * len(behaviours)
        figure = Figure(figsize=(5.2, height))
        axis = figure.subplots()
        step = 1 / (len(groups) + 0.75)
        for row, behaviour in enumerate(behaviours):
            for k, group in enumerate(groups):
                (cells,) = table[(table["behaviour"] == behaviour) & (table["group"] == group)].to_dict("records")
                at = row + (k - (len(groups) - 1) / 2) * step
                for name, shift, filled in (("naive", -0.21 * step, False), ("corrected", 0.21 * step, True)):
                    value, low, high = (100 * cells[f"{name}{end}"] for end in ("", "_low", "_high"))
                    if math.isfinite(value):
                        face = colour(k) if filled else "white"
                        axis.plot(
                            [low, high], [at + shift] * 2, color=colour(k), lw=1.0 if filled else 0.7, solid_capstyle="butt"
                        )
                        axis.plot([value], [at + shift], "o", ms=3.4, mfc=face, mec=colour(k), mew=0.8, zorder=3)
            if row:
                axis.axhline(row - 0.5, color="#dddddd", lw=0.5)
        axis.axvline(0, color="#999999", lw=0.5)
        axis.set_ylim(len(behaviours) - 0.5, -0.5)
        axis.set_yticks(
            range(len(behaviours)), [textwrap.shorten(b.replace("_", " "), 30, placeholder="…") for b in behaviours]
        )
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("mean share of seen time (%)")
        axis.spines[["top", "right", "left"]].set_visible(False)
        handles = [Line2D([], [], color=colour(k), lw=2, label=name) for k, name in enumerate(groups)]
        for words, face in (("predicted", "white"), ("corrected", "#444444")):
            handles.append(Line2D([], [], marker="o", linestyle="", mfc=face, mec="#444444", ms=3.4, label=words))
        figure.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False, borderaxespad=0.2)
        figure.subplots_adjust(left=0.21, right=0.98, top=1 - 0.28 / height, bottom=0.4 / height)
        save(figure, svg)


def bins(table: pd.DataFrame, groups: Sequence[str], svg: Path) -> None:
    """Share in bins of time: every animal thin, the mean of the group thick.

    Args:
        table: ``measures.BINS``.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    behaviours = list(dict.fromkeys(table["behaviour"]))
    seconds = float((table["stop"] - table["start"]).iloc[0])
    unit, scale = ("s", 1.0) if seconds < 60 else ("min", 60.0) if seconds < 3600 else ("h", 3600.0)
    columns = min(4, len(behaviours))
    rows = -(-len(behaviours) // columns)
    with style():
        width, height = columns * 1.75 + 0.3, rows * 1.35 + 0.5
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axis, behaviour in zip(axes, behaviours, strict=False):
            mine = table[table["behaviour"] == behaviour]
            for k, group in enumerate(groups):
                own = mine[mine["group"] == group].assign(middle=lambda t: (t["start"] + t["stop"]) / 2 / scale)
                for _, animal in own.groupby("subject", sort=False):
                    axis.plot(animal["middle"], 100 * animal["share"], color=colour(k), lw=0.5, alpha=0.35)
                average = own.groupby("middle")["share"].mean()
                axis.plot(average.index, 100 * average, color=colour(k), lw=1.5, marker="o", ms=2.5)
            axis.set_title(textwrap.fill(behaviour.replace("_", " "), 24), pad=3)
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
        for place, axis in enumerate(axes):
            axis.set_visible(place < len(behaviours))
            if place < len(behaviours) <= place + columns:
                axis.tick_params(labelbottom=True)
                axis.set_xlabel(f"time in the video ({unit})")
        figure.supylabel("share of seen time (%)", fontsize=7.5, x=0.012)
        handles = [Line2D([], [], color=colour(k), lw=2, label=name) for k, name in enumerate(groups)]
        figure.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False, borderaxespad=0.2)
        figure.subplots_adjust(
            left=0.48 / width, right=1 - 0.08 / width, top=1 - 0.42 / height, bottom=0.38 / height, wspace=0.3, hspace=0.5
        )
        save(figure, svg)


def transitions(table: pd.DataFrame, groups: Sequence[str], svg: Path) -> None:
    """What follows what: of two groups the difference of the animals' mean probabilities, of more one matrix for each group.

    Args:
        table: ``measures.TRANSITIONS``.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    behaviours = list(dict.fromkeys(table["behaviour"]))
    means = [_means(table[table["group"] == group], behaviours) for group in groups]
    two = len(groups) == 2
    shown = [means[0] - means[1]] if two else means
    titles = [f"{groups[0]} less {groups[1]}"] if two else list(groups)
    colours = [COLOURS[1], "#ffffff", COLOURS[0]] if two else ["#ffffff", COLOURS[0]]
    shades = LinearSegmentedColormap.from_list("foveate", colours).with_extremes(bad="#e6e6e6")
    largest = max((float(np.nanmax(np.abs(m))) for m in shown if np.isfinite(m).any()), default=1.0) or 1.0
    with style():
        side = 0.34 * len(behaviours)
        width, height = (side + 0.25) * len(shown) + 1.0, side + 1.2
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True).ravel()
        names = [textwrap.shorten(b.replace("_", " "), 22, placeholder="…") for b in behaviours]
        for axis, matrix, title in zip(axes, shown, titles, strict=True):
            axis.imshow(np.ma.masked_invalid(matrix), cmap=shades, vmin=-largest if two else 0, vmax=largest)
            axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(len(names)), names)
            axis.tick_params(length=0)
            axis.set_title(title, pad=4)
            axis.spines[:].set_visible(False)
            for i, j in np.argwhere(np.isfinite(matrix)):
                value = round(100 * float(matrix[i, j]))
                pale = abs(matrix[i, j]) < 0.62 * largest
                text = f"{value:+d}".replace("-", "−") if two and value else f"{value}"
                axis.text(j, i, text, ha="center", va="center", fontsize=6, color="#222222" if pale else "white")
        figure.supxlabel("next behaviour", fontsize=7.5, y=0.02)
        axes[0].set_ylabel("after")
        left = 1.0 / width
        figure.subplots_adjust(left=left, right=1 - 0.08 / width, top=1 - 0.25 / height, bottom=0.92 / height, wspace=0.08)
        save(figure, svg)


def _means(table: pd.DataFrame, behaviours: Sequence[str]) -> Any:
    """f64[L, L]: mean probability over the animals, NaN on the diagonal and where fewer than two animals have one."""
    out = np.full((len(behaviours), len(behaviours)), np.nan)
    values = table[table["probability"].notna()].groupby(["behaviour", "to"])["probability"]
    mean, count = values.mean(), values.size()
    for i, behaviour in enumerate(behaviours):
        for j, to in enumerate(behaviours):
            if count.get((behaviour, to), 0) >= 2:
                out[i, j] = mean[behaviour, to]
    return out
