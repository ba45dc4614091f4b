"""Figures over tracks that training shows and a bundle carries; the honest report is `evaluation`'s.

Precision averaged over recall levels (scikit-learn's average precision) stands for the area under the
precision-recall curve; macro means are over the genres or tags that occur.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score

from mgc.training.labels import Labels

FloatArray = npt.NDArray[np.floating]


def genre_accuracy(scores: FloatArray, labels: Labels) -> float | None:
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


def genre_macro_f1(scores: FloatArray, labels: Labels) -> float | None:
    """Return the mean F1 over the genres that occur; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not scores.shape[1]:
        return None
    truth = labels.genres[known]
    predicted = scores[known].argmax(axis=1)
    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0))


def tag_macro_average_precision(scores: FloatArray, labels: Labels) -> float | None:
    """Return the mean average precision over the tags that some, but not all, known tracks have; else None."""
    truth, known_scores = labels.tags[labels.tags_known], scores[labels.tags_known]
    counts = truth.sum(axis=0)
    usable = np.flatnonzero((counts > 0) & (counts < len(truth)))
    if not usable.size:
        return None
    return float(np.mean([average_precision_score(truth[:, tag], known_scores[:, tag]) for tag in usable]))


def genre_log_loss(probabilities: FloatArray, labels: Labels) -> float | None:
    """Return the mean of −log of the true genre's probability, in nats; None where no genre is known."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    true = probabilities[known][np.arange(np.count_nonzero(known)), labels.genres[known]]
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())


def genre_rmse(probabilities: FloatArray, labels: Labels) -> float | None:
    """Return the root of the mean squared error against 0 and 1 (Jain et al. 2021, Table 2); None as above."""
    known = labels.genre_known
    if not known.any() or not probabilities.shape[1]:
        return None
    truth = np.eye(probabilities.shape[1])[labels.genres[known]]
    return float(np.sqrt(np.mean(np.square(probabilities[known] - truth))))
