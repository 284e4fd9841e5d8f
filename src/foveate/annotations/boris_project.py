"""Project files of BORIS: ``.boris`` (JSON) and ``.boris.gz``. Every observation is read as its tabular export would be.

A project stores no START and STOP: of the events of a state with one subject and one set of modifiers, the first is a START, the second
a STOP, and so on (``events_start_stop`` of ``project_functions.py``). So one event without a time makes all others of that state
unusable, and they are left out together. Media of player n begin at ``media_info.offset[n]`` on the clock of player 1.

As in a tabular export, all media count as observed, unless the observation is restricted to a time interval. In problems, "row" is the
number of the event in its observation, counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from foveate.annotations.boris import Known, Players, read_tabular
from foveate.annotations.source import Given, Source, maybe_json
from foveate.annotations.tables import Reading, Table, Videos, column
from foveate.schema import FoveateError

_COLUMNS = ("observation id", "subject", "behavior", "modifiers", "behavior type", "time", "time offset (s)")


def is_project(source: Source) -> bool:
    found = maybe_json(source)
    return found is not None and "observations" in found and "behaviors_conf" in found


def read_project(source: Source, given: Given) -> Reading:
    """All observations; one that cannot be read is one problem."""
    out, found = Reading(), source.json()
    try:
        states = {entry["code"]: "state" in entry["type"].lower() for entry in found["behaviors_conf"].values()}
        observations = dict(found["observations"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise source.refuse("behaviors_conf and observations are not as BORIS writes them") from None
    for name, observation in observations.items():
        try:
            reading = _read(source, given, str(name), observation, states)
        except FoveateError as error:
            out.problems.append(error)
            continue
        out.entries.extend(reading.entries)
        out.spans.extend(reading.spans)
        out.doubts.extend(reading.doubts)
        out.covariates.extend(reading.covariates)
        out.problems.extend(_of(name, error) for error in reading.problems)
        out.notes.extend(_of(name, error) for error in reading.notes)
    return out


def project_videos(source: Source, videos: Videos) -> set[str]:
    """Names of the videos that a project file speaks of."""
    out = set()
    observations = source.json()["observations"]
    for name, observation in observations.items() if isinstance(observations, dict) else ():
        paths = [path for player in _players(observation) for path, _ in player]
        out |= {video.name for video in [*map(videos.of_media, paths), videos.named(str(name))] if video is not None}
    return out


def _of(name: str, error: FoveateError) -> FoveateError:
    if f"observation {name!r}" in error.problem:
        return error
    return FoveateError(f"observation {name!r}: {error.problem}", file=error.file, row=error.row, remedy=error.remedy)


def _read(source: Source, given: Given, name: str, observation: Any, states: Mapping[str, bool]) -> Reading:
    if not isinstance(observation, dict) or not isinstance(observation.get("events"), list):
        raise source.refuse(f"observation {name!r} has no list of events")
    if observation.get("type") == "IMAGES":
        raise source.refuse(
            f"observation {name!r} is of single images, not of a video", remedy="code the video, or remove the observation"
        )
    offset = observation.get("time offset", 0) or 0
    events = list(_events(observation["events"]))
    # An event without a time would turn every later START of its kind into a STOP, so these are left out with it.
    broken = {key for _, time, key, _ in events if time is None}
    refused = {row: problem for row, _, _, problem in events if problem}
    rows, met = [], dict[tuple[str, str, str], int]()
    for row, time, key, problem in sorted(events, key=lambda event: -math.inf if event[1] is None else event[1]):
        subject, behaviour, modifiers = key
        if key in broken and not problem:
            continue
        if not problem and behaviour not in states:
            refused[row] = f"behaviour {behaviour!r} is not in the ethogram, so that it is not known whether it is a state"
        met[key] = met.get(key, 0) + 1
        status = ("START" if met[key] % 2 else "STOP") if states.get(behaviour) else "POINT"
        values = (name, subject, behaviour, modifiers, status, "" if time is None else repr(time), str(offset))
        rows.append((row, dict(zip(_COLUMNS, values, strict=True))))
    known = Known(_players(observation), _offsets(observation), _interval(observation), refused)
    table = Table(source.path, _COLUMNS, tuple(rows), {})
    return read_tabular(table, given.videos, given.duration, known, _variables(observation))


def _events(events: list[Any]) -> Iterator[tuple[int, float | None, tuple[str, str, str], str]]:
    """(row, time, (subject, behaviour, modifiers), what is wrong with it)."""
    for row, event in enumerate(events, start=1):
        if not isinstance(event, list) or len(event) < 3 or not all(isinstance(cell, str) for cell in event[1:4]):
            yield row, None, ("", "", ""), "the event is not [time, subject, behaviour, modifier, comment, frame]"
            continue
        key = (event[1].strip(), event[2].strip(), event[3] if len(event) > 3 else "")
        time = _number(event[0])
        wrong = f"the event has time {str(event[0])[:40]!r}, so that other events of {key[1]!r} cannot be paired"
        yield row, time, key, wrong if time is None else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)


def _players(observation: Any) -> Players:
    """Media with their lengths; players without media keep their place only where another follows."""
    files = observation.get("file") if isinstance(observation, dict) else None
    if not isinstance(files, dict):
        return []
    lengths = _info(observation, "length")
    out: Players = []
    for player in sorted(files, key=lambda key: (len(str(key)), str(key))):
        paths = [path for path in files[player] if isinstance(path, str)] if isinstance(files[player], list) else []
        seconds = [_number(lengths.get(path)) for path in paths]
        out.append([(path, s if s is not None and s > 0 else None) for path, s in zip(paths, seconds, strict=True)])
    while out and not out[-1]:
        out.pop()
    return out


def _variables(observation: Mapping[str, Any]) -> dict[str, str]:
    """Independent variables, by the lower-case names that a table would have."""
    found = observation.get("independent_variables")
    values = found.items() if isinstance(found, dict) else ()
    return {column(str(name)): str(value) for name, value in values if isinstance(value, str | int | float)}


def _info(observation: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    info = observation.get("media_info")
    found = info.get(name) if isinstance(info, dict) else None
    return found if isinstance(found, dict) else {}


def _offsets(observation: Mapping[str, Any]) -> tuple[float, ...]:
    found = _info(observation, "offset")
    return tuple(_number(found.get(str(k))) or 0.0 for k in range(1, 9))


def _interval(observation: Mapping[str, Any]) -> tuple[float, float] | None:
    """``observation time interval``; [0, 0] is BORIS's word for all media, and a stop of 0 for their end."""
    found = observation.get("observation time interval")
    if not isinstance(found, list) or len(found) != 2:
        return None
    start, stop = _number(found[0]) or 0.0, _number(found[1]) or 0.0
    return (start, stop if stop > start else math.inf) if start > 0 or stop > 0 else None
