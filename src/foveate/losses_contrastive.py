"""Losses of contrast as pure functions: InfoNCE against a queue, RSPNet's margin, PreViTS's attention by second-order Grad-CAM.

All compute in float32 whatever they are given.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Rectify: TypeAlias = Literal["first", "after"]
Weigh: TypeAlias = Literal["cell", "clip"]
Shrink: TypeAlias = Literal["points", "mean"]

_SPAN = 1e-7  # added to a map's largest value before dividing by it, as released
_EVEN = 1e-6  # a mask that differs less than this from one number says nothing of where


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float, hidden: Tensor | None = None) -> Tensor:
    """``-log exp(q k / t) / (exp(q k / t) + sum_j exp(q k_j / t))``, the mean over the batch (MoCo, eq. 1).

    Written with the logarithm of the sum over the queue, so that the logits [B, 1 + K] are never put together.

    Args:
        query: float[B, D], unit vectors.
        key: float[B, D], the positive ones.
        queue: float[K, D], the negative ones; K may be 0.
        temperature: above 0.
        hidden: bool[B, K], negatives that do not count for a query.
    """
    with torch.autocast(query.device.type, enabled=False):
        positive = positives(query, key, temperature)
        negative = query.float() @ queue.float().T / temperature
        if hidden is not None:
            negative = negative.masked_fill(hidden, -torch.inf)
        if negative.shape[1] == 0:
            return positive.sum() * 0.0
        return (torch.logaddexp(positive, negative.logsumexp(1)) - positive).mean()


def positives(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Logits f32[B] of queries and their keys, unit vectors float[B, D]."""
    logits: Tensor = torch.linalg.vecdot(query.float(), key.float()) / temperature
    return logits


def margin(better: Tensor, worse: Tensor, least: float = 2.0) -> Tensor:
    """``max(0, least - (better - worse))``, the mean over f32[B] (RSPNet, eq. 3; in its code the logits are divided by the
    temperature)."""
    return (least - (better - worse)).clamp(min=0).mean()


def grad_cam(found: Tensor, score: Tensor, rectify: Rectify = "first", weigh: Weigh = "cell", second: bool = True) -> Tensor:
    """Where in a map the evidence for a score lies (Selvaraju et al. 2017, eq. 1 and 2), in 0..1.

    ``cam = sum_c w_c F_c`` with ``w_c`` the mean gradient of the score; shifted and scaled to 0..1 per sample.

    Args:
        found: float[B, C, h, w], of clips float[B, C, t, h, w], with a gradient.
        score: float[B], each sample's computed from its own map.
        rectify: ``first``: negative evidence is taken for none before scaling (Grad-CAM, eq. 2); ``after``: PreViTS's code, where it
            stays as small positive values, because nothing is negative after scaling.
        weigh: of clips, ``cell``: a mean gradient for each place in time, as in PreViTS's code; ``clip``: one for all, as Grad-CAM for
            volumes has it. Of pictures both are the same.
        second: keep what a gradient of the result needs.

    Returns:
        f32 of the shape of ``found`` without its channels.
    """
    gradient = torch.autograd.grad(score.sum(), found, create_graph=second, retain_graph=True)[0]
    with torch.autocast(found.device.type, enabled=False):
        places = (3, 4) if found.dim() == 5 and weigh == "cell" else tuple(range(2, found.dim()))
        cam = (found.float() * gradient.float().mean(places, keepdim=True)).sum(1)
        if rectify == "first":
            cam = cam.clamp(min=0)
        flat = cam.flatten(1)
        flat = flat - flat.amin(1, keepdim=True)
        return (flat / (flat.amax(1, keepdim=True) + _SPAN)).view_as(cam)


def looked(cam: Tensor, mask: Tensor, shrink: Shrink = "points") -> Tensor:
    """How far each map is from its mask, ``1 - cos``, f32[B] in 0..1 for maps that are nowhere negative (CAST, eq. 4; PreViTS).

    Args:
        cam: f32[B, h, w], of clips f32[B, t, h, w].
        mask: f32[B, H, W] in 0..1; brought to h x w and taken for every place in time.
        shrink: how, see ``small_mask``.
    """
    small = small_mask(mask, (cam.shape[-2], cam.shape[-1]), shrink)
    if cam.dim() == 4:
        small = small.unsqueeze(1).expand_as(cam)
    return 1 - functional.cosine_similarity(cam.flatten(1), small.flatten(1), dim=1)


def small_mask(mask: Tensor, size: tuple[int, int], shrink: Shrink = "points") -> Tensor:
    """f32[B, h, w] of masks f32[B, H, W]. ``points``: read, bilinearly, at h x w points whose corners are those of the mask, as released: a
    subject between the points is lost. ``mean``: the share of each cell that is subject."""
    if shrink == "mean":
        return functional.adaptive_avg_pool2d(mask.float(), size)
    return functional.interpolate(mask.float().unsqueeze(1), size, mode="bilinear", align_corners=True).squeeze(1)


def telling(mask: Tensor, size: tuple[int, int], shrink: Shrink = "points") -> Tensor:
    """bool[B]: masks f32[B, H, W] that at ``size`` are not the same everywhere. An empty one has no cosine, and a full one asks for an
    even map, not for a look at anything."""
    small = small_mask(mask, size, shrink).flatten(1)
    return small.amax(1) - small.amin(1) > _EVEN


def mean_over(values: Tensor, chosen: Tensor, count: Tensor) -> Tensor:
    """Sum of f32[B] where ``chosen`` bool[B], divided by ``count``: 0 where that is 0, and never a quotient of zeros.

    ``torch.where`` before the sum keeps what the others hold, NaN included, out of value and gradient.
    """
    return torch.where(chosen, values, 0.0).sum() / torch.where(count > 0, count, 1.0)
