"""How long does an hour of footage take? Default settings, one animal in one view, one core.

A real clip of 78 s (a mouse in an open field, 640x480, 30 frames a second) goes through the stages; seconds of each are scaled to an hour.
Models are loaded once per run and stage, so a fixed part is in every figure; it is measured on the first ten seconds and taken off.

    FOVEATE_DATA=... python benchmarks/hour.py [--step 0.5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from cells import RESULTS, footage, write_cell

CLIP = "clips/dlc_openfield/m3v1mp4.mp4"
CLICK = "0:122,147"
STAGES = ("track", "crop", "embed")
"""Tracking reads the timestamps of the whole file first."""
SHORT, LONG = 10.0, 70.0
"""Seconds of footage: what an hour costs is the difference of the two, by their difference in length."""


def cut(source: Path, seconds: float, target: Path) -> None:
    """The clip's first seconds, packets copied."""
    import av

    with av.open(str(source)) as found, av.open(str(target), "w") as out:
        stream = found.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in found.demux(stream):
            if packet.dts is not None and packet.pts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                out.mux(packet)


def measure(folder: Path, name: str, seconds: float, step: float) -> dict[str, float]:
    """Seconds of each stage in a fresh process, one thread."""
    videos = folder / f"footage {name}"
    videos.mkdir()
    cut(footage() / CLIP, seconds, videos / "clip.mp4")
    project = folder / name
    foveate = [sys.executable, "-m", "foveate"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([*foveate, "init", str(project), "--footage", str(videos)], check=True, stdout=subprocess.DEVNULL)
    config = project / "foveate.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) | {"analyse": {"step": step}}
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    took = {}
    for stage in STAGES:
        click = ["--prompt", f"clip:{CLICK}"] if stage == "track" else []
        start = time.perf_counter()
        subprocess.run([*foveate, stage, "-p", str(project), *click, "--workers", "1"], check=True, env=environment)
        took[stage] = time.perf_counter() - start
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.5)
    step = parser.parse_args().step
    with tempfile.TemporaryDirectory() as name:
        short = measure(Path(name), "short", SHORT, step)
        long = measure(Path(name), "long", LONG, step)
    minutes = {stage: (long[stage] - short[stage]) / (LONG - SHORT) * 60 for stage in STAGES}
    result = {
        "footage": "640x480, 30 frames per second, one animal, one view, one core",
        "step_s": step,
        "seconds_of": {f"{SHORT:g} s": short, f"{LONG:g} s": long},
        "minutes_per_hour": {stage: round(value, 2) for stage, value in minutes.items()},
        "minutes_per_hour_in_all": round(sum(minutes.values()), 1),
    }
    write_cell(RESULTS / "hour.json", result)
    print(result["minutes_per_hour"], result["minutes_per_hour_in_all"])


if __name__ == "__main__":
    main()
