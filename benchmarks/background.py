"""Places that give behaviours away: how far do a probe on whole pictures and probes on crops fall when the place stops telling?

Miniature pasture videos, each with one main behaviour, filmed in four pens. At R = 0 pen and behaviour have nothing to do with one another.
At R = 1 every training video is filmed in the pen of its main behaviour, while in the test videos the pens are drawn as at R = 0. The
test videos, and what the training videos' animals do, are the same at both strengths, so a fall of the test score is the place's doing.
The masks are tracked, not true.

python benchmarks/background.py [--seed N] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml
from cells import RESULTS, write_cell

from foveate.run import default_workers
from foveate.simulate import PastureSettings, simulate
from foveate.simulate.plan import MAINS

STRENGTHS = (0.0, 1.0)
PROBES = {
    "default": "subject's patches of the crop",
    "crop_cls": "CLS of the crop",
    "whole_picture": "CLS of the whole picture",
}


def settings(seed: int, strength: float) -> PastureSettings:
    return PastureSettings(
        seed=seed, annotated=32, unannotated=0, test=16, seconds=10.0, width=320, height=180, step=0.8,
        behaviours="all", background_correlation=strength,
    )  # fmt: skip


def prepare(folder: Path, seed: int, strength: float) -> None:
    """Render the study; the probes differ in what they look at and in nothing else."""
    simulate(folder, settings(seed, strength), workers=default_workers(99))
    config = yaml.safe_load((folder / "foveate.yaml").read_text(encoding="utf-8"))
    config["probe"] = {"window": 1}
    config["track"] = {"short_side": 126}  # one animal, and the views are small
    config["baselines"] = {"crop_cls": {"feature": "cls"}, "whole_picture": {"source": "frame", "feature": "cls"}}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def average_precision(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Per probe and split: average precision of each main behaviour and their mean, views together."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for probe in PROBES:
        table = pd.read_csv(folder / "probes" / probe / "scores.csv")
        table = table[(table["view"] == "*") & table["behaviour"].isin(MAINS)]
        out[probe] = {}
        for split, rows in table.groupby("split"):
            values = {row.behaviour: float(row.average_precision) for row in rows.itertuples()}
            values["mean"] = sum(values.values()) / len(values)
            out[probe][str(split)] = {name: round(value, 4) for name, value in values.items()}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep the studies here; default: a temporary folder")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="foveate-background-"))
    scores = {}
    for strength in STRENGTHS:
        folder = work / f"R{strength:g}"
        if not (folder / "foveate.yaml").exists():
            prepare(folder, options.seed, strength)
        subprocess.run([sys.executable, "-m", "foveate", "probe", "-p", str(folder), "--json"], check=True, stdout=sys.stderr)
        scores[f"R={strength:g}"] = average_precision(folder)
    fall = {probe: round(scores["R=0"][probe]["test"]["mean"] - scores["R=1"][probe]["test"]["mean"], 4) for probe in PROBES}
    result = {
        "what": "average precision (mean over four main behaviours, views together) when the place tells the behaviour in training",
        "seed": options.seed,
        "videos": {"train": 16, "test": 16},
        "probes": PROBES,
        "average_precision": scores,
        "fall_of_the_test_score_from_R0_to_R1": fall,
    }
    write_cell(RESULTS / "background" / f"seed{options.seed}.json", result)
    print(fall)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
