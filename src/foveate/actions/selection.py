"""Fitting a probe honestly: every label's strength, threshold and smoothing are chosen by cross-validation inside the rows given, nowhere
else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics, smoothing
from foveate.actions.bouts import Strip
from foveate.actions.folds import assign_folds
from foveate.actions.logistic import Windows, fit, logits
from foveate.actions.windows import Moments

CHOICE_GROUPS = 2
"""Strength and threshold of a label are chosen only if this many groups hold positives (and negatives); otherwise nothing could be
checked on videos that were not trained on, and the label gets the middle strength and threshold 0.5."""


@dataclass(frozen=True, eq=False)
class Model:
    """One linear probe for L labels on raw windows.

    Attributes:
        weight: float32 ``[L, W * D]``; bias: float32 ``[L]``.
        penalty: float64 ``[L]``, see ``logistic``; threshold: float64 ``[L]``, present when probability >= threshold.
        smoothing: float64 ``[L, 3]``, see ``smoothing.Smoothing``.
        chosen: bool ``[L]``: all of these were chosen by cross-validation.
        converged: bool ``[L]``.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: NDArray[np.float64]
    threshold: NDArray[np.float64]
    smoothing: NDArray[np.float64]
    chosen: NDArray[np.bool_]
    converged: NDArray[np.bool_]

    def logits(self, design: Windows) -> NDArray[np.float64]:
        """``[N, L]``."""
        return logits(design, self.weight, self.bias)


def probability(logit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logistic function, as float32: what is stored, and what thresholds are compared with."""
    return (1 / (1 + np.exp(-np.clip(logit, -700, 700)))).astype(np.float32)


def decide(prob: NDArray[np.float32], threshold: NDArray[np.float64]) -> NDArray[np.int8]:
    """1 where the probability reaches its label's threshold, else 0."""
    return (prob.astype(np.float64) >= threshold).astype(np.int8)


def group_counts(truth: NDArray[np.int8], group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """int64 ``[groups, 1 + L]``: rows and positives of every label."""
    out = np.zeros((groups, 1 + truth.shape[1]), dtype=np.int64)
    np.add.at(out, group, np.column_stack([np.ones(len(truth), dtype=np.int64), truth == 1]))
    return out


def select(
    design: Windows,
    truth: NDArray[np.int8],
    known: NDArray[np.bool_],
    moments: Moments,
    strip: Strip,
    group: NDArray[np.int64],
    penalties: tuple[float, ...],
    folds: int,
    balance: bool,
) -> Model:
    """Fit all labels on these rows.

    The rows are split into at most ``folds`` folds of whole groups. For every label the penalty with the least mean log loss on the rows
    left out is taken (of equal ones the largest), then the smoothing and threshold that do best on those left-out probabilities
    (``smoothing.choose``); all for moments (views together), because that is what bouts, budgets and comparisons are made of. The weights
    are those of all rows.

    Log loss and not F1 chooses the strength: it is defined and smooth for rare labels, and rewards probabilities that can be believed.

    Args:
        design: N rows. truth: int8 ``[N, L]``. group: int64 ``[N]``, any numbers.
        known: bool ``[N]``: labelled rows. The others are not learned from; smoothing reaches into them.
        moments: of all rows. strip: their time axis.
        penalties: tried for every label.
    """
    labels = truth.shape[1]
    names, group = np.unique(group, return_inverse=True)
    counts = group_counts(truth[known], group[known], len(names))
    negatives = group_counts(1 - np.abs(truth[known]), group[known], len(names))[:, 1:]  # truth 0 -> 1, others -> 0
    inner = min(folds, len(names))
    chosen = ((counts[:, 1:] > 0).sum(0) >= CHOICE_GROUPS) & ((negatives > 0).sum(0) >= CHOICE_GROUPS)
    fold = assign_folds(counts, inner)[group] if inner > 1 else np.zeros(len(group), dtype=np.int64)
    splits = range(inner) if inner > 1 and chosen.any() else range(0)

    # One problem per label and training set: all rows first, then all rows but those of fold 0, 1, ...
    learned, in_fold = truth[known], fold[known]
    targets = [learned] + [np.where((in_fold == k)[:, None], np.int8(-1), learned) for k in splits]
    solution = fit(design.take(known), np.concatenate(targets, axis=1), penalties, balance)
    middle = sorted(range(len(penalties)), key=lambda s: penalties[s])[len(penalties) // 2]
    best, threshold, smooth = np.full(labels, middle), np.full(labels, 0.5), np.zeros((labels, 3))
    if len(splits):
        left_out = np.empty((design.rows, len(penalties), labels))
        for k in splits:
            mine, columns = np.flatnonzero(fold == k), slice((k + 1) * labels, (k + 2) * labels)
            weight = solution.weight[:, columns].reshape(-1, design.width)
            out = logits(design.take(mine), weight, solution.bias[:, columns].reshape(-1))
            left_out[mine] = out.reshape(len(mine), len(penalties), labels)
        together, told = moments.mean(left_out), truth[moments.first]
        loss = np.stack([metrics.log_loss(told, together[:, s], balance) for s in range(len(penalties))])
        strongest_first = sorted(range(len(penalties)), key=lambda s: -penalties[s])
        picked = np.array(strongest_first)[np.argmin(loss[strongest_first], axis=0)]
        best = np.where(chosen, picked, best)
        for label in np.flatnonzero(chosen):
            left = probability(together[:, best[label], label])
            found, threshold[label] = smoothing.choose(told[:, label], left, strip)
            smooth[label] = found.seconds
    each = np.arange(labels)
    return Model(
        weight=solution.weight[best, each].astype(np.float32),
        bias=solution.bias[best, each].astype(np.float32),
        penalty=np.array(penalties, dtype=np.float64)[best],
        threshold=threshold,
        smoothing=smooth,
        chosen=chosen if len(splits) else np.zeros(labels, dtype=bool),
        converged=solution.converged[best, each],
    )
