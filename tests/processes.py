"""Runs as several processes what a test runs as one: ``torchrun -m tests.processes FOLDER``, and in the test ``main(FOLDER)``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.data.augment import Augmentation
from foveate.data.clip_views import ClipAugmentation
from foveate.data.parents import Parent
from foveate.methods.dinov2 import Dinov2, Dinov2Config
from foveate.methods.dora import Dora, DoraConfig
from foveate.methods.moment import Moment
from foveate.models.vit import Vit, VitConfig
from foveate.schedules import Schedule, constant
from foveate.train import parallel
from foveate.train.loop import fit
from foveate.train.settings import Machine, Training
from tests.toy import Pictures, Toy

TRAINING = Training(steps=4, batch=8, lr=Schedule(2e-3, 1e-4), decay=constant(0.1), epoch=2, clip=1.0, seed=3, keep=(4,), log=2)
DINOV2 = Dinov2Config(
    views=Augmentation(large=32, small=16, smalls=2),
    prototypes=24,
    hidden=32,
    bottleneck=16,
    teacher_temperature=constant(0.06),
    momentum=constant(0.9),
    last_layer_frozen=1,
)


def toy() -> Toy:
    method = Toy()
    method.dropout = 0.0  # drawn in each process for itself
    return method


def vit(heads: int = 2) -> Vit:
    torch.manual_seed(0)
    made = Vit(VitConfig(image_size=32, patch=8, width=32, depth=2, heads=heads, layer_scale=1.0))
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.08 * torch.randn(value.shape))
    return made


def dinov2(**changes: Any) -> Dinov2:
    return Dinov2(vit(), replace(DINOV2, **changes))


def dora() -> Dora:
    """Its masks are cut at a mean over the whole batch."""
    views = ClipAugmentation(parent=Parent(40), large=32, small=16, smalls=2)
    head: dict[str, Any] = {"prototypes": 24, "hidden": 32, "bottleneck": 16, "last_layer_frozen": 1}
    return Dora(vit(heads=4), DoraConfig(views=views, **head))


CASES: dict[str, tuple[Callable[[], Any], int, Machine]] = {
    "toy": (toy, 16, Machine(save=2)),
    "dinov2": (dinov2, 40, Machine(save=2)),
    "dinov2 centred": (lambda: dinov2(centring="centre", tied=False), 40, Machine(save=2, recompute=True)),
    "dinov2 sharded": (dinov2, 40, Machine(save=2, shard=True)),
    "dora": (dora, 48, Machine(save=2)),
}


def stopping(method: Any) -> Any:
    """The same, interrupted in its third step."""
    after = method.after_step

    def stop(at: Moment) -> None:
        if at.step == 2:
            raise KeyboardInterrupt
        after(at)

    method.after_step = stop
    return method


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with parallel.joined() as world:
        for name, (make, size, machine) in CASES.items():
            here = machine if world.size > 1 else replace(machine, shard=False)
            data = Pictures(TRAINING.batch, world.rank, world.size, size, 3 if name == "dora" else 1)
            if here.shard or name == "toy":  # these are resumed as well
                with suppress(KeyboardInterrupt):
                    fit(stopping(make()), data, TRAINING, folder / name, here, world=world)
            fit(make(), data, TRAINING, folder / name, here, world=world)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
