"""Momentum contrast: queue, momentum encoder, shuffled normalisation, and RSPNet on top of them."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate import losses_contrastive as losses
from foveate.methods import keys
from foveate.methods.moco import Moco, MocoConfig
from foveate.methods.rspnet import Rspnet, RspnetConfig
from foveate.models.conv_model import Maps
from foveate.schema import FoveateError
from tests.contrasted import CROPS, at, clips, net, state, trained

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "contrast.json").read_text(encoding="utf-8"))
TINY = MocoConfig(crops=CROPS, hidden=16, dimension=8, queue=24, groups=2)
SPEEDS = RspnetConfig(crops=CROPS, dimension=8, queue=24, groups=2, reference=4)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- the queue -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 12, 10, 4])
def test_the_queue_holds_the_newest_keys(length: int) -> None:
    """In place, wherever its end falls; keys that do not fit before the end go on at the beginning."""
    queue = keys.Queue(length, 3)
    place, everything = queue.keys.data_ptr(), torch.empty(0, 3)
    for step in range(7):
        new = functional.normalize(torch.randn(4, 3), dim=1)
        queue.put(new, torch.arange(4) + 10 * step, at(step, 4))
        everything = torch.cat([everything, new])
        held = {tuple(row) for row in queue.keys.tolist()}
        assert {tuple(row) for row in everything[-length:].tolist()} <= held
        if 4 * (step + 1) >= length:
            owners = sorted(queue.get_buffer("owner").tolist())
            assert owners == sorted([k + 10 * s for s in range(step + 1) for k in range(4)])[-length:]
    assert queue.keys.data_ptr() == place and not queue.keys.requires_grad


def test_a_queue_shorter_than_a_batch_is_refused() -> None:
    with pytest.raises(FoveateError, match="a queue of 6 keys is shorter than a batch of 8"):
        trained(Moco(net(), replace(TINY, queue=6)), 1)
    assert np.isfinite([told["loss"] for told in trained(Moco(net(), replace(TINY, queue=20)), 4)]).all()


def test_no_queue_no_loss() -> None:
    assert trained(Moco(net(), replace(TINY, queue=0)), 1)[0]["loss"] == 0


# --- the momentum encoder --------------------------------------------------------------------------------------------------------


def weights(encoder: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.parameters()])


@pytest.mark.parametrize("momentum", [1.0, 0.0, 0.9])
def test_the_momentum_encoder_follows(momentum: float) -> None:
    method = Moco(net(), replace(TINY, momentum=momentum))
    before = weights(method.key_encoder)
    assert torch.equal(before, weights(method.encoder))
    trained(method, 1)
    query = weights(method.encoder)
    torch.testing.assert_close(weights(method.key_encoder), momentum * before + (1 - momentum) * query)
    assert not torch.equal(query, before)


def test_only_the_query_encoder_learns() -> None:
    """Each trained parameter stands in one group and has a gradient; keys, queue and momentum encoder have none."""
    for method in (Moco(net(), TINY), Rspnet(net("r2plus1d_18"), SPEEDS)):
        listed = [p for group in method.param_groups() for p in group.params]
        assert {id(p) for p in listed} == {id(p) for p in method.parameters() if p.requires_grad}
        loss, told = method.step(clips(frames=8), at()) if isinstance(method, Rspnet) else method.step(clips(), at())
        loss.backward()
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in listed)
        assert all(p.grad is None for p in method.key_encoder.parameters())
        assert not any(value.requires_grad for value in told.values())


def test_moco_is_its_formula() -> None:
    """A step, written out on the crops that it made."""
    method = Moco(net(), replace(TINY, groups=1))
    trained(method, 2)
    batch = clips(step=2)
    pair = method.pair(batch, at(2))
    with torch.no_grad():
        query = functional.normalize(method.encoder.heads[0](method.encoder.net(pair.query.pictures).cls), dim=1)
        key = functional.normalize(method.key_encoder.heads[0](method.key_encoder.net(pair.key.pictures).cls), dim=1)
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ method.queue.keys.T], 1) / 0.2
    expected = functional.cross_entropy(logits, torch.zeros(8, dtype=torch.long))
    assert float(method.step(batch, at(2))[0].detach()) == pytest.approx(float(expected), abs=1e-5)


def test_keys_are_normalised_with_others() -> None:
    """Half of the batch at a time, and not the halves that queries had; put back where they belong."""
    method = Moco(net(), TINY)
    pictures = torch.randn(8, 3, 32, 32)
    plain = keys.encoded(method.key_encoder, pictures, at(), "key", shuffle=False)[0]
    mixed = keys.encoded(method.key_encoder, pictures, at(), "key", shuffle=True)[0]
    again = keys.encoded(method.key_encoder, pictures, at(), "key", shuffle=True)[0]
    other = keys.encoded(method.key_encoder, pictures, at(1), "key", shuffle=True)[0]
    torch.testing.assert_close(mixed, again)
    assert float((mixed - plain).abs().max()) > 1e-3 and float((mixed - other).abs().max()) > 1e-4
    method.key_encoder.eval()  # where nothing is normalised over the batch, the order is all that could go wrong
    torch.testing.assert_close(
        keys.encoded(method.key_encoder, pictures, at(), "key", shuffle=True)[0],
        keys.encoded(method.key_encoder, pictures, at(), "key", shuffle=False)[0],
    )


def test_keys_of_the_same_footage_do_not_count_as_others() -> None:
    method = Moco(net(), replace(TINY, only_other_videos=True))
    trained(method, 1)
    batch = clips(step=1)
    pair = method.pair(batch, at(1))
    hidden = method.queue.others(pair.owner)
    assert (
        hidden.sum(1).tolist() == [2] * 8
    )  # two of the batch before came from each of four files; the rest is noise of nobody
    key = keys.encoded(method.key_encoder, pair.key.pictures, at(1), "key", True)[0]
    _, (query,) = method.encoder(pair.query.pictures)
    expected = losses.info_nce(query, key, method.queue.keys, 0.2, hidden).detach()
    torch.testing.assert_close(method.contrast(pair, at(1)).loss.detach(), expected)
    assert float(expected) < float(losses.info_nce(query, key, method.queue.keys, 0.2).detach())


def test_one_picture_has_two_crops() -> None:
    pair = Moco(net(), TINY).pair(clips(draws=1), at())
    assert not torch.equal(pair.query.pictures, pair.key.pictures)


# --- RSPNet ----------------------------------------------------------------------------------------------------------------------


class Handed(nn.Module):
    """An encoder that hands on the means of a clip's channels as two unit vectors, as when the numbers were recorded."""

    def forward(self, clips: Tensor) -> tuple[Maps, list[Tensor]]:
        vectors = clips.mean((2, 3, 4))
        maps = Maps(vectors, clips)
        return maps, [functional.normalize(vectors[:, :6], dim=1), functional.normalize(vectors[:, 6:], dim=1)]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_rspnet_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of RSPNet's own code, with the halves of the batch that it drew."""
    method = Rspnet(net("r2plus1d_18"), replace(SPEEDS, dimension=6, queue=12, groups=1))
    method.encoder = method.key_encoder = Handed()  # type: ignore[assignment]
    method.queue.keys.copy_(functional.normalize(normal(9, 12, 6), dim=1))
    for step, golden in enumerate(GOLDEN["rspnet"]["steps"]):
        faster = np.array([k not in golden["slow"] for k in range(4)])
        monkeypatch.setattr(method, "_faster", lambda count, moment, faster=faster: faster)
        query, key = normal(60 + step, 4, 12, 8, 1, 1), normal(80 + step, 4, 12, 8, 1, 1)
        crop = method.pair(clips(4, frames=8), at(step, 4)).query
        query = method._played(query, at(step, 4), other=False)
        from foveate.methods.moco import Pair

        pair = Pair(replace(crop, pictures=query), replace(crop, pictures=key), torch.zeros(4, dtype=torch.long))
        told = method.contrast(pair, at(step, 4)).told
        assert float(told["looks"]) == pytest.approx(golden["looks"], rel=1e-5)
        assert float(told["motion"]) == pytest.approx(golden["motion"], rel=1e-5)
        monkeypatch.setattr(keys, "follow", lambda *_: None)
        method.after_step(at(step, 4))
    torch.testing.assert_close(method.queue.keys.flatten()[:24], torch.tensor(GOLDEN["rspnet"]["queue"]))


def test_half_of_a_batch_plays_faster() -> None:
    method = Rspnet(net("r2plus1d_18"), SPEEDS)
    clip = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(8, 3, -1, 1, 1)
    drawn = []
    for step in range(6):
        played, other = (method._played(clip, at(step), other=which)[:, 0, :, 0, 0] for which in (False, True))
        rows = {(0.0, 1.0, 2.0, 3.0), (0.0, 2.0, 4.0, 6.0)}
        assert {tuple(row) for row in played.tolist()} == rows and not (played == other)[:, 1:].any()
        fast = (played[:, 3] == 6).tolist()
        assert sum(fast) == 4
        drawn.append(tuple(fast))
    assert len(set(drawn)) > 3


def test_clips_too_short_for_speed() -> None:
    with pytest.raises(FoveateError, match="clips of 3 frames are too short"):
        Rspnet(net("c3d"), SPEEDS).step(clips(frames=3), at())


# --- processes -------------------------------------------------------------------------------------------------------------------


def process(rank: int, folder: str, kind: str) -> None:
    import os

    from torch import distributed

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder}/{kind}", rank=rank, world_size=2)
    try:
        method = made(kind, groups=1)
        steps(method, slice(4 * rank, 4 * rank + 4), 2)
        torch.save(state(method), f"{folder}/{kind}-{rank}.pt")
    finally:
        distributed.destroy_process_group()


def made(kind: str, groups: int) -> nn.Module:
    from foveate.methods.previts import Previts, PrevitsConfig

    if kind == "previts":
        return Previts(net(), PrevitsConfig(replace(TINY, groups=groups)))
    return Rspnet(net("r2plus1d_18"), replace(SPEEDS, groups=groups))


def steps(method: Any, mine: slice, processes: int) -> None:
    from torch import distributed

    params = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(
        params, lr=1e-3
    )  # gradients of a few samples normalised by themselves are large: rounding grows
    for step in range(2):
        batch = clips(frames=1 if hasattr(method, "base") else 8, step=step, masks="odd").part(mine.start, mine.stop)
        loss, _ = method.step(batch, at(step))
        optimiser.zero_grad()
        loss.backward()
        for param in params if processes > 1 else ():
            distributed.all_reduce(param.grad)
            param.grad /= processes
        optimiser.step()
        method.after_step(at(step))


@pytest.mark.parametrize("kind", ["previts", "rspnet"])
def test_two_processes_are_one(kind: str, tmp_path: Path) -> None:
    """With a part of the batch each, against one that normalises two parts: queue, encoders, moving statistics."""
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=process, args=(rank, str(tmp_path), kind)) for rank in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
        assert one.exitcode == 0
    alone = made(kind, groups=2)
    steps(alone, slice(0, 8), 1)
    first, second = (torch.load(tmp_path / f"{kind}-{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in state(alone).items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
