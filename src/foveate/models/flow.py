"""Attention-map flow: where something moves, read from how self-attention of a frozen backbone changes from one frame to the next.

Static camera (*AM Flow*, Agrawal et al. 2024, arXiv 2411.02065): with the attention A_t of frame t, n patches paying to n patches,

    F_t = softmax(|A_t - A_{t+1}|)^T 1                                                                  (1)

one score per head and patch. Of what the paper leaves open we read: attention after its softmax, head by head, CLS and registers left
out, softmax over the last axis. Then the scores of a frame add up to n, and are 1 throughout where nothing changes.

Scores differ from 1 by about .01, so the *excess* F - 1 is what is computed and kept: with m = expm1(|A_t - A_{t+1}|),

    F_j - 1 = sum_i (m_ij - mean_j m_ij) / (n + sum_j m_ij)                                             (2)

which is (1) rearranged, loses no digits, and is exactly 0 where nothing changes.

Moving camera: frame t + 1 is first brought to where its patches were in frame t, by an *aligner*. The paper has one ("aligning encoder")
and does not tell which; these are ours. ``Correspondence`` finds where each patch went, S f32[n, n], and rewrites the map as a relation
between the old places, S A_{t+1} S^T. ``Resampling`` rewrites queries and keys by S, and attends anew. ``Encoding`` lets the tokens of
both frames look at each other, and attends anew in both.

Maps are quadratic in the number of patches: they are made one pair of frames at a time, and made again for the gradient.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from foveate.models.vit_blocks import Attention, Qkv

Align: TypeAlias = Literal["correspondence", "resample", "encoder"]
Last: TypeAlias = Literal["repeat", "still"]

ALIGNER_WIDTH = 64


class Frame(NamedTuple):
    """What the flow sees of one frame of each of B clips; n patches among N tokens, in the last places."""

    tokens: Tensor  # f32[B, n, D], normed
    queries: Tensor  # f32[B, heads, n, d]
    keys: Tensor  # f32[B, heads, N, d]


def excess(one: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """F - 1 of equation (2), f32[..., n], of two maps f32[..., rows, n] with values 0..1; |difference| / ``temperature`` enters.

    Summed over patches 0; between rows / n * n / (n - 1 + e) - rows / n and below e rows / n - rows / n at temperature 1. Maps with fewer
    rows than columns have scores around rows / n, whose excess is told in the same unit (times n / rows).
    """
    rows, n = one.shape[-2:]
    change = torch.expm1((one - other).abs() / temperature)
    total = change.sum(-1)
    weight = 1 / (n + total)
    return ((weight.unsqueeze(-2) @ change).squeeze(-2) - (weight * total).sum(-1, keepdim=True) / n) * (n / rows)


def patch_map(queries: Tensor, keys: Tensor, renormalise: bool = False) -> Tensor:
    """f32[..., n, n]: what each patch pays to each patch. Rows add up to 1 less what CLS and registers get, or to 1 if ``renormalise``.

    Args:
        queries: f32[..., n, d] of the patches.
        keys: f32[..., N, d] of all tokens, the patches last.
    """
    n = queries.shape[-2]
    if renormalise:
        keys = keys[..., -n:, :]
    shares: Tensor = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)
    return shares[..., -n:]


class _Matching(nn.Module):
    """S f32[B, n, n] between two frames: row i says where patch i of the first one is in the second one.

    softmax(q k^T / sqrt(a)), q and k linear in the tokens. Both begin as the same orthonormal projection, so that S begins as a comparison
    of features. Their images are centred over the frame and scaled to one length, so that S is as sharp in every block; the spread of
    tokens after LayerNorm is not, and with plain products S told little in the first and last block (docs/log.md).

    S follows every patch, so it takes away what moves by itself, too, as far as that looks the same elsewhere.
    """

    SHARP = 2.0

    def __init__(self, width: int, inner: int = ALIGNER_WIDTH) -> None:
        super().__init__()
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        nn.init.orthogonal_(self.query.weight)
        self.key.load_state_dict(self.query.state_dict())

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        query, key = self._placed(self.query(one)), self._placed(self.key(other))
        found: Tensor = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return found

    def _placed(self, tokens: Tensor) -> Tensor:
        centred = tokens - tokens.mean(-2, keepdim=True)
        length = self.SHARP * tokens.shape[-1] ** 0.5
        placed: Tensor = functional.normalize(centred, dim=-1) * length
        return placed


class Correspondence(nn.Module):
    """A_t and S A_{t+1} S^T; its rows are scaled to what S A_{t+1} gives in total, so that S = 1 changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matching = _Matching(width)

    def forward(self, one: Frame, other: Frame, renormalise: bool) -> tuple[Tensor, Tensor]:
        moved = aligned(patch_map(other.queries, other.keys, renormalise), self.matching(one.tokens, other.tokens))
        return patch_map(one.queries, one.keys, renormalise), moved


def aligned(attention: Tensor, matching: Tensor) -> Tensor:
    """S A S^T f32[B, heads, n, n] of A f32[B, heads, n, n] and S f32[B, n, n], its rows scaled to the sums of S A's."""
    half = matching.unsqueeze(1) @ attention
    whole: Tensor = half @ matching.unsqueeze(1).transpose(-1, -2)
    scaled: Tensor = whole * (half.sum(-1, keepdim=True) / whole.sum(-1, keepdim=True).clamp(min=1e-12))
    return scaled


class Resampling(nn.Module):
    """A_t, and attention among the tokens of frame t + 1 resampled by S. Queries and keys are affine in the tokens, and rows of S add up to
    1: those of resampled tokens are resampled queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matching = _Matching(width)

    def forward(self, one: Frame, other: Frame, renormalise: bool) -> tuple[Tensor, Tensor]:
        n = other.queries.shape[-2]
        matching = self.matching(one.tokens, other.tokens).unsqueeze(1)
        first, patches = other.keys[..., :-n, :], other.keys[..., -n:, :]
        moved = patch_map(matching @ other.queries, torch.cat((first, matching @ patches), -2), renormalise)
        return patch_map(one.queries, one.keys, renormalise), moved


class Encoding(nn.Module):
    """Maps of both frames after a transformer layer over the tokens of both has changed them; it begins by changing nothing, as the
    static formula.

    Args:
        attention: the block's own, frozen: its queries and keys of the changed tokens are asked.
    """

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.inward = nn.Linear(width, ALIGNER_WIDTH)
        self.layer = nn.TransformerEncoderLayer(
            ALIGNER_WIDTH, 4, 2 * ALIGNER_WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.outward = nn.Linear(ALIGNER_WIDTH, width)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)
        self._attention = (attention,)  # in a tuple: no part of this module, it is the block's

    def forward(self, one: Frame, other: Frame, renormalise: bool) -> tuple[Tensor, Tensor]:
        n = one.tokens.shape[-2]
        moved = self.outward(self.layer(self.inward(torch.cat((one.tokens, other.tokens), -2))))
        first, second = (
            self._map(frame, change, renormalise) for frame, change in zip((one, other), moved.split(n, -2), strict=True)
        )
        return first, second

    def _map(self, frame: Frame, change: Tensor, renormalise: bool) -> Tensor:
        (attention,) = self._attention
        batch, n, width = change.shape
        # Affine without its bias: what the change adds to queries and keys.
        added = functional.linear(change, attention.qkv.weight[: 2 * width]).view(batch, n, 2, attention.heads, -1)
        queries, keys = added.permute(2, 0, 3, 1, 4).unbind()
        first = frame.keys[..., :-n, :]
        return patch_map(frame.queries + queries, torch.cat((first, frame.keys[..., -n:, :] + keys), -2), renormalise)


def aligner(kind: Align, width: int, attention: Attention) -> nn.Module:
    """The aligner of one block."""
    if kind == "encoder":
        return Encoding(width, attention)
    return Correspondence(width) if kind == "correspondence" else Resampling(width)


class AttentionFlow(nn.Module):
    """F - 1 of one block, per head and patch, times a learned gain per head.

    The gain begins as 1 / standard deviation over the first batch (``begin``), 1 where that is below 1e-6.

    Args:
        heads: of the block.
        align: brings the second frame to the first one; None: the camera stands still.
        temperature: of the differences, see ``excess``.
        renormalise: maps among patches alone; else what goes to CLS and registers is missing from their rows.
        last: the last frame has no next one: it has the flow of the one before it, or none.
        detach: no gradient goes from the flow into tokens, queries and keys.
        shuffled: a control: each frame's flow is dealt out over its patches in an order that means nothing.
    """

    def __init__(
        self,
        heads: int,
        align: nn.Module | None = None,
        *,
        temperature: float = 1.0,
        renormalise: bool = False,
        last: Last = "repeat",
        detach: bool = True,
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        self.align, self.temperature, self.renormalise, self.last = align, temperature, renormalise, last
        self.detach, self.shuffled = detach, shuffled
        self.gain = nn.Parameter(torch.ones(heads))
        self._sums: list[Tensor] = []  # of the batch that the gain begins with: count, sum, sum of squares by head
        self.measuring = False

    def forward(self, tokens: Tensor, qkv: Qkv, frames: int) -> Tensor:
        """f32[B, T, n, heads] of the normed patches f32[B T, n, D] and the block's queries and keys for T ``frames`` a clip."""
        flow = self.raw(tokens, qkv, frames)
        if self.measuring:
            seen = flow.detach().double().flatten(0, 2)
            self._sums.append(torch.stack([torch.full_like(seen[0], len(seen)), seen.sum(0), seen.square().sum(0)]))
        return flow * self.gain

    def raw(self, tokens: Tensor, qkv: Qkv, frames: int) -> Tensor:
        """``forward`` before the gain."""
        with torch.autocast(tokens.device.type, enabled=False):
            moments = self._frames(tokens, qkv, frames)
            static = self.align is None and self.detach
            with torch.set_grad_enabled(torch.is_grad_enabled() and not static):
                pairs = self._still(moments) if self.align is None else self._moving(moments)
        if not pairs:  # one frame: nothing can have moved
            return moments[0].queries.new_zeros(*moments[0].tokens.shape[:2], moments[0].queries.shape[1]).unsqueeze(1)
        pairs.append(pairs[-1] if self.last == "repeat" else torch.zeros_like(pairs[-1]))
        flow = torch.stack(pairs, 1).transpose(-1, -2)
        return _shuffled(flow) if self.shuffled else flow

    def _frames(self, tokens: Tensor, qkv: Qkv, frames: int) -> list[Frame]:
        n = tokens.shape[-2]

        def by_frame(value: Tensor) -> tuple[Tensor, ...]:
            value = value.detach() if self.detach else value
            parts: tuple[Tensor, ...] = value.float().view(-1, frames, *value.shape[1:]).unbind(1)
            return parts

        return [Frame(*one) for one in zip(by_frame(tokens), by_frame(qkv.queries[:, :, -n:]), by_frame(qkv.keys), strict=True)]

    def _still(self, frames: list[Frame]) -> list[Tensor]:
        """f32[B, heads, n] of each pair; each map is made once, and two are held at a time."""
        found: list[Tensor] = []
        before = None
        for frame in frames if len(frames) > 1 else ():
            now = patch_map(frame.queries, frame.keys, self.renormalise)
            if before is not None:
                found.append(excess(before, now, self.temperature))
            before = now
        return found

    def _moving(self, frames: list[Frame]) -> list[Tensor]:
        pairs = pairwise(frames)
        if torch.is_grad_enabled():
            return [checkpoint(self._pair, *one, *other, use_reentrant=False, preserve_rng_state=False) for one, other in pairs]
        return [self._pair(*one, *other) for one, other in pairs]

    def _pair(self, *tensors: Tensor) -> Tensor:
        assert self.align is not None
        before, after = self.align(Frame(*tensors[:3]), Frame(*tensors[3:]), self.renormalise)
        return excess(before, after, self.temperature)

    @torch.no_grad()
    def begin(self, sums: Tensor | None = None) -> None:
        """Set the gain by the batch seen since ``measuring`` was switched on.

        Args:
            sums: f64[3, heads] of all processes, see ``seen``; None: of this one.
        """
        count, total, squares = self.seen() if sums is None else sums
        spread = (squares / count - (total / count).square()).clamp(min=0).sqrt()
        self.gain.copy_(torch.where(spread < 1e-6, torch.ones_like(spread), 1 / spread.clamp(min=1e-6)))
        self._sums.clear()
        self.measuring = False

    def seen(self) -> Tensor:
        """f64[3, heads]: count, sum and sum of squares of ``raw`` since ``measuring`` was switched on."""
        return torch.stack(self._sums).sum(0)


def _shuffled(flow: Tensor) -> Tensor:
    """Patches of f32[B, T, n, heads] in another order in each frame, the same for all clips: a function of T and n alone."""
    _, frames, n, _ = flow.shape
    generator = torch.Generator().manual_seed(frames * 1_000_003 + n)
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(frames)]).to(flow.device)
    return flow.gather(2, order.view(1, frames, n, 1).expand_as(flow))
