"""Independent variables of BORIS, in every kind of file it writes, are covariates of the videos."""

from __future__ import annotations

import json
from pathlib import Path

from foveate import annotations
from foveate.annotations import boris
from foveate.groups.design import covariates as wanted
from tests.annotated import BORIS_AGGREGATED, BORIS_TABULAR, Study, aggregated_row, tabular_row

VARIABLES = {"weather": "rain", "age in days": "41"}


def study(folder: Path, **config: object) -> Study:
    return Study(folder, {"pen1": (60.0, "ewe"), "pen2": (60.0, "ewe")}, **config)


def with_variables(header: str, rows: list[str], values: dict[str, str] = VARIABLES) -> list[str]:
    """Columns where BORIS puts them: before Subject."""
    at = header.split(",").index("Subject")

    def insert(line: str, cells: list[str]) -> str:
        parts = line.split(",")
        return ",".join([*parts[:at], *cells, *parts[at:]])

    return [insert(header, [name.title() for name in values]), *(insert(row, list(values.values())) for row in rows)]


def test_tabular(tmp_path: Path) -> None:
    made = study(tmp_path)
    rows = [tabular_row("walk", "START", 1, subject="ewe"), tabular_row("walk", "STOP", 4, subject="ewe")]
    made.annotate("a.csv", *with_variables(BORIS_TABULAR, rows))
    facts = made.run()
    assert facts["covariates"] == {"pen1": VARIABLES} and not facts["problems"]


def test_aggregated(tmp_path: Path) -> None:
    made = study(tmp_path)
    made.annotate("a.csv", *with_variables(BORIS_AGGREGATED, [aggregated_row("walk", 1, 4, subject="ewe")]))
    assert made.run()["covariates"] == {"pen1": VARIABLES}


def test_legacy_whose_variables_are_called_as_columns_are(tmp_path: Path) -> None:
    made = study(tmp_path)
    made.annotate(
        "a.csv",
        *("Observation id,obs", "", "Media file(s)", "", "Player #1,pen1.mp4", "", "Time offset (s),0", ""),
        *("independent variables", "variable,value", "Weather,rain", "time,noon", "", ""),
        "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status",
        "1,pen1.mp4,60,25,ewe,walk,,,START",
        "4,pen1.mp4,60,25,ewe,walk,,,STOP",
    )
    facts = made.run()
    assert facts["covariates"] == {"pen1": {"weather": "rain", "time": "noon"}} and facts["bouts"] == 1


def test_project_of_two_media(tmp_path: Path) -> None:
    made = study(tmp_path)
    observation = {
        "type": "MEDIA",
        "file": {"1": ["pen1.mp4", "pen2.mp4"]},
        "media_info": {"length": {"pen1.mp4": 60.0, "pen2.mp4": 60.0}, "fps": {}},
        "time offset": 0,
        "events": [[1, "ewe", "walk", "", "", 25], [4, "ewe", "walk", "", "", 100]],
        "independent_variables": {"Weather": "rain", "empty": "", "Age": 41},
    }
    project = {"behaviors_conf": {"0": {"code": "walk", "type": "State event"}}, "observations": {"obs": observation}}
    made.annotate("a.boris", json.dumps(project))
    told = {"weather": "rain", "age": "41"}
    assert made.run()["covariates"] == {"pen1": told, "pen2": told}


def test_two_files_that_differ_are_told_of(tmp_path: Path) -> None:
    made = study(tmp_path)
    for name, weather in (("a.csv", "rain"), ("b.csv", "sun")):
        row = aggregated_row("walk", 1, 4, subject="ewe", observation=name)
        made.annotate(name, *with_variables(BORIS_AGGREGATED, [row], {"weather": weather, "age": "3"}))
    facts = made.run()
    assert facts["covariates"] == {"pen1": {"age": "3"}}
    (note,) = [n for n in facts["notes"] if "weather" in n["problem"]]
    assert "'sun' here and 'rain' in a.csv" in note["problem"] and note["row"] == 2


def test_a_comparison_finds_them_and_the_project_s_own_tables_go_before(tmp_path: Path) -> None:
    made = study(tmp_path, compare={"covariates": ["weather", "age"]})
    made.annotate("a.csv", *with_variables(BORIS_AGGREGATED, [aggregated_row("walk", 1, 4)], {"weather": "rain", "age": "3"}))
    (tmp_path / "videos.csv").write_text("video,path,subjects,age\npen1,pen1.mp4,ewe,5\npen2,pen2.mp4,ewe,\n")
    made.run()
    project = made.project
    assert wanted(project, project.video("pen1"), "ewe") == {"weather": "rain", "age": "5"}
    assert wanted(project, project.video("pen2"), "ewe") == {"weather": "", "age": ""}
    assert annotations.covariates(project) == {"pen1": {"weather": "rain", "age": "3"}}


def test_no_column_of_boris_is_taken_for_a_variable() -> None:
    names = {name.lower() for header in (BORIS_TABULAR, BORIS_AGGREGATED) for name in header.split(",")}
    assert names <= boris.OWN
