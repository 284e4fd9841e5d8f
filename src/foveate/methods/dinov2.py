"""DINOv2 (Oquab 2023) as the guided study fine-tunes with it: DINO on whole views, iBOT on masked patches, KoLeo.

    views       2 large and 8 small crops of a picture                                 data.augment
    masks       blocks of patches hidden from the student, in half of the large ones   data.blockmasks
    teacher     moving average of the student; sees the large crops, nothing hidden
    targets     the teacher's logits, Sinkhorn-Knopp (or centred) over the batch       losses
    loss        dino(large, of the other large) + dino(small, of both) + ibot(hidden patches) + .1 koleo(large)

Defaults are the values of the published run (Guided DINOv2, supplement, and the authors' configuration): batches of 64, one head for DINO
and iBOT. With smaller batches take fewer prototypes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate import losses
from foveate.data.augment import Augmentation, Views, views
from foveate.data.blockmasks import BlockMasks
from foveate.data.subject import Background, changed, patch_shares, subject_mean
from foveate.methods import distil
from foveate.methods.moment import Group, Moment
from foveate.models.heads import DinoHead
from foveate.models.lowrank import add_low_rank, merged
from foveate.models.vit import Vit
from foveate.schedules import Schedule
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from foveate.data.clips import Clips

_ROUNDS = 3  # of Sinkhorn-Knopp


@dataclass(frozen=True)
class Dinov2Config:
    """What the method is set to; steps are those of a run of 1.08 million."""

    views: Augmentation = field(default_factory=Augmentation)
    masks: BlockMasks = field(default_factory=BlockMasks)
    prototypes: int = 65_536
    hidden: int = 2048  # width of the head's layers
    bottleneck: int = 256  # width in which prototypes live
    tied: bool = True  # one head for views and patches; released large models have two
    centring: Literal["sinkhorn", "centre"] = "sinkhorn"
    student_temperature: float = 0.1
    teacher_temperature: Schedule = field(default_factory=lambda: Schedule(0.07, 0.07, start=0.04, warmup=12_000))
    momentum: Schedule = field(default_factory=lambda: Schedule(0.994, 1.0))  # of the teacher
    dino: float = 1.0  # weights of the losses
    ibot: float = 1.0
    koleo: float = 0.1  # of each of the two views
    koleo_local: bool = False  # neighbours among the samples of one process, as released; else among all
    layer_decay: float = 0.9  # learning rate of a block against that of the next
    patch_embed_lr: float = 0.2  # of the patch embedding, in addition
    last_layer_frozen: int = 400  # steps
    # Not published: fewer numbers to train on little data, and the mask as more than a place to crop.
    frozen_blocks: int = 0  # first blocks that stay as they are, with the embeddings and tokens before them
    rank: int = (
        0  # of updates beside the matrices of the other blocks, all else of which stays as it is; 0: all weights are trained
    )
    background: Background = "keep"  # of what the student sees
    target: Literal["cls", "subject"] = "cls"  # what the teacher tells of a view: its CLS token, or the mean of the subject

    @property
    def size(self) -> int:
        """Pixels per side of the large views."""
        return self.views.large

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""
        return self.background != "keep" or self.target == "subject" or self.masks.subject > 0


class Dinov2(nn.Module):
    """Student, teacher and heads.

    Args:
        vit: where both begin; it becomes the student.
        config: see ``Dinov2Config``.

    Raises:
        FoveateError: crops that the backbone's patches do not divide.
    """

    def __init__(self, vit: Vit, config: Dinov2Config) -> None:
        super().__init__()
        patch = vit.config.patch
        for size in (config.views.large, config.views.small):
            if size % patch:
                raise FoveateError(
                    f"crops of {size} px cannot be cut into patches of {patch} px",
                    remedy=f"choose a multiple of {patch}, for example {max(1, round(size / patch)) * patch}",
                )
        self.config = config
        self.student, width = vit, vit.config.width
        self.teacher = distil.still(self.student)  # of whole matrices also where the student's have updates beside them
        if config.rank:
            add_low_rank(vit, config.rank, config.frozen_blocks)
        elif config.frozen_blocks:
            _freeze(vit, config.frozen_blocks)
        self.head = DinoHead(width, config.prototypes, config.hidden, config.bottleneck)
        self.patch_head = None if config.tied else DinoHead(width, config.prototypes, config.hidden, config.bottleneck)
        self.teacher_head = distil.still(self.head)
        self.teacher_patch_head = None if self.patch_head is None else distil.still(self.patch_head)
        self.whole_batch = ""
        if config.koleo:
            self.whole_batch = "KoLeo looks for neighbours in the batch"
        if config.centring == "sinkhorn":
            self.whole_batch = "Sinkhorn-Knopp uses prototypes evenly over the batch"
        else:
            self.register_buffer("centre", torch.zeros(config.prototypes))
            self.register_buffer("patch_centre", torch.zeros(config.prototypes))
        self._logits: dict[str, tuple[Tensor, int]] = {}  # sums of this step's, by the centre that they move
        self.train()

    def train(self, mode: bool = True) -> Dinov2:
        """The teacher never is in training mode."""
        super().train(mode)
        for module in self._teachers():
            module.train(False)
        return self

    def backbone(self) -> Vit:
        """The teacher, which is what the study evaluates."""
        return self.teacher

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W].

        Returns:
            The loss, and its parts before weighting (``dino``, ``ibot``, ``koleo``: the mean of two views); beside them the mean entropy of
            the teacher's targets of views, and the number of prototypes that are the likeliest of one.

        Raises:
            FoveateError: KoLeo has no second sample to look at, or a switch that looks at the subject finds no masks.
        """
        config, group = self.config, distil.processes()
        count, device = len(batch), batch.frames.device
        if batch.frames.shape[1:3] != (1, 1):
            raise ValueError(f"one frame of one draw is expected, not {tuple(batch.frames.shape[1:3])}")
        if config.koleo and (count if config.koleo_local else at.batch) < 2:
            raise FoveateError(
                "KoLeo looks for neighbours, and the batch is one picture", remedy="take larger batches, or koleo 0"
            )
        seen, shares = self._seen(batch, at)
        masked = self._masked(batch.index.cpu().numpy(), at, shares)
        hidden = torch.from_numpy(np.flatnonzero(masked)).to(device, non_blocking=True)  # counted on the host: nothing waits
        weights = losses.patch_weights(torch.from_numpy(masked)).to(device, non_blocking=True)
        with torch.no_grad():
            temperature = config.teacher_temperature.at(at.step, at.steps)
            of_views, of_patches = self._targets(seen.taught, hidden, shares, temperature, group)
            of_views = of_views.view(2, count, -1)
        mask = torch.from_numpy(masked).to(device, non_blocking=True)
        student = self.student.many([seen.large, seen.small], [mask, None])
        large, small = student[0].cls, student[1].cls
        patches = student[0].patches.flatten(0, 1)[hidden]
        of_large, of_small, of_hidden = _logits(self.head, self.patch_head, large, small, patches)

        crossed = losses.dino(of_large.view(2, count, -1), of_views.flip(0), config.student_temperature, matched=True)
        inward = losses.dino(of_small.view(config.views.smalls, count, -1), of_views, config.student_temperature)
        dino = (crossed + inward) / (2 + 2 * config.views.smalls)
        ibot = losses.ibot(of_hidden, of_patches, weights, 2 * count, config.student_temperature)
        loss, parts = config.dino * dino + config.ibot * ibot, {"dino": dino, "ibot": ibot}
        if config.koleo:
            first, second = (losses.koleo(view, None if config.koleo_local else group) for view in large.chunk(2))
            parts["koleo"] = (first + second) / 2
            loss = loss + config.koleo * (first + second)
        parts["entropy"] = torch.special.entr(of_views).sum(-1).mean()
        parts["prototypes"] = loss.new_zeros(config.prototypes).index_fill(0, of_views.argmax(-1).flatten(), 1.0).sum()
        return loss, {name: value.detach() for name, value in parts.items()}

    def _seen(self, batch: Clips, at: Moment) -> tuple[Views, Tensor | None]:
        """The views, and f32[2B, P] how much of each patch of the large ones is subject, where that is asked for."""
        config, frames = self.config, batch.frames[:, 0, 0]
        looks = config.masks.subject > 0 or config.target == "subject"
        if config.background == "keep" and not looks:
            return views(frames, batch.valid, batch.index, at.seed, at.step, config.views), None
        if batch.masks is None:
            raise FoveateError(
                "this training looks at the subject, and the pictures have no masks",
                remedy="train on crops of tracked subjects; or keep backgrounds, masks.subject 0 and target cls",
            )
        masks, other = batch.masks[:, 0, 0], None
        if config.background != "keep":
            other = changed(frames, masks, batch.valid, batch.index, at.seed, at.step, config.background)
        seen = views(frames, batch.valid, batch.index, at.seed, at.step, config.views, other)
        return seen, patch_shares(masks, seen.large_draws, self._grid()) if looks else None

    def _grid(self) -> int:
        return self.config.views.large // self.student.config.patch

    def _masked(self, index: NDArray[np.int64], at: Moment, shares: Tensor | None) -> NDArray[np.bool_]:
        """bool ``[2B, P]`` of the samples' large views."""
        grid, place = self._grid(), index % at.batch
        positions = np.concatenate([place, at.batch + place])
        subject = shares.cpu().numpy() if shares is not None and self.config.masks.subject else None
        return self.config.masks.draw(positions, 2 * at.batch, grid, grid, at.seed, at.step, subject)

    def _targets(
        self, large: Tensor, hidden: Tensor, shares: Tensor | None, temperature: float, group: ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        """f32[2B, K] of views and f32[M, K] of hidden patches."""
        seen = self.teacher(large)
        whole, patches = seen.cls, seen.patches.flatten(0, 1)[hidden]
        if self.config.target == "subject" and shares is not None:
            whole = subject_mean(seen.patches, shares, seen.cls)
        of_views, _, of_patches = _logits(self.teacher_head, self.teacher_patch_head, whole, whole[:0], patches)
        if self.config.centring == "sinkhorn":
            return losses.sinkhorn(of_views, temperature, _ROUNDS, group), losses.sinkhorn(
                of_patches, temperature, _ROUNDS, group
            )
        targets = []
        for name, logits in (("centre", of_views), ("patch_centre", of_patches)):
            targets.append(losses.centred(logits, self.get_buffer(name), temperature))
            total, rows = self._logits.get(name, (torch.zeros_like(logits[0], dtype=torch.float32), 0))
            self._logits[name] = total + logits.float().sum(0), rows + len(logits)
        return targets[0], targets[1]

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The teacher follows: momentum x teacher + (1 - momentum) x student; so do centres. The student's updates count as what they
        make of its matrices: the mean of products is not the product of means."""
        heads = [p.data for m in (self.head, self.patch_head) if m is not None for p in m.parameters()]
        student = [*merged(self.student).values(), *heads]
        teacher = [p.data for m in self._teachers() for p in m.parameters()]
        torch._foreach_lerp_(teacher, student, 1 - self.config.momentum.at(at.step, at.steps))
        for name, (total, rows) in self._logits.items():
            centre = self.get_buffer(name)
            centre.copy_(losses.moved_centre(centre, total, rows, group=distil.processes()))
        self._logits.clear()

    def param_groups(self) -> list[Group]:
        """Trained parameters by learning rate and weight decay; the rules are those of DINOv2's code.

        The rate falls from block to block towards the input; embeddings and tokens stand below the first block. Biases, norms and
        LayerScale do not decay, tokens and positions do.
        """
        config, found = self.config, defaultdict(list)
        for name, value in self.student.named_parameters():
            found["backbone", *_multipliers(name, len(self.student.blocks), config), 0].append(value)
        for part, head in (("head", self.head), ("patch_head", self.patch_head)):
            for name, value in head.named_parameters() if head is not None else ():
                frozen = config.last_layer_frozen if name.startswith("last_layer") else 0
                found[part, 1.0, 0.0 if name.endswith(".bias") else 1.0, frozen].append(value)
        kept = {key: tuple(p for p in params if p.requires_grad) for key, params in found.items()}
        return [Group(part, params, lr, decay, frozen) for (part, lr, decay, frozen), params in kept.items() if params]

    def _teachers(self) -> list[nn.Module]:
        return [m for m in (self.teacher, self.teacher_head, self.teacher_patch_head) if m is not None]


def _freeze(vit: Vit, blocks: int) -> None:
    """Leave the first ``blocks`` blocks, and what comes before them, as they are."""
    for name, value in vit.named_parameters():
        part = name.split(".")
        value.requires_grad_(int(part[1]) >= blocks if part[0] == "blocks" else part[0] == "norm")


def _logits(head: nn.Module, patch_head: nn.Module | None, large: Tensor, small: Tensor, patches: Tensor) -> tuple[Tensor, ...]:
    """Logits of large views, small views and patches in one product (two where patches have a head of their own)."""
    if patch_head is not None:
        return *head(torch.cat([large, small])).split([len(large), len(small)]), patch_head(patches)
    together = head(torch.cat([large, small, patches]))
    return tuple(together.split([len(large), len(small), len(patches)]))


def _multipliers(name: str, depth: int, config: Dinov2Config) -> tuple[float, float]:
    """Of learning rate and weight decay, for a parameter of the backbone (DINOv2's ``param_groups.py``)."""
    if name.startswith("blocks."):
        below = depth - int(name.split(".")[1])
    else:
        below = 0 if name.startswith("norm.") else depth + 1
    lr = config.layer_decay**below * (config.patch_embed_lr if name.startswith("patch_embed.") else 1.0)
    return lr, 0.0 if name.endswith(".bias") or "norm" in name or "gamma" in name else 1.0
