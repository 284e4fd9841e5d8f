"""What every file with tracks comes to, and what every writer is given.

Boxes are ``x, y, w, h`` in pixels, origin top left, and cover ``x <= column < x + w``, fractions allowed. Frames count from 0
in the order in which they are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError

Box = tuple[float, float, float, float]
Size = tuple[int, int]
"""Width, height."""

PAD = 0.2
"""A box around body points is widened by this share of its longer side, on every side: points lie inside the animal, not on its outline."""

LIKELY = 0.6
"""Least likelihood of a body point that counts, where a program gives one (DeepLabCut's own default)."""

UNNAMED = "animal"
"""The individual of a file that names none."""


class Sighting(NamedTuple):
    """One individual in one frame."""

    individual: str
    frame: int  # -1 where the file gives seconds
    box: Box
    score: float = math.nan  # 0..1; NaN where the program gives none
    row: int = 0  # line of a text file, from 1; 0 where it has none
    rle: bytes | None = None  # COCO run lengths of the mask, of the size of the sheet
    filled: bool = False  # the program itself filled this frame in between two others
    time: float = math.nan  # seconds since the first frame, where the file gives no frame


@dataclass(eq=False)
class Sheet:
    """All that one file says."""

    path: Path
    program: str
    content: str = "boxes"  # or masks, or points (boxes around them)
    sightings: list[Sighting] = field(default_factory=list)
    away: list[tuple[str, int]] = field(
        default_factory=list
    )  # individual and frame: not in the picture from there to its next sighting
    held: bool = False  # the program takes a box to hold, moving evenly to the next one, until it says otherwise
    size: Size | None = None  # of the picture, where the file says
    frames: int | None = None  # least number of frames that the video must have, where the file says
    whole: bool = False  # that is the very number of them
    videos: list[str] = field(default_factory=list)  # names or paths of the footage, where the file says

    @property
    def individuals(self) -> list[str]:
        return list(dict.fromkeys(one.individual for one in self.sightings))


Own = Callable[[str], bool]
"""Whether a name or path that a file gives for its footage is the video wanted; for files that speak of several."""


class Seen(NamedTuple):
    """One row of our tracks, for a writer: coordinates of the whole picture."""

    frame: int
    time: float
    subject: str
    box: Box | None  # None: not seen
    score: float | None = None
    rle: bytes | None = None  # COCO run lengths of the size of the picture; only where masks were asked for


@dataclass(frozen=True)
class Footage:
    """What a writer says of the video."""

    video: str  # name
    file: str  # name of the file
    size: Size
    frames: int
    duration: float  # seconds
    step: float | None  # seconds from one analysed frame to the next; None where that varies
    analysed: int  # number of analysed frames


Rows = Callable[[bool], Iterator[Seen]]
"""A pass over the rows of one view, by frame and subject: every analysed frame, every subject. True: with masks. May be asked for again."""


def refuse(path: Path, problem: str, row: int = 0, remedy: str = "export it again") -> FoveateError:
    return FoveateError(problem, file=path, row=row or None, remedy=remedy)


def number(value: float) -> str:
    """At most six decimals, as few as needed."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def stem(name: str) -> str:
    """The name of footage without folders and ending, whatever system wrote the path."""
    return PurePosixPath(name.replace("\\", "/")).stem


def the_video(path: Path, names: list[str], own: Own) -> int:
    """Which of the videos that a file speaks of is the one wanted.

    Raises:
        FoveateError: none of several, or several.
    """
    if len(names) == 1:
        return 0
    found = [k for k, name in enumerate(names) if own(name)]
    if len(found) != 1:
        known = ", ".join(stem(name) for name in names[:5])
        remedy = "say which with --video; it must be called as in the file" if names else "export it again"
        raise refuse(
            path, f"the file speaks of {len(names)} videos ({known}); {len(found)} of them can be meant", remedy=remedy
        )
    return found[0]


def check_box(path: Path, row: int, *numbers: float) -> Box:
    """The box itself.

    Raises:
        FoveateError: a number is missing or beyond any picture, or width or height is not positive.
    """
    x, y, w, h = numbers
    if not all(math.isfinite(v) and abs(v) < 1e6 for v in numbers) or w <= 0 or h <= 0:
        text = ", ".join(f"{v:g}" for v in numbers)
        raise refuse(path, f"a box cannot have x, y, width, height = {text}", row, "correct it, or remove the row")
    return x, y, w, h


def points_box(points: NDArray[np.floating]) -> Box | None:
    """The box of an animal from its body points [K, 2] (NaN: not seen), widened by ``PAD``; None with fewer than two points."""
    seen = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    if len(seen) < 2 or np.abs(seen).max() > 1e6:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    pad = max(PAD * float((high - low).max()), 1.0)
    (x, y), (w, h) = (low - pad).tolist(), (high - low + 2 * pad).tolist()
    return x, y, w, h


def certainty(value: float) -> float:
    """Scores of other programs can exceed 1 a little, or be sums."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else math.nan


def text_of(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", remedy='save it as "CSV UTF-8", or export it again') from None
