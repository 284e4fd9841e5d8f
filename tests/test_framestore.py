"""The framestore: what goes in comes out, in order and from anywhere, with the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate import videowriter
from foveate.framestore import read_clip, read_crops
from foveate.schema import FoveateError
from foveate.video import VideoWriter, read_timeline
from tests.videos import number_of, numbered

COUNT = 50


def write(path: Path, count: int = COUNT, size: int = 64, **options: object) -> Path:
    with VideoWriter(path, size, size, **options) as writer:  # type: ignore[arg-type]
        for picture in numbered(count, size, size):
            writer.write(picture)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store") / "part-00000.mp4")


def test_in_order(store: Path) -> None:
    pictures = list(read_crops(store))
    assert [number_of(p) for p in pictures] == list(range(COUNT))
    error = [np.abs(p.astype(int) - q).mean() for p, q in zip(pictures, numbered(COUNT, 64, 64), strict=True)]
    assert max(error) < 4  # hard colour edges at half the colour resolution
    assert pictures[0].flags.c_contiguous and pictures[0].dtype == np.uint8


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, COUNT - 1), count=st.integers(1, 20))
def test_a_clip_from_anywhere(store: Path, start: int, count: int) -> None:
    if start + count > COUNT:
        with pytest.raises(FoveateError, match="damaged"):
            read_clip(store, start, count)
    else:
        clip = read_clip(store, start, count)
        np.testing.assert_array_equal(clip, np.stack(list(read_crops(store))[start : start + count]))


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 0)])
def test_a_clip_has_a_picture(store: Path, start: int, count: int) -> None:
    with pytest.raises(ValueError, match="clip"):
        read_clip(store, start, count)


@pytest.mark.parametrize("encoder", videowriter.ENCODERS)
def test_every_encoder(tmp_path: Path, encoder: str) -> None:
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV has no {encoder}")
    one, two = (write(tmp_path / name, encoder=encoder) for name in ("one.mp4", "two.mp4"))
    assert one.read_bytes() == two.read_bytes()
    assert [number_of(p) for p in read_crops(one)] == list(range(COUNT))
    assert [number_of(p) for p in read_clip(one, 30, 5)] == list(range(30, 35))
    timeline = read_timeline(one)
    keyframes = np.flatnonzero(timeline.keyframe)
    assert np.diff(keyframes).max() <= videowriter.GOP, "a clip would cost more than a group of run-up"


def test_same_bytes_in_a_used_process(tmp_path: Path) -> None:
    """Memory that other work left behind must not show in the file (as it does in libx264 with its macroblock tree)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:80, :200]
    pictures = np.full((40, 80, 200, 3), 90, np.uint8)
    for i, picture in enumerate(pictures):
        x, y = 100 + 80 * np.sin(0.12 * i), 40 + 30 * np.cos(0.1 * i)
        picture[((columns - x) / 11) ** 2 + ((rows - y) / 7) ** 2 <= 1] = (230, 140, 40)
    files = set()
    for k in range(40):
        rubbish = [rng.integers(0, 256, size, np.uint8) for size in rng.integers(10, 400_000, 10)]
        with VideoWriter(tmp_path / f"{k}.mp4", 200, 80, crf=10) as writer:
            for picture in pictures:
                writer.write(picture)
        assert len(rubbish) == 10 and sum(1 for _ in read_crops(tmp_path / f"{k}.mp4")) == 40
        files.add((tmp_path / f"{k}.mp4").read_bytes())
    assert len(files) == 1


def test_the_next_encoder_is_taken_where_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mjpeg"})
    assert videowriter.find_encoder() == "mjpeg"
    monkeypatch.setattr(av, "codecs_available", {"png"})
    with pytest.raises(FoveateError, match="cannot write"):
        videowriter.find_encoder()


def test_lower_crf_is_closer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (6, 16, 16, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    errors = []
    for crf in (8, 30):
        with VideoWriter(tmp_path / f"{crf}.mp4", 64, 64, crf=crf) as writer:
            for picture in noise:
                writer.write(picture)
        errors.append(np.abs(np.stack(list(read_crops(tmp_path / f"{crf}.mp4"))).astype(int) - noise).mean())
    assert errors[0] < errors[1]


@pytest.mark.parametrize("damage", ["empty", "half", "no index", "noise"])
def test_damaged(store: Path, tmp_path: Path, damage: str) -> None:
    content = store.read_bytes()
    path = tmp_path / "part-00003.mp4"
    path.write_bytes(
        {"empty": b"", "half": content[: len(content) // 2], "no index": content[:-600], "noise": b"\1" * 999}[damage]
    )
    with pytest.raises(FoveateError, match="part-00003") as caught:
        list(read_crops(path))
    assert caught.value.remedy and "run" in caught.value.remedy


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="gone"):
        read_clip(tmp_path / "gone.mp4", 0, 1)
