"""Each metric once, for plain arrays: accuracy, F1, calibration error, ROC-AUC, average precision.

Training, evaluation and studies all call these. A metric of many resamples takes weights, how often each track was
drawn, shape (n, n_resamples): figures are then weighted sums, and thousands of resamples are one matrix.
`unweighted` counts each track once and so gives the figure of the tracks as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mgc.arrays import BoolArray, Float64Array, FloatingArray, IntArray
from mgc.evaluation.bootstrap import WeightArray, mean_of_defined, ratio

MOST_BINS = 15
TRACKS_A_BIN = 5
"""Fewer tracks a bin measure their luck; below 75 tracks there are fewer bins."""


def unweighted(n_tracks: int) -> WeightArray:
    """Return the weights of one resample that draws each track once, shape (n_tracks, 1)."""
    return np.ones((n_tracks, 1), dtype=np.int32)


# Genre: `scores` are logits or probabilities, shape (n, n_genres); `true` is the genre index, shape (n,), negative
# where it is not known. Such tracks are left out, and a figure is None where no track is left.


def genre_accuracy(scores: FloatingArray, true: IntArray) -> float | None:
    """Return the share of tracks whose highest score is that of their genre."""
    known = _KnownGenres.of(scores, true)
    return float(np.mean(known.predicted == known.true)) if known else None


def genre_macro_f1(scores: FloatingArray, true: IntArray) -> float | None:
    """Return the mean F1 over the genres that occur."""
    known = _KnownGenres.of(scores, true)
    if not known:
        return None
    found = genre_statistics(known.true, known.predicted, scores.shape[1], unweighted(len(known.true)))
    return float(found.macro_f1[0])


def genre_log_loss(probabilities: FloatingArray, true: IntArray) -> float | None:
    """Return the mean of −log of the true genre's probability, in nats."""
    known = _KnownGenres.of(probabilities, true)
    if not known:
        return None
    stated = known.scores[np.arange(len(known.true)), known.true]
    return float(-np.log(np.maximum(stated, np.finfo(np.float32).tiny)).mean())


def genre_rmse(probabilities: FloatingArray, true: IntArray) -> float | None:
    """Return the root of the mean squared error against 0 and 1 (Jain et al. 2021, Table 2)."""
    known = _KnownGenres.of(probabilities, true)
    if not known:
        return None
    return float(np.sqrt(np.mean(np.square(known.scores - np.eye(known.scores.shape[1])[known.true]))))


def genre_calibration_error(probabilities: FloatingArray, true: IntArray) -> float | None:
    """Return the expected calibration error of the most probable genre, 0 to 1."""
    known = _KnownGenres.of(probabilities, true)
    if not known:
        return None
    confidence = known.scores.max(axis=1).astype(np.float64)
    return calibration_error(confidence, known.predicted == known.true)


@dataclass(frozen=True, eq=False)
class _KnownGenres:
    """The tracks whose genre is known."""

    scores: FloatingArray
    true: IntArray

    @classmethod
    def of(cls, scores: FloatingArray, true: IntArray) -> _KnownGenres | None:
        known = true >= 0
        return cls(scores[known], true[known]) if known.any() and scores.shape[1] else None

    @property
    def predicted(self) -> IntArray:
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class GenreStatistics:
    """Genre figures of each resample; NaN where not defined.

    A genre without examples has no recall and no F1 and stays out of the macro mean; one that was never predicted
    has no precision, and an F1 of 0.

    Parameters
    ----------
    accuracy, macro_f1
        Shape (n_resamples,).
    precision, recall, f1
        Of each genre, shape (n_genres, n_resamples).
    """

    accuracy: Float64Array
    macro_f1: Float64Array
    precision: Float64Array
    recall: Float64Array
    f1: Float64Array


def genre_statistics(true: IntArray, predicted: IntArray, n_genres: int, weights: WeightArray) -> GenreStatistics:
    """Return the genre figures of n tracks of known genre under each column of `weights`, shape (n, n_resamples)."""
    cells = sums_by_cell(true * n_genres + predicted, weights, n_genres**2).reshape(n_genres, n_genres, -1)
    hits, support, named = np.einsum("iib->ib", cells), cells.sum(axis=1), cells.sum(axis=0)
    f1 = np.where(support > 0, ratio(2 * hits, support + named), np.nan)
    return GenreStatistics(
        accuracy=ratio(hits.sum(axis=0), support.sum(axis=0)),
        macro_f1=mean_of_defined(f1),
        precision=ratio(hits, named),
        recall=ratio(hits, support),
        f1=f1,
    )


def confusion_matrix(true: IntArray, predicted: IntArray, n_genres: int) -> IntArray:
    """Return tracks by true and predicted genre, shape (n_genres, n_genres)."""
    return np.bincount(true * n_genres + predicted, minlength=n_genres**2).reshape(n_genres, n_genres)


def sums_by_cell(cells: IntArray, values: Float64Array | WeightArray, n_cells: int) -> Float64Array:
    """Return the sums of rows that share a cell.

    Parameters
    ----------
    cells
        Cell of each row, shape (n,), in [0, n_cells).
    values
        Shape (n, n_resamples).

    Returns
    -------
    Sums, shape (n_cells, n_resamples); 0 for a cell without rows.
    """
    sums = np.zeros((n_cells, values.shape[1]))
    if len(cells):
        order = np.argsort(cells, kind="stable")
        present, starts = np.unique(cells[order], return_index=True)
        sums[present] = np.add.reduceat(values[order], starts, axis=0)
    return sums


# Calibration: do stated probabilities mean what they say.


def calibration_error(confidence: Float64Array, right: BoolArray) -> float:
    """Return the expected calibration error of n > 0 stated probabilities (Naeini et al. 2015, Guo et al. 2017).

    The error of a bin is |share right - mean stated probability|; returned is their mean, weighted by tracks.
    """
    errors = calibration_errors(right - confidence, equal_mass_bins(confidence), unweighted(len(confidence)))
    return float(errors[0])


def calibration_errors(gaps: Float64Array, bins: IntArray, weights: WeightArray) -> Float64Array:
    """Return the expected calibration error of each resample, shape (n_resamples,).

    Parameters
    ----------
    gaps
        Right (0 or 1) minus stated probability, shape (n,).
    bins
        Bin of each track, shape (n,): those of the tracks as they are.
    weights
        Shape (n, n_resamples).
    """
    error = np.abs(sums_by_cell(bins, weights * gaps[:, None], int(bins.max()) + 1)).sum(axis=0)
    return ratio(error, weights.sum(axis=0, dtype=np.float64))


def equal_mass_bins(confidence: Float64Array) -> IntArray:
    """Return the bin of each track, shape (n,): at most 15 bins of at least 5 tracks, equal but for one.

    Bins of as many tracks each (Nguyen & O'Connor 2015) are less biased than bins of equal width (Roelofs et al.
    2022).
    """
    n_bins = max(1, min(MOST_BINS, len(confidence) // TRACKS_A_BIN))
    rank = np.empty(len(confidence), dtype=np.int64)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return rank * n_bins // max(1, len(confidence))


# Tags: how well a tag's scores rank the tracks.


@dataclass(frozen=True, eq=False)
class RankingFigures:
    """ROC-AUC and average precision; NaN where a resample has no track with the tag, or no other.

    Parameters
    ----------
    roc_auc, average_precision
        Shape (n_resamples,) of one tag, (n_tags, n_resamples) of several.
    """

    roc_auc: Float64Array
    average_precision: Float64Array

    def of_tags(self, tags: npt.NDArray[np.intp]) -> RankingFigures:
        """Return the figures of some of the tags."""
        return RankingFigures(self.roc_auc[tags], self.average_precision[tags])

    @classmethod
    def joined(cls, parts: Iterable[RankingFigures]) -> RankingFigures:
        """Return the figures of several runs of resamples side by side."""
        roc_auc, average_precision = zip(*((one.roc_auc, one.average_precision) for one in parts), strict=True)
        return cls(np.concatenate(roc_auc, axis=-1), np.concatenate(average_precision, axis=-1))


def tag_macro_average_precision(
    scores: FloatingArray, truth: FloatingArray | IntArray, known: BoolArray
) -> float | None:
    """Return the mean average precision over the tags that some, but not all, known tracks have; else None.

    Parameters
    ----------
    scores, truth
        Shape (n, n_tags); `truth` is 0 or 1.
    known
        Which tracks' tags are known, shape (n,).
    """
    ranked = rank_tags(scores[known], truth[known] > 0)
    mean = mean_of_defined(tag_ranking_figures(ranked, unweighted(int(np.count_nonzero(known)))).average_precision)
    return float(mean[0]) if np.isfinite(mean[0]) else None


def rank_tags(scores: FloatingArray, truth: BoolArray) -> list[RankedScores]:
    """Rank the tracks by each tag; both of shape (n, n_tags)."""
    return [RankedScores.of(column, has) for column, has in zip(scores.T, truth.T, strict=True)]


def tag_ranking_figures(ranked: Sequence[RankedScores], weights: WeightArray) -> RankingFigures:
    """Return the figures of each tag under each column of `weights`, shape (n_tags, n_resamples)."""
    roc_auc = np.full((len(ranked), weights.shape[1]), np.nan)
    average_precision = roc_auc.copy()
    for tag, one in enumerate(ranked):
        figures = ranking_figures(one, weights)
        roc_auc[tag], average_precision[tag] = figures.roc_auc, figures.average_precision
    return RankingFigures(roc_auc, average_precision)


@dataclass(frozen=True, eq=False)
class RankedScores:
    """Where the positives of a tag stand among all scores, best first. Sorted once; a resample changes weights alone.

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
    def of(cls, scores: FloatingArray, truth: BoolArray) -> RankedScores:
        """Rank the scores of a tag, shape (n,), of which those where `truth` holds are positive."""
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


def ranking_figures(ranked: RankedScores, weights: WeightArray) -> RankingFigures:
    """Return the figures of one tag under each column of `weights`, shape (n, n_resamples).

    Both are cumulated weights read off at the positives. Tied scores are one threshold, as in scikit-learn; average
    precision is the step-wise area, the sum over thresholds of (R_n - R_{n-1}) P_n, which interpolates nothing
    (Davis & Goadrich 2006).
    """
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
