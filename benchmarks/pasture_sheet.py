"""Twenty unlabelled clips of pasture as one picture, for a person to name, and the answers in a file of their own.

Every clip is a strip of six frames, 0.4 s apart, cut out around one animal; of the two cameras the one that sees its head, and of two that
do the one that sees the animal more from the side. Where neither does, the clip is drawn anew.
Each state of the ethogram is there at least once, in an order drawn from the seed. About a third of the clips are filmed at night, a fourth
through bars, and in half of them a second animal is about. The one to name is in the middle.

python benchmarks/pasture_sheet.py [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveate import masks
from foveate.simulate import Difficulty, Script
from foveate.simulate.anatomy import muzzle_of
from foveate.simulate.behaviour import Motion
from foveate.simulate.clip import VIEWS
from foveate.simulate.herd import Conditions, set_up_herd
from foveate.simulate.render import draw
from foveate.simulate.scene import Lens, Studio

STATES = (
    ("standing",),
    ("standing", "head_up"),
    ("standing", "head_down"),
    ("standing", "head_down", "eating"),
    ("standing", "regurgitating"),
    ("standing", "drinking"),
    ("lying",),
    ("lying", "head_up"),
    ("lying", "head_down"),
    ("lying", "regurgitating"),
    ("moving",),
    ("moving", "turning_left"),
    ("moving", "turning_right"),
)
CLIPS, FRAMES, STEP = 20, 6, 0.4
FPS, FIRST = 10.0, 2.8  # frames per second rendered; seconds until the strip begins
TILE, GAP, LINE = 150, 10, 18
FIELD = 960, 540  # pixels rendered, of which a tile shows a part


Shots = list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]


def head_seen(studio: Studio, view: int, frames: list[int], shots: Shots) -> float:
    """Share of the head that nothing hides and that is in the picture, in the worst frame but one."""
    camera, body = studio.cameras[view], studio.scene.actors[0].body
    y, x = np.mgrid[: camera.height, : camera.width]
    shares = []
    for t, (_, seen) in zip(frames, shots, strict=True):
        u, v, depth = camera.project(muzzle_of(body)[t].astype(np.float64))
        near = (x - u) ** 2 + (y - v) ** 2 < (0.2 * camera.focal / depth) ** 2
        patch = draw(body, t, camera, studio.scene.place.light)
        margin = 0.05 * camera.width
        if patch is None or not (margin < u < camera.width - margin and margin < v < camera.height - margin):
            shares.append(0.0)
            continue
        whole = np.zeros(near.shape, bool)
        whole[patch.y : patch.y + patch.cover.shape[0], patch.x : patch.x + patch.cover.shape[1]] = patch.cover >= 0.5
        shares.append(float((seen[0] & near).sum() / max(1, (whole & near).sum())))
    return sorted(shares)[1]


def best_view(studio: Studio, motion: Motion, frames: list[int]) -> tuple[Shots, bool]:
    """Pictures of the camera to show, and whether they show the head."""
    ahead = np.stack([np.cos(motion.yaw[frames]), np.sin(motion.yaw[frames])], -1)
    across = [float(np.abs(ahead @ camera.axes[0][:2]).mean()) for camera in studio.cameras]
    taken = [studio.take_all(t) for t in frames]
    views = [[shots[view] for shots in taken] for view in range(len(VIEWS))]
    seen = [head_seen(studio, view, frames, views[view]) > 0.6 for view in range(len(VIEWS))]
    # Where there is little between them, the low one: it shows best how high the head is.
    best = max(range(len(VIEWS)), key=lambda view: (seen[view], across[view] * (1, 1.4)[view]))
    return views[best], seen[best]


def strip(seed: tuple[int, ...], shown: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Six tiles of one clip."""
    lead = (shown[0],) if shown[0] != "moving" else ("standing",)
    scripts: list[Script] = [[(2.0, lead), (4.0, shown)]]
    if rng.uniform() < 0.5:
        scripts.append([(6.0, (("standing",), ("lying",), ("standing", "head_down", "eating"))[rng.integers(3)])])
    conditions = Conditions(night=bool(rng.uniform() < 1 / 3), bars=bool(rng.uniform() < 1 / 4))
    hard = Difficulty(variety=0.7, lens=Lens(blur=0.45, noise=0.0))
    frames = [round((FIRST + i * STEP) * FPS) for i in range(FRAMES)]
    for attempt in count():
        studio, motions = set_up_herd((*seed, attempt), scripts, len(scripts), round(6 * FPS), FPS, *FIELD, hard, conditions)
        shots, clear = best_view(studio, motions[0], frames)
        if clear:
            break
    union = np.any([seen[0] for _, seen in shots], axis=0)
    x, y, w, h = masks.box(union) or (0, 0, *FIELD)
    side = min(1.2 * max(w, h), FIELD[1])
    left = float(np.clip(x + w / 2 - side / 2, 0, FIELD[0] - side))
    top = float(np.clip(y + h / 2 - side / 2, 0, FIELD[1] - side))
    out = Image.new("RGB", (FRAMES * TILE, TILE))
    for i, (picture, _) in enumerate(shots):
        tile = Image.fromarray(picture).resize((TILE - 1, TILE), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
        out.paste(tile, (i * TILE, 0))
    return out


def sheet(seed: int) -> tuple[Image.Image, list[tuple[str, ...]]]:
    """The picture, and what is shown in each clip."""
    rng = np.random.default_rng((seed, 70))
    numbers = [*range(len(STATES)), *rng.integers(0, len(STATES), CLIPS - len(STATES)).tolist()]
    shown = [STATES[numbers[i]] for i in rng.permutation(CLIPS)]
    width = FRAMES * TILE
    picture = Image.new("RGB", (2 * width + GAP, CLIPS // 2 * (TILE + LINE)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for i, state in enumerate(shown):
        x, y = i % 2 * (width + GAP), i // 2 * (TILE + LINE)
        pen.text((x + 1, y - 1), f"{i + 1}", fill="black", font=font)
        picture.paste(strip((seed, 71, i), state, rng), (x, y + LINE - 1))
    return picture, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures")
    options = parser.parse_args()
    picture, shown = sheet(options.seed)
    small = picture.quantize(96, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(options.out / "pasture_sheet.png", optimize=True)
    lines = [f"{i + 1}. {', '.join(state).replace('_', ' ')}\n" for i, state in enumerate(shown)]
    (options.out / "pasture_sheet_answers.md").write_text(
        "# Answers to pasture_sheet.png\n\n" + "".join(lines), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
