"""What looks as its place did, with no subject there, is ground."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.settings import TrackSettings
from foveate.track.propagate.ground import Ground
from foveate.track.propagate.propagator import Propagator
from tests.test_propagate import COLUMNS, ROWS, animal, scene, square


def unit(tokens: Tensor) -> Tensor:
    return torch.nn.functional.normalize(tokens.flatten(0, 1), dim=-1).half().float()


def test_a_place_is_known_once_the_subject_is_away_from_it() -> None:
    ground, nothing = Ground(), torch.zeros(ROWS * COLUMNS)
    ground.learn(unit(animal(0, 2, 3)), square(2, 3))
    assert ground.tokens is not None
    known = ground.tokens.abs().sum(1).view(ROWS, COLUMNS) > 0
    assert not known[0:7, 1:8].any() and known[7:].all() and known[:, 8:].all()  # two patches around it are left out
    free = ground.free(unit(scene(0)), nothing).view(ROWS, COLUMNS)
    assert (free[known] == 0).all() and (free[~known] == 1).all()


def test_what_is_more_like_the_subject_than_like_its_place_stays() -> None:
    ground = Ground()
    ground.learn(unit(scene(0)), torch.zeros(ROWS, COLUMNS))
    same = unit(scene(0))
    assert (ground.free(same, torch.full((ROWS * COLUMNS,), 0.999)) > 0.9).all()
    assert (ground.free(same, torch.full((ROWS * COLUMNS,), 0.5)) == 0).all()
    # Something new, and a camera that has moved: nothing follows from it.
    assert (ground.free(unit(scene(1)), torch.zeros(ROWS * COLUMNS)) == 1).all()
    assert (ground.free(unit(scene(0).roll(3, 1)), torch.zeros(ROWS * COLUMNS)) == 1).all()


def test_nothing_becomes_ground_while_the_subject_is_not_surely_seen() -> None:
    tracker = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    tracker.step(animal(0, 2, 3), {0: square(2, 3)})
    before = tracker.ground.tokens
    assert before is not None
    for number in range(4):
        (found,) = tracker.step(scene(100 + number), time=number + 1.0)
        assert found is not None and not found.sure
    assert tracker.ground.tokens is before
    tracker.cut()
    assert tracker.ground.tokens is None


def test_the_state_holds_the_ground() -> None:
    one, two = (Propagator(TrackSettings(), ROWS, COLUMNS, 1) for _ in range(2))
    one.step(animal(0, 2, 3), {0: square(2, 3)})
    for number in range(3):
        one.step(animal(0, 2, 3), time=number / 2)
    two.restore(one.state())
    assert one.ground.tokens is not None and two.ground.tokens is not None
    assert torch.equal(one.ground.tokens, two.ground.tokens)
