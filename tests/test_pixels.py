"""Operations on pictures against PIL, colorsys and SciPy."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage
from torch import Tensor

from foveate.data import pixels


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def photo(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    """Colours that vary as in a photograph, with some noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(small).astype(int) + rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def tensor(picture: Image.Image) -> Tensor:
    """u8[1, 3, H, W]"""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]


def unit(picture: Image.Image) -> Tensor:
    return tensor(picture).float() / 255


def levels(found: Tensor, wanted: Image.Image) -> np.ndarray:
    """Differences in 255ths."""
    return (found[0].permute(1, 2, 0).numpy() * 255 - np.asarray(wanted).astype(float)).round(3)


@pytest.mark.parametrize("size", [24, 98, 130])
@pytest.mark.parametrize("box", [(0, 0, 80, 60), (13, 5, 61, 52), (30, 20, 37, 58), (79, 59, 80, 60)])
def test_cut_is_pils(size: int, box: tuple[int, int, int, int]) -> None:
    """Large to small and small to large; both ways of computing it."""
    picture = photo()
    wanted = picture.crop(box).resize((size, size), Image.Resampling.BICUBIC)
    boxes, still = torch.tensor([box]), torch.tensor([False])
    flipped = torch.tensor([True])
    for ours in (pixels.cut, pixels.cut_at_once):
        found = ours(tensor(picture), boxes, still, size)
        difference = np.abs(levels(found, wanted))
        assert difference.max() <= 2.001 and (difference > 0).mean() < (0.02 if wanted.size[0] > 30 else 0.25)
        assert torch.equal(ours(tensor(picture), boxes, flipped, size), found.flip(-1))


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.37])
def test_brightness_contrast_saturation_are_pils(factor: float) -> None:
    picture = photo(seed=1)
    for ours, theirs in (
        (pixels.brightness, ImageEnhance.Brightness),
        (pixels.contrast, ImageEnhance.Contrast),
        (pixels.saturation, ImageEnhance.Color),
    ):
        found = ours(unit(picture), torch.tensor([factor]))
        assert np.abs(levels(found, theirs(picture).enhance(factor))).max() <= 1.3 * max(
            1, factor
        )  # PIL cuts off to whole levels


def test_contrast_turns_around_a_whole_level() -> None:
    """PIL rounds the mean of 100 and 101 to 101."""
    picture = Image.fromarray(np.array([[[100] * 3, [101] * 3]], dtype=np.uint8))
    assert (np.asarray(ImageEnhance.Contrast(picture).enhance(0.0)) == 101).all()
    torch.testing.assert_close(pixels.contrast(unit(picture), torch.tensor([0.0])), torch.full((1, 3, 1, 2), 101 / 255))


@pytest.mark.parametrize("factor", [-0.5, -0.1, -0.03, 0.0, 0.07, 0.1, 0.4])
def test_hue_is_that_of_colorsys(factor: float) -> None:
    corners = [[r, g, b] for r in (0, 128, 255) for g in (0, 128, 255) for b in (0, 128, 255)]
    rows = np.concatenate([np.array(corners), np.random.default_rng(2).integers(0, 256, (300, 3))]) / 255
    wanted = [colorsys.hsv_to_rgb((h + factor) % 1, s, v) for h, s, v in (colorsys.rgb_to_hsv(*row) for row in rows.tolist())]
    found = pixels.hue(torch.from_numpy(rows.astype(np.float32)).T[None, :, :, None], torch.tensor([factor]))
    np.testing.assert_allclose(found[0, :, :, 0].T.numpy(), wanted, atol=2e-6)


def test_hue_is_near_pils() -> None:
    """torchvision turns PIL pictures in PIL's HSV, which has whole levels; a step of hue is 6 levels where a channel changes fastest."""
    picture = photo(seed=3)
    h, s, v = picture.convert("HSV").split()
    turned = Image.fromarray((np.asarray(h).astype(int) + 20).astype(np.uint8))
    wanted = Image.merge("HSV", (turned, s, v)).convert("RGB")
    difference = np.abs(levels(pixels.hue(unit(picture), torch.tensor([20 / 255])), wanted))
    assert difference.max() < 12 and difference.mean() < 0.8


def test_grey_is_pils() -> None:
    picture = photo(seed=4)
    assert np.abs(levels(pixels.grey(unit(picture)).repeat(1, 3, 1, 1), picture.convert("L").convert("RGB"))).max() <= 0.502


def test_solarise_is_pils() -> None:
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    assert np.abs(levels(pixels.solarise(unit(picture)), ImageOps.solarize(picture, 128))).max() < 1e-3
    assert pixels.solarise(torch.full((1, 3, 1, 1), 127.6 / 255)).max() < 0.5  # would be stored as 128


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_is_scipys(sigma: float) -> None:
    picture = unit(photo(seed=5))
    bell = np.exp(-0.5 * (np.arange(-4, 5) / sigma) ** 2)
    wanted = picture[0].double().numpy()
    for axis in (1, 2):
        wanted = ndimage.correlate1d(wanted, bell / bell.sum(), axis=axis, mode="mirror")
    np.testing.assert_allclose(pixels.blur(picture, torch.tensor([sigma]))[0].numpy(), wanted, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 99))
def test_a_picture_does_not_see_the_others(count: int, seed: int) -> None:
    """Bit for bit, in a batch and alone, whatever its factor."""
    rng = np.random.default_rng(seed)
    batch = torch.from_numpy(rng.random((count, 3, 20, 16), dtype=np.float32))
    factor = torch.from_numpy(rng.uniform(0.1, 0.5, count).astype(np.float32))
    for change in (pixels.brightness, pixels.contrast, pixels.saturation, pixels.hue, pixels.blur):
        together, before = change(batch, factor), batch.clone()
        for k in range(count):
            assert torch.equal(change(batch[k : k + 1], factor[k : k + 1])[0], together[k])
        assert torch.equal(batch, before)


def test_pictures_read_from_disk_are_the_pictures_of_pil() -> None:
    """Layout and order of colours: a red, a green and a blue corner stay where they are."""
    picture = Image.new("RGB", (8, 8))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.putpixel((7, 0), (0, 255, 0))
    picture.putpixel((0, 7), (0, 0, 255))
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    found = pixels.cut(tensor(Image.open(stored).convert("RGB")), torch.tensor([[0, 0, 8, 8]]), torch.tensor([False]), 8)
    assert found[0, 0, 0, 0] == found[0, 1, 0, 7] == found[0, 2, 7, 0] == 1 and found.sum() == 3
