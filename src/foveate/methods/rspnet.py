"""RSPNet: which of two clips plays as fast as a third, and which videos are the same (Chen et al., AAAI 2021).

    views     two clips of a video, each twice as long as what the network sees                data.pairs
    query     the first, at single speed in half of the batch and at double speed in the other
    keys      the second, at the query's speed and at the other one
    motion    the query is likelier its key of equal speed than that of the other, by a margin  (relative speed, L_m)
    looks     InfoNCE of the query against both keys, among keys of other videos                (appearance, L_a)
    loss      looks + motion; each has a head of its own

It is a method in its own right and what PreViTS for clips (``methods.previts``) is put on. Where the paper and its released code differ
(the margin is of logits divided by the temperature, and both keys are positive for appearance), this is the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from foveate import losses_contrastive as losses
from foveate.data.draws import uniform
from foveate.data.pairs import Crops
from foveate.methods import distil, keys
from foveate.methods.moco import Contrast, Pair, found, groups_of, pair_of
from foveate.methods.moment import Group, Moment
from foveate.models.convnets import ConvNet
from foveate.models.heads import projector
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from foveate.data.clips import Clips

_FASTER = 0.5  # share of the queries that play faster: alpha


@dataclass(frozen=True)
class RspnetConfig:
    """What the method is set to; defaults are those of the released code (``config/pretrain``)."""

    crops: Crops = field(default_factory=lambda: Crops.v1())
    hidden: int = 0  # units of the heads between; 0: linear heads
    dimension: int = 128
    queue: int = 16_384
    temperature: float = 0.07
    momentum: float = 0.999
    speed: int = 2  # of the faster clips
    margin: float = 2.0  # of logits
    looks: float = 1.0  # weights of the losses
    motion: float = 1.0
    groups: int = 8  # parts of a process's batch that are normalised by themselves
    shuffle: bool = True
    only_other_videos: bool = False  # keys of the query's own footage do not count as others; not published
    reference: int = 16  # frame of a clip that its mask is taken from

    @property
    def size(self) -> int:
        """Pixels per side of the crops."""
        return self.crops.size

    @property
    def wants_masks(self) -> bool:
        """Whether crops look at the subjects' masks."""
        return self.crops.cover is not None


class Rspnet(nn.Module):
    """Encoder with two heads, momentum encoder and queue.

    Args:
        net: where both begin; it becomes the query encoder's.
        config: see ``RspnetConfig``.
    """

    whole_batch = keys.WHOLE_BATCH

    def __init__(self, net: ConvNet, config: RspnetConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.hidden, config.dimension) if config.hidden else (config.dimension,)
        heads = [projector(net.width, *widths, norm=False) for _ in range(2)]
        self.encoder = keys.Encoder(net, heads, config.groups)
        self.key_encoder = distil.still(self.encoder)
        self.queue = keys.Queue(config.queue, config.dimension)
        self._new: list[Tensor] = []
        self.train()

    def backbone(self) -> ConvNet:
        """The query encoder's network, which is what the publication evaluates."""
        net = self.encoder.net
        assert isinstance(net, ConvNet)
        return net

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of two clips an item, ``frames`` u8[B, 2, T, 3, H, W]; the network sees T / ``speed`` frames of each.

        Returns:
            The loss, its parts before weighting (``looks``, ``motion``), the share of queries that are more like the key of their own
            speed than the other (``speeds``; chance .5), and how often the key is likelier than all in the queue (``found``).

        Raises:
            FoveateError: clips too short to be played faster.
        """
        contrast = self.contrast(self.pair(batch, at), at)
        return contrast.loss, contrast.told

    def pair(self, batch: Clips, at: Moment) -> Pair:
        """Query and key of each item; the query is played at its speed, the key is still as long as it came."""
        config, length = self.config, batch.frames.shape[2]
        if length < 2 * config.speed:
            raise FoveateError(
                f"clips of {length} frames are too short to be played {config.speed} times as fast",
                remedy=f"give the recipe frames: {16 * config.speed}",
            )
        pair = pair_of(batch, at, config.crops, config.reference)
        played = self._played(pair.query.pictures, at, other=False)
        return Pair(replace(pair.query, pictures=played), pair.key, pair.owner)

    def contrast(self, pair: Pair, at: Moment) -> Contrast:
        """The loss of queries and their two keys."""
        config, encoder = self.config, self.key_encoder
        same = keys.encoded(encoder, self._played(pair.key.pictures, at, other=False), at, "same", config.shuffle)
        other = keys.encoded(encoder, self._played(pair.key.pictures, at, other=True), at, "other", config.shuffle)
        maps, (of_looks, of_motion) = self.encoder(pair.query.pictures)
        self._new = [other[0], pair.owner]
        hidden = self.queue.others(pair.owner) if config.only_other_videos else None
        looks = sum(
            (losses.info_nce(of_looks, key[0], self.queue.keys, config.temperature, hidden) for key in (same, other)),
            start=maps.map.new_zeros(()),
        )
        equal, unequal = (losses.positives(of_motion, key[1], config.temperature) for key in (same, other))
        motion = losses.margin(equal, unequal, config.margin)
        told = {
            "looks": looks.detach(),
            "motion": motion.detach(),
            "speeds": (equal > unequal).float().mean(),
            "found": found(of_looks, same[0], self.queue.keys),
        }
        if config.wants_masks:
            told["constrained"] = (pair.query.shown.float().mean() + pair.key.shown.float().mean()) / 2
        return Contrast(config.looks * looks + config.motion * motion, told, of_looks, maps.map)

    def foreground(self, pictures: Tensor, at: Moment) -> Tensor:
        """Keys f32[B, d] of appearance of clips at the query's speed, which are not put into the queue."""
        played = self._played(pictures, at, other=False)
        return keys.encoded(self.key_encoder, played, at, "foreground", self.config.shuffle)[0]

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The momentum encoder follows; the keys of the other speed enter the queue, as released."""
        keys.follow(self.key_encoder, self.encoder, self.config.momentum)
        keys.level(self.encoder, self.key_encoder)
        key, owner = self._new
        self.queue.put(key, owner, at)
        self._new = []

    def param_groups(self) -> list[Group]:
        """All of the query encoder, alike; its parts are the network and the heads."""
        return groups_of(self.encoder)

    def _played(self, clips: Tensor, at: Moment, other: bool) -> Tensor:
        """f32[B, 3, T / speed, S, S] of f32[B, 3, T, S, S]: the first frames, or every ``speed``-th of all; ``other``: the other way
        round."""
        faster, length = self._faster(len(clips), at) ^ other, clips.shape[2] // self.config.speed
        slow, fast = clips[:, :, :length], clips[:, :, : length * self.config.speed : self.config.speed]
        chosen = torch.from_numpy(faster).to(clips.device, non_blocking=True).view(-1, 1, 1, 1, 1)
        return torch.where(chosen, fast, slow)

    def _faster(self, count: int, at: Moment) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """bool[B] of this process's samples: half of the whole batch, drawn anew in every step."""
        drawn = uniform(at.seed, at.step, np.arange(at.batch), "speed", 1)[:, 0]
        half = np.argsort(np.argsort(drawn, kind="stable"), kind="stable") < _FASTER * at.batch
        return half[keys.first_of(at) :][:count]
