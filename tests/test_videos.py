"""UCF101, HMDB51, JHMDB and mini-Kinetics in their own layouts: lists, miniatures with a signal that is found, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from foveate.api import evaluate
from foveate.data.labelled import Listed, Sampling
from foveate.data.official_splits import official
from foveate.evaluate import jhmdb, videos
from foveate.evaluate.videos import VideoSettings
from foveate.models.convnets import ConvConfig, ConvNet, save_convnet
from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter

CLASSES = ("Blue", "Green", "Red")
FAST = VideoSettings(Sampling(4, "dense", 0.1), size=32, clips=2, training=2, epochs=40, batch=8, rate=0.8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def walk(path: Path, colour: int, seed: int, ground: int = 90, frames: int = 8) -> np.ndarray:
    """A video of a coloured box that walks, and its masks bool[T, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y, tint = int(rng.integers(4, 24)), rng.integers(-30, 30)
    masks = np.zeros((frames, 48, 64), bool)
    with VideoWriter(path, 64, 48, rate=10) as writer:
        for t in range(frames):
            picture = np.full((48, 64, 3), ground + tint, np.uint8)
            masks[t, y : y + 18, 10 + 2 * t : 30 + 2 * t] = True
            picture[masks[t]] = np.eye(3, dtype=np.uint8)[colour] * 200 + 30
            writer.write(picture)
    return masks


def net(folder: Path) -> str:
    torch.manual_seed(0)
    save_convnet(ConvNet(ConvConfig("resnet18", 8)), folder)
    return str(folder)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of five videos each; three are for training."""
    root = tmp_path_factory.mktemp("ucf")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{k + 1} {name}\n" for k, name in enumerate(CLASSES)))
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for k, name in enumerate(CLASSES):
        for n in range(5):
            file = f"{name}/v_{name}_g{n:02d}_c01"
            walk(root / "UCF-101" / f"{file}.mp4", 2 - k, 10 * k + n)
            side = "train" if n < 3 else "test"
            rows[side].append(f"{file}.avi" + (f" {k + 1}" if side == "train" else ""))
    for side, lines in rows.items():
        (lists / f"{side}list01.txt").write_text("\r\n".join(lines) + "\r\n")
    return root


def test_ucf101_is_read_as_published(ucf: Path, tmp_path: Path) -> None:
    train, test = official("ucf101", ucf, "train"), official("ucf101", ucf, "test")
    assert train.classes == CLASSES and train.label.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and len(test.paths) == 6
    assert all(path.parent.name == CLASSES[label] for path, label in zip(test.paths, test.label, strict=True))
    with pytest.raises(FoveateError, match="list is missing") as error:
        official("ucf101", ucf, "train", 2)
    assert error.value.file is not None and error.value.file.name == "trainlist02.txt"
    with pytest.raises(FoveateError, match="has no split 4"):
        official("ucf101", ucf, "train", 4)
    copy = Path(shutil.copytree(ucf, tmp_path / "copy"))
    next((copy / "UCF-101" / "Red").glob("*g04*")).unlink()
    assert official("ucf101", copy, "test").missing == 1
    (copy / "ucfTrainTestlist" / "testlist01.txt").write_text("Gold/v_Gold_g01_c01.avi\n")
    with pytest.raises(FoveateError, match="'Gold' is not in classInd") as error:
        official("ucf101", copy, "test")
    assert error.value.row == 1
    shutil.rmtree(copy / "UCF-101")
    with pytest.raises(FoveateError, match="none of the 9 videos"):
        official("ucf101", copy, "train")


def test_a_linear_layer_tells_what_can_be_told(ucf: Path, tmp_path: Path) -> None:
    """Colours, which a network of random weights lets through as well."""
    found = videos.evaluate("ucf101", ucf, net(tmp_path / "net"), settings=FAST)
    assert found["top1"][0] >= 5 / 6 and found["videos"][0] == 6 and found["unreadable"][0] == 0
    again = videos.evaluate("ucf101", ucf, str(tmp_path / "net"), settings=FAST)
    assert again.equals(found)


def test_fine_tuning_learns_and_goes_on_without_what_it_cannot_read(ucf: Path, tmp_path: Path) -> None:
    backbone = net(tmp_path / "net")
    given = VideoSettings(Sampling(2, "dense", 0.1), 32, clips=2, epochs=20, batch=6, rate=0.1)
    found = videos.evaluate("ucf101", ucf, backbone, "finetune", settings=given)
    assert found["top1"][0] >= 5 / 6 and found["mode"][0] == "finetune"
    damaged = Path(shutil.copytree(ucf, tmp_path / "ucf"))
    next((damaged / "UCF-101" / "Red").glob("*g03*")).write_bytes(b"no video")
    short = VideoSettings(Sampling(2, "dense", 0.1), 32, clips=1, epochs=1, batch=6)
    row = videos.evaluate("ucf101", damaged, backbone, "finetune", settings=short).iloc[0]
    assert row["videos"] == 5 and row["unreadable"] == 1


def test_training_crops_keep_their_share_and_are_the_same_in_all_frames(ucf: Path) -> None:
    for k in range(200):
        draw = np.random.default_rng(k).random(5)
        x0, y0, x1, y1 = videos._box(64, 48, draw.tolist(), (0.25, 1.0))
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48
        share, shape = (x1 - x0) * (y1 - y0) / (64 * 48), (x1 - x0) / (y1 - y0)
        assert share > 0.22 and (0.7 < shape < 1.4 or x1 - x0 == 64 or y1 - y0 == 48)


def hmdb_lists(folder: Path, names: dict[str, list[tuple[str, int]]]) -> None:
    folder.mkdir(parents=True)
    for label, rows in names.items():
        (folder / f"{label}_test_split1.txt").write_text("".join(f"{name}.avi {side} \n" for name, side in rows))


def test_hmdb51_is_read_as_published(tmp_path: Path) -> None:
    rows = {"brush_hair": [("a b(1)", 1), ("c", 2), ("d", 0)], "cartwheel": [("e", 2), ("f", 1), ("gone", 1)]}
    hmdb_lists(tmp_path / "testTrainMulti_7030_splits", rows)
    for label, own in rows.items():
        for name, _ in own:
            if name != "gone":
                (tmp_path / label).mkdir(exist_ok=True)
                (tmp_path / label / f"{name}.avi").touch()
    train, test = official("hmdb51", tmp_path, "train"), official("hmdb51", tmp_path, "test")
    assert [path.stem for path in train.paths] == ["a b(1)", "f"] and train.missing == 1
    assert [path.stem for path in test.paths] == ["c", "e"] and test.label.tolist() == [0, 1]
    (tmp_path / "testTrainMulti_7030_splits" / "cartwheel_test_split1.txt").write_text("e.avi two\n")
    with pytest.raises(FoveateError, match="row cannot be read"):
        official("hmdb51", tmp_path, "train")
    with pytest.raises(FoveateError, match="there are no lists"):
        official("hmdb51", tmp_path, "train", 3)


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JHMDB's layout; the ground goes with the class."""
    root = tmp_path_factory.mktemp("jhmdb")
    names: dict[str, list[tuple[str, int]]] = {}
    for k, label in enumerate(("jump", "run", "sit")):
        for n in range(5):
            masks = walk(root / "ReCompress_Videos" / label / f"{label}_{n}.mp4", k, 10 * k + n, (60, 120, 180)[k])
            place = root / "puppet_mask" / label / f"{label}_{n}"
            place.mkdir(parents=True)
            savemat(place / "puppet_mask.mat", {"part_mask": masks[: 8 - n % 2].transpose(1, 2, 0).astype(np.uint8)})
            names.setdefault(label, []).append((f"{label}_{n}", 1 if n < 3 else 2))
    hmdb_lists(root / "splits", names)
    return root


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_jhmdb_in_eight_sets(puppets: Path, tmp_path: Path, mode: videos.Mode) -> None:
    given = VideoSettings(Sampling(4, "dense", 0.1), 32, clips=1, epochs=20, batch=8, rate=0.8)
    found = jhmdb.jhmdb(puppets, net(tmp_path / "net"), mode, adversaries=1, settings=given)
    value = found[found["feature"] == "whole"].set_index("set")["accuracy"]
    assert len(value) == 10 and value["original"] > 0.8 and (found["pictures"] == 6).all()
    assert value["mixed_same"] > value["mixed_next"]  # the ground goes with the class here, and both networks have seen that


def test_what_jhmdb_misses_is_said(puppets: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(puppets, tmp_path / "copy"))
    mask = copy / "puppet_mask" / "run" / "run_1" / "puppet_mask.mat"
    mask.write_bytes(b"no matrix")
    with pytest.raises(FoveateError, match="not a puppet mask"):
        jhmdb.jhmdb(copy, net(tmp_path / "net"), settings=FAST)
    mask.unlink()
    with pytest.raises(FoveateError, match="mask is missing"):
        jhmdb.jhmdb(copy, str(tmp_path / "net"), settings=FAST)


def test_mini_kinetics_without_its_foreground(tmp_path: Path) -> None:
    """The class is the colour of the box: without it nothing is left."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    (tmp_path / "boxes").mkdir()
    for split, count in (("train", 4), ("val", 3)):
        lines = list(rows)
        for k, label in enumerate(("jumping", "running", "unused")):
            for n in range(count):
                stem = f"{split}{k}{n}_000000_000010"
                masks = walk(tmp_path / split / label / f"{stem}.mp4", k, 10 * k + n + (100 if split == "val" else 0))
                lines.append(f"{label},{split}{k}{n},0,10,{split}")
                if split == "val" and not (k == 0 and n == 0):
                    found = [(t, *np.argwhere(m).min(0)[::-1], 20, 18) for t, m in enumerate(masks)]
                    text = "frame,x,y,w,h\n" + "".join(",".join(map(str, box)) + "\n" for box in found)
                    (tmp_path / "boxes" / f"{stem}.csv").write_text(text)
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mini_kinetics.txt").write_text("running\njumping\n")
    assert official("mini-kinetics", tmp_path, "train").classes == ("jumping", "running")
    found = jhmdb.mini_kinetics(tmp_path, net(tmp_path / "net"), settings=FAST).iloc[0]
    assert found["videos"] == 5 and found["without_boxes"] == 1
    assert (
        found["original"] >= 0.8 and found["drop"] == pytest.approx(found["original"] - found["no_fg"]) and found["drop"] > 0.1
    )
    (tmp_path / "mini_kinetics.txt").write_text("swimming\n")
    with pytest.raises(FoveateError, match="no class 'swimming'"):
        official("mini-kinetics", tmp_path, "train")


def test_the_command_knows_them(ucf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "LINEAR", FAST)
    found = evaluate("ucf101", ucf, net(tmp_path / "net"))
    assert list(found.columns) == ["split", "mode", "clips", "videos", "unreadable", "top1", "top5", "mean_class"]
    with pytest.raises(FoveateError, match="takes no cheap"):
        evaluate("hmdb51", ucf, cheap=True)
    shares, label, _ = videos.shares_of(
        Listed((next(ucf.rglob("*.mp4")),), np.array([0]), CLASSES), lambda clips: torch.ones(len(clips), 3) / 3, FAST
    )
    assert shares.tolist() == [[pytest.approx(1 / 3)] * 3] and label.tolist() == [0]
