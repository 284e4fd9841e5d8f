"""The section on tracks: per video a contact sheet, where the subject was seen and lost, and how it was followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foveate.project import Project, Video
from foveate.report import absences, doubts, figures, sheets
from foveate.report.sources import Notes, Problem, Sources
from foveate.report.traces import Trace, traces
from foveate.schema import SEEN, SEGMENT, FoveateError, State
from foveate.track import events
from foveate.track.questions import Question, questions

if TYPE_CHECKING:
    from foveate.timeline import Analysed

SHEETS = 24
"""Videos with pictures; of the others the page shows the strip of states only."""

_KINDS = {
    State.PROMPTED.value: "seen",
    State.TRACKED.value: "seen",
    State.INTERPOLATED.value: "filled",
    State.UNCERTAIN.value: "unsure",
    State.LOST.value: "lost",
    State.ABSENT.value: "",
}
"""Class of a state in the strip; absent is left empty."""


@dataclass(frozen=True)
class Followed:
    """One subject in one view of one video."""

    view: str
    subject: str
    tint: int
    frames: int
    seen: int  # frames
    strip: Mapping[str, str]  # class -> path data
    prompts: list[float]  # percent of the width
    counts: Mapping[str, int]  # state -> frames
    marks: list[absences.Mark]
    traces: list[Trace]
    unseen: list[absences.Unseen]
    doubts: list[doubts.Doubt]

    @property
    def share_seen(self) -> float:
        return self.seen / self.frames if self.frames else 0.0

    def share(self, state: str) -> float:
        return self.counts.get(state, 0) / self.frames if self.frames else 0.0

    @property
    def lost(self) -> list[tuple[str, str]]:
        """Clock times of the three longest times in which it was lost, in order."""
        own = [one for one in self.unseen if one.state == State.LOST]
        return [(figures.clock(one.start), figures.clock(one.stop)) for one in longest(own, 3)]

    @property
    def lost_more(self) -> int:
        return sum(one.state == State.LOST for one in self.unseen) - len(self.lost)


def longest(found: Iterable[absences.Unseen], at_most: int) -> list[absences.Unseen]:
    """The longest ones, in the order in which they were given."""
    every = list(found)
    kept = sorted(range(len(every)), key=lambda k: (-every[k].seconds, k))[:at_most]
    return [every[k] for k in sorted(kept)]


@dataclass(frozen=True)
class Animal:
    """What one subject's frames are, over all its videos; where several views show it, the best of them counts."""

    subject: str
    videos: int
    frames: int
    counts: Mapping[str, int]  # sure, uncertain, lost, absent -> frames
    lost: int  # times, in single views
    longest: float  # seconds of the longest of them

    def share(self, kind: str) -> float:
        return self.counts.get(kind, 0) / self.frames if self.frames else 0.0


@dataclass
class Sheet:
    """One video in the section."""

    video: str
    group: str
    duration: float
    how: str
    followed: list[Followed]
    frames: int  # analysed frames times subjects
    seen: int  # of them with the subject seen in at least one view
    animals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # subject -> sure, uncertain, lost, absent -> frames
    events: list[events.Event] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)  # clock time of each picture
    states: dict[str, list[list[str]]] = field(default_factory=dict)  # view -> per picture the states that are not "tracked"
    pictures: dict[str, list[sheets.Thumbnail]] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def share_seen(self) -> float:
        return self.seen / self.frames if self.frames else 0.0


def tracked(project: Project, sources: Sources, notes: Notes) -> list[Sheet]:
    """Every video that has a finished track, in the order of videos.csv, without pictures."""
    found = []
    for video in project.videos:
        if sources.has("track", video.name):
            sheet = notes.attempt(f"track of {video.name}", partial(_sheet, project, video, sources))
            if isinstance(sheet, Sheet):
                found.append(sheet)
    return found


def choose(found: list[Sheet], at_most: int = SHEETS) -> list[Sheet]:
    """The videos that get pictures: all, or one half those in which the subject was seen least, the other half spread over the rest."""
    if len(found) <= at_most:
        return found
    order = sorted(range(len(found)), key=lambda i: (found[i].share_seen, i))
    worst = order[: at_most // 2]
    rest = [i for i in range(len(found)) if i not in set(worst)]
    spread = [rest[round(k)] for k in np.linspace(0, len(rest) - 1, at_most - len(worst))]
    return [found[i] for i in sorted({*worst, *spread})]


_COLUMNS = ("view", "subject", "frame", "time", "state", "x", "y", "w", "h", "score", "identity_score", "area")


def _sheet(project: Project, video: Video, sources: Sources) -> Sheet:
    from foveate import timeline

    table = _rows(sources, video, _COLUMNS)
    artefact = sources.get("track", video.name)
    happened = events.read(artefact)
    analysed = timeline.analysed(project, video)
    duration = float(analysed.time[-1] + analysed.duration[-1]) if len(analysed.frame) else 0.0
    tints = {subject: i for i, subject in enumerate(sorted(table["subject"].unique()))}
    followed = [
        _followed(video, str(view), str(subject), tints[subject], rows, happened, analysed, duration)
        for (view, subject), rows in table.groupby(["view", "subject"], sort=True)
    ]
    order = {name: k for k, name in enumerate(project.config.views)}
    followed.sort(key=lambda track: (order.get(track.view, 0), track.subject))
    best = table["state"].map(_BEST).groupby([table["subject"], table["frame"]]).min()
    animals = {
        str(subject): {kind: int((own == place).sum()) for place, kind in enumerate(_KIND)}
        for subject, own in best.groupby(level=0, sort=True)
    }
    return Sheet(
        video.name,
        video.group,
        duration,
        how(project, artefact.facts()),
        followed,
        frames=len(best),
        seen=sum(counts[kind] for counts in animals.values() for kind in ("sure", "uncertain")),
        animals=animals,
        events=happened,
        questions=questions(project, video, artefact),
    )


_KIND = ("sure", "uncertain", "lost", "absent")
_BEST = {State.UNCERTAIN.value: 1, State.LOST.value: 2, State.ABSENT.value: 3} | {
    state.value: 0 for state in (State.PROMPTED, State.TRACKED, State.INTERPOLATED)
}


def animals(found: Sequence[Sheet]) -> list[Animal]:
    """Every subject of the study, by name."""
    out = []
    for name in sorted({subject for sheet in found for subject in sheet.animals}):
        own = [sheet for sheet in found if name in sheet.animals]
        counts = {kind: sum(sheet.animals[name][kind] for sheet in own) for kind in _KIND}
        times = [
            one.seconds
            for sheet in own
            for track in sheet.followed
            for one in track.unseen
            if one.subject == name and one.state == State.LOST
        ]
        out.append(Animal(name, len(own), sum(counts.values()), counts, len(times), max(times, default=0.0)))
    return out


def unseen(found: Sequence[Sheet]) -> list[absences.Unseen]:
    """Every time in which a subject was lost or absent, by video and time."""
    return [
        one for sheet in found for one in sorted((u for f in sheet.followed for u in f.unseen), key=lambda u: (u.start, u.view))
    ]


_STARTED = {"click": "a click", "box": "a box", "mask": "a mask", "saliency": "what stands out", "motion": "what moves"}


IMPORTED = "imported from"


def how(project: Project, facts: Mapping[str, Any]) -> str:
    """``propagate from a click``: the tracker and what it started from; or ``imported from SLEAP (points)``."""
    if imported := facts.get("imported"):
        return f"{IMPORTED} {' and '.join(imported['programs'])} ({' and '.join(imported['content'])})"
    kinds = [_STARTED.get(kind, kind) for kind in str(facts.get("prompt", "")).split("+") if kind]
    start = f" from {' and '.join(kinds)}" if kinds and project.config.track.method != "motion" else ""
    return f"{project.config.track.method}{start}"


def _rows(
    sources: Sources, video: Video, columns: tuple[str, ...] = ("view", "subject", "frame", "time", "state")
) -> pd.DataFrame:
    artefact = sources.get("track", video.name)
    parts = [artefact.table(name, list(columns)).to_pandas() for name in artefact.files(".parquet")]
    if not parts:
        raise FoveateError("the track holds no part", file=artefact.folder, remedy="run `foveate run`")
    rows: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return rows


def _followed(
    video: Video,
    view: str,
    subject: str,
    tint: int,
    rows: pd.DataFrame,
    happened: Sequence[events.Event],
    analysed: Analysed,
    duration: float,
) -> Followed:
    rows = rows.sort_values("frame")
    own = absences.concerning(happened, view, subject)
    state = rows["state"].to_numpy(dtype=object)
    start = rows["time"].to_numpy(dtype=np.float64)
    lasts = analysed.duration[np.searchsorted(analysed.frame, rows["frame"].to_numpy())]
    kinds = rows["state"].map(_KINDS).to_numpy(dtype=object)
    return Followed(
        view=view,
        subject=subject,
        tint=tint,
        frames=len(rows),
        seen=int(rows["state"].isin(SEEN).sum()),
        strip={
            kind: figures.lane(figures.stretches(kinds, kind, start, lasts), duration, 0, 1, gap=0.2, least=0.6)
            for kind in ("seen", "filled", "unsure", "lost")
        },
        prompts=[100 * t / duration for t in start[state == State.PROMPTED.value][:50]] if duration else [],
        counts={one.value: int((state == one.value).sum()) for one in State},
        marks=absences.marks(own, duration),
        traces=traces(rows, duration),
        unseen=absences.unseen((video.name, video.group, view, subject), state, start, lasts, own),
        doubts=doubts.of_subject((video.name, view, subject), rows, tint, duration),
    )


def add_pictures(project: Project, video: Video, sheet: Sheet, sources: Sources) -> None:
    """Decode a few frames of the video and draw the tracks in.

    Raises:
        FoveateError: the footage cannot be read, or the track is damaged.
    """
    from foveate import timeline
    from foveate.video import read_frames

    line = timeline.load(project, video)
    analysed = timeline.analysed(project, video)
    views = {name: (view.x, view.y, view.w, view.h) for name, view in timeline.views(project, video).items()}
    picked = sheets.choose(analysed.time, analysed.frame - line.start[analysed.frame])
    frames = analysed.frame[picked]
    overlays, states = _overlays(video, picked, frames, list(views), sheet, sources)
    pictures = read_frames(video.path, line, frames)
    sheet.pictures = sheets.thumbnails(pictures, views, overlays)
    sheet.captions = [figures.clock(t) for t in analysed.time[picked]]
    sheet.states = states


def _overlays(
    video: Video, picked: np.ndarray, frames: np.ndarray, views: list[str], sheet: Sheet, sources: Sources
) -> tuple[list[dict[str, list[sheets.Overlay]]], dict[str, list[list[str]]]]:
    artefact = sources.get("track", video.name)
    names = artefact.files(".parquet")
    wanted = sorted({int(p) // SEGMENT for p in picked})
    parts = [artefact.table(names[k]).to_pandas() for k in wanted if k < len(names)]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["frame"].isin(frames.tolist())]
    squares = _squares(video, sources, set(frames.tolist()))
    tints = {f.subject: f.tint for f in sheet.followed}
    overlays: list[dict[str, list[sheets.Overlay]]] = [{view: [] for view in views} for _ in frames]
    states: dict[str, list[list[str]]] = {view: [[] for _ in frames] for view in views}
    place = {int(frame): i for i, frame in enumerate(frames)}
    for row in rows.sort_values(["frame", "view", "subject"]).itertuples():
        i, seen = place[row.frame], row.state in SEEN
        if row.view not in states:
            continue
        overlays[i][row.view].append(
            sheets.Overlay(
                state=row.state,
                rle=row.rle if seen and row.rle is not None else None,
                box=(row.x, row.y, row.w, row.h) if seen else None,
                square=squares.get((row.view, row.subject, row.frame)),
                tint=tints.get(row.subject, 0),
            )
        )
        if row.state != State.TRACKED:
            states[row.view][i].append(row.state if len(tints) == 1 else f"{row.subject} {row.state}")
    return overlays, states


def _squares(video: Video, sources: Sources, frames: set[int]) -> dict[tuple[str, str, int], tuple[float, float, float, float]]:
    """Crop squares by view, subject and frame; empty without crops."""
    if not sources.has("crop", video.name):
        return {}
    artefact = sources.get("crop", video.name)
    columns = ["view", "subject", "frame", "src_x", "src_y", "src_w", "src_h"]
    squares = {}
    for name in artefact.files(".parquet"):
        part = artefact.table(name, columns).to_pydict()
        for view, subject, frame, *square in zip(*(part[c] for c in columns), strict=True):
            if frame in frames:
                squares[view, subject, frame] = (square[0], square[1], square[2], square[3])
    return squares
