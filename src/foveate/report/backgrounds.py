"""The section on how much the model leans on the background, where somebody asked (``foveate evaluate backgrounds``)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from foveate.evaluate import backgrounds
from foveate.evaluate.backgrounds.composites import SETS, TITLES
from foveate.report.attention import Sheet
from foveate.report.sheets import data_uri
from foveate.report.sources import Notes, Problem, Sources
from foveate.store import Artefact

_SOURCES = {"crop": "crops", "frame": "whole views"}
_FEATURES = {"whole": "vector of the picture", "subject": "mean of the animal's patches"}
_MEANING = {
    "original": "as they are",
    "only_fg": "the animal on black",
    "no_fg": "the animal black, its shape stays",
    "only_bg_b": "the animal's box black",
    "only_bg_t": "the box filled with what is beside it",
    "mixed_same": "before a background of the same class",
    "mixed_rand": "… of any class",
    "mixed_next": "… of the next class",
    "gap": "Mixed-Same less Mixed-Rand",
    "adversarial": "right before all of several of other classes",
}


@dataclass(frozen=True)
class Cell:
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """A set, in every way of showing and reading."""

    title: str
    meaning: str
    cells: list[Cell]
    apart: bool  # a line above it


@dataclass(frozen=True)
class Shown:
    text: str
    told: list[str]  # in every way of showing and reading
    heads: list[str]
    lines: list[Line]
    sheets: list[tuple[str, Sheet]]
    small: str


def load(sources: Sources, notes: Notes) -> Shown | None:
    """All that the section shows; None where nobody asked."""
    if not sources.has("backgrounds"):
        return None
    found = notes.attempt("backgrounds", lambda: _load(sources.get("backgrounds")))
    return None if isinstance(found, Problem) else found


def _load(artefact: Artefact) -> Shown:
    facts, rows = artefact.facts(), backgrounds.rows(artefact)
    by = {(row["source"], row["feature"], row["set"]): row for row in rows}
    ways = list(dict.fromkeys((row["source"], row["feature"]) for row in rows))
    titles = TITLES | {"gap": "BG-Gap", "adversarial": "Adversarial"}
    lines = [
        Line(titles[which], _MEANING[which], [_cell(by[source, feature, which]) for source, feature in ways], which == "gap")
        for which in (*SETS, "gap", "adversarial")
    ]
    told = [_told(by, *way) for way in ways]
    first, who = by[(*ways[0], "original")], _who(facts)
    adversaries = facts["asked"]["adversaries"]
    small = (
        f"Mean over classes, of {first['pictures']} held-out pictures of {first['groups']} {who} that were put into all sets; "
        f"small: 95 % interval over {who}. Chance is {_percent(first['chance'])}. Adversarial: {adversaries} backgrounds. Made after "
        "the backgrounds challenge (Xiao et al. 2021)."
    )
    heads = [f"{_SOURCES[source]}, {_FEATURES[feature]}" for source, feature in ways]
    sheets = [(_SOURCES[source], _sheet(artefact, source)) for source in dict.fromkeys(source for source, _ in ways)]
    return Shown(_asked(facts, ways[0]), told, heads, lines, sheets, small)


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["accuracy"], row["low"], row["high"])


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _asked(facts: dict[str, Any], way: tuple[str, str]) -> str:
    classes, who = [name.replace("_", " ") for name in facts["classes"][way[0]]], _who(facts)
    what = "which animal it is" if who == "videos" else "what the animal is doing"
    return (
        "What an animal does often goes together with where it is, and a model may then learn the place and not the animal. Here a "
        f"linear probe on {facts['model']} names {what} in single pictures ({'; '.join(classes)}), always of {who} that it was not "
        "trained on. Then it is asked about the same pictures with the animal taken out, or put before another background. Any other "
        "background costs something, because a picture that was put together looks unlike those it learned from; what tells is whether "
        "a background of the same class costs less than one of any class (BG-Gap)."
    )


def _who(facts: dict[str, Any]) -> str:
    """What is never on both sides."""
    return "videos" if facts["asked"]["classes"] == ["subjects"] else "animals"


def _told(by: dict[tuple[str, str, str], dict[str, Any]], source: str, feature: str) -> str:
    """One way of showing and reading in plain words."""
    of = {which: by[source, feature, which] for which in (*SETS, "gap")}
    original, ground, gap, chance = of["original"], of["only_bg_t"], of["gap"], of["original"]["chance"]
    begin = f"{_SOURCES[source].capitalize()}, {_FEATURES[feature]}: {_percent(original['accuracy'])} right (chance {_percent(chance)})"
    if original["low"] is not None and original["low"] <= chance:
        return f"{begin}, which is not shown to be above chance, so that nothing can be said about what the probe leans on."
    alone = f"{_percent(ground['accuracy'])} with the background alone"
    if ground["low"] is not None:
        alone += ", so it gives something away" if ground["low"] > chance else ", not shown to be above chance"
    change = _percent(of["mixed_rand"]["accuracy"])
    points = f"{_points(gap['accuracy'])} points"
    between = "" if gap["low"] is None else f" (95 % interval {_points(gap['low'])} to {_points(gap['high'])})"
    if gap["low"] is None:
        verdict = f"The right background is worth {points} in these pictures; too few groups for an interval."
    elif gap["low"] > 0:
        verdict = f"The right background is worth {points}{between}: the model leans on it."
    else:
        verdict = f"That it leans on the background is not shown: the right one is worth {points}{between}."
    return f"{begin}; {alone}; {change} before a background of any class. {verdict}"


def _points(value: float) -> str:
    """Hundredths, with their sign."""
    whole = round(100 * value)
    return f"{whole:+d}" if whole else "0"


def _sheet(artefact: Artefact, source: str) -> Sheet:
    from PIL import Image

    with Image.open(io.BytesIO(artefact.checked(f"{source}.png").read_bytes())) as image:
        described = f"The eight sets made of {_SOURCES[source]}, an example per row"
        return Sheet(data_uri(image), image.width, image.height, described)
