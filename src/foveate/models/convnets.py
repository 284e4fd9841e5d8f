"""Convolutional networks of our own from and to files.

``conv_blocks`` has their parts, ``conv_model`` the networks, ``conv_layouts`` the names of their weights in other places; all that others
need is here. A saved folder holds ``config.json`` with ``model_type: foveate_convnet`` and the weights under torchvision's or RSPNet's
names. No pickle is opened but one of tensors alone, and no weight is ever left to chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from foveate.models import conv_layouts
from foveate.models import folder as folders
from foveate.models.conv_model import FRAMES, NETWORKS, ConvConfig, ConvNet, Maps, Network, grouped
from foveate.models.folder import IMAGENET, Colours
from foveate.models.pretrained import CONVOLUTIONAL
from foveate.schema import FoveateError

__all__ = ["FRAMES", "NETWORKS", "ConvConfig", "ConvNet", "Maps", "Network", "grouped", "load_convnet", "save_convnet"]

MODEL_TYPE = CONVOLUTIONAL
_OPENED = (MODEL_TYPE, "resnet")


def load_convnet(source: str | Path | Mapping[str, Any]) -> ConvNet:
    """A network from weights, in eval mode.

    Args:
        source: a folder (ours, or Hugging Face's ``ResNetModel``), a file (safetensors, or .pth of tensors alone) of torchvision, MoCo,
            RSPNet or PreViTS, or weights by name.

    Raises:
        FoveateError: not there, damaged, incomplete, of another kind of network, or pickled with more than tensors.
    """
    if isinstance(source, Mapping):
        return _built(source)
    path = Path(source)
    files = [path]
    if path.is_dir():
        kind = (folders.read_json(path / "config.json") or {}).get("model_type")
        if kind not in _OPENED:
            raise FoveateError(
                f"models of type {kind!r} are no convolutional network that is known here",
                file=path / "config.json",
                remedy="name a folder that foveate wrote, or a ResNetModel of transformers",
            )
        files = folders.weight_files(path)
    if not files or not files[0].is_file():
        raise FoveateError("no weights here", file=path, remedy="name a model folder, a .safetensors or a .pth file")
    try:
        return _built(folders.weights_by_name(files))
    except FoveateError as error:
        if error.file is None:
            raise FoveateError(error.problem, file=path, remedy=error.remedy) from error
        raise


def _built(state: Mapping[str, Any]) -> ConvNet:
    weights = conv_layouts.ours(state)
    with torch.device("meta"):
        net = ConvNet(conv_layouts.config_of(weights))
    expected = {name: tuple(value.shape) for name, value in net.body.state_dict().items()}
    for name in expected:
        if name.endswith("num_batches_tracked"):  # older files lack them; nothing here reads them
            weights.setdefault(name, torch.zeros((), dtype=torch.int64))
    missing, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    wrong = sorted(name for name in set(expected) & set(weights) if tuple(weights[name].shape) != expected[name])
    for what, names in (("lack", missing), ("have unknown parts:", unknown), ("have another shape in", wrong)):
        if names:
            raise FoveateError(
                f"these weights of a {net.config.network} {what} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}",
                remedy="take the whole network's file",
            )
    net.body.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    return net.requires_grad_().train(False)


def save_convnet(net: ConvNet, folder: Path, colours: Colours = IMAGENET) -> None:
    """Write a folder that ``load_convnet`` opens. It appears, or replaces an older one, as a whole.

    Args:
        net: on any device; float32 is written.
        folder: where to.
        colours: mean and standard deviation of the training pictures' values 0..1.

    Raises:
        FoveateError: the disk is full.
    """
    config = {"model_type": MODEL_TYPE, "dtype": "float32", **asdict(net.config)}
    state = {name: value.detach().cpu().contiguous().clone() for name, value in net.body.state_dict().items()}
    folders.write(folder, config, state, colours)
