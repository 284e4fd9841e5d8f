"""One forward pass for tracking and vectors (`source: track`) against vectors of crops and of whole views, on the demo.

    python benchmarks/one_pass.py DEMO

DEMO is a finished demo (`make demo`); it is copied, and nothing is written into it. All stages run in this process on one thread, and
what is told of time is processor time, so that other work on the machine disturbs it little. Twice tracked: as it is, and with vectors
kept. Scores: macro F1 over the behaviours, cross-validated on the annotated animals, both views together; every probe sees windows of 7 and
the mean of the animal's patches, third-last block, so that only what is looked at differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch
import yaml
from cells import RESULTS, write_cell

from foveate import annotations, crops, timeline, track
from foveate.actions import embed, probe
from foveate.project import Project
from foveate.track.propagate import glances

PROBES = {"crop": {}, "frame": {"source": "frame"}, "track": {"source": "track"}}


def copied(demo: Path, work: Path, baselines: dict[str, dict[str, str]]) -> Project:
    """The demo's footage, annotations and prompts, with other probes and nothing tracked."""
    made = {"tracks", "crops", "embeddings", "glances", "probes", "predictions", "comparison", "attention", "report", "logs"}
    shutil.copytree(demo, work, ignore=lambda folder, names: made & set(names) if Path(folder) == demo else set())
    config = yaml.safe_load((work / "foveate.yaml").read_text())
    config["baselines"] = baselines
    (work / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Project.load(work)


def seconds(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def macro(project: Project, name: str) -> float:
    """F1, mean over behaviours."""
    table = pd.read_csv(probe.artefact(project, name).path("scores.csv"))
    rows = table[(table["view"] == "*") & (table["split"] == "cv")]
    own = rows[~rows["behaviour"].str.startswith("*")]
    return round(float(own["f1"].mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    demo = parser.parse_args().demo
    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain = copied(demo, Path(folder) / "plain", {})
        asked = copied(demo, Path(folder) / "asked", {name: dict(values) for name, values in PROBES.items()})
        names = annotated(asked)
        for label, project in (("track", plain), ("track, vectors kept", asked)):
            for video in (project.video(name) for name in names):
                timeline.run(project, video)
                spent[label] = spent.get(label, 0.0) + seconds(lambda p=project, v=video: track.run(p, v))
            print(label, round(spent[label], 1), flush=True)
        rows = kept = 0
        for name in names:
            video = asked.video(name)
            tracks = track.artefact(asked, video)
            for part in tracks.files(".parquet"):
                at, _ = glances.read(glances.artefact(asked, video, tracks.stamp), Path(part).stem)
                found = [row for row in tracks.table(part, ["view", "frame", "rle"]).to_pylist() if row["rle"]]
                rows += len(found)
                kept += sum(glances.key(row["view"], row["frame"], row["rle"]) in at for row in found)
            spent["crop"] = spent.get("crop", 0.0) + seconds(lambda v=video: crops.run(asked, v))
            for source in ("crop", "frame", "track"):
                label = f"embed {source}"
                spent[label] = spent.get(label, 0.0) + seconds(lambda v=video, s=source: embed.run(asked, v, s))
        print({name: round(value, 1) for name, value in spent.items()}, flush=True)
        f1 = {}
        for name in PROBES:
            probe.run(asked, name)
            f1[name] = macro(asked, name)
            print(name, f1[name], flush=True)
    write_cell(
        RESULTS / "one_pass.json",
        {
            "what": "vectors from the tracker's own forward pass, of crops, and of whole views: processor seconds and macro F1",
            "videos": len(names),
            "rows": rows,
            "rows_taken_over": kept,
            "processor_seconds": {name: round(value, 1) for name, value in spent.items()},
            "tracking_longer_by": round(spent["track, vectors kept"] / spent["track"] - 1, 3),
            "saved_against_crop": round(
                1
                - (spent["track, vectors kept"] + spent["embed track"])
                / (spent["track"] + spent["crop"] + spent["embed crop"]),
                3,
            ),
            "macro_f1": f1,
        },
    )


def annotated(project: Project) -> list[str]:
    """Names of the annotated videos: a probe needs no others."""
    for video in project.videos:
        timeline.run(project, video)
    annotations.run(project)
    return list(annotations.artefact(project).facts()["videos"])


if __name__ == "__main__":
    main()
