"""Rows that hold for a new content: what was tagged was rewritten, and sounds as it did.

Writing tags into a file changes its size and time, hence its `content_id`, and the next run would tag it anew. The
rows are put down once more under the new content id, by runs of their own, so that the anti-join of
`mgc.tables.diff` finds them current. History keeps the old ones.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mgc.storage.store import Store, split_uri
from mgc.tables.copies import copy_rows
from mgc.tables.frames import frame_of
from mgc.tables.publish import publish
from mgc.tables.run_index import newest_index, run_part_refs, write_index
from mgc.tables.run_log import Commit, OutputDirectory
from mgc.tables.schema import CATALOGUE, require_kind

CONTENT_IDS_REWRITTEN = "restated"
"""In place of a fingerprint: rows of any bundle are put down again."""


def rewrite_prediction_content_ids(output_uri: str, content_ids: Mapping[str, str]) -> int:
    """Put the newest row of each track down under a new content id, and publish them; return how many.

    Parameters
    ----------
    output_uri
        Output directory of `mgc tag`.
    content_ids
        Track id → the content id that its row now holds for.
    """
    output = OutputDirectory(Store.open(output_uri), "predictions")
    wanted = newest_index(output).filter(pl.col("track_id").is_in(list(content_ids)))
    if not wanted.is_empty():
        run = output.start_run(CONTENT_IDS_REWRITTEN, {"restated": wanted.height})
        index = copy_rows(output, run, wanted, lambda table: _with_content_ids(table, content_ids), "restated")
        index_key = f"{run.folder}/index.parquet"
        write_index(output, index_key, index)
        facts = {**run.facts, "rows": index.height, "failed": int(index["error_code"].is_not_null().sum())}
        output.commit(Commit(run.run_id, run.sequence, index_key, run_part_refs(run, index), facts))
    publish(output)
    return wanted.height


def rewrite_catalogue_content_ids(
    path: str, content_ids: Mapping[str, str], sizes: Mapping[str, int]
) -> pl.DataFrame:
    """Give tracks of a catalogue new content ids and sizes, and return it."""
    root, key = split_uri(path)
    with Store(root).open_input(key) as source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        require_kind(schema, "catalogue", path)
        frame = frame_of(file.read(columns=CATALOGUE.names))
    new = pl.col("track_id").replace_strict
    frame = frame.with_columns(
        content_id=new(dict(content_ids), default=pl.col("content_id"), return_dtype=pl.String),
        size_bytes=new(dict(sizes), default=pl.col("size_bytes"), return_dtype=pl.Int64),
    )
    buffer = io.BytesIO()
    # The metadata name the root and the draw of the splits.
    pq.write_table(frame.to_arrow().cast(CATALOGUE.with_metadata(schema.metadata)), buffer, compression="zstd")
    Store(root).write_atomic(key, buffer.getvalue())
    return frame


def _with_content_ids(table: pa.Table, content_ids: Mapping[str, str]) -> pa.Table:
    ids = pa.array([content_ids[track] for track in table["track_id"].to_pylist()], pa.string())
    return table.set_column(table.schema.get_field_index("content_id"), "content_id", pc.cast(ids, pa.string()))
