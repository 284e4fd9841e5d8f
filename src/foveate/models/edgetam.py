"""EdgeTAM as ``transformers`` builds it, with our RepViT-M1 in the place of timm's.

``transformers`` has all of EdgeTAM but its image encoder, which its configuration asks timm for (model type ``timm_wrapper``). Here the
configuration is read with a backbone type of our own, which the library's mechanism for foreign models knows; the names of the weights stay
those of the published checkpoints, ``vision_encoder.backbone.timm_model.*``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModel, EdgeTamVideoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from foveate.models.repvit import RepVit


class RepVitConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """There is one RepViT-M1."""

    model_type = "foveate_repvit_m1"


class RepVitBackbone(PreTrainedModel):
    """What ``EdgeTamVisionModel`` calls; the name of its part is that of the published weights."""

    config_class = RepVitConfig
    main_input_name = "pixel_values"

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__(config)
        self.timm_model = RepVit()
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.timm_model(pixel_values))


AutoConfig.register(RepVitConfig.model_type, RepVitConfig, exist_ok=True)
AutoModel.register(RepVitConfig, RepVitBackbone, exist_ok=True)


def with_repvit(settings: dict[str, Any]) -> EdgeTamVideoConfig:
    """The configuration in ``settings``, the content of a ``config.json``, with our RepViT-M1 as its backbone."""
    vision = settings["vision_config"] | {"backbone_config": {"model_type": RepVitConfig.model_type}}
    return EdgeTamVideoConfig.from_dict(settings | {"vision_config": vision})
