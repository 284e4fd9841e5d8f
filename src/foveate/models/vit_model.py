"""A vision transformer of our own, for what is trained: several crop sizes in one pass, queries and keys on request, room for adapters.

The network is that of DINO (Caron 2021), DINOv2 (Oquab 2023), DINOv2 with registers (Darcet 2023) and ViT (Dosovitskiy 2020): pre-norm
blocks, a CLS token, learned positions. Parameters are named as in the released code of DINOv2, so that its weights fit as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate.models.vit_blocks import Block, Kept, PatchEmbed, Qkv, Sizes, VitConfig, draw

_OFFSET = 0.1  # of DINO, https://github.com/facebookresearch/dino/issues/8


class Seen(NamedTuple):
    """What a model makes of B pictures, after the final LayerNorm."""

    cls: Tensor  # f32[B, D]
    registers: Tensor  # f32[B, R, D]
    patches: Tensor  # f32[B, P, D], row after row


class Vit(nn.Module):
    """The backbone. Pictures are f32[B, 3, H, W], normalised; their sides are multiples of the patch, not necessarily the same.

    Weights are drawn as DINOv2 draws them (truncated normal, .02) from PyTorch's generator, and replaced by ``load_vit``.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.grid**2, config.width))  # CLS first
        self.register_tokens = nn.Parameter(torch.empty(1, config.registers, config.width)) if config.registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self._draw()

    @property
    def leading(self) -> int:
        """Tokens before the patches."""
        return 1 + self.config.registers

    @property
    def out(self) -> int:
        """Width of what comes out."""
        return self.config.width

    def _draw(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pictures: Tensor, masked: Tensor | None = None) -> Seen:
        """What the model makes of f32[B, 3, H, W]; patches that bool[B, P] marks are replaced by the mask token before positions."""
        return self.many([pictures], [masked])[0]

    def many(self, pictures: Sequence[Tensor], masked: Sequence[Tensor | None] | None = None) -> list[Seen]:
        """``forward`` of several crop sizes in one pass, without padding; as separate passes but for rounding.

        In training with ``drop_path`` each branch of each block sees a random part of each crop size's pictures, drawn from PyTorch's
        generator (``drop_add_residual_stochastic_depth_list`` of DINOv2): a block with rate r sees max(1, int(B (1 - r))) of B and its
        branch counts B / that. DINOv2 does so for one crop size only above r = .1 and drops picture by picture below; here always.
        """
        x, sizes = self._tokens(pictures, masked)
        for block, kept in zip(self.blocks, self._draws(sizes, x.device), strict=True):
            x, _ = block(x, sizes, kept)
        return self._seen(x, sizes)

    def layers(self, pictures: Tensor, which: Sequence[int]) -> list[Seen]:
        """What the model makes of f32[B, 3, H, W] after some blocks, numbered from 0 or from the end (-1: what ``forward`` gives; -3:
        the third-last layer), each through the final LayerNorm. Blocks after the last one asked for do not run."""
        wanted = [self._number(block) for block in which]
        found = {}
        x, sizes = self._tokens([pictures], None)
        for number, (block, kept) in enumerate(zip(self.blocks, self._draws(sizes, x.device), strict=True)):
            if number > max(wanted, default=-1):
                break
            x, _ = block(x, sizes, kept)
            if number in wanted:
                found[number] = self._seen(x, sizes)[0]
        return [found[number] for number in wanted]

    def until(self, pictures: Tensor, blocks: int) -> Tensor:
        """f32[B, N, D]: all tokens of f32[B, 3, H, W] after the first ``blocks`` blocks, as the next block sees them."""
        x, sizes = self._tokens([pictures], None)
        for block in list(self.blocks)[:blocks]:
            x, _ = block(x, sizes)
        return x.view(*sizes[0], -1)

    def onward(self, tokens: Tensor, blocks: int) -> Seen:
        """What the model makes of pictures whose tokens f32[B, N, D] ``until`` gave for the same number of ``blocks``."""
        x, sizes = tokens.flatten(0, 1), ((len(tokens), tokens.shape[1]),)
        for block in list(self.blocks)[blocks:]:
            x, _ = block(x, sizes)
        return self._seen(x, sizes)[0]

    def watch(self, pictures: Tensor, blocks: Sequence[int], masked: Tensor | None = None) -> tuple[Seen, list[Qkv]]:
        """``forward``, and the queries, keys and values of some blocks, numbered as in ``layers``, from the same pass.

        Raises:
            ValueError: stochastic depth is on, so that blocks do not see all pictures.
        """
        wanted = [self._number(block) for block in blocks]
        if self._dropping():
            raise ValueError("queries of all pictures exist only without stochastic depth: switch to eval mode")
        found = {}
        x, sizes = self._tokens([pictures], [masked])
        for number, block in enumerate(self.blocks):
            x, qkv = block(x, sizes)
            if number in wanted:
                found[number] = qkv[0]
        return self._seen(x, sizes)[0], [found[number] for number in wanted]

    def maps(self, pictures: Tensor, blocks: Sequence[int], first: int | None = None) -> list[Tensor]:
        """Attention of some blocks, numbered as in ``layers``: per block f32[B, heads, first, tokens], see ``Qkv.attention``.

        Computed beside the pass, which uses fused attention as always. All rows of a picture of P patches take heads x P² numbers.
        """
        return [qkv.attention(first) for qkv in self.watch(pictures, blocks)[1]]

    def positions(self, rows: int, columns: int) -> Tensor:
        """f32[1, 1 + rows x columns, D]: CLS position and those of a grid, by bicubic interpolation in float32; those learned, as they
        are, for the grid that they were learned on.

        The released models were trained with three variants. A model trained with one sees much the same through another at 224 px and
        less so the smaller the picture (``benchmarks/results/vit_positions.json``):

        - ``size``: from sizes alone. DINOv2 and ViT in ``transformers`` (and DINOv2's code with offset 0).
        - ``offset``: the step between samples is that of a grid larger by 0.1. DINO's code, and DINOv2's as its models without
          registers were released and as its training does it.
        - ``antialias``: with a low-pass filter when the grid shrinks. DINOv2 with registers, released and in ``transformers``; timm.
        """
        grid, how = self.config.grid, self.config.positions
        if rows == columns == grid:
            return self.pos_embed
        learned = self.pos_embed[:, 1:].float().view(1, grid, grid, -1).permute(0, 3, 1, 2)
        # With a factor PyTorch samples in steps of 1 / factor, and cuts off the output at floor(grid x factor) = rows.
        way: dict[str, Any] = {"size": (rows, columns), "antialias": how == "antialias"}
        if how == "offset":
            way = {"scale_factor": ((rows + _OFFSET) / grid, (columns + _OFFSET) / grid)}
        moved = functional.interpolate(learned, mode="bicubic", align_corners=False, **way)
        return torch.cat((self.pos_embed[:, :1].float(), moved.flatten(2).transpose(1, 2)), 1).to(self.pos_embed.dtype)

    def _tokens(self, pictures: Sequence[Tensor], masked: Sequence[Tensor | None] | None) -> tuple[Tensor, Sizes]:
        """The matrix of tokens that the first block sees, f32[tokens, D]."""
        masked = [None] * len(pictures) if masked is None else masked
        whole = [self._embedded(some, mask) for some, mask in zip(pictures, masked, strict=True)]
        sizes = tuple((len(some), some.shape[1]) for some in whole)
        flat = [some.flatten(0, 1) for some in whole]
        return flat[0] if len(flat) == 1 else torch.cat(flat), sizes

    def _embedded(self, pictures: Tensor, masked: Tensor | None) -> Tensor:
        """f32[B, 1 + R + P, D] of f32[B, 3, H, W]."""
        rows, columns = (side // self.config.patch for side in pictures.shape[-2:])
        if pictures.shape[-2:] != (rows * self.config.patch, columns * self.config.patch):
            height, width = pictures.shape[-2:]
            raise ValueError(f"pictures of {height} x {width} px cannot be cut into patches of {self.config.patch} px")
        patches = self.patch_embed(pictures)
        if masked is not None:
            patches = torch.where(masked.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        placed = self.positions(rows, columns)
        cls = (self.cls_token + placed[:, :1]).expand(len(patches), -1, -1)
        registers = () if self.register_tokens is None else (self.register_tokens.expand(len(patches), -1, -1),)
        return torch.cat((cls, *registers, patches + placed[:, 1:]), 1)

    def _seen(self, x: Tensor, sizes: Sizes) -> list[Seen]:
        whole = self.norm(x).split([pictures * tokens for pictures, tokens in sizes])
        before = 1 + self.config.registers
        sequences = [part.view(*size, -1) for part, size in zip(whole, sizes, strict=True)]
        return [Seen(tokens[:, 0], tokens[:, 1:before], tokens[:, before:]) for tokens in sequences]

    def _number(self, block: int) -> int:
        return range(self.config.depth)[block]

    def _dropping(self) -> bool:
        return self.training and self.config.drop_path > 0

    def _draws(self, sizes: Sizes, device: torch.device) -> Iterator[tuple[Kept, Kept] | None]:
        """The pictures that each block sees. Drawn outside the blocks, so that a block computed again for its gradient sees the same."""
        depth, last = self.config.depth, self.config.drop_path
        for number in range(depth):
            rate = last if self.config.drop_uniform or depth == 1 else last * number / (depth - 1)
            yield (draw(sizes, rate, device), draw(sizes, rate, device)) if self._dropping() and rate > 0 else None


def resized(vit: Vit, image_size: int) -> Vit:
    """A copy whose positions are learned for ``image_size``, from those of ``vit`` as ``Vit.positions`` makes them.

    So the published run began: 37 x 37 positions became 16 x 16 once, by sizes (it gave the factor 16 / 37, which is the same), and were
    trained on from there.
    """
    grid = image_size // vit.config.patch
    copy = Vit(replace(vit.config, image_size=image_size))
    state = vit.state_dict() | {"pos_embed": vit.positions(grid, grid).detach()}
    copy.load_state_dict(state)
    return copy.to(vit.pos_embed.device).train(vit.training)
