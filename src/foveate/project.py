"""A project folder: ``foveate.yaml``, ``videos.csv``, ``subjects.csv``, read once, checked once, here.

What can be set is in ``settings.py``. Wrong input is reported with file, row and remedy. What is wrong with a *video* (missing, empty,
unreadable) is not found here but by the stage that opens it, so that one bad file never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from foveate.schema import PROJECT_FORMAT, FoveateError, check_name
from foveate.settings import CONFIG, Config, Settings
from foveate.spreadsheet import read_csv

VIDEOS, SUBJECTS = "videos.csv", "subjects.csv"


@dataclass(frozen=True)
class Video:
    """One row of ``videos.csv``."""

    name: str
    path: Path
    row: int  # row in videos.csv; the header is row 1
    session: str = ""
    split: Literal["", "train", "test"] = ""
    group: str = ""
    subjects: tuple[str, ...] = ()
    covariates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """A checked project. Paths of artefacts are properties, so that there is one place that knows the layout."""

    folder: Path
    config: Config
    videos: tuple[Video, ...]
    subjects: Mapping[str, Mapping[str, str]]  # subject -> covariates of subjects.csv

    @classmethod
    def load(cls, folder: str | Path) -> Project:
        """Read and check a project folder.

        Raises:
            FoveateError: with file, row and remedy, when a file is missing or wrong.
        """
        folder = Path(folder).absolute()
        config = load_config(folder / CONFIG)
        subjects = _load_subjects(folder / SUBJECTS)
        return cls(folder, config, _load_videos(folder, config, subjects), subjects)

    def video(self, name: str) -> Video:
        """The video of that name, or a FoveateError listing near names."""
        try:
            return self._by_name[name]
        except KeyError:
            import difflib

            near = difflib.get_close_matches(name, list(self._by_name), 3)
            raise FoveateError(
                f"there is no video {name!r}",
                file=self.folder / VIDEOS,
                remedy="did you mean " + " or ".join(near) + "?" if near else "`foveate status` lists the videos",
            ) from None

    @cached_property
    def _by_name(self) -> dict[str, Video]:
        return {video.name: video for video in self.videos}

    def stage_folder(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)


def load_config(path: Path) -> Config:
    """Read ``foveate.yaml``; every complaint names the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FoveateError(
            "no such file, so this is not a foveate project", file=path, remedy="run `foveate init FOLDER --footage FOLDER`"
        ) from None
    except UnicodeDecodeError:
        raise FoveateError("not UTF-8 text", file=path, remedy="save the file as UTF-8") from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise FoveateError(
            f"not valid YAML ({getattr(error, 'problem', None) or 'unreadable'})",
            file=path,
            row=mark.line + 1 if mark else None,
            remedy="check indentation, colons and quotes near this line",
        ) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise FoveateError("expected `key: value` lines", file=path, row=1, remedy="compare with `foveate init`")
    version = values.get("foveate", PROJECT_FORMAT)
    if isinstance(version, int) and version > PROJECT_FORMAT:
        raise FoveateError(
            f"this project has format {version}, this foveate reads up to {PROJECT_FORMAT}",
            file=path,
            row=_line(tree, ("foveate",)),
            remedy="install a newer foveate",
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = tuple(first["loc"])
        key = ".".join(map(str, where))
        unknown = first["type"] == "extra_forbidden"
        raise FoveateError(
            f"{key}: unknown setting" if unknown else f"{key}: {first['msg'].removeprefix('Value error, ')}",
            file=path,
            row=_line(tree, where),
            remedy=_near_setting(where) if unknown else f"got {first['input']!r}",
        ) from None


def _near_setting(where: tuple[Any, ...]) -> str:
    import difflib

    section: Any = Config
    if where[0] == "baselines":  # each of them takes the settings of `probe`
        where = ("probe", *where[2:])
    for key in where[:-1]:
        kind = section.model_fields.get(key)
        section = kind.annotation if kind else None
        if not (isinstance(section, type) and issubclass(section, Settings)):
            return "remove it"
    near = difflib.get_close_matches(str(where[-1]), list(section.model_fields), 1)
    return f"did you mean {near[0]!r}?" if near else "remove it; known: " + ", ".join(section.model_fields)


def _line(node: yaml.Node | None, where: tuple[Any, ...]) -> int | None:
    """Line (from 1) of the deepest part of ``where`` that the file holds."""
    line = None
    for key in where:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _load_subjects(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    subjects: dict[str, dict[str, str]] = {}
    for row, cells in read_csv(path, ("subject",)):
        name = check_name(cells.pop("subject"), "subject", file=path, row=row)
        if name in subjects:
            raise FoveateError(f"subject {name!r} stands twice", file=path, row=row, remedy="keep one row per subject")
        subjects[name] = cells
    return subjects


_VIDEO_COLUMNS = ("video", "path", "session", "split", "group", "subjects")


def _load_videos(folder: Path, config: Config, subjects: Mapping[str, Any]) -> tuple[Video, ...]:
    path = folder / VIDEOS
    footage = folder / Path(config.footage).expanduser()
    videos: dict[str, Video] = {}
    files: dict[Path, str] = {}
    for row, cells in read_csv(path, ("video", "path")):
        name = check_name(cells["video"], "video", file=path, row=row)
        if name in videos:
            raise FoveateError(
                f"video {name!r} stands twice (first in row {videos[name].row})", file=path, row=row, remedy="names must differ"
            )
        if not cells["path"]:
            raise FoveateError("the path is empty", file=path, row=row, remedy="name the video file")
        file = footage / Path(cells["path"]).expanduser()
        if (same := files.setdefault(file, name)) != name:
            raise FoveateError(
                f"{cells['path']} stands twice (first in row {videos[same].row}, as {same!r})",
                file=path,
                row=row,
                remedy="keep one row for a file; several animals in it are listed in column subjects, with ; between them",
            )
        split = cells.get("split", "")
        if split not in ("", "train", "test"):
            raise FoveateError(f"split {split!r} is not train, test or empty", file=path, row=row, remedy="correct it")
        listed = tuple(s.strip() for s in cells.get("subjects", "").split(";") if s.strip())
        for subject in listed:
            check_name(subject, "subject", file=path, row=row)
            if subjects and subject not in subjects:
                raise FoveateError(
                    f"subject {subject!r} is not in {SUBJECTS}",
                    file=path,
                    row=row,
                    remedy=f"add it to {SUBJECTS}, or correct it",
                )
        if len(set(listed)) < len(listed):
            raise FoveateError("a subject is listed twice", file=path, row=row, remedy="list each subject once")
        videos[name] = Video(
            name=name,
            path=file,
            row=row,
            session=cells.get("session", ""),
            split=split,  # type: ignore[arg-type]
            group=cells.get("group", ""),
            subjects=listed or (name,),  # an animal that nobody named is taken as seen in this video only
            covariates={k: v for k, v in cells.items() if k not in _VIDEO_COLUMNS},
        )
    return tuple(videos.values())
