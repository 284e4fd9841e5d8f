"""How much annotation is enough: macro F1 on animals left out, against annotated animals and against annotated minutes.

The outer folds are the probe's own. For every fold, nested random parts of its training rows are drawn: of the animals (whole groups, as
they are never split), and of the time (an unbroken stretch of each recording, starting anywhere and going on at its beginning). On every
part everything is fitted and chosen anew, as the probe does it: strength, threshold and smoothing too. The animals left out are then scored
as scores.csv scores them; the point "all" is that score itself. This is made on request only, because it fits ``DRAWS`` probes for every
point and fold.

Written to ``probes/<name>/curve/curve.csv``
    axis               ``animals`` or ``minutes``: what was varied; the other is as large as the part happens to have it, or all
    size               number of groups, share of the time, or ``all``
    animals, minutes   annotated, in the training part, mean over folds and draws; minutes count the animals' own time (two animals
                       in one video for a minute are two minutes)
    behaviour          a behaviour, or ``*macro``: the mean over those that scores.csv scores
    f1, low, high      mean over draws, and 95 % bootstrap interval over groups left out and draws, from 5 groups on
    gain, gain_low, gain_high   what all of the annotation has over this part, from the same bootstrap draws
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import probe
from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import ProbeSettings
from foveate.store import Artefact, remembered, write_aside, write_text

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.training import Data

VERSION = 1
DRAWS = 5
SHARES = (0.125, 0.25, 0.5)
REPEATS = 2000  # of the bootstrap

ANIMALS, MINUTES, ALL = "animals", "minutes", "all"
COLUMNS = ("axis", "size", "animals", "minutes", "behaviour", "f1", "low", "high", "gain", "gain_low", "gain_high")


@dataclass(frozen=True)
class Point:
    """One size on one axis."""

    axis: str
    size: float

    @property
    def name(self) -> str:
        return f"{self.axis}-{self.size:g}"


@remembered
def artefact(project: Project, name: str = "default", settings: ProbeSettings | None = None) -> Artefact:
    """Where the learning curve of probe ``name`` is, or will be. It lies inside the probe's folder and goes when that is made anew."""
    parents = {"probe": probe.artefact(project, name, settings).stamp}
    folder = project.stage_folder("probes", name, "curve")
    return Artefact(folder, "curve", VERSION, {"draws": DRAWS, "shares": list(SHARES), "repeats": REPEATS}, parents)


def run(
    project: Project, name: str = "default", settings: ProbeSettings | None = None, progress: Progress = silent
) -> Artefact:
    """Draw the learning curve of a finished probe. What is done of it is kept fold by fold.

    Raises:
        FoveateError: the probe is not finished, is the published one, or has too few groups of training videos to take some away.
    """
    settings = probe.settings_of(project, name, settings)
    target = artefact(project, name, settings)
    if target.complete():
        return target
    done = probe.artefact(project, name, settings)
    if not done.complete():
        raise FoveateError("the probe is missing or out of date", file=done.folder, remedy="run `foveate run`")
    if settings.recipe == "paper":
        raise FoveateError("there is no learning curve of the published probe", remedy="ask for it with the default probe")
    from foveate.actions import training
    from foveate.actions.scores import csv_text

    data = training.load(project, settings)
    points = ladder(data)
    if not points:
        raise FoveateError(
            "a learning curve needs at least three groups of training videos (animals that share no video), two of which train",
            file=done.folder,
            remedy="annotate more animals",
        )
    target.begin()
    table = done.table("folds.parquet").to_pandas()
    counted = [_fold(target.path(f"fold-{k}.safetensors"), data, k, points, settings, progress) for k in range(data.folds)]
    write_text(target.path("curve.csv"), csv_text(_table(data, points, counted, _everything(data, table), settings.seed)))
    for k in range(data.folds):
        target.path(f"fold-{k}.safetensors").unlink()
    target.finish({"draws": DRAWS, "folds": data.folds})
    return target


def ladder(data: Data) -> list[Point]:
    """Numbers of groups that double from 2 on, as far as every fold's training part has more; and the shares of time."""
    groups = {data.groups[v.name] for v in data.train}
    if not data.folds:
        return []
    least = min(
        len(groups) - len({data.groups[v.name] for v in data.train if data.fold_of[v.name] == k}) for k in range(data.folds)
    )
    if least < 2:
        return []
    animals = [Point(ANIMALS, float(2**i)) for i in range(1, 20) if 2**i < least]
    return [*animals, *(Point(MINUTES, share) for share in SHARES)]


def _fold(
    path: Path, data: Data, k: int, points: Sequence[Point], settings: ProbeSettings, progress: Progress
) -> dict[str, NDArray[Any]]:
    """Of one outer fold and every point: ``counts-<point>`` int64 ``[DRAWS, G, L, 3]`` (TP, FP, FN by group left out) and
    ``size-<point>`` float64 ``[DRAWS, 2]`` (animals, minutes); ``size-all`` float64 ``[2]``."""
    from safetensors.numpy import load_file, save_file

    if path.is_file():
        found: dict[str, NDArray[Any]] = load_file(path)
        return found
    rows = data.everything
    fold, group = (data.of_rows(table, rows=rows) for table in (data.fold_of, data.groups))
    inside = data.of_rows({v.name: 1 for v in data.train}, missing=0, rows=rows) == 1
    known = np.arange(len(rows.keys)) < len(data.rows.keys)
    mine, held = inside & (fold != k), np.flatnonzero(inside & (fold == k))
    out: dict[str, NDArray[Any]] = {"size-all": _size(data, np.flatnonzero(mine & known))}
    for number, point in enumerate(points):
        counts, sizes = [], []
        for draw in range(DRAWS):
            rng = np.random.default_rng([settings.seed, k, draw, 0 if point.axis == ANIMALS else 1])  # nested: not of the size
            if point.axis == ANIMALS:
                chosen = rng.permutation(np.unique(group[mine & known]))[: int(point.size)]
                use = np.flatnonzero(mine & np.isin(group, chosen))
            else:
                use = _stretches(data, np.flatnonzero(mine & known), point.size, rng)
            counts.append(_score(data, use, held, group, settings))
            sizes.append(_size(data, use[known[use]]))
            progress(k * len(points) * DRAWS + number * DRAWS + draw + 1, data.folds * len(points) * DRAWS)
        out |= {f"counts-{point.name}": np.stack(counts), f"size-{point.name}": np.stack(sizes)}
    with write_aside(path) as aside:
        save_file(out, aside)
    return out


def _stretches(data: Data, use: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of the moments of every recording an unbroken stretch, ``share`` of them; those of a smaller share are among those of a larger."""
    from foveate.actions.windows import moments, series_of

    together = moments(data.everything.keys.iloc[use])
    keep = np.zeros(len(together.keys), dtype=bool)
    series = series_of(together.keys)
    for recording in np.unique(series):
        rows = np.flatnonzero(series == recording)
        first, count = int(rng.integers(len(rows))), int(np.ceil(share * len(rows)))
        keep[rows[(first + np.arange(count)) % len(rows)]] = True
    return use[keep[together.of_row]]


def _size(data: Data, use: NDArray[np.int64]) -> NDArray[np.float64]:
    """Animals and minutes of labelled rows."""
    from foveate.actions.windows import moments

    keys = moments(data.everything.keys.iloc[use]).keys
    return np.array([keys["subject"].nunique(), data.strip(keys).duration.sum() / 60])


def _score(
    data: Data, use: NDArray[np.int64], held: NDArray[np.int64], group: NDArray[np.int64], settings: ProbeSettings
) -> NDArray[np.int64]:
    """Fit on ``use`` and count hits and misses on ``held``, ``[G, L, 3]`` by group."""
    from foveate.actions import metrics
    from foveate.actions.selection import probability
    from foveate.actions.smoothing import decide_all
    from foveate.actions.windows import moments

    rows, model = data.everything, probe.fit_on(data, use, group, settings)
    seen = moments(rows.keys.iloc[held])
    prob = probability(seen.mean(model.logits(rows.design.take(held))))
    said = decide_all(prob, model.threshold, data.strip(seen.keys), model.smoothing)
    first = held[seen.first]
    return metrics.confusion(rows.truth[first], said, group[first], max(data.groups.values()) + 1)


def _everything(data: Data, table: pd.DataFrame) -> NDArray[np.int64]:
    """``[G, L, 3]`` of the probe's own out-of-fold decisions."""
    from foveate.actions import metrics
    from foveate.schema import ALL_VIEWS

    table = table[(table["split"] == "cv") & (table["view"] == ALL_VIEWS)]
    truth, said = (table[[f"{kind}_{b}" for b in data.behaviours]].to_numpy(np.int8) for kind in ("true", "pred"))
    group = np.array([data.groups[video] for video in table["video"]], dtype=np.int64)
    return metrics.confusion(truth, said, group, max(data.groups.values()) + 1)


def _table(
    data: Data,
    points: Sequence[Point],
    counted: Sequence[dict[str, NDArray[Any]]],
    everything: NDArray[np.int64],
    seed: int,
) -> pd.DataFrame:
    import pandas as pd

    from foveate.actions import metrics
    from foveate.actions.scores import ENOUGH_GROUPS, INTERVAL_GROUPS, MACRO

    held = sorted({data.groups[v.name] for v in data.train})
    whole = np.broadcast_to(everything[held], (DRAWS, *everything[held].shape))
    scored = (whole[0, ..., 0] + whole[0, ..., 2] > 0).sum(0) >= ENOUGH_GROUPS
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=REPEATS)
    drawn = rng.integers(DRAWS, size=REPEATS)

    def with_macro(f1: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The labels, then the macro average of those that can be scored; a label without a positive says nothing."""
        inside = known & scored
        macro = (f1 * inside).sum(-1, keepdims=True) / np.maximum(inside.sum(-1, keepdims=True), 1)
        return np.concatenate([np.where(known, f1, np.nan), macro], axis=-1)

    def measured(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Point ``[L + 1]`` and bootstrap draws ``[REPEATS, L + 1]`` of ``[DRAWS, G, L, 3]``."""
        total = counts.sum(1)
        point = with_macro(metrics.f1(total), np.ones(total.shape[:2], dtype=bool)).mean(0)
        again = np.einsum("rg,rglc->rlc", times, counts[drawn])
        return point, with_macro(metrics.f1(again), again[..., 0] + again[..., 2] > 0)

    most, most_drawn = measured(whole)
    rows: list[dict[str, Any]] = []
    names = [*data.behaviours, MACRO]
    full = np.mean([one["size-all"] for one in counted], axis=0)
    for point in [*points, Point(ANIMALS, np.inf), Point(MINUTES, np.inf)]:
        if np.isinf(point.size):
            (f1, draws), size = (most, most_drawn), full
        else:
            f1, draws = measured(sum(one[f"counts-{point.name}"] for one in counted)[:, held])  # type: ignore[index]
            size = np.mean([one[f"size-{point.name}"].mean(0) for one in counted], axis=0)
        for j, behaviour in enumerate(names):
            row = {
                "axis": point.axis,
                "size": ALL if np.isinf(point.size) else f"{point.size:g}",
                "animals": size[0],
                "minutes": size[1],
                "behaviour": behaviour,
                "f1": f1[j],
                "gain": most[j] - f1[j],
            }
            if len(held) >= INTERVAL_GROUPS:
                row["low"], row["high"] = _interval(draws[:, j])
                row["gain_low"], row["gain_high"] = _interval(most_drawn[:, j] - draws[:, j])
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else (np.nan, np.nan)


def sentence(rows: Sequence[Mapping[str, str]]) -> str:
    """What ``curve.csv`` says to somebody who asks how much more to annotate: the last step of each axis, and no further."""
    said, rises = [], []
    for axis in (ANIMALS, MINUTES):
        own = [row for row in rows if row["axis"] == axis and row["behaviour"] == "*macro"]
        part = max((row for row in own if row["size"] != ALL), key=lambda row: float(row[axis]), default=None)
        whole = next((row for row in own if row["size"] == ALL), None)
        if part is None or whole is None:
            continue
        interval = ""
        if part["gain_low"] and part["gain_high"]:
            low, high = float(part["gain_low"]), float(part["gain_high"])
            interval = f" (95 % interval {low:+.2f} to {high:+.2f})"
            rises.append(low > 0)
        sizes = f"from {float(part[axis]):.2g} to {float(whole[axis]):.2g} annotated {axis}"
        said.append(f"{sizes} it changed by {float(part['gain']):+.2f}{interval}")
    if not said:
        return ""
    text = f"Macro F1 on animals left out: {'; '.join(said)}."
    if not rises:
        return text + " There are too few independent animals for an interval."
    if any(rises):
        return text + " The curve is still rising: more annotation should help."
    return text + " No gain was shown in the last step: more of the same may not help much."
