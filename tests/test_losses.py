"""Losses and heads: numbers of the released code, and what the formulas promise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from foveate.losses import centred, cross_entropy, dino, ibot, koleo, moved_centre, patch_weights, sinkhorn
from foveate.models.heads import DinoHead

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dinov2.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def close(found: Tensor | float, golden: object, most: float = 1e-6) -> None:
    found, golden = (torch.as_tensor(value).detach().float() for value in (found, golden))
    torch.testing.assert_close(found, golden, rtol=2e-6, atol=most)


# Sinkhorn


@pytest.mark.parametrize("golden", GOLDEN["sinkhorn"], ids=lambda g: f"{g['rows']}x{g['prototypes']}")
def test_sinkhorn_golden(golden: dict[str, object]) -> None:
    q = sinkhorn(0.3 * normal(golden["seed"], golden["rows"], golden["prototypes"]), golden["temperature"])
    close(q.amax(1), golden["largest"])
    close(q.gather(1, torch.tensor(golden["which"]).unsqueeze(1)).squeeze(1), golden["largest"])
    close(q.sum(0)[:12], golden["usage"])
    close(q[tuple(torch.tensor(golden["picked"]).T)], golden["values"])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(2, 60), st.floats(0.03, 2), st.integers(0, 99))
def test_sinkhorn_properties(samples: int, prototypes: int, temperature: float, seed: int) -> None:
    logits = 0.3 * normal(seed, samples, prototypes)
    q = sinkhorn(logits, temperature)
    torch.testing.assert_close(q.sum(1), torch.ones(samples), atol=1e-4, rtol=0)
    torch.testing.assert_close(sinkhorn(logits + 0.2, temperature), q, atol=1e-5, rtol=1e-4)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(sinkhorn(logits[order], temperature), q[order], atol=1e-6, rtol=1e-5)
    flat = sinkhorn(torch.full((samples, prototypes), 0.7), temperature)
    torch.testing.assert_close(flat, torch.full((samples, prototypes), 1 / prototypes))


def test_sinkhorn_in_the_limit() -> None:
    """Prototypes are used evenly, and an offset of one sample is forgotten; after three iterations neither holds."""
    logits, offset = 0.3 * normal(1, 30, 12), normal(2, 30, 1)
    many, few = sinkhorn(logits, 0.1, iterations=500), sinkhorn(logits, 0.1)
    torch.testing.assert_close(many.sum(0), torch.full((12,), 30 / 12), atol=1e-4, rtol=0)
    torch.testing.assert_close(sinkhorn(logits + offset, 0.1, iterations=500), many, atol=1e-4, rtol=0)
    assert (sinkhorn(logits + offset, 0.1) - few).abs().max() > 1e-2
    assert (few.sum(0) - 30 / 12).abs().max() > 1e-2


def test_sinkhorn_overflows_nowhere() -> None:
    """Logits whose exponents leave float32, where the released code divides infinities; far beyond it still says something."""
    logits = 3 + 0.3 * normal(3, 20, 30)
    assert torch.isinf((logits / 0.02).exp()).any()
    torch.testing.assert_close(sinkhorn(logits, 0.02).double(), sinkhorn_in_double(logits, 0.02), atol=1e-5, rtol=0)
    wild = sinkhorn(100 * normal(4, 20, 30), 0.01)
    torch.testing.assert_close(wild.sum(1), torch.ones(20), atol=1e-4, rtol=0)
    assert sinkhorn(torch.zeros(0, 5), 0.1).shape == (0, 5)


def sinkhorn_in_double(logits: Tensor, temperature: float) -> Tensor:
    """The three iterations in logarithms and double precision."""
    log_q = (logits.double() / temperature).T
    for _ in range(3):
        log_q = log_q - log_q.logsumexp(1, keepdim=True) - math.log(log_q.shape[0])
        log_q = log_q - log_q.logsumexp(0, keepdim=True) - math.log(log_q.shape[1])
    return (log_q + math.log(log_q.shape[1])).exp().T


# Centring


def test_centring_golden() -> None:
    golden = GOLDEN["centring"]
    centre, patch_centre = torch.zeros(20), torch.zeros(20)
    for step, wanted in enumerate(golden["steps"]):
        logits, patches = 0.3 * normal(100 + step, 8, 20), 0.3 * normal(110 + step, 5, 20)
        close(centred(logits, centre, golden["temperature"])[0], wanted["cls"])
        close(centred(patches, patch_centre, golden["temperature"])[0], wanted["patch"])
        centre, patch_centre = moved_centre(centre, logits.sum(0), 8), moved_centre(patch_centre, patches.sum(0), 5)
    close(centre, golden["centre"])
    close(patch_centre, golden["patch_centre"])
    assert torch.equal(moved_centre(centre, torch.zeros(20), 0), centre)


# Cross-entropies


def test_cross_entropy_is_that_of_torch() -> None:
    target, logits = normal(5, 6, 40).softmax(1), (5 * normal(6, 6, 40)).requires_grad_()
    reference = functional.cross_entropy(logits / 0.1, target, reduction="none")
    close(cross_entropy(target, logits, 0.1), reference)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (cross_entropy(target, logits, 0.1), reference))
    close(ours, theirs, 1e-4)
    assert cross_entropy(target, logits.half(), 0.1).dtype == torch.float32


def test_dino_golden() -> None:
    golden = GOLDEN["dino"]
    batch, prototypes, views = golden["batch"], golden["prototypes"], golden["local"]
    targets = sinkhorn(0.3 * normal(200, 2 * batch, prototypes), 0.05).view(2, batch, prototypes)
    large = (0.3 * normal(201, 2 * batch, prototypes)).requires_grad_()
    small = (0.3 * normal(202, views * batch, prototypes)).requires_grad_()
    # The released loop stores the teacher's views in the opposite order, so that its first rows belong to the other view.
    of_large = dino(large.view(2, batch, -1), targets, matched=True) / 18
    of_small = dino(small.view(views, batch, -1), targets) / 18
    close(of_large, golden["global_loss"])
    close(of_small, golden["local_loss"])
    (of_large + of_small).backward()
    close(large.grad[0, :8], golden["global_grad"])
    close(small.grad[5, :8], golden["local_grad"])


def test_dino_scales() -> None:
    """Where every cross-entropy is c, the published sum over views is c: here log K of flat students."""
    targets = normal(7, 2, 5, 16).softmax(-1)
    whole = dino(torch.zeros(2, 5, 16), targets, matched=True) + dino(torch.zeros(8, 5, 16), targets)
    close(whole / 18, math.log(16))


def test_ibot_golden() -> None:
    golden = GOLDEN["ibot"]
    masked = torch.from_numpy(np.random.default_rng(300).random((10, 16)) < np.linspace(0, 0.6, 10)[:, None])
    patches = int(masked.sum())
    assert patches == golden["patches"]
    targets = sinkhorn(0.3 * normal(301, patches, 24), 0.06)
    student = (0.3 * normal(302, patches, 24)).requires_grad_()
    loss = ibot(student, targets, patch_weights(masked), len(masked))
    close(loss, golden["loss"])
    loss.backward()
    close(student.grad[2, :8], golden["grad"])


def test_weights_of_patches_count_crops() -> None:
    masked = torch.rand(12, 30, generator=torch.Generator().manual_seed(1)) < 0.3
    masked[[2, 5, 6]] = False
    close(patch_weights(masked).sum(), 9)
    by_crop = torch.zeros(12).index_add(0, masked.nonzero()[:, 0], patch_weights(masked))
    close(by_crop, masked.any(1).float())


def test_without_a_masked_patch_there_is_no_loss() -> None:
    student = torch.zeros(0, 24, requires_grad=True)
    loss = ibot(student, torch.zeros(0, 24), patch_weights(torch.zeros(4, 9, dtype=torch.bool)), 4)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None


# KoLeo


def test_koleo_golden() -> None:
    golden = GOLDEN["koleo"]
    features = normal(400, 12, 32).requires_grad_()
    loss = koleo(features)
    close(loss, golden["loss"])
    loss.backward()
    close(features.grad[3, :8], golden["grad"])
    two = normal(402, 2, 16)
    close(koleo(two), golden["two"])
    close(koleo(two), -math.log(functional.normalize(two).diff(dim=0).norm()), 1e-6)
    twins = normal(401, 4, 384)
    twins[2] = twins[0]
    close(koleo(twins), golden["duplicate"], 1e-5)


def test_koleo_grows_as_points_collapse() -> None:
    middle, spread = normal(8, 1, 32), normal(9, 20, 32)
    losses = [koleo(middle + size * spread).item() for size in (10.0, 1.0, 0.1, 0.01, 0.001)]
    assert losses == sorted(losses) and losses[-1] - losses[-2] == pytest.approx(math.log(10), abs=0.05)


def test_koleo_of_twins_is_bounded_and_does_not_push() -> None:
    """In half precision the released epsilon is zero and twins cost infinity; in float32 they cost 15.4 and would drown all others."""
    twins = normal(10, 1, 384).repeat(3, 1).requires_grad_()  # of two alone the pushes cancel
    loss = koleo(twins)
    loss.backward()
    close(loss, -math.log(math.sqrt(384) * 1e-8 + 1e-8), 1e-4)
    assert twins.grad is not None and torch.count_nonzero(twins.grad) == 0
    assert torch.isfinite(koleo(twins.detach().half()))
    near = (twins.detach() + 1e-3 * normal(11, 3, 384)).requires_grad_()
    koleo(near).backward()
    assert near.grad is not None and near.grad.norm() > 1  # what is not a twin is still pushed


def test_koleo_needs_a_neighbour() -> None:
    with pytest.raises(ValueError, match="two samples"):
        koleo(normal(12, 1, 8))


# Head


def test_head_golden() -> None:
    golden = GOLDEN["head"]
    head = DinoHead(24, 50, hidden=40, bottleneck=16)
    names = sorted(golden["names"])
    assert {name: list(value.shape) for name, value in head.state_dict().items()} == golden["names"]
    head.load_state_dict({name: 0.2 * normal(500 + k, *golden["names"][name]) for k, name in enumerate(names)})
    x = normal(520, 5, 24).requires_grad_()
    out = head(x)
    close(out[:, :6], golden["out"])
    out.square().sum().backward()
    close(x.grad[0, :6], golden["grad"], 1e-5)
    close(head.last_layer.weight_v.grad[3, :6], golden["grad_v"], 1e-5)
    close(head.last_layer.weight_g.grad[:6, 0], golden["grad_g"], 1e-5)


def test_head_of_the_published_run() -> None:
    with torch.device("meta"):
        head = DinoHead(384, 65536)
    assert sum(p.numel() for p in head.parameters()) == 22_352_128


def test_a_new_head_gives_cosines() -> None:
    torch.manual_seed(0)
    head = DinoHead(16, 40, hidden=32, bottleneck=8)
    x = normal(13, 6, 16)
    v = head.last_layer.weight_v
    close(head(x), functional.cosine_similarity(head.mlp(x).unsqueeze(1), v.unsqueeze(0), dim=2))
    first = head.mlp[0].weight
    assert abs(first.std().item() - 0.02) < 0.002 and not head.mlp[0].bias.any()
