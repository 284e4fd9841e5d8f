"""Choosing among layers, learning rates and checkpoints, and what the chosen probes score. Nothing is trained here.

``honest``   every label takes the layer, the rate and, where several checkpoints stand to choice, the checkpoint with its largest F1 on
             folds inside the training rows of a job; the rows that count were touched once.
``paper``    every label takes what is best on the very rows that count, as published (Guided DINOv2: "best" is over checkpoints, layers
             and rates on the test split): optimistic, the more so the more there is to choose from.

Intervals draw whole groups of animals again (95 %); the fitted probes and what was chosen stay as they are. Those of differences draw the
same groups for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.labelwise import FEW_VIDEOS, winners
from foveate.actions.scores import INTERVAL_GROUPS
from foveate.actions.sgd import RATES
from foveate.checkpoints.units import FINAL, Part, Unit
from foveate.schema import LAYERS

DRAWS = 2000
_MIDDLE = len(RATES) // 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was chosen, and how it did.

    Attributes:
        counts: i64 ``[G, L, 3]``, true positives, false positives, false negatives per group.
        unit, layer, rate: i64 ``[L]`` each, numbers of what every label takes; in ``honest`` scores of cross-validation what all training
            rows say, because each fold chooses for itself.
    """

    counts: NDArray[np.int64]
    unit: NDArray[np.int64]
    layer: NDArray[np.int64]
    rate: NDArray[np.int64]


def honest(units: Sequence[Unit], side: str, layers: Sequence[str] = LAYERS) -> Chosen:
    """Chosen inside the training rows.

    Args:
        units: checkpoints in order of their steps, of one way of showing and one window; their rows and folds must be the same.
        side: ``cv`` or ``test``.
        layers: those that may be chosen.
    """
    counts = [_take(_counts(units, job), _inside(units, job, layers)) for job in _jobs(units[0], side)]
    return Chosen(np.concatenate(counts), *_named(_inside(units, FINAL, layers)))


def paper(units: Sequence[Unit], side: str, layers: Sequence[str] = LAYERS) -> Chosen:
    """Chosen on the rows that count; of equals the first. Arguments as ``honest``."""
    counts = np.concatenate([_counts(units, job) for job in _jobs(units[0], side)], axis=1)
    pick = _allowed(metrics.f1(counts.sum(axis=1)), layers).argmax(axis=0)
    return Chosen(_take(counts, pick), *_named(pick))


def _jobs(unit: Unit, side: str) -> list[str]:
    return [FINAL] if side == "test" else [f"fold-{k}" for k in range(unit.facts["folds"])]


def _inside(units: Sequence[Unit], job: str, layers: Sequence[str]) -> NDArray[np.int64]:
    """i64 ``[L]`` numbers among the probes of all units: the best on the inner folds of the job's training rows."""
    parts = [unit.parts[job] for unit in units]
    best = winners(_allowed(np.concatenate([p.f1 for p in parts]), layers), np.concatenate([p.loss for p in parts]))
    # Labels that leave no choice: the last checkpoint, the layer that was better in all published settings if it may be, the middle rate.
    layer = LAYERS.index("third_last" if "third_last" in layers else layers[0])
    default = ((len(units) - 1) * len(LAYERS) + layer) * len(RATES) + _MIDDLE
    return np.where(parts[0].chosen, best, default)


def _allowed(f1: NDArray[np.float64], layers: Sequence[str]) -> NDArray[np.float64]:
    """``[probes, L]`` with -1 where the layer may not be chosen."""
    may = np.array([name in layers for name in LAYERS])[np.arange(len(f1)) // len(RATES) % len(LAYERS)]
    return np.where(may[:, None], f1, -1.0)


def _counts(units: Sequence[Unit], job: str) -> NDArray[np.int64]:
    """i64 ``[probes of all units, G, L, 3]``."""
    parts: list[Part] = [unit.parts[job] for unit in units]
    assert all(np.array_equal(part.group, parts[0].group) for part in parts), "units of different rows"
    return np.concatenate([part.counts for part in parts])


def _take(counts: NDArray[np.int64], pick: NDArray[np.int64]) -> NDArray[np.int64]:
    """i64 ``[G, L, 3]``: of every label the counts of its probe."""
    return np.stack([counts[probe, :, label] for label, probe in enumerate(pick.tolist())], axis=1)


def _named(pick: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Unit, layer and rate of probes."""
    return pick // (len(LAYERS) * len(RATES)), pick // len(RATES) % len(LAYERS), pick % len(RATES)


# --- scores ---


@dataclass(frozen=True, eq=False)
class Score:
    """F1 of every label and, last, the macro average over the scored ones: f64 ``[L + 1]``, intervals ``[L + 1, 2]``, NaN where there is
    none. ``positives`` i64 ``[L]``; ``scored`` bool ``[L]``."""

    f1: NDArray[np.float64]
    interval: NDArray[np.float64]
    positives: NDArray[np.int64]
    scored: NDArray[np.bool_]


def score(chosen: Chosen, reported: NDArray[np.bool_], intervals: bool, seed: int) -> Score:
    """Scores of what was chosen.

    Args:
        reported: bool ``[L]``, labels that enter the macro average where they occur.
        intervals: whether to draw them; there must be ``INTERVAL_GROUPS`` groups for it.
    """
    total = chosen.counts.sum(axis=0)
    f1, positives = metrics.f1(total), total[:, 0] + total[:, 2]
    scored = reported & (positives > 0)
    interval = np.full((len(f1) + 1, 2), np.nan)
    if intervals and len(chosen.counts) >= INTERVAL_GROUPS:
        each, macro = metrics.bootstrap_f1(chosen.counts, scored, DRAWS, seed)
        interval = np.vstack([each, macro])
    return Score(np.append(f1, _mean(f1, scored)), interval, positives, scored)


def has_interval(unit: Unit, side: str) -> bool:
    """Whether the side has videos enough: of test videos ``FEW_VIDEOS``."""
    return side != "test" or unit.facts["videos"]["test"] >= FEW_VIDEOS


def difference(
    one: Chosen, other: Chosen, reported: NDArray[np.bool_], intervals: bool, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much larger F1 is of ``one``: ``[L + 1]``, and its interval ``[L + 1, 2]`` by drawing the same groups for both."""
    both = [score(chosen, reported, False, seed) for chosen in (one, other)]
    apart, scored = both[0].f1 - both[1].f1, both[0].scored
    interval = np.full((len(apart), 2), np.nan)
    groups = len(one.counts)
    if not intervals or groups < INTERVAL_GROUPS:
        return apart, interval
    times = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    drawn = [np.einsum("dg,glk->dlk", times, chosen.counts) for chosen in (one, other)]
    known = drawn[0][..., 0] + drawn[0][..., 2] > 0  # a draw without a positive says nothing about the label
    gap = metrics.f1(drawn[0]) - metrics.f1(drawn[1])
    for label in range(known.shape[1]):
        if known[:, label].any():
            interval[label] = np.quantile(gap[known[:, label], label], [0.025, 0.975])
    inside = known & scored
    some = inside.any(axis=1)
    if some.any():
        interval[-1] = np.quantile((gap * inside)[some].sum(1) / inside[some].sum(1), [0.025, 0.975])
    return apart, interval


def _mean(f1: NDArray[np.float64], scored: NDArray[np.bool_]) -> float:
    return float(f1[scored].mean()) if scored.any() else float("nan")
