"""Masks: COCO run lengths on disk, boolean arrays in memory.

A mask is ``bool[height, width]``. On disk it is the compressed run-length string of the COCO format (column-major, about 1 KB
per frame), whose size is kept beside it by the table that holds it (``schema.TRACK``, ``schema.CROP_INDEX``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError

Mask = NDArray[np.bool_]


def encode(mask: Mask) -> bytes:
    """COCO compressed run lengths of ``mask`` (bool[H, W])."""
    from pycocotools import mask as coco

    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions, got shape {mask.shape}")
    return bytes(coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])


def decode(rle: bytes, height: int, width: int) -> Mask:
    """The mask bool[height, width] of COCO compressed run lengths.

    Raises:
        FoveateError: when the run lengths do not fill ``height`` x ``width`` pixels.
    """
    runs = _runs(rle)
    if runs.sum() != height * width or (runs < 0).any():
        raise FoveateError(
            f"a stored mask does not have {width}x{height} pixels",
            remedy="the view or the crop size changed after the mask was written; run `foveate run` to make it again",
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _runs(rle: bytes) -> NDArray[np.int64]:
    """Run lengths, zeros first. Each byte less 48 holds five bits, least significant first, and a flag (32) that more follow; the
    number is signed, and from the fourth run on it is the difference to the run before the last (pycocotools' ``rleFrString``;
    read here because its decoder neither notices too short a string nor is silent under NumPy 2)."""
    codes = np.frombuffer(rle, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    last = (codes & 32) == 0
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    values = np.add.reduceat((codes & 31) << (5 * np.minimum(place, 12)), starts)
    ends = np.append(starts[1:], len(codes)) - 1
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * np.minimum(place[ends] + 1, 12)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def area(rle: bytes) -> int:
    """Number of mask pixels, without decoding."""
    return int(_runs(rle)[1::2].sum())


def box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Tight box ``(x, y, w, h)`` in pixels (it covers columns ``x .. x + w - 1``), or None for an empty mask."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def coverage(
    mask: NDArray[np.bool_] | NDArray[np.float32],
    height: int,
    width: int,
    rectangle: tuple[float, float, float, float] | None = None,
) -> NDArray[np.float32]:
    """Share of each cell of a ``height`` x ``width`` grid over ``rectangle`` that ``mask`` covers: float32[height, width].

    ``rectangle`` is ``(x, y, w, h)`` in mask pixels, fractions allowed; it may stick out of the mask, where nothing is covered.
    None is the whole mask. The integral is exact (no sampling), so a subject smaller than a cell does not vanish.
    """
    x, y, w, h = rectangle if rectangle is not None else (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))
    rows = _edges_integral(mask.astype(np.float64), y + h / height * np.arange(height + 1))
    cells = _edges_integral(rows.T, x + w / width * np.arange(width + 1)).T
    return np.clip(cells / (h / height * w / width), 0, 1).astype(np.float32)


def _edges_integral(values: NDArray[np.float64], edges: NDArray[np.floating]) -> NDArray[np.float64]:
    """Integral along axis 0 of the step function ``values`` between consecutive ``edges``; zero outside."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    at = np.clip(edges, 0, len(values))
    low = np.minimum(at.astype(np.intp), len(values) - 1)
    return np.diff(total[low] + (at - low)[:, None] * values[low], axis=0)


def resample(mask: Mask, height: int, width: int, rectangle: tuple[float, float, float, float] | None = None) -> Mask:
    """``mask`` seen through ``rectangle`` (as in ``coverage``) at ``height`` x ``width``: pixels at least half covered."""
    # The slack makes a pixel that is covered by exactly half the same on every side of the picture.
    return coverage(mask, height, width, rectangle) >= 0.5 - 1e-6
