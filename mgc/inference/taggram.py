"""A taggram, tag × time, as a Parquet table: one row a window.

The name is that of musicnn (Pons & Serra, "musicnn: Pre-trained convolutional neural networks for music audio
tagging", 2019), whose users read off it which moments of a track made it sound so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from mgc.inference.file_reader import STANDARD_INPUT
from mgc.inference.file_tagger import FileAnswer
from mgc.models.bundle import Bundle
from mgc.storage.store import Store, split_uri
from mgc.tables.schema import marked


def write_taggram(uri: str, answers: Sequence[FileAnswer], bundle: Bundle) -> int:
    """Write the windows of all files that have an answer, and return how many there are.

    Raises
    ------
    StorageError
        The place cannot be written to.
    """
    table = pa.concat_tables(
        [marked("taggram").empty_table(), *(taggram_table(answer, bundle) for answer in answers)]
    ).cast(marked("taggram", fingerprint=bundle.fingerprint))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    root, key = split_uri(uri)
    Store(root).write_atomic(key, buffer.getvalue())
    return int(table.num_rows)


def taggram_table(answer: FileAnswer, bundle: Bundle) -> pa.Table:
    """Return one file's windows (schema TAGGRAM), none where it has no answer.

    `uri` is absolute, as in a catalogue. A file that was tagged by itself is of no catalogue and has no `track_id`.
    """
    schema = marked("taggram")
    if answer.in_time is None:
        return schema.empty_table()
    in_time, taxonomy = answer.in_time, bundle.taxonomy
    n_windows = len(in_time.start_seconds)
    uri = answer.uri if answer.uri == STANDARD_INPUT else Store.open(answer.uri).uri()
    columns = {
        "track_id": [None] * n_windows,
        "uri": [uri] * n_windows,
        "start_seconds": in_time.start_seconds,
        "end_seconds": in_time.end_seconds,
        "genre_probabilities": [
            list(zip(taxonomy.genres, row, strict=True)) for row in in_time.probabilities.genre_probabilities.tolist()
        ],
        "tag_probabilities": [
            list(zip(taxonomy.tags, row, strict=True)) for row in in_time.probabilities.tag_probabilities.tolist()
        ],
        "bundle_fingerprint": [bundle.fingerprint] * n_windows,
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
