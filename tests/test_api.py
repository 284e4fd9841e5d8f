"""Python's verbs and tables: the same names as on the command line, the same results as on disk."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

import foveate.api as fv
from foveate import LinearProbe, schema
from foveate.cli import COMMANDS, Options, main
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.simulate import PastureSettings, simulate
from tests import probed


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project with planted vectors: two views, eight animals in two groups, half of them annotated, one called 007."""
    animals = [["007"], ["NA"], ["c"], ["d"], ["e"], ["f"], ["g"], ["h"]]
    settings = {"compare": {"bootstrap": 200}}
    folder = tmp_path_factory.mktemp("planted")
    project = probed.make(
        folder, animals, annotated=4, views=("left", "right"), groups=["x", "y"] * 4, noise=0.3, settings=settings
    )
    fv.compare(project, workers=1)
    return project


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered videos and one that is broken, tracked as far as that goes."""
    folder = tmp_path_factory.mktemp("tracked")
    simulate(
        folder, PastureSettings(seed=5, annotated=3, unannotated=0, test=0, seconds=12.0, fps=5, width=160, height=90, step=1.0)
    )
    (folder / "prompts" / "prompts.csv").unlink()
    settings = yaml.safe_load((folder / "foveate.yaml").read_text()) | {"track": {"method": "motion"}, "crop": {"size": 64}}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(settings))
    (folder / "footage" / "pen_02.mp4").write_bytes(b"no video")
    with pytest.warns(fv.FoveateWarning, match=r"pen_02\.mp4") as caught:
        fv.track(folder, workers=1)
    assert len(caught) == 1 and caught[0].filename == __file__
    return folder


def test_every_command_has_a_function_with_its_arguments() -> None:
    for name, command in COMMANDS.items():
        if name == "demo":  # simulate and run, one after the other
            continue
        given = set(inspect.signature(command).parameters)
        if "options" in given:
            fields = set(inspect.signature(Options).parameters) - {"json", "debug"}
            given = given - {"options"} | (fields - {"workers"} if name in ("status", "export", "import") else fields)
        function = "import_tracks" if name == "import" else name  # a word of the language
        functions = (fv.adapt, fv.adapt_clips) if name == "adapt" else (getattr(fv, function),)  # with and without a project
        taken = {argument for one in functions for argument in inspect.signature(one).parameters}
        assert given <= taken, f"{name}: {given - taken}"
        assert taken - given <= {"progress"}, f"{name}: {taken - given}"


def test_every_public_function_says_what_it_does() -> None:
    for name in fv.__all__:
        assert inspect.getdoc(getattr(fv, name)), name
    assert set(fv.__all__) <= set(dir(fv))


def test_status_has_a_row_per_video_and_one_for_the_project(planted: Project) -> None:
    table = fv.status(planted)
    assert list(table.index) == [*(v.name for v in planted.videos), "(project)"]
    assert (table.loc["v0":"v7", ["track", "predict"]] == "done").all(axis=None)
    assert table.loc["(project)", "compare"] == "done" and table.loc["(project)", "track"] == ""
    assert list(fv.status(planted, video=["v3"]).index) == ["v3", "(project)"]


def test_tables_are_what_is_on_disk(planted: Project) -> None:
    assert list(fv.tracks(planted, masks=True).columns) == schema.TRACK.names
    assert "rle" not in fv.tracks(planted.folder) and set(fv.tracks(planted, video="v1")["video"]) == {"v1"}
    assert list(fv.labels(planted).columns) == schema.INTERVALS.names and set(fv.labels(planted)["video"]) == {
        "v0",
        "v1",
        "v2",
        "v3",
    }
    assert list(fv.observed(planted).columns) == schema.OBSERVED.names
    assert list(fv.bouts(planted).columns) == schema.BOUTS.names
    everything, together = fv.predictions(planted, view=None), fv.predictions(planted)
    assert set(together["view"]) == {"*"} and len(everything) == 3 * len(together)
    budget = fv.budgets(planted).set_index(["video", "subject", "behaviour"])["seconds"]
    first = together[together["video"] == "v2"]
    assert budget["v2", "c", "lie"] == pytest.approx(first.loc[first["pred_lie"] == 1, "duration"].sum())
    bouts = fv.bouts(planted, video=["v2"])
    assert budget["v2", "c", "lie"] == pytest.approx((bouts["stop"] - bouts["start"])[bouts["behaviour"] == "lie"].sum())
    assert set(fv.scores(planted)["split"]) == {"cv"} and fv.scores(planted)["f1"].between(0, 1).all()
    tests = fv.comparison(planted).set_index("behaviour")
    assert tests.loc["eat", ["group_1", "group_2"]].tolist() == ["x", "y"] and tests.loc["eat", "n_1"] == 2
    assert set(fv.comparison(planted, table="proportions")["subject"]) == {"e", "f", "g", "h"}
    with pytest.raises(FoveateError, match="no table"):
        fv.comparison(planted, table="mixed")
    assert fv.probe(planted, workers=1).equals(fv.scores(planted))
    assert fv.predict(planted, video=["v1"], workers=1).equals(fv.budgets(planted, video=["v1"]))


def test_vectors_and_what_a_probe_learns_from(planted: Project) -> None:
    keys, vectors = fv.embeddings(planted)
    assert vectors.shape == (len(keys), probed.WIDTH) and vectors.dtype == np.float32
    both = fv.embeddings(planted, layer="both", video=["v0"])[1]
    assert both.shape == (2 * probed.FRAMES, 2 * probed.WIDTH)
    X, Y, groups, rows = fv.training_rows(planted)
    assert X.shape == (len(rows), 3 * probed.WIDTH) and list(Y.columns) == list(probed.BEHAVIOURS)
    assert len(Y) == len(groups) == 4 * 2 * probed.FRAMES and len(np.unique(groups)) == 4
    assert set(rows["split"]) == {"train"} and rows.groupby("video").ngroups == 4
    centre = vectors[((keys["video"] == "v0") & (keys["view"] == "left") & (keys["frame"] == 50)).to_numpy()][0]
    own = ((rows["video"] == "v0") & (rows["view"] == "left") & (rows["frame"] == 50)).to_numpy()
    assert (X[own][0, probed.WIDTH : 2 * probed.WIDTH] == centre).all()


def test_the_estimator_finds_the_probe_of_the_project(planted: Project) -> None:
    """Same rows, same strength: the weights are those of the stage."""
    from foveate.actions.probe import load_probe

    X, Y, groups, _ = fv.training_rows(planted)
    scores = fv.scores(planted)
    strength = scores[(scores["view"] == "*") & (scores["split"] == "cv")].set_index("behaviour")["penalty"]
    stage = load_probe(planted)
    for k, behaviour in enumerate(stage.behaviours):
        own = LinearProbe(strengths=(float(strength[behaviour]),)).fit(X, Y[behaviour], groups=groups)
        assert np.abs(own.coef_[0] - stage.weight[0, k]).max() < 1e-4


def test_what_a_probe_is_asked_for_is_what_comes_back(planted: Project) -> None:
    assert {"axis", "animals", "minutes", "f1"} <= set(fv.probe(planted, curve=True, workers=1).columns)
    with pytest.raises(FoveateError, match="published"):
        fv.probe(planted, windows=(1, 3))


def test_names_that_look_like_numbers_stay_names(planted: Project) -> None:
    assert {"007", "NA"} <= set(fv.budgets(planted)["subject"])
    assert {"007", "NA"} <= set(fv.tracks(planted)["subject"])


def test_xarray_is_movements_layout(tracked: Path, tmp_path: Path) -> None:
    found = fv.to_xarray(tracked, "pen_01", "top")
    assert found.position.dims == found["shape"].dims == ("time", "space", "individual")
    assert list(found.space.values) == ["x", "y"] and "label" not in found
    tracks = fv.tracks(tracked, video="pen_01")
    tracks = tracks[tracks["view"] == "top"]
    assert len(tracks) == found.sizes["time"] and tracks["x"].notna().any()
    for _, row in tracks.iterrows():
        at = found.sel(time=row["time"], individual=row["subject"])
        centre = [row["x"] + row["w"] / 2, row["y"] + row["h"] / 2]
        assert at.position.values == pytest.approx(centre, nan_ok=True)
        assert at["shape"].values == pytest.approx([row["w"], row["h"]], nan_ok=True)
        assert at.frame == row["frame"]
    assert "individuals" in fv.to_xarray(tracked, "pen_01", "top", legacy=True).dims
    assert all(isinstance(value, str) for value in found.attrs.values()) and found.attrs["ds_type"] == "bboxes"
    found.to_netcdf(tmp_path / "tracks.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "tracks.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), found)


def test_xarray_of_predictions(planted: Project) -> None:
    found = fv.to_xarray(planted, "v5", "right")
    predicted = fv.predictions(planted, video="v5")
    assert found.label.dims == found.probability.dims == ("time", "individual", "behavior") and found.label.dtype == np.int8
    for behaviour in probed.BEHAVIOURS:
        own = found.sel(behavior=behaviour, individual="f")
        assert own.label.values.tolist() == predicted[f"pred_{behaviour}"].tolist()
        assert np.array_equal(own.probability.values, predicted[f"prob_{behaviour}"].to_numpy(), equal_nan=True)
    with pytest.raises(FoveateError, match="say which view"):
        fv.to_xarray(planted, "v0")
    with pytest.raises(FoveateError, match="say which video"):
        fv.to_xarray(planted)


def test_a_broken_video_is_a_warning_and_the_others_go_on(tracked: Path) -> None:
    table = fv.status(tracked)
    assert table.loc["pen_01", "track"] == "done" and table.loc["pen_02", "timeline"] == "failed"
    assert "pen_02.mp4" in table.loc["pen_02", "problem"] and not table.loc["pen_01", "problem"]
    with pytest.warns(fv.FoveateWarning, match="1 of 3 videos are left out") as caught:
        assert set(fv.tracks(tracked)["video"]) == {"pen_01", "pen_03"}
    assert caught[0].filename == __file__
    with pytest.raises(FoveateError):
        fv.tracks(tracked, video="pen_02")
    with pytest.raises(FoveateError, match="did you mean"):
        fv.tracks(tracked, video="pen_4")


def test_tables_ask_for_what_is_missing(tmp_path: Path) -> None:
    project = probed.make(tmp_path, [["a"], ["b"]])
    for read in (fv.scores, fv.bouts, fv.predictions, fv.budgets, fv.comparison):
        with pytest.raises(FoveateError) as caught:
            read(project)
        assert "foveate run" in (caught.value.remedy or "") or caught.value.remedy
    with pytest.raises(FoveateError, match="not a foveate project"):
        fv.status(tmp_path / "nowhere")


def test_init_gives_the_project_and_warns_of_what_cannot_be_opened(tracked: Path, tmp_path: Path) -> None:
    with pytest.warns(fv.FoveateWarning, match=r"pen_02\.mp4"):
        project = fv.init(tmp_path / "new", footage=tracked / "footage")
    assert len(project.videos) == 3 and isinstance(project, Project)


def test_export_writes_what_bouts_gives(planted: Project, tmp_path: Path) -> None:
    assert fv.export(tmp_path / "bouts.csv", to="csv", project=planted) == len(fv.bouts(planted))
    assert (tmp_path / "bouts.csv").is_file()


def test_simulate_asks_for_the_same_footage_as_the_command(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def render(folder: Path, settings: PastureSettings, **_: object) -> None:
        asked.append(settings)
        shutil.copytree(tracked, folder)

    monkeypatch.setattr("foveate.simulate.simulate", render)
    more = {"seed": 3, "videos": 7, "minutes": 0.5, "animals": 2, "night": 0.25, "background_correlation": 0.5}
    assert len(fv.simulate(tmp_path / "a", behaviours="all", distractors=1, bars=True, **more).videos) == 3
    flags = [text for name, value in more.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    main(["simulate", str(tmp_path / "b"), "--behaviours", "all", "--distractors", "1", "--bars", *flags])
    assert asked[0] == asked[1] != PastureSettings()


def test_a_script_without_a_main_guard_may_use_workers(tracked: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = f"""import foveate.api as fv
print("once")
print(fv.crop({str(tracked)!r}, video=["pen_01", "pen_03"], workers=2)["crop"].tolist())
"""
    script.write_text(text)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n['done', 'done', '']\n"
    assert not done.stderr  # silent, not on a terminal


def test_pictures_are_crops_evenly_spread(tracked: Path) -> None:
    fv.crop(tracked, video=["pen_03"], workers=1)
    keys, found = fv.pictures(tracked, video="pen_03", each=2)
    assert found.shape == (len(keys), 64, 64, 3) and found.dtype == np.uint8
    assert keys.groupby(["view", "subject"]).size().max() == 2
    index = fv.tracks(tracked, video="pen_03")
    assert set(keys["frame"]) <= set(index.loc[index["x"].notna(), "frame"])


def test_progress_is_shown_when_asked_for(tracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (False, True):
        shutil.rmtree(tracked / "crops" / "pen_01", ignore_errors=True)
        fv.crop(tracked, video=["pen_01"], workers=1, progress=shown)
        assert ("cropping" in capsys.readouterr().err) == shown


@pytest.mark.slow
def test_from_a_real_clip_to_crops_and_xarray(footage: Path, tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    shutil.copy(footage / "clips" / "dlc_openfield" / "m3v1mp4.mp4", tmp_path / "footage")
    project = fv.init(tmp_path / "mouse", footage=tmp_path / "footage")
    settings = yaml.safe_load((project.folder / "foveate.yaml").read_text())
    settings |= {"analyse": {"step": 2.0}, "track": {"method": "motion"}, "crop": {"size": 64}}
    (project.folder / "foveate.yaml").write_text(yaml.safe_dump(settings))
    assert (fv.crop(project.folder, workers=1).loc["m3v1mp4", ["timeline", "track", "crop"]] == "done").all()
    keys, crops = fv.pictures(project.folder, each=3)
    assert len(keys) == len(crops) == 3 and (crops.std(axis=(1, 2, 3)) > 5).all()
    found = fv.to_xarray(project.folder)  # the mouse is always in the picture
    assert found.position.notnull().all("space").mean() > 0.9
    assert found.position.min() >= 0 and found.position.max() <= 640
