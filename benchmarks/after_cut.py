"""What becomes of a subject when the film cuts to a scene in which it is not, and back?

    FOVEATE_DATA=... python benchmarks/after_cut.py

Films are glued of the tuning half of DAVIS (854 x 480, every second frame, 12 a second): half of a subject's sequence, 20 frames of
another one, the rest of its own. The mask of the first frame is given. Told of each film: the share of the frames of the other scene in
which a box is given, in all and as ``tracked``; and of the rest of its own scene the share with a mask of IoU above .5.
The limits of `track/propagate/propagator.py` (`KNOWN`, `ELSEWHERE`) were chosen on this footage; the figures say that they do what
they are there for, not how well they hold elsewhere.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image

from foveate import masks, timeline, track
from foveate.project import Project
from foveate.track import events
from foveate.videowriter import VideoWriter

TUNED = ("blackswan", "dance-jump", "hike", "mallard-fly")
SIZE, RATE, OTHER, SHORT = (854, 480), 12, 20, 224


def film(data: Path, subject: str, other: str) -> tuple[list[Path], list[Path | None]]:
    """Pictures, and the annotation of each where the subject is in it."""

    def files(kind: str, name: str, ending: str) -> list[Path]:
        return sorted((data / "davis2016" / kind / "480p" / name).glob(f"*.{ending}"))[::2]

    own, truth = files("JPEGImages", subject, "jpg"), files("Annotations", subject, "png")
    half, between = len(own) // 2, files("JPEGImages", other, "jpg")[:OTHER]
    return own[:half] + between + own[half:], [*truth[:half], *[None] * len(between), *truth[half:]]


def true_mask(path: Path) -> NDArray[np.bool_]:
    drawn = np.asarray(Image.open(path).resize(SIZE, Image.Resampling.NEAREST))
    return np.asarray((drawn if drawn.ndim == 2 else drawn[..., 0]) > 0)


def follow(data: Path, subject: str, other: str, folder: Path) -> dict[str, Any]:
    pictures, truth = film(data, subject, other)
    (folder / "prompts").mkdir(parents=True)
    with VideoWriter(folder / "film.mp4", *SIZE, rate=RATE) as writer:
        for path in pictures:
            writer.write(np.asarray(Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)))
    assert truth[0] is not None
    Image.fromarray(true_mask(truth[0]).astype(np.uint8) * 255).save(folder / "prompts" / "first.png")
    (folder / "prompts" / "prompts.csv").write_text("video,frame,kind,mask\nfilm,0,mask,first.png\n")
    (folder / "videos.csv").write_text("video,path\nfilm,film.mp4\n")
    (folder / "foveate.yaml").write_text(yaml.safe_dump({"analyse": {"every": 1}, "track": {"short_side": SHORT}}))
    project = Project.load(folder)
    video = project.videos[0]
    timeline.run(project, video)
    done = track.run(project, video)
    rows = [row for name in done.files(".parquet") for row in done.table(name).to_pylist()]
    away = [row for row, mask in zip(rows, truth, strict=True) if mask is None]
    last = max(row["frame"] for row in away)
    good = []
    for row, path in zip(rows[last + 1 :], truth[last + 1 :], strict=True):
        assert path is not None
        own = np.zeros(SIZE[::-1], bool) if row["rle"] is None else masks.decode(row["rle"], *SIZE[::-1])
        there = true_mask(path)
        good.append(bool((own & there).sum() > 0.5 * (own | there).sum()))
    return {
        "boxes in the other scene": float(np.mean([row["rle"] is not None for row in away])),
        "tracked in the other scene": float(np.mean([row["state"] == "tracked" for row in away])),
        "found back in its own": float(np.mean(good)),
        "cuts": [event.frame for event in events.read(done) if event.kind == events.Kind.CUT],
        "events": [f"{event.kind.value} {event.frame}-{event.until_frame}" for event in events.read(done)],
    }


def main() -> None:
    data = footage()
    found: dict[str, Any] = {}
    for subject, other in itertools.permutations(TUNED, 2):
        with tempfile.TemporaryDirectory() as folder:
            found[f"{subject}, {other}"] = one = follow(data, subject, other, Path(folder) / "study")
            print(f"{subject}, {other}: {one}", flush=True)
    write_cell(RESULTS / "after_cut.json", {"short side": SHORT, "films": found})


if __name__ == "__main__":
    main()
