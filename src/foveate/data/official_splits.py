"""Video data sets whose authors fixed the split: UCF101, HMDB51, JHMDB, mini-Kinetics, in the layouts they are handed out in.

ucf101          ROOT/ucfTrainTestlist/{classInd,trainlist01,testlist01 .. 03}.txt; videos anywhere in ROOT as <Class>/<name>.avi
hmdb51          ROOT/testTrainMulti_7030_splits/<class>_test_split<1..3>.txt (or in splits/): name, 1 = train, 2 = test, 0 = neither; videos
                anywhere in ROOT as <class>/<name>.avi
jhmdb           the same files in ROOT/splits; videos in ROOT/ReCompress_Videos/<class>/<name>.avi; for backgrounds
                ROOT/puppet_mask/<class>/<name>/puppet_mask.mat with ``part_mask`` [H, W, T]
mini-kinetics   Kinetics-400's layout, and ROOT/mini_kinetics.txt: its 200 classes, one a line (Xie et al. 2018); for the foreground
                ROOT/boxes/<id>_<start>_<end>.csv: frame, x, y, w, h of every person, pixels of the video
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from foveate.data.labelled import Listed, Split, listed
from foveate.schema import FoveateError

Official: TypeAlias = Literal["ucf101", "hmdb51", "jhmdb", "mini-kinetics"]
OFFICIAL: tuple[Official, ...] = get_args(Official)
SPLITS = {"ucf101": 3, "hmdb51": 3, "jhmdb": 3, "mini-kinetics": 1}
_ENDINGS = (".avi", ".mp4", ".mkv", ".webm")


def official(which: Official, root: Path, split: Split, number: int = 1) -> Listed:
    """A side of a split.

    Args:
        which: the data set.
        root: its folder.
        split: train or test.
        number: of the split, from 1.

    Raises:
        FoveateError: there is no such split, a list is missing or damaged, or none of its videos is there.
    """
    if not root.is_dir():
        raise FoveateError("no such folder", file=root, remedy=f"name the folder of {which}")
    if not 1 <= number <= SPLITS[which]:
        raise FoveateError(f"{which} has no split {number}", remedy=f"choose 1 to {SPLITS[which]}")
    if which == "mini-kinetics":
        return _mini_kinetics(root, split)
    rows, classes = _ucf101(root, split, number) if which == "ucf101" else _hmdb51(root, split, number)
    there = {f"{path.parent.name}/{path.stem}": path for path in _videos(root)}
    kept = [(there[name], label) for name, label in rows if name in there]
    if not kept:
        first = rows[0][0] if rows else "the list is empty"
        raise FoveateError(
            f"none of the {len(rows)} videos of {which} ({split}, split {number}) is here, for example {first}",
            file=root,
            remedy="put the videos into a folder for each class, as they are handed out",
        )
    label = np.array([number for _, number in kept], np.int64)
    return Listed(tuple(path for path, _ in kept), label, classes, len(rows) - len(kept))


def _videos(root: Path) -> Iterator[Path]:
    yield from (path for path in sorted(root.rglob("*")) if path.suffix.lower() in _ENDINGS)


def _ucf101(root: Path, split: Split, number: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    folder = _first(root, ("ucfTrainTestlist", "."), "classInd.txt")
    order: dict[str, int] = {}
    for row, line in _lines(folder / "classInd.txt"):
        place, _, name = line.partition(" ")
        if not place.isdigit() or not name:
            raise FoveateError("this row cannot be read", file=folder / "classInd.txt", row=row, remedy="number, class")
        order[name.strip()] = int(place)
    classes = tuple(sorted(order, key=order.__getitem__))
    path, rows = folder / f"{split}list{number:02d}.txt", []
    for row, line in _lines(path):
        name = line.split()[0].removesuffix(".avi")
        label = name.split("/")[0]
        if label not in order:
            raise FoveateError(
                f"the class {label!r} is not in classInd.txt", file=path, row=row, remedy="take the published files"
            )
        rows.append((name, classes.index(label)))
    return rows, classes


def _hmdb51(root: Path, split: Split, number: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    ending = f"_test_split{number}.txt"
    folder = next(
        (root / name for name in ("testTrainMulti_7030_splits", "splits", ".") if any((root / name).glob(f"*{ending}"))), None
    )
    if folder is None:
        raise FoveateError(
            f"there are no lists <class>{ending}", file=root / "splits", remedy="unpack the published splits there"
        )
    paths = sorted(folder.glob(f"*{ending}"))
    classes = tuple(path.name.removesuffix(ending) for path in paths)
    rows, wanted = [], "1" if split == "train" else "2"
    for label, path in enumerate(paths):
        for row, line in _lines(path):
            name, _, side = line.rpartition(" ")
            if side not in ("0", "1", "2") or not name:
                raise FoveateError("this row cannot be read", file=path, row=row, remedy="name of the video, and 0, 1 or 2")
            if side == wanted:
                rows.append((f"{classes[label]}/{name.strip().removesuffix('.avi')}", label))
    return rows, classes


def _mini_kinetics(root: Path, split: Split) -> Listed:
    path = root / "mini_kinetics.txt"
    chosen = [line for _, line in _lines(path)]
    found = listed("kinetics400", root, split)
    unknown = [name for name in chosen if name not in found.classes]
    if unknown:
        raise FoveateError(f"there is no class {unknown[0]!r} in the lists of Kinetics", file=path, remedy="one class a line")
    classes = tuple(sorted(chosen))
    kept = [
        (where, classes.index(found.classes[label]))
        for where, label in zip(found.paths, found.label.tolist(), strict=True)
        if found.classes[label] in chosen
    ]
    if not kept:
        raise FoveateError("none of the videos of these classes is here", file=root, remedy="see the layouts in the docs")
    return Listed(tuple(where for where, _ in kept), np.array([k for _, k in kept], np.int64), classes, found.missing)


def _first(root: Path, folders: tuple[str, ...], name: str) -> Path:
    found = next((root / folder for folder in folders if (root / folder / name).is_file()), None)
    if found is None:
        raise FoveateError("this list is missing", file=root / folders[0] / name, remedy="put it there, as it is published")
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    """Rows of a text file that are not empty, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FoveateError("this list is missing", file=path, remedy="put it there, as it is published") from None
    except UnicodeDecodeError:
        raise FoveateError("this list is no text", file=path, remedy="take the published file") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
