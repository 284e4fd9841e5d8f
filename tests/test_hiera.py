"""Hiera as a backbone for adapters: the same network as transformers', and room for flow in its stage of global attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from foveate.methods.amflow import AmFlow, AmFlowConfig, parameters
from foveate.methods.amflow_saved import load_adapters, save_adapters
from foveate.models.hiera import Hiera, is_hiera, load_hiera
from foveate.schema import FoveateError

torch.set_num_threads(1)
SHAPE = {
    "image_size": [64, 64], "depths": [1, 1, 3, 1], "num_heads": [1, 1, 2, 4], "embed_dim": 8, "mlp_ratio": 2.0, "drop_path_rate": 0.0
}  # fmt: skip


def model(seed: int = 0, **changes: object) -> transformers.HieraModel:
    torch.manual_seed(seed)
    made = transformers.HieraModel(transformers.HieraConfig(**SHAPE | changes)).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "hiera"
    model().save_pretrained(made)
    return made


def test_it_is_the_network_of_transformers(folder: Path) -> None:
    pictures = torch.randn(3, 3, 64, 64)
    mine = load_hiera(folder)
    with torch.no_grad():
        theirs, seen = model()(pictures), mine(pictures)
        assert torch.equal(mine.onward(mine.until(pictures, 1), 1).patches, seen.patches)
    torch.testing.assert_close(seen.cls, theirs.pooler_output, atol=2e-5, rtol=1e-5)
    assert len(mine.blocks) == 2 and mine.config.width == 32 and mine.out == 64 == seen.patches.shape[-1]
    assert mine.until(pictures, 0).shape == (3, mine.config.grid**2, 32)
    assert is_hiera(folder) and not is_hiera(folder / "elsewhere")


def test_adapters_begin_as_the_frozen_network_and_see_flow(folder: Path) -> None:
    frozen, clip = load_hiera(folder), torch.randn(2, 3, 3, 64, 64)
    method = AmFlow(load_hiera(folder), AmFlowConfig(classes=4, frames=3, size=64, inner=8, pool="cls", dropout=0.0))
    with torch.no_grad():
        assert torch.equal(method.vit(clip.flatten(0, 1)).cls, frozen(clip.flatten(0, 1)).cls)
    assert len(method.flows()) == 2
    method(clip).square().sum().backward()
    trained = method.trained()
    assert trained and all(name.startswith(("vit.blocks.", "head.")) for name in trained)
    grad = method.vit.blocks[0].beside_mlp.up.weight.grad  # type: ignore[union-attr]
    assert isinstance(grad, torch.Tensor) and grad.abs().max() > 0
    assert all(value.grad is None for name, value in method.named_parameters() if name not in trained)
    d, r, h, t = 32, 8, 2, 3
    block = 2 * (2 * d * r + r + d + 1) + 8 * r * r + 11 * r + t * r + h * r + h + 2 * d * 64
    assert parameters(list(trained.values())) == 2 * block + 4 * (64 + 1)
    with torch.no_grad():
        for flow in method.flows():
            assert flow.raw(*_seen(method, clip, flow), 3).abs().max() > 0


def _seen(method: AmFlow, clip: torch.Tensor, flow: torch.nn.Module) -> tuple[torch.Tensor, object]:
    """What a block's flow is called with."""
    kept: list[tuple[torch.Tensor, object]] = []
    hook = flow.register_forward_pre_hook(lambda _module, args: kept.append(args[:2]))
    method(clip)
    hook.remove()
    return kept[0]


def test_saved_adapters_want_their_hiera(folder: Path, tmp_path: Path) -> None:
    method = AmFlow(load_hiera(folder), AmFlowConfig(classes=2, frames=2, size=64, inner=8, pool="cls")).eval()
    with torch.no_grad():
        for value in method.trained().values():
            value.normal_(std=0.1)
    save_adapters(tmp_path / "a.safetensors", method)
    clip = torch.randn(1, 2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_adapters(tmp_path / "a.safetensors", load_hiera(folder))[0](clip), method(clip))
    with pytest.raises(FoveateError, match="another backbone"):
        load_adapters(tmp_path / "a.safetensors", Hiera(model(1)).eval())


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no stage of blocks with global attention"):
        Hiera(model(masked_unit_attention=[True] * 4))
    with pytest.raises(FoveateError, match="cannot be read"):
        load_hiera(tmp_path)
