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
_FEATURES = {"whole": "vector of the whole picture", "subject": "mean of the animal's patches"}
_MEANING = {
    "original": "as they are",
    "only_fg": "the animal on black",
    "no_fg": "the animal blackened, its shape stays",
    "only_bg_b": "the animal's box blackened",
    "only_bg_t": "the box filled with what is beside it",
    "mixed_same": "the animal before another picture's background, of the same class",
    "mixed_rand": "… of a class drawn at random",
    "mixed_next": "… of another class",
    "gap": "Mixed-Same less Mixed-Rand",
    "adversarial": "right before each of several backgrounds of other classes",
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
    texts: list[str]
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
    texts = [_asked(facts, by, ways[0]), *(_told(by, *way) for way in ways)]
    first, who = by[(*ways[0], "original")], _who(facts)
    adversaries = facts["asked"]["adversaries"]
    small = (
        f"Mean over classes, of {first['pictures']} held-out pictures of {first['groups']} {who} that were put into all sets; "
        f"small: 95 % interval over {who}. Chance is {_percent(first['chance'])}. Adversarial: {adversaries} backgrounds. Made after "
        "the backgrounds challenge (Xiao et al. 2021)."
    )
    heads = [f"{_SOURCES[source]}, {_FEATURES[feature]}" for source, feature in ways]
    sheets = [(_SOURCES[source], _sheet(artefact, source)) for source in dict.fromkeys(source for source, _ in ways)]
    return Shown(texts, heads, lines, sheets, small)


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["accuracy"], row["low"], row["high"])


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _asked(facts: dict[str, Any], by: dict[tuple[str, str, str], dict[str, Any]], way: tuple[str, str]) -> str:
    classes, who = facts["classes"][way[0]], _who(facts)
    what = "which animal it is" if who == "videos" else "what the animal is doing"
    return (
        "What an animal does often goes together with where it is, and a model may then learn the place and not the animal. Here a "
        f"linear probe on {facts['model']} names {what} in single pictures ({'; '.join(classes)}), always of {who} that it was not "
        "trained on. Then it is asked about the same pictures with the animal taken out, or put before another background."
    )


def _who(facts: dict[str, Any]) -> str:
    """What is never on both sides."""
    return "videos" if facts["asked"]["classes"] == ["subjects"] else "animals"


def _told(by: dict[tuple[str, str, str], dict[str, Any]], source: str, feature: str) -> str:
    """One way of showing and reading in plain words."""
    of = {which: by[source, feature, which] for which in (*SETS, "gap", "adversarial")}
    original, chance = of["original"], of["original"]["chance"]
    begin = f"In {_SOURCES[source]}, with the {_FEATURES[feature]}: {_percent(original['accuracy'])} right (chance {_percent(chance)})"
    if original["low"] is not None and original["low"] <= chance:
        return f"{begin}, which is not shown to be above chance, so that nothing can be said about what the probe leans on."
    ground = of["only_bg_t"]
    alone = f"with the background alone (the animal's box filled) {_percent(ground['accuracy'])}"
    if ground["low"] is not None:
        above = (
            "above chance: the background gives something away" if ground["low"] > chance else "not shown to be above chance"
        )
        alone += f", {above}"
    gap = of["gap"]
    points = f"{100 * gap['accuracy']:+.0f} points"
    if gap["low"] is None:
        verdict = f"The right background is worth {points} in these pictures; there are too few animals for an interval."
    elif gap["low"] > 0:
        verdict = f"The right background is worth {points} ({100 * gap['low']:+.0f} to {100 * gap['high']:+.0f}): the model leans on it."
    else:
        verdict = (
            f"That the right background helps is not shown ({points}, 95 % interval {100 * gap['low']:+.0f} to "
            f"{100 * gap['high']:+.0f})."
        )
    return (
        f"{begin}; {alone}; with the animal alone, on black, {_percent(of['only_fg']['accuracy'])}; before a background of a class drawn "
        f"at random {_percent(of['mixed_rand']['accuracy'])}. {verdict}"
    )


def _sheet(artefact: Artefact, source: str) -> Sheet:
    from PIL import Image

    with Image.open(io.BytesIO(artefact.checked(f"{source}.png").read_bytes())) as image:
        described = f"The eight sets made of {_SOURCES[source]}, an example per row"
        return Sheet(data_uri(image), image.width, image.height, described)
