"""What the vision transformer of ``vit`` is made of: its configuration, and blocks that see a matrix of tokens.

The tokens of all pictures lie in one matrix f32[tokens, D], picture after picture, whatever their sizes: LayerNorm, linear layers and MLP
see the matrix, and only attention, always PyTorch's fused one, sees pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Positions: TypeAlias = Literal["size", "offset", "antialias"]
"""How positions become those of another grid, see ``Vit.positions``."""
Sizes: TypeAlias = tuple[tuple[int, int], ...]
"""Pictures and tokens per picture of each crop size, in the order in which they lie in the matrix of tokens."""

_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


@dataclass(frozen=True)
class VitConfig:
    """What a ``Vit`` is built from; the defaults are DINOv2's ViT-S/14 at 224 px, as its training builds it."""

    image_size: int = 224  # pixels per side for which positions are learned
    patch: int = 14  # pixels per side
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    gated: bool = False  # SwiGLU in place of the MLP (DINOv2's ViT-g); two thirds as wide inside, rounded up to a multiple of 8
    layer_scale: float | None = 1e-5  # first value; None: no LayerScale (DINO, ViT)
    registers: int = 0
    drop_path: float = (
        0.0  # share of pictures that the last block leaves out in training; growing linearly from 0 at the first block
    )
    drop_uniform: bool = False  # the same share in every block, as in DINOv2's own training
    eps: float = 1e-6
    qkv_bias: bool = True
    positions: Positions = "size"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads cannot share a width of {self.width}")
        if self.image_size % self.patch:
            raise ValueError(f"pictures of {self.image_size} px cannot be cut into patches of {self.patch} px")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {self.drop_path}")

    @property
    def grid(self) -> int:
        """Patches per side for which positions are learned."""
        return self.image_size // self.patch

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return (
            (int(int(self.width * self.mlp_ratio) * 2 / 3) + 7) // 8 * 8 if self.gated else round(self.width * self.mlp_ratio)
        )


def sized(size: Literal["tiny", "small", "base", "large"], **changes: Any) -> VitConfig:
    """ViT-Ti, S, B or L; ``changes`` are other fields of ``VitConfig``."""
    width, depth, heads = _SIZES[size]
    return replace(VitConfig(width=width, depth=depth, heads=heads), **changes)


class Qkv(NamedTuple):
    """Queries, keys and values of one block, each f32[B, heads, tokens, D / heads]; tokens are CLS, registers, patches."""

    queries: Tensor
    keys: Tensor
    values: Tensor

    def attention(self, first: int | None = None) -> Tensor:
        """f32[B, heads, first, tokens]: what the first tokens (all: None; CLS alone: 1) pay to every token; rows add up to 1. In float32
        also where the pass was in less."""
        with torch.autocast(self.keys.device.type, enabled=False):
            queries, keys = self.queries[:, :, :first].float(), self.keys.float()
            shares: Tensor = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)
        return shares


class Kept(NamedTuple):
    """The pictures that a branch of a block sees in training with stochastic depth."""

    rows: Tensor  # i64[t], their rows in the matrix of tokens
    scale: Tensor  # f32[t, 1], pictures / kept pictures of the row's crop size
    sizes: Sizes


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron 2021, CaiT)."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gamma
        return out


class Attention(nn.Module):
    """Self-attention within each picture."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.proj = nn.Linear(config.width, config.width)

    def split(self, qkv: Tensor, sizes: Sizes) -> list[Qkv]:
        """One ``Qkv`` per crop size, views of f32[tokens, 3 D]."""
        parts = torch.split(qkv, [pictures * tokens for pictures, tokens in sizes])
        return [
            Qkv(*part.view(*size, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind())
            for part, size in zip(parts, sizes, strict=True)
        ]

    def forward(self, pieces: list[Qkv]) -> Tensor:
        """f32[tokens, D] of one ``Qkv`` per crop size."""
        out = [functional.scaled_dot_product_attention(*piece).transpose(1, 2).flatten(2).flatten(0, 1) for piece in pieces]
        mixed: Tensor = self.proj(out[0] if len(out) == 1 else torch.cat(out))
        return mixed


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Gated(nn.Module):
    """SwiGLU (Shazeer 2020): ``w3(silu(a) * b)``, ``a, b = w12(x)``; names are those of DINOv2's code."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.w12 = nn.Linear(config.width, 2 * config.hidden)
        self.w3 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        gate, through = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(functional.silu(gate) * through)
        return out


class Block(nn.Module):
    """A pre-norm transformer block on the matrix of tokens.

    ``beside_attention`` and ``beside_mlp`` are empty places for adapters: modules called as ``adapter(normed f32[tokens, D], sizes, qkv)``,
    where ``qkv`` is the list of the block's ``Qkv`` per crop size, whose f32[tokens, D] is added to the residual stream beside the branch:
    x + attention(norm1(x)) + beside_attention(norm1(x)); x + mlp(norm2(x)) + beside_mlp(norm2(x)).

    Further places: ``before``, called as ``adapter(x, sizes)``, whose output is added to the block's input; ``after_attention`` and
    ``after_mlp``, called as those beside but with what the branch adds in place of what it sees, whose output is added on top. An adapter
    that gives zeros changes no bit of what the block makes.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.attn = Attention(config)
        self.ls1 = None if config.layer_scale is None else LayerScale(config.width, config.layer_scale)
        self.norm2 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = Gated(config) if config.gated else Mlp(config)
        self.ls2 = None if config.layer_scale is None else LayerScale(config.width, config.layer_scale)
        self.beside_attention: nn.Module | None = None
        self.beside_mlp: nn.Module | None = None
        self.before: nn.Module | None = None
        self.after_attention: nn.Module | None = None
        self.after_mlp: nn.Module | None = None

    def forward(self, x: Tensor, sizes: Sizes, kept: tuple[Kept, Kept] | None = None) -> tuple[Tensor, list[Qkv]]:
        """The tokens after the block, f32[tokens, D], and its queries, keys and values: of all pictures, or of those kept.

        Args:
            x: f32[tokens, D].
            sizes: how the tokens fall into pictures.
            kept: the pictures that each branch sees; None for all. Adapters and stochastic depth exclude each other.
        """
        if kept is not None:
            return self._some(x, *kept)
        if self.before is not None:
            x = x + self.before(x, sizes)
        normed = self.norm1(x)
        qkv = self.attn.split(self.attn.qkv(normed), sizes)
        branch = self.attn(qkv)
        x = _plus(x, branch, self.ls1)
        if self.after_attention is not None:
            x = x + self.after_attention(branch if self.ls1 is None else self.ls1(branch), sizes, qkv)
        if self.beside_attention is not None:
            x = x + self.beside_attention(normed, sizes, qkv)
        normed = self.norm2(x)
        branch = self.mlp(normed)
        x = _plus(x, branch, self.ls2)
        if self.after_mlp is not None:
            x = x + self.after_mlp(branch if self.ls2 is None else self.ls2(branch), sizes, qkv)
        if self.beside_mlp is not None:
            x = x + self.beside_mlp(normed, sizes, qkv)
        return x, qkv

    @property
    def adapted(self) -> bool:
        """Whether there is an adapter in one of the places."""
        places = (self.before, self.beside_attention, self.after_attention, self.beside_mlp, self.after_mlp)
        return any(place is not None for place in places)

    def _some(self, x: Tensor, looking: Kept, thinking: Kept) -> tuple[Tensor, list[Qkv]]:
        if self.adapted:
            raise ValueError("a block with adapters cannot leave out pictures: set drop_path to 0")
        qkv = self.attn.split(self.attn.qkv(self.norm1(x[looking.rows])), looking.sizes)
        x = _plus_some(x, self.attn(qkv), self.ls1, looking)
        return _plus_some(x, self.mlp(self.norm2(x[thinking.rows])), self.ls2, thinking), qkv


def _plus(x: Tensor, branch: Tensor, scale: LayerScale | None) -> Tensor:
    # One pass over the memory instead of two; in mixed precision the sum is made in that of ``x``.
    return x + branch if scale is None else torch.addcmul(x, branch.to(x.dtype), scale.gamma)


def _plus_some(x: Tensor, branch: Tensor, scale: LayerScale | None, kept: Kept) -> Tensor:
    branch = branch if scale is None else scale(branch)
    return x.index_add(0, kept.rows, (branch * kept.scale).to(x.dtype))


class PatchEmbed(nn.Module):
    """Pictures to one vector per patch."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, config.patch)

    def forward(self, pictures: Tensor) -> Tensor:
        """f32[B, rows x columns, D] of f32[B, 3, H, W]."""
        out: Tensor = self.proj(pictures).flatten(2).transpose(1, 2)
        return out


def draw(sizes: Sizes, rate: float, device: torch.device) -> Kept:
    """A random part of the pictures of each crop size, without replacement: max(1, int(B (1 - rate))) of B."""
    rows, scales, left, start = [], [], [], 0
    for pictures, tokens in sizes:
        count = max(1, int(pictures * (1 - rate)))
        chosen = torch.randperm(pictures, device=device)[:count]
        rows.append((start + chosen.unsqueeze(1) * tokens + torch.arange(tokens, device=device)).flatten())
        scales.append(torch.full((count * tokens, 1), pictures / count, device=device))
        left.append((count, tokens))
        start += pictures * tokens
    return Kept(torch.cat(rows), torch.cat(scales), tuple(left))
