"""The examples of the documentation run, and the pages made from the code say something about everything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.cli import COMMANDS
from foveate.settings import Config

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the documentation is not part of this copy")

SAID = {
    "own_footage": ("report/index.html", "own_footage-2.png", "probability"),
    "boris_round_trip": ("largest difference 0.000", "annotated videos before: 4 and now: 5"),
    "comparison": ("Cliff", "comparison-1.png", "corrected_low"),
}
"""What a page cannot be without."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SAID)
def test_example_runs_and_shows_its_results(name: str) -> None:
    """Always run anew; the page it leaves is what `make docs` takes."""
    done = subprocess.run(
        [sys.executable, str(SITE / "execute.py"), name],
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "FoveateWarning" not in done.stderr, done.stderr
    page = Path(done.stdout.strip())
    text = page.read_text(encoding="utf-8")
    assert all(words in text for words in SAID[name])
    assert all((page.parent / file).is_file() for file in re.findall(r"\]\(([\w-]+\.png)\)", text))
    assert "/tmp" not in text and str(Path.home()) not in text


@pytest.fixture(scope="module")
def generate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The generated pages: settings, commands."""
    code = "import generate, json; print(json.dumps([generate.settings(), generate.commands()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SITE)
    import json

    settings, commands = json.loads(done.stdout)
    return settings, commands


def test_every_setting_has_a_default_and_a_meaning(generate: tuple[str, str]) -> None:
    rows = [re.split(r"(?<!\\) \| ", row.strip("| ") + " ") for row in generate[0].splitlines() if row.startswith("| `")]
    assert {row[0].strip("`") for row in rows} >= set(Config.model_fields) | {"short_side", "strengths", "alpha", "crf"}
    empty = [row[0] for row in rows if len(row) < 4 or not row[3].strip()]
    assert not empty, f"no comment in project.py: {empty}"


def test_every_command_is_described(generate: tuple[str, str]) -> None:
    for name in COMMANDS:
        assert f"## {name}\n" in generate[1] and f"usage: foveate {name}" in generate[1]
    assert "--prompt" in generate[1] and "╭" not in generate[1]
