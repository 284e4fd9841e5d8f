"""Whether the camera moves: how far most of the picture is shifted from one frame to the next, by phase correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOVES = 0.25
"""A camera that shifts the picture by more than this many patches, in the median over pairs of frames, is a moving one: from there on
attention changes everywhere, and not only where something moves."""

_SIDE = 112  # pixels; larger pictures are looked at in every second, third, ... pixel


def shift(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, float]:
    """How far, in pixels to the right and down, ``other`` shows what ``one`` shows: two grey or colour pictures u8[H, W(, 3)].

    Phase correlation (Kuglin and Hines 1975) under a Hann window: the offset at which most of the picture fits, to a pixel of a picture of
    about ``_SIDE`` pixels. Things that move by themselves do not count unless they fill the picture. 0 where a picture is of one colour.
    """
    step = max(1, min(one.shape[:2]) // _SIDE)
    first, second = (_prepared(picture[::step, ::step]) for picture in (one, other))
    cross = np.fft.rfft2(second) * np.conj(np.fft.rfft2(first))
    size = np.abs(cross)
    if size.max() < 1e-9:
        return 0.0, 0.0
    peak = np.fft.irfft2(cross / np.maximum(size, 1e-9 * size.max()), s=first.shape)
    down, right = np.unravel_index(int(peak.argmax()), peak.shape)
    height, width = peak.shape
    return step * _signed(int(right), width), step * _signed(int(down), height)


def _signed(offset: int, size: int) -> float:
    return float(offset - size if offset > size // 2 else offset)


def _prepared(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = picture.mean(-1) if picture.ndim == 3 else picture.astype(np.float64)
    grey = grey - grey.mean()
    window: NDArray[np.float64] = grey * np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])
    return window


def moves(shifts: NDArray[np.floating], patch: float) -> bool:
    """Whether lengths of shifts ``[N]`` in pixels (NaN: not known) are those of a moving camera, for patches of so many pixels."""
    known = shifts[~np.isnan(shifts)]
    return len(known) > 0 and float(np.median(known)) > MOVES * patch
