"""PreViTS: its attention loss beside the bases it is put on, the switches between paper and released code, and batches without masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foveate import losses_contrastive as losses
from foveate.data.pairs import Crops
from foveate.methods import keys
from foveate.methods.moco import Moco, MocoConfig
from foveate.methods.previts import Previts, PrevitsConfig, masked
from foveate.methods.rspnet import Rspnet, RspnetConfig
from tests.contrasted import CROPS, at, clips, net, state, trained, without_masks

# 64 px, so that the last map has 2 x 2 places: a map of one place has nowhere to look.
SEEN = replace(CROPS, size=64)
TINY = MocoConfig(crops=SEEN, hidden=0, dimension=8, queue=24, groups=2, temperature=0.07)
SPEEDS = RspnetConfig(crops=replace(SEEN, size=48), dimension=8, queue=24, groups=2, reference=4)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(config: PrevitsConfig) -> Previts:
    return Previts(net("resnet18" if isinstance(config.base, MocoConfig) else "r2plus1d_18"), config)


def frames(config: PrevitsConfig) -> int:
    return 1 if isinstance(config.base, MocoConfig) else 8


BASES = [pytest.param(TINY, id="moco"), pytest.param(SPEEDS, id="rspnet")]


@pytest.mark.parametrize("base", BASES)
def test_the_loss_is_its_formula(base: Any) -> None:
    """lambda x (1 - cos) over the samples with masks, of Grad-CAM written out on the base's own map; the base's loss is untouched."""
    config = PrevitsConfig(base, attention=2.5, shrink="mean")
    method, batch = made(config), clips(frames=frames(config), masks="odd")
    pair = method.base.pair(batch, at())
    contrast = method.base.contrast(pair, at())
    key = method.base.foreground(masked(pair.key.pictures, pair.key.mask), at())
    score = torch.linalg.vecdot(contrast.query, key) / base.temperature
    gradient = torch.autograd.grad(score.sum(), contrast.map, retain_graph=True)[0]
    cam = functional.relu((contrast.map * gradient.mean((-2, -1), keepdim=True)).sum(1)).flatten(1)
    cam = cam - cam.amin(1, keepdim=True)
    cam = cam / (cam.amax(1, keepdim=True) + 1e-7)
    small = functional.adaptive_avg_pool2d(pair.query.mask[:, None], contrast.map.shape[-2:])
    small = small.expand(-1, contrast.map.shape[2] if contrast.map.dim() == 5 else 1, -1, -1).flatten(1)
    rows = [k for k in range(1, 8, 2) if float(small[k].max() - small[k].min()) > 1e-6]
    assert rows
    expected = (1 - functional.cosine_similarity(cam, small))[rows].mean().detach()
    torch.manual_seed(0)
    loss, told = method.step(batch, at())
    assert float(told["attention"]) == pytest.approx(float(expected), abs=1e-4)
    assert float(told["attended"]) == len(rows) / 8
    assert float(loss.detach()) == pytest.approx(float(contrast.loss.detach()) + 2.5 * float(expected), abs=1e-3)


@pytest.mark.parametrize("base", BASES)
def test_lambda_zero_is_sampling_alone(base: Any) -> None:
    """Bit for bit: weights, queue and moving statistics after some steps."""
    kind = Moco if isinstance(base, MocoConfig) else Rspnet
    alone = kind(net("resnet18" if kind is Moco else "r2plus1d_18"), base)
    beside = made(PrevitsConfig(base, attention=0.0))
    count = frames(PrevitsConfig(base))
    assert trained(alone, 2, batch=4, frames=count) == trained(beside, 2, batch=4, frames=count)
    found = state(beside)
    assert all(torch.equal(found[f"base.{name}"], value) for name, value in state(alone).items())


@pytest.mark.parametrize("masks", ["none", "full"])
def test_without_anything_to_look_at_the_loss_is_the_bases(masks: str) -> None:
    """No mask, or masks of everything: a finite loss, that of the base, and gradients without NaN."""
    method = made(PrevitsConfig(TINY, shrink="mean"))
    batch = clips(masks=masks)
    loss, told = method.step(batch, at())
    assert float(told["attention"]) == 0 and float(told["attended"]) == 0
    loss.backward()
    ours = [p.grad.clone() for p in method.parameters() if p.grad is not None]
    base = Moco(net(), TINY)
    expected, _ = base.step(batch, at())
    expected.backward()
    assert float(loss.detach()) == float(expected.detach())
    for found, wanted in zip(ours, [p.grad for p in base.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(found, wanted)
    assert torch.isfinite(made(PrevitsConfig(TINY, shrink="mean")).step(without_masks(batch), at())[0])


def test_samples_without_masks_take_no_part() -> None:
    """What they look like changes nothing in the attention loss but through the batch they are normalised with."""
    method = made(PrevitsConfig(TINY, shrink="mean"))
    told = trained(method, 2, masks="odd")
    assert all(0 < one["attended"] <= 0.5 and one["constrained"] == 0.5 for one in told)
    assert all(torch.isfinite(value).all() for value in state(method).values())


def test_only_the_query_side_learns_to_look() -> None:
    """The attention loss has a gradient in the query's convolutions, and none in the momentum encoder."""
    method, batch = made(PrevitsConfig(TINY, shrink="mean")), clips()
    pair = method.base.pair(batch, at())
    contrast = method.base.contrast(pair, at())
    attention, _ = method._attention(pair, contrast, at())
    attention.backward()
    first = method.base.encoder.net.body.conv1.weight.grad  # type: ignore[union-attr]
    assert isinstance(first, Tensor) and float(first.abs().max()) > 0
    assert all(p.grad is None for p in method.base.key_encoder.parameters())


@pytest.mark.slow
def test_looking_can_be_learned() -> None:
    """The attention loss alone falls when it is followed."""
    method, batch = made(PrevitsConfig(TINY, shrink="mean")), clips()
    optimiser = torch.optim.Adam(method.base.encoder.parameters(), lr=3e-3)
    seen = []
    for _ in range(12):
        pair = method.base.pair(batch, at())
        loss, _ = method._attention(pair, method.base.contrast(pair, at()), at())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert min(seen[-3:]) < 0.7 * seen[0]


def test_a_foreground_of_everything_is_the_key() -> None:
    method, batch = made(PrevitsConfig(TINY, shrink="mean")), clips(masks="full")
    pair = method.base.pair(batch, at())
    assert torch.equal(masked(pair.key.pictures, torch.ones_like(pair.key.mask)), pair.key.pictures)
    method.base.key_encoder.eval()
    key = keys.encoded(method.base.key_encoder, pair.key.pictures, at(), "key", False)[0]
    torch.testing.assert_close(method.base.foreground(pair.key.pictures, at()), key)
    dark = masked(torch.ones(2, 3, 4, 6, 6), torch.zeros(2, 6, 6).index_fill(1, torch.tensor([2]), 1.0))
    assert float(dark.sum()) == 2 * 3 * 4 * 6 and float(dark[:, :, :, 2].min()) == 1


def test_the_momentum_encoder_moves_twice_where_released() -> None:
    """Between key and foreground key, with the same query encoder: m squared a step."""
    once, twice = (made(PrevitsConfig(replace(TINY, momentum=0.5), twice=which)) for which in (False, True))
    for method in (once, twice):
        with torch.no_grad():
            for param in method.base.encoder.parameters():
                param.add_(1.0)
        before = [p.clone() for p in method.base.key_encoder.parameters()]
        method.step(clips(), at())
        moved = [float((p - old).mean()) for p, old in zip(method.base.key_encoder.parameters(), before, strict=True)]
        assert max(moved) == pytest.approx(0.5 if method is twice else 0.0, abs=1e-5)


def test_presets_set_every_disagreement() -> None:
    paper, release = PrevitsConfig.paper(MocoConfig()), PrevitsConfig.release(MocoConfig())
    assert (paper.base.crops.cover, release.base.crops.cover) == (0.3, 0.2)
    assert (paper.rectify, release.rectify) == ("first", "after") and (paper.twice, release.twice) == (False, True)
    assert (paper.base.queue, release.base.queue) == (65_535, 65_536)
    assert (
        PrevitsConfig.release(RspnetConfig()).base.queue == 16_384 and PrevitsConfig.paper(RspnetConfig()).base.queue == 65_535
    )
    assert (paper.base.crops.blur > 0, release.base.crops.blur) == (True, 0) and release.base.crops.jitter == 1
    for config in (paper, release):
        assert config.attention == 3 and config.base.temperature == 0.07 and config.base.hidden == 0 and config.weigh == "cell"
        assert config.base.crops.flip == 0 and config.base.crops.size == config.size == 224 and config.wants_masks
    small = RspnetConfig(crops=Crops(size=112), groups=2, speed=4)
    assert PrevitsConfig.paper(small).base == replace(
        PrevitsConfig.paper(RspnetConfig()).base, crops=replace(paper.base.crops, size=112), groups=2, speed=4
    )


@pytest.mark.parametrize("rectify", ["first", "after"])
def test_switches_of_rectification_differ(rectify: losses.Rectify) -> None:
    found = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    score = (found * torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(1))).flatten(1).sum(1)
    cam = losses.grad_cam(found, score, rectify)
    assert ((cam == 0).flatten(1).sum(1) == 1).all() == (rectify == "after")
