"""Numbers that belong to a sample: uniform, independent, and the same in any company."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from foveate.data.draws import uniform


def draw(index: list[int], step: int = 0, seed: int = 0, stream: str = "view", count: int = 50) -> np.ndarray:
    return uniform(seed, step, np.array(index, dtype=np.int64), stream, count)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 2**62), min_size=1, max_size=20), st.integers(0, 2**40), st.integers(0, 10**7))
def test_a_sample_draws_the_same_in_any_company(index: list[int], seed: int, step: int) -> None:
    together = draw(index, step, seed)
    assert together.min() >= 0 and together.max() < 1
    for k, one in enumerate(index):
        np.testing.assert_array_equal(draw([one], step, seed)[0], together[k])
    np.testing.assert_array_equal(draw(index, step, seed, count=7), together[:, :7])


def test_numbers_are_uniform_and_unrelated() -> None:
    """Along samples, steps, seeds and numbers of one sample, which are the directions in which training goes through them."""
    samples = draw(list(range(4000)))
    steps = np.stack([draw([5], step)[0] for step in range(4000)])
    seeds = np.stack([draw([5], 3, seed)[0] for seed in range(2000)])
    streams = np.stack([draw([5], 3, 0, f"view {k}")[0] for k in range(2000)])
    for table in (samples, steps, seeds, streams):
        assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-4
        assert min(stats.kstest(column, "uniform").pvalue for column in table.T) > 1e-5
        together = np.corrcoef(table[:, :20].T)
        assert np.abs(together - np.eye(20)).max() < 5 / np.sqrt(len(table))
        assert abs(np.corrcoef(table[1:, 0], table[:-1, 0])[0, 1]) < 5 / np.sqrt(len(table))
    assert len(np.unique(samples)) == samples.size


def test_known_numbers() -> None:
    """Written down once, so that runs can be resumed by later versions."""
    np.testing.assert_allclose(draw([0, 7], 3, 11, "x", 2), KNOWN, rtol=1e-15)


KNOWN = [[0.2841834686796023, 0.3406581120783573], [0.9719717117115763, 0.6110925107620518]]
