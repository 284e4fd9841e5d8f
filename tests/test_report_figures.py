"""Geometry of the report's figures and the pictures of its contact sheets."""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foveate import masks
from foveate.report import figures, sheets


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (7, "0:07"),
        (7.5, "0:07.5"),
        (59.96, "1:00"),
        (61.4, "1:01"),
        (750, "12:30"),
        (3600, "1:00:00"),
        (3723, "1:02:03"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert figures.clock(seconds) == text


@given(st.floats(0.05, 400_000))
def test_ticks_are_few_round_and_inside(duration: float) -> None:
    marks = figures.ticks(duration)
    assert 1 <= len(marks) <= 7
    assert marks[0].percent == 0
    assert all(0 <= a.percent < b.percent <= 100 + 1e-6 for a, b in itertools.pairwise(marks))


def test_no_time_no_ticks() -> None:
    assert figures.ticks(0) == []
    assert figures.lane([(0, 1)], 0, 0, 1) == ""


def rectangles(path: str) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of a lane's path data."""
    return [tuple(map(float, m)) for m in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)H[\d.]+z", path)]  # type: ignore[misc]


intervals = st.lists(st.tuples(st.floats(0, 99), st.floats(0.5, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=8)


@given(intervals)
def test_lane_covers_the_union_of_the_intervals(found: list[tuple[float, float]]) -> None:
    path = figures.lane(found, 100.0, 3, 7)
    boxes = rectangles(path)
    assert path.count("M") == len(boxes)  # nothing but rectangles
    assert all(y == 3 and h == 7 for _, y, _, h in boxes)
    grid = np.arange(0.5, 1000) / 10  # seconds, away from rounded edges
    truth = np.zeros(len(grid), dtype=bool)
    for start, stop in found:
        truth |= (grid >= start) & (grid < stop)
    drawn = np.zeros(len(grid), dtype=bool)
    for x, _, w, _ in boxes:
        drawn |= (grid * 10 >= x) & (grid * 10 < x + w)
    edges = np.array([edge for pair in found for edge in pair])
    clear = np.ones(len(grid), dtype=bool)
    if len(edges):
        clear = np.abs(grid[:, None] - edges).min(1) > 0.02  # two decimals, and joins below 1/20,000
    assert np.array_equal(truth[clear], drawn[clear])


def test_short_bouts_stay_visible_and_flicker_stays_small() -> None:
    (one,) = rectangles(figures.lane([(100, 101)], 20 * 3600, 0, 1, least=0.6))
    assert one[2] == 0.6
    (end,) = rectangles(figures.lane([(71999, 72000)], 20 * 3600, 0, 1, least=0.6))
    assert end[0] + end[2] <= figures.WIDTH + 0.6
    flicker = [(k, k + 0.5) for k in range(20 * 3600)]
    assert len(rectangles(figures.lane(flicker, 20 * 3600, 0, 1))) == 1
    assert len(figures.lane([(4 * k, 4 * k + 1) for k in range(18_000)], 20 * 3600, 0, 1, gap=0.5, least=0.6)) < 40_000


@given(st.lists(st.sampled_from("abc")))
def test_runs_partition_the_sequence(values: list[str]) -> None:
    found = figures.runs(values)
    assert [v for a, b in found for v in values[a:b]] == values
    assert all(len(set(values[a:b])) == 1 for a, b in found)
    assert all(values[a - 1] != values[a] for a, _ in found[1:])


def test_stretches_give_the_time_that_rows_stand_for() -> None:
    start, length = np.array([0.0, 0.5, 1.0, 3.0]), np.array([0.5, 0.5, 2.0, 0.25])
    assert figures.stretches(np.array(["x", "y", "y", "x"]), "y", start, length) == [(0.5, 3.0)]
    assert figures.stretches(np.array(["x", "y", "y", "x"]), "x", start, length) == [(0.0, 0.5), (3.0, 3.25)]


@given(st.integers(1, 300), st.integers(1, 60))
def test_chosen_frames_are_spread_and_cheap(frames: int, gop: int) -> None:
    times = np.arange(frames) * 0.5
    cost = np.arange(frames) % gop
    picked = sheets.choose(times, cost)
    assert len(picked) == min(frames, sheets.FRAMES) or (frames <= 3 * sheets.FRAMES and 1 <= len(picked) <= sheets.FRAMES)
    assert (np.diff(picked) > 0).all() and picked[0] >= 0 and picked[-1] < frames
    if frames >= 6 * sheets.FRAMES:
        slots = np.minimum((times[picked] - times[0]) / (times[-1] - times[0]) * sheets.FRAMES, sheets.FRAMES - 1e-9).astype(
            int
        )
        assert slots.tolist() == list(range(sheets.FRAMES))
    if frames >= 12 * sheets.FRAMES and gop <= 4:
        assert (cost[picked] == 0).all()  # a keyframe lies in every slot's middle half


def decoded(thumbnail: sheets.Thumbnail) -> np.ndarray:
    head, _, body = thumbnail.uri.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == (thumbnail.width, thumbnail.height)
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def test_outline_and_square_are_drawn_where_they_are() -> None:
    height, width = 240, 400
    mask = np.zeros((height, width), dtype=bool)
    mask[60:160, 100:260] = True
    view = np.full((height, width, 3), 60, dtype=np.uint8)
    overlay = sheets.Overlay("tracked", masks.encode(mask), (100, 60, 160, 100), (80, 10, 200, 200), 0)
    plain, drawn = decoded(sheets.thumbnail(view, [])), decoded(sheets.thumbnail(view, [overlay]))
    scale = plain.shape[1] / width
    assert plain.shape[:2] == (round(height * scale), round(width * scale))
    assert np.abs(plain - 60).max() < 8
    change = np.abs(drawn - plain).sum(-1)
    rows, columns = (np.arange(n) / scale for n in change.shape)
    inside = (rows[:, None] > 66) & (rows[:, None] < 154) & (columns > 106) & (columns < 254)
    edge = (np.abs(rows[:, None] - 60) < 2) & (columns > 110) & (columns < 250)
    outside = (rows[:, None] > 220) | (columns < 60) | (columns > 300)
    assert change[inside].min() > 20  # tint
    assert change[edge].max() > 200 > change[inside].mean() + 60  # outline; WebP halves the resolution of colour
    assert change[outside].max() < 20
    assert drawn[:, np.abs(columns - 80) < 1.5].max() > 200  # the white square


def test_a_box_stands_in_for_a_missing_mask() -> None:
    view = np.full((100, 100, 3), 60, dtype=np.uint8)
    drawn = decoded(sheets.thumbnail(view, [sheets.Overlay("uncertain", None, (20, 20, 50, 50), None, 1)]))
    assert np.abs(drawn - 60).sum(-1).max() > 150


def test_thumbnails_per_view() -> None:
    pictures = [np.full((80, 200, 3), value, dtype=np.uint8) for value in (20, 220)]
    pictures[0][:, 100:] = 120
    out = sheets.thumbnails(iter(pictures), {"left": (0, 0, 100, 80), "right": (100, 0, 100, 80)}, [{}, {}])
    assert [len(found) for found in out.values()] == [2, 2]
    left, right = (decoded(out[name][0]).mean() for name in ("left", "right"))
    assert abs(left - 20) < 5 and abs(right - 120) < 5


# Machado, Oliveira and Fernandes (2009), severity 1: what deuteranopes and protanopes see, in linear RGB.
EYES = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
}


def lab(colour: str, eye: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of ``#rrggbb`` as that eye sees it."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(eye @ np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", list(EYES))
def test_behaviours_can_be_told_apart(eye: str) -> None:
    style = (Path(figures.__file__).parent / "style.css").read_text(encoding="utf-8")
    found = [colour for _, colour in re.findall(r"--b(\d): (#[0-9a-f]{6})", style)]
    assert len(found) == 3 * figures.COLOURS and found[: figures.COLOURS] == found[-figures.COLOURS :]  # screen, dark, print
    for palette in (found[: figures.COLOURS], found[figures.COLOURS : 2 * figures.COLOURS]):
        seen = np.array([lab(colour, EYES[eye]) for colour in palette])
        apart = np.linalg.norm(seen[:, None] - seen, axis=-1) + 1000 * np.eye(len(palette))
        assert apart.min() > 10  # anywhere; about four times what is just noticeable
        assert min(apart[i, i + 1] for i in range(len(palette) - 1)) > 18  # neighbouring rows of an ethogram
