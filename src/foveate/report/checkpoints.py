"""The section on pretraining, where checkpoints were evaluated: F1 against steps, the tables in the published form, windows, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveate import checkpoints as stage
from foveate.actions.scores import MACRO
from foveate.checkpoints.models import FROZEN, GUIDED, OTHER, UNGUIDED
from foveate.checkpoints.tables import BEST, PLAIN, Line
from foveate.report.sources import Notes, Problem, Sources
from foveate.schema import LAYERS
from foveate.store import Artefact

WIDTH, HEIGHT = 210, 150
LEFT, RIGHT, TOP, BOTTOM = 26, 202, 10, 122

Row = Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """A line of a panel: what it is, its place among the colours (None: dashed, what the runs began with), its points, and the intervals
    of these: x, y, upper, lower end."""

    name: str
    colour: int | None
    points: list[tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class Panel:
    title: str
    series: list[Series]
    ticks: list[tuple[float, str]]
    described: str


@dataclass(frozen=True)
class Block:
    """One table in the published form."""

    title: str
    heads: list[str]
    lines: list[tuple[str, list[str], bool]]  # name, cells, whether it stands apart from the line before


@dataclass(frozen=True)
class Shown:
    texts: list[str]
    panels: list[Panel]
    more: list[Panel]  # of whole views
    windows: list[Panel]
    key: list[tuple[str, int | None]]
    blocks: list[Block]
    layers: list[tuple[str, list[float | None]]]  # macro F1 of the last and the third-last layer, on crops and on whole views
    layer_heads: list[str]
    notes: list[str]


_SHOWN = {"crop": "crops", "frame": "whole views"}
_SCORES = {"honest": "chosen by cross-validation", "paper": "best on what is scored, as published (optimistic)"}
_ROWS = {"cv": "training videos, cross-validated", "test": "test videos"}


def load(sources: Sources, notes: Notes) -> Shown | None:
    """None where no checkpoints were evaluated: that is done on request."""
    if not sources.has("checkpoints"):
        return None
    found = notes.attempt("checkpoints", lambda: _load(sources.get("checkpoints")))
    return None if isinstance(found, Problem) else found


def _load(made: Artefact) -> Shown:
    scores = stage.rows_of(made, "scores.csv")
    plain = [row for row in scores if row["score"] == "honest" and row["rows_of"] == "cv" and row["layer"] == BEST]
    runs = list(dict.fromkeys((row["run"], row["kind"]) for row in scores))
    colours = _colours(runs)
    ways = list(dict.fromkeys(row["shown"] for row in plain))
    behaviours = [*made.facts()["behaviours"], MACRO]
    steps = {shown: [row for row in plain if row["shown"] == shown and row["window"] == str(PLAIN)] for shown in ways}
    panels = {shown: [_against_steps(b, rows, colours) for b in behaviours] for shown, rows in steps.items()}
    wide = len({row["window"] for row in plain}) > 1
    layered = [row for row in scores if row["score"] == "honest" and row["rows_of"] == "cv" and row["behaviour"] == MACRO]
    return Shown(
        texts=_texts(made, stage.rows_of(made, "changes.csv"), stage.rows_of(made, "peaks.csv"), ways[0]),
        panels=panels[ways[0]],
        more=panels[ways[1]] if len(ways) > 1 else [],
        windows=[_against_windows(shown, plain, colours) for shown in ways] if wide else [],
        key=[(name, colours[name]) for name, kind in runs if kind != OTHER],
        blocks=_blocks(made),
        layers=_layers(layered, ways),
        layer_heads=[f"{_SHOWN[shown]}, {layer.replace('_', '-')}" for shown in ways for layer in LAYERS],
        notes=[f"{note[:1].upper()}{note[1:]}." for note in made.facts()["notes"]],
    )


def _colours(runs: Sequence[tuple[str, str]]) -> dict[str, int | None]:
    """Guided runs begin with blue, unguided ones with orange, others follow; what they began with has none."""
    free = [k for k in range(10) if k not in (0, 1)]
    out: dict[str, int | None] = {}
    for name, kind in runs:
        first = {GUIDED: 0, UNGUIDED: 1}.get(kind)
        out[name] = None if kind == FROZEN else first if first is not None and first not in out.values() else free.pop(0)
    return out


def _texts(made: Artefact, changes: list[dict[str, str]], peaks: list[dict[str, str]], shown: str) -> list[str]:
    facts = made.facts()
    texts = [
        "Each checkpoint saw the annotated videos once, and the published probe was trained on its vectors: 13 learning rates on two "
        "layers, single frames of single views scored. Layer, rate and, in the rows called best, the checkpoint were chosen for every "
        f"behaviour on folds inside the training part of {facts['folds']}-fold cross-validation, so that the frames that are scored had "
        "no part in it. The training videos were seen in pretraining, without labels; test videos were not."
    ]
    own = [row for row in changes if row["behaviour"] == MACRO and row["shown"] == shown and row["score"] == "honest"]
    texts += [_change(row, shown) for row in own]
    if any(row["low"] for row in own):
        texts.append(
            "The intervals are over animals alone: what another seed of pretraining, or other folds, would have given is not in them, and "
            "they are not corrected for their number. A difference that matters should come out again with further seeds."
        )
    late = [row for row in peaks if row["shown"] == shown and row["score"] == "honest" and row["behaviour"] != MACRO]
    if late:
        early = [f"{row['behaviour']} of {row['run']}" for row in late if row["late"] == "0"]
        texts.append(
            "Published, every behaviour was best after the first tenth of the run. Here so "
            + (f"{len(late) - len(early)} of {len(late)}; not {', '.join(early)}." if early else "were all.")
            + " The largest of several noisy scores says little where they are close."
        )
    return texts


def _change(row: Row, shown: str) -> str:
    if not row["difference"]:
        return ""
    apart = float(row["difference"])
    text = f"{row['what']} over {row['over']}, on {_SHOWN[shown]}: macro F1 {float(row['f1']):.3f} against {float(row['f1_over']):.3f}"
    if not row["low"]:
        return f"{text}, a difference of {apart:+.3f}; too few animals for an interval."
    low, high = float(row["low"]), float(row["high"])
    verdict = "" if low > 0 or high < 0 else ": not shown"
    return f"{text}, a difference of {apart:+.3f} (95 % interval {low:+.3f} to {high:+.3f}){verdict}."


def _against_steps(behaviour: str, rows: Sequence[Row], colours: Mapping[str, int | None]) -> Panel:
    own = [row for row in rows if row["behaviour"] == behaviour and row["step"] not in (BEST, "")]
    steps = sorted({int(row["step"]) for row in own if row["kind"] != FROZEN})
    place = {step: _across(k, len(steps)) for k, step in enumerate(steps)}
    series = []
    for name in dict.fromkeys(row["run"] for row in own):
        mine = [row for row in own if row["run"] == name]
        if colours[name] is None:
            y = _up(float(mine[0]["f1"]))
            series.append(Series(name, None, [(float(x), y, None, None) for x in (LEFT, RIGHT)]))
        else:
            series.append(Series(name, colours[name], [_point(place[int(row["step"])], row) for row in mine]))
    title = "macro average" if behaviour == MACRO else behaviour
    said = "; ".join(f"{row['run']} {row['step']}: {float(row['f1']):.2f}" for row in own)
    return Panel(
        title, series, [(place[step], short(step)) for step in _thinned(steps)], f"F1 of {title} against steps. {said}"
    )


def _against_windows(shown: str, rows: Sequence[Row], colours: Mapping[str, int | None]) -> Panel:
    own = [row for row in rows if row["behaviour"] == MACRO and row["shown"] == shown]
    own = [row for row in own if row["step"] == BEST or row["kind"] in (FROZEN, OTHER)]
    widths = sorted({int(row["window"]) for row in own})
    place = {width: _across(k, len(widths)) for k, width in enumerate(widths)}
    series = []
    for name in dict.fromkeys(row["run"] for row in own):
        mine = sorted((row for row in own if row["run"] == name), key=lambda row: int(row["window"]))
        series.append(Series(name, colours[name], [_point(place[int(row["window"])], row) for row in mine]))
    said = "; ".join(f"{row['run']} {row['window']}: {float(row['f1']):.2f}" for row in own)
    title = f"on {_SHOWN[shown]}"
    return Panel(
        title, series, [(place[w], str(w)) for w in widths], f"Macro F1 against the width of the window, {title}. {said}"
    )


def _point(x: float, row: Row) -> tuple[float, float, float | None, float | None]:
    ends = [_up(float(row[name])) if row[name] else None for name in ("f1_high", "f1_low")]
    return x, _up(float(row["f1"])), ends[0], ends[1]


def _across(k: int, count: int) -> float:
    return round(LEFT + 14 + (RIGHT - LEFT - 28) * (k / (count - 1) if count > 1 else 0.5), 1)


def _up(f1: float) -> float:
    return round(BOTTOM - f1 * (BOTTOM - TOP), 1)


def _thinned(steps: Sequence[int]) -> list[int]:
    """As many as have room; the last one always."""
    every = -(-len(steps) // 5)
    return [step for k, step in enumerate(steps) if (len(steps) - 1 - k) % every == 0]


def short(step: int) -> str:
    """``5000`` as ``5k``."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if step >= size:
            return f"{step / size:.4g}{unit}"
    return str(step)


def _blocks(made: Artefact) -> list[Block]:
    rows = stage.rows_of(made, "table.csv")
    behaviours = list(made.facts()["behaviours"])
    out = []
    for shown, score, side in dict.fromkeys((row["shown"], row["score"], row["rows_of"]) for row in rows):
        own = [row for row in rows if (row["shown"], row["score"], row["rows_of"]) == (shown, score, side)]
        lines = [
            (row["row"], [_cell(row, name) for name in (*behaviours, "macro")], k > 0 and row["value"] != own[k - 1]["value"])
            for k, row in enumerate(own)
        ]
        out.append(Block(f"On {_SHOWN[shown]}; {_ROWS[side]}; {_SCORES[score]}", [*behaviours, "macro"], lines))
    return out


def _cell(row: Row, name: str) -> str:
    if not row[name]:
        return "–"
    value = float(row[name])
    return f"{value:.3f}" if row["value"] == "F1" else f"{value:+.1f} %" if row["value"] == "percent" else short(int(value))


def _layers(rows: Sequence[Row], ways: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    plain = [row for row in rows if row["window"] == str(PLAIN)]
    names: dict[str, dict[tuple[str, str], float]] = {}
    for row in plain:
        step: int | str = int(row["step"]) if row["step"].isdigit() else row["step"]
        names.setdefault(Line(row["run"], row["kind"], step, ()).name, {})[row["shown"], row["layer"]] = float(row["f1"])
    return [(name, [f1.get((shown, layer)) for shown in ways for layer in LAYERS]) for name, f1 in names.items()]
