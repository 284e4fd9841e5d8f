"""Objects in a clip by attention alone, found in its first frame and followed to the others (DoRA, section 4), as pure functions.

    attended         what each head of a block looks at                      f32[N, heads, n]
    choose           k of the heads, at random
    pooled           prototypes: queries, averaged by what a head looks at   eq. 2
    refined          prototypes again, from patches shared out among them    eqs. 4 and 5
    followed         what a prototype looks at in a frame                    eqs. 3 and 6
    cut_out, shaded  masks of it                                             eq. 7
    overlap          how far two objects are one

Nothing here is trained and nothing has a gradient. k objects, n patches of a picture, D the width of the backbone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveate import losses
from foveate.data.draws import uniform
from foveate.models.vit import Qkv

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def heads_for(objects: int, heads: int, width: int) -> int:
    """Into how many heads a block is split so that k objects get one each: as many as it has, or the fewest from k on that divide its width
    (the publication goes from 6 to 16 and 32 of a width of 384).

    Raises:
        ValueError: more objects than the width has numbers, or none.
    """
    if not 1 <= objects <= width:
        raise ValueError(f"{objects} objects cannot be found by the heads of a width of {width}")
    return heads if objects <= heads else next(count for count in range(objects, width + 1) if width % count == 0)


def merged(tokens: Tensor, first: int) -> Tensor:
    """f32[N, n, D] of f32[N, heads, tokens, D / heads]: heads side by side, patches alone, which begin at token ``first``."""
    return tokens[:, :, first:].transpose(1, 2).flatten(2)


@torch.no_grad()
def attended(qkv: Qkv, first: int, heads: int | None = None, root: Literal["head", "width"] = "head") -> Tensor:
    """How much the CLS token looks at each patch (eq. 1, its first row).

    Args:
        qkv: of a block, f32[N, heads, tokens, D / heads] each.
        first: number of the first patch's token.
        heads: split queries and keys into as many instead.
        root: of what the logits are divided by: the width of a head, as the network does it, or D, as eq. 1 is printed.

    Returns:
        f32[N, heads, n]; rows add up to 1 less what CLS and registers get.
    """
    queries, keys = (part.transpose(1, 2).flatten(2).float() for part in (qkv.queries[:, :, :1], qkv.keys))
    heads = heads or qkv.queries.shape[1]
    queries, keys = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (queries, keys))
    scale = float(queries.shape[-1] * (heads if root == "width" else 1)) ** -0.5
    with torch.autocast(queries.device.type, enabled=False):
        rows: Tensor = (queries @ keys.transpose(-1, -2) * scale).softmax(-1)
    return rows[:, :, 0, first:]


def choose(seed: int, step: int, index: NDArray[np.int64], heads: int, objects: int) -> NDArray[np.int64]:
    """int64 ``[B, k]``: k of the heads without repeats for each sample."""
    return np.argsort(uniform(seed, step, index, "heads", heads), axis=1)[:, :objects]


@torch.no_grad()
def pooled(maps: Tensor, queries: Tensor, chosen: Tensor) -> Tensor:
    """Prototypes (eq. 2), f32[N, k, D]: the sum of patch queries weighted by what the chosen heads look at.

    Args:
        maps: f32[N, heads, n].
        queries: f32[N, n, D].
        chosen: i64[N, k].
    """
    rows = maps.gather(1, chosen.unsqueeze(-1).expand(-1, -1, maps.shape[-1]))
    return rows @ queries.float()


@torch.no_grad()
def refined(
    prototypes: Tensor,
    patches: Tensor,
    epsilon: float = 0.05,
    rounds: int = 30,
    unit: bool = True,
    mass: Literal["patch", "picture"] = "patch",
) -> Tensor:
    """Prototypes from the patches that Sinkhorn-Knopp assigns to them (eqs. 4 and 5), f32[N, k, D].

    Args:
        prototypes: f32[N, k, D].
        patches: f32[N, n, D], what the backbone makes of them.
        epsilon, rounds: of ``losses.assignments``.
        unit: patches as unit vectors, as released; the paper prints them as they are, where no epsilon of .05 makes sense.
        mass: a patch adds up to 1 over the objects, as released, or all of the picture does, as printed: n times less, and so is
            the sharpness of what follows.
    """
    patches = functional.normalize(patches.float(), dim=-1) if unit else patches.float()
    shares = losses.assignments(prototypes @ patches.transpose(-1, -2), epsilon, rounds)
    return shares @ patches * (shares.shape[-1] if mass == "patch" else 1)


@torch.no_grad()
def followed(prototypes: Tensor, keys: Tensor) -> Tensor:
    """What each prototype looks at (eqs. 3 and 6), f32[N, k, n]; rows add up to 1.

    Args:
        prototypes: f32[N, k, D].
        keys: f32[N, n, D] of a frame's patches.
    """
    with torch.autocast(keys.device.type, enabled=False):
        rows: Tensor = (prototypes.float() @ keys.float().transpose(-1, -2) * keys.shape[-1] ** -0.5).softmax(-1)
    return rows


@torch.no_grad()
def cut_out(maps: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Masks as released: maps as unit vectors, and 1 where they are above the mean over the batch, else 0.

    Args:
        maps: f32[..., B, n]; each of the leading entries has a mean of its own.
        group: processes that hold equal parts of the batch.
    """
    units = functional.normalize(maps, dim=-1)
    mean = units.mean((-2, -1), keepdim=True)
    if group is not None:
        torch.distributed.all_reduce(mean, group=group)
        mean /= group.size()
    return (units > mean).to(maps.dtype)


@torch.no_grad()
def shaded(maps: Tensor) -> Tensor:
    """Masks of f32[..., n] in 0..1: maps by their largest value. A row of the paper's eq. 7 adds up to 1 over all patches, and a picture
    times that is black."""
    return maps / maps.amax(-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def overlap(maps: Tensor) -> Tensor:
    """How far objects are one: what two maps have in common, sum of the smaller values, mean over the pairs; f32[...] of f32[..., k, n]
    whose rows add up to 1. 0: apart; 1: the same, or one object alone."""
    objects = maps.shape[-2]
    if objects < 2:
        return maps.new_ones(maps.shape[:-2])
    one, other = torch.triu_indices(objects, objects, 1, device=maps.device)
    return torch.minimum(maps[..., one, :], maps[..., other, :]).sum(-1).mean(-1)
