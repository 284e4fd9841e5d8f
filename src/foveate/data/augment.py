"""DINOv2's views of a picture: 2 large and 8 small crops, recoloured, blurred, normalised; on the device, from uint8.

What is drawn is a function of (seed, step, number of the sample) alone and is drawn on the host, so that a step does not wait for a device
and one picture's views depend on nothing that is in the batch beside it.

Published: DINOv2's code (``data/augmentations.py``) with the crops of the guided study. That code blurs with one minus the given
probability, and the released weights were trained so; this is the default here, and ``nominal_blur`` is what the recipe says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data import pixels
from foveate.data.draws import uniform
from foveate.models.folder import IMAGENET

_CACHE = 150_000  # numbers
_TRIES = 10
_ASPECT = (3 / 4, 4 / 3)
_SIGMA = (0.1, 2.0)
_JITTER: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (pixels.brightness, pixels.contrast, pixels.saturation, pixels.hue)


@dataclass(frozen=True)
class Kind:
    """How one kind of view is made; probabilities are those with which something happens.

    Attributes:
        size: side in pixels.
        area: share of the picture's content that is cut out, least and most.
        blur: probability.
        solarise: probability.
    """

    size: int
    area: tuple[float, float]
    blur: float
    solarise: float


@dataclass(frozen=True)
class Augmentation:
    """All views of a picture. Defaults: the guided study's."""

    large: int = 224
    small: int = 98
    smalls: int = 8
    large_area: tuple[float, float] = (0.32, 1.0)
    small_area: tuple[float, float] = (0.05, 0.32)
    flip: float = 0.5
    jitter: float = 0.8  # probability
    strength: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)  # of brightness, contrast, saturation, hue
    grey: float = 0.2
    nominal_blur: bool = False
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]

    def __post_init__(self) -> None:
        if self.smalls < 1:
            raise ValueError("at least one small view is needed")

    def kinds(self) -> tuple[Kind, Kind, Kind]:
        """The first large view, the second, a small one."""
        blurs = (1.0, 0.1, 0.5) if self.nominal_blur else (0.0, 0.9, 0.5)
        large = [Kind(self.large, self.large_area, blurs[k], (0.0, 0.2)[k]) for k in (0, 1)]
        return large[0], large[1], Kind(self.small, self.small_area, blurs[2], 0.0)


@dataclass(frozen=True, eq=False)
class Draws:
    """What becomes of N pictures, on the CPU.

    Attributes:
        box: int64 ``[N, 4]``: x0, y0, x1, y1 of what is cut out, in whole pixels.
        flip, grey, solarise: bool ``[N]``.
        order: int64 ``[N, 4]``: numbers of brightness, contrast, saturation and hue (0..3) in the order in which they come.
        factor: float64 ``[N, 4]`` of brightness, ...; NaN where colours stay.
        sigma: float64 ``[N]`` of the blur in pixels; 0 without.
    """

    box: NDArray[np.int64]
    flip: NDArray[np.bool_]
    order: NDArray[np.int64]
    factor: NDArray[np.float64]
    grey: NDArray[np.bool_]
    sigma: NDArray[np.float64]
    solarise: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Views:
    """Views of B pictures, view by view: row ``v * B + b`` is view v of picture b.

    Attributes:
        large: f32[2B, 3, S, S], normalised.
        taught: the same for the teacher; another tensor only where the student sees other backgrounds.
        small: f32[V * B, 3, s, s].
        large_draws, small_draws: how they were made, in the same order.
    """

    large: Tensor
    taught: Tensor
    small: Tensor
    large_draws: Draws
    small_draws: Draws


def views(
    frames: Tensor, valid: Tensor, index: Tensor, seed: int, step: int, how: Augmentation, changed: Tensor | None = None
) -> Views:
    """All views of a batch.

    Args:
        frames: u8[B, 3, H, W] RGB on the device.
        valid: f32[B, 4] x0, y0, x1, y1 in 0..1: the part of each picture that is content; crops stay inside.
        index: i64[B] numbers of the samples.
        seed: of the run.
        step: of the run.
        how: what to do.
        changed: what the student sees in place of ``frames``; the same shape.
    """
    first, second, small = how.kinds()
    content, number = whole_pixels(valid, *frames.shape[-2:]), index.cpu().numpy()
    drawn = [
        draw(content, number, seed, step, f"view {v}", kind, how)
        for v, kind in enumerate((first, second, *(small,) * how.smalls))
    ]
    large_draws, small_draws = joined(drawn[:2]), joined(drawn[2:])
    taught = make(frames, large_draws, how.large, how)
    seen = frames if changed is None else changed
    large = taught if changed is None else make(changed, large_draws, how.large, how)
    return Views(large, taught, make(seen, small_draws, how.small, how), large_draws, small_draws)


def whole_pixels(valid: Tensor, height: int, width: int) -> NDArray[np.int64]:
    """``valid`` f32[B, 4] in 0..1 as int64 ``[B, 4]`` pixels, rounded, at least one pixel."""
    shares = valid.cpu().double().numpy()
    sides = np.array([width, height])
    low = np.clip(np.rint(shares[:, :2] * sides).astype(np.int64), 0, sides - 1)
    high = np.clip(np.rint(shares[:, 2:] * sides).astype(np.int64), low + 1, sides)
    return np.concatenate([low, high], axis=1)


def draw(
    content: NDArray[np.int64],
    index: NDArray[np.int64],
    seed: int,
    step: int,
    stream: str,
    kind: Kind,
    how: Augmentation,
) -> Draws:
    """Draws of one view of each picture; ``content`` int64 ``[B, 4]`` in pixels, ``index`` int64 ``[B]``."""
    u = uniform(seed, step, index, stream, 2 * _TRIES + 16)
    rest = u[:, 2 * _TRIES :]
    strength = np.array(how.strength)
    low, high = np.array([*np.maximum(0, 1 - strength[:3]), -strength[3]]), np.array([*(1 + strength[:3]), strength[3]])
    factor = low + rest[:, 6:10] * (high - low)
    factor[rest[:, 2] >= how.jitter] = np.nan
    sigma = _SIGMA[0] + rest[:, 15] * (_SIGMA[1] - _SIGMA[0])
    return Draws(
        box=_boxes(content, u[:, : 2 * _TRIES].reshape(-1, _TRIES, 2), rest[:, :2], kind.area),
        flip=rest[:, 3] < how.flip,
        order=np.argsort(rest[:, 10:14], axis=1),
        factor=factor,
        grey=rest[:, 4] < how.grey,
        sigma=np.where(rest[:, 5] < kind.blur, sigma, 0.0),
        solarise=rest[:, 14] < kind.solarise,
    )


def _boxes(
    content: NDArray[np.int64], shape: NDArray[np.float64], place: NDArray[np.float64], area: tuple[float, float]
) -> NDArray[np.int64]:
    """torchvision's ``RandomResizedCrop``: share of the area uniform, aspect log-uniform in 3/4 .. 4/3, ten tries, else the largest box in
    the middle with an allowed aspect. ``shape`` ``[B, tries, 2]`` and ``place`` ``[B, 2]`` are uniform numbers."""
    corner, sides = content[:, :2], content[:, 2:] - content[:, :2]
    width, height = sides[:, :1], sides[:, 1:]
    target = width * height * (area[0] + shape[..., 0] * (area[1] - area[0]))
    aspect = np.exp(math.log(_ASPECT[0]) + shape[..., 1] * math.log(_ASPECT[1] / _ASPECT[0]))
    w, h = np.rint(np.sqrt(target * aspect)).astype(np.int64), np.rint(np.sqrt(target / aspect)).astype(np.int64)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    chosen, row = fits.argmax(1), np.arange(len(content))
    size = np.stack([w[row, chosen], h[row, chosen]], axis=1)
    start = np.floor(place * (sides - size + 1)).astype(np.int64)
    for b in np.flatnonzero(~fits.any(1)):
        wide, tall = sides[b].tolist()
        size[b] = min(wide, max(1, round(tall * _ASPECT[1]))), min(tall, max(1, round(wide / _ASPECT[0])))
        start[b] = (sides[b] - size[b]) // 2
    return np.concatenate([corner + start, corner + start + size], axis=1)


def joined(parts: list[Draws]) -> Draws:
    """Draws of several views as one."""
    names = Draws.__dataclass_fields__
    return Draws(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def make(frames: Tensor, draws: Draws, size: int, how: Augmentation) -> Tensor:
    """Normalised views f32[V * B, 3, size, size] of u8[B, 3, H, W] as drawn."""
    count, pictures = len(draws.flip), len(frames)
    box, flip = torch.from_numpy(draws.box), torch.from_numpy(draws.flip)
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (how.mean, how.std))
    out = torch.empty(count, 3, size, size, device=frames.device)
    helping = _together(frames, size)
    for first in (view + k for view in range(0, count, pictures) for k in range(0, pictures, helping)):
        source = frames[first % pictures :][:helping]
        rows = slice(first, first + len(source))
        made = recolour(pixels.cut(source, box[rows], flip[rows], size), draws, first)
        torch.div(made.sub_(mean), std, out=out[rows])
    return out


def _together(frames: Tensor, size: int) -> int:
    """How many pictures are made views of at once: as many as stay in a core's cache, elsewhere than on a CPU all."""
    return max(1, _CACHE // (3 * size * size)) if frames.device.type == "cpu" else len(frames)


def recolour(pictures: Tensor, draws: Draws, first: int = 0) -> Tensor:
    """Jitter, grey, blur and solarise f32[n, 3, s, s] in 0..1 by n rows of ``draws`` from ``first`` on. May write into ``pictures``."""
    rows = slice(first, first + len(pictures))
    factor, order, sigma = draws.factor[rows], draws.order[rows], draws.sigma[rows]
    jittered = ~np.isnan(factor[:, 0])
    for place in range(4):
        for number in sorted(set(order[jittered, place].tolist())):
            pictures = _some(pictures, jittered & (order[:, place] == number), _JITTER[number], factor[:, number])
    pictures = _some(pictures, draws.grey[rows], lambda x, _: pixels.grey(x).repeat(1, 3, 1, 1), sigma)
    pictures = _some(pictures, sigma > 0, pixels.blur, sigma)
    return _some(pictures, draws.solarise[rows], lambda x, _: pixels.solarise(x), sigma)


def _some(
    pictures: Tensor, which: NDArray[np.bool_], change: Callable[[Tensor, Tensor], Tensor], factor: NDArray[np.float64]
) -> Tensor:
    """``change`` applied to the pictures in ``which`` with their factors."""
    chosen = np.flatnonzero(which)
    if not len(chosen):
        return pictures
    device = pictures.device
    values = torch.from_numpy(factor[chosen].astype(np.float32)).to(device, non_blocking=True)
    if len(chosen) == len(pictures):
        return change(pictures, values)
    rows = torch.from_numpy(chosen).to(device, non_blocking=True)
    return pictures.index_copy_(0, rows, change(pictures.index_select(0, rows), values))
