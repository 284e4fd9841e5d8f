"""The published probe's grid against its probes trained one after another with torch's own SGD, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveate.actions.logistic import Windows, logits
from foveate.actions.sgd import BATCH, RATES, Views, batches, fit_grid, start

torch.set_num_threads(1)

ROWS, DIM, LABELS, LAYERS = 200, 8, 3, 2


def problem(window: int = 1, seed: int = 0, unknown: float = 0.1, passes: int = 1) -> Views:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ROWS, LAYERS * DIM)).astype(np.float16)
    half = window // 2
    index = np.clip(np.arange(ROWS)[:, None] + np.arange(-half, half + 1), 0, ROWS - 1)
    truth = (vectors[:, :LABELS] + 0.5 * rng.normal(size=(ROWS, LABELS)) > 0.5).astype(np.int8)
    truth[rng.random(truth.shape) < unknown] = -1
    return Views(vectors, np.repeat(index[None], passes, 0), np.repeat(truth[None], passes, 0), LAYERS)


def one_probe(views: Views, rows: NDArray[np.int64], layer: int, rate: float, seed: int) -> tuple[NDArray[np.float32], ...]:
    """The published loop as anybody would write it: one layer, one rate, autograd, torch.optim."""
    which, row = batches(views, rows, seed)
    labels = views.target.shape[2]
    probe = torch.nn.Linear(views.features, labels)
    with torch.no_grad():
        probe.weight.copy_(start(views.features, seed).expand(labels, -1))
        probe.bias.zero_()
    optimiser = torch.optim.SGD(probe.parameters(), rate * BATCH / 256, momentum=0.9, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(row))
    for p, i in zip(which, row, strict=True):
        window = views.vectors[views.index[p, i]].reshape(len(i), -1, LAYERS, DIM)[:, :, layer].reshape(len(i), -1)
        target = torch.from_numpy(views.target[p, i]).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            probe(torch.from_numpy(window.astype(np.float32))), target.clamp(min=0), weight=(target >= 0).float()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return probe.weight.detach().numpy(), probe.bias.detach().numpy()


@pytest.mark.parametrize("window", [1, 3])
def test_same_weights_as_probes_one_after_another(window: int) -> None:
    views, rows = problem(window, passes=3), np.arange(0, ROWS, 2)
    views.index[1] = views.index[1][:, ::-1]  # the second pass looks otherwise
    views.target[2, :, 0] = 1 - np.abs(views.target[2, :, 0])
    grid = fit_grid(views, rows, seed=5)
    for layer in range(LAYERS):
        for r in (0, 6, 12):
            weight, bias = one_probe(views, rows, layer, RATES[r], 5)
            np.testing.assert_allclose(grid.weight[layer, r].numpy(), weight, atol=1e-5)
            np.testing.assert_allclose(grid.bias[layer, r].numpy(), bias, atol=1e-5)
    assert np.abs(grid.weight[0, 12].numpy() - start(views.features, 5).numpy()).max() > 0.01  # something was learned


def test_rows_are_seen_three_times_and_others_never() -> None:
    views, rows = problem(), np.arange(0, ROWS, 4)  # 50 rows: 150 draws, 12 batches, 6 left over
    which, row = batches(views, rows, 1)
    assert row.shape == (12, BATCH) and not which.any()
    count = np.bincount(row.reshape(-1), minlength=ROWS)
    assert set(np.flatnonzero(count)) <= set(rows.tolist()) and count.max() == 3 and count.sum() == 144
    three = Views(views.vectors, views.index.repeat(3, 0), views.target.repeat(3, 0), LAYERS)
    which, same = batches(three, rows, 1)
    np.testing.assert_array_equal(same, row)
    assert sorted(set(which.reshape(-1))) == [0, 1, 2]


def test_a_training_set_keeps_the_order_of_the_whole() -> None:
    views = problem()
    _, everything = batches(views, np.arange(ROWS), 3)
    _, some = batches(views, np.arange(0, ROWS, 2), 3)
    even = [i for i in everything.reshape(-1) if i % 2 == 0]
    assert some.reshape(-1).tolist() == even[: some.size]


def test_equal_labels_get_equal_weights_and_others_do_not_matter() -> None:
    views = problem()
    double = np.concatenate([views.target, views.target[:, :, :1]], axis=2)
    grid = fit_grid(Views(views.vectors, views.index, double, LAYERS), np.arange(ROWS))
    assert torch.equal(grid.weight[:, :, 0], grid.weight[:, :, 3]) and torch.equal(grid.bias[:, :, 0], grid.bias[:, :, 3])
    shuffled = double.copy()
    shuffled[:, :, 1:] = np.random.default_rng(0).permuted(double[:, :, 1:], axis=1)
    other = fit_grid(Views(views.vectors, views.index, shuffled, LAYERS), np.arange(ROWS))
    assert torch.equal(grid.weight[:, :, 0], other.weight[:, :, 0])
    assert not torch.equal(grid.weight[:, :, 1], other.weight[:, :, 1])


def test_rows_that_are_not_observed_teach_nothing() -> None:
    views = problem(unknown=0)
    target = views.target.copy()
    target[:, :, 1] = -1
    grid = fit_grid(Views(views.vectors, views.index, target, LAYERS), np.arange(ROWS))
    np.testing.assert_array_equal(grid.weight[:, :, 1].numpy(), np.broadcast_to(start(DIM, 0).numpy(), (LAYERS, 13, DIM)))
    assert not grid.bias[:, :, 1].any()


@pytest.mark.parametrize("window", [1, 5])
def test_the_merged_probe_gives_the_logits_of_its_sources(window: int) -> None:
    views = problem(window)
    grid, rows = fit_grid(views, np.arange(0, ROWS, 2)), np.arange(1, ROWS, 2)
    choice = np.array([12, 13 + 11, 13 + 9])  # the first label from the last layer, the others from the third-last
    weight, bias = grid.merge(choice, window)
    merged = logits(Windows(views.vectors, views.index[0, rows]), weight, bias)
    sources = grid.logits(views, rows)
    for label, probe in enumerate(choice):
        np.testing.assert_allclose(merged[:, label], sources[:, probe, label], atol=1e-5)
    unused = weight.reshape(LABELS, window, LAYERS, DIM)
    assert not unused[0, :, 1].any() and not unused[1:, :, 0].any()


def test_fewer_rows_than_a_batch() -> None:
    views = problem()
    grid = fit_grid(views, np.arange(3))
    assert torch.isfinite(grid.weight).all() and batches(views, np.arange(3), 0)[1].shape == (1, 9)
