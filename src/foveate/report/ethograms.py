"""The section on ethograms: what people annotated above what was predicted, and the time budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from foveate.project import Project, Video
from foveate.report import figures
from foveate.report.sources import Notes, Sources
from foveate.schema import ALL_VIEWS, State
from foveate.spreadsheet import read_csv

PITCH, COMPACT = 22.0, 12.0
"""Height in CSS pixels of a behaviour's row with and without annotation."""


LEAST = 0.6
"""Pixels, about: shorter bouts are drawn this wide."""


@dataclass(frozen=True)
class Truth:
    """What people annotated of one subject in one video, by behaviour."""

    present: Mapping[str, list[figures.Interval]]
    observed: Mapping[str, list[figures.Interval]]


@dataclass(frozen=True)
class Predicted:
    """What was predicted of one subject in one video."""

    bouts: Mapping[str, list[figures.Interval]]
    unseen: list[figures.Interval]
    duration: float
    seen: float  # seconds
    model: str
    budget: Mapping[str, tuple[float, float]]  # behaviour -> seconds with it, seconds that say something about it


@dataclass(frozen=True)
class Timed:
    """The times behind a raster, by behaviour, for drawing it elsewhere; ``truth`` is None where nobody annotated."""

    video: str
    subject: str
    duration: float
    truth: Mapping[str, list[figures.Interval]] | None
    predicted: Mapping[str, list[figures.Interval]]
    unseen: list[figures.Interval]


@dataclass
class Budget:
    """Time budget of one animal over its videos."""

    subject: str
    groups: list[str]
    videos: int
    duration: float
    seen: float
    seconds: dict[str, tuple[float, float]]  # as in Predicted

    def share(self, behaviour: str) -> float | None:
        with_it, known = self.seconds.get(behaviour, (0.0, 0.0))
        return with_it / known if known > 0 else None


def load_truth(project: Project, notes: Notes, sources: Sources) -> tuple[tuple[str, ...], dict[tuple[str, str], Truth]]:
    """Annotated behaviours and, by (video, subject), the annotation; empty when there is none, or none that can be read."""
    if not sources.has("labels"):
        return (), {}
    from foveate import annotations

    behaviours = tuple(sources.get("labels").facts()["behaviours"])
    labels = notes.attempt("labels", lambda: annotations.load_labels(project))
    if not isinstance(labels, annotations.Labels):
        return behaviours, {}
    present = _by_animal(labels.intervals)
    observed = _by_animal(labels.observed)
    return behaviours, {
        animal: Truth(present.get(animal, {}), observed.get(animal, {})) for animal in sorted({*present, *observed})
    }


def _by_animal(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, list[figures.Interval]]]:
    found: dict[tuple[str, str], dict[str, list[figures.Interval]]] = {}
    columns = (table[c].tolist() for c in ("video", "subject", "behaviour", "start", "stop"))
    for video, subject, behaviour, start, stop in zip(*columns, strict=True):
        found.setdefault((video, subject), {}).setdefault(behaviour, []).append((start, stop))
    return found


def load_predicted(video: Video, sources: Sources) -> dict[str, Predicted]:
    """By subject, the predictions of one video for all views together.

    Raises:
        FoveateError: they are not finished, or damaged.
    """
    artefact = sources.get("predict", video.name)
    columns = ["view", "subject", "time", "duration", "state", "model"]
    table = artefact.table("predictions.parquet", columns)
    rows = table.filter(pc.equal(table["view"], ALL_VIEWS)).to_pandas()
    bouts = artefact.table("bouts.parquet").to_pandas()
    budgets: dict[str, dict[str, tuple[float, float]]] = {}
    for _, cells in read_csv(artefact.checked("budget.csv"), ("subject", "behaviour", "seconds", "seen_seconds")):
        budgets.setdefault(cells["subject"], {})[cells["behaviour"]] = float(cells["seconds"]), float(cells["seen_seconds"])
    found = {}
    for subject, mine in rows.groupby("subject", sort=True):
        mine = mine.sort_values("time")
        start, lasts = mine["time"].to_numpy(np.float64), mine["duration"].to_numpy(np.float64)
        away = mine["state"].isin([State.LOST, State.ABSENT]).to_numpy()
        own = bouts[bouts["subject"] == subject]
        by_behaviour = {
            str(behaviour): [(float(a), float(b)) for a, b in zip(part["start"], part["stop"], strict=True)]
            for behaviour, part in own.groupby("behaviour", sort=True)
        }
        found[str(subject)] = Predicted(
            bouts=by_behaviour,
            unseen=figures.stretches(away, True, start, lasts),
            duration=float(start[-1] + lasts[-1]) if len(start) else 0.0,
            seen=float(lasts[~away].sum()),
            model=str(mine["model"].iloc[0]) if len(mine) else "",
            budget=budgets.get(str(subject), {}),
        )
    return found


def raster(
    video: Video, subject: str, colours: Mapping[str, int], truth: Truth | None, predicted: Predicted | None, duration: float
) -> figures.Raster:
    """The figure of one animal in one video: behaviours as rows, annotation above prediction."""
    pitch = COMPACT if truth is None else PITCH
    rows = []
    for i, (behaviour, colour) in enumerate(colours.items()):
        top = i * pitch
        annotated = None if truth is None else truth.present.get(behaviour, [])
        looked = [] if truth is None else truth.observed.get(behaviour, [])
        bouts = None if predicted is None or behaviour not in predicted.budget else predicted.bouts.get(behaviour, [])
        upper, lower, gap = (top + 2.5, 7.5), (top + 11, 7.5), 0.05
        if truth is None:
            lower, gap = (top + 1, pitch - 2), 0.5
        rows.append(
            figures.Row(
                behaviour=behaviour,
                colour=colour,
                truth=figures.lane(annotated or [], duration, *upper, gap, LEAST),
                unobserved="" if truth is None else figures.lane(_gaps(looked, duration), duration, *upper),
                predicted=figures.lane(bouts or [], duration, *lower, gap, LEAST),
                seconds_truth=None if annotated is None else sum(b - a for a, b in annotated),
                seconds_predicted=None if bouts is None else sum(b - a for a, b in bouts),
            )
        )
    unseen = predicted.unseen if predicted else []
    return figures.Raster(
        video=video.name,
        subject=subject,
        duration=duration,
        ticks=figures.ticks(duration),
        rows=rows,
        pitch=pitch,
        unseen=figures.lane(unseen, duration, 0, pitch * len(rows)),
        unseen_share=sum(b - a for a, b in unseen) / duration if duration else 0.0,
        probe=model_in_words(predicted.model) if predicted and truth is not None else "",
        described=_described(video.name, subject, rows, duration),
    )


def model_in_words(model: str) -> str:
    """Which probe predicted a video: what makes a row of the raster a test, or not."""
    if model == "final-fitted":
        return "prediction of a probe that was trained on this very annotation: no check of anything"
    if model.startswith("fold-"):
        return f"out-of-fold prediction (probe {model.replace('-', ' ')}, trained without this video)"
    return "prediction of the final probe, trained without this video"


def _gaps(observed: Sequence[figures.Interval], duration: float) -> list[figures.Interval]:
    """The part of ``0 .. duration`` that no interval covers."""
    gaps, reached = [], 0.0
    for start, stop in sorted(observed):
        if start > reached:
            gaps.append((reached, min(start, duration)))
        reached = max(reached, stop)
    return [*gaps, (reached, duration)] if reached < duration else gaps


def _described(video: str, subject: str, rows: Sequence[figures.Row], duration: float) -> str:
    parts = []
    for row in rows:
        seconds = [
            f"{word} {figures.span(value)}"
            for word, value in (("annotated", row.seconds_truth), ("predicted", row.seconds_predicted))
            if value is not None
        ]
        parts.append(f"{row.behaviour}: {', '.join(seconds)}")
    who = video if subject == video else f"{subject} in {video}"
    return f"Ethogram of {who}, {figures.span(duration)}. " + "; ".join(parts) + "."


def add_to_budget(budgets: dict[str, Budget], video: Video, subject: str, predicted: Predicted) -> None:
    """Add one video to the animal's budget."""
    budget = budgets.setdefault(subject, Budget(subject, [], 0, 0.0, 0.0, {}))
    if video.group and video.group not in budget.groups:
        budget.groups.append(video.group)
    budget.videos += 1
    budget.duration += predicted.duration
    budget.seen += predicted.seen
    for behaviour, (with_it, known) in predicted.budget.items():
        before = budget.seconds.get(behaviour, (0.0, 0.0))
        budget.seconds[behaviour] = before[0] + with_it, before[1] + known
