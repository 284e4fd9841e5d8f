"""What can be said of PreViTS without training: what pairs of crops show, and what a step costs.

    python benchmarks/previts_facts.py [pairs] [cost]     # default: both

*pairs*: the publication counts, with true masks, how often the two crops of a pair show different subjects: 27 % with ordinary sampling,
7 % with its own (VGG-Sound). Here three animals are on every picture, drawn with their true masks; a crop shows the animal that has most
of it, or nobody, with fewer than ten pixels of each. Pictures go through sampler and crops as in training, but every animal in a colour of
its own in place of its looks, so that the cropped picture tells whom it shows.

*cost*: a step of MoCo against the bare passes of its networks, and a step with the attention loss against one without, in time and in
memory; ResNet-18 at 112 px, 32 pairs, one thread. In turns, in CPU seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate import masks
from foveate.bench import Ratio, seconds
from foveate.data.clips import Clips, Shape
from foveate.data.pairs import Crops, cropped
from foveate.data.sampler import Sampler
from foveate.data.sources import Source
from foveate.data.usable import Usable
from foveate.methods.moco import Moco
from foveate.methods.moment import Moment
from foveate.methods.previts import Previts
from foveate.recipes import Name, Recipe, recipe_of
from foveate.recipes.build import backbone_of, method_of
from foveate.simulate.herd import set_up_herd
from foveate.simulate.plan import PastureSettings, plan, scripts

ANIMALS, VIDEOS, PAIRS = 3, 24, 4_096
SETTINGS = PastureSettings(seed=77, annotated=VIDEOS, unannotated=0, test=0, seconds=10.0, behaviours="all", animals=ANIMALS)
WIDTH, HEIGHT, EVERY = 224, 126, 2
LEAST = 10  # pixels of a crop of 112 x 112 that show somebody, as the publication's code asks of masks
BATCH, TURNS = 32, 6

# --- pairs -----------------------------------------------------------------------------------------------------------------------


def herd() -> list[NDArray[np.bool_]]:
    """bool[T, ANIMALS, HEIGHT, WIDTH] of every video: who is seen where, one frame in 0.4 s."""
    found, frames = [], round(SETTINGS.seconds * SETTINGS.fps)
    for video in plan(SETTINGS):
        studio, _ = set_up_herd(
            (SETTINGS.seed, video.index), scripts(SETTINGS, video), ANIMALS, frames, SETTINGS.fps, SETTINGS.width, SETTINGS.height,
            SETTINGS.difficulty, behaviours=SETTINGS.names, views=("top",),
        )  # fmt: skip
        whole = (0, 0, SETTINGS.width, SETTINGS.height)
        seen = [
            [masks.resample(mask, HEIGHT, WIDTH, whole) for mask in studio.take_all(t)[0][1]] for t in range(0, frames, EVERY)
        ]
        found.append(np.array(seen, bool))
    return found


def source(name: str, subject: int, seen: NDArray[np.bool_]) -> Source:
    """A video in which every animal is of one colour, with the mask of one of them."""
    count = len(seen)
    coloured = np.ascontiguousarray(seen.transpose(0, 2, 3, 1)).astype(np.uint8) * 255
    return Source(
        name=f"{name}/{subject}",
        video=name,
        subject=f"{name}/{subject}",
        size=(HEIGHT, WIDTH),
        frame=np.arange(count) * EVERY,
        time=np.arange(count) * EVERY / SETTINGS.fps,
        valid=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        read=lambda start, count: list(coloured[start : start + count]),
        rles=pa.array([masks.encode(one) if one.any() else None for one in seen[:, subject]], pa.binary()),
    )


def shown(sources: list[Source], crops: Crops, rule: Usable | None) -> NDArray[np.int64]:
    """i64[PAIRS, 2]: which animal has most of each crop, -1 where nobody has enough."""
    plain = replace(crops, flip=0.0, jitter=0.0, grey=0.0, blur=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    data = Sampler(sources, BATCH, 5, shape=Shape(draws=2), with_masks=True, rule=rule)
    found = []
    for step, batch in zip(range(PAIRS // BATCH), data.batches(), strict=False):
        both = []
        for view, stream in enumerate(("query", "key")):
            mask = None if rule is None or batch.masks is None else batch.masks[:, view, 0]
            made = cropped(batch.frames[:, view], mask, batch.valid, batch.index, 5, step, stream, plain)
            pixels = (made.pictures > 0.5).flatten(2).sum(2)
            most = pixels.max(1)
            both.append(torch.where(most.values >= LEAST, most.indices, -1))
        found.append(torch.stack(both, 1))
    return torch.cat(found).numpy()


def pairs() -> dict[str, Any]:
    """Shares of pairs."""
    videos = herd()
    sources = [source(f"video {k}", subject, seen) for k, seen in enumerate(videos) for subject in range(ANIMALS)]
    ways: dict[str, tuple[Name, Usable | None]] = {
        "ordinary": ("miniature_moco", None),
        "constrained": ("miniature_moco_sampling", Usable()),
    }
    told = {}
    for name, (recipe, rule) in ways.items():
        crops = recipe_of(recipe).method.crops  # type: ignore[attr-defined]
        found = shown(sources, crops, rule)
        nobody, different = (found < 0).any(1), found[:, 0] != found[:, 1]
        told[name] = {
            "different animals": round(float((different & ~nobody).mean()), 4),
            "nobody in one or both": round(float(nobody.mean()), 4),
            "not the same animal": round(float((different | nobody).mean()), 4),
        }
        print(name, told[name], flush=True)
    absent = 1 - float(np.mean([seen.any((2, 3)).mean() for seen in videos]))
    return {
        "what": "pairs of crops of a video with three animals: whom they show, by true masks",
        "pairs": PAIRS,
        "videos": VIDEOS,
        "animal not in the picture": round(absent, 4),
        "published": {"ordinary": 0.27, "constrained": 0.07},
        **told,
    }


# --- cost ------------------------------------------------------------------------------------------------------------------------


def at(step: int) -> Moment:
    return Moment(step, 1_000, 100, 0, BATCH)


def batch_of(side: int = 160) -> Clips:
    """Noise with a disc."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    disc = (columns - side // 2) ** 2 + (rows - side // 2) ** 2 < (side // 4) ** 2
    where = np.full((BATCH, 2, 1, 4), -1, np.int32)
    return Clips(
        frames=torch.from_numpy(rng.integers(0, 255, (BATCH, 2, 1, 3, side, side)).astype(np.uint8)),
        valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(BATCH, 1),
        time=torch.zeros(BATCH, 2, 1, dtype=torch.float64),
        where=torch.from_numpy(where),
        index=torch.arange(BATCH),
        masks=torch.from_numpy(np.broadcast_to(disc, (BATCH, 2, 1, side, side)).copy()),
    )


def stepper(recipe: Recipe, batch: Clips) -> tuple[Callable[[], None], Moco | Previts]:
    """What the loop does in a step: loss, gradient, optimiser, momentum encoder, queue."""
    method: Any = method_of(recipe.method, backbone_of(recipe, None))
    params = [param for group in method.param_groups() for param in group.params]
    optimiser = torch.optim.SGD(params, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    count = 0

    def step() -> None:
        nonlocal count
        loss, _ = method.step(batch, at(count))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(at(count))
        count += 1

    return step, method


def bare(method: Moco, batch: Clips) -> Callable[[], None]:
    """The passes that contrast cannot do without, on crops that are there already: queries forward and backward, keys forward."""
    pair = method.pair(batch, at(0))

    def passes() -> None:
        _, (query,) = method.encoder(pair.query.pictures)
        with torch.no_grad():
            method.key_encoder(pair.key.pictures)
        query.sum().backward()
        method.encoder.zero_grad(set_to_none=True)

    return passes


def turns(first: Callable[[], None], second: Callable[[], None]) -> Ratio:
    """How many times faster the first is."""
    cpu = torch.device("cpu")
    first(), second()
    found = [(seconds(first, cpu), seconds(second, cpu)) for _ in range(TURNS)]
    return Ratio.of([a for a, _ in found], [b for _, b in found])


def own_memory() -> int:
    """RssAnon of this process, bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def _peak(name: Name, said: Any) -> None:
    """In a process of its own: the most memory of two steps above what was there before them."""
    torch.set_num_threads(1)
    step, _ = stepper(recipe_of(name, batch=BATCH), batch_of())
    before, most, over = own_memory(), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, own_memory())
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    step(), step()
    over.set()
    watcher.join()
    said.put(most - before)


def peak(name: Name) -> int:
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    process = context.Process(target=_peak, args=(name, said))
    process.start()
    found: int = said.get()
    process.join()
    return found


def cost() -> dict[str, Any]:
    """Ratios."""
    batch = batch_of()
    plain, method = stepper(recipe_of("miniature_moco", batch=BATCH), batch)
    sampling, _ = stepper(recipe_of("miniature_moco_sampling", batch=BATCH), batch)
    whole, _ = stepper(recipe_of("miniature_previts", batch=BATCH), batch)
    assert isinstance(method, Moco)
    found = {
        "bare passes against a step of MoCo": turns(bare(method, batch), plain),
        "a step with sampling against one with the attention loss": turns(sampling, whole),
    }
    memory = {name: peak(name) for name in ("miniature_moco_sampling", "miniature_previts")}
    told = {
        "what": "a step at 112 px, 32 pairs, ResNet-18, one thread; CPU seconds, in turns",
        "ratios": {name: asdict(ratio) for name, ratio in found.items()},
        "share of the bare passes in a step of MoCo": round(1 / found["bare passes against a step of MoCo"].times_faster, 3),
        "memory": {
            "bytes above the beginning": memory,
            "ratio": round(memory["miniature_previts"] / memory["miniature_moco_sampling"], 3),
        },
        "published": {"time": 1.3, "memory": 1.3},
    }
    print({name: ratio.times_faster for name, ratio in found.items()}, told["memory"], flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {"pairs": pairs, "cost": cost}
    parser.add_argument("what", nargs="*", choices=[*known, []], default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.what or known:
        write_cell(RESULTS / "previts" / f"{name}.json", known[name]())


if __name__ == "__main__":
    main()
