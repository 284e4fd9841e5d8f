"""A miniature study that runs through every stage in seconds: rendered footage, small pictures, a descriptor without weights."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import yaml

from foveate.simulate import PastureSettings, simulate

MINIATURE = PastureSettings(seed=3, annotated=4, unannotated=4, test=0, seconds=20.0, fps=5, width=160, height=90, step=1.0)
OUTSIDE = ("logs", ".foveate.lock")
"""What identical runs may differ in: times."""


def make_study(folder: Path, source: Path | None = None, **config: object) -> Path:
    """A project of four annotated and four other videos in ``folder``; ``source`` is an earlier one whose footage is copied."""
    if source is None:
        simulate(folder, MINIATURE)
    else:
        for name in ("footage", "annotations", "prompts"):
            shutil.copytree(source / name, folder / name)
        for name in ("foveate.yaml", "videos.csv", "subjects.csv"):
            shutil.copy2(source / name, folder / name)
    settings = yaml.safe_load((folder / "foveate.yaml").read_text())
    settings |= {
        "track": {"method": "motion"},
        "crop": {"size": 64},
        "embed": {"model": "handcrafted", "image_size": 56},
        "probe": {"window": 3, "folds": 2, "strengths": [0.1, 1.0]},
        "baselines": {"whole_picture": {"source": "frame", "feature": "cls", "window": 1}},
        **config,
    }
    if settings["track"]["method"] == "motion":  # it takes none
        (folder / "prompts" / "prompts.csv").unlink(missing_ok=True)
    (folder / "foveate.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a project that is promised to be the same in every run."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in OUTSIDE
    }
