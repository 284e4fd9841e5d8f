"""Linear layers of a frozen model on a CPU, their weights once and for all in the order in which oneDNN reads them.

For every product the library otherwise arranges them anew. The GELU of a perceptron is computed while its input is still in the caches.
Both are what ``torch.compile`` does with frozen weights, without its minutes of compiling; results differ by rounding alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class Packed(nn.Module):
    """A frozen linear layer, and the exact GELU after it if it is asked for."""

    def __init__(self, linear: nn.Linear, *, gelu: bool) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())  # no parameter: it fits no other device
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.gelu = gelu

    def forward(self, given: Tensor) -> Tensor:
        kind, exact = ("gelu", "none") if self.gelu else ("none", "")
        out: Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, kind, [], exact)
        return out


def can_pack() -> bool:
    """Whether this build of torch has the operators; they are those of its compiler, not of its public face."""
    library: Any = torch.backends.mkldnn  # untyped
    names = "_reorder_linear_weight", "_linear_pointwise"
    return bool(library.is_available()) and all(hasattr(torch.ops.mkldnn, name) for name in names)


def pack(blocks: nn.Module) -> None:
    """Replace the linear layers f32 in the blocks of a frozen ``transformers`` model; the old weights are given up."""
    from transformers.activations import GELUActivation

    for parent in list(blocks.modules()):
        children: dict[str, Any] = dict(parent.named_children())
        for name, child in children.items():
            if type(child) is not nn.Linear or child.weight.dtype != torch.float32:  # subclasses are read by others
                continue
            gelu = name == "fc1" and type(children.get("activation_fn")) is GELUActivation
            setattr(parent, name, Packed(child, gelu=gelu))
            if gelu:
                parent.activation_fn = nn.Identity()
