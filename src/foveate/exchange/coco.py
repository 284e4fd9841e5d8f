"""JSON of the COCO format with a track number: ``images``, ``annotations`` (``bbox``, ``segmentation``), ``categories``.

COCO itself knows neither video nor track. We write them as TAO and BURST do: ``videos``, ``tracks`` (with a name), ``video_id``
and ``frame_index`` of an image, ``track_id`` of an annotation. Read are besides: ``frame_id`` or ``frame`` of an image, else
the number at the end of its file name; ``instance_id``, or ``track_id`` among the ``attributes`` (CVAT); masks as compressed or
plain run lengths or as polygons; and YouTube-VIS, where an annotation holds one entry of ``segmentations`` and ``bboxes`` per
frame. Reading holds the whole file in memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foveate.exchange.sheet import (
    UNNAMED,
    Box,
    Footage,
    Own,
    Rows,
    Sheet,
    Sighting,
    Size,
    certainty,
    check_box,
    number,
    refuse,
    text_of,
    the_video,
)
from foveate.masks import area, box, decode
from foveate.schema import FoveateError
from foveate.store import write_aside

_LAST_NUMBER = re.compile(r"(\d+)\D*$")


def is_coco(head: str) -> bool:
    return head.lstrip("\ufeff \r\n\t").startswith("{")


def read_coco(path: Path, own: Own) -> Sheet:
    """All annotations that belong to a track, or all where none does and no image has two.

    Raises:
        FoveateError: no such JSON, an annotation of an unknown image, a damaged mask; names the annotation.
    """
    try:
        whole = json.loads(text_of(path, path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"damaged JSON ({str(error)[:80]})") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("annotations"), list):
        raise refuse(path, "there is no list of annotations, so this is no COCO file")
    try:
        return _read(path, whole, own)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise refuse(path, f"not a COCO file ({type(error).__name__}: {str(error)[:80]})") from None


def _read(path: Path, whole: dict[str, Any], own: Own) -> Sheet:
    sheet = Sheet(path, "COCO")
    categories = {c["id"]: str(c["name"]) for c in whole.get("categories", [])}
    names = {t["id"]: str(t["name"]) for t in whole.get("tracks", []) if "name" in t}
    videos = {v["id"]: v for v in whole.get("videos", [])}
    chosen = None
    if videos:
        called = [str(v.get("name") or v.get("file_name") or (v.get("file_names") or [""])[0]) for v in videos.values()]
        at = the_video(path, called, own)
        chosen, sheet.videos = list(videos)[at], [called[at]]
        if "length" in videos[chosen]:
            sheet.frames = int(videos[chosen]["length"])
    images = {i["id"]: i for i in whole.get("images", []) if chosen is None or i.get("video_id", chosen) == chosen}
    every = {i["id"] for i in whole.get("images", [])}
    frames = {key: _frame(image) for key, image in images.items()}
    sizes = {
        (int(one["width"]), int(one["height"]))
        for one in [*images.values(), *([videos[chosen]] if chosen else [])]
        if "width" in one
    }
    if len(sizes) > 1:
        raise refuse(path, f"its pictures have {len(sizes)} different sizes", remedy="export one video by itself")
    sheet.size = next(iter(sizes), None)
    if sheet.size is not None and not all(0 < side < 10**5 for side in sheet.size):
        raise refuse(path, f"its pictures have size {sheet.size[0]} x {sheet.size[1]}")
    for one in whole["annotations"]:
        if chosen is not None and one.get("video_id", chosen) != chosen:
            continue
        track = one.get("track_id", one.get("instance_id", (one.get("attributes") or {}).get("track_id")))
        label = categories.get(one.get("category_id"), UNNAMED)
        name = names.get(track, "") or (label if track is None else f"{label} {track}")
        if "segmentations" in one:
            name = label if track is None and one.get("id") is None else name if track is not None else f"{label} {one['id']}"
            for frame, (shape, edges) in enumerate(zip(one["segmentations"], one["bboxes"], strict=True)):
                if shape is not None or edges is not None:
                    _add(sheet, name, frame, {**one, "segmentation": shape, "bbox": edges})
        elif one["image_id"] in frames:
            _add(sheet, name, frames[one["image_id"]], one)
        elif one["image_id"] not in every:
            raise refuse(path, f"annotation {one.get('id')} is of image {one['image_id']}, which is not listed")
    sheet.content = "masks" if any(one.rle is not None for one in sheet.sightings) else "boxes"
    return sheet


def _frame(image: Mapping[str, Any]) -> int:
    for key in ("frame_index", "frame_id", "frame"):
        if key in image:
            return int(image[key])
    found = _LAST_NUMBER.search(Path(str(image["file_name"])).stem)
    if found is None:
        raise ValueError(f"image {image['file_name']!r} names no frame")
    return int(found.group(1))


def _add(sheet: Sheet, name: str, frame: int, one: Mapping[str, Any]) -> None:
    shape = one.get("segmentation")
    try:
        rle = _rle(shape, sheet.size) if shape and sheet.size else None
    except (ValueError, TypeError, KeyError, FoveateError):
        raise refuse(sheet.path, f"annotation {one.get('id')} has a damaged mask") from None
    edges: Box | None = None
    if one.get("bbox"):
        edges = check_box(sheet.path, 0, *(float(v) for v in one["bbox"]))
    elif rle is not None and sheet.size is not None and area(rle):
        tight = box(decode(rle, sheet.size[1], sheet.size[0]))
        edges = None if tight is None else (float(tight[0]), float(tight[1]), float(tight[2]), float(tight[3]))
    if edges is None or frame < 0:
        raise refuse(sheet.path, f"annotation {one.get('id')} has neither box nor mask, or no frame")
    score = certainty(float(one.get("score", math.nan)))
    sheet.sightings.append(Sighting(name, frame, edges, score, rle=rle if rle is not None and area(rle) else None))


def _rle(shape: Any, size: Size) -> bytes:
    """Compressed run lengths of a mask of that size (width, height) from any of COCO's three forms."""
    from pycocotools import mask as coco

    width, height = size
    if isinstance(shape, list):
        if not all(
            isinstance(part, list) and len(part) >= 6 and all(math.isfinite(v) and abs(v) < 1e6 for v in part) for part in shape
        ):
            raise ValueError
        return bytes(coco.merge(coco.frPyObjects(shape, height, width))["counts"])
    if [int(v) for v in shape["size"]] != [height, width]:
        raise ValueError
    counts = shape["counts"]
    if isinstance(counts, list):
        if sum(counts) != width * height or min(counts) < 0:
            raise ValueError
        return bytes(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"])
    rle = counts.encode("ascii") if isinstance(counts, str) else b""
    decode(rle, height, width)  # raises where the runs do not fill the picture
    return rle


def write_coco(path: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows) -> None:
    """Every analysed frame as an image, every box as an annotation with its mask as compressed run lengths."""
    width, height = footage.size
    with write_aside(path) as aside, open(aside, "w", encoding="utf-8", newline="\n") as out:
        video = {"id": 1, "name": footage.video, "file_name": footage.file, "width": width, "height": height}
        tracks = [{"id": k, "name": name, "category_id": 1, "video_id": 1} for k, name in enumerate(subjects, start=1)]
        out.write('{"info": {"description": "tracks written by foveate"},\n')
        out.write(f'"videos": [{json.dumps({**video, "length": footage.frames}, ensure_ascii=False)}],\n')
        out.write(f'"tracks": {json.dumps(tracks, ensure_ascii=False)},\n')
        out.write('"categories": [{"id": 1, "name": "animal", "supercategory": ""}],\n"images": [')
        _list(out.write, (_image(k, frame, footage) for k, frame in enumerate(_frames(rows), start=1)))
        out.write('],\n"annotations": [')
        _list(out.write, _annotations(footage, subjects, rows))
        out.write("]}\n")


def _list(write: Any, items: Iterator[str]) -> None:
    for k, item in enumerate(items):
        write(",\n" if k else "\n")
        write(item)


def _frames(rows: Rows) -> Iterator[int]:
    last = -1
    for seen in rows(False):
        if seen.frame != last:
            last = seen.frame
            yield last


def _image(k: int, frame: int, footage: Footage) -> str:
    name = json.dumps(f"{footage.video}_0{frame:07d}.png", ensure_ascii=False)
    width, height = footage.size
    return f'{{"id": {k}, "video_id": 1, "frame_index": {frame}, "file_name": {name}, "width": {width}, "height": {height}}}'


def _annotations(footage: Footage, subjects: tuple[str, ...], rows: Rows) -> Iterator[str]:
    width, height = footage.size
    image, last, count = 0, -1, 0
    for seen in rows(True):
        image, last = image + (seen.frame != last), seen.frame
        if seen.box is None or seen.rle is None:
            continue
        count += 1
        edges = ", ".join(number(v) for v in seen.box)
        score = "" if seen.score is None else f', "score": {number(seen.score)}'
        counts = json.dumps(seen.rle.decode("ascii"))
        yield (
            f'{{"id": {count}, "image_id": {image}, "category_id": 1, "track_id": {subjects.index(seen.subject) + 1}, "bbox": [{edges}], '
            f'"area": {area(seen.rle)}, "iscrowd": 0{score}, "segmentation": {{"size": [{height}, {width}], "counts": {counts}}}}}'
        )
