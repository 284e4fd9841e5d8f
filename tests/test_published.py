"""Recipe ``paper`` on planted vectors: what each score may look at, agreement with the ordinary table, resume, identical bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foveate import printed
from foveate.actions import labelwise, metrics, predict, probe, published, training, window_sweep
from foveate.actions.logistic import logits
from foveate.actions.windows import video_windows
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import ProbeSettings
from foveate.store import stamp_of
from tests import probed

torch.set_num_threads(1)

ANIMALS = [["a"], ["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]
PLAIN = {"probe": {"augment": "none"}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Five training videos of four animals in two views, two test videos."""
    folder = tmp_path_factory.mktemp("study")
    splits = ["train"] * 5 + ["test"] * 2
    project = probed.make(folder, ANIMALS, splits=splits, views=("bottom", "top"), settings=PLAIN)
    probe.run(project)
    probe.run(project, "paper")
    return project


def table(project: Project, name: str = "published.csv") -> pd.DataFrame:
    return pd.read_csv(probe.artefact(project, "paper").checked(name))


def macro(project: Project, score: str, rows_of: str) -> float:
    found = table(project).set_index(["score", "rows_of", "behaviour"]).sort_index()
    return float(found.loc[(score, rows_of, "*macro"), "f1"])


def test_the_default_probe_is_another_one(study: Project) -> None:
    assert probe.artefact(study).complete() and probe.artefact(study, "paper").complete()
    settings = study.config.probe
    assert not {"recipe", "augment", "copies", "reported"} & settings.relevant().keys()
    assert stamp_of("probe", 1, settings.relevant(), {}) == stamp_of(
        "probe", 1, settings.model_copy(update={"copies": 9, "augment": "paper"}).relevant(), {}
    )
    paper = probe.settings_of(study, "paper")
    assert (paper.recipe, paper.layer, paper.feature, paper.window) == ("paper", "both", "cls", settings.window)
    assert ProbeSettings.model_validate(paper.relevant()).layer == "both"


def test_a_baseline_can_be_published_too(tmp_path: Path) -> None:
    project = probed.make(tmp_path, ANIMALS, settings={**PLAIN, "baselines": {"paper": {"recipe": "paper", "window": 1}}})
    assert probe.settings_of(project, "paper").window == 1 and probe.settings_of(project, "paper").feature == "subject"
    with pytest.raises(FoveateError, match="no probe"):
        probe.settings_of(project, "other")


def test_its_scores_are_those_of_the_ordinary_table(study: Project) -> None:
    """``honest`` and the pooled rows of scores.csv are computed on different ways."""
    ordinary = pd.read_csv(probe.artefact(study, "paper").checked("scores.csv"))
    ordinary = ordinary[ordinary["view"] == "*pooled"].set_index(["split", "behaviour"])["f1"]
    ours = table(study)
    ours = ours[ours["score"] == "honest"].set_index(["rows_of", "behaviour"])["f1"]
    pd.testing.assert_series_equal(ours, ordinary.loc[ours.index], check_names=False, atol=1e-5)


def test_the_final_probe_is_the_merged_one(study: Project) -> None:
    """What is written works as a plain linear probe on both layers and gives each chosen source's logits for its label."""
    fitted = probe.load_probe(study, "paper")
    data = training.load(study, fitted.settings)
    views = labelwise.clean_views(data)
    jobs = labelwise.jobs(data, fitted.settings.seed)
    tried = labelwise.carry_out(jobs[0], views, views, fitted.settings.seed)
    merged = logits(data.rows.design.take(jobs[0].held), fitted.weight[0], fitted.bias[0])
    np.testing.assert_allclose(merged, tried.picked(), atol=1e-4)
    shown = table(study)
    shown = shown[(shown["score"] == "honest") & (shown["rows_of"] == "test") & (shown["behaviour"] != "*macro")]
    assert [(layer, rate) for layer, rate in zip(shown["layer"], shown["rate"], strict=True)] == [
        labelwise.named(int(c)) for c in tried.choice
    ]
    weight = fitted.weight[0].reshape(3, fitted.settings.window, 2, -1)
    for label, choice in enumerate(tried.choice):
        assert not weight[label, :, 1 - choice // 13].any() and weight[label, :, choice // 13].any()
    _, _, design = video_windows(study, study.videos[-1], fitted.settings)
    assert design.width == fitted.weight.shape[2]


def test_it_predicts_like_any_other(study: Project) -> None:
    video = study.videos[-1]
    found = predict.run(study, video, "paper").table("predictions.parquet").to_pandas()
    fitted = probe.load_probe(study, "paper")
    keys, _, design = video_windows(study, video, fitted.settings)
    own = found[found["view"] == "top"].sort_values("frame")
    expected = 1 / (1 + np.exp(-logits(design.take((keys["view"] == "top").to_numpy()), fitted.weight[0], fitted.bias[0])))
    np.testing.assert_allclose(own[[f"prob_{b}" for b in fitted.behaviours]], expected, atol=1e-6)
    np.testing.assert_array_equal(own["pred_lie"], (own["prob_lie"] >= 0.5).astype(int))


def test_best_on_the_scored_rows_is_never_worse(study: Project) -> None:
    shown = table(study).set_index(["score", "rows_of", "behaviour"])["f1"].sort_index()
    for side in ("cv", "test"):
        assert (shown.loc["paper", side] >= shown.loc["honest", side] - 1e-9).all()


def test_choices_do_not_see_what_is_scored(study: Project) -> None:
    """Other truth in the rows held out changes neither choice nor weights; what is best on them changes."""
    settings = probe.settings_of(study, "paper")
    data = training.load(study, settings)
    views, jobs = labelwise.clean_views(data), labelwise.jobs(data, 0)
    for job in (jobs[0], jobs[1], next(j for j in jobs if j.name.startswith("group-"))):
        truth = data.rows.truth.copy()
        truth[job.held] = 1 - truth[job.held]
        other = type(views)(views.vectors, views.index, truth[None], views.layers)
        first = labelwise.carry_out(job, views, views, 0)
        second = labelwise.carry_out(job, other, other, 0)
        np.testing.assert_array_equal(first.choice, second.choice)
        np.testing.assert_array_equal(first.weight, second.weight)
    held = labelwise.carry_out(jobs[0], views, views, 0).held
    truth = data.rows.truth[jobs[0].held]
    assert not np.array_equal(labelwise.best(truth, held), labelwise.best(1 - truth, held))


def test_sides_of_the_jobs(study: Project) -> None:
    settings = probe.settings_of(study, "paper")
    data = training.load(study, settings)
    jobs = {job.name: job for job in labelwise.jobs(data, 0)}
    video, group = data.rows.keys["video"].to_numpy(), data.of_rows(data.groups)
    train = set(np.flatnonzero(np.isin(video, [v.name for v in data.train])).tolist())
    assert set(jobs["final"].train.tolist()) == train and set(video[jobs["final"].held]) == {"v5", "v6"}
    for prefix, whole in (("fold-", train), ("frames-", train), ("group-", set(range(len(video))))):
        held = np.concatenate([job.held for name, job in jobs.items() if name.startswith(prefix)])
        assert len(held) == len(set(held.tolist())) and set(held.tolist()) == whole
    for name, job in jobs.items():
        assert not set(job.train.tolist()) & set(job.held.tolist())
        if not name.startswith("frames-"):
            assert not set(group[job.train]) & set(group[job.held])
            for k in np.unique(job.fold):
                assert not set(group[job.train[job.fold == k]]) & set(group[job.train[job.fold != k]])
    moment = data.rows.keys[["video", "subject", "frame"]].apply(tuple, axis=1).to_numpy()
    frames = jobs["frames-0"]
    assert not set(moment[frames.train]) & set(moment[frames.held])  # both views of a frame on one side
    assert set(video[frames.train]) & set(video[frames.held])  # but videos on both


def test_single_test_videos_and_no_interval(study: Project) -> None:
    shown = table(study)
    test = shown[shown["rows_of"] == "test"]
    assert test["f1_low"].isna().all() and shown[shown["score"] == "leave_one_video_out"]["f1_low"].notna().any()
    single = table(study, "test_videos.csv").set_index(["video", "behaviour"])
    data = training.load(study, probe.settings_of(study, "paper"))
    fitted = probe.load_probe(study, "paper")
    rows = np.flatnonzero(data.of_rows({"v6": 1}, missing=0))
    predicted = (logits(data.rows.design.take(rows), fitted.weight[0], fitted.bias[0]) >= 0).astype(np.int8)
    counts = metrics.confusion(data.rows.truth[rows], predicted, np.zeros(len(rows), dtype=np.int64), 1)
    np.testing.assert_allclose(single.loc["v6"].loc[list(data.behaviours), "f1"], metrics.f1(counts)[0], atol=1e-5)


def test_frames_drawn_at_random_claim_more(tmp_path: Path) -> None:
    """Labels that are nothing but the animal: grouped folds know nothing, a split of frames calls it solved."""
    project = probed.make(tmp_path, [[c] for c in "abcdefgh"], settings=PLAIN)
    settings = probe.settings_of(project, "paper")
    data = training.load(project, settings)
    number = data.rows.keys["subject"].map({c: k for k, c in enumerate("abcdefgh")}).to_numpy()
    look = np.random.default_rng(0).normal(size=(8, 12)) * 3  # of every animal, in both layers
    data.rows.design.vectors[data.rows.design.index[:, 1]] = look[number]
    data.rows.truth[:] = (number % 2)[:, None]
    jobs = labelwise.jobs(data, 0)
    views = labelwise.clean_views(data)
    done = {job.name: labelwise.carry_out(job, views, views, 0) for job in jobs}
    scores, _ = published.score(data, settings, {job.name: job for job in jobs}, done)
    f1 = scores.set_index(["score", "rows_of", "behaviour"])["f1"]
    assert f1[("random_frames", "cv", "*macro")] > 0.95 > 0.75 > f1[("honest", "cv", "*macro")]


def test_reported_labels_alone_make_the_macro(study: Project) -> None:
    settings = probe.settings_of(study, "paper").model_copy(update={"reported": ("eat", "lie", "fly")})
    done = probe.run(study, "reported", settings)
    assert any(note.startswith("fly: among the reported") for note in done.facts()["notes"])
    shown = pd.read_csv(done.checked("published.csv"))
    for _, one in shown.groupby(["score", "rows_of"]):
        f1 = one.set_index("behaviour")["f1"]
        assert f1["*macro"] == pytest.approx((f1["eat"] + f1["lie"]) / 2, abs=1e-5)
        assert set(one.loc[one["behaviour"] == "turn", "scored"]) == {0}


def test_resumed_runs_end_with_the_same_bytes(study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(study.folder, tmp_path / "study")
    project = Project.load(tmp_path / "study")
    before = {p.name: p.read_bytes() for p in (project.folder / "probes" / "paper").iterdir()}
    shutil.rmtree(project.folder / "probes" / "paper")
    carry_out, count = published.carry_out, 0

    def stop(*arguments: object) -> labelwise.Tried:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return carry_out(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(published, "carry_out", stop)
    with pytest.raises(KeyboardInterrupt):
        probe.run(project, "paper")
    assert len(list((project.folder / "probes" / "paper").glob("state-*"))) == 3
    count = 100
    probe.run(project, "paper")
    jobs = len(labelwise.jobs(training.load(project, probe.settings_of(project, "paper")), 0))
    assert count == 100 + jobs - 3
    assert {p.name: p.read_bytes() for p in (project.folder / "probes" / "paper").iterdir()} == before
    about = json.loads(before["probe.json"])
    assert about["settings"]["layer"] == "both" and about["settings"]["recipe"] == "paper"


# --- windows of several widths, and the command ---


@pytest.fixture(scope="module")
def swept(study: Project) -> pd.DataFrame:
    return pd.read_csv(window_sweep.run(study, (5, 1, 3)).checked("windows.csv"))


def test_the_sweep_holds_the_probe_itself(study: Project, swept: pd.DataFrame) -> None:
    """At the probe's own width the table repeats its scores; of the test videos only the optimistic ones are shown."""
    assert sorted(set(swept["window"])) == [1, 3, 5]
    assert {tuple(k) for k in swept[["score", "rows_of"]].drop_duplicates().to_numpy()} == {
        ("honest", "cv"),
        ("paper", "cv"),
        ("paper", "test"),
    }
    own = swept[swept["window"] == 3].drop(columns="window").set_index(["score", "rows_of", "behaviour"]).sort_index()
    whole = table(study).set_index(["score", "rows_of", "behaviour"]).sort_index()
    pd.testing.assert_frame_equal(own, whole.loc[own.index], check_dtype=False)


def test_windows_must_be_odd(study: Project) -> None:
    with pytest.raises(FoveateError, match="odd"):
        window_sweep.run(study, (1, 2))
    with pytest.raises(FoveateError, match="not of recipe paper"):
        window_sweep.run(study, (1, 3), "default")


def test_what_a_reader_is_told(study: Project, swept: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    found = published.load(study)
    assert found is not None and list(found.single) == ["v5", "v6"]
    assert found.gap("paper", "test") == pytest.approx(macro(study, "paper", "test") - macro(study, "honest", "test"))
    printed.published(study.folder, (1, 3, 5))
    told = capsys.readouterr().out
    for part in (
        "one video after another left out",
        f"{macro(study, 'honest', 'test'):.3f}",
        "2 test videos are too few",
        "v6",
    ):
        assert part in told
    assert (
        f"{float(swept.set_index(['window', 'score', 'rows_of', 'behaviour']).loc[(5, 'honest', 'cv', '*macro'), 'f1']):.3f}"
        in told
    )
    assert published.load(study, "default") is None
