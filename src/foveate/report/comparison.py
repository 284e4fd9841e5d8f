"""The section on groups: figure, primary tests, and what they say in words; what is beside them is in ``comparison_more``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.groups import NAMES
from foveate.project import Project
from foveate.report.comparison_more import Cell, Head, More, Picture, load_more, p_text, picture, share, signed
from foveate.report.scores import POOR, Main
from foveate.report.sources import Notes, Problem, Sources
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.store import Artefact

Row = Mapping[str, str]

LETTERS = {"mann-whitney": "U", "wilcoxon": "W+", "kruskal-wallis": "H"}
"""Of the primary test's statistic."""


@dataclass(frozen=True)
class Line:
    behaviour: str
    colour: int
    significant: bool
    cells: list[Cell]


@dataclass(frozen=True)
class Shown:
    """A finished comparison."""

    picture: Picture
    sentences: list[str]
    caption: str
    heads: list[Head]
    lines: list[Line]
    remarks: list[str]
    more: list[More]
    limits: list[str]
    significant: int
    tested: int


@dataclass(frozen=True)
class Comparison:
    shown: Shown | None = None
    absent: str = ""
    sentence: str = ""


def load(
    project: Project, name: str, sources: Sources, notes: Notes, colours: Mapping[str, int], scored: Main | None
) -> Comparison:
    """All that the section shows; ``absent`` says why there is nothing."""
    groups = {video.group for video in project.videos if video.group}
    if len(groups) < 2 and not project.config.compare.groups:
        return Comparison(absent="The videos are not in groups (column group of videos.csv), so nothing is compared.")
    if scored is None:
        return Comparison(absent="There are no predictions, so the groups cannot be compared.")
    if not sources.has("compare"):
        try:
            sources.get("compare")
        except FoveateError as error:
            notes.add("comparison", error)
        return Comparison(absent="There is no finished comparison of the groups.")
    found = notes.attempt("comparison", lambda: _load(sources, colours, scored))
    if isinstance(found, Problem):
        return Comparison(absent="The comparison could not be read.")
    shown, sentence = found
    return Comparison(shown, "", sentence)


def _load(sources: Sources, colours: Mapping[str, int], scored: Main) -> tuple[Shown, str]:
    artefact = sources.get("compare")
    facts = artefact.facts()
    rows = [cells for _, cells in read_csv(artefact.checked("tests.csv"), ("behaviour", "tested", "p_holm", "effect"))]
    groups: list[str] = facts["groups"]
    tested = [row for row in rows if row["tested"] == "1"]
    hits = [row for row in tested if row["significant"] == "1"]
    shown = Shown(
        picture=picture(artefact.checked("figure.svg"), _described(rows, groups)),
        sentences=[*_sentences(rows, groups, facts), *_doubted(artefact, hits)],
        caption=_caption(tested, groups, facts),
        heads=_heads(groups, facts),
        lines=[Line(row["behaviour"], colours.get(row["behaviour"], 0), row in hits, _cells(row, groups)) for row in rows],
        remarks=[f"{note[:1].upper()}{note[1:]}." for note in facts.get("notes", [])],
        more=load_more(artefact, facts, rows),
        limits=_limits(hits, scored, facts),
        significant=len(hits),
        tested=len(tested),
    )
    return shown, _sentence(hits, tested, groups, facts)


def _caption(tested: Sequence[Row], groups: Sequence[str], facts: Mapping[str, Any]) -> str:
    exact = "exact " if all(row["exact"] == "1" for row in tested) else ""
    sided = "" if len(groups) > 2 else "two-sided "
    test = NAMES.get(facts["test"], "no test")
    n = facts["animals"]
    who = f"{n[0]} pairs" if facts["paired"] else ", ".join(f"{size} {group}" for size, group in zip(n, groups, strict=True))
    words = f"{sided}{exact}{test} per behaviour over animals ({who}), "
    words += f"corrected for {len(tested)} behaviour{'' if len(tested) == 1 else 's'} after Holm. "
    if len(groups) > 2:
        words += (
            "Epsilon squared is the share of the ranks' variance between the groups; its interval is a bootstrap over animals."
        )
    elif facts["paired"]:
        words += (
            f"The rank-biserial correlation runs from −1 to 1 and is positive where animals do more of it in {groups[0]}; its interval "
            "is a bootstrap over animals, or exact where all change the same way."
        )
    else:
        words += f"Cliff's delta runs from −1 to 1 and is positive where {groups[0]} is larger; its interval is Newcombe's."
    return words[:1].upper() + words[1:]


def _heads(groups: Sequence[str], facts: Mapping[str, Any]) -> list[Head]:
    effect = "Epsilon squared" if len(groups) > 2 else "Rank-biserial correlation" if facts["paired"] else "Cliff's delta"
    letter = LETTERS.get(facts["test"], "Statistic")
    return [
        Head("Behaviour"),
        *(Head(f"Median {group}", "share of the time in which the animal was seen") for group in groups),
        Head(letter, f"of {groups[0]}" if letter == "U" else NAMES.get(facts["test"], "")),
        Head("p"),
        Head("p corrected", "Holm"),
        Head(effect, "with 95 % interval"),
        Head("Result"),
    ]


def _cells(row: Row, groups: Sequence[str]) -> list[Cell]:
    medians = [Cell(share(value), value) for value in _medians(row, len(groups))]
    if row["tested"] != "1":
        return [*medians, *(Cell("–", "") for _ in range(4)), Cell("not tested")]
    effect = f"{signed(row['effect'])} ({signed(row['effect_low'])} to {signed(row['effect_high'])})"
    return [
        *medians,
        Cell(f"{float(row['statistic']):.4g}", row["statistic"]),
        Cell(p_text(row["p"]), row["p"]),
        Cell(p_text(row["p_holm"]), row["p_holm"]),
        Cell(effect if len(groups) == 2 else effect.replace("+", ""), row["effect"]),
        Cell("differs " + row["mark"] if row["significant"] == "1" else "not shown"),
    ]


def _medians(row: Row, groups: int) -> list[str]:
    return [row[f"median_{k + 1}"] for k in range(groups)]


def _p_is(text: str) -> str:
    shown = p_text(text)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _sentences(rows: Sequence[Row], groups: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    """One sentence per behaviour that differs, one for all that do not, one for those that were not tested."""
    out = []
    for row in rows:
        if row["tested"] == "1" and row["significant"] == "1":
            out.append(f"{row['behaviour']}: {_differs(row, groups, facts)} ({_p_is(row['p_holm'])} after correction).")
    same = [row for row in rows if row["tested"] == "1" and row["significant"] != "1"]
    if same:
        listed = ", ".join(f"{row['behaviour']} ({_p_is(row['p_holm'])})" for row in same)
        effect = same[0]["effect_name"].replace("rank-biserial", "the rank-biserial correlation")
        out.append(
            f"No difference was shown at a level of {facts['alpha']:g} after correction for: {listed}. That does not show that the "
            f"groups are alike; the intervals of {effect} tell how large a difference may have been missed."
        )
    untested = [row["behaviour"] for row in rows if row["tested"] != "1"]
    if untested:
        which = "either group" if len(groups) == 2 else "any group"
        out.append(f"Not tested, because predicted for no animal of {which}: {', '.join(untested)}.")
    return out


def _doubted(artefact: Artefact, hits: Sequence[Row]) -> list[str]:
    """What is starred, but could come from the probe's errors."""
    if "corrected_differences.csv" not in artefact.files():
        return []
    rows = [cells for _, cells in read_csv(artefact.checked("corrected_differences.csv"), ("behaviour", "low", "high"))]
    covered = {row["behaviour"] for row in rows if row["low"] and float(row["low"]) <= 0 <= float(row["high"])}
    names = [row["behaviour"] for row in hits if row["behaviour"] in covered]
    if not names:
        return []
    return [
        f"Once the errors of the probe are carried in (below), the interval of the difference in {_and(names)} reaches over zero: "
        "annotate more animals of both groups before relying on it."
    ]


def _differs(row: Row, groups: Sequence[str], facts: Mapping[str, Any]) -> str:
    medians = _medians(row, len(groups))
    seen = "of the time in which they were seen"
    if len(groups) > 2:
        listed = ", ".join(f"{share(value)} in {group}" for value, group in zip(medians, groups, strict=True))
        return f"the groups differ, in the median {listed} {seen}"
    order = slice(None) if float(row["effect"]) > 0 else slice(None, None, -1)
    (more, less), (high, low) = groups[order], medians[order]
    who = "animals tended" if not facts["paired"] else "the animals tended"
    if facts["paired"]:
        return f"{who} to spend more time with it in {more} than in {less}, in the median {share(high)} {seen} against {share(low)}"
    return (
        f"{more} {who} to spend more time with it than {less} animals, in the median {share(high)} {seen} against {share(low)}"
    )


def _sentence(hits: Sequence[Row], tested: Sequence[Row], groups: Sequence[str], facts: Mapping[str, Any]) -> str:
    """For the top of the page."""
    n = [str(size) for size in facts["animals"]]
    count = f"the same {n[0]} animals" if facts["paired"] else f"{_and(n)} animals"
    compared = f"{_and(groups)} ({count})"
    between = "Between" if len(groups) == 2 else "Among"
    if not hits:
        return f"No behaviour was shown to differ {between.lower()} {compared}."
    names = [row["behaviour"] for row in hits]
    rest = len(tested) - len(hits)
    text = f"{between} {compared}, {_and(names)} differ{'s' if len(names) == 1 else ''}"
    if rest:
        text += f"; for the other {'behaviour' if rest == 1 else f'{rest} behaviours'} no difference was shown"
    return text + "."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _described(rows: Sequence[Row], groups: Sequence[str]) -> str:
    parts = [f"{row['behaviour']} {' against '.join(share(v) for v in _medians(row, len(groups)))}" for row in rows]
    return f"Box plots of the share of time per animal in the groups {_and(groups)}; medians: {'; '.join(parts)}."


def _limits(hits: Sequence[Row], scored: Main, facts: Mapping[str, Any]) -> list[str]:
    n = facts["animals"]
    out = [
        "A comparison rests on predictions. If the probe errs more often in one group (other coats, lighting, pens), that alone can look "
        "like a difference; look at the shares corrected for the probe's errors, and check the ethograms of all groups."
    ]
    cells = {
        line.behaviour: line.cell for side in reversed(scored.sides) for line in side.lines
    }  # cross-validated, if there is
    weak = [row["behaviour"] for row in hits if (cell := cells.get(row["behaviour"])) is None or (cell.f1 or 0) < POOR]
    if weak:
        out.append(
            f"Found to differ although recognised poorly or unchecked: {', '.join(weak)}. Confirm by annotating some videos."
        )
    if min(n) < 6:
        many = f"{n[0]} pairs of recordings" if facts["paired"] else f"{_and([str(size) for size in n])} animals"
        out.append(f"With {many} the tests can show only very large differences.")
    return out
