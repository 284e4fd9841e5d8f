"""What stands beside the primary tests, folded away: none of it has stars, and each part says what it is."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.spreadsheet import read_csv
from foveate.store import Artefact

Row = Mapping[str, str]

SMALL = 0.05
"""q below which a secondary result is named in words, as a lead and not as a finding."""


@dataclass(frozen=True)
class Head:
    text: str
    title: str = ""


@dataclass(frozen=True)
class Cell:
    """What is read, what it is sorted by, and what stands small below it."""

    text: str
    value: str | None = None
    small: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: data URI, CSS pixels, and its content in words."""

    uri: str
    width: int
    described: str


@dataclass(frozen=True)
class More:
    """One part: words, perhaps a figure, perhaps a table whose first column names the row."""

    title: str
    texts: list[str]
    picture: Picture | None = None
    heads: list[Head] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)


def load_more(artefact: Artefact, facts: Mapping[str, Any], tests: Sequence[Row]) -> list[More]:
    """All parts for which there are files."""
    files = set(artefact.files())
    groups: list[str] = facts["groups"]
    tested = [row for row in tests if row["tested"] == "1"]
    if not tested:
        return []
    out = [_corrected(artefact, groups, facts)]
    if "pairs.csv" in files:
        out.append(_pairs(artefact))
    out.append(_otherwise(tested, groups, facts))
    rows = _rows(artefact, "secondary.csv")
    out.append(_bouts(rows, groups))
    if "bins.svg" in files:
        out.append(_bins(artefact, rows, facts))
    if "transitions.svg" in files:
        out.append(_transitions(artefact, rows, groups))
    if "mixed.csv" in files:
        out.append(_mixed(artefact, groups, facts))
    return out


def _rows(artefact: Artefact, name: str) -> list[dict[str, str]]:
    return [cells for _, cells in read_csv(artefact.checked(name), ("behaviour",))]


def _corrected(artefact: Artefact, groups: Sequence[str], facts: Mapping[str, Any]) -> More:
    rows = _rows(artefact, "corrected.csv")
    of = {(row["behaviour"], row["group"]): row for row in rows}
    tests = {row["behaviour"]: row for row in _rows(artefact, "corrected_differences.csv")} if len(groups) == 2 else {}
    behaviours = list(dict.fromkeys(row["behaviour"] for row in rows))
    kinds = {row["rectifier"] for row in rows}
    n = [min((int(of[b, g]["annotated_animals"]) for b in behaviours if of[b, g]["rectifier"]), default=0) for g in groups]
    texts = [
        "The probe errs. In the annotated videos it is known by how much, because each was predicted by a probe that never saw it; "
        "truth less prediction there, averaged over annotated animals, is added to the mean prediction here (prediction-powered "
        "inference, Angelopoulos et al. 2023). The interval holds both uncertainties, over animals. It is valid as far as the annotated "
        "animals are like the others."
    ]
    if kinds == {"own"}:
        texts.append(
            "Every group has its own correction, from "
            + " and ".join(f"{count} annotated animals of {group}" for count, group in zip(n, groups, strict=True))
            + ", so errors that differ between the groups are corrected as well."
        )
    elif "pooled" in kinds:
        texts.append(
            "Of some behaviours fewer than three animals of a group are annotated. There the correction is that of all annotated animals "
            "together: an error that differs between the groups is not corrected, and the difference is that of the predictions."
        )
    if "" in kinds:
        texts.append("Where fewer than two animals are annotated, nothing can be corrected.")
    heads = [Head("Behaviour")]
    for group in groups:
        heads += [Head(f"Predicted {group}", "mean share, with 95 % interval"), Head(f"Corrected {group}", "mean share, 95 %")]
    if tests:
        heads += [Head("Difference", "corrected, with 95 % interval"), Head("p", "t test of it"), Head("p corrected", "Holm")]
    table = []
    for behaviour in behaviours:
        cells = [Cell(behaviour)]
        for group in groups:
            row = of[behaviour, group]
            cells += [_with_interval(row, "naive", share), _with_interval(row, "corrected", share)]
        if tests:
            test = tests.get(behaviour, {})
            cells += [_with_interval({**test, "difference_low": test.get("low", ""), "difference_high": test.get("high", "")},
                                     "difference", points)]  # fmt: skip
            cells += [_p(test.get("p", "")), _p(test.get("p_holm", ""))]
        table.append(cells)
    described = "Mean share of every group as predicted and corrected, with intervals; the numbers are in the table below."
    drawn = picture(artefact.checked("corrected.svg"), described)
    return More("Shares corrected for the probe's errors", texts, drawn, heads, table)


def _otherwise(tested: Sequence[Row], groups: Sequence[str], facts: Mapping[str, Any]) -> More:
    two, paired = len(groups) == 2, facts["paired"]
    texts = [
        "The same shares, tested in other usual ways. q: false discovery rate after Benjamini and Hochberg"
        + (f"; t: {'of the pairs (Student)' if paired else 'of the means (Welch)'}; Hedges' g: difference of the means in standard "
           "deviations, with a 95 % interval" if two else "")
        + ".",
        "The last column takes every video for an independent unit, as the publication that this follows aggregates them ("
        + ", ".join(f"{tested[0][f'videos_{k}']} {group}" for k, group in enumerate(groups, 1))
        + " videos). Videos of one animal are not independent, so where animals have several that p is too small. It is here for "
        "comparison with published numbers only.",
    ]  # fmt: skip
    heads = [Head("Behaviour"), Head("p", "the primary test"), Head("q")]
    if two:
        heads += [Head("t"), Head("Degrees of freedom"), Head("p of t"), Head("Hedges' g", "with 95 % interval")]
    heads.append(Head("p, videos as units", "not valid where animals have several videos"))
    table = []
    for row in tested:
        cells = [Cell(row["behaviour"]), _p(row["p"]), _p(row["q_bh"])]
        if two:
            cells += [_number(row["t"], 2), _number(row["t_df"], 1), _p(row["p_t"]), _with_interval(row, "g", signed)]
        table.append([*cells, _p(row["p_videos"])])
    return More("The same shares, tested otherwise", texts, None, heads, table)


_MEASURES = {
    "bouts_per_hour": ("bouts per hour", "{:.3g}"),
    "mean_bout_seconds": ("mean bout (s)", "{:.1f}"),
    "median_bout_seconds": ("median bout (s)", "{:.1f}"),
    "latency_seconds": ("latency (s)", "{:.1f}"),
}


def _bouts(rows: Sequence[Row], groups: Sequence[str]) -> More:
    mine = [row for row in rows if row["measure"] in _MEASURES]
    texts = [
        "Medians over animals: bouts per hour seen, their mean and median length, and the latency from the first sight of the animal "
        "to the first bout. Predicted bouts are cut where the animal is not seen. Where a behaviour did not come, the latency is only "
        "known to be longer than the observation; the test takes it as just that (Gehan). q is over the tests of one measure.",
        _leads(mine),
    ]
    heads = [
        Head("Behaviour"),
        Head("Measure"),
        *(Head(f"Median {group}") for group in groups),
        Head("Animals"),
        Head("p"),
        Head("q"),
    ]
    heads += [Head("Effect", mine[0]["effect_name"] if mine else ""), Head("Note")]
    table = []
    for row in mine:
        words, form = _MEASURES[row["measure"]]
        medians = [row[f"median_{k + 1}"] for k in range(len(groups))]
        censored = "did not come" in row["note"]
        note = "did not always come" if censored else row["note"].removeprefix("not tested: ")
        shown = [Cell(form.format(float(m)) if m else "–", m) for m in medians]
        n = ", ".join(row[f"n_{k + 1}"] for k in range(len(groups)))
        table.append(
            [
                Cell(row["behaviour"]),
                Cell(words),
                *shown,
                Cell(n),
                _p(row["p"]),
                _p(row["q_bh"]),
                _number(row["effect"], 2),
                Cell(note),
            ]
        )
    return More("Bouts: how many, how long, how soon", texts, None, heads, table)


def _leads(rows: Sequence[Row]) -> str:
    found = [row for row in rows if row["q_bh"] and float(row["q_bh"]) < SMALL]
    if not found:
        return f"No q is below {SMALL:g}."
    listed = ", ".join(
        f"{row['behaviour']}{' to ' + row['to'] if row['to'] else ''} ({_name(row)}, q {_q(row)})" for row in found[:6]
    )
    rest = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return f"A q below {SMALL:g}, a lead for the next study and not a finding of this one: {listed}{rest}."


def _name(row: Row) -> str:
    if row["measure"] in _MEASURES:
        return _MEASURES[row["measure"]][0].partition(" (")[0]
    return f"{float(row['start']):g} to {float(row['stop']):g} s" if row["start"] else "transition"


def _q(row: Row) -> str:
    shown = p_text(row["q_bh"])
    return shown if shown.startswith("<") else f"= {shown}"


def _bins(artefact: Artefact, rows: Sequence[Row], facts: Mapping[str, Any]) -> More:
    mine = [row for row in rows if row["measure"] == "share_in_bin"]
    texts = [
        f"Shares in stretches of {facts['bin']:g} s from the start of each video; thin: animals, thick: their mean. "
        f"{sum(bool(row['p']) for row in mine)} stretches of behaviours were tested.",
        _leads(mine),
    ]
    described = "Share of every behaviour over the time of the video, animals thin, means of the groups thick."
    return More("In the course of the video", texts, picture(artefact.checked("bins.svg"), described))


def _transitions(artefact: Artefact, rows: Sequence[Row], groups: Sequence[str]) -> More:
    mine = [row for row in rows if row["measure"] == "transition_probability"]
    what = (
        f"how much more often (percentage points, mean over animals) in {groups[0]} than in {groups[1]}"
        if len(groups) == 2
        else "how often (per cent, mean over animals)"
    )
    texts = [
        f"Which behaviour begins next after one has begun: {what}. The same behaviour beginning again is not counted, and neither is a "
        "transition while the animal was out of sight; grey: fewer than two animals of a group.",
        f"{sum(bool(row['p']) for row in mine)} transitions were tested. {_leads(mine)}",
    ]
    described = f"Matrix of transitions between behaviours, {what}."
    return More("Transitions", texts, picture(artefact.checked("transitions.svg"), described))


def _pairs(artefact: Artefact) -> More:
    texts = [
        "Dunn's test of every two groups by the ranks over all of them, Holm over the pairs of a behaviour. It says where a difference "
        "lies that the primary test has shown; where that has shown none, it shows none either."
    ]
    heads = [
        Head("Behaviour"),
        Head("Groups"),
        Head("z"),
        Head("p"),
        Head("p corrected", "Holm over the pairs"),
        Head("Cliff's delta"),
    ]
    table = [
        [
            *(Cell(row["behaviour"]), Cell(f"{row['group_1']} – {row['group_2']}"), _number(row["z"], 2)),
            *(_p(row["p"]), _p(row["p_holm"]), _with_interval(row, "delta", signed)),
        ]
        for row in _rows(artefact, "pairs.csv")
    ]
    return More("Every two groups", texts, None, heads, table)


def _mixed(artefact: Artefact, groups: Sequence[str], facts: Mapping[str, Any]) -> More:
    rows = _rows(artefact, "mixed.csv")
    with_what = ", ".join(facts["covariates"])
    mixed = any(row["model"] == "mixed" for row in rows)
    texts = [
        "A linear model of the share"
        + (
            ", by session, with a random intercept per animal"
            + (", and one more per animal and group" if facts["paired"] and facts["sessions"] else "")
            + ", fitted by restricted maximum likelihood"
            if mixed
            else " of every animal"
        )
        + (f", with {with_what} as covariate{'s' if len(facts['covariates']) > 1 else ''}" if with_what else "")
        + f". An estimate is a difference of shares in percentage points, of groups against {groups[0]}; p is of Student's t with "
        "between-within degrees of freedom; Holm over the behaviours.",
    ]
    notes = list(dict.fromkeys(f"{row['behaviour']}: {row['note']}." for row in rows if row["note"]))
    heads = [Head("Behaviour"), Head("Term"), Head("Estimate", "with 95 % interval"), Head("Degrees of freedom"), Head("p")]
    heads += [Head("p corrected", "Holm, of the groups"), Head("Animals"), Head("Rows")]
    table = [
        [
            *(Cell(row["behaviour"]), Cell(row["term"])),
            _with_interval({**row, "estimate_low": row["low"], "estimate_high": row["high"]}, "estimate", points),
            *(_number(row["df"], 0), _p(row["p"]), _p(row["p_holm"]), _number(row["animals"], 0), _number(row["rows"], 0)),
        ]
        for row in rows
        if row["term"] != "intercept"
    ]
    return More("Linear model: covariates and repeated sessions", [*texts, *notes], None, heads, table)


def picture(path: Path, described: str) -> Picture:
    """An SVG as data URI. It is drawn for a printed column (7 pt type); on a screen it is enlarged until it reads like the text around."""
    content = path.read_bytes()
    found = re.search(rb'<svg[^>]*\swidth="([\d.]+)pt"', content)
    width = round(float(found[1]) * 4 / 3 * 1.4) if found else 700
    return Picture("data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii"), width, described)


def share(text: str) -> str:
    return f"{float(text) * 100:.1f} %"


def points(text: str) -> str:
    """A difference of shares in percentage points."""
    value = f"{float(text) * 100:+.1f}".replace("-", "−")
    return "0.0" if value[1:] == "0.0" else value


def signed(text: str) -> str:
    value = f"{float(text):+.2f}".replace("-", "−")
    return "0.00" if value[1:] == "0.00" else value


def p_text(text: str) -> str:
    """A p value with as many digits as it deserves; never 0."""
    p = float(text)
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _p(text: str) -> Cell:
    return Cell(p_text(text), text) if text else Cell("–", "")


def _number(text: str, digits: int) -> Cell:
    return Cell(f"{float(text):.{digits}f}".replace("-", "−"), text) if text else Cell("–", "")


def _with_interval(row: Row, name: str, form: Any) -> Cell:
    """The value, and small below it its interval: ``<name>``, ``<name>_low``, ``<name>_high``."""
    value, low, high = (row.get(f"{name}{end}", "") for end in ("", "_low", "_high"))
    if not value:
        return Cell("–", "")
    return Cell(form(value), value, f"{form(low)} to {form(high)}".replace(" % to", " to") if low and high else "")
