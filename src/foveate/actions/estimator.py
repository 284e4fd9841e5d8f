"""The probe as a scikit-learn estimator: ``fit``, ``predict_proba``, ``predict``, for vectors and labels from anywhere.

It is the probe of the stage ``probe`` without what belongs to video: no views are put together and nothing is smoothed in time, because
rows here have no order. Strength and threshold of every label are chosen as there, on folds of whole groups (``selection``), and the
solver is the same (``logistic``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from foveate.actions.logistic import Windows

BLOCKS_PER_FOLD = 10


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Regularised logistic regression for many labels at once, each with a strength and a threshold of its own.

    With one strength, ``predict_proba`` is that of scikit-learn's ``LogisticRegression(C=1 / (strength * n))`` on standardised features,
    label by label, where ``n`` is the number of rows in which the label is observed.

    Args:
        strengths: L2 penalties to choose from, positive; they act on standardised features and on the mean loss, so that the same values
            serve any number of rows.
        folds: at most so many folds of whole groups decide on strength and threshold, at least 2.
        balance: weight positives and negatives of each label equally.

    Attributes:
        coef_: float32 ``[L, F]``, for raw features.
        intercept_: float32 ``[L]``.
        strength_: float64 ``[L]``, the penalty chosen for each label.
        threshold_: float64 ``[L]``; a label is predicted where its probability reaches it.
        chosen_: bool ``[L]``: strength and threshold were chosen on folds. Otherwise (positives or negatives in fewer than two groups) they
            are the middle strength and 0.5.
        classes_: 0 and 1.
        n_features_in_: F.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> animal = np.repeat(np.arange(8), 25)
        >>> X = rng.normal(size=(200, 4))
        >>> Y = np.stack([X[:, 0] > 0, X[:, 1] > 1], axis=1).astype(np.int8)
        >>> Y[:25, 1] = -1  # nobody looked for the second behaviour in the first animal
        >>> probe = LinearProbe().fit(X, Y, groups=animal)
        >>> probe.predict_proba(X).shape
        (200, 2)
    """

    def __init__(
        self, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0), folds: int = 5, balance: bool = False
    ) -> None:
        self.strengths = strengths
        self.folds = folds
        self.balance = balance

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from labelled rows.

        Args:
            X: float ``[N, F]``, one vector per row, without NaN.
            y: int ``[N, L]``, or ``[N]`` for one label: 1 present, 0 absent, -1 not observed (the row says nothing about that label).
            groups: ``[N]``, what must not stand on both sides of a fold: the animal, or the video. By default the rows are cut, in the
                order in which they come, into blocks, because neighbours usually resemble each other. Blocks cannot keep an animal
                together: give groups wherever there are any.

        Raises:
            ValueError: shapes do not belong together, values other than 1, 0, -1, or settings out of range.
        """
        from foveate.actions.bouts import Strip
        from foveate.actions.selection import select
        from foveate.actions.windows import Moments

        vectors: NDArray[np.floating] = validate_data(self, X, dtype=(np.float32, np.float64))
        rows = len(vectors)
        truth = _labels(y, rows)
        if not len(self.strengths) or min(self.strengths) <= 0:
            raise ValueError("strengths must be positive numbers, at least one")
        if self.folds < 2:
            raise ValueError("folds must be at least 2")
        blocks = min(rows, BLOCKS_PER_FOLD * self.folds)
        group = np.arange(rows) * blocks // rows if groups is None else np.asarray(groups)
        if group.shape != (rows,):
            raise ValueError(f"groups has shape {group.shape}, but X has {rows} rows")
        import pandas as pd

        each = np.arange(rows)
        model = select(
            _rows(vectors),
            truth,
            np.ones(rows, dtype=bool),
            Moments(pd.DataFrame(index=each), each, each),
            Strip(each.astype(np.float64), np.ones(rows), each),  # every row a stretch of its own: there is nothing to smooth
            np.unique(group, return_inverse=True)[1],
            tuple(self.strengths),
            self.folds,
            self.balance,
        )
        if not model.converged.all():
            warnings.warn("the solver did not converge; a larger strength helps", ConvergenceWarning, stacklevel=2)
        self.coef_, self.intercept_ = model.weight, model.bias
        self.strength_, self.threshold_, self.chosen_ = model.penalty, model.threshold, model.chosen
        self.classes_ = np.array([0, 1])
        self._one_label = np.ndim(y) == 1
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits ``[N, L]``; ``[N]`` if ``y`` was one row of numbers."""
        from foveate.actions.logistic import logits

        check_is_fitted(self)
        vectors: NDArray[np.floating] = validate_data(self, X, dtype=(np.float32, np.float64), reset=False)
        out = logits(_rows(vectors), self.coef_, self.intercept_)
        return out[:, 0] if self._one_label else out

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Probability of presence, 0 to 1, float32 ``[N, L]``; of absence and presence ``[N, 2]`` if ``y`` was one row of numbers.

        Both are what scikit-learn's classifiers give for many labels and for one.
        """
        from foveate.actions.selection import probability

        present = probability(self.decision_function(X))
        return np.stack([1 - present, present], axis=1) if self._one_label else present

    def predict(self, X: ArrayLike) -> NDArray[np.int8]:
        """1 where a label's probability reaches its threshold, else 0; int8 ``[N, L]``, or ``[N]`` as ``y`` was."""
        from foveate.actions.selection import decide

        proba = self.predict_proba(X)
        out = decide(proba[:, 1:] if self._one_label else proba, self.threshold_)
        return out[:, 0] if self._one_label else out

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Mean over the labels of F1 in the rows where each is observed, 0 to 1. Labels without a positive row do not count; NaN if that
        leaves none."""
        from foveate.actions.metrics import confusion, f1

        said = self.predict(X).reshape(len(np.asarray(y)), -1)
        truth = _labels(y, len(said))
        if truth.shape != said.shape:
            raise ValueError(f"y has {truth.shape[1]} labels, but the probe learned {said.shape[1]}")
        each = f1(confusion(truth, said, np.zeros(len(truth), dtype=np.int64), 1)[0])
        present = (truth == 1).any(0)
        return float(each[present].mean()) if present.any() else float("nan")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


def _rows(X: NDArray[np.floating]) -> Windows:
    """Every row of ``X`` as a window of one frame."""
    from foveate.actions.logistic import Windows

    return Windows(X, np.arange(len(X))[:, None])


def _labels(y: ArrayLike | None, rows: int) -> NDArray[np.int8]:
    """int8 ``[N, L]`` of 1, 0, -1."""
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    values = np.asarray(y)
    truth = values[:, None] if values.ndim == 1 else values
    if truth.ndim != 2 or len(truth) != rows or not truth.shape[1]:
        raise ValueError(f"y has shape {values.shape}; expected [{rows}] or [{rows}, labels]")
    if not np.isin(truth, (-1, 0, 1)).all():
        raise ValueError("Unknown label type: y holds values other than 1 (present), 0 (absent) and -1 (not observed)")
    return truth.astype(np.int8)
