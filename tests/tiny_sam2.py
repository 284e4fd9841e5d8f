"""A SAM 2 with random weights, small enough to follow a thousand frames in half a minute, saved as a Hugging Face folder.

Random weights call every picture empty, and parameters that start at zero (positions of memories, the pointer of an absent object) would
hide mistakes; so all are drawn, and the object score gets a bias.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from foveate.models.sam2 import open_sam2

SIZE = 64
REPVIT = {
    "model_type": "timm_wrapper",
    "architecture": "repvit_m1",
    "model_args": {"features_only": True, "in_chans": 3, "out_indices": [0, 1, 2, 3]},
}
"""EdgeTAM's image encoder as published configurations name it."""


def config(kind: str = "sam2_video", size: int = SIZE) -> Any:
    import transformers

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [size, size],
        "hidden_size": 8,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_positional_embedding_background_size": [2, 2],
        "window_size_per_stage": [4, 2, 4, 2],
        "global_attention_blocks": [3],
    }
    common = {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[size // 4] * 2, [size // 8] * 2, [size // 16] * 2],
            "fpn_hidden_size": 128,
            "num_feature_levels": 3,
            "fpn_top_down_levels": [2, 3],
        },
        "prompt_encoder_config": {"hidden_size": 128, "image_size": size, "patch_size": 16, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
            "iou_head_depth": 2,
        },
        "image_size": size,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [size // 16, size // 16],
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
    }
    if kind.startswith("edgetam"):
        own = {
            "memory_attention_mlp_hidden_size": 32,
            "perceiver_resampler_num_latents": 16,
            "perceiver_resampler_num_latents_2d": 4,
            "memory_attention_rope_k_sizes": [2, 2],
        }
        if kind == "edgetam_repvit":
            from foveate.models.edgetam import with_repvit

            common["vision_config"] |= {"model_type": "edgetam_vision_model", "backbone_channel_list": [384, 192, 96, 48]}
            return with_repvit(common | own)
        return transformers.EdgeTamVideoConfig(**common, **own)
    return transformers.Sam2VideoConfig(**common, memory_attention_feed_forward_hidden_size=32)


def make_sam2(folder: Path, kind: str = "sam2_video", *, bias: float = 1.0, seed: int = 0) -> Path:
    """Write ``config.json`` and ``model.safetensors``. ``bias`` is added to the object's score: above 0 most pictures hold one.

    ``kind``: ``sam2_video``; ``edgetam_video``, with SAM 2's image encoder; ``edgetam_repvit``, with its own, which is not smaller here.
    """
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_class = transformers.EdgeTamVideoModel if kind.startswith("edgetam") else transformers.Sam2VideoModel
        model = model_class(config(kind)).eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "timm_model" in name and value.ndim > 1:
                    value.normal_(0, 0.5 * value[0].numel() ** -0.5)
                elif value.ndim < 2 and name.endswith("weight"):  # norms
                    value.normal_(1, 0.1)
                elif "positional_embedding" not in name:
                    value.normal_(0, 0.1 if value.ndim < 2 else (0.5 if value.ndim > 2 else 1.2 / value.shape[-1] ** 0.5))
            for name, value in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    value.uniform_(-0.2, 0.2).add_(float(name.endswith("var")))
            model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(bias)
    model.save_pretrained(folder)
    if kind == "edgetam_repvit":
        settings = json.loads((folder / "config.json").read_text())
        change_config(folder, vision_config=settings["vision_config"] | {"backbone_config": REPVIT})
    return folder


def change_config(folder: Path, **changes: object) -> None:
    """Overwrite entries of ``config.json``."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@functools.cache
def opened(model: str, size: int | None = None) -> Any:
    """``open_sam2``, once per folder: a model does not change by being used, and opening one costs more than ten frames."""
    return open_sam2(model, size)
