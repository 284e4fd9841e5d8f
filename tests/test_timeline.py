"""Stage timeline, the choice of analysed frames, views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import timeline
from foveate.project import Project, Video
from foveate.schema import TIMELINE, FoveateError
from foveate.settings import AnalyseSettings, Config, View
from foveate.video import Timeline
from tests.videos import make_video, numbered


def project_of(folder: Path, path: Path, **config: object) -> tuple[Project, Video]:
    clip = Video(name="clip", path=path, row=2, subjects=("sheep",))
    return Project(folder, Config(**config), (clip,), {}), clip  # type: ignore[arg-type]


def analysed_of(monkeypatch: pytest.MonkeyPatch, time: list[float], duration: float, **rule: float) -> timeline.Analysed:
    stamps = np.array(time)
    clock = Timeline(np.arange(len(stamps)), stamps, np.ones(len(stamps), bool), 8, 8, 0, False, duration, "h264")
    monkeypatch.setattr(timeline, "load", lambda project, video: clock)
    clip = Video(name="clip", path=Path("clip.mp4"), row=2)
    return timeline.analysed(Project(Path(), Config(analyse=AnalyseSettings(**rule)), (clip,), {}), clip)  # type: ignore[arg-type]


def test_the_stage(tmp_path: Path) -> None:
    pts = [7000, 7040, 7200, 7240, 8000]
    path = make_video(tmp_path / "footage" / "clip.mp4", numbered(5), pts=pts)
    project, clip = project_of(tmp_path / "study", path)
    seen: list[tuple[int, int]] = []
    done = timeline.run(project, clip, lambda done, total: seen.append((done, total)))
    assert done.complete() and seen[-1] == (5, 5)
    table = done.table("timeline.parquet")
    assert table.schema.equals(TIMELINE)
    np.testing.assert_allclose(table["time"].to_numpy(), (np.array(pts) - 7000) / 1000, atol=1e-3)
    facts = done.facts()
    assert (facts["width"], facts["height"], facts["frames"], facts["rotation"], facts["codec"]) == (64, 48, 5, 0, "h264")
    loaded = timeline.load(project, clip)
    assert loaded.pts.tolist() == table["pts"].to_pylist() and loaded.damaged_after is None
    before = done.path("stamp.json").stat().st_mtime_ns
    assert timeline.run(project, clip).complete()
    assert done.path("stamp.json").stat().st_mtime_ns == before, "a finished timeline was made again"


def test_same_bytes(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", numbered(30))
    results = []
    for name in ("one", "two"):
        project, clip = project_of(tmp_path / name, path)
        folder = timeline.run(project, clip).folder
        results.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert results[0] == results[1] and len(results[0]) == 2


def test_changed_footage_is_noticed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", numbered(5))
    project, clip = project_of(tmp_path, path)
    timeline.run(project, clip)
    make_video(path, numbered(9))
    with pytest.raises(FoveateError, match="out of date"):
        timeline.load(project, clip)
    assert len(timeline.load(project, clip) if timeline.run(project, clip) else ()) == 9


def test_a_missing_file_names_its_row(tmp_path: Path) -> None:
    project, clip = project_of(tmp_path, tmp_path / "gone.mp4")
    with pytest.raises(FoveateError, match=r"gone\.mp4: .*videos\.csv, row 2") as caught:
        timeline.run(project, clip)
    assert caught.value.remedy


def test_step_takes_the_frame_on_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    # On screen at 0, .5, 1, 1.5, 2: frames 0, 1 (0.5 exactly), 2 (since 0.9), 2 still, 3.
    chosen = analysed_of(monkeypatch, [0.0, 0.5, 0.9, 1.9], 2.4, step=0.5)
    assert chosen.frame.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(chosen.duration, [0.5, 0.4, 1.0, 0.5])
    # A rate at which k * step is not a float: 29.97 per second, step 1001/30000 * 3.
    times = [i * 1001 / 30000 for i in range(90)]
    chosen = analysed_of(monkeypatch, times, 90 * 1001 / 30000, step=3 * 1001 / 30000)
    assert chosen.frame.tolist() == list(range(0, 90, 3))


def test_no_instant_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert analysed_of(monkeypatch, [0.0, 0.5], 1.0, step=0.5).frame.tolist() == [0, 1]
    assert analysed_of(monkeypatch, [0.0], 0.04, step=0.5).frame.tolist() == [0]
    assert analysed_of(monkeypatch, [0.0], 0.0, step=0.5).frame.tolist() == [0]


def test_every(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = analysed_of(monkeypatch, [0.0, 0.1, 0.3, 0.35, 0.5, 0.9], 1.0, every=2)
    assert chosen.frame.tolist() == [0, 2, 4]
    np.testing.assert_allclose(chosen.duration, [0.3, 0.2, 0.5])


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(0.005, 3), min_size=0, max_size=50),
    last=st.floats(0.005, 1),
    rule=st.one_of(st.fixed_dictionaries({"step": st.floats(0.02, 5)}), st.fixed_dictionaries({"every": st.integers(1, 20)})),
)
def test_durations_add_up_to_the_video(gaps: list[float], last: float, rule: dict[str, float]) -> None:
    times = np.concatenate([[0.0], np.cumsum(gaps)]).tolist()
    with pytest.MonkeyPatch.context() as patch:
        chosen = analysed_of(patch, times, times[-1] + last, **rule)
    assert chosen.frame[0] == 0 and (np.diff(chosen.frame) > 0).all()
    assert chosen.duration.min() > 0
    assert chosen.duration.sum() == pytest.approx(times[-1] + last)


def test_views(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", numbered(3, 48, 64))
    project, clip = project_of(tmp_path, path)
    timeline.run(project, clip)
    assert timeline.views(project, clip) == {"full": View(x=0, y=0, w=64, h=48)}
    two = {"top": View(x=0, y=0, w=64, h=24), "bottom": View(x=0, y=24, w=64, h=24)}
    project, clip = project_of(tmp_path, path, views=two)
    assert timeline.views(project, clip) == two
    project, clip = project_of(tmp_path, path, views={"beside": View(x=1, y=0, w=64, h=48)})
    with pytest.raises(FoveateError, match=r"foveate\.yaml.*beside.*64 x 48"):
        timeline.views(project, clip)
