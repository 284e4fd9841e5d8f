"""Plain CSV in, labels out; what is wrong is said with file, row and remedy, and the rest goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from foveate import annotations
from foveate.annotations import tables
from foveate.annotations.check import grouped, union
from foveate.project import Video
from foveate.schema import INTERVALS, OBSERVED, FoveateError
from foveate.store import read_parquet
from tests.annotated import Study
from tests.videos import make_video, numbered

HEADER = "video,subject,behaviour,start,stop"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "Schafe – study 1", {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (30.0, "ewe")})


def test_plain_csv_becomes_labels(study: Study) -> None:
    study.annotate(
        "a.csv",
        "video,subject,behavior,start,stop,kind,annotator,comment",
        "pen1,,graze,1.5,10,,Kim,",
        "pen2,ram,walk,00:01:00.250,0:01:30,state,,until the gate",
        "pen2,ewe,bleat,5,,,,",
        "pen2,ewe,bleat,7,7,,,",
        "pen2,ewe,bleat,9,,point,,",
    )
    assert study.bouts() == [
        ("pen1", "ewe", "graze", 1.5, 10.0, "state"),
        ("pen2", "ewe", "bleat", 5.0, 5.0, "point"),
        ("pen2", "ewe", "bleat", 7.0, 7.0, "point"),
        ("pen2", "ewe", "bleat", 9.0, 9.0, "point"),
        ("pen2", "ram", "walk", 60.25, 90.0, "state"),
    ]
    labels = study.labels()
    assert labels.behaviours == ("walk", "graze", "bleat")  # by duration
    assert labels.videos == ("pen1", "pen2")
    assert labels.intervals["annotator"].tolist()[0] == "Kim"
    assert labels.intervals["row"].tolist() == [2, 4, 5, 6, 3]
    assert set(labels.intervals["file"]) == {"annotations/a.csv"}
    folder = study.folder / "labels"
    assert read_parquet(folder / "intervals.parquet").schema.equals(INTERVALS)
    assert read_parquet(folder / "observed.parquet").schema.equals(OBSERVED)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_delimiters_marks_and_line_ends(study: Study, separator: str, start: str, line_end: str) -> None:
    rows = [["Video", "Subject", "Behaviour", "Start", "Stop"], ["pen1", "ewe", "lie, quiet", "1.25", "2"]]
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in row] for row in rows]
    text = start + line_end.join(separator.join(row) for row in quoted) + line_end
    (study.folder / "annotations" / "x.csv").write_bytes(text.encode())
    assert study.bouts() == [("pen1", "ewe", "lie, quiet", 1.25, 2.0, "state")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        (" 12,5 ", 12.5),
        ("1e1", 10.0),
        ("00:00:12.500", 12.5),
        ("1:02:03.25", 3723.25),
        ("2:03", 123.0),
        ("-3", -3.0),
        ("-0:03", -3.0),
        ("", None),
        ("NA", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("1_0", None),
        ("0:75", None),
        ("1:2:3:4", None),
        ("٣", None),
        ("9" * 5000 + ":00:00", None),
    ],
)
def test_times(text: str, value: float | None) -> None:
    assert tables.seconds(text) == value


BAD_ROWS = [
    ("pen9,ewe,graze,1,2", "'pen9' is not a video of videos.csv", "did you mean pen"),
    (",ewe,graze,1,2", "no video is named", "videos.csv"),
    ("pen1,goat,graze,1,2", "subject 'goat' is not in video 'pen1'", "subjects of videos.csv, row 2"),
    ("pen2,,graze,1,2", "no subject is named, and video 'pen2' has several: ewe, ram", "name one"),
    ("pen1,ewe,,1,2", "no behaviour is named", "name it"),
    ("pen1,ewe,graze,5,2", "stop 2 s is before start 5 s", "swap"),
    ("pen1,ewe,graze,-1,2", "start -1 s is before the first frame", "first frame"),
    ("pen1,ewe,graze,61,70", "start 61 s is behind the end of video 'pen1', at 60.000 s", "right video"),
    ("pen1,ewe,graze,59,61", "stop 61 s is behind the end of video 'pen1', at 60.000 s", "correct the stop"),
    ("pen1,ewe,graze,one,2", "start 'one' is not a time", "hh:mm:ss"),
    ("pen1,ewe,graze,1,two", "stop 'two' is not a time", "hh:mm:ss"),
    ("pen1,ewe,graze,1,2,3,4", "7 cells, but the header has 5", "double quotes"),
    ("pen1,ewe,graze,1", "4 cells, but the header has 5", "complete the row"),
]


@pytest.mark.parametrize(("row", "problem", "remedy"), BAD_ROWS)
def test_a_bad_row_is_reported_and_the_others_stay(study: Study, row: str, problem: str, remedy: str) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,20,30", row, "pen3,ewe,walk,1,2")
    facts = study.run()
    assert len(facts["problems"]) == 1
    found = facts["problems"][0]
    assert (found["file"], found["row"]) == ("annotations/a.csv", 3)
    assert problem in found["problem"] and remedy in found["remedy"]
    assert [b[:3] for b in study.bouts()] == [("pen1", "ewe", "graze"), ("pen3", "ewe", "walk")]


def test_all_bad_rows_are_reported_in_one_go(study: Study) -> None:
    study.annotate("a.csv", HEADER, *[row for row, _, _ in BAD_ROWS])
    rows = [p["row"] for p in study.run()["problems"]]
    assert sorted(rows) == list(range(2, 2 + len(BAD_ROWS)))


def test_the_same_problem_in_many_rows_is_one(study: Study) -> None:
    study.annotate("a.csv", HEADER, *["pen9,ewe,graze,1,2"] * 12)
    (only,) = study.run()["problems"]
    assert only["row"] == 2
    assert only["problem"].endswith("(also in rows 3, 4, 5, 6, 7, 8, 9, 10 and 3 more)")


def test_kind_must_be_known(study: Study) -> None:
    study.annotate("a.csv", HEADER + ",kind", "pen1,ewe,graze,1,2,bout", "pen1,ewe,graze,3,,state", "pen1,ewe,graze,3,4,point")
    assert [p["row"] for p in study.run()["problems"]] == [2, 3, 4]


BAD_FILES = [
    (b"", "the file is empty"),
    (b" \n\n", "the file is empty"),
    (b"\xef\xbb\xbf", "the file is empty"),
    ("video,subject\n".encode("utf-16"), "not UTF-8 text"),
    (b"PK\x03\x04\xff\xfe\x00", "not UTF-8 text"),
    (b"a,b,c\n1,2,3\n", "no known annotation format; columns: a, b, c"),
    (b"video,subject,behaviour,start\npen1,ewe,graze,1\n", "no known annotation format"),
    (b"Observation id,obs 1,,\r\n,,,\r\nMedia file(s),,,\r\n", "a BORIS export of version 8.12 or older"),
]


@pytest.mark.parametrize(("content", "problem"), BAD_FILES)
def test_a_bad_file_does_not_stop_the_others(study: Study, content: bytes, problem: str) -> None:
    (study.folder / "annotations" / "bad.csv").write_bytes(content)
    study.annotate("good.csv", HEADER, "pen1,ewe,graze,20,30")
    (found,) = study.run()["problems"]
    assert found["file"] == "annotations/bad.csv" and problem in found["problem"] and found["remedy"]
    assert len(study.bouts()) == 1


def test_no_annotation_files_is_an_error_that_says_where_they_belong(study: Study) -> None:
    with pytest.raises(FoveateError, match=r"annotations/\*.csv"):
        study.run()


def test_a_header_alone_gives_no_labels(study: Study) -> None:
    study.annotate("a.csv", HEADER)
    labels = study.labels()
    assert labels.behaviours == () and labels.videos == () and len(labels.intervals) == 0
    assert labels.dense("pen1", "ewe", [0.0, 1.0]).shape == (2, 0)


def test_listed_behaviours_order_and_refuse(study: Study) -> None:
    study.configure(behaviours=["walk", "graze", "sleep"])
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,9", "pen1,ewe,grase,20,30", "pen1,ewe,walk,10,11")
    facts = study.run()
    (problem,) = facts["problems"]
    assert problem["row"] == 3 and "did you mean graze?" in problem["remedy"]
    assert [n["problem"] for n in facts["notes"]] == ["behaviour 'sleep' of foveate.yaml is never annotated"]
    assert study.labels().behaviours == ("walk", "graze", "sleep")
    assert facts["seconds"] == {"walk": 1.0, "graze": 8.0, "sleep": 0.0}


def test_overlaps_are_joined_with_a_note_and_neighbours_are_not(study: Study) -> None:
    study.annotate(
        "a.csv",
        HEADER,
        "pen1,ewe,graze,1,5",
        "pen1,ewe,graze,4,8",
        "pen1,ewe,graze,8,9",
        "pen1,ewe,walk,4,6",
        "pen2,ewe,graze,2,3",
    )
    assert [b[2:5] for b in study.bouts()] == [
        ("graze", 1.0, 8.0),
        ("graze", 8.0, 9.0),
        ("walk", 4.0, 6.0),
        ("graze", 2.0, 3.0),
    ]
    facts = study.run()
    assert not facts["problems"]
    (note,) = facts["notes"]
    assert "1 overlapping" in note["problem"] and (note["file"], note["row"]) == ("annotations/a.csv", 3)


def test_a_point_written_twice_is_one(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,bleat,5,", "pen1,ewe,bleat,5,5", "pen1,ewe,bleat,6,")
    assert [b[3] for b in study.bouts()] == [5.0, 6.0] and len(study.run()["notes"]) == 1


def test_annotators_are_kept_apart_and_either_is_enough(study: Study) -> None:
    study.annotate("a.csv", HEADER + ",annotator", "pen1,ewe,graze,1,5,Kim", "pen1,ewe,graze,4,8,Lou")
    assert len(study.bouts()) == 2 and not study.run()["notes"]
    assert study.labels().dense("pen1", "ewe", [0.0, 2.0, 4.0, 6.0, 8.0])[:, 0].tolist() == [0, 1, 1, 1, 0]


def test_the_end_of_the_video_is_forgiving_by_less_than_a_second(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,50,60.9", "pen1,ewe,bleat,60.5,", "pen1,ewe,walk,60.2,60.8")
    assert not study.run()["problems"]
    assert study.bouts() == [
        ("pen1", "ewe", "bleat", 60.0, 60.0, "point"),
        ("pen1", "ewe", "graze", 50.0, 60.0, "state"),
    ]
    last = study.labels().dense("pen1", "ewe", [59.0, 59.5], [0.5, 0.5])
    assert last.tolist() == [[1, 0], [1, 1]]


def test_letter_case_of_names_is_forgiven_but_noted_for_behaviours(study: Study) -> None:
    study.annotate("a.csv", HEADER, "PEN1,Ewe,graze,1,2", "pen1.mp4,ewe,Graze,5,6")
    facts = study.run()
    assert not facts["problems"] and "differ in letter case only" in facts["notes"][0]["problem"]
    assert {b[:2] for b in study.bouts()} == {("pen1", "ewe")}


def test_only_annotated_subjects_are_observed(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen2,ram,graze,10,20", "pen1,ewe,walk,1,2")
    labels = study.labels()
    assert labels.subjects("pen2") == ("ram",)
    times = [5.0, 15.0, 119.0]
    assert labels.dense("pen2", "ram", times).tolist() == [[0, 0], [1, 0], [0, 0]]
    assert (labels.dense("pen2", "ewe", times) == -1).all()
    assert (labels.dense("pen3", "ewe", times) == -1).all()


def test_observed_csv_restricts(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen1,ewe,walk,6,8", "pen2,ewe,graze,1,5", "pen2,ram,graze,1,5")
    study.annotate("observed.csv", "video,subject,start,stop,behaviour", "pen1,ewe,0,10,graze", "pen2,ram,2,,", "pen3,,,,")
    labels = study.labels()
    assert labels.behaviours == ("graze", "walk")
    times = [0.0, 3.0, 7.0, 20.0]
    assert labels.dense("pen1", "ewe", times).tolist() == [[0, -1], [1, -1], [0, -1], [-1, -1]]
    assert labels.dense("pen2", "ram", times).tolist() == [[-1, -1], [1, 0], [0, 0], [0, 0]]
    assert labels.dense("pen2", "ewe", times).tolist() == [[0, 0], [1, 0], [0, 0], [0, 0]]
    assert labels.dense("pen3", "ewe", times).tolist() == [[0, 0]] * 4  # watched, and nothing happened
    assert labels.videos == ("pen1", "pen2", "pen3")


def test_bad_rows_of_observed_csv(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen2,ewe,graze,1,5")
    rows = ["pen1,ewe,5,2", "pen1,ewe,x,2", "pen8,ewe,0,1", "pen2,cow,0,1", "pen2,ewe,500,", "pen2,ewe,1,2,3,4"]
    study.annotate("observed.csv", "video,subject,start,stop", *rows)
    facts = study.run()
    assert [p["row"] for p in facts["problems"]] == [2, 3, 4, 7, 5, 6]
    assert all(p["file"] == "annotations/observed.csv" and p["remedy"] for p in facts["problems"])
    # A wrong restriction is not read as "everything was watched".
    assert (study.labels().dense("pen1", "ewe", [0.0, 2.0]) == -1).all()
    study.annotate("observed.csv", "film,subject", "pen1,ewe")
    with pytest.raises(FoveateError, match="column 'video' is missing"):
        study.run()


def test_a_refused_row_never_becomes_an_absence(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen1,ewe,graze,10,x", "pen1,ewe,graze,20,25", "pen1,ewe,walk,30,31")
    labels = study.labels()
    graze = labels.dense("pen1", "ewe", [0.0, 2.0, 7.0, 12.0, 21.0, 40.0])
    assert labels.behaviours == ("graze", "walk")
    assert graze[:, 0].tolist() == [0, 1, 0, -1, 1, -1]  # from 10 s on only what was annotated is sure
    assert graze[:, 1].tolist() == [0] * 6
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen1,ewe,graze,x,12", "pen1,ewe,walk,30,31")
    assert study.labels().dense("pen1", "ewe", [0.0, 2.0, 7.0])[:, 0].tolist() == [-1, 1, -1]


def test_a_video_that_cannot_be_read_costs_its_labels_only(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen2,ewe,graze,1,5", "pen1,ewe,walk,9,10")

    def duration(video: Video) -> float:
        if video.name == "pen1":
            raise FoveateError("not a video", file=video.path, remedy="replace it")
        return study.lengths[video.name]

    facts = annotations.run(study.project, duration=duration).facts()
    (problem,) = facts["problems"]
    assert problem["problem"] == "the annotations of video 'pen1' are left out: not a video"
    assert facts["videos"] == ["pen2"] and facts["bouts"] == 1


def test_missing_footage_is_one_problem_and_the_default_duration_is_the_timeline(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5", "pen2,ewe,graze,1,5")
    (study.folder / "pen1.mp4").unlink()
    facts = annotations.run(study.project).facts()
    assert [p["file"] for p in facts["problems"]] == ["pen1.mp4", "pen2.mp4"]  # pen2.mp4 holds no video
    assert facts["bouts"] == 0


def test_stamp_follows_what_matters(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5")
    first = annotations.run(study.project, duration=study.duration)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    assert annotations.artefact(study.project).complete()
    # New footage that nobody annotated leaves the labels as they are.
    (study.folder / "new.mp4").write_bytes(b"new")
    with (study.folder / "videos.csv").open("a") as handle:
        handle.write("new,new.mp4,\n")
    assert annotations.artefact(study.project).complete()
    # Remade from nothing they have the same bytes.
    first.discard()
    again = annotations.run(study.project, duration=study.duration)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == before
    for change in (
        lambda: study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,6"),
        lambda: study.annotate("b.csv", HEADER, "pen2,ewe,graze,1,6"),
        lambda: study.annotate("observed.csv", "video,start,stop", "pen1,0,30"),
        lambda: study.configure(behaviours=["graze"]),
        lambda: (study.folder / "pen2.mp4").write_bytes(b"another recording"),
    ):
        change()
        assert not annotations.artefact(study.project).complete()
        with pytest.raises(FoveateError, match="out of date"):
            annotations.load_labels(study.project)
        study.run()


def test_annotations_are_never_modified(study: Study) -> None:
    path = study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5")
    path.chmod(0o444)
    before = path.read_bytes(), path.stat().st_mtime_ns
    study.run()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_files_may_lie_elsewhere(study: Study, tmp_path: Path) -> None:
    (tmp_path / "shared notes").mkdir()
    (tmp_path / "shared notes" / "n.csv").write_text(f"{HEADER}\npen1,ewe,graze,1,5\n")
    (study.folder / "annotations" / "link.csv").symlink_to(tmp_path / "shared notes" / "n.csv")
    study.configure(
        annotations={"files": [str(tmp_path / "shared notes" / "*.csv"), "annotations/*.csv", "annotations/link.csv"]}
    )
    facts = study.run()
    assert facts["bouts"] == 1 and not facts["problems"] and len(facts["notes"]) == 1  # the same bout twice, joined


def test_wanted_format(study: Study) -> None:
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,1,5")
    study.configure(annotations={"format": "boris"})
    assert "no known annotation format 'boris'" in study.problems()[0]


def test_union_and_grouping() -> None:
    assert union([(3, 4), (0, 1), (1, 2), (3.5, 3.6), (9, 9)]) == [(0, 2), (3, 4), (9, 9)]
    assert union([]) == []
    assert math.isinf(union([(0, 5), (1, math.inf)])[0][1])
    one = FoveateError("p", file="f", row=1)
    assert [str(e) for e in grouped([one, one, FoveateError("p", file="g", row=1)])] == ["f, row 1: p", "g, row 1: p"]


def test_real_videos_are_measured_by_their_timeline(study: Study) -> None:
    make_video(study.folder / "pen1.mp4", numbered(50), fps=25)
    study.annotate("a.csv", HEADER, "pen1,ewe,graze,0.48,1.52", "pen1,ewe,walk,1.9,2.5", "pen1,ewe,lie,2.9,3.1")
    facts = annotations.run(study.project).facts()
    assert [p["row"] for p in facts["problems"]] == [4]
    annotations.export_boris_aggregated(study.folder / "x.csv", annotations.load_labels(study.project).intervals, study.project)
    row = (study.folder / "x.csv").read_text().splitlines()[1].split(",")
    assert row[6:9] == ["2.000", "2.000", "25.000"] and row[14:16] == ["0.480", "1.520"]
