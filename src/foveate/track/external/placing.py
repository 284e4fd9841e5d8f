"""From what a file says to rows for the analysed frames: which frame, which view, and what is between.

Frames join by their number, seconds by the timeline (the frame that is shown at that time, or the nearest). In an analysed
frame that the file has, the row is ``tracked``. Between two frames of the file that are at most ``gap`` seconds apart, the box
moves evenly, and the row is ``interpolated``; so is a box that the program filled in itself. Where the file says that an
individual is not in the picture the row is ``absent``, anywhere else ``lost``.

A mask of the file is kept. A box without one gets the ellipse that it encloses: it holds nine tenths of the animal, and leaves
out the corners, which hold mostly background (``benchmarks/box_masks.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foveate import masks
from foveate.exchange.sheet import Box, Sheet, Sighting, Size, refuse
from foveate.masks import Mask
from foveate.schema import State
from foveate.settings import View
from foveate.timeline import Analysed
from foveate.video import Timeline

LATE = 0.5
"""Seconds after the last frame that a time in a file may lie."""


@dataclass(eq=False)
class Trail:
    """One subject in one view, by frame."""

    view: View
    found: dict[
        int, tuple[Sighting, Box, Sheet, bool]
    ]  # frame -> the sighting, its box in the view, its file, coordinates are the view's
    away: list[int]  # frames from which on it is not in the picture, until the next sighting
    held: bool
    gap: float


Trails = dict[tuple[str, str], Trail]
"""By view and subject."""


class Place(NamedTuple):
    """A row to be."""

    frame: int
    state: State
    box: Box | None = None  # in the view
    score: float | None = None
    shape: tuple[Sighting, Box, Sheet, bool] | None = None  # whose mask it takes, where there is one


def place(
    trails: Trails, sheet: Sheet, names: Mapping[str, str], view: str, gap: float, clock: Timeline, views: Mapping[str, View]
) -> None:
    """Add what one file says of some individuals (``names``: individual -> subject) to the trails.

    Raises:
        FoveateError: the file is of a video of another length or size, a box lies outside, a subject stands twice in a frame.
    """
    _check_video(sheet, view, clock, views)
    outside, own = 0, dict[str, dict[str, Trail]]()
    for one in sheet.sightings:
        if one.individual not in names:
            continue
        frame = _frame(sheet, one, clock)
        name, box = _view_of(sheet, one, view, views)
        if name is None:
            outside += 1
            continue
        trail = _trail(trails, name, names[one.individual], views[name], sheet, gap)
        if frame in trail.found:
            other = trail.found[frame]
            also = f" (also in row {other[0].row})" if other[0].row else ""
            who = f"{names[one.individual]!r}" + (f" ({one.individual!r})" if one.individual != names[one.individual] else "")
            where = f"; the other is in {other[2].path.name}" if other[2] is not sheet else also
            raise refuse(sheet.path, f"subject {who} has two boxes in frame {frame}{where}", one.row, "keep one of them")
        trail.found[frame] = one, box, sheet, bool(view)
        own.setdefault(one.individual, {})[name] = trail
    if outside and outside == sum(one.individual in names for one in sheet.sightings):
        raise refuse(sheet.path, "no box lies in any view", remedy="are coordinates those of a view? then add --view")
    for individual, frame in sheet.away:  # from the views that this file shows it in; of others it knows nothing
        for trail in own.get(individual, {}).values():
            trail.away.append(frame)


def _trail(trails: Trails, name: str, subject: str, view: View, sheet: Sheet, gap: float) -> Trail:
    trail = trails.setdefault((name, subject), Trail(view, {}, [], sheet.held, gap))
    trail.held = trail.held and sheet.held
    return trail


def _check_video(sheet: Sheet, view: str, clock: Timeline, views: Mapping[str, View]) -> None:
    size = (views[view].w, views[view].h) if view else (clock.width, clock.height)
    if sheet.size is not None and sheet.size != size:
        what = f"view {view!r}" if view else "the video"
        others = [name for name, v in views.items() if (v.w, v.h) == sheet.size] if not view else []
        remedy = f"add --view {others[0]}" if others else "import the track of this footage at its full size"
        problem = f"its pictures have {sheet.size[0]} x {sheet.size[1]} pixels, but {what} has {size[0]} x {size[1]}"
        raise refuse(sheet.path, problem, remedy=remedy)
    if sheet.frames is not None:
        more = sheet.frames - len(clock)
        slack = max(2, len(clock) // 100)  # programs count the frames of a file differently
        if more > slack or (sheet.whole and -more > slack):
            problem = f"it is of a video with {sheet.frames} frames, but this one has {len(clock)}"
            raise refuse(sheet.path, problem, remedy="is it the track of another video, or of an edited copy?")


def _frame(sheet: Sheet, one: Sighting, clock: Timeline) -> int:
    if one.frame >= 0:
        if one.frame >= len(clock):
            problem = f"frame {one.frame} is beyond the end: the video has {len(clock)} frames, counted from 0"
            raise refuse(sheet.path, problem, one.row, "is it the track of another video?")
        return one.frame
    if one.time > clock.duration + LATE:
        problem = f"{one.time:.3f} s is beyond the end: the video lasts {clock.duration:.3f} s"
        raise refuse(sheet.path, problem, one.row, "is it the track of another video?")
    after = int(np.clip(np.searchsorted(clock.time, one.time), 1, len(clock) - 1)) if len(clock) > 1 else 0
    before = max(0, after - 1)
    return before if one.time - clock.time[before] <= clock.time[after] - one.time else after


def _view_of(sheet: Sheet, one: Sighting, view: str, views: Mapping[str, View]) -> tuple[str | None, Box]:
    """Name of the view and the box in it, cut at its edges; None where its centre is in no view."""
    x, y, w, h = one.box
    if not view and len(views) > 1:
        for name, v in views.items():
            if v.x <= x + w / 2 < v.x + v.w and v.y <= y + h / 2 < v.y + v.h:
                view, x, y = name, x - v.x, y - v.y
                break
        else:
            return None, one.box
    elif not view:
        ((view, v),) = views.items()
        x, y = x - v.x, y - v.y
    v = views[view]
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(v.w)), min(y + h, float(v.h))
    if right - left <= 0 or bottom - top <= 0:
        text = ", ".join(f"{value:g}" for value in one.box)
        problem = f"the box {text} (x, y, width, height) lies outside view {view!r}, which is {v.w} x {v.h}"
        where = f" of {one.individual!r} in frame {one.frame}" if one.frame >= 0 and not one.row else ""
        raise refuse(sheet.path, problem + where, one.row, "is it the track of another video, or of another view?")
    return view, (left, top, right - left, bottom - top)


def placed(trail: Trail | None, analysed: Analysed, clock: Timeline, cuts: Sequence[int] = ()) -> Iterator[Place]:
    """What becomes of every analysed frame; absent in all of them where no file speaks of the subject in that view.

    Args:
        trail: what files say of it.
        analysed: the frames.
        clock: their times.
        cuts: first frames of further shots, sorted: nothing moves evenly across them.
    """
    if trail is None:
        yield from (Place(int(frame), State.ABSENT) for frame in analysed.frame)
        return
    known = np.array(sorted(trail.found), np.int64)
    away = np.array(sorted(trail.away), np.int64)
    for frame in analysed.frame.tolist():
        if (exact := trail.found.get(frame)) is not None:
            state = State.INTERPOLATED if exact[0].filled else State.TRACKED
            yield Place(frame, state, exact[1], _score(exact[0].score), exact)
            continue
        k = int(np.searchsorted(known, frame))
        before, after = (int(known[k - 1]) if k else None), (int(known[k]) if k < len(known) else None)
        first, last = np.searchsorted(away, -1 if before is None else before, "right"), len(away)
        gone = away[first : last if after is None else np.searchsorted(away, after)]
        if len(gone) and gone[0] <= frame:
            yield Place(frame, State.ABSENT)
        elif before is None:
            yield Place(frame, State.LOST)
        elif len(gone) or after is None:
            one = trail.found[before]
            still = trail.held
            yield Place(frame, State.INTERPOLATED, one[1], _score(one[0].score), one) if still else Place(frame, State.LOST)
        else:
            across = np.searchsorted(cuts, before, "right") < np.searchsorted(cuts, after, "right")
            yield _between(trail, before, frame, after, clock, across=bool(across))


def _between(trail: Trail, before: int, frame: int, after: int, clock: Timeline, *, across: bool) -> Place:
    start, now, stop = (float(clock.time[k]) for k in (before, frame, after))
    if not trail.held and (across or stop - start > trail.gap + 1e-6):
        return Place(frame, State.LOST)
    one, other = trail.found[before], trail.found[after]
    share = (now - start) / (stop - start)
    x, y, w, h = (a + share * (b - a) for a, b in zip(one[1], other[1], strict=True))
    score = float(np.fmin(one[0].score, other[0].score))
    return Place(frame, State.INTERPOLATED, (x, y, w, h), _score(score), one if share < 0.5 else other)


def _score(value: float) -> float | None:
    return None if np.isnan(value) else value


def counted(places: Iterator[Place]) -> dict[str, int]:
    """Number of frames in each state."""
    count = Counter(one.state.value for one in places)
    return {state.value: count[state.value] for state in State if count[state.value]}


def drawn(view: View, one: Place) -> tuple[Mask, Box]:
    """Mask bool[h, w] of the view and the box of a row that is seen."""
    assert one.box is not None and one.shape is not None
    sighting, box, sheet, own = one.shape
    if sighting.rle is not None and sheet.size is not None:
        mask = _cut(sighting.rle, sheet.size, view, own)
        tight = masks.box(mask)
        if tight is not None and one.frame == sighting.frame:
            return mask, (float(tight[0]), float(tight[1]), float(tight[2]), float(tight[3]))
        if tight is not None:
            mask = _moved(mask, box, one.box)
            if mask.any():
                return mask, one.box
    return ellipse(view, one.box), one.box


def _cut(rle: bytes, size: Size, view: View, own: bool) -> Mask:
    mask = masks.decode(rle, size[1], size[0])
    return mask if own else np.ascontiguousarray(mask[view.y : view.y + view.h, view.x : view.x + view.w])


def _moved(mask: Mask, source: Box, target: Box) -> Mask:
    """The mask with what is in one box stretched to the other."""
    (x, y, w, h), (a, b, c, d) = source, target
    height, width = mask.shape
    zoom_x, zoom_y = w / c, h / d
    return masks.resample(mask, height, width, (x - a * zoom_x, y - b * zoom_y, width * zoom_x, height * zoom_y))


def ellipse(view: View, box: Box) -> Mask:
    """bool[h, w]: pixels whose centre lies in the ellipse that the box encloses; at least one."""
    x, y, w, h = box
    across = ((np.arange(view.w) + 0.5 - x - w / 2) / (w / 2)) ** 2
    down = ((np.arange(view.h) + 0.5 - y - h / 2) / (h / 2)) ** 2
    mask: Mask = down[:, None] + across[None] <= 1
    if not mask.any():
        mask[min(int(y + h / 2), view.h - 1), min(int(x + w / 2), view.w - 1)] = True
    return mask
