"""What is said, and done to the rows, when a subject is lost: from the first frame without it until it is found again. For every tracker
that follows a subject, whatever it finds it by.

While a subject is not seen nothing is certain: it may have left, be hidden, or stand there unrecognised. Only looking back tells, so the
rows of a part are settled when the subject is found again or the part ends: as ``absent``, if it left over the border or nothing like it
was to be seen for a while; else as ``lost``. Frames in which a wrong thing was followed, up to the last sure one, are taken back. Where
something like it was there all along, or it vanished in the middle of the picture, somebody is asked for a click, once per loss; all else
goes on. Everything that happens is an event (``events.py``), and events say what rows say: a loss that was settled otherwise in another
part, or before a cut, is told in stretches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from foveate.schema import State
from foveate.settings import View
from foveate.track.events import Event, Kind
from foveate.track.scene import Row

if TYPE_CHECKING:
    from torch import Tensor

RESEMBLES = 0.64  # likeness of something that might be the subject
HIDDEN = 2.5  # seconds: with nothing like it to be seen for so long it is absent, wherever it was seen last
OFTEN = 0.25  # share of the frames of a loss in which something like it must be there to speak against its absence
ASK_AFTER = 10.0  # seconds of a loss that explains itself badly
WRONG = 0.75  # likeness below which a doubtful frame is taken back once the subject is lost
BORDER = 1 / 12  # of the view's shorter side: nearer to the border it may be gone before the next frame


_log = logging.getLogger("foveate")


@dataclass
class Loss:
    """A stretch of frames in which the subject is not seen. ``first`` and ``last`` are in the order they were looked at."""

    first: int = -1
    since: float = 0.0
    last: int = -1
    until: float = 0.0
    frames: int = 0
    resembling: int = 0  # frames in which something looked like it
    border: bool = False  # it touched the border before
    cut: bool = False  # it was not found in another shot
    told: bool = False  # somebody said that it is not there
    drift: bool = False  # something else had been followed
    best: float = 0.0  # likeness of what was most like it
    best_frame: int = -1
    best_time: float = 0.0
    asked: bool = False
    # The frames that were settled alike and have not been told of; ``start`` -1: none.
    start: int = -1
    start_time: float = 0.0
    stop: int = -1
    stop_time: float = 0.0
    gone: bool = False  # they were settled as absent

    @property
    def seconds(self) -> float:
        return abs(self.until - self.since)

    @property
    def unlike(self) -> bool:
        """Whether there was nothing like it, but for a moment."""
        return self.resembling <= OFTEN * self.frames

    @property
    def away(self) -> bool:
        """Whether it is not in the picture, rather than not found."""
        return self.told or (self.unlike and (self.border or self.cut or self.seconds >= HIDDEN))

    @property
    def questionable(self) -> bool:
        return self.seconds >= ASK_AFTER and not self.told and not (self.unlike and self.border)

    @property
    def question(self) -> str:
        """Why somebody is asked."""
        if self.best >= RESEMBLES:
            return "something like it is there"
        return "it was not found after a cut" if self.cut else "it was last seen in the middle of the picture"

    @property
    def reason(self) -> str:
        """Why it is taken for absent, or for lost."""
        if not self.gone:
            return "something else was followed" if self.drift else "not found after a cut" if self.cut else "it faded"
        if self.told:
            return "somebody said so"
        return "it left over the border" if self.border else "nothing like it is there"

    def add(self, row: Row, likeness: float) -> None:
        if self.first < 0:
            self.first, self.since = row["frame"], row["time"]
        self.last, self.until = row["frame"], row["time"]
        self.frames += 1
        self.resembling += likeness >= RESEMBLES
        if likeness > self.best or self.best_frame < 0:
            self.best, self.best_frame, self.best_time = likeness, row["frame"], row["time"]


class Ladder:
    """One subject in one view, frame by frame, forward or backward in time. A frame that shows nothing is not one of them.

    Args:
        view: the view's name.
        subject: the subject's.
        size: of the view.
    """

    def __init__(self, view: str, subject: str, size: View) -> None:
        self.view, self.subject, self.size = view, subject, size
        self.loss: Loss | None = None
        self.border = False  # it touched the border when it was last surely seen
        self.crossed = False  # it has not been seen since a cut
        self.missed: list[Row] = []  # rows of the loss, of the present part
        self.doubts: list[tuple[Row, float]] = []  # rows since the last sure one and their likeness, of the present part
        self.events: list[Event] = []

    @property
    def searching(self) -> bool:
        """Whether frames of a loss may be filled in once the subject is found again."""
        return self.loss is not None and not self.loss.told and bool(self.missed)

    def see(self, row: Row, likeness: float, *, prompted: bool = False, searched: bool = False) -> None:
        """Take note of a frame and its row, which may be changed until the part is done.

        Args:
            row: its state is ``lost`` where the subject is not seen, and ``uncertain`` where it may be something else.
            likeness: 0..1, of what is seen to the subject; where it is lost, of what is most like it.
            prompted: somebody says where it is in this frame.
            searched: it was looked for in the whole view, by its looks alone.
        """
        if row["rle"] is None:
            self._miss(row, likeness)
            return
        if self.loss is not None:
            self._back(row, likeness, prompted, searched)
        elif self.crossed and not prompted:
            self._found(row, likeness, searched, "after a cut")
        self.crossed = False
        if row["state"] == State.UNCERTAIN:
            self.doubts.append((row, likeness))
        else:
            self.doubts.clear()
            self.border = at_border(row, self.size)

    def cut(self) -> None:
        """The next frame belongs to another shot: nothing is filled in across it, and nothing taken back."""
        if self.loss is not None:
            self._settle()
        self.missed, self.doubts, self.border, self.crossed = [], [], False, True

    def told(self, row: Row) -> None:
        """Somebody says that the subject is not in this frame."""
        if self.loss is None:
            self._lose()
        assert self.loss is not None
        self.loss.told = True
        self.loss.add(row, 0.0)
        self.missed.append(row)

    def ask(self, row: Row, why: str) -> None:
        """Somebody has to look at this frame, whatever becomes of the subject."""
        _log.warning("%s: %s, view %s, frame %d: %s", row["video"], self.subject, self.view, row["frame"], why)
        self.events.append(self._event(Kind.ASK, row, row, note=why))

    def fill(self, rows: Sequence[Row]) -> None:
        """Frames of the loss that were found going back from where it ended, latest first: they replace the rows there."""
        if not rows or self.loss is None:
            return
        new = {row["frame"]: row for row in rows}
        for row in self.missed:
            row.update(new.get(row["frame"], row))
        self.missed = [row for row in self.missed if row["frame"] not in new]
        self.events.append(self._event(Kind.BACKWARD, rows[-1], rows[0], note=f"{len(rows)} frames before it was found again"))
        self.loss.frames -= len(rows)
        self.loss.last, self.loss.until = (
            (self.missed[-1]["frame"], self.missed[-1]["time"]) if self.missed else (self.loss.first, self.loss.since)
        )

    def close(self) -> list[Event]:
        """End of a part: settle what is open by what is known, and give its events."""
        if self.loss is not None:
            self._settle()
        done, self.events = self.events, []
        self.missed, self.doubts = [], []
        return done

    def end(self) -> list[Event]:
        """End of the video."""
        if self.loss is not None:
            self._settle()
            self._tell()
            self.loss, self.missed = None, []
        return self.close()

    def _miss(self, row: Row, likeness: float) -> None:
        if self.loss is None:
            self._lose()
        assert self.loss is not None
        self.loss.add(row, likeness)
        self.missed.append(row)

    def _lose(self) -> None:
        """Begin a loss; doubtful frames that look wrong are part of it."""
        drift = False
        while self.doubts and self.doubts[-1][1] < WRONG:
            row, _ = self.doubts.pop()
            row.update(_nothing())
            self.missed.insert(0, row)
            drift = True
        border = at_border(self.doubts[-1][0], self.size) if self.doubts else self.border
        self.loss = Loss(border=border, cut=self.crossed, drift=drift)
        for row in self.missed:
            self.loss.add(row, 0.0)
        self.doubts.clear()

    def _back(self, row: Row, likeness: float, prompted: bool, searched: bool) -> None:
        """Seen again: settle the loss and tell of it."""
        assert self.loss is not None
        self._settle()
        if self.loss.start >= 0:
            self._tell()
            if not prompted:
                self._found(row, likeness, searched, f"after {self.loss.seconds:.1f} s", returned=self.loss.gone)
        self.loss, self.missed = None, []

    def _found(self, row: Row, likeness: float, searched: bool, after: str, *, returned: bool = False) -> None:
        kind = Kind.RETURN if returned else Kind.PROPOSAL if searched else Kind.REPROMPT
        self.events.append(self._event(kind, row, row, likeness, after))

    def _settle(self) -> None:
        """Say of the frames of the loss that have come since the last time whether it is absent there."""
        loss = self.loss
        assert loss is not None
        if self.missed:
            first, last = self.missed[0], self.missed[-1]
            for row in self.missed:
                row["state"] = (State.ABSENT if loss.away else State.LOST).value
            if loss.start >= 0 and loss.gone != loss.away:
                self._tell()
                loss.start = -1
            if loss.start < 0:
                loss.start, loss.start_time, loss.gone = first["frame"], first["time"], loss.away
            loss.stop, loss.stop_time = last["frame"], last["time"]
        if loss.questionable and not loss.asked:
            loss.asked = True
            taken = "; it is taken for absent" if loss.away else ""
            when = {"frame": loss.best_frame, "time": loss.best_time}
            note = f"{loss.question}{taken}; click on it, or say that it is absent"
            self.events.append(self._event(Kind.ASK, when, when, loss.best, note))

    def _tell(self) -> None:
        """The event of frames that were settled alike."""
        loss = self.loss
        assert loss is not None
        kind = Kind.ABSENT if loss.gone else Kind.DRIFT
        ends = sorted(((loss.start, loss.start_time), (loss.stop, loss.stop_time)))
        first, last = ({"frame": frame, "time": time} for frame, time in ends)
        self.events.append(self._event(kind, first, last, loss.best, loss.reason))

    def _event(self, kind: Kind, start: Row, stop: Row, score: float | None = None, note: str = "") -> Event:
        return Event(
            frame=start["frame"],
            view=self.view,
            subject=self.subject,
            kind=kind,
            time=start["time"],
            until_frame=stop["frame"],
            until_time=stop["time"],
            score=score,
            note=note,
        )

    # --- what is kept on disk between parts ---

    def state(self) -> dict[str, Tensor]:
        import torch

        out = {"flags": torch.tensor([self.border, self.crossed])}
        if self.loss is not None:
            out["loss"] = torch.tensor([float(value) for value in astuple(self.loss)], dtype=torch.float64)
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.border, self.crossed = state["flags"].tolist()
        if "loss" in state:
            kinds = {"bool": bool, "int": int, "float": float}
            values = zip(fields(Loss), state["loss"].tolist(), strict=True)
            self.loss = Loss(*(kinds[str(field.type)](value) for field, value in values))


def at_border(row: Row, size: View) -> bool:
    """Whether a subject is so near to the border of the view that it may be gone in the next frame."""
    near = BORDER * min(size.w, size.h)
    beyond = row["x"] + row["w"] > size.w - near or row["y"] + row["h"] > size.h - near
    return bool(beyond or row["x"] < near or row["y"] < near)


def _nothing() -> Row:
    """What the row of an unseen subject holds."""
    return {
        "state": State.LOST.value,
        **dict.fromkeys("xywh"),
        "score": 0.0,
        "identity_score": None,
        "area": 0,
        "rle": None,
    }
