"""What a tracker could not decide by itself: frames in which somebody has to say where the subject is, or that it is not there.

A question is an event ``ask`` of a finished track, or a ``doubt`` who is who, which a click on any of those in doubt settles. Everything
else goes on without the answer; an answer is a prompt like any other, and tracking goes on from there (``track/resume.py``).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import timeline
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.store import Artefact
from foveate.track import events
from foveate.track.events import Event
from foveate.track.prompts import ABSENT, spelled

COLUMNS = ("video", "view", "subject", "frame", "time", "until_time", "note", "answer", "absent")
"""Of a question in a table."""


@dataclass(frozen=True)
class Question:
    """Where is ``subject`` in ``frame`` of ``video``? Times in seconds."""

    video: str
    view: str
    subject: str
    frame: int  # of the video: the one to click in
    time: float
    until_time: float  # it is not known where the subject is from ``time`` to here
    note: str
    prompt: str  # argument of --prompt, but for the place: ``sheep 1:top:1200``

    @property
    def file(self) -> str:
        """Name of its picture."""
        return f"{'-'.join((self.video, self.view, self.subject, str(self.frame)))}.png"

    def answer(self, place: str = "X,Y", folder: str = "") -> str:
        """The command that answers it.

        Args:
            place: ``X,Y`` in pixels of the view, or ``absent``.
            folder: of the project, where it is not the working directory.
        """
        where = f" -p {shlex.quote(folder)}" if folder else ""
        return f"foveate track{where} --prompt {shlex.quote(f'{self.prompt}:{place}')}"

    def plain(self, folder: str = "") -> dict[str, Any]:
        """For JSON and CSV; ``folder`` as in ``answer``."""
        answers = {"answer": self.answer(folder=folder), "absent": self.answer(ABSENT, folder)}
        return {name: answers[name] if name in answers else getattr(self, name) for name in COLUMNS}


def questions(project: Project, video: Video, tracks: Artefact) -> list[Question]:
    """The open questions of one video, by frame.

    Args:
        tracks: its finished track.

    Raises:
        FoveateError: the events are damaged.
    """
    found = events.read(tracks)
    asked = [event for event in found if event.kind == events.Kind.ASK]
    doubts: dict[tuple[str, int, int], list[Event]] = {}
    for event in found:
        if event.kind == events.Kind.DOUBT:
            doubts.setdefault((event.view, event.frame, event.until_frame), []).append(event)
    if doubts:
        time = timeline.load(project, video).time
        asked += [_who(own, found, time) for own in doubts.values()]
    return [
        Question(
            video=video.name,
            view=event.view,
            subject=event.subject,
            frame=event.frame,
            time=event.time,
            until_time=event.until_time,
            note=event.note,
            prompt=spelled(project, video, event.view, event.subject, event.frame),
        )
        for event in sorted(asked, key=lambda event: (event.frame, event.view, event.subject))
    ]


def _who(doubts: Sequence[Event], found: Iterable[Event], time: NDArray[np.float64]) -> Event:
    """Of subjects that are in doubt for the same frames the question for one of them: in the middle of the longest time in which none of
    them touches another."""
    first, last, names = doubts[0].frame, doubts[0].until_frame, sorted({event.subject for event in doubts})
    met = sorted(
        (event.frame, event.until_frame)
        for event in found
        if event.kind == events.Kind.CROSSING and event.view == doubts[0].view and event.subject in names
    )
    free, begin = [], first
    for start, stop in [*met, (last + 1, last + 1)]:
        free.append((begin, min(start - 1, last)))
        begin = max(begin, stop + 1)
    start, stop = max(free, key=lambda span: span[1] - span[0])
    frame = (start + stop) // 2 if start <= stop else (first + last) // 2
    who = f" ({', '.join(names)})" if len(names) > 1 else ""
    note = f"{doubts[0].note}{who}; click on {names[0]}"
    seconds = float(time[frame])
    return replace(
        doubts[0], subject=names[0], frame=frame, time=seconds, until_time=max(seconds, doubts[0].until_time), note=note
    )


def open_questions(project: Project, videos: Iterable[Video]) -> list[Question]:
    """Those of all videos whose tracks are finished; a track that cannot be read has none (``foveate report`` names it)."""
    from foveate import track

    found = []
    for video in videos:
        with suppress(FoveateError):
            artefact = track.artefact(project, video)
            found += questions(project, video, artefact) if artefact.complete() else []
    return found
