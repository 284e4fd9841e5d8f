"""The vision transformer's weights from and to the places where such weights are published, against numbers of the released code."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from foveate.models import folder as folders
from foveate.models.pretrained import load_backbone
from foveate.models.vit import Vit, VitConfig, load_vit, save_vit
from foveate.models.vit_layouts import ours, theirs
from foveate.schema import FoveateError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "vit.json").read_text(encoding="utf-8"))
CASES = {case["what"]: case for case in GOLDEN["cases"]}
SMALL = VitConfig(image_size=28, patch=7, width=32, depth=4, heads=4, mlp_ratio=2, layer_scale=1.0)
KINDS = {
    "dinov2": {},
    "registers": {"registers": 2, "positions": "antialias"},
    "gated": {"gated": True},
    "vit": {"layer_scale": None, "mlp_ratio": 2.5, "eps": 1e-12, "qkv_bias": False},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def published(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that the case was recorded with, under the released code's own names."""
    found = {}
    for k, (name, shape) in enumerate(sorted(case["shapes"].items())):
        wave = 0.2 * torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.61 + 1.7 * k).view(shape)
        factor = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        found[name] = (wave + factor).float()
    return found


def opened(case: dict[str, Any], state: dict[str, Any]) -> Vit:
    return load_vit(state, heads=2, positions="antialias" if case["kind"] == "timm" else None)


def small(kind: str = "dinov2") -> Vit:
    torch.manual_seed(0)
    vit = Vit(replace(SMALL, **KINDS[kind])).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return vit


def same(a: Vit, b: Vit) -> bool:
    x = torch.randn(2, 3, 21, 35, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return all(torch.equal(p, q) for p, q in zip(a(x), b(x), strict=True))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_released_code(case: dict[str, Any]) -> None:
    vit = opened(case, published(case))
    for seen in case["seen"]:
        height, width = seen["height"], seen["width"]
        count = 6 * height * width
        x = torch.cos(torch.arange(count, dtype=torch.float64) ** 1.5 * 0.013).view(2, 3, height, width).float()
        masked = torch.zeros(2, height // 6 * (width // 6), dtype=torch.bool)
        masked[:, seen["masked"]] = True
        with torch.inference_mode():
            cls, _, patches = vit(x, masked)
        for found, name in ((cls[1], "cls"), (patches[1, 1], "second_patch"), (patches.mean((0, 1)), "mean_patch")):
            torch.testing.assert_close(found, torch.tensor(seen[name]), rtol=0, atol=1e-5)


def test_released_code_tells_positions_apart() -> None:
    """So that the agreement above says which interpolation each of them has."""
    case = CASES["dinov2 released"]
    seen = next(seen for seen in case["seen"] if seen["height"] == 18)
    x = torch.cos(torch.arange(6 * 18 * 42, dtype=torch.float64) ** 1.5 * 0.013).view(2, 3, 18, 42).float()
    for positions in ("size", "antialias"):
        with torch.inference_mode():
            found = load_vit(published(case), heads=2, positions=positions)(x).cls[1]  # type: ignore[arg-type]
        assert (found - torch.tensor(seen["cls"])).abs().max() > 1e-4


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_written_as_it_was_published(case: dict[str, Any]) -> None:
    state = published(case)
    weights, hugging = ours(state)
    written = theirs(weights, case["kind"], chunks=3 if case["what"] == "dinov2 in training" else 0)
    assert not hugging and {name: list(value.shape) for name, value in written.items()} == case["shapes"]
    for name, value in state.items():
        torch.testing.assert_close(written[name], value, rtol=0, atol=0)


def test_positions_of_cls_move_into_the_token_in_timm_with_registers() -> None:
    vit = small("registers")
    written = theirs(dict(vit.state_dict()), "timm")
    assert written["pos_embed"].shape == (1, 16, 32) and "mask_token" not in written
    again = load_vit(written, heads=4)
    x = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(again(x).cls, vit(x).cls, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_backbone_opens_with_transformers(kind: str, tmp_path: Path) -> None:
    vit, folder = small(kind), tmp_path / "tuned über"
    save_vit(vit, folder)
    options: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
    model, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert set(report["unexpected_keys"]) <= {"embeddings.mask_token"}
    assert type(model).__name__ == {"registers": "Dinov2WithRegistersModel", "vit": "ViTModel"}.get(kind, "Dinov2Model")
    x = torch.randn(2, 3, 21, 35)
    with torch.inference_mode():
        sequence = model.eval()(x, **({"interpolate_pos_encoding": True} if kind == "vit" else {})).last_hidden_state
        seen = vit(x)
    torch.testing.assert_close(sequence[:, 0], seen.cls, rtol=0, atol=1e-5)
    torch.testing.assert_close(sequence[:, 1 + vit.config.registers :], seen.patches, rtol=0, atol=1e-5)
    again = load_vit(folder)
    assert again.config == vit.config and same(again, vit)
    assert not again.training and all(p.requires_grad for p in again.parameters())
    backbone = load_backbone(str(folder), torch.device("cpu"))  # as frozen models are opened for every other stage
    assert (backbone.patch, backbone.width, backbone.blocks) == (7, 32, 4) and backbone.mean == folders.IMAGENET[0]


@pytest.mark.parametrize("kind", KINDS)
def test_names_within_transformers_5_are_read(kind: str, tmp_path: Path) -> None:
    vit, folder = small(kind), tmp_path / "model"
    save_vit(vit, folder)
    options: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
    model = transformers.AutoModel.from_pretrained(folder, **options)
    inside = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    assert any(".q_proj." in name for name in inside)  # not the published names
    again = load_vit(inside, heads=4)
    again.config = replace(again.config, eps=vit.config.eps)
    assert {name for name, _ in again.named_parameters()} == {name for name, _ in vit.named_parameters()}
    for name, value in vit.state_dict().items():
        if name != "mask_token" or kind != "vit":  # ViTModel has none
            assert torch.equal(again.state_dict()[name], value), name
    model.save_pretrained(tmp_path / "saved by transformers")
    assert same(load_vit(tmp_path / "saved by transformers"), vit)


def test_same_weights_same_bytes_and_replaced_as_a_whole(tmp_path: Path) -> None:
    first, second = small(), small()
    save_vit(first, tmp_path / "a")
    save_vit(second, tmp_path / "b")
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"config.json", "model.safetensors", "preprocessor_config.json"}
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    (tmp_path / "a" / "old").touch()
    save_vit(small("vit"), tmp_path / "a")
    assert same(load_vit(tmp_path / "a"), small("vit")) and not (tmp_path / "a" / "old").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_a_full_disk_leaves_the_last_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vit(small(), tmp_path / "a")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FoveateError, match="the disk is full"):
        save_vit(small("vit"), tmp_path / "a")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and same(load_vit(tmp_path / "a"), small())


def test_training_checkpoints(tmp_path: Path) -> None:
    """The teacher of DINO's and DINOv2's checkpoints, without its head; timm's and Hugging Face's without classifiers."""
    vit = small()
    chunked = theirs(dict(vit.state_dict()), "dinov2", chunks=2)
    assert "blocks.1.3.norm1.weight" in chunked
    head = {"dino_head.mlp.0.weight": torch.zeros(2, 2), "dino_head.last_layer.weight_g": torch.zeros(2, 1)}
    teacher = {f"backbone.{name}": value for name, value in chunked.items()} | head
    torch.save({"teacher": teacher, "iteration": 7}, tmp_path / "teacher_checkpoint.pth")
    assert same(load_vit(tmp_path / "teacher_checkpoint.pth", heads=4, positions="size"), vit)
    whole = {f"student.{name}": value * 2 for name, value in teacher.items()} | {f"teacher.{k}": v for k, v in teacher.items()}
    assert same(load_vit({"model": whole}, heads=4, positions="size"), vit)
    wrapped = {f"module.{name}": value for name, value in vit.state_dict().items()} | {"module.head.weight": torch.zeros(3, 32)}
    assert same(load_vit(wrapped, heads=4, positions="size"), vit)


def test_files(tmp_path: Path) -> None:
    vit = small()
    assert load_vit(dict(vit.state_dict()), heads=4).config.positions == "offset"
    assert load_vit(dict(small("registers").state_dict()), heads=4).config.positions == "antialias"
    save_file(dict(vit.state_dict()), tmp_path / "vit.safetensors")
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    for name in ("vit.safetensors", "vit.pth"):
        assert same(load_vit(tmp_path / name, heads=4, positions="size"), vit)
    tuned = load_vit(tmp_path / "vit.pth", heads=4, drop_path=0.3, drop_uniform=True)
    assert tuned.config.drop_path == 0.3 and tuned.config.drop_uniform
    with torch.no_grad():  # the loaded numbers are a copy
        state = dict(vit.state_dict())
        load_vit(state, heads=4).norm.weight.zero_()
        assert vit.norm.weight.abs().min() > 0


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["FOVEATE_TEST_EVIL"],)


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_TEST_EVIL", str(tmp_path / "ran"))
    torch.save({"cls_token": _Evil()}, tmp_path / "evil.pth")
    torch.save({"args": argparse.Namespace(), "teacher": {}}, tmp_path / "dino_full_checkpoint.pth")
    for name in ("evil.pth", "dino_full_checkpoint.pth"):
        with pytest.raises(FoveateError, match="not a file of tensors alone") as caught:
            load_vit(tmp_path / name)
        assert caught.value.file == tmp_path / name
    assert not (tmp_path / "ran").exists()


def refused(source: Any, *words: str, **options: Any) -> None:
    with pytest.raises(FoveateError) as caught:
        load_vit(source, **options)
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_weights_that_are_not_ours_are_refused() -> None:
    state = dict(small().state_dict())
    block = "blocks.1.mlp"
    refused({name: value for name, value in state.items() if name != "norm.bias"}, "lack norm.bias", heads=4)
    refused({name: value for name, value in state.items() if name != "pos_embed"}, "lack pos_embed", heads=4)
    refused(state | {"dist_token": torch.zeros(1, 1, 32)}, "unknown parts: dist_token", heads=4)
    refused(state | {"blocks.0.attn.q_norm.weight": torch.ones(8)}, "q_norm", heads=4)
    refused(state | {f"{block}.fc1.bias": torch.zeros(3)}, "another shape", f"{block}.fc1.bias", heads=4)
    refused(state | {f"{block}.w12.weight": torch.zeros(3, 3)}, f"unknown parts: {block}.w12.weight", heads=4)
    refused(state, "heads", "width of 32")
    refused({"conv1.weight": torch.zeros(3)}, "no vision transformer")
    refused({f"{part}.{k}": v for part in ("a", "b") for k, v in state.items()}, "2 vision transformers", heads=4)
    refused(state | {"pos_embed": torch.zeros(1, 16, 32)}, "square", heads=4)


def test_folders_that_are_wrong_are_refused(tmp_path: Path) -> None:
    good, config = tmp_path / "good", tmp_path / "good" / "config.json"
    save_vit(small(), good)
    said = json.loads(config.read_text())
    for change, words in (
        ({"hidden_size": 48}, ("hidden_size: 48", "32")),
        ({"image_size": 224}, ("image_size: 224", "28")),
        ({"hidden_act": "relu"}, ("hidden_act", "gelu")),
        ({"model_type": "clip"}, ("'clip'", "dinov2")),
    ):
        config.write_text(json.dumps(said | change))
        refused(good, *words)
    config.write_text(json.dumps(said | {"image_size": [28, 28], "patch_size": [7, 7]}))
    assert same(load_vit(good), small())
    config.unlink()
    refused(good, "no config.json")
    config.write_text(json.dumps(said))
    weights = good / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(good, "model.safetensors", "cut short")
    weights.unlink()
    refused(good, "no weights here")
    refused(tmp_path / "nowhere.pth", "no weights here")


def test_gated_names_of_every_place() -> None:
    """DINOv2's w12 and w3, timm's fc1 and fc2 of another width, those within transformers, and those of its files."""
    vit = small("gated")
    state = dict(vit.state_dict())
    assert "blocks.0.mlp.w12.weight" in state and vit.config.hidden == 48
    hugging = theirs(state, "huggingface")
    assert {"encoder.layer.0.mlp.weights_in.bias", "encoder.layer.3.mlp.weights_out.weight"} < set(hugging)
    inside = {}
    for name, value in hugging.items():
        if ".weights_in." in name:
            parts = (name.replace("weights_in", part) for part in ("gate_proj", "up_proj"))
            inside |= dict(zip(parts, value.chunk(2), strict=True))
        else:
            inside[name.replace("weights_out", "down_proj")] = value
    timm = theirs(state, "timm")
    assert "blocks.0.mlp.fc1.weight" in timm and not any(".w12." in name for name in timm)
    for written in (state, hugging, inside, timm):
        again = load_vit(written, heads=4, positions="size")
        assert again.config == vit.config and same(again, vit)
    wrong = {name: value for name, value in state.items() if name != "blocks.2.mlp.w12.bias"}
    refused(wrong, "lack blocks.2.mlp.w12.bias", heads=4)


def test_the_width_of_gated_ones_is_that_of_vit_g() -> None:
    assert VitConfig(width=1536, heads=24, mlp_ratio=4, gated=True).hidden == 4096


def test_what_has_no_place_in_a_folder_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(FoveateError, match="no multiple"):
        save_vit(Vit(replace(SMALL, mlp_ratio=2.5)), tmp_path / "a")
    with pytest.raises(FoveateError, match="no gated MLP"):
        save_vit(Vit(replace(SMALL, gated=True, layer_scale=None)), tmp_path / "a")
    vit = small()
    vit.blocks[0].beside_mlp = torch.nn.Linear(2, 2)
    with pytest.raises(FoveateError, match="adapters"):
        save_vit(vit, tmp_path / "a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FoveateError, match="neither LayerScale nor registers"):
        theirs(dict(small().state_dict()), "dino")


def test_registers_without_layer_scale_are_scaled_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = Vit(replace(SMALL, layer_scale=None, registers=1, positions="antialias")).eval()
    save_vit(vit, tmp_path / "a")
    assert (load_file(tmp_path / "a" / "model.safetensors")["encoder.layer.3.layer_scale2.lambda1"] == 1).all()
    assert same(load_vit(tmp_path / "a"), vit)
