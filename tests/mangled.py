"""Small good files of every annotation format, and bytes of them changed at random; for the fuzz test and the long run."""

from __future__ import annotations

import copy
import gzip
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foveate import annotations
from foveate.annotations import tables
from foveate.annotations.check import check
from foveate.schema import FoveateError
from tests.annotated import BORIS_AGGREGATED, BORIS_TABULAR, Study, aggregated_row, tabular_row

TWO = "player #1:pen1.mp4;pen2.mp4|player #2:pen3.mp4"
FRAMES = [0, 1, 1, -1, 0, 1, 0, 0, 1, 1]
_EVENTS = [[1.0, "ewe", "graze", "", "p=0.90", 25], [2.5, "ewe", "graze", "", "", "NA"], [3.0, "", "bleat", "loud", "", 75]]
_BORIS = {
    "project_format_version": "7.0",
    "subjects_conf": {"0": {"key": "1", "name": "ewe", "description": ""}},
    "behaviors_conf": {"0": {"type": "State event", "code": "graze"}, "1": {"type": "Point event", "code": "bleat"}},
    "observations": {
        "obs": {
            "file": {"1": ["pen1.mp4", "pen2.mp4"], "2": ["pen3.mp4"]},
            "type": "MEDIA",
            "time offset": 0.0,
            "events": _EVENTS,
            "observation time interval": [0, 0],
            "media_info": {"length": {"pen1.mp4": 60.0}, "offset": {"1": 0.0, "2": 1.5}},
        }
    },
}
_EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT FORMAT="2.8" VERSION="2.8">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="./pen2.mp4" TIME_ORIGIN="5"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2500"/></TIME_ORDER>
<TIER TIER_ID="ram:graze" PARTICIPANT="ram" LINGUISTIC_TYPE_REF="b"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>graze</ANNOTATION_VALUE>
</ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""
_ANNOT = """Bento annotation file
Movie file(s): pen1.mp4

Annotation framerate: 25.0

List of channels:
Ch1

List of annotations:
graze

Ch1----------
>graze
Start\t Stop\t Duration
1.04\t2\t.96
30.5\t31\t.5

"""
_LEGACY = """Observation id,obs,,,,,,,,
,,,,,,,,,
Player #1,pen1.mp4,,,,,,,,
,,,,,,,,,
Time offset (s),0,,,,,,,,
,,,,,,,,,
Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Modifier 1,Comment,Status
1.0,pen1.mp4,60.0,25,ewe,graze,,,,START
2.0,pen1.mp4,60.0,25,ewe,graze,,,,STOP
"""


def good_files() -> dict[str, bytes]:
    """One small file of each format, by a name that it may have."""
    dense = [[int(c == 0), int(c == 1)] for c in FRAMES]
    feral = {"class_names": {"0": "other", "1": "graze"}, "is_multilabel": True, "labels": {"pen3.mp4": dense}}
    texts = {
        "plain.csv": "video,subject,behaviour,start,stop,kind\npen1,ewe,graze,1.5,0:00:10,\npen2,ram,bleat,5,,point\n",
        "tabular.csv": "\n".join(
            [
                BORIS_TABULAR,
                *(tabular_row("graze", s, t, source=TWO, durations="60;120|30") for s, t in (("START", 1), ("STOP", 70))),
            ]
        ),
        "aggregated.csv": "\n".join([BORIS_AGGREGATED, aggregated_row("graze", 1, 90, source=TWO, durations="60;120|30")]),
        "legacy.csv": _LEGACY,
        "flock.boris": json.dumps(_BORIS),
        "pen1_ewe.tsv": "time\tgraze (slow)\tbleat\n0.0\t0\t0\n0.5\t1\t2\n1.0\t0\t0\n",
        "x.eaf": _EAF,
        "x.annot": _ANNOT,
        "pen3_labels.csv": "\n".join(
            [",background,graze", *(f"{k},{-1 if c < 0 else 1 - c},{c}" for k, c in enumerate(FRAMES))]
        ),
        "pen3.csv": "\n".join([",Nose_x,Nose_p,graze", *(f"{k},1.5,0.9,{max(c, 0)}" for k, c in enumerate(FRAMES))]),
        "all.json": json.dumps(feral),
        "pen1.pred.csv": "# trace-meta: {}\nlabelId,timestamp,endTimestamp,score\ngraze,1.000,2.500,0.9\n",
        "pen1_annotations.csv": "behavior,start_time,end_time\ngraze,1.0,2.5\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["flock.boris.gz"] = gzip.compress(files["flock.boris"], mtime=0)
    files["pen3_annotations.nc"] = _netcdf()
    return files


def _netcdf() -> bytes:
    from scipy.io import netcdf_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nc"
        with netcdf_file(path, "w") as file:
            for name, size in (("time", len(FRAMES)), ("behaviors", 1), ("annotators", 1), ("string5", 5)):
                file.createDimension(name, size)
            file.createVariable("time", "f8", ("time",))[:] = np.arange(len(FRAMES)) / 25
            file.createVariable("behaviors", "c", ("behaviors", "string5"))[:] = [list("graze")]
            file.createVariable("annotators", "c", ("annotators", "string5"))[:] = [list("Kim\0\0")]
            file.createVariable("target_cls", "f8", ("time", "behaviors", "annotators"))[:] = np.array(FRAMES)[:, None, None]
        return path.read_bytes()


PIECES = (
    b"",
    b",",
    b";",
    b"\t",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"NA",
    b"-1",
    b"1e999",
    b"nan",
    b"[",
    b"]",
    b"{",
    b"}",
)
PIECES += (
    b"<",
    b">",
    b"&lt;",
    b"<!DOCTYPE a>",
    b"null",
    b"true",
    b'""',
    b"1e400",
    b"9" * 30,
    b"player #1:",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
)


ODD = (
    None,
    True,
    0,
    -1,
    1e300,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "NA",
    "graze",
    "pen1.mp4",
    [],
    [[]],
    {},
    {"1": []},
    [0, 0],
)


def mangle(content: bytes, draw: random.Random) -> bytes:
    """One to six changes: a byte, a piece put in or taken out, a stretch doubled, the rest cut off; in JSON also a value by another."""
    if content.startswith(b"{") and draw.random() < 0.5:
        found = json.loads(content)
        for _ in range(draw.choice((1, 1, 1, 3))):
            _replace(found, draw)
        return json.dumps(found).encode()
    if content.startswith(b"\x1f\x8b") and draw.random() < 0.5:
        return gzip.compress(mangle(gzip.decompress(content), draw), 1, mtime=0)
    out = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(out) + 1)
        what = draw.randrange(6)
        if what == 0 and at < len(out):
            out[at] = draw.randrange(256)
        elif what == 1:
            out[at : at + draw.randrange(3)] = draw.choice(PIECES)
        elif what == 2:
            del out[at : at + draw.randrange(20)]
        elif what == 3:
            out[at:at] = out[at : at + draw.randrange(60)]
        elif what == 4 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif draw.randrange(8) == 0:
            del out[at:]
    return bytes(out)


def _replace(tree: Any, draw: random.Random) -> None:
    """Put something odd in the place of a value somewhere in a JSON document."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(tree[key], dict | list) and draw.random() < 0.7:
            tree = tree[key]
            continue
        tree[key] = copy.deepcopy(draw.choice(ODD))
        return


def make_study(folder: Path) -> Study:
    videos = {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (0.4, "ewe")}
    return Study(folder, videos, behaviours=["graze", "bleat"])


def mutations(study: Study, count: int, seed: int) -> Iterator[tuple[str, bytes, int, int]]:
    """Read ``count`` changed files; yields (name, bytes, bouts, problems) of each.

    Raises:
        AssertionError: a problem without file or remedy, or a bout outside its video.
        Exception: anything that a reader let through.
    """
    draw, files, project = random.Random(seed), good_files(), study.project
    videos = tables.Videos.of(project)
    names = sorted(files)
    for k in range(count):
        name = names[k % len(names)]
        content = mangle(files[name], draw)
        path = study.folder / "annotations" / name
        path.write_bytes(content)
        try:
            annotations.videos_named(project, [path])
            reading = annotations.read_file(path, project, videos, study.duration, study.times)
            checked = check(project, [(path, reading)], None, study.duration)
        except Exception as error:
            error.add_note(f"{name}, mutation {k} of seed {seed}: {content!r}")
            raise
        for problem in checked.problems:
            assert isinstance(problem, FoveateError) and problem.file and problem.remedy, (name, content, problem)
        for bout in checked.bouts:
            assert 0 <= bout.start <= bout.stop <= study.lengths[bout.video], (name, content, bout)
        yield name, content, len(checked.bouts), len(checked.problems)
