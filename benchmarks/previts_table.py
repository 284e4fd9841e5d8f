"""Tables of PreViTS in miniature, from the cells in `results/previts/`: written between the marks of docs/previts.md.

    python benchmarks/previts_table.py

Every number is a mean over seeds. Intervals are those of `signs_table.py`: 95 %, 10,000 draws of animals (or videos) and of each side's
seeds, the same animals on both sides of a difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS
from numpy.typing import NDArray
from signs_table import SIX, Many, interval, macro, seeds, table, verdict, written
from signs_table import animals as draws

PAGE = RESULTS.parents[1] / "docs" / "previts.md"
FOLDER = RESULTS / "previts"
ORDER = ("random", "baseline", "sampling", "attention")
WORDS = {"random": "random start", "baseline": "MoCo", "sampling": "+ sampling", "attention": "+ attention (PreViTS)"}
CROP, FRAME = "crop pooled last 1", "frame pooled last 1"
Cells = dict[str, list[dict[str, Any]]]
Values = NDArray[np.float64]
FOUR = {"own": "", "tied": ", four pens"}


def load(folder: Path) -> Cells:
    """Cells of the whole set by system, in the order of ``ORDER``; others under ``drawn`` and ``shares`` (less footage, four pens)."""
    found: Cells = {name: [] for name in (*ORDER, "drawn", "shares")}
    for path in sorted(folder.glob("*-*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        other = cell["cell"]["share"] < 1 or cell["cell"]["places"] != "own"
        found["shares" if other else cell["cell"]["system"]].append(cell)
    return {name: cells for name, cells in found.items() if cells}


def resampled(cells: list[dict[str, Any]], texts: Callable[[dict[str, Any]], str], side: int = 0) -> Values:
    """f64[DRAWS] means of a number per animal (or video), as it is and of each draw."""
    each = np.array([[float(value) for value in texts(cell).split()] for cell in cells])
    return (draws(each.shape[1]) / each.shape[1] @ each.T * seeds(len(each), side)).sum(-1)


def known(name: str) -> Callable[[dict[str, Any]], str]:
    """Of the animals, how often each was known."""
    return lambda cell: str(cell["animals"]["animals"][name])


def gain(where: str) -> Callable[[dict[str, Any]], str]:
    """Of each video, the evidence on the animal over the share of the picture that it covers."""

    def found(cell: dict[str, Any]) -> str:
        one = cell["evidence"][where]
        return " ".join(f"{float(a) / float(b)}" for a, b in zip(one["videos"].split(), one["areas"].split(), strict=True))

    return found


def drop(name: str) -> Callable[[dict[str, Any]], str]:
    """Of the animals, how much less often each was known with its box hidden."""

    def found(cell: dict[str, Any]) -> str:
        whole, without = (cell["animals"]["animals"][f"{name} {show}"].split() for show in ("everything", "no_animal"))
        return " ".join(str(float(a) - float(b)) for a, b in zip(whole, without, strict=True))

    return found


def ranged(values: Values) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


def scores(found: Cells) -> str:
    rows = []
    for system in (name for name in ORDER if name in found):
        cells = found[system]
        columns = [ranged(resampled(cells, known(f"{kind} everything"))) for kind in ("linear", "knn")]
        columns += [f"{resampled(cells, known(f'linear {show}'))[0]:.3f}" for show in ("no_animal", "only_animal")]
        columns += [f"{macro(Many(system, 'tied', tuple(cells)), probe, SIX)[0]:.3f}" for probe in (CROP, FRAME)]
        columns += [
            ranged(resampled(cells, gain(where))) for where in ("classifier", "test", "davis") if where in cells[0]["evidence"]
        ]
        rows.append([f"{WORDS[system]} ({len(cells)})", *columns])
    if not rows:
        return ""
    first = next(iter(found.values()))[0]
    rows.append(["chance", *[f"{first['animals']['chance']:.3f}"] * 4, "", "", *["1"] * 3])
    head = ["backbone (seeds)", "animals, linear", "animals, k-NN", "linear, animal hidden", "linear, all else hidden"]
    return table([*head, "F1 of six, crops", "F1 of six, views", "evidence, pasture", "evidence, DAVIS"], rows)


MEASURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "animals known, linear": known("linear everything"),
    "animals known, k-NN": known("knn everything"),
    "fall of linear with the animal hidden": drop("linear"),
    "evidence of the classifier on the animal": gain("classifier"),
    "evidence on the animal, pasture": gain("test"),
    "evidence on the subject, DAVIS": gain("davis"),
}


def signs(found: Cells) -> str:
    """The differences that the publication is about."""
    rows = []
    for a, b in (("baseline", "random"), ("sampling", "baseline"), ("attention", "sampling"), ("attention", "baseline")):
        if a in found and b in found:
            pair = f"{WORDS[a]} − {WORDS[b]}"
            for name, texts in MEASURES.items():
                values = resampled(found[a], texts) - resampled(found[b], texts, 1)
                rows.append([name, pair, interval(values), verdict(values)])
            left, right = (Many(system, "tied", tuple(found[system])) for system in (a, b))
            values = macro(left, CROP, SIX) - macro(right, CROP, SIX, 1)
            rows.append(["F1 of six, crops", pair, interval(values), verdict(values)])
    return table(["what", "difference", "with 95 % interval", "verdict"], rows) if rows else ""


def spread(found: Cells) -> str:
    """Other settings of mu and lambda, and fewer videos; one seed each."""
    rows = []
    for cell in (*found.get("drawn", ()), *found.get("shares", ())):
        method = cell["training"]["recipe"]["method"]
        base = method.get("base", method)
        settings = [f"{base['crops']['cover'] or 0:g}" if base["crops"]["cover"] else "", f"{method.get('attention', 0):g}"]
        name = WORDS.get(cell["cell"]["system"], "PreViTS, drawn") + FOUR[cell["cell"]["places"]]
        told = [cell["animals"]["linear everything"], cell["animals"]["knn everything"], cell["probes"][CROP]["macro_six"]]
        on = cell["evidence"]["test"]
        rows.append([name, f"{100 * cell['cell']['share']:.0f} %", *settings, *(f"{v:.3f}" for v in told)])
        rows[-1].append(f"{on['mass'] / on['chance']:.2f}")
    head = ["run", "videos", "mu", "lambda", "animals, linear", "animals, k-NN", "F1 of six, crops", "evidence, pasture"]
    return table(head, rows) if rows else ""


def training(found: Cells) -> str:
    """What each run cost, and how it ended."""
    rows = []
    for system, cells in found.items():
        for cell in cells:
            if about := cell["training"]:
                told, looks = about["told"], about["looks"]
                minutes = "" if about["cpu_minutes"] is None else f"{about['cpu_minutes']:.0f}"
                attention = [f"{told['attention'][k]:.3f}" for k in (0, -1)] if "attention" in told else []
                share = cell["cell"]["share"]
                name = f"{WORDS.get(cell['cell']['system'], system)} {cell['cell']['seed']}"
                loss, found_last = (f"{told['loss'][0]:.2f} / {told['loss'][-1]:.2f}", f"{told['found'][-1]:.2f}")
                rank = f"{looks[0]['rank']:.0f} / {looks[-1]['rank']:.0f}"
                run = name + FOUR[cell["cell"]["places"]] + ("" if share == 1 else f", {100 * share:.0f} %")
                size = f"{about['pairs']:,}", f"{about['passes']:.0f}"
                rows.append([run, *size, minutes, loss, found_last, " / ".join(attention), rank])
    head = [
        "run",
        "pairs",
        "passes",
        "CPU minutes",
        "loss first / last",
        "key found among the queue",
        "attention loss first / last",
    ]
    return table([*head, "effective rank before / last"], rows) if rows else ""


def pairs(folder: Path) -> str:
    path = folder / "pairs.json"
    if not path.exists():
        return ""
    cell = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [way, f"{100 * cell[way]['not the same animal']:.1f} %", f"{100 * cell['published'][way]:.0f} %"]
        for way in ("ordinary", "constrained")
    ]
    return table(["sampling", "pairs that show different animals", "published, VGG-Sound"], rows)


def cost(folder: Path) -> str:
    path = folder / "cost.json"
    if not path.exists():
        return ""
    cell = json.loads(path.read_text(encoding="utf-8"))
    reading = json.loads((RESULTS / "clip_reading.json").read_text(encoding="utf-8"))["reading"]
    ratio = cell["ratios"]["a step with sampling against one with the attention loss"]
    rows = [
        ["time of a step with the attention loss over one without", f"{ratio['times_faster']:.2f}", "1.3"],
        ["the same of memory", f"{cell['memory']['ratio']:.2f}", "1.3"],
        ["clips read from a store of whole views, against reading it in order", f"{reading['ratio']:.2f}", ""],
        ["bare passes of a step of MoCo", f"{cell['share of the bare passes in a step of MoCo']:.2f} of its time", ""],
    ]
    return table(["what", "here", "published"], rows)


def speeds(folder: Path) -> str:
    path = folder / "speeds.json"
    if not path.exists():
        return ""
    cell = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for when in ("before", "after"):
        low, high = cell[when]["interval over videos"]
        rows.append([f"{when} training", f"{cell[when]['mean']:.3f} [{low:.3f}, {high:.3f}]"])
    return table(["RSPNet", "own speed told from the other"], [*rows, ["chance", f"{cell['chance']:.3f}"]])


TABLES: dict[str, Callable[[Cells], str]] = {
    "scores": scores,
    "signs": signs,
    "spread": spread,
    "training": training,
    "pairs": lambda _: pairs(FOLDER),
    "cost": lambda _: cost(FOLDER),
    "speeds": lambda _: speeds(FOLDER),
}


def main() -> None:
    found = load(FOLDER)
    page = PAGE.read_text(encoding="utf-8")
    for mark, make in TABLES.items():
        page = written(page, mark, make(found))
    PAGE.write_text(page, encoding="utf-8")
    print(scores(found))
    print(signs(found))


if __name__ == "__main__":
    main()
