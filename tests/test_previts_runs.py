"""Whole runs of MoCo, RSPNet and PreViTS: from a project's views and tracks, and from folders of clips and masks; killed and gone on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foveate.api as fv
from foveate import masks as rle
from foveate import pretrain
from foveate.cli import main
from foveate.data import views
from foveate.data.clips import Shape
from foveate.data.masked import folder_sources
from foveate.data.pairs import Crops
from foveate.data.usable import Usable
from foveate.methods.moco import MocoConfig
from foveate.methods.previts import PrevitsConfig
from foveate.methods.rspnet import RspnetConfig
from foveate.models.convnets import ConvConfig, load_convnet
from foveate.models.pretrained import load_backbone
from foveate.project import Project
from foveate.recipes import RECIPES, Recipe
from foveate.recipes.previts import Part, miniature_previts
from foveate.schema import FoveateError
from foveate.train.settings import Machine
from foveate.videowriter import VideoWriter
from tests.embedded import make
from tests.test_pretrain import files

SIZE = 64  # so that the last map has more than one place


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("previts") / "study")
    project = Project.load(folder)
    views.run(project, project.videos[0])
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "study")
    return Project.load(tmp_path / "study")


def tiny(part: Part, *, steps: int = 4, batch: int = 4, seed: int = 1, start: str = "random") -> Recipe:
    """The miniature recipe with a network of four channels, a queue that batches do not divide, and pieces of a second."""
    recipe = miniature_previts(part, steps=steps, batch=batch, seed=seed, start=start)

    def smaller(config: MocoConfig) -> MocoConfig:
        return replace(config, crops=replace(config.crops, size=SIZE), queue=10, dimension=8, groups=2)

    method: Any = recipe.method
    method = replace(method, base=smaller(method.base)) if isinstance(method, PrevitsConfig) else smaller(method)
    training = replace(recipe.training, lr=replace(recipe.training.lr, peak=1e-3), log=1, look=2)
    return replace(
        recipe, method=method, training=training, backbone=ConvConfig("resnet18", 4), clips=Shape(draws=2, piece=1.0)
    )


@pytest.mark.parametrize("part", ["alone", "sampling", "attention"])
def test_from_a_projects_tracks_to_a_backbone(study: Project, part: Part) -> None:
    found = pretrain.run(study, tiny(part))
    told = pretrain.metrics(found)
    assert found.facts()["pictures"] == 9 and found.facts()["videos"] == 1  # three subjects in three pieces each
    assert found.facts().get("constrained") == (None if part == "alone" else 1.0)
    assert np.isfinite([line["loss"] for line in told[1:]]).all()
    assert ("constrained" in told[-1]) == (part != "alone") and ("attention" in told[-1]) == (part == "attention")
    begun, learned = (load_convnet(found.path(f"checkpoints/step-{step}")) for step in (1, 4))
    assert learned.config == ConvConfig("resnet18", 4)
    with pytest.raises(FoveateError, match="convolutional network has no tokens"):
        load_backbone(str(found.path("checkpoints/step-4")))
    assert any(not torch.equal(a, b) for a, b in zip(begun.parameters(), learned.parameters(), strict=True))


def test_clips_of_a_project_for_rspnet(study: Project) -> None:
    """PreViTS on RSPNet: four frames a tenth of a second apart, played at two speeds; every clip shows its subject."""
    base = RspnetConfig(crops=Crops(size=32, cover=0.3), dimension=8, queue=12, groups=2, reference=2)
    recipe = replace(
        tiny("attention", steps=2),
        method=PrevitsConfig(base, shrink="mean"),
        backbone=ConvConfig("r2plus1d_18", 4),
        clips=Shape(4, 0.1, draws=2, piece=1.0),
        usable=Usable(reference=2),
    )
    told = pretrain.metrics(pretrain.run(study, recipe))[-1]
    assert 0 <= told["speeds"] <= 1 and told["constrained"] == 1 and told["attended"] > 0 and np.isfinite(told["loss"])


def test_few_constrained_clips_are_said(study: Project, caplog: pytest.LogCaptureFixture) -> None:
    found = pretrain.run(study, replace(tiny("sampling", steps=1), usable=Usable.paper()))
    assert "only 0 % of clips show a subject large enough" in caplog.text and found.facts()["constrained"] == 0


def _killed(folder: str, recipe: Recipe) -> None:
    torch.set_num_threads(1)

    def stop(line: Any) -> None:
        if line.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    pretrain.run(Project.load(folder), recipe, "killed", machine=Machine(save=1), say=stop)


def test_a_killed_run_goes_on_bit_for_bit(study: Project) -> None:
    """With a queue that was wrapped around its end, momentum encoder and SGD's velocity among what is gone on from."""
    recipe = tiny("attention", steps=6)
    whole = pretrain.run(study, recipe, "whole")
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(str(study.folder), recipe))
    process.start()
    process.join(120)
    killed = study.folder / "pretrained" / "killed"
    assert process.exitcode == -signal.SIGKILL and not (killed / "stamp.json").exists()
    assert (killed / "resume" / "step-00000002").exists()
    pretrain.run(study, recipe, "killed", machine=Machine(save=1))
    assert files(killed) == files(whole.folder)


# --- folders ---------------------------------------------------------------------------------------------------------------------


def clip(path: Path, masks: Path | None, seed: int, frames: int = 12, scale: int = 1, every: int = 1) -> None:
    """A video of a bright disc on noise, and masks of it by the number of the frame, from 1."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 90, (64, 96, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:64, :96]
    with VideoWriter(path, 96, 64, rate=10) as writer:
        for frame in range(frames):
            mask = (columns - 20 - 4 * frame) ** 2 + (rows - 32) ** 2 < 14**2
            writer.write(np.where(mask[..., None], 230, ground).astype(np.uint8))
            if masks is not None and frame % every == 0:
                folder = masks / path.stem
                folder.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray((mask * 255).astype(np.uint8))
                picture.resize((96 * scale, 64 * scale), Image.Resampling.NEAREST).save(folder / f"{frame + 1:05d}.png")


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    """Six videos: masks of all frames, twice as large, of every fifth frame, of the first alone, none; and a file that is no video."""
    footage, masks = tmp_path / "videos", tmp_path / "masks"
    footage.mkdir()
    for k, given in enumerate(({}, {"scale": 2}, {"every": 5}, {"every": 99}, None, {})):
        clip(footage / f"clip {k}.mp4", None if given is None else masks, k, **(given or {}))
    (footage / "broken.mp4").write_bytes(b"no video")
    (footage / "notes.txt").write_text("not a clip")
    return footage, masks


def test_videos_and_their_masks(clips: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    sources = folder_sources(*clips)
    assert [source.name for source in sources] == [f"clip {k}" for k in range(6)]
    assert "left out" in caplog.text and "broken.mp4" in caplog.text and "of 72 frames" in caplog.text
    known = [0 if source.rles is None else len(source.rles) - source.rles.null_count for source in sources]
    assert known == [12, 12, 3, 1, 0, 12]
    for source in sources[:3]:
        assert source.rles is not None and source.size == (64, 96) and np.allclose(source.time, np.arange(12) / 10)
        picture = source.read(5, 1)[0]
        mask = rle.decode(source.rles[5].as_py(), 64, 96)
        assert picture[mask].mean() > 200 and picture[~mask].mean() < 80


def test_from_a_folder_by_the_command(
    clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No project is needed; a second call does nothing, other footage is another run."""
    for name, part in (("miniature_previts", "attention"), ("miniature_moco", "alone")):

        def of(part: Part = part, name: str = name, **given: Any) -> Recipe:
            return replace(tiny(part, **given), name=name, clips=Shape(draws=2))

        monkeypatch.setitem(RECIPES, name, of)
    footage, masks = clips
    given = ["pretrain", "miniature_previts", "--footage", str(footage), "--masks", str(masks), "-p", str(tmp_path / "out")]
    assert main(given) == 0
    shown = capsys.readouterr()
    assert "83 % of the clips were constrained" in shown.err and "step 4 of 4" in shown.err  # five of six clips
    kept = tmp_path / "out" / "pretrained" / "miniature_previts"
    assert shown.out.strip() == str(kept / "checkpoints") and load_convnet(kept / "checkpoints" / "step-4").width == 32
    before = files(kept)
    table = fv.pretrain("miniature_previts", tmp_path / "out", footage=footage, masks=masks)
    assert table["step"].tolist() == [0, 1, 2, 3, 4] and files(kept) == before
    clip(footage / "another.mp4", masks, 9)
    assert main(given) == 1 and "another run has this name (other videos" in capsys.readouterr().err
    assert main(["pretrain", "miniature_moco", "--footage", str(footage), "-p", str(tmp_path / "out"), "--steps", "1"]) == 0


def test_folders_that_cannot_be_learned_from(clips: tuple[Path, Path], tmp_path: Path) -> None:
    footage, masks = clips
    with pytest.raises(FoveateError, match="there are no masks"):
        pretrain.run_folder(tmp_path, tiny("sampling"), footage)
    with pytest.raises(FoveateError, match="reads what a project has made"):
        pretrain.run_folder(tmp_path, replace(tiny("alone"), source="crop"), footage)
    with pytest.raises(FoveateError, match="no such folder"):
        folder_sources(tmp_path / "nowhere")
    with pytest.raises(FoveateError, match="there is no clip"):
        folder_sources(masks / "clip 0")
    with pytest.raises(FoveateError, match=r"no clip in .* has masks"):
        folder_sources(footage, footage)
    with pytest.raises(FoveateError, match="masks are given without the clips"):
        fv.pretrain("miniature_previts", tmp_path, masks=masks)
    with pytest.raises(FoveateError, match="fewer than a batch of 8"):
        pretrain.run_folder(tmp_path, tiny("sampling", batch=8), footage, masks)
