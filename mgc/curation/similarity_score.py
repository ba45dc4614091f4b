"""How good the neighbours are: precision at k by genre and by tag, on tracks that nothing was trained on.

Zhang (2025) checks a genre classifier by what it recommends: the nearest tracks should share the genre. Here every
held-out track is a query for its k nearest among the held-out ones; tracks of its own group (artist, work) are no
answer, or the figure measures who recorded it. Intervals are of resampled groups of queries. Beside it stand what
chance gives, and the same search over means and deviations of MFCCs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from mgc.arrays import BoolArray, Float64Array
from mgc.config import EvaluationConfig
from mgc.curation.nearest_neighbours import Vectors
from mgc.errors import SplitError
from mgc.evaluation.answers import tag_vectors
from mgc.evaluation.baselines import mfcc_statistics
from mgc.evaluation.bootstrap import UNDEFINED, Figure, Resampling, make_resampling, mean_of_defined, ratio
from mgc.tables.feature_shards import FeatureSet


@dataclass(frozen=True)
class Precision:
    """Precision at k of one kind of label.

    Parameters
    ----------
    queries
        Tracks that were queries.
    embedding
        Of the embedding's neighbours.
    chance
        Of neighbours drawn at random.
    mfcc, gain
        Of the MFCC statistics' neighbours, and how much the embedding has over them (paired); not defined without
        features.
    """

    queries: int
    embedding: Figure
    chance: Figure
    mfcc: Figure = UNDEFINED
    gain: Figure = UNDEFINED

    def to_json(self) -> dict[str, object]:
        """Return the figures under the names of the fields."""
        figures = {name: getattr(self, name).to_json() for name in ("embedding", "chance", "mfcc", "gain")}
        return {"queries": self.queries, **figures}


@dataclass(frozen=True)
class SimilarityScore:
    """Precision at k by genre (share of neighbours of the query's genre) and by tag (macro over tags)."""

    k: int
    tracks: int
    genre: Precision
    tags: Precision

    def to_json(self) -> dict[str, object]:
        """Return the score for a file."""
        return {"k": self.k, "tracks": self.tracks, "genre": self.genre.to_json(), "tags": self.tags.to_json()}


def score_similarity(
    tracks: pl.DataFrame, embeddings: Vectors, k: int, config: EvaluationConfig, features: FeatureSet | None = None
) -> SimilarityScore:
    """Return precision at k of the neighbours among some tracks.

    Parameters
    ----------
    tracks
        Columns track_id, genre, tags, tags_known, group; labelled tracks of one split.
    embeddings
        Of these tracks, shape (n, dimensions).
    k
        Neighbours of each track.
    features
        Log-mels of the same tracks, for the baseline; None: no baseline.

    Raises
    ------
    SplitError
        Fewer than k tracks of other groups are there to be found.
    """
    groups = tracks["group"].to_numpy()
    allowed = groups[:, None] != groups[None, :]
    if tracks.height < 2 or allowed.sum(axis=1).min() < k:
        raise SplitError(
            f"{tracks.height} tracks are too few to find {k} neighbours of other groups",
            "score a larger split, or ask for fewer",
        )
    found = [_nearest(embeddings.astype(np.float64), allowed, k)]
    if features is not None:
        found.append(_nearest(_standardised(mfcc_statistics(features)), allowed, k))
    resampling = make_resampling(tracks["track_id"].to_list(), tracks["group"].to_list(), config, "group")
    genre, tags = _genre_hits(tracks), _tag_hits(tracks)
    return SimilarityScore(
        k, tracks.height, _precision(genre, found, allowed, resampling), _precision(tags, found, allowed, resampling)
    )


@dataclass(frozen=True)
class _RelevanceLabels:
    """Which track has which label, shape (n, n_labels), and which tracks' labels are known, shape (n,)."""

    has: BoolArray
    known: BoolArray


def _genre_hits(tracks: pl.DataFrame) -> _RelevanceLabels:
    """Return the genre of each track as one label, so that macro over genres is over queries' genres."""
    names = tracks["genre"].drop_nulls().unique().sort().to_list()
    has = np.array([[genre == name for name in names] for genre in tracks["genre"]], dtype=bool)
    return _RelevanceLabels(has.reshape(tracks.height, len(names)), tracks["genre"].is_not_null().to_numpy())


def _tag_hits(tracks: pl.DataFrame) -> _RelevanceLabels:
    names = tuple(tracks["tags"].explode().drop_nulls().unique().sort().to_list())
    has = tag_vectors(tracks["tags"].to_list(), names).astype(bool)
    return _RelevanceLabels(has.reshape(tracks.height, len(names)), tracks["tags_known"].to_numpy())


def _precision(
    labels: _RelevanceLabels, found: list[Float64Array], allowed: BoolArray, resampling: Resampling
) -> Precision:
    """Return the macro mean over labels of: how many neighbours of the tracks that have it have it too."""
    queried = labels.has & labels.known[:, None]
    if not queried.any():
        return Precision(0, UNDEFINED, UNDEFINED)
    # A neighbour whose labels are not known is no hit and no miss: it is not counted.
    shares = [
        _shares(weights * labels.known[None, :], labels.has) for weights in [*found, allowed.astype(np.float64)]
    ]
    figures = [_figure([share], queried, resampling) for share in shares]
    queries = int(queried.any(axis=1).sum())
    if len(found) == 1:
        return Precision(queries, figures[0], figures[1])
    gain = _figure([shares[0], shares[1]], queried, resampling)
    return Precision(queries, figures[0], figures[2], figures[1], gain)


def _shares(weights: Float64Array, has: BoolArray) -> Float64Array:
    """Return which share of each track's neighbours has each label, shape (n, n_labels)."""
    return ratio(weights @ has.astype(np.float64), weights.sum(axis=1, keepdims=True))


def _figure(shares: list[Float64Array], queried: BoolArray, resampling: Resampling) -> Figure:
    """Return the macro precision of one system, or the difference of two, with its interval."""
    replicates = []
    chunks = [np.ones((len(queried), 1)), *(chunk.astype(np.float64) for chunk in resampling.chunks())]
    for weights in chunks:
        counts = queried.astype(np.float64).T @ weights
        means = [
            mean_of_defined(ratio(np.where(queried, np.nan_to_num(share), 0.0).T @ weights, counts))
            for share in shares
        ]
        replicates.append(means[0] if len(means) == 1 else means[0] - means[1])
    value = float(replicates[0][0])
    enough = len(np.unique(resampling.clusters)) > 1
    return resampling.figure(value, np.concatenate(replicates[1:]), enough=enough)


def _nearest(vectors: Float64Array, allowed: BoolArray, k: int) -> Float64Array:
    """Return 1 where a track is among another's k nearest allowed ones by cosine, shape (n, n)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = np.where(allowed, unit @ unit.T, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(cosines.shape)
    np.put_along_axis(chosen, order, 1.0, axis=1)
    return chosen


def _standardised(values: Float64Array) -> Float64Array:
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9))
