"""Stage ``checkpoints``: what pretraining did for recognising behaviours, checkpoint by checkpoint (as in the tables of Guided DINOv2).

Every checkpoint embeds the annotated videos once, as crops and as whole views; the published probe is trained on these vectors with
windows of several widths (``units``). Then layers, learning rates and checkpoints are chosen, honestly by cross-validation, on request also
as published, on the very rows that are scored (``choice``), and the tables made (``tables``).

Written to ``checkpoints/tables/``; the units beside it stay when more runs, windows or models are asked for
    scores.csv    every score, see ``tables.SCORES``
    changes.csv   who gained what over whom, see ``tables.CHANGES``
    peaks.csv     when each behaviour was at its best, see ``tables.PEAKS``
    table.csv     the same in the form of the published tables

Training videos were seen in pretraining, without their labels; test videos were not. Cross-validated scores are therefore of new labels of
animals that the backbone knows, as in the published study all were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from foveate.annotations import artefact as labels_artefact
from foveate.checkpoints import units
from foveate.checkpoints.models import GUIDED, UNGUIDED, Model, Run, frozen_of, others_of, runs_of
from foveate.checkpoints.units import Augment
from foveate.jobs import Failure, Progress, Task, silent
from foveate.models import folder as folders
from foveate.models.pretrained import BUILT_IN, fetch_weights
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.store import Artefact, write_text

VERSION = 1

Shown = Literal["crop", "frame", "both"]


@dataclass(frozen=True)
class Wanted:
    """What is evaluated, and how.

    Attributes:
        runs: names of pretraining runs; empty for all.
        models: backbones of other origin beside them: folders or Hugging Face ids.
        windows: odd numbers of analysed frames.
        source: crops, whole views, or both.
        augment: ``cached`` trains the probes on changed pictures, nearer to the published ones: each checkpoint then embeds every picture
            ``probe.copies`` times more.
        paper: also give the scores of the published way, chosen on the rows that are scored.
    """

    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    windows: tuple[int, ...] = (1, 7)
    source: Shown = "both"
    augment: Augment = "none"
    paper: bool = False

    @property
    def shown(self) -> tuple[Literal["crop", "frame"], ...]:
        return ("crop", "frame") if self.source == "both" else (self.source,)

    def checked(self) -> Wanted:
        """With the width that everything is compared with, widths in order.

        Raises:
            FoveateError: a width is not odd and positive.
        """
        if any(w < 1 or w % 2 == 0 for w in self.windows):
            raise FoveateError(
                "windows are centred on their frame, so each width must be odd", remedy="for example 1 3 5 7 9 11"
            )
        return replace(self, windows=tuple(sorted({1, *self.windows})))


def models_of(project: Project, wanted: Wanted) -> tuple[list[Run], list[Model], list[Model]]:
    """The runs, the other models, and every backbone that has to be looked at, each once.

    Raises:
        FoveateError: there is no such run.
    """
    runs, others = runs_of(project, wanted.runs), others_of(project, wanted.models)
    every = [*frozen_of(runs).values(), *(model for run in runs for model in run.checkpoints), *others]
    return runs, others, list({model.path: model for model in every}.values())


def vectors_to_make(project: Project, wanted: Wanted, models: Sequence[Model], videos: Sequence[str] = ()) -> Iterator[Task]:
    """Embedding that is not done yet: annotated videos whose crops are there, one task per model, way of showing and video."""
    from foveate.checkpoints import vectors

    labels = labels_artefact(project)
    planned = set()  # what several runs began with is one backbone
    annotated = [project.video(name) for name in labels.facts()["videos"] if not videos or name in videos]
    for model in models:
        for shown in wanted.shown:
            for video in annotated:
                arguments = {"model": model.path, "source": shown, "augment": wanted.augment}
                try:
                    found = vectors.artefact(project, video, model.path, shown, wanted.augment)
                    if found.complete() or found.folder in planned:
                        continue
                    planned.add(found.folder)
                except FoveateError:
                    continue  # the stages before this one say so
                item = f"{title(model)}, {shown}, {video.name}"
                yield Task("embed", item, "foveate.checkpoints.vectors", {"video": video.name, **arguments})


def units_to_make(project: Project, wanted: Wanted, models: Sequence[Model]) -> Iterator[Task]:
    """Probing that is not done yet: one task per model, way of showing and window."""
    planned = set()
    for model in models:
        for shown in wanted.shown:
            for window in wanted.windows:
                found = _unit(project, wanted, model, shown, window)
                if found is not None and not found.complete() and found.folder not in planned:
                    planned.add(found.folder)
                    arguments = {"model": model.path, "source": shown, "window": window, "augment": wanted.augment}
                    item = f"{title(model)}, {shown}, window {window}"
                    yield Task("checkpoints", item, "foveate.checkpoints.units", arguments)


def title(model: Model) -> str:
    """A backbone in words."""
    return f"{model.run}, step {model.step}" if model.kind in (GUIDED, UNGUIDED) else model.run


def artefact(project: Project, wanted: Wanted) -> Artefact:
    """Where the tables are, or will be, with the expected stamp; of the units that are finished.

    Raises:
        FoveateError: there is no such run, or the labels have to be made first.
    """
    return _artefact(project, wanted, *models_of(project, wanted))


def _artefact(project: Project, wanted: Wanted, runs: list[Run], others: list[Model], models: list[Model]) -> Artefact:
    ready = _units(project, wanted, models)
    names = {key: f"{title(model)}:{key[1]}:{key[2]}" for model in models for key in ready if key[0] == model.path}
    settings = asdict(wanted) | {
        "steps": {run.name: [run.kind, run.steps, [m.step for m in run.checkpoints]] for run in runs},
        "frozen": {run: model.run for run, model in frozen_of(runs).items()},
        "others": [model.run for model in others],
    }
    parents = {names[key]: found.stamp for key, found in ready.items()}
    return Artefact(project.stage_folder("checkpoints", "tables"), "checkpoints", VERSION, settings, parents)


def _units(project: Project, wanted: Wanted, models: Sequence[Model]) -> dict[tuple[str, str, int], Artefact]:
    """Those that are finished."""
    made = {
        (model.path, shown, window): _unit(project, wanted, model, shown, window)
        for model in models
        for shown in wanted.shown
        for window in wanted.windows
    }
    return {key: unit for key, unit in made.items() if unit is not None and unit.complete()}


def _unit(project: Project, wanted: Wanted, model: Model, shown: Literal["crop", "frame"], window: int) -> Artefact | None:
    """None for a model that cannot be had."""
    try:
        return units.artefact(project, model.path, shown, window, wanted.augment)
    except FoveateError:
        labels_artefact(project)  # raises what has nothing to do with the model
        return None


def found(project: Project) -> Artefact:
    """The tables that lie there, whatever they were asked for.

    Raises:
        FoveateError: there are none, or their runs are gone.
    """
    folder = project.stage_folder("checkpoints", "tables")
    record = Artefact(folder, "checkpoints", VERSION, {}, {}).record()
    if record is None:
        raise FoveateError("no checkpoints were evaluated", file=folder, remedy="run `foveate checkpoints`")
    given = {name: record["settings"].get(name) for name in Wanted.__dataclass_fields__}
    lists = {name: tuple(given[name]) for name in ("runs", "models", "windows")}
    return artefact(project, Wanted(**given | lists))


def run(project: Project, wanted: Wanted, progress: Progress = silent) -> Artefact:
    """Make the tables of all units that are finished.

    Raises:
        FoveateError: there are none, or a file is damaged.
    """
    from foveate.checkpoints import tables

    runs, others, models = models_of(project, wanted)
    target = _artefact(project, wanted, runs, others, models)
    if target.complete():
        return target
    ready = _units(project, wanted, models)
    if not ready:
        raise FoveateError(
            "no checkpoint could be evaluated",
            file=target.folder,
            remedy="see what `foveate status` says of the annotated videos",
        )
    read = {key: units.load(unit) for key, unit in ready.items()}
    read, strange = _alike(read)
    frozen = frozen_of(runs)
    lines = tables.lines_of(runs, frozen, others)
    measured = tables.Measured(read, lines, tuple(runs), frozen, wanted.shown, wanted.windows, wanted.paper)
    texts = tables.files(measured)
    target.begin()
    for name, text in texts.items():
        write_text(target.path(name), text)
    names = {model.path: title(model) for model in models}
    notes = [
        f"{names[path]} ({shown}, window {window}): other rows than the rest, and so left out"
        for path, shown, window in strange
    ]
    missing = sorted(
        {names[m.path] for m in models for s in wanted.shown for w in wanted.windows if (m.path, s, w) not in ready}
    )
    notes += [f"{name}: could not be evaluated, or not wholly" for name in missing]
    facts = measured.first.facts
    kept = {name: facts[name] for name in ("behaviours", "reported", "folds", "rows", "videos")}
    target.finish(kept | {"groups": len(set(facts["groups"].values())), "notes": [*facts["notes"], *notes]})
    progress(1, 1)
    return target


def _alike(
    read: dict[tuple[str, str, int], units.Unit],
) -> tuple[dict[tuple[str, str, int], units.Unit], list[tuple[str, str, int]]]:
    """Only units of the same rows can be compared: those like the first, and the others."""
    first = next(iter(read.values())).facts
    same = {k: u for k, u in read.items() if all(u.facts[n] == first[n] for n in ("behaviours", "rows", "groups", "folds"))}
    return same, [key for key in read if key not in same]


def missing_weights(models: Sequence[Model]) -> list[Failure]:
    """Why some models cannot be evaluated: their weights are neither here nor to be had. The others go on."""
    failures = []
    for model in models:
        try:
            fetch_weights(model.path)
            if model.path not in BUILT_IN and not folders.weight_files(folders.fetch(model.path)):
                raise FoveateError("no weights here", file=model.path, remedy="name a Hugging Face folder or id")
        except FoveateError as error:
            failures.append(Failure("checkpoints", title(model), error))
    return failures


def rows_of(made: Artefact, name: str) -> list[dict[str, str]]:
    """A table as text, row by row."""
    return [row for _, row in read_csv(made.checked(name), ())]
