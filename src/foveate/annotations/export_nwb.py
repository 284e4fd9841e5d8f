"""Writing bouts as NWB (Neurodata Without Borders) with the extension ndx-ethogram, laid out as neuroconv does for BORIS.

An NWB file has one subject, so there is one file for each video and subject. The processing module ``behavior`` holds the ``Ethogram`` that
lists all behaviours and, named after the video, the ``EthogramBouts`` of its states, linked to the ethogram and to the video (an external
file with the times of its own frames). States and point events together are one core ``EventsTable`` of the video's name; a point event
has no duration there (NaN). Beside neuroconv's columns stands the probability (``benchmarks/nwb_layout.py`` compares the two).

Times are seconds since the first frame. When a recording began is not known to foveate: the session start is the epoch, and the description
says so. Unlike foveate's other files, NWB files hold random identifiers of their objects.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate import __version__
from foveate.annotations.export import beside, bouts_by_video
from foveate.project import Project, Video
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd

_SESSION = "Behaviour of one subject in one video. The session start is unknown and stands at the epoch; times count from the first frame."


def export_nwb(
    path: Path,
    bouts: pd.DataFrame,
    project: Project,
    *,
    times: Callable[[Video], NDArray[np.float64]] | None = None,
    description: str = "",
) -> None:
    """Write bouts (schema.BOUTS or schema.INTERVALS). Those with a probability are automated labels, the others manual ones.

    Args:
        path: an ``.nwb`` file where the bouts are of one subject in one video; else a folder, for ``sub-<subject>_ses-<video>.nwb``.
        times: when each frame of a video starts, in seconds; by default as its timeline says.
        description: the tables' description.

    Raises:
        FoveateError: pynwb or ndx-ethogram is not installed; or ``path`` is one file, but there are several to write.
    """
    try:
        import ndx_ethogram  # noqa: F401  # registers its types with pynwb
        import pynwb  # noqa: F401
    except ImportError:
        raise FoveateError(
            "NWB files cannot be written without pynwb and ndx-ethogram", remedy='pip install "foveate[nwb]"'
        ) from None
    times = times or _from_timeline(project)
    types = _types(bouts)
    own: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, listed in bouts_by_video(bouts, project).items():
        for bout in listed:
            own.setdefault((name, bout["subject"]), []).append(bout)
    single = path.suffix.lower() == ".nwb"
    if single and len(own) > 1:
        raise FoveateError(
            f"an NWB file holds one subject of one video, but there are bouts of {len(own)}",
            file=path,
            remedy="name a folder instead, or choose one video",
        )
    for (name, subject), listed in own.items():
        video = project.video(name)
        target = path if single else path / f"sub-{subject}_ses-{name}.nwb"
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, _file(listed, types, video, subject, times(video), target, description))


def _types(bouts: pd.DataFrame) -> dict[str, str]:
    """``state`` or ``point`` of each behaviour, over all videos: every file lists the whole ethogram. One that is both is a state."""
    kinds = bouts["kind"] if "kind" in bouts.columns else ["state"] * len(bouts)
    states = {b for b, kind in zip(bouts["behaviour"], kinds, strict=True) if kind != "point"}
    return {name: "state" if name in states else "point" for name in sorted(set(bouts["behaviour"]))}


def _file(
    bouts: Sequence[Mapping[str, Any]],
    types: Mapping[str, str],
    video: Video,
    subject: str,
    times: NDArray[np.float64],
    path: Path,
    description: str,
) -> Any:
    from ndx_ethogram import Ethogram, EthogramBouts
    from pynwb import NWBFile
    from pynwb.event import EventsTable
    from pynwb.file import Subject
    from pynwb.image import ImageSeries

    nwb = NWBFile(
        session_description=_SESSION,
        identifier=f"{video.name}/{subject}",
        session_start_time=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
        subject=Subject(subject_id=subject) if subject else None,
    )
    series = ImageSeries(
        name="video",
        description="the footage, outside this file",
        unit="n.a.",
        format="external",
        external_file=[beside(video.path, path)],
        starting_frame=[0],
        timestamps=times,
    )
    nwb.add_acquisition(series)
    ethogram = Ethogram(name="Ethogram", description="all behaviours that were looked for", exclusive=False)
    for name, kind in types.items():
        ethogram.add_row(behavior=name, definition="not written down in foveate", behavior_type=kind)
    predicted = any(bout.get("probability") is not None for bout in bouts)
    annotators = sorted({bout["annotator"] for bout in bouts if bout.get("annotator")})
    name = object_name(video.name)
    table = EthogramBouts(
        name=f"{name}Bouts",
        description=description or "bouts of behaviour",
        labeling_method="automated" if predicted else "manual",
        source_software=f"foveate {__version__}" if predicted else None,
        annotator=", ".join(annotators) or None,
        source_video=series,
        ethogram=ethogram,
    )
    events = EventsTable(name=name, description=description or "bouts and instants of behaviour")
    more = {"subject": "whose behaviour it is"} | ({"probability": "mean probability over the bout"} if predicted else {})
    events.add_column(name="event_type", description="behaviour, as the ethogram lists it")
    for column, meaning in more.items():
        table.add_column(name=column, description=meaning)
        events.add_column(name=column, description=meaning)
    for bout in sorted(bouts, key=lambda bout: (bout["start"], bout["behaviour"])):
        extra: dict[str, Any] = {"subject": subject} | ({"probability": float(bout["probability"])} if predicted else {})
        lasts = bout["stop"] - bout["start"] if types[bout["behaviour"]] == "state" else math.nan
        events.add_row(timestamp=bout["start"], duration=lasts, event_type=bout["behaviour"], **extra)
        if types[bout["behaviour"]] == "state":
            table.add_row(start_time=bout["start"], stop_time=bout["stop"], label=bout["behaviour"], **extra)
    module = nwb.create_processing_module("behavior", "behaviour of the subject")
    module.add(ethogram)
    if len(table):
        module.add(table)
    if len(events):
        nwb.add_events_table(events)
    return nwb


def object_name(video: str) -> str:
    """``pen 1`` as ``Pen1``: words of letters and digits, capitals first, and none that begins with a digit (as neuroconv does)."""
    joined = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^0-9a-zA-Z]+", video) if word)
    return joined if joined and not joined[0].isdigit() else f"Observation{joined}"


def _write(path: Path, nwb: Any) -> None:
    from pynwb import NWBHDF5IO

    aside = path.with_suffix(".aside.nwb")
    with NWBHDF5IO(str(aside), "w") as file:
        file.write(nwb)
    aside.replace(path)


def _from_timeline(project: Project) -> Callable[[Video], NDArray[np.float64]]:
    from foveate import timeline

    return lambda video: timeline.load(project, video).time
