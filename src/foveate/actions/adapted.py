"""Recipe ``adapters`` of a probe: AM Flow's adapters, trained on windows of annotated frames (``methods.amflow``).

One set of adapters is trained on all training videos and one without each fold, like any probe; so predictions of annotated training videos
are of adapters that never saw them. Choosing thresholds and smoothing by folds within folds would train many times as many: here, those
that score a fold are chosen on the *out-of-fold* answers for the other training videos (the final ones: for all of them). No row
scored has a part in what is chosen for it; the adapters that answered for the other folds did see its labels, though not for these answers.

Written beside what every probe writes (``probe``; its weights there are those of the last layer):
    adapters-<k>.safetensors    adapters and last layer, k = 0 the final ones, then those of the folds (``methods.amflow_saved``)
    metrics-<k>.jsonl           loss and share of labels told rightly, over the training
    placement.csv, .svg, .png   with placement auto: how flow of each block agrees with optical flow, and which were chosen
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import tokens
from foveate.actions.augment import swapped
from foveate.actions.windows import KEYS, moments, ordered
from foveate.data.camera import moves
from foveate.data.draws import uniform
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG, ProbeSettings
from foveate.store import Artefact, write_text

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.selection import Model
    from foveate.actions.training import Data
    from foveate.data.clips import Clips
    from foveate.methods.amflow import AmFlow, AmFlowConfig

_ANSWERS = 64  # windows asked at once
_LOOKED_AT = 4  # windows of each video, where blocks are chosen by optical flow


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of stored tokens.

    Attributes:
        videos: tokens of each video.
        of: int64 ``[N]`` video of each window; rows: int64 ``[N, W]`` its rows there.
    """

    videos: list[tokens.Stored]
    of: NDArray[np.int64]
    rows: NDArray[np.int64]

    def take(self, windows: NDArray[np.int64], copy: NDArray[np.int64]) -> NDArray[np.float16]:
        """float16 [n, W, tokens, D] of windows [n], each in its copy (0: as it is)."""
        width = self.rows.shape[1]
        some = next(stored for stored in self.videos if len(stored))
        out = np.empty((len(windows), width, *some.parts[0].shape[2:]), np.float16)
        for number in np.unique(self.of[windows]):
            mine = np.flatnonzero(self.of[windows] == number)
            rows = self.rows[windows[mine]].reshape(-1)
            out[mine] = self.videos[number].take(rows, np.repeat(copy[mine], width)).reshape(len(mine), width, *out.shape[2:])
        return out


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of windows, forever: each window once a pass, in a random copy.

    Attributes:
        windows: all of them; use: int64 ``[n]`` those learned from.
        labels: float32 ``[copies, N, L]`` of every window in every copy, NaN where nobody looked.
        batch, seed: of the training.
    """

    windows: Windows
    use: NDArray[np.int64]
    labels: NDArray[np.float32]
    batch: int
    seed: int

    def batches(self, step: int = 0) -> Iterator[Clips]:
        """From ``step`` on."""
        import torch

        from foveate.data.clips import Clips

        steps = max(1, len(self.use) // self.batch)
        for now in count(step):
            number, place = divmod(now, steps)
            order = np.random.default_rng((self.seed, number)).permutation(self.use)
            chosen = np.resize(order, max(len(order), self.batch))[place * self.batch :][: self.batch]
            index = now * self.batch + np.arange(self.batch)
            copy = np.floor(uniform(self.seed, now, index, "copy", 1)[:, 0] * len(self.labels)).astype(np.int64)
            shape = (self.batch, 1, self.windows.rows.shape[1])
            yield Clips(
                frames=torch.zeros((*shape, 3, 0, 0), dtype=torch.uint8),
                valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(self.batch, 1),
                time=torch.full(shape, torch.nan, dtype=torch.float64),
                where=torch.full((*shape, 4), -1, dtype=torch.int32),
                index=torch.from_numpy(index),
                labels=torch.from_numpy(self.labels[copy, chosen]),
                tokens=torch.from_numpy(self.windows.take(chosen, copy)).unsqueeze(1),
            )


def run(
    project: Project, name: str, target: Artefact, data: Data, settings: ProbeSettings, progress: Progress = silent
) -> tuple[list[Model], NDArray[np.float64], dict[str, Any], list[str]]:
    """Train everything; what an interrupted run had finished is kept, and the training it was in goes on.

    Returns:
        The final model and those of the folds; float64 ``[N, L]`` logits of ``data.everything``, each by the model that may say; facts, and
        notes for the reader.
    """
    rows = data.everything
    windows, shifts = gather(project, name, data, settings)
    config, moving = config_of(project, data.behaviours, settings, shifts)
    if settings.adapt.placement == "auto":
        config = replace(config, placement=placed(project, target, windows, data, config, settings))
    flipped = [how is not None and how.flip for how in tokens.changes("", settings.adapt.copies, tokens.flips(project))]
    labels = np.stack(
        [_labels(swapped(rows.truth, data.behaviours, project.config.mirror) if flip else rows.truth) for flip in flipped]
    )
    train = np.flatnonzero(data.of_rows({v.name: 1 for v in data.train}, missing=0))  # of the labelled rows, which come first
    fold = data.of_rows(data.fold_of, rows=rows)
    in_test = data.of_rows({v.name: 1 for v in data.test}, missing=0, rows=rows) == 1
    answers = np.zeros((len(rows.keys), len(data.behaviours)))
    heads: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for k in range(1 + data.folds):
        use = train if k == 0 else train[fold[train] != k - 1]
        method = _trained(
            project, target, k, Batches(windows, use, labels, settings.adapt.batch, settings.seed), config, data, settings
        )
        asked = np.flatnonzero(in_test | (fold == -1) if k == 0 else ~in_test & (fold == k - 1))
        answers[asked] = answered(method, windows, asked)
        heads.append((method.head.weight.detach().cpu().numpy(), method.head.bias.detach().cpu().numpy()))
        progress(k + 1, 1 + data.folds)
    models = [_model(data, answers, fold, k, *head) for k, head in enumerate(heads)]
    from foveate.methods.amflow import parameters

    trained = parameters(list(method.trained().values()))
    known = shifts[~np.isnan(shifts)]
    blocks = list(config.temporal_blocks(tokens.backbone(project, settings).config.depth))
    shift = round(float(np.median(known)), 3) if len(known) else None
    facts = {"camera": config.camera, "shift": shift, "trained": trained, "blocks": blocks}
    notes = [
        "adapters: thresholds and smoothing that score a fold are chosen on out-of-fold answers for the other training videos",
        f"most of the picture moves by {facts['shift']} pixels from frame to frame (median), so the camera is taken as {config.camera}"
        if settings.adapt.camera == "auto" and moving is not None
        else f"the camera is taken as {config.camera}",
    ]
    if settings.adapt.placement == "auto":
        notes.append(
            f"of the adapted blocks, flow agrees best with optical flow in {' and '.join(map(str, blocks))}: these see flow"
        )
    return models, answers, {"adapters": facts}, notes


def gather(project: Project, name: str, data: Data, settings: ProbeSettings) -> tuple[Windows, NDArray[np.float64]]:
    """The windows of ``data.everything`` among stored tokens, and lengths of all shifts in the training videos, pixels."""
    import pandas as pd

    rows = data.everything
    stored, found, shifts = [], np.full((len(rows.keys), settings.window), -1, np.int64), [np.zeros(0)]
    of = np.full(len(rows.keys), -1, np.int64)
    wanted = [name_ for name_ in KEYS if name_ != "time"]
    for number, video in enumerate((*data.train, *data.test)):
        one = tokens.load(project, video, name, settings)
        stored.append(one)
        keys, order, _, index = ordered(project, video, one.keys.to_pandas(), settings.window)
        mine = np.flatnonzero((rows.keys["video"] == video.name).to_numpy())
        places = pd.MultiIndex.from_frame(keys[wanted]).get_indexer(pd.MultiIndex.from_frame(rows.keys.iloc[mine][wanted]))
        assert (places >= 0).all(), "rows without tokens"
        found[mine], of[mine] = order[index[places]], number
        if number < len(data.train):
            shifts.append(one.keys["shift"].to_numpy(zero_copy_only=False).astype(np.float64))
    return Windows(stored, of, found), np.concatenate(shifts)


def config_of(
    project: Project, behaviours: tuple[str, ...], settings: ProbeSettings, shifts: NDArray[np.float64]
) -> tuple[AmFlowConfig, bool | None]:
    """Settings of the method, and whether the camera was found to move (None: it was not asked)."""
    from foveate.methods.amflow import AmFlowConfig

    adapt, camera = settings.adapt, settings.adapt.camera
    moving = None
    if camera == "auto":
        moving = moves(shifts, tokens.backbone(project, settings).config.patch)
        camera = "moving" if moving else "static"
    return AmFlowConfig(
        classes=len(behaviours),
        frames=settings.window,
        size=adapt.image_size,
        adapters=adapt.kind,
        inner=adapt.inner,
        first=adapt.first,
        placement="all" if adapt.placement == "auto" else adapt.placement,
        camera=camera,
        align=adapt.align,
        over=adapt.over,
        use=adapt.flow,
        seed=settings.seed,
    ), moving


def placed(
    project: Project, target: Artefact, windows: Windows, data: Data, config: AmFlowConfig, settings: ProbeSettings
) -> tuple[int, ...]:
    """The two blocks, of those with adapters, whose flow agrees best with optical flow; a table and a figure of all blocks.

    The frozen backbone looks at ``_LOOKED_AT`` windows of each training video, evenly spread; labels play no part.
    """
    from foveate.attention.flow import agreements, draw_agreement, placement

    vit, found = tokens.backbone(project, settings), []
    for number, video in enumerate(data.train):
        mine = np.flatnonzero(windows.of == number)
        spread = np.linspace(0, len(mine), _LOOKED_AT, endpoint=False).astype(np.int64)
        rows = windows.rows[mine[np.unique(spread[spread < len(mine)])]]
        seen = tokens.pictures(project, video, settings, np.unique(rows))
        align = config.align if config.camera == "moving" else None
        found += [agreements(vit, np.stack([seen[row] for row in one]), align) for one in rows.tolist()]
    known = [one for one in found if one is not None]
    if not known:
        raise FoveateError(
            "nothing moves in the annotated footage, so that blocks cannot be chosen by it",
            file=project.folder / CONFIG,
            remedy="placement: ends",
        )
    mean = np.mean(known, 0)
    chosen = tuple(config.first + block for block in placement(mean[config.first :], 2))
    rows_of = "".join(f"{block},{value:.4f},{int(block in chosen)}\n" for block, value in enumerate(mean))
    write_text(target.path("placement.csv"), "block,agreement,chosen\n" + rows_of)
    for kind in ("svg", "png"):
        draw_agreement(mean, chosen, target.path(f"placement.{kind}"))
    return chosen


def _labels(truth: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.where(truth < 0, np.float32(np.nan), truth.astype(np.float32))


def _trained(
    project: Project, target: Artefact, k: int, batches: Batches, config: AmFlowConfig, data: Data, settings: ProbeSettings
) -> AmFlow:
    """Adapters of model k, in eval mode: those an interrupted run had finished, or trained now."""
    from foveate.methods.amflow import AmFlow
    from foveate.methods.amflow_saved import load_adapters, save_adapters
    from foveate.schedules import Schedule, constant
    from foveate.train import loop
    from foveate.train.settings import Machine, Training

    path, folder, adapt = target.path(f"adapters-{k}.safetensors"), target.path(f"training-{k}"), settings.adapt
    vit = tokens.backbone(project, settings)
    if not path.is_file():
        method = AmFlow(vit, config)
        training = Training(
            steps=adapt.steps,
            batch=adapt.batch,
            lr=Schedule(adapt.rate, adapt.rate / 100, warmup=max(1, adapt.steps // 10)),
            decay=constant(0.05),
            clip=1.0,
            seed=settings.seed,
            log=max(1, adapt.steps // 50),
            look=adapt.steps,
        )
        loop.fit(
            method, batches, training, folder, Machine(save=100, precision="float32"), logs=project.folder / "logs" / "adapt"
        )
        metrics = folder / "metrics.jsonl"
        metrics.replace(target.path(f"metrics-{k}.jsonl"))
        save_adapters(path, method, {"behaviours": list(data.behaviours)})
        shutil.rmtree(folder, ignore_errors=True)
        vit = tokens.backbone(project, settings)
    from foveate.train.parallel import joined

    with joined() as world:
        return load_adapters(path, vit)[0].to(world.device)


def answered(method: AmFlow, windows: Windows, asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 ``[n, L]`` logits of windows ``asked`` [n], as they are."""
    import torch

    out = np.zeros((len(asked), method.config.classes))
    device = method.head.weight.device
    with torch.no_grad():
        for start in range(0, len(asked), _ANSWERS):
            some = asked[start : start + _ANSWERS]
            seen = torch.from_numpy(windows.take(some, np.zeros(len(some), np.int64))).to(device)
            out[start : start + len(some)] = method(seen).cpu().double().numpy()
    return out


def _model(
    data: Data,
    answers: NDArray[np.float64],
    fold: NDArray[np.int64],
    k: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> Model:
    """Head, thresholds and smoothing of model k; the latter chosen on answers for the folds it learned from."""
    from foveate.actions import smoothing
    from foveate.actions.selection import CHOICE_GROUPS, Model, probability

    rows, labels = data.everything, len(data.behaviours)
    threshold, smooth, chosen = np.full(labels, 0.5), np.zeros((labels, 3)), np.zeros(labels, bool)
    use = np.flatnonzero((fold >= 0) & (fold != k - 1))
    if len(use):
        group = data.of_rows(data.groups, rows=rows)[use]
        known = use < len(data.rows.keys)
        truth = rows.truth[use]
        chosen = np.array(
            [
                min(len(np.unique(group[known & (truth[:, b] == told)])) for told in (0, 1)) >= CHOICE_GROUPS
                for b in range(labels)
            ]
        )
        together = moments(rows.keys.iloc[use].reset_index(drop=True))
        strip, told, left = data.strip(together.keys), truth[together.first], probability(together.mean(answers[use]))
        for label in np.flatnonzero(chosen):
            found, threshold[label] = smoothing.choose(told[:, label], left[:, label], strip)
            smooth[label] = found.seconds
    return Model(weight, bias, np.zeros(labels), threshold, smooth, chosen, np.ones(labels, bool))


def video_logits(
    project: Project, video: Video, found: Artefact, settings: ProbeSettings, number: int, scratch: Path
) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.float64]]:
    """Logits of all windows of one video by model ``number`` of the finished probe ``found``.

    The first blocks see each frame once; what they make of it waits in a file beside ``scratch`` that is gone afterwards.

    Returns:
        keys (``KEYS``), the position of each row among the video's analysed frames, and float64 ``[N, L]``.
    """
    import pyarrow as pa

    from foveate.actions import embed
    from foveate.actions.pictures import no_keys, parts_of
    from foveate.methods.amflow_saved import load_adapters
    from foveate.train.parallel import joined

    adapt = settings.adapt
    embed.finished_inputs(project, video, settings.source)
    vit = tokens.backbone(project, settings)
    method, _ = load_adapters(found.checked(f"adapters-{number}.safetensors"), vit)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tokens.", suffix=".aside", dir=scratch.parent) as folder, joined() as world:
        keys, parts = [no_keys()], []
        for k, part in enumerate(parts_of(project, video, settings.source)):
            path = Path(folder) / f"{k}.npy"
            np.save(path, tokens.shown(part, vit, adapt.first, [None], adapt.image_size)[0])
            parts.append(np.load(path, mmap_mode="r"))
            keys.append(part.keys)
        stored = tokens.Stored(pa.concat_tables(keys), tuple(parts))
        own, order, position, index = ordered(project, video, stored.keys.to_pandas(), settings.window)
        windows = Windows([stored], np.zeros(len(own), np.int64), order[index])
        out = answered(method.to(world.device), windows, np.arange(len(own)))
        del windows, stored, parts
    return own, position, out
