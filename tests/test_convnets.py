"""Convolutional networks against transformers', torchvision's and RSPNet's; their files; normalisation in parts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveate.models.conv_blocks import Norm
from foveate.models.convnets import NETWORKS, ConvConfig, ConvNet, Network, grouped, load_convnet, save_convnet
from foveate.schema import FoveateError

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "convnets.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The weights that the numbers were recorded with; no normalisation is left as it begins."""
    found = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        draw = torch.from_numpy(np.random.default_rng(k).random(shape, np.float32)) * 2 - 1 if shape else torch.zeros(())
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
        elif len(shape) > 1:
            found[name] = draw * math.sqrt(6 / draw[0].numel())
        elif name.endswith("running_var") or (("bn" in name or "norm" in name) and name.endswith("weight")):
            found[name] = 1 + 0.5 * draw
        else:
            found[name] = 0.2 * draw
    return found


def shapes(net: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in net.state_dict().items()}


@pytest.mark.parametrize("network", ["s3dg", "c3d", "r2plus1d_18"])
def test_networks_of_clips_golden(network: Network) -> None:
    """Every layer's shape, all parameters counted, and the numbers at the end."""
    golden = GOLDEN[network]
    with torch.device("meta"):
        net = ConvNet(ConvConfig(network))
    feature = "feature." if network == "s3dg" else ""
    assert {feature + name: shape for name, shape in shapes(net.body).items()} == golden["shapes"]
    assert sum(p.numel() for p in net.parameters()) + 400 * (net.width + 1) == golden["parameters"]
    frames, size = golden["size"]
    clip = torch.from_numpy(np.random.default_rng(99).standard_normal((1, 3, frames, size, size)).astype(np.float32))
    with torch.no_grad():
        found = load_convnet(drawn(golden["shapes"]))(clip)
    assert list(found.map.shape) == golden["map"]
    torch.testing.assert_close(found.map.flatten()[golden["which"]], torch.tensor(golden["values"]), atol=2e-5, rtol=1e-5)
    assert float(found.map.double().mean()) == pytest.approx(golden["mean"], rel=1e-5)
    torch.testing.assert_close(found.cls, found.map.mean((2, 3, 4)), atol=1e-6, rtol=1e-5)


def test_parameters_as_published() -> None:
    """torchvision's totals, classifier of 1,000 (Kinetics: 400) classes included."""
    published = {"resnet18": (1000, 11_689_512), "resnet50": (1000, 25_557_032), "r2plus1d_18": (400, 31_505_325)}
    for network in ("resnet18", "resnet50", "r2plus1d_18"):
        with torch.device("meta"):
            net = ConvNet(ConvConfig(network))
        classes, total = published[network]
        assert sum(p.numel() for p in net.parameters()) + (net.width + 1) * classes == total


@pytest.mark.parametrize(("kind", "wider", "depths"), [("basic", 1, (2, 2, 2, 2)), ("bottleneck", 4, (3, 4, 6, 3))])
def test_resnet_is_that_of_transformers(kind: str, wider: int, depths: tuple[int, ...], tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    sizes = [8 * wider * 2**k for k in range(4)]
    theirs = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=sizes, depths=list(depths), layer_type=kind)).eval()
    theirs.load_state_dict(drawn(shapes(theirs)))
    theirs.save_pretrained(tmp_path / "model")
    pictures = torch.randn(2, 3, 48, 64)
    ours = load_convnet(tmp_path / "model")
    assert ours.config == ConvConfig("resnet18" if kind == "basic" else "resnet50", 8)
    with torch.no_grad():
        found, expected = ours(pictures), theirs(pictures)
    torch.testing.assert_close(found.map, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.cls, expected.pooler_output.flatten(1), atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # in training, too: the statistics of the batch, and how they move the kept ones
        torch.testing.assert_close(ours.train()(pictures).map, theirs.train()(pictures).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert torch.allclose(ours.body.bn1.running_var, theirs.state_dict()["embedder.embedder.normalization.running_var"])


@pytest.mark.parametrize("network", NETWORKS)
def test_saved_and_opened(network: Network, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ConvNet(ConvConfig(network, 4))
    save_convnet(net, tmp_path / "net")
    again = load_convnet(tmp_path / "net")
    assert again.config == net.config and not again.training and all(p.requires_grad for p in again.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def prefixed(net: ConvNet, prefix: str, head: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in net.body.state_dict().items()} | head


def test_layouts_of_pretraining(tmp_path: Path) -> None:
    """MoCo's and RSPNet's checkpoints: the query encoder, without heads, queue and key encoder."""
    torch.manual_seed(0)
    net, other = ConvNet(ConvConfig("resnet50", 4)), ConvNet(ConvConfig("resnet50", 4))
    moco = prefixed(net, "module.encoder_q.", {"module.encoder_q.fc.0.weight": torch.ones(2), "module.queue": torch.ones(3)})
    moco |= prefixed(
        other, "module.encoder_k.", {"module.encoder_k.fc.0.weight": torch.ones(2), "module.queue_ptr": torch.ones(1)}
    )
    torch.save({"epoch": 200, "arch": "resnet50", "state_dict": moco}, tmp_path / "moco.pth.tar")
    found = load_convnet(tmp_path / "moco.pth.tar")
    assert all(torch.equal(found.body.state_dict()[name], value) for name, value in net.body.state_dict().items())
    s3dg = ConvNet(ConvConfig("s3dg", 8))
    rsp = prefixed(s3dg, "encoder_q.encoder.feature.", {"encoder_q.encoder.fc.weight": torch.ones(2), "queue": torch.ones(3)})
    rsp |= {"encoder_q.fc1.2.weight": torch.ones(2), "encoder_k.encoder.fc.bias": torch.ones(2)}
    found = load_convnet({"model": rsp, "arch": "s3dg", "epoch": 3})
    assert all(torch.equal(found.body.state_dict()[name], value) for name, value in s3dg.body.state_dict().items())
    named = {name: value for name, value in net.body.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert load_convnet(named | {"fc.weight": torch.ones(2), "fc.bias": torch.ones(2)}).config.network == "resnet50"


def test_what_is_not_opened(tmp_path: Path) -> None:
    net = ConvNet(ConvConfig("resnet18", 4))
    state = net.body.state_dict()
    with pytest.raises(FoveateError, match=r"lack layer4\.1\.bn2\.bias"):
        load_convnet({name: value for name, value in state.items() if name != "layer4.1.bn2.bias"})
    with pytest.raises(FoveateError, match="unknown parts: extra"):
        load_convnet({**state, "extra": torch.ones(1)})
    with pytest.raises(FoveateError, match="another shape in conv1"):
        load_convnet({**state, "conv1.weight": torch.ones(4, 3, 3, 3)})
    with pytest.raises(FoveateError, match="none of the convolutional networks"):
        load_convnet({name: value for name, value in state.items() if not name.startswith("layer4")})
    with pytest.raises(FoveateError, match="no weights here"):
        load_convnet(tmp_path / "nothing.pth")
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(FoveateError, match="'dinov2'"):
        load_convnet(tmp_path / "vit")


def test_pictures_and_clips_change_places() -> None:
    """A network of pictures sees a clip frame by frame; one of clips sees a picture as a clip in which nothing moves."""
    torch.manual_seed(0)
    still, moving = ConvNet(ConvConfig("resnet18", 4)).eval(), ConvNet(ConvConfig("r2plus1d_18", 4)).eval()
    clips = torch.randn(2, 3, 5, 32, 48)
    with torch.no_grad():
        found = still(clips)
        assert found.map.shape == (2, 32, 5, 1, 2)
        torch.testing.assert_close(found.map[:, :, 3], still(clips[:, :, 3]).map)
        torch.testing.assert_close(moving(clips[:, :, 0]).map, moving(clips[:, :, :1].expand(-1, -1, 16, -1, -1)).map)


@pytest.mark.parametrize("places", [(5,), (4, 5), (2, 3, 4)])
def test_normalisation_in_parts(places: tuple[int, ...]) -> None:
    """Parts are normalised as if there were nothing else; moving statistics move by their mean; in use there are no parts."""
    torch.manual_seed(0)
    values = torch.randn(6, 3, *places) * 3 + 1
    norm, alone = Norm(3), [Norm(3) for _ in range(3)]
    grouped(norm, 3)
    found = norm(values)
    expected = torch.cat([one(part) for one, part in zip(alone, values.chunk(3), strict=True)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(norm.running_var, torch.stack([one.running_var for one in alone]).mean(0))
    torch.testing.assert_close(norm.running_mean, torch.stack([one.running_mean for one in alone]).mean(0))
    assert not torch.allclose(found, Norm(3)(values), atol=1e-3)
    norm.eval()
    torch.testing.assert_close(norm(values)[:1], norm(values[:1]))
    with pytest.raises(ValueError, match="3 equal parts"):
        norm.train()(values[:4])
