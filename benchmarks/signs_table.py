"""Tables of the miniature protocol, from the cells in `results/signs/`: written between the marks of docs/signs.md.

    python benchmarks/signs_table.py

Every number is a mean over seeds. Intervals are 95 % percentile intervals of 10,000 draws: test animals are drawn with replacement, the
same for both sides of a difference, and so are each side's seeds. A sign is "shown" where the interval of its difference lies above zero,
the opposite is "shown" where it lies below, and otherwise it is not shown. With one seed the interval tells of animals alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS
from numpy.typing import NDArray

from foveate.actions.metrics import f1

PAGE = RESULTS.parents[1] / "docs" / "signs.md"
DRAWS, BLOCK = 10_000, 500
SIX = ("head_down", "lying", "standing", "eating", "head_up", "moving")
MOVING = ("moving", "turning_left", "turning_right")
STANDARD, WINDOW = "crop cls third_last 1", "crop cls third_last 7"
LAST, LAST_WINDOW = "crop cls last 1", "crop cls last 7"
PATCHES, PATCHES_WINDOW = "crop subject third_last 1", "crop subject third_last 7"
SHOWN = (
    (STANDARD, "CLS, third-last", "1"),
    (WINDOW, "CLS, third-last", "7"),
    (LAST, "CLS, last", "1"),
    (LAST_WINDOW, "CLS, last", "7"),
    (PATCHES, "subject, third-last", "1"),
    (PATCHES_WINDOW, "subject, third-last", "7"),
)
"""Probe, and in words which vector and window."""
ORDER = ("frozen", "unguided", "guided")


@dataclass(frozen=True, eq=False)
class Many:
    """The cells of one system and one kind of places: one per seed."""

    system: str
    places: str
    cells: tuple[dict[str, Any], ...]

    def counts(self, probe: str, labels: Sequence[str]) -> NDArray[np.int64]:
        """int64[S, V, L, 3]: TP, FP, FN of every seed, test video and label."""
        return np.stack([unpacked([cell["probes"][probe]["counts"][label] for label in labels]) for cell in self.cells])

    def focus(self, source: str) -> NDArray[np.float64]:
        """f64[S, V]"""
        return np.array([[float(v) for v in cell["focus"][source]["animals"].split()] for cell in self.cells])


def unpacked(texts: Sequence[str]) -> NDArray[np.int64]:
    """int64[V, L, 3] of one text per label, see `signs.packed`."""
    return np.stack([np.array([int(c, 36) for c in text]).reshape(-1, 3) for text in texts], axis=1)


def load(folder: Path) -> dict[tuple[str, str], Many]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((cell["cell"]["system"], cell["cell"]["places"]), []).append(cell)
    known = {name: place for place, name in enumerate(ORDER)}
    keys = sorted(found, key=lambda key: (key[1], known.get(key[0], len(known)), key[0]))
    return {key: Many(*key, tuple(found[key])) for key in keys}


# --- intervals -------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def animals(count: int) -> NDArray[np.float64]:
    """f64[DRAWS, V]: how often each test animal is drawn; the first row is every animal once."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
    drawn[0] = 1
    return drawn


def seeds(count: int, side: int) -> NDArray[np.float64]:
    """f64[DRAWS, S]: weights of the seeds, which sum to 1; the first row is every seed once."""
    drawn: NDArray[np.float64] = (
        np.random.default_rng(1 + side).multinomial(count, np.full(count, 1 / count), size=DRAWS) / count
    )
    drawn[0] = 1 / count
    return drawn


def macro(of: Many, probe: str, labels: Sequence[str], side: int = 0) -> NDArray[np.float64]:
    """f64[DRAWS]: mean F1 of the labels, of all seeds and animals first, then of each draw. A label without a positive frame in a draw
    leaves that draw's mean."""
    counts = of.counts(probe, labels)
    some, every = counts.shape[:2]
    out = np.empty(DRAWS)
    weight = seeds(some, side)
    for first in range(0, DRAWS, BLOCK):
        rows = slice(first, first + BLOCK)
        drawn = np.einsum("dv,svlk->dslk", animals(every)[rows], counts, optimize=True)
        known = drawn[..., 0] + drawn[..., 2] > 0
        mean = np.where(known, f1(np.rint(drawn).astype(np.int64)), 0).sum(-1) / np.maximum(known.sum(-1), 1)
        out[rows] = (mean * weight[rows]).sum(-1)
    return out


def focused(of: Many, source: str, side: int = 0) -> NDArray[np.float64]:
    """f64[DRAWS]: mean focus score, likewise."""
    each = of.focus(source)
    drawn = animals(each.shape[1]) / each.shape[1] @ each.T
    return (drawn * seeds(len(each), side)).sum(-1)


def interval(values: NDArray[np.float64]) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def verdict(values: NDArray[np.float64]) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return "shown" if low > 0 else "the opposite is shown" if high < 0 else "not shown"


# --- tables ----------------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def scores(found: dict[tuple[str, str], Many]) -> str:
    """F1 per label of every system."""
    labels = list(next(iter(found.values())).cells[0]["probes"][STANDARD]["f1"])
    rows = []
    for (system, places), many in found.items():
        for probe, *shown in SHOWN:
            each = [float(macro(many, probe, [label])[0]) for label in labels]
            mean = macro(many, probe, SIX)
            low, high = np.quantile(mean[1:], [0.025, 0.975])
            name = f"{system} ({len(many.cells)})" if system != "frozen" else system
            rows.append([name, places, *shown, *(f"{v:.2f}" for v in each), f"{mean[0]:.3f} [{low:.3f}, {high:.3f}]"])
    return table(
        ["backbone (seeds)", "places", "vector", "window", *(label.replace("_", " ") for label in labels), "mean of six"], rows
    )


def signs(found: dict[tuple[str, str], Many]) -> str:
    """The differences that the publication is about."""
    rows: list[list[str]] = []

    def add(what: str, places: str, values: NDArray[np.float64]) -> None:
        rows.append([what, places, interval(values), verdict(values)])

    for places in ("tied", "free"):
        have: dict[str, Many] = {system: many for (system, where), many in found.items() if where == places}
        for a, b in (("guided", "unguided"), ("guided", "frozen"), ("unguided", "frozen")):
            if a not in have or b not in have:
                continue
            for probe, title in ((STANDARD, ""), (LAST, ", last layer"), (PATCHES, ", subject's patches")):
                add(f"F1 of six{title}: {a} − {b}", places, macro(have[a], probe, SIX) - macro(have[b], probe, SIX, 1))
            for source, title in (("crop", "crops"), ("frame", "whole views")):
                add(f"focus score on {title}: {a} − {b}", places, focused(have[a], source) - focused(have[b], source, 1))
        for system in ("frozen", "unguided", "guided"):
            if system in have:
                for many, one, title in (
                    (WINDOW, STANDARD, ""),
                    (LAST_WINDOW, LAST, ", last layer"),
                    (PATCHES_WINDOW, PATCHES, ", subject's patches"),
                ):
                    gain = macro(have[system], many, MOVING) - macro(have[system], one, MOVING)
                    add(f"F1 of moving and turning{title}, {system}: window 7 − window 1", places, gain)
    for system in ("frozen", "unguided", "guided"):
        if {(system, "tied"), (system, "free")} <= set(found):
            for probe, title in ((STANDARD, "crops"), ("frame cls third_last 1", "whole views")):
                fall = macro(found[system, "free"], probe, SIX) - macro(found[system, "tied"], probe, SIX, 1)
                add(f"F1 of six on {title}, {system}: places that tell nothing − places that tell", "both", fall)
    return table(["difference", "places", "with 95 % interval", "verdict"], rows)


def changes(found: dict[tuple[str, str], Many], base: str, names: Sequence[str]) -> str:
    """Systems that differ from ``base`` in one thing."""
    rows = []
    for (system, places), many in found.items():
        if system in names and (base, places) in found:
            other = found[base, places]
            row = [f"{system} ({len(many.cells)})", places]
            for probe in (STANDARD, WINDOW, PATCHES):
                values = macro(many, probe, SIX) - macro(other, probe, SIX, 1)
                row += [f"{interval(values)}, {verdict(values)}"]
            rows.append(row)
    return (
        table([f"instead of {base} (seeds)", "places", "window 1", "window 7", "subject's patches, window 1"], rows)
        if rows
        else ""
    )


def training(found: dict[tuple[str, str], Many]) -> str:
    """What each run cost, and what the watch saw of it."""
    rows = []
    for (system, places), many in found.items():
        for cell in many.cells:
            if about := cell["training"]:
                looks = about["looks"]
                best = max(looks, key=lambda look: look["knn"])
                minutes = "" if about["cpu_minutes"] is None else f"{about['cpu_minutes']:.0f}"
                seen = [f"{look['knn']:.3f}" for look in (looks[0], best, looks[-1])]
                seen[1] += f" (step {best['step']})"
                rank = f"{looks[0]['rank']:.0f} / {looks[-1]['rank']:.0f}"
                name = f"{system} {places} {cell['cell']['seed']}"
                rows.append([name, f"{about['images']:,}", f"{about['passes']:.1f}", minutes, *seen, rank])
    head = ["run", "images", "passes", "CPU minutes", "k-NN before", "best", "last", "effective rank before / last"]
    return table(head, rows) if rows else ""


def small(folder: Path) -> str:
    """What `small_data.py` found."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        looks, method = cell["looks"], cell["recipe"]["method"]
        best = max(looks, key=lambda look: look["knn"])
        told = [f"{looks[0]['knn']:.3f}", f"{best['knn']:.3f} (step {best['step']})", f"{looks[-1]['knn']:.3f}"]
        rate = cell["recipe"]["training"]["lr"]["peak"]
        made = [f"{method['prototypes']:,}", f"{rate:.1e}", str(method["frozen_blocks"]), str(method["rank"] or "")]
        rows.append([cell["setting"].replace("_", " "), *made, *told, f"{looks[0]['rank']:.0f} / {looks[-1]['rank']:.0f}"])
    head = ["setting", "prototypes", "learning rate", "frozen blocks", "rank", "k-NN before", "best", "last"]
    return table([*head, "effective rank before / last"], rows) if rows else ""


def written(page: str, mark: str, text: str) -> str:
    """The page with ``text`` between the two lines of the mark."""
    start, stop = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, rest = page.split(start)
    return f"{before}{start}\n{text}\n{stop}{rest.split(stop)[1]}"


TABLES: dict[str, Callable[[dict[tuple[str, str], Many]], str]] = {
    "scores": scores,
    "signs": signs,
    "mask": lambda found: changes(found, "guided", ("swap", "blur", "hide_subject", "tell_subject")),
    "training": training,
    "small": lambda found: small(RESULTS / "small_data"),
}


def main() -> None:
    found = load(RESULTS / "signs")
    page = PAGE.read_text(encoding="utf-8")
    for mark, make in TABLES.items():
        page = written(page, mark, make(found))
    PAGE.write_text(page, encoding="utf-8")
    print(signs(found))


if __name__ == "__main__":
    main()
