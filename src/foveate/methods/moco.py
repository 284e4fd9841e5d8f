"""Momentum contrast: a crop of a clip is to find another crop of it among those of other clips (MoCo; He et al. 2020, Chen et al. 2020).

    views     one crop of each of two clips (or pictures) of an item                          data.pairs
    query     the encoder's unit vector of the first
    key       the momentum encoder's of the second, normalised in another batch than queries   methods.keys
    queue     keys of earlier batches: the others
    loss      InfoNCE                                                                         losses_contrastive

It is a method in its own right and what PreViTS for pictures (``methods.previts``) is put on; crops that have to cover the subject
(``Crops.cover``) make it the publication's "MoCo + tracking constrained sampling".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foveate import losses_contrastive as losses
from foveate.data.pairs import Crop, Crops, cropped
from foveate.methods import distil, keys
from foveate.methods.moment import Group, Moment
from foveate.models.convnets import ConvNet
from foveate.models.heads import projector

if TYPE_CHECKING:
    from foveate.data.clips import Clips


@dataclass(frozen=True)
class MocoConfig:
    """What the method is set to; defaults are those of MoCo v2 (Chen et al. 2020, released code)."""

    crops: Crops = field(default_factory=Crops)
    hidden: int = 2048  # units of the head between; 0: a linear head
    dimension: int = 128
    queue: int = 65_536
    temperature: float = 0.2
    momentum: float = 0.999  # of the key encoder
    groups: int = 8  # parts of a process's batch that are normalised by themselves: published on 8 GPUs of one each
    shuffle: bool = True
    only_other_videos: bool = False  # keys of the query's own footage do not count as others; not published
    reference: int = 0  # frame of a clip that its mask is taken from

    @classmethod
    def v1(cls, crops: Crops | None = None, groups: int = 8, queue: int = 65_536) -> MocoConfig:
        """MoCo's first version: a linear head, a lower temperature, other colours."""
        return cls(crops or Crops.v1(), hidden=0, temperature=0.07, groups=groups, queue=queue)

    @property
    def size(self) -> int:
        """Pixels per side of the crops."""
        return self.crops.size

    @property
    def wants_masks(self) -> bool:
        """Whether crops look at the subjects' masks."""
        return self.crops.cover is not None


@dataclass(frozen=True, eq=False)
class Pair:
    """What a step contrasts."""

    query: Crop
    key: Crop
    owner: Tensor  # i64[B] number of the footage each comes from; -1: unknown


@dataclass(frozen=True, eq=False)
class Contrast:
    """What came of it."""

    loss: Tensor
    told: dict[str, Tensor]  # without gradient
    query: Tensor  # f32[B, d] unit vectors
    map: Tensor  # f32[B, C, (t,) h, w] of the queries, with a gradient


class Moco(nn.Module):
    """Encoder, momentum encoder and queue.

    Args:
        net: where both begin; it becomes the query encoder's.
        config: see ``MocoConfig``.
    """

    whole_batch = keys.WHOLE_BATCH

    def __init__(self, net: ConvNet, config: MocoConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.hidden, config.dimension) if config.hidden else (config.dimension,)
        self.encoder = keys.Encoder(net, [projector(net.width, *widths, norm=False)], config.groups)
        self.key_encoder = distil.still(self.encoder)
        self.queue = keys.Queue(config.queue, config.dimension)
        self._new: list[Tensor] = []  # keys and owners of this step, for after it
        self.train()

    def backbone(self) -> ConvNet:
        """The query encoder's network, which is what the publications evaluate."""
        net = self.encoder.net
        assert isinstance(net, ConvNet)
        return net

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of one or two clips an item, ``frames`` u8[B, V, T, 3, H, W]; of one clip both crops are made.

        Returns:
            The loss, and how often the key is likelier than all in the queue (``found``, 0..1); with masks also the share of clips that
            have one (``constrained``, 0..1).
        """
        pair = self.pair(batch, at)
        contrast = self.contrast(pair, at)
        return contrast.loss, contrast.told

    def pair(self, batch: Clips, at: Moment) -> Pair:
        """Query and key of each item."""
        return pair_of(batch, at, self.config.crops, self.config.reference)

    def contrast(self, pair: Pair, at: Moment) -> Contrast:
        """The loss of queries and keys."""
        config = self.config
        key = keys.encoded(self.key_encoder, pair.key.pictures, at, "key", config.shuffle)[0]
        maps, (query,) = self.encoder(pair.query.pictures)
        self._new = [key, pair.owner]
        hidden = self.queue.others(pair.owner) if config.only_other_videos else None
        loss = losses.info_nce(query, key, self.queue.keys, config.temperature, hidden)
        told = {"found": found(query, key, self.queue.keys)}
        if config.wants_masks:
            told["constrained"] = (pair.query.shown.float().mean() + pair.key.shown.float().mean()) / 2
        return Contrast(loss, told, query, maps.map)

    def foreground(self, pictures: Tensor, at: Moment) -> Tensor:
        """Keys f32[B, d] of pictures that are not put into the queue."""
        return keys.encoded(self.key_encoder, pictures, at, "foreground", self.config.shuffle)[0]

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """The momentum encoder follows, the new keys take the place of the oldest.

        In the released code the encoder follows at the beginning of a step, which is the same but at the very first, where both are equal.
        """
        keys.follow(self.key_encoder, self.encoder, self.config.momentum)
        keys.level(self.encoder, self.key_encoder)
        key, owner = self._new
        self.queue.put(key, owner, at)
        self._new = []

    def param_groups(self) -> list[Group]:
        """All of the query encoder, alike; its parts are the network and the head."""
        return groups_of(self.encoder)


def pair_of(batch: Clips, at: Moment, crops: Crops, reference: int) -> Pair:
    """A crop of the first clip of each item and one of the last (of one clip both), each constrained by the mask of its own reference
    frame."""
    made = []
    for name, view in (("query", 0), ("key", batch.frames.shape[1] - 1)):
        mask = None
        if batch.masks is not None:
            mask = batch.masks[:, view, min(reference, batch.masks.shape[2] - 1)]
        made.append(cropped(batch.frames[:, view], mask, batch.valid, batch.index, at.seed, at.step, name, crops))
    owner = batch.where[:, 0, 0, 0].long().to(batch.frames.device)
    return Pair(made[0], made[1], owner)


@torch.no_grad()
def found(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    """Share of queries f32[] that are more like their key than like anything in the queue."""
    if not len(queue):
        return query.new_ones(())
    better = torch.linalg.vecdot(query, key) > (query @ queue.T).amax(1)
    share: Tensor = better.float().mean()
    return share


def groups_of(encoder: keys.Encoder) -> list[Group]:
    """The network's parameters and those of each head; everything decays, as released."""
    heads: Sequence[nn.Module] = list(encoder.heads)
    return [
        Group("backbone", tuple(encoder.net.parameters())),
        *(Group(f"head{k}" if k else "head", tuple(head.parameters())) for k, head in enumerate(heads)),
    ]
