"""VICReg (Bardes 2022): vectors of two views alike, each of their numbers spread over the batch, no two numbers telling the same.

Defaults are solo-learn's for ImageNet-100 (a head of three layers of 2,048), of which DoRA's comparison was made. A piece of each picture
is taken first, as everywhere in that comparison; the optimiser is the loop's AdamW, and not LARS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from foveate import losses_pairs
from foveate.data.parents import Parent, TwoViews, two_views
from foveate.methods import distil
from foveate.methods.moment import Group, Moment
from foveate.models.heads import projector
from foveate.models.vit import Vit

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class VicregConfig:
    """What the method is set to."""

    views: TwoViews = field(
        default_factory=lambda: TwoViews(area=(0.2, 1.0), solarise=(0.1, 0.1), strength=(0.4, 0.4, 0.2, 0.1))
    )
    parent: Parent | None = field(default_factory=Parent)
    hidden: int = 2048
    width: int = 2048  # of the vectors that are compared
    invariance: float = 25.0  # weights
    variance: float = 25.0
    covariance: float = 1.0

    @property
    def size(self) -> int:
        """Pixels per side of the views."""
        return self.views.size

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return False


class Vicreg(nn.Module):
    """One network and its head.

    Args:
        vit: where it begins.
        config: see ``VicregConfig``.

    Raises:
        FoveateError: views that the backbone's patches do not divide.
    """

    whole_batch = "variance and covariance are those of the batch"

    def __init__(self, vit: Vit, config: VicregConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.size)
        vit.mask_token.requires_grad_(False)  # nothing is replaced by it
        self.config, self.network = config, vit
        self.head = projector(vit.config.width, config.hidden, config.hidden, config.width, norm=True)

    def backbone(self) -> Vit:
        """The network."""
        return self.network

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W], and its parts before weighting."""
        config = self.config
        views, _ = two_views(batch, at.seed, at.step, config.views, config.parent)
        # View by view: batch normalisation takes its statistics of one view, as published.
        one, other = (self.head(part) for part in self.network(views).cls.chunk(2))
        loss, parts = losses_pairs.vicreg(one, other, config.invariance, config.variance, config.covariance, distil.processes())
        return loss, {name: value.detach() for name, value in parts.items()}

    def after_step(self, at: Moment) -> None:
        """Nothing follows."""

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        return distil.groups({"backbone": self.network, "head": self.head})
