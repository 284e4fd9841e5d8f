"""What clips cost to read: an hour's store of whole views, and a 4K file on its way into one.

Reading: clips of 8 pictures, a second apart, from a store of an hour at 5 pictures a second (one encoded part of 1,024 pictures, linked 18
times), one reading thread; delivered pictures per CPU second against decoding the same file in order; seconds to the first batch; memory of
its own (RssAnon) as batches go by. The released code of DoRA took 1,198 s to its first batch.
4K: the stage `clips` of a synthesised 3840 x 2160 file, CPU seconds against decoding alone, and the process's largest memory.

    python benchmarks/clip_reading.py [--batches 300] [--frames 120]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from cells import RESULTS, write_cell

WIDTH, HEIGHT, PART, PARTS, STEP = 512, 288, 1024, 18, 0.2
BATCH, FRAMES, APART = 16, 8, 1.0


def pictures(width: int, height: int, count: int, seed: int = 0):
    """Mottled ground that a camera walks over, and grain."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(0, 255, (60, 120, 3)).astype(np.uint8)).resize(
        (2 * width, 2 * height), Image.Resampling.BICUBIC
    )
    ground = np.asarray(ground)
    grain = rng.integers(-6, 7, (height, width, 1)).astype(np.int16)
    for t in range(count):
        x, y = (t * 3) % width, int(height / 2 * (1 + np.sin(t / 40)))
        yield (ground[y : y + height, x : x + width] + np.roll(grain, 7 * t, 1)).clip(0, 255).astype(np.uint8)


def own_mb() -> float:
    """Memory of the process alone."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def reading(folder: Path, batches: int) -> dict[str, object]:
    from foveate.data.clips import Shape
    from foveate.data.sampler import Sampler
    from foveate.data.sources import Source, joined, read_store
    from foveate.framestore import read_crops

    before, wall = time.process_time(), time.perf_counter()
    decoded = sum(1 for _ in read_crops(folder / "part-00000.mp4"))
    in_order = decoded / (time.process_time() - before)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (PART, 1))
    wall, before = time.perf_counter(), time.process_time()
    parts = [
        Source(f"hour/full/part-{k:05d}", "hour", "", (HEIGHT, WIDTH), number := np.arange(k * PART, (k + 1) * PART), number * STEP, whole,
               partial(read_store, folder / f"part-{k:05d}.mp4"), stretch=np.zeros(PART, np.int64))
        for k in range(PARTS)
    ]  # fmt: skip
    sampler = Sampler(joined(parts), BATCH, shape=Shape(FRAMES, APART), workers=1)
    stream = sampler.batches()
    next(stream)
    first, first_cpu = time.perf_counter() - wall, time.process_time() - before
    before, memory = time.process_time(), []
    for k in range(batches):
        next(stream)
        if k % (batches // 6) == 0:
            memory.append(round(own_mb()))
    rate = batches * BATCH * FRAMES / (time.process_time() - before)
    return {
        "hours": round(PARTS * PART * STEP / 3600, 2),
        "clips": sampler.count,
        "seconds_to_first_batch": round(first, 2),
        "cpu_seconds_to_first_batch": round(first_cpu, 2),
        "pictures_per_cpu_second_in_order": round(in_order),
        "pictures_per_cpu_second_in_clips": round(rate),
        "ratio": round(rate / in_order, 2),
        "own_memory_mb": memory,
    }


def encode_4k(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "23", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        for picture in pictures(3840, 2160, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def four_k(folder: Path, frames: int) -> dict[str, object]:
    import av

    from foveate import timeline
    from foveate.data import views
    from foveate.project import Project

    project = Project.load(folder)
    timeline.run(project, project.videos[0])
    before = time.process_time()
    with av.open(str(folder / "4k.mp4")) as container:
        container.streams.video[0].codec_context.thread_count = 1
        decoded = sum(1 for _ in container.decode(video=0))
    alone = time.process_time() - before
    before = time.process_time()
    facts = views.run(project, project.videos[0]).facts()
    taken = time.process_time() - before
    return {
        "decoded": decoded,
        "stored": facts["frames"],
        "cpu_seconds_decoding_alone": round(alone, 2),
        "cpu_seconds": round(taken, 2),
        "ratio": round(alone / taken, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--frames", type=int, default=120, help="of the 4K file, 30 a second")
    parser.add_argument("--part", choices=("reading", "4k"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(reading(given.work, given.batches) if given.part == "reading" else four_k(given.work, given.frames)))
        return
    from foveate.videowriter import VideoWriter

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        with VideoWriter(folder / "part-00000.mp4", WIDTH, HEIGHT) as writer:
            for picture in pictures(WIDTH, HEIGHT, PART):
                writer.write(picture)
        for k in range(1, PARTS):
            os.link(folder / "part-00000.mp4", folder / f"part-{k:05d}.mp4")
        encode_4k(folder / "4k.mp4", given.frames)
        (folder / "foveate.yaml").write_text(f"foveate: 1\nanalyse: {{step: {STEP}}}\n")
        (folder / "videos.csv").write_text("video,path,subjects\n4k,4k.mp4,anna\n")
        result = {}
        for part in ("reading", "4k"):  # each in a fresh process, so that its memory is its own
            command = [sys.executable, __file__, "--part", part, "--work", work, "--batches", str(given.batches)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            result[part] = json.loads(out.splitlines()[-1])
            print(part, json.dumps(result[part], indent=1))
    write_cell(RESULTS / "clip_reading.json", result)


if __name__ == "__main__":
    main()
