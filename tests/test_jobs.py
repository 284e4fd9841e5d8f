"""Worker processes: results, failures kept apart, dead workers replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.jobs import Done, Failure, Pool, Task
from foveate.project import Project, Video
from foveate.schema import FoveateError

HERE = "tests.test_jobs"


def run(project: Project, video: Video, *, progress: object) -> None:
    """A stage that does what the video's name says."""
    assert callable(progress)
    progress(1, 2)
    if video.name == "wrong":
        raise FoveateError("wrong on purpose", file=video.path, row=video.row, remedy="none")
    if video.name == "bug":
        raise KeyError("bug")
    if video.name == "full":
        raise OSError(28, "No space left on device", "x.bin")
    if video.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if video.name == "sleeps":
        (project.folder / "worker.pid").write_text(str(os.getpid()))
        time.sleep(60)
    (project.folder / video.name).write_text(os.environ.get("OMP_NUM_THREADS", ""))
    progress(2, 2)


class Seen:
    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int]] = []
        self.done: list[str] = []

    def update(self, item: str, done: int, total: int) -> None:
        self.updates.append((item, done, total))

    def finished(self, item: str) -> None:
        self.done.append(item)


NAMES = ("a", "wrong", "b", "bug", "full", "c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = (*NAMES, "dies", "sleeps")
    (tmp_path / "foveate.yaml").write_text("name: x\n")
    (tmp_path / "videos.csv").write_text("video,path\n" + "".join(f"{n},{n}.mp4\n" for n in names))
    return tmp_path


def tasks(names: tuple[str, ...]) -> list[Task]:
    return [Task("test", name, HERE, {"video": name}) for name in names]


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_kept_apart(folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    names = NAMES if workers == 1 else (*NAMES, "dies", "a")
    seen = Seen()
    with Pool(folder, workers) as pool:
        results = list(pool.run(tasks(names), seen))
    failures = {r.item: r.error for r in results if isinstance(r, Failure)}
    assert set(failures) == {"wrong", "bug", "full"} | ({"dies"} if workers == 2 else set())
    assert (
        failures["wrong"].row == 3 and "unexpected KeyError" in str(failures["bug"]) and "disk is full" in str(failures["full"])
    )
    assert sum(isinstance(r, Done) for r in results) == len(names) - len(failures)
    assert sorted(seen.done) == sorted(names) and ("a", 2, 2) in seen.updates
    if workers == 2:
        assert "exit code -9" in str(failures["dies"])


def test_workers_end_with_their_parent(folder: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom foveate.jobs import Pool, Task\nfrom tests.test_jobs import Seen, tasks\n"
        "if __name__ == '__main__':\n"
        "    with Pool(Path(sys.argv[1]), 2) as pool: list(pool.run(tasks(('sleeps', 'a')), Seen()))\n"
    )
    script = folder / "main.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)
    pid_file = folder / "worker.pid"
    wait_for(pid_file.exists)
    wait_for(lambda: pid_file.read_text() != "")
    worker = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(worker))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
