"""Which animal bears which name between meetings: the likeliest course of names through a video, and how sure each is.

A hidden Markov model over permutations. Between two meetings every track label stands for one animal; at a meeting the labels of its
group may be permuted, with probabilities that its caller gives; every fragment speaks for each animal with a log-likelihood from what it
looks like. The probability of a name is the sum over all courses, so that doubt at one meeting is carried on until something tells.
Similar in spirit to the fragments of idtracker.ai (Romero-Ferrero et al. 2019) and TRex (Walter and Couzin 2021); exact for few animals.

Everything here is arrays; nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Names = NDArray[np.int8]

BEAM = 256  # permutations kept after a meeting; up to five subjects have fewer
GROUP = 4  # larger groups exchange two at a time only


@dataclass(frozen=True, eq=False)
class Step:
    """A meeting and what follows it."""

    group: tuple[int, ...]  # labels that may be permuted
    moves: Floats  # [permutations(group)] log-probability of each, in the order of ``exchanges``
    looks: Floats  # [S, S] log-likelihood of label l's next fragment under animal a; 0 where there is none


_Kept = tuple[Names, Floats, NDArray[np.int64], NDArray[np.int64], Floats]
"""Permutations after a step and their forward scores; of every way to come there: parent, child and what was added."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Who is who after each of K steps."""

    names: Names  # [K, S] the animal that each label stands for, on the likeliest course
    share: Floats  # [K, S, S] probability that label l stands for animal a
    evidence: float  # log-likelihood of what was seen, all courses together


def exchanges(size: int) -> list[tuple[int, ...]]:
    """Permutations of a group that are considered; the first changes nothing."""
    if size <= GROUP:
        return list(permutations(range(size)))
    same = tuple(range(size))
    swapped = []
    for i in range(size):
        for j in range(i + 1, size):
            order = list(same)
            order[i], order[j] = j, i
            swapped.append(tuple(order))
    return [same, *swapped]


def who(steps: Sequence[Step], subjects: int) -> Answer:
    """Names between meetings.

    Args:
        steps: the first stands for the beginning (its group are all subjects, and its permutations say who may be who at first), the
            others for the meetings, in order of time.
        subjects: S, animals and labels.
    """
    every = np.arange(subjects, dtype=np.int8)[None]
    states, scores = every, np.zeros(1)
    kept: list[_Kept] = []
    best_of = np.zeros(1)
    best: list[NDArray[np.int64]] = []
    for step in steps:
        children, parents, gains = _expand(states, step)
        unique, at = np.unique(children, axis=0, return_inverse=True)
        at = at.ravel()
        total = np.full(len(unique), -np.inf)
        np.logaddexp.at(total, at, scores[parents] + gains)
        top, back = _best(best_of[parents] + gains, at, len(unique))
        order = np.sort(np.argsort(-total, kind="stable")[:BEAM])
        new = np.full(len(unique), -1)
        new[order] = np.arange(len(order))
        stay = new[at] >= 0
        states, scores, best_of = unique[order], total[order], top[order]
        kept.append((states, scores, parents[stay], new[at][stay], gains[stay]))
        best.append(parents[back[order]])
    evidence = float(np.logaddexp.reduce(scores))
    return Answer(_course(kept, best, best_of, subjects), _marginals(kept, subjects), evidence)


def _expand(states: Names, step: Step) -> tuple[Names, NDArray[np.int64], Floats]:
    """All children of the states [K, S], with the number of the parent and the log-probability that is added."""
    group = np.array(step.group)
    out, parents, gains = [], [], []
    labels = np.arange(states.shape[1])
    for order, move in zip(exchanges(len(group)), step.moves, strict=True):
        child = states.copy()
        child[:, group] = states[:, group[list(order)]]
        out.append(child)
        parents.append(np.arange(len(states)))
        gains.append(move + step.looks[labels, child].sum(axis=1))
    return np.concatenate(out), np.concatenate(parents), np.concatenate(gains)


def _best(values: Floats, at: NDArray[np.int64], count: int) -> tuple[Floats, NDArray[np.int64]]:
    """For each of ``count`` targets the largest value, and where it stands (the first of equal ones)."""
    order = np.lexsort((np.arange(len(at)), -values, at))
    first = np.searchsorted(at[order], np.arange(count))
    return values[order[first]], order[first]


def _course(kept: Sequence[_Kept], best: Sequence[NDArray[np.int64]], last: Floats, subjects: int) -> Names:
    out = np.zeros((len(kept), subjects), np.int8)
    at = int(np.argmax(last))
    for k in range(len(kept) - 1, -1, -1):
        out[k] = kept[k][0][at]
        at = int(best[k][at])
    return out


def _marginals(kept: Sequence[_Kept], subjects: int) -> Floats:
    """f64[steps, S, S] from the forward scores and a pass back."""
    out = np.zeros((len(kept), subjects, subjects))
    behind = np.zeros(len(kept[-1][0]))
    for k in range(len(kept) - 1, -1, -1):
        states, scores, parents, children, gains = kept[k]
        total = scores + behind
        share = np.exp(total - np.logaddexp.reduce(total))
        for label in range(subjects):
            np.add.at(out[k, label], states[:, label], share)
        if k:
            before = np.full(len(kept[k - 1][0]), -np.inf)
            np.logaddexp.at(before, parents, gains + behind[children])
            behind = before
    return out
