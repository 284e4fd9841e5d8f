"""Does the memory of SAM 2 stay flat over ten thousand frames, and are its answers still those of the library that keeps everything?

A SAM 2 with random weights, 64 pixels and two subjects (prompted again every 500 frames) is shown 10,000 pictures. Asked: the slope of
RssAnon (memory of its own, without files mapped into it) over the last 8,000 is below 5 KB per frame. Beside it the same session without
dropping, over fewer frames, and in how many of them both give the same bits.

    python benchmarks/sam2_memory.py [--frames 10000] [--kept 400]
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from cells import RESULTS, write_cell
from memory import anonymous

sys.path.insert(0, str(Path(__file__).parents[1]))
from foveate.models.sam2 import Segmenter, open_sam2
from foveate.track.sam2.session import Given, Session
from tests.tiny_sam2 import SIZE, make_sam2

ASKED_KB = 5.0
HEIGHT, WIDTH = 72, 96
AGAIN = 500  # frames from one prompt to the next
EVERY = 20  # frames from one reading to the next


def picture(frame: int) -> np.ndarray:
    ground = np.random.default_rng(0).integers(60, 180, (9, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    x, y = int(40 + 30 * np.sin(frame / 17)), int(30 + 20 * np.cos(frame / 13))
    ground[y : y + 16, x : x + 20] = (230, 200, 60 + frame % 100)
    return ground


def watch(session: Session, frames: int, first: int = 0) -> tuple[list[tuple[int, int]], list[torch.Tensor]]:
    """(frame, RssAnon in bytes) every ``EVERY`` frames, and the first subject's logits of the first 400 frames."""
    readings, logits = [], []
    for frame in range(frames):
        given = {0: Given(points=((40.0, 36.0),)), 1: Given(box=(20.0, 20.0, 70.0, 60.0))} if frame % AGAIN == 0 else {}
        seen = session.step(picture(frame), given)
        if frame < 400:
            logits.append(seen[0].logits.clone())
        if frame % EVERY == 0:
            readings.append((frame, anonymous()))
        if frame % 1000 == 0:
            print(f"frame {frame:6} {readings[-1][1] / 2**20:8.1f} MB", flush=True)
    return readings, logits


def slope(readings: list[tuple[int, int]], begin: int) -> float:
    """KB per frame, least squares, from frame ``begin`` on."""
    frames, size = np.array([r for r in readings if r[0] >= begin], float).T
    return float(np.polyfit(frames, size / 1024, 1)[0])


def open_tiny(folder: Path) -> Segmenter:
    return open_sam2(str(make_sam2(folder)), device=torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--kept", type=int, default=400, help="frames of the session that keeps everything")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = open_tiny(Path(folder))
    begin = arguments.frames // 5
    bounded, ours = watch(Session(model, HEIGHT, WIDTH), arguments.frames)
    gc.collect()
    kept, theirs = watch(Session(model, HEIGHT, WIDTH, bounded=False), arguments.kept)
    found = slope(bounded, begin)
    growing = slope(kept, arguments.kept // 5)
    same = sum(torch.equal(one, other) for one, other in zip(ours, theirs, strict=False))
    late = [size for frame, size in bounded if frame >= begin]
    print(f"dropping: {found:.3f} KB per frame over the last {arguments.frames - begin} frames (asked: below {ASKED_KB:g})")
    print(f"keeping everything: {growing:.1f} KB per frame; {same} of {min(len(ours), len(theirs))} frames have the same bits")
    result = {
        "model": f"random weights, {SIZE} pixels, {sum(p.numel() for p in model.module.parameters())} parameters",
        "subjects": 2,
        "frames": arguments.frames,
        "prompts_per_subject": -(-arguments.frames // AGAIN),
        "from_frame": begin,
        "slope_kb_per_frame": round(found, 3),
        "asked_kb_per_frame": ASKED_KB,
        "range_mb": round((max(late) - min(late)) / 2**20, 2),
        "largest_mb": round(max(late) / 2**20, 1),
        "keeping_everything": {"frames": arguments.kept, "slope_kb_per_frame": round(growing, 1)},
        "same_bits": {"frames": min(len(ours), len(theirs)), "same": same},
    }
    write_cell(RESULTS / "sam2_memory.json", result)


if __name__ == "__main__":
    main()
