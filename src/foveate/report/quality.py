"""What the section on recognition says beyond the scores of frames: bouts, whether probabilities can be believed, the learning curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from foveate.actions import curve
from foveate.actions.calibration import ALL
from foveate.actions.scores import MACRO
from foveate.report.sources import Notes, Sources
from foveate.spreadsheet import read_csv
from foveate.store import Artefact

Row = Mapping[str, str]


@dataclass(frozen=True)
class BoutLine:
    """Bouts of one behaviour (or the macro average): numbers of the decisions that are used, and F1 before smoothing beside."""

    behaviour: str
    colour: int | None
    smoothing: str
    numbers: Mapping[str, float | None]
    raw: float | None


@dataclass(frozen=True)
class Panel:
    """A reliability diagram: bins as points, in per cent of the width and from the top."""

    behaviour: str
    colour: int | None
    points: list[tuple[float, float]]
    brier: float
    brier_chance: float
    ece: float
    slope: float | None

    @property
    def title(self) -> str:
        return "all behaviours" if self.behaviour == ALL else self.behaviour


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Drawn:
    """A learning curve over one axis, in units of the SVG."""

    axis: str
    points: list[tuple[float, float, float | None, float | None]]  # x, y, top and bottom of the interval: macro average
    lines: list[tuple[str, int, list[tuple[float, float]]]]
    ticks: list[Tick]
    described: str


@dataclass(frozen=True)
class Quality:
    """Empty lists where there is nothing to show."""

    bouts: list[BoutLine] = field(default_factory=list)
    smoothed: str = ""  # in a sentence
    panels: list[Panel] = field(default_factory=list)
    believed: str = ""
    curves: list[Drawn] = field(default_factory=list)
    curve_sentence: str = ""


WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 360.0, 220.0, 34.0, 10.0, 346.0, 190.0
"""Of a learning curve: the whole, and the field inside."""


def load(name: str, sources: Sources, notes: Notes, colours: Mapping[str, int]) -> Quality:
    """Of probe ``name``, cross-validated if it could be, else on the test videos."""
    if not sources.has("probe", name):
        return Quality()
    artefact = sources.get("probe", name)
    bouts, calibration, bins = (
        _rows(notes, f"probe {name}", artefact, file) for file in ("bouts.csv", "calibration.csv", "reliability.csv")
    )
    lines = _bouts(_first_split(bouts), colours)
    panels = _panels(_first_split(calibration), _first_split(bins), colours)
    points = (
        _rows(notes, f"probe {name}, learning curve", sources.get("curve", name), "curve.csv")
        if sources.has("curve", name)
        else []
    )
    return Quality(
        bouts=lines,
        smoothed=_smoothed(lines),
        panels=panels,
        believed=_believed(panels),
        curves=[drawn for axis in (curve.ANIMALS, curve.MINUTES) if (drawn := _drawn(axis, points, colours))],
        curve_sentence=curve.sentence(points) if points else "",
    )


def _rows(notes: Notes, where: str, artefact: Artefact, file: str) -> list[Row]:
    read: Callable[[], list[Row]] = partial(_read, artefact, file)
    found = notes.attempt(where, read)
    return found if isinstance(found, list) else []


def _read(artefact: Artefact, file: str) -> list[Row]:
    return [cells for _, cells in read_csv(artefact.checked(file), ("behaviour",))]


def _first_split(rows: Sequence[Row]) -> list[Row]:
    first = "cv" if any(row["split"] == "cv" for row in rows) else "test"
    return [row for row in rows if row["split"] == first]


def _number(row: Row, column: str) -> float | None:
    return float(row[column]) if row.get(column) else None


def _bouts(rows: Sequence[Row], colours: Mapping[str, int]) -> list[BoutLine]:
    before = {row["behaviour"]: _number(row, "f1_25") for row in rows if row["decisions"] == "raw"}
    skip = ("split", "behaviour", "decisions")
    return [
        BoutLine(
            behaviour=row["behaviour"],
            colour=colours.get(row["behaviour"]),
            smoothing=in_words(*(_number(row, column) or 0.0 for column in ("window", "gap", "least"))),
            numbers={column: _number(row, column) for column in row if column not in skip},
            raw=before.get(row["behaviour"]),
        )
        for row in rows
        if row["decisions"] == "smoothed"
    ]


def in_words(window: float, gap: float, least: float) -> str:
    """A smoothing as a table has room for it: ``mean of 2 s, gaps ≤ 1 s closed``."""
    said = [f"mean of {window:g} s"] if window else []
    said += [f"gaps ≤ {gap:g} s closed"] if gap else []
    said += [f"bouts ≥ {least:g} s"] if least else []
    return ", ".join(said) or "none"


def _smoothed(lines: Sequence[BoutLine]) -> str:
    macro = next((line for line in lines if line.behaviour == MACRO), None)
    touched = [line.behaviour for line in lines if line.behaviour != MACRO and line.smoothing != "none"]
    if macro is None:
        return ""
    text = (
        "Smoothing in time was chosen on folds inside the training part, for every behaviour by itself, and only where it gained; "
        + (f"it is used for {', '.join(touched)}." if touched else "it gained nowhere enough, so none is used.")
    )
    after, raw = macro.numbers.get("f1_25"), macro.raw
    if touched and after is not None and raw is not None:
        text += f" On videos left out, macro F1 of bouts is {after:.2f} with it and {raw:.2f} without."
    return text


def _panels(rows: Sequence[Row], bins: Sequence[Row], colours: Mapping[str, int]) -> list[Panel]:
    return [
        Panel(
            behaviour=row["behaviour"],
            colour=colours.get(row["behaviour"]),
            points=[
                (100 * float(b["probability"]), 100 - 100 * float(b["share"]))
                for b in bins
                if b["behaviour"] == row["behaviour"]
            ],
            brier=float(row["brier"]),
            brier_chance=float(row["brier_chance"]),
            ece=float(row["ece"]),
            slope=_number(row, "slope"),
        )
        for row in sorted(rows, key=lambda row: row["behaviour"] != ALL)  # the pooled one comes first
    ]


def _believed(panels: Sequence[Panel]) -> str:
    pooled = next((panel for panel in panels if panel.behaviour == ALL), None)
    if pooled is None:
        return ""
    worst = max((panel for panel in panels if panel is not pooled), key=lambda panel: panel.ece, default=pooled)
    text = f"Over all behaviours a probability is off by {_points(pooled.ece)} on average"
    if worst is not pooled:
        text += f", most for {worst.behaviour} (by {_points(worst.ece)})"
    if pooled.slope is not None:
        kind = (
            "about as sure as they should be"
            if 0.8 <= pooled.slope <= 1.25
            else "too sure"
            if pooled.slope < 1
            else "not sure enough"
        )
        text += f". Probabilities are {kind} (calibration slope {pooled.slope:.2f}; 1 is right)"
    return text + "."


def _points(share: float) -> str:
    points = round(100 * share)
    return f"{points} percentage point{'' if points == 1 else 's'}"


def _drawn(axis: str, rows: Sequence[Row], colours: Mapping[str, int]) -> Drawn | None:
    own = [row for row in rows if row["axis"] == axis and row["f1"]]
    macro = sorted((row for row in own if row["behaviour"] == MACRO), key=lambda row: float(row[axis]))
    if len(macro) < 2:
        return None
    low, high = math.log(float(macro[0][axis])), math.log(float(macro[-1][axis]))

    def x(row: Row) -> float:
        share = (math.log(float(row[axis])) - low) / (high - low) if high > low else 0.5
        return round(LEFT + 14 + share * (RIGHT - LEFT - 28), 2)

    def y(row: Row, column: str) -> float:
        return round(BOTTOM - float(row[column]) * (BOTTOM - TOP), 2)

    lines = []
    for behaviour, colour in colours.items():
        mine = sorted((row for row in own if row["behaviour"] == behaviour), key=lambda row: float(row[axis]))
        if mine:
            lines.append((behaviour, colour, [(x(row), y(row, "f1")) for row in mine]))
    said = ", ".join(f"{_size(float(row[axis]))} {axis} {float(row['f1']):.2f}" for row in macro)
    return Drawn(
        axis=axis,
        points=[(x(r), y(r, "f1"), y(r, "high") if r["high"] else None, y(r, "low") if r["low"] else None) for r in macro],
        lines=lines,
        ticks=[Tick(x(row), _size(float(row[axis]))) for row in macro],
        described=f"Macro F1 against annotated {axis}: {said}",
    )


def _size(value: float) -> str:
    return f"{value:.0f}" if value >= 20 or value == round(value) else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
