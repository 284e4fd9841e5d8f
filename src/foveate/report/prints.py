"""The page's figures and tables as files for a paper: ``report/figures`` (SVG and PDF) and ``report/tables`` (CSV).

Figures that a stage drew are copied. Those that exist on the page only are drawn here again from the same numbers, for print: white ground,
type of 5 to 8 points, the page's colours. Same inputs, same bytes.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.groups.figure import UNDATED, save, style
from foveate.report import checkpoints, ethograms, figures, quality, scores, tracks
from foveate.report.sources import Sources
from foveate.report.track_quality import track_tables
from foveate.schema import FoveateError
from foveate.store import Artefact, write_aside, write_text

COLOURS = ("#0072b2", "#d87a00", "#009e73", "#c973a8", "#d1492a", "#4a2c12", "#a39f98", "#56aee0", "#3f4d00", "#701a4a")
"""``--b0`` to ``--b9`` of style.css, on white."""

_INK, _MUTED, _FAINT, _TRUTH = "#1d2024", "#5b626c", "#e3e1da", "#33383f"
_STATES = {
    "sure": ("#9fb4c4", "seen"),
    "uncertain": ("#e3a72f", "uncertain"),
    "lost": ("#c2411c", "lost"),
    "absent": (_FAINT, "absent"),
}
_WIDTH, _TALLEST = 7.2, 9.6  # inches: the text of a page
_LANE, _HEAD = 0.105, 0.36  # inches: height of a behaviour in an ethogram, and of what stands around it
_LEFT = 1.15  # inches for names


def write(
    target: Artefact,
    sources: Sources,
    drawn: Sequence[ethograms.Timed],
    budgets: Sequence[ethograms.Budget],
    colours: Mapping[str, int],
    scored: scores.Main | None,
    followed: Sequence[tracks.Sheet],
    judged: quality.Quality,
    evaluated: checkpoints.Shown | None,
) -> list[dict[str, str | None]]:
    """Write all figures and tables that the study has into the report's folder.

    Returns:
        Problems: files of other stages that are damaged and could not be copied.
    """
    folder = target.path("figures")
    with style():
        _ethograms(folder, drawn, colours)
        if budgets:
            _budgets(folder, budgets, colours)
        if scored is not None and scored.sides:
            _scores(folder, scored)
        if followed:
            _tracks(folder, followed)
        if judged.panels:
            _reliability(folder, judged.panels)
        if judged.curves:
            _curves(folder, judged.curves)
        if evaluated is not None:
            _panels(folder / "pretraining_steps.svg", evaluated.panels, "F1 against steps of pretraining")
            if evaluated.windows:
                _panels(folder / "pretraining_windows.svg", evaluated.windows, "macro F1 against frames seen at once")
    _tables(target, budgets, colours, followed)
    problems = []
    for stage, item in (
        ("probe", sources.probe),
        ("curve", sources.probe),
        ("compare", ""),
        ("attend", ""),
        ("checkpoints", ""),
    ):
        if sources.has(stage, item):
            problems += _copy(sources.get(stage, item), target)
    return problems


def _copy(made: Artefact, target: Artefact) -> list[dict[str, str | None]]:
    """Figures and tables that a stage wrote, under its name."""
    problems = []
    for kind, place in ((".svg", "figures"), (".pdf", "figures"), (".csv", "tables")):
        for name in made.files(kind):
            try:
                source = made.checked(name)
            except FoveateError as error:
                problems.append({"problem": error.problem, "file": str(error.file), "row": None, "remedy": error.remedy})
                continue
            with write_aside(target.path(place) / f"{made.stage}_{Path(name).name}") as aside:
                shutil.copyfile(source, aside)
    return problems


def _ethograms(folder: Path, drawn: Sequence[ethograms.Timed], colours: Mapping[str, int]) -> None:
    """As many recordings on a page as fit; one SVG a page, one PDF of all pages."""
    pages: list[list[ethograms.Timed]] = []
    height = _TALLEST + 1
    for timed in drawn:
        needed = _HEAD + _LANE * len(colours) * (2 if timed.truth is not None else 1)
        if height + needed > _TALLEST:
            pages.append([])
            height = 0.0
        pages[-1].append(timed)
        height += needed
    from matplotlib.backends.backend_pdf import PdfPages

    if not pages:
        return
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata=UNDATED["pdf"]) as document:
        for number, page in enumerate(pages, 1):
            figure = _page(page, colours)
            save(figure, folder / (f"ethograms_{number:03d}.svg" if len(pages) > 1 else "ethograms.svg"), pdf=False)
            document.savefig(figure)
    with write_aside(folder / "ethograms.pdf") as aside:
        aside.write_bytes(buffer.getvalue())


def _page(page: Sequence[ethograms.Timed], colours: Mapping[str, int]) -> Any:
    """One set of axes in inches from the top left; a set for every recording would take ten times as long."""
    lanes = [_LANE * len(colours) * (2 if timed.truth is not None else 1) for timed in page]
    height = sum(lanes) + _HEAD * len(page) + 0.05
    figure, axis = _canvas(_WIDTH, height)
    wide, top = _WIDTH - _LEFT - 0.12, 0.0
    for timed, tall in zip(page, lanes, strict=True):
        who = timed.video if timed.subject == timed.video else f"{timed.video}, {timed.subject}"
        axis.text(_LEFT, top + 0.13, who, fontsize=7, color=_INK, va="baseline")
        top += 0.18
        scale = wide / timed.duration if timed.duration else 0.0
        _boxes(axis, timed.unseen, scale, top, tall, _FAINT)
        row = tall / len(colours)
        for place, (behaviour, colour) in enumerate(colours.items()):
            at = top + place * row
            axis.text(_LEFT - 0.06, at + row / 2, behaviour, fontsize=5.5, color=_INK, ha="right", va="center")
            if timed.truth is not None:
                _boxes(axis, timed.truth.get(behaviour, []), scale, at + 0.08 * row, 0.4 * row, _TRUTH)
                _boxes(axis, timed.predicted.get(behaviour, []), scale, at + 0.52 * row, 0.4 * row, COLOURS[colour])
            else:
                _boxes(axis, timed.predicted.get(behaviour, []), scale, at + 0.1 * row, 0.8 * row, COLOURS[colour])
        top += tall
        axis.plot([_LEFT, _LEFT + wide], [top + 0.02] * 2, color=_MUTED, lw=0.5)
        for tick in figures.ticks(timed.duration):
            x = _LEFT + wide * tick.percent / 100
            axis.plot([x, x], [top + 0.02, top + 0.045], color=_MUTED, lw=0.5)
            side = "right" if tick.percent > 96 else "left" if tick.percent < 4 else "center"
            axis.text(x, top + 0.06, tick.text, fontsize=5, color=_MUTED, ha=side, va="top")
        top += _HEAD - 0.18
    return figure


def _boxes(axis: Any, intervals: Sequence[figures.Interval], scale: float, top: float, height: float, colour: str) -> None:
    from matplotlib.collections import PolyCollection

    corners = []
    for start, stop in intervals:
        left, right = _LEFT + start * scale, _LEFT + max(stop * scale, start * scale + 0.004)
        corners.append([(left, top), (right, top), (right, top + height), (left, top + height)])
    if corners:
        axis.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="none", antialiaseds=False))


def _budgets(folder: Path, budgets: Sequence[ethograms.Budget], colours: Mapping[str, int]) -> None:
    """A field of shares: animals down, behaviours across."""
    ordered = sorted(budgets, key=lambda b: (b.groups, b.subject))
    behaviours = [b for b in colours if any(b in budget.seconds for budget in ordered)]
    wide, tall = (_WIDTH - _LEFT - 0.75) / max(6, len(behaviours)), 0.17
    figure, axis = _canvas(_WIDTH, 0.75 + tall * len(ordered))
    for column, behaviour in enumerate(behaviours):
        axis.text(_LEFT + 0.7 + (column + 0.5) * wide, 0.55, behaviour, fontsize=6, ha="center", va="bottom", rotation=20)
    for row, budget in enumerate(ordered):
        top = 0.62 + row * tall
        axis.text(_LEFT - 0.06, top + tall / 2, budget.subject, fontsize=6, ha="right", va="center", color=_INK)
        axis.text(_LEFT, top + tall / 2, ", ".join(budget.groups), fontsize=5.5, va="center", color=_MUTED)
        for column, behaviour in enumerate(behaviours):
            share, left = budget.share(behaviour), _LEFT + 0.7 + column * wide
            if share is None:
                axis.text(left + wide / 2, top + tall / 2, "–", fontsize=6, ha="center", va="center", color=_MUTED)
                continue
            _bar(axis, left + 0.02, top + 0.02, (wide - 0.04) * share, tall - 0.04, COLOURS[colours[behaviour]], 0.45)
            axis.text(left + wide - 0.05, top + tall / 2, f"{100 * share:.0f} %", fontsize=5.5, ha="right", va="center")
    save(figure, folder / "time_budgets.svg")


def _scores(folder: Path, scored: scores.Main) -> None:
    """F1 of every behaviour with its interval, one row a behaviour, one mark a side."""
    names = [line.behaviour for line in scored.sides[0].lines]
    tall, wide = 0.24, _WIDTH - _LEFT - 1.6
    figure, axis = _canvas(_WIDTH, 0.55 + tall * (len(names) + 1))
    bottom = 0.1 + tall * (len(names) + 1)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + wide * value
        axis.plot([x, x], [0.1, bottom], color=_FAINT, lw=0.6, zorder=0)
        axis.text(x, bottom + 0.05, f"{value:g}", fontsize=6, ha="center", va="top", color=_MUTED)
    axis.text(_LEFT + wide / 2, bottom + 0.19, "F1, 95 % interval", fontsize=6.5, ha="center", va="top", color=_INK)
    for place, side in enumerate(scored.sides):
        cells = {line.behaviour: line.cell for line in side.lines} | {"macro average": side.macro}
        colour, mark = (COLOURS[0], "o") if place == 0 else (COLOURS[1], "D")
        shift = (place - (len(scored.sides) - 1) / 2) * 0.3
        for row, name in enumerate([*names, "macro average"]):
            cell, y = cells.get(name), 0.1 + tall * (row + 0.5 + shift)
            if cell is None or cell.f1 is None:
                continue
            if cell.low is not None and cell.high is not None:
                axis.plot([_LEFT + wide * cell.low, _LEFT + wide * cell.high], [y, y], color=colour, lw=1)
            axis.plot([_LEFT + wide * cell.f1], [y], mark, color=colour, ms=3.6)
            if place == 0:
                text = f"{cell.f1:.2f}" + (f"  ({scores.interval(cell)})" if scores.interval(cell) else "")
                axis.text(_LEFT + wide + 0.12, y, text, fontsize=6, va="center", color=_INK)
        axis.plot([_LEFT + wide + 0.14], [bottom + 0.09 + 0.14 * place], mark, color=colour, ms=3.6)
        axis.text(_LEFT + wide + 0.22, bottom + 0.09 + 0.14 * place, side.title.lower(), fontsize=6, va="center", color=_INK)
    for row, name in enumerate([*names, "macro average"]):
        weight = "bold" if row == len(names) else "normal"
        axis.text(_LEFT - 0.08, 0.1 + tall * (row + 0.5), name, fontsize=6.5, ha="right", va="center", weight=weight)
    save(figure, folder / "recognition.svg")


def _tracks(folder: Path, followed: Sequence[tracks.Sheet]) -> None:
    """Share of analysed frames with the animal seen, uncertain, lost and absent, per video."""
    tall, wide = 0.13, _WIDTH - _LEFT - 0.6
    figure, axis = _canvas(_WIDTH, 0.55 + tall * len(followed))
    bottom = 0.05 + tall * len(followed)
    for row, sheet in enumerate(followed):
        top = 0.05 + row * tall
        axis.text(_LEFT - 0.06, top + tall / 2, sheet.video, fontsize=5.5, ha="right", va="center", color=_INK)
        left = _LEFT
        for kind, (colour, _) in _STATES.items():
            width = wide * sum(counts[kind] for counts in sheet.animals.values()) / max(1, sheet.frames)
            _bar(axis, left, top + 0.02, width, tall - 0.04, colour, 1.0)
            left += width
        axis.text(_LEFT + wide + 0.06, top + tall / 2, f"{100 * sheet.share_seen:.1f} %", fontsize=5.5, va="center")
    axis.text(_LEFT + wide / 2, bottom + 0.1, "share of the analysed frames; number: seen", fontsize=6.5, ha="center", va="top")
    for place, (colour, words) in enumerate(_STATES.values()):
        left = _LEFT + wide * (0.1 + 0.22 * place)
        _bar(axis, left, bottom + 0.3, 0.16, 0.08, colour, 1.0)
        axis.text(left + 0.22, bottom + 0.34, words, fontsize=6, va="center", color=_INK)
    save(figure, folder / "tracks.svg")


def _reliability(folder: Path, panels: Sequence[quality.Panel]) -> None:
    """Share of positives against mean probability, a field for every behaviour."""
    across, side, gap = 5, 1.16, 0.2
    down = -(-len(panels) // across)
    figure, axis = _canvas(_WIDTH, down * (side + 0.5) + 0.25)
    for place, panel in enumerate(panels):
        left, top = 0.35 + (place % across) * (side + gap), 0.28 + (place // across) * (side + 0.5)
        for value in (0.0, 0.5, 1.0):
            axis.plot([left, left + side], [top + side * value] * 2, color=_FAINT, lw=0.5, zorder=0)
            axis.plot([left + side * value] * 2, [top, top + side], color=_FAINT, lw=0.5, zorder=0)
            axis.text(left + side * value, top + side + 0.04, f"{value:g}", fontsize=5, color=_MUTED, ha="center", va="top")
            if place % across == 0:
                axis.text(
                    left - 0.05, top + side * (1 - value), f"{value:g}", fontsize=5, color=_MUTED, ha="right", va="center"
                )
        axis.plot([left, left + side], [top + side, top], "--", color=_MUTED, lw=0.5)
        x, y = [left + side * p / 100 for p, _ in panel.points], [top + side * p / 100 for _, p in panel.points]
        axis.plot(x, y, "o-", color=_INK if panel.colour is None else COLOURS[panel.colour], ms=2, lw=0.8)
        axis.text(left, top - 0.06, panel.title, fontsize=6.5, color=_INK)
        slope = "" if panel.slope is None else f", slope {panel.slope:.2f}"
        axis.text(left, top + side + 0.2, f"off by {panel.ece:.2f}{slope}", fontsize=5, color=_MUTED)
    below = "predicted probability (across) and share of frames with the behaviour (up)"
    axis.text(_WIDTH / 2, down * (side + 0.5) + 0.2, below, fontsize=6.5, color=_INK, ha="center")
    save(figure, folder / "calibration.svg")


def _curves(folder: Path, curves: Sequence[quality.Drawn]) -> None:
    """Macro F1 against annotated animals and against annotated minutes, as on the page."""
    scale = 0.0096  # inches per unit of the page's drawing
    figure, axis = _canvas(_WIDTH, quality.HEIGHT * scale + 0.3)
    for place, drawn in enumerate(curves):
        left = 0.1 + place * (quality.WIDTH * scale + 0.05)

        def at(points: Iterable[tuple[float, float]], left: float = left) -> list[list[float]]:
            return [list(values) for values in zip(*((left + x * scale, y * scale + 0.1) for x, y in points), strict=True)]

        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = quality.BOTTOM - value * (quality.BOTTOM - quality.TOP)
            axis.plot(*at([(quality.LEFT, y), (quality.RIGHT, y)]), color=_FAINT, lw=0.5, zorder=0)
            axis.text(left + (quality.LEFT - 4) * scale, y * scale + 0.1, f"{value:g}", fontsize=5.5, ha="right", va="center")
        for _, colour, points in drawn.lines:
            axis.plot(*at(points), color=COLOURS[colour], lw=0.6, alpha=0.6)
        for x, _, top, bottom in drawn.points:
            if top is not None and bottom is not None:
                axis.plot(*at([(x, top), (x, bottom)]), color=_INK, lw=0.8)
        axis.plot(*at((x, y) for x, y, _, _ in drawn.points), "o-", color=_INK, lw=1.2, ms=3)
        for tick in drawn.ticks:
            axis.text(
                left + tick.at * scale, (quality.BOTTOM + 6) * scale + 0.1, tick.text, fontsize=5.5, ha="center", va="top"
            )
        middle = left + (quality.LEFT + quality.RIGHT) / 2 * scale
        axis.text(middle, (quality.BOTTOM + 24) * scale + 0.1, f"annotated {drawn.axis}", fontsize=6.5, ha="center", va="top")
    axis.text(0.1, 0.09, "macro F1 (black) and F1 of every behaviour on animals left out", fontsize=6.5)
    save(figure, folder / "learning_curve.svg")


def _panels(path: Path, panels: Sequence[checkpoints.Panel], title: str) -> None:
    """Panels of the section on pretraining, as on the page."""
    scale, across = 0.0112, 3  # inches per unit of the page's drawing
    wide, tall = checkpoints.WIDTH * scale, checkpoints.HEIGHT * scale + 0.1
    down = -(-len(panels) // across)
    figure, axis = _canvas(_WIDTH, down * tall + 0.45)
    axis.text(0.1, 0.13, title, fontsize=6.5)
    for place, panel in enumerate(panels):
        left, top = (place % across) * (wide + 0.04), 0.3 + (place // across) * tall
        axis.text(left + checkpoints.LEFT * scale, top, panel.title, fontsize=6.5, color=_INK, va="center")
        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = top + (checkpoints.BOTTOM - value * (checkpoints.BOTTOM - checkpoints.TOP)) * scale
            axis.plot(
                [left + checkpoints.LEFT * scale, left + checkpoints.RIGHT * scale], [y, y], color=_FAINT, lw=0.5, zorder=0
            )
            axis.text(left + (checkpoints.LEFT - 4) * scale, y, f"{value:g}", fontsize=5, color=_MUTED, ha="right", va="center")
        for series in panel.series:
            x, up = [left + p[0] * scale for p in series.points], [top + p[1] * scale for p in series.points]
            colour = _MUTED if series.colour is None else COLOURS[series.colour]
            kind = "--" if series.colour is None else "-"
            axis.plot(
                x, up, kind, color=colour, marker="" if series.colour is None else "os^vDPX"[series.colour % 7], ms=2.4, lw=0.9
            )
            for at, (_, _, high, low) in zip(x, series.points, strict=True):
                if high is not None and low is not None and series.colour is not None:
                    axis.plot([at, at], [top + high * scale, top + low * scale], color=colour, lw=0.5, alpha=0.6)
        for at, text in panel.ticks:
            axis.text(left + at * scale, top + (checkpoints.BOTTOM + 5) * scale, text, fontsize=5, ha="center", va="top")
    named = {series.name: series.colour for panel in panels for series in panel.series}
    for place, (name, number) in enumerate(named.items()):
        left, y = 0.4 + 1.3 * place, down * tall + 0.36
        colour = _MUTED if number is None else COLOURS[number]
        axis.plot([left, left + 0.25], [y, y], "--" if number is None else "-", color=colour, lw=0.9)
        axis.text(left + 0.32, y, name, fontsize=6, va="center", color=_INK)
    save(figure, path)


def _bar(axis: Any, left: float, top: float, width: float, height: float, colour: str, alpha: float) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((left, top), width, height, facecolor=colour, alpha=alpha, edgecolor="none"))


def _tables(
    target: Artefact, budgets: Sequence[ethograms.Budget], colours: Mapping[str, int], followed: Sequence[tracks.Sheet]
) -> None:
    import pandas as pd

    if budgets:
        rows = [
            (b.subject, ";".join(b.groups), b.videos, behaviour, *b.seconds[behaviour], b.share(behaviour))
            for b in budgets
            for behaviour in colours
            if behaviour in b.seconds
        ]
        columns = ["subject", "group", "videos", "behaviour", "seconds", "seen_seconds", "share"]
        _csv(target, "time_budgets.csv", pd.DataFrame(rows, columns=columns))
    for name, table in track_tables(followed).items():
        _csv(target, name, table)


def _csv(target: Artefact, name: str, table: Any) -> None:
    write_text(target.path("tables") / name, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    """A figure and axes whose units are inches from the top left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.axis("off")
    return figure, axis
