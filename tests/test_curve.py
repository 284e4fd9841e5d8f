"""The learning curve: nested parts, ends at the probe's own score, knows nothing of the animals left out, survives a kill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from foveate.actions import curve, probe, training
from foveate.actions.windows import moments
from foveate.project import Project
from foveate.schema import FoveateError
from tests import probed

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    animals = [["a"], ["b"], ["c"], ["d"], ["e", "f"], ["g"], ["h"]]
    project = probed.make(tmp_path_factory.mktemp("curve"), animals, splits=["train"] * 6 + ["test"], noise=1.0)
    probe.run(project)
    return project


@pytest.fixture(scope="module")
def drawn(study: Project, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    patch = pytest.MonkeyPatch()
    patch.setattr(curve, "DRAWS", 2)
    patch.setattr(curve, "SHARES", (0.1, 0.5))
    done = curve.run(study)
    patch.undo()
    return pd.read_csv(done.path("curve.csv"), dtype={"size": str})


def test_it_ends_at_the_score_of_the_probe(study: Project, drawn: pd.DataFrame) -> None:
    scores = pd.read_csv(study.folder / "probes" / "default" / "scores.csv").set_index(["split", "view", "behaviour"])
    assert list(drawn.columns) == list(curve.COLUMNS)
    for row in drawn[drawn["size"] == "all"].itertuples():
        own = scores.loc[("cv", "*", row.behaviour)]
        assert row.f1 == pytest.approx(own["f1"], abs=1e-5) and row.gain == 0
        assert (row.low, row.high) == pytest.approx((own["f1_low"], own["f1_high"]), abs=0.03)  # another bootstrap
    whole = drawn[drawn["size"] == "all"].iloc[0]
    assert whole["animals"] == pytest.approx((7 * 3 - 7) / 3)  # each animal is left out of one of three folds
    assert whole["minutes"] == pytest.approx(whole["animals"] * probed.FRAMES * probed.STEP / 60, rel=1e-4)


def test_more_annotation_helps_where_there_is_something_to_learn(drawn: pd.DataFrame) -> None:
    macro = drawn[drawn["behaviour"] == "*macro"].set_index(["axis", "size"])
    assert macro.loc[("minutes", "0.1"), "f1"] < macro.loc[("minutes", "0.5"), "f1"] < macro.loc[("minutes", "all"), "f1"]
    assert 2 <= macro.loc[("animals", "2"), "animals"] <= 3 and macro.loc[("animals", "2"), "f1"] > 0
    assert macro.loc[("minutes", "0.5"), "minutes"] == pytest.approx(macro.loc[("minutes", "all"), "minutes"] / 2, rel=1e-4)
    assert (macro["low"] <= macro["f1"]).all() and (macro["f1"] <= macro["high"]).all()


def test_parts_are_nested_and_unbroken(study: Project) -> None:
    data = training.load(study, study.config.probe)
    use = np.arange(len(data.rows.keys))
    parts = [curve._stretches(data, use, share, np.random.default_rng(5)) for share in (0.1, 0.3, 1.0)]
    assert set(parts[0]) < set(parts[1]) < set(parts[2]) == set(use)
    keys = moments(data.rows.keys.iloc[parts[0]]).keys
    for _, own in keys.groupby(["video", "subject"]):
        assert len(own) == 8  # a tenth of 80, and at most one break, where it goes on at the beginning
        assert (np.diff(own["frame"]) != 5).sum() <= 1


def test_the_animals_left_out_are_not_looked_at(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part is fitted on and what it is scored on share no group."""
    data = training.load(study, study.config.probe)
    seen = []

    def watch(data: Any, use: Any, held: Any, group: Any, settings: Any) -> Any:
        assert not set(group[use]) & set(group[held])
        seen.append(len(set(group[use])))
        return np.zeros((max(data.groups.values()) + 1, len(data.behaviours), 3), dtype=np.int64)

    monkeypatch.setattr(curve, "_score", watch)
    points = curve.ladder(data)
    assert [p.name for p in points] == ["animals-2", "minutes-0.125", "minutes-0.25", "minutes-0.5"]
    for k in range(data.folds):
        curve._fold(study.folder / f"unused-{k}", data, k, points, study.config.probe, lambda done, total: None)
        (study.folder / f"unused-{k}").unlink()
    assert min(seen) == 2 and max(seen) == 5


def test_killed_and_resumed_gives_the_same_bytes(study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "DRAWS", 1)
    monkeypatch.setattr(curve, "SHARES", (0.2,))
    shutil.copytree(study.folder, tmp_path / "again")
    again = Project.load(tmp_path / "again")
    shutil.rmtree(again.folder / "probes" / "default" / "curve", ignore_errors=True)
    wanted = curve.run(again).path("curve.csv").read_bytes()
    shutil.rmtree(again.folder / "probes" / "default" / "curve")
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 4:  # in the second of three folds
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curve.run(again, progress=stop)
    assert not curve.artefact(again).complete()
    done: list[int] = []
    found = curve.run(again, progress=lambda d, t: done.append(d))
    assert found.path("curve.csv").read_bytes() == wanted and len(done) == 4  # two folds of two points
    assert probe.artefact(again).complete()


def test_too_few_animals_and_no_probe(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"]])
    with pytest.raises(FoveateError, match="the probe is missing"):
        curve.run(project)
    probe.run(project)
    with pytest.raises(FoveateError, match="at least three groups"):
        curve.run(project)
    assert probe.artefact(project).complete() and not curve.artefact(project).folder.exists()


def test_sentence() -> None:
    def rows(gain: float, low: str, high: str) -> list[dict[str, str]]:
        part = {"axis": "animals", "size": "2", "animals": "2", "behaviour": "*macro"}
        part |= {"gain": str(gain), "gain_low": low, "gain_high": high}
        return [part, {**part, "size": "all", "animals": "5", "gain": "0"}]

    assert "from 2 to 5 annotated animals it changed by +0.10" in curve.sentence(rows(0.1, "0.02", "0.2"))
    assert "still rising" in curve.sentence(rows(0.1, "0.02", "0.2"))
    assert "No gain was shown" in curve.sentence(rows(0.1, "-0.02", "0.2"))
    assert "too few independent animals" in curve.sentence(rows(0.1, "", ""))
    assert curve.sentence([]) == ""
