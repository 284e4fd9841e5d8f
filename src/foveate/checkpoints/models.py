"""Which backbones are evaluated: the checkpoints of pretraining runs, what these began with, and others beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foveate.models.pretrained import BUILT_IN, model_of, weights_hash
from foveate.project import Project
from foveate.schema import FoveateError

FROZEN, GUIDED, UNGUIDED, OTHER = "frozen", "guided", "unguided", "other"

_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Model:
    """A backbone in the tables.

    Attributes:
        run: name of the run, or of a model that belongs to none.
        kind: frozen (what runs began with), guided (the run saw crops), unguided (whole views), or other.
        step: optimiser steps before the checkpoint was written; None for others.
        path: what ``load_backbone`` takes.
    """

    run: str
    kind: str
    step: int | None
    path: str


@dataclass(frozen=True)
class Run:
    """A pretraining run.

    Attributes:
        steps: of the whole run, which may not have ended.
        checkpoints: in order of their steps.
        start: what it began with: its checkpoint of step 0, or the model that the recipe names.
    """

    name: str
    kind: str
    steps: int
    checkpoints: tuple[Model, ...]
    start: str


def runs_of(project: Project, names: Sequence[str] = ()) -> list[Run]:
    """The runs of these names, or all that have checkpoints; guided ones first. Also those that are still going on.

    Raises:
        FoveateError: there is none, or none of that name.
    """
    folder = project.stage_folder("pretrained")
    there = {found.name: found for path in sorted(folder.glob("*")) if (found := _run(project, path))}
    missing = [name for name in names if name not in there]
    if missing or not there:
        known = ", ".join(there) or "none"
        raise FoveateError(
            f"there is no pretraining run {missing[0]!r} with checkpoints" if missing else "there is no pretraining run",
            file=folder,
            remedy=f"known: {known}" if there else "begin one with `foveate pretrain RECIPE`",
        )
    chosen = [there[name] for name in dict.fromkeys(names)] or list(there.values())
    return sorted(chosen, key=lambda run: run.kind)


def _run(project: Project, folder: Path) -> Run | None:
    try:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        kind = GUIDED if settings["source"] == "crop" else UNGUIDED
        steps, start = int(settings["training"]["steps"]), model_of(project.folder, str(settings["start"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a run that has not begun, or something else
    found = [(int(match[1]), path) for path in (folder / "checkpoints").glob("step-*") if (match := _STEP.fullmatch(path.name))]
    models = tuple(Model(folder.name, kind, step, str(path)) for step, path in sorted(found))
    if not models:
        return None
    return Run(folder.name, kind, steps, models, models[0].path if models[0].step == 0 else start)


def frozen_of(runs: Sequence[Run]) -> dict[str, Model]:
    """Name of a run -> what it began with, under one name where the weights are the same; without runs of which that is not to be had."""
    same: dict[str, Model] = {}
    found = {}
    for run in runs:
        try:
            weights = weights_hash(run.start)
        except FoveateError:
            continue
        name = FROZEN if not same else f"{FROZEN} ({run.name})"
        found[run.name] = same.setdefault(weights, Model(name, FROZEN, 0, run.start))
    return found


def others_of(project: Project, models: Sequence[str]) -> list[Model]:
    """Models that belong to no run: folders or Hugging Face ids, under the names that they are given by."""
    return [Model(_short(model), OTHER, None, model_of(project.folder, model)) for model in dict.fromkeys(models)]


def _short(model: str) -> str:
    return Path(model).name if model not in BUILT_IN and Path(model).is_absolute() else model


def looked_at(project: Project, names: Sequence[str]) -> tuple[str, ...]:
    """What ``attend`` sets side by side for some runs: what they began with, then the last checkpoint of each, unguided ones first; as
    folders in the project where they lie there."""
    runs = runs_of(project, names)
    frozen = [model.path for model in frozen_of(runs).values()]
    paths = dict.fromkeys([*frozen, *(run.checkpoints[-1].path for run in reversed(runs))])
    inside = f"{project.folder}/"
    return tuple(path.removeprefix(inside) for path in paths)


def with_model(project: Project, model: str) -> Project:
    """The same project with another backbone for ``embed``."""
    embed = project.config.embed.model_copy(update={"model": model})
    return replace(project, config=project.config.model_copy(update={"embed": embed}))
