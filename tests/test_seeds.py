"""From a point or a box to pixels, on pictures whose 'tokens' are the colours of their patches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.track import seeds

PATCH = 14
GRID = (9, 16)  # patches of the whole 270 x 480 view


def look(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colour of every patch around grey, with a constant so that grey has a direction too."""
    rows, columns = picture.shape[0] // PATCH, picture.shape[1] // PATCH
    mean = picture.reshape(rows, PATCH, columns, PATCH, 3).mean((1, 3)) / 127.5 - 1
    return np.concatenate([mean, np.full((rows, columns, 1), 0.3)], axis=-1).astype(np.float32)


def scene(x: int, y: int, w: int, h: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A light brown ellipse with a dark brown head on speckled green, 270 x 480; and where it is."""
    rng = np.random.default_rng(seed)
    picture = np.clip(np.array([80, 140, 70]) + rng.normal(0, 12, (270, 480, 3)), 0, 255)
    row, column = np.mgrid[:270, :480] + 0.5
    body = ((column - x - w / 2) / (w / 2)) ** 2 + ((row - y - h / 2) / (h / 2)) ** 2 <= 1
    picture[body] = np.array([190, 120, 60]) + rng.normal(0, 12, (int(body.sum()), 3))
    head = body & (column < x + w / 4)
    picture[head] = np.array([150, 60, 20]) + rng.normal(0, 6, (int(head.sum()), 3))
    return np.clip(picture, 0, 255).astype(np.uint8), body


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(("w", "h"), [(24, 18), (60, 40), (150, 110), (300, 200)])
def test_a_box_becomes_the_subject_whatever_its_size(w: int, h: int) -> None:
    picture, truth = scene(100, 40, w, h)
    found = seeds.mask_of_box(picture, (98, 38, w + 4, h + 4), look, PATCH, GRID)
    assert found.shape == (270, 480)
    assert overlap(found, truth) > 0.8


def test_a_box_keeps_the_parts_that_differ() -> None:
    picture, truth = scene(200, 100, 80, 50)
    found = seeds.mask_of_box(picture, (198, 98, 84, 54), look, PATCH, GRID)
    head = truth & (np.arange(480)[None] < 220)
    assert found[head].mean() > 0.8


@pytest.mark.parametrize(("w", "h"), [(40, 30), (60, 40), (150, 110)])
def test_a_point_becomes_the_subject(w: int, h: int) -> None:
    picture, truth = scene(100, 40, w, h)
    picture[truth] = (190, 120, 60)  # of one colour: a point on one part cannot know about another
    found, _ = seeds.mask_of_point(picture, 100 + w / 2, 40 + h / 2, look, PATCH, GRID)
    assert overlap(found, truth) > 0.75


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 470), st.integers(0, 260), st.integers(1, 480), st.integers(1, 270), st.integers(0, 3))
def test_a_box_gives_pixels_inside_it_and_never_none(x: int, y: int, w: int, h: int, seed: int) -> None:
    w, h = min(w, 480 - x), min(h, 270 - y)
    picture, _ = scene(100, 60, 90, 60, seed)
    found = seeds.mask_of_box(picture, (x, y, w, h), look, PATCH, GRID)
    assert found.any()
    outside = found.copy()
    outside[y : y + h, x : x + w] = False
    assert not outside.any()


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 480), st.floats(0, 270))
def test_a_point_gives_a_mask_that_holds_it(x: float, y: float) -> None:
    picture, _ = scene(100, 60, 90, 60)
    found, _ = seeds.mask_of_point(picture, x, y, look, PATCH, GRID)
    assert found[min(int(y), 269), min(int(x), 479)]


def test_a_flat_picture_is_no_failure() -> None:
    flat = np.full((90, 120, 3), 128, np.uint8)
    assert seeds.mask_of_box(flat, (30, 20, 40, 30), look, PATCH, (6, 8)).any()
    assert seeds.mask_of_box(flat, (0, 0, 120, 90), look, PATCH, (6, 8)).all()
    assert seeds.mask_of_point(flat, 60, 45, look, PATCH, (6, 8))[0].any()


def herd() -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]], list[tuple[int, int, int, int]]]:
    """Three animals of one coat close together, and their boxes."""
    places = [(150, 90, 80, 50), (236, 96, 80, 50), (170, 146, 80, 50)]
    picture, first = scene(*places[0])
    bodies = [first]
    for k, place in enumerate(places[1:]):
        other, body = scene(*place, seed=k + 1)
        picture[body] = other[body]
        bodies.append(body)
    return picture, bodies, [(x - 2, y - 2, w + 4, h + 4) for x, y, w, h in places]


def test_an_animal_beside_the_box_does_not_make_its_coat_background() -> None:
    picture, bodies, boxes = herd()
    claimed = [seeds.pixels_of(box, picture) for box in boxes]
    found = {
        k: seeds.mask_of_box(picture, box, look, PATCH, GRID, np.any(claimed[:k] + claimed[k + 1 :], axis=0))
        for k, box in enumerate(boxes)
    }
    found = seeds.apart(found, dict(enumerate(boxes)))
    assert min(overlap(found[k], body) for k, body in enumerate(bodies)) > 0.75
    assert max(overlap(found[k], bodies[k - 1]) for k in range(3)) < 0.1


def test_points_on_animals_that_touch_share_them_out() -> None:
    picture, first = scene(120, 100, 80, 50)
    other, second = scene(198, 100, 80, 50, seed=1)
    picture[second] = other[second]
    picture[first | second] = (190, 120, 60)
    points = {0: (160.0, 125.0, 0.0, 0.0), 1: (238.0, 125.0, 0.0, 0.0)}
    pixels = {k: seeds.pixels_of(place, picture) for k, place in points.items()}
    found = {k: seeds.mask_of_point(picture, *place[:2], look, PATCH, GRID, pixels[1 - k])[0] for k, place in points.items()}
    found = seeds.apart(found, points)
    assert overlap(found[0], first) > 0.7 and overlap(found[1], second) > 0.7
    assert not (found[0] & found[1]).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 25)] * 2), min_size=1, max_size=4), st.booleans())
def test_no_pixel_belongs_to_two(boxes: list[tuple[int, int, int, int]], drawn: bool) -> None:
    view = np.zeros((40, 50, 3), np.uint8)
    found = {k: seeds.pixels_of(box, view) for k, box in enumerate(boxes)}
    places = {k: box for k, box in enumerate(boxes) if not (drawn and k == 0)}
    out = seeds.apart(found, places)
    assert list(out) == sorted(found) and all(mask.any() for mask in out.values())
    assert (np.any(list(out.values()), axis=0) == np.any(list(found.values()), axis=0)).all()
    whole = {k for k, mask in out.items() if (mask == found[k]).all()}
    for k, j in itertools.combinations(out, 2):
        assert not (out[k] & out[j]).any() or k in whole or j in whole
    if drawn:
        assert (out[0] == found[0]).all()


def test_a_click_beside_the_subject_is_doubted() -> None:
    picture, truth = scene(100, 40, 150, 110)
    for x, y, wrong in ((190, 95, ""), (400, 200, "a box says more"), (20, 250, "a box says more")):
        mask, stands_out = seeds.mask_of_point(picture, x, y, look, PATCH, GRID)
        assert wrong in seeds.doubt(mask, stands_out) and bool(seeds.doubt(mask, stands_out)) == bool(wrong)
    assert truth[95, 190]


def test_why_a_mask_is_doubted() -> None:
    mask = np.zeros((90, 120), np.bool_)
    mask[30:50, 40:70] = True
    assert seeds.doubt(mask) == "" and "600 pixels" in seeds.doubt(mask, 0.05)
    mask[10:80, 10:110] = True
    assert "65% of the view" in seeds.doubt(mask)
    mask[:] = False
    mask[60:] = True
    assert "border" in seeds.doubt(mask)
