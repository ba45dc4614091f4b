"""Features for other programs: a table of statistics, a row a track, and MFCC of segments as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from mgc.audio.features.feature_rows import statistics_names
from mgc.config import FeatureConfig
from mgc.errors import ConfigError
from mgc.storage.store import Store, split_uri
from mgc.tables.csv_cells import csv_of_frame
from mgc.tables.feature_shards import STATISTICS, frames_from, shard_facts
from mgc.tables.parquet_batches import frame_of
from mgc.tables.run_index import current_index, current_rows
from mgc.tables.run_log import OutputDirectory

SHAPE = ("content_id", "n_windows", "n_frames", "duration_seconds", "error_code")
JSON_DECIMALS = 4
FACTS: dict[str, Any] = {"track_id": pl.String, "duration_seconds": pl.Float64, "error_code": pl.String}
"""Columns beside a track's statistics."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    tracks
        With features.
    values
        Statistics a track, or coefficients a frame.
    segments
        Of the JSON; 0 for a table.
    without_features
        Tracks of the catalogue that failed or were not extracted with the shards' newest settings.
    """

    tracks: int
    values: int
    segments: int
    without_features: int


def export_statistics(features_uri: str, catalogue: pl.DataFrame, output_uri: str) -> Exported:
    """Write the mean and variance of each feature of each track, with labels from the catalogue (Cao 2024).

    Parameters
    ----------
    features_uri
        Shards with `features.statistics`.
    catalogue
        Tracks and labels; every one has a row, with nulls where there are no features.
    output_uri
        A `.csv` (tags joined with `|`) or `.parquet`.

    Raises
    ------
    ConfigError
        The shards hold no statistics, or the output's suffix is another.
    """
    values = read_statistics(features_uri, catalogue)
    labels = catalogue.select("track_id", "uri", "genre", "tags", "group", "split")
    table = labels.join(values, on="track_id", how="left").sort("track_id")
    _write(output_uri, _as_file(table, output_uri))
    without = table[values.columns[-1]].null_count()
    return Exported(table.height - without, values.width - len(FACTS), 0, without)


def read_statistics(features_uri: str, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return `FACTS` and the statistics, a column each, of the catalogue's tracks in the shards.

    Raises
    ------
    ConfigError
        The shards hold no statistics.
    """
    names = statistics_names(shard_facts(features_uri).features)
    if not names:
        raise ConfigError(
            f"the shards in '{features_uri}' hold no statistics",
            "extract with --set features.statistics=cao2024, or other features or sets of docs/features.md",
        )
    values = [pl.col(STATISTICS).list.get(place, null_on_oob=True).alias(name) for place, name in enumerate(names)]
    found = [frame_of(table).select(*FACTS, *values) for table in _tables(features_uri, catalogue, STATISTICS)]
    return pl.concat([pl.DataFrame(schema=FACTS | dict.fromkeys(names, pl.Float32)), *found])


def export_segments(features_uri: str, catalogue: pl.DataFrame, output_uri: str, n_mfcc: int = 13) -> Exported:
    """Write the MFCC of each window of each track with a genre as JSON (Jain et al. 2021).

    Keys: `mapping`, the genres; `labels`, for each segment the place of its genre in them; `mfcc`, for each segment
    its frames of `n_mfcc` values. And `track_ids` and `splits`, one a segment, so that nobody has to put segments of
    one track on both sides of a split.

    Parameters
    ----------
    features_uri
        Shards that keep `mfcc` frame by frame; each of their windows is a segment.
    output_uri
        A `.json`; made in memory, some 20 KB a segment of 3 s.

    Raises
    ------
    ConfigError
        The shards hold no MFCC, or fewer coefficients.
    """
    config = shard_facts(features_uri).features
    _check_has_mfcc(config, features_uri, n_mfcc)
    genres = sorted(catalogue["genre"].drop_nulls().unique())
    labels = {row["track_id"]: row for row in catalogue.select("track_id", "genre", "split").iter_rows(named=True)}
    tracks: list[tuple[str, list[str]]] = []
    tables = _tables(features_uri, catalogue.filter(pl.col("genre").is_not_null()), "mfcc")
    for row in (row for table in tables for row in table.to_pylist()):
        if row["error_code"] is None:
            windows = frames_from(row, "mfcc")[..., :n_mfcc].astype(float).round(JSON_DECIMALS)
            tracks.append((row["track_id"], [json.dumps(window.tolist()) for window in windows]))
    tracks.sort()
    ids = [track_id for track_id, segments in tracks for _ in segments]
    head = {
        "mapping": genres,
        "labels": [genres.index(labels[track_id]["genre"]) for track_id in ids],
        "track_ids": ids,
        "splits": [labels[track_id]["split"] for track_id in ids],
    }
    mfcc = ",\n".join(segment for _, segments in tracks for segment in segments)
    _write(output_uri, f'{json.dumps(head)[:-1]}, "mfcc": [\n{mfcc}\n]}}\n'.encode())
    return Exported(len(tracks), n_mfcc, len(ids), catalogue.height - len(tracks))


def _check_has_mfcc(config: FeatureConfig, features_uri: str, n_mfcc: int) -> None:
    if "mfcc" in config.frames and config.n_mfcc >= n_mfcc:
        return
    what = f"only {config.n_mfcc} MFCC" if "mfcc" in config.frames else "no MFCC"
    raise ConfigError(
        f"the shards in '{features_uri}' keep {what} of each frame",
        f"extract with --set features.frames=jain2021 --set features.n_mfcc={n_mfcc} "
        "--set features.window_seconds=3 --set features.max_windows=10",
    )


def _tables(features_uri: str, catalogue: pl.DataFrame, column: str) -> Iterator[pa.Table]:
    """Return the rows of the catalogue's tracks, of its content and of the newest settings, a part at a time."""
    fingerprint = shard_facts(features_uri).fingerprint
    output = OutputDirectory(Store.open(features_uri), "features")
    where = current_index(output, catalogue).filter(pl.col("fingerprint") == fingerprint)
    where = where.join(catalogue.select("track_id", "content_id"), on=["track_id", "content_id"], how="semi")
    return current_rows(output, where, (*SHAPE, column))


def _as_file(table: pl.DataFrame, uri: str) -> bytes:
    if uri.endswith(".csv"):
        return csv_of_frame(table.with_columns(pl.col("tags").list.join("|")))
    if not uri.endswith(".parquet"):
        raise ConfigError(f"'{uri}' is neither .csv nor .parquet", "the suffix decides what is written")
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _write(uri: str, data: bytes) -> None:
    parts = split_uri(uri)
    Store.open(parts.root).write_atomic(parts.key, data)
