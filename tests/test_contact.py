"""Meetings looked at from both sides, on tokens that are made up."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.track.identity import contact
from foveate.track.identity.crossings import History, Meeting

ROWS, COLUMNS, PATCH, WIDTH = 10, 16, 14, 24
Bool = NDArray[np.bool_]


def strip(place: int, size: int = 4) -> Bool:
    """Where an animal is: rows 3 to 7, ``size`` columns from ``place``, in patches."""
    mask = np.zeros((ROWS, COLUMNS), np.bool_)
    mask[3:7, max(place, 0) : place + size] = True
    return mask


def film(places: list[tuple[int, int]]) -> tuple[list[torch.Tensor], list[NDArray[np.uint8]], list[tuple[Bool, Bool]]]:
    """Two animals of one coat whose patches differ a little, the first before the second; tokens, pictures, and what is seen of each."""
    draw = torch.Generator().manual_seed(0)
    ground, coat = torch.randn(ROWS, COLUMNS, WIDTH, generator=draw), torch.randn(WIDTH, generator=draw)
    own = [coat + 0.6 * torch.randn(4, 4, WIDTH, generator=draw) for _ in range(2)]
    tokens, pictures, seen = [], [], []
    for one, other in places:
        frame = ground.clone()
        picture = np.full((ROWS * PATCH, COLUMNS * PATCH, 3), 60, np.uint8)
        for place, look, colour in ((other, own[1], 180), (one, own[0], 200)):
            frame[3:7, place : place + 4] = look
            picture[3 * PATCH : 7 * PATCH, place * PATCH : (place + 4) * PATCH] = colour
        tokens.append(frame)
        pictures.append(picture)
        seen.append((strip(one), strip(other) & ~strip(one)))
    return tokens, pictures, seen


def full(mask: Bool) -> Bool:
    return np.kron(mask, np.ones((PATCH, PATCH))).astype(np.bool_)


def overlap(a: Bool, b: Bool) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_animals_of_one_coat_are_parted_whether_they_pass_or_turn_back() -> None:
    for places in (
        [(0, 9), (1, 8), (3, 7), (4, 6), (6, 5), (7, 3), (9, 1)],
        [(0, 9), (1, 8), (3, 7), (4, 6), (3, 7), (1, 8), (0, 9)],
    ):
        tokens, pictures, seen = film(places)
        before, after = ({0: full(seen[k][0]), 1: full(seen[k][1])} for k in (0, -1))
        found = contact.parted(tokens, pictures, before, after, 4.0)
        assert len(found) == len(places) - 2
        for here, (one, other) in zip(found, seen[1:-1], strict=True):
            assert overlap(here[0][0], full(one)) > 0.8 and here[0][1] > 0.7
            assert overlap(here[1][0], full(other)) > 0.6
            assert (here[0][0] & here[1][0]).sum() < 0.1 * here[0][0].sum()


def test_one_that_is_hidden_is_not_found() -> None:
    tokens, pictures, seen = film([(0, 9), (3, 6), (5, 5), (6, 3), (9, 0)])
    before, after = ({0: full(seen[k][0]), 1: full(seen[k][1])} for k in (0, -1))
    hidden = contact.parted(tokens, pictures, before, after, 4.0)[1]
    assert overlap(hidden[0][0], full(seen[2][0])) > 0.8
    assert 1 not in hidden or hidden[1][0].sum() < contact.LEAST * 16 * PATCH**2


def history(sure: Bool) -> History:
    n = sure.shape[1]
    nothing = {(0, 1): np.zeros(n, np.bool_)}
    boxes = np.tile([0.0, 0.0, 10.0, 10.0], (2, n, 1))
    area = np.full((2, n), 100)
    return History(np.arange(n), np.arange(n) / 4, boxes, area, sure, np.zeros_like(sure), nothing, nothing)


def test_clear_ends_are_beside_the_meeting_and_in_no_other() -> None:
    sure = np.ones((2, 60), np.bool_)
    cuts = [Meeting(20, 25, (0, 1)), Meeting(28, 30, (0, 1))]
    assert contact.clear_ends(history(sure), cuts[0], cuts, ()) == (19, 26)
    assert contact.clear_ends(history(sure), cuts[1], cuts, ()) == (27, 31)
    sure[0, 18:20] = False
    assert contact.clear_ends(history(sure), cuts[0], cuts, ()) == (17, 26)
    assert contact.clear_ends(history(sure), cuts[0], cuts, (22,)) is None
    sure[1, :20] = False
    assert contact.clear_ends(history(sure), cuts[0], cuts, ()) is None
    assert contact.clear_ends(history(sure), Meeting(20, 19, (0, 1)), cuts, ()) is None


def test_a_window_holds_all_boxes_and_stays_in_the_view() -> None:
    boxes = np.array([[5.0, 8.0, 30.0, 20.0], [np.nan] * 4, [90.0, 40.0, 12.5, 30.0]])
    x, y, w, h = contact.window(boxes, 80, 110)
    assert (x, y) == (0, 0) and x + w == 110 and y + h == 80
