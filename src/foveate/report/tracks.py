"""The section on tracks: per video a contact sheet, where the subject was seen and lost, and how it was followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foveate.project import Project, Video
from foveate.report import figures, sheets
from foveate.report.sources import Notes, Problem, Sources
from foveate.schema import SEEN, SEGMENT, FoveateError, State

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
    lost: list[tuple[str, str]]  # clock times
    lost_more: int

    @property
    def share_seen(self) -> float:
        return self.seen / self.frames if self.frames else 0.0


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


def _sheet(project: Project, video: Video, sources: Sources) -> Sheet:
    from foveate import timeline

    table = _rows(sources, video)
    analysed = timeline.analysed(project, video)
    duration = float(analysed.time[-1] + analysed.duration[-1]) if len(analysed.frame) else 0.0
    tints = {subject: i for i, subject in enumerate(sorted(table["subject"].unique()))}
    followed = [
        _followed(str(view), str(subject), tints[subject], rows, analysed, duration)
        for (view, subject), rows in table.groupby(["view", "subject"], sort=True)
    ]
    order = {name: k for k, name in enumerate(project.config.views)}
    followed.sort(key=lambda track: (order.get(track.view, 0), track.subject))
    facts = sources.get("track", video.name).facts()
    anywhere = table["state"].isin(SEEN).groupby([table["subject"], table["frame"]]).any()
    return Sheet(
        video.name, video.group, duration, how(project, facts), followed, frames=len(anywhere), seen=int(anywhere.sum())
    )


_STARTED = {"click": "a click", "box": "a box", "mask": "a mask", "saliency": "what stands out", "motion": "what moves"}


def how(project: Project, facts: Mapping[str, Any]) -> str:
    """``propagate from a click``: the tracker and what it started from."""
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


def _followed(view: str, subject: str, tint: int, rows: pd.DataFrame, analysed: Analysed, duration: float) -> Followed:
    rows = rows.sort_values("frame")
    state = rows["state"].to_numpy(dtype=object)
    start = rows["time"].to_numpy(dtype=np.float64)
    lasts = analysed.duration[np.searchsorted(analysed.frame, rows["frame"].to_numpy())]
    kinds = rows["state"].map(_KINDS).to_numpy(dtype=object)
    lost = figures.stretches(kinds, "lost", start, lasts)
    shown = sorted(sorted(lost, key=lambda i: i[0] - i[1])[:3])
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
        lost=[(figures.clock(a), figures.clock(b)) for a, b in shown],
        lost_more=len(lost) - len(shown),
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
