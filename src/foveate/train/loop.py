"""The one training loop. It knows nothing of any method: it asks for a loss, steps the optimiser, and takes care of everything else.

Everything random is a function of seed, step and sample, so a run that was killed goes on as if nothing had happened: on a CPU the weights
are the same bit for bit. On disk, in the folder of the run:

    metrics.jsonl          every ``log`` steps the mean of loss, its parts and gradient norms; every ``look`` steps what the watch saw
    checkpoints/step-<n>/  the backbone after n steps, a model folder in Hugging Face's layout
    resume/step-<n>/       everything to go on from; the newest two
    stopped/               the batch at which loss or gradient were no numbers, if that happened
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from foveate.data.ahead import Ahead
from foveate.data.clips import Clips
from foveate.methods.moment import Moment
from foveate.schema import FoveateError
from foveate.store import canonical_json, write_aside, write_json
from foveate.train import checkpoint, optimiser, parallel, speed, watch
from foveate.train.parallel import World
from foveate.train.records import Records, Sums
from foveate.train.settings import Machine, Training
from foveate.train.speed import Line, Speedometer

CHECKPOINTS, RESUME, STOPPED = "checkpoints", "resume", "stopped"
PROTOTYPES = "prototypes"
"""The metric that tells how many prototypes a batch uses, which the watch reads."""
_MUST_BE_NUMBERS = ("loss", "norm_")


class Data(Protocol):
    """Batches of this process from any step on, without end (``data.sampler.Sampler``)."""

    def batches(self, step: int = 0) -> Iterator[Clips]: ...


Say = Callable[[Line], None]


def silent(line: Line) -> None:
    """A Say that says nothing."""


def fit(
    method: Any,
    data: Data,
    training: Training,
    folder: Path,
    machine: Machine | None = None,
    *,
    watching: watch.Watch | None = None,
    say: Say = silent,
    logs: Path | None = None,
    world: World | None = None,
) -> int:
    """Train ``method`` on ``data``, or go on where a run in ``folder`` was interrupted.

    Args:
        method: see ``methods.moment``; it is moved to the device.
        data: batches of ``training.batch`` / processes samples.
        training: what decides the result.
        folder: of the run, see above.
        machine: how it is done.
        watching: pictures to look at for collapse; None: only prototypes are watched, where the method has them.
        say: told every ``training.log`` steps; only in the first process.
        logs: folder for what tells the time of day (TensorBoard); default: ``folder``/logs.
        world: the processes, if the caller has joined them.

    Returns:
        The number of steps done: those of ``training``, or fewer where its patience came to an end.

    Raises:
        FoveateError: accumulation where the method forbids it; ``folder`` holds a run of other settings or of another model; the loss or a
            gradient is no number; the features have collapsed; the disk is full. States and checkpoints written before stay.
    """
    machine = machine or Machine()
    _refuse(method, training, machine)
    with ExitStack() as stack:
        world = world or stack.enter_context(parallel.joined())
        run = _begin(method, training, folder, machine, world, watching)
        records = Records(folder, run.step, logs or folder / "logs", machine) if world.first else None
        if records is not None:
            stack.callback(records.close)
        batches = stack.enter_context(Ahead(_ready(data.batches(run.step), world.device)))
        meter = Speedometer(training.steps, training.batch, world.device, run.bf16, run.operations)
        meter.start(run.step)
        if run.step == 0:
            _look_and_keep(run, records)
        while run.step < training.steps and not run.stale:
            with meter.waiting():
                batch = next(batches)
            _step(run, batch)
            meter.operations, meter.unit = run.operations, "clips" if batch.frames.shape[2] > 1 else "images"
            if run.step % training.log == 0 or run.step == training.steps:
                _check(run)
                values = {**run.sums.means(), "lr": run.rates[0], "decay": run.rates[1]}
                run.prototypes.append(values.get(PROTOTYPES, 0.0))
                if records is not None:
                    records.line({"step": run.step, **values})
                    line = meter.line(run.step, values)
                    records.show(line)
                    say(line)
            _look_and_keep(run, records)
            if run.step % machine.save == 0 or run.step == training.steps or run.stale:
                _check(run)
                checkpoint.save(folder / RESUME, run.step, method, run.optimiser, _facts(run), world)
        return run.step


@dataclass
class _Run:
    """A run as it goes."""

    method: Any
    stepping: nn.Module  # what is called in place of ``method.step``
    optimiser: torch.optim.Optimizer
    parts: dict[str, list[nn.Parameter]]
    training: Training
    machine: Machine
    folder: Path
    world: World
    watching: watch.Watch | None
    step: int  # done
    operations: int | None  # of a step of this process
    sums: Sums
    looks: list[watch.Look]
    prototypes: list[float]  # since the look before
    bf16: bool
    stale: bool = False  # there is nothing more to be had
    rates: tuple[float, float] = (0.0, 0.0)
    unchecked: _Unchecked | None = None


@dataclass(frozen=True, eq=False)
class _Unchecked:
    """The values of a step that nobody has looked at yet: waiting for them would make the device wait for us."""

    at: Moment
    batch: Clips
    names: tuple[str, ...]
    values: Tensor  # f64, on the CPU, or on their way there
    arrived: Any  # event on the GPU; None on a CPU


def _refuse(method: Any, training: Training, machine: Machine) -> None:
    if machine.accumulate > 1 and method.whole_batch:
        raise FoveateError(
            f"gradients of parts of a batch cannot be added up: {method.whole_batch}",
            remedy="leave out accumulate; use a smaller batch, recompute, or more processes",
        )


def _begin(method: Any, training: Training, folder: Path, machine: Machine, world: World, watching: watch.Watch | None) -> _Run:
    """Everything at the first step, or at the newest state."""
    share = training.batch // world.size
    if training.batch % world.size or share % machine.accumulate:
        raise FoveateError(
            f"a batch of {training.batch} cannot be divided into {world.size} x {machine.accumulate} equal parts",
            remedy="choose a batch that is a multiple of processes x accumulate",
        )
    method.to(world.device)
    stepping = parallel.wrapped(method, machine, world)
    groups = method.param_groups()
    made = optimiser.made(groups, training)
    if world.first:
        for left in (folder / STOPPED, *folder.glob("*/.*.aside")):  # by a run that was stopped, or killed
            shutil.rmtree(left, ignore_errors=True)
    bf16 = machine.precision == "bfloat16" or (machine.precision == "auto" and world.device.type == "cuda")
    run = _Run(
        method,
        stepping,
        made,
        optimiser.parts_of(groups),
        training,
        machine,
        folder,
        world,
        watching,
        0,
        None,
        Sums(),
        [],
        [],
        bf16,
    )
    found = checkpoint.load(folder / RESUME, method, made)
    if found is not None:
        run.step, facts = found
        _same(facts["training"], training, folder)
        run.operations, run.prototypes = facts["operations"], facts["prototypes"]
        run.sums, run.looks = Sums(**facts["sums"]), watch.looks_from(facts["looks"])
        run.stale = watch.stale(run.looks, training.patience)
    return run


def _facts(run: _Run) -> dict[str, Any]:
    return {
        "training": asdict(run.training),
        "operations": run.operations,
        "sums": run.sums.plain(),
        "looks": [look.plain() for look in run.looks],
        "prototypes": run.prototypes,
    }


def _same(found: dict[str, Any], training: Training, folder: Path) -> None:
    """Refuse to go on with other settings."""
    import json

    now = json.loads(canonical_json(asdict(training)))
    other = sorted(name for name in now if found.get(name) != now[name])
    if other:
        raise FoveateError(
            f"a run with other settings lies here ({other[0]}: {found.get(other[0])} then, {now[other[0]]} now)",
            file=folder,
            remedy="give the new run another name, or delete the folder",
        )


def _ready(batches: Iterator[Clips], device: torch.device) -> Iterator[Clips]:
    for batch in batches:
        yield batch.pinned().to(device) if device.type == "cuda" else batch


def _step(run: _Run, batch: Clips) -> None:
    """One step of the optimiser."""
    training, world = run.training, run.world
    if len(batch) * world.size != training.batch:
        raise ValueError(f"batches of {len(batch)} in {world.size} processes are not the {training.batch} of the settings")
    at = Moment(run.step, training.steps, training.epoch, training.seed, training.batch)
    torch.manual_seed(_mixed(training.seed, run.step, world.rank))
    run.rates = optimiser.set_rates(run.optimiser, training, run.step)
    with ExitStack() as stack:
        # Counted in the first step alone, and kept with the state: a resumed run counts none.
        counter = None
        if run.step == 0 and not run.machine.shard:
            counter = stack.enter_context(speed.operations())
            stack.enter_context(torch.compiler.set_stance("force_eager")) if run.machine.compile else None
        loss, metrics = _gradients(run, batch, at)
    if counter is not None:
        run.operations = counter.get_total_flops()
    norms = {f"norm_{part}": norm for part, norm in optimiser.clip(run.parts, training.clip).items()}
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    with torch.no_grad():
        run.method.after_step(at)
    values = {"loss": loss, **metrics, **norms}
    told = parallel.average(torch.stack([value.detach().double() for value in values.values()]))
    _check(run)
    run.sums.add(tuple(values), told)
    run.unchecked = _unchecked(at, batch, tuple(values), told)
    run.step += 1


def _gradients(run: _Run, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and metrics of this process's samples, the gradients left where the optimiser finds them."""
    pieces, size = run.machine.accumulate, len(batch) // run.machine.accumulate
    whole: dict[str, Tensor] = {}
    for k in range(pieces):
        piece = batch if pieces == 1 else batch.part(k * size, (k + 1) * size)
        later = getattr(run.stepping, "no_sync", None) if k < pieces - 1 else None
        with later() if later is not None else nullcontext():
            with torch.autocast(run.world.device.type, torch.bfloat16, enabled=run.bf16):
                loss, metrics = run.stepping(piece, at)
            (loss / pieces).backward()
        for name, value in {"loss": loss, **metrics}.items():
            whole[name] = value.detach() / pieces + whole.get(name, 0)
    return whole.pop("loss"), whole


def _mixed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


# --- what is looked at, and what is kept -----------------------------------------------------------------------------------------


def _unchecked(at: Moment, batch: Clips, names: tuple[str, ...], values: Tensor) -> _Unchecked:
    if values.device.type == "cpu":
        return _Unchecked(at, batch, names, values, None)
    kept = torch.empty_like(values, device="cpu", pin_memory=True)
    kept.copy_(values, non_blocking=True)
    events: Any = torch.cuda
    arrived = events.Event()
    arrived.record()
    return _Unchecked(at, batch, names, kept, arrived)


def _check(run: _Run) -> None:
    """Stop where the step before gave no numbers. Called a step late, and always before anything is written."""
    last, run.unchecked = run.unchecked, None
    if last is None:
        return
    if last.arrived is not None:
        last.arrived.synchronize()
    found = dict(zip(last.names, last.values.tolist(), strict=True))
    wrong = [f"{name} {value}" for name, value in found.items() if not np.isfinite(value) and name.startswith(_MUST_BE_NUMBERS)]
    if not wrong:
        return
    from safetensors.torch import save as as_bytes

    tensors = {name: tensor.cpu().contiguous() for name, tensor in last.batch.tensors().items()}
    with write_aside(run.folder / STOPPED / f"batch-{run.world.rank}.safetensors") as path:
        path.write_bytes(as_bytes(tensors))
    if run.world.first:
        told = {name: repr(value) for name, value in found.items()}  # JSON has no word for them
        write_json(run.folder / STOPPED / "moment.json", {**asdict(last.at), "values": told})
    raise FoveateError(
        f"step {last.at.step:,} gave values that are no numbers ({', '.join(wrong)}); its batch is kept there",
        file=run.folder / STOPPED,
        remedy="lower the learning rate or the largest gradient norm (clip), or use float32; the last state and all checkpoints are good",
    )


def _look_and_keep(run: _Run, records: Records | None) -> None:
    """At the steps that ask for it: a look at the backbone, and a copy of it."""
    training, step = run.training, run.step
    if step in training.keep:
        _check(run)
        checkpoint.keep_backbone(run.folder / CHECKPOINTS, step, run.method.backbone(), run.world)
    if step % training.look and step != training.steps:
        return
    _check(run)
    prototypes = float(np.mean(run.prototypes)) if any(run.prototypes) else None
    run.prototypes = []
    if run.watching is not None:
        look = run.watching.look(run.method.backbone(), step, prototypes)
    else:
        look = watch.Look(step, prototypes=prototypes)
    run.looks.append(look)
    if records is not None and run.watching is not None:
        records.line({"step": step, "look": {name: value for name, value in look.plain().items() if name != "step"}})
    reason = parallel.agreed(watch.verdict(run.looks))
    if reason:
        raise FoveateError(
            reason,
            file=run.folder,
            remedy="lower the learning rate, warm up for longer, use more pictures or fewer prototypes; earlier checkpoints are good",
        )
    if training.patience:
        _keep_the_best(run)
        run.stale = bool(parallel.agreed("stale" if watch.stale(run.looks, training.patience) else ""))


def _keep_the_best(run: _Run) -> None:
    """The backbone of this look, if no look before was as good, in the place of the one that was the best until now."""
    training, kept = run.training, run.folder / CHECKPOINTS
    if parallel.agreed("best" if watch.best(run.looks) == len(run.looks) - 1 else "") == "":
        return
    if run.step not in training.keep:
        checkpoint.keep_backbone(kept, run.step, run.method.backbone(), run.world)
    before = watch.best(run.looks[:-1])
    if before is not None and run.world.first and (step := run.looks[before].step) not in training.keep:
        shutil.rmtree(kept / f"step-{step}", ignore_errors=True)
