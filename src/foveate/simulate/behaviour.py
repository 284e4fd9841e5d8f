"""How an animal moves that follows a script: its labels, and the smooth motion that shows them.

World: metres, x and y on the ground, z up; yaw in radians, counter-clockwise seen from above. Left is the animal's own left,
so turning left is a positive yaw rate. A mirror image of the picture swaps left and right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate.simulate.ethogram import BEHAVIOURS, SHORTEST, Script, check_script

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Seconds over which one state passes into the next, centred on the change of the label.
_LIE_DOWN, _START_WALKING, _START_TURNING, _MOVE_HEAD = SHORTEST, 0.6, 0.6, 0.7
_CUD = 3.4  # seconds from one bolus to the next; a sheep takes about a minute, which no short clip would show
_SWALLOW = 1.1  # seconds in which a bolus runs up the throat


@dataclass(frozen=True)
class Mouth:
    """What the mouth does at each of T frames, float64[T]; only the scene with all ten behaviours shows it."""

    bite: F64  # 0..1: the muzzle lifted from the ground with grass in it
    ruminate: F64  # 0..1: head held level
    cud: F64  # -1..1: the lower jaw to the right or to the left
    bolus: F64  # 0..1: how far up the throat a bolus is; 0: none
    drink: F64  # 0..1: muzzle at the water
    lap: F64  # -1..1: small movement of the muzzle while drinking


@dataclass(frozen=True)
class Motion:
    """The state of one animal at each of T frames; labels bool[T, behaviours], the rest float64[T]."""

    labels: NDArray[np.bool_]
    x: F64
    y: F64
    yaw: F64
    speed: F64  # metres per second along the body
    yaw_rate: F64  # radians per second, left positive
    stand: F64  # 0 lying, 1 on the legs
    walk: F64  # 0 still, 1 walking at the animal's own speed
    stride: F64  # strides made so far; its fraction is the phase of the gait
    eat: F64  # 0..1: muzzle at the ground
    alert: F64  # 0..1: head raised
    low: F64  # 0..1: head hanging, without eating; below 0: raised a little, not alert
    look: F64  # radians the head is turned to the left of the shoulders
    chew: F64  # -1..1: small movement of the muzzle while eating
    mouth: Mouth | None = None


def script_labels(script: Script, n_frames: int, fps: float, behaviours: tuple[str, ...] = BEHAVIOURS) -> NDArray[np.bool_]:
    """bool[T, behaviours]: what is shown in frame i, which is on screen at i / fps; the last entry goes on to the end."""
    stops = np.cumsum([seconds for seconds, _ in script])
    entry = np.minimum(np.searchsorted(stops, (np.arange(n_frames) + 0.5) / fps, side="right"), len(script) - 1)
    shown = np.array([[b in entry_shown for b in behaviours] for _, entry_shown in script], dtype=bool)
    return shown[entry]


def intervals(
    labels: NDArray[np.bool_], fps: float, behaviours: tuple[str, ...] = BEHAVIOURS
) -> list[tuple[str, float, float]]:
    """Bouts (behaviour, start, stop) in seconds. A change lies half a frame before the first frame that shows it, so that no
    frame's time falls on a boundary; the first bout starts at 0 and the last stops at the end of the video."""
    out = []
    for column, behaviour in enumerate(behaviours):
        padded = np.concatenate([[False], labels[:, column], [False]])
        changes = np.flatnonzero(padded[1:] != padded[:-1])
        for first, last in zip(changes[::2], changes[1::2], strict=True):
            start = max(0.0, (first - 0.5) / fps)
            stop = len(labels) / fps if last == len(labels) else (last - 0.5) / fps
            out.append((behaviour, round(start, 6), round(stop, 6)))
    return sorted(out, key=lambda bout: (bout[1], bout[0]))


def move(
    script: Script, n_frames: int, fps: float, rng: np.random.Generator, behaviours: tuple[str, ...] = BEHAVIOURS
) -> Motion:
    """The motion of an animal that follows ``script``; temperament (speed, restlessness of the head) is drawn from ``rng``.

    ``behaviours`` names the columns of the labels. With ``ethogram.ALL`` the mouth is shown in detail.
    """
    check_script(script, behaviours)
    labels = script_labels(script, n_frames, fps, behaviours)
    state = {b: labels[:, i].astype(np.float64) for i, b in enumerate(behaviours)}
    standing, lying, moving, eating, head_up, left, right = (state[b] for b in BEHAVIOURS)
    detailed = "head_down" in state
    if detailed:
        grazing, eating = eating, state["head_down"]
        ruminating, drinking = state["regurgitating"], state["drinking"]
        busy = np.clip(eating + head_up + ruminating + drinking, 0, 1)
    else:
        busy = 1 - (1 - eating) * (1 - head_up)

    own_speed, own_rate = rng.uniform(0.45, 0.62), np.radians(rng.uniform(70, 95))
    if detailed:  # it ambles: several animals walk in one pen and keep clear of one another
        own_speed *= 0.6
    turning = _ease(left - right, _START_TURNING, fps)
    walk = _ease(moving, _START_WALKING, fps)
    speed = walk * own_speed * (1 - 0.35 * np.abs(turning)) * (1 + 0.08 * _wander(n_frames, fps, 1.0, rng))
    yaw_rate = own_rate * turning + np.radians(4) * walk * _wander(n_frames, fps, 0.8, rng)
    yaw = rng.uniform(0, 2 * np.pi) + np.cumsum(yaw_rate) / fps
    x, y = np.cumsum(speed * np.cos(yaw)) / fps, np.cumsum(speed * np.sin(yaw)) / fps

    # While standing or lying, an animal lets its head hang or looks around at times, briefly; neither is a behaviour of the list.
    idle = _ease((standing + lying) * (1 - busy), _MOVE_HEAD, fps)
    low = idle * np.clip(0.55 * _wander(n_frames, fps, 0.7, rng) - 0.2, -0.12, 0.6)
    # Walking, it looks about more than it turns: which way it goes shows in many moments, not in one.
    look = np.radians(26) * (1 + 0.6 * walk) * _wander(n_frames, fps, 0.6, rng) + np.radians(44) * turning
    eat = _ease(eating, _MOVE_HEAD, fps)
    time = np.arange(n_frames) / fps
    motion = Motion(
        labels=labels,
        x=x - (x.min() + x.max()) / 2,
        y=y - (y.min() + y.max()) / 2,
        yaw=yaw,
        speed=speed,
        yaw_rate=yaw_rate,
        stand=1 - _ease(lying, _LIE_DOWN, fps),
        walk=walk,
        stride=rng.uniform() + np.cumsum((speed + 0.15 * np.abs(yaw_rate)) / 0.62) / fps,
        eat=eat,
        alert=_ease(head_up, _MOVE_HEAD, fps),
        low=low,
        look=look * (1 - 0.6 * eat),
        chew=np.sin(2 * np.pi * rng.uniform(1.3, 1.9) * time) * (0.6 + 0.4 * _wander(n_frames, fps, 0.7, rng)),
    )
    if not detailed:
        return motion
    graze, drink, calm = (_ease(s, _MOVE_HEAD, fps) for s in (grazing, drinking, ruminating))
    mouth = Mouth(
        bite=graze * np.clip(1.5 * np.sin(2 * np.pi * rng.uniform(0.75, 0.95) * time + rng.uniform(0, 6)), 0, 1),
        ruminate=calm,
        cud=calm * np.sin(2 * np.pi * rng.uniform(1.05, 1.3) * time),
        bolus=_boluses(ruminating, fps),
        drink=drink,
        lap=drink * np.sin(2 * np.pi * rng.uniform(1.8, 2.2) * time),
    )
    # Whoever ruminates or drinks holds the head still, and a head at the ground without eating does not search for grass.
    steady = 1 - 0.8 * np.clip(calm + drink + motion.eat - graze, 0, 1)
    look = motion.look * steady + 0.12 * mouth.cud  # the jaw takes the head along a little
    return replace(motion, look=look, chew=motion.chew * graze, mouth=mouth)


def _boluses(ruminating: F64, fps: float) -> F64:
    """0..1, how far up the throat a bolus is: one near the start of every bout, and one every ``_CUD`` seconds."""
    out = np.zeros(len(ruminating))
    padded = np.concatenate([[0.0], ruminating, [0.0]])
    changes = np.flatnonzero(np.diff(padded))
    for first, last in zip(changes[::2], changes[1::2], strict=True):
        since = np.arange(last - first) / fps
        # None that could not arrive before the bout ends.
        starts = since - np.mod(since - 0.3, _CUD)
        fits = (starts >= 0) & (starts + _SWALLOW < (last - first) / fps)
        out[first:last] = np.where(fits, np.clip((since - starts) / _SWALLOW, 0, 1) % 1, 0)
    return out


def _ease(target: F64, seconds: float, fps: float) -> F64:
    """Steps made smooth (Hann window of ``seconds``, centred), so that each passes its half where the label changes."""
    half = max(1, round(seconds * fps / 2))
    window = np.hanning(2 * half + 1)
    padded = np.pad(target, half, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _wander(n_frames: int, fps: float, seconds: float, rng: np.random.Generator) -> F64:
    """Smooth noise of about unit size that changes every ``seconds``; its course does not depend on the frame rate."""
    knots = rng.standard_normal(int(n_frames / fps / seconds) + 3)
    whole, part = np.divmod(np.arange(n_frames) / fps / seconds, 1.0)
    i, weight = whole.astype(np.int64), part * part * (3 - 2 * part)
    wave: F64 = knots[i] * (1 - weight) + knots[i + 1] * weight
    return wave
