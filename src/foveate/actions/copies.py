"""Augmented vectors of annotated videos, for the published probe: stage ``embed`` once more, on changed pictures.

``augment: cached``   every picture ``copies`` times. A draw holds for a video, view and block of 64 analysed frames, so that the
                      frames of a window share it; at the border of two blocks the nearest frame of the own block stands in. A flip swaps
                      the label pairs declared under `mirror`; a label named left or right without a pair turns flips off.
                      Costs ``copies`` passes through the backbone per picture; serves every window, and probes of any fold.
``augment: paper``    as published: drawn anew for every window in each of the three passes over the data (12 epochs of a quarter), one draw
                      shared by the frames of the window. Flips do not swap labels. Costs up to ``3 W`` backbone passes per
                      picture, for one window W only: 100,000 pictures and W = 7 are 2.1 million, 13 hours at 45 pictures/s,
                      10 GB of disk at width 384, and 3 GB of memory while training. All folds and learning rates share them,
                      because each of their training sets takes its rows from the same three passes (``sgd.batches``).

The clean vectors have the same rows, and stay as they are. Written to ``embeddings/<model>-<hash8>/<video>/part-*.arrow`` in the layout of
``schema.embedding_schema``; the rows of one picture follow each other. ``aug`` counts them from 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import timeline
from foveate.actions import embed, probe
from foveate.actions.augment import Draw, draw, sided, swapped
from foveate.actions.pictures import no_keys, parts_of
from foveate.actions.windows import unbroken, window_index
from foveate.annotations import artefact as labels_artefact
from foveate.jobs import Progress, silent
from foveate.models.pretrained import fetch_weights, load_backbone, model_of
from foveate.project import Project, Video
from foveate.schema import LAYERS, FoveateError
from foveate.settings import ProbeSettings
from foveate.store import Artefact, canonical_json, damaged

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.sgd import Views
    from foveate.actions.training import Data

VERSION = 1
BLOCK = 64
"""Analysed frames that share a draw (``cached``)."""

PASSES = 3
"""Passes over the data, ``sgd.PASSES``; here so that planning needs no torch."""


def artefact(project: Project, video: Video, name: str = probe.PAPER, settings: ProbeSettings | None = None) -> Artefact:
    """Where the augmented vectors of a video for probe ``name`` are, or will be, with their expected stamp."""
    settings = probe.settings_of(project, name, settings)
    clean = embed.artefact(project, video, settings.source)
    how: dict[str, Any] = {"augment": settings.augment}
    if settings.augment == "paper":
        how |= {"window": settings.window}
    else:
        how |= {"copies": settings.copies, "flips": not without_flips(project, settings)}
    short = hashlib.sha256(canonical_json({**clean.settings, **how}).encode()).hexdigest()[:8]
    folder = clean.folder.parent.with_name(clean.folder.parent.name[:-8] + short) / clean.folder.name
    return Artefact(folder, "augment", VERSION, how, {"embed": clean.stamp})


def without_flips(project: Project, settings: ProbeSettings) -> list[str]:
    """The behaviours for whose sake no picture is flipped; as published, none are asked about."""
    if settings.augment == "paper":
        return []
    labels = labels_artefact(project)
    return sided(labels.facts().get("behaviours", []), project.config.mirror)


def run(
    project: Project,
    video: Video,
    name: str = probe.PAPER,
    settings: ProbeSettings | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Embed the changed pictures of a video.

    Args:
        name: of the probe they are for; of its settings, ``augment``, ``copies``, ``source`` and for ``paper`` the window matter.
        settings: of a probe that foveate.yaml does not name.

    Raises:
        FoveateError: the crops (or track and timeline) are missing or damaged, or the model cannot be opened.
    """
    settings = probe.settings_of(project, name, settings)
    fetch_weights(model_of(project.folder, project.config.embed.model))  # before the stamp, see embed.run
    target = artefact(project, video, name, settings)
    if target.complete():
        return target
    embed.finished_inputs(project, video, settings.source)
    keys = pa.concat_tables([part.keys for part in parts_of(project, video, settings.source)] or [no_keys()]).to_pandas()
    shown = _shown(project, video, settings, keys)
    backbone = load_backbone(model_of(project.folder, project.config.embed.model))
    total, done, row = len(shown.pair_row) * shown.times, 0, 0
    target.begin()
    for part in parts_of(project, video, settings.source):
        name, draws = f"{part.name}.arrow", shown.draws(row, row + len(part.keys))
        if not target.has(name):
            embed.write_part(target.path(name), part, backbone, project, draws, partial(_count, progress, done, total))
        row, done = row + len(part.keys), done + sum(map(len, draws))
        progress(done, total)
    target.finish({"width": backbone.width, "rows": done})
    return target


def _count(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


@dataclass(frozen=True, eq=False)
class _Shown:
    """Which changed pictures a video has, in the order on disk: by row, then time (copy or pass), then centre.

    A *pair* is a row and a window's centre that its picture is changed for. With ``cached`` each row is its own only centre, and stands for
    its block; with ``paper`` there is one for every window that holds the row.

    Attributes:
        keys: the clean rows, in the order on disk.
        index: int64 ``[n, W]`` windows of these rows.
        pair_row, pair_centre: int64 ``[m]``, sorted by row, then centre.
        what: for every pair, what its draws are named by, but for the time.
        times: copies, or passes.
        flips: whether pictures are flipped.
    """

    keys: pd.DataFrame
    index: NDArray[np.int64]
    pair_row: NDArray[np.int64]
    pair_centre: NDArray[np.int64]
    what: list[tuple[str | int, ...]]
    times: int
    flips: bool

    def draw(self, pair: int, time: int) -> Draw:
        return draw(*self.what[pair], time, flips=self.flips)

    def draws(self, first: int, last: int) -> list[list[Draw]]:
        """Of the rows ``first .. last - 1``."""
        edges = np.searchsorted(self.pair_row, np.arange(first, last + 1)).tolist()
        return [[self.draw(p, time) for time in range(self.times) for p in range(a, z)] for a, z in pairwise(edges)]

    def place(self, pair: NDArray[np.int64], time: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Row on disk of a pair's picture."""
        row = self.pair_row[pair]
        first, after = np.searchsorted(self.pair_row, row), np.searchsorted(self.pair_row, row, side="right")
        found: NDArray[np.int64] = first * self.times + time * (after - first) + pair - first
        return found


def _shown(project: Project, video: Video, settings: ProbeSettings, keys: pd.DataFrame) -> _Shown:
    analysed = timeline.analysed(project, video).frame
    position = np.searchsorted(analysed, keys["frame"].to_numpy(np.int64))
    order = np.lexsort([position, keys["subject"].to_numpy(), keys["view"].to_numpy()])
    series = unbroken(project, video, keys.iloc[order])
    views = keys["view"].tolist()
    n = len(keys)
    if settings.augment == "cached":
        series = series * (len(analysed) // BLOCK + 1) + position[order] // BLOCK
    index = np.empty((n, settings.window), dtype=np.int64)
    index[order] = order[window_index(series, position[order], settings.window)]
    if settings.augment == "cached":
        row = centre = np.arange(n)
        named: list[tuple[str | int, ...]] = [
            (video.name, view, "block", block) for view, block in zip(views, (position // BLOCK).tolist(), strict=True)
        ]
        return _Shown(keys, index, row, centre, named, settings.copies, not without_flips(project, settings))
    code = np.unique(index * n + np.arange(n)[:, None])  # a frame that stands in for several of one window is one picture
    row, centre = code // max(n, 1), code % max(n, 1)
    frames = position.tolist()
    named = [(video.name, views[c], "window", frames[c]) for c in centre.tolist()]
    return _Shown(keys, index, row, centre, named, PASSES, True)


def views(project: Project, data: Data, settings: ProbeSettings) -> tuple[Views, list[str]]:
    """What the published probe is trained on: every labelled row in each of three passes, changed; and notes for the reader.

    Pass p shows row i in copy ``(offset_i + p) mod copies``, so that with three copies or more each is seen at most once.

    Raises:
        FoveateError: the augmented vectors of a video are missing or damaged.
    """
    from foveate.actions.labelwise import clean_views
    from foveate.actions.sgd import Views

    if settings.augment == "none":
        return clean_views(data), []
    rows = data.rows
    shape = (PASSES, *rows.design.index.shape)
    index, target = np.zeros(shape, dtype=np.int64), np.repeat(rows.truth[None], PASSES, axis=0)
    vectors: list[NDArray[np.float16]] = []
    base = 0
    start = np.random.default_rng([settings.seed, 3]).integers(settings.copies, size=len(rows.keys))
    of_video = rows.keys["video"].to_numpy()
    for video in (*data.train, *data.test):
        found = artefact(project, video, settings=settings)
        if not found.complete():
            raise FoveateError(
                "the augmented vectors are missing or out of date",
                file=found.folder,
                remedy="run `foveate probe --recipe paper`",
            )
        shown = _shown(
            project, video, settings, embed.load_vectors(project, video, settings.feature, "last", settings.source)[0]
        )
        mine = np.flatnonzero(of_video == video.name)
        _, flat = embed.read_parts(found, settings.feature, LAYERS)
        if len(flat) != len(shown.pair_row) * shown.times:
            raise damaged(found.folder / "stamp.json")
        names = ["view", "subject", "frame"]
        number = {key: k for k, key in enumerate(zip(*(shown.keys[c] for c in names), strict=True))}
        centre = np.array([number[key] for key in zip(*(rows.keys[c].iloc[mine] for c in names), strict=True)], dtype=np.int64)
        members = shown.index[centre]
        code = shown.pair_row * len(shown.keys) + shown.pair_centre
        wanted = members * len(shown.keys) + (members if settings.augment == "cached" else centre[:, None])
        pair = np.searchsorted(code, wanted)
        for p in range(PASSES):
            time = (start[mine] + p) % shown.times if settings.augment == "cached" else np.full(len(mine), p)
            index[p, mine] = base + shown.place(pair, time[:, None])
            if settings.augment == "cached":
                middle = pair[:, settings.window // 2]
                flipped = np.array(
                    [shown.draw(a, t).flip for a, t in zip(middle.tolist(), time.tolist(), strict=True)], dtype=bool
                )
                other = swapped(rows.truth[mine], data.behaviours, project.config.mirror)
                target[p, mine] = np.where(flipped[:, None], other, rows.truth[mine])
        vectors.append(flat)
        base += len(flat)
    return Views(np.concatenate(vectors), index, target, len(LAYERS)), _notes(project, settings)


def _notes(project: Project, settings: ProbeSettings) -> list[str]:
    if settings.augment == "paper":
        wrong = [*project.config.mirror, *project.config.mirror.values()]
        wrong += sided(labels_artefact(project).facts()["behaviours"], project.config.mirror)
        note = "training pictures are flipped without swapping left and right, as published (augment: paper)"
        return [note + (f"; that teaches {', '.join(wrong)} wrongly" if wrong else "")]
    unpaired = without_flips(project, settings)
    if unpaired:
        return [f"training pictures are not flipped: {', '.join(unpaired)} has no counterpart under `mirror` in foveate.yaml"]
    return []
