"""The tracker ``sam2`` on a video: SAM 2 from each subject's first prompt to the end, and where that prompt is not in the first frame, from
it back to the beginning.

Mode ``streaming`` keeps one bounded memory per subject, part by part, so that a killed run goes on with the same numbers. Mode ``paper``
forgets and is prompted again after every published chunk (``chunks``). The model says in every frame how sure it is that the subject is in
the picture; that is the row's score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.jobs import Progress
from foveate.store import read_parquet
from foveate.track.prompts import ABSENT
from foveate.track.propagate.passes import Start
from foveate.track.sam2.chunks import follow_chunks
from foveate.track.sam2.sweep import Sweep, first_prompts
from foveate.track.scene import Row, Scene

if TYPE_CHECKING:
    from foveate.models.sam2 import Segmenter


def open_network(scene: Scene) -> Segmenter:
    """The model that foveate.yaml names."""
    from foveate.models.pretrained import model_of
    from foveate.models.sam2 import open_sam2

    track = scene.project.config.track
    return open_sam2(model_of(scene.project.folder, track.model), track.image_size)


def follow(scene: Scene, starts: Sequence[Start], model: Segmenter, progress: Progress) -> dict[str, Any]:
    """Write every part of the tracks; returns the facts for the seal."""
    track = scene.project.config.track
    frames = scene.analysed.frame
    late = [start for start in first_prompts(starts).values() if len(frames) and start.frame > frames[0]]
    behind = int(np.searchsorted(frames, max((s.frame for s in late), default=0)))  # frames that the backward pass visits
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, len(frames) + behind), len(frames) + behind)

    saved = scene.saved()
    if late and (saved is None or saved[0] == "backward"):
        backward(scene, starts, late, model, tick)
    done = behind
    if track.mode == "paper":
        follow_chunks(scene, starts, model, tick, partial(write, scene))
    else:
        forward(scene, starts, model, tick)
    kinds = {f"{s.view}/{scene.subjects[s.subject]}": s.kind for s in reversed(starts) if s.kind != ABSENT}
    return {"prompt": "+".join(sorted(set(kinds.values()))), "prompts": kinds}


def backward(
    scene: Scene, starts: Sequence[Start], late: Sequence[Start], model: Segmenter, tick: Callable[[int], None]
) -> None:
    """Rows of what lies before the first prompts; they wait in ``back-<k>.parquet``."""
    saved = scene.saved()
    _, part, memory = saved or ("backward", scene.part_of(max(start.frame for start in late)), {})
    sweep = Sweep(scene, [*late, *(start for start in starts if start.kind == ABSENT)], model, backward=True)
    sweep.restore(memory)
    before = {(s.view, scene.subjects[s.subject]): s.frame for s in late}
    while part >= 0:
        rows, found = sweep.part(part, tick)
        scene.write(_back_name(part), [r for r in rows if r["frame"] < before.get((r["view"], r["subject"]), 0)])
        scene.happened(f"back-{part:05d}", found)
        part -= 1
        scene.save("backward", part, sweep.state())


def forward(scene: Scene, starts: Sequence[Start], model: Segmenter, tick: Callable[[int], None]) -> None:
    """Mode ``streaming``."""
    saved = scene.saved()
    _, part, memory = saved if saved is not None and saved[0] == "forward" else ("forward", 0, {})
    sweep = Sweep(scene, starts, model)
    sweep.restore(memory)
    tick(len(scene.analysed.frame[: part * len(scene.frames(0))]))
    while part < scene.parts:
        rows, found = sweep.part(part, tick)
        write(scene, part, rows)
        scene.happened(f"{part:05d}", found)
        part += 1
        scene.save("forward", part, sweep.state())


def write(scene: Scene, part: int, rows: Sequence[Row]) -> None:
    """Write a part, with what the backward pass found in place of what came before the first prompts."""
    earlier: list[Row] = []
    if scene.target.has(_back_name(part)):
        earlier = read_parquet(scene.target.path(_back_name(part))).to_pylist()
    have = {(row["frame"], row["view"], row["subject"]) for row in earlier}
    scene.write(scene.part_file(part), [r for r in rows if (r["frame"], r["view"], r["subject"]) not in have] + earlier)


def _back_name(part: int) -> str:
    return f"back-{part:05d}.parquet"
