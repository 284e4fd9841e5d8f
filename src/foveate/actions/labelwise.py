"""Label-wise best: each label takes the layer and learning rate with its largest F1 on rows left out, and the winners become one probe.

A ``Job`` is one such probe with the rows it is trained on, the folds of them that it is chosen on, and rows it is tried on; ``jobs``
lists all that the scores of ``published`` need. Single views of single frames count ("shots"), at logit 0 (probability 0.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.folds import assign_folds
from foveate.actions.selection import CHOICE_GROUPS, group_counts
from foveate.actions.sgd import RATES, Views, fit_grid
from foveate.actions.training import Data
from foveate.actions.windows import moments
from foveate.schema import LAYERS

CHOICE_FOLDS = 3
"""Folds on which layer and rate are chosen (specs: "3-fold over training videos")."""

FEW_VIDEOS = 8
"""With fewer test videos their score has no interval; leaving out one video after another gives one."""


@dataclass(frozen=True, eq=False)
class Job:
    """One probe to train, choose and try.

    Attributes:
        name: of its file while the stage is running.
        train: rows it is trained on. fold: of each of them, for the choice; all 0 where nothing can be chosen.
        chosen: bool ``[L]``: labels whose layer and rate can be chosen.
        held: rows it is tried on.
    """

    name: str
    train: NDArray[np.int64]
    fold: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    held: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tried:
    """What became of a job: the merged probe ``weight`` [L, W * 2 D] and ``bias`` [L], the number of the grid's probe that each label
    took, ``choice`` int64 [L], and the whole grid's logits of the held rows, f32 ``[n, 2 * 13, L]``."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    choice: NDArray[np.int64]
    held: NDArray[np.float32]

    def picked(self) -> NDArray[np.float32]:
        """``[n, L]`` logits of the merged probe."""
        return np.take_along_axis(self.held, self.choice[None, None], axis=1)[:, 0]


DEFAULT_CHOICE = LAYERS.index("third_last") * len(RATES) + len(RATES) // 2
"""For labels that leave no choice: the layer that was better in all published settings, and the middle rate."""


def jobs(data: Data, seed: int) -> list[Job]:
    """All probes that the scores need: ``final``, ``fold-<k>``, ``frames-<k>`` and, with few test videos, ``group-<g>``."""
    group = data.of_rows(data.groups)
    fold = data.of_rows(data.fold_of)
    train = np.flatnonzero(data.of_rows({v.name: 1 for v in data.train}, missing=0))
    test = np.flatnonzero(data.of_rows({v.name: 1 for v in data.test}, missing=0))
    frame = moments(data.rows.keys).of_row
    by_group, by_frame = _grouped(data.rows.truth, group), _at_random(data.rows.truth, frame, seed)
    out = [Job("final", train, *by_group(train), test)]
    folds = data.folds
    out += [
        Job(f"fold-{k}", train[fold[train] != k], *by_group(train[fold[train] != k]), train[fold[train] == k])
        for k in range(folds)
    ]
    if folds:
        drawn = np.random.default_rng([seed, 1]).permutation(frame.max() + 1)[frame] % folds
        for k in range(folds):
            use = train[drawn[train] != k]
            out.append(Job(f"frames-{k}", use, *by_frame(use), train[drawn[train] == k]))
    groups = np.unique(group)
    if len(data.test) < FEW_VIDEOS and len(groups) > 1:
        everything = np.arange(len(group))
        for g in groups.tolist():
            use = everything[group != g]
            out.append(Job(f"group-{g}", use, *by_group(use), everything[group == g]))
    return out


Choice = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.bool_]]]


def _grouped(truth: NDArray[np.int8], group: NDArray[np.int64]) -> Choice:
    """Folds of whole groups for some rows, and the labels that can be chosen on them."""

    def folds(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        names, mine = np.unique(group[rows], return_inverse=True)
        counts = group_counts(truth[rows], mine, len(names))
        negatives = group_counts(1 - np.abs(truth[rows]), mine, len(names))[:, 1:]
        chosen = ((counts[:, 1:] > 0).sum(0) >= CHOICE_GROUPS) & ((negatives > 0).sum(0) >= CHOICE_GROUPS)
        return assign_folds(counts, min(CHOICE_FOLDS, len(names)))[mine], chosen

    return folds


def _at_random(truth: NDArray[np.int8], frame: NDArray[np.int64], seed: int) -> Choice:
    """Folds of frames drawn at random, the views of one frame together."""
    drawn = np.random.default_rng([seed, 2]).permutation(frame.max() + 1)[frame] % CHOICE_FOLDS

    def folds(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        known = truth[rows]
        return drawn[rows], ((known == 1).sum(0) >= CHOICE_GROUPS) & ((known == 0).sum(0) >= CHOICE_GROUPS)

    return folds


def clean_views(data: Data) -> Views:
    """The rows as they are, in every pass."""
    design = data.rows.design
    return Views(design.vectors, design.index[None], data.rows.truth[None], len(LAYERS))


def carry_out(job: Job, seen: Views, clean: Views, seed: int) -> Tried:
    """Choose on the folds, train on all rows of the job, merge, and try on the held rows.

    Args:
        seen: the rows as they are trained on. clean: as they are, which is how they are chosen and tried on.
    """
    truth = clean.target[0]
    choice = np.full(truth.shape[1], DEFAULT_CHOICE)
    logit = left_out(job, seen, clean, seed)
    if logit is not None:
        choice = np.where(job.chosen, best(truth[job.train], logit), choice)
    grid = fit_grid(seen, job.train, seed)
    weight, bias = grid.merge(choice, clean.index.shape[2])
    return Tried(weight, bias, choice, grid.logits(clean, job.held))


def left_out(job: Job, seen: Views, clean: Views, seed: int) -> NDArray[np.float32] | None:
    """Logits of the job's training rows, f32 ``[n, layers * rates, L]``, each by the grid that was trained without its fold; None where
    nothing can be chosen."""
    folds = np.unique(job.fold)
    if len(folds) < 2 or not job.chosen.any():
        return None
    logit = np.empty((len(job.train), clean.layers * len(RATES), clean.target.shape[2]), dtype=np.float32)
    for k in folds:
        mine = job.fold == k
        logit[mine] = fit_grid(seen, job.train[~mine], seed).logits(clean, job.train[mine])
    return logit


def best(truth: NDArray[np.int8], logit: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 ``[L]``: for every label the probe with the largest pooled F1 at logit 0; of equal ones (often 0, for rare labels) that with
    the least log loss.

    Args:
        truth: int8 ``[N, L]``. logit: f32 ``[N, probes, L]``.
    """
    return winners(*quality(truth, logit))


def quality(truth: NDArray[np.int8], logit: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pooled F1 at logit 0 and mean log loss, each f64 ``[probes, L]``; arguments as ``best``."""
    once = np.zeros(len(truth), dtype=np.int64)
    probes = logit.shape[1]
    f1 = np.stack([metrics.f1(metrics.confusion(truth, (logit[:, p] >= 0).astype(np.int8), once, 1)[0]) for p in range(probes)])
    loss = np.stack([metrics.log_loss(truth, logit[:, p].astype(np.float64)) for p in range(probes)])
    return f1, loss


def winners(f1: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 ``[L]`` of two f64 ``[probes, L]``: the largest F1; of equal ones the least log loss, then the first."""
    first: NDArray[np.int64] = np.lexsort([loss, -f1], axis=0)[0]
    return first


def named(choice: int) -> tuple[str, float]:
    """Layer and rate of a probe of the grid."""
    return LAYERS[choice // len(RATES)], RATES[choice % len(RATES)]
