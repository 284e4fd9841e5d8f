"""VIA-tracks CSV of the VGG Image Annotator, as the ``movement`` package reads it: one rectangle per row, JSON in three columns.

The frame is ``frame`` of the file attributes, else the number with a leading zero at the end of the file name. The individual
is ``subject`` of the region attributes where there is one (we write it), else ``track``. A file with confidences has them in
the region attributes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

from foveate.exchange.sheet import Footage, Own, Rows, Sheet, Sighting, certainty, check_box, number, refuse, text_of
from foveate.store import write_aside

HEADER = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)
_COUNT = re.compile(r"[-_. ]*\d+\.\w+$")
_FRAME = re.compile(r"(0\d*)\.\w+$")


def is_via(head: str) -> bool:
    return head.lstrip("\ufeff").startswith(",".join(HEADER[:3]))


def read_via(path: Path, own: Own) -> Sheet:
    """Every rectangle of the file.

    Raises:
        FoveateError: another shape than a rectangle, a row without frame or track; names the row.
    """
    sheet = Sheet(path, "VIA")
    reader = csv.reader(io.StringIO(text_of(path, path.read_bytes()), newline=""))
    try:
        header = [cell.strip() for cell in next(reader)]
        if tuple(header) != HEADER:
            raise refuse(path, "the first row is not that of a VIA-tracks file", 1, "it must be " + ",".join(HEADER))
        for cells in reader:
            if cells:
                _add(sheet, cells, reader.line_num)
    except csv.Error as error:
        raise refuse(path, f"not a CSV file ({error})", reader.line_num) from None
    return sheet


def _add(sheet: Sheet, cells: list[str], row: int) -> None:
    if len(cells) != len(HEADER):
        raise refuse(sheet.path, f"{len(cells)} cells, but the header has {len(HEADER)}", row)
    file, shape, region = (_json(sheet.path, cells[k], row) for k in (2, 5, 6))
    if not shape:  # a picture without regions
        return
    if shape.get("name") != "rect":
        raise refuse(sheet.path, f"shape {shape.get('name')!r} is no rectangle", row, "only rectangles make a track here")
    found = _FRAME.search(cells[0])
    track = region.get("subject") or region.get("track")
    try:
        frame = int(file["frame"]) if "frame" in file else int(found.group(1)) if found else -1
        box = check_box(sheet.path, row, *(float(shape[key]) for key in ("x", "y", "width", "height")))
        score = certainty(float(region.get("confidence", math.nan)))
    except (KeyError, TypeError, ValueError):
        raise refuse(sheet.path, "frame, x, y, width, height or confidence is missing or no number", row) from None
    if frame < 0 or track is None:
        problem = "the row names no track" if frame >= 0 else f"{cells[0]!r} names no frame"
        raise refuse(sheet.path, problem, row, "every rectangle needs the attribute track, and every picture a frame number")
    sheet.sightings.append(Sighting(str(track), frame, box, score, row))
    if not sheet.videos:  # pictures are named after the video, if anything is
        sheet.videos = [_COUNT.sub(".png", cells[0])]


def _json(path: Path, text: str, row: int) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise refuse(path, f"{text[:40]!r} is no JSON object", row)
    return value


def write_via(path: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows) -> None:
    """A row for each box; ``track`` counts the subjects from 0."""
    with write_aside(path) as aside, open(aside, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADER)
        frame, boxes = -1, list[tuple[str, str]]()

        def flush() -> None:
            name = f"{footage.video}_0{frame:07d}.png"
            for k, (shape, region) in enumerate(boxes):
                writer.writerow([name, 0, json.dumps({"frame": frame}), len(boxes), k, shape, region])
            boxes.clear()

        for seen in rows(False):
            if seen.frame != frame:
                flush()
                frame = seen.frame
            if seen.box is not None:
                x, y, w, h = (number(value) for value in seen.box)
                score = "" if seen.score is None else f', "confidence": {number(seen.score)}'
                shape = f'{{"name": "rect", "x": {x}, "y": {y}, "width": {w}, "height": {h}}}'
                track = f'{{"track": {subjects.index(seen.subject)}, "subject": {json.dumps(seen.subject)}{score}}}'
                boxes.append((shape, track))
        flush()
