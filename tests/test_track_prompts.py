"""The table of prompts: what it takes, what it names as wrong, what enters a stamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.project import Project, View
from foveate.schema import FoveateError
from foveate.track.prompts import add_prompts, check, load_prompts, parse_prompt, read_mask, stamps

HEADER = "video,view,subject,frame,kind,x,y,w,h,mask\n"
VIEWS = {"full": View(x=0, y=0, w=100, h=50)}


def project(
    folder: Path, prompts: str | None = None, *, subjects: str = "", views: str = "", names: tuple[str, ...] = ("v1", "v2")
) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "videos.csv").write_text("video,path,subjects\n" + "".join(f"{name},{name}.mp4,{subjects}\n" for name in names))
    (folder / "foveate.yaml").write_text(f"analyse: {{step: 0.5}}\nviews: {{{views}}}\n")
    (folder / "prompts").mkdir(exist_ok=True)
    if prompts is not None:
        (folder / "prompts" / "prompts.csv").write_text(HEADER + prompts, encoding="utf-8")
    return Project.load(folder)


TWO = "top: {x: 0, y: 0, w: 100, h: 50}, low: {x: 0, y: 50, w: 100, h: 50}"


def test_points_on_the_command_line(tmp_path: Path) -> None:
    one = project(tmp_path)
    prompt = parse_prompt("v1:12:30.5,40", one)
    assert (prompt.video, prompt.view, prompt.frame, prompt.x, prompt.y, prompt.kind) == ("v1", "", 12, 30.5, 40.0, "point")
    prompt = parse_prompt("v1:top:12:30.5,40", one)
    assert (prompt.video, prompt.view, prompt.frame) == ("v1", "top", 12)


@pytest.mark.parametrize("text", ["v1", "v1:3", "v1:a:3,4", "v1:3:4", "v1:3:4,5,6", ":3:4,5", "v1:3:x,y"])
def test_what_is_not_understood(tmp_path: Path, text: str) -> None:
    with pytest.raises(FoveateError, match="--prompt"):
        parse_prompt(text, project(tmp_path))


def test_unknown_video_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no video 'v11'"):
        parse_prompt("v11:0:3,4", project(tmp_path))


def test_added_prompts_are_read_back(tmp_path: Path) -> None:
    one = project(tmp_path)
    add_prompts(one, ["v1:0:3,4", "v2:7:0.5,9"])
    add_prompts(one, ["v1:0:3,4"])  # again: nothing new
    text = (tmp_path / "prompts" / "prompts.csv").read_text()
    assert text == HEADER + "v1,full,v1,0,point,3,4,,,\nv2,full,v2,7,point,0.5,9,,,\n"
    (prompt,) = load_prompts(one, one.video("v2"))
    assert (prompt.frame, prompt.x, prompt.y, prompt.view, prompt.subject, prompt.row) == (7, 0.5, 9.0, "full", "v2", 3)


def test_what_is_in_the_table_stays(tmp_path: Path) -> None:
    """Other columns, another order, semicolons, and no newline at the end."""
    one = project(tmp_path)
    path = tmp_path / "prompts" / "prompts.csv"
    path.write_text("\ufeffframe;video;kind;y;x;who\n5;v1;point;8;6;me", encoding="utf-8")
    add_prompts(one, ["v2:7:1,2"])
    assert path.read_text(encoding="utf-8").splitlines() == ["frame;video;kind;y;x;who", "5;v1;point;8;6;me", "7;v2;point;2;1;"]
    assert [(p.x, p.y) for name in ("v1", "v2") for p in load_prompts(one, one.video(name))] == [(6, 8), (1, 2)]


def test_a_wrong_prompt_writes_nothing(tmp_path: Path) -> None:
    one = project(tmp_path)
    with pytest.raises(FoveateError):
        add_prompts(one, ["v1:0:3,4", "nobody:0:3,4"])
    assert not (tmp_path / "prompts" / "prompts.csv").exists()


def test_several_views_or_subjects_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="which view"):
        add_prompts(project(tmp_path / "a", views=TWO), ["v1:0:3,4"])
    with pytest.raises(FoveateError, match="no view 'side'"):
        add_prompts(project(tmp_path / "a", views=TWO), ["v1:side:0:3,4"])
    with pytest.raises(FoveateError, match="which subject"):
        add_prompts(project(tmp_path / "b", subjects="a;b"), ["v1:0:3,4"])
    add_prompts(project(tmp_path / "a", views=TWO), ["v1:low:0:3,4"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("v1,side,,0,point,1,1,,,", "no view 'side'"),
        ("v1,,nobody,0,point,1,1,,,", "no subject 'nobody'"),
        ("v1,,,0,circle,1,1,,,", "kind 'circle'"),
        ("v1,,,-1,point,1,1,,,", "frame '-1'"),
        ("v1,,,1.5,point,1,1,,,", "frame '1.5'"),
        ("v1,,,0,point,1,,,,", "y is ''"),
        ("v1,,,0,point,1,nan,,,", "y is 'nan'"),
        ("v1,,,0,box,1,1,0,5,", "box is empty"),
        ("v1,,,0,box,1,1,5,,", "h is ''"),
        ("v1,,,0,mask,,,,,", "no mask is named"),
        ("v1,,,0,mask,,,,,gone.png", "no mask 'gone.png'"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: str, problem: str) -> None:
    one = project(tmp_path, "v2,,,0,point,1,1,,,\n" + row + "\n")
    with pytest.raises(FoveateError, match=problem) as caught:
        load_prompts(one, one.video("v1"))
    assert caught.value.row == 3 and str(caught.value.file).endswith("prompts.csv") and caught.value.remedy


def test_twice_in_one_frame(tmp_path: Path) -> None:
    one = project(tmp_path, "v1,,,4,point,1,1,,,\nv1,full,v1,4,point,2,2,,,\n")
    with pytest.raises(FoveateError, match="twice in frame 4"):
        load_prompts(one, one.video("v1"))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("v1,,,10,point,1,1,,,", "frame 10 is beyond the end"),
        ("v1,,,0,point,100,1,,,", "outside the view"),
        ("v1,,,0,point,1,-1,,,", "outside the view"),
        ("v1,,,0,box,100,1,5,5,", "outside the view"),
        ("v1,,,0,box,-5,1,5,5,", "outside the view"),
    ],
)
def test_prompts_beside_the_footage(tmp_path: Path, row: str, problem: str) -> None:
    one = project(tmp_path, row + "\n")
    with pytest.raises(FoveateError, match=problem) as caught:
        check(one, load_prompts(one, one.video("v1")), 10, VIEWS)
    assert caught.value.row == 2


def test_prompts_at_the_very_edge_are_fine(tmp_path: Path) -> None:
    one = project(tmp_path, "v1,,,9,point,99.9,49.9,,,\nv1,,,0,box,-5,-5,6,6,\n")
    check(one, load_prompts(one, one.video("v1")), 10, VIEWS)


def write_mask(folder: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(folder / "prompts" / "m.png")


def test_masks(tmp_path: Path) -> None:
    one = project(tmp_path)
    (tmp_path / "prompts" / "prompts.csv").write_text(HEADER + "v1,,,0,mask,,,,,m.png\n")
    truth = np.zeros((50, 100), np.bool_)
    truth[10:20, 30:60] = True
    for pixels in (truth * np.uint8(255), truth.astype(np.uint8), np.stack([truth * np.uint8(200)] * 3, -1)):
        write_mask(tmp_path, pixels)
        (prompt,) = load_prompts(one, one.video("v1"))
        np.testing.assert_array_equal(read_mask(one, prompt, VIEWS["full"]), truth)
    palette = Image.fromarray(truth.astype(np.uint8), "L").convert("P")
    palette.putdata(truth.astype(np.uint8).ravel().tolist())
    palette.save(tmp_path / "prompts" / "m.png")
    np.testing.assert_array_equal(read_mask(one, prompt, VIEWS["full"]), truth)
    before = stamps(one, [prompt])
    write_mask(tmp_path, truth[::-1] * np.uint8(255))
    assert stamps(one, [prompt]) != before


def test_wrong_masks(tmp_path: Path) -> None:
    one = project(tmp_path)
    (tmp_path / "prompts" / "prompts.csv").write_text(HEADER + "v1,,,0,mask,,,,,m.png\n")
    for pixels, problem in ((np.zeros((50, 100), np.uint8), "is empty"), (np.ones((50, 99), np.uint8), "99 x 50 pixels")):
        write_mask(tmp_path, pixels)
        with pytest.raises(FoveateError, match=problem) as caught:
            check(one, load_prompts(one, one.video("v1")), 10, VIEWS)
        assert caught.value.row == 2
    (tmp_path / "prompts" / "m.png").write_text("not a picture")
    with pytest.raises(FoveateError, match="not a picture"):
        check(one, load_prompts(one, one.video("v1")), 10, VIEWS)


def test_the_row_does_not_enter_the_stamp(tmp_path: Path) -> None:
    one = project(tmp_path / "a", "v1,,,0,point,1,1,,,\n")
    two = project(tmp_path / "b", "v2,,,0,point,1,1,,,\nv1,full,v1,0,point,1.0,1,,,\n")
    assert stamps(one, load_prompts(one, one.video("v1"))) == stamps(two, load_prompts(two, two.video("v1")))
