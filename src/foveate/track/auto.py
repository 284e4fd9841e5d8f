"""Where to start when nobody pointed at the subject: at what stands out (a saliency model), else at what moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.masks import Mask, resample
from foveate.schema import FoveateError
from foveate.track.motion import moving_part, samples_of
from foveate.track.pixels import Floats
from foveate.track.prompts import FOLDER, TABLE

if TYPE_CHECKING:
    from foveate.track.scene import Scene

LOOKS = 12  # frames looked at
SALIENT = 0.5
CONFIDENT = 0.35  # least confidence that is believed
LARGEST = 0.5  # share of the view; more is a scene, not a subject


def find_start(scene: Scene, view: str) -> tuple[int, Mask, str]:
    """Frame, mask bool[h, w] at any resolution, and ``saliency`` or ``motion``.

    Raises:
        FoveateError: nothing stands out and nothing moves.
    """
    import torch

    from foveate.models.imgfocus import saliency

    frames, pictures = samples_of(scene, {view: scene.views[view]}, LOOKS)
    best, answer = CONFIDENT, None
    for frame, picture in zip(frames, pictures[view], strict=True):
        heat = saliency(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None])[0].numpy()
        mask, confidence = salient_part(heat)
        if confidence > best:
            best, answer = confidence, (frame, mask, "saliency")
    if answer is None and len(frames) > 2 and (moved := moving_part(pictures[view])) is not None:
        answer = frames[moved[0]], moved[1], "motion"
    if answer is None:
        raise FoveateError(
            f"no subject was found in view {view!r} of video {scene.video.name!r}: nothing stands out and nothing moves",
            file=scene.project.folder / FOLDER / TABLE,
            remedy="say where it is: `foveate track --prompt VIDEO[:VIEW]:FRAME:X,Y`",
        )
    size = scene.views[view]
    frame, mask, kind = answer
    return frame, resample(mask, size.h, size.w), kind


def salient_part(heat: Floats) -> tuple[Mask, float]:
    """The strongest connected part of a saliency map f32[h, w] in 0..1, and how far it stands out: its mean, less what others have,
    as a share of all that is salient."""
    from scipy.ndimage import label

    part, count = label(heat > SALIENT)
    if not count:
        return np.zeros(heat.shape, np.bool_), 0.0
    weight = np.bincount(part.ravel(), heat.ravel(), count + 1)[1:]
    main = int(weight.argmax()) + 1
    mask: Mask = part == main
    if mask.mean() > LARGEST:
        return mask, 0.0
    return mask, float(heat[mask].mean() * weight.max() / weight.sum())
