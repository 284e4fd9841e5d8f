"""Cuts, holes in time and pictures that show nothing: tracks, crops and windows end there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from foveate import crops, timeline, track
from foveate.actions.windows import unbroken
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import TrackSettings, View
from foveate.simulate import PastureSettings, simulate
from foveate.track import events
from foveate.track.events import Kind
from foveate.track.scene import Scene
from foveate.track.shots import EDGES, LEAST, UNLIKE, USUAL, Shots, dropped, edges_stay, likeness, look
from foveate.video import read_frames, read_timeline
from tests.tracked import HEIGHT, WIDTH, animal, make_project, picture, rows, tracked
from tests.videos import make_video

Picture = NDArray[np.uint8]
VIEW = View(x=0, y=0, w=WIDTH, h=HEIGHT)
pytestmark = pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")


def barn(frame: int) -> Picture:
    """Another place, with the same animal in it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    wall = (
        np.stack([90 + 60 * (x // 30 % 2), 60 + 50 * (y // 35 % 2), 50 + x // 4], axis=-1)
        + (80 * ((x - y) // 40 % 2))[..., None]
    )
    seen = picture(frame)
    return np.where(animal(frame)[..., None], seen, wall).astype(np.uint8)


def shots(times: NDArray[np.float64] | None = None, step: float = 0.5, **values: object) -> Shots:
    times = np.arange(200) * step if times is None else times
    return Shots("full", VIEW, TrackSettings.model_validate(values), times, step, np.empty(0, np.int64))


def cuts(of: Shots, pictures: dict[int, Picture]) -> list[int]:
    for frame, shown in pictures.items():
        seen = of.look(shown)
        if seen.dropped:
            of.drop(frame, seen)
        else:
            of.cuts(frame, seen)
    return [event.frame for event in of.events if event.kind == Kind.CUT]


# --- one view, frame by frame -----------------------------------------------------------------------------------------------------


def test_a_cut_is_seen_in_its_frame_and_from_both_sides() -> None:
    film = {k: picture(k) if k < 8 or k >= 15 else barn(k) for k in range(25)}
    assert cuts(shots(), film) == [8, 15]
    assert sorted(cuts(shots(), dict(reversed(film.items())))) == [8, 15]
    assert cuts(shots(cuts="none"), film) == []


def test_likeness_does_not_depend_on_the_order() -> None:
    one, other = look(picture(3), VIEW, "none"), look(barn(40), VIEW, "none")
    for measure in (likeness, edges_stay):
        assert measure(one, other) == pytest.approx(measure(other, one), abs=1e-6)
        assert measure(one, one) > 0.9 > 0.6 > measure(one, other)


def test_what_is_no_cut() -> None:
    """A lamp, a camera that is hit, and an animal right before the lens."""
    here, dark = picture(5), np.clip(picture(6) * 0.3, 0, 255).astype(np.uint8)
    grey = (
        (255 - picture(6).astype(int).mean(axis=-1, keepdims=True)).repeat(3, -1).astype(np.uint8)
    )  # as infrared turns things
    moved = np.roll(picture(6), (6, 14), (0, 1))
    close = picture(6)
    close[:, : WIDTH // 2] = (40, 30, 25)
    for other in (dark, grey, moved, close):
        assert cuts(shots(), {0: here, 1: here, 2: other, 3: other}) == []


def test_a_shaky_camera_lowers_the_bar() -> None:
    """The same change is a cut for a camera that stood still, and none for one whose pictures are never much alike."""
    here, there = picture(5), barn(40)
    for share in range(WIDTH // 2, WIDTH):
        half = here.copy()
        half[:, :share] = there[:, :share]
        pair = look(here, VIEW, "none"), look(half, VIEW, "none")
        if LEAST < likeness(*pair) < UNLIKE and edges_stay(*pair) < EDGES:
            break
    else:
        raise AssertionError("no such picture")
    for usual, seen in ((1.1, [1]), (0.62, [])):
        of = shots()
        of.usual.extend([usual] * USUAL)
        assert cuts(of, {0: here, 1: half}) == seen


def test_a_hole_in_time_is_a_cut_and_a_wide_step_is_none() -> None:
    times = np.concatenate([np.arange(10) * 0.5, 60 + np.arange(10) * 0.5])
    of = shots(times)
    assert cuts(of, {k: picture(k) for k in range(20)}) == [10]
    assert of.events[0].note == "55.5 s without a picture" and of.events[0].time == 60
    assert cuts(shots(np.arange(20) * 10.0, step=10.0), {k: picture(k) for k in range(20)}) == []
    assert (
        cuts(shots(np.concatenate([np.arange(10) * 0.5, 6.4 + np.arange(10) * 0.5])), {k: picture(k) for k in range(20)}) == []
    )


def test_where_it_is_stopped_makes_no_difference() -> None:
    film = {k: picture(k) if k // 6 % 2 else barn(k) for k in range(30)}
    whole = shots()
    cuts(whole, film)
    for stop in (6, 7, 20):
        first, second = shots(), shots()
        cuts(first, {k: v for k, v in film.items() if k < stop})
        second.restore({key: value.clone() for key, value in first.state().items()})
        cuts(second, {k: v for k, v in film.items() if k >= stop})
        assert first.take() + second.take() == whole.events


def test_glued_takes_of_davis(footage: Path) -> None:
    """Real pictures, eight a second: animals and cameras that move are no cuts, and the seams are."""
    takes = []
    for name in ("blackswan", "dance-jump", "hike", "blackswan", "mallard-fly"):  # the half that settings may be chosen on
        files = sorted((footage / "davis2016" / "JPEGImages" / "480p" / name).glob("*.jpg"))[:30:3]
        takes.append([np.asarray(Image.open(file).convert("RGB")) for file in files])
    film = [shown for take in takes for shown in take]
    of = Shots("full", View(x=0, y=0, w=854, h=480), TrackSettings(), np.arange(50) / 8, 1 / 8, np.empty(0, np.int64))
    assert cuts(of, dict(enumerate(film))) == [10, 20, 30, 40]


def test_glued_pasture(tmp_path: Path) -> None:
    """Two clips of different pens, in which animals walk before a camera that stands still."""
    tiny = PastureSettings(seed=4, annotated=1, unannotated=1, test=0, seconds=20, fps=2, width=160, height=90, step=0.5)
    simulate(tmp_path, tiny)
    film = []
    for video in Project.load(tmp_path).videos:
        clock = read_timeline(video.path)
        film.append(list(read_frames(video.path, clock, clock.frame[:12])))
    for name, y in (("top", 0), ("bottom", 90)):
        view = View(x=0, y=y, w=160, h=90)
        of = Shots(name, view, TrackSettings(), np.arange(24) / 2, 0.5, np.empty(0, np.int64))
        assert cuts(of, dict(enumerate(film[0] + film[1]))) == [12]


# --- frames that are left out -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2), st.integers(0, 255))
@settings(deadline=None, max_examples=60)
def test_the_published_filter_is_exact(low: int, high: int, channel: int, one: int) -> None:
    low, high = min(low, high), max(low, high)
    shown = np.full((6, 7, 3), low, np.uint8)
    shown[2, 3] = high
    shown[4, 5, channel] = one
    black = all(shown[..., c].max() < 200 for c in range(3))
    washed = all(shown[..., c].min() > 50 for c in range(3))
    assert dropped(shown, "paper") == ("black" if black else "washed out" if washed else "")
    assert dropped(shown, "none") == ""


def test_only_pictures_of_nothing_are_blank() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(16, 4, (HEIGHT, WIDTH, 3))
    assert dropped(np.clip(noise, 0, 255).astype(np.uint8), "blank") == "blank"
    assert dropped(np.full((HEIGHT, WIDTH, 3), (0, 0, 200), np.uint8), "blank") == "blank"
    night = np.clip(picture(0) * 0.12 + rng.normal(0, 3, noise.shape), 0, 255).astype(np.uint8)
    assert dropped(night, "blank") == "" and dropped(night, "paper") == "black"
    assert dropped(np.zeros((3, 5, 3), np.uint8), "blank") == "blank"  # a view of a few pixels


def test_the_published_filter_starts_anew_after_more_than_ten_frames() -> None:
    """Kept frames whose numbers differ by more than ten, because those between were dropped, belong to two splits."""
    bright, black = picture(0), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bright[0, 0], bright[0, 1] = 255, 0
    for every, missing, split in ((10, 1, True), (5, 1, False), (5, 2, True), (1, 9, False), (1, 10, True), (20, 0, False)):
        numbers = [every * k for k in range(20)]
        gone = numbers[3 : 3 + missing]
        of = shots(np.arange(400) / 25, step=every / 25, drop="paper")
        found = cuts(of, {k: black if k in gone else bright for k in numbers})
        assert found == ([numbers[3 + missing]] if split else []), (every, missing)
        left_out = [e for e in of.events if e.kind == Kind.DROPPED]
        assert [(e.frame, e.until_frame) for e in left_out] == ([(gone[0], gone[-1])] if gone else [])


# --- through the stages -----------------------------------------------------------------------------------------------------------


def film(folder: Path, pictures: list[Picture], **values: object) -> Project:
    folder.mkdir(exist_ok=True)
    make_video(folder / "v.mp4", pictures, fps=10, crf=12)
    return make_project(folder, **values)  # type: ignore[arg-type]


def test_tracks_end_at_a_cut_and_at_blank_pictures(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pictures = [black if 12 <= k < 15 else picture(k) if k < 25 else barn(k) for k in range(45)]
    project = film(tmp_path, pictures, prompts=["v,full,v,5,point,{:.0f},{:.0f},,,".format(*_at(5))])
    found = tracked(project)
    state = {row["frame"]: row["state"] for row in rows(found)}
    assert len(state) == 45 and {state[k] for k in (12, 13, 14)} == {"lost"}
    assert state[11] != "lost" and state[15] != "lost"
    happened = [(e.kind, e.frame, e.until_frame) for e in events.read(found) if e.kind in (Kind.CUT, Kind.DROPPED)]
    assert happened == [(Kind.DROPPED, 12, 14), (Kind.CUT, 25, 25)]
    assert events.cuts(found, "full").tolist() == [25] and events.cuts(found, "top").tolist() == []


def _at(frame: int) -> tuple[float, float]:
    y, x = np.nonzero(animal(frame))
    return float(x.mean()), float(y.mean())


def test_the_empty_scene_of_motion_is_that_of_the_shot(tmp_path: Path) -> None:
    """Were the scene the median of the whole video, all of the second place would differ from it."""
    pictures = [picture(5 * k) if k < 24 else barn(5 * k) for k in range(48)]
    for name, values in (("split", {}), ("blind", {"cuts": "none"})):
        project = film(tmp_path / name, pictures, method="motion", short_side=112, **values)
        found = rows(tracked(project))
        good = sum(
            abs(float(str(row["x"])) + float(str(row["w"])) / 2 - _at(5 * k)[0]) < 8
            for k, row in enumerate(found)
            if row["x"] is not None
        )
        assert good >= 44 if name == "split" else good < 36, (name, good)


@pytest.mark.parametrize("method", ["motion", "propagate"])
def test_stopped_anywhere_the_result_is_the_same(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts, dropped frames, the empty scene of the shot and the vectors that the tracker keeps, over several parts."""
    for module in ("scene", "motion"):
        monkeypatch.setattr(f"foveate.track.{module}.SEGMENT", 8)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pictures = [black if k in (6, 7, 8) else picture(k) if k < 13 else barn(k) for k in range(24)]
    prompts = ["v,full,v,10,point,{:.0f},{:.0f},,,".format(*_at(10))] if method == "propagate" else []
    found = {}
    for name, stops in (("whole", ()), ("stopped", (11, 21))):
        project = film(tmp_path / name, pictures, method=method, prompts=prompts)
        with (project.folder / "foveate.yaml").open("a") as handle:
            handle.write("baselines: {seen: {source: track}}\n")
        project = Project.load(project.folder)
        timeline.run(project, project.videos[0])
        for stop in stops:

            def stopping(done: int, total: int, at: int = stop) -> None:
                if done >= at:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                track.run(project, project.videos[0], stopping)
        track.run(project, project.videos[0])
        found[name] = {
            path.relative_to(project.folder).as_posix(): path.read_bytes()
            for stage in ("tracks", "glances")
            for path in sorted((project.folder / stage).rglob("*"))
            if path.is_file()
        }
    assert found["whole"] == found["stopped"]
    assert b",cut," in found["whole"]["tracks/v/events.csv"] and b",dropped," in found["whole"]["tracks/v/events.csv"]
    assert any(name.startswith("glances/") for name in found["whole"]) == (method == "propagate")


def smoothing(project: Project) -> Project:
    with (project.folder / "foveate.yaml").open("a") as handle:
        handle.write("crop: {smooth: 5.0, size: 64}\n")
    return Project.load(project.folder)


def test_crops_are_not_smoothed_across_a_cut_and_windows_end_there(tmp_path: Path) -> None:
    pictures = [picture(k) if k < 10 else barn(k + 30) for k in range(20)]
    project = film(tmp_path, pictures, method="motion")
    project = smoothing(project)
    video = project.videos[0]
    tracks = tracked(project)
    assert events.cuts(tracks, "full").tolist() == [10]
    crops.run(project, video)
    name = "full/v/part-00000.parquet"
    whole = crops.artefact(project, video).table(name).to_pandas()
    only = project.folder / "only"
    part = smoothing(film(only, pictures[:10], method="motion"))
    tracked(part)
    crops.run(part, part.videos[0])
    alone = crops.artefact(part, part.videos[0]).table(name).to_pandas()
    ours = whole[whole["frame"] < 10]
    assert (
        np.abs(ours[["src_x", "src_w"]].to_numpy() - alone[["src_x", "src_w"]].to_numpy()).max() < 3
    )  # the empty scenes differ a little
    number = unbroken(project, video, whole)
    assert (np.flatnonzero(np.diff(number)) == [int((whole["frame"] < 10).sum()) - 1]).all()


def test_a_split_view_has_its_own_cuts(tmp_path: Path) -> None:
    both = [np.concatenate([picture(k), picture(k) if k < 6 else barn(k)]) for k in range(12)]
    views = {name: {"x": 0, "y": y, "w": WIDTH, "h": HEIGHT} for name, y in (("a", 0), ("b", HEIGHT))}
    found = tracked(film(tmp_path, both, method="motion", views=views))
    assert events.cuts(found, "a").tolist() == [] and events.cuts(found, "b").tolist() == [6]


def test_scenedetect_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    project = film(tmp_path, [picture(k) for k in range(6)], method="motion", cuts="scenedetect")
    with pytest.raises(FoveateError, match="not installed") as caught:
        tracked(project)
    assert "foveate[shots]" in str(caught.value.remedy)


def test_scenedetect_finds_the_cut(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    project = film(
        tmp_path, [picture(k) if k < 30 else barn(k) for k in range(60)], method="motion", cuts="scenedetect", every=4
    )
    found = tracked(project)
    assert Scene(project, project.videos[0], found).film_cuts.tolist() == [30]
    assert events.cuts(found, "full").tolist() == [32]
    assert {e.note for e in events.read(found)} == {"scenedetect"}
    assert track.artefact(project, project.videos[0]).complete()
