"""How many damaged annotation files does foveate read without ever falling over?

Small good files of every format, with one to six random changes each, go through everything between a file and the labels. A run ends at
the first traceback, problem without file or remedy, or bout outside its video; none of these is caught. netCDF is fuzzed as version 3 only:
the HDF5 of version 4 is read in a process for each file, because its library does crash on damage.

    python benchmarks/fuzz_annotations.py --count 1000000 --json benchmarks/results/annotations/fuzz.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import cells

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.mangled import make_study, mutations


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=3000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    warnings.simplefilter("error")
    began = time.perf_counter()
    formats: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, _, bouts, problems in mutations(make_study(Path(folder)), given.count, given.seed):
            found = formats.setdefault(name, {"mutations": 0, "with_bouts": 0, "with_problems": 0, "silent": 0})
            found["mutations"] += 1
            found["with_bouts"] += bouts > 0
            found["with_problems"] += problems > 0
            found["silent"] += not bouts and not problems
    seconds = time.perf_counter() - began
    result = {"mutations": given.count, "seed": given.seed, "seconds": round(seconds, 1), "tracebacks": 0, "formats": formats}
    print(f"{given.count} damaged files in {seconds:.0f} s, none fell over")
    for name, found in formats.items():
        print(f"  {name:24}", found)
    if given.json:
        cells.write_cell(given.json, result)


if __name__ == "__main__":
    main()
