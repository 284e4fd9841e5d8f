"""Bouts against bouts: golden numbers of the package banos, a plain segmental F1, scikit-learn's kappa, and the undefined cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.actions.bout_scores import banos, behaviour_row, kappa, matches, segment_counts
from foveate.actions.bouts import Strip

GOLDEN = json.loads((Path(__file__).parent / "golden" / "banos.json").read_text(encoding="utf-8"))
NAMES = {"precision": "precision", "recall": "recall", "f1": "f1_score", "so": "so", "tp": "tp", "ic": "ic"}

Case = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def bits(text: str) -> NDArray[np.bool_]:
    return np.array([c == "1" for c in text])


def strip_of(frames: int, step: float = 0.5, cuts: tuple[int, ...] = ()) -> Strip:
    piece = np.zeros(frames, dtype=np.int64)
    piece[list(cuts)] = 1
    return Strip(np.arange(frames) * step, np.full(frames, step), np.cumsum(piece))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Truth and prediction of a few dozen frames, in bouts, related to each other."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = np.convolve(rng.normal(size=n + 4), np.ones(5), "valid") > rng.normal()
    return truth, np.convolve(rng.normal(size=n + 2), np.ones(3), "valid") + 2 * truth > 1


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=range(len(GOLDEN["cases"])))
def test_banos_golden(case: dict[str, object]) -> None:
    truth, said = bits(str(case["truth"])), bits(str(case["predicted"]))
    found = banos(truth, said, strip_of(len(truth)))
    for ours, theirs in NAMES.items():
        expected = case[theirs]
        assert found[ours] == pytest.approx(np.nan if expected is None else expected, nan_ok=True), ours


@pytest.mark.parametrize("step", [0.1, 1 / 25, 1 / 3])
def test_an_overlap_of_just_a_half_counts_wherever_it_lies(step: float) -> None:
    """Added up, tenths and twenty-fifths of seconds are a little off: that must not decide."""
    truth, said = np.tile(bits("110000"), 40), np.tile(bits("100000"), 40)
    strip = Strip(np.arange(240) * step, np.diff(np.arange(241) * step), np.zeros(240, dtype=np.int64))
    assert segment_counts(truth, said, strip, 0.5).tolist() == [40, 0, 0]
    truth = np.tile(bits("101000"), 40)  # what is said overlaps two alike: the first is taken
    found, _ = matches(strip.runs(truth), strip.runs(np.tile(bits("111000"), 40)), strip.axis, 0.3)
    assert found.tolist() == list(range(0, 80, 2))


def test_banos_mean_over_recordings_and_what_it_hides() -> None:
    """The package's mean over all golden cases, taken as recordings; beside it what it leaves out."""
    truths, saids = zip(*((bits(c["truth"]), bits(c["predicted"])) for c in GOLDEN["cases"]), strict=True)
    recording = np.repeat(np.arange(len(truths)), [len(t) for t in truths])
    strip = Strip.of(
        recording, np.concatenate([np.arange(len(t)) for t in truths]), np.zeros(len(recording)), np.ones(len(recording))
    )
    row = behaviour_row(np.concatenate(truths), np.concatenate(saids), strip, recording)
    for ours, theirs in NAMES.items():
        assert row[f"banos_{ours}"] == pytest.approx(GOLDEN["mean"][theirs])
    f1 = [c["f1_score"] for c in GOLDEN["cases"]]
    empty = sum("1" not in c["truth"] + c["predicted"] for c in GOLDEN["cases"])
    assert row["undefined_f1"] == f1.count(None) > 0 and row["empty"] == empty > 0 and row["recordings"] == len(f1)
    strict = [c["f1_score"] or 0 for c in GOLDEN["cases"] if "1" in c["truth"] + c["predicted"]]
    assert row["strict_f1"] == pytest.approx(np.mean(strict)) and row["strict_f1"] < row["banos_f1"]


def test_three_recordings_that_banos_calls_perfect() -> None:
    """One perfect, one in which nothing was predicted, one all wrong: undefined values are dropped there; here they count."""
    truth, said = bits("0110" + "0110" + "1100"), bits("0110" + "0000" + "0001")
    recording = np.repeat([0, 1, 2], 4)
    strip = Strip.of(recording, np.tile(np.arange(4), 3), np.tile(np.arange(4.0), 3), np.ones(12))
    row = behaviour_row(truth, said, strip, recording)
    assert (row["banos_f1"], row["banos_so"], row["banos_tp"]) == (1, 1, 1)
    assert (row["undefined_f1"], row["undefined_so"], row["strict_f1"]) == (2, 2, pytest.approx(1 / 3))
    assert row["f1_25"] == pytest.approx(2 / (2 + 1 + 2))


@settings(max_examples=100, deadline=None)
@given(case=cases(), overlap=st.sampled_from([0.1, 0.25, 0.5, 0.75]), data=st.data())
def test_segmental_f1_against_the_plain_loop(case: Case, overlap: float, data: st.DataObject) -> None:
    truth, said = case
    cut = data.draw(st.integers(0, len(truth)))
    strip = strip_of(len(truth), cuts=(cut,) if 0 < cut < len(truth) else ())

    def bouts(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
        out = []
        for i in range(len(on)):
            if on[i]:
                if i and on[i - 1] and i != cut:
                    out[-1] = (out[-1][0], i + 1)
                else:
                    out.append((i, i + 1))
        return out

    a, p = bouts(truth), bouts(said)
    hit = [False] * len(a)
    tp = fp = 0
    for start, stop in p:
        iou = [max(0, min(stop, z) - max(start, y)) / (max(stop, z) - min(start, y)) for y, z in a]
        best = int(np.argmax(iou)) if iou else 0
        if iou and iou[best] >= overlap and not hit[best]:
            hit[best], tp = True, tp + 1
        else:
            fp += 1
    assert segment_counts(truth, said, strip, overlap).tolist() == [tp, fp, len(a) - tp]


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_kappa_is_scikit_learns(case: Case) -> None:
    truth, said = case
    if len(set(truth) | set(said)) == 1:
        assert np.isnan(kappa(truth, said))
    else:
        assert kappa(truth, said) == pytest.approx(sklearn.metrics.cohen_kappa_score(truth, said))


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_limits_of_segmental_f1(case: Case) -> None:
    """Perfect predictions find all; a wider overlap never finds fewer; every bout is used once."""
    truth, said = case
    strip = strip_of(len(truth))
    runs = strip.runs(truth), strip.runs(said)
    assert segment_counts(truth, truth, strip, 0.5).tolist() == [len(runs[0][0]), 0, 0]
    found = [matches(*runs, strip.axis, overlap) for overlap in (0.1, 0.25, 0.5)]
    assert len(found[0][0]) >= len(found[1][0]) >= len(found[2][0])
    for a, b in found:
        assert len(set(a)) == len(a) and len(set(b)) == len(b)


def test_onset_and_offset_errors_are_seconds_of_matched_bouts() -> None:
    truth, said = bits("0111100000111100001"), bits("0011110000111111000")
    row = behaviour_row(truth, said, strip_of(len(truth), 0.4), np.zeros(len(truth), dtype=np.int64))
    assert (row["annotated"], row["predicted"], row["matched"]) == (3, 2, 2)
    assert row["onset_error"] == pytest.approx(0.2)  # .4 and 0
    assert row["offset_error"] == pytest.approx(0.6)  # .4 and .8
    assert row["strict_tp"] == pytest.approx((1 / 1.8 + 1 / 1.8) / 2)
    assert row["annotated_seconds"] == pytest.approx(1.6)


def test_a_gap_in_what_was_observed_never_joins_bouts() -> None:
    """Half of the frames between two bouts were not looked at: they stay two bouts, and none is found that spans the gap."""
    on = bits("1111")
    whole = strip_of(6).take(bits("110011"))
    assert len(whole.runs(on)[0]) == 2 and segment_counts(on, on, whole, 0.5).tolist() == [2, 0, 0]


def test_never_annotated_and_never_predicted() -> None:
    nothing = np.zeros(5, dtype=bool)
    row = behaviour_row(nothing, nothing, strip_of(5), np.zeros(5, dtype=np.int64))
    assert row["f1_25"] == 0 and row["banos_f1"] == 1 and row["empty"] == 1
    assert all(np.isnan(row[name]) for name in ("kappa", "onset_error", "strict_f1", "strict_so", "annotated_seconds"))
