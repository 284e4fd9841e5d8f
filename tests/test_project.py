"""Reading a project folder: every complaint names file, row and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.project import Project, load_config
from foveate.schema import PROJECT_FORMAT, FoveateError
from foveate.settings import Config

VIDEOS = "video,path,session,split,group,subjects,weight\n"


def write(folder: Path, config: str = "foveate: 1\n", videos: str = VIDEOS, subjects: str = "") -> Path:
    (folder / "foveate.yaml").write_text(config, encoding="utf-8")
    (folder / "videos.csv").write_text(videos, encoding="utf-8")
    if subjects:
        (folder / "subjects.csv").write_text(subjects, encoding="utf-8")
    return folder


def test_a_project_is_read(tmp_path: Path) -> None:
    project = Project.load(
        write(
            tmp_path,
            "name: Schafe ü\nfootage: film\nanalyse: {every: 10}\n",
            VIDEOS + "v1,a b/é.mp4,s1,train,control,ann;bob,12\n\nv2,/abs/x.mp4,,,,,\n",
            "subject,age\nann,3\nbob,4\nv2,1\n",
        )
    )
    first, second = project.videos
    assert first.path == tmp_path / "film" / "a b/é.mp4" and second.path == Path("/abs/x.mp4")
    assert first.subjects == ("ann", "bob") and second.subjects == ("v2",)
    assert first.covariates == {"weight": "12"} and project.subjects["bob"] == {"age": "4"} and second.row == 4


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, separator: str) -> None:
    write(tmp_path)
    text = "\ufeffvideo,path\r\nv1,a.mp4\r\n".replace(",", separator)
    (tmp_path / "videos.csv").write_bytes(text.encode())
    assert Project.load(tmp_path).videos[0].name == "v1"


@pytest.mark.parametrize(
    ("config", "row", "text"),
    [
        ("name: [\n", 2, "not valid YAML"),
        ("- a\n", 1, "key: value"),
        (f"foveate: {PROJECT_FORMAT + 1}\n", 1, "install a newer foveate"),
        ("name: a\ntrack:\n  methd: motion\n", 3, "did you mean 'method'?"),
        ("name: a\nbaselines:\n  short: {windo: 1}\n", 3, "did you mean 'window'?"),
        ("name: a\ntrack:\n  method: magic\n", 3, "propagate"),
        ("probe: {window: 6}\n", 1, "odd"),
        ("analyse: {step: 1, every: 2}\n", 1, "either"),
        ("views:\n  top: {x: -1, y: 0, w: 5, h: 5}\n", 2, "greater than or equal to 0"),
        ('views:\n  "*": {x: 0, y: 0, w: 5, h: 5}\n', None, "cannot"),
        ("baselines:\n  other: {window: 2}\n", 2, "odd"),
    ],
)
def test_a_wrong_setting_names_its_line(tmp_path: Path, config: str, row: int | None, text: str) -> None:
    with pytest.raises(FoveateError) as caught:
        load_config(write(tmp_path, config) / "foveate.yaml")
    assert text in str(caught.value)
    if row is not None:
        assert caught.value.row == row and caught.value.file == tmp_path / "foveate.yaml"


@pytest.mark.parametrize(
    ("videos", "subjects", "row", "text"),
    [
        ("video,path\nv1,a.mp4\nv2,b.mp4\nv3,a.mp4\n", "", 4, "keep one row for a file"),
        ("", "", 1, "empty"),
        ("video,file\n", "", 1, "column 'path' is missing"),
        ("video,path,path\n", "", 1, "twice"),
        ("video,path\nv1,a.mp4\nv1,b.mp4\n", "", 3, "first in row 2"),
        ("video,path\nv/1,a.mp4\n", "", 2, "file name"),
        ("video,path\n.v,a.mp4\n", "", 2, "file name"),
        ("video,path\nv1,\n", "", 2, "path is empty"),
        ("video,path\nv1,a.mp4,extra\n", "", 2, "3 cells"),
        ("video,path,split\nv1,a.mp4,tset\n", "", 2, "train, test"),
        ("video,path,subjects\nv1,a.mp4,ann;cid\n", "subject\nann\n", 2, "not in subjects.csv"),
        ("video,path,subjects\nv1,a.mp4,ann;ann\n", "", 2, "twice"),
        ("video,path\nv1,a.mp4\n", "subject\nann\nann\n", 3, "twice"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, videos: str, subjects: str, row: int, text: str) -> None:
    with pytest.raises(FoveateError) as caught:
        Project.load(write(tmp_path, videos=videos, subjects=subjects))
    assert caught.value.row == row and text in str(caught.value) and caught.value.remedy


def test_no_project_here(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="foveate init"):
        Project.load(tmp_path)
    with pytest.raises(FoveateError, match="did you mean"):
        Project.load(write(tmp_path, videos="video,path\nsheep_1,a.mp4\n")).video("sheep1")


def test_baselines_inherit_from_the_probe() -> None:
    config = Config.model_validate({"probe": {"window": 5, "balance": True}, "baselines": {"one": {"window": 1}}})
    assert config.probes["one"].window == 1 and config.probes["one"].balance and config.probes["default"].window == 5
