"""Packed layers against those of torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
packed = pytest.importorskip("foveate.models.packed")


def model(activation: str) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7, hidden_act=activation
    )
    return transformers.Dinov2Model(config).eval()


@pytest.mark.skipif(not packed.can_pack(), reason="this build of torch lacks oneDNN")
@pytest.mark.parametrize(("activation", "fused"), [("gelu", 3), ("gelu_pytorch_tanh", 0)])
def test_a_packed_model_is_the_same_model(activation: str, fused: int) -> None:
    plain = model(activation)
    tight = copy.deepcopy(plain)
    packed.pack(tight.encoder)
    layers = [m for m in tight.modules() if isinstance(m, packed.Packed)]
    assert len(layers) == 3 * 6 and sum(layer.gelu for layer in layers) == fused
    assert not [m for m in tight.encoder.modules() if type(m) is torch.nn.Linear]
    pixels = torch.randn(3, 3, 28, 35)
    with torch.inference_mode():
        ours, theirs = (m(pixels).last_hidden_state for m in (tight, plain))
        one_by_one = torch.cat([tight(p[None]).last_hidden_state for p in pixels])
    assert torch.allclose(ours, theirs, atol=1e-5) and torch.allclose(one_by_one, ours, atol=1e-5)


@pytest.mark.skipif(not packed.can_pack(), reason="this build of torch lacks oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_any_shape_and_layout(bias: bool) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(7, 5, bias=bias)
    for given in (torch.randn(7), torch.randn(4, 7), torch.randn(2, 3, 7), torch.randn(7, 4).T, torch.randn(0, 7)):
        for gelu in (False, True):
            with torch.inference_mode():
                found = packed.Packed(linear, gelu=gelu)(given)
                wanted = torch.nn.functional.gelu(linear(given)) if gelu else linear(given)
            assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-6)


def test_without_the_operators_a_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from foveate.models.pretrained import load_backbone

    model("gelu").save_pretrained(tmp_path)
    pictures = torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8)
    fast = load_backbone(str(tmp_path), torch.device("cpu"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    slow = load_backbone(str(tmp_path), torch.device("cpu"))
    assert not [m for m in slow.module.modules() if isinstance(m, packed.Packed)]
    for layer in ("last", "third_last"):
        ours, theirs = (b.tokens(pictures, (layer,))[layer].patches for b in (fast, slow))
        assert torch.allclose(ours, theirs, atol=1e-5)
