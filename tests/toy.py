"""A method small enough for tests: a student learns what its slowly following teacher makes of the same noisy pictures.

    python -m tests.toy FOLDER step:4 save:2

trains it once for each of these; each process kills itself (SIGKILL) in the middle of the step, or as the N-th state is renamed.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from foveate.data.clips import Clips
from foveate.methods.moment import Group, Moment
from foveate.models.vit import Vit, VitConfig
from foveate.schedules import Schedule
from foveate.train.loop import fit
from foveate.train.settings import Machine, Training

CONFIG = VitConfig(image_size=16, patch=4, width=24, depth=2, heads=2, mlp_ratio=2, layer_scale=1.0, drop_path=0.0)
TRAINING = Training(
    steps=12,
    batch=8,
    lr=Schedule(3e-3, 1e-4, warmup=3),
    decay=Schedule(0.04, 0.4),
    epoch=4,
    clip=1.0,
    seed=5,
    keep=(0, 6, 12),
    log=4,
    look=5,
)
MACHINE = Machine(save=3)


class Toy(nn.Module):
    """Teacher and student, a head of 6 prototypes, a centre over the whole batch, dropout from PyTorch's own generator."""

    whole_batch = ""

    def __init__(self, config: VitConfig = CONFIG, prototypes: int = 6, centred: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student, self.head = Vit(config), nn.Linear(config.width, prototypes)
        self.student.mask_token.requires_grad_(False)
        self.teacher, self.teacher_head = (
            copy.deepcopy(part).requires_grad_(False).train(False) for part in (self.student, self.head)
        )
        self.register_buffer("centre", torch.zeros(prototypes))
        self.centred, self.dropout = centred, 0.1
        self.centre: Tensor
        if centred:
            self.whole_batch = "the centre is that of a whole batch"

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        pictures = batch.frames[:, 0, 0].float() / 255
        noise = [np.random.default_rng((at.seed, at.step, int(i))).random(pictures.shape[1:]) for i in batch.index]
        seen = pictures + 0.1 * torch.from_numpy(np.stack(noise)).float()
        with torch.no_grad():
            told = self.teacher_head(self.teacher(pictures).cls).float()
            mean = told.mean(0)
            if distributed.is_initialized():
                distributed.all_reduce(mean)
                mean /= distributed.get_world_size()
            target = ((told - (mean if self.centred else 0)) / 0.1).softmax(-1)
            self.centre.lerp_(mean, 0.1)
        answer = self.head(functional.dropout(self.student(seen).cls, self.dropout))
        loss = -(target * (answer / 0.2).log_softmax(-1)).sum(-1).mean()
        return loss, {"entropy": -(target * target.clamp(1e-9).log()).sum(-1).mean()}

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        for slow, fast in ((self.teacher, self.student), (self.teacher_head, self.head)):
            for theirs, ours in zip(slow.parameters(), fast.parameters(), strict=True):
                theirs.lerp_(ours, 0.1)

    def param_groups(self) -> list[Group]:
        trained = [p for p in self.student.parameters() if p.requires_grad]
        flat, deep = [p for p in trained if p.ndim < 2], [p for p in trained if p.ndim > 1]
        return [
            Group("backbone", tuple(deep), lr=0.5),
            Group("backbone", tuple(flat), lr=0.5, decay=0.0),
            Group("head", (self.head.weight,), frozen=2),
            Group("head", (self.head.bias,), decay=0.0),
        ]

    def backbone(self) -> Vit:
        return self.teacher


class Pictures:
    """Batches of noise pictures, or clips of them, that are a function of the step alone."""

    def __init__(self, batch: int = TRAINING.batch, rank: int = 0, ranks: int = 1, size: int = 16, times: int = 1) -> None:
        self.batch, self.size, self.times = batch, size, times
        self.mine = slice(rank * batch // ranks, (rank + 1) * batch // ranks)

    def batches(self, step: int = 0) -> Iterator[Clips]:
        while True:
            random = np.random.default_rng((99, step))
            kind = random.integers(0, 4, self.batch)
            frames = (
                random.integers(0, 90, (self.batch, 1, self.times, 3, self.size, self.size))
                + 40 * kind[:, None, None, None, None, None]
            )
            index = np.arange(step * self.batch, (step + 1) * self.batch)
            nothing = torch.zeros(self.batch, 1, self.times)
            whole = Clips(
                frames=torch.from_numpy(frames.astype(np.uint8)),
                valid=torch.tensor([[0.0, 0, 1, 1]]).repeat(self.batch, 1),
                time=nothing.double(),
                where=nothing[..., None].repeat(1, 1, 1, 4).int(),
                index=torch.from_numpy(index),
            )
            yield whole.part(self.mine.start, self.mine.stop)
            step += 1


def weights(method: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


class Dying(Toy):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.last = step

    def after_step(self, at: Moment) -> None:
        if at.step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        super().after_step(at)


def until_killed(folder: Path, kind: str, number: int) -> None:
    rename, count = os.replace, 0

    def replaced(source: object, target: object) -> None:
        nonlocal count
        count += Path(str(target)).parent.name == "resume"
        if kind == "save" and count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)  # type: ignore[call-overload]

    os.replace = replaced  # type: ignore[assignment]
    fit(Dying(number if kind == "step" else -1), Pictures(), TRAINING, folder, MACHINE)


def main() -> None:
    for kill in sys.argv[2:]:
        kind, number = kill.split(":")
        child = os.fork()  # importing torch takes longer than the run
        if not child:
            until_killed(Path(sys.argv[1]), kind, int(number))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"{kill} ended by itself: {status}")


if __name__ == "__main__":
    main()
