"""Does RSPNet learn to tell speeds? On real clips of videos that it was not trained on; chance is a half.

    python benchmarks/rspnet_speed.py --work FOLDER      # needs FOVEATE_DATA; goes on where it was stopped

A small C3D is trained on 64 px from random weights, on five videos and five sequences of DAVIS, and asked on two other videos and the three
other sequences: of a clip and two others of the same video, one at its own speed and one at the other, which is it more like by the head of
motion? Nothing was chosen on what it is asked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray

from foveate.data.clips import Shape
from foveate.data.masked import folder_sources
from foveate.data.pairs import Crops
from foveate.data.sampler import Sampler
from foveate.data.sources import Source
from foveate.methods.moment import Moment
from foveate.methods.rspnet import Rspnet, RspnetConfig
from foveate.models.convnets import ConvConfig, ConvNet
from foveate.schedules import Schedule, constant
from foveate.train import loop
from foveate.train.settings import Machine, Training

HELD_OUT = ("dance", "02_hummingbird", "dance-jump", "lucia", "rollerblade")
SIDE, SHORT = 64, 80  # pixels of a crop, and of the pictures' short side
CLIPS = Shape(16, 1 / 15, draws=2, piece=1.5)  # the network sees eight frames of sixteen
CONFIG = RspnetConfig(
    crops=Crops(size=SIDE, jitter=1.0, blur=0.0), dimension=32, queue=256, momentum=0.99, groups=1, reference=0
)
STEPS, BATCH, ASKED = 400, 16, 40  # batches that are asked
TRAINING = Training(
    steps=STEPS, batch=BATCH, lr=Schedule(0.02, 2e-5), decay=constant(1e-4), optimiser="sgd", clip=None, keep=(STEPS,), log=10, look=STEPS,
)  # fmt: skip


def sources(data: Path) -> tuple[list[Source], list[Source]]:
    """To train on, and to be asked on."""
    folders = [path for path in sorted((data / "clips").iterdir()) if path.is_dir() and path.name != "bsoid_mouse"]
    found = [source for folder in folders for source in folder_sources(folder, short_side=SHORT, together=12)]
    found += folder_sources(data / "davis2016" / "JPEGImages" / "480p", short_side=SHORT)
    missing = set(HELD_OUT) - {source.name for source in found}
    if missing:
        raise SystemExit(f"not in FOVEATE_DATA: {', '.join(sorted(missing))}")
    return [one for one in found if one.name not in HELD_OUT], [one for one in found if one.name in HELD_OUT]


@torch.inference_mode()
def asked(method: Rspnet, held: list[Source]) -> NDArray[np.float64]:
    """How often each held-out video's clips were told, 0..1."""
    method.train(False)
    right: dict[int, list[bool]] = {}
    data = Sampler(held, BATCH, 11, shape=CLIPS, workers=1)
    for step, batch in zip(range(ASKED), data.batches(), strict=False):
        at = Moment(step, ASKED, ASKED, 12, BATCH)
        pair = method.pair(batch, at)
        motion = [method.encoder(pair.query.pictures)[1][1]]
        motion += [method.key_encoder(method._played(pair.key.pictures, at, other=other))[1][1] for other in (False, True)]
        told = (motion[0] * motion[1]).sum(1) > (motion[0] * motion[2]).sum(1)
        for video, one in zip(batch.where[:, 0, 0, 0].tolist(), told.tolist(), strict=True):
            right.setdefault(video, []).append(one)
    return np.array([[np.mean(right[k]), len(right[k])] for k in sorted(right)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work / "rspnet-speed"
    torch.set_num_threads(1)
    train, held = sources(footage())
    torch.manual_seed(0)
    method = Rspnet(ConvNet(ConvConfig("c3d", 8)), CONFIG)
    before = asked(method, held)
    method.train(True)
    data = Sampler(train, BATCH, 0, shape=CLIPS, workers=1)
    loop.fit(method, data, TRAINING, work, Machine(save=20, workers=1), say=lambda line: print(line, flush=True))
    after = asked(method, held)
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    result: dict[str, Any] = {
        "what": "RSPNet in miniature: speeds told on clips of videos that were not trained on",
        "chance": 0.5,
    }
    for name, found in (("before", before), ("after", after)):
        share = found[:, 0]
        # Videos are drawn again, not clips: those of one video are not independent.
        drawn = np.random.default_rng(0).integers(len(share), size=(10_000, len(share)))
        low, high = np.quantile(share[drawn].mean(1), [0.025, 0.975])
        result[name] = {
            "mean": round(float(share.mean()), 3),
            "interval over videos": [round(float(low), 3), round(float(high), 3)],
        }
        result[name]["videos"] = {held[k].name: [round(float(one), 3), int(number)] for k, (one, number) in enumerate(found)}
    result["trained on"] = {
        "videos": [one.name for one in train],
        "clips": data.count,
        "passes": round(STEPS / data.steps_per_pass, 1),
    }
    result["told in training"] = [round(line["speeds"], 3) for line in lines if "speeds" in line]
    write_cell(RESULTS / "previts" / "speeds.json", result)
    print(result["before"], result["after"], flush=True)


if __name__ == "__main__":
    main()
