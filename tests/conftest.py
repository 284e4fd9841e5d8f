"""Shared fixtures. Threads are pinned: two test processes share the cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports numpy

from foveate.project import Project
from tests.annotated import Study


@pytest.fixture(scope="session")
def footage() -> Path:
    """Folder with the real clips (see docs); tests that need it are skipped where it is not."""
    folder = os.environ.get("FOVEATE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FOVEATE_DATA does not name a folder with real footage")
    return Path(folder)


@pytest.fixture(scope="session")
def frozen_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A study that only lends its videos and animals; nothing is written into it."""
    videos = {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram")}
    return Study(tmp_path_factory.mktemp("frozen study"), videos).project
