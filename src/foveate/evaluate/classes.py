"""Pictures with one class each, in the layouts of the data sets that backbones are fine-tuned on (DoRA, table 11).

    CIFAR-10        data_batch_1.bin .. data_batch_5.bin, test_batch.bin, batches.meta.txt      (cifar-10-binary.tar.gz)
    CIFAR-100       train.bin, test.bin, fine_label_names.txt                                   (cifar-100-binary.tar.gz)
    iNaturalist 18  train2018.json, val2018.json, pictures where these say
    Flowers-102     jpg/image_00001.jpg .., imagelabels.mat, setid.mat     training and validation together are trained on
    Cars-196        cars_train/*.jpg, cars_test/*.jpg, devkit/cars_{train,test}_annos*.mat, devkit/cars_meta.mat
    ImageNet        train/<class>/*, val/<class>/*

``read_classes`` tells them apart by their files. CIFAR's other version is pickled Python and is not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.pictures import Labelled, open_picture, read_both
from foveate.schema import FoveateError

Picture = NDArray[np.uint8]
_SIDE = 32  # of a CIFAR picture


@dataclass(frozen=True, eq=False)
class Classed:
    """Pictures of one split."""

    labels: NDArray[np.int64]  # [N] numbers of ``names``
    names: tuple[str, ...]
    picture: Callable[[int], Picture]  # u8[H, W, 3] of a number below N

    def __len__(self) -> int:
        return len(self.labels)


def read_classes(data: Path) -> tuple[Classed, Classed]:
    """Training and test pictures of a data set in one of the layouts above.

    Raises:
        FoveateError: what is missing or damaged, or what layouts there are.
    """
    for mark, read in (
        ("data_batch_1.bin", _cifar10),
        ("train.bin", _cifar100),
        ("train2018.json", _inaturalist),
        ("imagelabels.mat", _flowers),
        ("devkit", _cars),
    ):
        if (data / mark).exists():
            return read(data)
    if any(data.glob("data_batch_*")) or (data / "fine_label_names").exists() or (data / "train").is_file():
        raise FoveateError(
            "this is CIFAR's Python version, which is pickled, and a pickle can run anything",
            file=data,
            remedy="download the binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)",
        )
    if not (data / "train").is_dir():
        raise FoveateError(
            "no layout of a data set with classes is known in it",
            file=data,
            remedy="name one of CIFAR-10 or 100 (binary), iNaturalist 2018, Flowers-102, Cars-196, or with train/<class>/*, val/<class>/*",
        )
    train, test = (_of(one) for one in read_both(data))
    return train, test


def _of(split: Labelled) -> Classed:
    return _files(split.paths, split.labels, split.names)


def _files(paths: tuple[Path, ...], labels: NDArray[np.int64], names: tuple[str, ...]) -> Classed:
    return Classed(labels, names, partial(_opened, paths))


def _opened(paths: tuple[Path, ...], number: int) -> Picture:
    return open_picture(paths[number])


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FoveateError("there is no such file", file=path, remedy="unpack the data set again")
    return path


# --- CIFAR -------------------------------------------------------------------------------------------------------------------------


def _cifar10(data: Path) -> tuple[Classed, Classed]:
    names = _lines(data / "batches.meta.txt")
    return _records([data / f"data_batch_{k}.bin" for k in range(1, 6)], 1, names), _records(
        [data / "test_batch.bin"], 1, names
    )


def _cifar100(data: Path) -> tuple[Classed, Classed]:
    names = _lines(data / "fine_label_names.txt")
    return _records([data / "train.bin"], 2, names), _records([data / "test.bin"], 2, names)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in _there(path).read_text(encoding="utf-8").splitlines() if line.strip())


def _records(paths: list[Path], head: int, names: tuple[str, ...]) -> Classed:
    """Of files of records: ``head`` bytes, the last of them the class, then 32 x 32 red, green and blue."""
    size, parts = head + 3 * _SIDE * _SIDE, []
    for path in paths:
        found = np.frombuffer(_there(path).read_bytes(), np.uint8)
        if not len(found) or len(found) % size:
            raise FoveateError(
                f"{len(found):,} bytes are no whole pictures of {size:,}", file=path, remedy="download the binary version again"
            )
        parts.append(found.reshape(-1, size))
    records = np.concatenate(parts)
    labels = records[:, head - 1].astype(np.int64)
    if labels.max() >= len(names):
        raise FoveateError(f"class {labels.max()} has no name", file=paths[0], remedy="download the binary version again")
    pictures = records[:, head:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return Classed(labels, names, pictures.__getitem__)


# --- files with lists ----------------------------------------------------------------------------------------------------------------


def _inaturalist(data: Path) -> tuple[Classed, Classed]:
    numbers: dict[int, int] = {}
    names: tuple[str, ...] = ()
    splits = []
    for name in ("train2018.json", "val2018.json"):
        path = _there(data / name)
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            if not numbers:
                kinds = sorted(listed["categories"], key=lambda kind: kind["id"])
                numbers = {kind["id"]: k for k, kind in enumerate(kinds)}
                names = tuple(str(kind["name"]) for kind in kinds)
            files = {one["id"]: data / one["file_name"] for one in listed["images"]}
            paths = tuple(files[one["image_id"]] for one in listed["annotations"])
            labels = np.array([numbers[one["category_id"]] for one in listed["annotations"]], np.int64)
        except (ValueError, KeyError, TypeError) as error:
            raise FoveateError(
                f"this is no list of iNaturalist 2018 ({error!r})", file=path, remedy="download the list again"
            ) from error
        splits.append(_listed(path, paths, labels, names))
    return splits[0], splits[1]


def _flowers(data: Path) -> tuple[Classed, Classed]:
    labels = _array(data / "imagelabels.mat", "labels")
    names = tuple(f"class {k + 1}" for k in range(int(labels.max())))
    splits = []
    for parts in (("trnid", "valid"), ("tstid",)):
        chosen = np.concatenate([_array(data / "setid.mat", part) for part in parts])
        if chosen.min() < 1 or chosen.max() > len(labels):
            raise FoveateError(
                "it names pictures without a label", file=data / "setid.mat", remedy="download the data set again"
            )
        paths = tuple(data / "jpg" / f"image_{k:05d}.jpg" for k in chosen)
        splits.append(_listed(data / "setid.mat", paths, labels[chosen - 1] - 1, names))
    return splits[0], splits[1]


def _cars(data: Path) -> tuple[Classed, Classed]:
    names = tuple(str(name) for name in _mat(data / "devkit" / "cars_meta.mat", "class_names").ravel())
    splits = []
    for split, lists in (
        ("train", ("devkit/cars_train_annos.mat",)),
        ("test", ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat")),
    ):
        path = next((data / name for name in lists if (data / name).is_file()), data / lists[0])
        rows = np.atleast_1d(_mat(path, "annotations"))
        if rows.dtype.names is None or not {"class", "fname"} <= set(rows.dtype.names):
            raise FoveateError(
                "its pictures have no classes", file=path, remedy="cars_test_annos_withlabels.mat is a download of its own"
            )
        paths = tuple(data / f"cars_{split}" / str(name) for name in rows["fname"])
        splits.append(_listed(path, paths, rows["class"].astype(np.int64) - 1, names))
    return splits[0], splits[1]


def _listed(where: Path, paths: tuple[Path, ...], labels: NDArray[np.int64], names: tuple[str, ...]) -> Classed:
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = (
            f"{len(missing):,} of {len(paths):,} pictures are missing, first {missing[0].name}"
            if missing
            else "its list is empty"
        )
        raise FoveateError(what, file=missing[0].parent if missing else where, remedy="unpack the data set again")
    if labels.min() < 0 or labels.max() >= len(names):
        raise FoveateError("a picture has a class that has no name", file=where, remedy="download the data set again")
    return _files(paths, labels, names)


def _array(path: Path, name: str) -> NDArray[np.int64]:
    """int64 ``[N]``"""
    return np.atleast_1d(_mat(path, name)).ravel().astype(np.int64)


def _mat(path: Path, name: str) -> NDArray[Any]:
    """A variable of a MATLAB file of version 5, which holds plain arrays."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found: NDArray[Any] = loadmat(_there(path), squeeze_me=True, variable_names=[name])[name]
    except (MatReadError, ValueError, KeyError, TypeError, NotImplementedError, OSError) as error:
        raise FoveateError(f"there is no {name!r} to be read in it", file=path, remedy="download the data set again") from error
    return found
