"""iBOT (Zhou 2022): DINO, and for patches hidden from the student what the teacher makes of them.

    views       2 large and 8 small crops of a piece of a picture                 data.parents, data.augment
    masks       blocks in half of the large ones, or what the teacher looks at    data.blockmasks, methods.attmask
    teacher     moving average of the student; sees the large crops, nothing hidden
    targets     the teacher's logits, centred (views and patches apart) and sharpened
    loss        dino(each crop, of each other large one) + ibot(hidden patches, of the same crop)

Defaults are those of the released code for ViT-S (``bytedance/ibot``). ``methods.dinov2`` has the same two losses with what came later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate import losses
from foveate.data.augment import Augmentation
from foveate.data.blockmasks import BlockMasks
from foveate.data.parents import Parent, seen_of
from foveate.methods import distil
from foveate.methods.attmask import AttentionMasks
from foveate.methods.moment import Group, Moment
from foveate.models.heads import DinoHead
from foveate.models.vit import Vit
from foveate.schedules import Schedule, constant

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class IbotConfig:
    """What the method is set to."""

    views: Augmentation = field(
        default_factory=lambda: Augmentation(small=96, large_area=(0.4, 1.0), small_area=(0.05, 0.4), nominal_blur=True)
    )
    parent: Parent | None = field(default_factory=Parent)
    masks: BlockMasks | AttentionMasks = field(default_factory=BlockMasks)
    prototypes: int = 8192
    hidden: int = 2048  # width of the head's layers
    bottleneck: int = 256  # width in which prototypes live
    tied: bool = True  # one head for views and patches
    unit_prototypes: bool = False  # prototypes of length 1
    student_temperature: float = 0.1
    teacher_temperature: Schedule = field(default_factory=lambda: constant(0.04))  # of views
    patch_temperature: Schedule = field(default_factory=lambda: Schedule(0.07, 0.07, start=0.04, warmup=30 * 1560))
    momentum: Schedule = field(default_factory=lambda: Schedule(0.996, 1.0))  # of the teacher
    dino: float = 1.0  # weights of the losses
    ibot: float = 1.0
    last_layer_frozen: int = 1560  # steps, an epoch

    @property
    def size(self) -> int:
        """Pixels per side of the large views."""
        return self.views.large

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return False


class Ibot(nn.Module):
    """Student, teacher and heads.

    Args:
        vit: where both begin; it becomes the student. Its ``drop_path`` acts on the student alone; published: .1.
        config: see ``IbotConfig``.

    Raises:
        FoveateError: crops that the backbone's patches do not divide.
    """

    def __init__(self, vit: Vit, config: IbotConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.large, config.views.small)
        self.config, self.student = config, vit
        self.head = DinoHead(vit.config.width, config.prototypes, config.hidden, config.bottleneck)
        self.patch_head = (
            None if config.tied else DinoHead(vit.config.width, config.prototypes, config.hidden, config.bottleneck)
        )
        for head in self._heads():
            head.last_layer.weight_g.requires_grad_(not config.unit_prototypes)
        self.teacher = distil.still(self.student)
        self.teacher_heads = nn.ModuleList(distil.still(head) for head in self._heads())
        self.centre, self.patch_centre = distil.Centre(config.prototypes), distil.Centre(config.prototypes)
        self.whole_batch = "sizes of masks are stratified over the batch" if isinstance(config.masks, BlockMasks) else ""
        self.train()

    def train(self, mode: bool = True) -> Ibot:
        """The teacher never is in training mode."""
        super().train(mode)
        self.teacher.train(False)
        self.teacher_heads.train(False)
        return self

    def backbone(self) -> Vit:
        """The teacher."""
        return self.teacher

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W]; its parts before weighting, entropy and number of
        prototypes used."""
        config, count, device = self.config, len(batch), batch.frames.device
        seen = seen_of(batch, at.seed, at.step, config.views, config.parent)
        with torch.no_grad():
            whole, (qkv,) = self.teacher.watch(seen.large, [-1])
            mask = torch.from_numpy(self._hidden(qkv.attention(1), batch.index.cpu().numpy(), at)).to(device)
            logits, patches = self.teacher_heads[0](whole.cls), self.teacher_heads[-1](whole.patches)
            of_views = self.centre.targets(logits, config.teacher_temperature.at(at.step, at.steps)).view(2, count, -1)
            # The centre of patches moves by all of them, hidden or not, as in the released code.
            temperature = config.patch_temperature.at(at.step, at.steps)
            of_patches = self.patch_centre.targets(patches.flatten(0, 1), temperature).view(*mask.shape, -1)[mask]
        masked, small = self.student.many([seen.large, seen.small], [mask, None])
        views = self.head(torch.cat([masked.cls, small.cls]))
        hidden = (self.patch_head or self.head)(masked.patches[mask])
        loss, parts = self._loss(views, hidden, of_views, of_patches, mask)
        # Where nothing is hidden, as can be, the mask token has its gradient all the same.
        loss = loss + 0 * self.student.mask_token.sum()
        parts |= distil.used(of_views)
        return loss, {name: value.detach() for name, value in parts.items()}

    def _hidden(self, attention: Tensor, index: NDArray[np.int64], at: Moment) -> NDArray[np.bool_]:
        """bool ``[2B, P]`` of the samples' large views."""
        masks, grid = self.config.masks, self.config.views.large // self.student.config.patch
        if isinstance(masks, AttentionMasks):
            first = 1 + self.student.config.registers
            return masks.draw(attention[:, :, 0, first:].mean(1).cpu().numpy(), index, at.seed, at.step)
        place = index % at.batch
        return masks.draw(np.concatenate([place, at.batch + place]), 2 * at.batch, grid, grid, at.seed, at.step)

    def _loss(
        self, views: Tensor, hidden: Tensor, of_views: Tensor, of_patches: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of logits float[(2 + V) B, K] of views and float[M, K] of hidden patches, against f32[2, B, K] and f32[M, K]."""
        config, views = self.config, views.view(-1, *of_views.shape[1:])
        large, small = views[:2], views[2:]
        crossed = losses.dino(large, of_views.flip(0), config.student_temperature, matched=True)
        inward = losses.dino(small, of_views, config.student_temperature)
        dino = (crossed + inward) / (2 + 2 * config.views.smalls)
        ibot = losses.ibot(hidden, of_patches, losses.patch_weights(mask), len(mask), config.student_temperature)
        return config.dino * dino + config.ibot * ibot, {"dino": dino, "ibot": ibot}

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The teacher and the centres follow."""
        momentum = self.config.momentum.at(at.step, at.steps)
        distil.follow((self.teacher, self.teacher_heads), (self.student, *self._heads()), momentum)
        self.centre.move()
        self.patch_centre.move()

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        heads = dict(zip(("head", "patch_head"), self._heads(), strict=False))
        return distil.groups({"backbone": self.student, **heads}, self.config.last_layer_frozen)

    def _heads(self) -> list[DinoHead]:
        return [self.head] if self.patch_head is None else [self.head, self.patch_head]
