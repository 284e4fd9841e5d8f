"""Files of HDF5 (SLEAP, netCDF 4 of movement), read by ``hdf5_script`` in another process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.exchange.sheet import refuse

MAGIC = b"\x89HDF\r\n\x1a\n"
_PATIENCE = 600.0
"""Seconds for one file."""


@dataclass(frozen=True, eq=False)
class Content:
    """What of a file is known to matter."""

    keys: tuple[str, ...]  # all names at its root
    arrays: dict[str, NDArray[Any]]
    dims: dict[str, list[str]]
    attributes: dict[str, Any]


def read_hdf5(path: Path) -> Content:
    """The datasets of interest.

    Raises:
        FoveateError: h5py is not installed, or the file is damaged.
    """
    if importlib.util.find_spec("h5py") is None:
        raise refuse(path, "HDF5 cannot be read without h5py", remedy='pip install "foveate[netcdf]"')
    script = Path(__file__).with_name("hdf5_script.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", str(script), str(path.absolute()), folder]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise refuse(path, f"reading it took more than {_PATIENCE:g} s") from None
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "the HDF5 library crashed"
            raise refuse(path, f"damaged HDF5 file ({reason[:100]})")
        about = json.loads((Path(folder) / "about.json").read_text())
        arrays = {file.stem: np.load(file, allow_pickle=False) for file in Path(folder).glob("*.npy")}
    return Content(tuple(about["keys"]), arrays, about["dims"], about["attributes"])
