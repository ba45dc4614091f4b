"""The models behind the baseline: an SVM for genre, logistic regressions for tags, and the choice of their C."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mgc.arrays import Float64Array, IntArray

SVM_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LOGISTIC_PENALTIES = (0.003, 0.03, 0.3, 3.0)
FOLDS = 5
MOST_NEWTON_FEATURES = 128
DEFAULT_PENALTY = 1.0
"""C where there are too few groups to choose it."""


@dataclass(frozen=True)
class PenaltyChoice:
    """The C that was chosen, None where nothing is fitted; and over how many folds, 0: it is the default."""

    penalty: float | None
    folds: int


def svm(penalty: float) -> Any:
    """Return an unfitted SVM with a radial kernel on scaled features, classes balanced."""
    # break_ties: the prediction is then the largest decision value, for more than two classes too.
    return make_pipeline(StandardScaler(), SVC(C=penalty, kernel="rbf", class_weight="balanced", break_ties=True))


def svm_score(model: Any, features: Float64Array, true: IntArray) -> float:
    """Return the accuracy balanced over the classes that are there."""
    right = model.predict(features) == true
    return float(np.mean([right[true == label].mean() for label in np.unique(true)]))


def decision_values(model: Any, features: Float64Array) -> Float64Array:
    """Return one decision value a class, shape (n, n_classes), for two classes too."""
    values = np.asarray(model.decision_function(features), dtype=np.float64)
    return np.column_stack([-values, values]) if values.ndim == 1 else values


def softmax(values: Float64Array) -> Float64Array:
    """Return values along the second axis as shares of 1."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class OneVersusRest:
    """One logistic regression a tag; a tag that does not vary gets its base rate."""

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty
        self._scaler = StandardScaler()
        self._models: list[Any] = []

    def fit(self, features: Float64Array, true: IntArray) -> OneVersusRest:
        """Fit on features, shape (n, n_features), and tags, shape (n, n_tags)."""
        scaled = self._scaler.fit_transform(features)
        self._models = [self._fit_one(scaled, column) for column in true.T]
        return self

    def _fit_one(self, scaled: Float64Array, column: IntArray) -> Any:
        if column.min() == column.max():
            return float(column[0])
        # Newton steps are exact and few where there are only forty features; of a thousand each costs seconds.
        solver = "newton-cholesky" if scaled.shape[1] <= MOST_NEWTON_FEATURES else "lbfgs"
        model = LogisticRegression(C=self._penalty, class_weight="balanced", solver=solver, max_iter=300)
        return model.fit(scaled, column)

    def predict(self, features: Float64Array) -> Float64Array:
        """Return the probability of each tag, shape (n, n_tags)."""
        scaled = self._scaler.transform(features)
        columns = [
            np.full(len(scaled), model) if isinstance(model, float) else model.predict_proba(scaled)[:, 1]
            for model in self._models
        ]
        return np.column_stack(columns)


def tag_score(model: OneVersusRest, features: Float64Array, true: IntArray) -> float:
    """Return the mean average precision over tags that vary."""
    scores = model.predict(features)
    varied = [place for place in range(true.shape[1]) if 0 < true[:, place].sum() < len(true)]
    found = [average_precision_score(true[:, place], scores[:, place]) for place in varied]
    return float(np.mean(found)) if found else 0.0


def choose_penalty(
    features: Float64Array,
    true: IntArray,
    groups: npt.NDArray[np.str_],
    penalties: Sequence[float],
    build: Callable[[float], Any],
    score: Callable[[Any, Float64Array, IntArray], float],
    seed: int,
) -> PenaltyChoice:
    """Return the C of the best mean score over folds that keep groups together.

    Parameters
    ----------
    true
        Class of each track, shape (n,); or its tags, shape (n, n_tags).
    """
    parts = _folds(features, true, groups, seed)
    if len(parts) < 2:
        return PenaltyChoice(DEFAULT_PENALTY, 0)
    means = [
        np.mean([score(build(C).fit(features[fit], true[fit]), features[rest], true[rest]) for fit, rest in parts])
        for C in penalties
    ]
    return PenaltyChoice(penalties[int(np.argmax(means))], len(parts))


def _folds(
    features: Float64Array, true: IntArray, groups: npt.NDArray[np.str_], seed: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return (fit, rest) rows of each fold; none where there are too few tracks or groups."""
    # Tags have no one class to stratify by: their folds balance tracks with a tag and tracks without any.
    strata = true if true.ndim == 1 else np.minimum(true.sum(axis=1), 1)
    folds = min(FOLDS, len(np.unique(groups)), int(np.unique(strata, return_counts=True)[1].max()))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A rare class that is missing in a fold is the same handicap for every C.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = list(splitter.split(features, strata, groups))
    n_strata = min(2, len(np.unique(strata)))
    return [(fit, rest) for fit, rest in parts if len(rest) and len(np.unique(strata[fit])) >= n_strata]
