"""Predictions as readers open them: the files of `current` at one version, or one `.parquet` file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.errors import SchemaError
from mgc.storage.objects import ObjectNotFoundError
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of, named_if_damaged
from mgc.tables.publish import CURRENT, open_current
from mgc.tables.schema import CURRENT_PREDICTIONS, require_kind

BATCH_ROWS = 32_768
"""Of predictions that are read; with embedding and probabilities some hundred megabytes at the most."""


@dataclass(frozen=True)
class PredictionFiles:
    """The Parquet files in which predictions are to be read.

    Parameters
    ----------
    store
        What holds them.
    keys
        In the order of the track ids.
    mark
        Changes when any of them does.
    """

    store: Store
    keys: list[str]
    mark: str


def prediction_files(uri: str) -> PredictionFiles:
    """Return where the current predictions of an output directory are, or those of one `.parquet` file.

    Raises
    ------
    SchemaError
        There are none.
    """
    current = None
    if uri.endswith(".parquet"):
        store, key = Store.open(uri.rpartition("/")[0] or "."), uri.rpartition("/")[2]
        found = [store.stat(key)] if store.exists(key) else []
    else:
        store, key = Store.open(uri), CURRENT
        current = open_current(store)
        found = [] if current else [*store.list(f"{CURRENT}/part-")]  # an older mgc wrote it
    if not found and current is None:
        raise SchemaError(f"no predictions at '{store.uri(key)}'", "run `mgc tag` first, or check the path")
    # Of a file of the table the name is enough: it never comes to be other bytes.
    marks = dict.fromkeys(sorted(current.files), "") if current else {one.key: one.content_id for one in found}
    digest = hashlib.blake2b(json.dumps([*marks.items()]).encode(), digest_size=16).hexdigest()
    return PredictionFiles(store, [*marks], digest)


def read_predictions(
    uri: str, columns: Sequence[str] | None = None, track_ids: pl.Series | None = None
) -> pl.DataFrame:
    """Return the current predictions of an output directory, or those in one `.parquet` file.

    Parameters
    ----------
    columns
        Columns to read, those that are not there left out; None: all.
    track_ids
        Of the tracks wanted, `track_id` among the columns; None: all. One batch of the others is held at a time.

    Raises
    ------
    SchemaError
        There are none, or a file is no predictions table of this version.
    """
    batches = prediction_batches(uri, columns)
    if track_ids is None:
        return pl.concat(batches, how="diagonal")
    wanted = track_ids.unique().implode()
    return pl.concat((rows.filter(pl.col("track_id").is_in(wanted)) for rows in batches), how="diagonal")


def prediction_batches(uri: str, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """Yield what `read_predictions` returns in frames of bounded size, one at least; `current` by track ids.

    Raises
    ------
    SchemaError
        As `read_predictions`.
    """
    files = prediction_files(uri)
    if not files.keys:  # every track was deleted
        names = [name for name in columns or CURRENT_PREDICTIONS.names if name in CURRENT_PREDICTIONS.names]
        yield frame_of(CURRENT_PREDICTIONS.empty_table().select(names))
    for key in files.keys:
        yield from _read_file(files.store, key, columns)


def _read_file(store: Store, key: str, columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
    try:
        opened = store.open_input(key)
    except ObjectNotFoundError as error:
        raise SchemaError(
            f"'{store.uri(key)}' was deleted", "run `mgc tag`: it is made anew, and nothing is tagged again for it"
        ) from error
    with named_if_damaged(store.uri(key)), opened as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, "predictions", store.uri(key))
        there = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        if not file.metadata.num_rows:
            yield frame_of(file.read(columns=there))
        for batch in file.iter_batches(BATCH_ROWS, columns=there):
            yield frame_of(pa.Table.from_batches([batch]))
