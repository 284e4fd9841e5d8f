"""The vision transformer of our own from and to files: Hugging Face folders, and the files of DINO, DINOv2 and timm.

``vit_blocks`` has its configuration and blocks, ``vit_model`` the whole, ``vit_layouts`` the names of its weights in other places; all
that others need is here. No pickle is opened but one of tensors alone, and no weight is ever left to chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.models import folder as folders
from foveate.models import vit_layouts
from foveate.models.folder import IMAGENET, Colours
from foveate.models.lowrank import merged
from foveate.models.vit_blocks import Block, Positions, Qkv, Sizes, VitConfig, sized
from foveate.models.vit_model import Seen, Vit, resized
from foveate.schema import FoveateError

__all__ = ["Positions", "Qkv", "Seen", "Sizes", "Vit", "VitConfig", "load_vit", "resized", "save_vit", "sized"]

_MODELS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel", "vit": "ViTModel"}


def load_vit(
    source: str | Path | Mapping[str, Any],
    *,
    heads: int | None = None,
    positions: Positions | None = None,
    drop_path: float = 0.0,
    drop_uniform: bool = False,
) -> Vit:
    """A backbone from published weights, in eval mode.

    Args:
        source: a Hugging Face folder (``Dinov2Model``, ``Dinov2WithRegistersModel``, ``ViTModel``), a file of DINO, DINOv2 or timm
            (safetensors, or .pth of tensors alone), or weights by name.
        heads: attention heads, where ``source`` does not say; None: heads of width 64.
        positions: how positions are interpolated; None: as where the weights come from (``Vit.positions``), without registers outside
            Hugging Face ``offset``. timm does ``antialias``, and its names do not differ from DINO's.
        drop_path: stochastic depth of further training, see ``VitConfig``.
        drop_uniform: see ``VitConfig``.

    Raises:
        FoveateError: not there, damaged, incomplete, of another kind of network, or pickled with more than tensors.
    """
    file = None if isinstance(source, Mapping) else Path(source)
    try:
        settings: dict[str, Any] = {}
        if isinstance(source, Mapping):
            state: Mapping[str, Any] = source
        else:
            state, settings = _read(Path(source))
        return _built(state, settings, heads, positions, drop_path, drop_uniform)
    except FoveateError as error:
        if error.file is None and file is not None:
            raise FoveateError(error.problem, file=file, remedy=error.remedy) from error
        raise


def _built(
    state: Mapping[str, Any],
    settings: dict[str, Any],
    heads: int | None,
    positions: Positions | None,
    drop_path: float,
    drop_uniform: bool,
) -> Vit:
    weights, hugging = vit_layouts.ours(state)
    config = vit_layouts.config_of(weights, heads or settings.get("num_attention_heads"))
    said = settings.get("foveate", {})
    config = replace(
        config,
        positions=positions or said.get("positions") or ("antialias" if config.registers else "size" if hugging else "offset"),
        eps=settings.get("layer_norm_eps", config.eps),
        drop_path=drop_path,
        drop_uniform=drop_uniform,
    )
    _check(settings, config)
    with torch.device("meta"):
        vit = Vit(config)
    expected = {name: tuple(value.shape) for name, value in vit.state_dict().items()}
    missing, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    wrong = sorted(name for name in set(expected) & set(weights) if tuple(weights[name].shape) != expected[name])
    for what, names in (("lack", missing), ("have unknown parts:", unknown), ("have another shape in", wrong)):
        if names:
            raise FoveateError(
                f"these weights {what} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}",
                remedy="take the whole backbone of a DINO, DINOv2 or ViT model",
            )
    vit.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    return vit.requires_grad_().train(False)


def _check(settings: dict[str, Any], config: VitConfig) -> None:
    """Refuse a config.json that says something else than the weights, or of a network that is not ours."""
    said = {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "image_size": config.image_size,
        "patch_size": config.patch,
        "hidden_act": "gelu",
        "use_swiglu_ffn": config.gated,
    }
    for name, value in said.items():
        if settings.get(name, value) not in (value, [value, value]):  # sizes may be given per side
            raise FoveateError(
                f"config.json says {name}: {settings[name]!r}, and the weights need {value!r}",
                remedy="check that config.json and model.safetensors belong together and hold a DINOv2 or ViT model",
            )


def _read(source: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Weights by name and the content of config.json, empty for a file."""
    files, settings = [source], {}
    if source.is_dir():
        settings = folders.read_json(source / "config.json") or {}
        if settings.get("model_type") not in _MODELS:
            raise FoveateError(
                f"models of type {settings.get('model_type')!r} cannot be opened here" if settings else "it has no config.json",
                file=source / "config.json",
                remedy="supported: " + ", ".join(_MODELS) + ", in the layout of Hugging Face",
            )
        files = folders.weight_files(source)
    if not files or not files[0].is_file():
        raise FoveateError("no weights here", file=source, remedy="name a Hugging Face folder, a .safetensors or a .pth file")
    return folders.weights_by_name(files), settings


def save_vit(vit: Vit, folder: Path, colours: Colours = IMAGENET) -> None:
    """Write a folder that ``transformers.AutoModel.from_pretrained`` opens: with registers as a ``Dinov2WithRegistersModel``, else with
    LayerScale as a ``Dinov2Model``, else as a ``ViTModel`` (without a pooler: ``add_pooling_layer=False``). It appears, or replaces an
    older one, as a whole.

    Low-rank updates become part of the matrices that they stand beside (``lowrank``). ``transformers`` interpolates positions by its own
    rule (``antialias`` with registers, else ``size``); ``load_vit`` by the model's.

    Args:
        vit: the backbone, on any device; float32 is written.
        folder: where to.
        colours: mean and standard deviation of the training pictures' values 0..1.

    Raises:
        FoveateError: adapters, a width that ``transformers`` has no name for, or a full disk.
    """
    weights = {name: value.detach().cpu().float() for name, value in merged(vit).items()}
    if any(block.adapted for block in vit.blocks if isinstance(block, Block)):
        raise FoveateError("a backbone with adapters has no place in this layout", file=folder, remedy="save it without them")
    state = {name: value.contiguous().clone() for name, value in vit_layouts.theirs(weights, "huggingface").items()}
    folders.write(folder, _huggingface_config(vit.config, folder), state, colours)


def _huggingface_config(config: VitConfig, folder: Path) -> dict[str, Any]:
    kind = "dinov2_with_registers" if config.registers else "vit" if config.layer_scale is None else "dinov2"
    said: dict[str, Any] = {
        "architectures": [
            {"dinov2_with_registers": "Dinov2WithRegistersModel", "vit": "ViTModel", "dinov2": "Dinov2Model"}[kind]
        ],
        "model_type": kind,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": config.image_size,
        "patch_size": config.patch,
        "layer_norm_eps": config.eps,
        "qkv_bias": config.qkv_bias,
        "dtype": "float32",
        "foveate": {"positions": config.positions},
    }
    if kind == "vit" and config.gated:
        raise FoveateError("ViTModel has no gated MLP", file=folder, remedy="give the backbone LayerScale (layer_scale)")
    if kind == "vit":
        return said | {"intermediate_size": config.hidden}
    ratio = round(config.mlp_ratio)
    if replace(config, mlp_ratio=ratio).hidden != config.hidden:
        raise FoveateError(
            f"an MLP of width {config.hidden} is no multiple of {config.width}, which Dinov2Model cannot say",
            file=folder,
            remedy="choose a whole mlp_ratio",
        )
    said |= {"mlp_ratio": ratio, "layerscale_value": 1.0, "use_swiglu_ffn": config.gated}
    return said | ({"num_register_tokens": config.registers} if config.registers else {})
