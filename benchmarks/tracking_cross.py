"""Two animals that differ by a small mark cross many times: does each keep its name?

python benchmarks/tracking_cross.py [--seed N] [--crossings N] [--work FOLDER]

Two rendered sheep of one build and one coat stand on a pasture; one has a spray mark on its back that fills about 1 % of its outline. Every
four seconds they meet in the middle of the picture, one partly behind the other. In half of the meetings they pass each other, in the
other half both turn round and go back the way they came, in random order and with a random rest in the middle, so that motion alone
cannot tell who is who. They are tracked by the stage ``track`` (``propagate``, a short side of 224 px, four analysed frames a second) from
one box each in the first frame. Scored is IDF1 (Ristani et al. 2016) at an IoU of at least .5, and a track has to bear the name of its
prompt: of the track as it is, of what the tracker wrote before identities were looked at, and of names by motion alone, by appearance
alone, and by both, without the second look at the meetings. Another seed than the published one, or fewer crossings, writes its cell into
the work folder.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate import masks, timeline, track
from foveate.evaluate.identity import identities
from foveate.masks import Mask
from foveate.project import Project
from foveate.simulate.anatomy import Build, Capsules, draw_sheep, pose
from foveate.simulate.backdrop import draw_place
from foveate.simulate.behaviour import Motion, _ease, _wander
from foveate.simulate.ethogram import BEHAVIOURS
from foveate.simulate.pasture import TRUTH
from foveate.simulate.render import Camera
from foveate.simulate.scene import Actor, Lens, Scene, Studio
from foveate.store import read_parquet, write_parquet
from foveate.track import events
from foveate.track.identity import likeness, whois
from foveate.track.identity import settle as identity
from foveate.track.scene import Row
from foveate.track.scene import Scene as Tracked
from foveate.videowriter import VideoWriter

WIDTH, HEIGHT, FPS, STEP = 640, 360, 8, 0.25
EPISODE = 4.0  # seconds from one meeting to the next
APART = 1.45  # metres from the middle at which they turn round
LANES = 0.5  # metres between the two ways past each other
MARK = 0.01  # share of the animal's outline, seen from above
COLOURS = ((0.02, 0.06, 0.45), (0.5, 0.03, 0.02), (0.02, 0.25, 0.05))  # of the spray, linear light
NAMES = ("marked", "plain")
_OTHER = dict(zip(NAMES, NAMES[::-1], strict=True))
SETTINGS = {"method": "propagate", "short_side": 224}
REPORTED = 7
"""Seed of the published cell; everything was chosen on others."""

F64 = NDArray[np.float64]


def paths(crossings: int, rng: np.random.Generator) -> tuple[list[tuple[F64, F64, F64]], list[bool]]:
    """x, y (metres) and yaw of both animals in every frame, and which meetings are passes."""
    per = round(EPISODE * FPS)
    passes = rng.permutation(np.arange(crossings) % 2 == 0).tolist()
    side, lane = 1.0, rng.permutation([-0.5, 0.5])
    x, y, yaw = (np.zeros((2, crossings * per)) for _ in range(3))
    for k, through in enumerate(passes):
        rest = rng.uniform(0, 0.5)
        share = np.linspace(0, 1, per, endpoint=False)
        # From the side to the middle, a rest, and on: a smooth course 0..1 of the way there, and 1..2 of the way out.
        course = np.clip((share * EPISODE - 0.3) / 1.5, 0, 1) + np.clip((share * EPISODE - 1.8 - rest) / 1.5, 0, 1)
        new_lane = rng.permutation([-0.5, 0.5])
        for i in range(2):
            begin = side if i == 0 else -side
            where = begin * (1 - course) if through else begin * np.abs(1 - course)
            at = slice(k * per, (k + 1) * per)
            x[i, at] = APART * where
            # The way past each other is chosen on the way out to the side, where they are far apart.
            y[i, at] = LANES * (lane[i] + (new_lane[i] - lane[i]) * np.clip((share - 0.85) / 0.15, 0, 1))
            ahead = np.pi if begin > 0 else 0.0  # towards the middle
            turn_out = 0.0 if through else np.pi * np.clip((course - 0.93) / 0.14, 0, 1)
            turn_in = np.pi * np.clip((share - 0.85) / 0.15, 0, 1)
            yaw[i, at] = ahead + turn_out + (turn_in if through else -turn_in)
        side, lane = (-side if through else side), new_lane
    return [(x[i], y[i], np.unwrap(yaw[i])) for i in range(2)], passes


def motion_of(x: F64, y: F64, yaw: F64, rng: np.random.Generator) -> Motion:
    n = len(x)
    x, y, yaw = (_ease(v, 0.5, FPS) for v in (x, y, yaw))
    speed = np.hypot(np.gradient(x), np.gradient(y)) * FPS
    rate = np.gradient(yaw) * FPS
    zero, one = np.zeros(n), np.ones(n)
    return Motion(
        labels=np.zeros((n, len(BEHAVIOURS)), bool),
        x=x,
        y=y,
        yaw=yaw + np.radians(6) * _wander(n, FPS, 1.0, rng),
        speed=speed,
        yaw_rate=np.clip(rate, -1.2, 1.2),
        stand=one,
        walk=np.clip(speed / 0.5, 0, 1),
        stride=rng.uniform() + np.cumsum(speed + 0.15 * np.abs(rate)) / 0.62 / FPS,
        eat=zero,
        alert=zero,
        low=0.4 * np.clip(_wander(n, FPS, 0.7, rng), -0.2, 1),
        look=np.radians(24) * _wander(n, FPS, 0.6, rng),
        chew=zero,
    )


def sprayed(body: Capsules, build: Build, radius: float, colour: tuple[float, float, float]) -> Capsules:
    """The body with a flat spot of ``radius`` metres on its back."""
    girth = build.size * build.girth * 1.06 * (1 + build.wool)
    centre = body.a[:, 1] + np.array([0, 0, girth - 0.8 * radius], np.float32)
    tip = centre + 1e-4 * body.left

    def with_one(values: NDArray[np.float32], value: object) -> NDArray[np.float32]:
        return np.concatenate([values, np.asarray(value, np.float32).reshape(1, *values.shape[1:])])

    return replace(
        body,
        a=np.concatenate([body.a, centre[:, None]], 1).astype(np.float32),
        b=np.concatenate([body.b, tip[:, None]], 1).astype(np.float32),
        ra=with_one(body.ra, radius),
        rb=with_one(body.rb, radius),
        colour=with_one(body.colour, colour),
        wool=with_one(body.wool, 0.0),
        spots=with_one(body.spots, 0.0),
    )


def set_up(seed: int, crossings: int) -> tuple[Studio, list[bool], float]:
    """The studio, which meetings are passes, and the share of the outline that the mark fills (mean over frames far from a meeting)."""

    def stream(number: int) -> np.random.Generator:
        return np.random.default_rng((seed, number))

    ways, passes = paths(crossings, stream(0))
    build = replace(draw_sheep(stream(1), 0.35), horns=False, spots=0.0)
    bodies = [pose(build, motion_of(*way, stream(2 + i))) for i, way in enumerate(ways)]
    place = draw_place(stream(4), 0.35)
    camera = Camera.looking(-np.pi / 2, np.radians(38), 7.0, 5.0, WIDTH, HEIGHT)
    colour = COLOURS[seed % len(COLOURS)]

    def studio(radius: float) -> Studio:
        marked = (sprayed(bodies[0], build, radius, colour), bodies[1])
        scene = Scene(place, tuple(map(Actor, marked)), None, int(stream(5).integers(2**31)), subjects=2, exact=True)
        return Studio(scene, (camera,), Lens())

    def share(radius: float) -> float:
        """How many of the animal's pixels the mark changes."""
        frames = [round((k * EPISODE + 0.2) * FPS) for k in range(0, min(crossings, 12), 2)]
        with_it, without = studio(radius), studio(1e-3)
        shares = []
        for t in frames:
            ((picture, seen),), ((bare, _),) = with_it.take_all(t), without.take_all(t)
            changed = np.abs(picture.astype(int) - bare).max(-1) > 25
            shares.append((changed & seen[0]).sum() / seen[0].sum())
        return float(np.mean(shares))

    radius = 0.12
    for _ in range(2):
        radius *= np.sqrt(MARK / share(radius))
    return studio(radius), passes, share(radius)


def film(folder: Path, seed: int, crossings: int) -> dict[str, object]:
    """A project with the video, a box for each animal in the first frame, and the truth."""
    studio, passes, share = set_up(seed, crossings)
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    n, every = round(crossings * EPISODE * FPS), round(STEP * FPS)
    rows, boxes = [], []
    with VideoWriter(folder / "cross.mp4", WIDTH, HEIGHT, rate=Fraction(FPS), crf=20) as writer:
        for t in range(n):
            ((picture, seen),) = studio.take_all(t)
            writer.write(picture)
            if t == 0:
                boxes = [masks.box(mask) for mask in seen]
            if t % every == 0:
                rows += [
                    ("cross", "full", name, t, t / FPS, int(mask.sum()), masks.encode(mask))
                    for name, mask in zip(NAMES, seen, strict=True)
                ]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), TRUTH, strict=True)]
    write_parquet(folder / "truth.parquet", pa.Table.from_arrays(columns, schema=TRUTH))
    (folder / "videos.csv").write_text(f"video,path,subjects\ncross,cross.mp4,{';'.join(NAMES)}\n")
    table = ["video,view,subject,frame,kind,x,y,w,h,mask"]
    table += [
        f"cross,full,{name},0,box,{x - 2},{y - 2},{w + 4},{h + 4}," for name, (x, y, w, h) in zip(NAMES, boxes, strict=True)
    ]
    (folder / "prompts" / "prompts.csv").write_text("\n".join(table) + "\n")
    settings = {"analyse": {"step": STEP}, "track": SETTINGS}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(settings))
    return {
        "crossings": crossings,
        "passes": int(sum(passes)),
        "turned_back": crossings - int(sum(passes)),
        "mark_share": round(share, 4),
    }


def track_and_keep(work: Path) -> dict[str, Any]:
    """Run the stage ``track``; beside its result keep what the tracker wrote and what identities were decided from."""
    project = Project.load(work)
    video = project.videos[0]
    timeline.run(project, video)
    kept: dict[str, Any] = {}
    settle, decide = identity.settle, identity.name_fragments

    def settle_and_keep(scene: Tracked) -> None:
        kept["raw"] = [
            row for path in sorted(scene.target.folder.glob("raw-*.parquet")) for row in read_parquet(path).to_pylist()
        ]
        kept["scene"] = scene
        settle(scene)

    def decide_and_keep(*seen: Any) -> whois.Answer:
        kept["seen"] = seen
        return decide(*seen)

    identity.settle, identity.name_fragments = settle_and_keep, decide_and_keep  # type: ignore[assignment]
    try:
        begin = time.perf_counter()
        target = track.run(project, video)
        kept["seconds"] = round(time.perf_counter() - begin)
    finally:
        identity.settle, identity.name_fragments = settle, decide
    kept["final"] = [row for name in target.files(".parquet") for row in target.table(name).to_pylist()]
    kept["events"] = Counter(event.kind.value for event in events.read(target))
    return kept


def renamed(kept: Mapping[str, Any], answer: whois.Answer) -> list[Row]:
    """The tracker's rows under the names of an answer."""
    scene, (history, cuts, *_) = kept["scene"], kept["seen"]
    animal = identity._course(scene, "full", history, cuts, answer, []).animal
    place = {int(frame): i for i, frame in enumerate(history.frame)}
    names = scene.subjects
    return [row | {"subject": names[animal[names.index(row["subject"]), place[row["frame"]]]]} for row in kept["raw"]]


def score(work: Path, rows: Iterable[Row]) -> dict[str, float]:
    """IDF1, precision and recall; a subject has to keep the name of its prompt. ``on_the_other``: share of the masks found that lie on the
    other animal (IoU of at least .5)."""
    frames: dict[int, tuple[dict[str, Mask], dict[str, Mask]]] = {}
    for row in read_parquet(work / "truth.parquet").to_pylist():
        frames.setdefault(row["frame"], ({}, {}))[0][row["subject"]] = masks.decode(row["rle"], HEIGHT, WIDTH)
    for row in rows:
        if row["rle"] is not None:
            frames[row["frame"]][1][row["subject"]] = masks.decode(row["rle"], HEIGHT, WIDTH)
    found = identities(frames.values(), named_alike=True)
    crossed = identities(
        ((true, {_OTHER[name]: mask for name, mask in ours.items()}) for true, ours in frames.values()), named_alike=True
    )
    return {
        "IDF1": round(found.f1, 4),
        "IDP": round(found.precision, 4),
        "IDR": round(found.recall, 4),
        "on_the_other": round(crossed.precision, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=REPORTED)
    parser.add_argument("--crossings", type=int, default=50)
    parser.add_argument("--work", type=Path, help="keep the study here; default: a temporary folder")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="foveate-cross-"))
    about = film(work, options.seed, options.crossings)
    print(about, flush=True)
    kept = track_and_keep(work)
    history, cuts, pieces, prints = kept["seen"]
    decide = identity.name_fragments
    nothing = likeness.Prints.none(len(pieces))
    result = {
        "what": "IDF1 of two animals that differ by a small mark and keep crossing; tracker propagate, one box each",
        "tracker": f"propagate, {SETTINGS['short_side']} px, one frame every {STEP:g} s",
        "seed": options.seed,
        **about,
        "analysed_frames": len(history.frame),
        "meetings_found": len(cuts),
        "in_contact": round(sum(cut.last - cut.first + 1 for cut in cuts) / len(history.frame), 3),
        "foveate track": score(work, kept["final"]),
        "as the tracker left it": score(work, kept["raw"]),
        "names by motion alone": score(work, renamed(kept, decide(history, cuts, pieces, nothing))),
        "names by appearance alone": score(work, renamed(kept, decide(history, cuts, pieces, prints, motion=False))),
        "names by both, meetings as the tracker saw them": score(work, renamed(kept, decide(history, cuts, pieces, prints))),
        "events": dict(sorted(kept["events"].items())),
        "states": dict(sorted(Counter(row["state"] for row in kept["final"]).items())),
        "seconds_to_track": kept["seconds"],
    }
    print(result, flush=True)
    published = (options.seed, options.crossings) == (REPORTED, 50)
    write_cell((RESULTS if published else work) / "tracking_cross.json", result)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
