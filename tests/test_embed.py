"""Stage embed on a small real project: vectors against direct computation, both sources, resuming, faults."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foveate import crops, framestore, masks, timeline, track
from foveate.actions import embed
from foveate.data.ahead import AHEAD, Ahead
from foveate.models import pretrained
from foveate.project import Project, Video
from foveate.schema import LAYERS, TRACK, FoveateError, embedding_schema
from foveate.store import Artefact, write_parquet
from foveate.video import read_frames
from tests.embedded import FRAMES, NAMES, SIZE, SPLIT, VIEWS, make, tiny_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("study") / "a study ü")


@pytest.fixture
def study(base: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; times of modification stay, because stamps know them."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Video]:
    """A finished copy, not to be changed."""
    project = Project.load(shutil.copytree(base, tmp_path_factory.mktemp("done") / "copy"))
    torch.set_num_threads(1)
    for source in ("crop", "frame"):
        embed.run(project, project.videos[0], source)  # type: ignore[arg-type]
    return project, project.videos[0]


def expected_rows() -> list[tuple[str, str, int]]:
    """(view, subject, frame) in the order on disk."""
    rows = []
    for frames in (range(SPLIT), range(SPLIT, FRAMES)):
        for view, subject in (("left", "anna"), ("left", "bela"), ("right", "anna")):
            rows += [(view, subject, t) for t in frames if (view, subject, t) != ("left", "anna", 5)]
    return rows


def direct(project: Project, picture: Any, mask: Any) -> dict[str, Any]:
    """One picture through the backbone alone, resized by PIL."""
    from PIL import Image

    backbone = pretrained.load_backbone(str(project.folder / "runs" / "tiny"), torch.device("cpu"))
    small = np.array(Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    image = torch.from_numpy(small).permute(2, 0, 1)[None]
    found = backbone.embed(image, torch.from_numpy(mask[None].astype(np.float32)))
    return {name: value[0].numpy() for name, value in found.items()}


def vectors(project: Project, video: Video, source: str = "crop") -> tuple[Any, dict[str, Any]]:
    found = {name: embed.load_vectors(project, video, *name.split("_", 1), source) for name in NAMES}  # type: ignore[arg-type]
    return next(iter(found.values()))[0], {name: x for name, (_, x) in found.items()}


@pytest.mark.parametrize("source", ["crop", "frame"])
def test_rows_are_those_with_a_box(done: tuple[Project, Video], source: str) -> None:
    project, video = done
    keys, x = vectors(project, video, source)
    assert list(zip(keys["view"], keys["subject"], keys["frame"], strict=True)) == expected_rows()
    assert set(keys["video"]) == {"v 1"}
    clock = timeline.analysed(project, video)
    np.testing.assert_array_equal(keys["time"], clock.time[keys["frame"]])
    for values in x.values():
        assert values.shape == (len(keys), 24)
        assert values.dtype == np.float32


def test_crop_vectors_against_direct_computation(done: tuple[Project, Video]) -> None:
    project, video = done
    keys, x = vectors(project, video)
    stage = crops.artefact(project, video)
    for name in stage.files(".parquet"):
        index = stage.table(name).to_pylist()
        if not index:  # bela is never in the right view
            continue
        pictures = list(framestore.read_crops(stage.path(name).with_suffix(".mp4")))
        for row in (index[0], index[-1]):
            at = keys.index[
                (keys["view"] == row["view"]) & (keys["subject"] == row["subject"]) & (keys["frame"] == row["frame"])
            ][0]
            found = direct(project, pictures[row["position"]], masks.decode(row["rle"], 64, 64))
            for key, value in found.items():
                np.testing.assert_allclose(x[key][at], value, atol=0.02)  # PIL rounds its resize within one level, fp16
    assert np.abs(x["cls_last"] - x["cls_third_last"]).max() > 0.1
    assert np.abs(x["subject_last"] - x["patch_last"]).max() > 0.1


def test_frame_vectors_against_direct_computation(done: tuple[Project, Video]) -> None:
    project, video = done
    keys, x = vectors(project, video, "frame")
    footage = list(read_frames(video.path, timeline.load(project, video), np.arange(FRAMES)))
    tracks = track.artefact(project, video)
    rows = [row for name in tracks.files(".parquet") for row in tracks.table(name).to_pylist()]
    rle = {(r["view"], r["subject"], r["frame"]): r["rle"] for r in rows}
    for at in (0, 6, 25, len(keys) - 1):
        view, subject, frame = keys.loc[at, ["view", "subject", "frame"]]
        left, top, width, height = VIEWS[view]
        picture = np.ascontiguousarray(footage[frame][top : top + height, left : left + width])
        for key, value in direct(project, picture, masks.decode(rle[view, subject, frame], 96, 96)).items():
            np.testing.assert_allclose(x[key][at], value, atol=0.02)


def test_one_view_is_one_vector_for_all_its_subjects(done: tuple[Project, Video]) -> None:
    project, video = done
    keys, x = vectors(project, video, "frame")
    anna, bela = (
        keys.index[(keys["view"] == "left") & (keys["subject"] == s) & (keys["frame"] == 7)][0] for s in ("anna", "bela")
    )
    for layer in LAYERS:
        for feature in ("cls", "patch"):
            np.testing.assert_array_equal(x[f"{feature}_{layer}"][anna], x[f"{feature}_{layer}"][bela])
        assert np.abs(x[f"subject_{layer}"][anna] - x[f"subject_{layer}"][bela]).max() > 0.1


def test_each_view_of_a_frame_is_looked_at_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.load(study)
    count = []
    real = pretrained.Backbone.tokens

    def counted(self: Any, images: Any, *rest: Any) -> Any:
        count.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(pretrained.Backbone, "tokens", counted)
    embed.run(project, project.videos[0], "frame")
    assert sum(count) == 2 * FRAMES
    assert max(count) == 8


def test_paper_mode_looks_at_the_published_rectangle(study: Path) -> None:
    text = (study / "foveate.yaml").read_text()
    (study / "foveate.yaml").write_text(text.replace("{size: 64, smooth: 0}", "{size: 64, mode: paper}"))
    project = Project.load(study)
    video = project.videos[0]
    crops.run(project, video)
    embed.run(project, video)
    keys, x = vectors(project, video)
    stage = crops.artefact(project, video)
    name = "right/anna/part-00001"
    row = stage.table(f"{name}.parquet").to_pylist()[3]
    picture = list(framestore.read_crops(stage.path(f"{name}.mp4")))[3]
    left, top, right, bottom = (
        round(v) for v in (row["rect_x"], row["rect_y"], row["rect_x"] + row["rect_w"], row["rect_y"] + row["rect_h"])
    )
    assert (right - left) > 1.2 * (bottom - top)  # 30 x 20 pixels with 10 % around: not a square
    found = direct(
        project, np.ascontiguousarray(picture[top:bottom, left:right]), masks.decode(row["rle"], 64, 64)[top:bottom, left:right]
    )
    at = keys.index[(keys["view"] == "right") & (keys["frame"] == row["frame"])][0]
    for key, value in found.items():
        np.testing.assert_allclose(x[key][at], value, atol=0.02)


# --- on disk ---


def files(artefact: Artefact) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in artefact.folder.rglob("*") if p.is_file()}


def test_parts_are_mapped_arrow_files_of_the_contract(done: tuple[Project, Video]) -> None:
    project, video = done
    stage = embed.artefact(project, video)
    assert stage.files() == ["part-00000.arrow", "part-00001.arrow"]
    assert stage.folder.parent.name.startswith("tiny-")
    for name in stage.files():
        with pa.memory_map(str(stage.path(name))) as mapped:
            before = pa.total_allocated_bytes()
            table = pa.ipc.open_file(mapped).read_all()
            assert pa.total_allocated_bytes() - before < 1000  # nothing was copied
            assert table.schema.equals(embedding_schema(24))
            assert set(table["aug"].to_pylist()) == {0}
    assert stage.facts() == {"model": "runs/tiny", "source": "crop", "width": 24, "rows": len(expected_rows())}


@pytest.mark.parametrize("source", ["crop", "frame"])
def test_an_interrupted_run_ends_with_the_same_bytes(
    source: Any, done: tuple[Project, Video], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files(embed.artefact(*done, source))
    project = Project.load(study)
    video = project.videos[0]
    real = embed.write_part

    def interrupted(path: Path, *rest: Any) -> None:
        if path.name == "part-00001.arrow":
            raise KeyboardInterrupt
        real(path, *rest)

    monkeypatch.setattr(embed, "write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed.run(project, video, source)
    stage = embed.artefact(project, video, source)
    assert not stage.complete()
    first = stage.path("part-00000.arrow")
    before = first.stat().st_mtime_ns
    monkeypatch.setattr(embed, "write_part", real)
    embed.run(project, video, source)
    assert first.stat().st_mtime_ns == before  # kept, not made again
    assert files(stage) == whole
    calls: list[Any] = []
    monkeypatch.setattr(embed, "kept_backbone", calls.append)
    embed.run(project, video, source)  # complete: nothing to do
    assert calls == []


def test_progress_ends_at_the_total(study: Path) -> None:
    project = Project.load(study)
    seen: list[tuple[int, int]] = []
    embed.run(project, project.videos[0], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(expected_rows()), len(expected_rows()))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert len(seen) > 4


def test_the_stamp_follows_what_can_change_the_vectors(study: Path) -> None:
    text = (study / "foveate.yaml").read_text()

    def stage(old: str = "", new: str = "", source: Any = "crop") -> Artefact:
        (study / "foveate.yaml").write_text(text.replace(old, new) if old else text)
        project = Project.load(study)
        return embed.artefact(project, project.videos[0], source)

    same, other = stage(), stage("image_size: 42", "image_size: 56")
    assert stage("batch: 8", "batch: 3").stamp == same.stamp
    assert other.stamp != same.stamp
    assert other.folder != same.folder
    assert stage(source="frame").folder != same.folder
    assert stage("smooth: 0", "smooth: 2").stamp != same.stamp
    tiny_model(study / "runs" / "tiny", seed=1)
    assert stage().stamp != same.stamp


def test_the_batch_size_changes_rounding_only(done: tuple[Project, Video], study: Path) -> None:
    _, x = vectors(*done)
    (study / "foveate.yaml").write_text((study / "foveate.yaml").read_text().replace("batch: 8", "batch: 3"))
    project = Project.load(study)
    embed.run(project, project.videos[0])
    for name, values in vectors(project, project.videos[0])[1].items():
        np.testing.assert_allclose(values, x[name], atol=5e-3)


def test_the_stage_is_imported_without_torch() -> None:
    code = "import sys, foveate.actions.embed; assert not {'torch', 'transformers', 'pandas', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- faults ---


def test_without_crops_it_says_so(study: Path) -> None:
    project = Project.load(study)
    crops.artefact(project, project.videos[0]).discard()
    with pytest.raises(FoveateError, match="crop is missing") as caught:
        embed.run(project, project.videos[0])
    assert caught.value.remedy


def test_a_damaged_crop_file_is_named(study: Path) -> None:
    project = Project.load(study)
    path = crops.artefact(project, project.videos[0]).path("left/bela/part-00001.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(FoveateError, match="damaged") as caught:
        embed.run(project, project.videos[0])
    assert caught.value.file == path


def test_an_index_that_does_not_fit_its_file(study: Path) -> None:
    project = Project.load(study)
    stage = crops.artefact(project, project.videos[0])
    facts = stage.facts()
    index = stage.path("left/bela/part-00001.parquet")
    write_parquet(index, stage.table("left/bela/part-00001.parquet").slice(0, 4))
    stage.finish(facts)
    with pytest.raises(FoveateError, match="index of 4 rows") as caught:
        embed.run(project, project.videos[0])
    assert Path(str(caught.value.file)).name == "part-00001.mp4"


def test_a_damaged_part_is_named_when_read(study: Path) -> None:
    project = Project.load(study)
    video = project.videos[0]
    stage = embed.run(project, video)
    path = stage.path("part-00001.arrow")
    data = bytearray(path.read_bytes())
    data[-300] ^= 255
    path.write_bytes(data)
    with pytest.raises(FoveateError, match="damaged") as caught:
        embed.load_vectors(project, video, "cls", "last")
    assert caught.value.file == path


def test_vectors_that_are_missing(study: Path) -> None:
    project = Project.load(study)
    with pytest.raises(FoveateError, match="missing or out of date"):
        embed.load_vectors(project, project.videos[0], "cls", "last")
    with pytest.raises(ValueError, match="no vectors called"):
        embed.load_vectors(project, project.videos[0], "cls", "second")


def test_a_model_that_gives_no_numbers(study: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = study / "runs" / "tiny" / "model.safetensors"
    weights = load_file(path)
    weights["layernorm.bias"] += 1e6  # beyond half precision
    save_file(weights, path, metadata={"format": "pt"})
    project = Project.load(study)
    with pytest.raises(FoveateError, match="not finite"):
        embed.run(project, project.videos[0])


def test_a_full_gpu_says_what_to_turn(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pretrained.Backbone, "tokens", full)
    project = Project.load(study)
    with pytest.raises(FoveateError, match="memory is full") as caught:
        embed.run(project, project.videos[0])
    assert "embed.batch" in str(caught.value.remedy)


def test_a_video_in_which_nobody_is_seen(study: Path) -> None:
    project = Project.load(study)
    video = project.videos[0]
    tracks = track.artefact(project, video)
    gone = {
        name: pa.nulls(SPLIT, kind)
        for name, kind in (("x", pa.float32()), ("y", pa.float32()), ("w", pa.float32()), ("h", pa.float32()))
    }
    keys = {"video": ["v 1"] * SPLIT, "view": ["left"] * SPLIT, "subject": ["anna"] * SPLIT, "frame": range(SPLIT)}
    table = pa.table(
        {**keys, "time": np.arange(SPLIT) / 10, "state": ["lost"] * SPLIT, **gone, "rle": pa.nulls(SPLIT, pa.binary())}
    )
    rows = [{**dict.fromkeys(TRACK.names), **row} for row in table.to_pylist()]
    tracks.discard()
    tracks.begin()
    write_parquet(tracks.path("part-00000.parquet"), pa.Table.from_pylist(rows, schema=TRACK))
    tracks.finish({})
    crops.artefact(project, video).discard()
    crops.run(project, video)
    for source in ("crop", "frame"):
        embed.run(project, video, source)  # type: ignore[arg-type]
        keys_, x = embed.load_vectors(project, video, "subject", "last", source)  # type: ignore[arg-type]
        assert x.shape == (0, 24)
        assert list(keys_) == ["video", "view", "subject", "frame", "time"]


# --- reading ahead ---


def test_reading_ahead_keeps_order_and_stays_bounded() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    with Ahead(source()) as ahead:
        assert next(ahead) == 0
        time.sleep(0.3)
        assert len(made) <= 1 + AHEAD + 1
        assert list(ahead) == list(range(1, 20))


def test_errors_arrive_where_the_item_would_have() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise FoveateError("broken")

    with Ahead(source()) as ahead:
        assert next(ahead) == 1
        with pytest.raises(FoveateError, match="broken"):
            next(ahead)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="enough"), Ahead(source()) as ahead:
        next(ahead)
        raise RuntimeError("enough")
    assert threading.active_count() == before
    assert closed == [True]
