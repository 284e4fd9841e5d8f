"""Stage pretrain and its recipes: from crops and whole views to backbones that embed opens."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import foveate.api as fv
from foveate import annotations, pretrain, recipes, verbs
from foveate.actions import embed
from foveate.cli import main
from foveate.data.augment import Augmentation
from foveate.data.clips import Shape
from foveate.methods.dinov2 import Dinov2Config
from foveate.models.vit import VitConfig, load_vit
from foveate.project import Project
from foveate.recipes import RECIPES, Recipe, recipe_of
from foveate.schedules import Schedule, constant
from foveate.schema import FoveateError
from foveate.train.settings import Machine, Training
from tests.embedded import make

TINY = Recipe(
    name="tiny",
    source="crop",
    start="runs/tiny",
    method=Dinov2Config(
        views=Augmentation(large=28, small=14, smalls=2),
        prototypes=16,
        hidden=24,
        bottleneck=8,
        teacher_temperature=constant(0.06),
        momentum=constant(0.9),
        last_layer_frozen=1,
    ),
    training=Training(
        steps=4, batch=6, lr=Schedule(1e-3, 1e-4), decay=constant(0.04), epoch=2, seed=1, keep=(0, 4), log=2, look=2
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pretrain") / "study")


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "study")
    return Project.load(tmp_path / "study")


def files(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_from_crops_to_a_backbone_that_embeds(study: Project) -> None:
    lines: list[Any] = []
    found = pretrain.run(study, TINY, say=lines.append)
    assert found.complete() and [line.step for line in lines] == [2, 4]
    assert found.files() == [
        *(
            f"checkpoints/step-{step}/{name}"
            for step in (0, 4)
            for name in ("config.json", "model.safetensors", "preprocessor_config.json")
        ),
        "metrics.jsonl",
        "settings.json",
    ]
    assert found.facts() == {"steps": 4, "pictures": 89, "passes": round(4 / 14, 3), "videos": 1}
    settings = json.loads(found.path("settings.json").read_text())
    assert (
        settings["recipe"] == "tiny" and settings["method"]["prototypes"] == 16 and settings["training"]["lr"]["peak"] == 1e-3
    )

    before, after = (load_vit(found.path(f"checkpoints/step-{step}")) for step in (0, 4))
    begun = load_vit(study.folder / "runs" / "tiny")
    assert before.config.image_size == 28 and torch.equal(before.blocks[0].attn.qkv.weight, begun.blocks[0].attn.qkv.weight)
    assert not torch.equal(before.blocks[0].attn.qkv.weight, after.blocks[0].attn.qkv.weight)
    theirs = transformers.AutoModel.from_pretrained(found.path("checkpoints/step-4")).eval()
    pictures = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.allclose(theirs(pictures).last_hidden_state[:, 0], after(pictures).cls, atol=1e-5)

    config = study.config.model_copy(
        update={
            "embed": study.config.embed.model_copy(update={"model": "pretrained/tiny/checkpoints/step-4", "image_size": 28})
        }
    )
    vectors = embed.run(replace(study, config=config), study.videos[0])
    assert vectors.facts()["rows"] == 89 and vectors.facts()["width"] == 24


def test_same_inputs_same_bytes_and_nothing_twice(study: Project) -> None:
    first = pretrain.run(study, TINY, "a")
    second = pretrain.run(study, TINY, "b", machine=Machine(workers=1, save=1))
    assert first.stamp == second.stamp
    assert files(first.folder) == files(second.folder)
    times = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    pretrain.run(study, TINY, "a")
    assert times == {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}


def test_an_interrupted_run_goes_on(study: Project) -> None:
    whole = pretrain.run(study, TINY, "whole")

    def stop(line: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.run(study, TINY, "stopped", machine=Machine(save=1), say=stop)
    stopped = study.folder / "pretrained" / "stopped"
    assert [path.name for path in (stopped / "resume").iterdir()] == ["step-00000001"] and not (stopped / "stamp.json").exists()
    pretrain.run(study, TINY, "stopped", machine=Machine(save=1))
    assert files(stopped) == files(whole.folder)


def test_another_run_is_never_cleared_away(study: Project) -> None:
    found = pretrain.run(study, TINY)
    before = files(found.folder)
    other = replace(TINY, training=replace(TINY.training, batch=8))
    with pytest.raises(FoveateError, match=r"another run has this name \(training\.batch: 6 there, 8 now\)"):
        pretrain.run(study, other)
    (study.folder / "crops" / "v 1" / "stamp.json").unlink()
    with pytest.raises(FoveateError, match=r"another run has this name \(other videos"):
        pretrain.run(study, TINY)
    assert files(found.folder) == before


def test_whole_views_are_stored_first(study: Project) -> None:
    unguided = replace(TINY, name="tiny_unguided", source="frame")
    tasks = pretrain.views_to_make(study, unguided)
    assert [(task.module, task.item) for task in tasks] == [("foveate.data.views", "v 1")]
    with pytest.raises(FoveateError, match="no video whose whole views are ready"):
        pretrain.run(study, unguided)
    pretrain.views.run(study, study.videos[0])
    assert pretrain.views_to_make(study, unguided) == []
    found = pretrain.run(study, unguided)
    assert found.facts()["pictures"] == 60 and found.stamp != pretrain.artefact(study, TINY).stamp


def test_a_backbone_can_be_drawn(study: Project) -> None:
    drawn = replace(TINY, start="random", backbone=VitConfig(image_size=28, patch=14, width=16, depth=1, heads=2))
    state = pretrain.build(study.folder, drawn).backbone().state_dict()
    again, other = (
        pretrain.build(study.folder, replace(drawn, training=replace(drawn.training, seed=seed))) for seed in (1, 2)
    )
    assert all(torch.equal(value, again.backbone().state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["pos_embed"], other.backbone().state_dict()["pos_embed"])
    assert pretrain.artefact(study, drawn).settings["weights"] == "random"
    with pytest.raises(FoveateError, match="does not say what to draw"):
        pretrain.build(study.folder, replace(drawn, backbone=None))


def test_a_stamp_outlives_fields_that_say_nothing() -> None:
    assert set(TINY.relevant()) == {"source", "method", "training"}
    assert set(replace(TINY, clips=Shape(8, 1.0)).relevant()) == {"source", "method", "training", "clips"}


def test_masks_come_where_the_method_looks_at_subjects(study: Project) -> None:
    looking = replace(TINY, method=replace(TINY.method, background="blur"), training=replace(TINY.training, steps=1, keep=()))
    assert looking.looks_at_subjects and not TINY.looks_at_subjects
    assert pretrain.run(study, looking).complete()
    pretrain.views.run(study, study.videos[0])
    with pytest.raises(FoveateError, match="the pictures have no masks"):
        pretrain.run(study, replace(looking, name="views", source="frame"))


def test_test_videos_are_not_seen(study: Project) -> None:
    hidden = replace(study, videos=(replace(study.videos[0], split="test"),))
    with pytest.raises(FoveateError, match="no video whose crops are ready"):
        pretrain.run(hidden, TINY)
    assert pretrain.artefact(hidden, TINY, videos=["v 1"]).stamp == pretrain.artefact(study, TINY).stamp


def test_what_cannot_be_trained_is_said(study: Project) -> None:
    with pytest.raises(FoveateError, match="there are 89 pictures, fewer than a batch of 128"):
        pretrain.run(study, replace(TINY, training=replace(TINY.training, batch=128)))
    with pytest.raises(FoveateError, match="none: no weights here"):
        pretrain.run(study, replace(TINY, start="./none"))
    with pytest.raises(FoveateError, match="handcrafted features have no weights"):
        pretrain.run(study, replace(TINY, start="handcrafted"))
    with pytest.raises(FoveateError, match="crops of 30 px cannot be cut into patches of 14 px"):
        pretrain.run(study, replace(TINY, method=replace(TINY.method, views=Augmentation(large=30, small=14, smalls=2))))
    assert not any((study.folder / "pretrained").glob("*/stamp.json"))


def test_annotated_crops_are_what_is_looked_at(study: Project) -> None:
    rows = [f"v 1,anna,walking,{t / 10},{(t + 1) / 10}" for t in range(0, 30, 3)]
    (study.folder / "annotations").mkdir()
    (study.folder / "annotations" / "a.csv").write_text("video,subject,behaviour,start,stop\n" + "\n".join(rows) + "\n")
    annotations.run(study)
    sources = pretrain.crop_sources(study, study.videos)
    watch = pretrain.watch_of(study, study.videos, sources, 28)
    assert watch.labels is not None and watch.pictures.shape == (59, 3, 28, 28)  # anna's, in both views
    assert set(watch.labels.ravel().tolist()) == {0, 1} and set(watch.groups.tolist()) == {0}
    first = torch.from_numpy(np.stack(sources[0].read(0, 1))).permute(0, 3, 1, 2)
    assert torch.equal(watch.pictures[0], pretrain_resize(first)[0])
    bare = pretrain.watch_of(replace(study, folder=study.folder.parent), [], sources, 28)
    assert bare.labels is None and bare.pictures.shape == (89, 3, 28, 28)


def pretrain_resize(pictures: torch.Tensor) -> torch.Tensor:
    from foveate.models.pretrained import resize

    return resize(pictures, 28, 28)


# --- recipes ---------------------------------------------------------------------------------------------------------------------


def test_the_published_run() -> None:
    recipe = recipe_of("guided_dinov2_vits14")
    training, method = recipe.training, recipe.method
    assert training.steps == 1_080_000 and training.epoch == 400 and training.batch == 64
    assert (
        training.lr.at(4_000, training.steps) == pytest.approx(5e-5) and training.lr.at(training.steps, training.steps) == 1e-6
    )
    assert [training.decay.at(step, training.steps) for step in (0, training.steps)] == pytest.approx([0.04, 0.2])
    assert (
        method.momentum.at(0, training.steps) == pytest.approx(0.994)
        and method.momentum.at(training.steps, training.steps) == 1
    )
    assert method.teacher_temperature.at(0, 1) == 0.04 and method.teacher_temperature.at(12_000, training.steps) == 0.07
    assert (method.prototypes, method.hidden, method.bottleneck, method.tied, method.last_layer_frozen) == (
        65_536,
        2048,
        256,
        True,
        400,
    )
    assert (method.views.large, method.views.small, method.views.smalls, training.clip, training.betas) == (
        224,
        98,
        8,
        3.0,
        (0.9, 0.999),
    )
    assert training.keep == (0, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 1_080_000)
    unguided = recipe_of("unguided_dinov2_vits14")
    assert replace(unguided, name=recipe.name, source="crop") == recipe and unguided.source == "frame"


def test_recipes_are_whole_and_say_what_they_cost() -> None:
    for name, make_recipe in RECIPES.items():
        recipe = make_recipe()
        assert recipe.name == name and recipe_of(name) == recipe
        text = inspect.getdoc(getattr(make_recipe, "func", make_recipe)) or ""
        assert "Cost" in text and ("ublished" in text)
        json.dumps(recipe.relevant())
        shorter = recipe_of(name, steps=50, batch=4, seed=4, start="elsewhere")
        assert (shorter.training.steps, shorter.training.batch, shorter.training.seed, shorter.start) == (
            50,
            4,
            4,
            "elsewhere",
        )
        assert max(shorter.training.keep) == 50
        fixed = name in (
            "dora_miniature",
            "dino_miniature",
            "ibot_miniature",
        )  # their rate is that of a batch of 256, whatever the batch
        assert (
            shorter.training.lr.peak == recipe.training.lr.peak if fixed else shorter.training.lr.peak < recipe.training.lr.peak
        )
        schedules = [value for value in vars(shorter.method).values() if isinstance(value, Schedule)]
        assert all(schedule.warmup < 50 for schedule in schedules)
    assert set(recipes.Name.__args__) == set(RECIPES)  # type: ignore[attr-defined]


def test_little_data_has_fewer_prototypes_and_patience() -> None:
    small, guided = recipe_of("small"), recipe_of("guided_dinov2_vits14", steps=20_000)
    assert isinstance(small.method, Dinov2Config) and isinstance(guided.method, Dinov2Config)
    assert small.method.prototypes == 4096 and recipe_of("small", batch=32).method.prototypes == 2048  # type: ignore[attr-defined]
    assert small.source == "crop" and small.method.views == guided.method.views
    assert (small.training.look, small.training.patience, small.training.keep) == (400, 10, (0, 20_000))
    assert guided.training.patience == 0


def test_recipes_are_light() -> None:
    code = "import sys, foveate.recipes, foveate.pretrain; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the command -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def tiny(*, steps: int = 4, batch: int = 6, seed: int = 1, start: str = "runs/tiny") -> Recipe:
        training = replace(TINY.training, steps=steps, batch=batch, seed=seed, keep=(steps,))
        return replace(TINY, name="miniature", start=start, training=training)

    monkeypatch.setitem(RECIPES, "miniature", tiny)
    monkeypatch.setitem(
        RECIPES, "miniature_unguided", lambda **given: replace(tiny(**given), name="miniature_unguided", source="frame")
    )
    return


@pytest.mark.usefixtures("tiny_recipes")
def test_the_command_and_the_function(study: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "miniature", "-p", str(study.folder), "--steps", "2", "--name", "mine"]) == 0
    shown = capsys.readouterr()
    assert "step 2 of 2 · loss " in shown.err and "dino" in shown.err
    assert shown.out.strip() == str(study.folder / "pretrained" / "mine" / "checkpoints")
    table = fv.pretrain("miniature", study, steps=2, name="mine")
    assert table["step"].tolist() == [0, 2] and {"loss", "dino", "ibot", "koleo", "rank", "spread", "lr"} <= set(table)
    assert main(["pretrain", "miniature", "-p", str(study.folder), "--steps", "3", "--name", "mine"]) == 1
    assert "another run has this name (training." in capsys.readouterr().err
    assert main(["pretrain", "miniature_unguided", "-p", str(study.folder), "--steps", "2"]) == 0
    assert (study.folder / "clips" / "v 1" / "stamp.json").exists()


@pytest.mark.usefixtures("tiny_recipes")
def test_several_processes_do_not_store_views(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FoveateError, match="whole views of 1 videos are not stored yet"):
        fv.pretrain("miniature_unguided", study, steps=2)


def test_the_verb_is_the_apis() -> None:
    assert fv.pretrain is verbs.pretrain
