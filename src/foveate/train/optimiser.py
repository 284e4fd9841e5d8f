"""AdamW, SGD or LARS, one group of parameters for each pair of multipliers, gradients clipped part by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate.methods.moment import Group
from foveate.train.parallel import whole
from foveate.train.settings import Training


def made(groups: list[Group], training: Training) -> torch.optim.Optimizer:
    """AdamW, SGD with momentum, or LARS, as the settings say, over all groups; those with the same multipliers share one, because each
    costs launches of its own."""
    shared: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    for group in groups:
        shared.setdefault((group.lr, group.decay, group.frozen), []).extend(group.params)
    given: list[dict[str, Any]] = [
        {"params": params, "times": lr, "decay_times": decay, "frozen": frozen}
        for (lr, decay, frozen), params in shared.items()
    ]
    params = [param for members in shared.values() for param in members]
    if len({id(param) for param in params}) < len(params):
        raise ValueError("a parameter stands in two groups")
    fused = all(param.device.type == "cuda" for param in params)
    if training.optimiser == "sgd":
        return torch.optim.SGD(given, lr=0.0, momentum=training.momentum, fused=fused)
    if training.optimiser == "lars":
        return Lars(given, training.momentum)
    return torch.optim.AdamW(given, lr=0.0, betas=training.betas, weight_decay=0.0, fused=fused)


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose steps are proportional to the weights they change (You et al. 2017, algorithm 1), as in DINO's code.

    The gradient of a matrix, decay included, is scaled to ``trust`` times the norm of the matrix; biases and norms, which have one
    dimension, are neither decayed nor scaled. Deviation from algorithm 1, as in that code: decay is part of the gradient whose norm is
    taken, and momentum is of the scaled gradients, the rate being applied last.
    """

    def __init__(self, params: list[dict[str, Any]], momentum: float, trust: float = 0.001) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": 0.0})
        self.momentum, self.trust = momentum, trust

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change all parameters that have a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                change = param.grad
                if param.ndim > 1:
                    change = change.add(param, alpha=group["weight_decay"])
                    size, norm = param.norm(), change.norm()
                    known = (size > 0) & (norm > 0)
                    change = change * torch.where(known, self.trust * size / norm, 1.0)
                state = self.state[param]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(param)
                state["momentum_buffer"].mul_(self.momentum).add_(change)
                param.add_(state["momentum_buffer"], alpha=-group["lr"])


def set_rates(optimiser: torch.optim.Optimizer, training: Training, step: int) -> tuple[float, float]:
    """Learning rate and weight decay of a step, times each group's multipliers. A frozen group has rate 0, which stops the decay, too; its
    moments go on, as in the released code of DINOv2."""
    lr, decay = training.lr.at(step, training.steps), training.decay.at(step, training.steps)
    for group in optimiser.param_groups:
        group["lr"] = 0.0 if step < group["frozen"] else lr * group["times"]
        group["weight_decay"] = decay * group["decay_times"]
    return lr, decay


def clip(parts: dict[str, list[nn.Parameter]], limit: float | None) -> dict[str, Tensor]:
    """Scale the gradients of each part down to the norm ``limit``; the norms before, f32[], by part. Never waits for the device."""
    norms = {}
    for part, params in parts.items():
        grads = [param.grad for param in params if param.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(params, limit, norm)
        norms[part] = whole(norm).detach()
    return norms


def parts_of(groups: list[Group]) -> dict[str, list[nn.Parameter]]:
    """The parameters of each part."""
    parts: dict[str, list[nn.Parameter]] = {}
    for group in groups:
        parts.setdefault(group.part, []).extend(group.params)
    return parts
