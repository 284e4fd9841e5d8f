"""A video in the making: one animal in a place, whatever else moves there, and the pictures that cameras take of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from foveate.simulate.anatomy import DOG, Capsules, bird, hen, leaf, pose
from foveate.simulate.backdrop import Backdrop, Place, see
from foveate.simulate.behaviour import BEHAVIOURS, F64, Motion
from foveate.simulate.render import Camera, Light, Patch, draw, paste, tile_noise

_CELL, _CELLS = 0.025, 136  # the shadow's grid: metres per cell, cells along a side
_CLOUDS = 256


@dataclass(frozen=True)
class Actor:
    """Something that moves, in the frames from ``first`` on; a shadow only for those on the ground."""

    body: Capsules
    first: int = 0
    shadow: bool = True

    def frame(self, t: int) -> int | None:
        """The actor's own frame at frame ``t`` of the video, None when it is not there."""
        own = t - self.first
        return own if 0 <= own < len(self.body.a) else None


@dataclass(frozen=True)
class Scene:
    """Everything that a camera can see, for all frames; ``actors[0]`` is the animal that the masks are of."""

    place: Place
    actors: tuple[Actor, ...]
    cloud_drift: F64 | None  # metres per frame; None: no clouds
    seed: int


@dataclass(frozen=True)
class Lens:
    """How pictures are taken: optical blur in pixels (sigma), sensor noise in grey levels (sigma)."""

    blur: float = 0.45
    noise: float = 1.5


class Studio:
    """A scene and its cameras; backdrops and noise are made once, pictures on demand and in any order."""

    def __init__(self, scene: Scene, cameras: tuple[Camera, ...], lens: Lens) -> None:
        self.scene, self.cameras, self.lens = scene, cameras, lens
        self.backdrops = tuple(see(scene.place, camera) for camera in cameras)
        rng = np.random.default_rng((scene.seed, 11))
        height, width = max(c.height for c in cameras), max(c.width for c in cameras)
        self._grain = [_grain(height + 32, width + 32, lens.noise, rng) for _ in range(4)]
        cloud = tile_noise(_CLOUDS, 4, rng) + 0.4 * tile_noise(_CLOUDS, 9, rng)
        self._cloud = (1 - 0.32 / (1 + np.exp(-4 * (cloud - 0.1)))).astype(np.float32)

    def take(self, t: int, animal: bool = True) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Picture u8[H, W, 3] and the animal's visible mask bool[H, W] at frame ``t``, for each camera; ``animal=False`` leaves the
        animal and its shadow out and is otherwise the same picture."""
        scene = self.scene
        present = [
            (i, actor.body, own)
            for i, actor in enumerate(scene.actors)
            if (own := actor.frame(t)) is not None and (animal or i)
        ]
        shadows = [cast_shadow(body, own, scene.place.light) for i, body, own in present if scene.actors[i].shadow]
        return [self._picture(view, t, present, shadows) for view in range(len(self.cameras))]

    def _picture(
        self, view: int, t: int, present: list[tuple[int, Capsules, int]], shadows: list[Shadow]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        camera, backdrop = self.cameras[view], self.backdrops[view]
        picture = backdrop.picture.copy()
        for shadow in shadows:
            _darken(picture, backdrop, camera, shadow)
        patches = [
            (i, patch) for i, body, own in present if (patch := draw(body, own, camera, self.scene.place.light)) is not None
        ]
        cover = np.zeros(picture.shape[:2], np.float32)
        for i, patch in sorted(patches, key=lambda item: -item[1].depth):
            h, w = patch.cover.shape
            there = cover[patch.y : patch.y + h, patch.x : patch.x + w]
            there[...] = patch.cover if i == 0 else there * (1 - patch.cover)
            paste(picture, patch)
            _soften(picture, patch, self.lens.blur)
        if self.scene.cloud_drift is not None:
            picture = self._under_clouds(picture, backdrop, t)
        rng = np.random.default_rng((self.scene.seed, 12, view, t))
        top, left = rng.integers(0, 32, 2)
        grain = self._grain[rng.integers(len(self._grain))][top : top + camera.height, left : left + camera.width]
        return np.clip(picture + grain, 0, 255).astype(np.uint8), cover >= 0.5

    def _under_clouds(self, picture: NDArray[np.uint8], backdrop: Backdrop, t: int) -> NDArray[np.uint8]:
        """Shadows of clouds pass over ground and animals alike."""
        step = 8
        x, y = (np.nan_to_num(v[step // 2 :: step, step // 2 :: step], nan=3.0) for v in (backdrop.x, backdrop.y))
        assert self.scene.cloud_drift is not None
        dx, dy = self.scene.cloud_drift * t
        scale = _CLOUDS / 14.0
        coarse = self._cloud[((y + dy) * scale).astype(np.int64) % _CLOUDS, ((x + dx) * scale).astype(np.int64) % _CLOUDS]
        field = Image.fromarray(np.round(coarse * 255).astype(np.uint8)).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
        shaded: NDArray[np.uint8] = ((picture.astype(np.uint16) * np.asarray(field)[..., None]) >> 8).astype(np.uint8)
        return shaded


def _grain(height: int, width: int, sigma: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Sensor noise, half shared by the three colours."""
    shared, own = rng.normal(0, 0.8 * sigma, (height, width, 1)), rng.normal(0, 0.6 * sigma, (height, width, 3))
    return np.round(shared + own).astype(np.int16)


@dataclass(frozen=True)
class Shadow:
    """Darkening 0..255 of the ground on a square grid whose corner is at world (x, y)."""

    dark: NDArray[np.uint8]
    x: float
    y: float


def cast_shadow(body: Capsules, t: int, light: Light) -> Shadow:
    """The body's shadow in the sun, and the soft one of the sky right under it."""
    a, b = body.a[t].astype(np.float64), body.b[t].astype(np.float64)
    shift = light.towards[:2] / light.towards[2]
    strength = float(light.sun.mean() * light.towards[2] / (light.sun.mean() * light.towards[2] + light.sky.mean()))
    x, y = (np.concatenate([a, b]).mean(0)[:2] - _CELL * _CELLS / 2).tolist()
    sun, sky = Image.new("L", (_CELLS, _CELLS)), Image.new("L", (_CELLS, _CELLS))
    on_sun, on_sky = ImageDraw.Draw(sun), ImageDraw.Draw(sky)
    for i in np.argsort(-(a[:, 2] + b[:, 2]), kind="stable"):
        r = float(max(body.ra[i], body.rb[i])) / _CELL
        near = float(np.exp(-max(0.0, min(a[i, 2], b[i, 2]) - r * _CELL) / 0.3))
        for pen, fill, ends in (
            (on_sky, int(130 * near), [p[:2] for p in (a[i], b[i])]),
            (on_sun, int(235 * strength), [p[:2] - shift * p[2] for p in (a[i], b[i])]),
        ):
            (u0, v0), (u1, v1) = (((end - (x, y)) / _CELL).tolist() for end in ends)
            pen.line((u0, v0, u1, v1), fill=fill, width=max(1, round(2 * r)))
            for u, v in ((u0, v0), (u1, v1)):
                pen.ellipse((u - r, v - r, u + r, v + r), fill=fill)
    soft = np.asarray(sky.filter(ImageFilter.GaussianBlur(3.0))).astype(np.uint16)
    sharp = np.asarray(sun.filter(ImageFilter.GaussianBlur(1.0))).astype(np.uint16)
    return Shadow((soft + sharp - soft * sharp // 255).astype(np.uint8), x, y)


def _darken(picture: NDArray[np.uint8], backdrop: Backdrop, camera: Camera, shadow: Shadow) -> None:
    """Lay ``shadow`` on the ground of ``picture`` in place."""
    columns, rows = (np.flatnonzero(shadow.dark.any(axis)) for axis in (0, 1))
    if not len(columns):
        return
    sides = ((shadow.x, columns), (shadow.y, rows))
    (left, right), (near, far) = ((start + _CELL * v[0], start + _CELL * (v[-1] + 1)) for start, v in sides)
    corners = np.array([[x, y, 0.0] for x in (left, right) for y in (near, far)])
    u, v, depth = camera.project(corners)
    if depth.min() < 0.5:
        return
    x0, x1 = np.clip([u.min(), u.max() + 1], 0, camera.width).astype(int)
    y0, y1 = np.clip([v.min(), v.max() + 1], 0, camera.height).astype(int)
    where = slice(y0, y1), slice(x0, x1)
    with np.errstate(invalid="ignore"):
        i, j = (
            ((backdrop.x[where] - shadow.x) / _CELL).astype(np.int32),
            ((backdrop.y[where] - shadow.y) / _CELL).astype(np.int32),
        )
    inside = (i >= 0) & (i < _CELLS) & (j >= 0) & (j < _CELLS)
    dark = np.where(inside, shadow.dark[j.clip(0, _CELLS - 1), i.clip(0, _CELLS - 1)], 0)
    under = picture[where]
    # Linear light loses `dark`; the display loses about the square root's share.
    factor = (np.sqrt(1 - dark.astype(np.float32) / 256) * 256).astype(np.uint16)
    under[...] = (under.astype(np.uint16) * factor[..., None]) >> 8


def _soften(picture: NDArray[np.uint8], patch: Patch, sigma: float) -> None:
    """The lens's blur, where something has just been pasted."""
    if sigma <= 0:
        return
    h, w = patch.cover.shape
    where = slice(patch.y, patch.y + h), slice(patch.x, patch.x + w)
    picture[where] = np.asarray(Image.fromarray(picture[where]).filter(ImageFilter.GaussianBlur(sigma)))


def distractors(n_frames: int, fps: float, half: tuple[float, float], amount: float, rng: np.random.Generator) -> list[Actor]:
    """Other things that move: a passing dog, hens, birds, leaves. ``amount`` 0 gives none, 1 the usual."""
    actors: list[Actor] = []
    if rng.uniform() < 0.35 * amount:
        actors.append(_passing_dog(n_frames, fps, rng))
    for _ in range(rng.binomial(2, min(1.0, 0.35 * amount))):
        actors.append(_hen(n_frames, fps, half, rng))
    if rng.uniform() < 0.4 * amount:
        for _ in range(rng.integers(1, 1 + max(1, round(n_frames / fps / 5)))):
            actors.append(_bird(n_frames, fps, rng))
    if rng.uniform() < 0.4 * amount:
        for _ in range(rng.integers(2, 2 + max(1, round(n_frames / fps / 2)))):
            actors.append(_leaf(n_frames, fps, rng))
    return actors


def _passing_dog(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    """Trots past the animal, on either side of it."""
    speed, yaw, offset = rng.uniform(0.9, 1.5), rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 2.1) * rng.choice([-1, 1])
    n = min(n_frames, int(8.0 / speed * fps))
    along = (np.arange(n) / fps) * speed - 4.0
    zero, one = np.zeros(n), np.ones(n)
    motion = Motion(
        labels=np.zeros((n, len(BEHAVIOURS)), bool),
        x=along * np.cos(yaw) - offset * np.sin(yaw),
        y=along * np.sin(yaw) + offset * np.cos(yaw),
        yaw=np.full(n, yaw),
        speed=speed * one,
        yaw_rate=zero,
        stand=one,
        walk=one,
        stride=along / 0.55,
        eat=zero,
        alert=zero,
        low=zero,
        look=0.3 * np.sin(np.arange(n) / fps),
        chew=zero,
    )
    coat = ((0.05, 0.04, 0.04), (0.28, 0.17, 0.08), (0.5, 0.47, 0.42))[rng.integers(3)]
    return Actor(
        pose(replace(DOG, fleece=coat, face=coat, legs=coat), motion), first=int(rng.integers(0, max(1, n_frames - n)))
    )


def _hen(n_frames: int, fps: float, half: tuple[float, float], rng: np.random.Generator) -> Actor:
    """Wanders near the walls, stops and pecks."""
    n = n_frames
    going = np.repeat(rng.uniform(size=int(n / fps / 1.5) + 2) < 0.55, int(1.5 * fps) + 1)[:n].astype(np.float64)
    going = np.convolve(np.pad(going, 2, mode="edge"), np.ones(5) / 5, "valid")
    angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * np.cumsum(going) * rng.uniform(0.15, 0.3) / fps
    away = rng.uniform(1.45, 0.85 * min(half))
    x, y = away * np.cos(angle), away * np.sin(angle)
    yaw = np.arctan2(np.gradient(y), np.gradient(x)) if np.ptp(angle) > 0 else angle
    yaw = np.where(going > 0.05, yaw, angle + np.pi / 2)
    peck = (1 - going) * np.clip(np.sin(2 * np.pi * 0.9 * np.arange(n) / fps + rng.uniform(0, 6)) * 1.6, 0, 1)
    colour = ((0.75, 0.72, 0.66), (0.3, 0.12, 0.05), (0.04, 0.04, 0.045))[rng.integers(3)]
    return Actor(hen(x, y, yaw, np.cumsum(going) * 1.8 / fps, peck, colour))


def _bird(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    speed, yaw, height = rng.uniform(2.5, 5), rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.7)
    n = min(n_frames, int(8 / speed * fps))
    along, offset = np.arange(n) / fps * speed - 4, rng.uniform(-1.5, 1.5)
    position = np.stack(
        [along * np.cos(yaw) - offset * np.sin(yaw), along * np.sin(yaw) + offset * np.cos(yaw), height + 0.1 * np.sin(along)],
        -1,
    )
    return Actor(
        bird(position, yaw, np.sin(2 * np.pi * 3.7 * np.arange(n) / fps)), int(rng.integers(0, max(1, n_frames - n))), False
    )


def _leaf(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    n = min(n_frames, int(rng.uniform(2, 4) * fps))
    time = np.arange(n) / fps
    wind, start = rng.normal(0, 0.6, 2), rng.uniform(-1.8, 1.8, 2)
    position = np.stack(
        [start[i] + wind[i] * time + 0.12 * np.sin(3 * time + i) for i in (0, 1)] + [np.maximum(1.6 - 0.6 * time, 0.03)], -1
    )
    colour = ((0.3, 0.16, 0.04), (0.34, 0.28, 0.05), (0.15, 0.2, 0.05))[rng.integers(3)]
    return Actor(leaf(position, 5 * time + rng.uniform(0, 6), colour), int(rng.integers(0, max(1, n_frames - n))), False)
