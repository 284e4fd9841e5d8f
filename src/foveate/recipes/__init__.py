"""Whole pretraining runs, each a function that returns everything that decides its result.

    guided_dinov2_vits14     the published run: DINOv2 ViT-S/14, fine-tuned on crops of the animal
    unguided_dinov2_vits14   its comparison: the same on whole views
    miniature                the same method at a size for a CPU
    miniature_unguided       its comparison
    small                    guided DINOv2 for the footage of one study
    previts_resnet50, ...    PreViTS on four backbones, and contrast alone and with its sampling; see ``recipes.previts``
    miniature_previts, ...   the same at a size for a CPU

    dora_vits16              DoRA on whole views of long footage, from random weights; dora_vitb16: a larger network
    dora_images_vits16       the same on pictures, without tracking
    <method>_vits16          what it was compared with: dino, ibot, attmask, simclr, swav, vicreg
    <method>_miniature       dora, dino and ibot at a size for a CPU

Nothing here imports torch until a recipe is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

from foveate.recipes.dora import (
    attmask_vits16,
    dino_miniature,
    dino_vits16,
    dora_images_vits16,
    dora_miniature,
    dora_vitb16,
    dora_vits16,
    ibot_miniature,
    ibot_vits16,
    simclr_vits16,
    swav_vits16,
    vicreg_vits16,
)
from foveate.recipes.guided import guided_dinov2_vits14, miniature, miniature_unguided, unguided_dinov2_vits14
from foveate.recipes.previts import PREVITS, miniature_previts
from foveate.recipes.recipe import Recipe
from foveate.recipes.small import small

__all__ = ["RECIPES", "Name", "Recipe", "recipe_of"]

Name = Literal[
    "guided_dinov2_vits14",
    "unguided_dinov2_vits14",
    "miniature",
    "miniature_unguided",
    "small",
    "dora_vits16",
    "dora_vitb16",
    "dora_images_vits16",
    "dino_vits16",
    "ibot_vits16",
    "attmask_vits16",
    "simclr_vits16",
    "swav_vits16",
    "vicreg_vits16",
    "dora_miniature",
    "dino_miniature",
    "ibot_miniature",
    "moco_resnet50",
    "moco_sampling_resnet50",
    "previts_resnet50",
    "rspnet_s3dg",
    "rspnet_sampling_s3dg",
    "previts_s3dg",
    "rspnet_r2plus1d_18",
    "rspnet_sampling_r2plus1d_18",
    "previts_r2plus1d_18",
    "rspnet_c3d",
    "rspnet_sampling_c3d",
    "previts_c3d",
    "miniature_moco",
    "miniature_moco_sampling",
    "miniature_previts",
]


class _Make(Protocol):
    def __call__(self, *, steps: int = ..., batch: int = ..., seed: int = ..., start: str = ...) -> Recipe: ...


RECIPES: dict[Name, _Make] = {
    "guided_dinov2_vits14": guided_dinov2_vits14,
    "unguided_dinov2_vits14": unguided_dinov2_vits14,
    "miniature": miniature,
    "miniature_unguided": miniature_unguided,
    "small": small,
    "dora_vits16": dora_vits16,
    "dora_vitb16": dora_vitb16,
    "dora_images_vits16": dora_images_vits16,
    "dino_vits16": dino_vits16,
    "ibot_vits16": ibot_vits16,
    "attmask_vits16": attmask_vits16,
    "simclr_vits16": simclr_vits16,
    "swav_vits16": swav_vits16,
    "vicreg_vits16": vicreg_vits16,
    "dora_miniature": dora_miniature,
    "dino_miniature": dino_miniature,
    "ibot_miniature": ibot_miniature,
    **PREVITS,  # type: ignore[dict-item]
    "miniature_moco": partial(miniature_previts, "alone"),
    "miniature_moco_sampling": partial(miniature_previts, "sampling"),
    "miniature_previts": partial(miniature_previts, "attention"),
}


def recipe_of(
    name: Name, steps: int | None = None, batch: int | None = None, seed: int | None = None, start: str | None = None
) -> Recipe:
    """The recipe of that name; what is None is as the recipe has it."""
    changed = {"steps": steps, "batch": batch, "seed": seed, "start": start}
    return RECIPES[name](**{key: value for key, value in changed.items() if value is not None})  # type: ignore[arg-type]
