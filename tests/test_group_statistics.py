"""Rank tests of pairs and of several groups, censored values, Welch, corrections, effect sizes: against scipy, statsmodels, enumeration,
and numbers recorded from scikit-posthocs."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from foveate.groups import effects, statistics

GOLDEN = Path(__file__).parent / "golden"

several = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-1000, 1000), min_size=1, max_size=14, unique_by=abs))
def test_wilcoxon_without_ties_is_scipy(values: list[int]) -> None:
    values = [v for v in values if v] or [1]
    ours = statistics.wilcoxon(values)
    theirs = scipy.stats.wilcoxon(values, method="exact")
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12) and ours.exact
    assert min(ours.statistic, len(values) * (len(values) + 1) / 2 - ours.statistic) == theirs.statistic


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_wilcoxon_with_ties_is_enumeration(values: list[int]) -> None:
    """Every way to turn the signs of what is not zero, one by one."""
    d = np.array([v for v in values if v])
    rank = scipy.stats.rankdata(np.abs(d)) if len(d) else np.zeros(0)
    far = abs((np.sign(d) * rank).sum())
    turned = [abs(np.dot(signs, rank)) >= far - 1e-9 for signs in itertools.product((-1, 1), repeat=len(d))]
    assert statistics.wilcoxon(values).p == pytest.approx(np.mean(turned), rel=1e-12)
    assert statistics.wilcoxon([-v for v in values]).p == statistics.wilcoxon(values).p


def test_smallest_p_of_pairs_and_of_several_groups() -> None:
    for n in (2, 5, 6, 10):
        assert statistics.wilcoxon(np.arange(1.0, n + 1)).p == statistics.smallest_p_paired(n) == 2 / 2**n
    apart = [np.arange(3.0) + 10 * k for k in range(3)]
    assert statistics.kruskal_wallis(apart).p == pytest.approx(statistics.smallest_p(3, 3, 3))
    assert statistics.smallest_p(3, 3, 3) == pytest.approx(6 / (math.factorial(9) / 6**3))  # three groups in 3! orders
    assert statistics.smallest_p(20, 20, 20) == 1 / (1 + statistics.DEALINGS)


def test_sign_test_is_binomial() -> None:
    for higher, lower in ((0, 0), (5, 0), (3, 4), (1, 9)):
        expected = scipy.stats.binomtest(higher, higher + lower).pvalue if higher + lower else 1.0
        assert statistics.sign_test(higher, lower).p == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(groups=several)
def test_kruskal_wallis_is_scipy_and_enumeration(groups: list[list[int]]) -> None:
    pooled = [v for g in groups for v in g]
    ours = statistics.kruskal_wallis(groups)
    if len(set(pooled)) == 1:
        assert (ours.statistic, ours.p) == (0.0, 1.0)
        return
    assert ours.statistic == pytest.approx(scipy.stats.kruskal(*groups).statistic, abs=1e-9)
    ranks = scipy.stats.rankdata(pooled)
    sizes = [len(g) for g in groups]

    def spread(order: tuple[int, ...]) -> float:
        dealt = np.split(ranks[list(order)], np.cumsum(sizes)[:-1])
        return float(sum(part.sum() ** 2 / len(part) for part in dealt))

    everyone = range(len(pooled))
    dealings = []
    for first in itertools.combinations(everyone, sizes[0]):
        rest = [i for i in everyone if i not in first]
        for second in itertools.combinations(rest, sizes[1]):
            dealings.append(spread((*first, *second, *(i for i in rest if i not in second))))
    observed = spread(tuple(everyone))
    assert ours.exact and ours.p == pytest.approx(np.mean(np.array(dealings) >= observed - 1e-9), rel=1e-12)


def test_kruskal_wallis_of_two_groups_is_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((5, 5), (4, 7)):
        x, y = rng.integers(0, 9, n), rng.integers(2, 11, m)
        assert statistics.kruskal_wallis([x, y]).p == pytest.approx(statistics.mann_whitney(x, y).p)


def test_kruskal_wallis_of_hundreds_of_videos_does_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DEALINGS", 200)
    sizes = (97, 101, 103, 107, 109, 113)
    groups = np.split(np.arange(float(sum(sizes))), np.cumsum(sizes)[:-1])
    found = statistics.kruskal_wallis(groups)
    assert found.statistic == pytest.approx(scipy.stats.kruskal(*groups).statistic)
    assert found.p == 1 / 201


def test_random_dealings_agree_with_all() -> None:
    rng = np.random.default_rng(1)
    groups = [rng.normal(k * 0.6, 1, 6) for k in range(3)]
    exact = statistics.kruskal_wallis(groups)
    drawn = statistics.kruskal_wallis(groups, seed=3, states=0)
    assert statistics.kruskal_wallis(groups, seed=3, states=0) == drawn != statistics.kruskal_wallis(groups, seed=4, states=0)
    many = [np.tile(g, 9) + rng.normal(0, 1e-6, 54) for g in groups]  # more than a hundred values: orders come in parts
    assert statistics.kruskal_wallis(many).p == pytest.approx(scipy.stats.kruskal(*many).pvalue, abs=0.003)
    assert exact.exact and not drawn.exact and drawn.statistic == exact.statistic
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p * (1 - exact.p) / statistics.DEALINGS))
    assert drawn.p != exact.p


def test_dunn_is_scikit_posthocs() -> None:
    for case in json.loads((GOLDEN / "dunn.json").read_text())["cases"]:
        pairs = statistics.dunn(case["groups"])
        assert [pair.p for pair in pairs] == pytest.approx(case["p"], rel=1e-9)
        assert statistics.holm([pair.p for pair in pairs]).tolist() == pytest.approx(case["holm"], rel=1e-9)
        assert [(pair.first, pair.second) for pair in pairs] == list(itertools.combinations(range(len(case["groups"])), 2))


def gehan_by_hand(x: list[tuple[int, bool]], y: list[tuple[int, bool]]) -> int:
    """Pairs in which y is certainly longer less pairs in which x is, one by one."""
    total = 0
    for (a, a_late), (b, b_late) in itertools.product(x, y):
        if not b_late and (a > b or (a == b and a_late)):
            total -= 1
        elif not a_late and (b > a or (b == a and b_late)):
            total += 1
    return total


latencies = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(x=latencies, y=latencies)
def test_censored_values_are_gehan_by_enumeration(x: list[tuple[int, bool]], y: list[tuple[int, bool]]) -> None:
    both = [*x, *y]
    far = abs(gehan_by_hand(x, y))
    dealt = []
    for chosen in itertools.combinations(range(len(both)), len(x)):
        first = [both[i] for i in chosen]
        dealt.append(abs(gehan_by_hand(first, [both[i] for i in range(len(both)) if i not in chosen])) >= far)
    (a, a_late), (b, b_late) = zip(*x, strict=True), zip(*y, strict=True)
    ours = statistics.mann_whitney(a, b, a_late, b_late)
    assert ours.p == pytest.approx(np.mean(dealt), rel=1e-12)
    assert 2 * ours.statistic - len(x) * len(y) == -gehan_by_hand(x, y)


def test_nothing_observed_says_nothing() -> None:
    late = [True] * 4
    assert statistics.mann_whitney([1, 2, 3, 4], [9, 8, 7, 6], late, late).p == 1
    assert statistics.kruskal_wallis([[1, 2], [3, 4], [5, 6]], [[True, True]] * 3).p == 1


@settings(max_examples=40, deadline=None)
@given(x=st.lists(st.integers(0, 9), min_size=2, max_size=8), y=st.lists(st.integers(0, 9), min_size=2, max_size=8))
def test_welch_is_scipy(x: list[int], y: list[int]) -> None:
    ours = statistics.welch(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:  # scipy warns
        return
    theirs = scipy.stats.ttest_ind(x, y, equal_var=False)
    assert ours is not None
    assert (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-6, abs=1e-9)
    assert ours.df == pytest.approx(theirs.df, rel=1e-6)


def test_t_tests_that_cannot_be() -> None:
    assert statistics.welch([1.0], [1.0, 2.0]) is None and statistics.welch([1.0, 1.0], [1.0, 1.0]) is None
    assert statistics.paired_t([0.5, 0.5]) is None
    theirs = scipy.stats.ttest_1samp([0.1, 0.3, -0.2], 0)
    ours = statistics.paired_t([0.1, 0.3, -0.2])
    assert ours is not None and (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))


@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_is_statsmodels_and_scipy(p: list[float]) -> None:
    ours = statistics.benjamini_hochberg(p)
    np.testing.assert_allclose(ours, multipletests(p, method="fdr_bh")[1], rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(ours, scipy.stats.false_discovery_control(p), rtol=1e-12, atol=1e-300)
    assert (ours <= statistics.holm(p) + 1e-12).all()


# --- effect sizes ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(u=st.integers(0, 30), n=st.integers(1, 6))
def test_newcombe_solves_its_equation(u: int, n: int) -> None:
    m = 5
    delta = 2 * min(1.0, u / (n * m)) - 1
    low, high = effects.delta_interval(delta, n, m)
    assert -1 <= low <= delta <= high <= 1 and low < high
    assert effects.delta_interval(-delta, n, m) == (-high, -low)
    more = (n + m) / 2 - 1
    for limit in (low, high):
        theta, estimate = (limit + 1) / 2, (delta + 1) / 2
        if abs(limit) < 1:
            variance = theta * (1 - theta) * (1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)) / (n * m)
            assert (estimate - theta) ** 2 == pytest.approx(1.959963984540054**2 * variance, rel=1e-6)


def test_newcombe_has_a_length_where_the_bootstrap_has_none() -> None:
    x, y = np.arange(4.0), np.arange(4.0) + 10
    assert effects.delta_bootstrap(x, y, 500, 0) == (-1, -1)
    low, high = effects.delta_interval(effects.cliffs_delta(x, y), 4, 4)
    assert low == -1 and -0.4 < high < 0
    wider = effects.delta_interval(-1.0, 3, 3)[1]
    assert wider > high > effects.delta_interval(-1.0, 14, 14)[1]
    with pytest.raises(ValueError, match="between -1 and 1"):
        effects.delta_interval(1.2, 3, 3)


def test_hedges_g() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 9), rng.normal(0, 1, 7)
    pooled = math.sqrt((8 * x.var(ddof=1) + 6 * y.var(ddof=1)) / 14)
    assert effects.hedges_g(x, y) == pytest.approx((x.mean() - y.mean()) / pooled * (1 - 3 / 55))
    low, high = effects.hedges_g_bootstrap(x, y, 4000, 1)
    theirs = scipy.stats.bootstrap(
        (x, y), effects.hedges_g, method="percentile", n_resamples=3000, vectorized=False, rng=np.random.default_rng(5)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.06)
    assert all(math.isnan(v) for v in effects.hedges_g_bootstrap(x[:3], y, 100, 0))
    t, nct = scipy.stats.ttest_ind(x, y).statistic, scipy.stats.nct
    for limit, p in zip(effects.hedges_g_interval(x, y), (0.975, 0.025), strict=True):
        assert nct.cdf(t, 14, limit / math.sqrt(1 / 9 + 1 / 7)) == pytest.approx(p, abs=1e-6)
    assert effects.hedges_g_interval(y, x) == pytest.approx([-v for v in effects.hedges_g_interval(x, y)[::-1]])
    assert math.isnan(effects.hedges_g([1.0, 1.0], [1.0, 1.0]))
    far = effects.hedges_g_bootstrap(1e6 + x, 1e6 + y, 4000, 1)
    assert far == pytest.approx((low, high), rel=1e-6)  # not lost in rounding


def test_effects_of_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.2, 1, 9), rng.normal(0.4, 1, 9)
    d = x - y
    w = statistics.wilcoxon(d).statistic
    assert effects.rank_biserial(d) == pytest.approx(2 * w / 45 - 1)
    low, high = effects.rank_biserial_interval(d, 3000, 0)
    assert -1 <= low < effects.rank_biserial(d) < high <= 1
    assert effects.rank_biserial([0, 0]) == 0 and effects.rank_biserial_interval([0.0, 0.0], 100, 0) == (-1, 1)
    low, high = effects.rank_biserial_interval(np.arange(1.0, 8), 100, 0)
    assert high == 1 and (low + 1) / 2 == pytest.approx(scipy.stats.binomtest(7, 7).proportion_ci().low)
    assert effects.rank_biserial_interval(-np.arange(1.0, 8), 100, 0) == (-1, -low)
    spread = math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    assert effects.paired_g(x, y) == pytest.approx(d.mean() / spread * (1 - 3 / 31))
    low, high = effects.paired_g_bootstrap(x, y, 2000, 0)
    assert low < effects.paired_g(x, y) < high


def test_epsilon_squared() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(k, 1, 6) for k in range(3)]
    assert effects.epsilon_squared(groups) == pytest.approx(scipy.stats.kruskal(*groups).statistic / 17)
    low, high = effects.epsilon_squared_bootstrap(groups, 1000, 0)
    assert 0 <= low < effects.epsilon_squared(groups) < high <= 1
    assert effects.epsilon_squared([np.ones(3)] * 3) == 0
