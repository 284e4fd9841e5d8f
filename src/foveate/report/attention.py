"""The section on where the model looks: examples of its attention, and the focus score in words."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from foveate import attention
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
    sheets: list[Sheet]
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
    sheets, caption = _examples(artefact)
    return Attention(Shown(_texts(lines), sheets, caption, lines))


def _texts(lines: list[Line]) -> list[str]:
    """What is drawn, and the first model's scores in plain words."""
    first = [line for line in lines if line.model == lines[0].model]
    parts = []
    for line in first:
        interval = "" if line.low is None or line.high is None else f", 95 % interval {line.low:.1f} to {line.high:.1f}"
        parts.append(
            f"in {_SOURCES[line.source]} {100 * line.share:.0f} % of it falls on the animal, which covers {100 * line.area:.0f} % of the "
            f"picture: {line.focus:.1f} times what its size alone would get (focus score over {line.animals} "
            f"animal{'' if line.animals == 1 else 's'}{interval})"
        )
    verdict = min(line.focus if line.low is None else line.low for line in first)
    if verdict > 1:
        meaning = "So the model, which nobody told where the animal is, looks at it more than at its surroundings."
    elif max(line.focus if line.high is None else line.high for line in first) < 1:
        meaning = "So the model looks past the animal; vectors weighted by the animal's outline (feature `subject`) do not depend on that."
    else:
        meaning = "A score of 1 is no preference, and not everywhere does the model clearly look at the animal more than that."
    return [
        f"Of what the picture's vector (the CLS token of {lines[0].model}) takes from the patches of the picture in the last block, "
        f"{'; '.join(parts)}. {meaning}",
        "The score cannot be larger than one divided by the covered share: compare models on the same pictures with it, not crops with "
        "whole views.",
    ]


def _examples(artefact: Artefact) -> tuple[list[Sheet], str]:
    """Sheets from the least to the most focused example, of each source the same ones."""
    table = attention.load_focus(artefact)
    first = table[(table["model"] == table["model"].iloc[0]) & table["focus"].notna()]
    ranked = first[first["source"] == first["source"].iloc[0]].sort_values("focus", kind="stable")
    picked = np.unique(np.linspace(0, len(ranked) - 1, EXAMPLES).round().astype(int))
    sheets = []
    for at in ranked.iloc[picked].itertuples():
        for source in first["source"].unique():
            path = f"pictures/{at.video}/{at.view}-{at.subject}-{at.frame}-{source}.png"
            described = f"Attention for {at.subject} in {at.video} at {at.time:.1f} s, {_SOURCES[source][:-1]}"
            sheets.append(_sheet(artefact.checked(path).read_bytes(), described))
    caption = (
        f"{len(picked)} of {len(ranked)} examples, from the least to the most focused one. Each row: the picture with the outline that the "
        "tracker gave, the mean of all heads, and every head; bright is where the CLS token looks, each map stretched to its own brightest "
        "patch; ×: focus score"
    )
    return sheets, caption


def _sheet(picture: bytes, described: str) -> Sheet:
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        return Sheet(data_uri(image), image.width, image.height, described)
