"""The section on where the model looks: examples of its attention, and the focus score in words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate import attention
from foveate.attention.focus import bootstrap_interval
from foveate.project import Project
from foveate.report.sheets import data_uri
from foveate.report.sources import Notes, Problem, Sources
from foveate.schema import FoveateError
from foveate.store import Artefact

EXAMPLES = 4

_SOURCES = {"crop": "crops", "frame": "whole views"}


@dataclass(frozen=True)
class Sheet:
    """A figure of one example."""

    uri: str
    width: int  # CSS pixels
    height: int
    described: str


@dataclass(frozen=True)
class Line:
    """One model and source in the table."""

    model: str
    source: str
    focus: float
    low: float | None
    high: float | None
    animals: int
    pictures: int
    share: float
    area: float


@dataclass(frozen=True)
class Shown:
    texts: list[str]
    examples: list[list[Sheet]]  # of each example one per source
    caption: str
    lines: list[Line]


@dataclass(frozen=True)
class Attention:
    shown: Shown | None = None
    absent: str = ""

    @property
    def limits(self) -> list[str]:
        if self.shown is None:
            return []
        return [
            "Attention is not an explanation. It says which patches the picture's vector was mixed from in the last block, not which "
            "of them decided a behaviour, and probes on the mean of the animal's patches do not use that vector at all."
        ]


def load(project: Project, sources: Sources, notes: Notes) -> Attention:
    """All that the section shows; ``absent`` says why there is nothing."""
    if not sources.has("attend"):
        try:
            sources.get("attend")
        except FoveateError as error:
            notes.add("attention", error)
        return Attention(absent="Where the model looks has not been worked out yet.")
    found = notes.attempt("attention", lambda: _load(sources.get("attend")))
    return Attention(absent="The attention could not be read.") if isinstance(found, Problem) else found


def _load(artefact: Artefact) -> Attention:
    note = str(artefact.facts()["note"])
    lines = [Line(*row) for row in attention.summary_rows(artefact) if row[2] is not None]  # type: ignore[arg-type]
    if not lines:
        return Attention(absent=f"{note[:1].upper()}{note[1:]}." if note else "In none of the frames was an animal to be seen.")
    examples, caption = _examples(artefact)
    return Attention(Shown(_texts(lines), examples, caption, lines))


def load_runs(sources: Sources, notes: Notes) -> Shown | None:
    """What pretraining did to where the model looks; None where nobody asked (``foveate attend --runs``)."""
    if not sources.has("attend runs"):
        return None
    found = notes.attempt("attention", lambda: _load_runs(sources.get("attend runs")))
    return None if isinstance(found, Problem) else found


def _load_runs(artefact: Artefact) -> Shown | None:
    lines = [Line(*row) for row in attention.summary_rows(artefact) if row[2] is not None]  # type: ignore[arg-type]
    if not lines:
        return None
    examples, caption = _examples(artefact)
    return Shown(_gains(attention.load_focus(artefact)), examples, f"{caption}; rows: {', '.join(_models(lines))}", lines)


def _models(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.model for line in lines))


def _gains(table: Any) -> list[str]:
    """How much more than the first model each other one looks at the animal, on the same pictures."""
    keys = ["video", "view", "subject", "frame"]
    models = table["model"].unique().tolist()
    out = []
    for source in table["source"].unique():
        wide = table[table["source"] == source].pivot(index=keys, columns="model", values="focus").dropna()
        subjects = wide.index.get_level_values("subject").to_numpy(str)
        for model in models[1:]:
            gain, low, high, animals = bootstrap_interval((wide[model] - wide[models[0]]).to_numpy(), subjects)
            text = f"In {_SOURCES[source]} the focus score of {model} is {gain:+.2f} apart from that of {models[0]}"
            if np.isnan(low):
                out.append(f"{text}; {animals} animals are too few for an interval.")
            else:
                verdict = "shown" if low > 0 or high < 0 else "not shown"
                out.append(f"{text} (95 % interval {low:+.2f} to {high:+.2f}, {animals} animals): {verdict}.")
    return out


def _texts(lines: list[Line]) -> list[str]:
    """What is shown, and the first model's scores in plain words."""
    first = [line for line in lines if line.model == lines[0].model]
    shares = "; ".join(
        f"in {_SOURCES[line.source]} the animal covers {100 * line.area:.0f} % of the picture and gets {100 * line.share:.0f} % of the "
        "attention"
        if line is first[0]
        else f"in {_SOURCES[line.source]} it covers {100 * line.area:.0f} % and gets {100 * line.share:.0f} %"
        for line in first
    )
    low = min(line.focus if line.low is None else line.low for line in first)
    high = max(line.focus if line.high is None else line.high for line in first)
    # Below five animals there is no interval, so nothing is said beyond these pictures.
    so = "In these pictures" if any(line.low is None for line in first) else "So"
    if low > 1:
        meaning = f"{so} the model, which nobody told where the animal is, looks at it more than at its surroundings."
    elif high < 1:
        meaning = (
            f"{so} the model looks past the animal; vectors weighted by its outline (feature `subject`) do not depend on that."
        )
    else:
        meaning = "It is not shown that the model looks at the animal more than at its surroundings."
    return [
        f"When {lines[0].model} makes its vector of a picture (the CLS token), it takes from some parts of it more than from others: "
        f"{shares}. The focus score, how many times the attention is what the animal's size alone would get, is {_scores(first)}. "
        f"{meaning}",
        "The score cannot be larger than one divided by the covered share. Use it to compare models on the same pictures, not crops "
        "with whole views.",
    ]


def _scores(lines: list[Line]) -> str:
    return " and ".join(
        f"{line.focus:.1f} in {_SOURCES[line.source]}"
        + (
            ""
            if line.low is None or line.high is None
            else f" (95 % interval {line.low:.1f} to {line.high:.1f}, {line.animals} animals)"
        )
        for line in lines
    )


def _examples(artefact: Artefact) -> tuple[list[list[Sheet]], str]:
    """Sheets from the least to the most focused example, of each source the same ones."""
    table = attention.load_focus(artefact)
    first = table[(table["model"] == table["model"].iloc[0]) & table["focus"].notna()]
    ranked = first[first["source"] == first["source"].iloc[0]].sort_values("focus", kind="stable")
    picked = np.unique(np.linspace(0, len(ranked) - 1, EXAMPLES).round().astype(int))
    examples = [
        [_sheet(artefact, at, source) for source in first["source"].unique()] for at in ranked.iloc[picked].itertuples()
    ]
    many = (
        "The only example"
        if len(ranked) == 1
        else f"{len(picked)} of {len(ranked)} examples, from the least to the most focused one"
    )
    caption = (
        f"{many}. From left to right the picture with the outline that the tracker gave, the mean of all heads, and every head: bright "
        "where the CLS token looks, each map stretched to its own brightest patch; ×: focus score"
    )
    return examples, caption


def _sheet(artefact: Artefact, at: Any, source: str) -> Sheet:
    from PIL import Image

    path = artefact.checked(f"pictures/{at.video}/{at.view}-{at.subject}-{at.frame}-{source}.png")
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        described = f"Attention for {at.subject} in {at.video} at {at.time:.1f} s, in the {source}"
        return Sheet(data_uri(image), image.width, image.height, described)
