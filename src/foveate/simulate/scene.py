"""A video in the making: animals in a place, whatever else moves there, and the pictures that cameras take of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from foveate.simulate.anatomy import Capsules
from foveate.simulate.backdrop import Backdrop, Place, see
from foveate.simulate.behaviour import F32, F64
from foveate.simulate.furniture import Trough, see_bars, see_trough
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
    """Everything that a camera can see, for all frames; the first ``subjects`` actors are the animals that the masks are of."""

    place: Place
    actors: tuple[Actor, ...]
    cloud_drift: F64 | None  # metres per frame; None: no clouds
    seed: int
    subjects: int = 1
    trough: Trough | None = None
    bars: bool = False
    night: bool = False
    exact: bool = False  # what hides what is decided pixel by pixel, not actor by actor: needed where bodies come close


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
        light = scene.place.light
        self._behind = [_some(see_trough(scene.trough, camera, light) if scene.trough else None) for camera in cameras]
        bars = np.random.default_rng((scene.seed, 13))
        self._before = [_some(see_bars(camera, light, lens.blur, bars) if scene.bars else None) for camera in cameras]
        rng = np.random.default_rng((scene.seed, 11))
        height, width = max(c.height for c in cameras), max(c.width for c in cameras)
        self._grain = [_grain(height + 32, width + 32, lens.noise, rng, scene.night) for _ in range(4)]
        cloud = tile_noise(_CLOUDS, 4, rng) + 0.4 * tile_noise(_CLOUDS, 9, rng)
        self._cloud = (1 - 0.32 / (1 + np.exp(-4 * (cloud - 0.1)))).astype(np.float32)

    def take(self, t: int, animal: bool = True) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Picture u8[H, W, 3] and the first animal's visible mask bool[H, W] at frame ``t``, for each camera; ``animal=False`` leaves
        the animals of the masks and their shadows out and is otherwise the same picture."""
        return [(picture, masks[0]) for picture, masks in self.take_all(t, animal)]

    def take_all(self, t: int, animal: bool = True) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """As ``take``, with the visible masks bool[subjects, H, W] of all the animals that have one."""
        scene = self.scene
        present = [
            (i, actor.body, own)
            for i, actor in enumerate(scene.actors)
            if (own := actor.frame(t)) is not None and (animal or i >= scene.subjects)
        ]
        shadows = [cast_shadow(body, own, scene.place.light) for i, body, own in present if scene.actors[i].shadow]
        return [self._picture(view, t, present, shadows) for view in range(len(self.cameras))]

    def _picture(
        self, view: int, t: int, present: list[tuple[int, Capsules, int]], shadows: list[Shadow]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        scene, camera, backdrop = self.scene, self.cameras[view], self.backdrops[view]
        picture = backdrop.picture.copy()
        for shadow in shadows:
            _darken(picture, backdrop, camera, shadow)
        patches = [
            (i, patch)
            for i, body, own in present
            if (patch := draw(body, own, camera, scene.place.light, scene.exact)) is not None
        ]
        patches.sort(key=lambda item: -item[1].depth)
        # The trough first and the bars last: every pixel of the trough knows how far it is, and nothing is in front of the bars.
        patches = [*((-1, p) for p in self._behind[view]), *patches, *((-1, p) for p in self._before[view])]
        canvas = Canvas(picture, scene.subjects, self.lens.blur)
        for i, patch in patches:
            canvas.add(i, patch)
        if scene.cloud_drift is not None:
            picture = self._under_clouds(picture, backdrop, t)
        rng = np.random.default_rng((scene.seed, 12, view, t))
        top, left = rng.integers(0, 32, 2)
        grain = self._grain[rng.integers(len(self._grain))][top : top + camera.height, left : left + camera.width]
        if scene.night:
            picture = infrared(picture)
        return np.clip(picture + grain, 0, 255).astype(np.uint8), canvas.cover >= 0.5

    def _under_clouds(self, picture: NDArray[np.uint8], backdrop: Backdrop, t: int) -> NDArray[np.uint8]:
        """Shadows of clouds pass over ground and animals alike."""
        step = 8
        x, y = (np.nan_to_num(v[step // 2 :: step, step // 2 :: step], nan=3.0) for v in (backdrop.x, backdrop.y))
        assert self.scene.cloud_drift is not None
        dx, dy = self.scene.cloud_drift * t
        scale = _CLOUDS / 14.0
        coarse = self._cloud[((y + dy) * scale).astype(np.int64) % _CLOUDS, ((x + dx) * scale).astype(np.int64) % _CLOUDS]
        field = Image.fromarray(np.round(coarse * 255).astype(np.uint8)).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
        shaded = picture.astype(np.uint16)
        shaded *= np.asarray(field)[..., None]
        shaded >>= 8
        return shaded.astype(np.uint8)


def _some(patch: Patch | None) -> tuple[Patch, ...]:
    return () if patch is None else (patch,)


class Canvas:
    """A picture being composed: things are added one by one, and what is seen of each subject is kept in ``cover`` f32[subjects, H, W]."""

    def __init__(self, picture: NDArray[np.uint8], subjects: int, blur: float) -> None:
        self.picture, self.blur = picture, blur
        self.cover = np.zeros((subjects, *picture.shape[:2]), np.float32)
        self._depths: tuple[F32, F32] | None = (
            None  # metres to what is nearest, and how much of the pixel is taken; made when needed
        )

    def add(self, subject: int, patch: Patch) -> None:
        """Lay ``patch`` over the picture, or, in the pixels where it is farther than what is there, under it."""
        h, w = patch.cover.shape
        where = slice(patch.y, patch.y + h), slice(patch.x, patch.x + w)
        hides = patch.cover
        if patch.depths is not None:
            if self._depths is None:
                size = self.picture.shape[:2]
                self._depths = np.full(size, np.inf, np.float32), np.zeros(size, np.float32)
            depths, (nearest, taken) = patch.depths, (whole[where] for whole in self._depths)
            behind = depths > nearest
            patch = replace(patch, cover=np.where(behind, patch.cover * (1 - taken), patch.cover))
            hides = np.where(behind, np.float32(0), patch.cover)
            np.minimum(nearest, depths, out=nearest)
            taken += (1 - taken) * patch.cover
        for other, cover in enumerate(self.cover):
            there = cover[where]
            there[...] = patch.cover if other == subject else there * (1 - hides)
        paste(self.picture, patch)
        if self.blur > 0 and subject >= 0:
            _soften(self.picture, patch, self.blur)


def infrared(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As a night camera with a lamp beside its lens sees it: grey, flat, bright in the middle and dark towards the corners."""
    h, w = picture.shape[:2]
    y, x = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
    lamp = 0.35 + 0.65 * np.exp(-2.6 * (x[None, :] ** 2 + 0.8 * y[:, None] ** 2))
    near_infrared = picture @ np.array([0.45, 0.40, 0.15])
    grey = np.maximum(270 * (1 - np.exp(-near_infrared / 120)) - 50, 4) * lamp  # bright things lose their shades
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _grain(height: int, width: int, sigma: float, rng: np.random.Generator, night: bool = False) -> NDArray[np.int16]:
    """Sensor noise, half shared by the three colours; at night grey and three times as strong."""
    if night:
        return np.round(np.repeat(rng.normal(0, 3 * sigma, (height, width, 1)), 3, axis=2)).astype(np.int16)
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
    h, w = patch.cover.shape
    where = slice(patch.y, patch.y + h), slice(patch.x, patch.x + w)
    picture[where] = np.asarray(Image.fromarray(picture[where]).filter(ImageFilter.GaussianBlur(sigma)))
