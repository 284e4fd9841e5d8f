"""kill -9 in every stage, then `foveate run`: the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline import contents, make_study

SEGMENT = "8"  # analysed frames, so that a video of 20 has three parts
KILLS = (
    ("timeline", 2, ""),
    ("labels", 2, "--after"),
    ("tracks", 2, ""),
    ("tracks", 5, "--after"),
    ("crops", 3, ""),
    ("crops", 4, "--after"),
    ("embeddings", 3, ""),
    ("probes", 2, ""),
    ("predictions", 4, "--after"),
    ("comparison", 2, ""),
    ("report", 1, ""),
)


def go(folder: Path, inside: str = "", number: int = 0, after: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tests.kill_at",
        str(folder),
        SEGMENT,
        inside or "x",
        str(number),
        *([after] if after else []),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment)


@pytest.mark.slow
def test_kill_in_every_stage(tmp_path: Path) -> None:
    undisturbed = make_study(tmp_path / "a")
    disturbed = make_study(tmp_path / "b", source=undisturbed)
    result = go(undisturbed)
    assert result.returncode == 0, result.stderr
    for inside, number, after in KILLS:
        result = go(disturbed, inside, number, after)
        assert result.returncode == -9, f"{inside} {number}: not killed\n{result.stderr}"
    result = go(disturbed)
    assert result.returncode == 0, result.stderr
    theirs = {name: value for name, value in contents(undisturbed).items() if not name.startswith("truth/")}
    assert contents(disturbed) == theirs
    parts = [name for name in theirs if name.startswith("tracks/pen_01/part-")]
    assert len(parts) == 3
