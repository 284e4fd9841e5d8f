"""What methods of momentum contrast remember, and how they encode keys: a queue, an encoder that follows, batches that are shuffled.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, section 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from foveate.data.draws import uniform
from foveate.methods.moment import Moment
from foveate.models.conv_blocks import Norm
from foveate.models.convnets import ConvNet, Maps, grouped
from foveate.schema import FoveateError

WHOLE_BATCH = "keys are normalised over the batch, and all enter the queue"
"""Why a batch cannot be cut for gradients that are added up."""


class Encoder(nn.Module):
    """A network and the heads on it.

    Args:
        net: the network; batches are normalised in ``groups`` parts.
        heads: each from f32[B, D] to f32[B, d].
        groups: see ``conv_blocks.Norm``.
    """

    def __init__(self, net: ConvNet, heads: Sequence[nn.Module], groups: int) -> None:
        super().__init__()
        self.net, self.heads = net, nn.ModuleList(heads)
        grouped(net, groups)

    def forward(self, pictures: Tensor) -> tuple[Maps, list[Tensor]]:
        """The network's map, and of each head unit vectors f32[B, d]."""
        maps: Maps = self.net(pictures)
        return maps, [functional.normalize(head(maps.cls).float(), dim=1) for head in self.heads]


class Queue(nn.Module):
    """The newest keys of batches before, in a buffer of their own that they are written into in place.

    Where the next ones go is told by the number of samples so far, so that nobody has to ask the device. A batch that does not divide the
    length is wrapped around at the end.

    Args:
        length: K; 0: none.
        width: d of a key.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("entries", functional.normalize(torch.randn(length, width), dim=1))  # as released: random at first
        self.register_buffer("owner", torch.full((length,), -1))  # number of the footage that each came from; -1: none

    @property
    def keys(self) -> Tensor:
        """f32[K, d], no copy."""
        return self.get_buffer("entries")

    def others(self, owner: Tensor) -> Tensor:
        """bool[B, K]: keys of the same footage as a query, ``owner`` i64[B]."""
        owner = owner.unsqueeze(1)
        return (owner == self.get_buffer("owner")) & (owner >= 0)

    @torch.no_grad()
    def put(self, keys: Tensor, owner: Tensor, at: Moment) -> None:
        """Write the keys f32[B, d] of all processes in place of the oldest; ``owner`` i64[B].

        Raises:
            FoveateError: there are fewer places than keys.
        """
        entries, owners = self.keys, self.get_buffer("owner")
        if not len(entries):
            return
        if at.batch > len(entries):
            raise FoveateError(
                f"a queue of {len(entries):,} keys is shorter than a batch of {at.batch:,}",
                remedy="make the queue longer (a multiple of the batch is best), or the batch smaller",
            )
        keys, owner, first = gathered(keys), gathered(owner), at.samples % len(entries)
        fit = min(len(keys), len(entries) - first)
        for target, new in ((entries, keys), (owners, owner)):
            target[first : first + fit].copy_(new[:fit])
            target[: len(new) - fit].copy_(new[fit:])


@torch.no_grad()
def follow(key: nn.Module, query: nn.Module, momentum: float) -> None:
    """momentum x key + (1 - momentum) x query (MoCo, eq. 2); the moving statistics of normalisation are each one's own."""
    torch._foreach_lerp_([p.data for p in key.parameters()], [p.data for p in query.parameters()], 1 - momentum)


@torch.no_grad()
def encoded(encoder: Encoder, pictures: Tensor, at: Moment, stream: str, shuffle: bool) -> list[Tensor]:
    """Keys of this process's pictures, unit vectors f32[B, d] of each head.

    With ``shuffle`` they are normalised together with others than the queries were (MoCo, section 3.3): the whole batch, over all
    processes, is permuted before and put back after. Where all of it is normalised at once, that would change nothing, and is left out.
    """
    groups = next((module.groups for module in encoder.modules() if isinstance(module, Norm)), 1)
    if not shuffle or groups * _size() == 1:
        return list(encoder(pictures)[1])
    order = np.argsort(uniform(at.seed, at.step, np.arange(at.batch), f"shuffle {stream}", 1)[:, 0], kind="stable")
    everything, share = gathered(pictures), at.batch // _size()
    mine = slice(first_of(at), first_of(at) + share)
    chosen, back = (torch.from_numpy(rows[mine]).to(pictures.device) for rows in (order, np.argsort(order)))
    return [gathered(keys)[back] for keys in encoder(everything[chosen])[1]]


@torch.no_grad()
def level(*modules: nn.Module) -> None:
    """The moving statistics of normalisation averaged over the processes, so that all hold, keep and resume the same."""
    if _size() == 1:
        return
    moving = [
        module.get_buffer(name)
        for one in modules
        for module in one.modules()
        if isinstance(module, Norm)
        for name in ("running_mean", "running_var")
    ]
    flat = torch.cat([value.flatten() for value in moving])
    distributed.all_reduce(flat)
    for value, mean in zip(moving, torch.split(flat / _size(), [value.numel() for value in moving]), strict=True):
        value.copy_(mean.view_as(value))


@torch.no_grad()
def gathered(value: Tensor) -> Tensor:
    """All processes' rows in the order of the processes; without gradient."""
    if _size() == 1:
        return value.detach()
    parts = [torch.empty_like(value) for _ in range(_size())]
    distributed.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def first_of(at: Moment) -> int:
    """Place in the whole batch of this process's first sample."""
    return _rank() * (at.batch // _size())


def _size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0
