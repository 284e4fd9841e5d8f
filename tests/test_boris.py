"""BORIS exports in, predictions out. Headers and conventions as BORIS 8.13 to 9.12 write them; the rows are our own."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import annotations
from foveate.annotations import boris, tables
from foveate.annotations.export import HEADER, export_boris_aggregated, export_csv
from foveate.project import Project
from foveate.schema import FoveateError
from tests.annotated import BORIS_AGGREGATED, BORIS_TABULAR, Study, aggregated_row, tabular_row

THREE = "player #1:D:\\film\\pen1.MP4;D:\\film\\pen2.MP4;D:\\film\\pen3.MP4"
THREE_LENGTHS = "60.000;120.000;30.000"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (30.0, "ewe")})


def test_tabular_events_are_paired(study: Study) -> None:
    study.annotate(
        "obs.csv",
        BORIS_TABULAR,
        tabular_row("graze", "START", "1.000"),
        tabular_row("walk", "START", "2.000"),  # overlaps
        tabular_row("graze", "STOP", "3.500"),
        tabular_row("bleat", "POINT", "4.000"),
        tabular_row("walk", "STOP", "5.000"),
        tabular_row("graze", "START", "5.000"),
        tabular_row("graze", "STOP", "9.999"),
    )
    assert study.bouts() == [
        ("pen1", "ewe", "bleat", 4.0, 4.0, "point"),
        ("pen1", "ewe", "graze", 1.0, 3.5, "state"),
        ("pen1", "ewe", "graze", 5.0, 9.999, "state"),
        ("pen1", "ewe", "walk", 2.0, 5.0, "state"),
    ]
    assert study.labels().intervals["row"].tolist() == [5, 2, 7, 3]
    assert not study.run()["problems"] and not study.run()["notes"]


def test_subjects_and_modifiers_pair_apart_and_order_in_the_file_does_not_matter(study: Study) -> None:
    header = BORIS_TABULAR.replace("Behavior type", "Modifier #1,Modifier #2,Behavior type")

    def row(behaviour: str, modifier: str, status: str, time: str, subject: str) -> str:
        plain = tabular_row(
            behaviour, status, time, subject=subject, source="player #1:pen2.mp4", durations="120.000", coded="120"
        )
        return plain.replace(f",{status},", f",{modifier},,{status},")

    study.annotate(
        "obs.csv",
        header,
        row("graze", "fast", "STOP", "20", "ewe"),
        row("graze", "fast", "START", "10", "ewe"),
        row("graze", "slow", "START", "15", "ewe"),
        row("graze", "slow", "STOP", "30", "ewe"),
        row("graze", "fast", "START", "12", "ram"),
        row("graze", "fast", "STOP", "13", "ram"),
    )
    assert study.bouts() == [
        ("pen2", "ewe", "graze", 10.0, 30.0, "state"),  # one behaviour, whatever its modifiers
        ("pen2", "ram", "graze", 12.0, 13.0, "state"),
    ]
    assert not study.run()["problems"]


def test_events_without_partner_name_file_row_and_remedy_and_the_rest_goes_on(study: Study) -> None:
    study.annotate(
        "bad.csv",
        BORIS_TABULAR,
        tabular_row("graze", "START", "1"),
        tabular_row("graze", "START", "5"),
        tabular_row("graze", "STOP", "7"),
        tabular_row("walk", "STOP", "8"),
        tabular_row("lie", "START", "50", subject="ewe"),
        tabular_row("bleat", "POINT", "9"),
    )
    study.annotate("good.csv", BORIS_AGGREGATED, aggregated_row("walk", 1, 2, source="player #1:pen3.mp4", observation="other"))
    problems = {p["row"]: p for p in study.run()["problems"]}
    assert sorted(problems) == [2, 5, 6]
    assert all(p["file"] == "annotations/bad.csv" and "Fix unpaired events" in p["remedy"] for p in problems.values())
    assert problems[2]["problem"] == "'graze' starts at 1 s and has no STOP"
    assert problems[5]["problem"] == "'walk' stops at 8 s and has no START"
    assert problems[6]["problem"] == "'lie' of 'ewe' starts at 50 s and has no STOP"
    assert {b[:5] for b in study.bouts()} == {
        ("pen1", "ewe", "graze", 5.0, 7.0),
        ("pen1", "ewe", "bleat", 9.0, 9.0),
        ("pen3", "ewe", "walk", 1.0, 2.0),
    }
    assert "lie" not in study.labels().behaviours  # it was never annotated with success
    study.configure(behaviours=["lie", "graze", "walk", "bleat"])
    dense = study.labels().dense("pen1", "ewe", [0.0, 6.0, 49.0, 51.0])
    assert dense[:, 0].tolist() == [0, 0, 0, -1]
    assert dense[:, 1].tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("spelling", ["Behavior", "Behaviour"])
def test_aggregated_events(study: Study, separator: str, mark: str, spelling: str) -> None:
    lines = [BORIS_AGGREGATED.replace("Behavior", spelling), aggregated_row("graze", "1.250", "3.500")]
    lines += [
        aggregated_row("bleat", "4.000", "4.000", kind="POINT"),
        aggregated_row("lie; down", "5.000", "6.000", subject="ewe"),
    ]
    text = mark + "\r\n".join(lines) + "\r\n"
    rows = list(csv.reader(text.splitlines()))
    with (study.folder / "annotations" / "agg.tsv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter=separator).writerows(rows)
    assert study.bouts() == [
        ("pen1", "ewe", "bleat", 4.0, 4.0, "point"),
        ("pen1", "ewe", "graze", 1.25, 3.5, "state"),
        ("pen1", "ewe", "lie; down", 5.0, 6.0, "state"),
    ]
    assert not study.run()["problems"]


def test_aggregated_header_of_813_and_of_713(study: Study) -> None:
    columns = BORIS_AGGREGATED.split(",")
    cells = aggregated_row("graze", "1.000", "2.000").split(",")
    old = [c for c in columns if c != "Time offset (s)"]
    values = [v for c, v in zip(columns, cells, strict=True) if c != "Time offset (s)"]
    study.annotate("v813.csv", ",".join(old).replace("Coding duration", "Total duration"), ",".join(values))
    study.annotate(
        "v713.tsv",
        "Observation id\tObservation date\tDescription\tMedia file\tTotal length\tFPS\tage\tSubject\tBehavior\tBehavioral category\t"
        "Modifiers\tBehavior type\tStart (s)\tStop (s)\tDuration (s)\tComment start\tComment stop",
        "obs\t2016-12-01 23:01:31\t\tpen3.mp4\t30.0\t25.0\t3\tNo focal subject\twalk\t\t\tSTATE\t1.800\t8.125\t6.325\t\t",
    )
    assert [b[:5] for b in study.bouts()] == [("pen1", "ewe", "graze", 1.0, 2.0), ("pen3", "ewe", "walk", 1.8, 8.125)]
    assert not study.run()["problems"]


def test_independent_variables_do_no_harm_even_with_names_of_columns(study: Study) -> None:
    header = BORIS_AGGREGATED.replace("Subject,", "Subject,Behavior,age (d);sex,Subject,", 1)
    cells = aggregated_row("graze", "1.000", "2.000").split(",")
    cells[9:9] = ["from another farm", "sunny", "12"]
    study.annotate("agg.csv", header, ",".join(cells))
    assert study.bouts() == [("pen1", "ewe", "graze", 1.0, 2.0, "state")]


@pytest.mark.parametrize(
    ("source", "lengths", "expected"),
    [
        ("player #1:a.mp4", "10.000", [[("a.mp4", 10.0)]]),
        ("player #1:C:\\x\\a.mp4;C:\\x\\b.mp4", "10.000;20.500", [[("C:\\x\\a.mp4", 10.0), ("C:\\x\\b.mp4", 20.5)]]),
        ("player #1:a;b|player #2:c", "1.0;2.0|3.0", [[("a", 1.0), ("b", 2.0)], [("c", 3.0)]]),
        ("player #1:we;ird.mp4", "7.000", [[("we;ird.mp4", 7.0)]]),
        ("player #1:pi|pe.mp4", "7.000", [[("pi|pe.mp4", 7.0)]]),
        ("player #1: a.mp4", "NA", [[("a.mp4", None)]]),
        ("a.mp4;b.mp4", "", [[("a.mp4", None), ("b.mp4", None)]]),
        ("player #1:a;b", "1.0;2.0;3.0", [[("a", None), ("b", None)]]),
        ("NA", "NA", []),
        ("", "", []),
    ],
)
def test_source(source: str, lengths: str, expected: list[list[tuple[str, float | None]]]) -> None:
    assert boris.players(source, lengths) == expected


@pytest.mark.parametrize("fill_in", [True, False])
def test_files_of_one_player_follow_each_other(study: Study, fill_in: bool) -> None:
    lengths = THREE_LENGTHS if fill_in else "NA"  # without written durations those of the videos count
    given = {"source": THREE, "durations": lengths, "coded": "210.000", "subject": "ewe"}
    study.annotate(
        "obs.csv",
        BORIS_AGGREGATED,
        aggregated_row("graze", "10.000", "20.000", **given),
        aggregated_row("graze", "70.500", "80.000", **given),
        aggregated_row("graze", "185.000", "186.000", **given),
        aggregated_row("walk", "50.000", "200.000", **given),  # spans all three
        aggregated_row("lie", "60.000", "180.000", **given),  # exactly the second
        aggregated_row("bleat", "180.000", "180.000", kind="POINT", **given),
    )
    assert study.bouts() == [
        ("pen1", "ewe", "graze", 10.0, 20.0, "state"),
        ("pen1", "ewe", "walk", 50.0, 60.0, "state"),
        ("pen2", "ewe", "graze", 10.5, 20.0, "state"),
        ("pen2", "ewe", "lie", 0.0, 120.0, "state"),
        ("pen2", "ewe", "walk", 0.0, 120.0, "state"),
        ("pen3", "ewe", "bleat", 0.0, 0.0, "point"),
        ("pen3", "ewe", "graze", 5.0, 6.0, "state"),
        ("pen3", "ewe", "walk", 0.0, 20.0, "state"),
    ]
    assert not study.run()["problems"]
    labels = study.labels()
    assert labels.videos == ("pen1", "pen2", "pen3")
    assert (labels.dense("pen2", "ram", [1.0]) == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40_000), min_size=1, max_size=4),
    where=st.lists(st.integers(0, 160_000), min_size=2, max_size=2, unique=True),
    offset=st.integers(0, 10**6),
)
def test_split_bouts_keep_their_total_and_their_frames(lengths: list[int], where: list[int], offset: int) -> None:
    """Milliseconds in, milliseconds out: the pieces cover the bout, each lies in its file, none is lost at a border."""
    edges = [sum(lengths[:k]) for k in range(len(lengths))]
    start, stop = sorted(where)
    media = tuple(
        boris.Medium(f"{k}", None, edge / 1000, float("inf") if k + 1 == len(lengths) else (edge + lengths[k]) / 1000)
        for k, edge in enumerate(edges)
    )
    seen = boris.Observation("o", 2, media, offset / 1000, None, None)
    pieces = seen.pieces((start + offset) / 1000, (stop + offset) / 1000, "state")
    total = 0
    for medium, a, b in pieces:
        k = int(medium.path)
        assert -1e-6 <= a < b and (k + 1 == len(lengths) or b <= lengths[k] / 1000 + 1e-6)
        assert edges[k] / 1000 + a == pytest.approx(max(start, edges[k]) / 1000, abs=1e-6)
        total += round((b - a) * 1000)
    assert abs(total - (stop - start)) <= 2 * (len(lengths) - 1)  # slivers of up to 2 ms at a border are dropped


def test_time_offset_is_part_of_boris_times(study: Study) -> None:
    study.annotate(
        "obs.csv", BORIS_TABULAR, *[tabular_row("graze", s, t, offset="3600.0") for s, t in (("START", 3605), ("STOP", 3610))]
    )
    assert study.bouts() == [("pen1", "ewe", "graze", 5.0, 10.0, "state")]


def test_files_are_matched_by_stem_else_by_observation(study: Study) -> None:
    for name in ("cam1/day.mp4", "cam2/day.mp4"):
        (study.folder / name).parent.mkdir()
        (study.folder / name).write_bytes(name.encode())
        study.lengths["morning" if "1" in name else "evening"] = 60.0
    with (study.folder / "videos.csv").open("a") as handle:
        handle.write("morning,cam1/day.mp4,ewe\nevening,cam2/day.mp4,ewe\n")
    rows = [
        aggregated_row("graze", 1, 2, source="player #1:/Volumes/x/PEN3.avi"),
        aggregated_row("graze", 1, 2, source="player #1:E:\\x\\Cam2\\day.mp4", observation="o2"),
        aggregated_row("graze", 1, 2, source="NA", observation="pen1", durations="NA", coded="1.0"),
        aggregated_row("graze", 1, 2, source="player #1:live.mp4", observation="pen2", subject="ram"),
        aggregated_row("graze", 1, 2, source="player #1:day.mp4", observation="o3"),
        aggregated_row("graze", 1, 2, source="player #1:pen7.mp4", observation="o4"),
        aggregated_row("graze", 3, 4, source="player #1:pen7.mp4", observation="o4"),
    ]
    study.annotate("agg.csv", BORIS_AGGREGATED, *rows)
    assert [b[0] for b in study.bouts()] == ["pen1", "pen2", "pen3", "evening"]
    first, second = study.run()["problems"]
    assert first["row"] == 6 and "could be any of the videos 'morning', 'evening'" in first["problem"]
    assert second["row"] == 7 and "'pen7.mp4' of observation 'o4' is not a video" in second["problem"]
    assert "did you mean pen" in second["remedy"]


def test_a_file_of_an_observation_that_is_not_in_the_project(study: Study) -> None:
    given = {"source": "player #1:pen1.mp4;gone.mp4;pen3.mp4", "durations": THREE_LENGTHS, "coded": "210.000"}
    study.annotate("agg.csv", BORIS_AGGREGATED, *[aggregated_row("graze", a, a + 5, **given) for a in (10, 100, 110, 185)])
    assert [b[:5] for b in study.bouts()] == [("pen1", "ewe", "graze", 10.0, 15.0), ("pen3", "ewe", "graze", 5.0, 10.0)]
    (problem,) = study.problems()
    assert problem.startswith("annotations/agg.csv:3: 'gone.mp4' of observation 'obs'") and problem.endswith("(also in row 4)")


def test_files_after_one_of_unknown_length_cannot_be_placed(study: Study) -> None:
    given = {"source": "player #1:gone.mp4;pen3.mp4", "durations": "NA", "coded": "210.000"}
    study.annotate("agg.csv", BORIS_AGGREGATED, aggregated_row("graze", 70, 75, **given))
    (problem,) = study.problems()
    assert "the duration of 'gone.mp4' is not written" in problem


def test_a_second_player_gets_no_labels_but_a_note(study: Study) -> None:
    source = "player #1:pen1.mp4|player #2:pen3.mp4"
    study.annotate("agg.csv", BORIS_AGGREGATED, aggregated_row("graze", 1, 2, source=source, durations="60.000|30.000"))
    assert [b[0] for b in study.bouts()] == ["pen1"]
    assert "player #2 gets no labels" in study.run()["notes"][0]["problem"]
    study.annotate(
        "agg.csv",
        BORIS_AGGREGATED,
        aggregated_row("graze", 1, 2, source="player #1:top.mp4|player #2:pen3.mp4", durations="60.0|30.0"),
    )
    assert [b[0] for b in study.bouts()] == ["pen3"] and not study.run()["notes"]


def test_the_stamp_follows_the_videos_of_an_export(study: Study) -> None:
    given = {"source": THREE, "durations": THREE_LENGTHS, "coded": "210.000", "subject": "ewe"}
    study.annotate("agg.csv", BORIS_AGGREGATED, aggregated_row("graze", 1, 2, **given))
    study.run()
    assert annotations.artefact(study.project).complete()
    (study.folder / "pen3.mp4").write_bytes(b"another recording")
    assert not annotations.artefact(study.project).complete()


def test_what_was_coded_decides_what_is_observed(study: Study) -> None:
    bouts = [("graze", 10, 20), ("walk", 30, 40)]
    whole = [aggregated_row(b, start, stop, coded="60.000") for b, start, stop in bouts]
    study.annotate("agg.csv", BORIS_AGGREGATED, *whole)
    times = [5.0, 15.0, 25.0, 35.0, 45.0]
    assert study.labels().dense("pen1", "ewe", times).tolist() == [[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]]
    # BORIS's default interval, "Observed events": coded is the time from the first to the last event.
    study.annotate("agg.csv", BORIS_AGGREGATED, *[row.replace("0.0,60.000", "0.0,30.000") for row in whole])
    assert study.labels().dense("pen1", "ewe", times).tolist() == [[-1, -1], [1, 0], [0, 0], [0, 1], [-1, -1]]
    (note,) = study.run()["notes"]
    assert "10.000 to 40.000 s of 60.000 s" in note["problem"] and "Media file(s) duration" in note["remedy"]
    study.annotate("observed.csv", "video", "pen1")
    assert study.labels().dense("pen1", "ewe", times).tolist() == [[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]]


def test_events_at_the_ends_of_what_was_coded_are_labelled(study: Study) -> None:
    rows = [aggregated_row("bleat", t, t, kind="POINT", coded="20.000") for t in (10.02, 30.02)]
    study.annotate("agg.csv", BORIS_AGGREGATED, *rows)
    dense = study.labels().dense("pen1", "ewe", [9.0, 10.0, 20.0, 30.0, 31.0], [1.0, 10.0, 10.0, 1.0, 1.0])
    assert dense[:, 0].tolist() == [-1, 1, 0, 1, -1]
    study.annotate("agg.csv", BORIS_AGGREGATED, rows[0].replace(",20.000,", ",0.000,"))
    assert study.labels().dense("pen1", "ewe", [9.0, 10.0, 20.0])[:, 0].tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (tabular_row("graze", "START", "NA"), "time 'NA' is not a time"),
        (tabular_row("graze", "BEGIN", "1"), "behavior type 'BEGIN' is none of START, STOP, POINT"),
        (tabular_row("graze", "POINT", "1") + ",,x", "20 cells, but the header has 18"),
        (tabular_row("graze", "POINT", "1").rsplit(",", 6)[0], "12 cells, but the header has 18"),
        (tabular_row("graze", "POINT", "1", offset="soon"), "time offset 'soon' is not a time"),
        (tabular_row("graze", "POINT", "5", offset="10.0"), "start -5 s is before the first frame"),
        (tabular_row("graze", "POINT", "1714550400.5"), "is behind the end of video 'pen1'"),
        (tabular_row("", "POINT", "1"), "no behaviour is named"),
        (tabular_row("graze", "POINT", "1", subject="goat"), "subject 'goat' is not in video 'pen1'"),
        (tabular_row("graze", "POINT", "1", source="player #1:pen2.mp4"), "no subject is named, and video 'pen2' has several"),
    ],
)
def test_bad_tabular_rows(study: Study, row: str, problem: str) -> None:
    study.annotate(
        "bad.csv", BORIS_TABULAR, row, tabular_row("walk", "POINT", "1", source="player #1:pen3.mp4", observation="o")
    )
    (found,) = study.run()["problems"]
    assert problem in found["problem"] and found["remedy"]
    assert (found["file"], found["row"]) == ("annotations/bad.csv", 2)
    assert [b[:3] for b in study.bouts()] == [("pen3", "ewe", "walk")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (aggregated_row("graze", "NA", "NA"), "start 'NA' is not a time"),
        (aggregated_row("graze", "1", ""), "stop '' is not a time"),
        (aggregated_row("graze", "1", "2", kind="START"), "behavior type 'START' is neither STATE nor POINT"),
        (aggregated_row("graze", "5", "2"), "stop 2 s is before start 5 s"),
        (aggregated_row("graze", "5", "99"), "stop 99 s is behind the end"),
    ],
)
def test_bad_aggregated_rows(study: Study, row: str, problem: str) -> None:
    study.annotate("bad.csv", BORIS_AGGREGATED, row, aggregated_row("walk", 1, 2, source="player #1:pen3.mp4", observation="o"))
    (found,) = study.run()["problems"]
    assert problem in found["problem"] and (found["file"], found["row"]) == ("annotations/bad.csv", 2)
    assert [b[:3] for b in study.bouts()] == [("pen3", "ewe", "walk")]


# --- predictions out ------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["graze", "walk, slow", 'say "no"', "liegen – seitlich", "x;y"])
MILLISECONDS = st.integers(0, 59_000)


@st.composite
def predicted(draw: st.DrawFn) -> pd.DataFrame:
    """Bouts of schema.BOUTS on the millisecond grid; those of one behaviour and subject do not overlap."""
    rows = []
    for video, subject in (("pen1", "ewe"), ("pen2", "ewe"), ("pen2", "ram")):
        for behaviour in draw(st.lists(NAMES, unique=True, max_size=3)):
            limits = sorted(draw(st.lists(MILLISECONDS, unique=True, max_size=8)))
            rows += [
                (video, subject, behaviour, a / 1000, b / 1000, 0.75) for a, b in zip(limits[::2], limits[1::2], strict=False)
            ]
    rows = draw(st.permutations(rows))
    return pd.DataFrame(rows, columns=["video", "subject", "behaviour", "start", "stop", "probability"])


def _read_back(path: Path, project: Project) -> list[tuple[str, str, str, float, float]]:
    reading = annotations.read_file(path, project, tables.Videos.of(project), lambda video: 120.0)
    assert not reading.problems and not reading.notes
    return sorted((e.video.name, e.subject, e.behaviour, e.start, e.stop) for e in reading.entries)


def _sorted(bouts: pd.DataFrame) -> list[tuple[str, str, str, float, float]]:
    return sorted(bouts[["video", "subject", "behaviour", "start", "stop"]].itertuples(index=False, name=None))


@settings(max_examples=40, deadline=None)
@given(bouts=predicted())
def test_exports_read_back_as_they_were_and_export_the_same_again(bouts: pd.DataFrame, frozen_project: Project) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for write, name in (
            (lambda path, b: export_boris_aggregated(path, b, frozen_project, media=lambda video: (120.0, 25.0)), "boris.csv"),
            (export_csv, "plain.csv"),
        ):
            path = Path(folder) / name
            write(path, bouts)
            back = _read_back(path, frozen_project)
            assert back == _sorted(bouts)
            again = pd.DataFrame(back, columns=["video", "subject", "behaviour", "start", "stop"])
            write(Path(folder) / "one.csv", again)
            once = pd.DataFrame(_read_back(Path(folder) / "one.csv", frozen_project), columns=again.columns)
            write(Path(folder) / "two.csv", once)
            assert (Path(folder) / "one.csv").read_bytes() == (Path(folder) / "two.csv").read_bytes()
            if name == "boris.csv":  # the order of its rows is its own
                assert (Path(folder) / "one.csv").read_bytes() == path.read_bytes()


def test_the_boris_export_is_what_boris_writes(study: Study) -> None:
    bouts = pd.DataFrame(
        [
            ("pen2", "ram", "graze", 10.0006, 12.5, 0.5),
            ("pen2", "ewe", "walk", 3.0, 4.25, 0.5),
            ("pen2", "ewe", "graze", 3.5, 5.0, 0.5),
        ],
        columns=["video", "subject", "behaviour", "start", "stop", "probability"],
    )
    path = study.folder / "out" / "boris.csv"
    export_boris_aggregated(path, bouts, study.project, media=lambda video: (120.0, 24.9876), description="predicted")
    text = path.read_bytes().decode()
    assert text.endswith("\r\n") and text.count("\n") == text.count("\r\n") == 4
    rows = list(csv.reader(text.splitlines()))
    assert ",".join(rows[0]) == BORIS_AGGREGATED and tuple(rows[0]) == HEADER
    head = ["pen2", "", "predicted", "Media file", "player #1:pen2.mp4", "0.0", "120.000", "120.000", "24.988"]
    tail = ["pen2.mp4", "NA", "NA", "", "", "", ""]
    assert rows[1:] == [
        [*head, "ewe", "2.75", "walk", "Not defined", "STATE", "3.000", "4.250", "1.250", *tail],
        [*head, "ewe", "2.75", "graze", "Not defined", "STATE", "3.500", "5.000", "1.500", *tail],
        [*head, "ram", "2.499", "graze", "Not defined", "STATE", "10.001", "12.500", "2.499", *tail],
    ]


def test_labels_survive_the_way_out_and_in(study: Study) -> None:
    study.annotate(
        "a.csv", "video,subject,behaviour,start,stop", "pen1,ewe,graze,1.5,10", "pen2,ram,bleat,5,", "pen2,ewe,graze,1,2"
    )
    before, labels = study.bouts(), study.labels()
    for name, write in (
        (
            "b.csv",
            lambda path: export_boris_aggregated(path, labels.intervals, study.project, media=lambda video: (120.0, 25.0)),
        ),
        ("c.csv", lambda path: export_csv(path, labels.intervals)),
    ):
        for old in (study.folder / "annotations").iterdir():
            old.unlink()
        write(study.folder / "annotations" / name)
        assert study.bouts() == before
        assert not study.run()["problems"] and not study.run()["notes"]


def test_an_export_of_a_video_that_is_not_in_the_project(study: Study) -> None:
    bouts = pd.DataFrame([("pen4", "ewe", "graze", 1.0, 2.0)], columns=["video", "subject", "behaviour", "start", "stop"])
    with pytest.raises(FoveateError, match="there is no video 'pen4'"):
        export_boris_aggregated(study.folder / "x.csv", bouts, study.project, media=lambda video: (1.0, 1.0))
    assert not (study.folder / "x.csv").exists()
