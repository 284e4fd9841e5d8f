"""RandAugment (Cubuk et al. 2020): two changes of a picture, drawn from fifteen, all equally strong.

This is what DeiT trains and fine-tunes with (``rand-m9-mstd0.5-inc1`` of timm): each change happens with probability one half, its
strength is drawn from N(9, .5) on a scale of 10, and grows with that number for all changes. Ground that comes into view has ImageNet's
mean colour. timm draws bilinear or bicubic for each turn; here it is bicubic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

NUMBERS = 10
"""Random numbers that ``randaugment`` takes."""
KINDS = (
    "autocontrast", "equalise", "invert", "rotate", "posterise", "solarise", "add", "colour", "contrast", "brightness", "sharpness",
    "shear_x", "shear_y", "shift_x", "shift_y",
)  # fmt: skip
_GROUND = (124, 116, 104)
_STRENGTH, _SPREAD, _MOST = 9.0, 0.5, 10.0


def randaugment(picture: NDArray[np.uint8], numbers: NDArray[np.float64]) -> NDArray[np.uint8]:
    """u8[H, W, 3] changed twice, of one alike.

    Args:
        picture: u8[H, W, 3].
        numbers: f64[NUMBERS] in [0, 1): of each change whether, which, how strong (two), which way.
    """
    from PIL import Image

    seen = Image.fromarray(picture)
    for whether, which, one, two, way in numbers.reshape(2, 5):
        if whether < 0.5:
            normal = math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * two)
            level = min(max(_STRENGTH + _SPREAD * normal, 0.0), _MOST) / _MOST
            seen = changed(seen, KINDS[int(which * len(KINDS))], level, 1 if way < 0.5 else -1)
    return np.array(seen)


def changed(picture: Image, kind: str, level: float, sign: int) -> Image:
    """One change.

    Args:
        picture: RGB.
        kind: of ``KINDS``.
        level: strength, 0..1.
        sign: 1 or -1: which way, where there are two.
    """
    from PIL import ImageEnhance, ImageOps

    shift = 0.45 * level * sign
    if kind in ("rotate", "shear_x", "shear_y", "shift_x", "shift_y"):
        width, height = picture.size
        sheared = 0.3 * level * sign
        moves = {
            "shear_x": (1, sheared, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, sheared, 1, 0),
            "shift_x": (1, 0, shift * width, 0, 1, 0),
            "shift_y": (1, 0, 0, 0, 1, shift * height),
        }
        return _turned(picture, 30 * level * sign) if kind == "rotate" else _moved(picture, moves[kind])
    if kind == "autocontrast":
        return ImageOps.autocontrast(picture)
    if kind == "equalise":
        return ImageOps.equalize(picture)
    if kind == "invert":
        return ImageOps.invert(picture)
    if kind == "posterise":
        return ImageOps.posterize(picture, 4 - int(level * 4))  # 0 bits, a black picture, at the largest strength, as in timm
    if kind == "solarise":
        return ImageOps.solarize(picture, 256 - int(level * 256))
    if kind == "add":
        extra = min(128, int(level * 110))
        return picture.point([min(255, value + extra) if value < 128 else value for value in range(256)] * 3)
    factor = max(0.1, 1 + 0.9 * level * sign)
    enhancers = {
        "colour": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    return enhancers[kind](picture).enhance(factor)


def _turned(picture: Image, degrees: float) -> Image:
    from PIL import Image as module

    return picture.rotate(degrees, module.Resampling.BICUBIC, fillcolor=_GROUND)


def _moved(picture: Image, matrix: tuple[float, ...]) -> Image:
    from PIL import Image as module

    return picture.transform(picture.size, module.Transform.AFFINE, matrix, module.Resampling.BICUBIC, fillcolor=_GROUND)
