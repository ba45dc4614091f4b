"""The baseline: a support vector machine on means and deviations of MFCCs, what one would try first.

Twenty mel-frequency cepstral coefficients a frame, their mean and standard deviation over the track, scaled,
into an SVM with a radial kernel: the summary statistics of Tzanetakis & Cook (2002) with the classifier of
Mandel & Ellis (2005). A learned model that does not beat it has learned little. It is given every fair chance:
C is chosen by cross-validation, over groups, on the training tracks; classes are balanced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.audio.features.log_mel import mfcc
from mgc.config import EvaluationConfig
from mgc.config.taxonomy import UNKNOWN, Taxonomy
from mgc.errors import FingerprintError, TrainingError
from mgc.evaluation.answers import LabelledPredictions, genre_indices, names_outside, tag_vectors
from mgc.evaluation.bootstrap import Resample
from mgc.evaluation.comparison import BaselineComparison, compare
from mgc.evaluation.metrics import tag_macro_average_precision
from mgc.tables.feature_shards import FeatureSet

NAME = "SVM on MFCC means and deviations"
N_MFCC = 20
SVM_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LOGISTIC_PENALTIES = (0.003, 0.03, 0.3, 3.0)
FOLDS = 5
MOST_NEWTON_FEATURES = 128
MOST_SVM_TRACKS, MOST_CHOICE_TRACKS = 10_000, 1_500
"""Training tracks, in whole groups, that an SVM is fitted on, and that C is chosen on where there are more: its time
grows with their square."""
DEFAULT_PENALTY = 1.0
"""C where there are too few groups to choose it."""


@dataclass(frozen=True)
class BaselineResult:
    """The baseline's answers for the validation tracks, and how it was fitted.

    Parameters
    ----------
    answers
        Genre "probabilities" are a softmax of the SVM's decision values: their order is the SVM's, so that
        accuracy and F1 are exact, but their size is not calibrated.
    svm_penalty, logistic_penalty
        C; None where nothing was fitted.
    folds
        Of the cross-validation that chose C; 0 where there were too few groups.
    svm_tracks
        What the SVM was fitted on, where that is not all labelled tracks.
    """

    answers: LabelledPredictions
    train_tracks: int
    svm_penalty: float | None
    logistic_penalty: float | None
    folds: int
    svm_tracks: int | None = None

    def describe(self) -> str:
        """Return how it was fitted, in a sentence."""
        chosen = f"C = {self.svm_penalty:g}" if self.svm_penalty is not None else "no genre to learn"
        drawn = f"; the SVM on {self.svm_tracks:,} of them, groups drawn whole" if self.svm_tracks else ""
        how = f"{self.folds}-fold cross-validation over groups" if self.folds else "default, too few groups to choose"
        return (
            f"{N_MFCC} MFCCs, mean and standard deviation over the track; RBF kernel, {chosen} ({how}), "
            f"fitted on {self.train_tracks:,} training tracks{drawn}"
        )


def svm_baseline(
    train: FeatureSet, valid: FeatureSet, taxonomy: Taxonomy | None = None, seed: int = 0
) -> BaselineResult:
    """Fit the baseline on `train` and let it answer `valid`.

    Parameters
    ----------
    taxonomy
        Vocabularies to answer in, so that figures compare; None: those of `train`.
    seed
        Of the folds.

    Raises
    ------
    FingerprintError
        The two sets have different features.
    TrainingError
        No track of `train` is labelled.
    """
    if train.feature_fingerprint != valid.feature_fingerprint:
        raise FingerprintError(
            f"training features are {train.feature_fingerprint}, validation features {valid.feature_fingerprint}",
            "extract both with the same [features] settings",
        )
    return fit_svm_baseline(mfcc_statistics, train, valid, taxonomy, seed)


def fit_svm_baseline(
    extract_features: Callable[[FeatureSet], Float64Array],
    train: FeatureSet,
    valid: FeatureSet,
    taxonomy: Taxonomy | None = None,
    seed: int = 0,
) -> BaselineResult:
    """Fit the baseline's classifiers on what `extract_features` makes of each track, shape (n_tracks, d).

    Raises
    ------
    TrainingError
        No track of `train` is labelled.
    """
    known = [tags for tags, is_known in zip(train.tags, train.tags_known, strict=True) if is_known]
    vocabulary = taxonomy or Taxonomy.from_labels(train.genres, known)
    if not any(train.genres) and not known:
        raise TrainingError("no training track is labelled: the SVM baseline has nothing to learn from")
    # Hundreds of fits on small matrices: BLAS threads would cost ten times what they do.
    with threadpool_limits(1):
        train_features, valid_features = extract_features(train), extract_features(valid)
        genre, genre_choice = _genre_probabilities(train_features, valid_features, train, vocabulary, seed)
        tag, tag_choice = _tag_probabilities(train_features, valid_features, train, vocabulary, seed)
    answers = replace(_truth(valid, vocabulary), genre_probabilities=genre, tag_probabilities=tag)
    # What could not be learned is not evaluated: constant zeros would be judged by the order of names.
    if not any(train.genres):
        answers = replace(answers, genre_true=np.full(len(valid), UNKNOWN, dtype=np.int64))
    if not known:
        answers = replace(answers, tags_known=np.zeros(len(valid), dtype=bool))
    folds = max(genre_choice.folds, tag_choice.folds)
    return BaselineResult(answers, len(train), genre_choice.penalty, tag_choice.penalty, folds, genre_choice.tracks)


def compare_with_baseline(
    ours: LabelledPredictions, baseline: BaselineResult, config: EvaluationConfig, resample: Resample = "track"
) -> BaselineComparison:
    """Return the paired comparison of our answers with the baseline's."""
    return compare(ours, baseline.answers, config, name=NAME, details=baseline.describe(), resample=resample)


def _truth(tracks: FeatureSet, taxonomy: Taxonomy) -> LabelledPredictions:
    """Return the truth of the tracks with probabilities of zero."""
    return LabelledPredictions(
        track_ids=tracks.track_ids,
        groups=tracks.groups,
        genres=taxonomy.genres,
        tags=taxonomy.tags,
        genre_true=genre_indices(tracks.genres, taxonomy.genres),
        genre_probabilities=np.zeros((len(tracks), len(taxonomy.genres))),
        tag_true=tag_vectors(tracks.tags, taxonomy.tags),
        tags_known=np.array(tracks.tags_known, dtype=bool),
        tag_probabilities=np.zeros((len(tracks), len(taxonomy.tags))),
        outside_genres=names_outside(tracks.genres, taxonomy.genres),
    )


def _genre_probabilities(
    train_features: Float64Array, valid_features: Float64Array, train: FeatureSet, taxonomy: Taxonomy, seed: int
) -> tuple[Float64Array, PenaltyChoice]:
    probabilities = np.zeros((len(valid_features), len(taxonomy.genres)))
    true = genre_indices(train.genres, taxonomy.genres)
    labelled = np.flatnonzero(true >= 0)
    rows = labelled[whole_groups(np.array(train.groups)[labelled], MOST_SVM_TRACKS, seed)]
    classes = np.unique(true[rows])
    if len(classes) < 2:
        probabilities[:, classes] = 1.0
        return probabilities, PenaltyChoice(None, 0)
    groups = np.array(train.groups)[rows]
    some = rows if len(rows) == len(labelled) else rows[whole_groups(groups, MOST_CHOICE_TRACKS, seed)]
    groups = np.array(train.groups)[some]
    choice = choose_penalty(train_features[some], true[some], groups, SVM_PENALTIES, svm, svm_score, seed)
    model = svm(choice.penalty or DEFAULT_PENALTY).fit(train_features[rows], true[rows])
    probabilities[:, classes] = softmax(decision_values(model, valid_features))
    return probabilities, replace(choice, tracks=None if len(rows) == len(labelled) else len(rows))


def _tag_probabilities(
    train_features: Float64Array, valid_features: Float64Array, train: FeatureSet, taxonomy: Taxonomy, seed: int
) -> tuple[Float64Array, PenaltyChoice]:
    probabilities = np.zeros((len(valid_features), len(taxonomy.tags)))
    rows = np.flatnonzero(train.tags_known)
    if not len(rows) or not taxonomy.tags:
        return probabilities, PenaltyChoice(None, 0)
    true = tag_vectors([train.tags[int(row)] for row in rows], taxonomy.tags)
    probabilities[:] = true.mean(axis=0)  # what is left for a tag that every track has, or none
    varied = np.flatnonzero((true.min(axis=0) == 0) & (true.max(axis=0) == 1))
    if not len(varied):
        return probabilities, PenaltyChoice(None, 0)
    groups = np.array(train.groups)[rows]
    choice = choose_penalty(
        train_features[rows], true[:, varied], groups, LOGISTIC_PENALTIES, OneVersusRest, tag_score, seed
    )
    model = OneVersusRest(choice.penalty or DEFAULT_PENALTY).fit(train_features[rows], true[:, varied])
    probabilities[:, varied] = model.predict(valid_features)
    return probabilities, choice


# The models: an SVM for genre, logistic regressions for tags, and the choice of their C.


@dataclass(frozen=True)
class PenaltyChoice:
    """The C that was chosen, None where nothing is fitted; and over how many folds, 0: it is the default.

    `tracks` are those fitted on, None: all.
    """

    penalty: float | None
    folds: int
    tracks: int | None = None


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
    return tag_macro_average_precision(model.predict(features), true, np.ones(len(true), dtype=bool)) or 0.0


def whole_groups(groups: npt.NDArray[np.str_], most: int, seed: int) -> BoolArray:
    """Return which rows are of groups drawn at random, about `most` rows in all; where there are no more, all are."""
    if len(groups) <= most:
        return np.ones(len(groups), dtype=bool)
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    share = max(2, int(len(names) * most / len(groups)))
    return np.isin(groups, names[:share])


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


def mfcc_statistics(tracks: FeatureSet) -> Float64Array:
    """Return the mean and the standard deviation of 20 MFCCs over all frames, shape (n_tracks, 40)."""
    tracks.features.require_log_mels("an MFCC")
    rows = []
    for log_mel in tracks.log_mels:
        frames = mfcc(log_mel.reshape(-1, log_mel.shape[-1]), N_MFCC).astype(np.float64)
        rows.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 * min(N_MFCC, tracks.features.n_mels))
