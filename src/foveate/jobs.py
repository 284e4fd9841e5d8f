"""Running one piece of work per video: progress, failures kept apart, worker processes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by a stage as it goes: ``done`` of ``total`` frames (or whatever the stage counts) of the item in hand."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """A Progress that shows nothing."""
