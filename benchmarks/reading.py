"""How fast is strided reading? Every 10th frame at 256 px (short side) against decoding alone, one thread each, same run.

Needs the ffmpeg program as reference. Decoding is measured twice: by ffmpeg (``-threads 1 -f null``) and by PyAV, whose libraries the
reader uses. Times are CPU seconds of the process, so that other load on the machine disturbs little; repetitions alternate.

    FOVEATE_DATA=... python benchmarks/reading.py
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
from cells import RESULTS, footage, write_cell

from foveate import video
from foveate.video import Timeline, read_frames, read_timeline

STRIDE, SHORT_SIDE = 10, 256
CLIPS = ("edgetam_examples/01_dog", "edgetam_examples/05_landing_dog_soccer", "dlc_openfield/m3v1mp4", "sleap/dance")


def generated(folder: Path, seconds: int) -> Path:
    """A long 720p clip: moving test picture with film grain, libx264 with its usual settings."""
    path = folder / "generated.mp4"
    picture = f"testsrc2=size=1280x720:rate=25:duration={seconds},noise=alls=10:allf=t"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", "-c:v", "libx264", str(path)]
    subprocess.run(command, check=True)
    return path


def by_ffmpeg(path: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    subprocess.run([*command, "-f", "null", "-"], check=True)


def by_pyav(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def by_reader(path: Path, timeline: Timeline) -> None:
    scale = SHORT_SIDE / min(timeline.width, timeline.height)
    size = round(timeline.width * scale), round(timeline.height * scale)
    wanted = timeline.frame[::STRIDE]
    assert sum(1 for _ in read_frames(path, timeline, wanted, size=size)) == len(wanted)


def cpu_seconds(work: Callable[[], None]) -> float:
    def used() -> float:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    before = used()
    work()
    return used() - before


def measure(path: Path, repeats: int) -> dict[str, object]:
    """Frames per CPU second of each way, and our share of decoding alone."""
    timeline = read_timeline(path)

    def without_skipping() -> None:
        kept, video._SKIPPABLE = video._SKIPPABLE, ()
        by_reader(path, timeline)
        video._SKIPPABLE = kept

    ways = {
        "ffmpeg_decode": lambda: by_ffmpeg(path),
        "pyav_decode": lambda: by_pyav(path),
        "reader": lambda: by_reader(path, timeline),
        "reader_decoding_all": without_skipping,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            times[name].append(cpu_seconds(work))
    rate = {name: round(len(timeline) / statistics.median(values), 1) for name, values in times.items()}
    return {
        "frames": len(timeline),
        "size": [timeline.width, timeline.height],
        "codec": timeline.codec,
        "source_frames_per_cpu_second": rate,
        "reader_to_ffmpeg_decode": [round(r / o, 3) for r, o in zip(times["ffmpeg_decode"], times["reader"], strict=True)],
        "reader_to_pyav_decode": [round(r / o, 3) for r, o in zip(times["pyav_decode"], times["reader"], strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=120, help="length of the generated clip")
    options = parser.parse_args()
    paths = [footage() / "clips" / f"{name}.mp4" for name in CLIPS]
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with tempfile.TemporaryDirectory() as folder:
        results = {p.stem: measure(p, options.repeats) for p in [generated(Path(folder), options.seconds), *paths]}
    ratios = {name: statistics.median(result["reader_to_ffmpeg_decode"]) for name, result in results.items()}  # type: ignore[call-overload]
    load = [round(v, 2) for v in os.getloadavg()]
    write_cell(
        RESULTS / "reading.json",
        {
            "what": f"every {STRIDE}th frame at {SHORT_SIDE} px against decoding alone, one thread, CPU seconds",
            "ffmpeg": version,
            "load_average_at_end": load,
            "median_share_of_ffmpeg_decode": {name: round(value, 3) for name, value in ratios.items()},
            "clips": results,
        },
    )
    for name, value in ratios.items():
        print(f"{name:28} {value:.2f} x decode-only")
    sys.exit(0 if min(ratios.values()) >= 0.9 else "below 0.9 of decode-only")


if __name__ == "__main__":
    main()
