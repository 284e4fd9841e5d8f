"""Reading the HDF5 of a netCDF 4 file of LISBET in a process of its own: the HDF5 library can crash on a damaged file.

Run as a script, with the file on standard input, it writes an npz archive to standard output. It imports nothing of foveate.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np


def main() -> None:
    import h5py

    arrays: dict[str, Any] = {}
    with h5py.File(io.BytesIO(sys.stdin.buffer.read()), "r") as file:
        found = {name: file[name] for name in ("target_cls", "time", "behaviors", "annotators") if name in file}
        dimensions = []
        for axis in found["target_cls"].dims if "target_cls" in found else ():
            dimensions.append((axis[0].name if len(axis) else axis.label).rpartition("/")[2])
        holder = file if "time_unit" in file.attrs else found.get("time", file)
        unit = holder.attrs.get("time_unit", "")
        for name, dataset in found.items():
            if dataset.size > 10**8:
                raise ValueError(f"{name} has {dataset.size} values")
            if name in ("behaviors", "annotators"):
                arrays[name] = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in dataset[()].ravel()])
            else:
                arrays[name] = np.asarray(dataset[()], np.float64)
    arrays["dimensions"] = np.array(dimensions, dtype=str)
    arrays["unit"] = np.array(unit.decode() if isinstance(unit, bytes) else str(unit))
    out = io.BytesIO()
    np.savez(out, **arrays)
    sys.stdout.buffer.write(out.getvalue())


if __name__ == "__main__":
    main()
