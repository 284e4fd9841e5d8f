"""One annotation file on its way to a reader: its bytes, what can be told from their beginning, and what a reader may ask."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.annotations.tables import Entry, Reading, Span, Videos, file_name, read_bytes
from foveate.project import VIDEOS, Video
from foveate.schema import FoveateError

LIMIT = 256 * 2**20
"""Bytes that a compressed file may unpack to: the largest real projects have a few MiB, a bomb has more."""
_HEAD = 2**20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Given:
    """What readers may ask: the listed behaviours (none: whatever is met), the videos, seconds of a video, and when its frames start."""

    behaviours: tuple[str, ...]
    videos: Videos
    duration: Callable[[Video], float]
    times: Callable[[Video], NDArray[np.float64]]


@dataclass(frozen=True)
class Source:
    """A file and its bytes, unpacked."""

    path: Path
    content: bytes

    @cached_property
    def head(self) -> str:
        """The beginning as text, whatever the bytes are."""
        return self.content[:_HEAD].decode("utf-8-sig", "replace")

    @cached_property
    def header(self) -> tuple[str, ...]:
        """Cells of the first line that is neither empty nor a ``#`` comment, as written, under the separator that gives most."""
        line = next((line for line in self.head.splitlines() if line.strip(" ,;\t") and not line.startswith("#")), "")
        try:
            found = max((next(csv.reader([line], delimiter=separator), []) for separator in ",\t;"), key=len)
        except csv.Error:
            return ()
        return tuple(cell.strip() for cell in found)

    def text(self) -> str:
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise FoveateError("not UTF-8 text", file=self.path, remedy="save it as UTF-8") from None

    def json(self) -> Any:
        return _json(self.path, self.content)

    def refuse(self, problem: str, row: int | None = None, remedy: str = "export it again, or correct it") -> FoveateError:
        return FoveateError(problem, file=self.path, row=row, remedy=remedy)


def open_source(path: Path) -> Source:
    """Read a file; what gzip packed is unpacked, up to ``LIMIT`` bytes.

    Raises:
        FoveateError: it cannot be read, is damaged, or unpacks to more than that.
    """
    content = read_bytes(path)
    return Source(path, _unpacked(path, content) if content[:2] == _GZIP else content)


@lru_cache(maxsize=2)
def _unpacked(path: Path, content: bytes) -> bytes:
    out, rest, members = b"", content, 0
    try:
        while rest[:2] == _GZIP and (members := members + 1) <= 100:  # a file may hold several, but millions only to waste time
            packed = zlib.decompressobj(wbits=31)
            out += packed.decompress(rest, LIMIT + 1 - len(out))
            if len(out) > LIMIT:
                raise FoveateError(
                    f"unpacks to more than {LIMIT >> 20} MiB", file=path, remedy="this is no annotation file; remove it"
                )
            if not packed.eof:
                raise zlib.error("it ends too early")
            rest = packed.unused_data
    except zlib.error as error:
        raise FoveateError(f"damaged gzip file ({error})", file=path, remedy="copy or export it again") from None
    return out


@lru_cache(maxsize=8)  # asked by the sniffers, the reader and for every stamp
def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        row = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise FoveateError(f"not JSON ({reason})", file=path, row=row, remedy="copy or export it again") from None


def maybe_json(source: Source) -> Any:
    """The JSON object that a file holds; None when it is none."""
    if not source.head.lstrip().startswith("{"):
        return None
    try:
        found = source.json()
    except FoveateError:
        return None
    return found if isinstance(found, dict) else None


_ENDINGS = re.compile(r"(\.pred|[_.-]labels?|[_.-]annotations?|[_.-]manual_scoring|[_.-]events?|[_.-]targets?)$", re.IGNORECASE)
_BEGINNINGS = re.compile(r"^(annotations?|manual_scoring)[_.-]", re.IGNORECASE)


def names_of(path: Path) -> Iterator[str]:
    """Names that the video of an annotation file may have, by the file's own name: ``pen1_labels.csv`` is about ``pen1``."""
    name = path.name
    for ending in (".gz", path.suffix if path.suffix != ".gz" else Path(path.stem).suffix):
        name = name[: -len(ending)] if ending and name.lower().endswith(ending.lower()) else name
    yield name
    if (short := _ENDINGS.sub("", name)) != name:
        yield short
    if (short := _BEGINNINGS.sub("", name)) != name:
        yield short


def video_of_file(path: Path, videos: Videos) -> Video | None:
    """The video that a file without a word about its video means."""
    return next(
        (video for name in names_of(path) if (video := videos.find(name) or videos.of_media(name + ".")) is not None), None
    )


def need_video_of_file(path: Path, videos: Videos) -> Video:
    """The same, or the complaint that there is none."""
    video = video_of_file(path, videos)
    if video is None:
        error = videos.unknown(path.name, f"the video that {path.name!r} is named after", path, 1)
        near = error.remedy.split("? ")[0] + "? " if error.remedy and "did you mean" in error.remedy else ""
        raise FoveateError(
            error.problem, file=path, remedy=f"{near}name the file as its video in {VIDEOS}: <video>{path.suffix}"
        )
    return video


def media_video(media: Sequence[str], path: Path, videos: Videos) -> Video:
    """The video of the first media file that is part of the project; of the annotation file's own name if none is."""
    for text in media:
        if (video := videos.of_media(text)) is not None:
            return video
    video = video_of_file(path, videos)
    if video is not None:
        return video
    named = [text for text in media if text.strip()]
    raise videos.unknown(named[0], f"the media file {file_name(named[0])!r}", path, 1) if named else _nameless(path, videos)


def _nameless(path: Path, videos: Videos) -> FoveateError:
    try:
        need_video_of_file(path, videos)
    except FoveateError as error:
        return error
    raise AssertionError("the video of the file was looked for before")


FRAMES_OFF = 2
"""Frames by which a label table may be longer or shorter than its video: decoders differ in what they make of the last ones."""


def check_frames(found: int, video: Video, given: Given, source: Source) -> NDArray[np.float64]:
    """Edges of the frames of ``video``, [N + 1] in seconds: starts by its own timeline, then its end.

    Raises:
        FoveateError: the file has labels for another number of frames.
    """
    edges = np.append(given.times(video), given.duration(video))
    if abs(found - (len(edges) - 1)) > FRAMES_OFF:
        raise FoveateError(
            f"labels of {found} frames, but video {video.name!r} presents {len(edges) - 1}",
            file=source.path,
            remedy="use the footage that was labelled: a cut or re-encoded copy has other frames",
        )
    return edges


def from_dense(
    labels: NDArray[np.int8],
    edges: NDArray[np.float64],
    behaviour: str,
    video: Video,
    subject: str,
    first_row: int,
    out: Reading,
    annotator: str = "",
) -> None:
    """Add the runs of ``labels`` (1 present, 0 absent, -1 not observed) to ``out``; label k holds from ``edges[k]`` to ``edges[k + 1]``."""
    n = min(len(labels), len(edges) - 1)
    labels = labels[:n]
    for value, mask in ((1, labels == 1), (0, labels != -1)):
        border = np.flatnonzero(np.diff(mask, prepend=False, append=False))
        for a, b in zip(border[::2].tolist(), border[1::2].tolist(), strict=True):
            start, stop = float(edges[a]), float(edges[b])
            if value:
                if start < stop:
                    out.entries.append(Entry(first_row + a, video, subject, behaviour, start, stop, annotator=annotator))
            else:
                out.spans.append(Span(first_row + a, video, subject, start, stop, annotator, behaviour))
