"""The tracker `propagate` on eight DAVIS 2016 sequences: given the mask of the first frame, how well are the later ones found?

    FOVEATE_DATA=... python benchmarks/davis_propagation.py [SEQUENCE ...] [--stride N] [--harden SEED]

Settings are the defaults of `track`. They were tuned on blackswan, dance-jump, hike and mallard-fly; the other four are only reported.
J, F: region similarity and boundary accuracy by the data set's own definitions (`foveate.evaluate.davis`): the first and the last frame
are left out, mean over the frames of a sequence, then over sequences; recall: share of frames above .5; decay: mean of the first quarter
less that of the last. share: part of the subject's pixels that lies inside the crop (the mask's box + 10 % on each side, extended to a
square, no smoothing), averaged over the same frames; 0 where nothing was found. Asked on the reported half: J .73, F .66, share .96.
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
from typing import Any

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from harden import harden
from numpy.typing import NDArray
from PIL import Image

from foveate import masks
from foveate.crops import geometry
from foveate.evaluate.davis import Summary, evaluate, summarise
from foveate.evaluate.propagation import RATE, embedded, follow
from foveate.models.pretrained import load_backbone
from foveate.settings import CropSettings, TrackSettings, View
from foveate.track.propagate.propagator import DEPTH

TUNED = ("blackswan", "dance-jump", "hike", "mallard-fly")
REPORTED = ("dog-agility", "horsejump-low", "lucia", "rollerblade")
FOLDER = RESULTS / "davis_propagation"

Scene = tuple[NDArray[np.uint8], NDArray[np.bool_]]


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


def frames(folder: Path, name: str, stride: int = 1) -> Iterator[Scene]:
    """Pictures uint8[H, W, 3] and true masks bool[H, W] of every ``stride``-th frame."""
    for path in sorted((folder / "JPEGImages" / "480p" / name).glob("*.jpg"))[::stride]:
        truth = folder / "Annotations" / "480p" / name / f"{path.stem}.png"
        yield np.asarray(Image.open(path).convert("RGB")), np.asarray(Image.open(truth).convert("L")) > 127


def measures(truths: Sequence[NDArray[np.bool_]], labels: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """All figures of one sequence from its true masks and the objects found."""
    scores = evaluate([truth.astype(np.uint8) for truth in truths], labels)
    shares = [share_in_crop(one > 0, truth) for one, truth in zip(labels[1:-1], truths[1:-1], strict=True) if truth.any()]

    def plain(summary: Summary) -> dict[str, float]:
        return {name: round(getattr(summary, name), 4) for name in ("mean", "recall", "decay")}

    j, f = summarise(scores.regions[0]), summarise(scores.boundaries[0])
    worst = int(scores.regions[0].argmin())
    return {
        "J": plain(j),
        "F": plain(f),
        "JF": round((j.mean + f.mean) / 2, 4),
        "lowest": {"frame": worst + 1, "J": round(float(scores.regions[0][worst]), 4)},
        "share": round(float(np.mean(shares)), 4),
        "frames": scores.regions.shape[1],
        "lost": sum(not one.any() for one in labels[1:-1]),
    }


def run_sequence(scenes: Sequence[Scene], settings: TrackSettings, stride: int = 1) -> dict[str, Any]:
    pictures, truths = zip(*scenes, strict=True)
    backbone = load_backbone(settings.model, depth=DEPTH)
    start = time.perf_counter()
    seen = embedded(pictures, settings.short_side, backbone)
    labels = list(follow(seen, truths[0].astype(np.uint8), settings, stride / RATE))
    seconds = (time.perf_counter() - start) / len(labels)
    return {**measures(truths, labels), "seconds_per_frame": round(seconds, 3), "threads": torch.get_num_threads()}


def line(name: str, cell: dict[str, Any]) -> str:
    return (
        f"{name:16} {cell['J']['mean']:6.3f} {cell['F']['mean']:6.3f} {cell['share']:6.3f}  {cell['lost']} of {cell['frames']}"
    )


def mean_line(cells: Sequence[dict[str, Any]]) -> str:
    j, f = (float(np.mean([cell[key]["mean"] for cell in cells])) for key in "JF")
    return f"{'mean':16} {j:6.3f} {f:6.3f} {np.mean([cell['share'] for cell in cells]):6.3f}  J&F {(j + f) / 2:.3f}"


def try_out(data: Path, names: Sequence[str], settings: TrackSettings, stride: int, seed: int | None) -> None:
    """Print the figures of sequences of which every ``stride``-th frame is kept, hardened where there is a ``seed``."""
    cells = []
    for name in names:
        scenes = list(frames(data, name, stride))
        if seed is not None:
            scenes = harden(*zip(*scenes, strict=True), (seed, TUNED.index(name)))
        cells.append(run_sequence(scenes, settings, stride))
        print(line(name, cells[-1]), flush=True)
    print(mean_line(cells))


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
        try_out(data, args.sequences or TUNED, settings, stride, args.harden)
        return
    for name in args.sequences or (*TUNED, *REPORTED):
        path = FOLDER / f"{name}.json"
        if not path.exists():
            half = "tuned" if name in TUNED else "reported"
            about = {"what": "DAVIS 2016, masks propagated from the first frame", "tracker": "propagate", "sequence": name}
            about |= {"half": half, "settings": {**settings.relevant(), "depth": DEPTH}}
            write_cell(path, {**about, **run_sequence(list(frames(data, name)), settings)})
    for title, half in (("tuned on", TUNED), ("reported", REPORTED)):
        print(f"\n{title:16} {'J':>6} {'F':>6} {'share':>6}  lost")
        cells = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in half if (FOLDER / f"{name}.json").exists()}
        for name, cell in cells.items():
            print(line(name, cell))
        if len(cells) == len(half):
            print(mean_line(list(cells.values())))


if __name__ == "__main__":
    main()
