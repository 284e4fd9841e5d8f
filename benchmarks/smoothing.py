"""What smoothing in time gains, and whether recalibrating probabilities would gain anything, on a finished demo.

Smoothing is chosen on folds inside the training part; here its decisions stand beside those of thresholds alone: out of fold, on the test
videos, and on the twelve videos that nobody annotated, against the rendered truth. Recalibration (Platt 1999: slope and intercept per
behaviour, fitted on inner folds with the penalties that the probe chose) is tried on the same outer folds and is not part of the probe.

    foveate demo demo && python benchmarks/smoothing.py demo
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate import timeline
from foveate.actions import metrics, predict, probe, training
from foveate.actions.bout_scores import segment_counts
from foveate.actions.bouts import Strip
from foveate.actions.calibration import equal_bins, recalibration
from foveate.actions.folds import assign_folds
from foveate.actions.logistic import fit, logits
from foveate.actions.selection import group_counts
from foveate.actions.smoothing import choose
from foveate.actions.windows import moments
from foveate.project import Project
from foveate.schema import ALL_VIEWS

Bits = NDArray[np.bool_]


def macro(told: Bits, said: Bits, strip: Strip, group: NDArray[np.int64], seed: int = 0) -> dict[str, Any]:
    """Macro F1 of frames and of bouts of ``[N, L]``, with 95 % bootstrap intervals over groups, and the number of bouts."""
    names, group = np.unique(group, return_inverse=True)
    frames = metrics.confusion(told.astype(np.int8), said.astype(np.int8), group, len(names))
    out: dict[str, Any] = {}
    for name, counts in [("frames", frames), *((f"bouts_{o}", by_group(told, said, strip, group, o)) for o in (0.25, 0.5))]:
        _, (low, high) = metrics.bootstrap_f1(counts, counts[..., 0].sum(0) + counts[..., 2].sum(0) > 0, seed=seed)
        out[name] = {"f1": round(float(metrics.f1(counts.sum(0)).mean()), 4), "low": round(low, 4), "high": round(high, 4)}
    for name, on in (("annotated", told), ("predicted", said)):
        out[name] = sum(len(strip.runs(on[:, k])[0]) for k in range(on.shape[1]))
    return out


def gain(told: Bits, raw: Bits, smoothed: Bits, strip: Strip, group: NDArray[np.int64], overlap: float) -> dict[str, float]:
    """Macro F1 of bouts with smoothing less that without, and its 95 % interval over the same draws of groups."""
    names, group = np.unique(group, return_inverse=True)
    one, two = (by_group(told, on, strip, group, overlap) for on in (raw, smoothed))
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=2000)

    def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        drawn = np.einsum("rg,glc->rlc", times, counts)
        known = drawn[..., 0] + drawn[..., 2] > 0
        return np.asarray((metrics.f1(drawn) * known).sum(1) / np.maximum(known.sum(1), 1))

    low, high = np.quantile(f1(two) - f1(one), [0.025, 0.975])
    value = metrics.f1(two.sum(0)).mean() - metrics.f1(one.sum(0)).mean()
    return {"f1": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def by_group(told: Bits, said: Bits, strip: Strip, group: NDArray[np.int64], overlap: float) -> NDArray[np.int64]:
    parts = [(group == g, strip.take(group == g)) for g in range(int(group.max()) + 1)]
    return np.array(
        [[segment_counts(told[mine, k], said[mine, k], part, overlap) for k in range(told.shape[1])] for mine, part in parts]
    )


def both(told: Bits, raw: Bits, smoothed: Bits, strip: Strip, group: NDArray[np.int64]) -> dict[str, Any]:
    """``thresholds`` are those that go with the smoothing; without it slightly others would have been chosen."""
    found = {"thresholds": macro(told, raw, strip, group), "smoothed": macro(told, smoothed, strip, group)}
    return found | {f"gain_bouts_{o}": gain(told, raw, smoothed, strip, group, o) for o in (0.25, 0.5)}


def annotated(project: Project, split: str) -> dict[str, Any]:
    data = training.load(project, project.config.probe)
    table = probe.artefact(project).table("folds.parquet").to_pandas()
    table = table[(table["split"] == split) & (table["view"] == ALL_VIEWS)].reset_index(drop=True)
    told, raw, said = (table[[f"{kind}_{b}" for b in data.behaviours]].to_numpy() == 1 for kind in ("true", "raw", "pred"))
    group = np.array([data.groups[v] for v in table["video"]])
    return both(told, raw, said, data.strip(table[["video", "view", "subject", "frame", "time"]]), group)


def rendered(project: Project, folder: Path) -> dict[str, Any]:
    """The videos without annotation; all of their animals are new."""
    fitted = probe.load_probe(project)
    bouts = pd.read_csv(folder / "truth" / "labels.csv")
    told, raw, said, strips, group = [], [], [], [], []
    for number, video in enumerate(v for v in project.videos if not v.split):
        table = predict.run(project, video).table("predictions.parquet").to_pandas()
        table = table[(table["view"] == ALL_VIEWS)].reset_index(drop=True)
        seen = (table[f"pred_{fitted.behaviours[0]}"] != -1).to_numpy()
        times = table["time"].to_numpy()
        own = bouts[bouts["video"] == video.name]
        truth = [
            ((times[:, None] >= mine["start"].to_numpy()) & (times[:, None] < mine["stop"].to_numpy())).any(1)
            for mine in (own[own["behaviour"] == b] for b in fitted.behaviours)
        ]
        told.append(np.stack(truth, 1)[seen])
        probability = table[[f"prob_{b}" for b in fitted.behaviours]].to_numpy(np.float64)
        raw.append((probability >= fitted.threshold[0])[seen])
        said.append((table[[f"pred_{b}" for b in fitted.behaviours]].to_numpy() == 1)[seen])
        frames = timeline.analysed(project, video)
        strips.append((np.full(seen.sum(), number), np.flatnonzero(seen), times[seen], frames.duration[seen]))
        group.append(np.full(seen.sum(), number))
    series, position, times, duration = (np.concatenate(part) for part in zip(*strips, strict=True))
    strip = Strip.of(series, position, times, duration)
    return both(np.concatenate(told), np.concatenate(raw), np.concatenate(said), strip, np.concatenate(group))


def recalibrated(project: Project) -> dict[str, Any]:
    """Brier score, log loss and calibration error of out-of-fold probabilities, as they are and after Platt scaling on inner folds; and
    the seconds that choosing the smoothing took per fold."""
    settings = project.config.probe
    data = training.load(project, settings)
    rows, labels = data.rows, len(data.behaviours)
    fold, group = data.of_rows(data.fold_of), data.of_rows(data.groups)
    about = pd.read_json(probe.artefact(project).path("probe.json"), typ="series")
    train = data.of_rows({v.name: 1 for v in data.train}, missing=0) == 1
    told, before, after, spent, groups = [], [], [], [], []
    fitted = probe.load_probe(project)
    for k in range(data.folds):
        use, held = np.flatnonzero(train & (fold != k)), np.flatnonzero(train & (fold == k))
        names, own = np.unique(group[use], return_inverse=True)
        inner = assign_folds(group_counts(rows.truth[use], own, len(names)), min(settings.folds, len(names)))[own]
        penalty = np.array(about["models"][k + 1]["penalties"])
        left = np.empty((len(use), labels))
        for f in np.unique(inner):
            target = np.where((inner == f)[:, None], np.int8(-1), rows.truth[use])
            for strength in np.unique(penalty):
                those = np.flatnonzero(penalty == strength)
                solution = fit(rows.design.take(use), target[:, those], (float(strength),), settings.balance)
                out = np.flatnonzero(inner == f)
                left[np.ix_(out, those)] = logits(rows.design.take(use[out]), solution.weight[0], solution.bias[0])
        inside, outside = moments(rows.keys.iloc[use]), moments(rows.keys.iloc[held])
        left, truth = inside.mean(left), rows.truth[use][inside.first]
        logit = outside.mean(logits(rows.design.take(held), fitted.weight[k + 1], fitted.bias[k + 1]))
        scaled = logit.copy()
        for j in range(labels):
            known = truth[:, j] >= 0
            intercept, slope = recalibration(truth[known, j] == 1, 1 / (1 + np.exp(-left[known, j])))
            if np.isfinite(slope):
                scaled[:, j] = intercept + slope * logit[:, j]
            started = time.process_time()
            choose(truth[:, j], (1 / (1 + np.exp(-left[:, j]))).astype(np.float32), data.strip(inside.keys))
            spent.append(time.process_time() - started)
        told.append(rows.truth[held][outside.first])
        groups.append(group[held][outside.first])
        before.append(logit)
        after.append(scaled)
    truth, of = np.concatenate(told), np.concatenate(groups)
    one, two = np.concatenate(before), np.concatenate(after)
    each = [brier(truth[of == g], two[of == g]) - brier(truth[of == g], one[of == g]) for g in np.unique(of)]
    drawn = np.random.default_rng(0).choice(each, (2000, len(each))).mean(1)
    return {
        "brier_change_by_animal": {
            "mean": round(float(np.mean(each)), 4),
            "low": round(float(np.quantile(drawn, 0.025)), 4),
            "high": round(float(np.quantile(drawn, 0.975)), 4),
            "better_for": f"{sum(d < 0 for d in each)} of {len(each)}",
        },
        "as_they_are": reliability(truth, np.concatenate(before)),
        "platt": reliability(truth, np.concatenate(after)),
        "cpu_seconds_to_choose_smoothing_per_probe": round(sum(spent) / data.folds, 3),
    }


def brier(truth: NDArray[np.int8], logit: NDArray[np.float64]) -> float:
    return float(((1 / (1 + np.exp(-logit)) - truth) ** 2)[truth >= 0].mean())


def reliability(truth: NDArray[np.int8], logit: NDArray[np.float64]) -> dict[str, float]:
    """Means over the behaviours."""
    found = []
    for j in range(truth.shape[1]):
        known = truth[:, j] >= 0
        t, p = truth[known, j] == 1, 1 / (1 + np.exp(-logit[known, j]))
        ece = sum(abs(p[part].mean() - t[part].mean()) * len(part) for part in equal_bins(p)) / len(p)
        loss = metrics.log_loss(truth[known, j : j + 1], logit[known, j : j + 1])[0]
        found.append((np.mean((p - t) ** 2), loss, ece))
    return {name: round(float(v), 4) for name, v in zip(("brier", "log_loss", "ece"), np.mean(found, axis=0), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a finished demo")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    project = Project.load(folder)
    result = {
        "what": "decisions by thresholds alone and smoothed; macro F1 of frames, and of bouts by temporal overlap, 7 behaviours",
        "out_of_fold": annotated(project, "cv"),
        "test": annotated(project, "test"),
        "unannotated_against_rendered_truth": rendered(project, folder),
        "recalibration": recalibrated(project),
    }
    write_cell(RESULTS / "smoothing.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
