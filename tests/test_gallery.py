"""What a subject has looked like: bounded, the same every time, and nothing uncertain in it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.settings import TrackSettings
from foveate.track.propagate.gallery import BACKGROUND, FRESH, PROMPTED, SUBJECT, Shelf
from foveate.track.propagate.propagator import BACK, ELSEWHERE, Propagator
from tests.test_propagate import COLUMNS, ROWS, animal, scene, square


def tokens(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_shelf_is_bounded_and_prompted_tokens_stay(size: int, seed: int) -> None:
    one, two = Shelf(size), Shelf(size)
    for shelf in (one, two):
        shelf.keep(tokens(8, seed))
        for i in range(20):
            shelf.learn(tokens(9, seed + i + 1))
    assert one.tokens is not None and two.tokens is not None
    assert len(one.tokens) <= size and torch.equal(one.tokens, two.tokens)
    assert one.kept <= max(1, int(size * PROMPTED))
    first = Shelf(size)
    first.keep(tokens(8, seed))
    assert first.tokens is not None and torch.equal(one.tokens[: one.kept], first.tokens[: one.kept])


def test_a_shelf_takes_what_is_new_and_not_what_it_has() -> None:
    shelf = Shelf(64)
    shelf.keep(tokens(10, 0))
    shelf.learn(tokens(10, 0))
    assert shelf.tokens is not None and len(shelf.tokens) == 10
    shelf.learn(tokens(10, 1))
    assert len(shelf.tokens) == 10 + FRESH
    shelf.keep(tokens(3, 2))  # a prompt: what was learned may have been wrong
    assert len(shelf.tokens) == 13 and shelf.kept == 13


def test_the_state_is_as_large_after_ten_times_the_footage() -> None:
    sizes = []
    for frames in (30, 300):
        follow = Propagator(TrackSettings(context=4), ROWS, COLUMNS, 1)
        follow.step(animal(0, 2, 3), {0: square(2, 3)})
        for i in range(frames):
            follow.step(animal(i % 60, 2, 3), time=i / 2)
        assert len(follow.galleries[0].subject.tokens) <= SUBJECT  # type: ignore[arg-type]
        sizes.append(sum(value.numel() for value in follow.state().values()))
    full = (SUBJECT + BACKGROUND) * 32
    assert sizes[1] - sizes[0] <= full  # the shelves fill up, nothing else grows


def test_nothing_is_learned_where_the_subject_is_not_sure() -> None:
    follow = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    follow.step(animal(0, 2, 3), {0: square(2, 3)})
    before = follow.galleries[0].state()
    for i in range(5):
        (found,) = follow.step(scene(100 + i), time=i + 1.0)
        assert found is not None and not found.sure
    after = follow.galleries[0].state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_thing_in_its_place_is_noticed() -> None:
    """What stood there is replaced by something unlike both subject and background: the subject is lost, not taken for that."""
    follow = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    follow.step(animal(0, 2, 3), {0: square(2, 3)})
    for i in range(3):
        (found,) = follow.step(animal(0, 2, 3), time=i / 2)
        assert found is not None and found.sure
    other = scene(0)
    other[2:5, 3:6] += 2 * torch.randn(32, generator=torch.Generator().manual_seed(7))
    (found,) = follow.step(other, time=2.0)
    assert found is not None and not found.sure and not found.labels.any()
    (found,) = follow.step(animal(0, 5, 7), time=3.0)
    assert found is not None and found.sure and found.searched and float(found.labels[5:8, 7:10].mean()) > 0.5


def ground(seed: int) -> torch.Tensor:
    """Tokens of a place in which there is more of everything: four textures."""
    textures = torch.randn(4, 32, generator=torch.Generator().manual_seed(seed))
    row, column = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    return textures[(row // 2 + column // 3) % 4] + 0.2 * scene(seed)


def test_after_a_cut_another_place_asks_for_more_than_the_same_one() -> None:
    """A cousin of the animal is taken up before the ground that is known, and not before another one; the animal itself anywhere."""

    def shown(place: torch.Tensor, row: int, column: int, own: torch.Tensor) -> torch.Tensor:
        picture = place.clone()
        picture[row : row + 3, column : column + 3] = own
        return picture

    own = animal(0, 2, 3)[2:5, 3:6]
    cousin = own + 0.6 * torch.randn(own.shape, generator=torch.Generator().manual_seed(3)) * own.std()
    follow = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
    for i in range(5):
        follow.step(shown(ground(0), 2, 3, own), None if i else {0: square(2, 3)}, time=i / 2)
    kept = follow.state()
    for place, expected in ((ground(0), True), (ground(50), False)):
        again = Propagator(TrackSettings(), ROWS, COLUMNS, 1)
        again.restore(kept)
        again.cut()
        (found,) = again.step(shown(place, 5, 7, cousin), time=3.0)
        assert found is not None and bool(found.labels.any()) == expected and BACK < found.likeness < ELSEWHERE
        assert again.watches[0].cut != found.sure
        (found,) = again.step(shown(place, 5, 7, own), time=3.5)
        assert found is not None and found.sure and not again.watches[0].cut
