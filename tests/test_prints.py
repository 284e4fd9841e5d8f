"""Figures and tables as files, and the text for a methods section: the same numbers as on the page, the same bytes every time."""

from __future__ import annotations

import hashlib
import re
import shutil
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from foveate import report
from foveate.project import Project
from foveate.report import prints, sources
from foveate.report.ethograms import Timed
from tests import fake_project


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = fake_project.make(tmp_path_factory.mktemp("prints") / "a study", videos=6, annotated=2, test=1)
    fake_project.finish(project, test=True)
    report.run(project)
    return project


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_figure_is_there_as_svg_and_pdf(study: Project) -> None:
    figures = study.folder / "report" / "figures"
    for name in ("ethograms", "time_budgets", "recognition", "tracks", "calibration"):
        svg = (figures / f"{name}.svg").read_text(encoding="utf-8")
        assert svg.startswith("<?xml") and svg.rstrip().endswith("</svg>")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_same_inputs_same_files(study: Project, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "report")
    report.run(Project.load(tmp_path / "again"))
    assert hashes(tmp_path / "again" / "report") == hashes(study.folder / "report")


def test_tables_hold_what_the_stages_found(study: Project) -> None:
    tables = study.folder / "report" / "tables"
    made = sources.collect(study, "default").get("probe", "default")
    assert (tables / "probe_scores.csv").read_bytes() == made.path("scores.csv").read_bytes()
    budgets = pd.read_csv(tables / "time_budgets.csv")
    per_video = [pd.read_csv(path) for path in (study.folder / "predictions" / "default").rglob("budget.csv")]
    wanted = pd.concat(per_video).groupby(["subject", "behaviour"])["seconds"].sum()
    found = budgets.set_index(["subject", "behaviour"])["seconds"]
    pd.testing.assert_series_equal(found.sort_index(), wanted.sort_index(), rtol=1e-5)
    tracks = pd.read_csv(tables / "tracks.csv")
    assert set(tracks["video"]) == {video.name for video in study.videos} and tracks["share_seen"].between(0, 1).all()


def test_a_damaged_file_is_named_and_the_others_are_copied(study: Project, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "study")
    project = Project.load(tmp_path / "study")
    figure = next((project.folder / "comparison").rglob("figure.pdf"))
    figure.write_bytes(bytes(figure.stat().st_size))  # which the page does not show
    shutil.rmtree(project.folder / "report")
    made = report.run(project)
    assert any(problem["file"] and problem["file"].endswith("figure.pdf") for problem in made.facts()["problems"])
    assert (project.folder / "report" / "tables" / "compare_tests.csv").exists()


def test_the_methods_text_has_the_numbers_of_this_study(study: Project) -> None:
    text = (study.folder / "report" / "methods.txt").read_text(encoding="utf-8")
    assert text.startswith("6 videos of 6 animals") and "One frame every 0.5 s was analysed" in text
    scores = pd.read_csv(next((study.folder / "probes" / "default").rglob("scores.csv")))
    one = scores[(scores["split"] == "cv") & (scores["view"] == "*") & (scores["behaviour"] == "lying")]["f1"].iloc[0]
    assert f"lying {one:.2f}" in text
    page = (study.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<blockquote>") == len(text.strip().split("\n\n"))


def test_colours_are_those_of_the_page() -> None:
    css = (resources.files("foveate.report") / "style.css").read_text(encoding="utf-8")
    light = css[: css.index("prefers-color-scheme: dark")]
    assert tuple(re.findall(r"--b\d: (#[0-9a-f]{6})", light)) == prints.COLOURS


def test_recordings_are_spread_over_pages(tmp_path: Path) -> None:
    bouts = {"walks": [(0.0, 5.0), (7.0, 7.001)]}
    drawn = [Timed(f"video {k}", "ewe", 10.0, bouts if k % 2 else None, bouts, [(5.0, 6.0)]) for k in range(40)]
    prints._ethograms(tmp_path, drawn, {"walks": 0, "lies": 1})
    pages = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert len(pages) > 1 and pages[0] == "ethograms_001.svg" and (tmp_path / "ethograms.pdf").exists()
    together = "".join((tmp_path / name).read_text() for name in pages)
    assert all(together.count(f"<!-- video {k}, ewe -->") == 1 for k in range(40))
