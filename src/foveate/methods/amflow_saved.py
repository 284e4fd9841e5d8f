"""Adapters on disk: one safetensors file with what was learned, how it is placed, and the hash of the backbone it was learned for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.schema import FoveateError
from foveate.store import canonical_json, damaged, write_aside

if TYPE_CHECKING:
    from foveate.methods.amflow import AmFlow, Backbone


def save_adapters(path: Path, method: AmFlow, about: dict[str, Any] | None = None) -> None:
    """Write adapters and head; the backbone itself is not in the file.

    Args:
        path: a .safetensors file.
        method: on any device; float32 is written.
        about: JSON values to keep with them, for example the names of the classes.
    """
    from safetensors.torch import save

    from foveate.methods.amflow import backbone_hash

    tensors = {name: value.detach().cpu().float().contiguous() for name, value in method.trained().items()}
    said = {"config": asdict(method.config), "backbone": backbone_hash(method.vit), "about": about or {}}
    with write_aside(path) as aside:
        aside.write_bytes(save(tensors, metadata={"foveate": canonical_json(said)}))


def load_adapters(path: Path, vit: Backbone) -> tuple[AmFlow, dict[str, Any]]:
    """Adapters in the backbone they were learned for, in eval mode, and what was kept with them.

    Raises:
        FoveateError: the file is missing or damaged, or the backbone is another one.
    """
    from safetensors import SafetensorError, safe_open

    from foveate.methods.amflow import AmFlow, AmFlowConfig, backbone_hash

    if not path.is_file():
        raise FoveateError("there are no adapters here", file=path, remedy="run `foveate adapt`")
    try:
        with safe_open(path, framework="pt") as opened:
            said = json.loads(opened.metadata()["foveate"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error
    if said["backbone"] != backbone_hash(vit):
        raise FoveateError(
            "these adapters were learned for another backbone",
            file=path,
            remedy="name the model that they were learned on, at the same picture size, or run `foveate adapt` again",
        )
    config: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said["config"].items()
    }
    method = AmFlow(vit, AmFlowConfig(**config)).eval()
    wanted = {name: tuple(value.shape) for name, value in method.trained().items()}
    if wanted != {name: tuple(value.shape) for name, value in tensors.items()}:
        raise damaged(path)
    method.load_state_dict(tensors, strict=False)
    return method, dict(said["about"])
