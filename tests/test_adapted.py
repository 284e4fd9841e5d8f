"""Adapters in a project: trained fold by fold on windows, scored, predicted and compared like any probe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate import run
from foveate.actions import adapted, predict, probe, tokens, training
from foveate.data.camera import moves, shift
from foveate.methods.amflow import AmFlow, AmFlowConfig
from foveate.methods.amflow_saved import load_adapters, save_adapters
from foveate.models.vit import Vit, VitConfig
from foveate.project import Project
from foveate.report.scores import in_words
from foveate.schema import FoveateError, prediction_schema
from foveate.store import write_text
from tests.embedded import make
from tests.pipeline import contents

ADAPT = "{image_size: 28, first: 2, inner: 8, steps: 4, batch: 4, copies: 2, rate: 0.01}"
LABELS = "".join(
    f"v {k + 1},{animal}{k or ''},{behaviour},{start},{stop}\n"
    for k in range(4)
    for animal, behaviour, start, stop in (
        ("anna", "turning_left", 0, 1),
        ("anna", "turning_right", 1.5, 2),
        ("bela", "lie", 0.5, 2.5),
    )
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four annotated videos and one other, of two groups, and a tiny backbone."""
    folder = make(tmp_path_factory.mktemp("adapted") / "study", videos=5)
    write_text(folder / "annotations" / "labels.csv", "video,subject,behaviour,start,stop\n" + LABELS)
    more = (
        f"mirror: {{turning_left: turning_right}}\nprobe: {{window: 3, folds: 2, adapt: {ADAPT}}}\ncompare: {{videos: all}}\n"
    )
    write_text(folder / "foveate.yaml", (folder / "foveate.yaml").read_text() + more)
    rows = (folder / "videos.csv").read_text().splitlines()
    groups = ["group", "a", "a", "b", "b", "b"]
    write_text(folder / "videos.csv", "".join(f"{row},{group}\n" for row, group in zip(rows, groups, strict=True)))
    return folder


@pytest.fixture(scope="module")
def done(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with adapters, predictions and a comparison by them."""
    folder = tmp_path_factory.mktemp("done") / "study"
    shutil.copytree(made, folder)
    outcome = run.run(Project.load(folder), "compare", workers=1, probe="adapted")
    assert outcome.ok, [str(one.error) for one in outcome.failures]
    return Project.load(folder)


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "study")
    return Project.load(tmp_path / "study")


def test_adapters_leave_what_a_probe_leaves(done: Project) -> None:
    found = probe.artefact(done, "adapted")
    assert found.complete() and not list(found.folder.glob("training-*"))
    assert {f"adapters-{k}.safetensors" for k in range(3)} | {f"metrics-{k}.jsonl" for k in range(3)} <= set(found.files())
    facts = found.facts()
    assert facts["folds"] == 2 and facts["adapters"]["camera"] in ("static", "moving") and facts["adapters"]["trained"] > 0
    about = json.loads(found.checked("probe.json").read_text())
    video = done.videos[-1]  # nobody annotated it
    table = predict.artefact(done, video, "adapted").table("predictions.parquet")
    assert table.schema.equals(prediction_schema(tuple(about["behaviours"])))
    assert set(table["model"].to_pylist()) == {"final"}
    assert (done.folder / "comparison" / "adapted").is_dir() and (done.folder / "predictions" / "adapted").is_dir()
    assert not (done.folder / "probes" / "default").exists()  # nobody asked for it
    settings = probe.load_probe(done, "adapted").settings
    assert settings.recipe == "adapters" and settings.window == 3 and "block 2" in in_words(settings)


def test_a_training_video_is_predicted_by_the_fold_that_never_saw_it(done: Project) -> None:
    """What predict says of annotated frames, view by view, is what the scores were made of."""
    found = probe.artefact(done, "adapted")
    folds = found.table("folds.parquet").to_pandas()
    assert set(folds["model"]) == {"fold-0", "fold-1"}
    behaviours = json.loads(found.checked("probe.json").read_text())["behaviours"]
    keys = ["video", "view", "subject", "frame"]
    for video in done.videos[:2]:
        said = predict.artefact(done, video, "adapted").table("predictions.parquet").to_pandas()
        both = folds[folds["video"] == video.name].merge(said, on=keys, suffixes=("_scored", "_said"))
        assert len(both) and (both["model_scored"] == both["model_said"]).all()
        for behaviour in behaviours:
            np.testing.assert_allclose(both[f"prob_{behaviour}_scored"], both[f"prob_{behaviour}_said"], atol=2e-6)


def test_folds_learn_from_the_other_videos_alone(done: Project) -> None:
    """Other labels in the videos of one fold change the adapters of every model but that fold's."""
    settings = probe.settings_of(done, "adapted")
    data = training.load(done, settings)
    windows, _ = adapted.gather(done, "adapted", data, settings)
    rows = data.everything
    fold = data.of_rows(data.fold_of, rows=rows)
    train = np.arange(len(data.rows.keys))
    labels = np.stack([adapted._labels(rows.truth)] * 3)
    other = labels.copy()
    other[:, fold == 0] = 1 - other[:, fold == 0]
    use = train[fold[train] != 0]
    one, two = (next(adapted.Batches(windows, use, some, 4, 0).batches(5)) for some in (labels, other))
    assert one.labels is not None and two.labels is not None and torch.equal(one.labels, two.labels)
    whole = [next(adapted.Batches(windows, train, some, 64, 0).batches(0)).labels for some in (labels, other)]
    assert not torch.equal(*whole)  # type: ignore[arg-type]


def test_a_window_is_its_frames_tokens(done: Project) -> None:
    settings = probe.settings_of(done, "adapted")
    data = training.load(done, settings)
    windows, _ = adapted.gather(done, "adapted", data, settings)
    rows = data.everything
    number = int(np.flatnonzero((rows.keys["frame"] == 10).to_numpy())[1])
    key = rows.keys.iloc[number]
    stored = windows.videos[windows.of[number]]
    for copy in (0, 2):
        frames = windows.take(np.array([number]), np.array([copy]))[0]
        same = stored.keys.to_pandas().query("view == @key.view and subject == @key.subject").reset_index()
        place = int(np.flatnonzero((same["frame"] == key.frame).to_numpy())[0])
        assert 0 < place < len(same) - 1
        for offset, tokens_ in zip((-1, 0, 1), frames, strict=True):
            assert np.array_equal(tokens_, stored.parts[0][same["index"][place + offset], copy])
    batches = adapted.Batches(windows, np.arange(40), np.zeros((3, len(rows.keys), 2), np.float32), 8, 0)
    later, again = batches.batches(3), adapted.Batches(windows, np.arange(40), batches.labels, 8, 0).batches()
    expected = [next(again) for _ in range(5)]
    assert torch.equal(next(later).tokens, expected[3].tokens) and torch.equal(next(later).tokens, expected[4].tokens)  # type: ignore[arg-type]


def test_an_interrupted_training_ends_with_the_same_bytes(
    done: Project, study: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate.train import checkpoint, loop

    class Killed(Exception):
        pass

    steps, once = loop._step, []

    def step(state: Any, batch: Any) -> None:
        if "training-1" in str(state.folder) and state.step == 2 and not once:
            once.append(state.step)
            checkpoint.save(state.folder / "resume", 2, state.method, state.optimiser, loop._facts(state), state.world)
            raise Killed
        steps(state, batch)

    monkeypatch.setattr(loop, "_step", step)
    outcome = run.run(study, "probe", workers=1, probe="adapted")
    assert not outcome.ok and once == [2]
    assert probe.artefact(study, "adapted").path("adapters-0.safetensors").is_file()
    assert run.run(study, "probe", workers=1, probe="adapted").ok
    one, two = (
        {name: sha for name, sha in contents(one.folder).items() if name.startswith(("probes/", "embeddings/"))}
        for one in (done, study)
    )
    assert one == two and len(one) > 10


def test_blocks_are_chosen_by_optical_flow(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = probe.settings_of(done, "adapted")
    settings = settings.model_copy(update={"adapt": settings.adapt.model_copy(update={"placement": "auto", "first": 1})})
    data = training.load(done, settings)
    windows, shifts = adapted.gather(done, "adapted", data, probe.settings_of(done, "adapted"))
    config, _ = adapted.config_of(done, data.behaviours, settings, shifts)
    target = replace(probe.artefact(done, "adapted"), folder=tmp_path)
    with pytest.raises(FoveateError, match="nothing moves"):  # the animals are in the middle of their crops
        adapted.placed(done, target, windows, data, config, settings)
    monkeypatch.setattr("foveate.attention.flow._MOVES", 0.0)
    chosen = adapted.placed(done, target, windows, data, config, settings)
    lines = [line.split(",") for line in (tmp_path / "placement.csv").read_text().splitlines()]
    assert lines[0] == ["block", "agreement", "chosen"] and len(lines) == 5
    values = np.array([float(line[1]) for line in lines[1:]])
    assert chosen == tuple(sorted(1 + np.argsort(-values[1:], kind="stable")[:2]))
    assert [int(line[0]) for line in lines[1:] if line[2] == "1"] == list(chosen)
    assert (tmp_path / "placement.svg").stat().st_size > 1000 and (tmp_path / "placement.png").stat().st_size > 1000
    # A row's picture is the one that its tokens are of.
    video, row = data.train[0], np.array([5, 25])
    shown = tokens.pictures(done, video, settings, row)
    vit, stored = tokens.backbone(done, settings), tokens.load(done, video, "adapted")
    for number in row.tolist():
        picture = tokens.normalised(torch.from_numpy(shown[number]).permute(2, 0, 1)[None])
        expected = torch.from_numpy(stored.take(np.array([number]), np.array([0]))).float()
        torch.testing.assert_close(vit.until(picture, 2), expected, atol=5e-3, rtol=5e-3)


def test_the_camera_can_be_said(study: Project) -> None:
    for name, camera in (("adapted", "auto"), ("adapted-moving", "moving"), ("adapted-static", "static")):
        settings = probe.settings_of(study, name)
        assert settings.adapt.camera == camera and settings.adapt.inner == 8
    assert adapted.config_of(study, ("a",), probe.settings_of(study, "adapted-moving"), np.array([0.0]))[0].camera == "moving"
    auto = probe.settings_of(study, "adapted")
    assert adapted.config_of(study, ("a",), auto, np.array([0.0, np.nan, 1.9]))[0].camera == "static"
    assert adapted.config_of(study, ("a",), auto, np.array([5.0, np.nan, 2.1]))[0].camera == "moving"


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"first": 4}, "the model has 4 blocks"), ({"image_size": 30}, "no multiple of the model's patch")],
)
def test_what_does_not_fit_the_backbone_is_said(study: Project, change: dict[str, int], problem: str) -> None:
    settings = probe.settings_of(study, "adapted")
    settings = settings.model_copy(update={"adapt": settings.adapt.model_copy(update=change)})
    with pytest.raises(FoveateError, match=problem) as error:
        tokens.backbone(study, settings)
    assert error.value.remedy


def test_mirrored_copies_obey_the_labels(study: Project) -> None:
    flips = [None if how is None else how.flip for how in tokens.changes("a", 4, True)]
    assert flips == [None, True, False, True, False]
    assert not any(how.flip for how in tokens.changes("a", 4, False) if how is not None)
    assert tokens.changes("a", 2, True) == tokens.changes("a", 2, True) != tokens.changes("b", 2, True)
    run.run(study, "labels")
    assert tokens.flips(study)  # turning_left and turning_right are a pair
    unpaired = replace(study, config=study.config.model_copy(update={"mirror": {}}))
    assert not tokens.flips(unpaired)


def test_saved_adapters_want_their_backbone(tmp_path: Path) -> None:
    def vit(seed: int) -> Vit:
        torch.manual_seed(seed)
        return Vit(VitConfig(image_size=32, patch=8, width=24, depth=2, heads=4)).eval()

    method = AmFlow(vit(0), AmFlowConfig(classes=2, frames=2, size=32, inner=8, placement=(1,)))
    with torch.no_grad():
        for value in method.trained().values():
            value.normal_(std=0.1)
    path = tmp_path / "a.safetensors"
    save_adapters(path, method, {"behaviours": ["a", "b"]})
    assert path.stat().st_size < 60_000  # the backbone is not in it
    again, about = load_adapters(path, vit(0))
    clip = torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(clip), method.eval()(clip)) and about == {"behaviours": ["a", "b"]}
    with pytest.raises(FoveateError, match="another backbone"):
        load_adapters(path, vit(1))
    with pytest.raises(FoveateError, match="no adapters here"):
        load_adapters(tmp_path / "b.safetensors", vit(0))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FoveateError, match="damaged"):
        load_adapters(path, vit(0))


def test_how_far_most_of_the_picture_moves() -> None:
    generator = np.random.default_rng(0)
    world = generator.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    world = np.asarray(
        torch.nn.functional.avg_pool2d(torch.from_numpy(world).permute(2, 0, 1).float(), 5, 1, 2).permute(1, 2, 0)
    ).astype(np.uint8)
    one = world[20:120, 30:150]
    assert shift(one, one) == (0.0, 0.0)
    assert shift(one, world[24:124, 23:143]) == (7.0, -4.0)  # the camera goes left and down, the picture right and up
    moved = one.copy()
    moved[30:60, 40:70] = world[150:180, 250:280]
    assert shift(one, moved) == (0.0, 0.0)
    assert shift(np.full_like(one, 7), np.full_like(one, 9)) == (0.0, 0.0)
    assert (
        moves(np.array([4.0, 5.0, np.nan]), 14)
        and not moves(np.array([0.0, 9.0, 1.0]), 14)
        and not moves(np.array([np.nan]), 14)
    )
