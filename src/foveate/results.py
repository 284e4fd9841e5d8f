"""Every result of a project as a table. A notebook finds these functions in ``foveate.api``, which describes what they share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveate.project import Project, Video
from foveate.schema import ALL_VIEWS, FoveateError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from foveate.store import Artefact

WHOLE = "(project)"
"""Name of the row of ``status`` that holds the stages which are made once."""

Folder = str | Path | Project

_TEXTS = frozenset(
    {
        "split",
        "video",
        "view",
        "subject",
        "behaviour",
        "to",
        "group",
        "session",
        "measure",
        "test",
        "mark",
        "effect_name",
        "note",
    }
    | {"model", "source", "method", "term", "contrast"}
)
"""Columns of CSV files that hold words."""


class FoveateWarning(UserWarning):
    """A problem of one video, file or row, which did not stop the others."""


def status(project: Folder = ".", video: Sequence[str] = (), pictures: bool = False) -> pd.DataFrame:
    """How far every video is, and what stands in the way; ``questions`` tells where a click is needed. Writes nothing else.

    Args:
        pictures: write a picture of every frame that needs a click to review/, with a scale of pixels.

    Returns:
        one row per video and a last one, ``(project)``, for the stages that are made once; a column per stage with ``done``, ``failed``,
        ``cannot`` (an input is wrong), ``partial``, ``outdated``, ``to do``, or nothing where the stage is not of that row; column
        ``problem``: the first one.
    """
    import pandas as pd

    from foveate.run import status as state
    from foveate.track.questions import open_questions

    here = opened(project)
    found = state(here)
    if pictures:
        from foveate.track.review import picture_of

        for question in open_questions(here, chosen(here, video)):
            picture_of(here, question)
    rows = {v.name: found.videos[v.name] | {"problem": _first(found.of_video(v.name))} for v in chosen(here, video)}
    whole = [error for stage in found.whole for error in found.of_whole(stage)]
    rows[WHOLE] = found.whole | {"problem": _first(whole)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("video").fillna("")
    return table[[*(column for column in table if column != "problem"), "problem"]]


def questions(project: Folder = ".", video: Sequence[str] = ()) -> pd.DataFrame:
    """Where a tracker needs a click: one row per frame in which somebody has to say where the subject is.

    Columns ``video, view, subject, frame, time, until_time`` (s; it is not known where the subject is from the one to the other), ``note``,
    ``answer`` and ``absent``: commands that answer, X,Y to be replaced; ``track(prompt=[...])`` takes what stands behind ``--prompt``.
    """
    import pandas as pd

    from foveate.track.questions import COLUMNS, open_questions

    here = opened(project)
    return pd.DataFrame([one.plain() for one in open_questions(here, chosen(here, video))], columns=list(COLUMNS))


def tracks(project: Folder = ".", video: Sequence[str] = (), masks: bool = False) -> pd.DataFrame:
    """Where the subjects are: one row per analysed frame, view and subject (``schema.TRACK``).

    Columns ``video, view, subject, frame, time`` (s), ``state`` (prompted, tracked, interpolated, uncertain, lost, absent), box
    ``x, y, w, h`` (pixels of the view, NaN unless seen), ``score`` and ``identity_score`` (0 to 1), ``area`` (pixels of the mask).

    Args:
        masks: also ``rle``, the mask as COCO run lengths; ``foveate.masks`` decodes it.
    """
    from foveate import track as stage
    from foveate.schema import TRACK

    columns = [name for name in TRACK.names if masks or name != "rle"]
    here = opened(project)
    found = _each(here, video, lambda one: stage.artefact(here, one))
    return _join(source.table(part, columns).to_pandas() for source in found for part in source.files(".parquet"))


def pictures(project: Folder = ".", video: Sequence[str] = (), each: int = 1) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Some crops, to look at: what the later stages see of the subject.

    Args:
        each: crops of every video, view and subject, evenly spread over its frames.

    Returns:
        keys ``video, view, subject, frame, time`` (s), ``state``, N rows; uint8 ``[N, S, S, 3]`` RGB, S the ``crop.size`` of foveate.yaml.
    """
    import numpy as np
    import pandas as pd

    from foveate import crops as stage
    from foveate.framestore import read_clip

    here = opened(project)
    keys, found = [], [np.zeros((0, here.config.crop.size, here.config.crop.size, 3), np.uint8)]
    for source in _each(here, video, lambda one: stage.artefact(here, one)):
        columns = ["video", "view", "subject", "frame", "time", "state", "position"]
        parts = [source.table(name, columns).to_pandas().assign(part=name) for name in source.files(".parquet")]
        for _, rows in pd.concat(parts, ignore_index=True).groupby(["view", "subject"]) if parts else ():
            some = rows.iloc[((2 * np.arange(min(each, len(rows))) + 1) * len(rows)) // (2 * min(each, len(rows)))]
            keys.append(some[columns[:-1]])
            for part, position in zip(some["part"], some["position"], strict=True):
                found.append(read_clip(source.checked(part.removesuffix(".parquet") + ".mp4"), int(position), 1))
    return _join(keys), np.concatenate(found)


def labels(project: Folder = ".") -> pd.DataFrame:
    """The bouts that people annotated, of all files together (``schema.INTERVALS``).

    Columns ``video, subject, behaviour, start, stop`` (s; half-open), ``kind`` (state, or point with stop = start), ``annotator``, and the
    ``file`` and ``row`` each came from.
    """
    from foveate.annotations import load_labels

    return load_labels(opened(project)).intervals


def observed(project: Folder = ".") -> pd.DataFrame:
    """Where each behaviour was looked for (``schema.OBSERVED``): ``video, subject, behaviour, start, stop`` (s), ``annotator``. Outside of
    it a label is neither present nor absent, but unknown."""
    from foveate.annotations import load_labels

    return load_labels(opened(project)).observed


def embeddings(
    project: Folder = ".",
    video: Sequence[str] = (),
    feature: Literal["cls", "patch", "subject"] = "subject",
    layer: Literal["last", "third_last", "both"] = "third_last",
    source: Literal["crop", "frame", "track"] = "crop",
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The vectors of the frozen backbone, one per frame, view and subject with a crop.

    Args:
        feature: CLS token, mean of the patches, or mean of the patches that show the subject.
        layer: last block, third-last, or both one after the other.
        source: of crops, of whole views, or of whole views as the tracker sees them (only where a probe asked for them).

    Returns:
        keys ``video, view, subject, frame, time`` (s), N rows; float32 ``[N, D]``.
    """
    import numpy as np

    from foveate.actions import embed as stage

    here = opened(project)
    names = [found.folder.name for found in _each(here, video, lambda one: stage.artefact(here, one, source))]
    parts = [stage.load_vectors(here, here.video(name), feature, layer, source) for name in names]
    return _join(keys for keys, _ in parts), np.concatenate([vectors for _, vectors in parts])


def training_rows(
    project: Folder = ".", probe: str = "default"
) -> tuple[NDArray[Any], pd.DataFrame, NDArray[Any], pd.DataFrame]:
    """What a probe learns from, for models of your own: ``X, Y, groups, keys``.

    Training and test videos both; those with ``split: test`` in videos.csv are marked in ``keys``.

    Returns:
        float32 ``[N, W * D]``, the vectors of the window around each labelled frame, one row per view; labels ``[N, L]``, a column per
        behaviour, 1 present, 0 absent, -1 not observed; int64 ``[N]``, rows with the same number share an animal or a video and must never
        be split; keys ``video, view, subject, frame, time`` (s) and ``split`` (train or test).
    """
    import numpy as np
    import pandas as pd

    from foveate.actions import training
    from foveate.actions.probe import settings_of

    here = opened(project)
    data = training.load(here, settings_of(here, probe))
    every = slice(0, len(data.rows.keys))
    test = data.of_rows({one.name: 1 for one in data.test}, missing=0)
    keys = data.rows.keys.assign(split=np.where(test == 1, "test", "train"))
    Y = pd.DataFrame(data.rows.truth, columns=list(data.behaviours))
    return data.rows.design.gather(every).astype(np.float32), Y, data.of_rows(data.groups), keys


def scores(project: Folder = ".", probe: str = "default") -> pd.DataFrame:
    """How well a probe does on animals it never saw, per split, view and behaviour; columns as in ``actions.scores``.

    ``split`` is cv (cross-validated on the training videos) or test; ``view`` ``*`` is all views together; behaviour ``*macro`` is the
    mean. ``f1`` with its 95 % bootstrap interval over animals, ``f1_low`` and ``f1_high``.
    """
    from foveate.actions import probe as stage

    return csv_table(_ready(stage.artefact(opened(project), probe)), "scores.csv")


def predictions(
    project: Folder = ".", video: Sequence[str] = (), probe: str = "default", view: str | None = ALL_VIEWS
) -> pd.DataFrame:
    """The probe's answer for every analysed frame (``schema.prediction_schema``).

    Columns ``video, view, subject, frame, time, duration`` (s), ``state``, ``model``, then per behaviour ``prob_`` (0 to 1, NaN where the
    subject is not seen) and ``pred_`` (1, 0, or -1 not seen).

    Args:
        view: ``*`` = all views together, from which bouts are made; a name; None for all.
    """
    table = _join(source.table("predictions.parquet").to_pandas() for source in _predicted(project, video, probe))
    return table if view is None else table[table["view"] == view].reset_index(drop=True)


def bouts(project: Folder = ".", video: Sequence[str] = (), probe: str = "default") -> pd.DataFrame:
    """The predicted bouts (``schema.BOUTS``): ``video, subject, behaviour, start, stop`` (s; half-open), mean ``probability``."""
    return _join(source.table("bouts.parquet").to_pandas() for source in _predicted(project, video, probe))


def budgets(project: Folder = ".", video: Sequence[str] = (), probe: str = "default") -> pd.DataFrame:
    """Time budgets, per video, subject and behaviour: ``seconds``, ``share`` of ``seen_seconds``, number of ``bouts``,
    ``mean_bout_seconds``."""
    return _join(csv_table(source, "budget.csv") for source in _predicted(project, video, probe))


def comparison(
    project: Folder = ".",
    table: Literal[
        "tests",
        "proportions",
        "measures",
        "secondary",
        "transitions",
        "bins",
        "corrected",
        "corrected_differences",
        "pairs",
        "mixed",
    ] = "tests",
    probe: str = "default",
) -> pd.DataFrame:
    """The comparison of the groups; the animal is the unit.

    Args:
        table: which of ``comparison/<probe>/*.csv``: ``tests`` is the primary one, a row per behaviour, with ``p_holm``, ``mark`` (the
            stars) and the effect size with its interval. ``foveate.groups`` describes the others.
    """
    from foveate import groups

    found = _ready(groups.artefact(opened(project), probe))
    if f"{table}.csv" not in found.files(".csv"):
        made = ", ".join(name.removesuffix(".csv") for name in found.files(".csv"))
        raise FoveateError(f"this comparison has no table {table!r}", file=found.folder, remedy=f"it has {made}")
    return csv_table(found, f"{table}.csv")


def focus(project: Folder = ".") -> pd.DataFrame:
    """Focus score of every frame of the project's own look (``focus.csv``), of the mean head and of each; see ``attend``."""
    from foveate import attention

    return csv_table(_ready(attention.artefact(opened(project))), "focus.csv")


def to_xarray(
    project: Folder = ".", video: str = "", view: str | None = None, probe: str = "default", legacy: bool = False
) -> xr.Dataset:
    """Tracks and predictions of one video in movement's layout for bounding boxes, to be opened by movement or written as netCDF.

    Needs ``foveate[xarray]``.

    Args:
        video: its name; may be left out where there is one only.
        view: whose boxes; may be left out where there is one only.
        probe: whose predictions.
        legacy: call the dimension ``individuals``, as movement did before 0.17.

    Returns:
        dimensions ``time`` (s), ``space`` (x, y), ``individual``, ``behavior``; ``position`` and ``shape`` f32[T, 2, I] (centre and size of
        the box, pixels of the view, NaN where not seen), ``confidence`` f32[T, I]; where predicted, ``probability`` f32[T, I, L] and
        ``label`` i8[T, I, L] (1, 0, -1 not seen).
    """
    from foveate.actions.dataset import dataset

    here = opened(project)
    if not video and len(here.videos) != 1:
        known = ", ".join(one.name for one in here.videos[:5])
        raise FoveateError("say which video", file=here.folder / "videos.csv", remedy=f"there are {known} ...")
    return dataset(here, here.video(video) if video else here.videos[0], view, probe, legacy)


def opened(project: Folder) -> Project:
    """The project itself, or the one in that folder."""
    return project if isinstance(project, Project) else Project.load(project)


def chosen(project: Project, names: Sequence[str]) -> list[Video]:
    """The videos of these names, all if there are none."""
    return [project.video(name) for name in ((names,) if isinstance(names, str) else names)] or list(project.videos)


def _each(project: Project, names: Sequence[str], find: Callable[[Video], Artefact]) -> list[Artefact]:
    """What ``find`` gives for these videos. Without names, videos that are not ready are left out, as long as one is."""
    found, missing = [], []
    for video in chosen(project, names):
        try:
            found.append(_ready(find(video)))
        except FoveateError as error:
            missing.append(error)
    if missing and (names or not found):
        raise missing[0]
    if missing:
        words = f"{len(missing)} of {len(missing) + len(found)} videos are left out, the first because: {missing[0]}"
        warnings.warn(words, FoveateWarning, stacklevel=3)
    return found


def _first(errors: Sequence[FoveateError]) -> str:
    return str(errors[0]) if errors else ""


def _ready(found: Artefact) -> Artefact:
    if not found.complete():
        raise FoveateError(f"{found.stage} is missing or out of date", file=found.folder, remedy="run `foveate run`")
    return found


def _predicted(project: Folder, video: Sequence[str], name: str) -> list[Artefact]:
    from foveate.actions import predict as stage

    here = opened(project)
    return _each(here, video, lambda one: stage.artefact(here, one, name))


def csv_table(found: Artefact, name: str) -> pd.DataFrame:
    """A sealed CSV file, verified. Names stay as they are written: an animal 007 is no number, one called NA is there."""
    import pandas as pd

    path = found.checked(name)
    with open(path, encoding="utf-8") as handle:
        texts = [column for column in handle.readline().rstrip("\n").split(",") if column.rstrip("_123456789") in _TEXTS]
    table: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    table[texts] = table[texts].fillna("")
    return table


def _join(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(list(tables), ignore_index=True)
