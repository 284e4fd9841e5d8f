"""The trained cells of AM Flow (benchmarks/amflow_*.py): equal sizes, the right labels, and what the tables claim."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.methods.amflow import AmFlow, parameters
from foveate.models.vit import Vit, VitConfig

torch.set_num_threads(1)
SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Any:
    """The scripts, as they import one another."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield {name: importlib.import_module(name) for name in ("amflow_data", "amflow_train", "amflow_table")}
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def vit() -> Vit:
    torch.manual_seed(0)
    config = VitConfig(image_size=112, patch=14, width=48, depth=10, heads=4, mlp_ratio=1, layer_scale=None)
    return Vit(config).eval().requires_grad_(False)


def tokens(train: Any, clips: int, copies: int = 2) -> Any:
    values = np.random.default_rng(0).normal(size=(copies, clips, train.FRAMES, 65, 48)).astype(np.float16)
    return train.Tokens(values, np.arange(clips) % len(train.CLASSES), np.zeros((copies, clips, train.FRAMES, 96), np.float32))


def test_adapters_are_of_equal_size(scripts: Any, vit: Vit) -> None:
    train = scripts["amflow_train"]
    trained = {}
    for name in train.METHODS:
        method = AmFlow(train.fresh(vit), train.config_of(name, vit))
        trained[name] = parameters([v for k, v in method.trained().items() if not k.startswith("head.")])
    assert trained.pop("linear") == trained.pop("window") == 0
    assert trained["aligned"] == trained["permuted"]
    for name, count in trained.items():
        assert abs(count / trained["aligned"] - 1) < 0.08, name  # widths are multiples of 4


def test_every_clip_once_a_pass_and_mirrored_copies_with_mirrored_labels(scripts: Any) -> None:
    train = scripts["amflow_train"]
    some, size = tokens(train, 20), train.Size(batch=4)
    seen = []
    for batch in train.batches(some, size, 0, 3):
        for token, label in zip(batch.tokens[:, 0].numpy(), batch.labels.argmax(1).tolist(), strict=True):
            copy, clip = next((c, k) for c in range(2) for k in range(20) if np.array_equal(some.values[c, k], token))
            expected = some.label[clip] if copy == 0 else train.MIRROR[some.label[clip]]
            assert label == expected
            seen.append((clip, copy))
    assert sorted(clip for clip, _ in seen) == list(range(20)) and {copy for _, copy in seen} == {0, 1}
    again = next(train.batches(some, size, 0, 3))
    assert torch.equal(again.tokens, next(train.batches(some, size, 0, 3)).tokens)


@pytest.mark.parametrize("name", ["linear", "window", "plain", "aligned", "permuted", "st", "aim"])
def test_every_method_is_trained_and_asked(scripts: Any, vit: Vit, name: str) -> None:
    train = scripts["amflow_train"]
    size, some = train.Size(epochs=1, frozen_epochs=2, batch=4), tokens(train, 10)
    method, answers, course = train.fit(name, train.fresh(vit), some, some, size, 1e-2, 0, 1)
    assert answers.shape == (10, 5) and np.isfinite(answers).all()
    assert course["curve"][-1] == pytest.approx((answers.argmax(1) == some.label).mean(), abs=1e-4)
    untrained = AmFlow(train.fresh(vit), train.config_of(name, vit)).trained()
    assert any(not torch.equal(value, untrained[key]) for key, value in method.trained().items())
    if name not in ("linear", "window"):
        np.testing.assert_allclose(train.logits(method, some), answers, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "window"])
def test_frozen_features_are_the_methods_own(scripts: Any, vit: Vit, name: str, tmp_path: Path) -> None:
    train = scripts["amflow_train"]
    some = tokens(train, 5)
    for camera in train.CAMERAS:
        np.save(tmp_path / f"tokens-{camera}.npy", some.values)
    np.save(tmp_path / "about.npy", np.array([(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]))
    train.store_frozen(tmp_path, vit)
    learned, asked = (train.load(tmp_path, "panned", held_out) for held_out in (False, True))
    assert learned.values.shape[:2] == learned.frozen.shape[:2] == (2, 4) and asked.frozen.shape[:2] == (1, 1)
    size = train.Size(frozen_epochs=1, batch=4)
    method, answers, _ = train.fit(name, train.fresh(vit), learned, asked, size, 1e-2, 0, 1)
    np.testing.assert_allclose(train.logits(method, asked), answers, atol=1e-4)


def test_clips_show_what_they_are_said_to_show(scripts: Any) -> None:
    data = scripts["amflow_data"]
    frames, moved = data.clip(8, 0, data.CLASSES["turning_left"])
    again, _ = data.clip(8, 0, data.CLASSES["turning_left"])
    assert np.array_equal(frames, again) and frames.shape == (2, 4, 144, 144, 3)
    assert 0.3 < moved.max() <= 1 and moved.min() == 0
    from foveate.data.camera import shift

    still, panned = ([np.hypot(*shift(one[t], one[t + 1])) for t in range(3)] for one in frames)
    assert np.median(still) < 1.5 and np.median(panned) > 4


def test_when_a_difference_is_shown(scripts: Any, tmp_path: Path) -> None:
    table, rng = scripts["amflow_table"], np.random.default_rng(0)
    label = "".join(str(k % 5) for k in range(200))

    def cell(name: str, seed: int, accuracy: float) -> None:
        told = "".join(one if rng.random() < accuracy else str((int(one) + 1) % 5) for one in label)
        values = {"camera": "panned", "method": name, "seed": seed, "label": label, "told": told, "trained": 1000}
        values |= {"epochs_to_95": 3, "time_ratio": 1.5, "recall": {"turning_left": 0.5}}
        (tmp_path / f"panned-{name}-{seed}.json").write_text(json.dumps(values))

    for seed in range(3):
        cell("aligned", seed, 0.9)
        cell("static", seed, 0.6)
        cell("temporal", seed, 0.6)
    lines = [line for line in table.text(tmp_path).splitlines() if "−" in line]
    verdicts = {line.split(" | ")[0].strip("| "): line.rsplit(" | ", 1)[1].strip(" |") for line in lines}
    assert verdicts["the same with aligned flow − the same with flow"] == "shown"
    assert verdicts["the same with flow − adapters that look along time"] == "not shown"
    one, two = (table.right(table.load(tmp_path)["panned", name]) for name in ("aligned", "static"))
    mean, low, high = table.difference(one, two)
    assert low < mean < high and mean == pytest.approx(one.mean() - two.mean())
    assert table.difference(two, one)[2] < 0
    (tmp_path / "empty").mkdir()
    assert "No cell" in table.text(tmp_path / "empty")
    assert scripts["amflow_train"].reached([0.2, 0.5, 0.77, 0.8]) == 3
