"""CLS attention of every family beside ``transformers``' own slow way, on tiny random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foveate.models import pretrained
from foveate.models.attention import attention_maps
from foveate.schema import FoveateError
from tests.test_pretrained import BLOCKS, CPU, FAMILIES, images, one_thread, saved, tiny  # noqa: F401

torch = pytest.importorskip("torch")
WITH_CLS = ("dinov2", "dinov2 registers", "dinov3", "vit", "deit", "msn", "clip")
HEADS = 2


def eager(name: str, pixels: Any) -> Any:
    """f32[blocks, B, heads, tokens]: what the first token pays to all, from the whole maps that ``transformers`` keeps."""
    module = tiny(name)
    module = getattr(module, "vit", module)
    module.set_attn_implementation("eager")
    asked = {"interpolate_pos_encoding": True} if name in ("vit", "deit", "msn", "clip") else {}
    with torch.no_grad():
        found = module(pixels, output_attentions=True, **asked).attentions
    return torch.stack([block[:, :, 0] for block in found])


@pytest.mark.parametrize("name", WITH_CLS)
def test_maps_are_those_of_eager_attention(name: str, saved: dict[str, Path]) -> None:  # noqa: F811
    backbone = pretrained.load_backbone(str(saved[name]), CPU)
    picture = images(30, 41)  # becomes 28 x 42: neither square nor of the size the positions were made for
    rows = eager(name, torch.cat(list(backbone.pixels(picture))))
    before = backbone.tokens(picture)["last"].patches
    for block in range(-BLOCKS, BLOCKS):
        maps = attention_maps(picture, backbone, block)
        assert maps.shape == (2, HEADS, 4, 6)
        torch.testing.assert_close(maps.flatten(2), rows[block][..., -24:], atol=1e-6, rtol=0)
    extra = rows.shape[-1] - 24  # the CLS token, and registers where there are any
    assert extra == {"dinov2 registers": 4, "dinov3": 3, "deit": 2}.get(name, 1)
    left = rows[-1][..., :extra].sum(-1)
    torch.testing.assert_close(attention_maps(picture, backbone).sum((2, 3)), 1 - left, atol=1e-5, rtol=0)
    assert rows[-1].std() > 1e-3  # not all alike, or the comparison would say little
    assert not torch.allclose(rows[-1], rows[0], atol=1e-3)
    assert torch.equal(backbone.tokens(picture)["last"].patches, before)  # and the model is as it was


def test_the_output_is_that_of_fused_attention(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from transformers.integrations import sdpa_attention

    backbone = pretrained.load_backbone(str(saved["dinov3"]), CPU)
    seen: dict[str, Any] = {}
    assert backbone.module is not None
    backbone.module.register_forward_hook(lambda _m, _i, out: seen.__setitem__("out", out.last_hidden_state))
    plain = backbone.tokens(images())
    expected = seen.pop("out")
    calls = []
    fused = sdpa_attention.sdpa_attention_forward
    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", lambda *a, **k: calls.append(1) or fused(*a, **k))
    attention_maps(images(), backbone)
    assert len(calls) == BLOCKS and torch.equal(seen["out"], expected)
    assert torch.equal(backbone.tokens(images())["last"].whole, plain["last"].whole) and len(calls) == BLOCKS


def test_pictures_do_not_see_each_other(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    backbone = pretrained.load_backbone(str(saved["dinov2 registers"]), CPU)
    several = images(count=5)
    together = attention_maps(several, backbone)
    monkeypatch.setattr(pretrained, "_CPU_PATCHES", 48)  # two pictures at a time
    torch.testing.assert_close(attention_maps(several, backbone), together, atol=1e-6, rtol=0)
    torch.testing.assert_close(attention_maps(several[3:4], backbone)[0], together[3], atol=1e-6, rtol=0)


def test_a_failing_pass_leaves_the_model_as_it_was(saved: dict[str, Path]) -> None:  # noqa: F811
    backbone = pretrained.load_backbone(str(saved["vit"]), CPU)
    before = backbone.tokens(images())["last"].whole
    with pytest.raises(IndexError):
        attention_maps(images(), backbone, BLOCKS)
    assert torch.equal(backbone.tokens(images())["last"].whole, before)


@pytest.mark.parametrize("name", ["ijepa", "siglip", "siglip2"])
def test_models_without_cls_are_refused(name: str, saved: dict[str, Path]) -> None:  # noqa: F811
    assert not pretrained.has_cls(str(saved[name]))
    with pytest.raises(FoveateError, match="no CLS token") as caught:
        attention_maps(images(), pretrained.load_backbone(str(saved[name]), CPU))
    assert "DINOv2" in str(caught.value.remedy)


def test_handcrafted_pays_no_attention() -> None:
    assert not pretrained.has_cls("handcrafted")
    with pytest.warns(UserWarning, match="learned nothing"):
        backbone = pretrained.load_backbone("handcrafted", CPU)
    with pytest.raises(FoveateError, match="no CLS token"):
        attention_maps(images(), backbone)


def test_a_family_with_cls_is_known_without_opening_it(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(pretrained.folders, "open_model", lambda *_a, **_k: pytest.fail("opened"))
    assert all(pretrained.has_cls(str(saved[name])) for name in WITH_CLS)
