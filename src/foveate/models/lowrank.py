"""Low-rank updates of a vision transformer: every matrix of its blocks stays as it is, and what is learned is added in few directions.

LoRA (Hu 2022): ``W x + B A x`` with ``A`` [rank, in] drawn and ``B`` [out, rank] zero, so that the first step sees the network as it was.
A ViT-S of rank 8 has 0.6 million such numbers instead of 21 million, and no gradient of a large matrix is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate.models.vit_model import Vit


class LowRank(nn.Module):
    """A linear layer with its update beside it; ``weight`` and ``bias`` are those of ``linear``, under their names.

    Deviation: the paper multiplies ``B A`` by alpha / rank, here by 1. With Adam that factor acts as the learning rate (their section 4.1).
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as in the released code

    def forward(self, x: Tensor) -> Tensor:
        """float[..., out] of float[..., in]."""
        return functional.linear(x, self.weight, self.bias) + functional.linear(functional.linear(x, self.down), self.up)

    def merged(self) -> Tensor:
        """f32[out, in]: the one matrix that does the same."""
        return torch.addmm(self.weight, self.up, self.down)


def add_low_rank(vit: Vit, rank: int, first: int = 0) -> None:
    """Put updates, drawn from PyTorch's generator, beside every linear layer of the blocks from ``first`` on, and leave nothing else of
    ``vit`` to be trained but the final LayerNorm.

    Raises:
        ValueError: ``rank`` is not between 1 and the width.
    """
    if not 1 <= rank <= vit.config.width:
        raise ValueError(f"the rank of an update is 1 to {vit.config.width}, not {rank}")
    for name, value in vit.named_parameters():
        value.requires_grad_(name.startswith("norm."))
    for block in vit.blocks[first:]:
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(parent, name, LowRank(child, rank))


def merged(vit: Vit) -> dict[str, Tensor]:
    """The weights by name of the plain network that does the same; where nothing was added, the weights themselves."""
    changed = {f"{name}.": module for name, module in vit.named_modules() if isinstance(module, LowRank)}
    found = {name: value.detach() for name, value in vit.named_parameters()}
    with torch.no_grad():
        for name, module in changed.items():
            del found[f"{name}down"], found[f"{name}up"]
            found[f"{name}weight"] = module.merged()
    return found
