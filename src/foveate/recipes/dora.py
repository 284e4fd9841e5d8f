"""DoRA and what it was compared with, as published and in miniature; the footage is the user's.

Published: *Is ImageNet worth 1 video?* (Venkataramanan et al., ICLR 2024) on Walking Tours, ten videos of 59 minutes to 2 h 55 min,
ViT-S/16 from random weights. LP is linear probing on ImageNet-1k, CorLoc object discovery on VOC 2012. Its baselines ran in solo-learn with
settings that were not published; here they have their authors' losses, DINO's optimiser and schedules, and pieces of the frames as DoRA
takes them.

Epochs are those of one video, Venice: 1,560 steps of 128. A run on all ten is the same with ``steps`` times 7.5. Which of the ten, a
subset of another data set of equal length, clips across cuts, blurred faces: all that is the footage; what came of it:

    LP / CorLoc    Amsterdam 45.4/54.5  Bangkok 42.1/54.3  Chiang Mai 44.9/55.5  Istanbul 44.5/54.6  Kuala Lumpur 43.9/54.1
                   Singapore 42.7/54.7  Stockholm 44.1/54.7  Venice 44.5/56.2  Wildlife 44.0/54.9  Zurich 44.9/54.4
                   Kinetics-400 43.0/55.2 (DINO 40.7/52.4)  EPIC-Kitchens 41.8/56.0 (38.6/53.5)  a movie 35.3/51.6 (34.9/51.5)
                   the movie without clips across cuts 39.8/54.8; Amsterdam with blurred faces LP 45.5
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from foveate.data.clips import Shape
from foveate.recipes.recipe import DRAWN, Config, Recipe
from foveate.schedules import Schedule
from foveate.train.settings import Training

if TYPE_CHECKING:
    from foveate.models.vit_blocks import VitConfig

EPOCH, EPOCHS = 1560, 100


def dora_vits16(
    *,
    steps: int = EPOCH * EPOCHS,
    batch: int = 128,
    seed: int = 0,
    start: str = DRAWN,
    preset: Literal["foveate", "paper", "release"] = "foveate",
    objects: int = 3,
    frames: int = 8,
    sinkhorn: bool = True,
    mask: Literal["object", "random", "none"] = "object",
) -> Recipe:
    """DoRA, ViT-S/16, from random weights, on clips of 8 frames a second apart.

    Published, on Venice alone, 100 epochs: LP 44.5 (45.4 in another table), k-NN 33.8, Jaccard 44.0, CorLoc 56.2; 300 epochs CorLoc 56.9;
    all ten videos LP 45.3, k-NN 35.7, Jaccard 44.3, CorLoc 57.1 (300 epochs: 61.3). By LP / CorLoc:

        objects     1 39.9/53.9   2 43.1/55.7   3 44.5/56.2   4 39.2/53.8   5 36.7/50.3   6 35.8/48.8   16 28.3/48.5   32 27.1/46.8
        frames      2 43.1/53.3   4 44.0/54.6   6 44.9/55.8   8 45.4/56.2
        mask        without Sinkhorn random 33.0/49.8, object 42.5/55.3; with it random 29.9/46.7, object 44.5/56.2

    Cost: 8 GPUs with 16 clips each. A clip is 48 large and 48 small passes of the student; on two CPU cores a few clips a minute.

    Args:
        steps: of the whole run; 100 epochs of whatever length that makes.
        batch: clips; the learning rate is proportional.
        seed: of everything random.
        start: ``random``, or a backbone to begin with.
        preset: what we take, or the paper's or the released code's way where they disagree (``methods.dora``). The paper says LARS, and
            so does its preset, with the learning rate of 5e-4 that is printed for a batch of 128; the released code has AdamW. (With LARS
            that rate moves a matrix by 5e-6 of its norm in a step, momentum included; the number is rather one for AdamW.)
        objects: k.
        frames: of a clip.
        sinkhorn: refine prototypes.
        mask: what the student sees large crops through.
    """
    from dataclasses import replace

    from foveate.methods.dora import DoraConfig

    config = {"foveate": DoraConfig, "paper": DoraConfig.paper, "release": DoraConfig.release}[preset]()
    config = replace(config, objects=objects, sinkhorn=sinkhorn, mask=mask, last_layer_frozen=_epoch(steps))
    recipe = _run("dora_vits16", config, steps, batch, seed, start, Shape(frames, 1.0) if frames > 1 else Shape())
    if preset != "paper":
        return recipe
    lr = replace(recipe.training.lr, peak=5e-4 * batch / 128)
    return replace(recipe, training=replace(recipe.training, optimiser="lars", lr=lr))


def dora_vitb16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """``dora_vits16`` with ViT-B/16.

    Published, on Venice: ADE20k mIoU 40.3, COCO box AP 41.7 (ViT-S: 35.4, 39.5). Cost: four times that of ViT-S. Arguments as there.
    """
    from dataclasses import replace

    small = dora_vits16(steps=steps, batch=batch, seed=seed, start=start)
    return replace(small, name="dora_vitb16", backbone=_vit(start, width=768, heads=12))


def dora_images_vits16(*, steps: int = 100 * 10_009, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """DoRA*: of single pictures, objects without tracking, ViT-S/16.

    Published, on ImageNet-1k: 60 epochs LP 71.9, k-NN 69.4, Jaccard 44.4, CorLoc 60.0; 100 epochs 72.2, 69.6, 44.8, 60.2 (DINO 71.4,
    69.0, 44.5, 59.6; iBOT 72.1, 69.4, 44.5, 59.7). Cost: a picture is 6 large and 6 small passes of the student. Arguments as of
    ``dora_vits16``; 60 epochs are 600,540 steps.
    """
    from dataclasses import replace

    small = dora_vits16(steps=steps, batch=batch, seed=seed, start=start, frames=1)
    return replace(small, name="dora_images_vits16")


def dino_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """DINO, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 33.8, k-NN 29.9, Jaccard 43.8, CorLoc 51.2; all ten videos 36.6, 31.1, 42.9, 55.8. Cost:
    a picture is 2 large and 8 small passes of the student. Arguments as of ``dora_vits16``.
    """
    from foveate.methods.dino import DinoConfig

    return _run("dino_vits16", DinoConfig(last_layer_frozen=_epoch(steps)), steps, batch, seed, start)


def ibot_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """iBOT, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 36.8, k-NN 32.8, Jaccard 43.0, CorLoc 53.1. Cost: as DINO. Arguments as of
    ``dora_vits16``.
    """
    from foveate.methods.ibot import IbotConfig

    epoch = _epoch(steps)
    config = IbotConfig(patch_temperature=Schedule(0.07, 0.07, start=0.04, warmup=30 * epoch), last_layer_frozen=epoch)
    return _run("ibot_vits16", config, steps, batch, seed, start)


def attmask_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """AttMask-High, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 35.8, k-NN 31.9, Jaccard 43.5, CorLoc 54.5. Cost: as DINO with 10 small crops. Arguments
    as of ``dora_vits16``.
    """
    from dataclasses import replace

    from foveate.methods.attmask import attmask

    epoch = _epoch(steps)
    climb = Schedule(0.07, 0.07, start=0.04, warmup=30 * epoch)
    config = replace(attmask(), teacher_temperature=climb, patch_temperature=climb, last_layer_frozen=epoch)
    return _run("attmask_vits16", config, steps, batch, seed, start)


def simclr_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """SimCLR, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 26.3, k-NN 25.9, Jaccard 40.4, CorLoc 50.2. Cost: a picture is 2 large passes. Arguments
    as of ``dora_vits16``.
    """
    from foveate.methods.simclr import SimclrConfig

    return _run("simclr_vits16", SimclrConfig(), steps, batch, seed, start)


def swav_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """SwAV, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 28.0, k-NN 26.4, Jaccard 40.6, CorLoc 51.4. Cost: a picture is 2 large and 6 small passes.
    Arguments as of ``dora_vits16``.
    """
    from foveate.methods.swav import SwavConfig

    epoch = _epoch(steps)
    return _run("swav_vits16", SwavConfig(queue_from=50 * epoch, prototypes_frozen=2 * epoch), steps, batch, seed, start)


def vicreg_vits16(*, steps: int = EPOCH * EPOCHS, batch: int = 128, seed: int = 0, start: str = DRAWN) -> Recipe:
    """VICReg, ViT-S/16, on pieces of single frames.

    Published (DoRA's comparison), on Venice: LP 36.5, k-NN 30.1, Jaccard 42.7, CorLoc 52.1. Cost: a picture is 2 large passes. Arguments
    as of ``dora_vits16``.
    """
    from foveate.methods.vicreg import VicregConfig

    return _run("vicreg_vits16", VicregConfig(), steps, batch, seed, start)


def dora_miniature(*, steps: int = 464, batch: int = 4, seed: int = 0, start: str = DRAWN) -> Recipe:
    """DoRA at a size for a CPU: a ViT of width 192 with 6 blocks and patches of 8, views of 64 and 32 pixels, 4 frames 0.4 s apart.

    Nothing is published at this size, and footage of seconds has no steps of a second. What a schedule of millions of samples leaves to
    chance is decided here: the rate is DINO's for a batch of 256, whatever the batch (in proportion, a step would change next to nothing),
    and the teacher's momentum begins at .97 (at .996 it would go half of the student's way in the whole run). Cost: a clip is 24 large and
    24 small passes of the student, 1,968 tokens; `docs/dora.md` says what that took. Arguments as of ``dora_vits16``.
    """
    from foveate.data.clip_views import ClipAugmentation
    from foveate.data.parents import Parent
    from foveate.methods.dora import DoraConfig

    views = ClipAugmentation(parent=Parent(86), large=64, small=32)
    config = DoraConfig(views=views, **_heads(steps))
    return _small("dora_miniature", config, steps, batch, seed, start, Shape(4, 0.4))


def dino_miniature(*, steps: int = 492, batch: int = 32, seed: int = 0, start: str = DRAWN) -> Recipe:
    """DINO at the size of ``dora_miniature``. Eight pictures, of 2 large and 6 small crops, are 1,856 tokens for the student where a clip
    there is 1,968; 492 steps of 32 are as many as 464 of 4 clips.

    Nothing is published at this size. Cost: as ``dora_miniature``. Arguments as of ``dora_vits16``.
    """
    from foveate.data.augment import Augmentation
    from foveate.data.parents import Parent
    from foveate.methods.dino import DinoConfig

    views = Augmentation(large=64, small=32, smalls=6, large_area=(0.4, 1.0), small_area=(0.05, 0.4), nominal_blur=True)
    return _small("dino_miniature", DinoConfig(views=views, parent=Parent(86), **_heads(steps)), steps, batch, seed, start)


def ibot_miniature(*, steps: int = 492, batch: int = 32, seed: int = 0, start: str = DRAWN) -> Recipe:
    """iBOT at the size of ``dora_miniature``, with as many tokens for the student as ``dino_miniature``.

    Nothing is published at this size. Cost: as ``dora_miniature``. Arguments as of ``dora_vits16``.
    """
    from foveate.data.augment import Augmentation
    from foveate.data.parents import Parent
    from foveate.methods.ibot import IbotConfig

    views = Augmentation(large=64, small=32, smalls=6, large_area=(0.4, 1.0), small_area=(0.05, 0.4), nominal_blur=True)
    climb = Schedule(0.07, 0.07, start=0.04, warmup=3 * _epoch(steps, 10))
    config = IbotConfig(views=views, parent=Parent(86), patch_temperature=climb, **_heads(steps))
    return _small("ibot_miniature", config, steps, batch, seed, start)


def _epoch(steps: int, epochs: int = EPOCHS) -> int:
    return max(1, round(steps / epochs))


def _vit(start: str, **changes: int) -> VitConfig | None:
    """ViT/16 as DINO draws it, stochastic depth .1; only what is drawn is described."""
    from foveate.models.vit_blocks import VitConfig

    shape: dict[str, Any] = {"image_size": 224, "patch": 16, "layer_scale": None, "drop_path": 0.1, "positions": "offset"}
    return VitConfig(**{**shape, **changes}) if start == DRAWN else None


def _run(name: str, method: Config, steps: int, batch: int, seed: int, start: str, clips: Shape | None = None) -> Recipe:
    """With DINO's optimiser and schedules: peak rate 5e-4 x batch / 256 after 10 of 100 epochs."""
    epoch = _epoch(steps)
    lr = Schedule(5e-4 * batch / 256, 1e-6, warmup=10 * epoch)
    training = _training(steps, batch, seed, epoch, lr, keep=tuple(range(0, steps, 20 * epoch)))
    return Recipe(name, "frame", start, method, training, _vit(start), clips or Shape())


def _heads(steps: int) -> dict[str, Any]:
    return {
        "prototypes": 1024, "hidden": 512, "bottleneck": 128, "last_layer_frozen": _epoch(steps, 10), "momentum": Schedule(0.97, 1.0),
    }  # fmt: skip


def _small(name: str, method: Config, steps: int, batch: int, seed: int, start: str, clips: Shape | None = None) -> Recipe:
    tenth = _epoch(steps, 10)
    training = _training(steps, batch, seed, tenth, Schedule(5e-4, 1e-6, warmup=tenth), keep=(0,))
    vit = _vit(start, image_size=64, patch=8, width=192, depth=6, heads=6)
    return Recipe(name, "frame", start, method, training, vit, clips or Shape())


def _training(steps: int, batch: int, seed: int, epoch: int, lr: Schedule, keep: tuple[int, ...]) -> Training:
    return Training(
        steps=steps,
        batch=batch,
        lr=lr,
        decay=Schedule(0.04, 0.4),
        epoch=epoch,
        clip=3.0,
        seed=seed,
        keep=tuple(sorted({*keep, steps})),
        log=max(1, min(100, steps // 40)),
        look=max(1, steps // 20),
    )
