"""The tracker `propagate` on a sequence of pictures whose first masks are given, as DAVIS asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from foveate import masks
from foveate.evaluate.davis import VOID, Labels
from foveate.settings import TrackSettings, View
from foveate.track.pixels import Picture, brightened, to_mask, upsample
from foveate.track.propagate.coat import colours
from foveate.track.propagate.propagator import Propagator
from foveate.track.scene import cut

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.pretrained import Backbone

RATE = 24.0  # frames per second of DAVIS


def embedded(pictures: Iterable[Picture], short_side: int, backbone: Backbone) -> Iterator[tuple[Picture, Tensor]]:
    """What the tracker sees of each picture uint8[H, W, 3]: uint8[h, w, 3] and its tokens f16[rows, columns, D]."""
    import torch

    for picture in pictures:
        height, width = picture.shape[:2]
        zoom = short_side / min(height, width) / backbone.patch
        rows, columns = (max(1, round(side * zoom)) for side in (height, width))
        view = View(x=0, y=0, w=width, h=height)
        small = brightened(cut(picture, view, rows * backbone.patch, columns * backbone.patch))
        yield small, backbone.patch_tokens(torch.from_numpy(small.copy()).permute(2, 0, 1)[None], dtype=torch.float16)[0].cpu()


def follow(
    seen: Iterable[tuple[Picture, Tensor]], first: Labels, settings: TrackSettings, interval: float = 1 / RATE
) -> Iterator[Labels]:
    """Objects in every frame, uint8[H, W], the first as given; where masks overlap, the more certain object has the pixel.

    Args:
        seen: of each frame, as `embedded` gives it.
        first: objects of the first frame, uint8[H, W]; 255 is nobody.
        settings: of the tracker.
        interval: seconds from one frame to the next.
    """
    import torch

    height, width = first.shape
    objects = [int(number) for number in np.unique(first) if 0 < number < VOID]
    tracker: Propagator | None = None
    for number, (small, tokens) in enumerate(seen):
        if tracker is None:
            rows, columns = tokens.shape[:2]
            tracker = Propagator(settings, rows, columns, len(objects))
            given = {k: torch.from_numpy(masks.coverage(first == one, rows, columns)) for k, one in enumerate(objects)}
            tracker.step(tokens, given, time=0.0, colours=colours(small, rows, columns))
            yield np.where(first == VOID, 0, first).astype(np.uint8)
            continue
        labels, best = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
        for one, found in zip(
            objects, tracker.step(tokens, time=number * interval, colours=colours(small, rows, columns)), strict=True
        ):
            assert found is not None  # every object has its prompt
            soft = (found.labels / found.peak).clamp(max=1).numpy()
            mask = to_mask(soft, small, height, width)
            certain = upsample(soft, height, width) + 1 if len(objects) > 1 else np.ones_like(best)
            take = mask & (certain > best)
            labels[take], best[take] = one, certain[take]
        yield labels
