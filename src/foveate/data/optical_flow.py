"""Optical flow: where what is seen at each pixel of one picture is seen in another one.

Dense Lucas and Kanade (1981), from coarse to fine (Bouguet 2000): around every pixel the shift that explains best, by least squares, how
the picture has changed there. Good for a few pixels where there is texture; no match for learned flow, and it needs no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 14  # pixels of the short side of the coarsest picture
_WINDOW, _ROUNDS = 9, 6  # pixels of a neighbourhood; corrections at each scale
_FLAT = 1e-2  # added to the squares of gradients (grey levels 0..1): where nothing can be told, nothing moves


def optical_flow(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """f32[2, H, W]: pixels to the right and down by which ``other`` shows what ``one`` shows at each pixel; both u8[H, W(, 3)]."""
    import torch
    from torch.nn import functional

    first, second = ([_grey(picture)] for picture in (one, other))
    while min(first[-1].shape[-2:]) >= 2 * _SMALLEST:
        for pyramid in (first, second):
            pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
    flow = torch.zeros(1, 2, *first[-1].shape[-2:])
    for before, after in zip(reversed(first), reversed(second), strict=True):
        scale = before.shape[-1] / flow.shape[-1]
        flow = functional.interpolate(flow, before.shape[-2:], mode="bilinear", align_corners=False) * scale
        for _ in range(_ROUNDS):
            flow = _smooth(flow + _correction(before, _moved(after, flow)))
    found: NDArray[np.float32] = flow[0].numpy()
    return found


def patch_motion(one: NDArray[np.uint8], other: NDArray[np.uint8], patch: int) -> NDArray[np.float32]:
    """f32[n], pixels: how far each patch of ``one`` moves beyond what most of the picture does (the median, which is the camera's). What
    has left the picture counts as moving with it."""
    flow = optical_flow(one, other)
    height, width = flow.shape[1:]
    down, right = np.indices((height, width))
    gone = (right + flow[0] < 0) | (right + flow[0] > width - 1) | (down + flow[1] < 0) | (down + flow[1] > height - 1)
    own = np.where(gone, 0, np.hypot(*(flow - np.median(flow, axis=(1, 2), keepdims=True))))
    rows, columns = (side // patch for side in own.shape)
    cells = own[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch)
    mean: NDArray[np.float32] = cells.mean((1, 3)).reshape(-1).astype(np.float32)
    return mean


def _smooth(flow: Tensor) -> Tensor:
    """Neighbours move alike (what Horn and Schunck ask for): without this, what was told wrongly is carried on to finer pictures."""
    from torch.nn import functional

    half = _WINDOW // 4
    return functional.avg_pool2d(functional.pad(flow, (half, half, half, half), mode="replicate"), 2 * half + 1, 1)


def _grey(picture: NDArray[np.uint8]) -> Tensor:
    """f32[1, 1, H, W] in 0..1, a little smoothed: gradients of single pixels are noise."""
    import torch
    from torch.nn import functional

    grey = picture.mean(-1) if picture.ndim == 3 else picture
    levels = torch.from_numpy(np.asarray(grey, np.float32) / 255)[None, None]
    return functional.avg_pool2d(functional.pad(levels, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _moved(picture: Tensor, flow: Tensor) -> Tensor:
    """The picture that ``picture`` was before it moved by ``flow``; beyond the edge as at the edge."""
    import torch
    from torch.nn import functional

    height, width = picture.shape[-2:]
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (right + flow[0, 0] + 0.5) * 2 / width - 1, (down + flow[0, 1] + 0.5) * 2 / height - 1
    return functional.grid_sample(
        picture, torch.stack((x, y), -1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )


def _correction(before: Tensor, moved: Tensor) -> Tensor:
    """f32[1, 2, H, W]: the shift that is still missing, at most a pixel: (sum of g g^T) d = - sum of g (moved - before)."""
    import torch
    from torch.nn import functional

    mean = functional.pad((before + moved) / 2, (1, 1, 1, 1), mode="replicate")
    gx, gy = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2, (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    change = moved - before
    products = torch.cat((gx * gx, gx * gy, gy * gy, gx * change, gy * change), 1)
    around = functional.avg_pool2d(products, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
    xx, xy, yy, xt, yt = around.unsqueeze(2).unbind(1)
    xx, yy = xx + _FLAT**2, yy + _FLAT**2
    determinant = xx * yy - xy * xy
    shift = torch.cat((xy * yt - yy * xt, xy * xt - xx * yt), 1) / determinant
    limited: Tensor = shift / shift.norm(dim=1, keepdim=True).clamp(min=1)
    return limited
