"""The tracker `propagate` on eight DAVIS 2016 sequences: given the mask of the first frame, how well are the later ones found?

    FOVEATE_DATA=... python benchmarks/davis_propagation.py [SEQUENCE ...] [--stride N] [--harden SEED]

Settings are the defaults of `track`. They were tuned on blackswan, dance-jump, hike and mallard-fly; the other four are only reported.
J: region IoU, mean over frames 1.. of a sequence, then over sequences. share: part of the subject's pixels that lies inside the crop (the
mask's box + 10 % on each side, extended to a square, no smoothing), averaged alike; 0 where nothing was found.
One JSON cell per sequence; only missing cells are run. With --stride every Nth frame is kept, which is how fast animals and low frame
rates were imitated while tuning; with --harden the filming is made difficult (`harden.py`), another way for each SEED. Both are only for
the tuning half, printed and not stored.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from harden import harden
from numpy.typing import NDArray
from PIL import Image

from foveate import masks
from foveate.crops import geometry
from foveate.models.pretrained import load_backbone
from foveate.settings import CropSettings, TrackSettings, View
from foveate.track.pixels import to_mask
from foveate.track.propagate import DEPTH, Propagator
from foveate.track.scene import cut

TUNED = ("blackswan", "dance-jump", "hike", "mallard-fly")
REPORTED = ("dog-agility", "horsejump-low", "lucia", "rollerblade")
FOLDER = RESULTS / "davis_propagation"


def share_in_crop(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Part of the true pixels whose centre lies in the square crop around the mask that was found."""
    box = masks.box(found)
    if box is None:
        return 0.0
    height, width = truth.shape
    one = np.zeros(1)
    place = geometry(
        np.array([box], float), one, one.astype(np.int64), View(x=0, y=0, w=width, h=height), CropSettings(smooth=0)
    )
    x, y, w, h = place.source[0]
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    inside = np.outer((down >= y) & (down < y + h), (across >= x) & (across < x + w))
    return float((truth & inside).sum() / truth.sum())


def frames(folder: Path, name: str, stride: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Pictures uint8[H, W, 3] and true masks bool[H, W] of every ``stride``-th frame."""
    for path in sorted((folder / "JPEGImages" / "480p" / name).glob("*.jpg"))[::stride]:
        truth = folder / "Annotations" / "480p" / name / f"{path.stem}.png"
        yield np.asarray(Image.open(path).convert("RGB")), np.asarray(Image.open(truth).convert("L")) > 127


def run_sequence(
    folder: Path, name: str, settings: TrackSettings, stride: int = 1, seed: int | None = None
) -> dict[str, object]:
    scenes = frames(folder, name, stride)
    if seed is not None:
        pictures, truths = zip(*scenes, strict=True)
        scenes = iter(harden(pictures, truths, (seed, TUNED.index(name))))
    backbone = load_backbone(settings.model, depth=DEPTH)
    tracker: Propagator | None = None
    overlaps, shares, lost, seconds = [], [], 0, 0.0
    for picture, truth in scenes:
        height, width = truth.shape
        start = time.perf_counter()
        zoom = settings.short_side / min(height, width) / backbone.patch
        rows, columns = round(height * zoom), round(width * zoom)
        small = cut(picture, View(x=0, y=0, w=width, h=height), rows * backbone.patch, columns * backbone.patch)
        tokens = backbone.patch_tokens(torch.from_numpy(small.copy()).permute(2, 0, 1)[None])[0]
        if tracker is None:
            tracker = Propagator(settings, rows, columns, 1)
            tracker.step(tokens, {0: torch.from_numpy(masks.coverage(truth, rows, columns))})
            continue
        found = tracker.step(tokens)[0]
        assert found is not None
        mask = to_mask((found.labels / found.peak).clamp(max=1).numpy(), small, height, width)
        seconds += time.perf_counter() - start
        union = (mask | truth).sum()
        overlaps.append(float((mask & truth).sum() / union) if union else 1.0)
        if truth.any():
            shares.append(share_in_crop(mask, truth))
        lost += not mask.any()
    return {
        "what": "DAVIS 2016, masks propagated from the first frame",
        "sequence": name,
        "half": "tuned" if name in TUNED else "reported",
        "settings": {**settings.relevant(), "depth": DEPTH},
        "J": round(float(np.mean(overlaps)), 4),
        "share": round(float(np.mean(shares)), 4),
        "frames": len(overlaps),
        "lost": lost,
        "seconds_per_frame": round(seconds / len(overlaps), 3),
        "threads": torch.get_num_threads(),
    }


def show(folder: Path, names: Sequence[str], settings: TrackSettings, stride: int, seed: int | None) -> None:
    """Print the figures of sequences of which every ``stride``-th frame is kept, hardened where there is a ``seed``."""
    figures = []
    for name in names:
        cell = run_sequence(folder, name, settings, stride, seed)
        figures.append((cell["J"], cell["share"]))
        print(f"{name:16} {cell['J']:6.3f} {cell['share']:6.3f}  {cell['lost']} of {cell['frames']}", flush=True)
    print(f"{'mean':16} {np.mean(figures, axis=0)[0]:6.3f} {np.mean(figures, axis=0)[1]:6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="*", choices=(*TUNED, *REPORTED, []), help="default: all")
    parser.add_argument("--stride", type=int, help="keep every Nth frame of sequences of the tuning half; writes nothing")
    parser.add_argument("--harden", type=int, metavar="SEED", help="difficult filming of the same half; writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, settings = footage() / "davis2016", TrackSettings()
    if args.stride is not None or args.harden is not None:
        stride = 1 if args.stride is None else args.stride
        if stride < 1 or (args.harden or 0) < 0 or not set(args.sequences) <= set(TUNED):
            parser.error(
                "--stride takes a number from 1 on, --harden one from 0 on, and both sequences of the tuning half alone"
            )
        show(data, args.sequences or TUNED, settings, stride, args.harden)
        return
    names = args.sequences or (*TUNED, *REPORTED)
    for name in names:
        path = FOLDER / f"{name}.json"
        if not path.exists():
            write_cell(path, run_sequence(data, name, settings))
    for title, half in (("tuned on", TUNED), ("reported", REPORTED)):
        print(f"\n{title:16} {'J':>6} {'share':>6}  lost")
        cells = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in half if (FOLDER / f"{name}.json").exists()}
        for name, cell in cells.items():
            print(f"{name:16} {cell['J']:6.3f} {cell['share']:6.3f}  {cell['lost']} of {cell['frames']}")
        if len(cells) == len(half):
            means = [np.mean([cell[key] for cell in cells.values()]) for key in ("J", "share")]
            print(f"{'mean':16} {means[0]:6.3f} {means[1]:6.3f}")


if __name__ == "__main__":
    main()
