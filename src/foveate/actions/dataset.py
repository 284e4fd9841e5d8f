"""Tracks and predictions of one video as an xarray dataset in movement's layout for bounding boxes.

The layout is that of `movement <https://movement.neuroinformatics.dev>`_ from 0.17 on: dimensions ``time, space, individual`` (older
versions: ``individuals``), variables ``position`` (centre of the box), ``shape`` and ``confidence``, missing boxes NaN. There is no
standard for behaviours yet; they are added along a dimension ``behavior``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from foveate import __version__, timeline, track
from foveate.actions import predict
from foveate.project import Project, Video
from foveate.schema import ALL_VIEWS, FoveateError
from foveate.settings import CONFIG

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


def dataset(project: Project, video: Video, view: str | None = None, name: str = "default", legacy: bool = False) -> xr.Dataset:
    """What is known of every analysed frame of a video; T frames, I subjects, L behaviours.

    Args:
        project: the project; the video must be tracked.
        video: one of its videos.
        view: whose boxes; may be left out where there is one view only.
        name: of the probe.
        legacy: call the dimension ``individuals``, as movement did before 0.17.

    Returns:
        Coordinates ``time`` (seconds since the first frame), ``space`` (x, y), ``individual``, ``frame`` (along time, 0-based). Variables
        ``position`` f32[T, 2, I] (centre of the box, pixels of the view), ``shape`` f32[T, 2, I] (width, height), ``confidence`` f32[T, I]
        (of the tracker, 0 to 1). If the video is predicted, also coordinate ``behavior`` and variables ``probability`` f32[T, I, L] (NaN
        where the subject is not seen) and ``label`` i8[T, I, L] (1, 0, -1 = not seen): those of all views together, smoothed, from
        which bouts are made.

    Raises:
        FoveateError: xarray is missing, the video is not tracked, or the view has to be named.
    """
    try:
        import xarray as xr
    except ImportError:
        raise FoveateError("the package xarray is missing", remedy='pip install "foveate[xarray]"') from None

    source = track.artefact(project, video)
    if not source.complete():
        raise FoveateError("the track is missing or out of date", file=source.folder, remedy="run `foveate run`")
    view = _view(list(timeline.views(project, video)), view, project)
    frames = timeline.analysed(project, video)
    names = ["view", "subject", "frame", "x", "y", "w", "h", "score"]
    rows = pa.concat_tables([source.table(part, names) for part in source.files(".parquet")])
    rows = rows.filter(pa.compute.equal(rows["view"], view))
    subjects = sorted(set(rows["subject"].to_pylist()))

    x, y, w, h, score = (_grid(rows, column, frames.frame, subjects) for column in names[3:])
    one = "individuals" if legacy else "individual"
    space, each = ("time", "space", one), ("time", one)
    content: dict[str, Any] = {
        "position": (space, np.stack([x + w / 2, y + h / 2], axis=1), {"units": "pixels of the view"}),
        "shape": (space, np.stack([w, h], axis=1), {"units": "pixels of the view"}),
        "confidence": (each, score),
    }
    coordinates: dict[str, Any] = {
        "time": ("time", frames.time, {"units": "seconds"}),
        "space": ["x", "y"],
        one: subjects,
        "frame": ("time", frames.frame),
    }
    if (found := _predicted(project, video, name)) is not None:
        predicted = found.table("predictions.parquet")
        predicted = predicted.filter(pa.compute.equal(predicted["view"], ALL_VIEWS))
        behaviours = [column.removeprefix("prob_") for column in predicted.column_names if column.startswith("prob_")]
        content |= {
            variable: (
                (*each, "behavior"),
                np.stack([_grid(predicted, f"{prefix}_{b}", frames.frame, subjects) for b in behaviours], 2),
            )
            for variable, prefix in (("probability", "prob"), ("label", "pred"))
        }
        content["label"] = (content["label"][0], content["label"][1].astype(np.int8))
        coordinates["behavior"] = behaviours
    attributes = {
        "ds_type": "bboxes",
        "time_unit": "seconds",
        "source_software": f"foveate {__version__}",
        "source_file": video.path.name,
        "video": video.name,
        "view": view,
    }
    return xr.Dataset(content, coordinates, attributes)


def _view(known: list[str], view: str | None, project: Project) -> str:
    if view is None and len(known) == 1:
        return known[0]
    if view not in known:
        what = "say which view" if view is None else f"there is no view {view!r}"
        raise FoveateError(what, file=project.folder / CONFIG, remedy="views: " + ", ".join(known))
    return view


def _predicted(project: Project, video: Video, name: str) -> Any:
    try:
        return predict.finished(project, video, name)
    except FoveateError:
        return None


def _grid(rows: pa.Table, column: str, frame: NDArray[np.int64], subjects: list[str]) -> NDArray[np.float32]:
    """float32 ``[frames, subjects]`` of one column; NaN where it is null."""
    out = np.full((len(frame), len(subjects)), np.nan, dtype=np.float32)
    number = {subject: k for k, subject in enumerate(subjects)}
    position = np.searchsorted(frame, rows["frame"].to_numpy())
    column_of = np.array([number[subject] for subject in rows["subject"].to_pylist()], dtype=np.int64)
    out[position, column_of] = rows[column].to_numpy(zero_copy_only=False).astype(np.float32)
    return out
