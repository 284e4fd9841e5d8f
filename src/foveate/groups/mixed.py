"""A linear model of the shares with covariates and repeated sessions: beside the tests, never starred.

Rows are the sessions of the animals. Where an animal has several, share = groups + covariates + one random intercept per animal, fitted by
restricted maximum likelihood (statsmodels' ``MixedLM``); where every animal has one, the same without random intercept (ordinary least
squares). Where the same animals stand in several groups, with several sessions in each, every animal has one more random intercept per
group: animals differ in how they answer to a treatment, and without it ten sessions of four animals would pass for forty animals. Shares
enter as they are, so an estimate is a difference of shares.

p is from Student's t instead of statsmodels' normal distribution, which for a dozen animals finds differences that are not there. Degrees
of freedom go by the between-within rule (Schluchter and Elashoff 1990): of a term that never changes within an animal, animals less
coefficients of such terms; of one that does, rows less animals less coefficients of such terms; and where animals stand in several groups,
of one that changes with the group only, animals in groups less animals less coefficients of such terms. With groups of equal animals and
sessions that is the t test of the animals' means, paired where they are pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.groups.statistics import Values, holm, t_limit, t_p

if TYPE_CHECKING:
    import pandas as pd

MIXED = (
    *("behaviour", "term", "estimate", "low", "high", "se", "t", "df", "p", "p_holm"),
    *("animals", "rows", "model", "animal_variance", "residual_variance", "converged", "note"),
)
"""Columns of mixed.csv, one row per behaviour and term (``intercept``, ``group treated`` against the first group, covariates: a number's
slope, or a word against the first of its kind). ``p_holm`` is over the behaviours, of the groups' terms. ``model``: mixed, linear."""


@dataclass(frozen=True, eq=False)
class Design:
    """The fixed effects: names, f64[R, P], and for each column where it changes: 0 between animals only, 1 within an animal between groups,
    2 within an animal in one group; and of each row the animal, and the animal in its group."""

    terms: tuple[str, ...]
    matrix: Values
    within: tuple[int, ...]
    animals: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of animals, of animals in groups, and of rows."""
        return len(set(self.animals)), len(set(self.cells)), len(self.animals)


class Unfit(Exception):
    """The model cannot be made from these rows; the message says why."""


def design_of(table: pd.DataFrame, groups: Sequence[str], covariates: Sequence[str]) -> Design:
    """Columns of the fixed effects.

    Args:
        table: group, subject, and the covariates as text, none empty.

    Raises:
        Unfit: the columns cannot be told apart, or there are not enough animals for them.
    """
    columns: dict[str, Values] = {"intercept": np.ones(len(table))}
    for group in groups[1:]:
        columns[f"group {group}"] = np.array([name == group for name in table["group"]], dtype=np.float64)
    for name in covariates:
        cells = table[name].tolist()
        numbers = [_number(cell) for cell in cells]
        if all(number is not None for number in numbers):
            values = np.array(numbers, dtype=np.float64)
            columns[name] = values - values.mean()  # so that the intercept is an average animal
        else:
            for level in sorted(set(cells))[1:]:
                columns[f"{name} {level}"] = np.array([cell == level for cell in cells], dtype=np.float64)
    matrix = np.column_stack(list(columns.values()))
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise Unfit("groups and covariates cannot be told apart in these rows, or a covariate never changes")
    subjects = tuple(table["subject"])
    places = tuple(zip(table["group"], table["subject"], strict=True))
    within = tuple(int(a) + int(b) for a, b in zip(_changes(matrix, subjects), _changes(matrix, places), strict=True))
    found = Design(tuple(columns), matrix, within, subjects, places)
    if min(degrees(found)) < 1:
        raise Unfit(f"{len(set(subjects))} animals are too few for {len(columns)} coefficients")
    return found


def _changes(matrix: Values, units: Sequence[Hashable]) -> list[bool]:
    """Whether each column changes within a unit."""
    first = {unit: place for place, unit in reversed(list(enumerate(units)))}
    changes: list[bool] = (np.abs(matrix - matrix[[first[unit] for unit in units]]).max(0) > 1e-12).tolist()
    return changes


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def degrees(design: Design) -> list[int]:
    """Of every column, by the between-within rule. The intercept is between."""
    sizes = (0, *design.sizes)
    return [sizes[w + 1] - sizes[w] - design.within.count(w) for w in design.within]


def fit(share: Values, design: Design) -> list[dict[str, Any]]:
    """One row per term, columns of ``MIXED`` from ``term`` on, without ``p_holm``."""
    repeated = len(set(design.animals)) < len(design.animals)
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            values, errors, between, residual, converged = (_mixed if repeated else _linear)(share, design)
        except np.linalg.LinAlgError as problem:
            raise Unfit(f"the fit failed ({problem})") from problem
    if repeated:
        notes += [f"statsmodels: {text}" for text in dict.fromkeys(str(w.message) for w in caught)]
        if not converged:
            notes.append("the fit did not converge: do not use these numbers")
        elif between < 1e-6 * residual:
            notes.append("no variance between animals was found beyond that within them (the estimate is 0)")
    rows = []
    for term, value, error, df in zip(design.terms, values.tolist(), errors.tolist(), degrees(design), strict=True):
        row: dict[str, Any] = {"term": term, "estimate": value, "se": error, "df": df}
        if error > 0 and np.isfinite(error):
            half = t_limit(df) * error
            row |= {"t": value / error, "p": t_p(value / error, df), "low": value - half, "high": value + half}
        row |= {"animals": len(set(design.animals)), "rows": len(share), "model": "mixed" if repeated else "linear"}
        row |= {
            "animal_variance": between,
            "residual_variance": residual,
            "converged": int(converged),
            "note": "; ".join(notes),
        }
        rows.append(row)
    return rows


def _mixed(share: Values, design: Design) -> tuple[Values, Values, float, float, bool]:
    from statsmodels.regression.mixed_linear_model import MixedLM

    names, numbers = np.unique(np.array(design.animals), return_inverse=True)
    animals, cells, rows = design.sizes
    further = None
    if animals < cells < rows:  # one more intercept of every animal in every group
        further = {"group": {k: _indicators([c for c in design.cells if c[1] == name]) for k, name in enumerate(names)}}
    ones = np.ones((rows, 1))
    result = MixedLM(share, design.matrix, groups=numbers, exog_re=ones, exog_vc=further).fit(reml=True)
    size = design.matrix.shape[1]
    between, residual = float(result.cov_re[0, 0]), float(result.scale)
    return np.asarray(result.fe_params), np.asarray(result.bse_fe)[:size], between, residual, bool(result.converged)


def _indicators(cells: Sequence[tuple[str, str]]) -> Values:
    known = list(dict.fromkeys(cells))
    return np.array([[cell == one for one in known] for cell in cells], dtype=np.float64)


def _linear(share: Values, design: Design) -> tuple[Values, Values, float, float, bool]:
    x = design.matrix
    inverse = np.linalg.inv(x.T @ x)
    values = inverse @ x.T @ share
    residual = float(((share - x @ values) ** 2).sum()) / (len(share) - x.shape[1])
    return values, np.sqrt(residual * np.diag(inverse)), float("nan"), residual, True


def table(
    shares: pd.DataFrame,
    groups: Sequence[str],
    covariates: Sequence[str],
    known: Mapping[tuple[str, str, str], Mapping[str, str]],
) -> tuple[pd.DataFrame, list[str]]:
    """The model of every behaviour: columns ``MIXED``; and notes on what was left out.

    Args:
        shares: per session, columns group, subject, session, behaviour, share.
        known: (group, subject, session) -> covariates as text; empty text where there is none.
    """
    import pandas as pd

    keys = list(zip(shares["group"], shares["subject"], shares["session"], strict=True))
    shares = shares.assign(**{name: [known[key][name] for key in keys] for name in covariates})
    empty = pd.Series([not all(known[key][name] for name in covariates) for key in keys], index=shares.index, dtype=bool)
    notes = []
    if empty.any():
        without = ", ".join(dict.fromkeys(shares.loc[empty, "subject"]))
        notes.append(f"left out of the linear model, because a covariate is empty: {without}")
    rows: list[dict[str, Any]] = []
    for behaviour, part in shares[~empty].groupby("behaviour", sort=False):
        if not part["share"].any():
            continue
        try:
            found = fit(part["share"].to_numpy(np.float64), design_of(part, groups, covariates))
        except Unfit as error:
            found = [{"term": "", "note": f"not fitted: {error}"}]
        rows += [{"behaviour": behaviour} | row for row in found]
    out = pd.DataFrame(rows, columns=list(MIXED)).astype({"note": "str"})
    for _, index in out[out["term"].str.startswith("group ") & out["p"].notna()].groupby("term").groups.items():
        out.loc[index, "p_holm"] = holm(out.loc[index, "p"].to_numpy(np.float64))
    return out.astype({"converged": "Int64", "animals": "Int64", "rows": "Int64"}), notes
