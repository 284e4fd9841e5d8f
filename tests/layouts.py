"""Miniature data sets in the layouts of the public ones: shapes in random colours and places, so that only shape tells classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("cross", "disc", "ring")


def shape(kind: str, seed: int, side: int = 112, large: bool = False) -> tuple[Image.Image, Image.Image]:
    """A picture of one object on mottled ground, and its mask (0 or 255)."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 196, (7, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC)
    mask, half = Image.new("L", (side, side)), int(rng.integers(side // 5, side // 4))
    half = round(1.4 * half) if large else half
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


def voc(folder: Path, count: int, side: int = 112, large: bool = False) -> Path:
    """VOC2012: boxes and masks, a void rim, and an annotation with all its tags."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    names = [f"2012_{n:06d}" for n in range(count)]
    for n, name in enumerate(names):
        picture, mask = shape(SHAPES[n % 3], n, side, large)
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
    for which in ("Main/trainval", "Segmentation/train", "Segmentation/val"):
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


def ade(folder: Path, train: int, val: int, side: int = 112) -> Path:
    """ADE20k: ground is class 4, shapes are 1 to 3, and a stripe at the top is nothing that counts."""
    for split, count, first in (("training", train, 0), ("validation", val, 10_000)):
        for name in ("images", "annotations"):
            (folder / name / split).mkdir(parents=True)
        for n in range(count):
            picture, mask = shape(SHAPES[n % 3], first + n, side)
            truth = np.where(np.asarray(mask) > 0, 1 + n % 3, 4).astype(np.uint8)
            truth[:4] = 0
            picture.save(folder / "images" / split / f"ADE_{split}_{n:08d}.jpg", quality=95)
            Image.fromarray(truth).save(folder / "annotations" / split / f"ADE_{split}_{n:08d}.png")
    return folder


def davis(folder: Path, frames: int, every: int = 6, height: int = 270, seed: int = 2026) -> Path:
    """DAVIS 2016: a rendered animal in its pen, ``every`` fifth of a second."""
    from foveate.simulate.herd import Conditions, set_up_herd
    from foveate.simulate.plan import PastureSettings, plan, scripts

    settings = PastureSettings(
        seed=seed,
        annotated=1,
        unannotated=0,
        test=0,
        seconds=10,
        fps=5,
        width=height * 16 // 9,
        height=height,
        behaviours="all",
    )
    video = plan(settings)[0]
    studio, _ = set_up_herd(
        (settings.seed, video.index), scripts(settings, video), 1, 50, settings.fps, settings.width, height, settings.difficulty,
        Conditions(), settings.names, views=("top",),
    )  # fmt: skip
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind / "480p" / "walk").mkdir(parents=True)
    for t in range(frames):
        picture, mask = studio.take(t * every)[0]
        Image.fromarray(picture).save(folder / "JPEGImages" / "480p" / "walk" / f"{t:05d}.jpg", quality=95)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "Annotations" / "480p" / "walk" / f"{t:05d}.png")
    return folder


def cifar10(folder: Path, each: int, test: int) -> Path:
    """CIFAR-10's binary version with three classes: five files of ``each`` pictures, and one of ``test``."""
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(SHAPES) + "\n\n")
    for name, count, first in (*((f"data_batch_{k}", each, 100 * (k - 1)) for k in range(1, 6)), ("test_batch", test, 10_000)):
        (folder / f"{name}.bin").write_bytes(b"".join(_record(first + n, bytes([n % 3])) for n in range(count)))
    return folder


def cifar100(folder: Path, train: int, test: int) -> Path:
    """CIFAR-100's binary version: a coarse class, which says nothing here, comes first."""
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(SHAPES) + "\n")
    for name, count, first in (("train", train, 0), ("test", test, 10_000)):
        (folder / f"{name}.bin").write_bytes(b"".join(_record(first + n, bytes([7, n % 3])) for n in range(count)))
    return folder


def _record(seed: int, labels: bytes) -> bytes:
    picture = np.asarray(shape(SHAPES[labels[-1]], seed, 32)[0])
    return labels + picture.transpose(2, 0, 1).tobytes()


def flowers(folder: Path, count: int) -> Path:
    """Flowers-102: the last third of the pictures is tested on."""
    from scipy.io import savemat

    (folder / "jpg").mkdir(parents=True)
    for n in range(count):
        shape(SHAPES[n % 3], n, 40)[0].save(folder / "jpg" / f"image_{n + 1:05d}.jpg")
    ids = 1 + np.arange(count)
    savemat(folder / "imagelabels.mat", {"labels": (1 + (ids - 1) % 3)[None]})
    third = count // 3
    savemat(
        folder / "setid.mat",
        {"trnid": ids[None, :third], "valid": ids[None, third : 2 * third], "tstid": ids[None, 2 * third :]},
    )
    return folder


def cars(folder: Path, train: int, test: int) -> Path:
    """Cars-196, with the labels of the test pictures beside it."""
    from scipy.io import savemat

    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([list(SHAPES)], dtype=object)})
    for split, count, first, path in (
        ("train", train, 0, "devkit/cars_train_annos.mat"),
        ("test", test, 10_000, "cars_test_annos_withlabels.mat"),
    ):
        (folder / f"cars_{split}").mkdir()
        rows = np.zeros((1, count), dtype=[("bbox_x1", object), ("class", object), ("fname", object)])
        for n in range(count):
            shape(SHAPES[n % 3], first + n, 40)[0].save(folder / f"cars_{split}" / f"{n + 1:05d}.jpg")
            rows[0, n] = (3, 1 + n % 3, f"{n + 1:05d}.jpg")
        savemat(folder / path, {"annotations": rows})
    return folder


def inaturalist(folder: Path, train: int, val: int) -> Path:
    """iNaturalist 2018: numbers of classes that neither begin at 0 nor follow each other."""
    import json

    kinds = [{"id": 5 + 10 * k, "name": kind} for k, kind in enumerate(SHAPES)]
    for split, count, first in (("train", train, 0), ("val", val, 10_000)):
        images, rows = [], []
        for n in range(count):
            name = f"train_val2018/{SHAPES[n % 3]}/{first + n}.jpg"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shape(SHAPES[n % 3], first + n, 40)[0].save(folder / name)
            images.append({"id": 900 - n, "file_name": name})
            rows.append({"id": n, "image_id": 900 - n, "category_id": 5 + 10 * (n % 3)})
        listed = {"images": images, "annotations": rows, "categories": kinds[::-1]}
        (folder / f"{split}2018.json").write_text(json.dumps(listed))
    return folder
