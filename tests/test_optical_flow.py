"""Optical flow, and the blocks whose flow in attention agrees with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.attention.flow import agreements, draw_agreement
from foveate.data.optical_flow import optical_flow, patch_motion
from foveate.models.vit import Vit, VitConfig

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
WHOLE = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (40, 40)).astype(np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)
)


def window(right: int = 0, down: int = 0) -> np.ndarray:
    """u8[112, 112]: what is seen is shifted by so much."""
    return WHOLE[40 - down : 152 - down, 40 - right : 152 - right].copy()


@pytest.mark.parametrize(("right", "down"), [(3, -2), (6, 5), (-10, 0), (0, 0)])
def test_a_shift_of_the_whole_picture(right: int, down: int) -> None:
    flow = optical_flow(window(), window(right, down))
    inside = flow[:, 16:-16, 16:-16] - np.array([right, down], np.float32)[:, None, None]
    assert flow.shape == (2, 112, 112) and np.abs(inside).mean() < 0.05
    colour = [np.repeat(one[..., None], 3, -1) for one in (window(), window(right, down))]
    np.testing.assert_allclose(optical_flow(*colour), flow, atol=1e-4)


def test_nothing_moves_where_nothing_changes_or_can_be_told() -> None:
    assert np.abs(optical_flow(window(), window())).max() < 1e-4
    flat = np.full((56, 70), 90, np.uint8)
    assert np.abs(optical_flow(flat, flat + 20)).max() < 1e-4


def test_what_moves_by_itself_is_told_from_the_camera() -> None:
    one, other = window(), window(3)
    one[42:70, 28:56] = other[42:70, 34:62] = 255 - WHOLE[:28, 150:178]  # 3 px beyond the camera's 3
    found = patch_motion(one, other, 14).reshape(8, 8)
    assert (
        found[3:5, 2:4].min() > 2 and np.delete(np.delete(found, slice(2, 6), 0), slice(1, 6), 1).max() < 0.5
    )  # edges least sure


def test_blocks_are_asked_whether_they_agree_with_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = Vit(VitConfig(image_size=112, patch=14, width=24, depth=2, heads=4)).eval()
    frames = np.repeat(np.stack([window()] * 3)[..., None], 3, -1)
    assert agreements(vit, frames) is None
    frames[1, 42:70, 34:62] = frames[2, 42:70, 40:68] = 0
    found = agreements(vit, frames)
    assert found is not None and found.shape == (2,) and (np.abs(found) <= 1).all() and found.mean() > 0.2
    for name in ("one", "two"):
        for kind in ("svg", "png"):
            draw_agreement(found, (1,), tmp_path / f"{name}.{kind}")
    for kind in ("svg", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
