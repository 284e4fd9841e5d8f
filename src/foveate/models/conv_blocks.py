"""What the convolutional networks are made of: a batch normalisation of their own, and factored convolutions of space and time.

Names of parts are those under which weights are published: torchvision's for ResNet and R(2+1)D, RSPNet's for S3D-G and C3D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

Triple = tuple[int, int, int]


class Norm(_BatchNorm):
    """Batch normalisation over all places of f32[N, C, ...]; in training over equal parts of the batch, each by itself.

    ``groups`` parts stand for as many GPUs that each normalise what they hold, on which momentum contrast relies (MoCo, section 3.3). The
    moving statistics are moved by the mean over the parts, as in the authors' notebook for one GPU (``SplitBatchNorm``).
    """

    groups = 1

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 3:
            raise ValueError(f"expected [N, C, ...], not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.groups == 1:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(f"{len(input)} samples cannot be cut into {self.groups} equal parts")
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        means, variances = (moving.repeat(self.groups, 1) for moving in (self.running_mean, self.running_var))
        parts = [
            functional.batch_norm(part, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
            for part, mean, variance in zip(input.chunk(self.groups), means, variances, strict=True)
        ]
        with torch.no_grad():
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
            self.num_batches_tracked.add_(1)
        return torch.cat(parts)


class Basic(nn.Module):
    """ResNet's block of two 3 x 3 convolutions (He et al. 2016, figure 5 left), f32[B, inputs, H, W] to f32[B, width, H/s, W/s]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = Norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = Norm(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """ResNet's block of 1 x 1, 3 x 3 and 1 x 1 (figure 5 right), four times as wide at its end; the stride is that of the 3 x 3, as in
    torchvision ("v1.5")."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = Norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = Norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = Norm(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = functional.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), Norm(outputs))


# --- of space and time --------------------------------------------------------------------------------------------------------------


def factored(inputs: int, between: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3 x 3 convolution of space and one over 3 frames in place of 3 x 3 x 3 (R(2+1)D, section 3.5)."""
    return nn.Sequential(
        nn.Conv3d(inputs, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        Norm(between),
        nn.ReLU(inplace=True),
        nn.Conv3d(between, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class Factored(nn.Module):
    """R(2+1)D's block: two factored convolutions; in both as many channels between as give the first the parameters of 3 x 3 x 3."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        between = inputs * width * 27 // (inputs * 9 + 3 * width)
        self.conv1 = nn.Sequential(factored(inputs, between, width, stride), Norm(width), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(factored(width, between, width, 1), Norm(width))
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv3d(inputs, width, 1, stride, bias=False), Norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv2(self.conv1(x)) + (x if self.downsample is None else self.downsample(x)))


class Conv(nn.Module):
    """S3D's convolution, normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        time, height, width = (side // 2 for side in kernel)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, (time, height, width), bias=False)
        self.bn = Norm(outputs, eps=1e-3, momentum=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(x)), inplace=True)


class Separable(nn.Module):
    """S3D-G's convolution of space, then of time, then a gate: each channel times a number in 0..1 that depends on the means of all
    channels (Xie et al. 2018, section 4.3). A stride is also one over frames, and that of the first part, as released by RSPNet."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        across = Conv(inputs, outputs, (1, side, side), (stride, stride, stride))
        self.sep_conv = nn.Sequential(across, Conv(outputs, outputs, (side, 1, 1)))
        self.excitation = nn.Conv3d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.sep_conv(x)
        return x * torch.sigmoid(self.excitation(x.mean((2, 3, 4), keepdim=True)))


class Inception(nn.Module):
    """S3D-G's four branches beside each other; ``widths`` are those of 1 x 1; 1 x 1, 3 x 3 x 3; 1 x 1, 3 x 3 x 3; pool, 1 x 1."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, before_two, two, before_three, three, four = widths
        self.branch0 = Conv(inputs, one)
        self.branch1 = nn.Sequential(Conv(inputs, before_two), Separable(before_two, two, 3))
        self.branch2 = nn.Sequential(Conv(inputs, before_three), Separable(before_three, three, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), Conv(inputs, four))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)
