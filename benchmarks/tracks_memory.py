"""Does memory stay flat when the track of a long video is taken over and written for other programs?

Small footage at two frames a second with an animal in every frame: a minute, and two hours. Its track is imported from
VIA-tracks CSV, then exported in every format, each in a process of its own that notes the largest memory it ever had (resident,
as the system counts it).

python benchmarks/tracks_memory.py [--minutes 1 120]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from cells import RESULTS, write_cell

import foveate.api as fv
from foveate import timeline, track
from foveate.exchange.formats import SUFFIXES
from foveate.exchange.via import HEADER
from foveate.project import Project
from foveate.videowriter import VideoWriter

WIDTH, HEIGHT, RATE = 160, 120, 2


def prepare(folder: Path, minutes: float) -> None:
    """Footage, project and a file with tracks."""
    folder.mkdir()
    frames = round(minutes * 60 * RATE)
    with VideoWriter(folder / "v.mp4", WIDTH, HEIGHT, rate=RATE, crf=35) as writer:
        for k in range(frames):
            writer.write(np.full((HEIGHT, WIDTH, 3), 60 + k % 100, np.uint8))
    (folder / "videos.csv").write_text("video,path\nv,v.mp4\n")
    (folder / "foveate.yaml").write_text(yaml.safe_dump({"analyse": {"every": 1}, "track": {"method": "motion"}}))
    with open(folder / "v.csv", "w") as out:
        out.write(",".join(HEADER) + "\n")
        for k in range(frames):
            x, y = 60 + 30 * np.sin(k / 40), 40 + 20 * np.cos(k / 31)
            shape = f'{{""name"": ""rect"", ""x"": {x:.3f}, ""y"": {y:.3f}, ""width"": 50, ""height"": 40}}'
            out.write(f'v_0{k}.png,0,"{{}}",1,0,"{shape}","{{""track"": 1}}"\n')


def work(folder: Path, what: str) -> None:
    """One step; the largest memory in MB is the last line of the output."""
    project = Project.load(folder)
    if what == "import":
        timeline.run(project, project.videos[0])
        fv.import_tracks(folder / "v.csv", project=project)
    elif what == "track":
        track.run(project, project.videos[0])
    elif what == "nothing":
        track.artefact(project, project.videos[0]).complete()
        import h5netcdf  # noqa: F401  # so that only the data makes a difference
        import pycocotools.mask  # noqa: F401
    else:
        fv.export(folder / f"out-{what}{SUFFIXES[what]}", what, project)  # type: ignore[arg-type]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 120])
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(Path(given.work[0]), given.work[1])
        return
    steps = ("nothing", "import", "track", *SUFFIXES)
    largest: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for minutes in given.minutes:
            folder = Path(name) / f"{minutes:g}"
            prepare(folder, minutes)
            for step in ("import", "track", "nothing", *SUFFIXES):
                command = [sys.executable, __file__, "--work", str(folder), step]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                largest.setdefault(step, {})[f"{minutes:g}"] = round(float(done.stdout.split()[-1]), 1)
                print(step, minutes, largest[step], flush=True)
    first, last = (f"{minutes:g}" for minutes in (given.minutes[0], given.minutes[-1]))
    more = {step: round(largest[step][last] - largest[step][first], 1) for step in steps}
    write_cell(RESULTS / "tracks_memory.json", {"minutes": given.minutes, "largest_mb": largest, "more_mb": more})


if __name__ == "__main__":
    main()
