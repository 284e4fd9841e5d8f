"""The pictures that are looked at: which frames, and how each is shown to a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foveate import crops, framestore, masks, timeline, track
from foveate.actions.pictures import rectangle
from foveate.project import Project, Video
from foveate.store import Artefact
from foveate.video import read_frames
from foveate.videowriter import GOP

if TYPE_CHECKING:
    from torch import Tensor

Picture = NDArray[np.uint8]
_COLUMNS = ("position", "rle", *(f"{a}_{b}" for a in ("valid", "rect") for b in "xywh"))


@dataclass(frozen=True)
class Place:
    """A subject in a frame."""

    video: str
    view: str
    subject: str
    frame: int
    time: float
    part: str  # file of the crop index that holds it


@dataclass(frozen=True, eq=False)
class Looked:
    """One picture with the subject in it."""

    source: str  # crop or frame
    place: Place
    picture: Picture  # u8[H, W, 3]
    mask: NDArray[np.bool_]  # [H, W]
    within: NDArray[np.bool_]  # [H, W]; False in the letterbox
    square: bool  # shown as a square whatever its proportions, as ``embed`` does with crops

    def shown(self, size: int, patch: int) -> Tensor:
        """u8[1, 3, H', W'], sides multiples of ``patch``: ``size`` on each side for crops, on the short side for whole views."""
        import torch

        from foveate.models.pretrained import resize

        sides = self.picture.shape[:2]
        longer = (1.0, 1.0) if self.square else tuple(side / min(sides) for side in sides)
        height, width = (max(1, round(size * side / patch)) * patch for side in longer)
        return resize(torch.from_numpy(self.picture.copy()).permute(2, 0, 1).unsqueeze(0), height, width)


def spread(available: int, wanted: int, shift: float = 0.5) -> list[int]:
    """``wanted`` of the numbers 0..available-1, evenly spread, each at most once; ``shift``, 0..1, is where in its share each lies."""
    count = min(available, wanted)
    return [int((k + shift) * available / count) for k in range(count)]


def choose(project: Project, videos: Sequence[Video], frames: int) -> dict[str, list[Place]]:
    """``frames`` subjects in frames with a mask, by video: over all videos, or as many drawn by lot; views and subjects take turns."""
    lot = np.random.default_rng(0).permutation(len(videos))[:frames]  # every second one might be all of one group
    picked = [videos[k] for k in sorted(lot.tolist())]
    out = {}
    for number, video in enumerate(picked):
        own = frames // len(picked) + (number < frames % len(picked))
        out[video.name] = _in_video(project, video, own, number)
    return out


def _in_video(project: Project, video: Video, count: int, turn: int) -> list[Place]:
    tracks = tracked(project, video)
    if not tracks:
        return []
    frames = np.unique([place.frame for places in tracks for place in places])
    found: dict[tuple[str, str, int], Place] = {}
    # Not the same moment of every video: shifts by the golden ratio fill the share evenly, however many videos there are.
    for k, at in enumerate(spread(len(frames), count, (0.5 + turn * 0.6180339887) % 1)):
        places = tracks[(turn + k) % len(tracks)]
        place = min(places, key=lambda p: (abs(p.frame - int(frames[at])), p.frame))
        found[place.view, place.subject, place.frame] = place
    return list(found.values())


def tracked(project: Project, video: Video) -> list[list[Place]]:
    """Per view and subject of a video, in order of names, all frames with a mask, in order of time."""
    source = crops.artefact(project, video)
    found: dict[tuple[str, str], list[Place]] = {}
    for name in source.files(".parquet"):
        rows = source.table(name, ["view", "subject", "frame", "time", "rle"])
        rows = rows.filter(rows["rle"].is_valid()).select(["view", "subject", "frame", "time"])
        for view, subject, frame, time in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            found.setdefault((view, subject), []).append(Place(video.name, view, subject, frame, time, name))
    return [sorted(places, key=lambda p: p.frame) for _, places in sorted(found.items())]


def look(project: Project, video: Video, places: Sequence[Place], source: str) -> Iterator[Looked]:
    """The pictures of these places, all of ``video``, in an order of its own; only one of them is held at a time.

    Raises:
        FoveateError: a file is damaged or missing.
    """
    return _crops(project, video, places) if source == "crop" else _views(project, video, places)


def _crops(project: Project, video: Video, places: Sequence[Place]) -> Iterator[Looked]:
    stored = crops.artefact(project, video)
    for name, own in groupby(sorted(places, key=lambda p: (p.part, p.frame)), key=lambda p: p.part):
        of = {place.frame: place for place in own}
        table = stored.table(name, ["frame", *_COLUMNS])
        rows = table.filter(pc.is_in(table["frame"], pa.array(of, pa.int64()))).to_pylist()
        path = stored.checked(name.removesuffix(".parquet") + ".mp4")
        for row, picture in zip(rows, _pictures(path, [row["position"] for row in rows], len(table)), strict=True):
            mask, within = masks.decode(row["rle"], *picture.shape[:2]), _inside(row, picture.shape[0])
            if project.config.crop.mode == "paper":
                x, y, w, h = rectangle(row, picture.shape[0])
                picture, mask, within = picture[y : y + h, x : x + w], mask[y : y + h, x : x + w], within[y : y + h, x : x + w]
            yield Looked("crop", of[row["frame"]], picture, mask, within, square=True)


def _pictures(path: Path, positions: list[int], count: int) -> Iterator[Picture]:
    """The pictures at increasing positions of a store file that holds ``count``."""
    if len(positions) * GOP > count:  # reading on is cheaper than jumping
        wanted = set(positions)
        yield from (picture for k, picture in enumerate(framestore.read_crops(path)) if k in wanted)
    else:
        yield from (framestore.read_clip(path, at, 1)[0] for at in positions)


def _inside(row: dict[str, Any], size: int) -> NDArray[np.bool_]:
    """Crop pixels whose centre lies in the picture."""
    middle = np.arange(size) + 0.5
    across, down = ((middle >= row[f"valid_{a}"]) & (middle < row[f"valid_{a}"] + row[f"valid_{b}"]) for a, b in ("xw", "yh"))
    return np.outer(down, across)


def _views(project: Project, video: Video, places: Sequence[Place]) -> Iterator[Looked]:
    clock, views = timeline.load(project, video), timeline.views(project, video)
    by_frame: dict[int, list[Place]] = {}
    for place in places:
        by_frame.setdefault(place.frame, []).append(place)
    frames = np.array(sorted(by_frame), np.int64)
    known = _track_masks(track.artefact(project, video), places, frames)
    for frame, picture in zip(frames.tolist(), read_frames(video.path, clock, frames), strict=True):
        for place in by_frame[frame]:
            view = views[place.view]
            seen = picture[view.y : view.y + view.h, view.x : view.x + view.w].copy()  # decoders use their buffers again
            mask = masks.decode(known[place.view, place.subject, frame], view.h, view.w)
            yield Looked("frame", place, seen, mask, np.ones_like(mask), square=False)


def _track_masks(tracks: Artefact, places: Sequence[Place], frames: NDArray[np.int64]) -> dict[tuple[str, str, int], bytes]:
    """Run lengths in view pixels by view, subject and frame."""
    known = {}
    for name in sorted({Path(place.part).name for place in places}):  # crops have the parts of the tracks they were cut by
        rows = tracks.table(name, ["view", "subject", "frame", "rle"])
        for row in rows.filter(pc.is_in(rows["frame"], pa.array(frames))).to_pylist():
            known[row["view"], row["subject"], row["frame"]] = row["rle"]
    return known
