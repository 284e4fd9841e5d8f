"""The subject's mask as more than a place to crop: other backgrounds for it, and how much of each patch it fills.

None of this is in a publication that foveate follows; every use is a switch that is off unless asked for.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foveate.data.augment import Draws, whole_pixels
from foveate.data.draws import uniform

Background: TypeAlias = Literal["keep", "blur", "swap"]
_SHARE = 0.5  # of the pictures that are changed: a backbone that is used on real backgrounds has to see some
_NEAR = 3  # pixels around a subject that are not background either: masks are seldom exact
_CELL = 8  # pixels: the background is blurred on a grid of such cells
_PASSES = 3  # of a mean over 3 x 3 cells


def changed(
    frames: Tensor, masks: Tensor, valid: Tensor, index: Tensor, seed: int, step: int, background: Background
) -> Tensor:
    """Half of the pictures with another background behind their subject.

    ``blur``: its own, blurred as if the subject were not there. ``swap``: that of another picture of the batch, whose subject and
    letterbox are filled with its blurred background. Which pictures are changed belongs to the sample; whom it swaps with depends on the
    batch, and with several processes on the part that a process holds.

    Args:
        frames: u8[B, 3, H, W].
        masks: bool[B, H, W]; a picture whose mask is empty stays as it is.
        valid: f32[B, 4] x0, y0, x1, y1 in 0..1: the part that is content.
        index: i64[B] numbers of the samples.
        seed: of the run.
        step: of the run.
        background: what to do.

    Returns:
        u8[B, 3, H, W].
    """
    if background == "keep":
        return frames
    drawn = uniform(seed, step, index.cpu().numpy(), "background", 2)
    rows = np.flatnonzero(drawn[:, 0] < _SHARE)
    if not len(rows):
        return frames
    # Everybody gives its background to the next one in a random order of the batch.
    order = np.argsort(drawn[:, 1])
    giver = np.empty_like(order)
    giver[order] = np.roll(order, -1)
    source = rows if background == "blur" else giver[rows]
    there, here = (torch.from_numpy(numbers).to(frames.device) for numbers in (source, rows))
    near = functional.max_pool2d(masks[there].float().unsqueeze(1), 2 * _NEAR + 1, 1, _NEAR).squeeze(1) > 0
    known = _content(valid, frames)[there] & ~near
    behind = _blurred(frames[there].float(), known.unsqueeze(1).float())
    if background == "swap":
        behind = torch.where(known.unsqueeze(1), frames[there].float(), behind)
    mask = masks[here].float().unsqueeze(1)
    edge = functional.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)  # no sharper than the picture itself
    edge = torch.where(mask.amax((2, 3), keepdim=True) > 0, edge, 1.0)
    mixed = behind.lerp(frames[here].float(), edge).round_().clamp_(0, 255).byte()
    return frames.index_copy(0, here, mixed)


def _content(valid: Tensor, frames: Tensor) -> Tensor:
    """bool[B, H, W]"""
    height, width = frames.shape[-2:]
    x0, y0, x1, y1 = torch.from_numpy(whole_pixels(valid, height, width)).to(frames.device).T[..., None, None]
    x, y = torch.arange(width, device=frames.device), torch.arange(height, device=frames.device).unsqueeze(1)
    content: Tensor = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return content


def _blurred(pictures: Tensor, known: Tensor) -> Tensor:
    """f32[N, 3, H, W] blurred over what is known, f32[N, 1, H, W] in 0..1 (normalised convolution, Knutsson and Westin 1993); far from
    anything known the mean of the rest."""
    size, least = pictures.shape[-2:], 1e-3
    total, weight = (functional.avg_pool2d(x, _CELL, ceil_mode=True) for x in (pictures * known, known))
    mean = total.mean((2, 3), keepdim=True) / weight.mean((2, 3), keepdim=True).clamp(min=1e-6)
    for _ in range(_PASSES):
        total, weight = (functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in (total, weight))
    filled = (total + least * mean) / (weight + least)
    return functional.interpolate(filled, size, mode="bilinear", align_corners=False)


def patch_shares(masks: Tensor, draws: Draws, grid: int) -> Tensor:
    """How much of each patch of a view the subject fills.

    Args:
        masks: bool[B, H, W] of the pictures.
        draws: of V views of each, view by view (``augment.Views``).
        grid: patches per side of a view.

    Returns:
        f32[V * B, grid * grid] in 0..1, row after row.
    """
    box = torch.from_numpy(draws.box).to(masks.device, torch.float32)
    flip = torch.from_numpy(draws.flip).to(masks.device).view(-1, 1, 1)
    rows, columns = _overlap(box[:, 1], box[:, 3], masks.shape[1], grid), _overlap(box[:, 0], box[:, 2], masks.shape[2], grid)
    columns = torch.where(flip, columns.flip(1), columns)
    return (rows @ masks.float().repeat(len(flip) // len(masks), 1, 1) @ columns.transpose(1, 2)).flatten(1).clamp_(0, 1)


def _overlap(start: Tensor, stop: Tensor, pixels: int, parts: int) -> Tensor:
    """f32[N, parts, pixels]: the share of each of ``parts`` equal parts of start..stop that each pixel covers."""
    length = ((stop - start) / parts).view(-1, 1, 1)
    low = start.view(-1, 1, 1) + torch.arange(parts, device=start.device).view(1, -1, 1) * length
    pixel = torch.arange(pixels, device=start.device, dtype=torch.float32)
    return ((pixel + 1).minimum(low + length) - pixel.maximum(low)).clamp_(min=0) / length


def subject_mean(patches: Tensor, shares: Tensor, instead: Tensor) -> Tensor:
    """f32[N, D]: mean of patches float[N, P, D] weighted by f32[N, P]; ``instead`` float[N, D] where the subject is not in the view."""
    area = shares.sum(1, keepdim=True)
    mean = (shares.to(patches.dtype).unsqueeze(1) @ patches).squeeze(1) / area.clamp(min=1e-6).to(patches.dtype)
    return torch.where(area > 0.5, mean, instead)
