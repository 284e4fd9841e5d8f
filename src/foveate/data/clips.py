"""One batch of what methods see: frames as they lie in the store, with where they come from.

Views are made of them on the device, inside a method's ``step`` (``data.augment``): a byte per colour crosses the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from foveate.schema import FoveateError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PICTURES = ("frames", "masks", "boxes", "labels", "tokens")


@dataclass(frozen=True)
class Shape:
    """What an item is made of: V draws of T frames.

    With one draw and no ``piece``, an item is a place at which a clip can begin, and a pass has every one once (so DoRA is trained). Else
    an item is a piece of footage, and its draws are clips from inside it, at random and independent (so pairs are made for contrast).
    """

    frames: int = 1  # T of a draw
    step: float = 0.0  # seconds from one frame of a draw to the next
    draws: int = 1  # V
    piece: float | None = None  # seconds of footage that are an item; None: all of a source, where there are several draws

    def __post_init__(self) -> None:
        if min(self.frames, self.draws) < 1 or (self.frames > 1 and not self.step > 0):
            raise FoveateError(
                f"no clip has {self.frames} frames {self.step:g} s apart in {self.draws} draws",
                remedy="frames and draws are at least 1, and the step is a time in seconds",
            )
        if self.piece is not None and not self.piece > 0:
            raise FoveateError(f"no piece of footage lasts {self.piece:g} s", remedy="correct the recipe")

    @property
    def span(self) -> float:
        """Seconds from the first frame of a draw to the last."""
        return (self.frames - 1) * self.step

    @property
    def random(self) -> bool:
        """Whether draws are taken at random from inside an item."""
        return self.draws > 1 or self.piece is not None

    @property
    def words(self) -> str:
        """``a clip of 8 frames, 1 s apart``."""
        return "a picture" if self.frames == 1 else f"a clip of {self.frames} frames, {self.step:g} s apart"


@dataclass(frozen=True, eq=False)
class Clips:
    """B items of V independent draws of T frames; an item is one subject (or one whole view, or one picture)."""

    frames: Tensor  # u8[B, V, T, 3, H, W], RGB
    valid: Tensor  # f32[B, 4] x0, y0, x1, y1 in 0..1: the part of the frames that is content; the rest is letterbox
    time: Tensor  # f64[B, V, T] seconds since the first frame of the video; NaN for single pictures
    where: Tensor  # i32[B, V, T, 4] source, position in it, frame of the video, subject (numbers of the ``Sampler``'s lists); -1: none
    index: (
        Tensor  # i64[B] number of the sample in the whole run, step * batch + place in the batch: what its randomness hangs on
    )
    masks: Tensor | None = None  # bool[B, V, T, H, W] the subject, in the frames' pixels
    boxes: Tensor | None = None  # f32[B, V, T, 4] x, y, w, h of the subject, in the frames' pixels
    labels: Tensor | None = None  # f32[B, L] 1, 0, or NaN where nobody looked
    # f16 or f32[B, V, T, N, D] what the frozen first blocks of a backbone made of the frames, which then have 0 x 0 pixels.
    tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Clips:
        """Frames, masks, boxes, labels and tokens on ``device``, from pinned memory without waiting for the copy; the rest stays on
        the CPU, where the draws that hang on it are made."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), _PICTURES)

    def pinned(self) -> Clips:
        """With all that ``to`` moves in page-locked memory, from which a GPU copies by itself."""
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
