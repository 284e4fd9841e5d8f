"""Can the probabilities be believed? Reliability of out-of-fold probabilities of view ``*``, per behaviour and pooled.

``calibration.csv``
    split, behaviour   as in scores.csv; ``*pooled`` puts the frames of all behaviours together
    rows, positives    observed frames, and those of them with the behaviour
    brier, brier_chance    mean squared difference between probability and truth; that of always saying the share of positives
    ece                expected calibration error: mean over the bins of reliability.csv, weighted by their rows, of how far the mean
                       probability is from the share of positives (bins of equal numbers of rows, so that it does not hang on the few
                       rows between .1 and .9)
    intercept, slope   maximum likelihood fit of ``logit P(present) = intercept + slope * logit(probability)`` (Cox 1958): 0 and 1 if
                       the probabilities are right; a slope below 1 means too sure, above 1 not sure enough. Empty where truth is
                       constant or separated by the probabilities

``reliability.csv``
    split, behaviour, bin, rows, probability (mean), share (of positives), low, high (smallest and largest probability)

Frames of one animal resemble each other: read the numbers as descriptions of these animals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.schema import ALL_VIEWS

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.scores import Scored

ALL = "*pooled"
BINS, LEAST = 10, 20
"""At most so many bins, of at least so many rows (the last one may be smaller where probabilities are equal)."""

COLUMNS = ("split", "behaviour", "rows", "positives", "brier", "brier_chance", "ece", "intercept", "slope")
BIN_COLUMNS = ("split", "behaviour", "bin", "rows", "probability", "share", "low", "high")


def calibration_tables(scored: Sequence[Scored], behaviours: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``calibration.csv`` and ``reliability.csv``."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    for side in scored:
        mine = side.keys["view"].to_numpy() == ALL_VIEWS
        truth, probability = side.truth[mine], side.probability[mine].astype(np.float64)
        columns = [(name, truth[:, k], probability[:, k]) for k, name in enumerate(behaviours)]
        for name, t, p in [*columns, (ALL, truth.reshape(-1), probability.reshape(-1))]:
            told, p = t[t >= 0] == 1, p[t >= 0]
            if not len(told):
                continue
            parts = equal_bins(p)
            found = [(p[part].mean(), told[part].mean(), len(part)) for part in parts]
            intercept, slope = recalibration(told, p)
            key = {"split": side.split, "behaviour": name}
            rows.append(
                key
                | {
                    "rows": len(told),
                    "positives": int(told.sum()),
                    "brier": float(np.mean((p - told) ** 2)),
                    "brier_chance": float(told.mean() * (1 - told.mean())),
                    "ece": sum(abs(mean - share) * n for mean, share, n in found) / len(told),
                    "intercept": intercept,
                    "slope": slope,
                }
            )
            for number, (part, (mean, share, n)) in enumerate(zip(parts, found, strict=True)):
                limits = {"low": p[part].min(), "high": p[part].max()}
                bins.append(key | {"bin": number, "rows": n, "probability": mean, "share": share} | limits)
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(bins, columns=list(BIN_COLUMNS))


def equal_bins(probability: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Rows in order of probability, cut into parts of equal size (by at most one row).

    Equal probabilities stay together: a bin then goes on
    to the last of them, because parts of what the probe holds for alike would differ by the order of the rows alone.
    """
    number = max(1, min(BINS, len(probability) // LEAST))
    order = np.argsort(probability, kind="stable")
    cuts = np.cumsum([len(part) for part in np.array_split(order, number)])
    sorted_ = probability[order]
    cuts = np.unique(np.searchsorted(sorted_, sorted_[cuts - 1], side="right"))
    return [np.asarray(part, dtype=np.int64) for part in np.split(order, cuts[:-1])]


def recalibration(told: NDArray[np.bool_], probability: NDArray[np.float64]) -> tuple[float, float]:
    """Intercept and slope, see the module; NaN where there is no finite optimum."""
    if told.all() or not told.any():
        return np.nan, np.nan
    p = np.clip(probability, 1e-7, 1 - 1e-7)  # float32 probabilities reach 0 and 1
    x = np.column_stack([np.ones(len(p)), np.log(p / (1 - p))])
    beta = np.zeros(2)
    for _ in range(100):  # Newton's method; the loss is convex
        eta = x @ beta
        mean = 1 / (1 + np.exp(-eta))
        hessian = (x * (mean * (1 - mean))[:, None]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            return np.nan, np.nan
        step = np.linalg.solve(hessian, x.T @ (told - mean))
        beta = beta + step * min(1.0, 5 / max(float(np.abs(x @ step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            return float(beta[0]), float(beta[1])
    return np.nan, np.nan
