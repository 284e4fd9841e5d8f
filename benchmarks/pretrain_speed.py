"""How much of the bare network's speed is left to a pretraining run: loop, views, heads, losses, teacher's update and reading included.

    python benchmarks/pretrain_speed.py [--recipe miniature] [--batch 8] [--steps 6]

What `foveate bench pretrain` measures (`foveate.bench`), as a cell; one torch thread on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

import torch
from cells import RESULTS, write_cell

from foveate.bench import BARE, WAITED, pretraining
from foveate.recipes import RECIPES, recipe_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="miniature")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    found = pretraining(recipe_of(given.recipe, batch=given.batch), given.steps, say=print)
    name = "pretrain_speed_gpu" if torch.cuda.is_available() else "pretrain_speed"
    write_cell(RESULTS / f"{name}.json", {"recipe": given.recipe, **asdict(found)})
    print(f"bare passes {found.share:.3f} of a step, waited {found.waited:.3f}")
    sys.exit(0 if found.share >= BARE and found.waited <= WAITED else "slower than asked")


if __name__ == "__main__":
    main()
