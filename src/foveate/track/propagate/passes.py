"""The tracker ``propagate`` on a video: once forward from each subject's first prompt to the end, and before that, where the
first prompt is not in the first frame, once backward from it to the beginning.

Both directions work part by part and keep the tracker's memory after each, so that a killed run goes on. Backward, frames are decoded in
short forward runs, whose tokens alone are held in memory. Results of the backward pass wait in ``back-<k>.parquet``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.jobs import Progress
from foveate.masks import Mask, coverage, resample
from foveate.models.pretrained import blocks_kept
from foveate.schema import LAYERS, FoveateError, State
from foveate.settings import View
from foveate.store import read_parquet
from foveate.track import seeds
from foveate.track.auto import find_start
from foveate.track.events import Event
from foveate.track.ladder import Ladder
from foveate.track.pixels import brightened, to_mask
from foveate.track.prompts import FOLDER, TABLE, Prompt, read_mask
from foveate.track.propagate.coat import colours
from foveate.track.propagate.glances import Glances, asked
from foveate.track.propagate.propagator import DEPTH, Found, Propagator
from foveate.track.scene import Picture, Row, Scene, cut, grid_of
from foveate.track.shots import Look, Shots

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.pretrained import Backbone

FORWARD, BACKWARD = 16, 64  # frames held in memory together; backward, each such run costs a jump to a keyframe
BEFORE = 16  # frames looked at together when going back to where a subject was lost

_KINDS = {"point": "click", "box": "box", "mask": "mask", "absent": "absent"}
_log = logging.getLogger("foveate")


@dataclass(frozen=True, eq=False)
class Start:
    """Where labels come from, or end (kind ``absent``): a person's prompt, or a mask found without one (bool[H, W] of the view)."""

    view: str
    subject: int
    frame: int
    kind: str
    prompt: Prompt | None = None
    mask: Mask | None = None


def open_network(scene: Scene) -> Backbone:
    """The backbone that looks at every frame, as deep as it is needed."""
    from foveate.models.pretrained import kept_backbone, model_of

    model = model_of(scene.project.folder, scene.project.config.track.model)
    return kept_backbone(model, depth=1.0 if asked(scene.project) else DEPTH)


def follow(scene: Scene, starts: Sequence[Start], backbone: Backbone, progress: Progress) -> dict[str, Any]:
    """Write every part of the tracks; returns the facts for the seal."""
    sweep = Sweep(scene, starts, backbone)
    begun = [start for start in starts if start.kind != "absent"]
    first = {key: min(s.frame for s in begun if (s.view, s.subject) == key) for key in {(s.view, s.subject) for s in begun}}
    frames = scene.analysed.frame
    behind = int(np.searchsorted(frames, max(first.values()))) if first else 0  # frames that the backward pass visits
    total, done = len(frames) + behind, 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    phase, part, memory = scene.saved() or (
        ("backward", scene.part_of(max(first.values())), {}) if behind else ("forward", 0, {})
    )
    if phase == "backward":
        sweep.restore(memory)
        while part >= 0:
            every = list(sweep.part(part, backward=True, tick=tick))
            happened = sweep.settle(last=part == 0)
            until = {(view, scene.subjects[subject]): frame for (view, subject), frame in first.items()}
            rows = [row for row in every if row["frame"] < until.get((row["view"], row["subject"]), 0)]
            if sweep.glances is not None:
                sweep.glances.write(f"back-part-{part:05d}")
            scene.write(_back_name(part), rows)
            scene.happened(f"shots-back-{part:05d}", sweep.happened())
            before = [event for event in happened if event.until_frame < until.get((event.view, event.subject), 0)]
            scene.happened(f"ladder-back-{part:05d}", before)
            part -= 1
            scene.save("backward", part, sweep.state())
        phase, part, memory = "forward", 0, {}
    sweep.restore(memory)
    done = behind + min(part * len(scene.frames(0)), len(frames))
    while part < scene.parts:
        rows = list(sweep.part(part, backward=False, tick=tick))
        happened = sweep.settle(last=part + 1 == scene.parts)
        if scene.target.has(_back_name(part)):
            earlier = read_parquet(scene.target.path(_back_name(part))).to_pylist()
            have = {(row["frame"], row["view"], row["subject"]) for row in earlier}
            rows = [row for row in rows if (row["frame"], row["view"], row["subject"]) not in have] + earlier
        if sweep.glances is not None:
            sweep.glances.write(f"part-{part:05d}")
        scene.write(scene.part_file(part), rows)
        scene.happened(f"shots-{part:05d}", sweep.happened())
        scene.happened(f"ladder-{part:05d}", happened)
        part += 1
        scene.save("forward", part, sweep.state())
    if sweep.glances is not None:
        sweep.glances.target.finish()
    kinds = {f"{s.view}/{scene.subjects[s.subject]}": s.kind for s in reversed(begun)}
    return {"prompt": "+".join(sorted(set(kinds.values()))), "prompts": kinds}


def _back_name(part: int) -> str:
    return f"back-{part:05d}.parquet"


def find_starts(scene: Scene, prompts: Sequence[Prompt]) -> list[Start]:
    """The prompts of a video, by frame; automatic ones where there is one subject and nobody prompted it.

    Raises:
        FoveateError: no prompt for one of several subjects, nothing found automatically.
    """
    starts = [Start(p.view, scene.subjects.index(p.subject), p.frame, _KINDS[p.kind], p) for p in prompts]
    prompted = {(s.view, s.subject) for s in starts if s.kind != "absent"}
    for view in scene.views:
        for subject, name in enumerate(scene.subjects):
            if (view, subject) in prompted:
                continue
            if len(scene.subjects) == 1:
                frame, mask, kind = find_start(scene, view)
                _log.info("%s: no prompt for view %s; it starts from %s in frame %d", scene.video.name, view, kind, frame)
                starts.append(Start(view, subject, frame, kind, mask=mask))
            elif not any(other == subject for _, other in prompted):
                raise FoveateError(
                    f"video {scene.video.name!r} has {len(scene.subjects)} subjects, but no prompt says which one is {name!r}",
                    file=scene.project.folder / FOLDER / TABLE,
                    remedy=f"add a row for {name!r}: a point on it in one frame is enough",
                )
            else:
                _log.info("%s: no prompt for %s in view %s; it counts as absent there", scene.video.name, name, view)
    return sorted(starts, key=lambda start: (start.frame, start.view, start.subject))


class Sweep:
    """One direction through the video: decodes, embeds, and steps the propagator of each view."""

    def __init__(self, scene: Scene, starts: Sequence[Start], backbone: Backbone) -> None:
        self.scene, self.starts, self.settings, self.backbone = scene, starts, scene.project.config.track, backbone
        self.trackers: dict[str, Propagator] = {}
        self.shots: dict[str, Shots] = {}
        self.ladders: dict[tuple[str, int], Ladder] = {}
        self.seen: dict[str, dict[int, tuple[Tensor, Picture]]] = {}  # tokens and pictures of the run of frames in hand
        self.stream: Iterator[tuple[int, Picture | None]] | None = None

    @cached_property
    def glances(self) -> Glances | None:
        """Where vectors of the subjects are kept, if a probe wants them."""
        return Glances(self.scene) if asked(self.scene.project) else None

    @cached_property
    def whole_backbone(self) -> Backbone:
        """All of its blocks, for growing points and boxes."""
        from foveate.models.pretrained import kept_backbone, model_of

        return kept_backbone(model_of(self.scene.project.folder, self.settings.model))

    def grid(self, view: View) -> tuple[int, int]:
        """Patch rows and columns of what the tracker sees of a view."""
        return grid_of(view, self.settings.short_side, self.backbone.patch)

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        for i, (name, view) in enumerate(self.scene.views.items()):
            self.trackers[name] = Propagator(self.settings, *self.grid(view), len(self.scene.subjects))
            self.trackers[name].restore(_below(memory, f"{i}."))
            self.shots[name] = Shots.of(self.scene, name)
            self.shots[name].restore(_below(memory, f"{i}.shot."))
            for k, subject in enumerate(self.scene.subjects):
                self.ladders[name, k] = Ladder(name, subject, view)
                if kept := _below(memory, f"{i}.ladder.{k:03d}."):
                    self.ladders[name, k].restore(kept)

    def state(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for i, name in enumerate(self.scene.views):
            found |= {f"{i}.{key}": value for key, value in self.trackers[name].state().items()}
            found |= {f"{i}.shot.{key}": value for key, value in self.shots[name].state().items()}
            for k in range(len(self.scene.subjects)):
                found |= {f"{i}.ladder.{k:03d}.{key}": value for key, value in self.ladders[name, k].state().items()}
        return found

    def settle(self, *, last: bool) -> list[Event]:
        """The part is done: settle its rows, and say what happened to the subjects. ``last``: nothing comes after it."""
        return [event for ladder in self.ladders.values() for event in (ladder.end() if last else ladder.close())]

    def happened(self) -> list[Event]:
        """What the last part's pictures showed: cuts, and frames that were dropped."""
        return [event for shots in self.shots.values() for event in shots.take()]

    def positions(self, part: int) -> list[int]:
        """Frames visited in one part: the analysed ones, and prompted ones in between."""
        extra = {start.frame for start in self.starts if self.scene.part_of(start.frame) == part}
        return sorted({*self.scene.frames(part).tolist(), *extra})

    def _pictures(self, frames: Sequence[int], backward: bool) -> Iterator[tuple[int, Picture | None]]:
        """Backward: a short run of its own. Forward: one read of the footage for all that is left of it."""
        if backward:
            return self.scene.pictures(frames)
        if self.stream is None:
            rest = [f for part in range(self.scene.part_of(frames[0]), self.scene.parts) for f in self.positions(part)]
            self.stream = self.scene.pictures(rest[rest.index(frames[0]) :])
        return itertools.islice(self.stream, len(frames))

    def part(self, part: int, *, backward: bool, tick: Any) -> Iterator[Row]:
        """Rows of the part's analysed frames, for all views and subjects."""
        wanted = {int(frame) for frame in self.scene.frames(part)}
        positions = self.positions(part)
        size = BACKWARD if backward else FORWARD
        chunks = [positions[i : i + size] for i in range(0, len(positions), size)]
        for chunk in reversed(chunks) if backward else chunks:
            for row in self._chunk(chunk, backward):
                if row["frame"] in wanted:
                    if self.glances is not None:
                        self.glances.add(row)
                    yield row
            tick(len(wanted & set(chunk)))

    def _chunk(self, frames: Sequence[int], backward: bool) -> Iterator[Row]:
        import torch

        due = {(s.view, s.frame, s.subject): s for s in self.starts if s.frame in frames}
        active = [
            name
            for name, tracker in self.trackers.items()
            if any(map(tracker.started, range(tracker.subjects)))
            or any(s.view == name for s in due.values() if s.kind != "absent")
        ]
        if backward and not active:
            return
        small: dict[str, dict[int, Picture]] = {name: {} for name in active}
        whole: dict[tuple[str, int], Picture] = {}  # prompted frames, in full
        looks: dict[tuple[str, int], Look] = {}
        for frame, picture in self._pictures(frames, backward) if active else ():
            if picture is not None:
                for name in active:
                    view, prompted = self.scene.views[name], any((name, frame) == key[:2] for key in due)
                    looks[name, frame] = seen = self.shots[name].look(picture)
                    if seen.dropped and not prompted:
                        continue
                    rows, columns = self.grid(view)
                    shown = cut(picture, view, rows * self.backbone.patch, columns * self.backbone.patch)
                    small[name][frame] = brightened(shown)
                    if prompted:
                        whole[name, frame] = cut(picture, view, view.h, view.w)
        self.seen = {name: self._embed(name, small[name]) for name in active}
        for frame in reversed(frames) if backward else frames:
            for name, view in self.scene.views.items():
                if name not in active or frame not in small[name]:
                    if name in active:
                        self.shots[name].drop(frame, looks.get((name, frame)))
                    for subject in range(len(self.scene.subjects)):
                        yield self._unseen(name, subject, frame)
                    continue
                if self.shots[name].cuts(frame, looks[name, frame]):
                    self.trackers[name].cut()
                    for subject in range(len(self.scene.subjects)):
                        self.ladders[name, subject].cut()
                tokens, picture = self.seen[name][frame]
                here = {s: start for (v, f, s), start in due.items() if (v, f) == (name, frame)}
                away = {s for s, start in here.items() if start.kind == "absent"}
                drawn, doubts = self._drawn({s: start for s, start in here.items() if s not in away}, whole)
                given = {s: torch.from_numpy(coverage(mask, *self.grid(view))) for s, mask in drawn.items()}
                time, coat = float(self.scene.clock.time[frame]), colours(picture, *self.grid(view))
                found = self.trackers[name].step(tokens, given, away, time, coat)
                for subject, one in enumerate(found):
                    row = self._row(name, view, subject, frame, one, picture, drawn.get(subject))
                    ladder = self.ladders[name, subject]
                    if subject in away:
                        ladder.told(row)
                    elif one is not None:
                        if not backward and row["rle"] is not None and ladder.searching:
                            missed = [old["frame"] for old in ladder.missed]
                            ladder.fill(list(itertools.takewhile(_has_mask, self._back(name, subject, missed))))
                        ladder.see(row, one.likeness, prompted=one.prompted, searched=one.searched)
                    if subject in doubts and not backward:
                        ladder.ask(row, doubts[subject])
                    yield row

    def _back(self, name: str, subject: int, frames: Sequence[int]) -> Iterator[Row]:
        """Rows of frames that have been looked at, latest first, going back from where a subject was found again; a prompt may lie long
        after the loss. Without a mask where the subject is not surely seen."""
        tracker, view = self.trackers[name].turned(), self.scene.views[name]
        for stop in range(len(frames), 0, -BEFORE):
            run = self._again(name, frames[max(0, stop - BEFORE) : stop])
            for frame in sorted(run, reverse=True):
                tokens, picture = run[frame]
                time, coat = float(self.scene.clock.time[frame]), colours(picture, *self.grid(view))
                found = tracker.step(tokens, time=time, colours=coat)[subject]
                sure = found if found is not None and found.sure else None
                yield self._row(name, view, subject, frame, sure, picture, None)

    def _again(self, name: str, frames: Sequence[int]) -> dict[int, tuple[Tensor, Picture]]:
        """Tokens and pictures of frames that have been looked at already; decoded again where they are no longer held."""
        held = self.seen[name]
        if all(frame in held for frame in frames):
            return {frame: held[frame] for frame in frames}
        view, size = self.scene.views[name], [side * self.backbone.patch for side in self.grid(self.scene.views[name])]
        pictures = {
            f: brightened(cut(picture, view, *size)) for f, picture in self.scene.pictures(frames) if picture is not None
        }
        return self._tokens(pictures) if pictures else {}

    def _tokens(self, pictures: Mapping[int, Picture]) -> dict[int, tuple[Tensor, Picture]]:
        """Tokens beside each picture."""
        import torch

        batch = torch.from_numpy(np.stack(list(pictures.values()))).permute(0, 3, 1, 2)
        depth = blocks_kept(self.backbone.blocks, DEPTH) if self.glances is not None else "last"
        tokens = self.backbone.tokens(batch, (depth,))[depth].patches.half().cpu()
        return {frame: (tokens[i], picture) for i, (frame, picture) in enumerate(pictures.items())}

    def _embed(self, view: str, pictures: Mapping[int, Picture]) -> dict[int, tuple[Tensor, Picture]]:
        """Tokens beside each picture; the subjects' vectors are kept on the way, if they are wanted."""
        import torch

        if self.glances is None or not pictures:
            return self._tokens(pictures) if pictures else {}
        batch = torch.from_numpy(np.stack(list(pictures.values()))).permute(0, 3, 1, 2)
        depth = blocks_kept(self.backbone.blocks, DEPTH)
        seen = self.backbone.tokens(batch, (depth, *LAYERS))
        self.glances.see(view, list(pictures), seen)
        tokens = seen[depth].patches.half().cpu()
        return {frame: (tokens[i], picture) for i, (frame, picture) in enumerate(pictures.items())}

    def _drawn(
        self, starts: Mapping[int, Start], whole: Mapping[tuple[str, int], Picture]
    ) -> tuple[dict[int, Mask], dict[int, str]]:
        """The masks bool[H, W] that the prompts of one frame and view mean, without common pixels; and what is to be said of those that
        are hardly an animal's."""
        found: dict[int, Mask] = {}
        doubts: dict[int, str] = {}
        places: dict[int, seeds.Box] = {}
        for s, start in starts.items():
            view, prompt = self.scene.views[start.view], start.prompt
            if start.mask is not None:
                found[s] = resample(start.mask, view.h, view.w)
            elif prompt is not None and prompt.kind == "mask":
                found[s] = read_mask(self.scene.project, prompt, view)
            elif prompt is not None:
                places[s] = prompt.x, prompt.y, prompt.w, prompt.h
        claimed = found | {s: seeds.pixels_of(place, whole[starts[s].view, starts[s].frame]) for s, place in places.items()}
        for s, place in places.items():
            picture = whole[starts[s].view, starts[s].frame]
            others = np.any([mask for other, mask in claimed.items() if other != s] or [np.zeros_like(claimed[s])], axis=0)
            patch, grid = self.whole_backbone.patch, self.grid(self.scene.views[starts[s].view])
            if place[2]:
                found[s] = seeds.mask_of_box(picture, place, self._look, patch, grid, others)
            else:
                found[s], stands_out = seeds.mask_of_point(picture, *place[:2], self._look, patch, grid, others)
                if why := seeds.doubt(found[s], stands_out):
                    doubts[s] = why
        return seeds.apart(found, places), doubts

    def _look(self, picture: Picture) -> NDArray[np.float32]:
        """Tokens of two layers side by side."""
        import torch
        from torch.nn import functional

        tokens = self.whole_backbone.tokens(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None])
        found: NDArray[np.float32] = (
            torch.cat([functional.normalize(t.patches[0], dim=-1) for t in tokens.values()], dim=-1).cpu().numpy()
        )
        return found

    def _unseen(self, view: str, subject: int, frame: int) -> Row:
        prompted = any((s.view, s.subject) == (view, subject) and s.kind != "absent" for s in self.starts)
        return self.scene.row(view, self.scene.subjects[subject], frame, State.LOST if prompted else State.ABSENT)

    def _row(
        self, name: str, view: View, subject: int, frame: int, found: Found | None, picture: Picture, drawn: Mask | None
    ) -> Row:
        if found is None or (drawn is None and not bool(found.labels.any())):
            return self._unseen(name, subject, frame)
        mask = to_mask((found.labels / found.peak).clamp(max=1).numpy(), picture, view.h, view.w) if drawn is None else drawn
        if not mask.any():
            return self._unseen(name, subject, frame)
        state = State.TRACKED if found.sure else State.UNCERTAIN
        state = State.PROMPTED if found.prompted else state
        return self.scene.row(name, self.scene.subjects[subject], frame, state, mask, found.certainty, found.identity)


def _has_mask(row: Row) -> bool:
    return row["rle"] is not None


def _below(memory: Mapping[str, Tensor], own: str) -> dict[str, Tensor]:
    """Entries whose names begin with ``own``, without it."""
    return {name.removeprefix(own): value for name, value in memory.items() if name.startswith(own)}
