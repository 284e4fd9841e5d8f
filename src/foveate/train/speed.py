"""How fast it goes: pictures per second, and how much of what the machine's matrix product can do is used (MFU)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

_UNSAID = ("loss", "lr", "decay", "norm_")  # of the values; the rest is what the loss is made of
_CPU, _GPU = 1024, 8192  # sides of the matrices that the limit is measured with


@dataclass(frozen=True)
class Line:
    """What is said of a run as it goes."""

    step: int
    steps: int
    values: Mapping[str, float]  # loss and its parts, mean since the line before
    rate: float  # items of the batch per second, over all processes
    mfu: float | None  # 0..1; None where operations could not be counted
    memory: int  # largest number of bytes in use so far: of the GPU, or of the process
    left: float  # seconds
    waited: float  # share of the time that no batch was ready, 0..1
    unit: str = "images"  # what the rate counts: of clips, clips

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items() if not name.startswith(_UNSAID))
        mfu = "" if self.mfu is None else f" · {100 * self.mfu:.0f} % of the machine"
        waited = f" · waited for pictures {100 * self.waited:.0f} %" if self.waited > 0.05 else ""
        loss = f"loss {self.values['loss']:.4f}" + (f" ({parts})" if parts else "")
        return (
            f"step {self.step:,} of {self.steps:,} · {loss} · {self.rate:,.1f} {self.unit}/s"
            f"{mfu} · {self.memory / 1e9:.1f} GB · {duration(self.left)} left{waited}"
        )


def duration(seconds: float) -> str:
    """In the two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    largest = next((k for k, (count, _) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in units[largest : largest + 2])


@dataclass
class Speedometer:
    """Times between lines. ``operations`` are those of a step of this process, ``limit`` what the machine could do in a second."""

    steps: int
    batch: int
    device: torch.device
    bf16: bool
    operations: int | None = None
    unit: str = "images"
    _limit: float | None = None
    _since: float = field(default_factory=time.monotonic)
    _step: int = -1
    _waited: float = 0.0

    def start(self, step: int) -> None:
        self._since, self._step, self._waited = time.monotonic(), step, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def line(self, step: int, values: Mapping[str, float]) -> Line:
        """After ``step`` steps; the next line begins here."""
        took, done = time.monotonic() - self._since, step - self._step
        per_step = took / max(1, done)
        mfu = None
        if self.operations is not None:
            self._limit = self._limit or product_limit(self.device, self.bf16)
            mfu = self.operations / per_step / self._limit
        line = Line(
            step,
            self.steps,
            values,
            self.batch / per_step,
            mfu,
            memory(self.device),
            per_step * (self.steps - step),
            self._waited / took,
            self.unit,
        )
        self.start(step)
        return line


def operations() -> FlopCounterMode:
    """Counts the operations (2 per multiply-add) of what runs inside. PyTorch's own table lacks fused attention on a CPU."""

    counts: Any = flop_counter

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(counts.sdpa_flop_count(query, key, value))

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(counts.sdpa_backward_flop_count(gradient, query, key, value))

    there = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={there: forward, back: backward})


def product_limit(device: torch.device, bf16: bool) -> float:
    """Operations per second (2 per multiply-add) of a large matrix product, the best of some: what this machine can do, with the threads
    it is allowed."""
    side = _GPU if device.type == "cuda" else _CPU
    a = torch.full((side, side), 0.5, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> int:
    """Largest number of bytes so far: allocated on the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
