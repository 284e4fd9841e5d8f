"""netCDF of the ``movement`` package: data sets of boxes and of poses.

``position(time, space, individual)`` is the centre of a box, ``shape`` its width and height, ``confidence(time, individual)``;
of poses ``position`` has ``keypoint`` besides. Before movement 0.17 the dimensions were called ``individuals`` and
``keypoints``: both are read, and target ``movement-legacy`` writes the old names. ``time`` is in seconds (``time_unit``) or in
frames; ours has a coordinate ``frame`` beside it.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.exchange.hdf5 import Content
from foveate.exchange.sheet import Box, Footage, Own, Rows, Sheet, Sighting, certainty, check_box, points_box, refuse
from foveate.schema import SEGMENT
from foveate.store import write_aside

CLASSIC = (b"CDF\x01", b"CDF\x02")
_SINGULAR = {"individuals": "individual", "keypoints": "keypoint"}
_NAMES = ("position", "shape", "confidence", "time", "frame", "individual", "individuals", "space", "keypoint", "keypoints")


def is_movement(content: Content) -> bool:
    return {"position", "time", "space"} <= set(content.keys)


def read_classic(path: Path) -> Content:
    """netCDF 3, as xarray writes where neither netCDF4 nor h5netcdf is installed."""
    from scipy.io import netcdf_file

    try:
        with netcdf_file(str(path), "r", mmap=False) as file:
            attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in file._attributes.items()}
            arrays, dims = {}, {}
            for name in _NAMES:
                if name in file.variables:
                    variable = file.variables[name]
                    values = np.array(variable[:])
                    dims[name] = list(variable.dimensions)
                    if values.dtype.kind == "S":  # characters in a dimension of their own
                        values = np.array([b"".join(row).decode("utf-8").rstrip("\0") for row in values])
                        dims[name] = dims[name][:-1]
                    arrays[name] = values
    except Exception as error:  # scipy's reader raises whatever a damaged header leads to
        raise refuse(path, f"damaged netCDF file ({type(error).__name__})") from None
    return Content(tuple(arrays), arrays, dims, attributes)


def read_movement(path: Path, content: Content, own: Own) -> Sheet:
    """Every box, or a box around every pose.

    Raises:
        FoveateError: the data set has other dimensions than movement's.
    """
    poses = "shape" not in content.arrays
    try:
        position, confidence = _ordered(content, "position", poses), content.arrays.get("confidence")
        shape = None if poses else _ordered(content, "shape", False)
        sure = None if confidence is None else _ordered(content, "confidence", poses, space=False)
        names = [str(v) for v in next(content.arrays[n] for n in ("individual", "individuals") if n in content.arrays)]
        space = [str(v) for v in content.arrays["space"]]
        frames, seconds = _clock(content)
        if position.shape[0] != len(frames) or position.shape[1] != len(names) or space[:2] != ["x", "y"]:
            raise ValueError("the coordinates do not fit the data")
        if shape is not None and shape.shape != position.shape:
            raise ValueError("position and shape differ in size")
    except (KeyError, StopIteration, ValueError, TypeError, IndexError) as error:
        raise refuse(path, f"not a data set of movement ({str(error)[:80]})") from None
    origin = str(content.attributes.get("source_software") or "")
    sheet = Sheet(path, f"movement ({origin})" if origin else "movement", content="points" if poses else "boxes")
    sheet.videos = [str(content.attributes.get("source_file") or "")]
    for (t, frame), (k, name) in itertools.product(enumerate(frames.tolist()), enumerate(names)):
        box = _box(path, position[t, k], None if shape is None else shape[t, k])
        if box is not None:
            shown = np.isfinite(position[t, k]).all(axis=-1)  # of poses: which points
            score = math.nan if sure is None else _mean(np.atleast_1d(sure[t, k])[np.atleast_1d(shown)])
            sheet.sightings.append(Sighting(name, frame, box, score, time=float(seconds[t])))
    return sheet


def _ordered(content: Content, name: str, points: bool, space: bool = True) -> NDArray[np.float64]:
    """Axes time, individual[, keypoint][, space]."""
    dims = [_SINGULAR.get(dim, dim) for dim in content.dims[name]]
    wanted = ["time", "individual", *(["keypoint"] if points else []), *(["space"] if space else [])]
    if sorted(dims) != sorted(wanted):
        raise ValueError(f"{name} has dimensions {', '.join(dims)}")
    return np.transpose(content.arrays[name], [dims.index(dim) for dim in wanted]).astype(np.float64)


def _clock(content: Content) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frame numbers (-1 where only seconds are known) and seconds (NaN where only frames are)."""
    time = np.asarray(content.arrays["time"])
    if "frame" in content.arrays:
        return content.arrays["frame"].astype(np.int64), np.full(len(time), np.nan)
    if not np.isfinite(time.astype(np.float64)).all() or (time < 0).any():
        raise ValueError("time is not finite")
    unit = str(content.attributes.get("time_unit") or ("frames" if time.dtype.kind in "iu" else "seconds"))
    if unit == "frames":
        return time.astype(np.int64), np.full(len(time), np.nan)
    return np.full(len(time), -1, np.int64), time.astype(np.float64)


def _box(path: Path, position: NDArray[np.float64], shape: NDArray[np.float64] | None) -> Box | None:
    if shape is None:
        return points_box(position[:, :2])
    if not np.isfinite([position[:2], shape[:2]]).all():
        return None
    (x, y), (w, h) = position[:2].tolist(), shape[:2].tolist()
    return check_box(path, 0, x - w / 2, y - h / 2, w, h)


def _mean(values: NDArray[np.float64]) -> float:
    seen = values[np.isfinite(values)]
    return certainty(float(seen.mean())) if len(seen) else math.nan


def write_movement(path: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows, legacy: bool = False) -> None:
    """A data set of boxes with one step per analysed frame; not seen is NaN.

    Raises:
        FoveateError: h5netcdf is not installed.
    """
    try:
        import h5netcdf
        import h5py
    except ImportError:
        raise refuse(path, "netCDF cannot be written without h5netcdf", remedy='pip install "foveate[xarray]"') from None
    who, count = "individuals" if legacy else "individual", footage.analysed
    with write_aside(path) as aside, h5netcdf.File(aside, "w") as file:
        file.dimensions = {"time": count, "space": 2, who: len(subjects)}
        time = file.create_variable("time", ("time",), "f8")
        frame = file.create_variable("frame", ("time",), "i8")
        for name, values in (("space", ("x", "y")), (who, subjects)):
            variable = file.create_variable(name, (name,), h5py.string_dtype())
            variable[:] = np.array(values, dtype=object)
        position, shape = (
            file.create_variable(n, ("time", "space", who), "f8", fillvalue=np.nan) for n in ("position", "shape")
        )
        confidence = file.create_variable("confidence", ("time", who), "f8", fillvalue=np.nan)
        for variable in (position, shape, confidence):
            variable.attrs["coordinates"] = "frame"  # by this, xarray knows it as one
        at = 0
        for times, frames, boxes, scores in _slabs(subjects, rows):
            here = slice(at, at + len(times))
            time[here], frame[here], confidence[here] = times, frames, scores
            position[here] = boxes[:, :2] + boxes[:, 2:] / 2
            shape[here] = boxes[:, 2:]
            at = here.stop
        about = {"ds_type": "bboxes", "time_unit": "seconds", "source_software": "foveate", "source_file": footage.file}
        file.attrs.update(about)
        if footage.step:
            file.attrs["fps"] = round(1 / footage.step, 6)


def _slabs(subjects: tuple[str, ...], rows: Rows) -> Any:
    """Times f8[n], frames i8[n], boxes f8[n, 4, K] and scores f8[n, K] of some frames at a time."""
    number = {name: k for k, name in enumerate(subjects)}
    for _, group in itertools.groupby(
        enumerate(itertools.groupby(rows(False), key=lambda seen: seen.frame)), key=lambda item: item[0] // SEGMENT
    ):
        times, frames, boxes, scores = [], [], [], []
        for _, (at, together) in group:
            box, score = np.full((4, len(subjects)), np.nan), np.full(len(subjects), np.nan)
            for seen in together:
                k = number[seen.subject]
                when = seen.time
                if seen.box is not None:
                    box[:, k] = seen.box
                    score[k] = math.nan if seen.score is None else seen.score
            times.append(when)
            frames.append(at)
            boxes.append(box)
            scores.append(score)
        yield np.array(times), np.array(frames), np.stack(boxes), np.stack(scores)
