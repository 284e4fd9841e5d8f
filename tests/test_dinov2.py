"""DINOv2 as a method: its loss against the formulas written out, its teacher, its learning rates, its numbers of processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.data.augment import Augmentation, views
from foveate.data.clips import Clips
from foveate.methods.dinov2 import Dinov2, Dinov2Config
from foveate.methods.moment import Moment
from foveate.models.vit import Vit, VitConfig
from foveate.schedules import Schedule, constant
from foveate.schema import FoveateError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dinov2.json").read_text(encoding="utf-8"))
TINY = Dinov2Config(
    views=Augmentation(large=32, small=16, smalls=3),
    prototypes=24,
    hidden=32,
    bottleneck=16,
    teacher_temperature=constant(0.06),
    momentum=constant(0.9),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(config: Dinov2Config = TINY, depth: int = 2) -> Dinov2:
    """A method with weights that are large enough to tell pictures apart."""
    torch.manual_seed(0)
    method = Dinov2(Vit(VitConfig(image_size=32, patch=8, width=32, depth=depth, heads=2, layer_scale=1.0)), config)
    with torch.no_grad():
        for value in (*method.student.parameters(), *method.head.mlp.parameters()):
            value.add_(0.08 * torch.randn(value.shape))
        for student, teacher in ((method.student, method.teacher), (method.head, method.teacher_head)):
            teacher.load_state_dict(student.state_dict())
    return method


def at(step: int = 0, batch: int = 6) -> Moment:
    return Moment(step=step, steps=100, epoch=10, seed=3, batch=batch)


def pictures(first: int = 0, count: int = 6, of: int = 6) -> Clips:
    """Samples ``first`` and the following of step 0."""
    frames = np.random.default_rng(0).integers(0, 256, (of, 1, 1, 3, 40, 40)).astype(np.uint8)
    for k in range(of):
        frames[k] //= 2
        frames[k, ..., k * 4 : k * 4 + 16, :] += np.uint8(120)
    clips = Clips(
        frames=torch.from_numpy(frames),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(of, 1),
        time=torch.zeros(of, 1, 1, dtype=torch.float64),
        where=torch.zeros(of, 1, 1, 4, dtype=torch.int32),
        index=torch.arange(of),
    )
    return clips.part(first, first + count)


def written_out(method: Dinov2, batch: Clips, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss as the publication writes it: view by view, pair by pair, in double precision, nothing packed, nothing shared."""
    config, count = method.config, len(batch)
    seen = views(batch.frames[:, 0, 0], batch.valid, batch.index, moment.seed, moment.step, config.views)
    masked = torch.from_numpy(config.masks.draw(np.arange(2 * count), 2 * count, 4, 4, moment.seed, moment.step))
    patch_head, teacher_patch_head = method.patch_head or method.head, method.teacher_patch_head or method.teacher_head
    temperature = config.teacher_temperature.at(moment.step, moment.steps)

    def targets(logits: Tensor) -> Tensor:
        if config.centring == "centre":
            return (logits.double() / temperature).softmax(1)
        q = (logits.double() / temperature).exp().T
        q /= q.sum()
        for _ in range(3):
            q /= q.sum(1, keepdim=True) * q.shape[0]
            q /= q.sum(0, keepdim=True) * q.shape[1]
        return (q * q.shape[1]).T

    def entropy(target: Tensor, logits: Tensor) -> Tensor:
        return -(target * (logits.double() / config.student_temperature).log_softmax(-1)).sum(-1)

    with torch.no_grad():
        taught = method.teacher(seen.large)
        of_teacher = targets(method.teacher_head(taught.cls)).chunk(2)
        of_hidden = targets(teacher_patch_head(taught.patches[masked]))
    large = method.student(seen.large, masked)
    small = [method.student(crop) for crop in seen.small.chunk(config.views.smalls)]
    first, second = method.head(large.cls).chunk(2)
    terms = [entropy(of_teacher[1], first).mean(), entropy(of_teacher[0], second).mean()]
    terms += [entropy(target, method.head(crop.cls)).mean() for crop in small for target in of_teacher]
    dino = torch.stack(terms).sum() / (2 + 2 * config.views.smalls)
    patches, start = entropy(of_hidden, patch_head(large.patches[masked])), 0
    by_crop = []
    for crop in masked:
        hidden = int(crop.sum())
        by_crop.append(patches[start : start + hidden].mean() if hidden else patches.new_zeros(()))
        start += hidden
    ibot = torch.stack(by_crop).mean()
    unit = [torch.nn.functional.normalize(view.double(), dim=1) for view in large.cls.chunk(2)]
    apart = [torch.cdist(z, z) + 9 * torch.eye(count) for z in unit]
    koleo = torch.stack([-distance.amin(1).log().mean() for distance in apart])
    return dino + ibot + config.koleo * koleo.sum(), {"dino": dino, "ibot": ibot, "koleo": koleo.mean()}


@pytest.mark.parametrize(
    "config",
    [replace(TINY, tied=False), replace(TINY, koleo=0.7, student_temperature=0.2)],
    ids=["untied", "koleo"],
)
def test_the_loss_is_that_of_the_publication(config: Dinov2Config) -> None:
    method = tiny(config)
    loss, parts = method.step(pictures(), at())
    wanted, wanted_parts = written_out(method, pictures(), at())
    torch.testing.assert_close(loss.double(), wanted, rtol=2e-5, atol=2e-5)
    for name, value in wanted_parts.items():
        torch.testing.assert_close(parts[name].double(), value, rtol=1e-4, atol=1e-5)
    trained = [p for group in method.param_groups() for p in group.params]
    ours, theirs = torch.autograd.grad(loss, trained), torch.autograd.grad(wanted, trained)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() <= 1e-3 * other.norm() + 1e-5


def filled(module: torch.nn.Module, seed: int) -> None:
    """The weights with which the released step was recorded: noise, and around 1 where a weight scales."""
    state = module.state_dict()
    for k, name in enumerate(sorted(state)):
        noise = torch.from_numpy(np.random.default_rng(seed + k).standard_normal(state[name].shape).astype(np.float32))
        scales = "gamma" in name or name.endswith("weight_g")
        noise *= (0.3 if name.endswith("weight") and "norm" not in name else 0.1) * (0.5 if scales else 1.0)
        state[name] = noise + float(scales or ("norm" in name and name.endswith("weight")))
    module.load_state_dict(state)


@pytest.mark.parametrize("case", list(GOLDEN["step"]["cases"]))
def test_step_golden(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step of the released code, from normalised crops to the norm of every gradient."""
    golden, batch = GOLDEN["step"]["cases"][case], GOLDEN["step"]["batch"]
    vit = Vit(VitConfig(image_size=32, patch=8, width=32, depth=2, heads=2, layer_scale=1.0, positions="offset"))
    centring = "centre" if "centred" in case else "sinkhorn"
    method = Dinov2(vit, replace(TINY, hidden=40, tied=not case.startswith("untied"), centring=centring))
    filled(method.student, 1000), filled(method.head, 1100), filled(method.teacher, 1200), filled(method.teacher_head, 1300)
    if method.patch_head is not None and method.teacher_patch_head is not None:
        filled(method.patch_head, 1400), filled(method.teacher_patch_head, 1500)
    rng = np.random.default_rng
    large = torch.from_numpy(rng(900).standard_normal((2 * batch, 3, 32, 32)).astype(np.float32))
    small = torch.from_numpy(rng(901).standard_normal((3 * batch, 3, 16, 16)).astype(np.float32))
    masked = rng(902).random((2 * batch, 16)) < np.linspace(-0.3, 0.6, 2 * batch)[:, None]
    nothing = views(pictures().frames[:, 0, 0], pictures().valid, torch.arange(6), 0, 0, TINY.views)
    seen = replace(nothing, large=large, taught=large, small=small)
    monkeypatch.setattr(method, "_seen", lambda batch, at: (seen, None))
    monkeypatch.setattr(method, "_masked", lambda index, at, shares: masked)
    loss, parts = method.step(pictures(count=batch), at(batch=batch))
    wanted = golden["parts"]
    assert loss.item() == pytest.approx(golden["loss"], rel=1e-5)
    assert parts["dino"].item() == pytest.approx(wanted["dino_local_crops_loss"] + wanted["dino_global_crops_loss"], rel=1e-5)
    assert parts["ibot"].item() == pytest.approx(2 * wanted["ibot_loss"], rel=1e-5)  # it is halved before it is logged
    assert 0.1 * parts["koleo"].item() == pytest.approx(wanted["koleo_loss"], abs=1e-6)
    loss.backward()
    gradients = {name: p.grad for name, p in method.student.named_parameters()}
    for part, head in (("dino_head", method.head), ("ibot_head", method.patch_head)):
        gradients |= {f"{part}.{name}": p.grad for name, p in head.named_parameters()} if head is not None else {}
    assert len(gradients) == len(golden["grad_norms"])
    for name, norm in golden["grad_norms"].items():
        assert gradients[name.removeprefix("student.")].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-5), name


def test_what_is_written_down() -> None:
    _, parts = tiny().step(pictures(), at())
    assert set(parts) == {"dino", "ibot", "koleo", "entropy", "prototypes"}
    assert 1 <= parts["prototypes"] <= 12 and 0 < parts["entropy"] <= np.log(24) + 1e-5
    assert all(value.ndim == 0 and not value.requires_grad for value in parts.values())


def test_a_step_is_a_function_of_seed_step_and_samples() -> None:
    method = tiny()
    loss = [method.step(pictures(), moment)[0].detach() for moment in (at(), at(), at(1), replace(at(), seed=4))]
    assert loss[0] == loss[1] and len({float(value) for value in loss}) == 3


def test_mixed_precision_changes_little() -> None:
    """Under autocast features and logits come in bfloat16; losses and targets are made in float32."""
    method = tiny()
    _, parts = method.step(pictures(), at())
    with torch.autocast("cpu", torch.bfloat16):
        mixed, mixed_parts = method.step(pictures(), at())
    assert mixed.dtype == torch.float32
    for name in ("dino", "ibot", "koleo"):
        torch.testing.assert_close(mixed_parts[name], parts[name], rtol=0.1, atol=0.05)
    mixed.backward()
    assert all(torch.isfinite(p.grad).all() for group in method.param_groups() for p in group.params)


def test_koleo_reaches_the_backbone_alone() -> None:
    method = tiny(replace(TINY, dino=0.0, ibot=0.0))
    method.step(pictures(), at())[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.head.parameters())
    assert method.student.blocks[0].attn.qkv.weight.grad.norm() > 0


def test_without_masks_there_is_no_loss_of_patches() -> None:
    config = replace(TINY, masks=replace(TINY.masks, share=0.0), koleo=0.0)
    for untied in (config, replace(config, tied=False)):
        method = tiny(untied)
        loss, parts = method.step(pictures(), at())
        assert parts["ibot"] == 0 and loss == parts["dino"]
        loss.backward()
        assert all(p.grad is not None for group in method.param_groups() for p in group.params)  # other processes may have some


def test_one_picture_has_no_neighbour() -> None:
    with pytest.raises(FoveateError, match="one picture"):
        tiny().step(pictures(count=1), at(batch=1))
    assert torch.isfinite(tiny(replace(TINY, koleo=0.0)).step(pictures(count=1), at(batch=1))[0])


def test_crops_that_patches_do_not_divide() -> None:
    with pytest.raises(FoveateError, match="20 px") as caught:
        tiny(replace(TINY, views=Augmentation(large=32, small=20)))
    assert "16" in str(caught.value.remedy)


def test_why_a_batch_is_not_cut() -> None:
    assert "Sinkhorn" in tiny().whole_batch and "KoLeo" in tiny(replace(TINY, centring="centre")).whole_batch
    method = tiny(replace(TINY, centring="centre", koleo=0.0))
    assert method.whole_batch == ""
    whole = torch.autograd.grad(method.step(pictures(), at())[0], method.head.mlp[0].weight)[0]
    method.after_step(at())
    centres = method.centre.clone(), method.patch_centre.clone()
    cut = tiny(replace(TINY, centring="centre", koleo=0.0))
    halves = [torch.autograd.grad(cut.step(pictures(k, 3), at())[0], cut.head.mlp[0].weight)[0] for k in (0, 3)]
    cut.after_step(at())
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((cut.centre, cut.patch_centre), centres)
    assert centres[0].abs().max() > 0


# The teacher


def test_the_teacher_begins_as_the_student_and_is_never_trained() -> None:
    method = tiny(replace(TINY, tied=False)).train()
    for student, teacher in (
        (method.student, method.teacher),
        (method.head, method.teacher_head),
        (method.patch_head, method.teacher_patch_head),
    ):
        for mine, theirs in zip(student.parameters(), teacher.parameters(), strict=True):
            assert torch.equal(mine, theirs) and mine is not theirs and not theirs.requires_grad
        assert student.training and not any(module.training for module in teacher.modules())
    method.step(pictures(), at())[0].backward()
    assert all(p.grad is None for module in (method.teacher, method.teacher_head) for p in module.parameters())
    assert method.backbone() is method.teacher


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 1.0])
def test_the_teacher_follows(momentum: float) -> None:
    """After n steps of a student that stands still: theta + m^n (theta0 - theta)."""
    method = tiny(replace(TINY, momentum=constant(momentum)))
    for module in (method.student, method.head):
        for value in module.parameters():
            value.data.add_(1.0)
    before = [value.clone() for module in (method.teacher, method.teacher_head) for value in module.parameters()]
    for step in range(3):
        method.after_step(at(step))
    after = [value for module in (method.teacher, method.teacher_head) for value in module.parameters()]
    goal = [value for module in (method.student, method.head) for value in module.parameters()]
    for start, found, theta in zip(before, after, goal, strict=True):
        torch.testing.assert_close(found, theta + momentum**3 * (start - theta))
        if momentum in (0.0, 1.0):
            assert torch.equal(found, theta if momentum == 0 else start)


def test_published_schedules() -> None:
    """The released schedulers at the study's settings, value by value; those of the optimiser as its recipe gives them."""
    golden, config, steps = GOLDEN["schedules"], Dinov2Config(), 1_080_000
    schedules = {
        "lr": Schedule(2e-4 * (64 / 1024) ** 0.5, 1e-6, warmup=4_000),
        "decay": Schedule(0.04, 0.2),
        "momentum": config.momentum,
        "temperature": config.teacher_temperature,
    }
    for name, schedule in schedules.items():
        np.testing.assert_allclose([schedule.at(step, steps) for step in golden["at"]], golden[name], rtol=1e-9)
    momenta = [config.momentum.at(step, steps) for step in range(0, steps + 1, 10_000)]
    assert momenta[0] == 0.994 and momenta[-1] == 1 and momenta == sorted(momenta)


# Learning rates


def test_multipliers_are_those_of_the_released_code() -> None:
    method = tiny(Dinov2Config(prototypes=10, hidden=8, bottleneck=4, tied=False, views=TINY.views), depth=12)
    groups = method.param_groups()
    found = {id(p): group for group in groups for p in group.params}
    names = dict(method.student.named_parameters())
    for name, (lr, decay) in GOLDEN["groups"].items():
        group = found[id(names[name])]
        assert (
            group.part == "backbone" and group.frozen == 0 and group.decay == decay and group.lr == pytest.approx(lr, rel=1e-12)
        )
    assert found[id(names["patch_embed.proj.weight"])].lr == pytest.approx(0.2 * 0.9**13)
    for name, value in names.items():
        assert (found[id(value)].decay == 0) == (name.endswith(".bias") or "norm" in name or "gamma" in name)
    for part, head in (("head", method.head), ("patch_head", method.patch_head)):
        for name, value in head.named_parameters():
            group = found[id(value)]
            assert group.part == part and group.lr == 1 and group.decay == float(not name.endswith(".bias"))
            assert group.frozen == (400 if name.startswith("last_layer") else 0)
    trained = [id(p) for group in groups for p in group.params]
    assert len(trained) == len(set(trained)) == sum(p.requires_grad for p in method.parameters())
    assert len({(g.part, g.lr, g.decay, g.frozen) for g in groups}) == len(groups)


def test_the_published_model_has_as_many_numbers_as_published() -> None:
    with torch.device("meta"):
        method = Dinov2(Vit(VitConfig()), Dinov2Config())
    assert sum(p.numel() for p in method.head.parameters()) == 22_352_128
    assert 21e6 < sum(p.numel() for p in method.student.parameters()) < 22.2e6
    assert method.config.views.kinds()[2].size // 14 == 7  # 49 tokens


def test_it_learns() -> None:
    """With a teacher that stands still, the student comes nearer to it."""
    method = tiny(replace(TINY, momentum=constant(1.0)))
    optimiser = torch.optim.AdamW([p for group in method.param_groups() for p in group.params], lr=2e-3)
    losses = []
    for _ in range(16):
        loss, parts = method.step(pictures(), at())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(at())
        losses.append((float(parts["dino"] - parts["entropy"]), float(parts["ibot"])))
    assert losses[-1][0] < 0.75 * losses[0][0] and losses[-1][1] < 0.85 * losses[0][1]


# Several processes

_HALF = """
import sys, torch, torch.distributed as dist
from dataclasses import replace
from tests.test_dinov2 import TINY, at, pictures, tiny
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
for name, config in {"sinkhorn": TINY, "centre": replace(TINY, centring="centre"), "local": replace(TINY, koleo_local=True)}.items():
    method = tiny(config)
    loss, parts = method.step(pictures(3 * rank, 3), at())
    loss.backward()
    method.after_step(at())
    found = {n: p.grad for n, p in method.named_parameters() if p.requires_grad} | {"loss": loss.detach()}
    found |= {n: b for n, b in method.named_buffers()}
    torch.save(found, f"{folder}/{name}-{rank}.pt")
"""


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Gradients averaged over two processes that hold half a batch each are those of one; with the released KoLeo they are not."""
    root = Path(__file__).parent.parent
    halves = [subprocess.Popen([sys.executable, "-c", _HALF, str(rank), str(tmp_path)], cwd=root) for rank in (0, 1)]
    assert [half.wait(timeout=280) for half in halves] == [0, 0]
    for name, config in {"sinkhorn": TINY, "centre": replace(TINY, centring="centre"), "local": TINY}.items():
        method = tiny(config)
        loss, _ = method.step(pictures(), at())
        loss.backward()
        method.after_step(at())
        halves_found = [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        mean = {key: (halves_found[0][key] + halves_found[1][key]) / 2 for key in halves_found[0]}
        off = [(mean[n] - p.grad).norm() / (p.grad.norm() + 1e-6) for n, p in method.named_parameters() if p.requires_grad]
        if name == "local":
            assert max(off) > 1e-3
            continue
        assert max(off) < 1e-4 and abs(mean["loss"] - loss.detach()) < 1e-5
        for buffer, value in method.named_buffers():
            torch.testing.assert_close(mean[buffer], value)
