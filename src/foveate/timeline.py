"""Stage ``timeline``: which frames each video presents and when; and the two questions every later stage asks about a video,
which frames are analysed and which rectangles of the picture are views."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import TIMELINE, FoveateError
from foveate.settings import CONFIG, View
from foveate.store import Artefact, fingerprint, remembered, write_parquet
from foveate.video import Timeline, read_timeline

VERSION = 2
_log = logging.getLogger("foveate")
_TABLE = "timeline.parquet"
_FACTS = ("width", "height", "rotation", "mirrored", "duration", "codec", "clock", "seekable", "skippable", "damaged_after")
_SLACK = 1e-6  # seconds: a frame at 0.499 999 999 is on screen at 0.5


@dataclass(frozen=True, eq=False)
class Analysed:
    """The frames of a video that are looked at, in order."""

    frame: NDArray[np.int64]  # [N] strictly increasing
    time: NDArray[np.float64]  # [N] seconds
    duration: NDArray[np.float64]  # [N] seconds that each stands for; their sum is the video's duration

    def __len__(self) -> int:
        return len(self.frame)


@remembered
def artefact(project: Project, video: Video) -> Artefact:
    """Where the timeline of a video is, or will be, with its expected stamp."""
    folder = project.stage_folder("timeline", video.name)
    return Artefact(folder, "timeline", VERSION, settings={}, parents={"video": _fingerprint(video)})


def run(project: Project, video: Video, progress: Progress = silent) -> Artefact:
    """Read the packets of a video once and write ``timeline/<video>/timeline.parquet``.

    Raises:
        FoveateError: the footage is missing or cannot be read; names the file and its row in videos.csv.
    """
    target = artefact(project, video)
    if target.complete():
        return target
    target.begin()
    try:
        timeline = read_timeline(video.path)
    except FoveateError as error:
        raise _with_row(video, error) from None
    if timeline.damaged_after is not None:
        _log.warning("%s: broken after %.1f s; what comes before is used", video.path, timeline.damaged_after)
    columns = {"frame": timeline.frame, "pts": timeline.pts, "time": timeline.time, "keyframe": timeline.keyframe}
    write_parquet(target.path(_TABLE), pa.table(columns, schema=TIMELINE))
    target.finish({"frames": len(timeline)} | {name: getattr(timeline, name) for name in _FACTS})
    progress(len(timeline), len(timeline))
    return target


def load(project: Project, video: Video) -> Timeline:
    """The finished timeline of a video; a FoveateError when the stage has not run."""
    source = artefact(project, video)
    if not source.complete():
        raise FoveateError("the timeline is missing or out of date", file=source.folder, remedy="run `foveate run`")
    table, facts = source.table(_TABLE), source.facts()
    return Timeline(
        pts=table["pts"].to_numpy(),
        time=table["time"].to_numpy(),
        keyframe=table["keyframe"].to_numpy(),
        **{name: facts[name] for name in _FACTS},
    )


def analysed(project: Project, video: Video) -> Analysed:
    """The frames that ``analyse`` in foveate.yaml picks.

    Rule ``step`` (seconds): the frame on screen at 0, step, 2 step, ...; a frame that stays on screen longer counts once.
    Rule ``every`` (frames): 0, every, 2 every, ... A row stands for the time until the next one, the last until the video's end.
    """
    timeline, rule = load(project, video), project.config.analyse
    if rule.every is not None:
        frame = timeline.frame[:: rule.every]
    else:
        assert rule.step is not None
        instants = np.arange(0.0, max(timeline.duration - _SLACK, _SLACK), rule.step)
        frame = np.unique(np.searchsorted(timeline.time, instants + _SLACK, side="right") - 1)
    time = timeline.time[frame]
    return Analysed(frame, time, np.diff(time, append=timeline.duration))


def views(project: Project, video: Video) -> dict[str, View]:
    """The named rectangles of this video's picture; ``full`` is the whole of it where foveate.yaml names none.

    Raises:
        FoveateError: a view reaches beyond the picture.
    """
    timeline = load(project, video)
    for name, view in project.config.views.items():
        if view.x + view.w > timeline.width or view.y + view.h > timeline.height:
            raise FoveateError(
                f"view {name!r} covers x {view.x}..{view.x + view.w}, y {view.y}..{view.y + view.h}, but the picture of video "
                f"{video.name!r} (videos.csv, row {video.row}) is {timeline.width} x {timeline.height}",
                file=project.folder / CONFIG,
                remedy="correct the view, or keep videos of another size in another project",
            )
    return project.config.views or {"full": View(x=0, y=0, w=timeline.width, h=timeline.height)}


def _fingerprint(video: Video) -> str:
    try:
        return fingerprint(video.path)
    except FoveateError as error:
        raise _with_row(video, error) from None


def _with_row(video: Video, error: FoveateError) -> FoveateError:
    """The same error about the footage, which also says where the project names that file."""
    return FoveateError(f"{error.problem} (videos.csv, row {video.row})", file=error.file, row=error.row, remedy=error.remedy)
