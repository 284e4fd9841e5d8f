"""Tracks that another program made: ``imports/imports.csv`` and the files beside it, in ``imports/<video>/``.

A row says which individual of which file is which subject of which video. ``view`` is empty where coordinates count in the
whole picture: a box then belongs to the view that holds its centre. ``gap`` is how many seconds between two frames of the file
are filled in. Files are copied as they are; ``sha256`` is the content that was checked, and enters the stamp of the track.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foveate import timeline
from foveate.exchange.sheet import Sheet, refuse, stem
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.store import file_sha256, remembered, write_aside, write_text
from foveate.track.external.placing import Trails, counted, place, placed

FOLDER, TABLE = "imports", "imports.csv"
GAP = 1.0
"""Seconds between two frames of a file that are filled in, where nothing else is said."""


@dataclass(frozen=True)
class Import:
    """One row of the table."""

    video: str
    view: str  # "" = coordinates of the whole picture
    subject: str
    individual: str  # its name in the file
    file: str  # relative to the folder
    gap: float
    sha256: str
    row: int = 0  # in the table


_COLUMNS = tuple(field.name for field in fields(Import))[:-1]


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    video: str
    program: str
    rows: list[tuple[str, str, dict[str, int]]]  # view, subject, analysed frames by state
    notes: list[str]


@remembered
def _rows(path: Path) -> dict[str, list[Import]]:
    """By video, in the order of the table."""
    out: dict[str, list[Import]] = {}
    for row, cells in read_csv(path, _COLUMNS) if path.exists() else []:
        try:
            gap = float(cells["gap"] or GAP)
            if not gap >= 0:
                raise ValueError
        except ValueError:
            raise FoveateError(
                f"gap {cells['gap']!r} is no length of time", file=path, row=row, remedy="give seconds, 0 or more"
            ) from None
        texts = {name: cells[name] for name in ("video", "view", "subject", "individual", "file", "sha256")}
        out.setdefault(cells["video"], []).append(Import(**texts, gap=gap, row=row))
    return out


def load_imports(project: Project, video: Video) -> list[Import]:
    """The rows of one video; none where its track is ours to make.

    Raises:
        FoveateError: a wrong row of this video.
    """
    path = project.folder / FOLDER / TABLE
    own = _rows(path).get(video.name, [])
    for one in own:
        what, name, names = ("subject", one.subject, video.subjects)
        if name in names and one.view and one.view not in _views(project):
            what, name, names = ("view", one.view, _views(project))
        if name not in names:
            problem = f"there is no {what} {name!r} for video {video.name!r}"
            remedy = f"write one of {', '.join(names)}, or `foveate import --remove --video {video.name}`"
            raise FoveateError(problem, file=path, row=one.row, remedy=remedy)
    return own


def _views(project: Project) -> tuple[str, ...]:
    return tuple(project.config.views) or ("full",)


def settings_of(imports: Sequence[Import]) -> dict[str, Any]:
    """What of them enters a stamp."""
    names = ("view", "subject", "individual", "gap", "sha256")
    rows = sorted(([getattr(one, name) for name in names] for one in imports), key=str)
    return {"method": "imported", "rows": rows}


def strangers(project: Project) -> list[FoveateError]:
    """One error for each row whose video is not in videos.csv; such rows stop nobody."""
    path = project.folder / FOLDER / TABLE
    known = {video.name for video in project.videos}
    try:
        rows = [one for own in _rows(path).values() for one in own]
    except FoveateError as error:
        return [error]
    problem, remedy = "there is no video {!r} in videos.csv", "correct the name, or remove the row"
    return [
        FoveateError(problem.format(one.video), file=path, row=one.row, remedy=remedy) for one in rows if one.video not in known
    ]


def read_imports(project: Project, video: Video, imports: Sequence[Import]) -> tuple[Trails, list[Sheet]]:
    """Where the files say that each subject is, and the files.

    Raises:
        FoveateError: a file is missing, changed since it was imported, damaged, or does not fit the video.
    """
    folder = project.folder / FOLDER
    sheets: dict[str, Sheet] = {}
    for one in imports:
        path = folder / one.file
        if not path.is_file():
            remedy = f"import it again, or `foveate import --remove --video {video.name}`"
            raise FoveateError("no such file", file=path, remedy=remedy)
        if one.file not in sheets:
            if file_sha256(path) != one.sha256:
                raise FoveateError("the file was changed after it was imported", file=path, remedy="import it again")
            sheets[one.file] = _read(path, lambda name: _is(video, name))
    clock, views = timeline.load(project, video), timeline.views(project, video)
    trails: Trails = {}
    for file, sheet in sheets.items():
        for view in dict.fromkeys(one.view for one in imports if one.file == file):
            names: dict[str, str] = {}
            own = [one for one in imports if one.file == file and one.view == view]
            for one in own:
                names[one.individual] = one.subject
            place(trails, sheet, names, view, own[0].gap, clock, views)
    return trails, list(sheets.values())


def _read(path: Path, own: Callable[[str], bool]) -> Sheet:
    from foveate.exchange.formats import read

    return read(path, own)


def add_import(
    project: Project, files: Sequence[Path], video: str = "", view: str = "", subjects: Sequence[str] = (), gap: float = GAP
) -> Imported:
    """Take over the tracks of one video from files of another program.

    What the same subjects had in the same views from earlier files is replaced. Everything is read and compared
    with the footage before anything is stored; the files themselves are only read.

    Args:
        files: one file, or several that belong together (OCTRON writes one per track).
        video: its name; may be left out where the file names it, is named after it, or there is one only.
        view: that coordinates count in; "" for the whole picture.
        subjects: ``NAME`` for a file of one individual, ``INDIVIDUAL=NAME`` for each that is wanted of several.
        gap: seconds between two frames of the files that are filled in.

    Raises:
        FoveateError: a file cannot be read or does not fit the video; nothing is stored then.
    """
    if not files:
        raise FoveateError("no file is named", remedy="foveate import FILE [--video NAME]")
    if view and view not in _views(project):
        raise FoveateError(f"there is no view {view!r}", remedy=f"views: {', '.join(_views(project))}")
    if not gap >= 0:
        raise FoveateError(f"--gap {gap:g} is no length of time", remedy="give seconds, 0 or more")
    known = list(project.videos)
    wanted = [project.video(video)] if video else known
    sheets = [_read(path, lambda name: any(_is(one, name) for one in wanted)) for path in files]
    chosen = project.video(video) if video else _find(project, sheets)
    _of_another(project, chosen, sheets)
    timeline.run(project, chosen)
    rows, notes = _assign(project, chosen, sheets, view, subjects, gap)
    earlier = load_imports(project, chosen) if (project.folder / FOLDER / TABLE).exists() else []
    clock, views = timeline.load(project, chosen), timeline.views(project, chosen)
    trails: Trails = {}
    for sheet in sheets:
        names = {one.individual: one.subject for one in rows if one.file == str(sheet.path)}
        place(trails, sheet, names, view, gap, clock, views)
    kept = [one for one in earlier if not _places(project, chosen, one) & trails.keys()]
    trails |= read_imports(project, chosen, kept)[0]
    stored = _store(project, chosen, rows, kept)
    _write(project, {chosen.name: stored})
    analysed = timeline.analysed(project, chosen)
    counts = [
        (name, subject, counted(placed(trails.get((name, subject)), analysed, clock)))
        for name in views
        for subject in chosen.subjects
    ]
    return Imported(chosen.name, ", ".join(dict.fromkeys(sheet.program for sheet in sheets)), counts, notes)


def remove_imports(project: Project, videos: Sequence[str]) -> list[str]:
    """Forget the imported tracks of these videos; the next run makes them itself again.

    Returns:
        the videos that had some.

    Raises:
        FoveateError: no video is named, or one that nobody knows.
    """
    if not videos:
        raise FoveateError("say whose imported track is to go", remedy="foveate import --remove --video NAME")
    rows = _rows(project.folder / FOLDER / TABLE)
    found = [name for name in videos if name in rows or not project.video(name)]
    _write(project, {name: [] for name in found})
    for name in found:
        shutil.rmtree(project.folder / FOLDER / name, ignore_errors=True)
    return found


def _is(video: Video, name: str) -> bool:
    return bool(name) and stem(name).casefold() in (video.name.casefold(), video.path.stem.casefold())


def _find(project: Project, sheets: Sequence[Sheet]) -> Video:
    """The video that the files name, else the one that all are named after, else the only one."""
    named = {v.name for v in project.videos for sheet in sheets if any(_is(v, name) for name in sheet.videos)}
    if not named:
        files = [sheet.path.name.casefold() for sheet in sheets]
        lengths = {video.name: max(_begins(files, video.name), _begins(files, video.path.stem)) for video in project.videos}
        longest = max(lengths.values())
        named = {name for name, length in lengths.items() if length == longest > 0}
    if not named and len(project.videos) == 1:
        return project.videos[0]
    if len(named) != 1:
        problem = (
            "the file does not say of which video it is"
            if not named
            else f"several videos can be meant: {', '.join(sorted(named))}"
        )
        raise refuse(sheets[0].path, problem, remedy="add --video NAME")
    return project.video(named.pop())


def _places(project: Project, video: Video, one: Import) -> set[tuple[str, str]]:
    """Views and subjects that a row has boxes for; all views of its subject where its file can no longer be used."""
    try:
        return set(read_imports(project, video, [one])[0])
    except FoveateError:
        return {(view, one.subject) for view in _views(project)}


def _begins(files: Sequence[str], name: str) -> int:
    """Length of the name if all files are called after it, else 0."""
    return len(name) if all(file.startswith(name.casefold()) for file in files) else 0


def _of_another(project: Project, video: Video, sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        others = [v.name for v in project.videos if v != video and any(_is(v, name) for name in sheet.videos)]
        if others and not any(_is(video, name) for name in sheet.videos):
            raise refuse(
                sheet.path, f"the file is of video {others[0]!r}, not of {video.name!r}", remedy=f"--video {others[0]}"
            )


def _assign(
    project: Project, video: Video, sheets: Sequence[Sheet], view: str, subjects: Sequence[str], gap: float
) -> tuple[list[Import], list[str]]:
    """One row for each individual that is wanted; ``file`` is the whole path until it is stored."""
    found = [(sheet, name) for sheet in sheets for name in sheet.individuals]
    names = list(dict.fromkeys(name for _, name in found))
    given: dict[str, str] = {}
    for text in subjects:
        individual, equals, subject = text.rpartition("=")
        if not equals and len(names) > 1 and text not in names:
            raise _choose(sheets[0].path, names, video)
        individual = individual if equals else text if text in names and len(names) > 1 else names[0]
        if individual not in names:
            raise refuse(sheets[0].path, f"there is no individual {individual!r} in the file", remedy=f"it has {_some(names)}")
        if subject not in video.subjects:
            where = f"{project.folder / 'videos.csv'}, row {video.row}"
            raise FoveateError(
                f"video {video.name!r} has no subject {subject!r}",
                file=sheets[0].path,
                remedy=f"its subjects are {', '.join(video.subjects)} ({where})",
            )
        given[individual] = subject
    if not given:
        given = {name: name for name in names if name in video.subjects}
        if len(names) == 1 and len(video.subjects) == 1 and not given:
            if others := [other.name for other in project.videos if names[0] in other.subjects]:
                problem = f"it is the track of {names[0]!r}, a subject of {others[0]!r}, and {video.name!r} shows {video.subjects[0]!r}"
                raise refuse(sheets[0].path, problem, remedy=f"if it is right: --subject {names[0]!r}={video.subjects[0]}")
            given = {names[0]: video.subjects[0]}
        if len(given) < len(names):
            raise _choose(sheets[0].path, names, video)
    rows = [
        Import(video.name, view, given[name], name, str(sheet.path), gap, file_sha256(sheet.path))
        for sheet, name in found
        if name in given
    ]
    left = [name for name in names if name not in given]
    notes = [f"left out: {_some(left)}"] if left else []
    return rows, notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _choose(path: Path, names: Sequence[str], video: Video) -> FoveateError:
    unknown = [name for name in names if name not in video.subjects]
    example = " ".join(
        f"--subject {name!r}={video.subjects[min(k, len(video.subjects) - 1)]}" for k, name in enumerate(unknown[:2])
    )
    return refuse(
        path,
        f"{_some(unknown)}: not among the subjects of video {video.name!r} ({', '.join(video.subjects)})",
        remedy=f"say who is who, for example {example}; who is not mentioned is left out, several may be one subject",
    )


def _store(project: Project, video: Video, rows: Sequence[Import], kept: Sequence[Import]) -> list[Import]:
    """Copy the files into the project, and name the copies in the rows."""
    folder = project.folder / FOLDER
    out, copies = list(kept), dict[str, str]()
    for one in rows:
        if one.file not in copies:
            source = Path(one.file)
            name = f"{video.name}/{source.name}"
            target = folder / name
            if any(other.file == name and other.sha256 != one.sha256 for other in out):
                target = target.with_name(f"{source.stem}-{one.sha256[:8]}{source.suffix}")
            if not (target.exists() and file_sha256(target) == one.sha256):
                with write_aside(target) as aside:
                    shutil.copyfile(source, aside)
            copies[one.file] = target.relative_to(folder).as_posix()
        out.append(Import(one.video, one.view, one.subject, one.individual, copies[one.file], one.gap, one.sha256))
    used = {one.file for one in out}
    for path in (folder / video.name).iterdir():
        if path.relative_to(folder).as_posix() not in used:
            path.unlink()
    return out


def _write(project: Project, changed: Mapping[str, Sequence[Import]]) -> None:
    path = project.folder / FOLDER / TABLE
    rows = {**_rows(path), **changed}
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in (one for own in rows.values() for one in own):
        writer.writerow([f"{one.gap:g}" if name == "gap" else getattr(one, name) for name in _COLUMNS])
    write_text(path, out.getvalue())
