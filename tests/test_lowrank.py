"""Low-rank updates: nothing changes at first, little is trained, and what is kept is a plain backbone that does the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from foveate.methods.dinov2 import Dinov2
from foveate.models.lowrank import LowRank, add_low_rank, merged
from foveate.models.vit import Vit, VitConfig, load_vit, save_vit, sized
from foveate.schedules import constant
from foveate.train import optimiser
from foveate.train.settings import Training
from tests.test_dinov2 import TINY, at, pictures, tiny

SMALL = VitConfig(image_size=28, patch=7, width=32, depth=3, heads=2, mlp_ratio=2, layer_scale=1.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(rank: int = 0, first: int = 0, learned: float = 0.0) -> Vit:
    """A backbone, with updates of that rank; ``learned``: as after some training."""
    torch.manual_seed(0)
    vit = Vit(SMALL)
    with torch.no_grad():
        for value in vit.parameters():
            value += 0.1 * torch.randn_like(value)
    if rank:
        add_low_rank(vit, rank, first)
    with torch.no_grad():
        for module in vit.modules():
            if isinstance(module, LowRank):
                module.up += learned * torch.randn_like(module.up)
    return vit


def seen(vit: Vit) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(
            [out.patches.flatten() for out in vit.eval().many([torch.ones(1, 3, 28, 28), torch.ones(2, 3, 14, 21)])]
        )


def test_the_first_step_sees_the_network_as_it_was() -> None:
    assert torch.equal(seen(small(rank=4)), seen(small()))


def test_only_updates_and_the_last_norm_are_trained() -> None:
    vit = small(rank=4, first=1)
    trained = {name for name, value in vit.named_parameters() if value.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"down", "up", "weight", "bias"}
    assert {name for name in trained if not name.endswith((".down", ".up"))} == {"norm.weight", "norm.bias"}
    assert {name.split(".")[1] for name in trained if name.startswith("blocks.")} == {"1", "2"}
    vit(torch.ones(1, 3, 28, 28)).cls.sum().backward()
    assert {name for name, value in vit.named_parameters() if value.grad is not None} == trained


def test_the_numbers_of_a_vit_s() -> None:
    with torch.device("meta"):
        vit = Vit(sized("small"))
        add_low_rank(vit, 8)
    sizes = [(384, 3 * 384), (384, 384), (384, 4 * 384), (4 * 384, 384)]
    added = [value for name, value in vit.named_parameters() if name.endswith((".down", ".up"))]
    assert sum(value.numel() for value in added) == 12 * 8 * sum(a + b for a, b in sizes) == 589_824


def test_merged_is_a_plain_network_that_does_the_same() -> None:
    vit, plain = small(rank=4, learned=0.3), small()
    before = seen(plain)
    plain.load_state_dict(merged(vit))
    assert (seen(plain) - seen(vit)).abs().max() < 1e-5 and (seen(plain) - before).abs().max() > 0.05
    assert list(merged(vit)) == [name for name, _ in plain.named_parameters()]
    matrix = vit.blocks[0].attn.qkv
    x = torch.randn(5, 32)
    by_hand = x @ matrix.weight.T + (x @ matrix.down.T) @ matrix.up.T + matrix.bias
    torch.testing.assert_close(matrix(x), by_hand, rtol=0, atol=1e-5)
    assert torch.linalg.matrix_rank(matrix.merged() - matrix.weight, rtol=1e-4) == 4


def test_a_saved_backbone_opens_with_transformers(tmp_path: Path) -> None:
    vit = small(rank=4, learned=0.3)
    save_vit(vit, tmp_path / "tuned")
    model = transformers.AutoModel.from_pretrained(tmp_path / "tuned").eval()
    x = torch.randn(2, 3, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(model(x).last_hidden_state[:, 0], vit.eval()(x).cls, rtol=0, atol=1e-5)
    assert not any(isinstance(module, LowRank) for module in load_vit(tmp_path / "tuned").modules())


@pytest.mark.parametrize("rank", [0, 33])
def test_ranks_that_make_no_sense(rank: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 32, not {rank}"):
        add_low_rank(small(), rank)


# --- in DINOv2 -------------------------------------------------------------------------------------------------------------------

RANKED = replace(TINY, rank=3, frozen_blocks=1, momentum=constant(0.8))


def test_a_step_begins_like_that_of_frozen_blocks() -> None:
    method, plain = (Dinov2(copy.deepcopy(tiny().student), config) for config in (RANKED, replace(RANKED, rank=0)))
    for head in ("head", "teacher_head"):
        getattr(method, head).load_state_dict(plain.head.state_dict())
        getattr(plain, head).load_state_dict(plain.head.state_dict())
    ours, theirs = method.step(pictures(), at()), plain.step(pictures(), at())
    assert torch.equal(ours[0], theirs[0])
    assert not any(isinstance(module, LowRank) for module in method.teacher.modules())


def test_the_teacher_follows_what_updates_make_of_the_matrices() -> None:
    """Three steps by hand: the mean is that of whole matrices, not of their factors."""
    method = Dinov2(tiny().student, RANKED)
    groups = method.param_groups()
    trained = {id(p) for group in groups for p in group.params}
    adamw = optimiser.made(groups, Training(3, 6, constant(0.03), constant(0.04)))
    still = {name: value.clone() for name, value in method.student.named_parameters() if id(value) not in trained}
    name = "blocks.1.mlp.fc1.weight"
    mean = method.teacher.get_parameter(name).clone()
    for step in range(3):
        optimiser.set_rates(adamw, Training(3, 6, constant(0.03), constant(0.04)), step)
        method.step(pictures(), at(step))[0].backward()
        assert {id(p) for p in method.parameters() if p.grad is not None} == trained
        adamw.step()
        adamw.zero_grad()
        method.after_step(at(step))
        layer = method.student.blocks[1].mlp.fc1
        mean = 0.8 * mean + 0.2 * (layer.weight + layer.up @ layer.down)
    torch.testing.assert_close(method.teacher.get_parameter(name), mean, rtol=0, atol=1e-6)
    assert (mean - still[name]).abs().max() > 1e-3
    for other, value in still.items():
        assert torch.equal(method.student.get_parameter(other), value), other
    assert all(
        isinstance(layer, nn.Linear) for layer in (method.backbone().blocks[1].mlp.fc1, method.student.blocks[0].mlp.fc1)
    )
