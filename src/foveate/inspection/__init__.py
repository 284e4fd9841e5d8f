"""What footage is like, before anything is learned from it: lightness, shots, motion, sizes, and what is to be seen in it.

For the question which footage to pretrain on: several videos, projects or data sets side by side (so DoRA compares its walking tours with
other sets). Nothing is written but the tables and the figure that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.data.sources import PICTURES, folder_source
from foveate.init import footage_in
from foveate.inspection.objects import Detector
from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import CONFIG, TrackSettings, View
from foveate.store import write_text
from foveate.track.shots import SHORT, Look, Shots, look
from foveate.video import read_frames, read_timeline

if TYPE_CHECKING:
    import pandas as pd

STEP = 0.5
"""Seconds from one picture that is looked at to the next."""
DETECTED = 64
"""Pictures of a video, or of a folder of pictures, that a detector is shown, evenly spread."""
_READ = 4 * SHORT  # pixels of the short side that pictures are read at, without a detector
_SHOWN = 480  # with one
_PICTURES = 2000  # of a folder of pictures, at most, evenly spread

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Inspected:
    """One video, or one folder of pictures."""

    group: str  # the place that was named: data set, project or file
    name: str
    seconds: float  # that it lasts; NaN: pictures
    pictures: int  # in it
    width: int
    height: int
    rate: float  # pictures per second, the usual one
    time: NDArray[np.float64]  # [N] seconds, of the pictures looked at; NaN: single pictures
    lightness: NDArray[np.float64]  # [N] mean L* of CIELAB, 0 (black) to 100 (white)
    motion: NDArray[
        np.float64
    ]  # [N] mean change of L* since the picture before; NaN: at the beginning of a shot, and single pictures
    cuts: NDArray[np.float64]  # seconds at which further shots begin
    classes: tuple[frozenset[str], ...] = ()  # what a detector saw in each picture it was shown

    @property
    def row(self) -> dict[str, object]:
        """The measures in one line."""
        minutes = self.seconds / 60
        row: dict[str, object] = {
            "group": self.group,
            "name": self.name,
            "seconds": self.seconds,
            "pictures": self.pictures,
            "width": self.width,
            "height": self.height,
            "rate": self.rate,
            "lightness": float(self.lightness.mean()),
            "lightness_low": float(np.quantile(self.lightness, 0.05)),
            "lightness_high": float(np.quantile(self.lightness, 0.95)),
            "motion": float(np.nanmedian(self.motion)) if np.isfinite(self.motion).any() else float("nan"),
            "shots": len(self.cuts) + 1 if np.isfinite(self.seconds) else 0,
            "cuts_per_minute": len(self.cuts) / minutes if minutes > 0 else float("nan"),
        }
        if self.classes:
            row["classes_per_picture"] = float(np.mean([len(found) for found in self.classes]))
            row["classes"] = len(frozenset().union(*self.classes))
        return row


def inspect(places: Sequence[Path], step: float = STEP, detector: str = "", progress: Progress = silent) -> list[Inspected]:
    """Look at footage.

    Args:
        places: video files, project folders, folders of videos, or folders of pictures; subfolders count.
        step: seconds from one picture to the next.
        detector: an object detector (``AutoModelForObjectDetection`` of ``transformers``), a local folder or a Hugging Face id; empty:
            none.
        progress: told of the videos done.

    Raises:
        FoveateError: there is nothing at a place, a file cannot be read, or the detector cannot be opened.
    """
    if not step > 0:
        raise FoveateError(f"no picture follows another after {step:g} s", remedy="choose a step above 0")
    wanted = [(group, path) for place, group in zip(places, _names(places), strict=True) for path in _members(place)]
    network = Detector.load(detector) if detector else None
    found = []
    for done, (group, path) in enumerate(wanted):
        progress(done, len(wanted))
        found.append(_pictures(path, group, network) if path.is_dir() else _video(path, group, step, network))
    progress(len(wanted), len(wanted))
    return found


def table(found: Sequence[Inspected]) -> pd.DataFrame:
    """One row per video: group, name, seconds, pictures, width, height, rate (pictures per second), lightness (mean L*, with the quantiles
    .05 and .95 of pictures), motion (median of the mean changes of L* from one picture to the next), shots, cuts_per_minute; with a
    detector also classes_per_picture and classes (different ones in all)."""
    import pandas as pd

    return pd.DataFrame([one.row for one in found])


def frequencies(found: Sequence[Inspected]) -> pd.DataFrame:
    """Share of the pictures shown to the detector in which each class is: one row per class, one column per group; the commonest first."""
    import pandas as pd

    shown: dict[str, list[frozenset[str]]] = {}
    for one in found:
        shown.setdefault(one.group, []).extend(one.classes)
    names = sorted({name for pictures in shown.values() for classes in pictures for name in classes})
    values = {
        group: [np.mean([name in classes for classes in pictures]) for name in names]
        for group, pictures in shown.items()
        if pictures
    }
    frame = pd.DataFrame(values, index=pd.Index(names, name="class"), dtype=float)
    return frame.loc[frame.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def save(found: Sequence[Inspected], out: Path, step: float = STEP) -> None:
    """Write ``inspection.svg`` and ``.png``, ``videos.csv`` and, where a detector looked, ``classes.csv`` to a folder."""
    from foveate.inspection.figure import draw

    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "videos.csv", table(found).to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    shares = frequencies(found)
    if len(shares):
        write_text(out / "classes.csv", shares.to_csv(float_format="%.4g", lineterminator="\n"))
    for name in ("inspection.svg", "inspection.png"):
        draw(found, out / name, step)


def lightness(picture: Picture) -> NDArray[np.float64]:
    """L* of CIELAB, 0..100, of sRGB colours uint8[..., 3] (IEC 61966-2-1 and CIE 15: the luminance of white is 1)."""
    value = picture / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    result: NDArray[np.float64] = np.where(luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3)
    return result


# --- what there is -----------------------------------------------------------------------------------------------------------------


def _names(places: Sequence[Path]) -> list[str]:
    """A short name for each place; the whole path where two would be the same."""
    short = [place.resolve().name if place.is_dir() else place.stem for place in places]
    return [str(place) if short.count(name) > 1 else name for place, name in zip(places, short, strict=True)]


def _members(place: Path) -> list[Path]:
    """The videos of a place, or the place itself where it holds pictures."""
    if place.is_file():
        return [place]
    if (place / CONFIG).is_file():
        return [video.path for video in Project.load(place).videos]
    videos = footage_in(place)
    if videos:
        return videos
    if any(path.suffix.lower() in PICTURES for path in place.rglob("*")):
        return [place]
    raise FoveateError(
        "there are neither videos nor pictures in this folder", file=place, remedy="name footage, a project, or pictures"
    )


# --- one video, one folder ---------------------------------------------------------------------------------------------------------


def _video(path: Path, group: str, step: float, network: Detector | None) -> Inspected:
    clock = read_timeline(path)
    instants = np.arange(0.0, max(clock.duration - 1e-6, 1e-6), step)
    frames = np.unique(np.searchsorted(clock.time, instants + 1e-6, "right") - 1)
    short = min(_SHOWN if network else _READ, clock.width, clock.height)
    width, height = (
        max(2, 2 * round(side * short / min(clock.width, clock.height) / 2)) for side in (clock.width, clock.height)
    )
    view = View(x=0, y=0, w=width, h=height)
    shots = Shots("", view, TrackSettings(), clock.time, step, np.empty(0, np.int64))
    shown = set(_spread(len(frames), DETECTED)) if network else set()
    looks: list[Look] = []
    begins, classes = [], []
    for k, picture in enumerate(read_frames(path, clock, frames, size=(width, height))):
        seen = look(picture, view, shots.settings.drop)
        if seen.dropped:
            shots.drop(int(frames[k]), seen)
        elif shots.cuts(int(frames[k]), seen):
            begins.append(k)
        shots.take()
        looks.append(Look(seen.small))
        if network is not None and k in shown:
            classes.append(network.classes(picture))
    light = [lightness(one.small) for one in looks]
    motion = np.array([np.nan, *(np.abs(b - a).mean() for a, b in pairwise(light))])
    motion[begins] = np.nan
    return Inspected(
        group=group,
        name=path.stem,
        seconds=clock.duration,
        pictures=len(clock),
        width=clock.width,
        height=clock.height,
        rate=1 / float(np.median(np.diff(clock.time))) if len(clock) > 1 else float("nan"),
        time=clock.time[frames],
        lightness=np.array([one.mean() for one in light]),
        motion=motion,
        cuts=clock.time[frames[begins]],
        classes=tuple(classes),
    )


def _pictures(folder: Path, group: str, network: Detector | None) -> Inspected:
    """A folder of pictures; of a large one some, evenly spread in the order of their names."""
    source = folder_source(folder, _SHOWN if network else _READ)
    chosen = _spread(len(source), _PICTURES)
    shown = {chosen[k] for k in _spread(len(chosen), DETECTED)} if network else set()
    light, classes, sizes = [], [], []
    for position in chosen:
        picture = source.read(position, 1)[0]
        sizes.append(picture.shape[:2])
        light.append(float(lightness(picture[:: max(1, len(picture) // SHORT), :: max(1, len(picture) // SHORT)]).mean()))
        if network is not None and position in shown:
            classes.append(network.classes(picture))
    height, width = (int(side) for side in np.median(np.array(sizes), axis=0))
    nothing = np.full(len(light), np.nan)
    return Inspected(
        group=group,
        name=folder.name,
        seconds=float("nan"),
        pictures=len(source),
        width=width,
        height=height,
        rate=float("nan"),
        time=nothing,
        lightness=np.array(light),
        motion=nothing,
        cuts=np.empty(0),
        classes=tuple(classes),
    )


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of 0 .. count - 1, evenly spread."""
    spread: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return spread
