"""SwAV (Caron 2020): from one view of a picture, which prototypes another one is given, all prototypes being given out evenly.

    views       2 large and 6 small crops of a piece of a picture                     data.parents, data.augment
    codes       of large crops: Sinkhorn-Knopp over the batch and a queue before it   losses
    loss        cross-entropy of each crop against the codes of each other large one

Head, prototypes, queue and temperatures are solo-learn's for ImageNet-100, of which DoRA's comparison was made; small crops are SwAV's own.
Blur and solarisation are DINO's. Prototypes are made unit vectors in the product, and not after each step; the optimiser is the loop's
AdamW, and not LARS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate import losses
from foveate.data.augment import Augmentation
from foveate.data.parents import Parent, seen_of
from foveate.methods import distil
from foveate.methods.moment import Group, Moment
from foveate.models.heads import projector
from foveate.models.vit import Vit

if TYPE_CHECKING:
    from foveate.data.clips import Clips

_ROUNDS = 3  # of Sinkhorn-Knopp


@dataclass(frozen=True)
class SwavConfig:
    """What the method is set to; steps are those of a run on one Walking Tours video in batches of 128."""

    views: Augmentation = field(
        default_factory=lambda: Augmentation(
            small=96,
            smalls=6,
            large_area=(0.14, 1.0),
            small_area=(0.05, 0.14),
            strength=(0.8, 0.8, 0.8, 0.2),
            nominal_blur=True,
        )
    )
    parent: Parent | None = field(default_factory=Parent)
    prototypes: int = 3000
    hidden: int = 2048
    width: int = 128  # of the vectors that are given prototypes
    temperature: float = 0.1
    epsilon: float = 0.05  # of Sinkhorn-Knopp
    queue: int = 3840  # vectors of earlier pictures that codes are made with, over all processes
    queue_from: int = 50 * 1560  # steps before they are
    prototypes_frozen: int = 2 * 1560  # first steps

    @property
    def size(self) -> int:
        """Pixels per side of the large views."""
        return self.views.large

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return False


class _Head(nn.Module):
    """Vectors of length 1, and their cosines with prototypes."""

    def __init__(self, width: int, config: SwavConfig) -> None:
        super().__init__()
        self.projector = projector(width, config.hidden, config.width, norm=True)
        self.last_layer = nn.Linear(config.width, config.prototypes, bias=False)

    def vectors(self, x: Tensor) -> Tensor:
        return functional.normalize(self.projector(x).float(), dim=-1)

    def forward(self, vectors: Tensor) -> Tensor:
        return functional.linear(vectors, functional.normalize(self.last_layer.weight, dim=-1))


class Swav(nn.Module):
    """One network, its head and the queue.

    Args:
        vit: where it begins.
        config: see ``SwavConfig``.

    Raises:
        FoveateError: views that the backbone's patches do not divide.
    """

    whole_batch = "Sinkhorn-Knopp uses prototypes evenly over the batch"
    queue: Tensor

    def __init__(self, vit: Vit, config: SwavConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.large, config.views.small)
        vit.mask_token.requires_grad_(False)  # nothing is replaced by it
        self.config, self.network = config, vit
        self.head = _Head(vit.config.width, config)
        group = distil.processes()
        self.register_buffer("queue", torch.zeros(2, config.queue // (1 if group is None else group.size()), config.width))
        self._new: Tensor | None = None

    def backbone(self) -> Vit:
        """The network."""
        return self.network

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W]; beside it entropy of codes and prototypes used."""
        config, count = self.config, len(batch)
        seen = seen_of(batch, at.seed, at.step, config.views, config.parent)
        large, small = (one.cls for one in self.network.many([seen.large, seen.small]))
        # Large and small apart, as in SwAV's code, where crops of one size go through the head's normalisation together.
        vectors = self.head.vectors(large)
        of_large = self.head(vectors).view(2, count, -1)
        of_small = self.head(self.head.vectors(small)).view(config.views.smalls, count, -1)
        codes = self._codes(of_large.detach(), at)
        self._new = vectors.detach().view(2, count, -1)
        crossed = losses.dino(of_large, codes.flip(0), config.temperature, matched=True)
        inward = losses.dino(of_small, codes, config.temperature)
        return (crossed + inward) / (2 + 2 * config.views.smalls), distil.used(codes)

    @torch.no_grad()
    def _codes(self, logits: Tensor, at: Moment) -> Tensor:
        """f32[2, B, K]. Each view has a queue of its own; it is used once it is full."""
        config, count = self.config, logits.shape[1]
        full = self.queue.shape[1] > 0 and at.step >= config.queue_from and at.samples >= config.queue
        found = []
        for view, queue in zip(logits, self.queue, strict=True):
            together = torch.cat([view, self.head(queue)]) if full else view
            found.append(losses.sinkhorn(together, config.epsilon, _ROUNDS, distil.processes())[:count])
        return torch.stack(found)

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The newest vectors come first in the queue, the oldest leave it."""
        if self._new is not None and self.queue.shape[1]:
            self.queue.copy_(torch.cat([self._new, self.queue], 1)[:, : self.queue.shape[1]])
        self._new = None

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        return distil.groups({"backbone": self.network, "head": self.head}, self.config.prototypes_frozen)
