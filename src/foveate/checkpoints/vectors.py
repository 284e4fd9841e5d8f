"""Vectors of a video by another backbone than the project's: stage ``embed`` for one checkpoint. They serve every probe and window."""

from __future__ import annotations

from foveate.actions import copies, embed
from foveate.actions.pictures import Source
from foveate.checkpoints.models import with_model
from foveate.checkpoints.units import Augment, probe_settings
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.store import Artefact


def artefact(project: Project, video: Video, model: str, source: Source, augment: Augment = "none") -> Artefact:
    """Where they are, or will be, with the expected stamp; with ``augment`` those of changed pictures, which are made last."""
    here = with_model(project, model)
    if augment == "none":
        return embed.artefact(here, video, source)
    return copies.artefact(here, video, settings=probe_settings(here, source, 1, augment))


def run(
    project: Project, video: Video, model: str, source: Source, augment: Augment = "none", progress: Progress = silent
) -> Artefact:
    """Embed the video as it is, and changed where the probes are to be trained on changed pictures."""
    here = with_model(project, model)
    found = embed.run(here, video, source, progress)
    if augment == "none":
        return found
    return copies.run(here, video, settings=probe_settings(here, source, 1, augment), progress=progress)
