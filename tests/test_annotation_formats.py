"""Files of other annotation programs. Small files by hand, as the programs' own writers lay them out; the labels are our own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import annotations
from foveate.annotations.export_elan import export_elan
from foveate.project import Project
from foveate.schema import FoveateError
from tests.annotated import Study, as_rows, bouts_of, read_back
from tests.mangled import mangle

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
  <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/film/the%20pen.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./the%20pen.mp4"/>
  <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/film/pen2.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="2000"/>
 </HEADER>
 <TIME_ORDER>
  <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>
  <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3500"/>
  <TIME_SLOT TIME_SLOT_ID="ts3"/>
  <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/>
 </TIME_ORDER>
 <TIER LINGUISTIC_TYPE_REF="t" TIER_ID="Ewe" ANNOTATOR="Kim">
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
   <ANNOTATION_VALUE>graze &amp; walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
   <ANNOTATION_VALUE>lie</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
 </TIER>
 <TIER LINGUISTIC_TYPE_REF="t" TIER_ID="bleat" PARTICIPANT="ram">
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts4">
   <ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
 </TIER>
 <TIER LINGUISTIC_TYPE_REF="g" PARENT_REF="Ewe" TIER_ID="gloss">
  <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
 </TIER>
 <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="t" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (0.4, "ewe")})


# --- ELAN -----------------------------------------------------------------------------------------------------------------------


def test_elan(study: Study) -> None:
    study.annotate("a.eaf", EAF)
    assert study.bouts() == [
        ("pen2", "ewe", "graze & walk", 3.0, 5.5, "state"),  # the second medium began 2 s before
        ("pen2", "ram", "bleat", 6.0, 6.0, "point"),
    ]
    assert study.labels().intervals["annotator"].tolist() == ["Kim", ""]
    (problem,) = study.run()["problems"]
    assert problem["row"] == 17 and problem["problem"] == "an annotation 'lie' of tier 'Ewe' has no time"
    (note,) = study.run()["notes"]
    assert "tier 'gloss' depends on another" in note["problem"]


def test_elan_finds_encoded_names_and_its_own_name(study: Study) -> None:
    with (study.folder / "videos.csv").open("a") as handle:
        handle.write("the pen,the pen.mp4,ewe;ram\n")
    (study.folder / "the pen.mp4").write_bytes(b"x")
    study.lengths["the pen"] = 60.0
    study.annotate("a.eaf", EAF)
    assert [b[0] for b in study.bouts()] == ["the pen", "the pen"]
    study.annotate("a.eaf", EAF.replace("the%20pen", "gone").replace("pen2", "gone"))
    assert "the media file 'gone.mp4' is not a video" in study.problems()[0]
    (study.folder / "annotations" / "a.eaf").rename(study.folder / "annotations" / "pen2.eaf")
    study.annotate("pen2.eaf", EAF.replace("the%20pen", "gone").replace("pen2", "gone"))
    assert [b[0] for b in study.bouts()] == ["pen2", "pen2"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;">]>', "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">', "declares a document type"),
        ("<!-- -->\n<oops", "damaged XML"),
    ],
)
def test_hostile_and_damaged_xml_is_refused(study: Study, text: str, problem: str) -> None:
    study.annotate("a.eaf", EAF.replace("?>\n", f"?>\n{text}\n", 1))
    (found,) = study.problems()
    assert problem in found and found.startswith("annotations/a.eaf:")


@settings(max_examples=40, deadline=None)
@given(bouts=bouts_of())
def test_elan_reads_back_as_it_was(bouts: pd.DataFrame, frozen_project: Project) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export_elan(Path(folder), bouts, frozen_project)
        back = [row for path in sorted(Path(folder).iterdir()) for row in read_back(path, frozen_project)]
        assert sorted(back) == as_rows(bouts)


def test_the_eaf_has_a_tier_for_each_subject_and_behaviour(study: Study) -> None:
    columns = ["video", "subject", "behaviour", "start", "stop", "probability"]
    bouts = pd.DataFrame([("pen2", "ram", 'a <"b">', 1.0006, 2.0, 0.5), ("pen2", "ewe", "lie", 1.5, 3.0, 0.5)], columns=columns)
    export_elan(study.folder / "out" / "x.eaf", bouts, study.project)
    lines = (study.folder / "out" / "x.eaf").read_text(encoding="utf-8").splitlines()
    slots = [line for line in lines if line.startswith("<TIME_SLOT ")]
    assert [line.split('"')[3] for line in slots] == ["1001", "1500", "2000", "3000"]
    assert len({line.split('"')[1] for line in slots}) == 4
    assert [line for line in lines if line.startswith("<TIER")] == [
        '<TIER TIER_ID="ewe:lie" PARTICIPANT="ewe" LINGUISTIC_TYPE_REF="behaviour">',
        '<TIER TIER_ID=\'ram:a &lt;"b"&gt;\' PARTICIPANT="ram" LINGUISTIC_TYPE_REF="behaviour">',
    ]
    assert 'MEDIA_URL="./../pen2.mp4"' in lines[3]
    with pytest.raises(FoveateError, match="holds one video"):
        export_elan(study.folder / "y.eaf", pd.concat([bouts, bouts.assign(video="pen1", subject="ewe")]), study.project)
    with pytest.raises(FoveateError, match="XML cannot hold"):
        export_elan(study.folder / "y.eaf", bouts.assign(behaviour="a\x01"), study.project)


# --- BENTO ----------------------------------------------------------------------------------------------------------------------

ANNOT = """Bento annotation file
Movie file(s): C:\\film\\pen1.mp4

Stimulus name:
Annotation start frame: 1
Annotation stop frame: 1500
Annotation framerate: 30.000000

List of channels:
Ch1

List of annotations:
attack
mount

Ch1----------
>attack
Start\t Stop\t Duration
{attack}

>mount
Start\t Stop\t Duration
{mount}

"""


@pytest.mark.parametrize(
    ("attack", "mount"),
    [
        (
            "1.0\t2.0\t1.0\n3.33333333333\t3.33333333333\t0",
            "0.0333333333333\t0.0333333333333\t0",
        ),  # frames over the nominal rate
        ("30\t60\t30\n100\t100\t0", "1\t1\t0"),  # frames
    ],
)
def test_bento_is_in_frames_of_the_video(study: Study, attack: str, mount: str) -> None:
    study.annotate("x.annot", ANNOT.format(attack=attack, mount=mount))
    # The video itself has 25 frames in a second: frame 30 starts at 29 / 25 s, frame 60 ends at 60 / 25 s.
    assert study.bouts() == [
        ("pen1", "ewe", "attack", 1.16, 2.4, "state"),
        ("pen1", "ewe", "attack", 3.96, 4.0, "state"),
        ("pen1", "ewe", "mount", 0.0, 0.04, "state"),
    ]
    assert not study.run()["problems"] and study.labels().intervals["row"].tolist() == [19, 20, 24]


@settings(max_examples=30, deadline=None)
@given(
    present=st.lists(st.booleans(), min_size=4, max_size=60),
    gaps=st.lists(st.integers(1, 300), min_size=60, max_size=60),
    rate=st.sampled_from([None, 25.0, 29.97, 30.0, 120.0]),
)
def test_bento_comes_back_frame_by_frame(present: list[bool], gaps: list[int], rate: float | None) -> None:
    """Frames counted from 1, first and last of each bout, as they are or over a nominal rate; the video's own rate is another."""
    border = np.flatnonzero(np.diff(present, prepend=False, append=False))
    pairs = zip((border[::2] + 1).tolist(), border[1::2].tolist(), strict=True)
    unit = rate or 1.0
    rows = [f"{a / unit:.12g}\t{b / unit:.12g}\t{(b - a) / unit:.12g}" for a, b in pairs]
    if rate and all(float(row.split("\t")[0]).is_integer() for row in rows):
        return  # whole seconds only: BENTO, too, takes them for frames
    edges = np.concatenate([[0], np.cumsum(gaps[: len(present)])]) / 1000
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), {"pen1": (float(edges[-1]), "ewe")}, behaviours=["attack"])
        study.starts["pen1"] = edges[:-1].tolist()
        text = ANNOT.format(attack="\n".join(rows), mount="").replace("30.000000", f"{rate or 30.0:f}")
        study.annotate("pen1.annot", text)
        if any(present):
            dense = study.labels().dense("pen1", "ewe", edges[:-1], np.diff(edges))
            assert not study.run()["problems"] and dense[:, 0].astype(bool).tolist() == present


def test_bento_channels_and_faults(study: Study) -> None:
    text = ANNOT.format(attack="1.5\t2.0\t.5\nx\t2\t1\n3.5\t3.0\t-1", mount="99.5\t100.5\t1").replace("pen1.mp4", "pen2.mp4")
    text += "RAM----------\n>attack\nStart\t Stop\t Duration \n10.5\t11.5\t1\n"
    study.annotate("x.annot", text)
    assert ("pen2", "ram", "attack") in [b[:3] for b in study.bouts()]
    rows = {p["row"]: p["problem"] for p in study.run()["problems"]}
    assert rows[20] == "'x 2 1' is not the start and stop of a bout of 'attack'"
    assert rows[21] == "'3.5 3.0 -1' is not the start and stop of a bout of 'attack'"
    assert "no subject is named" in rows[19] and len(rows) == 3


# --- tables of events -----------------------------------------------------------------------------------------------------------


def test_vtrace_and_lisbet_events(study: Study) -> None:
    study.annotate(
        "pen1.pred.csv", "# trace-meta: {}", "labelId,timestamp,endTimestamp,score", "groom,1.000,2.500,0.9", "rear,x,4,1"
    )
    study.annotate("pen3_annotations.csv", "behavior,start_time,end_time", "groom,0.1,0.2")
    study.annotate("pen9.csv", "behavior,start_time,end_time", "groom,0.1,0.2")
    assert study.bouts() == [("pen1", "ewe", "groom", 1.0, 2.5, "state"), ("pen3", "ewe", "groom", 0.1, 0.2, "state")]
    first, second = study.run()["problems"]
    assert (first["file"], first["row"]) == ("annotations/pen1.pred.csv", 4) and "start 'x' is not a time" in first["problem"]
    assert "the video that 'pen9.csv' is named after" in second["problem"] and "<video>.csv" in second["remedy"]


# --- tables of frames -----------------------------------------------------------------------------------------------------------

STARTS = [0.0, 0.05, 0.06, 0.11, 0.2, 0.21, 0.22, 0.3, 0.33, 0.39]
"""Ten frames of pen3, whose rate varies; it ends at 0.4 s."""
CODES = [1, 1, 0, 0, -1, -1, 0, 1, 1, 1]
BOUTS = [("pen3", "ewe", "groom", 0.0, 0.06, "state"), ("pen3", "ewe", "groom", 0.3, 0.4, "state")]


def deepethogram(codes: list[int], index: bool = True) -> list[str]:
    rows = [[k, -1 if c < 0 else 1 - c, c, -1 if c < 0 else 0] for k, c in enumerate(codes)]
    lines = [",background,groom,rear", *(",".join(map(str, row)) for row in rows)]
    return lines if index else [line.partition(",")[2].partition(",")[2] for line in lines]


def simba(codes: list[int]) -> list[str]:
    return [",Nose_x,Nose_y,Nose_p,rear,groom", *(f"{k},1.5,2.5,0.99,0,{max(c, 0)}" for k, c in enumerate(codes))]


def feral(codes: list[int], multilabel: bool) -> str:
    labels: Any = [[int(c == 0), c, 0] if c >= 0 else [-1, -1, -1] for c in codes] if multilabel else codes
    names = {"0": "other", "1": "groom", "2": "rear"}
    return json.dumps({"class_names": names, "is_multilabel": multilabel, "labels": {"pen3.mp4": labels}, "splits": {}})


def put_frames(study: Study, kind: str, codes: list[int]) -> None:
    if kind == "deepethogram":
        study.annotate("pen3_labels.csv", *deepethogram(codes))
    elif kind == "without index and background":
        study.annotate("pen3_labels.csv", *deepethogram(codes, index=False))
    elif kind == "simba":
        study.annotate("pen3.csv", *simba(codes))
    else:
        study.annotate("all.json", feral(codes, kind == "feral multilabel"))


FRAME_FORMATS = ["deepethogram", "without index and background", "simba", "feral", "feral multilabel"]


@pytest.mark.parametrize("kind", FRAME_FORMATS)
def test_frames_are_shown_when_the_timeline_says(study: Study, kind: str) -> None:
    study.configure(behaviours=["groom", "rear"])
    study.starts["pen3"] = STARTS
    put_frames(study, kind, CODES)
    assert study.bouts() == BOUTS
    assert not study.run()["problems"]
    unknown = 0 if kind == "simba" else -1  # SimBA knows 0 and 1 only
    dense = study.labels().dense("pen3", "ewe", STARTS, np.diff(STARTS, append=0.4))
    assert dense[:, 0].tolist() == [c if c >= 0 else unknown for c in CODES]
    assert dense[:, 1].tolist() == [0 if c >= 0 else unknown for c in CODES]
    study.starts["pen3"] = STARTS[:5]
    study.annotate("z.csv", "video,subject,behaviour,start,stop", "pen1,ewe,rear,1,2")
    assert "of 10 frames, but video 'pen3' presents 5" in study.problems()[0]
    assert [b[0] for b in study.bouts()] == ["pen1"]


@settings(max_examples=30, deadline=None)
@given(
    codes=st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=40), kind=st.sampled_from(FRAME_FORMATS), data=st.data()
)
def test_what_is_in_the_frames_is_in_the_labels(codes: list[int], kind: str, data: st.DataObject) -> None:
    """Any labels on any timeline come back frame by frame."""
    gaps = data.draw(st.lists(st.integers(1, 300), min_size=len(codes), max_size=len(codes)))
    edges = np.concatenate([[0], np.cumsum(gaps)]) / 1000
    if kind == "simba":
        codes = [max(c, 0) for c in codes]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), {"pen3": (float(edges[-1]), "ewe")}, behaviours=["groom", "rear"])
        study.starts["pen3"] = edges[:-1].tolist()
        put_frames(study, kind, codes)
        labels = study.labels()
        assert not study.run()["problems"]
        if any(c >= 0 for c in codes):
            assert labels.dense("pen3", "ewe", edges[:-1], np.diff(edges))[:, 0].tolist() == codes


def test_cells_that_are_no_label(study: Study) -> None:
    study.starts["pen3"] = STARTS
    lines = deepethogram(CODES)
    lines[8] = lines[8].replace(",1,", ",7,")
    study.annotate("pen3_labels.csv", *lines)
    assert study.problems() == ["annotations/pen3_labels.csv:9: '7' in column 'groom' is none of 0, 1, -1"]
    assert study.bouts() == [BOUTS[0], ("pen3", "ewe", "groom", 0.33, 0.4, "state")]
    study.annotate("pen3_labels.csv", *lines[:5], "4,1", *lines[6:])
    assert study.problems() == ["annotations/pen3_labels.csv:6: 2 cells, but the header has 4"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": {"pen7.mp4": [0]}}, "'pen7.mp4' is not a video"),
        ({"labels": {"pen3.mp4": [0, 9]}}, "name class 9, but there are 3"),
        ({"labels": {"pen3.mp4": [[0], [0, 1]]}}, "are not one class for each frame"),
        ({"labels": {"pen3.mp4": ["a"]}}, "are not one class for each frame"),
        ({"labels": {"pen3.mp4": [0.5]}}, "are not one class for each frame"),
        ({"labels": {"pen3.mp4": 3}}, "are not one class for each frame"),
        ({"labels": 3}, "labels {video: [...]}"),
        ({"class_names": {"5": "x"}}, "class_names must be"),
    ],
)
def test_feral_faults(study: Study, change: dict[str, Any], problem: str) -> None:
    study.annotate("all.json", json.dumps(json.loads(feral(CODES, False)) | change))
    study.annotate("z.csv", "video,subject,behaviour,start,stop", "pen1,ewe,rear,1,2")
    (found,) = study.run()["problems"]
    assert problem in found["problem"] and found["remedy"] and found["file"] == "annotations/all.json"
    assert len(study.bouts()) == 1


def test_boris_binary_table(study: Study) -> None:
    rows = [
        "time\tgraze (fast)\tgraze (slow)\tbleat",
        "0.0\t0\t0\t0",
        "0.5\t1\t0\t0",
        "1.0\t1\t1\t3",
        "1.5\t0\t1\t0",
        "2.0\t0\t0\t0",
    ]
    study.annotate("pen2_ram.tsv", *rows)
    study.annotate("pen1_No focal subject.tsv", *rows)
    bouts = [("ram", "bleat", 1.0, 1.5), ("ram", "graze", 0.5, 2.0)]
    assert [(*b[1:5],) for b in study.bouts() if b[0] == "pen2"] == bouts
    assert [b[2:5] for b in study.bouts() if b[0] == "pen1"] == [b[1:] for b in bouts]
    assert not study.run()["problems"]
    assert study.labels().dense("pen2", "ram", [0.2, 3.0], [0.1, 0.1]).tolist() == [[0, 0], [-1, -1]]
    study.annotate("pen2_ram.tsv", *rows[:3], rows[2])
    assert study.problems() == ["annotations/pen2_ram.tsv:4: times do not increase from row to row"]


# --- netCDF ---------------------------------------------------------------------------------------------------------------------


def write_netcdf(path: Path, codes: list[float], times: list[float] | None) -> None:
    """A LISBET file in netCDF 3, with two behaviours and two annotators who agree."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, size in (("time", len(codes)), ("behaviors", 2), ("annotators", 2), ("string8", 8)):
            file.createDimension(name, size)
        if times is not None:
            file.createVariable("time", "f8", ("time",))[:] = times
        for name, texts in (("behaviors", ["groom", "rear"]), ("annotators", ["Kim", "Lee"])):
            file.createVariable(name, "c", (name, "string8"))[:] = [list(text.ljust(8, "\0")) for text in texts]
        values = np.array(codes)[:, None, None] * np.array([1, 0])[None, :, None] * np.ones((1, 1, 2))
        file.createVariable("target_cls", "f8", ("time", "behaviors", "annotators"))[:] = values


@pytest.mark.parametrize("times", [None, list(range(10)), STARTS])
def test_lisbet_netcdf(study: Study, times: list[float] | None) -> None:
    study.starts["pen3"] = STARTS
    write_netcdf(study.folder / "annotations" / "pen3_annotations.nc", [c if c >= 0 else np.nan for c in CODES], times)
    assert study.bouts() == [bout for bout in BOUTS for _ in range(2)]
    labels = study.labels()
    assert set(labels.intervals["annotator"]) == {"Kim", "Lee"} and not study.run()["problems"]


def test_netcdf_4_without_h5py_says_what_to_install(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (study.folder / "annotations" / "pen3.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (problem,) = study.run()["problems"]
    assert "cannot be read without h5py" in problem["problem"] and 'pip install "foveate[netcdf]"' in problem["remedy"]


def test_netcdf_4(study: Study) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra netcdf is not installed")
    study.starts["pen3"] = STARTS
    with h5py.File(study.folder / "annotations" / "pen3.nc", "w") as file:
        file["time"], file["behaviors"], file["annotators"] = STARTS, ["groom", "rear"], ["Kim"]
        codes = np.array([c if c >= 0 else np.nan for c in CODES])
        file["target_cls"] = codes[:, None, None] * np.array([1, 0])[None, :, None]
        for k, name in enumerate(("time", "behaviors", "annotators")):
            file[name].make_scale(name)
            file["target_cls"].dims[k].attach_scale(file[name])
    assert study.bouts() == BOUTS
    path = study.folder / "annotations" / "pen3.nc"
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(5):  # some of these crash the HDF5 library; that costs a process, and one file
        path.write_bytes(mangle(whole, draw))
        assert all("pen3.nc" in problem for problem in study.problems())


# --- all of them ----------------------------------------------------------------------------------------------------------------


def test_formats_may_be_mixed_and_a_bad_file_stops_none(study: Study) -> None:
    study.configure(behaviours=["groom", "rear", "attack", "mount", "bleat"])
    study.starts["pen3"] = STARTS
    put_frames(study, "feral", CODES)
    study.annotate("pen2_ram.tsv", "time,groom", "0.0,1", "0.5,0")
    study.annotate("x.annot", ANNOT.format(attack="30\t60\t30", mount="1\t1\t0"))
    study.annotate("broken.json", "{}")
    study.annotate("broken.eaf", "<ANNOTATION_DOCUMENT>")
    study.annotate("broken.boris", '{"observations": [], "behaviors_conf": 3}')
    assert {(b[0], b[2]) for b in study.bouts()} == {
        ("pen3", "groom"),
        ("pen2", "groom"),
        ("pen1", "attack"),
        ("pen1", "mount"),
    }
    problems = study.run()["problems"]
    assert {p["file"] for p in problems} == {f"annotations/broken.{ending}" for ending in ("json", "eaf", "boris")}
    assert all(p["remedy"] for p in problems)
    artefact = annotations.artefact(study.project)
    assert artefact.complete()
    (study.folder / "pen2.mp4").write_bytes(b"another recording")  # named by a file name alone
    assert not annotations.artefact(study.project).complete()


def test_reading_needs_no_extra_and_no_heavy_package() -> None:
    code = "import sys, foveate.annotations; assert not {'scipy', 'h5py', 'pynwb', 'hdmf', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
