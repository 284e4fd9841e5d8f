"""Small networks and clips for the tests of momentum contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from foveate.data.clips import Clips
from foveate.data.pairs import Crops
from foveate.methods.moment import Moment
from foveate.models.convnets import ConvConfig, ConvNet, Network

CROPS = Crops(size=32, area=(0.4, 1.0), cover=0.3)


def net(network: Network = "resnet18", stem: int = 4) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(ConvConfig(network, stem))


def at(step: int = 0, batch: int = 8) -> Moment:
    return Moment(step=step, steps=100, epoch=10, seed=3, batch=batch)


def clips(batch: int = 8, draws: int = 2, frames: int = 1, side: int = 48, step: int = 0, masks: str = "all") -> Clips:
    """Noise of a colour of its own per sample with a bright disc that is the subject; ``masks``: all, none, odd (of odd samples), full."""
    rng = np.random.default_rng(100 + step)
    pictures = rng.integers(0, 60, (batch, draws, frames, 3, side, side)).astype(np.uint8)
    pictures += rng.integers(0, 80, (batch, 1, 1, 3, 1, 1)).astype(np.uint8)
    rows, columns = np.mgrid[:side, :side]
    x, y = rng.uniform(12, side - 12, (2, batch, draws, 1, 1, 1))
    disc = np.broadcast_to((columns - x) ** 2 + (rows - y) ** 2 < 81, (batch, draws, frames, side, side)).copy()
    pictures += (disc[:, :, :, None] * 110).astype(np.uint8)
    if masks == "none":
        disc[:] = False
    if masks == "odd":
        disc[::2] = False
    if masks == "full":
        disc[:] = True
    where = np.full((batch, draws, frames, 4), -1, np.int32)
    where[..., 0] = np.arange(batch)[:, None, None] % 4
    return Clips(
        frames=torch.from_numpy(pictures),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(batch, 1),
        time=torch.zeros(batch, draws, frames, dtype=torch.float64),
        where=torch.from_numpy(where),
        index=step * batch + torch.arange(batch),
        masks=torch.from_numpy(disc),
    )


def trained(method: nn.Module, steps: int, **given: object) -> list[dict[str, float]]:
    """Some steps of SGD; what each told, and its loss."""
    groups = method.param_groups()  # type: ignore[operator]
    optimiser = torch.optim.SGD([p for group in groups for p in group.params], lr=0.02, momentum=0.9)
    told = []
    for step in range(steps):
        batch = clips(step=step, **given)  # type: ignore[arg-type]
        loss, metrics = method.step(batch, at(step, len(batch)))  # type: ignore[operator]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(at(step, len(batch)))  # type: ignore[operator]
        told.append({name: float(value) for name, value in metrics.items()} | {"loss": float(loss.detach())})
    return told


def state(method: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def without_masks(batch: Clips) -> Clips:
    return replace(batch, masks=None)
