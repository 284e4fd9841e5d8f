"""kill -9, ten times, at random moments while a video of 60 s is tracked: does the track end as if nobody had disturbed it?

A composite of one minute (`composite.py`, subject hike) is tracked twice, the second time by processes that are killed one after another at
times drawn from the seed. Parts are 8 analysed frames long instead of 1,024, so that there are fifteen of them and a kill may fall before,
inside and between parts; the tracker sees 168 pixels. Compared is every byte under ``tracks/``.

    FOVEATE_DATA=... python benchmarks/tracking_kill.py [--kills 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS, write_cell

SEGMENT, SHORT_SIDE = 8, 168
SPREAD = 0.1
"""A process lives for its start and up to this share of the time that tracking alone takes."""


def child(folder: Path) -> int:
    """`foveate track` with short parts."""
    import foveate.schema

    foveate.schema.SEGMENT = SEGMENT  # before anything imports it by name
    from foveate.cli import main as command

    return command(["track", "--project", str(folder), "--workers", "1"])


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--child", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted((folder / "tracks").rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def parts(folder: Path) -> int:
    return len(list((folder / "tracks").rglob("part-*.parquet")))


def undisturbed(folder: Path) -> tuple[float, float]:
    """Seconds until the first part is there, and from then on."""
    begin, first = time.perf_counter(), 0.0
    process = start(folder)
    while process.poll() is None:
        if not first and parts(folder):
            first = time.perf_counter() - begin
        time.sleep(0.02)
    if process.returncode:
        sys.exit("the undisturbed run failed")
    return first, time.perf_counter() - begin - first


def disturbed(folder: Path, kills: int, seed: int, first: float, rest: float) -> list[dict[str, Any]]:
    """Kill as often as asked, then let it end; the parts on disk at each kill."""
    rng, done = np.random.default_rng(seed), []
    while len(done) < kills:
        process, wait = start(folder), first * rng.uniform(0.7, 1.2) + SPREAD * rest * rng.uniform()
        try:
            process.wait(timeout=wait)
            sys.exit("the video was done before it was killed often enough; choose another seed")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the process and what it started
            process.wait()
        done.append({"after_s": round(wait, 2), "parts": parts(folder)})
        print(done[-1], flush=True)
    if start(folder).wait():
        sys.exit("the last run failed")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.exit(child(args.child))
    with tempfile.TemporaryDirectory(prefix="foveate-kill-") as scratch:
        calm, shaken = Path(scratch) / "calm", Path(scratch) / "shaken"
        make = [sys.executable, str(Path(__file__).with_name("composite.py")), "--subject", "hike", "--minutes", "1"]
        subprocess.run([*make, "--short-side", str(SHORT_SIDE), "--make-only", "--keep", str(calm)], check=True)
        shutil.copytree(calm, shaken)
        first, rest = undisturbed(calm)
        print(f"undisturbed: {first:.1f} s to the first part, {rest:.1f} s from there")
        kills = disturbed(shaken, args.kills, args.seed, first, rest)
        same = contents(calm) == contents(shaken)
        count = parts(calm)
    print(f"{len(kills)} kills, {count} parts; identical: {same}")
    about = {"what": "kill -9 at random moments of tracking a video of 60 s", "tracker": "propagate", "seed": args.seed}
    write_cell(RESULTS / "tracking_kill.json", {**about, "kills": kills, "parts": count, "identical": same})
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
