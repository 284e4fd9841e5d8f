"""A small finished project, laid out by hand: footage with a moving ellipse, and the artefacts that the stages would have left.

The footage and its timeline are real; tracks are the ground truth of the drawing; labels, predictions and tests are drawn from a seed
(they mean nothing, they only have the right shape). For tests of what reads finished artefacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from foveate import masks, schema
from foveate.project import Project, Video
from foveate.store import Artefact, write_aside, write_parquet, write_text
from foveate.videowriter import VideoWriter

WIDTH, HEIGHT, RATE, SECONDS = 192, 128, 10, 16
STEP = 0.5
BEHAVIOURS = ("eating", "lying", "standing")


def centre(seconds: float, seed: int) -> tuple[float, float]:
    """Where the animal is."""
    return (
        WIDTH * (0.5 + 0.32 * np.sin(0.4 * seconds + seed)),
        HEIGHT * (0.55 + 0.25 * np.cos(0.3 * seconds + 2 * seed)),
    )


def mask_at(seconds: float, seed: int) -> NDArray[np.bool_]:
    x, y = centre(seconds, seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return ((columns - x) / 24) ** 2 + ((rows - y) / 15) ** 2 <= 1


def picture(seconds: float, seed: int) -> NDArray[np.uint8]:
    """u8[HEIGHT, WIDTH, 3]: a pale ellipse on a mottled ground."""
    rng = np.random.default_rng(seed)
    ground = rng.normal(0, 12, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    image = np.stack([90 + ground, 120 + ground, 70 + ground], -1)
    image[mask_at(seconds, seed)] = (226, 220, 205)
    return np.clip(image, 0, 255).astype(np.uint8)


def footage(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, WIDTH, HEIGHT, rate=RATE, crf=30) as writer:
        for k in range(RATE * SECONDS):
            writer.write(picture(k / RATE, seed))


def make(
    folder: Path,
    videos: int = 4,
    annotated: int = 3,
    groups: tuple[str, ...] = ("control", "treatment"),
    behaviours: tuple[str, ...] = BEHAVIOURS,
    name: str = "meadow",
    subject: Callable[[int], str] = "animal {}".format,
    group_name: Callable[[str], str] = str,
    test: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Project:
    """Project files and footage only; the first ``annotated`` videos get an annotation file, the last ``test`` of them the split test."""
    lines = ["video,path,split,group,subjects"]
    for k in range(videos):
        footage(folder / "footage" / f"v{k}.mp4", k)
        split = "" if k >= annotated else "test" if k >= annotated - test else "train"
        group = group_name(groups[k % len(groups)]) if groups else ""
        lines.append(",".join(_quoted(cell) for cell in (f"v{k}", f"v{k}.mp4", split, group, subject(k))))
    write_text(folder / "videos.csv", "\n".join(lines) + "\n")
    config = {
        "name": name,
        "footage": "footage",
        "analyse": {"step": STEP},
        "behaviours": list(behaviours),
        "embed": {"model": "handcrafted"},
        **(settings or {}),
    }
    write_text(folder / "foveate.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    if annotated:
        write_text(folder / "annotations" / "labels.csv", annotation_csv(annotated, behaviours, subject))
    return Project.load(folder)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set('",;\n') else cell


def bouts(seed: int, behaviour: int) -> list[tuple[float, float]]:
    """Some bouts between 0 and SECONDS."""
    rng = np.random.default_rng((seed, behaviour))
    edges = np.sort(rng.uniform(0, SECONDS, 6)).round(1)
    return [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def annotation_csv(annotated: int, behaviours: tuple[str, ...], subject: Callable[[int], str]) -> str:
    lines = ["video,subject,behaviour,start,stop"]
    for k in range(annotated):
        for i, behaviour in enumerate(behaviours):
            for start, stop in bouts(k, i):
                lines.append(",".join(_quoted(str(cell)) for cell in (f"v{k}", subject(k), behaviour, start, stop)))
    return "\n".join(lines) + "\n"


def seal(artefact: Artefact, files: Mapping[str, pa.Table | bytes | str], facts: Mapping[str, Any] | None = None) -> Artefact:
    """Write the files of a stage and finish it."""
    artefact.begin()
    for name, content in files.items():
        path = artefact.path(name)
        if isinstance(content, pa.Table):
            write_parquet(path, content)
        elif isinstance(content, str):
            write_text(path, content)
        else:
            with write_aside(path) as aside:
                aside.write_bytes(content)
    artefact.finish(facts)
    return artefact


def times() -> NDArray[np.float64]:
    return np.arange(0, SECONDS, STEP)


def frames() -> NDArray[np.int64]:
    return np.round(times() * RATE).astype(np.int64)


def states(seed: int) -> list[str]:
    """Prompted first, lost for a while in odd videos, once uncertain."""
    found = [schema.State.TRACKED.value] * len(times())
    found[0] = schema.State.PROMPTED.value
    if seed % 2:
        found[8:12] = [schema.State.LOST.value] * 4
        found[12] = schema.State.UNCERTAIN.value
    return found


def track_table(video: Video, subject: str, seed: int) -> pa.Table:
    rows = []
    for t, frame, state in zip(times(), frames(), states(seed), strict=True):
        seen = state in schema.SEEN
        mask = mask_at(float(t), seed)
        x, y, w, h = masks.box(mask) or (0, 0, 0, 0)
        rows.append(
            {
                "video": video.name,
                "view": "full",
                "subject": subject,
                "frame": int(frame),
                "time": float(t),
                "state": state,
                **dict(zip("xywh", (x, y, w, h) if seen else (None,) * 4, strict=True)),
                "score": 0.9 if seen else 0.1,
                "identity_score": None,
                "area": int(mask.sum()) if seen else 0,
                "rle": masks.encode(mask) if seen else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.TRACK)


def crop_table(video: Video, subject: str, seed: int) -> pa.Table:
    """The index only; nothing reads the pictures."""
    rows = []
    for t, frame, state in zip(times(), frames(), states(seed), strict=True):
        if state in schema.SEEN:
            x, y = centre(float(t), seed)
            side = 60.0
            rows.append(
                {
                    "video": video.name,
                    "view": "full",
                    "subject": subject,
                    "frame": int(frame),
                    "time": float(t),
                    "state": state,
                    "position": len(rows),
                    "src_x": x - side / 2,
                    "src_y": y - side / 2,
                    "src_w": side,
                    "src_h": side,
                    **{f"{kind}_{axis}": 0.0 for kind in ("valid", "rect") for axis in "xywh"},
                    "scale": 256 / side,
                    "rle": None,
                }
            )
    return pa.Table.from_pylist(rows, schema=schema.CROP_INDEX)


def prediction_tables(
    video: Video, subject: str, seed: int, behaviours: tuple[str, ...], model: str, most: bool = False
) -> dict[str, pa.Table | bytes | str]:
    """Bouts shifted by a step against the annotation; with ``most`` the first behaviour goes on almost all the time."""
    rows, found = [], []
    shifted = {
        b: [(min(SECONDS, a + STEP), min(SECONDS, z + STEP)) for a, z in bouts(seed, i)] for i, b in enumerate(behaviours)
    }
    if most:
        shifted[behaviours[0]] = [(0.5, SECONDS)]
    for t, frame, state in zip(times(), frames(), states(seed), strict=True):
        seen = state in schema.SEEN
        row: dict[str, Any] = {
            "video": video.name,
            "subject": subject,
            "frame": int(frame),
            "time": float(t),
            "duration": STEP,
            "state": state,
            "model": model,
        }
        for b, intervals in shifted.items():
            inside = any(a <= t < z for a, z in intervals)
            row[f"prob_{b}"] = (0.8 if inside else 0.2) if seen else None
            row[f"pred_{b}"] = int(inside) if seen else -1
        rows += [{**row, "view": view} for view in (schema.ALL_VIEWS, "full")]
    for b, intervals in shifted.items():
        for start, stop in intervals:
            found.append(
                {"video": video.name, "subject": subject, "behaviour": b, "start": start, "stop": stop, "probability": 0.8}
            )
    budget = ["video,subject,behaviour,seconds,share,bouts,mean_bout_seconds,seen_seconds"]
    for b in behaviours:
        seconds, seen = (STEP * sum(row[f"pred_{b}"] in wanted for row in rows[::2]) for wanted in ((1,), (0, 1)))
        budget.append(",".join(_quoted(str(cell)) for cell in (video.name, subject, b, seconds, seconds / seen, 3, 1.0, seen)))
    return {
        "predictions.parquet": pa.Table.from_pylist(rows, schema=schema.prediction_schema(behaviours)),
        "bouts.parquet": pa.Table.from_pylist(found, schema=schema.BOUTS),
        "budget.csv": "\n".join(budget) + "\n",
    }


def folds_table(project: Project, annotated: set[str]) -> pa.Table:
    """Truth and prediction of the annotated videos: what ``prediction_tables`` says beside what was annotated."""
    rows = []
    for k, video in enumerate(project.videos):
        if video.name not in annotated:
            continue
        (subject,) = video.subjects
        for t, frame in zip(times(), frames(), strict=True):
            row: dict[str, Any] = {"video": video.name, "view": schema.ALL_VIEWS, "subject": subject, "frame": int(frame)}
            for i, b in enumerate(project.config.behaviours):
                row[f"true_{b}"] = int(any(a <= t < z for a, z in bouts(k, i)))
                row[f"pred_{b}"] = int(any(a + STEP <= t < z + STEP for a, z in bouts(k, i)))
            rows.append(row)
    return pa.Table.from_pylist(rows)


def score_files(behaviours: tuple[str, ...], test: bool, luck: float) -> dict[str, str]:
    """Real scores of made-up predictions; the last behaviour occurs in one video only."""
    import pandas as pd

    from foveate.actions.bout_scores import bout_table
    from foveate.actions.bouts import Strip
    from foveate.actions.calibration import calibration_tables
    from foveate.actions.scores import Scored, csv_text, score_table
    from foveate.actions.smoothing import decide_all

    sides = []
    smoothing = np.zeros((len(behaviours), 3))
    smoothing[0] = 0, 2 * STEP, 2 * STEP
    for split, names in (("cv", [f"v{k}" for k in range(6)]), ("test", ["v6", "v7"])):
        if split == "test" and not test:
            continue
        rng = np.random.default_rng(len(names))
        group = np.repeat(np.arange(len(names)), 32)
        truth = (rng.random((len(group), len(behaviours))) < np.linspace(0.5, 0.2, len(behaviours))).astype(np.int8)
        truth[group > 0, -1] = 0
        probability = np.clip(truth * luck + rng.random(truth.shape) * (1 - luck / 2), 0, 1).astype(np.float32)
        keys = pd.DataFrame(
            {
                "video": np.array(names)[group],
                "view": schema.ALL_VIEWS,
                "subject": np.array(names)[group],
                "frame": np.tile(np.arange(32), len(names)),
                "time": np.tile(np.arange(32) * STEP, len(names)),
            }
        )
        strip = Strip.of(group, keys["frame"].to_numpy(), keys["time"].to_numpy(), np.full(len(keys), STEP))
        raw = (probability > 0.6).astype(np.int8)
        said = decide_all(probability, np.full(len(behaviours), 0.6), strip, smoothing)
        sides.append(Scored(split, keys, truth, said, raw, probability, group, strip))
    count = len(behaviours)
    calibration, reliability = calibration_tables(sides, behaviours)
    return {
        "scores.csv": csv_text(score_table(sides, behaviours, [0.6] * count, [0.1] * count, 0)),
        "bouts.csv": csv_text(bout_table(sides, behaviours, smoothing.tolist(), 0)),
        "calibration.csv": csv_text(calibration),
        "reliability.csv": csv_text(reliability),
    }


def finish(project: Project, test: bool = False) -> None:
    """Leave what every stage would have left."""
    from foveate import annotations, crops, groups, timeline, track
    from foveate.actions import embed, predict, probe

    behaviours = project.config.behaviours
    for k, video in enumerate(project.videos):
        timeline.run(project, video)
        (subject,) = video.subjects
        seal(track.artefact(project, video), {"part-00000.parquet": track_table(video, subject, k)}, {"prompt": "click"})
        seal(crops.artefact(project, video), {f"full/{subject}/part-00000.parquet": crop_table(video, subject, k)})
        seal(embed.artefact(project, video), {})
    if not annotations.annotation_files(project):
        return
    annotations.run(project)
    annotated = annotations.load_labels(project).videos
    for luck, name in zip((0.7, 0.5, 0.3), project.config.probes, strict=False):
        facts = {
            "behaviours": list(behaviours),
            "train_videos": 6,
            "groups": 6,
            "test_videos": 2 * test,
            "folds": 3,
            "problems": [],
            "notes": [],
        }
        seal(
            probe.artefact(project, name),
            {
                **score_files(behaviours, test, luck),
                "probe.json": "{}",
                "folds.parquet": folds_table(project, set(annotated)),
            },
            facts,
        )
    for k, video in enumerate(project.videos):
        model = f"fold-{k % 3}" if video.name in annotated and video.split != "test" else "final"
        most = bool(video.group) and video.group != project.videos[0].group
        seal(predict.artefact(project, video), prediction_tables(video, video.subjects[0], k, behaviours, model, most))
    if sum(video.name not in annotated and bool(video.group) for video in project.videos) >= 4:
        groups.run(project)
