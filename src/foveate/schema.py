"""The data contract: every table foveate writes, the words it uses, and the one error it raises.

Nothing here does work. A reader who knows this page knows what is on disk.

Conventions that hold everywhere
    time      seconds since the first presented frame of the video, as players and BORIS show it
    frame     0-based index in presentation order
    interval  half-open, ``start <= t < stop``
    box       ``x, y, w, h`` in pixels of the *view* (after the container's rotation), origin top left;
              the box covers pixels ``x .. x + w - 1``
    view      a named rectangle of the picture; ``*`` stands for all views of one video together
    label     1 present, 0 absent, -1 not observed
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Literal

import pyarrow as pa

PROJECT_FORMAT = 1
"""Version of the project folder's layout; a folder with a larger number is refused."""

SEGMENT = 1024
"""Analysed frames per part file: what a killed run can lose at most."""

ALL_VIEWS = "*"

FEATURES = ("cls", "patch", "subject")
"""CLS token, mean of the patch tokens, mean of the patch tokens weighted by the subject's mask."""

LAYERS = ("last", "third_last")
"""Last block, and block n-3 counted from 0 (block 9 of 0..11), each after the final LayerNorm."""

Target = Literal["boris-project", "boris", "elan", "nwb", "csv"]
"""What predictions can be exported as."""

TrackTarget = Literal["via-tracks", "coco", "cvat", "movement", "movement-legacy", "octron"]
"""What tracks can be exported as."""

Protocol = Literal[
    "davis",
    "davis-propagation",
    "knn",
    "linear",
    "finetune",
    "discovery",
    "segmentation",
    "got10k",
    "backgrounds",
    "voc07",
    "ucf101",
    "hmdb51",
    "jhmdb",
    "mini-kinetics",
]
"""What `evaluate` scores."""


class FoveateError(Exception):
    """A problem a user can act on: what is wrong, in which file and row, and what to do about it."""

    def __init__(
        self, problem: str, *, file: str | Path | None = None, row: int | None = None, remedy: str | None = None
    ) -> None:
        self.problem, self.file, self.row, self.remedy = problem, file, row, remedy
        super().__init__(problem, file, row, remedy)  # the arguments, so that it survives pickling between processes

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (self.problem, self.file, self.row, self.remedy)

    def __str__(self) -> str:
        where = "" if self.file is None else f"{self.file}" + ("" if self.row is None else f", row {self.row}") + ": "
        return f"{where}{self.problem}" + (f"\n  remedy: {self.remedy}" if self.remedy else "")


def _rebuild_error(problem: str, file: str | Path | None, row: int | None, remedy: str | None) -> FoveateError:
    return FoveateError(problem, file=file, row=row, remedy=remedy)


class State(enum.StrEnum):
    """What a track row says about the subject in that frame."""

    PROMPTED = "prompted"  # a person, or the automatic prompt, said so
    TRACKED = "tracked"
    INTERPOLATED = "interpolated"
    UNCERTAIN = "uncertain"  # a box is given, look before you trust it
    LOST = "lost"  # should be there, was not found; no box
    ABSENT = "absent"  # not in the picture; no box


SEEN = frozenset({State.PROMPTED, State.TRACKED, State.INTERPOLATED, State.UNCERTAIN})
"""States in which a row has a box."""

_NAME = re.compile(r"[^\x00-\x1f/\\:*?\"<>|]+")


def check_name(name: str, what: str, **where: object) -> str:
    """``name`` if it can be the name of a file on every system, else a FoveateError that says what ``what`` is wrong."""
    if not _NAME.fullmatch(name) or name != name.strip() or name.startswith(".") or len(name.encode()) > 200:
        raise FoveateError(
            f"{what} {name!r} cannot be used as a file name",
            remedy='use letters, digits, spaces, "-" and "_"; not one of / \\ : * ? " < > |, no leading dot',
            **where,  # type: ignore[arg-type]
        )
    return name


def _table(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns])


_KEYS = (("video", pa.string()), ("view", pa.string()), ("subject", pa.string()), ("frame", pa.int64()))
_TIME = ("time", pa.float64())

TIMELINE = _table(("frame", pa.int64()), ("pts", pa.int64()), _TIME, ("keyframe", pa.bool_()))
"""``timeline/<video>/timeline.parquet``: one row per presented frame."""

TRACK = _table(
    *_KEYS,
    _TIME,
    ("state", pa.string()),
    *((name, pa.float32()) for name in ("x", "y", "w", "h")),  # null unless seen; view pixels
    ("score", pa.float32()),  # the tracker's confidence, 0..1
    ("identity_score", pa.float32()),  # certainty that it is *this* subject, 0..1; null where not estimated
    ("area", pa.int64()),  # mask pixels in the view
    ("rle", pa.binary()),  # COCO compressed run lengths of the mask, size = (view height, view width); null unless seen
)
"""``tracks/<video>/part-*.parquet``: one row per analysed frame, view and subject, always; sorted by frame, view, subject."""

CROP_INDEX = _table(
    *_KEYS,
    _TIME,
    ("state", pa.string()),
    ("position", pa.int32()),  # 0-based frame number inside the mp4 beside this index
    *((name, pa.float32()) for name in ("src_x", "src_y", "src_w", "src_h")),  # square in view pixels, may stick out
    *((name, pa.float32()) for name in ("valid_x", "valid_y", "valid_w", "valid_h")),  # part that is picture, crop px
    *((name, pa.float32()) for name in ("rect_x", "rect_y", "rect_w", "rect_h")),  # the published rectangle, crop px
    ("scale", pa.float32()),  # crop pixels per view pixel
    ("rle", pa.binary()),  # mask resampled to the crop, size = (crop size, crop size)
)
"""``crops/<video>/<view>/<subject>/part-*.parquet`` beside ``part-*.mp4``: one row per frame with a box."""

CLIP_INDEX = _table(
    ("video", pa.string()),
    ("view", pa.string()),
    ("frame", pa.int64()),
    _TIME,
    ("position", pa.int32()),  # 0-based frame number inside the mp4 beside this index
)
"""``clips/<video>/<view>/part-*.parquet`` beside ``part-*.mp4``: one row per analysed frame."""

INTERVALS = _table(
    ("video", pa.string()),
    ("subject", pa.string()),
    ("behaviour", pa.string()),
    ("start", pa.float64()),
    ("stop", pa.float64()),
    ("kind", pa.string()),  # state | point (stop = start)
    ("annotator", pa.string()),
    ("file", pa.string()),  # where it came from, relative to the project
    ("row", pa.int64()),
)
"""``labels/intervals.parquet``: the bouts that people annotated."""

OBSERVED = _table(
    ("video", pa.string()),
    ("subject", pa.string()),
    ("behaviour", pa.string()),
    ("start", pa.float64()),
    ("stop", pa.float64()),
    ("annotator", pa.string()),
)
"""``labels/observed.parquet``: where each behaviour was looked for; outside, labels are -1."""


def embedding_schema(width: int, features: tuple[str, ...] = FEATURES) -> pa.Schema:
    """``embeddings/<model>-<hash8>/<video>/part-*.arrow``: keys, ``aug`` (0 = clean) and one fp16 vector of ``width`` per
    feature and layer, named ``<feature>_<layer>`` (``cls_last``, ``subject_third_last``, ...). Rows only where there is a crop."""
    vectors = [pa.field(f"{f}_{layer}", pa.list_(pa.float16(), width)) for layer in LAYERS for f in features]
    return pa.schema([pa.field(n, t) for n, t in (*_KEYS, _TIME)] + [pa.field("aug", pa.int16()), *vectors])


def prediction_schema(behaviours: tuple[str, ...]) -> pa.Schema:
    """``predictions/<probe>/<video>/predictions.parquet``: every analysed frame, per view and for view ``*``.

    ``duration`` is the time in seconds the row stands for (to the next analysed frame), so that sums are exact budgets.
    ``prob_<behaviour>`` is a probability, null where the subject is not seen; ``pred_<behaviour>`` is 1, 0 or -1 (not seen): probability
    against threshold in single views, smoothed in time as the probe chose (``actions/smoothing.py``) for view ``*``.
    ``model`` is ``final``, or ``fold-<k>`` for videos the final probe was trained on (the fold that never saw them).
    """
    return pa.schema(
        [pa.field(n, t) for n, t in (*_KEYS, _TIME)]
        + [pa.field("duration", pa.float64()), pa.field("state", pa.string()), pa.field("model", pa.string())]
        + [pa.field(f"prob_{b}", pa.float32()) for b in behaviours]
        + [pa.field(f"pred_{b}", pa.int8()) for b in behaviours]
    )


BOUTS = _table(
    ("video", pa.string()),
    ("subject", pa.string()),
    ("behaviour", pa.string()),
    ("start", pa.float64()),
    ("stop", pa.float64()),
    ("probability", pa.float32()),  # mean over the bout's frames
)
"""``predictions/<probe>/<video>/bouts.parquet``: runs of positive frames of view ``*``."""
