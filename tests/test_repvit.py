"""RepViT-M1 against timm's, whose names EdgeTAM's weights were published under, and EdgeTAM's layout as a whole."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.models.repvit import STRIDES, WIDTHS, Normed, RepVit, TokenMixer, fold

GOLDEN = json.loads((Path(__file__).parent / "golden" / "repvit.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The weights that the numbers were recorded with; no normalisation is left as it begins."""
    found = {}
    for k, (name, shape) in enumerate(shapes.items()):
        draw = torch.from_numpy(np.random.default_rng(k).uniform(-1, 1, shape)).float()
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
        elif len(shape) > 1:
            found[name] = draw / math.sqrt(draw[0].numel())
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 1 + 0.5 * draw
        else:
            found[name] = 0.2 * draw
    return found


@pytest.fixture(scope="module")
def net() -> RepVit:
    net = RepVit().eval()
    net.load_state_dict(drawn(GOLDEN["shapes"]))
    return net


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(height).standard_normal((2, 3, height, width))).float()


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_names_and_shapes_are_those_of_timm(net: RepVit) -> None:
    found = {name: list(value.shape) for name, value in net.state_dict().items()}
    assert found == GOLDEN["shapes"] and list(found) == list(GOLDEN["shapes"])
    assert len(found) == 676  # as many as EdgeTAM's released file has under image_encoder.trunk.body


@pytest.mark.parametrize("seen", GOLDEN["seen"], ids=lambda seen: f"{seen['height']}x{seen['width']}")
def test_numbers_are_those_of_timm(net: RepVit, seen: dict[str, Any]) -> None:
    with torch.inference_mode():
        maps = net(pictures(seen["height"], seen["width"]))
    for found, expected in zip(maps, seen["maps"], strict=True):
        every = found.shape[1] // 12
        assert list(found.shape) == expected["shape"]
        for kept, name in ((found[1, ::every, -1, 0], "corner"), (found.mean((0, 2, 3))[::every], "mean")):
            expected_values = torch.tensor(expected[name])
            assert expected_values.abs().max() > 0.05
            torch.testing.assert_close(kept, expected_values, rtol=0, atol=1e-5)


def test_feature_maps_of_the_published_size() -> None:
    with torch.device("meta"):
        maps = RepVit().eval()(torch.empty(1, 3, 1024, 1024))
    assert [tuple(found.shape) for found in maps] == [
        (1, 48, 256, 256),
        (1, 96, 128, 128),
        (1, 192, 64, 64),
        (1, 384, 32, 32),
    ]
    assert [found.shape[1] for found in maps] == list(WIDTHS) and [1024 // found.shape[2] for found in maps] == list(STRIDES)


def test_counts_are_the_published_ones(net: RepVit) -> None:
    """The model card of timm/repvit_m1.dist_in1k says 5.5 million, in training form with two classifiers of 1,000 classes (normalisation
    and linear layer); the README of THU-MIG/RepViT says 5.1 million for these widths and depths (M0.9), in inference form with one linear
    classifier."""
    assert parameters(net) == GOLDEN["parameters"]["features"] == 4_713_712
    in_training = parameters(net) + 2 * (2 * WIDTHS[-1] + 1000 * (WIDTHS[-1] + 1))
    assert in_training == GOLDEN["parameters"]["with_classifiers"] and round(in_training / 1e6, 1) == 5.5
    folded = copy.deepcopy(net)
    fold(folded)
    assert round((parameters(folded) + 1000 * (WIDTHS[-1] + 1)) / 1e6, 1) == 5.1


def test_folding_changes_nothing_but_rounding(net: RepVit) -> None:
    folded = copy.deepcopy(net)
    fold(folded)
    assert not any(isinstance(module, Normed | TokenMixer | torch.nn.BatchNorm2d) for module in folded.modules())
    x = pictures(64, 45)
    with torch.inference_mode():
        for found, expected in zip(folded(x), net(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    # In double precision hardly anything is left, so the formula is right and not only close.
    double, exact = copy.deepcopy(net).double(), copy.deepcopy(net).double()
    fold(double)
    with torch.inference_mode():
        for found, expected in zip(double(x.double()), exact(x.double()), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_all_of_edgetam_has_the_published_layout() -> None:
    """The released ``edgetam.pt`` holds 982 tensors, 676 of them the backbone's (inventory in PABannier/sam3.cpp,
    EdgeTAM_PLAN.md). transformers'
    conversion writes the place encoding a second time (+ 1), joins four point embeddings (- 3) and parts keys from values in the two
    attentions of two perceiver layers (+ 4)."""
    import transformers

    from foveate.models.edgetam import with_repvit

    flags = {"enable_occlusion_spatial_embedding": False, "enable_temporal_pos_encoding_for_object_pointers": False}
    with torch.device("meta"):
        model = transformers.EdgeTamVideoModel(with_repvit({"vision_config": {"model_type": "edgetam_vision_model"}, **flags}))
    layout = {name: list(value.shape) for name, value in model.state_dict().items()}
    prefix = "vision_encoder.backbone."
    backbone = {name.removeprefix(prefix): shape for name, shape in layout.items() if name.startswith(prefix)}
    assert backbone == {f"timm_model.{name}": shape for name, shape in GOLDEN["shapes"].items()}
    assert len(layout) == 982 + 1 - 3 + 4
