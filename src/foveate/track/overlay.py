"""Drawing tracks into pictures: outlines and boxes in the subject's colour, labels in the state's, the strip of states below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask
from foveate.schema import State

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]
Place = tuple[float, float, float, float]

TINTS: tuple[Colour, ...] = ((0, 200, 255), (255, 176, 0), (255, 92, 170), (150, 230, 60), (190, 150, 255))
"""Colour of a subject's outline, by its place among the subjects of the video; picked to stand out from fur, grass and straw."""

STATES: Mapping[str, Colour] = {
    State.ABSENT.value: (233, 231, 225),
    State.PROMPTED.value: (159, 180, 196),
    State.TRACKED.value: (159, 180, 196),
    State.INTERPOLATED.value: (207, 218, 226),
    State.UNCERTAIN.value: (227, 167, 47),
    State.LOST.value: (194, 65, 28),
}
"""Colour of a state, as in the report; where several share a pixel of a strip, the last one here shows."""

_PAPER, _INK, _MUTED, _DARK = (251, 250, 247), (29, 32, 36), (91, 98, 108), (20, 22, 26)
_SURE = (State.PROMPTED.value, State.TRACKED.value)


@dataclass(frozen=True)
class Drawn:
    """One subject in one picture; place and mask in pixels of the picture that is drawn into."""

    label: str
    state: str
    tint: int
    box: Place | None = None  # x, y, w, h; where nothing is seen, where it was last
    mask: Mask | None = None


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """DejaVu comes with matplotlib, so that every machine draws the same."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def edge(mask: Mask, width: int = 1) -> Mask:
    """The outermost ``width`` pixels of a mask; where it leaves the picture there is none."""
    inner = mask
    for _ in range(width):
        around = np.pad(inner, 1, mode="edge")
        inner = around[1:-1, 1:-1] & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inner


def shrink(mask: Mask, width: int, height: int) -> Mask:
    """The mask at another size; a pixel counts from 40 % on, so that thin legs and tails stay."""
    from PIL import Image

    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    found: Mask = np.asarray(small) > 0.4 * 255
    return found


def draw(picture: Picture, subjects: Sequence[Drawn], unit: int) -> Image.Image:
    """Outlines, boxes and labels in a picture u8[H, W, 3], which is changed.

    Args:
        unit: size of type in pixels; lines go by it.
    """
    from PIL import Image, ImageDraw

    thick = max(1, round(unit / 8))
    for one in subjects:
        if one.mask is not None:
            colour = np.array(TINTS[one.tint % len(TINTS)])
            picture[one.mask] = (0.86 * picture[one.mask] + 0.14 * colour).astype(np.uint8)
            rim = edge(one.mask, thick)
            picture[rim] = colour
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image, "RGBA")
    taken: list[Place] = []
    for one in subjects:
        if one.box is not None:
            _box(pen, one, unit, thick, image.size, taken)
    return image


def _box(pen: ImageDraw.ImageDraw, one: Drawn, unit: int, thick: int, size: tuple[int, int], taken: list[Place]) -> None:
    assert one.box is not None
    x, y, w, h = one.box
    tint = TINTS[one.tint % len(TINTS)]
    seen = one.mask is not None
    if seen:
        pen.rectangle((x, y, x + w, y + h), outline=(*tint, 150), width=1)
    else:
        _dashes(pen, one.box, STATES[one.state] if one.state != State.ABSENT else (160, 160, 160), thick, unit)
    text = one.label if one.state in _SURE else f"{one.label} · {one.state}"
    wide, tall = pen.textlength(text, font(unit)) + unit, 1.5 * unit
    left = min(max(0.0, x), size[0] - wide)
    top = y - tall - 2 if y - tall - 2 >= 0 else min(y + h + 2, size[1] - tall)
    while (
        any(abs(top - t) < tall and left < end and left + wide > begin for begin, t, end, _ in taken)
        and top + 2 * tall < size[1]
    ):
        top += tall  # below a label that is there already
    taken.append((left, top, left + wide, top + tall))
    pen.rectangle((left, top, left + wide, top + tall), fill=(*_DARK, 190))
    pen.rectangle((left, top, left + 0.3 * unit, top + tall), fill=tint)
    colour = (255, 255, 255) if one.state in _SURE else _light(STATES[one.state])
    pen.text((left + 0.6 * unit, top + tall / 2), text, colour, font(unit), anchor="lm")


def _light(colour: Colour) -> Colour:
    """Bright enough for type on a dark ground."""
    red, green, blue = (round(c + (255 - c) * 0.45) for c in colour)
    return red, green, blue


def _dashes(pen: ImageDraw.ImageDraw, box: Place, colour: Colour, thick: int, unit: int) -> None:
    x, y, w, h = box
    step = max(4, unit)
    for k in range(0, int(w), step):
        for level in (y, y + h):
            pen.line((x + k, level, x + min(w, k + step / 2), level), fill=colour, width=thick)
    for k in range(0, int(h), step):
        for level in (x, x + w):
            pen.line((level, y + k, level, y + min(h, k + step / 2)), fill=colour, width=thick)


def caption(image: Image.Image, lines: Sequence[str], unit: int, *, top: bool) -> None:
    """Lines of white type on a dark ground in the upper or lower left corner."""
    from PIL import ImageDraw

    if not lines:
        return
    pen = ImageDraw.Draw(image, "RGBA")
    lines = [_fitting(line, image.width - 1.2 * unit, unit, pen) for line in lines]
    wide = max(pen.textlength(line, font(unit)) for line in lines) + 1.2 * unit
    tall = 1.35 * unit * len(lines) + 0.4 * unit
    start = 0.0 if top else image.height - tall
    pen.rectangle((0, start, wide, start + tall), fill=(*_DARK, 180))
    for k, line in enumerate(lines):
        pen.text((0.6 * unit, start + 0.2 * unit + 1.35 * unit * (k + 0.5)), line, (255, 255, 255), font(unit), anchor="lm")


@dataclass(frozen=True, eq=False)
class Strip:
    """States of all subjects over the whole video, below the picture: one lane each, drawn once, the cursor for every picture."""

    image: Image.Image
    left: int
    right: int

    def at(self, share: float, width: int = 2) -> Image.Image:
        """The strip with its cursor at a share of the time, 0 to 1."""
        from PIL import ImageDraw

        drawn = self.image.copy()
        x = self.left + share * (self.right - self.left)
        ImageDraw.Draw(drawn).rectangle((x - width / 2, 0, x + width / 2, drawn.height), fill=_INK)
        return drawn


def strip(
    lanes: Sequence[tuple[str, int, NDArray[np.uint8]]], marks: Sequence[tuple[int, float, Colour]], width: int, unit: int
) -> Strip:
    """The strip of a video.

    Args:
        lanes: name, tint, and states as places in ``STATES`` over equal stretches of the time.
        marks: lane, share of the time, colour: events.
        width: pixels.
        unit: size of type in pixels.
    """
    from PIL import Image, ImageDraw

    lane = round(1.25 * unit) if len(lanes) <= 6 else max(3, round(7.5 * unit / len(lanes)))
    named = len(lanes) <= 6
    height = lane * len(lanes) + round(0.8 * unit)
    image = Image.new("RGB", (width, height + height % 2), _PAPER)
    pen = ImageDraw.Draw(image)
    left = 0
    if named:
        left = min(round(0.35 * width), round(max(pen.textlength(name, font(unit)) for name, _, _ in lanes) + 1.9 * unit))
    right = width - round(0.6 * unit)
    left = max(left, round(0.6 * unit))
    palette = np.array(list(STATES.values()), np.uint8)
    for k, (name, tint, states) in enumerate(lanes):
        top = round(0.4 * unit) + k * lane
        tall = lane - (max(2, round(0.3 * unit)) if named else 1)
        row = palette[states[(np.arange(right - left) * len(states)) // (right - left)]]
        image.paste(Image.fromarray(np.repeat(row[None], tall, axis=0)), (left, top))
        if named:
            dot = 0.28 * unit
            middle = top + tall / 2
            pen.ellipse((0.5 * unit, middle - dot, 0.5 * unit + 2 * dot, middle + dot), fill=TINTS[tint % len(TINTS)])
            pen.text((1.4 * unit, middle), _fitting(name, left - 1.6 * unit, unit, pen), _MUTED, font(unit), anchor="lm")
        for number, share, colour in marks:
            if number == k:
                x = left + share * (right - left)
                pen.rectangle((x - 2, top - 1, x + 2, top + tall), fill=_PAPER)
                pen.rectangle((x - 1, top - 1, x + 1, top + tall), fill=colour)
    return Strip(image, left, right)


def _fitting(text: str, width: float, unit: int, pen: ImageDraw.ImageDraw) -> str:
    """The text, or as much of its beginning as fits."""
    if pen.textlength(text, font(unit)) <= width:
        return text
    while len(text) > 1 and pen.textlength(text + "…", font(unit)) > width:
        text = text[:-1]
    return text + "…"


def ruled(view: Picture) -> Image.Image:
    """A view at its own size with a scale of pixels along its upper and left edge, to read a place off."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(view)
    pen = ImageDraw.Draw(image, "RGBA")
    unit = max(9, min(16, min(image.size) // 30))
    every = 100 if max(image.size) > 400 else 20
    for axis, length in enumerate(image.size):
        for at in range(every, length, every):
            long = unit * 0.8
            ends = ((at, 0), (at, long)) if axis == 0 else ((0, at), (long, at))
            pen.line([*ends], fill=(0, 0, 0, 200), width=3)
            pen.line([*ends], fill=(255, 255, 255, 255), width=1)
            place, anchor = ((at, long + 2), "ma") if axis == 0 else ((long + 3, at), "lm")
            pen.text(place, str(at), (255, 255, 255), font(unit), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return image
