"""Several animals: tracks against the rendered truth, under each condition of the complete scene, and one such study through every stage.

python benchmarks/herd.py [--work FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from cells import RESULTS, write_cell

from foveate import masks
from foveate.run import default_workers
from foveate.simulate import PastureSettings, simulate
from foveate.store import read_parquet

BASE = PastureSettings(seed=23, annotated=4, unannotated=0, test=1, seconds=10.0, behaviours="all")
SCENES = {
    "one animal": BASE,
    "two animals": replace(BASE, animals=2),
    "two animals and a look-alike": replace(BASE, animals=2, distractors=1),
    "two animals at night": replace(BASE, animals=2, night=1.0),
    "two animals behind bars": replace(BASE, animals=2, bars=True),
}
THROUGH = "two animals"
"""The scene that goes through every stage."""


def tracking(folder: Path, settings: PastureSettings) -> dict[str, float]:
    """Mean region IoU over all rows in which the animal is visible; shares of them without a mask and with more of another's animal than
    of the own."""
    size = settings.height, settings.width
    truth = read_parquet(folder / "truth" / "masks.parquet").to_pandas()
    parts = [read_parquet(path).to_pandas() for path in sorted((folder / "tracks").rglob("part-*.parquet"))]
    keys = ["video", "view", "frame"]
    rows = truth.merge(pd.concat(parts)[[*keys, "subject", "rle"]], on=[*keys, "subject"], suffixes=("", "_found"))
    assert len(rows) == len(truth)
    overlap, lost, swapped = [], 0, 0
    for _, group in rows.groupby(keys):
        true = [masks.decode(rle, *size) for rle in group["rle"]]
        for i, found in enumerate(group["rle_found"]):
            if not true[i].any():
                continue
            if not isinstance(found, bytes):
                lost += 1
                overlap.append(0.0)
                continue
            mask = masks.decode(found, *size)
            shared = [int((mask & other).sum()) for other in true]
            overlap.append(shared[i] / int((mask | true[i]).sum()))
            swapped += max(shared) > shared[i]
    n = len(overlap)
    return {
        "mean_J": round(float(np.mean(overlap)), 4),
        "median_J": round(float(np.median(overlap)), 4),
        "lost": round(lost / n, 4),
        "on_another_subject": round(swapped / n, 4),
        "rows": n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep the studies here; default: a temporary folder")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="foveate-herd-"))
    result: dict[str, Any] = {"what": "tracks of several pasture animals from one box each, against the rendered truth"}
    for name, settings in SCENES.items():
        folder = work / name.replace(" ", "_")
        if not (folder / "foveate.yaml").exists():
            simulate(folder, settings, workers=default_workers(99))
            config = yaml.safe_load((folder / "foveate.yaml").read_text(encoding="utf-8"))
            config["compare"]["videos"] = "all"  # there are no others
            (folder / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        verb = "run" if name == THROUGH else "track"
        subprocess.run([sys.executable, "-m", "foveate", verb, "-p", str(folder), "--json"], check=False, stdout=sys.stderr)
        result[name] = tracking(folder, settings)
        result["report"] = (work / THROUGH.replace(" ", "_") / "report" / "index.html").exists()
        print(name, result[name], flush=True)
        if name == THROUGH:
            table = pd.read_csv(folder / "probes" / "default" / "scores.csv")
            table = table[(table["view"] == "*") & (table["split"] == "test")]
            result["f1_test_through_every_stage"] = {r.behaviour.strip("*"): round(float(r.f1), 4) for r in table.itertuples()}
            print(result["f1_test_through_every_stage"], flush=True)
    write_cell(RESULTS / "herd.json", result)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
