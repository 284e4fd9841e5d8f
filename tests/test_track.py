"""Stage ``track`` on rendered footage: rows, prompts, both trackers, wrong prompts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from foveate import masks, timeline, track
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.simulate import Difficulty, PastureSettings, simulate
from foveate.store import read_parquet
from foveate.track.prompts import add_prompts, load_prompts, parse_prompt, strangers
from tests import tracked
from tests.videos import make_video

HEADER = "video,view,subject,frame,kind,x,y,w,h,mask\n"
CALM = Difficulty(distraction=0)  # nothing else moves
SETTINGS = PastureSettings(
    seed=5, annotated=1, unannotated=1, test=0, seconds=20, fps=5, width=240, height=136, step=0.6, difficulty=CALM
)


@pytest.fixture(scope="module")
def pasture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("track") / "pasture"
    simulate(folder, SETTINGS)
    project = Project.load(folder)
    for video in project.videos:
        timeline.run(project, video)
    return folder


@pytest.fixture
def study(pasture: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pasture, tmp_path / "study"))


def load(folder: Path, prompts: str | None = None, **settings: object) -> Project:
    config = yaml.safe_load((folder / "foveate.yaml").read_text())
    config["track"] = settings
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config))
    if prompts is not None:
        (folder / "prompts" / "prompts.csv").write_text(prompts)
    return Project.load(folder)


def rows(project: Project, name: str) -> pd.DataFrame:
    found = track.run(project, project.video(name))
    return pd.concat([read_parquet(found.path(part)).to_pandas() for part in found.files(".parquet")], ignore_index=True)


def overlap(project: Project, table: pd.DataFrame) -> float:
    """Mean IoU with the rendered truth where the animal is in the picture."""
    truth = read_parquet(project.folder / "truth" / "masks.parquet").to_pandas().set_index(["video", "view", "frame"])
    values = []
    for row in table.itertuples():
        true = truth.loc[(row.video, row.view, row.frame)]
        if true["area"] == 0:
            continue
        there = masks.decode(true["rle"], SETTINGS.height, SETTINGS.width)
        found = masks.decode(row.rle, SETTINGS.height, SETTINGS.width) if row.rle is not None else np.zeros_like(there)
        values.append((there & found).sum() / (there | found).sum())
    return float(np.mean(values))


def check_rows(project: Project, table: pd.DataFrame, name: str) -> None:
    """One row per analysed frame, view and subject, sorted; box, area and run lengths agree; null exactly where nothing is seen."""
    video = project.video(name)
    frames = timeline.analysed(project, video)
    keys = [(f, v, s) for f in frames.frame.tolist() for v in sorted(timeline.views(project, video)) for s in video.subjects]
    assert sorted(zip(table["frame"], table["view"], table["subject"], strict=True)) == sorted(keys)
    seen = table["state"].isin(["prompted", "tracked", "interpolated", "uncertain"])
    assert (table["x"].notna() == seen).all() and (table["rle"].notna() == seen).all()
    for row in table[seen].itertuples():
        mask = masks.decode(row.rle, SETTINGS.height, SETTINGS.width)
        assert masks.box(mask) == (row.x, row.y, row.w, row.h) and mask.sum() == row.area
    assert table.loc[seen, "score"].between(0, 1).all()


def test_motion_finds_what_moves(tmp_path: Path) -> None:
    """A dark square wanders over gravel, rests for a third of the time, and leaves the picture at the end."""
    rng = np.random.default_rng(0)
    gravel = rng.integers(90, 160, (24, 32, 3)).repeat(6, 0).repeat(6, 1)
    pictures, places = [], []
    for i in range(60):
        picture = np.clip(gravel + rng.normal(0, 2, gravel.shape), 0, 255).astype(np.uint8)
        x = 10 + 3 * min(i, 25) + 8 * max(0, i - 45)
        picture[60:90, x : x + 40] = 20
        pictures.append(picture)
        places.append(x)
    make_video(tmp_path / "gravel.mp4", pictures, fps=10)
    (tmp_path / "foveate.yaml").write_text("analyse: {every: 1}\ntrack: {method: motion, short_side: 144}\n")
    (tmp_path / "videos.csv").write_text("video,path\ngravel,gravel.mp4\n")
    project = Project.load(tmp_path)
    timeline.run(project, project.video("gravel"))
    table = rows(project, "gravel")
    assert table["frame"].tolist() == list(range(60))
    for row, x in zip(table.itertuples(), places, strict=True):
        truth = np.zeros((144, 192), bool)
        truth[60:90, x : x + 40] = True
        if truth.sum() < 600:
            continue
        mask = masks.decode(row.rle, 144, 192) if row.rle is not None else np.zeros_like(truth)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.8, row.frame
    assert table["state"].iloc[-1] in ("absent", "lost")  # it left over the border
    assert track.artefact(project, project.video("gravel")).facts()["prompt"] == "motion"


@pytest.mark.slow
def test_propagate_follows_a_box_with_real_weights(study: Path) -> None:
    pytest.importorskip("onnxruntime")
    project = load(study, short_side=140)
    table = rows(project, "pen_01")
    check_rows(project, table, "pen_01")
    assert overlap(project, table) > 0.6
    assert (table.loc[table["frame"] == 0, "state"] == "prompted").all()
    assert track.artefact(project, project.video("pen_01")).facts()["prompt"] == "box"


@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_a_prompt_in_the_middle_covers_what_lies_before(study: Path) -> None:
    truth = read_parquet(study / "truth" / "masks.parquet").to_pandas().set_index(["video", "view", "frame"])
    prompts = HEADER
    for view in ("top", "bottom"):
        mask = masks.decode(truth.loc[("pen_01", view, 51), "rle"], SETTINGS.height, SETTINGS.width)
        Image.fromarray(mask.astype(np.uint8) * 255).save(study / "prompts" / f"{view}.png")
        prompts += f"pen_01,{view},sheep_01,51,mask,,,,,{view}.png\n"
    project = load(study, prompts, model="handcrafted", short_side=98)
    table = rows(project, "pen_01")
    check_rows(project, table, "pen_01")
    assert (table.loc[table["frame"] == 51, "state"] == "prompted").all()
    for side in (table["frame"] < 51, table["frame"] > 51):  # both directions
        assert table.loc[side, "rle"].notna().any()
    exact = table[table["frame"] == 51]
    assert overlap(project, exact) > 0.9


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("pen_01,top,sheep_01,0,point,240,10,,,", "lies outside the view"),
        ("pen_01,top,sheep_01,0,box,300,10,20,20,", "outside the view, all of it"),
        ("pen_01,top,sheep_01,0,box,-40,10,60,20,", "outside the view, more than half of it"),
        ("pen_01,top,sheep_01,100,point,10,10,,,", "beyond the end"),
        ("pen_01,side,sheep_01,0,point,10,10,,,", "no view 'side'"),
        ("pen_01,top,wolf,0,point,10,10,,,", "no subject 'wolf'"),
        ("pen_01,top,sheep_01,0,circle,10,10,,,", "not point, box, mask or absent"),
        ("pen_01,top,sheep_01,0,point,ten,10,,,", "not a number"),
        ("pen_01,top,sheep_01,-1,point,10,10,,,", "not a frame number"),
        ("pen_01,top,sheep_01,0,box,10,10,0,5,", "box is empty"),
        ("pen_01,top,sheep_01,0,mask,,,,,none.png", "no mask"),
        ("pen_01,top,sheep_01,0,mask,,,,,empty.png", "empty"),
        ("pen_01,top,sheep_01,0,mask,,,,,small.png", "pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_a_wrong_prompt_names_its_row(study: Path, row: str, problem: str) -> None:
    Image.new("L", (SETTINGS.width, SETTINGS.height)).save(study / "prompts" / "empty.png")
    Image.new("L", (8, 8), 255).save(study / "prompts" / "small.png")
    good = "pen_02,top,sheep_02,0,point,50,50,,,\n"
    project = load(study, HEADER + good + row + "\n", model="handcrafted", short_side=98)
    with pytest.raises(FoveateError, match=problem) as caught:
        track.run(project, project.video("pen_01"))
    assert caught.value.row == 3 and caught.value.remedy and Path(str(caught.value.file)).name == "prompts.csv"
    assert [p.row for p in load_prompts(project, project.video("pen_02"))] == [2]  # the others go on


def test_a_prompt_of_an_unknown_video_is_reported_and_stops_nobody(study: Path) -> None:
    project = load(study, HEADER + "pen_99,top,sheep_01,0,point,5,5,,,\n", model="handcrafted")
    assert load_prompts(project, project.video("pen_01")) == ()
    (error,) = strangers(project)
    assert "pen_99" in str(error) and error.row == 2


def test_prompts_on_the_command_line(study: Path) -> None:
    project = load(study, HEADER, model="handcrafted")
    add_prompts(project, ("pen_01:top:5:30,40.5", "pen_01:bottom:5:30,40"))
    add_prompts(project, ("pen_01:top:5:30,40.5",))  # said twice, written once
    found = load_prompts(project, project.video("pen_01"))
    assert [(p.view, p.frame, p.x, p.y, p.subject) for p in found] == [
        ("bottom", 5, 30, 40, "sheep_01"),
        ("top", 5, 30, 40.5, "sheep_01"),
    ]
    for text in (
        "pen_01",
        "pen_01:5",
        "pen_01:top:x:1,2",
        "pen_01:top:5:1",
        "pen_77:top:5:1,2",
        "pen_01:side:5:1,2",
        "pen_01:5:1,2",
    ):
        with pytest.raises(FoveateError):
            add_prompts(project, (text,))
    assert len(load_prompts(project, project.video("pen_01"))) == 2
    assert parse_prompt("pen_01:top:5:30,40.5", project).x == 30


def test_settings_prompts_and_footage_change_the_stamp(study: Path) -> None:
    project = load(study, HEADER, method="motion")
    video = project.video("pen_01")
    before = track.artefact(project, video).stamp
    assert track.artefact(load(study, HEADER, method="motion", short_side=98), video).stamp != before
    add_prompts(load(study, HEADER), ("pen_02:top:0:5,5",))
    assert track.artefact(load(study, method="motion"), video).stamp == before  # another video's prompt
    add_prompts(load(study), ("pen_01:top:0:5,5",))
    assert track.artefact(load(study, method="motion"), video).stamp != before


@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_absent_ends_a_track(tmp_path: Path) -> None:
    """A pale animal walks off; somebody says when. Without that the tracker keeps to something else, or says lost."""
    project = tracked.make_project(tmp_path, 20, prompts=["v,,,0,box,71,43,26,26,", "v,,,10,absent,,,,,"])
    found = tracked.rows(tracked.tracked(project))
    state = [row["state"] for row in found]
    assert state[0] == "prompted" and set(state[1:10]) <= {"tracked", "uncertain"} and state[10] == "absent"
    assert found[10]["rle"] is None and found[10]["x"] is None
    assert track.artefact(project, project.videos[0]).facts()["prompt"] == "box"


VIEWS = {"left": {"x": 0, "y": 0, "w": 84, "h": 112}, "right": {"x": 84, "y": 0, "w": 84, "h": 112}}


@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_a_subject_that_only_absence_is_said_of_in_a_view_is_absent_there(tmp_path: Path) -> None:
    prompts = ["v,right,a,0,box,0,43,20,26,", "v,left,b,0,box,8,80,40,24,", "v,right,b,3,absent,,,,,"]
    project = tracked.make_project(tmp_path, 8, prompts=prompts, subjects="a;b", views=VIEWS, short_side=56)
    found = tracked.rows(tracked.tracked(project))
    assert {row["state"] for row in found if (row["view"], row["subject"]) == ("right", "b")} == {"absent"}


def test_the_weights_of_the_automatic_prompt_count_where_a_view_has_no_prompt(tmp_path: Path) -> None:
    for prompts, counts in (
        ([], True),
        (["v,right,,0,absent,,,,,"], True),
        (["v,right,,0,point,9,50,,,"], True),
        (["v,right,,0,point,9,50,,,", "v,left,,0,point,9,50,,,"], False),
    ):
        project = tracked.make_project(tmp_path, 4, prompts=prompts, views=VIEWS)
        timeline.run(project, project.videos[0])
        assert ("saliency" in track.artefact(project, project.videos[0]).parents) == counts
