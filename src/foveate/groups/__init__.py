"""Stage ``compare``: do the animals of two groups behave differently?

The unit is the animal: videos of one animal are not independent, frames even less. The share of a behaviour is the predicted seconds of it
divided by the seconds in which the animal was seen (view ``*``), over all its videos together; a long video therefore weighs more than a
short one. (The publication aggregates per video and does not name its unit; the plain mean of an animal's videos would let a minute count
as much as five hours.) Groups are the column ``group`` of videos.csv.

By default only videos without annotation are used: they had no part in training. With ``videos: all`` annotated ones are added, whose
predictions are out-of-fold.

Per behaviour: two-sided exact Mann-Whitney U test, Holm's correction over the behaviours tested, Cliff's delta with a bootstrap interval. A
behaviour that was predicted for no animal of either group is not tested and does not count in the correction; that is decided without
looking at who is in which group, so p stays exact.

Written to ``comparison/<probe>/``
    proportions.csv   group, subject, behaviour, share, seconds, seen_seconds, videos
    tests.csv         one row per behaviour, see ``TESTS``
    figure.svg, figure.png
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foveate.actions import predict, probe
from foveate.annotations import artefact as labels_artefact
from foveate.jobs import Progress, silent
from foveate.project import CONFIG, VIDEOS, Project, Video
from foveate.schema import FoveateError
from foveate.store import Artefact, damaged, remembered, write_text

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1

PROPORTIONS = ("group", "subject", "behaviour", "share", "seconds", "seen_seconds", "videos")

TESTS = (
    *("behaviour", "tested", "group_1", "group_2", "n_1", "n_2", "mean_1", "mean_2", "median_1", "median_2"),
    *("u", "p", "p_holm", "significant", "mark", "delta", "delta_low", "delta_high", "exact", "note"),
)
"""Columns of tests.csv. Means and medians are shares, 0 to 1. ``u`` belongs to group 1; ``delta`` > 0 means that group 1 is larger.
``mark`` is ``***``, ``**``, ``*`` or ``n.s.`` by ``p_holm``. Where ``tested`` is 0, the statistics are empty and ``note`` says why."""


@remembered
def artefact(project: Project, name: str = "default") -> Artefact:
    """Where the comparison by probe ``name`` is, or will be, with its expected stamp.

    Raises:
        FoveateError: videos.csv does not describe two groups of animals, or no video is left to compare.
    """
    groups = chosen_groups(project)
    videos, _ = with_predictions(project, chosen_videos(project, groups), name)
    parents = {f"predict:{video.name}": predict.artefact(project, video, name).stamp for video in videos}
    settings = project.config.compare.relevant() | {
        "groups": list(groups),
        "members": {video.name: {"group": video.group, "subjects": list(video.subjects)} for video in videos},
    }
    return Artefact(project.stage_folder("comparison", name), "compare", VERSION, settings, parents)


def chosen_groups(project: Project) -> tuple[str, str]:
    """The two groups: those named in foveate.yaml, or the only two in videos.csv."""
    found = list(dict.fromkeys(video.group for video in project.videos if video.group))
    wanted = project.config.compare.groups
    listed = ", ".join(found) or "none"
    if wanted is None:
        if len(found) == 2:
            return found[0], found[1]
        if len(found) > 2:
            raise FoveateError(
                f"{len(found)} groups ({listed}), but two are compared at a time",
                file=project.folder / VIDEOS,
                remedy=f"name two of them in {CONFIG}: `compare: {{groups: [{found[0]}, {found[1]}]}}`",
            )
        raise FoveateError(
            f"a comparison needs two groups; found: {listed}",
            file=project.folder / VIDEOS,
            remedy="fill in the column `group`, the same for all videos of an animal",
        )
    if wanted[0] == wanted[1]:
        raise FoveateError(
            f"group {wanted[0]!r} cannot be compared with itself", file=project.folder / CONFIG, remedy="name two groups"
        )
    for group in wanted:
        if group not in found:
            raise FoveateError(
                f"compare.groups names {group!r}, but videos.csv has: {listed}",
                file=project.folder / CONFIG,
                remedy="correct the name, or the column `group` of videos.csv",
            )
    return wanted


def chosen_videos(project: Project, groups: tuple[str, str]) -> list[Video]:
    """The videos that are compared, in the order of videos.csv.

    Raises:
        FoveateError: labels are not made yet, no video is left, or an animal stands in both groups.
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
    first: dict[str, Video] = {}
    for video in videos:
        for subject in video.subjects:
            other = first.setdefault(subject, video)
            if other.group != video.group:
                raise FoveateError(
                    f"animal {subject!r} is in both groups: {other.group!r} (video {other.name!r}, row {other.row}) and "
                    f"{video.group!r} (video {video.name!r})",
                    file=project.folder / VIDEOS,
                    row=video.row,
                    remedy="a paired comparison (the same animals before and after) is not supported yet; correct the group, or "
                    "the names in `subjects` if these are different animals",
                )
    return videos


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
        raise FoveateError("no video of these groups has predictions", file=project.folder / VIDEOS, remedy="run `foveate run`")
    return [v for v, d in zip(videos, done, strict=True) if d], [v for v, d in zip(videos, done, strict=True) if not d]


def run(project: Project, name: str = "default", progress: Progress = silent) -> Artefact:
    """Compare the two groups by the predictions of probe ``name``.

    Raises:
        FoveateError: predictions are missing, or a group has fewer than two animals.
    """
    target = artefact(project, name)
    if target.complete():
        return target
    from foveate.groups.figure import Panel, draw
    from foveate.groups.statistics import smallest_p

    groups = chosen_groups(project)
    videos, missing = with_predictions(project, chosen_videos(project, groups), name)
    tables = []
    for done, video in enumerate(videos):
        tables.append(_budget(predict.finished(project, video, name), video))
        progress(done + 1, len(videos))
    shares, notes = proportions(tables, groups)
    shares = _restricted(shares, project)
    sizes = _sizes(project, shares, groups)
    notes += [f"video {video.name!r} has no predictions and is left out" for video in missing]
    settings = project.config.compare
    tests = compare(shares, groups, settings.alpha, settings.bootstrap, settings.seed)
    family = int(tests["tested"].sum())
    reachable = smallest_p(*sizes)
    notes.append(
        f"the smallest p that {sizes[0]} against {sizes[1]} animals can reach, when none are equal, is {reachable:.2g}"
    )
    if reachable * family >= settings.alpha:
        notes.append(
            f"corrected for {family} behaviours that is {min(1.0, reachable * family):.2g}, so not even complete separation of the groups "
            f"in one behaviour could be significant at {settings.alpha:g}: more animals, or fewer behaviours chosen beforehand, are needed"
        )
    fitted = [v.name for v in videos if predict.artefact(project, v, name).facts().get("model") == probe.FITTED]
    if fitted:
        notes.append(
            f"{', '.join(fitted)}: predicted by a probe that was trained on them, because there is one group of training videos"
        )
    target.begin()
    write_text(target.path("proportions.csv"), _csv(shares))
    write_text(target.path("tests.csv"), _csv(tests))
    panels = [_panel(Panel, shares, row, groups) for row in tests.to_dict("records")]
    draw(panels, groups, sizes, _footnote(tests, family, settings.alpha), target.path("figure.svg"), target.path("figure.png"))
    target.finish(
        {
            "groups": list(groups),
            "animals": list(sizes),
            "videos": len(videos),
            "behaviours_tested": family,
            "significant": tests.loc[tests["significant"] == 1, "behaviour"].tolist(),
            "alpha": settings.alpha,
            "smallest_p": reachable,
            "problems": [],
            "notes": notes,
        }
    )
    return target


def _budget(source: Artefact, video: Video) -> pd.DataFrame:
    import pandas as pd

    path = source.checked("budget.csv")
    try:
        table = pd.read_csv(path, dtype={"subject": str, "behaviour": str, "video": str}, keep_default_na=False, na_values=[""])
        return table[["video", "subject", "behaviour", "seconds", "seen_seconds"]].assign(group=video.group)
    except (ValueError, KeyError) as error:
        raise damaged(path) from error


def proportions(budgets: Sequence[pd.DataFrame], groups: tuple[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Share of every behaviour of every animal: sum of seconds by sum of seen seconds over its videos.

    Args:
        budgets: per video, columns video, subject, behaviour, seconds, seen_seconds, group.

    Returns:
        columns ``PROPORTIONS``, by group, subject, behaviour in the order in which they come; and notes on animals never seen.
    """
    import pandas as pd

    rows: dict[tuple[str, str, str], list[float]] = {}
    columns = ("group", "subject", "behaviour", "seconds", "seen_seconds")
    for budget in budgets:
        for group, subject, behaviour, seconds, seen in zip(*(budget[c].tolist() for c in columns), strict=True):
            row = rows.setdefault((group, subject, behaviour), [0.0, 0.0, 0])
            row[0], row[1], row[2] = row[0] + seconds, row[1] + seen, row[2] + (seen > 0)
    unseen = sorted({subject for (_, subject, _), (_, seen, _) in rows.items() if seen <= 0})
    notes = [f"animal {subject!r} was never seen and is left out" for subject in unseen]
    table = pd.DataFrame(
        # Rounded, so that equal shares are ties whatever order their seconds were added in.
        [(*key, round(s / seen, 9), s, seen, n) for key, (s, seen, n) in rows.items() if seen > 0],
        columns=list(PROPORTIONS),
    ).astype({"videos": "int64"})
    order = table["group"].map({group: k for k, group in enumerate(groups)})
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True), notes


def _restricted(shares: pd.DataFrame, project: Project) -> pd.DataFrame:
    """Only the behaviours that foveate.yaml names, in its order."""
    wanted = project.config.compare.behaviours
    if wanted is None:
        return shares
    known = list(dict.fromkeys(shares["behaviour"]))
    for behaviour in wanted:
        if behaviour not in known:
            raise FoveateError(
                f"compare.behaviours names {behaviour!r}, which is not predicted; predicted: {', '.join(known)}",
                file=project.folder / CONFIG,
                remedy="correct the name",
            )
    return shares[shares["behaviour"].isin(wanted)].reset_index(drop=True)


def _sizes(project: Project, shares: pd.DataFrame, groups: tuple[str, str]) -> tuple[int, int]:
    sizes = [shares.loc[shares["group"] == group, "subject"].nunique() for group in groups]
    for group, size in zip(groups, sizes, strict=True):
        if size < 2:
            raise FoveateError(
                f"group {group!r} has {size} animal{'' if size == 1 else 's'} that {'was' if size == 1 else 'were'} seen; "
                "animals, not videos, are counted",
                file=project.folder / VIDEOS,
                remedy="add animals: below two a group has no spread. If the videos show different animals, name them in the "
                "column `subjects`",
            )
    return sizes[0], sizes[1]


def compare(shares: pd.DataFrame, groups: tuple[str, str], alpha: float, draws: int, seed: int) -> pd.DataFrame:
    """Test every behaviour; see ``TESTS`` for the columns."""
    import numpy as np
    import pandas as pd

    from foveate.groups import statistics

    rows: list[dict[str, Any]] = []
    for behaviour, table in shares.groupby("behaviour", sort=False):
        x, y = (table.loc[table["group"] == group, "share"].to_numpy(np.float64) for group in groups)
        row: dict[str, Any] = {"behaviour": behaviour, "group_1": groups[0], "group_2": groups[1], "n_1": len(x), "n_2": len(y)}
        row |= {"mean_1": x.mean(), "mean_2": y.mean(), "median_1": np.median(x), "median_2": np.median(y)}
        row["tested"] = int(bool(x.any() or y.any()))
        if row["tested"]:
            test = statistics.mann_whitney(x, y)
            low, high = statistics.delta_interval(x, y, draws, seed)
            row |= {"u": test.u, "p": test.p, "exact": int(test.exact), "delta": statistics.cliffs_delta(x, y)}
            apart = "the groups do not overlap, so the interval of delta is a single point"
            row |= {"delta_low": low, "delta_high": high, "note": apart if abs(row["delta"]) == 1 else ""}
        else:
            row["note"] = "not tested: predicted for no animal of either group"
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(TESTS))
    tested = table["tested"] == 1
    table.loc[tested, "p_holm"] = statistics.holm(table.loc[tested, "p"].to_numpy(np.float64))
    table["significant"] = (table["p_holm"] < alpha).astype("int64")
    table["mark"] = [statistics.stars(p, alpha) if use else "" for p, use in zip(table["p_holm"], tested, strict=True)]
    return table.astype({"exact": "Int64"})


def _panel(kind: Any, shares: pd.DataFrame, row: dict[Any, Any], groups: tuple[str, str]) -> Any:
    mine = shares[shares["behaviour"] == row["behaviour"]]
    first, second = (mine.loc[mine["group"] == group, "share"].to_numpy() for group in groups)
    return kind(str(row["behaviour"]), first, second, row["mark"] or "never predicted")


def _footnote(tests: pd.DataFrame, family: int, alpha: float) -> str:
    exact = "exact " if bool((tests["exact"].dropna() == 1).all()) else ""
    limits = [f"* p < {alpha:g}", "** p < 0.01", "*** p < 0.001", "n.s. not significant"]
    legend = ", ".join(text.replace(" ", "\u00a0") for text in limits)  # none of them is broken over two lines
    over = f"{family} behaviour{'' if family == 1 else 's'}"
    return f"Each dot is one animal. Two-sided {exact}Mann-Whitney U test, Holm correction over {over}: {legend}."


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
