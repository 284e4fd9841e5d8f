"""Mode ``paper`` of the tracker ``sam2``: the published chunks (guided DINOv2, supplement, and the code released with it).

A video is cut into chunks of 500 analysed frames and five more. The masks that a chunk gives those five prompt the next one, which forgets
everything else: four pixels of the mask, drawn with replacement, and its box with floor(side / 10) more on every side. Where all five are
empty, the paper needs a person. Here, in this order:

* the chunk begins earlier, at the last frames of the chunk before it that have a mask (suggested in the paper);
* it is prompted by the last frames that were sure, however long ago, and goes on without what lies between;
* the subject is marked absent there, and somebody is asked for a click. Every later chunk tries again.

Prompts of people are used in every chunk that holds their frame. Deviations: boxes cover the last column and row (the released code names
these as the corner); frames that do not decode end a chunk, as there, but the next one is prompted as after five empty frames, where the
released pipeline needs a click; a chunk that brings no new frame is left out even if its last frame has no mask.

Every chunk is a file until the parts are made of them, so that a killed run loses at most the chunk in hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foveate import masks
from foveate.masks import Mask
from foveate.schema import State
from foveate.store import read_parquet
from foveate.track.events import Event, Kind
from foveate.track.passes import Start
from foveate.track.prompts import ABSENT
from foveate.track.scene import Picture, Row, Scene, cut
from foveate.track.session import Given, Session
from foveate.track.sweep import first_prompts, given_by, row_of
from foveate.track.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.sam2 import Segmenter

CHUNK, OVERLAP, POINTS = 500, 5, 4
_REMEMBERED = (
    2 * OVERLAP
)  # prompted frames of a chunk that its memory holds: those of the overlap, and the newest a person gave

Key: TypeAlias = tuple[str, int]  # view, and number of the subject
Masks: TypeAlias = dict[int, bytes]  # frame -> run lengths
Rows: TypeAlias = dict[tuple[int, str, int], Row]  # by frame, view and number of the subject


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
    """Follow all subjects chunk by chunk; ``write`` is given each part's number and rows."""
    saved = scene.saved()
    _, number, memory = saved if saved is not None and saved[0] == "chunks" else ("chunks", 0, {})
    work = _Work(scene, starts, model)
    work.restore(memory, number)
    tick(work.begin)
    while work.begin < len(work.frames):
        begin = work.begin
        rows, found = work.chunk()
        scene.write(_name(number), rows)
        scene.happened(f"chunk-{number:05d}", found)
        number += 1
        scene.save("chunks", number, work.state())
        tick(work.begin - begin)
    _assemble(scene, starts, [work.frames[begin] for begin in work.begins], write)


def _name(number: int) -> str:
    return f"chunk-{number:05d}.parquet"


@dataclass(eq=False)
class _Work:
    """Where the chunks are, and what the next one needs of those before."""

    scene: Scene
    starts: Sequence[Start]
    model: Segmenter
    begin: int = 0  # of the next chunk, in ``frames``
    begins: list[int] = field(default_factory=list)  # of the chunks so far
    seen: dict[Key, Masks] = field(default_factory=dict)  # in the chunk before
    sure: dict[Key, Masks] = field(default_factory=dict)  # the last frames that were sure
    gone: set[Key] = field(default_factory=set)  # subjects that the chunk before did not find

    def __post_init__(self) -> None:
        self.first = first_prompts(self.starts)
        self.said = {(s.frame, s.view, s.subject): s for s in self.starts}
        self.keys = [(view, subject) for view in self.scene.views for subject in range(len(self.scene.subjects))]
        begin = min((start.frame for start in self.first.values()), default=0)
        every = {*self.scene.analysed.frame.tolist(), *(frame for frame, _, _ in self.said)}
        self.frames = sorted(frame for frame in every if frame >= begin)  # that chunks are made of

    def chunk(self) -> tuple[list[Row], list[Event]]:
        """Rows of the next chunk (all of its frames, and those before it that were done again), and what happened."""
        left = chunks(len(self.frames) - self.begin)
        frames = self.frames[self.begin : self.begin + len(left[0])]
        begun = [key for key, start in self.first.items() if start.frame < frames[0]]
        overlap = {key: kept for key in begun if (kept := self._among(key, frames[:OVERLAP]))}
        earlier = {key: tail for key in begun if key not in overlap and (tail := self._tail(key))}
        rows, covered, whole = self._run(frames, overlap | earlier)
        frames = frames[:covered]
        found: list[Event] = []
        for key, tail in earlier.items():
            if there := _masks_of(rows, key, frames[0]):
                note = f"by {len(tail)} frames of the chunk before, begun {self._distance(max(tail), frames[0])} frames earlier"
                found.append(self._event(Kind.REPROMPT, key, min(there), min(there), note))
        prompted = {(v, s) for f, v, s in self.said if frames[0] <= f <= frames[-1]}
        lost = [k for k in begun if k not in overlap and k not in prompted and not _masks_of(rows, k, frames[0])]
        if sure := {key: self.sure[key] for key in lost if key in self.sure}:
            others, _, _ = self._run(frames, sure, jump=True)
            for key in sure:
                if there := _masks_of(others, key, frames[0]):
                    lost.remove(key)
                    rows |= {at: row for at, row in others.items() if at[1:] == key and at[0] >= frames[0]}
                    note = f"by the last {len(sure[key])} frames that were sure, up to frame {max(sure[key])}"
                    found.append(self._event(Kind.REPROMPT, key, min(there), min(there), note))
        found += self._give_up(rows, lost, earlier, frames)
        self._remember(rows, frames[0])
        self.gone = set(lost)
        self.begins.append(self.begin)
        self.begin += covered if not whole else CHUNK if len(left) > 1 else len(frames)
        return list(rows.values()), found

    def _among(self, key: Key, frames: Sequence[int]) -> Masks:
        return {frame: rle for frame, rle in self.seen.get(key, {}).items() if frame in frames}

    def _tail(self, key: Key) -> Masks:
        """Of the chunk before, the last frame with a mask and those among the four before it that have one, too."""
        if not self.seen.get(key):
            return {}
        last = self.frames.index(max(self.seen[key]))
        return self._among(key, self.frames[max(0, last + 1 - OVERLAP) : last + 1])

    def _distance(self, one: int, other: int) -> int:
        return self.frames.index(other) - self.frames.index(one)

    def _run(self, frames: Sequence[int], told: Mapping[Key, Masks], *, jump: bool = False) -> tuple[Rows, int, bool]:
        """Follow through ``frames`` with a new memory, up to the first gap in the footage.

        Args:
            frames: of the chunk.
            told: what is known of each subject from before, in frames of the chunk or earlier ones.
            jump: only these subjects are followed, and nothing that lies between the earlier frames and the chunk.

        Returns:
            Rows; how many of ``frames`` they cover, those of a gap included; whether there is no gap.
        """
        heads = {frame for kept in told.values() for frame in kept}
        first = frames[0] if jump else min([*heads, frames[0]])
        sequence = sorted({*heads, *self.frames[self.frames.index(first) : self.begin], *frames})
        sessions = {name: Session(self.model, v.h, v.w, _REMEMBERED) for name, v in self.scene.views.items()}
        waiting: dict[Key, list[tuple[int, int, Picture]]] = {}
        rows: Rows = {}
        covered, gap = 0, False
        for at, (frame, picture) in enumerate(self.scene.pictures(sequence)):
            inside = frame >= frames[0]
            if picture is None or (gap and inside):
                if picture is not None:
                    break  # where the footage goes on, the next chunk begins
                covered, gap = covered + inside, gap or inside
                continue
            covered += inside
            for name, view in self.scene.views.items():
                square = cut(picture, view, self.model.size, self.model.size)
                given, absent, only = {}, set(), set()
                for subject in range(len(self.scene.subjects)):
                    key = name, subject
                    kept = told.get(key, {})
                    if (jump and key not in told) or not (inside or (kept and min(kept) <= frame)):
                        continue
                    said = self.said.get((frame, name, subject))
                    if said is not None and said.kind == ABSENT:
                        absent.add(subject)
                    elif said is not None:
                        given[subject] = given_by(self.scene, said)
                    elif frame in kept:
                        given[subject] = self._prompt(key, frame, kept[frame])
                    elif kept and min(kept) < frame < max(kept):
                        # As published, all prompts are given before anything is followed: this frame is looked at after them.
                        waiting.setdefault(key, []).append((at, frame, square))
                        continue
                    only.add(subject)
                sessions[name].cut(absent)
                looks = [(at, frame, square, given, only - absent)]
                for subject in only:
                    if frame == max(told.get((name, subject), {}), default=None):
                        looks += [(*look, {}, {subject}) for look in waiting.pop((name, subject), [])]
                for when, shown, seen_square, prompts, whom in looks:
                    for subject, seen in sessions[name].step(seen_square, prompts, whom, at=when).items():
                        if shown < frames[0] and shown <= max(told[name, subject]):
                            continue  # what the chunk before said there stays
                        person = prompts.get(subject) if (shown, name, subject) in self.said else None
                        rows[shown, name, subject] = row_of(self.scene, name, subject, shown, seen, person)
        for frame in frames[:covered]:
            for name, subject in self.keys:
                if (frame, name, subject) not in rows:
                    rows[frame, name, subject] = self._unseen(frame, name, subject)
        return rows, covered, not gap

    def _prompt(self, key: Key, frame: int, rle: bytes) -> Given:
        view = self.scene.views[key[0]]
        mask = masks.decode(rle, view.h, view.w)
        box = masks.box(mask)
        assert box is not None
        around = tuple(float(side) for side in padded(box, view.w, view.h))
        points = pixels_of(mask, self.scene.video.name, key[0], self.scene.subjects[key[1]], frame)
        both = self.scene.project.config.track.overlap == "points_and_box"
        return Given(points if both else (), around)  # type: ignore[arg-type]

    def _unseen(self, frame: int, name: str, subject: int) -> Row:
        said = self.said.get((frame, name, subject))
        away = (name, subject) not in self.first or (said is not None and said.kind == ABSENT)
        return self.scene.row(name, self.scene.subjects[subject], frame, State.ABSENT if away else State.LOST)

    def _give_up(self, rows: Rows, lost: Sequence[Key], earlier: Mapping[Key, Masks], frames: Sequence[int]) -> Iterator[Event]:
        """Mark subjects absent that nothing has found, and ask, once for all chunks in a row."""
        for key in lost:
            after = max(earlier.get(key, {}), default=-1)
            since = [at for at in rows if at[1:] == key and at[0] > after]
            for at in since:
                rows[at]["state"] = State.ABSENT.value
            told = any(s.kind == ABSENT and (s.view, s.subject) == key and after < s.frame <= frames[-1] for s in self.starts)
            if key not in self.gone and not told:
                note = (
                    "five frames at the end of a chunk without it; neither the frames before nor those that were sure found it"
                )
                yield self._event(Kind.ASK, key, min(since)[0], frames[-1], note)

    def _remember(self, rows: Rows, first: int) -> None:
        for key in self.keys:
            self.seen[key] = _masks_of(rows, key, first)
            own = sorted((at[0], row) for at, row in rows.items() if at[1:] == key and at[0] >= first)
            sure = {frame: row["rle"] for frame, row in own if row["state"] in (State.TRACKED, State.PROMPTED)}
            if sure:
                self.sure[key] = dict([*self.sure.get(key, {}).items(), *sure.items()][-OVERLAP:])

    def _event(self, kind: Kind, key: Key, frame: int, until: int, note: str) -> Event:
        time = self.scene.clock.time
        subject = self.scene.subjects[key[1]]
        return Event(frame, key[0], subject, kind, float(time[frame]), until, float(time[until]), note=note)

    def state(self) -> dict[str, Tensor]:
        import torch

        found = {
            "begins": torch.tensor([*self.begins, self.begin]),
            "gone": torch.tensor([self.keys.index(key) for key in sorted(self.gone)], dtype=torch.int64),
        }
        for key, kept in self.sure.items():
            for frame, rle in kept.items():
                found[f"sure.{self.keys.index(key)}.{frame}"] = torch.tensor(list(rle), dtype=torch.uint8)
        return found

    def restore(self, state: Mapping[str, Tensor], number: int) -> None:
        """Go on where ``state`` was taken, before chunk ``number``."""
        if not number:
            return
        *self.begins, self.begin = state["begins"].tolist()
        self.gone = {self.keys[k] for k in state["gone"].tolist()}
        for name in sorted((n for n in state if n.startswith("sure.")), key=lambda n: int(n.split(".")[2])):
            _, subject, frame = name.split(".")
            self.sure.setdefault(self.keys[int(subject)], {})[int(frame)] = bytes(state[name].tolist())
        before = read_parquet(self.scene.target.path(_name(number - 1))).to_pylist()
        rows = {(row["frame"], row["view"], self.scene.subjects.index(row["subject"])): row for row in before}
        for key in self.keys:
            self.seen[key] = _masks_of(rows, key, self.frames[self.begins[-1]])


def _masks_of(rows: Rows, key: Key, first: int) -> Masks:
    """Frames from ``first`` on in which there is a mask."""
    found = {at[0]: row["rle"] for at, row in rows.items() if at[1:] == key and at[0] >= first and row["rle"]}
    return dict(sorted(found.items()))


def _assemble(
    scene: Scene, starts: Sequence[Start], begins: Sequence[int], write: Callable[[int, Sequence[Row]], None]
) -> None:
    """Make the parts of the chunks: of two rows for one frame the later chunk's counts."""
    watches = {(view, name): Watch(scene, view, name) for view in scene.views for name in scene.subjects}
    first = first_prompts(starts)
    prompted = {(s.frame, s.view, scene.subjects[s.subject]) for s in starts if s.kind != ABSENT}
    stream = _final(scene, begins)
    row = next(stream, None)
    for part in range(scene.parts):
        wanted = scene.frames(part).tolist()
        rows: list[Row] = []
        found: list[Event] = []
        last = part == scene.parts - 1
        while row is not None and (last or row["frame"] <= wanted[-1]):
            where = row["view"], row["subject"]
            found += watches[where].judge(row, (row["frame"], *where) in prompted)
            rows.append(row)
            row = next(stream, None)
        have = {row["frame"] for row in rows}
        for frame in set(wanted) - have:  # before the first prompt
            for view, subject in watches:
                followed = (view, scene.subjects.index(subject)) in first
                rows.append(scene.row(view, subject, frame, State.LOST if followed else State.ABSENT))
        if last:
            for watch in watches.values():
                found += watch.end()
        write(part, [row for row in rows if row["frame"] in set(wanted)])
        scene.happened(f"{part:05d}", found)


def _final(scene: Scene, begins: Sequence[int]) -> Iterator[Row]:
    """Rows of all chunks by frame, view and subject. A chunk changes rows of the one before, never of those before that."""
    pending: dict[tuple[int, str, str], Row] = {}
    for number in range(len(begins)):
        ready = sorted(key for key in pending if number and key[0] < begins[number - 1])
        for key in ready:
            yield pending.pop(key)
        for row in read_parquet(scene.target.path(_name(number))).to_pylist():
            pending[row["frame"], row["view"], row["subject"]] = row
    for key in sorted(pending):
        yield pending[key]
