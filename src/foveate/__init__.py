"""foveate: learn from video by looking at the subject instead of the background.

In Python, ``import foveate.api as fv``: the verbs of the command line as functions, and the results as tables. At the top level stand
``Project``, ``LinearProbe`` and ``FoveateError``, imported when they are first used, so that ``import foveate`` costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate import api as api
    from foveate.actions.estimator import LinearProbe as LinearProbe
    from foveate.project import Project as Project
    from foveate.schema import FoveateError as FoveateError

__version__ = "0.1.0"

_HOME = {"LinearProbe": "foveate.actions.estimator", "Project": "foveate.project", "FoveateError": "foveate.schema"}

__all__ = ["FoveateError", "LinearProbe", "Project", "__version__", "api"]


def __getattr__(name: str) -> object:
    import importlib

    if name == "api":
        return importlib.import_module("foveate.api")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'foveate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
