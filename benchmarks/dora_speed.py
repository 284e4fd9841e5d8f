"""What a step of DoRA costs beside one of DINO on the same pictures: views, teacher, objects, student, losses and gradients.

    python benchmarks/dora_speed.py [--clips 2] [--rounds 5]

A clip of 4 frames is 4 pictures to DINO, with as many large (2) and small (6) crops each, of 64 and 32 px; network and heads are those of
the miniature recipes. Both in turns, CPU seconds (`foveate.bench.compared`), after one of each that does not count. "By tokens" counts the
tokens that pass through the backbone, three times those that have a gradient: the ratio if nothing else cost anything.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from cells import RESULTS, write_cell

from foveate.bench import compared
from foveate.data.clips import Clips
from foveate.methods.moment import Moment
from foveate.recipes import recipe_of
from foveate.recipes.build import backbone_of, method_of

FRAMES = 4


def clips(count: int, times: int) -> Clips:
    """Noise, as large as the footage of `dora.py`."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 1, times, 3, 126, 224)).astype(np.uint8)
    return Clips(
        frames=torch.from_numpy(frames),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1),
        time=torch.zeros(count, 1, times, dtype=torch.float64),
        where=torch.zeros(count, 1, times, 4, dtype=torch.int32),
        index=torch.arange(count),
    )


def step(method: Any, batch: Clips) -> None:
    """Once there and back."""
    loss, _ = method.step(batch, Moment(100, 464, 46, 0, len(batch)))
    loss.backward()
    method.zero_grad()
    method.after_step(Moment(100, 464, 46, 0, len(batch)))


def tokens(views: Any, patch: int, objects: int) -> int:
    """Of one picture: the teacher's, and three times the student's."""
    large, small = ((size // patch) ** 2 + 1 for size in (views.large, views.small))
    return 2 * large + 3 * (2 * objects * large + views.smalls * small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dino, dora = recipe_of("dino_miniature"), recipe_of("dora_miniature")
    other: Any = method_of(dino.method, backbone_of(dino, None))
    rows = []
    for objects in (1, 3, 6):
        recipe = replace(dora, method=replace(dora.method, objects=objects))  # type: ignore[type-var]
        one: Any = method_of(recipe.method, backbone_of(recipe, None))
        first, second = partial(step, other, clips(given.clips * FRAMES, 1)), partial(step, one, clips(given.clips, FRAMES))
        found = compared(first, second, given.rounds, torch.device("cpu"))
        theory = tokens(one.config.views, 8, objects) / tokens(other.config.views, 8, 1)
        row = {
            "what": f"k = {objects}",
            "ratio": found.times_faster,
            "least": found.least,
            "most": found.most,
            "theory": theory,
        }
        rows.append({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
        print(rows[-1], flush=True)
    write_cell(RESULTS / "dora_speed.json", {"clips": given.clips, "frames": FRAMES, "rounds": given.rounds, "rows": rows})


if __name__ == "__main__":
    main()
