"""Rows put down once more, changed: for a new content, as deleted, or as live again. History keeps the old ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import polars as pl
import pyarrow as pa

from mgc.tables.frames import frame_of
from mgc.tables.parquet_batches import in_batches, parquet_bytes
from mgc.tables.predictions import current_rows
from mgc.tables.retry import RETRY_COLUMNS
from mgc.tables.run_index import ITEM, empty_index, index_rows
from mgc.tables.run_log import OutputDirectory, OutputRun
from mgc.tables.schema import marked


def copy_rows(
    output: OutputDirectory, run: OutputRun, rows: pl.DataFrame, change: Callable[[pa.Table], pa.Table], name: str
) -> pl.DataFrame:
    """Write predictions of other runs as rows of `run`, and return their index.

    Parameters
    ----------
    rows
        Schema INDEX: which rows, and where they are.
    change
        What becomes of a table of them; the run's name and number are filled in.
    name
        Begins the files' names. Not those of chunks: what a killed run copied is not taken up, but copied anew.
    """
    indices = [empty_index()]
    for number, ((fingerprint,), some) in enumerate(rows.group_by(["fingerprint"], maintain_order=True)):
        schema = marked(output.kind, fingerprint=str(fingerprint))
        for chunk, table in enumerate(in_batches(current_rows(output, some))):
            made = _of_run(change(table), run).cast(schema)
            key = f"{run.folder}/{name}-{number:03d}-{chunk:06d}.parquet"
            output.store.write_atomic(key, parquet_bytes(made))
            indices.append(frame_of(index_rows(made, key, run.sequence, str(fingerprint))))
    columns = [column for column in RETRY_COLUMNS if column != "deleted"]
    kept = rows.select(*ITEM, *columns)
    index = pl.concat(indices).drop(columns).join(kept, on=ITEM, how="left", maintain_order="left")
    return index.select(indices[0].columns)


def deleted_at(moment: datetime | None) -> Callable[[pa.Table], pa.Table]:
    """Return a change that marks rows as deleted at a moment; None: as live."""
    value = pa.scalar(moment, pa.timestamp("us", tz="UTC"))
    return lambda table: _set(table, "deleted_at", pa.repeat(value, table.num_rows))


def _of_run(table: pa.Table, run: OutputRun) -> pa.Table:
    table = _set(table, "run_id", pa.repeat(run.run_id, table.num_rows))
    return _set(table, "sequence", pa.repeat(run.sequence, table.num_rows))


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)
