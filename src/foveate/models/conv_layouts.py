"""Names of convolutional networks' weights where they are published, and in ours (``ConvNet.body``).

    torchvision   ResNet and R(2+1)D; ours are the same
    MoCo          ``module.encoder_q.conv1.weight`` ...; of v2 with a head ``fc.0``, ``fc.2``
    RSPNet        ``module.encoder_q.encoder.conv1.weight`` ...; S3D-G with ``feature.``; PreViTS the same
    Hugging Face  ``ResNetModel``, as in ``transformers``

Of a pretraining's checkpoint the query encoder is taken, which is what its authors evaluate. Classifiers, heads, queues and key encoders
are left out; names that are not known are refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

from foveate.models.conv_model import ConvConfig, Network
from foveate.schema import FoveateError

Weights: TypeAlias = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model", "model_state")  # keys of training checkpoints
_PREFIXES = ("module.", "encoder_q.", "encoder.", "backbone.", "resnet.", "body.", "feature.")
_OTHERS = re.compile(r"^(?:module\.)?(?:encoder_k\.|queue|(?:encoder_q\.)?(?:fc\d?|linear|classifier|new_fc)\.)")
_HEADS = re.compile(r"^(?:fc\d?|linear|classifier|new_fc)\.")
_FROM_HUGGINGFACE = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^embedder\.embedder\.convolution\.", "conv1."),
        (r"^embedder\.embedder\.normalization\.", "bn1."),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
    )
)
_STAGE = re.compile(r"^stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)\.(convolution|normalization)\.)?")


def ours(state: Mapping[str, Any]) -> Weights:
    """The network's weights under our names, f32.

    Args:
        state: weights by name, or a training checkpoint that holds them.

    Raises:
        FoveateError: there are no weights by name in it.
    """
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            return ours(state[wrapper])
    found: Weights = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or _OTHERS.match(name):
            continue
        while name.startswith(_PREFIXES) and not name.startswith(("encoder.stages",)):
            name = name.split(".", 1)[1]
        if not _HEADS.match(name):
            found[_renamed(name)] = value.detach() if name.endswith("num_batches_tracked") else value.detach().float()
    return found


def config_of(weights: Weights) -> ConvConfig:
    """The network that weights under our names belong to.

    Raises:
        FoveateError: none of ours.
    """
    if "stem.0.weight" in weights:
        return ConvConfig("r2plus1d_18", len(weights["stem.3.weight"]))
    if "sepConv1.sep_conv.0.conv3d.weight" in weights:
        return ConvConfig("s3dg", len(weights["sepConv1.sep_conv.0.conv3d.weight"]))
    first = weights.get("conv1.weight")
    network: Network | None = None
    if first is not None and first.dim() == 5 and "conv5b.weight" in weights:
        network = "c3d"
    elif first is not None and first.dim() == 4 and "layer4.1.bn2.weight" in weights:
        deep, wide = "layer3.5.bn1.weight" in weights, "layer1.0.bn3.weight" in weights
        if not wide and "layer1.2.bn1.weight" not in weights:
            network = "resnet18"
        elif wide and deep and "layer3.6.bn1.weight" not in weights:
            network = "resnet50"
    if first is None or network is None:
        raise FoveateError(
            "these weights are of none of the convolutional networks that are known here",
            remedy="known: ResNet-18 and -50, R(2+1)D-18, S3D-G, C3D, under the names of torchvision, MoCo, RSPNet or transformers",
        )
    return ConvConfig(network, len(first))


def _renamed(name: str) -> str:
    """Hugging Face's ``encoder.stages.1.layers.0.layer.2.convolution.weight`` is ``layer2.0.conv3.weight``."""
    plain = name.removeprefix("encoder.")
    stage = _STAGE.match(plain)
    if stage is None:
        for pattern, new in _FROM_HUGGINGFACE:
            name = pattern.sub(new, name)
        return name
    number, block, layer, kind = stage.groups()
    rest = plain[stage.end() :]
    within = f"layer{int(number) + 1}.{block}."
    if layer is None:
        for pattern, new in _FROM_HUGGINGFACE:
            rest = pattern.sub(new, f".{rest}").removeprefix(".")
        return within + rest
    return f"{within}{'conv' if kind == 'convolution' else 'bn'}{int(layer) + 1}.{rest}"
