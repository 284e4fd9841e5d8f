"""J and F against numbers recorded from the public evaluation, and what its definitions imply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import foveate.api as fv
from foveate.cli import main
from foveate.evaluate.davis import boundary, evaluate, outline, read_folder, read_labels, region, summarise
from foveate.masks import Mask
from foveate.schema import FoveateError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "davis.json").read_text(encoding="utf-8"))


def blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.bool_)
    for _ in range(int(rng.integers(1, 4))):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        a, b = rng.uniform(0.05, 0.35, 2) * height
        mask |= ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
    return mask


def pairs() -> Iterator[tuple[Mask, Mask, Mask | None]]:
    """Found, true and (in every third case) void; cases 3, 4, 8 with empty masks, 11 with a full one."""
    rng = np.random.default_rng(7)
    for case in range(24):
        height, width = (48, 64) if case % 2 else (240, 320)
        truth = blob(rng, height, width)
        found = np.roll(truth, rng.integers(-6, 7, 2), (0, 1)) ^ (blob(rng, height, width) & (rng.random() < 0.3))
        void = blob(rng, height, width)
        truth[:] = case == 11 if case in (3, 8, 11) else truth
        found[:] = False if case in (4, 8) else found
        yield found, truth, void if case % 3 == 0 else None


def sequences() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """True and found objects uint8[T, H, W] that move apart, with a void stripe; fewer, as many and more results than objects."""
    rng = np.random.default_rng(11)
    for frames, count, results in ((5, 2, 2), (12, 3, 2), (9, 2, 4)):
        truth, found = np.zeros((2, frames, 48, 64), np.uint8)
        shapes = [blob(rng, 48, 64) for _ in range(count)]
        extra = [blob(rng, 48, 64) for _ in range(results)]
        for t in range(frames):
            for k, shape in enumerate(shapes):
                truth[t][np.roll(shape, (t, 2 * t), (0, 1))] = k + 1
            for k in range(results):
                shape = shapes[k] if k < count else extra[k]
                found[t][np.roll(shape, (t, 2 * t + t // 3), (0, 1))] = k + 1
            truth[t, 20:23, 5:60] = 255
        yield truth, found


def test_golden_pairs() -> None:
    ours = [(region(*masks), boundary(*masks)) for masks in pairs()]
    np.testing.assert_allclose(ours, GOLDEN["pairs"], atol=1e-9)


def test_golden_statistics() -> None:
    rng = np.random.default_rng(3)
    for case in GOLDEN["statistics"]:
        ours = summarise(rng.random(case["n"]))
        np.testing.assert_allclose((ours.mean, ours.recall, ours.decay), case["values"], atol=1e-9)


def test_golden_sequences() -> None:
    for (truth, found), golden in zip(sequences(), GOLDEN["sequences"], strict=True):
        matched = evaluate(list(truth), list(found), given=False)
        ours = sorted(zip(matched.regions.mean(1), matched.boundaries.mean(1), strict=True))
        np.testing.assert_allclose(ours, golden["matched"], atol=1e-9)
        if "given" not in golden:
            with pytest.raises(FoveateError, match="object 4"):
                evaluate(list(truth), list(found))
            continue
        scores = evaluate(list(truth), list(found))
        np.testing.assert_allclose((scores.regions, scores.boundaries), golden["given"], atol=1e-9)


def test_decay_of_long_sequences() -> None:
    """Beyond 256 frames, where eight bits overflow, the last quarter is still the last quarter."""
    values = np.repeat([0.9, 0.6, 0.5, 0.1], 250)
    assert summarise(values).decay == pytest.approx(0.8, abs=0.01)


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_properties(seed: int, shift: int) -> None:
    """Both are 1 for equal masks, symmetric, in 0..1; F forgives a shift within the tolerance, J does not."""
    rng = np.random.default_rng(seed)
    one, other = blob(rng, 100, 360), blob(rng, 100, 360)
    assert region(one, one) == boundary(one, one) == 1
    assert region(one, other) == region(other, one)
    assert boundary(one, other) == pytest.approx(boundary(other, one))
    assert 0 <= region(one, other) <= 1 and 0 <= boundary(one, other) <= 1
    small = np.zeros((100, 360), np.bool_)  # its diagonal allows three pixels
    small[40:60, 100:130] = True
    assert boundary(np.roll(small, shift, 1), small) == 1
    assert region(np.roll(small, shift, 1), small) == pytest.approx((30 - shift) / (30 + shift))
    assert boundary(np.roll(small, 8, (0, 1)), small) < 0.5


def test_outline_of_a_square() -> None:
    mask = np.zeros((6, 6), np.bool_)
    mask[2:4, 2:4] = True
    expected = np.zeros((6, 6), np.bool_)
    expected[1:4, 1:4] = True
    expected[2, 2] = False
    assert (outline(mask) == expected).all()


def test_void_and_border_frames() -> None:
    """Only the frames between the first and the last count; void pixels are background where the first mask is given."""
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[:, 5:10, 5:10] = 1
    found = truth.copy()
    found[[0, -1]] = 0
    assert evaluate(list(truth), list(found)).regions.tolist() == [[1.0, 1.0]]
    truth[:, 10:12, 5:10] = 255
    found[:, 10:12, 5:10] = 1
    assert evaluate(list(truth), list(found)).regions.tolist() == [[25 / 35] * 2]
    assert evaluate(list(truth), list(found), given=False).regions[0, 1:3].tolist() == [1.0, 1.0]


def _write(folder: Path, kind: str, name: str, number: int, image: Image.Image) -> None:
    path = folder / kind / "480p" / name / f"{number:05d}.{'png' if kind == 'Annotations' else 'jpg'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_reading_a_folder(tmp_path: Path) -> None:
    """Black and white means one object; a palette's, and other grey numbers are the objects."""
    white = np.zeros((8, 10), np.uint8)
    white[2:4] = 255
    objects = np.zeros((8, 10), np.uint8)
    objects[2:4], objects[5:6], objects[7:] = 1, 2, 255
    palette = Image.fromarray(objects)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    for number, image in enumerate((Image.fromarray(white), palette, Image.fromarray(objects), Image.fromarray(white > 0))):
        _write(tmp_path, "JPEGImages", "sheep", number, Image.new("RGB", (10, 8)))
        _write(tmp_path, "Annotations", "sheep", number, image)
    (footage,) = read_folder(tmp_path)
    labels = [read_labels(path) for path in footage.annotations]
    assert (labels[0] == (white > 0)).all() and (labels[3] == (white > 0)).all()
    assert (labels[1] == objects).all() and (labels[2] == objects).all()

    with pytest.raises(FoveateError, match="no pictures"):
        list(read_folder(tmp_path, ["goat"]))
    footage.annotations[2].unlink()
    with pytest.raises(FoveateError, match="1 stand alone, first 00002"):
        list(read_folder(tmp_path))
    footage.annotations[1].write_text("no picture")
    with pytest.raises(FoveateError, match="not a picture"):
        read_labels(footage.annotations[1])
    with pytest.raises(FoveateError, match="no such folder"):
        list(read_folder(tmp_path / "elsewhere"))


def test_what_cannot_be_compared() -> None:
    frames = [np.ones((4, 4), np.uint8)] * 3
    for truth, found in ((frames, frames[:2]), (frames[:2], frames[:2]), ([f * 0 for f in frames], frames)):
        with pytest.raises(FoveateError):
            evaluate(truth, found)
    with pytest.raises(FoveateError, match="pixels"):
        evaluate(frames, [np.ones((4, 5), np.uint8)] * 3)


def test_the_command_scores_results_of_any_tracker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results as PNGs, two objects: one found, one half found; the first and the last frame need no result."""
    labels = np.zeros((12, 20), np.uint8)
    labels[2:6, 2:6], labels[7:11, 10:18] = 1, 2
    worse = np.where((labels == 2) & (np.arange(20) < 14), 0, labels).astype(np.uint8)
    for number in range(5):
        _write(tmp_path, "JPEGImages", "sheep", number, Image.new("RGB", (20, 12)))
        _write(tmp_path, "Annotations", "sheep", number, Image.fromarray(labels))
    results = tmp_path / "results" / "sheep"
    results.mkdir(parents=True)
    for number in (1, 2, 3):
        Image.fromarray(worse).save(results / f"{number:05d}.png")
    table = fv.evaluate("davis", tmp_path, results=results.parent)
    assert table["J"].tolist() == [1.0, 0.5] and table["frames"].tolist() == [3, 3]
    assert table["F"].tolist() == [1.0, boundary(worse == 2, labels == 2)]
    assert main(["evaluate", "davis", "--data", str(tmp_path), "--results", str(results.parent)]) == 0
    assert "J 0.750" in capsys.readouterr().out
    (results / "00002.png").unlink()
    assert main(["evaluate", "davis", "--data", str(tmp_path), "--results", str(results.parent)]) == 1
    assert "00002.png" in capsys.readouterr().err.replace("\n", "")
