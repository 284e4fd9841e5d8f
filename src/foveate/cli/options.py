"""What the commands share: the options of a project, and doing its stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

Folder = Annotated[Path, tyro.conf.arg(aliases=("-p",), help="project folder")]


@dataclass(frozen=True)
class Options:
    """Options of every command that works on a project."""

    project: Folder = Path()
    video: tuple[str, ...] = ()  # only these videos
    workers: int | None = None  # processes; default: one per core, one with a GPU
    json: bool = False  # print the result as JSON on stdout
    debug: bool = False  # show tracebacks


Wanted = Annotated[Options, tyro.conf.arg(name="")]
EVERYTHING = Options()


def stages(options: Options, until: str, probe: str = "", attend: dict[str, Any] | None = None) -> int:
    """Do the stages up to ``until``, say what came of it, and return the exit code."""
    from foveate import console
    from foveate.project import Project
    from foveate.run import run

    project = Project.load(options.project)
    result = run(project, until, options.video, options.workers, console.show, probe, attend)
    console.outcome(result, options.debug)
    if options.json:
        failures = [
            {"stage": f.stage, "item": f.item, "problem": f.error.problem, "file": _text(f.error.file), "row": f.error.row,
             "remedy": f.error.remedy}
            for f in console.unique(result.failures)
        ]  # fmt: skip
        done = [{"stage": d.stage, "item": d.item, "seconds": round(d.seconds, 3)} for d in result.done]
        print_json({"done": done, "skipped": result.skipped, "failures": failures, "notes": result.notes})
    elif until == "report" and (project.folder / "report" / "index.html").exists():
        console.out.print(str(project.folder / "report" / "index.html"))
    elif result.ok and not result.done:
        console.err.print("nothing to do")
    return 0 if result.ok else 1


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
