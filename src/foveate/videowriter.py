"""Writing video files: short groups of pictures, the same bytes for the same pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError

GOP = 12
"""Pictures from keyframe to keyframe in the files that foveate writes."""

ENCODERS = ("libx264", "libsvtav1", "mjpeg")
"""In order of preference; the first that the installed PyAV carries is used."""


class VideoWriter:
    """Write pictures to a short-GOP mp4: a keyframe every 12 pictures, no B-frames, the same bytes for the same pictures.

    Use it as a context manager; without a clean end the file is not playable.

    Args:
        path: a name ending in .mp4.
        width, height: of the pictures, in pixels; even where ``chroma`` is "420".
        rate: pictures per second that players show.
        crf: quality as libx264 counts it, 0 (lossless) to 51.
        chroma: "420" (colour at half the resolution, plays everywhere) or "444".
        encoder: one of `ENCODERS`; None: the first that is installed.
        comment: kept in the file, read back by `comment_of`.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        rate: Fraction | int = 30,
        crf: int = 18,
        chroma: Literal["420", "444"] = "420",
        encoder: str | None = None,
        comment: str = "",
    ) -> None:
        import av

        encoder = encoder or find_encoder()
        self._container = cast(Any, av.open(str(path), "w", format="mp4"))
        if comment:
            self._container.metadata["comment"] = comment
        self._stream = cast(Any, self._container.add_stream(encoder, rate=rate, options=_options(encoder, crf)))
        self._stream.width, self._stream.height = width, height
        self._format = self._stream.pix_fmt = ("yuvj" if encoder == "mjpeg" else "yuv") + f"{chroma}p"
        context = self._stream.codec_context
        context.thread_count, context.gop_size, context.max_b_frames = (
            1,
            GOP,
            0,
        )  # one thread: several do not repeat their bytes
        context.colorspace, context.color_range = 6, 2 if encoder == "mjpeg" else 1  # BT.601, said in the file
        self._range = context.color_range
        self._count = 0

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture, uint8 [height, width, 3] RGB."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
            format=self._format, dst_colorspace="ITU601", dst_color_range=self._range, interpolation="BICUBIC", threads=1
        )
        frame.pts, frame.time_base = self._count, 1 / Fraction(self._stream.codec_context.framerate)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()


def comment_of(path: Path) -> str:
    """The comment in a video file; nothing where there is none, or no readable file."""
    import av
    import av.error

    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment", "")
    except (av.error.FFmpegError, OSError):
        return ""


def find_encoder() -> str:
    """The preferred encoder among those that the installed PyAV carries."""
    import av

    for name in ENCODERS:
        if name in av.codecs_available:
            return name
    raise FoveateError(
        "PyAV cannot write video: no " + ", ".join(ENCODERS), remedy="install PyAV from its wheel: pip install av"
    )


def _options(encoder: str, crf: int) -> dict[str, str]:
    if encoder == "libx264":
        # mbtree off: with it, libx264 gives other bytes now and then for the same pictures, even on one thread (4 of 150 runs).
        return {"crf": str(crf), "preset": "medium", "sc_threshold": "0", "mbtree": "0"}
    if encoder == "libsvtav1":  # counts quality from 0 to 63; pred-struct 1 = no pictures out of order
        return {"crf": str(round(crf * 63 / 51)), "preset": "8", "svtav1-params": "lp=1:pred-struct=1:scd=0"}
    return {"qmin": "2", "qmax": "2"}
