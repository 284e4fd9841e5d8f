"""Tables of the evaluated checkpoints: every score, who gained what over whom, when each behaviour was at its best, and all of it in the
form of the published tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions.published import HONEST, PAPER, csv_text
from foveate.actions.scores import MACRO
from foveate.actions.sgd import RATES
from foveate.checkpoints import choice
from foveate.checkpoints.choice import Chosen, Score
from foveate.checkpoints.models import FROZEN, GUIDED, OTHER, UNGUIDED, Model, Run
from foveate.checkpoints.units import Unit
from foveate.schema import LAYERS

if TYPE_CHECKING:
    import pandas as pd

BEST = "best"
"""In the place of a step: the best checkpoint for each behaviour. In the place of a layer: the better one."""

PLAIN, WINDOW = 1, 7
"""Widths of the published tables: single frames, and the window that was best."""

LATE = 100_000 / 1_080_000
"""Share of a run from which on a best checkpoint counts as late: published, every behaviour was best at or after 100,000 steps."""

SCORES = (
    *("shown", "window", "run", "kind", "step", "layer", "score", "rows_of", "behaviour"),
    *("scored", "f1", "f1_low", "f1_high", "positives", "of_step", "of_layer", "of_rate"),
)
"""``scores.csv``. ``shown`` is crop or frame (whole views); ``kind`` frozen, guided, unguided or other; ``step`` a number, ``best`` (the
best checkpoint for each behaviour) or empty; ``layer`` best, last or third_last; ``score`` honest or paper (``choice``); ``rows_of`` cv or
test; ``behaviour`` a name or ``*macro``. ``of_...`` is what the behaviour took; where each fold chose for itself, what all training rows
say."""

CHANGES = ("shown", "score", "rows_of", "what", "over", "behaviour", "f1", "f1_over", "percent", "difference", "low", "high")
"""``changes.csv``: F1 of ``what`` and of ``over``, and how much larger the first is: in percent as published, and as a difference with a
95 % interval by drawing the same groups of animals for both."""

PEAKS = ("shown", "score", "rows_of", "run", "behaviour", "step", "steps", "late", "f1", "f1_first", "f1_last", "f1_frozen")
"""``peaks.csv``: the step at which a behaviour has its largest F1 (of equals the first); ``late`` is 1 from ``LATE`` of the run's
``steps`` on; ``f1_first`` of the first trained checkpoint, ``f1_last`` of the last one."""


@dataclass(frozen=True)
class Line:
    """A row of the tables: one backbone, or the checkpoints of a run among which each behaviour takes its own."""

    run: str
    kind: str
    step: int | str  # BEST, or nothing for models that belong to no run
    models: tuple[Model, ...]

    @property
    def name(self) -> str:
        if self.kind in (FROZEN, OTHER):
            return self.run
        return f"{self.run}, best" if self.step == BEST else f"{self.run}, step {self.step}"


Key = tuple[str, str, int]
"""Path of a model, way of showing, window."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All units that could be made.

    Attributes:
        units: of each model, way of showing and window.
        lines: rows of the tables, in their order.
        runs: the runs. frozen: name of a run -> what it began with.
        shown, windows: ways and widths that were asked for.
        paper: whether the optimistic scores are wanted, too.
    """

    units: Mapping[Key, Unit]
    lines: tuple[Line, ...]
    runs: tuple[Run, ...]
    frozen: Mapping[str, Model]
    shown: tuple[str, ...]
    windows: tuple[int, ...]
    paper: bool

    @property
    def wide(self) -> int:
        """The width that single frames are compared with: the published one, or the widest."""
        return WINDOW if WINDOW in self.windows else max(self.windows)

    @property
    def first(self) -> Unit:
        return next(iter(self.units.values()))

    @property
    def behaviours(self) -> list[str]:
        return list(self.first.facts["behaviours"])

    @property
    def reported(self) -> NDArray[np.bool_]:
        named = self.first.facts["reported"]
        return np.array([not named or b in named for b in self.behaviours])

    def of(self, line: Line, shown: str, window: int) -> list[Unit] | None:
        """The units of a line, None where one is missing."""
        found = [self.units.get((model.path, shown, window)) for model in line.models]
        return None if None in found or not found else [unit for unit in found if unit is not None]


def lines_of(runs: Sequence[Run], frozen: Mapping[str, Model], others: Sequence[Model]) -> tuple[Line, ...]:
    """What runs began with, their later checkpoints, the best of each run, other models."""
    out = [Line(model.run, FROZEN, 0, (model,)) for model in dict.fromkeys(frozen.values())]
    for run in runs:
        out += [Line(run.name, run.kind, m.step, (m,)) for m in run.checkpoints if m.step is not None and m.step > 0]
        if len(run.checkpoints) > 1:
            out.append(Line(run.name, run.kind, BEST, run.checkpoints))
    return tuple(out + [Line(model.run, OTHER, "", (model,)) for model in others])


def ways(measured: Measured) -> list[tuple[str, str]]:
    """Scores that are given, and of which rows. An honest score of the test videos is for the last word only (``scores``)."""
    sides = ["cv", "test"] if measured.first.facts["rows"]["test"] else ["cv"]
    return [(HONEST, "cv"), *((PAPER, side) for side in sides if measured.paper)]


def _chosen(units: Sequence[Unit], score: str, side: str, layer: str = BEST) -> Chosen:
    layers = LAYERS if layer == BEST else (layer,)
    return choice.honest(units, side, layers) if score == HONEST else choice.paper(units, side, layers)


def _scored(measured: Measured, chosen: Chosen, side: str) -> Score:
    first = measured.first
    return choice.score(chosen, measured.reported, choice.has_interval(first, side), first.facts["seed"])


def scores(measured: Measured) -> pd.DataFrame:
    """``SCORES``. Test videos are scored honestly for what runs began with, the best of each run and other models, at two widths:
    whoever picks a checkpoint or a width by a test score has no test score any more."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    has_test = measured.first.facts["rows"]["test"] > 0
    for shown, window, line in product(measured.shown, measured.windows, measured.lines):
        units = measured.of(line, shown, window)
        if units is None:
            continue
        head = {"shown": shown, "window": window, "run": line.run, "kind": line.kind, "step": line.step}
        final = has_test and window in (PLAIN, measured.wide) and (line.step == BEST or line.kind in (FROZEN, OTHER))
        wanted = [(*way, layer) for way in ways(measured) for layer in (BEST, *LAYERS)]
        for score, side, layer in [*wanted, *([(HONEST, "test", BEST)] if final else [])]:
            chosen = _chosen(units, score, side, layer)
            label = {"layer": layer, "score": score, "rows_of": side}
            rows += [head | label | row for row in _rows(measured, line, chosen, _scored(measured, chosen, side))]
    return pd.DataFrame(rows, columns=list(SCORES))


def _rows(measured: Measured, line: Line, chosen: Chosen, score: Score) -> Iterator[dict[str, Any]]:
    for k, behaviour in enumerate([*measured.behaviours, MACRO]):
        row: dict[str, Any] = {"behaviour": behaviour, "f1": score.f1[k]}
        row |= {"f1_low": score.interval[k, 0], "f1_high": score.interval[k, 1]}
        if behaviour == MACRO:
            yield row | {"scored": int(score.scored.any())}
            continue
        model = line.models[int(chosen.unit[k])]
        of = {"of_layer": LAYERS[int(chosen.layer[k])], "of_rate": RATES[int(chosen.rate[k])]}
        step = "" if model.step is None else model.step
        yield row | {"scored": int(score.scored[k]), "positives": int(score.positives[k]), "of_step": step, **of}


def changes(measured: Measured) -> pd.DataFrame:
    """``CHANGES``: best guided over best unguided, both over what they began with, and the window over single frames."""
    import pandas as pd

    rows = []
    for shown, (score, side) in product(measured.shown, ways(measured)):
        for (what, line, wide), (over, base, narrow) in _compared(measured):
            one, other = measured.of(line, shown, wide), measured.of(base, shown, narrow)
            if one is None or other is None:
                continue
            pair = _chosen(one, score, side), _chosen(other, score, side)
            first = measured.first
            apart = choice.difference(*pair, measured.reported, choice.has_interval(first, side), first.facts["seed"])
            both = [_scored(measured, chosen, side).f1 for chosen in pair]
            head = {"shown": shown, "score": score, "rows_of": side, "what": what, "over": over}
            for k, behaviour in enumerate([*measured.behaviours, MACRO]):
                ratio = 100 * (both[0][k] / both[1][k] - 1) if both[1][k] > 0 else np.nan
                rows.append(
                    head
                    | {"behaviour": behaviour, "f1": both[0][k], "f1_over": both[1][k], "percent": ratio}
                    | {"difference": apart[0][k], "low": apart[1][k, 0], "high": apart[1][k, 1]}
                )
    return pd.DataFrame(rows, columns=list(CHANGES))


Side = tuple[str, Line, int]


def _compared(measured: Measured) -> Iterator[tuple[Side, Side]]:
    """What is compared with what: name, line and window of each."""
    best = {line.run: line for line in measured.lines if line.step == BEST}
    start = {line.run: line for line in measured.lines if line.kind == FROZEN}
    kinds = {kind: [run for run in measured.runs if run.kind == kind and run.name in best] for kind in (GUIDED, UNGUIDED)}
    for one, other in product(kinds[GUIDED], kinds[UNGUIDED]):
        yield (best[one.name].name, best[one.name], PLAIN), (best[other.name].name, best[other.name], PLAIN)
    for run in (*kinds[GUIDED], *kinds[UNGUIDED]):
        if run.name in measured.frozen:
            begun = start[measured.frozen[run.name].run]
            yield (best[run.name].name, best[run.name], PLAIN), (begun.name, begun, PLAIN)
    for line in measured.lines:
        if measured.wide > PLAIN and (line.step == BEST or line.kind in (FROZEN, OTHER)):
            yield (f"{line.name}, window {measured.wide}", line, measured.wide), (line.name, line, PLAIN)


def peaks(measured: Measured) -> pd.DataFrame:
    """``PEAKS``, of single frames."""
    import pandas as pd

    rows = []
    for shown, (score, side), run in product(measured.shown, ways(measured), measured.runs):
        by_step = {}
        for model in run.checkpoints:
            units = measured.of(Line(run.name, run.kind, model.step or 0, (model,)), shown, PLAIN)
            if units is not None:
                by_step[model.step or 0] = _scored(measured, _chosen(units, score, side), side).f1
        trained = [step for step in by_step if step]
        if not trained:
            continue
        begun = measured.of(Line(run.name, FROZEN, 0, tuple(m for m in [measured.frozen.get(run.name)] if m)), shown, PLAIN)
        start = None if begun is None else _scored(measured, _chosen(begun, score, side), side).f1
        for k, behaviour in enumerate([*measured.behaviours, MACRO]):
            at = max(by_step, key=lambda step: (by_step[step][k], -step))
            head = {"shown": shown, "score": score, "rows_of": side, "run": run.name, "behaviour": behaviour}
            first, last = (by_step[step][k] for step in (trained[0], trained[-1]))
            rows.append(
                head
                | {"step": at, "steps": run.steps, "late": int(at >= LATE * run.steps), "f1": by_step[at][k]}
                | {"f1_first": first, "f1_last": last, "f1_frozen": np.nan if start is None else start[k]}
            )
    return pd.DataFrame(rows, columns=list(PEAKS))


def as_published(scored: pd.DataFrame, changed: pd.DataFrame, peaked: pd.DataFrame, wide: int) -> pd.DataFrame:
    """``table.csv``: a row per backbone, then best and % change, a column per behaviour, as in the published tables.

    Columns ``shown, score, rows_of, row, value`` (F1, percent, or step), the behaviours, ``macro``.
    """
    import pandas as pd

    best = (scored["step"] == BEST) | scored["kind"].isin([FROZEN, OTHER])
    plain = scored[(scored["layer"] == BEST) & ((scored["window"] == PLAIN) | (scored["window"] == wide) & best)]
    blocks: list[tuple[str, pd.DataFrame, str, str]] = [("F1", plain.assign(row=_names(plain)), "row", "f1")]
    blocks.append(("percent", changed.assign(row=changed["what"] + " over " + changed["over"]), "row", "percent"))
    blocks.append(("step", peaked.assign(row=peaked["run"] + ", largest at step"), "row", "step"))
    parts = []
    order = list(dict.fromkeys(scored["behaviour"]))
    for value, table, row, column in blocks:
        keys = ["shown", "score", "rows_of", row]
        if len(table):
            across = table.pivot_table(column, keys, "behaviour", sort=False, dropna=False, observed=True)
            parts.append(across.reindex(columns=order).reset_index().assign(value=value))
    whole = pd.concat(parts, ignore_index=True).rename(columns={MACRO: "macro"})
    whole = whole.dropna(how="all", subset=[c for c in whole if c not in ("shown", "score", "rows_of", "row", "value")])
    places = whole[["shown", "score", "rows_of"]].drop_duplicates().apply(tuple, axis=1).tolist()
    number = whole[["shown", "score", "rows_of"]].apply(tuple, axis=1).map(places.index)
    whole = whole.iloc[np.argsort(number.to_numpy(), kind="stable")]
    head = ["shown", "score", "rows_of", "row", "value"]
    return whole[[*head, *(c for c in whole if c not in head)]].reset_index(drop=True)


def _names(scored: pd.DataFrame) -> list[str]:
    columns = (scored[column].tolist() for column in ("run", "kind", "step", "window"))
    names = [(Line(run, kind, step, ()).name, window) for run, kind, step, window in zip(*columns, strict=True)]
    return [name if window == PLAIN else f"{name}, window {window}" for name, window in names]


def files(measured: Measured) -> dict[str, str]:
    """All tables as text, by name of their file."""
    scored, changed, peaked = scores(measured), changes(measured), peaks(measured)
    tables = {
        "scores": scored,
        "changes": changed,
        "peaks": peaked,
        "table": as_published(scored, changed, peaked, measured.wide),
    }
    return {f"{name}.csv": csv_text(table) for name, table in tables.items()}
