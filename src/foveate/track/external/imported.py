"""The rows of a video whose track another program made; the reading is in ``exchange``, the joining in ``placing``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from foveate.exchange.sheet import Sheet
from foveate.jobs import Progress
from foveate.schema import State
from foveate.track.events import Event, Kind
from foveate.track.external.placing import Place, Trail, Trails, drawn, placed
from foveate.track.scene import Row, Scene, part_name
from foveate.track.shots import Shots


def follow(scene: Scene, trails: Trails, sheets: Sequence[Sheet], progress: Progress) -> dict[str, Any]:
    """Write every part of the tracks that `read_imports` found; returns the facts for the seal: the programs, and what they gave
    (boxes, masks, points)."""
    pairs = list(itertools.product(scene.views, scene.subjects))
    total = 2 * len(scene.analysed)
    cuts = find_cuts(scene, lambda done: progress(done, total))
    shots = {view: [event.frame for event in found] for view, found in cuts.items()}
    streams = {pair: placed(trails.get(pair), scene.analysed, scene.clock, shots[pair[0]]) for pair in pairs}
    absences: dict[tuple[str, str], list[int]] = {pair: [] for pair in pairs}
    happened: list[Event] = [event for found in cuts.values() for event in found]
    for part in range(scene.parts):
        rows = []
        for _ in scene.frames(part):
            for pair, stream in streams.items():
                one = next(stream)
                rows.append(_row(scene, *pair, trails.get(pair), one))
                _note(scene, *pair, one, absences[pair], happened, trails)
        if not scene.target.has(part_name(part)):
            scene.write(part_name(part), rows)
        progress(total // 2 + min(total // 2, (part + 1) * len(scene.frames(0))), total)
    for pair, frames in absences.items():
        happened.extend(_absence(scene, *pair, frames, trails))
    scene.happened("imported", happened)
    contents = dict.fromkeys(sheet.content for sheet in sheets)
    return {
        "prompt": "",
        "prompts": {},
        "imported": {"programs": _unique(s.program for s in sheets), "content": list(contents)},
    }


def find_cuts(scene: Scene, tick: Callable[[int], None]) -> dict[str, list[Event]]:
    """The cuts in each view: other programs say nothing of them, and neither crops nor windows may reach across. The footage is read once
    for it, unless foveate.yaml says that there are none."""
    shots = {name: Shots.of(scene, name) for name in scene.views}
    if scene.project.config.track.cuts != "none":
        for done, (frame, picture) in enumerate(scene.pictures(scene.analysed.frame.tolist()), 1):
            for one in shots.values():
                seen = None if picture is None else one.look(picture)
                if seen is None or seen.dropped:
                    one.drop(frame, seen)
                else:
                    one.cuts(frame, seen)
            tick(done)
    return {name: [event for event in one.take() if event.kind == Kind.CUT] for name, one in shots.items()}


def _unique(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _row(scene: Scene, view: str, subject: str, trail: Trail | None, one: Place) -> Row:
    if one.box is None or trail is None:
        return scene.row(view, subject, one.frame, one.state, score=None)
    mask, box = drawn(trail.view, one)
    row = scene.row(view, subject, one.frame, one.state, mask, one.score)
    return row | dict(zip("xywh", box, strict=True))  # as the file has it, not rounded to pixels


def _note(
    scene: Scene, view: str, subject: str, one: Place, open_one: list[int], happened: list[Event], trails: Trails
) -> None:
    """Gather the frames of an absence; when it ends it is an event."""
    if one.state is State.ABSENT:
        open_one[:] = [open_one[0] if open_one else one.frame, one.frame]
    else:
        happened.extend(_absence(scene, view, subject, open_one, trails))
        open_one.clear()


def _absence(scene: Scene, view: str, subject: str, frames: list[int], trails: Trails) -> Iterator[Event]:
    if frames:
        why = "the imported file says so" if (view, subject) in trails else "no imported file has it in this view"
        start, stop = (float(scene.clock.time[frame]) for frame in frames)
        yield Event(frames[0], view, subject, Kind.ABSENT, start, frames[1], stop, note=why)
