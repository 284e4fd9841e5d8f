"""Numbers that change over a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Linear from ``start`` to ``peak`` over the first ``warmup`` steps, then half a cosine to ``end`` over the rest of the run.

    As in the released code of DINOv2 (``CosineScheduler``): the linear part has both its ends, so that step ``warmup`` - 1 already is
    ``peak``, step ``warmup`` is the cosine's first, ``peak`` again, and ``end`` is reached at the step after the last. ``peak == end``
    stays constant after the warm-up.
    """

    peak: float
    end: float
    start: float = 0.0
    warmup: int = 0  # steps

    def at(self, step: int, steps: int) -> float:
        """The value at ``step`` (from 0) of a run of ``steps``."""
        if step < self.warmup:
            return self.start + (self.peak - self.start) * step / max(1, self.warmup - 1)
        if step >= steps:
            return self.end
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * (step - self.warmup) / (steps - self.warmup))) / 2


def constant(value: float) -> Schedule:
    """A number that does not change."""
    return Schedule(value, value)
