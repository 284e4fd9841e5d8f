"""Pictures of attention-map flow: per block, heads to colours, as in the supplement of *AM Flow* (principal components over heads), and how
flow and optical flow agree, from which the blocks that should look along time can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError
from foveate.store import write_aside

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.flow import Align
    from foveate.models.vit import Vit

_MOVES = 0.5  # pixels by which some patch has to move for a pair of frames to count
_BLUE = "#0072b2"


def flows(vit: Vit, pictures: Tensor, align: Align | None = None) -> NDArray[np.float32]:
    """Attention-map flow of every block of a frozen backbone, before any gain: f32[blocks, T - 1, heads, n] of a clip of normalised
    pictures f32[T, 3, H, W]; between frames t and t + 1, in the places of frame t. With ``align`` an aligner as it begins.

    Raises:
        FoveateError: a clip of one frame.
    """
    import torch

    from foveate.models.flow import AttentionFlow, aligner
    from foveate.models.vit_blocks import Block

    if len(pictures) < 2:
        raise FoveateError("one frame has no flow", remedy="give a clip of at least two frames")
    seen: list[Tensor] = []
    blocks = [block for block in vit.blocks if isinstance(block, Block)]
    hooks = [block.norm2.register_forward_hook(lambda _module, _input, out: seen.append(out)) for block in blocks]
    try:
        with torch.no_grad():
            qkvs = vit.watch(pictures, range(len(vit.blocks)))[1]
            found = []
            for block, tokens, qkv in zip(blocks, seen, qkvs, strict=True):
                attention, heads = block.attn, vit.config.heads
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)  # the aligner's projection
                    made = None if align is None else aligner(align, vit.config.width, attention)
                patches = tokens.view(len(pictures), -1, vit.config.width)[:, 1 + vit.config.registers :]
                found.append(AttentionFlow(heads, made).raw(patches, qkv, len(pictures))[0, :-1].transpose(-1, -2))
    finally:
        for hook in hooks:
            hook.remove()
    out: NDArray[np.float32] = torch.stack(found).cpu().numpy()
    return out


def colours(flow: NDArray[np.floating]) -> NDArray[np.uint8]:
    """u8[T, n, 3] of flow f32[T, heads, n]: its first three principal components over heads, each from its 1st to its 99th percentile.

    The components are those of all frames together, so that a colour means the same in each; signs are such that the first correlates with
    the mean over heads.
    """
    heads = flow.transpose(0, 2, 1).reshape(-1, flow.shape[1]).astype(np.float64)
    centred = heads - heads.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    parts = centred @ directions[:3].T
    parts *= np.where((parts * centred.mean(1, keepdims=True)).sum(0) < 0, -1, 1)
    parts = np.pad(parts, ((0, 0), (0, 3 - parts.shape[1])))
    low, high = np.percentile(parts, [1, 99], axis=0)
    level = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1)
    out: NDArray[np.uint8] = np.rint(255 * level).astype(np.uint8).reshape(flow.shape[0], flow.shape[2], 3)
    return out


def agreement(flow: NDArray[np.floating], motion: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64 ``[blocks]``: Spearman's correlation of flow (mean over heads) f32[blocks, T, heads, n] with the length of optical flow, or
    another measure of motion, f32[T, n] on the same patches, in each pair of frames; the mean over pairs in which something moves."""
    from scipy.stats import spearmanr

    moving = [t for t in range(len(motion)) if np.ptp(motion[t]) > 0]
    if not moving:
        raise FoveateError("nothing moves in this clip", remedy="choose another one, of a camera that stands still")
    mean = flow.mean(2)
    # Flow that is the same everywhere tells nothing.
    return np.array(
        [np.mean([spearmanr(block[t], motion[t]).statistic if np.ptp(block[t]) > 0 else 0.0 for t in moving]) for block in mean]
    )


def agreements(vit: Vit, frames: NDArray[np.uint8], align: Align | None = None) -> NDArray[np.float64] | None:
    """``agreement`` of every block's flow with optical flow, in a clip u8[T, S, S, 3] as the backbone is shown it; None: nothing moves."""
    import torch

    from foveate.data.optical_flow import patch_motion
    from foveate.models.folder import IMAGENET

    motion = np.stack([patch_motion(one, other, vit.config.patch) for one, other in pairwise(frames)])
    if not (motion.max(1) > _MOVES).any():
        return None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    shown = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std
    return agreement(flows(vit, shown, align), np.where(motion.max(1, keepdims=True) > _MOVES, motion, 0))


def draw_agreement(agreements: NDArray[np.floating], chosen: Sequence[int], path: Path) -> None:
    """Bars of every block's agreement, those chosen filled; the ending of ``path`` says how (.svg, .png). Same input, same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blocks = np.arange(len(agreements))
    with matplotlib.rc_context({"svg.hashsalt": "foveate", "svg.fonttype": "path", "font.size": 8}):
        figure = Figure(figsize=(4.2, 2.1), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        faces = [_BLUE if block in chosen else "white" for block in blocks]
        axes.bar(blocks, agreements, color=faces, edgecolor=_BLUE)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(xticks=blocks, xlabel="block", ylabel="Spearman correlation")
        axes.set_title("flow of attention against optical flow; filled: chosen", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        undated = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        with write_aside(path) as aside:
            figure.savefig(aside, format=path.suffix[1:], dpi=200, metadata=undated)


def placement(agreements: NDArray[np.floating], number: int) -> tuple[int, ...]:
    """The blocks whose flow agrees best with optical flow; of equal ones the later."""
    order = np.argsort(-agreements[::-1], kind="stable")[:number]
    return tuple(sorted((len(agreements) - 1 - order).tolist()))


def grid(blocks: NDArray[np.floating], frames: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """A sheet u8[H, W, 3]: frames u8[T, S, S, 3] in the first row, below a row for each block of flow f32[blocks, T - 1, heads, n]."""
    size = frames.shape[1]
    strips = [np.concatenate(list(frames[:-1]), axis=1)]
    for block in blocks:
        small = colours(block).reshape(len(block), rows, columns, 3)
        large = small.repeat(-(-size // rows), axis=1).repeat(-(-size // columns), axis=2)[:, :size, :size]
        strips.append(np.concatenate(list(large), axis=1))
    return np.concatenate(strips, axis=0)
