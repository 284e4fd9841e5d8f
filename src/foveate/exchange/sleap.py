"""SLEAP: analysis files (``.h5``: body points of every track in every frame) and projects or predictions (``.slp``).

Both become boxes around the body points that are seen. The arrays of analysis files name their axes (``dims``) where sleap-io
wrote them, and lie as in MATLAB (track, xy, node, frame) where SLEAP did. Of an instance that a person corrected, the corrected
one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.exchange.hdf5 import Content
from foveate.exchange.sheet import UNNAMED, Own, Sheet, Sighting, certainty, points_box, refuse, the_video

Floats = NDArray[np.float64]


def is_analysis(content: Content) -> bool:
    return {"tracks", "track_occupancy"} <= set(content.keys)


def is_labels(content: Content) -> bool:
    return {"frames", "instances", "points", "pred_points"} <= set(content.keys)


def read_analysis(path: Path, content: Content, own: Own) -> Sheet:
    """Boxes around the points of every track.

    Raises:
        FoveateError: the arrays do not have the axes of an analysis file.
    """
    tracks, scores = content.arrays["tracks"], content.arrays.get("point_scores")
    order = [name for name in content.dims.get("tracks", []) if name]
    if sorted(order) != ["frame", "node", "track", "xy"]:
        order = (
            ["frame", "node", "xy", "track"]
            if content.attributes.get("transpose") is False
            else ["track", "xy", "node", "frame"]
        )
    if tracks.ndim != 4 or tracks.dtype.kind != "f" or tracks.shape[order.index("xy")] != 2:
        raise refuse(path, f"tracks has shape {tracks.shape}, which is not that of an analysis file")
    points = np.transpose(tracks, [order.index(name) for name in ("track", "frame", "node", "xy")])
    sure: Floats | None = None
    without = [name for name in order if name != "xy"]
    if scores is not None and scores.shape == tuple(tracks.shape[order.index(name)] for name in without):
        sure = np.transpose(scores, [without.index(name) for name in ("track", "frame", "node")]).astype(np.float64)
    names = [str(name) for name in content.arrays.get("track_names", np.zeros(0, str)).ravel()]
    if len(names) != len(points):
        names = [UNNAMED] if len(points) == 1 else [f"track_{k}" for k in range(len(points))]
    video = str(content.arrays["video_path"]) if "video_path" in content.arrays else ""
    sheet = Sheet(path, "SLEAP", content="points", frames=points.shape[1], videos=[video])
    for k, name in enumerate(names):
        for frame in np.flatnonzero(np.isfinite(points[k]).all(axis=-1).sum(axis=-1) > 1).tolist():
            if (box := points_box(points[k, frame])) is not None:
                score = float("nan") if sure is None else _mean(sure[k, frame][np.isfinite(points[k, frame]).all(axis=-1)])
                sheet.sightings.append(Sighting(name or UNNAMED, frame, box, score))
    return sheet


def _mean(scores: Floats) -> float:
    seen = scores[np.isfinite(scores)]
    return certainty(float(seen.mean())) if len(seen) else float("nan")


def read_labels(path: Path, content: Content, own: Own) -> Sheet:
    """Boxes around the points of every instance of the wanted video; instances without a track are one individual.

    Raises:
        FoveateError: several videos and none of them wanted, or the tables do not fit together.
    """
    try:
        names = [_video(text) for text in content.arrays["videos_json"].ravel()]
        at = the_video(path, names, own)
        sheet = Sheet(path, "SLEAP", content="points", videos=[names[at]])
        tracks = [_track(text) for text in content.arrays["tracks_json"].ravel()] if "tracks_json" in content.arrays else []
        found: dict[tuple[str, int], tuple[bool, Sighting]] = {}
        for frame, one in _instances(content, at):
            name = tracks[int(one["track"])] if int(one["track"]) >= 0 else UNNAMED
            user = int(one["instance_type"]) == 0
            table = content.arrays["points" if user else "pred_points"][int(one["point_id_start"]) : int(one["point_id_end"])]
            place = np.column_stack([table["x"], table["y"]]).astype(np.float64)
            place[~table["visible"].astype(bool)] = np.nan
            score = float("nan") if user else _mean(table["score"].astype(np.float64)[np.isfinite(place).all(axis=1)])
            if (box := points_box(place)) is None:
                continue
            earlier = found.get((name, frame))
            if earlier is not None and earlier[0] == user:
                problem = f"two instances of {name!r} in frame {frame}"
                raise refuse(path, problem, remedy="give them tracks in SLEAP, or remove one")
            if earlier is None or user:
                found[name, frame] = user, Sighting(name, frame, box, score)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise refuse(path, f"not a SLEAP file ({type(error).__name__}: {str(error)[:80]})") from None
    sheet.sightings = [one for _, one in found.values()]
    return sheet


def _instances(content: Content, video: int) -> Iterator[tuple[int, Any]]:
    frames, instances = content.arrays["frames"], content.arrays["instances"]
    ids = [int(v) for v in np.unique(frames["video"])]
    numbers = {key: k for k, key in enumerate(ids)} if max(ids, default=0) >= len(content.arrays["videos_json"]) else None
    for row in frames:
        if (numbers[int(row["video"])] if numbers else int(row["video"])) == video:
            for one in instances[int(row["instance_id_start"]) : int(row["instance_id_end"])]:
                yield int(row["frame_idx"]), one


def _video(text: str) -> str:
    value = json.loads(text)
    backend = value.get("backend") or {}
    return str(value.get("filename") or backend.get("filename") or "")


def _track(text: str) -> str:
    """A track is stored as [when it was made, name]."""
    value = json.loads(text)
    return str(value[1] if isinstance(value, list) else value.get("name")) or UNNAMED
