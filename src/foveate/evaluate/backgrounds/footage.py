"""Where pictures with masks and classes come from: a project, a folder in DAVIS' layout, IN-9 as it is published.

project   annotated frames of tracked animals; a class is what goes on at once ("standing, eating"), or which animal it is
DAVIS     JPEGImages/480p/<sequence>/*.jpg, Annotations/480p/<sequence>/*.png, and beside them, optional, classes.csv with the columns
          sequence, class, and where there is one, split (train or test). Without it every sequence is a class of its own: its first half
          is for training, its last third for testing, so that the same scene is behind it and the background gives the class away
IN-9      original, only_fg, no_fg, only_bg_b, only_bg_t, mixed_same, mixed_rand, mixed_next, each with val/<class>/*
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate import masks as rle_masks
from foveate import timeline
from foveate.attention.looking import Looked, Place, look, spread, tracked
from foveate.evaluate.backgrounds.challenge import Task
from foveate.evaluate.backgrounds.composites import Scene
from foveate.masks import Mask
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv

SUBJECTS = "subjects"
"""In place of behaviours: which animal it is."""
GROUPS, PICTURES = 3, 15
"""What a class has at least: animals (or videos), and pictures."""


@dataclass(frozen=True)
class _Candidate:
    place: Place
    label: str
    group: str


def of_project(
    project: Project,
    videos: Sequence[Video],
    source: Literal["crop", "frame"],
    size: int,
    pictures: int,
    classes: Sequence[str] = (),
) -> Task:
    """A task of annotated frames.

    Args:
        project: tracked, cropped and annotated.
        videos: annotated ones with finished crops.
        source: crops as they are stored, or whole views.
        size: pixels, of crops on each side, of views on the short one.
        pictures: in all, at most; spread evenly over classes, animals and time.
        classes: behaviours; a picture's class is which of them go on. Empty: all of foveate.yaml. ``("subjects",)``: the animal.

    Raises:
        FoveateError: an unknown behaviour, or fewer than two classes that enough animals show.
    """
    found = _candidates(project, videos, classes)
    by_label: dict[str, list[_Candidate]] = {}
    for one in found:
        by_label.setdefault(one.label, []).append(one)
    few = 2 if tuple(classes) == (SUBJECTS,) else GROUPS  # an animal need not be in more than two videos
    names = sorted(label for label, own in by_label.items() if len(own) >= PICTURES and len({one.group for one in own}) >= few)
    if len(names) < 2:
        seen = ", ".join(f"{label} ({len(own)} pictures of {len({o.group for o in own})})" for label, own in by_label.items())
        what = "videos" if tuple(classes) == (SUBJECTS,) else "animals"
        raise FoveateError(
            f"there are fewer than two classes with {PICTURES} pictures of {few} {what}: {seen or 'none'}",
            file=project.folder,
            remedy="annotate more, or name behaviours that exclude each other: --classes standing lying",
        )
    chosen = [one for name in names for one in _spread(by_label[name], pictures // len(names))]
    of_place = {one.place: one for one in chosen}
    scenes, kept = [], []
    for video in videos:
        places = [one.place for one in chosen if one.place.video == video.name]
        for looked in look(project, video, places, source) if places else ():
            scene = _scene(looked, size)
            if scene.usable():
                scenes.append(scene)
                kept.append(of_place[looked.place])
    label = np.array([names.index(one.label) for one in kept], np.int64)
    return _task(scenes, label, np.array([one.group for one in kept], np.str_), tuple(names), project.folder)


def _candidates(project: Project, videos: Sequence[Video], classes: Sequence[str]) -> list[_Candidate]:
    from foveate.actions.folds import group_videos
    from foveate.annotations import load_labels

    if tuple(classes) == (SUBJECTS,):
        return [
            _Candidate(place, place.subject, video.name)
            for video in videos
            for place in chain.from_iterable(tracked(project, video))
        ]
    labels, found = load_labels(project), []
    unknown = [name for name in classes if name not in labels.behaviours]
    if unknown:
        raise FoveateError(
            f"there is no behaviour {unknown[0]!r}", file=project.folder, remedy=f"there are: {', '.join(labels.behaviours)}"
        )
    wanted = [labels.behaviours.index(name) for name in classes or labels.behaviours]
    groups = group_videos(videos)
    for video in videos:
        analysed = timeline.analysed(project, video)
        for places in tracked(project, video):
            at = np.searchsorted(analysed.frame, [place.frame for place in places])
            known = labels.dense(video.name, places[0].subject, analysed.time[at], analysed.duration[at])[:, wanted]
            for place, row in zip(places, known, strict=True):
                if (row >= 0).all() and row.any():
                    label = ", ".join(labels.behaviours[wanted[k]] for k in np.flatnonzero(row))
                    found.append(_Candidate(place, label, str(groups[video.name])))
    return found


def _spread(own: list[_Candidate], most: int) -> list[_Candidate]:
    """At most so many of one class, as many of each group as can be, evenly over time."""
    groups = sorted({one.group for one in own})
    by_group = {group: [one for one in own if one.group == group] for group in groups}
    share = dict.fromkeys(groups, 0)
    for _ in range(min(most, len(own))):
        open_ones = [group for group in groups if share[group] < len(by_group[group])]
        share[min(open_ones, key=lambda group: share[group])] += 1
    return [by_group[group][k] for group in groups if share[group] for k in spread(len(by_group[group]), share[group])]


def _scene(looked: Looked, size: int) -> Scene:
    height, width = looked.picture.shape[:2]
    scale = size / (height if looked.square else min(height, width))
    target = (size, size) if looked.square else (round(height * scale), round(width * scale))
    picture, mask = _sized(looked.picture, looked.mask, target)
    rows, columns = (np.flatnonzero(looked.within.any(axis)) for axis in (1, 0))
    down, across = target[0] / height, target[1] / width
    inside = (
        int(np.ceil(columns[0] * across)),
        int(np.ceil(rows[0] * down)),
        int((columns[-1] + 1) * across),
        int((rows[-1] + 1) * down),
    )
    return Scene(picture[None], mask[None], inside)


def _sized(picture: NDArray[np.uint8], mask: Mask, size: tuple[int, int]) -> tuple[NDArray[np.uint8], Mask]:
    from PIL import Image

    small = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(small), rle_masks.resample(mask, *size)


def _task(
    scenes: list[Scene],
    label: NDArray[np.int64],
    group: NDArray[np.str_],
    classes: tuple[str, ...],
    place: Path,
    train: NDArray[np.bool_] | None = None,
    test: NDArray[np.bool_] | None = None,
) -> Task:
    """Classes that have lost all pictures are not counted as classes."""
    there = np.unique(label)
    if len(there) < 2:
        raise FoveateError(
            "the subjects fill their pictures, so that no background is left to be exchanged",
            file=place,
            remedy="use whole views: --source frame",
        )
    numbers = np.searchsorted(there, label)
    return Task(scenes, numbers, group, tuple(classes[k] for k in there.tolist()), train, test)


# --- DAVIS' layout ---------------------------------------------------------------------------------------------------------------


def of_folder(data: Path, size: int, pictures: int, sequences: Sequence[str] = ()) -> Task:
    """A task of a folder in DAVIS' layout, see above; all objects of a sequence together are its subject.

    Raises:
        FoveateError: what is missing in the folder, a class of ``classes.csv`` that cannot be tested, or fewer than two classes.
    """
    from foveate.evaluate.davis import VOID, read_folder, read_labels
    from foveate.evaluate.pictures import open_picture

    footage = list(read_folder(data, sequences))
    table = _classes(data / "classes.csv", [one.name for one in footage])
    names = sorted({label for label, _ in table.values()}) if table else [one.name for one in footage]
    split = any(side for _, side in table.values())
    scenes, label, group, train, test = [], [], [], [], []
    for one in footage:
        own = table.get(one.name, (one.name, ""))
        alike = sum(label_of == own[0] for label_of, _ in table.values()) if table else 1
        for k in spread(len(one.pictures), max(2, pictures // len(names) // alike)):
            mask = read_labels(one.annotations[k])
            picture = open_picture(one.pictures[k])
            scale = size / min(picture.shape[:2])
            target = round(picture.shape[0] * scale), round(picture.shape[1] * scale)
            shown, subject = _sized(picture, (mask > 0) & (mask != VOID), target)
            scene = Scene(shown[None], subject[None])
            if not scene.usable():
                continue
            share = k / len(one.pictures)
            scenes.append(scene)
            label.append(names.index(own[0]))
            # Without classes two stretches of one sequence stand on the two sides, and a third of a sixth is left between them.
            group.append(one.name if table else f"{one.name} {'first' if share < 0.5 else 'last'}")
            train.append(own[1] == "train" if table else share < 0.5)
            test.append(own[1] == "test" if table else share >= 2 / 3)
    place, given = data / "classes.csv", not table or split
    made = _task(
        scenes,
        np.array(label, np.int64),
        np.array(group, np.str_),
        tuple(names),
        data,
        np.array(train, bool) if given else None,
        np.array(test, bool) if given else None,
    )
    if made.train is not None and made.test is not None:
        missing = set(made.label[made.test]) - set(made.label[made.train])
        if missing or not made.test.any():
            which = made.classes[min(missing)] if missing else "any class"
            raise FoveateError(
                f"there is nothing to train and to test {which!r} on", file=place, remedy="give each class both sides"
            )
    return made


def _classes(path: Path, known: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Class and side of each sequence; empty where there is no such file."""
    if not path.is_file():
        return {}
    found: dict[str, tuple[str, str]] = {}
    for number, row in read_csv(path, ("sequence", "class")):
        side = row.get("split", "")
        if not row["sequence"] or not row["class"] or side not in ("", "train", "test"):
            raise FoveateError(
                "this row cannot be used",
                file=path,
                row=number,
                remedy="columns: sequence, class, split (train, test or empty)",
            )
        found[row["sequence"]] = row["class"], side
    missing = [name for name in known if name not in found]
    if missing:
        raise FoveateError(f"sequence {missing[0]!r} has no class", file=path, remedy="give every sequence a row")
    return found


# --- IN-9 as published -----------------------------------------------------------------------------------------------------------


def pictures_of(folder: Path, names: Sequence[str]) -> Iterator[tuple[Path, int]]:
    """Files of ``folder/<class>/*`` and the numbers of their classes."""
    from foveate.data.sources import PICTURES as ENDINGS

    for number, name in enumerate(names):
        files = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in ENDINGS)
        if not files:
            raise FoveateError("this class has no picture", file=folder / name, remedy="unpack the data set again")
        yield from ((path, number) for path in files)
