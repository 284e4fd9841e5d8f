"""Difficult filming, imitated: a sequence with masks made harder, the same way for the same seed.

As if a shaky camera panned after an animal that runs slalom between poles: frames are skipped, the window jumps and blurs, poles pass
before and behind the subject, and in about half of the sequences a copy of the subject from another time crosses behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

WINDOW = 0.75  # of either side of the picture that the camera sees
JUMP = 0.15  # of the window's width: how far it may move between two frames
SHUTTER = 0.25  # share of the time between two frames that the shutter is open
COLOURS = ((235, 235, 235), (200, 40, 35), (40, 60, 150), (45, 40, 38), (150, 115, 75), (225, 190, 40))


def _centre(mask: Mask) -> NDArray[np.float64]:
    """(x, y) of the middle of the mask's pixels."""
    return np.array([places.mean() for places in np.nonzero(mask)[::-1]])


def _camera(truths: Sequence[Mask], rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[N, 2], top left corner of the window in each frame: it follows the subject with a shaking hand."""
    height, width = truths[0].shape
    size = WINDOW * np.array([width, height])
    reach = JUMP * size[0] * np.array([1.0, 0.5])
    corners: list[NDArray[np.float64]] = []
    for mask in truths:
        shake = rng.uniform(-reach, reach)
        aim = _centre(mask) - size / 2 if mask.any() else corners[-1]
        step = aim + shake - corners[-1] if corners else shake
        corner = (corners[-1] if corners else aim) + np.clip(step, -reach, reach)
        corners.append(np.clip(corner, 0, [width, height] - size))
    return np.array(corners)


def _add_poles(pictures: list[Picture], truths: list[Mask], rng: np.random.Generator) -> None:
    """Poles that pass the subject, about two in three before it and the others behind it."""
    height, width = truths[0].shape
    speed = rng.uniform(0.03, 0.1) * width * rng.choice([-1, 1])
    far = abs(speed) * len(pictures)
    at = -far
    while at < width + far:
        at += rng.uniform(0.1, 0.3) * width
        thick, top = round(rng.uniform(0.008, 0.045) * width), round(rng.uniform(0, 0.3) * height)
        colour, other = rng.choice(len(COLOURS), 2, replace=False)
        stripe = rng.integers(20, 60) if rng.random() < 0.5 else height
        before = rng.random() < 2 / 3
        body = np.where((np.arange(top, height) // stripe % 2 == 0)[:, None], COLOURS[colour], COLOURS[other]).astype(np.uint8)
        light = (0.7 + 0.3 * np.sin(np.pi * (np.arange(thick) + 0.5) / thick))[None, :, None]
        pole = (body[:, None] * light).astype(np.uint8)
        for i, (picture, truth) in enumerate(zip(pictures, truths, strict=True)):
            left = round(at + speed * i)
            cut = slice(max(0, -left), max(0, min(thick, width - left)))
            x = slice(left + cut.start, left + cut.stop)
            if cut.start >= cut.stop:
                continue
            shown = np.ones_like(truth[top:, x]) if before else ~truth[top:, x]
            picture[top:, x][shown] = pole[:, cut][shown]
            if before:
                truth[top:, x] = False


def _add_double(pictures: list[Picture], truths: Sequence[Mask], rng: np.random.Generator) -> None:
    """A copy of the subject, of another time, that crosses behind it."""
    height, width = truths[0].shape
    other = int(rng.integers(len(pictures)))
    y, x = np.nonzero(truths[other])
    box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
    shape, look = truths[other][box].copy(), pictures[other][box].copy()
    if rng.random() < 0.5:
        shape, look = shape[:, ::-1], look[:, ::-1]
    meeting, speed = rng.uniform(0.3, 0.7) * len(pictures), rng.uniform(0.03, 0.08) * width * rng.choice([-1, 1])
    for i, (picture, truth) in enumerate(zip(pictures, truths, strict=True)):
        if not truth.any():
            continue
        middle = _centre(truth) + np.array([speed * (i - meeting), rng.uniform(-0.03, 0.03) * height])
        left, top = np.round(middle - np.array(shape.shape[::-1]) / 2).astype(int)
        rows, columns = np.nonzero(shape)
        inside = (rows + top >= 0) & (rows + top < height) & (columns + left >= 0) & (columns + left < width)
        rows, columns = rows[inside], columns[inside]
        free = ~truth[rows + top, columns + left]
        rows, columns = rows[free], columns[free]
        picture[rows + top, columns + left] = look[rows, columns]


def _window(corner: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a picture of that shape that the camera sees."""
    height, width = (round(WINDOW * side) for side in shape)
    x, y = np.clip(np.round(corner).astype(int), 0, [shape[1] - width, shape[0] - height])
    return slice(y, y + height), slice(x, x + width)


def harden(pictures: Sequence[Picture], truths: Sequence[Mask], seed: Sequence[int]) -> list[tuple[Picture, Mask]]:
    """Pictures uint8[H, W, 3] with masks bool[H, W], fewer and smaller than those given; the masks show what is not hidden.

    Args:
        seed: numbers that all of the chance follows from.
    """
    rng = np.random.default_rng(seed)
    stride = int(rng.integers(2, 5))
    scenes, masks = [p.copy() for p in pictures[::stride]], [t.copy() for t in truths[::stride]]
    whole = [mask.copy() for mask in masks]
    if rng.random() < 0.5:
        _add_double(scenes, masks, rng)
    _add_poles(scenes, masks, rng)
    corners = _camera(whole, rng)
    height, width = (round(WINDOW * side) for side in masks[0].shape)
    out = []
    for i, (scene, mask) in enumerate(zip(scenes, masks, strict=True)):
        way = SHUTTER * (corners[i] - corners[max(0, i - 1)])
        steps = 1 + int(np.abs(way).max())
        light = np.zeros((height, width, 3))
        for part in np.linspace(-0.5, 0.5, steps) if steps > 1 else (0.0,):
            y, x = _window(corners[i] + part * way, mask.shape)
            light += scene[y, x]
        out.append(((light / steps).round().astype(np.uint8), mask[_window(corners[i], mask.shape)].copy()))
    return out
