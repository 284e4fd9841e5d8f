"""Intervals to frames and back: exact to a frame, subjects apart, -1 exactly where nobody looked."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.actions.bouts import bouts
from foveate.annotations import Labels
from foveate.annotations.dense import TOLERANCE
from foveate.schema import INTERVALS, OBSERVED, FoveateError

L = ("graze", "walk")


def labels(intervals: list[tuple[object, ...]], observed: list[tuple[object, ...]], behaviours: tuple[str, ...] = L) -> Labels:
    """intervals: (subject, behaviour, start, stop); observed: the same; of video "v"."""
    rows = [("v", s, b, a, z, "state" if a < z else "point", "", "f", 2) for s, b, a, z in intervals]  # type: ignore[operator]
    seen = [("v", s, b, a, z, "") for s, b, a, z in observed]
    return Labels(behaviours, pd.DataFrame(rows, columns=INTERVALS.names), pd.DataFrame(seen, columns=OBSERVED.names))


def everywhere(subject: str = "ewe") -> list[tuple[object, ...]]:
    return [(subject, behaviour, 0.0, 1e6) for behaviour in L]


@st.composite
def clocks(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frame times of a constant or variable frame rate, at most 500 per second, and their durations."""
    steps = draw(st.lists(st.floats(0.002, 2.0), min_size=2, max_size=40))
    if draw(st.booleans()):
        steps = [steps[0]] * len(steps)
    edges = np.concatenate([[0.0], np.cumsum(steps)])
    return edges[:-1], np.diff(edges)


@st.composite
def marked(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    time, duration = draw(clocks())
    flags = draw(st.lists(st.booleans(), min_size=2 * len(time), max_size=2 * len(time)))
    return time, duration, np.array(flags).reshape(-1, 2)


@settings(max_examples=150, deadline=None)
@given(marked(), st.booleans())
def test_frames_to_bouts_to_frames(
    case: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], rounded: bool
) -> None:
    """The bouts of any frames give these frames back, also after a file has rounded their times to milliseconds."""
    time, duration, on = case
    table = bouts(time, duration, on, None, L, video="v", subject="ewe")
    limits = [
        (b, round(a, 3), round(z, 3)) if rounded else (b, a, z) for b, a, z in table[["behaviour", "start", "stop"]].to_numpy()
    ]
    back = labels([("ewe", *row) for row in limits], everywhere()).dense("v", "ewe", time, duration)
    assert (back == on).all()


@settings(max_examples=100, deadline=None)
@given(clocks(), st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5)), max_size=6))
def test_intervals_to_bouts_to_intervals(
    clock: tuple[NDArray[np.float64], NDArray[np.float64]], raw: list[tuple[float, float]]
) -> None:
    """Both limits of every bout that comes back lie within a frame of the limit they came from."""
    time, duration = clock
    edges, at = [], 0.0
    for gap, length in raw:
        edges.append((at + gap, at + gap + length))
        at += gap + length + 0.01
    dense = labels([("ewe", "graze", a, z) for a, z in edges], everywhere()).dense("v", "ewe", time, duration)
    back = bouts(time, duration, dense == 1, None, L, video="v", subject="ewe")
    end = time[-1] + duration[-1]
    step = duration.max() + TOLERANCE
    for start, stop in back[["start", "stop"]].to_numpy():
        assert any(0 <= start - a + TOLERANCE <= step for a, _ in edges)
        assert any(abs(min(z, end) - stop) <= step for _, z in edges)
    for a, z in edges:  # and no interval that holds a whole frame is lost
        inside = (time >= a) & (time < z - TOLERANCE)
        assert (dense[inside, 0] == 1).all()


@settings(max_examples=100, deadline=None)
@given(
    clocks(),
    st.lists(st.tuples(st.sampled_from(["ewe", "ram"]), st.sampled_from(L), st.floats(0, 30), st.floats(0.1, 9)), max_size=6),
    st.lists(st.tuples(st.sampled_from(["ewe", "ram"]), st.sampled_from(L), st.floats(0, 30), st.floats(0.1, 9)), max_size=6),
)
def test_unobserved_exactly_outside_and_subjects_apart(
    clock: tuple[NDArray[np.float64], NDArray[np.float64]],
    states: list[tuple[str, str, float, float]],
    looked: list[tuple[str, str, float, float]],
) -> None:
    time, duration = clock
    intervals = [(s, b, a, a + length) for s, b, a, length in states]
    observed = [(s, b, a, a + length) for s, b, a, length in looked]
    both = labels(intervals, observed)
    for subject, (k, behaviour) in itertools.product(("ewe", "ram"), enumerate(L)):
        column = both.dense("v", subject, time, duration)[:, k]
        moment = time + TOLERANCE

        def held(
            rows: list[tuple[str, str, float, float]], s: str = subject, b: str = behaviour, m: object = moment
        ) -> NDArray[np.bool_]:
            return np.any([(a <= m) & (m < z) for q, r, a, z in rows if (q, r) == (s, b)] or [np.zeros(len(m), bool)], axis=0)  # type: ignore[arg-type, operator]

        assert ((column == -1) == ~held(observed)).all()
        assert ((column == 1) == (held(observed) & held(intervals))).all()
        alone = labels([r for r in intervals if r[0] == subject], [r for r in observed if r[0] == subject])
        assert (alone.dense("v", subject, time, duration)[:, k] == column).all()


@settings(max_examples=100, deadline=None)
@given(clocks(), st.floats(0, 1, exclude_max=True))
def test_a_point_marks_the_frame_on_screen(clock: tuple[NDArray[np.float64], NDArray[np.float64]], where: float) -> None:
    time, duration = clock
    point = where * (time[-1] + duration[-1])
    dense = labels([("ewe", "walk", point, point)], everywhere()).dense("v", "ewe", time, duration)
    (marked_frame,) = np.flatnonzero(dense[:, 1] == 1)
    assert time[marked_frame] - TOLERANCE <= point < time[marked_frame] + duration[marked_frame] + 1e-9
    assert (dense[:, 0] == 0).all()


def test_points_between_frames_mark_nothing() -> None:
    dense = labels([("ewe", "walk", 1.5, 1.5)], everywhere()).dense("v", "ewe", [0.0, 1.0, 2.0], [1.0, 0.2, 1.0])
    assert (dense == 0).all()


@pytest.mark.parametrize("rate", [15, 24, 25, 29.97, 30, 50, 59.94, 120, 240, 500])
def test_exclusion_matrix_stops_leave_no_hole(rate: float) -> None:
    """BORIS ends a state 0.001 s before the one that excludes it; all times in whole milliseconds, as it writes them."""
    time = np.arange(400) / rate
    limits = [round(float(time[k]), 3) for k in (0, 100, 101, 250, 399)]
    rows = [
        ("ewe", L[k % 2], a, (z if z == limits[-1] else round(z - 0.001, 3)))
        for k, (a, z) in enumerate(itertools.pairwise(limits))
    ]
    dense = labels(rows, everywhere()).dense("v", "ewe", time)
    assert (dense[:399].sum(axis=1) == 1).all()
    assert dense[[0, 99, 100, 101, 249, 250, 398], 0].tolist() == [1, 1, 0, 1, 1, 0, 0]


def test_wrong_times_are_refused() -> None:
    for times in ([1.0, 1.0], [2.0, 1.0], [[0.0, 1.0]]):
        with pytest.raises(FoveateError, match="increasing"):
            labels([], everywhere()).dense("v", "ewe", times)


def test_no_frames_and_one_frame() -> None:
    some = labels([("ewe", "walk", 0.0, 1.0), ("ewe", "graze", 0.5, 0.5)], everywhere())
    assert some.dense("v", "ewe", []).shape == (0, 2)
    assert some.dense("v", "ewe", [0.0]).tolist() == [[1, 1]]
    assert (some.dense("other", "ewe", [0.0]) == -1).all()
