"""The published training of a linear probe, for its whole grid at once: 13 learning rates x layers x labels in shared matrix products.

Published (Guided DINOv2, supplement; grid, start and schedule from DINOv2's linear evaluation): SGD with momentum .9, no weight decay,
batches of 12, learning rates given for batch 256 and scaled by 12/256, cosine to 0 over 12 epochs of a quarter of the data, weights
from N(0, .01), biases 0. Open in the sources, and read as: the loss is the mean over batch and labels of the binary cross-entropy of
the logits.

Every probe of the grid sees the same batches and begins at the same weights, one vector for all labels, layers and rates. So equal
labels end with equal weights, and a label's weights do not depend on the others but for the ``1 / L`` of the mean. Twelve quarters are
three passes over the rows; each pass is one permutation of *all* rows, and a training set takes from it the rows it has. A last batch that
is not full is dropped.

One step is four products of all probes: logits of the batch, momentum (decayed and increased in one call), weights. At 12 rows a step the
weights of one probe are too little work for a product, which is why the grid is many times faster than its probes one after another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
"""Learning rates for batches of 256."""

BATCH, MOMENTUM, PASSES = 12, 0.9, 3
_START = 0.01  # standard deviation of the first weights
_BLOCK = 32  # batches gathered at once


@dataclass(frozen=True, eq=False)
class Views:
    """What the probes look at: windows of ``C`` layers side by side, possibly others in each pass over the rows.

    Attributes:
        vectors: float ``[n, C * D]``, the layers of one frame one after the other.
        index: int64 ``[P, N, W]`` rows of ``vectors`` that form the window of row i in pass p; P is 1 where all passes are alike.
        target: int8 ``[P, N, L]``: 1, 0, or -1 for not observed.
        layers: C.
    """

    vectors: NDArray[np.floating]
    index: NDArray[np.int64]
    target: NDArray[np.int8]
    layers: int

    @property
    def features(self) -> int:
        """Numbers that one probe sees: ``W * D``."""
        return int(self.index.shape[2] * self.vectors.shape[1] // self.layers)

    def gather(self, which: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
        """f32 ``[C, n, W * D]`` of the rows in the passes ``which``."""
        windows = self.vectors[self.index[which, rows]]
        split = torch.from_numpy(windows.reshape(*windows.shape[:2], self.layers, -1)).permute(2, 0, 1, 3)  # C n W D
        gathered: Tensor = split.to(torch.float32, memory_format=torch.contiguous_format).flatten(2)
        return gathered


@dataclass(frozen=True, eq=False)
class Grid:
    """Trained probes.

    Attributes:
        weight: f32 ``[C, R, L, W * D]`` for C layers and R rates, on raw vectors. bias: f32 ``[C, R, L]``.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, views: Views, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, C * R, L]`` of some rows, as they look in the first pass."""
        layers, rates, labels = self.bias.shape
        out = np.empty((len(rows), layers * rates, labels), dtype=np.float32)
        for first in range(0, len(rows), 1024):
            part = rows[first : first + 1024]
            x = views.gather(np.zeros(len(part), dtype=np.int64), part)
            z = torch.baddbmm(self.bias.flatten(1).unsqueeze(1), x, self.weight.flatten(1, 2).transpose(1, 2))
            out[first : first + 1024] = z.permute(1, 0, 2).reshape(len(part), -1, labels).numpy()
        return out

    def merge(self, choice: NDArray[np.int64], window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One probe for both layers out of the best one of each label.

        Args:
            choice: int64 ``[L]`` numbers of probes, ``layer * R + rate``.
            window: W.

        Returns:
            weight ``[L, W * C * D]`` on windows of both layers, zero where a label does not use a layer; bias ``[L]``.
        """
        layers, rates, labels = self.bias.shape
        each, layer, rate = np.arange(labels), choice // rates, choice % rates
        weight = np.zeros((labels, window, layers, self.weight.shape[-1] // window), dtype=np.float32)
        weight[each, :, layer] = self.weight.numpy()[layer, rate, each].reshape(labels, window, -1)
        return weight.reshape(labels, -1), self.bias.numpy()[layer, rate, each]


def batches(views: Views, rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pass and row of every step, int64 ``[steps, 12]`` each (one smaller batch where there are fewer than 12 in all)."""
    member = np.zeros(views.index.shape[1], dtype=bool)
    member[rows] = True
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(member)) for _ in range(PASSES)]
    kept = [order[member[order]] for order in orders]
    row = np.concatenate(kept)
    which = np.repeat(np.arange(PASSES), len(rows)) % len(views.index)
    size = min(BATCH, len(row))
    steps = len(row) // max(size, 1)
    return which[: steps * size].reshape(steps, size), row[: steps * size].reshape(steps, size)


def start(features: int, seed: int) -> Tensor:
    """f32 ``[features]``: the weights that every probe begins with."""
    return torch.randn(features, generator=torch.Generator().manual_seed(seed)) * _START


def decay(step: int, steps: int) -> float:
    """Share of the learning rate in a step: cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def fit_grid(views: Views, rows: NDArray[np.int64], seed: int = 0, rates: tuple[float, ...] = RATES) -> Grid:
    """Train one probe per layer, rate and label on some rows.

    Args:
        views: windows and targets of all rows, N in number.
        rows: those to train on, distinct.
        seed: of the order of rows and of the first weights.
        rates: learning rates for batches of 256.

    Returns:
        The same weights as training the probes one after another, but for rounding.
    """
    labels, probes = views.target.shape[2], len(rates) * views.target.shape[2]
    which, row = batches(views, rows, seed)
    size = row.shape[1]
    weight = start(views.features, seed).expand(views.layers, probes, -1).clone()
    bias = torch.zeros(views.layers, 1, probes)
    weight_speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    rate = torch.tensor(rates).repeat_interleave(labels) * (BATCH / 256)
    for first in range(0, len(row), _BLOCK):
        block = slice(first, first + _BLOCK)
        x_all = views.gather(which[block].reshape(-1), row[block].reshape(-1)).view(views.layers, -1, size, views.features)
        target = torch.from_numpy(views.target[which[block], row[block]])  # steps, batch, L
        share_all = (target >= 0).float().div_(size * labels)
        truth_all = (target == 1).float()
        for k in range(x_all.shape[1]):
            x, truth, share = x_all[:, k], truth_all[k].unsqueeze(1), share_all[k].unsqueeze(1)
            residual = torch.baddbmm(bias, x, weight.transpose(1, 2)).sigmoid_()  # C batch (R L)
            residual.view(views.layers, size, -1, labels).sub_(truth).mul_(share)
            weight_speed.baddbmm_(residual.transpose(1, 2), x, beta=MOMENTUM)
            bias_speed.mul_(MOMENTUM).add_(residual.sum(1, keepdim=True))
            move = rate * -decay(first + k, len(row))
            weight.addcmul_(weight_speed, move.unsqueeze(1))
            bias.addcmul_(bias_speed, move)
    return Grid(weight.view(views.layers, len(rates), labels, -1), bias.view(views.layers, len(rates), labels))
