"""Crops of clips to contrast: cut out, recoloured, normalised on the device, and the mask of the subject through the same cut.

A clip's frames are cut and recoloured alike. What is drawn belongs to (seed, step, sample, which of the clips), as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foveate.data import constrained, pixels
from foveate.data.augment import Augmentation, Draws, Kind, draw, make, whole_pixels
from foveate.data.draws import uniform
from foveate.models.folder import IMAGENET


@dataclass(frozen=True)
class Crops:
    """How a clip is cropped and recoloured; defaults are those of MoCo v2 (Chen et al. 2020), whose blur here has 9 x 9 pixels."""

    size: int = 224
    area: tuple[float, float] = (0.2, 1.0)  # share of the picture that is cut out
    flip: float = 0.5  # probability
    jitter: float = 0.8
    strength: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # of brightness, contrast, saturation, hue
    grey: float = 0.2
    blur: float = 0.5
    cover: float | None = None  # mu: least share of the subject's mask in a crop; None: crops know nothing of subjects
    constrained_area: tuple[float, float] = constrained.AREA  # share of the picture of crops that do
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]

    @classmethod
    def v1(cls) -> Crops:
        """MoCo's first version: stronger colours, no blur."""
        return cls(jitter=1.0, strength=(0.4, 0.4, 0.4, 0.4), blur=0.0)


@dataclass(frozen=True, eq=False)
class Crop:
    """One crop of each of B clips."""

    pictures: Tensor  # f32[B, 3, S, S], of clips of more than one frame f32[B, 3, T, S, S]; normalised
    mask: Tensor  # f32[B, S, S] in 0..1: the subject in the reference frame, cut out as the pictures; 0 where there is none
    shown: Tensor  # bool[B] whether there is a subject


def cropped(
    frames: Tensor, masks: Tensor | None, valid: Tensor, index: Tensor, seed: int, step: int, stream: str, how: Crops
) -> Crop:
    """Crops of a batch of clips.

    Args:
        frames: u8[B, T, 3, H, W] on the device.
        masks: bool[B, H, W] the subject in each clip's reference frame, all false (or all true) where there is none; None: nowhere.
        valid: f32[B, 4] x0, y0, x1, y1 in 0..1: the part of the pictures that is content.
        index: i64[B] numbers of the samples.
        seed: of the run.
        step: of the run.
        stream: which of a sample's clips; other names, other crops.
        how: what to do.
    """
    count, length = frames.shape[:2]
    numbers = index.cpu().numpy()
    content = whole_pixels(valid, *frames.shape[-2:])
    colours = _colours(how)
    drawn = draw(content, numbers, seed, step, stream, Kind(how.size, how.area, how.blur, 0.0), colours)
    shown = torch.zeros(count, dtype=torch.bool, device=frames.device)
    if masks is not None:
        flat = masks.flatten(1)
        shown = flat.any(1) & ~flat.all(1)  # a mask of everything says no more than none
        if how.cover is not None:
            u = uniform(seed, step, numbers, f"{stream} constrained", constrained.NUMBERS)
            found, _ = constrained.boxes(masks, content, u, how.cover, how.constrained_area)
            chosen = torch.where(shown.unsqueeze(1), found, torch.from_numpy(drawn.box).to(found.device))
            drawn = replace(drawn, box=chosen.cpu().numpy())
    pictures = make(frames.flatten(0, 1), repeated(drawn, length), how.size, colours)
    pictures = pictures.view(count, length, *pictures.shape[1:])
    mask = frames.new_zeros((count, how.size, how.size), dtype=torch.float32)
    if masks is not None:
        mask = cut_masks(masks, drawn, how.size)
    return Crop(pictures[:, 0] if length == 1 else pictures.transpose(1, 2), mask, shown)


def cut_masks(masks: Tensor, drawn: Draws, size: int) -> Tensor:
    """f32[N, size, size] in 0..1 of masks bool[N, H, W], cut, resized and mirrored as the pictures are. (Bicubic, as those; PreViTS's code
    has bilinear masks beside bicubic pictures.)"""
    pictures = masks.to(torch.uint8).mul_(255).unsqueeze(1)
    return pixels.cut(pictures, torch.from_numpy(drawn.box), torch.from_numpy(drawn.flip), size)[:, 0]


def repeated(drawn: Draws, times: int) -> Draws:
    """Each row ``times`` times in a row: the frames of a clip are changed alike."""
    return Draws(**{name: np.repeat(getattr(drawn, name), times, axis=0) for name in Draws.__dataclass_fields__})


def _colours(how: Crops) -> Augmentation:
    return Augmentation(
        large=how.size,
        flip=how.flip,
        jitter=how.jitter,
        strength=how.strength,
        grey=how.grey,
        mean=how.mean,
        std=how.std,
    )
