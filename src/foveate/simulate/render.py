"""Drawing tapered capsules: exact depth and normals per pixel on the animal's own rectangle, shaded, and averaged down.

Each capsule is drawn with the scale of its own distance (weak perspective). Seen along its axis that misses up to about 3 % of its
area, otherwise far less.
Colours are linear light; a picture shows their square root (a plain stand-in for the sRGB curve).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
    depths: F32 | None = None  # [h, w] metres to what is seen in each pixel; inf where nothing is


def draw(capsules: Capsules, t: int, camera: Camera, light: Light, depths: bool = False) -> Patch | None:
    """Frame ``t`` of ``capsules`` as seen by ``camera``, with the ``depths`` of its pixels if wanted; None when out of the picture."""
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
    sunward, upward, texture, spot = (np.zeros(shape, np.float32) for _ in range(4))
    lumps, blotches = fleece_tiles()
    side, up, sun = ((camera.axes @ v).tolist() for v in (capsules.left[t], np.array([0.0, 0.0, 1.0]), light.towards))
    xs, ys = np.arange(left, right, dtype=np.float32) + 0.5, (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
    per_pixel = _PER_METRE / unit
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
        dx = dx if math.hypot(dx, dy) > 1e-3 else 1e-3  # seen exactly along its axis, which then has no direction
        length = math.hypot(dx, dy)
        ux, uy, slope = dx / length, dy / length, dz / length
        r0, r1 = r0 * (1 + wool), r1 * (1 + wool)
        taper = (r1 - r0) / length
        along, across = px * ux + py * uy, px * uy - py * ux
        beside = across * across
        # A capsule is the spheres of radius r0 + taper * s along its axis. At a pixel the front of one is at slope * s minus the root of
        # (r0 + taper * s)² - (along - s)² - across² = q - m (s - middle of the chord)², m = 1 - taper²; here is the nearest one.
        m = 1 - taper * taper
        if m > 0.04:
            chord, lean = along * (1 / m) + taper * r0 / m, slope / math.sqrt(m * (m + slope * slope))
            q = chord * chord
            q *= m
            q -= along * along
            q -= beside - r0 * r0
            s = np.clip(chord - np.sqrt(np.maximum(q, 0)) * lean, 0, length)
        else:  # so short in the picture that one end covers the other
            near, wide = (0 if slope > 0 else length), (0 if r0 > r1 else length)
            s = np.where((along - near) ** 2 + beside < (r0 + taper * near) ** 2, np.float32(near), np.float32(wide))
        r = s * taper + r0
        ahead = along - s  # (ahead, across, -front) is the normal, times the radius
        square = ahead * ahead + beside
        front = np.sqrt(np.maximum(r * r - square, 0))
        lift = _project(ahead, across, front, up, ux, uy)
        shine = _project(ahead, across, front, sun, ux, uy)
        inv = 1 / np.maximum(r, 1e-6)
        grain = front * inv * 0.18 + 0.82
        if wool > 0:
            # The texture is fixed to the body: rows from the back down both sides, columns along the axis.
            around = (np.abs(_project(ahead, across, front, side, ux, uy)) - lift) * (0.8 * per_pixel)
            stretch = math.sqrt(1 + slope * slope) * per_pixel
            lengthwise = (s + ahead * 0.7 - front * (0.7 * slope)) * stretch + run
            texel = (around.astype(np.int32) & (_TILE - 1)) * _TILE + (lengthwise.astype(np.int32) & (_TILE - 1))
            bump = lumps.take(texel)
            grain *= bump * 0.3 + 1
            # The fleece dips between the lumps: the same pixel looks at a thinner capsule.
            thin = r * (bump * (wool / (1 + wool)) + 1 / (1 + wool))
            if m > 0.04:
                q += thin * thin - r * r
                s = np.clip(chord - np.sqrt(np.maximum(q, 0)) * lean, 0, length)
                ahead = along - s
                square = ahead * ahead + beside
            r = thin
            front = np.sqrt(np.maximum(r * r - square, 0))
            run += length * stretch
        z = s * slope - front
        z += pz0
        seen = (square < r * r) & (z < depth[where])
        np.copyto(depth[where], z, where=seen)
        np.copyto(part[where], i + 1, where=seen)
        np.copyto(upward[where], lift * inv, where=seen)
        np.copyto(sunward[where], shine * inv, where=seen)
        np.copyto(texture[where], grain, where=seen)
        if spotted:
            np.copyto(spot[where], blotches.take(texel) < spots if spots > 0 else 0, where=seen)

    direct, above = np.maximum(sunward, 0) * texture, (upward * 0.38 + 0.62) * texture
    patch = _shade(capsules, light, part, direct, above, spot, left // ss, top // ss, middle)
    if not depths:
        return patch
    rows = np.minimum(depth[0::ss], depth[1::ss])
    return replace(patch, depths=(np.minimum(rows[:, 0::ss], rows[:, 1::ss]) / unit).astype(np.float32))


def _project(along: F32, across: F32, front: F32, axis: list[float], ux: float, uy: float) -> F32:
    """Scalar product of the vectors ``along`` and ``across`` a capsule's axis (ux, uy) and ``front`` towards the camera, with ``axis``."""
    out = along * (axis[0] * ux + axis[1] * uy)
    out += across * (axis[0] * uy - axis[1] * ux)
    out -= front * axis[2]
    return out


def _clip(low: F64, high: F64, limit: int) -> tuple[F64, F64]:
    return np.clip(np.floor(low), 0, limit), np.clip(np.ceil(high) + 1, 0, limit)


def _shade(
    capsules: Capsules,
    light: Light,
    part: NDArray[np.int16],
    direct: F32,
    above: F32,
    spot: F32,
    x: int,
    y: int,
    depth: float,
) -> Patch:
    """Lambert light from the sun and light from the sky, averaged down. ``direct`` and ``above`` are what arrives of each, with the
    texture; they are 0 where nothing is."""
    inside = part > 0
    cover = _average(inside.astype(np.float32))
    palette = np.concatenate([np.zeros((1, 3), np.float32), capsules.colour])
    spotted = bool(capsules.spots.any())
    colour = np.empty((*cover.shape, 3), np.float32)
    for channel in range(3):
        albedo = palette[:, channel].take(part)
        if spotted:
            albedo += spot * (capsules.second[channel] - albedo)
        lit = direct * np.float32(light.sun[channel])
        lit += above * np.float32(light.sky[channel])
        lit *= albedo
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
