"""From settings to networks: which method has which settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.recipes.recipe import Config, Recipe
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from foveate.methods.moment import Method


def backbone_of(recipe: Recipe, weights: str | Path | None) -> nn.Module:
    """The backbone at its beginning: read from ``weights``, with positions made for the recipe's large views once; or, where there are
    none, drawn by the recipe's seed.

    Raises:
        FoveateError: its patches do not divide the views, or it cannot be read.
    """
    import torch

    from foveate.models.convnets import ConvConfig, ConvNet, load_convnet
    from foveate.models.vit import Vit, load_vit, resized

    if isinstance(recipe.backbone, ConvConfig):
        torch.manual_seed(recipe.training.seed)
        return ConvNet(recipe.backbone) if weights is None else load_convnet(weights)
    if weights is None:
        if recipe.backbone is None:
            raise FoveateError(
                f"the recipe {recipe.name!r} does not say what to draw",
                remedy="begin with a model (--start), or give the recipe a backbone",
            )
        torch.manual_seed(recipe.training.seed)
        return Vit(recipe.backbone)
    vit, large = load_vit(weights), recipe.method.size
    if large % vit.config.patch:
        raise FoveateError(
            f"crops of {large} px cannot be cut into patches of {vit.config.patch} px",
            remedy="begin with another model, or change the recipe",
        )
    torch.manual_seed(recipe.training.seed)
    return resized(vit, large)


def method_of(config: Config, backbone: Any) -> Method:
    """The method that has these settings, on a backbone, which becomes its student. Heads are drawn from PyTorch's generator, where
    ``backbone_of`` left it."""
    from foveate.methods.dino import Dino, DinoConfig
    from foveate.methods.dinov2 import Dinov2, Dinov2Config
    from foveate.methods.dora import Dora, DoraConfig
    from foveate.methods.ibot import Ibot, IbotConfig
    from foveate.methods.moco import Moco, MocoConfig
    from foveate.methods.previts import Previts, PrevitsConfig
    from foveate.methods.rspnet import Rspnet, RspnetConfig
    from foveate.methods.simclr import Simclr, SimclrConfig
    from foveate.methods.swav import Swav, SwavConfig
    from foveate.methods.vicreg import Vicreg, VicregConfig

    methods: dict[type, type] = {
        DinoConfig: Dino,
        Dinov2Config: Dinov2,
        DoraConfig: Dora,
        IbotConfig: Ibot,
        MocoConfig: Moco,
        PrevitsConfig: Previts,
        RspnetConfig: Rspnet,
        SimclrConfig: Simclr,
        SwavConfig: Swav,
        VicregConfig: Vicreg,
    }
    made: Method = methods[type(config)](backbone, config)
    return made
