"""The ground: what each place of a view looks like with no subject there.

A fixed camera sees the same patch at the same place until something stands on it. So a patch that looks as its place did, more than it
looks like the subject, is ground, however much a worn gallery may like it. Where the camera moves, places look like nothing that was there
before, and nothing follows from it. Learned only where all subjects are surely seen, and away from them: what is missed must not become
ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

AWAY = 2  # patches from the nearest label, from which a place is learned
FOLLOW = 0.2  # weight of a new frame
SAME = 0.7  # cosine with its place, below which a patch may be anything
MORE = 0.1  # by so much more like its place than like the subject: surely ground


@dataclass(eq=False)
class Ground:
    """Of one view; P patches."""

    tokens: Tensor | None = None  # f32[P, D], unit length; 0 where nothing is known

    def learn(self, tokens: Tensor, labels: Tensor) -> None:
        """Take unit ``tokens`` f32[P, D] of a frame where ``labels`` f32[rows, columns] of all subjects are far."""
        import torch
        from torch.nn import functional

        near = functional.max_pool2d(labels[None], 2 * AWAY + 1, 1, AWAY).flatten()
        free = (near < 0.02)[:, None]
        if self.tokens is None:
            self.tokens = torch.zeros_like(tokens)
        known = self.tokens.abs().sum(1, keepdim=True) > 0
        mixed = functional.normalize(self.tokens + FOLLOW * (tokens - self.tokens), dim=-1)
        new = torch.where(known, mixed, tokens)
        self.tokens = torch.where(free, new, self.tokens).half().float()  # as it is kept on disk

    def free(self, tokens: Tensor, own: Tensor) -> Tensor:
        """f32[P] in 0..1: how far each patch may be more than ground; ``own`` f32[P]: its likeness to the subject."""
        import torch

        if self.tokens is None:
            return torch.ones_like(own)
        same = (tokens * self.tokens).sum(1)
        return torch.where(same > SAME, (1 - (same - own) / MORE).clamp(0, 1), 1.0)

    def state(self) -> dict[str, Tensor]:
        return {} if self.tokens is None else {"tokens": self.tokens.half()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.tokens = state["tokens"].float() if "tokens" in state else None
