"""Lists of public data sets in their own layouts, clips of their videos, and how clips are scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.data.labelled import LabelledClips, Listed, Sampling, listed
from foveate.evaluate.clips import evaluate, places, score, squares
from foveate.methods.amflow import AmFlow, AmFlowConfig
from foveate.models.vit import Vit, VitConfig
from foveate.recipes.amflow import in_two_phases, kinetics400_am12, smarthome_ends, ssv2_am12
from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter

torch.set_num_threads(1)


def video(path: Path, frames: int = 12, colour: int = 0, width: int = 48, height: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width, height, rate=10) as writer:
        for t in range(frames):
            picture = np.full((height, width, 3), 40, np.uint8)
            picture[:, :, colour] = 90 + 10 * t
            writer.write(picture)


def test_kinetics_as_it_is_published(tmp_path: Path) -> None:
    rows = [
        "label,youtube_id,time_start,time_end,split",
        "abseiling,-abc,20,30,train",
        "zumba,x_y,1,11,train",
        "zumba,gone,0,10,train",
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.csv").write_text("\n".join(rows))
    for name in ("train/abseiling/-abc_000020_000030.mp4", "train/x_y.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = listed("kinetics400", tmp_path, "train")
    assert found.classes == ("abseiling", "zumba") and found.label.tolist() == [0, 1] and found.missing == 1
    assert [path.name for path in found.paths] == ["-abc_000020_000030.mp4", "x_y.mp4"]
    with pytest.raises(FoveateError, match="list is missing"):
        listed("kinetics400", tmp_path, "test")
    (tmp_path / "annotations" / "train.csv").write_text("label,youtube_id,time_start,time_end\na,b,c,d\n")
    with pytest.raises(FoveateError, match="row of this list") as error:
        listed("kinetics400", tmp_path, "train")
    assert error.value.row == 2


def test_something_something_as_it_is_published(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.json").write_text(json.dumps({"Holding something": "1", "Bending something": "0"}))
    rows = [{"id": "7", "template": "Holding [something]"}, {"id": "8", "template": "Bending [something]"}]
    (tmp_path / "labels" / "validation.json").write_text(json.dumps(rows))
    (tmp_path / "20bn-something-something-v2").mkdir()
    (tmp_path / "20bn-something-something-v2" / "7.webm").touch()
    found = listed("ssv2", tmp_path, "test")
    assert found.classes == ("Bending something", "Holding something") and found.label.tolist() == [1] and found.missing == 1
    (tmp_path / "labels" / "validation.json").write_text(json.dumps([{"id": "7", "template": "Eating [something]"}]))
    with pytest.raises(FoveateError, match=r"is not in labels\.json"):
        listed("ssv2", tmp_path, "test")
    (tmp_path / "labels" / "validation.json").write_text("[1")
    with pytest.raises(FoveateError, match="cannot be read"):
        listed("ssv2", tmp_path, "test")


def test_smarthome_by_subject(tmp_path: Path) -> None:
    for name in ("Cook.Cut_p02_r00_v02_c03", "Walk_p03_r01_v02_c03", "Cook.Cut_p25_r00_v02_c03", "readme"):
        (tmp_path / f"{name}.mp4").touch()
    train, test = (listed("smarthome", tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == ("Cook.Cut", "Walk")
    assert train.label.tolist() == [0, 1] and test.label.tolist() == [0]
    with pytest.raises(FoveateError, match="no such folder"):
        listed("smarthome", tmp_path / "a", "train")


def test_which_frames_are_a_clip() -> None:
    time = np.arange(60) / 10
    dense, parts = Sampling(4, "dense", 0.5), Sampling(4, "uniform")
    assert dense.frames_of(time, np.zeros(4)).tolist() == [0, 5, 10, 15]
    assert dense.frames_of(time, np.ones(4)).tolist() == [44, 49, 54, 59]
    assert dense.frames_of(time[:8], np.full(4, 0.3)).tolist() == [
        0,
        2,
        5,
        7,
    ]  # too short for half a second: as far apart as can be
    middle = parts.frames_of(time, np.full(4, 0.5)).tolist()
    assert middle == [7, 22, 37, 52]
    varied = np.array([0.0, 0.1, 0.2, 3.0, 3.1, 3.2])  # seconds count, not frames
    assert Sampling(3, "dense", 1.0).frames_of(varied, np.zeros(3)).tolist() == [0, 2, 3]
    with pytest.raises(FoveateError, match="has 3 frames, and a clip 4"):
        dense.frames_of(time[:3], np.zeros(4))
    with pytest.raises(FoveateError, match="has 1 frames"):
        parts.frames_of(time[:1], np.zeros(4))
    assert [place[0] for place in places(dense, 3)] == [0.0, 0.5, 1.0] and places(dense, 1)[0][0] == 0.5
    assert [place[0] for place in places(parts, 2)] == [0.25, 0.75]


def test_scores_against_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    shares, label = rng.random((80, 9)), rng.integers(0, 8, 80)
    shares[np.arange(80), label] += 0.3
    found = score(shares, label)
    assert found.top1 == pytest.approx(metrics.accuracy_score(label, shares.argmax(1)))
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(label, shares, k=5, labels=range(9)))
    assert found.mean_class == pytest.approx(metrics.recall_score(label, shares.argmax(1), average="macro", labels=range(8)))


def test_squares_lie_along_the_long_side() -> None:
    pictures = torch.zeros(2, 3, 20, 60, dtype=torch.uint8)
    pictures[..., :20], pictures[..., 20:40] = 50, 150
    found = squares(pictures, 10)
    levels = found[:, 0, 0].mean((1, 2)) * 0.229 + 0.485
    torch.testing.assert_close(levels, torch.tensor([50.0, 150.0, 0.0]) / 255, atol=1e-3, rtol=0)
    assert squares(pictures, 10, 1).shape == (1, 2, 3, 10, 10)
    torch.testing.assert_close(squares(pictures, 10, 1)[0], found[1])


def test_clips_are_read_trained_on_and_scored(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.mp4" for k in range(5)]
    for k, path in enumerate(paths[:4]):
        video(path, colour=k % 2, width=48 if k < 2 else 32, height=32 if k < 2 else 48)
    paths[4].write_bytes(b"no video")
    source = Listed(tuple(paths), np.array([0, 1, 0, 1, 0]), ("red", "green"))
    data = LabelledClips(source, 3, 0, Sampling(2, "uniform"), short_side=24, workers=2)
    first = [next(it) for it in [data.batches()] for _ in range(3)]
    again = next(LabelledClips(source, 3, 0, Sampling(2, "uniform"), short_side=24, workers=1).batches(2))
    assert torch.equal(first[2].frames, again.frames) and torch.equal(first[2].time, again.time)
    assert first[0].frames.shape[:4] == (3, 1, 2, 3) and first[0].labels is not None
    assert list(data.unreadable) == [paths[4]]
    for batch in first:
        assert batch.labels is not None
        for clip, valid, label in zip(batch.frames[:, 0], batch.valid, batch.labels, strict=True):
            assert sorted((valid[2:] * torch.tensor(clip.shape[:1:-1])).round().tolist()) == [24, 36]
            colour = clip[0, :, :20, :20].float().mean((1, 2))
            assert colour.argmax() == label.argmax()
    torch.manual_seed(0)
    vit = Vit(VitConfig(image_size=16, patch=8, width=24, depth=2, heads=4)).eval()
    method = AmFlow(vit, AmFlowConfig(classes=2, frames=2, size=16, inner=8, exclusive=True))
    found = evaluate(method, source, Sampling(2, "uniform"), clips=2, crops=3, short_side=24)
    assert found.videos == 4 and found.unreadable == 1 and 0 <= found.top1 <= found.top5 == 1
    with pytest.raises(FoveateError, match="tell 2 classes"):
        evaluate(method, Listed(source.paths, source.label, ("a", "b", "c")), Sampling(2))
    with pytest.raises(FoveateError, match="fewer than a batch"):
        LabelledClips(source, 6, 0, Sampling(2))


def test_recipes_are_whole() -> None:
    kinetics, ssv2, smarthome = kinetics400_am12(), ssv2_am12(), smarthome_ends()
    assert kinetics.method.camera == "moving" and kinetics.method.temporal_blocks(12) == tuple(range(12))
    assert ssv2.method.camera == smarthome.method.camera == "static" and ssv2.method.flip == 0
    assert smarthome.method.temporal_blocks(12) == (0, 11)
    for recipe in (kinetics, ssv2, smarthome):
        assert recipe.method.frames == recipe.sampling.frames and recipe.method.exclusive
        two = in_two_phases(recipe).first_phase
        assert two is not None and two.temporal_blocks(12) == (0, 11)
