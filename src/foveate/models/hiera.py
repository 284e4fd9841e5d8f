"""Hiera (Ryali 2023) as a backbone that adapters are placed in: ``transformers``' network, with the blocks of its first stage of global
attention made ours.

    pictures ─► stages with attention inside windows, and the block that pools into the global stage      as they are
             ─► the other blocks of that stage (15 of Hiera-B's 16): ``blocks``, with room for adapters    ``vit_blocks.Block``
             ─► what follows                                                                               as it is

Adapters and flow are there alone: inside windows attention says nothing of motion from one window to another, and the block that pools
has fewer queries than keys. There is no CLS token; ``Seen.cls`` is the pooled vector. Tokens of the stage are in Hiera's own order, the
same for every picture, which flow, being of patches, does not mind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.models.vit_blocks import Block, VitConfig
from foveate.models.vit_model import Seen
from foveate.schema import FoveateError


class Hiera(nn.Module):
    """The backbone. Pictures are f32[B, 3, S, S], normalised, S what the model was made for.

    Args:
        model: ``transformers.HieraModel``; its weights are taken over.

    Raises:
        FoveateError: a variant without a stage of several blocks with global attention.
    """

    leading = 0  # tokens before the patches

    def __init__(self, model: Any) -> None:
        super().__init__()
        its = model.config
        number = next((k for k, inside in enumerate(its.masked_unit_attention) if not inside), None)
        if number is None or its.depths[number] < 2 or its.hidden_act != "gelu" or model.pooler is None:
            raise FoveateError("this Hiera has no stage of blocks with global attention", remedy="choose a Hiera as released")
        stages = model.encoder.stages
        layers = list(stages[number].layers)
        width = layers[1].hidden_size
        patch = its.patch_stride[0] * its.query_stride[0] ** min(number, its.num_query_pool)
        self.config = VitConfig(
            image_size=its.image_size[0], patch=patch, width=width, depth=len(layers) - 1, heads=its.num_heads[number],
            mlp_ratio=its.mlp_ratio, layer_scale=None, eps=its.layer_norm_eps,
        )  # fmt: skip
        self.out: int = model.num_features
        self.embeddings, self.pooler = model.embeddings, model.pooler
        self.stem = nn.ModuleList([*(layer for stage in stages[:number] for layer in stage.layers), layers[0]])
        self.blocks = nn.ModuleList(_ours(layer, self.config) for layer in layers[1:])
        self.tail = nn.ModuleList(layer for stage in stages[number + 1 :] for layer in stage.layers)
        self._patch_stride, self._schedule = its.patch_stride, model.unroll_schedule

    def forward(self, pictures: Tensor) -> Seen:
        """What the model makes of f32[B, 3, S, S]."""
        return self.onward(self.until(pictures, 0), 0)

    def until(self, pictures: Tensor, blocks: int) -> Tensor:
        """f32[B, N, D]: the tokens of the global stage after its first ``blocks`` blocks that are ours."""
        from transformers.models.hiera.modeling_hiera import unroll

        x = unroll(self.embeddings(pictures)[0], (pictures.shape[2], pictures.shape[3]), self._patch_stride, self._schedule)
        for layer in self.stem:
            x = layer(x)[0]
        return self._through(x, slice(0, blocks))

    def onward(self, tokens: Tensor, blocks: int) -> Seen:
        """What the model makes of pictures whose tokens f32[B, N, D] ``until`` gave for the same number of ``blocks``."""
        x = self._through(tokens, slice(blocks, None))
        for layer in self.tail:
            x = layer(x)[0]
        patches = self.pooler.layernorm(x)
        return Seen(self.pooler(x), patches[:, :0], patches)

    def _through(self, x: Tensor, blocks: slice) -> Tensor:
        shape = x.shape
        flat, sizes = x.flatten(0, 1), ((shape[0], shape[1]),)
        for block in list(self.blocks)[blocks]:
            flat, _ = block(flat, sizes)
        return flat.view(shape)


def _ours(layer: Any, config: VitConfig) -> Block:
    """The same block: names differ, and attention is fused."""
    block = Block(config)
    pairs: tuple[tuple[nn.Module, Any], ...] = (
        (block.norm1, layer.layernorm_before), (block.attn.qkv, layer.attn.qkv), (block.attn.proj, layer.attn.proj),
        (block.norm2, layer.layernorm_after), (block.mlp, layer.mlp),
    )  # fmt: skip
    for mine, theirs in pairs:
        mine.load_state_dict(theirs.state_dict())
    return block


def is_hiera(folder: Path) -> bool:
    """Whether a model folder in Hugging Face's layout holds one."""
    try:
        return bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "hiera")
    except (OSError, ValueError, AttributeError):
        return False


def load_hiera(folder: Path) -> Hiera:
    """Read a model folder in Hugging Face's layout; in eval mode, frozen."""
    from transformers import HieraModel

    try:
        model = HieraModel.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise FoveateError("this model folder cannot be read", file=folder, remedy="download it again") from error
    return Hiera(model).requires_grad_(False).eval()
