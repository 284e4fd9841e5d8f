"""Recipe ``paper``: the published probe (Guided DINOv2, supplement), and what its way of scoring claims beside an honest one.

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

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics, probe
from foveate.actions.labelwise import DEFAULT_CHOICE, FEW_VIDEOS, Job, Tried, best, carry_out, clean_views, jobs, named
from foveate.actions.scores import INTERVAL_GROUPS, MACRO
from foveate.actions.selection import CHOICE_GROUPS, Model
from foveate.actions.sgd import Views
from foveate.actions.training import Data
from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.settings import ProbeSettings
from foveate.store import Artefact, write_aside, write_text

if TYPE_CHECKING:
    import pandas as pd

HONEST, PAPER, RANDOM, LEAVE_ONE = "honest", "paper", "random_frames", "leave_one_video_out"

COLUMNS = (
    *("score", "rows_of", "behaviour", "scored", "f1", "f1_low", "f1_high", "layer", "rate"),
    *("rows", "positives", "videos", "groups", "note"),
)
"""``published.csv``. ``rows_of`` is cv, test or all; ``behaviour`` a name or ``*macro``, the unweighted mean over labels with ``scored`` 1
(those of ``reported`` that occur in the rows); ``layer`` and ``rate`` (for batches of 256) are empty where they differ between folds;
``f1_low`` and ``f1_high`` are a 95 % bootstrap interval over groups, from 5 groups on and, for ``test``, from ``FEW_VIDEOS`` videos on."""


def run(
    target: Artefact, data: Data, seen: Views, settings: ProbeSettings, progress: Progress = silent
) -> tuple[list[Model], dict[str, Any], list[str]]:
    """Train everything on the rows as ``seen``, score it as they are, write ``published.csv`` and ``test_videos.csv``. An interrupted run
    goes on with the probes it had finished.

    Returns:
        The final probe and those of the folds, the scores as facts, and notes for the reader.
    """
    todo, done, clean = jobs(data, settings.seed), {}, clean_views(data)
    for number, job in enumerate(todo):
        done[job.name] = _kept(target, job, partial(carry_out, job, seen, clean, settings.seed))
        progress(number + 1, len(todo))
    table, single = score(data, settings, {job.name: job for job in todo}, done)
    write_text(target.path("published.csv"), csv_text(table))
    if len(single):
        write_text(target.path("test_videos.csv"), csv_text(single))
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
    unknown = [b for b in settings.reported if b not in data.behaviours]
    if unknown:
        notes.append(f"{', '.join(unknown)}: among the reported behaviours, but not learned, and so not in the macro average")
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
    if any(name.startswith("frames-") for name in job):
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


def csv_text(table: pd.DataFrame) -> str:
    """The table as text; the same on every system."""
    whole = {c: "Int64" for c in ("window", "scored", "rows", "positives", "videos", "groups") if c in table}
    return str(table.astype(whole).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


# --- reading them ---


@dataclass(frozen=True)
class Macro:
    """One macro average for readers."""

    score: str
    rows_of: str  # cv | test | all
    f1: float
    low: float  # NaN where there is no interval
    high: float
    rows: int
    videos: int

    @property
    def words(self) -> str:
        return WORDS[self.score]

    @property
    def interval(self) -> str | None:
        return None if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"


WORDS = {
    HONEST: "honest",
    PAPER: "best on what is scored (optimistic)",
    RANDOM: "frames split at random",
    LEAVE_ONE: "one video after another left out",
}


@dataclass(frozen=True)
class Published:
    """``published.csv`` and ``test_videos.csv`` read back: macro averages in the order of the file, and each test video's."""

    scores: tuple[Macro, ...]
    single: dict[str, float]

    def gap(self, score: str, rows_of: str) -> float | None:
        """How much more than the honest score another one claims on the same rows."""
        found = {(s.score, s.rows_of): s.f1 for s in self.scores}
        both = (found.get((score, rows_of)), found.get((HONEST, rows_of)))
        return None if both[0] is None or both[1] is None else both[0] - both[1]

    def sentences(self) -> list[str]:
        """What a reader should take from it."""
        out = []
        side, where = ("test", "test videos") if self.gap(PAPER, "test") is not None else ("cv", "cross-validated rows")
        best_on, random = self.gap(PAPER, side), self.gap(RANDOM, "cv")
        if best_on is not None:
            out.append(f"Choosing layer and learning rate on the {where} themselves changes macro F1 by {best_on:+.3f}.")
        if random is not None:
            out.append(f"A split of frames at random instead of whole groups of videos would have changed it by {random:+.3f}.")
        if self.single and len(self.single) < FEW_VIDEOS:
            few = "1 test video is too little" if len(self.single) == 1 else f"{len(self.single)} test videos are too few"
            values = ", ".join(f"{name} {value:.3f}" for name, value in self.single.items())
            out.append(f"{few} for an interval; macro F1: {values}.")
        return out


def load(project: Project, name: str = probe.PAPER) -> Published | None:
    """The scores of a finished probe of recipe ``paper``, None where there is none."""
    if probe.settings_of(project, name).recipe != "paper":
        return None
    found = probe.artefact(project, name)
    return read(found) if found.complete() else None


def read(found: Artefact) -> Published:
    """The scores of a finished artefact."""
    import pandas as pd

    table = pd.read_csv(found.checked("published.csv"))
    table = table[(table["behaviour"] == MACRO) & (table["scored"] == 1)]
    fields = ("score", "rows_of", "f1", "f1_low", "f1_high", "rows", "videos")
    scores = tuple(Macro(*row) for row in table[list(fields)].itertuples(index=False))
    single: dict[str, float] = {}
    if "test_videos.csv" in found.files():
        videos = pd.read_csv(found.checked("test_videos.csv"))
        videos = videos[(videos["behaviour"] == MACRO) & videos["f1"].notna()]
        single = dict(zip(videos["video"].astype(str), videos["f1"].astype(float), strict=True))
    return Published(scores, single)
