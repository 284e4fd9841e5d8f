"""DoRA as a method: the released step from normalised crops to gradients, the formulas' limits, what reaches whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate import losses
from foveate.data.clip_views import ClipAugmentation, ClipViews, clip_views
from foveate.data.clips import Clips
from foveate.data.parents import Parent
from foveate.methods import dora, objects
from foveate.methods.dora import Dora, DoraConfig, seen_through, shares_of
from foveate.methods.moment import Moment
from foveate.models.vit import Vit, VitConfig
from foveate.schedules import constant
from foveate.schema import FoveateError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dora.json").read_text(encoding="utf-8"))
VIEWS = ClipAugmentation(parent=Parent(40), large=32, small=16, smalls=3)
TINY = DoraConfig(views=VIEWS, prototypes=24, hidden=32, bottleneck=16, momentum=constant(0.9), last_layer_frozen=10)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(config: DoraConfig = TINY, **vit: Any) -> Dora:
    """A method with weights that are large enough to tell pictures apart, and a teacher of its own."""
    torch.manual_seed(0)
    shape = VitConfig(**{"image_size": 32, "patch": 8, "width": 48, "depth": 2, "heads": 6, "layer_scale": None, **vit})
    method = Dora(Vit(shape), config)
    with torch.no_grad():
        for value in (*method.student.parameters(), *method.head.mlp.parameters()):
            value.add_(0.08 * torch.randn(value.shape))
        method.teacher.load_state_dict(method.student.state_dict())
        method.teacher_head.load_state_dict(method.head.state_dict())
    return method


def at(step: int = 0, batch: int = 4) -> Moment:
    return Moment(step=step, steps=100, epoch=10, seed=3, batch=batch)


def clips(count: int = 4, times: int = 3, seed: int = 0) -> Clips:
    frames = np.random.default_rng(seed).integers(0, 256, (count, 1, times, 3, 48, 64)).astype(np.uint8)
    return Clips(
        frames=torch.from_numpy(frames),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1),
        time=torch.zeros(count, 1, times, dtype=torch.float64),
        where=torch.zeros(count, 1, times, 4, dtype=torch.int32),
        index=torch.arange(count),
    )


# --- the released code -----------------------------------------------------------------------------------------------------------


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def filled(module: torch.nn.Module, seed: int) -> None:
    """The weights with which the released step was recorded."""
    state = module.state_dict()
    for k, name in enumerate(sorted(name for name in state if name != "mask_token")):
        scales = name.endswith("weight_g")
        value = noise(seed + k, *state[name].shape)
        value *= 0.12 if "qkv" in name else 0.3 if name.endswith("weight") and "norm" not in name else 0.05 if scales else 0.1
        state[name] = value + float(scales or ("norm" in name and name.endswith("weight")))
    module.load_state_dict(state)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> tuple[Dora, ClipViews, Clips]:
    """Method, views and a batch as they were when the released step was recorded."""
    step = GOLDEN["step"]
    views = ClipAugmentation(larges=1, large=step["size"], small=step["small"], smalls=step["smalls"])
    config = replace(DoraConfig.release(), views=views, prototypes=step["prototypes"], hidden=32, bottleneck=16)
    vit = Vit(VitConfig(image_size=32, patch=8, width=48, depth=2, heads=6, layer_scale=None, positions="offset"))
    method = Dora(vit, config)
    for backbone, head in ((method.student, method.head), (method.teacher, method.teacher_head)):
        filled(backbone, 100)
        filled(head, 500)
    with torch.no_grad():
        named = sorted((name, value) for name, value in method.teacher.named_parameters() if name != "mask_token")
        for k, (_, value) in enumerate(named):
            value.add_(0.05 * noise(900 + k, *value.shape))
        method.centre.value.copy_(0.1 * noise(77, 1, step["prototypes"])[0])
    size, small = step["size"], step["small"]
    shape = step["batch"], step["times"], 3
    large = noise(1, *shape, size, size).transpose(0, 1).unsqueeze(0)
    smalls = torch.stack([noise(10 + k, *shape, small, small).transpose(0, 1) for k in range(step["smalls"])])
    monkeypatch.setattr(dora, "clip_views", lambda *_: ClipViews(large, smalls))
    chosen = np.array([step["heads"]] * step["batch"])
    monkeypatch.setattr(objects, "choose", lambda *_: chosen)
    return method, ClipViews(large, smalls), clips(step["batch"], step["times"])


def test_step_golden(released: tuple[Dora, ClipViews, Clips], monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step of the released code: masks, loss, gradients, centre."""
    method, _, batch = released
    step, seen = GOLDEN["step"], {}
    through = seen_through

    def watched(pictures: Tensor, masks: Tensor, patch: int) -> Tensor:
        seen["masks"] = masks
        return through(pictures, masks, patch)

    monkeypatch.setattr(dora, "seen_through", watched)
    loss, parts = method.step(batch, at(batch=len(batch)))
    assert torch.equal(seen["masks"][0, :, 1].transpose(0, 1).flatten(0, 1), torch.tensor(step["mask"]).float())
    assert 0.1 < parts["seen"] < 0.9
    torch.testing.assert_close(loss, torch.tensor(step["loss"]), rtol=2e-5, atol=0)
    loss.backward()
    for part, norm in step["grads"].items():
        grads = [p.grad for group in method.param_groups() if group.part == part for p in group.params]
        found = torch.stack([grad.double().norm() for grad in grads if grad is not None]).norm()
        assert float(found) == pytest.approx(norm, rel=1e-4)
    method.after_step(at())
    torch.testing.assert_close(method.centre.value, torch.tensor(step["centre"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", GOLDEN["sinkhorn"])
def test_assignments_golden(case: dict[str, Any]) -> None:
    found = losses.assignments(noise(case["seed"], *case["shape"]).transpose(1, 2) * case["scale"])
    wanted = torch.tensor(case["values"]).T
    torch.testing.assert_close(found[0, :, :8] * found.shape[-1], wanted, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(found.sum(-1) * found.shape[-1], torch.tensor(case["rows"]), rtol=1e-4, atol=1e-5)


def test_frames_are_counted_as_released() -> None:
    assert shares_of(3, 8, True).tolist() == pytest.approx(
        [value / 3 for value in (1 / 8 + 1 / 64 + 1 / 512, 1 / 8 + 1 / 64, 1 / 8)]
    )
    assert shares_of(3, 8, False).tolist() == pytest.approx([1 / 24] * 3)


# --- assignments -----------------------------------------------------------------------------------------------------------------


def test_assignments_share_out_evenly() -> None:
    logits = noise(4, 2, 3, 25)
    found = losses.assignments(logits * 0.1)
    torch.testing.assert_close(found.sum(-2), torch.full((2, 25), 1 / 25), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.sum(-1), torch.full((2, 3), 1 / 3), rtol=0, atol=1e-3)
    exact = losses.assignments(logits, rounds=3000)
    torch.testing.assert_close(exact.sum(-1), torch.full((2, 3), 1 / 3), rtol=0, atol=1e-3)


def test_assignments_in_their_limits() -> None:
    torch.testing.assert_close(losses.assignments(torch.full((3, 10), 2.0)), torch.full((3, 10), 1 / 30))
    torch.testing.assert_close(losses.assignments(noise(0, 1, 10)), torch.full((1, 10), 0.1))
    torch.testing.assert_close(losses.assignments(noise(0, 3, 10), 1e6), torch.full((3, 10), 1 / 30), rtol=1e-4, atol=0)
    sharp = losses.assignments(torch.eye(3).repeat(1, 4), 1e-3) * 12
    torch.testing.assert_close(sharp, torch.eye(3).repeat(1, 4))
    far = losses.assignments(1000 * noise(1, 3, 10))
    assert torch.isfinite(far).all()
    torch.testing.assert_close(far.sum(0), torch.full((10,), 0.1), rtol=1e-3, atol=0)


def test_assignments_know_no_order() -> None:
    logits, objects_, patches = noise(2, 4, 9), torch.tensor([2, 0, 3, 1]), torch.randperm(9)
    found = losses.assignments(logits)
    torch.testing.assert_close(losses.assignments(logits[objects_][:, patches]), found[objects_][:, patches])


# --- objects ---------------------------------------------------------------------------------------------------------------------


def test_rows_of_what_is_looked_at() -> None:
    keys, prototypes = noise(0, 2, 16, 12), noise(1, 2, 3, 12)
    maps = objects.followed(prototypes, keys)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3))
    torch.testing.assert_close(objects.followed(prototypes, keys + noise(2, 2, 1, 12)), maps, rtol=1e-4, atol=1e-6)


def test_a_prototype_of_one_patch_is_its_query() -> None:
    queries, maps = noise(0, 1, 16, 12), torch.zeros(1, 2, 16)
    maps[0, 0, 5], maps[0, 1, 7] = 1, 1
    assert torch.equal(objects.pooled(maps, queries, torch.tensor([[1, 0]])), queries[:, [7, 5]])


def test_heads_are_drawn_without_repeats() -> None:
    drawn = objects.choose(0, 0, np.arange(500), 6, 3)
    assert all(len(set(row)) == 3 for row in drawn.tolist()) and set(drawn.ravel().tolist()) == set(range(6))
    assert np.array_equal(objects.choose(0, 0, np.arange(250, 500), 6, 3), drawn[250:])  # whatever the process
    assert not np.array_equal(objects.choose(0, 1, np.arange(500), 6, 3), drawn)
    assert np.bincount(drawn.ravel()).std() < 25  # 250 each expected


@pytest.mark.parametrize(("count", "heads"), [(1, 6), (6, 6), (7, 8), (16, 16), (17, 24), (32, 32)])
def test_heads_for_objects(count: int, heads: int) -> None:
    assert objects.heads_for(count, 6, 384) == heads


def test_objects_beyond_what_divides() -> None:
    with pytest.raises(ValueError, match="49 objects"):
        Dora(Vit(VitConfig(image_size=32, patch=8, width=48, depth=1, heads=6)), replace(TINY, objects=49))


def test_attention_is_the_network_s_own() -> None:
    vit = tiny().teacher
    pictures = noise(0, 2, 3, 32, 32)
    qkv = vit.watch(pictures, [-1])[1][0]
    torch.testing.assert_close(objects.attended(qkv, 1), vit.maps(pictures, [-1], 1)[0][:, :, 0, 1:])
    split = objects.attended(qkv, 1, 16)
    queries, keys = (part.transpose(1, 2).flatten(2).view(2, 17, 16, 3) for part in qkv[:2])
    by_hand = (queries[:, 0].unsqueeze(1) * keys).sum(-1).mul(3**-0.5).softmax(1).transpose(1, 2)[:, :, 1:]
    torch.testing.assert_close(split, by_hand)
    as_printed = objects.attended(qkv, 1, None, "width")
    assert as_printed.std() < objects.attended(qkv, 1).std()  # a larger root: flatter


def test_large_epsilon_makes_all_objects_one() -> None:
    patches, prototypes = noise(0, 1, 16, 12), noise(1, 1, 3, 12)
    same = objects.refined(prototypes, patches, epsilon=1e6)
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-3, atol=1e-4)
    maps = objects.followed(same, noise(2, 1, 16, 12))
    assert float(objects.overlap(maps)) == pytest.approx(1, abs=1e-3)
    printed = objects.refined(prototypes, patches, mass="picture")
    torch.testing.assert_close(printed * 16, objects.refined(prototypes, patches))


def test_overlap() -> None:
    maps = torch.eye(4)[[0, 1, 2]]
    assert float(objects.overlap(maps)) == 0 and float(objects.overlap(maps[[0, 0]])) == 1
    assert float(objects.overlap(torch.stack([maps[0], (maps[0] + maps[1]) / 2]))) == 0.5
    assert float(objects.overlap(maps[:1])) == 1


def blobs() -> tuple[Tensor, Tensor]:
    """Three coloured blobs that move over 8 x 8 black patches in 4 frames: f32[4, 64, 3] colours as features, bool[4, 3, 64] where."""
    where = torch.zeros(4, 3, 8, 8, dtype=torch.bool)
    for t in range(4):
        for k, (y, x) in enumerate(((0, t), (3, 4 - t), (5 + t // 2, 1 + t))):
            where[t, k, y : y + 2, x : x + 2] = True
    where = where.flatten(2)
    return where.transpose(1, 2).float(), where


def test_objects_are_followed() -> None:
    """Heads that look at two blobs at once, one more than the other: every mask lies on its blob in every frame, and Sinkhorn makes
    them more distinct. A ground with features of its own is shared out among the objects, too, and would outweigh them."""
    colours, where = blobs()
    looks = where[0].float() / 4
    mixed = 0.7 * looks + 0.3 * looks.roll(1, 0)
    scale = 8.0
    prototypes = objects.pooled(mixed[None], scale * colours[:1], torch.tensor([[0, 1, 2]]))
    plain = objects.followed(prototypes.expand(4, -1, -1), scale * colours)
    refined = objects.refined(prototypes, colours[:1], epsilon=0.5)
    maps = objects.followed(refined.expand(4, -1, -1), scale * colours)
    masks = objects.cut_out(maps.unsqueeze(2)).squeeze(2).bool()
    shared = (masks & where).sum(-1) / (masks | where).sum(-1)
    assert shared.min() > 0.7
    assert objects.overlap(maps).max() < objects.overlap(plain).min()


def test_masks() -> None:
    maps = noise(0, 2, 3, 16).softmax(-1)
    units = maps / maps.norm(dim=-1, keepdim=True)
    assert torch.equal(objects.cut_out(maps), torch.stack([(one > one.mean()).float() for one in units]))
    soft = objects.shaded(maps)
    torch.testing.assert_close(soft.amax(-1), torch.ones(2, 3))
    picture, mask = torch.ones(1, 3, 4, 4), torch.tensor([[[1.0, 0.0, 0.0, 0.5]]])
    seen = seen_through(picture, mask, 2)
    assert seen.shape == (1, 1, 3, 4, 4) and seen[0, 0, 0].tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 0.5, 0.5]] * 2


# --- the method ------------------------------------------------------------------------------------------------------------------

PRESETS = [
    TINY,
    replace(DoraConfig.paper(), views=replace(DoraConfig.paper().views, parent=Parent(40), large=32, small=16, smalls=2)),
]
PRESETS.append(replace(DoraConfig.release(), views=replace(VIEWS, larges=1)))
PRESETS = [replace(one, prototypes=24, hidden=32, bottleneck=16) for one in PRESETS]


@pytest.mark.parametrize("config", PRESETS, ids=["foveate", "paper", "release"])
def test_gradients_reach_the_student_alone(config: DoraConfig) -> None:
    method = tiny(config)
    loss, _ = method.step(clips(), at())
    loss.backward()
    assert all(p.grad is None for module in (method.teacher, method.teacher_head) for p in module.parameters())
    trained = {id(p) for group in method.param_groups() for p in group.params}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}
    for group in method.param_groups():
        for p in group.params:
            assert p.grad is not None and torch.isfinite(p.grad).all()
    assert method.student.patch_embed.proj.weight.grad.norm() > 0  # type: ignore[union-attr]


def test_both_ways_have_gradients_and_hidden_patches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    method, leaves = tiny(), {}

    def views(*given: Any) -> ClipViews:
        made = clip_views(*given)
        leaves["large"], leaves["small"] = made.large.requires_grad_(), made.small.requires_grad_()
        return made

    def shown(pictures: Tensor, masks: Tensor, patch: int) -> Tensor:
        leaves["masks"] = masks
        return seen_through(pictures, masks, patch)

    monkeypatch.setattr(dora, "clip_views", views)
    monkeypatch.setattr(dora, "seen_through", shown)
    method.step(clips(), at())[0].backward()
    large, small = leaves["large"].grad, leaves["small"].grad
    assert large is not None and small is not None and (small.flatten(3).norm(dim=-1) > 0).all()
    patches = large.abs().sum(3).unflatten(-1, (4, 8)).unflatten(-3, (4, 8)).sum((-1, -3)).flatten(3)  # [V, T, B, n]
    hidden = (leaves["masks"] == 0).all(3)
    assert hidden.any() and (patches[hidden] == 0).all() and (patches[~hidden] > 0).all()


def test_passes_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    """k objects, exactly k passes of each large picture; two views, each taught by the other."""
    method = tiny(replace(TINY, objects=4))
    shapes: list[list[torch.Size]] = []
    many: Callable[..., Any] = method.student.many
    monkeypatch.setattr(
        method.student, "many", lambda pictures: shapes.append([one.shape for one in pictures]) or many(pictures)
    )
    method.step(clips(4, 3), at())
    assert shapes == [[torch.Size((4 * 2 * 3 * 4, 3, 32, 32)), torch.Size((3 * 3 * 4, 3, 16, 16))]]


def test_one_frame_one_object_nothing_hidden_is_dino() -> None:
    """The image version, and DINO's cross-entropy with the constant of its temperatures."""
    config = replace(TINY, objects=1, mask="none", views=replace(VIEWS, larges=1, smalls=1))
    method, batch = tiny(config), clips(4, 1)
    _, parts = method.step(batch, at())
    seen = clip_views(batch.frames[:, 0], batch.valid, batch.index, 3, 0, config.views)
    teacher = method.teacher_head(method.teacher(seen.large.flatten(0, 2)).cls)
    student = method.head(method.student(seen.large.flatten(0, 2)).cls)
    wanted = -((teacher / 0.04).softmax(-1) * (student / 0.1).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(parts["object"], wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("times", [1, 2])
def test_the_loss_written_out(times: int) -> None:
    """Frame by frame, view by view, object by object, crop by crop; T = 1 looks at keys of the same picture."""
    method, batch, config = tiny(), clips(4, times), TINY
    seen = clip_views(batch.frames[:, 0], batch.valid, batch.index, 3, 0, config.views)
    chosen, total, first = objects.choose(3, 0, np.arange(4), 6, 3), [], 1
    with torch.no_grad():
        targets = [[(method.teacher_head(method.teacher(x).cls) / 0.04).softmax(-1) for x in view] for view in seen.large]
    for v in range(2):
        start, (qkv,) = method.teacher.watch(seen.large[v, 0], [-1])
        for t in range(times):
            keys = method.teacher.watch(seen.large[v, t], [-1])[1][0].keys[:, :, first:].transpose(1, 2).flatten(2)
            queries, maps = qkv.queries[:, :, first:].transpose(1, 2).flatten(2), qkv.attention(1)[:, :, 0, first:]
            follow = []
            for b in range(4):
                prototypes = maps[b, chosen[b]] @ queries[b]
                z = torch.nn.functional.normalize(start.patches[b], dim=-1)
                m = losses.assignments(prototypes @ z.T) * 16
                follow.append(((m @ z) @ keys[b].T * 48**-0.5).softmax(-1))
            looks = torch.stack(follow)  # [B, k, n]
            for i in range(3):
                unit = looks[:, i] / looks[:, i].norm(dim=-1, keepdim=True)
                mask = (unit > unit.mean()).float().view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
                student = method.head(method.student(seen.large[v, t] * mask).cls)
                ce = -(targets[1 - v][t] * (student / 0.1).log_softmax(-1)).sum(-1).mean()
                total.append(ce / (2 * 2 * 3 * times))
            for crop in seen.small[:, t]:
                student = method.head(method.student(crop).cls)
                ce = -(targets[v][t] * (student / 0.1).log_softmax(-1)).sum(-1).mean()
                total.append(ce / (2 * 2 * len(seen.small) * times))
    torch.testing.assert_close(method.step(batch, at())[0], torch.stack(total).sum(), rtol=2e-5, atol=1e-5)


def test_samples_depend_on_their_number_alone() -> None:
    """With soft masks nothing looks at the batch: two halves are the whole."""
    method = tiny(replace(TINY, edge="soft"))
    assert not method.whole_batch and tiny().whole_batch
    batch = clips()
    whole, *halves = (method.step(part, at())[0].detach() for part in (batch, batch.part(0, 2), batch.part(2, 4)))
    torch.testing.assert_close(torch.stack(halves).mean(), whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize("switch", [{"mask": "random"}, {"sinkhorn": False}, {"layer": "second_last"}, {"objects": 16}])
def test_switches_do_something(switch: dict[str, Any]) -> None:
    plain, parts = (tiny(replace(TINY, **change)).step(clips(), at()) for change in ({}, switch))
    assert torch.isfinite(parts[0]) and parts[0].item() != plain[0].item()


def test_random_masks_are_the_same_in_all_frames_and_others_for_each_object() -> None:
    method = tiny(replace(TINY, mask="random"))
    masks = method._masks(torch.rand(2, 3, 4, 3, 16), np.arange(4), at())
    assert (masks == masks[:1, :1]).all() and len({tuple(one.flatten().tolist()) for one in masks[0, 0].flatten(0, 1)}) > 6
    assert 0.5 <= float(masks.mean()) < 0.95


def test_teacher_and_centre_follow() -> None:
    method = tiny()
    with torch.no_grad():
        method.student.norm.weight.add_(1.0)
    before = method.teacher.norm.weight.clone()
    method.step(clips(), at())
    logits = method.teacher_head(
        method.teacher(clip_views(clips().frames[:, 0], clips().valid, torch.arange(4), 3, 0, VIEWS).large.flatten(0, 2)).cls
    )
    method.after_step(at())
    torch.testing.assert_close(method.teacher.norm.weight, before + 0.1)
    torch.testing.assert_close(method.centre.value, 0.1 * logits.mean(0), rtol=1e-4, atol=1e-6)


def test_published_schedules() -> None:
    config = DoraConfig()
    assert config.momentum.at(0, 100) == 0.996 and config.momentum.at(100, 100) == 1
    assert config.teacher_temperature.at(0, 100) == config.teacher_temperature.at(99, 100) == 0.04
    frozen = {group.frozen for group in tiny().param_groups()}
    assert frozen == {0, 10}


def test_bad_input() -> None:
    with pytest.raises(FoveateError, match="30 px"):
        tiny(replace(TINY, views=replace(VIEWS, large=30)))
    with pytest.raises(ValueError, match="one draw"):
        tiny().step(replace(clips(), frames=clips().frames.repeat(1, 2, 1, 1, 1, 1)), at())


# --- views of clips --------------------------------------------------------------------------------------------------------------


def still(times: int = 3) -> Clips:
    """Clips whose frames are all the same."""
    batch = clips(4, 1)
    return replace(batch, frames=batch.frames.repeat(1, 1, times, 1, 1, 1))


def test_large_views_are_one_crop_of_all_frames() -> None:
    batch = still()
    plain = replace(VIEWS, colours="clip")
    seen = clip_views(batch.frames[:, 0], batch.valid, batch.index, 0, 0, plain)
    assert seen.large.shape == (2, 3, 4, 3, 32, 32) and seen.small.shape == (3, 3, 4, 3, 16, 16)
    assert torch.equal(seen.large, seen.large[:, :1].expand_as(seen.large))
    assert not torch.equal(seen.small[:, 0], seen.small[:, 1])
    fixed = clip_views(batch.frames[:, 0], batch.valid, batch.index, 0, 0, replace(plain, small_boxes="clip"))
    assert torch.equal(fixed.small, fixed.small[:, :1].expand_as(fixed.small)) and torch.equal(fixed.large, seen.large)
    released = clip_views(batch.frames[:, 0], batch.valid, batch.index, 0, 0, VIEWS)
    assert not torch.equal(released.large[:, 0], released.large[:, 1])  # colours of each frame


def test_small_views_are_mirrored_in_dinos_style_alone() -> None:
    index = np.arange(400)
    small = [clip_views_flips(replace(VIEWS, style=style), index) for style in ("release", "dino")]
    assert small[0] == 0 and 0.4 < small[1] < 0.6


def clip_views_flips(how: ClipAugmentation, index: np.ndarray[Any, Any]) -> float:
    from foveate.data.clip_views import _over_time

    drawn = _over_time(index, 2, 0, 0, how.larges, how.kinds()[-1], how)
    assert np.array_equal(drawn.flip[:400], drawn.flip[400:])
    return float(drawn.flip.mean())


def test_views_stay_inside_the_content() -> None:
    batch = clips(4, 2)
    frames = batch.frames[:, 0].clone()
    frames[..., :, 32:] = 0
    frames[..., :, :32] = 200
    valid = torch.tensor([[0.0, 0.0, 0.5, 1.0]]).repeat(4, 1)
    seen = clip_views(frames, valid, batch.index, 0, 0, VIEWS)
    for b in range(4):  # one colour throughout, whatever it has become
        assert seen.large[0, 0, b].flatten(1).std(1).max() < 0.05
