"""Predictions beside the truth of the catalogue: two tables become `Answers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mgc.arrays import Float64Array, IntArray
from mgc.errors import SchemaError, SplitError
from mgc.evaluation.answers import Failure, LabelledPredictions, genre_indices, names_outside, tag_vectors

NAMED_AT_MOST = 3


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
        Which tracks are asked about.
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
            "give the output directory of `mgc tag`, or one of its files in current/, not its history",
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
