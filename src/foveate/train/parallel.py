"""Several processes as one: ``torchrun`` starts them, each takes its slice of every batch, gradients are averaged.

Without ``torchrun`` there is one process, and everything here does nothing.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from foveate.data.clips import Clips
from foveate.methods.moment import Moment
from foveate.schema import FoveateError
from foveate.train.settings import Machine


@dataclass(frozen=True)
class World:
    """This process among the others."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


@contextmanager
def joined() -> Iterator[World]:
    """The processes that ``torchrun`` started, each with a GPU of its own where there are GPUs; left again at the end.

    Raises:
        FoveateError: more processes than GPUs.
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    gpus = torch.cuda.device_count()
    if gpus and local >= gpus:
        raise FoveateError(
            f"process {local + 1} has no GPU: there are {gpus}",
            remedy=f"start no more processes: torchrun --nproc-per-node {gpus}",
        )
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    begun = size > 1 and not distributed.is_initialized()
    if begun:
        distributed.init_process_group("nccl" if gpus else "gloo", device_id=device if gpus else None)
    try:
        yield World(distributed.get_rank() if size > 1 else 0, size, device)
    finally:
        if begun:
            distributed.destroy_process_group()


class Stepping(nn.Module):
    """A method as a module whose ``forward`` is a step: what PyTorch's wrappers act upon."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        result: tuple[Tensor, dict[str, Tensor]] = self.method.step(batch, at)
        return result


def wrapped(method: nn.Module, machine: Machine, world: World) -> nn.Module:
    """The method as the module to call: its blocks recomputed, compiled and sharded as asked, its gradients averaged.

    Call it before the optimiser is made: sharding replaces the parameters.
    """
    stepping = Stepping(method)
    for block in blocks(method):
        if machine.recompute:
            setattr(block, "forward", partial(_recomputed, block.forward))  # noqa: B010
        if machine.compile:
            block.compile()
    if machine.shard:
        if world.size == 1:
            raise FoveateError(
                "there is one process to spread the weights over", remedy="start several with torchrun, or leave out shard"
            )
        from torch.distributed.fsdp import fully_shard

        for block in blocks(method):
            fully_shard(block)
        fully_shard(stepping)
        return stepping
    if world.size == 1:
        return stepping
    from torch.nn.parallel import DistributedDataParallel

    # Buffers (centres, queues) are made alike by the method, from the whole batch. PyTorch 2.13 gave the argument another name.
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    not_copied: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    return DistributedDataParallel(stepping, gradient_as_bucket_view=True, **not_copied)


def _recomputed(forward: Any, *values: Any) -> Any:
    return checkpoint(forward, *values, use_reentrant=False) if torch.is_grad_enabled() else forward(*values)


def blocks(method: nn.Module) -> list[nn.Module]:
    """The children of every list of modules called ``blocks``: what a transformer repeats."""
    found = [module for name, module in method.named_modules() if name.split(".")[-1] == "blocks"]
    return [block for module in found if isinstance(module, nn.ModuleList) for block in module]


def average(values: Tensor) -> Tensor:
    """``values`` averaged over the processes, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
        values /= distributed.get_world_size()
    return values


def agreed(value: str) -> str:
    """What the first process says."""
    if not distributed.is_initialized():
        return value
    said = [value]
    distributed.broadcast_object_list(said, src=0)
    return said[0]


def together() -> None:
    """Wait for all processes."""
    if distributed.is_initialized():
        distributed.barrier()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread over the processes. All of them have to ask."""
    gathered = getattr(tensor, "full_tensor", None)
    result: Tensor = tensor if gathered is None else gathered()
    return result


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` on the device of ``like``, and spread over the processes as that is."""
    moved = tensor.to(like.device, like.dtype)
    if not hasattr(like, "placements"):
        return moved
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(moved, like.device_mesh, like.placements)
