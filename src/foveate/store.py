"""Artefacts on disk: stamped with a hash, written aside and renamed, complete only when they say so.

An artefact is a folder. While it is built, ``building.json`` names the stamp its parts belong to; the last thing written is
``stamp.json`` with the size and SHA-256 of every file. A killed run therefore leaves either finished parts that the next run
keeps, or nothing; two runs of the same inputs leave the same bytes. Times and dates are kept elsewhere (``logs/``).

A stamp is SHA-256 over the canonical JSON of: stage name, stage version (an integer), the settings that can change the result, and
the stamps of the parents. Never the package version, the device or the number of workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from foveate.schema import FoveateError

_BUILDING, _DONE = "building.json", "stamp.json"

P = ParamSpec("P")
T = TypeVar("T")
_answers: ContextVar[dict[tuple[object, ...], tuple[FoveateError | None, Any, object]] | None] = ContextVar(
    "answers", default=None
)


@contextmanager
def snapshot() -> Iterator[None]:
    """While this is open, what is ``remembered`` is worked out once: for code that asks about a whole project and changes nothing.

    Stamps are recursive (a prediction's asks for the probe's, which asks for those of all annotated videos), so without it the questions
    about N videos would cost N * N.
    """
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


@contextmanager
def changes() -> Iterator[None]:
    """For what changes the project inside a ``snapshot``: nothing is remembered while this is open, and all is asked anew afterwards."""
    answers, token = _answers.get(), _answers.set(None)
    try:
        yield
    finally:
        _answers.reset(token)
        if answers is not None:
            answers.clear()


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Inside a ``snapshot``, the same arguments get the same answer, or the same FoveateError. Arguments are told apart by identity,
    texts and paths by value."""

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        answers = _answers.get()
        if answers is None:
            return function(*args, **kwargs)
        given = (*args, *(part for item in sorted(kwargs.items()) for part in item))
        key = (function, *(value if isinstance(value, str | Path) else id(value) for value in given))
        if key not in answers:
            # The arguments are held as well, so that no identity is used twice.
            try:
                answers[key] = None, function(*args, **kwargs), given
            except FoveateError as found:
                answers[key] = found, None, given
        error, answer, _ = answers[key]
        if error is not None:
            raise error
        found_before: T = answer
        return found_before

    return ask


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stamp_of(stage: str, version: int, settings: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """The stamp (64 hex digits) of the artefact that ``stage`` makes from these parents with these settings."""
    text = canonical_json({"stage": stage, "version": version, "settings": settings, "parents": parents})
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, because encoders choose the container by it.
    aside = path.with_name(f".{path.stem}.{os.getpid()}.aside{path.suffix}")
    try:
        yield aside
        with open(aside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise FoveateError(
                "the disk is full", file=path, remedy="free some space and run the same command again; it resumes"
            ) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text aside, then rename."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file aside, then rename. Same table, same bytes."""
    with write_aside(path) as aside:
        pq.write_table(table, aside, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; a damaged one is a FoveateError that names it."""
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError as error:
        raise FoveateError("missing", file=path, remedy="run `foveate run` to make it") from error
    except (pa.ArrowException, OSError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> FoveateError:
    return FoveateError(
        "this file is damaged", file=path, remedy=f"delete the folder {path.parent} and run `foveate run`; it is made again"
    )


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """What identifies a video without reading all of it: size, SHA-256 of first and last MiB. The modification time is not in it: footage
    that moves to another disk, or is copied with its project, is the same footage."""
    try:
        found = path.stat()
        return _fingerprint(str(path), found.st_size, found.st_mtime_ns)
    except FileNotFoundError as error:
        raise FoveateError("no such file", file=path, remedy="correct the path in videos.csv, or remove the row") from error
    except OSError as error:
        raise FoveateError(f"cannot be read ({error.strerror})", file=path, remedy="check the permissions") from error


@lru_cache(maxsize=100_000)
def _fingerprint(path: str, size: int, mtime_ns: int) -> str:  # the time only tells the cache that the file is another one
    digest = hashlib.sha256(f"{size}:".encode())
    with open(path, "rb") as handle:
        digest.update(handle.read(1 << 20))
        handle.seek(max(0, size - (1 << 20)))
        digest.update(handle.read(1 << 20))
    return digest.hexdigest()


@dataclass(frozen=True)
class Artefact:
    """A folder that is complete exactly when its ``stamp.json`` carries ``stamp`` and every file listed there is in place.

    ``begin`` keeps the parts of an interrupted run with the same stamp and clears anything else; ``has`` says whether a part is
    already there; ``finish`` seals the folder. Files are named relative to the folder, with ``/``.
    """

    folder: Path
    stage: str
    version: int
    settings: Mapping[str, Any]
    parents: Mapping[str, str]
    stamp: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp", stamp_of(self.stage, self.version, self.settings, self.parents))

    def path(self, name: str) -> Path:
        return self.folder / name

    def record(self) -> dict[str, Any] | None:
        """The content of ``stamp.json``, or None when there is none that can be read."""
        return _read_record(self.folder / _DONE)

    def complete(self) -> bool:
        """Stamp equal, and every file there with its size (contents are checked where they are read: ``checked``)."""
        return _complete(self.folder, self.stamp)

    def begin(self) -> None:
        """Open for writing: parts of the same stamp stay, everything else in the folder goes."""
        if not self.begun():
            self.discard()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.mark()
        (self.folder / _DONE).unlink(missing_ok=True)
        for aside in [*self.folder.rglob(".*.aside*")]:  # left by a killed process
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink(missing_ok=True)

    def begun(self) -> bool:
        """Whether parts of this very artefact lie there unfinished."""
        return (_read_record(self.folder / _BUILDING) or {}).get("stamp") == self.stamp

    def mark(self) -> None:
        """Say that the parts in the folder are of this very artefact: after this, ``begin`` keeps them."""
        write_json(self.folder / _BUILDING, self._identity())

    def earlier(self) -> dict[str, Any] | None:
        """What lies in the folder instead, finished or not: its stage, version, stamp, settings and parents; None where that is not
        known, or where the parts are of this artefact."""
        found = _read_record(self.folder / _BUILDING) or self.record()
        other = found is not None and found.get("stamp") != self.stamp
        return found if other and self._identity().keys() <= (found or {}).keys() else None

    def unharmed(self, name: str) -> bool:
        """Whether a file is there and, if it was sealed, what it was then, whatever the stamp."""
        sealed = (self.record() or {"files": {}})["files"].get(name)
        return self.has(name) and (sealed is None or sealed[1] == file_sha256(self.path(name)))

    def _identity(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "stamp": self.stamp,
            "settings": self.settings,
            "parents": self.parents,
        }

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def finish(self, facts: Mapping[str, Any] | None = None) -> None:
        """Seal: list every file with size and SHA-256. ``facts`` are small results worth reading without opening a table."""
        files = {
            path.relative_to(self.folder).as_posix(): (path.stat().st_size, file_sha256(path))
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in (_BUILDING, _DONE)
        }
        write_json(
            self.folder / _DONE,
            {**self._identity(), "files": files, "facts": facts or {}},
        )
        (self.folder / _BUILDING).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder; the seal goes first, so that a kill in between leaves nothing that looks complete."""
        for name in (_DONE, _BUILDING):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        record = self.record()
        return record["facts"] if record else {}

    def files(self, suffix: str = "") -> list[str]:
        """Names of the sealed files that end in ``suffix``, sorted."""
        record = self.record()
        if record is None:
            raise FoveateError(f"{self.stage} is not finished here", file=self.folder, remedy="run `foveate run`")
        return sorted(name for name in record["files"] if name.endswith(suffix))

    def checked(self, name: str) -> Path:
        """The path of a sealed file after comparing its SHA-256, once per process: use it before reading an input."""
        record = self.record()
        if record is None or name not in record["files"]:
            raise FoveateError("missing", file=self.folder / name, remedy="run `foveate run` to make it")
        path = self.folder / name
        found = _size(path)
        if found is None or _sha256_once(str(path), found, path.stat().st_mtime_ns) != record["files"][name][1]:
            raise damaged(path)
        return path

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A sealed Parquet file, verified."""
        return read_parquet(self.checked(name), columns)


@remembered
def _complete(folder: Path, stamp: str) -> bool:
    record = _read_record(folder / _DONE)
    return (
        record is not None
        and record.get("stamp") == stamp
        and all(_size(folder / name) == size for name, (size, _) in record["files"].items())
    )


@remembered
def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@lru_cache(maxsize=100_000)
def _sha256_once(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(Path(path))
