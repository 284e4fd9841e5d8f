"""Where in the last map of a convolutional network the evidence for its vector lies: Grad-CAM, for pictures and for clips.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV 2017), eq. 1 and 2. A backbone
without classes has no score to explain; as in PreViTS (Chen et al., WACV 2023) the score is a likeness of vectors, here of the picture's
vector with itself, not normalised: which places the vector was made of, as the CLS token's attention says it of a transformer. No mask
enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.attention.focus import Picture, overlay, upsample
from foveate.models import folder as folders
from foveate.models.pretrained import BUILT_IN

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foveate.evaluate.encoders import Encoder
    from foveate.models.convnets import ConvNet

_KINDS = ("foveate_convnet", "resnet")


def is_convnet(model: str) -> bool:
    """Whether a model that is on this machine is a network of convolutions, by its ``config.json``; a file of weights is none."""
    folder = None if model in BUILT_IN else folders.as_folder(model)
    return folder is not None and (folders.read_json(folder / "config.json") or {}).get("model_type") in _KINDS


def cam(net: ConvNet, pictures: Tensor) -> Tensor:
    """f32[B, h, w] in 0..1 of normalised pictures f32[B, 3, H, W]; of clips f32[B, 3, T, H, W] f32[B, t, h, w].

    The gradient reaches no further than the map, so the network itself needs none.
    """
    import torch

    from foveate.losses_contrastive import grad_cam

    with torch.no_grad():
        maps = net(pictures)
    with torch.enable_grad():
        found = maps.map.detach().clone().requires_grad_()
        score = (found.flatten(2).mean(2) * maps.cls.detach()).sum(1)
        values = grad_cam(found, score, second=False).detach()
    return values.mean(1) if values.dim() == 4 and pictures.dim() == 4 else values


def cam_maps(pictures: Tensor, encoder: Encoder) -> Tensor:
    """f32[B, 1, h, w] of pictures u8[B, 3, H, W], in the form of ``attention_maps``: a single head."""
    return cam(_net(encoder), encoder.normalised(pictures)).unsqueeze(1)


def _net(encoder: Encoder) -> ConvNet:
    from foveate.models.convnets import ConvNet

    assert isinstance(encoder.net, ConvNet)
    return encoder.net


def clip_maps(frames: Sequence[Picture], encoder: Encoder, image_size: int) -> Tensor:
    """f32[T, h, w] in 0..1 of a clip of pictures u8[H, W, 3]: a network for clips sees all of them together, and its map is enlarged over
    time; one for pictures sees them one by one, and each map is scaled by itself."""
    import torch
    from torch.nn import functional

    from foveate.models.pretrained import resize

    height, width = frames[0].shape[:2]
    zoom = image_size / min(height, width)
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    shown = encoder.normalised(resize(stacked, round(height * zoom), round(width * zoom)))
    net = _net(encoder)
    if not encoder.video:
        return torch.cat([cam(net, picture.unsqueeze(0)) for picture in shown])
    values = cam(net, shown.transpose(0, 1).unsqueeze(0))
    size = (len(frames), *values.shape[-2:])
    return functional.interpolate(values.unsqueeze(1), size, mode="trilinear", align_corners=False)[0, 0]


def panels(picture: Picture, values: Tensor, height: int) -> list[Picture]:
    """The picture, and the map f32[h, w] in 0..1 laid over it; both u8[height, W, 3], W even."""
    from PIL import Image

    width = max(2, round(height * picture.shape[1] / picture.shape[0] / 2) * 2)
    shown = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    return [shown, overlay(shown, upsample(values, height, width).clamp(0, 1).cpu().numpy())]


def strip(frames: Sequence[Picture], maps: Tensor, times: Sequence[float], height: int = 120) -> Image.Image:
    """A figure: a column per frame; its picture, and below it where the evidence lies."""
    from foveate.attention import sheets

    columns = [panels(frame, values, height) for frame, values in zip(frames, maps, strict=True)]
    return sheets.strip(columns, times, ("footage", "Grad-CAM"))


def draw_clip(
    video: Path, model: str, out: Path, frames: Sequence[Picture], times: Sequence[float], every: float, image_size: int
) -> dict[str, Any]:
    """Write ``<video>-evidence.png``, a strip, and ``.mp4`` with every frame of the clip; what ``objects`` does for a transformer.

    Returns:
        strip, video: paths.
    """
    from foveate.evaluate.encoders import open_encoder
    from foveate.store import write_aside
    from foveate.videowriter import VideoWriter

    maps = clip_maps(frames, open_encoder(model), image_size)
    paths = [out / f"{video.stem}-evidence{ending}" for ending in (".png", ".mp4")]
    with write_aside(paths[0]) as aside:
        strip(frames, maps, times).save(aside, format="PNG")
    shown = [np.concatenate(panels(picture, values, 240), axis=1) for picture, values in zip(frames, maps, strict=True)]
    rate = max(1, round(1 / every))
    with write_aside(paths[1]) as aside, VideoWriter(aside, shown[0].shape[1], shown[0].shape[0], rate=rate) as writer:
        for one in shown:
            writer.write(one)
    return {"strip": str(paths[0]), "video": str(paths[1])}
