"""Where tracks have to end: pictures that show nothing, holes in time, and cuts to another shot.

What lies on the two sides of a cut may be another place and another animal, so nothing is followed across: recent frames are forgotten,
and only what prompts say can find a subject again. Every tracker asks `Shots`, one per view and direction, about each frame before it looks
at it. It needs no further decoding: it compares small copies of the pictures that the tracker reads anyway.

A cut is told from a moving camera, from an animal right before the lens and from a lamp that goes on by what stays where it was: each
block of one picture is looked for nearby in the other one, both ways. Blocks of another scene find a counterpart of some likeness anywhere,
those of the same scene a good one; where the light has changed altogether, edges still lie in their places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foveate.settings import TrackSettings, View
from foveate.track.events import Event, Kind
from foveate.track.pixels import Floats, Picture
from foveate.track.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

SHORT = 48  # pixels of the short side of the small copies
BLOCK, REACH = 8, 6  # of them: side of a block, and how far it is looked for (an eighth of the short side)
FLAT = 8.0  # contrast of a block (root of its sum of squares, grey levels) that is taken for noise
COLOURS = 0.12  # weight of the colours that two pictures share, beside that of the blocks found again
UNLIKE = 0.57  # likeness below which two pictures show different shots, where nothing is known of those before
USUAL, FALL, LEAST, MOST = (
    8,
    0.15,
    0.5,
    0.6,
)  # pictures that say what is usual; how far below it a cut lies, within these bounds
EDGES = 0.22  # edges that correlate more than this have stayed in their places
GAP = 2.0  # seconds beyond the usual step: as long as a picture may stand still in a damaged file (``video``)
BLANK = 6.0  # grey levels between the darkest and the brightest part of a picture that shows nothing
BLACK, WHITE, JUMP = 200, 50, 10  # the published filter, and the frames between two kept ones from which on it starts anew


Blocks = tuple[Floats, Floats]
"""All blocks of a picture without their means, f32[places, BLOCK * BLOCK], and their lengths, f32[places]."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is remembered of a picture."""

    small: Picture  # uint8[h, w, 3]
    dropped: str = ""  # why it shows nothing; empty: it does

    @cached_property
    def grey(self) -> Floats:
        grey: Floats = self.small.mean(axis=-1, dtype=np.float32)
        return grey

    @cached_property
    def edges(self) -> Floats:
        """Square root of the gradient's length: where edges lie, and hardly how strong they are."""
        down, across = np.gradient(self.grey)
        strength: Floats = 16 * np.sqrt(np.hypot(down, across))
        return strength

    @cached_property
    def grey_blocks(self) -> Blocks:
        return _blocks(self.grey)

    @cached_property
    def edge_blocks(self) -> Blocks:
        return _blocks(self.edges)

    @cached_property
    def colours(self) -> Floats:
        """Shares of 8 x 8 x 8 colours."""
        level = self.small.astype(np.intp) >> 5
        index = (level[..., 0] * 64 + level[..., 1] * 8 + level[..., 2]).ravel()
        return (np.bincount(index, minlength=512) / len(index)).astype(np.float32)


def look(picture: Picture, view: View, drop: str) -> Look:
    """The view of a whole picture, small, and whether it is to be dropped."""
    from PIL import Image

    seen = picture[view.y : view.y + view.h, view.x : view.x + view.w]
    zoom = SHORT / min(view.w, view.h)
    size = max(BLOCK + 1, round(view.w * zoom)), max(BLOCK + 1, round(view.h * zoom))
    factor = max(1, min(view.w // size[0], view.h // size[1]))
    image = Image.fromarray(np.ascontiguousarray(seen)).reduce(factor)  # exact means, and fast
    return Look(np.asarray(image.resize(size, Image.Resampling.BOX)), dropped(seen, drop))


def dropped(picture: Picture, drop: str) -> str:
    """Why a picture uint8[h, w, 3] is left out, in a word; empty where it is not.

    ``paper`` is the published filter: black, if no colour channel reaches 200 anywhere; washed out, if none comes down to 50. It takes
    night and fog for nothing. ``blank`` leaves out what really shows nothing: its parts, each the mean of a sixteenth of the picture's
    sides, are nearly of one brightness.
    """
    if drop == "paper":
        if all(picture[..., channel].max() < BLACK for channel in range(3)):
            return "black"
        return "washed out" if all(picture[..., channel].min() > WHITE for channel in range(3)) else ""
    if drop == "blank":
        grey = picture[:: max(1, picture.shape[0] // 128), :: max(1, picture.shape[1] // 128)].mean(axis=-1)
        h, w = (max(1, side // 16) for side in grey.shape)
        parts = grey[: grey.shape[0] // h * h, : grey.shape[1] // w * w]
        parts = parts.reshape(parts.shape[0] // h, h, parts.shape[1] // w, w).mean(axis=(1, 3))
        return "blank" if np.ptp(parts) < BLANK else ""
    return ""


def likeness(one: Look, other: Look) -> float:
    """How alike two pictures of one size are, the same in both directions: the share of blocks found again nearby (in 0..1, counted by how
    well they match), and the colours in common."""
    found = min(_found(*pair, one.small.shape, REACH) for pair in _both(one.grey_blocks, other.grey_blocks))
    return found + COLOURS * float(np.minimum(one.colours, other.colours).sum())


def edges_stay(one: Look, other: Look) -> float:
    """Correlation of edges in their places, -1..1, the same in both directions. Quick: in most footage this is all that has to be asked."""
    return min(_found(*pair, one.small.shape, 1) for pair in _both(one.edge_blocks, other.edge_blocks))


def alike(one: Look, other: Look) -> bool:
    """Whether two pictures, of whatever times, show the same place."""
    return edges_stay(one, other) >= EDGES or likeness(one, other) >= UNLIKE


def _both(one: Blocks, other: Blocks) -> tuple[tuple[Blocks, Blocks], tuple[Blocks, Blocks]]:
    return (one, other), (other, one)


def _found(blocks: Blocks, within: Blocks, shape: tuple[int, ...], reach: int) -> float:
    """Mean over the blocks of one picture of their best correlation in the other one; those with structure count more."""
    origin, places = _places(shape[0], shape[1], reach)
    (own, size), (every, length) = (values[origin] for values in blocks), within  # [N, 64], [N]
    products = np.einsum("nd,nkd->nk", own, every[places])
    best = (products / (size[:, None] * length[places] + FLAT**2)).max(axis=1)
    weight = size / (size + 2 * FLAT)
    return float((best * weight).sum() / max(float(weight.sum()), 1e-6))


def _blocks(picture: Floats) -> Blocks:
    windows = np.lib.stride_tricks.sliding_window_view(picture, (BLOCK, BLOCK)).reshape(-1, BLOCK * BLOCK)
    centred = windows - windows.mean(axis=1, keepdims=True)
    return centred, np.sqrt((centred**2).sum(axis=1))


@lru_cache(maxsize=64)
def _places(h: int, w: int, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Blocks side by side that cover the picture, [N], and where each is looked for, [N, places]; at the border some twice."""
    rows, columns = h - BLOCK + 1, w - BLOCK + 1
    down, across = (np.linspace(0, n - 1, max(2, round(side / BLOCK))).round() for n, side in ((rows, h), (columns, w)))
    y, x = (a.ravel().astype(np.intp) for a in np.meshgrid(down, across, indexing="ij"))
    dy, dx = (a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    near_y, near_x = np.clip(y[:, None] + dy, 0, rows - 1), np.clip(x[:, None] + dx, 0, columns - 1)
    return y * columns + x, near_y * columns + near_x


@dataclass(eq=False)
class Shots:
    """The frames of one view, one by one in the order in which a tracker visits them; backward as well."""

    name: str
    view: View
    settings: TrackSettings
    time: NDArray[np.float64]  # [N] seconds of every frame of the video
    step: float  # seconds from one analysed frame to the next, usually
    film_cuts: NDArray[np.int64]  # frames with which shots begin, where `scenedetect` has looked for them
    last: Look | None = None  # the latest picture that showed something
    at: int = -1  # its frame
    usual: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))  # likeness of neighbours in this shot
    left_out: bool = False  # whether an analysed frame has been dropped since
    events: list[Event] = field(default_factory=list)  # since they were taken

    @classmethod
    def of(cls, scene: Scene, name: str) -> Shots:
        """For a view of a scene."""
        return cls(name, scene.views[name], scene.project.config.track, scene.clock.time, scene.step, scene.film_cuts)

    def look(self, picture: Picture) -> Look:
        """What is compared of a whole picture; for trackers that do not come to it at once."""
        return look(picture, self.view, self.settings.drop)

    def drop(self, frame: int, seen: Look | None) -> None:
        """Record that a frame is left out: it shows nothing, or cannot be decoded (None)."""
        why = "cannot be decoded" if seen is None else seen.dropped
        first = last = frame
        before = self.events[-1] if self.left_out and self.events else None
        if before is not None and before.kind == Kind.DROPPED and before.note == why:  # it goes on
            first, last = min(frame, before.frame), max(frame, before.until_frame)
            self.events.pop()
        self.left_out = True
        self.events.append(self._event(Kind.DROPPED, first, last, None, why))

    def cuts(self, frame: int, seen: Look) -> bool:
        """Whether a frame that is not left out belongs to another shot than the one before it."""
        before, self.last = self.last, seen
        at, self.at = self.at, frame
        left_out, self.left_out = self.left_out, False
        if before is None:
            return False
        score, why = None, self._hole(min(at, frame), max(at, frame), left_out)
        if not why and self.settings.cuts == "picture":
            stayed = edges_stay(before, seen) >= EDGES
            same = 1.0 if stayed else likeness(before, seen)
            level = UNLIKE if len(self.usual) < 3 else float(np.clip(np.median(self.usual) - FALL, LEAST, MOST))
            if same < level:
                score, why = min(1.0, max(0.0, 1 - same)), "another picture"
            else:
                self.usual.append(same)
        if not why:
            return False
        self.usual.clear()
        first = max(at, frame)  # of the later shot, whatever the direction
        self.events.append(self._event(Kind.CUT, first, first, score, why))
        return True

    def _hole(self, earlier: int, later: int, left_out: bool) -> str:
        """Why nothing can be followed from one frame to another, whatever they show; empty where it can."""
        if np.searchsorted(self.film_cuts, earlier, "right") < np.searchsorted(self.film_cuts, later, "right"):
            return "scenedetect"
        if self.settings.drop == "paper" and left_out and later - earlier > JUMP:
            return f"{later - earlier} frames between two that were kept"
        seconds = float(self.time[later] - self.time[earlier])
        return f"{seconds:.1f} s without a picture" if seconds > self.step + GAP else ""

    def _event(self, kind: Kind, first: int, last: int, score: float | None, note: str) -> Event:
        return Event(first, self.name, "", kind, float(self.time[first]), last, float(self.time[last]), score, note)

    def take(self) -> list[Event]:
        """What happened since this was asked last; frames dropped one after another are one event."""
        events, self.events = self.events, []
        return events

    # --- what is kept on disk between segments ---

    def state(self) -> dict[str, Tensor]:
        import torch

        if self.last is None:
            return {}
        return {
            "small": torch.from_numpy(self.last.small.copy()),
            "usual": torch.tensor(list(self.usual), dtype=torch.float64),
            "at": torch.tensor([self.at, self.left_out]),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state`` was taken."""
        if "small" in state:
            self.last = Look(state["small"].numpy())
            self.usual = deque(state["usual"].tolist(), maxlen=USUAL)
            self.at, left_out = state["at"].tolist()
            self.left_out = bool(left_out)
