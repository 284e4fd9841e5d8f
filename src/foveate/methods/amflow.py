"""AM Flow: a frozen image backbone that learns to tell actions by adapters which see, in its own attention, where something moves.

    clip ─► frozen blocks 0 .. first - 1 (may be stored) ─► blocks with adapters ─► mean over T of CLS and mean patch ─► linear layer
    block:  x + attention(LN x) + adapter(LN x);   x + mlp(LN x) + temporal adapter(LN x, flow of its attention)

Source: supplement of *Are Attention Maps Richer than we Imagined for Action Recognition?* (arXiv 2411.02065) and its abstract; the paper's
body was not to be had, and there is no public code. Of it are: frozen backbone, scaled parallel adapters, the static flow, an aligning
encoder for moving cameras, a temporal module inside the adapter, which blocks have flow, and training in two phases. Ours are: how the
flow enters the adapter, the aligners, the temporal modules, clip feature and head (``models.flow`` and ``models.adapters`` say where).

Weights that are added (D width, r bottleneck, H heads, T frames, a 64): an adapter 2 D r + r + D + 1; a temporal module 8 r² + 11 r + T r;
W_F H r; gain H; aligner 2 D a. AM/12 on ViT-B, r 192: 11.9 million.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from foveate.data.augment import Augmentation, Draws, Kind, draw, make, whole_pixels
from foveate.data.clips import Clips
from foveate.methods.moment import Group, Moment
from foveate.models.adapters import Adapter, Over, SpatioTemporal, TemporalAdapter, TemporalAttention, Use
from foveate.models.flow import Align, AttentionFlow, Last, aligner
from foveate.models.hiera import Hiera
from foveate.models.vit import Vit
from foveate.models.vit_blocks import Block
from foveate.schema import FoveateError

Backbone: TypeAlias = Vit | Hiera
"""Of a Hiera, blocks are those of its stage of global attention, numbered from 0 (``models.hiera``)."""
Style: TypeAlias = Literal["scaled", "parallel", "serial", "st", "aim", "none"]
Placement: TypeAlias = Literal["all", "ends", "middle", "none"] | tuple[int, ...]


@dataclass(frozen=True)
class AmFlowConfig:
    """The defaults are AM/12 on a moving camera, as far as it is known; see above for what is ours."""

    classes: int
    frames: int = 8
    size: int = 224  # pixels of the square that is shown
    # What is placed. scaled, parallel, serial: see models.adapters. st, aim: the published adapters of these names, which see no flow.
    # none: a linear layer on the frozen backbone.
    adapters: Style = "scaled"
    inner: int = 192  # r
    first: int = 0  # blocks before this one have no adapters
    placement: Placement = (
        "all"  # blocks with a temporal module, and flow; the others have plain adapters. ends: first and last one
    )
    camera: Literal["static", "moving"] = "moving"
    align: Align = "correspondence"
    over: Over = "attention"
    use: Use = "gate"  # none: temporal modules without flow
    shuffled: bool = False  # a control: flow that is in the wrong places
    renormalise: bool = False
    temperature: float = 1.0
    last: Last = "repeat"
    detach: bool = True
    # Of a frame: CLS, or CLS and the mean patch. window: CLS of all frames, not their mean. Flow is of patches, and in the last block
    # patches no longer reach CLS: with cls, flow there does nothing.
    pool: Literal["cls", "both", "window"] = "both"
    dropout: float = 0.5
    exclusive: bool = False  # one class per clip; else any number of behaviours at once
    smoothing: float = 0.0  # of the labels, where classes exclude each other
    area: tuple[float, float] = (0.3, 1.0)  # share of the picture that a random crop shows; (1, 1): all of it
    flip: float = 0.5
    mirror: tuple[int, ...] = ()  # class that a mirrored clip of each class shows, -1 for none; empty: the same
    jitter: float = 0.0  # probability of changed colours
    seed: int = 0  # of the weights that are added

    def __post_init__(self) -> None:
        if min(self.classes, self.frames, self.inner) < 1 or self.first < 0:
            raise ValueError("classes, frames and inner are at least 1, and first is not negative")
        if not 1 / 64 <= self.temperature <= 64:
            raise ValueError("temperature must be within 1/64 and 64")
        if self.mirror and len(self.mirror) != self.classes:
            raise ValueError("mirror names a class for each class")
        if self.over == "attention" and self.inner % 4:
            raise ValueError("inner must be a multiple of 4, the heads of the temporal module")

    def temporal_blocks(self, depth: int) -> tuple[int, ...]:
        """Numbers of the blocks with a temporal module.

        Raises:
            FoveateError: a block that is not there, or that has no adapters.
        """
        from_first = range(min(self.first, depth), depth)
        if self.adapters in ("st", "aim", "none") or self.placement == "none" or not from_first:
            return ()
        if self.placement == "all":
            return tuple(from_first)
        ends, middle = {from_first[0], from_first[-1]}, from_first[len(from_first) // 2]
        if isinstance(self.placement, str):
            return tuple(sorted(ends if self.placement == "ends" else ends | {middle}))
        beyond = [block for block in self.placement if block not in from_first]
        if beyond:
            raise FoveateError(
                f"block {beyond[0]} cannot have a temporal module: those with adapters are {from_first[0]} to {from_first[-1]}",
                remedy="choose among these",
            )
        return tuple(sorted(set(self.placement)))


class AmFlow(nn.Module):
    """Backbone, adapters and a linear layer.

    Args:
        vit: the backbone; its weights are frozen, and adapters are placed in it.
        config: see ``AmFlowConfig``.

    Raises:
        FoveateError: pictures that the backbone's patches do not divide, or adapters in blocks that are not there.
    """

    whole_batch = ""

    def __init__(self, vit: Backbone, config: AmFlowConfig) -> None:
        super().__init__()
        if config.size % vit.config.patch:
            raise FoveateError(
                f"pictures of {config.size} px cannot be cut into patches of {vit.config.patch} px",
                remedy=f"choose a multiple of {vit.config.patch}",
            )
        if config.first > vit.config.depth:
            raise FoveateError(
                f"adapters from block {config.first} on, and the backbone has {vit.config.depth}", remedy="begin earlier"
            )
        self.config, self.vit = config, vit.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            place(vit, config)
            width = vit.out * (2 if config.pool == "both" else config.frames if config.pool == "window" else 1)
            self.head = nn.Linear(width, config.classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01, generator=torch.Generator().manual_seed(config.seed))
        nn.init.zeros_(self.head.bias)
        self.train()

    def train(self, mode: bool = True) -> AmFlow:
        """The backbone is never in training mode; dropout is in the head alone."""
        super().train(mode)
        self.vit.train(False)
        return self

    def backbone(self) -> Backbone:
        """The backbone with its adapters."""
        return self.vit

    def flows(self) -> list[AttentionFlow]:
        """Those of all blocks, first to last."""
        return [module for module in self.vit.modules() if isinstance(module, AttentionFlow)]

    @torch.no_grad()
    def stored(self, pictures: Tensor) -> Tensor:
        """f32[B, N, D]: what the blocks before the first adapter make of normalised pictures f32[B, 3, S, S]."""
        return self.vit.until(pictures, self.config.first)

    def features(self, tokens: Tensor) -> Tensor:
        """f32[B, W] of clips whose frames' tokens f32[B, T, N, D] ``stored`` gave."""
        seen = self.vit.onward(tokens.flatten(0, 1).float(), self.config.first)
        frames = torch.cat((seen.cls, seen.patches.mean(1)), -1) if self.config.pool == "both" else seen.cls
        clips: Tensor = frames.view(-1, self.config.frames, frames.shape[-1])
        return clips.flatten(1) if self.config.pool == "window" else clips.mean(1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits f32[B, L] of clips f32[B, T, N, D], see ``features``; of f32[B, T, 3, S, S] normalised pictures as well."""
        if tokens.ndim == 5:
            if len(tokens[0]) != self.config.frames:
                raise FoveateError(
                    f"clips of {len(tokens[0])} frames, and the adapters look at {self.config.frames}", remedy="give as many"
                )
            seen = self.stored(tokens.flatten(0, 1))
            tokens = seen.view(-1, self.config.frames, *seen.shape[1:])
        features = functional.dropout(self.features(tokens), self.config.dropout, self.training)
        logits: Tensor = self.head(features)
        return logits

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, ``frames`` u8[B, 1, T, 3, H, W] or ``tokens``, with their ``labels``.

        Stored tokens are taken as they are: what changes pictures changed them before they were stored.

        Returns:
            The mean cross entropy (one class per clip) or the mean binary cross entropy over the labels that are known; beside it
            ``right``, the share of labels (of clips) that are told rightly.

        Raises:
            FoveateError: no labels.
        """
        if batch.labels is None:
            raise FoveateError("these clips have no labels", remedy="annotate some of the footage, or name another data set")
        for flow in self.flows() if at.step == 0 else ():
            flow.measuring = True
        labels = batch.labels
        if batch.tokens is not None:
            logits = self(batch.tokens[:, 0])
        else:
            pictures, flipped = self.views(batch, at)
            labels = torch.where(flipped.to(labels.device).unsqueeze(1), self.mirrored(labels), labels)
            logits = self(pictures)
        loss, right = clip_loss(logits, labels, self.config.exclusive, self.config.smoothing)
        return loss, {"right": right}

    def views(self, batch: Clips, at: Moment) -> tuple[Tensor, Tensor]:
        """Changed clips f32[B, T, 3, S, S], all frames of a clip alike, and bool[B]: those that are mirrored."""
        config = self.config
        frames = batch.frames[:, 0]
        if frames.shape[1] != config.frames:
            raise FoveateError(
                f"clips of {frames.shape[1]} frames, and the adapters look at {config.frames}", remedy="give as many"
            )
        how = Augmentation(large=config.size, flip=config.flip, jitter=config.jitter, grey=0.0)
        content = whole_pixels(batch.valid, *frames.shape[-2:])
        one = draw(content, batch.index.cpu().numpy(), at.seed, at.step, "clip", Kind(config.size, config.area, 0.0, 0.0), how)
        each = Draws(**{name: np.repeat(getattr(one, name), config.frames, axis=0) for name in Draws.__dataclass_fields__})
        made = make(frames.flatten(0, 1), each, config.size, how)
        return made.view(-1, config.frames, *made.shape[1:]), torch.from_numpy(one.flip)

    def mirrored(self, labels: Tensor) -> Tensor:
        """Labels f32[B, L] of the mirrored clips."""
        if not self.config.mirror:
            return labels
        other = torch.tensor(self.config.mirror, device=labels.device)
        return torch.where(other >= 0, labels[:, other.clamp(min=0)], torch.nan)

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """After the first step, in which flow could not yet do anything (W_F is zero), its gain begins at what its batch showed."""
        flows = self.flows()
        if at.step or not flows:
            return
        seen = torch.stack([flow.seen() for flow in flows])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(seen)
        for flow, sums in zip(flows, seen, strict=True):
            flow.begin(sums)

    def param_groups(self) -> list[Group]:
        """Adapters and head; biases, norms, scales, gains and positions do not decay."""
        found = defaultdict(list)
        for name, value in self.named_parameters():
            if value.requires_grad:
                part = "head" if name.startswith("head.") else "adapters"
                found[part, 0.0 if value.ndim < 2 or name.endswith("position") else 1.0].append(value)
        return [Group(part, tuple(params), decay=decay) for (part, decay), params in found.items()]

    def trained(self) -> dict[str, Tensor]:
        """What is learned, by name: adapters and head."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def begin_from(self, earlier: AmFlow) -> None:
        """The second of two phases: take over all that ``earlier``, with flow in fewer blocks, has learned; the rest begins as it is.

        Raises:
            FoveateError: they differ in more than placement.
        """
        if replace(earlier.config, placement=self.config.placement) != self.config:
            raise FoveateError("the two phases differ in more than where flow is", remedy="change `placement` alone")
        theirs = earlier.trained()
        with torch.no_grad():
            for name, value in self.trained().items():
                if name in theirs:
                    value.copy_(theirs[name])


def place(vit: Backbone, config: AmFlowConfig) -> None:
    """Put adapters into the blocks of ``vit`` from ``config.first`` on."""
    width, heads, before = vit.config.width, vit.config.heads, vit.leading
    looking = config.temporal_blocks(vit.config.depth)
    for number, block in enumerate(vit.blocks):
        assert isinstance(block, Block)
        if number < config.first or config.adapters == "none":
            continue
        if config.adapters == "st":
            block.before = SpatioTemporal(width, config.inner, config.frames, before)
            continue
        if config.adapters == "aim":
            block.before = TemporalAttention(width, config.inner, config.frames, block.norm1, block.attn)
            block.after_attention = Adapter(width, config.inner, 1.0, gelu=True)
            block.beside_mlp = Adapter(width, config.inner, 0.5, gelu=True)
            continue
        scale = None if config.adapters == "scaled" else 1.0
        plain = Adapter(width, config.inner, scale)
        second: Adapter = Adapter(width, config.inner, scale)
        if number in looking:
            flow = None
            if config.use != "none":
                align = aligner(config.align, width, block.attn) if config.camera == "moving" else None
                flow = AttentionFlow(
                    heads,
                    align,
                    temperature=config.temperature,
                    renormalise=config.renormalise,
                    last=config.last,
                    detach=config.detach,
                    shuffled=config.shuffled,
                )
            second = TemporalAdapter(width, config.inner, config.frames, config.over, flow, config.use, scale, before)
        if config.adapters == "serial":
            block.after_attention, block.after_mlp = plain, second
        else:
            block.beside_attention, block.beside_mlp = plain, second


def clip_loss(logits: Tensor, labels: Tensor, exclusive: bool, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Loss and share told rightly of logits and labels f32[B, L], NaN where nobody looked; 0 where nothing is known.

    ``exclusive``: cross entropy against the one class that is 1, smoothed. Else the mean binary cross entropy of all that is known.
    """
    known = ~labels.isnan()
    target, logits = labels.nan_to_num(0.0), logits.float()
    if exclusive:
        smoothed = target * (1 - smoothing) + smoothing / target.shape[1]
        right = (logits.argmax(1) == target.argmax(1)).float().mean()
        return -(smoothed * logits.log_softmax(1)).sum(1).mean(), right.detach()
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    count = known.sum().clamp(min=1)
    told = ((logits > 0) == (target > 0.5)) & known
    return (each * known).sum() / count, (told.sum() / count).detach()


def backbone_hash(vit: Backbone) -> str:
    """SHA-256 over names, shapes and float32 values of a backbone, without its adapters."""
    digest = hashlib.sha256()
    state = {name: value for name, value in vit.state_dict().items() if not adapted(name)}
    for name, value in sorted(state.items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def adapted(name: str) -> bool:
    """Whether a weight of that name belongs to an adapter."""
    parts = name.split(".")
    places = {"before", "beside_attention", "after_attention", "beside_mlp", "after_mlp"}
    return "blocks" in parts and bool(places & set(parts))


def parameters(counted: Sequence[Tensor]) -> int:
    """How many numbers these are."""
    return sum(value.numel() for value in counted)
