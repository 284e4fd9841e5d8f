"""What is measured of every animal: shares of time, bouts, latencies, transitions, and shares in bins of time.

Everything is of view ``*`` and of the time in which the animal was seen. Videos of one animal count by the time seen in them: seconds are
added up before anything is divided, so an hour weighs more than a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.actions.bouts import GAP
from foveate.groups.statistics import Values
from foveate.project import Video
from foveate.store import Artefact, damaged

if TYPE_CHECKING:
    import pandas as pd

ALL_SESSIONS = "*"

HARDLY = 0.05
"""Animals seen for less than this share of the median are told of: a few seconds then stand for an animal as hours do."""

PROPORTIONS = ("group", "subject", "behaviour", "share", "seconds", "seen_seconds", "videos")

MEASURES = (
    *("group", "subject", "session", "behaviour", "share", "seconds", "seen_seconds", "bouts", "bouts_per_hour"),
    *("mean_bout_seconds", "median_bout_seconds", "latency_seconds", "latency_censored", "videos"),
)
"""Columns of measures.csv, one row per group, animal, session (``*``: all together) and behaviour.

``bouts_per_hour`` is per hour seen. A bout that the animal's disappearance, or the end of the video, cuts short counts as it is.
``latency_seconds`` runs from the first frame in which the animal was seen to the first bout, mean over videos; where the behaviour did not
come in one of them, the seconds until the animal was last seen stand for it, ``latency_censored`` is 1, and the latency is at least as
long.
"""

TRANSITIONS = ("group", "subject", "behaviour", "to", "count", "probability")
"""Columns of transitions.csv: of the onsets that came next after an onset of ``behaviour``, how many, and which share, were of ``to``.

Onsets of one video in their order; the same behaviour beginning again is no transition, and neither is one across a time in which the
animal was not seen. Where several behaviours begin at once, each is an equal part of the transition.
"""

BINS = ("group", "subject", "behaviour", "bin", "start", "stop", "share", "seconds", "seen_seconds")
"""Columns of bins.csv: shares in stretches of ``compare.bin`` seconds from the start of each video."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One animal in one video.

    Attributes:
        session: as in videos.csv, or the video's name where that is empty.
        time, duration: f64[N], seconds, of the analysed frames in which it was seen.
        seen: seconds in all.
        seconds: of every behaviour.
        bouts: behaviour -> starts and stops, f64[B], seconds, in order.
    """

    video: str
    group: str
    session: str
    subject: str
    time: Values
    duration: Values
    seen: float
    seconds: Mapping[str, float]
    bouts: Mapping[str, tuple[Values, Values]]


def recordings(source: Artefact, video: Video) -> list[Recording]:
    """All animals of one video from its finished predictions.

    Raises:
        FoveateError: a file is missing or damaged.
    """
    import pandas as pd
    import pyarrow.compute as pc

    path = source.checked("budget.csv")
    try:
        budget = pd.read_csv(
            path, dtype={"subject": str, "behaviour": str, "video": str}, keep_default_na=False, na_values=[""]
        )
        budget = budget[["subject", "behaviour", "seconds", "seen_seconds"]]
    except (ValueError, KeyError) as error:
        raise damaged(path) from error
    behaviours = list(dict.fromkeys(budget["behaviour"]))
    wanted = ["view", "subject", "time", "duration", *(f"pred_{b}" for b in behaviours[:1])]
    frames = source.table("predictions.parquet", wanted)
    frames = frames.filter(pc.equal(frames["view"], "*")).drop(["view"]).to_pandas()
    found: pd.DataFrame = source.table("bouts.parquet", ["subject", "behaviour", "start", "stop"]).to_pandas()
    out = []
    for subject, mine in budget.groupby("subject", sort=False):
        there = frames[frames["subject"] == subject]
        there = there[there[f"pred_{behaviours[0]}"] != -1]
        own = found[found["subject"] == subject]
        bouts = {
            b: (part["start"].to_numpy(np.float64), part["stop"].to_numpy(np.float64)) for b, part in own.groupby("behaviour")
        }
        nothing = np.zeros(0), np.zeros(0)
        out.append(
            Recording(
                video=video.name,
                group=video.group,
                session=video.session or video.name,
                subject=str(subject),
                time=there["time"].to_numpy(np.float64),
                duration=there["duration"].to_numpy(np.float64),
                seen=float(mine["seen_seconds"].iloc[0]),
                seconds=dict(zip(mine["behaviour"], mine["seconds"], strict=True)),
                bouts={b: bouts.get(b, nothing) for b in mine["behaviour"]},
            )
        )
    return out


def proportions(found: Sequence[Recording]) -> tuple[pd.DataFrame, list[str]]:
    """Share of every behaviour of every animal in every group: sum of seconds by sum of seen seconds over its videos.

    Returns:
        columns ``PROPORTIONS``, in the order in which they come; and notes on animals never seen, or hardly ever.
    """
    import pandas as pd

    rows, unseen = [], set()
    times: dict[str, float] = {}
    for (group, subject), parts in _by(found, lambda r: (r.group, r.subject)).items():
        seen = sum(r.seen for r in parts)
        if seen <= 0:
            unseen.add(subject)
            continue
        times[subject] = times.get(subject, 0.0) + seen
        for behaviour in parts[0].seconds:
            seconds = sum(r.seconds[behaviour] for r in parts)
            videos = sum(r.seen > 0 for r in parts)
            rows.append((group, subject, behaviour, _tidy(seconds / seen), seconds, seen, videos))
    table = pd.DataFrame(rows, columns=list(PROPORTIONS)).astype({"videos": "int64"})
    notes = [f"animal {subject!r} was never seen and is left out" for subject in sorted(unseen)]
    usual = float(np.median(list(times.values()))) if times else 0.0
    notes += [
        f"animal {subject!r} was seen for {seen:.3g} s only (the median is {usual:.3g} s) and counts as much as the others"
        for subject, seen in sorted(times.items())
        if seen < HARDLY * usual
    ]
    return table, notes


def per_animal(found: Sequence[Recording]) -> pd.DataFrame:
    """Columns ``MEASURES``: every animal in every group, all its sessions together (``*``) and each."""
    import pandas as pd

    rows = []
    for (group, subject), parts in _by(found, lambda r: (r.group, r.subject)).items():
        sessions = _by(parts, lambda r: r.session)
        for session, own in {ALL_SESSIONS: parts, **sessions}.items():
            seen = [r for r in own if r.seen > 0]
            for behaviour in own[0].seconds if seen else ():
                rows.append((group, subject, session, behaviour, *_measured(seen, behaviour)))
    return pd.DataFrame(rows, columns=list(MEASURES))


def _measured(parts: Sequence[Recording], behaviour: str) -> tuple[float | int, ...]:
    seen = sum(r.seen for r in parts)
    seconds = sum(r.seconds[behaviour] for r in parts)
    lengths = np.concatenate([r.bouts[behaviour][1] - r.bouts[behaviour][0] for r in parts])
    latency, censored = [], False
    for r in parts:
        starts = r.bouts[behaviour][0]
        latency.append(float(starts[0] if len(starts) else r.time[-1] + r.duration[-1]) - float(r.time[0]))
        censored |= not len(starts)
    return (
        *(_tidy(seconds / seen), seconds, seen, len(lengths), _tidy(3600 * len(lengths) / seen)),
        *((_tidy(float(lengths.mean())), _tidy(float(np.median(lengths)))) if len(lengths) else (math.nan, math.nan)),
        *(_tidy(sum(latency) / len(latency)), int(censored), len(parts)),
    )


def transitions(found: Sequence[Recording]) -> pd.DataFrame:
    """Columns ``TRANSITIONS``, every ordered pair of behaviours of every animal; probabilities NaN where nothing followed."""
    import pandas as pd

    rows = []
    for (group, subject), parts in _by(found, lambda r: (r.group, r.subject)).items():
        behaviours = list(parts[0].seconds)
        count = sum((_followed(r, behaviours) for r in parts), np.zeros((len(behaviours), len(behaviours))))
        for i, behaviour in enumerate(behaviours):
            total = float(count[i].sum())
            for j, to in enumerate(behaviours):
                if i != j:
                    share = _tidy(count[i, j] / total) if total else math.nan
                    rows.append((group, subject, behaviour, to, _tidy(float(count[i, j])), share))
    return pd.DataFrame(rows, columns=list(TRANSITIONS))


def _followed(r: Recording, behaviours: Sequence[str]) -> Values:
    """f64[L, L]: how often an onset of one behaviour came next after an onset of another."""
    count = np.zeros((len(behaviours), len(behaviours)))
    onset = np.concatenate([r.bouts[b][0] for b in behaviours]) if behaviours else np.zeros(0)
    which = np.repeat(np.arange(len(behaviours)), [len(r.bouts[b][0]) for b in behaviours])
    if not len(onset):
        return count
    ends = r.time + r.duration
    breaks = r.time[1:][r.time[1:] - ends[:-1] > GAP]  # when it was seen again
    at, size = np.unique(onset, return_counts=True)
    stretch = np.asarray(np.searchsorted(breaks, at, side="right"), dtype=np.int64)
    begun = np.split(which[np.argsort(onset, kind="stable")], np.cumsum(size)[:-1])  # what begins at each moment
    for k in range(len(at) - 1):
        if stretch[k] == stretch[k + 1]:
            for i in begun[k].tolist():
                for j in begun[k + 1].tolist():
                    count[i, j] += (i != j) / len(begun[k + 1])
    return count


def in_bins(found: Sequence[Recording], length: float) -> pd.DataFrame:
    """Columns ``BINS``: shares in bins of ``length`` seconds. Bins in which the animal was seen for less than half of the time are left
    out, the last one by the part of it that there is."""
    import pandas as pd

    rows = []
    for (group, subject), parts in _by(found, lambda r: (r.group, r.subject)).items():
        last = max((float(r.time[-1] + r.duration[-1]) for r in parts if len(r.time)), default=0.0)
        edges: Values = length * np.arange(math.ceil(last / length - 1e-9) + 1, dtype=np.float64)
        seen = sum((_covered(r.time, r.time + r.duration, edges) for r in parts), np.zeros(len(edges) - 1))
        there = np.minimum(edges[1:], last) - edges[:-1]
        for behaviour in parts[0].seconds:
            seconds = sum((_covered(*r.bouts[behaviour], edges) for r in parts), np.zeros(len(edges) - 1))
            for k in np.flatnonzero((seen > GAP) & (seen >= there / 2 - GAP)):
                share = _tidy(float(min(1.0, seconds[k] / seen[k])))
                rows.append((group, subject, behaviour, int(k), edges[k], edges[k + 1], share, seconds[k], seen[k]))
    return pd.DataFrame(rows, columns=list(BINS))


def _covered(start: Values, stop: Values, edges: Values) -> Values:
    """Seconds of each bin that disjoint, ordered intervals cover."""
    if not len(start):
        return np.zeros(len(edges) - 1)
    moments = np.column_stack([start, np.maximum(stop, start)]).reshape(-1)
    passed = np.concatenate([[0.0], np.cumsum(stop - start)])
    reached = np.column_stack([passed[:-1], passed[1:]]).reshape(-1)
    return np.diff(np.interp(edges, moments, reached, left=0.0, right=float(passed[-1])))


def _by(found: Iterable[Recording], key: Callable[[Recording], Any]) -> dict[Any, list[Recording]]:
    out: dict[Any, list[Recording]] = {}
    for r in found:
        out.setdefault(key(r), []).append(r)
    return out


def _tidy(value: float) -> float:
    """Rounded, so that equal values are ties whatever order their seconds were added in."""
    return round(value, 9)
