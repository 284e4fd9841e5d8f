"""Cuts found by PySceneDetect (optional: ``pip install "foveate[shots]"``), for edited films rather than for cameras that just run.

It looks at every frame of the video, so the footage is decoded once more; the list of cuts is kept beside the tracks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError
from foveate.settings import CONFIG
from foveate.store import Artefact, damaged, write_json
from foveate.video import Timeline, read_frames

LIST = "cuts.json"
_WIDTH = 256  # pixels, as PySceneDetect itself makes pictures smaller


def check_installed() -> None:
    """Refuse to go on without PySceneDetect."""
    try:
        import scenedetect  # noqa: F401
    except ImportError:
        raise FoveateError(
            "cuts are to be found by PySceneDetect, which is not installed",
            file=CONFIG,
            remedy='`pip install "foveate[shots]"`, or set `track: {cuts: picture}`',
        ) from None


def film_cuts(target: Artefact, path: Path, clock: Timeline) -> NDArray[np.int64]:
    """Numbers of the frames with which a new shot begins; found once, then read from ``cuts.json`` in the folder of the tracks.

    Raises:
        FoveateError: PySceneDetect is not installed; the footage cannot be read.
    """
    if not target.has(LIST):
        check_installed()
        write_json(target.path(LIST), _detect(path, clock))
    try:
        return np.array(json.loads(target.path(LIST).read_text(encoding="utf-8")), np.int64)
    except (OSError, ValueError) as error:
        raise damaged(target.path(LIST)) from error


def _detect(path: Path, clock: Timeline) -> list[int]:
    """``AdaptiveDetector`` with its own settings. It is given our frames, so that its numbers are ours, whatever the frame rate does."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    rate = (len(clock) - 1) / float(clock.time[-1]) if len(clock) > 1 else 25.0
    size = _WIDTH, max(1, round(_WIDTH * clock.height / clock.width))
    detector, found = AdaptiveDetector(), []
    last = FrameTimecode(0, rate)
    for frame, picture in enumerate(read_frames(path, clock, clock.frame, size=size)):
        last = FrameTimecode(frame, rate)
        found += detector.process_frame(last, np.ascontiguousarray(picture[..., ::-1]))
    return sorted({cut.frame_num for cut in found + detector.post_process(last)})
