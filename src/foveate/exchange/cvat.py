"""XML of CVAT, "CVAT for video 1.1".

A ``track`` holds shapes by frame. ``outside="1"`` ends its visibility, and up to the next shape a box moves evenly (CVAT writes
the frames in between too, with ``keyframe="0"``). Boxes may be rotated; polygons and masks are kept as masks, other shapes are
refused. ``rle`` of a mask is CVAT's own: run lengths inside ``left, top, width, height``, row by row, background first (read
from CVAT's public converter). CVAT knows no mask that lasts: each is a track of its own with one frame, so nothing is concluded
from their ``outside``.

An individual is a label, or ``<label> <id>`` where several tracks of that label are seen at once. The XML is read by expat
alone, piece by piece, and a document type is refused: without one there are no entities that could grow or reach out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from foveate.exchange.sheet import Box, Footage, Own, Rows, Seen, Sheet, Sighting, check_box, number, refuse
from foveate.masks import Mask, encode
from foveate.store import write_aside

_SHAPES = ("box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")
_META = ("name", "size", "source", "width", "height", "start_frame", "stop_frame", "frame_filter")


@dataclass
class _Track:
    number: str
    label: str
    shapes: dict[int, tuple[Sighting, bool, bool]] = field(default_factory=dict)  # frame -> sighting, outside, is a mask


@dataclass
class _Document:
    meta: dict[str, str] = field(default_factory=dict)
    tracks: list[_Track] = field(default_factory=list)
    tasks: int = 0
    images: int = 0  # line of the first <image>


def is_cvat(head: str) -> bool:
    return "<annotations" in head


def read_cvat(path: Path, own: Own) -> Sheet:
    """All tracks of a task or a job.

    Raises:
        FoveateError: damaged XML, annotations of single images, several tasks, a shape that is no area; names the line.
    """
    found = _parse(path)
    if found.images and not found.tracks:
        raise refuse(path, "these are annotations of single images", found.images, 'export them as "CVAT for video 1.1"')
    if found.tasks > 1:
        raise refuse(path, f"the file holds {found.tasks} tasks", remedy="export each task by itself")
    sheet = Sheet(path, "CVAT", size=_size(found))
    sheet.videos = [name for key in ("source", "name") if (name := found.meta.get(key, "").strip())][:1]
    stop = found.meta.get("stop_frame", "") or ("" if found.meta.get("frame_filter") else found.meta.get("size", ""))
    if stop.isascii() and stop.isdigit() and len(stop) < 10:
        sheet.frames = int(stop) + bool(found.meta.get("stop_frame"))
    masks = any(is_mask for track in found.tracks for _, _, is_mask in track.shapes.values())
    sheet.content, sheet.held = ("masks", False) if masks else ("boxes", True)
    for name, tracks in _named(found.tracks):
        first = True
        for track in tracks:
            shown = False
            for frame, (one, outside, _) in sorted(track.shapes.items()):
                if first and frame > 0 and sheet.held:
                    sheet.away.append((name, 0))
                first = False
                if not outside:
                    sheet.sightings.append(one._replace(individual=name))
                elif shown and sheet.held:
                    sheet.away.append((name, frame))
                shown = not outside
    return sheet


def _named(tracks: list[_Track]) -> Iterator[tuple[str, list[_Track]]]:
    """Individuals: tracks of one label that are never seen in the same frame are one of them."""
    for label in dict.fromkeys(track.label for track in tracks):
        own = [track for track in tracks if track.label == label and track.shapes]
        spans = sorted((min(track.shapes), max(track.shapes)) for track in own)
        if all(before[1] < after[0] for before, after in itertools.pairwise(spans)) or _never_together(own):
            yield label, sorted(own, key=lambda track: min(track.shapes))
        else:
            yield from ((f"{label} {track.number}", [track]) for track in own)


def _never_together(tracks: list[_Track]) -> bool:
    """Whether these are masks of one frame each, all in different frames."""
    seen = [frame for track in tracks for frame, (_, outside, _) in track.shapes.items() if not outside]
    masks = all(is_mask for track in tracks for _, _, is_mask in track.shapes.values())
    return masks and len(seen) == len(set(seen)) == len(tracks)


def _size(found: _Document) -> tuple[int, int] | None:
    try:
        width, height = int(found.meta["width"]), int(found.meta["height"])
    except (KeyError, ValueError):
        return None
    return (width, height) if 0 < width < 10**5 and 0 < height < 10**5 else None


def _parse(path: Path) -> _Document:
    out, text, within = _Document(), list[str](), list[str]()
    track: list[_Track] = []
    parser = expat.ParserCreate()

    def start(name: str, has: dict[str, str]) -> None:
        within.append(name)
        text.clear()
        if name == "track":
            track[:] = [_Track(has.get("id", ""), has.get("label", "").strip())]
            out.tracks.append(track[0])
        elif name == "task" and "meta" in within:
            out.tasks += 1
        elif name == "image":
            out.images = out.images or parser.CurrentLineNumber
        elif name in _SHAPES and track and within[-2:-1] == ["track"]:
            _shape(path, parser.CurrentLineNumber, name, has, track[0], _size(out))

    def end(name: str) -> None:
        within.pop()
        if name in _META and "meta" in within and not {"label", "labels", "segments", "owner"} & set(within):
            out.meta.setdefault(name, "".join(text))
        elif name == "track":
            track.clear()

    def refuse_type(*_: object) -> None:
        remedy = "export it from CVAT again"
        raise refuse(path, "the file declares a document type, which CVAT never does", parser.CurrentLineNumber, remedy)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text.append
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse_type
    with _plain(path), open(path, "rb") as file:
        parser.ParseFile(file)
    return out


@contextmanager
def _plain(path: Path) -> Iterator[None]:
    try:
        yield
    except expat.ExpatError as error:
        raise refuse(path, f"damaged XML ({expat.ErrorString(error.code)})", error.lineno) from None
    except (ValueError, LookupError) as error:  # an encoding that nobody knows
        raise refuse(path, f"damaged XML ({error})", 1) from None


def _shape(path: Path, row: int, kind: str, has: dict[str, str], track: _Track, size: tuple[int, int] | None) -> None:
    if kind not in ("box", "polygon", "mask", "ellipse"):
        raise refuse(path, f"a {kind} covers no area", row, "draw boxes, polygons or masks, or remove it")
    mask: Mask | None = None
    try:
        frame, outside = int(has["frame"]), has.get("outside") == "1"
        if frame < 0 or frame > 10**9:
            raise ValueError
        if kind == "mask":
            left, top, width, height = (int(has[key]) for key in ("left", "top", "width", "height"))
            box = check_box(path, row, left, top, width, height)
            mask = _mask([int(run) for run in has["rle"].split(",")], left, top, width, height, size)
        elif kind == "polygon":
            corners = [tuple(float(v) for v in pair.split(",")) for pair in has["points"].split(";")]
            box = _around(path, row, corners)
            mask = _polygon(corners, size)
        elif kind == "ellipse":
            cx, cy, rx, ry = (float(has[key]) for key in ("cx", "cy", "rx", "ry"))
            box = check_box(path, row, cx - rx, cy - ry, 2 * rx, 2 * ry)
        else:
            x, y, right, bottom = (float(has[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            box = check_box(path, row, x, y, right - x, bottom - y)
            if turn := float(has.get("rotation", 0)):
                corners = _turned(box, math.radians(turn))
                box, mask = _around(path, row, corners), _polygon(corners, size)
    except (KeyError, ValueError, TypeError):
        raise refuse(path, f"a {kind} without the numbers it needs", row) from None
    if frame in track.shapes:
        raise refuse(path, f"track {track.number!r} has two shapes in frame {frame}", row, "keep one")
    rle = encode(mask) if mask is not None and mask.any() and not outside else None
    one = Sighting(track.label, frame, box, row=row, rle=rle, filled=has.get("keyframe", "1") == "0")
    track.shapes[frame] = one, outside, mask is not None


def _around(path: Path, row: int, corners: list[tuple[float, ...]]) -> Box:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return check_box(path, row, min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def _turned(box: Box, angle: float) -> list[tuple[float, ...]]:
    x, y, w, h = box
    c, s = math.cos(angle), math.sin(angle)
    arms = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(x + w / 2 + c * a - s * b, y + h / 2 + s * a + c * b) for a, b in arms]


def _polygon(corners: list[tuple[float, ...]], size: tuple[int, int] | None) -> Mask | None:
    if size is None or len(corners) < 3:
        return None
    from PIL import Image, ImageDraw

    image = Image.new("1", size)
    ImageDraw.Draw(image).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    return np.asarray(image)


def _mask(runs: list[int], left: int, top: int, width: int, height: int, size: tuple[int, int] | None) -> Mask | None:
    if sum(runs) != width * height or min(runs) < 0 or left < 0 or top < 0 or (size and width * height > size[0] * size[1]):
        raise ValueError
    if size is None:
        return None
    if left + width > size[0] or top + height > size[1]:
        raise ValueError
    whole = np.zeros((size[1], size[0]), np.bool_)
    whole[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return whole


def write_cvat(path: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows) -> None:
    """A track of boxes for each subject that is seen; every analysed frame is a keyframe, and the first in which it is not seen ends it."""
    present = {seen.subject for seen in rows(False) if seen.box is not None}
    with write_aside(path) as aside, open(aside, "w", encoding="utf-8", newline="\n") as out:
        out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n')
        out.write(f"      <name>{escape(footage.video)}</name>\n      <size>{footage.frames}</size>\n")
        out.write("      <mode>interpolation</mode>\n      <overlap>0</overlap>\n      <labels>\n")
        for subject in subjects:
            out.write(f"        <label>\n          <name>{escape(subject)}</name>\n          <type>rectangle</type>\n")
            out.write("          <attributes></attributes>\n        </label>\n")
        out.write("      </labels>\n      <original_size>\n")
        out.write(
            f"        <width>{footage.size[0]}</width>\n        <height>{footage.size[1]}</height>\n      </original_size>\n"
        )
        out.write(f"      <source>{escape(footage.file)}</source>\n    </task>\n  </meta>\n")
        for k, subject in enumerate(name for name in subjects if name in present):
            out.write(f'  <track id="{k}" label={quoteattr(subject)} source="auto">\n')
            last: Box | None = None
            for seen in rows(False):
                if seen.subject == subject:
                    out.write(_element(seen, last))
                    last = seen.box
            out.write("  </track>\n")
        out.write("</annotations>\n")


def _element(seen: Seen, last: Box | None) -> str:
    box = seen.box or last
    if box is None:
        return ""
    x, y, w, h = box
    edges = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + w, y + h), strict=True)
    place = " ".join(f'{name}="{number(value)}"' for name, value in edges)
    outside = int(seen.box is None)
    return f'    <box frame="{seen.frame}" keyframe="1" outside="{outside}" occluded="0" {place} z_order="0">\n    </box>\n'
