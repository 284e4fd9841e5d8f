"""What stands still among the animals: the water trough, and the pen's bars in front of the camera; drawn once per camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate.simulate.anatomy import WATER, Capsules
from foveate.simulate.behaviour import F32, F64
from foveate.simulate.render import Camera, Light, Patch, draw, tile_noise

RIM = WATER + 0.05
"""Height of the trough, metres."""
LENGTH, WIDTH = 1.0, 0.44
"""Outer sides of the trough, metres."""
_WALL = 0.045


@dataclass(frozen=True)
class Trough:
    """A tub of water at (x, y); ``yaw`` is the direction of its long side."""

    x: float
    y: float
    yaw: float


def see_trough(trough: Trough, camera: Camera, light: Light) -> Patch | None:
    """The trough with the depth of every pixel, by casting a ray through each, twice as fine as the picture; None out of sight."""
    along, across = _axes(trough)
    corners = np.array(
        [
            [trough.x, trough.y, 0.0] + u * LENGTH / 2 * along + v * WIDTH / 2 * across + [0, 0, z]
            for u in (-1, 1)
            for v in (-1, 1)
            for z in (0.0, RIM)
        ]
    )
    columns, rows, depths = camera.project(corners)
    left, right = (int(v) for v in np.clip([np.floor(columns.min()) - 1, np.ceil(columns.max()) + 1], 0, camera.width))
    top, bottom = (int(v) for v in np.clip([np.floor(rows.min()) - 1, np.ceil(rows.max()) + 1], 0, camera.height))
    if right - left < 1 or bottom - top < 1 or depths.min() < 0.5:
        return None
    ss = 2
    u = (np.arange(left * ss, right * ss) + 0.5 - camera.width * ss / 2) / (camera.focal * ss)
    v = (np.arange(top * ss, bottom * ss) + 0.5 - camera.height * ss / 2) / (camera.focal * ss)
    rays = u[None, :, None] * camera.axes[0] + v[:, None, None] * camera.axes[1] + camera.axes[2]  # depth 1 along the axis
    basis = np.stack([along, across, [0.0, 0.0, 1.0]])
    origin, ray = basis @ (camera.position - [trough.x, trough.y, 0.0]), rays @ basis.T
    ray = np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    outer = np.array([LENGTH / 2, WIDTH / 2])
    low, high = np.array([*-outer, 0.0]), np.array([*outer, RIM])
    near, far = np.sort([(low - origin) / ray, (high - origin) / ray], axis=0)
    enter, face = near.max(-1), near.argmax(-1)
    hit = enter < far.min(-1)
    # Through the opening: the water, or the inner side of a wall above it.
    inner = outer - _WALL
    spot = origin[:2] + enter[..., None] * ray[..., :2]
    opening = hit & (face == 2) & (np.abs(spot) < inner).all(-1)
    to_water = (WATER - origin[2]) / ray[..., 2]
    wet = opening & (np.abs(origin[:2] + to_water[..., None] * ray[..., :2]) < inner).all(-1)
    inside = np.sort([(-inner - origin[:2]) / ray[..., :2], (inner - origin[:2]) / ray[..., :2]], axis=0)[1]
    depth = np.where(wet, to_water, np.where(opening, inside.min(-1), enter))
    normals = -np.sign(ray)[..., None] * np.eye(3)  # of the faces towards the camera
    normal = np.take_along_axis(normals, face[..., None, None], axis=-2)[..., 0, :] @ basis
    zinc = np.array([0.30, 0.32, 0.33]) * _ribs(origin + enter[..., None] * ray, face)[..., None]
    colour = zinc * _lit(normal, light)
    colour = np.where(opening[..., None], np.array([0.11, 0.12, 0.12]) * light.sky, colour)
    water = np.array([0.05, 0.12, 0.17]) * (light.sky + 0.35 * light.sun) + 0.10 * light.sky
    ripple = tile_noise(256, 22, np.random.default_rng(31))
    at = origin[:2] + to_water[..., None] * ray[..., :2]
    texel = (np.nan_to_num(at) * 220).astype(np.int64) % 256
    colour = np.where(wet[..., None], water * (1 + 0.16 * ripple[texel[..., 1], texel[..., 0]])[..., None], colour)
    return _average(left, top, colour, hit, depth)


def _axes(trough: Trough) -> tuple[F64, F64]:
    along = np.array([np.cos(trough.yaw), np.sin(trough.yaw), 0.0])
    return along, np.array([-along[1], along[0], 0.0])


def _ribs(spot: F64, face: NDArray[np.int64]) -> F64:
    """Beads pressed into the metal, so that the sides are not plain."""
    ribs: F64 = 1 + 0.12 * np.cos(2 * np.pi * spot[..., 2] / 0.11) * (face != 2)
    return ribs


def _lit(normal: F64, light: Light) -> F64:
    out: F64 = np.maximum(normal @ light.towards, 0)[..., None] * light.sun + (0.62 + 0.38 * normal[..., 2:]) * light.sky
    return out


def _average(left: int, top: int, colour: F64, hit: NDArray[np.bool_], depth: F64) -> Patch:
    h, w = hit.shape[0] // 2, hit.shape[1] // 2

    def blocks(values: F64) -> F64:
        return values.reshape(h, 2, w, 2, -1)

    cover = blocks(hit.astype(np.float64)).mean((1, 3))
    mean = blocks(np.where(hit[..., None], colour, 0)).mean((1, 3)) / np.maximum(cover, 1e-6)
    depths = blocks(np.where(hit, depth, np.inf)).min((1, 3))[..., 0].astype(np.float32)
    shown = np.minimum(np.sqrt(mean) * 255, 255).astype(np.float32)
    return Patch(left, top, shown, cover[..., 0].astype(np.float32), float(depth[hit].mean()) if hit.any() else np.inf, depths)


_BARS_AT = 3.2  # metres from the camera: in front of every animal


def see_bars(camera: Camera, light: Light, blur: float, rng: np.random.Generator) -> Patch | None:
    """Upright bars and two rails between camera and pen, out of focus as what is near a camera is."""
    wide = camera.width / camera.focal * _BARS_AT
    tall = camera.height / camera.focal * _BARS_AT
    right, down, forward = camera.axes
    middle = camera.position + _BARS_AT * forward
    gap = float(rng.uniform(0.28, 0.38))
    a, b, radii = [], [], []
    for x in np.arange(-wide / 2 - float(rng.uniform(0, gap)), wide / 2 + gap, gap):
        a.append(middle + x * right - tall * down)
        b.append(middle + x * right + tall * down)
        radii.append(0.021)
    for y in (float(rng.uniform(-0.46, -0.34)), float(rng.uniform(0.36, 0.47))):
        a.append(middle - wide * right + y * tall * down)
        b.append(middle + wide * right + y * tall * down)
        radii.append(0.024)
    n = len(radii)
    metal = np.array((0.33, 0.33, 0.32)) * float(rng.uniform(0.6, 1.2))
    bars = Capsules(
        a=np.array([a], np.float32),
        b=np.array([b], np.float32),
        ra=np.array(radii, np.float32),
        rb=np.array(radii, np.float32),
        colour=np.tile(metal.astype(np.float32), (n, 1)),
        wool=np.zeros(n, np.float32),
        spots=np.zeros(n, np.float32),
        left=np.array([[0, 1, 0]], np.float32),
    )
    patch = draw(bars, 0, camera, light)
    if patch is None:
        return None
    sigma = blur + 0.6
    cover = _blurred(patch.cover, sigma)
    colour = np.stack([_blurred(patch.colour[..., c] * patch.cover, sigma) for c in range(3)], -1)
    colour /= np.maximum(cover, np.float32(1e-6))[..., None]
    return replace(patch, cover=np.minimum(cover, 1), colour=colour.astype(np.float32))


def _blurred(values: F32, sigma: float) -> F32:
    """A Gaussian blur of one channel, zero outside."""
    reach = int(np.ceil(3 * sigma))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    window /= window.sum()
    for axis in (0, 1):
        values = np.apply_along_axis(np.convolve, axis, values, window, mode="same")
    return values.astype(np.float32)
