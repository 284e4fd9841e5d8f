"""``foveate track --review``: the tracks drawn into the footage, as a video that plays everywhere, to look through at speed.

``review/<video>.mp4`` shows every analysed frame, at least ten a second: outline, box, name and state of every subject, time, speed, what
happened, and below the states of the whole video with a cursor. ``review/<video>-<view>-<subject>-<frame>.png`` are the frames in which a
click is asked for, at their own size with a scale of pixels. Both are made from finished tracks and change nothing.

One picture and one part of the track are in memory at a time. A video is written aside and renamed when it is whole; its comment names the
track it shows, so that it is made again when the track changes, and not otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import timeline, track
from foveate.jobs import Display, Done, Failure, Pool, Progress, Task, silent
from foveate.masks import decode
from foveate.project import Project, Video
from foveate.schema import SEEN, FoveateError, State
from foveate.settings import View
from foveate.store import Artefact, write_aside
from foveate.track import events, overlay
from foveate.track.events import Event, Kind
from foveate.track.questions import Question, questions
from foveate.track.scene import Scene
from foveate.videowriter import VideoWriter, comment_of

VERSION = 1
FOLDER = "review"
SIZE = (1280, 720)  # largest picture, without the strip
LARGER = 4.0  # at most: small pictures are magnified, so that type can be read
RATES = (10, 30)  # pictures per second at least and at most
QUALITY = 23
HOLD = 2.5  # seconds of the review that an event is told for, at least
TOLD = 4  # events told at once

_MARKS: Mapping[Kind, overlay.Colour] = {
    Kind.ASK: (154, 74, 0),
    Kind.CUT: (29, 32, 36),
    Kind.CROSSING: (29, 32, 36),
    Kind.SWAP: (29, 32, 36),
    Kind.DOUBT: (29, 32, 36),
}


def path_of(project: Project, video: Video) -> Path:
    return project.stage_folder(FOLDER, f"{video.name}.mp4")


def run(project: Project, video: Video, progress: Progress = silent) -> Path:
    """Write the review of one video, unless the present one shows the present track; and the pictures of its questions.

    Raises:
        FoveateError: the video is not tracked yet, or cannot be read.
    """
    tracks = track.artefact(project, video)
    if not tracks.complete():
        raise FoveateError(
            f"video {video.name!r} is not tracked yet", file=tracks.folder, remedy="run `foveate track --review`"
        )
    for question in questions(project, video, tracks):
        picture_of(project, question)
    path, comment = path_of(project, video), f"foveate review {VERSION} of track {tracks.stamp}"
    if comment_of(path) == comment:
        return path
    reel = Reel(Scene(project, video, tracks))
    total = len(reel.scene.analysed)
    with (
        write_aside(path) as aside,
        VideoWriter(aside, *reel.size, rate=reel.rate, crf=QUALITY, comment=comment) as writer,
    ):
        for done, picture in enumerate(reel.pictures(), 1):
            writer.write(picture)
            progress(done, total)
    return path


def ready(project: Project, names: Sequence[str] = ()) -> list[Video]:
    """The videos of these names, or all, whose tracks are finished."""
    chosen = [project.video(name) for name in names] or list(project.videos)
    found = []
    for video in chosen:
        with suppress(FoveateError):  # what is wrong with it, tracking has said
            if track.artefact(project, video).complete():
                found.append(video)
    return found


def run_all(
    project: Project,
    videos: Sequence[Video],
    workers: int,
    show: Callable[[str, int], AbstractContextManager[Display]],
) -> list[Done | Failure]:
    """The reviews of several videos side by side; one that fails does not stop the others."""
    tasks = [Task("review", video.name, "foveate.track.review", {"video": video.name}) for video in videos]
    if not tasks:
        return []
    with Pool(project.folder, workers) as pool, show("review", len(tasks)) as display:
        return list(pool.run(tasks, display))


def picture_of(project: Project, question: Question) -> Path:
    """Write the view in the frame that a question is about, at its own size, with a scale of pixels along two edges.

    Raises:
        FoveateError: the frame cannot be decoded.
    """
    from foveate.video import read_frames

    video = project.video(question.video)
    line, view = timeline.load(project, video), timeline.views(project, video)[question.view]
    (picture,) = read_frames(video.path, line, np.array([question.frame], np.int64))
    path = project.stage_folder(FOLDER, question.file)
    with write_aside(path) as aside:
        overlay.ruled(np.ascontiguousarray(picture[view.y : view.y + view.h, view.x : view.x + view.w])).save(aside)
    return path


@dataclass(frozen=True, eq=False)
class Reel:
    """The pictures of one review."""

    scene: Scene

    @property
    def tracks(self) -> Artefact:
        return self.scene.target

    @cached_property
    def zoom(self) -> float:
        width, height = self.scene.clock.width, self.scene.clock.height
        return min(SIZE[0] / width, SIZE[1] / height, LARGER)

    @cached_property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the picture alone, even."""
        width, height = (max(2, round(side * self.zoom / 2) * 2) for side in (self.scene.clock.width, self.scene.clock.height))
        return width, height

    @cached_property
    def unit(self) -> int:
        """Pixels of type."""
        return max(9, round(min(self.frame_size) / 40))

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height with the strip."""
        return self.frame_size[0], self.frame_size[1] + self.strip.image.height

    @cached_property
    def step(self) -> float:
        """Seconds from one analysed frame to the next, typically."""
        steps = np.diff(self.scene.analysed.time)
        return float(np.median(steps)) if len(steps) else float(self.scene.analysed.duration[0])

    @cached_property
    def rate(self) -> Fraction:
        """Pictures per second: life's own speed where frames are dense, faster where they are sparse."""
        return Fraction(min(max(1 / self.step, RATES[0]), RATES[1])).limit_denominator(100)

    @cached_property
    def speed(self) -> float:
        """Seconds of the video in one of the review."""
        return float(self.rate) * self.step

    @cached_property
    def lanes(self) -> dict[tuple[str, str], int]:
        """(view, subject) -> number, in the order of the views."""
        views = list(timeline.views(self.scene.project, self.scene.video))
        return {pair: k for k, pair in enumerate((view, subject) for subject in self.scene.subjects for view in views)}

    def label(self, view: str, subject: str) -> str:
        return f"{subject}, {view}" if len(self.scene.views) > 1 else subject

    @cached_property
    def happened(self) -> list[Event]:
        return events.read(self.tracks)

    @cached_property
    def strip(self) -> overlay.Strip:
        columns = ["view", "subject", "frame", "state"]
        shape = len(self.lanes), len(self.scene.analysed)
        places = {state: k for k, state in enumerate(overlay.STATES)}
        states = np.zeros(shape, np.uint8)
        for name in self.tracks.files(".parquet"):
            part = self.tracks.table(name, columns).to_pydict()
            at = np.searchsorted(self.scene.analysed.frame, part["frame"])
            for view, subject, k, state in zip(part["view"], part["subject"], at.tolist(), part["state"], strict=True):
                if (view, subject) in self.lanes:
                    states[self.lanes[view, subject], k] = places[state]
        shown = [
            (self.label(*pair), self.scene.subjects.index(pair[1]), _over_time(states[k], self.scene))
            for pair, k in self.lanes.items()
        ]
        marks = [
            (k, self.share(event.time), _MARKS[event.kind])
            for event in self.happened
            if event.kind in _MARKS
            for pair, k in self.lanes.items()
            if event.view in (pair[0], "") and event.subject in (pair[1], "")
        ]
        return overlay.strip(shown, marks, self.frame_size[0], self.unit)

    def share(self, time: float) -> float:
        return min(1.0, time / max(self.scene.clock.duration, 1e-9))

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """uint8[H, W, 3] for every analysed frame."""
        from PIL import Image

        frames = self.scene.analysed.frame.tolist()
        last: dict[tuple[str, str], overlay.Place] = {}
        for (frame, picture), rows in zip(self.scene.pictures(frames), self._rows(frames), strict=True):
            width, height = self.frame_size
            if picture is None:
                scaled = np.zeros((height, width, 3), np.uint8)
            else:
                scaled = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
            image = overlay.draw(scaled, [self._drawn(row, last) for row in rows], self.unit)
            self._views(image)
            time = float(self.scene.clock.time[frame])
            overlay.caption(image, [self._heading(frame, time, gone=picture is None)], self.unit, top=True)
            overlay.caption(image, self._told(time), self.unit, top=False)
            whole = Image.new("RGB", self.size)
            whole.paste(image, (0, 0))
            whole.paste(self.strip.at(self.share(time)), (0, height))
            yield np.asarray(whole)

    def _rows(self, frames: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
        """The rows of every analysed frame, part by part."""
        waiting: dict[int, list[dict[str, Any]]] = {}
        parts = iter(self.tracks.files(".parquet"))
        columns = ["view", "subject", "frame", "state", "x", "y", "w", "h", "rle"]
        for frame in frames:
            while frame not in waiting and (name := next(parts, None)) is not None:
                for batch in self.tracks.table(name, columns).to_batches(max_chunksize=4096):
                    for row in batch.to_pylist():
                        waiting.setdefault(row["frame"], []).append(row)
            yield waiting.pop(frame, [])

    def _drawn(self, row: Mapping[str, Any], last: dict[tuple[str, str], overlay.Place]) -> overlay.Drawn:
        """What is drawn for one row. ``last`` remembers where every subject was: a lost one is shown there."""
        view: View = self.scene.views[row["view"]]
        pair = row["view"], row["subject"]
        label, tint = self.label(*pair), self.scene.subjects.index(row["subject"])
        if row["state"] not in SEEN:
            where = last.get(pair) if row["state"] == State.LOST else None
            return overlay.Drawn(label, row["state"], tint, where)
        box = ((view.x + row["x"]) * self.zoom, (view.y + row["y"]) * self.zoom, row["w"] * self.zoom, row["h"] * self.zoom)
        last[pair] = box
        width, height = self.frame_size
        whole = None
        if row["rle"] is not None:
            left, top = round(view.x * self.zoom), round(view.y * self.zoom)
            right, bottom = min(width, round((view.x + view.w) * self.zoom)), min(height, round((view.y + view.h) * self.zoom))
            whole = np.zeros((height, width), np.bool_)
            whole[top:bottom, left:right] = overlay.shrink(decode(row["rle"], view.h, view.w), right - left, bottom - top)
        return overlay.Drawn(label, row["state"], tint, box, whole)

    def _views(self, image: Any) -> None:
        """Thin lines around the views, where there are several."""
        from PIL import ImageDraw

        if len(self.scene.views) > 1:
            pen = ImageDraw.Draw(image, "RGBA")
            for view in self.scene.views.values():
                corners = (view.x, view.y, view.x + view.w - 1, view.y + view.h - 1)
                pen.rectangle([value * self.zoom for value in corners], outline=(255, 255, 255, 70))

    def _heading(self, frame: int, time: float, *, gone: bool) -> str:
        text = f"{clock(time)}   frame {frame}"
        if abs(self.speed - 1) > 0.05:
            text += f"   × {self.speed:.2g}" if self.speed < 99.5 else f"   × {self.speed:.0f}"
        return text + ("   this picture cannot be decoded" if gone else "")

    def _told(self, time: float) -> list[str]:
        """What happens now, the latest last."""
        hold = HOLD * self.speed
        now = [e for e in self.happened if e.time <= time < max(e.time + hold, e.until_time)]
        several = len(self.lanes) > 1
        said = []
        for event in sorted(now, key=lambda e: e.time)[-TOLD:]:
            who = self.label(event.view, event.subject) if event.subject and event.view else event.subject or event.view
            said.append(f"{clock(event.time)}  {who + ': ' if several and who else ''}{event.words}")
        return said


def _over_time(states: NDArray[np.uint8], scene: Scene, most: int = 4000) -> NDArray[np.uint8]:
    """States of analysed frames -> states of equal stretches of time; of several in a stretch the one that matters most."""
    duration = max(scene.clock.duration, 1e-9)
    bins = min(most, max(1, len(states)))
    start = np.minimum((scene.analysed.time / duration * bins).astype(int), bins - 1)
    out = np.zeros(bins, np.uint8)
    np.maximum.at(out, start, states)
    known = np.zeros(bins, np.bool_)
    known[start] = True
    filled = np.maximum.accumulate(np.where(known, np.arange(bins), 0))  # an analysed frame stands until the next one
    result: NDArray[np.uint8] = out[filled]
    return result


def clock(seconds: float) -> str:
    """``0:12:34.5``."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"
