"""Are our NWB files laid out as neuroconv lays out BORIS's? The same bouts go through both, and the tables are compared.

Needs PyPI's neuroconv (0.10 or later) and ndx-ethogram, in an environment of their own with foveate on PYTHONPATH:

    python benchmarks/nwb_layout.py

neuroconv writes one file of all subjects; foveate, as DANDI asks for, one for each. neuroconv's comment columns hold BORIS's comments, to
which we write the probability, which is a column of its own in our files.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from boris_opens import LENGTH, RATE, make_project, some_bouts
from cells import RESULTS, write_cell

from foveate.annotations.export_nwb import export_nwb
from foveate.annotations.export_project import export_boris_project


def by_neuroconv(project: Path, observation: str) -> Any:
    """An NWB file in memory."""
    import zarr

    if not hasattr(zarr, "codec_registry"):  # zarr 3 has none, neuroconv 0.10 asks it for names only
        zarr.codec_registry = {}
    try:
        from neuroconv.datainterfaces import BORISInterface
    except ImportError:
        sys.exit("pip install neuroconv ndx-ethogram")
    from pynwb.testing.mock.file import mock_NWBFile

    nwb = mock_NWBFile()
    BORISInterface(file_path=str(project), observation_name=observation).add_to_nwbfile(nwbfile=nwb)
    return nwb


def tables(nwb: Any) -> dict[str, pd.DataFrame]:
    """Every table of the file by the name of its type and its own."""
    found = [*nwb.processing["behavior"].data_interfaces.values(), *nwb.events.values()]
    return {f"{type(table).__name__} {table.name}": table.to_dataframe() for table in found}


def same_rows(theirs: pd.DataFrame, ours: pd.DataFrame) -> bool:
    """In the columns that both have, in any order of rows, times to a microsecond (BORIS keeps milliseconds)."""
    columns = sorted(set(theirs.columns) & set(ours.columns) - {"definition"})
    keys = [c for c in ("timestamp", "start_time", "behavior", "event_type", "label", "subject") if c in columns]
    a, b = (frame[columns].sort_values(keys).reset_index(drop=True) for frame in (theirs, ours))
    if len(a) != len(b):
        return False
    numbers = [c for c in columns if a[c].dtype.kind == "f"]
    texts = [c for c in columns if c not in numbers]
    return a[texts].equals(b[texts]) and np.allclose(a[numbers], b[numbers], atol=1e-6, equal_nan=True)


def main() -> None:
    from pynwb import NWBHDF5IO

    warnings.simplefilter("ignore")
    names, columns, rows, studies = 0, set[str](), 0, 0
    for seed in range(10):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            project, bouts = make_project(folder), some_bouts(seed)
            export_boris_project(folder / "flock.boris", bouts, project, media=lambda video: (LENGTH, RATE))
            times = np.arange(round(LENGTH * RATE)) / RATE
            export_nwb(folder / "out", bouts, project, times=lambda video, times=times: times)
            for video in project.videos:
                theirs = tables(by_neuroconv(folder / "flock.boris", video.name))
                parts: list[dict[str, pd.DataFrame]] = []
                for path in sorted((folder / "out").glob(f"*_ses-{video.name}.nwb")):
                    with NWBHDF5IO(str(path), "r") as file:
                        parts.append(tables(file.read()))
                ours = {
                    name: parts[0][name] if name.startswith("Ethogram ") else pd.concat([part[name] for part in parts])
                    for name in parts[0]
                }
                studies += 1
                names += set(theirs) == set(ours)
                columns |= {
                    f"{n}: {c}".split(" ", 1)[0] + f": {c}" for n in theirs for c in set(theirs[n]) - set(ours.get(n, ()))
                }
                rows += all(same_rows(theirs[name], ours[name]) for name in theirs if name in ours)
    result = {
        "neuroconv": importlib.metadata.version("neuroconv"),
        "observations": studies,
        "same_tables": names,
        "same_rows": rows,
        "columns_of_theirs_that_ours_lack": sorted(columns),
    }
    print(result)
    write_cell(RESULTS / "annotations" / "nwb_layout.json", result)


if __name__ == "__main__":
    main()
