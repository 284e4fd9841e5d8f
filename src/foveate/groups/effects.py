"""How large a difference is: effect sizes and their intervals over animals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foveate.groups.statistics import Numbers, Values, dominance, scores

LEAST = 4
"""Animals in a group from which on a mean is resampled: fewer give a handful of different draws, some without any spread."""

_Z = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def cliffs_delta(x: Numbers, y: Numbers) -> float:
    """Cliff's delta (1993): P(x > y) - P(x < y), from -1 to 1; positive when the first group is larger."""
    return float(dominance(x, y).mean())


def delta_bootstrap(x: Numbers, y: Numbers, draws: int = 10_000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of Cliff's delta, animals drawn with replacement inside each group.

    With few animals it is too narrow, and where the groups do not overlap it is a single point: prefer ``delta_interval``.
    """
    sign = dominance(x, y)
    n, m = sign.shape
    of_x, of_y = _draws(n, m, draws=draws, seed=seed)
    delta = np.einsum("bi,ij,bj->b", of_x, sign, of_y, optimize=True) / (n * m)
    return _percentiles(delta, level)


def delta_interval(delta: float, n: int, m: int, z: float = _Z) -> tuple[float, float]:
    """Interval of Cliff's delta that stays honest for few animals: Newcombe's (2006) method 5, for theta = (delta + 1) / 2.

    The limits solve (estimate - theta)^2 = z^2 V(theta), V(theta) = theta (1 - theta) [1 + N (1 - theta) / (2 - theta) + N theta /
    (1 + theta)] / (n m) with N = (n + m) / 2 - 1, so the variance is that at the limit, as in Wilson's interval of a proportion, and the
    interval has a length where the groups do not overlap.

    Args:
        delta: -1 to 1; n, m: animals of the groups.
    """
    if not -1 <= delta <= 1 or min(n, m) < 1:
        raise ValueError("delta lies between -1 and 1, and both groups need animals")
    return _lower(delta, n, m, z), -_lower(-delta, n, m, z)


def _lower(delta: float, n: int, m: int, z: float) -> float:
    estimate, more = (delta + 1) / 2, (n + m) / 2 - 1
    low, high = 0.0, estimate
    for _ in range(60):  # halved until it is as fine as a float
        theta = (low + high) / 2
        inside = theta * (1 - theta) * (1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)) / (n * m)
        if estimate - theta > z * math.sqrt(inside):
            low = theta
        else:
            high = theta
    return 2 * low - 1


def hedges_g(x: Numbers, y: Numbers) -> float:
    """Hedges' g (1981): difference of the means in pooled standard deviations, times 1 - 3 / (4 df - 1); NaN where nothing varies."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    df = len(a) + len(b) - 2
    if min(len(a), len(b)) < 2:
        return math.nan
    pooled = math.sqrt(((len(a) - 1) * float(a.var(ddof=1)) + (len(b) - 1) * float(b.var(ddof=1))) / df)
    return float(a.mean() - b.mean()) / pooled * _small(df) if pooled > 0 else math.nan


def hedges_g_interval(x: Numbers, y: Numbers, level: float = 0.95) -> tuple[float, float]:
    """Interval of the standardised difference by the noncentral t distribution (Steiger and Fouladi 1997): exact for normal values of equal
    spread, and for a handful of animals far nearer to its level than the bootstrap. NaN where nothing varies."""
    from scipy.special import nctdtrinc

    n, m = len(x), len(y)
    g = hedges_g(x, y)
    if not math.isfinite(g):
        return math.nan, math.nan
    df, scale = n + m - 2, math.sqrt(1 / n + 1 / m)
    t = g / _small(df) / scale
    low, high = (float(nctdtrinc(df, p, t)) * scale for p in ((1 + level) / 2, (1 - level) / 2))
    return low, high


def hedges_g_bootstrap(x: Numbers, y: Numbers, draws: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of Hedges' g; NaN with fewer than ``LEAST`` animals in a group; draws without spread are left out."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n, m = len(a), len(b)
    if min(n, m) < LEAST:
        return math.nan, math.nan
    of_a, of_b = _draws(n, m, draws=draws, seed=seed)
    (mean_a, square_a), (mean_b, square_b) = _moments(of_a, a), _moments(of_b, b)
    return _percentiles(_ratio(mean_a - mean_b, (square_a + square_b) / (n + m - 2)) * _small(n + m - 2), level)


def paired_g(x: Numbers, y: Numbers) -> float:
    """Mean change in standard deviations, sqrt((s_x^2 + s_y^2) / 2), of the animals (d_av, Cumming 2012), times 1 - 3 / (4 (n - 1) - 1)."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 2:
        return math.nan
    spread = math.sqrt((float(a.var(ddof=1)) + float(b.var(ddof=1))) / 2)
    return float((a - b).mean()) / spread * _small(len(a) - 1) if spread > 0 else math.nan


def paired_g_bootstrap(x: Numbers, y: Numbers, draws: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of ``paired_g``, animals with both their values drawn."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(a)
    if n < LEAST:
        return math.nan, math.nan
    (drawn,) = _draws(n, draws=draws, seed=seed)
    (mean_a, square_a), (mean_b, square_b) = _moments(drawn, a), _moments(drawn, b)
    return _percentiles(_ratio(mean_a - mean_b, (square_a + square_b) / (2 * (n - 1))) * _small(n - 1), level)


def rank_biserial(difference: Numbers) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-), -1 to 1, zeros left out; 0 where no animal changes."""
    d = np.asarray(difference, dtype=np.float64)
    return float(_rank_biserial(d[None])[0])


def rank_biserial_interval(difference: Numbers, draws: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval over animals.

    Where all n animals change the same way the bootstrap has nothing to vary. The far end is then that of the exact interval (Clopper and
    Pearson 1934) of the share of animals that change this way, q = ((1 - level) / 2)^(1 / n), as 2 q - 1: a bound of P(d > 0) - P(d < 0)
    instead of its rank-weighted kin.
    """
    d = np.asarray(difference, dtype=np.float64)
    changed = d[d != 0]
    if not len(changed):
        return -1.0, 1.0
    if (changed > 0).all() or (changed < 0).all():
        bound = 2 * ((1 - level) / 2) ** (1 / len(changed)) - 1
        return (bound, 1.0) if changed[0] > 0 else (-1.0, -bound)
    index = np.random.default_rng(seed).integers(0, len(d), size=(draws, len(d)))
    return _percentiles(_rank_biserial(d[index]), level)


def _rank_biserial(d: Values) -> Values:
    """Of every row; zeros are ranked before all others and taken out."""
    from scipy.stats import rankdata

    zeros = (d == 0).sum(1, keepdims=True)
    rank = np.where(d == 0, 0.0, rankdata(np.abs(d), axis=1) - zeros)
    total = rank.sum(1)
    return np.asarray((np.sign(d) * rank).sum(1) / np.where(total == 0, 1, total), dtype=np.float64)


def epsilon_squared(groups: list[Values], censored: list[NDArray[np.bool_]] | None = None) -> float:
    """Share of the ranks' variance that lies between several groups: H / (N - 1), 0 to 1 (Kelley 1935; Tomczak and Tomczak 2014)."""
    late = None if censored is None else np.concatenate(censored)
    pooled = scores(np.concatenate(groups), late).astype(np.float64)
    total = float((pooled**2).sum())
    parts = np.split(pooled, np.cumsum([len(g) for g in groups])[:-1])
    return sum(float(part.sum()) ** 2 / len(part) for part in parts) / total if total else 0.0


def epsilon_squared_bootstrap(groups: list[Values], draws: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval, animals drawn inside each group. It is never negative, so its lower end says nothing about p."""
    from scipy.stats import rankdata

    rng = np.random.default_rng(seed)
    drawn = np.concatenate([g[rng.integers(0, len(g), size=(draws, len(g)))] for g in groups], axis=1)
    pooled = 2 * rankdata(drawn, axis=1) - (drawn.shape[1] + 1)
    edges = np.cumsum([0, *(len(g) for g in groups)])[:-1]
    between = (np.add.reduceat(pooled, edges, axis=1) ** 2 / np.array([len(g) for g in groups])).sum(1)
    total = (pooled**2).sum(1)
    return _percentiles(np.where(total > 0, between / np.where(total == 0, 1, total), 0.0), level)


def _draws(*sizes: int, draws: int, seed: int) -> list[NDArray[np.int64]]:
    """For each group int64[draws, n]: how often every animal is drawn."""
    rng = np.random.default_rng(seed)
    return [rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in sizes]


def _moments(drawn: NDArray[np.int64], values: Values) -> tuple[Values, Values]:
    """Mean and sum of squared distances from it of every draw. Taken about the mean of all, so that small spreads survive."""
    n, centre = len(values), float(values.mean())
    mean = drawn @ (values - centre) / n
    square = np.maximum(drawn @ (values - centre) ** 2 - n * mean**2, 0.0)
    return mean + centre, np.where(square < 1e-24, 0.0, square)


def _ratio(difference: Values, variance: Values) -> Values:
    out: Values = np.full(len(difference), np.nan)
    np.divide(difference, np.sqrt(variance), out=out, where=variance > 0)
    return out


def _small(df: float) -> float:
    """Hedges' factor for small samples, approximated as he gives it."""
    return 1 - 3 / (4 * df - 1)


def _percentiles(values: Values, level: float) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
