"""The two data sets of predictions that readers open, made from what commits show; DuckDB and the like read both.

Below the output directory::

    current/part-<x>.parquet                            the newest row of each track that is not deleted; where it
                                                        failed, the last answer of the same content; under the
                                                        URI that the catalogue has now
    history/run_date=<day>/<sequence>-<run_id>-<n>.parquet  every row of every run, deletions included
    _published.json                                     which commits both show

`current` is cut by the first hex digit of the track id, so that a track never changes files: each file is replaced
whole, and only where something of it changed. Both are derived: the commits are the truth, and what a killed run
left undone is done by the next. One bucket's compressed rows and a few thousand others are all that is
held in memory.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mgc.errors import SchemaError
from mgc.logs import log
from mgc.tables.parquet_batches import (
    ROWS_A_GROUP,
    frame_of,
    in_batches,
    named_if_damaged,
    parquet_bytes,
    read_whole,
)
from mgc.tables.predictions import CURRENT, current_rows, read_predictions
from mgc.tables.run_index import STALE, newest_index, with_last_answers
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.schema import CURRENT_PREDICTIONS, marked

HISTORY = "history"
STATE = "_published.json"
"""Begins with an underscore: Spark, Athena and the like pass over it."""

_HEX = "0123456789abcdef"
_OTHER = "x"
"""Bucket of ids that begin with no hex digit; mgc's own all do."""

_KEY = ["track_id", "sequence"]
_NAMED = ["track_id", "uri"]


@dataclass(frozen=True)
class Published:
    """What the data sets show: the commits, and numbers that change with each bucket's rows and with any URI."""

    commits: list[str] = field(default_factory=list)
    buckets: dict[str, str] = field(default_factory=dict)
    uris: str = ""


def publish(output: OutputDirectory, uris: pl.DataFrame | None = None) -> int | None:
    """Bring `current/` and `history/` up to date; return the tracks in `current`, None where all was.

    Parameters
    ----------
    uris
        `track_id` and `uri` of the catalogue: a library that was moved keeps its answers, and readers find its files.
        None: those that `current` has.
    """
    state = read_state(output)
    commits = output.commits()
    names = [commit.run_id for commit in commits]
    mark = state.uris if uris is None else f"{uris.select(pl.struct(_NAMED).hash().sum()).item():016x}"
    if state.commits == names and state.uris == mark:
        return None
    shown = uris is None
    uris = _shown_uris(output) if uris is None else uris
    for commit in commits:
        if commit.run_id not in state.commits:
            publish_history(output, commit)
    live = with_last_answers(output, newest_index(output).filter(~pl.col("deleted").fill_null(False)))
    # Where two runs raced, a number may stand for two runs: then nothing of the old files is taken over.
    raced = len({commit.sequence for commit in commits}) < len(commits)
    live = live.join(uris, on="track_id", how="left", maintain_order="left")
    if shown and live["uri"].null_count():
        mark = ""  # a file of `current` is lost: the next run that knows the catalogue writes its places anew
    buckets = _publish_current(output, live, {} if raced else state.buckets)
    write_state(output, Published(names, buckets, mark))
    return live.height


def _shown_uris(output: OutputDirectory) -> pl.DataFrame:
    try:
        return read_predictions(output.store.uri(), _NAMED)
    except SchemaError:  # nothing is published yet, or a file is damaged: the rows have URIs of their own
        return pl.DataFrame(schema=dict.fromkeys(_NAMED, pl.String))


def read_state(output: OutputDirectory) -> Published:
    """Return what is published."""
    if not output.store.exists(STATE):
        return Published()
    try:
        return Published(**json.loads(output.store.read_bytes(STATE)))
    except (ValueError, TypeError):
        log.warning("'%s' is damaged: all that readers open is written anew", output.store.uri(STATE))
        return Published()


def write_state(output: OutputDirectory, state: Published) -> None:
    """Write down what is published: last, so that a killed run leaves too little in it and never too much."""
    output.store.write_atomic(STATE, json.dumps(asdict(state), sort_keys=True).encode())


def publish_history(output: OutputDirectory, commit: Commit) -> None:
    """Write a commit's rows to `history/`; the same files under the same names however often."""
    day = str(commit.facts.get("run_date", commit.run_id[:8]))  # of a compaction, its newest run's
    folder = f"{HISTORY}/run_date={day[:4]}-{day[4:6]}-{day[6:]}"
    tables = read_whole(output.store, [part.key for part in commit.parts], marked(output.kind))
    for number, table in enumerate(in_batches(tables)):
        key = f"{folder}/{commit.sequence:08d}-{commit.run_id}-{number:04d}.parquet"
        output.store.write_atomic(key, parquet_bytes(table))


def _publish_current(output: OutputDirectory, live: pl.DataFrame, known: dict[str, str]) -> dict[str, str]:
    first = pl.col("track_id").str.head(1)
    index = live.with_columns(bucket=pl.when(first.is_in(list(_HEX))).then(first).otherwise(pl.lit(_OTHER)))
    mark = pl.struct(*_KEY, *STALE, "uri").hash().sum().alias("mark")
    marks = {bucket: f"{number:016x}" for bucket, number in index.group_by("bucket").agg(mark).iter_rows()}
    there = {item.key for item in output.store.list(f"{CURRENT}/")}
    for bucket in sorted({*marks, *known}):
        key = f"{CURRENT}/part-{bucket}.parquet"
        if bucket not in marks:
            output.store.delete(key)
        elif known.get(bucket) != marks[bucket] or key not in there:
            rows = index.filter(pl.col("bucket") == bucket).drop("bucket").sort("track_id")
            _write_bucket(output, key, rows, reuse=bucket in known and key in there)
    for key in there - {f"{CURRENT}/part-{bucket}.parquet" for bucket in marks}:
        output.store.delete(key)
    return marks


def _write_bucket(output: OutputDirectory, key: str, rows: pl.DataFrame, *, reuse: bool) -> None:
    """Write one file of `current`: rows that its old one has from there, the others from the parts."""
    schema = marked(output.kind)
    shown = CURRENT_PREDICTIONS.with_metadata(schema.metadata)
    sink = pa.BufferOutputStream()
    old = _old_file(output, key) if reuse else None
    with pq.ParquetWriter(sink, shown, compression="zstd") as writer:
        for start in range(0, rows.height, ROWS_A_GROUP):
            wanted = rows.slice(start, ROWS_A_GROUP)
            kept = old.rows(wanted) if old else schema.empty_table()
            missing = wanted.join(frame_of(kept.select(_KEY)), on=_KEY, how="anti")
            fresh = [table.select(schema.names).cast(schema) for table in current_rows(output, missing)]
            table = pa.concat_tables([kept, *fresh]).sort_by("track_id")
            writer.write_table(_as_shown(table, wanted).cast(shown), row_group_size=ROWS_A_GROUP)
    output.store.write_atomic(key, memoryview(sink.getvalue()))


def _as_shown(table: pa.Table, wanted: pl.DataFrame) -> pa.Table:
    """Return rows with the `STALE` columns and the URIs of their index rows, all in the order of the track ids."""
    if table.num_rows != wanted.height:
        raise SchemaError(
            f"{wanted.height:,} rows of predictions were to be shown, {table.num_rows:,} were found",
            "start the command again; if it stays so, a part below runs/ is damaged: restore it",
        )
    # What was copied when a track left the catalogue is shown again as the answer that it is.
    deleted_at = table.schema.field("deleted_at")
    none = pa.nulls(table.num_rows, deleted_at.type)
    table = table.set_column(table.schema.get_field_index("deleted_at"), deleted_at, none)
    uris = pc.coalesce(pc.cast(wanted["uri"].to_arrow(), pa.string()), table["uri"])
    table = table.set_column(table.schema.get_field_index("uri"), table.schema.field("uri"), uris)
    for name in STALE:
        table = table.append_column(name, wanted[name].to_arrow())
    return table


def _old_file(output: OutputDirectory, key: str) -> _OldFile | None:
    """Return a file of `current` to take rows from; None where it is damaged, as the parts have them all."""
    try:
        with named_if_damaged(output.store.uri(key)):
            return _OldFile(output, key)
    except SchemaError as error:
        log.warning("%s; it is written anew", error.message)
        return None


class _OldFile:
    """A file of `current` that is about to be replaced, read by spans of track ids."""

    def __init__(self, output: OutputDirectory, key: str) -> None:
        with output.store.open_input(key) as source:
            self._file = pq.ParquetFile(io.BytesIO(source.read()))
        self._schema = marked(output.kind)
        column = self._file.schema_arrow.get_field_index("track_id")
        groups = [self._file.metadata.row_group(number) for number in range(self._file.num_row_groups)]
        self._spans = [(each.column(column).statistics.min, each.column(column).statistics.max) for each in groups]

    def rows(self, wanted: pl.DataFrame) -> pa.Table:
        """Return those of the wanted rows that are there."""
        first, last = wanted["track_id"][0], wanted["track_id"][-1]
        groups = [number for number, (low, high) in enumerate(self._spans) if low <= last and high >= first]
        if not groups:
            return self._schema.empty_table()
        table = self._file.read_row_groups(groups, columns=self._schema.names).cast(self._schema)
        keys = frame_of(table.select(_KEY)).with_row_index()
        here = keys.join(wanted.select(_KEY), on=_KEY, how="semi")["index"].sort()
        return table.take(pc.cast(here.to_arrow(), pa.int64()))


def history_run(key: str) -> str | None:
    """Return the run whose rows a file of `history/` holds; None for any other object."""
    if not key.startswith(f"{HISTORY}/"):
        return None
    return key.rpartition("/")[2].partition("-")[2].rpartition("-")[0]
