"""Crops that cover the subject, frames that may be references, and one geometry for pictures and masks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveate import masks as rle
from foveate.data import constrained
from foveate.data.clips import Shape
from foveate.data.constrained import boxes
from foveate.data.draws import uniform
from foveate.data.pairs import Crops, cropped
from foveate.data.sampler import Sampler
from foveate.data.sources import Source
from foveate.data.usable import Usable

_ROUNDING = 1.5  # pixels of a side


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ellipse(height: int, width: int, x: float, y: float, a: float, b: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    inside = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
    inside[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = True
    return inside


def covered(mask: np.ndarray, box: list[int]) -> float:
    x0, y0, x1, y1 = box
    return float(mask[y0:y1, x0:x1].sum() / mask.sum())


@settings(max_examples=120, deadline=None)
@given(
    st.integers(24, 90),
    st.integers(24, 90),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.02, 0.7),
    st.floats(0.02, 0.7),
    st.sampled_from([0.2, 0.3, 0.6, 0.95]),
    st.integers(0, 9999),
)
def test_a_crop_covers_enough_of_the_mask(
    height: int, width: int, x: float, y: float, a: float, b: float, cover: float, seed: int
) -> None:
    mask = ellipse(height, width, x * width, y * height, a * width, b * height)
    content = np.array([[0, 0, width, height]])
    drawn = uniform(seed, 0, np.arange(1), "crop", constrained.NUMBERS)
    box, accepted = boxes(torch.from_numpy(mask)[None], content, drawn, cover)
    (x0, y0, x1, y1), wide, tall = box[0].tolist(), float(box[0, 2] - box[0, 0]), float(box[0, 3] - box[0, 1])
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    share = covered(mask, box[0].tolist())
    if accepted[0]:
        assert share >= min(cover, 0.4 * height * width / mask.sum()) - 1e-9
        assert (wide - _ROUNDING) / (tall + _ROUNDING) <= 4 / 3 and (wide + _ROUNDING) / (tall - _ROUNDING) >= 3 / 4
        assert wide * tall >= 0.4 * height * width - wide - tall
    else:
        assert share == 1
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        longest = max((columns[-1] - columns[0] + 1) / height, (rows[-1] - rows[0] + 1) / width) * 3 / 4
        if longest < 0.9:  # else no allowed box around the mask fits into the picture
            assert (wide - _ROUNDING) / (tall + _ROUNDING) <= 4 / 3 and (wide + _ROUNDING) / (tall - _ROUNDING) >= 3 / 4


def test_a_mask_that_no_crop_could_cover_lowers_the_bar() -> None:
    """Reachable only above mu .4: with .6, a mask of nine tenths of the picture is asked for 4 / 9 of itself."""
    mask = np.ones((60, 60), bool)
    mask[:6] = False
    drawn = uniform(3, 0, np.arange(200), "crop", constrained.NUMBERS)
    content, masks = np.tile([0, 0, 60, 60], (200, 1)), torch.from_numpy(mask).expand(200, -1, -1)
    box, accepted = boxes(masks, content, drawn, 0.6)
    shares = np.array([covered(mask, one) for one in box.tolist()])
    assert accepted.all() and shares.min() >= 0.4 / 0.9 - 1e-9 and shares.min() < 0.6


def test_both_branches_are_taken_and_neither_always_the_same() -> None:
    """A small subject in a corner: some crops are drawn, others have to be put around it."""
    mask = ellipse(80, 100, 88, 10, 6, 6)
    drawn = uniform(1, 0, np.arange(300), "crop", constrained.NUMBERS)
    content, masks = np.tile([0, 0, 100, 80], (300, 1)), torch.from_numpy(mask).expand(300, -1, -1)
    box, accepted = boxes(masks, content, drawn, 0.99)
    assert 0.3 < float(accepted.float().mean()) < 0.999
    assert len({tuple(one) for one in box.tolist()}) > 250
    far = uniform(1, 0, np.arange(300), "crop", constrained.NUMBERS)
    far[:, 2 : 4 * constrained.TRIES : 4] = 0.0  # every try at the left
    box, accepted = boxes(masks, content, far, 0.99)
    assert not accepted[box[:, 0] > 0].any() and all(covered(mask, one) >= 0.99 for one in box.tolist())


def test_centres_are_drawn_around_the_subject() -> None:
    """The Gaussian of the published code, cut off at the picture: its mean by sampling anew until one fits."""
    mask = ellipse(100, 100, 20, 50, 8, 8)
    drawn = uniform(5, 0, np.arange(1500), "crop", constrained.NUMBERS)
    drawn[:, 0:40:4], drawn[:, 1:40:4] = 0.0, 0.5  # crops of two fifths of the picture, square: 63 pixels
    content, masks = np.tile([0, 0, 100, 100], (1500, 1)), torch.from_numpy(mask).expand(1500, -1, -1)
    box, _ = boxes(masks, content, drawn, 0.0)
    centre = ((box[:, 0] + box[:, 2]) / 2).numpy()
    rng = np.random.default_rng(0)
    wanted = rng.normal(20, 100, 100_000)
    wanted = wanted[(wanted >= 31.5) & (wanted <= 68.5)]
    assert abs(centre.mean() - wanted.mean()) < 1
    assert abs(centre.std() - wanted.std()) < 1
    assert centre.mean() < 50


def test_crops_stay_within_what_is_content() -> None:
    mask = np.ones((40, 40), bool)
    content = np.array([[4, 10, 36, 30]])
    for seed in range(50):
        drawn = uniform(seed, 0, np.arange(1), "crop", constrained.NUMBERS)
        x0, y0, x1, y1 = boxes(torch.from_numpy(mask)[None], content, drawn, 0.3)[0][0].tolist()
        assert 4 <= x0 < x1 <= 36 and 10 <= y0 < y1 <= 30


# --- one geometry ----------------------------------------------------------------------------------------------------------------


def blob(seed: int, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y, a, b = rng.uniform([30, 30, 12, 12], [66, 66, 28, 28])
    return ellipse(side, side, x, y, a, b)


def plain(**changes: object) -> Crops:
    return Crops(size=64, jitter=0.0, grey=0.0, blur=0.0, mean=(0, 0, 0), std=(1, 1, 1), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", [plain(cover=0.3), plain(cover=0.3, flip=1.0), plain(), plain(area=(0.05, 0.2), flip=0.5)])
def test_a_picture_of_the_mask_stays_on_the_mask(how: Crops) -> None:
    """Pictures whose pixels are the mask, through the whole of it: what comes out as mask lies where the picture is bright."""
    masks = torch.from_numpy(np.stack([blob(seed) for seed in range(12)]))
    frames = (masks[:, None, None] * 255).byte().expand(-1, 3, 3, -1, -1)
    valid = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(12, 1)
    found = cropped(frames, masks, valid, torch.arange(12), 0, 0, "query", how)
    assert found.pictures.shape == (12, 3, 3, 64, 64) and found.mask.shape == (12, 64, 64)
    for picture, mask in zip(found.pictures, found.mask, strict=True):
        for frame in range(3):
            seen, said = picture[0, frame] > 0.5, mask > 0.5
            if said.any() or seen.any():
                assert float((seen & said).sum() / (seen | said).sum()) > 0.98


def test_draws_belong_to_samples() -> None:
    """Not to who lies beside them; the two crops of a sample differ; a clip's frames are changed alike."""
    masks = torch.from_numpy(np.stack([blob(seed) for seed in range(6)]))
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 1, 3, 96, 96)).astype(np.uint8)).expand(
        -1, 2, -1, -1, -1
    )
    valid, how = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(6, 1), Crops(size=32, cover=0.3)
    whole = cropped(frames, masks, valid, torch.arange(6), 0, 5, "query", how)
    part = cropped(frames[2:4], masks[2:4], valid[2:4], torch.arange(2, 4), 0, 5, "query", how)
    assert torch.equal(whole.pictures[2:4], part.pictures) and torch.equal(whole.mask[2:4], part.mask)
    assert torch.equal(whole.pictures[:, :, 0], whole.pictures[:, :, 1])
    for changed in ((0, 6, "query"), (1, 5, "query"), (0, 5, "key")):
        assert not torch.equal(cropped(frames, masks, valid, torch.arange(6), *changed, how).pictures, whole.pictures)


def test_without_a_mask_crops_are_ordinary_ones() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 1, 3, 64, 64)).astype(np.uint8))
    valid, how = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(4, 1), Crops(size=32, cover=0.3)

    def made(masks: Tensor | None, how: Crops = how) -> Tensor:
        found = cropped(frames, masks, valid, torch.arange(4), 0, 0, "query", how)
        assert float(found.mask[~found.shown].abs().sum()) == 0
        return found.pictures

    masks = torch.zeros(4, 64, 64, dtype=torch.bool)
    masks[1, 10:30, 10:30] = True
    assert torch.equal(made(None), made(torch.zeros_like(masks)))
    assert torch.equal(made(None)[[0, 2, 3]], made(masks)[[0, 2, 3]]) and not torch.equal(made(None)[1], made(masks)[1])
    assert torch.equal(made(masks, Crops(size=32)), made(None))


# --- which frames may be references ----------------------------------------------------------------------------------------------


def source(shares: list[float | None], side: int = 100) -> Source:
    runs = []
    for share in shares:
        mask = np.zeros((side, side), bool)
        mask.reshape(-1)[: round((share or 0) * side * side)] = True
        runs.append(None if share is None else rle.encode(mask))
    count = len(shares)
    return Source(
        name=f"video {count} {shares[:3]}",
        video="v",
        subject="a",
        size=(side, side),
        frame=np.arange(count),
        time=np.arange(count) / 10,
        valid=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        read=lambda start, number: [],
        rles=pa.array(runs, pa.binary()),
    )


def test_usable_frames() -> None:
    one = source([0.5, 0.004, None, 0.005, 0.0, 0.2])
    assert Usable().frames(one).tolist() == [True, False, False, True, False, True]
    clips = np.array([[0, 1, 2], [1, 2, 3], [3, 4, 5]])
    assert Usable().accepts(one, clips).tolist() == [True, False, True]
    assert Usable(reference=2).accepts(one, clips).tolist() == [False, True, True]
    assert Usable(reference=16).accepts(one, clips[:, :1]).tolist() == [True, False, True]


def test_sixty_frames_are_enough_and_fifty_nine_are_not() -> None:
    few, enough = source([0.15] * 59 + [0.14] * 9), source([0.15] * 60)
    rule = Usable.paper()
    assert not rule.frames(few).any() and rule.frames(enough).all()
    assert not rule.accepts(few, np.arange(59)[:, None]).any()
    assert Usable.paper(16).reference == 16


def test_the_share_of_constrained_clips() -> None:
    """Counted in clips as they are drawn: a source without masks has none, one usable frame is enough for all of a source's."""
    sources = [source(shares) for shares in ([None] * 4, [None] * 5, [0.5] + [None] * 5, [0.5] * 7)]
    assert not Usable().frames(sources[0]).any()
    data = Sampler(sources, 2, shape=Shape(draws=2), rule=Usable())
    assert data.share_wanted() == 0.5 and Sampler(sources, 2, shape=Shape(draws=2)).share_wanted() == 1
    assert Sampler(sources, 2, shape=Shape(draws=2), rule=Usable(least=2)).share_wanted() == 0.25
