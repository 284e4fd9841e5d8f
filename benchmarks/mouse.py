"""Real footage through every stage: the mouse clips of B-SOiD, leaving one tile position out.

What it shows: the pipeline works on real footage, and whether looking at the subject helps there. What it does not show: a paper's sign.
There is one mouse, the labels are clusters of a published method, and the tiles are not independent animals.

Rules (fixed before the first run): five behaviours whose every tile has at least 24 live frames; at most the first 50 frames of a tile,
cut where it freezes (the last change above a mean absolute difference of 0.15 grey levels); folds are tile positions; all settings are the
defaults; strengths are chosen on inner folds of the other two positions. Score: the most probable of the five behaviours, balanced
accuracy, chance 0.2.

    FOVEATE_DATA=... python benchmarks/mouse.py [--work FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np
import yaml
from cells import RESULTS, footage, write_cell

from foveate.console import outcome as show_outcome
from foveate.console import show
from foveate.project import Project
from foveate.run import run
from foveate.store import read_parquet
from foveate.video import VideoWriter, read_frames, read_timeline

BEHAVIOURS = ("body_groom", "head_groom", "locomote", "orient_L", "orient_R")
POSITIONS = ("left", "middle", "right")
TILE, HEIGHT, FRAMES, LIVE = 450, 360, 50, 0.15

PROBES = {
    "full_frame": {"source": "frame", "feature": "cls", "window": 1},
    "full_frame_patch": {"source": "frame", "feature": "patch", "window": 1},
    "crop_cls": {"feature": "cls", "window": 1},
    "crop_patch": {"feature": "patch", "window": 1},
    "crop_subject_window7": {"feature": "subject", "window": 7},
}
MAIN = {"feature": "subject", "window": 1}


def cut_tiles(source: Path, folder: Path, behaviour: str) -> None:
    """Write the live part of each tile as a video of its own (crf 8: no visible loss)."""
    timeline = read_timeline(source)
    frames = np.stack(list(read_frames(source, timeline, timeline.frame)))
    for i, position in enumerate(POSITIONS):
        tile = frames[:, :HEIGHT, i * TILE : (i + 1) * TILE]
        change = np.abs(np.diff(tile.astype(np.int16), axis=0)).mean((1, 2, 3))
        live = int(np.flatnonzero(change > LIVE).max()) + 2 if (change > LIVE).any() else 1
        with VideoWriter(folder / f"{behaviour}_{position}.mp4", TILE, HEIGHT, rate=15, crf=8) as writer:
            for frame in tile[: min(live, FRAMES)]:
                writer.write(np.ascontiguousarray(frame))


def make_project(data: Path, folder: Path) -> Project:
    tiles = folder / "footage"
    tiles.mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    rows, labels, prompts = [], [], []
    clicks = read_clicks()
    for behaviour in BEHAVIOURS:
        source = data / "clips" / "bsoid_mouse" / f"{behaviour}_hstacked.mp4"
        if not (tiles / f"{behaviour}_right.mp4").exists():
            cut_tiles(source, tiles, behaviour)
        for position in POSITIONS:
            name = f"{behaviour}_{position}"
            duration = read_timeline(tiles / f"{name}.mp4").duration
            rows.append((name, f"{name}.mp4", f"tile_{position}"))
            labels.append((name, f"tile_{position}", behaviour, 0, f"{duration:.6f}"))
            if (source.name, position) in clicks:
                x, y = clicks[source.name, position]
                prompts.append((name, "full", f"tile_{position}", 0, "point", x, y, "", "", ""))
    write_rows(folder / "videos.csv", ("video", "path", "subjects"), rows)
    write_rows(folder / "annotations" / "annotations.csv", ("video", "subject", "behaviour", "start", "stop"), labels)
    header = ("video", "view", "subject", "frame", "kind", "x", "y", "w", "h", "mask")
    write_rows(folder / "prompts" / "prompts.csv", header, prompts)
    config = {
        "name": "mouse",
        "footage": "footage",
        "analyse": {"every": 1},
        "behaviours": list(BEHAVIOURS),
        "probe": MAIN,
        "baselines": PROBES,
    }
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return Project.load(folder)


def read_clicks() -> dict[tuple[str, str], tuple[int, int]]:
    """Clicks on the first frame by (file, view), in pixels of the tile."""
    path = Path(__file__).parent / "clips_prompts.csv"
    with path.open(newline="", encoding="utf-8") as handle:
        return {(Path(r["file"]).name, r["view"]): (int(float(r["x"])), int(float(r["y"]))) for r in csv.DictReader(handle)}


def write_rows(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])


def score(project: Project, name: str) -> dict[str, object]:
    """Balanced accuracy of the most probable behaviour, per held-out tile position and over all rows."""
    table = read_parquet(project.folder / "probes" / name / "folds.parquet").to_pandas()
    table = table[(table["view"] == "full") & (table["split"] == "cv")]
    probability = table[[f"prob_{b}" for b in BEHAVIOURS]].to_numpy(float)
    truth = table[[f"true_{b}" for b in BEHAVIOURS]].to_numpy(int).argmax(1)
    right = probability.argmax(1) == truth
    position = table["subject"].str.removeprefix("tile_").to_numpy()

    def balanced(rows: np.ndarray) -> float:
        return float(np.mean([right[rows & (truth == k)].mean() for k in np.unique(truth[rows])]))

    recall = {
        p: {b: round(float(right[(position == p) & (truth == k)].mean()), 4) for k, b in enumerate(BEHAVIOURS)}
        for p in POSITIONS
    }
    return {
        "balanced_accuracy": round(balanced(np.ones(len(truth), bool)), 4),
        "per_position": {p: round(balanced(position == p), 4) for p in POSITIONS},
        "recall_per_tile": recall,
        "frames": len(truth),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="project folder to use or go on with; default: a temporary one")
    arguments = parser.parse_args()
    data = footage()
    folder = arguments.work or Path(tempfile.mkdtemp(prefix="foveate-mouse-"))
    project = make_project(data, folder)
    result = run(project, show=show)
    show_outcome(result, debug=True)
    tracked = {}
    for video in project.videos:
        states = [
            state
            for part in sorted((folder / "tracks" / video.name).glob("part-*.parquet"))
            for state in read_parquet(part, ["state"])["state"].to_pylist()
        ]
        tracked[video.name] = {"frames": len(states), "seen": sum(s not in ("lost", "absent") for s in states)}
    scores = {name: score(project, name) for name in project.config.probes}
    write_cell(
        RESULTS / "mouse.json",
        {
            "what": "five behaviours, leave one tile position out, most probable behaviour, balanced accuracy",
            "chance": 1 / len(BEHAVIOURS),
            "main": "default = crop, subject mean, window 1",
            "probes": {"default": MAIN, **PROBES},
            "scores": scores,
            "tracked": tracked,
            "problems": [str(f.error) for f in result.failures],
        },
    )
    print(f"\n{'probe':24} {'all':>6} " + " ".join(f"{p:>7}" for p in POSITIONS) + f"   chance {1 / len(BEHAVIOURS):.2f}")
    for name, s in scores.items():
        positions = s["per_position"]
        assert isinstance(positions, dict)
        print(f"{name:24} {s['balanced_accuracy']:6.3f} " + " ".join(f"{positions[p]:7.3f}" for p in POSITIONS))
    print(f"report: {folder / 'report' / 'index.html'}")
    if arguments.work is None and not result.failures:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
