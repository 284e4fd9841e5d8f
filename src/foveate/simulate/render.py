"""Drawing tapered capsules: exact depth and normals per pixel on the animal's own rectangle, shaded, and averaged down.

Each capsule is drawn with the scale of its own distance (weak perspective), which moves the outline of a capsule by up to about 3 % of its area when seen along its axis, mostly far less.
Colours are linear light; a picture shows their square root (a plain stand-in for the sRGB curve).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from foveate.simulate.anatomy import Capsules
from foveate.simulate.behaviour import F32, F64

OVERSAMPLING = 2
_TILE = 256  # side of the fleece textures
_PER_METRE = 210  # texture pixels per metre of fleece


@dataclass(frozen=True)
class Camera:
    """A pinhole: ``axes`` are right, down and forward as rows; focal length and centre in pixels."""

    position: F64
    axes: F64
    focal: float
    width: int
    height: int

    @classmethod
    def looking(
        cls, azimuth: float, elevation: float, distance: float, span: float, width: int, height: int, roll: float = 0.0
    ) -> Camera:
        """From ``distance`` metres at these angles (radians) towards a point 0.35 m above the origin; ``span`` metres there fill
        the picture's width."""
        away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        forward = -away
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        down = np.cross(forward, right)
        right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
        target = np.array([0.0, 0.0, 0.35])
        return cls(target + distance * away, np.stack([right, down, forward]), width * distance / span, width, height)

    def project(self, points: F64) -> tuple[F64, F64, F64]:
        """World points [..., 3] to pixel columns, rows and depths in metres."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2], 1e-3)
        return (
            seen[..., 0] / depth * self.focal + self.width / 2,
            seen[..., 1] / depth * self.focal + self.height / 2,
            seen[..., 2],
        )


@dataclass(frozen=True)
class Light:
    """``towards`` points at the sun; colours of sun and sky are factors on linear light."""

    towards: F64
    sun: F64
    sky: F64


@dataclass(frozen=True)
class Patch:
    """A drawn thing: ``colour`` f32[h, w, 3] (0..255, as displayed) and ``cover`` f32[h, w] (0..1), its corner at (x, y)."""

    x: int
    y: int
    colour: F32
    cover: F32
    depth: float  # metres from the camera to its middle


def draw(capsules: Capsules, t: int, camera: Camera, light: Light) -> Patch | None:
    """Frame ``t`` of ``capsules`` as seen by ``camera``; None when it is out of the picture."""
    ss = OVERSAMPLING
    focal, cx, cy = camera.focal * ss, camera.width * ss / 2, camera.height * ss / 2
    a = (capsules.a[t] - camera.position) @ camera.axes.T
    b = (capsules.b[t] - camera.position) @ camera.axes.T
    if min(a[:, 2].min(), b[:, 2].min()) < 0.5:
        return None
    middle = float((a[:, 2].mean() + b[:, 2].mean()) / 2)
    unit = focal / middle  # oversampled pixels per metre of depth
    fa, fb = focal / a[:, 2], focal / b[:, 2]
    ax, ay, az = a[:, 0] * fa + cx, a[:, 1] * fa + cy, a[:, 2] * unit
    bx, by, bz = b[:, 0] * fb + cx, b[:, 1] * fb + cy, b[:, 2] * unit
    ra, rb = capsules.ra * fa, capsules.rb * fb
    reach = np.maximum(ra, rb) * (1 + capsules.wool) + 1
    x0, x1 = _clip(np.minimum(ax, bx) - reach, np.maximum(ax, bx) + reach, camera.width * ss)
    y0, y1 = _clip(np.minimum(ay, by) - reach, np.maximum(ay, by) + reach, camera.height * ss)
    left, right, top, bottom = (int(v) for v in (x0.min(), x1.max(), y0.min(), y1.max()))
    left, top, right, bottom = left // ss * ss, top // ss * ss, -(-right // ss) * ss, -(-bottom // ss) * ss
    if right - left < ss or bottom - top < ss:
        return None

    shape = (bottom - top, right - left)
    depth = np.full(shape, np.inf, np.float32)
    part = np.zeros(shape, np.int16)
    normal = np.zeros((3, *shape), np.float32)
    shade = np.zeros(shape, np.float32)
    spot = np.zeros(shape, np.float32)
    lumps, blotches = fleece_tiles()
    side, up = (camera.axes @ capsules.left[t]).tolist(), camera.axes[:, 2].tolist()
    xs, ys = np.arange(left, right, dtype=np.float32) + 0.5, (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
    run = 0.0
    spotted = bool(capsules.spots.any())
    # Plain floats, because a float64 scalar would turn every float32 array into float64.
    ends = (
        ax,
        ay,
        az,
        bx - ax,
        by - ay,
        bz - az,
        ra,
        rb,
        capsules.wool,
        capsules.spots,
        x0 - left,
        x1 - left,
        y0 - top,
        y1 - top,
    )
    for i, (px0, py0, pz0, dx, dy, dz, r0, r1, wool, spots, xa, xb, ya, yb) in enumerate(
        zip(*(e.tolist() for e in ends), strict=True)
    ):
        where = slice(int(ya), int(yb)), slice(int(xa), int(xb))
        px, py = xs[where[1]] - px0, ys[where[0]] - py0
        if px.size == 0 or py.size == 0:
            continue
        length = max(math.hypot(dx, dy), 1e-3)
        ux, uy, slope, taper = dx / length, dy / length, dz / length, (r1 - r0) / length
        # Of all spheres along the axis, the one whose front is nearest to the camera at this pixel: for constant radius R (in the
        # plane of the line of sight and the axis) the minimum of slope * s - sqrt(R² - (along - s)²).
        along, across = px * ux + py * uy, px * uy - py * ux
        inner = np.sqrt(np.maximum((max(r0, r1) * (1 + wool)) ** 2 - across * across, 0))
        s = np.clip(along - slope / math.sqrt(1 + slope * slope) * inner, 0, length)
        r = (r0 + taper * s) * (1 + wool)
        qx, qy = px - s * ux, py - s * uy
        square = qx * qx + qy * qy
        front = np.sqrt(np.maximum(r * r - square, 0))
        bump: F32 | float = 0.0
        if wool > 0:
            # The texture is fixed to the body: its rows go around the axis from the back down the left, its columns along it.
            lateral = qx * side[0] + qy * side[1] - front * side[2]
            upward = qx * up[0] + qy * up[1] - front * up[2]
            stretch = math.sqrt(1 + slope * slope) / unit * _PER_METRE
            lengthwise = (s + (qx * ux + qy * uy - front * slope) * 0.7) * stretch + run
            # A cheap stand-in for the angle around the axis, -2 .. 2: its share of a square's outline.
            around = lateral / (np.abs(lateral) + np.abs(upward) + 1e-6)
            around = np.where(upward < 0, np.copysign(2, lateral) - around, around) * (_TILE / 4)
            texel = (around.astype(np.int32) & (_TILE - 1)) * _TILE + (lengthwise.astype(np.int32) & (_TILE - 1))
            bump = lumps.take(texel)
            r *= (1 + wool * bump) * (1 / (1 + wool))
            front = np.sqrt(np.maximum(r * r - square, 0))
            run += length * stretch
        z = (pz0 + slope * s) - front
        seen = (square < r * r) & (z < depth[where])
        r = 1 / np.maximum(r, 1e-6)
        np.copyto(depth[where], z, where=seen)
        np.copyto(part[where], i + 1, where=seen)
        np.copyto(normal[0][where], qx * r, where=seen)
        np.copyto(normal[1][where], qy * r, where=seen)
        np.copyto(normal[2][where], -front * r, where=seen)
        np.copyto(shade[where], bump, where=seen)
        if spotted:
            np.copyto(spot[where], blotches.take(texel) < spots if spots > 0 else 0, where=seen)

    return _shade(capsules, light, camera, part, normal, shade, spot, left // ss, top // ss, middle)


def _clip(low: F64, high: F64, limit: int) -> tuple[F64, F64]:
    return np.clip(np.floor(low), 0, limit), np.clip(np.ceil(high) + 1, 0, limit)


def _shade(
    capsules: Capsules,
    light: Light,
    camera: Camera,
    part: NDArray[np.int16],
    normal: F32,
    bump: F32,
    spot: F32,
    x: int,
    y: int,
    depth: float,
) -> Patch:
    """Lambert light from the sun, sky light from above, a little darkening towards the outline and between the lumps of fleece."""
    sun, up = (camera.axes @ light.towards).astype(np.float32), camera.axes[:, 2].astype(np.float32)
    direct = np.maximum(normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2], 0)
    above = 0.62 + 0.38 * (normal[0] * up[0] + normal[1] * up[1] + normal[2] * up[2])
    texture = (0.82 - 0.18 * normal[2]) * (1 + 0.3 * bump)
    inside = (part > 0).astype(np.float32)
    direct *= texture * inside
    above *= texture * inside
    palette = np.concatenate([np.zeros((1, 3), np.float32), capsules.colour])
    cover = _average(inside)
    colour = np.empty((*cover.shape, 3), np.float32)
    for channel in range(3):
        albedo = palette[:, channel][part]
        if capsules.spots.any():
            albedo += spot * (capsules.second[channel] - albedo)
        lit = albedo * (direct * np.float32(light.sun[channel]) + above * np.float32(light.sky[channel]))
        colour[..., channel] = _average(lit)
    colour /= np.maximum(cover, 1e-6)[..., None]
    np.sqrt(colour, out=colour)
    return Patch(x, y, np.minimum(colour * 255, 255, dtype=np.float32), cover, depth)


def _average(values: F32) -> F32:
    ss = OVERSAMPLING
    rows = values[0::ss] + values[1::ss]
    return (rows[:, 0::ss] + rows[:, 1::ss]) * np.float32(1 / ss**2)


def paste(picture: NDArray[np.uint8], patch: Patch) -> None:
    """Blend ``patch`` into ``picture`` in place."""
    h, w = patch.cover.shape
    under = picture[patch.y : patch.y + h, patch.x : patch.x + w]
    cover = patch.cover[..., None]
    under[...] = (under + cover * (patch.colour - under) + 0.5).astype(np.uint8)


@lru_cache(maxsize=1)
def fleece_tiles() -> tuple[F32, F32]:
    """Two textures that wrap around: rounded lumps (-1..1), and smooth noise by rank (0..1, so that a threshold is a share)."""
    rng = np.random.default_rng(20)
    cells = 26
    centre = (
        np.stack(np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"), -1) + rng.uniform(0.1, 0.9, (cells, cells, 2))
    ) / cells
    grid = (np.arange(_TILE) + 0.5) / _TILE
    y, x = np.meshgrid(grid, grid, indexing="ij")
    cy, cx = (y * cells).astype(int), (x * cells).astype(int)
    nearest = np.full((_TILE, _TILE), np.inf)
    for oy in (-1, 0, 1):
        for ox in (-1, 0, 1):
            point = centre[(cy + oy) % cells, (cx + ox) % cells]
            gap = np.abs(np.stack([y, x], -1) - point)
            gap = np.minimum(gap, 1 - gap)
            nearest = np.minimum(nearest, (gap**2).sum(-1))
    lumps = 1 - 2 * np.sqrt(nearest) / np.sqrt(nearest.max())
    lumps = lumps - lumps.mean()
    smooth = tile_noise(_TILE, 6, rng) + 0.5 * tile_noise(_TILE, 12, rng)
    rank = np.empty(smooth.size, np.float32)
    rank[np.argsort(smooth, axis=None, kind="stable")] = np.linspace(0, 1, smooth.size, dtype=np.float32)
    return (lumps / np.abs(lumps).max()).astype(np.float32), rank.reshape(smooth.shape)


def tile_noise(side: int, cells: int, rng: np.random.Generator) -> F64:
    """Smooth noise of unit variance, ``side`` pixels square with ``cells`` bumps along a side, that wraps around."""
    knots = rng.standard_normal((cells, cells))
    where = np.arange(side) / side * cells
    i, part = where.astype(int), where % 1
    part = part * part * (3 - 2 * part)
    rows = knots[i] * (1 - part)[:, None] + knots[(i + 1) % cells] * part[:, None]
    noise = rows[:, i] * (1 - part) + rows[:, (i + 1) % cells] * part
    wave: F64 = noise / max(float(noise.std()), 1e-9)
    return wave
