"""IN-9 in its published layout (github.com/MadryLab/backgrounds_challenge).

DATA/<set>/val/<class>/*          the eight sets, nine classes (00_dog ... 08_fish)
DATA/fg_mask/val/<class>/*.npy    for the adversarial challenge: bool[H, W] of the subjects of ``original``
DATA/original/train/<class>/*     (or DATA/train) training pictures: IN-9's own, or IN-9L's; or
DATA/train/<wnid>/*               ImageNet's 1,000 classes, with DATA/in_to_in9.json, the released table: number of the class, in the order
                                  of their names, to number of the super-class; a picture is right if its super-class is, and what
                                  the table leaves out (-1) is wrong
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.backgrounds.challenge import probe
from foveate.evaluate.backgrounds.composites import SETS, Scene, mixed
from foveate.evaluate.backgrounds.footage import pictures_of
from foveate.evaluate.pictures import Labelled, centred, open_picture, read_split
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from foveate.evaluate.encoders import Encoder

_BATCH = 64


def is_in9(data: Path) -> bool:
    """Whether a folder looks like it."""
    return (data / "mixed_rand" / "val").is_dir()


def evaluate(
    data: Path, encoder: Encoder, size: int = 224, adversaries: int = 3, seed: int = 0, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Accuracy on the eight sets, gap, and the adversarial challenge where there are masks.

    Args:
        data: see above.
        encoder: the backbone.
        size: side of the pictures in pixels.
        adversaries: backgrounds of other classes that each subject is put on; 0: all of them, as published (4,050 subjects on 3,600
            backgrounds: many hours on a GPU).
        seed: of the draw of backgrounds.
        progress: told of the sets done.

    Returns:
        Rows as ``challenge.table`` has them, without intervals: feature, set, accuracy (share of the pictures), chance, pictures, groups.

    Raises:
        FoveateError: what is missing in the folder.
    """
    missing = [which for which in SETS if not (data / which / "val").is_dir()]
    if missing:
        raise FoveateError(f"there is no set {missing[0]!r}", file=data / missing[0] / "val", remedy="unpack all eight sets")
    train = _training(data)
    names = tuple(sorted(path.name for path in (data / "original" / "val").iterdir() if path.is_dir()))
    superclass = _superclasses(data, train, names)
    apart = np.array([str(k) for k in range(len(train))])
    classifier = probe(_vectors(encoder, map(open_picture, train.paths), size), train.labels, apart)

    def named(pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = superclass[classifier.named(_vectors(encoder, pictures, size))]
        return found

    rows: list[dict[str, Any]] = []
    for done, which in enumerate(SETS):
        progress(done, len(SETS) + 1)
        files = list(pictures_of(data / which / "val", names))
        right = named(open_picture(path) for path, _ in files) == [number for _, number in files]
        rows.append(_row(which, float(right.mean()), 1 / len(names), len(files)))
    by = {row["set"]: row["accuracy"] for row in rows}
    rows.append(_row("gap", by["mixed_same"] - by["mixed_rand"], 0.0, rows[0]["pictures"]))
    if (data / "fg_mask" / "val").is_dir():
        subjects, rng, withstood = list(_subjects(data, names)), np.random.default_rng(seed), []
        grounds = list(pictures_of(data / "only_bg_t" / "val", names))
        for picture, mask, number in subjects:
            others = np.flatnonzero([of != number for _, of in grounds])
            chosen = others if adversaries == 0 else rng.permutation(others)[:adversaries]
            scene = Scene(picture[None], mask[None])
            tried = named(mixed(scene, open_picture(grounds[k][0])[None])[0] for k in chosen.tolist())
            withstood.append(bool((tried == number).all()))
        rows.append(_row("adversarial", float(np.mean(withstood)), 1 / len(names), len(withstood)))
    progress(len(SETS) + 1, len(SETS) + 1)
    return rows


def _row(which: str, accuracy: float, chance: float, pictures: int) -> dict[str, Any]:
    row = {"feature": "whole", "set": which, "accuracy": accuracy, "low": None, "high": None, "chance": chance}
    return row | {"pictures": pictures, "groups": pictures}


def _vectors(encoder: Encoder, pictures: Iterable[NDArray[np.uint8]], size: int) -> NDArray[np.float32]:
    """f32[N, D] of test views: IN-9's pictures have 224 x 224 pixels and are shown as they are, others are cut as ImageNet's."""
    import torch

    found: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []

    def show() -> None:
        if waiting:
            stacked = torch.from_numpy(np.stack(waiting)).permute(0, 3, 1, 2)
            found.append(encoder.pictures(stacked).whole.cpu().numpy())
            waiting.clear()

    for picture in pictures:
        waiting.append(picture if picture.shape[:2] == (size, size) else centred(picture, size))
        if len(waiting) == _BATCH:
            show()
    show()
    return np.concatenate(found)


def _superclasses(data: Path, train: Labelled, names: tuple[str, ...]) -> NDArray[np.int64]:
    """i64[C]: the number among the nine of every training class, -1 for none."""
    if train.names == names:
        return np.arange(len(names))
    path = data / "in_to_in9.json"
    if not path.is_file():
        raise FoveateError(
            "the training pictures have other classes than the test sets, and there is no table of them",
            file=path,
            remedy="put the released in_to_in9.json there, or train on original/train",
        )
    try:
        table = {int(key): int(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
        return np.array([table[k] for k in range(len(train.names))], np.int64)
    except (ValueError, KeyError, AttributeError) as error:
        raise FoveateError(
            f"this table does not name all {len(train.names)} classes", file=path, remedy="put the released file there again"
        ) from error


def _subjects(data: Path, names: tuple[str, ...]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_], int]]:
    """Picture, mask and class of each subject of the adversarial challenge."""
    for number, name in enumerate(names):
        for path in sorted((data / "fg_mask" / "val" / name).glob("*.npy")):
            picture = next((data / "original" / "val" / name).glob(f"{path.stem}.*"), None)
            if picture is None:
                raise FoveateError("this mask has no picture in original", file=path, remedy="unpack the data set again")
            try:
                mask = np.load(path, allow_pickle=False).astype(bool)
            except (OSError, ValueError) as error:
                raise FoveateError("this mask cannot be read", file=path, remedy="unpack the data set again") from error
            pixels = open_picture(picture)
            if mask.shape != pixels.shape[:2]:
                raise FoveateError(
                    f"this mask has {mask.shape[::-1]} pixels, its picture {pixels.shape[1::-1]}",
                    file=path,
                    remedy="unpack the data set again",
                )
            yield pixels, mask, number


def _training(data: Path) -> Labelled:
    for folder in (data / "original", data):
        if (folder / "train").is_dir():
            return read_split(folder, "train")
    raise FoveateError(
        "there are no training pictures for the probe",
        file=data / "original" / "train",
        remedy="put IN-9's or IN-9L's there: original/train/<class>/*; the test sets come without",
    )
