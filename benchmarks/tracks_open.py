"""Do other programs open the tracks that foveate writes, with the same values, and does foveate read theirs?

A minute of footage with two animals and known masks, half a second between analysed frames, gaps, and one animal that leaves.
Out: movement's validators and loaders open our VIA-tracks and netCDF, its kinematics take them; pycocotools decodes our masks;
datumaro opens our CVAT XML; pandas reads our OCTRON CSV in the way of OCTRON's own results reader. In: what movement and
sleap-io write of poses and boxes.

Needs movement (0.15 has plural dimensions, 0.17 singular ones), best in an environment of its own with foveate on PYTHONPATH;
datumaro and sleap-io are used where they are installed:

python benchmarks/tracks_open.py --json benchmarks/results/tracks_open/movement-0.17.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import cells
import numpy as np
import pandas as pd
import yaml

import foveate.api as fv
from foveate import masks, timeline, track
from foveate.exchange.formats import read
from foveate.exchange.sheet import points_box
from foveate.project import Project
from foveate.videowriter import VideoWriter

WIDTH, HEIGHT, RATE, SECONDS = 320, 240, 10, 60
NAMES = ("ewe", "ram")
PROGRAMS = ("movement", "xarray", "sleap-io", "datumaro", "pycocotools", "pandas")


def animal(name: str, frame: int) -> np.ndarray | None:
    """Its mask, or None where it is not in the picture."""
    if (name == "ram" and 200 <= frame < 290) or frame % 70 == 35:
        return None
    k = NAMES.index(name)
    x, y = WIDTH * (0.5 + 0.3 * np.sin(frame / 40 + k)), HEIGHT * (0.5 + 0.25 * np.cos(frame / 31 + 2 * k))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(((columns - x) / 34) ** 2 + ((rows - y) / (22 + 8 * k)) ** 2 <= 1)


def project(folder: Path) -> Project:
    """One video whose track is imported from COCO masks, so that the numbers are known."""
    folder.mkdir()
    with VideoWriter(folder / "pen 1.mp4", WIDTH, HEIGHT, rate=RATE, crf=30) as writer:
        for k in range(RATE * SECONDS):
            writer.write(np.full((HEIGHT, WIDTH, 3), 60 + k % 100, np.uint8))
    (folder / "videos.csv").write_text("video,path,subjects\npen 1,pen 1.mp4,ewe;ram\n")
    (folder / "foveate.yaml").write_text(yaml.safe_dump({"analyse": {"step": 0.5}, "track": {"method": "motion"}}))
    frames = range(0, RATE * SECONDS, 5)
    notes = [
        {
            "image_id": frame,
            "track_id": k,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": masks.encode(mask).decode()},
            "score": (frame % 100) / 100,
        }
        for frame in frames
        for k, name in enumerate(NAMES)
        if (mask := animal(name, frame)) is not None
    ]
    whole = {
        "images": [{"id": frame, "frame_index": frame, "width": WIDTH, "height": HEIGHT} for frame in frames],
        "tracks": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": notes,
    }
    (folder / "truth.json").write_text(json.dumps(whole))
    study = Project.load(folder)
    timeline.run(study, study.videos[0])
    fv.import_tracks(folder / "truth.json", gap=0, project=study)
    track.run(study, study.videos[0])
    return study


def ours(study: Project) -> pd.DataFrame:
    return fv.tracks(study, masks=True)


def grid(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """[frames, subjects, columns]"""
    by = [table[table["subject"] == name].sort_values("frame")[columns].to_numpy(float) for name in NAMES]
    return np.stack(by, axis=1)


def worst(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference; infinite where one has a value and the other has none."""
    if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
        return float("inf")
    return float(np.nanmax(np.abs(one - other)))


def movement_opens(study: Project, folder: Path) -> dict[str, Any]:
    import xarray as xr
    from movement.io import load_bboxes
    from movement.kinematics import compute_velocity
    from movement.validators import datasets

    table = ours(study)
    box, score = grid(table, ["x", "y", "w", "h"]), grid(table, ["score"])[..., 0]
    centre, out = box[..., :2] + box[..., 2:] / 2, {}
    fv.export(folder / "via.csv", "via-tracks", study)
    loaded = load_bboxes.from_via_tracks_file(folder / "via.csv")
    seen = ~np.isnan(box).all(axis=(1, 2))  # VIA has no row for a picture without boxes
    who = next(name for name in ("individual", "individuals") if name in loaded.dims)
    at = loaded.transpose("time", who, "space")
    out["via-tracks"] = {
        "boxes": int((~np.isnan(box[..., 0])).sum()),
        "worst_position_px": worst(centre[seen], at.position.values),
        "worst_shape_px": worst(box[seen][..., 2:], at["shape"].values),
        "worst_confidence": worst(score[seen], at.confidence.values),
    }
    singular = who == "individual"
    for to in ("movement", "movement-legacy"):
        fv.export(folder / f"{to}.nc", to, study)  # type: ignore[arg-type]
        data = xr.load_dataset(folder / f"{to}.nc")
        found: dict[str, Any] = {}
        if (to == "movement") == singular:  # the layout of this version
            (datasets.ValidBboxesInputs if hasattr(datasets, "ValidBboxesInputs") else datasets.ValidBboxesDataset).validate(
                data
            )
            found["validated"] = True
            speed = compute_velocity(data.position)
            found["velocities"] = int(np.isfinite(speed.values).sum())
        name = "individual" if to == "movement" else "individuals"
        data = data.transpose("time", name, "space")
        found |= {
            "worst_position_px": worst(centre, data.position.values),
            "worst_shape_px": worst(box[..., 2:], data["shape"].values),
            "worst_confidence": worst(score, data.confidence.values),
            "worst_time_s": worst(grid(table, ["time"])[:, 0, 0], data.time.values),
            "names": [str(v) for v in data[name].values] == list(NAMES),
        }
        out[to] = found
    return out


def coco_opens(study: Project, folder: Path) -> dict[str, Any]:
    from pycocotools.coco import COCO

    fv.export(folder / "coco.json", "coco", study)
    data, table = COCO(str(folder / "coco.json")), ours(study)
    expected = {(row.frame, row.subject): row.rle for row in table.itertuples() if row.rle is not None}
    wrong, count = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for one in data.loadAnns(data.getAnnIds()):
            frame = data.loadImgs(one["image_id"])[0]["frame_index"]
            rle = expected.pop((frame, NAMES[one["track_id"] - 1]))
            wrong += int((data.annToMask(one).astype(bool) != masks.decode(rle, HEIGHT, WIDTH)).sum())
            count += 1
    return {"masks": count, "pixels_that_differ": wrong, "missing": len(expected), "images": len(data.imgs)}


def cvat_opens(study: Project, folder: Path) -> dict[str, Any]:
    """datumaro's reader of CVAT."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    (folder / "cvat").mkdir()
    fv.export(folder / "cvat" / "annotations.xml", "cvat", study)
    data, table = Dataset.import_from(str(folder / "cvat"), "cvat"), ours(study)
    labels = data.categories()[next(iter(data.categories()))]
    expected = {(row.frame, row.subject): (row.x, row.y, row.w, row.h) for row in table.itertuples() if not np.isnan(row.x)}
    differ, count, hidden = 0.0, 0, 0
    for item in data:
        for one in item.annotations:
            if one.type != AnnotationType.bbox:
                continue
            if one.attributes.get("outside"):
                hidden += 1
                continue
            key = int(item.attributes["frame"]), labels[one.label].name
            if key in expected:
                differ, count = max(differ, float(np.abs(np.array(one.get_bbox()) - expected.pop(key)).max())), count + 1
    return {"boxes": count, "worst_edge_px": differ, "missing": len(expected), "ends_of_visibility": hidden}


def octron_opens(study: Project, folder: Path) -> dict[str, Any]:
    """Seven lines skipped, then a table, as in OCTRON's ``YOLO_results``."""
    fv.export(folder / "octron", "octron", study)
    table, count, differ = ours(study), 0, 0.0
    for path in sorted((folder / "octron").glob("*track_*.csv")):
        data = pd.read_csv(path, skiprows=7)
        assert data["track_id"].nunique() == 1 and data["label"].nunique() == 1
        own = table[(table["subject"] == data["label"][0]) & table["x"].notna()].sort_values("frame")
        assert (own["frame"].to_numpy() == data["frame_idx"].to_numpy()).all()
        edges = data[["bbox_x_min", "bbox_y_min", "bbox_x_max", "bbox_y_max"]].to_numpy(float)
        place = own[["x", "y", "w", "h"]].to_numpy(float)
        differ = max(differ, float(np.abs(edges - np.hstack([place[:, :2], place[:, :2] + place[:, 2:]])).max()))
        count += len(data)
    return {"boxes": count, "worst_edge_px": differ}


def theirs(folder: Path) -> dict[str, Any]:
    """Poses and boxes that movement writes, read by foveate: largest difference from the boxes that follow from the numbers put in."""
    from movement.io import load_bboxes, load_poses, save_poses

    dice, out = np.random.default_rng(1), {}
    points = dice.uniform(20, 200, (50, 2, 4, 2)).round(3)  # time, space, point, individual
    points[7, :, :, 0] = points[20:30, :, 1, 1] = np.nan
    poses = load_poses.from_numpy(points, np.full((50, 4, 2), 0.9), list(NAMES), list("abcd"), fps=RATE, source_software="test")
    expected = {(t, name): points_box(points[t, :, :, k].T) for t in range(50) for k, name in enumerate(NAMES)}
    expected = {key: box for key, box in expected.items() if box is not None}
    save_poses.to_dlc_file(poses, folder / "poses_dlc.csv", split_individuals=False)
    save_poses.to_sleap_analysis_file(poses, folder / "poses_sleap.h5")
    poses.to_netcdf(folder / "poses.nc")
    centre, shape = dice.uniform(40, 90, (50, 2, 2)), dice.uniform(5, 30, (50, 2, 2))
    boxes = load_bboxes.from_numpy(centre, shape, None, list(NAMES), source_software="test")
    boxes.to_netcdf(folder / "boxes.nc")
    of_boxes = {
        (t, name): tuple(np.r_[centre[t, :, k] - shape[t, :, k] / 2, shape[t, :, k]])
        for t in range(50)
        for k, name in enumerate(NAMES)
    }
    files = [("poses_dlc.csv", expected), ("poses_sleap.h5", expected), ("poses.nc", expected), ("boxes.nc", of_boxes)]
    try:
        from movement.io import save_bboxes

        save_bboxes.to_via_tracks_file(boxes, folder / "boxes_via.csv", track_ids_from_trailing_numbers=False)
        files.append(("boxes_via.csv", {(t, str(NAMES.index(name))): box for (t, name), box in of_boxes.items()}))
    except ImportError:
        pass
    for name, wanted in files:
        sheet = read(folder / name, lambda _: True)
        got = {(one.frame if one.frame >= 0 else round(one.time * RATE), one.individual): one.box for one in sheet.sightings}
        if got.keys() != wanted.keys():
            out[name] = {"boxes": len(got), "keys_differ": sorted(map(str, got.keys() ^ wanted.keys()))[:5]}
        else:
            out[name] = {
                "boxes": len(got),
                "worst_px": max(float(np.abs(np.subtract(got[k], wanted[k])).max()) for k in wanted),
            }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    versions = {n: importlib.metadata.version(n) for n in PROGRAMS if importlib.util.find_spec(n.replace("-", "_"))}
    result: dict[str, Any] = {"programs": versions}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = project(folder / "study")
        if "movement" in versions:
            result["movement"] = movement_opens(study, folder)
        result["pycocotools"] = coco_opens(study, folder)
        if "datumaro" in versions:
            result["datumaro"] = cvat_opens(study, folder)
        result["octron"] = octron_opens(study, folder)
        if "movement" in versions:
            result["read_from_movement"] = theirs(folder)
    print(json.dumps(result, indent=1))
    if given.json:
        cells.write_cell(given.json, result)


if __name__ == "__main__":
    main()
