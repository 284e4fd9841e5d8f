"""SAM 2 and models of its kind, as ``transformers`` has them: opened from a folder or the hub, shown pictures in our own preprocessing.

Only the networks of ``transformers`` are used, never its processors (they need torchvision). Pictures are made square by PIL's bicubic
filter, as the released video predictor does (``Image.resize``; the processors' configuration names the bilinear one), and normalised by
the folder's mean and deviation. On a GPU the network runs in bfloat16 (autocast), as the published pipeline ran it; on a CPU in float32.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.models import folder as folders
from foveate.models.folder import IMAGENET
from foveate.models.pretrained import BUILT_IN, best_device
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FAMILIES = {
    "sam2_video": ("Sam2VideoModel", "Sam2VideoInferenceSession"),
    "edgetam_video": ("EdgeTamVideoModel", "EdgeTamVideoInferenceSession"),
}
_MAPS = {"in_chans": 3, "out_indices": [0, 1, 2, 3]}  # what timm takes where a configuration does not say
_STRIDE = 16  # of the features that masks are remembered in
DEFAULT = "facebook/sam2.1-hiera-tiny"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A frozen SAM 2 that segments pictures and remembers what it saw in them; the remembering is ``track.sam2.session``'s."""

    name: str
    size: int  # pixels of the square that it is shown
    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    module: Any = field(repr=False)  # Sam2VideoModel or EdgeTamVideoModel
    session_class: Any = field(repr=False)
    half: bool = False  # bfloat16 autocast

    def pixels(self, picture: NDArray[np.uint8]) -> Tensor:
        """f32[3, size, size], what the network is shown, of u8[H, W, 3]."""
        import torch
        from PIL import Image

        square = picture
        if picture.shape[:2] != (self.size, self.size):
            resized = Image.fromarray(np.ascontiguousarray(picture)).resize((self.size, self.size), Image.Resampling.BICUBIC)
            square = np.asarray(resized)
        levels = torch.from_numpy(np.ascontiguousarray(square).copy()).permute(2, 0, 1).to(self.device).float() / 255
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (levels - mean) / std

    def features(self, pixels: Tensor) -> dict[str, Any]:
        """What the image encoder sees in f32[3, size, size], in the form in which sessions keep it; several subjects share it."""
        with self.running():
            seen = self.module.get_image_features(pixels[None], return_dict=True)
        return {"vision_feats": seen.fpn_hidden_states, "vision_pos_embeds": seen.fpn_position_encoding}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Without gradients, in the precision of this device."""
        import torch

        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            yield


def open_sam2(
    model: str,
    size: int | None = None,
    device: torch.device | None = None,
    half: bool | None = None,
    compiled: bool | None = None,
) -> Segmenter:
    """Open a SAM 2 video model.

    Args:
        model: a Hugging Face id, or a folder with ``config.json`` and ``model.safetensors``, of type ``sam2_video`` (SAM 2, SAM 2.1) or
            ``edgetam_video``.
        size: pixels of the square that pictures are resized to, a multiple of 32; None: what it was trained with (1024). Cost grows with
            the area.
        device: default ``best_device()``.
        half: bfloat16 autocast; default: on a GPU.
        compiled: ``torch.compile`` of the image encoder, the larger part of the work; default: on a GPU, where a compiler is there.

    Raises:
        FoveateError: another kind of model, no network, weights that are missing, damaged or incomplete. Nothing is initialised at random.
    """
    import transformers

    device = best_device() if device is None else device
    if model in BUILT_IN:
        raise FoveateError(
            f"{model!r} is no SAM 2", remedy=f"name one as `track: {{method: sam2, model: {DEFAULT}}}`, or a folder"
        )
    folder = folders.fetch(model)
    settings = _settings(folder)
    model_class, session_class = (getattr(transformers, name) for name in _FAMILIES[settings["model_type"]])
    native = settings["model_type"] == "edgetam_video" and _is_repvit(settings, folder / "config.json")
    config = _config(model_class, settings, native, folder)
    _resize(config, size, folder)
    module: Any = folders.open_model(model_class, folder, config=config)
    if native:
        from foveate.models.repvit import fold

        fold(module.vision_encoder.backbone)
    module.to(device)
    on_gpu = device.type == "cuda"
    if on_gpu and _can_compile() if compiled is None else compiled:
        module.vision_encoder.compile(dynamic=False)
    mean, std = folders.colours(folder) or IMAGENET
    return Segmenter(model, config.image_size, device, mean, std, module, session_class, on_gpu if half is None else half)


def _can_compile() -> bool:
    """``torch.compile`` writes kernels for Triton, which needs a C compiler to start them."""
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


def _settings(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says, of one of the families."""
    path = folder / "config.json"
    settings = folders.read_json(path)
    if settings is None:
        raise FoveateError("not a model folder: it has no config.json", file=folder, remedy="name a folder that holds a SAM 2")
    kind = settings.get("model_type")
    if kind in ("sam2", "edgetam"):
        raise FoveateError(
            f"a model of type {kind!r} segments single pictures; it has no memory to follow a subject with",
            file=path,
            remedy=f"take the video model, such as {DEFAULT}",
        )
    if kind not in _FAMILIES:
        raise FoveateError(
            f"models of type {kind!r} are no SAM 2",
            file=path,
            remedy="supported: " + ", ".join(_FAMILIES) + f", such as {DEFAULT}",
        )
    return settings


def _is_repvit(settings: dict[str, Any], path: Path) -> bool:
    """Whether this EdgeTAM has the image encoder it was published with, timm's RepViT-M1; otherwise it has SAM 2's.

    Raises:
        FoveateError: another one, or none is named: ``transformers`` would then build SAM 2's without a word.
    """
    vision = settings.get("vision_config")
    backbone = vision.get("backbone_config") if isinstance(vision, dict) else None
    kind = backbone.get("model_type") if isinstance(backbone, dict) else None
    if backbone is None or kind is None:
        raise FoveateError(
            "the configuration of this EdgeTAM does not name its backbone; another network than the one it was trained with would be built",
            file=path,
            remedy="take a folder whose vision_config has a backbone_config with its model_type",
        )
    if kind == "sam2_hiera_det_model":
        return False
    name = f"timm's {backbone.get('architecture', 'resnet50')}" if kind == "timm_wrapper" else f"a {kind}"
    if name.partition(".")[0] != "timm's repvit_m1":
        raise FoveateError(
            f"the backbone of this EdgeTAM is {name}; foveate knows RepViT-M1, which EdgeTAM was published with, and SAM 2's Hiera",
            file=path,
            remedy="take the published folder (`architecture: repvit_m1`; transformers writes resnet50 where none was named), "
            f"or {DEFAULT}",
        )
    arguments = backbone.get("model_args")
    if not isinstance(arguments, dict) or _MAPS | arguments != _MAPS | {"features_only": True}:
        raise FoveateError(
            "the backbone of this EdgeTAM does not give the feature maps of all four stages",
            file=path,
            remedy="take the published folder: its model_args are features_only, in_chans 3 and out_indices 0 to 3",
        )
    return True


def _config(model_class: Any, settings: dict[str, Any], native: bool, folder: Path) -> Any:
    try:
        if native:
            from foveate.models.edgetam import with_repvit

            return with_repvit(settings)
        return model_class.config_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a wrong value makes the library stumble over
        raise FoveateError(
            f"this configuration cannot be used ({' '.join(str(error).split())[:200] or type(error).__name__})",
            file=folder / "config.json",
            remedy="copy or download the folder again",
        ) from error


def _resize(config: Any, size: int | None, folder: Path) -> None:
    """Make ``config`` one for squares of ``size`` pixels; no weight depends on it."""
    sides = [config.image_size] if isinstance(config.image_size, int) else list(config.image_size)
    config.image_size = sides[0]
    if len(set(sides)) > 1:
        raise FoveateError(
            "the model takes pictures that are not square", file=folder / "config.json", remedy="take another model"
        )
    if size is None or size == config.image_size:
        return
    if size % 32 or size < 64:
        raise FoveateError(f"{size} pixels do not fit SAM 2", remedy="image_size must be a multiple of 32, and at least 64")
    windows = math.isqrt(getattr(config, "perceiver_resampler_num_latents_2d", 1))
    if size % (_STRIDE * windows):
        raise FoveateError(
            f"{size} pixels do not fit this EdgeTAM, which remembers {windows} x {windows} parts of the picture",
            remedy=f"image_size must be a multiple of {_STRIDE * windows}",
        )
    config.image_size = config.prompt_encoder_config.image_size = size
    config.vision_config.backbone_feature_sizes = [[size // (_STRIDE >> k)] * 2 for k in (2, 1, 0)]
    config.memory_attention_rope_feat_sizes = [size // _STRIDE] * 2
    backbone = config.vision_config.backbone_config
    if hasattr(backbone, "image_size"):
        backbone.image_size = [size, size]
