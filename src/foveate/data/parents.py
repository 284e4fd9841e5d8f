"""The piece of a picture that its views are taken of. In footage of many things two crops of a whole frame show different ones; methods
that compare views first take one piece, and views of that (DoRA, appendix B.1: 300 pixels, of .2 to 1 of the frame)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from foveate.data import pixels
from foveate.data.augment import Augmentation, Draws, Kind, Views, draw, joined, make, views, whole_pixels

if TYPE_CHECKING:
    from foveate.data.clips import Clips

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Parent:
    """Which piece. Defaults: the published ones, for large views of 224 pixels."""

    size: int = 300  # pixels per side that it is resized to
    area: tuple[float, float] = (0.2, 1.0)  # share of the picture's content, least and most


@dataclass(frozen=True)
class TwoViews:
    """Two views alike, without small ones. Defaults: SimCLR's, as solo-learn has them for ImageNet-100."""

    size: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    blur: tuple[float, float] = (0.5, 0.5)  # probability, of each view
    solarise: tuple[float, float] = (0.0, 0.0)
    strength: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # of brightness, contrast, saturation, hue


def parents(frames: Tensor, valid: Tensor, index: Tensor, seed: int, step: int, how: Parent) -> Tensor:
    """The piece of each sample's frames that its views are taken of: one box for all of them.

    Args:
        frames: u8[T, B, 3, H, W] on the device.
        valid: f32[B, 4], the part of them that is content, in 0..1.
        index: i64[B] numbers of the samples.
        seed, step: of the run.
        how: which piece.

    Returns:
        u8[T, B, 3, size, size].
    """
    times, count = frames.shape[:2]
    content = whole_pixels(valid, *frames.shape[-2:])
    drawn = draw(content, index.cpu().numpy(), seed, step, "parent", Kind(how.size, how.area, 0.0, 0.0), Augmentation())
    boxes = torch.from_numpy(np.tile(drawn.box, (times, 1)))
    cut = pixels.cut(frames.flatten(0, 1), boxes, torch.zeros(times * count, dtype=torch.bool), how.size)
    return cut.mul_(255).round_().to(torch.uint8).view(times, count, 3, how.size, how.size)


def seen_of(batch: Clips, seed: int, step: int, how: Augmentation, parent: Parent | None) -> Views:
    """Large and small views of a batch of single frames, ``frames`` u8[B, 1, 1, 3, H, W], or of a piece of each."""
    frames, valid = _pictures(batch, seed, step, parent)
    return views(frames, valid, batch.index, seed, step, how)


def two_views(batch: Clips, seed: int, step: int, how: TwoViews, parent: Parent | None) -> tuple[Tensor, Draws]:
    """Both views of a batch of single frames, or of a piece of each: f32[2B, 3, S, S], view by view, and how they were made."""
    frames, valid = _pictures(batch, seed, step, parent)
    content, number, colours = (
        whole_pixels(valid, *frames.shape[-2:]),
        batch.index.cpu().numpy(),
        Augmentation(strength=how.strength),
    )
    kinds = [Kind(how.size, how.area, blur, solarise) for blur, solarise in zip(how.blur, how.solarise, strict=True)]
    drawn = joined([draw(content, number, seed, step, f"view {v}", kind, colours) for v, kind in enumerate(kinds)])
    return make(frames, drawn, how.size, colours), drawn


def _pictures(batch: Clips, seed: int, step: int, parent: Parent | None) -> tuple[Tensor, Tensor]:
    """u8[B, 3, H, W] and the part of each that is content."""
    if batch.frames.shape[1:3] != (1, 1):
        raise ValueError(f"one frame of one draw is expected, not {tuple(batch.frames.shape[1:3])}")
    if parent is None:
        return batch.frames[:, 0, 0], batch.valid
    pieces = parents(batch.frames[:, 0].transpose(0, 1), batch.valid, batch.index, seed, step, parent)[0]
    return pieces, torch.tensor(_WHOLE).repeat(len(pieces), 1)
