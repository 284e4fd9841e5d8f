"""The table of prompts: what it takes, what it names as wrong, what enters a stamp."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate import cli, timeline
from foveate.cli import study
from foveate.project import Project
from foveate.run import run
from foveate.schema import FoveateError
from foveate.settings import View
from foveate.track.prompts import add_prompts, check, load_prompts, parse_prompt, read_mask, spelled, stamps, strangers
from tests.videos import make_video, numbered

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


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 100 x 100 pixels."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(12, 100, 100))


def filmed(
    folder: Path,
    clip: Path,
    prompts: str | None = None,
    *,
    subjects: str = "",
    views: str = "",
    names: tuple[str, ...] = ("v1", "v2"),
) -> Project:
    """The project with its footage."""
    one = project(folder, prompts, subjects=subjects, views=views, names=names)
    for name in names:
        shutil.copyfile(clip, folder / f"{name}.mp4")
    return one


def table(folder: Path) -> str:
    return (folder / "prompts" / "prompts.csv").read_text(encoding="utf-8")


TWO = "top: {x: 0, y: 0, w: 100, h: 50}, low: {x: 0, y: 50, w: 100, h: 50}"


def test_points_on_the_command_line(tmp_path: Path) -> None:
    one = project(tmp_path)
    prompt = parse_prompt("v1:12:30.5,40", one)
    assert (prompt.video, prompt.view, prompt.frame, prompt.x, prompt.y, prompt.kind) == ("v1", "", 12, 30.5, 40.0, "point")
    prompt = parse_prompt("v1:top:12:30.5,40", one)
    assert (prompt.video, prompt.view, prompt.frame) == ("v1", "top", 12)


@pytest.mark.parametrize("text", ["v1", "v1:3", "v1:a:3,4", "v1:-1:3,4", "v1:3:4", "v1:3:4,5,6", ":3:4,5", "v1:3:x,y"])
def test_what_is_not_understood(tmp_path: Path, text: str) -> None:
    with pytest.raises(FoveateError, match="--prompt"):
        parse_prompt(text, project(tmp_path))


def test_a_question_pasted_as_it_stands(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="not understood") as caught:
        parse_prompt("v1:12:X,Y", project(tmp_path))
    assert "for X,Y" in str(caught.value.remedy)


def test_unknown_video_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="no video 'v11'"):
        parse_prompt("v11:0:3,4", project(tmp_path))


def test_added_prompts_are_read_back(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    assert add_prompts(one, ["v1:0:3,4", "v2:7:0.5,9"]) == []
    assert add_prompts(one, ["v1:0:3,4"]) == []  # again: nothing new
    assert table(tmp_path) == HEADER + "v1,full,,0,point,3,4,,,\nv2,full,,7,point,0.5,9,,,\n"
    (prompt,) = load_prompts(one, one.video("v2"))
    assert (prompt.frame, prompt.x, prompt.y, prompt.view, prompt.subject, prompt.row) == (7, 0.5, 9.0, "full", "v2", 3)


def test_what_is_in_the_table_stays(tmp_path: Path, clip: Path) -> None:
    """Other columns, another order, semicolons, and no newline at the end."""
    one = filmed(tmp_path, clip)
    path = tmp_path / "prompts" / "prompts.csv"
    path.write_text("\ufeffframe;video;kind;y;x;who\n5;v1;point;8;6;me", encoding="utf-8")
    add_prompts(one, ["v2:7:1,2"])
    assert path.read_text(encoding="utf-8").splitlines() == ["frame;video;kind;y;x;who", "5;v1;point;8;6;me", "7;v2;point;2;1;"]
    assert [(p.x, p.y) for name in ("v1", "v2") for p in load_prompts(one, one.video(name))] == [(6, 8), (1, 2)]


def test_a_click_replaces_the_earlier_one(tmp_path: Path, clip: Path) -> None:
    """Only its x and y change: remarks with line breaks, empty rows, Windows line ends and the rows around it stay."""
    one = filmed(tmp_path, clip, subjects="anna")
    path = tmp_path / "prompts" / "prompts.csv"
    header = "video,subject,frame,kind,x,y,note\r\n\r\n"
    text = header + 'v2,,0,point,1,1,"two\nlines, one cell"\r\nv1,anna,0,,16,90,"a ""b"", c"\r\nv1,anna,5,point,7,7'
    path.write_bytes(text.encode())
    assert add_prompts(one, ["v1:0:16,30"]) == ["v1:0:16,30 replaces the click at 16,90"]
    expected = text.replace("16,90", "16,30") + "\r\n"
    assert path.read_bytes().decode() == expected
    assert [(p.frame, p.x, p.y) for p in load_prompts(one, one.video("v1"))] == [(0, 16, 30), (5, 7, 7)]
    assert add_prompts(one, ["v1:5:8.25,7", "v1:5:9,7"]) == [
        "v1:5:8.25,7 replaces the click at 7,7",
        "v1:5:9,7 replaces the click at 8.25,7",
    ]
    assert path.read_bytes().decode() == expected.replace("point,7,7", "point,9,7,")
    assert add_prompts(one, ["v1:3:1,2"]) == []  # another frame: one more
    assert [p.frame for p in load_prompts(one, one.video("v1"))] == [0, 3, 5]


def test_another_view_or_subject_is_not_replaced(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip, views=TWO)
    assert add_prompts(one, ["v1:top:0:1,2", "v1:low:0:3,4", "v2:low:0:5,6"]) == []
    assert len(load_prompts(one, one.video("v1"))) == 2


def test_a_click_does_not_replace_a_box_or_what_stands_twice(tmp_path: Path, clip: Path) -> None:
    box = "v1,,,0,box,1,1,5,5,\n"
    one = filmed(tmp_path / "a", clip, box)
    with pytest.raises(FoveateError, match="a box says already where 'v1' is in frame 0") as caught:
        add_prompts(one, ["v1:0:3,4"])
    assert caught.value.row == 2 and table(tmp_path / "a") == HEADER + box
    twice = "v1,,,0,point,1,1,,,\nv1,,,0,point,2,2,,,\n"
    one = filmed(tmp_path / "b", clip, twice)
    with pytest.raises(FoveateError, match="twice in frame 0"):
        add_prompts(one, ["v1:0:3,4"])
    assert table(tmp_path / "b") == HEADER + twice


def test_the_command_line_says_what_a_click_replaces(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed(tmp_path, clip)
    monkeypatch.setattr(study, "stages", lambda options, until: 0)
    for place in ("16,90", "16,30"):
        assert cli.main(["track", "-p", str(tmp_path), "--prompt", f"v1:0:{place}"]) == 0
    assert capsys.readouterr().err == "v1:0:16,30 replaces the click at 16,90\n"
    assert table(tmp_path) == HEADER + "v1,full,,0,point,16,30,,,\n"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("v1:0:100,9", "the point 100,9 lies outside the view", "100 x 100 pixels"),
        ("v1:0:5,-1", "outside the view", "100 x 100 pixels"),
        ("v1:0:nan,9", "outside the view", "100 x 100 pixels"),
        ("v1:12:5,9", "frame 12 is beyond the end", "12 frames"),
        ("v3:0:5,9", "no video 'v3'", "lists the videos"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_click_beside_the_footage_is_not_stored(
    tmp_path: Path, clip: Path, text: str, problem: str, remedy: str, known: bool
) -> None:
    one = filmed(tmp_path, clip, "v2,,,0,point,1,1,,,\n")
    if known:
        timeline.run(one, one.video("v1"))
    with pytest.raises(FoveateError, match=problem) as caught:
        add_prompts(one, ["v1:11:99,99", text])
    assert remedy in str(caught.value.remedy)
    assert table(tmp_path) == HEADER + "v2,,,0,point,1,1,,,\n"


def test_a_click_is_measured_in_its_view(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip, "", views=TWO)
    with pytest.raises(FoveateError, match="outside the view"):
        add_prompts(one, ["v1:low:0:5,50"])
    assert table(tmp_path) == HEADER
    add_prompts(one, ["v1:low:0:5,49"])


def test_the_timeline_is_read_once(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filmed(tmp_path, clip)
    add_prompts(one, ["v1:0:5,5"])
    assert timeline.artefact(one, one.video("v1")).complete() and not timeline.artefact(one, one.video("v2")).complete()
    monkeypatch.setattr(timeline, "read_timeline", lambda path: pytest.fail("read again"))
    add_prompts(one, ["v1:1:5,5"])


def test_a_click_on_footage_that_cannot_be_read_is_not_stored(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip, "")
    (tmp_path / "v1.mp4").write_text("no video")
    (tmp_path / "v2.mp4").unlink()
    for text in ("v1:0:5,5", "v2:0:5,5"):
        with pytest.raises(FoveateError, match=f"--prompt '{text}' is not stored") as caught:
            add_prompts(one, [text])
        assert caught.value.file == tmp_path / f"{text[:2]}.mp4" and caught.value.remedy
    assert table(tmp_path) == HEADER


def test_a_table_without_room_for_a_click(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    (tmp_path / "prompts" / "prompts.csv").write_text("video,frame,kind,mask\n")
    with pytest.raises(FoveateError, match="column 'x' is missing"):
        add_prompts(one, ["v1:0:5,5"])
    assert table(tmp_path) == "video,frame,kind,mask\n"


def test_a_wrong_prompt_writes_nothing(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    with pytest.raises(FoveateError):
        add_prompts(one, ["v1:0:3,4", "nobody:0:3,4"])
    assert not (tmp_path / "prompts" / "prompts.csv").exists()


def test_several_views_or_subjects_must_be_named(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(FoveateError, match="which view"):
        add_prompts(project(tmp_path / "a", views=TWO), ["v1:0:3,4"])
    with pytest.raises(FoveateError, match="no view 'side'"):
        add_prompts(project(tmp_path / "a", views=TWO), ["v1:side:0:3,4"])
    with pytest.raises(FoveateError, match="which subject"):
        add_prompts(project(tmp_path / "b", subjects="a;b"), ["v1:0:3,4"])
    add_prompts(filmed(tmp_path / "a", clip, views=TWO), ["v1:low:0:3,4"])


def test_a_subject_named_after_the_click(tmp_path: Path, clip: Path) -> None:
    """A click on a video without named subjects stays valid when videos.csv names the one; another click replaces it."""
    one = filmed(tmp_path, clip)
    add_prompts(one, ["v1:0:3,4"])
    named = project(tmp_path, subjects="anna")
    (prompt,) = load_prompts(named, named.video("v1"))
    assert prompt.subject == "anna"
    assert add_prompts(named, ["v1:0:5,5"]) == ["v1:0:5,5 replaces the click at 3,4"]


@pytest.mark.parametrize("cell", ["", "v1", "anna"])
def test_the_only_subject(tmp_path: Path, cell: str) -> None:
    """Empty, by the name the video lent it, or by its own: the same subject, and the same stamp."""
    one = project(tmp_path / "a", f"v1,,{cell},0,point,1,1,,,\n", subjects="anna")
    (prompt,) = load_prompts(one, one.video("v1"))
    assert prompt.subject == "anna"
    same = project(tmp_path / "b", "v1,,anna,0,point,1,1,,,\n", subjects="anna")
    assert stamps(one, [prompt]) == stamps(same, load_prompts(same, same.video("v1")))


@pytest.mark.parametrize(("cell", "problem"), [("", "the subject is empty, and there are 2"), ("v1", "no subject 'v1'")])
def test_one_of_several_subjects_must_be_named(tmp_path: Path, cell: str, problem: str) -> None:
    one = project(tmp_path, f"v2,,eve,0,point,1,1,,,\nv1,,{cell},0,point,1,1,,,\n", subjects="anna;eve")
    with pytest.raises(FoveateError, match=problem) as caught:
        load_prompts(one, one.video("v1"))
    assert caught.value.remedy == "write one of: anna, eve in column subject of row 3"


@pytest.mark.parametrize("text", ["", "video,frame,x,y\nv1,0,1,1\n", "frame,kind\n"])
def test_a_table_that_cannot_be_read_is_one_problem(
    tmp_path: Path, clip: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every video meets it and so does the search for strangers; it is printed once and does not end the run."""
    one = filmed(tmp_path, clip, names=("v1", "v2", "v3"))
    (tmp_path / "prompts" / "prompts.csv").write_text(text)
    (error,) = strangers(one)
    outcome = run(one, "track", workers=1)
    assert [str(failure.error) for failure in outcome.failures] == [str(error)] * 4 and len(outcome.done) == 3
    assert cli.main(["track", "-p", str(tmp_path), "--workers", "1"]) == 1
    assert capsys.readouterr().err.count(error.problem) == 1


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
    one = project(tmp_path, "v1,,,9,point,99.9,49.9,,,\nv1,,,0,box,-5,-5,20,20,\n")
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


def test_a_tracker_that_takes_no_clicks_stores_none(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    with (tmp_path / "foveate.yaml").open("a") as handle:
        handle.write("track: {method: motion}\n")
    with pytest.raises(FoveateError, match="takes no clicks; nothing was stored"):
        add_prompts(Project.load(one.folder), ["v1:0:50,50"])
    assert not (tmp_path / "prompts" / "prompts.csv").exists()


@pytest.mark.parametrize(
    ("text", "view", "subject"),
    [
        ("v1:top:anna:3:4,5", "top", "anna"),
        ("v1:low:eve:3:4,5", "low", "eve"),
        ("v1:low:eve:3:absent", "low", "eve"),
    ],
)
def test_views_and_subjects_on_the_command_line(tmp_path: Path, clip: Path, text: str, view: str, subject: str) -> None:
    one = filmed(tmp_path, clip, views=TWO, subjects="anna;eve")
    add_prompts(one, [text])
    (prompt,) = load_prompts(one, one.video("v1"))
    assert (prompt.view, prompt.subject, prompt.frame) == (view, subject, 3)
    assert (prompt.kind, prompt.x, prompt.y) == (("absent", 0, 0) if "absent" in text else ("point", 4, 5))
    assert spelled(one, one.video("v1"), view, subject, 3) == f"v1:{view}:{subject}:3"
    with pytest.raises(FoveateError, match="which subject"):
        add_prompts(one, ["v1:top:3:4,5"])
    with pytest.raises(FoveateError, match="which view"):
        add_prompts(one, ["v1:anna:3:4,5"])
    with pytest.raises(FoveateError, match="no subject 'ann'"):
        add_prompts(one, ["v1:top:ann:3:4,5"])
    with pytest.raises(FoveateError, match="not understood"):
        add_prompts(one, ["v1:top:anna:eve:3:4,5"])


def test_a_subject_in_the_only_view(tmp_path: Path, clip: Path) -> None:
    """A name that is a view's and a subject's means whichever has to be said."""
    one = filmed(tmp_path, clip, subjects="full;eve")
    add_prompts(one, ["v1:full:3:4,5", "v1:full:eve:3:6,7"])
    assert [(p.view, p.subject, p.x) for p in load_prompts(one, one.video("v1"))] == [("full", "eve", 6), ("full", "full", 4)]
    assert spelled(one, one.video("v1"), "full", "eve", 3) == "v1:eve:3"


def test_absent_takes_the_place_of_a_click_and_the_other_way_round(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    assert add_prompts(one, ["v1:0:5,5", "v1:4:8,9"]) == []
    assert add_prompts(one, ["v1:4:absent"]) == ["v1:4:absent replaces the click at 8,9"]
    assert table(tmp_path) == HEADER + "v1,full,,0,point,5,5,,,\nv1,full,,4,absent,,,,,\n"
    assert add_prompts(one, ["v1:4:absent"]) == []
    assert add_prompts(one, ["v1:4:1,2"]) == ["v1:4:1,2 replaces `absent`"]
    assert table(tmp_path) == HEADER + "v1,full,,0,point,5,5,,,\nv1,full,,4,point,1,2,,,\n"


def test_absent_beyond_the_end(tmp_path: Path, clip: Path) -> None:
    one = filmed(tmp_path, clip)
    with pytest.raises(FoveateError, match="frame 12 is beyond the end"):
        add_prompts(one, ["v1:12:absent"])


def test_a_view_that_is_none_is_named_as_such(tmp_path: Path, clip: Path) -> None:
    """Nobody has to know that the whole picture is called ``full``."""
    one = filmed(tmp_path / "one", clip, "v1,top,,0,point,3,4,,,\n")
    with pytest.raises(FoveateError, match="no view 'top'") as caught:
        load_prompts(one, one.video("v1"))
    assert "empty: foveate.yaml names no views" in str(caught.value.remedy)
    for text, problem, remedy in (
        ("v2:top:0:3,4", "'top' is neither a view nor a subject", "no views (foveate.yaml names none) and the subjects v2"),
        ("v2:top:v2:0:3,4", "no view 'top': foveate.yaml names none", "leave the view out"),
    ):
        with pytest.raises(FoveateError, match=problem) as caught:
            add_prompts(one, [text])
        assert remedy in str(caught.value.remedy)
    two = filmed(tmp_path / "two", clip, subjects="ewe;ram", views=TWO)
    with pytest.raises(FoveateError, match="neither a view nor a subject") as caught:
        add_prompts(two, ["v1:ewa:0:3,4"])
    assert "views top, low and the subjects ewe, ram" in str(caught.value.remedy)
    add_prompts(two, ["v1:top:ewe:0:3,4"])
