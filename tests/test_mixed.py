"""The linear model beside the tests: against statsmodels, ordinary least squares, and the t test that it must be where all is balanced."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from foveate.groups import mixed

GROUPS = ("control", "treated")


def rows(animals: int, sessions: int, effect: float = 0.1, spread: float = 0.1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    out = []
    for k in range(animals):
        group = GROUPS[k % 2]
        own = 0.4 + effect * (k % 2) + spread * rng.normal()
        for s in range(sessions):
            cells = {"group": group, "subject": f"a{k}", "session": f"s{s}", "behaviour": "eat"}
            out.append({**cells, "share": own + 0.05 * rng.normal(), "age": str(int(rng.integers(1, 9))), "pen": f"pen{s % 2}"})
    return pd.DataFrame(out)


def fitted(table: pd.DataFrame, covariates: tuple[str, ...] = ()) -> pd.DataFrame:
    design = mixed.design_of(table, GROUPS, covariates)
    return pd.DataFrame(mixed.fit(table["share"].to_numpy(), design)).set_index("term")


def test_balanced_sessions_are_the_t_test_of_the_animals() -> None:
    """For equal numbers of animals and sessions restricted maximum likelihood has a closed form, and its t test is that of the means."""
    table = rows(12, 3)
    found = fitted(table).loc["group treated"]
    means = table.groupby("subject").agg(group=("group", "first"), share=("share", "mean"))
    treated, control = (means.loc[means["group"] == g, "share"] for g in GROUPS[::-1])
    theirs = scipy.stats.ttest_ind(treated, control)
    assert found["estimate"] == pytest.approx(treated.mean() - control.mean(), abs=1e-6)
    assert (found["t"], found["df"]) == (pytest.approx(theirs.statistic, rel=1e-3), 10)
    assert found["p"] == pytest.approx(theirs.pvalue, rel=1e-2)
    assert found["model"] == "mixed" and found["animals"] == 12 and found["rows"] == 36 and found["converged"] == 1
    assert found["low"] < found["estimate"] < found["high"]


def test_coefficients_are_those_of_statsmodels_with_a_formula() -> None:
    import statsmodels.formula.api as smf

    table = rows(10, 4, seed=2)
    found = fitted(table, ("age", "pen"))
    years = table.assign(years=table["age"].astype(float))
    years["years"] -= years["years"].mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = smf.mixedlm("share ~ C(group) + years + C(pen)", years, groups="subject").fit(reml=True)
    names = {"intercept": "Intercept", "group treated": "C(group)[T.treated]", "age": "years", "pen pen1": "C(pen)[T.pen1]"}
    for ours, name in names.items():
        assert found.loc[ours, "estimate"] == pytest.approx(theirs.fe_params[name], rel=1e-4, abs=1e-6)
        assert found.loc[ours, "se"] == pytest.approx(theirs.bse_fe[name], rel=1e-3)
    assert found.loc["age", "residual_variance"] == pytest.approx(theirs.scale, rel=1e-3)
    # Within an animal: age and pen. 40 rows less 10 animals less 2; 10 animals less intercept and group.
    assert found["df"].to_dict() == {"intercept": 8, "group treated": 8, "age": 28, "pen pen1": 28}
    assert found.loc["group treated", "p"] > theirs.pvalues["C(group)[T.treated]"]  # theirs is normal


def test_one_row_per_animal_is_ordinary_least_squares() -> None:
    import statsmodels.formula.api as smf

    table = rows(14, 1, seed=3)
    found = fitted(table, ("age",))
    theirs = smf.ols("share ~ C(group) + age", table.assign(age=table["age"].astype(float))).fit()
    assert found.loc["group treated", ["estimate", "se", "t", "p"]].tolist() == pytest.approx(
        [theirs.params["C(group)[T.treated]"], theirs.bse["C(group)[T.treated]"], theirs.tvalues["C(group)[T.treated]"],
         theirs.pvalues["C(group)[T.treated]"]]
    )  # fmt: skip
    assert found.loc["age", "p"] == pytest.approx(theirs.pvalues["age"])
    assert found["model"].unique().tolist() == ["linear"] and found.loc["age", "df"] == 11


def before_and_after(animals: int = 8, sessions: int = 6, seed: int = 4) -> pd.DataFrame:
    """The same animals in both groups, with as many sessions in each; they answer to the treatment differently, on average not at all."""
    table, rng = rows(animals, sessions, effect=0.0, seed=seed), np.random.default_rng(seed)
    table["group"] = np.where(table["session"] < f"s{sessions // 2}", *GROUPS)
    answer = dict(zip(table["subject"].unique(), 0.1 * rng.normal(size=animals), strict=True))
    table["share"] += np.where(table["group"] == "treated", table["subject"].map(answer), 0.0)
    return table


def test_sessions_of_pairs_are_the_paired_t_test_of_the_animals() -> None:
    """Sessions are no animals: without the animals' own answers p would be far too small (df 39 instead of 7)."""
    found = fitted(before_and_after()).loc["group treated"]
    means = before_and_after().pivot_table(index="subject", columns="group", values="share")
    theirs = scipy.stats.ttest_rel(means["treated"], means["control"])
    assert found["df"] == 8 - 1 and found["converged"] == 1
    assert found["t"] == pytest.approx(theirs.statistic, rel=1e-2)
    assert found["p"] == pytest.approx(theirs.pvalue, rel=1e-2)


def test_degrees_of_freedom_of_pairs_with_a_covariate_of_the_sessions() -> None:
    found = fitted(before_and_after(), ("age",))
    assert found["df"].to_dict() == {"intercept": 7, "group treated": 7, "age": 48 - 16 - 1}
    one = before_and_after(sessions=2).assign(age=lambda t: t["age"].astype(int) + t.index % 3)
    assert fitted(one, ("age",))["df"].to_dict() == {"intercept": 7, "group treated": 6, "age": 6}  # one session each


def test_no_variance_between_animals_is_said() -> None:
    table = rows(10, 4, effect=0.0, spread=0.0, seed=1)
    table["share"] -= table.groupby("subject")["share"].transform("mean")  # less than chance would leave
    found = fitted(table)
    note = found["note"].iloc[0]
    assert "no variance between animals" in note or "did not converge" in note
    assert "statsmodels: " in note  # its own words are not kept back


def test_what_cannot_be_fitted_says_why() -> None:
    table = rows(6, 2)
    table["farm"] = table["group"]
    with pytest.raises(mixed.Unfit, match="cannot be told apart"):
        mixed.design_of(table, GROUPS, ("farm",))
    table["name"] = table["subject"]
    with pytest.raises(mixed.Unfit, match=r"cannot be told apart|too few"):
        mixed.design_of(table, GROUPS, ("name",))
    with pytest.raises(mixed.Unfit, match="too few"):
        mixed.design_of(rows(2, 3), GROUPS, ())


def test_table_leaves_out_who_has_no_covariate_and_corrects_over_behaviours() -> None:
    table = pd.concat([rows(10, 2), rows(10, 2, effect=0.0, seed=7).assign(behaviour="lie")])
    table = table.drop(columns=["age", "pen"])
    keys = set(zip(table["group"], table["subject"], table["session"], strict=True))
    known = {key: {"age": "" if key[1] == "a3" else str(3 + int(key[1][1:]) % 4)} for key in keys}
    never = table.assign(behaviour="drink", share=0.0)
    out, notes = mixed.table(pd.concat([table, never]), GROUPS, ("age",), known)
    assert notes == ["left out of the linear model, because a covariate is empty: a3"]
    groups = out[out["term"] == "group treated"].set_index("behaviour")
    assert list(groups.index) == ["eat", "lie"] and (groups["animals"] == 9).all()
    assert groups["p_holm"].min() == pytest.approx(min(1.0, 2 * groups["p"].min()))
    assert out.loc[out["term"] == "age", "p_holm"].isna().all()
    alike = {key: {"farm": key[0]} for key in keys}
    out, _ = mixed.table(table, GROUPS, ("farm",), alike)
    assert out["note"].str.contains("not fitted: groups and covariates cannot be told apart").all() and out["p"].isna().all()
