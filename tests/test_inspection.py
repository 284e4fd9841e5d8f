"""Footage before it is used: lightness, motion, shots, classes, and places side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from foveate.api import inspect as api_inspect
from foveate.cli import main
from foveate.inspection import frequencies, inspect, lightness, table
from foveate.inspection.objects import Detector
from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter
from tests.test_views_store import scene


def test_lightness_is_that_of_cielab() -> None:
    """Known values of sRGB colours (CIE 15; any converter gives them)."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [119, 119, 119], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    assert lightness(colours) == pytest.approx([0, 100, 50.03, 53.24, 87.73, 32.30], abs=0.02)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two videos, one of them of two shots and with a moving camera; and pictures."""
    folder = tmp_path_factory.mktemp("inspected")
    for name in ("still", "moving", "pictures"):
        (folder / name).mkdir()
    one, other = scene(40, 320, 180), scene(60, 320, 180)
    with VideoWriter(folder / "still" / "a.mp4", 320, 180, rate=4) as writer:
        for _ in range(24):
            writer.write(one)
    with VideoWriter(folder / "moving" / "b.mp4", 320, 180, rate=4) as writer:
        for t in range(24):
            writer.write(np.roll(one if t < 12 else other // 2, 2 * t, 1))
    for k, grey in enumerate((0, 119, 255)):
        Image.new("RGB", (64, 48), (grey,) * 3).save(folder / "pictures" / f"{k}.png")
    return [folder / name for name in ("still", "moving", "pictures")]


def test_what_is_known_is_found(places: list[Path]) -> None:
    still, moving, pictures = inspect(places, step=0.5)
    assert [one.group for one in (still, moving, pictures)] == ["still", "moving", "pictures"]
    assert (still.width, still.height, still.pictures, still.rate) == (320, 180, 24, 4) and still.seconds == pytest.approx(6)
    assert still.time == pytest.approx(np.arange(12) / 2) and np.isnan(still.motion[0])
    assert not len(still.cuts) and moving.cuts == pytest.approx([3.0]) and np.isnan(moving.motion[6])
    assert np.nanmax(still.motion) < 0.5 < 2 < np.nanmedian(moving.motion)
    assert still.lightness == pytest.approx(lightness(scene(40, 320, 180)).mean(), abs=1.5) and np.ptp(still.lightness) < 0.5
    assert moving.lightness[:6].min() > moving.lightness[6:].max() + 10
    assert pictures.lightness == pytest.approx([0, 50.03, 100], abs=0.1) and (pictures.width, pictures.pictures) == (64, 3)
    rows = table([still, moving, pictures]).set_index("name")
    assert rows["shots"].tolist() == [1, 2, 0] and rows.loc["b", "cuts_per_minute"] == pytest.approx(10)
    assert inspect([places[1] / "b.mp4"], step=0.5)[0].cuts == pytest.approx([3.0])


def test_tables_and_figure_are_written(places: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *map(str, places), "--out", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["a", "b", "pictures"] and rows[2]["seconds"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"inspection.svg", "inspection.png", "videos.csv"}
    assert main(["inspect", str(places[0])]) == 0 and "320 x 180" in capsys.readouterr().out
    assert len(api_inspect(places[2], progress=False)) == 1


def test_classes_are_counted_by_picture(places: list[Path], tmp_path: Path) -> None:
    one = inspect([places[2]])[0]
    seen = [frozenset({"dog"}), frozenset({"dog", "cat"}), frozenset[str]()]
    found = [replace(one, classes=tuple(seen)), replace(one, group="other", classes=(frozenset({"cat"}),))]
    shares = frequencies(found)
    assert shares.loc["cat"].tolist() == pytest.approx([1 / 3, 1]) and shares.loc["dog"].tolist() == pytest.approx([2 / 3, 0])
    assert table(found)["classes_per_picture"].tolist() == [1, 1] and table(found)["classes"].tolist() == [2, 1]
    from foveate.inspection import save

    save(found, tmp_path)
    assert (tmp_path / "classes.csv").read_text().splitlines()[0] == "class,pictures,other"


def test_any_detector_of_transformers(places: list[Path], tmp_path: Path) -> None:
    """A tiny random one, biased towards its second class; the boxes' scores are those of the library's model."""
    torch.manual_seed(0)
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 48],
        num_detection_tokens=3,
    )
    config.id2label = {0: "cat", 1: "dog", 2: "cow"}
    config.label2id = {name: number for number, name in config.id2label.items()}
    model = transformers.YolosForObjectDetection(config)
    with torch.no_grad():
        model.class_labels_classifier.layers[-1].bias[1] = 20
    model.save_pretrained(tmp_path / "yolos")
    (tmp_path / "yolos" / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 32, "longest_edge": 48}})
    )
    detector = Detector.load(str(tmp_path / "yolos"))
    assert (detector.names, detector.short, detector.long) == (("cat", "dog", "cow"), 32, 48)
    assert detector.classes(scene(5, 64, 48)) == {"dog"}
    found = inspect(places[2:], detector=str(tmp_path / "yolos"))
    assert found[0].classes == (frozenset({"dog"}),) * 3


def test_what_cannot_be_inspected_is_told(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="neither videos nor pictures"):
        inspect([tmp_path])
    with pytest.raises(FoveateError, match="no such folder"):
        inspect([tmp_path / "nowhere"])
    with pytest.raises(FoveateError, match="after 0 s"):
        inspect([tmp_path], step=0)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(FoveateError, match="not a video"):
        inspect([tmp_path])
