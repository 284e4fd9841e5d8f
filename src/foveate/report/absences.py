"""When a subject was not seen, what was tried, and what came of it; and the marks of events on the strips of states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.report import figures
from foveate.schema import SEEN, State
from foveate.track.events import Event, Kind

SIGNS: Mapping[Kind, str] = {
    Kind.DRIFT: "lost",
    Kind.REPROMPT: "found",
    Kind.PROPOSAL: "found",
    Kind.RETURN: "found",
    Kind.ABSENT: "gone",
    Kind.ASK: "ask",
    Kind.CROSSING: "crossing",
    Kind.SWAP: "swap",
    Kind.DOUBT: "doubt",
    Kind.CUT: "cut",
    Kind.DROPPED: "dropped",
}
"""Sign that an event is drawn with; what was filled in backwards needs none, it shows in the strip."""

KEY = {
    "lost": "lost, or no longer believed to be the animal",
    "found": "found again, or came back",
    "gone": "left the picture",
    "ask": "a click is needed",
    "crossing": "animals touch",
    "swap": "identities exchanged back",
    "doubt": "identity in doubt",
    "cut": "cut in the film",
    "dropped": "picture shows nothing",
}
"""Signs in words, in the order of the key."""

_NEAR = 0.9  # percent of the width; equal signs nearer than this are drawn as one
_SAID = 6  # events told of in the text of one mark, or of one interval


@dataclass(frozen=True)
class Mark:
    """One sign on a strip."""

    sign: str
    percent: float
    said: str


@dataclass(frozen=True)
class Unseen:
    """A time in which a subject was not seen in one view. Times in seconds."""

    video: str
    group: str
    view: str
    subject: str
    state: str  # lost or absent
    start: float
    stop: float
    happened: str
    outcome: str

    @property
    def seconds(self) -> float:
        return self.stop - self.start


def concerning(found: Iterable[Event], view: str, subject: str) -> list[Event]:
    """The events of one subject in one view, and those of the view as a whole."""
    return [event for event in found if event.view in (view, "") and event.subject in (subject, "")]


def in_words(event: Event) -> str:
    """``0:41 found again in the whole view (after 3.5 s, 0.82)``."""
    return f"{figures.clock(event.time)} {event.words}"


def marks(found: Sequence[Event], duration: float) -> list[Mark]:
    """Signs in the order of time; equal ones that lie close together are one, so that their number is bounded."""
    out: list[Mark] = []
    if duration <= 0:
        return out
    found = sorted(found, key=lambda event: event.time)
    for sign in KEY:
        together: list[Event] = []
        for event in [*(e for e in found if SIGNS.get(e.kind) == sign), None]:
            if together and (event is None or 100 * (event.time - together[0].time) / duration > _NEAR):
                said = [in_words(one) for one in together[:_SAID]]
                said += [f"and {len(together) - _SAID} more"] if len(together) > _SAID else []
                out.append(Mark(sign, min(100.0, 100 * together[0].time / duration), "; ".join(said)))
                together = []
            if event is not None:
                together.append(event)
    return sorted(out, key=lambda mark: mark.percent)


def unseen(
    who: tuple[str, str, str, str],
    states: NDArray[np.object_],
    start: NDArray[np.float64],
    lasts: NDArray[np.float64],
    found: Sequence[Event],
) -> list[Unseen]:
    """The times in which one subject was lost or absent in one view, by time.

    Args:
        who: video, group, view, subject.
        states: of the analysed frames, in order; row ``i`` stands for ``start[i]`` to ``start[i] + lasts[i]`` seconds.
        start, lasts: float64[N].
        found: events of this subject in this view.
    """
    listed = {State.LOST.value}
    if any(state in SEEN for state in states):  # else nobody said that it should be in this view
        listed.add(State.ABSENT.value)
    out = []
    for a, b in figures.runs(states):
        if states[a] not in listed:
            continue
        begin, end = float(start[a]), float(start[b - 1] + lasts[b - 1])
        near = [e for e in found if e.time <= end and e.until_time >= begin - float(lasts[max(a - 1, 0)]) and e.kind in _TOLD]
        said = [in_words(event) for event in near[:_SAID]]
        said += [f"and {len(near) - _SAID} more"] if len(near) > _SAID else []
        following = str(states[b]) if b < len(states) else ""
        out.append(Unseen(*who, str(states[a]), begin, end, "; ".join(said), _outcome(following, near, end)))
    return out


_TOLD = frozenset(Kind) - {Kind.CROSSING, Kind.SWAP, Kind.DOUBT}


def _outcome(following: str, near: Sequence[Event], end: float) -> str:
    """What came of it, from the state of the next frame."""
    asked = ", a click is needed" if any(event.kind == Kind.ASK for event in near) else ""
    if not following:
        return f"until the end{asked}"
    if following in SEEN:
        how = {State.PROMPTED.value: "a person showed it", State.UNCERTAIN.value: "seen again, uncertain"}
        return f"{how.get(following, 'seen again')} at {figures.clock(end)}{asked}"
    return f"{following} from {figures.clock(end)}{asked}"
