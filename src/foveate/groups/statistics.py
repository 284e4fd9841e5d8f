"""Tests between groups of animals: exact rank tests, Welch, corrections for many tests. Every rank test is one of scores.

A score says of how many values a value is certainly larger, less of how many it is certainly smaller. Without censoring that is twice the
distance of its mid-rank from the mean rank, so that the tests below are those of Mann and Whitney, Kruskal and Wallis, and Dunn; with
censoring ("at least this long") they are Gehan's (1965) generalisations in Mantel's (1967) form. p comes from dealing the scores anew, so
it is exact with ties and censoring as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Numbers = Sequence[float] | Values

_EXACT_WORK = 10**9
"""Additions spent on an exact distribution at most (about 200 animals in all, a second or two); beyond, the normal approximation."""

EXACT_STATES = 400_000
"""States of the exact distribution over more than two groups at most (three groups of eight, a few seconds); beyond, random dealings."""

DEALINGS = 100_000
"""Random dealings where all of them are too many; p is then uncertain by .0007 at .05."""


@dataclass(frozen=True)
class RankTest:
    """Result of a two-sided rank test, and whether p is exact."""

    statistic: float
    p: float
    exact: bool


def scores(values: Numbers, censored: Sequence[bool] | NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """int64[N], sum 0: number of values that are certainly smaller less number of those that are certainly larger.

    Args:
        values: finite.
        censored: the true value is larger than the one given; nothing is certain between two such values.
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("values must be finite")
    if censored is None or not np.any(censored):
        _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
        last = np.cumsum(count)
        return np.asarray((2 * last - count + 1)[inverse] - (len(x) + 1), dtype=np.int64)
    return np.asarray(dominance(x, x, censored, censored).sum(1), dtype=np.int64)


def dominance(
    x: Numbers,
    y: Numbers,
    x_censored: Sequence[bool] | NDArray[np.bool_] | None = None,
    y_censored: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> Values:
    """f64[n, m]: 1 where x is certainly larger than y, -1 where it is certainly smaller, else 0."""
    a, b = np.asarray(x, dtype=np.float64)[:, None], np.asarray(y, dtype=np.float64)[None, :]
    late_a = np.zeros(a.shape, bool) if x_censored is None else np.asarray(x_censored, dtype=bool)[:, None]
    late_b = np.zeros(b.shape, bool) if y_censored is None else np.asarray(y_censored, dtype=bool)[None, :]
    larger = ~late_b & ((a > b) | (late_a & (a == b)))
    smaller = ~late_a & ((b > a) | (late_b & (a == b)))
    out: Values = larger.astype(np.float64) - smaller
    return out


def mann_whitney(
    x: Numbers,
    y: Numbers,
    x_censored: Sequence[bool] | NDArray[np.bool_] | None = None,
    y_censored: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> RankTest:
    """Two-sided Mann-Whitney U test (Mann and Whitney 1947) by the permutation distribution of the sum of scores.

    p is the share of all ways to deal the pooled values, with their ties, to groups of these sizes whose U is at least as far from its
    mean, n m / 2. Without ties this is ``scipy.stats.mannwhitneyu(method="exact")``, whose exact method must not be used with ties. With
    censored values it is Gehan's test.

    Args:
        x, y: the two groups, at least one value each.

    Returns:
        U of the first group as statistic.
    """
    n, m = len(x), len(y)
    if not n or not m:
        raise ValueError("both groups need values")
    late = [np.zeros(k, bool) if c is None else np.asarray(c, bool) for k, c in ((n, x_censored), (m, y_censored))]
    pooled = scores(np.concatenate([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)]), np.concatenate(late))
    observed = int(pooled[:n].sum())
    u = (observed + n * m) / 2
    few = min(n, m)  # the smaller group is dealt: cheaper, and the same distances from the mean
    least = int(pooled.min())
    shifted = pooled - least
    largest = int(np.sort(shifted)[-few:].sum())
    if (n + m) * few * largest > _EXACT_WORK:
        # Normal, with the variance of the dealings (ties and censoring are in it) and continuity: U moves in steps of 1, its sum in 2.
        variance = n * m / ((n + m) * (n + m - 1)) * float((pooled.astype(np.float64) ** 2).sum())
        distance = max(0.0, abs(observed) - 1)
        return RankTest(u, 1.0 if variance <= 0 else math.erfc(distance / math.sqrt(2 * variance)), exact=False)
    ways = np.zeros((few + 1, largest + 1))  # dealings of k values with sum s; exact below 2**53, then to 1 in 10**13
    ways[0, 0] = 1
    for score in shifted:
        ways[1:, score:] += ways[:-1, : largest + 1 - score]
    far = np.abs(np.arange(largest + 1) + few * least) >= abs(observed)
    return RankTest(u, min(1.0, float(ways[few, far].sum() / math.comb(n + m, few))), exact=True)


def wilcoxon(difference: Numbers) -> RankTest:
    """Two-sided Wilcoxon signed-rank test (Wilcoxon 1945) by all ways to turn the signs.

    Differences of zero are left out, as Wilcoxon did; equal ones share a mid-rank, and p stays exact.

    Args:
        difference: first less second value of every animal.

    Returns:
        sum of the ranks of the positive differences as statistic; p = 1 where no animal changes.
    """
    d = np.asarray(difference, dtype=np.float64)
    if not len(d) or not np.isfinite(d).all():
        raise ValueError("differences must be there and finite")
    d = d[d != 0]
    rank = scores(np.abs(d)) + len(d) + 1  # twice the mid-rank
    total = int(rank.sum())
    positive = int(rank[d > 0].sum())
    ways = np.zeros(total + 1)
    ways[0] = 1
    for r in rank:
        ways[r:] += ways[: total + 1 - r].copy()
    far = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * positive - total)
    return RankTest(positive / 2, min(1.0, float(ways[far].sum() / 2.0 ** len(d))), exact=True)


def sign_test(higher: int, lower: int) -> RankTest:
    """Two-sided exact sign test: ``higher`` animals changed one way, ``lower`` the other; statistic ``higher``."""
    n, few = higher + lower, min(higher, lower)
    p = 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    return RankTest(higher, min(1.0, p), exact=True)


def kruskal_wallis(
    groups: Sequence[Numbers],
    censored: Sequence[Sequence[bool] | NDArray[np.bool_]] | None = None,
    seed: int = 0,
    states: int = EXACT_STATES,
) -> RankTest:
    """Kruskal-Wallis test (1952) of several groups by the permutation distribution of H, with its correction for ties.

    All dealings are counted where that is feasible, else ``DEALINGS`` random ones, of which p is (1 + those as extreme) / (1 + all)
    (Phipson and Smyth 2010). The chi-squared approximation is not used: for groups of five it is coarse.

    Args:
        censored: of every group, as for ``scores``.
        seed: of the random dealings.
        states: how many states the exact distribution may have.

    Returns:
        H as statistic; 0 and p = 1 where all values are equal.
    """
    sizes = tuple(len(g) for g in groups)
    if len(sizes) < 2 or not all(sizes):
        raise ValueError("every group needs values")
    late = None if censored is None else np.concatenate([np.asarray(c, dtype=bool) for c in censored])
    pooled = scores(np.concatenate([np.asarray(g, dtype=np.float64) for g in groups]), late)
    squares = int((pooled**2).sum())
    if squares == 0:
        return RankTest(0.0, 1.0, exact=True)
    multiple = math.lcm(*sizes)
    whole = (
        multiple * squares < 2**62
    )  # no spread is larger than that; beyond (hundreds of videos in six groups), not in whole numbers
    weight = np.array([multiple // n for n in sizes], dtype=np.int64 if whole else np.float64)
    edges = np.cumsum((0, *sizes))[:-1]
    observed = (np.add.reduceat(pooled, edges) ** 2 * weight).sum() * (1 if whole else 1 - 1e-9)
    h = (len(pooled) - 1) * float(observed) / multiple / squares
    dealt = _dealings(tuple(sorted(pooled.tolist())), sizes, states) if whole else None
    if dealt is not None:
        spread, ways = dealt
        return RankTest(h, min(1.0, float(ways[spread >= observed].sum() / ways.sum())), exact=True)
    as_far = 0
    for order in _orders(len(pooled), seed):
        as_far += int(((np.add.reduceat(pooled[order], edges, axis=1) ** 2) @ weight >= observed).sum())
    return RankTest(h, (1 + as_far) / (1 + DEALINGS), exact=False)


def _orders(count: int, seed: int) -> Iterator[NDArray[np.int16]]:
    """``DEALINGS`` random orders of so many values, a part at a time: of a thousand videos all of them would take gigabytes."""
    parts = -(-count // 100)  # so few that one part can be kept for the next behaviour
    for part in range(parts):
        share = DEALINGS * (part + 1) // parts - DEALINGS * part // parts
        yield (_kept_orders if parts == 1 else _some_orders)(count, share, (seed, part))


def _some_orders(count: int, share: int, seed: tuple[int, int]) -> NDArray[np.int16]:
    return np.random.default_rng(seed).permuted(np.broadcast_to(np.arange(count, dtype=np.int16), (share, count)), axis=1)


_kept_orders = lru_cache(maxsize=2)(_some_orders)


@lru_cache(maxsize=64)
def _dealings(pooled: tuple[int, ...], sizes: tuple[int, ...], states: int) -> tuple[NDArray[np.int64], Values] | None:
    """Every value that the weighted sum of squared group sums can take, and in how many dealings; None if that is too much.

    One score after another goes to every group that has room; dealings with the same room left and the same sums go on as one.
    """
    k = len(sizes)
    span = sum(abs(score) for score in pooled) + 1
    radix = [n + 1 for n in sizes[:-1]] + [2 * span] * (k - 1)  # what the last group holds follows from the others
    if math.prod(radix) >= 2**62:
        return None
    state = np.zeros((1, 2 * k), dtype=np.int64)  # columns: number of values of each group, then their sums
    ways: Values = np.ones(1)
    for score in pooled:
        grown, weights = [], []
        for g in range(k):
            room = state[:, g] < sizes[g]
            one = state[room]
            one[:, g] += 1
            one[:, k + g] += score
            grown.append(one)
            weights.append(ways[room])
        state = np.concatenate(grown)
        key = np.zeros(len(state), dtype=np.int64)
        for base, column in zip(radix, [*range(k - 1), *range(k, 2 * k - 1)], strict=True):
            key = key * base + state[:, column] + (span if column >= k else 0)
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        state, ways = state[first], np.bincount(inverse, weights=np.concatenate(weights)).astype(np.float64)
        if len(state) > states:
            return None
    multiple = math.lcm(*sizes)
    return (state[:, k:] ** 2 * np.array([multiple // n for n in sizes], dtype=np.int64)).sum(1), ways


@dataclass(frozen=True)
class Pair:
    """Two of several groups, by number, with Dunn's z (positive: the first is larger) and its two-sided p."""

    first: int
    second: int
    z: float
    p: float


def dunn(groups: Sequence[Numbers], censored: Sequence[Sequence[bool] | NDArray[np.bool_]] | None = None) -> list[Pair]:
    """Dunn's (1964) comparison of every two groups by the ranks over all groups, with correction for ties; p is normal, uncorrected."""
    late = None if censored is None else np.concatenate([np.asarray(c, dtype=bool) for c in censored])
    pooled = scores(np.concatenate([np.asarray(g, dtype=np.float64) for g in groups]), late)
    variance = float((pooled.astype(np.float64) ** 2).sum()) / (len(pooled) - 1)
    edges = np.cumsum([len(g) for g in groups])[:-1]
    means = [float(part.mean()) for part in np.split(pooled, edges)]
    out = []
    for i in range(len(groups)):
        for j in range(i + 1, len(groups)):
            error = math.sqrt(variance * (1 / len(groups[i]) + 1 / len(groups[j])))
            z = (means[i] - means[j]) / error if error else 0.0
            out.append(Pair(i, j, z, math.erfc(abs(z) / math.sqrt(2))))
    return out


@dataclass(frozen=True)
class TTest:
    t: float
    df: float
    p: float


def welch(x: Numbers, y: Numbers) -> TTest | None:
    """Welch's (1947) t test of two means; None where a group has fewer than two values or no value differs."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        return None
    parts = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    if sum(parts) <= 0:
        return None
    df = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    t = float(a.mean() - b.mean()) / math.sqrt(sum(parts))
    return TTest(t, df, t_p(t, df))


def paired_t(difference: Numbers) -> TTest | None:
    """Student's t test of paired differences; None where there are fewer than two or none varies."""
    d = np.asarray(difference, dtype=np.float64)
    if len(d) < 2 or float(d.var(ddof=1)) <= 0:
        return None
    t = float(d.mean()) / math.sqrt(float(d.var(ddof=1)) / len(d))
    return TTest(t, len(d) - 1, t_p(t, len(d) - 1))


def t_p(t: float, df: float) -> float:
    """Two-sided p of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


def t_limit(df: float, level: float = 0.95) -> float:
    """The |t| that is exceeded with probability ``1 - level``."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def smallest_p(*sizes: int) -> float:
    """The smallest p that independent groups of these sizes can reach without ties: complete separation, 2 / C(n + m, n) of two groups.
    Ties can halve it where two groups differ in size, because the opposite separation is then less extreme."""
    if len(sizes) == 2:
        return min(1.0, 2 / math.comb(sum(sizes), sizes[0]))
    dealt = _dealings(tuple(sorted(scores(np.arange(float(sum(sizes)))).tolist())), sizes, EXACT_STATES)
    if dealt is None:
        return 1 / (1 + DEALINGS)
    spread, ways = dealt
    return float(ways[spread == spread.max()].sum() / ways.sum())


def smallest_p_paired(animals: int) -> float:
    """The smallest p of the signed-rank test with this many animals: all change the same way, 2 / 2^n."""
    return float(min(1.0, 2 / 2**animals))


def holm(p: Numbers) -> Values:
    """Adjusted p values that control the family-wise error (Holm 1979): step-down, monotone, at most 1."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    steps = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    out = np.empty_like(raw)
    out[order] = np.minimum(steps, 1)
    return out


def benjamini_hochberg(p: Numbers) -> Values:
    """q values: adjusted p that control the false discovery rate (Benjamini and Hochberg 1995), step-up, at most 1."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")[::-1]
    steps = np.minimum.accumulate(raw[order] * len(raw) / np.arange(len(raw), 0, -1))
    out = np.empty_like(raw)
    out[order] = np.minimum(steps, 1)
    return out


def stars(p: float, alpha: float = 0.05) -> str:
    """``***`` below .001, ``**`` below .01, ``*`` below ``alpha``, else ``n.s.``"""
    if p >= alpha:
        return "n.s."
    return "***" if p < 0.001 else "**" if p < 0.01 else "*"
