"""The tables of mgc: their columns, their types, and the marks by which they are known.

Each Parquet file carries `mgc.kind`, `mgc.schema_version` and what made it (`mgc.fingerprint`) in its schema
metadata; `require_kind` refuses a file of another kind or version by name.
"""

from __future__ import annotations

import pyarrow as pa

from mgc.errors import SchemaError

SCHEMA_VERSIONS = {"catalogue": 1, "features": 2, "predictions": 4, "statistics": 1, "taggram": 1}
"""By kind of table."""

KIND_KEY = b"mgc.kind"
VERSION_KEY = b"mgc.schema_version"

TAGS = pa.list_(pa.string())

CATALOGUE = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("genre", pa.string()),
        pa.field("tags", TAGS, nullable=False),
        pa.field("tags_known", pa.bool_(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""One row a track. `split` is train, valid, test or unlisted; `group` never crosses a split."""

PLAN = pa.schema(
    [
        *CATALOGUE,
        pa.field("view", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("partner_id", pa.string()),
        pa.field("partner_uri", pa.string()),
        pa.field("partner_content_id", pa.string()),
        pa.field("features_part", pa.string()),
    ]
)
"""One row a wanted (track, view): the items of work. `recipe` holds all that is decided about the view as JSON
(`mgc.audio.views`), empty for the clean view; the partner is an overlay's other track; `features_part` is the shard
whose row serves in place of the audio."""

SPLITS = ("train", "valid", "test", "unlisted")

ERROR_FIELDS = [
    pa.field("error_code", pa.string()),
    pa.field("error_stage", pa.string()),
    pa.field("error_message", pa.string()),
]
"""Null for a track that went through; otherwise why it did not."""

FEATURES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("note", pa.string()),
        pa.field("n_windows", pa.int32(), nullable=False),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("n_mels", pa.int32(), nullable=False),
        pa.field("log_mel", pa.large_binary()),
        *ERROR_FIELDS,
    ]
)
"""One row a (track, view). `log_mel` holds float16 dB, C order, shape (n_windows, n_frames, n_mels).

`note` says what of the file was put right: a length, streams one behind the other. It is null where nothing was, and
in what was written before there were notes.

Raw bytes rather than nested lists or tensors: variable-shaped tensor columns have broken in Ray (#54186),
and a track's windows are read back with one `numpy.frombuffer`. Labels and splits are not copied in: the
catalogue is their one source, joined when shards are read, so that a corrected label needs no extraction.
"""

STATISTICS = pa.schema(
    [
        *(FEATURES.field(name) for name in ("track_id", "view", "recipe", "uri", "content_id", "duration_seconds")),
        pa.field("n_windows", pa.int32(), nullable=False),
        pa.field("n_statistics", pa.int32(), nullable=False),
        pa.field("values", pa.large_binary()),
        *ERROR_FIELDS,
    ]
)
"""One row a (track, view): what a network that is not trained makes of its windows. `values` holds float32, C order,
shape (n_windows, n_statistics). Training writes them to a directory of its own, and deletes them at its end."""

PREDICTIONS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("note", pa.string()),
        pa.field("genre", pa.string()),
        pa.field("genre_probability", pa.float32()),
        pa.field("abstained", pa.bool_()),
        pa.field("genre_probabilities", pa.map_(pa.string(), pa.float32())),
        pa.field("tags", TAGS),
        pa.field("tag_probabilities", pa.map_(pa.string(), pa.float32())),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("windows", pa.int32(), nullable=False),
        *ERROR_FIELDS,
        pa.field("bundle_fingerprint", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("tagged_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("deleted_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""One row a track and run. `tags` lists the tags at or above the threshold; the probabilities name them all. Where
`abstained` is true the genre is less probable than the bundle's stated precision takes.

Of two rows of a track the one of the higher `sequence`, the number of the run that wrote it, counts: clocks may go
backwards. A row with `deleted_at` repeats the newest one and says that the track left the catalogue.
"""

CURRENT_PREDICTIONS = pa.schema(
    [
        *PREDICTIONS,
        pa.field("stale_since", pa.timestamp("us", tz="UTC")),
        pa.field("stale_reason", pa.string()),
    ]
)
"""One row a track, as `current` holds it. Where a later try of the same content failed, the row is the last answer:
`stale_since` is the time of the first failure since, `stale_reason` the error code of the last."""

TAGGRAM = pa.schema(
    [
        pa.field("track_id", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("genre_probabilities", pa.map_(pa.string(), pa.float32()), nullable=False),
        pa.field("tag_probabilities", pa.map_(pa.string(), pa.float32()), nullable=False),
        pa.field("bundle_fingerprint", pa.string(), nullable=False),
    ]
)
"""One row a window, in time order. `track_id` is null for files that were tagged without a catalogue."""

_SINCE = ("note",)
"""Columns that came without another version: null in what was written before."""

KINDS = {
    "catalogue": CATALOGUE,
    "features": FEATURES,
    "predictions": PREDICTIONS,
    "statistics": STATISTICS,
    "taggram": TAGGRAM,
}


def marked(kind: str, **metadata: str) -> pa.Schema:
    """Return the schema of `kind` with its marks and further `mgc.<name>` metadata."""
    marks = {KIND_KEY: kind.encode(), VERSION_KEY: str(SCHEMA_VERSIONS[kind]).encode()}
    marks |= {f"mgc.{name}".encode(): value.encode() for name, value in metadata.items()}
    return KINDS[kind].with_metadata(marks)


def require_kind(schema: pa.Schema, kind: str, where: str) -> dict[str, str]:
    """Return the `mgc.*` metadata of a Parquet schema after checking its kind, version and columns.

    Raises
    ------
    SchemaError
        It is no table of mgc, of another kind, of another version, or lacks a column.
    """
    metadata = {
        key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key.startswith(b"mgc.")
    }
    found = metadata.get("mgc.kind")
    if found != kind:
        what = f"a table of kind '{found}'" if found else "no table of mgc"
        raise SchemaError(f"'{where}' is {what}, expected '{kind}'", "check the path")
    version = metadata.get("mgc.schema_version")
    if version != str(SCHEMA_VERSIONS[kind]):
        raise SchemaError(
            f"'{where}' has schema version {version}, this mgc reads {SCHEMA_VERSIONS[kind]}",
            "write it anew with this version of mgc",
        )
    missing = [field.name for field in KINDS[kind] if field.name not in (*schema.names, *_SINCE)]
    if missing:
        raise SchemaError(f"'{where}' lacks the column(s) {', '.join(missing)}", "write it anew")
    return metadata


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table of all columns of a schema, those that were not written yet null, and then of its own others."""
    there = table.schema
    fields = [there.field(one.name) if one.name in there.names else one for one in schema]
    fields += [one for one in there if one.name not in schema.names]
    columns = [table[one.name] if one.name in there.names else pa.nulls(table.num_rows, one.type) for one in fields]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, there.metadata))
