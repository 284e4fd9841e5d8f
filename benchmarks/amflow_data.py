"""Clips for the trained cells of AM Flow (`amflow_train.py`): rendered sheep, each clip another animal in another place, doing one thing.

    frames.npy   u8[2, N, T, 144, 144, 3]  the same moments seen by a camera that stands still, and by one that pans
    moved.npy    f32[2, N, T - 1, 64]      share of each patch (8 x 8) that the animal covers in one frame and not in the next
    about.npy    i64[N, 2]                 class, and 1 for held out

The five classes stand and walk, and differ in how: two ways of turning, walking straight on, ruminating, standing. A panning camera
shifts the picture by 4 to 9 px of 112 a frame, in a direction of its own for each clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate import masks
from foveate.simulate.clip import Difficulty
from foveate.simulate.herd import Conditions, set_up_herd

CLASSES = {
    "turning_left": ("moving", "turning_left"),
    "turning_right": ("moving", "turning_right"),
    "moving": ("moving",),
    "regurgitating": ("standing", "regurgitating"),
    "standing": ("standing",),
}
MIRROR = (1, 0, 2, 3, 4)
"""Class that a mirrored clip of each class shows."""
CAMERAS = ("static", "panned")
FRAMES, SIDE, GRID = 4, 144, 8
_FPS, _EVERY, _TAKEN = (
    10.0,
    3,
    20,
)  # rendered motion; one frame in so many is kept: 0.3 s; frames of motion that a clip is taken from
_WINDOW = 170  # pixels of the 480 x 270 that are shown


@dataclass(frozen=True)
class Extent:
    """How many clips of each class."""

    train: int = 64
    test: int = 44
    seed: int = 8

    @property
    def clips(self) -> int:
        return len(CLASSES) * (self.train + self.test)


def make(folder: Path, extent: Extent) -> None:
    """Render what is not in ``folder`` yet."""
    if (folder / "about.npy").exists():
        if len(np.load(folder / "about.npy")) != extent.clips:
            raise SystemExit(f"{folder} holds other clips; name another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    about = np.array([(k % len(CLASSES), k // len(CLASSES) >= extent.train) for k in range(extent.clips)], np.int64)
    frames = np.zeros((len(CAMERAS), extent.clips, FRAMES, SIDE, SIDE, 3), np.uint8)
    moved = np.zeros((len(CAMERAS), extent.clips, FRAMES - 1, GRID * GRID), np.float32)
    for k, (label, _) in enumerate(about.tolist()):
        frames[:, k], moved[:, k] = clip(extent.seed, k, tuple(CLASSES.values())[label])
    np.save(folder / "frames.npy", frames)
    np.save(folder / "moved.npy", moved)
    np.save(folder / "about.npy", about)  # the last: it says that all is there


def clip(seed: int, number: int, shown: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """u8[2, T, S, S, 3] and f32[2, T - 1, patches] of one clip."""
    from PIL import Image

    rng = np.random.default_rng((seed, number, 99))
    script = [(_TAKEN / _FPS, shown)]
    width, height = 480, 270
    studio, _ = set_up_herd(
        (seed, number), [script], 1, _TAKEN, _FPS, width, height, Difficulty(), Conditions(), views=("top",)
    )  # fmt: skip
    start = int(rng.integers(_TAKEN - _EVERY * (FRAMES - 1)))
    shots = [studio.take(start + _EVERY * t)[0] for t in range(FRAMES)]
    boxes = np.array([found for _, mask in shots if (found := masks.box(mask)) is not None])
    middle = (boxes[:, :2] + boxes[:, 2:] / 2).mean(0) if len(boxes) else np.array([width / 2, height / 2])
    middle = middle + rng.uniform(-12, 12, 2)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9) * _WINDOW / 112
    frames = np.zeros((len(CAMERAS), FRAMES, SIDE, SIDE, 3), np.uint8)
    moved = np.zeros((len(CAMERAS), FRAMES - 1, GRID * GRID), np.float32)
    for camera in range(len(CAMERAS)):
        drift = camera * speed * np.array([np.cos(angle), np.sin(angle)])
        travel = np.abs(drift) * (FRAMES - 1) / 2  # the whole way stays inside the picture
        centre = np.clip(middle, _WINDOW / 2 + travel, np.array([width, height]) - _WINDOW / 2 - travel)
        before = None
        for t, (picture, mask) in enumerate(shots):
            x, y = np.rint(centre + drift * (t - (FRAMES - 1) / 2) - _WINDOW / 2).astype(int).tolist()
            x, y = min(max(x, 0), width - _WINDOW), min(max(y, 0), height - _WINDOW)
            seen = picture[y : y + _WINDOW, x : x + _WINDOW]
            frames[camera, t] = np.asarray(Image.fromarray(seen).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            # Where the animal itself changes place: in the coordinates of the ground, then seen through this frame's window.
            if before is not None:
                changed = masks.resample(before[0] ^ mask, 112, 112, (before[1], before[2], _WINDOW, _WINDOW))
                moved[camera, t - 1] = changed.reshape(GRID, 14, GRID, 14).mean((1, 3)).reshape(-1)
            before = mask, x, y
    return frames, moved
