"""Losses of contrast: numbers of the released code, and what the formulas promise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from foveate.losses_contrastive import grad_cam, info_nce, looked, margin, mean_over, positives, small_mask, telling

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "contrast.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def unit(seed: int, *shape: int) -> Tensor:
    return functional.normalize(normal(seed, *shape), dim=1)


def test_info_nce_golden() -> None:
    """Four steps of MoCo's own code, its queue wrapping around at the fourth."""
    queue = unit(9, 12, 6)
    for step, golden in enumerate(GOLDEN["moco"]["losses"]):
        query, key = unit(20 + step, 4, 6), unit(40 + step, 4, 6)
        assert float(info_nce(query, key, queue, 0.07)) == pytest.approx(golden, rel=1e-5)
        first = 4 * step % 12
        queue[first : first + 4] = key
    torch.testing.assert_close(queue.flatten()[:24], torch.tensor(GOLDEN["moco"]["queue"]))


def test_info_nce_at_its_limits() -> None:
    query, key = unit(0, 5, 8).requires_grad_(), unit(1, 5, 8)
    alone = info_nce(query, key, torch.empty(0, 8), 0.1)
    assert float(alone.detach()) == 0
    alone.backward()
    assert torch.equal(query.grad, torch.zeros(5, 8))  # type: ignore[arg-type]
    same = unit(2, 1, 8)
    for count in (1, 7, 4096):
        found = info_nce(same.expand(3, -1), same.expand(3, -1), same.expand(count, -1), 0.2)
        assert float(found) == pytest.approx(math.log(count + 1), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.floats(0.05, 1.0), st.integers(0, 99))
def test_info_nce_is_cross_entropy(batch: int, length: int, temperature: float, seed: int) -> None:
    query, key, queue = unit(seed, batch, 8), unit(seed + 100, batch, 8), unit(seed + 200, length, 8)
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / temperature
    expected = functional.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
    assert float(info_nce(query, key, queue, temperature)) == pytest.approx(float(expected), abs=1e-5)
    hidden = torch.from_numpy(np.random.default_rng(seed).random((batch, length)) < 0.5)
    logits[:, 1:][hidden] = -torch.inf
    expected = functional.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
    assert float(info_nce(query, key, queue, temperature, hidden)) == pytest.approx(float(expected), abs=1e-5)


def test_info_nce_in_half_precision_is_that_of_its_inputs() -> None:
    query, key, queue = unit(0, 4, 16), unit(1, 4, 16), unit(2, 50, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(query, key, queue, 0.07)
    assert float(found) == float(info_nce(query, key, queue, 0.07))


def test_margin() -> None:
    """Nothing where the better is ahead by two logits, two where both are alike."""
    query, near, far = unit(0, 1, 4), unit(0, 1, 4), unit(1, 1, 4)
    like = positives(query, near, 0.07)
    assert float(margin(like, like)) == 2
    assert float(margin(like, like - 2)) == 0 and float(margin(like, like - 5)) == 0
    assert float(margin(like - 1, like)) == 3
    assert float(margin(like, positives(query, far, 0.07))) == max(0.0, 2 - float(like - positives(query, far, 0.07)))


# --- Grad-CAM --------------------------------------------------------------------------------------------------------------------


def by_hand(found: Tensor, gradient: Tensor, rectify: str, weigh: str) -> Tensor:
    """As the publications write it, place by place."""
    out = []
    for sample, grad in zip(found, gradient, strict=True):
        if sample.dim() == 4 and weigh == "cell":
            cells = [sum(float(grad[c, t].mean()) * sample[c, t] for c in range(len(sample))) for t in range(sample.shape[1])]
            cam = torch.stack(cells)  # type: ignore[arg-type]
        else:
            cam = sum(float(grad[c].mean()) * sample[c] for c in range(len(sample)))  # type: ignore[assignment]
        if rectify == "first":
            cam = functional.relu(cam)
        cam = cam - cam.min()
        out.append(cam / (cam.max() + 1e-7))
    return torch.stack(out)


@pytest.mark.parametrize("rectify", ["first", "after"])
@pytest.mark.parametrize("weigh", ["cell", "clip"])
@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (3, 6, 2, 4, 5)])
def test_grad_cam_by_its_formula(rectify: Any, weigh: Any, shape: tuple[int, ...]) -> None:
    found, reader = normal(0, *shape).requires_grad_(), normal(1, *shape[1:])
    score = (found * reader).flatten(1).sum(1)
    cam = grad_cam(found, score, rectify, weigh)
    gradient = torch.autograd.grad(score.sum(), found)[0]
    torch.testing.assert_close(cam.detach(), by_hand(found.detach(), gradient, rectify, weigh), atol=1e-5, rtol=1e-5)
    cam = cam.detach()
    assert float(cam.min()) == 0 and 0.999 < float(cam.flatten(1).amax(1).min()) <= 1


def test_grad_cam_of_clips_knows_time_only_per_cell() -> None:
    """A score that reads one moment: weights per moment leave the others dark, weights of the whole clip do not."""
    found = normal(0, 1, 5, 3, 4, 4).abs().requires_grad_()
    score = found[:, :, 1].sum((1, 2, 3))
    assert float(grad_cam(found, score, weigh="cell")[0, 0].detach().max()) == 0
    assert float(grad_cam(found, score, weigh="clip")[0, 0].detach().max()) > 0.1


def test_grad_cam_finds_the_cell_that_is_read() -> None:
    """A convolution of 1 x 1 whose score reads one place: of what the picture has there, the map has most."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 1)
    with torch.no_grad():
        layer.weight.abs_()
        layer.bias.fill_(0.1)
    picture = torch.zeros(1, 3, 7, 7)
    picture[0, :, 2, 5] = 1.0
    found = layer(picture)
    cam = grad_cam(found, found[:, 3, 2, 5])[0].detach()
    assert int(cam.argmax()) == 2 * 7 + 5 and float(cam.sum()) == pytest.approx(1, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1000), st.integers(0, 99))
def test_grad_cam_does_not_change_with_the_scale_of_the_score(scale: float, seed: int) -> None:
    found, reader = normal(seed, 2, 6, 4, 4).requires_grad_(), normal(seed + 1, 6, 4, 4)
    score = (found * reader).flatten(1).sum(1)
    cam = grad_cam(found, score).detach()
    torch.testing.assert_close(grad_cam(found, scale * score).detach(), cam, atol=2e-4, rtol=1e-3)
    assert float(cam.min()) >= 0 and float(cam.max()) <= 1


def test_attention_loss_of_maps_alike_and_apart() -> None:
    mask = torch.zeros(1, 28, 28)
    mask[:, :14] = 1
    cam = small_mask(mask, (7, 7))
    assert float(looked(0.3 * cam, mask)) == pytest.approx(0, abs=1e-6)
    assert float(looked(1 - cam, mask)) > 0.8
    for seed in range(20):
        assert 0 <= float(looked(normal(seed, 1, 7, 7).abs(), mask)) <= 1
    clips = cam.unsqueeze(1).expand(-1, 2, -1, -1)
    assert float(looked(clips, mask)) == pytest.approx(0, abs=1e-6)


def test_attention_loss_has_a_second_derivative() -> None:
    """Its gradient in the weights of a convolution, against differences, in double precision."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 6, 3, padding=1).double()
    picture, key = torch.randn(2, 3, 7, 7).double(), functional.normalize(torch.randn(2, 6), dim=1).double()
    mask = torch.zeros(2, 7, 7)
    mask[0, 1:4, 2:5], mask[1, 3:, :4] = 1, 1

    def loss() -> Tensor:
        found = functional.softplus(layer(picture))
        query = functional.normalize(found.mean((2, 3)), dim=1)
        score = torch.linalg.vecdot(query, key) / 0.07
        gradient = torch.autograd.grad(score.sum(), found, create_graph=True)[0]
        cam = functional.relu((found * gradient.mean((2, 3), keepdim=True)).sum(1)).flatten(1)
        cam = cam - cam.amin(1, keepdim=True)
        cam = (cam / (cam.amax(1, keepdim=True) + 1e-7)).view(2, 7, 7)
        return (1 - functional.cosine_similarity(cam.flatten(1), mask.double().flatten(1))).mean()

    exact = torch.autograd.grad(loss(), layer.weight)[0]
    assert float(exact.norm()) > 1e-3
    step = 1e-6
    for place in ((0, 0, 0, 0), (3, 1, 2, 1), (5, 2, 1, 1)):
        with torch.no_grad():
            layer.weight[place] += step
        high = float(loss().detach())
        with torch.no_grad():
            layer.weight[place] -= 2 * step
        low = float(loss().detach())
        with torch.no_grad():
            layer.weight[place] += step
        assert float(exact[place]) == pytest.approx((high - low) / (2 * step), rel=1e-4, abs=1e-7)
    # The package's own, in single precision, has the same gradient.
    own = layer.float()
    picture, key = picture.float(), key.float()
    found = functional.softplus(own(picture))
    cam = grad_cam(found, torch.linalg.vecdot(functional.normalize(found.mean((2, 3)), dim=1), key) / 0.07)
    gradient = torch.autograd.grad(looked(cam, mask).mean(), own.weight)[0]
    torch.testing.assert_close(gradient, exact.float(), atol=2e-4, rtol=2e-3)


def test_masks_that_say_nothing() -> None:
    masks = torch.zeros(4, 28, 28)
    masks[1] = 1
    masks[2, :14] = 1
    masks[3, 3, 3] = 1  # too small to be anything at 7 x 7 with corners aligned
    assert telling(masks, (7, 7)).tolist() == [False, False, True, False]
    assert telling(masks, (7, 7), "mean").tolist() == [False, False, True, True]
    assert small_mask(masks, (7, 7), "mean")[3].sum().item() == pytest.approx(1 / 16)
    values = torch.tensor([torch.nan, torch.nan, 0.5, 0.1], requires_grad=True)
    chosen = telling(masks, (7, 7))
    mean = mean_over(values, chosen, chosen.float().sum())
    mean.backward()
    assert float(mean.detach()) == 0.5 and values.grad is not None and values.grad.tolist() == [0, 0, 1, 0]
    assert float(mean_over(values.detach(), torch.zeros(4, dtype=torch.bool), torch.zeros(()))) == 0
