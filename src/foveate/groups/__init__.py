"""Stage ``compare``: do the animals of the groups behave differently?

The unit is the animal: videos of one animal are not independent, frames even less. The share of a behaviour is the predicted seconds of it
divided by the seconds in which the animal was seen (view ``*``), over all its videos together; a long video therefore weighs more than a
short one. (The publication aggregates per video and does not name its unit; the plain mean of an animal's videos would let a minute count
as much as five hours.) Groups are the column ``group`` of videos.csv.

By default only videos without annotation are used: they had no part in training. With ``videos: all`` annotated ones are added, whose
predictions are out-of-fold.

**Primary**, the only family with stars: the share of every behaviour; two-sided exact Mann-Whitney U test of two groups, Wilcoxon's
signed-rank test where the same animals stand in both, Kruskal-Wallis of more; Holm's correction over the behaviours tested. A behaviour
that was predicted for no animal of any group is not tested and does not count in the correction; that is decided without looking at who
is in which group, so p stays exact.

**Secondary**, without stars: Welch's test, q values and Hedges' g of the same shares; bouts, durations, latencies, transitions and bins of
time; Dunn's test of every two of several groups; a linear model with covariates and repeated sessions; shares corrected for the errors that
the probe makes in the annotated videos; and the variant with videos for units, as the publication has it.

Written to ``comparison/<probe>/``
    proportions.csv   ``measures.PROPORTIONS``           tests.csv       ``tables.test_columns``
    measures.csv      ``measures.MEASURES``              secondary.csv   ``tables.secondary_columns``
    transitions.csv   ``measures.TRANSITIONS``           bins.csv        ``measures.BINS``, with ``compare.bin``
    corrected.csv     ``corrected.CORRECTED``            corrected_differences.csv   ``corrected.DIFFERENCES``, of two groups
    pairs.csv         ``tables.PAIRS``, more groups      mixed.csv       ``mixed.MIXED``, with covariates or several sessions per animal
    figure.svg, figure.png, corrected.svg, transitions.svg, bins.svg
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foveate.actions import predict, probe
from foveate.groups.design import Design, covariates, design, with_predictions
from foveate.jobs import Progress, silent
from foveate.project import VIDEOS, Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG
from foveate.store import Artefact, remembered, snapshot, write_text

if TYPE_CHECKING:
    import pandas as pd

    from foveate.groups.measures import Recording

VERSION = 7

NAMES = {
    "mann-whitney": "Mann-Whitney U test",
    "wilcoxon": "Wilcoxon signed-rank test of the pairs",
    "kruskal-wallis": "Kruskal-Wallis test",
}
"""Of the primary tests, as tests.csv calls them."""


@remembered
def artefact(project: Project, name: str = "default") -> Artefact:
    """Where the comparison by probe ``name`` is, or will be, with its expected stamp.

    Raises:
        FoveateError: videos.csv does not describe groups of animals, or no video is left to compare.
    """
    chosen = design(project)
    videos, _ = with_predictions(project, chosen.videos, name)
    parents = {f"predict:{video.name}": predict.artefact(project, video, name).stamp for video in videos}
    members = {
        video.name: {
            "group": video.group,
            "session": video.session,
            "subjects": {s: covariates(project, video, s) for s in video.subjects},
        }
        for video in videos
    }
    settings = project.config.compare.relevant() | {
        "groups": list(chosen.groups),
        "members": members,
        "of_all": {
            video.name: video.group for video in project.videos if video.group
        },  # of the annotated ones, for their errors
    }
    return Artefact(project.stage_folder("comparison", name), "compare", VERSION, settings, parents)


def run(project: Project, name: str = "default", progress: Progress = silent) -> Artefact:
    """Compare the groups by the predictions of probe ``name``.

    Raises:
        FoveateError: predictions are missing, or a group has fewer than two animals.
    """
    with snapshot():  # the stamps of all videos are asked for several times
        return _compare(project, name, progress)


def _compare(project: Project, name: str, progress: Progress) -> Artefact:
    target = artefact(project, name)
    if target.complete():
        return target
    from foveate.groups import measures, tables

    chosen = design(project)
    videos, missing = with_predictions(project, chosen.videos, name)
    found: list[Recording] = []
    for done, video in enumerate(videos):
        found += measures.recordings(predict.finished(project, video, name), video)
        progress(done + 1, len(videos))
    shares, notes = measures.proportions(found)
    notes += [f"video {video.name!r} has no predictions and is left out" for video in missing]
    aside = sum(video.group in chosen.groups and video not in chosen.videos for video in project.videos)
    if aside:
        notes.append(
            f"{aside} annotated video{'' if aside == 1 else 's'} of these groups {'is' if aside == 1 else 'are'} not compared; "
            "`compare: {videos: all}` takes annotated ones too, with the predictions of folds that never saw them"
        )
    shares, sizes = _counted(project, _restricted(shares, project), chosen, notes)
    kept = set(zip(shares["group"], shares["subject"], strict=True))
    behaviours = list(dict.fromkeys(shares["behaviour"]))
    found = [_only(r, behaviours) for r in found if (r.group, r.subject) in kept]
    settings = project.config.compare
    tests = tables.primary(
        shares, tables.video_shares(found), chosen.groups, chosen.paired, settings.alpha, settings.bootstrap, settings.seed
    )
    notes += _reach(tests, sizes, chosen, settings.alpha) + _fitted(project, videos, name)
    target.begin()
    _write(target, "proportions", shares)
    _write(target, "tests", tests)
    facts = _secondary(target, project, name, chosen, found, shares, tests, notes)
    _draw(target, shares, tests, chosen, sizes, settings.alpha)
    reached = tests["smallest_p"].dropna()
    target.finish(
        {
            "groups": list(chosen.groups),
            "animals": list(sizes),
            "videos": len(videos),
            "paired": chosen.paired,
            "test": next(iter(tests["test"].dropna()), ""),
            "behaviours_tested": int(tests["tested"].sum()),
            "significant": tests.loc[tests["significant"] == 1, "behaviour"].tolist(),
            "alpha": settings.alpha,
            "smallest_p": float(reached.min()) if len(reached) else None,
            "problems": [],
            "notes": notes,
            **facts,
        }
    )
    return target


def _restricted(shares: pd.DataFrame, project: Project) -> pd.DataFrame:
    """Only the behaviours that foveate.yaml names."""
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


def _counted(
    project: Project, shares: pd.DataFrame, chosen: Design, notes: list[str]
) -> tuple[pd.DataFrame, tuple[int, ...]]:  # fmt: skip
    """The animals that count, groups in their order, and their number in each group."""
    if chosen.paired:
        groups = shares.groupby("subject")["group"].nunique()
        alone = [s for s in dict.fromkeys(shares["subject"]) if groups[s] < 2]
        notes.append(
            f"the same animals stand in {' and '.join(chosen.groups)}, so they are compared with themselves (Wilcoxon's signed-rank test)"
        )
        left_out = list(dict.fromkeys([*chosen.unmatched, *alone]))
        if left_out:
            notes.append(f"seen in one group only, and left out of the pairs: {', '.join(left_out)}")
        shares = shares[~shares["subject"].isin(left_out)]
    order = shares["group"].map({group: k for k, group in enumerate(chosen.groups)})
    shares = shares.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)
    sizes = tuple(int(shares.loc[shares["group"] == group, "subject"].nunique()) for group in chosen.groups)
    for group, size in zip(chosen.groups, sizes, strict=True):
        if size < 2:
            raise FoveateError(
                f"group {group!r} has {size} animal{'' if size == 1 else 's'} that {'was' if size == 1 else 'were'} seen; "
                "animals, not videos, are counted",
                file=project.folder / VIDEOS,
                remedy="add animals: below two a group has no spread. If the videos show different animals, name them in the "
                f"column `subjects`{_ANNOTATED if project.config.compare.videos == 'unannotated' else ''}",
            )
    return shares, sizes


_ANNOTATED = f". Annotated videos are not compared, unless {CONFIG} says `compare: {{videos: all}}`"


def _only(r: Recording, behaviours: Sequence[str]) -> Recording:
    from dataclasses import replace

    if list(r.seconds) == list(behaviours):
        return r
    return replace(r, seconds={b: r.seconds[b] for b in behaviours}, bouts={b: r.bouts[b] for b in behaviours})


def _reach(tests: pd.DataFrame, sizes: Sequence[int], chosen: Design, alpha: float) -> list[str]:
    """What these numbers of animals can show at all."""
    reached = tests["smallest_p"].dropna()
    if not len(reached):
        return []
    reachable, family = float(reached.min()), len(reached)
    who = f"{sizes[0]} pairs" if chosen.paired else f"{' against '.join(map(str, sizes))} animals"
    notes = [f"the smallest p that {who} can reach, when none are equal, is {reachable:.2g}"]
    if reachable * family >= alpha:
        separated = "a change of all animals in the same direction" if chosen.paired else "complete separation of the groups"
        notes.append(
            f"corrected for {family} behaviours that is {min(1.0, reachable * family):.2g}, so not even {separated} "
            f"in one behaviour could be significant at {alpha:g}: more animals, or fewer behaviours chosen beforehand, are needed"
        )
    return notes


def _fitted(project: Project, videos: Sequence[Video], name: str) -> list[str]:
    fitted = [v.name for v in videos if predict.artefact(project, v, name).facts().get("model") == probe.FITTED]
    because = "predicted by a probe that was trained on them, because there is one group of training videos"
    return [f"{', '.join(fitted)}: {because}"] if fitted else []


def _secondary(
    target: Artefact,
    project: Project,
    name: str,
    chosen: Design,
    found: Sequence[Recording],
    shares: pd.DataFrame,
    tests: pd.DataFrame,
    notes: list[str],
) -> dict[str, Any]:
    """Write everything beside the primary tests; what of it there is, for ``facts``."""
    from foveate.groups import corrected, figures_more, measures, mixed, tables

    settings, groups = project.config.compare, chosen.groups
    tested = tests.loc[tests["tested"] == 1, "behaviour"].tolist()
    measured, moved = measures.per_animal(found), measures.transitions(found)
    _write(target, "measures", measured)
    _write(target, "transitions", moved)
    moved = moved[moved["behaviour"].isin(tested) & moved["to"].isin(tested)]
    in_bins = measures.in_bins(found, settings.bin) if settings.bin else None
    if in_bins is not None:
        _write(target, "bins", in_bins)
        figures_more.bins(in_bins, groups, target.path("bins.svg"))
        in_bins = in_bins[in_bins["behaviour"].isin(tested)]
    of_tested = measured[measured["behaviour"].isin(tested)]
    _write(target, "secondary", tables.secondary(of_tested, moved, in_bins, groups, chosen.paired, settings.seed))
    if len(moved):
        figures_more.transitions(moved, groups, target.path("transitions.svg"))
    if len(groups) > 2:
        _write(target, "pairs", tables.dunn_pairs(shares, groups))

    sessions = measured[(measured["session"] != measures.ALL_SESSIONS) & measured["behaviour"].isin(tested)]
    several = bool((sessions.groupby(["group", "subject"])["session"].nunique() > 1).any()) if len(sessions) else False
    if several or settings.covariates:
        known, unlike = _known(project, found)
        model, left_out = mixed.table(sessions, groups, settings.covariates, known)
        notes += unlike + left_out
        _write(target, "mixed", model)

    folds = probe.artefact(project, name).table("folds.parquet").to_pandas()
    errors = corrected.rectifiers(folds[folds["view"] == "*"], tested, {v.name: v.group for v in project.videos})
    predicted: dict[str, dict[str, dict[str, float]]] = {b: {g: {} for g in groups} for b in tested}
    for row in shares[shares["behaviour"].isin(tested)].itertuples():
        predicted[str(row.behaviour)][str(row.group)][str(row.subject)] = float(row.share)  # type: ignore[arg-type]
    table, differences = corrected.tables(predicted, errors, groups)
    _write(target, "corrected", table)
    if len(table):
        figures_more.corrected(table, groups, target.path("corrected.svg"))
    if len(groups) == 2:
        _write(target, "corrected_differences", differences)
    return {"sessions": several, "covariates": list(settings.covariates), "bin": settings.bin}


def _known(project: Project, found: Sequence[Recording]) -> tuple[dict[tuple[str, str, str], dict[str, str]], list[str]]:
    """(group, subject, session) -> covariates, of the first video of the session; and notes where another video says otherwise."""
    known: dict[tuple[str, str, str], dict[str, str]] = {}
    unlike: dict[str, None] = {}
    for r in found:
        said = covariates(project, project.video(r.video), r.subject)
        first = known.setdefault((r.group, r.subject, r.session), said)
        for name in said:
            if said[name] != first[name]:
                unlike[
                    f"{name} differs between videos of {r.subject} in session {r.session}; that of the first video is used"
                ] = None
    return known, list(unlike)


def _draw(
    target: Artefact, shares: pd.DataFrame, tests: pd.DataFrame, chosen: Design, sizes: Sequence[int], alpha: float
) -> None:
    from foveate.groups.figure import Panel, draw
    from foveate.groups.tables import sample

    panels = []
    for row in tests.to_dict("records"):
        mine = sample(shares[shares["behaviour"] == row["behaviour"]], chosen.groups, "share", chosen.paired)
        panels.append(Panel(str(row["behaviour"]), mine.values, row["mark"] or "never predicted"))
    note = _footnote(tests, alpha)
    draw(panels, chosen.groups, sizes, note, target.path("figure.svg"), target.path("figure.png"), chosen.paired)


def _footnote(tests: pd.DataFrame, alpha: float) -> str:
    used = tests["test"].dropna().tolist()
    exact = "exact " if bool((tests["exact"].dropna() == 1).all()) else ""
    sided = "" if "kruskal-wallis" in used else "two-sided "
    words = f"{sided}{exact}{NAMES[used[0]]}" if used else "nothing was tested"
    limits = [f"* p < {alpha:g}", "** p < 0.01", "*** p < 0.001", "n.s. not significant"]
    legend = ", ".join(text.replace(" ", "\u00a0") for text in limits)  # none of them is broken over two lines
    over = f"{len(used)} behaviour{'' if len(used) == 1 else 's'}"
    return f"Each dot is one animal. {words[:1].upper()}{words[1:]}, Holm correction over {over}: {legend}."


def _write(target: Artefact, name: str, table: pd.DataFrame) -> None:
    write_text(target.path(f"{name}.csv"), str(table.to_csv(index=False, float_format="%.8g", lineterminator="\n")))
