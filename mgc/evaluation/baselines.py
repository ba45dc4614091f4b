"""The baseline: a support vector machine on means and deviations of MFCCs, what one would try first.

Twenty mel-frequency cepstral coefficients a frame, their mean and standard deviation over the track, scaled,
into an SVM with a radial kernel: the summary statistics of Tzanetakis & Cook (2002) with the classifier of
Mandel & Ellis (2005). A learned model that does not beat it has learned little. It is given every fair chance:
C is chosen by cross-validation, over groups, on the training tracks; classes are balanced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from mgc.arrays import Float64Array
from mgc.config import EvaluationConfig
from mgc.config.taxonomy import UNKNOWN, Taxonomy
from mgc.errors import FingerprintError, TrainingError
from mgc.evaluation.answers import LabelledPredictions, genre_indices, names_outside, tag_vectors
from mgc.evaluation.bootstrap import Resample
from mgc.evaluation.comparison import BaselineComparison, compare
from mgc.evaluation.mfcc import N_MFCC, mfcc_statistics
from mgc.evaluation.rivals import (
    DEFAULT_PENALTY,
    LOGISTIC_PENALTIES,
    SVM_PENALTIES,
    OneVersusRest,
    PenaltyChoice,
    choose_penalty,
    decision_values,
    softmax,
    svm,
    svm_score,
    tag_score,
)
from mgc.tables.feature_shards import FeatureSet

NAME = "SVM on MFCC means and deviations"


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
    """

    answers: LabelledPredictions
    train_tracks: int
    svm_penalty: float | None
    logistic_penalty: float | None
    folds: int

    def describe(self) -> str:
        """Return how it was fitted, in a sentence."""
        chosen = f"C = {self.svm_penalty:g}" if self.svm_penalty is not None else "no genre to learn"
        how = f"{self.folds}-fold cross-validation over groups" if self.folds else "default, too few groups to choose"
        return (
            f"{N_MFCC} MFCCs, mean and standard deviation over the track; RBF kernel, {chosen} ({how}), "
            f"fitted on {self.train_tracks:,} training tracks"
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
    # What could not be learned is not asked: a baseline of constant zeros would be judged by the order of names.
    if not any(train.genres):
        answers = replace(answers, genre_true=np.full(len(valid), UNKNOWN, dtype=np.int64))
    if not known:
        answers = replace(answers, tags_known=np.zeros(len(valid), dtype=bool))
    folds = max(genre_choice.folds, tag_choice.folds)
    return BaselineResult(answers, len(train), genre_choice.penalty, tag_choice.penalty, folds)


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
    rows = np.flatnonzero(true >= 0)
    classes = np.unique(true[rows])
    if len(classes) < 2:
        probabilities[:, classes] = 1.0
        return probabilities, PenaltyChoice(None, 0)
    groups = np.array(train.groups)[rows]
    choice = choose_penalty(train_features[rows], true[rows], groups, SVM_PENALTIES, svm, svm_score, seed)
    model = svm(choice.penalty or DEFAULT_PENALTY).fit(train_features[rows], true[rows])
    probabilities[:, classes] = softmax(decision_values(model, valid_features))
    return probabilities, choice


def _tag_probabilities(
    train_features: Float64Array, valid_features: Float64Array, train: FeatureSet, taxonomy: Taxonomy, seed: int
) -> tuple[Float64Array, PenaltyChoice]:
    probabilities = np.zeros((len(valid_features), len(taxonomy.tags)))
    rows = np.flatnonzero(train.tags_known)
    if not len(rows) or not taxonomy.tags:
        return probabilities, PenaltyChoice(None, 0)
    true = tag_vectors([train.tags[row] for row in rows], taxonomy.tags)
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
