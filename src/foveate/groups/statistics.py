"""The statistics of a comparison of two groups of animals: exact rank test, correction for many tests, effect size. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_EXACT_WORK = 10**9
"""Additions spent on an exact distribution at most (about 200 animals in all, a second or two); beyond, the normal approximation."""


@dataclass(frozen=True)
class RankTest:
    """Result of a two-sided Mann-Whitney U test: U of the first group, p, and whether p is exact."""

    u: float
    p: float
    exact: bool


def mann_whitney(x: Sequence[float] | Values, y: Sequence[float] | Values) -> RankTest:
    """Two-sided Mann-Whitney U test (Mann and Whitney 1947) by the permutation distribution of the rank sum.

    The distribution is that of U over all ways to deal the pooled values, with their ties, to groups of these sizes, so that p is exact
    with ties as well; p is the share of dealings whose U is at least as far from its mean, n m / 2. Without ties this is
    ``scipy.stats.mannwhitneyu(method="exact")``, whose exact method must not be used with ties.

    Args:
        x, y: the two groups, at least one value each.
    """
    n, m = len(x), len(y)
    if not n or not m:
        raise ValueError("both groups need values")
    pooled = np.concatenate([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    if not np.isfinite(pooled).all():
        raise ValueError("values must be finite")
    _, inverse, count = np.unique(pooled, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    doubled = (2 * last - count + 1)[inverse]  # twice the mid-rank: a whole number
    observed = int(doubled[:n].sum())
    centre = n * (n + m + 1)  # twice the mean of the rank sum
    u = (observed - n * (n + 1)) / 2
    few = min(n, m)  # the smaller group is dealt: cheaper, and the same distances from the mean
    largest = int(np.sort(doubled)[-few:].sum())
    if (n + m) * few * largest > _EXACT_WORK:
        return RankTest(u, _normal_p(n, m, abs(observed - centre) / 2, count), exact=False)
    ways = np.zeros((few + 1, largest + 1))  # dealings of k values with sum s; exact below 2**53, then to 1 in 10**13
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, : largest + 1 - rank]
    far = np.abs(np.arange(largest + 1) - few * (n + m + 1)) >= abs(observed - centre)
    return RankTest(u, min(1.0, float(ways[few, far].sum() / math.comb(n + m, few))), exact=True)


def _normal_p(n: int, m: int, distance: float, ties: NDArray[np.integer]) -> float:
    """Normal approximation with correction for ties and continuity; ``distance`` is |U - n m / 2|."""
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1)))
    return 1.0 if variance <= 0 else math.erfc(max(0.0, distance - 0.5) / math.sqrt(2 * variance))


def smallest_p(n: int, m: int) -> float:
    """The smallest two-sided p that groups of these sizes can reach without ties (complete separation): 2 / C(n + m, n). Ties can halve it
    where the groups differ in size, because the opposite separation is then less extreme."""
    return min(1.0, 2 / math.comb(n + m, n))


def holm(p: Sequence[float] | Values) -> Values:
    """Adjusted p values that control the family-wise error (Holm 1979): step-down, monotone, at most 1."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    steps = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    out = np.empty_like(raw)
    out[order] = np.minimum(steps, 1)
    return out


def cliffs_delta(x: Sequence[float] | Values, y: Sequence[float] | Values) -> float:
    """Cliff's delta (1993): P(x > y) - P(x < y), from -1 to 1; positive when the first group is larger."""
    return float(_dominance(x, y).mean())


def _dominance(x: Sequence[float] | Values, y: Sequence[float] | Values) -> Values:
    return np.sign(np.asarray(x, dtype=np.float64)[:, None] - np.asarray(y, dtype=np.float64)[None, :])


def delta_interval(
    x: Sequence[float] | Values, y: Sequence[float] | Values, draws: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of Cliff's delta, animals drawn with replacement inside each group.

    With few animals it is too narrow, and where the groups do not overlap it is the single point 1 or -1: read it beside p.
    """
    sign = _dominance(x, y)
    n, m = sign.shape
    rng = np.random.default_rng(seed)
    of_x, of_y = (rng.multinomial(k, np.full(k, 1 / k), size=draws) for k in (n, m))
    delta = np.einsum("bi,ij,bj->b", of_x, sign, of_y, optimize=True) / (n * m)
    low, high = np.quantile(delta, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def stars(p: float, alpha: float = 0.05) -> str:
    """``***`` below .001, ``**`` below .01, ``*`` below ``alpha``, else ``n.s.``"""
    if p >= alpha:
        return "n.s."
    return "***" if p < 0.001 else "**" if p < 0.01 else "*"
