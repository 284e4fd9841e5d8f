"""Runs foveate like the command line, but kills itself (SIGKILL) at a chosen rename.

    python -m tests.kill_at PROJECT SEGMENT FOLDER NUMBER [--after]

SEGMENT replaces the segment length, so that short videos have several parts. The process dies just before (or after) the NUMBER-th file is
renamed to its final name inside FOLDER of the project; NUMBER 0 never dies.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import foveate.schema


def main() -> int:
    project, segment, folder, number = Path(sys.argv[1]).absolute(), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    after = "--after" in sys.argv
    foveate.schema.SEGMENT = segment  # before anything imports it by name
    rename, count = os.replace, 0

    def replace(source: object, target: object, **options: object) -> None:
        nonlocal count
        path = Path(str(target)).absolute()
        here = path.is_relative_to(project / folder)
        count += here
        if here and count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target, **options)  # type: ignore[call-overload]
        if here and count == number and after:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]
    from foveate.cli import main as command

    return command(["run", "--project", str(project), "--workers", "1", "--debug"])


if __name__ == "__main__":
    sys.exit(main())
