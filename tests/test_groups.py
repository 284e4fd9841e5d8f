"""The comparison: statistics against scipy, statsmodels and enumeration; units, refusals, and a figure with fixed bytes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from statsmodels.stats.multitest import multipletests

from foveate import groups
from foveate.actions import predict, probe
from foveate.groups import effects, figure, measures, statistics, tables
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.store import write_text
from tests import probed

torch.set_num_threads(1)

# --- statistics ------------------------------------------------------------------------------------------------------------------

distinct = st.lists(st.integers(0, 10_000), min_size=4, max_size=24, unique=True)
tied = st.lists(st.integers(0, 4), min_size=2, max_size=6)


@settings(max_examples=100, deadline=None)
@given(values=distinct, share=st.floats(0.1, 0.9))
def test_exact_without_ties_is_scipy(values: list[int], share: float) -> None:
    n = min(max(1, round(share * len(values))), len(values) - 1)
    ours = statistics.mann_whitney(values[:n], values[n:])
    theirs = scipy.stats.mannwhitneyu(values[:n], values[n:], alternative="two-sided", method="exact")
    assert ours.statistic == theirs.statistic and ours.exact
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(x=tied, y=tied)
def test_exact_with_ties_is_enumeration(x: list[int], y: list[int]) -> None:
    """Every way to deal the pooled values, one by one."""
    ranks = scipy.stats.rankdata(x + y)
    n, m = len(x), len(y)
    centre = n * (n + m + 1) / 2
    far = abs(ranks[:n].sum() - centre)
    dealt = [abs(sum(deal) - centre) >= far - 1e-9 for deal in itertools.combinations(ranks, n)]
    assert statistics.mann_whitney(x, y).p == pytest.approx(np.mean(dealt), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(x=tied, y=tied)
def test_swapping_the_groups_changes_nothing_but_the_sign(x: list[int], y: list[int]) -> None:
    a, b = statistics.mann_whitney(x, y), statistics.mann_whitney(y, x)
    assert a.p == pytest.approx(b.p, rel=1e-12) and a.statistic + b.statistic == len(x) * len(y)
    assert effects.cliffs_delta(x, y) == -effects.cliffs_delta(y, x)
    assert effects.cliffs_delta(x, y) == pytest.approx(2 * a.statistic / (len(x) * len(y)) - 1)


@pytest.mark.parametrize("values", [np.arange(9.0), np.array([0, 0, 0, 1, 1, 2, 3, 3, 5.0])])
def test_p_is_valid_and_as_uniform_as_it_can_be(values: np.ndarray) -> None:
    """Over all ways to deal nine animals to groups of four and five, p <= t happens with probability at most t, and exactly t at each
    value that p can take."""
    p = []
    for chosen in itertools.combinations(range(9), 4):
        rest = [i for i in range(9) if i not in chosen]
        p.append(statistics.mann_whitney(values[list(chosen)], values[rest]).p)
    for t in sorted(set(np.round(p, 12))):
        assert np.mean(np.array(p) <= t + 1e-9) == pytest.approx(t, abs=1e-9)


def test_smallest_p() -> None:
    assert statistics.smallest_p(7, 7) == pytest.approx(5.8e-4, rel=0.01)  # as the specification says
    for n, m in ((2, 2), (3, 4), (7, 7), (2, 9)):
        apart = statistics.mann_whitney(range(n), range(100, 100 + m))
        assert apart.p == pytest.approx(statistics.smallest_p(n, m)) and apart.statistic == 0
        assert effects.cliffs_delta(range(n), range(100, 100 + m)) == -1
        assert effects.cliffs_delta(range(100, 100 + m), range(n)) == 1


def test_all_equal_is_no_difference() -> None:
    assert statistics.mann_whitney([2.0] * 3, [2.0] * 4).p == 1
    assert effects.cliffs_delta([2.0] * 3, [2.0] * 4) == 0


def test_larger_groups_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(0.4, size=35)
    exact = statistics.mann_whitney(x, y)
    assert exact.exact and exact.p == pytest.approx(scipy.stats.mannwhitneyu(x, y, method="exact").pvalue, rel=1e-9)
    monkeypatch.setattr(statistics, "_EXACT_WORK", 0)
    for a, b in ((x, y), (np.round(x), np.round(y))):
        near = statistics.mann_whitney(a, b)
        assert not near.exact
        assert near.p == pytest.approx(scipy.stats.mannwhitneyu(a, b, method="asymptotic").pvalue, rel=1e-9)
    assert statistics.mann_whitney([1.0, 1.0], [1.0, 1.0]).p == 1


def test_empty_or_infinite_values_are_refused() -> None:
    with pytest.raises(ValueError, match="need values"):
        statistics.mann_whitney([], [1.0])
    with pytest.raises(ValueError, match="finite"):
        statistics.mann_whitney([np.nan], [1.0])


def test_holm_is_statsmodels() -> None:
    """A few cases: theirs collects garbage each time, which takes half a second beside torch."""
    rng = np.random.default_rng(0)
    for p in (rng.random(7), rng.random(12) ** 4, np.array([0.01, 0.01, 0.04, 0.5]), np.array([0.3])):
        np.testing.assert_allclose(statistics.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_never_smaller(p: list[float]) -> None:
    ours = statistics.holm(p)
    assert (ours >= np.array(p)).all() and (ours <= 1).all()
    assert (np.diff(ours[np.argsort(p, kind="stable")]) >= 0).all()


def test_delta_bootstrap() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 12), rng.normal(0, 1, 10)
    low, high = effects.delta_bootstrap(x, y, draws=4000, seed=3)
    assert -1 <= low < effects.cliffs_delta(x, y) < high <= 1
    assert effects.delta_bootstrap(x, y, draws=4000, seed=3) == (low, high)
    assert effects.delta_bootstrap(y, x, draws=4000, seed=3) == pytest.approx((-high, -low), abs=0.05)
    assert effects.delta_bootstrap([1, 2], [5, 6]) == (-1, -1)
    theirs = scipy.stats.bootstrap(
        (x, y), effects.cliffs_delta, method="percentile", n_resamples=4000, vectorized=False, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_stars() -> None:
    assert [statistics.stars(p) for p in (0.0009, 0.001, 0.01, 0.049, 0.05, 1.0)] == ["***", "**", "*", "*", "n.s.", "n.s."]
    assert statistics.stars(0.02, alpha=0.01) == "n.s."


# --- animals ---------------------------------------------------------------------------------------------------------------------


def recording(video: str, subject: str, group: str, seen: float, session: str = "", **seconds: float) -> measures.Recording:
    """One bout per behaviour, all from the start."""
    bouts = {b: (np.zeros(int(s > 0)), np.full(int(s > 0), s)) for b, s in seconds.items()}
    there = (np.zeros(1), np.array([seen])) if seen else (np.zeros(0), np.zeros(0))
    return measures.Recording(video, group, session or video, subject, *there, seen, seconds, bouts)


def test_share_is_seconds_by_seen_seconds_over_all_videos() -> None:
    found = [
        recording("v1", "b", "treated", 10, eat=1, lie=0),
        recording("v2", "a", "control", 60, eat=30, lie=6),
        recording("v3", "a", "control", 540, eat=30, lie=0),
        recording("v4", "z", "control", 0, eat=0, lie=0),
    ]
    table, notes = measures.proportions(found)
    share = table.set_index(["subject", "behaviour"])["share"]
    assert share["a", "eat"] == pytest.approx(0.1) and share["a", "lie"] == pytest.approx(0.01) and share["b", "eat"] == 0.1
    assert table.set_index(["subject", "behaviour"]).loc[("a", "eat"), "videos"] == 2
    assert notes[0] == "animal 'z' was never seen and is left out"
    assert notes[1:] == ["animal 'b' was seen for 10 s only (the median is 305 s) and counts as much as the others"]


def test_equal_shares_are_ties_however_they_were_added() -> None:
    thirds = [recording(f"v{k}", "a", "control", 0.3, eat=0.1) for k in range(3)]
    whole = [recording("w", "b", "treated", 0.9, eat=0.3)]
    table, _ = measures.proportions([*thirds, *whole])
    assert 0.1 + 0.1 + 0.1 != 0.3 and table["share"].nunique() == 1


def shares(values: dict[str, Sequence[Sequence[float]]], paired: bool = False) -> pd.DataFrame:
    rows = [
        (group, f"{i}" if paired else f"{group}{i}", behaviour, value, value, 1.0, 1)
        for behaviour, both in values.items()
        for group, animals in zip(GROUPS, both, strict=False)
        for i, value in enumerate(animals)
    ]
    return pd.DataFrame(rows, columns=list(measures.PROPORTIONS))


GROUPS = ("control", "treated", "sham")


def compared(values: dict[str, Sequence[Sequence[float]]], paired: bool = False) -> pd.DataFrame:
    table = shares(values, paired)
    videos = table.rename(columns={"subject": "video"})
    groups = GROUPS[: len(next(iter(values.values())))]
    return tables.primary(table, videos, groups, paired, 0.05, 200, 0)


def test_behaviours_never_predicted_are_not_tested_and_do_not_count() -> None:
    high, low = [0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]
    some = {"stand": (high, low), "eat": ([0.1, 0.2, 0.3, 0.4], [0.15, 0.25, 0.35, 0.05])}
    with_none = compared({**some, "drink": ([0.0] * 4, [0.0] * 4)})
    without = compared(some)
    assert list(with_none["tested"]) == [1, 1, 0]
    drink = with_none.iloc[2]
    assert np.isnan(drink["p"]) and np.isnan(drink["p_holm"]) and drink["mark"] == "" and "not tested" in drink["note"]
    pd.testing.assert_frame_equal(with_none.iloc[:2], without)
    stand = with_none.iloc[0]
    assert stand["p"] == pytest.approx(2 / 70) and stand["p_holm"] == pytest.approx(4 / 70) and stand["mark"] == "n.s."
    assert stand["effect"] == 1 and stand["statistic"] == 16 and stand["median_1"] == pytest.approx(0.65)
    assert stand["boot_low"] == 1 > stand["effect_low"]  # the bootstrap has nothing to vary
    alone = compared({"stand": (high, low)}).iloc[0]
    assert alone["significant"] == 1 and alone["mark"] == "*"
    turned = compared({"stand": (low, high)}).iloc[0]
    assert turned["p"] == stand["p"] and turned["effect"] == -1


# --- the stage -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four annotated videos; twelve more of five animals each, of which the treated ones eat half as much."""
    control, treated = [f"c{i}" for i in range(5)], [f"t{i}" for i in range(5)]
    animals = [["k1"], ["k2"], ["k3"], ["k4"], *([a] for a in [*control, *treated, "c0", "t0"])]
    names = ["control", "treated"] * 2 + ["control"] * 5 + ["treated"] * 5 + ["control", "treated"]
    project = probed.make(
        tmp_path_factory.mktemp("study"),
        animals,
        groups=names,
        annotated=4,
        more={"control": {"eat": 2.0}, "treated": {"eat": 0.5}},
        noise=0.3,
        settings={"compare": {"bootstrap": 500}},
    )
    finish(project)
    return project


def finish(project: Project) -> None:
    probe.run(project)
    for video in project.videos:
        predict.run(project, video)
    groups.run(project)


def results(project: Project) -> pd.DataFrame:
    return pd.read_csv(groups.artefact(project).checked("tests.csv")).set_index("behaviour")


def with_groups(study: Project, folder: Path, change: dict[str, str], config: dict[str, Any] | None = None) -> Project:
    """A copy in which some videos have another group, or the comparison other settings."""
    import yaml

    shutil.copytree(study.folder, folder)
    lines = (folder / "videos.csv").read_text().splitlines()
    for k, line in enumerate(lines):
        cells = line.split(",")
        if cells[0] in change:
            lines[k] = ",".join([*cells[:3], change[cells[0]], *cells[4:]])
    write_text(folder / "videos.csv", "\n".join(lines) + "\n")
    if config:
        values = yaml.safe_load((folder / "foveate.yaml").read_text())
        values["compare"] = {**values.get("compare", {}), **config}
        write_text(folder / "foveate.yaml", yaml.safe_dump(values))
    return Project.load(folder)


def test_the_planted_difference_is_found(study: Project) -> None:
    table = results(study)
    assert table.loc["eat", "significant"] == 1 and table.loc["eat", "effect"] == 1
    assert table.loc["eat", "p"] == pytest.approx(2 / 252) and table.loc["eat", "p_holm"] == pytest.approx(6 / 252)
    assert table.loc[["lie", "turn"], "significant"].sum() == 0
    assert (table["n_1"] == 5).all() and (table["n_2"] == 5).all()
    facts = groups.artefact(study).facts()
    assert facts["significant"] == ["eat"] and facts["animals"] == [5, 5] and facts["videos"] == 12
    assert any(
        "smallest p that 5 against 5 animals can reach, when none are equal, is 0.0079" in note for note in facts["notes"]
    )
    annotated = sum(bool(video.group) for video in study.videos) - facts["videos"]
    assert (annotated > 0) == any(note.startswith(f"{annotated} annotated video") for note in facts["notes"])


def test_proportions_are_those_of_the_predictions(study: Project) -> None:
    table = pd.read_csv(groups.artefact(study).checked("proportions.csv")).set_index(["subject", "behaviour"])
    rows = pd.concat(
        predict.artefact(study, study.video(name)).table("predictions.parquet").to_pandas() for name in ("v4", "v14")
    )  # both of c0
    rows = rows[rows["view"] == "*"]
    expected = rows.loc[rows["pred_eat"] == 1, "duration"].sum() / rows.loc[rows["pred_eat"] >= 0, "duration"].sum()
    assert table.loc[("c0", "eat"), "share"] == pytest.approx(expected, abs=1e-6)
    assert table.loc[("c0", "eat"), "videos"] == 2
    assert not any(subject.startswith("k") for subject, _ in table.index)  # annotated videos are not counted


def test_annotated_videos_count_when_asked_for(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "all", {}, {"videos": "all", "behaviours": ["eat"]})
    groups.run(project)
    table = results(project)
    assert list(table.index) == ["eat"] and table.loc["eat", "n_1"] == 7


def test_swapped_groups_same_p(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "swapped", {}, {"groups": ["treated", "control"]})
    groups.run(project)
    a, b = results(study), results(project)
    assert list(a["p"]) == list(b["p"]) and (a["effect"] == -b["effect"]).all()


def test_same_bytes_twice(study: Project, tmp_path: Path) -> None:
    again = with_groups(study, tmp_path / "again", {})
    folder = again.folder / "comparison" / "default"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"proportions.csv", "tests.csv", "figure.svg", "figure.png", "corrected.csv", "stamp.json"} <= set(before)
    shutil.rmtree(folder)
    groups.run(again)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_group_only(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "one", {f"v{k}": "control" for k in range(16)})
    with pytest.raises(FoveateError, match="two groups; found: control"):
        groups.artefact(project)


def test_unknown_or_equal_names(study: Project, tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="names 'contrl'"):
        groups.artefact(with_groups(study, tmp_path / "unknown", {}, {"groups": ["contrl", "treated"]}))
    with pytest.raises(FoveateError, match="with itself"):
        groups.artefact(with_groups(study, tmp_path / "equal", {}, {"groups": ["control", "control"]}))
    project = with_groups(study, tmp_path / "behaviour", {}, {"behaviours": ["eat", "dance"]})
    with pytest.raises(FoveateError, match="'dance', which is not predicted"):
        groups.run(project)


def test_one_animal_in_a_group(study: Project, tmp_path: Path) -> None:
    change = {f"v{k}": "" for k in range(10, 14)}  # leaves t0 (twice: v9 and v15)
    project = with_groups(study, tmp_path / "single", change)
    with pytest.raises(FoveateError, match="group 'treated' has 1 animal that was seen") as caught:
        groups.run(project)
    assert str(caught.value.file).endswith("videos.csv") and caught.value.remedy


def test_an_animal_in_both_groups(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "both", {"v14": "treated"})
    with pytest.raises(FoveateError, match="animal 'c0' is in both groups") as caught:
        groups.artefact(project)
    assert caught.value.row == 16 and "1 of 10" in str(caught.value.remedy)
    change = {"v14": "treated", "v15": "sham", "v4": "sham"}
    three = with_groups(study, tmp_path / "several", change)
    with pytest.raises(FoveateError, match="animal 'c0' is in several groups") as caught:
        groups.artefact(three)
    assert "compared as pairs" in str(caught.value.remedy)


def test_the_same_animals_in_both_groups_are_compared_with_themselves(tmp_path: Path) -> None:
    """Six animals before and after; two more stand in one group only."""
    both = [[f"a{k}"] for k in range(6)]
    project = probed.make(
        tmp_path / "pairs",
        [["k1"], ["k2"], ["k3"], *both, *both, ["b"], ["c"]],
        groups=["before", "after", "before", *["before"] * 6, *["after"] * 6, "before", "after"],
        annotated=3,
        more={"before": {"eat": 2.0}, "after": {"eat": 0.5}},
        noise=0.3,
        settings={"compare": {"bootstrap": 500}},
    )
    finish(project)
    facts, table = groups.artefact(project).facts(), results(project)
    assert facts["paired"] and facts["test"] == "wilcoxon" and facts["animals"] == [6, 6]
    assert facts["smallest_p"] == 2 / 2**6 and any("out of the pairs: b, c" in note for note in facts["notes"])
    assert any("smallest p that 6 pairs can reach" in note for note in facts["notes"])
    eat = table.loc["eat"]
    shares = pd.read_csv(groups.artefact(project).checked("proportions.csv")).query("behaviour == 'eat'")
    wide = shares.pivot(index="subject", columns="group", values="share")
    assert len(wide) == 6 and eat["p"] == pytest.approx(scipy.stats.wilcoxon(wide["before"], wide["after"]).pvalue)
    assert eat["effect_name"] == "rank-biserial" and eat["effect"] > 0.5 and eat["n_1"] == eat["n_2"] == 6
    assert eat["p_t"] == pytest.approx(scipy.stats.ttest_rel(wide["before"], wide["after"]).pvalue)
    assert (eat["videos_1"], eat["videos_2"]) == (6, 6) and eat["p_videos"] == pytest.approx(
        scipy.stats.mannwhitneyu(wide["before"], wide["after"], method="exact").pvalue
    )
    differences = pd.read_csv(groups.artefact(project).checked("corrected_differences.csv")).set_index("behaviour")
    naive = scipy.stats.ttest_rel(wide["before"], wide["after"])  # one annotated animal of a group: pooled, it is on both sides
    assert differences.loc["eat", "p"] == pytest.approx(naive.pvalue, rel=1e-6)


def test_three_groups(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "three", {f"v{k}": "sham" for k in (6, 7, 8, 13)})
    groups.run(project)
    facts, table = groups.artefact(project).facts(), results(project)
    assert facts["groups"] == ["control", "treated", "sham"] and facts["animals"] == [2, 4, 4]
    assert facts["test"] == "kruskal-wallis" and facts["smallest_p"] == pytest.approx(statistics.smallest_p(2, 4, 4))
    shares = pd.read_csv(groups.artefact(project).checked("proportions.csv")).query("behaviour == 'eat'")
    parts = [shares.loc[shares["group"] == group, "share"] for group in facts["groups"]]
    assert table.loc["eat", "statistic"] == pytest.approx(scipy.stats.kruskal(*parts).statistic)
    assert table.loc["eat", "effect"] == pytest.approx(table.loc["eat", "statistic"] / 9)
    pairs = pd.read_csv(groups.artefact(project).checked("pairs.csv"))
    assert len(pairs) == 3 * 3 and (pairs["p_holm"] >= pairs["p"]).all()
    two = pairs[(pairs["behaviour"] == "eat") & (pairs["group_1"] == "control") & (pairs["group_2"] == "sham")].iloc[0]
    assert two["delta"] == pytest.approx(effects.cliffs_delta(parts[0], parts[2]))
    assert not groups.artefact(project).has("corrected_differences.csv")


def test_sessions_covariates_and_bins(study: Project, tmp_path: Path) -> None:
    """c0 and t0 have two videos, so there are repeated sessions; age stands in subjects.csv."""
    project = with_groups(study, tmp_path / "more", {}, {"bin": 15, "covariates": ["age"], "bootstrap": 200})
    with pytest.raises(FoveateError, match="names 'age', which is no column") as caught:
        groups.artefact(project)
    assert caught.value.file == project.folder / "foveate.yaml"
    animals = [f"{g}{k}" for g in "ct" for k in range(5)] + ["k1", "k2", "k3", "k4"]
    rows = [f"{animal},{3 + k % 4 if animal != 'c1' else ''}" for k, animal in enumerate(animals)]
    write_text(project.folder / "subjects.csv", "subject,age\n" + "\n".join(rows) + "\n")
    project = Project.load(project.folder)
    groups.run(project)
    done = groups.artefact(project)
    model = pd.read_csv(done.checked("mixed.csv")).set_index(["behaviour", "term"])
    assert model.loc[("eat", "group treated"), "estimate"] < 0 and model.loc[("eat", "group treated"), "rows"] == 11
    assert model.loc[("eat", "age"), "animals"] == 9 and (model["model"] == "mixed").all()
    assert any("covariate is empty: c1" in note for note in done.facts()["notes"])
    bins = pd.read_csv(done.checked("bins.csv"))
    assert bins["bin"].max() == 2 and {"bins.svg", "transitions.svg", "corrected.svg"} <= set(done.files())
    whole = pd.read_csv(done.checked("proportions.csv"))
    summed = bins.groupby(["subject", "behaviour"])["seconds"].sum()
    for row in whole.itertuples():
        assert summed[row.subject, row.behaviour] == pytest.approx(row.seconds, abs=1e-5)
    secondary = pd.read_csv(done.checked("secondary.csv"))
    assert (secondary["measure"] == "share_in_bin").sum() == 9 and "mark" not in secondary.columns
    write_text(project.folder / "subjects.csv", "subject,age\n" + "\n".join(rows).replace("c0,3", "c0,9") + "\n")
    assert not groups.artefact(Project.load(project.folder)).complete()  # another age is another comparison


def test_errors_of_the_annotated_videos_are_carried_in(study: Project) -> None:
    done = groups.artefact(study)
    table = pd.read_csv(done.checked("corrected.csv")).set_index(["behaviour", "group"])
    assert (table["rectifier"] == "pooled").all() and (table["annotated_animals"] == 4).all()
    shares = pd.read_csv(done.checked("proportions.csv"))
    naive = shares.query("behaviour == 'eat' and group == 'treated'")["share"].mean()
    folds = probe.artefact(study).table("folds.parquet").to_pandas().query("view == '*' and true_eat != -1")
    errors = (folds["true_eat"].astype(float) - folds["pred_eat"]).groupby(folds["subject"]).mean()
    row = table.loc[("eat", "treated")]
    assert len(errors) == 4 and row["naive"] == pytest.approx(naive) and row["error"] == pytest.approx(errors.mean(), abs=1e-6)
    assert row["corrected"] == pytest.approx(naive + errors.mean(), abs=1e-6)
    assert row["corrected_high"] - row["corrected_low"] > row["naive_high"] - row["naive_low"]


def test_no_unannotated_video(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "none", {f"v{k}": "" for k in range(4, 16)})
    with pytest.raises(FoveateError, match="no video without annotation") as caught:
        groups.artefact(project)
    assert "videos: all" in str(caught.value.remedy)


def test_too_few_animals_for_any_significance_is_said(study: Project, tmp_path: Path) -> None:
    project = with_groups(study, tmp_path / "few", {f"v{k}": "" for k in (7, 8, 12, 13)})
    groups.run(project)
    notes = groups.artefact(project).facts()["notes"]
    assert any("not even complete separation" in note for note in notes)


# --- the figure ------------------------------------------------------------------------------------------------------------------


def test_figure_is_a_picture_and_free_of_dates(study: Project) -> None:
    done = groups.artefact(study)
    image = Image.open(done.checked("figure.png"))
    assert image.width > 600 and image.height > 300
    svg = done.checked("figure.svg").read_text()
    assert "<dc:date>" not in svg and svg.count("<svg") == 1
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50  # something is drawn


def test_figure_survives_any_behaviour_name(tmp_path: Path) -> None:
    two = [np.array([0.1, 0.2]), np.array([0.0, 0.4])]
    panels = [figure.Panel(name, two, "n.s.") for name in ("a$b$ <&>", "x" * 60, "tête_à_tête")]
    panels.append(figure.Panel("never", [np.zeros(2), np.zeros(2)], "never predicted"))
    figure.draw(panels, ("control", "treated"), (2, 2), "note " * 40, tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.svg").stat().st_size > 1000


@settings(max_examples=50, deadline=None)
@given(heights=st.lists(st.floats(0, 1), min_size=0, max_size=12))
def test_dots_do_not_cover_each_other(heights: list[float]) -> None:
    h = np.array(heights)
    shift = figure.beeswarm(h)
    assert len(shift) == len(h) and (np.abs(shift) <= 0.26 + 1e-9).all()
    for i, j in itertools.combinations(range(len(h)), 2):
        assert abs(h[i] - h[j]) >= 0.055 or shift[i] != shift[j]
