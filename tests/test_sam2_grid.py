"""Masks of a grid of points: those that the library gives point by point, chosen and thinned out by the published rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.models.sam2 import Segmenter, open_sam2
from foveate.track.sam2 import grid
from tests import tracked
from tests.tiny_sam2 import SIZE, make_sam2

HEIGHT, WIDTH = tracked.HEIGHT, tracked.WIDTH


@pytest.fixture(scope="module", params=["sam2_video", "edgetam_video"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return open_sam2(str(make_sam2(tmp_path_factory.mktemp("sam2"), request.param)))


def test_masks_are_those_of_single_points(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "SAME", 1.0)
    monkeypatch.setattr(grid, "_AT_ONCE", 7)
    picture = tracked.picture(0)
    found = grid.mask_grid(model, picture, SIZE // 4, SIZE // 4, points=4, rated=-1e9, stable=0)
    expected = set()
    for y in range(4):
        for x in range(4):
            with torch.inference_mode():
                out = model.module._single_frame_forward(
                    pixel_values=model.pixels(picture)[None],
                    input_points=torch.tensor([[[[(x + 0.5) * SIZE / 4, (y + 0.5) * SIZE / 4]]]]),
                    input_labels=torch.ones(1, 1, 1, dtype=torch.int32),
                    multimask_output=True,
                )
            if out.object_score_logits > 0 and (out.pred_masks > 0).any():  # the library empties masks of absent objects
                expected.add((out.pred_masks[0, 0] > 0).numpy().tobytes())
    ours = {proposal.mask.tobytes() for proposal in found}
    assert expected <= ours and len(expected) > 3
    ratings = [proposal.rating for proposal in found]
    assert ratings == sorted(ratings, reverse=True)


def test_only_what_is_rated_and_stable_is_proposed(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "SAME", 1.0)
    picture = tracked.picture(0)
    everything = grid.mask_grid(model, picture, HEIGHT, WIDTH, points=6, rated=-1e9, stable=0)
    level = float(np.median([proposal.stability for proposal in everything]))
    fewer = grid.mask_grid(model, picture, HEIGHT, WIDTH, points=6, rated=-1e9, stable=level)
    assert fewer and len(fewer) < len(everything) and all(proposal.stability >= level for proposal in fewer)
    assert all(proposal.mask.shape == (HEIGHT, WIDTH) and proposal.mask.any() for proposal in everything)
    assert not grid.mask_grid(model, picture, HEIGHT, WIDTH, points=2, rated=1e9)


def test_stability_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.5], [-0.5, -2.0]], [[-3.0, -3.0], [-3.0, -3.0]], [[5.0, 5.0], [5.0, -5.0]]])
    assert grid.stability_of(logits).tolist() == pytest.approx([1 / 3, 0, 1])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_no_two_are_the_same_thing(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 10, 10), bool)
    for mask in masks:
        x, y, w, h = *rng.integers(0, 5, 2), *rng.integers(1, 6, 2)
        mask[y : y + h, x : x + w] = True
    rating = rng.random(count).astype(np.float32)
    kept = grid.different(torch.from_numpy(masks), torch.from_numpy(rating))

    def overlap(one: int, other: int) -> float:
        return float((masks[one] & masks[other]).sum() / (masks[one] | masks[other]).sum())

    assert kept and kept[0] == rating.argmax()
    assert all(overlap(one, other) <= grid.SAME for one in kept for other in kept if one != other)
    for left in set(range(count)) - set(kept):  # each that is left out has a better one in its place
        assert any(overlap(left, one) > grid.SAME and rating[one] >= rating[left] for one in kept)
