"""What was asked and what was answered: the arrays that every figure is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.config.taxonomy import UNKNOWN

OUTSIDE = -2
"""Genre index of a track whose genre is known, but is none that the model learned: it can only be wrong."""


class Failure(NamedTuple):
    """A track that gave no answer.

    Parameters
    ----------
    track_id, error_code
        Which, and why.
    genre
        Its genre where it is known: such a track counts as wrong in `accuracy_with_failures`.
    group
        Its group; empty: a group of its own.
    """

    track_id: str
    error_code: str
    genre: str | None = None
    group: str = ""


@dataclass(frozen=True, eq=False)
class LabelledPredictions:
    """The answers for the tracks of one split, beside the truth.

    Parameters
    ----------
    track_ids, groups
        Of the n tracks that were answered.
    genres, tags
        Names in index order.
    genre_true
        Genre index, shape (n,); `UNKNOWN` (-1) where it is not known, `OUTSIDE` (-2) where it is known but not
        among `genres`.
    genre_probabilities
        Shape (n, n_genres).
    tag_true
        0 or 1, shape (n, n_tags); says nothing where `tags_known`, shape (n,), is False.
    tag_probabilities
        Shape (n, n_tags).
    failed
        Tracks that gave no answer; not among `track_ids`.
    outside_genres
        Names of the genres behind `OUTSIDE`.
    split
        Name of the split, for messages and reports.
    abstain_below, abstain_precision
        The bundle's threshold below which a genre is a guess, 0 for none; and the precision that it was chosen for.
    """

    track_ids: Sequence[str]
    groups: Sequence[str]
    genres: Sequence[str]
    tags: Sequence[str]
    genre_true: IntArray
    genre_probabilities: Float64Array
    tag_true: IntArray
    tags_known: BoolArray
    tag_probabilities: Float64Array
    failed: Sequence[Failure] = ()
    outside_genres: Sequence[str] = ()
    split: str = ""
    abstain_below: float = 0.0
    abstain_precision: float | None = None

    def __post_init__(self) -> None:
        n, n_genres, n_tags = len(self.track_ids), len(self.genres), len(self.tags)
        shapes = {
            "groups": ((len(self.groups),), (n,)),
            "genre_true": (self.genre_true.shape, (n,)),
            "genre_probabilities": (self.genre_probabilities.shape, (n, n_genres)),
            "tag_true": (self.tag_true.shape, (n, n_tags)),
            "tags_known": (self.tags_known.shape, (n,)),
            "tag_probabilities": (self.tag_probabilities.shape, (n, n_tags)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"answers: {name} has shape {found}, expected {expected}")
        for name in ("genre_probabilities", "tag_probabilities"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"answers: {name} holds values that are not finite")
        if n and (self.genre_true.min() < OUTSIDE or self.genre_true.max() >= n_genres):
            raise ValueError(f"answers: genre_true outside [{OUTSIDE}, {n_genres})")
        if len(set(self.track_ids) | {failure.track_id for failure in self.failed}) < n + len(self.failed):
            raise ValueError("answers: a track is there twice")

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def labelled(self) -> BoolArray:
        """Which tracks have a genre that the model knows, shape (n,)."""
        return np.asarray(self.genre_true >= 0)

    def take(self, rows: npt.NDArray[np.intp]) -> LabelledPredictions:
        """Return the answers of some tracks, in that order; failures stay."""
        return replace(
            self,
            track_ids=[self.track_ids[row] for row in rows],
            groups=[self.groups[row] for row in rows],
            genre_true=self.genre_true[rows],
            genre_probabilities=self.genre_probabilities[rows],
            tag_true=self.tag_true[rows],
            tags_known=self.tags_known[rows],
            tag_probabilities=self.tag_probabilities[rows],
        )

    def in_track_order(self) -> LabelledPredictions:
        """Return the same in the order of track ids, so that no figure depends on the order of rows."""
        rows = np.array(sorted(range(len(self)), key=self.track_ids.__getitem__), dtype=np.intp)
        return replace(self.take(rows), failed=sorted(self.failed, key=lambda failure: failure.track_id))


def predicted_genres(probabilities: Float64Array) -> IntArray:
    """Return the most probable genre of each track, shape (n,); of equal ones the first."""
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def known_genre(genre_true: IntArray) -> BoolArray:
    """Return which tracks have a genre label at all, one that the model never learned included."""
    return np.asarray(genre_true != UNKNOWN)


def genre_indices(genres: Iterable[str | None], vocabulary: Sequence[str]) -> IntArray:
    """Return the index of each genre, `UNKNOWN` for None, `OUTSIDE` for one that is not in the vocabulary."""
    index = {name: place for place, name in enumerate(vocabulary)}
    indices = [UNKNOWN if genre is None else index.get(genre, OUTSIDE) for genre in genres]
    return np.array(indices, dtype=np.int64)


def names_outside(genres: Iterable[str | None], vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Return the genres that are not in the vocabulary, sorted."""
    return tuple(sorted({genre for genre in genres if genre is not None} - set(vocabulary)))


def tag_vectors(tags: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> IntArray:
    """Return the multi-hot tags of each track, shape (n, n_tags); those not in the vocabulary are left out."""
    index = {name: place for place, name in enumerate(vocabulary)}
    vectors = np.zeros((len(tags), len(vocabulary)), dtype=np.int64)
    for row, names in enumerate(tags):
        vectors[row, [index[name] for name in names if name in index]] = 1
    return vectors
