"""Does BORIS open the projects that foveate writes, and does foveate read what BORIS then writes?

BORIS's own code loads each project, checks it and tells START from STOP. Then BORIS saves it, as ``.boris`` and ``.boris.gz``, and exports
it, as tabular and as aggregated events; foveate reads each of the four, and the bouts must be those it started from.

Needs PyPI's boris-behav-obs, beside foveate or in an environment of its own with foveate on PYTHONPATH:

    python benchmarks/boris_opens.py --json benchmarks/results/annotations/boris_opens.json

The package is imported piece by piece and without its players, because its window needs Qt multimedia and mpv; the code that opens,
checks and pairs is BORIS's own.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import gzip
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import random
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import cells
import pandas as pd

from foveate import annotations
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
            sys.modules[player].dll = sys.modules[player].sofile = ""  # type: ignore[attr-defined]
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


def taken_out(module: str, *place: str, **names: Any) -> Any:
    """A function of BORIS out of a module that opens the window when it is imported: compiled from its own source, with what it names."""
    path = Path(boris("config").__file__).with_name(f"{module}.py")
    found: Any = ast.parse(path.read_text(encoding="utf-8"))
    for name in place:
        (found,) = (n for n in found.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name)
    future = ast.parse("from __future__ import annotations").body
    known = {
        "cfg": boris("config"),
        "util": boris("utilities"),
        "json": json,
        "gzip": gzip,
        "sys": sys,
        "dt": datetime,
        **names,
    }
    known |= {"logger": logging.getLogger("boris"), "logging": logging}
    exec(compile(ast.Module([*future, found], []), str(path), "exec"), known)
    return known[place[-1]]


WRITERS = ("project", "project, compressed", "tabular events", "aggregated events")


def written_by_boris(project: dict[str, Any], kind: str, folder: Path) -> None:
    """Files in ``folder`` as BORIS writes them."""
    if kind.startswith("project"):
        ending = "boris.gz" if "compressed" in kind else "boris"
        window = types.SimpleNamespace(pj=project, save_project_json_started=False, config_param={}, projectChanged=True)
        title = types.SimpleNamespace(update_windows_title=lambda window: None)
        save = taken_out("core", "MainWindow", "save_project_json", menu_options=title)
        if save(window, str(folder / f"saved.{ending}")) not in (0, None, ""):
            sys.exit("BORIS could not save the project")
        return
    config, exports = boris("config"), boris("export_observation")
    chosen = {
        "time": config.TIME_FULL_OBS,
        config.SELECTED_SUBJECTS: [s["name"] for s in project["subjects_conf"].values()],
        config.SELECTED_BEHAVIORS: [b["code"] for b in project["behaviors_conf"].values()],
    }
    for k, (name, observation) in enumerate(project["observations"].items()):
        file = folder / f"{k}.csv"
        if kind == "tabular events":
            given = (chosen, name, observation, project["behaviors_conf"], str(file), "csv")
            fine, message = exports.export_tabular_events(project, *given)
            if not fine:
                sys.exit(f"BORIS could not export: {message}")
        else:
            table, modifiers = exports.export_aggregated_events(project, chosen, name)
            head = taken_out("export_events", "export_aggregated_events", "fields_type", self=types.SimpleNamespace(pj=project))
            table.headers = list(head(modifiers))
            file.write_text(table.export("csv"), encoding="utf-8", newline="")


def bouts_of_foveate(folder: Path, project: dict[str, Any], kind: str) -> list[tuple[str, str, str, float, float, str]]:
    """What foveate takes BORIS's files for."""
    study = make_project(folder)
    shutil.rmtree(folder / "annotations", ignore_errors=True)
    shutil.rmtree(folder / "labels", ignore_errors=True)
    (folder / "annotations").mkdir()
    written_by_boris(project, kind, folder / "annotations")
    annotations.run(study, duration=lambda video: LENGTH)
    found = annotations.load_labels(study).intervals
    columns = ["video", "subject", "behaviour", "start", "stop", "kind"]
    return sorted(found[columns].itertuples(index=False, name=None))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--projects", type=int, default=50)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    functions = boris("project_functions")
    same, messages, changed, events, back = 0, [], 0, 0, dict.fromkeys(WRITERS, 0)
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
            wanted = sorted(bouts[columns].itertuples(index=False, name=None))
            same += bouts_of_boris(found) == wanted
            for kind in WRITERS:
                back[kind] += bouts_of_foveate(folder, found, kind) == wanted
    result = {
        "boris_behav_obs": importlib.metadata.version("boris-behav-obs"),
        "projects": given.projects,
        "events": events,
        "opened_with_the_same_bouts": same,
        "written_by_boris_and_read_with_the_same_bouts": back,
        "converted_on_opening": changed,
        "complaints_of_its_integrity_check": messages,
    }
    print(result)
    if given.json:
        cells.write_cell(given.json, result)


if __name__ == "__main__":
    main()
