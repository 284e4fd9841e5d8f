"""Stage ``report``: one self-contained page about the whole study, and what is on it as files.

Written to ``report/``
    index.html    the page; no request leaves it
    figures/      every figure as SVG and PDF
    tables/       every table as CSV
    methods.txt   what a paper's methods section has to say of this study
"""

from __future__ import annotations

from dataclasses import replace

from foveate.jobs import Progress, silent
from foveate.project import Project
from foveate.report.sources import Sources, collect
from foveate.store import Artefact, write_text

VERSION = 4
PAGE = "index.html"


def artefact(project: Project, name: str = "default") -> Artefact:
    """Where the page about probe ``name`` is, or will be.

    Unlike other stages this one goes on without a parent that is not there (one unreadable video must not cost the page), and says so
    on the page. A parent's stamp is therefore given only while the parent is finished: the page is outdated as soon as one comes or goes.
    """
    return _artefact(project, name, collect(project, name))


def _artefact(project: Project, name: str, sources: Sources) -> Artefact:
    settings = {"probe": name, "study": _shown(project)}
    return Artefact(project.stage_folder("report"), "report", VERSION, settings, sources.parents())


def run(project: Project, name: str = "default", progress: Progress = silent) -> Artefact:
    """Write the report. Same inputs, same bytes.

    What could not be read although it was finished (a damaged file) is named on the page and keeps the artefact from counting as done,
    so that the next run makes it again.
    """
    from foveate.report import page, prints

    sources = collect(project, name)
    target = _artefact(project, name, sources)
    if target.complete():
        return target
    made = page.build(project, name, sources, progress)
    if made.notes.unexpected:
        target = replace(target, settings={**target.settings, "problems": made.notes.unexpected})
    target.begin()
    if made.methods:
        write_text(target.path("methods.txt"), "\n\n".join(made.methods) + "\n")
    problems = prints.write(
        target, sources, made.timed, made.budgets, made.colours, made.scored, made.followed, made.judged, made.evaluated
    )
    write_text(target.path(PAGE), made.text)
    target.finish({"problems": problems, "bytes": len(made.text.encode())})
    return target


def _shown(project: Project) -> dict[str, object]:
    """What the page shows of the project files, beside what the parents' stamps cover."""
    values = project.config.model_dump(mode="json")
    values.pop("footage")
    videos = [(v.name, v.path.name, v.session, v.split, v.group, v.subjects) for v in project.videos]
    return {"config": values, "videos": videos}
