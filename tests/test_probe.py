"""The probe on planted vectors: windows, honesty of choices and scores, sides, faults, and identical bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from foveate import annotations
from foveate.actions import metrics, probe, selection, training
from foveate.actions.bouts import Strip
from foveate.actions.logistic import Windows
from foveate.actions.windows import moments, series_of, video_windows, window_index
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import ProbeSettings
from foveate.store import read_parquet, write_text
from tests import probed

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Six training videos of five animals in two views, one test video; subject e is out of sight for a while in one view."""

    def lost(video: str, view: str, subject: str) -> NDArray[np.int64]:
        return np.arange(20, 30) if (view, subject) == ("top", "e") else np.arange(0)

    animals = [["a"], ["a"], ["b"], ["c"], ["d", "e"], ["f"], ["g"]]
    project = probed.make(
        tmp_path_factory.mktemp("study"), animals, splits=["train"] * 6 + ["test"], views=("bottom", "top"), lost=lost
    )
    probe.run(project)
    return project


def scores(project: Project, name: str = "default") -> pd.DataFrame:
    return (
        pd.read_csv(probe.artefact(project, name).checked("scores.csv")).set_index(["split", "view", "behaviour"]).sort_index()
    )


def copy(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder, folder)
    return Project.load(folder)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- windows ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    keep=st.floats(0.3, 1),
    half=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_windows_against_the_definition(lengths: list[int], keep: float, half: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(s, p) for s, n in enumerate(lengths) for p in range(n) if rng.random() < keep]
    if not rows:
        return
    series, position = (np.array(column) for column in zip(*rows, strict=True))
    found = window_index(series, position, 2 * half + 1)
    where = {row: i for i, row in enumerate(rows)}
    for i, (s, p) in enumerate(rows):
        for d in range(-half, half + 1):
            step, q = (1 if d > 0 else -1), p
            for _ in range(abs(d)):
                q = q + step if (s, q + step) in where else q  # stays at the last frame before a gap or an end
            assert found[i, d + half] == where[s, q]


def test_window_of_one_is_the_frame(study: Project) -> None:
    video = study.videos[0]
    keys, _, design = video_windows(study, video, ProbeSettings(window=1))
    _, _, wide = video_windows(study, video, ProbeSettings(window=5))
    np.testing.assert_array_equal(design.gather(slice(0, design.rows)), design.vectors)
    np.testing.assert_array_equal(wide.gather(slice(0, wide.rows))[:, 12:18], design.vectors)  # the middle of five
    assert list(zip(keys["view"], keys["frame"], strict=True)) == sorted(zip(keys["view"], keys["frame"], strict=True))


def test_window_one_probe_is_the_frame_probe(study: Project) -> None:
    """The final weights of the window-1 probe are those of a plain regression on frames, at the penalty it chose."""
    name = study.config.probe.model_copy(update={"window": 1})
    done = probe.run(study, "frame", name)
    fitted = probe.load_probe(study, "frame", name)
    data = training.load(study, name)
    rows = np.flatnonzero(data.of_rows({v.name: 1 for v in data.train}, missing=0))
    x = data.rows.design.vectors[data.rows.design.index[rows, 0]].astype(np.float64)
    z = (x - x.mean(0)) / x.std(0)
    final = json.loads(done.checked("probe.json").read_text())["models"][0]
    for k in range(3):
        c = 1 / (final["penalties"][k] * len(rows))
        reference = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(z, data.rows.truth[rows, k])
        ours = 1 / (1 + np.exp(-(x @ fitted.weight[0, k] + fitted.bias[0, k])))
        np.testing.assert_allclose(ours, reference.predict_proba(z)[:, 1], atol=1e-4)


def test_a_window_sees_what_a_frame_cannot(study: Project) -> None:
    probe.run(study, "frame", study.config.probe.model_copy(update={"window": 1}))
    frame = pd.read_csv(study.folder / "probes" / "frame" / "scores.csv").set_index(["split", "view", "behaviour"]).sort_index()
    wide = scores(study)
    for split in ("cv", "test"):
        assert wide.loc[(split, "*", "turn"), "average_precision"] > frame.loc[(split, "*", "turn"), "average_precision"] + 0.2


# --- what is chosen, and on what -------------------------------------------------------------------------------------------------


def planted(
    seed: int, views: int = 1, groups: int = 5, rows: int = 40
) -> tuple[Windows, NDArray[np.int8], pd.DataFrame, NDArray[np.int64]]:
    """Two labels; ``views`` neighbouring rows show the same moment."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rows)
    row = np.arange(len(group))
    hidden = rng.normal(size=(len(group) // views, 2)).repeat(views, 0)
    x = np.column_stack([hidden, rng.normal(size=(len(group), 3))]) + rng.normal(size=(groups, 5))[group] * 0.5
    truth = (hidden + rng.normal(size=(len(group) // views, 2)).repeat(views, 0) > 1).astype(np.int8)
    x += rng.normal(size=x.shape)
    names = {
        "video": [f"v{g}" for g in group],
        "view": [f"view{k}" for k in row % views],
        "subject": "s",
        "frame": row // views,
    }
    return Windows(x, row[:, None]), truth, pd.DataFrame(names | {"time": row // views * 0.5}), group


def select(
    design: Windows, truth: NDArray[np.int8], keys: pd.DataFrame, group: NDArray[np.int64], penalties: tuple[float, ...]
) -> selection.Model:
    together = moments(keys)
    found = together.keys
    position = found["frame"].to_numpy()
    strip = Strip.of(series_of(found), position, found["time"].to_numpy(), np.full(len(found), 0.5))
    return selection.select(design, truth, np.ones(len(truth), dtype=bool), together, strip, group, penalties, 5, False)


@pytest.mark.parametrize("views", [1, 2])
def test_choice_is_that_of_a_plain_nested_loop(views: int) -> None:
    """Penalty and threshold against a straightforward implementation with scikit-learn."""
    design, truth, keys, group = planted(3, views)
    penalties = (1e-3, 1e-1, 10.0)
    model = select(design, truth, keys, group, penalties)
    x = design.vectors
    z = (x - x.mean(0)) / x.std(0)  # folds share the standardisation of the rows given
    told = truth[::views]
    for k in range(2):
        loss, left_out = [], []
        for penalty in penalties:
            logit = np.empty(len(z))
            for g in range(5):  # five folds of five groups: one each
                fit = group != g
                reference = LogisticRegression(C=1 / (penalty * fit.sum()), tol=1e-9, max_iter=10_000)
                logit[~fit] = reference.fit(z[fit], truth[fit, k]).decision_function(z[~fit])
            p = 1 / (1 + np.exp(-logit.reshape(-1, views).mean(1)))
            left_out.append(p)
            loss.append(-np.mean(np.where(told[:, k] == 1, np.log(p), np.log(1 - p))))
        best = int(np.argmin(loss))
        assert model.penalty[k] == penalties[best]
        assert model.threshold[k] == pytest.approx(metrics.best_threshold(told[:, k], left_out[best]), abs=1e-4)
    assert model.chosen.all() and model.converged.all()


def test_labels_do_not_influence_each_other() -> None:
    design, truth, keys, group = planted(4)
    other = truth.copy()
    other[:, 1] = np.random.default_rng(0).permutation(other[:, 1])
    a, b = (select(design, t, keys, group, (0.01, 1.0)) for t in (truth, other))
    np.testing.assert_allclose(a.weight[0], b.weight[0], atol=1e-6)
    assert a.threshold[0] == pytest.approx(b.threshold[0], abs=1e-6) and a.penalty[0] == b.penalty[0]
    twice = select(design, truth[:, [0, 0]], keys, group, (0.01, 1.0))
    np.testing.assert_allclose(twice.weight[0], twice.weight[1], atol=1e-7)


def test_nothing_of_the_left_out_fold_is_known(study: Project, tmp_path: Path) -> None:
    """Other labels for one group (its own, backwards in time) change no probability and no decision that its fold gave for it."""
    project = copy(study, tmp_path / "turned")
    before = probe.artefact(study).table("folds.parquet").to_pandas()
    path = project.folder / "annotations" / "labels.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()]
    end = probed.FRAMES * probed.STEP
    for row in rows:
        if row[0] == "v2":
            row[3], row[4] = str(end - float(row[4])), str(end - float(row[3]))
    write_text(path, "\n".join(map(",".join, rows)) + "\n")
    annotations.run(project)
    probe.run(project)
    after = probe.artefact(project).table("folds.parquet").to_pandas()
    assert (before["model"] == after["model"]).all()
    mine = (before["video"] == "v2").to_numpy()
    assert (before.loc[mine, "true_eat"] != after.loc[mine, "true_eat"]).mean() > 0.2
    for behaviour in probed.BEHAVIOURS:
        for column in (f"prob_{behaviour}", f"pred_{behaviour}"):
            np.testing.assert_array_equal(before.loc[mine, column], after.loc[mine, column])
    fold = before.loc[mine, "model"].iloc[0]
    others = (before["split"] == "cv") & (before["model"] != fold)
    assert np.abs(before.loc[others, "prob_eat"] - after.loc[others, "prob_eat"]).max() > 0.05


def test_labels_without_information_score_like_chance(tmp_path: Path) -> None:
    """Vectors of pure noise: nested scores stay at chance although thresholds and penalties are chosen."""
    project = probed.make(tmp_path, [[c] for c in "abcdefgh"], noise=1e3)
    probe.run(project)
    for behaviour in ("eat", "lie"):
        row = scores(project).loc[("cv", "*", behaviour)]
        assert row["average_precision"] < row["chance"] + 0.1
        assert row["f1"] < 2 * row["chance"] / (1 + row["chance"]) + 0.05  # calling everything present
        assert row["f1_low"] <= row["f1"] <= row["f1_high"]


# --- sides and scores ------------------------------------------------------------------------------------------------------------


def test_folds_are_whole_groups_and_scores_are_theirs(study: Project) -> None:
    done = probe.artefact(study)
    table = done.table("folds.parquet").to_pandas()
    fold_of = table[table["split"] == "cv"].groupby("video")["model"].unique()
    assert all(len(models) == 1 for models in fold_of)
    assert fold_of["v0"] == fold_of["v1"]  # both of animal a
    assert set(table.loc[table["split"] == "test", "model"]) == {"final"} and set(
        table.loc[table["split"] == "test", "video"]
    ) == {"v6"}
    found = scores(study)
    for split in ("cv", "test"):
        for view in ("*", "bottom", "top"):
            rows = table[(table["split"] == split) & (table["view"] == view)]
            for b in probed.BEHAVIOURS:
                use = rows[rows[f"true_{b}"] >= 0]
                tp = ((use[f"true_{b}"] == 1) & (use[f"pred_{b}"] == 1)).sum()
                wrong = (use[f"true_{b}"] != use[f"pred_{b}"]).sum()
                assert found.loc[(split, view, b), "f1"] == pytest.approx(2 * tp / (2 * tp + wrong), abs=1e-5)
            assert found.loc[(split, view, "*macro"), "f1"] == pytest.approx(
                found.loc[(split, view)].drop("*macro")["f1"].mean(), abs=1e-5
            )
    assert (
        found.loc[("cv", "*pooled", "eat"), "rows"]
        == found.loc[("cv", "top", "eat"), "rows"] + found.loc[("cv", "bottom", "eat"), "rows"]
    )
    assert found.loc[("cv", "*", "eat"), "rows"] == 7 * probed.FRAMES  # the view that sees e is enough
    assert found.loc[("cv", "top", "eat"), "rows"] == 7 * probed.FRAMES - 10
    assert found.loc[("cv", "*", "*macro"), "f1"] > 0.6
    assert done.facts()["folds"] == 3 and done.facts()["groups"] == 5


def test_views_are_joined_by_mean_logit(study: Project) -> None:
    table = probe.artefact(study).table("folds.parquet").to_pandas()
    one = table[(table["video"] == "v4") & (table["subject"] == "e")].set_index(["view", "frame"])
    logit = np.log(one["prob_eat"] / (1 - one["prob_eat"]))
    both, alone = 5 * 5, 5 * 25
    assert logit["*", both] == pytest.approx((logit["top", both] + logit["bottom", both]) / 2, abs=1e-3)
    assert ("top", alone) not in logit.index
    assert logit["*", alone] == pytest.approx(logit["bottom", alone], abs=1e-6)


def test_without_a_split_there_is_no_test(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"], ["c"]])
    done = probe.run(project)
    assert set(scores(project).index.get_level_values("split")) == {"cv"}
    assert done.facts()["macro_f1"]["test"] is None and done.facts()["test_videos"] == 0
    assert scores(project)["f1_low"].isna().all()  # three groups: no interval


def test_fewer_groups_than_folds_is_noted(tmp_path: Path) -> None:
    done = probe.run(probed.make(tmp_path, [["a"], ["b"], ["b"]]))
    assert done.facts()["folds"] == 2
    assert any("2 groups of training videos, so 2 folds instead of 3" in note for note in done.facts()["notes"])
    # Each fold trains on one group, so nothing can be chosen inside it.
    assert not np.isnan(pd.read_csv(done.path("scores.csv"))["f1"]).any()


def test_one_group_only_has_no_score(tmp_path: Path) -> None:
    done = probe.run(probed.make(tmp_path, [["a"], ["a"]]))
    assert done.facts()["folds"] == 0 and done.facts()["macro_f1"] == {"cv": None, "test": None}
    assert any("no cross-validation" in note for note in done.facts()["notes"])
    assert len(pd.read_csv(done.path("scores.csv"))) == 0
    assert done.table("folds.parquet").num_rows == 0


def test_group_video_lets_an_animal_stand_on_both_sides(tmp_path: Path) -> None:
    project = probed.make(
        tmp_path, [["a"], ["a"], ["a"]], splits=["train", "train", "test"], settings={"probe": {"group": "video"}}
    )
    facts = probe.run(project).facts()
    assert facts["folds"] == 2 and facts["macro_f1"]["test"] is not None
    assert any("known animals" in note for note in facts["notes"])


def test_a_test_video_that_shares_an_animal_is_refused(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"], ["a"]], splits=["train", "train", "test"])
    with pytest.raises(FoveateError, match="animal 'a' would be on two sides") as caught:
        probe.run(project)
    assert caught.value.row == 4 and str(caught.value.file).endswith("videos.csv") and caught.value.remedy
    assert not (project.folder / "probes" / "default").exists()


# --- rare and missing behaviours -------------------------------------------------------------------------------------------------


def test_rare_and_absent_behaviours(tmp_path: Path) -> None:
    """``lie`` occurs in one group: learned, listed, not scored. ``turn`` never occurs: left out and said."""
    project = probed.make(tmp_path, [["a"], ["b"], ["c"], ["d"]], only_in={"lie": [1], "turn": []})
    facts = probe.run(project).facts()
    assert facts["behaviours"] == ["eat", "lie"]
    (problem,) = facts["problems"]
    assert "'turn' occurs in no frame" in problem["problem"] and problem["remedy"]
    table = scores(project)
    lie = table.loc[("cv", "*", "lie")]
    assert lie["scored"] == 0 and lie["f1"] == 0 and lie["groups"] == 1 and "too rare" in lie["note"]
    assert table.loc[("cv", "*", "*macro"), "f1"] == table.loc[("cv", "*", "eat"), "f1"]
    assert lie["threshold"] == 0.5 and lie["penalty"] == 0.1  # nothing could be chosen for it
    assert any(note.startswith("lie: ") for note in facts["notes"])
    assert not table[["f1", "precision", "recall", "average_precision"]].isna().any().any()


def test_a_behaviour_that_the_test_videos_lack(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"], ["c"], ["d"]], splits=["train"] * 3 + ["test"], only_in={"lie": [0, 1, 2]})
    probe.run(project)
    row = scores(project).loc[("test", "*", "lie")]
    assert row["scored"] == 0 and row["f1"] == 0 and "does not occur in the test videos" in row["note"]
    assert scores(project).loc[("cv", "*", "lie"), "scored"] == 1


def test_nothing_to_learn_is_an_error(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"]])
    rows = "video,subject,behaviour,start,stop\nv0,a,eat,0,40\nv1,b,eat,0,40\n"  # always; the others never
    write_text(project.folder / "annotations" / "labels.csv", rows)
    annotations.run(project)
    with pytest.raises(FoveateError, match="there is nothing to learn"):
        probe.run(project)


def test_all_annotated_videos_are_test_videos(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="all annotated videos are test videos"):
        probe.run(probed.make(tmp_path, [["a"], ["b"]], splits=["test", "test"]))


def test_an_animal_never_seen_is_noted(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"], ["c"]], lost=lambda v, _, s: np.arange(probed.FRAMES if s == "c" else 0))
    facts = probe.run(project).facts()
    assert any("v2: the animal was never seen" in note for note in facts["notes"]) and facts["train_videos"] == 2


def test_unobserved_time_is_neither_present_nor_absent(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"], ["c"]])
    observed = "video,subject,behaviour,start,stop\nv0,a,eat,0,20\nv0,a,lie,0,20\nv0,a,turn,0,20\n"
    write_text(project.folder / "annotations" / "observed.csv", observed)
    annotations.run(project)
    probe.run(project)
    table = probe.artefact(project).table("folds.parquet").to_pandas()
    mine = table[(table["video"] == "v0") & (table["view"] == "*")]
    assert len(mine) == 40 and mine["time"].max() < 20


# --- the artefact ----------------------------------------------------------------------------------------------------------------


def test_same_bytes_twice_and_after_an_interruption(study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = copy(study, tmp_path / "again")
    wanted = tree(study.folder / "probes" / "default")
    shutil.rmtree(again.folder / "probes")
    real: Callable[..., Any] = selection.select
    calls = []

    def killed(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(selection, "select", killed)
    with pytest.raises(KeyboardInterrupt):
        probe.run(again)
    assert not probe.artefact(again).complete()
    probe.run(again)
    assert len(calls) == 5  # four probes, the interrupted one twice
    assert tree(again.folder / "probes" / "default") == wanted


def test_stamp_follows_what_matters(study: Project, tmp_path: Path) -> None:
    stamp = probe.artefact(study).stamp
    assert probe.artefact(study, "default", study.config.probe.model_copy(update={"window": 5})).stamp != stamp
    assert probe.artefact(study, "default", study.config.probe.model_copy(update={"source": "frame"})).stamp != stamp
    moved = copy(study, tmp_path / "moved")
    text = (moved.folder / "videos.csv").read_text()
    write_text(moved.folder / "videos.csv", text.replace("v5,v5.mp4,train", "v5,v5.mp4,test"))
    assert probe.artefact(Project.load(moved.folder)).stamp != stamp
    write_text(moved.folder / "videos.csv", text + "new,new.mp4,,,z\n")
    (moved.folder / "footage" / "new.mp4").write_bytes(b"more")
    assert probe.artefact(Project.load(moved.folder)).stamp == stamp  # new footage without annotation undoes nothing


def test_baselines_are_further_probes(study: Project) -> None:
    done = probe.run(study, "full_frame", study.config.probe.model_copy(update={"source": "frame", "feature": "cls"}))
    assert done.folder.name == "full_frame" and done.settings["source"] == "frame"
    with pytest.raises(FoveateError, match="there is no probe 'unheard'"):
        probe.run(study, "unheard")


def test_a_damaged_probe_is_named(study: Project, tmp_path: Path) -> None:
    project = copy(study, tmp_path / "damaged")
    path = project.folder / "probes" / "default" / "probe.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"12345678")
    with pytest.raises(FoveateError, match="damaged") as caught:
        probe.load_probe(project)
    assert caught.value.file == path


def test_a_video_without_vectors_is_left_out(study: Project, tmp_path: Path) -> None:
    """A file that failed in an earlier stage must not cost the probe of the others."""
    project = copy(study, tmp_path / "missing")
    before = probe.artefact(project).stamp
    for folder in (project.folder / "embeddings").glob("*/v3"):
        shutil.rmtree(folder)
    found = probe.run(project)
    assert found.stamp != before and any("v3" in note and "left out" in note for note in found.facts()["notes"])
    assert "v3" not in set(read_parquet(found.path("folds.parquet"))["video"].to_pylist())
    for folder in (project.folder / "embeddings").glob("*/*"):
        shutil.rmtree(folder)
    with pytest.raises(FoveateError, match="none of the annotated videos has vectors"):
        probe.run(project)
