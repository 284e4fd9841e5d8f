"""Losses of pairs of views without a teacher, as pure functions: NT-Xent and VICReg.

As in ``losses``: float32 whatever comes, and with a ``group`` of processes values of the whole batch, their mean the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from foveate.losses import gathered

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_VARIANCE_EPS = 1e-4


def nt_xent(vectors: Tensor, temperature: float = 0.2, group: ProcessGroup | None = None) -> Tensor:
    """Which of all other views is the same picture's (SimCLR, eq. 1): log(2 B - 1) where all vectors are the same.

    Args:
        vectors: float[2 B, D], first views, then second ones; normalised here.
        temperature: of cosines.
        group: processes that hold B pictures each; negatives are those of all.
    """
    own = functional.normalize(vectors.float(), dim=-1)
    first, row = 0 if group is None else group.rank() * len(own), torch.arange(len(own), device=own.device)
    logits = own @ gathered(own, group).T / temperature
    logits = logits.scatter(1, (first + row).unsqueeze(1), -torch.inf)
    return functional.cross_entropy(logits, first + (row + len(own) // 2) % len(own))


def vicreg(
    one: Tensor,
    other: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Views alike, numbers spread, and not telling the same (VICReg, eq. 6).

    The hinge of the spread is summed over the two views, as in solo-learn; the authors' code has their mean.

    Args:
        one, other: float[B, D] of two views, as the head gives them.
        invariance, variance, covariance: weights.
        group: processes that hold B pictures each.

    Returns:
        the loss, and its parts before weighting.
    """
    views = [gathered(view.float(), group) for view in (one, other)]
    alike = functional.mse_loss(views[0], views[1])
    spread, same = alike.new_zeros(()), alike.new_zeros(())
    for view in views:
        count, width = view.shape
        spread = spread + functional.relu(1 - (view.var(0) + _VARIANCE_EPS).sqrt()).mean()
        centred = view - view.mean(0)
        products = centred.T @ centred / (count - 1)
        same = same + (products.square().sum() - products.diagonal().square().sum()) / width
    loss = invariance * alike + variance * spread + covariance * same
    return loss, {"invariance": alike, "variance": spread, "covariance": same}
