"""Which tracks the table of a tagging page holds, and what its first rows say without a script."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mgc.reports.page import count
from mgc.reports.tagging_table import top_labels

MAX_LISTED_ROWS = 100_000
MAX_LISTED_FAILURES = 20_000
"""Of the rows held, failed ones come first, up to so many where there are more rows than fit."""

ROWS_WRITTEN = 25
"""Rows that are there without a script."""

GENRES_A_ROW = 3
TAGS_A_ROW = 8


@dataclass(frozen=True)
class ListedTracks:
    """The ids of the tracks that the table holds, and what part of all they are, in words; empty: all."""

    track_ids: pl.Series
    sampled: str


@dataclass(frozen=True)
class TrackLine:
    """One row of the table.

    Parameters
    ----------
    genres
        (name, probability) of the most probable, the chosen one first.
    tags
        (name, probability) of those at or above the threshold, the surest first.
    tags_left_out
        How many more there are.
    """

    uri: str
    duration_seconds: float | None
    genres: list[tuple[str, float]]
    tags: list[tuple[str, float]]
    tags_left_out: int
    error_code: str | None
    error_message: str


def select_listed_tracks(
    predictions: pl.DataFrame, at_most: int = MAX_LISTED_ROWS, failed_at_most: int = MAX_LISTED_FAILURES
) -> ListedTracks:
    """Return at most 100,000 tracks.

    Track ids are hashes, so that the first ones in their order are a random sample, the same each time.

    Parameters
    ----------
    predictions
        Columns track_id and error_code.
    """
    if predictions.height <= at_most:
        return ListedTracks(predictions["track_id"], "")
    failed = predictions.filter(pl.col("error_code").is_not_null())["track_id"].sort()
    tagged = predictions.filter(pl.col("error_code").is_null())["track_id"].sort()
    n_failed = min(len(failed), max(failed_at_most, at_most - len(tagged)))
    n_tagged = min(len(tagged), at_most - n_failed)
    parts = [f"{count(n_tagged)} of {count(len(tagged))} tagged tracks, drawn at random"]
    if len(failed):
        parts.append(f"{count(n_failed)} of {count(len(failed))} failed ones")
    return ListedTracks(pl.concat([failed.head(n_failed), tagged.head(n_tagged)]), " and ".join(parts))


def track_lines(rows: pl.DataFrame) -> list[TrackLine]:
    """Return the first rows of the table, of rows in the order of their URIs."""
    first = rows.head(ROWS_WRITTEN)
    named = first.select("uri", "duration_seconds", "error_code", "error_message").iter_rows()
    return [
        TrackLine(
            uri=uri,
            duration_seconds=seconds,
            genres=answer.genres[:GENRES_A_ROW],
            tags=answer.tags[:TAGS_A_ROW],
            tags_left_out=answer.tags_left_out + max(0, len(answer.tags) - TAGS_A_ROW),
            error_code=code,
            error_message=message or "",
        )
        for (uri, seconds, code, message), answer in zip(named, top_labels(first), strict=True)
    ]
