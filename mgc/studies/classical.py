"""Classical systems: support vector machine, nearest neighbours, decision tree or random forest.

They learn from statistics of MFCC, from what `features.statistics` stored (Cao 2024: five features), or from
embeddings.
One row of features a track; or, where an experiment cuts segments, one a segment, as the literature has it (Jain
et al. 2021: ten segments a clip), and a track's answer is the mean over its held-out segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from mgc.arrays import Float64Array, IntArray
from mgc.config.taxonomy import Taxonomy
from mgc.evaluation.answers import genre_indices, tag_vectors
from mgc.evaluation.baselines import (
    DEFAULT_PENALTY,
    LOGISTIC_PENALTIES,
    MOST_CHOICE_TRACKS,
    SVM_PENALTIES,
    OneVersusRest,
    choose_penalty,
    decision_values,
    mfcc_statistics,
    softmax,
    svm,
    svm_score,
    tag_score,
    whole_groups,
)
from mgc.studies.experiment_settings import HeadKind, SystemSettings
from mgc.tables.feature_shards import FeatureSet

FOREST_TREES = 300
LEAF_ROWS = 5
"""Fewest rows in a leaf of a single tree, so that it knows how sure it is; a forest's trees grow to their ends."""


@dataclass(frozen=True)
class Rows:
    """Features, a row a track or a segment, and what is known of each.

    Parameters
    ----------
    values
        Shape (n_rows, n_features).
    counts
        Rows of each track, those of a track next to each other.
    """

    values: Float64Array
    counts: IntArray
    tracks: FeatureSet

    @property
    def of_track(self) -> IntArray:
        """Track of each row."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class RowProbabilities:
    """Probabilities of each row, shape (n_rows, n_genres) and (n_rows, n_tags), and what was fitted."""

    genre: Float64Array
    tags: Float64Array
    facts: dict[str, Any]


def statistics_rows(tracks: FeatureSet, by_window: bool) -> Rows:
    """Return means and deviations of 20 MFCC, of each window or over the whole track."""
    counts = np.array([len(own) for own in tracks.log_mels])
    if not by_window:
        return Rows(mfcc_statistics(tracks), np.ones_like(counts), tracks)
    windows = [window[np.newaxis] for own in tracks.log_mels for window in own]
    return Rows(mfcc_statistics(replace(tracks, log_mels=windows)), counts, tracks)


def stored_rows(tracks: FeatureSet, stored: pl.DataFrame) -> Rows:
    """Return what the shards stored of each track, a row a track; see `mgc.tables.feature_export`."""
    wanted = pl.DataFrame({"track_id": list(tracks.track_ids)})
    values = wanted.join(stored, on="track_id", how="left", maintain_order="left").drop("track_id")
    return Rows(values.to_numpy().astype(np.float64), np.ones(len(tracks), dtype=np.int64), tracks)


def fit_and_answer(
    head: HeadKind, system: SystemSettings, train: Rows, held_out: Rows, taxonomy: Taxonomy, seed: int
) -> RowProbabilities:
    """Fit a classifier on the rows of one side and answer those of the other."""
    # Many fits on small matrices: BLAS threads would cost ten times what they do.
    with threadpool_limits(1):
        if head == "knn":
            return _knn(system.neighbours, train, held_out, taxonomy)
        if head in ("decision_tree", "random_forest"):
            return _trees(head, train, held_out, taxonomy, seed)
        return _svm(system.penalty, train, held_out, taxonomy, seed)


def _svm(penalty: float | None, train: Rows, held_out: Rows, taxonomy: Taxonomy, seed: int) -> RowProbabilities:
    facts: dict[str, Any] = {}
    genre = np.zeros((len(held_out.values), len(taxonomy.genres)))
    true = genre_indices(train.tracks.genres, taxonomy.genres)[train.of_track]
    known = np.flatnonzero(true >= 0)
    classes = np.unique(true[known])
    if len(classes) > 1:
        facts["penalty"] = penalty or _chosen(train, known, true, SVM_PENALTIES, svm, svm_score, seed)
        model = svm(facts["penalty"]).fit(train.values[known], true[known])
        genre[:, classes] = softmax(decision_values(model, held_out.values))
    elif len(classes):
        genre[:, classes] = 1.0
    return RowProbabilities(genre, _logistic(train, held_out, taxonomy, seed, facts), facts)


def _logistic(train: Rows, held_out: Rows, taxonomy: Taxonomy, seed: int, facts: dict[str, Any]) -> Float64Array:
    """Return tag probabilities by one logistic regression a tag."""
    tags = np.zeros((len(held_out.values), len(taxonomy.tags)))
    known = np.flatnonzero(np.array(train.tracks.tags_known, dtype=bool)[train.of_track])
    if not len(known) or not taxonomy.tags:
        return tags
    true = tag_vectors(train.tracks.tags, taxonomy.tags)[train.of_track]
    tags[:] = true[known].mean(axis=0)
    varied = np.flatnonzero((true[known].min(axis=0) == 0) & (true[known].max(axis=0) == 1))
    if len(varied):
        penalty = _chosen(train, known, true[:, varied], LOGISTIC_PENALTIES, OneVersusRest, tag_score, seed)
        facts["logistic_penalty"] = penalty
        tags[:, varied] = (
            OneVersusRest(penalty).fit(train.values[known], true[known][:, varied]).predict(held_out.values)
        )
    return tags


def _chosen(
    train: Rows, rows: IntArray, true: IntArray, penalties: Sequence[float], build: Any, score: Any, seed: int
) -> float:
    """Return C by cross-validation over groups of the training rows."""
    groups = np.array(train.tracks.groups)[train.of_track[rows]]
    kept = whole_groups(groups, MOST_CHOICE_TRACKS, seed)
    rows, groups = rows[kept], groups[kept]
    choice = choose_penalty(train.values[rows], true[rows], groups, penalties, build, score, seed)
    return choice.penalty or DEFAULT_PENALTY


def _trees(head: HeadKind, train: Rows, held_out: Rows, taxonomy: Taxonomy, seed: int) -> RowProbabilities:
    """Return the shares of the training rows in the leaves (Breiman et al. 1984; forest: Breiman 2001).

    Trees regress on vectors of 0 and 1: the squared error of these is the Gini impurity, and all tags share one tree.
    """
    true = genre_indices(train.tracks.genres, taxonomy.genres)[train.of_track]
    known = np.flatnonzero(true >= 0)
    tagged = np.flatnonzero(np.array(train.tracks.tags_known, dtype=bool)[train.of_track])
    tags = tag_vectors(train.tracks.tags, taxonomy.tags)[train.of_track][tagged]
    alike = 1.0 / np.maximum(np.bincount(true[known], minlength=1), 1)[true[known]]

    def shares(rows: IntArray, truth: Any, weights: Any = None) -> Float64Array:
        if not len(rows) or not truth.shape[1]:
            return np.zeros((len(held_out.values), truth.shape[1]))
        one = DecisionTreeRegressor(min_samples_leaf=LEAF_ROWS, random_state=seed)
        many = RandomForestRegressor(FOREST_TREES, max_features="sqrt", random_state=seed)
        model = (one if head == "decision_tree" else many).fit(train.values[rows], truth, weights)
        return np.asarray(model.predict(held_out.values)).reshape(len(held_out.values), -1)

    genre = shares(known, np.eye(len(taxonomy.genres))[true[known]], alike)
    return RowProbabilities(genre, shares(tagged, tags), {})


def _knn(neighbours: int, train: Rows, held_out: Rows, taxonomy: Taxonomy) -> RowProbabilities:
    """Return shares among the nearest rows, nearer ones weighing more."""
    true = genre_indices(train.tracks.genres, taxonomy.genres)[train.of_track]
    known = np.flatnonzero(true >= 0)
    genre = _shares(train.values[known], np.eye(len(taxonomy.genres))[true[known]], held_out.values, neighbours)
    tagged = np.flatnonzero(np.array(train.tracks.tags_known, dtype=bool)[train.of_track])
    vectors = tag_vectors(train.tracks.tags, taxonomy.tags)[train.of_track][tagged]
    return RowProbabilities(genre, _shares(train.values[tagged], vectors, held_out.values, neighbours), {})


def _shares(values: Float64Array, truth: Any, held_out: Float64Array, neighbours: int) -> Float64Array:
    """Return the mean of the truth of the nearest rows, weighted by 1 / distance, on scaled features."""
    if not len(values) or not truth.shape[1]:
        return np.zeros((len(held_out), truth.shape[1]))
    scaler = StandardScaler().fit(values)
    nearest = NearestNeighbors(n_neighbors=min(neighbours, len(values))).fit(scaler.transform(values))
    distances, places = nearest.kneighbors(scaler.transform(held_out))
    weights = 1.0 / np.maximum(distances, np.finfo(np.float32).eps)
    shares = np.einsum("rn,rnk->rk", weights, truth[places].astype(np.float64))
    return np.asarray(shares / weights.sum(axis=1, keepdims=True))
