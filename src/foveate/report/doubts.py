"""Where to look first: the least certain frames of the study, and the frames in which a click is asked for, both with pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate import masks
from foveate.project import Project
from foveate.report import figures, sheets
from foveate.report.sources import Sources
from foveate.report.traces import certainty
from foveate.schema import SEEN, SEGMENT, State
from foveate.settings import View
from foveate.track.questions import Question

if TYPE_CHECKING:
    import pandas as pd

DOUBTS, OF_A_VIDEO = 12, 3
"""Least certain frames on the page, and of one video at most while others have some."""

QUESTIONS = 6
"""Questions shown with their picture."""

_APART = 0.05  # share of the video that two doubtful frames of one subject lie apart
_AROUND = 1.4  # longer sides of the box around its centre that a doubtful frame shows
_JUMP = 1.6  # ratio of areas that is worth a word
_QUESTION_WIDTH, _QUESTION_HEIGHT = 620, 420

Box = tuple[float, float, float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class Doubt:
    """One frame in which the tracker was not sure."""

    video: str
    view: str
    subject: str
    frame: int
    time: float
    certainty: float  # 0..1; 1 where the tracker gives no number
    ratio: float  # of the area to that of the frames around
    state: str
    box: Box  # view pixels
    tint: int
    position: int  # among the analysed frames

    @property
    def rank(self) -> float:
        """The smaller the more doubtful: certainty, lowered where the area changes at once."""
        return self.certainty / (1 + abs(float(np.log2(self.ratio))))

    @property
    def order(self) -> tuple[float, str, int, str, str]:
        """Worst first; the same on every machine."""
        return self.rank, self.video, self.frame, self.view, self.subject

    @property
    def why(self) -> str:
        said = [f"certainty {self.certainty:.2f}"] if self.certainty < 1 else []
        if not 1 / _JUMP < self.ratio < _JUMP:
            said.append(f"area × {self.ratio:.1f}")
        return ", ".join(said) or self.state


@dataclass
class Pictured:
    """Something with a picture, or why there is none."""

    doubt: Doubt
    picture: sheets.Thumbnail | None = None


@dataclass
class Asked:
    """A question with the picture of its view, which is ``width`` x ``height`` pixels large in the footage."""

    question: Question
    picture: sheets.Thumbnail | None = None
    width: int = 0
    height: int = 0
    command: str = field(init=False)
    absent: str = field(init=False)

    def __post_init__(self) -> None:
        self.command, self.absent = self.question.answer(), self.question.answer("absent")

    @property
    def clock(self) -> str:
        return figures.clock(self.question.time)


def of_subject(who: tuple[str, str, str], rows: pd.DataFrame, tint: int, duration: float) -> list[Doubt]:
    """The least certain frames of one subject in one view, worst first, a little apart.

    Args:
        who: video, view, subject.
        rows: as for ``traces.traces``.
        tint: colour of the subject.
        duration: seconds of the video.
    """
    seen = rows["state"].isin(SEEN).to_numpy()
    sure = certainty(rows, seen)
    ratio = _ratios(np.where(seen, rows["area"].to_numpy(np.float64), np.nan))
    rank = np.where(np.isnan(sure), 1.0, sure) / (1 + np.abs(np.log2(ratio)))
    states, time = rows["state"].to_numpy(dtype=object), rows["time"].to_numpy(np.float64)
    rank[~seen | (states == State.PROMPTED.value)] = np.inf
    taken: list[int] = []
    for place in np.argsort(rank, kind="stable"):
        if len(taken) == OF_A_VIDEO or not np.isfinite(rank[place]):
            break
        if all(abs(time[place] - time[other]) > _APART * duration for other in taken):
            taken.append(int(place))
    boxes = rows[["x", "y", "w", "h"]].to_numpy(np.float64)
    frames = rows["frame"].to_numpy()
    return [
        Doubt(
            *who,
            frame=int(frames[k]),
            time=float(time[k]),
            certainty=1.0 if np.isnan(sure[k]) else float(sure[k]),
            ratio=float(ratio[k]),
            state=str(states[k]),
            box=(boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]),
            tint=tint,
            position=k,
        )
        for k in taken
    ]


def _ratios(area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of each frame over the median of the four seen frames around it; 1 where there are none."""
    known = np.flatnonzero(~np.isnan(area))
    out = np.ones(len(area))
    if len(known) < 3:
        return out
    values = area[known]
    around = np.stack([_shifted(values, by) for by in (-2, -1, 1, 2)])
    middle = np.nanmedian(around, axis=0)
    out[known] = np.where(middle > 0, np.maximum(values, 1) / np.maximum(middle, 1), 1.0)
    return out


def _shifted(values: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """``values[i + by]``; NaN beyond the ends."""
    out = np.full(len(values), np.nan)
    if by < 0:
        out[-by:] = values[:by]
    else:
        out[:-by] = values[by:]
    return out


def choose(found: Iterable[Sequence[Doubt]], at_most: int = DOUBTS) -> list[Doubt]:
    """The least certain frames of the study, worst first; of one video no more than ``OF_A_VIDEO`` while others have some.

    Args:
        found: per video, in any order.
    """
    first: list[Doubt] = []
    rest: list[Doubt] = []
    for video in found:
        ordered = sorted(video, key=lambda doubt: doubt.order)
        first += ordered[:OF_A_VIDEO]
        rest += ordered[OF_A_VIDEO:]
    return [*sorted(first, key=lambda doubt: doubt.order), *sorted(rest, key=lambda doubt: doubt.order)][:at_most]


def picture_doubts(project: Project, chosen: Sequence[Doubt], sources: Sources) -> list[Pictured]:
    """The frames around the subjects, with outlines, in the order given.

    Raises:
        FoveateError: footage that cannot be read, or a damaged track.
    """
    out = {id(doubt): Pictured(doubt) for doubt in chosen}
    for video in dict.fromkeys(doubt.video for doubt in chosen):
        own = [doubt for doubt in chosen if doubt.video == video]
        for doubt, view, picture in _decoded(project, video, own, lambda doubt: (doubt.view, doubt.frame)):
            artefact = sources.get("track", video)
            part = artefact.files(".parquet")[doubt.position // SEGMENT]
            table = artefact.table(part, ["view", "subject", "frame", "rle"]).to_pandas()
            row = table[(table["frame"] == doubt.frame) & (table["view"] == doubt.view) & (table["subject"] == doubt.subject)]
            out[id(doubt)].picture = _near(picture, view, doubt, row["rle"].iloc[0] if len(row) else None)
    return list(out.values())


def picture_questions(project: Project, asked: Sequence[Asked]) -> None:
    """Add the pictures of the views that the questions are about.

    Raises:
        FoveateError: footage that cannot be read.
    """
    for video in dict.fromkeys(one.question.video for one in asked):
        own = [one for one in asked if one.question.video == video]
        for one, view, picture in _decoded(project, video, own, lambda one: (one.question.view, one.question.frame)):
            image = Image.fromarray(picture[view.y : view.y + view.h, view.x : view.x + view.w])
            image.thumbnail((_QUESTION_WIDTH, _QUESTION_HEIGHT), Image.Resampling.LANCZOS, reducing_gap=2.0)
            one.picture = sheets.Thumbnail(sheets.data_uri(image), *image.size)
            one.width, one.height = view.w, view.h


def _decoded(
    project: Project, name: str, wanted: Sequence[T], place: Callable[[T], tuple[str, int]]
) -> Iterator[tuple[T, View, NDArray[np.uint8]]]:
    """Each of ``wanted`` with its view and the whole picture of its frame; ``place`` gives the names of view and frame."""
    from foveate import timeline
    from foveate.video import read_frames

    video = project.video(name)
    line, views = timeline.load(project, video), timeline.views(project, video)
    frames = sorted({place(one)[1] for one in wanted})
    for frame, picture in zip(frames, read_frames(video.path, line, np.asarray(frames, np.int64)), strict=True):
        for one in wanted:
            view, when = place(one)
            if when == frame:
                yield one, views[view], picture


def _near(picture: NDArray[np.uint8], view: View, doubt: Doubt, rle: bytes | None) -> sheets.Thumbnail:
    """The surroundings of the subject, in the proportions of a thumbnail as far as the view allows."""
    x, y, w, h = doubt.box
    tall = max(_AROUND * 2 * max(h, w * sheets.HEIGHT / sheets.WIDTH), view.h / 4)
    size = min(view.w, tall * sheets.WIDTH / sheets.HEIGHT), min(view.h, tall)
    left, top = (
        int(np.clip(start + side / 2 - reach / 2, 0, limit - reach))
        for start, side, reach, limit in ((x, w, size[0], view.w), (y, h, size[1], view.h))
    )
    right, bottom = left + int(size[0]), top + int(size[1])
    seen = picture[view.y + top : view.y + bottom, view.x + left : view.x + right]
    box = (x - left, y - top, w, h)
    if rle is None:
        return sheets.thumbnail(seen, [sheets.Overlay(doubt.state, None, box, None, doubt.tint)])
    mask = masks.decode(rle, view.h, view.w)[top:bottom, left:right]
    return sheets.thumbnail(seen, [sheets.Overlay(doubt.state, masks.encode(mask), box, None, doubt.tint)])
