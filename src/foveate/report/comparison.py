"""The section on groups: figure, tests, and what they say in words."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveate.project import Project, read_csv
from foveate.report.scores import POOR, Main
from foveate.report.sources import Notes, Problem, Sources
from foveate.schema import FoveateError

Row = Mapping[str, str]


@dataclass(frozen=True)
class Head:
    text: str
    title: str = ""


@dataclass(frozen=True)
class Value:
    """A cell: what is read, and what it is sorted by."""

    text: str
    value: str | None = None


@dataclass(frozen=True)
class Line:
    behaviour: str
    colour: int
    significant: bool
    cells: list[Value]


@dataclass(frozen=True)
class Shown:
    """A finished comparison."""

    figure: str  # data URI
    width: int  # CSS pixels
    described: str
    sentences: list[str]
    caption: str
    heads: list[Head]
    lines: list[Line]
    remarks: list[str]
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
        return Comparison(absent="The videos are not in two groups (column group of videos.csv), so nothing is compared.")
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
    rows = [cells for _, cells in read_csv(artefact.checked("tests.csv"), ("behaviour", "tested", "p_holm", "delta"))]
    picture = artefact.checked("figure.svg").read_bytes()
    first, second = facts["groups"]
    n = facts["animals"]
    tested = [row for row in rows if row["tested"] == "1"]
    hits = [row for row in tested if row["significant"] == "1"]
    exact = "exact " if all(row["exact"] == "1" for row in tested) else ""
    shown = Shown(
        figure="data:image/svg+xml;base64," + base64.b64encode(picture).decode("ascii"),
        width=_width(picture),
        described=_described(rows, first, second),
        sentences=_sentences(rows, first, second, facts["alpha"]),
        caption=f"Two-sided {exact}Mann-Whitney U test per behaviour over animals ({n[0]} {first}, {n[1]} {second}), "
        f"corrected for {len(tested)} behaviour{'' if len(tested) == 1 else 's'} after Holm. "
        f"Cliff's delta runs from −1 to 1 and is positive where {first} is larger; its interval is a bootstrap over animals.",
        heads=[
            Head("Behaviour"),
            Head(f"Median {first}", "share of the time in which the animal was seen"),
            Head(f"Median {second}", "share of the time in which the animal was seen"),
            Head("U", f"of {first}"),
            Head("p"),
            Head("p corrected", "Holm"),
            Head("Cliff's delta", "with 95 % interval"),
            Head("Result"),
        ],
        lines=[Line(row["behaviour"], colours.get(row["behaviour"], 0), row in hits, _cells(row)) for row in rows],
        remarks=[f"{note[:1].upper()}{note[1:]}." for note in facts.get("notes", [])],
        limits=_limits(hits, scored, n),
        significant=len(hits),
        tested=len(tested),
    )
    return shown, _sentence(hits, tested, first, second, n)


def _width(picture: bytes) -> int:
    """The figure is drawn for a printed column (7 pt type); on a screen it is enlarged until that reads like the text around it."""
    found = re.search(rb'<svg[^>]*\swidth="([\d.]+)pt"', picture)
    return round(float(found[1]) * 4 / 3 * 1.4) if found else 700


def _cells(row: Row) -> list[Value]:
    medians = [Value(_share(row[key]), row[key]) for key in ("median_1", "median_2")]
    if row["tested"] != "1":
        return [*medians, *(Value("–", "") for _ in range(4)), Value("not tested")]
    delta = f"{_signed(row['delta'])} ({_signed(row['delta_low'])} to {_signed(row['delta_high'])})"
    return [
        *medians,
        Value(f"{float(row['u']):g}", row["u"]),
        Value(p_text(row["p"]), row["p"]),
        Value(p_text(row["p_holm"]), row["p_holm"]),
        Value(delta, row["delta"]),
        Value("differs " + row["mark"] if row["significant"] == "1" else "not shown"),
    ]


def _share(text: str) -> str:
    return f"{float(text) * 100:.1f} %"


def _signed(text: str) -> str:
    value = f"{float(text):+.2f}".replace("-", "−")
    return "0.00" if value[1:] == "0.00" else value


def p_text(text: str) -> str:
    """A p value with as many digits as it deserves; never 0."""
    p = float(text)
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _p_is(text: str) -> str:
    shown = p_text(text)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _sentences(rows: Sequence[Row], first: str, second: str, alpha: float) -> list[str]:
    """One sentence per behaviour that differs, one for all that do not, one for those that were not tested."""
    out = []
    for row in rows:
        if row["tested"] == "1" and row["significant"] == "1":
            more, less = (first, second) if float(row["delta"]) > 0 else (second, first)
            high, low = ("median_1", "median_2") if more == first else ("median_2", "median_1")
            out.append(
                f"{row['behaviour']}: {more} animals tended to spend more time with it than {less} animals, in the median "
                f"{_share(row[high])} of the time in which they were seen against {_share(row[low])} ({_p_is(row['p_holm'])} after "
                "correction)."
            )
    same = [row for row in rows if row["tested"] == "1" and row["significant"] != "1"]
    if same:
        listed = ", ".join(f"{row['behaviour']} ({_p_is(row['p_holm'])})" for row in same)
        out.append(
            f"No difference was shown at a level of {alpha:g} after correction for: {listed}. That does not show that the groups are "
            "alike; the intervals of Cliff's delta tell how large a difference may have been missed."
        )
    untested = [row["behaviour"] for row in rows if row["tested"] != "1"]
    if untested:
        out.append(f"Not tested, because predicted for no animal of either group: {', '.join(untested)}.")
    return out


def _sentence(hits: Sequence[Row], tested: Sequence[Row], first: str, second: str, n: Sequence[int]) -> str:
    """For the top of the page."""
    groups = f"{first} and {second} ({n[0]} and {n[1]} animals)"
    if not hits:
        return f"No behaviour was shown to differ between {groups}."
    names = [row["behaviour"] for row in hits]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    rest = len(tested) - len(hits)
    text = f"Between {groups}, {listed} differ{'s' if len(names) == 1 else ''}"
    if rest:
        text += f"; for the other {'behaviour' if rest == 1 else f'{rest} behaviours'} no difference was shown"
    return text + "."


def _described(rows: Sequence[Row], first: str, second: str) -> str:
    parts = [f"{row['behaviour']} {_share(row['median_1'])} against {_share(row['median_2'])}" for row in rows]
    return f"Box plots of the share of time per animal in the groups {first} and {second}; medians: {'; '.join(parts)}."


def _limits(hits: Sequence[Row], scored: Main, n: Sequence[int]) -> list[str]:
    out = [
        "A comparison rests on predictions. If the probe errs more often in one group (other coats, lighting, pens), that alone can look "
        "like a difference; check the ethograms of both groups."
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
        out.append(f"With {n[0]} and {n[1]} animals the tests can show only very large differences.")
    return out
