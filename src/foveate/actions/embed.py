"""Stage ``embed``: one vector per frame, layer and way of looking, from a frozen backbone.

``source="crop"`` looks at the stored crops. In crop mode ``square`` the whole crop is resized to the model's square; in mode ``paper`` only
the published rectangle is, proportions not kept (specs of guided DINOv2: the crop is resized to 224 x 224 directly).
``source="frame"`` looks at whole views, the unguided baseline, resized to the square the same way. A view is then computed once for all its
subjects, and only the ``subject`` vector, weighted by each subject's mask, differs between them. Both sources have the same rows: one for
every analysed frame, view and subject with a box, so that they can be compared.

Parts hold their rows by view, subject, frame. Batches never cross a part, so a resumed run computes the same ones.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import crops, framestore, masks, timeline, track
from foveate.jobs import Progress, silent
from foveate.models.pretrained import Backbone, fetch_weights, load_backbone, model_of, patch_share, resize, weights_hash
from foveate.project import Project, Video
from foveate.schema import FEATURES, LAYERS, SEGMENT, FoveateError, embedding_schema
from foveate.store import Artefact, canonical_json, damaged, remembered, write_aside
from foveate.video import read_frames

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

VERSION = 1
Source = Literal["crop", "frame"]
_KEYS = ("video", "view", "subject", "frame", "time")
_AHEAD = 2  # batches prepared while the model works


@remembered
def artefact(project: Project, video: Video, source: Source = "crop") -> Artefact:
    """Where the vectors of a video are, or will be, with their expected stamp."""
    model = model_of(project.folder, project.config.embed.model)
    settings = project.config.embed.relevant() | {"source": source, "weights": weights_hash(model)}
    if source == "crop":
        parents = {"crop": crops.artefact(project, video).stamp}
    else:
        parents = {parent.stage: parent.stamp for parent in _stages(project, video)}
    short = hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:8]
    folder = project.stage_folder("embeddings", f"{_label(model)}-{short}", video.name)
    return Artefact(folder, "embed", VERSION, settings, parents)


def _stages(project: Project, video: Video) -> tuple[Artefact, ...]:
    """What whole views are read from."""
    return timeline.artefact(project, video), track.artefact(project, video)


def _label(model: str) -> str:
    """A model's name as part of a folder's name."""
    name = Path(model).name if Path(model).is_dir() else model.replace("/", "--")
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "model"


def run(project: Project, video: Video, source: Source = "crop", progress: Progress = silent) -> Artefact:
    """Embed a video: write ``embeddings/<model>-<hash8>/<video>/part-*.arrow``.

    Raises:
        FoveateError: crops (or track and timeline) are missing or damaged, or the model cannot be opened.
    """
    model = model_of(project.folder, project.config.embed.model)
    fetch_weights(model)  # before the stamp: a model that is not here yet has no final hash
    target = artefact(project, video, source)
    if target.complete():
        return target
    parents = (crops.artefact(project, video),) if source == "crop" else _stages(project, video)
    for parent in parents:
        if not parent.complete():
            raise FoveateError(
                f"stage {parent.stage} is missing or out of date", file=parent.folder, remedy="run `foveate run`"
            )
    total = parents[0].facts()["crops"] if source == "crop" else _boxes(parents[1])
    target.begin()
    backbone, done = load_backbone(model), 0
    for part in _crop_parts(project, parents[0]) if source == "crop" else _frame_parts(project, video, parents[1]):
        name = f"{part.name}.arrow"
        if not target.has(name):
            _write(target.path(name), part.keys, _vectors(part, backbone, project, progress, done, total), backbone.width)
        done += len(part.keys)
        progress(done, total)
    target.finish({"model": project.config.embed.model, "source": source, "width": backbone.width, "rows": done})
    return target


def finished(project: Project, videos: Sequence[Video], source: Source = "crop") -> list[Video]:
    """Those of ``videos`` whose vectors are there. The others failed in some stage, which has said so; work goes on without them."""

    def there(video: Video) -> bool:
        try:
            return artefact(project, video, source).complete()
        except FoveateError:
            return False

    return [video for video in videos if there(video)]


def load_vectors(
    project: Project, video: Video, feature: str, layer: str, source: Source = "crop"
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Vectors of one video.

    Args:
        project: the project.
        video: one of its videos.
        feature: ``cls``, ``patch`` or ``subject``.
        layer: ``last``, ``third_last``, or ``both`` one after the other (``[last | third_last]``).
        source: ``crop`` or ``frame``.

    Returns:
        keys (video, view, subject, frame, time), f32[N, D] (``both``: [N, 2 D]) in the same order: by part, and in it by view,
        subject, frame.

    Raises:
        FoveateError: the stage has not run, or a file is damaged.
    """
    if feature not in FEATURES or layer not in (*LAYERS, "both"):
        raise ValueError(f"no vectors called {feature}_{layer}")
    found = artefact(project, video, source)
    if not found.complete():
        raise FoveateError("the vectors are missing or out of date", file=found.folder, remedy="run `foveate run`")
    table, vectors = read_parts(found, feature, LAYERS if layer == "both" else (layer,))
    return table[list(_KEYS)], vectors.astype(np.float32)


def read_parts(found: Artefact, feature: str, layers: Sequence[str]) -> tuple[pd.DataFrame, NDArray[np.float16]]:
    """All rows of a finished artefact of vectors: keys with ``aug``, and f16[N, D * layers]."""
    keys, vectors = [], [np.zeros((0, found.facts()["width"] * len(layers)), np.float16)]
    for name in found.files(".arrow"):
        path = found.checked(name)
        try:
            with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
                for k in range(reader.num_record_batches):
                    batch = reader.get_batch(k)
                    columns = [batch.column(f"{feature}_{layer}").flatten().to_numpy() for layer in layers]
                    vectors.append(np.concatenate([column.reshape(len(batch), -1) for column in columns], axis=1))
                    keys.append(batch.select([*_KEYS, "aug"]).to_pandas())
        except pa.ArrowException as error:
            raise damaged(path) from error
    import pandas as pd

    table = (
        pd.concat(keys, ignore_index=True) if keys else embedding_schema(1).empty_table().select([*_KEYS, "aug"]).to_pandas()
    )
    return table, np.concatenate(vectors)


# --- what is to be looked at ---


@dataclass(frozen=True)
class _Batch:
    """Pictures on the model's device and the rows they serve."""

    images: Tensor  # u8[B, 3, S, S]
    shares: Tensor  # f32[R, rows, columns] share of each patch under the subject's mask
    of: NDArray[np.int64]  # i64[R] picture of each row
    rows: NDArray[np.int64]  # i64[R] row of the part


@dataclass(frozen=True)
class _CropPart:
    """The crops of one segment, one file per view and subject."""

    name: str
    keys: pa.Table
    files: tuple[tuple[Path, pa.Table], ...]  # mp4 and its index, in the order of the keys
    paper: bool

    def look(self, device: Any, size: int, grid: int, batch: int) -> Iterator[_Batch]:
        """Read, cut and resize the crops; runs in its own thread."""
        import torch

        images, shares, first = [], [], 0
        for path, index in self.files:
            for row, picture in _paired(index, framestore.read_crops(path), path):
                x, y, w, h = rectangle(row, picture.shape[0]) if self.paper else (0, 0, picture.shape[1], picture.shape[0])
                images.append(_to_square(picture[y : y + h, x : x + w], size, device))
                mask = (
                    masks.decode(row["rle"], *picture.shape[:2])[y : y + h, x : x + w] if row["rle"] else np.zeros((1, 1), bool)
                )
                shares.append(_share(mask, grid))
                if len(images) == batch:
                    yield _Batch(torch.cat(images), torch.cat(shares), np.arange(batch), np.arange(first, first + batch))
                    images, shares, first = [], [], first + batch
        if images:
            count = len(images)
            yield _Batch(torch.cat(images), torch.cat(shares), np.arange(count), np.arange(first, first + count))


@dataclass(frozen=True)
class _FramePart:
    """The whole views of one segment."""

    name: str
    keys: pa.Table
    rles: pa.Array  # mask of each row, in view pixels
    path: Path
    timeline: Any
    views: dict[str, Any]

    def look(self, device: Any, size: int, grid: int, batch: int) -> Iterator[_Batch]:
        """Read the frames that somebody is in, cut and resize the views; runs in its own thread."""
        import torch

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
                images.append(_to_square(picture[view.y : view.y + view.h, view.x : view.x + view.w], size, device))
                for row in members:
                    rle = self.rles[row].as_py()
                    shares.append(_share(masks.decode(rle, view.h, view.w) if rle else np.zeros((1, 1), bool), grid))
                    of.append(len(images) - 1)
                    rows.append(row)
                if len(images) == batch:
                    yield _Batch(torch.cat(images), torch.cat(shares), np.array(of), np.array(rows))
                    images, shares, of, rows = [], [], [], []
        if images:
            yield _Batch(torch.cat(images), torch.cat(shares), np.array(of), np.array(rows))


def _crop_parts(project: Project, source: Artefact) -> Iterator[_CropPart]:
    found: dict[str, list[str]] = {}
    for name in source.files(".parquet"):
        found.setdefault(Path(name).stem, []).append(name)
    for part, names in sorted(found.items()):
        files, keys = [], [_no_keys()]
        for name in sorted(names, key=lambda n: n.split("/")):  # view, subject
            index = source.table(name)
            keys.append(index.select(list(_KEYS)))
            if len(index):
                files.append((source.checked(name.removesuffix(".parquet") + ".mp4"), index))
        yield _CropPart(part, pa.concat_tables(keys), tuple(files), project.config.crop.mode == "paper")


def _frame_parts(project: Project, video: Video, source: Artefact) -> Iterator[_FramePart]:
    footage, views = timeline.load(project, video), timeline.views(project, video)
    for name in source.files(".parquet"):
        table = source.table(name, [*_KEYS, "x", "rle"])
        table = table.filter(table["x"].is_valid()).sort_by([(key, "ascending") for key in ("view", "subject", "frame")])
        rles = table["rle"].combine_chunks()
        yield _FramePart(Path(name).stem, table.select(list(_KEYS)), rles, video.path, footage, views)


def _boxes(tracks: Artefact) -> int:
    return sum(len(column) - column.null_count for column in (tracks.table(n, ["x"])["x"] for n in tracks.files(".parquet")))


def _no_keys() -> pa.Table:
    return embedding_schema(1).empty_table().select(list(_KEYS))


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


def _share(mask: NDArray[np.bool_], grid: int) -> Tensor:
    import torch

    return patch_share(torch.from_numpy(mask[None].astype(np.float32)), grid, grid)


# --- computing and writing ---


def _vectors(
    part: _CropPart | _FramePart, backbone: Backbone, project: Project, progress: Progress, done: int, total: int
) -> dict[str, NDArray[np.float16]]:
    """fp16[rows, D] per feature and layer. Reading and resizing run ahead in a thread while the model works."""
    import torch

    settings = project.config.embed
    grid = max(1, round(settings.image_size / backbone.patch))
    names = [f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES]
    out = {name: np.zeros((len(part.keys), backbone.width), np.float16) for name in names}
    try:
        with _Ahead(part.look(backbone.device, grid * backbone.patch, grid, settings.batch)) as batches:
            for batch in batches:
                for name, vectors in backbone.embed(batch.images, batch.shares, torch.from_numpy(batch.of)).items():
                    out[name][batch.rows] = vectors.half().cpu().numpy()
                done += len(batch.rows)
                progress(done, total)
    except torch.OutOfMemoryError as error:
        raise FoveateError("the GPU's memory is full", remedy="make embed.batch in foveate.yaml smaller") from error
    for name, values in out.items():
        if not np.isfinite(values).all():
            raise FoveateError(
                f"the model {settings.model!r} gives vectors that are not finite ({name})", remedy="use another model"
            )
    return out


def _write(path: Path, keys: pa.Table, vectors: dict[str, NDArray[np.float16]], width: int) -> None:
    columns: dict[str, Any] = {name: keys[name] for name in _KEYS} | {"aug": pa.array(np.zeros(len(keys), np.int16))}
    columns |= {name: pa.FixedSizeListArray.from_arrays(pa.array(v.reshape(-1)), width) for name, v in vectors.items()}
    table = pa.table(columns, schema=embedding_schema(width)).combine_chunks()
    with write_aside(path) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
        writer.write_table(table, max_chunksize=SEGMENT)


_T = TypeVar("_T")


class _Ahead(Iterator[_T]):
    """Runs an iterator in a thread, ``_AHEAD`` items ahead; errors arrive where the item would have. Leaving the block stops it."""

    def __init__(self, source: Iterator[_T]) -> None:
        self._queue: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(source,), daemon=True)

    def _fill(self, source: Iterator[_T]) -> None:
        try:
            for item in source:
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as error:  # whatever it is, it belongs to the consumer
            self._put((None, error))

    def _put(self, entry: tuple[_T | None, BaseException | None]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> _Ahead[_T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __next__(self) -> _T:
        item, error = self._queue.get()
        if error is not None:
            raise error
        if item is None:
            raise StopIteration
        return item
