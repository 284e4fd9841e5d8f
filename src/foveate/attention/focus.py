"""Attention maps made visible, and made a number.

For the eye a map is brought to 0..1 per head, smoothed with a Gaussian of one patch and enlarged bilinearly, as in the figures of guided
DINOv2. The number is taken from the map as it is: the *focus score* is the share of the attention that falls on the subject, divided by the
share of the picture that the subject covers. 1 says no preference, 3 that the subject gets three times what it would by its size, and
the largest possible value is one divided by the subject's share of the picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.models.pretrained import patch_share

if TYPE_CHECKING:
    from torch import Tensor

SIGMA = 1.0
"""Patches; standard deviation of the Gaussian."""

LEAST = 5
"""Animals below which no interval is given: drawing again from fewer says little about others."""

_REACH = 4  # standard deviations
_GROUND = 0.55  # brightness of what lies below an overlay

Picture = NDArray[np.uint8]


class Focus(NamedTuple):
    """Focus scores of B pictures; not a number where the subject covers nothing."""

    mean: Tensor  # f32[B], of the heads' mean map
    heads: Tensor  # f32[B, heads]
    area: Tensor  # f32[B], share of the picture that the subject covers


def focus_score(maps: Tensor, masks: Tensor, within: Tensor | None = None) -> Focus:
    """Share of attention on the subject over the subject's share of the picture.

    A patch counts by the share of it that the mask covers. Attention to other tokens than patches has no place in the picture and counts
    nowhere. The mean map is the mean over heads of what they give to patches, so that a head that mostly looks at registers weighs less.

    Args:
        maps: f32[B, heads, rows, columns], not negative, as ``attention_maps`` gives them.
        masks: [B, h, w] in 0..1 over the same field of view, any resolution.
        within: [B, h, w] in 0..1, the part that is picture and not letterbox; None: all of it.
    """
    import torch

    rows, columns = maps.shape[-2:]
    subject = patch_share(masks.to(maps.device), rows, columns)
    picture = torch.ones_like(subject) if within is None else patch_share(within.to(maps.device), rows, columns)
    subject = torch.minimum(subject, picture)
    area = subject.sum((1, 2)) / picture.sum((1, 2))

    def score(given: Tensor) -> Tensor:  # f32[B, maps, rows, columns]
        share = (given * subject[:, None]).sum((2, 3)) / (given * picture[:, None]).sum((2, 3))
        return torch.where(area[:, None] > 0, share / area[:, None], torch.nan)

    return Focus(score(maps.mean(1, keepdim=True))[:, 0], score(maps), area)


def visible(maps: Tensor, height: int, width: int) -> Tensor:
    """f32[..., height, width] in 0..1 of maps [..., rows, columns]: normalised, smoothed and enlarged, each map for itself.

    Deviation from the published order (normalise, smooth, interpolate): the smoothed map is normalised once more, because smoothing takes
    the height off a small bright spot, and pictures of different heads would then differ in brightness for no reason.
    """
    return upsample(normalise(smooth(normalise(maps))), height, width)


def normalise(maps: Tensor) -> Tensor:
    """Each map [..., rows, columns] stretched so that its smallest value is 0 and its largest 1; 0 everywhere where all are equal."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).where(high > low, 1)


def smooth(maps: Tensor, sigma: float = SIGMA) -> Tensor:
    """Gaussian over patches; at the border the outermost patch goes on (``scipy.ndimage.gaussian_filter(..., mode="nearest")``)."""
    import torch
    from torch.nn import functional

    reach = round(_REACH * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=maps.device) / sigma) ** 2).to(maps.dtype)
    weights = weights / weights.sum()
    out = functional.pad(maps.reshape(-1, 1, *maps.shape[-2:]), (reach, reach, reach, reach), mode="replicate")
    out = functional.conv2d(functional.conv2d(out, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return out.reshape(maps.shape)


def upsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, [..., rows, columns] to [..., height, width]; both grids span the same picture."""
    from torch.nn import functional

    out = functional.interpolate(maps.reshape(-1, 1, *maps.shape[-2:]), (height, width), mode="bilinear", align_corners=False)
    return out.reshape(*maps.shape[:-2], height, width)


def overlay(picture: Picture, values: NDArray[np.float32]) -> Picture:
    """``picture`` u8[H, W, 3] in dim grey, with ``values`` f32[H, W] in 0..1 laid over it: nothing at 0, bright yellow at 1.

    Colours are matplotlib's inferno, whose brightness rises evenly: it reads the same for colour-blind eyes and in grey print.
    """
    grey = _GROUND * (picture @ np.array([0.299, 0.587, 0.114]))[..., None]
    place = np.clip(values, 0, 1)[..., None]
    colour = _colours()[np.rint(255 * place[..., 0]).astype(np.intp)]
    strength = np.sqrt(place)  # so that weak attention can be told from none
    mixed: Picture = np.rint(grey * (1 - strength) + colour * strength).astype(np.uint8)
    return mixed


@lru_cache(maxsize=1)
def _colours() -> NDArray[np.float64]:
    """f64[256, 3] in 0..255."""
    from matplotlib import colormaps

    return 255 * colormaps["inferno"](np.arange(256))[:, :3]


def bootstrap_interval(
    values: NDArray[np.float64], subjects: NDArray[np.str_], draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float, int]:
    """Mean over animals of each animal's mean, with a 95 % percentile interval from drawing animals with replacement.

    Returns:
        mean, low, high, number of animals; the interval is not a number below ``LEAST`` animals, the mean with none.
    """
    means = np.array([values[subjects == name].mean() for name in np.unique(subjects)])
    if len(means) < LEAST:
        return (float(means.mean()) if len(means) else np.nan), np.nan, np.nan, len(means)
    drawn = np.random.default_rng(seed).integers(0, len(means), (draws, len(means)))
    low, high = np.quantile(means[drawn].mean(1), [0.025, 0.975])
    return float(means.mean()), float(low), float(high), len(means)
