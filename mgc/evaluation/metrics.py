"""ROC-AUC and average precision of one tag in many resamples at once.

Scores are sorted once; a resample only changes how often each track counts. Both figures are then cumulated
weights read off at the positives. Tied scores count as one threshold, as in scikit-learn; average precision
is the step-wise area, sum over thresholds of (R_n - R_{n-1}) P_n, which interpolates nothing (Davis &
Goadrich 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mgc.arrays import BoolArray, Float64Array
from mgc.evaluation.bootstrap import WeightArray, ratio


@dataclass(frozen=True)
class RankedScores:
    """Where the positives of a tag stand among all scores, best first.

    Parameters
    ----------
    order
        Rows by falling score, shape (n,).
    positives
        Places of the positives in that order, shape (n_positives,).
    tie_starts, tie_ends
        For each positive, the places [start, end) of the scores equal to its own.
    own_starts, own_ends
        The same, counted among the positives alone.
    """

    order: npt.NDArray[np.intp]
    positives: npt.NDArray[np.intp]
    tie_starts: npt.NDArray[np.intp]
    tie_ends: npt.NDArray[np.intp]
    own_starts: npt.NDArray[np.intp]
    own_ends: npt.NDArray[np.intp]

    @classmethod
    def of(cls, scores: Float64Array, truth: BoolArray) -> RankedScores:
        """Rank the scores of a tag, shape (n,), of which `truth` says which are positive."""
        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]
        positives = np.flatnonzero(truth[order])
        starts = np.searchsorted(falling, falling[positives], side="left")
        ends = np.searchsorted(falling, falling[positives], side="right")
        return cls(
            order,
            positives,
            starts,
            ends,
            np.searchsorted(positives, starts, side="left"),
            np.searchsorted(positives, ends, side="left"),
        )


@dataclass(frozen=True)
class RankingFigures:
    """ROC-AUC and average precision of each resample, shape (n_resamples,); NaN where not defined."""

    roc_auc: Float64Array
    average_precision: Float64Array


def ranking_figures(ranked: RankedScores, weights: WeightArray) -> RankingFigures:
    """Return the figures under each column of `weights`, shape (n, n_resamples)."""
    drawn = weights[ranked.order]
    own = drawn[ranked.positives]
    all_before, own_before = _running(drawn), _running(own)
    n_positive, n_negative = own_before[-1], all_before[-1] - own_before[-1]
    all_end, own_end = all_before[ranked.tie_ends], own_before[ranked.own_ends]
    all_start, own_start = all_before[ranked.tie_starts], own_before[ranked.own_starts]
    precision = np.divide(own_end, all_end, out=np.zeros(own.shape), where=all_end > 0)
    negatives_above = (all_start - own_start) + (all_end - own_end)  # twice: ties count half
    misordered = (own * negatives_above).sum(axis=0, dtype=np.float64) / 2
    pairs = n_positive.astype(np.float64) * n_negative
    enough = np.where(n_negative > 0, n_positive, 0).astype(np.float64)
    return RankingFigures(1.0 - ratio(misordered, pairs), ratio((own * precision).sum(axis=0), enough))


def _running(weights: WeightArray) -> npt.NDArray[np.int64]:
    """Return cumulated weights before each row, and after the last: shape (n + 1, n_resamples)."""
    running = np.zeros((len(weights) + 1, weights.shape[1]), dtype=np.int64)
    np.cumsum(weights, axis=0, out=running[1:])
    return running
