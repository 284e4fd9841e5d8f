"""The table ``scores.csv``: every label on every side and view, with what a reader needs to judge the number.

Columns
    split      ``cv`` (training videos, each scored by the fold that never saw its group) or ``test`` (touched once, by the final probe)
    view       a view's name; ``*`` all views together (mean logit); ``*pooled`` the rows of all views in one count, as the published
               tables have it (only where there are several views)
    behaviour  a behaviour, or ``*macro``: the unweighted mean over the behaviours with ``scored`` = 1
    scored     1, or 0 where the number means little; ``note`` says why
    f1, precision, recall, average_precision    0 where there is no true positive; ``chance`` is the share of positives, which is
               the average precision of a coin. Of view ``*`` after smoothing, as predictions are; ``f1_raw`` before it
    f1_low, f1_high    95 % bootstrap interval over groups, from 5 groups on; empty below
    threshold, penalty of the final probe
    rows, positives    observed frames and those of them with the behaviour
    bouts, videos, groups    bouts seen (in ``*`` cut wherever frames do not follow each other), and videos and groups that hold positives
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.bouts import Strip
from foveate.actions.windows import series_of
from foveate.schema import ALL_VIEWS

if TYPE_CHECKING:
    import pandas as pd

MACRO, POOLED = "*macro", "*pooled"

COLUMNS = (
    *(
        "split",
        "view",
        "behaviour",
        "scored",
        "f1",
        "f1_low",
        "f1_high",
        "precision",
        "recall",
        "average_precision",
        "chance",
        "f1_raw",
    ),
    *("threshold", "penalty", "rows", "positives", "bouts", "videos", "groups", "note"),
)

WHOLE = (
    *(
        "scored",
        "rows",
        "positives",
        "bouts",
        "videos",
        "groups",
        "annotated",
        "predicted",
        "matched",
        "recordings",
        "empty",
        "bin",
    ),
    *("undefined_f1", "undefined_so", "undefined_ic"),
)
"""Columns of counts, in any of the tables of a probe."""

ENOUGH_GROUPS = 2
"""A label with positives in fewer groups cannot be cross-validated: some fold would train or score without any."""

INTERVAL_GROUPS = 5
"""Below, an interval over groups would pretend to know more than it can."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Predictions with truth of one split, views and ``*`` alike.

    Attributes:
        keys: ``windows.KEYS``. truth, predicted: int8 ``[N, L]``. probability: float32 ``[N, L]``.
        raw: int8 ``[N, L]``: decisions before smoothing, which touches view ``*`` only.
        group: int64 ``[N]`` in ``0 .. G - 1``.
        strip: the time axis of the rows of view ``*``, in their order.
    """

    split: str
    keys: pd.DataFrame
    truth: NDArray[np.int8]
    predicted: NDArray[np.int8]
    raw: NDArray[np.int8]
    probability: NDArray[np.float32]
    group: NDArray[np.int64]
    strip: Strip


def score_table(
    scored: Sequence[Scored], behaviours: Sequence[str], threshold: Sequence[float], penalty: Sequence[float], seed: int
) -> pd.DataFrame:
    """Score every split and view; see the module for the columns."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for side in scored:
        view = side.keys["view"].to_numpy()
        names = [ALL_VIEWS, *sorted(set(view) - {ALL_VIEWS})]
        if len(names) > 2:
            names.append(POOLED)
        for name in names:
            mine = np.flatnonzero(view != ALL_VIEWS if name == POOLED else view == name)
            rows += _one(side, mine, name, behaviours, threshold, penalty, seed)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _one(
    side: Scored,
    mine: NDArray[np.int64],
    view: str,
    behaviours: Sequence[str],
    threshold: Sequence[float],
    penalty: Sequence[float],
    seed: int,
) -> list[dict[str, Any]]:
    truth, predicted, keys = side.truth[mine], side.predicted[mine], side.keys.iloc[mine]
    names, group = np.unique(side.group[mine], return_inverse=True)
    counts = metrics.confusion(truth, predicted, group, len(names))
    total = counts.sum(0)
    f1, (precision, recall) = metrics.f1(total), metrics.precision_recall(total)
    before = metrics.f1(metrics.confusion(truth, side.raw[mine], group, len(names)).sum(0))
    holding = (counts[..., 0] + counts[..., 2] > 0).sum(0)
    scored = holding >= (ENOUGH_GROUPS if side.split == "cv" else 1)
    each, macro = np.full((len(behaviours), 2), np.nan), (np.nan, np.nan)
    if len(names) >= INTERVAL_GROUPS:
        each, macro = metrics.bootstrap_f1(counts, scored, seed=seed)
    video, series = keys["video"].to_numpy(), series_of(keys)
    rows: list[dict[str, Any]] = []
    for k, behaviour in enumerate(behaviours):
        observed, positive = int((truth[:, k] >= 0).sum()), truth[:, k] == 1
        rows.append(
            {
                "split": side.split,
                "view": view,
                "behaviour": behaviour,
                "scored": int(scored[k]),
                "f1": f1[k],
                "f1_low": each[k, 0],
                "f1_high": each[k, 1],
                "precision": precision[k],
                "recall": recall[k],
                "average_precision": metrics.average_precision(truth[:, k], side.probability[mine, k]),
                "chance": positive.sum() / max(observed, 1),
                "f1_raw": before[k],
                "threshold": threshold[k],
                "penalty": penalty[k],
                "rows": observed,
                "positives": int(positive.sum()),
                "bouts": len(side.strip.runs(positive)[0]) if view == ALL_VIEWS else metrics.count_bouts(truth[:, k], series),
                "videos": len(set(video[positive])),
                "groups": int(holding[k]),
                "note": "" if scored[k] else _too_rare(side.split, int(holding[k])),
            }
        )
    use = [row for row in rows if row["scored"]]
    mean = {
        c: float(np.mean([row[c] for row in use])) if use else 0.0
        for c in ("f1", "precision", "recall", "average_precision", "f1_raw")
    }
    whole = {"rows": len(mine), "videos": len(set(video)), "groups": len(names)}
    note = f"mean of {len(use)} of {len(rows)} behaviours" if use else "no behaviour could be scored"
    head = {"split": side.split, "view": view, "behaviour": MACRO, "scored": int(bool(use)), "note": note}
    return [*rows, head | mean | whole | {"f1_low": macro[0], "f1_high": macro[1]}]


def _too_rare(split: str, groups: int) -> str:
    if split == "test":
        return "does not occur in the test videos"
    where = "only one group of videos" if groups else "no observed frame"
    return f"too rare to score: occurs in {where}"


def macro_f1(table: pd.DataFrame, split: str, view: str = ALL_VIEWS) -> float | None:
    """Macro F1 of one split and view, None where nothing could be scored."""
    row = table[(table["split"] == split) & (table["view"] == view) & (table["behaviour"] == MACRO)]
    return float(row["f1"].iloc[0]) if len(row) and row["scored"].iloc[0] else None


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV with six digits; the same text on every system."""
    whole = {name: "Int64" for name in WHOLE if name in table.columns}
    return str(table.astype(whole).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
