"""Vectors of whole views at the tracker's own resolution (``source: track``): taken over from the tracker, or computed where it has none.

Where the tracker was `propagate` and the probe asked for it before tracking, nothing has to be read or computed again. Rows whose mask came
about later (filled in backwards, corrected identities, imported tracks), and tracks from before the probe asked, are looked at here,
in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from foveate import masks, track
from foveate.actions.pictures import FramePart
from foveate.models.pretrained import load_backbone, model_of
from foveate.project import Project, Video
from foveate.schema import FEATURES, LAYERS
from foveate.settings import View
from foveate.store import Artefact
from foveate.track.propagate import glances
from foveate.track.propagate.glances import Vectors
from foveate.track.scene import cut, grid_of
from foveate.video import read_frames

if TYPE_CHECKING:
    from foveate.models.pretrained import Backbone

TOGETHER = 16  # pictures embedded at once, as the tracker does


class Seen:
    """The tracker's vectors of one video."""

    def __init__(self, project: Project, video: Video) -> None:
        self.project = project
        self.kept: Artefact = glances.artefact(project, video, track.artefact(project, video).stamp)
        self.width = 0  # length of a vector, once there is one
        self.computed = 0  # pictures that had to be looked at here

    @cached_property
    def backbone(self) -> Backbone:
        return load_backbone(model_of(self.project.folder, glances.model_name(self.project)))

    def vectors(self, part: FramePart, progress: Callable[[int], None]) -> Vectors:
        """fp16[rows, D] per feature and layer, in the order of the part's keys."""
        views, frames, rles = part.keys["view"].to_pylist(), part.keys["frame"].to_pylist(), part.rles.to_pylist()
        at, kept = glances.read(self.kept, part.name)
        rows = [at.get(glances.key(*row)) if row[2] else None for row in zip(views, frames, rles, strict=True)]
        self.width = next(iter(kept.values())).shape[1] if kept else self.backbone.width
        names = [f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES]
        out = {name: np.zeros((len(rows), self.width), np.float16) for name in names}
        there = np.array([i for i, row in enumerate(rows) if row is not None], np.intp)
        for name, values in out.items() if len(there) else ():
            values[there] = kept[name][[rows[i] for i in there]]
        progress(len(there))
        missing: dict[str, dict[int, list[int]]] = {}
        for i, row in enumerate(rows):
            if row is None:
                missing.setdefault(views[i], {}).setdefault(frames[i], []).append(i)
        for view, wanted in missing.items():
            numbers = sorted(wanted)
            for k in range(0, len(numbers), TOGETHER):
                self._look(part, part.views[view], {f: wanted[f] for f in numbers[k : k + TOGETHER]}, rles, out)
                progress(sum(map(len, wanted.values())))
        return out

    def _look(self, part: FramePart, view: View, wanted: dict[int, list[int]], rles: list[bytes | None], out: Vectors) -> None:
        """Fill in the rows of some frames of a view."""
        import torch

        patch = self.backbone.patch
        rows, columns = grid_of(view, self.project.config.track.short_side, patch)
        pictures = [
            cut(picture, view, rows * patch, columns * patch)
            for picture in read_frames(part.path, part.timeline, np.array(list(wanted), np.int64))
        ]
        tokens = self.backbone.tokens(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
        self.computed += len(pictures)
        whole = np.zeros((view.h, view.w), np.bool_)  # no mask: all patches count alike
        for members, seen in zip(wanted.values(), glances.halved(tokens), strict=True):
            shown = [masks.decode(rle, view.h, view.w) if (rle := rles[i]) else whole for i in members]
            for name, values in glances.vectors_of(seen, shown).items():
                out[name][members] = values
