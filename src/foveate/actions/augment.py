"""The published augmentation of the probe's training pictures: grey with p .5, random resized crop to the model's square, flip with p .5.

The crop is torchvision's ``RandomResizedCrop`` at its defaults, as in DINOv2's linear evaluation: share of the area U(.08, 1), log-uniform
aspect in 3/4 .. 4/3, ten tries, else the whole picture. Here it is drawn in shares of the picture's sides, so that one draw can serve
pictures of several sizes; for square pictures, which stored crops are, the two are the same.

A draw is a function of what it is for (video, view, copy, ...) and of nothing else: same names, same pictures, in any order of work.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from foveate.store import canonical_json

_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
_Pixel = TypeVar("_Pixel", np.uint8, np.bool_)


@dataclass(frozen=True)
class Draw:
    """One way of changing a picture. ``x, y, w, h`` is what is kept, in shares of its sides."""

    grey: bool
    flip: bool
    x: float
    y: float
    w: float
    h: float


def draw(*what: str | int, flips: bool = True) -> Draw:
    """The draw that belongs to ``what``; without ``flips`` the same one, not flipped."""
    seed = int.from_bytes(hashlib.sha256(canonical_json(what).encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    grey, flip = (rng.random(2) < 0.5).tolist()
    for _ in range(_TRIES):
        area, aspect = rng.uniform(*_AREA), math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= 1 and h <= 1:
            return Draw(grey, flip and flips, rng.uniform(0, 1 - w), rng.uniform(0, 1 - h), w, h)
    return Draw(grey, flip and flips, 0.0, 0.0, 1.0, 1.0)


def change(picture: NDArray[np.uint8], how: Draw) -> NDArray[np.uint8]:
    """Cut, turn grey, flip: u8 ``[h, w, 3]``, not resized. Grey is PIL's ``L`` (ITU-R 601-2) in all three channels."""
    part = cut(picture, how)
    if not how.grey:
        return part
    red, green, blue = (part[..., k].astype(np.uint32) for k in range(3))
    luma = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def cut(picture: NDArray[_Pixel], how: Draw) -> NDArray[_Pixel]:
    """Cut and flip alone, of a picture ``[h, w, 3]`` or of its mask ``[h, w]``; at least one pixel stays."""
    height, width = picture.shape[:2]
    left, top = min(int(how.x * width), width - 1), min(int(how.y * height), height - 1)
    right, bottom = max(left + 1, round((how.x + how.w) * width)), max(top + 1, round((how.y + how.h) * height))
    part = picture[top:bottom, left:right]
    return part[:, ::-1] if how.flip else part


def sided(behaviours: Sequence[str], mirror: Mapping[str, str]) -> list[str]:
    """Behaviours that are named left or right and have no counterpart in ``mirror``: with them a flipped picture has a wrong label."""
    paired = {name for pair in mirror.items() for name in pair}
    words = {name: re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()) for name in behaviours}
    return [name for name in behaviours if name not in paired and {"left", "right"} & set(words[name])]


def swapped(truth: NDArray[np.int8], behaviours: Sequence[str], mirror: Mapping[str, str]) -> NDArray[np.int8]:
    """Labels ``[N, L]`` of the flipped pictures: declared pairs change places; a label whose counterpart is not among ``behaviours`` is
    unknown (-1)."""
    other = {**mirror, **{b: a for a, b in mirror.items()}}
    out = truth.copy()
    for k, name in enumerate(behaviours):
        if name in other:
            out[:, k] = truth[:, behaviours.index(other[name])] if other[name] in behaviours else -1
    return out
