"""Going on from a click: what lies before it is not tracked again.

While a video is tracked, the tracker's state at the beginning of some parts is kept beside them (``kept-<part>.safetensors``): of those in
which a click is asked for, ``ASKED`` at most, and at ``SPREAD`` borders over a long video, for corrections that nobody asked for. When the
prompts change from a frame on and nothing else does, tracking begins at the nearest state before that frame. The result is the same, byte
for byte, as if it had begun at the first frame with all prompts.

The state of a part depends on the frames before it and on their prompts alone, as long as no backward pass has seen later ones; this is
why parts that the backward pass reached are always done again, and why the first prompt of a subject in a view changes everything.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.store import Artefact, canonical_json, write_aside, write_text
from foveate.track import events
from foveate.track.events import Kind

if TYPE_CHECKING:
    from foveate.track.scene import Scene

STATE = "state.safetensors"
ASKED, SPREAD = 3, 3
_RAW = "kept-raw-"  # rows of several subjects before they were told apart; not .parquet, because nobody else reads them


def about(scene: Scene) -> dict[str, Any]:
    """What a state has to know beside its tensors: the events so far, and the last part that the backward pass reached."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted(scene.target.folder.glob("events-*.csv"))}
    back = sorted(scene.target.folder.glob("back-*.parquet"))
    return {"events": found, "behind": _number(back[-1]) if back else -1}


def keep(scene: Scene, part: int) -> None:
    """The part is done and its events are written: keep the state from its beginning, which the next one is about to replace, as long as
    it may be needed."""
    source = scene.target.path(STATE)
    if source.is_file():
        with write_aside(_kept(scene.target, part)) as aside:
            try:
                os.link(source, aside)
            except OSError:  # a file system without links
                shutil.copyfile(source, aside)
    wanted = {part, *_wanted(scene, events.parts(scene.target))}  # a question of the next part may be about a frame of this one
    for path in scene.target.folder.glob("kept-*.safetensors"):
        if _number(path) not in wanted or _number(path) > part:
            path.unlink()


def seal(scene: Scene) -> None:
    """The track is done and its events are gathered: what is not needed to go on from a question goes."""
    target, raw = scene.target, sorted(scene.target.folder.glob("raw-*.parquet"))
    # First of all: a run that is killed here begins anew then, while with a state it would miss what goes below.
    target.path(STATE).unlink(missing_ok=True)
    wanted = set(_wanted(scene, events.read(target)))
    last = 0
    for path in target.folder.glob("kept-*.safetensors"):
        if _number(path) in wanted:
            last = max(last, _number(path))
        else:
            path.unlink()
    for path in raw:
        if _number(path) < last:
            os.replace(path, target.path(f"{_RAW}{_number(path):05d}"))
        else:
            path.unlink()
    for path in (*target.folder.glob("back-*.parquet"), *target.folder.glob("chunk-*.parquet")):
        path.unlink()


def _wanted(scene: Scene, found: list[events.Event]) -> list[int]:
    """Parts whose beginning is kept; the first has none."""
    asked = sorted({scene.part_of(event.frame) for event in found if event.kind == Kind.ASK} - {0})
    step = -(-scene.parts // (SPREAD + 1))
    return [*asked[:ASKED], *(range(step, scene.parts, step) if scene.parts > SPREAD else ())]


def adopt(scene: Scene) -> int | None:
    """Turn a track in the folder that was made, or begun, with other prompts into the beginning of the one that is wanted.

    Killed at any moment and called again, it does the same; until its last step the folder still says whose the parts are.

    Returns:
        The part to go on from; None where there is nothing to go on from, and everything has to be done.
    """
    target = scene.target
    before = target.earlier()
    frame = None if before is None else changed_from(before, target)
    if frame is None:
        return None
    part, state = _nearest(target, scene.part_of(frame))
    if state is None or not all(_there(scene, k) for k in range(part)):
        return None
    if state != target.path(STATE):
        found = _about(state)["events"]
        for path in target.folder.glob("events-*.csv"):
            path.unlink()
        for name, text in found.items():
            write_text(target.path(name), text)
        with write_aside(target.path(STATE)) as aside:
            shutil.copyfile(state, aside)
    target.path(events.FILE).unlink(missing_ok=True)
    for path in target.folder.glob(f"{_RAW}*"):
        os.replace(path, target.path(scene.part_file(int(path.name.removeprefix(_RAW)))))
    target.mark()
    return part


def changed_from(before: Mapping[str, Any], target: Artefact) -> int | None:
    """The first frame with other prompts than before; None where more than that differs, or where it is a subject's first prompt."""
    own = {"stage": target.stage, "version": target.version, "parents": target.parents, "settings": target.settings}
    wanted = json.loads(canonical_json(own))  # as it comes back from a file
    old, new = (list(side["settings"].get("prompts", ())) for side in (before, wanted))
    rest = [{**side, "settings": {**side["settings"], "prompts": None}} for side in (before, wanted)]
    changed = [prompt for prompt in old if prompt not in new] + [prompt for prompt in new if prompt not in old]
    if any(rest[0][key] != rest[1][key] for key in wanted) or not changed:
        return None
    frame = min(prompt["frame"] for prompt in changed)
    known = {(p["view"], p["subject"]) for p in new if p["frame"] < frame and p["kind"] != "absent"}
    if any((p["view"], p["subject"]) not in known and p["kind"] != "absent" for p in changed):
        return None
    return int(frame)


def _nearest(target: Artefact, part: int) -> tuple[int, Path | None]:
    """The latest state at the beginning of ``part`` or before that no backward pass has touched, and its part."""
    best: tuple[int, Path | None] = 0, None
    for path in (*target.folder.glob("kept-*.safetensors"), target.path(STATE)):
        told = _about(path)
        if told.get("phase") == "forward" and told["behind"] < told["part"] <= part and told["part"] > best[0]:
            best = told["part"], path
    return best


def _about(state: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(state), framework="np") as handle:
            return dict(json.loads(handle.metadata()["about"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):  # none there, or not one of ours
        return {}


def _there(scene: Scene, part: int) -> bool:
    """Whether the rows of a part are in place, and what they were when they were sealed."""
    target = scene.target
    return any(target.unharmed(name) for name in (scene.part_file(part), f"{_RAW}{part:05d}"))


def _kept(target: Artefact, part: int) -> Path:
    return target.path(f"kept-{part:05d}.safetensors")


def _number(path: Path) -> int:
    return int(path.name.removesuffix(path.suffix).rsplit("-", 1)[-1])
