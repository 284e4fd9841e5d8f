"""From probabilities to decisions without flicker: a moving mean, short gaps closed, short bouts removed, per behaviour.

Three numbers in seconds, applied to the probabilities of view ``*`` in this order: the probability becomes the mean over all frames whose
time is at most half a ``window`` away; frames at or above the threshold are positive; gaps of at most ``gap`` between two bouts are
closed; bouts shorter than ``least`` are removed. All of it stays inside unbroken stretches (``bouts.Strip``): a frame in which the animal
was not seen is a cut, and nothing is known of what it did there.

The numbers are chosen where strength and threshold are, on folds inside the training rows (``selection``). What the choice maximises is
the mean of frame F1 and segmental F1 at a temporal overlap of .25 (``bout_scores``): frames alone do not mind flicker (a false bout of one
frame costs one frame), bouts alone do not mind that half of each is missing. Nothing at all is a candidate, and wins unless another gains
more than ``MARGIN``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.actions import metrics
from foveate.actions.bout_scores import segment_counts
from foveate.actions.bouts import GAP, Strip

WINDOWS = (0.0, 1.0, 2.0, 4.0)
GAPS = (0.0, 1.0, 2.0)
LEASTS = (0.0, 1.0, 2.0)

REACH = max(WINDOWS) / 2 + max(GAPS) + max(LEASTS)
"""Seconds to both sides of a frame that a decision about it may depend on, beside the frames that straddle these limits."""

MARGIN = 0.01
"""What a candidate has to gain over doing nothing, so that none of the many wins by a frame or two."""

OVERLAP = 0.25


@dataclass(frozen=True)
class Smoothing:
    """Seconds; 0 leaves that step out."""

    window: float = 0.0
    gap: float = 0.0
    least: float = 0.0

    @property
    def seconds(self) -> tuple[float, float, float]:
        return self.window, self.gap, self.least


def moving_mean(probability: NDArray[np.float32], strip: Strip, window: float) -> NDArray[np.float64]:
    """float64 ``[N]``: mean over the frames of the same stretch at most ``window / 2`` seconds away; the frame itself always counts.

    Summed neighbour by neighbour, so that the result for a frame is the same, to the last bit, however much lies around it.
    """
    own = probability.astype(np.float64)
    total, count = own.copy(), np.ones(len(own))
    if window <= 0:
        return total
    for step in range(1, len(own)):
        near = (strip.piece[step:] == strip.piece[:-step]) & (strip.time[step:] - strip.time[:-step] <= window / 2 + GAP)
        if not near.any():
            break
        total[step:] += np.where(near, own[:-step], 0.0)
        total[:-step] += np.where(near, own[step:], 0.0)
        count[step:] += near
        count[:-step] += near
    mean: NDArray[np.float64] = total / count
    return mean


def tidy(on: NDArray[np.bool_], strip: Strip, gap: float, least: float) -> NDArray[np.bool_]:
    """Close gaps of at most ``gap`` seconds between two bouts of a stretch, then remove bouts shorter than ``least`` seconds.

    A bout that a cut or the end of the video breaks off is as long as what is seen of it.
    """
    out = on.copy()
    if gap > 0:
        first, stop = strip.runs(out)
        length = strip.axis[first[1:]] - strip.axis[stop[:-1]]
        close = (strip.piece[first[1:]] == strip.piece[stop[:-1] - 1]) & (length <= gap + GAP)
        for a, b in zip(stop[:-1][close], first[1:][close], strict=True):
            out[a:b] = True
    if least > 0:
        first, stop = strip.runs(out)
        short = strip.axis[stop] - strip.axis[first] < least - GAP
        for a, b in zip(first[short], stop[short], strict=True):
            out[a:b] = False
    return out


def decide(probability: NDArray[np.float32], threshold: float, strip: Strip, smoothing: Smoothing) -> NDArray[np.bool_]:
    """Decisions of one behaviour for the frames of ``strip``."""
    mean = moving_mean(probability, strip, smoothing.window)
    return tidy(mean >= threshold, strip, smoothing.gap, smoothing.least)


def decide_all(
    probability: NDArray[np.float32], threshold: NDArray[np.float64], strip: Strip, smoothing: NDArray[np.float64]
) -> NDArray[np.int8]:
    """int8 ``[N, L]``: ``decide`` for every behaviour; ``smoothing`` is ``[L, 3]``."""
    columns = [
        decide(probability[:, k], float(threshold[k]), strip, Smoothing(*smoothing[k].tolist())) for k in range(len(threshold))
    ]
    return np.stack(columns, axis=1).astype(np.int8)


def choose(truth: NDArray[np.int8], probability: NDArray[np.float32], strip: Strip) -> tuple[Smoothing, float]:
    """The best smoothing of one behaviour and its threshold.

    For every window the threshold is the one with the largest F1 of frames; see the module for what is maximised. Of equally good
    candidates the one that does less comes first.

    Args:
        truth: int8 ``[N]``; -1 counts neither for nor against, but takes part in the smoothing.
        probability: float32 ``[N]``, of probes that did not see these frames.
    """
    observed = truth >= 0
    watched, told = strip.take(observed), truth[observed] == 1

    def score(on: NDArray[np.bool_]) -> float:
        said = on[observed]
        frames = metrics.f1(np.array([(told & said).sum(), (~told & said).sum(), (told & ~said).sum()]))
        return float(frames + metrics.f1(segment_counts(told, said, watched, OVERLAP))) / 2

    threshold = metrics.best_threshold(truth, probability)
    nothing = Smoothing(), threshold
    best, most = nothing, -np.inf
    base = score(probability.astype(np.float64) >= threshold)
    for window in WINDOWS:
        mean = moving_mean(probability, strip, window)
        threshold = metrics.best_threshold(truth, mean)
        for gap, least in itertools.product(GAPS, LEASTS):
            if (found := score(tidy(mean >= threshold, strip, gap, least))) > most + 1e-12:
                best, most = (Smoothing(window, gap, least), threshold), found
    return best if most > base + MARGIN else nothing
