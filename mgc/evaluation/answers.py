"""Predictions beside labels: the arrays that every figure is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mgc.arrays import BoolArray, Float64Array, IntArray
from mgc.config.taxonomy import UNKNOWN
from mgc.errors import SchemaError, SplitError

OUTSIDE = -2
"""Genre index of a track whose genre is known, but is none that the model learned: it can only be wrong."""

NAMED_AT_MOST = 3


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
        The bundle's threshold below which it abstains, 0 for none; and the precision that it was chosen for.
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


def answers_from_tables(
    predictions: pl.DataFrame,
    catalogue: pl.DataFrame,
    split: str,
    genres: Sequence[str],
    tags: Sequence[str],
) -> LabelledPredictions:
    """Return the answers for one split of a catalogue.

    Parameters
    ----------
    predictions
        Schema PREDICTIONS; rows of other tracks are left out.
    catalogue
        Schema CATALOGUE: the one source of labels, groups and splits.
    split
        Whose tracks are evaluated.
    genres, tags
        The model's vocabularies, in index order.

    Raises
    ------
    SplitError
        The catalogue has no track of that split.
    SchemaError
        A track of the split has no prediction or two, a prediction was made of another content than the
        catalogue's, or lacks the probability of a genre or tag.
    """
    requested = catalogue.filter(pl.col("split") == split).sort("track_id")
    if requested.is_empty():
        found = ", ".join(sorted(catalogue["split"].unique())) or "none"
        raise SplitError(f"the catalogue has no track of split '{split}'", f"splits it has: {found}")
    joined = _joined(requested, predictions, split)
    answered = joined.filter(pl.col("error_code").is_null())
    return LabelledPredictions(
        track_ids=answered["track_id"].to_list(),
        groups=answered["group"].to_list(),
        genres=tuple(genres),
        tags=tuple(tags),
        genre_true=genre_indices(answered["genre"], genres),
        genre_probabilities=_probabilities(answered, "genre_probabilities", genres),
        tag_true=tag_vectors(answered["tags"].to_list(), tags),
        tags_known=answered["tags_known"].to_numpy().astype(bool),
        tag_probabilities=_probabilities(answered, "tag_probabilities", tags),
        failed=[
            Failure(*row)
            for row in joined.filter(pl.col("error_code").is_not_null())
            .select("track_id", "error_code", "genre", "group")
            .iter_rows()
        ],
        outside_genres=names_outside(answered["genre"], genres),
        split=split,
    )


def _joined(requested: pl.DataFrame, predictions: pl.DataFrame, split: str) -> pl.DataFrame:
    made = predictions.select(
        "track_id",
        pl.col("content_id").alias("predicted_content"),
        "error_code",
        "genre_probabilities",
        "tag_probabilities",
    ).join(requested.select("track_id"), on="track_id", how="semi")
    repeated = made.filter(pl.col("track_id").is_duplicated())["track_id"].unique().sort()
    if len(repeated):
        raise SchemaError(
            f"{_tracks(len(repeated), split)} more than one prediction: {_named(repeated)}",
            "give the output directory of `mgc tag`, not its history",
        )
    joined = requested.join(made, on="track_id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("predicted_content").is_null())["track_id"]
    if len(missing):
        raise SchemaError(
            f"{_tracks(len(missing), split)} no prediction: {_named(missing)}",
            "run `mgc tag` over this catalogue to its end, then evaluate",
        )
    stale = joined.filter(pl.col("predicted_content") != pl.col("content_id"))["track_id"]
    if len(stale):
        raise SchemaError(
            f"{_tracks(len(stale), split)} changed since it was tagged: {_named(stale)}",
            "run `mgc tag` again: it redoes just these",
        )
    return joined


def _tracks(count: int, split: str) -> str:
    return f"{count:,} track{'' if count == 1 else 's'} of split '{split}' {'has' if count == 1 else 'have'}"


def _named(track_ids: pl.Series) -> str:
    shown = ", ".join(track_ids.head(NAMED_AT_MOST))
    return shown + (", …" if len(track_ids) > NAMED_AT_MOST else "")


def _probabilities(rows: pl.DataFrame, column: str, names: Sequence[str]) -> Float64Array:
    """Return a map column name → probability as a matrix, shape (n_rows, n_names).

    A Parquet map is a Map for polars 2 and a list of {key, value} for polars 1; Arrow knows both as keys and
    values laid end to end.
    """
    matrix = np.full((rows.height, len(names)), np.nan)
    maps = rows[column].to_arrow()
    if not rows.height or not names:
        return matrix
    sizes, keys, values = _laid_end_to_end(maps)
    places = pc.index_in(keys, value_set=pa.array(names, keys.type)).fill_null(-1).to_numpy(zero_copy_only=False)
    where = np.repeat(np.arange(rows.height), sizes)
    known = places >= 0
    matrix[where[known], places[known]] = values[known]
    lacking = np.isnan(matrix).any(axis=0)
    if lacking.any():
        absent = ", ".join(f"'{names[place]}'" for place in np.flatnonzero(lacking)[:NAMED_AT_MOST])
        raise SchemaError(
            f"the predictions lack {column} of {absent}",
            "evaluate with the bundle that made them, or tag anew with this one",
        )
    return matrix


def _laid_end_to_end(maps: Any) -> tuple[IntArray, Any, Float64Array]:
    """Return how many entries each row has, and all keys and all values one after the other."""
    if pa.types.is_map(maps.type):
        entries = pa.StructArray.from_arrays([maps.keys, maps.items], ["key", "value"])
        offsets = maps.offsets
        entries = entries.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())
        sizes = np.diff(offsets.to_numpy())
    else:
        entries = maps.flatten()
        sizes = pc.list_value_length(maps).fill_null(0).to_numpy(zero_copy_only=False)
    keys, values = entries.field("key"), entries.field("value")
    return sizes.astype(np.int64), keys, values.to_numpy(zero_copy_only=False).astype(np.float64)
