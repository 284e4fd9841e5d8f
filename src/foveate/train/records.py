"""What is written down of a run: metrics.jsonl, the same bytes for the same run, and on request TensorBoard and Weights & Biases."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.schema import FoveateError
from foveate.store import canonical_json, write_text
from foveate.train.settings import Machine
from foveate.train.speed import Line

METRICS = "metrics.jsonl"


class Records:
    """Where lines go. Only the first process has one that writes.

    Args:
        folder: of the run; metrics.jsonl goes on after the line of ``step``, later ones (of a run that was killed) go.
        step: steps done.
        logs: folder for what tells the time of day.
        machine: what else is written.
    """

    def __init__(self, folder: Path, step: int, logs: Path, machine: Machine) -> None:
        self._path = folder / METRICS
        kept = [line for line in _lines(self._path) if json.loads(line)["step"] <= step] if step else []
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._board = _tensorboard(logs / "tensorboard") if machine.tensorboard else None
        self._wandb = _wandb(machine.wandb, folder.name, logs) if machine.wandb else None

    def line(self, values: Mapping[str, Any]) -> None:
        """Append one line of JSON; ``values`` has ``step``."""
        try:
            with open(self._path, "a", encoding="utf-8", newline="\n") as handle:
                handle.write(canonical_json(values) + "\n")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise FoveateError(
                "the disk is full", file=self._path, remedy="free some space and run the same command again; it resumes"
            ) from error

    def show(self, line: Line) -> None:
        """The same, with speed, to those who look on."""
        speed = {"images_per_second": line.rate, "memory": line.memory, "waited": line.waited}
        values = dict(line.values) | speed | ({} if line.mfu is None else {"mfu": line.mfu})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, line.step)
        if self._wandb is not None:
            self._wandb.log(values, step=line.step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _lines(path: Path) -> list[str]:
    """Whole lines; the last one of a killed run may be half."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FoveateError("the package tensorboard is missing", remedy="pip install tensorboard") from None
    writer: Any = SummaryWriter
    return writer(str(folder))


def _wandb(project: str, name: str, folder: Path) -> Any:
    try:
        import wandb
    except ImportError:
        raise FoveateError("the package wandb is missing", remedy="pip install wandb") from None
    return wandb.init(project=project, name=name, dir=str(folder))


class Sums:
    """Means of values that are on the device, without waiting for it."""

    def __init__(self, names: Sequence[str] = (), sums: Sequence[float] = (), count: int = 0) -> None:
        self.names, self.count = tuple(names), count
        self._sums: Tensor | None = torch.tensor(sums, dtype=torch.float64) if names else None

    def add(self, names: tuple[str, ...], values: Tensor) -> None:
        """One step's values, f64[len(names)]; always the same names."""
        if self._sums is None:
            self.names, self._sums = names, torch.zeros_like(values)
        elif names != self.names:
            raise ValueError(f"a method tells the same metrics in every step: {', '.join(self.names)}; got {', '.join(names)}")
        self._sums = self._sums.to(values.device) + values
        self.count += 1

    def plain(self) -> dict[str, Any]:
        """The arguments of another one that goes on from here."""
        sums = [] if self._sums is None else self._sums.tolist()
        return {"names": list(self.names) if sums else [], "sums": sums, "count": self.count}

    def means(self) -> dict[str, float]:
        """Means so far; begins anew."""
        given = self.plain()
        self._sums, self.count = None, 0
        return {name: value / max(1, given["count"]) for name, value in zip(given["names"], given["sums"], strict=True)}
