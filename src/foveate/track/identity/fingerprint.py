"""What an animal looks like from near, as one vector: the colours of its coat, and what a backbone makes of a crop around it.

Two animals of one breed may differ by a mark of a hundredth of their area, so colours are counted finely at full resolution, and the square
root of each count is kept (Hellinger): a colour of 1 % then weighs a tenth as much as one of all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, box, coverage

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Look = Callable[[Picture], Floats]
"""Patch tokens float32[rows, columns, D] of a picture uint8[rows * patch, columns * patch, 3]."""

BRIGHT, HUES = 6, 11  # bins of brightness, and along each of the two colour axes
REACH = 60.0  # the outermost colour bins lie at this Cb or Cr beyond grey, of 128
RIM = 0.06  # of an animal's width that is left out along its outline: blurred, and of the ground's colour
BITES = 0.2  # of an animal's width: how wide a bite may be that is mended
NEAR = 12  # patches along a side of the crop that the backbone sees
COLOURS = BRIGHT * HUES * HUES


def describe(picture: Picture, mask: Mask, look: Look, patch: int) -> tuple[Floats, Floats]:
    """``colours`` and ``tokens`` of one subject in a picture uint8[H, W, 3] of its view."""
    whole = mended(mask)
    return colours(picture, whole), tokens(picture, whole, look, patch)


def mended(mask: Mask) -> Mask:
    """The mask without bites and holes. A mark that only one animal has is what a tracker leaves out when it takes the other one for it; a
    fingerprint that kept to the mask would then tell labels apart, not animals."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    x, y, w, h = box(mask) or (0, 0, 1, 1)
    reach = BITES * float(np.sqrt(mask.sum()))
    margin = int(reach) + 2
    near = np.pad(mask[y : y + h, x : x + w], margin)
    closed = distance_transform_edt(distance_transform_edt(~near) <= reach) > reach
    whole: Mask = mask.copy()
    whole[y : y + h, x : x + w] |= binary_fill_holes(closed)[margin:-margin, margin:-margin]
    return whole


def colours(picture: Picture, mask: Mask) -> Floats:
    """float32[COLOURS], length 1: square roots of the shares of the mask's pixels (uint8[H, W, 3]) in bins of brightness and colour, which
    pixels share out linearly among the nearest."""
    from scipy.ndimage import binary_erosion

    rim = max(1, round(RIM * float(np.sqrt(mask.sum()))))
    inside = binary_erosion(mask, iterations=rim)
    pixels = picture[inside if inside.sum() >= 16 else mask].astype(np.float32)
    bright = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    axes = (
        (np.clip(bright / 255, 0, 1) * (BRIGHT - 1), BRIGHT),
        (np.clip((pixels[:, 2] - bright) * 0.564 / REACH, -1, 1) * ((HUES - 1) / 2) + (HUES - 1) / 2, HUES),
        (np.clip((pixels[:, 0] - bright) * 0.713 / REACH, -1, 1) * ((HUES - 1) / 2) + (HUES - 1) / 2, HUES),
    )
    index, weight = np.zeros((1, len(pixels)), np.int64), np.ones((1, len(pixels)), np.float32)
    for values, bins in axes:
        low = np.minimum(values.astype(np.int64), bins - 2)
        share = values - low
        index = np.concatenate([index * bins + low, index * bins + low + 1])
        weight = np.concatenate([weight * (1 - share), weight * share])
    counts = np.bincount(index.ravel(), weight.ravel(), COLOURS)
    shares: Floats = np.sqrt(counts / max(counts.sum(), 1e-9)).astype(np.float32)
    return shares


def tokens(picture: Picture, mask: Mask, look: Look, patch: int) -> Floats:
    """float32[2 D]: mean of the subject's patch tokens in a square crop around it, and their standard deviation, in which a patch of
    another kind shows; each of length 1."""
    from PIL import Image

    x, y, w, h = box(mask) or (0, 0, 1, 1)
    side = 1.1 * max(w, h)
    left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    corner = int(np.floor(left)), int(np.floor(top))
    ends = int(np.ceil(left + side)), int(np.ceil(top + side))
    rows = np.clip(np.arange(corner[1], ends[1]), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(corner[0], ends[0]), 0, picture.shape[1] - 1)
    seen = Image.fromarray(np.ascontiguousarray(picture[rows][:, columns]))
    near = np.asarray(seen.resize((NEAR * patch, NEAR * patch), Image.Resampling.BICUBIC))
    found = look(near)
    share = coverage(mask, found.shape[0], found.shape[1], (corner[0], corner[1], len(columns), len(rows)))
    weight = (share * (share > 0.5)).ravel()
    weight = weight if weight.any() else share.ravel()
    flat = found.reshape(-1, found.shape[-1])
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    mean = weight @ flat / weight.sum()
    spread = np.sqrt(weight @ (flat - mean) ** 2 / weight.sum())
    out = [v / max(float(np.linalg.norm(v)), 1e-6) for v in (mean, spread)]
    return np.concatenate(out).astype(np.float32)
