"""How long `foveate status`, and `foveate run` with nothing to do, take in a project of many videos.

A miniature project (rendered, small, a descriptor without weights) is finished once; then both commands are timed in fresh processes, the
start of Python included.

    python benchmarks/status.py [--videos 200] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from cells import RESULTS, write_cell

from foveate.simulate import PastureSettings, simulate

ASKED = {"status": 1.0, "run": 3.0}
"""Seconds at most, for 200 videos."""


def prepare(folder: Path, videos: int) -> None:
    """A project of ``videos`` short videos, a tenth of them annotated; every stage done."""
    annotated = max(4, videos // 10)
    pasture = PastureSettings(
        seed=5, annotated=annotated, unannotated=videos - annotated, test=2, seconds=20, fps=5, width=160, height=90, step=1.0
    )
    simulate(folder, pasture, workers=2)
    config = folder / "foveate.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) | {
        "track": {"method": "motion"},
        "crop": {"size": 64},
        "embed": {"model": "handcrafted", "image_size": 56},
        "probe": {"window": 3, "folds": 2, "strengths": [0.1, 1.0]},
        "baselines": {"whole_picture": {"source": "frame", "feature": "cls", "window": 1}},
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    (folder / "prompts" / "prompts.csv").unlink(missing_ok=True)  # the tracker `motion` takes none


def command(name: str, folder: Path) -> float:
    """Seconds of one fresh process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "foveate", name, "-p", str(folder)], capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"foveate {name} failed:\n{done.stdout}\n{done.stderr}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder for the project; one that is there already goes on from where it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.work or Path(scratch)) / "many videos"
        if not (folder / "foveate.yaml").exists():
            prepare(folder, arguments.videos)
        command("run", folder)
        bare = [_bare() for _ in range(arguments.repeats)]
        times = {name: [command(name, folder) for _ in range(arguments.repeats)] for name in ASKED}
    result = {
        "videos": arguments.videos,
        "seconds_of_an_empty_python": statistics.median(bare),
        **{name: {"median_s": statistics.median(t), "all_s": t, "asked_s": ASKED[name]} for name, t in times.items()},
    }
    write_cell(RESULTS / "status.json", result)
    for name in ASKED:
        print(f"foveate {name}: {result[name]['median_s']:.2f} s (asked: {ASKED[name]:.0f})")


def _bare() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
