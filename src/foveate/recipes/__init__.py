"""Whole pretraining runs, each a function that returns everything that decides its result.

    guided_dinov2_vits14     the published run: DINOv2 ViT-S/14, fine-tuned on crops of the animal
    unguided_dinov2_vits14   its comparison: the same on whole views
    miniature                the same method at a size for a CPU
    miniature_unguided       its comparison

Nothing here imports torch until a recipe is asked for.
"""

from __future__ import annotations

from typing import Literal, Protocol

from foveate.recipes.guided import guided_dinov2_vits14, miniature, miniature_unguided, unguided_dinov2_vits14
from foveate.recipes.recipe import Recipe

__all__ = ["RECIPES", "Name", "Recipe", "recipe_of"]

Name = Literal["guided_dinov2_vits14", "unguided_dinov2_vits14", "miniature", "miniature_unguided"]


class _Make(Protocol):
    def __call__(self, *, steps: int = ..., batch: int = ..., seed: int = ..., start: str = ...) -> Recipe: ...


RECIPES: dict[Name, _Make] = {
    "guided_dinov2_vits14": guided_dinov2_vits14,
    "unguided_dinov2_vits14": unguided_dinov2_vits14,
    "miniature": miniature,
    "miniature_unguided": miniature_unguided,
}


def recipe_of(
    name: Name, steps: int | None = None, batch: int | None = None, seed: int | None = None, start: str | None = None
) -> Recipe:
    """The recipe of that name; what is None is as the recipe has it."""
    changed = {"steps": steps, "batch": batch, "seed": seed, "start": start}
    return RECIPES[name](**{key: value for key, value in changed.items() if value is not None})  # type: ignore[arg-type]
