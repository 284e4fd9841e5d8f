"""Whole pictures with the mask of a subject beside them: a project's views and tracks, or folders of pictures and of masks.

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
from foveate.masks import Mask
from foveate.project import Project, Video
from foveate.schema import FoveateError

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


def folder_sources(pictures: Path, masks: Path, every: float = 1 / 24, short_side: int = 288) -> list[Source]:
    """Folders of frames, one for each clip, with folders of mask pictures of the same names beside them, as DAVIS has them.

    A mask belongs to the frame whose file has its stem; what is not black is subject. One of another size than its frame, but of the same
    shape, is made as large; frames without a mask are frames without a subject, and it is said how many.

    Args:
        pictures: holds one folder of frames for each clip.
        masks: holds folders of the same names.
        every: seconds from one frame to the next.
        short_side: of the frames, see ``folder_source``.

    Raises:
        FoveateError: no clip has masks, or a mask cannot be read or is of another shape than its frame.
    """
    found, without, frames = [], 0, 0
    for folder in sorted(path for path in pictures.iterdir() if path.is_dir()) if pictures.is_dir() else ():
        if not (masks / folder.name).is_dir():
            continue
        source = folder_source(folder, short_side)
        names = [path.stem for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file()]
        files = {path.stem: path for path in (masks / folder.name).glob("*.png")}
        height, width = source.read(0, 1)[0].shape[:2]
        size = height, width
        runs = [None if name not in files else rle_masks.encode(read_mask(files[name], size)) for name in names]
        without, frames = without + runs.count(None), frames + len(runs)
        count = len(source)
        found.append(
            replace(
                source,
                name=folder.name,
                video=folder.name,
                subject=folder.name,
                size=size,
                frame=np.arange(count),
                time=(np.arange(count) * every).astype(np.float64),
                rles=pa.array(runs, pa.binary()),
                read=partial(_same_size, source, size),
            )
        )
    if not found:
        raise FoveateError(
            f"no folder in {pictures} has one of its name in {masks}",
            file=masks,
            remedy="put the frames of each clip into a folder, and its masks into one of the same name",
        )
    if without:
        _log.warning(
            "%d of %d frames in %s have no mask; clips that begin with one are not constrained", without, frames, masks
        )
    return found


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
