"""Starting a project: footage is found and only read, nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.init import init
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import Config
from foveate.video import VideoWriter


@pytest.fixture
def films(tmp_path: Path) -> Path:
    import numpy as np

    folder = tmp_path / "my films ü"
    for name in ("cam 1/day.mp4", "cam2/day.mp4", "Énorme.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(folder / name, 64, 48) as writer:
            for i in range(3):
                writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    (folder / "broken.mp4").write_bytes(b"not a film")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.mp4").write_bytes(b"")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    return folder


def test_footage_is_found(films: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in films.rglob("*")}
    made = init(tmp_path / "study", films)
    project = Project.load(tmp_path / "study")
    assert {v.name for v in project.videos} == {"cam 1_day", "cam2_day", "Énorme", "broken"}
    assert all(v.path.exists() for v in project.videos)
    assert [Path(p).name for p, _ in made.unreadable] == ["broken.mp4"]
    assert before == {p: p.stat().st_mtime_ns for p in films.rglob("*")}
    assert project.config == Config(name="study", footage=project.config.footage)


def test_linked_and_read_only_footage(films: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(films, target_is_directory=True)
    films.chmod(0o555)
    try:
        assert init(tmp_path / "study", tmp_path / "link").videos == 4
    finally:
        films.chmod(0o755)


def test_an_existing_project_stays(films: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "videos.csv").write_text("video,path\nmine,a.mp4\n")
    assert "videos.csv" not in init(tmp_path / "study", films).written
    with pytest.raises(FoveateError, match="a project is here already"):
        init(tmp_path / "study", films)
    assert (tmp_path / "study" / "videos.csv").read_text() == "video,path\nmine,a.mp4\n"


def test_no_footage(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no such folder"):
        init(tmp_path / "study", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FoveateError, match="no video files"):
        init(tmp_path / "study", tmp_path / "empty")
    assert not (tmp_path / "study").exists()


def test_sheep_is_the_published_set_up(tmp_path: Path) -> None:
    init(tmp_path / "sheep", template="sheep")
    project = Project.load(tmp_path / "sheep")
    views = project.config.views
    assert [(v.x, v.y, v.w, v.h) for v in views.values()] == [(0, 0, 960, 540), (0, 540, 960, 540)]
    assert len(project.config.behaviours) == 10 and project.config.analyse.every == 10
    assert [v.split for v in project.videos] == ["train"] * 9 + ["test"] * 3
    assert {v.group for v in project.videos} == {"control", "treatment"} == set(project.config.compare.groups or ())
