"""What the training loop and a method say to each other.

A method is one ``nn.Module`` beside a frozen configuration. The loop (``train.loop``) asks it for

    step(batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]
        the loss, a scalar with a gradient, and what is worth writing down: scalars without one, on the device
    after_step(at: Moment) -> None
        what follows the optimiser's step: the teacher, the centre, a queue; ``at`` is the moment of that step
    param_groups() -> list[Group]
        every parameter that is trained, once
    backbone() -> nn.Module
        what is kept of it, ready to be saved as a model folder
    whole_batch: str
        why a step cannot be cut into smaller batches whose gradients are added up; empty where it can

With several processes each holds an equal slice of the batch, and the mean of their losses is the loss; a method that normalises over
the batch does so over all of them. Every trained parameter takes part in every step. What a method has to remember is a parameter or
a persistent buffer: these are what a resumed run begins with. Randomness is a function of ``Moment.seed``, ``Moment.step`` and
``Clips.index``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from foveate.data.clips import Clips


@dataclass(frozen=True)
class Moment:
    """Where a run is."""

    step: int  # optimiser steps done before this one
    steps: int  # of the whole run
    epoch: int  # steps in an epoch, the unit in which papers write their schedules
    seed: int
    batch: int  # samples of a step, over all processes

    @property
    def samples(self) -> int:
        """Samples seen before this step."""
        return self.step * self.batch


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters that are trained alike."""

    part: str  # backbone, head, ...: the norm of a part's gradient is clipped by itself
    params: tuple[nn.Parameter, ...]
    lr: float = 1.0  # times the learning rate of the step
    decay: float = 1.0  # times the weight decay of the step; 0 for biases, norms and the like
    frozen: int = 0  # first steps of the run in which these are left as they are


class Method(Protocol):
    """The methods that the loop asks for, see above; the value is an ``nn.Module`` as well."""

    whole_batch: str

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]: ...
    def after_step(self, at: Moment) -> None: ...
    def param_groups(self) -> list[Group]: ...
    def backbone(self) -> nn.Module: ...
