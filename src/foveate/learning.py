"""Pretraining as one asks for it: a recipe by its name, on a project whose views may still have to be stored, or on a folder of clips."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.project import Project
from foveate.schema import FoveateError
from foveate.store import Artefact

if TYPE_CHECKING:
    from foveate.jobs import Failure
    from foveate.recipes import Name
    from foveate.run import Show
    from foveate.train.loop import Say


def learn(
    project: Project,
    recipe: Name,
    name: str,
    video: Sequence[str],
    changed: Mapping[str, Any],
    machine: Mapping[str, Any],
    display: Show,
    say: Say | None,
) -> tuple[Artefact, list[Failure]]:
    """Pretrain as a recipe says; the run, and the videos whose views could not be stored.

    Args:
        changed: arguments of the recipe; None as it has them.
        machine: of ``train.settings.Machine``.
        display: of the storing of views.
        say: told how the training goes.
    """
    from foveate import pretrain as stage
    from foveate.jobs import Failure, Pool
    from foveate.recipes import recipe_of
    from foveate.run import default_workers, locked
    from foveate.train.settings import Machine

    chosen_recipe = recipe_of(recipe, **changed)
    failures = []
    if tasks := stage.views_to_make(project, chosen_recipe, video):
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise FoveateError(
                f"the whole views of {len(tasks)} videos are not stored yet, which one process does alone",
                remedy="run the same command without torchrun, and stop it when training begins",
            )
        workers = default_workers(len(tasks))
        with locked(project.folder), Pool(project.folder, workers) as pool, display("clips", len(tasks)) as bars:
            failures = [one for one in pool.run(tasks, bars) if isinstance(one, Failure)]
    return stage.run(project, chosen_recipe, name, video, Machine(**machine), say), failures


def learn_folder(
    folder: Path,
    recipe: Name,
    name: str,
    footage: Path | str,
    masks: Path | str,
    changed: Mapping[str, Any],
    machine: Mapping[str, Any],
    say: Say | None,
) -> Artefact:
    """As ``learn``, on a folder of clips and one of masks; the run lies in ``folder``/pretrained."""
    from foveate import pretrain as stage
    from foveate.recipes import recipe_of
    from foveate.train.settings import Machine

    if not footage:
        raise FoveateError("masks are given without the clips that they are of", remedy="name their folder, too (--footage)")
    shown = Path(masks) if masks else None
    return stage.run_folder(
        Path(folder).absolute(), recipe_of(recipe, **changed), Path(footage), shown, name, Machine(**machine), say
    )
