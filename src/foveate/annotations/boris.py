"""Reading exports of BORIS (Behavioral Observation Research Interactive Software).

Read are the current tabular events (8.13 and later: one row per START, STOP or POINT) and the aggregated events (one row per bout),
with every header they had since, and the older aggregated ones. Columns are found by name, never by position. Older tabular events
(``boris_legacy``) and project files (``boris_project``) are brought into the form of the current ones and read here, too.

Clock: BORIS writes seconds since the start of the first media file of an observation, *plus* its time offset (BORIS,
``write_event.py``); files of one player follow each other. So a time in a video is the written time, minus the offset, minus the summed
durations of the earlier files, which is foveate's time: (pts - first pts) x time base. Several players show the same moments; the
labels go to the videos of the first player that is part of the project; the offset between players is in project files only.

Observed: BORIS writes how long was coded. With the time interval "Media file(s) duration" that is all media; otherwise, BORIS's
default included, it is the time from the first to the last event (``coding_time`` in ``observation_operations.py``), and outside it
nothing counts as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from foveate.annotations.tables import Covariate, Doubt, Entry, Kind, Reading, Span, Table, Videos, seconds
from foveate.project import Video
from foveate.schema import FoveateError

TABULAR = frozenset({"behavior", "behavior type", "time"})
AGGREGATED = frozenset({"behavior", "start (s)", "stop (s)"})
NO_FOCAL_SUBJECT = "No focal subject"
OWN = frozenset(
    {
        "observation id",
        "observation date",
        "description",
        "observation duration",
        "observation type",
        "source",
        "time offset (s)",
    }
    | {
        "coding duration",
        "total duration",
        "total length",
        "media duration (s)",
        "fps",
        "fps (frame/s)",
        "media file",
        "media file path",
    }
    | {
        "subject",
        "observation duration by subject by observation",
        "behavior",
        "behavioral category",
        "behavior type",
        "status",
    }
    | {"time", "start (s)", "stop (s)", "duration (s)", "media file name", "comment", "comment start", "comment stop"}
    | {f"image {what}{end}" for what in ("index", "file path") for end in ("", " start", " stop")}
)
"""Columns that BORIS itself names, in lower case; the others, modifiers apart, are the users' independent variables."""
_NOTHING = ("", "NA", "Not found")
_CODED = ("observation duration", "coding duration", "total duration", "total length")
_MODIFIER = re.compile(r"modifiers?( #?\d+)?")
_UNPAIRED = "in BORIS: Observations > Fix unpaired events, then save or export again"


@dataclass(frozen=True)
class Medium:
    """A media file on the clock of its observation, in seconds without the time offset."""

    path: str
    video: Video | None
    start: float
    stop: float  # infinite for the last one


@dataclass(frozen=True)
class Observation:
    """One observation: its media in order, time offset, coded duration and total media duration (None: not written)."""

    name: str
    row: int
    media: tuple[Medium, ...]
    offset: float
    coded: float | None
    total: float | None
    interval: tuple[float, float] | None = None  # of the media's clock, where a project file restricts the observation

    def pieces(self, start: float, stop: float, kind: Kind) -> list[tuple[Medium, float, float]]:
        """A bout on BORIS's clock as (medium, start, stop) in seconds of the medium; one that spans two files is split."""
        start, stop = start - self.offset, stop - self.offset
        if kind == "point" or start >= stop or len(self.media) == 1:
            home = next((m for m in self.media if start < m.stop), self.media[-1])
            return [(home, start - home.start, stop - home.start)]
        cut = [(m, max(start, m.start) if m.start else start, min(stop, m.stop)) for m in self.media]
        cut = [(m, a, b) for m, a, b in cut if a < b]
        # Media durations are written in milliseconds, so a bout from border to border may seem to touch its neighbour.
        long = [(m, a, b) for m, a, b in cut if b - a > 0.002] or cut[:1]
        return [(m, a - m.start, b - m.start) for m, a, b in long]


Players = list[list[tuple[str, float | None]]]
"""Media (path, seconds) of each player."""


@dataclass(frozen=True)
class Known:
    """What a project file tells of one observation: its players, when the media of each begin on the observation's clock, the time
    interval that was observed (None: all), and events that cannot be used (row -> why)."""

    players: Players
    offsets: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    refused: Mapping[int, str] = field(default_factory=dict)


def players(source: str, durations: str) -> Players:
    """``player #1:a;b|player #2:c`` and ``10.000;20.000|10.000`` as media (path, seconds) of each player.

    Paths may hold ``;`` where a single duration says that it is one path.
    """
    if source.strip() in _NOTHING:
        return []
    listed = [re.sub(r"^player #\d+:", "", part.strip()).strip() for part in re.split(r"\|(?=\s*player #\d+:)", source)]
    lengths = durations.split("|") if durations.strip() not in _NOTHING else []
    out = []
    for k, text in enumerate(listed):
        times = [seconds(t) for t in lengths[k].split(";")] if k < len(lengths) else []
        paths = [text] if len(times) == 1 else [path.strip() for path in text.split(";") if path.strip()]
        if len(times) != len(paths):
            times = [None] * len(paths)
        out.append(list(zip(paths, times, strict=True)))
    return [player for player in out if player]


def _media(cells: Mapping[str, str]) -> Players:
    source = next((cells[c] for c in ("source", "media file", "media file name") if cells.get(c, "") not in _NOTHING), "")
    return players(source, cells.get("media duration (s)", ""))


def videos_named(table: Table, videos: Videos) -> set[str]:
    """Names of the videos that an export speaks of."""
    out = set()
    for key in {
        (c.get("source"), c.get("media file"), c.get("media file name"), c.get("observation id")) for _, c in table.rows
    }:
        cells = dict(zip(("source", "media file", "media file name", "observation id"), (v or "" for v in key), strict=True))
        found = [videos.of_media(path) for player in _media(cells) for path, _ in player]
        out |= {v.name for v in [*found, videos.named(cells["observation id"])] if v is not None}
    return out


class _Reader:
    """Observations of one file, read as they are met, and what was found."""

    def __init__(
        self,
        table: Table,
        videos: Videos,
        duration: Callable[[Video], float],
        known: Known | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.table, self.videos, self.duration, self.known = table, videos, duration, known
        self.out = Reading()
        self.observations: dict[tuple[str, str, str], Observation | None] = {}
        self.variables = variables
        self.foreign = [name for name in table.columns if name and name not in OWN and not _MODIFIER.fullmatch(name)]

    def complain(self, problem: str, row: int, remedy: str) -> None:
        self.out.problems.append(FoveateError(problem, file=self.table.path, row=row, remedy=remedy))

    def note(self, text: str, row: int, remedy: str | None = None) -> None:
        self.out.notes.append(FoveateError(text, file=self.table.path, row=row, remedy=remedy))

    def observation(self, row: int, cells: Mapping[str, str]) -> Observation | None:
        """The observation of a row; None, after one complaint, when none of its media is a video of the project."""
        source = cells.get("source") or cells.get("media file") or cells.get("media file name") or ""
        name = cells.get("observation id", "")
        # In files without Source the media file of the event stands for it, and each is on its own clock.
        key = (name, source, cells.get("media duration (s)", ""))
        if key not in self.observations:
            try:
                seen = self.observations[key] = self._observe(name, row, cells)
                self._covary(row, seen, cells)
            except FoveateError as error:
                self.observations[key] = None
                self.out.problems.append(error)
        return self.observations[key]

    def _covary(self, row: int, seen: Observation, cells: Mapping[str, str]) -> None:
        """The independent variables of an observation are covariates of its videos."""
        videos = list({m.video.name: m.video for m in seen.media if m.video is not None}.values())
        told = {name: cells.get(name, "").strip() for name in self.foreign} if self.variables is None else self.variables
        for name, value in told.items():
            if value not in _NOTHING:
                self.out.covariates.extend(Covariate(row, video, name, value) for video in videos)

    def _observe(self, name: str, row: int, cells: Mapping[str, str]) -> Observation:
        found = _media(cells) if self.known is None else self.known.players
        matched = [[self.videos.of_media(path) for path, _ in player] for player in found]
        chosen = next((k for k, player in enumerate(matched) if any(player)), None)
        if chosen is None:
            video = self.videos.named(name) if sum(map(len, found)) <= 1 else None
            if video is None:
                path = next((path for player in found for path, _ in player), "")
                what = f"{path!r} of observation {name!r}" if path else f"observation {name!r}"
                raise self.videos.unknown(path or name, what, self.table.path, row)
            chosen, found, matched = 0, found or [[(name, None)]], [[video]]
        for k, player in enumerate(matched):
            if k > chosen and any(player):
                self.note(
                    f"observation {name!r}: player #{k + 1} gets no labels, "
                    + (
                        "because BORIS does not export the offset between players"
                        if self.known is None
                        else f"player #{chosen + 1} does"
                    ),
                    row,
                    "write a plain CSV for its video, or show both views in one video",
                )
        media, total = self._follow(found[chosen], matched[chosen], row)
        offset_text = cells.get("time offset (s)", "")
        offset = seconds(offset_text) if offset_text not in _NOTHING else 0.0
        if offset is None:
            raise FoveateError(
                f"time offset {offset_text!r} is not a time", file=self.table.path, row=row, remedy="export it again"
            )
        coded = next((seconds(cells[c]) for c in _CODED if c in cells), None)
        interval = None
        if self.known is not None:
            ahead = self.known.offsets[chosen] if chosen < len(self.known.offsets) else 0.0
            offset += ahead
            interval = self.known.interval and (self.known.interval[0] - ahead, self.known.interval[1] - ahead)
        return Observation(name, row, media, offset, coded, total, interval)

    def _follow(
        self, player: Sequence[tuple[str, float | None]], matched: Sequence[Video | None], row: int
    ) -> tuple[tuple[Medium, ...], float | None]:
        """Media of one player laid end to end, and their total duration where it is known."""
        media: list[Medium] = []
        start: float = 0.0
        for k, ((path, length), video) in enumerate(zip(player, matched, strict=True)):
            if length is None and video is not None:
                length = self.duration(video)
            if k + 1 == len(player):
                media.append(Medium(path, video, start, math.inf))
                return tuple(media), None if length is None else start + length
            if length is None:
                raise FoveateError(
                    f"the duration of {path!r} is not written, so times in the files after it cannot be known",
                    file=self.table.path,
                    row=row,
                    remedy="export from a BORIS that writes Media duration (s), or add the file to videos.csv",
                )
            media.append(Medium(path, video, start, start + length))
            start += length
        raise AssertionError("a player has media")

    def bout(self, row: int, seen: Observation, subject: str, behaviour: str, start: float, stop: float, kind: Kind) -> None:
        for medium, a, b in seen.pieces(start, stop, kind):
            if medium.video is None:
                self.out.problems.append(
                    self.videos.unknown(medium.path, f"{medium.path!r} of observation {seen.name!r}", self.table.path, row)
                )
            else:
                self.out.entries.append(Entry(row, medium.video, subject, behaviour, a, b, kind))

    def doubt(self, seen: Observation, subject: str, behaviour: str, since: float | None = None) -> None:
        """From ``since`` on BORIS's clock (None: throughout) the behaviour may have been there."""
        clock = -math.inf if since is None else since - seen.offset
        for medium in seen.media:
            if medium.video is not None and clock < medium.stop:
                self.out.doubts.append(Doubt(medium.video, subject, behaviour, max(0.0, clock - medium.start)))

    def observe(self, seen: Observation, subjects: Mapping[str, int], first: float, last: float) -> None:
        """Spans of one observation whose events lie between ``first`` and ``last`` on BORIS's clock."""
        whole = seen.interval is None and (seen.coded is None or seen.total is None or seen.coded >= seen.total - 1)
        low, high = seen.interval or (first - seen.offset, last - seen.offset)
        if low > high and not whole:
            return  # no row of it could be read
        if not whole and seen.interval is None:
            self.note(
                f"observation {seen.name!r}: {first:.3f} to {last:.3f} s of {seen.total:.3f} s, from the first to the last event, counts "
                "as observed; before and after, behaviours are taken as unknown, not as absent",
                seen.row,
                'export with the time interval "Media file(s) duration", or say in annotations/observed.csv what was watched',
            )
        for subject, row in subjects.items():
            for medium in seen.media:
                a = 0.0 if whole else max(0.0, low - medium.start)
                b = math.inf if whole else min(high, medium.stop) - medium.start
                if medium.video is not None and a <= b:
                    self.out.spans.append(Span(row, medium.video, subject, a, b))


def _subject(cells: Mapping[str, str]) -> str:
    subject = cells.get("subject", "")
    return "" if subject == NO_FOCAL_SUBJECT else subject


def read_aggregated(table: Table, videos: Videos, duration: Callable[[Video], float]) -> Reading:
    """Aggregated events: one row per bout. ``duration`` stands in for media durations that are not written."""
    reader = _Reader(table, videos, duration)
    ranges: dict[int, _Range] = {}
    for row, cells in table.rows:
        seen = reader.observation(row, cells)
        if seen is None:
            continue
        subject, behaviour = _subject(cells), cells.get("behavior", "")
        found = ranges.setdefault(id(seen), _Range(seen))
        found.subjects.setdefault(subject, row)
        start, stop = seconds(cells.get("start (s)", "")), seconds(cells.get("stop (s)", ""))
        kind = cells.get("behavior type", "").upper()
        if ragged := table.ragged(row, cells, ("subject", *AGGREGATED)):
            reader.out.problems.append(ragged)
        elif start is None or stop is None:
            name = "start" if start is None else "stop"
            reader.complain(f"{name} {cells.get(f'{name} (s)', '')!r} is not a time", row, "export it again, or correct it")
        elif kind not in ("STATE", "POINT", ""):
            reader.complain(f"behavior type {kind!r} is neither STATE nor POINT", row, "export it again, or correct it")
        else:
            found.add(start, stop)
            point = kind == "POINT" or start == stop
            reader.bout(row, seen, subject, behaviour, start, start if point else stop, "point" if point else "state")
            continue
        reader.doubt(seen, subject, behaviour, start if start is not None else None)
    for found in ranges.values():
        reader.observe(found.seen, found.subjects, found.first, found.last)
    return reader.out


@dataclass
class _Range:
    """First and last event of an observation on BORIS's clock, and the subjects met (with the first row of each)."""

    seen: Observation
    first: float = math.inf
    last: float = -math.inf

    def __post_init__(self) -> None:
        self.subjects: dict[str, int] = {}

    def add(self, *times: float) -> None:
        self.first, self.last = min(self.first, *times), max(self.last, *times)


class _Event(NamedTuple):
    time: float
    row: int
    status: str


def read_tabular(
    table: Table,
    videos: Videos,
    duration: Callable[[Video], float],
    known: Known | None = None,
    variables: Mapping[str, str] | None = None,
) -> Reading:
    """Tabular events: START and STOP rows are paired per observation, subject, behaviour and modifiers in order of time.

    ``variables`` are the independent variables where they are not columns of the table.
    """
    reader = _Reader(table, videos, duration, known, variables)
    ranges: dict[int, _Range] = {}
    events: dict[tuple[int, str, str, tuple[str, ...]], list[_Event]] = {}
    modifiers = [name for name in table.columns if _MODIFIER.fullmatch(name)]
    for row, cells in table.rows:
        seen = reader.observation(row, cells)
        if seen is None:
            continue
        subject, behaviour = _subject(cells), cells.get("behavior", "")
        found = ranges.setdefault(id(seen), _Range(seen))
        found.subjects.setdefault(subject, row)
        time, status = seconds(cells.get("time", "")), cells.get("behavior type", "").upper()
        if ragged := table.ragged(row, cells, ("subject", *TABULAR)):
            reader.out.problems.append(ragged)
        elif known is not None and row in known.refused:
            reader.complain(known.refused[row], row, "correct it in BORIS, and save again")
        elif time is None:
            reader.complain(f"time {cells.get('time', '')!r} is not a time", row, "export it again, or correct it")
        elif status not in ("START", "STOP", "POINT"):
            reader.complain(f"behavior type {status!r} is none of START, STOP, POINT", row, "export it again, or correct it")
        else:
            found.add(time)
            key = (id(seen), subject, behaviour, tuple(cells.get(name, "") for name in modifiers))
            events.setdefault(key, []).append(_Event(time, row, status))
            continue
        reader.doubt(seen, subject, behaviour)
    for (number, subject, behaviour, _), listed in events.items():
        _pair(reader, ranges[number].seen, subject, behaviour, sorted(listed, key=lambda event: event.time))
    for found in ranges.values():
        reader.observe(found.seen, found.subjects, found.first, found.last)
    return reader.out


def _pair(reader: _Reader, seen: Observation, subject: str, behaviour: str, events: Iterable[_Event]) -> None:
    who = f"{behaviour!r}" + (f" of {subject!r}" if subject else "")
    start: _Event | None = None
    for event in events:
        if event.status == "POINT":
            reader.bout(event.row, seen, subject, behaviour, event.time, event.time, "point")
            continue
        if event.status == "START":
            if start is not None:
                reader.complain(f"{who} starts at {start.time:g} s and has no STOP", start.row, _UNPAIRED)
                reader.doubt(seen, subject, behaviour, start.time)
            start = event
        elif start is None:
            reader.complain(f"{who} stops at {event.time:g} s and has no START", event.row, _UNPAIRED)
            reader.doubt(seen, subject, behaviour)
        else:
            kind: Kind = "state" if start.time < event.time else "point"
            reader.bout(start.row, seen, subject, behaviour, start.time, event.time, kind)
            start = None
    if start is not None:
        reader.complain(f"{who} starts at {start.time:g} s and has no STOP", start.row, _UNPAIRED)
        reader.doubt(seen, subject, behaviour, start.time)
