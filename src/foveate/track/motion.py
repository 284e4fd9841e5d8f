"""Tracker ``motion``: what differs from the empty scene. For a fixed camera and one subject; needs no weights and no prompt.

The empty scene is the median of frames spread over the whole video, or over each shot of it where there are cuts. Where the subject rests
so long that the median shows *it*, the place would later look as if something had appeared there; such ghosts are told from subjects by
their outline, which is an edge in the median and not in the frame, and the median is mended there (as in the static-object literature,
Cucchiara et al., PAMI 2003, do by flow).
A subject that never moves cannot be found.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.jobs import Progress
from foveate.masks import Mask, box
from foveate.project import VIDEOS
from foveate.schema import SEGMENT, FoveateError, State
from foveate.settings import CONFIG, View
from foveate.track.pixels import Floats, upsample
from foveate.track.scene import Picture, Row, Scene, cut, part_name
from foveate.track.shots import Shots, alike, look

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 48  # frames that the empty scene is made from
FAINT, CLEAR = 5.0, 10.0  # differences in noise deviations: a part counts from FAINT on, if it is somewhere CLEAR
NOISE = 2.0  # grey levels that are always taken for noise
SMALL = 2e-4  # share of the view that a subject covers at least
FLOODED = 0.5  # share of the view that may differ; beyond it the light or the camera has changed
SURE = 0.5  # share of all difference that lies in the subject; with less it is uncertain
RIM = 3  # pixels that smoothing and the low threshold may carry an outline outwards


@dataclass(frozen=True, eq=False)
class Empty:
    """The scene without its subject."""

    picture: Floats  # float32[h, w, 3], smoothed, 0..255
    noise: Floats  # float32[h, w], standard deviation of a pixel at rest, grey levels


@dataclass(frozen=True)
class Place:
    """Where the subject was last seen, in pixels of the small picture."""

    x: float
    y: float
    area: float
    at_border: bool


def smooth(picture: Picture) -> Floats:
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(picture[..., k].astype(np.float32), 1.0) for k in range(3)], axis=-1)


def empty_scene(samples: list[Picture]) -> Empty:
    """The background of frames uint8[h, w, 3] spread over a video.

    The noise of a pixel is 1.4826 times the median absolute deviation, which a subject passing by does not change.
    """
    stack = np.stack([smooth(s) for s in samples])
    picture = np.median(stack, axis=0)
    noise = 1.4826 * np.median(np.abs(stack - picture).max(axis=-1), axis=0)
    noise = np.minimum(noise, np.quantile(noise, 0.9))  # where a subject rests for long, its fidgeting is not noise
    scene = Empty(picture.astype(np.float32), np.maximum(noise, NOISE).astype(np.float32))
    for sample in stack:
        ghosts = np.zeros(picture.shape[:2], np.bool_)
        for part in parts(difference(sample, scene)):
            if _outline(scene.picture, part) > 1.5 * _outline(sample, part):
                ghosts |= part
        if ghosts.any():
            from scipy.ndimage import binary_dilation

            mended = np.where(binary_dilation(ghosts, iterations=2)[..., None], sample, scene.picture)
            scene = Empty(mended.astype(np.float32), scene.noise)
    return scene


def difference(picture: Floats, scene: Empty) -> Floats:
    """float32[h, w]: difference of a smoothed frame from the empty scene, in noise deviations; an even change of light is taken out."""
    change = picture - scene.picture
    change = change - np.median(change, axis=(0, 1))
    strength: Floats = np.abs(change).max(axis=-1) / scene.noise
    return strength


def parts(strength: Floats) -> list[Mask]:
    """Connected parts of what differs, largest first; empty when (nearly) everything does."""
    from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, label

    # What touches the border goes on beyond it; otherwise closing would take it away from there.
    beyond = np.pad(strength > FAINT, RIM, mode="edge")
    faint = binary_opening(binary_closing(beyond, iterations=2), iterations=1)[RIM:-RIM, RIM:-RIM]
    if faint.mean() > FLOODED:
        return []
    part, count = label(binary_fill_holes(faint), np.ones((3, 3)))
    if not count:
        return []
    part = np.where(_at_half(strength, part > 0), part, 0)
    flat = part.ravel()
    size = np.bincount(flat, minlength=count + 1)
    clear = np.bincount(flat, (strength > CLEAR).ravel(), count + 1)
    good = np.flatnonzero((size >= max(4, SMALL * part.size)) & (clear > 0))
    return [part == k for k in sorted(good[good > 0], key=lambda k: -size[k])]


def _at_half(strength: Floats, inside: Mask) -> Mask:
    """``inside`` without the outer pixels whose difference is less than half of that nearby: there a smoothed edge really lies."""
    from scipy.ndimage import binary_erosion, maximum_filter

    core = binary_erosion(inside, np.ones((3, 3)), iterations=RIM, border_value=1)
    near = maximum_filter(np.where(inside, strength, 0), 2 * RIM + 1)
    kept: Mask = core | (inside & (strength >= 0.5 * near))
    return kept


def _outline(picture: Floats, part: Mask) -> float:
    """Mean strength of edges along the outline of ``part``."""
    from scipy.ndimage import binary_dilation, binary_erosion

    rim = binary_dilation(part) & ~binary_erosion(part)
    down, across = np.gradient(picture.mean(axis=-1))
    return float(np.hypot(down, across)[rim].mean())


def find(picture: Picture, scene: Empty, last: Place | None) -> tuple[Mask | None, float, Place | None]:
    """The subject in one frame.

    Args:
        picture: uint8[h, w, 3].
        scene: the empty scene.
        last: where it was seen last.

    Returns:
        The mask bool[h, w] or None; a score in 0..1, its share of everything that differs, weighted by distance from where it was; and
        where it is now.
    """
    strength = difference(smooth(picture), scene)
    found = parts(strength)
    if not found:
        return None, 0.0, last
    weight = np.array([float(np.minimum(strength[part], 4 * CLEAR).sum()) for part in found])
    share = weight.copy()
    if last is not None:
        reach = 3 * np.sqrt(last.area) + 0.1 * np.hypot(*strength.shape)
        centres = [np.argwhere(part).mean(axis=0) for part in found]
        distance = np.array([np.hypot(c[0] - last.y, c[1] - last.x) for c in centres])
        share = weight * np.exp(-0.5 * (distance / reach) ** 2)
    main = int(share.argmax())
    mask = _with_neighbours(found, main)
    x, y, w, h = box(mask) or (0, 0, 0, 0)
    at_border = x == 0 or y == 0 or x + w == mask.shape[1] or y + h == mask.shape[0]
    place = Place(x + w / 2, y + h / 2, float(mask.sum()), at_border)
    return mask, float(min(1.0, strength_share(strength, mask, found))), place


def strength_share(strength: Floats, mask: Mask, found: list[Mask]) -> float:
    """Share of the difference in all parts that lies in ``mask``."""
    every = np.logical_or.reduce(found)
    return float(strength[mask & every].sum() / max(strength[every].sum(), 1e-6))


def _with_neighbours(found: list[Mask], main: int) -> Mask:
    """The main part and those that nearly touch it: a subject crossed by a bar is still one."""
    from scipy.ndimage import binary_dilation

    mask = found[main]
    near = binary_dilation(mask, iterations=3)
    for i, part in enumerate(found):
        if i != main and (part & near).any():
            mask = mask | part
    return mask


# --- a whole video ---------------------------------------------------------------------------------------------------------------


def small_size(view: View, short_side: int) -> tuple[int, int]:
    """Height and width that the tracker works at: never larger than the view."""
    zoom = min(1.0, short_side / min(view.w, view.h))
    return max(1, round(view.h * zoom)), max(1, round(view.w * zoom))


def samples_of(
    scene: Scene, views: dict[str, View], count: int, among: NDArray[np.int64] | None = None
) -> tuple[list[int], dict[str, list[Picture]]]:
    """Up to ``count`` analysed frames spread evenly over the video, or ``among`` some of them, cut to each view and made small."""
    frames = scene.analysed.frame if among is None else among
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))].tolist()
    short = scene.project.config.track.short_side
    taken: list[int] = []
    pictures: dict[str, list[Picture]] = {name: [] for name in views}
    for frame, picture in scene.pictures(chosen):
        if picture is not None:
            taken.append(frame)
            for name, view in views.items():
                pictures[name].append(cut(picture, view, *small_size(view, short)))
    return taken, pictures


def check_alone(scene: Scene) -> None:
    """Refuse several subjects."""
    if len(scene.subjects) > 1:
        raise FoveateError(
            f"video {scene.video.name!r} has {len(scene.subjects)} subjects; the tracker `motion` cannot tell them apart",
            file=scene.project.folder / VIDEOS,
            row=scene.video.row,
            remedy=f"set `track: {{method: propagate}}` in {CONFIG} and prompt each of them",
        )


def follow(scene: Scene, progress: Progress) -> dict[str, Any]:
    """Write every part of the tracks of a video with one subject; returns the facts for the seal."""
    _, first, memory = scene.saved() or ("forward", 0, {})
    frames, pictures = samples_of(scene, scene.views, SAMPLES)
    sides = [Side(scene, name) for name in scene.views]
    for side in sides:
        own = f"{side.name}/"
        side.restore({key.removeprefix(own): value for key, value in memory.items() if key.startswith(own)})
        side.begin(frames, pictures[side.name])
    total = len(scene.analysed)
    stream = scene.pictures(scene.analysed.frame[first * len(scene.frames(0)) :].tolist())
    for part in range(first, scene.parts):
        rows: list[Row] = []
        for done, (frame, picture) in enumerate(
            itertools.islice(stream, len(scene.frames(part))), part * len(scene.frames(0)) + 1
        ):
            rows += [side.row(frame, picture) for side in sides]
            progress(done, total)
        scene.write(part_name(part), rows)
        scene.happened(f"shots-{part:05d}", [event for side in sides for event in side.shots.take()])
        scene.save("forward", part + 1, {f"{side.name}/{key}": value for side in sides for key, value in side.state().items()})
    return {"prompt": "motion", "prompts": {f"{name}/{scene.subjects[0]}": "motion" for name in scene.views}}


class Side:
    """One view, frame after frame: its present shot, the empty scene of it, and where the subject was last seen."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene, self.name, self.view = scene, name, scene.views[name]
        self.shots = Shots.of(scene, name)
        self.since = 0  # frame with which the shot began
        self.empty: Empty | None = None
        self.last: Place | None = None

    def begin(self, frames: list[int], pictures: list[Picture]) -> None:
        """Make the empty scene of the shot that began with ``since``, from samples of the video as far as they show that shot."""
        if self.since:
            frames, pictures = self._samples(SEGMENT)
        shown, other = self._shown(frames, pictures)
        if other is not None:  # once more, closer together, as far as the shot may last
            first, last = np.searchsorted(self.scene.analysed.frame, (self.since, other))
            shown, _ = self._shown(*self._samples(int(last - first)))
        self.empty = empty_scene(shown) if shown else None

    def _samples(self, reach: int) -> tuple[list[int], list[Picture]]:
        """Of so many analysed frames from the beginning of the shot."""
        among = self.scene.analysed.frame
        among = among[np.searchsorted(among, self.since) :][: max(1, reach)]
        frames, pictures = samples_of(self.scene, {self.name: self.view}, SAMPLES, among)
        return frames, pictures[self.name]

    def _shown(self, frames: list[int], pictures: list[Picture]) -> tuple[list[Picture], int | None]:
        """Those pictures that show the same place as the first one that shows anything, and the first frame that shows another place."""
        settings = self.scene.project.config.track
        looks = [look(p, View(x=0, y=0, w=p.shape[1], h=p.shape[0]), settings.drop) for p in pictures]
        there = [i for i, seen in enumerate(looks) if not seen.dropped]
        same = [i for i in there if settings.cuts == "none" or alike(looks[there[0]], looks[i])]
        other = next((frames[i] for i in there if i not in same), None)
        return [pictures[i] for i in same], other

    def row(self, frame: int, picture: Picture | None) -> Row:
        subject = self.scene.subjects[0]
        seen = None if picture is None else self.shots.look(picture)
        if picture is None or seen is None or seen.dropped:
            self.shots.drop(frame, seen)
            return self.scene.row(self.name, subject, frame, State.LOST)
        if self.shots.cuts(frame, seen):
            self.since, self.last = frame, None
            self.begin([], [])
        if self.empty is None:
            return self.scene.row(self.name, subject, frame, State.LOST)
        small = cut(picture, self.view, *small_size(self.view, self.scene.project.config.track.short_side))
        mask, score, place = find(small, self.empty, self.last)
        before, self.last = self.last, place
        if mask is None:
            away = before is None or before.at_border
            return self.scene.row(self.name, subject, frame, State.ABSENT if away else State.LOST)
        full = upsample(mask.astype(np.float32), self.view.h, self.view.w) >= 0.5
        return self.scene.row(self.name, subject, frame, State.TRACKED if score >= SURE else State.UNCERTAIN, full, score)

    def state(self) -> dict[str, Tensor]:
        import torch

        place = {} if self.last is None else {"place": _tensor(self.last)}
        return {"since": torch.tensor(self.since)} | place | {f"shot/{k}": v for k, v in self.shots.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state`` was taken; ``begin`` makes the empty scene again."""
        if "since" in state:
            self.since = int(state["since"])
        if "place" in state:
            self.last = _place(state["place"])
        self.shots.restore({k.removeprefix("shot/"): v for k, v in state.items() if k.startswith("shot/")})


def _tensor(place: Place) -> Tensor:
    import torch

    return torch.tensor([place.x, place.y, place.area, float(place.at_border)], dtype=torch.float64)


def _place(tensor: Tensor) -> Place:
    x, y, area, at_border = tensor.tolist()
    return Place(x, y, area, bool(at_border))


def moving_part(pictures: list[Picture]) -> tuple[int, NDArray[np.bool_]] | None:
    """For a start without a prompt: the frame (index) in which one part differs most clearly from the empty scene, and that part."""
    scene = empty_scene(pictures)
    best, answer = 0.0, None
    for i, picture in enumerate(pictures):
        mask, score, _ = find(picture, scene, None)
        if mask is not None and score * np.sqrt(mask.mean()) > best:
            best, answer = score * float(np.sqrt(mask.mean())), (i, mask)
    return answer
