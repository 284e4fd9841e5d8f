"""The probe's errors carried into the comparison: prevalence by prediction-powered inference.

A probe that takes a tenth of the grazing for standing says too much standing, and if it errs more in one group (another coat, another
pen), that alone looks like a difference. What is known of its errors are the annotated videos, each predicted by the fold that never saw
it. Angelopoulos, Bates, Fannjiang, Jordan and Zrnic (Science 2023), mean estimation: with f the prediction and y the truth,

    theta = mean of f over the N unlabelled + mean of (y - f) over the n labelled,     variance = var(f) / N + var(y - f) / n

The second mean is the *rectifier*. Deviations, each because animals are few:

- the unit is the animal: f is its predicted share of the time, y - f its true less its predicted share over the annotated moments, and all
  animals count alike; frames of one animal are no sample of anything;
- the quantile is Student's with Welch-Satterthwaite degrees of freedom instead of the normal one;
- an animal that is among both, as other videos of it were annotated, enters the variance once, with the sum of its two contributions;
- the rectifier is that of the folds' probes, which saw a little less than the final one that predicts the others (Zrnic and Candes 2024
  average the folds' probes instead).

It corrects in the mean, not for any single animal, and costs variance: the interval is wider than that of the naive share, which is
narrow because it takes the probe at its word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.groups.statistics import holm, t_limit, t_p

if TYPE_CHECKING:
    import pandas as pd

LEAST = 3
"""Annotated animals of a group from which on its rectifier is its own; with fewer, all animals' is used."""

CORRECTED = (
    *("behaviour", "group", "animals", "annotated_animals", "rectifier", "naive", "naive_low", "naive_high"),
    *("corrected", "corrected_low", "corrected_high", "error", "error_low", "error_high"),
)
"""Columns of corrected.csv. ``naive`` and ``corrected``: mean share of the animals, 0 to 1, with 95 % intervals over animals (cut at 0
and 1; the estimate is left as it is). ``error``: truth less prediction, over ``annotated_animals``. ``rectifier``: ``own``, of the
animals of this group, or ``pooled``, of those of all groups; empty where nobody annotated the behaviour."""

DIFFERENCES = ("behaviour", "naive_difference", "difference", "low", "high", "t", "df", "p", "p_holm")
"""Columns of corrected_differences.csv: group 1 less group 2 in the corrected mean share, 95 % interval, t test; Holm over the
behaviours. Secondary: never starred. With a pooled rectifier it is the naive difference, because the same correction is on both sides."""

Shares = Mapping[str, float]
"""Animal -> share, 0 to 1 (of a rectifier: truth less prediction, -1 to 1)."""


@dataclass(frozen=True)
class Estimate:
    """A mean with what every animal contributes to its error, so that estimates that share animals can be subtracted."""

    value: float
    influence: Mapping[str, float]  # animal -> share of the error; their squares add up to the variance
    parts: tuple[tuple[float, int], ...]  # (variance, degrees of freedom) of the independent means it is made of

    @property
    def error(self) -> float:
        return math.sqrt(sum(v * v for v in self.influence.values()))

    @property
    def df(self) -> float:
        """Welch-Satterthwaite, and no more than there are animals less one: where an animal is in several parts these are not independent,
        and the difference of pairs has just that."""
        total = sum(v for v, _ in self.parts)
        most = len(self.influence) - 1
        return min(most, total**2 / sum(v**2 / df for v, df in self.parts if v > 0)) if total > 0 else most

    def interval(self) -> tuple[float, float]:
        half = t_limit(self.df) * self.error
        return self.value - half, self.value + half


def mean(values: Shares) -> Estimate:
    """The mean over animals; at least two.

    Returns:
        influence (x - mean) / sqrt(n (n - 1)), whose squares add up to var / n.
    """
    n = len(values)
    if n < 2:
        raise ValueError("a mean over animals needs two")
    centre = sum(values.values()) / n
    influence = {animal: (x - centre) / math.sqrt(n * (n - 1)) for animal, x in values.items()}
    return Estimate(centre, influence, ((sum(v * v for v in influence.values()), n - 1),))


def add(a: Estimate, b: Estimate, sign: float = 1.0) -> Estimate:
    """a + b, or a - b with sign -1. An animal in both contributes the sum of its contributions."""
    animals = dict.fromkeys([*a.influence, *b.influence])
    influence = {animal: a.influence.get(animal, 0.0) + sign * b.influence.get(animal, 0.0) for animal in animals}
    return Estimate(a.value + sign * b.value, influence, a.parts + b.parts)


def corrected(predicted: Shares, rectifier: Shares) -> Estimate:
    """The prediction-powered mean: predicted shares of the animals compared, truth less prediction of the annotated ones."""
    return add(mean(predicted), mean(rectifier))


def rectifiers(
    folds: pd.DataFrame, behaviours: Sequence[str], group: Mapping[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Truth less prediction of every annotated animal.

    Args:
        folds: rows of view ``*`` of ``probes/<name>/folds.parquet``: video, subject, true_<b>, pred_<b>; true -1 is not observed. Analysed
            frames stand for equal times.
        group: video -> group.

    Returns:
        behaviour -> group -> animal -> share; the group is empty text for videos without one.
    """
    out: dict[str, dict[str, dict[str, float]]] = {}
    names = folds["video"].map(group).fillna("")
    for behaviour in behaviours:
        truth, said = folds[f"true_{behaviour}"].to_numpy(), folds[f"pred_{behaviour}"].to_numpy()
        known = (truth != -1) & (said != -1)
        error = (truth.astype(np.float64) - said)[known]
        table = folds.loc[known, ["subject"]].assign(group=names[known], error=error)
        by_group = out.setdefault(behaviour, {})
        for (name, subject), value in table.groupby(["group", "subject"], sort=True)["error"].mean().items():
            by_group.setdefault(str(name), {})[str(subject)] = round(float(value), 9)  # so that no error is exactly none
    return out


def tables(
    predicted: Mapping[str, Mapping[str, Shares]], known: Mapping[str, Mapping[str, Shares]], groups: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``CORRECTED`` and ``DIFFERENCES``.

    Args:
        predicted: behaviour -> group -> animal -> predicted share.
        known: what ``rectifiers`` gives.
        groups: in order; differences are tested between two.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for behaviour, of_groups in predicted.items():
        every = known.get(behaviour, {})
        own = all(len(every.get(group, {})) >= LEAST for group in groups)
        # An animal annotated in two groups has two errors; pooled, it counts once.
        pooled = _pooled([every[name] for name in every])
        estimates, naives = [], []
        for group in groups:
            naive = mean(of_groups[group])
            rectifier = every[group] if own else pooled
            naives.append(naive)
            row: dict[str, Any] = {"behaviour": behaviour, "group": group, "animals": len(of_groups[group])}
            row |= {"annotated_animals": len(rectifier)} | _cut("naive", naive)
            if len(rectifier) >= 2:
                error, estimate = mean(rectifier), corrected(of_groups[group], rectifier)
                row |= {"rectifier": "own" if own else "pooled"} | _cut("corrected", estimate)
                row |= {"error": error.value, "error_low": error.interval()[0], "error_high": error.interval()[1]}
                estimates.append(estimate)
            rows.append(row)
        if len(groups) == 2 and len(estimates) == 2:
            found = difference(*(estimates if own else naives))  # a pooled rectifier is on both sides
            differences.append({"behaviour": behaviour, "naive_difference": naives[0].value - naives[1].value} | found)
    told = pd.DataFrame(differences, columns=list(DIFFERENCES))
    tested = told["p"].notna()
    told.loc[tested, "p_holm"] = holm(told.loc[tested, "p"].to_numpy(np.float64))
    return pd.DataFrame(rows, columns=list(CORRECTED)).astype({"rectifier": "str"}), told


def difference(first: Estimate, second: Estimate) -> dict[str, float]:
    """First less second with interval and t test; the test is empty where nothing varies."""
    estimate = add(first, second, -1.0)
    low, high = estimate.interval()
    row = {"difference": estimate.value, "low": low, "high": high}
    if estimate.error < 1e-12:
        return row
    t = estimate.value / estimate.error
    return row | {"t": t, "df": estimate.df, "p": t_p(t, estimate.df)}


def _pooled(parts: Sequence[Shares]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for part in parts:
        for animal, value in part.items():
            values.setdefault(animal, []).append(value)
    return {animal: sum(v) / len(v) for animal, v in values.items()}


def _cut(name: str, estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval()
    return {name: estimate.value, f"{name}_low": max(0.0, low), f"{name}_high": min(1.0, high)}
