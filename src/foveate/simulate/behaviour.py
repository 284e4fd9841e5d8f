"""What an animal does and when: scripts, their labels, and the smooth motion that follows from a script.

World: metres, x and y on the ground, z up; yaw in radians, counter-clockwise seen from above. Left is the animal's own left,
so turning left is a positive yaw rate. A mirror image of the picture swaps left and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BEHAVIOURS = ("standing", "lying", "moving", "eating", "head_up", "turning_left", "turning_right")
"""Exactly one of the first three holds at any time. Standing and lying may carry eating or head_up; turning is a way of moving."""

Script = Sequence[tuple[float, tuple[str, ...]]]
"""Seconds, and the behaviours shown together in them, one entry after the other."""

_POSTURES, _HEADS, _TURNS = BEHAVIOURS[:3], BEHAVIOURS[3:5], BEHAVIOURS[5:]

# Seconds over which one state passes into the next, centred on the change of the label.
_LIE_DOWN, _START_WALKING, _START_TURNING, _MOVE_HEAD = 1.2, 0.6, 0.6, 0.7
SHORTEST = _LIE_DOWN
"""Shortest entry of a script in seconds: each transition must be over before the next begins."""


@dataclass(frozen=True)
class Motion:
    """The state of one animal at each of T frames; labels bool[T, 7] in the order of ``BEHAVIOURS``, the rest float64[T]."""

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


def check_script(script: Script) -> None:
    """ValueError unless every entry is long enough and its behaviours can be shown together."""
    for seconds, shown in script:
        postures = [b for b in shown if b in _POSTURES]
        heads = [b for b in shown if b in _HEADS]
        turns = [b for b in shown if b in _TURNS]
        if len(postures) != 1 or len(heads) > 1 or len(turns) > 1 or set(shown) - set(BEHAVIOURS):
            raise ValueError(f"{shown} cannot be shown together; need one of {_POSTURES}, at most one of {_HEADS} or {_TURNS}")
        if (postures == ["moving"] and heads) or (turns and postures != ["moving"]):
            raise ValueError(f"{shown}: {_HEADS} go with standing or lying, {_TURNS} with moving")
        if seconds < SHORTEST:
            raise ValueError(f"{shown}: {seconds} s is shorter than the transition between two behaviours ({SHORTEST} s)")
    for (_, before), (_, after) in pairwise(script):
        if {"lying", "moving"} <= set(before) | set(after):
            raise ValueError("an animal stands between lying and moving")


def script_labels(script: Script, n_frames: int, fps: float) -> NDArray[np.bool_]:
    """bool[T, 7]: what is shown in frame i, which is on screen at i / fps; the last entry goes on to the end."""
    stops = np.cumsum([seconds for seconds, _ in script])
    entry = np.minimum(np.searchsorted(stops, (np.arange(n_frames) + 0.5) / fps, side="right"), len(script) - 1)
    shown = np.array([[b in entry_shown for b in BEHAVIOURS] for _, entry_shown in script], dtype=bool)
    return shown[entry]


def intervals(labels: NDArray[np.bool_], fps: float) -> list[tuple[str, float, float]]:
    """Bouts (behaviour, start, stop) in seconds. A change lies half a frame before the first frame that shows it, so that no
    frame's time falls on a boundary; the first bout starts at 0 and the last stops at the end of the video."""
    out = []
    for column, behaviour in enumerate(BEHAVIOURS):
        padded = np.concatenate([[False], labels[:, column], [False]])
        changes = np.flatnonzero(padded[1:] != padded[:-1])
        for first, last in zip(changes[::2], changes[1::2], strict=True):
            start = max(0.0, (first - 0.5) / fps)
            stop = len(labels) / fps if last == len(labels) else (last - 0.5) / fps
            out.append((behaviour, round(start, 6), round(stop, 6)))
    return sorted(out, key=lambda bout: (bout[1], bout[0]))


def move(script: Script, n_frames: int, fps: float, rng: np.random.Generator) -> Motion:
    """The motion of an animal that follows ``script``; temperament (speed, restlessness of the head) is drawn from ``rng``."""
    check_script(script)
    labels = script_labels(script, n_frames, fps)
    standing, lying, moving, eating, head_up, left, right = (labels[:, i].astype(np.float64) for i in range(len(BEHAVIOURS)))

    own_speed, own_rate = rng.uniform(0.45, 0.62), np.radians(rng.uniform(70, 95))
    turning = _ease(left - right, _START_TURNING, fps)
    walk = _ease(moving, _START_WALKING, fps)
    speed = walk * own_speed * (1 - 0.35 * np.abs(turning)) * (1 + 0.08 * _wander(n_frames, fps, 1.0, rng))
    yaw_rate = own_rate * turning + np.radians(4) * walk * _wander(n_frames, fps, 0.8, rng)
    yaw = rng.uniform(0, 2 * np.pi) + np.cumsum(yaw_rate) / fps
    x, y = np.cumsum(speed * np.cos(yaw)) / fps, np.cumsum(speed * np.sin(yaw)) / fps

    # While standing or lying, an animal lets its head hang or looks around at times, briefly; neither is a behaviour of the list.
    idle = _ease((standing + lying) * (1 - eating) * (1 - head_up), _MOVE_HEAD, fps)
    low = idle * np.clip(0.55 * _wander(n_frames, fps, 0.7, rng) - 0.2, -0.12, 0.6)
    # Walking, it looks about more than it turns: which way it goes shows in many moments, not in one.
    look = np.radians(26) * (1 + 0.6 * walk) * _wander(n_frames, fps, 0.6, rng) + np.radians(44) * turning
    eat = _ease(eating, _MOVE_HEAD, fps)
    time = np.arange(n_frames) / fps
    return Motion(
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


@dataclass(frozen=True)
class Shares:
    """Shares of a video's time that a schedule aims at; what remains is standing with the head at rest."""

    lying: float
    moving: float
    turning_left: float  # part of moving
    turning_right: float  # part of moving
    eating: float
    head_up: float


def draw_shares(lying: float, rng: np.random.Generator) -> Shares:
    """One animal's shares: around ``lying`` for lying, and distributions that do not depend on it for all else."""
    left, right = rng.uniform(0.15, 0.175), rng.uniform(0.15, 0.175)
    return Shares(
        lying=float(np.clip(lying + rng.normal(0, 0.03), 0.09, 0.5)),
        moving=left + right + rng.uniform(0.055, 0.075),
        turning_left=left,
        turning_right=right,
        eating=float(np.clip(rng.normal(0.15, 0.02), 0.1, 0.2)),
        head_up=float(np.clip(rng.normal(0.16, 0.03), 0.1, 0.22)),
    )


def draw_script(shares: Shares, seconds: float, rng: np.random.Generator) -> list[tuple[float, tuple[str, ...]]]:
    """A script of ``seconds`` that comes as near to ``shares`` as bouts of more than a second allow."""
    walks = _draw_walks(shares, seconds, rng)
    lies = _split(max(1.8, shares.lying * seconds), 1 + int(shares.lying * seconds / 5), 1.8, rng)
    bouts = [*walks, *(_lying(lie) for lie in lies)]
    standing = seconds - sum(length for bout in bouts for length, _ in bout)
    while len(bouts) > 2 and standing < _PAUSE * (len(bouts) - 1):  # too little standing left to part them: join two of a kind
        last = bouts.pop()
        if len(lies) > 1:
            bouts[-1] = _lying(bouts[-1][0][0] + last[0][0])
            lies = lies[:-1]
        else:
            bouts = [[*bouts[0], *bouts[1]], *bouts[2:], last]
    if standing < _PAUSE * (len(bouts) - 1):
        raise ValueError(f"{seconds} s are too short for these shares: {shares}")
    bouts = _alternate([b for b in bouts if b[0][1] != ("lying",)], [b for b in bouts if b[0][1] == ("lying",)], rng)
    ends = rng.permutation(2)[: max(0, min(2, int(standing / _PAUSE) - (len(bouts) - 1)))]
    pauses = _split(standing, len(bouts) - 1 + len(ends), _PAUSE, rng)
    sequence: list[tuple[float, tuple[str, ...]]] = []
    if 0 in ends:
        sequence.append((pauses.pop(), ("standing",)))
    for number, bout in enumerate(bouts):
        sequence += bout
        if number < len(bouts) - 1 or 1 in ends:
            sequence.append((pauses.pop(), ("standing",)))
    return _place_heads(sequence, shares, seconds, rng)


_Bout = list[tuple[float, tuple[str, ...]]]


def _alternate(walks: list[_Bout], lies: list[_Bout], rng: np.random.Generator) -> list[_Bout]:
    """Walking between two bouts of lying where there is enough of it, so that an animal does not lie the same way round every time."""
    more, fewer = (
        (walks, lies) if len(walks) > len(lies) or (len(walks) == len(lies) and rng.uniform() < 0.5) else (lies, walks)
    )
    order: list[_Bout] = []
    for i, bout in enumerate(more):
        order += [bout, *fewer[i * len(fewer) // len(more) : (i + 1) * len(fewer) // len(more)]]
    return order


def _lying(seconds: float) -> list[tuple[float, tuple[str, ...]]]:
    return [(seconds, ("lying",))]


_PAUSE = 1.4  # shortest standing between two bouts, seconds


def _draw_walks(shares: Shares, seconds: float, rng: np.random.Generator) -> list[list[tuple[float, tuple[str, ...]]]]:
    """Bouts of walking, each a few pieces of walking straight and turning."""
    straight = shares.moving - shares.turning_left - shares.turning_right
    pieces: list[tuple[float, tuple[str, ...]]] = []
    for share, shown in (
        (shares.turning_left, ("moving", "turning_left")),
        (shares.turning_right, ("moving", "turning_right")),
    ):
        total = max(1.5, share * seconds)
        pieces += [(length, shown) for length in _split(total, max(1, int(total / 5)), 1.5, rng)]
    total = max(1.3, straight * seconds)
    pieces += [(length, ("moving",)) for length in _split(total, max(1, int(total / 2.5)), 1.3, rng)]
    pieces = [pieces[i] for i in rng.permutation(len(pieces))]
    n = max(1, round(seconds / 10))
    cuts = np.linspace(0, len(pieces), n + 1).round().astype(int)
    return [pieces[a:b] for a, b in pairwise(cuts.tolist()) if b > a]


def _place_heads(
    sequence: Script, shares: Shares, seconds: float, rng: np.random.Generator
) -> list[tuple[float, tuple[str, ...]]]:
    """Cut standing and lying into slots and let the animal eat or raise its head in some, until their shares are used up."""
    slots: list[tuple[float, tuple[str, ...]]] = []
    for length, shown in sequence:
        parts = [length] if "moving" in shown else _split(length, max(1, round(length / 3)), 1.3, rng)
        slots += [(part, shown) for part in parts]
    left = {"eating": shares.eating * seconds, "head_up": shares.head_up * seconds}
    for head, postures in (("eating", ("standing",)), ("head_up", ("standing", "lying"))):
        for i in rng.permutation(len(slots)):
            length, shown = slots[i]
            if len(shown) == 1 and shown[0] in postures and left[head] > length / 2:
                slots[i] = (length, (*shown, head))
                left[head] -= length
    return slots


def _split(total: float, n: int, shortest: float, rng: np.random.Generator) -> list[float]:
    """``total`` in ``n`` random parts (fewer if need be), none below ``shortest`` unless ``total`` is."""
    n = max(1, min(n, int(total / shortest)))
    spare = total - n * shortest
    return [float(shortest + spare * share) for share in rng.dirichlet(np.full(n, 2.0))] if n > 1 else [total]
