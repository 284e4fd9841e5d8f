"""What a training run is made of: what decides its result, and how a machine goes about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.schedules import Schedule
from foveate.schema import FoveateError


@dataclass(frozen=True)
class Training:
    """What decides the result, beside the method and the pictures."""

    steps: int  # of the whole run
    batch: int  # samples of a step, over all processes
    lr: Schedule  # learning rate; times the multiplier of a group
    decay: Schedule  # weight decay, likewise: of AdamW apart from the gradient, of SGD part of it
    epoch: int = 400  # steps in an epoch, the unit of a method's own schedules
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    momentum: float = 0.9  # of SGD and LARS
    clip: float | None = 3.0  # largest norm of the gradient of each part of the method; None: any
    seed: int = 0
    keep: tuple[int, ...] = ()  # steps after which the backbone is kept as a model folder; 0: as it was before
    log: int = 20  # steps to a line of metrics.jsonl, which tells their mean
    look: int = 500  # steps from one look for collapse to the next
    # Looks in a row without a better k-NN on annotated pictures after which the run ends; the best backbone is kept. 0: to the last step.
    patience: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.epoch, self.log, self.look) < 1:
            raise FoveateError("steps, batch, epoch, log and look are at least 1", remedy="correct the recipe")
        beyond = [step for step in self.keep if not 0 <= step <= self.steps]
        if beyond:
            raise FoveateError(
                f"step {beyond[0]} cannot be kept of a run of {self.steps}", remedy="make the run longer, or keep earlier steps"
            )


@dataclass(frozen=True)
class Machine:
    """How it is done; another machine gives the same result but for rounding."""

    accumulate: int = 1  # parts that a batch is cut into, their gradients added up: less memory
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU
    save: int = 500  # steps from one state to resume from to the next
    workers: int = 2  # threads that read pictures
    compile: bool = False  # each block by torch.compile
    recompute: bool = False  # each block's inner values once more for the gradient: less memory, a third more time
    shard: bool = False  # weights spread over the processes (FSDP2), for models that fit on no single GPU
    tensorboard: bool = False  # also write metrics for TensorBoard
    wandb: str = ""  # also send metrics to this project of Weights & Biases
