"""Does BORIS open the projects that foveate writes? Its own code loads them, checks them and tells START from STOP.

Needs PyPI's boris-behav-obs, beside foveate or in an environment of its own with foveate on PYTHONPATH:

    python benchmarks/boris_opens.py --json benchmarks/results/annotations/boris_opens.json

The package is imported piece by piece and without its players, because its window needs Qt multimedia and mpv; the code that opens,
checks and pairs is BORIS's own.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import random
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import cells
import pandas as pd

from foveate.annotations.export_project import export_boris_project
from foveate.project import Project

LENGTH, RATE = 120.0, 25.0


def boris(name: str) -> Any:
    """A module of BORIS, without running the package's own ``__init__``, which opens the window's libraries."""
    if "boris" not in sys.modules:
        found = importlib.util.find_spec("boris")
        if found is None or not found.submodule_search_locations:
            sys.exit("pip install boris-behav-obs")
        package = types.ModuleType("boris")
        package.__path__ = list(found.submodule_search_locations)
        sys.path += package.__path__  # BORIS 9 imports some of its own modules by their bare names
        sys.modules["boris"] = package
        for player in ("boris.mpv", "boris.mpv2"):  # they want libmpv when imported; opening a project plays nothing
            sys.modules[player] = types.ModuleType(player)
            sys.modules[player].dll = ""  # type: ignore[attr-defined]
    return importlib.import_module(f"boris.{name}")


def some_bouts(seed: int) -> pd.DataFrame:
    """Bouts of two subjects and four behaviours on the millisecond grid, some touching, and points."""
    draw = random.Random(seed)
    rows: list[tuple[str, str, str, float, float, str, float]] = []
    for video in ("pen 1", "Weide – 2"):
        for subject in ("ewe", "ram"):
            for behaviour in ("graze", "walk, slow", "lie"):
                limits = sorted(draw.sample(range(round(LENGTH * 1000)), 20))
                step = draw.choice((1, 2))
                pairs = list(zip(limits[::step], limits[1::step], strict=False))
                rows += [(video, subject, behaviour, a / 1000, b / 1000, "state", draw.random()) for a, b in pairs]
            instants = draw.sample(range(round(LENGTH * 1000)), 5)
            rows += [(video, subject, "bleat", t / 1000, t / 1000, "point", draw.random()) for t in instants]
    return pd.DataFrame(rows, columns=["video", "subject", "behaviour", "start", "stop", "kind", "probability"])


def make_project(folder: Path) -> Project:
    names = ("pen 1", "Weide – 2")
    for name in names:
        (folder / f"{name}.mp4").write_bytes(b"not decoded")
    rows = "".join(f"{name},{name}.mp4,ewe;ram\n" for name in names)
    (folder / "videos.csv").write_text("video,path,subjects\n" + rows, encoding="utf-8")
    (folder / "foveate.yaml").write_text("foveate: 1\n", encoding="utf-8")
    return Project.load(folder)


def bouts_of_boris(project: dict[str, Any]) -> list[tuple[str, str, str, float, float, str]]:
    """What BORIS takes the events for: START and STOP by its own function, paired in order."""
    functions = boris("project_functions")
    out = []
    for name, observation in project["observations"].items():
        started: dict[tuple[str, str], float] = {}
        for event in functions.events_start_stop(project["behaviors_conf"], observation["events"], observation["type"]):
            time, subject, code, status = float(event[0]), event[1], event[2], event[-1]
            if status == "POINT":
                out.append((name, subject, code, time, time, "point"))
            elif status == "START":
                started[subject, code] = time
            else:
                out.append((name, subject, code, started.pop((subject, code)), time, "state"))
    return sorted(out)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--projects", type=int, default=50)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    functions = boris("project_functions")
    same, messages, changed, events = 0, [], 0, 0
    for seed in range(given.projects):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            project, bouts = make_project(folder), some_bouts(seed)
            path = folder / "corrections" / "flock.boris"
            export_boris_project(path, bouts, project, media=lambda video: (LENGTH, RATE))
            _, was_changed, found, message = functions.open_project_json(str(path))
            if "error" in found:
                sys.exit(f"BORIS refuses it: {found['error']}")
            message += functions.check_project_integrity(found, "hh:mm:ss", str(path)).replace("<br>", "").strip()
            messages += [message] if message else []
            changed += bool(was_changed)
            events += sum(len(observation["events"]) for observation in found["observations"].values())
            columns = ["video", "subject", "behaviour", "start", "stop", "kind"]
            same += bouts_of_boris(found) == sorted(bouts[columns].itertuples(index=False, name=None))
    result = {
        "boris_behav_obs": importlib.metadata.version("boris-behav-obs"),
        "projects": given.projects,
        "events": events,
        "opened_with_the_same_bouts": same,
        "converted_on_opening": changed,
        "complaints_of_its_integrity_check": messages,
    }
    print(result)
    if given.json:
        cells.write_cell(given.json, result)


if __name__ == "__main__":
    main()
