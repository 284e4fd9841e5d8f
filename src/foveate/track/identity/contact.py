"""Animals that touch, parted once more when it is known who they are on both sides of the meeting.

A tracker comes to a meeting from one side only, with a memory of all that it has seen; of two animals with one coat it may give a part
of the one to the other. Here a window around a short meeting is looked at from near, and labels of all its subjects and of the
background compete: they travel from the last clear frame forward and from the first clear frame after it backward, and each frame trusts
the nearer side more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, coverage
from foveate.settings import View
from foveate.track.identity.crossings import History, Meeting
from foveate.track.pixels import Picture, to_mask
from foveate.track.scene import cut

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.pretrained import Backbone

LONGEST = 64  # frames of a meeting that is looked at again
BACK = 8  # frames before and after it in which all must be clearly seen once
WHOLE = 0.5  # of its usual area that a subject must show there
LEAST = 0.1  # of its usual area that must be seen of a subject, else it is hidden
NEAREST = 16  # patches that a subject is long at most in the window
RECENT = 4  # frames compared with, beside the clear one
VOTERS = 5
TEMPERATURE = 0.07
REACH = 0.6  # of an animal's length: how far a label may travel between frames
SHARPER = 1.5  # power to which labels are raised after each frame, so that doubt does not spread


def parted(
    tokens: Sequence[Tensor],
    pictures: Sequence[Picture],
    before: Mapping[int, Mask],
    after: Mapping[int, Mask],
    length: float,
) -> list[dict[int, tuple[Mask, float]]]:
    """The subjects in the frames of a meeting.

    Args:
        tokens: [rows, columns, D] of each frame of the window, from the last clear one to the first clear one after the meeting.
        pictures: uint8[H, W, 3], the same frames; to these pixels masks are drawn.
        before: subject -> bool[h, w] of the window in the first of these frames, h x w its size in the view.
        after: likewise in the last; the same subjects.
        length: of a subject, in patches.

    Returns:
        For each frame between the two: subject -> mask bool[h, w] and mean label 0..1 of its patches; none where nothing of it is seen.
    """
    import torch

    rows, columns, _ = tokens[0].shape
    subjects = sorted(before)
    height, width = before[subjects[0]].shape
    centre = tokens[0].float().mean((0, 1))
    unit = [torch.nn.functional.normalize(t.float().flatten(0, 1) - centre, dim=-1) for t in tokens]
    ways = []
    for order, known in ((list(range(len(tokens))), before), (list(range(len(tokens)))[::-1], after)):
        share = torch.stack([torch.from_numpy(coverage(known[s], rows, columns)).flatten() for s in subjects], dim=-1)
        share = torch.cat([share, (1 - share.sum(-1, keepdim=True)).clamp(min=0)], dim=-1)
        found = _travel([unit[k] for k in order], share, rows, columns, max(2, round(REACH * length)))
        ways.append(dict(zip(order, found, strict=True)))
    out = []
    for k in range(1, len(tokens) - 1):
        late = k / (len(tokens) - 1)
        labels = (1 - late) * ways[0][k] + late * ways[1][k]
        here = {}
        for i, subject in enumerate(subjects):
            own = labels[:, i]
            mask = to_mask(own.view(rows, columns).numpy(), pictures[k], height, width)
            if mask.any():
                here[subject] = mask, float(own[own > 0.5].mean()) if bool((own > 0.5).any()) else 0.0
        out.append(here)
    return out


def _travel(frames: Sequence[Tensor], first: Tensor, rows: int, columns: int, radius: int) -> list[Tensor]:
    """Labels f32[P, S + 1] of every frame, from those of the first."""
    import torch

    place = torch.arange(rows * columns)
    row, column = place // columns, place % columns
    near = ((row[:, None] - row).abs() <= radius) & ((column[:, None] - column).abs() <= radius)
    labels = [first]
    for k in range(1, len(frames)):
        values, votes = [], []
        for j in sorted({0, *range(max(0, k - RECENT), k)}):
            cosine = frames[k] @ frames[j].T
            best = cosine.masked_fill(~near, -torch.inf).topk(VOTERS, dim=1) if j or k == 1 else cosine.topk(VOTERS, dim=1)
            values.append(best.values)
            votes.append(labels[j][best.indices])
        every, their = torch.cat(values, 1), torch.cat(votes, 1)
        top = every.topk(VOTERS, dim=1)
        weight = (top.values / TEMPERATURE).softmax(dim=1).unsqueeze(-1)
        found = (weight * their.gather(1, top.indices.unsqueeze(-1).expand(-1, -1, their.shape[-1]))).sum(dim=1) ** SHARPER
        labels.append(found / found.sum(-1, keepdim=True).clamp(min=1e-6))
    return labels


def clear_ends(history: History, meeting: Meeting, cuts: Sequence[Meeting], breaks: Sequence[int]) -> tuple[int, int] | None:
    """Positions of the last frame before a meeting, and the first after it, in which all of its subjects are clearly seen and meet
    nobody; None where there are none near, the meeting is long, or the film is cut in between.

    Args:
        history: of the view.
        meeting: one of ``cuts``, which are all of them.
        breaks: positions of frames from which the picture is another one.
    """
    group = list(meeting.group)
    if meeting.last < meeting.first or meeting.last - meeting.first >= LONGEST:
        return None
    whole = history.sure[group] & (history.area[group] >= WHOLE * history.usual[group][:, None])
    near = slice(max(0, meeting.first - BACK), meeting.last + BACK + 1)
    free = np.zeros(whole.shape[1], np.bool_)
    free[near] = whole[:, near].all(axis=0)
    for other in cuts:
        if other.last >= near.start and other.first < near.stop and set(other.group) & set(group):
            free[other.first : other.last + 1] = False
    clear = np.flatnonzero(free)
    before, after = clear[clear < meeting.first][-1:], clear[clear > meeting.last][:1]
    if not len(before) or not len(after):
        return None
    first, last = int(before[0]), int(after[0])
    return None if any(first < i <= last for i in breaks) else (first, last)


def look_again(
    pictures: Sequence[Picture],
    boxes: NDArray[np.float64],
    before: Mapping[int, Mask],
    after: Mapping[int, Mask],
    backbone: Backbone,
    patches: int,
) -> list[dict[int, tuple[Mask, float]]]:
    """``parted``, from the pictures of the view.

    Args:
        pictures: uint8[H, W, 3], the view from the last clear frame to the first clear one after the meeting.
        boxes: [N, 4] of all the subjects in all of them, NaN where one is not seen.
        before, after: subject -> bool[H, W].
        backbone: whose tokens tell places apart.
        patches: that a window may have.
    """
    import torch

    height, width = pictures[0].shape[:2]
    x, y, w, h = window(boxes, height, width)
    side = float(np.nanmax(boxes[:, 2:]))
    zoom = min(np.sqrt(patches / (w * h)), NEAREST / side)  # patches per pixel
    rows, columns = max(1, round(h * zoom)), max(1, round(w * zoom))
    size = rows * backbone.patch, columns * backbone.patch
    near = [cut(picture, View(x=x, y=y, w=w, h=h), *size) for picture in pictures]
    tokens = [
        backbone.patch_tokens(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None], dtype=torch.float16).cpu()[0]
        for picture in near
    ]
    inside = (slice(y, y + h), slice(x, x + w))
    first, last = ({s: mask[inside] for s, mask in known.items()} for known in (before, after))
    out = []
    for found in parted(tokens, near, first, last, side * zoom):
        here = {}
        for s, (mask, sure) in found.items():
            whole = np.zeros((height, width), np.bool_)
            whole[inside] = mask
            here[s] = whole, sure
        out.append(here)
    return out


def window(boxes: NDArray[np.float64], height: int, width: int) -> tuple[int, int, int, int]:
    """x, y, w, h in whole pixels of the view around all boxes [N, 4] (NaN where there is none), with a margin of a third of the largest."""
    known = boxes[~np.isnan(boxes[:, 0])]
    margin = known[:, 2:].max() / 3
    left, top = np.maximum(known[:, :2].min(axis=0) - margin, 0).astype(int)
    right, bottom = np.ceil(np.minimum((known[:, :2] + known[:, 2:]).max(axis=0) + margin, (width, height))).astype(int)
    return int(left), int(top), int(right - left), int(bottom - top)
