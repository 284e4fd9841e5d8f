"""Attention as pictures: one sheet per example (rows are models, columns are heads), and clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.attention.focus import Picture, overlay, visible
from foveate.attention.looking import Looked

if TYPE_CHECKING:
    from PIL import Image, ImageFont
    from torch import Tensor

OUTLINE = (0, 200, 255)
"""Colour of the subject's outline."""

_WIDE, _TALL = 180, 240  # pixels that a panel of a sheet has at most
_GAP, _HEAD, _TEXT, _MARGIN = 4, 22, 14, 96
_INK, _PAPER = (29, 32, 36), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one model made of one picture."""

    model: str
    maps: Tensor  # f32[heads, rows, columns]
    mean: float  # focus scores
    heads: Sequence[float]
    area: float  # share of the picture that the subject covers


def panels(looked: Looked, seen: Seen, height: int, heads: bool = True) -> list[Picture]:
    """The picture with the subject's outline, the mean of the heads laid over it, and each head where there are several; all
    u8[height, W, 3], W even."""
    import torch

    width = _width(looked, height)
    picture = _resized(looked.picture, width, height)
    edge = outline(_resized(looked.mask, width, height))
    mean = seen.maps.mean(0, keepdim=True)
    maps = torch.cat([mean, seen.maps]) if heads and len(seen.maps) > 1 else mean
    drawn = [picture, *(overlay(picture, values) for values in visible(maps, height, width).cpu().numpy())]
    for place, panel in enumerate(drawn):
        panel[edge] = OUTLINE if place == 0 else (255, 255, 255)
    return drawn


def _width(looked: Looked, height: int) -> int:
    """Proportions as the model is shown the picture; even, as encoders want it."""
    across = 1.0 if looked.square else looked.picture.shape[1] / looked.picture.shape[0]
    return max(2, round(across * height / 2) * 2)


def _resized(values: Any, width: int, height: int) -> Any:
    """A picture or a mask at another size."""
    from PIL import Image

    if values.dtype == bool:
        small = Image.fromarray(values.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
        return np.asarray(small) > 127
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a mask; where it leaves the picture there is no edge."""
    around = np.pad(mask, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~inner
    return edge


def sheet(looked: Looked, seen: Sequence[Seen]) -> Image.Image:
    """One example as a figure: a row per model; picture, mean of the heads, every head; the focus score of each map above it."""
    from PIL import Image, ImageDraw

    height = min(_TALL, round(_WIDE * 1000 / _width(looked, 1000)))
    width = _width(looked, height)
    most = max(len(one.heads) if len(one.heads) > 1 else 0 for one in seen)
    columns, band = 2 + most, _HEAD + (_TEXT + 4 if len(seen) > 1 else 0)
    canvas = Image.new("RGB", (columns * (width + _GAP) - _GAP, len(seen) * (height + band) + (len(seen) - 1) * _GAP), _PAPER)
    draw, letters = ImageDraw.Draw(canvas), font()
    for row, one in enumerate(seen):
        top = row * (height + band + _GAP)
        if len(seen) > 1:
            draw.text((0, top), one.model, _INK, letters)
        place = looked.place
        words = [f"{place.video}, {place.time:.1f} s", f"{'mean' if len(one.heads) > 1 else 'Grad-CAM'} {_times(one.mean)}"]
        words += [f"head {k + 1} {_times(value)}" for k, value in enumerate(one.heads) if len(one.heads) > 1]
        for column, (panel, text) in enumerate(zip(panels(looked, one, height), words, strict=True)):
            left = column * (width + _GAP)
            draw.text((left + 1, top + band - _TEXT - 5), _fitting(text, width, letters), _INK, letters)
            canvas.paste(Image.fromarray(panel), (left, top + band))
    return canvas


def strip(columns: Sequence[Sequence[Picture]], times: Sequence[float], titles: Sequence[str]) -> Image.Image:
    """A figure of a clip: a column per frame, headed by its time, and a row per way of looking at it, with its title on the left.

    Args:
        columns: of each frame the pictures of its rows, all u8[height, W, 3] of one size.
        times: of the frames, in seconds.
        titles: of the rows; may have several lines.
    """
    from PIL import Image, ImageDraw

    (height, width), top = columns[0][0].shape[:2], _TEXT + 6
    size = (_MARGIN + len(columns) * (width + _GAP) - _GAP, top + len(titles) * (height + _GAP) - _GAP)
    canvas = Image.new("RGB", size, _PAPER)
    draw, letters = ImageDraw.Draw(canvas), font()
    for row, text in enumerate(titles):
        draw.multiline_text((0, top + row * (height + _GAP)), text, _INK, letters)
    for column, (drawn, time) in enumerate(zip(columns, times, strict=True)):
        left = _MARGIN + column * (width + _GAP)
        draw.text((left + 1, 1), f"{time:.1f} s", _INK, letters)
        for row, panel in enumerate(drawn):
            canvas.paste(Image.fromarray(panel), (left, top + row * (height + _GAP)))
    return canvas


@lru_cache(maxsize=1)
def font() -> ImageFont.FreeTypeFont:
    """DejaVu comes with matplotlib, so that every machine draws the same."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _TEXT)


def _times(value: float) -> str:
    return "" if np.isnan(value) else f"×{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"


def _fitting(text: str, width: int, font: Any) -> str:
    """The text, or as much of its beginning as fits."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def clip_picture(looked: Looked, seen: Sequence[Seen], height: int) -> Picture:
    """One picture of a clip: the picture and the mean of the heads side by side, a row per model."""
    stacked: Picture = np.concatenate([np.concatenate(panels(looked, one, height, heads=False), axis=1) for one in seen])
    return stacked


def clip_size(looked: Looked, height: int, models: int) -> tuple[int, int]:
    """Height and width of what ``clip_picture`` gives."""
    return models * height, 2 * _width(looked, height)
