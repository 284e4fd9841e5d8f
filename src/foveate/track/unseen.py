"""What it means that a tracker does not see its subject: absent where it was last seen at the border or somebody said so, else lost.

For trackers whose model says itself whether the subject is there (SAM 2). Every absence, and every frame in which only a person can help,
becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.schema import SEEN, State
from foveate.track.events import Event, Kind

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.track.scene import Row, Scene

ASK = 5.0  # seconds that a subject may be lost in the middle of the picture before somebody is asked


@dataclass(eq=False)
class Watch:
    """One subject in one view, frame by frame, forward or backward in time."""

    scene: Scene
    view: str
    subject: str
    started: bool = False  # it has been prompted
    away: bool = False  # it was at the border when it was last seen, or somebody said that it is not there
    since: int = -1  # first of the frames in which it has not been seen; -1: it is seen
    until: int = -1  # last of them so far
    unclear: str = ""  # why somebody has to be asked

    def judge(self, row: Row, prompted: bool = False) -> Iterator[Event]:
        """Set the row's state where nothing is seen, and say what that means. Rows come in the order in which they were tracked."""
        frame, view = row["frame"], self.scene.views[self.view]
        self.started |= prompted
        if row["state"] in SEEN:
            if self.since >= 0 and self.away and frame > self.since:
                yield self._event(Kind.RETURN, frame, frame)
            yield from self.end()
            x, y, w, h = (row[name] for name in "xywh")
            self.away = x == 0 or y == 0 or x + w == view.w or y + h == view.h
            return
        if not self.started:
            return
        if (
            row["state"] == State.ABSENT and not self.away
        ):  # a person said so, of this frame on: what was lost before stays lost
            yield from self.end()
            self.away = True
        row["state"] = (State.ABSENT if self.away else State.LOST).value
        self.since, self.until = frame if self.since < 0 else self.since, frame
        if prompted:
            self.unclear = "nothing is found where it was prompted"
        elif not self.away and abs(self._time(frame) - self._time(self.since)) >= ASK:
            self.unclear = self.unclear or "lost away from the border"

    def end(self) -> Iterator[Event]:
        """The interval without the subject is over: it is back, or the video ends."""
        if self.since >= 0 and self.away:
            yield self._event(Kind.ABSENT, self.since, self.until)
        elif self.since >= 0 and self.unclear:
            yield self._event(Kind.ASK, self.since, self.until, self.unclear)
        self.since, self.until, self.unclear = -1, -1, ""

    def state(self) -> Tensor:
        import torch

        numbers = [self.started, self.away, self.since, self.until, *self.unclear.encode()]
        return torch.tensor(numbers, dtype=torch.int64)

    def restore(self, state: Tensor) -> None:
        started, away, self.since, self.until, *text = state.tolist()
        self.started, self.away, self.unclear = bool(started), bool(away), bytes(text).decode()

    def _time(self, frame: int) -> float:
        return float(self.scene.clock.time[frame])

    def _event(self, kind: Kind, one: int, other: int, note: str = "") -> Event:
        frame, until = min(one, other), max(one, other)
        return Event(frame, self.view, self.subject, kind, self._time(frame), until, self._time(until), note=note)
