"""Views of clips: one piece of all frames, then large and small crops of that piece; on the device, from uint8.

    parent   the same piece of every frame, so that crops of one clip show much the same
    large    the same crop of every frame, mirrored or not as a whole; colours of each frame by themselves
    small    a crop of each frame by itself

Published: DoRA (appendix B.1) and its released code (``DataAugmentationDINO``). That code resizes bilinearly; here all crops are bicubic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.augment import Augmentation, Draws, Kind, draw, joined, make
from foveate.data.parents import Parent, parents


@dataclass(frozen=True)
class ClipAugmentation:
    """All views of a clip. Defaults: as released, but two large crops."""

    parent: Parent = field(default_factory=Parent)
    large: int = 224
    larges: int = 2
    large_area: tuple[float, float] = (0.4, 1.0)
    small: int = 112
    smalls: int = 6
    small_area: tuple[float, float] = (0.05, 0.4)
    small_boxes: Literal["frame", "clip"] = "frame"  # a small crop's place: of each frame, or the same in all
    colours: Literal["frame", "clip"] = "frame"  # drawn for each frame, or the same in all
    style: Literal["release", "dino"] = (
        "release"  # dino: blur of every first large crop, solarisation, small crops mirrored, too
    )

    def kinds(self) -> list[Kind]:
        """The large views, then the small ones."""
        blurs, solarise = ((1.0, 0.1), (0.0, 0.2)) if self.style == "dino" else ((0.1, 0.1), (0.0, 0.0))
        large = [Kind(self.large, self.large_area, blurs[v % 2], solarise[v % 2]) for v in range(self.larges)]
        return large + [Kind(self.small, self.small_area, 0.5, 0.0)] * self.smalls


@dataclass(frozen=True, eq=False)
class ClipViews:
    """Views of B clips of T frames."""

    large: Tensor  # f32[V, T, B, 3, S, S], normalised
    small: Tensor  # f32[M, T, B, 3, s, s]


def clip_views(frames: Tensor, valid: Tensor, index: Tensor, seed: int, step: int, how: ClipAugmentation) -> ClipViews:
    """All views of a batch of clips.

    Args:
        frames: u8[B, T, 3, H, W] RGB on the device.
        valid: f32[B, 4] x0, y0, x1, y1 in 0..1: the part of each frame that is content.
        index: i64[B] numbers of the samples.
        seed, step: of the run.
        how: what to do.
    """
    seen = parents(frames.transpose(0, 1), valid, index, seed, step, how.parent)
    times, count = seen.shape[:2]
    number, every = index.cpu().numpy(), seen.flatten(0, 1)
    drawn = [_over_time(number, times, seed, step, v, kind, how) for v, kind in enumerate(how.kinds())]
    colours = Augmentation()
    large = make(every, joined(drawn[: how.larges]), how.large, colours)
    shapes = (how.larges, times, count, 3, how.large, how.large), (how.smalls, times, count, 3, how.small, how.small)
    if not how.smalls:
        return ClipViews(large.view(shapes[0]), large.new_zeros(shapes[1]))
    return ClipViews(large.view(shapes[0]), make(every, joined(drawn[how.larges :]), how.small, colours).view(shapes[1]))


def _over_time(
    index: NDArray[np.int64], times: int, seed: int, step: int, view: int, kind: Kind, how: ClipAugmentation
) -> Draws:
    """Draws of one view of all frames, frame by frame: row ``t * B + b``."""
    content = np.tile(np.array([0, 0, how.parent.size, how.parent.size]), (len(index), 1))
    small = view >= how.larges
    parts: list[Draws] = []
    for t in range(times):
        drawn = draw(content, index, seed, step, f"view {view} frame {t}", kind, Augmentation())
        first = parts[0] if parts else drawn
        if how.colours == "clip":
            drawn = replace(first, box=drawn.box)
        if not small or how.small_boxes == "clip":
            drawn = replace(drawn, box=first.box)
        flip = np.zeros_like(first.flip) if small and how.style == "release" else first.flip
        parts.append(replace(drawn, flip=flip))
    return joined(parts)
