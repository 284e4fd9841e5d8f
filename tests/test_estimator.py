"""The probe as a scikit-learn estimator: parity with LogisticRegression, and what pipelines and cross-validation ask of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import foveate
from foveate import LinearProbe


def planted(
    rows: int = 400, animals: int = 10, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int64]]:
    """Vectors, two labels (one rare, seen in some animals only) and the animal of each row."""
    rng = np.random.default_rng(seed)
    animal = np.arange(rows) * animals // rows
    X = rng.normal(size=(rows, 6)) + rng.normal(size=(animals, 6))[animal] * 0.3
    logit = np.stack([2 * X[:, 0] - X[:, 1], 3 * X[:, 2] - 4], axis=1)
    Y = (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    Y[animal == 3, 1] = -1
    return X, Y, animal


def test_one_strength_is_logistic_regression_on_standardised_rows() -> None:
    X, Y, animal = planted()
    found = LinearProbe(strengths=(0.05,)).fit(X, Y, groups=animal).predict_proba(X)
    scaled = StandardScaler().fit_transform(X)
    for label in range(2):
        seen = Y[:, label] >= 0
        reference = LogisticRegression(C=1 / (0.05 * seen.sum()), tol=1e-10, max_iter=5000).fit(scaled[seen], Y[seen, label])
        assert np.abs(found[:, label] - reference.predict_proba(scaled)[:, 1]).max() < 1e-5


def test_what_is_chosen_is_chosen_on_folds_of_groups() -> None:
    X, Y, animal = planted()
    probe = LinearProbe(strengths=(1e-4, 1e-2, 100.0)).fit(X, Y, groups=animal)
    assert probe.chosen_.all() and set(probe.strength_) <= {1e-4, 1e-2, 100.0}
    assert (probe.predict(X) == (probe.predict_proba(X).astype(float) >= probe.threshold_)).all()
    # Noise that tells the animal: with the animals kept together nothing is worth learning, with rows mixed everything is.
    rng = np.random.default_rng(1)
    mark = rng.normal(size=(10, 60))
    noise = mark[animal] + 0.1 * rng.normal(size=(400, 60))
    tied = (np.arange(10) % 2)[animal]
    apart = LinearProbe(strengths=(1e-4, 100.0)).fit(noise, tied, groups=animal)
    mixed = LinearProbe(strengths=(1e-4, 100.0)).fit(noise, tied, groups=np.arange(400) % 10)
    assert apart.strength_ == 100.0 and mixed.strength_ == 1e-4
    one_group = LinearProbe().fit(X, Y, groups=np.zeros(400))
    assert not one_group.chosen_.any() and (one_group.threshold_ == 0.5).all() and (one_group.strength_ == 0.1).all()


def test_one_label_and_many_labels_have_scikit_learns_shapes() -> None:
    X, Y, animal = planted()
    probe = LinearProbe(strengths=(0.1,))
    one, many = clone(probe).fit(X, Y[:, 0], groups=animal), clone(probe).fit(X, Y, groups=animal)
    assert (
        one.predict(X).shape == (400,) and one.predict_proba(X).shape == (400, 2) and one.decision_function(X).shape == (400,)
    )
    assert many.predict(X).shape == many.predict_proba(X).shape == many.decision_function(X).shape == (400, 2)
    assert np.allclose(one.predict_proba(X).sum(1), 1) and is_classifier(one)
    assert np.abs(one.predict_proba(X)[:, 1] - many.predict_proba(X)[:, 0]).max() < 1e-5
    half = clone(probe).fit(X.astype(np.float16), Y[:, 0].astype(bool), groups=animal)
    assert np.abs(half.predict_proba(X) - one.predict_proba(X)).max() < 0.01
    names = pd.DataFrame(X, columns=list("abcdef"))
    assert list(LinearProbe().fit(names, Y, groups=animal).feature_names_in_) == list("abcdef")


def test_score_is_mean_f1_over_observed_rows() -> None:
    X, Y, animal = planted()
    probe = LinearProbe().fit(X, Y, groups=animal)
    said, seen = probe.predict(X), Y[:, 1] >= 0
    expected = (f1_score(Y[:, 0], said[:, 0]) + f1_score(Y[seen, 1], said[seen, 1])) / 2
    assert probe.score(X, Y) == pytest.approx(expected)
    absent = np.column_stack([Y[:, 0], np.zeros(400, np.int8)])
    assert probe.score(X, absent) == pytest.approx(f1_score(Y[:, 0], said[:, 0]))
    assert np.isnan(probe.score(X, np.zeros((400, 2))))


def test_pipeline_grid_search_and_cross_validation() -> None:
    X, Y, animal = planted()
    pipeline = make_pipeline(StandardScaler(), LinearProbe(folds=2, strengths=(0.01, 1.0)))
    scores = cross_val_score(pipeline, X, Y, groups=animal, cv=GroupKFold(3), params={"linearprobe__groups": animal})
    assert scores.shape == (3,) and (scores > 0.5).all()
    out = cross_val_predict(LinearProbe(folds=2), X, Y[:, 0], groups=animal, cv=GroupKFold(3), method="predict_proba")
    assert out.shape == (400, 2)
    search = GridSearchCV(LinearProbe(folds=2), {"balance": [False, True]}, cv=GroupKFold(2)).fit(X, Y, groups=animal)
    assert search.best_params_["balance"] in (False, True)
    copy = clone(LinearProbe(folds=3, balance=True))
    assert copy.get_params() == {"strengths": (1e-3, 1e-2, 1e-1, 1.0, 10.0), "folds": 3, "balance": True}
    assert copy.set_params(folds=4).folds == 4


NOT_MEANT = {
    # Labels are 1, 0 and -1, never classes of any name or number.
    "check_estimators_dtypes",
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifier_not_supporting_multiclass",
    "check_fit2d_1feature",
    # A label is predicted from a threshold of its own, not from 0.5.
    "check_classifier_multioutput",
    "check_classifiers_train",
    # Predictions are int8 whatever y was.
    "check_classifiers_multilabel_output_format_predict",
}


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks() -> None:
    results = check_estimator(LinearProbe(), on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed.keys() <= NOT_MEANT, failed
    assert sum(result["status"] == "passed" for result in results) > 35


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        ({"strengths": (0.0,)}, {}, "strengths"),
        ({"strengths": ()}, {}, "strengths"),
        ({"folds": 1}, {}, "folds"),
        ({}, {"y": np.full(400, 2)}, "other than"),
        ({}, {"y": np.zeros((399, 2))}, "shape"),
        ({}, {"groups": np.zeros(3)}, "groups"),
        ({}, {"X": np.full((400, 6), np.nan)}, "NaN"),
    ],
)
def test_wrong_input_is_named(arguments: dict[str, object], change: dict[str, object], words: str) -> None:
    X, Y, animal = planted()
    with pytest.raises(ValueError, match=words):
        LinearProbe(**arguments).fit(**({"X": X, "y": Y, "groups": animal} | change))


def test_top_level_names_are_there_for_completion() -> None:
    assert {"LinearProbe", "Project", "FoveateError", "api"} <= set(dir(foveate))
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        foveate.nothing_of_that_name  # noqa: B018
