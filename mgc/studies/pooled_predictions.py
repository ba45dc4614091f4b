"""What a system said, pooled over the folds of a seed, and the figures of it in any resample of the tracks.

A figure of several seeds is the mean of the seeds' own figures: it says what one training is worth, and not what
an ensemble of them would be. All systems are resampled by the same weights, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.config import EvaluationConfig
from mgc.config.taxonomy import Taxonomy
from mgc.evaluation.answers import genre_indices, tag_vectors
from mgc.evaluation.bootstrap import Resampling, WeightArray, mean_of_defined, ratio, sums_by_cell
from mgc.evaluation.metrics import RankedScores, ranking_figures
from mgc.studies.runs import CellResult
from mgc.studies.study_data import Material


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the tracks of an experiment, by their place in its catalogue, and how they are resampled.

    Parameters
    ----------
    genre
        Genre index, shape (n,); -1 where it is not known.
    tags, tags_known
        Shape (n, n_tags) and (n,).
    weights
        How often each track is drawn, shape (n, samples).
    """

    row_of_track: dict[str, int]
    taxonomy: Taxonomy
    genre: IntArray
    tags: BoolArray
    tags_known: BoolArray
    resampling: Resampling
    weights: WeightArray

    @classmethod
    def of(cls, material: Material, config: EvaluationConfig) -> Truth:
        """Read the labels of the material's catalogue."""
        rows: pl.DataFrame = material.catalogue
        resampling = Resampling(np.arange(rows.height), config.bootstrap_samples, config.confidence, config.seed)
        return cls(
            row_of_track={track: number for number, track in enumerate(rows["track_id"])},
            taxonomy=material.taxonomy,
            genre=genre_indices(rows["genre"], material.taxonomy.genres),
            tags=tag_vectors(rows["tags"].to_list(), material.taxonomy.tags).astype(bool),
            tags_known=rows["tags_known"].to_numpy().astype(bool),
            resampling=resampling,
            weights=np.concatenate(list(resampling.chunks()), axis=1),
        )


@dataclass(frozen=True, eq=False)
class PooledPredictions:
    """A system's answers under one protocol with one seed, over the folds that are finished.

    Parameters
    ----------
    rows
        Place of each track asked about, shape (m,), each once.
    genre, tags
        Probabilities, shape (m, n_genres) and (m, n_tags).
    windows, windows_right
        Of each track, shape (m,).
    """

    seed: int
    rows: IntArray
    genre: Float64Array
    tags: Float64Array
    windows: IntArray
    windows_right: IntArray

    @classmethod
    def of(cls, results: Sequence[CellResult], head: str, truth: Truth) -> PooledPredictions:
        """Lay the folds of one seed end to end."""
        n_genres, n_tags = len(truth.taxonomy.genres), len(truth.taxonomy.tags)
        answers = [result.answers[head] for result in results]
        ids = [track for result in results for track in result.tracks]
        return cls(
            seed=results[0].seed,
            rows=np.array([truth.row_of_track[track] for track in ids], dtype=np.int64),
            genre=np.array([row for one in answers for row in one.genre]).reshape(len(ids), n_genres),
            tags=np.array([row for one in answers for row in one.tags]).reshape(len(ids), n_tags),
            windows=np.array([count for result in results for count in result.windows], dtype=np.int64),
            windows_right=np.array([count for one in answers for count in one.windows_right], dtype=np.int64),
        )


@dataclass(frozen=True, eq=False)
class GenreStatistics:
    """Genre figures of one pool under each column of weights; NaN where not defined.

    Parameters
    ----------
    accuracy, window_accuracy, macro_f1
        Shape (samples,).
    recall
        The accuracy of each genre's tracks, shape (n_genres, samples).
    """

    accuracy: Float64Array
    window_accuracy: Float64Array
    macro_f1: Float64Array
    recall: Float64Array


def genre_statistics(pool: PooledPredictions, truth: Truth, weights: WeightArray) -> GenreStatistics:
    """Return the genre figures of a pool; `weights` are of all tracks, shape (n, samples)."""
    n_genres = len(truth.taxonomy.genres)
    known = np.flatnonzero(truth.genre[pool.rows] >= 0)
    drawn = weights[pool.rows[known]]
    true, predicted_genre = truth.genre[pool.rows[known]], pool.genre[known].argmax(axis=1)
    confusion = sums_by_cell(true * n_genres + predicted_genre, drawn, n_genres**2).reshape(n_genres, n_genres, -1)
    hits, support, predicted = np.einsum("iib->ib", confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = np.where(support > 0, ratio(2 * hits, support + predicted), np.nan)
    return GenreStatistics(
        accuracy=ratio(hits.sum(axis=0), support.sum(axis=0)),
        window_accuracy=ratio(_summed(pool.windows_right[known], drawn), _summed(pool.windows[known], drawn)),
        macro_f1=mean_of_defined(f1),
        recall=ratio(hits, support),
    )


def _summed(values: IntArray, drawn: WeightArray) -> Float64Array:
    return np.asarray(values.astype(np.float64) @ drawn)


def confusion_of(pool: PooledPredictions, truth: Truth) -> IntArray:
    """Return tracks by true and predicted genre, shape (n_genres, n_genres)."""
    n_genres = len(truth.taxonomy.genres)
    true = truth.genre[pool.rows]
    known = true >= 0
    cells = true[known] * n_genres + pool.genre[known].argmax(axis=1)
    return np.bincount(cells, minlength=n_genres**2).reshape(n_genres, n_genres)


@dataclass(frozen=True, eq=False)
class TagStatistics:
    """ROC-AUC and average precision of each tag under each column of weights, shape (n_tags, samples)."""

    roc_auc: Float64Array
    pr_auc: Float64Array


def tag_statistics(pool: PooledPredictions, truth: Truth, weights: WeightArray) -> TagStatistics:
    """Return the tag figures of a pool; NaN for a tag that no track asked about has, or every one."""
    known = np.flatnonzero(truth.tags_known[pool.rows])
    rows = pool.rows[known]
    drawn, has = weights[rows], truth.tags[rows]
    roc = np.full((has.shape[1], weights.shape[1]), np.nan)
    precision = roc.copy()
    for tag in range(has.shape[1]):
        if has[:, tag].any() and not has[:, tag].all():
            figures = ranking_figures(RankedScores.of(pool.tags[known, tag], has[:, tag]), drawn)
            roc[tag], precision[tag] = figures.roc_auc, figures.average_precision
    return TagStatistics(roc, precision)
