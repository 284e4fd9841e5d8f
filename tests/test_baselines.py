"""DINO, iBOT, AttMask, SimCLR, SwAV, VICReg: losses of released code, limits of the formulas, what a step is made of."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate import losses
from foveate.data.augment import Augmentation
from foveate.data.blockmasks import BlockMasks
from foveate.data.clips import Clips
from foveate.data.parents import Parent, TwoViews, parents, seen_of, two_views
from foveate.losses_pairs import nt_xent, vicreg
from foveate.methods.attmask import AttentionMasks, attmask
from foveate.methods.dino import DinoConfig
from foveate.methods.dinov2 import Dinov2Config
from foveate.methods.dora import DoraConfig
from foveate.methods.ibot import Ibot, IbotConfig
from foveate.methods.moment import Moment
from foveate.methods.simclr import SimclrConfig
from foveate.methods.swav import Swav, SwavConfig
from foveate.methods.vicreg import VicregConfig
from foveate.models.vit import Vit, VitConfig
from foveate.recipes.build import method_of
from foveate.schedules import constant

GOLDEN = json.loads((Path(__file__).parent / "golden" / "baselines.json").read_text(encoding="utf-8"))
VIEWS = Augmentation(large=32, small=16, smalls=3, nominal_blur=True)
TWO, PARENT = TwoViews(size=32), Parent(40)
HEAD = {"prototypes": 24, "hidden": 32, "bottleneck": 16}
DINO = DinoConfig(views=VIEWS, parent=PARENT, momentum=constant(0.9), **HEAD)
IBOT = IbotConfig(views=VIEWS, parent=PARENT, momentum=constant(0.9), **HEAD)
SWAV = SwavConfig(views=VIEWS, parent=PARENT, prototypes=12, hidden=16, width=8, queue=12, queue_from=2, prototypes_frozen=3)
ALL = {
    "dino": DINO,
    "ibot": IBOT,
    "attmask": replace(IBOT, masks=AttentionMasks("high")),
    "simclr": SimclrConfig(views=TWO, parent=PARENT, hidden=16, width=8),
    "swav": SWAV,
    "vicreg": VicregConfig(views=TWO, parent=PARENT, hidden=16, width=8),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(config: Any) -> Any:
    torch.manual_seed(0)
    vit = Vit(VitConfig(image_size=32, patch=8, width=32, depth=2, heads=2, layer_scale=None))
    with torch.no_grad():
        for value in vit.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    return method_of(config, vit)


def at(step: int = 0, batch: int = 6) -> Moment:
    return Moment(step=step, steps=100, epoch=10, seed=3, batch=batch)


def pictures(count: int = 6) -> Clips:
    frames = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3, 48, 64)).astype(np.uint8)
    return Clips(
        frames=torch.from_numpy(frames),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1),
        time=torch.zeros(count, 1, 1, dtype=torch.float64),
        where=torch.zeros(count, 1, 1, 4, dtype=torch.int32),
        index=torch.arange(count),
    )


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# --- every method ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_step_trains_what_it_says(name: str) -> None:
    """A gradient for every trained parameter and for nothing else; the same step gives the same; the loss goes down."""
    method = made(ALL[name])
    groups = method.param_groups()
    trained = [p for group in groups for p in group.params]
    assert {id(p) for p in trained} == {id(p) for p in method.parameters() if p.requires_grad}
    assert {group.decay for group in groups} == {0.0, 1.0}
    optimiser, found = torch.optim.SGD(trained, lr=0.02), []
    for _ in range(6):
        loss, metrics = method.step(pictures(), at())  # the same views each time
        assert loss.shape == () and all(value.shape == () and not value.requires_grad for value in metrics.values())
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
        assert all(p.grad is None for p in method.parameters() if not p.requires_grad)
        torch.nn.utils.clip_grad_norm_(trained, 3.0)
        optimiser.step()
        optimiser.zero_grad()
        found.append(loss.item())
    again, _ = made(ALL[name]).step(pictures(), at())
    assert again.item() == found[0] and found[-1] < found[0] - 1e-3
    assert isinstance(method.backbone(), Vit) and method.config.size == 32 and not method.config.wants_masks
    method.after_step(at())


def test_settings_of_two_methods_never_have_the_same_names() -> None:
    """So that two stamps are never the same."""
    names = [{field.name for field in fields(one)} for one in (Dinov2Config, DoraConfig, *map(type, ALL.values()))]
    assert all(one != other for one, other in combinations({frozenset(one) for one in names}, 2))
    assert len({frozenset(one) for one in names}) == len(ALL) + 1  # AttMask is iBOT's


def test_pieces() -> None:
    """Views lie in a piece that is the same for all frames, as large as is asked, inside the content."""
    frames = torch.zeros(2, 3, 3, 60, 80, dtype=torch.uint8)
    frames[:] = torch.arange(80, dtype=torch.uint8)
    pieces = parents(frames, torch.tensor([[0.5, 0.0, 1.0, 1.0]]).repeat(3, 1), torch.arange(3), 0, 0, Parent(20, (0.3, 0.3)))
    assert pieces.shape == (2, 3, 3, 20, 20) and torch.equal(pieces[0], pieces[1]) and int(pieces.min()) >= 39
    spans = (pieces.amax((2, 3, 4)) - pieces.amin((2, 3, 4)))[0].float() + 1
    assert (spans > 15).all() and (spans < 30).all()  # .3 of 40 x 60 pixels
    batch = pictures()
    whole, part = (seen_of(batch, 3, 0, VIEWS, parent) for parent in (None, PARENT))
    assert whole.large.shape == part.large.shape and not torch.equal(whole.large, part.large)
    both, drawn = two_views(batch, 3, 0, replace(TWO, solarise=(0.0, 1.0)), None)
    assert both.shape == (12, 3, 32, 32) and drawn.solarise.tolist() == [False] * 6 + [True] * 6
    with pytest.raises(ValueError, match="one frame"):
        seen_of(replace(batch, frames=batch.frames.repeat(1, 1, 2, 1, 1, 1)), 3, 0, VIEWS, None)


# --- DINO and iBOT ---------------------------------------------------------------------------------------------------------------


def golden_ibot() -> tuple[Ibot, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A method, logits of views and of hidden patches, targets of both and the mask, as they were recorded."""
    case = GOLDEN["ibot"]
    count, patches, prototypes, smalls = (case[name] for name in ("batch", "patches", "prototypes", "smalls"))
    method = made(replace(IBOT, prototypes=prototypes))
    with torch.no_grad():
        method.centre.value.copy_(0.1 * noise(5, 1, prototypes)[0])
        method.patch_centre.value.copy_(0.1 * noise(6, 1, 1, prototypes)[0, 0])
    mask = noise(7, 2 * count, patches) > 0.4
    mask[1] = False
    views = torch.cat([0.3 * noise(0, 2 * count, prototypes), 0.3 * noise(4, smalls * count, prototypes)])
    hidden = 0.3 * noise(1, 2 * count, patches, prototypes)[mask]
    of_views = method.centre.targets(0.3 * noise(2, 2 * count, prototypes), 0.04).view(2, count, -1)
    every = method.patch_centre.targets(0.3 * noise(3, 2 * count * patches, prototypes), 0.05)
    return method, views, hidden, of_views, every.view(2 * count, patches, -1)[mask], mask


def test_ibot_golden() -> None:
    method, *given = golden_ibot()
    _, parts = method._loss(*given)
    assert float(parts["dino"]) == pytest.approx(GOLDEN["ibot"]["cls"], rel=1e-5)
    assert float(parts["ibot"]) == pytest.approx(GOLDEN["ibot"]["patch"], rel=1e-5)
    method.after_step(at())
    torch.testing.assert_close(method.centre.value, torch.tensor(GOLDEN["ibot"]["centre"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(method.patch_centre.value, torch.tensor(GOLDEN["ibot"]["patch_centre"]), rtol=1e-5, atol=1e-6)


def test_dino_written_out() -> None:
    """2 (2 + V) - 2 pairs, batch means; small crops never teach."""
    method, batch = made(DINO), pictures()
    seen = seen_of(batch, 3, 0, VIEWS, PARENT)
    targets = [(method.teacher_head(method.teacher(view).cls) / 0.04).softmax(-1) for view in seen.large.chunk(2)]
    crops = [*seen.large.chunk(2), *seen.small.chunk(3)]
    terms = []
    for v, crop in enumerate(crops):
        logits = (method.head(method.student(crop).cls) / 0.1).log_softmax(-1)
        terms += [-(target * logits).sum(-1).mean() for u, target in enumerate(targets) if u != v]
    assert len(terms) == 2 * (2 + 3) - 2
    torch.testing.assert_close(method.step(batch, at())[0], torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


def test_dino_in_its_limits() -> None:
    logits = noise(0, 1, 5, 7)
    sharp = torch.nn.functional.one_hot(logits.argmax(-1), 7).float()
    assert float(losses.dino(100 * logits, sharp, 1.0)) < 1e-3  # same and certain: nothing to learn
    own = logits.softmax(-1)
    entropy = torch.special.entr(own).sum(-1).mean()
    torch.testing.assert_close(losses.dino(logits, own, 1.0), entropy)


def test_unit_prototypes_stay_so() -> None:
    method = made(replace(DINO, unit_prototypes=True))
    loss, _ = method.step(pictures(), at())
    loss.backward()
    assert method.head.last_layer.weight_g.grad is None
    assert all(method.head.last_layer.weight_g is not p for group in method.param_groups() for p in group.params)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_teacher_in_the_limits_of_its_momentum(momentum: float) -> None:
    method = made(replace(IBOT, momentum=constant(momentum), tied=False))
    with torch.no_grad():
        for value in (*method.student.parameters(), *method.patch_head.parameters()):
            value.add_(1.0)
    before = [value.clone() for value in method.teacher.parameters()]
    method.after_step(at())
    wanted = list(method.student.parameters()) if momentum == 0 else before
    assert all(torch.equal(one, other) for one, other in zip(method.teacher.parameters(), wanted, strict=True))
    heads = zip(method.teacher_heads[1].parameters(), method.patch_head.parameters(), strict=True)
    assert all(torch.equal(one, other) == (momentum == 0) for one, other in heads)


def test_hidden_patches_alone_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    method = made(replace(IBOT, dino=0.0))
    mask = np.zeros((12, 16), bool)
    monkeypatch.setattr(Ibot, "_hidden", lambda *_: mask)
    assert method.step(pictures(), at())[0].item() == 0
    mask[3, 5] = True
    loss, parts = method.step(pictures(), at())
    assert loss.item() > 0 and loss.item() == parts["ibot"].item()


# --- AttMask ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["high", "low"])
def test_masks_golden(which: Any) -> None:
    case = GOLDEN["attmask"]
    attention = noise(case["seed"], *case["shape"]).numpy()
    hidden = AttentionMasks(which, share=1.0).draw(attention, np.arange(3), 0, 0)
    assert hidden.astype(int).tolist() == case[which]


def test_hints_show_some_of_the_highest() -> None:
    attention = noise(1, 400, 100).numpy()
    masks = AttentionMasks("hint")
    hidden = masks.draw(attention, np.arange(200), 0, 0)
    masked = hidden.any(1)
    assert 0.4 < masked.mean() < 0.6
    top = np.argsort(-attention, 1)
    assert (hidden[masked].sum(1) == 27).all()  # int(.3 n) less int(.03 n)
    assert (~np.take_along_axis(hidden, top[:, :10], 1)[masked]).sum(1).tolist() == [3] * masked.sum()
    assert not np.take_along_axis(hidden, top[:, 30:], 1).any()
    first = masks.draw(np.concatenate([attention[100:150], attention[300:350]]), np.arange(100, 150), 0, 0)
    assert np.array_equal(first, np.concatenate([hidden[100:150], hidden[300:350]]))  # whatever else is in the batch
    assert attmask().masks == AttentionMasks("high") and attmask().views.smalls == 10


def test_attention_decides_what_is_hidden() -> None:
    method, batch = made(ALL["attmask"]), pictures()
    seen = seen_of(batch, 3, 0, VIEWS, PARENT)
    looks = method.teacher.maps(seen.large, [-1], 1)[0]
    hidden = method._hidden(looks, np.arange(6), at())
    attention = looks[:, :, 0, 1:].mean(1)
    for one, mask in zip(attention, hidden, strict=True):
        assert mask.sum() in (0, 4) and (not mask.any() or set(np.flatnonzero(mask)) == set(one.topk(4).indices.tolist()))
    assert hidden.any() and not method.whole_batch and made(IBOT).whole_batch
    assert isinstance(IBOT.masks, BlockMasks)


# --- without a teacher -----------------------------------------------------------------------------------------------------------


def graded(loss: Tensor, *given: Tensor) -> dict[str, float]:
    grads = torch.autograd.grad(loss, given)
    return {"loss": loss.item(), "gradient": float(torch.cat([one.flatten() for one in grads]).norm())}


def test_nt_xent_golden() -> None:
    case = GOLDEN["nt_xent"]
    z = noise(0, 2 * case["batch"], case["width"]).requires_grad_()
    wanted = {name: case[name] for name in ("loss", "gradient")}
    assert graded(nt_xent(z, case["temperature"]), z) == pytest.approx(wanted, rel=1e-5)


def test_vicreg_golden() -> None:
    case = GOLDEN["vicreg"]
    one, other = (0.5 * noise(seed, case["batch"], case["width"]).requires_grad_() for seed in (1, 2))
    wanted = {name: case[name] for name in ("loss", "gradient")}
    assert graded(vicreg(one, other)[0], one, other) == pytest.approx(wanted, rel=1e-5)


def test_swapped_codes_golden() -> None:
    case = GOLDEN["swav"]
    views = torch.stack([0.3 * noise(seed, case["batch"], case["prototypes"]) for seed in (3, 4)]).requires_grad_()
    codes = torch.stack([losses.sinkhorn(view, 0.05) for view in views.detach()])
    found = graded(losses.dino(views, codes.flip(0), 0.1, matched=True) / 2, views)
    assert found == pytest.approx({name: case[name] for name in ("loss", "gradient")}, rel=1e-4)


def test_pairs_in_their_limits() -> None:
    assert float(nt_xent(torch.ones(10, 4))) == pytest.approx(math.log(2 * 5 - 1))
    far = torch.eye(5).repeat(2, 1)
    assert float(nt_xent(far, 0.01)) < 1e-6
    hadamard = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) * 1.0
    white = hadamard[:, 1:] * math.sqrt(0.75 * 1.01)
    assert float(vicreg(white, white)[0]) == pytest.approx(0, abs=1e-5)  # spread, apart, alike
    loss, parts = vicreg(torch.ones(4, 3), torch.ones(4, 3))
    assert float(loss) == pytest.approx(25 * 2 * (1 - 0.01), rel=1e-5) and float(parts["invariance"]) == 0


def test_the_queue() -> None:
    """Newest first, the oldest leave; used when it is full and its time has come."""
    method: Swav = made(SWAV)
    seen = []
    for step in range(4):
        loss, _ = method.step(pictures(), at(step))
        assert torch.isfinite(loss) and method._new is not None
        seen.insert(0, method._new)
        method.after_step(at(step))
        kept = torch.cat(seen, 1)[:, :12]
        assert torch.equal(method.queue[:, : kept.shape[1]], kept)
    logits = noise(0, 2, 6, 12)
    early, late = (method._codes(logits, at(step)) for step in (1, 2))
    assert torch.equal(early[0], losses.sinkhorn(logits[0], 0.05)) and not torch.equal(early, late)
    torch.testing.assert_close(late.sum(-1), torch.ones(2, 6))
    frozen = {group.frozen for group in method.param_groups()}
    assert frozen == {0, 3}


def test_published_settings() -> None:
    dino, swav, simclr, other = DinoConfig(), SwavConfig(), SimclrConfig(), VicregConfig()
    assert (dino.prototypes, dino.views.smalls, dino.views.small, dino.views.large_area) == (65_536, 8, 96, (0.4, 1.0))
    assert [kind.blur for kind in dino.views.kinds()] == [1.0, 0.1, 0.5] and dino.views.kinds()[1].solarise == 0.2
    assert dino.parent == Parent(300, (0.2, 1.0)) and IbotConfig().prototypes == 8192
    assert IbotConfig().patch_temperature.at(0, 10**6) == 0.04 and IbotConfig().patch_temperature.at(30 * 1560, 10**6) == 0.07
    assert (swav.prototypes, swav.width, swav.queue, swav.epsilon, swav.temperature) == (3000, 128, 3840, 0.05, 0.1)
    assert (simclr.hidden, simclr.width, simclr.temperature) == (4096, 512, 0.2) and other.width == 2048
