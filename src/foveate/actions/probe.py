"""Stage ``probe``: a linear probe per behaviour on frozen vectors, scored on animals it never saw.

What is chosen, and on what
    The training videos are cut into folds of whole groups (``folds``: everything sharing a video or an animal). For each fold a
    probe is fitted on the others; its penalties, thresholds and smoothing come from a second cross-validation inside those others
    (``selection``). Out-of-fold scores are therefore honest, choices included. The final probe is fitted on all training videos;
    test videos, if videos.csv declares any, are scored once, by it. A video without ``split`` is a training video.

What is written, in ``probes/<name>/``
    probe.safetensors   weight float32 [1 + K, L, W * D], bias float32 [1 + K, L]: the final probe, then those of the K folds
    probe.json          behaviours, settings, thresholds, penalties and smoothing of each probe, folds, groups, backbone
    scores.csv          see ``scores``; with recipe ``paper`` beside it what ``published`` names
    bouts.csv           see ``bout_scores``;  calibration.csv, reliability.csv  see ``calibration``
    folds.parquet       truth, probability and decision of every labelled row (views and ``*``), by a probe that never saw it

Rows are windows of one view; probabilities of view ``*`` come from the mean logit over the views that see the animal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate.actions import embed
from foveate.annotations import artefact as labels_artefact
from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import CONFIG, ProbeSettings
from foveate.store import Artefact, damaged, remembered, write_aside, write_json, write_parquet, write_text

if TYPE_CHECKING:
    from foveate.actions.scores import Scored
    from foveate.actions.selection import Model
    from foveate.actions.training import Data

VERSION = 5
PAPER, ADAPTED = "paper", "adapted"
"""The published probe, and adapters: known in every project, with the settings of ``ProbeSettings.published`` and ``adapted`` unless
foveate.yaml has its own."""

ADAPTERS = (ADAPTED, "adapted-auto", "adapted-static", "adapted-moving")
"""Adapters with the camera as foveate.yaml has it, and as it is said to be; all known in every project."""

FINAL = "final"
FITTED = "final-fitted"
"""Model of predictions for training videos where no fold could leave them out: the probe was fitted to these very labels."""


@remembered
def artefact(project: Project, name: str = "default", settings: ProbeSettings | None = None) -> Artefact:
    """Where the probe is, or will be, with its expected stamp. It depends on the annotated videos only, of which those without vectors
    (a broken file, a failed track) are left out: one video never stops the others.

    Raises:
        FoveateError: the labels have to be made first, or there is no probe of that name.
    """
    settings = settings_of(project, name, settings)
    labels = labels_artefact(project)
    if not labels.complete():
        raise FoveateError("the labels are missing or out of date", file=labels.folder, remedy="run `foveate run`")
    videos = embed.finished(project, [project.video(video) for video in labels.facts()["videos"]], settings.source)
    parents = {"labels": labels.stamp}
    parents |= {f"embed:{video.name}": embed.artefact(project, video, source=settings.source).stamp for video in videos}
    if settings.recipe == "paper" and settings.augment != "none":
        from foveate.actions import copies

        parents |= {f"augment:{video.name}": copies.artefact(project, video, name, settings).stamp for video in videos}
    if settings.recipe == "adapters":
        from foveate.actions import tokens

        parents |= {f"tokens:{video.name}": tokens.artefact(project, video, name, settings).stamp for video in videos}
    relevant = settings.relevant() | {"videos": {v.name: {"split": v.split, "subjects": list(v.subjects)} for v in videos}}
    return Artefact(project.stage_folder("probes", name), "probe", VERSION, relevant, parents)


def settings_of(project: Project, name: str, settings: ProbeSettings | None = None) -> ProbeSettings:
    """The settings given, or those of the probe ``name`` in foveate.yaml; ``paper`` and ``ADAPTERS`` need none there."""
    if settings is not None:
        return settings
    if name == PAPER and name not in project.config.probes:
        return project.config.probe.published()
    if name in ADAPTERS and name not in project.config.probes:
        return project.config.probes.get(ADAPTED, project.config.probe).adapted(name.removeprefix(ADAPTED).removeprefix("-"))
    try:
        return project.config.probes[name]
    except KeyError:
        raise FoveateError(
            f"there is no probe {name!r}",
            file=project.folder / CONFIG,
            remedy="known: " + ", ".join(project.config.probes) + "; add it under `baselines`",
        ) from None


def run(
    project: Project, name: str = "default", settings: ProbeSettings | None = None, progress: Progress = silent
) -> Artefact:
    """Fit and score the probe ``name``.

    Args:
        project: the project; labels and embeddings of all annotated videos must be finished.
        name: ``default``, or a name under ``baselines`` in foveate.yaml.
        settings: of a probe that foveate.yaml does not name.
        progress: counts fitted probes (the final one and the folds').

    Raises:
        FoveateError: an input is missing, a test video shares an animal with a training video, or no behaviour can be learned.
    """
    settings = settings_of(project, name, settings)
    target = artefact(project, name, settings)
    if target.complete():
        return target
    from foveate.actions import training
    from foveate.actions.bout_scores import bout_table
    from foveate.actions.calibration import calibration_tables
    from foveate.actions.scores import csv_text, macro_f1, score_table

    data = training.load(project, settings)
    target.begin()
    rows = data.everything
    fold, group = data.of_rows(data.fold_of, rows=rows), data.of_rows(data.groups, rows=rows)
    train = np.flatnonzero(data.of_rows({v.name: 1 for v in data.train}, missing=0, rows=rows))
    test = np.flatnonzero(data.of_rows({v.name: 1 for v in data.test}, missing=0, rows=rows))
    models: list[Model] = []
    more: dict[str, Any] = {}
    answers: NDArray[np.float64] | None = None  # of recipe adapters: logits of all rows, each by the model that may say
    if settings.recipe == "paper":
        from foveate.actions import copies, published

        seen, told = copies.views(project, data, settings)
        models, more, notes = published.run(target, data, seen, settings, progress)
        notes = [*told, *notes]
    elif settings.recipe == "adapters":
        from foveate.actions import adapted

        models, answers, more, notes = adapted.run(project, name, target, data, settings, progress)
    else:
        for k in range(1 + data.folds):
            use = train if k == 0 else train[fold[train] != k - 1]
            models.append(_fit(target.path(f"state-{k}.safetensors"), data, use, group, settings))
            progress(k + 1, 1 + data.folds)
        notes = _notes(data, models)

    sides: list[tuple[Scored, NDArray[np.int64]]] = []
    if data.folds:
        sides.append(_apply("cv", data, train, fold[train] + 1, models, group, answers))
    if len(test):
        sides.append(_apply("test", data, test, np.zeros(len(test), dtype=np.int64), models, group, answers))
    final = models[0]
    scored = [s for s, _ in sides]
    scores = score_table(scored, data.behaviours, final.threshold.tolist(), final.penalty.tolist(), settings.seed)
    bouts = bout_table(scored, data.behaviours, final.smoothing.tolist(), settings.seed)
    calibration, reliability = calibration_tables(scored, data.behaviours)
    _write_weights(target.path("probe.safetensors"), models)
    write_json(target.path("probe.json"), _describe(project, settings, data, models))
    write_text(target.path("scores.csv"), csv_text(scores))
    write_text(target.path("bouts.csv"), csv_text(bouts))
    write_text(target.path("calibration.csv"), csv_text(calibration))
    write_text(target.path("reliability.csv"), csv_text(reliability))
    write_parquet(target.path("folds.parquet"), _folds_table(sides, data.behaviours))
    for k in range(len(models)):
        target.path(f"state-{k}.safetensors").unlink(missing_ok=True)
    target.finish(
        {
            "behaviours": list(data.behaviours),
            "rows": len(data.rows.keys),
            "train_videos": len(data.train),
            "test_videos": len(data.test),
            "groups": len({data.groups[v.name] for v in data.train}),
            "folds": data.folds,
            "macro_f1": {split: macro_f1(scores, split) for split in ("cv", "test")},
            "problems": data.problems,
            "notes": [*data.notes, *notes],
            **more,
        }
    )
    return target


def _fit(path: Path, data: Data, use: NDArray[np.int64], group: NDArray[np.int64], settings: ProbeSettings) -> Model:
    """One probe, or what an interrupted run left of it."""
    from safetensors.numpy import load_file, save_file

    from foveate.actions.selection import Model

    if path.is_file():
        return Model(**load_file(path))
    model = fit_on(data, use, group, settings)
    with write_aside(path) as aside:
        save_file(dict(vars(model)), aside)
    return model


def fit_on(data: Data, use: NDArray[np.int64], group: NDArray[np.int64], settings: ProbeSettings) -> Model:
    """A probe fitted on the rows ``use`` of ``data.everything``, all its choices made inside them."""
    from foveate.actions.selection import select
    from foveate.actions.windows import moments

    rows = data.everything
    together = moments(rows.keys.iloc[use])
    return select(
        rows.design.take(use),
        rows.truth[use],
        use < len(data.rows.keys),
        together,
        data.strip(together.keys),
        group[use],
        settings.strengths,
        settings.folds,
        settings.balance,
    )


def _apply(
    split: str,
    data: Data,
    use: NDArray[np.int64],
    model: NDArray[np.int64],
    models: list[Model],
    group: NDArray[np.int64],
    answers: NDArray[np.float64] | None = None,
) -> tuple[Scored, NDArray[np.int64]]:
    """Predict rows by their models, views and ``*``, and keep the labelled ones; also the model of each of these."""
    import pandas as pd

    from foveate.actions.scores import Scored
    from foveate.actions.selection import decide, probability
    from foveate.actions.smoothing import decide_all
    from foveate.actions.windows import moments

    rows = data.everything
    logit = np.empty((len(use), len(data.behaviours))) if answers is None else answers[use]
    for k in np.unique(model) if answers is None else ():
        logit[model == k] = models[k].logits(rows.design.take(use[model == k]))
    keys = rows.keys.iloc[use].reset_index(drop=True)
    together = moments(keys)
    strip = data.strip(together.keys)
    both = np.concatenate([np.arange(len(use)), together.first])
    prob = probability(np.concatenate([logit, together.mean(logit)]))
    raw = decide(prob, np.stack([m.threshold for m in models])[model[both]])
    said, of_moment = raw.copy(), model[together.first]
    for k in np.unique(model):
        mine = of_moment == k
        said[len(use) :][mine] = decide_all(prob[len(use) :][mine], models[k].threshold, strip.take(mine), models[k].smoothing)
    known = use[both] < len(data.rows.keys)
    scored = Scored(
        split=split,
        keys=pd.concat([keys, together.keys], ignore_index=True)[known].reset_index(drop=True),
        truth=rows.truth[use][both][known],
        predicted=said[known],
        raw=raw[known],
        probability=prob[known],
        group=group[use][both][known],
        strip=strip.take(known[len(use) :]),
    )
    return scored, model[both][known]


def _folds_table(sides: Sequence[tuple[Scored, NDArray[np.int64]]], behaviours: Sequence[str]) -> pa.Table:
    """``folds.parquet``: keys, ``split`` (cv | test), ``model``, then of every behaviour ``true_``, ``prob_``, ``pred_`` (the decision) and
    ``raw_`` (the decision before smoothing; the same in single views)."""
    kinds = {"video": pa.string(), "view": pa.string(), "subject": pa.string(), "frame": pa.int64(), "time": pa.float64()}
    schema = pa.schema(
        [*kinds.items(), ("split", pa.string()), ("model", pa.string())]
        + [(f"true_{b}", pa.int8()) for b in behaviours]
        + [(f"prob_{b}", pa.float32()) for b in behaviours]
        + [(f"pred_{b}", pa.int8()) for b in behaviours]
        + [(f"raw_{b}", pa.int8()) for b in behaviours]
    )
    tables = [schema.empty_table()]
    for scored, model in sides:
        columns: dict[str, Any] = {name: pa.array(scored.keys[name].tolist(), kind) for name, kind in kinds.items()}
        columns |= {"split": [scored.split] * len(model), "model": [model_name(k) for k in model.tolist()]}
        for k, behaviour in enumerate(behaviours):
            columns[f"true_{behaviour}"] = scored.truth[:, k]
            columns[f"prob_{behaviour}"] = scored.probability[:, k]
            columns[f"pred_{behaviour}"] = scored.predicted[:, k]
            columns[f"raw_{behaviour}"] = scored.raw[:, k]
        tables.append(pa.table({name: columns[name] for name in schema.names}, schema=schema))
    return pa.concat_tables(tables).combine_chunks()


def model_name(number: int) -> str:
    """``final``, or ``fold-<k>`` for the probe that left fold k out."""
    return FINAL if number == 0 else f"fold-{number - 1}"


def _write_weights(path: Path, models: Sequence[Model]) -> None:
    from safetensors.numpy import save_file

    with write_aside(path) as aside:
        save_file({"weight": np.stack([m.weight for m in models]), "bias": np.stack([m.bias for m in models])}, aside)


def _describe(project: Project, settings: ProbeSettings, data: Data, models: Sequence[Model]) -> dict[str, Any]:
    backbone = embed.artefact(project, data.train[0], source=settings.source).settings
    return {
        "behaviours": list(data.behaviours),
        "settings": settings.relevant(),
        "width": data.rows.design.width // settings.window,
        "backbone": {"model": embed.model_name(project, settings.source), **backbone},
        "models": [
            {
                "name": model_name(k),
                "thresholds": m.threshold.tolist(),
                "penalties": m.penalty.tolist(),
                "smoothing": m.smoothing.tolist(),
                "chosen": m.chosen.tolist(),
            }
            for k, m in enumerate(models)
        ],
        "folds": {video: model_name(fold + 1) for video, fold in data.fold_of.items()},
        "train": [v.name for v in data.train],
        "test": [v.name for v in data.test],
        "groups": {v.name: data.groups[v.name] for v in (*data.train, *data.test)},
    }


def _notes(data: Data, models: Sequence[Model]) -> list[str]:
    from foveate.actions.selection import CHOICE_GROUPS

    notes = []
    kept = [b for b, chosen in zip(data.behaviours, models[0].chosen, strict=True) if not chosen]
    if kept:
        notes.append(
            f"{', '.join(kept)}: present, or absent, in fewer than {CHOICE_GROUPS} groups, so strength, threshold and "
            "smoothing could not be chosen by cross-validation; they are the middle strength, 0.5 and none"
        )
    stuck = sorted({data.behaviours[k] for m in models for k in np.flatnonzero(~m.converged)})
    if stuck:
        notes.append(f"{', '.join(stuck)}: the solver ran out of iterations; try larger `strengths`")
    return notes


@dataclass(frozen=True, eq=False)
class Probe:
    """A finished probe.

    Attributes:
        behaviours: L names.
        settings: feature, layer, source and window it was trained with.
        weight: float32 ``[1 + K, L, W * D]`` for raw vectors; bias: float32 ``[1 + K, L]``; threshold: float64 ``[1 + K, L]``.
        smoothing: float64 ``[1 + K, L, 3]``, see ``smoothing.Smoothing``; of view ``*``.
        folds: training video -> name of the model that never saw it; empty where there was no cross-validation.
        train: training videos.
    """

    behaviours: tuple[str, ...]
    settings: ProbeSettings
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    threshold: NDArray[np.float64]
    smoothing: NDArray[np.float64]
    folds: dict[str, str]
    train: tuple[str, ...]

    def model_of(self, video: str) -> tuple[str, int]:
        """Name and number of the model that may predict this video."""
        if video in self.folds:
            return self.folds[video], int(self.folds[video].removeprefix("fold-")) + 1
        return (FITTED if video in self.train else FINAL), 0


def load_probe(project: Project, name: str = "default", settings: ProbeSettings | None = None) -> Probe:
    """Read a finished probe.

    Raises:
        FoveateError: it is not finished, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found = artefact(project, name, settings)
    if not found.complete():
        raise FoveateError("the probe is missing or out of date", file=found.folder, remedy="run `foveate run`")
    path = found.checked("probe.safetensors")
    try:
        weights = load_file(path)
        about = json.loads(found.checked("probe.json").read_text(encoding="utf-8"))
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path) from error
    return Probe(
        behaviours=tuple(about["behaviours"]),
        settings=ProbeSettings.model_validate(about["settings"]),
        weight=weights["weight"],
        bias=weights["bias"],
        threshold=np.array([m["thresholds"] for m in about["models"]]),
        smoothing=np.array([m["smoothing"] for m in about["models"]]),
        folds=about["folds"],
        train=tuple(about["train"]),
    )
