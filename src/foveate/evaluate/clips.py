"""Classification of clips: several views of each video, top-1, top-5, mean over classes.

A view is a clip in time (``data.labelled.Sampling``) and a square in space: left, middle, right (top, middle, bottom of upright videos),
as wide as the short side. The classes' shares of a video are the mean over its views of their softmax (Feichtenhofer 2019, SlowFast).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.data.labelled import Listed, Sampling, read_clip
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.methods.amflow import AmFlow


@dataclass(frozen=True)
class Score:
    """Shares in 0..1: videos whose class comes first, or among the first five; the mean over the classes that occur of top-1 (Toyota
    Smarthome's measure); and how many videos were scored and could not be read."""

    top1: float
    top5: float
    mean_class: float
    videos: int
    unreadable: int = 0


def score(shares: NDArray[np.floating], label: NDArray[np.int64]) -> Score:
    """Of shares ``[N, L]`` and classes int64 ``[N]``. Of equal shares the lower number counts as the larger."""
    order = np.argsort(-shares, axis=1, kind="stable")
    right = order[:, 0] == label
    classes = np.unique(label)
    each = [float(right[label == one].mean()) for one in classes]
    among = (order[:, :5] == label[:, None]).any(1)
    return Score(float(right.mean()), float(among.mean()), float(np.mean(each)), len(label))


def squares(pictures: Tensor, size: int, number: int = 3) -> Tensor:
    """f32[number, T, 3, size, size] normalised, of u8[T, 3, H, W]: squares along the long side, evenly spaced, 1: the middle."""
    import torch

    from foveate.data.pixels import cut
    from foveate.models.folder import IMAGENET

    height, width = pictures.shape[-2:]
    side = min(height, width)
    boxes = []
    for k in range(number):
        at = 0.5 if number == 1 else k / (number - 1)
        x, y = round(at * (width - side)), round(at * (height - side))
        boxes.append([x, y, x + side, y + side])
    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in IMAGENET)
    still = torch.zeros(len(pictures), dtype=torch.bool)
    cuts = [cut(pictures, torch.tensor([box] * len(pictures)), still, size) for box in boxes]
    return (torch.stack(cuts) - mean) / std


def places(sampling: Sampling, views: int) -> list[NDArray[np.float64]]:
    """Where the clips of a test lie, see ``Sampling.frames_of``: evenly from first to last possible start, one: the middle; of parts,
    evenly inside them."""
    at = [0.5] if views == 1 else [k / (views - 1) for k in range(views)]
    if sampling.how == "uniform":
        at = [(k + 0.5) / views for k in range(views)]
    return [np.full(sampling.frames, value) for value in at]


def evaluate(
    method: AmFlow,
    source: Listed,
    sampling: Sampling,
    clips: int = 1,
    crops: int = 1,
    short_side: int = 256,
    progress: Progress = silent,
) -> Score:
    """Score a method on all videos of a list, each seen in clips x crops views.

    Videos that cannot be read are counted, not scored.

    Raises:
        FoveateError: the method was trained for other classes, or no video can be read.
    """
    import torch

    if method.config.classes != len(source.classes):
        raise FoveateError(
            f"these adapters tell {method.config.classes} classes, and the data have {len(source.classes)}",
            remedy="test on the data set that they were trained on",
        )
    method.eval()
    device = method.head.weight.device
    shares, label, unreadable = [], [], 0
    for number, (path, one) in enumerate(zip(source.paths, source.label.tolist(), strict=True)):
        try:
            seen = [read_clip(path, sampling, place, short_side)[0] for place in places(sampling, clips)]
        except FoveateError:
            unreadable += 1
            continue
        with torch.no_grad():
            views = [squares(torch.from_numpy(clip).permute(0, 3, 1, 2).to(device), method.config.size, crops) for clip in seen]
            shares.append(method(torch.cat(views)).softmax(-1).mean(0).cpu().double().numpy())
        label.append(one)
        progress(number + 1, len(source.paths))
    if not shares:
        raise FoveateError("none of the videos can be read", file=source.paths[0], remedy="check the files")
    found = score(np.stack(shares), np.array(label))
    return Score(found.top1, found.top5, found.mean_class, found.videos, unreadable)
