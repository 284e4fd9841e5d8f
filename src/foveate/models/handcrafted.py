"""A descriptor without weights: gradient orientations and colour moments on a patch grid. The loud last resort.

It is for machines that can get no pretrained model at all. Its vectors know edges and colours and nothing about animals; every result made
with it carries the model name ``handcrafted``. Gradient histograms follow Dalal and Triggs 2005 (unsigned, 9 bins, votes shared
between neighbouring bins, square-root-free L2 normalisation per patch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PATCH, BINS = 14, 9
LOCAL = BINS + 6  # orientations, mean and standard deviation of three colours
WIDTH = 3 * LOCAL
COLOURS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # it wants pictures in 0..1
FINGERPRINT = "handcrafted-1"
WARNING = (
    "the model 'handcrafted' describes edges and colours only: it has learned nothing, and behaviours that differ subtly will not be told "
    "apart. Use it to try the pipeline, never for a result."
)


def describe(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors of f32[B, 3, H, W] in 0..1, sides multiples of ``PATCH``.

    Returns:
        f32[B, WIDTH] for the picture: mean over its patches, their standard deviation, and mean of the inner half minus mean of all;
        f32[B, rows, columns, WIDTH] for the patches: the patch itself, and its 3 x 3 and 5 x 5 neighbourhoods.
    """
    import torch
    from torch.nn import functional

    local = torch.cat([_orientations(pixels), *_colours(pixels)], dim=1)  # B LOCAL rows columns
    around = [functional.avg_pool2d(local, k, stride=1, padding=k // 2, count_include_pad=False) for k in (3, 5)]
    patches = torch.cat([local, *around], dim=1).permute(0, 2, 3, 1)
    rows, columns = local.shape[-2:]
    inner = local[:, :, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    mean = local.mean((2, 3))
    whole = torch.cat([mean, local.std((2, 3), correction=0), inner.mean((2, 3)) - mean], dim=1)
    return whole, patches


def _orientations(pixels: Tensor) -> Tensor:
    """f32[B, BINS, rows, columns]: histogram of unsigned gradient directions per patch, weighted by strength, of length below 1."""
    import math

    import torch
    from torch.nn import functional

    grey = functional.pad(pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    strength = (dx.square() + dy.square()).sqrt()
    place = torch.atan2(dy, dx).remainder(math.pi) * (BINS / math.pi)  # 0..BINS, circular
    centres = torch.arange(BINS, device=pixels.device, dtype=pixels.dtype).view(1, BINS, 1, 1)
    distance = (place - centres).abs()
    votes = (1 - torch.minimum(distance, BINS - distance)).clamp(min=0) * strength
    histogram = functional.avg_pool2d(votes, PATCH)
    return histogram / (histogram.square().sum(1, keepdim=True) + 1e-4).sqrt()


def _colours(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation f32[B, 3, rows, columns] of each colour in each patch."""
    from torch.nn import functional

    mean = functional.avg_pool2d(pixels, PATCH)
    variance = functional.avg_pool2d(pixels.square(), PATCH) - mean.square()
    return mean, variance.clamp(min=0).sqrt()
