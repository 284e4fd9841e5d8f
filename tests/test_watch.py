"""The watch for collapse: its numbers against their definitions, its verdicts against looks made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from foveate.train.watch import CERTAIN, Look, best, effective_rank, looks_from, mean_distance, neighbours, stale, verdict


def test_effective_rank_counts_directions() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    for k in (1, 3, 8):
        points = np.concatenate([axes[:k], -axes[:k]]).astype(np.float32)  # k directions, all as far, mean 0
        assert effective_rank(points + 5) == pytest.approx(k, rel=1e-4)  # what is common to all says nothing
    features = rng.normal(size=(50, 32)).astype(np.float32)
    values = np.linalg.svd(features - features.mean(0), compute_uv=False)
    assert effective_rank(features) == pytest.approx(np.exp(stats.entropy(values)), rel=1e-4)
    assert effective_rank(np.full((20, 8), 0.3, np.float32)) == 1.0


def test_mean_distance_is_that_of_all_pairs() -> None:
    features = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert mean_distance(features) == pytest.approx((1 - unit @ unit.T).mean(), abs=1e-6)
    assert mean_distance(7 * features) == pytest.approx(mean_distance(features), abs=1e-6)
    assert mean_distance(np.ones((9, 4), np.float32)) == pytest.approx(0, abs=1e-6)


def test_neighbours_are_those_of_other_groups() -> None:
    rng = np.random.default_rng(2)
    groups, truth = np.repeat(np.arange(6), 20), rng.integers(0, 2, 120).astype(np.int8)
    told = (np.eye(8)[truth] + 0.2 * rng.normal(size=(120, 8))).astype(np.float32)
    knn, chance = neighbours(told, truth[:, None], groups)
    assert knn > 0.95 and chance == pytest.approx(truth.mean())
    place = (np.eye(8)[groups] + 0.05 * rng.normal(size=(120, 8))).astype(np.float32)  # tells the group and nothing else
    by_group = (groups % 2).astype(np.int8)
    assert neighbours(place, by_group[:, None], groups)[0] < 0.75
    unseen = np.where(rng.random((120, 1)) < 0.3, -1, truth[:, None]).astype(np.int8)
    assert neighbours(told, unseen, groups)[0] > 0.95
    assert neighbours(told, np.zeros((120, 2), np.int8), groups) == (0.0, 0.0)


def test_neighbours_weigh_as_defined() -> None:
    rng = np.random.default_rng(3)
    features, groups = rng.normal(size=(40, 6)).astype(np.float32), np.arange(40)
    truth = rng.integers(0, 2, 40).astype(np.int8)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = []
    for i in range(40):
        cosine = unit @ unit[i]
        near = [j for j in np.argsort(-cosine) if j != i][:20]
        weight = np.exp(cosine[near] / 0.07)
        scores.append((weight * truth[near]).sum() / weight.sum())
    assert neighbours(features, truth[:, None], groups)[0] == pytest.approx(average_precision_score(truth, scores), abs=1e-6)


GOOD = {"rank": 90.0, "spread": 0.2, "prototypes": 40.0, "knn": 0.6, "chance": 0.2}
BAD = {
    "nearly the same vector": {"spread": 0.001},
    "few directions": {"rank": 5.0},
    "one prototype": {"prototypes": 1.0},
    "no longer mean similar behaviour": {"knn": 0.24},
}


@pytest.mark.parametrize("why", BAD)
def test_certain_is_what_three_looks_say(why: str) -> None:
    first, bad = Look(0, **{**GOOD, "prototypes": None}), {**GOOD, **BAD[why]}  # type: ignore[arg-type]
    looks = [first, Look(10, **GOOD), *(Look(20 + k, **bad) for k in range(CERTAIN - 1))]
    assert verdict(looks) == ""
    assert why in verdict([*looks, Look(90, **bad)]) and "step 90" in verdict([*looks, Look(90, **bad)])
    assert verdict([*looks, Look(90, **GOOD)]) == ""
    assert verdict(looks_from([look.plain() for look in [*looks, Look(90, **bad)]])) != ""


def test_what_was_never_there_cannot_collapse() -> None:
    assert verdict([Look(k, rank=1.2, spread=0.001, knn=0.2, chance=0.2) for k in range(9)]) == ""
    assert verdict([Look(k) for k in range(9)]) == ""


def test_patience_counts_looks_without_a_better_one() -> None:
    def looks(*knn: float | None) -> list[Look]:
        return [Look(k, knn=value) for k, value in enumerate(knn)]

    assert best([]) is None and best(looks(None, None)) is None
    assert best(looks(0.3, 0.5, 0.4, 0.5)) == 1  # of equals the first
    assert not stale(looks(0.3, 0.5, 0.4), 2) and stale(looks(0.3, 0.5, 0.4, 0.5), 2)
    assert not stale(looks(0.3, 0.5, 0.4, 0.51), 2)
    assert not stale(looks(0.5, 0.4, 0.3, 0.2), 0) and not stale(looks(None, None, None), 1)
