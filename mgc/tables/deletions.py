"""Rows written once more with one column changed; history keeps the old ones.

`deleted_at` where a track left the catalogue or was restored, `content_id` where its file was rewritten and sounds as
it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.errors import SchemaError
from mgc.storage.store import Store, split_uri
from mgc.tables.parquet_batches import frame_of, in_batches, named_if_damaged, parquet_bytes
from mgc.tables.publish import publish
from mgc.tables.retry import RETRY_COLUMNS
from mgc.tables.run_index import (
    INDEX,
    ITEM,
    current_rows,
    empty_index,
    index_rows,
    newest_index,
    run_part_refs,
    with_last_answers,
    write_index,
)
from mgc.tables.run_log import Commit, OutputDirectory, OutputRun
from mgc.tables.schema import CATALOGUE, marked, require_kind
from mgc.tables.slices import SLICE_TRACKS


def copy_rows(
    output: OutputDirectory, run: OutputRun, rows: pl.DataFrame, change: Callable[[pa.Table], pa.Table], name: str
) -> pl.DataFrame:
    """Write predictions of other runs once more as rows of `run`, and return their index.

    Parameters
    ----------
    rows
        Schema INDEX: which rows, and where they are.
    change
        What becomes of a table of them; the run's name and number are filled in.
    name
        Begins the files' names. Not those of chunks: what a killed run copied is not resumed, but copied anew.
    """
    indices = [empty_index()]
    for number, ((fingerprint,), some) in enumerate(rows.group_by(["fingerprint"], maintain_order=True)):
        schema = marked(output.kind, fingerprint=str(fingerprint))
        for chunk, table in enumerate(in_batches(current_rows(output, some))):
            own = _set(_set(change(table), "run_id", run.run_id), "sequence", run.sequence)
            made = own.cast(schema)
            key = f"{run.folder}/{name}-{number:03d}-{chunk:06d}.parquet"
            output.store.write_atomic(key, parquet_bytes(made))
            indices.append(frame_of(index_rows(made, key, run.sequence, str(fingerprint))))
    columns = [column for column in RETRY_COLUMNS if column != "deleted"]
    kept = rows.select(*ITEM, *columns)
    index = pl.concat(indices).drop(columns).join(kept, on=ITEM, how="left", maintain_order="left")
    if index.height != rows.height:
        raise SchemaError(
            f"'{output.store.uri()}': {rows.height:,} rows were to be written once more, {index.height:,} were found",
            "nothing was committed; a file below history/ or runs/ is gone: restore it",
        )
    return index.select(indices[0].columns)


def _set(table: pa.Table, name: str, value: object) -> pa.Table:
    """Return a table with one value in all rows of a column, or the values of an array."""
    field = table.schema.field(name)
    values = value if isinstance(value, pa.Array) else pa.repeat(pa.scalar(value, field.type), table.num_rows)
    return table.set_column(table.schema.get_field_index(name), field, values)


@dataclass(frozen=True)
class DeletionRule:
    """When tracks that are no longer in the catalogue are marked deleted.

    Parameters
    ----------
    ask_fraction
        Share of the tracks from which on `confirm` decides: a folder that was not mounted looks the same.
    accepted
        The user accepted it beforehand.
    confirm
        Called with the number of tracks that are missing and of all; a job that nobody watches says no.
    """

    ask_fraction: float
    accepted: bool = False
    confirm: Callable[[int, int], bool] = lambda removed, live: False

    def allows(self, removed: int, live: int) -> bool:
        """Return whether so many missing tracks, of all that are live, are to be marked."""
        if not removed or self.accepted or removed < self.ask_fraction * live:
            return True
        return self.confirm(removed, live)


@dataclass(frozen=True)
class DeletionMarks:
    """What is to be marked: index rows of tracks to be deleted, and of those to be restored."""

    removed: pl.DataFrame
    restored: pl.DataFrame


def write_marks(output: OutputDirectory, run: OutputRun, marks: DeletionMarks) -> pl.DataFrame:
    """Write the marks as rows of a run, and return their index."""
    now = datetime.now(UTC)
    removed = copy_rows(output, run, marks.removed, lambda table: _set(table, "deleted_at", now), "deleted")
    restored = copy_rows(output, run, marks.restored, lambda table: _set(table, "deleted_at", None), "restored")
    return pl.concat([removed, restored])


CONTENT_ID_REWRITE = "content_id_rewrite"
"""In place of a fingerprint: rows of any bundle are written again."""


def rewrite_prediction_content_ids(output_uri: str, content_ids: Mapping[str, str]) -> int:
    """Write the newest row of each track once more under a new content id, and publish them; return how many.

    Writing tags into a file changes its size and time, hence its `content_id`: without this the next run would tag it
    anew. With it the anti-join of `mgc.tables.diff` finds the rows current.

    Parameters
    ----------
    output_uri
        Output directory of `mgc tag`.
    content_ids
        Track id → the content id that its row now holds for.
    """
    output = OutputDirectory(Store.open(output_uri), "predictions")
    newest = newest_index(output).filter(pl.col("track_id").is_in(list(content_ids)))
    deleted = pl.col("deleted").fill_null(False)
    # An answer behind a failure holds for the new content id too: it is what is written again.
    live, dead = with_last_answers(output, newest.filter(~deleted)).select(INDEX.names), newest.filter(deleted)
    if not newest.is_empty():
        run = output.start_run(CONTENT_ID_REWRITE, {"rewritten": newest.height})

        def rewritten(table: pa.Table) -> pa.Table:
            return _with_content_ids(table, content_ids)

        shown = copy_rows(output, run, live, lambda table: _set(rewritten(table), "deleted_at", None), "rewritten")
        index = pl.concat([shown, copy_rows(output, run, dead, rewritten, "rewritten-deleted")])
        index_key = f"{run.folder}/index.parquet"
        write_index(output, index_key, index)
        facts = {**run.facts, "rows": index.height, "failed": int(index["error_code"].is_not_null().sum())}
        output.commit(Commit(run.run_id, run.sequence, index_key, run_part_refs(run, index), facts))
    publish(output)
    return newest.height


def rewrite_catalogue_content_ids(
    path: str, content_ids: Mapping[str, str], sizes: Mapping[str, int]
) -> pl.DataFrame:
    """Give tracks of a catalogue new content ids and sizes, and return it."""
    root, key = split_uri(path)
    with named_if_damaged(path), Store(root).open_input(key) as source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        require_kind(schema, "catalogue", path)
        frame = frame_of(file.read(columns=CATALOGUE.names))
    new = pl.col("track_id").replace_strict
    frame = frame.with_columns(
        content_id=new(dict(content_ids), default=pl.col("content_id"), return_dtype=pl.String),
        size_bytes=new(dict(sizes), default=pl.col("size_bytes"), return_dtype=pl.Int64),
    )
    # The metadata name the root and the draw of the splits.
    table = frame.to_arrow().cast(CATALOGUE.with_metadata(schema.metadata))
    Store(root).write_atomic(key, parquet_bytes(table, rows_a_group=SLICE_TRACKS))
    return frame


def _with_content_ids(table: pa.Table, content_ids: Mapping[str, str]) -> pa.Table:
    ids = pa.array([content_ids[track] for track in table["track_id"].to_pylist()], pa.string())
    return _set(table, "content_id", ids)
