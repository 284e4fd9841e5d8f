"""SimCLR (Chen 2020): two views of a picture are to be found among those of all others.

Defaults are solo-learn's for ImageNet-100 (a head of two layers to 512, temperature .2), of which DoRA's comparison was made. A piece of
each picture is taken first, as everywhere in that comparison; the optimiser is the loop's AdamW, and not LARS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foveate.data.parents import Parent, TwoViews, two_views
from foveate.losses_pairs import nt_xent
from foveate.methods import distil
from foveate.methods.moment import Group, Moment
from foveate.models.heads import projector
from foveate.models.vit import Vit

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class SimclrConfig:
    """What the method is set to."""

    views: TwoViews = field(default_factory=TwoViews)
    parent: Parent | None = field(default_factory=Parent)
    hidden: int = 4096
    width: int = 512  # of the vectors that are compared
    temperature: float = 0.2

    @property
    def size(self) -> int:
        """Pixels per side of the views."""
        return self.views.size

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return False


class Simclr(nn.Module):
    """One network and its head.

    Args:
        vit: where it begins.
        config: see ``SimclrConfig``.

    Raises:
        FoveateError: views that the backbone's patches do not divide.
    """

    whole_batch = "negatives are the other pictures of the batch"

    def __init__(self, vit: Vit, config: SimclrConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.size)
        vit.mask_token.requires_grad_(False)  # nothing is replaced by it
        self.config, self.network = config, vit
        self.head = projector(vit.config.width, config.hidden, config.width, norm=False)

    def backbone(self) -> Vit:
        """The network."""
        return self.network

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W]; beside it how often the right view is the nearest."""
        views, _ = two_views(batch, at.seed, at.step, self.config.views, self.config.parent)
        vectors = self.head(self.network(views).cls)
        loss = nt_xent(vectors, self.config.temperature, distil.processes())
        return loss, {"right": _right(vectors.detach())}

    def after_step(self, at: Moment) -> None:
        """Nothing follows."""

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        return distil.groups({"backbone": self.network, "head": self.head})


def _right(vectors: Tensor) -> Tensor:
    """Share of f32[2 B, D] whose nearest of this process's others is the same picture's."""
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    row = torch.arange(len(unit), device=unit.device)
    nearest = (unit @ unit.T).index_put((row, row), unit.new_tensor(-2.0)).argmax(1)
    return (nearest == (row + len(unit) // 2) % len(unit)).float().mean()
