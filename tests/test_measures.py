"""What is measured of every animal: bouts, latencies, transitions and bins, on recordings small enough to count by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.groups import measures, tables

Bouts = Sequence[tuple[float, float]]


def recording(
    subject: str = "a", group: str = "control", seen: Bouts = ((0, 10),), video: str = "v", session: str = "", **bouts: Bouts
) -> measures.Recording:
    """Frames of half a second in the stretches ``seen``."""
    time = np.concatenate([np.arange(a, b, 0.5) for a, b in seen])
    cut = {b: (np.array([x for x, _ in rows], float), np.array([y for _, y in rows], float)) for b, rows in bouts.items()}
    seconds = {b: float(sum(y - x for x, y in rows)) for b, rows in bouts.items()}
    return measures.Recording(
        video, group, session or video, subject, time, np.full(len(time), 0.5), float(sum(b - a for a, b in seen)), seconds, cut
    )


def test_bouts_of_an_animal_over_its_videos() -> None:
    found = [
        recording(video="v1", session="morning", eat=[(1, 2), (4, 7)], lie=[]),
        recording(video="v2", session="evening", seen=[(2, 22)], eat=[(12, 14)], lie=[(20, 22)]),
    ]
    table = measures.per_animal(found).set_index(["session", "behaviour"])
    eat = table.loc[("*", "eat")]
    assert eat["share"] == pytest.approx(6 / 30) and eat["bouts"] == 3 and eat["videos"] == 2
    assert eat["bouts_per_hour"] == pytest.approx(3 / 30 * 3600)
    assert (eat["mean_bout_seconds"], eat["median_bout_seconds"]) == (2, 2)
    assert eat["latency_seconds"] == (1 + 10) / 2 and eat["latency_censored"] == 0
    lie = table.loc[("*", "lie")]
    assert lie["latency_seconds"] == (10 + 18) / 2 and lie["latency_censored"] == 1  # not in the first video: at least 10 s
    assert table.loc[("morning", "lie"), "latency_censored"] == 1 and table.loc[("evening", "lie"), "latency_censored"] == 0
    assert math.isnan(table.loc[("morning", "lie"), "mean_bout_seconds"]) and table.loc[("morning", "lie"), "bouts"] == 0
    assert set(table.index.get_level_values(0)) == {"*", "morning", "evening"}


def test_an_animal_never_seen_has_no_measures() -> None:
    assert not len(measures.per_animal([recording(seen=[(0, 0)], eat=[])]))


def moved(*found: measures.Recording) -> dict[tuple[str, str], tuple[float, float]]:
    table = measures.transitions(found)
    keys = zip(table["behaviour"], table["to"], strict=True)
    return dict(zip(keys, zip(table["count"], table["probability"], strict=True), strict=True))


def test_transitions_are_the_next_onset() -> None:
    found = moved(recording(eat=[(0, 1), (3, 4), (8, 9)], lie=[(1, 3), (4, 8)], walk=[(9, 10)]))
    assert found["eat", "lie"] == (2, pytest.approx(2 / 3)) and found["eat", "walk"] == (1, pytest.approx(1 / 3))
    assert found["lie", "eat"] == (2, 1) and found["walk", "eat"][0] == 0 and math.isnan(found["walk", "eat"][1])


def test_the_same_behaviour_again_is_no_transition_and_what_begins_at_once_is_shared() -> None:
    found = moved(recording(eat=[(0, 1), (2, 3)], lie=[(5, 7)], walk=[(5, 6)]))
    assert found["eat", "lie"] == found["eat", "walk"] == (0.5, 0.5)
    assert found["lie", "walk"][0] == found["walk", "lie"][0] == 0


def test_a_transition_ends_where_the_animal_is_out_of_sight() -> None:
    found = moved(recording(seen=[(0, 4), (6, 10)], eat=[(1, 2), (7, 8)], lie=[(6, 7)]))
    assert found["eat", "lie"][0] == 0 and found["lie", "eat"] == (1, 1)
    two = [recording(video=v, eat=[(1, 2)], lie=[(3, 4)]) for v in ("v1", "v2")]
    assert moved(*two)["eat", "lie"] == (2, 1) and moved(*two)["lie", "eat"][0] == 0  # nor from one video to the next


def test_bins_add_up() -> None:
    found = [recording(seen=[(0, 7)], eat=[(1, 5)], lie=[]), recording(video="w", seen=[(2, 6)], eat=[(5.5, 6)], lie=[])]
    table = measures.in_bins(found, 3.0)
    eat = table[table["behaviour"] == "eat"].set_index("bin")
    assert eat["seconds"].tolist() == pytest.approx([2, 2.5, 0]) and eat["seen_seconds"].tolist() == pytest.approx([4, 6, 1])
    assert eat["share"].tolist() == pytest.approx([0.5, 2.5 / 6, 0]) and eat["stop"].tolist() == [3, 6, 9]
    gap = measures.in_bins([recording(seen=[(0, 3), (6, 9)], eat=[(1, 2)])], 3.0)
    assert gap["bin"].tolist() == [0, 2]  # nothing is known of the second
    glance = measures.in_bins([recording(seen=[(0, 4), (6, 9.5)], eat=[(1, 2)])], 3.0)
    assert glance["bin"].tolist() == [
        0,
        2,
        3,
    ]  # one second of three is too little; of the last half second there is, all was seen


def test_an_animal_hardly_seen_is_told_of() -> None:
    found = [
        recording("a", seen=[(0, 100)], eat=[]),
        recording("b", seen=[(0, 80)], eat=[]),
        recording("c", seen=[(0, 2)], eat=[]),
    ]
    table, notes = measures.proportions(found)
    assert set(table["subject"]) == {"a", "b", "c"}
    assert notes == ["animal 'c' was seen for 2 s only (the median is 80 s) and counts as much as the others"]


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.floats(0, 20), min_size=2, max_size=12, unique=True), length=st.floats(0.7, 9))
def test_seconds_in_bins_are_all_seconds(cuts: list[float], length: float) -> None:
    moments = sorted(cuts)[: len(cuts) // 2 * 2]
    bouts = list(zip(moments[::2], moments[1::2], strict=True))
    table = measures.in_bins([recording(seen=[(0, 20)], eat=bouts)], length)
    assert table["seconds"].sum() == pytest.approx(sum(b - a for a, b in bouts), abs=1e-9)
    assert table["seen_seconds"].sum() == pytest.approx(20) and table["share"].between(0, 1).all()


def herd(latency: dict[str, list[float | None]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Animals that begin to eat after so many seconds, or not at all, and then go to lie down."""
    found = []
    for group, starts in latency.items():
        for k, start in enumerate(starts):
            eat = [] if start is None else [(start, start + 1)]
            found.append(recording(f"{group}{k}", group, video=f"{group}{k}", eat=eat, lie=[] if start is None else [(9, 10)]))
    return measures.per_animal(found), measures.transitions(found)


def test_latency_that_never_came_is_at_least_the_observation() -> None:
    table, moves = herd({"control": [1, 2, 2.5, 3], "treated": [4, 5, None, None]})
    rows = tables.secondary(table, moves, None, ("control", "treated"), False, 0)
    rows = rows.assign(to=rows["to"].fillna("")).set_index(["measure", "behaviour", "to"])
    late = rows.loc[("latency_seconds", "eat", "")]
    assert late["test"] == "gehan" and late["p"] == pytest.approx(2 / 70) and late["effect"] == -1
    assert "2 of 4 treated" in late["note"] and "0 of 4 control" in late["note"]
    assert late["median_1"] == 2.25 and math.isnan(late["median_2"])  # between 5 s and something beyond 10
    mean = rows.loc[("mean_bout_seconds", "eat", "")]
    assert (mean["n_1"], mean["n_2"]) == (4, 2) and mean["p"] == 1  # all bouts are alike
    move = rows.loc[("transition_probability", "eat", "lie")]
    assert move["n_2"] == 2 and move["median_1"] == 1
    back = rows.loc[("transition_probability", "lie", "eat")]
    assert "too few animals" in back["note"] and math.isnan(back["p"])
    for _, family in rows.groupby(level=0):
        p = family["p"].dropna()
        assert (family.loc[family["p"].notna(), "q_bh"] >= p - 1e-12).all() and family["q_bh"].notna().sum() == len(p)


def test_latency_of_pairs_counts_directions() -> None:
    found = []
    for k in range(5):
        for group, start in (("before", 5), ("after", 1 if k else None)):
            eat = [] if start is None else [(start, start + 1)]
            found.append(recording(f"a{k}", group, video=f"{group}{k}", eat=eat, lie=[(0, 1)]))
    rows = tables.secondary(
        measures.per_animal(found), measures.transitions(found), None, ("before", "after"), True, 0
    ).set_index(["measure", "behaviour"])
    late = rows.loc[("latency_seconds", "eat")]
    assert late["test"] == "sign" and late["statistic"] == 4 and late["p"] == pytest.approx(0.375)  # 4 of 5 sooner
    assert rows.loc[("bouts_per_hour", "eat"), "test"] == "wilcoxon"


def test_effects_of_censored_values_say_no_more_than_their_tests() -> None:
    ten, sixty, late = np.arange(10.0, 60.0, 10.0), np.full(5, 60.0), np.ones(5, dtype=bool)
    pairs = tables.Sample([ten, sixty], [late, np.arange(5) > 0], paired=True)  # at least 10 s against 60 s: who knows
    assert tables.rank_test(pairs, 0)["p"] == 1 and tables.effect(pairs, 0, 0)["effect"] == 0
    several = tables.Sample([ten, sixty, ten + 60], [late, late, late])
    assert tables.rank_test(several, 0)["p"] == 1 and tables.effect(several, 0, 0)["effect"] == 0
    came = tables.Sample([ten, sixty], [~late, late], paired=True)
    assert tables.effect(came, 0, 0)["effect"] == -1
