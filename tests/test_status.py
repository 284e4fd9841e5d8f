"""What stands in the way: the problems of the last run, as long as they hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foveate import annotations, console, store
from foveate.cli import main
from foveate.project import Project
from foveate.run import Status, run, status
from foveate.store import stamp_of
from tests import fake_project, probed
from tests.videos import sound_only


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two good videos, and one that is empty, one of sound only, one cut off and one that is not there."""
    folder = tmp_path / "my study ü"
    fake_project.make(folder, videos=2, annotated=2, groups=())
    footage = folder / "footage"
    (footage / "empty.mp4").write_bytes(b"")
    sound_only(footage / "sound.mp4")
    good = (footage / "v0.mp4").read_bytes()
    (footage / "cut.mp4").write_bytes(good[: len(good) // 2])
    with (folder / "videos.csv").open("a") as handle:
        for name in ("empty", "sound", "cut", "missing"):
            handle.write(f"{name},{name}.mp4,,,animal\n")
    return folder


def timelines(folder: Path, *videos: str) -> Status:
    project = Project.load(folder)
    run(project, until="timeline", videos=videos, workers=1)
    return status(project)


def test_what_failed_says_why(study: Path) -> None:
    assert status(Project.load(study)).videos["empty"]["timeline"] == "to do"
    outcome = run(Project.load(study), until="timeline", workers=1)
    found = status(Project.load(study))
    states = {name: stages["timeline"] for name, stages in found.videos.items()}
    bad = {"empty": "failed", "sound": "failed", "cut": "failed", "missing": "cannot"}
    assert states == {"v0": "done", "v1": "done", **bad}
    assert {f.item: str(f.error) for f in outcome.failures} == {name: str(found.of_video(name)[0]) for name in bad}
    for name in bad:
        (error,) = found.of_video(name)  # once, although the following stages cannot go on either
        assert error.remedy and name in str(error.file)
    assert not found.of_video("v0")


def test_a_problem_holds_until_it_is_solved(study: Path) -> None:
    assert timelines(study).videos["empty"]["timeline"] == "failed"
    assert timelines(study, "v0").videos["empty"]["timeline"] == "failed"  # a run that did not come to it
    (study / "footage" / "empty.mp4").write_bytes((study / "footage" / "v1.mp4").read_bytes())
    found = status(Project.load(study))
    assert found.videos["empty"]["timeline"] != "failed" and not found.of_video("empty")
    found = timelines(study)
    assert found.videos["empty"]["timeline"] == "done" and found.videos["sound"]["timeline"] == "failed"
    log = json.loads((study / "logs" / "run.log.json").read_text())
    assert {entry["item"] for entry in log["failures"]} == {"sound", "cut", "missing"} and not log["earlier"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"failures": 3}', '{"failures": [{"stage": "timeline", "problem": "old"}]}'])
def test_a_log_that_cannot_be_read_is_no_log(study: Path, text: str) -> None:
    timelines(study)
    (study / "logs" / "run.log.json").write_text(text)
    assert status(Project.load(study)).videos["v0"]["timeline"] == "done"
    assert timelines(study).videos["empty"]["timeline"] == "failed"


def test_a_click_outside_the_picture(tmp_path: Path) -> None:
    settings = {"track": {"model": "handcrafted"}}
    project = fake_project.make(tmp_path / "study", videos=1, annotated=0, settings=settings)
    table = project.folder / "prompts" / "prompts.csv"
    table.parent.mkdir()
    table.write_text("video,view,subject,frame,kind,x,y\nv0,full,animal 0,0,point,5000,10\n")
    run(project, until="track", workers=1)
    found = status(project)
    assert found.videos["v0"]["track"] == "failed"
    (error,) = found.of_video("v0")
    assert error.row == 2 and str(error.file).endswith("prompts.csv") and error.remedy
    table.write_text("video,view,subject,frame,kind,x,y\nv0,full,animal 0,0,point,50,10\n")
    assert status(project).videos["v0"]["track"] != "failed"


def test_json_carries_every_problem(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timelines(study)
    assert main(["status", "-p", str(study), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = {row["video"]: row for row in said["videos"]}
    assert "empty.mp4" in rows["empty"]["problem"] and rows["v0"]["problem"] == ""
    problems = {problem["item"]: problem for problem in said["problems"]}
    assert set(problems) == {"empty", "sound", "cut", "missing"}
    assert set(problems["cut"]) == {"stage", "item", "problem", "file", "row", "remedy"}
    assert main(["status", "-p", str(study), "--json", "--video", "v0"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["video"] for row in said["videos"]] == ["v0"] and said["problems"] == []
    assert main(["status", "-p", str(study), "--video", "v00"]) == 1


def test_rejected_rows_are_counted(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (study / "annotations" / "labels.csv").open("a") as handle:
        handle.write("nobody,animal 0,lying,0,1\nv0,animal 0,lying,3,2\n")
    project = Project.load(study)
    annotations.run(project)
    found = status(project)
    assert found.whole["labels"] == "done" and len(found.of_whole("labels")) == 2
    main(["status", "-p", str(study)])
    assert "2 rows rejected" in capsys.readouterr().out


def test_a_stage_that_cannot_run_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"compare": {"groups": ["control", "treatmnt"]}}
    project = fake_project.make(tmp_path / "study", videos=2, annotated=2, settings=settings)
    annotations.run(project)
    found = status(project)
    assert found.whole["compare"] == "cannot"
    (error,) = found.of_whole("compare")
    assert "treatmnt" in error.problem and error.remedy
    main(["status", "-p", str(project.folder)])
    said = capsys.readouterr()
    assert "treatmnt" in said.out and error.remedy in " ".join(said.err.split())


def test_what_will_follow_is_shown_before_the_annotations_are_read(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project.load(study)
    before = status(project)
    assert before.whole["labels"] == before.whole["probe"] == "to do" and before.videos["v0"]["predict"] == "to do"
    annotations.run(project)
    with (study / "annotations" / "labels.csv").open("a") as handle:
        handle.write("v0,animal 0,lying,0,1\n")
    after = status(Project.load(study))
    assert (after.whole["labels"], after.whole["probe"]) == ("outdated", "to do") and not after.of_whole("probe")
    for file in (study / "annotations").iterdir():
        file.unlink()
    assert "probe" not in status(Project.load(study)).whole  # nobody annotated: there will be none


def test_a_comparison_that_waits_for_predictions_is_no_problem(tmp_path: Path) -> None:
    project = fake_project.make(tmp_path / "study", videos=4, annotated=2)
    annotations.run(project)
    found = status(project)
    assert found.whole["compare"] == "to do" and not found.of_whole("compare")


def test_a_wrong_model_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"embed": {"model": "img-fokus"}}
    project = fake_project.make(tmp_path / "study", videos=4, annotated=2, settings=settings)
    annotations.run(project)
    assert all(stages["embed"] == "cannot" for stages in status(project).videos.values())
    main(["status", "-p", str(project.folder)])
    said = capsys.readouterr().err
    assert said.count("there is no model 'img-fokus'") == 1 and "embed · 4 videos" in said


def test_nothing_heavy_is_imported(study: Path) -> None:
    annotations.run(Project.load(study))
    timelines(study)
    code = (
        "import sys; from foveate.cli import main; main(['status', '-p', sys.argv[1]]);"
        "heavy = {'torch', 'transformers', 'matplotlib', 'sklearn', 'scipy', 'pandas', 'av'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(study)], check=True, capture_output=True)


def test_a_run_counts_what_worked(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The missing video is found out before the work begins, so it is none of the five."""
    run(Project.load(study), until="timeline", workers=1, show=console.show)
    said = capsys.readouterr().err
    assert said.startswith("!") and " 2 of 5 items in " in said


def test_the_work_of_status_grows_with_the_videos_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    for videos in (6, 24):
        project = probed.make(
            tmp_path / str(videos), [[f"animal {k}"] for k in range(videos)], groups=["a", "b"] * (videos // 2)
        )
        count = 0

        def counted(*args: Any) -> str:
            nonlocal count
            count += 1
            return stamp_of(*args)

        monkeypatch.setattr(store, "stamp_of", counted)
        found = status(project)
        assert len(found.videos) == videos
        asked.append(count)
    assert asked[1] < 5 * asked[0]
