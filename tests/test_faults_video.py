"""Broken footage, full disks, killed runs."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from foveate import crops, track
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.track.prompts import add_prompts
from foveate.video import VideoWriter, read_frames, read_timeline
from tests import test_crops
from tests.videos import make_video, number_of, numbered, sound_only

COUNT = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 pictures, 12 seconds, index at the front."""
    path = tmp_path_factory.mktemp("whole") / "whole.mp4"
    return make_video(path, numbered(COUNT, 96, 128), container={"movflags": "faststart"})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"hello, this is no video. " * 100, "not a video"),
        (b"\x00" * 5000, "not a video"),
    ],
)
def test_not_a_video(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a b.mp4"
    path.write_bytes(content)
    with pytest.raises(FoveateError, match=problem) as caught:
        read_timeline(path)
    assert caught.value.file == path and caught.value.remedy


def test_missing_file_folder_and_sound(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no such file"):
        read_timeline(tmp_path / "gone.mp4")
    with pytest.raises(FoveateError, match="folder"):
        read_timeline(tmp_path)
    with pytest.raises(FoveateError, match="no picture"):
        read_timeline(sound_only(tmp_path / "song.m4a"))


def test_sound_beside_the_picture_does_not_matter(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", numbered(20), sound=True)
    timeline = read_timeline(path)
    assert len(timeline) == 20 and timeline.damaged_after is None
    assert [number_of(p) for p in read_frames(path, timeline, timeline.frame)] == list(range(20))


def test_recording_cut_off_before_its_index(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", numbered(60, 96, 128))  # index at the end
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FoveateError, match="moov"):
        read_timeline(path)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, whole: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name == "a.mp4":
        path.write_bytes(whole.read_bytes())
    else:
        make_video(path, numbered(COUNT, 96, 128))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    timeline = read_timeline(path)
    assert 0.2 * COUNT < len(timeline) < COUNT
    if name != "a.ts":  # nothing in a transport stream says how long it should be
        assert timeline.damaged_after == pytest.approx(timeline.duration)
    found = [number_of(p) for p in read_frames(path, timeline, timeline.frame)]
    # A player loses a few of the last pictures at most (those stored out of order), never one in the middle.
    assert found[:-4] == list(range(len(found) - 4))


def spoil(path: Path, first: float, last: float) -> None:
    """Overwrite part of the pictures' data with noise; the index stays."""
    content = bytearray(path.read_bytes())
    begin = content.find(b"mdat") + 4
    low, high = (begin + int((len(content) - begin) * share) for share in (first, last))
    content[low:high] = np.random.default_rng(0).integers(0, 256, high - low, np.uint8).tobytes()
    path.write_bytes(bytes(content))


def test_damage_in_the_middle(tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(whole.read_bytes())
    spoil(path, 0.5, 0.52)
    timeline = read_timeline(path)
    assert len(timeline) == COUNT
    with caplog.at_level(logging.WARNING, "foveate"):
        found = [number_of(p) for p in read_frames(path, timeline, timeline.frame)]
    assert len(found) == COUNT, "a damaged picture must not shift the ones after it"
    right = np.array(found) == np.arange(COUNT)
    assert right[:130].all() and right[180:].all()


def test_long_damage_is_an_error_not_a_still_picture(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(whole.read_bytes())
    content = bytearray(path.read_bytes())
    begin = content.find(b"mdat") + 4
    low, high = begin + int((len(content) - begin) * 0.3), begin + int((len(content) - begin) * 0.8)
    content[low:high] = bytes(high - low)
    path.write_bytes(bytes(content))
    timeline = read_timeline(path)
    assert len(timeline) == COUNT
    with pytest.raises(FoveateError, match=r"at \d+\.\d\d s cannot be decoded") as caught:
        list(read_frames(path, timeline, timeline.frame))
    assert caught.value.remedy and "ffmpeg" in caught.value.remedy


@pytest.mark.parametrize("call", [0, 1, 9])
def test_disk_full_while_cropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """ENOSPC at some picture: the error says so, nothing half-written stays, and the next run ends as if nothing had been."""
    project, clip = test_crops.study(tmp_path)
    test_crops.write_track(project, clip)
    write, calls = VideoWriter.write, 0

    def full(self: VideoWriter, picture: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls > call:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, picture)

    monkeypatch.setattr(VideoWriter, "write", full)
    with pytest.raises(FoveateError, match="disk is full") as caught:
        crops.run(project, clip)
    assert caught.value.remedy and "free some space" in caught.value.remedy
    folder = crops.artefact(project, clip).folder
    assert not crops.artefact(project, clip).complete()
    assert not list(folder.rglob(".*")) and not list(folder.rglob("*.mp4"))
    monkeypatch.setattr(VideoWriter, "write", write)
    assert crops.run(project, clip).complete()


def test_a_full_disk_is_an_os_error_to_the_writer() -> None:
    """What the test above injects is what PyAV raises."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.raises(OSError, match="No space left") as caught, VideoWriter(Path("/dev/full"), 64, 64) as writer:
        for _ in range(500):
            writer.write(noise)
    assert caught.value.errno == errno.ENOSPC


def test_footage_that_vanishes_or_a_damaged_track(tmp_path: Path) -> None:
    project, clip = test_crops.study(tmp_path)
    tracks = test_crops.write_track(project, clip)
    part = tracks.path("part-00001.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(FoveateError, match=r"part-00001\.parquet: this file is damaged") as caught:
        crops.run(project, clip)
    assert caught.value.remedy
    part.write_bytes(content)
    clip.path.rename(clip.path.with_name("elsewhere.mp4"))
    with pytest.raises(FoveateError, match=r"clip\.mp4"):
        crops.run(project, clip)


def test_nothing_can_be_pointed_at_in_a_frame_that_does_not_decode(tmp_path: Path) -> None:
    """By hand in prompts.csv and with --prompt; frames beside it are fine, and so is saying that the animal is not there."""
    path = make_video(tmp_path / "v.mp4", numbered(300), fps=25)
    content = bytearray(path.read_bytes())
    begin = content.find(b"mdat") + 4
    low, high = (begin + int((len(content) - begin) * share) for share in (0.3, 0.8))
    content[low:high] = bytes(high - low)
    path.write_bytes(bytes(content))
    (tmp_path / "videos.csv").write_text("video,path\nv,v.mp4\n")
    (tmp_path / "foveate.yaml").write_text("analyse: {every: 10}\ntrack: {model: handcrafted, short_side: 56}\n")
    project = Project.load(tmp_path)
    line = read_timeline(tmp_path / "v.mp4")
    with pytest.raises(FoveateError, match=r"at (\d+\.\d\d) s cannot be decoded") as caught:
        list(read_frames(tmp_path / "v.mp4", line, line.frame))
    gone = int(np.searchsorted(line.time, float(caught.value.problem.split("at ")[1].split(" ")[0]) + 1))
    with pytest.raises(FoveateError, match=f"frame {gone} of video 'v' has no picture to point at") as caught:
        add_prompts(project, [f"v:{gone}:20,20"])
    assert caught.value.remedy and not (tmp_path / "prompts").exists()
    add_prompts(project, ["v:0:20,20", f"v:{gone}:absent"])
    table = tmp_path / "prompts" / "prompts.csv"
    good = table.read_text()
    table.write_text(good.replace(f"{gone},absent,,", f"{gone},point,20,20"))
    with pytest.raises(FoveateError, match="no picture to point at") as caught:
        track.run(project, project.videos[0])
    assert caught.value.row == 3 and caught.value.file == table
