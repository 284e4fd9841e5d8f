"""What a block of the vision transformer does in training: pictures left out, adapters beside it, mixed precision, recomputed, compiled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foveate.models.vit import Qkv, Sizes, Vit, VitConfig
from foveate.models.vit_blocks import Block, draw

SMALL = VitConfig(image_size=28, patch=7, width=32, depth=3, heads=2, mlp_ratio=2, layer_scale=1.0)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(**changes: Any) -> Vit:
    torch.manual_seed(0)
    vit = Vit(replace(SMALL, **changes))
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return vit


def crops() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 3, 28, 28, generator=generator), torch.randn(7, 3, 14, 21, generator=generator)]


def plain(vit: Vit, pictures: list[Tensor], draws: list[Any]) -> list[Tensor]:
    """CLS by the formula of ``drop_add_residual_stochastic_depth``, picture by picture, of the pictures that were drawn."""
    tokens, sizes = vit._tokens(pictures, None)
    sequences = [part.view(*size, -1) for part, size in zip(tokens.split([a * b for a, b in sizes]), sizes, strict=True)]
    starts = [0, sizes[0][0] * sizes[0][1]]
    for block, kept in zip(vit.blocks, draws, strict=True):
        for branch in (0, 1):
            for c, (count, length) in enumerate(sizes):
                rows = (
                    range(count)
                    if kept is None
                    else {int(r - starts[c]) // length for r in kept[branch].rows if r >= starts[c]}
                )
                factor = count / len([k for k in rows if k < count])
                out = sequences[c].clone()
                for k in rows:
                    if k < count:
                        one = sequences[c][k : k + 1]
                        if branch == 0:
                            qkv = (
                                block.attn.qkv(block.norm1(one)).view(1, length, 3, vit.config.heads, -1).permute(2, 0, 3, 1, 4)
                            )
                            shares = (qkv[0] @ qkv[1].mT / qkv.shape[-1] ** 0.5).softmax(-1)
                            branched = block.ls1(block.attn.proj((shares @ qkv[2]).transpose(1, 2).flatten(2)))
                        else:
                            hidden = nn.functional.gelu(block.mlp.fc1(block.norm2(one)))
                            branched = block.ls2(block.mlp.fc2(hidden))
                        out[k] = one[0] + factor * branched[0]
                sequences[c] = out
    return [vit.norm(sequence)[:, 0] for sequence in sequences]


@pytest.mark.parametrize("uniform", [True, False])
def test_left_out_pictures_as_in_dinov2(uniform: bool) -> None:
    vit = small(drop_path=0.5, drop_uniform=uniform).train()
    _, sizes = vit._tokens(crops(), None)
    torch.manual_seed(3)
    draws = list(vit._draws(sizes, CPU))
    torch.manual_seed(3)
    found = vit.many(crops())
    for seen, expected in zip(found, plain(vit, crops(), draws), strict=True):
        torch.testing.assert_close(seen.cls, expected, rtol=0, atol=1e-5)
    kept = [None if each is None else [size[0] for size in each[0].sizes] for each in draws]
    assert kept == ([[2, 3]] * 3 if uniform else [None, [3, 5], [2, 3]])  # int(5 x .5), int(7 x .5); ramp 0, .25, .5
    assert (vit.many(crops())[0].cls - found[0].cls).abs().max() > 1e-3  # another draw
    vit.eval()
    still = small()  # the same weights without stochastic depth
    for a, b in zip(vit.many(crops()), still.train().many(crops()), strict=True):
        assert torch.equal(a.cls, b.cls)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=3), st.floats(0.01, 0.99), st.integers(0, 9)
)
def test_a_draw_keeps_whole_pictures(sizes: list[tuple[int, int]], rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    kept = draw(tuple(sizes), rate, CPU)
    start = taken = 0
    for (pictures, tokens), (count, length) in zip(sizes, kept.sizes, strict=True):
        assert length == tokens and count == max(1, int(pictures * (1 - rate)))
        rows = kept.rows[taken : taken + count * tokens].view(count, tokens) - start
        chosen = rows[:, 0] // tokens
        assert torch.equal(rows, chosen.unsqueeze(1) * tokens + torch.arange(tokens))
        assert len(set(chosen.tolist())) == count and int(chosen.min()) >= 0 and int(chosen.max()) < pictures
        torch.testing.assert_close(
            kept.scale[taken : taken + count * tokens], torch.full((count * tokens, 1), pictures / count)
        )
        start, taken = start + pictures * tokens, taken + count * tokens
    assert taken == len(kept.rows)


def test_every_picture_is_left_out_as_often() -> None:
    """The branch counts as much on average as without stochastic depth: each row is kept with its share, times the inverse share."""
    torch.manual_seed(0)
    total = torch.zeros(8, 1)
    for _ in range(2000):
        kept = draw(((8, 1),), 0.4, CPU)
        total.index_add_(0, kept.rows, kept.scale)
    assert (total / 2000 - 1).abs().max() < 0.1  # one standard error is .022


class Beside(nn.Module):
    """An adapter that adds a fixed projection of what it sees, and keeps it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)
        self.seen: list[tuple[Tensor, Sizes, list[Qkv]]] = []

    def forward(self, normed: Tensor, sizes: Sizes, qkv: list[Qkv]) -> Tensor:
        self.seen.append((normed.detach(), sizes, qkv))
        out: Tensor = self.projection(normed)
        return out


def test_adapters() -> None:
    vit = small().eval()
    before = [seen.cls for seen in vit.many(crops())]
    first, second = Beside(32), Beside(32)
    vit.blocks[1].beside_attention, vit.blocks[1].beside_mlp = first, second
    with torch.no_grad():
        first.projection.weight.zero_()
        second.projection.weight.zero_()
    for a, seen in zip(before, vit.many(crops()), strict=True):
        assert torch.equal(a, seen.cls)  # what adds nothing changes nothing
    (normed, sizes, qkv), (later, _, again) = first.seen[-1], second.seen[-1]
    assert sizes == ((5, 17), (7, 7)) and normed.shape == later.shape == (5 * 17 + 7 * 7, 32)
    assert [piece.queries.shape for piece in qkv] == [(5, 2, 17, 16), (7, 2, 7, 16)] and qkv is again
    torch.testing.assert_close(qkv[1].attention(1), vit.maps(crops()[1], [1], first=1)[0])
    nn.init.eye_(first.projection.weight)
    nn.init.eye_(second.projection.weight)
    block, x = vit.blocks[1], torch.randn(7, 32)
    mixed = x + block.ls1(block.attn(block.attn.split(block.attn.qkv(block.norm1(x)), ((1, 7),)))) + block.norm1(x)
    expected = mixed + block.ls2(block.mlp(block.norm2(mixed))) + block.norm2(mixed)
    torch.testing.assert_close(block(x, ((1, 7),))[0], expected)
    assert {name for name, _ in vit.named_parameters() if "beside" in name} == {
        f"blocks.1.beside_{place}.projection.weight" for place in ("attention", "mlp")
    }
    with pytest.raises(ValueError, match="adapters"):
        block(x, ((1, 7),), (draw(((1, 7),), 0.5, CPU),) * 2)


def gradients(vit: Vit) -> dict[str, Tensor]:
    torch.manual_seed(7)
    vit.zero_grad()
    torch.stack([seen.cls.square().sum() + seen.patches.sin().sum() for seen in vit.many(crops())]).sum().backward()
    return {name: parameter.grad for name, parameter in vit.named_parameters() if parameter.grad is not None}


def test_recomputed_blocks_leave_out_the_same_pictures() -> None:
    plainly, again = small(drop_path=0.5).train(), small(drop_path=0.5).train()
    runs = 0

    def recomputing(block: Block) -> Any:
        forward = block.forward

        def counted(*values: Any) -> Any:
            nonlocal runs
            runs += 1
            return forward(*values)

        return lambda *values: checkpoint(counted, *values, use_reentrant=False)

    for block in again.blocks:
        block.forward = recomputing(block)
    expected, found = gradients(plainly), gradients(again)
    assert runs == 6  # each of three blocks twice
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.filterwarnings("ignore")  # of the compiler's own doings
def test_a_block_is_one_graph() -> None:
    """With and without pictures left out. Traced and then run as it is: no compiler is needed, and breaks would raise."""
    torch.compiler.reset()
    block, sizes = small().blocks[1], ((5, 17), (7, 7))
    x, kept = torch.randn(134, 32), (draw(((5, 17), (7, 7)), 0.5, CPU), draw(((5, 17), (7, 7)), 0.5, CPU))
    expected = [block(x, sizes, some)[0] for some in (None, kept)]
    names = set(block.state_dict())
    block.compile(backend="eager", fullgraph=True)
    for some, value in zip((None, kept), expected, strict=True):
        torch.testing.assert_close(block(x, sizes, some)[0], value)
    assert set(block.state_dict()) == names


@pytest.mark.parametrize("layer_scale", [1.0, None])
def test_mixed_precision_keeps_the_residual_stream(layer_scale: float | None) -> None:
    vit = small(drop_path=0.5, layer_scale=layer_scale, registers=1).train()
    with torch.autocast("cpu", torch.bfloat16):
        x, sizes = vit._tokens(crops(), None)
        for kept in (None, (draw(sizes, 0.5, CPU), draw(sizes, 0.5, CPU))):
            after, qkv = vit.blocks[0](x, sizes, kept)
            assert x.dtype == after.dtype == torch.float32 and qkv[0].queries.dtype == torch.bfloat16
        found = gradients(vit)
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in found.values())
    vit.eval()
    with torch.no_grad():
        exact = vit(crops()[0]).cls
        with torch.autocast("cpu", torch.bfloat16):
            rounded = vit(crops()[0]).cls
    assert 0 < float((rounded - exact).abs().max()) < 0.15
    halved = small(layer_scale=layer_scale).to(torch.bfloat16)
    assert halved(crops()[0].bfloat16()).cls.dtype == torch.bfloat16  # parameters in half, as FSDP casts them


def test_qkv_of_half_precision_give_full_maps() -> None:
    vit = small().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rows = vit.maps(crops()[0], [-1])[0]
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), rtol=0, atol=1e-5)
