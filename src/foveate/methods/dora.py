"""DoRA (Venkataramanan 2024, "Is ImageNet worth 1 video?"): objects found and followed by the teacher's attention, and learned from.

    views       2 large and 6 small crops of a clip of 8 frames, a second apart               data.clip_views
    objects     k heads of the teacher in the first frame: prototypes, refined, followed      methods.objects
    masks       of each object in each frame; the student sees large crops through them
    teacher     moving average of the student; sees the large crops, nothing hidden
    targets     the teacher's logits, centred and sharpened
    loss        of each frame: cross-entropy of masked crops against the other large crop, of small ones against both

Paper and released code (``shashankvkt/DoRA_ICLR24``) disagree in many places, each a switch here: ``DoraConfig()`` is what we take,
``DoraConfig.paper()`` and ``DoraConfig.release()`` are the two. With clips of one frame this is the paper's DoRA*, for pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate import losses
from foveate.data.blockmasks import BlockMasks
from foveate.data.clip_views import ClipAugmentation, clip_views
from foveate.methods import distil, objects
from foveate.methods.moment import Group, Moment
from foveate.models.heads import DinoHead
from foveate.models.vit import Vit
from foveate.schedules import Schedule, constant

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class DoraConfig:
    """What the method is set to. Beside each switch: paper | released code, where they disagree."""

    views: ClipAugmentation = field(default_factory=ClipAugmentation)  # two large crops | one
    objects: int = 3  # k; more than heads: the block is split into more heads for this alone
    heads: Literal["clip", "batch"] = "clip"  # which heads is drawn for each clip | for all of a step
    layer: Literal["last", "second_last"] = "last"  # of Q, K and Z; the paper's text: last, its figure 3: second_last | last
    root: Literal["head", "width"] = "head"  # in eq. 1: width | head
    sinkhorn: bool = True  # refine prototypes; else eq. 3 as it is
    epsilon: float = 0.05  # not given | .05
    rounds: int = 30  # not given | 30
    unit: bool = True  # patches as unit vectors in eqs. 4 and 5: False | True
    mass: Literal["patch", "picture"] = "patch"  # what M adds up to 1 over: picture | patch
    mask: Literal["object", "random", "none"] = "object"  # random: blocks; see _masks
    edge: Literal["binary", "soft"] = "binary"  # soft | binary
    combine: Literal["mean", "sum"] = "mean"  # of losses over objects and crops: sum | mean
    drops_first_small: bool = (
        False  # no loss for the first small crop: False | True (DINO's rule for the same view, where none is)
    )
    carries: bool = False  # an object's frames count again, by 1/T each, in the next ones' mean: False | True
    prototypes: int = 65_536  # of the head, not of objects
    hidden: int = 2048
    bottleneck: int = 256
    student_temperature: float = 0.1
    teacher_temperature: Schedule = field(default_factory=lambda: constant(0.04))
    momentum: Schedule = field(default_factory=lambda: Schedule(0.996, 1.0))  # of the teacher
    last_layer_frozen: int = 1560  # steps: an epoch of one Walking Tours video, 0.2 million clips in batches of 128

    @classmethod
    def paper(cls) -> DoraConfig:
        """As printed, where it can be followed: see ``methods.objects.shaded`` for what cannot."""
        views = ClipAugmentation(small=96, small_boxes="clip", style="dino")
        return cls(views=views, root="width", unit=False, mass="picture", edge="soft", combine="sum")

    @classmethod
    def release(cls) -> DoraConfig:
        """As the released code does it, with what look like its mistakes."""
        return cls(views=ClipAugmentation(larges=1), heads="batch", drops_first_small=True, carries=True)

    @property
    def size(self) -> int:
        """Pixels per side of the large views."""
        return self.views.large

    @property
    def wants_masks(self) -> bool:
        """It finds objects by itself."""
        return False


class Dora(nn.Module):
    """Student, teacher and heads.

    Args:
        vit: where both begin; it becomes the student. Its ``drop_path`` acts on the student alone; published: .1.
        config: see ``DoraConfig``.

    Raises:
        FoveateError: crops that the backbone's patches do not divide.
        ValueError: more objects than can be found, no large view, or two against none.
    """

    def __init__(self, vit: Vit, config: DoraConfig) -> None:
        super().__init__()
        distil.check_sizes(vit.config.patch, config.views.large, config.views.small)
        if config.views.larges not in (1, 2) or config.views.smalls <= config.drops_first_small:
            raise ValueError("one or two large views are needed, and a small one")
        self.config = config
        self.split = objects.heads_for(config.objects, vit.config.heads, vit.config.width)
        vit.mask_token.requires_grad_(False)  # nothing is replaced by it
        self.student = vit
        self.head = DinoHead(vit.config.width, config.prototypes, config.hidden, config.bottleneck)
        self.teacher, self.teacher_head = distil.still(self.student), distil.still(self.head)
        self.centre = distil.Centre(config.prototypes)
        binary = config.mask == "object" and config.edge == "binary"
        self.whole_batch = "masks are cut at their mean over the batch" if binary else ""
        self.train()

    def train(self, mode: bool = True) -> Dora:
        """The teacher never is in training mode."""
        super().train(mode)
        self.teacher.train(False)
        self.teacher_head.train(False)
        return self

    def backbone(self) -> Vit:
        """The teacher, which is what the study evaluates."""
        return self.teacher

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, ``frames`` u8[B, 1, T, 3, H, W].

        Returns:
            The loss, and its parts ``object`` and ``local``: means over all pairs, whatever ``combine``; beside them how far the objects of
            a clip are one (``overlap``), the share of a picture that a mask leaves (``seen``), entropy and number of prototypes used.
        """
        config = self.config
        if batch.frames.shape[1] != 1:
            raise ValueError(f"one draw of a clip is expected, not {batch.frames.shape[1]}")
        views = clip_views(batch.frames[:, 0], batch.valid, batch.index, at.seed, at.step, config.views)
        larges, times, count = views.large.shape[:3]
        with torch.no_grad():
            logits, maps = self._watched(views.large, batch.index.cpu().numpy(), at)
            targets = self.centre.targets(logits, config.teacher_temperature.at(at.step, at.steps))
            targets = targets.view(larges, times * count, -1)
            masks = self._masks(maps, batch.index.cpu().numpy(), at)
        masked = seen_through(views.large, masks, self.student.config.patch)  # [k, V, T, B, 3, S, S]
        student = self.student.many([masked.flatten(0, 3), views.small.flatten(0, 2)])
        large, small = self.head(torch.cat([one.cls for one in student])).split([len(one.cls) for one in student])
        large, small = large.view(config.objects, larges, times * count, -1), small.view(len(views.small), times * count, -1)
        loss, parts = self._loss(large, small, targets, times)
        parts |= {"overlap": objects.overlap(maps).mean(), "seen": masks.mean(), **distil.used(targets)}
        return loss, {name: value.detach() for name, value in parts.items()}

    def _watched(self, large: Tensor, index: NDArray[np.int64], at: Moment) -> tuple[Tensor, Tensor]:
        """Of f32[V, T, B, 3, S, S]: logits float[V T B, K], and what each object looks at, f32[V, T, B, k, n].

        Each large view has a tracker of its own, with the same heads: a mask has to fit the view that it is laid upon."""
        config, pictures, (larges, times, count) = self.config, large.flatten(0, 2), large.shape[:3]
        first = 1 + self.teacher.config.registers
        if config.layer == "last":
            seen, (qkv,) = self.teacher.watch(pictures, [-1])
            patches = seen.patches
        else:
            seen, (qkv,) = self.teacher.watch(pictures, [-2])
            patches = self.teacher.layers(pictures, [-2])[0].patches
        logits = self.teacher_head(seen.cls)
        drawn = index if config.heads == "clip" else np.zeros_like(index)
        chosen = torch.from_numpy(objects.choose(at.seed, at.step, drawn, self.split, config.objects)).to(large.device)

        def starts(values: Tensor) -> Tensor:
            return values.reshape(larges, times, count, *values.shape[1:])[:, 0].flatten(0, 1)

        begun = type(qkv)(*(starts(part) for part in qkv))
        looks = objects.attended(begun, first, self.split, config.root)
        prototypes = objects.pooled(looks, objects.merged(begun.queries, first), chosen.repeat(larges, 1))
        if config.sinkhorn:
            prototypes = objects.refined(prototypes, starts(patches), config.epsilon, config.rounds, config.unit, config.mass)
        keys = objects.merged(qkv.keys, first)
        everywhere = prototypes.view(larges, 1, count, *prototypes.shape[1:]).expand(-1, times, -1, -1, -1).flatten(0, 2)
        return logits, objects.followed(everywhere, keys).view(larges, times, count, config.objects, -1)

    def _masks(self, maps: Tensor, index: NDArray[np.int64], at: Moment) -> Tensor:
        """f32[V, T, B, k, n] in 0..1 of maps of that shape.

        Random ones are blocks (iBOT) that hide .1 to .5 of a clip's pictures, the same in all frames. Then objects, and with them Sinkhorn,
        change nothing; the paper's table 2c has two rows for them all the same, and the released code has no random masks."""
        config = self.config
        if config.mask == "none":
            return torch.ones_like(maps)
        if config.mask == "random":
            number, rows = config.objects * at.batch, self.config.views.large // self.student.config.patch
            places = (index % at.batch)[:, None] * config.objects + np.arange(config.objects)
            hidden = BlockMasks(share=1.0).draw(places.ravel(), number, rows, rows, at.seed, at.step)
            kept = torch.from_numpy(~hidden).to(maps).view(*places.shape, -1)
            return kept.expand_as(maps)
        if config.edge == "soft":
            return objects.shaded(maps)
        across = maps.transpose(2, 3)  # [V, T, k, B, n]: a mean for each view, frame and object
        return objects.cut_out(across, distil.processes()).transpose(2, 3)

    def _loss(self, large: Tensor, small: Tensor, targets: Tensor, times: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Of logits float[k, V, T B, K] and float[M, T B, K] against f32[V, T B, K]."""
        config, larges = self.config, len(targets)
        if config.drops_first_small:
            small = small[1:]
        # u != v (eq. 8); a single view is its own other one, as released.
        of_objects = losses.cross_entropy(targets.flip(0), large, config.student_temperature).view(
            len(large), larges, times, -1
        )
        of_small = losses.cross_entropy(targets.sum(0), small, config.student_temperature).view(len(small), times, -1)
        local = of_small.mean((0, 2)) / larges  # [T], mean over crops, views and clips
        by_object = of_objects.mean((1, 3))  # [k, T]
        parts = {"object": by_object.mean(), "local": local.mean()}
        if config.combine == "sum":  # eqs. 8 to 10
            return larges * (by_object.sum(0) + len(small) * local).mean(), parts
        weights = shares_of(len(by_object), times, config.carries).to(large.device)
        return (weights.unsqueeze(1) * (by_object + local) / 2).sum(), parts

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The teacher and the centre follow."""
        students, teachers = (self.student, self.head), (self.teacher, self.teacher_head)
        distil.follow(teachers, students, self.config.momentum.at(at.step, at.steps))
        self.centre.move()

    def param_groups(self) -> list[Group]:
        """By DINO's rules."""
        return distil.groups({"backbone": self.student, "head": self.head}, self.config.last_layer_frozen)


def seen_through(pictures: Tensor, masks: Tensor, patch: int) -> Tensor:
    """Pictures times masks (eq. 7): f32[k, ..., 3, S, S] of f32[..., 3, S, S] and f32[..., k, n]; hidden is 0, the mean colour."""
    rows = pictures.shape[-1] // patch
    grid = masks.movedim(-2, 0)
    whole = grid.reshape(*grid.shape[:-1], rows, rows).repeat_interleave(patch, -1).repeat_interleave(patch, -2)
    return pictures * whole.unsqueeze(-3)


def shares_of(count: int, times: int, carries: bool) -> Tensor:
    """f32[k]: how much one frame of each object counts.

    The mean over objects and frames; or as released, where the sum over an object's frames is not set back to 0 before the next object and
    is divided by T each time: the first of 3 objects then counts 1/8 + 1/64 + 1/512 for T = 8, the last 1/8."""
    if not carries:
        return torch.full((count,), 1 / (count * times))
    powers = float(times) ** -torch.arange(1, count + 1, dtype=torch.float64)
    return (powers.cumsum(0).flip(0) / count).float()
