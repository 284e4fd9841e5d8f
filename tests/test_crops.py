"""Stage crop: geometry, resampling, files, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import crops, masks, timeline, track
from foveate.crops import FILL, cut, cut_mask, geometry, published_rectangle, smoothed
from foveate.framestore import read_crops
from foveate.project import Project, Video
from foveate.schema import CROP_INDEX, TRACK, FoveateError
from foveate.settings import AnalyseSettings, Config, CropSettings, TrackSettings, View
from foveate.store import Artefact, write_parquet
from tests.videos import make_video

VIEW = View(x=0, y=0, w=160, h=120)


def place(
    boxes: list[tuple[float, ...]], times: list[float] | None = None, view: View = VIEW, **values: object
) -> crops.Geometry:
    times = times or [i * 0.5 for i in range(len(boxes))]
    settings = CropSettings(**values)  # type: ignore[arg-type]
    return geometry(np.array(boxes, float), np.array(times), np.zeros(len(boxes), np.int64), view, settings)


# --- geometry ---


@pytest.mark.parametrize(("side", "pad"), [(9, 0), (10, 1), (19, 1), (20, 2), (99, 9)])
def test_published_padding_is_exact_on_integers(side: int, pad: int) -> None:
    box = np.array([[200.0, 300, side, side]])
    assert published_rectangle(box, 960, 540).tolist() == [[200 - pad, 300 - pad, side + 2 * pad, side + 2 * pad]]


def test_published_rectangle_is_clipped() -> None:
    box = np.array([[2.0, 80, 40, 40]])  # pad 4: reaches x = -2 and y = 124
    assert published_rectangle(box, 160, 120).tolist() == [[0, 76, 46, 44]]


def test_paper_square_is_the_smallest_around_the_rectangle() -> None:
    found = place([(20, 30, 50, 19)], mode="paper", size=64)
    assert found.source.tolist() == [[15, 30 - 1 - (60 - 21) / 2, 60, 60]]
    assert found.scale.tolist() == [64 / 60]
    np.testing.assert_allclose(found.rect, [[0, 19.5 * 64 / 60, 64, 21 * 64 / 60]])


def test_square_has_ten_per_cent_on_each_side() -> None:
    found = place([(50, 40, 40, 20)], smooth=0, size=96)
    x, y, w, h = found.source[0]
    assert w == h == pytest.approx(48, abs=0.04)
    assert (x + w / 2, y + h / 2) == pytest.approx((70, 50), abs=0.04)
    np.testing.assert_allclose(found.valid, [[0, 0, 96, 96]], atol=1e-9)


boxes_strategy = st.lists(
    st.tuples(st.integers(0, 150), st.integers(0, 110), st.integers(1, 160), st.integers(1, 120)).map(
        lambda b: (b[0], b[1], min(b[2], 160 - b[0]), min(b[3], 120 - b[1]))
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    boxes=boxes_strategy,
    mode=st.sampled_from(["square", "paper"]),
    smooth=st.floats(0, 4),
    size=st.sampled_from([32, 224, 256]),
    gaps=st.lists(st.floats(0.01, 2), min_size=12, max_size=12),
)
def test_every_square_holds_its_box(
    boxes: list[tuple[int, ...]], mode: str, smooth: float, size: int, gaps: list[float]
) -> None:
    found = place(boxes, np.cumsum(gaps)[: len(boxes)].tolist(), mode=mode, smooth=smooth, size=size)
    box = np.array(boxes, float)
    source, rect, valid = found.source, found.rect, found.valid
    assert (source[:, 2] == source[:, 3]).all()
    assert (source == source.astype(np.float32)).all(), "the index holds exactly what was cut"
    assert (source[:, :2] <= box[:, :2]).all() and (source[:, :2] + source[:, 2:] >= box[:, :2] + box[:, 2:]).all()
    slack = 1e-6 * size
    for part in (rect, valid):
        assert (part[:, :2] >= -slack).all() and (part[:, :2] + part[:, 2:] <= size + slack).all()
    # The published rectangle lies within the picture, and mapped back to the view it is whole pixels again.
    assert (rect[:, :2] >= valid[:, :2] - slack).all()
    assert (rect[:, :2] + rect[:, 2:] <= valid[:, :2] + valid[:, 2:] + slack).all()
    back = np.concatenate([rect[:, :2] / found.scale[:, None] + source[:, :2], rect[:, 2:] / found.scale[:, None]], axis=1)
    np.testing.assert_allclose(back, published_rectangle(box, VIEW.w, VIEW.h), atol=1e-6)


def test_smoothing_by_hand() -> None:
    values, time = np.array([[0.0], [3.0], [6.0], [90.0]]), np.array([0.0, 0.5, 1.0, 5.0])
    one = np.zeros(4, np.int64)
    # Weights 1 and .5 within one second; the row at 5 s is too far from all others.
    np.testing.assert_allclose(smoothed(values, time, one, 1.0)[:, 0], [1.0, 3.0, 5.0, 90.0])
    np.testing.assert_allclose(smoothed(values, time, one, 0.0), values)
    np.testing.assert_allclose(smoothed(values, time, np.array([0, 1, 1, 1]), 1.0)[:, 0], [0, 4, 5, 90])


def test_smoothing_steadies_the_square() -> None:
    rng = np.random.default_rng(0)
    jitter = [(50 + rng.integers(-2, 3), 40 + rng.integers(-2, 3), 30 + rng.integers(-2, 3), 30) for _ in range(60)]
    times = [i / 25 for i in range(60)]
    rough, calm = (place(jitter, times, smooth=seconds).source for seconds in (0, 1))
    centre = [np.diff(source[:, :2] + source[:, 2:] / 2, axis=0).std() for source in (rough, calm)]
    assert centre[1] < 0.1 * centre[0]
    assert calm[:, 2].mean() < 1.15 * rough[:, 2].mean(), "steadiness must not cost much room"


@settings(max_examples=40, deadline=None)
@given(boxes=boxes_strategy.filter(lambda b: len(b) > 4), smooth=st.floats(0, 1.2), cut_at=st.integers(1, 3))
def test_smoothing_does_not_depend_on_far_rows(boxes: list[tuple[int, ...]], smooth: float, cut_at: int) -> None:
    """Bit for bit: a part computed with its near neighbours equals the whole computed at once."""
    times = np.arange(len(boxes)) * 0.5
    whole = place(boxes, times.tolist(), smooth=smooth).source
    near = times <= times[cut_at - 1] + smooth
    part = place([b for b, n in zip(boxes, near, strict=True) if n], times[near].tolist(), smooth=smooth).source
    assert (part[:cut_at] == whole[:cut_at]).all()


# --- resampling ---


def test_cut_of_whole_pixels_copies_them() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    np.testing.assert_array_equal(cut(picture, np.array([30.0, 20, 64, 64]), 64), picture[20:84, 30:94])


@pytest.mark.parametrize("corner", [(-20.0, -10.0), (130.0, 90.0), (-8.0, 100.0)])
def test_beyond_the_picture_is_fill(corner: tuple[float, float]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    x, y = corner
    found = cut(picture, np.array([x, y, 64, 64]), 64)
    rows, columns = np.mgrid[0:64, 0:64] + np.array([y, x])[:, None, None]
    inside = (rows >= 0) & (rows < 120) & (columns >= 0) & (columns < 160)
    assert 0 < inside.sum() < 64 * 64
    assert (found[~inside] == FILL).all()
    np.testing.assert_array_equal(found[inside], picture[rows[inside].astype(int), columns[inside].astype(int)])


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    found = cut(stripes, np.array([0.0, 0, 128, 128]), 32)
    assert np.abs(found[4:-4, 4:-4].astype(int) - 128).max() < 16


@settings(max_examples=40, deadline=None)
@given(
    x=st.integers(0, 150),
    y=st.integers(0, 110),
    w=st.integers(1, 60),
    h=st.integers(1, 60),
    mode=st.sampled_from(["square", "paper"]),
)
def test_mask_and_rectangle_agree_with_the_crop(x: int, y: int, w: int, h: int, mode: str) -> None:
    """A solid box, seen through its own crop: the mask is where the geometry says the box is."""
    mask = np.zeros((VIEW.h, VIEW.w), bool)
    mask[y : y + h, x : x + w] = True
    box = masks.box(mask)
    assert box is not None
    found = place([box], mode=mode, smooth=0, size=128)
    small = masks.decode(cut_mask(masks.encode(mask), found.source[0], VIEW, 128), 128, 128)
    scale, source = found.scale[0], found.source[0]
    low = (np.array(box[:2]) - source[:2]) * scale
    high = low + np.array(box[2:]) * scale
    seen = masks.box(small)
    assert seen is not None
    assert np.abs(np.array(seen[:2]) - low).max() <= 0.51
    assert np.abs(np.array(seen[:2]) + np.array(seen[2:]) - high).max() <= 0.51
    assert small.sum() == pytest.approx((high - low).prod(), abs=1.1 * (high - low).sum())


# --- the stage ---

STEP, PART, FRAMES = 2, 8, 60
PAIRS = {("left", "Anna"): 0.0, ("left", "Bert"): 2.0, ("right", "Anna"): 4.0}


def spot(frame: int, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Mask and colour picture of an ellipse that wanders through a view of 96 x 80, over its edge at times."""
    rows, columns = np.mgrid[:80, :96]
    x, y = 48 + 44 * np.sin(0.12 * frame + phase), 40 + 30 * np.cos(0.1 * frame + phase)
    mask = ((columns - x) / 11) ** 2 + ((rows - y) / 7) ** 2 <= 1
    return mask, np.where(mask[..., None], (230, 60 + 80 * (phase > 1), 40), (0, 0, 0))


def seen(frame: int, subject: str) -> bool:
    return not (subject == "Bert" and (frame < 20 or 30 <= frame < 34))


def _config(crop: CropSettings) -> Config:
    """Two views; a tracker that needs no weights (its rows are written by hand)."""
    views = {"left": View(x=0, y=0, w=96, h=80), "right": View(x=104, y=0, w=96, h=80)}
    return Config(views=views, analyse=AnalyseSettings(every=STEP), track=TrackSettings(method="motion"), crop=crop)


def study(folder: Path, **crop: object) -> tuple[Project, Video]:
    """Footage of two views, and a finished track in parts of 8 analysed frames, written by hand."""
    frames = []
    for frame in range(FRAMES):
        picture = np.full((80, 200, 3), 90, np.uint8)
        for (view, subject), phase in PAIRS.items():
            if seen(frame, subject):
                left = 0 if view == "left" else 104
                mask, colour = spot(frame, phase)
                picture[:, left : left + 96][mask] = colour[mask]
        frames.append(picture)
    path = make_video(folder / "footage" / "clip.mp4", frames, crf=10)
    config = _config(CropSettings(**{"size": 64, **crop}))  # type: ignore[arg-type]
    clip = Video(name="clip", path=path, row=2, subjects=("Anna", "Bert"))
    project = Project(folder / "study", config, (clip,), {})
    timeline.run(project, clip)
    return project, clip


def write_track(project: Project, clip: Video) -> Artefact:
    target = track.artefact(project, clip)
    target.begin()
    chosen = timeline.analysed(project, clip)
    for k in range(0, len(chosen), PART):
        rows = []
        for frame, time in zip(chosen.frame[k : k + PART].tolist(), chosen.time[k : k + PART].tolist(), strict=True):
            for (view, subject), phase in sorted(PAIRS.items()):
                mask, _ = spot(frame, phase)
                row = {"video": "clip", "view": view, "subject": subject, "frame": frame, "time": time, "state": "lost"}
                if seen(frame, subject):
                    box = masks.box(mask)
                    assert box is not None
                    row |= dict(zip("xywh", map(float, box), strict=True)) | {"state": "tracked", "score": 0.9}
                    row |= {"area": int(mask.sum()), "rle": masks.encode(mask)}
                rows.append(row)
        write_parquet(target.path(f"part-{k // PART:05d}.parquet"), pa.Table.from_pylist(rows, schema=TRACK))
    target.finish()
    return target


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Video, Artefact]:
    project, clip = study(tmp_path_factory.mktemp("crops"))
    write_track(project, clip)
    return project, clip, crops.run(project, clip)


def content(artefact: Artefact) -> dict[str, bytes]:
    return {p.relative_to(artefact.folder).as_posix(): p.read_bytes() for p in artefact.folder.rglob("*") if p.is_file()}


def test_files_and_index(done: tuple[Project, Video, Artefact]) -> None:
    _, _, result = done
    assert result.complete()
    expected = sum(seen(frame, subject) for frame in range(0, FRAMES, STEP) for _, subject in PAIRS)
    assert result.facts()["crops"] == expected
    names = {name.rsplit("/", 1)[0] for name in result.files(".parquet")}
    assert names == {"left/Anna", "left/Bert", "right/Anna"}
    total = 0
    for name in result.files(".parquet"):
        table = result.table(name)
        assert table.schema.equals(CROP_INDEX)
        assert table["position"].to_pylist() == list(range(len(table)))
        total += len(table)
        mp4 = name.replace(".parquet", ".mp4")
        assert result.has(mp4) == (len(table) > 0)
        if len(table):
            assert sum(1 for _ in read_crops(result.checked(mp4))) == len(table)
    assert total == expected
    # Bert is not seen before frame 20 = analysed frame 10: his first part is empty, and says so.
    assert len(result.table("left/Bert/part-00000.parquet")) == 0


def test_the_subject_is_in_its_crop(done: tuple[Project, Video, Artefact]) -> None:
    """In every crop the mask lies on the animal's colour, all of the animal is in it, and beyond the view is grey."""
    _, _, result = done
    letterboxed = 0
    for name in result.files(".mp4"):
        table = result.table(name.replace(".mp4", ".parquet")).to_pylist()
        for row, picture in zip(table, read_crops(result.path(name)), strict=True):
            animal = spot(row["frame"], PAIRS[row["view"], row["subject"]])[0]
            mask = masks.decode(row["rle"], 64, 64)
            assert picture[mask][:, 0].mean() > 170
            assert mask.sum() == pytest.approx(animal.sum() * row["scale"] ** 2, rel=0.08)
            columns, rows = np.arange(64) + 0.5, np.arange(64)[:, None] + 0.5
            outside = (columns < row["valid_x"] - 2) | (columns > row["valid_x"] + row["valid_w"] + 2)
            outside = outside | (rows < row["valid_y"] - 2) | (rows > row["valid_y"] + row["valid_h"] + 2)
            if outside.any():
                letterboxed += 1
                assert np.abs(picture[outside].astype(int) - FILL).mean() < 12
            assert not (mask & outside).any()
    assert letterboxed > 5, "the footage should lead over the edge"


def test_smoothing_reaches_across_parts(done: tuple[Project, Video, Artefact]) -> None:
    """The squares equal those computed over the whole track at once."""
    project, clip, result = done
    tracks = track.artefact(project, clip)
    for view, subject in PAIRS:
        rows = pa.concat_tables([tracks.table(name) for name in tracks.files(".parquet")]).to_pandas()
        rows = rows[(rows.view == view) & (rows.subject == subject)]
        run = rows.x.isna().cumsum()[rows.x.notna()].to_numpy()
        rows = rows[rows.x.notna()]
        boxes = rows[["x", "y", "w", "h"]].to_numpy(float)
        whole = geometry(boxes, rows.time.to_numpy(), run, project.config.views[view], project.config.crop)
        names = [n for n in result.files(".parquet") if n.startswith(f"{view}/{subject}/")]
        stored = pa.concat_tables([result.table(name) for name in names]).to_pandas()
        assert stored.frame.tolist() == rows.frame.tolist()
        np.testing.assert_array_equal(stored[["src_x", "src_y", "src_w", "src_h"]].to_numpy(), whole.source.astype(np.float32))


def test_nothing_is_done_twice(done: tuple[Project, Video, Artefact], monkeypatch: pytest.MonkeyPatch) -> None:
    project, clip, _ = done
    monkeypatch.setattr(crops, "read_frames", lambda *_, **__: pytest.fail("decoded again"))
    assert crops.run(project, clip).complete()


def test_settings_change_the_stamp(done: tuple[Project, Video, Artefact]) -> None:
    project, clip, result = done
    other = Config(**{**project.config.model_dump(), "crop": {"size": 64, "mode": "paper"}})
    assert crops.artefact(Project(project.folder, other, project.videos, {}), clip).stamp != result.stamp


def test_paper_mode(tmp_path: Path) -> None:
    project, clip = study(tmp_path, mode="paper", size=96)
    tracks = write_track(project, clip)
    result = crops.run(project, clip)
    boxes = pa.concat_tables([tracks.table(n) for n in tracks.files(".parquet")]).to_pandas().dropna(subset=["x"])
    stored = pa.concat_tables([result.table(n) for n in result.files(".parquet")]).to_pandas()
    both = stored.merge(boxes, on=["view", "subject", "frame"])
    assert len(both) == len(stored) == len(boxes)
    expected = published_rectangle(both[["x", "y", "w", "h"]].to_numpy(float), 96, 80)
    back = both[["rect_x", "rect_y", "rect_w", "rect_h"]].to_numpy() / both[["scale"]].to_numpy()
    back[:, :2] += both[["src_x", "src_y"]].to_numpy()
    np.testing.assert_allclose(back, expected, atol=1e-4)
    assert (both.src_w.to_numpy() == expected[:, 2:].max(axis=1)).all()


def test_without_tracks(tmp_path: Path) -> None:
    project, clip = study(tmp_path)
    with pytest.raises(FoveateError, match="tracks are missing") as caught:
        crops.run(project, clip)
    assert caught.value.remedy


def test_one_decode_feeds_everything(
    done: tuple[Project, Video, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, clip, first = done
    taken: list[int] = []
    original = crops.read_frames

    def counting(path: Path, clock: object, wanted: np.ndarray) -> object:
        taken.extend(wanted.tolist())
        return original(path, clock, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(crops, "read_frames", counting)
    again = Project(tmp_path / "again", project.config, project.videos, {})
    timeline.run(again, clip)
    write_track(again, clip)
    second = crops.run(again, clip)
    assert taken == list(range(0, FRAMES, STEP))
    assert content(second) == content(first)


# --- killed runs ---

_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from foveate import crops
from tests import test_crops
project, clip = test_crops.study_of(Path(sys.argv[2]))
renames, rename = int(sys.argv[3]), os.replace
def dying(source, target):
    global renames
    if "/crops/" in str(target):
        renames -= 1
        if renames < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = dying
crops.run(project, clip)
"""


def study_of(folder: Path) -> tuple[Project, Video]:
    """The project that ``study`` made in ``folder``."""
    clip = Video(name="clip", path=folder / "footage" / "clip.mp4", row=2, subjects=("Anna", "Bert"))
    return Project(folder / "study", _config(CropSettings(size=64)), (clip,), {}), clip


@pytest.mark.parametrize("renames", [1, 6, 13])
def test_killed_and_run_again(done: tuple[Project, Video, Artefact], tmp_path: Path, renames: int) -> None:
    """SIGKILL before the n-th file gets its name; the next run keeps finished parts and ends with the same bytes."""
    project, clip = study(tmp_path)
    write_track(project, clip)
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", _KILLED, str(root), str(tmp_path), str(renames)]
    died = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    result = crops.artefact(project, clip)
    assert not result.complete()
    kept = {p: p.stat().st_mtime_ns for p in result.folder.rglob("part-*.parquet")}
    assert (len(kept) > 0) == (renames > 4)
    again = crops.run(project, clip)
    assert again.complete()
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "a finished part was made again"
    ours, theirs = content(again), content(done[2])
    assert ours.keys() == theirs.keys()
    assert [n for n in ours if n != "stamp.json" and ours[n] != theirs[n]] == []
    assert not list(again.folder.rglob(".*"))
