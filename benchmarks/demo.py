"""The demo, measured: wall time, scores, what is starred, and how well the tracker followed the animals (against the rendered truth).

python benchmarks/demo.py [--work FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from cells import RESULTS, write_cell

from foveate import masks
from foveate.actions import predict
from foveate.project import Project
from foveate.schema import ALL_VIEWS
from foveate.store import read_parquet

MOVING = ("moving", "turning_left", "turning_right")


def scores(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """F1 of every probe, views together, cross-validated and on the test videos."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for probe in sorted(p.name for p in (folder / "probes").iterdir() if p.is_dir()):
        table = pd.read_csv(folder / "probes" / probe / "scores.csv")
        table = table[table["view"] == "*"]
        out[probe] = {
            split: {row.behaviour.removeprefix("*"): round(float(row.f1), 4) for row in rows.itertuples()}
            for split, rows in table.groupby("split")
        }
    return out


def unannotated(folder: Path) -> dict[str, dict[str, float]]:
    """F1 of every probe on crops, on the videos without annotations, views together, against the rendered truth: more animals than the
    cross-validation has, and none of them had a part in the probe."""
    project = Project.load(folder)
    behaviours = list(project.config.behaviours)
    bouts = pd.read_csv(folder / "truth" / "labels.csv")
    out = {}
    for name, settings in project.config.probes.items():
        if settings.source != "crop":  # whole pictures are embedded only where a probe learns from them
            continue
        told, said = [], []
        for video in (v for v in project.videos if not v.split):
            table = predict.run(project, video, name).table("predictions.parquet").to_pandas()
            table = table[table["view"] == ALL_VIEWS]
            time = table["time"].to_numpy()[:, None]
            own = bouts[bouts["video"] == video.name]
            truth = [
                ((time >= mine["start"].to_numpy()) & (time < mine["stop"].to_numpy())).any(1)
                for mine in (own[own["behaviour"] == behaviour] for behaviour in behaviours)
            ]
            told.append(np.stack(truth, 1))
            said.append(table[[f"pred_{behaviour}" for behaviour in behaviours]].to_numpy() == 1)
        y, yes = np.concatenate(told), np.concatenate(said)
        f1 = 2 * (y & yes).sum(0) / np.maximum(1, y.sum(0) + yes.sum(0))
        out[name] = {b: round(float(v), 4) for b, v in zip(behaviours, f1, strict=True)} | {"macro": round(float(f1.mean()), 4)}
    return out


def tracking(folder: Path) -> dict[str, float]:
    """Mean region IoU of the tracked masks and share of the animal's pixels inside the crop, over all frames where it is visible."""
    truth = read_parquet(folder / "truth" / "masks.parquet").to_pandas().set_index(["video", "view", "frame"])
    truth = truth[truth["area"] > 0]
    overlap, inside = [], []
    for video in sorted(p for p in (folder / "tracks").iterdir() if p.is_dir()):
        tracked = pd.concat([read_parquet(p).to_pandas() for p in sorted(video.glob("part-*.parquet"))])
        tracked = tracked.set_index(["video", "view", "frame"])
        crops = pd.concat(
            [read_parquet(p).to_pandas() for p in sorted((folder / "crops" / video.name).rglob("part-*.parquet"))]
        )
        crops = crops.set_index(["video", "view", "frame"])
        for key, row in truth.loc[[video.name]].iterrows():
            true = masks.decode(row["rle"], 270, 480)
            found = tracked.loc[key, "rle"]
            mask = masks.decode(found, 270, 480) if found is not None else np.zeros_like(true)
            overlap.append((mask & true).sum() / (mask | true).sum())
            if key not in crops.index:
                inside.append(0.0)
                continue
            x, y, w, h = crops.loc[key, ["src_x", "src_y", "src_w", "src_h"]].astype(float)
            inside.append(float(masks.coverage(true, 1, 1, (x, y, w, h))[0, 0] * w * h / true.sum()))
    return {
        "mean_J": round(float(np.mean(overlap)), 4),
        "share_in_crop": round(float(np.mean(inside)), 4),
        "masks": len(overlap),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep the demo here; default: a temporary folder")
    work = parser.parse_args().work
    folder = work or Path(tempfile.mkdtemp(prefix="foveate-demo-")) / "demo"
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "foveate", "demo", str(folder)], check=True)
    seconds = time.monotonic() - start
    embeddings = sum(read_rows(path) for path in (folder / "embeddings").rglob("part-*.arrow"))
    tests = pd.read_csv(folder / "comparison" / "default" / "tests.csv")
    f1 = scores(folder)
    for name, own in unannotated(folder).items():
        f1[name]["truth"] = own
    result = {
        "what": "make demo without the installation: render, track, crop, embed, probe, predict, compare, report",
        "seconds": round(seconds, 1),
        "embeddings": embeddings,
        "f1": f1,
        "moving_labels": MOVING,
        "starred": tests.loc[tests["significant"] == 1, "behaviour"].tolist(),
        "not_starred": tests.loc[tests["significant"] == 0, "behaviour"].tolist(),
        "p_holm": {row.behaviour: float(row.p_holm) for row in tests.itertuples()},
        "tracking": tracking(folder),
    }
    write_cell(RESULTS / "demo.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")
    if work is None:
        shutil.rmtree(folder.parent)


def read_rows(path: Path) -> int:
    import pyarrow as pa

    with pa.ipc.open_file(str(path)) as reader:
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


if __name__ == "__main__":
    main()
