"""The eight sets of the backgrounds challenge, made from footage with masks, frame by frame.

Xiao et al., "Noise or Signal: The Role of Image Backgrounds in Object Recognition" (ICLR 2021), section 2 and appendix A:

    original      as it is
    only_fg       the subject on black
    no_fg         the subject's pixels black, so that its shape stays
    only_bg_b     the subject's box black
    only_bg_t     the subject's box filled with tiles of background
    mixed_same    the subject on the ``only_bg_t`` of another picture of its class
    mixed_rand    ... of a class drawn at random, its own included
    mixed_next    ... of the next class

What the paper leaves open and what is done here: tiles are cut from the widest of the four strips beside the box (above, below, left,
right; most pixels), and are laid side by side from the box's edge on; pictures whose box fills more than .9 of them are left out, as
there, and so are those where that strip is thinner than a thirty-second of the picture, of which there would be nothing but streaks. A
background of another size is brought to the foreground's. Of clips every frame has its own mask and box, and the background is a clip
as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask, box

Set: TypeAlias = Literal["original", "only_fg", "no_fg", "only_bg_b", "only_bg_t", "mixed_same", "mixed_rand", "mixed_next"]
SETS: tuple[Set, ...] = get_args(Set)
MIXED: tuple[Set, ...] = ("mixed_same", "mixed_rand", "mixed_next")
TITLES = dict(
    zip(
        SETS,
        ("Original", "Only-FG", "No-FG", "Only-BG-B", "Only-BG-T", "Mixed-Same", "Mixed-Rand", "Mixed-Next"),
        strict=True,
    )
)
"""As published."""

LARGEST = 0.9  # share of the picture that a box may fill
THINNEST = 1 / 32  # of the picture's side, that the strip tiles are cut from has to be wide

Pictures = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, half-open."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip of T frames with a subject in it; a picture is a clip of one.

    Attributes:
        frames: u8[T, H, W, 3].
        masks: bool[T, H, W].
        inside: the part that is picture and not letterbox; None: all of it.
    """

    frames: Pictures
    masks: Mask
    inside: Rectangle | None = None

    @property
    def rectangle(self) -> Rectangle:
        return self.inside or (0, 0, self.frames.shape[2], self.frames.shape[1])

    def usable(self) -> bool:
        """Whether in every frame that shows the subject there is background beside it, and some frame shows it."""
        x0, y0, x1, y1 = self.rectangle
        shown = False
        for mask in self.masks:
            found = box(mask)
            if found is None:
                continue
            shown = True
            strip = strips(found, self.rectangle)[0]
            thin = min(strip[2] - strip[0], strip[3] - strip[1])
            if found[2] * found[3] > LARGEST * (x1 - x0) * (y1 - y0) or thin < THINNEST * min(x1 - x0, y1 - y0):
                return False
        return shown


def strips(subject: tuple[int, int, int, int], inside: Rectangle) -> list[Rectangle]:
    """The parts of a picture beside a box ``(x, y, w, h)``: above, below, left, right of it; the one with most pixels first."""
    x, y, w, h = subject
    x0, y0, x1, y1 = inside
    found = [(x0, y0, x1, y), (x0, y + h, x1, y1), (x0, y0, x, y1), (x + w, y0, x1, y1)]
    return sorted(found, key=lambda r: -max(0, r[2] - r[0]) * max(0, r[3] - r[1]))


def only_fg(scene: Scene) -> Pictures:
    """The subject on black."""
    return np.where(scene.masks[..., None], scene.frames, np.uint8(0))


def no_fg(scene: Scene) -> Pictures:
    """Black where the subject is."""
    return np.where(scene.masks[..., None], np.uint8(0), scene.frames)


def only_bg_b(scene: Scene) -> Pictures:
    """Black in the subject's box."""
    out = scene.frames.copy()
    for picture, mask in zip(out, scene.masks, strict=True):
        if (found := box(mask)) is not None:
            x, y, w, h = found
            picture[y : y + h, x : x + w] = 0
    return out


def only_bg_t(scene: Scene) -> Pictures:
    """Tiles of background in the subject's box; the scene is ``usable``."""
    out = scene.frames.copy()
    for picture, mask in zip(out, scene.masks, strict=True):
        if (found := box(mask)) is not None:
            _tile(picture, found, scene.rectangle)
    return out


def _tile(picture: Pictures, subject: tuple[int, int, int, int], inside: Rectangle) -> None:
    x, y, w, h = subject
    left, top, right, low = strips(subject, inside)[0]
    across, down = np.arange(w), np.arange(h)
    # Along the strip the tile stands where it is; across it, it is laid side by side from the edge it shares with the box on.
    if right <= x:
        columns, rows = left + across % (right - left), y + down
    elif left >= x + w:
        columns, rows = right - 1 - across[::-1] % (right - left), y + down
    elif low <= y:
        columns, rows = x + across, top + down % (low - top)
    else:
        columns, rows = x + across, low - 1 - down[::-1] % (low - top)
    picture[y : y + h, x : x + w] = picture[rows][:, columns]


def mixed(foreground: Scene, background: Pictures) -> Pictures:
    """The subject of a scene on a background u8[t, h, w, 3] of any size and length."""
    count, height, width = foreground.masks.shape
    chosen = np.linspace(0, len(background) - 1, count).round().astype(int)
    behind = np.stack([_sized(background[k], height, width) for k in chosen])
    return np.where(foreground.masks[..., None], foreground.frames, behind)


def _sized(picture: Pictures, height: int, width: int) -> Pictures:
    from PIL import Image

    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


@dataclass(frozen=True, eq=False)
class Partners:
    """Whose backgrounds each of N scenes gets: positions among the same scenes, -1 where there is none.

    Attributes:
        mixed: i64[N, 3], of ``MIXED``.
        adversaries: i64[N, A], of other classes.
    """

    mixed: NDArray[np.int64]
    adversaries: NDArray[np.int64]


def partners(label: NDArray[np.int64], group: Sequence[str] | NDArray[np.str_], adversaries: int, seed: int = 0) -> Partners:
    """Draw backgrounds among N scenes, all of which are held out together.

    A background comes from footage of another group (another animal, another video) wherever the class has some: the scene's own
    background, or that of the moment before, would say nothing about the class.

    Args:
        label: i64[N], classes.
        group: [N] names.
        adversaries: A, backgrounds of other classes; fewer where there are fewer scenes.
        seed: of the draw.
    """
    rng, groups = np.random.default_rng(seed), np.asarray(group)
    classes = np.unique(label)
    out = np.full((len(label), len(MIXED)), -1, np.int64)
    against = np.full((len(label), adversaries), -1, np.int64)

    def one(which: int, of: int) -> int:
        here = np.flatnonzero(label == of)
        apart = here[groups[here] != groups[which]]
        choice = apart if len(apart) else here[here != which]
        return int(rng.choice(choice)) if len(choice) else -1

    for n, own in enumerate(label.tolist()):
        following = int(classes[(np.searchsorted(classes, own) + 1) % len(classes)])
        out[n] = one(n, own), one(n, int(rng.choice(classes))), one(n, following)
        others = np.flatnonzero(label != own)
        drawn = rng.permutation(others)[:adversaries]
        against[n, : len(drawn)] = drawn
    return Partners(out, against)


def compose(scenes: Sequence[Scene], at: int, which: Set, partners: Partners) -> Pictures:
    """Scene ``at`` as one of the sets, u8[T, H, W, 3]; every partner is there."""
    scene = scenes[at]
    match which:
        case "original":
            return scene.frames
        case "only_fg":
            return only_fg(scene)
        case "no_fg":
            return no_fg(scene)
        case "only_bg_b":
            return only_bg_b(scene)
        case "only_bg_t":
            return only_bg_t(scene)
    return mixed(scene, only_bg_t(scenes[int(partners.mixed[at, MIXED.index(which)])]))
