"""From when on a tag is there, and below what the ensemble abstains: chosen on validation tracks."""

from __future__ import annotations

import numpy as np

from mgc.arrays import FloatingArray
from mgc.models.ensemble import HALF, EnsembleOutputs
from mgc.training.losses import LabelArrays

FEWEST_POSITIVES = 3
"""A tag with fewer validation tracks keeps 0.5: its best threshold would be luck."""
PRIOR_TRACKS = 2.0
"""Added to the errors at every threshold, so that one lucky track does not decide."""
FEWEST_ANSWERS = 10
"""Answers that the stated precision must be seen on."""


def fit_tag_thresholds(outputs: EnsembleOutputs, labels: LabelArrays) -> tuple[float, ...]:
    """Return the probability of best F1 for each tag (Lipton, Elkan & Naryanaswamy 2014); 0.5 where few have it."""
    known = labels.tags_known
    probabilities, truth = outputs.tag_probabilities[known], labels.tags[known]
    return tuple(best_f1_threshold(probabilities[:, tag], truth[:, tag]) for tag in range(truth.shape[1]))


def best_f1_threshold(probabilities: FloatingArray, truth: FloatingArray) -> float:
    """Return the threshold of best F1, midway between the last probability listed and the first left out.

    Parameters
    ----------
    probabilities, truth
        Of one tag, shape (n_tracks,).
    """
    positives = float(truth.sum())
    if positives < FEWEST_POSITIVES or positives == len(truth):
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    listed = np.arange(1, len(order) + 1)
    f1 = 2.0 * hits / (listed + positives + PRIOR_TRACKS)
    # Equal probabilities are listed together or not at all.
    ends = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(ends, f1, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2.0)


def fit_abstention(outputs: EnsembleOutputs, labels: LabelArrays, precision: float) -> float:
    """Return the lowest genre probability at which so large a share of the answers is right.

    The answers at or above it are right with at least `precision`, on the tracks given: of all such thresholds
    the one that answers most. Where none does, on 10 answers or more, it is 1: all are guesses. 0 where no genre
    is known.

    Parameters
    ----------
    precision
        In (0, 1].
    """
    known = labels.genre_known
    probabilities = outputs.genre_probabilities[known]
    if not probabilities.size:
        return 0.0
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels.genres[known]
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)
    good = np.flatnonzero(ends & (share >= precision) & (np.arange(1, len(order) + 1) >= FEWEST_ANSWERS))
    if not good.size:
        return 1.0
    last = int(good[-1])
    return 0.0 if last + 1 == len(ranked) else float((ranked[last] + ranked[last + 1]) / 2.0)
