"""Long footage with exact truth, composed of real one: a DAVIS subject, cut out with its masks, lives before another sequence.

The subject's sequence is played to and fro, so that it moves and changes pose as it did; a path of its own takes it through the picture.
Behind it another sequence of the same half is played, its own subject painted out; in most episodes the camera rests, in `camera` it moves
as it did. Ten minutes consist of, in an order that the seed draws:

    open        nothing happens but the subject wandering about (first and last)                              50 + 20 s
    border      it leaves over the border twice and is back within seconds                                    20 s
    absence     it leaves over the border for 30 s and comes back: four times, one with a moving camera;      4 x 40 s
                it returns over the same border, or over the other one, at another height and size
    camera      the camera moves                                                                              60 + 50 s
    occlusion   it passes behind a board, as wide as itself, eight times                                      50 s
    look-alike  a copy of the subject, mirrored, from another time, in a coat of another tone (each colour    70 s
                channel times .8 to 1.2), joins it, stays beside it and crosses it four times, twice in front
    passer      the subject of a third sequence crosses it                                                    30 s
    night       dark, nearly grey, noisy                                                                      60 s

Everything is a function of (half, subject, seed, minutes). Truth is what can be seen of the subject in a frame: parts beyond the border or
behind something do not count. A subject is *present* where at least a quarter of it can be seen, *gone* where nothing can; frames in
between are not counted. The prompt is its true mask in frame 0 (``--prompt click``: one point, the innermost one).

    FOVEATE_DATA=... python benchmarks/composite.py --subject hike --seed 1 [--minutes 10] [--short-side 224] [--keep FOLDER]

makes the project, runs ``foveate track`` on it and scores the rows (``composite_score.py``). With default minutes, rate and settings
one cell per subject, seed and prompt is written; other runs are printed only. In a folder that is kept nothing is done twice.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from cells import RESULTS, footage, write_cell
from composite_score import score, show
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from foveate import masks
from foveate.store import write_parquet
from foveate.videowriter import VideoWriter

HALVES = {
    "tuned": ("blackswan", "dance-jump", "hike", "mallard-fly"),
    "reported": ("dog-agility", "horsejump-low", "lucia", "rollerblade"),
}
WIDTH, HEIGHT, RATE, STEP = 640, 360, 10, 0.5
AWAY = 30.0
"""Seconds of an absence."""
CYCLE = (
    ("border", 20),
    ("absence", 40),
    ("absence", 40),
    ("absence", 40),
    ("absence camera", 40),
    ("camera", 60),
    ("camera", 50),
    ("occlusion", 50),
    ("look-alike", 70),
    ("passer", 30),
    ("night", 60),
    ("open", 30),
)
"""Episodes of ten minutes and their seconds; what is left is the opening and the end."""
LEAST, LARGEST, TYPICAL = 20, 0.6, 0.22
"""Frames that a sequence needs whose subject is whole; share of a side of the picture that it may fill; root of its area in heights."""

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
TRUTH = pa.schema(
    {
        "frame": pa.int64(),
        "time": pa.float64(),
        "kind": pa.string(),
        "shown": pa.float64(),
        "rle": pa.binary(),
        "other": pa.binary(),
    }
)
"""One row per analysed frame: share of the subject that can be seen, its mask, and the mask of whoever else is in the picture."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A subject cut out of its sequence."""

    looks: list[Picture]  # uint8[h, w, 3] of each frame, the mask's box and a margin
    alphas: list[Picture]  # uint8[h, w], 255 inside the mask
    scale: float  # that gives it its typical size
    width: float  # median width in pixels at that scale


@dataclass(frozen=True)
class Episode:
    kind: str
    start: float  # seconds
    stop: float


def sequence(folder: Path, name: str) -> tuple[list[Picture], list[Mask]]:
    """All pictures and true masks of a DAVIS sequence at the composite's size."""
    pictures, truths = [], []
    for path in sorted((folder / "JPEGImages" / "480p" / name).glob("*.jpg")):
        truth = Image.open(folder / "Annotations" / "480p" / name / f"{path.stem}.png").convert("L")
        pictures.append(np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)))
        truths.append(np.asarray(truth.resize((WIDTH, HEIGHT), Image.Resampling.BOX)) > 127)
    return pictures, truths


def actor(pictures: Sequence[Picture], truths: Sequence[Mask]) -> Actor:
    """The subject of a sequence; frames in which it is cut off by the border are left out if enough others remain."""
    seen = [i for i, truth in enumerate(truths) if truth.any()]
    whole = [i for i in seen if not (truths[i][[0, -1]].any() or truths[i][:, [0, -1]].any())]
    looks, alphas, sizes = [], [], []
    for i in longest_run(whole) if len(longest_run(whole)) >= LEAST else seen:
        x, y, w, h = masks.box(truths[i]) or (0, 0, 0, 0)
        at = slice(max(0, y - 2), y + h + 2), slice(max(0, x - 2), x + w + 2)
        looks.append(pictures[i][at])
        alphas.append(truths[i][at].astype(np.uint8) * np.uint8(255))
        sizes.append((w, h, np.sqrt(truths[i].sum())))
    w, h, root = np.array(sizes).T
    scale = min(TYPICAL * HEIGHT / float(np.median(root)), LARGEST * WIDTH / float(w.max()), LARGEST * HEIGHT / float(h.max()))
    return Actor(looks, alphas, scale, scale * float(np.median(w)))


def longest_run(numbers: Sequence[int]) -> list[int]:
    """The longest stretch of consecutive numbers."""
    runs: list[list[int]] = [[]]
    for number in numbers:
        if runs[-1] and number != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(number)
    return max(runs, key=len)


def paint_out(picture: Picture, truth: Mask) -> Picture:
    """The picture without its subject: what stands left and right of it is mirrored into its place."""
    if not truth.any():
        return picture
    hole = binary_dilation(truth, iterations=7)
    x, _, w, _ = masks.box(hole) or (0, 0, 0, 0)
    columns = np.arange(WIDTH)
    room_left, room_right = x, WIDTH - x - w
    middle = x + np.clip(w // 2, w - room_right, room_left) if room_left + room_right >= w else x + w // 2
    source = np.where(columns < middle, 2 * x - 1 - columns, 2 * (x + w) - 1 - columns)
    source = np.where((columns >= x) & (columns < x + w), source, columns)
    source = np.abs(source) % (2 * WIDTH)
    filled = picture[:, np.minimum(source, 2 * WIDTH - 1 - source)].astype(np.float32)
    weight = np.maximum(gaussian_filter(hole.astype(np.float32), 4), truth)[..., None]
    return (picture * (1 - weight) + filled * weight).round().astype(np.uint8)


def to_and_fro(place: float, count: int) -> int:
    """Frame of a sequence that is played forwards and backwards in turn."""
    at = int(place) % max(1, 2 * count - 2)
    return at if at < count else 2 * count - 2 - at


def schedule(rng: np.random.Generator, minutes: float) -> list[Episode]:
    """Episodes that fill the time, ten minutes at a time in an order of their own; the last may reach beyond it."""
    episodes, now = [], 0.0
    while now < 60 * minutes:
        order = [CYCLE[i] for i in rng.permutation(len(CYCLE))]
        spare = 600 - sum(seconds for _, seconds in CYCLE)
        for kind, seconds in (("open", 5 * spare // 7), *order, ("open", spare - 5 * spare // 7)):
            episodes.append(Episode(kind, now, now + seconds))
            now += seconds
    return [episode for episode in episodes if episode.start < 60 * minutes]


class Walk:
    """Waypoints (time, x, y, size), joined by soft steps: the subject walks, rests, walks. x and y are shares of the picture's sides."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.points = rng, [(0.0, 0.5, 0.55, 1.0)]

    def to(self, time: float, x: float, y: float | None = None, size: float | None = None) -> None:
        _, _, old_y, old_size = self.points[-1]
        self.points.append((time, x, old_y if y is None else y, old_size if size is None else size))

    def wander(self, start: float, stop: float, low: float = 0.25, high: float = 0.75) -> None:
        now = start + self.rng.uniform(4, 8)
        while now < stop:
            self.to(now, self.rng.uniform(low, high), self.rng.uniform(0.4, 0.65), self.rng.uniform(0.8, 1.2))
            now += self.rng.uniform(4, 8)
        self.to(stop, self.rng.uniform(low, high), self.rng.uniform(0.4, 0.65), self.rng.uniform(0.8, 1.2))

    def leave(self, start: float, away: float, side: int, back: int) -> None:
        """Out over one border (0: left, 1: right) within 3 s, in over ``back`` after ``away`` seconds outside, within 3 s."""
        x, y, size = self.points[-1][1:]
        self.to(start, x, y, size)
        self.to(start + 3, (-0.4, 1.4)[side])
        if back != side:
            y, size = self.rng.uniform(0.4, 0.65), self.rng.uniform(0.8, 1.2)
        self.to(start + 3 + away - 1e-3, (-0.4, 1.4)[side])
        self.to(start + 3 + away, (-0.4, 1.4)[back], y, size)
        self.to(start + 6 + away, self.rng.uniform(0.3, 0.7))

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[N, 3]: x, y, size."""
        points = np.array(self.points)
        i = np.clip(np.searchsorted(points[:, 0], times, side="right") - 1, 0, len(points) - 2)
        share = np.clip((times - points[i, 0]) / np.maximum(points[i + 1, 0] - points[i, 0], 1e-9), 0, 1)
        share = (1 - np.cos(np.pi * share)) / 2
        return points[i, 1:] * (1 - share[:, None]) + points[i + 1, 1:] * share[:, None]


def subject_path(rng: np.random.Generator, episodes: Sequence[Episode]) -> Walk:
    path, returns = Walk(rng), 0
    for e in episodes:
        if e.kind.startswith("absence"):
            side = int(rng.integers(2))
            path.leave(e.start + 0.5, AWAY, side, side if returns % 2 else 1 - side)
            path.wander(e.start + 7 + AWAY, e.stop)
            returns += 1
        elif e.kind == "border":
            for half in (0, 1):
                side = int(rng.integers(2))
                path.leave(e.start + 1 + 9 * half, 2.0, side, side)
            path.to(e.stop, rng.uniform(0.3, 0.7))
        elif e.kind == "occlusion":
            for k in range(8):
                path.to(e.start + 5 * k + 5, (0.2, 0.8)[k % 2], rng.uniform(0.45, 0.6))
            path.to(e.stop, rng.uniform(0.3, 0.7))
        elif e.kind in ("look-alike", "passer"):
            path.wander(e.start, e.stop, 0.42, 0.58)
        else:
            path.wander(e.start, e.stop)
    return path


def beside(share: float) -> tuple[float, bool]:
    """Where the look-alike is, in widths of the subject to the right of it, and whether it is in front, at a share of its episode: from
    outside to its side, four times past it, and away."""
    stops = ((0, 5), (0.08, 1.1), (0.2, 1.1), (0.28, -1.1), (0.4, -1.1), (0.48, 1.1), (0.6, 1.1), (0.66, -1.1), (0.72, -1.1))
    times, places = zip(*stops, (0.78, 1.1), (0.9, 1.1), (1.0, 5), strict=True)
    crossing = sum(share > t for t in (0.3, 0.5, 0.69))
    return float(np.interp(share, times, places)), crossing % 2 == 1


def mix(canvas: NDArray[np.float32], look: Picture, alpha: Picture, x: float, y: float, scale: float) -> tuple[Mask, float]:
    """Paste onto f32[H, W, 3] with the middle at (x, y) pixels; returns its mask and the number of pixels it would have if whole."""
    h, w = (max(1, round(side * scale)) for side in alpha.shape)
    whole = np.zeros((HEIGHT, WIDTH), np.bool_)
    shape = np.asarray(Image.fromarray(alpha).resize((w, h), Image.Resampling.BILINEAR), np.float32) / 255
    left, top = round(x - w / 2), round(y - h / 2)
    rows, columns = slice(max(0, top), max(0, min(HEIGHT, top + h))), slice(max(0, left), max(0, min(WIDTH, left + w)))
    if rows.start < rows.stop and columns.start < columns.stop:
        part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        colours = np.asarray(Image.fromarray(look).resize((w, h), Image.Resampling.BILINEAR), np.float32)[part]
        weight = shape[part][..., None]
        canvas[rows, columns] = canvas[rows, columns] * (1 - weight) + colours * weight
        whole[rows, columns] = shape[part] >= 0.5
    return whole, float((shape >= 0.5).sum())


def scenes(
    data: Path, half: str, subject: str, seed: int, minutes: float, rate: int
) -> Iterator[tuple[Picture, dict[str, Any]]]:
    """Pictures uint8[H, W, 3] and truth of every frame (masks as bool[H, W])."""
    rng = np.random.default_rng((seed, HALVES[half].index(subject)))
    others = [str(name) for name in rng.permutation([name for name in HALVES[half] if name != subject])]
    pictures, truths = sequence(data, others[0])
    backdrop = [paint_out(picture, truth) for picture, truth in zip(pictures, truths, strict=True)]
    own, third = actor(*sequence(data, subject)), actor(*sequence(data, others[1]))
    board = sequence(data, others[2])[0][0] // 2 + 40  # in another light
    episodes = schedule(rng, minutes)
    times = np.arange(round(60 * minutes * rate)) / rate
    places = subject_path(rng, episodes).at(times)
    noise = rng.standard_normal((HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
    tone, late = rng.choice([0.8, 1.0, 1.2], 3, replace=False), int(rng.integers(5, 2 * len(own.looks) - 5))
    moved, number = 0.0, 0
    for k, (now, (x, y, size)) in enumerate(zip(times, places, strict=True)):
        while episodes[number].stop <= now:
            number += 1
        e = episodes[number]
        share, passed = (now - e.start) / (e.stop - e.start), now - e.start
        moved += 5 / rate if "camera" in e.kind else 0.0
        canvas = backdrop[to_and_fro(moved, len(backdrop))].astype(np.float32)
        pose = to_and_fro(10 * now, len(own.looks))
        me = (own.looks[pose], own.alphas[pose], x * WIDTH, y * HEIGHT, own.scale * size)
        stranger, front = None, False
        if e.kind == "look-alike":
            pose = to_and_fro(10 * now + late, len(own.looks))
            coat = (own.looks[pose] * tone).clip(0, 255).astype(np.uint8)
            off, front = beside(share)
            stranger = (
                coat[:, ::-1],
                own.alphas[pose][:, ::-1],
                x * WIDTH + off * own.width * size,
                y * HEIGHT,
                own.scale * size,
            )
        elif e.kind == "passer":
            pose = to_and_fro(10 * now, len(third.looks))
            front = share > 0.5
            off = 1.4 - 3.6 * share if share < 0.5 else -0.4 + 3.6 * (share - 0.5)
            stranger = (third.looks[pose], third.alphas[pose], off * WIDTH, 0.55 * HEIGHT, third.scale)
        other = np.zeros((HEIGHT, WIDTH), np.bool_)
        if stranger and not front:
            other, _ = mix(canvas, *stranger)
        mask, full = mix(canvas, *me)
        if stranger and front:
            other, _ = mix(canvas, *stranger)
            mask &= ~other
        other &= ~mask
        if e.kind == "occlusion":
            w = round(own.width * 1.1)
            rows = round(HEIGHT * np.clip(min(passed, e.stop - now) / 1.5, 0, 1))  # let down and drawn up again
            at = slice(0, rows), slice(WIDTH // 2 - w // 2, WIDTH // 2 + w - w // 2)
            canvas[at] = board[HEIGHT - rows :, :w]
            mask[at] = False
        grain = 2.0
        if e.kind == "night":
            dark = float(np.clip(min(passed, e.stop - now) / 4, 0, 1))
            grey = canvas.mean(-1, keepdims=True)
            canvas = canvas * (1 - dark) + (0.85 * grey + 0.15 * canvas) * 0.4 * dark
            grain += 6 * dark
        dy, dx = (k * 37) % 64, (k * 23) % 64
        canvas += grain * noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        kind = e.kind.split()[0]
        yield (
            canvas.clip(0, 255).astype(np.uint8),
            {"time": now, "kind": kind, "mask": mask, "shown": mask.sum() / full, "other": other},
        )


def make(folder: Path, data: Path, args: argparse.Namespace) -> None:
    """A foveate project with the composite, and its truth in ``truth/``."""
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    rows = []
    with VideoWriter(folder / "composite.mp4", WIDTH, HEIGHT, rate=args.rate, crf=24) as writer:
        every = scenes(data, args.half, args.subject, args.seed, args.minutes, args.rate)
        for frame, (picture, truth) in enumerate(every):
            writer.write(picture)
            mask, other = truth.pop("mask"), truth.pop("other")
            if frame == 0:
                Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / "prompts" / "first.png")
                inner = distance_transform_edt(mask)
                row, column = np.unravel_index(int(np.argmax(inner)), inner.shape)
            if (frame * 2) % args.rate == 0:
                rows.append({"frame": frame, **truth, "rle": masks.encode(mask), "other": masks.encode(other)})
    write_parquet(folder / "truth" / "composite.parquet", pa.Table.from_pylist(rows, schema=TRUTH))
    place = "mask,,,,,first.png" if args.prompt == "mask" else f"point,{column},{row},,,"
    (folder / "prompts" / "prompts.csv").write_text(f"video,view,subject,frame,kind,x,y,w,h,mask\ncomposite,,,0,{place}\n")
    (folder / "videos.csv").write_text(f"video,path,subjects\ncomposite,composite.mp4,{args.subject}\n")
    track = {"short_side": args.short_side} if args.short_side else {}
    config = {"foveate": 1, "name": "composite", "footage": ".", "analyse": {"step": STEP}, "track": track}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", required=True, choices=(*HALVES["tuned"], *HALVES["reported"]))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=RATE, help="frames per second of the video, an even number")
    parser.add_argument("--short-side", type=int, help="of `track`; default: its own")
    parser.add_argument("--prompt", choices=("mask", "click"), default="mask")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the project there; default: a temporary folder")
    parser.add_argument("--make-only", action="store_true", help="make the project, do not track it")
    args = parser.parse_args()
    if args.rate % 2:
        parser.error("--rate takes an even number, so that two frames a second can be analysed")
    args.half = next(half for half, names in HALVES.items() if args.subject in names)
    return args


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="foveate-composite-") as scratch:
        folder: Path = args.keep or Path(scratch)
        if not (folder / "foveate.yaml").exists():  # written last
            make(folder, footage() / "davis2016", args)
        if args.make_only:
            return
        subprocess.run([sys.executable, "-m", "foveate", "track", "-p", str(folder), "--workers", "1"], check=True)
        result = score(folder)
    show(result)
    plain = args.minutes == 10 and args.rate == RATE and args.short_side is None
    if plain:
        about = {"what": "composite, followed by `foveate track` from one prompt", "tracker": "propagate", "half": args.half}
        about |= {"subject": args.subject, "seed": args.seed, "prompt": args.prompt}
        write_cell(RESULTS / "composite" / f"{args.subject}-{args.seed}-{args.prompt}.json", {**about, **result})


if __name__ == "__main__":
    main()
