"""DINO (Caron 2021): what a student makes of crops of a picture is what its teacher makes of the large ones.

    views       2 large and 8 small crops of a piece of a picture       data.parents, data.augment
    teacher     moving average of the student; sees the large crops
    targets     the teacher's logits, centred and sharpened
    loss        cross-entropy of each crop against each other large one, mean over the 2 (2 + 8) - 2 pairs

Defaults are those of the released code for ViT-S (``facebookresearch/dino``). Taking a piece first is DoRA's rule for footage; ``parent``
None is DINO on whole pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foveate import losses
from foveate.data.augment import Augmentation
from foveate.data.parents import Parent, seen_of
from foveate.methods import distil
from foveate.methods.moment import Group, Moment
from foveate.models.heads import DinoHead
from foveate.models.vit import Vit
from foveate.schedules import Schedule, constant

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class DinoConfig:
    """What the method is set to."""

    views: Augmentation = field(
        default_factory=lambda: Augmentation(small=96, large_area=(0.4, 1.0), small_area=(0.05, 0.4), nominal_blur=True)
    )
    parent: Parent | None = field(default_factory=Parent)
    prototypes: int = 65_536
    hidden: int = 2048  # width of the head's layers
    bottleneck: int = 256  # width in which prototypes live
    unit_prototypes: bool = False  # prototypes of length 1 (the code's norm_last_layer: steadier, for ViT-B)
    student_temperature: float = 0.1
    teacher_temperature: Schedule = field(default_factory=lambda: constant(0.04))  # with an option to climb to .07
    momentum: Schedule = field(default_factory=lambda: Schedule(0.996, 1.0))  # of the teacher
    last_layer_frozen: int = 1560  # steps, an epoch

    @property
    def size(self) -> int:
        """Pixels per side of the large views."""
        return self.views.large

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return False


class Dino(nn.Module):
    """Student, teacher and heads.

    Args:
        vit: where both begin; it becomes the student. Its ``drop_path`` acts on the student alone; published: .1.
        config: see ``DinoConfig``.

    Raises:
        FoveateError: crops that the backbone's patches do not divide.
    """

    whole_batch = ""

    def __init__(self, vit: Vit, config: DinoConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.large, config.views.small)
        vit.mask_token.requires_grad_(False)  # nothing is replaced by it
        self.config, self.student = config, vit
        self.head = DinoHead(vit.config.width, config.prototypes, config.hidden, config.bottleneck)
        self.head.last_layer.weight_g.requires_grad_(not config.unit_prototypes)
        self.teacher, self.teacher_head = distil.still(self.student), distil.still(self.head)
        self.centre = distil.Centre(config.prototypes)
        self.train()

    def train(self, mode: bool = True) -> Dino:
        """The teacher never is in training mode."""
        super().train(mode)
        self.teacher.train(False)
        self.teacher_head.train(False)
        return self

    def backbone(self) -> Vit:
        """The teacher."""
        return self.teacher

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W]; beside it entropy and number of prototypes used."""
        config, count = self.config, len(batch)
        seen = seen_of(batch, at.seed, at.step, config.views, config.parent)
        with torch.no_grad():
            logits = self.teacher_head(self.teacher(seen.large).cls)
            targets = self.centre.targets(logits, config.teacher_temperature.at(at.step, at.steps)).view(2, count, -1)
        large, small = (one.cls for one in self.student.many([seen.large, seen.small]))
        large, small = self.head(torch.cat([large, small])).split([len(large), len(small)])
        crossed = losses.dino(large.view(2, count, -1), targets.flip(0), config.student_temperature, matched=True)
        inward = losses.dino(small.view(config.views.smalls, count, -1), targets, config.student_temperature)
        loss = (crossed + inward) / (2 + 2 * config.views.smalls)
        return loss, distil.used(targets)

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The teacher and the centre follow."""
        students, teachers = (self.student, self.head), (self.teacher, self.teacher_head)
        distil.follow(teachers, students, self.config.momentum.at(at.step, at.steps))
        self.centre.move()

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        return distil.groups({"backbone": self.student, "head": self.head}, self.config.last_layer_frozen)
