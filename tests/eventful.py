"""Finished tracks with a history: rows changed as if the subject had been lost, absent or doubtful, and the events that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import pyarrow as pa

from foveate import timeline, track
from foveate.project import Project, Video
from foveate.schema import TRACK
from foveate.store import Artefact, write_parquet
from foveate.track import events
from foveate.track.events import Event, Kind

UNSEEN = dict.fromkeys(("x", "y", "w", "h", "rle", "identity_score"), None) | {"area": 0, "score": 0.0}


def happened(
    project: Project, video: Video, change: Callable[[pd.DataFrame], pd.DataFrame], found: Iterable[Event]
) -> Artefact:
    """The finished track of a video with its rows changed, and with events, under the stamp it should have."""
    target = track.artefact(project, video)
    record = target.record() or {}
    tables = {name: pd.read_parquet(target.path(name)) for name in record["files"] if name.endswith(".parquet")}
    target.discard()
    target.begin()
    for name, table in tables.items():
        write_parquet(target.path(name), pa.Table.from_pandas(change(table), schema=TRACK, preserve_index=False))
    events.write(target, "all", found)
    events.gather(target)
    target.finish(record["facts"])
    return target


def between(table: pd.DataFrame, start: float, stop: float, state: str, view: str = "") -> pd.DataFrame:
    """The same rows, but from ``start`` to ``stop`` seconds in this state; nothing is seen when it is lost or absent."""
    table = table.astype({"rle": object, "identity_score": object})
    rows = (table["time"] >= start) & (table["time"] < stop) & (table["view"].str.contains(view, regex=False))
    table.loc[rows, "state"] = state
    if state in ("lost", "absent"):
        for name, value in UNSEEN.items():
            table.loc[rows, name] = value
    elif state == "uncertain":
        table.loc[rows, "score"] = 0.4
    return table


def event(
    project: Project, video: Video, kind: Kind, start: float, stop: float | None = None, view: str = "full", **more: Any
) -> Event:
    """An event at the analysed frame shown at ``start`` seconds, of the first subject."""
    seen = timeline.analysed(project, video)
    first, last = (int(seen.time.searchsorted(t + 1e-6, side="right")) - 1 for t in (start, start if stop is None else stop))
    subject = more.pop("subject", sorted(video.subjects)[0])
    ends = {"until_frame": int(seen.frame[last]), "until_time": float(seen.time[last])}
    return Event(int(seen.frame[first]), view, subject, kind, float(seen.time[first]), **ends, **more)
