"""How fast is the vision transformer of our own? Against `transformers`' `Dinov2Model` of the same shape (ViT-S/14, random weights), and a
packed pass over crops of two sizes against separate passes and against padding, in training.

Everything runs in turns within one process, one torch thread, in CPU seconds; each ratio is that of two neighbours in the same round.

    python benchmarks/vit_speed.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from cells import RESULTS, write_cell

from foveate.models.vit import Seen, Vit, sized

CROPS = {"2 x 224 + 8 x 98 px, 2 pictures": (2, 224, 2, 98, 8), "2 x 112 + 4 x 56 px, 8 pictures": (8, 112, 2, 56, 4)}


def cls(out: Any) -> torch.Tensor:
    return out.cls if isinstance(out, Seen) else out.last_hidden_state[:, 0]


def forward(model: torch.nn.Module, pictures: torch.Tensor) -> None:
    with torch.inference_mode():
        model(pictures)


def trained(model: torch.nn.Module, passes: Callable[[], list[Any]]) -> None:
    """Forward and backward."""
    model.zero_grad()
    torch.stack([cls(out).square().mean() for out in passes()]).sum().backward()


def padded(vit: Vit, large: torch.Tensor, small: torch.Tensor) -> list[Seen]:
    """What padding costs: small crops as long as the large ones (without the mask that a real one needs, which costs more)."""
    side = large.shape[-1]
    return [vit(torch.cat((large, small.new_zeros(len(small), 3, side, side))))]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(one: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    """CPU seconds of both and how many times faster the first one is."""
    one(), other()
    first, second = [], []
    for k in range(rounds):  # turns change places, so that neither always comes after the other
        for work, kept in ((one, first), (other, second))[:: 1 if k % 2 else -1]:
            kept.append(seconds(work))
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    return {
        "times_faster": round(statistics.median(ratios), 3),
        "smallest_and_largest": [round(min(ratios), 3), round(max(ratios), 3)],
        "seconds": [round(statistics.median(first), 4), round(statistics.median(second), 4)],
    }


def crops(vit: Vit, dropping: Vit, name: str, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Training on crops of two sizes, packed, against the other ways."""
    batch, large_side, large_count, small_side, small_count = shape
    large = torch.randn(batch * large_count, 3, large_side, large_side)
    small = torch.randn(batch * small_count, 3, small_side, small_side)
    packed = partial(trained, vit, partial(vit.many, [large, small]))
    separate = partial(trained, vit, lambda: [vit(large), vit(small)])
    fewer = partial(trained, dropping, partial(dropping.many, [large, small]))
    return {
        f"training, {name}: packed against separate": compared(packed, separate, rounds),
        f"training, {name}: packed against padded": compared(
            packed, partial(trained, vit, partial(padded, vit, large, small)), max(3, rounds // 3)
        ),
        f"training, {name}: packed, 40 % left out against packed": compared(fewer, packed, rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = [round(value, 2) for value in os.getloadavg()]
    config = sized("small")
    vit, dropping = Vit(config), Vit(sized("small", drop_path=0.4, drop_uniform=True))
    same = {"hidden_size": config.width, "num_hidden_layers": config.depth, "num_attention_heads": config.heads}
    theirs = transformers.Dinov2Model(transformers.Dinov2Config(**same, image_size=224, patch_size=14))
    found: dict[str, Any] = {}
    for size, count in ((224, 4), (98, 24)):
        pictures = torch.randn(count, 3, size, size)
        found[f"forward, {count} of {size} px: ours against transformers"] = compared(
            partial(forward, vit, pictures), partial(forward, theirs, pictures), rounds
        )
    pictures = torch.randn(4, 3, 224, 224)
    found["training, 4 of 224 px: ours against transformers"] = compared(
        lambda: trained(vit, lambda: [vit(pictures)]), lambda: trained(theirs, lambda: [theirs(pictures)]), rounds
    )
    for name, shape in CROPS.items():
        found |= crops(vit, dropping, name, shape, rounds)
    write_cell(
        RESULTS / "vit_speed.json",
        {
            "what": "the vision transformer of our own (ViT-S/14, float32, 1 torch thread), CPU seconds; training is forward and backward",
            "load_average_at_start": load,
            "rounds": rounds,
            **found,
        },
    )
    for name, value in found.items():
        print(f"{value['times_faster']:.3f}  {name}")
    slowest = min(value["times_faster"] for name, value in found.items() if "transformers" in name)
    sys.exit(
        0 if slowest >= 0.95 else "slower than transformers"
    )  # both are nearly all matrix products: less is the machine's noise


if __name__ == "__main__":
    main()
