"""What a probe is trained and tested on: labelled rows, sides, groups, folds, and what had to be left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate import timeline
from foveate.actions import embed, smoothing
from foveate.actions.bouts import Strip
from foveate.actions.folds import assert_disjoint, assign_folds, group_videos
from foveate.actions.logistic import Windows
from foveate.actions.selection import group_counts
from foveate.actions.windows import KEYS, Rows, labelled_rows, series_of, video_windows
from foveate.annotations import load_labels
from foveate.project import VIDEOS, Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG, ProbeSettings
from foveate.timeline import Analysed

if TYPE_CHECKING:
    import pandas as pd

    from foveate.annotations import Labels


@dataclass(frozen=True, eq=False)
class Data:
    """Everything the probe learns from.

    Attributes:
        rows: all labelled rows; ``rows.truth`` has one column per entry of ``behaviours``.
        around: rows near them without a label (truth -1): nothing is learned or scored there, but smoothing reaches into them.
        analysed: frames of every video that has rows.
        behaviours: those that can be learned: present and absent somewhere in the training rows.
        train, test: videos of each side that have rows.
        groups: group of every video of both sides.
        fold_of: fold of every training video; empty where one group is all there is.
        problems: behaviours left out, as ``{"problem", "file", "row", "remedy"}``. notes: what a reader should know.
    """

    rows: Rows
    around: Rows
    analysed: dict[str, Analysed]
    behaviours: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    groups: dict[str, int]
    fold_of: dict[str, int]
    problems: list[dict[str, Any]]
    notes: list[str]

    @property
    def folds(self) -> int:
        return max(self.fold_of.values()) + 1 if self.fold_of else 0

    @cached_property
    def everything(self) -> Rows:
        """The labelled rows, then those around them."""
        import pandas as pd

        if not len(self.around.keys):
            return self.rows
        one, two = self.rows.design, self.around.design
        return Rows(
            pd.concat([self.rows.keys, self.around.keys], ignore_index=True),
            np.concatenate([self.rows.truth, self.around.truth]),
            Windows(np.concatenate([one.vectors, two.vectors]), np.concatenate([one.index, two.index + len(one.vectors)])),
        )

    def of_rows(self, table: dict[str, int], missing: int = -1, rows: Rows | None = None) -> NDArray[np.int64]:
        """A number per video, looked up for every labelled row, or every one of ``rows``."""
        names, of = np.unique((rows or self.rows).keys["video"].to_numpy(), return_inverse=True)
        return np.array([table.get(name, missing) for name in names], dtype=np.int64)[of]

    def strip(self, keys: pd.DataFrame) -> Strip:
        """The time axis of rows sorted by video, view, subject and frame."""
        position, duration = np.empty(len(keys), dtype=np.int64), np.empty(len(keys))
        video, frame = keys["video"].to_numpy(), keys["frame"].to_numpy(np.int64)
        for name in np.unique(video):
            mine, found = video == name, self.analysed[name]
            position[mine] = np.searchsorted(found.frame, frame[mine])
            duration[mine] = found.duration[position[mine]]
        return Strip.of(series_of(keys), position, keys["time"].to_numpy(), duration)


def load(project: Project, settings: ProbeSettings) -> Data:
    """Read labels and vectors of all annotated videos and decide who is compared with whom.

    Raises:
        FoveateError: nothing is annotated, vectors are missing, the declared split shares an animal, or nothing can be learned.
    """
    labels = load_labels(project)
    annotated = [project.video(name) for name in labels.videos]
    videos = embed.finished(project, annotated, settings.source)
    if not annotated:
        raise FoveateError(
            "no video is annotated", file=project.folder / "annotations", remedy="add annotations of at least two animals"
        )
    if not videos:
        raise FoveateError(
            "none of the annotated videos has vectors",
            file=project.folder / VIDEOS,
            remedy="see what `foveate status` says of them",
        )
    sides = {side: [v for v in videos if (v.split == "test") == (side == "test")] for side in ("train", "test")}
    assert_disjoint(sides.items(), settings.group, project.folder)
    if not sides["train"]:
        raise FoveateError(
            "all annotated videos are test videos", file=project.folder / VIDEOS, remedy="give some of them the split train"
        )
    rows = labelled_rows(project, videos, labels, settings)
    seen = set(rows.keys["video"])
    train, test = (tuple(v for v in sides[side] if v.name in seen) for side in ("train", "test"))
    notes = [f"{v.name}: annotated, but without vectors, and so left out" for v in annotated if v not in videos]
    notes += [f"{v.name}: the animal was never seen where it is annotated" for v in videos if v.name not in seen]
    keep, problems = _learnable(project, rows, {v.name for v in train}, labels)
    rows = Rows(rows.keys, rows.truth[:, keep], rows.design)
    analysed = {v.name: timeline.analysed(project, v) for v in (*train, *test)}
    around = _around(project, [*train, *test], labels, settings, analysed, len(keep))
    groups = group_videos(videos, settings.group)
    fold_of = _folds(rows, train, groups, settings, notes)
    assert_disjoint(
        [(f"fold-{k}", [v for v in train if fold_of[v.name] == k]) for k in sorted(set(fold_of.values()))],
        settings.group,
        project.folder,
    )
    if sides["test"] and not test:
        notes.append("no test video has a labelled frame, so there is no test score")
    if settings.group == "video" and {s for v in train for s in v.subjects} & {s for v in test for s in v.subjects}:
        notes.append("test and training videos share animals (group: video), so the test is about new videos of known animals")
    behaviours = tuple(labels.behaviours[k] for k in keep)
    return Data(rows, around, analysed, behaviours, train, test, groups, fold_of, problems, notes)


def _around(
    project: Project,
    videos: list[Video],
    labels: Labels,
    settings: ProbeSettings,
    analysed: dict[str, Analysed],
    behaviours: int,
) -> Rows:
    """Rows without any label from which smoothing could reach a labelled one; none where whole videos were annotated."""
    import pandas as pd

    parts: list[tuple[pd.DataFrame, Windows]] = []
    for video in videos:
        frames = analysed[video.name]
        wanted = {}
        for subject in labels.subjects(video.name):
            label = labels.dense(video.name, subject, frames.time, frames.duration)
            near = _near(np.any(label >= 0, axis=1), frames)
            if near.any():
                wanted[subject] = near
        if not wanted:
            continue
        keys, position, design = video_windows(project, video, settings)
        nowhere = np.zeros(len(frames), dtype=bool)
        chosen = np.array([wanted.get(s, nowhere)[k] for s, k in zip(keys["subject"], position, strict=True)], dtype=bool)
        used, renumbered = np.unique(design.index[chosen], return_inverse=True)
        index = renumbered.reshape(-1, settings.window)
        parts.append((keys.iloc[np.flatnonzero(chosen)], Windows(design.vectors[used].astype(np.float16), index)))
    if not parts:
        none = np.zeros((0, settings.window), dtype=np.int64)
        return Rows(pd.DataFrame(columns=KEYS), np.zeros((0, behaviours), np.int8), Windows(np.zeros((0, 1)), none))
    offset = np.cumsum([0, *(len(design.vectors) for _, design in parts)])
    keys = pd.concat([keys for keys, _ in parts], ignore_index=True)
    index = np.concatenate([design.index + o for (_, design), o in zip(parts, offset, strict=False)])
    vectors = np.concatenate([design.vectors for _, design in parts])
    return Rows(keys, np.full((len(keys), behaviours), -1, dtype=np.int8), Windows(vectors, index))


def _near(labelled: NDArray[np.bool_], frames: Analysed) -> NDArray[np.bool_]:
    """Frames without a label that a decision about a labelled one may depend on."""
    if not labelled.any() or labelled.all():
        return np.zeros(len(labelled), dtype=bool)
    reach = smoothing.REACH + 4 * float(frames.duration.max())  # the frames that straddle the limits
    time, known = frames.time, frames.time[labelled]
    after = np.minimum(np.searchsorted(known, time), len(known) - 1)
    before = np.maximum(after - 1, 0)
    near: NDArray[np.bool_] = np.minimum(np.abs(known[after] - time), np.abs(time - known[before])) <= reach
    return near & ~labelled


def _learnable(project: Project, rows: Rows, train: set[str], labels: Labels) -> tuple[list[int], list[dict[str, Any]]]:
    truth = rows.truth[rows.keys["video"].isin(train).to_numpy()]
    keep, problems = [], []
    for k, behaviour in enumerate(labels.behaviours):
        present, absent = bool((truth[:, k] == 1).any()), bool((truth[:, k] == 0).any())
        if present and absent:
            keep.append(k)
            continue
        what = "is present in every" if present else "occurs in no"
        problems.append(
            {
                "problem": f"behaviour {behaviour!r} {what} frame of the training videos that was analysed and observed, "
                "so it cannot be learned and is left out",
                "file": CONFIG,
                "row": None,
                "remedy": f"annotate videos with and without it, or leave it out of `behaviours` in {CONFIG}",
            }
        )
    if not keep:
        reason = problems[0]["problem"] if problems else "no behaviour is named"
        raise FoveateError(
            f"there is nothing to learn: {reason}" if len(truth) else "no annotated animal was seen in an analysed frame",
            file=project.folder / "annotations",
            remedy="annotate more, or check with `foveate status` whether the animals were tracked",
        )
    return keep, problems


def _folds(
    rows: Rows, train: tuple[Video, ...], groups: dict[str, int], settings: ProbeSettings, notes: list[str]
) -> dict[str, int]:
    """Outer fold of every training video; a note where there are fewer than asked for."""
    names = sorted({groups[v.name] for v in train})
    if len(names) < 2:
        notes.append(
            "all training videos are one group (the same video or animals), so there is no cross-validation: the probe's scores on "
            "other animals are unknown, and predictions for its own videos are of a probe that was trained on them"
        )
        return {}
    folds = min(settings.folds, len(names))
    if folds < settings.folds:
        notes.append(f"{len(names)} groups of training videos, so {folds} folds instead of {settings.folds}")
    number = {group: k for k, group in enumerate(names)}
    video = rows.keys["video"].to_numpy()
    mine = np.isin(video, [v.name for v in train])
    counts = group_counts(rows.truth[mine], np.array([number[groups[v]] for v in video[mine]]), len(names))
    fold = assign_folds(counts, folds)
    return {v.name: int(fold[number[groups[v.name]]]) for v in train}
