"""A box without a mask: is the animal better taken as all of the box, or as the ellipse that it encloses?

True masks of the DAVIS 2016 sequences that settings are chosen on (never those that are reported): of each, the tight box, and what box and
ellipse share with the mask.

    FOVEATE_DATA=... python benchmarks/box_masks.py
"""

from __future__ import annotations

import numpy as np
from cells import RESULTS, footage, write_cell
from PIL import Image

from foveate import masks
from foveate.settings import View
from foveate.track.external.placing import ellipse

SEQUENCES = ("blackswan", "dance-jump", "hike", "mallard-fly")


def main() -> None:
    folder = footage() / "davis2016" / "Annotations" / "480p"
    found: dict[str, dict[str, dict[str, float]]] = {}
    for sequence in SEQUENCES:
        scores: dict[str, list[tuple[float, float, float]]] = {"box": [], "ellipse": []}
        for path in sorted((folder / sequence).glob("*.png")):
            mask = np.asarray(Image.open(path).convert("L")) > 127
            box = masks.box(mask)
            if box is None:
                continue
            x, y, w, h = box
            filled = np.zeros_like(mask)
            filled[y : y + h, x : x + w] = True
            view = View(x=0, y=0, w=mask.shape[1], h=mask.shape[0])
            for name, shape in (("box", filled), ("ellipse", ellipse(view, (float(x), float(y), float(w), float(h))))):
                both = float((shape & mask).sum())
                scores[name].append((both / float((shape | mask).sum()), both / float(mask.sum()), both / float(shape.sum())))
        found[sequence] = {
            name: dict(zip(("iou", "animal_inside", "share_animal"), np.mean(values, axis=0).round(4).tolist(), strict=True))
            for name, values in scores.items()
        }
    mean = {
        name: {key: round(float(np.mean([found[s][name][key] for s in SEQUENCES])), 4) for key in found[SEQUENCES[0]][name]}
        for name in ("box", "ellipse")
    }
    print(mean)
    write_cell(RESULTS / "box_masks.json", {"mean": mean, "sequences": found})


if __name__ == "__main__":
    main()
