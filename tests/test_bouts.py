"""Frames to bouts, and time budgets that add up."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.actions.bouts import BUDGET, bouts, runs, time_budget
from foveate.schema import BOUTS, FoveateError

WHO = {"video": "v", "subject": "ewe"}


def test_bouts_of_a_small_case() -> None:
    time = np.array([0.0, 0.5, 1.0, 1.6, 2.0, 5.0])
    duration = np.array([0.5, 0.5, 0.6, 0.4, 0.5, 1.0])  # nothing between 2.5 and 5
    on = np.array([[1, 0], [1, -1], [0, 1], [1, 1], [1, -1], [1, 1]])
    probability = np.array([[0.9, 0.1], [0.7, 0], [0.2, 0.8], [0.6, 0.6], [0.8, 0], [1.0, 0.5]], dtype=np.float32)
    table = bouts(time, duration, on, probability, ("graze", "walk"), **WHO)
    assert list(table.columns) == BOUTS.names
    rows = [(r.behaviour, r.start, r.stop, round(r.probability, 4)) for r in table.itertuples()]
    assert rows == [
        ("graze", 0.0, 1.0, 0.8),
        ("walk", 1.0, 2.0, 0.7),
        ("graze", 1.6, 2.5, 0.7),
        ("graze", 5.0, 6.0, 1.0),
        ("walk", 5.0, 6.0, 0.5),
    ]
    assert pa.Table.from_pandas(table, schema=BOUTS, preserve_index=False).num_rows == 5


def test_no_bouts_keep_the_schema() -> None:
    table = bouts([0.0, 1.0], [1.0, 1.0], np.zeros((2, 1), bool), None, ("graze",), **WHO)
    assert pa.Table.from_pandas(table, schema=BOUTS, preserve_index=False).num_rows == 0
    table = bouts([0.0], [1.0], [[True]], None, ("graze",), **WHO)
    assert math.isnan(table["probability"][0])
    assert bouts([], [], np.zeros((0, 1)), None, ("graze",), **WHO).empty


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(FoveateError, match="for 2 frames and 1 behaviours"):
        bouts([0.0, 1.0], [1.0, 1.0], np.zeros((3, 1)), None, ("graze",), **WHO)
    with pytest.raises(FoveateError, match="do not belong together"):
        runs([0.0, 1.0], [1.0], [True, True])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 3), st.sampled_from([1, 0, -1]), st.booleans()), min_size=1, max_size=60))
def test_bouts_and_budget_add_up(frames: list[tuple[float, int, bool]]) -> None:
    """Sums are those of exact arithmetic, rounded once; bouts partition the positive frames."""
    time, duration, at = [], [], 0.0
    for step, _, hole in frames:
        time.append(at)
        duration.append(step)
        at = at + step + (1.0 if hole else 0.0)
    label = np.array([[value] for _, value, _ in frames], dtype=np.int8)
    budget = time_budget(time, duration, label, ("graze",), **WHO)
    assert tuple(budget.columns) == BUDGET
    row = budget.iloc[0]
    positive = [d for d, v in zip(duration, label[:, 0], strict=True) if v == 1]
    seen = [d for d, v in zip(duration, label[:, 0], strict=True) if v != -1]
    assert row.seconds == float(sum(map(Fraction, positive), Fraction(0)))
    assert row.seen_seconds == float(sum(map(Fraction, seen), Fraction(0)))
    assert row.share == row.seconds / row.seen_seconds if seen else math.isnan(row.share)
    table = bouts(time, duration, label, None, ("graze",), **WHO)
    assert row.bouts == len(table)
    assert (row.mean_bout_seconds == row.seconds / len(table)) if len(table) else math.isnan(row.mean_bout_seconds)
    assert math.fsum(table["stop"] - table["start"]) == pytest.approx(row.seconds, abs=1e-6)
    for a, b in runs(time, duration, label[:, 0] == 1):  # runs are maximal: before and after there is a hole or another label
        assert a == 0 or label[a - 1, 0] != 1 or frames[a - 1][2]
        assert b == len(frames) or label[b, 0] != 1 or frames[b - 1][2]
    assert sum(b - a for a, b in runs(time, duration, label[:, 0] == 1)) == len(positive)


def test_budget_of_labels_with_unobserved_time() -> None:
    label = np.array([[1, -1], [1, 0], [0, -1], [-1, 1]], dtype=np.int8)
    budget = time_budget([0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 1.0, 4.0], label, ("graze", "walk"), **WHO)
    expected = pd.DataFrame(
        [("v", "ewe", "graze", 3.0, 0.75, 1, 3.0, 4.0), ("v", "ewe", "walk", 4.0, 4 / 6, 1, 4.0, 6.0)], columns=list(BUDGET)
    )
    pd.testing.assert_frame_equal(budget, expected)
