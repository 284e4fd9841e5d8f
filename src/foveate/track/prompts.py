"""Where a person said the subject is: ``prompts/prompts.csv`` and ``--prompt``.

A row names video, view (may stay empty where there is one), subject (likewise) and frame, and says in pixels of the view: a ``point``
(x, y) on the subject, a ``box`` (x, y, w, h) around it, or a ``mask``, a PNG beside the table that is black where the subject is not; or
it says ``absent``: the subject is not there, whatever the tracker took for it. Further rows for the same subject are corrections: they
hold from their frame on. ``--prompt`` writes a point or ``absent``, in place of what it wrote for the same frame before.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from foveate import timeline
from foveate.masks import Mask
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG, View
from foveate.spreadsheet import read_csv
from foveate.store import file_sha256, write_text
from foveate.track.external import imports
from foveate.track.external.imports import load_imports

FOLDER, TABLE = "prompts", "prompts.csv"
COLUMNS = ("video", "view", "subject", "frame", "kind", "x", "y", "w", "h", "mask")
_REQUIRED = ("video", "frame", "kind")
_SHAPE = "VIDEO[:VIEW][:SUBJECT]:FRAME:X,Y, for example  sheep1:top:0:320,240  (or `absent` in place of X,Y)"
ABSENT = "absent"
Kind = Literal["point", "box", "mask", "absent"]
_NUMBERS: Mapping[str, tuple[str, ...]] = {"point": ("x", "y"), "box": ("x", "y", "w", "h"), "mask": (), "absent": ()}
_CLICKED = ("point", "absent")  # what --prompt writes


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``view`` and ``subject`` are empty where the video has only one."""

    video: str
    frame: int
    kind: Kind
    x: float = 0.0  # pixels of the view
    y: float = 0.0
    w: float = 0.0
    h: float = 0.0
    mask: str = ""  # PNG, relative to the prompts folder
    view: str = ""
    subject: str = ""
    row: int | None = None  # in prompts.csv

    def relevant(self) -> dict[str, Any]:
        """Everything that can change a track, for a stamp; the row is where it stands, not what it says."""
        return {name: getattr(self, name) for name in COLUMNS}


def parse_prompt(text: str, project: Project) -> Prompt:
    """The point, or the absence, that ``VIDEO[:VIEW][:SUBJECT]:FRAME:X,Y`` means.

    Raises:
        FoveateError: not of this form, or no such video.
    """
    try:
        *names, frame, place = text.split(":")
        x, y = (0.0, 0.0) if place == ABSENT else (float(number) for number in place.split(","))
        number = int(frame)
        if number < 0 or len(names) > 3:
            raise ValueError
    except ValueError:
        remedy = "put the place of the subject, in pixels, for X,Y" if text.endswith(":X,Y") else f"write {_SHAPE}"
        raise FoveateError(f"--prompt {text!r} is not understood", remedy=remedy) from None
    if not names or not names[0]:
        raise FoveateError(f"--prompt {text!r} names no video", remedy=f"write {_SHAPE}")
    video, kind = project.video(names[0]), "absent" if place == ABSENT else "point"
    view, subject = (*names[1:], "", "")[:2]
    if len(names) == 2 and _is_subject(view, views_of(project), video.subjects):
        view, subject = "", view
    return Prompt(video.name, number, kind, x, y, view=view, subject=subject)  # type: ignore[arg-type]


def _is_subject(name: str, views: Sequence[str], subjects: Sequence[str]) -> bool:
    """Whether a single name between video and frame means the subject: one that is both means what has to be said."""
    return name in subjects and (name not in views or len(views) == 1)


def spelled(project: Project, video: Video, view: str, subject: str, frame: int) -> str:
    """The argument of ``--prompt`` without the place: ``VIDEO[:VIEW][:SUBJECT]:FRAME``, with those names that have to be said."""
    views = (view,) if len(views_of(project)) > 1 else ()
    subjects = (subject,) if len(video.subjects) > 1 else ()
    return ":".join((video.name, *views, *subjects, str(frame)))


def add_prompts(project: Project, texts: Sequence[str]) -> list[str]:
    """Check ``--prompt`` arguments and write them to ``prompts/prompts.csv``.

    A click on a subject that was clicked in that frame before takes the place of the earlier row: this is how a wrong click is put right.
    The timeline of a video that has none yet is read first, because a click is only stored when it lies in the picture.

    Returns:
        One line for each click that replaces another.

    Raises:
        FoveateError: the tracker takes no clicks, an argument is not understood or not in the footage, the footage cannot be read, or
            the table is wrong for one of these videos; nothing is written then.
    """
    path = project.folder / FOLDER / TABLE
    if texts and project.config.track.method == "motion":
        raise FoveateError(
            "the tracker `motion` takes no clicks; nothing was stored",
            file=project.folder / CONFIG,
            remedy="set `track: {method: propagate}`, or track without --prompt",
        )
    stored: dict[_Key, Prompt] = {}
    clicks: dict[_Key, Prompt] = {}
    notes = []
    for text in texts:
        click = _click(project, text)
        stored |= {_key(prompt): prompt for prompt in load_prompts(project, project.video(click.video))}
        earlier = clicks.get(_key(click)) or stored.get(_key(click))
        if earlier and earlier.kind not in _CLICKED:
            raise FoveateError(
                f"--prompt {text!r}: a {earlier.kind} says already where {earlier.subject!r} is in frame {earlier.frame}",
                file=path,
                row=earlier.row,
                remedy="remove that row, or click in another frame",
            )
        if earlier and _said(earlier) != _said(click):
            before = f"the click at {_cell(earlier.x)},{_cell(earlier.y)}" if earlier.kind == "point" else f"`{ABSENT}`"
            notes.append(f"{text} replaces {before}")
        clicks[_key(click)] = replace(click, row=earlier.row if earlier else None)
    changed = [p for key, p in clicks.items() if key not in stored or _said(stored[key]) != _said(p)]
    if changed:
        _write(project, changed)
    return notes


def _said(prompt: Prompt) -> tuple[str, float, float]:
    return prompt.kind, prompt.x, prompt.y


_Key = tuple[str, str, str, int]


def _key(prompt: Prompt) -> _Key:
    """What two prompts may not have in common."""
    return prompt.video, prompt.view, prompt.subject, prompt.frame


def _click(project: Project, text: str) -> Prompt:
    """What one ``--prompt`` means, with its view and subject, compared with the footage."""
    prompt = parse_prompt(text, project)
    video = project.video(prompt.video)
    if load_imports(project, video):
        raise FoveateError(
            f"--prompt {text!r} is not stored: the track of video {video.name!r} is imported, and a click would not change it",
            file=project.folder / imports.FOLDER / imports.TABLE,
            remedy=f"`foveate import --remove --video {video.name}`, if foveate shall follow the subjects itself",
        )
    _check_view(project, video, prompt, text)
    prompt = replace(prompt, view=_only(prompt.view, views_of(project), "view", text, prompt))
    prompt = replace(prompt, subject=_only(prompt.subject, video.subjects, "subject", text, prompt))
    try:
        timeline.run(project, video)
        frames, views = len(timeline.load(project, video)), timeline.views(project, video)
    except FoveateError as error:
        problem = f"--prompt {text!r} is not stored: {error.problem}"
        raise FoveateError(problem, file=error.file, row=error.row, remedy=error.remedy) from None
    if wrong := _misplaced(prompt, frames, views[prompt.view]):
        problem, where = wrong
        raise FoveateError(f"--prompt {text!r} is not stored: {problem}", remedy=where)
    if prompt.kind != ABSENT and (problem := _undecodable(project, video, prompt.frame)):
        raise FoveateError(f"--prompt {text!r} is not stored: {problem}", remedy=_ELSEWHERE)
    return prompt


def _check_view(project: Project, video: Video, prompt: Prompt, text: str) -> None:
    """Refuse a name in the place of the view that is none."""
    views = project.config.views
    if not prompt.view or prompt.view in views_of(project):
        return
    if not prompt.subject and (not views or len(video.subjects) > 1):  # the only name between video and frame
        known = f"views {', '.join(views)}" if views else f"no views ({CONFIG} names none)"
        problem = f"{prompt.view!r} is neither a view nor a subject of video {video.name!r}"
        remedy = f"it has {known} and the subjects {', '.join(video.subjects)}; write {_SHAPE}"
        raise FoveateError(f"--prompt {text!r}: {problem}", remedy=remedy)
    if not views:
        problem = f"there is no view {prompt.view!r}: {CONFIG} names none"
        raise FoveateError(f"--prompt {text!r}: {problem}", remedy="leave the view out")


def _write(project: Project, clicks: Sequence[Prompt]) -> None:
    """Clicks with a row take its place, the others get a row at the end; all else in the table stays as it is."""
    path = project.folder / FOLDER / TABLE
    before = path.read_bytes().decode("utf-8-sig") if path.exists() else ",".join(COLUMNS) + "\n"
    lines = before.splitlines(keepends=True)
    separator = max(",;\t", key=lines[0].count)
    header = [cell.strip() for cell in next(csv.reader(lines[:1], delimiter=separator))]
    several = {"view": len(views_of(project)) > 1, "subject": any(len(project.video(c.video).subjects) > 1 for c in clicks)}
    for name in ("x", "y", *(name for name, needed in several.items() if needed)):
        if name not in header:
            raise FoveateError(f"column {name!r} is missing", file=path, row=1, remedy="add it to the first row")
    out, newline = io.StringIO(newline=""), "\r\n" if "\r\n" in before else "\n"
    writer = csv.writer(out, delimiter=separator, lineterminator=newline)
    replaced, begin = {click.row: click for click in clicks if click.row is not None}, 0
    reader = csv.reader(lines, delimiter=separator)
    for cells in reader:
        if click := replaced.get(reader.line_num):
            cells += [""] * (len(header) - len(cells))
            kind = header.index("kind")
            cells[kind] = cells[kind] if (cells[kind].strip() or "point") == click.kind else click.kind
            for name in ("x", "y"):
                cells[header.index(name)] = _cell(getattr(click, name)) if name in _NUMBERS[click.kind] else ""
            writer.writerow(cells)
        else:
            out.write("".join(lines[begin : reader.line_num]))
        begin = reader.line_num
    if not out.getvalue().endswith("\n"):
        out.write(newline)
    for click in clicks:
        if click.row is None:
            unused = {"x", "y", "w", "h"} - set(_NUMBERS[click.kind])
            values = {name: _cell(value) for name, value in click.relevant().items() if name not in unused}
            if len(project.video(click.video).subjects) == 1:
                values["subject"] = ""  # the only one, whatever videos.csv will call it
            writer.writerow([values.get(name, "") for name in header])
    write_text(path, out.getvalue())


def _cell(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def views_of(project: Project) -> tuple[str, ...]:
    """Names of a project's views."""
    return tuple(project.config.views) or ("full",)


def _only(name: str, names: Sequence[str], what: str, text: str, prompt: Prompt) -> str:
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    where = f"video {prompt.video!r} has {len(names)} {what}{'s' if len(names) > 1 else ''}: {', '.join(names)}"
    if not name:
        raise FoveateError(
            f"--prompt {text!r} does not say which {what}; {where}",
            remedy=f"write {_SHAPE}",
        )
    raise FoveateError(f"--prompt {text!r}: there is no {what} {name!r}; {where}", remedy=f"write {_SHAPE}")


def strangers(project: Project) -> list[FoveateError]:
    """One error for each row of prompts.csv whose video is not in videos.csv; such rows stop nobody. A table that cannot be read is one."""
    path = project.folder / FOLDER / TABLE
    known = {video.name for video in project.videos}
    try:
        rows = read_csv(path, _REQUIRED) if path.exists() else []
    except FoveateError as error:
        return [error]  # in the words in which every video says it
    return [
        FoveateError(
            f"there is no video {cells['video']!r} in videos.csv",
            file=path,
            row=row,
            remedy="correct the name, or remove the row",
        )
        for row, cells in rows
        if cells["video"] not in known
    ]


def _read(project: Project, video: Video) -> list[Prompt]:
    """The rows of one video in prompts.csv, checked as far as that goes without opening it. Others' wrong rows are not its concern."""
    path = project.folder / FOLDER / TABLE
    views, prompts = views_of(project), []
    for row, cells in read_csv(path, _REQUIRED):
        if cells["video"] != video.name:
            continue

        def wrong(problem: str, remedy: str, row: int = row) -> FoveateError:
            return FoveateError(problem, file=path, row=row, remedy=remedy)

        kind = cells["kind"] or "point"
        if kind not in _NUMBERS:
            raise wrong(f"kind {kind!r} is not point, box, mask or absent", "correct it")
        named = {}
        for what, names in (("view", views), ("subject", video.subjects)):
            name = cells.get(what, "")
            # Until videos.csv names its only subject, that bears the video's name.
            if len(names) == 1 and (not name or (what == "subject" and name == video.name)):
                name = names[0]
            if name not in names:
                problem = f"there is no {what} {name!r}" if name else f"the {what} is empty, and there are {len(names)}"
                choice = "one of: " + ", ".join(names) if len(names) > 1 else names[0]
                remedy = f"write {choice} in column {what} of row {row}"
                if what == "view" and not project.config.views:
                    remedy = f"leave column view of row {row} empty: {CONFIG} names no views"
                raise wrong(f"{problem} for video {cells['video']!r}", remedy)
            named[what] = name
        numbers = {}
        needed = _NUMBERS[kind]
        for name in needed:
            try:
                numbers[name] = float(cells.get(name, ""))
            except ValueError:
                raise wrong(f"{name} is {cells.get(name, '')!r}, not a number", f"a {kind} needs {', '.join(needed)}") from None
            if not math.isfinite(numbers[name]):
                raise wrong(f"{name} is {cells[name]!r}, not a number", "correct it")
        if kind == "box" and (numbers["w"] <= 0 or numbers["h"] <= 0):
            raise wrong("the box is empty", "w and h are its width and height in pixels, greater than 0")
        if not cells["frame"].isascii() or not cells["frame"].isdigit():
            raise wrong(f"frame {cells['frame']!r} is not a frame number", "count from 0, the first frame of the video")
        mask = cells.get("mask", "") if kind == "mask" else ""
        if kind == "mask" and (not mask or not (path.parent / mask).is_file()):
            raise wrong(f"there is no mask {mask!r}" if mask else "no mask is named", f"put the PNG into {path.parent}")
        prompts.append(Prompt(cells["video"], int(cells["frame"]), kind, mask=mask, row=row, **named, **numbers))  # type: ignore[arg-type]
    return prompts


def load_prompts(project: Project, video: Video) -> tuple[Prompt, ...]:
    """The prompts of one video by frame, view and subject.

    Raises:
        FoveateError: a wrong row of this video, or two rows for one subject in one frame.
    """
    path = project.folder / FOLDER / TABLE
    own = _read(project, video) if path.exists() else []
    own.sort(key=lambda prompt: (prompt.frame, prompt.view, prompt.subject))
    for one, other in itertools.pairwise(own):
        if (one.frame, one.view, one.subject) == (other.frame, other.view, other.subject):
            raise FoveateError(
                f"subject {other.subject!r} is prompted twice in frame {other.frame} (also in row {one.row})",
                file=path,
                row=other.row,
                remedy="keep one row",
            )
    return tuple(own)


def stamps(project: Project, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """What of these prompts enters a stamp: the rows, and the contents of the masks."""
    folder = project.folder / FOLDER
    return [p.relevant() | ({"sha256": file_sha256(folder / p.mask)} if p.mask else {}) for p in prompts]


def check(project: Project, prompts: Sequence[Prompt], frames: int, views: Mapping[str, View]) -> None:
    """Compare prompts with the footage.

    Raises:
        FoveateError: a frame beyond the video's end, or a place outside the view; names the row.
    """
    path = project.folder / FOLDER / TABLE
    for prompt in prompts:
        if wrong := _misplaced(prompt, frames, views[prompt.view]):
            problem, where = wrong
            raise FoveateError(problem, file=path, row=prompt.row, remedy=f"{where}; correct the row")
        if prompt.kind == "mask":
            read_mask(project, prompt, views[prompt.view])


def check_pictures(project: Project, video: Video, prompts: Sequence[Prompt]) -> None:
    """See whether something can be pointed at in the prompted frames.

    Raises:
        FoveateError: one cannot be decoded; names the row.
    """
    for frame in sorted({prompt.frame for prompt in prompts if prompt.kind != ABSENT}):
        if problem := _undecodable(project, video, frame):
            row = next(prompt.row for prompt in prompts if prompt.frame == frame)
            raise FoveateError(problem, file=project.folder / FOLDER / TABLE, row=row, remedy=_ELSEWHERE)


_ELSEWHERE = "point at the subject in another frame"


def _undecodable(project: Project, video: Video, frame: int) -> str:
    """Why a frame shows nothing; empty when it does. The footage itself must be there."""
    from foveate.video import opened, read_frames

    try:
        for _ in read_frames(video.path, timeline.load(project, video), np.array([frame], np.int64)):
            return ""
    except FoveateError as error:
        with opened(video.path):
            return f"frame {frame} of video {video.name!r} has no picture to point at: {error.problem}"
    return ""


def _misplaced(prompt: Prompt, frames: int, view: View) -> tuple[str, str] | None:
    """What is wrong with the place of a prompt, and how large the footage is."""
    x, y, w, h = prompt.x, prompt.y, prompt.w, prompt.h
    if prompt.frame >= frames:
        return f"frame {prompt.frame} is beyond the end", f"video {prompt.video!r} has {frames} frames, counted from 0"
    where = f"view {prompt.view!r} is {view.w} x {view.h} pixels"
    if prompt.kind == "point" and not (0 <= x < view.w and 0 <= y < view.h):
        return f"the point {_cell(x)},{_cell(y)} lies outside the view", where
    if prompt.kind == "box":
        inside = max(0.0, min(x + w, view.w) - max(x, 0.0)) * max(0.0, min(y + h, view.h) - max(y, 0.0))
        if inside < 0.5 * w * h:
            return "the box lies outside the view, " + ("more than half of it" if inside else "all of it"), where
    return None


def read_mask(project: Project, prompt: Prompt, view: View) -> Mask:
    """The mask of a ``mask`` prompt as bool[view.h, view.w].

    Raises:
        FoveateError: not a picture, another size than the view, or nothing marked in it.
    """
    from PIL import Image

    path = project.folder / FOLDER / TABLE
    name = f"mask {prompt.mask!r}"
    try:
        with Image.open(project.folder / FOLDER / prompt.mask) as image:
            # The index of a palette counts: 0 is the background in every annotation format that uses one.
            pixels = np.asarray(image if image.mode in ("P", "1", "I;16", "I") else image.convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError):
        raise FoveateError(f"{name} is not a picture", file=path, row=prompt.row, remedy="save it as PNG") from None
    if pixels.shape != (view.h, view.w):
        raise FoveateError(
            f"{name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but view {prompt.view!r} has {view.w} x {view.h}",
            file=path,
            row=prompt.row,
            remedy="draw it on a frame of the view, at full size",
        )
    mask: Mask = pixels > (0 if int(pixels.max()) < 128 else 127)
    if not mask.any():
        raise FoveateError(f"{name} is empty", file=path, row=prompt.row, remedy="mark the subject in white on black")
    return mask
