"""The command line: parse, call one function, print a table. Every verb has a function of the same name behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from foveate.cli.data import bench, demo, evaluate, export, import_tracks, init, inspect, objects, simulate, weights
from foveate.cli.options import Options
from foveate.cli.study import (
    adapt,
    attend,
    checkpoints,
    compare,
    crop,
    embed,
    predict,
    pretrain,
    probe,
    report,
    run,
    status,
    track,
)
from foveate.schema import FoveateError

__all__ = ["COMMANDS", "Options", "main"]

COMMANDS: dict[str, Callable[..., int]] = {
    "init": init,
    "run": run,
    "status": status,
    "track": track,
    "crop": crop,
    "pretrain": pretrain,
    "checkpoints": checkpoints,
    "embed": embed,
    "probe": probe,
    "adapt": adapt,
    "predict": predict,
    "compare": compare,
    "attend": attend,
    "objects": objects,
    "report": report,
    "import": import_tracks,
    "export": export,
    "simulate": simulate,
    "inspect": inspect,
    "evaluate": evaluate,
    "bench": bench,
    "demo": demo,
    "weights": weights,
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 only when everything asked for worked."""
    try:
        try:
            return _main(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where a reader that has gone away can still be dealt with
    except BrokenPipeError:
        from foveate import console

        if not console.reader_left():
            raise
        return 141  # 128 + SIGPIPE, as a shell reports it of other programs


def _main(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        from foveate import __version__

        print(f"foveate {__version__}")
        return 0
    try:
        return _dispatch(arguments)
    except FoveateError as error:
        if "--debug" in arguments:
            raise
        from foveate import console

        console.problem(error)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    result: Any = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="foveate",
        description="Learn from video by looking at the subject instead of the background.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return int(result)
