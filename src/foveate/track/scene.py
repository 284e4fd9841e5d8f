"""What every tracker needs: the pictures of a video in order, the rows it writes, and the place where it was when it was killed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks, timeline
from foveate.masks import Mask
from foveate.project import Project, Video
from foveate.schema import SEGMENT, TRACK, FoveateError, State
from foveate.settings import View
from foveate.store import Artefact, write_aside, write_parquet
from foveate.timeline import Analysed
from foveate.track import events, resume
from foveate.track.events import Event
from foveate.track.resume import STATE
from foveate.video import Timeline, opened, read_frames

if TYPE_CHECKING:
    from torch import Tensor

Picture = NDArray[np.uint8]
Row = dict[str, Any]

_log = logging.getLogger("foveate")


@dataclass(frozen=True, eq=False)
class Scene:
    """One video in one project, and the artefact its tracks go to."""

    project: Project
    video: Video
    target: Artefact

    @cached_property
    def clock(self) -> Timeline:
        return timeline.load(self.project, self.video)

    @cached_property
    def analysed(self) -> Analysed:
        return timeline.analysed(self.project, self.video)

    @cached_property
    def views(self) -> dict[str, View]:
        """By name, sorted."""
        return dict(sorted(timeline.views(self.project, self.video).items()))

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(self.video.subjects))

    @cached_property
    def step(self) -> float:
        """Seconds from one analysed frame to the next, usually."""
        return float(np.median(np.diff(self.analysed.time))) if len(self.analysed) > 1 else 0.0

    @cached_property
    def film_cuts(self) -> NDArray[np.int64]:
        """First frames of the shots after the first one, where foveate.yaml lets `scenedetect` find them."""
        from foveate.track.scenedetect import film_cuts

        if self.project.config.track.cuts != "scenedetect":
            return np.empty(0, np.int64)
        return film_cuts(self.target, self.video.path, self.clock)

    @property
    def parts(self) -> int:
        return -(-len(self.analysed) // SEGMENT)

    def frames(self, part: int) -> NDArray[np.int64]:
        """Numbers of the analysed frames of one part."""
        return self.analysed.frame[part * SEGMENT : (part + 1) * SEGMENT]

    def part_of(self, frame: int) -> int:
        """The part in whose time a frame, analysed or not, lies."""
        starts = self.analysed.frame[:: len(self.frames(0))]
        return max(0, int(np.searchsorted(starts, frame, side="right")) - 1)

    def pictures(self, frames: Sequence[int]) -> Iterator[tuple[int, Picture | None]]:
        """Frame number and uint8[H, W, 3] picture, or None for one that cannot be decoded; the others are not lost with it.

        Raises:
            FoveateError: the file cannot be opened.
        """
        at = 0
        while at < len(frames):
            try:
                for picture in read_frames(self.video.path, self.clock, np.asarray(frames[at:], np.int64)):
                    yield frames[at], picture
                    at += 1
            except FoveateError as error:
                with opened(self.video.path):  # the file itself is there: only this picture is gone
                    pass
                _log.warning("%s: %s; the subject counts as lost there", self.video.path, error.problem)
                yield frames[at], None
                at += 1

    def part_file(self, part: int) -> str:
        """What a tracker calls its rows of a part. Of several subjects the final parts are made from these, by ``identity``."""
        return raw_name(part) if len(self.subjects) > 1 else part_name(part)

    def row(
        self,
        view: str,
        subject: str,
        frame: int,
        state: State,
        mask: Mask | None = None,
        score: float | None = 0.0,
        identity: float | None = None,
    ) -> Row:
        """One row of ``schema.TRACK``; ``mask`` is bool[H, W] of the view."""
        where = masks.box(mask) if mask is not None else None
        return {
            "video": self.video.name,
            "view": view,
            "subject": subject,
            "frame": frame,
            "time": float(self.clock.time[frame]),
            "state": state.value,
            **dict(zip("xywh", where or (None,) * 4, strict=True)),
            "score": score,
            "identity_score": identity,
            "area": int(mask.sum()) if mask is not None else 0,
            "rle": masks.encode(mask) if mask is not None else None,
        }

    def write(self, name: str, rows: Sequence[Row]) -> None:
        """Write rows, sorted by frame, view and subject."""
        rows = sorted(rows, key=lambda row: (row["frame"], row["view"], row["subject"]))
        write_parquet(self.target.path(name), pa.Table.from_pylist(list(rows), schema=TRACK))

    def happened(self, name: str, found: Iterable[Event]) -> None:
        """Record the events of one part or pass under a name of its own; what it recorded before is replaced."""
        events.write(self.target, name, found)

    def save(self, phase: str, part: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep where the tracker is, once the part before is on disk. ``part`` is the next one: after a kill it is done again from this
        state, which gives the same bytes."""
        from safetensors.torch import save_file

        if phase == "forward":
            resume.keep(self, part - 1)
        with write_aside(self.target.path(STATE)) as aside:
            # One entry: the library writes several in any order, and the bytes should not differ.
            save_file(dict(tensors), str(aside), {"about": json.dumps({"phase": phase, "part": part, **resume.about(self)})})

    def saved(self) -> tuple[str, int, dict[str, Tensor]] | None:
        """Phase, next part and tensors; None at the start."""
        from safetensors import safe_open

        if not self.target.has(STATE):
            return None
        with safe_open(str(self.target.path(STATE)), framework="pt") as handle:
            about = json.loads(handle.metadata()["about"])
            return about["phase"], about["part"], {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


def part_name(part: int) -> str:
    return f"part-{part:05d}.parquet"


def raw_name(part: int) -> str:
    return f"raw-{part:05d}.parquet"


def cut(picture: Picture, view: View, height: int, width: int) -> Picture:
    """The view as uint8[height, width, 3], antialiased."""
    from PIL import Image

    seen = picture[view.y : view.y + view.h, view.x : view.x + view.w]
    if seen.shape[:2] == (height, width):
        return np.ascontiguousarray(seen)
    return np.asarray(Image.fromarray(np.ascontiguousarray(seen)).resize((width, height), Image.Resampling.BICUBIC))


def grid_of(view: View, short_side: int, patch: int) -> tuple[int, int]:
    """Patch rows and columns of a view whose short side is shown with so many pixels."""
    zoom = short_side / min(view.w, view.h) / patch
    return max(1, round(view.h * zoom)), max(1, round(view.w * zoom))
