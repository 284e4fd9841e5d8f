"""A look-alike beside the subject is told by its coat; pictures in the dark are brightened."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.settings import TrackSettings
from foveate.track.pixels import LIT, brightened
from foveate.track.propagate.coat import FRAMES, Coat, colours
from foveate.track.propagate.propagator import SMALL, Found, Propagator
from tests.test_propagate import COLUMNS, ROWS, WIDTH, scene, square

OTHER = (0.3, -0.25)  # of the look-alike's coat, beyond the subject's


def frame(number: int, twin: int | None, coat: tuple[float, float] = OTHER) -> tuple[Tensor, Tensor]:
    """Tokens and colours of a frame with the subject at row 3, column 2, and one like it at the column ``twin``."""
    tokens, kind = scene(0), 2 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(99))
    noise = torch.Generator().manual_seed(1000 + number)
    seen = 0.02 * torch.randn(ROWS, COLUMNS, 2, generator=noise)
    seen[3:6, 2:5] += torch.tensor([0.1, 0.1])
    tokens[3:6, 2:5] += kind
    if twin is not None:
        tokens[3:6, twin : twin + 3] = tokens[3:6, 2:5]
        seen[3:6, twin : twin + 3] += torch.tensor([0.1, 0.1]) + torch.tensor(coat)
    return tokens + 0.3 * torch.randn(tokens.shape, generator=noise), seen.flatten(0, 1)


PLACES = [*[None] * 6, 9, 9, 8, 7, 6, 5, 5, 5, 5, 5]
"""Of the look-alike, frame by frame: it comes into the picture and up to the subject's side."""


def follow(tracker: Propagator, first: int = 0, coat: tuple[float, float] = OTHER, blind: bool = False) -> list[Found]:
    found = []
    for number, twin in enumerate(PLACES[first:], first):
        tokens, seen = frame(number, twin, coat)
        given = {0: square(3, 2)} if number == 0 else None
        (one,) = tracker.step(tokens, given, time=number / 2, colours=None if blind else seen)
        assert one is not None
        found.append(one)
    return found


def on_twin(found: Found) -> float:
    return float(found.labels[3:6, 5:8].sum()) / float(found.labels.sum())


def test_the_look_alike_is_left_out_by_its_coat_alone() -> None:
    told, untold = (follow(Propagator(TrackSettings(), ROWS, COLUMNS, 1), blind=blind) for blind in (False, True))
    assert max(map(on_twin, told[-4:])) < 0.1 and all(float((one.labels[3:6, 2:5] > 0.5).sum()) >= 8 for one in told)
    assert max(map(on_twin, untold[-4:])) > 0.2  # what the coat is for


def test_one_of_the_same_coat_is_not_told_and_does_no_harm() -> None:
    trackers = [Propagator(TrackSettings(), ROWS, COLUMNS, 1) for _ in range(2)]
    told, untold = follow(trackers[0], coat=(0.0, 0.0)), follow(trackers[1], blind=True)
    assert not trackers[0].coats[0].telling
    assert all(torch.equal(one.labels, other.labels) for one, other in zip(told, untold, strict=True))


def test_what_is_like_a_subject_of_a_few_patches_is_no_rival() -> None:
    tracker = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    for number, twin in enumerate(PLACES[:9]):
        tokens, seen = frame(number, twin)
        small = {0: square(4, 3, 2)} if number == 0 else None
        tracker.step(tokens, small, time=number / 2, colours=seen)
    assert tracker.watches[0].size < SMALL and tracker.watches[0].rival < 0
    larger = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    follow(larger)
    assert larger.watches[0].size >= SMALL and larger.watches[0].rival > 0  # the same footage, the whole animal clicked


@pytest.mark.parametrize("at", [3, 9, 12])
def test_a_restored_coat_goes_on_bit_for_bit(at: int) -> None:
    whole, first = (Propagator(TrackSettings(), ROWS, COLUMNS, 1) for _ in range(2))
    expected = follow(whole)
    for number, twin in enumerate(PLACES[:at]):
        tokens, seen = frame(number, twin)
        first.step(tokens, {0: square(3, 2)} if number == 0 else None, time=number / 2, colours=seen)
    second = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    second.restore(first.state())
    for one, other in zip(follow(second, first=at), expected[at:], strict=True):
        assert torch.equal(one.labels, other.labels)


def test_another_shot_may_be_lit_in_another_way() -> None:
    tracker = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    follow(tracker)
    assert tracker.coats[0].known
    tracker.cut()
    assert not tracker.coats[0].known


def test_the_coat_is_bounded_and_keeps_its_first_frame() -> None:
    coat, generator = Coat(), torch.Generator().manual_seed(3)
    inside = square(3, 2).flatten() > 0
    for k in range(3 * FRAMES):
        tokens = torch.nn.functional.normalize(torch.randn(ROWS * COLUMNS, WIDTH, generator=generator), dim=-1)
        seen = torch.full((ROWS * COLUMNS, 2), float(k))
        coat.learn(tokens, seen, square(3, 2), inside)
    assert [float(seen[0, 0]) for _, seen in coat.frames] == [0.0, *range(2 * FRAMES, 3 * FRAMES)]


def test_colours_of_patches() -> None:
    picture = np.zeros((28, 42, 3), np.uint8)
    picture[:14, :14] = (100, 50, 200)
    picture[14:, 28:] = (50, 25, 100)
    seen = colours(picture, 2, 3).view(2, 3, 2)
    assert seen[0, 0].tolist() == pytest.approx([np.log(116 / 66), np.log(216 / 66)], abs=1e-5)
    assert seen[0, 1].tolist() == [0.0, 0.0]
    # Half the light: nearly the same colours.
    assert seen[1, 2].tolist() == pytest.approx(seen[0, 0].tolist(), abs=0.15)


def test_dark_pictures_are_brightened_and_others_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    lit = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
    assert brightened(lit) is lit
    dark = (lit // 4).astype(np.uint8)
    assert brightened(dark).mean() / 255 == pytest.approx(LIT, abs=0.01)
    black = np.zeros((30, 40, 3), np.uint8)
    assert not brightened(black).any()
    dim = (lit // 32).astype(np.uint8)
    assert brightened(dim).mean() / dim.mean() == pytest.approx(4, rel=0.05)
