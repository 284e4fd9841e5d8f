"""From coarse to fine: soft labels on a patch grid become a mask of pixels that keeps to the edges in the picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, box

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

RADIUS = 10  # pixels of the tracker's picture: about 0.7 of a patch, how far an edge may lie from where the labels put it
WIDE = 2 * RADIUS  # window of the second look, in which the colours of subject and scene are told apart more surely
LEVEL = 0.45  # where the outline is drawn then; below one half, because a wide window wears convex outlines off
LIT, GAIN = 0.25, 4.0  # mean of a picture, of 1, below which it is dark; most that its values are multiplied by
EPSILON = 1e-4  # variance of colour (0..1) below which a place counts as flat


def brightened(picture: Picture) -> Picture:
    """A dark picture uint8[H, W, 3], its values times what makes their mean ``LIT``, at most by ``GAIN``; any other as it is.

    Where the colours of a dark picture lie close together, neither the backbone nor the outline tells things apart.
    """
    gain = min(GAIN, LIT / max(float(picture.mean()) / 255, 1e-6))
    return picture if gain <= 1 else np.clip(picture * np.float32(gain) + 0.5, 0, 255).astype(np.uint8)


def guided_filter(picture: Picture, values: Floats, radius: int = RADIUS, epsilon: float = EPSILON) -> Floats:
    """Smooth ``values`` where ``picture`` is smooth and keep them apart where it has edges.

    Guided filter with a colour guide: He, Sun and Tang, "Guided image filtering" (PAMI 2013), equations 19 to 21.

    Args:
        picture: uint8[H, W, 3], the guide.
        values: float32[H, W].
        radius: of the square window, in pixels.
        epsilon: regularisation, for colours in 0..1.

    Returns:
        float32[H, W]; may leave the range of ``values`` a little.
    """
    from scipy.ndimage import uniform_filter

    def mean(planes: Floats) -> Floats:
        smooth: Floats = uniform_filter(planes, (1, 2 * radius + 1, 2 * radius + 1), mode="nearest")
        return smooth

    guide = np.moveaxis(picture, -1, 0).astype(np.float32) / np.float32(255)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = [guide[i] * guide[j] for i, j in pairs]
    means = mean(np.stack([*guide, values, *(guide * values), *products]))
    covariance = means[4:7] - means[:3] * means[3]
    spread = {(i, j): means[7 + k] - means[i] * means[j] for k, (i, j) in enumerate(pairs)}
    for k in range(3):
        spread[k, k] += np.float32(epsilon)
    slope = _solved(spread, covariance)
    offset = means[3] - (slope * means[:3]).sum(axis=0)
    smooth = mean(np.concatenate([slope, offset[None]]))
    filtered: Floats = (smooth[:3] * guide).sum(axis=0) + smooth[3]
    return filtered


def _solved(matrix: Mapping[tuple[int, int], Floats], right: Floats) -> Floats:
    """float32[3, H, W]: x of matrix x = right in every pixel, by elimination in all of them at once; a tenth of the time of
    ``numpy.linalg.solve``. The matrices, upper triangles float32[H, W], are covariances and need no pivots."""
    first = matrix[0, 1] / matrix[0, 0], matrix[0, 2] / matrix[0, 0]
    d = matrix[1, 1] - first[0] * matrix[0, 1]
    e = matrix[1, 2] - first[0] * matrix[0, 2]
    second = e / d
    one = right[1] - first[0] * right[0]
    two = right[2] - first[1] * right[0] - second * one
    z = two / (matrix[2, 2] - first[1] * matrix[0, 2] - second * e)
    y = (one - e * z) / d
    return np.stack([(right[0] - matrix[0, 1] * y - matrix[0, 2] * z) / matrix[0, 0], y, z])


def upsample(values: Floats, height: int, width: int) -> Floats:
    """Bilinear, cell centres onto cell centres, edges repeated: float32[height, width] from float32[h, w]."""
    return _along(_along(values, height).T, width).T


def _along(values: Floats, size: int) -> Floats:
    place = np.clip((np.arange(size) + 0.5) * (len(values) / size) - 0.5, 0, len(values) - 1)
    low = np.minimum(place.astype(np.intp), max(len(values) - 2, 0))
    share = (place - low).astype(np.float32)[:, None]
    high = np.minimum(low + 1, len(values) - 1)
    between: Floats = values[low] * (1 - share) + values[high] * share
    return between


def to_mask(labels: Floats, picture: Picture, height: int, width: int) -> Mask:
    """The pixels of a subject.

    Filtered twice: labels are soft over a whole patch, so the first look in a narrow window settles which side a pixel is on, and the
    second, in a wider window around what is settled, finds the colours that go with either side.

    Args:
        labels: float32[rows, columns] in 0..1, share of each patch that is the subject.
        picture: uint8[rows * patch, columns * patch, 3], what the tracker saw.
        height, width: size of the view.

    Returns:
        bool[height, width]; empty where no label comes near one half.
    """
    h, w = picture.shape[:2]
    smooth = upsample(labels, h, w)
    near = box(smooth > 0.1)
    if near is None:
        return np.zeros((height, width), np.bool_)
    margin = 2 * WIDE + 2
    y, x = (
        slice(max(0, near[1] - margin), near[1] + near[3] + margin),
        slice(max(0, near[0] - margin), near[0] + near[2] + margin),
    )
    fine = smooth.copy()
    first = guided_filter(picture[y, x], smooth[y, x]) > 0.5
    fine[y, x] = guided_filter(picture[y, x], first.astype(np.float32), WIDE)
    if not (fine > LEVEL).any():  # thinner than the window: the filter has wiped it out
        return upsample(smooth, height, width) > 0.5
    return upsample(fine, height, width) > LEVEL
