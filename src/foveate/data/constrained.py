"""Crops that show the subject: PreViTS's constraint in space (Chen et al. 2023), which is that of CAST (Selvaraju et al. 2021).

A crop covers a share of the mask of its clip's reference frame. Where there is no mask, crops are ordinary ones.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

TRIES = 10
"""Crops that are tried before the one around the whole subject is taken."""
NUMBERS = 4 * TRIES + 4
"""Uniform numbers that a sample's crop is drawn with."""
AREA = (0.4, 1.0)
_ASPECT = (3 / 4, 4 / 3)


def boxes(
    masks: Tensor, content: NDArray[np.int64], drawn: NDArray[np.float64], cover: float, area: tuple[float, float] = AREA
) -> tuple[Tensor, Tensor]:
    """A crop of each picture that shows enough of its mask (CAST's ``get_random_crop_coords_mask_cover``, which PreViTS took over).

    Ten crops are tried, area and aspect as usual, the centre from a Gaussian around the mask's centre as wide as the picture and cut off
    where the crop would leave it; the first that covers ``min(cover, area[0] * picture / mask)`` of the mask is taken. If none does,
    a random box around the whole mask, its longer side shortened to an allowed aspect.

    Two deviations from that code. It shortens a side below the mask's where the mask is longer than the aspect allows, and so cuts it off;
    here the other side grows instead, as far as the picture reaches. And corners are rounded so that width and height stay as drawn.

    Args:
        masks: bool[N, H, W], not empty within the content.
        content: int64 ``[N, 4]`` x0, y0, x1, y1 in pixels: the part of the pictures that is content.
        drawn: float64 ``[N, NUMBERS]`` uniform numbers.
        cover: mu, least share of the mask's area.
        area: least and largest share of the content's area.

    Returns:
        i64[N, 4] x0, y0, x1, y1 in whole pixels, and bool[N] whether it is one of the ten.
    """
    device, count = masks.device, len(masks)
    inside = _within(masks, torch.from_numpy(content).to(device))
    corner = torch.from_numpy(content[:, :2]).to(device)
    sides = torch.from_numpy(content[:, 2:] - content[:, :2]).to(device)
    u = torch.from_numpy(drawn).to(device)
    tries = u[:, : 4 * TRIES].view(count, TRIES, 4)
    summed = functional.pad(inside.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0))
    whole = summed[:, -1, -1].double()
    pixels = sides.prod(1).double()
    target = pixels.unsqueeze(1) * (area[0] + tries[..., 0] * (area[1] - area[0]))
    aspect = torch.exp(math.log(_ASPECT[0]) + tries[..., 1] * math.log(_ASPECT[1] / _ASPECT[0]))
    size = torch.stack([(target * aspect).sqrt().round(), (target / aspect).sqrt().round()], 2).long()
    fits = ((size > 0) & (size <= sides.unsqueeze(1))).all(2)
    size = size.clamp(min=1).minimum(sides.unsqueeze(1))
    start = corner.unsqueeze(1) + _start(_centre(inside, corner), size, sides, tries[..., 2:])
    stop = start + size
    covered = _count(summed, start, stop).double() / whole.clamp(min=1).unsqueeze(1)
    enough = torch.minimum(whole.new_tensor(cover), area[0] * pixels / whole.clamp(min=1))
    good = fits & (covered >= enough.unsqueeze(1))
    first = good.byte().argmax(1)
    row = torch.arange(count, device=device)
    chosen = torch.cat([start[row, first], stop[row, first]], 1)
    accepted = good.any(1)
    around = _around(_bounds(inside), torch.cat([corner, corner + sides], 1), u[:, 4 * TRIES :])
    return torch.where(accepted.unsqueeze(1), chosen, around), accepted


def _within(masks: Tensor, content: Tensor) -> Tensor:
    """bool[N, H, W]: masks without what lies beyond the content."""
    height, width = masks.shape[-2:]
    x, y = torch.arange(width, device=masks.device), torch.arange(height, device=masks.device).unsqueeze(1)
    x0, y0, x1, y1 = content.T[..., None, None]
    inside: Tensor = masks & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return inside


def _centre(inside: Tensor, corner: Tensor) -> Tensor:
    """f64[N, 2] x, y of the masks' centres of mass, from the content's corner."""
    height, width = inside.shape[-2:]
    total = inside.sum((1, 2)).clamp(min=1).double()
    x = (inside.sum(1) * torch.arange(width, device=inside.device)).sum(1).double() / total
    y = (inside.sum(2) * torch.arange(height, device=inside.device)).sum(1).double() / total
    return torch.stack([x, y], 1) - corner


def _start(centre: Tensor, size: Tensor, sides: Tensor, u: Tensor) -> Tensor:
    """i64[N, tries, 2]: where crops begin whose centre is Gaussian around ``centre``, cut off at the picture: the inverse of its
    distribution."""
    sigma = sides.double().unsqueeze(1)
    low = (size / 2 - centre.unsqueeze(1)) / sigma
    high = (sigma - size / 2 - centre.unsqueeze(1)) / sigma
    below, above = torch.special.ndtr(low), torch.special.ndtr(high)
    place = torch.special.ndtri(below + u * (above - below)) * sigma + centre.unsqueeze(1)
    start: Tensor = (place - size / 2).round().long().clamp(min=0).minimum(sides.unsqueeze(1) - size)
    return start


def _count(summed: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """i32[N, tries]: mask pixels in boxes, from sums over everything above and to the left, i32[N, H + 1, W + 1]."""
    row = torch.arange(len(summed), device=summed.device).unsqueeze(1)
    (x0, y0), (x1, y1) = start.unbind(2), stop.unbind(2)
    count: Tensor = summed[row, y1, x1] - summed[row, y0, x1] - summed[row, y1, x0] + summed[row, y0, x0]
    return count


def _bounds(inside: Tensor) -> Tensor:
    """i64[N, 4] x0, y0, x1, y1 of the masks' boxes."""
    found = []
    for side in (1, 2):  # columns, then rows
        some = inside.any(side).byte()
        found.append((some.argmax(1), some.shape[1] - some.flip(1).argmax(1)))
    return torch.stack([found[0][0], found[1][0], found[0][1], found[1][1]], 1)


def _around(bounds: Tensor, content: Tensor, u: Tensor) -> Tensor:
    """i64[N, 4]: a random box around ``bounds`` and within the content, see ``boxes``."""
    low = bounds[:, :2] - (u[:, :2] * (bounds[:, :2] - content[:, :2] + 1)).floor().long()
    high = bounds[:, 2:] + (u[:, 2:] * (content[:, 2:] - bounds[:, 2:] + 1)).floor().long()
    for one, other in ((0, 1), (1, 0)):  # too wide, then too tall
        allowed = ((high - low)[:, other] * _ASPECT[1]).floor().long()
        wanted = torch.maximum(allowed, (bounds[:, 2:] - bounds[:, :2])[:, one])
        high[:, one] = torch.minimum(high[:, one], low[:, one] + wanted)
        cut = high[:, one] < bounds[:, 2 + one]
        low[:, one] = torch.where(cut, bounds[:, 2 + one] - wanted, low[:, one])
        high[:, one] = torch.where(cut, bounds[:, 2 + one], high[:, one])
        missing = (((high - low)[:, one] / _ASPECT[1]).ceil().long() - (high - low)[:, other]).clamp(min=0)
        after = torch.minimum(missing, content[:, 2 + other] - high[:, other])
        high[:, other] += after
        low[:, other] = torch.maximum(low[:, other] - (missing - after), content[:, other])
    return torch.cat([low, high], 1)
