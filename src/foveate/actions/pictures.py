"""What the backbone is shown: the pictures of one part with the rows they serve, cut, changed and resized, read ahead in a thread.

A part is one segment of a video: its stored crops, or its whole views. Every row of a part is shown as often as it has draws
(``augment``); None stands for the picture as it is. A whole view is made once for all subjects that want the same draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import crops, framestore, masks, timeline, track
from foveate.actions.augment import Draw, change, cut
from foveate.models.pretrained import patch_share, resize
from foveate.project import Project, Video
from foveate.schema import FoveateError, embedding_schema
from foveate.store import Artefact
from foveate.video import read_frames

if TYPE_CHECKING:
    from torch import Tensor

Source = Literal["crop", "frame", "track"]
KEYS = ("video", "view", "subject", "frame", "time")
_NO_MASK = np.zeros((1, 1), bool)
Draws = Sequence[Sequence[Draw | None]]
"""For every row of a part, how its picture is changed each time it is embedded; None: not at all."""


@dataclass(frozen=True)
class Batch:
    """Pictures on the model's device and the rows they serve."""

    images: Tensor  # u8[B, 3, S, S]
    shares: Tensor  # f32[R, rows, columns] share of each patch under the subject's mask
    of: NDArray[np.int64]  # i64[R] picture of each row
    rows: NDArray[np.int64]  # i64[R] row of the part


@dataclass(frozen=True)
class CropPart:
    """The crops of one segment, one file per view and subject."""

    name: str
    keys: pa.Table
    files: tuple[tuple[Path, pa.Table], ...]  # mp4 and its index, in the order of the keys
    paper: bool

    def look(self, device: Any, size: int, grid: int, batch: int, draws: Draws) -> Iterator[Batch]:
        """Read, cut and resize the crops; runs in its own thread."""
        import torch

        images, shares, first, number = [], [], 0, 0
        for path, index in self.files:
            for row, picture in _paired(index, framestore.read_crops(path), path):
                x, y, w, h = rectangle(row, picture.shape[0]) if self.paper else (0, 0, picture.shape[1], picture.shape[0])
                mask = masks.decode(row["rle"], *picture.shape[:2])[y : y + h, x : x + w] if row["rle"] else _NO_MASK
                for how in draws[number]:
                    images.append(_to_square(_changed(picture[y : y + h, x : x + w], how), size, device))
                    shares.append(_share(mask if how is None or not row["rle"] else cut(mask, how), grid))
                    if len(images) == batch:
                        yield Batch(torch.cat(images), torch.cat(shares), np.arange(batch), np.arange(first, first + batch))
                        images, shares, first = [], [], first + batch
                number += 1
        if images:
            count = len(images)
            yield Batch(torch.cat(images), torch.cat(shares), np.arange(count), np.arange(first, first + count))


@dataclass(frozen=True)
class FramePart:
    """The whole views of one segment."""

    name: str
    keys: pa.Table
    rles: pa.Array  # mask of each row, in view pixels
    path: Path
    timeline: Any
    views: dict[str, Any]

    def look(self, device: Any, size: int, grid: int, batch: int, draws: Draws) -> Iterator[Batch]:
        """Read the frames that somebody is in, cut and resize the views; runs in its own thread."""
        import torch

        first = np.cumsum([0, *map(len, draws)])
        rows_of: dict[int, dict[str, list[int]]] = {}
        for row, (frame, view) in enumerate(zip(self.keys["frame"].to_pylist(), self.keys["view"].to_pylist(), strict=True)):
            rows_of.setdefault(frame, {}).setdefault(view, []).append(row)
        wanted = np.array(sorted(rows_of), np.int64)
        images: list[Tensor] = []
        shares: list[Tensor] = []
        of: list[int] = []
        rows: list[int] = []
        for frame, picture in zip(wanted, read_frames(self.path, self.timeline, wanted), strict=True):
            for name, members in rows_of[int(frame)].items():
                view = self.views[name]
                served: dict[Draw | None, list[tuple[int, int]]] = {}  # subjects with the same draw share the picture
                for row in members:
                    for k, how in enumerate(draws[row]):
                        served.setdefault(how, []).append((row, int(first[row]) + k))
                for how, outs in served.items():
                    whole = picture[view.y : view.y + view.h, view.x : view.x + view.w]
                    images.append(_to_square(_changed(whole, how), size, device))
                    for row, out in outs:
                        rle = self.rles[row].as_py()
                        mask = masks.decode(rle, view.h, view.w) if rle else _NO_MASK
                        shares.append(_share(mask if how is None or not rle else cut(mask, how), grid))
                        of.append(len(images) - 1)
                        rows.append(out)
                    if len(images) == batch:
                        yield Batch(torch.cat(images), torch.cat(shares), np.array(of), np.array(rows))
                        images, shares, of, rows = [], [], [], []
        if images:
            yield Batch(torch.cat(images), torch.cat(shares), np.array(of), np.array(rows))


def parts_of(project: Project, video: Video, source: Source) -> Iterator[CropPart | FramePart]:
    """What a video's rows are computed from, part by part; their inputs must be finished."""
    if source == "crop":
        return _crop_parts(project, crops.artefact(project, video))
    return _frame_parts(project, video, track.artefact(project, video))


def _crop_parts(project: Project, source: Artefact) -> Iterator[CropPart]:
    found: dict[str, list[str]] = {}
    for name in source.files(".parquet"):
        found.setdefault(Path(name).stem, []).append(name)
    for part, names in sorted(found.items()):
        files, keys = [], [no_keys()]
        for name in sorted(names, key=lambda n: n.split("/")):  # view, subject
            index = source.table(name)
            keys.append(index.select(list(KEYS)))
            if len(index):
                files.append((source.checked(name.removesuffix(".parquet") + ".mp4"), index))
        yield CropPart(part, pa.concat_tables(keys), tuple(files), project.config.crop.mode == "paper")


def _frame_parts(project: Project, video: Video, source: Artefact) -> Iterator[FramePart]:
    footage, views = timeline.load(project, video), timeline.views(project, video)
    for name in source.files(".parquet"):
        table = source.table(name, [*KEYS, "x", "rle"])
        table = table.filter(table["x"].is_valid()).sort_by([(key, "ascending") for key in ("view", "subject", "frame")])
        rles = table["rle"].combine_chunks()
        yield FramePart(Path(name).stem, table.select(list(KEYS)), rles, video.path, footage, views)


def no_keys() -> pa.Table:
    return embedding_schema(1).empty_table().select(list(KEYS))


def _paired(
    index: pa.Table, pictures: Iterator[NDArray[np.uint8]], path: Path
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Rows of a crop index with their pictures; both must be complete and in order."""
    rows = index.select(["position", "rect_x", "rect_y", "rect_w", "rect_h", "rle"]).to_pylist()
    for count, (row, picture) in enumerate(zip_longest(rows, pictures)):
        if row is None or picture is None or row["position"] != count:
            raise FoveateError(
                f"this file and its index of {len(rows)} rows do not belong together",
                file=path,
                remedy="delete this video's folder in crops/ and run `foveate run`; it is made again",
            )
        yield row, picture


def rectangle(row: dict[str, Any], size: int) -> tuple[int, int, int, int]:
    """The published rectangle in whole crop pixels, at least one, inside the crop: x, y, w, h."""
    x, y = (min(max(round(row[f"rect_{a}"]), 0), size - 1) for a in "xy")
    right, bottom = (round(row[f"rect_{a}"] + row[f"rect_{b}"]) for a, b in ("xw", "yh"))
    return x, y, min(max(right, x + 1), size) - x, min(max(bottom, y + 1), size) - y


def _to_square(picture: NDArray[np.uint8], size: int, device: Any) -> Tensor:
    """u8[1, 3, size, size] on ``device``."""
    import torch

    # A copy: decoded pictures may be views of a buffer that is used again. Channels stay last in memory, the fast way for resizing.
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).unsqueeze(0)
    return resize(image.to(device), size, size)


def _changed(picture: NDArray[np.uint8], how: Draw | None) -> NDArray[np.uint8]:
    return picture if how is None else change(picture, how)


def _share(mask: NDArray[np.bool_], grid: int) -> Tensor:
    import torch

    return patch_share(torch.from_numpy(mask[None].astype(np.float32)), grid, grid)
