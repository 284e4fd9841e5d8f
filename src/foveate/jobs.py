"""Running one piece of work per item (mostly: per video) in worker processes.

A failure is kept apart and the rest goes on: a wrong file gives a `Failure` with its message, a worker that dies (out of memory, killed)
costs the item in hand and is replaced. Workers end by themselves when the parent is gone.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from foveate.schema import FoveateError


class Progress(Protocol):
    """Called by a stage as it goes: ``done`` of ``total`` frames (or whatever the stage counts) of the item in hand."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """A Progress that shows nothing."""


class Display(Protocol):
    """Shows how the items of one stage come along."""

    def update(self, item: str, done: int, total: int) -> None: ...
    def finished(self, item: str) -> None: ...


@dataclass(frozen=True)
class Task:
    """``module.run(project, ..., progress=...)`` for one item; names only, so that it travels to another process."""

    stage: str
    item: str  # what people call it: the video's name, or the probe's
    module: str
    arguments: dict[str, Any] = field(default_factory=dict)  # keyword arguments; "video" is given by name


@dataclass(frozen=True)
class Failure:
    """One item that did not work out."""

    stage: str
    item: str
    error: FoveateError
    details: str = ""  # traceback, shown with --debug


@dataclass(frozen=True)
class Done:
    stage: str
    item: str
    seconds: float


def perform(folder: Path, task: Task, progress: Progress) -> None:
    """Do one task in this process."""
    from foveate.project import Project

    project = Project.load(folder)
    arguments = dict(task.arguments)
    if "video" in arguments:
        arguments["video"] = project.video(arguments["video"])
    importlib.import_module(task.module).run(project, **arguments, progress=progress)


def attempt(folder: Path, task: Task, progress: Progress) -> Done | Failure:
    """Do one task and turn whatever goes wrong into a Failure."""
    start = time.monotonic()
    try:
        perform(folder, task, progress)
    except FoveateError as error:
        return Failure(task.stage, task.item, error, traceback.format_exc())
    except MemoryError:
        problem = FoveateError("out of memory", remedy="use fewer workers (--workers 1) or a smaller batch")
        return Failure(task.stage, task.item, problem, traceback.format_exc())
    except OSError as found:
        full = found.errno == 28
        problem = FoveateError(
            "the disk is full" if full else f"{type(found).__name__}: {found.strerror or found}",
            file=found.filename,
            remedy="free some space and run the same command again; it resumes"
            if full
            else "check the file and its permissions",
        )
        return Failure(task.stage, task.item, problem, traceback.format_exc())
    except Exception as found:
        problem = FoveateError(
            f"unexpected {type(found).__name__}: {found}", remedy="run again with --debug and report the traceback as a bug"
        )
        return Failure(task.stage, task.item, problem, traceback.format_exc())
    return Done(task.stage, task.item, time.monotonic() - start)


class Pool:
    """Worker processes that stay for several stages, so that each loads torch once. Use as a context manager.

    With one worker everything runs in this process.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, max(1, workers)
        self._idle: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle:
            worker.stop()
        self._idle.clear()

    def run(self, tasks: Sequence[Task], display: Display) -> Iterator[Done | Failure]:
        """Yield a result per task, in the order in which they end."""
        if self.workers == 1 or (len(tasks) == 1 and not self._idle):
            for task in tasks:
                yield attempt(self.folder, task, partial(display.update, task.item))
                display.finished(task.item)
            return
        waiting = list(reversed(tasks))
        busy: dict[Connection, tuple[_Worker, Task]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    worker = self._idle.pop() if self._idle else _Worker(self.folder, self.workers)
                    busy[worker.pipe] = worker, waiting[-1]
                    worker.pipe.send(waiting.pop())
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    worker, task = busy[pipe]
                    try:
                        message = pipe.recv()
                    except (EOFError, OSError):  # the process died
                        del busy[pipe]
                        worker.stop()
                        code = worker.process.exitcode
                        yield Failure(
                            task.stage,
                            task.item,
                            FoveateError(
                                f"the worker process died (exit code {code})",
                                remedy="most often memory ran out: try --workers 1; the same command resumes",
                            ),
                        )
                        display.finished(task.item)
                        continue
                    if isinstance(message, tuple):
                        display.update(task.item, *message)
                    else:
                        del busy[pipe]
                        self._idle.append(worker)
                        yield message
                        display.finished(task.item)
        finally:
            for worker, _ in busy.values():  # interrupted: nobody waits for these any more
                worker.stop()


class _Worker:
    def __init__(self, folder: Path, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(folder, theirs, os.getpid()), daemon=True)
        with _thread_limit(max(1, (os.cpu_count() or 1) // workers)), _nameless_main():
            self.process.start()
        theirs.close()

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(5)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """A new process runs the calling script once more, up to its ``if __name__ == "__main__"``; a script without that line would start
    everything again. Nothing of the script is needed there, so the child does not hear of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """Numeric libraries read these when they are first imported, so they must be set before the child starts."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(folder: Path, pipe: Connection, parent: int) -> None:
    """Body of a worker process."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the parent was killed: nobody reads our results, and the next run must not meet us

    threading.Thread(target=watch, daemon=True).start()
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.1 or done >= total:
            last = now
            pipe.send((done, total))

    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(attempt(folder, task, report))
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            return
