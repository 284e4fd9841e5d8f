"""Smoothing: definitions, what cuts it, how it is chosen, and that what was scored is what is predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import annotations
from foveate.actions import metrics, predict, probe, training
from foveate.actions.bouts import Strip
from foveate.actions.smoothing import Smoothing, choose, decide, moving_mean, tidy
from foveate.store import write_text
from tests import probed
from tests.test_bout_scores import bits, strip_of

torch.set_num_threads(1)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 30), window=st.floats(0, 6), seed=st.integers(0, 999))
def test_moving_mean_against_the_definition(n: int, window: float, seed: int) -> None:
    """Irregular frames, cuts anywhere."""
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.choice([0.25, 0.5, 1.0], n))
    piece = np.cumsum(rng.random(n) < 0.2)
    p = rng.random(n).astype(np.float32)
    found = moving_mean(p, Strip(time, np.ones(n), piece), window)
    for i in range(n):
        near = (piece == piece[i]) & (np.abs(time - time[i]) <= window / 2 + 1e-6)
        assert found[i] == pytest.approx(p[near].astype(float).mean())


def test_the_mean_of_a_frame_does_not_depend_on_what_lies_far_away() -> None:
    p = np.random.default_rng(0).random(200).astype(np.float32)
    whole = moving_mean(p, strip_of(200), 4.0)
    part = moving_mean(p[50:150], strip_of(100), 4.0)
    np.testing.assert_array_equal(whole[60:140], part[10:90])  # to the last bit


def test_gaps_are_closed_before_short_bouts_go() -> None:
    strip = strip_of(16, 0.5)
    on = bits("0010110000011101")
    assert "".join("01"[v] for v in tidy(on, strip, 0.5, 0).astype(int)) == "0011110000011111"
    assert "".join("01"[v] for v in tidy(on, strip, 0.4, 1.0).astype(int)) == "0000110000011100"
    assert "".join("01"[v] for v in tidy(on, strip, 0.5, 2.5).astype(int)) == "0000000000011111"
    np.testing.assert_array_equal(tidy(on, strip, 0, 0), on)


def test_a_cut_is_no_gap() -> None:
    """The animal was not seen between two bouts: the time in between is not closed, although it is short on the clock."""
    strip = strip_of(8).take(bits("11101111"))
    on = bits("0110110")
    np.testing.assert_array_equal(tidy(on, strip, 9.0, 0), bits("0110110"))
    assert len(strip.runs(on)[0]) == 2


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 9999), gap=st.sampled_from([0, 0.5, 1.0, 2.0]), least=st.sampled_from([0, 0.5, 1.0, 2.0]))
def test_properties_of_tidy(seed: int, gap: float, least: float) -> None:
    rng = np.random.default_rng(seed)
    on, strip = rng.random(40) < rng.random(), strip_of(40, 0.5, cuts=(int(rng.integers(1, 40)),))
    out = tidy(on, strip, gap, least)
    np.testing.assert_array_equal(tidy(out, strip, gap, least), out)
    first, stop = strip.runs(out)
    assert ((strip.axis[stop] - strip.axis[first]) >= least - 1e-9).all()
    if least == 0:
        assert (out | ~on).all()  # closing only adds
        between = (strip.axis[first[1:]] - strip.axis[stop[:-1]])[strip.piece[first[1:]] == strip.piece[stop[:-1] - 1]]
        assert (between > gap).all()


def flickering(seed: int, frames: int = 400) -> tuple[np.ndarray, np.ndarray, Strip]:  # type: ignore[type-arg]
    """Bouts of ten frames under probabilities that flip for single frames."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(frames) // 10 % 3 == 1).astype(np.int8)
    p = np.where(rng.random(frames) < 0.15, 1 - truth, truth) * 0.6 + 0.2 + 0.05 * rng.normal(size=frames)
    return truth, p.astype(np.float32), strip_of(frames)


def test_flicker_is_smoothed_and_what_needs_nothing_is_left_alone() -> None:
    truth, p, strip = flickering(0)
    found, threshold = choose(truth, p, strip)
    assert found != Smoothing()
    raw = p >= metrics.best_threshold(truth, p)
    wrong = [(on != (truth == 1)).sum() for on in (raw, decide(p, threshold, strip, found))]
    assert wrong[1] < wrong[0] / 2
    clear = (truth * 0.8 + 0.1).astype(np.float32)
    assert choose(truth, clear, strip) == (Smoothing(), metrics.best_threshold(truth, clear))
    nothing = np.random.default_rng(0).random(400).astype(np.float32)
    rare = (np.arange(400) % 200 == 7).astype(np.int8)  # single frames: every smoothing loses them
    assert choose(rare, np.where(rare == 1, 0.9, 0.5 * nothing).astype(np.float32), strip)[0] == Smoothing()


def test_unobserved_frames_are_not_scored_but_carry_smoothing() -> None:
    truth, p, strip = flickering(1)
    hidden = truth.copy()
    hidden[::2] = -1
    found, _ = choose(hidden, p, strip)
    assert found != Smoothing()
    flipped = p.copy()
    flipped[::2] = 1 - p[::2]  # what lies between labelled frames changes what is chosen or where the threshold is
    assert choose(hidden, flipped, strip) != choose(hidden, p, strip)


def test_what_was_scored_is_what_is_predicted(tmp_path: Path) -> None:
    """Half of each video is annotated, animals get lost: decisions and bouts of labelled frames are the same in cross-validation, which
    sees little around them, and in predictions, which see everything; and smoothing did something."""

    def lost(video: str, view: str, subject: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([15, 16, 33, 47, 60]) if subject in "bd" else np.arange(0)

    project = probed.make(tmp_path, [[c] for c in "abcdef"], splits=["train"] * 5 + ["test"], lost=lost, noise=2.0)
    rows = [f"v{k},{c},eat,{3 * k}.0,{20 + 2 * k}.0\nv{k},{c},lie,10,{30 - k}.0" for k, c in enumerate("abcdef")]
    write_text(tmp_path / "annotations" / "observed.csv", "video,subject,behaviour,start,stop\n" + "\n".join(rows) + "\n")
    annotations.run(project)
    probe.run(project)
    fitted = probe.load_probe(project)
    assert fitted.smoothing.any()
    data = training.load(project, project.config.probe)
    assert len(data.around.keys) and (data.around.truth == -1).all()
    assert len(data.everything.keys) < sum(80 - 5 * (c in "bd") for c in "abcdef")  # not the whole videos
    told = probe.artefact(project).table("folds.parquet").to_pandas()
    changed = 0
    for video in project.videos:
        predict.run(project, video)
        now = predict.artefact(project, video).table("predictions.parquet").to_pandas()
        own = told[told["video"] == video.name]
        both = own.merge(now, on=["video", "view", "subject", "frame"], suffixes=("", "_now"), validate="one_to_one")
        assert len(both) == len(own) > 0
        for b in ("eat", "lie"):
            np.testing.assert_array_equal(both[f"pred_{b}"], both[f"pred_{b}_now"])
            np.testing.assert_array_equal(both[f"prob_{b}"], both[f"prob_{b}_now"])
            single = own["view"] != "*"
            np.testing.assert_array_equal(own.loc[single, f"pred_{b}"], own.loc[single, f"raw_{b}"])
            changed += int((own[f"pred_{b}"] != own[f"raw_{b}"]).sum())
    assert changed
    scores = pd.read_csv(project.folder / "probes" / "default" / "scores.csv").set_index(["split", "view", "behaviour"])
    bouts = pd.read_csv(project.folder / "probes" / "default" / "bouts.csv").set_index(["split", "behaviour", "decisions"])
    assert (scores.loc[("cv", "*")]["f1"] != scores.loc[("cv", "*")]["f1_raw"]).any()
    assert (
        bouts.loc[("cv", "eat", "smoothed"), "annotated"] == scores.loc[("cv", "*", "eat"), "bouts"]
    )  # cut where nothing was seen
    assert scores.loc[("cv", "*", "eat"), "bouts"] > scores.loc[("cv", "full", "eat"), "bouts"]
    assert bouts.loc[("cv", "eat", "smoothed"), "predicted"] < bouts.loc[("cv", "eat", "raw"), "predicted"]
