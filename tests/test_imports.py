"""Tracks of other programs in a project: where they belong, what is refused, what is between their frames, and the way back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import foveate.api as fv
from foveate import masks, timeline, track
from foveate.cli import main
from foveate.exchange.sheet import Sighting
from foveate.project import Project
from foveate.schema import FoveateError, State
from foveate.settings import View
from foveate.store import Artefact
from foveate.timeline import Analysed
from foveate.track import events
from foveate.track.external.imports import add_import, load_imports, remove_imports
from foveate.track.external.placing import Trail, ellipse, placed
from tests.tracked import FPS, HEIGHT, WIDTH, animal, make_project, overlap, picture, rows
from tests.videos import make_video

FRAMES = 40
VIA = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes")
VIEWS = {"left": {"x": 0, "y": 0, "w": 84, "h": 112}, "right": {"x": 84, "y": 0, "w": 84, "h": 112}}
Boxes = dict[int, tuple[float, float, float, float]]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    make_project(folder, FRAMES)
    make_video(folder / "other.mp4", (np.full((HEIGHT, WIDTH, 3), 90, np.uint8) for _ in range(12)), fps=FPS)
    return folder


@pytest.fixture
def make(footage: Path, tmp_path: Path) -> Callable[..., Project]:
    def project(**given: object) -> Project:
        for name in ("v.mp4", "other.mp4"):
            (tmp_path / name).write_bytes((footage / name).read_bytes())
        return make_project(tmp_path, FRAMES, method="motion", **given)  # type: ignore[arg-type]

    return project


def via(path: Path, boxes: dict[str, Boxes]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(VIA)
        for who, own in boxes.items():
            for frame, (x, y, w, h) in own.items():
                shape = json.dumps({"name": "rect", "x": x, "y": y, "width": w, "height": h})
                region = json.dumps({"track": 1, "subject": who, "confidence": 0.5})
                writer.writerow([f"a_0{frame}.png", 0, "{}", 1, 0, shape, region])
    return path


def masked(path: Path) -> Path:
    """A COCO file with a mask in every second frame up to 38, two columns further right in each."""
    images = [{"id": k, "frame_index": 2 * k, "width": WIDTH, "height": HEIGHT} for k in range(20)]
    shapes = [masks.encode(np.roll(animal(0), 2 * k, axis=1)).decode() for k in range(20)]
    notes = [
        {"id": k, "image_id": k, "category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": shape}}
        for k, shape in enumerate(shapes)
    ]
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": [{"id": 1, "name": "sheep"}]}))
    return path


def truth(frame: int) -> tuple[float, float, float, float]:
    found = masks.box(animal(frame))
    assert found is not None
    return tuple(map(float, found))  # type: ignore[return-value]


def tracked(project: Project) -> Artefact:
    return track.run(Project.load(project.folder), Project.load(project.folder).videos[0])


def states(artefact: Artefact, view: str = "full") -> list[str]:
    return [str(row["state"]) for row in rows(artefact) if row["view"] == view]


def test_an_imported_track_takes_the_place_of_ours_and_goes_again(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    video = project.videos[0]
    timeline.run(project, video)
    ours = track.artefact(project, video)
    ours.begin()
    ours.finish()
    path = via(tmp_path / "v_tracks.csv", {"anyone": {k: truth(k) for k in range(FRAMES)}})
    before = path.read_bytes()
    done = add_import(project, [path])
    assert (done.video, done.program, done.rows) == ("v", "VIA", [("full", "v", {"tracked": FRAMES})])
    assert path.read_bytes() == before and (tmp_path / "imports" / "v" / path.name).read_bytes() == before
    made = tracked(project)
    assert made.stamp != ours.stamp and made.facts()["imported"] == {"programs": ["VIA"], "content": ["boxes"]}
    for row in rows(made):
        assert [row[name] for name in "xywh"] == list(truth(int(row["frame"])))  # type: ignore[call-overload]
        assert row["score"] == 0.5 and overlap(row, animal(int(row["frame"]))) > 0.85  # type: ignore[call-overload]
    assert tracked(project).stamp == made.stamp  # and nothing is done again
    assert remove_imports(project, ["v"]) == ["v"]
    assert not (tmp_path / "imports" / "v").exists()
    again = track.artefact(project, video)
    assert again.stamp == ours.stamp and again.complete()  # it was kept


def test_what_lies_between_the_frames_of_a_file(make: Callable[..., Project], tmp_path: Path) -> None:
    """Up to the gap the box moves evenly in time; beyond it, before the first and after the last frame the subject is lost."""
    project = make()
    boxes = {4: (10.0, 10.0, 20.0, 10.0), 8: (30.0, 18.0, 24.0, 12.0), 30: (50.0, 50.0, 20.0, 20.0)}
    add_import(project, [via(tmp_path / "v.csv", {"a": boxes})], gap=0.4)
    found = {int(row["frame"]): row for row in rows(tracked(project))}  # type: ignore[call-overload]
    expected = ["lost"] * 4 + ["tracked"] + ["interpolated"] * 3 + ["tracked"] + ["lost"] * 21 + ["tracked"] + ["lost"] * 9
    assert [found[k]["state"] for k in range(FRAMES)] == expected
    assert [found[5][name] for name in "xywh"] == pytest.approx([15.0, 12.0, 21.0, 10.5])
    assert found[9]["x"] is None and found[9]["rle"] is None and found[9]["score"] is None
    add_import(project, [tmp_path / "v.csv"], gap=2.2)
    assert states(tracked(project)).count("interpolated") == 3 + 21


def test_outside_in_cvat_is_absent_and_an_event(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    box = '<box frame="{}" keyframe="1" outside="{}" xtl="{}" ytl="10" xbr="{}" ybr="30"/>'
    shapes = [box.format(*values) for values in ((5, 0, 10, 30), (15, 0, 30, 50), (20, 1, 30, 50), (30, 0, 60, 80))]
    path = tmp_path / "annotations.xml"
    path.write_text(f'<annotations><track id="0" label="sheep">{"".join(shapes)}</track></annotations>')
    add_import(project, [path], "v")
    made = tracked(project)
    assert (
        states(made)
        == ["absent"] * 5
        + (["tracked"] + ["interpolated"] * 9 + ["tracked"] + ["interpolated"] * 4)
        + ["absent"] * 10
        + ["tracked"]
        + ["interpolated"] * 9
    )
    found = rows(made)
    assert found[10]["x"] == 20.0 and found[19]["x"] == 30.0 and found[39]["x"] == 60.0
    assert [(e.kind, e.frame, e.until_frame, e.note) for e in events.read(made)] == [
        ("absent", 0, 4, "the imported file says so"),
        ("absent", 20, 29, "the imported file says so"),
    ]


def test_outside_in_the_file_of_one_view_says_nothing_of_another(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make(views=VIEWS)
    add_import(project, [via(tmp_path / "v.left.csv", {"v": dict.fromkeys((0, 8, 16), (10.0, 10.0, 20.0, 30.0))})])
    box = '<box frame="{}" keyframe="1" outside="{}" xtl="{}" ytl="10" xbr="{}" ybr="30"/>'
    shapes = [box.format(*values) for values in ((0, 0, 100, 130), (4, 1, 100, 130))]
    path = tmp_path / "v.right.xml"
    path.write_text(f'<annotations><track id="0" label="v">{"".join(shapes)}</track></annotations>')
    add_import(project, [path], "v")
    made = tracked(project)
    assert states(made, "right")[4] == "absent"
    assert states(made, "left")[:17] == ["tracked", *["interpolated"] * 7] * 2 + ["tracked"]


def test_two_views_of_one_subject_come_from_one_file(make: Callable[..., Project], tmp_path: Path) -> None:
    """Coordinates of the whole picture: a box belongs to the view that holds its centre, and is cut at its edge."""
    project = make(views=VIEWS)
    boxes = {
        "1": dict.fromkeys(range(FRAMES), (10.0, 10.0, 20.0, 30.0)),
        "2": dict.fromkeys(range(20), (80.0, 10.0, 20.0, 30.0)),
    }
    add_import(project, [via(tmp_path / "v.csv", boxes)], subjects=["1=v", "2=v"])
    made = tracked(project)
    assert states(made, "left") == ["tracked"] * FRAMES and states(made, "right") == ["tracked"] * 20 + ["lost"] * 20
    right = next(row for row in rows(made) if row["view"] == "right")
    assert [right[name] for name in "xywh"] == [0.0, 10.0, 16.0, 30.0]
    own = add_import(
        project, [via(tmp_path / "w.csv", {"1": dict.fromkeys(range(FRAMES), (3.0, 4.0, 20.0, 30.0))})], "v", "right", ["v"]
    )
    assert own.rows == [("left", "v", {"tracked": FRAMES}), ("right", "v", {"tracked": FRAMES})]
    assert [row["x"] for row in rows(tracked(project)) if row["view"] == "right"] == [3.0] * FRAMES


def test_one_file_per_view_adds_up(make: Callable[..., Project], tmp_path: Path) -> None:
    """As we export them; a file replaces only what lay in the same view."""
    project = make(views=VIEWS)
    for name, x in (("left", 10.0), ("right", 100.0), ("left", 12.0)):
        add_import(project, [via(tmp_path / f"v.{name}.csv", {"v": dict.fromkeys(range(FRAMES), (x, 10.0, 20.0, 30.0))})])
    found = rows(tracked(project))
    assert {(row["view"], row["x"]) for row in found} == {("left", 12.0), ("right", 16.0)}
    assert sorted(path.name for path in (tmp_path / "imports" / "v").iterdir()) == ["v.left.csv", "v.right.csv"]


def test_subjects_that_no_file_has_are_absent(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make(subjects="ann;bob")
    done = add_import(project, [via(tmp_path / "v.csv", {"bob": {k: truth(k) for k in range(FRAMES)}})])
    assert done.rows == [("full", "ann", {"absent": FRAMES}), ("full", "bob", {"tracked": FRAMES})]
    found = rows(tracked(project))
    assert len(found) == 2 * FRAMES and {(row["subject"], row["state"]) for row in found} == {
        ("ann", "absent"),
        ("bob", "tracked"),
    }
    two = add_import(project, [via(tmp_path / "x.csv", {"7": {0: truth(0)}, "9": {1: truth(1)}})], "v", subjects=["7=ann"])
    assert two.rows == [("full", "ann", {"tracked": 1, "lost": FRAMES - 1}), ("full", "bob", {"tracked": FRAMES})]
    assert two.notes == ["left out: 9"]


def test_masks_are_kept_and_travel_with_the_box(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    own = animal(0)
    path = masked(tmp_path / "v.json")
    add_import(project, [path])
    found = rows(tracked(project))
    assert [row["state"] for row in found[:39]] == ["tracked", "interpolated"] * 19 + ["tracked"]
    for row in found[:39]:
        assert overlap(row, np.roll(own, int(row["frame"]), axis=1)) > (0.99 if row["state"] == "tracked" else 0.95)  # type: ignore[call-overload]


def test_a_track_goes_out_and_comes_back_unchanged(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make(views={"a": {"x": 8, "y": 6, "w": 150, "h": 100}}, every=3)
    add_import(project, [masked(tmp_path / "first.json")], "v")
    ours = rows(tracked(project))
    assert {row["state"] for row in ours} == {"tracked", "interpolated", "lost"}
    for to, suffix in (("coco", ".json"), ("cvat", ".xml"), ("via-tracks", ".csv"), ("octron", "")):
        assert fv.export(tmp_path / f"out{suffix}", to, project) == 1  # type: ignore[arg-type]
        path = tmp_path / f"out{suffix}"
        remove_imports(project, ["v"])
        add_import(project, [path / "v_track_1.csv" if to == "octron" else path], "v", gap=0)
        back = rows(tracked(project))
        for one, other in zip(ours, back, strict=True):
            assert [one[n] for n in ("frame", "time", *"xywh")] == [other[n] for n in ("frame", "time", *"xywh")]
            assert to != "coco" or one["rle"] == other["rle"]
            assert (one["rle"] is None) == (other["rle"] is None)
        remove_imports(project, ["v"])
        add_import(project, [tmp_path / "first.json"], "v")
        tracked(project)


def test_seconds_are_joined_by_the_timeline(make: Callable[..., Project], tmp_path: Path) -> None:
    import h5netcdf

    project = make()
    path = tmp_path / "v.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"time": 3, "space": 2, "individual": 1}
        file.create_variable("time", ("time",), data=np.array([0.0, 1.01, 1.96]))
        for name, values in (("space", ["x", "y"]), ("individual", ["a"])):
            file.create_variable(name, (name,), data=np.array(values, dtype="S1"))
        for name, value in (("position", 50.0), ("shape", 20.0)):
            file.create_variable(name, ("time", "space", "individual"), data=np.full((3, 2, 1), value))
        file.attrs["time_unit"] = "seconds"
    add_import(project, [path], gap=0)
    assert [row["frame"] for row in rows(tracked(project)) if row["state"] == "tracked"] == [0, 10, 20]


# --- what is refused, and leaves everything as it was -------------------------------------------------------------------------------


def refused(project: Project, match: str, *given: object, **more: object) -> FoveateError:
    """The error of an import, after checking that nothing changed."""
    before = {path: path.read_bytes() for path in (project.folder / "imports").rglob("*") if path.is_file()}
    with pytest.raises(FoveateError, match=match) as caught:
        add_import(project, *given, **more)  # type: ignore[arg-type]
    assert before == {path: path.read_bytes() for path in (project.folder / "imports").rglob("*") if path.is_file()}
    assert caught.value.remedy
    return caught.value


def test_bad_files_are_refused_with_file_and_row(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    good = via(tmp_path / "good.csv", {"a": {0: truth(0), 1: truth(1)}})
    add_import(project, [good], "v")
    late = via(tmp_path / "late.csv", {"a": {0: truth(0), FRAMES: truth(1)}})
    error = refused(project, "frame 40 is beyond the end: the video has 40 frames", [late])
    assert (error.file, error.row) == (late, 3)
    outside = via(tmp_path / "outside.csv", {"a": {0: truth(0), 5: (500.0, 10.0, 20.0, 20.0)}})
    error = refused(project, r"lies outside view 'full', which is 168 x 112", [outside])
    assert (error.file, error.row) == (outside, 3)
    twice = via(tmp_path / "twice.csv", {"a": {3: truth(3)}, "b": {3: truth(3)}})
    error = refused(project, r"subject 'v' \('b'\) has two boxes in frame 3", [twice], subjects=["a=v", "b=v"])
    assert (error.file, error.row) == (twice, 3)
    refused(project, "a, b: not among the subjects of video 'v'", [twice])
    refused(project, "there is no individual 'c'", [twice], subjects=["c=v"])
    refused(project, "has no subject 'dolly'", [twice], subjects=["a=dolly"])
    refused(project, "there is no view 'top'", [good], view="top")
    refused(project, "cannot be read", [tmp_path / "nowhere.csv"])
    refused(project, "no file is named", [])
    refused(project, "no length of time", [good], gap=-1)
    refused(project, "no length of time", [good], gap=float("nan"))
    assert states(tracked(project))[:3] == ["tracked", "tracked", "lost"]  # the good one still counts


def test_a_track_of_another_video_is_refused(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    (tmp_path / "videos.csv").write_text("video,path\nv,v.mp4\nshort,other.mp4\n")
    project = Project.load(tmp_path)
    image = {"id": 1, "frame_index": 0, "width": 640, "height": 480}
    whole = {"images": [image], "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 30, 40]}]}
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(whole))
    refused(project, "640 x 480 pixels, but the video has 168 x 112", [path], "v")
    refused(project, "does not say of which video", [path])
    other = via(tmp_path / "boxes.csv", {"short": {0: (1.0, 2.0, 30.0, 40.0)}})
    refused(project, "the track of 'short', a subject of 'short', and 'v' shows 'v'", [other], "v")
    other.write_text(other.read_text().replace("a_00.png", "short_00.png").replace('""short""', '""x""'))
    refused(project, "of video 'short', not of 'v'", [other], "v")
    head = f"video_name: other.mp4\nframe_count: 12\nvideo_height: {HEIGHT}\nvideo_width: {WIDTH}\ncreated_at: x\n\n"
    table = "frame_counter,frame_idx,track_id,label,confidence,bbox_x_min,bbox_x_max,bbox_y_min,bbox_y_max\n0,0,1,a,1,1,9,1,9\n"
    octron = tmp_path / "a_track_1.csv"
    octron.write_text(head + table)
    refused(project, "of video 'short', not of 'v'", [octron], "v")
    assert add_import(project, [octron]).video == "short"  # it says so itself
    octron.write_text(head.replace("other.mp4", "renamed.mp4").replace("count: 12", "count: 300") + table)
    refused(project, "of a video with 300 frames, but this one has 40", [octron], "v")


def test_a_file_that_was_changed_afterwards_is_noticed(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    add_import(project, [via(tmp_path / "v.csv", {"a": {0: truth(0)}})])
    stored = tmp_path / "imports" / "v" / "v.csv"
    stored.write_text(stored.read_text() + "\n")
    with pytest.raises(FoveateError, match="changed after it was imported"):
        tracked(project)
    stored.unlink()
    with pytest.raises(FoveateError, match="no such file") as caught:
        tracked(project)
    assert "--remove" in str(caught.value.remedy)


def test_an_imported_track_stays_when_its_file_is_gone(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    add_import(project, [via(tmp_path / "v.csv", {"a": {0: truth(0), 8: truth(8)}})])
    folder = tracked(project).folder
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    table = tmp_path / "imports" / "imports.csv"
    table.write_text(table.read_text().replace(",1,", ",0.1,"))  # another gap: the rows are to be made again
    (tmp_path / "imports" / "v" / "v.csv").unlink()
    project = Project.load(tmp_path)
    assert not track.artefact(project, project.videos[0]).complete()
    with pytest.raises(FoveateError, match="no such file"):
        track.run(project, project.videos[0])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_click_on_an_imported_track_says_why_it_does_nothing(make: Callable[..., Project], tmp_path: Path) -> None:
    from foveate.track.prompts import add_prompts

    make()
    (tmp_path / "foveate.yaml").write_text("track: {model: handcrafted}\n")
    project = Project.load(tmp_path)
    add_import(project, [via(tmp_path / "v.csv", {"a": {0: truth(0)}})])
    before = (tmp_path / "prompts" / "prompts.csv").read_bytes()
    with pytest.raises(FoveateError, match="is imported") as caught:
        add_prompts(project, ["v:0:20,20"])
    assert "--remove" in str(caught.value.remedy) and (tmp_path / "prompts" / "prompts.csv").read_bytes() == before


def test_rows_of_the_table_that_are_wrong(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make()
    add_import(project, [via(tmp_path / "v.csv", {"a": {0: truth(0)}})])
    table = tmp_path / "imports" / "imports.csv"
    text = table.read_text()
    table.write_text(text.replace(",v,a,", ",dolly,a,"))
    with pytest.raises(FoveateError, match="no subject 'dolly'") as caught:
        track.artefact(project, project.videos[0])
    assert (caught.value.file, caught.value.row) == (table, 2)
    table.write_text(text.replace("v,,v,a", "gone,,v,a"))
    from foveate.track.external.imports import strangers

    assert "there is no video 'gone'" in str(strangers(project)[0])
    assert not load_imports(project, project.videos[0])


def test_a_killed_import_goes_on_with_the_same_bytes(
    make: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveate.track.scene.SEGMENT", 8)
    project = make()
    add_import(project, [via(tmp_path / "v.csv", {"a": {k: truth(k) for k in range(FRAMES)}})])
    whole = {p.name: p.read_bytes() for p in tracked(project).folder.iterdir()}
    assert len([name for name in whole if name.startswith("part-")]) == 5
    folder = tmp_path / "imported" / "v"
    for kept in range(5):
        track.artefact(project, project.videos[0]).discard()
        target = track.artefact(project, project.videos[0])
        target.begin()
        for name in sorted(whole)[:kept]:
            (folder / name).write_bytes(whole[name])
        assert {p.name: p.read_bytes() for p in tracked(project).folder.iterdir()} == whole


# --- the command line, and Python -------------------------------------------------------------------------------------------------------


def test_the_commands(make: Callable[..., Project], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make()
    path = via(tmp_path / "v.csv", {"a": {k: truth(k) for k in range(10)}})
    assert main(["import", str(path), "-p", str(tmp_path), "--gap", "0.5", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rows"] == [{"view": "full", "subject": "v", "frames": {"tracked": 10, "lost": 30}}]
    assert main(["track", "-p", str(tmp_path), "--workers", "1"]) == 0
    assert main(["export", str(tmp_path / "out.csv"), "--to", "via-tracks", "-p", str(tmp_path)]) == 0
    assert "out.csv: 1 files" in capsys.readouterr().out and (tmp_path / "out.csv").read_text().count("\n") == 11
    assert main(["import", str(path), "--remove", "-p", str(tmp_path)]) == 1
    assert main(["import", "--remove", "-p", str(tmp_path)]) == 1
    capsys.readouterr()
    for said in ("no longer imported: v", "nothing was imported"):
        assert main(["import", "--remove", "--video", "v", "-p", str(tmp_path)]) == 0
        assert said in capsys.readouterr().err
    assert main(["import", str(path), "--video", "v", "w", "-p", str(tmp_path)]) == 1
    table = fv.import_tracks(path, "v", project=project)
    assert table.to_dict("records") == [{"view": "full", "subject": "v", "tracked": 10, "lost": 30}]
    assert fv.import_tracks(remove=True, video="v", project=project).empty


def test_export_needs_a_track_and_a_folder_for_several(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make(views=VIEWS)
    with pytest.raises(FoveateError, match="is not tracked"):
        fv.export(tmp_path / "out.csv", "via-tracks", project)
    boxes = dict.fromkeys(range(FRAMES), (10.0, 10.0, 20.0, 30.0))
    add_import(project, [via(tmp_path / "v.csv", {"a": boxes})])
    tracked(project)
    with pytest.raises(FoveateError, match="2 tracks to write") as caught:
        fv.export(tmp_path / "out.csv", "via-tracks", project)
    assert "folder" in str(caught.value.remedy)
    assert fv.export(tmp_path / "out", "via-tracks", project) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["v.left.csv", "v.right.csv"]
    for kept in ("tracks", "imported/v"):  # `foveate export tracks` must not mix with what is ours
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FoveateError, match="its own tracks") as caught:
            fv.export(tmp_path / kept, "via-tracks", project)
        assert "via-tracks" in str(caught.value.remedy) and sorted(tmp_path.rglob("*")) == before


def test_the_report_names_the_program(make: Callable[..., Project], tmp_path: Path) -> None:
    from foveate.report import methods, provenance, tracks
    from foveate.report.sources import Sources

    project = make()
    add_import(project, [masked(tmp_path / "first.json")], "v")
    done = tracked(project)
    how = tracks.how(project, done.facts())
    own = Artefact(tmp_path / "own", "track", 1, {}, {})
    own.begin()
    own.finish({"prompt": "click"})
    project = make_project(tmp_path, method="propagate")
    both = replace(project, videos=(*project.videos, replace(project.videos[0], name="own")))
    for study, sources, cited in (
        (project, Sources({"track": {"v": done}}), False),
        (both, Sources({"track": {"v": done, "own": own}}), True),
    ):
        text = " ".join(provenance._cite(study, sources))
        assert ("label propagation" in text) == cited and "imported from: COCO" in text
        tracker = provenance._tracker(study, sources)
        assert tracker.endswith("imported from COCO") and ("propagate" in tracker) == cited
    assert how == "imported from COCO (masks)"
    project = make()
    sheets = [tracks.Sheet(name, "", 4.0, text, [], 1, 1) for name, text in (("a", how), ("b", "motion"), ("c", how))]
    said = methods._tracking(project, sheets)
    assert "what moves before a fixed camera" in said and "of 2 videos were made with COCO and imported (masks)" in said
    assert methods._tracking(project, sheets[:1]).startswith("The tracks of 1 video were")


def test_an_ellipse_fills_its_box_and_is_never_empty() -> None:
    view = View(x=0, y=0, w=60, h=40)
    mask = ellipse(view, (10.0, 5.0, 30.0, 20.0))
    assert masks.box(mask) == (10, 5, 30, 20) and abs(mask.sum() / 600 - np.pi / 4) < 0.02
    assert ellipse(view, (59.6, 39.6, 0.2, 0.2)).sum() == 1


def test_cuts_are_found_and_nothing_moves_across_one(tmp_path: Path) -> None:
    other = np.random.default_rng(3).integers(0, 255, (14, 21, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    make_video(tmp_path / "v.mp4", [*(picture(k) for k in range(10)), *[other] * 10], fps=FPS, crf=12)
    path = via(tmp_path / "v_tracks.csv", {"v": dict.fromkeys((0, 4, 8, 12, 16), (20.0, 20.0, 10.0, 10.0))})
    for cuts, between in (("picture", "lost"), ("none", "interpolated")):
        project = make_project(tmp_path, 20, method="motion", cuts=cuts)
        add_import(project, [path])
        made = tracked(project)
        assert events.cuts(made, "full").tolist() == ([10] if cuts == "picture" else [])
        assert states(made)[9:12] == [between] * 3 and states(made)[5:8] == ["interpolated"] * 3


def test_every_frame_outside_holds_until_the_next_sighting() -> None:
    n = 40
    clock = SimpleNamespace(time=np.arange(n) / 10)
    one = Sighting("v", 0, (1.0, 1.0, 5.0, 5.0))
    trail = Trail(View(x=0, y=0, w=WIDTH, h=HEIGHT), dict.fromkeys(range(0, n, 4), (one, one.box, None, False)), [], False, 1.0)  # type: ignore[misc]
    trail.away = list(range(2, n, 4))
    frames = Analysed(np.arange(n), clock.time, np.full(n, 0.1))
    found = [place.state for place in placed(trail, frames, clock)]  # type: ignore[arg-type]
    assert found == [State.TRACKED, State.LOST, State.ABSENT, State.ABSENT] * (n // 4)
    trail.away = [30, 2]  # of two files, say
    found = [place.state for place in placed(trail, frames, clock)]  # type: ignore[arg-type]
    assert [k for k, state in enumerate(found) if state == State.ABSENT] == [2, 3, 30, 31]
