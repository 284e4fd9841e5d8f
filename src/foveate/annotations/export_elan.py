"""Writing bouts as ``.eaf`` files of ELAN, one for each video, with one tier for each subject and behaviour.

Annotations of one tier may not overlap, behaviours of one subject may; hence the tiers. The participant of a tier is the subject, the
value of an annotation the behaviour. foveate reads the files back (``elan``). Structure: EAF 2.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from foveate.annotations.export import beside, bouts_by_video
from foveate.annotations.export_project import joined
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.store import write_text

if TYPE_CHECKING:
    import pandas as pd

_MIME = {".mp4": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".wmv": "video/x-ms-wmv"}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONSTRAINTS = (
    ("Time_Subdivision", "Time subdivision of parent annotation's time interval, no time gaps allowed within this interval"),
    (
        "Symbolic_Subdivision",
        "Symbolic subdivision of a parent annotation. Annotations refering to the same parent are ordered",
    ),
    ("Symbolic_Association", "1-1 association with a parent annotation"),
    ("Included_In", "Time alignable annotations within the parent annotation's time interval, gaps are allowed"),
)


def export_elan(path: Path, bouts: pd.DataFrame, project: Project) -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS), times in milliseconds; probabilities are left out.

    Args:
        path: an ``.eaf`` file where the bouts are of one video; else a folder, for one ``<video>.eaf`` each.

    Raises:
        FoveateError: ``path`` is one file, but there are several videos; a name cannot be written in XML.
    """
    by_video = bouts_by_video(bouts, project)
    for video, target in one_file_each(path, [v for v in project.videos if v.name in by_video], ".eaf"):
        write_text(target, "\n".join(_document(by_video[video.name], video, target)) + "\n")


def one_file_each(path: Path, videos: Sequence[Video], ending: str) -> Iterator[tuple[Video, Path]]:
    """Where the file of each video goes: ``path`` itself if it has that ending, else into the folder ``path``."""
    if path.suffix.lower() != ending:
        yield from ((video, path / f"{video.name}{ending}") for video in videos)
    elif len(videos) > 1:
        raise FoveateError(
            f"one {ending} file holds one video, but there are bouts of {len(videos)}",
            file=path,
            remedy="name a folder instead, or choose one video",
        )
    else:
        yield from ((video, path) for video in videos)


def _document(bouts: Sequence[dict[str, Any]], video: Video, path: Path) -> Iterator[str]:
    tiers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    slots: list[tuple[int, str]] = []  # every annotation has its own: ELAN moves what shares one together
    for k, bout in enumerate(joined(bouts)):
        # An annotation of no length cannot be seen in ELAN, but it is what a point event is.
        names = f"ts{2 * k + 1}", f"ts{2 * k + 2}"
        slots += [(round(bout[end] * 1000), name) for end, name in zip(("start", "stop"), names, strict=True)]
        tiers.setdefault((bout["subject"], bout["behaviour"]), []).append(names)
    slots.sort(key=lambda slot: slot[0])
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        '<ANNOTATION_DOCUMENT AUTHOR="foveate" DATE="1970-01-01T00:00:00+00:00" VERSION="2.8" FORMAT="2.8" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv2.8.xsd">'
    )
    yield '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
    yield f"<MEDIA_DESCRIPTOR {_attributes(_media(video, path))}/>"
    yield f'<PROPERTY NAME="lastUsedAnnotationId">{sum(map(len, tiers.values()))}</PROPERTY>'
    yield "</HEADER>"
    yield "<TIME_ORDER>"
    for time, name in slots:
        yield f'<TIME_SLOT TIME_SLOT_ID="{name}" TIME_VALUE="{time}"/>'
    yield "</TIME_ORDER>"
    number = 0
    for (subject, behaviour), own in sorted(tiers.items()):
        about = {"TIER_ID": f"{subject}:{behaviour}", "PARTICIPANT": subject, "LINGUISTIC_TYPE_REF": "behaviour"}
        yield f"<TIER {_attributes(about)}>"
        for start, stop in own:
            number += 1
            yield (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="{start}" '
                f'TIME_SLOT_REF2="{stop}"><ANNOTATION_VALUE>{escape(_allowed(behaviour))}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        yield "</TIER>"
    yield '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="behaviour" TIME_ALIGNABLE="true" GRAPHIC_REFERENCES="false"/>'
    for name, description in _CONSTRAINTS:
        yield f"<CONSTRAINT {_attributes({'STEREOTYPE': name, 'DESCRIPTION': description})}/>"
    yield "</ANNOTATION_DOCUMENT>"


def _media(video: Video, path: Path) -> dict[str, str]:
    relative = beside(video.path, path)
    relative = relative if video.path.as_posix() == relative else f"./{relative}"
    kind = _MIME.get(video.path.suffix.lower(), "unknown")
    return {"MEDIA_URL": relative, "RELATIVE_MEDIA_URL": relative, "MIME_TYPE": kind}


def _attributes(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}={quoteattr(_allowed(value))}" for name, value in values.items())


def _allowed(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise FoveateError(f"{text!r} has characters that XML cannot hold", remedy="rename it, or export as csv")
    return text
