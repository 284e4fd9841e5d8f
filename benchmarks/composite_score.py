"""Scores of a tracked composite (``composite.py``) against its truth.

Present (a quarter or more of the subject can be seen): J is the region IoU, 0 where the row has no mask; asked is J > .5 in 95 % of these
frames. Gone (nothing can be seen): a row with a mask is a ghost. An absence is a stretch of 5 s or more without a present frame. It is
marked at its start when the first row of state ``absent`` comes, counted from the first frame in which the subject is gone; at its end when
J is above .5 again, counted from the first present frame. Asked is 1 s at either end. An absence is false where such a row's subject is
present. A mask lies on another subject when it shares more pixels with that one than with its own.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foveate import masks
from foveate.store import read_parquet

PRESENT, ABSENCE, WITHIN = 0.25, 5.0, 1.0
SIZE = 360, 640
GOOD = 0.5


def joined(folder: Path) -> pd.DataFrame:
    """Truth with the row of each analysed frame: J, pixels shared with the own and with the other subject, state."""
    truth = read_parquet(folder / "truth" / "composite.parquet").to_pandas()
    parts = [read_parquet(path).to_pandas() for path in sorted((folder / "tracks" / "composite").glob("part-*.parquet"))]
    table = truth.merge(pd.concat(parts)[["frame", "state", "rle"]], on="frame", suffixes=("", "_found"), validate="1:1")
    assert len(table) == len(truth), "not every analysed frame has its row"
    overlap, own, other = [], [], []
    for row in table.itertuples():
        true, theirs = masks.decode(row.rle, *SIZE), masks.decode(row.other, *SIZE)
        found = masks.decode(row.rle_found, *SIZE) if isinstance(row.rle_found, bytes) else np.zeros(SIZE, np.bool_)
        own.append(int((found & true).sum()))
        other.append(int((found & theirs).sum()))
        overlap.append(own[-1] / max(1, int((found | true).sum())))
    return table.assign(
        J=overlap,
        own=own,
        on_other=other,
        seen=table["rle_found"].map(lambda rle: isinstance(rle, bytes)),
        present=table["shown"] >= PRESENT,
        gone=table["shown"] == 0,
    )


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def absences(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every absence with the seconds until it was marked at either end; None where it never was."""
    time, found = table["time"].to_numpy(), []
    present, gone = table["present"].to_numpy(), table["gone"].to_numpy()
    marked, good = (table["state"] == "absent").to_numpy(), (table["J"] > GOOD).to_numpy()
    stretches = [
        s for s in runs(~present) if time[min(s[1], len(time) - 1)] - time[s[0]] >= ABSENCE and gone[s[0] : s[1]].any()
    ]
    for k, (start, stop) in enumerate(stretches):
        first = start + int(np.argmax(gone[start:stop]))
        marks = np.flatnonzero(marked[start:stop])
        last = stretches[k + 1][0] if k + 1 < len(stretches) else len(time)
        again = np.flatnonzero(good[stop:last])
        found.append(
            {
                "start": float(time[first]),
                "stop": float(time[stop]) if stop < len(time) else None,
                "start_delay": max(0.0, float(time[start + marks[0]] - time[first])) if len(marks) else None,
                "stop_delay": float(time[stop + again[0]] - time[stop]) if len(again) else None,
                "ghosts": int((table["seen"].to_numpy() & gone)[start:stop].sum()),
            }
        )
    return found


def score(folder: Path) -> dict[str, Any]:
    """All scores of a tracked composite; ``folder`` is its project."""
    table = joined(folder)
    present = table[table["present"]]
    kinds = {
        str(kind): {
            "frames": len(own),
            "good": round(float((own["J"] > GOOD).mean()), 4),
            "J": round(float(own["J"].mean()), 4),
        }
        for kind, own in present.groupby("kind")
    }
    gaps = absences(table)
    starts = [one["start_delay"] for one in gaps]
    stops = [one["stop_delay"] for one in gaps if one["stop"] is not None]
    false = runs(((table["state"] == "absent") & table["present"]).to_numpy())
    path = folder / "tracks" / "composite" / "events.csv"
    events = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    return {
        "good": round(float((present["J"] > GOOD).mean()), 4),
        "J": round(float(present["J"].mean()), 4),
        "present_frames": len(present),
        "not_counted_frames": int((~table["present"] & ~table["gone"]).sum()),
        "gone_frames": int(table["gone"].sum()),
        "ghost_frames": int((table["gone"] & table["seen"]).sum()),
        "wrong_subject_frames": int((table["on_other"] > table["own"]).sum()),
        "by_kind": kinds,
        "absences": gaps,
        "marked_within_1_s": sum(d is not None and d <= WITHIN for d in starts)
        + sum(d is not None and d <= WITHIN for d in stops),
        "ends_of_absences": len(starts) + len(stops),
        "false_absences": len(false),
        "false_absence_frames": sum(b - a for a, b in false),
        "events": {kind: sum(e["kind"] == kind for e in events) for kind in sorted({e["kind"] for e in events})},
        "asked": sum(event["kind"] == "ask" for event in events),
    }


def show(result: dict[str, Any]) -> None:
    print(f"{'':12} {'frames':>6} {'J > .5':>6} {'J':>6}")
    for kind, own in (*result["by_kind"].items(), ("all", {**result, "frames": result["present_frames"]})):
        print(f"{kind:12} {own['frames']:6} {own['good']:6.3f} {own['J']:6.3f}")
    for one in result["absences"]:
        ends = ["never" if one[key] is None else f"{one[key]:.1f} s" for key in ("start_delay", "stop_delay")]
        print(f"absence at {one['start']:6.1f} s: marked after {ends[0]}, found again after {ends[1]}, {one['ghosts']} ghosts")
    print(
        f"ends marked within 1 s: {result['marked_within_1_s']} of {result['ends_of_absences']}; ghosts {result['ghost_frames']} of "
        f"{result['gone_frames']} frames; false absences {result['false_absences']} ({result['false_absence_frames']} frames); on another "
        f"subject {result['wrong_subject_frames']}; asked {result['asked']}; events {result['events']}"
    )
