"""Reading label files of LISBET: netCDF with ``target_cls(time, behaviors, annotators)`` of 0, 1 or NaN (not labelled).

``time`` is in seconds, or in frames where its ``time_unit`` or the file's says so, where it is missing, or where it counts 0, 1, 2, ...;
frames are shown when the video's timeline says. The video is the one that the file is named after (``pen1_annotations.nc``); its subject is
not named. netCDF 3 is read with scipy; netCDF 4 is HDF5 and needs the extra ``netcdf`` (``lisbet_hdf5``).
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.annotations.source import Given, Source, check_frames, from_dense, need_video_of_file
from foveate.annotations.tables import Reading, Videos
from foveate.schema import FoveateError

_CLASSIC = (b"CDF\x01", b"CDF\x02")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PATIENCE = 120.0
"""Seconds for the HDF5 of one file, which holds some numbers per frame."""
_DIMENSIONS = ("time", "behaviors", "annotators")
_BACKGROUND = ("other", "background", "none")


@dataclass(frozen=True)
class _Labels:
    values: NDArray[np.float64]  # [times, behaviours, annotators]
    times: NDArray[np.float64] | None  # seconds or frames
    behaviours: tuple[str, ...]
    annotators: tuple[str, ...]
    unit: str


def is_netcdf(source: Source) -> bool:
    return source.content.startswith((*_CLASSIC, _HDF5))


def read_lisbet(source: Source, given: Given) -> Reading:
    """Labels of all behaviours and annotators; a single annotator is not named."""
    video = need_video_of_file(source.path, given.videos)
    labels = _load(source)
    rows = len(labels.values)
    if labels.times is None or labels.unit == "frames" or _counts(labels.times):
        edges = check_frames(rows, video, given, source)
    else:
        if not np.isfinite(labels.times).all() or labels.times[0] < 0 or not (np.diff(labels.times) > 0).all():
            raise source.refuse("times do not increase")
        step = float(np.median(np.diff(labels.times))) if rows > 1 else 0.0
        edges = np.append(labels.times, min(labels.times[-1] + step, max(given.duration(video), labels.times[-1])))
    out = Reading()
    for a, annotator in enumerate(labels.annotators):
        own = Reading()
        for b, behaviour in enumerate(labels.behaviours):
            values = labels.values[:, b, a]
            if not np.isin(values[np.isfinite(values)], (0.0, 1.0, -1.0)).all():
                own.problems.append(source.refuse(f"labels of {behaviour!r} are not all 0, 1 or missing"))
            elif b or behaviour.lower() not in _BACKGROUND:
                dense = np.where(np.isfinite(values), values, -1).astype(np.int8)
                from_dense(dense, edges, behaviour, video, "", 1, own, "" if len(labels.annotators) == 1 else annotator)
        out.entries.extend(own.entries)
        out.spans.extend(own.spans)
        out.problems.extend(own.problems)
    return out


def lisbet_videos(source: Source, videos: Videos) -> set[str]:
    return {need_video_of_file(source.path, videos).name}


def _counts(times: NDArray[np.float64]) -> bool:
    """Whether the times are 0, 1, 2, ...: then they number frames."""
    return bool(len(times) > 1 and (times == np.arange(len(times))).all())


def _load(source: Source) -> _Labels:
    read = _hdf5 if source.content.startswith(_HDF5) else _classic
    try:
        found = read(source)
    except FoveateError:
        raise
    except Exception as error:  # these libraries raise whatever damage makes them stumble over
        raise source.refuse(f"damaged netCDF file ({type(error).__name__}: {str(error)[:100]})") from None
    if (
        found.values.ndim != 3
        or found.values.shape[1:] != (len(found.behaviours), len(found.annotators))
        or not found.values.size
    ):
        raise source.refuse("target_cls is not time x behaviors x annotators with a name for each")
    if found.times is not None and found.times.shape != found.values.shape[:1]:
        raise source.refuse("time and target_cls differ in length")
    return found


def _assemble(source: Source, names: Sequence[str], dimensions: Sequence[str], get: Callable[[str], Any], unit: str) -> _Labels:
    if "target_cls" not in names or sorted(dimensions) != sorted(_DIMENSIONS):
        raise source.refuse("it has no target_cls(time, behaviors, annotators)", remedy="use the label file that LISBET writes")
    values = np.asarray(get("target_cls"), np.float64).transpose([list(dimensions).index(name) for name in _DIMENSIONS])
    times = np.asarray(get("time"), np.float64) if "time" in names else None
    size = dict(zip(_DIMENSIONS, values.shape, strict=True))
    texts = {
        name: _texts(get(name)) if name in names else tuple(f"{name[:-1]} {k}" for k in range(size[name]))
        for name in _DIMENSIONS[1:]
    }
    return _Labels(values, times, texts["behaviors"], texts["annotators"], unit)


def _texts(values: Any) -> tuple[str, ...]:
    array = np.asarray(values)
    if array.dtype.kind == "S" and array.ndim == 2:  # netCDF 3 keeps text as rows of single characters
        return tuple(b"".join(row.tolist()).decode("utf-8", "replace").strip("\0 ") for row in array)
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in array.tolist())


def _classic(source: Source) -> _Labels:
    from scipy.io import netcdf_file

    with netcdf_file(io.BytesIO(source.content), "r", mmap=False) as file:
        variables = file.variables
        dimensions = variables["target_cls"].dimensions if "target_cls" in variables else ()
        unit = getattr(file, "time_unit", getattr(variables.get("time"), "time_unit", b""))
        get = {name: np.array(variable[:]) for name, variable in variables.items()}
    return _assemble(source, tuple(get), dimensions, get.__getitem__, unit.decode() if isinstance(unit, bytes) else str(unit))


def _hdf5(source: Source) -> _Labels:
    if importlib.util.find_spec("h5py") is None:
        raise source.refuse(
            "netCDF 4 cannot be read without h5py", remedy='pip install "foveate[netcdf]", or export the labels as csv-events'
        )
    script = Path(__file__).with_name("lisbet_hdf5.py")
    done = subprocess.run([sys.executable, "-P", str(script)], input=source.content, capture_output=True, timeout=_PATIENCE)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "the HDF5 library crashed"
        raise source.refuse(f"damaged netCDF file ({reason[:100]})")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    names = [name for name in arrays if name not in ("dimensions", "unit")]
    return _assemble(source, names, arrays["dimensions"].tolist(), arrays.__getitem__, str(arrays["unit"]))
