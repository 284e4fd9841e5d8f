"""What happened while a subject was followed: ``tracks/<video>/events.csv``, one row per event, readable in any spreadsheet.

Rows of the track say where the subject is; events say why they are as they are: when it was lost and how it was looked for, when it was
absent, where somebody has to click. The report, ``foveate status`` and the review video read them and nothing else.
"""

from __future__ import annotations

import csv
import enum
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from foveate.store import Artefact, damaged, write_text

FILE = "events.csv"


class Kind(enum.StrEnum):
    """What happened."""

    DRIFT = "drift"  # the mask was no longer believed to be the subject; it counts as lost from here
    REPROMPT = "reprompt"  # found again by going on from the last frames that were sure
    BACKWARD = "backward"  # filled in backwards from where it was found again
    PROPOSAL = "proposal"  # found again in a search of the whole view, whose parts were ranked by likeness to its gallery
    ABSENT = "absent"  # an interval in which it is not in the picture
    RETURN = "return"  # back after an absence
    ASK = "ask"  # somebody should click in this frame
    CROSSING = "crossing"  # two subjects touched or hid each other
    SWAP = "swap"  # identities were exchanged back
    DOUBT = "doubt"  # who is who is not certain
    CUT = "cut"  # the picture changed at once: nothing is followed across
    DROPPED = "dropped"  # frames that show nothing (black, washed out, cannot be decoded)


_WORDS: Mapping[Kind, str] = {
    Kind.DRIFT: "lost",
    Kind.REPROMPT: "found again from the last sure frames",
    Kind.BACKWARD: "filled in backwards",
    Kind.PROPOSAL: "found again in the whole view",
    Kind.ABSENT: "not in the picture",
    Kind.RETURN: "came back",
    Kind.ASK: "a click is needed",
    Kind.CROSSING: "touched another",
    Kind.SWAP: "identities exchanged back",
    Kind.DOUBT: "identity in doubt",
    Kind.CUT: "cut in the film",
    Kind.DROPPED: "picture shows nothing",
}


@dataclass(frozen=True, order=True)
class Event:
    """One event. Times are seconds as in the track; frames are frame numbers of the video."""

    frame: int  # first frame
    view: str
    subject: str  # "" where it concerns the view
    kind: Kind
    time: float
    until_frame: int  # last frame; the first again where it has no duration
    until_time: float
    score: float | None = None  # 0..1, how sure, where there is such a number
    note: str = ""  # for people: which signal, which source

    @property
    def words(self) -> str:
        """``found again in the whole view (after 3.5 s, 0.82)``."""
        more = [self.note] if self.note else []
        more += [f"{self.score:.2f}"] if self.score is not None else []
        return _WORDS[self.kind] + (f" ({', '.join(more)})" if more else "")


_COLUMNS = tuple(field.name for field in fields(Event))


def write(target: Artefact, name: str, events: Iterable[Event]) -> None:
    """Write the events of one part or pass, in place of what it wrote before; ``gather`` brings all together."""
    _write(target, f"events-{name}.csv", events)


def gather(target: Artefact) -> None:
    """Put the events of all parts into ``events.csv``, sorted by frame. After a kill in the middle of it some parts may be gone already;
    their events are in the file then."""
    parts = sorted(target.folder.glob("events-*.csv"))
    if parts or not target.has(FILE):
        _write(target, FILE, read(target) + [event for path in parts for event in _read(target, path.name)])
    for path in parts:
        path.unlink()


def parts(target: Artefact) -> list[Event]:
    """What has been written so far and not gathered."""
    return [event for path in sorted(target.folder.glob("events-*.csv")) for event in _read(target, path.name)]


def sofar(target: Artefact) -> list[Event]:
    """All that has been written, gathered or not."""
    return parts(target) + (_read(target, FILE) if target.has(FILE) else [])


def read(target: Artefact) -> list[Event]:
    """Events of a finished track, by frame; none where the track was made elsewhere.

    Raises:
        FoveateError: the file is damaged.
    """
    if FILE in (target.record() or {"files": ()})["files"]:
        target.checked(FILE)
    return _read(target, FILE) if target.has(FILE) else []


def cuts(target: Artefact, view: str) -> NDArray[np.int64]:
    """Numbers of the frames with which a view's further shots begin, sorted; frame ``f`` is of shot ``searchsorted(cuts, f, "right")``."""
    found = {event.frame for event in read(target) if event.kind == Kind.CUT and event.view == view}
    return np.array(sorted(found), np.int64)


def _write(target: Artefact, name: str, events: Iterable[Event]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for event in sorted(set(events), key=lambda e: (e.frame, e.view, e.subject, e.kind, e.until_frame, e.note)):
        writer.writerow([_cell(getattr(event, name)) for name in _COLUMNS])
    write_text(target.path(name), out.getvalue())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _read(target: Artefact, name: str) -> list[Event]:
    path = target.path(name)
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        return [
            Event(
                frame=int(row["frame"]),
                view=row["view"],
                subject=row["subject"],
                kind=Kind(row["kind"]),
                time=float(row["time"]),
                until_frame=int(row["until_frame"]),
                until_time=float(row["until_time"]),
                score=float(row["score"]) if row["score"] else None,
                note=row["note"],
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        raise damaged(path) from error
