"""A project folder with annotation files and videos that need no decoding; shared by the tests of annotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate import annotations
from foveate.annotations import Labels, tables
from foveate.project import Project, Video

BORIS_TABULAR = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),Media duration (s),FPS,"
    "Subject,Behavior,Behavioral category,Behavior type,Time,Media file name,Image index,Image file path,Comment"
)
BORIS_AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,Media duration (s),"
    "FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,Behavioral category,Behavior type,Start (s),Stop (s),"
    "Duration (s),Media file name,Image index start,Image index stop,Image file path start,Image file path stop,Comment start,Comment stop"
)


def tabular_row(
    behaviour: str,
    status: str,
    time: object,
    *,
    subject: str = "",
    observation: str = "obs",
    source: str = "player #1:C:/footage/pen1.mp4",
    durations: str = "60.000",
    coded: str = "60.000",
    offset: str = "0.0",
) -> str:
    media = source.split(":", 1)[-1].split(";")[0]
    fps = ";".join(["25.000"] * len(durations.split(";")))
    return (
        f"{observation},2024-05-01 10:00:00.000,,{coded},Media file(s),{source},{offset},{durations},{fps},"
        f"{subject},{behaviour},,{status},{time},{media},NA,NA,"
    )


def aggregated_row(
    behaviour: str,
    start: object,
    stop: object,
    *,
    kind: str = "STATE",
    subject: str = "No focal subject",
    observation: str = "obs",
    source: str = "player #1:C:/footage/pen1.mp4",
    durations: str = "60.000",
    coded: str = "60.000",
    offset: str = "0.0",
) -> str:
    media = source.split(":", 1)[-1].split(";")[0]
    fps = ";".join(["25.000"] * len(durations.split(";")))
    return (
        f"{observation},2024-05-01 10:00:00,,Media file,{source},{offset},{coded},{durations},{fps},{subject},1.0,{behaviour},"
        f"Not defined,{kind},{start},{stop},NA,{media},NA,NA,,,,"
    )


class Study:
    """videos: name -> (seconds, subjects); every video is ``<name>.mp4``, which holds no video."""

    def __init__(self, folder: Path, videos: Mapping[str, tuple[float, str]], **config: Any) -> None:
        self.folder, self.lengths = folder, {name: seconds for name, (seconds, _) in videos.items()}
        self.starts: dict[str, list[float]] = {}  # of frames; by default 25 in a second
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        rows = ["video,path,subjects"]
        for name, (_, subjects) in videos.items():
            (folder / f"{name}.mp4").write_bytes(f"not decoded: {name}".encode())
            rows.append(f"{name},{name}.mp4,{subjects}")
        (folder / "videos.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        self.configure(**config)

    def configure(self, **config: Any) -> None:
        (self.folder / "foveate.yaml").write_text(yaml.safe_dump({"foveate": 1, **config}), encoding="utf-8")

    def annotate(self, name: str, *lines: str) -> Path:
        path = self.folder / "annotations" / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    @property
    def project(self) -> Project:
        return Project.load(self.folder)

    def duration(self, video: Video) -> float:
        return self.lengths[video.name]

    def times(self, video: Video) -> NDArray[np.float64]:
        length = self.lengths[video.name]
        return np.array(self.starts.get(video.name, np.arange(round(length * 25)) / 25))

    def run(self) -> dict[str, Any]:
        return annotations.run(self.project, duration=self.duration, times=self.times).facts()

    def labels(self) -> Labels:
        self.run()
        return annotations.load_labels(self.project)

    def bouts(self) -> list[tuple[Any, ...]]:
        """(video, subject, behaviour, start, stop, kind), times to the millisecond."""
        rows = self.labels().intervals
        return [
            (r.video, r.subject, r.behaviour, round(r.start, 3), round(r.stop, 3), r.kind) for r in rows.itertuples(index=False)
        ]

    def problems(self) -> list[str]:
        return [f"{p['file']}:{p['row']}: {p['problem']}" for p in self.run()["problems"]]


NAMES = st.sampled_from(["graze", "walk, slow", 'say "no"', "liegen – seitlich", "x|y"])


@st.composite
def bouts_of(draw: st.DrawFn, unit: float = 0.001) -> pd.DataFrame:
    """Bouts of schema.INTERVALS on a grid of ``unit`` seconds; those of one behaviour and subject do not overlap, but may touch."""
    rows = []
    for video, subject in (("pen1", "ewe"), ("pen2", "ewe"), ("pen2", "ram")):
        for behaviour in draw(st.lists(NAMES, unique=True, max_size=3)):
            limits = sorted(draw(st.lists(st.integers(0, 59_000), unique=True, max_size=8)))
            skip = draw(st.sampled_from([1, 2]))
            rows += [
                (video, subject, behaviour, a * unit, b * unit, "state", 0.75)
                for a, b in zip(limits[::skip], limits[1::skip], strict=False)
            ]
        for at in draw(st.lists(st.integers(0, 59_000), unique=True, max_size=3)):
            rows.append((video, subject, "bleat", at * unit, at * unit, "point", 0.5))
    rows = draw(st.permutations(rows))
    frame = pd.DataFrame(rows, columns=["video", "subject", "behaviour", "start", "stop", "kind", "probability"])
    return frame.round({"start": 3, "stop": 3})


def read_back(path: Path, project: Project) -> list[tuple[str, str, str, float, float, str]]:
    reading = annotations.read_file(
        path, project, tables.Videos.of(project), lambda v: 120.0, lambda v: np.arange(0.0, 120.0, 0.04)
    )
    assert not reading.problems and not reading.notes
    return sorted((e.video.name, e.subject, e.behaviour, e.start, e.stop, e.kind) for e in reading.entries)


def as_rows(bouts: pd.DataFrame) -> list[tuple[str, str, str, float, float, str]]:
    return sorted(bouts[["video", "subject", "behaviour", "start", "stop", "kind"]].itertuples(index=False, name=None))
