"""How the files in this folder were made: with the programs' own libraries, and the expected boxes from the numbers put in.

Run with sleap-io 0.9.5 and movement 0.15.0 in an environment of their own (neither is needed to run the tests):

    python tests/golden/tracks/record.py
"""

import json
from pathlib import Path

import numpy as np
import sleap_io as sio
from movement.io import load_bboxes, load_poses

HERE = Path(__file__).parent
FRAMES, NODES = 6, 4
dice = np.random.default_rng(3)


def padded(points: np.ndarray) -> list[float] | None:
    """The box around the points, a fifth of its longer side wider on every side, one pixel at least."""
    points = points[~np.isnan(points).any(axis=1)]
    if len(points) < 2:
        return None
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    pad = max(0.2 * max(x1 - x0, y1 - y0), 1)
    return [x0 - pad, y0 - pad, x1 - x0 + 2 * pad, y1 - y0 + 2 * pad]


def made_up() -> tuple[np.ndarray, np.ndarray]:
    """Points [frame, animal, node, xy] with gaps, and their scores."""
    points = dice.uniform(5, 60, (FRAMES, 2, NODES, 2)).round(2)
    points[1, 0] = np.nan  # an animal that is not there
    points[2, 1, 1:] = np.nan  # one point is no box
    points[3, 0, 2] = np.nan
    return points, dice.uniform(0.2, 1, (FRAMES, 2, NODES)).round(3)


def none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def sleap(expected: dict) -> None:
    points, scores = made_up()
    skeleton = sio.Skeleton(nodes=[f"n{k}" for k in range(NODES)])
    tracks = [sio.Track("ewe"), sio.Track("ram")]
    video = sio.Video("pen_01.mp4", open_backend=False)
    frames, rows = [], {0: [], 1: []}
    for f in range(FRAMES):
        instances = []
        for k, track in enumerate(tracks):
            place, sure = points[f, k], scores[f, k]
            if np.isnan(place).all():
                continue
            user = f == 4 and k == 0  # corrected by a person: its prediction lies elsewhere
            shown = place + 100 if user else place
            instances.append(
                sio.PredictedInstance.from_numpy(shown, skeleton=skeleton, point_scores=sure, score=0.5, track=track)
            )
            if user:
                instances.append(sio.Instance.from_numpy(place, skeleton=skeleton, track=track))
            if (box := padded(place)) is not None:
                score = np.nan if user else sure[~np.isnan(place).any(axis=1)].mean()
                rows[k].append([track.name, f, *box, score])
        frames.append(sio.LabeledFrame(video=video, frame_idx=f, instances=instances))
    labels = sio.Labels(frames, videos=[video], skeletons=[skeleton], tracks=tracks)
    sio.save_slp(labels, str(HERE / "sleap.slp"), embed=False)
    by_frame = sorted(rows[0] + rows[1], key=lambda row: (row[1], row[0]))
    expected["sleap.slp"] = {"individuals": ["ewe", "ram"], "rows": [[*row[:-1], none(row[-1])] for row in by_frame]}
    sio.save_analysis_h5(labels, str(HERE / "sleap.analysis.h5"))
    expected["sleap.analysis.h5"] = {"individuals": ["ewe", "ram"], "rows": [[*r[:-1], none(r[-1])] for r in rows[0] + rows[1]]}


def movement(expected: dict) -> None:
    points, scores = made_up()
    data = load_poses.from_numpy(
        points.transpose(0, 3, 2, 1), scores.transpose(0, 2, 1), ["ewe", "ram"], [f"n{k}" for k in range(NODES)], 5, "test"
    )
    data.to_netcdf(HERE / "movement_poses.nc")
    rows = []
    for f in range(FRAMES):
        for k, name in enumerate(("ewe", "ram")):
            if (box := padded(points[f, k])) is not None:
                rows.append([name, f / 5, *box, float(scores[f, k][~np.isnan(points[f, k]).any(axis=1)].mean())])
    expected["movement_poses.nc"] = {"individuals": ["ewe", "ram"], "rows": rows}
    centre, shape = dice.uniform(20, 40, (FRAMES, 2, 2)), dice.uniform(5, 15, (FRAMES, 2, 2))
    centre[2, :, 1] = np.nan
    data = load_bboxes.from_numpy(centre, shape, None, ["ewe", "ram"], source_software="test")
    data.to_netcdf(HERE / "movement_boxes.nc")
    rows = []
    for f in range(FRAMES):
        for k, name in enumerate(("ewe", "ram")):
            if not np.isnan(centre[f, :, k]).any():
                rows.append([name, f, *(centre[f, :, k] - shape[f, :, k] / 2), *shape[f, :, k], None])
    expected["movement_boxes.nc"] = {"individuals": ["ewe", "ram"], "rows": rows}


if __name__ == "__main__":
    wanted: dict = {}
    sleap(wanted)
    movement(wanted)
    (HERE / "expected.json").write_text(json.dumps(wanted, indent=1) + "\n")
