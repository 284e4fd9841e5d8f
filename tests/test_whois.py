"""The course of names against all courses there are."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.track.identity import whois
from foveate.track.identity.whois import Step, exchanges, who


def steps(seed: int, subjects: int, count: int) -> list[Step]:
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        size = subjects if k == 0 else int(rng.integers(2, subjects + 1))
        group = tuple(sorted(rng.permutation(subjects)[:size].tolist()))
        moves = np.log(rng.dirichlet(np.ones(len(exchanges(size)))))
        out.append(Step(group, moves, rng.normal(0, 1, (subjects, subjects))))
    return out


def every_course(given: list[Step], subjects: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Likeliest course and marginals and evidence by going through all of them."""
    best, best_score, total = None, -np.inf, np.zeros((len(given), subjects, subjects))
    for course in product(*(list(zip(exchanges(len(s.group)), s.moves, strict=True)) for s in given)):
        names, score, states = list(range(subjects)), 0.0, []
        for (order, move), step in zip(course, given, strict=True):
            before = list(names)
            for j, label in enumerate(step.group):
                names[label] = before[step.group[order[j]]]
            score += move + sum(step.looks[label, names[label]] for label in range(subjects))
            states.append(list(names))
        if score > best_score:
            best, best_score = states, score
        for k, state in enumerate(states):
            total[k, range(subjects), state] += np.exp(score)
    return np.array(best), total / total.sum(axis=2, keepdims=True), float(np.log(total[0, 0].sum()))


@given(st.integers(0, 10_000), st.sampled_from([(2, 6), (3, 4)]))
@settings(max_examples=20, deadline=None)
def test_course_and_certainty_are_those_of_all_courses(seed: int, size: tuple[int, int]) -> None:
    given_steps = steps(seed, *size)
    answer = who(given_steps, size[0])
    best, marginals, evidence = every_course(given_steps, size[0])
    assert (answer.names == best).all()
    np.testing.assert_allclose(answer.share, marginals, atol=1e-9)
    assert answer.evidence == pytest.approx(evidence)


def test_a_narrow_beam_still_gives_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whois, "BEAM", 3)
    answer = who(steps(1, 4, 12), 4)
    assert all(sorted(names) == [0, 1, 2, 3] for names in answer.names.tolist())
    np.testing.assert_allclose(answer.share.sum(axis=1), 1)
    np.testing.assert_allclose(answer.share.sum(axis=2), 1)


def test_large_groups_exchange_two_at_a_time() -> None:
    assert exchanges(3) == list(permutations(range(3)))
    assert len(exchanges(9)) == 1 + 36 and exchanges(9)[0] == tuple(range(9))
    assert all(sum(a != b for a, b in enumerate(order)) == 2 for order in exchanges(9)[1:])
