"""Label propagation on frozen features: what DINO calls its video object segmentation (Caron et al. 2021, ``eval_video_segmentation.py``,
after Jabri et al. 2020). Nothing is trained: each patch takes the labels of the patches it is most like, in the first and the last frames.

    features    final patch tokens, as unit vectors
                of ResNets the cells of the third stage, 16 pixels on each side, as unit vectors (PreViTS says layers 3 and 4)
    context     the first frame and the 7 before
    affinity    exp(cosine / .1) of each patch with those of the context at most 12 rows and columns away; the 5 largest, adding up to 1
    labels      soft, on the grid of patches; for the eye enlarged, each object's map stretched to 0..1, the largest one in each pixel

The short side is shown at 480 px, the long one rounded down to a multiple of 64, as there; where patches do not divide 64, both sides are
rounded down to whole patches. Colours are divided by .228 in red as in that script, and not by .229. It leaves pixels of void what they are
(255), the number of one object more; here they are background.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveate.evaluate.davis import VOID, Labels
from foveate.evaluate.pictures import open_picture
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.convnets import ConvNet
    from foveate.models.vit import Vit

_MEAN, _STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)
_TOGETHER = 64  # sides are multiples of it
_AT_ONCE = 256  # patches


@dataclass(frozen=True)
class PropagationSettings:
    """The defaults are the script's."""

    frames: int = 7  # before, beside the first one
    radius: int = 12  # patches; 0: the same place alone
    top: int = 5  # patches of the context whose labels count
    temperature: float = 0.1


def propagate(
    pictures: Sequence[Path], first: Labels, vit: Vit | ConvNet, size: int = 480, settings: PropagationSettings | None = None
) -> Iterator[Labels]:
    """Objects of every frame, uint8[H, W], the first as given.

    Args:
        pictures: files, in order of time.
        first: objects of the first one; 255 is nobody.
        vit: a backbone in eval mode, a transformer or a ResNet.
        size: pixels of the short side.
        settings: see there.
    """
    import torch

    settings = settings or PropagationSettings()
    patch, (height, width) = cell_of(vit), first.shape
    rows, columns = (side // patch for side in shown_at(height, width, size, patch))
    first = np.where(first == VOID, 0, first).astype(np.uint8)
    yield first
    context: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.frames)
    with torch.inference_mode():
        begun = tokens_of(pictures[0], vit, rows, columns), small(first, rows, columns).to(next(vit.parameters()).device)
        for path in pictures[1:]:
            tokens = tokens_of(path, vit, rows, columns)
            known = [begun, *context]
            soft = spread(tokens, torch.stack([one for one, _ in known]), torch.stack([one for _, one in known]), settings)
            if settings.frames:
                context.append((tokens, soft))
            yield hard(soft, patch, height, width)


def shown_at(height: int, width: int, size: int, patch: int) -> tuple[int, int]:
    """Height and width that a picture is shown at."""
    step = _TOGETHER if _TOGETHER % patch == 0 else patch
    short = max(patch, size // patch * patch)
    long = max(short, int(short * max(height, width) / min(height, width)) // step * step)
    return (long, short) if height > width else (short, long)


def cell_of(vit: Vit | ConvNet) -> int:
    """Pixels per side of what has a vector.

    Raises:
        FoveateError: a network of convolutions that is no ResNet.
    """
    from foveate.models.convnets import ConvNet

    if not isinstance(vit, ConvNet):
        return vit.config.patch
    if vit.config.video:
        raise FoveateError(
            f"a {vit.config.network} is for clips, not for single frames", remedy="name a transformer or a ResNet"
        )
    return 16


def tokens_of(path: Path, vit: Vit | ConvNet, rows: int, columns: int) -> Tensor:
    """f32[rows, columns, D] of unit vectors; the picture is resized bilinearly without a filter, as OpenCV does it."""
    import torch
    from torch.nn import functional

    from foveate.models.convnets import ConvNet

    picture = torch.from_numpy(open_picture(path).copy()).to(next(vit.parameters()).device).permute(2, 0, 1)[None].float() / 255
    shown = functional.interpolate(picture, (rows * cell_of(vit), columns * cell_of(vit)), mode="bilinear")
    mean, std = (torch.tensor(values, device=shown.device)[:, None, None] for values in (_MEAN, _STD))
    if not isinstance(vit, ConvNet):
        return functional.normalize(vit((shown - mean) / std).patches[0].float(), dim=-1).view(rows, columns, -1)
    found = (shown - mean) / std
    for name, layer in vit.body.named_children():
        found = layer(found)
        if name == "layer3":
            break
    return functional.normalize(found[0].float(), dim=0).permute(1, 2, 0)


def small(labels: Labels, rows: int, columns: int) -> Tensor:
    """f32[rows, columns, objects + 1] one-hot of the label in the middle of each patch (nearest, as PIL has it)."""
    import torch
    from PIL import Image

    at = np.asarray(Image.fromarray(labels).resize((columns, rows), Image.Resampling.NEAREST)).astype(np.int64)
    return torch.nn.functional.one_hot(torch.from_numpy(at), int(labels.max()) + 1).float()


def spread(tokens: Tensor, known: Tensor, labels: Tensor, settings: PropagationSettings) -> Tensor:
    """The labels of a frame's patches, f32[rows, columns, L], each adding up to what those it comes from do.

    Args:
        tokens: f32[rows, columns, D] of unit vectors.
        known: f32[F, rows, columns, D] of the frames with labels, alike.
        labels: f32[F, rows, columns, L].
        settings: see there.
    """
    import torch

    rows, columns, _ = tokens.shape
    device, every = tokens.device, known.flatten(0, 2)
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).view(-1, 2).to(device)
    near = (place[:, None] - place).abs().amax(-1) <= settings.radius  # [target, source]
    found = []
    for start in range(0, rows * columns, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        alike = (tokens.view(rows * columns, -1)[part] @ every.T / settings.temperature).exp()
        alike = alike * near[part].repeat(1, len(known))
        least = alike.topk(min(settings.top, alike.shape[1]), dim=1).values[:, -1:]
        alike = torch.where(alike < least, 0, alike)
        found.append(alike / alike.sum(1, keepdim=True) @ labels.flatten(0, 2))
    return torch.cat(found).view(rows, columns, -1)


def hard(soft: Tensor, patch: int, height: int, width: int) -> Labels:
    """uint8[height, width] of soft labels f32[rows, columns, L]."""
    import torch
    from PIL import Image

    large = torch.nn.functional.interpolate(soft.permute(2, 0, 1)[None], scale_factor=patch, mode="bilinear")[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    # A map that is the same everywhere but not 0 becomes 0 / 0 in the script; here it becomes 0.
    stretched = torch.where(high > 0, (large - low) / (high - low).clamp(min=torch.finfo(large.dtype).tiny), large)
    labels = stretched.argmax(0).to(torch.uint8).cpu().numpy()
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
