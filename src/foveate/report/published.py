"""What the section on recognition says of the published probe, where it was trained: its scores side by side, and what they claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from foveate.actions import published as recipe
from foveate.actions.scores import MACRO
from foveate.report.sources import WINDOWS, Notes, Problem, Sources
from foveate.spreadsheet import read_csv
from foveate.store import Artefact


@dataclass(frozen=True)
class Line:
    """One way of scoring; ``more`` is what it claims beyond the honest score of the same rows."""

    words: str
    scored_on: str
    f1: float
    interval: str
    more: float | None


@dataclass(frozen=True)
class Shown:
    """One published probe."""

    name: str
    lines: list[Line]
    sentence: str
    heads: list[str]
    behaviours: list[tuple[str, int | None, list[float | None]]]  # F1 under each head
    windows: list[tuple[int, list[float | None]]]  # macro F1: honest, best on the cross-validated rows, best on the test videos


_SIDES = {"cv": "training videos, cross-validated", "test": "test videos", "all": "all annotated videos"}
_SWEPT = ((recipe.HONEST, "cv"), (recipe.PAPER, "cv"), (recipe.PAPER, "test"))


def load(sources: Sources, notes: Notes, colours: Mapping[str, int]) -> list[Shown]:
    """Every finished probe of recipe ``paper``; none is no problem, because it is trained on request."""
    found = []
    for name in sources.stages.get("published", {}):
        if not name.endswith(WINDOWS) and sources.has("published", name):
            shown = notes.attempt(f"probe {name}", partial(_one, name, sources, colours))
            if not isinstance(shown, Problem):
                found.append(shown)
    return found


def _one(name: str, sources: Sources, colours: Mapping[str, int]) -> Shown:
    artefact = sources.get("published", name)
    scores = recipe.read(artefact)
    lines = [
        Line(
            score.words,
            f"{_SIDES[score.rows_of]} ({score.videos})",
            score.f1,
            "" if score.interval is None else f"{score.low:.2f}–{score.high:.2f}",
            scores.gap(score.score, score.rows_of) if score.score != recipe.HONEST else None,
        )
        for score in scores.scores
    ]
    f1 = {
        (row["score"], row["rows_of"], row["behaviour"]): float(row["f1"])
        for row in _rows(artefact, "published.csv")
        if row["f1"]
    }
    columns = [(score.score, score.rows_of) for score in scores.scores]
    behaviours = dict.fromkeys(behaviour for _, _, behaviour in f1 if behaviour != MACRO)
    swept = name + WINDOWS
    rows = _rows(sources.get("published", swept), "windows.csv") if sources.has("published", swept) else []
    return Shown(
        name=name,
        lines=lines,
        sentence=" ".join(scores.sentences()),
        heads=[f"{score.words}, {score.rows_of}" for score in scores.scores],
        behaviours=[(b, colours.get(b), [f1.get((*column, b)) for column in columns]) for b in behaviours],
        windows=_windows(rows),
    )


def _windows(rows: list[dict[str, str]]) -> list[tuple[int, list[float | None]]]:
    macro = {
        (int(row["window"]), row["score"], row["rows_of"]): float(row["f1"])
        for row in rows
        if row["behaviour"] == MACRO and row["f1"]
    }
    return [(w, [macro.get((w, *side)) for side in _SWEPT]) for w in sorted({window for window, _, _ in macro})]


def _rows(artefact: Artefact, file: str) -> list[dict[str, str]]:
    return [cells for _, cells in read_csv(artefact.checked(file), ("behaviour",))]
