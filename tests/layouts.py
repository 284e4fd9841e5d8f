"""Miniature data sets in the layouts of the public ones: shapes in random colours and places, so that only shape tells classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("cross", "disc", "ring")


def shape(kind: str, seed: int, side: int = 112, mottled: bool = True) -> tuple[Image.Image, Image.Image]:
    """A picture of one object on mottled ground, and its mask (0 or 255)."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 196, (7, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC)
    mask, half = Image.new("L", (side, side)), int(rng.integers(side // 5, side // 4))
    x, y = (int(v) for v in rng.integers(half + 2, side - half - 2, 2))
    pen, box = ImageDraw.Draw(mask), (x - half, y - half, x + half, y + half)
    if kind == "disc":
        pen.ellipse(box, fill=255)
    elif kind == "ring":
        pen.ellipse(box, outline=255, width=half // 3)
    else:
        pen.rectangle((x - half, y - half // 4, x + half, y + half // 4), fill=255)
        pen.rectangle((x - half // 4, y - half, x + half // 4, y + half), fill=255)
    colour = tuple(int(v) for v in rng.choice([rng.integers(0, 40), rng.integers(216, 256)], 3))
    picture.paste(colour, mask=mask)
    return picture, mask


def imagenet(folder: Path, train: int, val: int, side: int = 112) -> Path:
    """``train`` and ``val`` pictures of each class."""
    for split, count, first in (("train", train, 0), ("val", val, 10_000)):
        for k, kind in enumerate(SHAPES):
            (folder / split / kind).mkdir(parents=True)
            for n in range(count):
                shape(kind, first + 100 * k + n, side)[0].save(folder / split / kind / f"{n}.png")
    return folder


def voc(folder: Path, count: int, side: int = 112) -> Path:
    """VOC2012: boxes and masks, a void rim, and an annotation with all its tags."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    names = [f"2012_{n:06d}" for n in range(count)]
    for n, name in enumerate(names):
        picture, mask = shape(SHAPES[n % 3], n, side)
        picture.save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        left, top, right, low = mask.getbbox() or (0, 0, side, side)
        truth = np.where(np.asarray(mask) > 0, 1 + n % 3, 0).astype(np.uint8)
        truth[top, left:right] = 255
        Image.fromarray(truth).save(folder / "SegmentationClass" / f"{name}.png")
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><object><name>thing</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
            f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{low}</ymax></bndbox><part><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>2</xmax><ymax>2</ymax></bndbox></part></object></annotation>"
        )
    for which in ("Main/trainval", "Segmentation/val"):
        (folder / "ImageSets" / f"{which}.txt").write_text("\n".join(names) + "\n")
    return folder


def got10k(folder: Path, videos: int, frames: int, side: int = 112) -> Path:
    """One object in each video, which walks over ground that stays; in the last frame nothing of it is seen."""
    (folder / "val").mkdir(parents=True)
    names = [f"GOT-10k_Val_{n + 1:06d}" for n in range(videos)]
    (folder / "val" / "list.txt").write_text("\n".join(names) + "\n")
    for n, name in enumerate(names):
        here = folder / "val" / name
        here.mkdir()
        rng = np.random.default_rng(n)
        ground = Image.fromarray(rng.integers(60, 196, (7, 7, 3)).astype(np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        picture, mask = shape(SHAPES[n % 3], n, side)
        box = mask.getbbox() or (0, 0, side, side)
        thing, outline = picture.crop(box), mask.crop(box)
        boxes = []
        for t in range(frames):
            x, y = (int(v) for v in np.linspace((4, 8), (side - thing.width - 4, side - thing.height - 8), frames)[t])
            seen = ground.copy()
            seen.paste(thing, (x, y), outline)
            seen.save(here / f"{t + 1:08d}.jpg", quality=95)
            boxes.append(f"{x:.4f},{y:.4f},{thing.width:.4f},{thing.height:.4f}")
        (here / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
        (here / "cover.label").write_text("\n".join(["8"] * (frames - 1) + ["0"]) + "\n")
        (here / "meta_info.ini").write_text(f"[METAINFO]\nobject_class: {SHAPES[n % 3]}\nresolution: ({side}, {side})\n")
    return folder
