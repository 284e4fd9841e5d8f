"""NWB files, read back with pynwb alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foveate.annotations.export_nwb import export_nwb, object_name
from foveate.schema import FoveateError
from tests.annotated import Study

COLUMNS = ["video", "subject", "behaviour", "start", "stop", "kind", "probability"]
STARTS = np.array([0.0, 0.05, 0.06, 0.11])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram")})


def bouts() -> pd.DataFrame:
    rows = [
        ("pen2", "ram", "walk / slow", 1.2345, 3.5, "state", 0.75),
        ("pen2", "ram", "graze", 2.0, 3.0, "state", 0.5),
        ("pen2", "ram", "bleat", 2.5, 2.5, "point", 0.5),
        ("pen2", "ewe", "graze", 0.0, 120.0, "state", 0.9),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_what_is_missing_is_said(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(FoveateError, match="without pynwb and ndx-ethogram") as error:
        export_nwb(study.folder / "out", bouts(), study.project)
    assert 'pip install "foveate[nwb]"' in str(error.value)


@pytest.mark.filterwarnings("default")  # other people's deprecations
def test_nwb_reads_back_as_it_was(study: Study) -> None:
    pynwb = pytest.importorskip("pynwb", reason="the extra nwb is not installed")
    pytest.importorskip("ndx_ethogram", reason="the extra nwb is not installed")
    export_nwb(study.folder / "out", bouts(), study.project, times=lambda video: STARTS, description="predicted")
    files = sorted(path.name for path in (study.folder / "out").iterdir())
    assert files == ["sub-ewe_ses-pen2.nwb", "sub-ram_ses-pen2.nwb"]
    path = study.folder / "out" / "sub-ram_ses-pen2.nwb"
    with pynwb.NWBHDF5IO(str(path), "r") as file:
        nwb = file.read()
        assert nwb.subject.subject_id == "ram"
        table = nwb.processing["behavior"]["Pen2Bouts"]
        assert nwb.processing["behavior"]["Ethogram"] is table.ethogram
        assert table.labeling_method == "automated" and table.source_software.startswith("foveate ")
        rows = table.to_dataframe()[["start_time", "stop_time", "label", "subject", "probability"]].to_numpy().tolist()
        assert rows == [[1.2345, 3.5, "walk / slow", "ram", 0.75], [2.0, 3.0, "graze", "ram", 0.5]]
        assert table.ethogram.to_dataframe()[["behavior", "behavior_type"]].to_numpy().tolist() == [
            ["bleat", "point"],
            ["graze", "state"],
            ["walk / slow", "state"],
        ]
        assert not table.ethogram.exclusive
        assert list(table.source_video.external_file) == ["../pen2.mp4"]
        assert np.array_equal(table.source_video.timestamps[:], STARTS)
        events = nwb.get_events_table("Pen2").to_dataframe()
        assert events[["timestamp", "event_type", "subject"]].to_numpy().tolist() == [
            [1.2345, "walk / slow", "ram"],
            [2.0, "graze", "ram"],
            [2.5, "bleat", "ram"],
        ]
        assert np.allclose(events["duration"], [2.2655, 1.0, np.nan], equal_nan=True)
    assert not pynwb.validate(path=str(path))
    with pytest.raises(FoveateError, match="one subject of one video, but there are bouts of 2"):
        export_nwb(study.folder / "x.nwb", bouts(), study.project, times=lambda video: STARTS)
    manual = bouts().drop(columns="probability").assign(annotator="Kim")[:1]
    export_nwb(study.folder / "x.nwb", manual, study.project, times=lambda video: STARTS)
    with pynwb.NWBHDF5IO(str(study.folder / "x.nwb"), "r") as file:
        table = file.read().processing["behavior"]["Pen2Bouts"]
        assert (table.labeling_method, table.annotator) == ("manual", "Kim") and len(table) == 1


def test_names_of_objects() -> None:
    names = ["pen 1", "cam_A-2024", "1", "Weide – 2", "ü"]
    assert [object_name(name) for name in names] == ["Pen1", "CamA2024", "Observation1", "Weide2", "Observation"]
