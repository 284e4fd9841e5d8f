"""What a picture of a given size costs SAM 2 (the tiny one, random weights, one thread), and what the library alone would keep of it.

Seconds are those of a loaded or an idle machine, whichever it is; what counts is the ratio of the sizes, which take turns.

    python benchmarks/sam2_cost.py [--sizes 512 1024] [--frames 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
import transformers
from cells import RESULTS, write_cell

from foveate.models.sam2 import open_sam2
from foveate.track.sam2.session import Given, Session


def stored(session: Session) -> int:
    """Bytes of all that a session of the library holds."""
    memory = session.memories[0]
    outputs = [
        value for frames in memory.output_dict_per_obj[0].values() for kept in frames.values() for value in kept.values()
    ]
    return sum(value.nbytes for value in [*outputs, *memory.processed_frames.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--frames", type=int, default=3, help="timed, after the prompted one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        transformers.Sam2VideoModel(transformers.Sam2VideoConfig()).save_pretrained(folder)  # the default is hiera-tiny
        models = {size: open_sam2(folder, size, torch.device("cpu")) for size in arguments.sizes}
    parameters = sum(p.numel() for p in next(iter(models.values())).module.parameters())
    picture = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    sessions = {size: Session(model, 540, 960, bounded=False) for size, model in models.items()}
    seconds: dict[int, list[float]] = {size: [] for size in models}
    before = dict.fromkeys(models, 0)
    for frame in range(arguments.frames + 1):
        for size, session in sessions.items():
            begin = time.perf_counter()
            session.step(picture, {0: Given(points=((480.0, 270.0),))} if frame == 0 else {})
            if frame:
                seconds[size].append(time.perf_counter() - begin)
            else:
                before[size] = stored(session)
    found = {
        str(size): {
            "seconds_per_frame": round(statistics.median(seconds[size]), 2),
            "kept_mb_per_frame": round((stored(sessions[size]) - before[size]) / arguments.frames / 2**20, 1),
        }
        for size in models
    }
    ratio = statistics.median(seconds[max(models)]) / statistics.median(seconds[min(models)])
    print(found, f"ratio {ratio:.1f}")
    write_cell(
        RESULTS / "sam2_cost.json", {"parameters": parameters, "sizes": found, "ratio_largest_to_smallest": round(ratio, 1)}
    )


if __name__ == "__main__":
    main()
