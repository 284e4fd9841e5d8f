"""A small project whose footage shows a bright animal wandering over a textured floor; where it is, is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from foveate import masks, timeline, track
from foveate.project import Project, Video
from foveate.store import Artefact
from tests.videos import make_video

HEIGHT, WIDTH, FPS = 112, 168, 10
Bool = NDArray[np.bool_]


def place(frame: int) -> tuple[float, float]:
    """Centre of the animal in a frame: a slow loop."""
    return 84 + 50 * np.sin(frame / 17), 56 + 28 * np.sin(frame / 11)


def animal(frame: int, shift: float = 0.0) -> Bool:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = place(frame)
    return np.asarray(np.hypot((x - cx - shift) / 1.4, y - cy) < 13)


def picture(frame: int, where: Bool | None = None, seed: int = 0) -> NDArray[np.uint8]:
    floor = np.random.default_rng(seed).integers(60, 90, (HEIGHT, WIDTH, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    floor[..., 1] += ((x // 20 + y // 20) % 2 * 25).astype(floor.dtype)
    noise = np.random.default_rng(1000 + frame).integers(-4, 5, floor.shape)
    where = animal(frame) if where is None else where
    fur = np.array([225, 190, 60]) + ((x[..., None] - int(place(frame)[0])) // 4 % 2) * 20
    return np.clip(np.where(where[..., None], fur, floor) + noise, 0, 255).astype(np.uint8)


def make_project(
    folder: Path,
    frames: int = 60,
    *,
    prompts: Sequence[str] = (),
    subjects: str = "",
    where: Callable[[int], Bool] = animal,
    views: dict[str, dict[str, int]] | None = None,
    every: int = 1,
    **settings: object,
) -> Project:
    """One video ``v`` (may exist already). ``prompts`` are rows of prompts.csv."""
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    if not (folder / "v.mp4").exists():
        make_video(folder / "v.mp4", (picture(k, where(k)) for k in range(frames)), fps=FPS, crf=12)
    (folder / "videos.csv").write_text(f"video,path,subjects\nv,v.mp4,{subjects}\n")
    (folder / "prompts" / "prompts.csv").write_text("\n".join(["video,view,subject,frame,kind,x,y,w,h,mask", *prompts]) + "\n")
    config = {
        "analyse": {"every": every},
        "views": views or {},
        "track": {"model": "handcrafted", "short_side": 112, **settings},
    }
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config))
    return Project.load(folder)


def tracked(project: Project) -> Artefact:
    video = project.videos[0]
    timeline.run(project, video)
    return track.run(project, video)


def rows(artefact: Artefact) -> list[dict[str, object]]:
    return [row for name in artefact.files(".parquet") for row in artefact.table(name).to_pylist()]


def overlap(row: dict[str, object], truth: Bool) -> float:
    """IoU of a row's mask with the truth; 0 where there is none."""
    if row["rle"] is None:
        return 0.0
    mask = masks.decode(row["rle"], *truth.shape)  # type: ignore[arg-type]
    return float((mask & truth).sum() / (mask | truth).sum())


def video_of(project: Project) -> Video:
    return project.videos[0]
