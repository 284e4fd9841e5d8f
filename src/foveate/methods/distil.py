"""What methods with a student and a teacher share (DINO, iBOT, DINOv2, DoRA): a copy that follows, and DINO's parameter groups."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from foveate import losses
from foveate.methods.moment import Group
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_Kind = TypeVar("_Kind", bound=nn.Module)


def still(module: _Kind) -> _Kind:
    """A copy that gradients do not reach."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teachers: Iterable[nn.Module], students: Iterable[nn.Module], momentum: float) -> None:
    """momentum x teacher + (1 - momentum) x student, for all parameters."""
    student, teacher = ([p.data for module in modules for p in module.parameters()] for modules in (students, teachers))
    torch._foreach_lerp_(teacher, student, 1 - momentum)


def groups(parts: Mapping[str, nn.Module], frozen: int = 0) -> list[Group]:
    """Trained parameters by part; biases and what has one dimension do not decay (``get_params_groups`` of DINO's code), and the last layer
    of a head is left as it is for the first ``frozen`` steps.

    DINO clips each parameter's gradient by itself; here each part's.
    """
    found: dict[tuple[str, float, int], list[nn.Parameter]] = {}
    for part, module in parts.items():
        for name, value in module.named_parameters():
            if value.requires_grad:
                decay = 0.0 if name.endswith(".bias") or value.ndim == 1 else 1.0
                found.setdefault((part, decay, frozen if name.startswith("last_layer") else 0), []).append(value)
    return [Group(part, tuple(params), decay=decay, frozen=wait) for (part, decay, wait), params in found.items()]


def processes() -> ProcessGroup | None:
    """All processes, where there are several."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return distributed.group.WORLD
    return None


class Centre(nn.Module):
    """The moving mean of the teacher's logits (DINO, eq. 4), which is taken away from them before they are targets."""

    value: Tensor

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(prototypes))
        self._seen: list[tuple[Tensor, int]] = []

    def targets(self, logits: Tensor, temperature: float) -> Tensor:
        """f32[N, K] of float[N, K], which will move the centre."""
        self._seen.append((logits.float().sum(0), len(logits)))
        return losses.centred(logits, self.value, temperature)

    @torch.no_grad()
    def move(self, momentum: float = 0.9) -> None:
        """After a step."""
        if self._seen:
            total, rows = torch.stack([total for total, _ in self._seen]).sum(0), sum(rows for _, rows in self._seen)
            self.value.copy_(losses.moved_centre(self.value, total, rows, momentum, processes()))
            self._seen.clear()


def used(targets: Tensor) -> dict[str, Tensor]:
    """What is worth writing down of f32[N, K]: the targets' mean entropy, and the number of prototypes that are the likeliest of one."""
    likeliest = targets.new_zeros(targets.shape[-1]).index_fill(0, targets.argmax(-1).flatten(), 1.0)
    return {"entropy": torch.special.entr(targets).sum(-1).mean(), "prototypes": likeliest.sum()}


def check_sizes(patch: int, *sizes: int) -> None:
    """Refuse views that patches do not divide."""
    for size in sizes:
        if size % patch:
            raise FoveateError(
                f"crops of {size} px cannot be cut into patches of {patch} px",
                remedy=f"choose a multiple of {patch}, for example {max(1, round(size / patch)) * patch}",
            )
