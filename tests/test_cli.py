"""The command line itself: pipes and tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from foveate import cli, console, groups, printed
from foveate.spreadsheet import read_csv
from foveate.store import write_text
from tests import fake_project


@pytest.mark.skipif(not hasattr(os, "fork"), reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [["status", "--json"], ["status"], ["--help"], ["--version"]])
@pytest.mark.parametrize(("both", "buffered"), [(False, True), (True, True), (False, False)])
def test_a_reader_that_leaves_is_no_error(tmp_path: Path, arguments: list[str], both: bool, buffered: bool) -> None:
    project = fake_project.make(tmp_path / "study", videos=1, annotated=0)
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` after its last line
    command = [sys.executable, "-m", "foveate", *arguments]
    stderr = writer if both else subprocess.PIPE
    done = subprocess.run(command, cwd=project.folder, env=environment, stdout=writer, stderr=stderr, text=True)
    os.close(writer)
    assert done.returncode == 141
    assert both or done.stderr == ""


def test_another_broken_pipe_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_dispatch", lost)
    with pytest.raises(BrokenPipeError):
        cli.main(["status"])


def test_scores_fit_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    behaviours = ("standing", "turning_right", "head_up")
    settings = {"baselines": {"whole_picture": {"window": 1}}}
    project = fake_project.make(tmp_path / "study", videos=1, behaviours=behaviours, settings=settings)
    scores = fake_project.score_files(behaviours, test=True, luck=0.7)["scores.csv"]
    assert max(len(line) for line in scores.splitlines()) > 80
    for name in ("default", "whole_picture"):
        write_text(project.folder / "probes" / name / "scores.csv", scores)
    monkeypatch.setattr(console, "out", Console(width=80, highlight=False))
    printed.scores(project.folder)
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()) <= 80
    for name in ("default", "whole_picture"):
        assert f"probe {name}, on the test videos" in said and f"probes/{name}/scores.csv" in said
    first = next(line.split() for line in scores.splitlines() if line.startswith("cv,*,standing"))[0].split(",")
    row = next(line for line in said.splitlines() if line.startswith("standing"))
    f1, low, high, precision = (f"{float(cell):.3f}" for cell in (*first[4:7], first[9]))
    assert f"{f1}  {low} to {high}" in row and precision in row and f"{first[15]} of {first[14]}" in row
    assert "too rare to score" in said and "mean" in said


def test_the_comparison_fits_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = fake_project.make(tmp_path / "study", videos=12, annotated=2)
    printed.tests(project.folder)  # nothing is compared yet: nothing is said
    fake_project.finish(project)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(console, "out", Console(width=80, highlight=False))
    printed.tests(project.folder)
    said = capsys.readouterr().out
    tests = read_csv(groups.artefact(project).checked("tests.csv"), ())
    row = next(cells for _, cells in tests if cells["behaviour"] == "eating")
    line = next(line for line in said.splitlines() if line.startswith("eating"))
    assert f"{float(row['median_1']) * 100:.1f} / {float(row['median_2']) * 100:.1f}" in line and line.rstrip().endswith("*")
    assert f"{float(row['effect_low']):.2f} to {float(row['effect_high']):.2f}" in line
    assert "Mann-Whitney U test: control (5 animals) / treatment (5 animals)" in said
    assert "the smallest p that 5 against 5 animals can reach" in said and "comparison/default" in said


@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_a_study_without_annotation_runs_to_a_report_and_cannot_be_probed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    fake_project.make(folder, videos=1, annotated=0, groups=(), settings={"track": {"method": "motion"}, "crop": {"size": 64}})
    assert cli.main(["run", "-p", str(folder), "--workers", "1"]) == 0
    assert (folder / "report" / "index.html").exists()
    assert "put files of BORIS" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["probe", "-p", str(folder), "--workers", "1"]) == 1
    assert "there are no annotation files" in " ".join(capsys.readouterr().err.split())
