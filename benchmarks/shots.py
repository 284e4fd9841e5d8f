"""Cuts to another shot: how many are found where takes are glued together, and how many are seen where there are none?

    FOVEATE_DATA=... python benchmarks/shots.py

Takes are the clips, their tiles (one by one) and the tuning half of DAVIS; they hold no cut. Glued: 300 takes drawn at random, of 12
analysed frames at most, one after another, of which two neighbours never are of one camera. A cut counts as found only in the very
frame. Continuous: every take alone, forward; false cuts per hour of it. Then what is no cut, but looks like one: light that goes to
infrared, light that is dimmed, a camera that is hit, something before the lens that covers a part of the picture.
The thresholds of `track/shots.py` were chosen on this very footage, so the figures say how well the two kinds come apart, not more.
Also: what the two filters of frames leave out of it, by day and darkened to a share of its light, and of rendered pasture by night.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from foveate.project import Project
from foveate.settings import TrackSettings, View
from foveate.simulate import PastureSettings, simulate
from foveate.track.shots import Look, Shots, dropped
from foveate.video import read_frames, read_timeline

Picture = NDArray[np.uint8]
STEPS = (0.1, 0.5, 1.0)
TUNED = ("blackswan", "dance-jump", "hike", "mallard-fly")
SIDE = 144  # pixels of the short side of what is kept in memory
STILL = 0.15  # mean difference in grey levels below which a tile stands still; its tail does, to fill the file
DARK = (0.3, 0.15, 0.07)


def takes(folder: Path) -> Iterator[tuple[str, float, list[Picture]]]:
    """Name with the camera's before the slash, frames per second, pictures uint8[h, w, 3] of 15 a second at most."""
    for path in sorted((folder / "clips").rglob("*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            every = 2 if rate > 20 else 1
            pictures = [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(stream)) if i % every == 0]
        if path.parent.name == "bsoid_mouse":
            for tile in range(3):
                own = [small(p[:, 450 * tile : 450 * tile + 450]) for p in pictures]
                moves = [i for i in range(1, len(own)) if np.abs(own[i].astype(int) - own[i - 1]).mean() > STILL]
                yield f"bsoid/{path.stem}-{tile}", rate / every, own[: max(moves, default=0) + 1]
        else:
            yield f"{path.stem}/", rate / every, [small(p) for p in pictures]
    for name in TUNED:
        files = sorted((folder / "davis2016" / "JPEGImages" / "480p" / name).glob("*.jpg"))
        yield f"{name}/", 24.0, [small(np.asarray(Image.open(file).convert("RGB"))) for file in files]


def small(picture: Picture) -> Picture:
    zoom = SIDE / min(picture.shape[:2])
    size = round(picture.shape[1] * zoom), round(picture.shape[0] * zoom)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BOX))


def cuts_of(pictures: list[Picture], step: float) -> list[int]:
    """Positions at which a new shot is seen."""
    h, w = pictures[0].shape[:2]
    view = View(x=0, y=0, w=w, h=h)
    shots = Shots("full", view, TrackSettings(), np.arange(len(pictures)) * step, step, np.empty(0, np.int64))
    return [i for i, picture in enumerate(pictures) if shots.cuts(i, Look(shots.look(picture).small))]


def to_size(picture: Picture, like: Picture) -> Picture:
    h, w = like.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((w, h), Image.Resampling.BICUBIC))


def glued(
    sources: dict[str, tuple[float, list[Picture]]], step: float, rng: np.random.Generator
) -> tuple[list[Picture], list[int]]:
    """300 takes one after another, and where each but the first begins. Big cameras are drawn as often as small ones."""
    cameras = sorted({name.split("/")[0] for name in sources})
    pictures: list[Picture] = []
    canvas = np.empty((SIDE, SIDE * 16 // 9, 3), np.uint8)
    begins, before = [], ""
    while len(begins) < 300:
        camera = str(rng.choice([c for c in cameras if c != before]))
        name = str(rng.choice([n for n in sorted(sources) if n.split("/")[0] == camera]))
        rate, frames = sources[name]
        every = max(1, round(step * rate))
        own = frames[int(rng.integers(max(1, len(frames) - 4 * every))) :: every][:12]
        begins.append(len(pictures))
        pictures += [to_size(p, canvas) for p in own]
        before = camera
    return pictures, begins[1:]


def night() -> Iterator[Picture]:
    """Views of rendered pasture in grey infrared."""
    settings = PastureSettings(
        seed=9, annotated=2, unannotated=2, test=0, seconds=20, fps=2, width=320, height=180, step=0.5, night=1.0
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), settings)
        for video in Project.load(folder).videos:
            clock = read_timeline(video.path)
            for picture in read_frames(video.path, clock, clock.frame):
                yield from (picture[:180], picture[180:])


# --- what is no cut ------------------------------------------------------------------------------------------------------------------


def infrared(picture: Picture, rng: np.random.Generator) -> Picture:
    """Grey by another mixture of colours (some of which turn dark things bright), lit from the middle, noisy."""
    grey = picture.astype(np.float32) @ rng.uniform([0.1, -0.3, -0.4], [0.6, 0.5, 0.3]).astype(np.float32)
    grey = (grey - grey.min()) / (np.ptp(grey) + 1e-6)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    light = np.exp(-((x / grey.shape[1] - 0.5) ** 2 + (y / grey.shape[0] - 0.5) ** 2) * rng.uniform(1, 4))
    grey = grey ** rng.uniform(0.5, 1.5) * light * rng.uniform(100, 230) + rng.normal(0, 6, grey.shape)
    return np.clip(grey[..., None].repeat(3, -1), 0, 255).astype(np.uint8)


def dimmed(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.clip(picture * rng.uniform(0.12, 0.3) + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def hit(picture: Picture, rng: np.random.Generator) -> Picture:
    """Moved by up to an eighth of the sides, and blurred along."""
    h, w = picture.shape[:2]
    moved = shift(picture.astype(np.float32), (*(rng.uniform(-0.12, 0.12, 2) * (h, w)), 0), order=1, mode="nearest")
    return np.clip(gaussian_filter(moved, (rng.uniform(0, 2), rng.uniform(0, 4), 0)), 0, 255).astype(np.uint8)


def covered(picture: Picture, other: Picture, share: float, rng: np.random.Generator) -> Picture:
    """One side of the picture shows something else."""
    out = picture.copy()
    width = round(share * picture.shape[1])
    left = 0 if rng.random() < 0.5 else picture.shape[1] - width
    out[:, left : left + width] = to_size(other, picture)[:, left : left + width]
    return out


def main() -> None:
    rng = np.random.default_rng(0)
    start = time.process_time()
    sources = {name: (rate, pictures) for name, rate, pictures in takes(footage())}
    print(f"{len(sources)} takes read in {time.process_time() - start:.0f} s")
    steps = {}
    for step in STEPS:
        pictures, begins = glued(sources, step, rng)
        found = set(cuts_of(pictures, step))
        false, hours, where = 0, 0.0, {}
        for name, (rate, frames) in sources.items():
            every = max(1, round(step * rate))
            seen = cuts_of(frames[::every], step)
            hours += len(frames) / rate / 3600
            false += len(seen)
            if seen:
                where[name] = len(seen)
        steps[str(step)] = {
            "cuts": len(begins),
            "recall": round(len(found & set(begins)) / len(begins), 4),
            "precision": round(len(found & set(begins)) / max(1, len(found)), 4),
            "false_cuts": false,
            "hours": round(hours, 3),
            "false_cuts_per_hour": round(false / hours, 1),
            "false_cuts_in": where,
        }
        print(step, steps[str(step)], flush=True)
    every_picture = [p for _, frames in sources.values() for p in frames]
    disturbances = {}
    steady = [name for name in sources if name.split("/")[0] not in TUNED]
    makers = {
        "infrared": infrared,
        "dimmed": dimmed,
        "hit": hit,
        **{
            f"covered {share:.0%}": lambda p, r, share=share: covered(
                p, every_picture[r.integers(len(every_picture))], share, r
            )
            for share in (0.4, 0.6, 0.75)
        },
    }
    for kind, make in makers.items():
        seen = 0
        for k in range(300):
            rate, frames = sources[steady[k % len(steady)]]
            every = max(1, round(0.5 * rate))
            before = frames[int(rng.integers(max(1, len(frames) - 6 * every))) :: every][:6]
            seen += len(before) in cuts_of(
                [*before, make(frames[min(len(frames) - 1, 0)] if not before else before[-1], rng)], 0.5
            )
        disturbances[kind] = round(seen / 300, 4)
        print(kind, disturbances[kind], flush=True)
    filters = {}
    chosen = every_picture[:: max(1, len(every_picture) // 1000)]
    for light in (1.0, *DARK):
        noisy = [np.clip(p * light + rng.normal(0, 3, p.shape), 0, 255).astype(np.uint8) if light < 1 else p for p in chosen]
        filters[f"light {light:g}"] = {
            rule: round(sum(bool(dropped(p, rule)) for p in noisy) / len(noisy), 4) for rule in ("blank", "paper")
        }
        print(light, filters[f"light {light:g}"], flush=True)
    black = [np.clip(rng.normal(16, 3, chosen[0].shape), 0, 255).astype(np.uint8) for _ in range(100)]
    filters["black with noise"] = {rule: float(np.mean([bool(dropped(p, rule)) for p in black])) for rule in ("blank", "paper")}
    by_night = list(night())
    filters["pasture by night"] = {
        rule: float(np.mean([bool(dropped(p, rule)) for p in by_night])) for rule in ("blank", "paper")
    }
    print("night", filters["pasture by night"], flush=True)
    write_cell(
        RESULTS / "shots.json",
        {
            "what": "cuts to another shot, seen in the pictures the tracker reads; frames left out",
            "by_step": steps,
            "taken_for_a_cut": disturbances,
            "left_out": filters,
        },
    )


if __name__ == "__main__":
    main()
