"""Two hours of footage, tracked once by `foveate track` without anybody's help: what memory it takes, and how well it goes.

The composite (`composite.py`) of twelve different cycles of ten minutes, two frames a second, all of them analysed. Twice a second
RssAnon (memory of its own, without files mapped into it) of the process and its children is read; growth is the largest value after the
first part was written less the value right after it (the largest of the ten seconds that follow). Asked is less than 64 MB.

    FOVEATE_DATA=... python benchmarks/tracking_long.py [--subject hike] [--seed 1] [--minutes 120] [--short-side 224] --keep FOLDER

A folder that is kept is not made again; tracking goes on where it stood, but then says nothing of memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cells import RESULTS, write_cell
from composite_score import score, show

from foveate.settings import TrackSettings

ASKED_MB, EVERY, AFTER = 64, 0.5, 10.0


def rss_anon(pid: int) -> int:
    """Bytes of a process and all that it started."""
    mine, parents, sizes = {pid}, {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it has ended meanwhile
            continue
        parents[int(status.parent.name)] = int(lines["PPid"])
        sizes[int(status.parent.name)] = int(lines.get("RssAnon", "0").split()[0]) * 1024
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(sizes.get(one, 0) for one in mine)


def watch(folder: Path) -> dict[str, Any]:
    """Track; largest RssAnon in MB during each part, and growth."""
    command = [sys.executable, "-m", "foveate", "track", "-p", str(folder), "--workers", "1"]
    largest: dict[int, float] = {}
    begin, first, baseline, later = time.perf_counter(), None, 0.0, 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        now, done = time.perf_counter(), len(list((folder / "tracks" / "composite").glob("part-*.parquet")))
        mb = rss_anon(process.pid) / 2**20
        largest[done] = max(largest.get(done, 0.0), mb)
        if done and first is None:
            first = now
        if first is not None:
            baseline = max(baseline, mb) if now - first < AFTER else baseline
            later = max(later, mb)
        time.sleep(EVERY)
    if process.returncode:
        sys.exit("tracking failed")
    by_part = [round(largest[part], 1) for part in sorted(largest)]
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "largest_mb_by_parts_done": by_part,
        "after_first_part_mb": round(baseline, 1),
        "largest_mb": round(later, 1),
        "growth_mb": round(later - baseline, 1),
        "asked_mb": ASKED_MB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="hike")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--short-side", type=int, default=TrackSettings().short_side)
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    make = [sys.executable, str(Path(__file__).with_name("composite.py")), "--subject", args.subject, "--seed", str(args.seed)]
    make += ["--minutes", str(args.minutes), "--rate", "2", "--short-side", str(args.short_side)]
    subprocess.run([*make, "--make-only", "--keep", str(args.keep)], check=True)
    fresh = not (args.keep / "tracks").exists()
    memory = watch(args.keep)
    result = score(args.keep)
    show(result)
    if fresh:
        print(f"growth {memory['growth_mb']} MB (asked: {ASKED_MB}); by parts done {memory['largest_mb_by_parts_done']}")
        about = {"what": "composite of two hours, tracked once without help", "tracker": "propagate", "subject": args.subject}
        about |= {"seed": args.seed, "minutes": args.minutes, "short_side": args.short_side}
        write_cell(RESULTS / "tracking_long.json", {**about, "rss_anon": memory, **result})


if __name__ == "__main__":
    main()
