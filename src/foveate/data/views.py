"""Stage ``clips``: the whole views of the analysed frames, made smaller and kept as short-GOP video, for training without a subject.

Footage has long groups of pictures and is read in order; training reads all over it. One decode makes a store that reads like the crops'.
Cuts are looked for in what was stored, so no track is needed. Faces are blurred on request, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import framestore, timeline
from foveate.data import faces
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import CLIP_INDEX, SEGMENT
from foveate.settings import View
from foveate.store import Artefact, write_aside, write_parquet
from foveate.timeline import Analysed
from foveate.track.scenedetect import check_installed, film_cuts
from foveate.track.shots import Shots
from foveate.video import Timeline, read_frames
from foveate.videowriter import VideoWriter, find_encoder

VERSION = 2
SHORT_SIDE = 288
"""Pixels of a stored view's short side, if it has as many: room for random crops that are shown at 224."""
_CRF = 18

Picture = NDArray[np.uint8]


def artefact(project: Project, video: Video) -> Artefact:
    """Where the views of a video are, or will be, with the expected stamp."""
    config = project.config
    settings = {
        "short_side": SHORT_SIDE,
        "analyse": config.analyse.relevant(),
        "views": {name: view.relevant() for name, view in config.views.items()},
        "track": config.track.model_dump(include={"drop", "cuts"}),
    } | config.clips.relevant()
    parents = {"timeline": timeline.artefact(project, video).stamp}
    return Artefact(project.stage_folder("clips", video.name), "clips", VERSION, settings, parents)


def run(project: Project, video: Video, progress: Progress = silent) -> Artefact:
    """Write ``clips/<video>/<view>/part-<k>.mp4`` and ``.parquet`` for every segment of the analysed frames.

    The facts hold, for each view, its height and width (``sizes``) and the first frames of its further shots (``cuts``).

    Raises:
        FoveateError: the timeline is not finished, the footage cannot be read, the disk is full, something optional is not installed.
    """
    target = artefact(project, video)
    if target.complete():
        return target
    clock, analysed, views = timeline.load(project, video), timeline.analysed(project, video), timeline.views(project, video)
    if project.config.track.cuts == "scenedetect":
        check_installed()
    find = faces.finder() if project.config.clips.faces == "blur" else None
    target.begin()
    for k, start in enumerate(range(0, len(analysed), SEGMENT)):
        here = slice(start, start + SEGMENT)
        frame, time = analysed.frame[here], analysed.time[here]
        missing = {name: view for name, view in views.items() if not target.has(f"{name}/part-{k:05d}.parquet")}
        # One view of the whole picture is made smaller by the decoder: a 4K picture is never there in full colours.
        size = _read_size(clock, views, find is not None)
        with ExitStack() as files:
            sinks = [
                files.enter_context(_sink(target, f"{name}/part-{k:05d}.mp4", view, size is None, find))
                for name, view in missing.items()
            ]
            for done, picture in enumerate(read_frames(video.path, clock, frame, size=size) if sinks else ()):
                for sink in sinks:
                    sink(picture)
                progress(start + done, len(analysed))
        for name in missing:  # only now that its mp4 is in place: the index says that the part is done
            columns = {"video": [video.name] * len(frame), "view": [name] * len(frame), "frame": frame, "time": time}
            columns["position"] = np.arange(len(frame), dtype=np.int32)
            write_parquet(target.path(f"{name}/part-{k:05d}.parquet"), pa.table(columns, schema=CLIP_INDEX))
    cuts = _cuts(target, project, video, clock, analysed, views)
    progress(len(analysed), len(analysed))
    sizes = {name: stored_size(view)[::-1] for name, view in views.items()}
    target.finish({"frames": len(analysed), "sizes": sizes, "cuts": cuts, "encoder": find_encoder()})
    return target


def stored_size(view: View, short_side: int = SHORT_SIDE) -> tuple[int, int]:
    """Width and height of a stored view: the short side at most ``short_side``, both even (the encoder's wish)."""
    scale = min(1.0, short_side / min(view.w, view.h))
    return max(2, 2 * round(view.w * scale / 2)), max(2, 2 * round(view.h * scale / 2))


def _read_size(clock: Timeline, views: dict[str, View], with_faces: bool) -> tuple[int, int] | None:
    """Width and height that the decoder is asked for; None: as the footage is."""
    whole = View(x=0, y=0, w=clock.width, h=clock.height)
    if list(views.values()) != [whole]:
        return None
    return stored_size(whole, faces.LOOKED_AT if with_faces else SHORT_SIDE)


@contextmanager
def _sink(target: Artefact, name: str, view: View, cut: bool, find: faces.Find | None) -> Iterator[Callable[[Picture], None]]:
    """A function that takes every picture and writes the view in it; ``cut``: the picture is more than the view."""
    width, height = stored_size(view)
    with write_aside(target.path(name)) as path, VideoWriter(path, width, height, crf=_CRF) as writer:

        def take(picture: Picture) -> None:
            seen = picture[view.y : view.y + view.h, view.x : view.x + view.w] if cut else picture
            if find is not None:
                seen = _resized(seen, *stored_size(view, faces.LOOKED_AT))
                seen = faces.blurred(seen, find(seen))
            writer.write(_resized(seen, width, height))

        yield take


def _resized(picture: Picture, width: int, height: int) -> Picture:
    from PIL import Image

    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BICUBIC))


def _cuts(
    target: Artefact, project: Project, video: Video, clock: Timeline, analysed: Analysed, views: dict[str, View]
) -> dict[str, list[int]]:
    """The first frames of the further shots of each view, as trackers find them; one pass over what was stored."""
    settings = project.config.track
    film = film_cuts(target, video.path, clock) if settings.cuts == "scenedetect" else np.empty(0, np.int64)
    step = float(np.median(np.diff(analysed.time))) if len(analysed) > 1 else 0.0
    found = {}
    for name, view in views.items():
        width, height = stored_size(view)
        shots = Shots(name, View(x=0, y=0, w=width, h=height), settings, clock.time, step, film)
        parts = (framestore.read_crops(target.path(f"{name}/part-{k:05d}.mp4")) for k in range(-(-len(analysed) // SEGMENT)))
        first = []
        for frame, picture in zip(analysed.frame.tolist(), chain.from_iterable(parts), strict=True):
            seen = shots.look(picture)
            if seen.dropped:
                shots.drop(frame, seen)
            elif shots.cuts(frame, seen):
                first.append(frame)
            shots.take()
        found[name] = first
    return found
