"""Stage ``predict``: a probe's probabilities for every analysed frame of a video, and the bouts and time budgets that follow.

A video that the probe was trained on is predicted by the fold that never saw its group, so that no prediction was fitted to its own labels
(``model`` says which; ``final-fitted`` marks the one case without a fold, training videos of a single group).

Written to ``predictions/<probe>/<video>/``
    predictions.parquet   schema.prediction_schema; sorted by frame, view, subject; decisions of view ``*`` are smoothed
    bouts.parquet         schema.BOUTS, runs of positive frames of view ``*``
    budget.csv            seconds, share, bouts per subject and behaviour (``bouts.BUDGET``), of view ``*``
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import timeline, track
from foveate.actions import embed, probe
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import ALL_VIEWS, BOUTS, FoveateError, State, Target, prediction_schema
from foveate.settings import ProbeSettings
from foveate.store import Artefact, remembered, write_parquet, write_text

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2

_BEST_FIRST = (State.PROMPTED, State.TRACKED, State.INTERPOLATED, State.UNCERTAIN, State.LOST, State.ABSENT)
"""View ``*`` has the best state of the views."""


@remembered
def artefact(project: Project, video: Video, name: str = "default", settings: ProbeSettings | None = None) -> Artefact:
    """Where the predictions of probe ``name`` for a video are, or will be, with their expected stamp."""
    settings = probe.settings_of(project, name, settings)
    parents = {
        "probe": probe.artefact(project, name, settings).stamp,
        "embed": embed.artefact(project, video, source=settings.source).stamp,
        "track": track.artefact(project, video).stamp,
    }
    return Artefact(project.stage_folder("predictions", name, video.name), "predict", VERSION, {}, parents)


def run(
    project: Project, video: Video, name: str = "default", settings: ProbeSettings | None = None, progress: Progress = silent
) -> Artefact:
    """Predict one video with probe ``name``.

    Raises:
        FoveateError: the probe, the vectors or the track are not finished.
    """
    target = artefact(project, video, name, settings)
    if target.complete():
        return target
    import pandas as pd

    from foveate.actions.bouts import bouts, time_budget

    fitted = probe.load_probe(project, name, settings)
    model, number = fitted.model_of(video.name)
    frames = timeline.analysed(project, video)
    views, subjects, state, logit = _logits(project, video, fitted, number, frames.frame, target.folder, name, settings)
    prob, pred = _decide(logit, fitted.threshold[number])
    for s in range(len(subjects)):
        pred[:, 0, s] = _smoothed(frames, prob[:, 0, s], fitted, number)
    target.begin()
    progress(len(frames), len(frames))

    shape = (len(frames), len(views), len(subjects))
    keys: dict[str, Any] = {
        "video": np.full(shape, video.name, dtype=object),
        "view": np.broadcast_to(np.array(views, dtype=object)[None, :, None], shape),
        "subject": np.broadcast_to(np.array(subjects, dtype=object), shape),
        "frame": np.broadcast_to(frames.frame[:, None, None], shape),
        "time": np.broadcast_to(frames.time[:, None, None], shape),
        "duration": np.broadcast_to(frames.duration[:, None, None], shape),
        "state": np.array([str(s) for s in _BEST_FIRST], dtype=object)[state],
        "model": np.full(shape, model, dtype=object),
    }
    columns: dict[str, Any] = {key: value.reshape(-1) for key, value in keys.items()}
    for k, behaviour in enumerate(fitted.behaviours):
        p = prob[..., k].reshape(-1)
        columns[f"prob_{behaviour}"] = pa.array(p, pa.float32(), mask=np.isnan(p))
        columns[f"pred_{behaviour}"] = pred[..., k].reshape(-1)
    write_parquet(target.path("predictions.parquet"), pa.table(columns, schema=prediction_schema(fitted.behaviours)))

    found, budgets = [], []
    for s, subject in enumerate(subjects):
        on, mean = pred[:, 0, s], prob[:, 0, s]
        found.append(bouts(frames.time, frames.duration, on, mean, fitted.behaviours, video=video.name, subject=subject))
        budgets.append(time_budget(frames.time, frames.duration, on, fitted.behaviours, video=video.name, subject=subject))
    joined = pd.concat(found, ignore_index=True)
    write_parquet(target.path("bouts.parquet"), pa.Table.from_pandas(joined, schema=BOUTS, preserve_index=False))
    write_text(target.path("budget.csv"), pd.concat(budgets).to_csv(index=False, lineterminator="\n"))
    seen = pred[:, 0, :, 0] != -1
    target.finish(
        {
            "model": model,
            "frames": len(frames),
            "bouts": len(joined),
            "seen": round(float(seen.mean()), 6) if seen.size else 0.0,
        }
    )
    return target


def _logits(
    project: Project,
    video: Video,
    fitted: probe.Probe,
    number: int,
    frame: NDArray[np.int64],
    scratch: Path,
    name: str,
    settings: ProbeSettings | None,
) -> tuple[list[str], list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Views (``*`` first), subjects, and for ``[frame, view, subject]`` the state (index into ``_BEST_FIRST``) and the logits
    ``[..., L]``, NaN where the subject is not seen."""
    from foveate.actions.logistic import logits
    from foveate.actions.windows import video_windows

    state, views, subjects = _states(project, video, frame)
    if fitted.settings.recipe == "adapters":
        from foveate.actions import adapted

        fit = probe.artefact(project, name, settings)
        keys, position, found = adapted.video_logits(project, video, fit, fitted.settings, number, scratch)
    else:
        keys, position, design = video_windows(project, video, fitted.settings)
        found = logits(design, fitted.weight[number], fitted.bias[number])
    out = np.full((len(frame), 1 + len(views), len(subjects), len(fitted.behaviours)), np.nan)
    if len(keys):
        v, s = _codes(keys["view"].to_numpy(), views), _codes(keys["subject"].to_numpy(), subjects)
        out[position, 1 + v, s] = found
    seen = ~np.isnan(out[:, 1:, :, :1])
    total = np.where(seen, out[:, 1:], 0).sum(1)
    count = seen.sum(1)
    out[:, 0] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    best = state.min(1, keepdims=True)
    return [ALL_VIEWS, *views], subjects, np.concatenate([best, state], axis=1), out


def _states(project: Project, video: Video, frame: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """State of ``[frame, view, subject]``, views and subjects sorted."""
    source = track.artefact(project, video)
    if not source.complete():
        raise FoveateError("the track is missing or out of date", file=source.folder, remedy="run `foveate run`")
    parts = [source.table(part, ["view", "subject", "frame", "state"]) for part in source.files(".parquet")]
    table = pa.concat_tables(parts)
    views, subjects = (sorted(set(table[column].to_pylist())) for column in ("view", "subject"))
    out = np.full((len(frame), len(views), len(subjects)), len(_BEST_FIRST) - 1, dtype=np.int64)
    names = [table[column].to_numpy(zero_copy_only=False) for column in ("view", "subject", "state")]
    v, s, code = _codes(names[0], views), _codes(names[1], subjects), _codes(names[2], [str(x) for x in _BEST_FIRST])
    out[np.searchsorted(frame, table["frame"].to_numpy()), v, s] = code
    return out, views, subjects


def _codes(values: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[value] for value in values], dtype=np.int64)


def _decide(logit: NDArray[np.float64], threshold: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Probabilities, NaN where not seen, and decisions, -1 where not seen."""
    from foveate.actions.selection import decide, probability

    unseen = np.isnan(logit)
    prob = probability(np.where(unseen, 0, logit))
    pred = np.where(unseen, np.int8(-1), decide(prob, threshold))
    return np.where(unseen, np.float32(np.nan), prob), pred


def _smoothed(frames: timeline.Analysed, prob: NDArray[np.float32], fitted: probe.Probe, number: int) -> NDArray[np.int8]:
    """Decisions ``[frame, L]`` of view ``*`` for one subject, -1 where it is not seen."""
    from foveate.actions.bouts import Strip
    from foveate.actions.smoothing import decide_all

    seen = ~np.isnan(prob[:, 0])
    position = np.arange(len(frames))
    strip = Strip.of(np.zeros(len(frames), dtype=np.int64), position, frames.time, frames.duration).take(seen)
    out = np.full(prob.shape, -1, dtype=np.int8)
    out[seen] = decide_all(prob[seen], fitted.threshold[number], strip, fitted.smoothing[number])
    return out


def load_bouts(project: Project, video: Video, name: str = "default") -> pd.DataFrame:
    """Finished bouts of one video (schema.BOUTS)."""
    table: pd.DataFrame = finished(project, video, name).table("bouts.parquet").to_pandas()
    return table


def finished(project: Project, video: Video, name: str = "default") -> Artefact:
    """The finished predictions of one video, or a FoveateError that says they are not."""
    found = artefact(project, video, name)
    if not found.complete():
        raise FoveateError(
            f"video {video.name!r} is not predicted, or not with the present settings",
            file=found.folder,
            remedy="run `foveate run`",
        )
    return found


def export(
    project: Project,
    path: str | Path,
    to: Target = "csv",
    name: str = "default",
    videos: Sequence[str] = (),
) -> int:
    """Write the predicted bouts of several videos for BORIS, ELAN, a spreadsheet, and foveate itself.

    Args:
        project: the project; the videos must be predicted.
        path: file to write; a folder where each video has its own.
        to: ``boris-project`` = a project to correct in BORIS; ``boris`` = aggregated events; ``elan`` = one ``.eaf`` per
            video; ``nwb`` = one file per video and subject; ``csv`` = video, subject, behaviour, start, stop, probability.
        name: of the probe.
        videos: names; empty for all that are predicted.

    Returns:
        Number of bouts.

    Raises:
        FoveateError: a named video, or no video at all, is predicted.
    """
    import pandas as pd

    from foveate.annotations import export_bouts

    chosen = [project.video(video) for video in videos] or list(project.videos)
    tables, there, missing = [], [], []
    for video in chosen:
        try:
            tables.append(load_bouts(project, video, name))
            there.append(video)
        except FoveateError as error:
            missing.append(error)
    if not tables or (videos and missing):
        raise missing[0]
    if missing:  # a video that cannot be read must not keep the others' bouts back
        left_out = f"{len(missing)} of {len(chosen)} videos are left out, the first because: {missing[0].problem}"
        logging.getLogger("foveate").warning(left_out)
    table = pd.concat(tables, ignore_index=True)
    export_bouts(Path(path), table, project, to, description=f"predicted by foveate, probe {name}", videos=there)
    return len(table)
