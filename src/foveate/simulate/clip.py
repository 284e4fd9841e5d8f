"""From a seed and a script to pictures, masks and labels: the part of the simulator that knows nothing of files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.simulate.anatomy import draw_sheep, pose
from foveate.simulate.backdrop import draw_place
from foveate.simulate.behaviour import Motion, move
from foveate.simulate.ethogram import Script
from foveate.simulate.passers import distractors
from foveate.simulate.render import Camera
from foveate.simulate.scene import Actor, Lens, Scene, Studio

View = Literal["top", "bottom"]
VIEWS: tuple[View, View] = ("top", "bottom")


class Clip(NamedTuple):
    """``frames`` u8[T, H, W, 3]; ``masks`` bool[T, H, W] of what is seen of the animal; ``labels`` bool[T, 7] by ``BEHAVIOURS``."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class Difficulty:
    """What makes a scene hard to read; 1 is usual, 0 leaves it out."""

    variety: float = 0.35  # of animals, places, light and camera positions
    distraction: float = 1.0  # how often something else moves in the picture
    lens: Lens = field(default_factory=Lens)


def set_up(
    seed: tuple[int, ...],
    script: Script,
    n_frames: int,
    fps: float,
    width: int,
    height: int,
    difficulty: Difficulty = Difficulty(),
    background: tuple[int, ...] | None = None,
    views: tuple[View, ...] = VIEWS,
) -> tuple[Studio, Motion]:
    """A studio ready to take pictures ``width`` x ``height`` of an animal that follows ``script``, and the animal's motion.

    ``background`` is the seed of place, light and cameras; without it they follow from ``seed`` like all else.
    """

    def stream(number: int, of: tuple[int, ...] = seed) -> np.random.Generator:
        return np.random.default_rng((*of, number))

    behind = background or seed
    motion = move(script, n_frames, fps, stream(0))
    place = draw_place(stream(1, behind), difficulty.variety)
    cameras = draw_cameras(stream(2, behind), width, height, difficulty.variety)
    actors = [Actor(pose(draw_sheep(stream(3), difficulty.variety), motion))]
    actors += distractors(n_frames, fps, place.half, difficulty.distraction, stream(4))
    weather = stream(5)
    cloudy = place.clouds and weather.uniform() < 0.5 * difficulty.distraction
    drift = weather.normal(0, 0.5, 2) / fps if cloudy else None
    scene = Scene(place, tuple(actors), drift, int(stream(6).integers(2**31)))
    return Studio(scene, tuple(cameras[view] for view in views), difficulty.lens), motion


def draw_cameras(rng: np.random.Generator, width: int, height: int, variety: float, wider: float = 1.0) -> dict[View, Camera]:
    """``top`` looks down from a height, ``bottom`` from near the ground and about a quarter round to one side; ``wider`` makes both show
    more of the pen."""
    azimuth = rng.uniform(0, 2 * np.pi)
    aside = np.radians(90 + variety * rng.uniform(-25, 25)) * rng.choice([-1, 1])
    # Wide pictures show 4.6 m; narrow ones come nearer, down to 3.2 m for a square.
    span = wider * 4.6 * min(1.0, max(0.7, width / height * 9 / 16))
    out: dict[View, Camera] = {}
    for view, turn, degrees in (
        ("top", 0.0, 41 + variety * rng.uniform(-7, 7)),
        ("bottom", aside, 16 + variety * rng.uniform(-5, 5)),
    ):
        closer = 1 + variety * rng.uniform(-0.08, 0.08)
        out[view] = Camera.looking(  # type: ignore[index]
            azimuth + turn, np.radians(degrees), 7.0, span * closer, width, height, np.radians(variety * rng.normal(0, 1.5))
        )
    return out


def render_clip(
    seed: int,
    script: Script,
    n_frames: int,
    size: tuple[int, int],
    *,
    fps: float = 12.5,
    view: View = "bottom",
    background: int | None = None,
    difficulty: Difficulty = Difficulty(),
) -> Clip:
    """One animal following a script, in one view.

    Args:
        seed: of everything: animal, temperament, place, light, camera, distractors, noise.
        script: what the animal does, see ``behaviour.Script``; its last entry goes on to the end.
        n_frames: T.
        size: height and width of the pictures.
        fps: frames per second; the motion is the same at every rate.
        view: which camera.
        background: seed of place, light and camera alone, to share a background between clips or to tie it to what is shown.
        difficulty: see ``Difficulty``.

    Raises:
        ValueError: the script cannot be shown.
    """
    height, width = size
    behind = None if background is None else (background,)
    studio, motion = set_up((seed,), script, n_frames, fps, width, height, difficulty, behind, (view,))
    frames = np.empty((n_frames, height, width, 3), np.uint8)
    masks = np.empty((n_frames, height, width), bool)
    for t in range(n_frames):
        ((frames[t], masks[t]),) = studio.take(t)
    return Clip(frames, masks, motion.labels)
