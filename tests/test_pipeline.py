"""From footage to report in miniature: every stage, resume, what changes redo, and what bad input does to the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from foveate.cli import main
from foveate.project import Project
from foveate.run import STAGES, run, status
from foveate.schema import FoveateError
from foveate.store import read_parquet
from tests.pipeline import contents, make_study
from tests.videos import sound_only

pytestmark = pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("study") / "my study ü")
    outcome = run(Project.load(folder), workers=1)
    assert outcome.ok, [str(f.error) for f in outcome.failures]
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_every_stage_leaves_its_artefact(finished: Path) -> None:
    found = status(Project.load(finished))
    assert all(state == "done" for stages in found.videos.values() for state in stages.values())
    assert all(state == "done" for state in found.whole.values()) and not found.problems
    assert {s for stages in found.videos.values() for s in stages} | {name.split()[0] for name in found.whole} >= set(STAGES)


def test_predictions_cover_every_analysed_frame(finished: Path) -> None:
    from foveate import timeline

    project = Project.load(finished)
    for video in project.videos:
        table = read_parquet(finished / "predictions" / "default" / video.name / "predictions.parquet").to_pandas()
        frames = timeline.analysed(project, video)
        for view in ("top", "bottom", "*"):
            rows = table[table["view"] == view]
            assert rows["frame"].tolist() == frames.frame.tolist()
            assert rows["duration"].sum() == pytest.approx(timeline.load(project, video).duration)


def test_nothing_to_do_the_second_time(finished: Path) -> None:
    before = contents(finished)
    outcome = run(Project.load(finished), workers=1)
    assert outcome.ok and not outcome.done and contents(finished) == before


def test_two_workers_leave_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", source=finished)
    assert run(Project.load(folder), workers=2).ok
    theirs, ours = contents(finished), contents(folder)
    differing = {name for name in theirs | ours if theirs.get(name) != ours.get(name) and not name.startswith("truth/")}
    assert not differing


def test_a_changed_setting_redoes_what_depends_on_it(copy: Path) -> None:
    settings = yaml.safe_load((copy / "foveate.yaml").read_text())
    settings["probe"]["window"] = 5
    (copy / "foveate.yaml").write_text(yaml.safe_dump(settings))
    outcome = run(Project.load(copy), workers=1)
    assert outcome.ok and {d.stage for d in outcome.done} == {"probe", "predict", "compare", "report"}


def test_footage_that_is_away_for_a_while_costs_nothing(copy: Path) -> None:
    before = contents(copy)
    (copy / "footage").rename(copy / "unplugged")
    with pytest.raises(FoveateError, match="none of the 8 videos can be found"):
        run(Project.load(copy), workers=1)
    (copy / "unplugged").rename(copy / "footage")
    assert contents(copy) == before
    outcome = run(Project.load(copy), workers=1)
    assert outcome.ok and not outcome.done


def test_command_line_says_what_is_wrong(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-p", str(copy), "--json", "--workers", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == []
    (copy / "annotations" / "more.csv").write_text(
        "video,subject,behaviour,start,stop\nnobody,sheep_01,lying,0,1\npen_01,wolf,lying,0,1\npen_01,sheep_01,lying,3,2\n"
    )
    assert main(["run", "-p", str(copy), "--workers", "1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    for row in ("row 2", "row 3", "row 4"):
        assert row in said
    assert "more.csv" in said and "nobody" in said and "wolf" in said
    assert main(["status", "-p", str(copy)]) == 0
    assert main(["track", "-p", str(copy), "--video", "pen_99"]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert main(["run", "-p", str(copy / "nowhere")]) == 1
    assert "foveate init" in capsys.readouterr().err


def test_bad_videos_do_not_stop_the_others(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(tmp_path / "study", source=finished)
    footage = folder / "footage"
    good = (footage / "pen_05.mp4").read_bytes()
    (footage / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (footage / "empty.mp4").write_bytes(b"")
    sound_only(footage / "sound.mp4")
    with (folder / "videos.csv").open("a") as handle:
        for name in ("truncated", "empty", "sound", "missing"):
            handle.write(f"{name},{name}.mp4,,,control,sheep_05\n")
    assert main(["run", "-p", str(folder), "--workers", "2"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    for name, row in (("truncated", 10), ("empty", 11), ("sound", 12), ("missing", 13)):
        assert f"{name}.mp4" in said and f"row {row}" in said
    for i in range(1, 9):
        assert (folder / "predictions" / "default" / f"pen_{i:02}" / "predictions.parquet").exists()
    assert (folder / "report" / "index.html").exists()


def test_a_damaged_artefact_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = next((copy / "embeddings").glob("handcrafted*/pen_01/part-00000.arrow"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 255
    part.write_bytes(bytes(data))
    settings = yaml.safe_load((copy / "foveate.yaml").read_text())
    settings["probe"]["window"] = 5  # so that somebody reads it again
    (copy / "foveate.yaml").write_text(yaml.safe_dump(settings))
    assert main(["run", "-p", str(copy), "--workers", "1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "part-00000.arrow" in said and "damaged" in said and "foveate run" in said
    shutil.rmtree(part.parent)  # the remedy
    assert main(["run", "-p", str(copy), "--workers", "1"]) == 0


def test_two_runs_at_once_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open(copy / ".foveate.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert main(["run", "-p", str(copy)]) == 1
    assert "another foveate" in capsys.readouterr().err


def test_export_and_status_as_json(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "out.csv"), "--to", "csv", "-p", str(finished)]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("video,subject,behaviour,start,stop")
    assert main(["export", str(tmp_path / "boris.csv"), "-p", str(finished)]) == 0
    assert "Behavior type" in (tmp_path / "boris.csv").read_text()
    capsys.readouterr()
    assert main(["status", "-p", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["project"]["report"] == "done"


def test_the_published_probe_on_request(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It embeds changed pictures of annotated videos only, trains itself alone, and leaves everything else as it was."""
    before = contents(copy)
    assert main(["probe", "-p", str(copy), "--recipe", "paper", "--windows", "1", "3", "--workers", "1"]) == 0
    after = contents(copy)
    new = {name for name in after if name not in before}
    assert {name: after[name] for name in before} == before
    made = {tuple(name.split("/")[:1] if name.startswith("embeddings") else name.split("/")[:2]) for name in new}
    assert made == {("embeddings",), ("probes", "paper"), ("probes", "paper-windows")}
    annotated = {"/".join(name.split("/")[2:3]) for name in new if name.startswith("embeddings")}
    project = Project.load(copy)
    assert annotated == {video.name for video in project.videos if video.split}
    assert "frames split at random" in capsys.readouterr().out
    assert main(["probe", "-p", str(copy), "--recipe", "paper", "--windows", "1", "3", "--workers", "1"]) == 0
    assert contents(copy) == after
    assert main(["probe", "-p", str(copy), "--windows", "1"]) == 1  # belongs to the published probe


def test_the_published_probe_as_a_baseline(copy: Path) -> None:
    settings = yaml.safe_load((copy / "foveate.yaml").read_text())
    settings["baselines"] = {"paper": {"recipe": "paper", "augment": "none"}, "changed": {"recipe": "paper", "copies": 1}}
    settings["baselines"]["again"] = {"recipe": "paper", "copies": 1, "window": 1}
    (copy / "foveate.yaml").write_text(yaml.safe_dump(settings))
    outcome = run(Project.load(copy), until="probe", workers=1)
    assert outcome.ok, [str(f.error) for f in outcome.failures]
    assert sorted(d.item for d in outcome.done if d.stage == "probe") == ["again", "changed", "paper"]
    assert len([d for d in outcome.done if d.stage == "embed"]) == 4  # one set of copies serves two probes
    found = status(Project.load(copy))
    assert all(stages.get("embed (changed)", "done") == "done" for stages in found.videos.values())
