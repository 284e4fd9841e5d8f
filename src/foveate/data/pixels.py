"""What is done to pictures as tensors: resampling, colour, blur. Batched, on any device; each picture's result depends on it alone.

Pictures are f32 ``[N, 3, H, W]`` in 0..1; factors are f32 ``[N]``. The meaning of the operations is that of torchvision's, which in turn
follows PIL; unlike PIL, nothing is rounded to 8 bits between them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_GREY = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, as PIL's mode L
_KERNEL = 9  # pixels of the blur


def cut(pictures: Tensor, boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """Cut a box out of each picture and resize it to a square: bicubic with antialiasing, as PIL's ``crop`` and ``resize``.

    Args:
        pictures: u8[N, 3, H, W]; masks (0 and 255) u8[N, 1, H, W].
        boxes: i64[N, 4] on the CPU: x0, y0, x1, y1 in whole pixels, within the picture, not empty.
        flips: bool[N] on the CPU: which to mirror left to right.
        size: of the square.

    Returns:
        f32[N, 3, size, size] (masks f32[N, 1, size, size]) in 0..1, multiples of 1/255. On a CPU equal to PIL but for
        single steps of 1/255.
    """
    if pictures.device.type == "cpu":
        out = pictures.new_empty((len(pictures), pictures.shape[1], size, size), dtype=torch.float32)
        for k, ((x0, y0, x1, y1), flip) in enumerate(zip(boxes.tolist(), flips.tolist(), strict=True)):
            part = pictures[k : k + 1, :, y0:y1, x0:x1].contiguous(memory_format=torch.channels_last)
            part = functional.interpolate(part, (size, size), mode="bicubic", antialias=True)[0]
            torch.mul(part.flip(-1) if flip else part, 1 / 255, out=out[k])
        return out
    return cut_at_once(pictures, boxes, flips, size)


def cut_at_once(pictures: Tensor, boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """``cut`` as two matrix products per picture, for devices that do all of them at once; rounded between the two, as PIL is."""
    boxes, flips = boxes.to(pictures.device, torch.float32), flips.to(pictures.device)
    height, width = pictures.shape[-2:]
    rows = _weights(boxes[:, 1], boxes[:, 3], height, size)
    columns = _weights(boxes[:, 0], boxes[:, 2], width, size)
    columns = torch.where(flips.view(-1, 1, 1), columns.flip(1), columns)
    across = (pictures.float() @ columns.transpose(1, 2).unsqueeze(1)).round_().clamp_(0, 255)
    return (rows.unsqueeze(1) @ across).round_().clamp_(0, 255).mul_(1 / 255)


def _weights(start: Tensor, stop: Tensor, pixels: int, size: int) -> Tensor:
    """f32[N, size, pixels]: how much each pixel of a side counts in each pixel of the result. Keys' cubic with a = -.5, widened where the
    picture shrinks; pixels outside start..stop do not count."""
    zoom = ((stop - start) / size).view(-1, 1, 1)
    centre = start.view(-1, 1, 1) + (torch.arange(size, device=start.device).view(1, -1, 1) + 0.5) * zoom
    pixel = torch.arange(pixels, device=start.device)
    x = ((pixel + 0.5 - centre) / zoom.clamp(min=1)).abs()
    cubic = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)
    inside = (x < 2) & (pixel >= start.view(-1, 1, 1)) & (pixel < stop.view(-1, 1, 1))
    cubic = torch.where(inside, cubic, 0.0)
    return cubic / cubic.sum(-1, keepdim=True)


def grey(pictures: Tensor) -> Tensor:
    """Luma f32[N, 1, H, W]."""
    red, green, blue = pictures.unbind(1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).unsqueeze(1)


def brightness(pictures: Tensor, factor: Tensor) -> Tensor:
    return (pictures * _each(factor)).clamp_(0, 1)


def contrast(pictures: Tensor, factor: Tensor) -> Tensor:
    """Away from the picture's mean luma, which is a whole 255th as in PIL."""
    mean = grey(pictures).mean((1, 2, 3), keepdim=True).mul_(255).add_(0.5).floor_().mul_(1 / 255)
    return mean.lerp(pictures, _each(factor)).clamp_(0, 1)


def saturation(pictures: Tensor, factor: Tensor) -> Tensor:
    """Away from each pixel's luma."""
    return grey(pictures).lerp(pictures, _each(factor)).clamp_(0, 1)


def hue(pictures: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue by ``factor`` in -.5 .. .5 of the circle, value and saturation kept.

    With hue h in sextants, from -1 (where red is the largest) to 5, a channel is ``value - chroma * clamp(2 - ||h - c| - 3|, 0, 1)`` for
    c = 0 (red), 2, 4: the conversion from HSV written without cases.
    """
    red, green, blue = pictures.unbind(1)
    value = torch.maximum(red, green).maximum(blue)
    chroma = value - torch.minimum(red, green).minimum(blue)
    inverse = chroma.clamp(min=1e-12).reciprocal_()
    # Where red, and where green is the largest, as 1.0 and 0.0: `where` takes several times as long as `lerp` on a CPU.
    of_red, of_green = (torch.eq(value, channel, out=torch.empty_like(value)) for channel in (red, green))
    sextant = (red - green).mul_(inverse).add_(4)
    sextant.lerp_((blue - red).mul_(inverse).add_(2), of_green).lerp_((green - blue).mul_(inverse), of_red)
    sextant.add_(6 * factor.view(-1, 1, 1))
    sextant.sub_(sextant.add(1).div_(6).floor_(), alpha=6)
    out = torch.empty_like(pictures)
    for channel, centre in enumerate((0, 2, 4)):
        share = (sextant - centre).abs_().sub_(3).abs_().neg_().add_(2).clamp_(0, 1)
        torch.addcmul(value, chroma, share, value=-1, out=out[:, channel])
    return out


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of 9 x 9 pixels, ``sigma`` f32[N] in pixels, mirrored at the border (without repeating it)."""
    half = _KERNEL // 2
    bell = (-0.5 * (torch.arange(half + 1, device=sigma.device) / sigma.unsqueeze(1)).square()).exp()
    weights = bell / (2 * bell.sum(1, keepdim=True) - bell[:, :1])
    height, width = pictures.shape[-2:]
    x = functional.pad(pictures, (half,) * 4, mode="reflect")
    for side in (width, height):  # along the last side, then along the other
        out = x[..., half : half + side] * _each(weights[:, 0])
        for k in range(1, half + 1):
            out.addcmul_(x[..., half - k : half - k + side] + x[..., half + k : half + k + side], _each(weights[:, k]))
        x = out.transpose(2, 3)
    return x


def solarise(pictures: Tensor) -> Tensor:
    """Invert what is 128/255 or more after rounding."""
    bright = torch.ge(pictures, 127.5 / 255, out=torch.empty_like(pictures))
    return torch.lerp(pictures, 1 - pictures, bright)


def _each(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)
