"""PreViTS in miniature: a random start, contrast alone, with constrained sampling, and with the attention loss, on the same pasture videos.

    python benchmarks/previts.py --work FOLDER                        # every missing cell, in order
    python benchmarks/previts.py --work FOLDER attention-0 ...        # these, if they are missing
    python benchmarks/previts.py --work FOLDER --tiny                 # a few steps on a few videos: does all run? Writes into FOLDER alone

A cell is a ResNet-18 (system, seed) and everything that is measured of it, one JSON file in `results/previts/`. It is trained from random
weights on whole views of the training videos of `signs_data.py`, each in a place of its own (cells `-four`: in four pens), by the recipes
`miniature_moco`, `miniature_moco_sampling` and `miniature_previts`; a training that was stopped goes on. `previts_table.py` makes the
tables, `previts_facts.py` measures what needs no training.

What is measured, nothing of it seen in training:

- *animals*: who is it, in places never seen with it? Two sets show the same animals. A class is an animal that one set shows in one half of
  the four pens and the other set in the other half; a linear classifier and k-NN know it from the first half of its video in the first set,
  and are asked about the second half of the other one. So no pen of the questions is among those of the answers.
- the same questions without the animal (its box in the mean colour) and without all else.
- *behaviours*: the probe of `signs.py` on other animals, so that the systems of the package can be compared.
- *evidence*: the share of Grad-CAM that lies on the animal: of what makes a frame more like another one of its video than like those of
  other videos, on other animals and on DAVIS (FOVEATE_DATA); and of the linear classifier's logit of the right animal.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import signs
import signs_data
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray
from signs_data import Extent, Footage
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from foveate import masks
from foveate.data.masked import read_mask
from foveate.data.sampler import Sampler
from foveate.evaluate.knn import votes
from foveate.losses_contrastive import grad_cam
from foveate.methods.previts import PrevitsConfig
from foveate.models.convnets import ConvNet, load_convnet
from foveate.models.pretrained import resize
from foveate.recipes import Name, Recipe, recipe_of
from foveate.recipes.build import backbone_of, method_of
from foveate.simulate.plan import MAINS, plan
from foveate.train import loop
from foveate.train.settings import Machine

SYSTEMS: dict[str, Name] = {
    "baseline": "miniature_moco",
    "sampling": "miniature_moco_sampling",
    "attention": "miniature_previts",
    "drawn": "miniature_previts",
}
"""And ``random``: no training. ``drawn``: mu and lambda drawn at random, a pair for each seed."""
NEIGHBOURS, TEMPERATURE = 10, 0.07
Show = Literal["everything", "no_animal", "only_animal"]
SHOWS: tuple[Show, ...] = ("everything", "no_animal", "only_animal")


@dataclass(frozen=True)
class Size:
    """How much is done; the defaults are the miniature protocol's."""

    extent: Extent = field(default_factory=Extent)
    annotated: int = 64  # training videos that the probe of behaviours learns from
    steps: int = 437
    batch: int = 32
    image: int = 112  # short side of the pictures that backbones are measured with
    workers: int = 1  # threads that read


TINY = Size(Extent(train=24, test=8), annotated=8, steps=4, batch=8)


@dataclass(frozen=True)
class Cell:
    system: str
    seed: int = 0
    share: float = 1.0  # of the training videos
    places: Literal["own", "tied"] = "own"  # a set of `signs_data.py` to train on

    @property
    def name(self) -> str:
        share = "" if self.share == 1 else f"-{round(100 * self.share)}"
        return f"{self.system}-{self.seed}{share}" + ("" if self.places == "own" else "-four")


CELLS = (
    *(Cell("random", seed) for seed in range(3)),
    *(Cell(system, 0) for system in ("baseline", "attention", "sampling")),
    *(Cell(system, 0, places="tied") for system in ("baseline", "attention")),
    *(Cell(system, seed) for seed in (1, 2) for system in ("baseline", "attention", "sampling")),
    *(Cell("drawn", seed) for seed in range(4)),
    *(Cell(system, 0, share) for share in (0.25, 0.5, 0.75) for system in ("attention", "baseline")),
)


# --- training --------------------------------------------------------------------------------------------------------------------


def recipe(cell: Cell, size: Size) -> Recipe:
    made = recipe_of(SYSTEMS[cell.system], steps=size.steps, batch=size.batch, seed=cell.seed)
    if cell.system != "drawn":
        return made
    assert isinstance(made.method, PrevitsConfig)
    cover, attention = drawn(cell.seed)
    base = replace(made.method.base, crops=replace(made.method.base.crops, cover=cover))
    return replace(made, method=replace(made.method, base=base, attention=attention))


def drawn(seed: int) -> tuple[float, float]:
    """mu from .1 to .6, lambda from .3 to 10 on a logarithmic scale. The publication does not say what it drew from."""
    u = np.random.default_rng((7, seed)).random(2)
    return round(0.1 + 0.5 * float(u[0]), 2), round(float(0.3 * (10 / 0.3) ** u[1]), 2)


def train(recipe: Recipe, footage: Footage, size: Size, folder: Path) -> tuple[ConvNet, dict[str, Any]]:
    """The network that the recipe makes of the footage, and what is to be told of the training."""
    training = recipe.training
    kept = folder / loop.CHECKPOINTS / f"step-{training.steps}"
    data = Sampler(
        footage.sources("frame"),
        training.batch,
        training.seed,
        shape=recipe.clips,
        workers=size.workers,
        with_masks=recipe.looks_at_subjects,
        rule=recipe.usable,
    )
    began, whole = time.process_time(), not (folder / loop.RESUME).exists()
    if not (kept / "config.json").exists():
        method = method_of(recipe.method, backbone_of(recipe, None))
        machine = Machine(save=max(1, training.steps // 40), workers=size.workers)
        seen = signs.watch(footage, signs.Size(annotated=size.annotated, image=size.image))
        loop.fit(method, data, training, folder, machine, watching=seen, say=signs.tell)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [signs.rounded({key: value for key, value in line.items() if key != "look"}) for line in lines if "loss" in line]
    about = {
        "recipe": recipe.relevant(),
        "pairs": training.steps * training.batch,
        "passes": round(training.steps * training.batch / data.count, 1),
        "cpu_minutes": round((time.process_time() - began) / 60, 1) if whole else None,
        "looks": [{"step": line["step"], **signs.rounded(line["look"])} for line in lines if "look" in line],
        "told": {key: [line[key] for line in told] for key in told[-1]},
    }
    return load_convnet(kept), about


# --- vectors ---------------------------------------------------------------------------------------------------------------------

Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


def as_shown(pictures: Tensor, mask: Tensor, size: tuple[int, int], show: Show) -> Tensor:
    """f32[B, 3, *size] normalised, of u8[B, 3, h, w] and f32[B, h, w]; what is hidden has the mean colour, so 0."""
    found = signs.normalised(resize(pictures, *size), torch.device("cpu"))
    if show == "everything":
        return found
    if show == "no_animal":
        boxes = torch.zeros_like(mask)
        for row, one in zip(boxes, mask.numpy() > 0, strict=True):
            if (box := masks.box(one)) is not None:
                x, y, w, h = box
                row[y : y + h, x : x + w] = 1
        return found * (functional.interpolate(boxes[:, None], size, mode="nearest") == 0)
    return found * functional.interpolate(mask[:, None], size, mode="nearest")


def sized(height: int, width: int, short: int) -> tuple[int, int]:
    """Pixels of a picture with a short side of ``short``."""
    scale = short / min(height, width)
    return round(height * scale), round(width * scale)


@torch.no_grad()
def vectors(net: ConvNet, pictures: NDArray[np.uint8], bits: NDArray[np.uint8], rows: Rows, image: int, show: Show) -> Tensor:
    """f32[N, D] means of the last map, of the rows (video, frame) of u8[V, T, h, w, 3]."""
    size = sized(*pictures.shape[2:4], image)
    return torch.cat([net(as_shown(*part, size, show)).cls for part in signs.batches(pictures, bits, rows)])


# --- animals ---------------------------------------------------------------------------------------------------------------------


def halves(extent: Extent) -> list[NDArray[np.int64]]:
    """Two lists of training videos: those filmed in the first two pens in `tied` and in the last two in `free`, and the other way round."""
    pens = {places: [one.pen for one in plan(extent.settings(places)) if one.split == "train"] for places in signs_data.PLACES}
    first = {places: np.array(found) < len(MAINS) // 2 for places, found in pens.items()}
    return [np.flatnonzero(first["tied"] & ~first["free"]), np.flatnonzero(~first["tied"] & first["free"])]


def classes_of(fitted: LogisticRegression, videos: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the classifier's coefficients."""
    return np.searchsorted(fitted.classes_, videos)


def animals(net: ConvNet, tied: Footage, free: Footage, extent: Extent, image: int) -> dict[str, Any]:
    """How often each animal is recognised, 0..1, by what is shown of the question."""
    frames = tied.views.shape[1]
    right: dict[str, list[NDArray[np.float64]]] = {}
    every, seen = halves(extent), []
    for videos in every:
        times = np.arange(frames)
        known, asked = (
            (videos.repeat(len(part)), np.tile(part, len(videos))) for part in (times[: frames // 2], times[-(frames // 2) :])
        )
        train = vectors(net, tied.views, tied.in_view, known, image, "everything")
        mean, scale = train.mean(0), train.std(0).clamp(min=1e-6)
        fitted = LogisticRegression(C=0.1, max_iter=500).fit(((train - mean) / scale).numpy(), known[0])
        classes = torch.from_numpy(np.searchsorted(videos, known[0]))
        for show in SHOWS:
            test = vectors(net, free.views, free.in_view, asked, image, show)
            said = fitted.predict(((test - mean) / scale).numpy())
            near = votes(train, classes, test, NEIGHBOURS, len(videos)).argmax(1).numpy()
            for name, found in (("linear", said == asked[0]), ("knn", videos[near] == asked[0])):
                right.setdefault(f"{name} {show}", []).append(found.reshape(len(videos), -1).mean(1))
        some = videos.repeat(2), np.tile(times[[-5, -1]], len(videos))
        weight = torch.from_numpy(fitted.coef_).float()[classes_of(fitted, some[0])] / scale
        maps, mask = shown_maps(net, free, some, image)
        seen.append(mass(maps, lambda found, weight=weight: (found * weight).sum(1), mask))
    each = {name: np.concatenate(parts) for name, parts in right.items()}
    on, area = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return {
        "evidence": told(on, area, np.arange(len(on)) // 2),
        "classes": [len(videos) for videos in every],
        "chance": round(float(np.average([1 / len(videos) for videos in every], weights=[len(videos) for videos in every])), 4),
        "clips": {"known": frames // 2, "asked": frames // 2},
        **{name: round(float(values.mean()), 4) for name, values in each.items()},
        "animals": {name: " ".join(f"{value:.3g}" for value in values) for name, values in each.items()},
    }


# --- behaviours ------------------------------------------------------------------------------------------------------------------


def behaviours(net: ConvNet, train: Footage, test: Footage, image: int) -> dict[str, Any]:
    """Probes as `signs.py` has them, of the mean over the last map; crops are squares, views keep their proportions."""
    found = {}
    for what, sets in (("crop", (train, test)), ("frame", (train.every(3), test.every(3)))):
        known, asked = (
            vectors(
                net,
                *((one.crops, one.within) if what == "crop" else (one.views, one.in_view)),
                np.nonzero(one.seen),
                image,
                "everything",
            ).numpy()
            for one in sets
        )
        found[f"{what} pooled last 1"] = signs.probe(known, asked, *sets, 1)
    return found


# --- evidence --------------------------------------------------------------------------------------------------------------------


def contrast(keys: Tensor) -> Callable[[Tensor], Tensor]:
    """How much likelier each vector f32[B, D] finds its own key than those of the others: InfoNCE at the recipes' temperature, without a
    head, so that random weights have it, too."""
    known = functional.normalize(keys, dim=1)
    return lambda found: (functional.normalize(found, dim=1) @ known.T / TEMPERATURE).log_softmax(1).diagonal()


def mass(maps: Tensor, score: Callable[[Tensor], Tensor], mask: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f64[B] shares of Grad-CAM on the subject, and of the picture that is subject; a map without evidence counts as an even one.

    Args:
        maps: f32[B, D, h, w], the last of the network.
        score: of the means of maps f32[B, D], each of its own: f32[B].
        mask: f32[B, H, W].
    """
    with torch.enable_grad():
        found = maps.detach().clone().requires_grad_()
        cam = grad_cam(found, score(found.mean((2, 3))), second=False).detach()
    cam = torch.where((cam.flatten(1).sum(1) > 0)[:, None, None], cam, 1.0)
    wide = functional.interpolate(cam[:, None], mask.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    on = (wide * mask).flatten(1).sum(1) / wide.flatten(1).sum(1)
    return on.double().numpy(), mask.flatten(1).mean(1).double().numpy()


def told(on: NDArray[np.float64], area: NDArray[np.float64], groups: NDArray[np.int64]) -> dict[str, Any]:
    """Means of groups (videos)."""
    each = [(float(on[groups == one].mean()), float(area[groups == one].mean())) for one in np.unique(groups)]
    return {
        "mass": round(float(np.mean([a for a, _ in each])), 4),
        "chance": round(float(np.mean([b for _, b in each])), 4),
        "videos": " ".join(f"{a:.3g}" for a, _ in each),
        "areas": " ".join(f"{b:.3g}" for _, b in each),
    }


@torch.no_grad()
def shown_maps(net: ConvNet, footage: Footage, rows: Rows, image: int) -> tuple[Tensor, Tensor]:
    """f32[N, D, h, w] last maps and f32[N, H, W] masks of views."""
    size, parts = sized(*footage.views.shape[2:4], image), list(signs.batches(footage.views, footage.in_view, rows))
    return torch.cat([net(as_shown(*part, size, "everything")).map for part in parts]), torch.cat([mask for _, mask in parts])


def evidence(net: ConvNet, test: Footage, image: int) -> dict[str, Any]:
    """Of two frames of each test video, 6.8 s apart, either way round, among those of the other videos."""
    video = np.arange(len(test.views))
    first, second = (shown_maps(net, test, (video, np.full_like(video, frame)), image) for frame in (3, 20))
    found = [mass(a[0], contrast(b[0].mean((2, 3))), a[1]) for a, b in ((first, second), (second, first))]
    on, area = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return told(on, area, np.tile(video, 2))


@torch.no_grad()
def davis(net: ConvNet, data: Path, image: int, every: int = 8) -> dict[str, Any]:
    """Of every eighth frame of DAVIS-2016's sequences and the one eight later, among those of the other sequences."""
    from PIL import Image

    folder = next(path.parent for path in sorted((data / "JPEGImages").glob("*/*")) if path.is_dir())
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    maps: list[Tensor] = []
    shapes: list[Tensor] = []
    for name in names:
        pictures, drawn = [], []
        for path in sorted((folder / name).glob("*.jpg"))[::every]:
            picture = np.array(Image.open(path).convert("RGB"))
            pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
            drawn.append(
                torch.from_numpy(read_mask(data / "Annotations" / folder.name / name / f"{path.stem}.png", picture.shape[:2]))
            )
        stack, mask = torch.stack(pictures), torch.stack(drawn).float()
        maps.append(net(as_shown(stack, mask, sized(*stack.shape[-2:], image), "everything")).map)
        shapes.append(mask)
    found, groups = [], []
    for frame in range(max(map(len, maps)) - 1):
        there = [k for k, one in enumerate(maps) if frame + 1 < len(one)]
        keys = torch.stack([maps[k][frame + 1].mean((1, 2)) for k in there])
        queries, mask = (torch.stack([each[k][frame] for k in there]) for each in (maps, shapes))
        found.append(mass(queries, contrast(keys), mask))
        groups += there
    on, area = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {"sequences": names, **told(on, area, np.array(groups))}


# --- cells -----------------------------------------------------------------------------------------------------------------------


def measured(net: ConvNet, work: Path, size: Size) -> dict[str, Any]:
    """Everything that is measured of a network."""
    net = net.train(False)
    tied, free, test = (signs_data.load(work / "footage", name) for name in ("tied", "free", "test"))
    known = animals(net, tied, free, size.extent, size.image)
    result: dict[str, Any] = {
        "evidence": {"classifier": known.pop("evidence"), "test": evidence(net, test, size.image)},
        "animals": known,
        "probes": behaviours(net, tied.first(size.annotated), test, size.image),
    }
    data = Path(os.environ.get("FOVEATE_DATA", "")) / "davis2016"
    if data.is_dir():
        result["evidence"]["davis"] = davis(net, data, size.image)
    return result


def run(cell: Cell, size: Size, work: Path, results: Path) -> None:
    """Train, measure, write."""
    about: dict[str, Any] = {}
    if cell.system == "random":
        net = backbone_of(recipe(Cell("baseline", cell.seed), size), None)
        assert isinstance(net, ConvNet)
    else:
        footage = signs_data.load(work / "footage", cell.places)
        footage = footage.first(round(cell.share * len(footage.views)))
        net, about = train(recipe(cell, size), footage, size, work / "runs" / f"previts-{cell.name}")
    result = {
        "what": "miniature: ResNet-18 by contrast on whole views of pasture videos; animals in other places, behaviours, evidence",
        "cell": asdict(cell),
        "size": asdict(size),
        "training": about,
        **measured(net, work, size),
    }
    write_cell(results / f"{cell.name}.json", result)
    known = {name: value for name, value in result["animals"].items() if " " in name}
    print(f"{cell.name:12} animals (chance {result['animals']['chance']:.3f})", known, flush=True)
    print(f"{cell.name:12} six", {name: one["macro_six"] for name, one in result["probes"].items()}, flush=True)
    seen = {name: (one["mass"], one["chance"]) for name, one in result["evidence"].items()}
    print(f"{cell.name:12} evidence (share of the area)", seen, flush=True)


def wanted(names: Sequence[str]) -> list[Cell]:
    unknown = set(names) - {cell.name for cell in CELLS}
    if unknown:
        raise SystemExit(f"no such cell: {', '.join(sorted(unknown))}; there are {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if not names or cell.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="default: all")
    parser.add_argument("--work", type=Path, required=True, help="footage and runs are kept here")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = TINY if options.tiny else Size()
    work = options.work / "tiny-previts" if options.tiny else options.work
    results = work / "results" if options.tiny else RESULTS / "previts"
    signs_data.make(work / "footage", size.extent)
    for cell in wanted(options.cells):
        if not (results / f"{cell.name}.json").exists():
            run(cell, size, work, results)


if __name__ == "__main__":
    main()
