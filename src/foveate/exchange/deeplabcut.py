"""Tracking CSV of DeepLabCut: three header rows (scorer, bodyparts, coords), four with several animals (individuals), a row per
frame.

DeepLabCut's HDF5 keeps its column names as pickles, which are not read here; it writes the same table as CSV.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from foveate.exchange.sheet import LIKELY, UNNAMED, Own, Sheet, Sighting, certainty, points_box, refuse, text_of

_ROWS = ("scorer", "individuals", "bodyparts", "coords")


def is_deeplabcut(head: str) -> bool:
    return head.lstrip("\ufeff").startswith("scorer,")


def read_deeplabcut(path: Path, own: Own) -> Sheet:
    """A box around the body points of each animal whose likelihood is at least ``LIKELY``; the score is their mean likelihood.

    Raises:
        FoveateError: the header is not DeepLabCut's, a cell is no number, rows name pictures instead of frames; names the row.
    """
    sheet = Sheet(path, "DeepLabCut", content="points", videos=[path.stem.partition("DLC")[0]])
    reader = csv.reader(io.StringIO(text_of(path, path.read_bytes()), newline=""))
    head: dict[str, list[str]] = {}
    places: list[tuple[str, list[int]]] = []  # individual, columns of x, y and (or -1) likelihood of each point
    try:
        for cells in reader:
            if not cells:
                continue
            if cells[0] in _ROWS and "coords" not in head:
                head[cells[0]] = cells
            elif "coords" not in head or "bodyparts" not in head:
                raise refuse(path, "the rows bodyparts and coords are missing", reader.line_num)
            else:
                places = places or _places(path, head)
                _add(sheet, cells, places, reader.line_num)
                sheet.frames = max(sheet.frames or 0, int(cells[0]) + 1)
    except csv.Error as error:
        raise refuse(path, f"not a CSV file ({error})", reader.line_num) from None
    return sheet


def _places(path: Path, head: dict[str, list[str]]) -> list[tuple[str, list[int]]]:
    names, parts, coords = head.get("individuals"), head["bodyparts"], head["coords"]
    width = len(coords)
    if len(parts) != width or (names is not None and len(names) != width):
        raise refuse(path, "the header rows have different lengths", 1)
    points: dict[tuple[str, str], dict[str, int]] = {}
    for k in range(1, width):
        points.setdefault((names[k] if names else UNNAMED, parts[k]), {})[coords[k]] = k
    out: dict[str, list[int]] = {}
    for (individual, part), at in points.items():
        if "x" not in at or "y" not in at:
            raise refuse(path, f"body part {part!r} has no x or y", 1)
        out.setdefault(individual, []).extend((at["x"], at["y"], at.get("likelihood", -1)))
    return list(out.items())


def _add(sheet: Sheet, cells: list[str], places: list[tuple[str, list[int]]], row: int) -> None:
    if not (cells[0].isascii() and cells[0].isdigit() and len(cells[0]) < 10):
        remedy = "labelled pictures are no track: import the CSV that analysing a video wrote"
        raise refuse(sheet.path, f"{cells[0][:40]!r} is no frame number", row, remedy)
    try:
        values = np.array([float(cell) if cell.strip() else np.nan for cell in cells[1:]])
        for individual, columns in places:
            points = np.array(columns).reshape(-1, 3)
            place = values[points[:, :2] - 1]
            likely = np.where(points[:, 2] > 0, values[points[:, 2] - 1], 1.0)
            sure = likely >= LIKELY
            if (box := points_box(place[sure])) is not None:
                score = certainty(float(likely[sure].mean())) if (points[:, 2] > 0).any() else np.nan
                sheet.sightings.append(Sighting(individual, int(cells[0]), box, score, row))
    except (ValueError, IndexError):
        raise refuse(sheet.path, "a cell is missing or no number", row) from None
