"""The current view: the newest row of each track of a catalogue, out of all the parts that commits show."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.data.changes import frame_of, newest, visible_index
from mgc.data.outputs import OutputDirectory
from mgc.data.schema import marked, require_kind
from mgc.data.storage import Store
from mgc.errors import SchemaError

PREDICTIONS_FILE = "predictions.parquet"
VIEW_KEY = b"mgc.view_of"


def current_rows(
    output: OutputDirectory, wanted: pl.DataFrame, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the newest visible row of each wanted track, a part at a time.

    Parameters
    ----------
    wanted
        Rows of `newest(visible_index(output))`: which tracks, and in which part.
    columns
        Columns to read; None: all.
    """
    for (part,), rows in wanted.sort("part").group_by(["part"], maintain_order=True):
        with output.store.open_input(str(part)) as source:
            file = pq.ParquetFile(source)
            require_kind(file.schema_arrow, output.kind, output.store.uri(str(part)))
            table = file.read(columns=list(columns) if columns else None)
        keep = pa.array(rows["track_id"].to_list(), pa.string())
        yield table.filter(pa.compute.is_in(table["track_id"], value_set=keep))


def current_index(output: OutputDirectory, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return where the current row of each catalogue track is; tracks without a row are left out."""
    return newest(visible_index(output)).join(catalogue.select("track_id"), on="track_id", how="semi")


def write_predictions_view(output: OutputDirectory, catalogue: pl.DataFrame) -> int:
    """Write `predictions.parquet`, one row a catalogue track, and return its number of rows.

    The view is derived: the commits are the truth, and a view that a killed run left behind them is rebuilt
    by the next run (`view_is_current`).
    """
    names = _view_names(output, catalogue)
    buffer = io.BytesIO()
    schema = marked("predictions")
    schema = schema.with_metadata({**schema.metadata, VIEW_KEY: names})
    rows = 0
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for table in current_rows(output, current_index(output, catalogue)):
            writer.write_table(table.cast(schema))
            rows += table.num_rows
    output.store.write_atomic(PREDICTIONS_FILE, buffer.getvalue())
    return rows


def view_is_current(output: OutputDirectory, catalogue: pl.DataFrame) -> bool:
    """Return whether `predictions.parquet` shows the newest commit and this catalogue."""
    if not output.store.exists(PREDICTIONS_FILE):
        return False
    with output.store.open_input(PREDICTIONS_FILE) as source:
        metadata = pq.ParquetFile(source).schema_arrow.metadata or {}
    return metadata.get(VIEW_KEY) == _view_names(output, catalogue)


def read_predictions(uri: str) -> pl.DataFrame:
    """Return the predictions in an output directory, or in one `.parquet` file.

    Raises
    ------
    SchemaError
        There are none, or the file is no predictions table of this version.
    """
    folder, key = (uri.rpartition("/")[0], uri.rpartition("/")[2]) if uri.endswith(".parquet") else (uri, "")
    store = Store.open(folder or ".")
    key = key or PREDICTIONS_FILE
    if not store.exists(key):
        raise SchemaError(f"no predictions at '{store.uri(key)}'", "run `mgc tag` first, or check the path")
    with store.open_input(key) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, "predictions", store.uri(key))
        return frame_of(file.read())


def _view_names(output: OutputDirectory, catalogue: pl.DataFrame) -> bytes:
    commits = [f"{commit.sequence}-{commit.run_id}" for commit in output.commits()]
    tracks = int(catalogue.select(pl.col("track_id").hash().sum()).item() or 0)
    return json.dumps({"commits": commits[-1:], "n": len(commits), "tracks": tracks}).encode()
