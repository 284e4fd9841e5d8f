"""One backbone, one way of showing (crops or whole views), one width of the window: what every probe of the published grid makes of it.

Kept are counts, not scores: true and false positives and false negatives per group of animals, of each of the 26 probes (two layers, 13
learning rates) on rows that it never saw, and how good each was on folds inside its training rows. Whatever is to be chosen among layers,
rates and checkpoints can be chosen from these, honestly or as published, and intervals drawn, without training anything again (``choice``).

Written to ``checkpoints/units/<model>-<hash8>/<source>-<window>/``
    final.safetensors, fold-<k>.safetensors   see ``Part``; ``final`` was tried on the test videos
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.actions import probe
from foveate.actions.pictures import Source
from foveate.checkpoints.models import with_model
from foveate.jobs import Progress, silent
from foveate.models.pretrained import weights_hash
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import ProbeSettings
from foveate.store import Artefact, damaged, write_aside

if TYPE_CHECKING:
    from foveate.actions.labelwise import Job
    from foveate.actions.sgd import Views

VERSION = 1

Augment = Literal["none", "cached"]
FINAL = "final"


@dataclass(frozen=True, eq=False)
class Part:
    """The grid of P probes (layer by layer, rate by rate) trained on the rows of one job, for L labels.

    Attributes:
        f1, loss: f64 ``[P, L]``, pooled F1 and mean log loss on inner folds of the training rows; zeros where ``chosen`` is not.
        chosen: bool ``[L]``, whether there are groups enough to choose by them.
        group: i64 ``[G]``, the groups tried on.
        counts: i64 ``[P, G, L, 3]``, true positives, false positives, false negatives in them.
    """

    f1: NDArray[np.float64]
    loss: NDArray[np.float64]
    chosen: NDArray[np.bool_]
    group: NDArray[np.int64]
    counts: NDArray[np.int64]


def probe_settings(project: Project, source: Source, window: int, augment: Augment) -> ProbeSettings:
    """The published probe of the project on these pictures: CLS tokens of both layers."""
    values = probe.settings_of(project, probe.PAPER).model_dump() | {"source": source, "window": window, "augment": augment}
    return ProbeSettings.model_validate(values)


def artefact(project: Project, model: str, source: Source, window: int, augment: Augment = "none") -> Artefact:
    """Where it is, or will be, with the expected stamp; the vectors must be there for it to be the final one."""
    here = with_model(project, model)
    like = probe.artefact(here, "checkpoint", probe_settings(here, source, window, augment))
    label = re.sub(r"[^\w.-]+", "-", Path(model).name).strip(".-")[:80] or "model"
    short = hashlib.sha256(weights_hash(model).encode()).hexdigest()[:8]
    folder = project.stage_folder("checkpoints", "units", f"{label}-{short}", f"{source}-{window}")
    return Artefact(folder, "checkpoint", VERSION, like.settings, like.parents)


def run(
    project: Project, model: str, source: Source, window: int, augment: Augment = "none", progress: Progress = silent
) -> Artefact:
    """Train and try the grid, job by job; an interrupted run keeps those that were finished.

    Raises:
        FoveateError: as ``training.load``: nothing is annotated, no vectors are there, nothing can be learned.
    """
    target = artefact(project, model, source, window, augment)
    if target.complete():
        return target
    from foveate.actions import copies, labelwise, training

    here = with_model(project, model)
    settings = probe_settings(here, source, window, augment)
    data = training.load(here, settings)
    if not data.folds:
        raise FoveateError(
            "all annotated training videos are one group, so there is nothing to cross-validate on",
            file=project.folder / "annotations",
            remedy="annotate videos of at least two animals",
        )
    seen, notes = copies.views(here, data, settings)
    clean, group = labelwise.clean_views(data), data.of_rows(data.groups)
    wanted = [FINAL, *(f"fold-{k}" for k in range(data.folds))]
    todo = [job for job in labelwise.jobs(data, settings.seed) if job.name in wanted]
    target.begin()
    for number, job in enumerate(todo):
        if not target.has(f"{job.name}.safetensors"):
            _write(target.path(f"{job.name}.safetensors"), _measure(job, seen, clean, group, settings.seed))
        progress(number + 1, len(todo))
    train, test = ({v.name for v in side} for side in (data.train, data.test))
    video = data.rows.keys["video"]
    target.finish(
        {
            "behaviours": list(data.behaviours),
            "reported": list(settings.reported),
            "seed": settings.seed,
            "folds": data.folds,
            "rows": {"cv": int(video.isin(train).sum()), "test": int(video.isin(test).sum())},
            "videos": {"cv": len(train), "test": len(test)},
            "groups": {v.name: data.groups[v.name] for v in (*data.train, *data.test)},
            "notes": [*data.notes, *notes],
        }
    )
    return target


def _measure(job: Job, seen: Views, clean: Views, group: NDArray[np.int64], seed: int) -> Part:
    from foveate.actions import labelwise, metrics
    from foveate.actions.sgd import fit_grid

    truth = clean.target[0]
    logit = labelwise.left_out(job, seen, clean, seed)
    grid = fit_grid(seen, job.train, seed)
    names, mine = np.unique(group[job.held], return_inverse=True)
    held = grid.logits(clean, job.held)
    probes, labels = held.shape[1:]
    f1, loss = (np.zeros((probes, labels)),) * 2 if logit is None else labelwise.quality(truth[job.train], logit)
    said = (held >= 0).astype(np.int8)
    counts = [metrics.confusion(truth[job.held], said[:, p], mine, len(names)) for p in range(probes)]
    return Part(f1, loss, job.chosen & (logit is not None), names, np.stack(counts))


def _write(path: Path, part: Part) -> None:
    from safetensors.numpy import save_file

    with write_aside(path) as aside:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(part).items()}, aside)


@dataclass(frozen=True, eq=False)
class Unit:
    """What ``run`` left, read back: a part per job, and the facts."""

    parts: dict[str, Part]
    facts: dict[str, Any]


def load(found: Artefact) -> Unit:
    """Read a finished artefact.

    Raises:
        FoveateError: a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    parts = {}
    for name in found.files(".safetensors"):
        path = found.checked(name)
        try:
            parts[name.removesuffix(".safetensors")] = Part(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise damaged(path) from error
    return Unit(parts, found.facts())
