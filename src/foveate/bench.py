"""How fast pretraining goes on this machine, and how much of its time the bare network takes.

Everything is measured in one process, in turns, on a store of noise and with weights drawn at random: on a CPU in CPU seconds, threads that
read included, so that other work beside it counts little; on a GPU by the clock.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.data.sampler import Sampler
from foveate.data.sources import Source, read_store
from foveate.methods.dinov2 import Dinov2, Dinov2Config
from foveate.models.vit import Seen, Vit, resized, sized
from foveate.recipes import Recipe
from foveate.schema import FoveateError
from foveate.train import loop
from foveate.train.settings import Machine
from foveate.train.speed import Line
from foveate.videowriter import VideoWriter

PICTURES, SIZE = 600, 256  # of the store: pixels as in a project
BARE, WAITED = 0.9, 0.05
"""What is asked: of a step at least this share is the bare passes; at most this share of the time is waiting for pictures."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster one thing is than another, in turns: each ratio is that of two neighbours."""

    times_faster: float  # median
    least: float
    most: float
    seconds: tuple[float, float]  # medians of both

    @staticmethod
    def of(first: Sequence[float], second: Sequence[float]) -> Ratio:
        """Of the seconds of both, f[N] each."""
        ratios = [b / a for a, b in zip(first, second, strict=True)]
        medians = statistics.median(first), statistics.median(second)
        return Ratio(statistics.median(ratios), min(ratios), max(ratios), medians)


@dataclass(frozen=True)
class Speeds:
    """What ``pretraining`` found."""

    batch: int  # pictures of a step
    seconds: tuple[float, float]  # of a step, and of its bare passes
    share: float  # of the bare passes in a step, 0..1
    waited: float  # share of the time that no batch was ready, 0..1
    rate: float  # pictures per second, by the clock
    mfu: float | None  # 0..1; None where operations could not be counted
    memory: int  # largest number of bytes in use: of the GPU, or of the process
    separate: Ratio  # crops of two sizes in one pass, against a pass for each
    padded: Ratio  # the same, against small crops as long as the large ones


def clock(device: torch.device) -> float:
    """CPU seconds of this process, or seconds after all that the GPU was given to do."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """What ``work`` takes, see ``clock``."""
    start = clock(device)
    work()
    return clock(device) - start


def compared(one: Callable[[], object], other: Callable[[], object], rounds: int, device: torch.device) -> Ratio:
    """Both in turns, after one of each that does not count; who comes first changes."""
    one(), other()
    first: list[float] = []
    second: list[float] = []
    for k in range(rounds):
        for work, kept in ((one, first), (other, second))[:: 1 if k % 2 else -1]:
            kept.append(seconds(work, device))
    return Ratio.of(first, second)


def trained(model: torch.nn.Module, passes: Callable[[], Sequence[Seen]]) -> None:
    """Forward and backward; the gradients go."""
    loss: Any = sum(seen.cls.square().mean() + seen.patches.square().mean() for seen in passes())
    loss.backward()
    model.zero_grad()


def padded(vit: Vit, large: Tensor, small: Tensor) -> list[Seen]:
    """What padding costs: small crops as long as the large ones (without the mask that a real one needs, which costs more)."""
    side = large.shape[-1]
    return [vit(torch.cat((large, small.new_zeros(len(small), 3, side, side))))]


def packing(vit: Vit, large: Tensor, small: Tensor, rounds: int) -> tuple[Ratio, Ratio]:
    """Forward and backward of crops of two sizes, f32[N, 3, S, S] each, in one pass: against a pass for each, and against padding."""
    packed = partial(trained, vit, partial(vit.many, [large, small]))
    separate = partial(trained, vit, lambda: [vit(large), vit(small)])
    long = partial(trained, vit, partial(padded, vit, large, small))
    return compared(packed, separate, rounds, large.device), compared(packed, long, rounds, large.device)


def pretraining(recipe: Recipe, steps: int = 4, machine: Machine | None = None, say: loop.Say = loop.silent) -> Speeds:
    """Run a recipe of DINOv2 with a ViT-S/14: ``steps`` undisturbed, then as many each followed by its bare passes.

    "Bare" is what cannot be left out: the teacher's forward pass of the large crops, and the student's forward and backward passes of all.

    Args:
        recipe: how many steps it has does not matter.
        steps: at least 1.
        machine: how it is done.
        say: told of the undisturbed steps.

    Raises:
        FoveateError: the recipe is of another method, or what ``train.loop.fit`` raises.
    """
    if not isinstance(recipe.method, Dinov2Config):
        raise FoveateError("only recipes of DINOv2 can be measured so far", remedy="choose guided_... or miniature")
    torch.manual_seed(recipe.training.seed)
    method = Dinov2(resized(Vit(sized("small")), recipe.method.views.large), recipe.method)
    whole = 1 + 2 * steps  # operations are counted in the first
    training = replace(recipe.training, steps=whole, keep=(), log=1, look=whole)
    turns = _Turns(method, training.batch, steps, machine or Machine(), say)
    with tempfile.TemporaryDirectory() as folder:
        data = Sampler([noise(Path(folder))], training.batch, buffer=PICTURES // 2, workers=turns.machine.workers)
        loop.fit(method, data, training, Path(folder) / "run", turns.machine, say=turns)
    return turns.found()


class _Turns:
    """Told of every step; in the second half it puts a bare pass behind each."""

    def __init__(self, method: Dinov2, batch: int, steps: int, machine: Machine, say: loop.Say) -> None:
        self.method, self.batch, self.half, self.machine, self.say = method, batch, 1 + steps, machine, say
        self.lines: list[Line] = []
        self.steps: list[float] = []
        self.bare: list[float] = []
        self.since = 0.0

    def __call__(self, line: Line) -> None:
        if line.step <= self.half:
            self.lines.append(line)
            self.say(line)
        if line.step == self.half:
            self.device = next(self.method.parameters()).device
            views = self.method.config.views
            kinds = ((2, views.large), (views.smalls, views.small))
            self.crops = [torch.randn(count * self.batch, 3, size, size, device=self.device) for count, size in kinds]
            self._bare()  # does not count: it finds no memory of its own yet
        elif line.step > self.half:
            self.steps.append(clock(self.device) - self.since)
            self.bare.append(seconds(self._bare, self.device))
        if line.step >= self.half:
            self.since = clock(self.device)

    def _bare(self) -> None:
        with self._mixed():
            with torch.no_grad():
                self.method.teacher(self.crops[0])
            trained(self.method.student, lambda: self.method.student.many(self.crops))

    def _mixed(self) -> torch.autocast:
        bf16 = self.machine.precision == "bfloat16" or (self.machine.precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def found(self) -> Speeds:
        """After the run."""
        with self._mixed():
            separate, long = packing(self.method.student, self.crops[0], self.crops[1], max(3, len(self.bare) // 2))
        undisturbed, both = self.lines[1:], Ratio.of(self.steps, self.bare)
        mfu = [line.mfu for line in undisturbed if line.mfu is not None]
        return Speeds(
            self.batch,
            both.seconds,
            both.times_faster,
            statistics.mean(line.waited for line in undisturbed),
            statistics.median(line.rate for line in undisturbed),
            statistics.median(mfu) if mfu else None,
            self.lines[-1].memory,
            separate,
            long,
        )


def noise(folder: Path) -> Source:
    """Crops as a project keeps them: smooth noise, so that the file has the size of real ones."""
    random, path = np.random.default_rng(0), folder / "part-00000.mp4"
    with VideoWriter(path, SIZE, SIZE) as writer:
        for _ in range(PICTURES):
            coarse = random.integers(60, 200, (SIZE // 16, SIZE // 16, 3)).astype(np.uint8)
            writer.write(coarse.repeat(16, axis=0).repeat(16, axis=1))
    number = np.arange(PICTURES)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (PICTURES, 1))
    return Source("noise", "noise", "", (SIZE, SIZE), number, number / 10, whole, partial(read_store, path))


def rows(found: Speeds) -> list[tuple[str, float | None, str, str]]:
    """What, value, unit and what is asked of it."""
    step, bare = found.seconds
    return [
        ("pictures per second", found.rate, "", ""),
        ("of what the machine multiplies at best", found.mfu, "share", ""),
        (f"a step of {found.batch}", step, "s", ""),
        ("its bare passes", bare, "s", ""),
        ("bare passes of a step", found.share, "share", f"at least {BARE}"),
        ("waiting for pictures", found.waited, "share", f"at most {WAITED}"),
        ("crops of two sizes in one pass against two", found.separate.times_faster, "times as fast", ""),
        ("crops of two sizes in one pass against padded", found.padded.times_faster, "times as fast", ""),
        ("memory", found.memory / 1e9, "GB", ""),
    ]
