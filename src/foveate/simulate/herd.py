"""The complete scene: several animals that keep clear of one another, look-alikes, a trough to drink from, bars and night.

Every animal follows its own script. Its path on the ground follows from the script; what is chosen here is where the path lies in the pen
and how it is turned: so that whoever drinks has its muzzle over the water, nobody walks through anybody, and all stay in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveate.simulate.anatomy import Build, Capsules, draw_sheep, muzzle_of, pose
from foveate.simulate.backdrop import Place, draw_place
from foveate.simulate.behaviour import F64, Motion, move
from foveate.simulate.clip import VIEWS, Difficulty, View, draw_cameras
from foveate.simulate.ethogram import ALL, Script
from foveate.simulate.furniture import LENGTH, WIDTH, Trough
from foveate.simulate.passers import distractors
from foveate.simulate.scene import Actor, Scene, Studio

_SAMPLE = 0.3  # seconds between the moments at which distances are looked at
_BODY = (-0.42, -0.14, 0.14, 0.42, 0.75)  # metres along the body: rump, trunk, chest, head
_GIRTH = (0.29, 0.30, 0.30, 0.27, 0.14)  # metres around each of these points that are the animal's own
_TRIES, _ROUNDS = 150, 12


@dataclass(frozen=True)
class Conditions:
    """How the scene differs from one animal on an empty pasture by day."""

    bars: bool = False
    night: bool = False
    background: tuple[int, ...] | None = None  # seed of place, light and cameras; None: from the scene's own


def set_up_herd(
    seed: tuple[int, ...],
    scripts: Sequence[Script],
    subjects: int,
    n_frames: int,
    fps: float,
    width: int,
    height: int,
    difficulty: Difficulty,
    conditions: Conditions = Conditions(),
    behaviours: tuple[str, ...] = ALL,
    views: tuple[View, ...] = VIEWS,
) -> tuple[Studio, list[Motion]]:
    """A studio for ``len(scripts)`` animals, and the motions of the first ``subjects`` of them; the others are look-alikes that no mask
    is of. A look-alike has the build and the colours of the subject whose number it has, counted round, but for a few per cent."""

    def stream(number: int, of: tuple[int, ...] = seed) -> np.random.Generator:
        return np.random.default_rng((*of, number))

    behind = conditions.background or seed
    place = draw_place(stream(1, behind), difficulty.variety)
    if conditions.night:
        place = _at_night(place)
    wider = min(1.6, 1 + 0.2 * (len(scripts) - 1))
    cameras = draw_cameras(stream(2, behind), width, height, difficulty.variety, wider)
    builds = [draw_sheep(stream(300 + i), difficulty.variety) for i in range(subjects)]
    for i in range(len(scripts) - subjects):
        builds.append(_look_alike(builds[i % subjects], stream(400 + i)))
    motions = [move(script, n_frames, fps, stream(200 + i), behaviours) for i, script in enumerate(scripts)]
    trough = _place_trough(stream(7, behind)) if "drinking" in behaviours else None
    motions = settle(motions, builds, trough, place.half, 2.0 * wider, fps, stream(8))
    actors = [Actor(pose(build, motion)) for build, motion in zip(builds, motions, strict=True)]
    actors += distractors(n_frames, fps, place.half, difficulty.distraction, stream(4))
    weather = stream(5)
    cloudy = place.clouds and weather.uniform() < 0.5 * difficulty.distraction
    scene = Scene(
        place,
        tuple(actors),
        weather.normal(0, 0.5, 2) / fps if cloudy else None,
        int(stream(6).integers(2**31)),
        subjects=subjects,
        trough=trough,
        bars=conditions.bars,
        night=conditions.night,
        exact=True,
    )
    return Studio(scene, tuple(cameras[view] for view in views), difficulty.lens), motions[:subjects]


def _at_night(place: Place) -> Place:
    """No sun and no clouds; an even light from above stands for the lamp, whose cone ``scene.infrared`` adds."""
    light = replace(place.light, sun=np.full(3, 0.15), sky=np.full(3, 0.95))
    return replace(place, light=light, clouds=False)


def _look_alike(build: Build, rng: np.random.Generator) -> Build:
    share = 1 + 0.03 * rng.standard_normal(3)
    return replace(build, size=build.size * share[0], girth=build.girth * share[1], length=build.length * share[2])


def _place_trough(rng: np.random.Generator) -> Trough:
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.9)
    return Trough(float(away * np.cos(angle)), float(away * np.sin(angle)), float(rng.uniform(0, np.pi)))


def settle(
    motions: Sequence[Motion],
    builds: Sequence[Build],
    trough: Trough | None,
    half: tuple[float, float],
    reach: float,
    fps: float,
    rng: np.random.Generator,
) -> list[Motion]:
    """Turn and shift each motion as a whole: of many random ways the one that breaks the rules least, the first that breaks none.

    Args:
        motions: as ``move`` makes them, around the origin.
        builds: of the same animals.
        trough: where to drink.
        half: metres from the middle of the pen to its walls.
        reach: metres from the middle that the cameras show.
        fps: frames per second of the motions.
        rng: chooses among places that are as good.
    """
    step = max(1, round(_SAMPLE * fps))
    spots = [_drinking_spot(motion, pose(build, motion)) for motion, build in zip(motions, builds, strict=True)]
    # Who drinks has the least choice and goes first.
    order = sorted(range(len(motions)), key=lambda i: spots[i] is None)
    best, least = list(motions), np.inf
    for _ in range(_ROUNDS):
        settled, bodies, broken = list(motions), list[F64](), 0.0
        for i in order:
            lowest = np.inf
            for _ in range(_TRIES):
                candidate = _candidate(motions[i], spots[i], trough, reach, rng)
                body = _body(candidate, builds[i].size, step)
                if (cost := _broken(body, bodies, trough, half, reach)) < lowest:
                    settled[i], chosen, lowest = candidate, body, cost
                if cost == 0:
                    break
            bodies.append(chosen)
            broken += lowest
        if broken < least:
            best, least = settled, broken
        if least < 0.05:
            break
    return best


def _candidate(
    motion: Motion, spot: tuple[float, float, float] | None, trough: Trough | None, reach: float, rng: np.random.Generator
) -> Motion:
    if spot is not None and trough is not None:
        return _to_trough(motion, spot, trough, rng)
    away, angle = reach * 0.65 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    return _moved(motion, rng.uniform(0, 2 * np.pi), away * np.cos(angle), away * np.sin(angle))


def _moved(motion: Motion, turn: float, x: float, y: float) -> Motion:
    c, s = np.cos(turn), np.sin(turn)
    return replace(motion, x=c * motion.x - s * motion.y + x, y=s * motion.x + c * motion.y + y, yaw=motion.yaw + turn)


def _drinking_spot(motion: Motion, body: Capsules) -> tuple[float, float, float] | None:
    """Where the muzzle is while the animal drinks, and which way it stands then; None if it does not."""
    if motion.mouth is None or motion.mouth.drink.max() < 0.5:
        return None
    at = motion.mouth.drink > 0.95 * motion.mouth.drink.max()
    x, y = muzzle_of(body)[at, :2].mean(0).tolist()
    return float(x), float(y), float(motion.yaw[at].mean())


def _to_trough(motion: Motion, spot: tuple[float, float, float], trough: Trough, rng: np.random.Generator) -> Motion:
    """The motion shifted so that its drinking happens over the water, seen from either long side."""
    side = rng.choice([-1, 1])
    heading = trough.yaw + side * np.pi / 2 + np.radians(rng.uniform(-20, 20))
    along, across = rng.uniform(-0.35, 0.35) * LENGTH, -side * rng.uniform(0.05, 0.2) * WIDTH
    x = trough.x + along * np.cos(trough.yaw) - across * np.sin(trough.yaw)
    y = trough.y + along * np.sin(trough.yaw) + across * np.cos(trough.yaw)
    turn = heading - spot[2]
    c, s = np.cos(turn), np.sin(turn)
    return _moved(motion, turn, x - (c * spot[0] - s * spot[1]), y - (s * spot[0] + c * spot[1]))


def _body(motion: Motion, size: float, step: int) -> F64:
    """Points along the body's middle line, [moments, points, 2]."""
    at = np.stack([motion.x, motion.y], -1)[::step]
    ahead = np.stack([np.cos(motion.yaw), np.sin(motion.yaw)], -1)[::step]
    points: F64 = at[:, None] + size * np.array(_BODY)[None, :, None] * ahead[:, None]
    return points


def _broken(body: F64, others: Sequence[F64], trough: Trough | None, half: tuple[float, float], reach: float) -> float:
    """Metres by which the rules are broken, summed: in the pen, in the picture, clear of the others and of the trough."""
    out = np.maximum(np.abs(body) - (np.array(half) - 0.35), 0).max()
    out += 0.5 * np.maximum(np.hypot(body[..., 0], body[..., 1]) - reach, 0).max()
    for other in others:
        gap = np.linalg.norm(body[:, :, None] - other[:, None], axis=-1) - np.add.outer(_GIRTH, _GIRTH)
        out += 3 * max(0.0, -float(gap.min()))
    if trough is not None:
        trunk = body[:, :-1] - (trough.x, trough.y)  # the head may hang over it
        c, s = np.cos(trough.yaw), np.sin(trough.yaw)
        u, v = np.abs(c * trunk[..., 0] + s * trunk[..., 1]), np.abs(c * trunk[..., 1] - s * trunk[..., 0])
        gap = np.hypot(np.maximum(u - LENGTH / 2, 0), np.maximum(v - WIDTH / 2, 0))
        out += 3 * max(0.0, 0.2 - float(gap.min()))
    return float(out)
