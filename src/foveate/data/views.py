"""Stage ``clips``: the whole views of the analysed frames, made smaller and kept as short-GOP video, for training without a subject.

Footage has long groups of pictures and is read in order; training reads all over it. One decode makes a store that reads like the crops'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import timeline
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import CLIP_INDEX, SEGMENT
from foveate.settings import View
from foveate.store import Artefact, write_aside, write_parquet
from foveate.video import read_frames
from foveate.videowriter import VideoWriter, find_encoder

VERSION = 1
SHORT_SIDE = 288
"""Pixels of a stored view's short side, if it has as many: room for random crops that are shown at 224."""
_CRF = 18


def artefact(project: Project, video: Video) -> Artefact:
    """Where the views of a video are, or will be, with the expected stamp."""
    settings = {
        "short_side": SHORT_SIDE,
        "analyse": project.config.analyse.relevant(),
        "views": {name: view.relevant() for name, view in project.config.views.items()},
    }
    parents = {"timeline": timeline.artefact(project, video).stamp}
    return Artefact(project.stage_folder("clips", video.name), "clips", VERSION, settings, parents)


def run(project: Project, video: Video, progress: Progress = silent) -> Artefact:
    """Write ``clips/<video>/<view>/part-<k>.mp4`` and ``.parquet`` for every segment of the analysed frames.

    Raises:
        FoveateError: the timeline is not finished, the footage cannot be read, the disk is full.
    """
    target = artefact(project, video)
    if target.complete():
        return target
    clock, analysed, views = timeline.load(project, video), timeline.analysed(project, video), timeline.views(project, video)
    target.begin()
    for k, start in enumerate(range(0, len(analysed), SEGMENT)):
        here = slice(start, start + SEGMENT)
        frame, time = analysed.frame[here], analysed.time[here]
        missing = {name: view for name, view in views.items() if not target.has(f"{name}/part-{k:05d}.parquet")}
        with ExitStack() as files:
            sinks = [files.enter_context(_sink(target, f"{name}/part-{k:05d}.mp4", view)) for name, view in missing.items()]
            for done, picture in enumerate(read_frames(video.path, clock, frame) if sinks else ()):
                for sink in sinks:
                    sink(picture)
                progress(start + done, len(analysed))
        for name in missing:  # only now that its mp4 is in place: the index says that the part is done
            columns = {"video": [video.name] * len(frame), "view": [name] * len(frame), "frame": frame, "time": time}
            columns["position"] = np.arange(len(frame), dtype=np.int32)
            write_parquet(target.path(f"{name}/part-{k:05d}.parquet"), pa.table(columns, schema=CLIP_INDEX))
    progress(len(analysed), len(analysed))
    sizes = {name: stored_size(view)[::-1] for name, view in views.items()}
    target.finish({"frames": len(analysed), "sizes": sizes, "encoder": find_encoder()})
    return target


def stored_size(view: View) -> tuple[int, int]:
    """Width and height of a stored view: the short side at most ``SHORT_SIDE``, both even (the encoder's wish)."""
    scale = min(1.0, SHORT_SIDE / min(view.w, view.h))
    return max(2, 2 * round(view.w * scale / 2)), max(2, 2 * round(view.h * scale / 2))


@contextmanager
def _sink(target: Artefact, name: str, view: View) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """A function that takes every picture and writes the view in it."""
    from PIL import Image

    width, height = stored_size(view)
    with write_aside(target.path(name)) as path, VideoWriter(path, width, height, crf=_CRF) as writer:

        def take(picture: NDArray[np.uint8]) -> None:
            seen = Image.fromarray(np.ascontiguousarray(picture[view.y : view.y + view.h, view.x : view.x + view.w]))
            writer.write(np.asarray(seen.resize((width, height), Image.Resampling.BICUBIC)))

        yield take
