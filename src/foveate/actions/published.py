"""Recipe ``paper``: the published probe (Guided DINOv2, section 3 and supplement), and what its way of scoring claims beside an honest one.

``sgd`` trains the grid of layers and learning rates. The published probe is *label-wise best*: each label takes the layer and the rate
with its largest F1, and the winners are merged into one linear probe over both layers (threshold 0.5). Where that F1 was measured is what
the scores differ in; all count single views of single frames ("shots"), pooled:

    honest                layer and rate chosen on folds of whole groups inside the training rows; the rows scored were touched once
    paper                 chosen on the very rows that are scored, as published (no other set of videos is mentioned): optimistic
    random_frames         as ``honest``, but all folds are of frames drawn at random: what a split of frames would have claimed
    leave_one_video_out   as ``honest``, each group of annotated videos scored by a probe that saw all the others, declared test videos
                          included; only where these are fewer than ``FEW_VIDEOS``, too few for an interval of their own

``honest`` and ``paper`` are given for the cross-validated training videos (``cv``) and the test videos (``test``), ``random_frames`` for
``cv``, so that each gap is one between scores of the same rows.

Written beside what every probe writes (``probe``), which is about the honestly chosen probe:
    published.csv     see ``COLUMNS``
    test_videos.csv   F1 of the honest probe on each single test video
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.folds import assign_folds
from foveate.actions.scores import INTERVAL_GROUPS, MACRO
from foveate.actions.selection import CHOICE_GROUPS, Model, group_counts
from foveate.actions.sgd import RATES, Views, fit_grid
from foveate.actions.training import Data
from foveate.actions.windows import moments
from foveate.jobs import Progress, silent
from foveate.project import ProbeSettings
from foveate.schema import LAYERS
from foveate.store import Artefact, write_aside, write_text

if TYPE_CHECKING:
    import pandas as pd

CHOICE_FOLDS = 3
"""Folds on which layer and rate are chosen (specs: "3-fold over training videos")."""

FEW_VIDEOS = 8
"""With fewer test videos their score has no interval; leaving out one video after another gives one."""

HONEST, PAPER, RANDOM, LEAVE_ONE = "honest", "paper", "random_frames", "leave_one_video_out"

COLUMNS = (
    *("score", "rows_of", "behaviour", "scored", "f1", "f1_low", "f1_high", "layer", "rate"),
    *("rows", "positives", "videos", "groups", "note"),
)
"""``published.csv``. ``rows_of`` is cv, test or all; ``behaviour`` a name or ``*macro``, the unweighted mean over labels with ``scored`` 1
(those of ``reported`` that occur in the rows); ``layer`` and ``rate`` (for batches of 256) are empty where they differ between folds;
``f1_low`` and ``f1_high`` are a 95 % bootstrap interval over groups, from 5 groups on and, for ``test``, from ``FEW_VIDEOS`` videos on."""


@dataclass(frozen=True, eq=False)
class Job:
    """One probe to train, choose and try.

    Attributes:
        name: of its file while the stage is running.
        train: rows it is trained on. fold: of each of them, for the choice; all 0 where nothing can be chosen.
        chosen: bool ``[L]``: labels whose layer and rate can be chosen.
        held: rows it is tried on.
    """

    name: str
    train: NDArray[np.int64]
    fold: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    held: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tried:
    """What became of a job: the merged probe ``weight`` [L, W * 2 D] and ``bias`` [L], the number of the grid's probe that each label
    took, ``choice`` int64 [L], and the whole grid's logits of the held rows, f32 ``[n, 2 * 13, L]``."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    choice: NDArray[np.int64]
    held: NDArray[np.float32]

    def picked(self) -> NDArray[np.float32]:
        """``[n, L]`` logits of the merged probe."""
        return np.take_along_axis(self.held, self.choice[None, None], axis=1)[:, 0]


DEFAULT_CHOICE = LAYERS.index("third_last") * len(RATES) + len(RATES) // 2
"""For labels that leave no choice: the layer that was better in all published settings, and the middle rate."""


def jobs(data: Data, seed: int) -> list[Job]:
    """All probes that the scores need: ``final``, ``fold-<k>``, ``frames-<k>`` and, with few test videos, ``group-<g>``."""
    group = data.of_rows(data.groups)
    fold = data.of_rows(data.fold_of)
    train = np.flatnonzero(data.of_rows({v.name: 1 for v in data.train}, missing=0))
    test = np.flatnonzero(data.of_rows({v.name: 1 for v in data.test}, missing=0))
    frame = moments(data.rows.keys).of_row
    by_group, by_frame = _grouped(data.rows.truth, group), _at_random(data.rows.truth, frame, seed)
    out = [Job("final", train, *by_group(train), test)]
    folds = data.folds
    out += [
        Job(f"fold-{k}", train[fold[train] != k], *by_group(train[fold[train] != k]), train[fold[train] == k])
        for k in range(folds)
    ]
    if folds:
        drawn = np.random.default_rng([seed, 1]).permutation(frame.max() + 1)[frame] % folds
        for k in range(folds):
            use = train[drawn[train] != k]
            out.append(Job(f"frames-{k}", use, *by_frame(use), train[drawn[train] == k]))
    groups = np.unique(group)
    if len(data.test) < FEW_VIDEOS and len(groups) > 1:
        everything = np.arange(len(group))
        for g in groups.tolist():
            use = everything[group != g]
            out.append(Job(f"group-{g}", use, *by_group(use), everything[group == g]))
    return out


Choice = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.bool_]]]


def _grouped(truth: NDArray[np.int8], group: NDArray[np.int64]) -> Choice:
    """Folds of whole groups for some rows, and the labels that can be chosen on them."""

    def folds(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        names, mine = np.unique(group[rows], return_inverse=True)
        counts = group_counts(truth[rows], mine, len(names))
        negatives = group_counts(1 - np.abs(truth[rows]), mine, len(names))[:, 1:]
        chosen = ((counts[:, 1:] > 0).sum(0) >= CHOICE_GROUPS) & ((negatives > 0).sum(0) >= CHOICE_GROUPS)
        return assign_folds(counts, min(CHOICE_FOLDS, len(names)))[mine], chosen

    return folds


def _at_random(truth: NDArray[np.int8], frame: NDArray[np.int64], seed: int) -> Choice:
    """Folds of frames drawn at random, the views of one frame together."""
    drawn = np.random.default_rng([seed, 2]).permutation(frame.max() + 1)[frame] % CHOICE_FOLDS

    def folds(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        known = truth[rows]
        return drawn[rows], ((known == 1).sum(0) >= CHOICE_GROUPS) & ((known == 0).sum(0) >= CHOICE_GROUPS)

    return folds


def clean_views(data: Data) -> Views:
    """The rows as they are, in every pass."""
    design = data.rows.design
    return Views(design.vectors, design.index[None], data.rows.truth[None], len(LAYERS))


def carry_out(job: Job, seen: Views, clean: Views, seed: int) -> Tried:
    """Choose on the folds, train on all rows of the job, merge, and try on the held rows.

    Args:
        seen: the rows as they are trained on. clean: as they are, which is how they are chosen and tried on.
    """
    truth = clean.target[0]
    choice = np.full(truth.shape[1], DEFAULT_CHOICE)
    folds = np.unique(job.fold)
    if len(folds) > 1 and job.chosen.any():
        left_out = np.empty((len(job.train), clean.layers * len(RATES), truth.shape[1]), dtype=np.float32)
        for k in folds:
            mine = job.fold == k
            left_out[mine] = fit_grid(seen, job.train[~mine], seed).logits(clean, job.train[mine])
        choice = np.where(job.chosen, best(truth[job.train], left_out), choice)
    grid = fit_grid(seen, job.train, seed)
    weight, bias = grid.merge(choice, clean.index.shape[2])
    return Tried(weight, bias, choice, grid.logits(clean, job.held))


def best(truth: NDArray[np.int8], logit: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 ``[L]``: for every label the probe with the largest pooled F1 at logit 0; of equal ones (often 0, for rare labels) that with
    the least log loss.

    Args:
        truth: int8 ``[N, L]``. logit: f32 ``[N, probes, L]``.
    """
    once = np.zeros(len(truth), dtype=np.int64)
    probes = logit.shape[1]
    f1 = np.stack([metrics.f1(metrics.confusion(truth, (logit[:, p] >= 0).astype(np.int8), once, 1)[0]) for p in range(probes)])
    loss = np.stack([metrics.log_loss(truth, logit[:, p].astype(np.float64)) for p in range(probes)])
    winner: NDArray[np.int64] = np.lexsort([loss, -f1], axis=0)[0]
    return winner


def run(
    target: Artefact, data: Data, seen: Views, settings: ProbeSettings, progress: Progress = silent
) -> tuple[list[Model], dict[str, Any], list[str]]:
    """Train everything on the rows as ``seen`` and write ``published.csv`` and ``test_videos.csv``. An interrupted run goes on with the probes it had finished.

    Returns:
        The final probe and those of the folds, the scores as facts, and notes for the reader.
    """
    todo, done, clean = jobs(data, settings.seed), {}, clean_views(data)
    for number, job in enumerate(todo):
        done[job.name] = _kept(target, job, partial(carry_out, job, seen, clean, settings.seed))
        progress(number + 1, len(todo))
    table, single = score(data, settings, {job.name: job for job in todo}, done)
    write_text(target.path("published.csv"), _csv(table))
    if len(single):
        write_text(target.path("test_videos.csv"), _csv(single))
    for job in todo:
        target.path(_state(job)).unlink(missing_ok=True)
    final = todo[0]
    models = [_model(done[name], data.behaviours) for name in ("final", *(f"fold-{k}" for k in range(data.folds)))]
    kept = [b for b, chosen in zip(data.behaviours, final.chosen, strict=True) if not chosen]
    notes = []
    if kept:
        layer, rate = named(DEFAULT_CHOICE)
        notes.append(
            f"{', '.join(kept)}: present, or absent, in fewer than {CHOICE_GROUPS} groups, so layer and learning rate could not be chosen; "
            f"they are {layer} and {rate:g}"
        )
    macro = table[table["behaviour"] == MACRO]
    facts = {
        f"{row['score']}_{row['rows_of']}": {
            c: None if np.isnan(row[c]) else round(float(row[c]), 6) for c in ("f1", "f1_low", "f1_high")
        }
        for row in macro.to_dict("records")
    }
    return models, {"published": facts}, notes


def _state(job: Job) -> str:
    return f"state-{job.name}.safetensors"


def _kept(target: Artefact, job: Job, make: Callable[[], Tried]) -> Tried:
    """The result of a job, or what an interrupted run left of it."""
    from safetensors.numpy import load_file, save_file

    path = target.path(_state(job))
    if path.is_file():
        return Tried(**load_file(path))
    tried = make()
    with write_aside(path) as aside:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(tried).items()}, aside)
    return tried


def _model(tried: Tried, behaviours: Sequence[str]) -> Model:
    every = np.ones(len(behaviours), dtype=bool)
    return Model(
        weight=tried.weight,
        bias=tried.bias,
        penalty=np.zeros(len(behaviours)),
        threshold=np.full(len(behaviours), 0.5),
        smoothing=np.zeros((len(behaviours), 3)),  # none, as published
        chosen=every,
        converged=every,
    )


def named(choice: int) -> tuple[str, float]:
    """Layer and rate of a probe of the grid."""
    return LAYERS[choice // len(RATES)], RATES[choice % len(RATES)]


# --- scores ---


def score(
    data: Data, settings: ProbeSettings, job: dict[str, Job], done: dict[str, Tried]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``published.csv`` and ``test_videos.csv``."""
    import pandas as pd

    listed = np.array([not settings.reported or b in settings.reported for b in data.behaviours])
    rows: list[dict[str, Any]] = []

    def side(
        score: str, rows_of: str, held: NDArray[np.int64], logit: NDArray[np.float32], choice: NDArray[np.int64] | None
    ) -> None:
        interval = rows_of != "test" or len(data.test) >= FEW_VIDEOS
        rows.extend(_rows(score, rows_of, data, held, logit, choice, listed, interval, settings.seed))

    def together(prefix: str) -> tuple[NDArray[np.int64], list[Tried]]:
        names = [name for name in job if name.startswith(prefix)]
        return np.concatenate([job[n].held for n in names]), [done[n] for n in names]

    if data.folds:
        held, tried = together("fold-")
        side(HONEST, "cv", held, np.concatenate([t.picked() for t in tried]), None)
        grid = np.concatenate([t.held for t in tried])
        choice = best(data.rows.truth[held], grid)
        side(PAPER, "cv", held, np.take_along_axis(grid, choice[None, None], axis=1)[:, 0], choice)
        held, tried = together("frames-")
        side(RANDOM, "cv", held, np.concatenate([t.picked() for t in tried]), None)
    final, single = done["final"], pd.DataFrame()
    if len(job["final"].held):
        held = job["final"].held
        side(HONEST, "test", held, final.picked(), final.choice)
        choice = best(data.rows.truth[held], final.held)
        side(PAPER, "test", held, np.take_along_axis(final.held, choice[None, None], axis=1)[:, 0], choice)
        single = _single(data, held, final.picked(), listed)
    if any(name.startswith("group-") for name in job):
        held, tried = together("group-")
        side(LEAVE_ONE, "all", held, np.concatenate([t.picked() for t in tried]), None)
    return pd.DataFrame(rows, columns=list(COLUMNS)), single


def _rows(
    score: str,
    rows_of: str,
    data: Data,
    held: NDArray[np.int64],
    logit: NDArray[np.float32],
    choice: NDArray[np.int64] | None,
    listed: NDArray[np.bool_],
    interval: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """One score of one side: every label, then the macro average."""
    truth, predicted = data.rows.truth[held], (logit >= 0).astype(np.int8)
    names, group = np.unique(data.of_rows(data.groups)[held], return_inverse=True)
    video = data.rows.keys["video"].to_numpy()[held]
    counts = metrics.confusion(truth, predicted, group, len(names))
    f1, positives = metrics.f1(counts.sum(0)), (truth == 1).sum(0)
    scored = listed & (positives > 0)
    each, macro = np.full((len(f1), 2), np.nan), (np.nan, np.nan)
    if interval and len(names) >= INTERVAL_GROUPS:
        each, macro = metrics.bootstrap_f1(counts, scored, seed=seed)
    head = {"score": score, "rows_of": rows_of}
    out: list[dict[str, Any]] = []
    for k, behaviour in enumerate(data.behaviours):
        layer, rate = ("", np.nan) if choice is None else named(int(choice[k]))
        present = truth[:, k] == 1
        note = "" if scored[k] else "does not occur in these rows" if listed[k] else "not among the reported behaviours"
        out.append(
            head
            | {"behaviour": behaviour, "scored": int(scored[k]), "f1": f1[k], "f1_low": each[k, 0], "f1_high": each[k, 1]}
            | {"layer": layer, "rate": rate, "rows": int((truth[:, k] >= 0).sum()), "positives": int(present.sum())}
            | {"videos": len(set(video[present])), "groups": len(set(group[present].tolist())), "note": note}
        )
    mean = float(f1[scored].mean()) if scored.any() else np.nan
    whole = {"rows": len(held), "videos": len(set(video)), "groups": len(names)}
    note = f"mean of {int(scored.sum())} of {len(f1)} behaviours"
    last = {"behaviour": MACRO, "scored": int(scored.any()), "f1": mean, "f1_low": macro[0], "f1_high": macro[1], "note": note}
    return [*out, head | last | whole]


def _single(data: Data, held: NDArray[np.int64], logit: NDArray[np.float32], listed: NDArray[np.bool_]) -> pd.DataFrame:
    """F1 of every test video by itself: ``video, behaviour, f1, rows, positives``; no mean of several, no interval."""
    import pandas as pd

    truth, predicted = data.rows.truth[held], (logit >= 0).astype(np.int8)
    names, video = np.unique(data.rows.keys["video"].to_numpy()[held], return_inverse=True)
    counts = metrics.confusion(truth, predicted, video, len(names))
    f1 = metrics.f1(counts)
    out: list[dict[str, Any]] = []
    for v, name in enumerate(names):
        mine = truth[video == v]
        positives = (mine == 1).sum(0)
        for k, behaviour in enumerate(data.behaviours):
            observed = int((mine[:, k] >= 0).sum())
            out.append(
                {"video": name, "behaviour": behaviour, "f1": f1[v, k], "rows": observed, "positives": int(positives[k])}
            )
        scored = listed & (positives > 0)
        mean = float(f1[v, scored].mean()) if scored.any() else np.nan
        out.append({"video": name, "behaviour": MACRO, "f1": mean, "rows": len(mine), "positives": int(positives.sum())})
    return pd.DataFrame(out)


def _csv(table: pd.DataFrame) -> str:
    whole = {c: "Int64" for c in ("scored", "rows", "positives", "videos", "groups") if c in table}
    return str(table.astype(whole).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
