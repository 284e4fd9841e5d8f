"""What does the published probe claim, and what is left of it when nothing is chosen on the rows that are scored?

Runs recipe ``paper`` on a finished project, with clean and with augmented training pictures: honest, best on the scored rows, frames split
at random, one video after another left out; and the sweep of windows. Beside them, on the same rows (single views pooled), the
project's default probe. Writes ``probes/paper*`` and augmented vectors into the project.

    python benchmarks/paper_recipe.py demo
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from cells import RESULTS, write_cell

from foveate import console
from foveate.actions import copies, probe, published, window_sweep
from foveate.project import Project
from foveate.run import run

WINDOWS = (1, 3, 5, 7, 9, 11)


def macros(project: Project, name: str, augment: str) -> dict[str, Any]:
    settings = project.config.probe.published().model_copy(update={"augment": augment})
    if augment != "none":
        for video in {v.name: v for v in project.videos if v.split}.values():
            copies.run(project, video, settings=settings)
    done = probe.run(project, name, settings)
    found = published.read(done)
    out: dict[str, Any] = {
        f"{score.score} ({score.rows_of})": {
            "macro_f1": round(score.f1, 3),
            "interval": None if score.interval is None else [round(score.low, 3), round(score.high, 3)],
            "rows": score.rows,
        }
        for score in found.scores
    }
    out["test videos by themselves"] = {video: round(value, 3) for video, value in found.single.items()}
    out["claimed by choosing on the test videos"] = _rounded(found.gap("paper", "test"))
    out["claimed by a random split of frames"] = _rounded(found.gap("random_frames", "cv"))
    swept = pd.read_csv(window_sweep.run(project, WINDOWS, name, settings).checked("windows.csv"))
    swept = swept[swept["behaviour"] == "*macro"]
    out["windows"] = {
        f"{score} ({rows_of})": {int(w): round(float(f1), 3) for w, f1 in zip(part["window"], part["f1"], strict=True)}
        for (score, rows_of), part in swept.groupby(["score", "rows_of"])
    }
    return out


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def default(project: Project) -> dict[str, Any]:
    """Macro F1 of the default probe on single views, pooled."""
    table = pd.read_csv(probe.artefact(project).checked("scores.csv"))
    table = table[(table["view"] == "*pooled") & (table["behaviour"] == "*macro")]
    return {str(row["split"]): round(float(row["f1"]), 3) for _, row in table.iterrows()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    arguments = parser.parse_args()
    outcome = run(Project.load(arguments.project), until="probe", show=console.show)
    assert outcome.ok, [str(failure.error) for failure in outcome.failures]
    project = Project.load(arguments.project)
    facts = probe.artefact(project).facts()
    result: dict[str, Any] = {
        "rows": facts["rows"],
        "behaviours": facts["behaviours"],
        "videos": {"train": facts["train_videos"], "test": facts["test_videos"]},
        "window": project.config.probe.window,
        "default probe, single views pooled": default(project),
        "clean pictures": macros(project, "paper-clean", "none"),
        "augmented pictures (cached)": macros(project, "paper", "cached"),
    }
    print(result)
    write_cell(RESULTS / "paper_recipe.json", result)


if __name__ == "__main__":
    main()
