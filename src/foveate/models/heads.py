"""Heads of self-supervision: what stands on a backbone while it learns, and is thrown away after."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class DinoHead(nn.Module):
    """DINO's projection head: three linear layers with GELU, normalisation, and prototypes of free length (DINO, appendix C).

    ``logits = g * cos(x, v)`` for each prototype v, g = 1 at first. Parameters have the names of the published checkpoints:
    ``mlp.0.weight``, ..., ``last_layer.weight_g``, ``last_layer.weight_v``.

    Args:
        width: D of the backbone.
        prototypes: K.
        hidden: width of the layers between.
        bottleneck: width of the space in which prototypes live.
    """

    def __init__(self, width: int, prototypes: int, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(bottleneck, prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """float[N, D] -> float[N, K]."""
        x = self.mlp(x)
        logits: Tensor = self.last_layer(functional.normalize(x, dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12))
        return logits


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are unit vectors ``weight_v`` times lengths ``weight_g``: weight normalisation."""

    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        self.weight_v = nn.Parameter(nn.Linear(width, prototypes, bias=False).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """float[N, width] -> float[N, prototypes]."""
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=1, keepdim=True)
        return functional.linear(x, weight)


def projector(*widths: int, norm: bool) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them, and with ``norm`` batch normalisation before it; the last is plain.

    On GPUs with several processes statistics are those of the whole batch (``SyncBatchNorm``); on CPUs, where PyTorch has none, of each
    process's part of it.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    made = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
    distributed = torch.distributed
    if norm and torch.cuda.is_available() and distributed.is_available() and distributed.is_initialized():
        made = nn.SyncBatchNorm.convert_sync_batchnorm(made)  # type: ignore[no-untyped-call]
    return made
