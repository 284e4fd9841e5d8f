"""Predictions: which model, which frames, views together, bouts and budgets that add up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from foveate import annotations, schema
from foveate.actions import predict, probe
from foveate.project import Project
from foveate.schema import FoveateError
from tests import probed

torch.set_num_threads(1)
SECONDS = probed.FRAMES * probed.STEP


def lost(video: str, view: str, subject: str) -> NDArray[np.int64]:
    """Of e, one view misses a stretch, the other a later one, and both the last frames."""
    gone = {"top": [20, 21, 22, 78, 79], "bottom": [40, 41, 78, 79]}
    return np.array(gone[view] if subject == "e" else [], dtype=np.int64)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Annotated: five training videos, one test video; not annotated: one of a known animal, one of a new one."""
    animals = [["a"], ["a"], ["b"], ["c"], ["d", "e"], ["f"], ["a"], ["g"]]
    splits = ["train"] * 5 + ["test", "", ""]
    project = probed.make(
        tmp_path_factory.mktemp("study"), animals, splits=splits, annotated=6, views=("bottom", "top"), lost=lost
    )
    probe.run(project)
    for video in project.videos:
        predict.run(project, video)
    return project


def table(project: Project, name: str) -> pd.DataFrame:
    return predict.artefact(project, project.video(name)).table("predictions.parquet").to_pandas()


def test_every_analysed_frame_view_and_subject(study: Project) -> None:
    done = predict.artefact(study, study.video("v4")).table("predictions.parquet")
    assert done.schema.equals(schema.prediction_schema(probed.BEHAVIOURS))
    rows = done.to_pandas()
    assert len(rows) == probed.FRAMES * 3 * 2
    keys = list(zip(rows["frame"], rows["view"], rows["subject"], strict=True))
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    for _, one in rows.groupby(["view", "subject"]):
        assert one["duration"].sum() == pytest.approx(SECONDS)


def test_not_seen_is_null_and_minus_one(study: Project) -> None:
    rows = table(study, "v4")
    unseen = rows["state"].isin(["lost", "absent"])
    assert unseen.sum() == 5 + 4 + 2
    for b in probed.BEHAVIOURS:
        assert (rows[f"prob_{b}"].isna() == unseen).all()
        assert ((rows[f"pred_{b}"] == -1) == unseen).all()
        assert rows.loc[~unseen, f"prob_{b}"].between(0, 1).all()
    both = rows[(rows["view"] == "*") & (rows["subject"] == "e")]
    assert both.loc[both["frame"] < 78 * 5, "state"].isin(["tracked", "prompted"]).all()  # one view is enough
    assert (both.loc[both["frame"] >= 78 * 5, "state"] == "lost").all()


def test_all_views_is_the_mean_logit_of_those_that_see(study: Project) -> None:
    rows = table(study, "v4").set_index(["subject", "view", "frame"]).sort_index()
    logit = np.log(rows["prob_lie"] / (1 - rows["prob_lie"]))
    assert logit["e", "*", 50] == pytest.approx((logit["e", "top", 50] + logit["e", "bottom", 50]) / 2, abs=1e-3)
    assert logit["e", "*", 105] == pytest.approx(logit["e", "bottom", 105], abs=1e-6)  # top does not see it there
    assert logit["e", "*", 200] == pytest.approx(logit["e", "top", 200], abs=1e-6)


def test_training_videos_are_predicted_by_their_fold(study: Project) -> None:
    """Predictions of labelled frames are the out-of-fold ones that the scores were made of, bit for bit."""
    fitted = probe.load_probe(study)
    told = probe.artefact(study).table("folds.parquet").to_pandas()
    for video in study.videos:
        rows = table(study, video.name)
        (model,) = set(rows["model"])
        assert model == fitted.folds.get(video.name, "final")
        known = told[told["video"] == video.name]
        joined = known.merge(rows, on=["video", "view", "subject", "frame"], suffixes=("", "_now"), validate="one_to_one")
        assert len(joined) == len(known)
        for b in probed.BEHAVIOURS:
            assert (joined[f"prob_{b}"] == joined[f"prob_{b}_now"]).all()
            assert (joined[f"pred_{b}"] == joined[f"pred_{b}_now"]).all()
        assert (joined["model"] == joined["model_now"]).all()
    assert set(fitted.folds) == {"v0", "v1", "v2", "v3", "v4"}


def test_a_video_without_a_fold_of_its_own_is_marked(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["a"], ["b"]], annotated=2)
    probe.run(project)
    models = [predict.run(project, video).facts()["model"] for video in project.videos]
    assert models == ["final-fitted", "final-fitted", "final"]


def test_bouts_and_budget_add_up(study: Project) -> None:
    for video in study.videos:
        done = predict.artefact(study, video)
        bouts = done.table("bouts.parquet")
        assert bouts.schema.equals(schema.BOUTS)
        found, rows = bouts.to_pandas(), table(study, video.name)
        budget = pd.read_csv(done.checked("budget.csv"))
        assert len(budget) == len(video.subjects) * 3
        for line in budget.to_dict("records"):
            mine = rows[(rows["view"] == "*") & (rows["subject"] == line["subject"])]
            on = mine[mine[f"pred_{line['behaviour']}"] == 1]
            own = found[(found["subject"] == line["subject"]) & (found["behaviour"] == line["behaviour"])]
            assert line["seconds"] == pytest.approx(on["duration"].sum()) == pytest.approx((own["stop"] - own["start"]).sum())
            assert line["bouts"] == len(own)
            assert line["seen_seconds"] == pytest.approx(SECONDS - (1.0 if line["subject"] == "e" else 0.0))
            for bout in own.to_dict("records"):
                inside = on[(on["time"] >= bout["start"]) & (on["time"] < bout["stop"])]
                assert bout["probability"] == pytest.approx(inside[f"prob_{line['behaviour']}"].mean(), abs=1e-5)


def test_predictions_find_the_planted_behaviour(study: Project) -> None:
    """An animal that was never annotated: most of what was planted is found."""
    rows = table(study, "v7")
    rows = rows[rows["view"] == "*"]
    truth = probed.truth(7, "g", "", {}, {})
    hit = (rows["pred_eat"].to_numpy() == 1) & (truth[:, 0] == 1)
    assert 2 * hit.sum() / ((rows["pred_eat"] == 1).sum() + truth[:, 0].sum()) > 0.8


def test_same_bytes_twice(study: Project, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "again")
    again = Project.load(tmp_path / "again")
    done = again.folder / "predictions" / "default" / "v4"
    before = {path.name: path.read_bytes() for path in done.iterdir()}
    shutil.rmtree(done)
    predict.run(again, again.video("v4"))
    assert {path.name: path.read_bytes() for path in done.iterdir()} == before


def test_an_animal_that_is_never_seen(tmp_path: Path) -> None:
    project = probed.make(
        tmp_path, [["a"], ["b"], ["c"]], annotated=2, lost=lambda v, _, s: np.arange(probed.FRAMES * (s == "c"))
    )
    probe.run(project)
    done = predict.run(project, project.video("v2"))
    rows = done.table("predictions.parquet").to_pandas()
    assert len(rows) == 2 * probed.FRAMES and (rows["pred_eat"] == -1).all() and rows["prob_eat"].isna().all()
    assert done.table("bouts.parquet").num_rows == 0 and done.facts()["seen"] == 0
    assert (pd.read_csv(done.checked("budget.csv"))["seen_seconds"] == 0).all()


def test_export(study: Project, tmp_path: Path) -> None:
    count = predict.export(study, tmp_path / "bouts.csv")
    rows = pd.read_csv(tmp_path / "bouts.csv")
    assert count == len(rows) == sum(len(predict.load_bouts(study, video)) for video in study.videos)
    assert list(rows.columns) == ["video", "subject", "behaviour", "start", "stop", "probability", "predicted_by"]
    assert set(rows["predicted_by"]) == {"predicted by foveate, probe default"}
    assert predict.export(study, tmp_path / "one.csv", videos=["v7"]) == len(predict.load_bouts(study, study.video("v7")))
    with pytest.raises(FoveateError, match="cannot export to 'bors'"):
        predict.export(study, tmp_path / "typo.csv", to="bors")  # type: ignore[arg-type]
    assert not (tmp_path / "typo.csv").exists()
    predict.export(study, tmp_path / "boris.csv", to="boris")
    assert (tmp_path / "boris.csv").read_text().startswith("Observation id,")
    predict.export(study, tmp_path / "flock.boris", to="boris-project")
    assert '"project_format_version": "7.0"' in (tmp_path / "flock.boris").read_text()


def test_exported_predictions_are_not_taken_for_annotations(study: Project, tmp_path: Path) -> None:
    """A CSV of predictions in annotations/ is refused and named, and changes no label; without the mark a person has taken it over."""
    shutil.copytree(study.folder, tmp_path / "own")
    project = Project.load(tmp_path / "own")
    before = annotations.load_labels(project).intervals
    exported = project.folder / "annotations" / "predictions.csv"
    predict.export(project, exported)
    (problem,) = annotations.run(project).facts()["problems"]
    assert problem["file"] == "annotations/predictions.csv" and "exported predictions, not annotations" in problem["problem"]
    assert "predicted_by" in problem["remedy"]
    pd.testing.assert_frame_equal(annotations.load_labels(project).intervals, before)
    pd.read_csv(exported).drop(columns="predicted_by").to_csv(exported, index=False)
    assert not annotations.run(project).facts()["problems"]
    assert len(annotations.load_labels(project).intervals) > len(before)


def test_missing_parents_are_named(study: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(study.folder, tmp_path / "bare")
    bare = Project.load(tmp_path / "bare")
    shutil.rmtree(bare.folder / "predictions" / "default" / "v7")
    with pytest.raises(FoveateError, match="video 'v7' is not predicted"):
        predict.export(bare, tmp_path / "bouts.csv", videos=["v7"])
    predict.export(bare, tmp_path / "bouts.csv")  # the others are written all the same, and the log says who is left out
    assert "1 of 8 videos are left out" in caplog.text
    assert set(pd.read_csv(tmp_path / "bouts.csv")["video"]) == {f"v{k}" for k in range(7)}
    shutil.rmtree(bare.folder / "tracks" / "v7")
    with pytest.raises(FoveateError, match="the track is missing"):
        predict.run(bare, bare.video("v7"))
    shutil.rmtree(bare.folder / "probes")
    with pytest.raises(FoveateError, match="the probe is missing"):
        predict.run(bare, bare.video("v7"))
