"""Which videos are kept apart: groups of videos that share an animal, folds of whole groups, and the assertions.

Frames of one video resemble each other, and so do videos of one animal; two cameras show the same moment. A random split of frames
therefore measures memory. Here a *group* is a connected component of "same video" and "same animal", both views of a video included, and
a fold is a set of whole groups. A file that stands in the project twice, under another name, is the same video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.project import VIDEOS, Video
from foveate.schema import FoveateError
from foveate.store import fingerprint

Kept = Literal["video", "subject"]
"""What is never split: the video alone, or the animals in it as well."""


def group_videos(videos: Sequence[Video], kept: Kept = "subject") -> dict[str, int]:
    """Number of the group of every video, counted from 0 in the order of the list.

    With ``kept = "subject"`` videos that share an animal, directly or through others, are one group; with ``"video"`` each video is its
    own group, and an animal may then stand on both sides of a split.
    """
    leader = {video.name: video.name for video in videos}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    first: dict[tuple[str, str], str] = {}
    for video in videos:
        for key in _ties(video, kept):
            leader[find(video.name)] = find(first.setdefault(key, video.name))
    numbers: dict[str, int] = {}
    return {video.name: numbers.setdefault(find(video.name), len(numbers)) for video in videos}


def _ties(video: Video, kept: Kept) -> list[tuple[str, str]]:
    """What ties a video to others: (kind, which one)."""
    try:
        footage = [("footage", fingerprint(video.path))]
    except FoveateError:  # not there at the moment; what was made of it is
        footage = []
    return footage + ([("animal", subject) for subject in video.subjects] if kept == "subject" else [])


def assign_folds(counts: NDArray[np.integer], folds: int) -> NDArray[np.int64]:
    """Fold of every group, balanced by rows and by positives of each label.

    Greedy: groups in order of their largest share of any column (a rare label's holder comes before a long video), each to the fold where
    the sum of squared shares grows least; the first such fold. Deterministic; no fold stays empty.

    Args:
        counts: ``[G, C]`` non-negative: per group the number of rows, and of positives of each label.
        folds: number of folds, at most G.

    Returns:
        int64 ``[G]`` in ``0 .. folds - 1``.
    """
    groups = len(counts)
    if not 1 <= folds <= groups:
        raise ValueError(f"{groups} groups cannot make {folds} folds")
    # One is added so that a group without rows still weighs something, and an empty fold is always the better place.
    share = np.column_stack([counts[:, 0] + 1, counts[:, 1:]]).astype(np.float64)
    share /= np.maximum(share.sum(0), 1)
    load = np.zeros((folds, share.shape[1]))
    fold = np.empty(groups, dtype=np.int64)
    for g in sorted(range(groups), key=lambda g: (-share[g].max(), -share[g].sum(), g)):
        fold[g] = int(np.argmin(load @ share[g]))  # |load + share|^2 - |load|^2, but for a constant
        load[fold[g]] += share[g]
    return fold


def assert_disjoint(sides: Iterable[tuple[str, Iterable[Video]]], kept: Kept = "subject", folder: Path | None = None) -> None:
    """Raise unless every video, every file, and with ``kept = "subject"`` every animal, is on one side only.

    Args:
        sides: name of each side ("train", "test", "fold-0" ...) and its videos.
        folder: the project's folder, for the message.

    Raises:
        FoveateError: naming both videos, the row in videos.csv, and what to do.
    """
    seen: dict[tuple[str, str], tuple[str, Video]] = {}
    for side, videos in sides:
        for video in videos:
            for key in [("video", video.name), *_ties(video, kept)]:
                other_side, other = seen.setdefault(key, (side, video))
                if other_side == side:
                    continue
                what = "the same footage" if key[0] == "footage" else f"{key[0]} {key[1]!r}"
                remedy = "give all videos of an animal the same split; if the test is about new videos of known animals, "
                raise FoveateError(
                    f"{what} would be on two sides: {other_side} (video {other.name!r}, row {other.row}) "
                    f"and {side} (video {video.name!r})",
                    file=VIDEOS if folder is None else folder / VIDEOS,
                    row=video.row,
                    remedy="keep one of the two rows" if key[0] == "footage" else remedy + "set `group: video` under `probe`",
                )
