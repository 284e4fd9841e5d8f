"""What is said, and done to the rows, when a subject is lost: from the first frame without it until it is found again.

While a subject is not seen nothing is certain: it may have left, be hidden, or stand there unrecognised. Only looking back tells, so the
rows of a part are settled when the subject is found again or the part ends: as ``absent``, if it left over the border or nothing like it
was to be seen for a while; else as ``lost``. Frames in which a wrong thing was followed, up to the last sure one, are taken back. Where
something like it was there all along, or it vanished in the middle of the picture, somebody is asked for a click, once per loss; all else
goes on. Everything that happens is an event (``events.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from foveate.schema import State
from foveate.track.events import Event, Kind
from foveate.track.propagate.propagator import BACK, Found
from foveate.track.scene import Row

if TYPE_CHECKING:
    from torch import Tensor

RESEMBLES = 0.85 * BACK  # likeness of something that might be the subject
HIDDEN = 2.5  # seconds: with nothing like it to be seen for so long it is absent, wherever it was seen last
OFTEN = 0.25  # share of the frames of a loss in which something like it must be there to speak against its absence
ASK_AFTER = 10.0  # seconds of a loss that explains itself badly
WRONG = 0.75  # likeness below which a doubtful frame is taken back once the subject is lost


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
    told: bool = False  # somebody said that it is not there
    drift: bool = False  # something else had been followed
    best: float = 0.0  # likeness of what was most like it
    best_frame: int = -1
    best_time: float = 0.0
    asked: bool = False

    @property
    def seconds(self) -> float:
        return abs(self.until - self.since)

    @property
    def away(self) -> bool:
        """Whether it is not in the picture, rather than not found."""
        nothing = self.resembling <= OFTEN * self.frames
        return self.told or (nothing and (self.border or self.seconds >= HIDDEN))

    @property
    def questionable(self) -> bool:
        unclear = self.resembling > OFTEN * self.frames or not self.border
        return self.seconds >= ASK_AFTER and unclear and not self.told

    def add(self, row: Row, likeness: float) -> None:
        if self.first < 0:
            self.first, self.since = row["frame"], row["time"]
        self.last, self.until = row["frame"], row["time"]
        self.frames += 1
        self.resembling += likeness >= RESEMBLES
        if likeness > self.best or self.best_frame < 0:
            self.best, self.best_frame, self.best_time = likeness, row["frame"], row["time"]


class Ladder:
    """One subject in one view."""

    def __init__(self, view: str, subject: str) -> None:
        self.view, self.subject = view, subject
        self.loss: Loss | None = None
        self.border = False  # it touches the border
        self.missed: list[Row] = []  # rows of the loss, of the present part
        self.doubts: list[tuple[Row, float]] = []  # rows since the last sure one and their likeness, of the present part
        self.events: list[Event] = []

    @property
    def searching(self) -> bool:
        """Whether frames of a loss may be filled in once the subject is found again."""
        return self.loss is not None and not self.loss.told and bool(self.missed)

    def see(self, row: Row, found: Found, border: bool) -> None:
        """Take note of a frame and its row, which may be changed until the part is done.

        Args:
            row: its state is ``lost`` where the subject is not seen.
            found: what the tracker says.
            border: whether the subject touches the border of the view.
        """
        if row["rle"] is None:
            self._miss(row, found.likeness)
            return
        if self.loss is not None:
            self._back(row, found)
        if found.sure:
            self.doubts.clear()
            self.border = border
        else:
            self.doubts.append((row, found.likeness))

    def cut(self) -> None:
        """The next frame belongs to another shot: nothing is filled in across it, and nothing taken back."""
        if self.loss is not None:
            self._settle()
        self.missed, self.doubts, self.border = [], [], False

    def told(self, row: Row) -> None:
        """Somebody says that the subject is not in this frame."""
        if self.loss is None:
            self._lose()
        assert self.loss is not None
        self.loss.told = True
        self.loss.add(row, 0.0)
        self.missed.append(row)

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
            self._tell()
        return self.close()

    def _miss(self, row: Row, likeness: float) -> None:
        if self.loss is None:
            self._lose()
        assert self.loss is not None
        self.loss.add(row, likeness)
        self.missed.append(row)

    def _lose(self) -> None:
        """Begin a loss; doubtful frames that look wrong are part of it."""
        self.loss = Loss(border=self.border)
        while self.doubts and self.doubts[-1][1] < WRONG:
            row, _ = self.doubts.pop()
            row.update(_nothing())
            self.missed.insert(0, row)
            self.loss.drift = True
        for row in self.missed:
            self.loss.add(row, 0.0)
        self.doubts.clear()

    def _back(self, row: Row, found: Found) -> None:
        """Found again: settle the loss and tell of it."""
        assert self.loss is not None
        self._settle()
        if self.loss.frames > 0:
            self._tell()
            if not found.prompted:
                kind = Kind.RETURN if self.loss.away else Kind.REPROMPT
                how = f"{found.source}, " if found.source else ""
                self.events.append(self._event(kind, row, row, found.likeness, f"{how}after {self.loss.seconds:.1f} s"))
        self.loss, self.missed = None, []

    def _settle(self) -> None:
        assert self.loss is not None
        state = State.ABSENT if self.loss.away else State.LOST
        for row in self.missed:
            row["state"] = state.value
        if self.loss.questionable and not self.loss.asked:
            self.loss.asked = True
            why = (
                "something like it is there" if self.loss.best >= RESEMBLES else "it was last seen in the middle of the picture"
            )
            when = {"frame": self.loss.best_frame, "time": self.loss.best_time}
            self.events.append(
                self._event(Kind.ASK, when, when, self.loss.best, f"{why}; click on it, or say that it is absent")
            )

    def _tell(self) -> None:
        """The event of a loss that is over."""
        assert self.loss is not None
        start, stop = sorted(((self.loss.first, self.loss.since), (self.loss.last, self.loss.until)))
        if self.loss.away:
            note = (
                "somebody said so"
                if self.loss.told
                else "it left over the border"
                if self.loss.border
                else "nothing like it is there"
            )
        else:
            note = "something else was followed" if self.loss.drift else "it faded"
        kind = Kind.ABSENT if self.loss.away else Kind.DRIFT
        first, last = ({"frame": frame, "time": time} for frame, time in (start, stop))
        self.events.append(self._event(kind, first, last, self.loss.best, note))

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

        out = {"border": torch.tensor([self.border])}
        if self.loss is not None:
            out["loss"] = torch.tensor([float(value) for value in astuple(self.loss)], dtype=torch.float64)
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.border = bool(state["border"])
        if "loss" in state:
            kinds = {"bool": bool, "int": int, "float": float}
            values = zip(fields(Loss), state["loss"].tolist(), strict=True)
            self.loss = Loss(*(kinds[str(field.type)](value) for field, value in values))


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
