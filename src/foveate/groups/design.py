"""Who is compared with whom: the groups, their videos, and whether the same animals stand in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveate.actions import predict
from foveate.annotations import artefact as labels_artefact
from foveate.annotations import covariates as independent_variables
from foveate.project import SUBJECTS, VIDEOS, Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG


@dataclass(frozen=True)
class Design:
    """What is compared.

    Attributes:
        groups: two or more, in the order of foveate.yaml or videos.csv.
        videos: those of the groups, in the order of videos.csv.
        paired: two groups in which the same animals stand.
        unmatched: animals of a paired design that stand in one group only, and are left out.
    """

    groups: tuple[str, ...]
    videos: tuple[Video, ...]
    paired: bool = False
    unmatched: tuple[str, ...] = ()


def design(project: Project) -> Design:
    """The design that videos.csv and foveate.yaml describe.

    Raises:
        FoveateError: fewer than two groups, no video is left, labels are not made yet, an unknown covariate, or a few animals stand in
            several groups.
    """
    groups = chosen_groups(project)
    videos = chosen_videos(project, groups)
    _check_covariates(project)
    paired, unmatched = _pairing(project, videos, groups)
    return Design(groups, tuple(videos), paired, unmatched)


def chosen_groups(project: Project) -> tuple[str, ...]:
    """The groups named in foveate.yaml, or all in videos.csv."""
    found = tuple(dict.fromkeys(video.group for video in project.videos if video.group))
    wanted = project.config.compare.groups
    listed = ", ".join(found) or "none"
    if wanted is None:
        if len(found) >= 2:
            return found
        raise FoveateError(
            f"a comparison needs two groups; found: {listed}",
            file=project.folder / VIDEOS,
            remedy="fill in the column `group`, the same for all videos of an animal",
        )
    twice = next((group for group in wanted if wanted.count(group) > 1), None)
    if twice is not None:
        raise FoveateError(
            f"group {twice!r} cannot be compared with itself", file=project.folder / CONFIG, remedy="name different groups"
        )
    for group in wanted:
        if group not in found:
            raise FoveateError(
                f"compare.groups names {group!r}, but videos.csv has: {listed}",
                file=project.folder / CONFIG,
                remedy="correct the name, or the column `group` of videos.csv",
            )
    return wanted


def chosen_videos(project: Project, groups: Sequence[str]) -> list[Video]:
    """The videos that are compared, in the order of videos.csv.

    Raises:
        FoveateError: labels are not made yet, or a group has no video left.
    """
    videos = [video for video in project.videos if video.group in groups]
    if project.config.compare.videos == "unannotated":
        labels = labels_artefact(project)
        if not labels.complete():
            raise FoveateError("the labels are missing or out of date", file=labels.folder, remedy="run `foveate run`")
        annotated = set(labels.facts()["videos"])
        videos = [video for video in videos if video.name not in annotated]
    left = {group: sum(video.group == group for video in videos) for group in groups}
    for group in groups:
        if not left[group]:
            raise FoveateError(
                f"group {group!r} has no video without annotation",
                file=project.folder / VIDEOS,
                remedy=f"add videos, or set `compare: {{videos: all}}` in {CONFIG}; annotated videos then count with the predictions "
                "of the fold that never saw them",
            )
    return videos


def _pairing(project: Project, videos: Sequence[Video], groups: Sequence[str]) -> tuple[bool, tuple[str, ...]]:
    """Whether the same animals stand in both groups, and the animals of a paired design that do not.

    Two or more animals in both groups, and at least half of all, make a pair design; fewer are more likely a slip of the pen.
    """
    first: dict[tuple[str, str], Video] = {}
    of: dict[str, list[str]] = {}
    for video in videos:
        for subject in video.subjects:
            if first.setdefault((subject, video.group), video) is video:
                of.setdefault(subject, []).append(video.group)
    both = [subject for subject, names in of.items() if len(names) > 1]
    if not both:
        return False, ()
    if len(groups) == 2 and len(both) >= 2 and 2 * len(both) >= len(of):
        return True, tuple(subject for subject in of if subject not in both)
    subject = both[0]
    one, other = (first[subject, group] for group in of[subject][:2])
    remedy = (
        "correct the group, or the names in `subjects` if these are different animals; a paired comparison (the same animals before "
        f"and after) needs two animals or more, and at least half of them, in both groups, and here it is {len(both)} of {len(of)}"
        if len(groups) == 2
        else f"name two groups in {CONFIG}, `compare: {{groups: [{of[subject][0]}, {of[subject][1]}]}}`: the same animals in two "
        "groups are compared as pairs, in more than two not yet"
    )
    raise FoveateError(
        f"animal {subject!r} is in {'both groups' if len(groups) == 2 else 'several groups'}: {one.group!r} (video {one.name!r}, "
        f"row {one.row}) and {other.group!r} (video {other.name!r})",
        file=project.folder / VIDEOS,
        row=other.row,
        remedy=remedy,
    )


def with_predictions(project: Project, videos: Sequence[Video], name: str) -> tuple[list[Video], list[Video]]:
    """Videos with finished predictions, and the others: those failed in some stage, which has said so.

    Raises:
        FoveateError: none is finished.
    """

    def there(video: Video) -> bool:
        try:
            return predict.artefact(project, video, name).complete()
        except FoveateError:
            return False

    done = [there(video) for video in videos]
    if not any(done):
        raise FoveateError(
            "no video of these groups has predictions that are up to date",
            file=project.folder / VIDEOS,
            remedy="run `foveate run`",
        )
    return [v for v, d in zip(videos, done, strict=True) if d], [v for v, d in zip(videos, done, strict=True) if not d]


def _check_covariates(project: Project) -> None:
    known = dict.fromkeys(["session"])
    for cells in project.subjects.values():
        known |= dict.fromkeys(cells)
    for video in project.videos:
        known |= dict.fromkeys(video.covariates)
    for told in independent_variables(project).values():
        known |= dict.fromkeys(told)
    for name in project.config.compare.covariates:
        if name not in known:
            raise FoveateError(
                f"compare.covariates names {name!r}, which is no column of {SUBJECTS} or {VIDEOS}, and no independent variable of the "
                f"annotations; there: {', '.join(known)}",
                file=project.folder / CONFIG,
                remedy="correct the name, or add the column",
            )
    if "group" in project.config.compare.covariates:
        raise FoveateError(
            "compare.covariates names 'group', which is what is compared", file=project.folder / CONFIG, remedy="leave it out"
        )


def covariates(project: Project, video: Video, subject: str) -> dict[str, str]:
    """The covariates that foveate.yaml asks for, of one animal in one video; empty text where there is none.

    What subjects.csv says of the animal goes before what videos.csv says of the video, and that before independent variables of BORIS.
    """
    told = independent_variables(project).get(video.name, {})
    given = {name: value for name, value in video.covariates.items() if value}
    of_subject, of_video = project.subjects.get(subject, {}), {**told, **given, "session": video.session}
    return {name: of_subject.get(name) or of_video.get(name, "") for name in project.config.compare.covariates}
