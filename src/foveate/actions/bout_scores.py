"""The table ``bouts.csv``: annotated bouts against predicted bouts, for readers who count, time and sequence bouts rather than frames.

Both sides are runs of analysed frames of view ``*``, cut to the time in which the behaviour was looked for and the animal was seen; a run
never reaches across time that says nothing. Limits are therefore as exact as the analysed frames are dense.

Columns
    split, behaviour     as in scores.csv; ``*macro`` is the mean over the behaviours that scores.csv scores
    decisions            ``smoothed`` (what predictions, bouts and budgets are made of) or ``raw`` (the same thresholds alone; without any
                         smoothing slightly others might have been chosen)
    window, gap, least   seconds of the final probe's smoothing (``smoothing``); that of the folds is in probe.json
    annotated, predicted        number of bouts; annotated_seconds, predicted_seconds: their median length
    f1_10, f1_25, f1_50  segmental F1 at a temporal intersection over union of .1, .25, .5 (Lea et al. 2017, section 4.1): a predicted bout
                         counts if the annotated bout that it overlaps best does so by that much and is not yet taken. 0 where nothing
                         is right, also without any bout; f1_25_low, f1_25_high: 95 % bootstrap interval over groups, from 5 groups on
    onset_error, offset_error   median seconds between the limits of the bouts matched at .25; empty where none is; ``matched`` counts them
    kappa                Cohen's kappa of frames against the annotator; empty where both sides are constant
    recordings           videos x animals with an observed frame of the behaviour
    banos_*              as the package ``banos`` 1.0.0 has them: the mean over recordings, undefined values left out: precision, recall
                         and f1 of detection (the first annotated bout that is touched by one frame, and not yet taken), so (segment
                         overlap: mean intersection over union of all pairs that touch), tp (temporal precision: mean of 1 / (1 + frames
                         that start and stop are off)), ic (intra-bout continuity: 1 - switches / (frames - 1)). Two things make
                         them flatter than they look: what is undefined is dropped, and a recording with neither an
                         annotated nor a predicted bout scores 1 everywhere. Therefore beside them
    undefined_f1, undefined_so, undefined_ic    recordings dropped (undefined_so is that of tp, too), and ``empty``, those that score 1
    strict_f1            the same f1 with 0 where it was undefined, over the recordings with a bout on either side
    strict_so, strict_tp, strict_ic    over bouts matched at .25 only, pooled; tp in seconds instead of frames, so that the frame rate does
                         not enter; ic of matched bouts of at least two frames
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.bouts import Strip
from foveate.schema import ALL_VIEWS

if TYPE_CHECKING:
    import pandas as pd

    from foveate.actions.scores import Scored

OVERLAPS = (0.1, 0.25, 0.5)
MATCHED = 0.25
"""Temporal overlap from which two bouts are taken for the same one where limits are compared."""

BANOS = ("precision", "recall", "f1", "so", "tp", "ic")

COLUMNS = (
    *("split", "behaviour", "decisions", "window", "gap", "least"),
    *("annotated", "predicted", "annotated_seconds", "predicted_seconds"),
    *("f1_10", "f1_25", "f1_25_low", "f1_25_high", "f1_50", "matched", "onset_error", "offset_error", "kappa", "recordings"),
    *(f"banos_{name}" for name in BANOS),
    *("undefined_f1", "undefined_so", "undefined_ic", "empty", "strict_f1", "strict_so", "strict_tp", "strict_ic"),
)

MEANS = (
    *(f"f1_{round(100 * o)}" for o in OVERLAPS),
    *(
        "onset_error",
        "offset_error",
        "kappa",
        *(f"banos_{name}" for name in BANOS),
        "strict_f1",
        "strict_so",
        "strict_tp",
        "strict_ic",
    ),
)
"""Columns that the row ``*macro`` has, as mean over the behaviours where they are defined."""

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First frames, and the frames after the last ones."""


def pairs(
    truth: Runs, said: Runs, axis: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Annotated bout, predicted bout and intersection over union of all pairs that overlap, ordered by predicted bout.

    Rounded: two frames of four are a half, and two such pairs are alike, wherever on the axis they lie.

    Args:
        axis: ``Strip.axis``; bouts of one side do not overlap each other.
    """
    (a, b), (c, d) = truth, said
    low, high = np.searchsorted(b, c, side="right"), np.searchsorted(a, d, side="left")
    count = np.maximum(high - low, 0)
    of_said = np.repeat(np.arange(len(c)), count)
    of_truth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low[of_said]
    start = np.maximum(axis[a[of_truth]], axis[c[of_said]])
    stop = np.minimum(axis[b[of_truth]], axis[d[of_said]])
    together = stop - start
    union = axis[b[of_truth]] - axis[a[of_truth]] + axis[d[of_said]] - axis[c[of_said]] - together
    return of_truth, of_said, np.round(together / union, 6)


def matches(truth: Runs, said: Runs, axis: NDArray[np.float64], overlap: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Annotated bouts that are found, and the predicted bout that finds each: the first whose best partner it is, by ``overlap``.

    This is the rule of segmental F1 (Lea et al. 2017; the evaluation code of MS-TCN). A predicted bout is not passed on to its second best
    partner; from an overlap of .5 on there is none.
    """
    of_truth, of_said, iou = pairs(truth, said, axis)
    order = np.lexsort([of_truth, -iou, of_said])  # of equal overlaps the earlier bout, as argmax has it
    best = order[np.unique(of_said[order], return_index=True)[1]]
    best = best[iou[best] >= overlap]
    found, first = np.unique(of_truth[best], return_index=True)
    return found, of_said[best][first]


def segment_counts(told: NDArray[np.bool_], said: NDArray[np.bool_], strip: Strip, overlap: float) -> NDArray[np.int64]:
    """Bouts found, predicted bouts that find none, and annotated bouts not found: TP, FP, FN of segmental F1."""
    truth, predicted = strip.runs(told), strip.runs(said)
    hits = len(matches(truth, predicted, strip.axis, overlap)[0])
    return np.array([hits, len(predicted[0]) - hits, len(truth[0]) - hits])


def kappa(told: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Cohen's kappa, NaN where chance alone would agree always (both sides constant and the same)."""
    if not len(told):
        return np.nan
    agree, p, q = float((told == said).mean()), float(told.mean()), float(said.mean())
    chance = p * q + (1 - p) * (1 - q)
    return np.nan if chance >= 1 else (agree - chance) / (1 - chance)


def banos(told: NDArray[np.bool_], said: NDArray[np.bool_], strip: Strip) -> dict[str, float]:
    """The six numbers of one recording as the package has them, NaN where it has NaN; see the module. ``strip`` may have cuts, which the
    package does not know: bouts end there."""
    truth, predicted = strip.runs(told), strip.runs(said)
    (a, b), (c, d) = truth, predicted
    if not len(a):
        return dict.fromkeys(BANOS, 0.0 if len(c) else 1.0)
    of_truth, of_said, _ = pairs(truth, predicted, strip.axis)
    taken: set[int] = set()
    for p in range(len(c)):
        free = [t for t in of_truth[of_said == p].tolist() if t not in taken]
        taken.update(free[:1])
    hits = len(taken)
    precision, recall = hits / len(c) if len(c) else np.nan, hits / len(a)
    together = np.minimum(b[of_truth], d[of_said]) - np.maximum(a[of_truth], c[of_said])
    union = (b - a)[of_truth] + (d - c)[of_said] - together
    off = np.abs(a[of_truth] - c[of_said]) + np.abs(b[of_truth] - d[of_said])
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall > 0 else np.nan,
        "so": _mean(together / union),
        "tp": _mean(1 / (1 + off)),
        "ic": _mean(continuity(said, a, b)),
    }


def continuity(said: NDArray[np.bool_], first: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 - switches / (frames - 1) of every annotated bout of two or more frames."""
    long = stop - first > 1
    switched = np.concatenate([[0], np.cumsum(said[1:] != said[:-1])])
    a, b = first[long], stop[long] - 1
    share: NDArray[np.float64] = 1 - (switched[b] - switched[a]) / (b - a)
    return share


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _without_nan(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else np.nan


def behaviour_row(
    told: NDArray[np.bool_], said: NDArray[np.bool_], strip: Strip, recording: NDArray[np.int64]
) -> dict[str, float]:
    """The columns of one behaviour but the first three and the interval, for observed frames ``[N]`` of ``recording`` [N]."""
    truth, predicted = strip.runs(told), strip.runs(said)
    (a, b), (c, d) = truth, predicted
    axis = strip.axis
    found, by = matches(truth, predicted, axis, MATCHED)
    onset, offset = np.abs(axis[a[found]] - axis[c[by]]), np.abs(axis[b[found]] - axis[d[by]])
    together = np.minimum(axis[b[found]], axis[d[by]]) - np.maximum(axis[a[found]], axis[c[by]])
    union = (axis[b] - axis[a])[found] + (axis[d] - axis[c])[by] - together
    row: dict[str, float] = {
        "annotated": len(a),
        "predicted": len(c),
        "annotated_seconds": float(np.median(axis[b] - axis[a])) if len(a) else np.nan,
        "predicted_seconds": float(np.median(axis[d] - axis[c])) if len(c) else np.nan,
        "matched": len(found),
        "onset_error": float(np.median(onset)) if len(found) else np.nan,
        "offset_error": float(np.median(offset)) if len(found) else np.nan,
        "kappa": kappa(told, said),
    }
    row |= {f"f1_{round(100 * o)}": float(metrics.f1(segment_counts(told, said, strip, o))) for o in OVERLAPS}
    each, empty = [], 0
    names = np.unique(recording)
    for name in names:
        mine = recording == name
        each.append(banos(told[mine], said[mine], strip.take(mine)))
        empty += not (told[mine].any() or said[mine].any())
    row |= {"recordings": len(names), "empty": empty}
    row |= {f"banos_{name}": _without_nan([one[name] for one in each]) for name in BANOS}
    row |= {f"undefined_{name}": sum(bool(np.isnan(one[name])) for one in each) for name in ("f1", "so", "ic")}
    detection = [0.0 if np.isnan(one["f1"]) else one["f1"] for one in each]
    filled = len(names) - empty
    row["strict_f1"] = (sum(detection) - empty) / filled if filled else np.nan  # the empty ones had 1 each
    row |= {"strict_so": _mean(together / union), "strict_tp": _mean(1 / (1 + onset + offset))}
    return row | {"strict_ic": _mean(continuity(said, a[found], b[found]))}


def bout_table(
    scored: Sequence[Scored], behaviours: Sequence[str], smoothing: Sequence[Sequence[float]], seed: int
) -> pd.DataFrame:
    """Score the bouts of every split; see the module for the columns. ``smoothing``: of the final probe, ``[L][3]``."""
    import pandas as pd

    from foveate.actions.scores import ENOUGH_GROUPS, INTERVAL_GROUPS, MACRO
    from foveate.actions.windows import series_of

    rows: list[dict[str, Any]] = []
    for side in scored:
        view = np.flatnonzero(side.keys["view"].to_numpy() == ALL_VIEWS)
        keys, truth = side.keys.iloc[view], side.truth[view]
        groups, group = np.unique(side.group[view], return_inverse=True)
        recording = series_of(keys)
        for decisions, said in (("smoothed", side.predicted[view]), ("raw", side.raw[view])):
            counts = np.zeros((len(groups), len(behaviours), 3), dtype=np.int64)
            own: list[dict[str, Any]] = []
            for k, behaviour in enumerate(behaviours):
                watched = truth[:, k] >= 0
                strip, told, positive = side.strip.take(watched), truth[watched, k] == 1, said[watched, k] == 1
                row = behaviour_row(told, positive, strip, recording[watched])
                for g in range(len(groups)):
                    mine = group[watched] == g
                    counts[g, k] = segment_counts(told[mine], positive[mine], strip.take(mine), MATCHED)
                chosen = dict(
                    zip(("window", "gap", "least"), smoothing[k] if decisions == "smoothed" else (0, 0, 0), strict=True)
                )
                own.append({"split": side.split, "behaviour": behaviour, "decisions": decisions, **chosen, **row})
            enough = (counts[..., 0] + counts[..., 2] > 0).sum(0) >= (ENOUGH_GROUPS if side.split == "cv" else 1)
            if len(groups) >= INTERVAL_GROUPS:
                each, macro = metrics.bootstrap_f1(counts, enough, seed=seed)
                for k, line in enumerate(own):
                    line |= {"f1_25_low": each[k, 0], "f1_25_high": each[k, 1]}
            whole: dict[str, Any] = {"split": side.split, "behaviour": MACRO, "decisions": decisions}
            use = [line for line, good in zip(own, enough, strict=True) if good]
            whole |= {name: _without_nan([line[name] for line in use]) for name in MEANS}
            if len(groups) >= INTERVAL_GROUPS:
                whole |= {"f1_25_low": macro[0], "f1_25_high": macro[1]}
            rows += [*own, whole]
    return pd.DataFrame(rows, columns=list(COLUMNS))
