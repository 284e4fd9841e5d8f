"""Augmented vectors on a small real project: against direct computation, one draw per window, labels of flipped pictures, resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from foveate import annotations, crops, framestore, masks, timeline
from foveate.actions import copies, embed, labelwise, probe, sgd, training
from foveate.actions.augment import Draw, change, cut, draw
from foveate.models import pretrained
from foveate.project import Project, Video
from foveate.schema import LAYERS
from foveate.settings import ProbeSettings
from foveate.store import write_text
from foveate.video import read_frames
from tests.embedded import FRAMES, SIZE, VIEWS, make

torch.set_num_threads(1)

LABELS = """video,subject,behaviour,start,stop
v 1,anna,turning_left,0,1
v 1,anna,turning_right,1.5,2
v 1,bela,lie,0.5,2.5
"""


def settings(augment: str, window: int = 3, **more: Any) -> ProbeSettings:
    values = {"recipe": "paper", "feature": "subject", "augment": augment, "window": window, "copies": 3}
    return ProbeSettings.model_validate(values | more)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = make(tmp_path_factory.mktemp("copies") / "study")
    write_text(folder / "annotations" / "labels.csv", LABELS)
    text = (folder / "foveate.yaml").read_text() + "mirror: {turning_left: turning_right}\n"
    (folder / "foveate.yaml").write_text(text)
    project = Project.load(folder)
    annotations.run(project)
    for source in ("crop", "frame"):
        embed.run(project, project.videos[0], source)  # type: ignore[arg-type]
    return project


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BLOCK", 8)  # the video has 30 frames


def shown_at(project: Project, video: Video, settings: ProbeSettings) -> tuple[training.Data, sgd.Views, list[dict[str, Any]]]:
    """Data, what is trained on, and the keys of every augmented row."""
    done = copies.run(project, video, settings=settings)
    keys, _ = embed.read_parts(done, settings.feature, LAYERS)
    data = training.load(project, settings)
    return data, copies.views(project, data, settings)[0], keys.to_dict("records")


def frames_of(data: training.Data) -> dict[int, int]:
    """Frame of every row of the clean vectors that is the middle of a window; all are labelled here."""
    return dict(zip(data.rows.design.index[:, 1].tolist(), data.rows.keys["frame"].tolist(), strict=True))


def pictures_of(project: Project, video: Video, view: str, subject: str, source: str) -> dict[int, tuple[Any, Any]]:
    """Picture and mask of every frame in which the subject is seen."""
    out: dict[int, tuple[Any, Any]] = {}
    stage = crops.artefact(project, video)
    for name in stage.files(".parquet"):
        if name.split("/")[:2] != [view, subject]:
            continue
        for row, picture in zip(
            stage.table(name).to_pylist(), framestore.read_crops(stage.path(name.replace(".parquet", ".mp4"))), strict=True
        ):
            out[row["frame"]] = picture.copy(), masks.decode(row["rle"], *picture.shape[:2])
    if source == "frame":
        from foveate import track

        x, y, w, h = VIEWS[view]
        tracks = track.artefact(project, video)
        rles = {
            row["frame"]: row["rle"]
            for name in tracks.files()
            for row in tracks.table(name).to_pylist()
            if (row["view"], row["subject"]) == (view, subject) and row["rle"]
        }
        frames = np.array(sorted(out))
        whole = read_frames(video.path, timeline.load(project, video), frames)
        out = {
            int(t): (p[y : y + h, x : x + w].copy(), masks.decode(rles[int(t)], h, w))
            for t, p in zip(frames, whole, strict=True)
        }
    return out


def direct(project: Project, picture: NDArray[np.uint8], mask: NDArray[np.bool_], how: Draw) -> NDArray[np.float32]:
    """``[last | third_last]`` subject vector of one changed picture, through the backbone alone."""
    backbone = pretrained.load_backbone(str(project.folder / "runs" / "tiny"), torch.device("cpu"))
    image = torch.from_numpy(change(picture, how).copy()).permute(2, 0, 1)[None]
    image = pretrained.resize(image, SIZE, SIZE)
    share = pretrained.patch_share(torch.from_numpy(cut(mask, how)[None].astype(np.float32).copy()), 3, 3)
    found = backbone.embed(image, share)
    return np.concatenate([found[f"subject_{layer}"][0].numpy() for layer in LAYERS])


@pytest.mark.parametrize("source", ["crop", "frame"])
def test_cached_windows_share_a_draw_and_are_what_they_say(study: Project, source: str) -> None:
    video, chosen = study.videos[0], settings("cached", source=source)
    data, seen, keys = shown_at(study, video, chosen)
    assert len(keys) == 3 * len(embed.load_vectors(study, video, "cls", "last", source)[0])  # type: ignore[arg-type]
    rows = data.rows.keys.to_dict("records")
    assert seen.index.shape == (3, len(rows), 3) and sgd.PASSES == copies.PASSES == 3
    used = []
    for i, row in enumerate(rows):
        block = row["frame"] // 8
        for p in range(3):
            window = [keys[k] for k in seen.index[p, i]]
            assert len({w["aug"] for w in window}) == 1
            assert {(w["view"], w["subject"]) for w in window} == {(row["view"], row["subject"])}
            assert window[1]["frame"] == row["frame"] and {w["frame"] // 8 for w in window} == {block}
            used.append((i, window[1]["aug"]))
            how = draw(video.name, row["view"], "block", block, window[1]["aug"] - 1)
            expected = data.rows.truth[i]
            if how.flip:
                order = [data.behaviours.index(b) for b in ("turning_left", "turning_right")]
                expected = expected.copy()
                expected[order] = expected[order[::-1]]
            np.testing.assert_array_equal(seen.target[p, i], expected)
    assert len(set(used)) == 3 * len(rows)  # each row in three different copies
    for i in (0, len(rows) // 2, len(rows) - 1):
        row = rows[i]
        picture, mask = pictures_of(study, video, row["view"], row["subject"], source)[row["frame"]]
        key = keys[seen.index[1, i, 1]]
        how = draw(video.name, row["view"], "block", row["frame"] // 8, key["aug"] - 1)
        np.testing.assert_allclose(
            seen.vectors[seen.index[1, i, 1]].astype(np.float32), direct(study, picture, mask, how), atol=5e-3
        )


def test_paper_draws_anew_for_every_window_and_pass(study: Project) -> None:
    video, chosen = study.videos[0], settings("paper")
    data, seen, keys = shown_at(study, video, chosen)
    clean = embed.load_vectors(study, video, "cls", "last")[0]
    assert 3 * len(clean) < len(keys) < 3 * 3 * len(clean)  # windows at edges show a frame twice, it is computed once
    np.testing.assert_array_equal(seen.target, np.repeat(data.rows.truth[None], 3, axis=0))  # nothing is swapped
    rows, frames = data.rows.keys.to_dict("records"), frames_of(data)
    for i, row in enumerate(rows):
        for p in range(3):
            window = [keys[k] for k in seen.index[p, i]]
            assert [w["frame"] for w in window] == [frames[k] for k in data.rows.design.index[i]]
            assert window[1]["frame"] == row["frame"]
            assert {(w["view"], w["subject"]) for w in window} == {(row["view"], row["subject"])}
    assert len({tuple(seen.index[p, i]) for p in range(3) for i in range(len(rows))}) == 3 * len(rows)
    for i, p in ((1, 0), (len(rows) // 2, 2)):
        row = rows[i]
        looks = pictures_of(study, video, row["view"], row["subject"], "crop")
        how = draw(video.name, row["view"], "window", row["frame"], p)
        for k in seen.index[p, i]:
            picture, mask = looks[keys[k]["frame"]]
            np.testing.assert_allclose(seen.vectors[k].astype(np.float32), direct(study, picture, mask, how), atol=5e-3)


def test_unpaired_left_and_right_turn_flips_off(study: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study.folder, tmp_path / "study"))
    text = (folder / "foveate.yaml").read_text().replace("mirror: {turning_left: turning_right}\n", "")
    (folder / "foveate.yaml").write_text(text)
    project = Project.load(folder)
    video, chosen = project.videos[0], settings("cached")
    paired, unpaired = (
        copies.artefact(study, study.videos[0], settings=chosen),
        copies.artefact(project, video, settings=chosen),
    )
    assert unpaired.settings == {**paired.settings, "flips": False}
    data, seen, _ = shown_at(project, video, chosen)
    np.testing.assert_array_equal(seen.target, np.repeat(data.rows.truth[None], 3, axis=0))
    assert "not flipped: turning_left, turning_right" in copies.views(project, data, chosen)[1][0]
    paper = copies.artefact(project, video, settings=settings("paper"))
    assert paper.settings == {"augment": "paper", "window": 3}
    assert paper.stamp != copies.artefact(project, video, settings=settings("paper", window=5)).stamp


def test_no_augmentation_is_the_rows_themselves(study: Project) -> None:
    chosen = settings("none")
    data = training.load(study, chosen)
    seen, notes = copies.views(study, data, chosen)
    clean = labelwise.clean_views(data)
    assert notes == [] and seen.index is not None
    np.testing.assert_array_equal(seen.vectors, clean.vectors)
    np.testing.assert_array_equal(seen.index, clean.index)


@pytest.mark.parametrize("augment", ["cached", "paper"])
def test_interrupted_and_resumed(study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str) -> None:
    project = Project.load(shutil.copytree(study.folder, tmp_path / "study"))
    video, chosen = project.videos[0], settings(augment, copies=2)
    clean = embed.artefact(project, video)
    before = {name: clean.path(name).read_bytes() for name in [*clean.files(), "stamp.json"]}
    shutil.rmtree(copies.artefact(project, video, settings=chosen).folder, ignore_errors=True)
    real = embed.write_part

    def interrupted(path: Path, *rest: Any) -> None:
        if path.name == "part-00001.arrow":
            raise KeyboardInterrupt
        real(path, *rest)

    monkeypatch.setattr(embed, "write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copies.run(project, video, settings=chosen)
    monkeypatch.setattr(embed, "write_part", real)
    done = copies.run(project, video, settings=chosen)
    other = copies.run(study, study.videos[0], settings=chosen)
    assert done.files() == other.files() == ["part-00000.arrow", "part-00001.arrow"]
    for name in done.files():
        assert done.path(name).read_bytes() == other.path(name).read_bytes()
    assert clean.complete() and before == {name: clean.path(name).read_bytes() for name in before}
    with pa.memory_map(str(done.path("part-00000.arrow"))) as mapped:
        assert min(pa.ipc.open_file(mapped).read_all()["aug"].to_pylist()) == 1
    monkeypatch.setattr(copies, "load_backbone", lambda *_: pytest.fail("complete: nothing to do"))
    copies.run(project, video, settings=chosen)


@pytest.mark.parametrize("augment", ["cached", "paper"])
def test_the_probe_is_trained_on_them(study: Project, augment: str) -> None:
    """One video is one group: no folds, no choice, but a probe, with the warning as a note."""
    chosen = settings(augment)
    for video in study.videos:
        copies.run(study, video, settings=chosen)
    done = probe.run(study, augment, chosen)
    notes = " ".join(done.facts()["notes"])
    assert ("without swapping left and right" in notes) == (augment == "paper")
    data = training.load(study, chosen)
    plain = labelwise.carry_out(
        labelwise.jobs(data, 0)[0], labelwise.clean_views(data), labelwise.clean_views(data), chosen.seed
    )
    assert not np.allclose(probe.load_probe(study, augment, chosen).weight[0], plain.weight)
    assert len(data.rows.keys) < 3 * FRAMES
