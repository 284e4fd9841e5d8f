"""Reading an HDF5 file of another program in a process of its own: the HDF5 library can crash on a damaged file.

Run as a script with the path of the file and of a folder; every dataset of interest is left there as an npy file, and
``about.json`` with the names of the dimensions, the attributes and what else is in the file. It imports nothing of foveate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

WANTED = (
    *("tracks", "track_names", "point_scores", "video_path"),  # SLEAP analysis
    *("frames", "instances", "points", "pred_points", "tracks_json", "videos_json"),  # SLEAP labels
    *(
        "position",
        "shape",
        "confidence",
        "time",
        "frame",
        "individual",
        "individuals",
        "space",
        "keypoint",
        "keypoints",
    ),  # movement
)
LARGEST = 2 * 10**9  # bytes of one dataset


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else None


def main() -> None:
    import h5py

    source, folder = sys.argv[1], Path(sys.argv[2])
    about: dict[str, Any] = {"keys": [], "dims": {}, "attributes": {}}
    with h5py.File(source, "r") as file:
        about["keys"] = list(file)
        about["attributes"] = {key: plain(value) for key, value in file.attrs.items()}
        if "metadata" in file:
            about["attributes"] |= {key: plain(value) for key, value in file["metadata"].attrs.items() if key == "format_id"}
        for name in WANTED:
            dataset = file.get(name)
            if not isinstance(dataset, h5py.Dataset):
                continue
            if dataset.size * dataset.dtype.itemsize > LARGEST:
                raise ValueError(f"{name} has {dataset.size} values")
            stated = plain(dataset.attrs.get("dims"))
            axes = [(axis[0].name if len(axis) else axis.label).rpartition("/")[2] for axis in dataset.dims]
            about["dims"][name] = json.loads(stated) if stated else axes
            unit = plain(dataset.attrs.get("units"))
            if unit is not None:
                about["attributes"][f"{name}_units"] = unit
            values = np.asarray(dataset[()])
            if values.dtype.kind in "OS":
                text = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.atleast_1d(values).ravel()]
                values = np.array(text, dtype=str).reshape(values.shape)
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
