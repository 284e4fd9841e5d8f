"""The framestore: crops (and clips) kept as short-GOP mp4, written by `VideoWriter`, read back in order or from any picture on.

A picture is named by its 0-based position in the file. Keyframes lie 12 pictures apart and nothing refers forward, so a clip costs at
most 11 pictures of run-up; single pictures at random cost more than whole groups in order, so shuffle groups, not pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError
from foveate.store import damaged
from foveate.video import opened

Picture = NDArray[np.uint8]


def read_crops(path: Path) -> Iterator[Picture]:
    """All pictures of a store file in order, uint8 [size, size, 3] RGB.

    Raises:
        FoveateError: the file is missing or damaged.
    """
    return _pictures(path, 0)


def read_clip(path: Path, start: int, count: int) -> NDArray[np.uint8]:
    """Pictures ``start .. start + count - 1``, uint8 [count, size, size, 3] RGB.

    Raises:
        FoveateError: the file is missing, damaged, or ends before that.
    """
    if start < 0 or count < 1:
        raise ValueError(f"a clip begins at 0 or later and has a picture, got start {start}, count {count}")
    pictures = list(islice(_pictures(path, start), count))
    if len(pictures) < count:
        raise damaged(path)
    return np.stack(pictures)


def _pictures(path: Path, start: int) -> Iterator[Picture]:
    import av.error

    try:
        with opened(path) as (container, stream):
            ticks = 1 / (stream.average_rate * stream.time_base)  # from picture to picture
            if start:
                container.seek(round(start * ticks), stream=stream)
            following = start
            for frame in container.decode(stream):
                position = round(frame.pts / ticks)
                if position < start:
                    continue
                if position != following:
                    raise damaged(path)
                following += 1
                yield _rgb(frame)
    except av.error.FFmpegError as error:
        raise damaged(path) from error
    except FoveateError as error:  # the words of `opened` are about footage
        raise damaged(path) from error


def _rgb(frame: Any) -> Picture:
    array: Picture = frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1)
    return np.ascontiguousarray(array)
