"""The published probe with windows of several widths (Guided DINOv2, Fig. 1: macro F1 peaked at 7 frames), in ``probes/<name>-windows/``.

``windows.csv`` has the columns of ``published.csv`` after ``window``. The honest scores are cross-validated on the training videos; the
only ones of the test videos are the published kind, best on them: choosing a width by an honest test score would spoil that score.
"""

from __future__ import annotations

from collections.abc import Sequence

from foveate.actions import copies, probe
from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import ProbeSettings
from foveate.store import Artefact, write_text

VERSION = 1


def artefact(
    project: Project, windows: Sequence[int], name: str = probe.PAPER, settings: ProbeSettings | None = None
) -> Artefact:
    """Where the table is, or will be, with its expected stamp.

    Raises:
        FoveateError: a width is not odd and positive, or the probe is not of recipe ``paper``.
    """
    settings = probe.settings_of(project, name, settings)
    if not windows or any(w < 1 or w % 2 == 0 for w in windows):
        raise FoveateError("windows are centred on their frame, so each width must be odd", remedy="for example 1 3 5 7 9 11")
    if settings.recipe != "paper":
        raise FoveateError(
            f"probe {name!r} is not of recipe paper", remedy="only the published probe is tried at several widths"
        )
    parent = {"probe": probe.artefact(project, name, settings).stamp}
    return Artefact(
        project.stage_folder("probes", f"{name}-windows"), "windows", VERSION, {"windows": sorted(set(windows))}, parent
    )


def found(project: Project, name: str = probe.PAPER) -> Artefact:
    """The table that lies there, whatever widths it was asked for.

    Raises:
        FoveateError: there is none.
    """
    widths = (artefact(project, (1,), name).record() or {}).get("settings", {}).get("windows")
    if not widths:
        raise FoveateError("no widths were tried", remedy="run `foveate probe --recipe paper --windows 1 3 5 7 9 11`")
    return artefact(project, widths, name)


def run(
    project: Project,
    windows: Sequence[int],
    name: str = probe.PAPER,
    settings: ProbeSettings | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train and score at every width. What a width needs of changed pictures beyond the probe's own is made, too.

    Args:
        windows: odd numbers of analysed frames.
        name: of a probe of recipe ``paper``; its own vectors must be finished.
        progress: counts widths.
    """
    settings = probe.settings_of(project, name, settings)
    target = artefact(project, windows, name, settings)
    if target.complete():
        return target
    import pandas as pd

    widths = target.settings["windows"]
    target.begin()
    for number, width in enumerate(widths):
        part = f"window-{width}.csv"
        if not target.has(part):
            write_text(target.path(part), _one(project, settings.model_copy(update={"window": width}), width))
        progress(number + 1, len(widths))
    whole = pd.concat([pd.read_csv(target.path(f"window-{width}.csv"), dtype=str) for width in widths])
    write_text(target.path("windows.csv"), whole.to_csv(index=False, lineterminator="\n"))
    for width in widths:
        target.path(f"window-{width}.csv").unlink()
    target.finish({})
    return target


def _one(project: Project, settings: ProbeSettings, width: int) -> str:
    from foveate.actions import labelwise, published, training

    data = training.load(project, settings)
    if settings.augment == "paper":
        for video in (*data.train, *data.test):
            copies.run(project, video, settings=settings)
    seen, _ = copies.views(project, data, settings)
    clean = labelwise.clean_views(data)
    todo = {job.name: job for job in labelwise.jobs(data, settings.seed) if job.name == "final" or job.name.startswith("fold-")}
    done = {name: labelwise.carry_out(job, seen, clean, settings.seed) for name, job in todo.items()}
    table, _ = published.score(data, settings, todo, done)
    table = table[(table["rows_of"] == "cv") | (table["score"] == published.PAPER)]
    table.insert(0, "window", width)
    return published.csv_text(table)
