"""What the report says of tracks: marks, times not seen, curves, doubtful frames, questions; from rows and events alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import report
from foveate.project import Project
from foveate.report import absences, doubts, traces
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.store import Artefact
from foveate.track.events import Event, Kind
from tests import fake_project
from tests.eventful import between, event, happened
from tests.test_report import Page, made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos that nobody annotated; the first was lost at 4 s, not in the picture from 8 to 10 s, and doubtful at 12 s."""
    project = fake_project.make(tmp_path_factory.mktemp("tracks") / "study", videos=2, annotated=0, groups=())
    fake_project.finish(project)
    video = project.videos[0]
    found = [
        event(project, video, Kind.DRIFT, 4, note="area jump", score=0.2),
        event(project, video, Kind.PROPOSAL, 6, note="after 2.0 s", score=0.8),
        event(project, video, Kind.ABSENT, 8, 9.5),
        event(project, video, Kind.RETURN, 10),
        event(project, video, Kind.CUT, 15, subject=""),
        event(project, video, Kind.ASK, 13, 14, note="something like it"),
    ]

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = between(between(between(table, 4, 6, "lost"), 8, 10, "absent"), 13, 14.5, "lost")
        return between(table, 12, 12.5, "uncertain")

    happened(project, video, change, found)
    return project.folder


@pytest.fixture(scope="module")
def told(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Artefact]:
    """Its page, and the report."""
    project = Project.load(shutil.copytree(finished, tmp_path_factory.mktemp("told") / "study"))
    return made(project), report.artefact(project)


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Project:
    return Project.load(shutil.copytree(finished, tmp_path / "study"))


def test_the_page_tells_what_happened(told: tuple[Page, Artefact]) -> None:
    found = told[0]
    text = found.text("tracks")
    assert "0:04 lost (area jump, 0.20); 0:06 found again in the whole view (after 2.0 s, 0.80)" in text
    assert "foveate track --prompt v0:130:X,Y" in text and "foveate track --prompt v0:130:absent" in text
    assert "uncertain 3 %, lost 22 %, absent 12 %" in text
    titles = [span["title"] for span in found.all("span") if span.get("class") == "mark"]
    assert [str(title).split(" ")[0] for title in titles] == ["0:04", "0:06", "0:08", "0:10", "0:13", "0:15"]
    signs = {str(use["href"])[1:] for use in found.all("use")}
    assert signs == {"sign-lost", "sign-found", "sign-gone", "sign-cut", "sign-ask"}
    assert signs <= {symbol["id"] for symbol in found.all("symbol")}
    (picture,) = [one for one in found.all("div") if one.get("class") == "click"]
    assert (picture["data-width"], picture["data-height"]) == (str(fake_project.WIDTH), str(fake_project.HEIGHT))
    doubtful = [image["alt"] for image in found.all("img") if "certainty" in str(image["alt"])]
    assert doubtful[0] == "Doubtful: v0 at 0:12, certainty 0.40"


def test_the_tables_hold_all_of_it(told: tuple[Page, Artefact]) -> None:
    target = told[1]
    tables = {
        name: [cells for _, cells in read_csv(target.path("tables") / f"{name}.csv", ())]
        for name in ("tracks", "unseen", "track_events", "least_certain", "questions")
    }
    first = tables["tracks"][0]
    assert [float(first[f"share_{s}"]) for s in ("lost", "absent", "uncertain")] == [7 / 32, 4 / 32, 1 / 32]
    assert sum(float(value) for name, value in first.items() if name.startswith("share_") and name != "share_seen") == 1
    times = [(row["state"], float(row["start"]), float(row["stop"]), row["outcome"]) for row in tables["unseen"]]
    assert times[:3] == [
        ("lost", 4, 6, "seen again at 0:06"),
        ("absent", 8, 10, "seen again at 0:10"),
        ("lost", 13, 14.5, "seen again at 0:14, a click is needed"),
    ]
    assert [row["kind"] for row in tables["track_events"]] == ["drift", "proposal", "absent", "return", "ask", "cut"]
    assert float(tables["least_certain"][0]["certainty"]) == pytest.approx(0.4)
    (asked,) = tables["questions"]
    assert (asked["video"], asked["frame"], asked["answer"]) == ("v0", "130", "foveate track --prompt v0:130:X,Y")


def test_a_study_of_many_videos_shows_a_bounded_number(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds there is a remark instead."""
    monkeypatch.setattr("foveate.report.track_quality.UNSEEN", 2)
    monkeypatch.setattr("foveate.report.track_quality.ANIMALS", 1)
    monkeypatch.setattr(doubts, "DOUBTS", 1)
    text = made(study).text("tracks")
    assert "the 2 longest of 4, all are in tables/unseen.csv" in text and "the 1 seen least of 2" in text


def test_damaged_events_are_told_and_stop_nothing(study: Project) -> None:
    path = study.folder / "tracks" / "v0" / "events.csv"
    path.write_bytes(b"x" * path.stat().st_size)
    text = made(study).text("tracks")
    assert "this file is damaged" in text and "v1" in text


def random_events(draw: st.DrawFn) -> list[Event]:
    times = draw(st.lists(st.floats(0, 3600), max_size=200))
    kinds = draw(st.lists(st.sampled_from(list(Kind)), min_size=len(times), max_size=len(times)))
    return sorted(Event(int(t), "full", "a", kind, t, int(t), t) for t, kind in zip(times, kinds, strict=True))


@given(st.composite(random_events)())
def test_marks_are_few_and_miss_nothing(found: list[Event]) -> None:
    marks = absences.marks(found, 3600)
    assert len(marks) <= len(absences.KEY) * 112
    assert [mark.percent for mark in marks] == sorted(mark.percent for mark in marks)
    for one in found:
        sign = absences.SIGNS.get(one.kind)
        near = [mark for mark in marks if mark.sign == sign and -1e-9 <= 100 * one.time / 3600 - mark.percent <= 0.9 + 1e-9]
        assert (sign is None) or near
    assert {mark.sign for mark in marks} == {absences.SIGNS[e.kind] for e in found if e.kind in absences.SIGNS}


def test_a_view_that_was_never_asked_for_has_no_absences() -> None:
    start = np.arange(4.0)
    never = absences.unseen(("v", "", "full", "a"), np.array(["absent"] * 4, object), start, np.ones(4), [])
    lost = absences.unseen(("v", "", "full", "a"), np.array(["lost"] * 4, object), start, np.ones(4), [])
    assert never == [] and [(one.start, one.stop, one.outcome) for one in lost] == [(0, 4, "until the end")]


def rows(states: list[str], x: list[float] | None = None, area: list[int] | None = None, score: float = 0.9) -> pd.DataFrame:
    count = len(states)
    seen = np.isin(states, ["tracked", "uncertain", "prompted"])
    table = pd.DataFrame({"frame": range(count), "time": np.arange(count) * 0.5, "state": states, "score": score})
    table["x"] = np.where(seen, x or [0.0] * count, np.nan)
    table["y"], table["w"], table["h"] = (np.where(seen, value, np.nan) for value in (0.0, 40.0, 20.0))
    table["area"] = np.where(seen, area or [500] * count, 0)
    table["identity_score"] = np.nan
    return table


def test_speed_is_in_body_lengths() -> None:
    table = rows(["tracked"] * 3 + ["lost"] + ["tracked"] * 2, [0, 40, 60, 0, 60, 60])
    found = traces.speed(table, table["state"].eq("tracked").to_numpy())
    np.testing.assert_allclose(found, [np.nan, 2, 1, np.nan, np.nan, 0])


def test_certainty_is_the_lower_of_both() -> None:
    table = rows(["tracked", "tracked", "lost"]).assign(identity_score=[0.3, np.nan, np.nan])
    np.testing.assert_allclose(traces.certainty(table, np.array([True, True, False])), [0.3, 0.9, np.nan])


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["tracked", "lost", "uncertain"]), min_size=1, max_size=400),
    st.integers(0, 2**31),
)
def test_curves_are_bounded_and_stay_inside(states: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rows(states, rng.uniform(0, 500, len(states)).tolist(), rng.integers(1, 90_000, len(states)).tolist())
    found = traces.traces(table, len(states) * 0.5)
    assert bool(found) == any(state != "lost" for state in states)
    for trace in found:
        points = [tuple(map(float, point)) for point in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", trace.line)]
        assert 1 <= len(points) <= traces.BINS
        assert all(0 <= x <= 1000 and 0 <= y <= traces.HEIGHT for x, y in points)
        assert trace.described.startswith(trace.name)


def test_the_doubtful_frames() -> None:
    """Those of low certainty and those whose area jumps; a little apart; prompted frames never."""
    area = [500] * 60
    area[30] = 4000
    table = rows(["prompted"] + ["tracked"] * 59, area=area)
    table.loc[[0, 10, 11], "score"] = [0.01, 0.2, 0.1]
    found = doubts.of_subject(("v", "full", "a"), table, 0, 30.0)
    assert [doubt.frame for doubt in found[:2]] == [11, 30]
    assert found[0].why == "certainty 0.10" and "area × 8.0" in found[1].why
    assert all(abs(a.time - b.time) > 1.5 for a in found for b in found if a is not b)


def test_doubts_of_many_videos_are_shared_out() -> None:
    def of(video: str, count: int, score: float) -> list[doubts.Doubt]:
        return doubts.of_subject((video, "full", "a"), rows(["uncertain"] * count, score=score), 0, count * 0.5)

    worst = [*of("bad", 90, 0.1), *of("bad", 80, 0.1)]
    others = [of(f"v{k}", 40, 0.5) for k in range(3)]
    chosen = doubts.choose([worst, *others])
    assert len(chosen) == doubts.DOUBTS and [doubt.video for doubt in chosen].count("bad") == doubts.OF_A_VIDEO
    assert [doubt.video for doubt in doubts.choose([worst])] == ["bad"] * 6


def test_a_question_without_footage_is_told(study: Project) -> None:
    asked = doubts.Asked(next(iter(_questions(study))))
    (study.folder / "footage" / "v0.mp4").write_bytes(b"")
    with pytest.raises(FoveateError):
        doubts.picture_questions(study, [asked])


def _questions(study: Project) -> list[doubts.Question]:
    from foveate import track
    from foveate.track.questions import questions

    return questions(study, study.videos[0], track.artefact(study, study.videos[0]))
