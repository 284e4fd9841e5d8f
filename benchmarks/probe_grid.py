"""How much faster is the published probe's grid in one product than its 26 probes one after another, and are they the same?

Against two ways of training one after another, on the same rows in the same order: the published loop as one would write it (one
``nn.Linear``, autograd and ``torch.optim.SGD`` per learning rate and layer), and our own step with one learning rate and one layer at a
time, which has neither autograd nor an optimiser object and so leaves to the batching alone what the batching gains. Vectors are those of a
finished project's annotated videos, or drawn at random in the demo's shape. Every timing is the least of several, the kinds taken in turns.

    python benchmarks/probe_grid.py [--project FOLDER]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate.actions.sgd import BATCH, MOMENTUM, RATES, Grid, Views, batches, fit_grid, start

ROWS, WIDTH, LABELS = 1200, 384, 7


def at_random(window: int) -> Views:
    """The demo's shape: 1,200 labelled rows in stretches of 50, 384 numbers of two layers, 7 labels."""
    rng = np.random.default_rng(0)
    vectors = (2 * rng.normal(size=(ROWS, 2 * WIDTH))).astype(np.float16)
    half, first = window // 2, np.arange(ROWS) // 50 * 50
    index = np.clip(np.arange(ROWS)[:, None] + np.arange(-half, half + 1), first[:, None], first[:, None] + 49)
    truth = (vectors[:, :LABELS] + vectors[:, WIDTH : WIDTH + LABELS] > 2).astype(np.int8)
    return Views(vectors, index[None], truth[None], 2)


def of_project(folder: Path, window: int) -> Views:
    from foveate.actions import labelwise, training
    from foveate.project import Project

    project = Project.load(folder)
    return labelwise.clean_views(training.load(project, project.config.probe.published().model_copy(update={"window": window})))


def published_loop(views: Views) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [C, R, L, F] and biases [C, R, L] by autograd and torch.optim, one probe after another."""
    rows = np.arange(views.index.shape[1])
    _, row = batches(views, rows, 0)
    every = views.gather(np.zeros(len(rows), dtype=np.int64), rows)  # as a user would: one dense matrix
    target = torch.from_numpy(views.target[0])
    weight, bias = [], []
    for layer in range(views.layers):
        for rate in RATES:
            probe = torch.nn.Linear(views.features, views.target.shape[2])
            with torch.no_grad():
                probe.weight.copy_(start(views.features, 0).expand_as(probe.weight))
                probe.bias.zero_()
            optimiser = torch.optim.SGD(probe.parameters(), rate * BATCH / 256, momentum=MOMENTUM)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(row))
            for step in torch.from_numpy(row):
                told = target[step]
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    probe(every[layer, step]), (told == 1).float(), weight=(told >= 0).float()
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            weight.append(probe.weight.detach().numpy())
            bias.append(probe.bias.detach().numpy())
    shape = (views.layers, len(RATES), *weight[0].shape)
    return np.stack(weight).reshape(shape), np.stack(bias).reshape(shape[:3])


def one_by_one(views: Views) -> None:
    """Our own step, one learning rate and one layer at a time."""
    rows, width = np.arange(views.index.shape[1]), views.vectors.shape[1] // views.layers
    for layer in range(views.layers):
        alone = Views(np.ascontiguousarray(views.vectors[:, layer * width : (layer + 1) * width]), views.index, views.target, 1)
        for rate in RATES:
            fit_grid(alone, rows, 0, (rate,))


def in_one(views: Views) -> Grid:
    return fit_grid(views, np.arange(views.index.shape[1]))


def least(kinds: dict[str, Callable[[Views], object]], views: Views, repeats: int) -> dict[str, float]:
    seconds = dict.fromkeys(kinds, float("inf"))
    for _ in range(repeats):
        for name, kind in kinds.items():
            started = time.perf_counter()
            kind(views)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {"vectors": "of a project" if arguments.project else "random", "threads": 1}
    for window in (1, 7):
        views = of_project(arguments.project, window) if arguments.project else at_random(window)
        kinds = {"torch_optim": published_loop, "same_step": one_by_one, "grid": in_one}
        seconds = least(kinds, views, arguments.repeats)
        weight, bias = published_loop(views)
        grid = in_one(views)
        result[f"window_{window}"] = {
            "rows": views.index.shape[1],
            "width": views.features,
            "labels": views.target.shape[2],
            "probes": views.layers * len(RATES),
            "steps": len(batches(views, np.arange(views.index.shape[1]), 0)[1]),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "times_faster_than_torch_optim_one_after_another": round(seconds["torch_optim"] / seconds["grid"], 1),
            "times_faster_than_the_same_step_one_after_another": round(seconds["same_step"] / seconds["grid"], 1),
            "largest_difference_of_weights": float(np.abs(grid.weight.numpy() - weight).max()),
            "largest_difference_of_biases": float(np.abs(grid.bias.numpy() - bias).max()),
            "largest_weight": round(float(np.abs(weight).max()), 3),
        }
    print(result)
    write_cell(RESULTS / "probe_grid.json", result)


if __name__ == "__main__":
    main()
