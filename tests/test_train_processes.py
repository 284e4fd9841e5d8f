"""Several processes are one: the same weights, metrics, states and kept backbones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import processes


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    processes.main(one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*torchrun, "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "tests.processes", str(two)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return one, two


@pytest.mark.slow
@pytest.mark.timeout(900)  # two processes that wait for each other take long on a busy machine
@pytest.mark.parametrize("case", processes.CASES)
def test_two_processes_are_one(both: tuple[Path, Path], case: str) -> None:
    one, two = (folder / case for folder in both)
    state = Path("resume") / "step-00000004" / "tensors.safetensors"
    first, second = load_file(one / state), load_file(two / state)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        different = (tensor - second[name]).abs() / max(1.0, float(tensor.abs().max()))
        if name.removesuffix(".exp_avg").endswith("attn.qkv.bias"):
            # Attention does not depend on the keys' biases: their gradient is rounding, of which AdamW makes whole steps.
            different[len(tensor) // 3 : 2 * len(tensor) // 3] = 0
        assert different.max() < 1e-5, f"{name}: {different.max()}"
    kept = [load_file(folder / "checkpoints" / "step-4" / "model.safetensors") for folder in (one, two)]
    for name, tensor in kept[0].items():
        assert "key.bias" in name or "k_proj.bias" in name or torch.allclose(tensor, kept[1][name], atol=1e-5), name
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [2, 4]
    for ours, theirs in zip(*lines, strict=True):
        same = {name for name in ours if name != "prototypes"}  # counted in a process's part of the batch
        assert {name: ours[name] for name in same} == pytest.approx({name: theirs[name] for name in same}, rel=1e-4)
