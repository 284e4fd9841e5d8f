"""How much of the bare network's speed is left to a pretraining run: loop, views, heads, losses, teacher's update and reading included.

    python benchmarks/pretrain_speed.py [--batch 8] [--steps 6]

A store of noise is made and the recipe `miniature` is run on it with random weights, one torch thread. "Bare" is what cannot be left
out: the teacher's forward pass of the large crops and the student's forward and backward passes of all crops, of the same sizes, measured
in the same process before and after the run. All in CPU seconds, threads that read included, so that other work beside it counts little.
Also told: the share of the time (by the clock) that the loop waited for pictures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from cells import RESULTS, write_cell

from foveate.data.sampler import Sampler
from foveate.data.sources import Source, read_store
from foveate.methods.dinov2 import Dinov2
from foveate.models.vit import Vit, resized, sized
from foveate.recipes import recipe_of
from foveate.train.loop import fit
from foveate.train.speed import Line
from foveate.videowriter import VideoWriter

PICTURES, SIZE = 600, 128


def store(folder: Path) -> Source:
    """Crops as the project keeps them: smooth noise, so that a file has the size of real ones."""
    random, path = np.random.default_rng(0), folder / "part-00000.mp4"
    with VideoWriter(path, SIZE, SIZE) as writer:
        for _ in range(PICTURES):
            writer.write(np.kron(random.integers(60, 200, (8, 8, 3)), np.ones((SIZE // 8, SIZE // 8, 1))).astype(np.uint8))
    number = np.arange(PICTURES)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (PICTURES, 1))
    return Source(
        "noise", "noise", "", (SIZE, SIZE), number, number / 10, whole, lambda start, count: read_store(path, start, count)
    )


def bare(method: Dinov2, batch: int, rounds: int) -> list[float]:
    """CPU seconds of the passes that a step cannot do without."""
    views, took = method.config.views, []
    large, small = (
        torch.randn(count * batch, 3, size, size) for count, size in ((2, views.large), (views.smalls, views.small))
    )
    for _ in range(rounds):
        start = time.process_time()
        with torch.no_grad():
            method.teacher(large)
        seen = method.student.many([large, small])
        sum(one.cls.sum() + one.patches.sum() for one in seen).backward()
        took.append(time.process_time() - start)
        method.zero_grad(set_to_none=True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = recipe_of("miniature", steps=given.steps, batch=given.batch)
    method = Dinov2(resized(Vit(sized("small")), recipe.method.views.large), recipe.method)
    lines: list[Line] = []
    times: list[float] = []

    def say(line: Line) -> None:
        lines.append(line)
        times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        data = Sampler([store(Path(folder))], given.batch, buffer=PICTURES // 2, workers=1)
        before = bare(method, given.batch, 2)
        fit(method, data, replace(recipe.training, keep=(), log=1), Path(folder) / "run", say=say)
        after = bare(method, given.batch, 2)
    steps = np.diff(times)[:-1]  # the first step counts operations, the last one saves
    result = {
        "batch": given.batch,
        "CPU seconds of a step": float(np.median(steps)),
        "CPU seconds of its bare passes": median(before[1:] + after),
        "share": median(before[1:] + after) / float(np.median(steps)),
        "waited": float(np.mean([line.waited for line in lines[1:-1]])),
    }
    print({name: round(value, 3) for name, value in result.items()})
    write_cell(RESULTS / "pretrain_speed.json", result)


if __name__ == "__main__":
    main()
