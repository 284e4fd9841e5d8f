"""Where pictures to train on come from: a project's crops, its whole views, or a folder of pictures; all in one form.

A source is a row of pictures that lie together, such as one file of the crop store. Reading a store picture by picture is slow, and
reading it in order fast, so a source says how many are best read at once (`Source.together`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import crops, framestore, timeline, track
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
    view: str = ""
    stretch: NDArray[np.int64] | None = (
        None  # [N] rising numbers of the unbroken stretches of footage: no clip crosses cuts and gaps
    )
    files: tuple[int, ...] = (0,)  # positions at which its files begin

    def __len__(self) -> int:
        return len(self.frame)


def joined(sources: Sequence[Source]) -> list[Source]:
    """The sources with the parts of one video, view and subject put together, so that clips reach from one file into the next."""
    found: list[Source] = []
    for video, group in groupby(sources, key=lambda one: (one.video, one.view, one.subject, one.name.rpartition("/")[0])):
        parts = list(group)
        found += [_joined(parts)] if video[0] and len(parts) > 1 else parts
    return found


def _joined(parts: Sequence[Source]) -> Source:
    first, lengths = parts[0], [len(part) for part in parts]
    begins = np.concatenate([[0], np.cumsum(lengths)])

    def read(start: int, count: int) -> Sequence[NDArray[np.uint8]]:
        pictures: list[NDArray[np.uint8]] = []
        for k in range(int(np.searchsorted(begins, start, "right")) - 1, len(parts)):
            low, high = max(start - begins[k], 0), min(start + count - begins[k], lengths[k])
            if low < high:
                pictures += parts[k].read(int(low), int(high - low))
        return pictures

    stretches = [part.stretch for part in parts if part.stretch is not None]
    masks = [part.rles for part in parts if part.rles is not None]
    return replace(
        first,
        name=first.name.rpartition("/")[0],
        frame=np.concatenate([part.frame for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        valid=np.concatenate([part.valid for part in parts]),
        read=read,
        rles=pa.concat_arrays(masks) if len(masks) == len(parts) else None,
        stretch=np.concatenate(stretches) if len(stretches) == len(parts) else None,
        files=tuple(int(begin) + file for begin, part in zip(begins[:-1], parts, strict=True) for file in part.files),
    )


def stretches(frame: NDArray[np.int64], analysed: NDArray[np.int64], cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] rising numbers of the unbroken stretches that frames are of: one ends where an analysed frame is missing, and at a cut.

    Args:
        frame: [N] rising numbers of frames, all of them analysed.
        analysed: numbers of all analysed frames.
        cuts: numbers of the frames with which further shots begin.
    """
    missed = np.searchsorted(analysed, frame) - np.arange(len(frame))  # so far
    broken = (np.diff(missed) > 0) | (np.diff(np.searchsorted(cuts, frame, "right")) > 0)
    return np.concatenate([[0], np.cumsum(broken)]).astype(np.int64)[: len(frame)]


def crop_sources(project: Project, videos: Sequence[Video]) -> list[Source]:
    """One source per video, view, subject and part of the crop store; in crop mode ``paper`` the content is the published rectangle.

    Raises:
        FoveateError: the crops of a video are missing, out of date or damaged.
    """
    return [source for video in videos for source in _crops(project, video)]


def _crops(project: Project, video: Video) -> Iterator[Source]:
    store, size = _finished(crops.artefact(project, video)), project.config.crop.size
    box = "rect" if project.config.crop.mode == "paper" else "valid"
    analysed, tracks = timeline.analysed(project, video).frame, track.artefact(project, video)
    for _, names in groupby(store.files(".parquet"), key=lambda name: name.rpartition("/")[0]):
        parts = [(name, index) for name in names if len(index := store.table(name))]
        frames = np.concatenate([np.empty(0, np.int64), *(index["frame"].to_numpy() for _, index in parts)])
        done = 0
        for name, index in parts:
            view, subject = index["view"][0].as_py(), index["subject"][0].as_py()
            stretch = stretches(frames, analysed, track.events.cuts(tracks, view))[done : done + len(index)]
            x, y, w, h = (index[f"{box}_{side}"].to_numpy() / size for side in "xywh")
            yield Source(
                name=f"{video.name}/{name.removesuffix('.parquet')}",
                video=video.name,
                view=view,
                subject=subject,
                size=(size, size),
                frame=index["frame"].to_numpy(),
                time=index["time"].to_numpy(),
                valid=np.column_stack([x, y, x + w, y + h]).clip(0, 1).astype(np.float32),
                read=partial(read_store, store.checked(name.removesuffix(".parquet") + ".mp4")),
                rles=index["rle"].combine_chunks(),
                stretch=stretch,
            )
            done += len(index)


def view_sources(project: Project, videos: Sequence[Video]) -> list[Source]:
    """One source per video, view and part of the store of whole views (`views.run` makes it).

    Raises:
        FoveateError: the views of a video are missing, out of date or damaged.
    """
    return [source for video in videos for source in _views(project, video)]


def _views(project: Project, video: Video) -> Iterator[Source]:
    store, analysed = _finished(views.artefact(project, video)), timeline.analysed(project, video).frame
    facts, done = store.facts(), Counter[str]()
    for name in store.files(".parquet"):
        index = store.table(name)
        view = index["view"][0].as_py()
        here = slice(done[view], done[view] + len(index))
        done[view] += len(index)
        yield Source(
            name=f"{video.name}/{name.removesuffix('.parquet')}",
            video=video.name,
            view=view,
            subject="",
            size=tuple(facts["sizes"][view]),
            frame=index["frame"].to_numpy(),
            time=index["time"].to_numpy(),
            valid=np.tile(np.array(_RECTANGLE, np.float32), (len(index), 1)),
            read=partial(read_store, store.checked(name.removesuffix(".parquet") + ".mp4")),
            stretch=stretches(analysed, analysed, np.array(facts["cuts"][view], np.int64))[here],
        )


def lasting(sources: Sequence[Source], seconds: float, seed: int = 0) -> list[Source]:
    """Sources of ``seconds`` in all: taken at random, as they come, the last one cut off. For sets of equal length of many short videos and
    of one long one (so DoRA compares data sets).

    Args:
        sources: with times.
        seconds: in all; a source lasts from its first picture to its last, and as long again as there is between two.
        seed: of the choice.

    Raises:
        FoveateError: all together are shorter.
    """
    found, left = [], seconds
    for k in np.random.default_rng(seed).permutation(len(sources)).tolist():
        source = sources[k]
        usual = float(np.median(np.diff(source.time))) if len(source) > 1 else 0.0
        until = int(np.searchsorted(source.time, source.time[0] + left - usual / 2))  # pictures that fit
        if until:
            found.append(source if until == len(source) else _beginning(source, until))
        left -= float(source.time[-1] - source.time[0]) + usual
        if left < usual or until < len(source):
            return found
    raise FoveateError(
        f"{seconds:g} s are wanted, and all sources together last {seconds - left:.1f} s", remedy="add footage, or want less"
    )


def _beginning(source: Source, count: int) -> Source:
    """The first pictures of a source."""
    return replace(
        source,
        frame=source.frame[:count],
        time=source.time[:count],
        valid=source.valid[:count],
        rles=None if source.rles is None else source.rles[:count],
        stretch=None if source.stretch is None else source.stretch[:count],
        files=tuple(first for first in source.files if first < count),
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
