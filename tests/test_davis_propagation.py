"""Objects given in the first frame, followed through pictures: two that move, told apart by their tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foveate.evaluate.davis import evaluate
from foveate.evaluate.propagation import embedded, follow
from foveate.models.pretrained import load_backbone
from foveate.settings import TrackSettings

PATCH, ROWS, COLUMNS = 14, 9, 14
COLOURS = np.array([(60, 120, 50), (220, 210, 200), (90, 50, 30)], np.uint8)


def scene(t: int) -> np.ndarray:
    """uint8[ROWS, COLUMNS]: an object that walks right and one that walks left, three by two patches."""
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    labels[1:3, 1 + t : 4 + t] = 1
    labels[5:7, 10 - t : 13 - t] = 2
    return labels


def test_two_objects_are_followed() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((3, 32))
    seen, truth = [], []
    for t in range(7):
        labels = scene(t)
        tokens = kinds[labels] + 0.3 * rng.standard_normal((ROWS, COLUMNS, 32))
        large = labels.repeat(PATCH, 0).repeat(PATCH, 1)
        seen.append((COLOURS[large], torch.from_numpy(tokens).half()))
        truth.append(large)
    first = truth[0].copy()
    first[0, :5] = 255  # void is nobody
    found = list(follow(seen, first, TrackSettings(short_side=126)))
    assert (found[0] == truth[0]).all()
    assert all(set(np.unique(labels)) <= {0, 1, 2} for labels in found)
    assert evaluate(truth, found).regions.min() > 0.8
    swapped = [np.array([0, 2, 1], np.uint8)[labels] for labels in truth]
    assert evaluate(swapped, found).regions.max() == 0


def test_what_the_tracker_sees() -> None:
    """The short side decides the grid; half precision, as trackers keep tokens."""
    picture = np.zeros((48, 85, 3), np.uint8)
    with pytest.warns(UserWarning):
        backbone = load_backbone("handcrafted")
    ((small, tokens),) = embedded([picture], 4 * backbone.patch, backbone)
    assert small.shape == (4 * backbone.patch, 7 * backbone.patch, 3)
    assert tokens.shape[:2] == (4, 7) and tokens.dtype == torch.float16
