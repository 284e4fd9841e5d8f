"""From a prompt to the labels a tracker starts from: a point or a box grows to the patches that belong together.

Both work like GrabCut (Rother et al. 2004) on patch tokens instead of colours: a few prototypes stand for the subject and a few for the
background, patches go to the more similar side, prototypes are made anew from what is connected to the prompt, and so on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, coverage
from foveate.track.pixels import Floats, Picture, to_mask

ROUNDS = 5
SUBJECT, BACKGROUND = 5, 16  # prototypes
SOFT = 0.07  # difference of cosines that makes a patch three quarters sure
ALIKE = 0.5  # how far a patch must lie from the background's likeness to the subject towards the subject's own
BORDER = 0.7  # share of the border that is taken for background before anything is known: what is least like the point


def from_point(tokens: Floats, picture: Picture, row: float, column: float) -> Floats:
    """Labels of the subject under a point.

    Args:
        tokens: float32[rows, columns, D], patch tokens of the whole view. Tokens of the last block, which know things, beside those of
            an earlier one, which know places, do best.
        picture: uint8[rows * patch, columns * patch, 3].
        row, column: the point, in patches (fractions allowed).

    Returns:
        float32[rows, columns] in 0..1, the share of each patch that is the subject; never all 0.
    """
    rows, columns, _ = tokens.shape
    flat = _unit(tokens)
    seed = min(int(row), rows - 1), min(int(column), columns - 1)
    likeness = (flat @ flat[seed[0] * columns + seed[1]]).reshape(rows, columns)
    border = np.ones((rows, columns), np.bool_)
    border[1:-1, 1:-1] = False
    background = border & (likeness <= np.quantile(likeness, BORDER))
    subject = np.zeros((rows, columns), np.bool_)
    subject[seed] = True
    return _refined(_grow(flat, subject, background, np.ones_like(border), seed), picture, seed)


def from_box(tokens: Floats, picture: Picture, box: tuple[float, float, float, float]) -> Floats:
    """Labels of the subject in a box (x, y, w, h in patches): as `from_point`; everything outside the box is background."""
    rows, columns, _ = tokens.shape
    x, y, w, h = box
    row, column = np.arange(rows)[:, None] + 0.5, np.arange(columns)[None, :] + 0.5
    # A patch that the box only touches may be subject: the box is drawn tightly.
    inside = (abs(row - (y + h / 2)) < h / 2 + 0.5) & (abs(column - (x + w / 2)) < w / 2 + 0.5)
    middle = inside & (abs(row - (y + h / 2)) <= max(h / 4, 0.5)) & (abs(column - (x + w / 2)) <= max(w / 4, 0.5))
    seed = int(np.clip(y + h / 2, 0, rows - 1)), int(np.clip(x + w / 2, 0, columns - 1))
    middle[seed] = inside[seed] = True
    if inside.all():
        return np.ones((rows, columns), np.float32)
    labels = _grow(_unit(tokens), middle, ~inside, inside, None)
    if not (labels > 0.5).any():
        labels = np.maximum(labels, middle).astype(np.float32)
    bounds = _box_share(rows, columns, box)
    return np.minimum(_refined(labels * bounds, picture, seed), bounds)


def _box_share(rows: int, columns: int, box: tuple[float, float, float, float]) -> Floats:
    x, y, w, h = box
    down = np.clip(np.minimum(np.arange(rows) + 1, y + h) - np.maximum(np.arange(rows), y), 0, 1)
    across = np.clip(np.minimum(np.arange(columns) + 1, x + w) - np.maximum(np.arange(columns), x), 0, 1)
    share: Floats = np.outer(down, across).astype(np.float32)
    return share


def _grow(flat: Floats, subject: Mask, background: Mask, allowed: Mask, seed: tuple[int, int] | None) -> Floats:
    """Alternate between prototypes and patches. ``seed`` is the patch the subject must be connected to; None: its largest part.

    A patch belongs to the subject if it is more like it than like the background, and also like enough by itself: something new that
    stands beside the subject is like neither.
    """
    from scipy.ndimage import binary_dilation, label

    first = flat[subject.ravel()][:1] if seed is not None else flat[:0]
    labels = np.zeros(subject.shape, np.float32)
    for _ in range(ROUNDS):
        theirs = (flat @ _prototypes(flat[background.ravel()], BACKGROUND).T).max(axis=1)
        ours = (flat @ np.concatenate([first, _prototypes(flat[subject.ravel()], SUBJECT)]).T).max(axis=1)
        typical = np.median(np.sort(ours)[-max(8, int(subject.sum())) :])
        least = ours[background.ravel()].mean() * (1 - ALIKE) + typical * ALIKE
        surplus = np.minimum(ours - theirs, ours - least).reshape(subject.shape)
        labels = (allowed / (1 + np.exp(-surplus / SOFT))).astype(np.float32)
        inside = labels > 0.5
        if seed is not None:
            inside[seed] = True
        part, count = label(inside)
        if count == 0:
            break
        main = part[seed] if seed is not None else int(np.bincount(part.ravel())[1:].argmax()) + 1
        subject = part == main
        labels = np.where(binary_dilation(subject, np.ones((3, 3))), labels, 0).astype(np.float32)
        background = ~binary_dilation(subject) if seed is not None else background
        if background.sum() < BACKGROUND:
            break
    return labels


def _refined(labels: Floats, picture: Picture, seed: tuple[int, int]) -> Floats:
    """Labels that follow the picture's edges: through pixels and back."""
    rows, columns = labels.shape
    mask = to_mask(labels, picture, *picture.shape[:2])
    fine = coverage(mask, rows, columns)
    if not fine.any():
        fine[seed] = 1.0
    return fine


def _unit(tokens: Floats) -> Floats:
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float32)
    unit: Floats = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return unit


def _prototypes(vectors: Floats, count: int, rounds: int = 10) -> NDArray[np.float32]:
    """Spherical k-means of unit vectors [N, D], started from far-apart ones; nothing is drawn at random."""
    centres = vectors[:1]
    while len(centres) < min(count, len(vectors)):
        centres = np.concatenate([centres, vectors[[int((vectors @ centres.T).max(axis=1).argmin())]]])
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(axis=1)
        sums = np.stack(
            [vectors[nearest == k].sum(axis=0) if (nearest == k).any() else centres[k] for k in range(len(centres))]
        )
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return centres
