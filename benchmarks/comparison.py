"""The comparison of groups on simulated animals: false positives, power, classifier errors, intervals. Needs no footage.

An animal has shares of seven behaviours that hang together: standing, lying, moving and eating exclude each other (a softmax of normal
numbers), head_up goes with standing, turning with moving. It is seen in six videos, in each in its own mood, and shares come from a
finite number of moments, so that ties occur. Each cell draws ``--draws`` studies and asks what foveate's own functions say.

    python benchmarks/comparison.py                     # all four cells, and their figures into docs/pictures/
    python benchmarks/comparison.py power --draws 200
    python benchmarks/comparison.py --project DEMO      # naive and corrected shares of a finished demo beside its rendered truth
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate.groups import corrected, effects, statistics

SIZES = (4, 5, 6, 7, 8, 10, 12, 14)
BEHAVIOURS = ("standing", "lying", "moving", "eating", "head_up", "turning_left", "turning_right")
VIDEOS = 6  # of an animal
MOMENTS = 60  # independent ones that a share of a video is made of: its sampling noise
ALPHA = 0.05
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def animals(
    rng: np.random.Generator, count: int, shift: float = 0.0, animal: float = 0.5, mood: float = 0.5
) -> NDArray[np.float64]:
    """f64[count, VIDEOS, 7]: shares per video; ``shift`` moves the tendency to lie, in standard deviations of the animals."""
    centre = np.array([1.0, 0.4, 0.2, -0.6])
    latent = centre + animal * rng.normal(size=(count, 1, 4)) + mood * rng.normal(size=(count, VIDEOS, 4))
    latent[..., 1] += shift * animal
    main = np.exp(latent)
    main /= main.sum(-1, keepdims=True)
    # Log-odds given the main behaviour; turning is rare.
    given = np.array([-1.0, -2.2, -2.2]) + 0.6 * rng.normal(size=(count, 1, 3)) + 0.4 * rng.normal(size=(count, VIDEOS, 3))
    also = main[..., [0, 2, 2]] / (1 + np.exp(-given))
    return rng.binomial(MOMENTS, np.concatenate([main, also], axis=-1)) / MOMENTS


def tested(first: NDArray[np.float64], second: NDArray[np.float64], paired: bool = False) -> NDArray[np.float64]:
    """p of every behaviour that occurs, shares f64[n, 7] of two groups; NaN where it is not tested."""
    out = np.full(first.shape[1], np.nan)
    for k in range(first.shape[1]):
        if first[:, k].any() or second[:, k].any():
            x, y = first[:, k], second[:, k]
            out[k] = statistics.wilcoxon(x - y).p if paired else statistics.mann_whitney(x, y).p
    return out


def starred(p: NDArray[np.float64]) -> NDArray[np.bool_]:
    out = np.zeros(len(p), dtype=bool)
    there = np.isfinite(p)
    out[there] = statistics.holm(p[there]) < ALPHA
    return out


def share(hits: int, of: int) -> dict[str, float]:
    """With its exact 95 % interval (Clopper and Pearson)."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return {"share": hits / of, "low": round(low, 4), "high": round(high, 4)}


def false_positives(draws: int) -> dict[str, Any]:
    """No difference between the groups: in which share of studies is any behaviour starred?"""
    from scipy.stats import mannwhitneyu

    rows = []
    for n in SIZES:
        rng = np.random.default_rng([1, n])
        counts = dict.fromkeys(("holm", "uncorrected", "paired_holm", "videos_uncorrected", "videos_holm"), 0)
        for _ in range(draws):
            both = animals(rng, 2 * n)
            first, second = both[:n].mean(1), both[n:].mean(1)
            p = tested(first, second)
            counts["holm"] += bool(starred(p).any())
            counts["uncorrected"] += bool((p < ALPHA).any())
            # The same animals before and after: three videos each.
            counts["paired_holm"] += bool(starred(tested(both[:n, :3].mean(1), both[:n, 3:].mean(1), paired=True)).any())
            flat = mannwhitneyu(both[:n].reshape(-1, 7), both[n:].reshape(-1, 7), axis=0, method="asymptotic").pvalue
            counts["videos_uncorrected"] += bool((flat < ALPHA).any())
            counts["videos_holm"] += bool(starred(np.asarray(flat)).any())
        rows.append({"animals_per_group": n} | {name: share(hits, draws) for name, hits in counts.items()})
        print(n, {name: hits / draws for name, hits in counts.items()})
    return {
        "what": "share of studies without any difference in which at least one of 7 behaviours is called different, alpha .05",
        "draws": draws,
        "videos_per_animal": VIDEOS,
        "rows": rows,
        "largest_after_holm": max(row["holm"]["share"] for row in rows),
        "largest_after_holm_paired": max(row["paired_holm"]["share"] for row in rows),
        "videos_as_units_after_holm": [
            min(r["videos_holm"]["share"] for r in rows),
            max(r["videos_holm"]["share"] for r in rows),
        ],
    }


def power(draws: int) -> dict[str, Any]:
    """Animals of the second group lie more: how often is lying starred, after Holm over all behaviours?"""
    rows = []
    for shift in (1.0, 1.5, 2.0, 3.0):
        for n in SIZES:
            rng = np.random.default_rng([2, n, round(10 * shift)])
            hits = alone = 0
            deltas = []
            for _ in range(draws):
                first, second = animals(rng, n).mean(1), animals(rng, n, shift).mean(1)
                p = tested(first, second)
                hits += bool(starred(p)[1])
                alone += bool(p[1] < ALPHA)
                deltas.append(effects.cliffs_delta(second[:, 1], first[:, 1]))
            rows.append(
                {"shift": shift, "animals_per_group": n, "holm": share(hits, draws), "one_behaviour": share(alone, draws)}
                | {"mean_delta": round(float(np.mean(deltas)), 3)}
            )
        print(shift, [row["holm"]["share"] for row in rows[-len(SIZES) :]])
    return {
        "what": "share of studies in which the behaviour that differs is starred: Holm over 7, and if it alone had been tested",
        "draws": draws,
        "shift_in": "standard deviations of the animals' tendency to lie; mean_delta is Cliff's delta that it amounts to",
        "rows": rows,
    }


ERRORS = {
    "errs_alike": ((0.92, 0.97), (0.92, 0.97)),
    "false_alarms": ((0.92, 0.97), (0.92, 0.85)),
    "misses": ((0.92, 0.97), (0.70, 0.97)),
}
"""Sensitivity and specificity of the classifier in both groups; single animals scatter around them."""


def classified(
    rng: np.random.Generator, count: int, rates: tuple[float, float], frames: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True and predicted share of each animal over ``frames`` independent moments; mean true share of the population: see ``TRUE``."""
    true = 1 / (1 + np.exp(-(-1.0 + 0.6 * rng.normal(size=count))))
    sensitivity, specificity = (1 / (1 + np.exp(-(math.log(r / (1 - r)) + 0.4 * rng.normal(size=count)))) for r in rates)
    positive = rng.binomial(frames, true)
    said = rng.binomial(positive, sensitivity) + rng.binomial(frames - positive, 1 - specificity)
    return positive / frames, said / frames


def population() -> float:
    """Mean true share: the logistic function of a normal number, by quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    return float((w / (1 + np.exp(-(-1.0 + 0.6 * x)))).sum() / w.sum())


def errors_carried(draws: int, compared: int = 7) -> dict[str, Any]:
    """The true shares are the same in both groups. What do naive and corrected shares say, and the tests of their difference?"""
    truth = population()
    rows = []
    for scenario, rates in ERRORS.items():
        for annotated in (3, 4, 6, 9, 14):
            rng = np.random.default_rng([3, annotated, list(ERRORS).index(scenario)])
            bias: dict[str, list[float]] = {"naive": [], "corrected": []}
            inside = {"naive": 0, "corrected": 0}
            wrong = {"naive": 0, "naive_rank_test": 0, "corrected": 0}
            width: dict[str, list[float]] = {"naive": [], "corrected": []}
            for _ in range(draws):
                said = [classified(rng, compared, r, 400)[1] for r in rates]
                known = [classified(rng, annotated, r, 150) for r in rates]
                shares = [{f"{g}{k}": float(v) for k, v in enumerate(values)} for g, values in enumerate(said)]
                errors = [
                    {f"{g}known{k}": float(t - f) for k, (t, f) in enumerate(zip(*pair, strict=True))}
                    for g, pair in enumerate(known)
                ]
                naive = [corrected.mean(s) for s in shares]
                better = [corrected.corrected(s, e) for s, e in zip(shares, errors, strict=True)]
                for name, estimates in (("naive", naive), ("corrected", better)):
                    for estimate in estimates:
                        low, high = estimate.interval()
                        inside[name] += low <= truth <= high
                        width[name].append(high - low)
                    bias[name].append(estimates[1].value - truth)
                    wrong[name] += corrected.difference(*estimates)["p"] < ALPHA
                wrong["naive_rank_test"] += statistics.mann_whitney(said[0], said[1]).p < ALPHA
            row: dict[str, Any] = {"scenario": scenario, "annotated_animals_per_group": annotated}
            for name in ("naive", "corrected"):
                row[name] = {
                    "bias_in_group_2": round(float(np.mean(bias[name])), 4),
                    "coverage": share(inside[name], 2 * draws),
                    "mean_width": round(float(np.mean(width[name])), 4),
                    "difference_found": share(wrong[name], draws),
                }
            row["naive"]["difference_found_by_rank_test"] = share(wrong["naive_rank_test"], draws)
            rows.append(row)
            print(scenario, annotated, {k: (row[k]["bias_in_group_2"], row[k]["coverage"]["share"], row[k]["difference_found"]["share"])
                                        for k in ("naive", "corrected")})  # fmt: skip
    return {
        "what": "two groups with the same true mean share; bias of the second group's estimated share, coverage of the 95 % intervals, "
        "share of studies in which a difference is found (alpha .05, one behaviour)",
        "draws": draws,
        "true_share": round(truth, 4),
        "compared_animals_per_group": compared,
        "sensitivity_specificity": {name: [list(r) for r in rates] for name, rates in ERRORS.items()},
        "rows": rows,
    }


def intervals(draws: int) -> dict[str, Any]:
    """How often the 95 % intervals hold the true effect: normal values, shifted."""
    from scipy.special import ndtr

    rows = []
    for shift in (0.0, 1.0, 2.0):
        delta = float(2 * ndtr(shift / math.sqrt(2)) - 1)
        for n in (4, 6, 8, 10, 14):
            rng = np.random.default_rng([4, n, round(shift)])
            inside = dict.fromkeys(("newcombe", "bootstrap", "hedges_g_noncentral", "hedges_g_bootstrap"), 0)
            points = 0
            for k in range(draws):
                x, y = rng.normal(shift, 1, n), rng.normal(0, 1, n)
                found = effects.cliffs_delta(x, y)
                low, high = effects.delta_interval(found, n, n)
                inside["newcombe"] += low <= delta <= high
                low, high = effects.delta_bootstrap(x, y, 1000, k)
                inside["bootstrap"] += low <= delta <= high
                points += low == high
                low, high = effects.hedges_g_interval(x, y)
                inside["hedges_g_noncentral"] += low <= shift <= high
                low, high = effects.hedges_g_bootstrap(x, y, 1000, k)
                inside["hedges_g_bootstrap"] += low <= shift <= high
            rows.append(
                {
                    "animals_per_group": n,
                    "true_delta": round(delta, 3),
                    "true_g": shift,
                    "bootstrap_is_a_point": share(points, draws),
                }
                | {name: share(hits, draws) for name, hits in inside.items()}
            )
            print(shift, n, {name: hits / draws for name, hits in inside.items()}, points / draws)
    return {"what": "coverage of nominal 95 % intervals of Cliff's delta and of Hedges' g", "draws": draws, "rows": rows}


def draw(name: str, cell: dict[str, Any], path: Path) -> None:
    """The cell as a figure."""
    from matplotlib.figure import Figure

    from foveate.groups.figure import save, style

    with style():
        figure = Figure(figsize=(6.0, 2.6))
        {"false_positives": _draw_false, "power": _draw_power, "corrected": _draw_corrected, "intervals": _draw_intervals}[
            name
        ](figure, cell["rows"])
        figure.tight_layout()
        save(figure, path, pdf=False)


BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def _line(axis: Any, x: list[float], cells: list[dict[str, float]], label: str, colour: str, dash: str = "-") -> None:
    y = [100 * c["share"] for c in cells]
    axis.fill_between(x, [100 * c["low"] for c in cells], [100 * c["high"] for c in cells], color=colour, alpha=0.15, lw=0)
    axis.plot(x, y, dash, color=colour, lw=1.3, marker="o", ms=2.6, label=label)


def _plain(axis: Any, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(axis: Any, title: str = "") -> None:
    """Beside the last panel, where it covers nothing."""
    axis.legend(frameon=False, fontsize=6.5, loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=2.4, title=title)


def _draw_false(figure: Any, rows: list[dict[str, Any]]) -> None:
    axis = figure.subplots()
    x = [row["animals_per_group"] for row in rows]
    for key, words, colour, dash in (
        ("videos_uncorrected", "videos as units, uncorrected", RED, "--"),
        ("videos_holm", "videos as units, Holm", RED, "-"),
        ("uncorrected", "animals as units, uncorrected", GREY, "--"),
        ("holm", "animals as units, Holm (foveate)", BLUE, "-"),
        ("paired_holm", "the same animals twice, Holm (foveate)", GREEN, "-"),
    ):
        _line(axis, x, [row[key] for row in rows], words, colour, dash)
    axis.axhline(100 * ALPHA, color="black", lw=0.6, ls=":")
    axis.set_ylim(0, 100)
    _plain(axis, f"animals per group ({VIDEOS} videos each)", "studies with a false star (%)")
    _legend(axis)


def _draw_power(figure: Any, rows: list[dict[str, Any]]) -> None:
    axis = figure.subplots()
    shifts = sorted({row["shift"] for row in rows})
    for shift, colour in zip(shifts, (GREY, GREEN, RED, BLUE), strict=True):
        mine = [row for row in rows if row["shift"] == shift]
        x = [row["animals_per_group"] for row in mine]
        delta = float(np.mean([row["mean_delta"] for row in mine]))
        _line(axis, x, [row["holm"] for row in mine], f"{shift:g} sd (Cliff's delta {delta:.2f})", colour)
        axis.plot(x, [100 * row["one_behaviour"]["share"] for row in mine], ":", color=colour, lw=0.9)
    axis.set_ylim(0, 100)
    _plain(axis, "animals per group", "studies that star it (%)")
    _legend(axis, "Holm over 7 behaviours;\ndotted: tested alone")


def _draw_corrected(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots(1, 3)
    mine = [row for row in rows if row["scenario"] == "false_alarms"]
    alike = [row for row in rows if row["scenario"] == "errs_alike"]
    x = [row["annotated_animals_per_group"] for row in mine]
    for name, colour in (("naive", RED), ("corrected", BLUE)):
        axes[0].plot(
            x, [100 * row[name]["bias_in_group_2"] for row in mine], color=colour, marker="o", ms=2.6, lw=1.3, label=name
        )
        _line(axes[1], x, [row[name]["coverage"] for row in mine], name, colour)
        _line(axes[2], x, [row[name]["difference_found"] for row in mine], name, colour)
        axes[2].plot(x, [100 * row[name]["difference_found"]["share"] for row in alike], ":", color=colour, lw=0.9)
    axes[0].axhline(0, color="black", lw=0.6, ls=":")
    axes[1].axhline(95, color="black", lw=0.6, ls=":")
    axes[2].axhline(5, color="black", lw=0.6, ls=":")
    for axis, title, words in zip(
        axes,
        ("bias of the share", "coverage of the interval", "false differences"),
        ("percentage points", "%", "%"),
        strict=True,
    ):
        axis.set_title(title)
        _plain(axis, "annotated animals per group", words)
    axes[0].set_ylim(-1, 10)
    axes[1].set_ylim(0, 102)
    axes[2].set_ylim(0, 40)
    _legend(axes[2])


def _draw_intervals(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots(1, 3, sharey=True)
    for axis, shift in zip(axes, sorted({row["true_g"] for row in rows}), strict=True):
        mine = [row for row in rows if row["true_g"] == shift]
        x = [row["animals_per_group"] for row in mine]
        for key, words, colour, dash in (
            ("newcombe", "delta, Newcombe", BLUE, "-"),
            ("bootstrap", "delta, bootstrap", BLUE, "--"),
            ("hedges_g_noncentral", "g, noncentral t", RED, "-"),
            ("hedges_g_bootstrap", "g, bootstrap", RED, "--"),
        ):
            _line(axis, x, [row[key] for row in mine], words, colour, dash)
        axis.axhline(95, color="black", lw=0.6, ls=":")
        axis.set_title(f"delta {mine[0]['true_delta']:.2f}, g {shift:g}")
        _plain(axis, "animals per group", "coverage (%)" if axis is axes[0] else "")
    axes[0].set_ylim(50, 100)
    _legend(axes[2])


def rendered(folder: Path) -> dict[str, Any]:
    """Mean share of every group and behaviour: predicted, corrected, and as it was rendered."""
    import pandas as pd

    from foveate.groups import artefact
    from foveate.project import Project

    project = Project.load(folder)
    done = artefact(project)
    compared = {name for name, about in done.settings["members"].items() if about["group"]}
    truth = pd.read_csv(folder / "truth" / "labels.csv")
    truth = truth[truth["video"].isin(compared)].assign(seconds=lambda t: t["stop"] - t["start"])
    length = {name: duration(project, name) for name in compared}
    group = {video.name: video.group for video in project.videos}
    table = pd.read_csv(done.checked("corrected.csv"))
    rows = []
    for row in table.to_dict("records"):
        mine = truth[truth["behaviour"] == row["behaviour"]].groupby("video")["seconds"].sum()
        true = float(np.mean([mine.get(name, 0.0) / length[name] for name in compared if group[name] == row["group"]]))
        rows.append(
            {"behaviour": row["behaviour"], "group": row["group"], "truth": round(true, 4)}
            | {key: round(row[key], 4) for key in table.columns if key.startswith(("naive", "corrected"))}
        )
        print(rows[-1])
    out: dict[str, Any] = {
        "what": "finished demo: mean share of the animals nobody annotated, predicted and corrected, against the truth"
    }
    for name in ("naive", "corrected"):
        out[f"{name}_mean_error"] = round(float(np.mean([abs(row[name] - row["truth"]) for row in rows])), 4)
        out[f"{name}_intervals_with_truth"] = sum(row[f"{name}_low"] <= row["truth"] <= row[f"{name}_high"] for row in rows)
    return out | {"intervals": len(rows), "rows": rows}


def duration(project: Any, name: str) -> float:
    from foveate import timeline

    return float(timeline.artefact(project, project.video(name)).facts()["duration"])


CELLS = {"false_positives": false_positives, "power": power, "corrected": errors_carried, "intervals": intervals}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", choices=[*CELLS, []], help="which; default: all")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--project", type=Path, help="a finished demo; only this is measured")
    parser.add_argument("--figures", action="store_true", help="only draw what was measured before")
    arguments = parser.parse_args()
    if arguments.project:
        write_cell(RESULTS / "comparison" / "demo.json", rendered(arguments.project))
        return
    for name in arguments.cells or CELLS:
        path = RESULTS / "comparison" / f"{name}.json"
        if not arguments.figures:
            write_cell(path, CELLS[name](arguments.draws))
        draw(name, json.loads(path.read_text(encoding="utf-8")), PICTURES / f"comparison_{name}.svg")


if __name__ == "__main__":
    main()
