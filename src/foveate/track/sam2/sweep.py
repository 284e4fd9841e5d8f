"""SAM 2 in one direction through a video: pictures in, rows and events out, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from foveate import masks
from foveate.masks import resample
from foveate.schema import State
from foveate.settings import View
from foveate.track import seeds
from foveate.track.events import Event
from foveate.track.ladder import Ladder
from foveate.track.prompts import ABSENT, read_mask
from foveate.track.propagate.passes import Start
from foveate.track.sam2.session import Given, Seen, Session
from foveate.track.scene import Picture, Row, Scene, cut
from foveate.track.shots import Look, Shots

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.sam2 import Segmenter

_Shown: TypeAlias = tuple[Look | None, Picture | None]
SURE = 0.75  # a subject that is less certainly in the picture is uncertain; a guess: no weights were at hand to choose it with
_NOTHING: _Shown = (None, None)  # of a frame that cannot be decoded
_BACKWARD = 32  # squares held in memory together; each such run costs a jump to a keyframe


def first_prompts(starts: Sequence[Start]) -> dict[tuple[str, int], Start]:
    """By view and subject, what its track begins with."""
    return {(start.view, start.subject): start for start in reversed(starts) if start.kind != ABSENT}


def given_by(scene: Scene, start: Start) -> Given:
    """A prompt as the network takes it."""
    view, prompt = scene.views[start.view], start.prompt
    if start.mask is not None:
        return Given(mask=resample(start.mask, view.h, view.w))
    assert prompt is not None
    if prompt.kind == "mask":
        return Given(mask=read_mask(scene.project, prompt, view))
    if prompt.kind == "point":
        return Given(points=((prompt.x, prompt.y),))
    return Given(box=(prompt.x, prompt.y, prompt.x + prompt.w, prompt.y + prompt.h))


def row_of(scene: Scene, view: str, subject: int, frame: int, seen: Seen, given: Given | None) -> Row:
    """The row of one subject that has been looked for; a mask that somebody drew stays as it was drawn."""
    name = scene.subjects[subject]
    mask = seen.mask if given is None or given.mask is None else given.mask
    if not mask.any():
        return scene.row(view, name, frame, State.LOST, score=seen.certainty)
    state = State.TRACKED if seen.certainty >= SURE else State.UNCERTAIN
    return scene.row(view, name, frame, State.PROMPTED if given is not None else state, mask, seen.certainty)


def likeness_of(row: Row) -> float:
    """How like the subject is what is seen, for the ladder: a mask that the model gives is not taken back, however little it is sure."""
    return row["score"] if row["rle"] is None else 1.0


def doubt_of(row: Row, view: View, kind: str) -> str:
    """What is to be said of the mask that a prompt (``kind`` of its Start) has given; empty where nothing is."""
    if row["rle"] is None:
        return "nothing is found where it was prompted"
    return seeds.doubt(masks.decode(row["rle"], view.h, view.w)) if kind == "click" else ""


class Sweep:
    """One direction through the video: decodes, and shows the pictures of each view to its session."""

    def __init__(self, scene: Scene, starts: Sequence[Start], model: Segmenter, *, backward: bool = False) -> None:
        self.scene, self.backward = scene, backward
        self.starts = {(s.view, s.subject, s.frame): s for s in starts}
        self.first = {key: start.frame for key, start in first_prompts(starts).items()}
        self.sessions = {name: Session(model, view.h, view.w) for name, view in scene.views.items()}
        self.ladders = {(name, k): Ladder(name, s, v) for name, v in scene.views.items() for k, s in enumerate(scene.subjects)}
        self.shots = {name: Shots.of(scene, name) for name in scene.views}
        self.stream: Iterator[tuple[int, Picture | None]] | None = None

    def state(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for i, session in enumerate(self.sessions.values()):
            found |= {f"{i}.{key}": value for key, value in session.state().items()}
        for i, shots in enumerate(self.shots.values()):
            found |= {f"shot.{i}.{key}": value for key, value in shots.state().items()}
        for i, ladder in enumerate(self.ladders.values()):
            found |= {f"ladder.{i}.{key}": value for key, value in ladder.state().items()}
        return found

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        for i, session in enumerate(self.sessions.values()):
            own = f"{i}."
            session.restore({key.removeprefix(own): value for key, value in memory.items() if key.startswith(own)})
        for i, shots in enumerate(self.shots.values()):
            own = f"shot.{i}."
            shots.restore({key.removeprefix(own): value for key, value in memory.items() if key.startswith(own)})
        for i, ladder in enumerate(self.ladders.values()):
            own = f"ladder.{i}."
            if kept := {key.removeprefix(own): value for key, value in memory.items() if key.startswith(own)}:
                ladder.restore(kept)

    def part(self, part: int, tick: Callable[[int], None]) -> tuple[list[Row], list[Event]]:
        """Rows of the part's analysed frames, for all views and subjects, and what happened in them."""
        wanted = set(self.scene.frames(part).tolist())
        rows: list[Row] = []
        for frame, views in self._pictures(part):
            for name in self.scene.views:
                found = self._rows(name, frame, None if views is None else views.get(name, _NOTHING))
                rows += found if frame in wanted else ()
            tick(frame in wanted)
        last = part == (0 if self.backward else self.scene.parts - 1)
        happened = [event for ladder in self.ladders.values() for event in (ladder.end() if last else ladder.close())]
        return rows, [*happened, *(event for shots in self.shots.values() for event in shots.take())]

    def _rows(self, name: str, frame: int, shown: _Shown | None) -> list[Row]:
        """Of one view in one frame, one for each subject."""
        said = {s: start for s in range(len(self.scene.subjects)) if (start := self.starts.get((name, s, frame))) is not None}
        absent = {s for s, start in said.items() if start.kind == ABSENT}
        given = {s: given_by(self.scene, start) for s, start in said.items() if s not in absent}
        seen: dict[int, Seen] = {}
        square = None if shown is None else self._kept(name, frame, shown, bool(given))
        if square is not None:
            self.sessions[name].cut(absent)
            seen = self.sessions[name].step(square, given, set(range(len(self.scene.subjects))) - absent)
        rows = []
        for subject, own in enumerate(self.scene.subjects):
            ladder = self.ladders[name, subject]
            if subject in seen:
                row = row_of(self.scene, name, subject, frame, seen[subject], given.get(subject))
                ladder.see(row, likeness_of(row), prompted=subject in given)
                if (
                    subject in given
                    and not self.backward
                    and (why := doubt_of(row, self.scene.views[name], said[subject].kind))
                ):
                    ladder.ask(row, why)
            else:
                followed = (name, subject) in self.first and subject not in absent
                row = self.scene.row(name, own, frame, State.LOST if followed else State.ABSENT)
                if subject in absent and subject in self.sessions[name].memories:
                    ladder.told(row)
            rows.append(row)
        return rows

    def _kept(self, name: str, frame: int, shown: _Shown, prompted: bool) -> Picture | None:
        """The picture, unless it is left out. With the first one of another shot, what the last frames looked like is forgotten."""
        look, square = shown
        if look is None or (look.dropped and not prompted):
            self.shots[name].drop(frame, look)
            return None
        if self.shots[name].cuts(frame, look):
            self.sessions[name].cut()
            for subject in range(len(self.scene.subjects)):
                self.ladders[name, subject].cut()
        return square

    def _positions(self, part: int) -> list[int]:
        """Frames visited in one part, in order of time: the analysed ones, and prompted ones in between."""
        extra = {frame for _, _, frame in self.starts if self.scene.part_of(frame) == part}
        found = sorted({*self.scene.frames(part).tolist(), *extra})
        last = max(self.first.values(), default=-1)
        return [frame for frame in found if frame <= last] if self.backward else found

    def _pictures(self, part: int) -> Iterator[tuple[int, dict[str, _Shown] | None]]:
        """Frames of one part in the order of this direction, with what each view shows (no view where the frame cannot be decoded); None
        before the first prompt, where nobody looks."""
        positions = self._positions(part)
        if self.backward:
            for i in range(len(positions), 0, -_BACKWARD):
                run = [(f, self._cut(p)) for f, p in self.scene.pictures(positions[max(0, i - _BACKWARD) : i])]
                yield from reversed(run)
            return
        begin = min(self.first.values(), default=-1)
        for frame in positions:
            if self.stream is None and not any(s.memories for s in self.sessions.values()) and frame != begin:
                yield frame, None
                continue
            if self.stream is None:
                rest = [f for later in range(part, self.scene.parts) for f in self._positions(later)]
                self.stream = self.scene.pictures(rest[rest.index(frame) :])
            _, picture = next(self.stream)
            yield frame, self._cut(picture)

    def _cut(self, picture: Picture | None) -> dict[str, _Shown]:
        """The views, as large as the network sees them, with what is compared of them."""
        if picture is None:
            return {}
        size = {name: session.model.size for name, session in self.sessions.items()}
        return {
            name: (self.shots[name].look(picture), cut(picture, view, size[name], size[name]))
            for name, view in self.scene.views.items()
        }
