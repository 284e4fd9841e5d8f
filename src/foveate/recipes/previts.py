"""PreViTS and what it is measured against: contrast alone, with clips and crops that show the tracked subject, and with the attention loss.

    moco_resnet50, rspnet_<network>                     contrast alone: MoCo for pictures, RSPNet for clips
    moco_sampling_resnet50, rspnet_sampling_<network>   the same on clips and crops that are constrained by the subject's track
    previts_resnet50, previts_<network>                 the whole method
    miniature_moco, miniature_moco_sampling, miniature_previts   ResNet-18 at 112 px, for a CPU

Published (Chen et al., WACV 2023; supplement, table 1), 200 epochs of 256, ResNet-50. ImageNet: top-1 of a linear probe; VOC07: mAP of a
linear classifier.

    pretrained on   method              VOC07   ImageNet
    Kinetics-400    MoCo                69.3    47.3
                    + sampling          70.4    48.2
                    + PreViTS           71.2    48.6
    VGG-Sound       MoCo                68.3    46.9
                    + sampling          70.3    48.1
                    + PreViTS           73.0    50.6

With clips (S3D-G) mini-Kinetics .552 against .472 for RSPNet; the results on UCF101 and HMDB51 are in the paper's body, which was not at
hand.
Cost, published: two days on VGG-Sound and three on Kinetics, on 16 GPUs; the attention loss takes 1.3 times the time and memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from foveate.data.clips import Shape
from foveate.data.usable import Usable
from foveate.recipes.recipe import DRAWN, Recipe
from foveate.schedules import Schedule, constant
from foveate.train.settings import Training

if TYPE_CHECKING:
    from foveate.methods.previts import PrevitsConfig
    from foveate.models.conv_model import Network
    from foveate.recipes.recipe import Config

Part: TypeAlias = Literal["alone", "sampling", "attention"]
EPOCHS = 200
_VIDEOS = 200_000  # VGG-Sound has about as many; Kinetics-400 a fifth more
_RAW, _FPS = 32, 25  # frames of a clip before it is played at either speed, and of a second
_PER_256 = {"picture": 0.03, "clip": 0.5}  # learning rates


def previts(
    network: Network,
    part: Part,
    *,
    steps: int = EPOCHS * _VIDEOS // 256,
    batch: int = 256,
    seed: int = 0,
    start: str = DRAWN,
) -> Recipe:
    """A published run: pictures for a ResNet, else clips of 16 frames.

    Where paper and released code disagree this is the paper; ``PrevitsConfig.release`` has the other side. The publication's gamma is read
    as the least share of the picture that is subject, which few videos reach (``Usable.paper``); the run says how many do.

    Published results are above. Cost: two days on VGG-Sound and three on Kinetics-400, on 16 GPUs; on a CPU use ``miniature_previts``.

    Args:
        network: backbone.
        part: contrast alone, with constrained sampling, or with both.
        steps: 200 epochs of about 200,000 videos; take 200 x videos / batch.
        batch: the learning rate goes with it.
        seed: of everything random.
        start: random as published, or a folder of weights.
    """
    from foveate.methods.moco import MocoConfig
    from foveate.methods.previts import PrevitsConfig
    from foveate.methods.rspnet import RspnetConfig
    from foveate.models.conv_model import ConvConfig

    picture = network.startswith("resnet")
    base = MocoConfig() if picture else RspnetConfig()
    whole = PrevitsConfig.paper(base)
    return Recipe(
        name=name_of(network, part),
        source="subject",
        start=start,
        method=_part(whole, part),
        training=_training(
            steps, batch, seed, _PER_256["picture" if picture else "clip"] * batch / 256, max(1, steps // EPOCHS)
        ),
        backbone=ConvConfig(network),
        clips=Shape(draws=2) if picture else Shape(_RAW, 1 / _FPS, draws=2),
        usable=None if part == "alone" else Usable.paper(whole.base.reference),
    )


def miniature_previts(part: Part, *, steps: int = 437, batch: int = 32, seed: int = 0, start: str = DRAWN) -> Recipe:
    """ResNet-18 at 112 px, a queue of 4,096 keys, 14,000 pairs of pictures: a size for a CPU.

    Nothing is published at this size, and it has not been seen to learn yet (docs/log.md, "PreViTS in miniature").

    The last map has 4 x 4 places, so masks are averaged over its cells and not read at its points
    (``PrevitsConfig.shrink``). The momentum encoder follows within 100 steps, where the published one takes a thousand, more than there
    are here; and as the queue holds many keys of each of a few hundred videos, those of the query's own do not count against it.

    Cost: 14,000 pairs in about 16 minutes on one CPU core, with the attention loss 20.

    Args:
        part: contrast alone, with constrained sampling, or with both.
        steps: of the whole run.
        batch: the learning rate goes with it.
        seed: of everything random.
        start: random, or a folder of weights.
    """
    from foveate.data.pairs import Crops
    from foveate.methods.moco import MocoConfig
    from foveate.methods.previts import PrevitsConfig
    from foveate.models.conv_model import ConvConfig

    whole = PrevitsConfig.paper(MocoConfig(crops=Crops(size=112), groups=4))
    base = replace(whole.base, queue=4096, momentum=0.99, only_other_videos=True)
    whole = replace(whole, base=base, shrink="mean")
    return Recipe(
        name={"alone": "miniature_moco", "sampling": "miniature_moco_sampling", "attention": "miniature_previts"}[part],
        source="subject",
        start=start,
        method=_part(whole, part),
        training=_training(steps, batch, seed, 0.03 * batch / 32, max(1, steps // 10)),
        backbone=ConvConfig("resnet18"),
        clips=Shape(draws=2, piece=10.0),
        usable=None if part == "alone" else Usable(),
    )


def name_of(network: Network, part: Part) -> str:
    """``previts_s3dg``, ``rspnet_sampling_s3dg``, ``moco_resnet50``."""
    base = "moco" if network.startswith("resnet") else "rspnet"
    return {"alone": f"{base}_{network}", "sampling": f"{base}_sampling_{network}", "attention": f"previts_{network}"}[part]


PREVITS: dict[str, Callable[..., Recipe]] = {
    name_of(network, part): partial(previts, network, part)
    for network in ("resnet50", "s3dg", "r2plus1d_18", "c3d")
    for part in ("alone", "sampling", "attention")
}
"""All published runs by name."""


def _part(whole: PrevitsConfig, part: Part) -> Config:
    """The method, or its base: ``alone`` has crops as MoCo cuts them, in the same colours."""
    if part == "attention":
        return whole
    if part == "sampling":
        return whole.base
    return replace(whole.base, crops=replace(whole.base.crops, cover=None, area=(0.2, 1.0)))


def _training(steps: int, batch: int, seed: int, rate: float, epoch: int) -> Training:
    return Training(
        steps=steps,
        batch=batch,
        lr=Schedule(rate, rate / 1000),  # cosine; published per epoch, here per step
        decay=constant(1e-4),
        optimiser="sgd",
        epoch=epoch,
        clip=None,
        seed=seed,
        keep=tuple(sorted({steps // 4, steps // 2, steps})),
        log=max(1, min(100, steps // 40)),
        look=max(20, min(5_000, steps // 8)),
    )
