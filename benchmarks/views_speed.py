"""How fast are DINOv2's views on a CPU, against the same draws made with PIL, and what share of a training step do they take?

One thread, seconds of the processor, the ways alternating in one process. With --step, beside it: a whole step of the method with a
ViT-S/14 at the miniature size, and how much of it goes to views and to the bare backbones.

    python benchmarks/views_speed.py [--step]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cells import RESULTS, write_cell
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from foveate.data.augment import Augmentation, Draws, Views, views
from foveate.data.clips import Clips
from foveate.methods.dinov2 import Dinov2, Dinov2Config
from foveate.methods.moment import Moment
from foveate.models.vit import Vit, sized

SIZES = {
    "2 x 224 + 8 x 98 px": (256, Augmentation()),
    "2 x 112 + 4 x 56 px": (128, Augmentation(large=112, small=56, smalls=4)),
    "2 x 64 + 4 x 32 px": (96, Augmentation(large=64, small=32, smalls=4)),
}
BATCH, ROUNDS = 16, 9


def photos(count: int, side: int) -> torch.Tensor:
    """u8[count, 3, side, side] with colours that vary as in photographs."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((count, 3, 9, 9), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(small, (side, side), mode="bicubic").clamp_(0, 1) * 235
    return (smooth + torch.from_numpy(rng.random((count, 3, side, side), dtype=np.float32)) * 20).byte()


def by_pil(pictures: list[Image.Image], draws: Draws, size: int, how: Augmentation) -> torch.Tensor:
    """The same views with PIL, as the published pipeline makes them."""
    made = []
    for k in range(len(draws.flip)):
        x = pictures[k % len(pictures)].crop(tuple(draws.box[k].tolist())).resize((size, size), Image.Resampling.BICUBIC)
        if draws.flip[k]:
            x = ImageOps.mirror(x)
        for number in draws.order[k] if not np.isnan(draws.factor[k, 0]) else ():
            factor = float(draws.factor[k, number])
            if number == 3:
                h, s, v = x.convert("HSV").split()
                turned = Image.fromarray(np.asarray(h) + np.uint8(int(factor * 255) % 256))
                x = Image.merge("HSV", (turned, s, v)).convert("RGB")
            else:
                x = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[number](x).enhance(factor)
        x = x.convert("L").convert("RGB") if draws.grey[k] else x
        x = x.filter(ImageFilter.GaussianBlur(float(draws.sigma[k]))) if draws.sigma[k] else x
        x = ImageOps.solarize(x, 128) if draws.solarise[k] else x
        made.append(torch.from_numpy(np.array(x)).permute(2, 0, 1).float() / 255)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (how.mean, how.std))
    return (torch.stack(made) - mean) / std


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def views_cell(side: int, how: Augmentation) -> dict[str, object]:
    frames, valid = photos(BATCH, side), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(BATCH, 1)
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]

    def ours(step: int) -> Views:
        return views(frames, valid, torch.arange(BATCH), 0, step, how)

    def pils(seen: Views) -> None:
        by_pil(pictures, seen.large_draws, how.large, how)
        by_pil(pictures, seen.small_draws, how.small, how)

    times = []
    for step in range(ROUNDS):
        seen = ours(step)
        times.append((seconds(partial(ours, step)), seconds(partial(pils, seen))))
    mine, theirs = (BATCH / statistics.median(column) for column in zip(*times, strict=True))
    return {"pictures_per_second": round(mine, 1), "pil": round(theirs, 1), "ratio": round(mine / theirs, 2)}


def step_cell() -> dict[str, object]:
    """Seconds of the processor for a batch of the miniature size, forward and backward."""
    side, how = SIZES["2 x 112 + 4 x 56 px"]
    torch.manual_seed(0)
    method = Dinov2(Vit(sized("small", image_size=112)), Dinov2Config(views=how, prototypes=2048))
    batch = Clips(
        frames=photos(BATCH, side)[:, None, None],
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(BATCH, 1),
        time=torch.zeros(BATCH, 1, 1, dtype=torch.float64),
        where=torch.zeros(BATCH, 1, 1, 4, dtype=torch.int32),
        index=torch.arange(BATCH),
    )
    large, small = torch.randn(2 * BATCH, 3, how.large, how.large), torch.randn(how.smalls * BATCH, 3, how.small, how.small)
    masked = torch.zeros(2 * BATCH, 64, dtype=torch.bool)

    def bare() -> None:
        """Backbones alone on the same tokens: the teacher forward, the student forward and backward."""
        with torch.no_grad():
            method.teacher(large)
        seen = method.student.many([large, small], [masked, None])
        (seen[0].cls.square().sum() + seen[0].patches.square().sum() + seen[1].cls.square().sum()).backward()

    def whole(step: int) -> None:
        at = Moment(step, 1000, 100, 0, BATCH)
        method.step(batch, at)[0].backward()
        method.after_step(at)

    times: dict[str, list[float]] = {"step": [], "backbones": [], "views": []}
    for step in range(5):
        times["step"].append(seconds(partial(whole, step)))
        times["backbones"].append(seconds(bare))
        times["views"].append(seconds(partial(views, batch.frames[:, 0, 0], batch.valid, batch.index, 0, step, how)))
        method.zero_grad(set_to_none=True)
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    shares = {
        "backbones_of_step": round(medians["backbones"] / medians["step"], 3),
        "views_of_step": round(medians["views"] / medians["step"], 3),
        "pictures_per_second": round(BATCH / medians["step"], 2),
    }
    print(medians, shares)
    return {"seconds": medians, **shares, "batch": BATCH, "prototypes": 2048}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"views": {}}
    for name, (side, how) in SIZES.items():
        result["views"][name] = views_cell(side, how)
        print(name, result["views"][name], flush=True)
    if arguments.step:
        result["step"] = step_cell()
    write_cell(RESULTS / "views_speed.json", result)


if __name__ == "__main__":
    main()
