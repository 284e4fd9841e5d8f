"""How fast is the vision transformer of our own? Against `transformers`' `Dinov2Model` of the same shape (ViT-S/14, random weights), and a
packed pass over crops of two sizes against separate passes and against padding, in training.

Everything runs in turns within one process, one torch thread, in CPU seconds; each ratio is that of two neighbours in the same round.

    python benchmarks/vit_speed.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from cells import RESULTS, write_cell

from foveate.bench import Ratio, compared, packing, trained
from foveate.models.vit import Seen, Vit, sized

CPU = torch.device("cpu")

CROPS = {"2 x 224 + 8 x 98 px, 2 pictures": (2, 224, 2, 98, 8), "2 x 112 + 4 x 56 px, 8 pictures": (8, 112, 2, 56, 4)}


def forward(model: torch.nn.Module, pictures: torch.Tensor) -> None:
    with torch.inference_mode():
        model(pictures)


def seen(out: Any) -> Seen:
    """What a model of `transformers` makes of pictures, as ours says it."""
    tokens = out.last_hidden_state
    return Seen(tokens[:, 0], tokens[:, :0], tokens[:, 1:])


def told(ratio: Ratio) -> dict[str, Any]:
    return {
        "times_faster": round(ratio.times_faster, 3),
        "smallest_and_largest": [round(ratio.least, 3), round(ratio.most, 3)],
        "seconds": [round(value, 4) for value in ratio.seconds],
    }


def crops(vit: Vit, dropping: Vit, name: str, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Training on crops of two sizes, packed, against the other ways."""
    batch, large_side, large_count, small_side, small_count = shape
    large = torch.randn(batch * large_count, 3, large_side, large_side)
    small = torch.randn(batch * small_count, 3, small_side, small_side)
    separate, padded = packing(vit, large, small, rounds)
    fewer, packed = (partial(trained, model, partial(model.many, [large, small])) for model in (dropping, vit))
    return {
        f"training, {name}: packed against separate": told(separate),
        f"training, {name}: packed against padded": told(padded),
        f"training, {name}: packed, 40 % left out against packed": told(compared(fewer, packed, rounds, CPU)),
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
        found[f"forward, {count} of {size} px: ours against transformers"] = told(
            compared(partial(forward, vit, pictures), partial(forward, theirs, pictures), rounds, CPU)
        )
    pictures = torch.randn(4, 3, 224, 224)
    ours_trained = partial(trained, vit, lambda: [vit(pictures)])
    theirs_trained = partial(trained, theirs, lambda: [seen(theirs(pictures))])
    found["training, 4 of 224 px: ours against transformers"] = told(compared(ours_trained, theirs_trained, rounds, CPU))
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
