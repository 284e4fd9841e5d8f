"""Writing tracks for other programs, one file for each video and view; a part is held in memory at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from foveate import masks, timeline, track
from foveate.exchange.formats import SUFFIXES, write
from foveate.exchange.sheet import Footage, Seen, refuse
from foveate.project import Project, Video
from foveate.schema import FoveateError, TrackTarget
from foveate.settings import View
from foveate.store import Artefact

_COLUMNS = ["view", "subject", "frame", "time", "x", "y", "w", "h", "score"]


def export_tracks(project: Project, path: str | Path, to: TrackTarget, videos: Sequence[str] = ()) -> int:
    """Write the tracks of several videos. Coordinates are those of the whole picture, so that they lie on the footage as it is.

    Args:
        project: the project; the videos must be tracked.
        path: file to write where it is one video with one view (of ``octron`` a folder), else a folder for ``<video>[.<view>]``.
        to: ``via-tracks``, ``coco`` (with masks), ``cvat``, ``movement`` (``movement-legacy``: before version 0.17), ``octron``.
        videos: names; empty for all that are tracked.

    Returns:
        Number of files, of ``octron`` folders.

    Raises:
        FoveateError: a named video, or no video at all, is tracked; ``path`` is one file, but there are several to write; or it lies
            where foveate keeps its own tracks.
    """
    path, suffix = Path(path), SUFFIXES[to]
    for kept in ("tracks", "imported"):
        if path.resolve().is_relative_to((project.folder / kept).resolve()):
            raise refuse(path, "foveate keeps its own tracks there", remedy=f"name another folder, for example {to}")
    there, missing = [], []
    for video in [project.video(name) for name in videos] or list(project.videos):
        try:
            there.append((video, _finished(project, video)))
        except FoveateError as error:
            missing.append(error)
    if not there or (videos and missing):
        raise missing[0]
    if missing:
        words = f"{len(missing)} of {len(missing) + len(there)} videos are left out, the first because: {missing[0].problem}"
        logging.getLogger("foveate").warning(words)
    jobs = [(video, found, name, view) for video, found in there for name, view in timeline.views(project, video).items()]
    if len(jobs) > 1 and path.suffix and suffix.endswith(path.suffix.lower()):
        raise refuse(
            path,
            f"there are {len(jobs)} tracks to write, one for each video and view",
            remedy="name a folder, or choose a video",
        )
    for video, found, name, view in jobs:
        many = len(timeline.views(project, video)) > 1
        target = path if len(jobs) == 1 else path / (f"{video.name}.{name}{suffix}" if many else f"{video.name}{suffix}")
        subjects = tuple(sorted(video.subjects))
        write(to, target, _footage(project, video), subjects, _Rows(project, video, found, name, view))
    return len(jobs)


def _finished(project: Project, video: Video) -> Artefact:
    found = track.artefact(project, video)
    if not found.complete():
        raise FoveateError(f"video {video.name!r} is not tracked", file=found.folder, remedy="run `foveate track`")
    return found


def _footage(project: Project, video: Video) -> Footage:
    clock, analysed = timeline.load(project, video), timeline.analysed(project, video)
    steps = np.diff(analysed.time)
    even = len(steps) > 0 and float(np.ptp(steps)) < 1e-3
    return Footage(
        video.name,
        video.path.name,
        (clock.width, clock.height),
        len(clock),
        clock.duration,
        float(steps.mean()) if even else None,
        len(analysed),
    )


class _Rows:
    """``exchange.sheet.Rows`` of one view."""

    def __init__(self, project: Project, video: Video, found: Artefact, name: str, view: View) -> None:
        clock = timeline.load(project, video)
        self.found, self.name, self.view, self.size = found, name, view, (clock.width, clock.height)

    def __call__(self, with_masks: bool) -> Iterator[Seen]:
        columns = [*_COLUMNS, "rle"] if with_masks else _COLUMNS
        for part in self.found.files(".parquet"):
            table = self.found.table(part, columns)
            for row in table.to_pylist():
                if row["view"] == self.name:
                    box, rle = None, row.get("rle")
                    if row["x"] is not None:
                        box = (row["x"] + self.view.x, row["y"] + self.view.y, row["w"], row["h"])
                    yield Seen(row["frame"], row["time"], row["subject"], box, row["score"], rle and self._whole(rle))

    def _whole(self, rle: bytes) -> bytes:
        view, (width, height) = self.view, self.size
        if (view.w, view.h) == (width, height):
            return rle
        mask = np.zeros((height, width), np.bool_)
        mask[view.y : view.y + view.h, view.x : view.x + view.w] = masks.decode(rle, view.h, view.w)
        return masks.encode(mask)
