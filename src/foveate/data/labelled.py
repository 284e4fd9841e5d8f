"""Video files with one class each: the lists and folders of public data sets, and clips of them to train and to test on.

    kinetics400   ROOT/{train,val}.csv (or in annotations/): label, youtube_id, time_start, time_end, split; videos anywhere in
                  ROOT/{train,val} as <id>_<start>_<end>.mp4 (six digits each), or <id>.mp4
    ssv2          ROOT/labels/{train,validation,labels}.json (or something-something-v2-*.json); videos anywhere in ROOT as <id>.webm
    smarthome     Toyota Smarthome trimmed, cross-subject: videos anywhere in ROOT as <Class>_p<subject>_r.._v.._c...mp4

Files that a list names and nobody has (Kinetics loses videos every year) are left out and counted.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.data.clips import Clips
from foveate.data.draws import uniform
from foveate.schema import FoveateError
from foveate.video import read_frames, read_timeline

Set: TypeAlias = Literal["kinetics400", "ssv2", "smarthome"]
Split: TypeAlias = Literal["train", "test"]
How: TypeAlias = Literal["dense", "uniform"]

SMARTHOME_TRAIN = frozenset({3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25})
"""Subjects that cross-subject training sees (Das et al. 2019, Toyota Smarthome, section 5)."""
_SMARTHOME = re.compile(r"(?P<name>[\w.]+?)_p(?P<subject>\d+)_r\d+_v\d+_c\d+")
_VIDEOS = (".mp4", ".webm", ".mkv", ".avi")
_log = logging.getLogger("foveate")


@dataclass(frozen=True)
class Listed:
    """A split of a data set.

    Attributes:
        paths: of N videos, label: int64 ``[N]``; classes: their names, in the order of the numbers.
        missing: videos that the list names and that are not there.
    """

    paths: tuple[Path, ...]
    label: NDArray[np.int64]
    classes: tuple[str, ...]
    missing: int = 0


def listed(which: Set, root: Path, split: Split) -> Listed:
    """Read a split; tests are on Kinetics' and Something-Something's validation lists, as published.

    Raises:
        FoveateError: a list is missing or damaged, or none of its videos is there.
    """
    if not root.is_dir():
        raise FoveateError("no such folder", file=root, remedy=f"name the folder of {which}")
    readers: dict[Set, Callable[[Path, Split], Listed]] = {
        "kinetics400": _kinetics,
        "ssv2": _something,
        "smarthome": _smarthome,
    }
    found = readers[which](root, split)
    if not found.paths:
        raise FoveateError(
            f"none of the {found.missing} videos of {which} ({split}) is here", file=root, remedy="see the layouts in the docs"
        )
    if found.missing:
        _log.warning("%s: %d videos of the list %s are not there and are left out", root, found.missing, split)
    return found


def _kinetics(root: Path, split: Split) -> Listed:
    names = ("train",) if split == "train" else ("val", "validate", "validation")
    rows: list[tuple[str, str]] = []
    path = _first([root / folder / f"{name}.csv" for folder in (".", "annotations") for name in names])
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                stem = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
                rows.append((row["label"], stem))
            except (KeyError, TypeError, ValueError) as error:
                raise FoveateError(
                    "a row of this list cannot be read",
                    file=path,
                    row=number,
                    remedy="columns: label, youtube_id, time_start, time_end",
                ) from error
    there = _videos([root / name for name in names])
    classes = sorted({label for label, _ in rows})
    return _matched([(label, there.get(stem) or there.get(stem[:-14])) for label, stem in rows], classes)


def _something(root: Path, split: Split) -> Listed:
    name = "train" if split == "train" else "validation"
    folders = (("labels", ""), (".", "something-something-v2-"), ("labels", "something-something-v2-"))
    path, numbers = (_first([root / folder / f"{prefix}{one}.json" for folder, prefix in folders]) for one in (name, "labels"))
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        order = {label: int(number) for label, number in json.loads(numbers.read_text(encoding="utf-8")).items()}
        classes = sorted(order, key=order.__getitem__)
        # Placeholders stand in brackets in the list and without in the names of the classes.
        wanted = [(row["template"].replace("[", "").replace("]", ""), str(row["id"])) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FoveateError("this list cannot be read", file=path, remedy="take the files as they are published") from error
    unknown = next((label for label, _ in wanted if label not in order), None)
    if unknown is not None:
        raise FoveateError(
            f"the class {unknown!r} is not in {numbers.name}", file=path, remedy="take both files from one release"
        )
    there = _videos([root])
    return _matched([(label, there.get(stem)) for label, stem in wanted], classes)


def _smarthome(root: Path, split: Split) -> Listed:
    parsed = [(_SMARTHOME.fullmatch(stem), path) for stem, path in sorted(_videos([root]).items())]
    known = [(match["name"], int(match["subject"]), path) for match, path in parsed if match is not None]
    mine = [(name, path) for name, subject, path in known if (subject in SMARTHOME_TRAIN) == (split == "train")]
    return _matched(mine, sorted({name for name, _, _ in known}))


def _first(candidates: Sequence[Path]) -> Path:
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FoveateError("this list is missing", file=candidates[0], remedy="put it there, as it is published")
    return found


def _videos(folders: Sequence[Path]) -> dict[str, Path]:
    return {
        path.stem: path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _VIDEOS
    }


def _matched(rows: Sequence[tuple[str, Path | None]], classes: Sequence[str]) -> Listed:
    number = {name: k for k, name in enumerate(classes)}
    there = [(path, number[name]) for name, path in rows if path is not None]
    label = np.array([k for _, k in there], dtype=np.int64)
    return Listed(tuple(path for path, _ in there), label, tuple(classes), len(rows) - len(there))


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are a clip.

    ``dense``: T frames ``step`` seconds apart, from anywhere in the video; as far apart as they can be where it is too short for that.
    ``uniform``: one frame of each of T equal parts of the video (Wang 2016, TSN).
    """

    frames: int = 8
    how: How = "dense"
    step: float = 16 / 30  # seconds; every 16th frame at 30 per second

    def frames_of(self, time: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64 ``[T]``: frames nearest to the instants that are wanted.

        Args:
            time: float64 ``[N]`` of the video's frames, seconds.
            place: float64 ``[T]`` in 0..1; ``dense``: the first says where between first and last possible start the clip begins;
                ``uniform``: where in its part each frame lies.

        Raises:
            FoveateError: the video has fewer frames than the clip.
        """
        if len(time) < self.frames:
            raise FoveateError(
                f"the video has {len(time)} frames, and a clip {self.frames}", remedy="leave it out, or use shorter clips"
            )
        length = float(time[-1] - time[0])
        if self.how == "uniform":
            wanted = time[0] + (np.arange(self.frames) + place) * length / self.frames
        else:
            step = min(self.step, length / max(1, self.frames - 1))
            start = place[0] * (length - step * (self.frames - 1))
            wanted = time[0] + start + step * np.arange(self.frames)
        after = np.clip(np.searchsorted(time, wanted), 1, max(1, len(time) - 1))
        nearer = np.where(wanted - time[after - 1] <= time[np.minimum(after, len(time) - 1)] - wanted, after - 1, after)
        chosen: NDArray[np.int64] = np.minimum(nearer, len(time) - 1)
        return chosen


def read_clip(
    path: Path, sampling: Sampling, place: NDArray[np.float64], short_side: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """One clip of a video file: u8 ``[T, H, W, 3]`` RGB, its short side of so many pixels, and the times of its frames.

    Raises:
        FoveateError: the file is missing or damaged, or too short.
    """
    timeline = read_timeline(path)
    try:
        chosen = sampling.frames_of(timeline.time, place)
    except FoveateError as error:
        raise FoveateError(error.problem, file=path, remedy=error.remedy) from error
    scale = short_side / min(timeline.width, timeline.height)
    size = max(1, round(timeline.width * scale)), max(1, round(timeline.height * scale))
    distinct, of = np.unique(chosen, return_inverse=True)
    pictures = np.stack(list(read_frames(path, timeline, distinct, size=size)))
    return pictures[of], timeline.time[chosen]


class LabelledClips:
    """Batches of clips for training, forever: every video once a pass, at a random place.

    Args:
        source: the videos.
        batch: samples of a step, over all processes.
        seed: of order and places.
        sampling: which frames.
        short_side: pixels.
        workers: threads that read.
        rank, ranks: this process and how many there are; each reads an equal slice of every batch.

    A video that cannot be read gives its place to the next one of the pass, and is told of once.

    Raises:
        FoveateError: fewer videos than a batch, or a batch that cannot be divided among the processes.
    """

    def __init__(
        self,
        source: Listed,
        batch: int,
        seed: int,
        sampling: Sampling,
        short_side: int = 256,
        workers: int = 4,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % ranks:
            raise FoveateError(
                f"a batch of {batch} cannot be divided among {ranks} processes", remedy=f"choose a multiple of {ranks}"
            )
        if len(source.paths) < batch:
            raise FoveateError(
                f"there are {len(source.paths)} videos, fewer than a batch of {batch}", remedy="choose a smaller batch"
            )
        self.source, self.batch, self.seed, self.sampling = source, batch, seed, sampling
        self.short_side, self.workers = short_side, workers
        self.rank, self.share = rank, batch // ranks
        self.unreadable: dict[Path, str] = {}

    def batches(self, step: int = 0) -> Iterator[Clips]:
        """From ``step`` on."""
        steps = len(self.source.paths) // self.batch
        with ThreadPoolExecutor(self.workers) as readers:
            for now in count(step):
                number, place = divmod(now, steps)
                order = np.random.default_rng((self.seed, number)).permutation(len(self.source.paths))
                mine = self.rank * self.share + np.arange(self.share)
                index = now * self.batch + mine
                places = uniform(self.seed, now, index, "place", self.sampling.frames)
                jobs = [
                    readers.submit(self._read, np.roll(order, -(place * self.batch + k)), where)
                    for k, where in zip(mine.tolist(), places, strict=True)
                ]
                yield collated([job.result() for job in jobs], index, len(self.source.classes))

    def _read(self, order: NDArray[np.int64], place: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64], int]:
        for number in order.tolist():
            path = self.source.paths[number]
            if path in self.unreadable:
                continue
            try:
                return *read_clip(path, self.sampling, place, self.short_side), int(self.source.label[number])
            except FoveateError as error:
                self.unreadable[path] = error.problem
                _log.warning("%s is left out: %s", path, error.problem)
        raise FoveateError("none of the videos can be read", file=self.source.paths[0], remedy="see the warnings above")


def collated(
    clips: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64], int]], index: NDArray[np.int64], classes: int
) -> Clips:
    """Clips of several sizes as one batch, in the upper left corner of the largest; ``valid`` says where."""
    import torch

    frames = len(clips[0][0])
    height, width = (max(pictures.shape[side] for pictures, _, _ in clips) for side in (1, 2))
    out = np.full((len(clips), 1, frames, height, width, 3), 114, np.uint8)
    valid, labels = np.zeros((len(clips), 4), np.float32), np.zeros((len(clips), classes), np.float32)
    for k, (pictures, _, label) in enumerate(clips):
        h, w = pictures.shape[1:3]
        out[k, 0, :, :h, :w], valid[k], labels[k, label] = pictures, (0, 0, w / width, h / height), 1
    return Clips(
        frames=torch.from_numpy(out).permute(0, 1, 2, 5, 3, 4),
        valid=torch.from_numpy(valid),
        time=torch.from_numpy(np.stack([time for _, time, _ in clips])[:, None]),
        where=torch.full((len(clips), 1, frames, 4), -1, dtype=torch.int32),
        index=torch.from_numpy(index),
        labels=torch.from_numpy(labels),
    )
