"""Tracking CSV of OCTRON: ``<label>_track_<id>.csv``, six lines ``key: value``, (in most versions) an empty line, then a table.

``bbox_x_min`` to ``bbox_y_max`` are the edges of the box; where a mask fell into several parts, cells hold one number per part,
and the box is that around all of them. Files of the first versions have no box columns and cannot be used.
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from foveate.exchange.sheet import Footage, Own, Rows, Sheet, Sighting, certainty, check_box, number, refuse, text_of
from foveate.store import write_aside

_KEYS = ("video_name", "frame_count", "frame_count_analyzed", "video_height", "video_width", "created_at")
_EDGES = ("bbox_x_min", "bbox_x_max", "bbox_y_min", "bbox_y_max")
_COLUMNS = ("frame_counter", "frame_idx", "track_id", "label", "confidence", "pos_x", "pos_y", "bbox_area", "bbox_aspect_ratio")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan", re.IGNORECASE)


def is_octron(head: str) -> bool:
    return head.lstrip("\ufeff").startswith("video_name:")


def read_octron(path: Path, own: Own) -> Sheet:
    """The track of one file; the individual is the label, or ``<label> <id>`` where the file holds several tracks of a label.

    Raises:
        FoveateError: the table or its box columns are missing, a cell is no number; names the row.
    """
    lines = text_of(path, path.read_bytes()).splitlines()
    at = next((k for k, line in enumerate(lines[:20]) if line.startswith("frame_counter,")), None)
    if at is None:
        raise refuse(path, "no line begins with frame_counter, so there is no table")
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[:at])}
    size = _whole(about, "video_width"), _whole(about, "video_height")
    sheet = Sheet(path, "OCTRON", frames=_whole(about, "frame_count"), whole=True, videos=[about.get("video_name", "")])
    sheet.size = (size[0], size[1]) if size[0] and size[1] else None
    header = [cell.strip() for cell in lines[at].split(",")]
    missing = [name for name in ("frame_idx", "track_id", *_EDGES) if name not in header]
    if missing:
        problem = f"column {missing[0]!r} is missing"
        raise refuse(path, problem, at + 1, "track again with a version of OCTRON that writes boxes (bbox_x_min, ...)")
    found: list[tuple[str, str, Sighting]] = []
    reader = csv.reader(lines[at + 1 :])
    try:
        for cells in reader:
            row = at + 1 + reader.line_num
            if cells:
                found.append(_sighting(path, dict(zip(header, cells, strict=False)), row))
    except csv.Error as error:
        raise refuse(path, f"not a CSV file ({error})", at + 1 + reader.line_num) from None
    tracks = dict.fromkeys((label, track) for label, track, _ in found)
    alone = {label for label, _ in tracks if sum(label == other for other, _ in tracks) == 1}
    for label, track, one in found:
        name = label if label in alone and label else f"{label} {track}".strip()
        sheet.sightings.append(one._replace(individual=name))
    return sheet


def _whole(about: dict[str, str], key: str) -> int | None:
    text = about.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _sighting(path: Path, cells: dict[str, str], row: int) -> tuple[str, str, Sighting]:
    edges = [[float(text) for text in _NUMBER.findall(cells.get(name, ""))] for name in _EDGES]
    try:
        frame = int(cells["frame_idx"])
        (left, right), (top, bottom) = ((min(edges[k]), max(edges[k + 1])) for k in (0, 2))
        score = max((float(text) for text in _NUMBER.findall(cells.get("confidence", ""))), default=math.nan)
        if frame < 0:
            raise ValueError
    except (KeyError, ValueError):
        raise refuse(path, "frame_idx or an edge of the box is missing or no number", row) from None
    box = check_box(path, row, left, top, right - left, bottom - top)
    return cells.get("label", "").strip(), cells["track_id"].strip(), Sighting("", frame, box, certainty(score), row)


def write_octron(folder: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows) -> None:
    """One file per subject that is ever seen, in ``folder``; ``track_id`` counts the subjects from 1, ``pos`` is the centre of the box."""
    about = (footage.file, footage.frames, footage.analysed, footage.size[1], footage.size[0], "unknown")
    for k, subject in enumerate(subjects, start=1):
        if not any(seen.box is not None for seen in rows(False) if seen.subject == subject):
            continue
        with write_aside(folder / f"{subject}_track_{k}.csv") as aside, open(aside, "w", encoding="utf-8", newline="") as out:
            out.writelines(f"{key}: {value}\n" for key, value in zip(_KEYS, about, strict=True))
            out.write("\n")
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([*_COLUMNS, *_EDGES])
            counter = -1
            for seen in rows(False):
                if seen.subject != subject:
                    continue
                counter += 1
                if seen.box is not None:
                    x, y, w, h = seen.box
                    score = "NaN" if seen.score is None else number(seen.score)
                    place = (x + w / 2, y + h / 2, w * h, w / h, x, x + w, y, y + h)
                    writer.writerow([counter, seen.frame, k, subject, score, *(number(v) for v in place)])
