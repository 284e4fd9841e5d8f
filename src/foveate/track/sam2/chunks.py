"""Mode ``paper`` of the tracker ``sam2``: the published chunks (guided DINOv2, supplement, and the code released with it).

A video is cut into chunks of 500 analysed frames and five more. The masks that a chunk gives those five prompt the next one, which forgets
everything else: four pixels of the mask, drawn with replacement, and its box with floor(side / 10) more on every side. Where all five are
empty, the paper needs a person. Here, in this order:

* the chunk begins earlier, at the last frames of the chunk before it that have a mask (suggested in the paper);
* it is prompted by the last frames that were sure, however long ago, and goes on without what lies between;
* it is lost, or absent, and somebody may be asked for a click (``ladder``). Every later chunk tries again.

Prompts of people are used in every chunk that holds their frame. A cut, or a gap, ends a chunk: each view is cut into splits, as published
(with ``drop: paper`` by the published rule); where the published pipeline needs a click for every split, the last sure frames are tried.

Deviations: boxes cover the last column and row (the released code names these as the corner); a chunk that brings no new frame is left out
even if its last frame has no mask.

Every chunk is a file until the parts are made of them, so that a killed run loses at most the chunk in hand.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foveate import masks
from foveate.masks import Mask
from foveate.schema import State
from foveate.store import read_parquet
from foveate.track import events
from foveate.track.events import Event, Kind
from foveate.track.ladder import Ladder
from foveate.track.prompts import ABSENT
from foveate.track.propagate.passes import Start
from foveate.track.sam2.session import Given, Session
from foveate.track.sam2.sweep import doubt_of, first_prompts, given_by, likeness_of, row_of
from foveate.track.scene import Picture, Row, Scene, cut
from foveate.track.shots import Look, Shots

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.sam2 import Segmenter

CHUNK, OVERLAP, POINTS = 500, 5, 4
_REMEMBERED = (
    2 * OVERLAP
)  # prompted frames of a chunk that its memory holds: those of the overlap, and the newest a person gave

Masks: TypeAlias = dict[int, bytes]  # frame -> run lengths
Rows: TypeAlias = dict[tuple[int, int], Row]  # by frame and number of the subject


def chunks(frames: int) -> list[range]:
    """The published chunks of so many frames: chunk c holds frames 500 c to 500 c + 504, as far as there are any."""
    starts = range(0, max(1, frames - OVERLAP), CHUNK)
    return [range(start, min(start + CHUNK + OVERLAP, frames)) for start in starts]


def padded(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a mask's box (x, y, w, h), with floor(side / 10) more on every side, inside the view."""
    x, y, w, h = box
    return max(0, x - w // 10), max(0, y - h // 10), min(width, x + w + w // 10), min(height, y + h + h // 10)


def pixels_of(mask: Mask, *names: object) -> tuple[tuple[float, float], ...]:
    """Four pixels (x, y) of ``mask``, drawn uniformly with replacement; the draw depends on nothing but the mask and ``names``."""
    seed = int.from_bytes(hashlib.sha256("\0".join(map(str, names)).encode()).digest()[:8], "big")
    rows, columns = np.nonzero(mask)
    drawn = np.random.default_rng(seed).integers(len(rows), size=POINTS)
    return tuple((float(columns[k]), float(rows[k])) for k in drawn)


def follow_chunks(
    scene: Scene,
    starts: Sequence[Start],
    model: Segmenter,
    tick: Callable[[int], None],
    write: Callable[[int, Sequence[Row]], None],
) -> None:
    """Follow all subjects, view after view and chunk after chunk; ``write`` is given each part's number and rows."""
    saved = scene.saved()
    _, number, memory = saved if saved is not None and saved[0] == "chunks" else ("chunks", 0, {})
    begun, done = int(memory["view"]) if "view" in memory else 0, 0
    works = []
    for place, name in enumerate(scene.views):
        work = _Work(scene, place, name, [start for start in starts if start.view == name], model)
        if place <= begun:
            own = f"{place}."
            state = {key.removeprefix(own): value for key, value in memory.items() if key.startswith(own)}
            work.restore(state, number if place == begun else 0)
        works.append(work)
    for work in works[begun:]:
        number = number if work.place == begun else 0
        while work.begin < len(work.frames):
            rows, found = work.chunk()
            scene.write(work.file(number), rows)
            scene.happened(f"chunk-{work.place:02d}-{number:05d}", found)
            number += 1
            finished = {f"{w.place}.{key}": value for w in works[: work.place + 1] for key, value in w.state().items()}
            scene.save("chunks", number, finished | {"view": _number(work.place)})
            visited = sum(w.begin for w in works) // len(works)
            tick(visited - done)
            done = visited
    _assemble(scene, starts, works, write)


def _number(value: int) -> Tensor:
    import torch

    return torch.tensor(value)


@dataclass(eq=False)
class _Work:
    """The chunks of one view so far, and what the next one needs of them."""

    scene: Scene
    place: int  # of the view among all
    name: str
    starts: Sequence[Start]  # in this view
    model: Segmenter
    begin: int = 0  # of the next chunk, in ``frames``
    begins: list[int] = field(default_factory=list)  # of the chunks so far
    shared: list[int] = field(default_factory=list)  # frames of the next chunk that the one before has seen: none after a cut
    seen: dict[int, Masks] = field(default_factory=dict)  # in the chunk before
    sure: dict[int, Masks] = field(default_factory=dict)  # the last frames that were sure
    judged: int = -1  # the last frame about which ``shots`` has been asked

    def __post_init__(self) -> None:
        self.first = {subject: start for (_, subject), start in first_prompts(self.starts).items()}
        self.said = {(s.frame, s.subject): s for s in self.starts}
        begin = min((start.frame for start in self.first.values()), default=math.inf)
        every = {*self.scene.analysed.frame.tolist(), *(frame for frame, _ in self.said)}
        self.frames = sorted(frame for frame in every if frame >= begin)  # that chunks are made of
        self.shots = Shots.of(self.scene, self.name)

    def file(self, number: int) -> str:
        return f"chunk-{self.place:02d}-{number:05d}.parquet"

    def chunk(self) -> tuple[list[Row], list[Event]]:
        """Rows of the next chunk (of its frames that show something, and of those before it that were done again), and what happened."""
        first = self.frames[self.begin]
        begun = [subject for subject, start in self.first.items() if start.frame < first]
        overlap = {s: known for s in begun if (known := self._among(s, self.shared))}
        earlier = {s: tail for s in begun if s not in overlap and self.shared and (tail := self._tail(s))}
        rows, kept, end, cut_here = self._run(overlap | earlier)
        found: list[Event] = []
        for subject, tail in earlier.items():
            if there := _masks_of(rows, subject, first):
                back = self.begin - self.frames.index(max(tail))
                note = f"by {len(tail)} frames of the chunk before; this one begins {back} frames earlier"
                found.append(self._event(Kind.REPROMPT, subject, min(there), min(there), note))
        inside = self.frames[self.begin : end]
        prompted = {s for f, s in self.said if inside[0] <= f <= inside[-1]}
        lost = [s for s in begun if s not in overlap and s not in prompted and not _masks_of(rows, s, first)]
        if sure := {subject: self.sure[subject] for subject in lost if subject in self.sure}:
            others = self._run(sure, until=end)[0]
            for subject in sure:
                if there := _masks_of(others, subject, first):
                    lost.remove(subject)
                    rows |= {at: row for at, row in others.items() if at[1] == subject and at[0] >= first}
                    note = f"by the last {len(sure[subject])} frames that were sure, up to frame {max(sure[subject])}"
                    found.append(self._event(Kind.REPROMPT, subject, min(there), min(there), note))
        found += self.shots.take()
        self._remember(rows, first)
        self.begins.append(self.begin)
        full = len(kept) == CHUNK + OVERLAP and end < len(self.frames) and not cut_here
        self.shared = kept[CHUNK:] if full else []
        self.begin = self.frames.index(kept[CHUNK]) if full else end
        return list(rows.values()), found

    def _among(self, subject: int, frames: Sequence[int]) -> Masks:
        return {frame: rle for frame, rle in self.seen.get(subject, {}).items() if frame in frames}

    def _tail(self, subject: int) -> Masks:
        """Of the chunk before, the last frame with a mask and those among the four before it that have one, too."""
        if not self.seen.get(subject):
            return {}
        last = self.frames.index(max(self.seen[subject]))
        return self._among(subject, self.frames[max(0, last + 1 - OVERLAP) : last + 1])

    def _run(self, told: Mapping[int, Masks], until: int | None = None) -> tuple[Rows, list[int], int, bool]:
        """Follow through a chunk with a new memory.

        Args:
            told: what is known of each subject from before, in frames of the chunk or earlier ones.
            until: where the chunk ends, in ``frames``: it is gone through once more, with only these subjects, and jumps from the frames
                that are told to its beginning.

        Returns:
            Rows; the frames of the chunk that were not left out; where it ends; whether because of a cut.
        """
        first = self.frames[self.begin]
        heads = {frame for masks_of in told.values() for frame in masks_of}
        early = self.begin if until is not None else self.frames.index(min([*heads, first]))
        sequence = sorted({*heads, *self.frames[early:until]})
        view = self.scene.views[self.name]
        session = Session(self.model, view.h, view.w, _REMEMBERED)
        waiting: dict[int, list[tuple[int, int, Picture]]] = {}
        rows: Rows = {}
        kept: list[int] = []
        for at, (frame, picture) in enumerate(self.scene.pictures(sequence)):
            inside = frame >= first
            shown = None if picture is None else self.shots.look(picture)
            show, cut_here = self._kept(frame, shown)
            if cut_here and kept:
                return rows, kept, self.frames.index(frame), True
            if not show or picture is None:
                continue
            if inside:
                kept.append(frame)
            square = cut(picture, view, self.model.size, self.model.size)
            given: dict[int, Given] = {}
            absent: set[int] = set()
            only: set[int] = set()
            for subject in range(len(self.scene.subjects)):
                marks = told.get(subject, {})
                if (until is not None and not marks) or not (inside or (marks and min(marks) <= frame)):
                    continue
                said = self.said.get((frame, subject))
                if said is not None and said.kind == ABSENT:
                    absent.add(subject)
                    continue
                if said is not None:
                    given[subject] = given_by(self.scene, said)
                elif frame in marks:
                    given[subject] = self._prompt(subject, frame, marks[frame])
                elif marks and min(marks) < frame < max(marks):
                    # As published, all prompts are given before anything is followed: this frame is looked at after them.
                    waiting.setdefault(subject, []).append((at, frame, square))
                    continue
                only.add(subject)
            session.cut(absent)
            looks: list[tuple[int, int, Picture, dict[int, Given], set[int]]] = [(at, frame, square, given, only)]
            for subject in sorted(only):
                if frame == max(told.get(subject, {}), default=None):
                    looks += [(*look, {}, {subject}) for look in waiting.pop(subject, [])]
            for when, where, seen_there, prompts, whom in looks:
                for subject, seen in session.step(seen_there, prompts, whom, at=when).items():
                    if where < first and where <= max(told[subject]):
                        continue  # what the chunk before said there stays
                    person = prompts.get(subject) if (where, subject) in self.said else None
                    rows[where, subject] = row_of(self.scene, self.name, subject, where, seen, person)
            for subject in range(len(self.scene.subjects)):
                if inside and (frame, subject) not in rows:
                    rows[frame, subject] = self._unseen(frame, subject)
            if len(kept) == CHUNK + OVERLAP and until is None:
                return rows, kept, self.frames.index(frame) + 1, False
        return rows, kept, len(self.frames) if until is None else until, False

    def _kept(self, frame: int, shown: Look | None) -> tuple[bool, bool]:
        """Whether the picture is one to look at, and whether another shot begins with it."""
        prompted = any(start.frame == frame and start.kind != ABSENT for start in self.starts)
        show = shown is not None and (not shown.dropped or prompted)
        if frame <= self.judged:  # looked at once more
            return show, False
        self.judged = frame
        if not show or shown is None:
            self.shots.drop(frame, shown)
            return False, False
        return True, self.shots.cuts(frame, shown)

    def _prompt(self, subject: int, frame: int, rle: bytes) -> Given:
        view = self.scene.views[self.name]
        mask = masks.decode(rle, view.h, view.w)
        box = masks.box(mask)
        assert box is not None
        left, top, right, bottom = (float(side) for side in padded(box, view.w, view.h))
        if self.scene.project.config.track.overlap == "box":
            return Given(box=(left, top, right, bottom))
        points = pixels_of(mask, self.scene.video.name, self.name, self.scene.subjects[subject], frame)
        return Given(points, (left, top, right, bottom))

    def _unseen(self, frame: int, subject: int) -> Row:
        said = self.said.get((frame, subject))
        away = subject not in self.first or (said is not None and said.kind == ABSENT)
        return self.scene.row(self.name, self.scene.subjects[subject], frame, State.ABSENT if away else State.LOST)

    def _remember(self, rows: Rows, first: int) -> None:
        for subject in range(len(self.scene.subjects)):
            self.seen[subject] = _masks_of(rows, subject, first)
            own = sorted(at for at in rows if at[1] == subject and at[0] >= first)
            sure = {at[0]: rows[at]["rle"] for at in own if rows[at]["state"] in (State.TRACKED, State.PROMPTED)}
            if sure:
                self.sure[subject] = dict([*self.sure.get(subject, {}).items(), *sure.items()][-OVERLAP:])

    def _event(self, kind: Kind, subject: int, frame: int, until: int, note: str) -> Event:
        time = self.scene.clock.time
        name = self.scene.subjects[subject]
        return Event(frame, self.name, name, kind, float(time[frame]), until, float(time[until]), note=note)

    def state(self) -> dict[str, Tensor]:
        import torch

        found = {
            "begins": torch.tensor([*self.begins, self.begin]),
            "shared": torch.tensor(self.shared, dtype=torch.int64),
            "judged": torch.tensor(self.judged),
        }
        for subject, kept in self.sure.items():
            for frame, rle in kept.items():
                found[f"sure.{subject}.{frame}"] = torch.tensor(list(rle), dtype=torch.uint8)
        return found | {f"shot.{key}": value for key, value in self.shots.state().items()}

    def restore(self, state: Mapping[str, Tensor], number: int) -> None:
        """Go on where ``state`` was taken, before chunk ``number``; 0: this view is done, or not begun."""
        if state:
            *self.begins, self.begin = state["begins"].tolist()
        if not number:
            return
        self.shared, self.judged = state["shared"].tolist(), int(state["judged"])
        for name in sorted((n for n in state if n.startswith("sure.")), key=lambda n: int(n.split(".")[2])):
            _, subject, frame = name.split(".")
            self.sure.setdefault(int(subject), {})[int(frame)] = bytes(state[name].tolist())
        self.shots.restore({key.removeprefix("shot."): value for key, value in state.items() if key.startswith("shot.")})
        before = read_parquet(self.scene.target.path(self.file(number - 1))).to_pylist()
        rows = {(row["frame"], self.scene.subjects.index(row["subject"])): row for row in before}
        for k in range(len(self.scene.subjects)):
            self.seen[k] = _masks_of(rows, k, self.frames[self.begins[-1]])

    def rows(self) -> Iterator[Row]:
        """Of all chunks, by frame and subject; of two rows for one frame the later chunk's counts. A chunk changes rows of the one before
        it, never of those before that."""
        pending: dict[tuple[int, str], Row] = {}
        for number in range(len(self.begins)):
            if number:
                limit = self.frames[self.begins[number - 1]]
                for key in sorted(key for key in pending if key[0] < limit):
                    yield pending.pop(key)
            for row in read_parquet(self.scene.target.path(self.file(number))).to_pylist():
                pending[row["frame"], row["subject"]] = row
        for key in sorted(pending):
            yield pending[key]


def _masks_of(rows: Rows, subject: int, first: int) -> Masks:
    """Frames from ``first`` on in which there is a mask."""
    return {at[0]: rows[at]["rle"] for at in sorted(rows) if at[1] == subject and at[0] >= first and rows[at]["rle"]}


def _assemble(
    scene: Scene, starts: Sequence[Start], works: Sequence[_Work], write: Callable[[int, Sequence[Row]], None]
) -> None:
    """Make the parts of the chunks."""
    ladders = {(name, subject): Ladder(name, subject, view) for name, view in scene.views.items() for subject in scene.subjects}
    first = {(view, scene.subjects[subject]): start.frame for (view, subject), start in first_prompts(starts).items()}
    kinds = {(start.frame, start.view, scene.subjects[start.subject]): start.kind for start in starts}
    told = {(e.frame, e.view, e.subject) for e in events.sofar(scene.target) if e.kind == Kind.REPROMPT}
    stream = heapq.merge(*(work.rows() for work in works), key=lambda row: (row["frame"], row["view"], row["subject"]))
    row = next(stream, None)
    for part in range(scene.parts):
        wanted = scene.frames(part).tolist()
        rows: dict[tuple[int, str, str], Row] = {}
        last = part == scene.parts - 1
        while row is not None and (last or row["frame"] <= wanted[-1]):
            where = row["view"], row["subject"]
            said = kinds.get((row["frame"], *where))
            if said == ABSENT and row["frame"] > first.get(where, math.inf):
                ladders[where].told(row)
            elif row["frame"] >= first.get(where, math.inf):
                ladders[where].see(row, likeness_of(row), prompted=said is not None)
                if said is not None and (why := doubt_of(row, scene.views[where[0]], said)):
                    ladders[where].ask(row, why)
            rows[(row["frame"], *where)] = row
            row = next(stream, None)
        for frame in wanted:
            for view, name in ladders:  # before the first prompt, or left out
                lost = State.LOST if (view, name) in first else State.ABSENT
                rows.setdefault((frame, view, name), scene.row(view, name, frame, lost))
        found = [event for ladder in ladders.values() for event in (ladder.end() if last else ladder.close())]
        # A chunk has told already by which frames it found it.
        found = [e for e in found if e.kind != Kind.REPROMPT or (e.frame, e.view, e.subject) not in told]
        write(part, [row for key, row in rows.items() if key[0] in set(wanted)])
        scene.happened(f"{part:05d}", found)
