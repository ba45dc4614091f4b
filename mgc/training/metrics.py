"""Figures over tracks that training shows and a bundle carries; the honest report is `evaluation`'s.

Precision averaged over recall levels (scikit-learn's average precision) stands for the area under the
precision-recall curve; macro means are over the genres or tags that occur.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from mgc.arrays import FloatingArray
from mgc.training.losses import LabelArrays

MOST_BINS, TRACKS_A_BIN = 15, 5


def genre_accuracy(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the part of tracks of known genre whose highest score is theirs; None where no genre is known.

    Parameters
    ----------
    scores
        Logits or probabilities, shape (n_tracks, n_genres).
    """
    known = labels.genre_known
    if not known.any() or not scores.shape[1]:
        return None
    return float(np.mean(scores[known].argmax(axis=1) == labels.genres[known]))


def genre_macro_f1(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean F1 over the genres that occur; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not scores.shape[1]:
        return None
    truth = labels.genres[known]
    predicted = scores[known].argmax(axis=1)
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0))


def tag_macro_average_precision(scores: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean average precision over the tags that some, but not all, known tracks have; else None."""
    truth, known_scores = labels.tags[labels.tags_known], scores[labels.tags_known]
    counts = truth.sum(axis=0)
    usable = np.flatnonzero((counts > 0) & (counts < len(truth)))
    if not usable.size:
        return None
    return float(average_precisions(known_scores[:, usable], truth[:, usable]).mean())


def average_precisions(scores: FloatingArray, truth: FloatingArray) -> npt.NDArray[np.float64]:
    """Return the average precision of each column: scikit-learn's, of all columns at once.

    After every epoch, of two thousand tags, a call for each would take longer than the epoch.

    Parameters
    ----------
    scores, truth
        Shape (n_tracks, n_tags); `truth` is 0 or 1, with a 1 in every column.

    Returns
    -------
    ndarray
        Sum over thresholds of (R_n - R_{n-1}) P_n; equal scores are one threshold. Shape (n_tags,).
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    found = np.take_along_axis(truth, order, axis=0).cumsum(axis=0, dtype=np.float64)
    precision = found / np.arange(1, len(scores) + 1)[:, np.newaxis]
    is_threshold = np.ones(scores.shape, dtype=bool)
    is_threshold[:-1] = ranked[1:] != ranked[:-1]
    reached = np.where(is_threshold, found, 0.0)
    before = np.zeros_like(reached)
    before[1:] = np.maximum.accumulate(reached, axis=0)[:-1]
    gained = np.where(is_threshold, (found - before) * precision, 0.0)
    return np.asarray(gained.sum(axis=0) / found[-1])


def genre_log_loss(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the mean of −log of the true genre's probability, in nats; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    true = probabilities[known][np.arange(np.count_nonzero(known)), labels.genres[known]]
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())


def genre_calibration_error(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the expected calibration error of the likeliest genre (Naeini et al. 2015), as `mgc evaluate` has it.

    Over at most 15 bins of equally many tracks, 5 or more. None where no genre is known.
    """
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = probabilities[known].argmax(axis=1) == labels.genres[known]
    order = np.argsort(confidence, kind="stable")
    bins = max(1, min(MOST_BINS, len(order) // TRACKS_A_BIN))
    place = np.arange(len(order)) * bins // len(order)
    gaps = np.bincount(place, weights=(right - confidence)[order])
    return float(np.abs(gaps).sum() / len(order))


def genre_rmse(probabilities: FloatingArray, labels: LabelArrays) -> float | None:
    """Return the root of the mean squared error against 0 and 1 (Jain et al. 2021, Table 2); None as above."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    truth = np.eye(probabilities.shape[1])[labels.genres[known]]
    return float(np.sqrt(np.mean(np.square(probabilities[known] - truth))))
