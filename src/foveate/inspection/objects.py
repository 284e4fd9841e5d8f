"""Which kinds of things are in a picture: any object detector that ``transformers`` opens, its preprocessing written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.models import folder as folders

SCORE = 0.5
"""Least probability of a detection that counts."""
SHORT, LONG = 800, 1333
"""Pixels of the short side that pictures are shown at, and of the long side at most: as DETR was trained; a folder's own, if it says."""


@dataclass(frozen=True, eq=False)
class Detector:
    """An object detector, ready."""

    model: Any
    names: tuple[str, ...]
    colours: folders.Colours
    short: int
    long: int

    @classmethod
    def load(cls, model: str) -> Detector:
        """From a local folder or a Hugging Face id.

        Raises:
            FoveateError: it cannot be had, is no detector, or lacks weights.
        """
        from transformers import AutoModelForObjectDetection

        folder = folders.fetch(model)
        network: Any = folders.open_model(AutoModelForObjectDetection, folder)
        size = (folders.read_json(folder / "preprocessor_config.json") or {}).get("size")
        size = size if isinstance(size, dict) else {}
        names = tuple(str(network.config.id2label[k]) for k in range(network.config.num_labels))
        short, long = int(size.get("shortest_edge", SHORT)), int(size.get("longest_edge", LONG))
        return cls(network, names, folders.colours(folder) or folders.IMAGENET, short, long)

    def classes(self, picture: NDArray[np.uint8]) -> frozenset[str]:
        """Names of the classes that at least one box of a picture uint8[H, W, 3] is of."""
        import torch

        from foveate.models.pretrained import resize

        height, width = picture.shape[:2]
        scale = min(self.short / min(height, width), self.long / max(height, width))
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
        small = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale))).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in self.colours)
        with torch.inference_mode():
            logits = self.model((small - mean) / std).logits[0].float()  # [boxes, classes (and nothing)]
        # One more than there are classes: softmax, the last is "nothing" (DETR). As many: one sigmoid each (Deformable DETR and later).
        shares = logits.softmax(-1)[:, :-1] if logits.shape[-1] == len(self.names) + 1 else logits.sigmoid()
        found = (shares.max(dim=0).values >= SCORE).nonzero()[:, 0].tolist()
        return frozenset(self.names[k] for k in found)
