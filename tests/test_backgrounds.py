"""The backgrounds challenge: what the eight sets are, what readers of one part alone score on them, and every place they are made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.api import evaluate
from foveate.evaluate.backgrounds import Wanted, challenge, composites, footage
from foveate.evaluate.backgrounds import evaluate as ask_folder
from foveate.evaluate.backgrounds.composites import MIXED, SETS, Scene
from foveate.evaluate.encoders import Encoder, open_encoder
from foveate.models.convnets import ConvConfig, ConvNet, save_convnet
from foveate.models.pretrained import Tokens
from foveate.schema import FoveateError

COLOURS = ((220, 30, 30), (30, 200, 30), (30, 30, 220))
GREYS = (90, 150, 210)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scene(colour: int, grey: int, seed: int = 0, side: int = 48) -> Scene:
    """A coloured box on grey ground."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), GREYS[grey], np.uint8)
    mask = np.zeros((side, side), bool)
    x, y = rng.integers(6, side // 2, 2)
    mask[y : y + side // 3, x : x + side // 3] = True
    mask[y, x] = False  # no rectangle
    picture[mask] = COLOURS[colour]
    return Scene(picture[None], mask[None])


def task(correlated: bool, groups: int = 6, each: int = 4) -> challenge.Task:
    """Three classes of colours; the ground goes with the class, or with nothing."""
    scenes, label, group = [], [], []
    for g in range(groups):
        for c in range(3):
            for k in range(each):
                scenes.append(scene(c, c if correlated else (g + k) % 3, 100 * g + 10 * c + k))
                label.append(c)
                group.append(f"animal {g}")
    return challenge.Task(scenes, np.array(label), np.array(group), ("red", "green", "blue"))


def reader(of: Callable[[torch.Tensor], torch.Tensor]) -> Encoder:
    """A backbone that knows one thing of a picture f32[B, 3, H, W]."""

    def encode(clips: torch.Tensor) -> Tokens:
        whole = of(clips[:, 0].float())
        return Tokens(whole, whole[:, None, None])

    return Encoder("reader", "vit", False, 1, 3, torch.device("cpu"), encode)


def colourful(pictures: torch.Tensor) -> torch.Tensor:
    """Mean of what is not grey: the subject alone, in units that its size does not change."""
    coloured = (pictures.amax(1) - pictures.amin(1) > 20).float()
    return (pictures * coloured[:, None]).sum((2, 3)) / coloured.sum((1, 2)).clamp(min=1)[:, None] / 255


def corner(pictures: torch.Tensor) -> torch.Tensor:
    """The ground alone."""
    return pictures[:, :, 0, 0] / 255


def test_a_reader_of_the_subject_has_no_gap_and_one_of_the_ground_needs_no_subject() -> None:
    """Spec of the challenge: BG-Gap 0 and No-FG at chance; the other way round Only-BG as good as the original."""
    found = {}
    for name, read in (("subject", colourful), ("ground", corner)):
        answers = challenge.ask(task(correlated=True), reader(read), asked=72, adversaries=3)
        found[name] = {r["set"]: r for r in challenge.table(answers, 3) if r["feature"] == "whole"}
        assert found[name]["original"]["chance"] == pytest.approx(1 / 3) and found[name]["original"]["groups"] == 6
    value = {name: {which: row["accuracy"] for which, row in rows.items()} for name, rows in found.items()}
    assert all(value["subject"][which] == 1 for which in ("original", "only_fg", *MIXED, "adversarial"))
    assert value["subject"]["gap"] == 0 and all(
        value["subject"][which] == pytest.approx(1 / 3) for which in ("no_fg", "only_bg_b", "only_bg_t")
    )
    assert all(value["ground"][which] == 1 for which in ("original", "no_fg", "only_bg_b", "only_bg_t", "mixed_same"))
    assert value["ground"]["mixed_next"] == 0 and value["ground"]["adversarial"] == 0
    assert value["ground"]["only_fg"] == pytest.approx(1 / 3) and 0.1 < value["ground"]["mixed_rand"] < 0.6
    assert found["ground"]["gap"]["low"] > 0.3  # leans on it, shown


def test_ground_that_says_nothing_helps_nobody() -> None:
    answers = challenge.ask(task(correlated=False), reader(corner), asked=72, adversaries=2)
    found = {r["set"]: r for r in challenge.table(answers, 3)}
    assert found["original"]["accuracy"] < 0.55 and found["gap"]["low"] <= 0 <= found["gap"]["high"]


def test_intervals_are_over_groups_and_need_five() -> None:
    few = challenge.table(challenge.ask(task(True, groups=4), reader(corner), 48, 1), 3)
    assert all(row["low"] is None and row["high"] is None for row in few)


@settings(max_examples=60, deadline=None)
@given(x=st.integers(0, 30), y=st.integers(0, 20), w=st.integers(1, 30), h=st.integers(1, 25), seed=st.integers(0, 1000))
def test_tiles_are_background_of_the_widest_strip(x: int, y: int, w: int, h: int, seed: int) -> None:
    height, width = 32, 48
    w, h = min(w, width - x), min(h, height - y)
    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    one = Scene(picture[None], mask[None])
    if not one.usable():
        return
    filled = composites.only_bg_t(one)[0]
    assert (filled[~mask] == picture[~mask]).all()
    x0, y0, x1, y1 = composites.strips((x, y, w, h), one.rectangle)[0]
    strip = {tuple(pixel) for pixel in picture[y0:y1, x0:x1].reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in filled[mask].tolist()} <= strip
    assert (x1 - x0) * (y1 - y0) == max(y * width, (height - y - h) * width, x * height, (width - x - w) * height)


def test_the_sets_are_what_they_are_called() -> None:
    scenes = [scene(0, 0, 1), scene(1, 1, 2), scene(0, 2, 3)]
    drawn = composites.Partners(np.array([[2, 1, 1]] * 3), np.zeros((3, 0), np.int64))
    made = {which: composites.compose(scenes, 0, which, drawn)[0] for which in SETS}
    mask, original = scenes[0].masks[0], scenes[0].frames[0]
    assert (made["original"] == original).all()
    assert (made["only_fg"][mask] == original[mask]).all() and not made["only_fg"][~mask].any()
    assert (made["no_fg"][~mask] == original[~mask]).all() and not made["no_fg"][mask].any()
    x, y, w, h = composites.box(mask) or (0, 0, 0, 0)
    inside = np.zeros_like(mask)
    inside[y : y + h, x : x + w] = True
    assert not made["only_bg_b"][inside].any() and (made["only_bg_b"][~inside] == original[~inside]).all()
    assert (made["only_bg_t"] == GREYS[0]).all()
    assert (made["mixed_same"][mask] == original[mask]).all() and (made["mixed_same"][~mask] == GREYS[2]).all()
    assert (made["mixed_rand"][~mask] == GREYS[1]).all() and (made["mixed_next"][~mask] == GREYS[1]).all()


def test_clips_keep_their_frames_and_backgrounds_go_along() -> None:
    one = Scene(
        np.concatenate([scene(0, 0, k).frames for k in range(5)]), np.concatenate([scene(0, 0, k).masks for k in range(5)])
    )
    behind = np.stack([np.full((20, 30, 3), 40 * k, np.uint8) for k in range(3)])
    blend = composites.mixed(one, behind)
    assert blend.shape == one.frames.shape and [int(f[0, 0, 0]) for f in blend] == [
        0,
        0,
        40,
        80,
        80,
    ]  # 0, .5, 1, 1.5, 2 to even
    empty = replace(one, masks=one.masks & (np.arange(5) != 2)[:, None, None])
    assert empty.usable() and (composites.only_bg_b(empty)[2] == one.frames[2]).all()
    assert (
        not replace(one, masks=np.zeros_like(one.masks)).usable() and not replace(one, masks=np.ones_like(one.masks)).usable()
    )


def test_backgrounds_come_from_others_of_the_right_class() -> None:
    label, group = np.array([0, 0, 1, 1, 2, 2, 2]), np.array(list("ababcab"))
    drawn = composites.partners(label, group, adversaries=3)
    same, _, following = drawn.mixed.T
    assert (label[same] == label).all() and (label[following] == (label + 1) % 3).all() and (group[same] != group).all()
    assert (label[drawn.adversaries] != label[:, None]).all()
    lonely = composites.partners(np.array([0, 1, 1]), np.array(["a", "a", "b"]), adversaries=2)
    assert lonely.mixed[0, 0] == -1 and (lonely.adversaries[0] >= 0).all() and lonely.adversaries[1].tolist()[1] == -1


# --- places it is made from ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("net") / "net"
    save_convnet(ConvNet(ConvConfig("resnet18", 8)), folder)
    return folder


def davis(folder: Path, classes: bool) -> Path:
    """Nine sequences of six frames, three of each colour."""
    for n in range(9):
        pictures, masks = (folder / kind / "480p" / f"seq{n}" for kind in ("JPEGImages", "Annotations"))
        pictures.mkdir(parents=True)
        masks.mkdir(parents=True)
        for k in range(6):
            one = scene(n % 3, n % 3 if classes else n // 3, 10 * n + k)
            Image.fromarray(one.frames[0]).save(pictures / f"{k:05d}.jpg", quality=95)
            Image.fromarray(one.masks[0].astype(np.uint8)).save(masks / f"{k:05d}.png")
    if classes:
        rows = [f"seq{n},{['red', 'green', 'blue'][n % 3]},{'test' if n < 3 else 'train'}" for n in range(9)]
        (folder / "classes.csv").write_text("sequence,class,split\n" + "\n".join(rows) + "\n")
    return folder


@pytest.mark.filterwarnings("ignore:the model 'handcrafted'")
def test_a_folder_of_davis_layout_with_classes_and_without(tmp_path: Path) -> None:
    named = davis(tmp_path / "named", classes=True)
    table = evaluate("backgrounds", named, "handcrafted", size=56, out=tmp_path / "out")
    value = table[table["feature"] == "subject"].set_index("set")["accuracy"]
    assert value["original"] > 0.9 and value["only_bg_t"] > 0.6 and table["classes"].eq(3).all()
    assert (tmp_path / "out" / "table.csv").is_file()
    with Image.open(tmp_path / "out" / "sets.png") as sheet:
        assert sheet.width > 700 and np.asarray(sheet).std() > 20
    assert evaluate("backgrounds", named, "handcrafted", size=56).equals(table)
    plain = footage.of_folder(davis(tmp_path / "plain", classes=False), 48, 54)
    assert (
        len(plain.classes) == 9 and plain.train is not None and plain.test is not None and not (plain.train & plain.test).any()
    )


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, net: Path) -> None:
    folder = davis(tmp_path / "davis", classes=True)
    text = (folder / "classes.csv").read_text()
    for wrong, problem in (
        (text.replace("seq4,green,train\n", ""), "'seq4' has no class"),
        (text.replace("train", "tomorrow", 1), "this row cannot be used"),
        (text.replace("test", "train"), "nothing to train and to test"),
    ):
        (folder / "classes.csv").write_text(wrong)
        with pytest.raises(FoveateError, match=problem):
            footage.of_folder(folder, 48, 54)
    with pytest.raises(FoveateError, match="takes no cheap"):
        evaluate("backgrounds", folder, str(net), cheap=True)


def in9(folder: Path, each: int = 6) -> Path:
    """The published layout with three classes."""
    names = ("00_dog", "01_bird", "02_vehicle")
    rng = np.random.default_rng(0)
    for c, name in enumerate(names):
        scenes = [scene(c, int(rng.integers(3)), 50 * c + k) for k in range(2 * each)]
        (folder / "original" / "train" / name).mkdir(parents=True)
        for k, one in enumerate(scenes[each:]):
            Image.fromarray(one.frames[0]).save(folder / "original" / "train" / name / f"{k}.png")
        drawn = composites.Partners(np.array([[(n + 1) % each] * 3 for n in range(each)]), np.zeros((each, 0), np.int64))
        for which in SETS:
            place = folder / which / "val" / name
            place.mkdir(parents=True)
            for k in range(each):
                Image.fromarray(composites.compose(scenes[:each], k, which, drawn)[0]).save(place / f"{k}.png")
        (folder / "fg_mask" / "val" / name).mkdir(parents=True)
        for k in range(each):
            np.save(folder / "fg_mask" / "val" / name / f"{k}.npy", scenes[k].masks[0])
    return folder


@pytest.mark.filterwarnings("ignore:the model 'handcrafted'")
def test_in9_as_published(tmp_path: Path) -> None:
    folder = in9(tmp_path / "in9")
    table = ask_folder(folder, Wanted("handcrafted", 56, adversaries=0)).set_index("set")
    assert list(table.index) == [*SETS, "gap", "adversarial"] and table["pictures"].eq(18).all()
    assert table["accuracy"]["original"] >= 0.8 and table["accuracy"]["only_bg_t"] < 0.7  # grounds say nothing here
    assert table["accuracy"]["gap"] == pytest.approx(table["accuracy"]["mixed_same"] - table["accuracy"]["mixed_rand"])
    assert table["accuracy"]["adversarial"] <= table["accuracy"]["original"]
    # A probe of other classes answers through the released table; what it leaves out is wrong.
    train = folder / "original" / "train"
    for k, name in enumerate(sorted(path.name for path in train.iterdir())):
        (train / name).rename(train / f"n{k}")
    with pytest.raises(FoveateError, match="no table of them"):
        ask_folder(folder, Wanted("handcrafted", 56))
    (folder / "in_to_in9.json").write_text('{"0": 0, "1": 1, "2": -1}')
    mapped = ask_folder(folder, Wanted("handcrafted", 56, adversaries=1)).set_index("set")
    assert mapped["accuracy"]["original"] <= 2 / 3 < table["accuracy"]["original"]
    shutil.rmtree(folder / "no_fg")
    with pytest.raises(FoveateError, match="no set 'no_fg'"):
        ask_folder(folder, Wanted("handcrafted", 56))


def test_encoders_of_every_kind_give_vectors_and_grids(tmp_path: Path, net: Path) -> None:
    """Conv nets for pictures and for clips, and our own transformers, from folders and from files."""
    from foveate.models.vit import Vit, VitConfig, save_vit

    torch.manual_seed(0)
    save_vit(Vit(VitConfig(image_size=32, patch=8, width=32, depth=4, heads=2, mlp_ratio=2)), tmp_path / "vit")
    save_convnet(ConvNet(ConvConfig("r2plus1d_18", 8)), tmp_path / "clips")
    pictures = torch.randint(0, 256, (2, 3, 40, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for source, width in ((net, 64), (net / "model.safetensors", 64), (tmp_path / "vit", 32), (tmp_path / "clips", 64)):
        encoder = open_encoder(str(source))
        found = encoder.pictures(pictures)
        assert found.whole.shape == (2, width) == (2, encoder.width) and found.patches.shape[0] == 2
        still = encoder.clips(pictures.unsqueeze(1).expand(-1, 16, -1, -1, -1))
        assert torch.allclose(still, found.whole, atol=1e-4), source
    with pytest.raises(FoveateError):
        open_encoder(str(tmp_path / "nothing"))
