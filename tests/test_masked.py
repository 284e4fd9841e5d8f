"""Pictures with masks beside them from folders, through the sampler into PreViTS; its recipes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate import masks as rle
from foveate.data.clips import Shape
from foveate.data.masked import folder_sources
from foveate.data.sampler import Sampler
from foveate.data.usable import Usable
from foveate.methods.moment import Moment
from foveate.methods.previts import PrevitsConfig
from foveate.models.conv_model import ConvConfig
from foveate.recipes import RECIPES, recipe_of
from foveate.recipes.build import backbone_of, method_of
from foveate.schema import FoveateError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def written(folder: Path, clips: int = 5, frames: int = 6, size: tuple[int, int] = (48, 64)) -> tuple[Path, Path]:
    """Discs on noise, and masks of them: of clip 0 none, of clip 1 of the first frame alone, of clip 2 twice as large."""
    rng, (height, width) = np.random.default_rng(0), size
    rows, columns = np.mgrid[:height, :width]
    for clip in range(clips):
        for kind in ("frames", "masks"):
            (folder / kind / f"clip-{clip}").mkdir(parents=True)
        for frame in range(frames):
            mask = (columns - 12 - 6 * frame) ** 2 + (rows - 24) ** 2 < 100
            picture = rng.integers(0, 100, (height, width, 3)).astype(np.uint8) + (mask * 150)[..., None].astype(np.uint8)
            Image.fromarray(picture).save(folder / "frames" / f"clip-{clip}" / f"{frame:05d}.png")
            if clip == 0 or (clip == 1 and frame):
                continue
            image = Image.fromarray((mask * 255).astype(np.uint8))
            if clip == 2:
                image = image.resize((2 * width, 2 * height), Image.Resampling.NEAREST)
            image.save(folder / "masks" / f"clip-{clip}" / f"{frame:05d}.png")
    return folder / "frames", folder / "masks"


def test_masks_of_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each beside its frame; of another size made as large; missing ones missing, and said."""
    sources = folder_sources(*written(tmp_path))
    assert [len(source) for source in sources] == [6] * 5 and "11 of 30 frames" in caplog.text
    assert sources[0].rles is not None and sources[0].rles.null_count == 6
    assert sources[1].rles is not None and sources[1].rles.null_count == 5
    for source in sources[2:]:
        assert source.rles is not None
        for frame, picture in enumerate(source.read(0, 6)):
            mask = rle.decode(source.rles[frame].as_py(), 48, 64)
            assert picture[mask].min() >= 150 and picture[~mask].max() < 100
    assert np.allclose(sources[3].time, np.arange(6) / 24)


def test_wrong_masks_are_refused(tmp_path: Path) -> None:
    frames, masks = written(tmp_path, clips=3)
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(masks / "clip-2" / "00003.png")
    with pytest.raises(FoveateError, match=r"this mask has 48 x 48 pixels, which is not the shape of its frame \(64 x 48\)"):
        folder_sources(frames, masks)
    (masks / "clip-2" / "00003.png").write_bytes(b"no picture")
    with pytest.raises(FoveateError, match="cannot be opened"):
        folder_sources(frames, masks)
    with pytest.raises(FoveateError, match=r"no clip in .* has masks in"):
        folder_sources(frames, tmp_path / "elsewhere")


def test_from_folders_into_the_method(tmp_path: Path) -> None:
    """Clips begin where their subject is seen; where it never is they are ordinary, and the batch says how many are constrained."""
    sources = folder_sources(*written(tmp_path))
    data = Sampler(sources, 5, shape=Shape(draws=2), rule=Usable(), with_masks=True)
    batch = next(data.batches())
    assert batch.masks is not None
    seen = batch.masks.flatten(3).any(3)[:, :, 0]
    clip = batch.where[:, 0, 0, 0]
    assert seen.all(1).tolist() == (clip != 0).tolist()
    assert (batch.where[clip == 1][..., 1] == 0).all()  # the one usable frame
    recipe = recipe_of("miniature_previts", batch=5)
    assert isinstance(recipe.method, PrevitsConfig)
    base = replace(recipe.method.base, crops=replace(recipe.method.base.crops, size=64), queue=20, groups=1)
    recipe = replace(recipe, method=replace(recipe.method, base=base), backbone=ConvConfig("resnet18", 4))
    method = method_of(recipe.method, backbone_of(recipe, None))
    loss, told = method.step(batch, Moment(0, 10, 5, 0, 5))
    assert torch.isfinite(loss) and float(told["constrained"]) == pytest.approx(0.8)
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", [name for name in RECIPES if any(part in name for part in ("moco", "rspnet", "previts"))])
def test_recipes_of_the_publication(name: str) -> None:
    """Plain values for a stamp; the three parts of a network differ in what their names say and in nothing else."""
    recipe = recipe_of(name)  # type: ignore[arg-type]
    json.dumps(recipe.relevant())
    assert recipe.name == name and recipe.training.optimiser == "sgd" and recipe.training.clip is None
    assert recipe.looks_at_subjects == ("sampling" in name or "previts" in name) == (recipe.usable is not None)
    whole = PrevitsConfig.__name__ == type(recipe.method).__name__
    assert whole == ("previts" in name) and (not whole or recipe.method.attention == 3)  # type: ignore[attr-defined]
    if name.endswith("resnet50"):
        assert recipe.training.lr.peak == 0.03 and recipe.clips == Shape(draws=2)
    elif not name.startswith("miniature"):
        assert recipe.training.lr.peak == 0.5 and recipe.clips == Shape(32, 1 / 25, draws=2)
