"""What a subject has looked like, and what its surroundings have: two bounded sets of patch tokens.

Recent frames know how the subject looks now; the gallery knows how it has looked from every side, so that it is recognised after an
absence and told from things that resemble it from one side only. Only frames in which the tracker was sure enter, patches well inside or
well outside the subject, and of those the ones that are unlike everything kept so far. Tokens of prompted frames never leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SUBJECT, BACKGROUND = 192, 320  # tokens kept
PROMPTED = 0.5  # share of them that prompts may fill
FRESH = 6  # tokens taken from one frame at most
NOVEL = 0.75  # a token with a more similar one in the set is not taken
NEAREST = 3  # most similar tokens that likeness is measured with
SELF = 0.995  # cosine of a token with itself, after rounding


@dataclass(eq=False)
class Shelf:
    """A bounded set of unit tokens, the first ``kept`` of which came from prompts and stay."""

    size: int
    tokens: Tensor | None = None  # f32[N, D], N up to size
    kept: int = 0

    def likeness(self, query: Tensor, *, itself: bool = False) -> Tensor:
        """f32[Q]: mean cosine of f32[Q, D] with the ``NEAREST`` most similar tokens; -1 where there are none. With ``itself`` tokens are
        not compared with themselves."""
        if self.tokens is None:
            return query.new_full((len(query),), -1.0)
        cosine = query @ self.tokens.T
        if itself:
            cosine = cosine.masked_fill(cosine > SELF, -1.0)
        return cosine.topk(min(NEAREST, cosine.shape[1]), dim=1).values.mean(1)

    def keep(self, tokens: Tensor) -> None:
        """Take tokens [N, D] of a prompted frame, far-apart ones first, for good; what was learned since goes, because a prompt may mean
        that it was wrong."""
        room = int(self.size * PROMPTED) - self.kept
        self.tokens = None if self.tokens is None else self.tokens[: self.kept]
        self._take(tokens, room, 1.0)
        self.kept = 0 if self.tokens is None else len(self.tokens)

    def learn(self, tokens: Tensor) -> None:
        """Take the newest looks among tokens [N, D] of a frame. A full set lets the token go that another is most similar to, if it is
        less of its own kind than the new one."""
        self._take(tokens, FRESH, NOVEL)

    def _take(self, tokens: Tensor, count: int, limit: float) -> None:
        import torch

        if not len(tokens) or count <= 0:
            return
        if self.tokens is None:
            self.tokens, count = tokens[:1], count - 1
        nearest = (tokens @ self.tokens.T).amax(1)
        for _ in range(count):
            pick = int(nearest.argmin())
            if float(nearest[pick]) >= min(limit, 0.999):
                return
            new = tokens[pick : pick + 1]
            if len(self.tokens) < self.size:
                self.tokens = torch.cat([self.tokens, new])
            else:
                alike = (self.tokens @ self.tokens.T).fill_diagonal_(-1).amax(1)
                alike[: self.kept] = -1
                leaves = int(alike.argmax())
                if float(alike[leaves]) <= float(nearest[pick]):
                    return
                self.tokens = torch.cat([self.tokens[:leaves], self.tokens[leaves + 1 :], new])
            nearest = torch.maximum(nearest, tokens @ new[0])


@dataclass(eq=False)
class Gallery:
    """One subject in one view, against everything else there, other subjects included."""

    subject: Shelf = field(default_factory=lambda: Shelf(SUBJECT))
    background: Shelf = field(default_factory=lambda: Shelf(BACKGROUND))

    def labelled(self, peak: float) -> tuple[Tensor, Tensor]:
        """Tokens f32[N, D] of both, and labels f32[N]: ``peak`` for the subject's, 0 for the others."""
        import torch

        tokens = [shelf.tokens for shelf in (self.subject, self.background) if shelf.tokens is not None]
        labels = torch.zeros(sum(map(len, tokens)))
        labels[: 0 if self.subject.tokens is None else len(self.subject.tokens)] = peak
        return torch.cat(tokens), labels

    def copy(self) -> Gallery:
        """One that learns on its own."""
        return Gallery(replace(self.subject), replace(self.background))

    def state(self) -> dict[str, Tensor]:
        """As tensors, in half precision, which loses nothing (see ``propagate.unit``)."""
        import torch

        shelves = (("subject", self.subject), ("background", self.background))
        out = {name: shelf.tokens.half().contiguous() for name, shelf in shelves if shelf.tokens is not None}
        return out | {"kept": torch.tensor([self.subject.kept, self.background.kept])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for place, (name, shelf) in enumerate((("subject", self.subject), ("background", self.background))):
            shelf.tokens = state[name].float() if name in state else None
            shelf.kept = int(state["kept"][place])
