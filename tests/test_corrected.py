"""Shares corrected for the probe's errors: against numbers recorded from the authors' package, and by simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from foveate.groups import corrected

GOLDEN = Path(__file__).parent / "golden"


def named(values: list[float], prefix: str) -> dict[str, float]:
    return {f"{prefix}{k}": float(v) for k, v in enumerate(values)}


def test_estimate_is_ppi_python() -> None:
    """Theirs has the normal quantile and variances with denominator n: put back here, ours must be theirs."""
    for case in json.loads((GOLDEN / "ppi.json").read_text())["cases"]:
        errors = np.array(case["true"]) - np.array(case["said"])
        ours = corrected.corrected(named(case["compared"], "u"), named(errors.tolist(), "k"))
        assert ours.value == pytest.approx(case["mean"], abs=1e-9)
        parts = [(corrected.mean(named(v, "x")).error, len(v)) for v in (case["compared"], errors.tolist())]
        theirs = 1.959963984540054 * math.sqrt(sum(error**2 * (n - 1) / n for error, n in parts))
        assert (ours.value - theirs, ours.value + theirs) == pytest.approx((case["low"], case["high"]), abs=1e-9)


def test_without_shared_animals_the_difference_is_welch() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, 0.1, 7).tolist(), rng.normal(0.3, 0.2, 5).tolist()
    ours = corrected.difference(corrected.mean(named(x, "a")), corrected.mean(named(y, "b")))
    theirs = scipy.stats.ttest_ind(x, y, equal_var=False)
    assert (ours["t"], ours["df"], ours["p"]) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))
    interval = theirs.confidence_interval()
    assert (ours["low"], ours["high"]) == pytest.approx((interval.low, interval.high))


def test_the_same_animals_in_both_groups_are_paired() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, 0.1, 8).tolist(), rng.normal(0.3, 0.1, 8).tolist()
    ours = corrected.difference(corrected.mean(named(x, "a")), corrected.mean(named(y, "a")))
    theirs = scipy.stats.ttest_rel(x, y)
    assert (ours["t"], ours["df"], ours["p"]) == pytest.approx((theirs.statistic, 7, theirs.pvalue))


def test_an_animal_among_both_counts_once() -> None:
    """Of fully annotated animals that are also the compared ones, the corrected share is the mean of the truth, with its error."""
    said, true = named([0.2, 0.5, 0.3, 0.6], "a"), named([0.1, 0.45, 0.35, 0.7], "a")
    ours = corrected.corrected(said, {a: true[a] - said[a] for a in said})
    assert ours.value == pytest.approx(np.mean(list(true.values())))
    assert ours.error == pytest.approx(np.std(list(true.values()), ddof=1) / 2)
    assert ours.df == 3


def test_nothing_varies() -> None:
    flat = corrected.mean(named([0.25, 0.25, 0.25], "a"))
    assert flat.interval() == (0.25, 0.25) and "p" not in corrected.difference(flat, flat)
    with pytest.raises(ValueError, match="needs two"):
        corrected.mean({"a": 0.5})


def folds() -> pd.DataFrame:
    """Two videos of one animal, one of another, one without group; -1 is not observed."""
    rows = [("v1", "a", 1, 0), ("v1", "a", 1, 1), ("v2", "a", 0, 0), ("v2", "a", -1, 1), ("v3", "b", 0, 1), ("v4", "c", 1, 0)]
    return pd.DataFrame(rows, columns=["video", "subject", "true_eat", "pred_eat"])


def test_rectifiers_are_truth_less_prediction_where_observed() -> None:
    found = corrected.rectifiers(folds(), ["eat"], {"v1": "x", "v2": "x", "v3": "y"})
    assert found == {"eat": {"x": {"a": pytest.approx(1 / 3)}, "y": {"b": -1.0}, "": {"c": 1.0}}}


def known(**animals: int) -> dict[str, dict[str, dict[str, float]]]:
    rng = np.random.default_rng(1)
    return {"eat": {group: named(rng.normal(0.1, 0.05, n).tolist(), group) for group, n in animals.items()}}


PREDICTED = {"eat": {"x": {"p": 0.2, "q": 0.4, "r": 0.3}, "y": {"s": 0.5, "t": 0.6, "u": 0.9}}}


def test_few_annotated_animals_are_pooled_and_it_says_so() -> None:
    own, tested = corrected.tables(PREDICTED, known(x=3, y=4), ("x", "y"))
    assert own["rectifier"].tolist() == ["own", "own"] and own["annotated_animals"].tolist() == [3, 4]
    assert tested.loc[0, "difference"] != pytest.approx(tested.loc[0, "naive_difference"])
    pooled, same = corrected.tables(PREDICTED, known(x=2, y=4, z=1), ("x", "y"))
    assert pooled["rectifier"].tolist() == ["pooled", "pooled"] and pooled["annotated_animals"].tolist() == [7, 7]
    assert same.loc[0, "difference"] == same.loc[0, "naive_difference"] == pytest.approx(0.3 - 2 / 3)
    theirs = scipy.stats.ttest_ind([0.2, 0.4, 0.3], [0.5, 0.6, 0.9], equal_var=False)
    assert same.loc[0, "p"] == pytest.approx(theirs.pvalue) == same.loc[0, "p_holm"]
    naive, nothing = corrected.tables(PREDICTED, known(x=1), ("x", "y"))
    assert naive["corrected"].isna().all() and naive["naive"].notna().all() and not len(nothing)
    assert (own[["naive_low", "corrected_low"]] >= 0).all(axis=None) and (own[["naive_high", "corrected_high"]] <= 1).all(
        axis=None
    )


def test_an_error_of_one_group_is_taken_out() -> None:
    """The truth is the same in both groups; the probe adds a tenth in the second. 300 studies of 8 and 8 animals, 6 and 6 annotated."""
    rng = np.random.default_rng(5)
    naive = right = inside = 0
    bias = []
    for _ in range(300):
        predicted = {"eat": {g: named((rng.normal(0.3, 0.05, 8) + b).tolist(), g) for g, b in (("x", 0.0), ("y", 0.1))}}
        errors = {"eat": {g: named((rng.normal(0, 0.04, 6) - b).tolist(), g + "k") for g, b in (("x", 0.0), ("y", 0.1))}}
        table, tested = corrected.tables(predicted, errors, ("x", "y"))
        shares = list(predicted["eat"].values())
        naive += corrected.difference(*(corrected.mean(s) for s in shares))["p"] < 0.05
        right += tested.loc[0, "p"] < 0.05
        row = table.iloc[1]
        inside += row["corrected_low"] <= 0.3 <= row["corrected_high"]
        bias.append(row["corrected"] - 0.3)
    assert naive > 250  # the naive difference is there in almost every study
    assert right < 30 and inside > 270  # 5 % and 95 % of 300, more than three standard errors away
    assert abs(np.mean(bias)) < 0.005
