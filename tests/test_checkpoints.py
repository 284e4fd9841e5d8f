"""Evaluated checkpoints: what may be chosen on what, the published tables as a golden example, and the way from runs to tables."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import foveate.api as fv
from foveate import annotations, attention, checkpoints, crops, pretrain, report, timeline
from foveate.actions import labelwise, metrics, probe
from foveate.actions.sgd import RATES
from foveate.checkpoints import choice, models, tables, units
from foveate.checkpoints.models import FROZEN, GUIDED, UNGUIDED, Model, Run
from foveate.checkpoints.units import Part, Unit
from foveate.cli import main
from foveate.data import views
from foveate.project import Project
from foveate.report import checkpoints as report_checkpoints
from foveate.report import sources
from foveate.schema import LAYERS, FoveateError
from tests import embedded
from tests.test_pretrain import TINY

torch.set_num_threads(1)
PROBES = len(LAYERS) * len(RATES)
THIRD = LAYERS.index("third_last") * len(RATES) + 6


# --- choosing --------------------------------------------------------------------------------------------------------------------


def part(rng: np.random.Generator, labels: int, groups: Sequence[int]) -> Part:
    positives = rng.integers(5, 20, (len(groups), labels))
    tp = rng.integers(0, positives, (PROBES, len(groups), labels))
    counts = np.stack([tp, rng.integers(0, 9, tp.shape), positives - tp], axis=-1)
    return Part(rng.random((PROBES, labels)), rng.random((PROBES, labels)), np.ones(labels, bool), np.array(groups), counts)


def unit(seed: int, labels: int = 3, folds: int = 3) -> Unit:
    """Probes of no skill; positives are the same for every seed."""
    rng, same = np.random.default_rng(seed), np.random.default_rng(0)
    parts = {f"fold-{k}": part(rng, labels, [2 * k, 2 * k + 1]) for k in range(folds)} | {"final": part(rng, labels, [9])}
    for one in parts.values():
        total = same.integers(5, 20, one.counts.shape[1:3])
        tp = np.minimum(one.counts[..., 0], total)
        one.counts[..., 0], one.counts[..., 2] = tp, total - tp
    facts = {"behaviours": list("abc")[:labels], "reported": [], "folds": folds, "seed": 0}
    facts |= {"rows": {"cv": 60, "test": 10}, "videos": {"cv": 6, "test": 1}, "groups": {}, "notes": []}
    return Unit(parts, facts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["cv", "test"]))
def test_an_honest_choice_does_not_see_what_counts(seed: int, side: str) -> None:
    several = [unit(seed + k) for k in range(3)]
    before = choice.honest(several, side)
    for one in several:
        for name, counted in one.parts.items():
            counted.counts[..., 1] += np.random.default_rng(len(name)).integers(0, 9, counted.counts[..., 1].shape)
    after = choice.honest(several, side)
    for name in ("unit", "layer", "rate"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert not np.array_equal(before.counts, after.counts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["cv", "test"]))
def test_the_published_choice_is_never_worse(seed: int, side: str) -> None:
    several = [unit(seed + k) for k in range(3)]

    def f1(chosen: choice.Chosen) -> NDArray[np.float64]:
        return metrics.f1(chosen.counts.sum(0))

    best = f1(choice.paper(several, side))
    if side == "test":  # in cross-validation each fold chooses for itself, which no single choice has to beat
        assert (best >= f1(choice.honest(several, side)) - 1e-12).all()
    for one in several:
        for layer in LAYERS:
            assert (best >= f1(choice.paper([one], side, [layer])) - 1e-12).all()
    np.testing.assert_array_equal(best, np.max([f1(choice.paper([one], side)) for one in several], axis=0))


def test_several_checkpoints_are_one_grid() -> None:
    """Choosing among checkpoints is choosing among their probes side by side, by the rule of a single probe."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (40, 3)).astype(np.int8)
    logit = rng.normal(size=(40, 2 * PROBES, 3)).astype(np.float32)
    quality = [labelwise.quality(truth, logit[:, k * PROBES : (k + 1) * PROBES]) for k in (0, 1)]
    pair = [unit(k) for k in (0, 1)]
    pair = [
        replace(u, parts={n: replace(p, f1=f, loss=q) for n, p in u.parts.items()})
        for u, (f, q) in zip(pair, quality, strict=True)
    ]
    chosen = choice.honest(pair, "test")
    expected = labelwise.best(truth, logit)
    np.testing.assert_array_equal((chosen.unit * len(LAYERS) + chosen.layer) * len(RATES) + chosen.rate, expected)
    one = choice.honest(pair, "test", ["last"])
    assert (one.layer == LAYERS.index("last")).all()


def test_labels_without_choice_take_the_last_checkpoint() -> None:
    pair = [unit(k) for k in (0, 1)]
    pair = [replace(u, parts={n: replace(p, chosen=np.array([True, False, True])) for n, p in u.parts.items()}) for u in pair]
    for layers, layer in ((LAYERS, "third_last"), (["last"], "last")):
        chosen = choice.honest(pair, "cv", layers)
        assert (chosen.unit[1], LAYERS[chosen.layer[1]], RATES[chosen.rate[1]]) == (1, layer, 1e-3)
    assert labelwise.DEFAULT_CHOICE == THIRD


def test_differences_draw_the_same_animals() -> None:
    one, other = (choice.honest([unit(k)], "cv") for k in (3, 4))
    every = np.ones(3, bool)
    apart, interval = choice.difference(one, one, every, True, 0)
    assert not apart.any() and not interval.any()
    apart, interval = choice.difference(one, other, every, True, 0)
    scores = [choice.score(chosen, every, True, 0) for chosen in (one, other)]
    np.testing.assert_allclose(apart, scores[0].f1 - scores[1].f1)
    assert (interval[:, 0] <= apart).all() and (apart <= interval[:, 1]).all()
    back, turned = choice.difference(other, one, every, True, 0)
    np.testing.assert_allclose(turned, -interval[:, ::-1])
    np.testing.assert_allclose(back, -apart)
    assert np.isnan(choice.score(one, every, False, 0).interval).all()
    few = replace(one, counts=one.counts[:4])
    assert np.isnan(choice.score(few, every, True, 0).interval).all()


# --- the published tables --------------------------------------------------------------------------------------------------------

PUBLISHED = json.loads((Path(__file__).parent / "golden" / "guided_dinov2_tables.json").read_text(encoding="utf-8"))


def planted(f1: Sequence[float]) -> Unit:
    """A unit of which one probe has these F1 on the test videos, and all others find nothing."""
    counts = np.zeros((PROBES, 1, len(f1), 3), np.int64)
    counts[..., 2] = 10_000
    hit = np.round(np.array(f1) * 10_000).astype(np.int64)
    counts[THIRD, 0] = np.stack([hit, 10_000 - hit, 10_000 - hit], axis=-1)
    nothing = np.zeros((PROBES, len(f1)))
    final = Part(nothing, nothing, np.zeros(len(f1), bool), np.array([0]), counts)
    facts = {"behaviours": PUBLISHED["behaviours"], "reported": [], "folds": 1, "seed": 0}
    facts |= {"rows": {"cv": 10_000, "test": 10_000}, "videos": {"cv": 9, "test": 3}, "groups": {}, "notes": []}
    return Unit({"final": final, "fold-0": final}, facts)


def test_the_published_tables_come_out() -> None:
    """From the published F1 of every checkpoint: the best row, % change, and that every behaviour is best late."""
    found, runs = {}, []
    for kind in (GUIDED, UNGUIDED):
        steps = {int(step): values for step, values in PUBLISHED[kind].items()}
        made = tuple(Model(kind, kind, step, "start" if step == 0 else f"{kind}/{step}") for step in steps)
        runs.append(Run(kind, kind, 1_080_000, made, "start"))
        found |= {(model.path, "crop", 1): planted(steps[model.step or 0]) for model in made}
    frozen = dict.fromkeys((GUIDED, UNGUIDED), Model(FROZEN, FROZEN, 0, "start"))
    lines = tables.lines_of(runs, frozen, [])
    measured = tables.Measured(found, lines, tuple(runs), frozen, ("crop",), (1, 7), paper=True)
    scored, changed, peaked = tables.scores(measured), tables.changes(measured), tables.peaks(measured)
    names = [*PUBLISHED["behaviours"], "*macro"]

    def of(table: pd.DataFrame, column: str, **where: Any) -> list[float]:
        where = {"score": "paper", "rows_of": "test", **where}
        one = table[(table[list(where)] == pd.Series(where)).all(axis=1)].set_index("behaviour")
        return one.loc[names, column].tolist()

    for kind in (GUIDED, UNGUIDED):
        assert of(scored, "f1", run=kind, step="best", layer="best") == pytest.approx(PUBLISHED[f"{kind} best"], abs=1e-4)
    percent = of(changed, "percent", what="guided, best", over="unguided, best")
    assert percent == pytest.approx(PUBLISHED["percent"], abs=0.06)
    late = peaked[(peaked["score"] == "paper") & (peaked["rows_of"] == "test")]
    assert set(late["late"]) == {1} and len(late) == 14
    assert of(peaked, "step", run="guided") == PUBLISHED["guided largest at"]
    published = tables.as_published(scored, changed, peaked, 7)
    block = published[(published["score"] == "paper") & (published["rows_of"] == "test")]
    assert block["row"].tolist() == [
        "frozen",
        *(f"guided, step {step}" for step in PUBLISHED["guided"] if step != "0"),
        "guided, best",
        *(f"unguided, step {step}" for step in PUBLISHED["unguided"] if step != "0"),
        "unguided, best",
        "guided, best over unguided, best",
        "guided, best over frozen",
        "unguided, best over frozen",
        "guided, largest at step",
        "unguided, largest at step",
    ]
    assert block.iloc[0][PUBLISHED["behaviours"]].tolist() == pytest.approx(PUBLISHED["guided"]["0"], abs=1e-4)


# --- from runs to tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four annotated videos, one of them for testing, and two runs of a tiny backbone: on crops, and on whole views."""
    folder = embedded.make(tmp_path_factory.mktemp("checkpoints") / "study")
    names = [f"v {k}" for k in range(1, 5)]
    for k, name in enumerate(names[1:], 1):
        embedded.film(folder / f"{name}.mp4", k)
    files = ["clip", *names[1:]]
    rows = [f"{v},{file}.mp4,{'test' if v == 'v 4' else ''},anna;bela" for v, file in zip(names, files, strict=True)]
    (folder / "videos.csv").write_text("\n".join(["video,path,split,subjects", *rows]) + "\n")
    config = yaml.safe_load((folder / "foveate.yaml").read_text())
    config["probe"] = {"group": "video", "folds": 3}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config))
    (folder / "annotations").mkdir()
    lines = ["video,subject,behaviour,start,stop"]
    for k, video in enumerate(names):
        for subject in ("anna", "bela"):
            lines += [f"{video},{subject},walk,{t + k / 10},{t + 0.6}" for t in range(3)]
            lines += [f"{video},{subject},graze,{1.1 + k / 10},{2.3 + k / 10}"]
    (folder / "annotations" / "a.csv").write_text("\n".join(lines) + "\n")
    project = Project.load(folder)
    for video in project.videos:
        timeline.run(project, video)
        if video.name != "v 1":
            embedded.write_track(project, video)
            crops.run(project, video)
        views.run(project, video)
    annotations.run(project)
    training = replace(TINY.training, steps=2, keep=(0, 2))
    pretrain.run(project, replace(TINY, training=training), "close")
    pretrain.run(project, replace(TINY, training=training, source="frame"), "wide")
    return folder


@pytest.fixture(scope="module")
def evaluated(made: Path) -> Project:
    fv.checkpoints(project=made, windows=(1, 3), paper=True, workers=1)
    return Project.load(made)


def bytes_of(folder: Path) -> dict[str, tuple[str, int]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in found
    }


def test_every_checkpoint_has_its_scores(evaluated: Project) -> None:
    made = checkpoints.found(evaluated)
    assert made.complete() and made.facts()["rows"] == {"cv": 3 * 89, "test": 89}
    assert [note.split(" (")[0] for note in made.facts()["notes"]] == ["test and training videos share animals"]
    table = pd.read_csv(made.checked("scores.csv"), dtype={"step": str})
    assert list(table) == list(tables.SCORES)
    assert set(table["run"]) == {"frozen", "close", "wide"} and set(table["kind"]) == {"frozen", "guided", "unguided"}
    assert set(table["shown"]) == {"crop", "frame"} and set(table["window"]) == {1, 3}
    assert list(dict.fromkeys(table["step"])) == ["0", "2", "best"]
    honest = table[(table["score"] == "honest") & (table["rows_of"] == "test")]
    assert set(honest["step"]) == {"0", "best"}  # no checkpoint is to be picked by an honest score of the test videos
    compared = {(row["what"], row["over"]) for row in checkpoints.rows_of(made, "changes.csv")}
    pairs = {("close, best", "wide, best"), ("close, best", "frozen"), ("wide, best", "frozen")}
    assert compared == pairs | {(f"{name}, window 3", name) for name in ("frozen", "close, best", "wide, best")}
    folders = sorted(path.name for path in (evaluated.folder / "checkpoints" / "units").iterdir())
    assert len(folders) == 3  # what both began with is one backbone
    assert sorted(path.name for path in (evaluated.folder / "checkpoints" / "units" / folders[0]).iterdir()) == [
        "crop-1",
        "crop-3",
        "frame-1",
        "frame-3",
    ]


def test_scores_are_those_of_the_published_probe(evaluated: Project) -> None:
    """The same probe trained by ``foveate probe --recipe paper`` on the vectors of a checkpoint."""
    table = pd.read_csv(checkpoints.found(evaluated).checked("scores.csv"), dtype={"step": str})
    here = models.with_model(evaluated, "pretrained/close/checkpoints/step-2")
    for shown, window in (("crop", 3), ("frame", 1)):
        theirs = pd.read_csv(
            probe.run(here, "paper", units.probe_settings(here, shown, window, "none")).checked("published.csv")  # type: ignore[arg-type]
        )
        for score, side in (("honest", "cv"), ("paper", "cv"), ("paper", "test")):
            own = table[(table["run"] == "close") & (table["step"] == "2") & (table["layer"] == "best")]
            own = own[(own["shown"] == shown) & (own["window"] == window) & (own["score"] == score) & (own["rows_of"] == side)]
            one = theirs[(theirs["score"] == score) & (theirs["rows_of"] == side)]
            assert own["behaviour"].tolist() == one["behaviour"].tolist() == ["walk", "graze", "*macro"]
            np.testing.assert_allclose(own["f1"], one["f1"], atol=1e-6)
            np.testing.assert_array_equal(own["scored"], one["scored"])


def test_only_what_is_missing_is_done(evaluated: Project, tmp_path: Path) -> None:
    shutil.copytree(evaluated.folder, tmp_path / "study")
    study = Project.load(tmp_path / "study")
    before = bytes_of(study.folder / "checkpoints")
    fv.checkpoints(project=study, windows=(1, 3), paper=True, workers=1)
    assert bytes_of(study.folder / "checkpoints") == before
    fv.checkpoints(["close"], project=study, windows=(5,), source="crop", workers=1)
    after = bytes_of(study.folder / "checkpoints")
    kept = {name: value for name, value in before.items() if name.startswith("units/")}
    assert kept.items() <= after.items()
    assert {name.split("/")[2] for name in after.keys() - before.keys()} == {"crop-5"}
    table = pd.read_csv(checkpoints.found(study).checked("scores.csv"))
    assert set(table["window"]) == {1, 5} and set(table["shown"]) == {"crop"} and set(table["score"]) == {"honest"}


def test_an_interrupted_evaluation_goes_on(evaluated: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(evaluated.folder, tmp_path / "study")
    study = Project.load(tmp_path / "study")
    found = units.artefact(study, str(study.folder / "pretrained/close/checkpoints/step-2"), "crop", 1)
    assert found.complete()
    before = {path.name: path.read_bytes() for path in found.folder.iterdir()}
    found.discard()
    measure, count = units._measure, 0

    def stop(*arguments: Any) -> Part:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(units, "_measure", stop)
    path = str(study.folder / "pretrained/close/checkpoints/step-2")
    with pytest.raises(KeyboardInterrupt):
        units.run(study, path, "crop", 1)
    assert sorted(path.name for path in found.folder.glob("*.safetensors")) == ["final.safetensors", "fold-0.safetensors"]
    count = 99
    units.run(study, path, "crop", 1)
    assert count == 101 and {path.name: path.read_bytes() for path in found.folder.iterdir()} == before


def test_the_command(evaluated: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(evaluated.folder, tmp_path / "study")
    study = ["-p", str(tmp_path / "study"), "--workers", "1"]
    assert main(["checkpoints", "close", *study, "--windows", "1", "--source", "crop"]) == 0
    shown = capsys.readouterr().out
    assert "F1 on crops, cross-validated" in shown and "close, best over frozen" in shown and "checkpoints/tables/" in shown
    assert main(["checkpoints", "close", *study, "--windows", "1", "--source", "crop", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["run"] == "frozen" and rows[0]["behaviour"] == "walk"
    assert main(["checkpoints", "other", *study]) == 1
    assert "no pretraining run 'other'" in capsys.readouterr().err
    assert main(["checkpoints", *study, "--windows", "2"]) == 1
    assert "each width must be odd" in capsys.readouterr().err
    # A model that is not there is said, and the others are evaluated.
    arguments = ["checkpoints", "close", *study, "--windows", "1", "--source", "crop", "--models", "./clip", "runs/tiny"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "clip: no weights here" in said.err and "runs/tiny" in said.out
    assert "./clip: could not be evaluated" in said.out


def test_a_project_without_runs(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "study", ignore=shutil.ignore_patterns("pretrained", "checkpoints"))
    with pytest.raises(FoveateError, match="there is no pretraining run"):
        fv.checkpoints(project=tmp_path / "study")
    with pytest.raises(FoveateError, match="no checkpoints were evaluated"):
        checkpoints.found(Project.load(tmp_path / "study"))


def test_the_report_shows_it(evaluated: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(evaluated.folder, tmp_path / "study")
    study = Project.load(tmp_path / "study")
    assert main(["attend", "-p", str(study.folder), "--runs", "close", "wide", "--frames", "2", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "close, step 2" in said and "attention/runs" in said
    assert attention.of_runs(study).facts()["models"] == ["close, step 0", "wide, step 2", "close, step 2"]
    made = report.run(study)
    page = made.checked("index.html").read_text(encoding="utf-8")
    assert "What did pretraining do?" in page and "Before and after pretraining" in page
    shown = report_checkpoints.load(sources.collect(study, "default"), sources.Notes(study.folder))
    assert shown is not None and [panel.title for panel in shown.panels] == ["walk", "graze", "macro average"]
    assert [series.name for series in shown.panels[0].series] == ["frozen", "close", "wide"]
    assert next(block.title.split(";")[0] for block in shown.blocks) == "On crops" and len(shown.layers[0][1]) == 4
    assert {"checkpoints_scores.csv", "checkpoints_table.csv"} <= {path.name for path in made.path("tables").iterdir()}
    assert {"pretraining_steps.svg", "pretraining_windows.pdf"} <= {path.name for path in made.path("figures").iterdir()}


def test_steps_have_short_names() -> None:
    assert [report_checkpoints.short(step) for step in (0, 95, 5_000, 1_000_000, 1_080_000)] == ["0", "95", "5k", "1M", "1.08M"]
