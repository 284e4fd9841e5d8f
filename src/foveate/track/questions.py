"""What a tracker could not decide by itself: frames in which somebody has to say where the subject is, or that it is not there.

A question is an event ``ask`` of a finished track. Everything else goes on without the answer; an answer is a prompt like any other, and
tracking goes on from there (``track/resume.py``).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foveate.project import Project, Video
from foveate.store import Artefact
from foveate.track import events
from foveate.track.prompts import spelled


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

    def answer(self, place: str = "X,Y") -> str:
        """The command that answers it; ``place`` is ``X,Y`` in pixels of the view, or ``absent``."""
        return f"foveate track --prompt {shlex.quote(f'{self.prompt}:{place}')}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        names = ("video", "view", "subject", "frame", "time", "until_time", "note")
        return {name: getattr(self, name) for name in names} | {"answer": self.answer(), "absent": self.answer("absent")}


def questions(project: Project, video: Video, tracks: Artefact) -> list[Question]:
    """The open questions of one video, by frame.

    Args:
        tracks: its finished track.

    Raises:
        FoveateError: the events are damaged.
    """
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
        for event in events.read(tracks)
        if event.kind == events.Kind.ASK
    ]


def answer_all(asked: Iterable[Question]) -> str:
    """One command for all of them, to be filled in."""
    arguments = " ".join("--prompt " + shlex.quote(f"{one.prompt}:X,Y") for one in asked)
    return f"foveate track {arguments}"
