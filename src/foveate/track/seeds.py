"""From a prompt to the mask a tracker starts from: a point or a box becomes the subject's pixels.

Subjects may be two patches wide in what the tracker sees, so each prompt is looked at from near: a window around it, brought to
``NEAR`` patches, is shown to the backbone once more. Both work like GrabCut (Rother et al. 2004) on patch tokens instead of colours:

* a box says what is background, namely everything outside it. The patches inside that are least like it are taken for the subject, and
  every patch goes to the side where it has the more similar ones;
* a point says less. A few prototypes stand for the subject and a few for the background, patches go to the more similar side, prototypes
  are made anew from what is connected to the point, and so on; first in the whole view, which says how large the window must be.

Where several subjects are prompted in one frame, what is another's is not background: an animal of the same coat beside the box would
otherwise make the coat say "outside". Pixels that two subjects would get go to the nearer one (``apart``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, box, coverage
from foveate.settings import View
from foveate.track.pixels import Floats, Picture, to_mask
from foveate.track.scene import cut

NEAR = 16  # patches along the longer side of a window
AROUND_BOX, AROUND_POINT = 0.5, 0.75  # margin of the window, in longer sides of the box, given or found from the point
SMALLEST = 0.2  # window around a point, in shorter sides of the view
NEIGHBOURS = 5  # most similar patches of either side that a patch is compared with
SURE = 0.4  # share of a box's patches that is taken for the subject at first: those least like what lies outside
ROUNDS = 5
SUBJECT, BACKGROUND = 5, 16  # prototypes
SOFT = 0.07  # difference of cosines that makes a patch three quarters sure
ALIKE = 0.5  # how far a patch must lie from the background's likeness to the subject towards the subject's own
LEAST_GROUND = 20  # patches beside boxes of others that say what the ground looks like; with fewer, the others' have to say it
MIDDLE, CORNER = 0.4, 1.2  # of a box: what lies within, or beyond, this squared share of the ellipse in it
COMPANY = (
    0.1  # of cosine by which a patch beside a box must be more like its middle than like the ground to be another animal's
)
MOST, LINING = 0.5, 0.2  # of the view, and of its border, that an animal under a click may cover
STANDS_OUT = 0.1  # cosine by which its patches must be more like one another than like what surrounds them
BORDER = 0.7  # share of the border that is taken for background before anything is known: what is least like the point

Box = tuple[float, float, float, float]
Look = Callable[[Picture], Floats]
"""Patch tokens float32[rows, columns, D] of a picture uint8[rows * patch, columns * patch, 3]. Tokens of the last block, which know
things, beside those of an earlier one, which know places, do best."""


def mask_of_box(view: Picture, place: Box, look: Look, patch: int, grid: tuple[int, int], others: Mask | None = None) -> Mask:
    """The subject in a box.

    Args:
        view: uint8[H, W, 3].
        place: x, y, w, h in pixels of the view.
        look: gives the patch tokens of a picture.
        patch: pixels per side of a patch.
        grid: rows and columns of patches in which the tracker sees the whole view; nearer is never coarser.
        others: bool[H, W], where prompts of the same frame say that other subjects are.

    Returns:
        bool[H, W], inside the box; never all False.
    """
    window = _around(place, AROUND_BOX * max(place[2:]), view)
    picture = _near(view, window, patch, grid)
    down, across = _patches(picture, window, patch)
    x, y, w, h = place[0] - window.x, place[1] - window.y, place[2], place[3]
    tokens = look(picture)
    labels = from_box(tokens, (x * across, y * down, w * across, h * down), _touched(others, window, tokens))
    bounds = pixels_of(place, view)
    mask = _back(to_mask(labels, picture, window.h, window.w), window, view) & bounds
    return mask if mask.any() else bounds


def mask_of_point(
    view: Picture, x: float, y: float, look: Look, patch: int, grid: tuple[int, int], others: Mask | None = None
) -> tuple[Mask, float]:
    """The subject under a point.

    Args:
        view: uint8[H, W, 3].
        x, y: in pixels of the view.
        look: gives the patch tokens of a picture.
        patch: pixels per side of a patch.
        grid: rows and columns of patches of the first look, at the whole view.
        others: bool[H, W], where prompts of the same frame say that other subjects are; of a point its pixel.

    Returns:
        bool[H, W], never all False; and by how much its patches are more like one another than like what lies around them, a mean
        difference of cosines (-1 where it is too small to tell). Next to nothing means that the point is not on a thing.
    """
    height, width = view.shape[:2]
    whole = View(x=0, y=0, w=width, h=height)
    picture = cut(view, whole, grid[0] * patch, grid[1] * patch)
    tokens = look(picture)
    labels = from_point(tokens, y * grid[0] / height, x * grid[1] / width, _touched(others, whole, tokens))
    found = to_mask(labels, picture, height, width)
    place = _enclosing(found, x, y)
    least = SMALLEST * min(height, width) - max(place[2:])
    window = _around(place, max(AROUND_POINT * max(place[2:]), least / 2), view)
    picture = _near(view, window, patch, grid)
    down, across = _patches(picture, window, patch)
    tokens = look(picture)
    labels = from_point(tokens, (y - window.y) * down, (x - window.x) * across, _touched(others, window, tokens))
    mask = _back(to_mask(labels, picture, window.h, window.w), window, view)
    mask[min(int(y), height - 1), min(int(x), width - 1)] = True
    rows, columns, _ = tokens.shape
    return mask, _standing_out(tokens, coverage(mask, rows, columns, (window.x, window.y, window.w, window.h)))


def doubt(mask: Mask, stands_out: float = 1.0) -> str:
    """Why a mask bool[H, W] that a click has given is hardly an animal's, for people; empty where nothing speaks against it. How often
    that is right: ``benchmarks/click_doubts.py``, on whose footage the limits were chosen."""
    share, lining = float(mask.mean()), float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    if share > MOST:
        found = f"a mask of {share:.0%} of the view"
    elif lining > LINING:
        found = f"a mask along {lining:.0%} of the view's border"
    elif stands_out < STANDS_OUT:
        found = f"a mask of {int(mask.sum())} pixels that look like what surrounds them"
    else:
        return ""
    return f"the click gave {found}; a box says more"


def _standing_out(tokens: Floats, share: Floats) -> float:
    """See `mask_of_point`; ``share`` float32[rows, columns] is how much of each patch the mask covers."""
    flat = _unit(tokens)
    inside, outside = flat[share.ravel() > 0.5], flat[share.ravel() < 0.02]
    if len(inside) < 2 or len(outside) < NEIGHBOURS:
        return -1.0
    every: Mask = np.ones(len(inside), np.bool_)
    return float((_likeness(inside, inside, every) - _likeness(inside, outside)).mean())


def from_point(tokens: Floats, row: float, column: float, others: Mask | None = None) -> Floats:
    """Labels of the subject under a point.

    Args:
        tokens: float32[rows, columns, D].
        row, column: the point, in patches (fractions allowed).
        others: bool[rows, columns], patches that prompts say are another subject's, if only in part.

    Returns:
        float32[rows, columns] in 0..1.
    """
    rows, columns, _ = tokens.shape
    flat = _unit(tokens)
    seed = min(int(row), rows - 1), min(int(column), columns - 1)
    likeness = (flat @ flat[seed[0] * columns + seed[1]]).reshape(rows, columns)
    border = np.ones((rows, columns), np.bool_)
    border[1:-1, 1:-1] = False
    others = np.zeros((rows, columns), np.bool_) if others is None else others.copy()
    others[seed] = False
    background = border & (likeness <= np.quantile(likeness, BORDER))
    background = background & ~others if (background & ~others).any() else background
    subject = np.zeros((rows, columns), np.bool_)
    subject[seed] = True
    return _grow(flat, subject, background, seed, others)


def from_box(tokens: Floats, place: Box, others: Mask | None = None) -> Floats:
    """Labels of the subject in a box (x, y, w, h in patches): float32[rows, columns] in 0..1, 0 outside the box. A box that leaves
    next to nothing outside is the subject. ``others`` as in `from_point`."""
    from scipy.ndimage import binary_dilation, label

    rows, columns, _ = tokens.shape
    share = _box_share(rows, columns, place)
    inside = share > 0
    flat = _unit(tokens)
    others = _company(flat, inside, place) if others is None else others | _company(flat, inside, place)
    outside = ~inside
    if (outside & ~others).sum() >= LEAST_GROUND:
        outside &= ~others
    if outside.sum() < NEIGHBOURS:
        return share
    background = _likeness(flat, flat[outside.ravel()]).reshape(rows, columns)
    sure = inside & (background <= np.quantile(background[inside], SURE))
    surplus = _likeness(flat, flat[sure.ravel()], sure).reshape(rows, columns) - background
    labels: Floats = (1 / (1 + np.exp(-surplus / SOFT))).astype(np.float32)
    # A subject may be seen in parts, behind a fence; specks are something else.
    part, _ = label(inside & (labels > 0.5), np.ones((3, 3)))
    size = np.bincount(part.ravel())[1:]
    kept = np.isin(part, 1 + np.flatnonzero(size >= 0.25 * size.max(initial=0)))
    labels = np.where(binary_dilation(kept, np.ones((3, 3))), labels, 0).astype(np.float32) * share
    return labels if kept.any() else share * sure


def apart(found: Mapping[int, Mask], places: Mapping[int, Box]) -> dict[int, Mask]:
    """Masks of one frame without common pixels: each goes to the subject whose place is nearer, in half sides of its box.

    Args:
        found: subject -> bool[H, W].
        places: subject -> x, y, w, h of its box; of a point w and h are 0, and it counts as if it had the mean box of the others. A
            subject without a place was drawn, and keeps its pixels.

    Returns:
        The same subjects, in order of their numbers; one that would lose all its pixels keeps them.
    """
    sizes = [(w, h) for _, _, w, h in places.values() if w] or [(1.0, 1.0)]
    half = np.mean(sizes, axis=0) / 2
    far = {}
    for s, (x, y, w, h) in places.items():
        down, across = np.indices(found[s].shape) + 0.5
        wide, high = (w / 2, h / 2) if w else half
        far[s] = ((across - x - w / 2) / wide) ** 2 + ((down - y - h / 2) / high) ** 2
    out = {}
    for s, mask in sorted(found.items()):
        own = mask.copy()
        for other, theirs in found.items():
            if other == s or s not in far:
                continue
            nearer: Mask = np.ones_like(mask)
            if other in far:  # of two that are as near, the first has it
                nearer = far[other] <= far[s] if other < s else far[other] < far[s]
            own &= ~(theirs & nearer)
        out[s] = own if own.any() else mask
    return out


def pixels_of(place: Box, view: Picture) -> Mask:
    """bool[H, W]: the pixels of a box, or of the point x, y where w and h are 0; those in the view."""
    x, y, w, h = place
    mask = np.zeros(view.shape[:2], np.bool_)
    right, bottom = max(int(np.ceil(x + w)), int(x) + 1), max(int(np.ceil(y + h)), int(y) + 1)
    mask[int(max(0, y)) : bottom, int(max(0, x)) : right] = True
    return mask


def _touched(others: Mask | None, window: View, tokens: Floats) -> Mask | None:
    """bool[rows, columns]: patches of the window that others lie in, if only in part."""
    if others is None or not others.any():
        return None
    rows, columns, _ = tokens.shape
    touched: Mask = coverage(others, rows, columns, (window.x, window.y, window.w, window.h)) > 0
    return touched


def _around(place: Box, margin: float, view: Picture) -> View:
    """Whole pixels of the view around a box."""
    height, width = view.shape[:2]
    x, y, w, h = place
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    right, bottom = min(width, int(np.ceil(x + w + margin))), min(height, int(np.ceil(y + h + margin)))
    return View(x=left, y=top, w=right - left, h=bottom - top)


def _near(view: Picture, window: View, patch: int, grid: tuple[int, int]) -> Picture:
    zoom = max(NEAR / max(window.w, window.h), grid[0] / view.shape[0])
    return cut(view, window, max(1, round(window.h * zoom)) * patch, max(1, round(window.w * zoom)) * patch)


def _patches(picture: Picture, window: View, patch: int) -> tuple[float, float]:
    """Patches per pixel of the window, down and across."""
    return picture.shape[0] / patch / window.h, picture.shape[1] / patch / window.w


def _back(mask: Mask, window: View, view: Picture) -> Mask:
    whole = np.zeros(view.shape[:2], np.bool_)
    whole[window.y : window.y + window.h, window.x : window.x + window.w] = mask
    return whole


def _enclosing(mask: Mask, x: float, y: float) -> Box:
    """The box around a mask and a point."""
    left, top, w, h = box(mask) or (x, y, 0, 0)
    right, bottom = max(left + w, x), max(top + h, y)
    left, top = min(left, x), min(top, y)
    return left, top, right - left, bottom - top


def _box_share(rows: int, columns: int, place: Box) -> Floats:
    """float32[rows, columns] in 0..1, the share of each patch that lies in the box."""
    x, y, w, h = place
    down = np.clip(np.minimum(np.arange(rows) + 1, y + h) - np.maximum(np.arange(rows), y), 0, 1)
    across = np.clip(np.minimum(np.arange(columns) + 1, x + w) - np.maximum(np.arange(columns), x), 0, 1)
    share: Floats = np.outer(down, across).astype(np.float32)
    return share


def _likeness(flat: Floats, others: Floats, members: Mask | None = None) -> Floats:
    """float32[P]: mean cosine with the most similar of ``others``, which are the ``members`` of P; nobody is compared with itself."""
    cosine = flat @ others.T
    if members is not None:
        cosine[np.flatnonzero(members), np.arange(len(others))] = -1
    best: Floats = np.sort(cosine, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    return best


def _grow(flat: Floats, subject: Mask, background: Mask, seed: tuple[int, int], others: Mask) -> Floats:
    """Alternate between prototypes and patches. ``seed`` is the patch the subject must be connected to; what looks like it and is
    connected to ``others`` is neither subject nor background.

    A patch belongs to the subject if it is more like it than like the background, and also like enough by itself: something new that
    stands beside the subject is like neither.
    """
    from scipy.ndimage import binary_dilation, label

    first = flat[subject.ravel()][:1]
    labels = np.zeros(subject.shape, np.float32)
    for _ in range(ROUNDS):
        theirs = (flat @ _prototypes(flat[background.ravel()], BACKGROUND).T).max(axis=1)
        ours = (flat @ np.concatenate([first, _prototypes(flat[subject.ravel()], SUBJECT)]).T).max(axis=1)
        typical = np.median(np.sort(ours)[-max(8, int(subject.sum())) :])
        least = ours[background.ravel()].mean() * (1 - ALIKE) + typical * ALIKE
        surplus = np.minimum(ours - theirs, ours - least).reshape(subject.shape)
        labels = (1 / (1 + np.exp(-surplus / SOFT))).astype(np.float32)
        inside = labels > 0.5
        inside[seed] = True
        part, _ = label(inside)
        subject = part == part[seed]
        labels = np.where(binary_dilation(subject, np.ones((3, 3))), labels, 0).astype(np.float32)
        theirs_too = others | np.isin(part, part[others & inside])
        background = ~binary_dilation(subject | (theirs_too & ~subject))
        if background.sum() < BACKGROUND:
            break
    return labels


def _company(flat: Floats, inside: Mask, place: Box) -> Mask:
    """bool[rows, columns]: patches outside a box that nobody prompted and that are yet more like what is in the middle of the box than
    like anything else: another animal of the kind. What else there is: corners of the box, and patches as far away as the box is long."""
    rows, columns = inside.shape
    x, y, w, h = place
    row, column = np.indices((rows, columns)) + 0.5
    away = ((column - x - w / 2) / (w / 2)) ** 2 + ((row - y - h / 2) / (h / 2)) ** 2
    core, corners = inside & (away < MIDDLE), inside & (away > CORNER)
    at, else_at = np.flatnonzero(~inside), np.flatnonzero(~inside | corners)
    found = np.zeros(rows * columns, np.bool_)
    if core.sum() >= NEIGHBOURS and len(at):
        cosine = flat[at] @ flat[else_at].T
        distance = np.hypot(row.ravel()[at, None] - row.ravel()[else_at], column.ravel()[at, None] - column.ravel()[else_at])
        cosine[(distance < max(w, h)) & ~corners.ravel()[else_at]] = -1
        usual = np.sort(cosine, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
        alike = np.sort(flat[at] @ flat[core.ravel()].T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
        found[at] = alike > usual + COMPANY
    return found.reshape(rows, columns)


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
