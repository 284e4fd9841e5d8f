"""What the command line shows: progress with rate and time left, tables, problems."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from foveate.jobs import Failure
from foveate.run import PER_VIDEO, Outcome, StageDisplay, Status
from foveate.schema import FoveateError
from foveate.track.prompts import ABSENT
from foveate.track.questions import Question

if TYPE_CHECKING:
    from foveate.train.speed import Line


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Called where the error is caught; ``main`` ends quietly for every kind of output."""
        raise


out = _Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = _Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())

_DOING = {
    "timeline": "reading timelines",
    "labels": "reading annotations",
    "track": "tracking",
    "review": "drawing reviews",
    "crop": "cropping",
    "clips": "storing whole views",
    "embed": "embedding",
    "probe": "training probes",
    "curve": "drawing the learning curve",
    "windows": "trying windows",
    "checkpoints": "probing checkpoints",
    "predict": "predicting",
    "compare": "comparing groups",
    "attend": "looking where it looks",
    "report": "writing the report",
    "simulate": "rendering pasture",
    "inspect": "looking at footage",
}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        frames, elapsed = task.fields["frames"], task.elapsed or 0.0
        return Text(f"{frames / elapsed:,.0f} frames/s" if frames and elapsed > 0.5 else "", style="cyan")


class _Bars:
    """One bar per stage. The total number of frames is not known before the last item starts, so the bar counts items and their shares."""

    def __init__(self, progress: Progress | None, stage: str, items: int) -> None:
        self._progress, self._stage, self._items = progress, stage, items
        self._share: dict[str, float] = {}
        self._frames: dict[str, int] = {}
        self.failures = 0
        self._start = self._said = time.monotonic()
        self._bar = progress.add_task(_DOING.get(stage, stage), total=items, frames=0) if progress else None

    def update(self, item: str, done: int, total: int) -> None:
        self._share[item] = done / total if total else 0.0
        self._frames[item] = done
        self._show()

    def finished(self, item: str) -> None:
        self._share[item] = 1.0
        self._show()

    def failed(self, item: str) -> None:
        self.failures += 1

    def _show(self) -> None:
        done, frames = sum(self._share.values()), sum(self._frames.values())
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=done, frames=frames)
        elif time.monotonic() - self._said > 30:  # no terminal: a line now and then
            self._said = now = time.monotonic()
            left = (now - self._start) * (self._items / done - 1) if done else 0.0
            rate = frames / (now - self._start)
            speed = f", {rate:,.0f} frames/s" if rate >= 1 else ""  # not every stage counts frames
            err.print(f"  {_DOING.get(self._stage, self._stage)}: {done:.1f} of {self._items}{speed}, {left:.0f} s left")


@contextmanager
def show(stage: str, items: int) -> Iterator[StageDisplay]:
    """A bar on a terminal; elsewhere a line at the end and one every 30 seconds. Goes to stderr."""
    start = time.monotonic()
    if err.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.1f}/{task.total:.0f}"),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            bars = _Bars(progress, stage, items)
            yield bars
    else:
        bars = _Bars(None, stage, items)
        yield bars
    worked = items - bars.failures
    mark = "[green]✓[/]" if worked == items else "[bold yellow]![/]" if worked else "[bold red]✗[/]"
    count = f"{items}" if worked == items else f"{worked} of {items}"
    noun = "item" if items == 1 else "items"
    err.print(f"{mark} {_DOING.get(stage, stage):<20} {count} {noun} in {time.monotonic() - start:.1f} s")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table to stdout."""
    grid = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        number = all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        grid.add_column(name, justify="right" if number and rows else "left")
    for row in rows:
        grid.add_row(*("–" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else Text(str(cell)) for cell in row))
    out.print(grid)


def problem(error: BaseException) -> None:
    """Print one problem to stderr: what, where, remedy."""
    first, _, rest = str(error).partition("\n")
    err.print(Text("✗ ", style="bold red") + Text(first) + Text(("\n" + rest) if rest else "", style="yellow"))


_SAID = 5.0  # seconds from one line of a training run to the next
_last_line = -math.inf


def line(said: Line) -> None:
    """Print a line of a training run to stderr, not more often than every few seconds, and its last one."""
    global _last_line
    now = time.monotonic()
    if now - _last_line >= _SAID or said.step == said.steps:
        _last_line = now
        err.print(str(said), markup=False)


def outcome(result: Outcome, debug: bool) -> None:
    """Print what went wrong and what was left out."""
    problems(result.failures, debug)
    for note in result.notes:
        err.print(Text("· " + note, style="dim"))
    if result.failures:
        count = len(unique(result.failures))
        err.print(f"{count} problem{'s' if count > 1 else ''}; everything else is done. The same command goes on from here.")


def problems(failures: Sequence[Failure], debug: bool = False, most: int | None = None) -> None:
    """Print every message once to stderr, with the stage where it came up first and the item, or the number of items.

    Args:
        most: messages to print; of the others only the number is told.
    """
    items: dict[tuple[str, str], dict[str, None]] = {}
    for failure in failures:
        items.setdefault((str(failure.error), failure.stage), {})[failure.item] = None
    distinct = unique(failures)
    for failure in distinct[:most]:
        count = len(items[str(failure.error), failure.stage])
        who = failure.item if count == 1 else f"{count} {'videos' if failure.stage in PER_VIDEO else 'items'}"
        err.print(Text(f"{failure.stage} · {who}", style="bold"))
        problem(failure.error)
        if debug and failure.details:
            err.print(Text(failure.details))
    if most is not None and len(distinct) > most:
        err.print(f"and {len(distinct) - most} more problems; --json lists them all")


def unique(failures: Sequence[Failure]) -> list[Failure]:
    """The failures without repetitions of the same message."""
    seen: dict[str, Failure] = {}
    for failure in failures:
        seen.setdefault(str(failure.error), failure)
    return list(seen.values())


def status(found: Status, chosen: Collection[str]) -> None:
    """Print how far the chosen videos are, and the stages that are made once."""
    columns = list(dict.fromkeys(stage for stages in found.videos.values() for stage in stages))
    shown = [[name, *(stages.get(c, "") for c in columns)] for name, stages in found.videos.items() if name in chosen]
    table(["video", *columns], shown)
    notes = [_whole_note(stage, found.of_whole(stage)) for stage in found.whole]
    table(["", "state", ""], [[*item, note] for item, note in zip(found.whole.items(), notes, strict=True)])


def questions(asked: Sequence[Question], pictures: Mapping[Question, str], folder: str = "", most: int = 20) -> None:
    """Print where a click is needed, and the command that answers.

    Args:
        pictures: files of the frames, as far as they were written.
        folder: of the project, where commands have to name it.
        most: questions to print.
    """
    if not asked:
        return
    err.print(Text(f"{len(asked)} frame{'s need' if len(asked) > 1 else ' needs'} a click", style="bold"))
    for one in asked[:most]:
        where = " · ".join(dict.fromkeys((one.video, *((one.view,) if one.view != "full" else ()), one.subject)))
        minutes, seconds = divmod(one.time, 60)
        note = f": {one.note}" if one.note else ""
        err.print(Text(f"? {where}, {int(minutes)}:{seconds:04.1f} (frame {one.frame}){note}"))
        if one in pictures:
            err.print(Text(f"  {pictures[one]}", style="dim"))
        out.print(Text(one.answer(folder=folder)))
    more = f"and {len(asked) - most} more, see --json; " if len(asked) > most else ""
    written = "" if pictures else "; `foveate status --pictures` writes the frames to review/"
    err.print(Text(f"  {more}replace X,Y by the place, or by {ABSENT} if it is not there{written}", style="yellow"))


def _whole_note(stage: str, errors: Sequence[FoveateError]) -> str:
    if stage == "labels" and any(error.row is not None for error in errors):
        rows = sum(error.row is not None for error in errors)
        return f"{rows} row{'s' if rows > 1 else ''} rejected"
    return "; ".join(dict.fromkeys(error.problem for error in errors))


def reader_left() -> bool:
    """Whether nobody reads stdout or stderr any more, as after ``foveate status | head``; nothing more is written there then."""
    import os
    import select

    left = False
    for stream in (sys.stdout, sys.stderr):
        try:
            poll = select.poll()
            poll.register(stream.fileno(), 0)  # errors are reported without being asked for
            if poll.poll(0):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                left = True
        except (AttributeError, OSError, ValueError):  # no poll on Windows; no file behind the stream
            continue
    return left
