"""The review video: every analysed frame with what the track says drawn in; made once, streamed, a file that plays everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from foveate import api, masks, timeline, track
from foveate.cli import main
from foveate.jobs import Failure
from foveate.project import Project
from foveate.run import quiet
from foveate.schema import TRACK, FoveateError, State
from foveate.store import read_parquet, write_parquet
from foveate.track import overlay, review
from foveate.track.events import Kind
from foveate.track.questions import open_questions
from foveate.videowriter import comment_of
from tests import fake_project
from tests.eventful import between, event, happened

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos; in the first the animal was lost from 4 to 6 s and a click is asked for."""
    project = fake_project.make(tmp_path_factory.mktemp("review") / "a study", videos=2, annotated=0, groups=())
    for k, video in enumerate(project.videos):
        timeline.run(project, video)
        rows = fake_project.track_table(video, video.subjects[0], 0)
        fake_project.seal(track.artefact(project, video), {"part-00000.parquet": rows}, {"prompt": "click"})
        if k == 0:
            asked = event(project, video, Kind.ASK, 4.5, 6, note="hidden?")
            happened(project, video, lambda table: between(table, 4, 6, "lost"), [event(project, video, Kind.DRIFT, 4), asked])
    return project.folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Project:
    return Project.load(shutil.copytree(finished, tmp_path / "my study"))


def pictures(path: Path) -> list[Picture]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_review_plays_everywhere_and_shows_every_analysed_frame(study: Project) -> None:
    path = review.run(study, study.videos[0])
    assert path == study.folder / "review" / "v0.mp4"
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == len(fake_project.times()) and stream.average_rate == review.RATES[0]
        assert stream.width % 2 == stream.height % 2 == 0 and stream.codec_context.has_b_frames == 0
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
    assert all(any(keys[k : k + 12]) for k in range(len(keys) - 11))


def test_the_outline_lies_on_the_animal_and_the_cursor_wanders(study: Project) -> None:
    found = pictures(review.run(study, study.videos[1]))
    reel = review.Reel(review.Scene(study, study.videos[1], track.artefact(study, study.videos[1])))
    width, height = reel.frame_size
    for k in (1, 20):
        mask = overlay.shrink(fake_project.mask_at(float(fake_project.times()[k]), 0), width, height)
        rim = overlay.edge(mask, 2)
        near = np.abs(found[k][:height].astype(int) - overlay.TINTS[0]).sum(-1)
        assert np.median(near[rim]) < 150 < np.median(near[~mask])
    left, right = reel.strip.left, reel.strip.right
    for k in (4, 16, 28):
        dark = found[k][height + 2 : height + 6, left:right].astype(int).sum((0, 2))
        assert int(dark.argmin()) == pytest.approx(reel.share(float(fake_project.times()[k])) * (right - left), abs=2)


def test_a_lost_animal_is_shown_where_it_was_last(study: Project) -> None:
    reel = review.Reel(review.Scene(study, study.videos[0], track.artefact(study, study.videos[0])))
    last: dict[tuple[str, str], overlay.Place] = {}
    drawn = [reel._drawn(row, last) for rows in reel._rows(reel.scene.analysed.frame.tolist()) for row in rows]
    assert drawn[8].state == State.LOST and drawn[8].mask is None and drawn[8].box == drawn[7].box
    assert reel._told(4.6) == ["0:00:04.0  lost", "0:00:04.5  a click is needed (hidden?)"]
    assert reel._told(3.9) == [] == reel._told(60.0)
    assert reel.speed == pytest.approx(5) and "× 5" in reel._heading(40, 4.0, gone=False)


def test_what_is_there_is_not_made_again_until_the_track_changes(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    video = study.videos[1]
    path = review.run(study, video)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(review, "Reel", lambda *_: pytest.fail("made again"))
        review.run(study, video)
    tracks = track.artefact(study, video)
    assert comment_of(path).endswith(tracks.stamp)
    path.unlink()
    assert review.run(study, video).read_bytes() == before
    shutil.copyfile(study.folder / "review" / "v1.mp4", study.folder / "review" / "v0.mp4")
    review.run(study, study.videos[0])  # another video's review is none of this one
    assert comment_of(study.folder / "review" / "v0.mp4").endswith(track.artefact(study, study.videos[0]).stamp)


def test_a_review_that_was_stopped_leaves_nothing_and_changes_no_track(study: Project) -> None:
    video = study.videos[1]
    tracks = track.artefact(study, video)
    before = {path: path.read_bytes() for path in tracks.folder.iterdir()}

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        review.run(study, video, stop)
    assert list((study.folder / "review").iterdir()) == []
    assert {path: path.read_bytes() for path in tracks.folder.iterdir()} == before and tracks.complete()


def test_a_video_that_cannot_be_read_stops_no_other(study: Project) -> None:
    video = study.videos[0]
    part = track.artefact(study, video).path("part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-9] + b"x" * 9)
    made = review.run_all(study, review.ready(study), 1, quiet)
    assert [one.item for one in made if isinstance(one, Failure)] == ["v0"] and (study.folder / "review" / "v1.mp4").exists()
    track.artefact(study, study.videos[1]).discard()
    assert [one.name for one in review.ready(study)] == ["v0"]
    with pytest.raises(FoveateError, match="not tracked yet"):
        review.run(study, study.videos[1])


def test_views_masks_and_boxes_are_in_their_place(tmp_path: Path) -> None:
    """Two views of one picture: what is drawn for the lower one lies in the lower half; names with spaces; a row without a mask."""
    views = {"upper one": {"x": 0, "y": 0, "w": 192, "h": 64}, "lower": {"x": 0, "y": 64, "w": 192, "h": 64}}
    project = fake_project.make(tmp_path, videos=1, annotated=0, groups=(), settings={"views": views})
    video = project.videos[0]
    timeline.run(project, video)
    rows = []
    for row in fake_project.track_table(video, video.subjects[0], 0).to_pylist():
        mask = np.zeros((64, 192), np.bool_)
        mask[20:40, 60:120] = True
        for view, rle in (("upper one", None), ("lower", masks.encode(mask))):
            rows.append({**row, "view": view, "x": 60, "y": 20, "w": 60, "h": 20, "rle": rle, "state": "tracked"})
    target = track.artefact(project, video)
    table = pa.Table.from_pylist(rows, schema=TRACK)
    fake_project.seal(target, {"part-00000.parquet": table}, {"prompt": "click"})
    (first, *_) = pictures(review.run(project, video))
    reel = review.Reel(review.Scene(project, video, target))
    assert [reel.label(*pair) for pair in reel.lanes] == ["animal 0, upper one", "animal 0, lower"]
    near = np.abs(first.astype(int) - overlay.TINTS[0]).sum(-1)
    rim = overlay.edge(overlay.shrink(np.pad(mask, ((64, 0), (0, 0))), *reel.frame_size), 2)
    assert np.median(near[: reel.frame_size[1]][rim]) < 150


def test_questions_are_listed_with_their_answer_and_picture(
    study: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (asked,) = open_questions(study, study.videos)
    assert (asked.video, asked.frame, asked.time, asked.until_time) == ("v0", 45, 4.5, 6.0)
    assert main(["status", "-p", str(study.folder)]) == 0
    said = capsys.readouterr()
    assert f"foveate track -p '{study.folder}' --prompt v0:45:X,Y" in said.out
    assert "1 frame needs a click" in said.err and "0:04.5 (frame 45): hidden?" in said.err
    monkeypatch.chdir(study.folder)
    assert main(["status", "--json", "--pictures"]) == 0
    (plain,) = json.loads(capsys.readouterr().out)["questions"]
    assert (plain["answer"], plain["absent"]) == (
        "foveate track --prompt v0:45:X,Y",
        "foveate track --prompt v0:45:absent",
    )
    shown = np.asarray(Image.open(plain["picture"]))
    truth = fake_project.picture(4.5, 0)
    assert shown.shape == truth.shape  # at its own size: places can be read off
    assert np.abs(shown[30:, 40:].astype(int) - truth[30:, 40:]).mean() < 12
    api.status(study, video=["v1"], pictures=True)
    assert main(["status", "--json", "--video", "v1"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == []


def test_track_with_review_writes_all(study: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command; the tracks are there already, only the reviews are made."""
    assert main(["track", "-p", str(study.folder), "--review", "--workers", "1"]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == [str(study.folder / "review" / f"v{k}.mp4") for k in range(2)]
    assert (study.folder / "review" / "v0-full-animal 0-45.png").exists()


def test_memory_does_not_grow_with_the_part(study: Project) -> None:
    """Rows are handed on as their frame comes, and none stays behind."""
    target = track.artefact(study, study.videos[1])
    table = read_parquet(target.path("part-00000.parquet"))
    record = target.record() or {}
    target.discard()
    target.begin()
    for k in range(4):
        write_parquet(target.path(f"part-{k:05d}.parquet"), table.slice(8 * k, 8))
    target.finish(record["facts"])
    reel = review.Reel(review.Scene(study, study.videos[1], target))
    found = list(reel._rows(reel.scene.analysed.frame.tolist()))
    assert [rows[0]["frame"] for rows in found] == reel.scene.analysed.frame.tolist()
    assert {len(rows) for rows in found} == {1}


def test_doubts_of_who_is_who_are_questions_too(tmp_path: Path) -> None:
    """One for those who are in doubt together, in the longest time in which none of them touches another."""
    project = fake_project.make(tmp_path / "study", videos=1, annotated=0, groups=())
    fake_project.finish(project)
    video = project.videos[0]
    found = [
        event(project, video, Kind.DOUBT, 4, 12, note="who is who is not certain"),
        event(project, video, Kind.DOUBT, 4, 12, note="who is who is not certain", subject="another"),
        event(project, video, Kind.CROSSING, 3, 4.5),
        event(project, video, Kind.CROSSING, 5.5, 6, subject="another"),
        event(project, video, Kind.CROSSING, 8, 9, subject="a third"),
    ]
    happened(project, video, lambda table: table, found)
    (asked,) = open_questions(project, [video])
    assert asked.subject == "animal 0" and 8.5 < asked.time < 9.6 and asked.until_time == found[0].until_time
    assert asked.note == "who is who is not certain (animal 0, another); click on animal 0"
