"""DAVIS: region similarity J and boundary accuracy F of masks, as the data set's own evaluation counts them.

Definitions: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016, section 5.1), and
Pont-Tuset et al., "The 2017 DAVIS Challenge" (2017, section 3), read beside the public evaluation code. What the papers leave open and the
code decides:

* where the mask of the first frame is given, **the first and the last frame are left out**, in the code of both years;
* an outline is one pixel wide and lies half a pixel towards the origin; two outline pixels match within a disc whose radius is .008 of the
  picture's diagonal, rounded up; a match need not be one to one;
* two empty masks agree fully (J = F = 1); one empty mask gives F = 0;
* objects are the numbers of the first annotated frame up to its largest; a sequence's objects count alike, whatever its length;
* pixels annotated as void (255) count as background where the first mask is given, and are left out where it is not.

``tests/golden/davis.json`` holds what that code makes of masks of ours. One thing differs: it numbers the frames of the decay's bins in
eight bits, so that it goes wrong beyond 256 frames; ours does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask
from foveate.schema import FoveateError

TOLERANCE = 0.008  # of the picture's diagonal
GOOD = 0.5  # recall counts the frames above it
BINS = 4  # decay: mean of the first quarter less mean of the last
VOID = 255

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]
"""[H, W], the number of the object in each pixel: 0 is background, 255 void."""


@dataclass(frozen=True)
class Summary:
    """One measure over the frames of one object."""

    mean: float  # 0..1
    recall: float  # 0..1, share of frames above one half
    decay: float  # -1..1, positive where the masks get worse


@dataclass(frozen=True, eq=False)
class Scores:
    """J and F of every object in every frame that counts: float64[objects, frames]."""

    regions: Floats
    boundaries: Floats

    @property
    def objects(self) -> list[tuple[Summary, Summary]]:
        """J and F of each object."""
        return [(summarise(j), summarise(f)) for j, f in zip(self.regions, self.boundaries, strict=True)]


def region(found: Mask, truth: Mask, void: Mask | None = None) -> float:
    """J: intersection over union of two masks bool[H, W], without the ``void`` pixels; 1 where both are empty."""
    if void is not None:
        found, truth = found & ~void, truth & ~void
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def boundary(found: Mask, truth: Mask, void: Mask | None = None) -> float:
    """F: harmonic mean of precision and recall of the outline of ``found`` against that of ``truth``, both bool[H, W]."""
    if void is not None:
        found, truth = found & ~void, truth & ~void
    ours, theirs = outline(found), outline(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    radius = np.ceil(TOLERANCE * np.hypot(*truth.shape))
    precision, recall = _matched(ours, theirs, radius), _matched(theirs, ours, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: Mask) -> Mask:
    """Pixels that differ from the one to their right, the one below, or the one right below: bool[H, W]. In the last row and column, which
    have only one of these, that one decides."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def _matched(pixels: Mask, others: Mask, radius: float) -> float:
    """Share of ``pixels`` that have one of ``others`` within ``radius``; neither is empty."""
    from scipy.ndimage import distance_transform_edt

    # Only pixels near enough to matter are looked at.
    rows, columns = (np.flatnonzero((pixels | others).any(axis)) for axis in (1, 0))
    near = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    distance = distance_transform_edt(~others[near])
    return float((distance[pixels[near]] <= radius).mean())


def summarise(values: Floats) -> Summary:
    """Mean, recall and decay of float64[frames], in order of time; at least one frame."""
    last = len(values)
    edges = np.floor(np.linspace(1, last, BINS + 1) + 0.5 + 1e-10).astype(int) - 1
    first, final = values[: edges[1] + 1], values[edges[BINS - 1] :]  # neighbouring bins share a frame
    return Summary(float(values.mean()), float((values > GOOD).mean()), float(first.mean() - final.mean()))


def evaluate(truth: Sequence[Labels], found: Sequence[Labels], given: bool = True) -> Scores:
    """Compare the masks of one sequence.

    Args:
        truth: annotation of each frame, uint8[H, W].
        found: result for each frame, alike; its 255 counts as an object like any other number.
        given: the first frame's masks were given, and numbers mean the same objects in both (semi-supervised). Otherwise every object
            is compared with the result that suits it best, one to one, and all frames count (unsupervised).

    Raises:
        FoveateError: another number of frames, another size, too short a sequence, or an object that the annotation does not have.
    """
    if len(truth) != len(found):
        raise FoveateError(f"{len(truth)} frames are annotated, but there are results for {len(found)}")
    count = max(int(np.where(truth[0] == VOID, 0, truth[0]).max()), 0) if len(truth) else 0
    pairs = list(zip(truth, found, strict=True))
    pairs = pairs[1:-1] if given else pairs
    if not count or not pairs:
        raise FoveateError("there is nothing to compare: no object in the first frame, or fewer than three frames")
    results = max(int(labels.max()) for _, labels in pairs)
    if given and results > count:
        raise FoveateError(f"the results have an object {results}, but the annotation has {count}")
    results = count if given else max(results, count)
    regions, boundaries = np.zeros((results, count, len(pairs))), np.zeros((results, count, len(pairs)))
    for t, (true, labels) in enumerate(pairs):
        if true.shape != labels.shape:
            raise FoveateError(f"a result has {labels.shape[::-1]} pixels, its annotation {true.shape[::-1]}")
        void = None if given else true == VOID
        for one in range(count):
            for other in [one] if given else range(results):
                masks = labels == other + 1, true == one + 1, void
                regions[other, one, t], boundaries[other, one, t] = region(*masks), boundary(*masks)
    chosen = range(count) if given else _assigned((regions.mean(-1) + boundaries.mean(-1)) / 2)
    return Scores(*(np.stack([values[k, i] for i, k in enumerate(chosen)]) for values in (regions, boundaries)))


def _assigned(likeness: Floats) -> list[int]:
    """For each column of float64[results, objects] a row of its own, so that their sum is largest."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-likeness)
    return [int(rows[list(columns).index(i)]) for i in range(likeness.shape[1])]


@dataclass(frozen=True)
class Footage:
    """One sequence of a DAVIS folder."""

    name: str
    pictures: tuple[Path, ...]
    annotations: tuple[Path, ...]  # one for each picture


def read_labels(path: Path) -> Labels:
    """Objects of an annotation or result PNG. A palette's (or grey) numbers are the objects, except where only 0 and 255 occur in a picture
    without a palette: that is one object, as in DAVIS 2016.

    Raises:
        FoveateError: not a picture of that kind.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            palette = image.mode == "P"
            labels = np.asarray(image.convert("L") if image.mode in ("RGB", "RGBA") else image)
    except (OSError, ValueError, Image.DecompressionBombError):
        raise FoveateError("not a picture", file=path, remedy="put the file of the data set there again") from None
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.bool_):
        raise FoveateError("not a mask: one channel of 8 bits is wanted", file=path, remedy="save it as a palette PNG")
    if labels.dtype == np.bool_ or (not palette and np.isin(labels, (0, VOID)).all()):
        labels = labels > 0
    return labels.astype(np.uint8)


def read_folder(folder: Path, names: Sequence[str] = ()) -> Iterator[Footage]:
    """Sequences of ``JPEGImages/480p/<name>/*.jpg`` with ``Annotations/480p/<name>/*.png``; all of them, or those named.

    Raises:
        FoveateError: what is missing, and where it was looked for.
    """
    pictures, annotations = (folder / kind / "480p" for kind in ("JPEGImages", "Annotations"))
    for part in (pictures, annotations):
        if not part.is_dir():
            raise FoveateError(
                "there is no such folder", file=part, remedy="name the folder that holds JPEGImages and Annotations"
            )
    known = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    for name in names or known:
        images, masks = sorted((pictures / name).glob("*.jpg")), sorted((annotations / name).glob("*.png"))
        if not images:
            raise FoveateError(
                f"sequence {name!r} has no pictures", file=pictures / name, remedy=f"there are: {', '.join(known)}"
            )
        missing = sorted({path.stem for path in images} ^ {path.stem for path in masks})
        if missing:
            raise FoveateError(
                f"sequence {name!r}: pictures and annotations do not match; {len(missing)} stand alone, first {missing[0]}",
                file=annotations / name,
                remedy="every frame needs both; the test sets of DAVIS 2017, annotated in the first frame only, cannot be scored",
            )
        yield Footage(name, tuple(images), tuple(masks))
