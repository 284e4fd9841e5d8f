"""The learning curve of a finished demo, and what it costs.

foveate demo demo && python benchmarks/learning_curve.py demo
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from cells import RESULTS, write_cell

from foveate.actions import curve
from foveate.actions.scores import MACRO
from foveate.project import Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a finished demo")
    project = Project.load(parser.parse_args().folder)
    torch.set_num_threads(1)
    curve.artefact(project).discard()
    started = time.process_time()
    done = curve.run(project)
    seconds = time.process_time() - started
    table = pd.read_csv(done.path("curve.csv"), dtype={"size": str})
    rows = [{str(k): v for k, v in row.items()} for row in table.fillna("").to_dict("records")]
    macro = table[table["behaviour"] == MACRO].drop(columns="behaviour").round(4)
    result = {
        "what": "macro F1 on animals left out against annotation, demo, probe default",
        "cpu_seconds": round(seconds, 1),
        "draws": curve.DRAWS,
        "points": macro.to_dict("records"),
        "sentence": curve.sentence([{k: str(v) for k, v in row.items()} for row in rows]),
    }
    write_cell(RESULTS / "learning_curve.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
