"""Block masks: the counts and sizes of the publication, and the same shapes as the released generator draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foveate.data.blockmasks import BlockMasks, _fill

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dinov2.json").read_text(encoding="utf-8"))
PUBLISHED = BlockMasks()


def draw(crops: int = 128, step: int = 0, seed: int = 0, side: int = 16, how: BlockMasks = PUBLISHED) -> np.ndarray:
    return how.draw(np.arange(crops), crops, side, side, seed, step)


def test_half_of_the_crops_are_masked_by_a_tenth_to_a_half() -> None:
    """The published batch: exactly 64 of 128; sizes fall one into each of 64 equal parts of .1 .. .5."""
    for step in range(5):
        hidden = draw(step=step).sum(1)
        assert (hidden > 0).sum() == 64
        sizes = np.sort(hidden[hidden > 0])
        edges = 256 * np.linspace(0.1, 0.5, 65)
        assert (sizes <= edges[1:]).all() and hidden.max() <= 128
        assert (sizes >= edges[:-1].astype(int) - 20).all()  # a mask may fall short of its target
        assert np.mean(sizes < edges[:-1].astype(int) - 1) < 0.1


def test_which_crops_are_masked_changes_and_is_dealt_at_random() -> None:
    often = np.mean([draw(12, step, side=4).any(1) for step in range(600)], axis=0)
    assert (np.abs(often - 0.5) < 0.1).all()  # five standard errors
    assert (draw(step=1) != draw(step=2)).any() and (draw(seed=1) != draw(seed=2)).any()
    np.testing.assert_array_equal(draw(step=3), draw(step=3))


def test_processes_agree_without_a_word() -> None:
    whole = draw(32, step=4)
    mine = [
        PUBLISHED.draw(np.concatenate([places, 16 + places]), 32, 16, 16, 0, 4) for places in (np.arange(8), np.arange(8, 16))
    ]
    np.testing.assert_array_equal(np.concatenate([mine[0][:8], mine[1][:8], mine[0][8:], mine[1][8:]]), whole)


@pytest.mark.parametrize("golden", GOLDEN["blockmasks"]["targets"], ids=lambda golden: str(golden["target"]))
def test_shapes_are_those_of_the_released_generator(golden: dict[str, float]) -> None:
    """Sizes, lengths of the borders, and places of 1,500 masks against 20,000 of the released one, within five standard errors."""
    masks = np.zeros((1500, 16, 16), dtype=bool)
    rng = np.random.default_rng(7)
    for mask in masks:
        _fill(mask, int(golden["target"]), rng, np.zeros((16, 16), dtype=np.float32), 0.0)
    hidden = masks.sum((1, 2))
    assert hidden.max() <= golden["most"]
    border = (masks[:, 1:] != masks[:, :-1]).sum((1, 2)) + (masks[:, :, 1:] != masks[:, :, :-1]).sum((1, 2))
    for found, mean, sd in ((hidden, "mean", "sd"), (border, "border", "border_sd")):
        assert abs(found.mean() - golden[mean]) <= 5 * golden[sd] / np.sqrt(1500) + 1e-9
    corners = masks[:, [0, 0, 15, 15], [0, 15, 0, 15]].mean()
    assert abs(masks[:, 6:10, 6:10].mean() - golden["centre"]) < 0.03 and abs(corners - golden["corner"]) < 0.015


def test_small_grids_and_nothing_to_mask() -> None:
    hidden = draw(64, side=4).sum(1)
    assert hidden.max() <= 8 and (hidden > 0).sum() >= 30  # one patch of sixteen may not be met within ten tries
    assert not draw(8, how=BlockMasks(share=0.0)).any() and draw(1).sum() == 0
