"""The section on recognition: scores of the probe, cross-validated and on test videos, per view, and other probes beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from foveate.actions.probe import settings_of
from foveate.actions.scores import MACRO, POOLED
from foveate.project import Project
from foveate.report.sources import Notes, Sources
from foveate.schema import ALL_VIEWS, FoveateError
from foveate.settings import ProbeSettings
from foveate.spreadsheet import read_csv

SIDES = {"cv": "Cross-validated", "test": "Test videos"}

POOR = 0.5
"""Below this F1 more of what is called a behaviour, or of the behaviour, is wrong than right; the page says so."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """Scores of one behaviour (or the macro average) on one side; ``note`` says why there are none."""

    f1: float | None
    low: float | None
    high: float | None
    precision: float | None
    recall: float | None
    average_precision: float | None
    chance: float | None
    positives: int | None
    bouts: int | None
    videos: int | None
    note: str
    remark: str = ""


@dataclass(frozen=True)
class Line:
    behaviour: str
    colour: int
    threshold: float | None
    cell: Cell


@dataclass(frozen=True)
class Side:
    """One way of measuring: a line per behaviour and the macro average."""

    title: str
    macro: Cell
    lines: list[Line]


@dataclass(frozen=True)
class Main:
    """Scores of the probe whose predictions are used."""

    behaviours: tuple[str, ...]
    sides: list[Side]
    kept: str  # what is never split: animals or videos
    sentence: str
    texts: list[str]
    limits: list[str]
    views: list[str]  # names of views and, last, the pooled count; empty with one view
    view_lines: list[tuple[str, int, list[float | None]]]  # behaviour, colour, F1 per view


@dataclass(frozen=True)
class Other:
    """A column of the table of probes."""

    name: str
    settings: str
    macro: Cell
    difference: float | None
    cells: list[tuple[float | None, float | None]]  # F1 and its difference from the main probe, per behaviour


@dataclass(frozen=True)
class Scores:
    main: Main | None = None
    absent: str = ""
    others: list[Other] = field(default_factory=list)  # the main probe first; empty if it is alone
    others_folds: str = ""


def load(project: Project, name: str, sources: Sources, notes: Notes, colours: Mapping[str, int]) -> Scores:
    """All that the section shows; ``absent`` says why there is nothing."""
    if not sources.has("labels"):
        return Scores(absent="Nothing was annotated, so there is no probe and nothing to score.")
    if not sources.has("probe", name):
        return Scores(absent=_why_no_probe(name, sources, notes))
    tables = {}
    for probe in (name, *(p for p in sources.stages["probe"] if p != name)):
        if sources.has("probe", probe):
            table = notes.attempt(f"probe {probe}", partial(_read, sources, probe))
            if isinstance(table, list):
                tables[probe] = table
    if name not in tables:
        return Scores(absent="The scores could not be read.")
    facts = sources.get("probe", name).facts()
    main = _main(settings_of(project, name), tables[name], facts, colours)
    same = len({json.dumps(_folds(sources, probe), sort_keys=True) for probe in tables}) == 1
    folds = "on the same folds of videos" if same else "(the folds of videos differ between probes)"
    return Scores(main, "", _others(project, name, main, tables) if len(tables) > 1 else [], folds)


def _why_no_probe(name: str, sources: Sources, notes: Notes) -> str:
    try:
        sources.get("probe", name)
    except FoveateError as error:
        notes.add(f"probe {name}", error)
    return "There is no finished probe, so there are no scores."


def _read(sources: Sources, name: str) -> list[Row]:
    return [cells for _, cells in read_csv(sources.get("probe", name).checked("scores.csv"), ("split", "view", "behaviour"))]


def _folds(sources: Sources, name: str) -> Any:
    """Training video -> probe that never saw it."""
    artefact = sources.get("probe", name)
    return json.loads(artefact.checked("probe.json").read_text(encoding="utf-8")).get("folds")


def _number(row: Row, column: str) -> float | None:
    text = row.get(column, "")
    return float(text) if text else None


def _whole(row: Row, column: str) -> int | None:
    value = _number(row, column)
    return None if value is None else int(value)


def _cell(row: Row) -> Cell:
    scored = row["scored"] == "1"
    return Cell(
        f1=_number(row, "f1") if scored else None,
        low=_number(row, "f1_low") if scored else None,
        high=_number(row, "f1_high") if scored else None,
        precision=_number(row, "precision") if scored else None,
        recall=_number(row, "recall") if scored else None,
        average_precision=_number(row, "average_precision") if scored else None,
        chance=_number(row, "chance"),
        positives=_whole(row, "positives"),
        bouts=_whole(row, "bouts"),
        videos=_whole(row, "videos"),
        note="" if scored else row.get("note", "") or "not scored",
        remark=row.get("note", "") if scored else "",
    )


def _pick(table: Sequence[Row], split: str, view: str) -> dict[str, Row]:
    return {row["behaviour"]: row for row in table if row["split"] == split and row["view"] == view}


def _main(settings: ProbeSettings, table: list[Row], facts: Mapping[str, Any], colours: Mapping[str, int]) -> Main:
    behaviours = tuple(dict.fromkeys(row["behaviour"] for row in table if row["behaviour"] != MACRO))
    found = {split: _pick(table, split, ALL_VIEWS) for split in SIDES if any(row["split"] == split for row in table)}
    sides = [
        Side(
            SIDES[split],
            _cell(rows[MACRO]),
            [Line(b, colours[b], _number(rows[b], "threshold"), _cell(rows[b])) for b in behaviours if b in rows],
        )
        for split, rows in found.items()
    ]
    first = next(iter(found), "")
    views = sorted({row["view"] for row in table if row["split"] == first} - {ALL_VIEWS, POOLED})
    views = [*views, POOLED] if len(views) > 1 else []
    per_view = {view: _pick(table, first, view) for view in views}
    return Main(
        behaviours=behaviours,
        sides=sides,
        kept=_kept(settings),
        sentence=_sentence(settings, found, facts),
        texts=_texts(settings, found, facts),
        limits=[*_limits(settings, found, behaviours), *(f"{note[:1].upper()}{note[1:]}." for note in facts.get("notes", []))],
        views=views,
        view_lines=[
            (b, colours[b], [_cell(rows[b]).f1 if b in rows else None for rows in per_view.values()]) for b in behaviours
        ],
    )


def interval(cell: Cell) -> str:
    """``0.62–0.79``, or nothing where there were too few groups for an interval."""
    return "" if cell.low is None or cell.high is None else f"{cell.low:.2f}–{cell.high:.2f}"


def _kept(settings: ProbeSettings) -> str:
    return "animals" if settings.group == "subject" else "videos"


def _measured(cell: Cell) -> str:
    return f"{cell.f1:.2f}" + (f" (95 % interval {interval(cell)})" if interval(cell) else "")


def _sentence(settings: ProbeSettings, found: Mapping[str, Mapping[str, Row]], facts: Mapping[str, object]) -> str:
    cells = {split: _cell(rows[MACRO]) for split, rows in found.items()}
    said = []
    if "cv" in cells and cells["cv"].f1 is not None:
        said.append(
            f"{_measured(cells['cv'])} in {_kept(settings)} left out of training ({facts['folds']}-fold cross-validation)"
        )
    if "test" in cells and cells["test"].f1 is not None:
        said.append(f"{_measured(cells['test'])} in {_videos(facts['test_videos'])} set aside for testing")
    if not said:
        return "How well behaviours are recognised could not be measured."
    return "Behaviours were recognised with a macro F1 of " + " and ".join(said) + "."


def _videos(count: object) -> str:
    return f"{count} video{'' if count == 1 else 's'}"


def _texts(settings: ProbeSettings, found: Mapping[str, Mapping[str, Row]], facts: Mapping[str, object]) -> list[str]:
    texts = [
        "F1 is the harmonic mean of precision (which share of what was called a behaviour is one) and recall (which share of a behaviour "
        "was found); 1 is perfect. The macro average weighs every behaviour the same, however rare it is."
    ]
    if "cv" in found:
        texts.append(
            f"Cross-validated: {_videos(facts['train_videos'])} were cut into {facts['folds']} folds so that no "
            f"{'animal' if settings.group == 'subject' else 'video'} stands in two of them, and each was scored by a probe trained on the "
            "others. Penalties, thresholds and smoothing were chosen inside each training part."
        )
    else:
        texts.append("There is no cross-validation: the annotated videos could not be cut into folds that keep animals apart.")
    if "test" in found:
        texts.append(
            f"Test videos: {_videos(facts['test_videos'])} that videos.csv sets aside; the final probe, trained on all training videos, "
            "scored them once."
        )
    return texts


def _limits(settings: ProbeSettings, found: Mapping[str, Mapping[str, Row]], behaviours: Sequence[str]) -> list[str]:
    out: list[str] = []
    best = found.get("cv") or found.get("test") or {}
    cells = {b: _cell(best[b]) for b in behaviours if b in best}
    rare = [b for b, cell in cells.items() if cell.note]
    poor = [b for b, cell in cells.items() if cell.f1 is not None and cell.f1 < POOR]
    if rare:
        out.append(f"Too rare to score, so left out of the macro average: {', '.join(rare)}. Their predictions are unchecked.")
    if poor:
        out.append(
            f"Recognised poorly (F1 below {POOR}): {', '.join(poor)}. Read their ethograms, budgets and tests with care."
        )
    if best and not interval(_cell(best[MACRO])):
        out.append(
            f"Too few independent {_kept(settings)} are annotated for an interval around the scores; another sample may give others."
        )
    if "cv" in found and "test" not in found:
        out.append("No test videos were set aside; the cross-validated scores are the only check.")
    if settings.group == "video" and "cv" in found:
        out.append("Videos of one animal may stand in training and scoring alike; scores for new animals will be lower.")
    return out


def in_words(settings: ProbeSettings) -> str:
    """What a probe looks at: ``crops, mean of the subject's patches, window of 7``."""
    source = "crops" if settings.source == "crop" else "full frames"
    if settings.recipe == "adapters":
        kind = {"st": "ST-Adapter", "aim": "AIM", "none": "a linear layer"}.get(settings.adapt.kind, "adapters")
        flow = ", no flow" if settings.adapt.flow == "none" and kind == "adapters" else ""
        return (
            f"{kind} in the backbone from block {settings.adapt.first} on{flow}, {source}, windows of {settings.window} frames"
        )
    feature = {"cls": "CLS token", "patch": "mean of patches", "subject": "mean of the subject's patches"}[settings.feature]
    layer = {"last": "last layer", "third_last": "third-last layer", "both": "last and third-last layer"}[settings.layer]
    recipe = "published recipe, " if settings.recipe == "paper" else ""
    return f"{recipe}{source}, {feature}, {layer}, " + (
        "single frames" if settings.window == 1 else f"windows of {settings.window} frames"
    )


def _others(project: Project, name: str, main: Main, tables: Mapping[str, list[Row]]) -> list[Other]:
    columns = []
    base: dict[str, float | None] = {}
    for probe, table in tables.items():  # the main one comes first
        rows = _pick(table, "cv", ALL_VIEWS)
        if MACRO not in rows:
            if probe == name:
                return []
            continue
        cells = {behaviour: _cell(rows[behaviour]).f1 if behaviour in rows else None for behaviour in (*main.behaviours, MACRO)}
        base = base or cells
        apart = {b: _apart(value, base[b]) if probe != name else None for b, value in cells.items()}
        columns.append(
            Other(
                name=probe,
                settings=in_words(settings_of(project, probe)),
                macro=_cell(rows[MACRO]),
                difference=apart[MACRO],
                cells=[(cells[b], apart[b]) for b in main.behaviours],
            )
        )
    return columns if len(columns) > 1 else []


def _apart(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base
