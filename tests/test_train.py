"""The training loop: resumed = undisturbed, what is written, what is refused, what stops a run."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from foveate.data.clips import Clips
from foveate.methods.moment import Moment
from foveate.models.vit import load_vit
from foveate.schedules import Schedule
from foveate.schema import FoveateError
from foveate.store import write_json
from foveate.train import checkpoint, optimiser, parallel, records
from foveate.train.loop import fit
from foveate.train.settings import Machine, Training
from foveate.train.speed import Line, Speedometer, duration, product_limit
from foveate.train.watch import Look, Watch
from tests.toy import CONFIG, MACHINE, TRAINING, Dying, Pictures, Toy, weights


def run(folder: Path, training: Training = TRAINING, machine: Machine = MACHINE, method: Any = None, **options: Any) -> Any:
    method = method or Toy()
    fit(method, Pictures(training.batch), training, folder, machine, **options)
    return method


def files(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


# --- resuming --------------------------------------------------------------------------------------------------------------------


def test_what_a_run_leaves(undisturbed: Path) -> None:
    names = {path.relative_to(undisturbed).parts[:2] for path in undisturbed.rglob("*") if path.is_file()}
    assert names == {
        ("metrics.jsonl",),
        *(("checkpoints", f"step-{step}") for step in (0, 6, 12)),
        *(("resume", f"step-{step:08d}") for step in (9, 12)),
    }
    lines = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[0].keys() == {"step", "loss", "entropy", "norm_backbone", "norm_head", "lr", "decay"}
    assert lines[-1]["lr"] == TRAINING.lr.at(11, 12) and lines[0]["loss"] > lines[-1]["loss"]


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, then while a state is renamed; then nobody disturbs it."""
    command = [sys.executable, "-m", "tests.toy", str(tmp_path), "step:4", "save:2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment)
    assert done.returncode == 0, done.stderr
    states = sorted(path.name for path in (tmp_path / "resume").iterdir() if not path.name.startswith("."))
    assert states == ["step-00000003", "step-00000006"]
    run(tmp_path)
    assert files(tmp_path) == files(undisturbed)


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_any_state_goes_on_to_the_same_end(undisturbed: Path, tmp_path: Path, stop: int) -> None:
    class Interrupted(Toy):
        def after_step(self, at: Moment) -> None:
            if at.step == stop + 1:
                raise KeyboardInterrupt
            super().after_step(at)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, method=Interrupted())
    assert max(int(path.name[5:]) for path in (tmp_path / "resume").glob("step-*")) == stop
    run(tmp_path)
    assert files(tmp_path) == files(undisturbed)


def test_a_finished_run_does_nothing(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "copy")
    again = run(tmp_path / "copy")
    assert files(tmp_path / "copy") == files(undisturbed)
    kept = load_vit(tmp_path / "copy" / "checkpoints" / "step-12")
    assert all(torch.equal(tensor, weights(again.teacher)[name]) for name, tensor in weights(kept).items())


def test_a_damaged_state_gives_way_to_the_one_before(
    undisturbed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, damage in (("tensors.safetensors", b"\0" * 100), ("state.json", b"{")):
        folder = tmp_path / name
        shutil.copytree(undisturbed, folder)
        (folder / "resume" / "step-00000012" / name).write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            run(folder)
        assert "step-00000012 is damaged" in caplog.text
        assert files(folder) == files(undisturbed)


def test_randomness_hangs_on_the_step_alone(tmp_path: Path) -> None:
    """Whatever was drawn before from PyTorch's generator, dropout draws the same."""
    torch.manual_seed(123)
    first = run(tmp_path / "a", replace(TRAINING, keep=()))
    torch.rand(1000)
    second = run(tmp_path / "b", replace(TRAINING, keep=()))
    other = run(tmp_path / "c", replace(TRAINING, keep=(), seed=6))
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())
    assert any(not torch.equal(tensor, weights(other)[name]) for name, tensor in weights(first).items())


def test_a_state_of_something_else_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "copy")
    wider = Toy(replace(CONFIG, width=32))
    before = weights(wider)
    with pytest.raises(FoveateError, match="belongs to another model"):
        run(tmp_path / "copy", method=wider)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(wider).items())
    with pytest.raises(FoveateError, match=r"another model \(student\.blocks\.2.* is in one of them only\)"):
        run(tmp_path / "copy", method=Toy(replace(CONFIG, depth=3)))
    with pytest.raises(FoveateError, match=r"other settings lies here \(seed: 5 then, 6 now\)"):
        run(tmp_path / "copy", replace(TRAINING, seed=6))
    assert files(tmp_path / "copy") == files(undisturbed)


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes
    written = 0

    def full(path: Path, data: bytes) -> int:
        nonlocal written
        written += path.name.startswith(".tensors")
        if written == 2:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FoveateError, match="the disk is full"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["step-00000003"]
    method = Toy()
    assert checkpoint.load(tmp_path / "resume", method, torch.optim.AdamW(method.parameters()))
    monkeypatch.undo()
    run(tmp_path)
    assert (tmp_path / "checkpoints" / "step-12" / "model.safetensors").exists()


def test_a_full_disk_while_metrics_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(values: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "canonical_json", full)
        with pytest.raises(FoveateError, match=r"metrics\.jsonl: the disk is full"):
            run(tmp_path)
    run(tmp_path)


# --- the optimiser ---------------------------------------------------------------------------------------------------------------


def test_rates_are_those_of_the_schedules_times_the_groups(tmp_path: Path) -> None:
    seen: list[dict[str, tuple[float, float]]] = []

    class Looked(Toy):
        def after_step(self, at: Moment) -> None:
            super().after_step(at)

    method = Looked()
    made = optimiser.made(method.param_groups(), TRAINING)
    names = {id(param): name for name, param in method.named_parameters()}
    for step in range(4):
        optimiser.set_rates(made, TRAINING, step)
        seen.append({names[id(p)]: (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]})
    for step, rates in enumerate(seen):
        lr, decay = TRAINING.lr.at(step, 12), TRAINING.decay.at(step, 12)
        assert rates["student.blocks.0.attn.qkv.weight"] == pytest.approx((0.5 * lr, decay))
        assert rates["student.blocks.0.attn.qkv.bias"] == pytest.approx((0.5 * lr, 0))
        assert rates["head.weight"] == pytest.approx((0.0 if step < 2 else lr, decay))
        assert rates["head.bias"] == pytest.approx((lr, 0))
    assert len(made.param_groups) == 4
    assert not {name for name in seen[0] if name.startswith("teacher")}


def test_equal_multipliers_share_a_group() -> None:
    groups = Toy().param_groups()
    again = [replace(group, part=f"part {k}") for k, group in enumerate(groups)]
    assert len(optimiser.made(again, TRAINING).param_groups) == 4
    same = [replace(group, lr=1.0, decay=1.0, frozen=0) for group in groups]
    assert len(optimiser.made(same, TRAINING).param_groups) == 1
    with pytest.raises(ValueError, match="two groups"):
        optimiser.made([*groups, groups[0]], TRAINING)


def test_a_run_is_adamw_by_hand(tmp_path: Path) -> None:
    """The loop against eight plain lines: parts are clipped by themselves, rates set by the schedules, the teacher follows."""
    training = replace(TRAINING, steps=5, keep=(), clip=0.5)
    looped = run(tmp_path, training)
    method, pictures = Toy(), Pictures().batches()
    groups = method.param_groups()
    plain = torch.optim.AdamW([{"params": g.params, "lr": 0.0} for g in groups])
    for step in range(5):
        at = Moment(step, 5, 4, 5, 8)
        torch.manual_seed(int(np.random.SeedSequence((5, step, 0)).generate_state(1, np.uint64)[0] >> 1))
        loss, _ = method.step(next(pictures), at)
        loss.backward()
        for part in ("backbone", "head"):
            torch.nn.utils.clip_grad_norm_([p for g in groups if g.part == part for p in g.params], 0.5)
        for group, its in zip(groups, plain.param_groups, strict=True):
            its["lr"] = 0.0 if step < group.frozen else group.lr * training.lr.at(step, 5)
            its["weight_decay"] = group.decay * training.decay.at(step, 5)
        plain.step()
        plain.zero_grad()
        method.after_step(at)
    for name, tensor in weights(method).items():
        assert torch.allclose(tensor, weights(looped)[name], atol=1e-6), name


def test_a_run_is_sgd_by_hand(tmp_path: Path) -> None:
    """With momentum and with the decay in the gradient, and the same when it goes on from a state."""
    training = replace(TRAINING, steps=5, keep=(), clip=None, optimiser="sgd", momentum=0.8)
    looped = run(tmp_path / "once", training)
    method, pictures = Toy(), Pictures().batches()
    groups = method.param_groups()
    speed = {id(p): torch.zeros_like(p) for g in groups for p in g.params}
    for step in range(5):
        at = Moment(step, 5, 4, 5, 8)
        torch.manual_seed(int(np.random.SeedSequence((5, step, 0)).generate_state(1, np.uint64)[0] >> 1))
        method.step(next(pictures), at)[0].backward()
        lr, decay = training.lr.at(step, 5), training.decay.at(step, 5)
        with torch.no_grad():
            for group in groups:
                for param in group.params:
                    speed[id(param)].mul_(0.8).add_(param.grad + group.decay * decay * param)
                    param.sub_((0.0 if step < group.frozen else group.lr * lr) * speed[id(param)])
                    param.grad = None
        method.after_step(at)
    for name, tensor in weights(method).items():
        assert torch.allclose(tensor, weights(looped)[name], atol=1e-6), name


def test_a_run_is_lars_by_hand(tmp_path: Path) -> None:
    """DINO's listing of LARS, line by line: matrices alone are decayed, and scaled to a thousandth of their norm."""
    training = replace(TRAINING, steps=5, keep=(), clip=None, optimiser="lars", momentum=0.8)
    looped = run(tmp_path / "once", training)
    method, pictures = Toy(), Pictures().batches()
    groups = method.param_groups()
    mu = {id(p): torch.zeros_like(p) for g in groups for p in g.params}
    for step in range(5):
        at = Moment(step, 5, 4, 5, 8)
        torch.manual_seed(int(np.random.SeedSequence((5, step, 0)).generate_state(1, np.uint64)[0] >> 1))
        method.step(next(pictures), at)[0].backward()
        lr, decay = training.lr.at(step, 5), training.decay.at(step, 5)
        with torch.no_grad():
            for group in groups:
                for param in group.params:
                    assert param.grad is not None
                    change = param.grad.clone()
                    if param.ndim != 1:
                        change = change + group.decay * decay * param
                        change = change * (0.001 * torch.linalg.norm(param) / torch.linalg.norm(change))
                    mu[id(param)] = 0.8 * mu[id(param)] + change
                    param.sub_((0.0 if step < group.frozen else group.lr * lr) * mu[id(param)])
                    param.grad = None
        method.after_step(at)
    for name, tensor in weights(method).items():
        assert torch.allclose(tensor, weights(looped)[name], atol=1e-7), name
    still = torch.nn.Parameter(torch.zeros(2, 2))
    optimise = optimiser.Lars([{"params": [still], "lr": 0.1}], 0.9)
    still.grad = torch.ones(2, 2)
    optimise.step()
    assert torch.equal(still, torch.full((2, 2), -0.1))  # what has no norm takes the gradient as it is


def test_the_last_layer_rests_at_first(tmp_path: Path) -> None:
    start = Toy()
    two = run(tmp_path / "2", replace(TRAINING, steps=2, keep=(), lr=Schedule(1e-3, 1e-3)))
    three = run(tmp_path / "3", replace(TRAINING, steps=3, keep=(), lr=Schedule(1e-3, 1e-3)))
    assert torch.equal(two.head.weight, start.head.weight) and not torch.equal(two.head.bias, start.head.bias)
    assert not torch.equal(three.head.weight, start.head.weight)


# --- how it is done --------------------------------------------------------------------------------------------------------------


class Apart(Toy):
    """Without a centre and dropout: a batch is the sum of its samples."""

    def __init__(self) -> None:
        super().__init__(centred=False)
        self.dropout = 0.0


@pytest.mark.parametrize("machine", [Machine(accumulate=4), Machine(recompute=True), Machine(precision="bfloat16")])
def test_ways_of_doing_it_give_the_same(tmp_path: Path, machine: Machine) -> None:
    training = replace(TRAINING, steps=4, keep=())
    whole, other = (run(tmp_path / name, training, how, Apart()) for name, how in (("a", Machine()), ("b", machine)))
    near = 0.02 if machine.precision == "bfloat16" else 1e-5
    for name, tensor in weights(whole).items():
        if name != "centre":  # of the last piece, where there are pieces; not used
            assert torch.allclose(tensor, weights(other)[name], atol=near), name
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in "ab")
    assert json.loads(first)["loss"] == pytest.approx(json.loads(second)["loss"], rel=near)


def test_bfloat16_is_really_used(tmp_path: Path) -> None:
    kinds = []

    class Typed(Apart):
        def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
            kinds.append(self.head(torch.ones(1, CONFIG.width)).dtype)
            return super().step(batch, at)

    run(tmp_path / "a", replace(TRAINING, steps=1, keep=()), Machine(precision="bfloat16"), Typed())
    run(tmp_path / "b", replace(TRAINING, steps=1, keep=()), Machine(), Typed())
    assert kinds == [torch.bfloat16, torch.float32]


def test_accumulation_is_refused_where_it_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="cannot be added up: the centre is that of a whole batch"):
        run(tmp_path, machine=Machine(accumulate=2))
    with pytest.raises(FoveateError, match="a batch of 8 cannot be divided into 1 x 3 equal parts"):
        run(tmp_path, machine=Machine(accumulate=3), method=Apart())
    with pytest.raises(FoveateError, match="one process"):
        run(tmp_path, machine=Machine(shard=True))
    assert not any(tmp_path.iterdir())


def test_blocks_are_what_a_transformer_repeats() -> None:
    method = Toy()
    assert parallel.blocks(method) == [*method.student.blocks, *method.teacher.blocks]


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(FoveateError, match="step 13 cannot be kept of a run of 12"):
        replace(TRAINING, keep=(13,))
    with pytest.raises(FoveateError, match="at least 1"):
        replace(TRAINING, batch=0)


# --- what stops it ---------------------------------------------------------------------------------------------------------------


class Poisoned(Toy):
    """Its loss is no number at step 7."""

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().step(batch, at)
        return loss * (torch.nan if at.step == 7 else 1.0), metrics


def test_no_number_stops_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(
        FoveateError, match=r"step 7 gave values that are no numbers \(loss nan, norm_backbone nan, norm_head nan\)"
    ):
        run(tmp_path, method=Poisoned())
    batch = load_file(tmp_path / "stopped" / "batch-0.safetensors")
    assert batch["index"].tolist() == list(range(56, 64)) and batch["frames"].shape == (8, 1, 1, 3, 16, 16)
    assert json.loads((tmp_path / "stopped" / "moment.json").read_text())["step"] == 7
    assert [path.name for path in sorted((tmp_path / "resume").iterdir())] == ["step-00000003", "step-00000006"]
    for tensor in load_file(tmp_path / "resume" / "step-00000006" / "tensors.safetensors").values():
        assert torch.isfinite(tensor).all()
    assert "nan" not in (tmp_path / "metrics.jsonl").read_text().lower()
    run(tmp_path)  # a loss that is cured goes on from the last state
    assert not (tmp_path / "stopped").exists()


class Shrinking(Toy):
    """All pictures get the same vector in the end."""

    def after_step(self, at: Moment) -> None:
        with torch.no_grad():
            self.teacher.norm.weight.mul_(0.02)
            self.teacher.norm.bias.fill_(1.0)


def test_collapse_stops_with_a_sentence(tmp_path: Path) -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (20, 3, 16, 16)).astype(np.uint8))
    training = replace(TRAINING, steps=40, look=3, keep=(0, 3))
    with pytest.raises(
        FoveateError, match=r"it has collapsed: all pictures get nearly the same vector \(distance .* at step 9, against"
    ):
        run(tmp_path, training, method=Shrinking(), watching=Watch(pictures))
    looks = [json.loads(line)["look"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if "look" in line]
    assert len(looks) == 4 and looks[0]["spread"] > 100 * looks[-1]["spread"]
    assert (tmp_path / "checkpoints" / "step-3" / "model.safetensors").exists()
    run(tmp_path / "healthy", replace(training, steps=12), watching=Watch(pictures))


class Told:
    """Looks whose k-NN is told beforehand, by step."""

    def __init__(self, knn: dict[int, float | None]) -> None:
        self.knn = knn

    def look(self, backbone: torch.nn.Module, step: int, prototypes: float | None = None) -> Look:
        return Look(step, prototypes=prototypes, knn=self.knn[step], chance=0.1)


def test_patience_ends_a_run_and_keeps_the_best(tmp_path: Path) -> None:
    training = replace(TRAINING, steps=40, look=2, keep=(0, 40), patience=2)
    told = Told({0: 0.4, 2: 0.3, 4: 0.5, 6: 0.6, 8: 0.6, 10: 0.55})

    def fitted(folder: Path, method: Toy, watching: Told = told, training: Training = training) -> int:
        return fit(method, Pictures(), training, folder, MACHINE, watching=watching)  # type: ignore[arg-type]

    assert fitted(tmp_path / "a", Toy()) == 10
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupting(6), Pictures(), replace(training, patience=0, keep=(6,), look=100), tmp_path / "plain", MACHINE)
    kept = {path.name: path for path in (tmp_path / "a" / "checkpoints").iterdir()}
    assert set(kept) == {"step-0", "step-6"}
    plain = tmp_path / "plain" / "checkpoints" / "step-6" / "model.safetensors"
    assert (kept["step-6"] / "model.safetensors").read_bytes() == plain.read_bytes()
    # Nothing is done again, and a run that was interrupted ends at the same place with the same bytes.
    assert fitted(tmp_path / "a", Toy()) == 10
    for stop in (5, 8):
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / f"b{stop}", Interrupting(stop))
        assert fitted(tmp_path / f"b{stop}", Toy()) == 10
        assert files(tmp_path / f"b{stop}") == files(tmp_path / "a")
    # Without annotations there is nothing to be patient with.
    blind = Told(dict.fromkeys(range(0, 14, 2)))
    assert fitted(tmp_path / "c", Toy(), blind, replace(training, steps=12, keep=(12,))) == 12


def test_looks_go_on_after_a_kill(tmp_path: Path) -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (20, 3, 16, 16)).astype(np.uint8))
    training = replace(TRAINING, look=2, keep=())
    run(tmp_path / "a", training, watching=Watch(pictures))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", training, method=Interrupting(8), watching=Watch(pictures))
    run(tmp_path / "b", training, watching=Watch(pictures))
    assert files(tmp_path / "a") == files(tmp_path / "b")


class Interrupting(Dying):
    def after_step(self, at: Moment) -> None:
        if at.step == self.last:
            raise KeyboardInterrupt
        Toy.after_step(self, at)


def test_wrong_batches_and_metrics_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are not the 8 of the settings"):
        fit(Toy(), Pictures(4), TRAINING, tmp_path / "a")

    class Fickle(Toy):
        def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = super().step(batch, at)
            return loss, metrics if at.step != 1 else {}

    with pytest.raises(ValueError, match="the same metrics in every step"):
        run(tmp_path / "b", method=Fickle())


def test_an_error_of_the_data_arrives(tmp_path: Path) -> None:
    class Ending(Pictures):
        def batches(self, step: int = 0) -> Iterator[Clips]:
            for k, batch in enumerate(super().batches(step)):
                if k == 5:
                    raise FoveateError("this file is damaged", file="part.mp4")
                yield batch

    with pytest.raises(FoveateError, match=r"part\.mp4: this file is damaged"):
        fit(Toy(), Ending(), TRAINING, tmp_path, MACHINE)
    run(tmp_path)


# --- what is told ----------------------------------------------------------------------------------------------------------------


def test_lines_tell_speed_and_loss(tmp_path: Path) -> None:
    lines: list[Line] = []
    run(tmp_path, say=lines.append)
    assert [line.step for line in lines] == [4, 8, 12]
    assert all(line.rate > 0 and line.memory > 10**7 and 0 < (line.mfu or 0) < 1 for line in lines)
    text = str(lines[1])
    assert (
        text.startswith("step 8 of 12 · loss ") and "(entropy 1." in text and "images/s" in text and "% of the machine" in text
    )
    assert "norm_" not in text and "lr" not in text


def test_operations_are_counted(tmp_path: Path) -> None:
    run(tmp_path, replace(TRAINING, steps=1, keep=()), method=Apart())
    facts = json.loads((tmp_path / "resume" / "step-00000001" / "state.json").read_text())["facts"]
    width, tokens, patch = CONFIG.width, 17, 3 * 4 * 4
    block = 2 * tokens * (4 * width * width + 2 * width * 2 * width) + 4 * tokens * tokens * width
    forward = 8 * (CONFIG.depth * block + 2 * 16 * patch * width + 2 * width * 6)
    student = 3 * forward - 8 * 2 * 16 * patch * width  # no gradient of the pictures
    assert facts["operations"] == pytest.approx(student + forward, rel=0.05)


def test_the_limit_is_that_of_a_matrix_product() -> None:
    limit = product_limit(torch.device("cpu"), bf16=False)
    a = torch.rand(512, 512)
    import time

    start = time.perf_counter()
    for _ in range(5):
        a @ a
    assert 0.2 < (5 * 2 * 512**3 / (time.perf_counter() - start)) / limit < 2


def test_time_left_is_readable() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3700, 90_000)] == ["0 s", "1 min 0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
    speed = Speedometer(100, 10, torch.device("cpu"), bf16=False)
    speed.start(40)
    line = speed.line(50, {"loss": 1.0})
    assert line.mfu is None and line.left == pytest.approx(50 * 10 / line.rate)


def test_optional_packages_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(FoveateError, match="tensorboard is missing"):
        run(tmp_path / "a", machine=Machine(tensorboard=True))
    with pytest.raises(FoveateError, match="wandb is missing"):
        run(tmp_path / "b", machine=Machine(wandb="sheep"))


def test_other_boards_get_what_metrics_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    told: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "logs" / "tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def close(self) -> None:
            told.append(("closed", 0.0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    run(tmp_path / "run", replace(TRAINING, keep=()), replace(MACHINE, tensorboard=True), logs=tmp_path / "logs")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [value for name, value, _ in told if name == "loss"] == [line["loss"] for line in lines]
    assert {"images_per_second", "mfu", "memory"} <= {name for name, _, _ in told} and told[-1][0] == "closed"


def test_states_are_newest_two_and_nothing_else(tmp_path: Path) -> None:
    method = Toy()
    made = optimiser.made(method.param_groups(), TRAINING)
    world = parallel.World(0, 1, torch.device("cpu"))
    for step in (1, 2, 10, 30):
        checkpoint.save(tmp_path, step, method, made, {"a": step}, world)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000030"]
    assert checkpoint.load(tmp_path, method, made) == (30, {"a": 30})
    write_json(tmp_path / "step-00000030" / "state.json", {})
    assert checkpoint.load(tmp_path, method, made) == (10, {"a": 10})
