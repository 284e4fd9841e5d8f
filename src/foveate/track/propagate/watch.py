"""What is known of one subject's whereabouts, and when it is no longer believed: continuity of place and size, likeness to its gallery."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FOLLOW = 0.05  # weight of a new sure frame in what is typical


@dataclass
class Watch:
    """One subject in one view. Places and sizes are in patches, times in seconds."""

    lost: bool = False
    cut: bool = False  # it has not been surely seen since a cut
    doubtful: int = 0  # frames since the last sure one
    time: float = 0.0  # of the last sure frame
    row: float = 0.0
    column: float = 0.0
    down: float = 0.0  # patches a second
    right: float = 0.0
    size: float = 0.0  # weight of its labels, typically
    likeness: float = 0.0  # of its patches to its gallery, typically
    surplus: float = 0.0  # and how much less to its background, typically
    rival: float = -1e9  # time when something else was like it

    def saw(self, labels: Tensor, likeness: float, surplus: float, time: float, *, whole: bool) -> None:
        """A sure frame: labels f32[rows, columns], mean likeness of its patches to it, and how much
        more that is than to the background; whether its size is that of the subject and nothing else."""
        row, column = centre(labels)
        size = float(labels.sum())
        elapsed = time - self.time
        if elapsed > 0 and not self.lost:
            self.down, self.right = (row - self.row) / elapsed, (column - self.column) / elapsed
        else:
            self.down = self.right = 0.0
        if whole:
            self.size += (FOLLOW if self.size else 1.0) * (size - self.size)
        self.likeness += (FOLLOW if self.likeness else 1.0) * (likeness - self.likeness)
        self.surplus += (FOLLOW if self.surplus else 1.0) * (surplus - self.surplus)
        self.row, self.column, self.time, self.lost, self.cut, self.doubtful = row, column, time, False, False, 0

    def state(self) -> Tensor:
        import torch

        return torch.tensor([float(value) for value in astuple(self)], dtype=torch.float64)

    @classmethod
    def restored(cls, state: Tensor) -> Watch:
        kinds = {"bool": bool, "int": int, "float": float}
        return cls(*(kinds[str(field.type)](value) for field, value in zip(fields(cls), state.tolist(), strict=True)))


def centre(labels: Tensor) -> tuple[float, float]:
    """Mean row and column of f32[rows, columns], weighted."""
    import torch

    rows, columns = labels.shape
    weight = float(labels.sum())
    down = float((labels.sum(1) * torch.arange(rows)).sum()) / weight
    return down, float((labels.sum(0) * torch.arange(columns)).sum()) / weight
