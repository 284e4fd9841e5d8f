"""Label propagation on arrays of tokens: what has to hold whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.settings import TrackSettings
from foveate.track.pixels import guided_filter, to_mask, upsample
from foveate.track.propagate.parts import keep_connected, one_each
from foveate.track.propagate.propagator import Propagator, ballot, elected, share_out, unit

ROWS, COLUMNS, WIDTH = 9, 12, 32


def scene(seed: int) -> torch.Tensor:
    """Tokens of a frame in which every patch looks different."""
    return torch.randn(ROWS, COLUMNS, WIDTH, generator=torch.Generator().manual_seed(seed))


def square(row: int, column: int, size: int = 3) -> torch.Tensor:
    labels = torch.zeros(ROWS, COLUMNS)
    labels[row : row + size, column : column + size] = 1
    return labels


def animal(seed: int, row: int, column: int) -> torch.Tensor:
    """A frame in which the patches of a square have something in common."""
    tokens = scene(seed)
    tokens[row : row + 3, column : column + 3] += 2 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(99))
    return tokens


def tracker(subjects: int = 1, **changes: int | float) -> Propagator:
    return Propagator(TrackSettings(**changes), ROWS, COLUMNS, subjects)  # type: ignore[arg-type]


def test_a_still_video_keeps_its_first_mask() -> None:
    follow = tracker(topk=1)
    follow.step(animal(0, 2, 3), {0: square(2, 3)})
    for _ in range(20):
        (found,) = follow.step(animal(0, 2, 3))
        assert (
            found is not None
            and torch.equal(found.labels > 0.5, square(2, 3) > 0)
            and found.identity == pytest.approx(1, abs=1e-3)
        )


@given(st.integers(-2, 2), st.integers(-2, 2))
@settings(max_examples=15, deadline=None)
def test_a_moving_picture_moves_the_mask(down: int, right: int) -> None:
    follow = tracker(topk=1, radius=3)
    follow.step(animal(1, 3, 4), {0: square(3, 4)})
    (found,) = follow.step(animal(1, 3, 4).roll((down, right), (0, 1)))
    assert found is not None and torch.equal(found.labels > 0.5, square(3 + down, 4 + right) > 0)


def test_two_subjects_share_no_patch() -> None:
    follow = tracker(subjects=2)
    follow.step(scene(2), {0: square(1, 1), 1: square(4, 7)})
    for shift in range(1, 4):
        one, two = follow.step(scene(2).roll(shift, 1))
        assert one is not None and two is not None
        assert float((one.labels + two.labels).max()) <= 1 + 1e-6
        assert one.labels.argmax() != two.labels.argmax()


def test_a_subject_without_a_prompt_is_nowhere() -> None:
    follow = tracker(subjects=2)
    assert follow.step(scene(3))[0] is None
    one, two = follow.step(scene(3), {1: square(0, 0)})
    assert one is None and two is not None and two.prompted


def test_what_looks_like_nothing_known_is_lost_and_found_again() -> None:
    follow = tracker()
    subject = torch.ones(WIDTH)
    empty = scene(4) - scene(4).mean(-1, keepdim=True)  # orthogonal to the subject

    def with_subject(row: int, column: int) -> torch.Tensor:
        picture = empty.clone()
        picture[row : row + 3, column : column + 3] = subject + 0.05 * scene(5)[:3, :3]
        return picture

    follow.step(with_subject(1, 1), {0: square(1, 1)})
    for _ in range(9):  # longer than the context reaches back
        (found,) = follow.step(empty)
    assert found is not None and not found.labels.any()
    (found,) = follow.step(with_subject(5, 8))
    assert found is not None and float((found.labels > 0.5).float().mul(square(5, 8)).sum()) >= 7


def test_memory_does_not_grow() -> None:
    follow = tracker(context=4)
    for i in range(30):
        follow.step(scene(i), {0: square(i % 5, i % 7)} if i % 3 == 0 else None)
    assert len(follow.recent) == 4 and len(follow.prompted) == 4


def test_stored_and_restored_goes_on_with_the_same_numbers() -> None:
    straight, other = tracker(subjects=2), tracker(subjects=2)
    pictures = [scene(7).roll(i, 1) + 0.3 * scene(10 + i) for i in range(8)]
    for i, picture in enumerate(pictures):
        given_labels = {0: square(1, 1), 1: square(5, 6)} if i == 0 else None
        expected = straight.step(picture, given_labels)
        if i == 4:
            state = other.state()
            other = tracker(subjects=2)
            other.restore(state)
        found = other.step(picture, given_labels)
        for one, two in zip(expected, found, strict=True):
            assert one is not None and two is not None and torch.equal(one.labels, two.labels) and one.identity == two.identity


def test_parts_that_appear_elsewhere_are_dropped() -> None:
    before = square(1, 1)
    labels = square(1, 1) + 0.9 * square(5, 8)
    assert torch.equal(keep_connected(labels, before, 0.3), square(1, 1))
    assert torch.equal(keep_connected(labels, square(5, 8), 0.3) > 0, square(5, 8) > 0)
    assert torch.equal(keep_connected(before, None, 0.3), before)


def test_a_subject_behind_a_pole_keeps_both_of_its_sides() -> None:
    whole = torch.zeros(ROWS, COLUMNS)
    whole[3:6, 2:9] = 1
    for width, sides in ((1, 2), (2, 2), (3, 1)):  # of the pole, in patches
        split = whole.clone()
        split[:, 5 : 5 + width] = 0
        kept = keep_connected(split, square(3, 2), 0.3)  # where nothing was on the far side before
        assert torch.equal(kept, split) if sides == 2 else torch.equal(kept, square(3, 2))
    speck = square(3, 2, 4)
    speck[3, 8] = 0.9  # as near, but too little to be its other side
    assert torch.equal(keep_connected(speck, square(3, 2, 4), 0.3), square(3, 2, 4))


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_shares_never_exceed_one_and_prompts_stay(seed: int) -> None:
    labels = torch.rand(ROWS, COLUMNS, 3, generator=torch.Generator().manual_seed(seed))
    out = share_out(labels, [True, False, False])
    assert torch.equal(out[..., 0], labels[..., 0]) and float(out.sum(-1).max()) <= 1 + 1e-5
    assert bool((out.sum(-1) <= labels.sum(-1) + 1e-5).all()) and bool((out >= 0).all())
    # Between two, the larger claim grows and the smaller one shrinks; one alone keeps what it has.
    before, after = (x[..., 1] / x[..., 1:].sum(-1).clamp(min=1e-9) for x in (labels, out))
    free = out[..., 1:].sum(-1) > 1e-4
    assert bool((((after - before) * (before - 0.5))[free] >= -1e-5).all())
    assert torch.equal(share_out(labels[..., 1:2], [False]), labels[..., 1:2])


def test_two_that_mixed_get_a_part_each_when_they_come_apart() -> None:
    labels = torch.zeros(ROWS, COLUMNS, 2)
    labels[2:6, 1:4] = torch.tensor([0.7, 0.3])
    labels[2:6, 8:11] = torch.tensor([0.4, 0.5])
    labels[2:6, 4] = torch.tensor([0.02, 0.1])  # a faint rim goes with its part
    found = one_each(labels, [12.0, 12.0], 0.3)
    assert torch.equal(found.sum(-1), labels.sum(-1))
    assert not found[:, :6, 1].any() and not found[:, 6:, 0].any() and bool((found[2:6, 1:4, 0] == 1).all())
    swapped = one_each(labels.flip(-1), [12.0, 12.0], 0.3)
    assert torch.equal(swapped, found.flip(-1))


@pytest.mark.parametrize(
    "shares",
    [
        [(1.0, 0.0), (0.0, 1.0)],  # nothing is mixed
        [(0.5, 0.5), (0.0, 0.0)],  # they still touch
        [(0.5, 0.5), (0.1, 0.0)],  # the other part is too small to be an animal
    ],
)
def test_what_is_not_mixed_or_not_apart_stays(shares: list[tuple[float, float]]) -> None:
    labels = torch.zeros(ROWS, COLUMNS, 2)
    labels[2:6, 1:4], labels[2:6, 8:11] = (torch.tensor(share) for share in shares)
    assert torch.equal(one_each(labels, [12.0, 12.0], 0.05), labels)
    mixed = torch.zeros(ROWS, COLUMNS, 2)
    mixed[2:6, 1:4], mixed[2:6, 8:11] = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.5])
    assert torch.equal(one_each(mixed, [0.0, 12.0], 0.3), mixed), "a subject that was just prompted takes no part"


def test_tokens_have_length_one_and_survive_half_precision() -> None:
    given = scene(1)
    tokens = unit(given, given.flatten(0, 1).mean(0))
    assert tokens.norm(dim=-1).sub(1).abs().max() < 1e-3 and torch.equal(tokens, tokens.half().float())


def test_masks_of_pixels_follow_the_edge_in_the_picture() -> None:
    picture = np.full((ROWS * 14, COLUMNS * 14, 3), 40, np.uint8)
    picture[30:80, 45:110] = 210  # the true outline lies between patch borders
    labels = np.zeros((ROWS, COLUMNS), np.float32)
    cells = np.zeros((ROWS * 14, COLUMNS * 14))
    cells[30:80, 45:110] = 1
    labels[:] = cells.reshape(ROWS, 14, COLUMNS, 14).mean((1, 3))
    mask = to_mask(labels, picture, ROWS * 14, COLUMNS * 14)
    truth = cells > 0
    coarse = upsample(labels, ROWS * 14, COLUMNS * 14) > 0.5
    fine_iou = (mask & truth).sum() / (mask | truth).sum()
    assert fine_iou > 0.97 > (coarse & truth).sum() / (coarse | truth).sum()
    empty = to_mask(np.zeros((ROWS, COLUMNS), np.float32), picture, 50, 60)
    assert empty.shape == (50, 60) and not empty.any()


def test_the_guided_filter_keeps_constants_and_follows_its_guide() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert np.allclose(guided_filter(picture, np.full((40, 50), 0.3, np.float32), 4), 0.3, atol=1e-4)
    linear = (picture[..., 0] + 2 * picture[..., 2].astype(np.float32)) / 800  # a linear function of the guide is kept
    assert np.allclose(guided_filter(picture, linear, 4, 1e-8), linear, atol=5e-3)


def test_the_guided_filter_is_that_of_the_paper() -> None:
    """He, Sun and Tang (2013), equations 19 to 21, window by window in double precision; only where no window leaves the picture."""
    rng = np.random.default_rng(1)
    radius, epsilon = 2, 1e-3
    picture = rng.integers(0, 255, (16, 18, 3), dtype=np.uint8)
    values = rng.random((16, 18)).astype(np.float32)
    guide, side = picture.astype(np.float64) / 255, 2 * radius + 1
    slope, offset = np.zeros((16, 18, 3)), np.zeros((16, 18))
    for y in range(radius, 16 - radius):
        for x in range(radius, 18 - radius):
            colours = guide[y - radius :, x - radius :][:side, :side].reshape(-1, 3)
            own = values[y - radius :, x - radius :][:side, :side].ravel().astype(np.float64)
            spread = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
            slope[y, x] = np.linalg.solve(spread, (colours * own[:, None]).mean(0) - colours.mean(0) * own.mean())
            offset[y, x] = own.mean() - slope[y, x] @ colours.mean(0)
    found = guided_filter(picture, values, radius, epsilon)
    for y in range(2 * radius, 16 - 2 * radius):
        for x in range(2 * radius, 18 - 2 * radius):
            a, b = (v[y - radius :, x - radius :][:side, :side] for v in (slope, offset))
            assert abs(a.mean((0, 1)) @ guide[y, x] + b.mean() - found[y, x]) < 1e-5


def test_memories_asked_one_by_one_elect_what_all_together_would() -> None:
    torch.manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(11, 6), dim=-1)
    memories = [(torch.nn.functional.normalize(torch.randn(n, 6), dim=-1), torch.rand(n)) for n in (3, 20)]
    near = torch.rand(11, 20) < 0.5
    found = elected([ballot(query, (*memories[0], None, 0.1), 5), ballot(query, (*memories[1], near, 0.0), 5)], 5, 0.1)
    cosine = torch.cat([query @ memories[0][0].T + 0.1, torch.where(near, query @ memories[1][0].T, -torch.inf)], dim=1)
    labels = torch.cat([memories[0][1], memories[1][1]])
    for own, label in zip(cosine, found, strict=True):
        best = own.sort(descending=True)
        weight = (best.values[:5] / 0.1).exp()
        assert abs(float((weight * labels[best.indices[:5]]).sum() / weight.sum()) - float(label)) < 1e-5


@given(st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_upsampling_keeps_constants_and_range(size: int, target: int) -> None:
    values = np.random.default_rng(size).random((size, 3)).astype(np.float32)
    up = upsample(values, target, 7)
    assert up.shape == (target, 7) and up.min() >= values.min() - 1e-6 and up.max() <= values.max() + 1e-6
