"""Metrics against scikit-learn and brute force, and their rules for empty labels."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.actions import metrics


def random_case(seed: int, rows: int = 60, levels: int = 8) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Truth with unobserved rows, and probabilities with ties."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([1, 0, -1], dtype=np.int8), size=rows, p=[0.3, 0.5, 0.2])
    return truth, np.round(np.clip(rng.normal(0.3 + 0.3 * (truth == 1), 0.2), 0, 1) * levels) / levels


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_parity_with_scikit_learn(seed: int) -> None:
    truth, probability = random_case(seed)
    use = truth >= 0
    if not (truth == 1).any():
        return
    predicted = (probability >= 0.5).astype(np.int8)
    counts = metrics.confusion(truth[:, None], predicted[:, None], np.zeros(len(truth), dtype=np.int64), 1)[0, 0]
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        truth[use], predicted[use], average="binary", zero_division=0
    )
    assert metrics.f1(counts) == pytest.approx(f1)
    assert [float(v) for v in metrics.precision_recall(counts)] == pytest.approx([precision, recall])
    assert metrics.average_precision(truth, probability) == pytest.approx(
        sklearn.metrics.average_precision_score(truth[use], probability[use])
    )
    logit = np.log((probability + 0.01) / (1.01 - probability))
    assert metrics.log_loss(truth[:, None], logit[:, None])[0] == pytest.approx(
        sklearn.metrics.log_loss(truth[use], 1 / (1 + np.exp(-logit[use])), labels=[0, 1])
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_best_threshold_is_best(seed: int) -> None:
    truth, probability = random_case(seed, rows=25)
    use = truth >= 0

    def score(threshold: float) -> float:
        return float(sklearn.metrics.f1_score(truth[use], probability[use] >= threshold, zero_division=0))

    found = metrics.best_threshold(truth, probability)
    if (truth == 1).any():
        assert score(found) == pytest.approx(max(score(t) for t in np.linspace(0, 1, 101)))
    else:
        assert found == 0.5


def test_equally_good_thresholds_nearest_to_one_half() -> None:
    truth = np.array([0, 0, 1, 1], dtype=np.int8)
    assert metrics.best_threshold(truth, np.array([0.1, 0.2, 0.6, 0.7])) == pytest.approx(0.4)


def test_a_label_that_never_occurs_scores_zero_not_nan() -> None:
    truth = np.zeros((6, 1), dtype=np.int8)
    for predicted in (np.zeros((6, 1), dtype=np.int8), np.ones((6, 1), dtype=np.int8)):
        counts = metrics.confusion(truth, predicted, np.zeros(6, dtype=np.int64), 1)[0]
        assert metrics.f1(counts)[0] == 0
        assert [float(v[0]) for v in metrics.precision_recall(counts)] == [0, 0]
    assert metrics.average_precision(truth[:, 0], np.linspace(0, 1, 6)) == 0
    nothing = np.full((6, 1), -1, dtype=np.int8)
    assert metrics.log_loss(nothing, np.zeros((6, 1)))[0] == 0
    assert metrics.log_loss(nothing, np.zeros((6, 1)), balance=True)[0] == 0
    assert metrics.average_precision(nothing[:, 0], np.zeros(6)) == 0


def test_balanced_log_loss_weighs_the_classes_equally() -> None:
    truth = np.array([[1], [0], [0], [0]], dtype=np.int8)
    logit = np.array([[0.0], [-1.0], [-1.0], [-1.0]])
    expected = (np.log(2) + np.log1p(np.exp(-1))) / 2
    assert metrics.log_loss(truth, logit, balance=True)[0] == pytest.approx(expected)


def test_bouts_end_with_their_series() -> None:
    truth = np.array([1, 1, 0, 1, 1, 1, -1, 1], dtype=np.int8)
    series = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert metrics.count_bouts(truth, series) == 4
    assert metrics.count_bouts(truth[:0], series[:0]) == 0


def test_bootstrap_interval() -> None:
    rng = np.random.default_rng(0)
    counts = np.stack([rng.integers(5, 30, size=(8, 2)), *(rng.integers(0, 10, size=(8, 2)) for _ in range(2))], axis=-1)
    each, (low, high) = metrics.bootstrap_f1(counts, np.array([True, True]), seed=1)
    point = metrics.f1(counts.sum(0))
    assert (each[:, 0] < point).all() and (point < each[:, 1]).all()
    assert low < point.mean() < high
    assert metrics.bootstrap_f1(counts, np.array([True, True]), seed=1)[1] == (low, high)
    equal = np.repeat(counts[:1], 8, axis=0)  # groups that agree leave no doubt
    assert metrics.bootstrap_f1(equal, np.array([True, True]))[0] == pytest.approx(
        np.repeat(metrics.f1(counts[0])[:, None], 2, 1)
    )


def test_bootstrap_leaves_out_labels_without_positives() -> None:
    counts = np.zeros((6, 2, 3), dtype=np.int64)
    counts[:, 0, 0] = 4  # always right
    counts[:, 1, 1] = 2  # never present, sometimes predicted
    each, macro = metrics.bootstrap_f1(counts, np.array([True, True]))
    assert macro == (1.0, 1.0)
    assert each.tolist() == [[1.0, 1.0], [0.0, 0.0]]
