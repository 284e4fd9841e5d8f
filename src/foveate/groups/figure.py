"""The figure of a comparison: one small panel per behaviour, two boxes of animals, and whether they differ. Same input, same bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.store import write_aside

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, blue and vermilion first: told apart by colour-blind readers, the first two in grey as well."""

_COLUMNS = 5
_PANEL = (1.42, 1.75)  # inches
_DPI = 200


@dataclass(frozen=True, eq=False)
class Panel:
    """One behaviour: share of seen time of every animal of every group, 0 to 1, and the words or stars above them."""

    behaviour: str
    groups: Sequence[NDArray[np.float64]]
    mark: str


def draw(
    panels: Sequence[Panel],
    groups: Sequence[str],
    sizes: Sequence[int],
    footnote: str,
    svg: Path,
    png: Path,
    paired: bool = False,
) -> None:
    """Write the figure as SVG and PNG (200 dpi).

    Boxes span the quartiles with the median, whiskers reach the last animal within 1.5 interquartile ranges, every dot is an animal; of
    pairs a line joins the two dots of an animal, which stand in the same place of both groups.
    """
    columns = min(_COLUMNS, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    with style():
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        wide = _PANEL[0] * max(1.0, 0.55 + 0.225 * len(groups))
        width = max(columns * wide + 0.35, 3.4)
        lines = textwrap.wrap(footnote, round(width * 22))
        below = 0.14 + 0.11 * len(lines)
        height = rows * _PANEL[1] + 0.32 + below
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _panel(axis, panel, paired)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.supylabel("share of seen time (%)", fontsize=7.5, x=0.012)
        handles = [
            Line2D([], [], marker="o", linestyle="", color=colour(k), markersize=4, label=f"{name} (n = {size})")
            for k, (name, size) in enumerate(zip(groups, sizes, strict=True))
        ]
        figure.legend(handles=handles, loc="upper center", ncols=4, frameon=False, fontsize=7.5, borderaxespad=0.3)
        figure.text(0.5, 0.05 / height, "\n".join(lines), ha="center", va="bottom", fontsize=6, color="#444444")
        figure.subplots_adjust(
            left=0.48 / width,
            right=1 - 0.08 / width,
            top=1 - 0.5 / height,
            bottom=below / height,
            wspace=0.5,
            hspace=0.38,
        )
        save(figure, svg, png)


@contextmanager
def style() -> Iterator[None]:
    """What all figures have in common: type for a printed column, and nothing that differs between two runs."""
    import matplotlib

    settings: Any = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
        "font.size": 7,
        "axes.titlesize": 7.5,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "ytick.major.size": 2.5,
        "xtick.major.size": 2.5,
        "svg.hashsalt": "foveate",
        "svg.fonttype": "path",
        "path.simplify": False,
        "text.parse_math": False,  # a behaviour may be called $x$
    }
    with matplotlib.rc_context(settings):
        yield


UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
"""Metadata that would differ between two runs, by kind of file."""


def save(figure: Any, svg: Path, png: Path | None = None, pdf: bool = True) -> None:
    """Write aside, without dates; the PDF beside the SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    files = [(svg, "svg"), *([(svg.with_suffix(".pdf"), "pdf")] if pdf else []), *([(png, "png")] if png else [])]
    for path, kind in files:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=UNDATED[kind])
        with write_aside(path) as aside:
            aside.write_bytes(buffer.getvalue())


def colour(group: int) -> str:
    """Of a group, by its number."""
    return COLOURS[group % len(COLOURS)]


def _panel(axis: Any, panel: Panel, paired: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    groups = [100 * values for values in panel.groups]
    for place, values in enumerate(groups):
        own = colour(place)
        axis.boxplot(
            [values],
            positions=[place],
            widths=0.56,
            patch_artist=True,
            showfliers=False,  # every animal is drawn below
            manage_ticks=False,
            boxprops={"facecolor": own + "33", "edgecolor": own, "linewidth": 0.8},
            medianprops={"color": own, "linewidth": 1.4},
            whiskerprops={"color": own, "linewidth": 0.8},
            capprops={"color": own, "linewidth": 0.8},
        )
    top = max(float(v.max()) for v in groups)
    limit = top * 1.22 or 1.0
    shifts = [beeswarm(values / limit) for values in groups]
    if paired:
        ends = [place + shift for place, shift in enumerate(shifts)]
        axis.plot(np.stack(ends), np.stack(groups), color="#888888", lw=0.5, zorder=2.5)
    for place, (values, shift) in enumerate(zip(groups, shifts, strict=True)):
        axis.plot(place + shift, values, "o", ms=2.6, mfc=colour(place), mec="white", mew=0.3, zorder=3)
    last = len(groups) - 1
    axis.set_xlim(-0.6, last + 0.6)
    axis.set_ylim(-0.03 * limit, limit)
    axis.set_xticks([])
    axis.set_title(textwrap.fill(panel.behaviour.replace("_", " "), 18), pad=4)
    axis.spines[["top", "right"]].set_visible(False)
    axis.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    if top == 0:
        axis.text(last / 2, 0.12 * limit, panel.mark, ha="center", va="bottom", fontsize=6, color="#444444")
    else:
        line, tick = top + 0.07 * limit, 0.02 * limit
        axis.plot([0, 0, last, last], [line - tick, line, line, line - tick], color="black", lw=0.6)
        strong = panel.mark.startswith("*")
        above = line - (0.012 if strong else -0.015) * limit
        axis.text(last / 2, above, panel.mark, ha="center", va="bottom", fontsize=8 if strong else 6)


def beeswarm(height: NDArray[np.float64], size: float = 0.055, step: float = 0.11) -> NDArray[np.float64]:
    """Sideways shifts so that dots do not cover each other: each dot takes the place nearest to the middle that is free.

    Args:
        height: vertical positions, 1 being the height of the panel.
        size: dots nearer than this in height need different places, ``step`` apart.
    """
    shift = np.zeros(len(height))
    done: list[int] = []
    for i in np.argsort(height, kind="stable"):
        taken = {round(shift[j] / step) for j in done if abs(height[i] - height[j]) < size}
        place = next(p for k in range(len(height) + 1) for p in ((k + 1) // 2 * (-1) ** k,) if p not in taken)
        shift[i] = place * step
        done.append(int(i))
    largest = float(np.abs(shift).max()) if len(shift) else 0.0
    return shift * (0.26 / largest) if largest > 0.26 else shift
