"""Shared fixtures. Threads are pinned: two test processes share the cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def footage() -> Path:
    """Folder with the real clips (see docs); tests that need it are skipped where it is not."""
    folder = os.environ.get("FOVEATE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FOVEATE_DATA does not name a folder with real footage")
    return Path(folder)
