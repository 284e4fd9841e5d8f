"""Files of other programs: what we write is read back as it was, and what they write is read as they mean it."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate import masks
from foveate.exchange import cvat, movement, octron
from foveate.exchange.formats import SUFFIXES, read, write
from foveate.exchange.sheet import Footage, Seen, Sheet, points_box
from foveate.schema import FoveateError

GOLDEN = Path(__file__).parent / "golden" / "tracks"
FOOTAGE = Footage("pen 1", "pen 1.mp4", (64, 48), 200, 20.0, 0.5, 40)
SUBJECTS = ("Ärmel", "bob")


def anything(name: str) -> bool:
    return True


def mask_of(box: tuple[float, float, float, float]) -> bytes:
    """A mask of the footage's size with two holes in it."""
    x, y, w, h = (int(v) for v in box)
    mask = np.zeros((48, 64), np.bool_)
    mask[y : y + h, x : x + w] = True
    mask[y : y + h : 3, x + 1 : x + w - 1 : 2] = False
    return masks.encode(mask)


@st.composite
def tracks(draw: st.DrawFn) -> list[Seen]:
    """Rows of 12 analysed frames, every fifth frame of the video, subjects seen and not seen."""
    rows = []
    for k, subject in itertools.product(range(12), SUBJECTS):
        box = None
        if draw(st.integers(0, 3)):
            x, y = draw(st.integers(0, 40)), draw(st.integers(0, 30))
            box = (
                x + draw(st.integers(0, 64)) / 64,
                float(y),
                draw(st.integers(3, 20)) + 0.25,
                float(draw(st.integers(3, 18))),
            )
        score = None if box is None or not draw(st.booleans()) else draw(st.integers(0, 1000)) / 1000
        rows.append(Seen(5 * k, 0.5 * k, subject, box, score, None if box is None else mask_of(box)))
    return rows


def written(to: str, folder: Path, rows: list[Seen]) -> list[Path]:
    def again(with_masks: bool) -> Iterator[Seen]:
        return (seen if with_masks else seen._replace(rle=None) for seen in rows)

    path = folder / f"out{SUFFIXES[to]}"
    write(to, path, replace(FOOTAGE, analysed=len({seen.frame for seen in rows})), SUBJECTS, again)
    return sorted(path.iterdir()) if path.is_dir() else [path]


def found(sheets: list[Sheet]) -> dict[tuple[str, int], tuple[tuple[float, ...], float]]:
    return {(one.individual, one.frame): (one.box, one.score) for sheet in sheets for one in sheet.sightings}


@pytest.mark.parametrize("to", SUFFIXES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(rows=tracks())
def test_what_is_written_is_read_back(to: str, rows: list[Seen], tmp_path: Path) -> None:
    present = {(seen.subject, seen.frame): seen for seen in rows if seen.box is not None}
    if to.startswith("movement"):  # reading HDF5 starts a process: the property is checked on what the process hands over
        got = found([_movement(written(to, tmp_path, rows)[0])])
    elif not present:
        return
    else:
        for old in tmp_path.rglob("*.csv"):
            old.unlink()
        got = found([read(path, anything) for path in written(to, tmp_path, rows)])
    assert got.keys() == present.keys()
    for key, (box, score) in got.items():
        assert np.allclose(box, present[key].box, rtol=0, atol=1e-6)  # type: ignore[arg-type]
        if to != "cvat":  # which knows no certainty
            assert math.isnan(score) if present[key].score is None else abs(score - (present[key].score or 0)) < 1e-6


def _movement(path: Path) -> Sheet:
    import h5py

    from foveate.exchange.hdf5 import Content

    with h5py.File(path) as file:
        dims = {name: [axis[0].name.strip("/") for axis in file[name].dims] for name in ("position", "shape", "confidence")}
        arrays = {name: np.asarray(file[name][()]) for name in file if name[0] != "_"}
        for name, values in arrays.items():
            if values.dtype.kind == "O":
                arrays[name] = np.array([text.decode() for text in values])
        content = Content(tuple(file), arrays, dims, dict(file.attrs))
    return movement.read_movement(path, content, anything)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(rows=tracks())
def test_masks_come_back_pixel_by_pixel(rows: list[Seen], tmp_path: Path) -> None:
    from pycocotools import mask as coco

    if not any(seen.rle for seen in rows):
        return
    (path,) = written("coco", tmp_path, rows)
    present = {(seen.subject, seen.frame): seen.rle for seen in rows if seen.rle}
    assert {(one.individual, one.frame): one.rle for one in read(path, anything).sightings} == present
    whole = json.loads(path.read_text())
    frames = {image["id"]: image["frame_index"] for image in whole["images"]}
    assert len(frames) == 12
    for one in whole["annotations"]:
        rle = present[SUBJECTS[one["track_id"] - 1], frames[one["image_id"]]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its decoder sets a shape in place
            pixels = coco.decode(one["segmentation"]).astype(bool)
        assert (pixels == masks.decode(rle, 48, 64)).all()
        assert one["area"] == coco.area(one["segmentation"]) == masks.area(rle)


def test_movement_file_is_read_in_its_own_process(tmp_path: Path) -> None:
    rows = [Seen(5 * k, 0.5 * k, name, (1.0 + k, 2.0, 10.0, 8.0), 0.5) for k in range(40) for name in SUBJECTS]
    for to in ("movement", "movement-legacy"):
        (path,) = written(to, tmp_path, rows)
        sheet = read(path, anything)
        assert sheet.individuals == list(SUBJECTS) and len(sheet.sightings) == 80
        assert found([sheet])["bob", 195][0] == (40.0, 2.0, 10.0, 8.0)


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    rows = [
        Seen(5 * k, 0.5 * k, name, (1.0 + k, 2.0, 10.0, 8.0), 0.5, mask_of((1, 2, 10, 8)))
        for k in range(40)
        for name in SUBJECTS
    ]
    for to in SUFFIXES:
        one, other = ([path.read_bytes() for path in written(to, tmp_path / name, rows)] for name in ("a", "b"))
        assert one == other and one


# --- what each format means -------------------------------------------------------------------------------------------------------


def test_visibility_in_cvat(tmp_path: Path) -> None:
    """A track ends with ``outside``, and the first frame in which we do not see the subject says so."""
    box = (4.0, 4.0, 10.0, 10.0)
    rows = [Seen(5 * k, 0.5 * k, "bob", box if k in (1, 2, 6) else None) for k in range(9)]
    (path,) = written("cvat", tmp_path, rows)
    sheet = read(path, anything)
    assert [one.frame for one in sheet.sightings] == [5, 10, 30] and sheet.held
    assert sheet.away == [("bob", 0), ("bob", 15), ("bob", 35)]
    assert path.read_text().count('outside="1"') == 2


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><job><id>7</id><size>30</size><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>29</stop_frame>
<labels><label><name>sheep</name><attributes><attribute><name>size</name></attribute></attributes></label></labels></job>
<original_size><width>64</width><height>48</height></original_size><source>pen.mp4</source></meta>
{tracks}
</annotations>
"""


def cvat_file(folder: Path, tracks: str) -> Path:
    path = folder / "annotations.xml"
    path.write_text(CVAT.format(tracks=tracks))
    return path


def test_shapes_of_cvat(tmp_path: Path) -> None:
    """Boxes, turned boxes, polygons and masks; run lengths go row by row inside the rectangle of the mask, background first."""
    path = cvat_file(
        tmp_path,
        '<track id="0" label="a"><box frame="0" outside="0" occluded="0" keyframe="1" xtl="1.00" ytl="2.00" xbr="11.50" ybr="22.00">'
        '</box><box frame="3" outside="0" occluded="0" keyframe="0" xtl="2" ytl="2" xbr="12" ybr="22"></box></track>'
        '<track id="1" label="b"><box frame="0" outside="0" keyframe="1" xtl="20" ytl="20" xbr="30" ybr="24" rotation="90.00"/></track>'
        '<track id="2" label="c"><polygon frame="4" outside="0" keyframe="1" points="10.00,10.00;20.00,10.00;20.00,30.00"/></track>'
        '<track id="3" label="d"><mask frame="4" outside="0" keyframe="1" rle="1, 2, 3" left="5" top="6" width="3" height="2"></mask>'
        "</track>"
        '<track id="4" label="d"><mask frame="5" outside="0" keyframe="1" rle="0, 4" left="5" top="6" width="2" height="2"/></track>',
    )
    sheet = read(path, anything)
    assert (sheet.size, sheet.frames, sheet.videos, sheet.content) == ((64, 48), 30, ["pen.mp4"], "masks")
    assert sheet.individuals == ["a", "b", "c", "d"]  # the two masks are one individual
    box, filled, turned, polygon, mask, _ = sheet.sightings
    assert box.box == (1.0, 2.0, 10.5, 20.0) and not box.filled and filled.filled and filled.frame == 3
    assert np.allclose(turned.box, (23, 17, 4, 10))
    assert polygon.box == (10.0, 10.0, 10.0, 20.0)
    triangle = masks.decode(polygon.rle or b"", 48, 64)
    assert 100 * 0.8 < triangle.sum() < 100 * 1.25 and triangle[11, 18] and not triangle[28, 12]
    pixels = masks.decode(mask.rle or b"", 48, 64)
    assert sorted(zip(*np.nonzero(pixels), strict=True)) == [(6, 6), (6, 7)]


def test_two_tracks_of_one_label_at_once_are_two_individuals(tmp_path: Path) -> None:
    shape = '<box frame="{}" outside="{}" keyframe="1" xtl="1" ytl="2" xbr="11" ybr="22"/>'
    track = '<track id="{}" label="sheep">' + shape + shape + "</track>"
    both = read(cvat_file(tmp_path, track.format(4, 0, 0, 9, 1) + track.format(7, 3, 0, 12, 1)), anything)
    assert both.individuals == ["sheep 4", "sheep 7"]
    after = read(cvat_file(tmp_path, track.format(4, 0, 0, 9, 1) + track.format(7, 12, 0, 20, 1)), anything)
    assert after.individuals == ["sheep"] and after.away == [("sheep", 9), ("sheep", 20)]


def test_body_points_become_a_padded_box() -> None:
    points = np.array([[10.0, 10.0], [30.0, 20.0], [np.nan, 5.0]])
    assert points_box(points) == (6.0, 6.0, 28.0, 18.0)  # a fifth of 20 pixels on every side
    assert points_box(points[:1]) is None


def test_deeplabcut(tmp_path: Path) -> None:
    path = tmp_path / "pen1DLC_resnet50_studyshuffle1_100.csv"
    head = "scorer,s,s,s,s,s,s\nbodyparts,nose,nose,nose,tail,tail,tail\ncoords,x,y,likelihood,x,y,likelihood\n"
    path.write_text(head + "0,10,10,0.9,30,20,0.7\n1,10,10,0.9,30,20,0.5\n2,,,,30,20,1.0\n")
    sheet = read(path, anything)
    assert sheet.videos == ["pen1"] and sheet.frames == 3 and sheet.content == "points"
    (one,) = sheet.sightings  # in the other frames fewer than two points are likely
    assert one.box == (6.0, 6.0, 28.0, 18.0) and one.score == pytest.approx(0.8) and one.row == 4
    several = "scorer,s,s,s,s\nindividuals,a,a,b,b\nbodyparts,nose,nose,nose,nose\ncoords,x,y,x,y\n0,1,1,5,5\n"
    path.write_text(several)
    with pytest.raises(FoveateError, match="no track"):  # one point each
        read(path, anything)
    path.write_text(several.replace("b,b", "a,a").replace("nose,nose\n", "tail,tail\n"))
    (one,) = read(path, anything).sightings
    assert one.individual == "a" and one.box == (0.0, 0.0, 6.0, 6.0) and math.isnan(one.score)
    path.write_text(several.replace("\n0,", "\nlabeled-data/pen1/img0.png,"))
    with pytest.raises(FoveateError, match="no frame number"):
        read(path, anything)


def test_youtube_vis_and_polygons_in_coco(tmp_path: Path) -> None:
    path = tmp_path / "vis.json"
    square = [[4, 4, 14, 4, 14, 14, 4, 14]]
    whole = {
        "videos": [{"id": 3, "file_names": ["pen/00000.jpg", "pen/00001.jpg"], "width": 64, "height": 48, "length": 2}],
        "categories": [{"id": 1, "name": "sheep"}],
        "annotations": [
            {"id": 9, "video_id": 3, "category_id": 1, "segmentations": [None, square], "bboxes": [None, [4, 4, 10, 10]]}
        ],
    }
    path.write_text(json.dumps(whole))
    sheet = read(path, anything)
    (one,) = sheet.sightings
    assert (one.frame, one.box, masks.area(one.rle or b"")) == (1, (4.0, 4.0, 10.0, 10.0), 100)
    image = {"id": 1, "file_name": "frames/img_0012.png", "width": 64, "height": 48}
    single = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    path.write_text(json.dumps({"images": [image], "categories": whole["categories"], "annotations": [single]}))
    (one,) = read(path, anything).sightings
    assert (one.individual, one.frame, one.rle) == ("sheep", 12, None)


# --- written by the other programs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleap.analysis.h5", "sleap.slp", "movement_poses.nc", "movement_boxes.nc"])
def test_files_that_other_programs_wrote(name: str) -> None:
    """``tests/golden/tracks/README.md`` says who wrote them, and how the numbers beside them were made."""
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    sheet = read(GOLDEN / name, anything)
    assert sheet.individuals == expected["individuals"]
    got = [[one.individual, one.frame if one.frame >= 0 else one.time, *one.box, one.score] for one in sheet.sightings]
    wanted = [[math.nan if value is None else value for value in row] for row in expected["rows"]]
    assert [row[0] for row in got] == [row[0] for row in wanted]
    assert np.allclose(
        np.array([row[1:] for row in got], float), np.array([row[1:] for row in wanted], float), atol=1e-4, equal_nan=True
    )


# --- faults -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem", "row"),
    [
        ('a_01.png,0,"{}",1,0,"{""name"": ""circle""}","{""track"": 1}"', "no rectangle", 2),
        (
            'a.png,0,"{}",1,0,"{""name"": ""rect"", ""x"": 1, ""y"": 1, ""width"": 2, ""height"": 2}","{""track"": 1}"',
            "no frame",
            2,
        ),
        ('a_01.png,0,"{}",1,0,"{""name"": ""rect"", ""x"": 1, ""y"": 1, ""width"": 2, ""height"": 2}","{}"', "no track", 2),
        (
            'a_01.png,0,"{}",1,0,"{""name"": ""rect"", ""x"": 1, ""y"": 1, ""width"": 0, ""height"": 2}","{""track"": 1}"',
            "a box",
            2,
        ),
        ('a_01.png,0,"{}",1,0,"{""name"": ""rect"", ""x"": 1}","{""track"": 1}"', "is missing", 2),
        ('a_01.png,0,"{",1,0,"{}","{}"', "no JSON", 2),
        ("a,b", "2 cells", 2),
    ],
)
def test_wrong_rows_of_via(text: str, problem: str, row: int, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    path.write_text(f"{header}\n{text}\n")
    with pytest.raises(FoveateError, match=problem) as caught:
        read(path, anything)
    assert caught.value.row == row and caught.value.file == path and caught.value.remedy


@pytest.mark.parametrize(
    ("tracks", "problem"),
    [
        ('<track id="0" label="a"><polyline frame="0" points="1,1;2,2"/></track>', "covers no area"),
        ('<track id="0" label="a"><box frame="0" xtl="1" ytl="2" xbr="1" ybr="3"/></track>', "a box cannot have"),
        ('<track id="0" label="a"><box frame="x" xtl="1" ytl="2" xbr="4" ybr="3"/></track>', "without the numbers"),
        (
            '<track id="0" label="a"><mask frame="0" rle="1,2" left="0" top="0" width="2" height="2"/></track>',
            "without the numbers",
        ),
        ('<track id="0" label="a">' + 2 * '<box frame="0" xtl="1" ytl="2" xbr="4" ybr="3"/>' + "</track>", "two shapes"),
        ('<image id="0" name="a.png"><box xtl="1" ytl="2" xbr="4" ybr="3"/></image>', "single images"),
        ("<track>", "damaged XML"),
        ("", "holds no track"),
    ],
)
def test_wrong_shapes_of_cvat(tracks: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match=problem) as caught:
        read(cvat_file(tmp_path, tracks), anything)
    assert caught.value.remedy


def test_cvat_takes_no_document_type(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "boom">]><annotations>&b;</annotations>')
    with pytest.raises(FoveateError, match="document type"):
        read(path, anything)


def test_octron_without_boxes(tmp_path: Path) -> None:
    path = tmp_path / "a_track_1.csv"
    path.write_text("video_name: a.mp4\nframe_count: 3\nframe_counter,frame_idx,track_id,label,pos_x,pos_y\n0,0,1,a,3,4\n")
    with pytest.raises(FoveateError, match="bbox_x_min"):
        read(path, anything)


def test_a_mask_in_parts_in_octron(tmp_path: Path) -> None:
    path = tmp_path / "a_track_1.csv"
    path.write_text(
        "video_name: a.mp4\nframe_count: 3\nvideo_height: 48\nvideo_width: 64\n"
        "frame_counter,frame_idx,track_id,label,confidence,bbox_x_min,bbox_x_max,bbox_y_min,bbox_y_max\n"
        '0,1,1,worm,0.5,"(2.0, 20.0)","(8.0, 30.0)","(5.0, 6.0)","(9.0, 16.0)"\n'
    )
    (one,) = octron.read_octron(path, anything).sightings
    assert one.box == (2.0, 5.0, 28.0, 11.0) and one.individual == "worm"


@pytest.mark.parametrize("to", SUFFIXES)
def test_damaged_files_are_never_a_traceback(to: str, tmp_path: Path) -> None:
    """Bytes changed, cut off, or doubled: either it still reads, or a FoveateError says what is wrong."""
    rows = [
        Seen(5 * k, 0.5 * k, name, (1.0 + k, 2.0, 10.0, 8.0), 0.5, mask_of((1, 2, 10, 8)))
        for k in range(6)
        for name in SUBJECTS
    ]
    path = written(to, tmp_path, rows)[0]
    whole, dice = path.read_bytes(), random.Random(5)
    outcomes = set()
    for _ in range(4 if to.startswith("movement") else 150):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at, kind = dice.randrange(len(damaged)), dice.randrange(4)
            if kind == 0:
                damaged[at] = dice.randrange(256)
            elif kind == 1:
                del damaged[at : at + dice.randint(1, 40)]
            elif kind == 2:
                damaged[at:at] = damaged[max(0, at - 30) : at]
            else:
                damaged[at:at] = dice.choice([b"-", b"1e999", b"nan", b"{", b'"', b"\xff", b"\0", b"[[", b","])
        path.write_bytes(bytes(damaged) or b" ")
        try:
            read(path, anything)
            outcomes.add("read")
        except FoveateError as error:
            outcomes.add("refused")
            assert error.remedy and error.file
    assert "refused" in outcomes


def test_unknown_files(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", b"x,y\n1,2\n"),
        ("b.h5", b"\x89HDF\r\n\x1a\nnothing"),
        ("c.bin", bytes(range(256))),
        ("d", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FoveateError) as caught:
            read(tmp_path / name, anything)
        assert caught.value.remedy
    with pytest.raises(FoveateError, match="cannot be read"):
        read(tmp_path / "nowhere.csv", anything)


def test_csv_field_limit_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    path.write_text(header + "x" * (csv.field_size_limit() + 1) + "\n")
    with pytest.raises(FoveateError, match="not a CSV file"):
        read(path, anything)


def test_a_polygon_needs_the_size_of_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<annotations><track id="0" label="a"><polygon frame="4" outside="0" keyframe="1" points="1,1;5,1;5,9"/></track></annotations>'
    )
    (one,) = cvat.read_cvat(path, anything).sightings
    assert one.rle is None and one.box == (1.0, 1.0, 4.0, 8.0)
