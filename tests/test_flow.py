"""Attention-map flow: equation by equation, its bounds, what it must not depend on, and how it aligns."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from foveate.attention.flow import agreement, colours, flows, grid, placement
from foveate.models.flow import AttentionFlow, Correspondence, Encoding, Frame, Resampling, aligned, excess, patch_map
from foveate.models.imgfocus import build_imgfocus
from foveate.models.vit import Qkv, Vit, VitConfig, load_vit, resized
from foveate.schema import FoveateError

CONFIG = VitConfig(image_size=32, patch=8, width=48, depth=3, heads=4, layer_scale=None)


def maps(count: int, n: int, seed: int, sharp: float = 3.0) -> Tensor:
    """f32[count, n, n], rows adding up to less than 1."""
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(count, n, n + 1, generator=generator)).softmax(-1)[..., 1:]


def literal(one: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """Equation (1) as it stands."""
    return ((one - other).abs() / temperature).softmax(-1).sum(-2)


def qkv(frames: int, n: int, seed: int, first: int = 1) -> tuple[Tensor, Qkv]:
    """Patch tokens f32[2 clips x frames, n, 48] and queries, keys of 4 heads."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2 * frames, n, 48, generator=generator)
    parts = [3 * torch.randn(2 * frames, 4, first + n, 12, generator=generator) for _ in range(3)]
    return tokens, Qkv(*parts)


@hypothesis.given(n=st.integers(3, 40), seed=st.integers(0, 1000), sharp=st.floats(0.1, 12), cold=st.sampled_from([1.0, 0.25]))
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_equation_its_sum_and_its_bounds(n: int, seed: int, sharp: float, cold: float) -> None:
    one, other = maps(2, n, seed, sharp).double()
    found = excess(one, other, cold)
    torch.testing.assert_close(found + 1, literal(one, other, cold), atol=1e-12, rtol=0)
    torch.testing.assert_close(found, excess(other, one, cold), atol=0, rtol=0)
    assert found.sum().abs() < 1e-10
    if cold == 1.0:  # rows of maps add up to 1 at most, so |difference| does to 2
        assert ((found + 1) * (1 + 1e-12) >= n / (n - 2 + 2 * math.e)).all()
        assert (found + 1 <= n * math.e / (n - 1 + math.e)).all()


def test_what_does_not_change_has_no_flow_to_the_last_bit() -> None:
    one = maps(5, 37, 0)
    assert not excess(one, one).any()
    single = excess(one, maps(5, 37, 1))
    double = literal(one.double(), maps(5, 37, 1).double()) - 1
    assert (single - double).abs().max() < 1e-6 * double.abs().max()  # the sum over softmaxes in float32 is right to 1e-4 of it
    naive = literal(one, maps(5, 37, 1)) - 1
    assert (naive - double).abs().max() > 3 * (single - double).abs().max()


def test_patches_in_another_order_have_their_flow_in_that_order() -> None:
    tokens, seen = qkv(3, 16, 0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    along = torch.cat((torch.zeros(1, dtype=torch.long), 1 + order))
    other = Qkv(*(part[:, :, along] for part in seen))
    for align in (None, Correspondence(48), Resampling(48)):
        flow = AttentionFlow(4, align)
        with torch.no_grad():
            torch.testing.assert_close(flow(tokens, seen, 3)[:, :, order], flow(tokens[:, order], other, 3), atol=1e-5, rtol=0)


def test_flow_in_parts_is_flow_of_whole_maps() -> None:
    tokens, seen = qkv(4, 9, 2, first=3)
    whole = seen.attention()[:, :, 3:, 3:].view(2, 4, 4, 9, 9)
    expected = literal(whole[:, :-1], whole[:, 1:]).transpose(-1, -2) - 1
    flow = AttentionFlow(4)
    with torch.no_grad():
        flow.gain.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        found = flow(tokens, seen, 4)
    torch.testing.assert_close(found[:, :-1], expected * flow.gain, atol=1e-5, rtol=0)
    assert torch.equal(found[:, -1], found[:, -2])
    assert not AttentionFlow(4, last="still")(tokens, seen, 4)[:, -1].any()
    assert not AttentionFlow(4)(tokens, seen, 1).any()  # every frame is a clip: nothing can have moved
    renormalised = seen.attention()[:, :, 3:, 3:]
    renormalised = (renormalised / renormalised.sum(-1, keepdim=True)).view(2, 4, 4, 9, 9)
    found = AttentionFlow(4, renormalise=True).raw(tokens, seen, 4)
    expected = literal(renormalised[:, :-1], renormalised[:, 1:]).transpose(-1, -2) - 1
    torch.testing.assert_close(found[:, :-1], expected, atol=1e-5, rtol=0)


def test_attention_made_again_is_that_of_the_backbone() -> None:
    torch.manual_seed(0)
    vit = Vit(CONFIG).eval()
    pictures = torch.randn(2, 3, 32, 32)
    seen = vit.watch(pictures, [1])[1][0]
    x, sizes = vit._tokens([pictures], None)
    x, _ = vit.blocks[0](x, sizes)
    attention = vit.blocks[1].attn
    queries, keys, values = attention.qkv(vit.blocks[1].norm1(x)).view(2, 17, 3, 4, 12).permute(2, 0, 3, 1, 4)
    explicit = (queries @ keys.transpose(-1, -2) / 12**0.5).softmax(-1)
    torch.testing.assert_close(patch_map(seen.queries[:, :, 1:], seen.keys), explicit[:, :, 1:, 1:], atol=1e-5, rtol=0)
    mixed = attention.proj((explicit @ values).transpose(1, 2).reshape(34, 48))
    torch.testing.assert_close(
        attention(attention.split(attention.qkv(vit.blocks[1].norm1(x)), sizes)), mixed, atol=1e-5, rtol=0
    )


def test_with_nothing_to_align_the_aligned_flow_is_the_static_one() -> None:
    one, other = maps(2, 12, 3), maps(2, 12, 4)
    same = torch.eye(12).expand(2, 12, 12)
    torch.testing.assert_close(aligned(other.unsqueeze(1), same), other.unsqueeze(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(excess(one, aligned(other.unsqueeze(1), same)[:, 0]), excess(one, other), atol=1e-6, rtol=0)


def test_the_true_correspondence_takes_a_shift_away() -> None:
    """A picture moved round by whole patches: with S the permutation flow is 0 everywhere; without, it is not."""
    one = maps(3, 16, 5).unsqueeze(0)
    where = torch.roll(torch.arange(16), 3)  # patch i goes to where[i]
    matching = torch.nn.functional.one_hot(where, 16).float().unsqueeze(0)
    other = torch.empty_like(one)
    other[..., where.unsqueeze(1), where.unsqueeze(0)] = one
    assert excess(one, other).abs().max() > 1e-2
    assert excess(one, aligned(other, matching)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [Correspondence, Resampling])
def test_features_that_moved_are_found_and_taken_away(kind: type[Correspondence] | type[Resampling]) -> None:
    """Tokens, queries and keys moved round together, as a pan over a world that repeats would: the aligner finds them at its beginning."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(6)
    tokens, queries = torch.randn(1, 16, 48, generator=generator), torch.randn(1, 4, 16, 12, generator=generator)
    keys = torch.randn(1, 4, 17, 12, generator=generator)
    order = torch.roll(torch.arange(16), 5)
    moved = torch.cat((keys[:, :, :1], keys[:, :, 1:][:, :, order]), 2)
    one, other = Frame(tokens, queries, keys), Frame(tokens[:, order], queries[:, :, order], moved)
    align = kind(48)
    with torch.no_grad():
        before, after = align(one, other, False)
        still = excess(before, patch_map(other.queries, other.keys)).abs().mean()
        assert excess(before, after).abs().mean() < 0.2 * still


def test_the_encoder_begins_as_the_static_formula_and_can_learn() -> None:
    torch.manual_seed(0)
    vit = Vit(CONFIG).eval()
    tokens, seen = qkv(2, 16, 7)
    align = Encoding(48, vit.blocks[0].attn)
    with torch.no_grad():
        torch.testing.assert_close(
            AttentionFlow(4, align)(tokens, seen, 2), AttentionFlow(4)(tokens, seen, 2), atol=1e-6, rtol=0
        )
    flow = AttentionFlow(4, align)
    (flow(tokens, seen, 2) ** 2).sum().backward()
    assert align.outward.weight.grad is not None and align.outward.weight.grad.abs().max() > 0
    assert "qkv" not in " ".join(name for name, _ in flow.named_parameters())  # the block's weights stay the block's


def test_gradients_reach_the_aligner_and_nothing_before_it() -> None:
    torch.manual_seed(0)
    tokens, seen = qkv(3, 9, 8)
    tokens.requires_grad_()
    seen.queries.requires_grad_()
    for align in (Correspondence(48), Resampling(48)):
        flow = AttentionFlow(4, align)
        (flow(tokens, seen, 3) ** 2).sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in flow.parameters())
        assert tokens.grad is None and seen.queries.grad is None
    open_flow = AttentionFlow(4, detach=False)
    (open_flow(tokens, seen, 3) ** 2).sum().backward()
    assert seen.queries.grad is not None and seen.queries.grad.abs().max() > 0


def test_made_again_for_the_gradient_it_has_the_gradient_of_what_was_kept() -> None:
    torch.manual_seed(0)
    tokens, seen = qkv(3, 9, 9)
    flow = AttentionFlow(4, Correspondence(48))
    (flow(tokens, seen, 3) ** 2).sum().backward()
    found = {name: p.grad.clone() for name, p in flow.named_parameters() if p.grad is not None}
    flow.zero_grad()
    frames = flow._frames(tokens, seen, 3)
    pairs = [flow._pair(*frames[k], *frames[k + 1]) for k in (0, 1)]
    kept = torch.stack([*pairs, pairs[-1]], 1).transpose(-1, -2) * flow.gain
    (kept**2).sum().backward()
    for name, p in flow.named_parameters():
        torch.testing.assert_close(p.grad, found[name], atol=1e-6, rtol=1e-5)


def test_the_gain_begins_at_one_over_the_spread() -> None:
    tokens, seen = qkv(4, 9, 10)
    flow = AttentionFlow(4)
    flow.measuring = True
    raw = flow(tokens, seen, 4).detach()
    again = flow(*qkv(4, 9, 11), 4).detach()  # the batch came in two parts
    flow.begin()
    both = torch.cat((raw, again)).flatten(0, 2).double()
    torch.testing.assert_close(flow.gain.double(), 1 / both.std(0, correction=0), atol=0, rtol=1e-5)
    assert not flow.measuring
    flow.measuring = True
    still = Qkv(*(part[:1].expand(8, -1, -1, -1) for part in seen))
    assert not flow(tokens, still, 4).any()
    flow.begin()
    assert torch.equal(flow.gain, torch.ones(4))


def test_shuffled_flow_keeps_its_values_and_loses_its_places() -> None:
    tokens, seen = qkv(3, 16, 12)
    right, wrong = AttentionFlow(4)(tokens, seen, 3), AttentionFlow(4, shuffled=True)(tokens, seen, 3)
    assert torch.equal(right.sort(2).values, wrong.sort(2).values)
    assert not torch.equal(right, wrong) and torch.equal(wrong, AttentionFlow(4, shuffled=True)(tokens, seen, 3))


def test_maps_with_fewer_rows_than_columns_are_told_in_the_same_unit() -> None:
    one, other = (maps(2, 12, seed)[:, :4].double() for seed in (13, 14))
    torch.testing.assert_close(excess(one, other), literal(one, other) * 3 - 1, atol=1e-12, rtol=0)


def test_pictures_of_flow_and_the_blocks_that_agree_with_motion() -> None:
    torch.manual_seed(0)
    vit = Vit(CONFIG).eval()
    with torch.no_grad():
        for block in vit.blocks:
            block.attn.qkv.weight.mul_(20)
    frame = torch.randn(1, 3, 32, 32)
    clip = frame.repeat(3, 1, 1, 1)
    clip[1, :, 8:16, 8:16], clip[2, :, 16:24, 16:24] = 5.0, 5.0
    found = flows(vit, clip)
    assert found.shape == (3, 2, 4, 16) and not vit.blocks[0].norm2._forward_hooks
    seen = vit.watch(clip, [0])[1][0]
    expected = AttentionFlow(4).raw(torch.zeros(3, 16, 48), seen, 3)[0, :-1].transpose(-1, -2)
    np.testing.assert_allclose(found[0], expected.detach().numpy(), atol=1e-7)
    assert flows(vit, clip, "correspondence").shape == found.shape
    with pytest.raises(FoveateError, match="one frame has no flow"):
        flows(vit, frame)

    drawn = colours(found[0])
    assert drawn.shape == (2, 16, 3) and drawn.min() == 0 and drawn.max() == 255
    sheet = grid(found, np.zeros((3, 20, 20, 3), np.uint8), 4, 4)
    assert sheet.shape == (80, 40, 3)

    motion = np.zeros((2, 16), np.float32)
    motion[0, :3] = 1.0
    planted = np.stack([motion[:, None] * sign for sign in (-1, 0.5, 1)])
    planted[1] += np.random.default_rng(0).normal(size=planted[1].shape) * 0.5
    agreed = agreement(planted, motion)
    assert agreed[0] == pytest.approx(-1) and agreed[2] == pytest.approx(1) and -1 < agreed[1] < 1
    assert placement(agreed, 2) == (1, 2) and placement(np.array([0.5, 0.1, 0.5, 0.5]), 2) == (2, 3)
    with pytest.raises(FoveateError, match="nothing moves"):
        agreement(planted, np.zeros((2, 16)))


def test_a_real_backbone_shows_what_moves_and_aligned_what_moves_by_itself(footage: Path) -> None:
    """A square moves over a still; then the still moves, too, by one patch a frame, and the square by parts of patches (what moves by whole
    ones is found again by the aligner, like the background). Mean over heads, area under the ROC curve."""
    vit = resized(load_vit(build_imgfocus()), 224)
    stills = [Image.open(path).convert("RGB") for path in sorted(footage.rglob("00000.jpg"))[-4:-2]]
    still, square = np.asarray(stills[0].resize((480, 284))), np.asarray(stills[1].resize((120, 120)))[30:86, 30:86]
    found = {}
    for pan in (0, 14):
        frames = np.stack([still[30:254, 10 + pan * t : 234 + pan * t] for t in range(3)])
        masks = np.zeros((3, 224, 224), bool)
        for t in range(3):
            x, y = 20 + 18 * t, 60 + 10 * (t % 2)
            frames[t, y : y + 56, x : x + 56] = square
            masks[t, y : y + 56, x : x + 56] = True
        share = masks.reshape(3, 16, 14, 16, 14).mean((2, 4)).reshape(3, 256)
        moved = np.maximum(share[1:], share[:-1]) >= 0.3
        clip = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225
        for align in (None, "correspondence"):
            flow = flows(vit, clip, align).mean(2)  # type: ignore[arg-type]
            found[pan, align] = np.mean([[roc_auc_score(moved[t], block[t]) for t in range(2)] for block in flow], axis=1)
    assert found[0, None].min() > 0.8 and found[0, None].mean() > 0.9
    assert found[14, "correspondence"][1:5].mean() > found[14, None][1:5].mean() + 0.05
