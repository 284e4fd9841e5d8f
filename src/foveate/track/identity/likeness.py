"""How much each fragment looks like each animal: a small classifier that learns from the video itself.

What it may rely on: two fragments at one time under different labels are two animals. The directions in which such pairs differ most,
against how much one fragment varies in itself, are those in which the animals of this video differ; there each animal gets a mean, from
the fragments that are believed to be it. A fragment is compared with means it had no part in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.track.identity.crossings import Fragment

Floats = NDArray[np.float64]

DIRECTIONS = 8
PAIRS = 2000  # pairs of fragments at one time that the directions are found from; evenly spread where there are more
ROUNDS = 12  # of training on what the last round believed
SHRUNK = 1.0  # mean variance of all features that is added to the variance of each
DOUBT = 2.0  # fragments' worth of the variance of all that is added to that within animals
USUAL = 1.0  # variance expected between fragments of one animal, in that of single frames within them
LIMIT = 6.0  # log-odds that the look of one fragment may give


@dataclass(frozen=True, eq=False)
class Prints:
    """Fingerprints of F fragments."""

    mean: Floats  # [F, D]; 0 where nothing was looked at
    number: NDArray[np.int64]  # [F] of samples
    spread: Floats  # [D] variance within fragments
    blocks: tuple[int, ...] = ()  # lengths of the parts of a fingerprint; each weighs the same

    @classmethod
    def none(cls, fragments: int) -> Prints:
        """Nothing known of the looks."""
        return cls(np.zeros((fragments, 0)), np.zeros(fragments, np.int64), np.zeros(0))


def summarise(fragments: int, samples: Iterable[tuple[int, Sequence[NDArray[np.float32]]]]) -> Prints:
    """Means and spread of (number of a fragment, parts of a fingerprint), one at a time: memory does not grow with their number."""
    number = np.zeros(fragments, np.int64)
    sums: Floats | None = None
    squares = np.zeros(0)
    blocks: tuple[int, ...] = ()
    for k, parts in samples:
        vector = np.concatenate(parts).astype(np.float64)
        if sums is None:
            sums, squares, blocks = np.zeros((fragments, len(vector))), np.zeros(len(vector)), tuple(map(len, parts))
        sums[k] += vector
        squares += vector**2
        number[k] += 1
    if sums is None:
        return Prints.none(fragments)
    mean = sums / np.maximum(number, 1)[:, None]
    spread = np.maximum(squares - (number[:, None] * mean**2).sum(axis=0), 0) / max(1, int(number.sum() - (number > 0).sum()))
    return Prints(mean, number, spread, blocks)


@dataclass(frozen=True, eq=False)
class Looks:
    """What looks say about names."""

    table: Floats  # [F, S] log-likelihood of each fragment under each animal: 0 for the likeliest, never below ``-LIMIT``
    density: Floats  # [F, S] the same unbounded, less what it would be if all fragments were of animals that look alike


def looks(places: Floats | None, known: NDArray[np.bool_], belief: Floats) -> Looks:
    """How much each fragment looks like each animal.

    Args:
        places: [F, M] of the fragments, as `directions` gives them.
        known: [F] which fragments were looked at.
        belief: [F, S] probability so far that a fragment is an animal.

    Returns:
        A table of 0 where a fragment was not looked at, or nothing is known to compare it with.
    """
    count, subjects = belief.shape
    if places is None:
        return Looks(np.zeros((count, subjects)), np.zeros((count, subjects)))
    # What is believed no more than chance teaches nothing.
    weight = np.where(known[:, None], np.maximum(0, (belief - 1 / subjects) / (1 - 1 / subjects)), 0)
    total, sums = weight.sum(axis=0), weight.T @ places  # [S], [S, M]
    others = total - weight  # [F, S]: weight of an animal's other fragments; a fragment has no part in what it is compared with
    means = (sums[None] - weight[..., None] * places[:, None]) / np.maximum(others, 1e-9)[..., None]
    off = (places[:, None] - means) ** 2 / (1 + 1 / np.maximum(others, 0.1))[..., None]  # [F, S, M]
    taught = weight * (others > 0.1)
    within = (taught[..., None] * off).sum(axis=(0, 1))  # [M]
    overall = places[known].var(axis=0) + 1e-9
    # Features were scaled by how much they vary within fragments, so one variance serves all directions. Animals differ in few of them:
    # the median direction says how much the same animal varies from one fragment to the next.
    variance = (within.mean() + DOUBT * float(np.quantile(overall, 0.5, method="lower"))) / (taught.sum() + DOUBT)
    far = -0.5 * off.sum(axis=-1) / variance
    table: Floats = np.maximum(far - far.max(axis=1, keepdims=True), -LIMIT)
    table[~known | (others < 0.1).any(axis=1)] = 0
    each = (within + DOUBT * USUAL) / (taught.sum() + DOUBT)
    room = 1 + 1 / np.maximum(others, 0.1)[..., None]
    alone = (places - places[known].mean(axis=0)) ** 2 / overall + np.log(overall)
    density: Floats = -0.5 * ((off / each + np.log(each * room)).sum(axis=-1) - alone.sum(axis=-1)[:, None])
    density[(table == 0).all(axis=1)] = 0
    return Looks(table, density)


def directions(prints: Prints, fragments: Sequence[Fragment]) -> Floats | None:
    """[F, M] places of the fragments along the directions that tell animals apart; None where no two were seen at one time."""
    pairs = _together(fragments, prints.number)
    if not len(pairs) or not prints.mean.shape[1]:
        return None
    scaled = []
    for start, length in zip(np.cumsum((0, *prints.blocks[:-1])), prints.blocks, strict=True):
        part, spread = prints.mean[:, start : start + length], prints.spread[start : start + length]
        scaled.append(part / np.sqrt(spread + SHRUNK * spread.mean() + 1e-12))
    whole = np.concatenate(scaled, axis=1)
    one, other = pairs.T
    sure = 1 / np.sqrt(1 / prints.number[one] + 1 / prints.number[other])
    apart = (whole[one] - whole[other]) * sure[:, None]
    _, _, axes = np.linalg.svd(apart, full_matrices=False)
    places: Floats = (whole - whole[prints.number > 0].mean(axis=0)) @ axes[:DIRECTIONS].T
    return places


def _together(fragments: Sequence[Fragment], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """[K, 2]: pairs of fragments, both looked at, that share a frame; they have different labels."""
    open_: list[int] = []
    pairs = []
    for k, fragment in enumerate(fragments):
        open_ = [j for j in open_ if fragments[j].last >= fragment.first]
        if number[k]:
            pairs += [(j, k) if fragments[j].label < fragment.label else (k, j) for j in open_]
            open_.append(k)
    every: NDArray[np.int64] = np.array(pairs, np.int64).reshape(-1, 2)
    if len(every) <= PAIRS:
        return every
    spread: NDArray[np.int64] = every[np.round(np.linspace(0, len(every) - 1, PAIRS)).astype(int)]
    return spread
