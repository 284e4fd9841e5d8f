"""Quadrupeds made of tapered capsules, posed for every frame of a motion at once; and the small creatures that distract.

A torso bent at the middle, a neck, a head with ears, four legs of two segments, and a tail. Legs follow from where the feet are
(two-bone inverse kinematics), so that lying folds them and walking swings them without a pose for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from foveate.simulate.behaviour import F32, F64, Motion, Mouth

_SPHERE = 1e-4  # length given to a capsule that is meant as a sphere


@dataclass(frozen=True)
class Capsules:
    """N tapered capsules at each of T frames: end points in metres, radii in metres, colours 0..1 (linear light)."""

    a: F32  # [T, N, 3]
    b: F32  # [T, N, 3]
    ra: F32  # [N]
    rb: F32  # [N]
    colour: F32  # [N, 3]
    wool: F32  # [N] share of the radius by which fleece stands out; 0 is smooth
    spots: F32  # [N] share of the fleece that has the second colour
    left: F32  # [T, 3] unit vector to the body's left, which the fleece is fixed to
    second: F32 = field(default_factory=lambda: np.zeros(3, np.float32))  # the second colour


@dataclass(frozen=True)
class Build:
    """Proportions (metres at size 1) and colours of a quadruped."""

    size: float = 1.0
    length: float = 0.58  # shoulder to rump
    girth: float = 0.215  # radius of the trunk
    leg: float = 0.52
    leg_radius: float = 0.036
    neck: float = 0.3
    neck_radius: float = 0.12
    head: float = 0.225
    ear: float = 0.12
    tail: float = 0.16
    tail_up: float = -1.2  # radians above the horizontal
    wool: float = 0.13
    fleece: tuple[float, float, float] = (0.72, 0.68, 0.58)
    face: tuple[float, float, float] = (0.05, 0.045, 0.04)
    legs: tuple[float, float, float] = (0.06, 0.05, 0.045)
    spots: float = 0.0
    second: tuple[float, float, float] = (0.12, 0.08, 0.05)
    topknot: bool = True  # wool on the crown
    horns: bool = False
    alert_neck: float = 1.3  # radians above the horizontal that the neck rises to with the head up
    rest_neck: float = 0.45


DOG = Build(
    size=0.62, length=0.56, girth=0.135, leg=0.5, leg_radius=0.034, neck=0.24, neck_radius=0.08, head=0.23, ear=0.1, tail=0.34,
    tail_up=0.5, wool=0.03, topknot=False,
)  # fmt: skip


def draw_sheep(rng: np.random.Generator, variety: float = 1.0) -> Build:
    """One animal: size, shape and colours drawn from ``rng``; ``variety`` 0 gives the same animal every time."""
    fleeces = (
        (0.74, 0.70, 0.61),
        (0.62, 0.56, 0.45),
        (0.80, 0.78, 0.73),
        (0.40, 0.31, 0.22),
        (0.17, 0.13, 0.10),
        (0.45, 0.43, 0.41),
    )
    faces = ((0.045, 0.04, 0.035), (0.62, 0.56, 0.48), (0.20, 0.13, 0.085), (0.045, 0.04, 0.035))
    fleece = fleeces[rng.choice(len(fleeces), p=(0.36, 0.24, 0.24, 0.06, 0.05, 0.05))]
    face = faces[rng.integers(len(faces))]
    spread = rng.normal(0, 1, 8)
    draw = Build(
        size=1 + 0.08 * spread[0],
        length=0.58 + 0.035 * spread[1],
        girth=0.215 + 0.016 * spread[2],
        leg=0.52 + 0.022 * spread[3],
        neck=0.3 + 0.013 * spread[4],
        head=0.225 + 0.011 * spread[5],
        ear=0.12 + 0.015 * spread[6],
        wool=float(rng.uniform(0.05, 0.17)),
        fleece=fleece,
        face=face,
        legs=face if rng.uniform() < 0.7 else faces[rng.integers(len(faces))],
        spots=float(rng.uniform(0.25, 0.5)) if rng.uniform() < 0.1 else 0.0,
        second=((0.10, 0.07, 0.05), (0.70, 0.66, 0.58))[int(np.mean(fleece) < 0.3)],
        topknot=bool(rng.uniform() < 0.7),
        horns=bool(rng.uniform() < 0.2),
        alert_neck=1.3 + 0.07 * spread[7],
        rest_neck=float(rng.uniform(0.35, 0.55)),
    )
    if variety >= 1:
        return draw
    plain = Build()
    share = max(0.0, variety)
    return replace(
        plain,
        size=plain.size + share * (draw.size - plain.size),
        length=plain.length + share * (draw.length - plain.length),
        girth=plain.girth + share * (draw.girth - plain.girth),
        leg=plain.leg + share * (draw.leg - plain.leg),
        wool=plain.wool + share * (draw.wool - plain.wool),
        fleece=_mix(plain.fleece, draw.fleece, share),
        face=_mix(plain.face, draw.face, share),
        legs=_mix(plain.legs, draw.legs, share),
    )


_Colour = tuple[float, float, float]


def _mix(a: _Colour, b: _Colour, share: float) -> _Colour:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])


def pose(build: Build, motion: Motion) -> Capsules:
    """The animal's capsules in every frame of ``motion``."""
    k = build.size
    yaw = motion.yaw
    turn = motion.yaw_rate / np.radians(75)
    # The trunk bends into the curve, and from side to side with every stride.
    bend = np.radians(24) * turn + np.radians(28) * motion.walk * np.sin(2 * np.pi * motion.stride + 0.8)
    left = _heading(yaw + np.pi / 2)

    # Trunk. Getting up and lying down, a sheep is lower in front.
    kneel = np.sin(np.pi * motion.stand) * np.radians(9)
    bob = 0.012 * motion.walk * np.sin(4 * np.pi * motion.stride)
    low, high = build.girth * 0.97, build.leg + 0.05
    middle = np.stack([motion.x, motion.y, k * (low + (high - low) * motion.stand + bob)], -1)
    half = k * build.length / 2
    fore, rear = _heading(yaw + bend), _heading(yaw - bend)
    dip = motion.eat * motion.stand * np.radians(9) + kneel
    chest = middle + half * (fore * np.cos(dip)[:, None] - _UP * np.sin(dip)[:, None])
    rump = middle - half * (rear * np.cos(kneel)[:, None] - _UP * np.sin(kneel)[:, None])
    chest[:, 2] = np.maximum(chest[:, 2], k * 0.9 * build.girth)

    parts: list[_Part] = []
    fleece, skin, shank = (np.array(c) for c in (build.fleece, build.face, build.legs))
    g = k * build.girth
    parts.append(_Part(rump, middle, 0.97 * g, 1.06 * g, fleece, build.wool, build.spots))
    parts.append(_Part(middle, chest, 1.06 * g, 0.95 * g, fleece, build.wool, build.spots))

    # Neck and head: the neck's angle rises and sinks; when eating it is set so that the muzzle reaches the ground.
    ahead = _heading(yaw + bend + motion.look)
    base = chest + k * build.girth * (0.45 * fore + (0.3 - 0.55 * motion.eat)[:, None] * _UP)
    eat_head = -1.15
    reach = (k * (0.05 + 0.012 * motion.chew) - base[:, 2] - k * build.head * np.sin(eat_head)) / (k * build.neck)
    eat_neck = np.arcsin(np.clip(reach, -0.97, 0.3))
    rest, rest_neck = 1 - motion.eat - motion.alert, build.rest_neck
    if (mouth := motion.mouth) is not None:
        rest = rest - mouth.drink
        rest_neck = build.rest_neck - 0.2  # lower than the demo's, so that resting, ruminating and alert necks are far apart
    neck_up = (
        motion.eat * eat_neck + motion.alert * build.alert_neck + rest * (rest_neck - 1.15 * motion.low - 0.35 * motion.walk)
    )
    head_up = motion.eat * eat_head + motion.alert * 0.02 + rest * (-0.42 - 0.45 * motion.low) + 0.05 * motion.chew * motion.eat
    neck_up = neck_up + 0.06 * motion.walk * np.sin(4 * np.pi * motion.stride + 0.6)
    if mouth is not None:
        drink_neck = np.arcsin(
            np.clip(
                (WATER + k * 0.012 * mouth.lap + k * (0.01 - build.head * np.sin(_DRINK_HEAD)) - base[:, 2]) / (k * build.neck),
                -0.97,
                0.5,
            )
        )
        neck_up = neck_up + mouth.drink * drink_neck + 0.32 * mouth.bite + 0.25 * mouth.ruminate
        head_up = head_up + mouth.drink * _DRINK_HEAD + 0.25 * mouth.ruminate
    poll = base + k * build.neck * _tilt(ahead, neck_up)
    forward = _tilt(ahead, head_up)
    muzzle = poll + k * build.head * forward
    side = _heading(yaw + bend + motion.look + np.pi / 2)
    crown = np.cross(forward, side)  # up, as the head sees it
    parts.append(
        _Part(base, poll, k * build.neck_radius * 1.2, k * build.neck_radius * 0.78, fleece, build.wool * 0.8, build.spots)
    )
    parts.append(_Part(poll, muzzle, k * 0.082, k * 0.047, skin))
    parts.append(
        _Part(
            poll + k * 0.03 * crown,
            poll + k * 0.02 * crown + _SPHERE * forward,
            k * 0.085,
            k * 0.085,
            fleece if build.topknot else skin,
            build.wool if build.topknot else 0,
        )
    )
    parts.append(_Part(muzzle, muzzle + _SPHERE * forward, k * 0.043, k * 0.043, skin * 0.7))
    perk = (0.1 + 0.35 * motion.alert)[:, None]
    for sign in (1, -1):
        root = poll + k * (sign * 0.06 * side + 0.035 * crown)
        tip = root + k * build.ear * (sign * 0.9 * side + perk * crown - 0.2 * forward)
        parts.append(_Part(root, tip, k * 0.026, k * 0.02, skin * 0.9 + 0.02))
        eye = poll + k * (sign * 0.068 * side + 0.03 * crown) + k * 0.25 * build.head * forward
        parts.append(_Part(eye, eye + _SPHERE * forward, k * 0.017, k * 0.017, np.array([0.01, 0.008, 0.006])))
        if build.horns:
            bow = root + k * (0.03 * sign * side + 0.08 * crown - 0.09 * forward)
            parts.append(_Part(root, bow, k * 0.028, k * 0.022, np.array([0.3, 0.25, 0.17])))
            parts.append(
                _Part(
                    bow,
                    bow + k * (0.05 * sign * side - 0.07 * crown - 0.02 * forward),
                    k * 0.022,
                    k * 0.011,
                    np.array([0.3, 0.25, 0.17]),
                )
            )

    if mouth is not None:
        throat = _Frame(base, poll, muzzle, forward, side, crown)
        parts += _mouth(build, mouth, throat, fleece, skin)

    stem = rump - rear * 0.93 * g + _UP * 0.25 * g
    parts.append(
        _Part(
            stem,
            stem + k * build.tail * _tilt(-rear, np.full(len(yaw), build.tail_up)),
            k * 0.045,
            k * 0.03,
            fleece,
            build.wool,
            build.spots,
        )
    )
    parts += _legs(build, motion, chest, rump, fore, rear, fleece, shank)
    return _collect(parts, left, np.array(build.second))


WATER = 0.3
"""Height of the water in the trough, metres."""
_DRINK_HEAD = -0.95  # radians the drinking head points below the horizontal


@dataclass(frozen=True)
class _Frame:
    """Where neck and head are, and the head's own directions, each [T, 3]."""

    base: F64
    poll: F64
    muzzle: F64
    forward: F64
    side: F64
    crown: F64


def _mouth(build: Build, mouth: Mouth, at: _Frame, fleece: F64, skin: F64) -> list[_Part]:
    """The lower jaw, the bolus in the throat, and the grass in the mouth; what is not shown hides inside the body."""
    k, parts = build.size, []
    pale = 0.2 * skin + 0.8 * np.array([0.66, 0.46, 0.40])
    cud, open_ = mouth.cud[:, None], mouth.ruminate[:, None]
    hinge = at.poll + k * (0.45 * build.head * at.forward - 0.03 * open_ * at.crown)
    chin = at.muzzle + k * (
        0.07 * cud * at.side - (0.004 + 0.048 * open_ + 0.016 * np.abs(cud)) * at.crown + (0.02 * open_ - 0.03) * at.forward
    )
    parts.append(_Part(hinge, chin, k * 0.042, k * 0.036, pale))
    along = at.poll - at.base
    under = np.cross(at.side, along / np.linalg.norm(along, axis=-1, keepdims=True))
    shown = (mouth.bolus > 0)[:, None]
    up = mouth.bolus[:, None]
    bolus = np.where(
        shown, at.base + (0.05 + 0.9 * up) * along + k * build.neck_radius * (1.0 - 0.3 * up) * under, at.base - 0.3 * along
    )
    parts.append(_Part(bolus, bolus + _SPHERE * at.forward, k * 0.085, k * 0.085, 0.8 * fleece, 0.3 * build.wool))
    lips, green = at.muzzle + k * 0.03 * at.forward, np.array([0.16, 0.26, 0.04])
    held = np.clip(4 * mouth.bite, 0, 1)[:, None]
    for sideways, down in ((0.10, 0.05), (-0.09, 0.06), (0.05, 0.11), (-0.03, 0.12)):
        tip = lips + held * k * (sideways * at.side - down * _UP + 0.03 * at.forward)
        inside = at.poll + held * (lips - at.poll)
        parts.append(_Part(inside, np.where(held > 0, tip, inside + _SPHERE * at.forward), k * 0.011, k * 0.007, green))
    return parts


def muzzle_of(body: Capsules) -> F32:
    """World position f32[T, 3] of the muzzle of a body made by ``pose``."""
    return body.b[:, 3]


def _legs(build: Build, motion: Motion, chest: F64, rump: F64, fore: F64, rear: F64, fleece: F64, shank: F64) -> list[_Part]:
    """Four legs. A foot on the ground goes backwards under the body as fast as the body goes forwards, then swings ahead."""
    k, parts = build.size, []
    upper, lower, foot = 0.495 * k * build.leg, 0.485 * k * build.leg, 0.028 * k
    spread, stand = 0.5 * k * build.girth, motion.stand[:, None]
    # Lateral sequence walk: left hind, left fore, right hind, right fore.
    for front, sign, offset in ((False, 1, 0.0), (True, 1, 0.25), (False, -1, 0.5), (True, -1, 0.75)):
        trunk, ahead = (chest, fore) if front else (rump, rear)
        aside = np.stack([-ahead[:, 1], ahead[:, 0], np.zeros(len(ahead))], -1) * sign
        hip = trunk + spread * aside - _UP * (0.25 * k * build.girth) - ahead * (0.02 * k if front else -0.02 * k)
        phase = (motion.stride + offset) % 1
        swing = phase > 0.62
        along = np.where(swing, -0.5 + (phase - 0.62) / 0.38, 0.5 - phase / 0.62)
        lift = np.where(swing, np.sin(np.pi * np.clip((phase - 0.62) / 0.38, 0, 1)), 0)
        step = k * motion.walk * 0.46 * along * np.clip(motion.speed / 0.5, 0.35, 1.2)
        cross = k * motion.walk * 0.16 * along * np.clip(motion.yaw_rate, -1, 1) * (1 if front else -1)
        standing = hip + ahead * (step + 0.01 * k)[:, None] + sign * aside * cross[:, None]
        standing[:, 2] = foot + k * 0.085 * lift * motion.walk
        tucked = hip + ahead * (k * (-0.02 if front else 0.2)) + aside * (k * (0.06 if front else 0.12))
        tucked[:, 2] = foot
        end = stand * standing + (1 - stand) * tucked
        down = end - hip
        reach = np.linalg.norm(down, axis=-1, keepdims=True)
        aim = down / np.maximum(reach, 1e-6)
        span = np.clip(reach, abs(upper - lower) + 1e-3, (upper + lower) * 0.995)
        bow = ahead * (1 if front else -1) - aim * np.sum(aim * ahead * (1 if front else -1), -1, keepdims=True)
        bow /= np.maximum(np.linalg.norm(bow, axis=-1, keepdims=True), 1e-6)
        on = (upper**2 - lower**2 + span**2) / (2 * span)
        knee = hip + aim * on + bow * np.sqrt(np.maximum(upper**2 - on**2, 0))
        knee[:, 2] = np.maximum(knee[:, 2], 1.3 * foot)
        end = hip + aim * span
        end[:, 2] = np.maximum(end[:, 2], foot)
        r = k * build.leg_radius
        parts.append(_Part(hip, knee, r * (1.9 if front else 2.6), r * 1.15, fleece, build.wool * 0.7, build.spots))
        parts.append(_Part(knee, end, r, r * 0.72, shank))
        parts.append(_Part(end, end + ahead * 0.02 * k, r * 0.85, r * 0.8, np.array([0.03, 0.025, 0.02])))
    return parts


@dataclass(frozen=True)
class _Part:
    a: F64
    b: F64
    ra: float
    rb: float
    colour: F64
    wool: float = 0.0
    spots: float = 0.0


_UP = np.array([0.0, 0.0, 1.0])


def _heading(angle: F64) -> F64:
    return np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)


def _tilt(ahead: F64, up: F64) -> F64:
    direction: F64 = ahead * np.cos(up)[:, None] + _UP * np.sin(up)[:, None]
    return direction


def _collect(parts: list[_Part], left: F64, second: F64) -> Capsules:
    def stack(name: str) -> F32:
        return np.array([getattr(p, name) for p in parts], np.float32)

    a, b = (np.stack([getattr(p, name) for p in parts], 1).astype(np.float32) for name in ("a", "b"))
    return Capsules(
        a,
        b,
        stack("ra"),
        stack("rb"),
        stack("colour"),
        stack("wool"),
        stack("spots"),
        left.astype(np.float32),
        second.astype(np.float32),
    )


def hen(x: F64, y: F64, yaw: F64, stride: F64, peck: F64, colour: tuple[float, float, float]) -> Capsules:
    """A hen that walks and pecks; all arguments but the colour are per frame, ``peck`` 0..1."""
    ahead, aside = _heading(yaw), _heading(yaw + np.pi / 2)
    feathers = np.array(colour)
    centre = np.stack([x, y, np.full_like(x, 0.2)], -1)
    tail, breast = centre - 0.11 * ahead + 0.04 * _UP, centre + 0.09 * ahead
    neck = breast + _tilt(ahead, 1.1 - 1.8 * peck) * 0.14
    parts = [
        _Part(tail, breast, 0.07, 0.09, feathers, 0.06),
        _Part(tail, tail - 0.09 * ahead + 0.1 * _UP, 0.05, 0.02, feathers * 0.7, 0.06),
        _Part(breast, neck, 0.06, 0.035, feathers),
        _Part(neck, neck + 0.03 * ahead, 0.04, 0.035, feathers * 0.9),
        _Part(neck + 0.05 * _UP, neck + 0.03 * ahead + 0.04 * _UP, 0.016, 0.014, np.array([0.5, 0.03, 0.02])),
        _Part(neck + 0.03 * ahead, neck + 0.075 * ahead - 0.01 * _UP, 0.016, 0.006, np.array([0.6, 0.35, 0.05])),
    ]
    for sign in (1, -1):
        hip = centre + sign * 0.04 * aside - 0.05 * _UP
        foot = hip + ahead * (0.06 * sign * np.sin(2 * np.pi * stride))[:, None]
        foot[:, 2] = 0.01 + 0.03 * np.clip(sign * np.cos(2 * np.pi * stride), 0, 1)
        parts.append(_Part(hip, foot, 0.014, 0.012, np.array([0.5, 0.33, 0.06])))
    return _collect(parts, aside, feathers)


def bird(position: F64, yaw: float, flap: F64) -> Capsules:
    """A small bird in flight; ``position`` [T, 3], ``flap`` -1..1 per frame."""
    ahead, aside = _heading(np.full(len(flap), yaw)), _heading(np.full(len(flap), yaw + np.pi / 2))
    dark = np.array([0.03, 0.03, 0.035])
    parts = [_Part(position - 0.08 * ahead, position + 0.07 * ahead, 0.02, 0.03, dark)]
    for sign in (1, -1):
        parts.append(_Part(position, position + sign * 0.2 * aside + (0.14 * flap)[:, None] * _UP, 0.026, 0.009, dark))
    return _collect(parts, aside, dark)


def leaf(position: F64, tilt: F64, colour: tuple[float, float, float]) -> Capsules:
    """A tumbling leaf; ``position`` [T, 3], ``tilt`` radians per frame."""
    along = np.stack([np.cos(tilt), np.sin(0.7 * tilt), np.sin(tilt)], -1)
    return _collect([_Part(position, position + 0.05 * along, 0.022, 0.008, np.array(colour))], along, np.array(colour))
