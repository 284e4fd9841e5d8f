"""The batched solver against scikit-learn, and what must hold whatever else is solved beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from foveate.actions import logistic
from foveate.actions.logistic import Windows, fit, logits

torch.set_num_threads(1)


def problem(
    rows: int, width: int, window: int, labels: int, seed: int = 0, difficulty: float = 1.0
) -> tuple[Windows, NDArray[np.int8]]:
    """Vectors that drift in time, with an offset and unequal scales; labels from the common to the rare, none perfectly separable."""
    rng = np.random.default_rng(seed)
    hidden = np.cumsum(rng.normal(size=(rows, 6)), 0) / np.sqrt(rows / 8)
    vectors = hidden @ rng.normal(size=(6, width)) * rng.uniform(0.2, 5, width) + rng.normal(size=(rows, width)) + 7
    half = window // 2
    index = np.clip(np.arange(rows)[:, None] + np.arange(-half, half + 1), 0, rows - 1)
    score = hidden[:, np.arange(labels) % 6] + difficulty * rng.normal(size=(rows, labels))
    cut = np.quantile(score, np.linspace(0.5, 0.9, labels), axis=0).diagonal()
    return Windows(vectors.astype(np.float16), index), (score > cut).astype(np.int8)


def reference(design: Windows, target: NDArray[np.int8], penalty: float, balance: bool) -> NDArray[np.float64]:
    """Probabilities of scikit-learn for all rows; standardised on all rows, fitted on those with a target."""
    x = design.gather(slice(0, design.rows))
    scale = x.std(0)
    x = (x - x.mean(0)) / np.where(scale > 0, scale, 1)
    use = target >= 0
    # C multiplies a sum where we have a mean; balanced weights sum to the number of rows.
    model = LogisticRegression(
        C=1 / (penalty * use.sum()), tol=1e-9, max_iter=20_000, class_weight="balanced" if balance else None
    )
    return model.fit(x[use], target[use]).predict_proba(x)[:, 1]


def probability(design: Windows, solution: logistic.Solution, s: int) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits(design, solution.weight[s], solution.bias[s])))


# More rows than features, about as many, and few enough for the coordinates of the row space.
@pytest.mark.parametrize(("rows", "width", "window"), [(500, 12, 3), (60, 16, 5), (40, 30, 7)])
@pytest.mark.parametrize("balance", [False, True])
def test_parity_with_scikit_learn(rows: int, width: int, window: int, balance: bool) -> None:
    design, target = problem(rows, width, window, labels=3)
    target[: rows // 10, 1] = -1
    penalties = [1e-2, 1.0, 1e-1]
    solution = fit(design, target, penalties, balance)
    assert solution.converged.all()
    for s, penalty in enumerate(penalties):
        ours = probability(design, solution, s)
        for p in range(3):
            np.testing.assert_allclose(ours[:, p], reference(design, target[:, p], penalty, balance), atol=1e-4)


def test_parity_without_dense_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows gathered block by block, problems in several batches, a sketch smaller than the data: the same optimum."""
    design, target = problem(300, 10, 3, labels=4)
    whole = fit(design, target, [1e-2])
    for name, value in (("_DENSE", 0), ("_BLOCK", 64), ("_LOGITS", 700), ("_SKETCH", 16)):
        monkeypatch.setattr(logistic, name, value)
    parts = fit(design, target, [1e-2])
    np.testing.assert_allclose(probability(design, parts, 0), probability(design, whole, 0), atol=2e-5)


def test_duplicate_labels_get_identical_weights() -> None:
    design, target = problem(200, 8, 3, labels=2)
    solution = fit(design, target[:, [0, 1, 0]], [1e-2, 1.0])
    np.testing.assert_allclose(solution.weight[:, 0], solution.weight[:, 2], rtol=0, atol=1e-10)
    np.testing.assert_allclose(solution.bias[:, 0], solution.bias[:, 2], rtol=0, atol=1e-9)
    assert np.abs(solution.weight[:, 0] - solution.weight[:, 1]).max() > 1e-3


def test_other_labels_do_not_matter() -> None:
    design, target = problem(200, 8, 3, labels=4)
    other = target.copy()
    other[:, 1:] = np.random.default_rng(1).permutation(other[:, 1:])
    a, b = fit(design, target, [1e-2]), fit(design, other, [1e-2])
    np.testing.assert_allclose(a.weight[0, 0], b.weight[0, 0], rtol=0, atol=1e-8)
    assert np.abs(a.weight[0, 1] - b.weight[0, 1]).max() > 1e-3


def test_left_out_rows_are_out() -> None:
    """Target -1 equals removing the row, once the standardisation is the same."""
    design, target = problem(200, 6, 1, labels=1)
    masked = target.copy()
    masked[::2] = -1
    twice = Windows(np.concatenate([design.vectors, design.vectors]), np.arange(400)[:, None])
    stacked = np.concatenate([masked, np.full_like(masked, -1)])
    a, b = fit(design, masked, [1e-2]), fit(twice, stacked, [1e-2])
    np.testing.assert_allclose(a.weight, b.weight, atol=1e-5)


def test_deterministic() -> None:
    design, target = problem(150, 8, 3, labels=3)
    a, b = fit(design, target, [1e-2, 1.0]), fit(design, target, [1e-2, 1.0])
    assert a.weight.tobytes() == b.weight.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()


def test_order_of_penalties_does_not_matter() -> None:
    design, target = problem(150, 8, 3, labels=2)
    a, b = fit(design, target, [1e-2, 1.0]), fit(design, target, [1.0, 1e-2])
    assert a.weight.tobytes() == b.weight[::-1].tobytes()


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), offset=st.floats(-50, 50), seed=st.integers(0, 99))
def test_units_of_the_features_do_not_matter(scale: float, offset: float, seed: int) -> None:
    design, target = problem(80, 5, 1, labels=1, seed=seed)
    x = design.vectors.astype(np.float64)
    moved = Windows(x * scale + offset, design.index)
    a, b = fit(Windows(x, design.index), target, [0.1]), fit(moved, target, [0.1])
    np.testing.assert_allclose(probability(moved, b, 0), probability(design, a, 0), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), penalty=st.sampled_from([1e-3, 1e-1, 10.0]))
def test_gradient_vanishes(seed: int, penalty: float) -> None:
    """The optimality condition itself, computed apart from the solver: X'(c (p - y)) + penalty w = 0."""
    design, target = problem(60, 7, 3, labels=2, seed=seed)
    solution = fit(design, target, [penalty])
    x = design.gather(slice(0, 60))
    z = (x - x.mean(0)) / x.std(0)
    residual = (probability(design, solution, 0) - target) / 60
    gradient = residual.T @ z + penalty * solution.weight[0] * x.std(0)
    assert solution.converged.all()
    assert np.abs(gradient).max() <= 1.1 * np.sqrt(2 * penalty * logistic.GAP) + 1e-12
    assert np.abs(residual.sum(0)).max() <= 1.1 * np.sqrt(2 * penalty * logistic.GAP) + 1e-12


def test_one_class_only_is_a_constant() -> None:
    design, target = problem(50, 4, 1, labels=3)
    target[:, 0], target[:, 1] = 0, -1
    solution = fit(design, target, [0.1, 1.0])
    assert not solution.weight[:, :2].any()
    np.testing.assert_allclose(solution.bias[:, 0], np.log(0.5 / 50.5))
    np.testing.assert_allclose(solution.bias[:, 1], 0)
    assert np.isfinite(solution.bias).all() and solution.weight[:, 2].any()


def test_constant_features_get_no_weight() -> None:
    design, target = problem(50, 4, 1, labels=1)
    vectors = design.vectors.copy()
    vectors[:, 2] = 3.5
    weight = fit(Windows(vectors, design.index), target, [0.1]).weight[0, 0]
    assert weight[2] == 0 and np.abs(weight[[0, 1, 3]]).min() > 0


def test_running_out_of_iterations_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    design, target = problem(200, 20, 3, labels=1)
    solution = fit(design, target, [1e-3])
    assert not solution.converged.any() and (solution.iterations == 2).all()


def test_penalties_must_be_positive() -> None:
    design, target = problem(20, 3, 1, labels=1)
    with pytest.raises(ValueError, match="positive"):
        fit(design, target, [0.0])
