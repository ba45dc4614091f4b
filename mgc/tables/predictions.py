"""The current rows: the newest of each wanted item, out of all the parts that commits show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.config.view_settings import CLEAN
from mgc.errors import SchemaError
from mgc.storage.store import Store
from mgc.tables.parquet_batches import frame_of, named_if_damaged, prefetched
from mgc.tables.run_index import ITEM, newest_index
from mgc.tables.run_log import OutputDirectory
from mgc.tables.schema import require_kind

CURRENT = "current"
"""Folder of the predictions that count (`mgc.tables.publish` writes it)."""


def current_rows(
    output: OutputDirectory, wanted: pl.DataFrame, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the newest visible row of each wanted item, a part at a time.

    Parameters
    ----------
    wanted
        Rows of `newest_index(output)`: which items, and in which part.
    columns
        Columns to read, besides those that name the item; None: all.

    Raises
    ------
    SchemaError
        A part is damaged, or of another kind or version.
    """
    by_part = wanted.sort("part").group_by(["part"], maintain_order=True)
    return prefetched(lambda each: _rows_of(output, str(each[0][0]), each[1], columns), by_part)


def _rows_of(output: OutputDirectory, part: str, rows: pl.DataFrame, columns: Sequence[str] | None) -> pa.Table:
    """Return those of the rows wanted that a part has."""
    table = _read_part(output, part, columns)
    by = [name for name in ITEM if name in table.column_names]
    keep = rows.select(by).with_columns(pl.lit(True).alias("keep"))
    found = frame_of(table.select(by)).join(keep, on=by, how="left", maintain_order="left")
    return table.filter(pa.array(found["keep"].fill_null(False).to_list(), pa.bool_()))


def _read_part(output: OutputDirectory, part: str, columns: Sequence[str] | None) -> pa.Table:
    with named_if_damaged(output.store.uri(part)), output.store.open_input(part) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, output.kind, output.store.uri(part))
        by = [name for name in ITEM if name in file.schema_arrow.names]
        return file.read(columns=sorted({*columns, *by}) if columns else None)


def current_index(output: OutputDirectory, items: pl.DataFrame) -> pl.DataFrame:
    """Return where the newest row of each item is; items without a row are left out.

    Parameters
    ----------
    items
        With columns `track_id` and `view`; where there is no `view`, as in a catalogue, the clean one is meant.
    """
    wanted = items if "view" in items.columns else items.with_columns(view=pl.lit(CLEAN))
    return newest_index(output).join(wanted.select(ITEM), on=ITEM, how="semi")


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
    if uri.endswith(".parquet"):
        store, key = Store.open(uri.rpartition("/")[0] or "."), uri.rpartition("/")[2]
        found = [store.stat(key)] if store.exists(key) else []
    else:
        store, key = Store.open(uri), CURRENT
        found = [item for item in store.list(f"{CURRENT}/") if item.key.endswith(".parquet")]
    if not found:
        raise SchemaError(f"no predictions at '{store.uri(key)}'", "run `mgc tag` first, or check the path")
    marks = json.dumps([(item.key, item.content_id) for item in found])
    digest = hashlib.blake2b(marks.encode(), digest_size=16).hexdigest()
    return PredictionFiles(store, [item.key for item in found], digest)


def read_predictions(
    uri: str, columns: Sequence[str] | None = None, track_ids: pl.Series | None = None
) -> pl.DataFrame:
    """Return the current predictions of an output directory, or those in one `.parquet` file.

    Parameters
    ----------
    columns
        Columns to read, those that are not there left out; None: all.
    track_ids
        Of the tracks wanted, `track_id` among the columns; None: all. One file is held at a time.

    Raises
    ------
    SchemaError
        There are none, or a file is no predictions table of this version.
    """
    files = prediction_files(uri)
    tables = (_read_file(files.store, key, columns) for key in files.keys)
    if track_ids is None:
        return pl.concat(tables, how="diagonal")
    wanted = track_ids.unique().implode()
    return pl.concat((table.filter(pl.col("track_id").is_in(wanted)) for table in tables), how="diagonal")


def _read_file(store: Store, key: str, columns: Sequence[str] | None) -> pl.DataFrame:
    with named_if_damaged(store.uri(key)), store.open_input(key) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, "predictions", store.uri(key))
        there = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        return frame_of(file.read(columns=there))
