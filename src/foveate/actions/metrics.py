"""Scores of multi-label predictions: counts, F1, average precision, thresholds, intervals. Never NaN.

Truth is 1, 0 or -1 (not observed: the row is left out for that label); predictions are 1 or 0. F1 = 2 TP / (2 TP + FP + FN), pooled over
rows, and 0 where TP = 0, also for a label without positives (the rule of the published tables); precision and recall likewise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.int8]


def confusion(truth: Truth, predicted: Truth, group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """int64 ``[G, L, 3]``: TP, FP, FN of every label in every group of rows; ``truth`` and ``predicted`` are ``[N, L]``."""
    out = np.zeros((groups, truth.shape[1], 3), dtype=np.int64)
    for k, (t, p) in enumerate(((1, 1), (0, 1), (1, 0))):
        np.add.at(out[:, :, k], group, (truth == t) & (predicted == p))
    return out


def f1(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """F1 of ``[..., 3]`` counts (TP, FP, FN); 0 where TP = 0."""
    tp, fp, fn = (counts[..., k].astype(np.float64) for k in range(3))
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def precision_recall(counts: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of ``[..., 3]`` counts; 0 where TP = 0."""
    tp, fp, fn = (counts[..., k].astype(np.float64) for k in range(3))
    return tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)


def average_precision(truth: Truth, score: NDArray[np.floating]) -> float:
    """Area under the precision-recall steps of one label, ``sum (R_k - R_k-1) P_k`` over distinct scores; 0 without positives.

    The expectation for scores without information is the share of positives.
    """
    use = truth >= 0
    positive, score = truth[use] == 1, score[use]
    total = int(positive.sum())
    if total == 0:
        return 0.0
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # the end of each run of equal scores
    gained = np.diff(hits[last], prepend=0) / total
    return float((gained * hits[last] / (last + 1)).sum())


def best_threshold(truth: Truth, probability: NDArray[np.floating]) -> float:
    """The probability from which calling one label present gives the largest F1 on these rows.

    Candidates lie half-way between neighbouring probabilities; of equally good ones the nearest to 0.5 is taken. 0.5 without positives.
    """
    use = truth >= 0
    positive, probability = truth[use] == 1, probability[use].astype(np.float64)
    total = int(positive.sum())
    if total == 0:
        return 0.5
    order = np.argsort(-probability, kind="stable")
    p, hits = probability[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    score = 2 * hits[last] / (last + 1 + total)
    cut = (p[last] + np.append(p[last[1:]], 0.0)) / 2
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(cut[best[np.argmin(np.abs(cut[best] - 0.5))]])


def log_loss(truth: Truth, logit: NDArray[np.float64], balance: bool = False) -> NDArray[np.float64]:
    """Mean log loss (nats) of every problem over its observed rows; both are ``[N, P]``. 0 without observed rows.

    With ``balance`` the two classes of a problem weigh the same.
    """
    loss = np.logaddexp(0.0, np.where(truth == 1, -logit, logit))
    weight = (truth >= 0).astype(np.float64)
    if balance:
        for value in (0, 1):
            chosen = truth == value
            weight = np.where(chosen, weight / np.maximum(chosen.sum(0), 1), weight)
    total: NDArray[np.float64] = (loss * weight).sum(0)
    return total / np.where(weight.any(0), weight.sum(0), 1.0)


def count_bouts(truth: NDArray[np.int8], series: NDArray[np.int64]) -> int:
    """Runs of positive rows of one label; rows are in order of time inside each ``series`` (video, view and subject)."""
    positive = truth == 1
    new = np.ones(len(truth), dtype=bool)
    new[1:] = ~positive[:-1] | (series[1:] != series[:-1])
    return int((positive & new).sum())


def bootstrap_f1(
    counts: NDArray[np.int64], scored: NDArray[np.bool_], draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Percentile intervals of F1 over groups, by drawing whole groups with replacement; the fitted probes stay as they are.

    A draw without a positive of a label says nothing about it: the label leaves that draw (and its macro average).

    Args:
        counts: int64 ``[G, L, 3]``, see ``confusion``.
        scored: bool ``[L]``: labels that enter the macro average.

    Returns:
        float64 ``[L, 2]`` low and high of every label, and low and high of the macro average.
    """
    groups, labels = counts.shape[:2]
    times = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=draws)
    drawn = (times @ counts.reshape(groups, -1)).reshape(draws, labels, 3)
    score = f1(drawn)
    known = drawn[..., 0] + drawn[..., 2] > 0
    tails = [(1 - level) / 2, (1 + level) / 2]
    each = np.array([np.quantile(score[known[:, k], k], tails) if known[:, k].any() else (0.0, 0.0) for k in range(labels)])
    inside = known & scored
    some = inside.any(1)
    macro = (score * inside)[some].sum(1) / inside[some].sum(1)
    low, high = np.quantile(macro, tails) if len(macro) else (0.0, 0.0)
    return each, (float(low), float(high))
