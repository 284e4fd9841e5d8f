"""Draw pasture.png: every behaviour in both views. Run: python docs/pictures/pasture.py"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foveate import masks
from foveate.simulate import Difficulty
from foveate.simulate.clip import set_up
from foveate.simulate.scene import Lens

CELLS = (  # name, what is shown, seed, frame
    ("standing", ("standing",), 42, 20),
    ("eating", ("standing", "eating"), 45, 20),
    ("head up", ("standing", "head_up"), 16, 20),
    ("lying", ("lying",), 44, 20),
    ("lying, head up", ("lying", "head_up"), 5, 20),
    ("moving", ("moving",), 26, 22),
    ("turning left", ("moving", "turning_left"), 41, 20),
    ("turning right", ("moving", "turning_right"), 8, 20),
)
WIDTH, HEIGHT, LINE = 230, 150, 20


def cell(name: str, shown: tuple[str, ...], seed: int, frame: int) -> Image.Image:
    studio, _ = set_up((seed,), [(4.0, shown)], 50, 12.5, 640, 360, Difficulty(variety=1.0, lens=Lens(0.4, 0.0)))
    sheet = Image.new("RGB", (WIDTH, LINE + 2 * HEIGHT), "white")
    ImageDraw.Draw(sheet).text((4, 2), name, fill="black", font=ImageFont.load_default(14))
    for row, (picture, mask) in enumerate(studio.take(frame)):
        x, y, w, h = masks.box(mask) or (0, 0, 640, 360)
        wide = max(w / WIDTH, h / HEIGHT) * 1.7
        left = float(np.clip(x + w / 2 - wide * WIDTH / 2, 0, 640 - wide * WIDTH))
        top = float(np.clip(y + h / 2 - wide * HEIGHT / 2, 0, 360 - wide * HEIGHT))
        part = Image.fromarray(picture).resize(
            (WIDTH, HEIGHT), Image.Resampling.LANCZOS, (left, top, left + wide * WIDTH, top + wide * HEIGHT)
        )
        sheet.paste(part, (0, LINE + row * HEIGHT))
    return sheet


def main() -> None:
    cells = [cell(*entry) for entry in CELLS]
    gap = 4
    sheet = Image.new("RGB", (4 * (WIDTH + gap) - gap, 2 * (LINE + 2 * HEIGHT) + gap), "white")
    for number, part in enumerate(cells):
        sheet.paste(part, (number % 4 * (WIDTH + gap), number // 4 * (LINE + 2 * HEIGHT + gap)))
    small = sheet.quantize(160, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
