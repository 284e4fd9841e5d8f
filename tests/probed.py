"""A project whose vectors are planted: what the probe, predictions and comparison read, without any picture.

Each analysed frame has a true state per behaviour; a frame's vector is a linear image of that state plus an offset of its animal and
noise. Behaviour ``turn`` is the frame after which a hidden switch is on, having been off before: a window can see it, a single frame only
that the switch is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from foveate import annotations, schema, timeline, track
from foveate.actions import embed
from foveate.project import Project, Video
from foveate.store import Artefact, write_aside, write_parquet, write_text

STEP, FRAMES, WIDTH = 0.5, 80, 6
BEHAVIOURS = ("eat", "lie", "turn")

Lost = Callable[[str, str, str], NDArray[np.int64]]
"""(video, view, subject) -> analysed frames in which the subject is not seen."""


def make(
    folder: Path,
    animals: Sequence[Sequence[str]],
    *,
    splits: Sequence[str] = (),
    groups: Sequence[str] = (),
    annotated: int | None = None,
    views: Sequence[str] = ("full",),
    behaviours: Sequence[str] = BEHAVIOURS,
    settings: Mapping[str, Any] | None = None,
    lost: Lost | None = None,
    only_in: Mapping[str, Sequence[int]] | None = None,
    more: Mapping[str, Mapping[str, float]] | None = None,
    noise: float = 0.6,
) -> Project:
    """A finished project up to the embeddings.

    Args:
        animals: subjects of each video.
        splits, groups: of each video; empty for none.
        annotated: number of annotated videos, the first ones; all by default.
        views: names; every view shows every animal unless ``lost``.
        only_in: behaviour -> numbers of the videos in which it occurs; elsewhere it never does.
        more: group -> behaviour -> factor on how often it occurs.
    """
    names = [f"v{k}" for k in range(len(animals))]
    rows = ["video,path,split,group,subjects"]
    for k, name in enumerate(names):
        (folder / "footage").mkdir(parents=True, exist_ok=True)
        (folder / "footage" / f"{name}.mp4").write_bytes(f"stands for footage {k}".encode())
        split, group = (splits[k] if splits else ""), (groups[k] if groups else "")
        rows.append(f"{name},{name}.mp4,{split},{group},{';'.join(animals[k])}")
    write_text(folder / "videos.csv", "\n".join(rows) + "\n")
    config: dict[str, Any] = {
        "footage": "footage",
        "analyse": {"step": STEP},
        "behaviours": list(behaviours),
        "embed": {"model": "handcrafted"},
        "probe": {"window": 3, "folds": 3, "strengths": [0.01, 0.1, 1.0]},
    }
    if len(views) > 1:
        config["views"] = {view: {"x": 0, "y": 60 * k, "w": 80, "h": 60} for k, view in enumerate(views)}
    for key, value in (settings or {}).items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    write_text(folder / "foveate.yaml", yaml.safe_dump(config, sort_keys=False))
    project = Project.load(folder)
    count = len(names) if annotated is None else annotated
    lines = ["video,subject,behaviour,start,stop"]
    for k, video in enumerate(project.videos):
        _timeline(project, video)
        for subject in video.subjects:
            state = truth(k, subject, video.group, only_in or {}, more or {})
            for b, behaviour in enumerate(behaviours):
                if k < count:
                    lines += [f"{video.name},{subject},{behaviour},{a * STEP},{z * STEP}" for a, z in runs(state[:, b])]
        _seen(project, video, k, views, lost, only_in or {}, more or {}, noise)
    write_text(folder / "annotations" / "labels.csv", "\n".join(lines) + "\n")
    annotations.run(project)
    return project


def truth(
    number: int, subject: str, group: str, only_in: Mapping[str, Sequence[int]], more: Mapping[str, Mapping[str, float]]
) -> NDArray[np.int8]:
    """int8 ``[FRAMES, 3]``: each behaviour comes in bouts; at least one frame of each."""
    rng = np.random.default_rng([number, *map(ord, subject)])
    out = np.zeros((FRAMES, len(BEHAVIOURS)), dtype=np.int8)
    for b, behaviour in enumerate(BEHAVIOURS):
        often = more.get(group, {}).get(behaviour, 1.0)
        for start in rng.choice(FRAMES - 10, size=max(1, round(4 * often)), replace=False):
            length = 1 if behaviour == "turn" else int(rng.integers(3, 8))
            out[start : start + length, b] = 1
        if number not in only_in.get(behaviour, range(999)):
            out[:, b] = 0
    return out


def switch(turn: NDArray[np.int8]) -> NDArray[np.float64]:
    """1 from each turn on until half-way to the next one, else -1."""
    out = np.full(len(turn), -1.0)
    at = np.flatnonzero(turn)
    for first, following in zip(at, [*at[1:], len(turn)], strict=False):
        out[first : (first + following + 1) // 2] = 1
    return out


def runs(on: NDArray[np.int8]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(on, prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def seal(artefact: Artefact, files: Mapping[str, pa.Table], facts: Mapping[str, Any] | None = None) -> None:
    artefact.begin()
    for name, table in files.items():
        if name.endswith(".arrow"):
            with write_aside(artefact.path(name)) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
                writer.write_table(table)
        else:
            write_parquet(artefact.path(name), table)
    artefact.finish(facts)


def _timeline(project: Project, video: Video) -> None:
    frame = np.arange(FRAMES * 5)
    columns = {"frame": frame, "pts": frame, "time": frame / 10, "keyframe": frame % 10 == 0}
    facts: dict[str, Any] = {
        "width": 80,
        "height": 120,
        "rotation": 0,
        "mirrored": False,
        "duration": FRAMES * STEP,
        "codec": "none",
    }
    facts |= {"clock": "pts", "seekable": True, "skippable": True, "damaged_after": None, "frames": len(frame)}
    seal(timeline.artefact(project, video), {"timeline.parquet": pa.table(columns, schema=schema.TIMELINE)}, facts)


def _seen(
    project: Project,
    video: Video,
    number: int,
    views: Sequence[str],
    lost: Lost | None,
    only_in: Mapping[str, Sequence[int]],
    more: Mapping[str, Mapping[str, float]],
    noise: float,
) -> None:
    tracks, vectors = [], []
    shape = np.random.default_rng(1).normal(size=(len(BEHAVIOURS), WIDTH))
    for view in views:
        for subject in video.subjects:
            rng = np.random.default_rng([7, number, *map(ord, view + subject)])
            state = truth(number, subject, video.group, only_in, more)
            sign = switch(state[:, 2])
            x = state[:, :2] @ shape[:2] + sign[:, None] * shape[2] + rng.normal(size=WIDTH) * 0.2 + 3
            x = (x + noise * rng.normal(size=x.shape)).astype(np.float16)
            away = set(lost(video.name, view, subject).tolist()) if lost else set()
            for k in range(FRAMES):
                key = {"video": video.name, "view": view, "subject": subject, "frame": 5 * k, "time": k * STEP}
                tracks.append({**key, "state": "lost" if k in away else "prompted" if k == 0 else "tracked"})
                if k not in away:
                    vectors.append({**key, "aug": 0, "vector": x[k]})
    tracks.sort(key=lambda row: (row["frame"], row["view"], row["subject"]))
    names = [field.name for field in schema.TRACK]
    rows = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in tracks], schema=schema.TRACK)
    seal(track.artefact(project, video), {"part-00000.parquet": rows})
    layout = schema.embedding_schema(WIDTH)
    flat = np.concatenate([row["vector"] for row in vectors]) if vectors else np.zeros(0, np.float16)
    columns = {
        field.name: pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH)
        if field.name.count("_")
        else pa.array([row[field.name] for row in vectors], field.type)
        for field in layout
    }
    for source in ("crop", "frame"):
        seal(
            embed.artefact(project, video, source=source),  # type: ignore[arg-type]
            {"part-00000.arrow": pa.table(columns, schema=layout)},
            {"width": WIDTH},
        )
