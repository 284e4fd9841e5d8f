"""What lies in a picture, whatever it is: masks of a grid of points, for finding a subject again that a tracker has lost.

As SAM's automatic mask generator does it (Kirillov et al. 2023, section 4 and appendix B; thresholds of SAM 2's release): every point of a
grid prompts the network alone, of its three masks the one it rates best is kept if it is rated high enough and hardly depends on the
threshold, and of several masks of one thing one remains. Deviations: overlap is that of the masks and not of their boxes; the picture is
not looked at in crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.sam2 import Segmenter

POINTS = 16  # a side of the grid; the release has 32, at four times the cost
RATED, STABLE, SAME = 0.8, 0.95, 0.7  # least rating and stability; overlap (IoU) from which on two masks are one
OFFSET = 1.0  # of the logits, either way, for stability
_AT_ONCE = 64  # points


@dataclass(frozen=True, eq=False)
class Proposal:
    """Something in a picture."""

    mask: Mask  # bool[H, W]
    rating: float  # 0..1 or a little more, the overlap with the true mask that the network expects
    stability: float  # 0..1, overlap of the masks at the two ends of the threshold


def mask_grid(
    model: Segmenter,
    picture: NDArray[np.uint8],
    height: int,
    width: int,
    *,
    points: int = POINTS,
    rated: float = RATED,
    stable: float = STABLE,
) -> list[Proposal]:
    """Masks of things in a picture, the best rated first.

    Args:
        model: the network.
        picture: uint8[h, w, 3], a whole view at any size.
        height, width: of the view in pixels; the size of the masks.
        points: a side of the grid.
        rated, stable: least rating and stability.
    """
    import torch
    from torch.nn import functional

    centres = (torch.arange(points) + 0.5) / points
    grid = torch.cartesian_prod(centres, centres).flip(1)  # x, y in 0..1
    with model.running():
        embeddings = model.module.get_image_embeddings(model.pixels(picture)[None])
        found = [_masks(model, embeddings, part) for part in torch.split(grid, _AT_ONCE)]
    logits, rating = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
    stability = stability_of(logits)
    good = torch.nonzero((rating >= rated) & (stability >= stable) & (logits > 0).flatten(1).any(1))[:, 0].tolist()
    chosen = different(logits[good] > 0, rating[good])
    out = []
    for k in (good[k] for k in chosen):
        full = functional.interpolate(logits[k][None, None], (height, width), mode="bilinear", align_corners=False)[0, 0] > 0
        if bool(full.any()):
            out.append(Proposal(full.numpy(), float(rating[k]), float(stability[k])))
    return out


def _masks(model: Segmenter, embeddings: list[Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """The best rated of the three masks of each point [P, 2] in 0..1: logits [P, h, w], and ratings [P]."""
    import torch

    module = model.module
    sparse, dense = module.prompt_encoder(
        input_points=(points * model.size)[None, :, None].to(model.device),
        input_labels=torch.ones(1, len(points), 1, dtype=torch.int32, device=model.device),
        input_boxes=None,
        input_masks=None,
    )
    logits, rating, _, _ = module.mask_decoder(
        image_embeddings=embeddings[-1],
        image_positional_embeddings=module.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
        high_resolution_features=embeddings[:-1],
    )
    best = rating[0].argmax(1)
    each = torch.arange(len(points), device=best.device)
    return logits[0, each, best], rating[0, each, best]


def stability_of(logits: Tensor) -> Tensor:
    """f32[P] in 0..1: area above ``OFFSET`` as a share of that above ``-OFFSET``, of logits f32[P, h, w]; 0 where there is none."""
    inner, outer = ((logits > level).flatten(1).sum(1) for level in (OFFSET, -OFFSET))
    share: Tensor = inner / outer.clamp(min=1)
    return share


def different(masks: Tensor, rating: Tensor) -> list[int]:
    """Which of masks bool[P, h, w] to keep, the best rated first, so that no two overlap by more than ``SAME``."""
    flat = masks.flatten(1).float()
    shared = flat @ flat.T
    area = flat.sum(1)
    overlap = shared / (area[:, None] + area - shared).clamp(min=1)
    kept: list[int] = []
    for k in rating.argsort(descending=True, stable=True).tolist():
        if all(overlap[k, other] <= SAME for other in kept):
            kept.append(k)
    return kept
