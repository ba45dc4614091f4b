"""The current rows: the newest of each wanted item, out of all the parts that commits show."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mgc.data.changes import ITEM, frame_of, newest, visible_index
from mgc.data.outputs import OutputDirectory
from mgc.data.schema import marked, require_kind
from mgc.data.storage import Store, UriParts
from mgc.errors import SchemaError
from mgc.views import CLEAN

PREDICTIONS_FILE = "predictions.parquet"
VIEW_KEY = b"mgc.view_of"


def current_rows(
    output: OutputDirectory, wanted: pl.DataFrame, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the newest visible row of each wanted item, a part at a time.

    Parameters
    ----------
    wanted
        Rows of `newest(visible_index(output))`: which items, and in which part.
    columns
        Columns to read, besides those that name the item; None: all.
    """
    for (part,), rows in wanted.sort("part").group_by(["part"], maintain_order=True):
        with output.store.open_input(str(part)) as source:
            file = pq.ParquetFile(source)
            require_kind(file.schema_arrow, output.kind, output.store.uri(str(part)))
            by = [name for name in ITEM if name in file.schema_arrow.names]
            table = file.read(columns=sorted({*columns, *by}) if columns else None)
        keep = rows.select(by).with_columns(pl.lit(True).alias("keep"))
        found = frame_of(table.select(by)).join(keep, on=by, how="left", maintain_order="left")
        yield table.filter(pa.array(found["keep"].fill_null(False).to_list(), pa.bool_()))


def current_index(output: OutputDirectory, items: pl.DataFrame) -> pl.DataFrame:
    """Return where the newest row of each item is; items without a row are left out.

    Parameters
    ----------
    items
        With columns `track_id` and `view`; where there is no `view`, as in a catalogue, the clean one is meant.
    """
    wanted = items if "view" in items.columns else items.with_columns(view=pl.lit(CLEAN))
    return newest(visible_index(output)).join(wanted.select(ITEM), on=ITEM, how="semi")


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


def predictions_place(uri: str) -> UriParts:
    """Return where the predictions of an output directory, or of one `.parquet` file, are.

    Raises
    ------
    SchemaError
        There are none.
    """
    folder, key = (uri.rpartition("/")[0], uri.rpartition("/")[2]) if uri.endswith(".parquet") else (uri, "")
    store = Store.open(folder or ".")
    key = key or PREDICTIONS_FILE
    if not store.exists(key):
        raise SchemaError(f"no predictions at '{store.uri(key)}'", "run `mgc tag` first, or check the path")
    return UriParts(store.root, key)


def read_predictions(uri: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the predictions in an output directory, or in one `.parquet` file.

    Parameters
    ----------
    columns
        Columns to read, those that are not there left out; None: all.

    Raises
    ------
    SchemaError
        There are none, or the file is no predictions table of this version.
    """
    root, key = predictions_place(uri)
    with Store(root).open_input(key) as source:
        file = pq.ParquetFile(source)
        require_kind(file.schema_arrow, "predictions", Store(root).uri(key))
        there = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        return frame_of(file.read(columns=there))


def _view_names(output: OutputDirectory, catalogue: pl.DataFrame) -> bytes:
    commits = [f"{commit.sequence}-{commit.run_id}" for commit in output.commits()]
    tracks = int(catalogue.select(pl.col("track_id").hash().sum()).item() or 0)
    return json.dumps({"commits": commits[-1:], "n": len(commits), "tracks": tracks}).encode()
