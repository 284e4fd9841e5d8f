"""Video files for tests, made with PyAV: any timestamps, B-frames, rotation, sound; and pictures that carry their own number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
_BITS = 12


def numbered(count: int, height: int = 48, width: int = 64, first: int = 0) -> Pictures:
    """[count, height, width, 3]: twelve black or white columns say the picture's number, a square wanders below them; the upper left
    corner is red, the upper right one blue, so that turned and mirrored pictures can be told apart."""
    pictures = np.full((count, height, width, 3), 96, np.uint8)
    top, side = height // 2, max(height // 8, 2)
    for i, picture in enumerate(pictures, first):
        for bit in range(_BITS):
            left, right = bit * width // _BITS, (bit + 1) * width // _BITS
            picture[height // 4 : top, left:right] = 255 if i >> bit & 1 else 0
        picture[: height // 4, : width // 2] = (200, 30, 30)
        picture[: height // 4, width // 2 :] = (30, 30, 200)
        x = 3 * i % (width - side)
        picture[top + side : top + 2 * side, x : x + side] = (240, 240, 60)
    return pictures


def number_of(picture: Pictures) -> int:
    """The number that an upright picture of `numbered` carries, after any lossy coding or scaling."""
    height, width = picture.shape[:2]
    row = picture[height * 3 // 8].mean(axis=-1)
    return sum(int(row[int((bit + 0.5) * width / _BITS)] > 127) << bit for bit in range(_BITS))


def make_video(
    path: Path,
    frames: Iterable[Pictures],
    *,
    fps: float | Fraction = 25,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    gop: int = 12,
    bframes: int = 2,
    crf: int = 18,
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    sound: bool = False,
    container: Mapping[str, str] | None = None,
) -> Path:
    """Write pictures (uint8 [H, W, 3]) to a video file; the container follows from the name.

    Args:
        fps: constant rate, where ``pts`` is not given.
        pts: presentation timestamps in milliseconds, strictly increasing; any start, any spacing.
        bframes: pictures that are stored out of order (libx264 only).
        rotation: degrees clockwise that a player turns the stored picture.
        mirrored: a player mirrors the stored picture left-right before it turns it.
        sound: a second of silence beside the pictures.
        container: options of the container, such as {"movflags": "faststart"}.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"crf": str(crf), "bf": str(bframes), "sc_threshold": "0", "mbtree": "0"} if codec == "libx264" else {}
    rate = Fraction(fps).limit_denominator(100_000)
    with av.open(str(path), "w", options=dict(container or {})) as output:
        stream = output.add_stream(codec, rate=rate, options={**settings, **(options or {})})
        stream.pix_fmt, stream.codec_context.gop_size, stream.codec_context.thread_count = pix_fmt, gop, 1
        base = 1 / rate if pts is None else Fraction(1, 1000)
        stream.codec_context.time_base = base
        if rotation or mirrored:
            stream.set_display_matrix(_matrix(rotation, mirrored))
        track = output.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for i, picture in enumerate(frames):
            if i == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = i if pts is None else pts[i], base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            _silence(output, track)
    return path


def _silence(output: av.container.OutputContainer, track: av.AudioStream) -> None:
    for k in range(47):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 1024 * k, Fraction(1, 48_000)
        output.mux(track.encode(frame))
    output.mux(track.encode(None))


def _matrix(rotation: int, mirrored: bool) -> list[int]:
    """The display matrix (a, b, 0, c, d, 0, 0, 0, 1) with x' = a x + c y, y' = b x + d y: first the mirror, then the turn."""
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[rotation]
    if mirrored:
        a, b = -a, -b
    return [v * 65536 for v in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]


def sound_only(path: Path) -> Path:
    """A file that holds sound and no picture."""
    with av.open(str(path), "w") as output:
        _silence(output, output.add_stream("aac", rate=48_000, layout="mono"))
    return path
