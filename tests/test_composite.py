"""The scorer of benchmarks/composite.py on a track made by hand: what counts, and when an absence counts as marked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foveate import masks
from foveate.store import write_parquet

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "composite_score.py"


@pytest.fixture(scope="module")
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("composite_score", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def square(x: int, side: int = 20) -> bytes:
    mask = np.zeros((360, 640), np.bool_)
    mask[100 : 100 + side, x : x + side] = True
    return masks.encode(mask)


NOBODY = masks.encode(np.zeros((360, 640), np.bool_))


def write(folder: Path, truth: list[tuple[str, float, bytes, bytes]], rows: list[tuple[str, bytes | None]]) -> None:
    """truth: kind, share shown, mask, mask of the other; rows: state, mask."""
    table = [
        {"frame": 5 * i, "time": i / 2, "kind": kind, "shown": shown, "rle": mask, "other": other}
        for i, (kind, shown, mask, other) in enumerate(truth)
    ]
    found = [{"frame": 5 * i, "state": state, "rle": mask} for i, (state, mask) in enumerate(rows)]
    write_parquet(folder / "truth" / "composite.parquet", pa.Table.from_pylist(table))
    write_parquet(folder / "tracks" / "composite" / "part-00000.parquet", pa.Table.from_pylist(found))


def test_an_absence_by_hand(scorer: ModuleType, tmp_path: Path) -> None:
    """2 s present, one frame hardly shown, 10 s gone, 3 s present; marked 1 s late, one ghost, found again .5 s late."""
    own = square(50)
    truth = [("open", 1.0, own, NOBODY)] * 4 + [("absence", 0.1, square(50, 6), NOBODY)]
    truth += [("absence", 0.0, NOBODY, NOBODY)] * 20 + [("absence", 1.0, own, NOBODY)] * 6
    rows: list[tuple[str, bytes | None]] = [("tracked", own)] * 4 + [("uncertain", own), ("lost", None), ("uncertain", own)]
    rows += [("absent", None)] * 18 + [("absent", None)] + [("tracked", own)] * 5
    write(tmp_path, truth, rows)
    result: dict[str, Any] = scorer.score(tmp_path)
    assert result["absences"] == [{"start": 2.5, "stop": 12.5, "start_delay": 1.0, "stop_delay": 0.5, "ghosts": 1}]
    assert (result["marked_within_1_s"], result["ends_of_absences"]) == (2, 2)
    assert (result["present_frames"], result["not_counted_frames"], result["gone_frames"]) == (10, 1, 20)
    assert (result["false_absences"], result["false_absence_frames"]) == (1, 1)
    assert result["good"] == 0.9 and result["by_kind"]["absence"]["good"] == pytest.approx(5 / 6, abs=1e-4)
    scorer.show(result)


def test_an_absence_never_marked(scorer: ModuleType, tmp_path: Path) -> None:
    """A subject that is never said to be absent, and one that is never found again."""
    own = square(50)
    truth = [("absence", 1.0, own, NOBODY)] * 2 + [("absence", 0.0, NOBODY, NOBODY)] * 12 + [("absence", 1.0, own, NOBODY)] * 4
    write(tmp_path, truth, [("tracked", own)] * 2 + [("lost", None)] * 16)
    (absence,) = scorer.score(tmp_path)["absences"]
    assert absence["start_delay"] is None and absence["stop_delay"] is None


def test_masks_on_another_subject(scorer: ModuleType, tmp_path: Path) -> None:
    """A mask that has more of the look-alike than of its own subject; half of one is not enough for either."""
    own, other = square(50), square(200)
    truth = [("look-alike", 1.0, own, other)] * 3
    write(tmp_path, truth, [("tracked", own), ("tracked", other), ("tracked", square(300))])
    result = scorer.score(tmp_path)
    assert result["wrong_subject_frames"] == 1
    assert result["by_kind"]["look-alike"] == {"frames": 3, "good": 0.3333, "J": 0.3333}


def test_every_frame_has_its_row(scorer: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, [("open", 1.0, square(50), NOBODY)] * 2, [("tracked", square(50))])
    with pytest.raises(AssertionError):
        scorer.score(tmp_path)
