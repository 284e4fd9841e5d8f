"""Where pictures to train on come from: a project's crops, its whole views, or a folder of pictures; all in one form.

A source is a row of pictures that lie together, such as one file of the crop store. Reading a store picture by picture is slow, and
reading it in order fast, so a source says how many are best read at once (`Source.together`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import crops, framestore
from foveate.data import views
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.store import Artefact
from foveate.videowriter import GOP

Read = Callable[[int, int], Sequence[NDArray[np.uint8]]]
"""From the first picture's position and a number of pictures to as many u8[H, W, 3], RGB."""

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_ORIENTATION = 0x0112  # EXIF; from 5 on the picture lies on its side
_RECTANGLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Source:
    """N pictures that lie together."""

    name: str  # for people: the file, or video, view and subject
    video: str
    subject: str  # empty: a whole view, or a picture of nobody in particular
    size: tuple[int, int]  # height and width of the largest picture
    frame: NDArray[np.int64]  # [N] of the video
    time: NDArray[np.float64]  # [N] seconds since the video's first frame; NaN for single pictures
    valid: NDArray[np.float32]  # [N, 4] x0, y0, x1, y1 in 0..1: the part that is content
    read: Read
    together: int = GOP  # pictures best read at once, beginning at a multiple of that
    rles: pa.Array | None = field(default=None, repr=False)  # [N] run lengths of the subject's mask, or null

    def __len__(self) -> int:
        return len(self.frame)


def crop_sources(project: Project, videos: Sequence[Video]) -> list[Source]:
    """One source per video, view, subject and part of the crop store; in crop mode ``paper`` the content is the published rectangle.

    Raises:
        FoveateError: the crops of a video are missing, out of date or damaged.
    """
    return [source for video in videos for source in _crops(project, video)]


def _crops(project: Project, video: Video) -> Iterator[Source]:
    store, size = _finished(crops.artefact(project, video)), project.config.crop.size
    box = "rect" if project.config.crop.mode == "paper" else "valid"
    for name in store.files(".parquet"):
        index = store.table(name)
        if not len(index):
            continue
        x, y, w, h = (index[f"{box}_{side}"].to_numpy() / size for side in "xywh")
        path = store.checked(name.removesuffix(".parquet") + ".mp4")
        yield Source(
            name=f"{video.name}/{name.removesuffix('.parquet')}",
            video=video.name,
            subject=index["subject"][0].as_py(),
            size=(size, size),
            frame=index["frame"].to_numpy(),
            time=index["time"].to_numpy(),
            valid=np.column_stack([x, y, x + w, y + h]).clip(0, 1).astype(np.float32),
            read=partial(read_store, path),
            rles=index["rle"].combine_chunks(),
        )


def view_sources(project: Project, videos: Sequence[Video]) -> list[Source]:
    """One source per video, view and part of the store of whole views (`views.run` makes it).

    Raises:
        FoveateError: the views of a video are missing, out of date or damaged.
    """
    return [source for video in videos for source in _views(project, video)]


def _views(project: Project, video: Video) -> Iterator[Source]:
    store = _finished(views.artefact(project, video))
    for name in store.files(".parquet"):
        index = store.table(name)
        yield Source(
            name=f"{video.name}/{name.removesuffix('.parquet')}",
            video=video.name,
            subject="",
            size=tuple(store.facts()["sizes"][index["view"][0].as_py()]),
            frame=index["frame"].to_numpy(),
            time=index["time"].to_numpy(),
            valid=np.tile(np.array(_RECTANGLE, np.float32), (len(index), 1)),
            read=partial(read_store, store.checked(name.removesuffix(".parquet") + ".mp4")),
        )


def read_store(path: Path, start: int, count: int) -> Sequence[NDArray[np.uint8]]:
    """Pictures of a store file, u8[H, W, 3] each, see `Read`."""
    return list(framestore.read_clip(path, start, count))


def _finished(store: Artefact) -> Artefact:
    if not store.complete():
        raise FoveateError(f"stage {store.stage} is missing or out of date", file=store.folder, remedy="run `foveate run`")
    return store


def folder_source(folder: Path, short_side: int = 256) -> Source:
    """The picture files in ``folder`` and its subfolders, in the order of their names.

    Args:
        folder: of pictures (``PICTURES``).
        short_side: pictures with a longer one are made smaller, so that it has so many pixels; none is enlarged.

    Raises:
        FoveateError: there is no such folder, no picture in it, or one that cannot be opened.
    """
    if not folder.is_dir():
        raise FoveateError("no such folder", file=folder, remedy="name a folder of pictures")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not paths:
        known = " ".join(PICTURES)
        raise FoveateError("there is no picture in this folder", file=folder, remedy=f"endings that are known: {known}")
    sizes = [_size_of(path, short_side) for path in paths]
    return Source(
        name=folder.name,
        video="",
        subject="",
        size=(max(height for height, _ in sizes), max(width for _, width in sizes)),
        frame=np.full(len(paths), -1),
        time=np.full(len(paths), np.nan),
        valid=np.tile(np.array(_RECTANGLE, np.float32), (len(paths), 1)),
        read=partial(_read_pictures, paths, sizes),
        together=1,
    )


def _size_of(path: Path, short_side: int) -> tuple[int, int]:
    """Height and width that the picture is read at; opens no more than its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            lies = image.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error
    scale = min(1.0, short_side / min(width, height))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return size[::-1] if lies else size


def _read_pictures(paths: list[Path], sizes: list[tuple[int, int]], start: int, count: int) -> list[NDArray[np.uint8]]:
    return [_read_picture(paths[k], sizes[k]) for k in range(start, start + count)]


def _read_picture(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", size[::-1])  # JPEG: decoded at a half, a quarter, ... where that is large enough
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> FoveateError:
    return FoveateError("this picture cannot be opened", file=path, remedy="remove it, or save it again")
