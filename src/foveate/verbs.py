"""What the functions of ``foveate.api`` share: doing stages, showing bars, and warning in the caller's name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foveate.project import Project
from foveate.results import Folder, FoveateWarning, chosen, opened, status
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd

    from foveate.run import Show


def do(
    project: Project,
    until: str,
    video: Sequence[str],
    workers: int | None,
    progress: bool | None,
    probe: str = "",
    attend: dict[str, Any] | None = None,
) -> None:
    """The stages up to ``until``; what failed is warned of, once each."""
    from foveate.run import run as run_stages

    names = [one.name for one in chosen(project, video)] if video else []
    outcome = run_stages(project, until, names, workers, show(progress), probe, attend)
    for error in {str(failure.error): failure.error for failure in outcome.failures}.values():
        warn(error)


def status_after(project: Folder, until: str, video: Sequence[str], workers: int | None, progress: bool | None) -> pd.DataFrame:
    """``status`` after the stages up to ``until``."""
    here = opened(project)
    do(here, until, video, workers, progress)
    return status(here, video)


def show(progress: bool | None) -> Show:
    """Bars, or none; by default where somebody looks on."""
    from foveate.run import quiet

    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not progress:
        return quiet
    from foveate import console

    return console.show


def warn(error: FoveateError) -> None:
    """As if by the line that called the verb."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"] in (__name__, "foveate.api"):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(str(error), FoveateWarning, stacklevel=depth)
