"""Schedules: the released CosineScheduler, value by value."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.schedules import Schedule, constant


def upstream(peak: float, end: float, start: float, warmup: int, steps: int) -> np.ndarray:
    """What facebookresearch/dinov2 `CosineScheduler` tabulates, in its own words: two arrays, one after the other."""
    climb = np.linspace(start, peak, warmup)
    turns = np.arange(steps - warmup)
    return np.concatenate([climb, end + 0.5 * (peak - end) * (1 + np.cos(np.pi * turns / len(turns)))])


@pytest.mark.parametrize(("start", "warmup"), [(0.0, 0), (0.0, 40), (0.04, 7), (0.3, 1)])
def test_every_value_of_the_released_scheduler(start: float, warmup: int) -> None:
    schedule = Schedule(0.07, 0.001, start, warmup)
    assert np.allclose([schedule.at(step, 100) for step in range(100)], upstream(0.07, 0.001, start, warmup, 100), rtol=1e-12)
    assert schedule.at(100, 100) == schedule.at(1000, 100) == 0.001


def test_the_published_learning_rate() -> None:
    lr = Schedule(5e-5, 1e-6, warmup=4_000)
    assert lr.at(0, 1_080_000) == 0 and lr.at(4_000, 1_080_000) == pytest.approx(5e-5) and lr.at(1_080_000, 1_080_000) == 1e-6


def test_the_teachers_temperature_stays_where_it_has_come() -> None:
    temperature = Schedule(0.07, 0.07, start=0.04, warmup=12_000)
    assert temperature.at(0, 100_000) == 0.04 and temperature.at(12_000, 100_000) == temperature.at(99_999, 100_000) == 0.07
    assert constant(3.0).at(0, 10) == constant(3.0).at(9, 10) == 3.0
