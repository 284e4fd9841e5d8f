"""BORIS projects in and out, and the tabular events of BORIS 7 to 8.12. Files by hand from the documented structure."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings

from foveate import annotations
from foveate.annotations import source as sources
from foveate.annotations.export_project import export_boris_project
from foveate.project import Project
from tests.annotated import Study, as_rows, bouts_of, read_back

LEGACY = """Observation id,obs,,,,,,,,,
,,,,,,,,,,
Media file(s),,,,,,,,,,
,,,,,,,,,,
Player #1,D:\\film\\pen1.MP4,,,,,,,,,
Player #1,D:\\film\\pen3.MP4,,,,,,,,,
,,,,,,,,,,
Observation date,2019-05-01 10:00:00,,,,,,,,,
,,,,,,,,,,
Description,,,,,,,,,,
,,,,,,,,,,
Time offset (s),5,,,,,,,,,
,,,,,,,,,,
independent variables,,,,,,,,,,
variable,value,,,,,,,,,
time offset (s),77,,,,,,,,,
,,,,,,,,,,
Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Modifier 1,Modifier 2,Comment,Status
6.000,D:\\film\\pen1.MP4,90.0,25,ewe,graze,,fast,,,START
7.000,D:\\film\\pen1.MP4,90.0,25,No focal subject,bleat,,,,,POINT
8.500,D:\\film\\pen1.MP4,90.0,25,ewe,graze,,fast,,,STOP
70.000,D:\\film\\pen3.MP4,90.0,25,ewe,walk,,,,,START
80.000,D:\\film\\pen3.MP4,90.0,25,ewe,walk,,,,,STOP
81.000,D:\\film\\pen3.MP4,90.0,25,ewe,lie,,,,,START
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (30.0, "ewe")})


@pytest.mark.parametrize("separator", [",", "\t"])
def test_tabular_events_before_813(study: Study, separator: str) -> None:
    path = study.folder / "annotations" / "old.csv"
    path.write_bytes(LEGACY.replace(",", separator).replace("\n", "\r\n").encode())
    assert study.bouts() == [
        ("pen1", "ewe", "bleat", 2.0, 2.0, "point"),
        ("pen1", "ewe", "graze", 1.0, 3.5, "state"),
        ("pen3", "ewe", "walk", 5.0, 15.0, "state"),
    ]
    (problem,) = study.run()["problems"]
    assert problem["row"] == 24 and "'lie' of 'ewe' starts at 81 s and has no STOP" in problem["problem"]
    study.configure(behaviours=["graze", "lie"])
    assert study.labels().dense("pen3", "ewe", [1.0, 20.0]).tolist() == [[0, 0], [0, -1]]
    assert study.labels().dense("pen1", "ewe", [0.5, 2.0]).tolist() == [[0, 0], [1, 0]]


def test_an_old_export_without_its_table(study: Study) -> None:
    study.annotate("old.csv", "Observation id,obs", "", "Media file(s),", "Player #1,pen1.mp4")
    assert study.problems()[0].startswith("annotations/old.csv:1: a BORIS export of version 8.12 or older without its table")


def observation(*events: list[Any], files: object = None, **more: Any) -> dict[str, Any]:
    paths = files if files is not None else {"1": ["D:\\film\\pen1.MP4"]}
    lengths = {"D:\\film\\pen1.MP4": 60.0, "pen2.mp4": 120.0, "pen3.mp4": 30.0}
    return {
        "file": paths,
        "type": "MEDIA",
        "date": "2024-05-01T10:00:00.000",
        "description": "",
        "time offset": 0.0,
        "events": list(events),
        "observation time interval": [0, 0],
        "media_info": {"length": lengths, "fps": {}, "offset": {"1": 0.0, "2": 2.5}},
    } | more


def project_of(**observations: Any) -> str:
    codes = {"graze": "State event", "walk": "State event with coding map", "bleat": "Point event", "lie": "State event"}
    return json.dumps(
        {
            "time_format": "hh:mm:ss",
            "project_format_version": "7.0",
            "subjects_conf": {"0": {"key": "1", "name": "ewe", "description": ""}},
            "behaviors_conf": {
                str(k): {"type": kind, "key": "g", "code": code} for k, (code, kind) in enumerate(codes.items())
            },
            "observations": observations,
        }
    )


def put(study: Study, text: str, name: str = "flock.boris") -> Path:
    path = study.folder / "annotations" / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["flock.boris", "flock.boris.gz", "renamed.json"])
def test_states_take_turns_per_behaviour_subject_and_modifiers(study: Study, name: str) -> None:
    events = [
        [1.0, "ewe", "graze", "fast", "", 25],
        [2, "ewe", "graze", "slow", "", 50],
        [2.5, "", "bleat", "", "loud", "NA"],
        [3.0, "ewe", "graze", "fast", "", 75],
        [4.25, "ewe", "graze", "slow", ""],  # five items, as older versions have
        [4.25, "ewe", "walk", "", "", 106],
        [9.0, "ewe", "walk", "", "", 225],
    ]
    put(study, project_of(obs=observation(*events)), name)
    assert study.bouts() == [
        ("pen1", "ewe", "bleat", 2.5, 2.5, "point"),
        ("pen1", "ewe", "graze", 1.0, 4.25, "state"),  # one behaviour, whatever its modifiers
        ("pen1", "ewe", "walk", 4.25, 9.0, "state"),
    ]
    assert not study.run()["problems"]
    assert study.labels().dense("pen1", "ewe", [0.5, 50.0], [0.1, 0.1]).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_media_follow_each_other_and_players_have_offsets(study: Study) -> None:
    two = {"1": ["D:\\film\\pen1.MP4", "pen2.mp4"], "2": []}
    events = [[50.0, "ewe", "graze", "", "", 1], [70.0, "ewe", "graze", "", "", 1]]
    later = [[10.0, "ewe", "walk", "", "", 1], [12.0, "ewe", "walk", "", "", 1]]
    put(
        study,
        project_of(
            a=observation(*events, files=two),
            b=observation(*later, files={"1": ["elsewhere.mp4"], "2": ["pen3.mp4"]}),
            c=observation([110.0, "ram", "bleat", "", "", 1], files={"1": ["pen2.mp4"]}, **{"time offset": 100.0}),
        ),
    )
    assert study.bouts() == [
        ("pen1", "ewe", "graze", 50.0, 60.0, "state"),
        ("pen2", "ewe", "graze", 0.0, 10.0, "state"),
        ("pen2", "ram", "bleat", 10.0, 10.0, "point"),
        ("pen3", "ewe", "walk", 7.5, 9.5, "state"),
    ]
    assert not study.run()["problems"]


def test_the_time_interval_of_an_observation_is_what_was_observed(study: Study) -> None:
    events = [[20.0, "ewe", "graze", "", "", 1], [30.0, "ewe", "graze", "", "", 1]]
    put(study, project_of(a=observation(*events, **{"observation time interval": [10, 40]})))
    assert study.labels().dense("pen1", "ewe", [5.0, 15.0, 25.0, 35.0, 45.0])[:, 0].tolist() == [-1, 0, 1, 0, -1]
    assert not study.run()["notes"]


def test_what_is_wrong_with_an_event_is_said_and_the_rest_goes_on(study: Study) -> None:
    put(
        study,
        project_of(
            bad=observation(
                [1.0, "ewe", "graze", "", "", 1],
                [None, "ewe", "graze", "", "", 1],
                [3.0, "ewe", "graze", "", "", 1],
                [4.0, "ewe", "walk", "", "", 1],
                [5.0, "ewe", "chew", "", "", 1],
                "an event",
                [6.0, "ewe", "bleat", "", "", 1],
            ),
            pictures=observation(type="IMAGES"),
            unknown=observation([1.0, "ewe", "bleat", "", "", 1], files={"1": ["pen9.mp4"]}),
            broken=17,
            good=observation([1.0, "ewe", "bleat", "", "", 1], files={"1": ["pen3.mp4"]}),
        ),
    )
    assert [b[:5] for b in study.bouts()] == [("pen1", "ewe", "bleat", 6.0, 6.0), ("pen3", "ewe", "bleat", 1.0, 1.0)]
    problems = study.run()["problems"]
    assert all(p["remedy"] and p["file"] == "annotations/flock.boris" for p in problems)
    text = "\n".join(f"{p['row']} {p['problem']}" for p in problems)
    for part in (
        "2 observation 'bad': the event has time 'None', so that other events of 'graze' cannot be paired",
        "4 observation 'bad': 'walk' of 'ewe' starts at 4 s and has no STOP",
        "5 observation 'bad': behaviour 'chew' is not in the ethogram",
        "6 observation 'bad': the event is not [time, subject",
        "None observation 'pictures' is of single images",
        "'pen9.mp4' of observation 'unknown' is not a video",
        "None observation 'broken' has no list of events",
    ):
        assert part in text
    assert len(problems) == 7
    study.configure(behaviours=["graze", "bleat", "walk"])
    assert study.labels().dense("pen1", "ewe", [0.5, 2.0, 5.0], [0.1, 0.1, 0.1]).tolist() == [
        [-1, 0, 0],
        [-1, 0, 0],
        [-1, 0, -1],
    ]


def test_the_stamp_follows_the_videos_of_a_project_file(study: Study) -> None:
    put(study, project_of(a=observation([1.0, "", "bleat", "", ""], files={"1": ["pen3.mp4"]})))
    study.run()
    assert annotations.artefact(study.project).complete()
    (study.folder / "pen2.mp4").write_bytes(b"of no interest")
    assert annotations.artefact(study.project).complete()
    (study.folder / "pen3.mp4").write_bytes(b"another recording")
    assert not annotations.artefact(study.project).complete()


def test_packed_files_are_unpacked_up_to_a_limit(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(study, project_of(a=observation([1.0, "", "bleat", "", ""])), "flock.boris.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "damaged gzip file" in study.problems()[0]
    monkeypatch.setattr(sources, "LIMIT", 2**20)
    path.write_bytes(gzip.compress(bytes(2**22)))
    assert "unpacks to more than 1 MiB" in study.problems()[0]
    path.write_bytes(gzip.compress(b"") * 100_000)
    assert "the file is empty" in study.problems()[0]


def test_nested_json_is_refused(study: Study) -> None:
    put(study, '{"observations":' + "[" * 100_000)
    assert "not JSON" in study.problems()[0] or "no known annotation format" in study.problems()[0]


# --- out ------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(bouts=bouts_of())
def test_projects_read_back_as_they_were(bouts: pd.DataFrame, frozen_project: Project) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.boris"
        export_boris_project(path, bouts, frozen_project, media=lambda video: (120.0, 25.0))
        assert read_back(path, frozen_project) == as_rows(bouts)
        assert path.read_text(encoding="utf-8").isascii()  # BORIS opens it with the encoding of the system
        export_boris_project(Path(folder) / "two.boris", bouts[::-1], frozen_project, media=lambda video: (120.0, 25.0))
        assert path.read_bytes() == (Path(folder) / "two.boris").read_bytes()


def test_the_project_is_as_boris_keeps_it(study: Study) -> None:
    bouts = pd.DataFrame(
        [
            ("pen2", "ram", "graze", 10.0006, 12.5, 0.934),
            ("pen2", "ewe", "walk", 3.0, 4.25, 0.5),
            ("pen2", "ewe", "walk", 4.25, 5.0, 0.6),
            ("pen2", "ewe", "graze", 30.0, 32.0, 0.6),
            ("pen2", "ewe", "graze", 31.0, 33.0, 0.7),
        ],
        columns=["video", "subject", "behaviour", "start", "stop", "probability"],
    )
    path = study.folder / "corrections" / "flock.boris"
    export_boris_project(path, bouts, study.project, media=lambda video: (120.0004, 24.98761), description="predicted")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["project_format_version"] == "7.0" and found["project_description"] == "predicted"
    assert [b["code"] for b in found["behaviors_conf"].values()] == ["graze", "walk"]
    assert {b["type"] for b in found["behaviors_conf"].values()} == {"State event"}
    assert [b["key"] for b in found["behaviors_conf"].values()] == ["a", "b"]
    assert [b["color"] for b in found["behaviors_conf"].values()] == ["tab:blue", "tab:orange"]
    assert [s["name"] for s in found["subjects_conf"].values()] == ["ewe", "ram"]
    (name, obs), *others = found["observations"].items()
    assert name == "pen2" and not others
    assert obs["file"]["1"] == ["../pen2.mp4"] and obs["file"]["8"] == []
    assert obs["media_info"]["length"] == {"../pen2.mp4": 120.0} and obs["media_info"]["fps"] == {"../pen2.mp4": 24.988}
    assert obs["events"] == [
        [3.0, "ewe", "walk", "", "p=0.50", "NA"],
        [4.25, "ewe", "walk", "", "", "NA"],
        [4.25, "ewe", "walk", "", "p=0.60", "NA"],
        [5.0, "ewe", "walk", "", "", "NA"],
        [10.001, "ram", "graze", "", "p=0.93", "NA"],
        [12.5, "ram", "graze", "", "", "NA"],
        [30.0, "ewe", "graze", "", "p=0.70", "NA"],
        [33.0, "ewe", "graze", "", "", "NA"],
    ]


def test_what_was_never_predicted_can_be_added_in_boris(study: Study) -> None:
    rows = [("pen1", "ewe", "walk", 1.0, 3.0, "state"), ("pen1", "ewe", "bleat", 2.0, 2.0, "point")]
    bouts = pd.DataFrame(rows, columns=["video", "subject", "behaviour", "start", "stop", "kind"])
    path = study.folder / "annotations" / "flock.boris"
    videos = [study.project.video("pen1"), study.project.video("pen2")]
    export_boris_project(
        path, bouts, study.project, media=lambda video: (60.0, 25.0), behaviours=["graze", "walk"], videos=videos
    )
    found = json.loads(path.read_text(encoding="utf-8"))
    kinds = {b["code"]: b["type"] for b in found["behaviors_conf"].values()}
    assert kinds == {"bleat": "Point event", "graze": "State event", "walk": "State event"}
    assert {name: len(obs["events"]) for name, obs in found["observations"].items()} == {"pen1": 3, "pen2": 0}
    assert {s["name"] for s in found["subjects_conf"].values()} == {s for video in videos for s in video.subjects}


def test_instants_of_a_state_are_short_states_and_vanish_inside_long_ones(study: Study) -> None:
    rows = [
        ("pen1", "ewe", "lie", 1.0, 3.0, "state"),
        ("pen1", "ewe", "lie", 2.0, 2.0, "point"),
        ("pen1", "ewe", "lie", 5.0, 5.0, "point"),
    ]
    bouts = pd.DataFrame(rows, columns=["video", "subject", "behaviour", "start", "stop", "kind"])
    path = study.folder / "annotations" / "flock.boris"
    export_boris_project(path, bouts, study.project, media=lambda video: (60.0, 25.0))
    assert study.bouts() == [rows[0], rows[2]]
    assert not study.run()["problems"]
