"""Contact sheets: a few frames over each video with what the tracker followed drawn in.

One video at a time, a handful of decoded frames each: memory does not depend on the length or the number of videos.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveate.masks import decode
from foveate.track.overlay import TINTS

FRAMES = 6
"""Pictures per view and video."""

WIDTH, HEIGHT = 232, 168
"""Box in pixels that a thumbnail is fitted into."""

QUALITY = 62

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Overlay:
    """What is drawn into one view of one frame for one subject, in view pixels."""

    state: str
    rle: bytes | None
    box: tuple[float, float, float, float] | None
    square: tuple[float, float, float, float] | None  # crop
    tint: int


@dataclass(frozen=True)
class Thumbnail:
    """An encoded picture as a data URI, with its size in CSS pixels."""

    uri: str
    width: int
    height: int


def choose(times: NDArray[np.float64], cost: NDArray[np.int64], count: int = FRAMES) -> NDArray[np.int64]:
    """Positions of up to ``count`` analysed frames spread evenly over the video.

    The time axis is cut into ``count`` equal slots; of the middle half of each slot the frame that is cheapest to decode (fewest frames
    after its keyframe, then closest to the slot's middle) is taken, because a far jump in long-GOP footage costs a quarter of a second.

    Args:
        times: float64[N], seconds, increasing.
        cost: int64[N], frames to be decoded to reach each.
    """
    if len(times) <= count:
        return np.arange(len(times), dtype=np.int64)
    edges = np.linspace(times[0], times[-1], count + 1)
    picked: list[int] = []
    for low, high in itertools.pairwise(edges):
        middle, reach = (low + high) / 2, (high - low) / 4
        off = np.abs(times - middle)
        near = np.flatnonzero(off <= max(reach, off.min()))
        picked.append(int(near[np.lexsort((off[near], cost[near]))[0]]))
    return np.unique(np.asarray(picked, dtype=np.int64))


def thumbnail(view: Picture, overlays: list[Overlay]) -> Thumbnail:
    """``view`` (u8[H, W, 3]) fitted into the thumbnail box, with outlines, tint and crop squares."""
    height, width = view.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(view).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    pixels = np.asarray(image, dtype=np.float32).copy()
    for overlay in overlays:
        if overlay.rle is not None:
            _tint(pixels, _shrink(decode(overlay.rle, height, width), size), TINTS[overlay.tint % len(TINTS)])
    image = Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for overlay in overlays:
        if overlay.square is not None:
            _square(draw, overlay.square, scale)
        if overlay.rle is None and overlay.box is not None:
            x, y, w, h = (value * scale for value in overlay.box)
            draw.rectangle((x, y, x + w, y + h), outline=TINTS[overlay.tint % len(TINTS)])
    return Thumbnail(data_uri(image), *size)


def data_uri(image: Image.Image) -> str:
    """The picture as WebP in a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _shrink(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at thumbnail size; a pixel counts from 40 % on, so that thin legs and tails stay."""
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    found: NDArray[np.bool_] = np.asarray(small) > 0.4 * 255
    return found


def _tint(pixels: NDArray[np.float32], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Blend the colour into the mask, and draw its outline, in place."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    tone = np.asarray(colour, dtype=np.float32)
    pixels[inner] = 0.84 * pixels[inner] + 0.16 * tone
    pixels[mask & ~inner] = 0.1 * pixels[mask & ~inner] + 0.9 * tone


def _square(draw: ImageDraw.ImageDraw, square: tuple[float, float, float, float], scale: float) -> None:
    """A white frame with a dark rim: visible on any ground."""
    x, y, w, h = (value * scale for value in square)
    draw.rectangle((x - 1, y - 1, x + w + 1, y + h + 1), outline=(0, 0, 0))
    draw.rectangle((x, y, x + w, y + h), outline=(255, 255, 255))


def thumbnails(
    pictures: Iterator[Picture], views: Mapping[str, tuple[int, int, int, int]], overlays: list[dict[str, list[Overlay]]]
) -> dict[str, list[Thumbnail]]:
    """Per view one thumbnail of each picture.

    Args:
        pictures: whole frames, u8[H, W, 3], as many as ``overlays``.
        views: name to ``(x, y, w, h)`` in picture pixels.
        overlays: per picture and view what is drawn in.
    """
    out: dict[str, list[Thumbnail]] = {name: [] for name in views}
    for picture, drawn in zip(pictures, overlays, strict=True):
        for name, (x, y, w, h) in views.items():
            out[name].append(thumbnail(picture[y : y + h, x : x + w], drawn.get(name, [])))
    return out
