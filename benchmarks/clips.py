"""The other real clips: tracked and cropped from one click each; the contact sheets in the report are for a person to judge.

    FOVEATE_DATA=... python benchmarks/clips.py --work FOLDER

The clicks are in `clips_prompts.csv`. Nothing is scored here (the clips have no masks); the cell says how many analysed frames were
seen and how sure the tracker was.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import yaml
from cells import RESULTS, footage, write_cell
from mouse import write_rows

from foveate.console import outcome as show_outcome
from foveate.console import show
from foveate.project import Project
from foveate.run import run
from foveate.store import read_parquet

FOLDERS = ("edgetam_examples", "dlc_openfield", "sleap")


def make_project(data: Path, folder: Path) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    with (Path(__file__).parent / "clips_prompts.csv").open(newline="", encoding="utf-8") as handle:
        clicks = {Path(row["file"]).name: row for row in csv.DictReader(handle)}
    videos, prompts = [], []
    for path in sorted(p for name in FOLDERS for p in (data / "clips" / name).glob("*.mp4")):
        if path.name not in clicks:
            continue
        row = clicks[path.name]
        videos.append((path.stem, path.relative_to(data).as_posix(), path.stem))
        prompts.append((path.stem, "full", path.stem, row["frame"], "point", row["x"], row["y"], "", "", ""))
    write_rows(folder / "videos.csv", ("video", "path", "subjects"), videos)
    write_rows(
        folder / "prompts" / "prompts.csv", ("video", "view", "subject", "frame", "kind", "x", "y", "w", "h", "mask"), prompts
    )
    config = {"name": "clips", "footage": str(data), "analyse": {"step": 0.25}}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return Project.load(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="project folder to make or go on with")
    folder = parser.parse_args().work
    project = make_project(footage(), folder)
    result = run(project, show=show)
    show_outcome(result, debug=True)
    clips = {}
    for video in project.videos:
        parts = sorted((folder / "tracks" / video.name).glob("part-*.parquet"))
        rows = [row for part in parts for row in read_parquet(part, ["state", "score"]).to_pylist()]
        seen = [row["score"] for row in rows if row["state"] not in ("lost", "absent")]
        crops = sum(read_parquet(p, ["frame"]).num_rows for p in (folder / "crops" / video.name).rglob("part-*.parquet"))
        clips[video.name] = {
            "analysed_frames": len(rows),
            "seen": len(seen),
            "crops": crops,
            "median_score": round(float(np.median(seen)), 3) if seen else None,
        }
        print(f"{video.name:28} {len(seen):4} of {len(rows):4} frames seen, {crops} crops")
    write_cell(
        RESULTS / "clips.json",
        {
            "what": "real clips tracked and cropped from one click each",
            "clips": clips,
            "problems": [str(f.error).replace(str(folder), "FOLDER") for f in result.failures],
        },
    )
    print(f"report: {folder / 'report' / 'index.html'}")


if __name__ == "__main__":
    main()
