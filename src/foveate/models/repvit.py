"""RepViT-M1, the image encoder that EdgeTAM was published with.

A convolutional network with the blocks of a vision transformer: one part mixes places (a depthwise convolution), the other channels (an MLP
of 1 x 1 convolutions). Wang, Chen, Lin, Han and Ding, "RepViT: Revisiting Mobile CNN From ViT Perspective", CVPR 2024, section 3 and
figure 3; M1 is the name of its first release. EdgeTAM (Zhou et al., CVPR 2025) takes the feature maps of all four stages.

Weights have the names under which EdgeTAM's are published, those of timm's ``repvit_m1`` with ``features_only``: ``stem``, ``stages_0`` to
``stages_3``, and in each convolution ``c`` and its normalisation ``bn``. Parity with timm is tested (``tests/golden/repvit.json``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

WIDTHS = (48, 96, 192, 384)
"""Channels of the four feature maps."""
STRIDES = (4, 8, 16, 32)
"""Pixels of the picture per place of each map."""
_DEPTHS = (2, 2, 14, 2)  # blocks of each stage, beside the one that every downsampling begins with


class Normed(nn.Module):
    """A convolution without bias, padded to keep its size, and its batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.c(x))
        return normed

    def folded(self) -> nn.Conv2d:
        """The same as one convolution."""
        return fuse_conv_bn_eval(self.c, self.bn)


class TokenMixer(nn.Module):
    """Depthwise: what 3 x 3 and 1 x 1 see, and the place itself, added up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Normed(width, width, 3, groups=width)
        self.conv1 = Normed(width, width, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x) + self.conv1(x) + x
        return mixed

    def folded(self) -> nn.Conv2d:
        """The same as one 3 x 3 convolution: 1 x 1 is its centre, and the place itself a centre of 1 (section 3.3)."""
        whole, point = self.conv.folded(), self.conv1.folded()
        with torch.no_grad():
            whole.weight[:, :, 1:2, 1:2] += point.weight + 1
            if whole.bias is not None and point.bias is not None:
                whole.bias += point.bias
        return whole


class SqueezeExcite(nn.Module):
    """Each channel times a number in 0..1 that depends on the means of all channels (Hu et al., CVPR 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = -(-width // 32) * 8  # a quarter, rounded up to a multiple of 8
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(means))))


class ChannelMixer(nn.Module):
    """At each place an MLP, twice as wide inside, added to what it sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Normed(width, 2 * width)
        self.conv2 = Normed(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.conv2(functional.gelu(self.conv1(x)))
        return mixed


class Block(nn.Module):
    """f32[B, width, H, W] to the same."""

    def __init__(self, width: int, *, excite: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if excite else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.channel_mixer(self.se(self.token_mixer(x)))
        return mixed


class Downsample(nn.Module):
    """f32[B, width, H, W] to f32[B, wider, H / 2, W / 2], rounded up."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.pre_block = Block(width, excite=False)
        self.spatial_downsample = Normed(width, width, 3, stride=2, groups=width)
        self.channel_downsample = Normed(width, wider)
        self.ffn = ChannelMixer(wider)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.ffn(self.channel_downsample(self.spatial_downsample(self.pre_block(x))))
        return down


class Stem(nn.Module):
    """f32[B, 3, H, W] to f32[B, width, H / 4, W / 4], rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Normed(3, width // 2, 3, stride=2)
        self.conv2 = Normed(width // 2, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.conv2(functional.gelu(self.conv1(x)))
        return seen


class Stage(nn.Module):
    """Blocks at one size; every second one excites channels, the first included."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if before == width else Downsample(before, width)
        self.blocks = nn.Sequential(*(Block(width, excite=k % 2 == 0) for k in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.blocks(self.downsample(x))
        return seen


class RepVit(nn.Module):
    """RepViT-M1 without its classifiers: pictures to the feature maps of its four stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(WIDTHS[0])
        before = (WIDTHS[0], *WIDTHS)
        for k, (width, depth) in enumerate(zip(WIDTHS, _DEPTHS, strict=True)):
            self.add_module(f"stages_{k}", Stage(before[k], width, depth))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Feature maps of ``pictures``, f32[B, 3, H, W], normalised: f32[B, WIDTHS[k], H / STRIDES[k], W / STRIDES[k]], rounded up."""
        x, maps = self.stem(pictures), []
        for k in range(len(WIDTHS)):
            x = self.get_submodule(f"stages_{k}")(x)
            maps.append(x)
        return maps


def fold(net: nn.Module) -> None:
    """Make convolutions with their normalisations, and all branches of a token mixer, one convolution each, in place.

    Only rounding changes what the network, which has to be in evaluation mode, sees; its weights have other names afterwards.
    """
    for name, child in net.named_children():
        if isinstance(child, Normed | TokenMixer):
            setattr(net, name, child.folded())
        else:
            fold(child)
