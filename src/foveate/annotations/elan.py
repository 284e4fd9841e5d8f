"""Reading ``.eaf`` files of ELAN.

An annotation lies on a tier, between two time slots in milliseconds of the media. Its subject is the tier's participant, else the tier
itself if that is named as a subject of the video; its behaviour is its value, or the tier's name where the value is empty or no listed
behaviour but the tier is. Tiers whose annotations refer to others (glosses, translations) have no times of their own and are not read.
Every subject met counts as observed through the whole video.

The XML is read by expat alone, and a document type declaration is refused: without one there are no entities that could grow or reach out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote
from xml.parsers import expat

from foveate.annotations.source import Given, Source, media_video
from foveate.annotations.tables import Doubt, Entry, Reading, Span, Videos
from foveate.project import Video
from foveate.schema import FoveateError


@dataclass(frozen=True)
class _Tier:
    name: str
    participant: str
    annotator: str


@dataclass(frozen=True)
class _Annotation:
    row: int  # line of the file
    tier: _Tier
    start: str  # names of time slots
    stop: str
    value: str


@dataclass
class _Document:
    media: list[tuple[str, int]] = field(default_factory=list)  # path, milliseconds of the media at time 0 of the annotations
    slots: dict[str, int | None] = field(default_factory=dict)
    annotations: list[_Annotation] = field(default_factory=list)
    dependent: dict[str, int] = field(default_factory=dict)  # tier -> its first line


def is_elan(source: Source) -> bool:
    return "<ANNOTATION_DOCUMENT" in source.head[:20_000]


def read_elan(source: Source, given: Given) -> Reading:
    """All annotations with times, in the first of the file's media that is a video of the project."""
    found = _parse(source.path, source.content)
    video = _video(found, source.path, given.videos)
    ahead = next((origin for path, origin in found.media if given.videos.of_media(path) == video), 0) / 1000
    out = Reading()
    seen = set[str]()
    for annotation in found.annotations:
        tier = annotation.tier
        own = tier.name.casefold() in {name.casefold() for name in video.subjects}
        subject = tier.participant or (tier.name if own else "")
        behaviour = annotation.value or tier.name
        if given.behaviours and behaviour not in given.behaviours and tier.name in given.behaviours:
            behaviour = tier.name
        if subject not in seen:
            seen.add(subject)
            out.spans.append(Span(annotation.row, video, subject, annotator=tier.annotator))
        start, stop = found.slots.get(annotation.start), found.slots.get(annotation.stop)
        if start is None or stop is None:
            problem = f"an annotation {behaviour!r} of tier {tier.name!r} has no time"
            out.problems.append(source.refuse(problem, annotation.row, "align it to the media in ELAN, or remove it"))
            out.doubts.append(Doubt(video, subject, behaviour))
            continue
        a, b = start / 1000 + ahead, stop / 1000 + ahead
        kind = "point" if a == b else "state"
        out.entries.append(Entry(annotation.row, video, subject, behaviour, a, b, kind, tier.annotator))  # type: ignore[arg-type]
    for name, row in found.dependent.items():
        note = f"tier {name!r} depends on another tier and is not read"
        out.notes.append(source.refuse(note, row, "nothing to do, unless it holds behaviours: then make it a tier of its own"))
    return out


def elan_videos(source: Source, videos: Videos) -> set[str]:
    return {_video(_parse(source.path, source.content), source.path, videos).name}


def _video(found: _Document, path: Path, videos: Videos) -> Video:
    return media_video([media for media, _ in found.media], path, videos)


@lru_cache(maxsize=16)
def _parse(path: Path, content: bytes) -> _Document:
    """What the file says.

    Raises:
        FoveateError: it is not XML, has a document type, or ends too early.
    """
    out, tier, text = _Document(), _Tier("", "", ""), list[str]()
    open_one: list[_Annotation] = []
    parser = expat.ParserCreate()

    def start(name: str, has: dict[str, str]) -> None:
        nonlocal tier
        if name == "MEDIA_DESCRIPTOR":
            origin = _milliseconds(has.get("TIME_ORIGIN", "")) or 0
            urls = [has[key] for key in ("MEDIA_URL", "RELATIVE_MEDIA_URL") if has.get(key)]
            out.media.extend((path, origin) for url in urls for path in dict.fromkeys((url, unquote(url))))
        elif name == "TIME_SLOT":
            out.slots[has.get("TIME_SLOT_ID", "")] = _milliseconds(has.get("TIME_VALUE", ""))
        elif name == "TIER":
            tier = _Tier(has.get("TIER_ID", "").strip(), has.get("PARTICIPANT", "").strip(), has.get("ANNOTATOR", "").strip())
        elif name == "ALIGNABLE_ANNOTATION":
            slots = has.get("TIME_SLOT_REF1", ""), has.get("TIME_SLOT_REF2", "")
            open_one.append(_Annotation(parser.CurrentLineNumber, tier, *slots, value=""))
        elif name == "REF_ANNOTATION":
            out.dependent.setdefault(tier.name, parser.CurrentLineNumber)
        elif name == "ANNOTATION_VALUE":
            text.clear()

    def end(name: str) -> None:
        if name == "ALIGNABLE_ANNOTATION" and open_one:
            one = open_one.pop()
            out.annotations.append(_Annotation(one.row, one.tier, one.start, one.stop, "".join(text).strip()))
            text.clear()

    def refuse(*_: object) -> None:
        raise FoveateError(
            "the file declares a document type, which ELAN never does",
            file=path,
            row=parser.CurrentLineNumber,
            remedy="open it in ELAN and save it again, or remove it",
        )

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text.append
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    with _plain(path):
        parser.Parse(content, True)
    return out


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[None]:
    try:
        yield
    except expat.ExpatError as error:
        raise FoveateError(
            f"damaged XML ({expat.ErrorString(error.code)})", file=path, row=error.lineno, remedy="copy or export it again"
        ) from None
    except (ValueError, LookupError) as error:  # an encoding that nobody knows
        raise FoveateError(f"damaged XML ({error})", file=path, row=1, remedy="copy or export it again") from None


def _milliseconds(text: str) -> int | None:
    try:
        value = int(text[:20])
    except ValueError:
        return None
    return value if abs(value) < 10**12 else None
