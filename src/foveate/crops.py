"""Stage ``crop``: cut each subject out of its view, as a square of fixed size, and keep the squares as video.

One decode of the footage feeds all views and subjects. Only frames with a box get a crop; the index beside each mp4 says where every
crop comes from, so that view pixels and crop pixels can be mapped onto each other, and holds the mask in crop pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks, timeline, track
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import CROP_INDEX, SEGMENT, FoveateError
from foveate.settings import CropSettings, View
from foveate.store import Artefact, read_parquet, remembered, write_aside, write_parquet
from foveate.video import read_frames
from foveate.videowriter import VideoWriter, find_encoder

VERSION = 1

FILL = (124, 116, 104)
"""Colour beyond the picture: the mean of ImageNet, which the backbones' normalisation turns into zero, so that a letterbox says nothing."""

_GRID = 64  # squares lie on 1/64 of a pixel, so that float32 in the index is exactly what was cut

Boxes = NDArray[np.float64]
"""[N, 4] x, y, w, h."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where N crops come from; the columns of `schema.CROP_INDEX`."""

    source: Boxes  # square in view pixels, may stick out
    valid: Boxes  # the part that is picture, in crop pixels
    rect: Boxes  # the published rectangle, in crop pixels
    scale: NDArray[np.float64]  # [N] crop pixels per view pixel


# --- geometry --------------------------------------------------------------------------------------------------------------------


def published_rectangle(boxes: Boxes, width: int, height: int) -> Boxes:
    """The rectangle of guided DINOv2 (released crop writer): the mask's box with floor(side / 10) more on each side, clipped to the view.

    Deviation: the released code names the last mask column and row, then cuts half-open, and so loses one pixel where the pad is 0;
    here the box has w = last - first + 1 columns and the rectangle always holds all of the mask.
    """
    pad = np.floor(boxes[:, 2:] / 10)
    low = np.maximum(boxes[:, :2] - pad, 0)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] + pad, (width, height))
    return np.concatenate([low, high - low], axis=1)


def geometry(boxes: Boxes, time: NDArray[np.float64], run: NDArray[np.int64], view: View, settings: CropSettings) -> Geometry:
    """Squares around the boxes of one subject in one view.

    Args:
        boxes: [N, 4] tight mask boxes in view pixels.
        time: [N] seconds, increasing.
        run: [N] equal for rows without a gap or a cut between them; smoothing does not reach across.
        view: its size limits the published rectangle and what of a square is picture.
        settings: mode, pad, smooth, size.
    """
    rectangle = published_rectangle(boxes, view.w, view.h)
    low, high = rectangle[:, :2], rectangle[:, :2] + rectangle[:, 2:]
    if settings.mode == "paper":
        side = rectangle[:, 2:].max(axis=1)
        corner = (low + high - side[:, None]) / 2
    else:
        centre = boxes[:, :2] + boxes[:, 2:] / 2
        side = boxes[:, 2:].max(axis=1) * (1 + 2 * settings.pad)
        smooth = smoothed(np.column_stack([centre, side]), time, run, settings.smooth)
        centre, side = smooth[:, :2], smooth[:, 2]
        # Whatever smoothing did, the square holds the published rectangle, and with it the whole mask.
        side = np.maximum(side, 2 * np.maximum(centre - low, high - centre).max(axis=1))
        side = (np.ceil(side * _GRID) + 1) / _GRID
        corner = np.floor((centre - side[:, None] / 2) * _GRID) / _GRID
    scale = settings.size / side
    source = np.column_stack([corner, side, side])
    inside = np.maximum(corner, 0), np.minimum(corner + side[:, None], (view.w, view.h))
    to_crop = partial(_to_crop, corner=corner, scale=scale)
    return Geometry(source, to_crop(*inside), to_crop(low, high), scale)


def _to_crop(low: Boxes, high: Boxes, corner: Boxes, scale: NDArray[np.float64]) -> Boxes:
    return np.concatenate([low - corner, high - low], axis=1) * scale[:, None]


def smoothed(values: Boxes, time: NDArray[np.float64], run: NDArray[np.int64], seconds: float) -> Boxes:
    """Mean of the neighbours in time, weighted 1 - |dt| / seconds, within each run; ``seconds`` = 0 changes nothing.

    The sum is taken from near to far, so a row's result does not depend on how many rows beyond its reach are given.
    """
    total, weight = values.astype(np.float64), np.ones(len(values))
    for step in range(1, len(values) if seconds > 0 else 1):
        near = np.where(run[step:] == run[:-step], np.maximum(seconds - (time[step:] - time[:-step]), 0) / seconds, 0)
        if not near.any():
            break
        total[step:] += near[:, None] * values[:-step]
        total[:-step] += near[:, None] * values[step:]
        weight[step:] += near
        weight[:-step] += near
    result: Boxes = total / weight[:, None]
    return result


def cut(picture: NDArray[np.uint8], source: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The square ``source`` (x, y, w, h in pixels of ``picture``, uint8 [H, W, 3]) as uint8 [size, size, 3], antialiased, letterboxed."""
    from PIL import Image

    x, y, w, h = (float(v) for v in source)
    left, top, right, bottom = int(np.floor(x)), int(np.floor(y)), int(np.ceil(x + w)), int(np.ceil(y + h))
    region = picture[max(top, 0) : bottom, max(left, 0) : right]
    if region.shape[:2] != (bottom - top, right - left):
        canvas = np.full((bottom - top, right - left, 3), FILL, np.uint8)
        canvas[max(-top, 0) :, max(-left, 0) :][: region.shape[0], : region.shape[1]] = region
        region = canvas
    image = Image.fromarray(np.ascontiguousarray(region))
    box = (x - left, y - top, x - left + w, y - top + h)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def cut_mask(rle: bytes, source: NDArray[np.float64], view: View, size: int) -> bytes:
    """The view's mask seen through ``source``, as run lengths of a size x size mask."""
    mask = masks.decode(rle, view.h, view.w)
    x, y, w, h = (float(v) for v in source)
    left, top = max(int(x), 0), max(int(y), 0)
    part = mask[top : int(np.ceil(y + h)), left : int(np.ceil(x + w))]
    return masks.encode(masks.resample(part, size, size, (x - left, y - top, w, h)))


# --- the stage -------------------------------------------------------------------------------------------------------------------


@remembered
def artefact(project: Project, video: Video) -> Artefact:
    """Where the crops of a video are, or will be, with the expected stamp."""
    parents = {"track": track.artefact(project, video).stamp}
    return Artefact(project.stage_folder("crops", video.name), "crop", VERSION, project.config.crop.relevant(), parents)


def run(project: Project, video: Video, progress: Progress = silent) -> Artefact:
    """Cut the crops of one video: ``<view>/<subject>/part-<k>.mp4`` and ``.parquet`` for every part of its track.

    Raises:
        FoveateError: the tracks are not finished or damaged, the footage cannot be read, the disk is full.
    """
    target, tracks = artefact(project, video), track.artefact(project, video)
    if target.complete():
        return target
    if not tracks.complete():
        raise FoveateError("the tracks are missing or out of date", file=tracks.folder, remedy="run `foveate track`")
    target.begin()
    clock, views = timeline.load(project, video), timeline.views(project, video)
    size, parts = project.config.crop.size, tracks.files(".parquet")
    total = len(timeline.analysed(project, video))
    for k in range(len(parts)):
        jobs = [job for job in _jobs(tracks, parts, k, views, project.config.crop) if not target.has(f"{job.name}.parquet")]
        wanted = np.unique(np.concatenate([[], *(list(job.frames) for job in jobs)])).astype(np.int64)
        pictures = zip(wanted.tolist(), read_frames(video.path, clock, wanted), strict=True)
        with ExitStack() as files:
            sinks = [files.enter_context(_sink(target, job, size, project.config.crop.crf)) for job in jobs if job.frames]
            for done, (frame, picture) in enumerate(pictures):
                for sink in sinks:
                    sink(frame, picture)
                progress(min(k * SEGMENT + done, total), total)
        for job in jobs:  # only now that its mp4 is in place: the index says that the part is done
            write_parquet(target.path(f"{job.name}.parquet"), _index(job, size))
    progress(total, total)
    names = [path.relative_to(target.folder).as_posix() for path in target.folder.rglob("part-*.parquet")]
    crops = sum(read_parquet(target.path(name), ["position"]).num_rows for name in names)
    target.finish({"crops": crops, "encoder": find_encoder()})
    return target


@dataclass(frozen=True, eq=False)
class _Job:
    """One pair of files to write: the crops of one subject in one view and one part."""

    name: str
    view: View
    rows: pa.Table  # of the track, those with a box
    place: Geometry

    @cached_property
    def frames(self) -> dict[int, int]:
        """Frame number -> position in the mp4."""
        return {frame: i for i, frame in enumerate(self.rows["frame"].to_pylist())}


def _jobs(tracks: Artefact, parts: list[str], k: int, views: dict[str, View], settings: CropSettings) -> list[_Job]:
    rows = tracks.table(parts[k])
    around = _around(tracks, parts, k, settings.smooth)
    jobs = []
    for view, subject in dict.fromkeys(zip(rows["view"].to_pylist(), rows["subject"].to_pylist(), strict=True)):
        own, near = _of(rows, view, subject), _of(around, view, subject)
        x, frames = near["x"].to_numpy(), near["frame"].to_numpy()
        shot = np.searchsorted(track.events.cuts(tracks, view), frames, side="right")
        seen, run = ~np.isnan(x), np.cumsum(np.isnan(x) | (np.diff(shot, prepend=shot[:1]) > 0))[~np.isnan(x)]
        boxes = np.column_stack([near[name].to_numpy()[seen].astype(np.float64) for name in "xywh"])
        place = geometry(boxes, near["time"].to_numpy()[seen], run, views[view], settings)
        frame = frames[seen]
        here = (frame >= own["frame"][0].as_py()) & (frame <= own["frame"][-1].as_py())
        place = Geometry(place.source[here], place.valid[here], place.rect[here], place.scale[here])
        jobs.append(_Job(f"{view}/{subject}/part-{k:05d}", views[view], own.filter(own["x"].is_valid()), place))
    return jobs


def _around(tracks: Artefact, parts: list[str], k: int, seconds: float) -> pa.Table:
    """Boxes of part ``k`` and of its neighbours, as far as smoothing reaches."""
    columns = ["view", "subject", "frame", "time", "x", "y", "w", "h"]
    tables = [tracks.table(parts[k], columns)]
    start, stop = tables[0]["time"][0].as_py() - seconds, tables[0]["time"][-1].as_py() + seconds
    for j in range(k - 1, -1, -1):
        if tables[0]["time"][0].as_py() <= start:
            break
        tables.insert(0, tracks.table(parts[j], columns))
    for j in range(k + 1, len(parts)):
        if tables[-1]["time"][-1].as_py() >= stop:
            break
        tables.append(tracks.table(parts[j], columns))
    return pa.concat_tables(tables)


def _of(rows: pa.Table, view: str, subject: str) -> pa.Table:
    import pyarrow.compute as pc  # takes a twentieth of a second, which `foveate status` need not wait for

    return rows.filter((pc.field("view") == view) & (pc.field("subject") == subject))


@contextmanager
def _sink(target: Artefact, job: _Job, size: int, crf: int) -> Iterator[Callable[[int, NDArray[np.uint8]], None]]:
    """A function that takes every frame and its picture, and writes the crops of those the job has a box for."""
    view = job.view
    with write_aside(target.path(f"{job.name}.mp4")) as path, VideoWriter(path, size, size, crf=crf) as writer:

        def take(frame: int, picture: NDArray[np.uint8]) -> None:
            if (at := job.frames.get(frame)) is not None:
                seen = picture[view.y : view.y + view.h, view.x : view.x + view.w]
                writer.write(cut(seen, job.place.source[at], size))

        yield take


def _index(job: _Job, size: int) -> pa.Table:
    rows, place = job.rows, job.place
    columns = {name: rows[name] for name in ("video", "view", "subject", "frame", "time", "state")}
    columns["position"] = np.arange(len(rows), dtype=np.int32)
    for prefix, boxes in (("src", place.source), ("valid", place.valid), ("rect", place.rect)):
        columns |= {f"{prefix}_{name}": boxes[:, i].astype(np.float32) for i, name in enumerate("xywh")}
    columns["scale"] = place.scale.astype(np.float32)
    columns["rle"] = [
        None if rle is None else cut_mask(rle, source, job.view, size)
        for rle, source in zip(rows["rle"].to_pylist(), place.source, strict=True)
    ]
    return pa.table(columns, schema=CROP_INDEX)
