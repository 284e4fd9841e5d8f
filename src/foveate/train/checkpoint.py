"""States to resume from, and backbones that are kept. Tensors as safetensors, the rest as JSON; nothing is ever unpickled.

A state is a folder that appears as a whole (written aside, then renamed), so that a run killed at any moment leaves the state before. The
newest two are kept: should the newest turn out damaged, the one before it serves.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.schema import FoveateError
from foveate.store import file_sha256, write_aside, write_json
from foveate.train.parallel import World, spread_like, together, whole

_KEEP = 2
_TENSORS, _FACTS = "tensors.safetensors", "state.json"
_log = logging.getLogger("foveate")


def save(
    folder: Path, step: int, method: nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any], world: World
) -> None:
    """Write ``step-<step>/`` with everything that a run goes on from, and remove all but the newest two.

    Args:
        folder: of the states.
        step: steps done.
        method: its parameters and persistent buffers.
        optimiser: its moments.
        facts: JSON values to be given back by ``load``.
        world: every process calls this, the first one writes.

    Raises:
        FoveateError: the disk is full; earlier states are as they were.
    """
    tensors = {name: whole(tensor).detach().cpu().contiguous() for name, tensor in _tensors(method, optimiser).items()}
    if world.first:
        target = _name(folder, step)
        aside = folder / f".{target.name}.{os.getpid()}.aside"
        try:
            from safetensors.torch import save as as_bytes

            aside.mkdir(parents=True, exist_ok=True)
            with write_aside(aside / _TENSORS) as path:
                path.write_bytes(as_bytes(tensors))
            write_json(aside / _FACTS, {"sha256": file_sha256(aside / _TENSORS), "step": step, "facts": facts})
            shutil.rmtree(target, ignore_errors=True)
            os.replace(aside, target)
        except FoveateError as error:
            raise FoveateError(error.problem, file=target, remedy=error.remedy) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in _states(folder)[_KEEP:]:
            shutil.rmtree(old)
    together()


def load(folder: Path, method: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, dict[str, Any]] | None:
    """Bring method and optimiser to the newest state that is whole; steps done and the facts kept with it, or None where there is none.

    Raises:
        FoveateError: the state is of another method or of another size; nothing was changed.
    """
    for state in _states(folder):
        found = _read(state)
        if found is None:
            _log.warning("%s is damaged; the state before it is used", state)
            continue
        tensors, record = found
        _fill(method, optimiser, tensors, state)
        return int(record["step"]), dict(record["facts"])
    return None


def _tensors(method: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything by name; what two modules share is there once."""
    found = _own(method)
    for name, param in method.named_parameters():
        found |= {f"optimiser.{name}.{key}": value for key, value in optimiser.state.get(param, {}).items()}
    return found


def _own(method: nn.Module) -> dict[str, Tensor]:
    persistent = method.state_dict().keys()
    both = dict(method.named_parameters()) | dict(method.named_buffers())
    return {f"method.{name}": tensor for name, tensor in both.items() if name in persistent}


def _fill(method: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], state: Path) -> None:
    own = _own(method)
    theirs = {name for name in tensors if name.startswith("method.")}
    odd = sorted(theirs ^ set(own))
    wrong = sorted(name for name in theirs & set(own) if tensors[name].shape != own[name].shape)
    if odd or wrong:
        name = (odd or wrong)[0].removeprefix("method.")
        what = f"{name} is in one of them only" if odd else f"{name} has another shape"
        raise FoveateError(
            f"this state belongs to another model ({what})",
            file=state,
            remedy="go on with the recipe it was made with, or name another run",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(spread_like(tensors[name], tensor))
    for name, param in method.named_parameters():
        kept = {key: value for key, value in tensors.items() if key.startswith(f"optimiser.{name}.")}
        if kept:
            optimiser.state[param] = {
                (what := key.removeprefix(f"optimiser.{name}.")): _moment(what, value, param, optimiser)
                for key, value in kept.items()
            }


def _moment(what: str, value: Tensor, param: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
    if what != "step":
        return spread_like(value, param)
    return value.to(param.device) if optimiser.defaults.get("fused") else value


def _name(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _states(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _read(state: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and record of a state, or None where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = json.loads((state / _FACTS).read_text(encoding="utf-8"))
        if file_sha256(state / _TENSORS) != record["sha256"]:
            return None
        return load_file(state / _TENSORS), record
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def keep_backbone(folder: Path, step: int, backbone: nn.Module, world: World) -> None:
    """Write ``step-<step>/`` as a model folder: a transformer in Hugging Face's layout, which ``embed`` and ``AutoModel.from_pretrained``
    open, a convolutional network in our own."""
    from foveate.models.convnets import ConvNet, save_convnet
    from foveate.models.vit import Vit, save_vit

    if not isinstance(backbone, (Vit, ConvNet)):
        raise TypeError(f"only a Vit or a ConvNet can be kept as a model folder, not a {type(backbone).__name__}")
    weights = {name: whole(tensor).detach().cpu() for name, tensor in backbone.state_dict().items()}
    if world.first:
        with torch.device("meta"):
            copy = type(backbone)(backbone.config)  # type: ignore[arg-type]
        copy.load_state_dict(weights, assign=True)
        if isinstance(copy, Vit):
            save_vit(copy, folder / f"step-{step}")
        else:
            save_convnet(copy, folder / f"step-{step}")
    together()
