"""Reading label files of FERAL: JSON with the labels of every frame of several videos.

``class_names`` {"0": "other", ...}; ``labels`` {video: [class of each frame]} or, with ``is_multilabel``, [[0 or 1 of each class] of each
frame]. Class 0 is the background where its name says so. Frame k of a list is frame k of the video, shown when its timeline says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.annotations.source import Given, Source, check_frames, from_dense, maybe_json
from foveate.annotations.tables import Reading, Videos
from foveate.schema import FoveateError

_BACKGROUND = ("other", "background", "none", "")


def is_feral(source: Source) -> bool:
    found = maybe_json(source)
    return found is not None and "class_names" in found and "labels" in found


def read_feral(source: Source, given: Given) -> Reading:
    """All videos; one that is not in the project, or whose labels are damaged, is one problem."""
    found = source.json()
    names, labels = found["class_names"], found["labels"]
    try:
        classes = (
            [str(names[str(k)]).strip() for k in range(len(names))] if isinstance(names, dict) else [str(n) for n in names]
        )
        listed = dict(labels).items()
    except (KeyError, TypeError, ValueError):
        raise source.refuse('class_names must be {"0": name, "1": ...} and labels {video: [...]}') from None
    multilabel = found.get("is_multilabel") is True
    out = Reading()
    for name, values in listed:
        try:
            video = given.videos.find(str(name))
            if video is None:
                error = given.videos.unknown(str(name), f"{name!r}", source.path, 1)
                raise source.refuse(error.problem, remedy=error.remedy or "")
            dense = _dense(source, str(name), values, len(classes), multilabel)
            edges = check_frames(len(dense), video, given, source)
        except FoveateError as error:
            out.problems.append(error)
            continue
        for k, behaviour in enumerate(classes):
            if k or behaviour.lower() not in _BACKGROUND:
                from_dense(dense[:, k], edges, behaviour, video, "", 1, out)
    return out


def feral_videos(source: Source, videos: Videos) -> set[str]:
    labels = source.json()["labels"]
    found = [videos.find(str(name)) for name in labels] if isinstance(labels, dict) else []
    return {video.name for video in found if video is not None}


def _dense(source: Source, name: str, values: Any, classes: int, multilabel: bool) -> NDArray[np.int8]:
    """[frames, classes] of 1, 0 and -1; a negative class is a frame that nobody labelled."""
    wrong = source.refuse(f"the labels of {name!r} are not one {'list of 0 and 1' if multilabel else 'class'} for each frame")
    if not isinstance(values, list) or not values:
        raise wrong
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        raise wrong from None
    if array.dtype.kind not in "iub" or array.ndim != (2 if multilabel else 1):
        raise wrong
    if multilabel:
        if array.shape[1] != classes or array.min() < -1 or array.max() > 1:
            raise wrong
        return np.asarray(array, np.int8)
    if array.max() >= classes:
        raise source.refuse(f"the labels of {name!r} name class {array.max()}, but there are {classes}")
    dense = np.asarray(array[:, None] == np.arange(classes), np.int8)
    dense[array < 0] = -1
    return dense
