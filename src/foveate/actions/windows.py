"""Rows of the probe: windows of analysed frames around every frame that has a vector, and the views of one moment put together.

The window of a frame is the frame itself and ``(W - 1) / 2`` analysed frames on each side, of the same video, view and subject, in
order of time. Where the video ends, or the subject is not seen, the nearest frame of the same unbroken stretch stands in; a window
never reaches across a gap, or a cut to another shot. (The publication says that 7 frames were best, not which ones, nor what happens at
edges.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate import timeline, track
from foveate.actions import embed
from foveate.project import Project, Video
from foveate.schema import ALL_VIEWS
from foveate.settings import ProbeSettings
from foveate.track import events

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.logistic import Windows
    from foveate.annotations import Labels

KEYS = ["video", "view", "subject", "frame", "time"]


def window_index(series: NDArray[np.int64], position: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Rows that form the window of every row.

    Args:
        series: int64 ``[N]``, equal for rows of one video, view and subject.
        position: int64 ``[N]``, number of the analysed frame in its video; rows are sorted by series, then position.
        window: odd width W.

    Returns:
        int64 ``[N, W]``, the row itself in the middle column.
    """
    n = len(position)
    row = np.arange(n)
    new = np.ones(n, dtype=bool)
    new[1:] = (series[1:] != series[:-1]) | (position[1:] != position[:-1] + 1)
    starts = np.flatnonzero(new)
    stretch = np.cumsum(new) - 1
    first = starts[stretch]
    last = np.append(starts[1:], n)[stretch] - 1
    half = window // 2
    index: NDArray[np.int64] = np.clip(row[:, None] + np.arange(-half, half + 1), first[:, None], last[:, None])
    return index


def series_of(keys: pd.DataFrame) -> NDArray[np.int64]:
    """int64 ``[N]`` that changes wherever video, view or subject does."""
    columns = [keys[name].to_numpy() for name in ("video", "view", "subject")]
    new = np.zeros(len(keys), dtype=np.int64)
    for names in columns:
        new[1:] |= names[1:] != names[:-1]
    return np.cumsum(new)


def unbroken(project: Project, video: Video, keys: pd.DataFrame) -> NDArray[np.int64]:
    """int64 ``[N]`` that changes wherever view, subject or shot does; keys of one video, sorted by view, subject and frame."""
    shot = np.zeros(len(keys), np.int64)
    for view in keys["view"].unique():
        mine = (keys["view"] == view).to_numpy()
        cuts = events.cuts(track.artefact(project, video), view)
        shot[mine] = np.searchsorted(cuts, keys["frame"].to_numpy()[mine], side="right")
    series = series_of(keys)
    series[1:] += np.cumsum((series[1:] == series[:-1]) & (shot[1:] != shot[:-1]))
    return series


def video_windows(project: Project, video: Video, settings: ProbeSettings) -> tuple[pd.DataFrame, NDArray[np.int64], Windows]:
    """All rows of one video that have a vector, sorted by view, subject and frame.

    Returns:
        keys (``KEYS``), the position of each row among the video's analysed frames, and the design.

    Raises:
        FoveateError: the vectors are missing or damaged.
    """
    from foveate.actions.logistic import Windows

    keys, vectors = embed.load_vectors(project, video, settings.feature, settings.layer, settings.source)
    keys, order, position, index = ordered(project, video, keys, settings.window)
    return keys, position, Windows(np.asarray(vectors)[order], index)


def ordered(
    project: Project, video: Video, keys: pd.DataFrame, window: int
) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of one video, in any order, by view, subject and frame.

    Returns:
        keys (``KEYS``) in order, where each row was before, its position among the analysed frames, and int64 ``[N, W]``: the rows, in
        order, of its window.
    """
    order = np.lexsort([keys["frame"], keys["subject"], keys["view"]])
    keys = keys.iloc[order][KEYS].reset_index(drop=True)
    frame = keys["frame"].to_numpy(np.int64)
    analysed = timeline.analysed(project, video).frame
    position = np.minimum(np.searchsorted(analysed, frame), max(0, len(analysed) - 1))
    assert not len(frame) or (analysed[position] == frame).all(), "vectors of frames that are not analysed"
    return keys, order, position, window_index(unbroken(project, video, keys), position, window)


@dataclass(frozen=True, eq=False)
class Moments:
    """Which rows show the same moment: one video, subject and frame, whatever the view. ``M`` moments of ``N`` rows.

    Attributes:
        keys: the moments in order of video, subject, frame; ``view`` is ``*``.
        of_row: int64 ``[N]`` moment of every row.
        first: int64 ``[M]`` a row of every moment.
    """

    keys: pd.DataFrame
    of_row: NDArray[np.int64]
    first: NDArray[np.int64]

    def mean(self, logit: NDArray[np.floating]) -> NDArray[np.float64]:
        """``[M, ...]`` mean over the views of logits ``[N, ...]``."""
        total = np.zeros((len(self.first), *logit.shape[1:]))
        np.add.at(total, self.of_row, logit)
        count = np.bincount(self.of_row, minlength=len(self.first))
        return total / count.reshape(-1, *([1] * (logit.ndim - 1)))


def moments(keys: pd.DataFrame) -> Moments:
    """Put the views of each moment together."""
    codes = np.stack([np.unique(keys[c].to_numpy(), return_inverse=True)[1] for c in ("video", "subject", "frame")])
    _, first, of_row = np.unique(codes, axis=1, return_index=True, return_inverse=True)
    return Moments(keys.iloc[first].assign(view=ALL_VIEWS).reset_index(drop=True), of_row.reshape(-1), first)


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows of several videos.

    Attributes:
        keys: ``KEYS``, sorted by video (in the order given), view, subject, frame.
        truth: int8 ``[N, L]`` 1, 0, -1.
        design: the windows; only vectors that a labelled row uses are kept.
    """

    keys: pd.DataFrame
    truth: NDArray[np.int8]
    design: Windows


def labelled_rows(project: Project, videos: list[Video], labels: Labels, settings: ProbeSettings) -> Rows:
    """All rows with a vector and at least one observed label."""
    import pandas as pd

    from foveate.actions.logistic import Windows

    keys: list[pd.DataFrame] = []
    truth, vectors, index, offset = [], [], [], 0
    for video in videos:
        own, position, design = video_windows(project, video, settings)
        analysed = timeline.analysed(project, video)
        subject = own["subject"].to_numpy()
        label = np.full((len(own), len(labels.behaviours)), -1, dtype=np.int8)
        for name in labels.subjects(video.name):
            mine = subject == name
            label[mine] = labels.dense(video.name, name, analysed.time, analysed.duration)[position[mine]]
        known = (label >= 0).any(1)
        used, renumbered = np.unique(design.index[known], return_inverse=True)
        keys.append(own.iloc[np.flatnonzero(known)])
        truth.append(label[known])
        vectors.append(design.vectors[used].astype(np.float16))  # as they are stored
        index.append(renumbered.reshape(-1, settings.window) + offset)
        offset += len(used)
    return Rows(
        pd.concat(keys, ignore_index=True), np.concatenate(truth), Windows(np.concatenate(vectors), np.concatenate(index))
    )
