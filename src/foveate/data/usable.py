"""Clips that show the subject: PreViTS's constraint in time (Chen et al. 2023).

A clip counts if a mask is there at one of its frames, the reference, and is large enough. ``Sampler`` asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from foveate import masks as rle_masks
from foveate.data.sources import Source

_areas: WeakKeyDictionary[Source, NDArray[np.float64]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Usable:
    """Which frames of a source may be a clip's reference, for ``Sampler``.

    Attributes:
        area: least share of the picture that is mask. Default: half a percent; ``paper()`` has what the paper's gamma is read as.
        least: a source with fewer such frames is sampled without a constraint.
        reference: which frame of a clip; PreViTS has the first for pictures and the middle for clips.
    """

    area: float = 0.005
    least: int = 1
    reference: int = 0

    @classmethod
    def paper(cls, reference: int = 0) -> Usable:
        """gamma .15 (supplement, section 1) as the least share of the picture, which it does not define, and 60 frames
        (``withSeg_thre``)."""
        return cls(0.15, 60, reference)

    def frames(self, source: Source) -> NDArray[np.bool_]:
        """bool[N] of a source's frames; none where there are no masks or too few."""
        found: NDArray[np.bool_] = areas(source) >= self.area
        return found if found.sum() >= self.least else np.zeros(len(source), bool)

    def accepts(self, source: Source, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[n] of clips i64[n, T] of frames' positions."""
        reference = positions[:, min(self.reference, positions.shape[1] - 1)]
        return self.frames(source)[reference]


def areas(source: Source) -> NDArray[np.float64]:
    """f64[N] share of the picture that is mask; 0 without one. Computed once for a source."""
    if source not in _areas:
        runs, pixels = source.rles.to_pylist() if source.rles is not None else [], source.size[0] * source.size[1]
        found = [0.0 if run is None else rle_masks.area(run) / pixels for run in runs]
        _areas[source] = np.array(found) if found else np.zeros(len(source))
    return _areas[source]
