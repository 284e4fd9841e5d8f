"""Writing bouts as a BORIS project, so that people can look at them beside the video and correct them there.

BORIS opens the file as one of its own: every video is an observation, every behaviour an entry of the ethogram with key and colour. The
corrected project is an annotation file that foveate reads (``boris_project``).
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.annotations.export import beside, bouts_by_video, from_timeline
from foveate.project import Project, Video
from foveate.store import write_text

if TYPE_CHECKING:
    import pandas as pd

COLOURS = ("blue", "orange", "green", "red", "purple", "brown", "pink", "gray", "olive", "cyan")
"""Colours of matplotlib's ``tab:`` family, in which BORIS draws its plots."""


def export_boris_project(
    path: Path,
    bouts: pd.DataFrame,
    project: Project,
    *,
    media: Callable[[Video], tuple[float, float]] | None = None,
    description: str = "",
    behaviours: Iterable[str] = (),
    videos: Iterable[Video] = (),
) -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS) as a project of format 7.0, times in milliseconds, as BORIS keeps them.

    Media are named relative to the folder of ``path``, where BORIS looks for them. The probability of a bout is the comment of its
    START. Bouts of one subject and behaviour that overlap become one, because BORIS tells START from STOP by turns. Dates are left
    empty, so that the same bouts give the same bytes.

    Args:
        media: duration in seconds and mean frame rate of a video; by default from its timeline.
        description: the project's description.
        behaviours: to list as state events although no bout is of them: what was never predicted can be missed, too.
        videos: to list with their subjects although they have no bout, for the same reason.
    """
    media = media or from_timeline(project)
    by_video = bouts_by_video(bouts, project)
    everything = [bout for own in by_video.values() for bout in own]
    # BORIS knows one type for each behaviour: instants of one that is a state elsewhere become states that stop when they start.
    states = {bout["behaviour"] for bout in everything if bout.get("kind") != "point"}
    named = {bout["behaviour"] for bout in everything}
    points = named - states
    listed = {video.name: video for video in videos}
    subjects = [b["subject"] for b in everything] + [subject for video in listed.values() for subject in video.subjects]
    observations = {}
    for video in project.videos:
        if video.name in by_video or video.name in listed:
            length, rate = media(video)
            observations[video.name] = _observation(
                by_video.get(video.name, []), states, beside(video.path, path), length, rate
            )
    content = {
        "time_format": "hh:mm:ss",
        "project_date": "",
        "project_name": project.folder.name,
        "project_description": description,
        "project_format_version": "7.0",
        "subjects_conf": {
            str(k): {"key": key, "name": name, "description": ""}
            for k, (name, key) in enumerate(_keyed(subjects, string.digits[1:] + "0"))
        },
        "behaviors_conf": {
            str(k): {
                "type": "Point event" if name in points else "State event",
                "key": key,
                "code": name,
                "description": "",
                "color": f"tab:{COLOURS[k % len(COLOURS)]}",
                "category": "",
                "modifiers": {},
                "excluded": "",
                "coding map": "",
            }
            for k, (name, key) in enumerate(_keyed(named.union(behaviours), string.ascii_lowercase))
        },
        "observations": observations,
        "behavioral_categories": [],
        "behavioral_categories_config": {},
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    # All in ASCII, as BORIS writes it: BORIS opens projects with the encoding of the system.
    write_text(path, json.dumps(content, indent=1) + "\n")


def joined(bouts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bouts in order of time; of one subject, behaviour and kind those that overlap are one, with the highest of their probabilities."""
    out: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for bout in sorted(bouts, key=lambda b: (b["start"], b["stop"])):
        own = out.setdefault((bout["subject"], bout["behaviour"], bout.get("kind") == "point"), [])
        if own and bout["start"] < own[-1]["stop"]:
            probabilities = [p for p in (own[-1].get("probability"), bout.get("probability")) if p is not None]
            own[-1] = own[-1] | {"stop": max(own[-1]["stop"], bout["stop"])}
            if probabilities:
                own[-1]["probability"] = max(probabilities)
        else:
            own.append(bout)
    return sorted(
        (bout for own in out.values() for bout in own), key=lambda b: (b["start"], b["subject"], b["behaviour"], b["stop"])
    )


def comment(bout: dict[str, Any]) -> str:
    """``p=0.93``, or nothing where a bout has no probability."""
    probability = bout.get("probability")
    return "" if probability is None or probability != probability else f"p={probability:.2f}"


def _observation(bouts: Sequence[dict[str, Any]], states: set[str], media: str, length: float, rate: float) -> dict[str, Any]:
    events: list[list[Any]] = []
    for bout in joined(b | {"kind": "state"} if b["behaviour"] in states else b for b in bouts):
        start, stop = round(bout["start"], 3), round(bout["stop"], 3)
        events.append([start, bout["subject"], bout["behaviour"], "", comment(bout), "NA"])
        if bout["behaviour"] in states:
            events.append([stop, bout["subject"], bout["behaviour"], "", "", "NA"])
    events.sort(key=lambda event: event[0])
    seconds = round(length, 3)
    return {
        "file": {"1": [media]} | {str(k): [] for k in range(2, 9)},
        "type": "MEDIA",
        "date": "",
        "description": "",
        "time offset": 0.0,
        "events": events,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "media_creation_date_as_offset": False,
        "media_scan_sampling_duration": 0,
        "image_display_duration": 1,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {media: seconds},
            "fps": {media: round(rate, 3)},
            "hasVideo": {media: True},
            "hasAudio": {media: False},
            "offset": {"1": 0.0},
            "display": {media: "Nothing"},  # what BORIS since 9.10 draws beside it
        },
    }


def _keyed(names: Iterable[str], keys: str) -> list[tuple[str, str]]:
    """Names in order, each with the key that codes it; those for which no key is left have none."""
    found = sorted({name for name in names if name})
    return [(name, keys[k] if k < len(keys) else "") for k, name in enumerate(found)]
