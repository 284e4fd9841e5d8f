"""A project up to its crops with a tiny random backbone: two views, two subjects, a gap, two parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import transformers

from foveate import crops, masks, timeline, track
from foveate.project import Project, Video
from foveate.schema import FEATURES, LAYERS, TRACK
from foveate.store import write_parquet
from foveate.videowriter import VideoWriter

FRAMES, SPLIT, SIZE = 30, 20, 42  # analysed frames, the first of the second part, the model's picture
NAMES = [f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES]
VIEWS = {"left": (0, 0, 96, 96), "right": (96, 0, 96, 96)}


def tiny_model(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, patch_size=14, image_size=42
    )
    model = transformers.Dinov2Model(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def make(folder: Path, videos: int = 1) -> Path:
    """A project up to its crops: two views, two subjects, one of which is in the left view only; a gap; two parts. Further videos have
    other backgrounds and subjects."""
    folder.mkdir(parents=True)
    for k in range(videos):
        film(folder / _clip(k), k)
    views = "".join(f"  {n}: {{x: {x}, y: {y}, w: {w}, h: {h}}}\n" for n, (x, y, w, h) in VIEWS.items())
    (folder / "foveate.yaml").write_text(
        f"foveate: 1\nviews:\n{views}analyse: {{every: 1}}\ncrop: {{size: 64, smooth: 0}}\n"
        f"embed: {{model: runs/tiny, image_size: {SIZE}, batch: 8}}\n"
    )
    rows = [f"v {k + 1},{_clip(k)},anna{k or ''};bela{k or ''}\n" for k in range(videos)]
    (folder / "videos.csv").write_text("video,path,subjects\n" + "".join(rows), encoding="utf-8")
    tiny_model(folder / "runs" / "tiny")
    project = Project.load(folder)
    for video in project.videos:
        timeline.run(project, video)
        write_track(project, video)
        crops.run(project, video)
    return folder


def film(path: Path, seed: int = 0) -> None:
    """Three coloured animals; the seed makes another background."""
    background = np.random.default_rng(seed).integers(60, 120, (96, 192, 3)).astype(np.uint8)
    with VideoWriter(path, 192, 96, rate=10) as writer:
        for t in range(FRAMES):
            picture = background.copy()
            picture[20 + t : 44 + t, 30:60] = (220, 30, 30)
            picture[50:70, 100 + t : 130 + t] = (30, 220, 40)
            picture[4:16, 60:84] = (40, 40, 230)
            writer.write(picture)


def _clip(number: int) -> str:
    return f"clip{number or ''}.mp4"


def write_track(project: Project, video: Video) -> None:
    target = track.artefact(project, video)
    target.begin()
    clock = timeline.analysed(project, video)
    for part, frames in enumerate((range(SPLIT), range(SPLIT, FRAMES))):
        rows = []
        for t in frames:
            for view in VIEWS:
                for subject in video.subjects:
                    mask = np.zeros((96, 96), bool)
                    if (view, subject[:4]) == ("left", "anna") and t != 5:
                        mask[20 + t : 44 + t, 30:60] = True
                    elif (view, subject[:4]) == ("left", "bela"):
                        mask[4:16, 60:84] = True
                    elif (view, subject[:4]) == ("right", "anna"):
                        mask[50:70, 4 + t : 34 + t] = True
                    seen = mask.any()
                    box = masks.box(mask) if seen else None
                    row = dict(zip("xywh", [float(v) for v in box] if box is not None else [None] * 4, strict=True))
                    row |= {"video": video.name, "view": view, "subject": subject, "frame": t, "time": float(clock.time[t])}
                    row |= {"state": "tracked" if seen else "absent", "score": 1.0, "identity_score": None}
                    row |= {"area": int(mask.sum()), "rle": masks.encode(mask) if seen else None}
                    rows.append(row)
        write_parquet(target.path(f"part-{part:05d}.parquet"), pa.Table.from_pylist(rows, schema=TRACK))
    target.finish({})
