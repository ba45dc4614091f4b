"""The table of tracks on a tagging page: which rows it holds, the first of them as HTML, all of them packed.

Packed for the page's script: columns instead of rows, names once, gzip, base64. A hundred thousand tracks come to a
few megabytes so; as HTML they would be a hundred.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mgc.reports.page import count
from mgc.reports.track_map import TrackMap

GENRES_A_TRACK = 5
TAGS_A_TRACK = 10
PLACES = 4_000
"""Steps of the map, across and down."""

TAGGED, ABSTAINED, FAILED = range(3)
"""States of a track: tagged; tagged, but the ensemble abstained from a sure genre; failed."""

PACKED = [
    "track_id",
    "uri",
    "duration_seconds",
    "genre_probabilities",
    "tags",
    "tag_probabilities",
    "abstained",
    "error_code",
    "error_message",
    "run_id",
]
"""Columns of the predictions that are packed."""

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
    predictions: Iterable[pl.DataFrame],
    at_most: int = MAX_LISTED_ROWS,
    failed_at_most: int = MAX_LISTED_FAILURES,
) -> ListedTracks:
    """Return at most 100,000 tracks.

    Track ids are hashes, so that the first ones in their order are a random sample, the same each time.

    Parameters
    ----------
    predictions
        Batches of them, columns track_id and error_code.
    """
    held = [pl.Series("track_id", [], pl.String)] * 2
    counts = [0, 0]
    for rows in predictions:
        failed = rows["error_code"].is_not_null()
        for number, some in enumerate((rows.filter(failed), rows.filter(~failed))):
            counts[number] += some.height
            held[number] = pl.concat([held[number], some["track_id"]]).sort().head(at_most)
    (failed_ids, tagged_ids), (all_failed, all_tagged) = held, counts
    if sum(counts) <= at_most:
        return ListedTracks(pl.concat(held), "")
    n_failed = min(all_failed, max(failed_at_most, at_most - all_tagged))
    n_tagged = min(all_tagged, at_most - n_failed)
    parts = [f"{count(n_tagged)} of {count(all_tagged)} tagged tracks, drawn at random"]
    if all_failed:
        parts.append(f"{count(n_failed)} of {count(all_failed)} failed ones")
    return ListedTracks(pl.concat([failed_ids.head(n_failed), tagged_ids.head(n_tagged)]), " and ".join(parts))


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


@dataclass(frozen=True)
class TopLabels:
    """What a track's row says of it, the likeliest first.

    Parameters
    ----------
    genres
        (name, probability) of the five most probable.
    tags
        (name, probability) of those listed, ten at most.
    tags_left_out
        How many more there are.
    """

    genres: list[tuple[str, float]]
    tags: list[tuple[str, float]]
    tags_left_out: int = 0


def top_labels(rows: pl.DataFrame) -> list[TopLabels]:
    """Return what rows (columns `PACKED`) say, in their order."""
    columns = rows.select("genre_probabilities", "tags", "tag_probabilities")
    return [_top_labels(*row) for row in columns.iter_rows()]


def pack_tracks(rows: pl.DataFrame, run_ids: Iterable[str], layout: TrackMap | None = None) -> str:
    """Return the tracks as base64 of gzip of JSON.

    Parameters
    ----------
    rows
        Columns `PACKED`, in the order of their URIs.
    run_ids
        Runs whose tracks count as done in this run.
    layout
        Places on the map; of tracks that are not among the rows nothing is packed.
    """
    text = json.dumps(_columns(rows, set(run_ids), layout), ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), compresslevel=6, mtime=0)).decode()


def _columns(rows: pl.DataFrame, run_ids: set[str], layout: TrackMap | None) -> dict[str, Any]:
    names, folders = _Names(), _Names()
    tag_names = _Names()
    genres: list[int] = []
    tags: list[int] = []
    tag_counts: list[int] = []
    for answer in top_labels(rows):
        for name, probability in answer.genres:
            genres += (names.number(name), _permille(probability))
        genres += (-1, 0) * (GENRES_A_TRACK - len(answer.genres))
        for name, probability in answer.tags:
            tags += (tag_names.number(name), _permille(probability))
        tag_counts.append(len(answer.tags))
    parts = [uri.rpartition("/") for uri in rows["uri"]]
    return {
        "genresATrack": GENRES_A_TRACK,
        "folder": [folders.number(folder + slash) for folder, slash, _ in parts],
        "name": [name for _, _, name in parts],
        "seconds": rows["duration_seconds"].round(1).to_list(),
        "state": _states(rows),
        "now": rows["run_id"].is_in(sorted(run_ids)).cast(pl.Int8).to_list(),
        "genres": genres,
        "tags": tags,
        "tagCounts": tag_counts,
        "folders": folders.names,
        "genreNames": names.names,
        "tagNames": tag_names.names,
        "failures": _failures(rows),
        "map": _places(rows, layout),
    }


class _Names:
    """Names, each once, and their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def names(self) -> list[str]:
        return list(self._numbers)


def _states(rows: pl.DataFrame) -> list[int]:
    state = (
        pl.when(pl.col("error_code").is_not_null())
        .then(FAILED)
        .when(pl.col("abstained").fill_null(False))
        .then(ABSTAINED)
        .otherwise(TAGGED)
    )
    return rows.select(state.alias("state"))["state"].to_list()


def _failures(rows: pl.DataFrame) -> list[list[Any]]:
    failed = rows.with_row_index("row").filter(pl.col("error_code").is_not_null())
    return [
        list(row) for row in failed.select("row", "error_code", pl.col("error_message").fill_null("")).iter_rows()
    ]


def _places(rows: pl.DataFrame, layout: TrackMap | None) -> dict[str, list[int]] | None:
    if layout is None:
        return None
    places = pl.DataFrame({"track_id": layout.track_ids, "x": layout.x, "y": layout.y})
    placed = rows.select("track_id").with_row_index("row").join(places, on="track_id").sort("row")
    across = {name: np.rint(placed[name].to_numpy() * PLACES).astype(int).tolist() for name in ("x", "y")}
    return {"row": placed["row"].to_list(), **across}


def _top_labels(genre_probabilities: object, tags: list[str] | None, tag_probabilities: object) -> TopLabels:
    genres = sorted(pairs(genre_probabilities), key=lambda pair: -pair[1])[:GENRES_A_TRACK]
    sure = dict(pairs(tag_probabilities)) if tags else {}
    listed = sorted(((tag, sure.get(tag, 0.0)) for tag in tags or []), key=lambda pair: -pair[1])
    return TopLabels(genres, listed[:TAGS_A_TRACK], max(0, len(listed) - TAGS_A_TRACK))


def pairs(probabilities: object) -> list[tuple[str, float]]:
    """Return the entries of a map column's value: a dict in polars 2, a list of {key, value} in polars 1."""
    if isinstance(probabilities, Mapping):
        return list(probabilities.items())
    if isinstance(probabilities, Iterable):
        return [(entry["key"], entry["value"]) for entry in probabilities]
    return []


def _permille(probability: float) -> int:
    return round(1_000 * probability)
