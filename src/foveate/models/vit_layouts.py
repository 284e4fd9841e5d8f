"""Names of a vision transformer's weights in the places where such weights are published, and in ours.

Ours are those of DINOv2's released code. ``ours`` reads every layout below, ``theirs`` writes them:

- ``huggingface``: ``Dinov2Model``, ``Dinov2WithRegistersModel``, ``ViTModel``; written under the names of the published folders, which
  every release of ``transformers`` opens, read under those and under the names within ``transformers`` 5.
- ``dino``, ``dinov2``: the released code; of DINOv2 also its training checkpoints, whose blocks are in chunks.
- ``timm``: with registers its positions are without CLS, whose own is part of the CLS token.

The weights of other parts of a model (heads, poolers) are left out; names that are not known are refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from foveate.models.vit_blocks import VitConfig
from foveate.schema import FoveateError

Layout: TypeAlias = Literal["huggingface", "dino", "dinov2", "timm"]
Weights: TypeAlias = dict[str, Tensor]

_WRAPPERS = ("teacher", "model", "state_dict")  # keys of training checkpoints, the more wanted first
_OTHERS = ("head.", "fc.", "classifier.", "pooler.", "dino_head.", "ibot_head.", "dino_loss.", "ibot_patch_loss.")

# Patterns of Hugging Face's names, old and new, and what they are called here.
_FROM_HUGGINGFACE = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^layernorm\.", "norm."),
        (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.(?:attention\.query|q_proj)\.", ".attn.q."),
        (r"\.attention\.(?:attention\.key|k_proj)\.", ".attn.k."),
        (r"\.attention\.(?:attention\.value|v_proj)\.", ".attn.v."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.weights_in\.", ".mlp.w12."),
        (r"\.mlp\.gate_proj\.", ".mlp.w1."),
        (r"\.mlp\.up_proj\.", ".mlp.w2."),
        (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.w3."),
    )
)
_TO_HUGGINGFACE = (
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("register_tokens", "embeddings.register_tokens"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("norm.", "layernorm."),
    ("blocks.", "encoder.layer."),
)
_WITHIN = (
    (".attn.proj.", ".attention.output.dense."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    (".mlp.w12.", ".mlp.weights_in."),
    (".mlp.w3.", ".mlp.weights_out."),
)
_WITHIN_VIT = (
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)


def ours(state: Mapping[str, Any]) -> tuple[Weights, bool]:
    """The backbone's weights under our names, f32, and whether they came in Hugging Face's layout.

    Args:
        state: weights by name, or a training checkpoint that holds them (of DINO, DINOv2: the teacher's).

    Raises:
        FoveateError: no vision transformer in it, or one with parts that ``Vit`` has not.
    """
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            return ours(state[wrapper])
    prefix, hugging = _where(state)
    weights: Weights = {}
    for name, value in state.items():
        if name.startswith(prefix) and not name.startswith(_OTHERS, len(prefix)):
            weights[_chunkless(name[len(prefix) :])] = value.detach().float()
    if hugging:
        weights = _fused({_renamed(name): value for name, value in weights.items()})
    first, second = (weights.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    if first is not None and second is not None and len(first) == 2 * second.shape[1]:  # timm's name for gated ones
        weights = {name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): v for name, v in weights.items()}
    if "mask_token" in weights:
        weights["mask_token"] = weights["mask_token"].reshape(1, -1)
    else:  # never trained, and read only where something is masked
        weights["mask_token"] = torch.zeros_like(weights["cls_token"][0])
    if "reg_token" in weights:
        weights["register_tokens"] = weights.pop("reg_token")
        weights["pos_embed"] = torch.cat((torch.zeros_like(weights["cls_token"]), weights["pos_embed"]), 1)
    return weights, hugging


def theirs(weights: Weights, layout: Layout, chunks: int = 0) -> Weights:
    """Weights under our names under those of another layout.

    Args:
        weights: all of a ``Vit``'s.
        layout: whose names.
        chunks: of DINOv2's training checkpoints, into which the blocks are cut; 0: as released.

    Raises:
        FoveateError: the layout has no place for LayerScale or registers (DINO).
    """
    if layout == "huggingface":
        return _to_huggingface(weights)
    found = dict(weights)
    if layout in ("dino", "timm"):
        del found["mask_token"]
    if layout == "dino" and ("register_tokens" in found or "blocks.0.ls1.gamma" in found):
        raise FoveateError("DINO's models have neither LayerScale nor registers", remedy="write the layout of DINOv2")
    if layout == "timm":
        found = {
            name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): value for name, value in found.items()
        }
    if layout == "timm" and "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    if chunks:
        each = depth(found) // chunks
        found = {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // each}.{m[1]}", k): v for k, v in found.items()}
    return found


def depth(names: Iterable[str]) -> int:
    """Number of blocks."""
    return 1 + max((int(name.split(".")[1]) for name in names if name.startswith("blocks.")), default=-1)


def config_of(weights: Weights, heads: int | None = None) -> VitConfig:
    """The configuration that weights under our names belong to.

    Args:
        weights: by name.
        heads: attention heads, which no shape tells; None: heads of width 64, as all published models have.

    Raises:
        FoveateError: weights without which nothing can be told are missing, or the number of heads is not known.
    """
    gated = "blocks.0.mlp.w3.weight" in weights
    inner = "blocks.0.mlp.w3.weight" if gated else "blocks.0.mlp.fc1.weight"
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", inner, "norm.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise FoveateError(f"these weights lack {', '.join(missing)}", remedy="take the file of the whole backbone")
    width, patches = weights["cls_token"].shape[-1], weights["pos_embed"].shape[1] - 1
    kernel = weights["patch_embed.proj.weight"].shape
    grid = round(patches**0.5)
    if heads is None and width % 64:
        raise FoveateError(f"the number of attention heads cannot be told from a width of {width}", remedy="say it: heads=...")
    if grid**2 != patches or kernel[1] != 3 or kernel[2] != kernel[3]:
        raise FoveateError("only models of square RGB pictures in square patches are supported", remedy="choose another model")
    scale, registers = weights.get("blocks.0.ls1.gamma"), weights.get("register_tokens")
    return VitConfig(
        image_size=grid * kernel[2],
        patch=kernel[2],
        width=width,
        depth=depth(weights),
        heads=heads or width // 64,
        mlp_ratio=_gated_ratio(weights[inner].shape[1], width) if gated else len(weights[inner]) / width,
        gated=gated,
        layer_scale=None if scale is None else 1.0,
        registers=0 if registers is None else registers.shape[1],
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
    )


def _gated_ratio(hidden: int, width: int) -> float:
    """The ratio from which a gated MLP of that width comes, whole where it can be."""
    ratio = 1.5 * hidden / width
    whole = VitConfig(width=width, heads=1, mlp_ratio=round(ratio), gated=True)
    return round(ratio) if whole.hidden == hidden else ratio


def _where(state: Mapping[str, Any]) -> tuple[str, bool]:
    """What stands before the backbone's names, and whether they are Hugging Face's."""
    ends = [name.removesuffix("cls_token") for name in state if name == "cls_token" or name.endswith(".cls_token")]
    ends = [end for end in ends if "teacher" in end] or ends
    if len(ends) != 1:
        found = "no vision transformer with a CLS token" if not ends else f"{len(ends)} vision transformers"
        raise FoveateError(f"there is {found} in these weights", remedy="take the file of one backbone")
    hugging = ends[0] == "embeddings." or ends[0].endswith(".embeddings.")
    return ends[0].removesuffix("embeddings.") if hugging else ends[0], hugging


def _chunkless(name: str) -> str:
    """``blocks.1.6.norm1`` (chunk 1, block 6 of all) is ``blocks.6.norm1``."""
    return re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)


def _renamed(name: str) -> str:
    for pattern, new in _FROM_HUGGINGFACE:
        name = pattern.sub(new, name)
    return name


def _fused(weights: Weights) -> Weights:
    """Query, key and value in one, in this order; likewise gate and what goes through it."""
    found = dict(weights)
    for name in weights:
        for pieces in ((".attn.q.", ".attn.k.", ".attn.v."), (".mlp.w1.", ".mlp.w2.")):
            parts = [name.replace(pieces[0], piece) for piece in pieces]
            if pieces[0] in name and all(part in found for part in parts):
                one = ".attn.qkv." if len(parts) == 3 else ".mlp.w12."
                found[name.replace(pieces[0], one)] = torch.cat([found.pop(part) for part in parts])
    return found


def _to_huggingface(weights: Weights) -> Weights:
    scaled_or_registers = "blocks.0.ls1.gamma" in weights or "register_tokens" in weights
    within = _WITHIN if scaled_or_registers else (*_WITHIN, *_WITHIN_VIT)
    found: Weights = {}
    for name, value in weights.items():
        for old, new in _TO_HUGGINGFACE:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        for old, new in within:
            name = name.replace(old, new)
        if ".attn.qkv." in name:
            parts = ("query", "key", "value")
            found |= {
                name.replace(".attn.qkv.", f".attention.attention.{p}."): v for p, v in zip(parts, value.chunk(3), strict=True)
            }
        else:
            found[name] = value
    if (
        scaled_or_registers and "blocks.0.ls1.gamma" not in weights
    ):  # Dinov2WithRegistersModel always scales; by one changes nothing
        blocks, one = depth(weights), torch.ones_like(weights["cls_token"][0, 0])
        found |= {f"encoder.layer.{i}.layer_scale{k}.lambda1": one.clone() for i in range(blocks) for k in (1, 2)}
    return found
