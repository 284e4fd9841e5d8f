"""From frames to bouts and time budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.schema import BOUTS, FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

GAP = 1e-6
"""Seconds between the end of a frame and the start of the next that are arithmetic, not missing frames."""

BUDGET = ("video", "subject", "behaviour", "seconds", "share", "bouts", "mean_bout_seconds", "seen_seconds")


@dataclass(frozen=True, eq=False)
class Strip:
    """Frames of many recordings one after the other, cut wherever frames do not follow each other.

    Attributes:
        time, duration: float64 ``[N]`` seconds, as ``timeline.analysed`` gives them.
        piece: int64 ``[N]`` number of the unbroken stretch of one animal in one video, never falling.
    """

    time: NDArray[np.float64]
    duration: NDArray[np.float64]
    piece: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        series: NDArray[np.int64],
        position: NDArray[np.int64],
        time: NDArray[np.float64],
        duration: NDArray[np.float64],
    ) -> Strip:
        """Of rows sorted by ``series`` (one per animal and video), then ``position`` among the analysed frames; a position left out
        (the animal is not seen) is a cut."""
        new = np.zeros(len(series), dtype=np.int64)
        new[1:] = (series[1:] != series[:-1]) | (position[1:] != position[:-1] + 1)
        return cls(time, duration, np.cumsum(new))

    def take(self, keep: NDArray[np.bool_]) -> Strip:
        """The frames with ``keep``; where frames were left out there is a cut, so that what lies on its two sides never touches."""
        rows = np.flatnonzero(keep)
        new = np.zeros(len(rows), dtype=np.int64)
        new[1:] = (np.diff(rows) != 1) | (np.diff(self.piece[rows]) != 0)
        return Strip(self.time[rows], self.duration[rows], np.cumsum(new))

    @cached_property
    def axis(self) -> NDArray[np.float64]:
        """float64 ``[N + 1]``: where frames begin and end if all stretches are laid end to end."""
        return np.concatenate([[0.0], np.cumsum(self.duration)])

    def runs(self, on: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frames of the runs of ``on``, and the frames after their last ones; a run ends at a cut."""
        joined = np.zeros(len(on) + 1, dtype=bool)
        joined[1:-1] = on[1:] & on[:-1] & (self.piece[1:] == self.piece[:-1])
        return np.flatnonzero(on & ~joined[:-1]), np.flatnonzero(on & ~joined[1:]) + 1


def runs(times: ArrayLike, durations: ArrayLike, positive: ArrayLike) -> list[tuple[int, int]]:
    """Maximal runs of positive frames without missing time between them, as (first, last + 1).

    Args:
        times, durations: f64[N], seconds; frames stand for ``[time, time + duration)``.
        positive: bool[N].
    """
    time, duration = np.asarray(times, dtype=np.float64), np.asarray(durations, dtype=np.float64)
    on = np.asarray(positive, dtype=bool)
    if not (time.shape == duration.shape == on.shape and time.ndim == 1):
        raise FoveateError(f"times {time.shape}, durations {duration.shape} and frames {on.shape} do not belong together")
    joined = np.zeros(len(on) + 1, dtype=bool)  # frame i goes on from frame i - 1
    joined[1:-1] = on[1:] & on[:-1] & (time[1:] - (time[:-1] + duration[:-1]) <= GAP)
    first = np.flatnonzero(on & ~joined[:-1])
    last = np.flatnonzero(on & ~joined[1:])
    return [(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]


def bouts(
    times: ArrayLike,
    durations: ArrayLike,
    positive: ArrayLike,
    probability: ArrayLike | None,
    behaviours: Sequence[str],
    *,
    video: str,
    subject: str,
) -> pd.DataFrame:
    """Runs of positive frames of one video and subject.

    A bout starts with its first positive frame and stops with the end of its last one, ``time + duration``. Frames in which the subject
    is not seen are not positive and end a bout, and so does time for which there is no frame.

    Args:
        times, durations: f64[N], seconds, as ``timeline.analysed`` gives them.
        positive: bool[N, L], or labels int8[N, L] of which 1 counts.
        probability: f32[N, L] or None.
        behaviours: L names.

    Returns:
        schema.BOUTS, sorted by start, then behaviour; ``probability`` is the mean over the bout's frames, null if None was given.
    """
    import pandas as pd

    time, duration = np.asarray(times, dtype=np.float64), np.asarray(durations, dtype=np.float64)
    on = _frames(positive, behaviours, len(time))
    rows = []
    for k, behaviour in enumerate(behaviours):
        column = None if probability is None else np.asarray(probability)[:, k].astype(np.float64)
        for a, b in runs(time, duration, on[:, k]):
            mean = np.nan if column is None else float(column[a:b].mean())
            rows.append((video, subject, behaviour, float(time[a]), float(time[b - 1] + duration[b - 1]), mean))
    rows.sort(key=lambda row: (row[3], row[2]))
    table = pd.DataFrame(rows, columns=BOUTS.names).astype({"start": "float64", "stop": "float64", "probability": "float32"})
    return table.astype({"video": "str", "subject": "str", "behaviour": "str"})


def time_budget(
    times: ArrayLike, durations: ArrayLike, labels: ArrayLike, behaviours: Sequence[str], *, video: str, subject: str
) -> pd.DataFrame:
    """How much time one subject of one video spends with each behaviour.

    Args:
        labels: int8[N, L]: 1, 0, or -1 for frames that say nothing (not seen, not observed).

    Returns:
        one row per behaviour with the columns ``BUDGET``: seconds with it, their share of the seconds that say something about it
        (``seen_seconds``; NaN if there are none), number and mean length of bouts (NaN if there are none). Sums are correctly rounded.
    """
    import pandas as pd

    time, duration = np.asarray(times, dtype=np.float64), np.asarray(durations, dtype=np.float64)
    table = np.asarray(labels)
    on = _frames(table, behaviours, len(time))
    rows = []
    for k, behaviour in enumerate(behaviours):
        seconds, seen = math.fsum(duration[on[:, k]]), math.fsum(duration[table[:, k] != -1])
        count = len(runs(time, duration, on[:, k]))
        rows.append(
            (
                *(video, subject, behaviour, seconds, seconds / seen if seen else np.nan),
                *(count, seconds / count if count else np.nan, seen),
            )
        )
    return pd.DataFrame(rows, columns=list(BUDGET))


def _frames(positive: ArrayLike, behaviours: Sequence[str], frames: int) -> NDArray[np.bool_]:
    on = np.asarray(positive)
    if on.shape != (frames, len(behaviours)):
        raise FoveateError(f"labels of shape {on.shape} for {frames} frames and {len(behaviours)} behaviours")
    return np.asarray(on == 1)
