"""VOC 2007 by linear SVMs: both definitions of average precision, the layout, and a miniature with a signal that is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.api import evaluate
from foveate.evaluate.voc07 import all_points, eleven_points, read_lists
from foveate.schema import FoveateError

COLOURS = {"aeroplane": (210, 40, 40), "bird": (40, 200, 40), "cat": (40, 40, 220)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def literal(scores: list[float], truth: list[bool]) -> tuple[float, float]:
    """Both definitions as the development kits compute them, loop by loop (``VOCevalcls``, ``VOCap``)."""
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    hits, recall, precision = 0, [], []
    for rank, k in enumerate(order, 1):
        hits += truth[k]
        recall.append(hits / sum(truth))
        precision.append(hits / rank)
    eleven = (
        sum(max((p for r, p in zip(recall, precision, strict=True) if r >= t / 10 - 1e-12), default=0.0) for t in range(11))
        / 11
    )
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for k in range(len(p) - 2, -1, -1):
        p[k] = max(p[k], p[k + 1])
    return eleven, sum((r[k] - r[k - 1]) * p[k] for k in range(1, len(r)))


@settings(max_examples=80, deadline=None)
@given(truth=st.lists(st.booleans(), min_size=2, max_size=40), seed=st.integers(0, 1000))
def test_average_precision_is_that_of_the_development_kits(truth: list[bool], seed: int) -> None:
    if not any(truth):
        truth[0] = True
    scores = np.random.default_rng(seed).permutation(len(truth)).astype(float)
    expected = literal(scores.tolist(), truth)
    assert (eleven_points(scores, np.array(truth)), all_points(scores, np.array(truth))) == pytest.approx(expected)


def test_known_values() -> None:
    truth = np.array([True, False, True, False])
    assert eleven_points(-np.arange(4.0), truth) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert all_points(-np.arange(4.0), truth) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert eleven_points(truth.astype(float), truth) == all_points(truth.astype(float), truth) == 1


def voc2007(folder: Path, count: int = 24) -> Path:
    """Pictures with one or two coloured squares; every seventh square is difficult."""
    root = folder / "VOCdevkit" / "VOC2007"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, first in (("trainval", 0), ("test", count)):
        marks: dict[str, list[str]] = {name: [] for name in COLOURS}
        for n in range(first, first + count):
            picture = np.full((64, 80, 3), int(rng.integers(80, 160)), np.uint8)
            shown = rng.permutation(list(COLOURS))[: 1 + n % 2]
            for k, name in enumerate(shown):
                y = int(rng.integers(0, 32))
                picture[y : y + 32, 2 + 40 * k : 34 + 40 * k] = COLOURS[str(name)]
            Image.fromarray(picture).save(root / "JPEGImages" / f"{n:06d}.jpg", quality=95)
            for name, rows in marks.items():
                rows.append(f"{n:06d} {(' 0' if n % 7 == 6 else ' 1') if name in shown else '-1'}")
        for name, rows in marks.items():
            (root / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text("\n".join(rows) + "\n")
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{n:06d}\n" for n in range(first, first + count)))
    return folder


@pytest.mark.filterwarnings("ignore:the model 'handcrafted'")
def test_a_miniature_in_the_layout_of_the_data_set(tmp_path: Path) -> None:
    folder = voc2007(tmp_path)
    table = evaluate("voc07", folder, "handcrafted", size=56)
    assert table["class"].tolist() == ["aeroplane", "bird", "cat", "mean"]
    assert table["ap"].iloc[-1] > 0.85 and table["ap11"].iloc[-1] > 0.85  # 1.5 of 3 classes a picture: chance is about a half
    root = folder / "VOCdevkit" / "VOC2007"
    names, marks = read_lists(root, "test")
    assert len(names) == 24 and set(np.unique(marks["cat"])) == {-1, 0, 1}
    assert table["positives"][0] == (marks["aeroplane"] == 1).sum()
    lists = root / "ImageSets" / "Main"
    for split in ("trainval", "test"):  # the same pictures, classes that mean nothing
        for name, shift in zip(COLOURS, (5, 9, 14), strict=True):
            rows = [row.split() for row in (lists / f"{name}_{split}.txt").read_text().splitlines()]
            values = [row[1] for row in rows]
            text = "".join(f"{row[0]} {value}\n" for row, value in zip(rows, values[shift:] + values[:shift], strict=True))
            (lists / f"{name}_{split}.txt").write_text(text)
    assert evaluate("voc07", root, "handcrafted", size=56)["ap"].iloc[-1] < table["ap"].iloc[-1] - 0.15


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no ImageSets"):
        evaluate("voc07", tmp_path)
    root = voc2007(tmp_path, 8) / "VOCdevkit" / "VOC2007"
    lists = root / "ImageSets" / "Main"
    text = (lists / "cat_test.txt").read_text()
    for wrong, problem in ((text.replace("000008", "000000"), "other pictures"), (text + "one two\n", "row cannot be read")):
        (lists / "cat_test.txt").write_text(wrong)
        with pytest.raises(FoveateError, match=problem):
            read_lists(root, "test")
    for path in lists.glob("*_test.txt"):
        path.unlink()
    with pytest.raises(FoveateError, match="no lists"):
        evaluate("voc07", root)
