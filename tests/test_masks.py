from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from foveate import masks
from foveate.schema import FoveateError

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@given(MASKS)
def test_encode_decode_round_trip(mask: np.ndarray) -> None:
    rle = masks.encode(mask)
    back = masks.decode(rle, *mask.shape)
    assert isinstance(rle, bytes) and back.dtype == np.bool_
    np.testing.assert_array_equal(back, mask)
    assert masks.area(rle) == mask.sum()


@given(MASKS)
def test_memory_layout_does_not_matter(mask: np.ndarray) -> None:
    assert masks.encode(np.asfortranarray(mask)) == masks.encode(np.ascontiguousarray(mask)) == masks.encode(mask[::1])


@given(MASKS)
def test_box_is_the_smallest_that_holds_the_mask(mask: np.ndarray) -> None:
    found = masks.box(mask)
    if not mask.any():
        assert found is None
        return
    assert found is not None
    x, y, w, h = found
    inside = mask[y : y + h, x : x + w]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_box_of_one_pixel() -> None:
    mask = np.zeros((5, 7), bool)
    mask[4, 6] = True
    assert masks.box(mask) == (6, 4, 1, 1)


def test_the_coco_string_of_a_known_mask() -> None:
    """Read downwards first: 4 zeros, 2 ones, 2 zeros; COCO writes a run n < 16 as chr(48 + n)."""
    mask = np.zeros((2, 4), bool)
    mask[0, 2] = mask[1, 2] = True
    assert masks.encode(mask) == b"422"


def test_wrong_size_is_an_error() -> None:
    rle = masks.encode(np.eye(4, dtype=bool))
    for height, width in ((4, 5), (3, 4), (2, 2)):
        with pytest.raises(FoveateError, match=f"{width}x{height}"):
            masks.decode(rle, height, width)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11 under NumPy 2
@settings(max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_decoding_agrees_with_pycocotools(height: int, width: int, share: float, seed: int) -> None:
    """Large masks of large and small blocks, so that runs of one, two and more bytes and negative differences occur."""
    random = np.random.default_rng(seed)
    block = int(random.integers(1, 60))
    mask = np.kron(random.random((-(-height // block), -(-width // block))) < share, np.ones((block, block), bool))
    mask = mask[:height, :width] ^ (random.random((height, width)) < 0.01 * share)
    rle = masks.encode(mask)
    np.testing.assert_array_equal(masks.decode(rle, height, width), coco.decode({"size": [height, width], "counts": rle}))


@given(MASKS, st.integers(1, 9), st.integers(1, 9))
def test_coverage_keeps_the_area(mask: np.ndarray, height: int, width: int) -> None:
    cells = masks.coverage(mask, height, width)
    assert cells.shape == (height, width) and cells.min() >= 0 and cells.max() <= 1
    assert np.isclose(cells.mean(), mask.mean(), atol=1e-6)


@given(MASKS, st.integers(1, 4))
def test_coverage_is_the_mean_of_blocks(mask: np.ndarray, k: int) -> None:
    large = np.kron(mask, np.ones((k, k), bool))
    np.testing.assert_allclose(masks.coverage(large, *mask.shape), mask, atol=1e-6)
    np.testing.assert_array_equal(masks.resample(mask, *large.shape), large)
    np.testing.assert_array_equal(masks.resample(large, *mask.shape), mask)


@settings(max_examples=50)
@given(MASKS, st.integers(-6, 20), st.integers(-6, 20), st.integers(1, 12), st.integers(1, 12))
def test_whole_pixel_rectangle_is_a_slice_with_nothing_outside(mask: np.ndarray, x: int, y: int, w: int, h: int) -> None:
    padded = np.pad(mask, 40)
    expected = padded[40 + y : 40 + y + h, 40 + x : 40 + x + w]
    np.testing.assert_array_equal(masks.resample(mask, h, w, (x, y, w, h)), expected)


def test_half_pixels_by_hand() -> None:
    mask = np.array([[True, False, True, True]])
    np.testing.assert_allclose(masks.coverage(mask, 1, 2, (0.5, 0, 3, 1)), [[(0.5 + 0) / 1.5, 1.0]], atol=1e-6)
