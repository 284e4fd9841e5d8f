"""Adapters: small trained modules in the places that blocks of a frozen ``Vit`` keep for them (``vit_blocks.Block``).

With f an activation (ReLU in all but ``Temporal`` baselines), x what a branch sees and y what it makes:

    serial             y + f(y W_down) W_up                     after the branch (Houlsby 2019)
    parallel           y + f(x W_down) W_up                     beside it (He 2022)
    scaled parallel    y + s f(x W_down) W_up, s learned        beside it (*AM Flow*, supplement, equation 1)

and for video, with the frames of a clip as T pictures that follow each other:

    TemporalAdapter    h_t = f(x_t W_down);  g_t = h_t (1 + W_F F_t);  s (h_t + u_t) W_up with u = temporal module of g over T
    SpatioTemporal     ST-Adapter (Pan 2022): x + depthwise convolution over T of (x W_down), W_up, before attention
    TemporalAttention  of AIM (Yang 2023): the block's own frozen attention, over T in each place, before attention proper

Everything begins by adding exactly zero, so that a network with adapters begins as the frozen one, bit for bit.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate.models.flow import AttentionFlow
from foveate.models.vit_blocks import Attention, Qkv, Sizes

Over: TypeAlias = Literal["attention", "convolution", "lstm"]
"""What a temporal module is."""
Use: TypeAlias = Literal["gate", "concat", "none"]
"""How flow enters a temporal adapter."""

_HEADS = 4


class Adapter(nn.Module):
    """s f(x W_down) W_up, f32[tokens, D] to f32[tokens, D]: 2 D r + r + D weights, and one for s where it is learned.

    Args:
        width: D.
        inner: r.
        scale: s; None: a learned one, which begins at 1.
        gelu: f is GELU in place of ReLU.
    """

    def __init__(self, width: int, inner: int, scale: float | None = None, *, gelu: bool = False) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
        _zero(self.up)
        self.gelu = gelu
        self.scale = nn.Parameter(torch.ones(())) if scale is None else None
        self.fixed = scale

    def forward(self, x: Tensor, sizes: Sizes | None = None, qkv: list[Qkv] | None = None) -> Tensor:
        return self.raised(self.lowered(x))

    def lowered(self, x: Tensor) -> Tensor:
        """f32[tokens, r]."""
        low = self.down(x)
        return functional.gelu(low) if self.gelu else functional.relu(low)

    def raised(self, low: Tensor) -> Tensor:
        out: Tensor = self.up(low) * (self.fixed if self.scale is None else self.scale)
        return out


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class OverAttention(nn.Module):
    """A pre-norm transformer encoder layer over T: width r, 4 heads, an MLP of 2 r, learned positions.

    8 r² + 11 r + T r weights.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(frames, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """f32[S, T, r] of S series."""
        x = x + self.position
        qkv = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(functional.scaled_dot_product_attention(*qkv.unbind()).transpose(1, 2).flatten(2))
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return out


class OverConvolution(nn.Module):
    """A depthwise convolution over 3 frames, then a linear layer: r² + 5 r weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.pointwise = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """f32[S, T, r] of S series."""
        out: Tensor = self.pointwise(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return out


class OverLstm(nn.Module):
    """A bidirectional LSTM of r / 2 units each way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """f32[S, T, r] of S series."""
        out: Tensor = self.lstm(x)[0]
        return out


def temporal(kind: Over, width: int, frames: int) -> nn.Module:
    """A temporal module of width r for clips of T frames."""
    if kind == "attention":
        return OverAttention(width, frames)
    return OverConvolution(width) if kind == "convolution" else OverLstm(width)


class TemporalAdapter(Adapter):
    """A scaled parallel adapter that looks along time, and, with flow, where something moves.

    F is the excess over 1 of the scores, times the gain (``flow``). CLS and registers have none: for them W_F F is 0.

    Args:
        width, inner: D and r.
        frames: T.
        over: the temporal module.
        flow: attention-map flow of the block; None: none.
        use: ``gate``: g = h (1 + W_F F), W_F f32[r, heads] zeros at first. ``concat``: g = [h ; F] W_c, which begins as h.
        scale: s; None: learned.
        first: tokens before the patches: CLS and registers.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        frames: int,
        over: Over = "attention",
        flow: AttentionFlow | None = None,
        use: Use = "gate",
        scale: float | None = None,
        first: int = 1,
    ) -> None:
        super().__init__(width, inner, scale)
        self.frames, self.use, self.first = frames, use, first
        self.over = temporal(over, inner, frames)
        self.flow = flow
        heads = len(flow.gain) if flow is not None else 0
        self.mixing: nn.Linear | None = None
        if flow is not None:
            self.mixing = nn.Linear(heads if use == "gate" else inner + heads, inner, bias=False)
            nn.init.zeros_(self.mixing.weight)
            if use == "concat":
                nn.init.eye_(self.mixing.weight[:, :inner].detach())

    def forward(self, x: Tensor, sizes: Sizes | None = None, qkv: list[Qkv] | None = None) -> Tensor:
        assert sizes is not None and qkv is not None
        ((pictures, tokens),) = sizes
        if pictures % self.frames:
            raise ValueError(f"{pictures} pictures are no clips of {self.frames} frames")
        low = self.lowered(x).view(-1, self.frames, tokens, self.down.out_features)
        gated = low if self.flow is None else self._with_flow(low, x.view(pictures, tokens, -1), qkv[0])
        along = gated.transpose(1, 2).flatten(0, 1)  # each place's series
        moved = self.over(along).view(-1, tokens, *low.shape[1:2], low.shape[-1]).transpose(1, 2)
        return self.raised((low + moved).flatten(0, 2))

    def _with_flow(self, low: Tensor, x: Tensor, qkv: Qkv) -> Tensor:
        assert self.flow is not None and self.mixing is not None
        flow = functional.pad(self.flow(x[:, self.first :], qkv, self.frames).to(low.dtype), (0, 0, self.first, 0))
        mixed: Tensor = low * (1 + self.mixing(flow)) if self.use == "gate" else self.mixing(torch.cat((low, flow), -1))
        return mixed


class SpatioTemporal(nn.Module):
    """ST-Adapter: W_up of a depthwise convolution over T of x W_down, of patches; no activation. Goes before a block's attention.

    The released code convolves over 3 x 1 x 1 (time, height, width), begins with a convolution of zeros, and looks at tokens before
    their norm; so do we. 2 D r + 5 r + D weights.
    """

    def __init__(self, width: int, inner: int, frames: int, first: int = 1) -> None:
        super().__init__()
        self.frames, self.first = frames, first
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
        self.over = nn.Conv1d(inner, inner, 3, padding=1, groups=inner)
        for bias in (self.down.bias, self.up.bias, self.over.bias):
            assert bias is not None
            nn.init.zeros_(bias)
        nn.init.zeros_(self.over.weight)

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        ((pictures, tokens),) = sizes
        low = self.down(x.view(pictures, tokens, -1)[:, self.first :])
        series = low.view(-1, self.frames, *low.shape[1:]).permute(0, 2, 3, 1)  # clips, places, r, T
        along = self.over(series.flatten(0, 1)).view(series.shape).permute(0, 3, 1, 2).flatten(0, 1)
        out: Tensor = functional.pad(self.up(along), (0, 0, self.first, 0)).flatten(0, 1)
        return out


class TemporalAttention(nn.Module):
    """AIM's temporal adaptation: an adapter of what the block's own frozen attention makes of the T tokens in one place.

    AIM adds learned positions in time once, to the input of the first block; here each adapted block has its own, so that blocks before the
    first adapted one can be run once and stored. They begin at zero, as AIM's.

    Args:
        norm, attention: the block's, frozen.
    """

    def __init__(self, width: int, inner: int, frames: int, norm: nn.LayerNorm, attention: Attention) -> None:
        super().__init__()
        self.frames = frames
        self.adapter = Adapter(width, inner, 1.0, gelu=True)
        self.position = nn.Parameter(torch.zeros(frames, width))
        self._frozen: tuple[Any, ...] = (norm, attention)  # in a tuple: no parts of this module, they are the block's

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        ((pictures, tokens),) = sizes
        norm, attention = self._frozen
        shape = (pictures // self.frames, self.frames, tokens, x.shape[-1])
        series = norm(x.view(shape) + self.position.unsqueeze(1)).transpose(1, 2).flatten(0, 2)
        along = attention(attention.split(attention.qkv(series), ((shape[0] * tokens, self.frames),)))
        out: Tensor = self.adapter(along).view(shape[0], tokens, self.frames, -1).transpose(1, 2).flatten(0, 2)
        return out
