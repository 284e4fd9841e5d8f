"""Parts of a grid of labels: which belong to the subject, by where it was and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foveate.track.propagate.watch import centre

if TYPE_CHECKING:
    from torch import Tensor

APART = 0.2  # share of the main part's weight that a part lying apart needs, beside having been there before
BEHIND = 0.1  # likewise for a part that no more than two patches separate from the main part: something thin may hide what lies between
FADED = 0.35  # of the peak: how weak a label may be and still be held to keep the subject's size
HOLDS = 0.15  # of its typical size: a subject with so much in a part has a share in it
STANDS = 0.4  # of the smallest typical size among those who share: a part that may be a whole animal
FAR = 0.25  # weight of a part that does not touch where the subject was, against one that does
PULL = 0.3  # share of the overlap that a shift by its own size costs there


def keep_connected(labels: Tensor, before: Tensor | None, level: float) -> Tensor:
    """Labels [rows, columns] without the parts that lie apart.

    Kept: the heaviest part, where one that does not touch the labels ``before`` counts less, and further parts that mostly lie where labels
    were before, or lie beside the heaviest part with two patches between them at most, and weigh enough. A part is a set of patches above
    ``level`` that touch, corners included.
    """
    import numpy as np
    import torch
    from scipy.ndimage import binary_dilation
    from scipy.ndimage import label as components

    values = labels.numpy()
    touching = np.ones((3, 3))
    part, count = components(values > level, touching)
    if count < 2:
        return labels
    numbers = np.arange(1, count + 1)
    weight = np.bincount(part.ravel(), values.ravel(), count + 1)[1:]
    share = np.ones(count)
    if before is not None and bool((before > level).any()):
        there = binary_dilation(before.numpy() > level)
        share = np.bincount(part.ravel(), there.ravel(), count + 1)[1:] / np.bincount(part.ravel(), minlength=count + 1)[1:]
    main = int((weight * np.where(share > 0, 1, FAR)).argmax())
    group = np.zeros(count + 1, int)  # of each part: parts that touch once each has grown by a patch
    group[part] = components(binary_dilation(part > 0, touching), touching)[0]
    beside = (group[1:] == group[main + 1]) & (weight > BEHIND * weight[main])
    keep = (numbers == main + 1) | beside | ((share > 0.5) & (weight > APART * weight[main]))
    kept = np.isin(part, numbers[keep])
    gone = binary_dilation((part > 0) & ~kept, touching) & ~kept  # with the faint rim around it
    return torch.where(torch.from_numpy(gone), 0.0, labels)


def most_alike(labels: Tensor, surplus: Tensor, level: float) -> Tensor:
    """Labels [rows, columns] of the part that is most like the subject and least like the rest: the sum of ``surplus`` f32[P], likeness to
    the one less likeness to the other, over its patches above ``level`` is largest. Parts beside it stay, as in ``keep_connected``."""
    import numpy as np
    import torch
    from scipy.ndimage import label as components

    part, count = components(labels.numpy() > level, np.ones((3, 3)))
    if count < 2:
        return labels
    evidence = np.bincount(part.ravel(), surplus.clamp(min=0).numpy() * labels.flatten().numpy(), count + 1)[1:]
    return keep_connected(labels, torch.from_numpy((part == 1 + int(evidence.argmax())).astype(np.float32)), level)


def of_its_size(labels: Tensor, outline: Tensor, before: Tensor, level: float) -> Tensor:
    """Where a subject is that has grown too much at once: f32[rows, columns] in 0..1, an ``outline`` of its size, put where it covers the
    labels best and near to the labels ``before``, and a soft rim around it."""
    import torch
    from torch.nn import functional

    rows, columns = labels.shape
    shape = (outline > level).float()
    size = max(float(shape.sum()), 1.0)
    row, column = (new - old for new, old in zip(centre(before), centre(outline), strict=True))
    # Correlation with every shift; each shift by its own size costs PULL of the overlap.
    overlap = functional.conv2d(functional.pad(labels[None, None], (columns, columns, rows, rows)), shape[None, None])[0, 0]
    down = (torch.arange(2 * rows + 1) - rows - row).view(-1, 1)
    right = (torch.arange(2 * columns + 1) - columns - column).view(1, -1)
    cost = PULL * float(labels.max()) / size**0.5 * (down**2 + right**2).sqrt()
    best = int((overlap / size - cost).argmax())
    y, x = best // (2 * columns + 1) - rows, best % (2 * columns + 1) - columns
    there = torch.zeros_like(shape)
    there[max(0, y) : rows + min(0, y), max(0, x) : columns + min(0, x)] = shape[
        max(0, -y) : rows - max(0, y), max(0, -x) : columns - max(0, x)
    ]
    return torch.maximum(there, functional.avg_pool2d(there[None], 3, 1, 1)[0])


def hold_size(labels: Tensor, patches: int, peak: float) -> Tensor:
    """Labels scaled up, if need be, so that as many patches as before reach half the peak; those weaker than ``FADED`` of it never do."""
    if patches == 0:
        return labels
    weakest = float(labels.flatten().sort(descending=True).values[patches - 1])
    threshold = min(0.5 * peak, max(FADED * peak, weakest))
    return (labels * (0.5 * peak / threshold)).clamp(max=peak)


def one_each(labels: Tensor, sizes: Sequence[float], level: float) -> Tensor:
    """Subjects that have come apart after a meeting, each with a part of its own.

    Two animals of one coat mix while they touch: each label holds a piece of either. Where the labels of some subjects lie in as many parts
    as there are subjects, every part goes to one of them as a whole, so that as much as possible stays where it is. Who is who is not
    decided here.

    Args:
        labels: f32[rows, columns, S].
        sizes: [S] typical weight of each subject's labels; 0 where it is not known: then it takes no part.
        level: sum of labels of a patch that belongs to a part; patches that touch, corners included, are one part.
    """
    import numpy as np
    import torch
    from scipy.ndimage import distance_transform_edt
    from scipy.ndimage import label as components
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse.csgraph import connected_components

    values, size = labels.numpy(), np.asarray(sizes)
    subjects = len(size)
    part, count = components(values.sum(-1) > level, np.ones((3, 3)))
    if count < 2:
        return labels
    nearest = distance_transform_edt(part == 0, return_distances=False, return_indices=True)
    area = part[tuple(nearest)]  # of each patch the part that it is nearest to: faint labels around a part go with it
    weight = np.stack([np.bincount(area.ravel(), own.ravel(), count + 1)[1:] for own in np.moveaxis(values, -1, 0)])
    shares = (weight > HOLDS * size[:, None]) & (size[:, None] > 0)
    graph = np.zeros((subjects + count,) * 2)
    graph[:subjects, subjects:] = shares
    _, group = connected_components(graph, directed=False)
    out = values.copy()
    for number in np.unique(group[:subjects]):
        who, whole = np.flatnonzero(group[:subjects] == number), np.flatnonzero(group[subjects:] == number)
        whole = whole[weight[who][:, whole].sum(0) > STANDS * size[who].min()]
        if len(who) < 2 or len(whole) != len(who):
            continue
        for i, k in zip(*linear_sum_assignment(-weight[np.ix_(who, whole)]), strict=True):
            here, total = area == whole[k] + 1, values[..., who].sum(-1).clip(max=1)
            for other in who:
                out[..., other] = np.where(here, total if other == who[i] else 0, out[..., other])
    return torch.from_numpy(out)
