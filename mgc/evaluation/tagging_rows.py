"""Which tracks the table of a tagging page shows, and what of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from mgc.evaluation.page import count

ROWS_SHOWN = 2_000
FAILED_SHOWN = 500
"""Of the rows shown, failed ones come first, up to so many where there are more rows than fit."""

GENRES_A_ROW = 3
TAGS_A_ROW = 8


@dataclass(frozen=True)
class ShownTracks:
    """The rows of the table, and what part of all they are, in words; empty: all."""

    rows: pl.DataFrame
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
    tags: list[tuple[str, float | None]]
    tags_left_out: int
    error_code: str | None
    error_message: str


def shown_tracks(predictions: pl.DataFrame) -> ShownTracks:
    """Return at most 2,000 rows, in the order of their URIs.

    Track ids are hashes, so that the first ones in their order are a random sample, the same each time.
    """
    if predictions.height <= ROWS_SHOWN:
        return ShownTracks(predictions.sort("uri"), "")
    failed = predictions.filter(pl.col("error_code").is_not_null()).sort("track_id")
    tagged = predictions.filter(pl.col("error_code").is_null()).sort("track_id")
    n_failed = min(failed.height, max(FAILED_SHOWN, ROWS_SHOWN - tagged.height))
    n_tagged = min(tagged.height, ROWS_SHOWN - n_failed)
    parts = [f"{count(n_tagged)} of {count(tagged.height)} tagged tracks, drawn at random"]
    if failed.height:
        parts.append(f"{count(n_failed)} of {count(failed.height)} failed ones")
    rows = pl.concat([failed.head(n_failed), tagged.head(n_tagged)])
    return ShownTracks(rows.sort("uri"), " and ".join(parts))


def track_lines(rows: pl.DataFrame) -> list[TrackLine]:
    """Return the rows of the table."""
    names = ["uri", "duration_seconds", "genre_probabilities", "tags", "tag_probabilities"]
    return [_track_line(*row) for row in rows.select(*names, "error_code", "error_message").iter_rows(named=False)]


def _track_line(
    uri: str,
    duration_seconds: float | None,
    genre_probabilities: object,
    tags: list[str] | None,
    tag_probabilities: object,
    error_code: str | None,
    error_message: str | None,
) -> TrackLine:
    genres = sorted(_pairs(genre_probabilities), key=lambda pair: -pair[1])[:GENRES_A_ROW]
    sure = dict(_pairs(tag_probabilities))
    listed = sorted(((tag, sure.get(tag)) for tag in tags or []), key=lambda pair: -(pair[1] or 0.0))
    return TrackLine(
        uri=uri,
        duration_seconds=duration_seconds,
        genres=genres,
        tags=listed[:TAGS_A_ROW],
        tags_left_out=max(0, len(listed) - TAGS_A_ROW),
        error_code=error_code,
        error_message=error_message or "",
    )


def _pairs(probabilities: object) -> list[tuple[str, float]]:
    """Return the entries of a map column's value: a dict in polars 2, a list of {key, value} in polars 1."""
    if isinstance(probabilities, Mapping):
        return list(probabilities.items())
    if isinstance(probabilities, Iterable):
        return [(entry["key"], entry["value"]) for entry in probabilities]
    return []
