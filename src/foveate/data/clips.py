"""One batch of what methods see: frames as they lie in the store, with where they come from.

Views are made of them on the device, inside a method's ``step`` (``data.augment``): a byte per colour crosses the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PICTURES = ("frames", "masks", "boxes")


@dataclass(frozen=True, eq=False)
class Clips:
    """B items of V independent draws of T frames; an item is one subject (or one whole view, or one picture)."""

    frames: Tensor  # u8[B, V, T, 3, H, W], RGB
    valid: Tensor  # f32[B, 4] x0, y0, x1, y1 in 0..1: the part of the frames that is content; the rest is letterbox
    time: Tensor  # f64[B, V, T] seconds since the first frame of the video; NaN for single pictures
    where: Tensor  # i32[B, V, T, 4] file, position in it, frame of the video, subject (numbers of ``Sampler.files``); -1: none
    index: (
        Tensor  # i64[B] number of the sample in the whole run, step * batch + place in the batch: what its randomness hangs on
    )
    masks: Tensor | None = None  # bool[B, V, T, H, W] the subject, in the frames' pixels
    boxes: Tensor | None = None  # f32[B, V, T, 4] x, y, w, h of the subject, in the frames' pixels

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Clips:
        """Frames, masks and boxes on ``device``, from pinned memory without waiting for the copy; the rest stays on the CPU, where
        the draws that hang on it are made."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), _PICTURES)

    def pinned(self) -> Clips:
        """With frames, masks and boxes in page-locked memory, from which a GPU copies by itself."""
        return self._each(lambda tensor: tensor.pin_memory(), _PICTURES)

    def part(self, start: int, stop: int) -> Clips:
        """Items ``start .. stop - 1``."""
        return self._each(lambda tensor: tensor[start:stop], tuple(self.tensors()))

    def tensors(self) -> dict[str, Tensor]:
        """By name, those that are there."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _each(self, change: Callable[[Tensor], Tensor], names: tuple[str, ...]) -> Clips:
        return replace(self, **{name: change(tensor) for name, tensor in self.tensors().items() if name in names})
