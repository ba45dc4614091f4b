"""The review queue: the tracks whose label would help most, surest help first, no two alike.

A label helps where the model is torn (a small margin between its two likeliest genres, a flat
distribution), where many tracks resemble the one that is labelled (information density, Settles & Craven 2008), and
where no resembling track is in the queue already. So the queue is filled greedily: each next track is the one with
the largest

    uncertainty · (1 + density) / 2 · (1 - likeness to the nearest in the queue)

- uncertainty: the mean of 1 - margin and of the entropy over its maximum. A track that abstained is in the queue, but
  no higher for it: half of a catalogue may abstain, which then does not tell which track comes first.
- density: rank, in (0, 1], of the mean cosine to the ten nearest tracks among all.
- likeness: exp(-(d / s)²) of the cosine distance d, s the larger of both tracks' distance to their tenth neighbour
  (local scaling, Zelnik-Manor & Perona 2004): 1 for a copy, and near 0 beyond the neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata

from mgc.arrays import Float64Array
from mgc.curation.nearest_neighbours import NeighbourIndex, Vectors
from mgc.curation.similarity import embedding_matrix
from mgc.errors import ConfigError

NEIGHBOURS = 10
POOL = 50
"""Tracks looked at for each place in the queue: the most uncertain ones."""

READ = [
    "track_id",
    "uri",
    "genre_probabilities",
    "tags",
    "embedding",
    "error_code",
    "bundle_fingerprint",
    "abstained",
]

COLUMNS = [
    "path",
    "genre",
    "tags",
    "predicted_genre",
    "probability",
    "runner_up",
    "runner_up_probability",
    "predicted_tags",
    "why",
    "score",
    "track_id",
    "uri",
]
"""Of the CSV. `genre` and `tags` are empty: they are to be filled in."""


@dataclass(frozen=True)
class ReviewOptions:
    """Which tracks go into the queue.

    Parameters
    ----------
    tracks
        At most so many.
    max_margin
        Tracks whose likeliest genre leads by more are sure enough, unless they abstained.
    labelled_too
        Tracks that have a genre too: to find wrong labels.
    """

    tracks: int = 100
    max_margin: float = 0.5
    labelled_too: bool = False

    def __post_init__(self) -> None:
        if self.tracks < 1 or not 0.0 <= self.max_margin <= 1.0:
            raise ConfigError(
                f"a queue of {self.tracks} tracks with margins up to {self.max_margin:g} cannot be",
                "give at least one track, and a margin from 0 to 1",
            )


def review_queue(
    predictions: pl.DataFrame, catalogue: pl.DataFrame, root: str, options: ReviewOptions | None = None
) -> pl.DataFrame:
    """Return the queue, the most helpful first, in the columns of the CSV.

    Parameters
    ----------
    predictions
        Columns of `READ`; `abstained` may be missing.
    catalogue
        Schema CATALOGUE; tracks that are not in it are left out.
    root
        Of the catalogue: paths are relative to it.
    """
    options = options or ReviewOptions()
    answered = predictions.filter(pl.col("embedding").is_not_null() & pl.col("error_code").is_null()).drop("uri")
    known = catalogue.select("track_id", "uri", pl.col("genre").alias("label"))
    tracks = answered.join(known, on="track_id").sort("track_id")
    if tracks.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    # Stale answers may be an older bundle's: its embeddings are not to be compared.
    tracks = tracks.filter(pl.col("bundle_fingerprint") == tracks["bundle_fingerprint"].mode().sort()[0])
    vectors = embedding_matrix(tracks)
    answers = _answers(tracks)
    eligible = answers.wanted(options.max_margin)
    if not options.labelled_too:
        eligible &= tracks["label"].is_null().to_numpy()
    near = _Neighbourhood.of(vectors)
    helpful = np.where(eligible, answers.uncertainty * (1 + near.density) / 2, 0.0)
    chosen = _greedy(helpful, vectors, near.scale, options.tracks)
    return _sheet(tracks, answers, near.density, chosen, root)


@dataclass(frozen=True)
class _TopTwoGenres:
    """The two likeliest genres of each track with their probabilities, and how torn the model is, shape (n,)."""

    first: list[str]
    second: list[str]
    first_probability: Float64Array
    second_probability: Float64Array
    uncertainty: Float64Array
    abstained: npt.NDArray[np.bool_]

    @property
    def margin(self) -> Float64Array:
        return self.first_probability - self.second_probability

    def wanted(self, max_margin: float) -> npt.NDArray[np.bool_]:
        return (self.margin <= max_margin) | self.abstained


@dataclass(frozen=True)
class _Neighbourhood:
    """How crowded it is around each track, and how far its tenth neighbour is, shape (n,)."""

    density: Float64Array
    scale: Float64Array

    @classmethod
    def of(cls, vectors: Vectors) -> _Neighbourhood:
        n = len(vectors)
        if n < 2:
            return cls(np.ones(n), np.ones(n))
        cosines = NeighbourIndex.build(vectors).neighbours_of(np.arange(n, dtype=np.int64), NEIGHBOURS).cosines
        density = rankdata(cosines.mean(axis=1).round(6)) / n
        return cls(density, np.maximum(1.0 - cosines[:, -1].astype(np.float64), 1e-6))


def _answers(tracks: pl.DataFrame) -> _TopTwoGenres:
    top = [sorted(_pairs(value), key=lambda pair: -pair[1]) for value in tracks["genre_probabilities"]]
    entropy = np.array([_entropy([probability for _, probability in pairs]) for pairs in top])
    first = np.array([pairs[0][1] for pairs in top])
    second = np.array([pairs[1][1] if len(pairs) > 1 else 0.0 for pairs in top])
    named = "abstained" in tracks.columns
    abstained = tracks["abstained"].fill_null(False).to_numpy() if named else np.zeros(tracks.height, dtype=bool)
    return _TopTwoGenres(
        [pairs[0][0] for pairs in top],
        [pairs[1][0] if len(pairs) > 1 else "" for pairs in top],
        first,
        second,
        ((1 - (first - second)) + entropy) / 2,
        abstained,
    )


def _entropy(probabilities: list[float]) -> float:
    """Return the entropy over its maximum, in [0, 1]."""
    if len(probabilities) < 2:
        return 0.0
    values = np.clip(probabilities, 1e-12, 1.0)
    return float(-(values * np.log(values)).sum() / np.log(len(values)))


def _pairs(probabilities: object) -> list[tuple[str, float]]:
    """Return the entries of a map column's value: a dict in polars 2, a list of {key, value} in polars 1."""
    if isinstance(probabilities, Mapping):
        return list(probabilities.items())
    if isinstance(probabilities, Iterable):
        return [(entry["key"], entry["value"]) for entry in probabilities]
    return []


def _greedy(helpful: Float64Array, vectors: Vectors, scale: Float64Array, count: int) -> list[tuple[int, float]]:
    """Return (row, score) of the queue."""
    pool = np.argsort(-helpful, kind="stable")[: max(POOL * count, 1_000)]
    pool = pool[helpful[pool] > 0]
    gain = helpful[pool].copy()
    chosen: list[tuple[int, float]] = []
    while len(chosen) < min(count, len(pool)):
        best = int(gain.argmax())
        row = int(pool[best])
        chosen.append((row, float(gain[best])))
        distance = np.clip(1.0 - vectors[pool] @ vectors[row], 0.0, None)
        likeness = np.exp(-((distance / np.maximum(scale[pool], scale[row])) ** 2))
        gain = np.minimum(gain, helpful[pool] * (1.0 - likeness))
        gain[best] = -1.0
    return chosen


def _sheet(
    tracks: pl.DataFrame, answers: _TopTwoGenres, density: Float64Array, chosen: list[tuple[int, float]], root: str
) -> pl.DataFrame:
    inside = root.rstrip("/") + "/"
    ids, uris, tags, labels = (tracks[name].to_list() for name in ("track_id", "uri", "tags", "label"))
    rows = [
        {
            "path": uris[row].removeprefix(inside),
            "genre": "",
            "tags": "",
            "predicted_genre": answers.first[row],
            "probability": f"{answers.first_probability[row]:.3f}",
            "runner_up": answers.second[row],
            "runner_up_probability": f"{answers.second_probability[row]:.3f}",
            "predicted_tags": "|".join(tags[row] or ()),
            "why": _why(answers, density, labels[row], row),
            "score": f"{score:.4f}",
            "track_id": ids[row],
            "uri": uris[row],
        }
        for row, score in chosen
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String))


def _why(answers: _TopTwoGenres, density: Float64Array, label: str | None, row: int) -> str:
    reasons = ["abstained"] if answers.abstained[row] else []
    if answers.second[row]:
        reasons.append(f"{answers.first[row]} leads {answers.second[row]} by {100 * answers.margin[row]:.0f} points")
    if density[row] > 0.75:
        reasons.append("many tracks are like it")
    if density[row] < 0.1:
        reasons.append("few tracks are like it")
    if label is not None and label != answers.first[row]:
        reasons.append(f"labelled {label}")
    return "; ".join(reasons)
