"""Labels: bouts and observed stretches of time, and what they say about frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

TOLERANCE = 0.0006
"""Seconds. Annotation files carry milliseconds, frames do not: a start written for the frame at 4.06667 s reads 4.067. Every limit is
therefore taken this much earlier, half a millisecond and a little for the arithmetic, which decides for the frame that was meant at up
to 500 frames per second, also where BORIS ends a bout 0.001 s before the next (its exclusion matrix)."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What people annotated.

    Attributes:
        behaviours: in the order of ``foveate.yaml``; if it lists none, by total annotated seconds, longest first, then by name.
        intervals: schema.INTERVALS.
        observed: schema.OBSERVED.
    """

    behaviours: tuple[str, ...]
    intervals: pd.DataFrame
    observed: pd.DataFrame

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """Videos of which something was observed, in the order of ``videos.csv``."""
        return tuple(dict.fromkeys(self.observed["video"]))

    @cached_property
    def _intervals_of(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {(str(v), str(s)): rows for (v, s), rows in self.intervals.groupby(["video", "subject"], sort=False)}

    @cached_property
    def _observed_of(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {(str(v), str(s)): rows for (v, s), rows in self.observed.groupby(["video", "subject"], sort=False)}

    def subjects(self, video: str) -> tuple[str, ...]:
        """Subjects of ``video`` of which something was observed."""
        return tuple(subject for name, subject in self._observed_of if name == video)

    def dense(self, video: str, subject: str, times: ArrayLike, durations: ArrayLike | None = None) -> NDArray[np.int8]:
        """Labels of frames.

        A frame at ``t`` has a behaviour when a bout of it holds ``t`` (``start <= t < stop``, see ``TOLERANCE``) or a point event lies in
        ``[t, t + duration)``. Of several annotators one is enough.

        Args:
            times: f64[N], increasing, seconds since the first frame.
            durations: f64[N], seconds each frame stands for; by default up to the next frame, the last as long as the one before.

        Returns:
            int8[N, L] in the order of ``behaviours``: 1 present, 0 absent, -1 not observed.
        """
        time = np.asarray(times, dtype=np.float64)
        if time.ndim != 1 or (np.diff(time) <= 0).any():
            raise FoveateError("frame times must be one increasing row of numbers")
        end = time + (_steps(time) if durations is None else np.asarray(durations, dtype=np.float64))
        out = np.full((len(time), len(self.behaviours)), -1, dtype=np.int8)
        number = {behaviour: k for k, behaviour in enumerate(self.behaviours)}
        spans: dict[int, list[tuple[float, float]]] = {}
        key = (video, subject)
        if key in self._observed_of:
            rows = self._observed_of[key]
            for behaviour, start, stop in zip(rows["behaviour"], rows["start"], rows["stop"], strict=True):
                if (k := number.get(behaviour)) is not None:
                    spans.setdefault(k, []).append((start, stop))
                    out[_held(time, start, stop), k] = 0
        if key in self._intervals_of:
            rows = self._intervals_of[key]
            for behaviour, start, stop, kind in zip(rows["behaviour"], rows["start"], rows["stop"], rows["kind"], strict=True):
                if (k := number.get(behaviour)) is None:
                    continue
                if kind == "state":
                    held = out[_held(time, start, stop), k]  # a view
                    held[held == 0] = 1
                elif any(a - TOLERANCE <= start <= b + TOLERANCE for a, b in spans.get(k, [])):
                    i = int(np.searchsorted(time, start + TOLERANCE, side="right")) - 1
                    if i >= 0 and start < end[i]:
                        out[i, k] = 1
        return out


def _held(time: NDArray[np.float64], start: float, stop: float) -> slice:
    """Frames with ``start <= t < stop``, both limits taken ``TOLERANCE`` earlier."""
    a, b = np.searchsorted(time, [start - TOLERANCE, stop - TOLERANCE], side="left")
    return slice(int(a), int(b))


def _steps(time: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(time) < 2:
        return np.full(len(time), np.inf)
    steps = np.diff(time)
    return np.append(steps, steps[-1])
