"""Losses of self-supervision as pure functions: teacher targets (Sinkhorn-Knopp or centring), DINO, iBOT, KoLeo.

All compute in float32 whatever they are given: under autocast features arrive in half precision, where KoLeo's epsilon vanishes and
sums over many prototypes round away. ``group`` is a group of processes that each hold an equal part of the batch; values are then those of
the whole batch, and the mean over processes of every loss is the loss of one process that holds it all. Without it nothing is exchanged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_KOLEO_EPS = 1e-8
_KOLEO_FLOOR = 1e-6  # nearer than this, what two unit vectors in float32 differ by is rounding
_FAINTEST, _UNREACHED = 1e-20, 1e-36  # of a sample's first factor; of a prototype's mass: so that no factor leaves float32


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3, group: ProcessGroup | None = None) -> Tensor:
    """Assignments of samples to prototypes that are used evenly: Sinkhorn-Knopp (SwAV, eq. 3; DINOv2, section 4).

    ``Q = exp(logits / temperature)`` is scaled, ``iterations`` times, first so that every prototype, then so that every sample has the same
    mass. The published loop divides the matrix itself; here only one factor per prototype and one per sample are iterated, so the large
    matrix is read and not written. Exponents are taken from each sample's largest logit, which is put back into the sample's first factor,
    so that no temperature overflows.

    After few iterations a sample's offset still matters (the first scaling is over samples, large logits weigh more there); in the limit it
    does not.

    Args:
        logits: float[N, K] of the teacher; N may differ between processes, and be 0.
        temperature: of the teacher, above 0.
        iterations: 3 in the publications.
        group: processes that share the batch.

    Returns:
        f32[N, K] without gradient; rows add up to 1. A prototype that no sample reaches within float32 gets nothing.
    """
    scaled = logits.float() / temperature
    samples, prototypes = scaled.shape
    highest = scaled.amax(1) if samples else scaled.new_zeros(0)
    top = highest.max() if samples else scaled.new_tensor(-torch.inf)
    total = _over(group, scaled.new_tensor(float(samples)))
    q = (scaled - highest.unsqueeze(1)).exp_()
    of_sample = (highest - _over(group, top, largest=True)).exp_().clamp_(min=_FAINTEST)
    of_prototype = q.new_zeros(prototypes)
    for _ in range(iterations):
        mass = _over(group, of_sample @ q)
        of_prototype = torch.where(mass > _UNREACHED, 1 / (prototypes * mass), 0.0)
        of_sample = 1 / (total * (q @ of_prototype))
    return q.mul_(of_prototype).mul_((of_sample * total).unsqueeze(1))


@torch.no_grad()
def assignments(logits: Tensor, epsilon: float = 0.05, rounds: int = 30) -> Tensor:
    """Which part of each picture belongs to which object, every object taking as much as the next: Sinkhorn-Knopp of each picture by
    itself (DoRA, eq. 4).

    ``M = exp(logits / epsilon)`` is scaled, ``rounds`` times, first so that every row adds up to 1 / k, then so that every column adds up
    to 1 / n. In logarithms: the released code takes exponents from the picture's largest logit, and where two objects differ by more than
    100 epsilon that is 0 / 0 in float32.

    Args:
        logits: float[..., k, n], likeness of k objects and n patches.
        epsilon: temperature, above 0.
        rounds: both scalings. Where logits differ by many epsilon, 30 leave rows some hundredths of 1 / k away, or more.

    Returns:
        f32[..., k, n] without gradient; columns add up to 1 / n, rows nearly to 1 / k. The released code multiplies this by n.
    """
    scaled = logits.float() / epsilon
    objects, patches = scaled.shape[-2:]
    of_patch = scaled.new_zeros(*scaled.shape[:-2], 1, patches)
    of_object = scaled.new_zeros(*scaled.shape[:-2], objects, 1)
    for _ in range(rounds):
        of_object = -math.log(objects) - (scaled + of_patch).logsumexp(-1, keepdim=True)
        of_patch = -math.log(patches) - (scaled + of_object).logsumexp(-2, keepdim=True)
    return (scaled + of_object + of_patch).exp()


@torch.no_grad()
def centred(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Targets by centring and sharpening (DINO, eq. 1 and section 3.1): softmax of ``(logits - centre) / temperature``; f32[N, K]."""
    return ((logits.float() - centre) / temperature).softmax(-1)


@torch.no_grad()
def moved_centre(centre: Tensor, total: Tensor, rows: int, momentum: float = 0.9, group: ProcessGroup | None = None) -> Tensor:
    """The centre after a step: the moving mean of the teacher's logits (DINO, eq. 4). Where there were none it stays.

    Args:
        centre: f32[K].
        total: f32[K], sum of the step's logits.
        rows: how many they were; may differ between processes.
        momentum: share of the old centre.
        group: processes that share the batch.
    """
    total = _over(group, total.clone())
    count = _over(group, total.new_tensor(float(rows)))
    return torch.where(count > 0, centre.lerp(total / count.clamp(min=1), 1 - momentum), centre)


def cross_entropy(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """``-sum_k target_k log softmax(logits / temperature)_k`` of each row, f32[...].

    Args:
        target: f32[..., K], not necessarily adding up to 1, so that one row can be the sum of several targets.
        logits: float[..., K] of the student.
        temperature: of the student.
    """
    scaled = logits.float() / temperature
    # log softmax itself, as large as the logits, is never kept.
    losses: Tensor = target.sum(-1) * scaled.logsumexp(-1) - torch.linalg.vecdot(target, scaled)
    return losses


def dino(student: Tensor, targets: Tensor, temperature: float = 0.1, matched: bool = False) -> Tensor:
    """Cross-entropy of views against teacher views, batch means summed over the pairs (DINO, eq. 3).

    Args:
        student: float[V, B, K] logits of V views of B pictures.
        targets: f32[T, B, K] of T teacher views.
        temperature: of the student.
        matched: only pairs v = t (for global views given in opposite orders); else all V x T pairs.

    Returns:
        A number; the mean over pairs is this divided by their count.
    """
    if matched:
        return cross_entropy(targets, student, temperature).mean(1).sum()
    return cross_entropy(targets.sum(0), student, temperature).mean(1).sum()


def ibot(student: Tensor, targets: Tensor, weights: Tensor, crops: int, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of masked patches, averaged within each masked crop, then over all crops, masked or not (iBOT, eq. 2; DINOv2's code).

    Args:
        student: float[M, K] logits of the masked patches.
        targets: f32[M, K].
        weights: f32[M]; see ``patch_weights``.
        crops: number of crops that could have been masked.
        temperature: of the student.

    Returns:
        A number, 0 where nothing is masked.
    """
    return (cross_entropy(targets, student, temperature) * weights).sum() / crops


def patch_weights(masked: Tensor) -> Tensor:
    """f32[M] for the M true values of ``masked`` bool[N, P], in their order: 1 / (masked patches of the same crop)."""
    return (1 / masked.sum(1, keepdim=True).clamp(min=1)).expand(masked.shape)[masked].float()


def koleo(features: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Kozachenko-Leonenko regulariser: ``-mean log`` of the distance to the nearest neighbour (Sablayrolles et al. 2019, eq. 5).

    In float32, where an exact duplicate costs 15.4 for 384 numbers, and not infinity. Its gradient, 1 / distance, would drown all others
    and point to where rounding went; below a distance of 1e-6 there is none. That is not in the published code.

    Args:
        features: float[B, D], before the head; normalised here.
        group: neighbours are looked for among the samples of all processes, which hold B each.

    Raises:
        ValueError: there is only one sample. The published code takes it for its own neighbour.
    """
    own = functional.normalize(features.float(), eps=_KOLEO_EPS, dim=-1)
    everyone, first = gathered(own, group), 0 if group is None else group.rank() * len(own)
    if len(everyone) < 2:
        raise ValueError("KoLeo needs two samples: one alone has no neighbour")
    with torch.no_grad():
        likeness = own @ everyone.T
        likeness[torch.arange(len(own)), first + torch.arange(len(own))] = -2.0
        nearest = likeness.argmax(1)
    distance = functional.pairwise_distance(own, everyone[nearest], eps=_KOLEO_EPS)
    distance = torch.where(distance < _KOLEO_FLOOR, distance.detach(), distance)
    return -(distance + _KOLEO_EPS).log().mean()


def gathered(own: Tensor, group: ProcessGroup | None) -> Tensor:
    """The rows of all processes, float[ranks x B, D] of float[B, D], with their gradients."""
    if group is None:
        return own
    rows: Tensor = _Gathered.apply(own, group)  # type: ignore[no-untyped-call]
    return rows


class _Gathered(torch.autograd.Function):
    """The rows of all processes, f32[ranks x B, D] of f32[B, D]; the gradient of a row is the sum of what all processes ask of it.

    PyTorch's own (``distributed.nn.functional.all_gather``) is deprecated, and what replaces it is not public.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        rows = [torch.empty_like(own) for _ in range(group.size())]
        torch.distributed.all_gather(rows, own.contiguous(), group=group)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = _over(ctx.group, gradient.clone(memory_format=torch.contiguous_format))
        return whole.chunk(ctx.group.size())[ctx.group.rank()], None


def _over(group: ProcessGroup | None, value: Tensor, largest: bool = False) -> Tensor:
    """Sum, or largest, of a value over the processes of a group."""
    if group is not None:
        from torch.distributed import ReduceOp, all_reduce

        all_reduce(value, op=ReduceOp.MAX if largest else ReduceOp.SUM, group=group)
    return value
