"""Stage ``embed``: one vector per frame, layer and way of looking, from a frozen backbone.

``source="crop"`` looks at the stored crops. In crop mode ``square`` the whole crop is resized to the model's square; in mode ``paper`` only
the published rectangle is, proportions not kept (specs of guided DINOv2: the crop is resized to 224 x 224 directly).
``source="frame"`` looks at whole views, the unguided baseline, resized to the square the same way. A view is then computed once for all its
subjects, and only the ``subject`` vector, weighted by each subject's mask, differs between them. ``source="track"`` is what the tracker
itself saw of the whole view, at its resolution and not squeezed to a square (``actions.seen``). All sources have the same rows: one for
every analysed frame, view and subject with a box, so that they can be compared.

Parts hold their rows by view, subject, frame. Batches never cross a part, so a resumed run computes the same ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import crops, timeline, track
from foveate.actions.pictures import KEYS, CropPart, Draws, FramePart, Source, parts_of
from foveate.actions.seen import Seen
from foveate.data.ahead import Ahead
from foveate.jobs import Progress, silent
from foveate.models.pretrained import Backbone, fetch_weights, kept_backbone, model_of, weights_hash
from foveate.project import Project, Video
from foveate.schema import FEATURES, LAYERS, SEGMENT, FoveateError, embedding_schema
from foveate.store import Artefact, canonical_json, damaged, write_aside
from foveate.track.propagate import glances

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


def artefact(project: Project, video: Video, source: Source = "crop") -> Artefact:
    """Where the vectors of a video are, or will be, with their expected stamp."""
    model = model_for(project, source)
    seen = {"short_side": project.config.track.short_side} if source == "track" else project.config.embed.relevant()
    settings = seen | {"source": source, "weights": weights_hash(model)}
    if source == "crop":
        parents = {"crop": crops.artefact(project, video).stamp}
    else:
        parents = {parent.stage: parent.stamp for parent in _stages(project, video)}
    short = hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:8]
    folder = project.stage_folder("embeddings", f"{_label(model)}-{short}", video.name)
    return Artefact(folder, "embed", VERSION, settings, parents)


def model_name(project: Project, source: Source) -> str:
    """The backbone as foveate.yaml names it."""
    return glances.model_name(project) if source == "track" else project.config.embed.model


def model_for(project: Project, source: Source) -> str:
    """The backbone: built-in name, Hugging Face id or folder."""
    return model_of(project.folder, model_name(project, source))


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
    model = model_for(project, source)
    fetch_weights(model)  # before the stamp: a model that is not here yet has no final hash
    target = artefact(project, video, source)
    if target.complete():
        return target
    parents = finished_inputs(project, video, source)
    total = parents[0].facts()["crops"] if source == "crop" else _boxes(parents[1])
    target.begin()
    if source == "track":
        return _from_tracker(project, video, target, total, progress)
    backbone, done = kept_backbone(model), 0
    for part in parts_of(project, video, source):
        name = f"{part.name}.arrow"
        if not target.has(name):
            clean: Draws = [(None,)] * len(part.keys)
            write_part(target.path(name), part, backbone, project, clean, partial(_count, progress, done, total))
        done += len(part.keys)
        progress(done, total)
    target.finish({"model": project.config.embed.model, "source": source, "width": backbone.width, "rows": done})
    return target


def _from_tracker(project: Project, video: Video, target: Artefact, total: int, progress: Progress) -> Artefact:
    """Source ``track``: take over what the tracker saw, and remove it there once it is safe here."""
    seen, done = Seen(project, video), 0
    for part in parts_of(project, video, "track"):
        assert isinstance(part, FramePart)
        name = f"{part.name}.arrow"
        if not target.has(name):
            vectors = seen.vectors(part, partial(_count, progress, done, total))
            _check_finite(vectors, model_name(project, "track"))
            _write(target.path(name), part.keys, vectors, np.zeros(len(part.keys), np.int16))
        done += len(part.keys)
        progress(done, total)
    width = seen.width or seen.backbone.width
    target.finish({"model": model_name(project, "track"), "source": "track", "width": width, "rows": done})
    seen.kept.discard()
    return target


def finished_inputs(project: Project, video: Video, source: Source) -> tuple[Artefact, ...]:
    """What the pictures are read from, or a FoveateError that says that it is not finished."""
    parents = (crops.artefact(project, video),) if source == "crop" else _stages(project, video)
    for parent in parents:
        if not parent.complete():
            raise FoveateError(
                f"stage {parent.stage} is missing or out of date", file=parent.folder, remedy="run `foveate run`"
            )
    return parents


def _count(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


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
        source: ``crop``, ``frame`` or ``track``.

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
    return table[list(KEYS)], vectors.astype(np.float32)


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
                    keys.append(batch.select([*KEYS, "aug"]).to_pandas())
        except pa.ArrowException as error:
            raise damaged(path) from error
    import pandas as pd

    table = pd.concat(keys, ignore_index=True) if keys else embedding_schema(1).empty_table().select([*KEYS, "aug"]).to_pandas()
    return table, np.concatenate(vectors)


def _boxes(tracks: Artefact) -> int:
    return sum(len(column) - column.null_count for column in (tracks.table(n, ["x"])["x"] for n in tracks.files(".parquet")))


def write_part(
    path: Path,
    part: CropPart | FramePart,
    backbone: Backbone,
    project: Project,
    draws: Draws,
    progress: Callable[[int], None],
) -> None:
    """Embed every row of a part as often as it has draws (None: as it is) and write them in that order; ``aug`` is 0 for rows that have
    no draw, else 1, 2, ... by row."""
    vectors = _vectors(part, backbone, project, draws, progress)
    times = [len(hows) for hows in draws]
    keys = part.keys.take(pa.array(np.repeat(np.arange(len(times)), times)))
    aug = np.concatenate([[0 if how is None else k + 1 for k, how in enumerate(hows)] for hows in draws] or [[]])
    _write(path, keys, vectors, aug.astype(np.int16))


def _write(path: Path, keys: pa.Table, vectors: Mapping[str, NDArray[np.float16]], aug: NDArray[np.int16]) -> None:
    width = next(iter(vectors.values())).shape[1]
    columns: dict[str, Any] = {name: keys[name] for name in KEYS} | {"aug": pa.array(aug)}
    columns |= {name: pa.FixedSizeListArray.from_arrays(pa.array(v.reshape(-1)), width) for name, v in vectors.items()}
    table = pa.table(columns, schema=embedding_schema(width)).combine_chunks()
    with write_aside(path) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
        writer.write_table(table, max_chunksize=SEGMENT)


def _vectors(
    part: CropPart | FramePart, backbone: Backbone, project: Project, draws: Draws, progress: Callable[[int], None]
) -> dict[str, NDArray[np.float16]]:
    """fp16[rows, D] per feature and layer. Reading and resizing run ahead in a thread while the model works."""
    import torch

    settings = project.config.embed
    grid = max(1, round(settings.image_size / backbone.patch))
    names = [f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES]
    out = {name: np.zeros((sum(map(len, draws)), backbone.width), np.float16) for name in names}
    done = 0
    try:
        with Ahead(part.look(backbone.device, grid * backbone.patch, grid, settings.batch, draws)) as batches:
            for batch in batches:
                for name, vectors in backbone.embed(batch.images, batch.shares, torch.from_numpy(batch.of)).items():
                    out[name][batch.rows] = vectors.half().cpu().numpy()
                done += len(batch.rows)
                progress(done)
    except torch.OutOfMemoryError as error:
        raise FoveateError("the GPU's memory is full", remedy="make embed.batch in foveate.yaml smaller") from error
    _check_finite(out, settings.model)
    return out


def _check_finite(vectors: Mapping[str, NDArray[np.float16]], model: str) -> None:
    for name, values in vectors.items():
        if not np.isfinite(values).all():
            raise FoveateError(f"the model {model!r} gives vectors that are not finite ({name})", remedy="use another model")
