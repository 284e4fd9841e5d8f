"""What commands print of finished results: tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foveate import console
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.store import Artefact


def scores(folder: Path, probe: str = "") -> None:
    """All views together, the figures people quote, and where the others are; of one probe, or of all that foveate.yaml names."""
    project = Project.load(folder)
    sides = {"cv": "cross-validated on the training videos", "test": "on the test videos"}
    for name in [probe] if probe else project.config.probes:
        path = project.folder / "probes" / name / "scores.csv"
        rows = [row for _, row in read_csv(path, ()) if row["view"] == "*"] if path.exists() else []
        for split, words in sides.items():
            shown = [_score(row) for row in rows if row["split"] == split]
            if shown:
                columns = ("behaviour", "F1", "95 % interval", "AP", "positives", "note")
                console.table(columns, shown, title=f"probe {name}, {words}")
        if rows:
            console.out.print(
                f"AP: average precision; all columns: {path.relative_to(project.folder).as_posix()}\n", markup=False
            )


def _score(row: dict[str, str]) -> list[object]:
    interval = f"{float(row['f1_low']):.3f} to {float(row['f1_high']):.3f}" if row["f1_low"] and row["f1_high"] else None
    positives = f"{row['positives']} of {row['rows']}" if row["positives"] else None
    note = row["note"].partition(":")[0].removeprefix("mean of ").removesuffix(" in the test videos")
    numbers = [float(row[name]) if row[name] else None for name in ("f1", "average_precision")]
    return [row["behaviour"].replace("*macro", "mean"), numbers[0], interval, numbers[1], positives, note]


def curve(folder: Path) -> None:
    """Draw the learning curve of the default probe, and say in a sentence what it shows."""
    from foveate.actions import curve as learning

    project = Project.load(folder)
    with console.show("curve", 1) as display:
        done = learning.run(project, progress=lambda d, t: display.update("default", d, t))
    rows = [row for _, row in read_csv(done.checked("curve.csv"), ())]
    points = [row for row in rows if row["behaviour"] == "*macro"]
    numbers = ("animals", "minutes", "f1")
    between = [f"{float(row['low']):.3f} to {float(row['high']):.3f}" if row["low"] else None for row in points]
    shown = [[row["axis"], *(float(row[n]) for n in numbers), low] for row, low in zip(points, between, strict=True)]
    console.table(
        ("varied", "animals", "minutes", "macro F1", "95 % interval"), shown, title="learning curve, animals left out"
    )
    console.out.print(learning.sentence(rows) + "\n", markup=False)


def published(folder: Path, windows: Sequence[int] = ()) -> None:
    """The scores of the published probe side by side and what they would have claimed; also at other widths of the window."""
    from foveate.actions import published as recipe

    found = recipe.load(Project.load(folder))
    if found is None:
        return
    rows = [[score.words, score.rows_of, score.f1, score.interval, score.rows] for score in found.scores]
    console.table(("macro F1 of the published probe", "rows of", "F1", "95 % interval", "rows"), rows)
    for sentence in found.sentences():
        console.out.print(sentence, markup=False)
    console.out.print("all columns: probes/paper/published.csv\n", markup=False)
    if windows:
        _windows(folder, windows)


def checkpoints(project: Project, made: Artefact) -> None:
    """The tables of evaluated checkpoints in the published form, as far as they fit: macro F1 and the largest changes."""
    from foveate.checkpoints import rows_of

    table = rows_of(made, "table.csv")
    ways = {"crop": "on crops", "frame": "on whole views"}
    scores = {"honest": "", "paper": ", best on what is scored (optimistic)"}
    rows = {"cv": "cross-validated", "test": "test videos"}
    blocks = dict.fromkeys((row["shown"], row["score"], row["rows_of"]) for row in table)
    behaviours = list(made.facts()["behaviours"])
    for shown, score, side in blocks:
        own = [row for row in table if (row["shown"], row["score"], row["rows_of"]) == (shown, score, side)]
        lines = [[row["row"], *(_value(row, name) for name in ("macro", *behaviours))] for row in own]
        title = f"F1 {ways[shown]}, {rows[side]}{scores[score]}"
        console.table(("", "macro", *behaviours), lines, title=title)
    for note in made.facts()["notes"]:
        console.out.print(f"· {note}", markup=False)
    console.out.print(f"all columns: {made.folder.relative_to(project.folder).as_posix()}/\n", markup=False)


def _value(row: dict[str, str], name: str) -> str:
    if not row[name]:
        return ""
    value = float(row[name])
    return f"{value:.3f}" if row["value"] == "F1" else f"{value:+.1f} %" if row["value"] == "percent" else f"{value:.0f}"


def _windows(folder: Path, windows: Sequence[int]) -> None:
    from foveate.actions import window_sweep

    with console.show("windows", 1) as display:
        done = window_sweep.run(Project.load(folder), windows, progress=lambda d, t: display.update("paper", d, t))
    points = [row for _, row in read_csv(done.checked("windows.csv"), ()) if row["behaviour"] == "*macro"]
    f1 = {(row["window"], row["score"], row["rows_of"]): float(row["f1"]) for row in points if row["f1"]}
    sides = {("honest", "cv"): "honest, cv", ("paper", "cv"): "best on cv", ("paper", "test"): "best on test"}
    shown = [[int(w), *(f1.get((w, *side)) for side in sides)] for w in dict.fromkeys(row["window"] for row in points)]
    console.table(("window", *sides.values()), shown, title="macro F1 of the published probe by width of the window")
    console.out.print("all columns: probes/paper-windows/windows.csv\n", markup=False)


def tests(folder: Path) -> None:
    """The primary tests of the comparison, what they could show at all, and where the rest is."""
    from foveate.groups import NAMES, artefact
    from foveate.report.comparison_more import p_text

    project = Project.load(folder)
    try:
        found = artefact(project)
    except FoveateError:  # the run has said why
        return
    if not found.complete():
        return
    facts, groups = found.facts(), found.facts()["groups"]
    rows = [cells for _, cells in read_csv(found.checked("tests.csv"), ("behaviour",))]
    shown: list[list[object]] = []
    for row in rows:
        digits = 1 if len(groups) == 2 else 0
        medians = " / ".join(f"{100 * float(row[f'median_{k + 1}']):.{digits}f}" for k in range(len(groups)))
        if row["tested"] == "1":
            p = [p_text(row[name]) for name in ("p", "p_holm")]
            effect, low, high = (f"{float(row[name]):.2f}" for name in ("effect", "effect_low", "effect_high"))
            shown.append([row["behaviour"], medians, *p, effect, f"{low} to {high}", row["mark"]])
        else:
            shown.append([row["behaviour"], medians, *[""] * 4, "not tested"])
    effect = next((row["effect_name"] for row in rows if row["effect_name"]), "effect").removeprefix("Cliff's ")
    n = facts["animals"]
    who = " / ".join(groups if facts["paired"] else [f"{g} ({size} animals)" for g, size in zip(groups, n, strict=True)])
    title = f"{NAMES.get(facts['test'], 'nothing tested')}: {who}" + (f", {n[0]} pairs" if facts["paired"] else "")
    console.table(("behaviour", "medians, %", "p", "p Holm", effect, "95 % interval", "result"), shown, title=title)
    for note in facts["notes"]:
        console.out.print(f"· {note}", markup=False)
    console.out.print(
        f"figure, further tests and all tables: {found.folder.relative_to(project.folder).as_posix()}\n", markup=False
    )
