"""AM Flow's adapters in a frozen backbone: what they begin as, what they count, what learns and when."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from foveate.data.clips import Clips
from foveate.methods.amflow import AmFlow, AmFlowConfig, clip_loss, parameters, place
from foveate.methods.moment import Moment
from foveate.models.adapters import Adapter, OverAttention, TemporalAdapter
from foveate.models.vit import Vit, VitConfig, sized
from foveate.schema import FoveateError

VIT = VitConfig(image_size=32, patch=8, width=48, depth=3, heads=4, layer_scale=0.3)
SMALL = AmFlowConfig(classes=3, frames=4, size=32, inner=16, dropout=0.0)
EVERY = [
    SMALL,
    replace(SMALL, camera="static"),
    replace(SMALL, align="resample", over="convolution"),
    replace(SMALL, align="encoder", over="lstm", use="concat"),
    replace(SMALL, placement="ends", adapters="parallel", pool="both"),
    replace(SMALL, adapters="serial", first=1, pool="window"),
    replace(SMALL, use="none"),
    replace(SMALL, adapters="st"),
    replace(SMALL, adapters="aim", frames=1),
    replace(SMALL, frames=1),
]


def vit(seed: int = 0, **changes: int) -> Vit:
    """A backbone whose weights are all drawn, LayerScale too."""
    torch.manual_seed(seed)
    made = Vit(replace(VIT, **changes)).eval()
    with torch.no_grad():
        for block in made.blocks:
            block.ls1.gamma.uniform_(0.1, 0.5)
            block.ls2.gamma.uniform_(0.1, 0.5)
            block.attn.qkv.weight.mul_(20)
    return made


def batch(frames: int = 4, count: int = 4, classes: int = 3, seed: int = 0) -> Clips:
    generator = torch.Generator().manual_seed(seed)
    return Clips(
        frames=torch.randint(0, 256, (count, 1, frames, 3, 40, 40), dtype=torch.uint8, generator=generator),
        valid=torch.tensor([[0.0, 0, 1, 1]]).repeat(count, 1),
        time=torch.zeros(count, 1, frames, dtype=torch.float64),
        where=torch.full((count, 1, frames, 4), -1, dtype=torch.int32),
        index=torch.arange(count),
        labels=torch.randint(0, 2, (count, classes), generator=generator).float(),
    )


def at(step: int) -> Moment:
    return Moment(step, 10, 5, 0, 4)


@pytest.mark.parametrize("config", EVERY, ids=range(len(EVERY)))
def test_it_begins_as_the_frozen_backbone_bit_for_bit(config: AmFlowConfig) -> None:
    torch.manual_seed(1)
    pictures = torch.randn(2 * config.frames, 3, 32, 32)
    plain = vit()(pictures)
    method = AmFlow(vit(), config)
    seen = method.vit(pictures)
    assert torch.equal(seen.cls, plain.cls) and torch.equal(seen.patches, plain.patches)
    tokens = method.stored(pictures)
    parts = method.vit.onward(tokens, config.first)
    assert torch.equal(parts.cls, plain.cls)
    logits = method(pictures.view(2, config.frames, 3, 32, 32))
    assert logits.shape == (2, 3) and logits.requires_grad


def test_what_learns_and_when() -> None:
    method = AmFlow(vit(), replace(SMALL, jitter=0.5))
    optimiser = torch.optim.SGD([p for g in method.param_groups() for p in g.params], lr=1.0)
    assert {p for g in method.param_groups() for p in g.params} == {p for p in method.parameters() if p.requires_grad}
    grown: dict[str, int] = {}
    for step in range(3):
        loss, _ = method.step(batch(), at(step))
        loss.backward()
        for name, value in method.named_parameters():
            if value.grad is not None and value.grad.abs().max() > 0:
                grown.setdefault(name, step)
        optimiser.step()
        optimiser.zero_grad(set_to_none=False)
        method.after_step(at(step))
    assert all("adapt" in name or ".beside_" in name or name.startswith("head.") for name in grown)
    when = {
        step: {name.split(".", 4)[-1] for name, first in grown.items() if first == step and "blocks.1." in name}
        for step in (0, 1, 2)
    }
    # Gain and aligner act through W_F, which is zero until the second step; the rest through W_up, which is zero in the first.
    assert when[0] == {"up.weight", "up.bias"}
    assert {"down.weight", "scale", "mixing.weight", "over.qkv.weight", "over.position"} <= when[1]
    assert when[2] == {"flow.gain", "flow.align.matching.query.weight", "flow.align.matching.key.weight"}
    assert {name for name, value in method.named_parameters() if value.requires_grad} == set(grown)


def test_the_gain_begins_with_the_first_batch_however_it_is_cut() -> None:
    whole, parts = AmFlow(vit(), SMALL), AmFlow(vit(), SMALL)
    whole.step(batch(), at(0))
    whole.after_step(at(0))
    for piece in (batch().part(0, 2), batch().part(2, 4)):
        parts.step(piece, at(0))
    parts.after_step(at(0))
    for one, other in zip(whole.flows(), parts.flows(), strict=True):
        assert (one.gain != 1).all()
        torch.testing.assert_close(one.gain, other.gain)


def test_a_scale_of_zero_is_the_frozen_model_and_scales_cancel() -> None:
    torch.manual_seed(2)
    pictures = torch.randn(4, 3, 32, 32)
    plain, method = vit()(pictures), AmFlow(vit(), SMALL)
    adapters = [module for module in method.vit.modules() if isinstance(module, Adapter)]
    with torch.no_grad():
        for adapter in adapters:
            adapter.up.weight.normal_(std=0.1)
        changed = method.vit(pictures).cls
        for adapter in adapters:
            adapter.up.weight.mul_(4.0)
            adapter.scale.div_(4.0)
        torch.testing.assert_close(method.vit(pictures).cls, changed)
        for adapter in adapters:
            adapter.scale.zero_()
        assert not torch.allclose(changed, plain.cls) and torch.equal(method.vit(pictures).cls, plain.cls)


def test_serial_parallel_and_scaled_by_hand() -> None:
    torch.manual_seed(3)
    pictures = torch.randn(1, 3, 32, 32)
    for style in ("serial", "parallel", "scaled"):
        model = vit(depth=1)
        place(model, AmFlowConfig(classes=2, frames=1, size=32, inner=8, adapters=style, placement="none"))
        block = model.blocks[0]
        one, two = (block.after_attention, block.after_mlp) if style == "serial" else (block.beside_attention, block.beside_mlp)
        assert isinstance(one, Adapter) and isinstance(two, Adapter)
        with torch.no_grad():
            for module in (one, two):
                module.up.weight.normal_()
                if module.scale is not None:
                    module.scale.fill_(0.7)
            scale = 0.7 if style == "scaled" else 1.0

            def added(adapter: Adapter, x: Tensor, scale: float = scale) -> Tensor:
                return scale * (adapter.up.weight @ (adapter.down(x).relu().unsqueeze(-1))).squeeze(-1)

            x = model._tokens([pictures], None)[0]
            normed = block.norm1(x)
            y = block.ls1(block.attn(block.attn.split(block.attn.qkv(normed), ((1, 17),))))
            x = x + y + added(one, y if style == "serial" else normed)
            normed = block.norm2(x)
            y = block.ls2(block.mlp(normed))
            x = x + y + added(two, y if style == "serial" else normed)
            torch.testing.assert_close(model(pictures).cls, model.norm(x)[:1], atol=1e-5, rtol=1e-5)


def test_a_still_clip_is_one_without_flow_and_order_matters() -> None:
    torch.manual_seed(4)
    # Flow in the last block alone: temporal positions of earlier ones would make frames differ.
    config = replace(SMALL, placement=(2,), camera="static")
    with_flow, without = AmFlow(vit(), config).eval(), AmFlow(vit(), replace(config, use="none")).eval()
    with torch.no_grad():
        for value in with_flow.trained().values():
            value.copy_(torch.randn(value.shape) * 0.1)
        with_flow.flows()[0].gain.fill_(100.0)
        theirs = dict(with_flow.named_parameters())
        for name, value in without.named_parameters():
            value.copy_(theirs[name])
        still = torch.randn(2, 1, 3, 32, 32).expand(-1, 4, -1, -1, -1)
        torch.testing.assert_close(with_flow(still), without(still), atol=1e-6, rtol=0)
        moving = torch.randn(2, 4, 3, 32, 32)
        assert (with_flow(moving) - without(moving)).abs().max() > 1e-4
        assert not torch.allclose(with_flow(moving), with_flow(moving.flip(1)))
        without.vit.blocks[2].beside_mlp.over.position.zero_()
        torch.testing.assert_close(without(moving), without(moving.flip(1)))  # attention over a set


def test_one_frame_is_a_plain_adapter_once_the_temporal_module_is_silent() -> None:
    torch.manual_seed(5)
    adapter = TemporalAdapter(48, 16, 1, "attention")
    plain = Adapter(48, 16)
    with torch.no_grad():
        adapter.up.weight.normal_()
        plain.load_state_dict({name: value for name, value in adapter.state_dict().items() if "over" not in name})
    x = torch.randn(34, 48)
    model = vit()
    qkv = model.watch(torch.randn(2, 3, 32, 32), [0])[1]
    sizes = ((2, 17),)
    assert not torch.equal(adapter(x, sizes, qkv), plain(x))
    adapter.over.forward = torch.zeros_like  # type: ignore[method-assign]
    assert torch.equal(adapter(x, sizes, qkv), plain(x))


def test_weights_are_counted_as_published() -> None:
    """Section 2.5 of the derivation: ViT-B, r 192; no forward is run."""
    d, r, a, heads, frames, depth = 768, 192, 64, 12, 16, 12
    adapter = 2 * d * r + r + d + 1
    over = 8 * r * r + 11 * r + frames * r
    assert adapter == 295_873 and parameters(list(Adapter(d, r).parameters())) == adapter
    assert parameters(list(OverAttention(r, frames).parameters())) == over

    def counted(**changes: object) -> int:
        with torch.device("meta"):
            model = Vit(sized("base", image_size=224, patch=14))
            place(model.requires_grad_(False), replace(AmFlowConfig(400, frames=frames, inner=r), **changes))  # type: ignore[arg-type]
        return parameters([value for value in model.parameters() if value.requires_grad])

    flow = heads * r + heads
    full = depth * (2 * adapter + over + flow + 2 * d * a)
    assert counted() == full and round(full / 1e6, 1) == 11.9
    assert counted(camera="static") == full - depth * 2 * d * a
    assert (
        counted(placement="ends") == depth * 2 * adapter + 2 * (over + flow + 2 * d * a)
        and counted(placement="ends") // 10**5 == 79
    )
    assert counted(placement="none") == depth * 2 * adapter
    assert counted(adapters="aim") == depth * (3 * (adapter - 1) + frames * d)  # scales are not learned
    assert round((counted(adapters="aim") - depth * frames * d) / 1e6, 2) == 10.65
    assert counted(adapters="st") == depth * (2 * d * r + 5 * r + d)
    assert counted(adapters="none") == 0


def test_flow_is_only_where_it_is_placed() -> None:
    method = AmFlow(vit(), replace(SMALL, placement="ends"))
    where = {name.split(".")[2] for name, _ in method.named_parameters() if ".over." in name}
    assert where == {"0", "2"}
    assert AmFlowConfig(2, first=8, placement="ends").temporal_blocks(12) == (8, 11)
    assert AmFlowConfig(2, placement="middle").temporal_blocks(12) == (0, 6, 11)
    assert AmFlowConfig(2, placement=(5, 3, 3)).temporal_blocks(12) == (3, 5)
    with pytest.raises(FoveateError, match="block 2 cannot have"):
        AmFlow(vit(), replace(SMALL, first=1, placement=(2, 2, 1), size=32)).config.temporal_blocks(2)


def test_two_phases() -> None:
    first = AmFlow(vit(), replace(SMALL, placement="ends"))
    with torch.no_grad():
        for value in first.trained().values():
            value.normal_()
    second = AmFlow(vit(), SMALL)
    fresh = {name: value.clone() for name, value in second.trained().items()}
    second.begin_from(first)
    theirs = first.trained()
    for name, value in second.trained().items():
        assert torch.equal(value, theirs[name] if name in theirs else fresh[name])
    assert set(fresh) - set(theirs) and not set(theirs) - set(fresh)
    with pytest.raises(FoveateError, match="differ in more"):
        second.begin_from(AmFlow(vit(), replace(SMALL, inner=8)))


def test_mirrored_clips_have_mirrored_labels() -> None:
    config = replace(SMALL, mirror=(1, 0, -1), flip=1.0, area=(1.0, 1.0))
    method = AmFlow(vit(), config).eval()
    clips = batch()
    pictures, flipped = method.views(clips, at(0))
    plain, _ = AmFlow(vit(), replace(config, flip=0.0)).views(clips, at(0))
    assert flipped.all() and (pictures.flip(-1) - plain).abs().max() < 0.03  # a step of 1/255
    mirrored = method.mirrored(torch.tensor([[1.0, 0.0, 1.0]]))
    assert mirrored[0, :2].tolist() == [0.0, 1.0] and mirrored[0, 2].isnan()
    expected = clip_loss(method(pictures), method.mirrored(clips.labels), False)[0]
    torch.testing.assert_close(method.step(clips, at(1))[0], expected)


def test_frames_of_a_clip_are_changed_alike_and_clips_are_not() -> None:
    method = AmFlow(vit(), SMALL)
    clips = batch()
    frames = clips.frames[:, :, :1].expand(-1, -1, 4, -1, -1, -1)
    pictures, _ = method.views(replace(clips, frames=frames[:1].expand(4, -1, -1, -1, -1, -1)), at(0))
    assert torch.equal(pictures[:, 0], pictures[:, 3])
    assert len({tuple(one.flatten()[:50].tolist()) for one in pictures[:, 0]}) == 4


def test_the_loss_leaves_out_what_nobody_looked_at() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    known = torch.stack(
        [torch.sigmoid(logits[0, 0]).log(), torch.sigmoid(-logits[1, 0]).log(), torch.sigmoid(logits[1, 1]).log()]
    )
    loss, right = clip_loss(logits, labels, False)
    torch.testing.assert_close(loss, -known.mean())
    torch.testing.assert_close(right, torch.tensor(2 / 3))
    assert torch.isfinite(clip_loss(logits, torch.full((2, 2), math.nan), False)[0])
    one_hot = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    loss, right = clip_loss(logits, one_hot, True, 0.1)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.tensor([1, 1]), label_smoothing=0.1))
    assert right == 0.5


def test_stored_tokens_learn_as_pictures_do() -> None:
    config = replace(SMALL, first=2, area=(1.0, 1.0), flip=0.0)
    clips = batch()
    pictures, _ = AmFlow(vit(), config).views(clips, at(0))
    whole, stored = AmFlow(vit(), config), AmFlow(vit(), config)
    tokens = stored.stored(pictures.flatten(0, 1)).view(4, 1, 4, 17, 48)
    kept = replace(clips, frames=clips.frames[..., :0, :0], tokens=tokens)
    for method, seen in ((whole, clips), (stored, kept)):
        method.step(seen, at(0))[0].backward()
    for one, other in zip(whole.trained().values(), stored.trained().values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"size": 30}, "cannot be cut"), ({"first": 4}, "the backbone has 3"), ({"placement": (3,)}, "block 3 cannot have")],
)
def test_what_does_not_fit_the_backbone_is_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(FoveateError, match=problem):
        AmFlow(vit(), replace(SMALL, **change))  # type: ignore[arg-type]


def test_clips_without_labels_or_of_another_length_are_refused() -> None:
    method = AmFlow(vit(), SMALL)
    with pytest.raises(FoveateError, match="no labels"):
        method.step(replace(batch(), labels=None), at(0))
    for frames in (3, 5, 1):
        with pytest.raises(FoveateError, match=f"clips of {frames} frames"):
            method.step(batch(frames), at(0))


def test_settings_that_mean_nothing_are_refused() -> None:
    for change in ({"frames": 0}, {"temperature": 0.0}, {"mirror": (0,)}, {"inner": 6}):
        with pytest.raises(ValueError, match=r"must|at least|names"):
            replace(SMALL, **change)  # type: ignore[arg-type]
