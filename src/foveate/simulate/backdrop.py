"""The place: ground, walls or fences around it, stones and straw, and light; drawn once per video and camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from foveate.simulate.anatomy import Capsules
from foveate.simulate.behaviour import F32, F64
from foveate.simulate.render import Camera, Light, draw, paste, tile_noise

Ground = Literal["grass", "straw", "soil", "gravel", "concrete"]
Wall = Literal["hedge", "boards", "stones", "rails"]
GROUNDS: tuple[Ground, ...] = ("grass", "straw", "soil", "gravel", "concrete")
WALLS: tuple[Wall, ...] = ("hedge", "boards", "stones", "rails")

_SIDE = 1024  # pixels of the ground's texture, which repeats every _METRES
_METRES = 5.12


@dataclass(frozen=True)
class Place:
    """What does not move in a video, for all cameras; ``ground`` u8[1024, 1024, 3] as displayed under full light."""

    kind: Ground
    walls: tuple[Wall, Wall, Wall, Wall]  # at +x, +y, -x, -y
    half: tuple[float, float]  # metres from the middle to the walls
    ground: NDArray[np.uint8]
    tint: F64  # colour of the walls, factors
    light: Light
    clouds: bool
    seed: int


@dataclass(frozen=True)
class Backdrop:
    """A place seen by a camera: ``picture`` u8[H, W, 3]; world ``x``, ``y`` of the ground in each pixel, NaN where a wall is."""

    picture: NDArray[np.uint8]
    x: F32
    y: F32


def draw_place(rng: np.random.Generator, variety: float = 1.0) -> Place:
    """Ground, walls and light drawn from ``rng``."""
    kind = GROUNDS[rng.choice(len(GROUNDS), p=(0.42, 0.2, 0.16, 0.11, 0.11))]
    first = rng.integers(len(WALLS))
    walls = tuple(WALLS[first] if rng.uniform() < 0.6 else WALLS[rng.integers(len(WALLS))] for _ in range(4))
    sunny = rng.uniform() < 0.55
    height, azimuth = np.radians(rng.uniform(38, 65)), rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    warmth, exposure = rng.normal(0, 0.05) * variety, float(np.exp(rng.normal(0.15, 0.14 * variety)))
    sun = exposure * (0.85 if sunny else 0.22) * np.array([1.05 + warmth, 1.0, 0.9 - warmth])
    sky = exposure * (0.36 if sunny else 0.72) * np.array([0.95 + warmth, 1.0, 1.08 - warmth])
    return Place(
        kind=kind,
        walls=walls,  # type: ignore[arg-type]
        half=(float(rng.uniform(2.6, 3.6)), float(rng.uniform(2.6, 3.6))),
        ground=_ground(kind, rng),
        tint=1 + rng.normal(0, 0.035, 3),
        light=Light(towards, sun, sky),
        clouds=sunny,
        seed=int(rng.integers(2**31)),
    )


def see(place: Place, camera: Camera) -> Backdrop:
    """Cast a ray through every pixel, twice as fine as the picture, and average."""
    ss = 2
    h, w = camera.height * ss, camera.width * ss
    columns = (np.arange(w) + 0.5 - w / 2) / (camera.focal * ss)
    rows = (np.arange(h) + 0.5 - h / 2) / (camera.focal * ss)
    rays = columns[None, :, None] * camera.axes[0] + rows[:, None, None] * camera.axes[1] + camera.axes[2]
    px, py, pz = camera.position
    with np.errstate(divide="ignore"):
        to_ground = np.where(rays[..., 2] < -1e-6, -pz / rays[..., 2], np.inf)
        to_x = (np.sign(rays[..., 0]) * place.half[0] - px) / rays[..., 0]
        to_y = (np.sign(rays[..., 1]) * place.half[1] - py) / rays[..., 1]
    to_wall = np.minimum(to_x, to_y)
    beyond = to_ground > to_wall
    reach = np.where(np.isfinite(to_ground), to_ground, 0.0)
    x, y = px + rays[..., 0] * reach, py + rays[..., 1] * reach
    flat = place.light.sun * place.light.towards[2] + place.light.sky
    tile = _SIDE / _METRES
    picture = place.ground[(y * tile).astype(int) % _SIDE, (x * tile).astype(int) % _SIDE].astype(np.float32)
    edge = np.minimum(place.half[0] - np.abs(x), place.half[1] - np.abs(y))
    picture *= (1 - 0.3 * np.exp(-np.maximum(edge, 0) / 0.25))[..., None].astype(np.float32)  # darker along the walls
    haze = np.clip((reach - 9) / 30, 0, 0.6)[..., None]
    picture = picture * (1 - haze) + 190 * haze
    if not (below := np.isfinite(to_ground)).all():
        picture = np.where(below[..., None], picture, _sky(rays[..., 2]))
    _draw_walls(picture, place, rays, to_wall, to_x < to_y, beyond, camera)
    picture *= np.sqrt(np.maximum(flat, 0))
    canvas = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    _tufts(canvas, place, camera, ss)
    seen = np.asarray(canvas.resize((camera.width, camera.height), Image.Resampling.BOX)).copy()
    _stones(seen, place, camera)
    inside = ~beyond[ss // 2 :: ss, ss // 2 :: ss]
    return Backdrop(
        seen,
        np.where(inside, x[ss // 2 :: ss, ss // 2 :: ss], np.nan).astype(np.float32),
        np.where(inside, y[ss // 2 :: ss, ss // 2 :: ss], np.nan).astype(np.float32),
    )


def _sky(up: F64) -> F64:
    share = np.clip(up / 0.35, 0, 1)[..., None]
    colour: F64 = (1 - share) * np.array([205.0, 212.0, 218.0]) + share * np.array([150.0, 180.0, 215.0])
    return colour


def _draw_walls(
    picture: F64, place: Place, rays: F64, to_wall: F64, hits_x: NDArray[np.bool_], beyond: NDArray[np.bool_], camera: Camera
) -> None:
    """Paint the far walls where the rays meet them."""
    rng = np.random.default_rng((place.seed, 1))
    noise = 0.6 * tile_noise(512, 24, rng) + 0.4 * tile_noise(512, 96, rng) + 0.25 * tile_noise(512, 256, rng)
    z = camera.position[2] + to_wall * rays[..., 2]
    along = np.where(hits_x, camera.position[1] + to_wall * rays[..., 1], camera.position[0] + to_wall * rays[..., 0])
    side = np.where(hits_x, np.where(rays[..., 0] > 0, 0, 2), np.where(rays[..., 1] > 0, 1, 3))
    for number, kind in enumerate(place.walls):
        here = beyond & (side == number) & (z < 2.6)
        if not here.any():
            continue
        u, v = along[here] + 7 * number, z[here]
        n = noise[(v * 100).astype(int) % 512, (u * 100).astype(int) % 512]
        colour, solid = _wall(kind, u, v, n, place, rng)
        under = picture[here]
        picture[here] = np.where(solid[:, None], colour * np.clip(place.tint, 0.7, 1.3) * 0.92, under)


def _wall(kind: Wall, u: F64, v: F64, noise: F64, place: Place, rng: np.random.Generator) -> tuple[F64, NDArray[np.bool_]]:
    """Displayed colour of a wall at ``u`` metres along it and ``v`` metres up, and where it is not open."""
    shades = rng.uniform(0.75, 1.15, 997)
    if kind == "hedge":
        top = 1.35 + 0.12 * np.sin(2.1 * u) + 0.1 * noise
        return np.array([62.0, 84.0, 44.0]) * (1 + 0.32 * noise)[:, None] * (0.6 + 0.35 * v / 1.3)[:, None], v < top
    if kind == "boards":
        board = np.floor(u / 0.16).astype(int)
        gap = np.mod(u, 0.16) < 0.012
        base = np.array(((128.0, 104.0, 82.0), (112.0, 110.0, 106.0), (120.0, 62.0, 50.0))[rng.integers(3)])
        shade = shades[board % 997] * (1 + 0.1 * noise) * np.where(gap, 0.35, 1.0)
        return base * shade[:, None], v < 1.5
    if kind == "stones":
        course = np.floor(v / 0.17).astype(int)
        shifted = u + 0.21 * (course % 2) + 0.05 * np.sin(5 * course)
        stone = np.floor(shifted / 0.38).astype(int)
        joint = (np.mod(v, 0.17) < 0.02) | (np.mod(shifted, 0.38) < 0.02)
        shade = shades[(stone * 31 + course * 57) % 997] * (1 + 0.14 * noise) * np.where(joint, 0.55, 1.0)
        return np.array([134.0, 128.0, 118.0]) * shade[:, None], v < 1.2 + 0.03 * noise
    post = (np.mod(u, 1.3) < 0.1) & (v < 1.25)
    rail = np.any([np.abs(v - height) < 0.05 for height in (0.3, 0.68, 1.06)], axis=0)
    shade = (0.9 + 0.15 * noise) * np.where(post, 0.85, 1.0)
    return np.array([148.0, 132.0, 110.0]) * shade[:, None], post | rail


def _ground(kind: Ground, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A texture that wraps around: patches of two colours, then thousands of blades, straws or pebbles."""
    base, second, strokes, colours = {
        "grass": ((98, 118, 58), (126, 124, 74), 9000, ((76, 102, 42), (118, 140, 68), (96, 122, 50), (150, 146, 92))),
        "straw": ((166, 142, 96), (136, 110, 72), 6000, ((206, 182, 128), (184, 156, 100), (150, 122, 76), (222, 202, 152))),
        "soil": ((122, 97, 74), (98, 78, 60), 1200, ((140, 116, 90), (92, 72, 54), (170, 148, 106), (110, 90, 70))),
        "gravel": ((140, 135, 126), (120, 114, 106), 7000, ((168, 162, 152), (110, 106, 100), (150, 138, 122), (96, 92, 88))),
        "concrete": (
            (148, 146, 142),
            (128, 124, 118),
            500,
            ((196, 174, 124), (120, 116, 110), (170, 150, 104), (108, 104, 98)),
        ),
    }[kind]
    shift = rng.normal(0, 7, 3) + rng.normal(0, 6)
    coarse = tile_noise(_SIDE, 5, rng) + 0.6 * tile_noise(_SIDE, 11, rng)
    fine = tile_noise(_SIDE, 64, rng) + 0.7 * tile_noise(_SIDE, 256, rng)
    mix = 1 / (1 + np.exp(-2.2 * (coarse + rng.uniform(-0.9, 0.5))))
    texture = (1 - mix)[..., None] * np.array(base) + mix[..., None] * np.array(second) + shift
    texture *= (1 + 0.06 * fine)[..., None]
    canvas = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    where, angle = rng.integers(0, _SIDE, (strokes, 2)), rng.uniform(0, np.pi, strokes)
    length = rng.uniform(*((4, 10) if kind in ("grass", "gravel") else (8, 34)), strokes)
    pick, bright = rng.integers(0, 4, strokes), rng.normal(1, 0.1, strokes)
    shades = np.clip((np.array(colours)[pick] + shift) * bright[:, None], 0, 255).astype(int)
    ahead = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
    for i, ((x, y), size, (dx, dy), shade) in enumerate(
        zip(where.tolist(), length.tolist(), ahead.tolist(), shades.tolist(), strict=True)
    ):
        if kind == "gravel" or (kind == "soil" and i % 3):
            r = size * 0.3
            pen.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=tuple(shade))
        else:
            pen.line((x, y, x + dx, y + dy), fill=tuple(shade), width=1 if kind != "straw" else 2)
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.6)))


def _tufts(canvas: Image.Image, place: Place, camera: Camera, ss: int) -> None:
    """Upright blades, far ones first, so that the ground is not a flat picture."""
    count = {"grass": 1500, "straw": 500, "soil": 160, "gravel": 40, "concrete": 30}[place.kind]
    rng = np.random.default_rng((place.seed, 2))
    spot = np.concatenate([rng.uniform(-1, 1, (count, 2)) * place.half, np.zeros((count, 1))], 1)
    tall = rng.uniform(0.03, 0.09, count) * (1.0 if place.kind == "grass" else 0.8)
    tip = spot + np.stack([rng.normal(0, 0.03, count), rng.normal(0, 0.03, count), tall], 1)
    u0, v0, depth = camera.project(spot)
    u1, v1, _ = camera.project(tip)
    bright = rng.uniform(0.75, 1.3, count)
    factor = np.sqrt(place.light.sun * place.light.towards[2] + place.light.sky)
    green = np.array((106, 130, 60) if place.kind == "grass" else (176, 150, 98)) * factor
    pen = ImageDraw.Draw(canvas)
    for i in np.argsort(-depth, kind="stable"):
        if depth[i] > 0.5:
            colour = tuple(int(c) for c in np.clip(green * bright[i], 0, 255))
            pen.line(
                (u0[i] * ss, v0[i] * ss, u1[i] * ss, v1[i] * ss),
                fill=colour,
                width=max(1, round(camera.focal * ss * 0.008 / depth[i])),
            )


def _stones(picture: NDArray[np.uint8], place: Place, camera: Camera) -> None:
    """A few stones, logs or bales away from the middle."""
    rng = np.random.default_rng((place.seed, 3))
    things = []
    for _ in range(rng.integers(2, 8)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 0.95) * min(place.half)
        r, length = rng.uniform(0.05, 0.14), rng.uniform(0.02, 0.25)
        turn = rng.uniform(0, np.pi)
        colour = np.array(((0.2, 0.19, 0.17), (0.13, 0.12, 0.11), (0.2, 0.13, 0.08))[rng.integers(3)]) * rng.uniform(0.7, 1.4)
        middle = np.array([away * np.cos(angle), away * np.sin(angle), 0.55 * r])
        offset = np.array([np.cos(turn), np.sin(turn), 0]) * length / 2
        things.append((middle - offset, middle + offset, r, r * rng.uniform(0.7, 1), colour))
    if rng.uniform() < 0.3:
        middle = np.array([0.8 * place.half[0] * rng.choice([-1, 1]), 0.8 * place.half[1] * rng.choice([-1, 1]), 0.3])
        turn = rng.uniform(0, np.pi)
        offset = 0.3 * np.array([np.cos(turn), np.sin(turn), 0])
        things.append((middle - offset, middle + offset, 0.3, 0.3, np.array([0.5, 0.38, 0.17])))
    things.sort(key=lambda thing: -float(camera.project(thing[0])[2]))
    for a, b, ra, rb, colour in things:
        one = Capsules(
            a=a[None, None].astype(np.float32),
            b=b[None, None].astype(np.float32),
            ra=np.array([ra], np.float32),
            rb=np.array([rb], np.float32),
            colour=colour[None].astype(np.float32),
            wool=np.array([0.1], np.float32),
            spots=np.zeros(1, np.float32),
            left=np.array([[0, 1, 0]], np.float32),
        )
        patch = draw(one, 0, camera, place.light)
        if patch is not None:
            paste(picture, patch)
