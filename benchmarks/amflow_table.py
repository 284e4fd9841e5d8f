"""Tables of AM Flow's trained cells, written between the marks of docs/amflow.md: `python benchmarks/amflow_train.py --tables`.

Intervals are 95 % percentile intervals of 10,000 draws: held-out clips are drawn with replacement, the same for both sides of a difference,
and so are each side's seeds. A difference is shown where its interval does not hold zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS
from numpy.typing import NDArray

PAGE = RESULTS.parents[1] / "docs" / "amflow.md"
BEGIN, END = "<!-- cells -->", "<!-- end of cells -->"
DRAWS = 10_000
CAMERAS = {"static": "still", "panned": "panning"}
NAMES = {
    "linear": "linear layer on frozen features",
    "window": "linear layer on CLS of all 4 frames",
    "plain": "adapters",
    "temporal": "adapters that look along time",
    "static": "the same with flow",
    "aligned": "the same with aligned flow",
    "permuted": "aligned flow, dealt out over wrong places",
    "st": "ST-Adapter",
    "aim": "AIM",
}
SIGNS = (
    ("static", "temporal"),
    ("aligned", "temporal"),
    ("aligned", "static"),
    ("aligned", "permuted"),
    ("temporal", "linear"),
)

Cells = dict[tuple[str, str], list[dict[str, Any]]]


def load(folder: Path) -> Cells:
    """By camera and method, seed by seed."""
    found: Cells = {}
    for path in sorted(folder.glob("*-*-*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((cell["camera"], cell["method"]), []).append(cell)
    return found


def right(cells: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """f64[S, N]: 1 where a seed told a held-out clip rightly."""
    return np.array([[told == label for told, label in zip(c["told"], c["label"], strict=True)] for c in cells], np.float64)


def drawn(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """f64[DRAWS] means of values [S, N]; the clips of a draw depend on N alone, its seeds on ``side``, too."""
    seeds, clips = values.shape
    clip = np.random.default_rng(0).multinomial(clips, np.full(clips, 1 / clips), size=DRAWS) / clips
    seed = np.random.default_rng(1 + side).multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds
    out: NDArray[np.float64] = np.einsum("ds,sn,dn->d", seed, values, clip, optimize=True)
    return out


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of the means, and its interval."""
    low, high = np.percentile(drawn(one, 0) - drawn(other, 1), [2.5, 97.5])
    return float(one.mean() - other.mean()), float(low), float(high)


def _scores(found: Cells) -> list[str]:
    """A row per method."""
    out = ["| | trained | accuracy, still camera | panning camera | epochs to 95 % | time |", "|---|---|---|---|---|---|"]
    for name, words in NAMES.items():
        both = [found.get((camera, name)) for camera in CAMERAS]
        one = next((cells[0] for cells in both if cells), None)
        if one is None:
            continue
        accuracy = []
        for cells in both:
            if not cells:
                accuracy.append("")
                continue
            low, high = np.percentile(drawn(right(cells), 0), [2.5, 97.5])
            accuracy.append(f"{right(cells).mean():.3f} ({low:.2f} to {high:.2f}), {_seeds(len(cells))}")
        epochs = [f"{np.mean([c['epochs_to_95'] for c in cells]):.1f}" if cells else "" for cells in both]
        adapted = name not in ("linear", "window")
        speed = f"{np.mean([c['time_ratio'] for cells in both if cells for c in cells]):.2f}" if adapted else "1"
        reached = " / ".join(epochs) if adapted else ""
        out.append(f"| {words} | {one['trained']:,} | {accuracy[0]} | {accuracy[1]} | {reached} | {speed} |")
    return out


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def _signs(found: Cells) -> list[str]:
    """A row per comparison and camera."""
    out = ["| difference | camera | of accuracy | 95 % interval | |", "|---|---|---|---|---|"]
    for better, other in SIGNS:
        for camera, words in CAMERAS.items():
            one, two = found.get((camera, better)), found.get((camera, other))
            if one and two:
                mean, low, high = difference(right(one), right(two))
                verdict = "shown" if low > 0 else "the opposite is shown" if high < 0 else "not shown"
                out.append(
                    f"| {NAMES[better]} − {NAMES[other]} | {words} | {mean:+.3f} | {low:+.3f} to {high:+.3f} | {verdict} |"
                )
    return out


def _classes(found: Cells) -> list[str]:
    """Recall of every class, mean over seeds."""
    classes = list(next(iter(found.values()))[0]["recall"])
    out = [f"| | camera | {' | '.join(one.replace('_', ' ') for one in classes)} |", "|---|---|" + "---|" * len(classes)]
    for name, words in NAMES.items():
        for camera, said in CAMERAS.items():
            if cells := found.get((camera, name)):
                means = [f"{np.mean([cell['recall'][one] for cell in cells]):.2f}" for one in classes]
                out.append(f"| {words} | {said} | {' | '.join(means)} |")
    return out


def text(folder: Path) -> str:
    """All tables of the cells that are there."""
    found = load(folder)
    if not found:
        return "No cell has been run yet."
    parts = [_scores(found), _classes(found)] + ([signs] if len(signs := _signs(found)) > 2 else [])
    return "\n\n".join("\n".join(rows) for rows in parts)


def write(folder: Path) -> None:
    """Put the tables between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text(folder)}\n\n{END}{after}", encoding="utf-8")
