"""Whole pictures with the mask of a subject beside them: a project's views and tracks, or a folder of clips and one of masks.

Contrast that looks at subjects needs what surrounds them, too; so an item is one subject in its whole view.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks as rle_masks
from foveate import timeline, track
from foveate.data.sources import PICTURES, Source, folder_source, view_sources
from foveate.data.views import stored_size
from foveate.init import SUFFIXES
from foveate.masks import Mask
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import View
from foveate.video import Timeline, read_frames, read_timeline

VIDEOS = tuple(sorted(SUFFIXES))
_log = logging.getLogger("foveate")
_ALIKE = 0.02  # how much the shape of a mask may differ from that of its picture


def subject_sources(project: Project, videos: Sequence[Video]) -> list[Source]:
    """A source for each part of the views' store and each subject that is seen in it, with the masks of its track.

    Raises:
        FoveateError: views or tracks of a video are missing, out of date or damaged.
    """
    found: list[Source] = []
    for video in videos:
        tracks = track.artefact(project, video)
        if not tracks.complete():
            raise FoveateError("stage track is missing or out of date", file=tracks.folder, remedy="run `foveate run`")
        parts = view_sources(project, [video])
        masks: dict[tuple[str, str], dict[int, bytes]] = {}
        for name in tracks.files(".parquet"):
            if not name.startswith("part-"):
                continue
            rows = tracks.table(name).select(["view", "subject", "frame", "rle"])
            for view, subject, frame, rle in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                if rle is not None:
                    masks.setdefault((view, subject), {})[frame] = rle
        sizes = {name: (box.h, box.w) for name, box in timeline.views(project, video).items()}
        for (view, subject), known in masks.items():
            found += [_with_masks(part, subject, known, sizes[view]) for part in parts if part.name.split("/")[-2] == view]
    return found


def _with_masks(part: Source, subject: str, known: dict[int, bytes], size: tuple[int, int]) -> Source:
    """The source with a subject's masks, at the stored size."""
    runs = [known.get(frame) for frame in part.frame.tolist()]
    stored = [None if run is None else _resized(run, size, part.size) for run in runs]
    head, _, tail = part.name.rpartition("/")
    return replace(part, name=f"{head}/{subject}/{tail}", subject=subject, rles=pa.array(stored, pa.binary()))


def _resized(run: bytes, size: tuple[int, int], stored: tuple[int, int]) -> bytes:
    return run if size == stored else rle_masks.encode(rle_masks.resample(rle_masks.decode(run, *size), *stored))


def folder_sources(
    footage: Path, masks: Path | None = None, every: float = 1 / 24, short_side: int = 288, together: int = 1
) -> list[Source]:
    """A folder of many short clips, videos or folders of frames, with a folder of mask pictures for each beside them.

    Masks lie in ``masks/<clip>/*.png``, what is not black is subject. Of a clip that is a folder of frames a mask belongs to the frame
    whose file has its stem, as DAVIS has them; of a video its name is the number of the frame, from 1, as PreViTS's code has them. A mask
    of another size than its frame, but of the same shape, is made as large; frames without a mask are frames without a subject, and it is
    said how many. A clip that cannot be read is left out, and named.

    Args:
        footage: holds the clips.
        masks: holds folders of their names; None: nobody is anywhere.
        every: seconds from one picture of a folder to the next; videos know their own times.
        short_side: of the pictures, see ``folder_source``.
        together: frames of a video best read at once.

    Raises:
        FoveateError: no clip can be read, none has masks, or a mask cannot be read or is of another shape than its frame.
    """
    if not footage.is_dir():
        raise FoveateError("no such folder", file=footage, remedy="name a folder of videos, or of folders of frames")
    found, without, frames = [], 0, 0
    for path in sorted(footage.iterdir()):
        if not path.is_dir() and path.suffix.lower() not in VIDEOS:
            continue
        try:
            source, names = _frames(path, every, short_side) if path.is_dir() else _video(path, short_side, together)
        except FoveateError as error:
            _log.warning("left out: %s", error)
            continue
        if masks is not None:
            files = _files(masks / source.name, by_number=not path.is_dir())
            runs = [None if name not in files else rle_masks.encode(read_mask(files[name], source.size)) for name in names]
            without, frames = without + runs.count(None), frames + len(runs)
            source = replace(source, rles=pa.array(runs, pa.binary()))
        found.append(source)
    if not found:
        raise FoveateError(
            "there is no clip in this folder", file=footage, remedy=f"videos ({' '.join(VIDEOS)}), or folders of frames"
        )
    if masks is not None and without == frames:
        raise FoveateError(
            f"no clip in {footage} has masks in {masks}",
            file=masks,
            remedy="masks of a clip lie in a folder of its name: 00001.png for a video's first frame, a frame's own name in folders",
        )
    if without:
        _log.warning(
            "%d of %d frames in %s have no mask; clips that begin with one are not constrained", without, frames, masks
        )
    return found


def _files(folder: Path, by_number: bool) -> dict[str, Path]:
    """Mask files of a clip by what tells their frame: a number without leading zeros, or a stem."""
    found = {path.stem: path for path in folder.glob("*.png")}
    return {stem.lstrip("0"): path for stem, path in found.items()} if by_number else found


def _frames(folder: Path, every: float, short_side: int) -> tuple[Source, list[str]]:
    """A folder of frames, and their stems."""
    source = folder_source(folder, short_side)
    names = [path.stem for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file()]
    height, width = source.read(0, 1)[0].shape[:2]
    size, count = (height, width), len(source)
    return (
        replace(
            source,
            name=folder.name,
            video=folder.name,
            subject=folder.name,
            size=size,
            frame=np.arange(count),
            time=(np.arange(count) * every).astype(np.float64),
            read=partial(_same_size, source, size),
        ),
        names,
    )


def _video(path: Path, short_side: int, together: int) -> tuple[Source, list[str]]:
    """A video, read where it lies, and the numbers of its frames from 1."""
    clock = read_timeline(path)
    width, height = stored_size(View(x=0, y=0, w=clock.width, h=clock.height), short_side)
    count = len(clock) if clock.damaged_after is None else int(np.searchsorted(clock.time, clock.damaged_after))
    if not count:
        raise FoveateError("none of its pictures can be read", file=path, remedy="fetch the file again")
    return (
        Source(
            name=path.stem,
            video=path.stem,
            subject=path.stem,
            size=(height, width),
            frame=np.arange(count),
            time=clock.time[:count].astype(np.float64),
            valid=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
            read=partial(_read_video, path, clock, (width, height)),
            together=together,
        ),
        [str(number) for number in range(1, count + 1)],
    )


def _read_video(path: Path, clock: Timeline, size: tuple[int, int], start: int, count: int) -> list[NDArray[np.uint8]]:
    return list(read_frames(path, clock, np.arange(start, start + count), size=size))


def _same_size(source: Source, size: tuple[int, int], start: int, count: int) -> list[NDArray[np.uint8]]:
    pictures = list(source.read(start, count))
    wrong = next((picture.shape for picture in pictures if picture.shape[:2] != size), None)
    if wrong is not None:
        raise FoveateError(
            f"a frame has {wrong[1]} x {wrong[0]} pixels, others {size[1]} x {size[0]}",
            file=source.name,
            remedy="frames of a clip are of one size: put others into a folder of their own",
        )
    return pictures


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """bool[height, width] of a picture file, what is not black, at ``size``.

    Raises:
        FoveateError: it cannot be opened, or is of another shape.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image if image.mode == "P" else image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FoveateError("this mask cannot be opened", file=path, remedy="remove it, or save it again") from error
    mask: Mask = pixels > 0
    if mask.shape == size:
        return mask
    shape = (mask.shape[1] / mask.shape[0]) / (size[1] / size[0])
    if abs(shape - 1) > _ALIKE:
        raise FoveateError(
            f"this mask has {mask.shape[1]} x {mask.shape[0]} pixels, which is not the shape of its frame ({size[1]} x {size[0]})",
            file=path,
            remedy="make masks of whole frames",
        )
    return rle_masks.resample(mask, *size)
