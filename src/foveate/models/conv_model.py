"""Convolutional networks for pictures and clips: ResNet-18 and -50, S3D-G, R(2+1)D-18, C3D. Without classifiers: they end in a map.

resnet18, resnet50   He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; as in torchvision
r2plus1d_18          Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018; as in torchvision
s3dg                 Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018; as released with RSPNet
c3d                  Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015; with batch
                     normalisation and without its fully connected layers, as released with RSPNet
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from foveate.models.conv_blocks import Basic, Bottleneck, Conv, Factored, Inception, Norm, Separable

Network: TypeAlias = Literal["resnet18", "resnet50", "r2plus1d_18", "s3dg", "c3d"]
NETWORKS: tuple[Network, ...] = ("resnet18", "resnet50", "r2plus1d_18", "s3dg", "c3d")
STEM = 64  # channels of every published first layer


@dataclass(frozen=True)
class ConvConfig:
    """Which network."""

    network: Network = "resnet50"
    stem: int = STEM  # channels of the first layer; all others go with it. Published: 64

    @property
    def video(self) -> bool:
        """Whether it sees clips."""
        return not self.network.startswith("resnet")


class Maps(NamedTuple):
    """What a network says of B pictures or clips."""

    cls: Tensor  # f32[B, D], mean over the map: the vector of the whole, where a transformer has its CLS token
    map: Tensor  # f32[B, D, h, w], of clips f32[B, D, t, h, w]


class ConvNet(nn.Module):
    """A network as ``config`` says, weights drawn from the global generator.

    Attributes:
        config: as given.
        width: D, channels of the map.
        body: its layers, under the published names.
    """

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.config = config
        self.body, self.width = _body(config)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                _draw(module, config)

    def forward(self, pictures: Tensor) -> Maps:
        """f32[B, 3, H, W] normalised pictures, or f32[B, 3, T, H, W] clips.

        A network of pictures sees the frames of a clip one by one, and its map has a place for each; a network of clips sees a picture as
        a clip in which nothing moves, of ``FRAMES`` frames.
        """
        if not self.config.video and pictures.dim() == 5:
            found = self.body(pictures.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(pictures), -1)).transpose(1, 2)
        elif self.config.video and pictures.dim() == 4:
            found = self.body(pictures.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1))
        else:
            found = self.body(pictures)
        return Maps(found.flatten(2).mean(2), found)


FRAMES = 16
"""Of the clips that the networks of clips were published with."""


def grouped(net: nn.Module, groups: int) -> None:
    """Let every ``Norm`` of a network normalise ``groups`` equal parts of a batch by themselves."""
    for module in net.modules():
        if isinstance(module, Norm):
            module.groups = groups


def _body(config: ConvConfig) -> tuple[nn.Module, int]:
    """The layers, and the channels of their last."""
    match config.network:
        case "resnet18":
            return _resnet(config.stem, Basic, (2, 2, 2, 2), 1)
        case "resnet50":
            return _resnet(config.stem, Bottleneck, (3, 4, 6, 3), 4)
        case "r2plus1d_18":
            return _r2plus1d(config.stem)
        case "s3dg":
            return _s3dg(config.stem)
        case "c3d":
            return _c3d(config.stem)


def _resnet(stem: int, block: type[Basic] | type[Bottleneck], depths: tuple[int, ...], wider: int) -> tuple[nn.Sequential, int]:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, stem, 7, 2, 3, bias=False),
        bn1=Norm(stem),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, 2, 1),
    )
    return nn.Sequential(layers | _stages(stem, block, depths, wider)), 8 * stem * wider


def _r2plus1d(stem: int) -> tuple[nn.Sequential, int]:
    between = 45 * stem // STEM
    first = nn.Sequential(
        nn.Conv3d(3, between, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        Norm(between),
        nn.ReLU(inplace=True),
        nn.Conv3d(between, stem, (3, 1, 1), 1, (1, 0, 0), bias=False),
        Norm(stem),
        nn.ReLU(inplace=True),
    )
    return nn.Sequential(OrderedDict[str, nn.Module](stem=first) | _stages(stem, Factored, (2, 2, 2, 2), 1)), 8 * stem


def _stages(
    stem: int, block: type[Basic] | type[Bottleneck] | type[Factored], depths: tuple[int, ...], wider: int
) -> OrderedDict[str, nn.Module]:
    """``layer1`` .. ``layer4``: each twice as wide, and from the second on half as large as the one before."""
    found, inputs = OrderedDict[str, nn.Module](), stem
    for number, depth in enumerate(depths):
        width, blocks = stem * 2**number, []
        for k in range(depth):
            blocks.append(block(inputs, width, 2 if number and not k else 1))
            inputs = wider * width
        found[f"layer{number + 1}"] = nn.Sequential(*blocks)
    return found


_INCEPTIONS = {
    "sepInc_3b": (192, (64, 96, 128, 16, 32, 32)),
    "sepInc_3c": (256, (128, 128, 192, 32, 96, 64)),
    "sepInc_4b": (480, (192, 96, 208, 16, 48, 64)),
    "sepInc_4c": (512, (160, 112, 224, 24, 64, 64)),
    "sepInc_4d": (512, (128, 128, 256, 24, 64, 64)),
    "sepInc_4e": (512, (112, 144, 288, 32, 64, 64)),
    "sepInc_4f": (528, (256, 160, 320, 32, 128, 128)),
    "sepInc_5b": (832, (256, 160, 320, 32, 128, 128)),
    "sepInc_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels into each part, and of its branches (see ``Inception``)."""


def _s3dg(stem: int) -> tuple[nn.Module, int]:
    of = partial(_scaled, stem)
    half = partial(nn.MaxPool3d, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    mixed: dict[str, nn.Module] = {}
    for name, (inputs, (one, before_two, two, before_three, three, four)) in _INCEPTIONS.items():
        mixed[name] = Inception(of(inputs), (of(one), of(before_two), of(two), of(before_three), of(three), of(four)))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        sepConv1=Separable(3, of(64), 7, 2),
        maxPool1=half(),
        basicConv3d=Conv(of(64), of(64)),
        sep_conv2=Separable(of(64), of(192), 3),
        maxPool2=half(),
    )
    for name, module in mixed.items():
        if name == "sepInc_4b":
            layers["maxPool3"] = nn.MaxPool3d(3, 2, 1)
        if name == "sepInc_5b":
            layers["maxpool4"] = nn.MaxPool3d(2, 2)
        layers[name] = module
    return nn.Sequential(layers), of(1024)


def _c3d(stem: int) -> tuple[nn.Sequential, int]:
    layers, inputs = OrderedDict[str, nn.Module](), 3
    for stage, (names, channels) in enumerate(
        ((("1",), 64), (("2",), 128), (("3a", "3b"), 256), (("4a", "4b"), 512), (("5a", "5b"), 512))
    ):
        if stage:
            layers[f"pool{stage}"] = nn.MaxPool3d((1, 2, 2) if stage == 1 else 2)
        for name in names:
            layers[f"conv{name}"] = nn.Conv3d(inputs, (inputs := _scaled(stem, channels)), 3, padding=1)
            layers[f"bn{name}"] = Norm(inputs)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers), inputs


def _scaled(stem: int, channels: int) -> int:
    return max(1, channels * stem // STEM)


@torch.no_grad()
def _draw(layer: nn.Conv2d | nn.Conv3d, config: ConvConfig) -> None:
    """As where the network comes from: torchvision draws its convolutions for ReLU by their outputs (He et al. 2015), the released S3D-G
    and C3D are left as PyTorch draws them."""
    if config.network in ("s3dg", "c3d"):
        return
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
