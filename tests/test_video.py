"""Timelines and frames: what is read is what was written, whatever the container does."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate import video as module
from foveate.video import Timeline, VideoWriter, read_frames, read_timeline
from tests.videos import make_video, number_of, numbered

COUNT = 60


def numbers(path: Path, timeline: Timeline, wanted: list[int] | None = None) -> list[int]:
    chosen = timeline.frame if wanted is None else np.array(wanted, np.int64)
    return [number_of(picture) for picture in read_frames(path, timeline, chosen)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures at 25 per second, groups of 12, B-frames."""
    return make_video(tmp_path_factory.mktemp("plain") / "plain.mp4", numbered(COUNT))


def test_constant_rate_with_b_frames(plain: Path) -> None:
    timeline = read_timeline(plain)
    assert len(timeline) == COUNT
    assert (timeline.width, timeline.height, timeline.rotation, timeline.mirrored) == (64, 48, 0, False)
    np.testing.assert_allclose(timeline.time, np.arange(COUNT) / 25, atol=1e-9)
    assert timeline.duration == pytest.approx(COUNT / 25)
    assert timeline.codec == "h264"
    assert np.flatnonzero(timeline.keyframe).tolist() == [0, 12, 24, 36, 48]
    assert timeline.damaged_after is None and timeline.seekable and timeline.clock == "pts"
    assert numbers(plain, timeline) == list(range(COUNT))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.ts", "a.webm"])
def test_variable_rate_and_late_start(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    pts = 5000 + np.concatenate([[0], np.cumsum(rng.integers(20, 130, COUNT - 1))])
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = make_video(tmp_path / name, numbered(COUNT), pts=pts.tolist(), codec=codec)
    timeline = read_timeline(path)
    np.testing.assert_allclose(timeline.time, (pts - pts[0]) / 1000, atol=1e-3)
    assert timeline.time[0] == 0 and timeline.clock == "pts"
    assert timeline.duration > timeline.time[-1]
    assert timeline.damaged_after is None
    wanted = [0, 1, 17, 18, 30, 59]
    assert numbers(path, timeline, wanted) == wanted


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_matches_the_display_matrix(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    upright = numbered(3, 48, 80)
    stored = np.rot90(upright, rotation // 90, axes=(1, 2))  # a player turns it clockwise, so it is stored turned back
    if mirrored:
        stored = stored[:, :, ::-1]
    path = make_video(tmp_path / "turned.mp4", stored, rotation=rotation, mirrored=mirrored, crf=1)
    timeline = read_timeline(path)
    assert (timeline.width, timeline.height) == (80, 48)
    assert (timeline.rotation, timeline.mirrored) == (rotation, mirrored)
    for picture, expected in zip(read_frames(path, timeline, timeline.frame), upright, strict=True):
        assert picture.shape == expected.shape
        assert np.abs(picture.astype(int) - expected).mean() < 12  # half-resolution colour; a wrong turn gives more than 60
    small = next(read_frames(path, timeline, np.array([0]), size=(40, 24)))
    assert small.shape == (24, 40, 3)
    assert small[2, 2, 0] > 150 > small[2, 37, 0]


def test_rotation_agrees_with_ffmpeg(tmp_path: Path) -> None:
    import shutil

    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg program as reference")
    for rotation, mirrored in ((90, False), (270, True), (0, True)):
        path = make_video(tmp_path / f"{rotation}{mirrored}.mp4", numbered(1, 48, 80), rotation=rotation, mirrored=mirrored)
        timeline = read_timeline(path)
        raw = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
            capture_output=True,
            check=True,
        ).stdout
        reference = np.frombuffer(raw, np.uint8).reshape(timeline.height, timeline.width, 3).astype(int)
        ours = next(read_frames(path, timeline, np.array([0])))
        assert np.abs(ours - reference).mean() < 2


def test_edit_list(tmp_path: Path, plain: Path) -> None:
    """A copy that begins between keyframes keeps the pictures before its start in the file, marked not to be shown."""
    path = tmp_path / "cut.mp4"
    cut_at = 17
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        first = round(cut_at / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.size and packet.pts >= 12 / 25 / stream.time_base:
                packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
                output.mux(packet)
    with av.open(str(path)) as check:
        assert any(packet.is_discard for packet in check.demux(check.streams.video[0])), "the file has no edit list"
    timeline = read_timeline(path)
    assert timeline.clock == "pts" and timeline.seekable, "the container was right, no need to decode it all"
    assert numbers(path, timeline) == list(range(cut_at, COUNT))
    np.testing.assert_allclose(timeline.time, np.arange(COUNT - cut_at) / 25, atol=1e-3)
    assert numbers(path, timeline, [2]) == [cut_at + 2]
    assert numbers(path, timeline, [40]) == [cut_at + 40]


@pytest.mark.parametrize("name", ["a.avi", "a.h264"])
def test_unusable_timestamps_are_found_and_replaced(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """AVI with B-frames swaps presentation timestamps, a bare stream has none: both are read by counting."""
    path = make_video(tmp_path / name, numbered(COUNT))
    with caplog.at_level(logging.WARNING, "foveate"):
        timeline = read_timeline(path)
    assert timeline.clock == "count" and not timeline.seekable
    assert "timestamps" in caplog.text
    np.testing.assert_allclose(timeline.time, np.arange(COUNT) / 25, atol=1e-6)
    assert timeline.duration == pytest.approx(COUNT / 25)
    assert numbers(path, timeline, [0, 13, 14, 59]) == [0, 13, 14, 59]


def test_a_container_that_lists_what_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that begins without a keyframe: the first packets give no picture, so they are not in the timeline."""
    whole = make_video(tmp_path / "whole.ts", numbered(COUNT), bframes=0)
    path = tmp_path / "late.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for i, packet in enumerate(source.demux(stream)):
            if i >= 5 and packet.size:
                packet.stream = copy
                output.mux(packet)
    timeline = read_timeline(path)
    assert len(timeline) == COUNT - 12 and timeline.time[0] == 0
    assert numbers(path, timeline) == list(range(12, COUNT))


def test_odd_size_and_ten_bits_and_full_range(tmp_path: Path) -> None:
    odd = make_video(tmp_path / "odd.mkv", numbered(5, 51, 67), codec="ffv1", pix_fmt="yuv444p")
    timeline = read_timeline(odd)
    assert (timeline.width, timeline.height) == (67, 51)
    assert numbers(odd, timeline) == [0, 1, 2, 3, 4]
    deep = make_video(tmp_path / "deep.mkv", numbered(5), codec="ffv1", pix_fmt="yuv420p10le")
    assert numbers(deep, read_timeline(deep)) == [0, 1, 2, 3, 4]
    grey = np.full((2, 32, 32, 3), 20, np.uint8)
    wide = make_video(tmp_path / "wide.avi", grey, codec="mjpeg", pix_fmt="yuvj420p")
    assert np.abs(next(read_frames(wide, read_timeline(wide), np.array([0]))).astype(int) - 20).max() <= 3


@pytest.mark.parametrize("name", ["two  words.mp4", "été – 羊.mp4", "cam:1 %03d.mp4", "link.mp4"])
def test_names_and_places(tmp_path: Path, plain: Path, name: str) -> None:
    folder = tmp_path / "a folder ü"
    folder.mkdir()
    path = folder / name
    if name == "link.mp4":
        path.symlink_to(plain)
    else:
        path.write_bytes(plain.read_bytes())
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        timeline = read_timeline(path)
        assert numbers(path, timeline, [3, 40]) == [3, 40]
        assert [p.name for p in folder.iterdir()] == [name]
    finally:
        folder.chmod(0o755)


def test_a_relative_name_with_a_colon(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cam:1.mp4").write_bytes(plain.read_bytes())
    assert len(read_timeline(Path("cam:1.mp4"))) == COUNT


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.sets(st.integers(0, COUNT - 1), min_size=1), seekable=st.booleans(), gain=st.sampled_from([0, 8]))
def test_any_choice_of_frames(plain: Path, wanted: set[int], seekable: bool, gain: int) -> None:
    """Seeking, skipping and decoding straight through give the same pictures."""
    timeline = replace(read_timeline(plain), seekable=seekable)
    everything = list(read_frames(plain, timeline, timeline.frame))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SEEK_GAIN", gain)
        chosen = list(read_frames(plain, timeline, np.array(sorted(wanted))))
    for frame, picture in zip(sorted(wanted), chosen, strict=True):
        np.testing.assert_array_equal(picture, everything[frame])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "4", "b-pyramid": "strict", "refs": "4"}),
        ("libx264", {"bf": "3", "open-gop": "1", "x264-params": "open-gop=1:keyint=24:min-keyint=24"}),
        ("libx265", {"x265-params": "log-level=none:keyint=24:bframes=4:b-pyramid=1:pools=1:frame-threads=1"}),
        ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1:keyint=24"}),
        ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "realtime"}),
    ],
)
def test_leaving_pictures_out_changes_no_other(tmp_path: Path, codec: str, options: dict[str, str], capfd: object) -> None:
    path = make_video(tmp_path / "a.mkv", numbered(COUNT, 96, 128), codec=codec, options=options)
    timeline = read_timeline(path)
    reference = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            reference.append(frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1))
    assert len(timeline) == len(reference) == COUNT
    with av.open(str(path)) as container:
        keyframes = [packet.pts for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert timeline.pts[timeline.keyframe].tolist() == keyframes
    for step in (1, 3, 7, 10):
        wanted = timeline.frame[::step]
        for frame, picture in zip(wanted, read_frames(path, timeline, wanted), strict=True):
            np.testing.assert_array_equal(picture, reference[frame])


def test_few_pictures_are_decoded(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last frame of 60 is reached through its own group of 12, not through all."""
    timeline = read_timeline(plain)
    decoded = []
    original = module._decode

    def counted(*args: object) -> object:
        for frame in original(*args):  # type: ignore[arg-type]
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(module, "_decode", counted)
    assert numbers(plain, timeline, [59]) == [59]
    assert len(decoded) <= 12
    decoded.clear()
    monkeypatch.setattr(module, "_SKIPPABLE", ())
    assert numbers(plain, replace(timeline, seekable=False), [59]) == [59]
    assert len(decoded) == 60


def test_a_container_that_cannot_seek_is_read_straight(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_seek", lambda *_: None)
    timeline = replace(read_timeline(plain), seekable=True)
    assert numbers(plain, timeline, [2, 50]) == [2, 50]


@pytest.mark.parametrize("wanted", [[3, 3], [4, 2], [-1], [COUNT]])
def test_wrong_frame_numbers(plain: Path, wanted: list[int]) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        next(read_frames(plain, read_timeline(plain), np.array(wanted)))


def test_nothing_wanted(plain: Path) -> None:
    assert list(read_frames(plain, read_timeline(plain), np.array([], np.int64))) == []


def test_real_footage(footage: Path) -> None:
    """The timeline equals what the decoder gives, and so do the pictures."""
    clips = [path for name in ("01_dog", "itch_*", "dance") for path in footage.glob(f"clips/*/{name}.mp4")]
    assert len(clips) == 3
    for path in clips:
        timeline = read_timeline(path)
        assert timeline.seekable and timeline.damaged_after is None
        wanted = timeline.frame[3::29]
        got = read_frames(path, timeline, wanted)
        with av.open(str(path)) as container:
            stamps = []
            for i, frame in enumerate(container.decode(video=0)):
                stamps.append(frame.pts)
                if i % 29 == 3:
                    expected = frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1)
                    np.testing.assert_array_equal(next(got)[::4, ::4], expected[::4, ::4])
        assert stamps == timeline.pts.tolist()


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Reading and writing 800 pictures of 0.3 MB keeps none of them."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def resident() -> float:
        """MB of memory of its own, without mapped files."""
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon")) / 1024

    pictures = (picture for k in range(8) for picture in numbered(100, 256, 384, first=100 * k))
    path = make_video(tmp_path / "long.mp4", pictures, options={"preset": "ultrafast"})
    timeline = read_timeline(path)
    with VideoWriter(tmp_path / "copy.mp4", 384, 256, crf=30) as writer:
        for i, picture in enumerate(read_frames(path, timeline, timeline.frame)):
            writer.write(picture)
            if i == 100:
                before = resident()
    assert i == 799 and resident() - before < 30
