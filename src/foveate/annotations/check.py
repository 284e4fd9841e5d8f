"""From what the files say to labels: names and times checked against the project, overlaps joined, observed time worked out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from foveate.annotations.tables import Covariate, Entry, Kind, Reading, Span, file_name
from foveate.project import VIDEOS, Project, Video
from foveate.schema import FoveateError

SLACK = 1.0
"""Seconds by which an annotation may run over the end of its video: players and containers disagree about where that is."""

Stretch = tuple[float, float]
Key = tuple[str, str, str, str]  # video, subject, behaviour, annotator


@dataclass(frozen=True)
class Bout:
    """A bout that fits the project; the fields of schema.INTERVALS."""

    video: str
    subject: str
    behaviour: str
    start: float
    stop: float
    kind: Kind
    annotator: str
    file: str
    row: int


@dataclass(frozen=True)
class Checked:
    """Bouts, observed stretches by (video, subject, behaviour, annotator), and what the user should hear."""

    bouts: list[Bout] = field(default_factory=list)
    observed: dict[Key, list[Stretch]] = field(default_factory=dict)
    behaviours: tuple[str, ...] = ()
    problems: list[FoveateError] = field(default_factory=list)
    notes: list[FoveateError] = field(default_factory=list)
    covariates: dict[str, dict[str, str]] = field(default_factory=dict)  # video -> name -> value


@dataclass(frozen=True)
class _Looked:
    """A stretch of a video in which somebody looked; behaviour "" is every behaviour."""

    subject: str
    behaviour: str
    annotator: str
    stretch: Stretch


def check(
    project: Project, readings: Sequence[tuple[Path, Reading]], restriction: Reading | None, duration: Callable[[Video], float]
) -> Checked:
    """Join what all files say.

    ``restriction`` is ``annotations/observed.csv``: for the subjects it names, it alone says what was observed. ``duration`` gives the
    seconds of a video and raises FoveateError for a video that cannot be read, which is then one problem and costs its labels only.
    """
    out = Checked()
    length = _Lengths(duration, out.problems)
    bouts: list[Bout] = []
    looked: dict[str, list[_Looked]] = {}
    refused: list[tuple[str, str, str, float]] = []  # video, subject, behaviour, from when
    for path, reading in readings:
        relative = _relative(path, project)
        out.problems.extend(reading.problems)
        out.notes.extend(reading.notes)
        refused += [
            (d.video.name, subject, d.behaviour, d.since) for d in reading.doubts if (subject := _subject(d.video, d.subject))
        ]
        for span in reading.spans:
            if (subject := _subject(span.video, span.subject)) and length(span.video) is not None:
                looked.setdefault(span.video.name, []).append(_look(span, subject, span.behaviour))
        for entry in reading.entries:
            if length(entry.video) is None:
                continue
            try:
                bout = _fit(project, entry, length(entry.video) or 0.0, relative)
            except FoveateError as error:
                out.problems.append(FoveateError(error.problem, file=path, row=entry.row, remedy=error.remedy))
                if subject := _subject(entry.video, entry.subject):
                    since = entry.start if 0 <= entry.start < entry.stop else 0.0
                    refused.append((entry.video.name, subject, entry.behaviour, since))
                continue
            if bout is not None:
                bouts.append(bout)
    _covary(readings, out)
    out.bouts.extend(_joined(bouts, project, out.notes))
    listed = project.config.behaviours
    behaviours = listed or _by_duration(out.bouts)
    _behaviour_notes(listed, behaviours, out)
    named: set[tuple[str, str]] = set()
    if restriction is not None:
        out.problems.extend(restriction.problems)
        named = _restrict(project, restriction, behaviours, looked, length, out.problems)
    _observe(project, out, behaviours, looked, refused, named, length)
    order = {video.name: k for k, video in enumerate(project.videos)}
    out.bouts.sort(key=lambda b: (order[b.video], b.subject, b.behaviour, b.start, b.stop, b.annotator, b.file, b.row))
    observed = sorted(out.observed.items(), key=lambda item: (order[item[0][0]], *item[0][1:]))
    return replace(
        out,
        observed={key: stretches for key, stretches in observed if stretches},
        behaviours=tuple(behaviours),
        problems=grouped(out.problems),
        notes=grouped(out.notes),
    )


def _covary(readings: Sequence[tuple[Path, Reading]], out: Checked) -> None:
    """Covariates by video; one that two files tell differently is told of and left out."""
    first: dict[tuple[str, str], tuple[Path, Covariate]] = {}
    torn: set[tuple[str, str]] = set()
    for path, reading in readings:
        for told in reading.covariates:
            key = (told.video.name, told.name)
            where, before = first.setdefault(key, (path, told))
            if before.value != told.value and key not in torn:
                torn.add(key)
                out.notes.append(
                    FoveateError(
                        f"{told.name!r} of video {told.video.name!r} is {told.value!r} here and {before.value!r} in {where.name}, row "
                        f"{before.row}, so it is not used as a covariate",
                        file=path,
                        row=told.row,
                        remedy="correct one of them, or give the column in videos.csv",
                    )
                )
    for key, (_, told) in sorted(first.items()):
        if key not in torn:
            out.covariates.setdefault(told.video.name, {})[told.name] = told.value


def _observe(
    project: Project,
    out: Checked,
    behaviours: Sequence[str],
    looked: dict[str, list[_Looked]],
    refused: Sequence[tuple[str, str, str, float]],
    named: set[tuple[str, str]],
    length: _Lengths,
) -> None:
    """Fill ``out.observed``: what was looked at, within the video, less what refused rows leave open (not where observed.csv rules)."""
    for video, spans in looked.items():
        ends = (0.0, length(project.video(video)) or 0.0)
        for looked_at in spans:
            a, b = max(looked_at.stretch[0], ends[0]), min(looked_at.stretch[1], ends[1])
            for behaviour in (looked_at.behaviour,) if looked_at.behaviour else behaviours:
                key = (video, looked_at.subject, behaviour, looked_at.annotator)
                if a <= b and behaviour in behaviours:
                    out.observed.setdefault(key, []).append((a, b))
    good: dict[Key, list[Stretch]] = {}
    for bout in out.bouts:
        good.setdefault((bout.video, bout.subject, bout.behaviour, bout.annotator), []).append((bout.start, bout.stop))
    for key, stretches in list(out.observed.items()):
        since = min((t for *triple, t in refused if tuple(triple) == key[:3]), default=math.inf)
        base = union(stretches)
        if key[:2] not in named and since < math.inf:
            # A refused row may have spoken of any time from then on: only what was annotated there stays observed.
            sure = [(max(a, since), b) for a, b in good.get(key, []) if b >= since]
            base = union([*_before(base, since), *_common(union(sure), base)])
        out.observed[key] = base


class _Lengths:
    """Durations, asked once per video; a video that cannot be read is one problem."""

    def __init__(self, duration: Callable[[Video], float], problems: list[FoveateError]) -> None:
        self._duration, self._problems = duration, problems
        self._known: dict[str, float | None] = {}

    def __call__(self, video: Video) -> float | None:
        if video.name not in self._known:
            try:
                self._known[video.name] = self._duration(video)
            except FoveateError as error:
                self._known[video.name] = None
                problem = f"the annotations of video {video.name!r} are left out: {error.problem}"
                self._problems.append(FoveateError(problem, file=error.file, row=error.row, remedy=error.remedy))
        return self._known[video.name]


def _look(span: Span, subject: str, behaviour: str) -> _Looked:
    return _Looked(subject, behaviour, span.annotator, (span.start, span.stop))


def _subject(video: Video, name: str) -> str | None:
    """The subject of ``video`` that is meant: the only one if none is named; letter case is forgiven; None if there is no such."""
    if not name:
        return video.subjects[0] if len(video.subjects) == 1 else None
    if name in video.subjects:
        return name
    found = [subject for subject in video.subjects if subject.casefold() == name.casefold()]
    return found[0] if len(found) == 1 else None


def _check_subject(video: Video, name: str) -> str:
    subject = _subject(video, name)
    if subject is not None:
        return subject
    known = ", ".join(video.subjects)
    if not name:
        raise FoveateError(
            f"no subject is named, and video {video.name!r} has several: {known}", remedy="name one of them in column subject"
        )
    near = difflib.get_close_matches(name, video.subjects, 2)
    raise FoveateError(
        f"subject {name!r} is not in video {video.name!r}, which has: {known}",
        remedy=("did you mean " + " or ".join(near) + "? " if near else "")
        + f"correct it, or write it in column subjects of {VIDEOS}, row {video.row}",
    )


def _check_behaviour(project: Project, name: str) -> str:
    listed = project.config.behaviours
    if not name:
        raise FoveateError("no behaviour is named", remedy="name it in column behaviour")
    if listed and name not in listed:
        near = difflib.get_close_matches(name, listed, 3)
        raise FoveateError(
            f"behaviour {name!r} is not in foveate.yaml, which lists: {', '.join(listed)}",
            remedy=("did you mean " + " or ".join(near) + "? " if near else "")
            + "correct it, or add it to behaviours in foveate.yaml",
        )
    return name


def _fit(project: Project, entry: Entry, length: float, file: str) -> Bout | None:
    """The entry as a bout within its video; None for a sliver of a state behind the end, which nothing shows."""
    subject = _check_subject(entry.video, entry.subject)
    behaviour = _check_behaviour(project, entry.behaviour)
    start, stop = entry.start, entry.stop
    if start < 0:
        raise FoveateError(
            f"start {start:g} s is before the first frame", remedy="times count from the first frame; check the time offset"
        )
    if stop < start:
        raise FoveateError(f"stop {stop:g} s is before start {start:g} s", remedy="swap or correct them")
    if start >= length + SLACK:
        raise FoveateError(
            f"start {start:g} s is behind the end of video {entry.video.name!r}, at {length:.3f} s",
            remedy="check that this is the right video, and that times count from its first frame",
        )
    if stop >= length + SLACK:
        raise FoveateError(
            f"stop {stop:g} s is behind the end of video {entry.video.name!r}, at {length:.3f} s",
            remedy="correct the stop, or check that this is the right video",
        )
    if entry.kind == "point":
        start = stop = min(start, math.nextafter(length, 0.0))
    elif start >= length:
        return None
    stop = min(stop, length)
    return Bout(entry.video.name, subject, behaviour, start, stop, entry.kind, entry.annotator, file, entry.row)


def _joined(bouts: Iterable[Bout], project: Project, notes: list[FoveateError]) -> list[Bout]:
    """Bouts of one video, subject, behaviour and annotator that overlap become one, with a note; repeated points become one."""
    groups: dict[tuple[Key, Kind], list[Bout]] = {}
    for bout in bouts:
        groups.setdefault(((bout.video, bout.subject, bout.behaviour, bout.annotator), bout.kind), []).append(bout)
    out: list[Bout] = []
    for (key, kind), group in groups.items():
        group.sort(key=lambda b: (b.start, b.stop, b.file, b.row))
        kept: list[Bout] = []
        overlaps = []
        for bout in group:
            last = kept[-1] if kept else None
            if last is None or bout.start > last.stop or (kind == "state" and bout.start == last.stop):
                kept.append(bout)
                continue
            overlaps.append(bout)
            kept[-1] = replace(last, stop=max(last.stop, bout.stop))
        out += kept
        if overlaps:
            files = sorted({bout.file for bout in group})
            notes.append(
                FoveateError(
                    f"{len(overlaps)} overlapping or repeated bouts of {key[2]!r} of {key[1]!r} in video {key[0]!r} were joined",
                    file=project.folder / overlaps[0].file,
                    row=overlaps[0].row,
                    remedy=f"nothing to do if meant; files: {', '.join(files)}" if len(files) > 1 else None,
                )
            )
    return out


def _by_duration(bouts: Iterable[Bout]) -> tuple[str, ...]:
    totals: dict[str, list[float]] = {}
    for bout in bouts:
        totals.setdefault(bout.behaviour, []).append(bout.stop - bout.start)
    return tuple(sorted(totals, key=lambda name: (-math.fsum(totals[name]), name)))


def _behaviour_notes(listed: Sequence[str], behaviours: Sequence[str], out: Checked) -> None:
    met = {bout.behaviour for bout in out.bouts}
    for name in listed:
        if name not in met:
            out.notes.append(
                FoveateError(f"behaviour {name!r} of foveate.yaml is never annotated", remedy="annotate some, or remove it")
            )
    spellings: dict[str, list[str]] = {}
    for name in behaviours:
        spellings.setdefault(name.casefold(), []).append(name)
    for same in spellings.values():
        if len(same) > 1:
            out.notes.append(
                FoveateError(
                    f"{' and '.join(map(repr, same))} differ in letter case only and count as different behaviours",
                    remedy="if they are one, correct the annotations, or list behaviours in foveate.yaml to find the rows",
                )
            )


def _restrict(
    project: Project,
    restriction: Reading,
    behaviours: Sequence[str],
    looked: dict[str, list[_Looked]],
    length: _Lengths,
    problems: list[FoveateError],
) -> set[tuple[str, str]]:
    """Replace what was looked at by what observed.csv says, for the (video, subject) pairs it names; returns these."""
    file = project.folder / OBSERVED_FILE
    named: set[tuple[str, str]] = set()
    said: dict[str, list[_Looked]] = {}
    for doubt in restriction.doubts:
        named |= {(doubt.video.name, s) for s in doubt.video.subjects if not doubt.subject or s == doubt.subject}
    for span in restriction.spans:
        end = length(span.video)
        if end is None:
            continue
        try:
            subjects = (_check_subject(span.video, span.subject),) if span.subject else span.video.subjects
            if span.behaviour and span.behaviour not in behaviours:
                _check_behaviour(project, span.behaviour)
                raise FoveateError(f"behaviour {span.behaviour!r} is never annotated", remedy="correct it, or remove the row")
            if span.start >= end or end + SLACK <= span.stop < math.inf:
                raise FoveateError(
                    f"it reaches behind the end of video {span.video.name!r}, at {end:.3f} s",
                    remedy="leave stop empty for the end",
                )
        except FoveateError as error:
            problems.append(FoveateError(error.problem, file=file, row=span.row, remedy=error.remedy))
            subjects = span.video.subjects if not span.subject else (_subject(span.video, span.subject) or "",)
            named |= {(span.video.name, subject) for subject in subjects}
            continue
        for subject in subjects:
            named.add((span.video.name, subject))
            said.setdefault(span.video.name, []).append(_look(span, subject, span.behaviour))
    for video in {*looked, *said}:
        kept = [spoken for spoken in looked.get(video, []) if (video, spoken.subject) not in named]
        looked[video] = kept + said.get(video, [])
    return named


OBSERVED_FILE = "annotations/observed.csv"


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Sorted, disjoint stretches that cover the same time; those that touch are joined."""
    out: list[Stretch] = []
    for a, b in sorted(stretches):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], b))
        else:
            out.append((a, b))
    return out


def _before(stretches: Iterable[Stretch], limit: float) -> list[Stretch]:
    return [(a, min(b, limit)) for a, b in stretches if a < limit]


def _common(some: Iterable[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    return [(max(a, c), min(b, d)) for a, b in some for c, d in others if max(a, c) <= min(b, d)]


def grouped(problems: Iterable[FoveateError]) -> list[FoveateError]:
    """One entry for the same problem in many rows of a file: the first row, and the others in words."""
    rows: dict[tuple[str, str, str | None], list[int | None]] = {}
    for p in problems:
        rows.setdefault((p.problem, str(p.file), p.remedy), []).append(p.row)
    first: dict[tuple[str, str, str | None], FoveateError] = {}
    for p in problems:
        first.setdefault((p.problem, str(p.file), p.remedy), p)
    out = []
    for key, error in first.items():
        more = [row for row in dict.fromkeys(rows[key]) if row is not None][1:]
        listed = ", ".join(map(str, more[:8])) + (f" and {len(more) - 8} more" if len(more) > 8 else "")
        problem = error.problem + (f" (also in row{'s' if len(more) > 1 else ''} {listed})" if more else "")
        out.append(FoveateError(problem, file=error.file, row=error.row, remedy=error.remedy))
    return out


def _relative(path: Path, project: Project) -> str:
    return path.relative_to(project.folder).as_posix() if path.is_relative_to(project.folder) else file_name(str(path))
