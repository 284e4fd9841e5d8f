"""IDF1 against py-motmetrics, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foveate.evaluate.identity import identities
from foveate.masks import Mask

GOLDEN = json.loads((Path(__file__).parent / "golden" / "idf1.json").read_text(encoding="utf-8"))
Frame = tuple[dict[str, Mask], dict[str, Mask]]


def strip(start: int, length: int) -> Mask:
    mask = np.zeros((1, 60), np.bool_)
    mask[0, start : start + length] = True
    return mask


def recording(case: int) -> list[Frame]:
    """Up to three animals in a row, some frames without one or without its mask, everybody renamed at some time, now and then a ghost."""
    rng = np.random.default_rng(case)
    people, frames = int(rng.integers(1, 4)), int(rng.integers(3, 20))
    names = [str(k) for k in rng.permutation(people + 1)]
    swap, out = int(rng.integers(frames)), []
    for t in range(frames):
        true, found = {}, {}
        for k in range(people):
            x = 10 * k + int(rng.integers(3))
            if rng.random() < 0.85:
                true[str(k)] = strip(x, 8)
            if rng.random() < 0.85:
                found[names[(k + 1) % people if t >= swap else k]] = strip(x + int(rng.integers(5)), 8)
        if rng.random() < 0.2:
            found[names[people]] = strip(34, 5)
        out.append((true, found))
    return out


def test_golden() -> None:
    for case, (f1, precision, recall, agreed) in enumerate(GOLDEN["cases"]):
        ours = identities(recording(case))
        assert ours.agreed == agreed
        # The package leaves shares of nothing undefined.
        for mine, theirs in ((ours.f1, f1), (ours.precision, precision), (ours.recall, recall)):
            assert theirs is None or mine == pytest.approx(theirs, abs=1e-9)


def test_a_swap_costs_what_comes_after_it() -> None:
    """Ten frames of two animals, the names exchanged from the seventh on: six frames of ten agree."""
    a, b = strip(0, 8), strip(20, 8)
    frames: list[Frame] = [({"a": a, "b": b}, {"a": a, "b": b} if t < 6 else {"a": b, "b": a}) for t in range(10)]
    assert identities(frames).f1 == pytest.approx(0.6)
    frames = [({"a": a, "b": b}, {"a": b, "b": a})] * 10
    assert identities(frames).f1 == 1
    assert identities(frames).named == {"a": "b", "b": "a"}
    assert identities(frames, named_alike=True).f1 == 0


def test_empty() -> None:
    nothing, mask = np.zeros((1, 60), np.bool_), strip(3, 4)
    assert identities([]).f1 == 1
    assert identities([({"a": nothing}, {})]).f1 == 1
    missed, ghost = identities([({"a": mask}, {"a": nothing})]), identities([({}, {"a": mask})])
    assert (missed.f1, missed.recall, missed.precision) == (0, 0, 0)
    assert (ghost.f1, ghost.found, ghost.true) == (0, 1, 0)
