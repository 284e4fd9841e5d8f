"""The published augmentation: what is drawn, what becomes of a picture, of its mask and of its labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.actions.augment import Draw, change, cut, draw, sided, swapped


def test_draws_are_of_the_published_kind() -> None:
    drawn = [draw("video", "view", k) for k in range(2000)]
    for how in drawn:
        assert 0 <= how.x <= how.x + how.w <= 1 + 1e-12 and 0 <= how.y <= how.y + how.h <= 1 + 1e-12
        assert 0.08 - 1e-9 <= how.w * how.h <= 1 and 3 / 4 - 1e-9 <= how.w / how.h <= 4 / 3 + 1e-9
    for share in (np.mean([how.grey for how in drawn]), np.mean([how.flip for how in drawn])):
        assert abs(share - 0.5) < 0.05
    assert abs(np.mean([how.w * how.h for how in drawn]) - 0.52) < 0.05  # a little less than .54: the largest do not always fit
    assert abs(np.mean([how.grey and how.flip for how in drawn]) - 0.25) < 0.04  # independent


def test_a_draw_belongs_to_its_name() -> None:
    assert draw("v", "top", 3) == draw("v", "top", 3) != draw("v", "bottom", 3)
    flipped = next(draw("v", k) for k in range(99) if draw("v", k).flip)
    still = next(draw("v", k, flips=False) for k in range(99) if draw("v", k).flip)
    assert not still.flip and (flipped.grey, flipped.x, flipped.w) == (still.grey, still.x, still.w)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_picture_and_mask_stay_together(height: int, width: int, name: int) -> None:
    rng = np.random.default_rng(name)
    picture, how = rng.integers(0, 256, (height, width, 3)).astype(np.uint8), draw(name)
    mask = picture[..., 0] > 127
    part = cut(picture, how)
    np.testing.assert_array_equal(cut(mask, how), part[..., 0] > 127)
    assert min(part.shape) >= 1
    assert abs(part.shape[0] - how.h * height) <= 1.5 and abs(part.shape[1] - how.w * width) <= 1.5


def test_grey_is_that_of_pil_and_a_flip_is_a_flip() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    whole = Draw(True, False, 0, 0, 1, 1)
    grey = np.array(Image.fromarray(picture).convert("L"))
    np.testing.assert_array_equal(change(picture, whole), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(change(picture, Draw(False, True, 0, 0, 1, 1)), picture[:, ::-1])
    part = change(picture, Draw(False, False, 1 / 3, 0.5, 1 / 3, 0.25))
    np.testing.assert_array_equal(part, picture[10:15, 10:20])


def test_left_and_right_without_a_pair() -> None:
    names = ["turning_left", "turning_right", "TurnLeft", "leftover", "lying", "right ear up", "kick-left"]
    assert sided(names, {}) == ["turning_left", "turning_right", "TurnLeft", "right ear up", "kick-left"]
    assert sided(names, {"turning_left": "turning_right"}) == ["TurnLeft", "right ear up", "kick-left"]


@pytest.mark.parametrize("mirror", [{"left": "right"}, {"right": "left"}])
def test_flipped_labels_change_places(mirror: dict[str, str]) -> None:
    truth = np.array([[1, 0, 1], [0, -1, 0], [-1, 1, 1]], dtype=np.int8)
    np.testing.assert_array_equal(swapped(truth, ("left", "right", "lie"), mirror), truth[:, [1, 0, 2]])
    np.testing.assert_array_equal(swapped(truth[:, [0, 2]], ("left", "lie"), mirror), [[-1, 1], [-1, 0], [-1, 1]])
    np.testing.assert_array_equal(truth[0], [1, 0, 1])  # the labels themselves stay
