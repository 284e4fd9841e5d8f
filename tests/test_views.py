"""Views of pictures: what is drawn, that it belongs to the sample alone, and what the published runs really did."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveate.data import pixels
from foveate.data.augment import Augmentation, Draws, Kind, draw, make, recolour, views, whole_pixels

MINI = Augmentation(large=28, small=12, smalls=3)
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def frames(count: int, height: int = 40, width: int = 48, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, height, width)).astype(np.uint8))


def drawn(kind: int, how: Augmentation = MINI, count: int = 4000, content: tuple[int, ...] = (0, 0, 256, 256)) -> Draws:
    boxes = np.tile(np.array(content, dtype=np.int64), (count, 1))
    return draw(boxes, np.arange(count), 0, 0, f"view {kind}", how.kinds()[kind], how)


@pytest.mark.parametrize(("nominal", "shares"), [(False, (0.0, 0.9, 0.5)), (True, (1.0, 0.1, 0.5))])
def test_blur_as_the_published_runs_did_it_and_as_they_say(nominal: bool, shares: tuple[float, ...]) -> None:
    for kind, share in enumerate(shares):
        blurred = drawn(kind, replace(MINI, nominal_blur=nominal)).sigma
        assert abs((blurred > 0).mean() - share) < 0.03
        assert ((blurred == 0) | ((blurred >= 0.1) & (blurred <= 2))).all()


def test_probabilities_and_factors() -> None:
    first, second, small = (drawn(kind) for kind in range(3))
    assert not first.solarise.any() and not small.solarise.any() and abs(second.solarise.mean() - 0.2) < 0.03
    for draws in (first, second, small):
        jittered = ~np.isnan(draws.factor).any(1)
        assert abs(draws.flip.mean() - 0.5) < 0.04 and abs(draws.grey.mean() - 0.2) < 0.03 and abs(jittered.mean() - 0.8) < 0.03
        for column, (low, high) in zip(
            draws.factor[jittered].T, ((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)), strict=True
        ):
            assert low <= column.min() < low + 0.01 and high - 0.01 < column.max() <= high
            assert abs(column.mean() - (low + high) / 2) < 0.02
        orders = np.unique(draws.order, axis=0, return_counts=True)[1]
        assert len(orders) == 24 and abs(orders - 4000 / 24).max() < 70  # five standard errors
        gates = np.stack([draws.flip, draws.grey, jittered, draws.box[:, 0] > 40])
        assert np.abs(np.corrcoef(gates) - np.eye(4)).max() < 0.08
    assert (first.flip != second.flip).any() and (first.order != second.order).any()


def test_boxes_of_square_pictures() -> None:
    for kind, (low, high) in ((0, (0.32, 1.0)), (2, (0.05, 0.32))):
        x0, y0, x1, y1 = drawn(kind, MINI).box.T
        area, aspect = (x1 - x0) * (y1 - y0) / 256**2, (x1 - x0) / (y1 - y0)
        assert x0.min() >= 0 and x1.max() <= 256 and y1.max() <= 256
        assert low - 0.01 < area.min() < low + 0.01 and high - 0.02 < area.max() < high + 0.003  # whole pixels
        assert aspect.min() > 3 / 4 - 0.02 and aspect.max() < 4 / 3 + 0.02 and abs(np.log(aspect).mean()) < 0.02
        wanted = (low + high) / 2
        assert abs(area.mean() - wanted) < (0.02 if kind else 0.06)  # the largest do not always fit
        if kind:
            room = (x0 / (256 - (x1 - x0)))[x1 - x0 < 250]
            assert abs(room.mean() - 0.5) < 0.03 and room.min() < 0.01 and room.max() > 0.99


def test_boxes_reach_every_border_alike() -> None:
    box, counts = drawn(2, MINI, 4000, (2, 3, 12, 13)).box, []
    for low, high in ((0, 2), (1, 3)):
        size = box[:, high] - box[:, low]
        places = box[size == 4, low] - (2, 3)[low]
        counts.append(np.bincount(places, minlength=7))
    assert all(len(count) == 7 and count.min() > 0.8 * count.mean() for count in counts)


def test_long_pictures_fall_back_to_the_middle() -> None:
    """A strip in which no box of an allowed aspect has the area: the largest allowed one, in the middle, as torchvision does."""
    box = drawn(0, MINI, 50, (0, 0, 300, 20)).box
    wide = round(20 * 4 / 3)
    assert (box == [(300 - wide) // 2, 0, (300 - wide) // 2 + wide, 20]).all()
    assert (drawn(0, MINI, 5, (3, 5, 23, 305)).box == [3, 5 + (300 - 27) // 2, 23, 5 + (300 - 27) // 2 + 27]).all()
    assert (drawn(2, MINI, 5, (7, 7, 8, 8)).box == [7, 7, 8, 8]).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_crops_stay_inside_what_is_content(corners: list[float], height: int, width: int, index: int) -> None:
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    content = whole_pixels(torch.tensor([[x0, y0, x1, y1]]), height, width)
    assert (content[0, :2] < content[0, 2:]).all() and content.min() >= 0
    for kind in MINI.kinds():
        box = draw(content, np.array([index]), 0, 0, "x", kind, MINI).box
        assert (box[:, :2] >= content[:, :2]).all() and (box[:, 2:] <= content[:, 2:]).all() and (box[:, :2] < box[:, 2:]).all()


def test_letterbox_never_shows() -> None:
    pictures = frames(6) // 2 + 100
    pictures[:, :, :10] = 0
    pictures[:, :, :, 36:] = 0
    valid = torch.tensor([[0, 10 / 40, 36 / 48, 1]]).repeat(6, 1)
    plain = replace(MINI, jitter=0.0, grey=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    seen = views(pictures, valid, torch.arange(6), 0, 0, plain)
    bright = torch.cat([seen.large[:6].flatten(), seen.small.flatten()])  # the second large one may be solarised
    assert bright.min() > 60 / 255


def test_views_belong_to_their_sample() -> None:
    """Bit for bit: in another order, in another batch, as another process would see them; not in another step, seed or sample."""
    pictures, valid, index = frames(7), WHOLE.repeat(7, 1), torch.arange(40, 47)
    together = views(pictures, valid, index, 5, 9, MINI)
    order = torch.tensor([4, 1, 6])
    some = views(pictures[order], valid[order], index[order], 5, 9, MINI)
    for whole, part in ((together.large, some.large), (together.small, some.small)):
        assert torch.equal(whole.unflatten(0, (-1, 7))[:, order].flatten(0, 1), part)
    for seed, step, first in ((6, 9, 40), (5, 10, 40), (5, 9, 41)):
        other = views(pictures, valid, torch.arange(first, first + 7), seed, step, MINI)
        assert not torch.equal(other.large, together.large)
    a, b = together.large.chunk(2)
    assert not torch.equal(a, b) and together.large.shape == (14, 3, 28, 28) and together.small.shape == (21, 3, 12, 12)


def test_all_at_once_is_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does in batches and a CPU picture by picture, bit for bit but for the resampling (see test_pixels)."""
    how = MINI
    many = draw(np.tile([[0, 0, 48, 40]], (30, 1)), np.arange(30), 0, 0, "view 1", how.kinds()[1], how)
    pictures = torch.rand(30, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    at_once = recolour(pictures.clone(), many)
    for k in range(30):
        assert torch.equal(recolour(pictures[k : k + 1].clone(), many, k)[0], at_once[k])
    one_by_one = views(frames(5), WHOLE.repeat(5, 1), torch.arange(5), 0, 0, how)
    for cache in (1, 5_000, 10**9):  # one picture at a time, two or more, all
        monkeypatch.setattr("foveate.data.augment._CACHE", cache)
        helpings = views(frames(5), WHOLE.repeat(5, 1), torch.arange(5), 0, 0, how)
        assert torch.equal(helpings.large, one_by_one.large) and torch.equal(helpings.small, one_by_one.small)


def test_order_of_the_changes() -> None:
    """Cut, flip, jitter in the drawn order, grey, blur, solarise, normalise; said with single operations."""
    pictures = frames(30, seed=3)
    how, kind = replace(MINI, grey=0.5), Kind(28, (0.3, 1.0), blur=0.5, solarise=0.3)
    draws = draw(np.tile([[0, 0, 48, 40]], (30, 1)), np.arange(30), 1, 0, "view 1", kind, how)
    found = make(pictures, draws, 28, how)
    changes = (pixels.brightness, pixels.contrast, pixels.saturation, pixels.hue)
    for k in range(30):
        x = pixels.cut(pictures[k : k + 1], torch.from_numpy(draws.box[k : k + 1]), torch.from_numpy(draws.flip[k : k + 1]), 28)
        for number in draws.order[k] if not math.isnan(draws.factor[k, 0]) else ():
            x = changes[number](x, torch.tensor([draws.factor[k, number]], dtype=torch.float32))
        if draws.grey[k]:
            x = pixels.grey(x).repeat(1, 3, 1, 1)
        if draws.sigma[k]:
            x = pixels.blur(x, torch.tensor([draws.sigma[k]], dtype=torch.float32))
        if draws.solarise[k]:
            x = pixels.solarise(x)
        x = (x[0] - torch.tensor(how.mean).view(3, 1, 1)) / torch.tensor(how.std).view(3, 1, 1)
        torch.testing.assert_close(found[k], x)
    assert draws.solarise.any() and draws.grey.any() and not draws.grey.all() and (draws.sigma == 0).any()
