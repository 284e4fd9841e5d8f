"""The footage of the miniature protocol (`signs.py`): short pasture videos as arrays, with and without places that give the behaviour away.

    set.json          what it was made of, and the plan of every video
    tied/ free/ own/ test/
                      views.npy    u8[V, T, h, w, 3]      what the camera saw, made smaller
                      crops.npy    u8[V, T, s, s, 3]      the subject's square, cut from the full picture by its rendered mask
                      within.npy   u8[V, T, s, s / 8]     the subject in the crop, as bits
                      in_view.npy  u8[V, T, h, w / 8]     the subject in the view, as bits
                      valid.npy    f32[V, T, 4]           the part of a crop that is picture, x0 y0 x1 y1 in 0..1
                      seen.npy     bool[V, T]             whether anything of the subject is seen
                      labels.npy   i8[V, T, L]            1 or 0, by `ethogram.ALL`

One animal per video, each with its own build, coat and temperament, filmed from above. There are four pens, and every video has a
behaviour that takes most of its time. In `tied`, each training video is filmed in the pen of its behaviour; in `free`, the same animals do
the same in pens drawn without regard to it; in `own` they do it each in a place of its own, so that a video is known by its place. `test`
are other animals in the four pens, drawn without regard, the same for all.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks
from foveate.crops import cut, geometry
from foveate.data.sources import Source
from foveate.settings import CropSettings, View
from foveate.simulate.ethogram import ALL
from foveate.simulate.herd import Conditions, set_up_herd
from foveate.simulate.plan import PastureSettings, Plan, plan, scripts

PLACES = ("tied", "free")
SETS = (("tied", "tied", "train"), ("free", "free", "train"), ("own", "free", "train"), ("test", "free", "test"))
"""Name, what the plan follows, split."""
FILES = ("views", "crops", "within", "in_view", "valid", "seen", "labels")
_FPS, _EVERY = 5.0, 2  # rendered motion, and one frame in so many kept: 0.4 s apart


@dataclass(frozen=True)
class Extent:
    """How much footage. The defaults are the miniature protocol's: 256 animals."""

    train: int = 160
    test: int = 96
    seconds: float = 10.0
    seed: int = 2026
    zoom: int = 1  # pictures, crops and views have so many times the pixels per side

    @property
    def square(self) -> int:
        return 128 * self.zoom

    @property
    def view(self) -> tuple[int, int]:
        """Width and height of a kept view."""
        return 224 * self.zoom, 126 * self.zoom

    def settings(self, places: str) -> PastureSettings:
        return PastureSettings(
            seed=self.seed, annotated=self.train + self.test, unannotated=0, test=self.test, seconds=self.seconds, fps=_FPS,
            width=480 * self.zoom, height=270 * self.zoom, behaviours="all", background_correlation=1.0 if places == "tied" else 0.0,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Footage:
    """One of the sets; arrays as in the head of this file, pictures memory-mapped."""

    name: str
    views: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    within: NDArray[np.uint8]
    in_view: NDArray[np.uint8]
    valid: NDArray[np.float32]
    seen: NDArray[np.bool_]
    labels: NDArray[np.int8]

    def first(self, videos: int) -> Footage:
        """The first videos alone."""
        return replace(self, **{name: getattr(self, name)[:videos] for name in FILES})

    def every(self, frames: int) -> Footage:
        """With one frame in so many; the others count as not seen."""
        return replace(self, seen=self.seen & (np.arange(self.seen.shape[1]) % frames == 0))

    def sources(self, what: str) -> list[Source]:
        """To train on: one source per video, of its crops ("crop", with masks) or of its whole views ("frame")."""
        return [self._source(what, video) for video in range(len(self.crops))]

    def _source(self, what: str, video: int) -> Source:
        crop, seen = what == "crop", np.flatnonzero(self.seen[video])
        pictures, bits = (self.crops, self.within) if crop else (self.views, self.in_view)
        return Source(
            name=f"{self.name}/{video}",
            video=f"{self.name}/{video}",
            subject=f"{self.name}/{video}" if crop else "",
            size=pictures.shape[2:4],
            frame=seen * _EVERY,
            time=seen * _EVERY / _FPS,
            valid=self.valid[video][seen] if crop else np.tile(np.array([0, 0, 1, 1], np.float32), (len(seen), 1)),
            read=partial(_read, pictures[video], seen),
            rles=pa.array([masks.encode(unpacked(bits[video][t])) for t in seen], pa.binary()),
        )


def _read(pictures: NDArray[np.uint8], kept: NDArray[np.int64], start: int, count: int) -> list[NDArray[np.uint8]]:
    return [np.asarray(pictures[t]) for t in kept[start : start + count]]


def unpacked(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool[..., w] of u8[..., w / 8]."""
    return np.unpackbits(bits, axis=-1).astype(bool)


def load(folder: Path, name: str) -> Footage:
    return Footage(name, **{file: np.load(folder / name / f"{file}.npy", mmap_mode="r") for file in FILES})


def make(folder: Path, extent: Extent, workers: int = 1) -> None:
    """Render whatever of the sets is not in ``folder`` yet."""
    described = folder / "set.json"
    about = json.loads(json.dumps({"extent": asdict(extent), "behaviours": ALL}))
    if described.exists():
        found = json.loads(described.read_text(encoding="utf-8"))
        found["extent"] = {"zoom": 1, **found["extent"]}
        if found != about:
            raise SystemExit(f"{folder} holds other footage; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    described.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    for name, places, split in SETS:
        settings = extent.settings(places)
        chosen = [replace(video, pen=-1) if name == "own" else video for video in plan(settings) if video.split == split]
        if not (folder / name).exists():
            _write(folder / name, _rendered(extent, settings, chosen, workers))


def _rendered(extent: Extent, settings: PastureSettings, videos: Sequence[Plan], workers: int) -> list[dict[str, NDArray[Any]]]:
    if workers <= 1:
        return [render(extent, settings, video) for video in videos]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(render, extent, settings), videos))


def _write(folder: Path, videos: list[dict[str, NDArray[Any]]]) -> None:
    aside = folder.with_suffix(".aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for file in FILES:
        np.save(aside / f"{file}.npy", np.stack([video[file] for video in videos]))
    aside.rename(folder)


def render(extent: Extent, settings: PastureSettings, video: Plan) -> dict[str, NDArray[Any]]:
    """One video's rows of all files."""
    from PIL import Image

    n, height, width = round(settings.seconds * settings.fps), settings.height, settings.width
    place = (settings.seed, 600, video.pen) if video.pen >= 0 else (settings.seed, 601, video.index)
    studio, motions = set_up_herd(
        (settings.seed, video.index), scripts(settings, video), 1, n, settings.fps, width, height, settings.difficulty,
        Conditions(background=place), settings.names, views=("top",),
    )  # fmt: skip
    kept = np.arange(0, n, _EVERY)
    shots = [studio.take(int(t))[0] for t in kept]
    boxes = [masks.box(mask) for _, mask in shots]
    seen = np.array([box is not None for box in boxes])
    small, side = extent.view, extent.square
    out: dict[str, NDArray[Any]] = {
        "views": np.stack([np.asarray(Image.fromarray(p).resize(small, Image.Resampling.BICUBIC)) for p, _ in shots]),
        "in_view": np.packbits([masks.resample(mask, small[1], small[0], (0, 0, width, height)) for _, mask in shots], axis=-1),
        "crops": np.zeros((len(kept), side, side, 3), np.uint8),
        "within": np.zeros((len(kept), side, side // 8), np.uint8),
        "valid": np.tile(np.array([0, 0, 1, 1], np.float32), (len(kept), 1)),
        "seen": seen,
        "labels": motions[0].labels[kept].astype(np.int8),
    }
    rows = np.flatnonzero(seen)
    found, time = np.array([boxes[t] for t in rows], float), kept[rows] / settings.fps
    unbroken = np.cumsum(np.diff(rows, prepend=-1) > 1)
    squares = geometry(found, time, unbroken, View(x=0, y=0, w=width, h=height), CropSettings(size=side))
    for t, source, valid in zip(rows, squares.source, squares.valid, strict=True):
        picture, mask = shots[t]
        x, y, w, h = (float(v) for v in source)
        out["crops"][t] = cut(picture, source, side)
        out["within"][t] = np.packbits(masks.resample(mask, side, side, (x, y, w, h)), axis=-1)
        out["valid"][t] = np.clip(np.array([valid[0], valid[1], valid[0] + valid[2], valid[1] + valid[3]]) / side, 0, 1)
    return out
