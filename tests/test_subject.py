"""The mask as more than a place to crop: other backgrounds, shares of patches, masks and targets that know the subject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.data.augment import Draws, views
from foveate.data.blockmasks import BlockMasks
from foveate.data.subject import changed, patch_shares, subject_mean
from foveate.methods.dinov2 import Dinov2
from foveate.schema import FoveateError
from tests.test_dinov2 import TINY, at, pictures, tiny

RED = torch.tensor([250, 0, 0], dtype=torch.uint8).view(3, 1, 1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def meadow(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Red subjects on grounds of one colour each, without red, a tenth of the picture at the top being black letterbox."""
    frames = torch.zeros(count, 3, 60, 60, dtype=torch.uint8)
    masks = torch.zeros(count, 60, 60, dtype=torch.bool)
    for k in range(count):
        frames[k, 1], frames[k, 2] = 40 + 15 * k, 235 - 15 * k
        masks[k, 20 + k : 45, 10:40] = True
        frames[k] = torch.where(masks[k], RED, frames[k])
    frames[:, :, :6] = 0
    valid = torch.tensor([[0, 0.1, 1, 1]]).repeat(count, 1)
    return frames, masks, valid


def away(mask: Tensor, by: int) -> Tensor:
    """What is further than ``by`` pixels from the mask, inside the content."""
    grown = torch.nn.functional.max_pool2d(mask[None].float(), 2 * by + 1, 1, by)[0] > 0
    grown[:6] = True
    return ~grown


def test_blurred_backgrounds_know_nothing_of_the_subject() -> None:
    frames, masks, valid = meadow()
    noise = torch.randint(0, 30, frames.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise[:, 0] = 0
    frames = torch.where(masks.unsqueeze(1), frames, frames + noise)
    out = changed(frames, masks, valid, torch.arange(12), 0, 0, "blur")
    touched = [k for k in range(12) if not torch.equal(out[k], frames[k])]
    assert 2 <= len(touched) <= 10
    for k in touched:
        inside = masks[k] & (torch.nn.functional.avg_pool2d(masks[k][None].float(), 3, 1, 1)[0] > 0.999)
        assert torch.equal(out[k][:, inside], frames[k][:, inside])
        ground, before = out[k][:, away(masks[k], 2)].float(), frames[k][:, away(masks[k], 2)].float()
        assert ground[0].max() == 0  # no red, though it is a mean over a wide neighbourhood
        assert ground[1:].std(1).max() < 0.5 * before[1:].std(1).min()
        torch.testing.assert_close(ground.mean(1), before.mean(1), atol=1.5, rtol=0)


def test_swapped_backgrounds_are_those_of_others() -> None:
    frames, masks, valid = meadow()
    out = changed(frames, masks, valid, torch.arange(12), 0, 0, "swap")
    touched = [k for k in range(12) if not torch.equal(out[k], frames[k])]
    assert len(touched) >= 2
    colours = {(40 + 15 * k, 235 - 15 * k) for k in range(12)}
    for k in touched:
        ground = out[k][:, away(masks[k], 2)]
        assert ground[0].max() == 0  # the other's subject is not in it, nor its black letterbox
        seen = {tuple(pixel) for pixel in ground[1:].T.tolist()}
        assert len(seen) <= 3 and seen & colours and (40 + 15 * k, 235 - 15 * k) not in seen
        assert masks[k].sum() and (out[k][0] == 250).sum() > 0.8 * masks[k].sum()


def test_masks_that_are_too_small_show_no_rim() -> None:
    frames, masks, valid = meadow()
    small = 1 - torch.nn.functional.max_pool2d(1 - masks.float(), 5, 1, 2) > 0  # two pixels of red all around
    for background in ("blur", "swap"):
        out = changed(frames, small, valid, torch.arange(12), 0, 0, background)
        touched = [k for k in range(12) if not torch.equal(out[k], frames[k])]
        assert touched and all(out[k][0, away(small[k], 2)].max() == 0 for k in touched)


def test_which_pictures_are_changed_belongs_to_them() -> None:
    frames, masks, valid = meadow()
    frames += torch.randint(0, 20, frames.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = changed(frames, masks, valid, torch.arange(12), 0, 5, "blur")
    some = torch.tensor([7, 2, 11])
    assert torch.equal(changed(frames[some], masks[some], valid[some], some, 0, 5, "blur"), whole[some])
    assert not torch.equal(changed(frames, masks, valid, torch.arange(12), 0, 6, "blur"), whole)
    often = [(changed(frames, masks, valid, torch.arange(12), 0, k, "blur") != frames).flatten(1).any(1) for k in range(60)]
    assert abs(torch.stack(often).float().mean() - 0.5) < 0.1
    assert changed(frames, masks, valid, torch.arange(12), 0, 5, "keep") is frames
    for background in ("blur", "swap"):
        nobody = torch.zeros_like(masks)
        assert torch.equal(changed(frames, nobody, valid, torch.arange(12), 0, 5, background), frames)
        everywhere = changed(frames, torch.ones_like(masks), valid, torch.arange(12), 0, 5, background)
        assert (everywhere.int() - frames.int())[:, :, 6:].abs().max() == 0


def test_the_teacher_sees_pictures_as_they_are() -> None:
    frames, masks, valid = meadow()
    other = changed(frames, masks, valid, torch.arange(12), 0, 0, "swap")
    plain = views(frames, valid, torch.arange(12), 0, 0, TINY.views)
    seen = views(frames, valid, torch.arange(12), 0, 0, TINY.views, other)
    assert torch.equal(seen.taught, plain.large) and plain.taught is plain.large
    same = (other == frames).flatten(1).all(1)
    assert torch.equal(seen.large[:12][same], plain.large[:12][same]) and not torch.equal(seen.large, plain.large)
    assert not torch.equal(seen.small, plain.small)


def test_shares_of_patches_are_areas() -> None:
    masks = torch.from_numpy(np.random.default_rng(0).random((3, 40, 52)) < 0.3)
    box = np.array([[0, 0, 52, 40], [5, 3, 37, 35], [10, 20, 21, 27]] * 2)
    flip = np.array([False, True, False, True, False, True])
    found = patch_shares(masks, replace(_draws(6), box=box, flip=flip), 4).view(6, 4, 4)
    for k, (x0, y0, x1, y1) in enumerate(box.tolist()):
        fine = masks[k % 3, y0:y1, x0:x1].float().repeat_interleave(4, 0).repeat_interleave(4, 1)
        wanted = fine.view(4, y1 - y0, 4, x1 - x0).mean((1, 3))
        torch.testing.assert_close(found[k], wanted.flip(1) if flip[k] else wanted)


def _draws(count: int) -> Draws:
    no, zero = np.zeros(count, dtype=bool), np.zeros(count)
    return Draws(np.zeros((count, 4), dtype=np.int64), no, np.zeros((count, 4), dtype=np.int64), zero, no, zero, no)


def test_mean_of_the_subject() -> None:
    patches, shares = torch.randn(3, 9, 5), torch.zeros(3, 9)
    shares[0, [2, 4]] = torch.tensor([1.0, 0.5])
    shares[1] = 0.01  # less than half a patch altogether: not in the view
    shares[2] = 1.0
    found = subject_mean(patches, shares, torch.full((3, 5), 7.0))
    torch.testing.assert_close(found[0], (patches[0, 2] + 0.5 * patches[0, 4]) / 1.5)
    torch.testing.assert_close(found[1], torch.full((5,), 7.0))
    torch.testing.assert_close(found[2], patches[2].mean(0))


def test_blocks_on_the_subject() -> None:
    """They hide more of a subject in a corner than blocks that fall anywhere do, and as many patches."""
    shares = np.zeros((200, 16, 16), dtype=np.float32)
    shares[:, 9:15, 1:7] = 1
    hidden = {}
    for often in (0.0, 0.5, 1.0):
        masks = BlockMasks(subject=often).draw(np.arange(200), 200, 16, 16, 0, 0, shares.reshape(200, -1)).reshape(-1, 16, 16)
        assert (masks.any((1, 2))).sum() == 100
        hidden[often] = masks[masks.any((1, 2))][:, 9:15, 1:7].mean(), masks.mean()
    assert hidden[1.0][0] > hidden[0.5][0] + 0.05 > hidden[0.0][0] + 0.15
    assert abs(hidden[1.0][1] - hidden[0.0][1]) < 0.01
    nobody = BlockMasks(subject=1.0).draw(np.arange(200), 200, 16, 16, 0, 0, 0 * shares.reshape(200, -1)).reshape(-1, 16, 16)
    assert abs(nobody[nobody.any((1, 2))][:, 9:15, 1:7].mean() - hidden[0.0][0]) < 0.05


@pytest.mark.parametrize(
    "switches",
    [{"background": "blur"}, {"background": "swap"}, {"target": "subject"}, {"masks": BlockMasks(subject=0.7)}],
    ids=["blur", "swap", "target", "masks"],
)
def test_switches_change_the_loss_and_need_masks(switches: dict[str, object]) -> None:
    config = replace(TINY, **switches)
    masks = torch.zeros(6, 1, 1, 40, 40, dtype=torch.bool)
    masks[..., 10:30, 15:32] = True
    method = tiny(config)
    loss, _ = method.step(replace(pictures(), masks=masks), at())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for group in method.param_groups() for p in group.params)
    plain, _ = tiny().step(pictures(), at())
    assert abs(loss - plain).item() > 1e-4
    with pytest.raises(FoveateError, match="no masks"):
        method.step(pictures(), at())


def test_without_a_subject_the_target_is_the_cls_token() -> None:
    nobody = replace(pictures(), masks=torch.zeros(6, 1, 1, 40, 40, dtype=torch.bool))
    assert tiny(replace(TINY, target="subject")).step(nobody, at())[0] == tiny().step(nobody, at())[0]


def test_frozen_blocks_stay() -> None:
    method: Dinov2 = tiny(replace(TINY, frozen_blocks=1, koleo=0.0))
    names = {id(p): name for name, p in method.student.named_parameters()}
    trained = {
        names[id(p)].split(".")[0] + "." + names[id(p)].split(".")[1]
        for g in method.param_groups()
        if g.part == "backbone"
        for p in g.params
    }
    assert trained == {"blocks.1", "norm.weight", "norm.bias"}
    method.step(pictures(), at())[0].backward()
    assert all((p.grad is not None) == p.requires_grad for p in method.student.parameters())
