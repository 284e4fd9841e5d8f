"""Where subjects of a view come so close that a tracker may have taken one for another; in between, everybody is surely somebody.

Works on the rows of a whole video, read part by part; what is kept of a frame is a few numbers per subject, never a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks
from foveate.masks import Mask
from foveate.schema import State

GAP = 0.12  # of the smaller one's width (root of its area): masks with less between them touch
SAME = 0.6  # share of the smaller mask under the other's, from which both are held to lie on one animal
REACH = 1.0  # longer sides of its box, within which a subject that is lost may be behind, or taken for, another
BREATH = 2  # analysed frames apart that two touches may be and still be one meeting

Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """All analysed frames (N) of one view with its subjects (S)."""

    frame: Ints  # [N]
    time: Floats  # [N] seconds
    box: Floats  # [S, N, 4] x, y, w, h; NaN unless seen
    area: Ints  # [S, N] pixels
    sure: Bool  # [S, N] prompted or tracked
    prompted: Bool  # [S, N]
    touch: dict[tuple[int, int], Bool]  # of each pair of subjects [N]: their masks touch
    same: dict[tuple[int, int], Bool]  # likewise: they are mostly the same pixels

    @property
    def seen(self) -> Bool:
        """[S, N]"""
        seen: Bool = ~np.isnan(self.box[..., 0])
        return seen

    @property
    def usual(self) -> Floats:
        """[S] median area, of where it is seen."""
        return np.array([float(np.median(area[area > 0])) if (area > 0).any() else 0.0 for area in self.area])

    @property
    def centre(self) -> Floats:
        """[S, N, 2] centres of the boxes."""
        centre: Floats = self.box[..., :2] + self.box[..., 2:] / 2
        return centre


@dataclass(frozen=True, order=True)
class Meeting:
    """An interval in which the subjects of a group may have changed places."""

    first: int  # position among the analysed frames
    last: int  # inclusive
    group: tuple[int, ...]  # subjects, sorted


@dataclass(frozen=True, order=True)
class Fragment:
    """A stretch of one subject's track in which it can only be one animal; frames ``first`` to ``last``, inclusive, by position."""

    first: int
    last: int
    label: int  # subject whose name the tracker gave it
    anchored: bool  # a person said in it who it is


def read_history(parts: Iterable[pa.Table], view: str, subjects: Sequence[str], height: int, width: int) -> History:
    """The history of one view.

    Args:
        parts: tables of ``schema.TRACK`` in order of time, each with a row for every frame, view and subject.
        view: its name.
        subjects: names; their order numbers them.
        height, width: pixels of the view.
    """
    pairs = list(combinations(range(len(subjects)), 2))
    blocks = [_read_part(part, view, subjects, pairs, height, width) for part in parts]

    def joined(name: str, axis: int = -1) -> NDArray[np.generic]:
        return np.concatenate([getattr(block, name) for block in blocks], axis=axis)

    return History(
        **{name: joined(name) for name in ("frame", "time", "area", "sure", "prompted")},  # type: ignore[arg-type]
        box=joined("box", 1),  # type: ignore[arg-type]
        touch={pair: np.concatenate([block.touch[pair] for block in blocks]) for pair in pairs},
        same={pair: np.concatenate([block.same[pair] for block in blocks]) for pair in pairs},
    )


def _read_part(
    part: pa.Table, view: str, subjects: Sequence[str], pairs: Sequence[tuple[int, int]], height: int, width: int
) -> History:
    import pyarrow.compute as pc

    tables = [part.filter((pc.field("view") == view) & (pc.field("subject") == subject)) for subject in subjects]
    box = np.stack(
        [np.stack([table[name].to_numpy().astype(np.float64) for name in "xywh"], axis=-1) for table in tables]
    ).reshape(len(subjects), -1, 4)
    area = np.stack([table["area"].to_numpy() for table in tables])
    states = np.stack([np.asarray(table["state"].to_pylist(), str) for table in tables])
    runs = [table["rle"] for table in tables]
    touch = {pair: np.zeros(box.shape[1], np.bool_) for pair in pairs}
    same = {pair: np.zeros(box.shape[1], np.bool_) for pair in pairs}
    for one, other in pairs:
        gap = GAP * np.sqrt(np.minimum(area[one], area[other]))
        with np.errstate(invalid="ignore"):  # NaN is never near
            a, b = box[one], box[other]
            apart = np.maximum(b[:, :2] - a[:, :2] - a[:, 2:], a[:, :2] - b[:, :2] - b[:, 2:]).max(axis=1)
            near = apart <= gap
        for i in np.flatnonzero(near):
            pair = [masks.decode(runs[s][int(i)].as_py(), height, width) for s in (one, other)]
            touch[one, other][i], same[one, other][i] = _touching(pair[0], pair[1], float(gap[i]))
    return History(
        tables[0]["frame"].to_numpy(),
        tables[0]["time"].to_numpy(),
        box,
        area,
        np.isin(states, [State.PROMPTED.value, State.TRACKED.value]),
        states == State.PROMPTED.value,
        touch,
        same,
    )


def _touching(one: Mask, other: Mask, gap: float) -> tuple[bool, bool]:
    """Whether two masks lie within ``gap`` pixels of each other, and whether they are mostly the same pixels."""
    from scipy.ndimage import distance_transform_edt

    x, y, w, h = masks.box(one | other) or (0, 0, 1, 1)
    one, other = one[y : y + h, x : x + w], other[y : y + h, x : x + w]
    shared = int((one & other).sum())
    if shared:
        return True, shared > SAME * min(int(one.sum()), int(other.sum()))
    return bool(distance_transform_edt(~one)[other].min() <= gap + 1), False


def meetings(history: History, breaks: Iterable[int] = ()) -> list[Meeting]:
    """Intervals in which subjects may have been exchanged, in order of time; those that share a subject do not overlap.

    A meeting is a touch, short pauses included; a loss while another subject was within reach or lost as well; or, of no length (``last``
    is ``first`` - 1), a person's correction, before which the track may have been on somebody else, and each of the ``breaks``: positions
    of frames from which the picture is another one.
    """
    found: list[Meeting] = []
    for pair, touch in history.touch.items():
        found += [Meeting(first, last, pair) for first, last in _runs(touch, BREATH)]
    found += _losses(history)
    merged = _merged(found)
    everybody = tuple(range(len(history.box)))
    corrections = {int(i) for s in everybody for i in np.flatnonzero(history.prompted[s])[1:]}
    for i in sorted(corrections | set(breaks)):
        if not any(meeting.first <= i <= meeting.last + 1 for meeting in merged):
            merged.append(Meeting(i, i - 1, everybody))
    return sorted(merged)


def _losses(history: History) -> Iterator[Meeting]:
    seen = history.seen
    for s, there in enumerate(seen):
        known = np.flatnonzero(there)
        for first, last in _runs(~there, 0):
            before, after = known[known < first], known[known > last]
            if not len(before) or not len(after):
                continue  # nobody can have come in its place that was not there
            for other in range(len(seen)):
                if other == s:
                    continue
                both = bool((~seen[other, first : last + 1]).any())
                close = any(_within(history, s, int(i), other, (first, last)) for i in (before[-1], after[0]))
                if both or close:
                    yield Meeting(first, last, (min(s, other), max(s, other)))


def _within(history: History, lost: int, at: int, other: int, interval: tuple[int, int]) -> bool:
    """Whether, at either end of a loss, another subject was within reach of where the lost one was seen."""
    x, y, w, h = history.box[lost, at]
    reach = REACH * max(w, h)
    for i in interval:
        a, b, c, d = history.box[other, i]
        apart = max(a - x - w, x - a - c, b - y - h, y - b - d)
        if apart <= reach:  # NaN is not
            return True
    return False


def _runs(flags: Bool, breath: int) -> list[tuple[int, int]]:
    """First and last index of runs of True; pauses of at most ``breath`` do not end one."""
    at = np.flatnonzero(flags)
    if not len(at):
        return []
    ends = np.flatnonzero(np.diff(at) > breath + 1)
    return list(zip(at[np.r_[0, ends + 1]].tolist(), at[np.r_[ends, len(at) - 1]].tolist(), strict=True))


def _merged(found: list[Meeting]) -> list[Meeting]:
    """Meetings that share a subject and overlap, or nearly, become one."""
    done: list[Meeting] = []
    open_: list[Meeting] = []  # that a later one may yet overlap; no two of them share a subject
    for meeting in sorted(found):
        done += [m for m in open_ if m.last + BREATH + 1 < meeting.first]
        open_ = [m for m in open_ if m.last + BREATH + 1 >= meeting.first]
        same = [m for m in open_ if set(m.group) & set(meeting.group)]
        every = [*same, meeting]
        group = tuple(sorted({s for m in every for s in m.group}))
        whole = Meeting(min(m.first for m in every), max(m.last for m in every), group)
        open_ = [*(m for m in open_ if m not in same), whole]
    return sorted(done + open_)


def fragments(history: History, cuts: Sequence[Meeting]) -> list[Fragment]:
    """What lies between meetings, for every subject; where it is empty (it starts in a meeting) there is none."""
    out = []
    n = len(history.frame)
    for label in range(len(history.box)):
        own = [meeting for meeting in cuts if label in meeting.group]
        starts, stops = [0, *(m.last + 1 for m in own)], [*(m.first - 1 for m in own), n - 1]
        for first, last in zip(starts, stops, strict=True):
            if last >= first:
                out.append(Fragment(first, last, label, bool(history.prompted[label, first : last + 1].any())))
    return sorted(out)


def told_absent(history: History, said: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Positions and subjects of the frames in which a person's word is that a subject is not there.

    Args:
        said: frame and subject; it holds until the tracker sees the subject again.
    """
    out: set[tuple[int, int]] = set()
    for frame, subject in said:
        first = int(np.searchsorted(history.frame, frame))
        back = np.flatnonzero(history.seen[subject, first:])
        last = first + int(back[0]) if len(back) else len(history.frame)
        out |= {(i, subject) for i in range(first, last)}
    return out
