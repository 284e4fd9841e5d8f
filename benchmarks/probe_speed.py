"""How fast is the batched logistic regression, and how much memory does it need?

One outer fold of the probe: all labels x all penalties x (five inner folds and the whole), on windows of 7 vectors of 384 numbers, drawn
smooth in time and with a decaying spectrum as real ones are. Against two limits of the same run: the bare matrix products of its
iterations, and scikit-learn solving the same problems one by one (timed on one label at every penalty, multiplied up).

    python benchmarks/probe_speed.py [--rows 2500 --labels 10]
"""

from __future__ import annotations

import argparse
import os
import threading
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from foveate.actions.logistic import Windows, fit, logits

WIDTH, WINDOW, FOLDS, PENALTIES = 384, 7, 5, (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def problem(rows: int, labels: int, seed: int = 0) -> tuple[Windows, NDArray[np.int8]]:
    """Vectors led by 64 slow hidden variables; each label is one of them with noise, from the common to the rare."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 64))
    for i in range(1, rows):
        hidden[i] = 0.9 * hidden[i - 1] + 0.436 * hidden[i]
    mixing = rng.normal(size=(64, WIDTH)) * np.arange(1, 65)[:, None] ** -0.7 * 3
    vectors = hidden @ mixing + 0.5 * rng.normal(size=(rows, WIDTH)) + 5 * rng.normal(size=WIDTH)
    truth = hidden[:, :labels] * 2 + rng.normal(size=(rows, labels)) > np.linspace(0, 4, labels)
    half = WINDOW // 2
    index = np.clip(np.arange(rows)[:, None] + np.arange(-half, half + 1), 0, rows - 1)
    return Windows(vectors.astype(np.float16), index), truth.astype(np.int8)


def with_folds(truth: NDArray[np.int8]) -> NDArray[np.int8]:
    """Columns: all rows, then all but those of each fold (blocks of 100 neighbouring rows)."""
    fold = np.arange(len(truth)) // 100 % FOLDS
    return np.concatenate([truth, *(np.where((fold == k)[:, None], np.int8(-1), truth) for k in range(FOLDS))], axis=1)


class Peak:
    """Largest private memory (RssAnon) while the block runs, in MiB above its beginning."""

    def __enter__(self) -> Peak:
        self.start, self.largest, self._stop = _rss(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.largest = max(self.largest, _rss() - self.start)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _rss() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def products(problems: int) -> float:
    """Seconds of one matrix product per row and problem, float64, the size of a block."""
    x = torch.randn(4096, WIDTH * WINDOW, dtype=torch.float64)
    w = torch.randn(problems, WIDTH * WINDOW, dtype=torch.float64)
    _ = x @ w.T
    started = time.perf_counter()
    for _ in range(5):
        _ = x @ w.T
    return (time.perf_counter() - started) / 5 / 4096 / problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows, labels = arguments.rows, arguments.labels
    design, truth = problem(rows, labels)
    target = with_folds(truth)
    before = products(target.shape[1])
    with Peak() as peak:
        started = time.perf_counter()
        solution = fit(design, target, PENALTIES)
        seconds = time.perf_counter() - started
    bare = (before + products(target.shape[1])) / 2 * rows * 2 * float(solution.iterations.sum())

    x = design.gather(slice(0, rows))
    x = (x - x.mean(0)) / x.std(0)
    theirs, furthest = 0.0, 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for s, penalty in enumerate(PENALTIES):
            model = LogisticRegression(C=1 / (penalty * rows), max_iter=1000)
            started = time.perf_counter()
            model.fit(x, truth[:, 0])
            theirs += time.perf_counter() - started
            ours = 1 / (1 + np.exp(-logits(design, solution.weight[s, :1], solution.bias[s, :1])[:, 0]))
            furthest = max(furthest, float(np.abs(ours - model.predict_proba(x)[:, 1]).max()))
    result = {
        "rows": rows,
        "labels": labels,
        "problems": int(solution.iterations.size),
        "threads": arguments.threads,
        "seconds": round(seconds, 2),
        "share_of_bare_products": round(bare / seconds, 3),
        "times_faster_than_scikit_learn_one_by_one": round(theirs * target.shape[1] / seconds, 2),
        "largest_difference_of_probabilities_from_scikit_learn_at_its_default_tolerance": furthest,
        "iterations_per_problem_by_penalty": dict(
            zip(map(str, PENALTIES), solution.iterations.mean(1).round(1).tolist(), strict=True)
        ),
        "converged": bool(solution.converged.all()),
        "peak_private_mib": round(peak.largest),
    }
    print(result)
    write_cell(RESULTS / "probe_speed" / f"rows{rows}_labels{labels}_threads{arguments.threads}.json", result)


if __name__ == "__main__":
    main()
