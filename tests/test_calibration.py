"""Reliability: recalibration against scikit-learn, bins, and limits where nothing can be said."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from foveate.actions.calibration import equal_bins, recalibration


def drawn(seed: int, slope: float, intercept: float, rows: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Probabilities whose truth follows ``intercept + slope * logit``."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, rows)
    return rng.random(rows) < 1 / (1 + np.exp(-intercept - slope * logit)), 1 / (1 + np.exp(-logit))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), slope=st.floats(0.3, 3), intercept=st.floats(-2, 2))
def test_recalibration_is_an_unpenalised_regression(seed: int, slope: float, intercept: float) -> None:
    told, p = drawn(seed, slope, intercept, 300)
    reference = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(np.log(p / (1 - p))[:, None], told)
    found = recalibration(told, p)
    assert found == pytest.approx((reference.intercept_[0], reference.coef_[0, 0]), abs=1e-3)


def test_true_probabilities_have_intercept_0_and_slope_1() -> None:
    intercept, slope = recalibration(*drawn(0, 1, 0, 20_000))
    assert intercept == pytest.approx(0, abs=0.08) and slope == pytest.approx(1, abs=0.08)


def test_no_finite_optimum() -> None:
    p = np.linspace(0.01, 0.99, 50)
    for told in (p > 0.5, p > 2, p >= 0, p < 0.3):  # separated, constant, constant, separated the wrong way
        assert np.isnan(recalibration(told, p)).all()


def test_certain_probabilities_do_not_break_it() -> None:
    told, p = drawn(1, 1, 0, 500)
    p[:5], told[:5] = 1.0, True
    p[5:9], told[5:9] = 0.0, False
    assert np.isfinite(recalibration(told, p)).all()


@given(rows=st.integers(1, 500))
def test_bins_hold_every_row_once(rows: int) -> None:
    p = np.random.default_rng(rows).random(rows)
    bins = equal_bins(p)
    assert sorted(np.concatenate(bins).tolist()) == list(range(rows))
    assert max(map(len, bins)) - min(map(len, bins)) <= 1 and len(bins) <= 10
    assert all(p[a].max() <= p[b].min() for a, b in itertools.pairwise(bins))
    assert len(bins) == 1 or min(map(len, bins)) >= 20


def test_equal_probabilities_are_one_bin() -> None:
    """A constant probability that is right on average is right, in whatever order the rows come."""
    assert [len(part) for part in equal_bins(np.full(200, 0.2))] == [200]
    p = np.repeat([0.1, 0.7], [150, 50])
    bins = equal_bins(p)
    assert [len(part) for part in bins] == [150, 50]
    p = np.concatenate([np.full(70, 0.5), np.linspace(0.6, 0.9, 130)])
    bins = equal_bins(p)
    assert len(bins[0]) == 70 and sorted(np.concatenate(bins).tolist()) == list(range(200))
    assert all(p[a].max() < p[b].min() for a, b in itertools.pairwise(bins))
